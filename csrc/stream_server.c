/* See axon/stream_server.h. What a robot backend says and hears, over the connections that ws_server.c keeps. */
#include "api_key.h"
#include "iso_time.h"
#include "service_internal.h"
#include "stream_internal.h"
#include "stream_server_internal.h"
#include "thread.h"
#include "value_internal.h"
#include "ws_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ull * 1024)

enum {
    DEFAULT_PORT = 8200,
    DEFAULT_CONNECTIONS = 64,
    DEFAULT_COMMANDS = 256,
    DEFAULT_DEPTH = 32,
    DEFAULT_STUCK_MS = 10000,
    DEFAULT_PING_MS = 20000,
    DEFAULT_DEAD_MS = 60000,
    DEFAULT_STOP_MS = 1000,
    DEFAULT_MESSAGE_BYTES = 256 * 1024,
    MAX_CONNECTIONS = 65536,
    MAX_DEPTH = 65536
};

/* A message's text, which the clients that it waits for share. */
typedef struct shared {
    unsigned references; /* guarded by the server's lock */
    size_t length;
    char *text;
} shared;

/* One connection. Its queue is used while the connection itself has something that was not taken yet. */
struct axi_visitor {
    axi_ws_peer *peer;
    axon_endpoint endpoint;
    shared **queue; /* a ring of client_depth */
    uint32_t first, count;
    uint64_t bytes;
    uint64_t pending; /* what the connection had not taken when it was looked at last */
    axi_time moved;   /* when that last changed */
    bool is_leaving;
    axi_visitor *next, **from; /* `from` points at what points at it */
};

axon_status axi_stream_server_check(const axon_stream_server *server, axon_error *err)
{
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    if (server->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "server: it is another process's, this one was forked");
    return AXON_OK;
}

/* ---- sending ------------------------------------------------------------------------------- */

static void drop_shared(shared *message)
{
    if (--message->references > 0) return;
    free(message->text);
    free(message);
}

static shared *take_first(const axon_stream_server *server, axi_visitor *client)
{
    shared *message = client->queue[client->first];
    client->first = (client->first + 1) % server->options.client_depth;
    client->count--;
    client->bytes -= message->length;
    return message;
}

static void send_now(axon_stream_server *server, axi_visitor *client, const shared *message)
{
    struct iovec part = {message->text, message->length};
    if (axi_ws_peer_send(client->peer, &part, 1, true) == AXON_OK)
        server->stats.sent++;
    else
        server->stats.skipped++;
}

static void skip_first(axon_stream_server *server, axi_visitor *client)
{
    drop_shared(take_first(server, client));
    server->stats.skipped++;
}

static void enqueue(axon_stream_server *server, axi_visitor *client, shared *message)
{
    const axon_stream_server_options *o = &server->options;
    while (client->count > 0 &&
           (client->count == o->client_depth || client->bytes + message->length > o->client_bytes))
        skip_first(server, client);
    client->queue[(client->first + client->count++) % o->client_depth] = message;
    client->bytes += message->length;
    message->references++;
}

/* Each client gets a message at once, or when it has taken the one before. */
static void deliver(axon_stream_server *server, axi_visitor *client, shared *message)
{
    if (client->is_leaving) return;
    if (client->count == 0 && axi_ws_peer_pending(client->peer) == 0)
        send_now(server, client, message);
    else
        enqueue(server, client, message);
}

static void deliver_queued(axon_stream_server *server, axi_visitor *client)
{
    while (client->count > 0 && axi_ws_peer_pending(client->peer) == 0) {
        shared *message = take_first(server, client);
        send_now(server, client, message);
        drop_shared(message);
    }
}

static bool has_type(const axon_value *message)
{
    const char *type;
    size_t length;
    return axon_value_as_string(axon_value_get(message, "type"), &type, &length) == AXON_OK && length > 0;
}

/* A message with the time, if it has none. */
static axon_status write_message(const axon_value *message, shared *made, axon_error *err)
{
    if (axon_value_get(message, "timestamp"))
        return axi_stream_write(message, "message", &made->text, &made->length, err);
    char stamp[AXI_ISO_TIME_ROOM];
    axi_iso_time_print(stamp, axi_wall_time());
    uint32_t count = message->as.children.count;
    axon_value *items = malloc((count + 1u) * sizeof *items);
    if (!items) return axi_no_memory(err, (count + 1u) * sizeof *items);
    memcpy(items, message->as.children.items, count * sizeof *items);
    items[count] = (axon_value){.type = AXON_STRING,
                                .key = "timestamp",
                                .key_length = sizeof "timestamp" - 1,
                                .as.bytes = {stamp, strlen(stamp)}};
    axon_value stamped = {.type = AXON_MAP};
    stamped.as.children.items = items;
    stamped.as.children.count = stamped.as.children.capacity = count + 1;
    axon_status status = axi_stream_write(&stamped, "message", &made->text, &made->length, err);
    free(items);
    return status;
}

axon_status axon_stream_server_publish(axon_stream_server *server, axon_endpoint endpoint,
                                       const axon_value *message, axon_error *err)
{
    axon_status status = axi_stream_server_check(server, err);
    if (status != AXON_OK) return status;
    if (endpoint != AXON_ROBOT_CONTROL && endpoint != AXON_SENSOR_DATA)
        return axi_fail(err, AXON_EINVAL, "endpoint is %d, which is no axon_endpoint", (int)endpoint);
    if (axon_value_type(message) != AXON_MAP) return axi_fail(err, AXON_EINVAL, "message: it is no map");
    if (!has_type(message))
        return axi_fail(err, AXON_EINVAL, "message \"type\": it is missing, or no text");
    shared *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    status = write_message(message, made, err);
    if (status != AXON_OK) {
        free(made);
        return status;
    }
    made->references = 1;
    pthread_mutex_lock(&server->lock);
    server->stats.published++;
    for (axi_visitor *client = server->clients; client; client = client->next)
        if (client->endpoint == endpoint) deliver(server, client, made);
    drop_shared(made);
    pthread_mutex_unlock(&server->lock);
    return AXON_OK;
}

/* ---- on the network's thread --------------------------------------------------------------- */

/* 0 when the path, without its query, is none. */
static axon_endpoint endpoint_of(const char *path)
{
    size_t length = strcspn(path, "?");
    if (length == strlen("/ws/robot_control") && memcmp(path, "/ws/robot_control", length) == 0)
        return AXON_ROBOT_CONTROL;
    if (length == strlen("/ws/sensor_data") && memcmp(path, "/ws/sensor_data", length) == 0)
        return AXON_SENSOR_DATA;
    return (axon_endpoint)0;
}

static void on_refused(void *user)
{
    axon_stream_server *server = user;
    pthread_mutex_lock(&server->lock);
    server->stats.refused++;
    pthread_mutex_unlock(&server->lock);
}

static int on_ask(void *user, const axi_http_asked *asked, const char **text)
{
    const axon_stream_server *server = user;
    if (!asked->is_upgrade && asked->is_get && strcmp(asked->path, "/healthz") == 0) {
        *text = "OK\n";
        return 200;
    }
    bool is_known = endpoint_of(asked->path) != 0, is_stopping = atomic_load(&server->is_stopping);
    bool may_enter = axi_api_key_admits(asked->authorization, server->api_key);
    if (asked->is_upgrade && is_known && !is_stopping && may_enter) return 0;
    on_refused(user);
    if (is_known && is_stopping) {
        *text = "The server is stopping.\n";
        return 503;
    }
    if (asked->is_upgrade && is_known) {
        *text = axi_api_key_refusal(asked->authorization);
        return 401;
    }
    *text = "This is a robot backend: /ws/robot_control and /ws/sensor_data, over WebSocket, and GET "
            "/healthz.\n";
    return is_known ? 426 : 404;
}

static void free_client(axon_stream_server *server, axi_visitor *client)
{
    while (client->count > 0)
        drop_shared(take_first(server, client));
    axi_ws_peer_drop(client->peer);
    free(client->queue);
    free(client);
}

static bool on_opened(void *user, axi_ws_peer *peer)
{
    axon_stream_server *server = user;
    axi_visitor *made = calloc(1, sizeof *made);
    shared **queue = calloc(server->options.client_depth, sizeof(shared *));
    if (!made || !queue) {
        free(made);
        free(queue);
        return false;
    }
    *made = (axi_visitor){.peer = peer, .queue = queue, .moved = axi_now()};
    made->endpoint = endpoint_of(axi_ws_peer_path(peer));
    axi_ws_peer_keep(peer);
    axi_ws_peer_set_user(peer, made);
    pthread_mutex_lock(&server->lock);
    made->next = server->clients;
    made->from = &server->clients;
    if (made->next) made->next->from = &made->next;
    server->clients = made;
    server->stats.accepted++;
    pthread_mutex_unlock(&server->lock);
    axi_log(AXON_LOG_INFO, "%s: %s connected to %s", server->url, axi_ws_peer_name(peer),
            axi_ws_peer_path(peer));
    return true;
}

static void on_received(void *user, axi_ws_peer *peer, axi_ws_message *message)
{
    axon_stream_server *server = user;
    const axi_visitor *client = axi_ws_peer_user(peer);
    uint64_t length = message->length;
    const char *reason = client->endpoint == AXON_SENSOR_DATA ? "this endpoint takes no messages"
                         : message->is_text                   ? NULL
                                                              : "the message is binary, not text";
    if (reason) {
        free(message->data);
        axi_stream_server_refuse(server, peer, reason);
    } else {
        axi_stream_server_hear(server, peer, message);
    }
    axi_ws_server_release(server->room, length);
}

static void on_drained(void *user, axi_ws_peer *peer)
{
    axon_stream_server *server = user;
    pthread_mutex_lock(&server->lock);
    deliver_queued(server, axi_ws_peer_user(peer));
    pthread_mutex_unlock(&server->lock);
}

static void on_closed(void *user, axi_ws_peer *peer)
{
    axon_stream_server *server = user;
    axi_visitor *client = axi_ws_peer_user(peer);
    pthread_mutex_lock(&server->lock);
    *client->from = client->next;
    if (client->next) client->next->from = client->from;
    free_client(server, client);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void leave(axon_stream_server *server, axi_visitor *client, int code, const char *reason)
{
    if (client->is_leaving) return;
    client->is_leaving = true;
    while (client->count > 0)
        skip_first(server, client);
    axi_ws_peer_close(client->peer, code, reason);
}

/* A client that takes nothing costs a connection and memory, for as long as that is allowed. */
static void look_at(axon_stream_server *server, axi_visitor *client, axi_time now)
{
    uint64_t pending = axi_ws_peer_pending(client->peer);
    if (pending == 0 || pending != client->pending) client->moved = now;
    client->pending = pending;
    if (client->is_leaving || now - client->moved < (axi_time)server->options.stuck_timeout_ms * 1000000)
        return;
    axi_log(AXON_LOG_WARN, "%s: %s took nothing for %u ms (stuck_timeout_ms)", server->url,
            axi_ws_peer_name(client->peer), server->options.stuck_timeout_ms);
    server->stats.stuck++;
    leave(server, client, 1008, "too slow");
}

static void on_woken(void *user)
{
    axon_stream_server *server = user;
    axi_time now = axi_now();
    pthread_mutex_lock(&server->lock);
    bool ends = atomic_load(&server->is_stopping) && !server->said_goodbye && server->room;
    if (ends) {
        server->said_goodbye = true;
        axi_ws_server_stop_listening(server->room);
        pthread_cond_broadcast(&server->changed);
    }
    for (axi_visitor *client = server->clients; client; client = client->next) {
        if (ends)
            leave(server, client, AXI_WS_GOING_AWAY, "the server is stopping");
        else
            look_at(server, client, now);
    }
    pthread_mutex_unlock(&server->lock);
}

/* ---- opening and closing ------------------------------------------------------------------- */

static axon_status read_options(axon_stream_server_options *o, const axon_stream_server_options *given,
                                axon_error *err)
{
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status == AXON_OK) status = axi_options_listen(&o->host, &o->port, DEFAULT_PORT, err);
    if (status != AXON_OK) return status;
    const struct {
        uint32_t *option, standard, most;
        const char *name;
    } counts[] = {{&o->max_connections, DEFAULT_CONNECTIONS, MAX_CONNECTIONS, "max_connections"},
                  {&o->max_commands, DEFAULT_COMMANDS, UINT32_MAX, "max_commands"},
                  {&o->client_depth, DEFAULT_DEPTH, MAX_DEPTH, "client_depth"},
                  {&o->stuck_timeout_ms, DEFAULT_STUCK_MS, UINT32_MAX, "stuck_timeout_ms"},
                  {&o->ping_interval_ms, DEFAULT_PING_MS, UINT32_MAX, "ping_interval_ms"},
                  {&o->dead_after_ms, DEFAULT_DEAD_MS, UINT32_MAX, "dead_after_ms"},
                  {&o->stop_timeout_ms, DEFAULT_STOP_MS, UINT32_MAX, "stop_timeout_ms"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (!*counts[i].option) *counts[i].option = counts[i].standard;
        if (*counts[i].option > counts[i].most)
            return axi_fail(err, AXON_EINVAL, "%s: %" PRIu32 ", limit %" PRIu32, counts[i].name,
                            *counts[i].option, counts[i].most);
    }
    if (!o->max_message_bytes) o->max_message_bytes = DEFAULT_MESSAGE_BYTES;
    if (!o->client_bytes) o->client_bytes = 16 * MIB;
    return o->api_key ? axi_api_key_check_own(o->api_key, err) : AXON_OK;
}

static axon_status open_room(axon_stream_server *server, axon_error *err)
{
    static const axi_ws_server_events events = {on_ask,    on_opened, on_received, on_drained,
                                                on_closed, on_woken,  on_refused};
    const axon_stream_server_options *o = &server->options;
    axi_ws_server_options options = {.host = o->host,
                                     .port = o->port == AXON_ANY_PORT ? 0 : (uint16_t)o->port,
                                     .max_connections = o->max_connections,
                                     .max_message_bytes = o->max_message_bytes,
                                     .max_memory_bytes = UINT64_MAX, /* each client has its own limits */
                                     .max_queue_bytes = UINT64_MAX,
                                     .ping_interval_ms = o->ping_interval_ms,
                                     .dead_after_ms = o->dead_after_ms};
    pthread_mutex_lock(&server->lock); /* no event is handled before `room` is known */
    axon_status status = axi_ws_server_open(&server->room, &options, &events, server, err);
    if (status == AXON_OK) {
        atomic_store(&server->wakeable, server->room);
        server->port = axi_ws_server_port(server->room);
        server->url = axi_ws_server_url(server->room, o->host);
        if (!server->url) status = axi_no_memory(err, strlen(o->host));
    }
    server->options.host = NULL; /* the caller's */
    pthread_mutex_unlock(&server->lock);
    return status;
}

axon_status axon_stream_server_open(axon_stream_server **server, const axon_stream_server_options *opts,
                                    axon_error *err)
{
    axon_stream_server_options o;
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    axon_status status = read_options(&o, opts, err);
    if (status != AXON_OK) return status;
    axon_stream_server *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->options = o;
    made->owner = getpid();
    axi_condition_init(&made->changed);
    pthread_mutex_init(&made->lock, NULL);
    made->options.api_key = NULL; /* the caller's */
    if (o.api_key && !(made->api_key = strdup(o.api_key))) status = axi_no_memory(err, strlen(o.api_key));
    if (status == AXON_OK) status = open_room(made, err);
    if (status == AXON_OK)
        *server = made;
    else
        axon_stream_server_close(made);
    return status;
}

const char *axon_stream_server_url(const axon_stream_server *server)
{
    return server ? server->url : NULL;
}

int32_t axon_stream_server_port(const axon_stream_server *server)
{
    return server ? server->port : 0;
}

axon_status axon_stream_server_get_stats(axon_stream_server *server, axon_stream_server_stats *stats,
                                         axon_error *err)
{
    axon_status status = axi_stream_server_check(server, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&server->lock);
    *stats = server->stats;
    stats->connections = server->room ? axi_ws_server_count(server->room) : 0;
    pthread_mutex_unlock(&server->lock);
    return AXON_OK;
}

void axon_stream_server_stop(axon_stream_server *server)
{
    if (!server || server->owner != getpid()) return;
    atomic_store(&server->is_stopping, true);
    axi_ws_server *room = atomic_load(&server->wakeable);
    if (room) axi_ws_server_wake(room);
}

static void wait_for_goodbyes(axon_stream_server *server)
{
    axi_time deadline = axi_deadline(server->options.stop_timeout_ms);
    pthread_mutex_lock(&server->lock);
    while (server->clients && axi_left_ms(deadline, 1) > 0)
        axi_condition_wait_a_while(&server->changed, &server->lock, deadline);
    pthread_mutex_unlock(&server->lock);
}

void axon_stream_server_close(axon_stream_server *server)
{
    if (!server) return;
    if (server->owner != getpid()) {
        axi_ws_server_close(server->room, true);
        return;
    }
    axon_stream_server_stop(server);
    if (server->room) wait_for_goodbyes(server);
    atomic_store(&server->wakeable, NULL);
    axi_ws_server_close(server->room, false);
    axi_stream_server_forget(server);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->api_key);
    free(server->url);
    free(server);
}

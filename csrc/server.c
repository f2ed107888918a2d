/* See axon/server.h. What is said to policy clients, over the connections that ws_server.c keeps. */
#include <axon/server.h>

#include "api_key.h"
#include "pack.h"
#include "queue.h"
#include "server_internal.h"
#include "service_internal.h"
#include "spare.h"
#include "thread.h"
#include "value_internal.h"
#include "ws_frame.h"
#include "ws_server.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ull * 1024)

enum {
    DEFAULT_PORT = 8000,
    DEFAULT_CONNECTIONS = 256,
    DEFAULT_PING_MS = 20000,
    DEFAULT_DEAD_MS = 60000,
    DEFAULT_STOP_MS = 5000,
    MAX_CONNECTIONS = 65536,
    REQUESTS_THAT_WAIT = 64 /* of one client; beyond them, and max_message_bytes, it is not read from */
};

static const char goodbye_after_error[] = "Internal server error. Traceback included in previous frame.";

/* A message that waits to be handed out. */
typedef struct incoming {
    axi_place place;
    axi_ws_message message;
    axi_time arrived;
} incoming;

/* One connection. It is in the line of those that have something to hand out while it `is_ready`. */
typedef struct visitor {
    axon_server *server;
    axi_ws_peer *peer;
    unsigned references;   /* the connection, and the request that is under way */
    bool keeps_connection; /* after an error: it is axon's own */
    bool is_gone, is_busy, is_ready, is_leaving;
    axi_queue messages;
    size_t waiting;
    uint64_t waiting_bytes;
    axi_time previous_total; /* negative: there was none */
    axi_place place;
    struct visitor *next, **from; /* `from` points at what points at it */
} visitor;

struct axon_server {
    char *url;
    char *api_key;
    int32_t port;
    axon_dialect dialect;
    uint64_t max_message_bytes;
    uint32_t stop_timeout_ms;
    pid_t owner;
    axi_message metadata[2]; /* for everyone; and for axon's own clients */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    axi_ws_server *room; /* NULL once it is closed */
    visitor *clients;
    axi_queue ready;
    uint64_t held; /* requests that were handed out and not answered */
    bool is_closed;
    bool said_goodbye;
    axon_server_stats stats;

    atomic_bool is_stopping;
    _Atomic(axi_ws_server *) wakeable; /* the room, for signal handlers */
};

struct axon_request {
    visitor *client;
    axon_value *tree;        /* NULL when there is no payload */
    const axon_value *value; /* what was asked, within the tree */
    uint64_t bytes;          /* of the message that the tree lies in */
    axon_request_kind kind;
    bool is_enveloped; /* as webpolicy's requests are */
    axi_time arrived, handed_out;
};

/* ---- clients and their line ---------------------------------------------------------------- */

static void drop_client(visitor *client)
{
    if (--client->references > 0) return;
    axi_ws_peer_drop(client->peer);
    free(client);
}

static void link_client(axon_server *server, visitor *client)
{
    client->next = server->clients;
    client->from = &server->clients;
    if (client->next) client->next->from = &client->next;
    server->clients = client;
}

static void unlink_client(visitor *client)
{
    *client->from = client->next;
    if (client->next) client->next->from = client->from;
}

/* Puts a client at the end of the line, if it has something and its last reply is on the way. Who waits for one is
 * to be woken then: best when the lock is free, which it would run into. */
static bool queue_client(axon_server *server, visitor *client)
{
    bool may = client->messages.first && !client->is_busy && !client->is_ready && !client->is_gone &&
               !client->is_leaving;
    if (!may || axi_ws_peer_pending(client->peer) > 0) return false;
    client->is_ready = true;
    axi_queue_add(&server->ready, &client->place);
    return true;
}

static visitor *take_ready(axon_server *server)
{
    visitor *client = AXI_PLACED(axi_queue_take(&server->ready), visitor, place);
    if (client) client->is_ready = false;
    return client;
}

static void unqueue_client(axon_server *server, visitor *client)
{
    if (!client->is_ready) return;
    axi_queue_remove(&server->ready, &client->place);
    client->is_ready = false;
}

static bool is_full(const axon_server *server, const visitor *client)
{
    return client->waiting >= REQUESTS_THAT_WAIT || client->waiting_bytes > server->max_message_bytes;
}

static void release(axon_server *server, uint64_t bytes)
{
    if (server->room) axi_ws_server_release(server->room, bytes);
}

static incoming *take_message(axon_server *server, visitor *client)
{
    incoming *message = AXI_PLACED(axi_queue_take(&client->messages), incoming, place);
    if (!message) return NULL;
    client->waiting--;
    client->waiting_bytes -= message->message.length;
    if (!client->is_gone && !is_full(server, client)) axi_ws_peer_hold(client->peer, false);
    return message;
}

static void free_messages(axon_server *server, visitor *client)
{
    for (incoming *message; (message = take_message(server, client));) {
        release(server, message->message.length);
        free(message->message.data);
        free(message);
    }
}

/* ---- on the network's thread --------------------------------------------------------------- */

static void count_refused(axon_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->stats.refused++;
    pthread_mutex_unlock(&server->lock);
}

static int on_ask(void *user, const axi_http_asked *asked, const char **text)
{
    axon_server *server = user;
    if (!asked->is_upgrade && asked->is_get && strcmp(asked->path, "/healthz") == 0) {
        *text = "OK\n";
        return 200;
    }
    if (asked->is_upgrade && !atomic_load(&server->is_stopping) &&
        axi_api_key_admits(asked->authorization, server->api_key))
        return 0;
    count_refused(server);
    if (!asked->is_upgrade) {
        *text = "This is a policy server: it speaks WebSocket, and HTTP for GET /healthz alone.\n";
        return 426;
    }
    if (atomic_load(&server->is_stopping)) {
        *text = "The server is stopping.\n";
        return 503;
    }
    *text = axi_api_key_refusal(asked->authorization);
    return 401;
}

static void on_refused(void *user)
{
    count_refused(user);
}

static bool on_opened(void *user, axi_ws_peer *peer)
{
    axon_server *server = user;
    visitor *made = calloc(1, sizeof *made);
    if (!made) return false;
    *made = (visitor){.server = server, .peer = peer, .references = 1, .previous_total = -1};
    made->keeps_connection = strncmp(axi_ws_peer_agent(peer), "axon/", 5) == 0;
    const axi_message *metadata = &server->metadata[made->keeps_connection];
    if (axi_ws_peer_send(peer, metadata->parts, metadata->count, false) != AXON_OK) {
        free(made);
        return false;
    }
    axi_ws_peer_keep(peer);
    axi_ws_peer_set_user(peer, made);
    pthread_mutex_lock(&server->lock);
    link_client(server, made);
    server->stats.accepted++;
    pthread_mutex_unlock(&server->lock);
    axi_log(AXON_LOG_INFO, "%s: %s connected", server->url, axi_ws_peer_name(peer));
    return true;
}

static void on_received(void *user, axi_ws_peer *peer, axi_ws_message *message)
{
    axon_server *server = user;
    visitor *client = axi_ws_peer_user(peer);
    incoming *kept = malloc(sizeof *kept);
    if (!kept) {
        pthread_mutex_lock(&server->lock);
        release(server, message->length);
        pthread_mutex_unlock(&server->lock);
        free(message->data);
        axi_ws_peer_close(peer, AXI_WS_INTERNAL_ERROR, "out of memory");
        return;
    }
    *kept = (incoming){.message = *message, .arrived = axi_now()};
    pthread_mutex_lock(&server->lock);
    axi_queue_add(&client->messages, &kept->place);
    client->waiting++;
    client->waiting_bytes += message->length;
    if (is_full(server, client)) axi_ws_peer_hold(peer, true);
    bool is_queued = queue_client(server, client);
    pthread_mutex_unlock(&server->lock);
    if (is_queued) pthread_cond_signal(&server->changed);
}

static void on_drained(void *user, axi_ws_peer *peer)
{
    axon_server *server = user;
    pthread_mutex_lock(&server->lock);
    bool is_queued = queue_client(server, axi_ws_peer_user(peer));
    pthread_mutex_unlock(&server->lock);
    if (is_queued) pthread_cond_signal(&server->changed);
}

static void on_closed(void *user, axi_ws_peer *peer)
{
    axon_server *server = user;
    visitor *client = axi_ws_peer_user(peer);
    pthread_mutex_lock(&server->lock);
    client->is_gone = true;
    unqueue_client(server, client);
    free_messages(server, client);
    unlink_client(client);
    drop_client(client);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* Goodbye to everyone whose request is not under way; to the others when it is answered. */
static void say_goodbye(visitor *client)
{
    if (client->is_busy || client->is_leaving) return;
    client->is_leaving = true;
    axi_ws_peer_close(client->peer, AXI_WS_GOING_AWAY, "the server is stopping");
}

static void on_woken(void *user)
{
    axon_server *server = user;
    if (!atomic_load(&server->is_stopping)) return;
    pthread_mutex_lock(&server->lock);
    if (!server->said_goodbye && server->room) {
        server->said_goodbye = true;
        axi_ws_server_stop_listening(server->room);
        for (visitor *client = server->clients; client; client = client->next)
            say_goodbye(client);
    }
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status read_options(axon_server_options *o, const axon_server_options *given, axon_error *err)
{
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status == AXON_OK) status = axi_options_listen(&o->host, &o->port, DEFAULT_PORT, err);
    if (status != AXON_OK) return status;
    if (o->dialect != AXON_DIALECT_AUTO && o->dialect != AXON_OPENPI && o->dialect != AXON_WEBPOLICY)
        return axi_fail(err, AXON_EINVAL, "dialect: %d is none that servers speak", (int)o->dialect);
    if (o->api_key) status = axi_api_key_check_own(o->api_key, err);
    if (status != AXON_OK) return status;
    if (!o->max_connections) o->max_connections = DEFAULT_CONNECTIONS;
    if (o->max_connections > MAX_CONNECTIONS)
        return axi_fail(err, AXON_EINVAL, "max_connections: %" PRIu32 ", limit %d", o->max_connections,
                        MAX_CONNECTIONS);
    if (!o->max_message_bytes) o->max_message_bytes = 64 * MIB;
    if (!o->max_memory_bytes) o->max_memory_bytes = 1024 * MIB;
    if (!o->ping_interval_ms) o->ping_interval_ms = DEFAULT_PING_MS;
    if (!o->dead_after_ms) o->dead_after_ms = DEFAULT_DEAD_MS;
    if (!o->stop_timeout_ms) o->stop_timeout_ms = DEFAULT_STOP_MS;
    return AXON_OK;
}

/* A map with one more member, which shares everything with `map`: free only the returned items. */
static axon_value *with_member(axon_value *extended, const axon_value *map, const char *key,
                               const axon_value *member)
{
    uint32_t count = map ? map->as.children.count : 0;
    axon_value *items = malloc((count + 1u) * sizeof *items);
    if (!items) return NULL;
    if (count) memcpy(items, map->as.children.items, count * sizeof *items);
    items[count] = *member;
    items[count].key = key;
    items[count].key_length = (uint32_t)strlen(key);
    *extended = (axon_value){.type = AXON_MAP};
    extended->as.children.items = items;
    extended->as.children.count = extended->as.children.capacity = count + 1;
    return items;
}

/* {"codecs": ["jpeg", "png"], "keeps_connection": true} */
static axon_value *own_key(void)
{
    axon_value *own = axon_value_map(), *codecs = axon_value_list();
    axon_status status = axon_value_append(codecs, axon_value_string("jpeg", AXON_ZSTRING));
    if (status == AXON_OK) status = axon_value_append(codecs, axon_value_string("png", AXON_ZSTRING));
    axon_status kept = axon_value_set(own, "codecs", codecs);
    if (status == AXON_OK) status = kept;
    if (status == AXON_OK) status = axon_value_set(own, "keeps_connection", axon_value_bool(1));
    if (status == AXON_OK) return own;
    axon_value_free(own);
    return NULL;
}

/* Messages may point into the caller's tree: these are kept, so they are made whole. */
static axon_status make_whole(axi_message *message, axon_error *err)
{
    axi_buffer whole = {.data = NULL};
    if (!axi_buffer_reserve(&whole, (size_t)message->length + 1))
        return axi_no_memory(err, message->length);
    for (size_t i = 0; i < message->count; i++)
        axi_buffer_add(&whole, message->parts[i].iov_base, message->parts[i].iov_len);
    axi_buffer_free(&message->gathered);
    axi_buffer_free(&message->scratch);
    message->gathered = whole;
    message->parts[0] = (struct iovec){whole.data, whole.length};
    message->count = 1;
    return AXON_OK;
}

static axon_status pack_metadata(axon_server *server, const axon_value *metadata, axon_error *err)
{
    static const axon_value nothing = {.type = AXON_MAP};
    if (!metadata) metadata = &nothing;
    if (axon_value_type(metadata) != AXON_MAP) return axi_fail(err, AXON_EINVAL, "metadata: it is no map");
    axon_value extended, *own = own_key();
    axon_value *items = own ? with_member(&extended, metadata, "__axon__", own) : NULL;
    axon_status status = items ? AXON_OK : axi_no_memory(err, sizeof *own);
    const axon_value *trees[2] = {metadata, &extended};
    for (int i = 0; i < 2 && status == AXON_OK; i++) {
        status = axi_pack(&server->metadata[i], trees[i], AXON_MARKER_OPENPI, "metadata", err);
        if (status == AXON_OK) status = make_whole(&server->metadata[i], err);
    }
    free(items);
    axon_value_free(own);
    return status;
}

static axon_status open_room(axon_server *server, const axon_server_options *o, axon_error *err)
{
    static const axi_ws_server_events events = {on_ask,    on_opened, on_received, on_drained,
                                                on_closed, on_woken,  on_refused};
    axi_ws_server_options options = {.host = o->host,
                                     .port = o->port == AXON_ANY_PORT ? 0 : (uint16_t)o->port,
                                     .max_connections = o->max_connections,
                                     .max_message_bytes = o->max_message_bytes,
                                     .max_memory_bytes = o->max_memory_bytes,
                                     .max_queue_bytes = o->max_memory_bytes,
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
    pthread_mutex_unlock(&server->lock);
    return status;
}

static void free_server(axon_server *server)
{
    axi_message_free(&server->metadata[0]);
    axi_message_free(&server->metadata[1]);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->api_key);
    free(server->url);
    free(server);
    axi_spare_clear();
}

static axon_status open_server(axon_server **server, const axon_value *metadata,
                               const axon_server_options *opts, axon_error *err)
{
    axon_server_options o;
    axon_status status = read_options(&o, opts, err);
    if (status != AXON_OK) return status;
    axon_server *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axi_condition_init(&made->changed);
    pthread_mutex_init(&made->lock, NULL);
    made->owner = getpid();
    made->dialect = o.dialect;
    made->max_message_bytes = o.max_message_bytes;
    made->stop_timeout_ms = o.stop_timeout_ms;
    if (o.api_key && !(made->api_key = strdup(o.api_key))) status = axi_no_memory(err, strlen(o.api_key));
    if (status == AXON_OK) status = pack_metadata(made, metadata, err);
    if (status == AXON_OK) status = open_room(made, &o, err);
    if (status != AXON_OK) {
        axon_server_close(made);
        return status;
    }
    *server = made;
    return AXON_OK;
}

axon_status axon_server_open(axon_server **server, const axon_value *metadata,
                             const axon_server_options *opts, axon_error *err)
{
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    return open_server(server, metadata, opts, err);
}

const char *axon_server_url(const axon_server *server)
{
    return server ? server->url : NULL;
}

int32_t axon_server_port(const axon_server *server)
{
    return server ? server->port : 0;
}

/* ---- answering ----------------------------------------------------------------------------- */

/* Ends the request: the client's next one may come. */
static void end_request(axon_request *request, bool has_failed)
{
    visitor *client = request->client;
    axon_server *server = client->server;
    axon_value_free(request->tree);
    pthread_mutex_lock(&server->lock);
    release(server, request->bytes);
    client->previous_total = axi_now() - request->arrived;
    client->is_busy = false;
    if (has_failed) server->stats.failed++;
    if (client->is_gone) server->stats.abandoned++;
    if (!client->is_gone && has_failed && !client->keeps_connection && !client->is_leaving) {
        client->is_leaving = true;
        axi_ws_peer_close(client->peer, AXI_WS_INTERNAL_ERROR, goodbye_after_error);
    }
    if (!client->is_gone && server->said_goodbye) say_goodbye(client);
    bool is_queued = queue_client(server, client);
    drop_client(client);
    server->held--;
    bool is_last = server->is_closed && server->held == 0;
    if (atomic_load(&server->is_stopping))
        pthread_cond_broadcast(&server->changed);
    else if (is_queued)
        pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
    free(request);
    if (is_last) free_server(server);
}

/* A text frame, which may not be cut inside of a character, nor hold what is none. */
static axon_status send_text(axon_request *request, const char *text)
{
    size_t length = strlen(text);
    char *printable = NULL;
    if (!axi_is_utf8(text, length)) {
        printable = strdup(text);
        if (printable) axi_make_printable(printable);
        text = printable ? printable : "error";
        length = strlen(text);
    }
    struct iovec part = {(void *)(uintptr_t)text, length};
    axon_status status = axi_ws_peer_send(request->client->peer, &part, 1, true);
    free(printable);
    return status;
}

static axon_status fail_to_send(const axon_request *request, axon_status status, axon_error *err)
{
    const char *name = axi_ws_peer_name(request->client->peer);
    if (status == AXON_ETOOBIG)
        return axi_fail(err, AXON_ETOOBIG, "reply to %s: too much waits to be sent (max_memory_bytes)",
                        name);
    if (status == AXON_ENOMEM) return axi_fail(err, AXON_ENOMEM, "reply to %s: out of memory", name);
    return axi_fail(err, AXON_ECONNECT, "reply to %s: the client is gone", name);
}

static axon_status send_message(axon_request *request, const axi_message *message, axon_error *err)
{
    axon_status status = axi_ws_peer_send(request->client->peer, message->parts, message->count, false);
    return status == AXON_OK ? AXON_OK : fail_to_send(request, status, err);
}

/* {"infer_ms", "prev_total_ms"} */
static axon_value *measure(const axon_request *request)
{
    axon_value *timing = axon_value_map();
    double infer_ms = (double)(axi_now() - request->handed_out) / 1e6;
    axon_status status = axon_value_set(timing, "infer_ms", axon_value_float(infer_ms));
    axi_time previous = request->client->previous_total;
    if (status == AXON_OK && previous >= 0)
        status = axon_value_set(timing, "prev_total_ms", axon_value_float((double)previous / 1e6));
    if (status == AXON_OK) return timing;
    axon_value_free(timing);
    return NULL;
}

static axon_status send_tree(axon_request *request, const axon_value *tree, axon_error *err)
{
    axi_message message = {.parts = NULL};
    axon_status status = axi_pack(&message, tree, AXON_MARKER_OPENPI, "reply", err);
    if (status == AXON_OK) status = send_message(request, &message, err);
    axi_message_free(&message);
    return status;
}

static axon_status send_action(axon_request *request, const axon_value *action, axon_error *err)
{
    axon_dialect dialect = request->client->server->dialect;
    bool is_bare = dialect == AXON_DIALECT_AUTO ? !request->is_enveloped : dialect == AXON_OPENPI;
    if (is_bare) return send_tree(request, action, err);
    axon_value envelope;
    axon_value *items = with_member(&envelope, NULL, "action", action);
    if (!items) return axi_no_memory(err, sizeof *items);
    axon_status status = send_tree(request, &envelope, err);
    free(items);
    return status;
}

static axon_status send_acknowledgement(axon_request *request, axon_error *err)
{
    axon_value acknowledgement, truth = {.type = AXON_BOOL, .as.integer = 1};
    axon_value *items = with_member(&acknowledgement, NULL, "__webpolicy_reset_ack__", &truth);
    if (!items) return axi_no_memory(err, sizeof *items);
    axon_status status = send_tree(request, &acknowledgement, err);
    free(items);
    return status;
}

static axon_status send_reply(axon_request *request, const axon_value *reply, axon_error *err)
{
    if (request->kind == AXON_REQUEST_RESET) return send_acknowledgement(request, err);
    if (axon_value_type(reply) != AXON_MAP) return axi_fail(err, AXON_EINVAL, "reply: it is no map");
    if (axon_value_get(reply, "server_timing")) return send_action(request, reply, err);
    axon_value timed, *timing = measure(request);
    axon_value *items = timing ? with_member(&timed, reply, "server_timing", timing) : NULL;
    axon_status status = items ? send_action(request, &timed, err) : axi_no_memory(err, sizeof timed);
    free(items);
    axon_value_free(timing);
    return status;
}

static axon_status check_request(const axon_request *request, axon_error *err)
{
    if (!request) return axi_fail(err, AXON_EINVAL, "request: it is NULL");
    if (request->client->server->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "server: it is another process's, this one was forked");
    return AXON_OK;
}

axon_status axon_request_reply(axon_request *request, const axon_value *reply, axon_error *err)
{
    axon_status status = check_request(request, err);
    if (status != AXON_OK) return status;
    axon_error failure;
    status = send_reply(request, reply, &failure);
    if (status != AXON_OK && status != AXON_ECONNECT) send_text(request, failure.message);
    if (status != AXON_OK && err) *err = failure;
    end_request(request, status != AXON_OK && status != AXON_ECONNECT);
    return status;
}

axon_status axon_request_fail(axon_request *request, const char *text, axon_error *err)
{
    axon_status status = check_request(request, err);
    if (status != AXON_OK) return status;
    status = send_text(request, text ? text : "error");
    if (status != AXON_OK) fail_to_send(request, status, err);
    end_request(request, true);
    return status;
}

axon_request_kind axon_request_get_kind(const axon_request *request)
{
    return request ? request->kind : AXON_REQUEST_STEP;
}

const axon_value *axon_request_get_value(const axon_request *request)
{
    return request ? request->value : NULL;
}

void *axi_request_take_message(axon_request *request, size_t *length)
{
    *length = (size_t)request->bytes;
    return axi_value_take_message(request->tree).memory;
}

const char *axon_request_get_client(const axon_request *request)
{
    return request ? axi_ws_peer_name(request->client->peer) : NULL;
}

int32_t axon_request_is_gone(const axon_request *request)
{
    return request && axi_ws_peer_is_gone(request->client->peer);
}

/* ---- handing out --------------------------------------------------------------------------- */

static bool is_text(const axon_value *value, const char *word)
{
    const char *text;
    size_t length;
    return axon_value_as_string(value, &text, &length) == AXON_OK && length == strlen(word) &&
           memcmp(text, word, length) == 0;
}

/* Finds out what is asked for. */
static axon_status understand(axon_request *request, axon_error *err)
{
    const axon_value *tree = request->tree, *operation = axon_value_get(tree, "__webpolicy_op__");
    if (axon_value_type(tree) != AXON_MAP) return axi_fail(err, AXON_EPROTOCOL, "request: it is no map");
    request->value = tree;
    if (!operation) return AXON_OK;
    request->is_enveloped = true;
    if (is_text(operation, "reset")) {
        request->kind = AXON_REQUEST_RESET;
        request->value = axon_value_get(tree, "payload");
        if (axon_value_type(request->value) == AXON_NIL) request->value = NULL;
        return AXON_OK;
    }
    request->value = axon_value_get(tree, "obs");
    if (!is_text(operation, "step"))
        return axi_fail(err, AXON_EPROTOCOL,
                        "request: its __webpolicy_op__ is neither \"step\" nor \"reset\"");
    if (axon_value_type(request->value) != AXON_MAP)
        return axi_fail(err, AXON_EPROTOCOL, "request \"obs\": it is no map");
    return AXON_OK;
}

static axon_status unpack_request(axon_request *request, axi_ws_message *message, axon_error *err)
{
    if (message->is_text) {
        free(message->data);
        return axi_fail(err, AXON_EPROTOCOL, "request: it is text; observations are binary messages");
    }
    axon_status status = axi_unpack(message->data, message->length, "request", &request->tree, err);
    return status == AXON_OK ? understand(request, err) : status;
}

/* The oldest message of the client whose turn it is; with the lock held. */
static incoming *take_turn(axon_server *server, visitor **whose)
{
    visitor *client = take_ready(server);
    if (!client) return NULL;
    client->is_busy = true;
    client->references++;
    server->held++;
    *whose = client;
    return take_message(server, client);
}

/* There is no memory for a request: its client loses its connection, and nothing else happens. */
static void give_up(visitor *client, incoming *message)
{
    axon_server *server = client->server;
    uint64_t bytes = message->message.length;
    free(message->message.data);
    free(message);
    pthread_mutex_lock(&server->lock);
    release(server, bytes);
    client->is_leaving = true;
    axi_ws_peer_close(client->peer, AXI_WS_INTERNAL_ERROR, "out of memory");
    client->is_busy = false;
    drop_client(client);
    server->held--;
    pthread_mutex_unlock(&server->lock);
}

/* Makes a message a request. One that cannot be read is answered here: `*request` is NULL then. */
static axon_status hand_out(visitor *client, incoming *message, axon_request **request, axon_error *err)
{
    axon_server *server = client->server;
    axon_request *made = calloc(1, sizeof *made);
    if (!made) {
        give_up(client, message);
        return axi_no_memory(err, sizeof *made);
    }
    *made = (axon_request){.client = client, .bytes = message->message.length, .arrived = message->arrived};
    axon_error failure;
    axon_status status = unpack_request(made, &message->message, &failure);
    free(message);
    made->handed_out = axi_now();
    *request = NULL;
    if (status != AXON_OK) {
        axi_log(AXON_LOG_WARN, "%s: %s: %s", server->url, axi_ws_peer_name(client->peer), failure.message);
        axon_request_fail(made, failure.message, NULL);
        return AXON_OK;
    }
    pthread_mutex_lock(&server->lock);
    server->stats.requests++;
    pthread_mutex_unlock(&server->lock);
    *request = made;
    return AXON_OK;
}

/* Waits for a message. */
static axon_status next_message(axon_server *server, axi_time deadline, visitor **whose, incoming **message,
                                axon_error *err)
{
    for (;;) {
        pthread_mutex_lock(&server->lock);
        bool is_stopping = atomic_load(&server->is_stopping);
        *message = is_stopping ? NULL : take_turn(server, whose);
        if (!*message && !is_stopping && axi_left_ms(deadline, 1) > 0) {
            axi_condition_wait_a_while(&server->changed, &server->lock, deadline);
            is_stopping = atomic_load(&server->is_stopping);
            *message = is_stopping ? NULL : take_turn(server, whose);
        }
        pthread_mutex_unlock(&server->lock);
        if (*message) return AXON_OK;
        if (is_stopping) return axi_fail(err, AXON_ECANCELED, "server %s: it was stopped", server->url);
        if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "server %s: interrupted", server->url);
        if (axi_left_ms(deadline, 1) == 0)
            return axi_fail(err, AXON_ETIMEOUT, "server %s: no request came (timeout_ms)", server->url);
    }
}

static axon_status check_server(const axon_server *server, axon_error *err)
{
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    if (server->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "server: it is another process's, this one was forked");
    return AXON_OK;
}

axon_status axon_server_next(axon_server *server, uint32_t timeout_ms, axon_request **request,
                             axon_error *err)
{
    axon_status status = check_server(server, err);
    if (status == AXON_OK && !request) status = axi_fail(err, AXON_EINVAL, "request: it is NULL");
    if (status != AXON_OK) return status;
    axi_time deadline = axi_deadline(timeout_ms);
    axon_request *made = NULL;
    while (!made) {
        visitor *whose = NULL;
        incoming *message;
        status = next_message(server, deadline, &whose, &message, err);
        if (status == AXON_OK) status = hand_out(whose, message, &made, err);
        if (status != AXON_OK) return status;
    }
    *request = made;
    return AXON_OK;
}

/* ---- serving ------------------------------------------------------------------------------- */

static void answer(axon_request *request, axon_policy_function policy, void *user)
{
    axon_value *actions = NULL;
    axon_error failure = {.message = ""};
    axon_status status = policy(user, request->kind, request->value, &actions, &failure);
    if (status == AXON_OK)
        axon_request_reply(request, actions, NULL);
    else
        axon_request_fail(request, failure.message[0] ? failure.message : axon_status_name(status), NULL);
    axon_value_free(actions);
}

axon_status axon_server_serve(axon_server *server, axon_policy_function policy, void *user, axon_error *err)
{
    axon_status status = check_server(server, err);
    if (status == AXON_OK && !policy) status = axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    if (status != AXON_OK) return status;
    for (;;) {
        axon_request *request;
        status = axon_server_next(server, AXON_FOREVER, &request, err);
        if (status == AXON_OK)
            answer(request, policy, user);
        else if (status == AXON_ECANCELED)
            return atomic_load(&server->is_stopping) ? AXON_OK : status;
    }
}

axon_status axon_server_get_stats(axon_server *server, axon_server_stats *stats, axon_error *err)
{
    axon_status status = check_server(server, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&server->lock);
    *stats = server->stats;
    stats->connections = server->room ? axi_ws_server_count(server->room) : 0;
    pthread_mutex_unlock(&server->lock);
    return AXON_OK;
}

/* ---- ending -------------------------------------------------------------------------------- */

void axon_server_stop(axon_server *server)
{
    if (!server || server->owner != getpid()) return;
    atomic_store(&server->is_stopping, true);
    axi_ws_server *room = atomic_load(&server->wakeable);
    if (room) axi_ws_server_wake(room);
}

/* Until every client has said goodbye, for as long as stop_timeout_ms allows. */
static void wait_for_goodbyes(axon_server *server)
{
    axi_time deadline = axi_deadline(server->stop_timeout_ms);
    pthread_mutex_lock(&server->lock);
    while ((server->clients || server->held) && axi_left_ms(deadline, 1) > 0)
        axi_condition_wait_a_while(&server->changed, &server->lock, deadline);
    pthread_mutex_unlock(&server->lock);
}

void axon_server_close(axon_server *server)
{
    if (!server) return;
    if (server->owner != getpid()) {
        axi_ws_server_close(server->room, true);
        return;
    }
    axon_server_stop(server);
    if (server->room) wait_for_goodbyes(server);
    atomic_store(&server->wakeable, NULL);
    pthread_mutex_lock(&server->lock);
    axi_ws_server *room = server->room;
    server->room = NULL; /* nobody releases memory to it any more */
    pthread_mutex_unlock(&server->lock);
    axi_ws_server_close(room, false);
    pthread_mutex_lock(&server->lock);
    server->is_closed = true;
    bool is_last = server->held == 0;
    pthread_mutex_unlock(&server->lock);
    if (is_last) free_server(server);
}

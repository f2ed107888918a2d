/* See axon/simulator_server.h.
 *
 * libzmq lets one thread at a time use a socket. Here that is whoever holds `lock`: each session's thread sends its
 * replies itself, and one of those that wait for a request, the front, waits at the socket and hands the others what is
 * theirs. So a step costs no switch between threads of ours. The server's own thread waits at the socket while no
 * session does, and looks after all that is not a session's. */
#include <axon/simulator_server.h>

#include "queue.h"
#include "service_internal.h"
#include "thread.h"
#include "ws_resolve.h"
#include "zmq_socket.h"

#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB (1024ull * 1024)

enum {
    DEFAULT_PORT = 5555,
    DEFAULT_SESSIONS = 64,
    DEFAULT_IDLE_MS = 300000,
    DEFAULT_STOP_MS = 5000,
    MAX_SESSIONS = 4096,
    RESOLVE_MS = 10000,
    REQUESTS_THAT_WAIT = 16, /* of one client; more are discarded */
    DRIVEN_MS = 20, /* how long a first message of a new client may wait while other sessions are at work */
    LINGER_MS = 1000 /* that the last replies have to leave */
};

/* A message that waits for its session's thread. */
typedef struct incoming {
    axi_place place;
    axi_zmq_frame frame;
    size_t length;
} incoming;

struct axon_simulator_session {
    axon_simulator_server *server;
    axi_zmq_peer peer;
    char name[32];
    axi_queue messages;
    unsigned waiting;
    bool is_held;        /* it was accepted, and its host has not closed it */
    bool is_busy;        /* a request of it is under way */
    bool is_waiting;     /* for `changed` */
    bool is_over;        /* it is no longer among the server's */
    bool was_understood; /* a request of it was one */
    axi_time idle_since;
    pthread_cond_t changed;
    axi_place place; /* among the new ones */
    axon_simulator_session *next;
};

struct axon_simulator_request {
    axon_simulator_session *session;
    axon_value *tree;
    char *method;
};

struct axon_simulator_server {
    char *address;
    int32_t port;
    axon_simulator_server_options options; /* every default filled in */
    pid_t owner;
    axi_zmq_context *context;
    int wake_fd;  /* readable when the server's thread is to look */
    int front_fd; /* when the front is, although it did not take the message in itself */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* guards all below, and the socket */
    pthread_cond_t changed;
    axi_router *router; /* NULL once it is closed */
    axon_simulator_session *sessions;
    axi_queue newcomers; /* sessions that nobody has accepted */
    uint32_t count;      /* of sessions */
    uint32_t held;       /* sessions with a host */
    uint64_t waiting_bytes;
    uint64_t numbered; /* sessions so far */
    axon_simulator_session *front;
    bool was_driven; /* a front took messages in since the server's thread last looked */
    bool is_ending;  /* the server's thread goes */
    bool is_closed;  /* the last session's host frees the server */
    axon_simulator_server_stats stats;

    atomic_bool is_stopping;
};

/* Lets a session's thread look again, wherever it waits; with the lock held. */
static void wake(axon_simulator_session *session)
{
    axon_simulator_server *server = session->server;
    pthread_cond_signal(&session->changed);
    if (server->front == session) eventfd_write(server->front_fd, 1);
}

/* ---- sessions; with the lock held ---------------------------------------------------------- */

static axon_simulator_session *find_session(axon_simulator_server *server, const axi_zmq_peer *peer)
{
    for (axon_simulator_session *at = server->sessions; at; at = at->next)
        if (at->peer.length == peer->length && memcmp(at->peer.name, peer->name, peer->length) == 0)
            return at;
    return NULL;
}

static axon_simulator_session *begin_session(axon_simulator_server *server, const axi_zmq_peer *peer)
{
    axon_simulator_session *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    *made = (axon_simulator_session){
        .server = server, .peer = *peer, .idle_since = axi_now(), .next = server->sessions};
    axi_condition_init(&made->changed);
    snprintf(made->name, sizeof made->name, "session %" PRIu64, ++server->numbered);
    server->sessions = made;
    server->count++;
    server->stats.accepted++;
    axi_queue_add(&server->newcomers, &made->place);
    pthread_cond_signal(&server->changed);
    return made;
}

static incoming *take_message(axon_simulator_session *session)
{
    incoming *message = AXI_PLACED(axi_queue_take(&session->messages), incoming, place);
    if (!message) return NULL;
    session->waiting--;
    session->server->waiting_bytes -= message->length;
    return message;
}

static void drop_messages(axon_simulator_session *session)
{
    for (incoming *message; (message = take_message(session)); free(message))
        axi_zmq_drop(&message->frame);
}

static void free_session(axon_simulator_session *session)
{
    pthread_cond_destroy(&session->changed);
    free(session);
}

/* Takes a session out of the server's. Freed when nobody holds it. */
static void end_session(axon_simulator_session *session)
{
    axon_simulator_server *server = session->server;
    if (session->is_over) return;
    axon_simulator_session **at = &server->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
    server->count--;
    axi_queue_remove(&server->newcomers, &session->place);
    drop_messages(session);
    session->is_over = true;
    wake(session);
    if (!session->is_held) free_session(session);
}

/* ---- answering ----------------------------------------------------------------------------- */

static axon_value text_with_key(const char *key, const char *text)
{
    axon_value made = {.type = AXON_STRING, .key = key, .key_length = (uint32_t)strlen(key)};
    made.as.bytes.data = text;
    made.as.bytes.length = strlen(text);
    return made;
}

static axon_status gather(axi_zmq_frame *frame, axon_value *items, uint32_t count, axon_error *err)
{
    axi_message message = {.parts = NULL};
    axon_value map = {.type = AXON_MAP};
    map.as.children.items = items;
    map.as.children.count = map.as.children.capacity = count;
    axon_status status = axi_pack(&message, &map, AXON_MARKER_SIMULATOR, "reply", err);
    if (status == AXON_OK) status = axi_zmq_gather(frame, &message, err);
    axi_message_free(&message);
    return status;
}

static axon_status gather_error(axi_zmq_frame *frame, const char *error_type, const char *text,
                                axon_error *err)
{
    axon_value items[3] = {text_with_key("status", "error"), text_with_key("error_type", error_type),
                           text_with_key("message", text)};
    return gather(frame, items, 3, err);
}

static bool take_in(axon_simulator_server *server);

/* Sends what was gathered; with the lock held. What libzmq learns meanwhile is no longer announced by its descriptor,
 * so it is looked at here. */
static bool send_frame(axon_simulator_server *server, const axi_zmq_peer *peer, axi_zmq_frame *frame)
{
    if (!server->router) {
        axi_zmq_drop(frame);
        return false;
    }
    bool sent = axi_router_send(server->router, peer, frame);
    take_in(server);
    return sent;
}

/* ---- the server's thread ------------------------------------------------------------------- */

/* With the lock held, from within take_in(): it goes on looking by itself. */
static void refuse(axon_simulator_server *server, const axi_zmq_peer *peer, const char *error_type,
                   const char *text)
{
    axi_zmq_frame frame;
    server->stats.failed++;
    axi_log(AXON_LOG_WARN, "%s: a client was refused: %s", server->address, text);
    if (gather_error(&frame, error_type, text, NULL) == AXON_OK)
        axi_router_send(server->router, peer, &frame);
}

static void refuse_session(axon_simulator_server *server, const axi_zmq_peer *peer)
{
    char text[96];
    server->stats.refused++;
    snprintf(text, sizeof text, "%" PRIu32 " sessions are open already (max_sessions)",
             server->options.max_sessions);
    refuse(server, peer, "internal_error", text);
}

/* Hands a message to its session, which it may begin. */
static void deliver(axon_simulator_server *server, const axi_zmq_peer *peer, axi_zmq_frame *frame)
{
    axon_simulator_session *session = find_session(server, peer);
    size_t length = axi_zmq_size(frame);
    if (!session && server->count >= server->options.max_sessions) {
        axi_zmq_drop(frame);
        refuse_session(server, peer);
        return;
    }
    bool is_too_much = server->waiting_bytes + length > server->options.max_memory_bytes ||
                       (session && session->waiting >= REQUESTS_THAT_WAIT);
    incoming *kept = is_too_much ? NULL : malloc(sizeof *kept);
    if (kept && !session) session = begin_session(server, peer);
    if (!kept || !session) {
        free(kept);
        axi_zmq_drop(frame);
        server->stats.discarded++;
        axi_log(AXON_LOG_WARN,
                "%s: a message of %zu bytes was discarded: too much waits (max_memory_bytes)",
                server->address, length);
        return;
    }
    *kept = (incoming){.frame = *frame, .length = length};
    axi_queue_add(&session->messages, &kept->place);
    session->waiting++;
    server->waiting_bytes += length;
    wake(session);
}

/* Takes in all messages that are there; with the lock held. False when there was none. */
static bool take_in(axon_simulator_server *server)
{
    bool was_something = false;
    while (server->router && axi_router_has(server->router)) {
        axi_zmq_peer peer;
        axi_zmq_frame frame;
        axi_zmq_found found = axi_router_receive(server->router, &peer, &frame);
        if (found == AXI_ZMQ_BODY) deliver(server, &peer, &frame);
        if (found == AXI_ZMQ_ODD && peer.length)
            refuse(server, &peer, "invalid_params", "a request is an empty frame and one with a body");
        if (found == AXI_ZMQ_NOTHING) break;
        was_something = true;
    }
    return was_something;
}

/* Ends the sessions that have been idle for too long; when the next one may have been. */
static axi_time reap(axon_simulator_server *server)
{
    axi_time next = AXI_NEVER, now = axi_now();
    if (server->options.idle_timeout_ms == AXON_FOREVER) return next;
    axi_time patience = (axi_time)server->options.idle_timeout_ms * 1000000;
    for (axon_simulator_session *at = server->sessions, *after; at; at = after) {
        after = at->next;
        if (at->is_busy || at->waiting) continue;
        if (at->idle_since + patience <= now) {
            axi_log(AXON_LOG_INFO, "%s: %s was idle for %" PRIu32 " ms and ends (idle_timeout_ms)",
                    server->address, at->name, server->options.idle_timeout_ms);
            server->stats.reaped++;
            end_session(at);
        } else if (at->idle_since + patience < next) {
            next = at->idle_since + patience;
        }
    }
    return next;
}

static void wake_everybody(axon_simulator_server *server)
{
    pthread_cond_broadcast(&server->changed);
    for (axon_simulator_session *at = server->sessions; at; at = at->next)
        wake(at);
}

static void *work(void *argument)
{
    axon_simulator_server *server = argument;
    struct pollfd fds[] = {{.fd = axi_router_fd(server->router), .events = POLLIN},
                           {.fd = server->wake_fd, .events = POLLIN}};
    bool was_stopping = false;
    pthread_mutex_lock(&server->lock);
    while (!server->is_ending) {
        eventfd_t count;
        if (fds[1].revents) eventfd_read(server->wake_fd, &count);
        take_in(server);
        axi_time next = reap(server);
        if (atomic_load(&server->is_stopping) && !was_stopping) {
            was_stopping = true;
            wake_everybody(server);
        }
        bool is_driven = server->was_driven;
        server->was_driven = false;
        pthread_mutex_unlock(&server->lock);
        fds[0].events = is_driven ? 0 : POLLIN; /* a session is at the socket, or will be back there soon */
        poll(fds, 2, axi_left_ms(next, is_driven ? DRIVEN_MS : 1000));
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status read_options(axon_simulator_server_options *o,
                                const axon_simulator_server_options *given, axon_error *err)
{
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status == AXON_OK) status = axi_options_listen(&o->host, &o->port, DEFAULT_PORT, err);
    if (status != AXON_OK) return status;
    if (!o->max_sessions) o->max_sessions = DEFAULT_SESSIONS;
    if (o->max_sessions > MAX_SESSIONS)
        return axi_fail(err, AXON_EINVAL, "max_sessions: %" PRIu32 ", limit %d", o->max_sessions,
                        MAX_SESSIONS);
    if (!o->idle_timeout_ms) o->idle_timeout_ms = DEFAULT_IDLE_MS;
    if (!o->max_message_bytes) o->max_message_bytes = 64 * MIB;
    if (!o->max_memory_bytes) o->max_memory_bytes = 256 * MIB;
    if (!o->stop_timeout_ms) o->stop_timeout_ms = DEFAULT_STOP_MS;
    return AXON_OK;
}

/* libzmq listens on addresses, not on names. */
static axon_status find_endpoint(char *text, size_t size, const axon_simulator_server_options *o,
                                 axon_error *err)
{
    struct addrinfo *list;
    char host[NI_MAXHOST];
    uint16_t port = o->port == AXON_ANY_PORT ? 0 : (uint16_t)o->port;
    axon_status status = axi_resolve(&list, o->host, port, axi_deadline(RESOLVE_MS), err);
    if (status != AXON_OK) return axi_fail(err, AXON_EIO, "host: %s", err ? err->message : "");
    int failed = getnameinfo(list->ai_addr, list->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    const char *form = list->ai_family == AF_INET6 ? "tcp://[%s]:%u" : "tcp://%s:%u";
    freeaddrinfo(list);
    if (failed || snprintf(text, size, form, host, port) >= (int)size)
        return axi_fail(err, AXON_EIO, "host: %s cannot be listened on", o->host);
    return AXON_OK;
}

static axon_status listen_on(axon_simulator_server *server, axon_error *err)
{
    char endpoint[NI_MAXHOST + 32];
    axon_status status = find_endpoint(endpoint, sizeof endpoint, &server->options, err);
    if (status != AXON_OK) return status;
    status =
        axi_router_open(&server->router, server->context, endpoint, server->options.max_message_bytes, err);
    if (status != AXON_OK) return status;
    server->address = strdup(axi_router_endpoint(server->router));
    if (!server->address) return axi_no_memory(err, strlen(endpoint));
    server->port = atoi(strrchr(server->address, ':') + 1);
    return AXON_OK;
}

static axon_status start_thread(axon_simulator_server *server, axon_error *err)
{
    server->has_thread = axi_thread_start(&server->thread, work, server) == 0;
    return server->has_thread ? AXON_OK : axi_fail(err, AXON_ENOMEM, "server: no thread could be started");
}

axon_status axon_simulator_server_open(axon_simulator_server **server,
                                       const axon_simulator_server_options *opts, axon_error *err)
{
    axon_simulator_server_options o;
    axon_error failure;
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    axon_status status = read_options(&o, opts, &failure);
    axon_simulator_server *made = status == AXON_OK ? calloc(1, sizeof *made) : NULL;
    if (made) {
        made->options = o;
        made->owner = getpid();
        made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        made->front_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        made->context = axi_zmq_context_new();
        pthread_mutex_init(&made->lock, NULL);
        axi_condition_init(&made->changed);
        if (made->wake_fd < 0 || made->front_fd < 0 || !made->context)
            status = axi_fail(&failure, AXON_ENOMEM, "server: out of memory, threads or descriptors");
        if (status == AXON_OK) status = listen_on(made, &failure);
        made->options.host = NULL; /* the caller's */
        if (status == AXON_OK) status = start_thread(made, &failure);
        if (status != AXON_OK) axon_simulator_server_close(made);
    } else if (status == AXON_OK) {
        status = axi_no_memory(&failure, sizeof *made);
    }
    if (status == AXON_OK)
        *server = made;
    else if (err)
        *err = failure;
    return status;
}

const char *axon_simulator_server_address(const axon_simulator_server *server)
{
    return server ? server->address : NULL;
}

int32_t axon_simulator_server_port(const axon_simulator_server *server)
{
    return server ? server->port : 0;
}

/* ---- handing out --------------------------------------------------------------------------- */

static axon_status check(const axon_simulator_server *server, axon_error *err)
{
    if (!server) return axi_fail(err, AXON_EINVAL, "server: it is NULL");
    if (server->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "server: it is another process's, this one was forked");
    return AXON_OK;
}

/* Waits for a while, with the lock held, which is let go for asking the caller. AXON_ETIMEOUT lacks its text. */
static axon_status wait_for(axon_simulator_server *server, pthread_cond_t *condition, axi_time deadline,
                            axon_error *err)
{
    if (axi_condition_wait_a_while(condition, &server->lock, deadline)) return AXON_OK;
    pthread_mutex_unlock(&server->lock);
    bool is_interrupted = axi_interrupted();
    pthread_mutex_lock(&server->lock);
    if (is_interrupted) return axi_fail(err, AXON_ECANCELED, "server %s: interrupted", server->address);
    return axi_left_ms(deadline, 1) > 0 ? AXON_OK : AXON_ETIMEOUT;
}

static axon_status fail_stopped(const axon_simulator_server *server, axon_error *err)
{
    return axi_fail(err, AXON_ECANCELED, "server %s: it was stopped", server->address);
}

axon_status axon_simulator_server_accept(axon_simulator_server *server, uint32_t timeout_ms,
                                         axon_simulator_session **session, axon_error *err)
{
    axi_time deadline = axi_deadline(timeout_ms);
    axon_status status = check(server, err);
    if (status == AXON_OK && !session) status = axi_fail(err, AXON_EINVAL, "session: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&server->lock);
    while (status == AXON_OK && !server->newcomers.first && !atomic_load(&server->is_stopping))
        status = wait_for(server, &server->changed, deadline, err);
    if (status == AXON_ETIMEOUT)
        axi_fail(err, status, "server %s: no session began (timeout_ms)", server->address);
    if (status == AXON_OK && atomic_load(&server->is_stopping)) status = fail_stopped(server, err);
    if (status == AXON_OK) {
        axon_simulator_session *found =
            AXI_PLACED(axi_queue_take(&server->newcomers), axon_simulator_session, place);
        found->is_held = true;
        server->held++;
        *session = found;
    }
    pthread_mutex_unlock(&server->lock);
    return status;
}

const char *axon_simulator_session_name(const axon_simulator_session *session)
{
    return session ? session->name : NULL;
}

static axon_status understand(axon_simulator_request *request, axi_zmq_frame *frame, axon_error *err)
{
    const char *method;
    size_t length;
    axon_status status = axi_zmq_unpack(frame, "request", &request->tree, err);
    if (status != AXON_OK) return status;
    if (axon_value_type(request->tree) != AXON_MAP)
        return axi_fail(err, AXON_EPROTOCOL, "request: it is no map");
    if (axon_value_as_string(axon_value_get(request->tree, "method"), &method, &length) != AXON_OK)
        return axi_fail(err, AXON_EPROTOCOL, "request \"method\": it is no text, or missing");
    request->method = strndup(method, length);
    return request->method ? AXON_OK : axi_no_memory(err, length);
}

/* Makes a message a request. One that is none is answered here: `*request` is NULL then. */
static axon_status hand_out(axon_simulator_session *session, incoming *message,
                            axon_simulator_request **request, axon_error *err)
{
    axon_simulator_server *server = session->server;
    axon_simulator_request *made = calloc(1, sizeof *made);
    if (!made) {
        axi_zmq_drop(&message->frame);
        free(message);
        pthread_mutex_lock(&server->lock);
        session->is_busy = false;
        pthread_mutex_unlock(&server->lock);
        return axi_no_memory(err, sizeof *made);
    }
    axon_error failure;
    made->session = session;
    axon_status status = understand(made, &message->frame, &failure);
    free(message);
    *request = NULL;
    if (status != AXON_OK) {
        axi_log(AXON_LOG_WARN, "%s: %s: %s", server->address, session->name, failure.message);
        axon_simulator_request_fail(made, "invalid_params", failure.message, NULL);
        pthread_mutex_lock(&server->lock);
        if (!session->was_understood)
            end_session(session); /* who talks nonsense from the start holds none */
        pthread_mutex_unlock(&server->lock);
        return AXON_OK;
    }
    pthread_mutex_lock(&server->lock);
    session->was_understood = true;
    server->stats.requests++;
    pthread_mutex_unlock(&server->lock);
    *request = made;
    return AXON_OK;
}

/* Gives the place at the socket to a session that waits, if there is one; with the lock held. */
static void hand_on(axon_simulator_server *server)
{
    for (axon_simulator_session *at = server->sessions; at; at = at->next) {
        if (!at->is_waiting) continue;
        pthread_cond_signal(&at->changed);
        return;
    }
}

/* Waits at the socket for a while; with the lock held, which is let go meanwhile. AXON_ETIMEOUT lacks its text. */
static axon_status wait_in_front(axon_simulator_session *session, axi_time deadline, axon_error *err)
{
    axon_simulator_server *server = session->server;
    struct pollfd fds[] = {{.fd = axi_router_fd(server->router), .events = POLLIN},
                           {.fd = server->front_fd, .events = POLLIN}};
    server->front = session;
    pthread_mutex_unlock(&server->lock);
    bool is_something = poll(fds, 2, axi_left_ms(deadline, AXI_LOOK_UP_MS)) > 0;
    bool is_interrupted = !is_something && axi_interrupted();
    pthread_mutex_lock(&server->lock);
    eventfd_t count;
    server->front = NULL;
    if (fds[1].revents) eventfd_read(server->front_fd, &count);
    if (take_in(server)) server->was_driven = true;
    hand_on(server);
    if (is_interrupted) return axi_fail(err, AXON_ECANCELED, "server %s: interrupted", server->address);
    return is_something || axi_left_ms(deadline, 1) > 0 ? AXON_OK : AXON_ETIMEOUT;
}

static axon_status wait_for_message(axon_simulator_session *session, axi_time deadline, axon_error *err)
{
    axon_simulator_server *server = session->server;
    if (!server->front && server->router) return wait_in_front(session, deadline, err);
    session->is_waiting = true;
    axon_status status = wait_for(server, &session->changed, deadline, err);
    session->is_waiting = false;
    return status;
}

/* The session's next message. */
static axon_status next_message(axon_simulator_session *session, axi_time deadline, incoming **message,
                                axon_error *err)
{
    axon_simulator_server *server = session->server;
    axon_status status = AXON_OK;
    pthread_mutex_lock(&server->lock);
    if (session->is_busy) status = axi_fail(err, AXON_EINVAL, "%s: a request is under way", session->name);
    while (status == AXON_OK && !session->messages.first && !session->is_over &&
           !atomic_load(&server->is_stopping))
        status = wait_for_message(session, deadline, err);
    if (status == AXON_ETIMEOUT) axi_fail(err, status, "%s: no request came (timeout_ms)", session->name);
    if (status == AXON_OK && atomic_load(&server->is_stopping)) status = fail_stopped(server, err);
    if (status == AXON_OK && session->is_over)
        status = axi_fail(err, AXON_ECONNECT,
                          "%s: it is over: it was idle for %" PRIu32
                          " ms (idle_timeout_ms), or its first message was no request",
                          session->name, server->options.idle_timeout_ms);
    if (status == AXON_OK) {
        *message = take_message(session);
        session->is_busy = true;
    }
    pthread_mutex_unlock(&server->lock);
    return status;
}

axon_status axon_simulator_session_next(axon_simulator_session *session, uint32_t timeout_ms,
                                        axon_simulator_request **request, axon_error *err)
{
    if (!session) return axi_fail(err, AXON_EINVAL, "session: it is NULL");
    axi_time deadline = axi_deadline(timeout_ms);
    axon_status status = check(session->server, err);
    if (status == AXON_OK && !request) status = axi_fail(err, AXON_EINVAL, "request: it is NULL");
    axon_simulator_request *made = NULL;
    while (status == AXON_OK && !made) {
        incoming *message;
        status = next_message(session, deadline, &message, err);
        if (status == AXON_OK) status = hand_out(session, message, &made, err);
    }
    if (status == AXON_OK) *request = made;
    return status;
}

const char *axon_simulator_request_method(const axon_simulator_request *request)
{
    return request ? request->method : NULL;
}

const axon_value *axon_simulator_request_fields(const axon_simulator_request *request)
{
    return request ? request->tree : NULL;
}

/* ---- answering requests -------------------------------------------------------------------- */

/* Sends the answer, if there is one, and frees the request. */
static axon_status end_request(axon_simulator_request *request, axi_zmq_frame *answer, bool has_failed,
                               axon_error *err)
{
    axon_simulator_session *session = request->session;
    axon_simulator_server *server = session->server;
    axon_status status = AXON_OK;
    pthread_mutex_lock(&server->lock);
    if (answer && !send_frame(server, &session->peer, answer)) {
        server->stats.abandoned++;
        status = axi_fail(err, AXON_ECONNECT, "%s: the client is gone", session->name);
    }
    if (has_failed) server->stats.failed++;
    session->is_busy = false;
    session->idle_since = axi_now();
    pthread_mutex_unlock(&server->lock);
    axon_value_free(request->tree);
    free(request->method);
    free(request);
    return status;
}

static axon_status gather_reply(axi_zmq_frame *frame, const axon_value *fields, axon_error *err)
{
    if (fields && axon_value_type(fields) != AXON_MAP)
        return axi_fail(err, AXON_EINVAL, "reply: it is no map");
    uint32_t more = fields ? fields->as.children.count : 0;
    axon_value *items = malloc((more + 1u) * sizeof *items);
    if (!items) return axi_no_memory(err, more * sizeof *items);
    items[0] = text_with_key("status", "ok");
    if (more) memcpy(items + 1, fields->as.children.items, more * sizeof *items);
    axon_status status = gather(frame, items, more + 1, err);
    free(items);
    return status;
}

axon_status axon_simulator_request_reply(axon_simulator_request *request, const axon_value *fields,
                                         axon_error *err)
{
    if (!request) return axi_fail(err, AXON_EINVAL, "request: it is NULL");
    axi_zmq_frame frame;
    axon_error failure;
    axon_status status = check(request->session->server, err);
    if (status != AXON_OK) return status;
    status = gather_reply(&frame, fields, &failure);
    if (status == AXON_OK) return end_request(request, &frame, false, err);
    axon_simulator_request_fail(request, "backend_error", failure.message, NULL);
    if (err) *err = failure;
    return status;
}

axon_status axon_simulator_request_fail(axon_simulator_request *request, const char *error_type,
                                        const char *message, axon_error *err)
{
    if (!request) return axi_fail(err, AXON_EINVAL, "request: it is NULL");
    axi_zmq_frame frame;
    axon_status status = check(request->session->server, err);
    if (status != AXON_OK) return status;
    const char *text = message && axi_is_utf8(message, strlen(message)) ? message : "error";
    status = gather_error(&frame, error_type ? error_type : "internal_error", text, err);
    axon_status ended = end_request(request, status == AXON_OK ? &frame : NULL, true, err);
    return status == AXON_OK ? ended : status;
}

/* ---- ending -------------------------------------------------------------------------------- */

static void free_server(axon_simulator_server *server)
{
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    if (server->wake_fd >= 0) close(server->wake_fd);
    if (server->front_fd >= 0) close(server->front_fd);
    free(server->address);
    free(server);
}

/* What its client has sent since its last answer, a goodbye as a rule, is for another session; with the lock held. */
static void bequeath(axon_simulator_session *session)
{
    axon_simulator_server *server = session->server;
    axon_simulator_session left = *session;
    bool has_heir = session->messages.first && !session->is_over && !atomic_load(&server->is_stopping);
    if (has_heir) session->messages = (axi_queue){.first = NULL};
    end_session(session);
    if (!has_heir) return;
    axon_simulator_session *heir = begin_session(server, &left.peer);
    if (heir) {
        heir->messages = left.messages;
        heir->waiting = left.waiting;
    } else {
        drop_messages(&left);
    }
}

void axon_simulator_session_close(axon_simulator_session *session)
{
    if (!session || session->server->owner != getpid()) return;
    axon_simulator_server *server = session->server;
    pthread_mutex_lock(&server->lock);
    bequeath(session);
    server->held--;
    bool is_last = server->is_closed && server->held == 0;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    free_session(session);
    if (is_last) free_server(server);
}

axon_status axon_simulator_server_get_stats(axon_simulator_server *server,
                                            axon_simulator_server_stats *stats, axon_error *err)
{
    axon_status status = check(server, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&server->lock);
    *stats = server->stats;
    stats->sessions = server->count;
    pthread_mutex_unlock(&server->lock);
    return AXON_OK;
}

void axon_simulator_server_stop(axon_simulator_server *server)
{
    if (!server || server->owner != getpid()) return;
    atomic_store(&server->is_stopping, true);
    if (server->wake_fd >= 0) eventfd_write(server->wake_fd, 1);
}

/* Until every session was closed, for as long as stop_timeout_ms allows. */
static void wait_for_hosts(axon_simulator_server *server)
{
    axi_time deadline = axi_deadline(server->options.stop_timeout_ms);
    while (server->held && wait_for(server, &server->changed, deadline, NULL) != AXON_ETIMEOUT)
        continue;
}

void axon_simulator_server_close(axon_simulator_server *server)
{
    if (!server || server->owner != getpid()) return;
    axon_simulator_server_stop(server);
    pthread_mutex_lock(&server->lock);
    if (server->has_thread) wait_for_hosts(server);
    server->is_ending = true;
    pthread_mutex_unlock(&server->lock);
    if (server->has_thread) {
        eventfd_write(server->wake_fd, 1);
        pthread_join(server->thread, NULL);
    }
    pthread_mutex_lock(&server->lock);
    while (server->sessions)
        end_session(server->sessions);
    axi_router_close(server->router, LINGER_MS);
    server->router = NULL;
    server->is_closed = true;
    bool is_last = server->held == 0;
    axi_zmq_context *context = server->context;
    pthread_mutex_unlock(&server->lock);
    axi_zmq_context_free(context);
    if (is_last) free_server(server);
}

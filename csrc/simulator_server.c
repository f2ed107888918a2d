/* See axon/simulator_server.h.
 *
 * Each session's host reads its client's requests and writes the replies itself, in its own thread: a step costs no
 * switch between threads of ours. The server's own thread looks after the clients whose host is at work, or who have
 * none (simulator_callers.c). */
#include "simulator_server_internal.h"

#include "service_internal.h"
#include "spare.h"
#include "tcp.h"
#include "utf8.h"

#include <inttypes.h>
#include <poll.h>
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
    LINGER_MS = 1000 /* that a last reply has to leave */
};

struct axon_simulator_request {
    axon_simulator_session *session;
    axon_value *tree;
    char *method;
    bool is_bare; /* its reply is, too */
};

void axi_simulator_wake(const axon_simulator_session *session)
{
    eventfd_write(session->wake_fd, 1);
}

/* ---- sessions; with the lock held ---------------------------------------------------------- */

static void free_session(axon_simulator_session *session)
{
    close(session->wake_fd);
    free(session);
}

/* Ends the session whose client has been gone for the longest, if there is one: it is waited for while there is room. */
static void make_room(axon_simulator_server *server)
{
    axon_simulator_session *oldest = NULL;
    for (axon_simulator_session *at = server->sessions; at; at = at->next)
        if (!at->caller && !at->is_busy && (!oldest || at->idle_since < oldest->idle_since)) oldest = at;
    if (oldest) axi_simulator_end(oldest, "its client is gone, and another one came (max_sessions)");
}

axon_simulator_session *axi_simulator_begin(axon_simulator_server *server, const axi_caller *caller,
                                            char *text, size_t size)
{
    if (server->count >= server->options.max_sessions) make_room(server);
    if (server->count >= server->options.max_sessions) {
        server->stats.refused++;
        snprintf(text, size, "%" PRIu32 " sessions are open already (max_sessions)",
                 server->options.max_sessions);
        return NULL;
    }
    axon_simulator_session *made = calloc(1, sizeof *made);
    int wake_fd = made ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (wake_fd < 0) {
        free(made);
        snprintf(text, size, "out of memory or descriptors");
        return NULL;
    }
    *made = (axon_simulator_session){
        .server = server, .wake_fd = wake_fd, .idle_since = axi_now(), .next = server->sessions};
    made->peer.length = caller->zmtp.name.length;
    memcpy(made->peer.bytes, caller->zmtp.name.bytes, made->peer.length);
    snprintf(made->name, sizeof made->name, "session %" PRIu64, ++server->numbered);
    server->sessions = made;
    server->count++;
    server->stats.accepted++;
    axi_queue_add(&server->newcomers, &made->place);
    pthread_cond_signal(&server->changed);
    return made;
}

void axi_simulator_end(axon_simulator_session *session, const char *why)
{
    axon_simulator_server *server = session->server;
    if (session->over) return;
    axon_simulator_session **at = &server->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
    server->count--;
    axi_queue_remove(&server->newcomers, &session->place);
    axi_caller_release(session);
    session->over = why;
    axi_simulator_wake(session);
    if (!session->is_held) free_session(session);
}

/* ---- packing ------------------------------------------------------------------------------- */

static axon_value text_with_key(const char *key, const char *text)
{
    axon_value made = {.type = AXON_STRING, .key = key, .key_length = (uint32_t)strlen(key)};
    made.as.bytes.data = text;
    made.as.bytes.length = strlen(text);
    return made;
}

static axon_status pack(axi_message *message, axon_value *items, uint32_t count, axon_error *err)
{
    axon_value map = {.type = AXON_MAP};
    map.as.children.items = items;
    map.as.children.count = map.as.children.capacity = count;
    return axi_pack(message, &map, AXON_MARKER_SIMULATOR, "reply", err);
}

axon_status axi_simulator_pack_error(axi_message *message, const char *error_type, const char *text,
                                     axon_error *err)
{
    axon_value items[3] = {text_with_key("status", "error"), text_with_key("error_type", error_type),
                           text_with_key("message", text)};
    return pack(message, items, 3, err);
}

static axon_status pack_reply(axi_message *message, const axon_value *fields, axon_error *err)
{
    if (fields && axon_value_type(fields) != AXON_MAP)
        return axi_fail(err, AXON_EINVAL, "reply: it is no map");
    uint32_t more = fields ? fields->as.children.count : 0;
    axon_value *items = malloc((more + 1u) * sizeof *items);
    if (!items) return axi_no_memory(err, more * sizeof *items);
    items[0] = text_with_key("status", "ok");
    if (more) memcpy(items + 1, fields->as.children.items, more * sizeof *items);
    axon_status status = pack(message, items, more + 1, err);
    free(items);
    return status;
}

const char *axi_simulator_refuse(axon_simulator_server *server, const axi_zmtp_message *message, char *text,
                                 size_t size)
{
    if (message->found == AXI_ZMTP_ODD) {
        snprintf(text, size, "a request is an empty frame and one with a body");
        return "invalid_params";
    }
    if (message->found == AXI_ZMTP_TOO_LONG) {
        snprintf(text, size, "a request of %zu bytes, limit %" PRIu64 " (max_message_bytes)",
                 message->length, server->options.max_message_bytes);
        return "invalid_params";
    }
    server->stats.discarded++;
    snprintf(text, size, "a request of %zu bytes was discarded: too much waits (max_memory_bytes)",
             message->length);
    return "internal_error";
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

static axon_status start_thread(axon_simulator_server *server, axon_error *err)
{
    server->has_thread = axi_thread_start(&server->thread, axi_callers_work, server) == 0;
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
        made->listen_fd = made->wake_fd = made->watch_fd = -1;
        made->budget.limit = o.max_memory_bytes;
        pthread_mutex_init(&made->lock, NULL);
        axi_condition_init(&made->changed);
        status = axi_callers_open(made, o.host, &failure);
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

static axon_status understand(axon_simulator_request *request, const axi_zmtp_message *message,
                              axon_error *err)
{
    const char *method;
    size_t length;
    axon_status status = axi_unpack(message->data, message->length, "request", &request->tree, err);
    if (status != AXON_OK) return status;
    if (axon_value_type(request->tree) != AXON_MAP)
        return axi_fail(err, AXON_EPROTOCOL, "request: it is no map");
    if (axon_value_as_string(axon_value_get(request->tree, "method"), &method, &length) != AXON_OK)
        return axi_fail(err, AXON_EPROTOCOL, "request \"method\": it is no text, or missing");
    request->method = strndup(method, length);
    return request->method ? AXON_OK : axi_no_memory(err, length);
}

/* ---- waiting for requests ------------------------------------------------------------------ */

/* Has the server's thread remove a caller, and end its session or have it wait for another. */
static void give_up(axon_simulator_server *server, axi_caller *caller)
{
    atomic_store(&caller->is_gone, true);
    eventfd_write(server->wake_fd, 1);
}

/* Waits for a caller's socket, for NULL only for being woken, for a while; with the caller's lock held. False when
 * nothing happened. */
static bool wait_at(axon_simulator_session *session, const axi_caller *caller, short events,
                    axi_time deadline)
{
    struct pollfd watched[] = {{.fd = session->wake_fd, .events = POLLIN},
                               {.fd = caller ? caller->zmtp.fd : -1, .events = events}};
    int count =
        axi_quick_poll(&session->quick, watched, caller ? 2 : 1, axi_left_ms(deadline, AXI_LOOK_UP_MS));
    eventfd_t ignored;
    if (count > 0 && watched[0].revents) eventfd_read(session->wake_fd, &ignored);
    return count > 0;
}

/* Waits once for what the caller says; false when nothing happened. */
static bool listen_to(axon_simulator_session *session, axi_caller *caller, axi_time deadline,
                      axi_zmtp_message *message)
{
    bool was_something = true;
    if (!caller || atomic_load(&caller->is_gone)) return wait_at(session, NULL, 0, deadline);
    pthread_mutex_lock(&caller->lock);
    axi_zmtp *zmtp = &caller->zmtp;
    if (axi_zmtp_take(zmtp, message) == AXI_ZMTP_NOTHING) {
        short events = axi_zmtp_has_unsent(zmtp) ? POLLIN | POLLOUT : POLLIN;
        if (!axi_zmtp_has_unread(zmtp)) was_something = wait_at(session, caller, events, deadline);
        axi_zmtp_flush(zmtp);
        if (was_something) axi_zmtp_read(zmtp, 1);
        axi_zmtp_take(zmtp, message);
    }
    if (zmtp->stage == AXI_ZMTP_OVER && message->found == AXI_ZMTP_NOTHING)
        give_up(session->server, caller);
    pthread_mutex_unlock(&caller->lock);
    return was_something;
}

static axon_status check_session(const axon_simulator_session *session, axon_error *err)
{
    const axon_simulator_server *server = session->server;
    if (session->is_busy) return axi_fail(err, AXON_EINVAL, "%s: a request is under way", session->name);
    if (atomic_load(&server->is_stopping)) return fail_stopped(server, err);
    if (session->over)
        return axi_fail(err, AXON_ECONNECT, "%s: it is over: %s", session->name, session->over);
    return AXON_OK;
}

/* The session's next message. */
static axon_status next_message(axon_simulator_session *session, axi_time deadline,
                                axi_zmtp_message *message, axon_error *err)
{
    axon_simulator_server *server = session->server;
    axi_time looked_up = axi_now();
    message->found = AXI_ZMTP_NOTHING;
    pthread_mutex_lock(&server->lock);
    axon_status status = check_session(session, err);
    session->is_attended = status == AXON_OK;
    while (status == AXON_OK && message->found == AXI_ZMTP_NOTHING) {
        bool is_late = axi_left_ms(deadline, 1) == 0;
        axi_caller *caller = axi_caller_keep(session->caller);
        pthread_mutex_unlock(&server->lock);
        bool was_something = listen_to(session, caller, deadline, message);
        bool is_due = !was_something || axi_now() - looked_up > (axi_time)AXI_LOOK_UP_MS * 1000000;
        bool is_interrupted = is_due && message->found == AXI_ZMTP_NOTHING && axi_interrupted();
        if (is_due) looked_up = axi_now();
        pthread_mutex_lock(&server->lock);
        bool is_too_late = message->found != AXI_ZMTP_NOTHING && session->over;
        if (is_too_late) give_up(server, caller); /* instead of waiting in vain */
        axi_caller_drop(caller);
        if (message->found != AXI_ZMTP_NOTHING) break;
        status = check_session(session, err);
        if (status == AXON_OK && is_interrupted)
            status = axi_fail(err, AXON_ECANCELED, "server %s: interrupted", server->address);
        if (status == AXON_OK && is_late)
            status = axi_fail(err, AXON_ETIMEOUT, "%s: no request came (timeout_ms)", session->name);
    }
    session->is_attended = false;
    if (status == AXON_OK) session->is_busy = true;
    pthread_mutex_unlock(&server->lock);
    return status;
}

/* ---- requests ------------------------------------------------------------------------------ */

/* Answers what is no request: the server does so itself. */
static void answer_nonsense(axon_simulator_request *request, const char *error_type, const char *text)
{
    axon_simulator_session *session = request->session;
    axon_simulator_server *server = session->server;
    axi_log(AXON_LOG_WARN, "%s: %s: %s", server->address, session->name, text);
    axon_simulator_request_fail(request, error_type, text, NULL);
    pthread_mutex_lock(&server->lock);
    if (!session->was_understood) /* who talks nonsense from the start holds none */
        axi_simulator_end(session, "its first message was no request");
    pthread_mutex_unlock(&server->lock);
}

/* Makes a message a request. One that is none is answered here: false then, and `made` is gone. */
static bool fill_in(axon_simulator_request *made, const axi_zmtp_message *message)
{
    axon_simulator_session *session = made->session;
    axon_simulator_server *server = session->server;
    made->is_bare = message->is_bare;
    if (message->found != AXI_ZMTP_BODY) {
        char text[AXI_REFUSAL];
        pthread_mutex_lock(&server->lock);
        const char *error_type = axi_simulator_refuse(server, message, text, sizeof text);
        pthread_mutex_unlock(&server->lock);
        answer_nonsense(made, error_type, text);
        return false;
    }
    axon_error failure;
    axon_status status = understand(made, message, &failure);
    if (status != AXON_OK) {
        answer_nonsense(made, status == AXON_ENOMEM ? "internal_error" : "invalid_params", failure.message);
        return false;
    }
    pthread_mutex_lock(&server->lock);
    session->was_understood = true;
    server->stats.requests++;
    pthread_mutex_unlock(&server->lock);
    return true;
}

/* The session's next request; NULL when what came was none. Memory is there before the message is taken: nothing that
 * came is lost, and no client waits in vain, for want of it. */
static axon_status next_request(axon_simulator_session *session, axi_time deadline,
                                axon_simulator_request **request, axon_error *err)
{
    axi_zmtp_message message;
    axon_simulator_request *made = calloc(1, sizeof *made);
    *request = NULL;
    if (!made) return axi_no_memory(err, sizeof *made);
    made->session = session;
    axon_status status = next_message(session, deadline, &message, err);
    if (status != AXON_OK)
        free(made);
    else if (fill_in(made, &message))
        *request = made;
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
    while (status == AXON_OK && !made)
        status = next_request(session, deadline, &made, err);
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

/* Sends until all is out. A client that takes nothing for idle_timeout_ms is given up; false then, or when it is gone. */
static bool send_to(axon_simulator_session *session, axi_caller *caller, axi_zmtp_outgoing *outgoing)
{
    const axon_simulator_server *server = session->server;
    axi_zmtp *zmtp = &caller->zmtp;
    axi_time deadline = axi_deadline(server->options.idle_timeout_ms), linger = AXI_NEVER;
    for (axi_zmtp_sent sent; (sent = axi_zmtp_send(zmtp, outgoing)) != AXI_ZMTP_SENT;) {
        if (linger == AXI_NEVER && atomic_load(&server->is_stopping)) linger = axi_deadline(LINGER_MS);
        if (linger < deadline) deadline = linger;
        bool is_dead = axi_tcp_in_vain_ms(zmtp->fd) > AXI_ZMTP_DEAD_MS;
        if (sent == AXI_ZMTP_LOST || is_dead || atomic_load(&caller->is_gone) ||
            axi_left_ms(deadline, 1) == 0)
            return false;
        bool has_room = zmtp->count < AXI_ZMTP_WAITING;
        wait_at(session, caller, has_room ? POLLIN | POLLOUT : POLLOUT, deadline);
        axi_zmtp_read(zmtp, AXI_ZMTP_WAITING);
    }
    return true;
}

/* Sends the answer to the client, wherever it is by now. */
static bool send_answer(const axon_simulator_request *request, const axi_message *answer)
{
    axon_simulator_session *session = request->session;
    axon_simulator_server *server = session->server;
    axi_zmtp_outgoing outgoing;
    pthread_mutex_lock(&server->lock);
    axi_caller *caller = axi_caller_keep(session->caller);
    pthread_mutex_unlock(&server->lock);
    if (!caller) return false;
    axi_zmtp_prepare(&outgoing, request->is_bare, answer->parts, answer->count);
    pthread_mutex_lock(&caller->lock);
    bool is_sent = send_to(session, caller, &outgoing);
    if (!is_sent) {
        axi_zmtp_break(&caller->zmtp, false, "a reply could not be sent");
        give_up(server, caller);
    }
    pthread_mutex_unlock(&caller->lock);
    pthread_mutex_lock(&server->lock);
    axi_caller_drop(caller);
    pthread_mutex_unlock(&server->lock);
    return is_sent;
}

/* A client that cannot be told anything would wait: it loses its connection. */
static void hang_up(const axon_simulator_session *session)
{
    axon_simulator_server *server = session->server;
    pthread_mutex_lock(&server->lock);
    if (session->caller) give_up(server, session->caller);
    pthread_mutex_unlock(&server->lock);
}

/* Sends the answer, which is NULL when there was no memory for one, and frees the request. */
static axon_status end_request(axon_simulator_request *request, const axi_message *answer, bool has_failed,
                               axon_error *err)
{
    axon_simulator_session *session = request->session;
    axon_simulator_server *server = session->server;
    axon_status status = AXON_OK;
    bool is_abandoned = answer && !send_answer(request, answer);
    if (!answer) hang_up(session);
    if (is_abandoned) status = axi_fail(err, AXON_ECONNECT, "%s: the client is gone", session->name);
    pthread_mutex_lock(&server->lock);
    server->stats.abandoned += is_abandoned;
    server->stats.failed += has_failed;
    session->is_busy = false;
    session->idle_since = axi_now();
    pthread_mutex_unlock(&server->lock);
    axon_value_free(request->tree);
    free(request->method);
    free(request);
    return status;
}

axon_status axon_simulator_request_reply(axon_simulator_request *request, const axon_value *fields,
                                         axon_error *err)
{
    if (!request) return axi_fail(err, AXON_EINVAL, "request: it is NULL");
    axi_message answer = {.parts = NULL};
    axon_error failure;
    axon_status status = check(request->session->server, err);
    if (status != AXON_OK) return status;
    status = pack_reply(&answer, fields, &failure);
    if (status == AXON_OK) {
        status = end_request(request, &answer, false, err);
    } else {
        axon_simulator_request_fail(request, "backend_error", failure.message, NULL);
        if (err) *err = failure;
    }
    axi_message_free(&answer);
    return status;
}

axon_status axon_simulator_request_fail(axon_simulator_request *request, const char *error_type,
                                        const char *message, axon_error *err)
{
    if (!request) return axi_fail(err, AXON_EINVAL, "request: it is NULL");
    axi_message answer = {.parts = NULL};
    axon_status status = check(request->session->server, err);
    if (status != AXON_OK) return status;
    const char *text = message && axi_is_utf8(message, strlen(message)) ? message : "error";
    status = axi_simulator_pack_error(&answer, error_type ? error_type : "internal_error", text, err);
    axon_status ended = end_request(request, status == AXON_OK ? &answer : NULL, true, err);
    axi_message_free(&answer);
    return status == AXON_OK ? ended : status;
}

/* ---- ending -------------------------------------------------------------------------------- */

static void free_server(axon_simulator_server *server)
{
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    if (server->wake_fd >= 0) close(server->wake_fd);
    free(server->address);
    free(server);
}

void axon_simulator_session_close(axon_simulator_session *session)
{
    if (!session || session->server->owner != getpid()) return;
    axon_simulator_server *server = session->server;
    pthread_mutex_lock(&server->lock);
    axi_simulator_end(session, "its host closed it");
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
    pthread_mutex_unlock(&server->lock);
    atomic_store(&server->is_ending, true);
    if (server->has_thread) {
        eventfd_write(server->wake_fd, 1);
        pthread_join(server->thread, NULL);
    }
    pthread_mutex_lock(&server->lock);
    while (server->sessions)
        axi_simulator_end(server->sessions, "the server was closed");
    pthread_mutex_unlock(&server->lock);
    axi_callers_close(server);
    pthread_mutex_lock(&server->lock);
    server->is_closed = true;
    bool is_last = server->held == 0;
    pthread_mutex_unlock(&server->lock);
    if (is_last) free_server(server);
}

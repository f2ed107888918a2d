/* Connections to a simulator server, and its thread. See simulator_server_internal.h. */
#include "simulator_server_internal.h"

#include "spare.h"
#include "tcp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    EVENTS = 64,
    SLOW_TICK_MS = 1000, /* while there is nobody */
    HANDSHAKE_MS = 10000,
    LEAST_IDLE_MS = 60000, /* of clients without a session: what is under way as one ends is lost */
    ADDRESS = 128          /* bytes of one, printed */
};

/* ---- callers ------------------------------------------------------------------------------- */

axi_caller *axi_caller_keep(axi_caller *caller)
{
    if (caller) caller->references++;
    return caller;
}

void axi_caller_drop(axi_caller *caller)
{
    if (!caller || --caller->references > 0) return;
    axi_zmtp_hang_up(&caller->zmtp);
    axi_zmtp_end(&caller->zmtp);
    pthread_mutex_destroy(&caller->lock);
    free(caller);
}

static bool watch(const axon_simulator_server *server, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(server->watch_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void unwatch(const axon_simulator_server *server, int fd)
{
    epoll_ctl(server->watch_fd, EPOLL_CTL_DEL, fd, NULL);
}

void axi_caller_release(axon_simulator_session *session)
{
    axi_caller *caller = session->caller;
    axon_simulator_server *server = session->server;
    if (!caller) return;
    session->caller = NULL;
    caller->session = NULL;
    if (!atomic_load(&caller->is_gone) && !watch(server, caller->zmtp.fd, caller))
        atomic_store(&caller->is_gone, true);
    axi_caller_drop(caller);
    eventfd_write(server->wake_fd, 1); /* what it has sent may be here already */
}

/* Binds a session to a caller; the server's thread does, with the lock held. */
static void bind_to(axon_simulator_session *session, axi_caller *caller)
{
    unwatch(session->server, caller->zmtp.fd);
    session->server->tick_ms = AXI_ZMTP_QUICK_TICK_MS; /* it may send pings */
    session->caller = axi_caller_keep(caller);
    caller->session = session;
    axi_simulator_wake(session);
}

static axi_caller *new_caller(axon_simulator_server *server, int fd)
{
    axi_caller *made = calloc(1, sizeof *made);
    if (!made) {
        close(fd);
        return NULL;
    }
    pthread_mutex_init(&made->lock, NULL);
    made->references = 1;
    made->since = axi_now();
    axi_tcp_tune(fd);
    if (axi_zmtp_begin(&made->zmtp, fd, true, server->options.max_message_bytes, &server->budget) &&
        watch(server, fd, made))
        return made;
    axi_caller_drop(made);
    return NULL;
}

static void remove_caller(axon_simulator_server *server, axi_caller *caller)
{
    axi_caller **at = &server->callers;
    while (*at != caller)
        at = &(*at)->next;
    *at = caller->next;
    server->caller_count--;
    unwatch(server, caller->zmtp.fd);
    pthread_mutex_lock(&server->lock);
    axi_caller_drop(caller);
    pthread_mutex_unlock(&server->lock);
}

/* ---- those that come ----------------------------------------------------------------------- */

static void listen_again(axon_simulator_server *server, bool does_listen)
{
    struct epoll_event event = {.events = does_listen ? EPOLLIN : 0, .data.ptr = server};
    epoll_ctl(server->watch_fd, EPOLL_CTL_MOD, server->listen_fd, &event);
    server->is_deaf = !does_listen;
}

static void greet(axon_simulator_server *server, int fd, const struct sockaddr_storage *from,
                  socklen_t length)
{
    char address[ADDRESS];
    axi_tcp_print(address, sizeof address, from, length);
    bool is_one_too_many =
        server->caller_count >= server->options.max_sessions + AXI_CALLERS_WITHOUT_SESSION;
    axi_caller *caller = NULL;
    if (is_one_too_many)
        close(fd);
    else
        caller = new_caller(server, fd);
    if (!caller) {
        axi_log(AXON_LOG_WARN, "%s: %s was turned away: %s", server->address, address,
                is_one_too_many ? "there are too many connections (max_sessions)" : "out of memory");
        return;
    }
    axi_log(AXON_LOG_DEBUG, "%s: %s came", server->address, address);
    caller->next = server->callers;
    server->callers = caller;
    server->caller_count++;
}

static void accept_all(axon_simulator_server *server)
{
    for (int i = 0; i < BACKLOG; i++) {
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        int fd =
            accept4(server->listen_fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            greet(server, fd, &from, length);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        axi_log(AXON_LOG_WARN, "%s: nobody can be accepted: %s", server->address, strerror(errno));
        listen_again(server, false); /* until the next tick */
        return;
    }
}

/* ---- callers without a session ------------------------------------------------------------- */

/* A session of the name that the caller gave itself goes on with it. */
static void find_session(axon_simulator_server *server, axi_caller *caller)
{
    const axi_zmtp *zmtp = &caller->zmtp;
    if (zmtp->name.length == 0) return;
    pthread_mutex_lock(&server->lock);
    axon_simulator_session *at = server->sessions;
    while (at && !(at->peer.length == zmtp->name.length &&
                   memcmp(at->peer.bytes, zmtp->name.bytes, zmtp->name.length) == 0))
        at = at->next;
    if (at) {
        axi_log(AXON_LOG_INFO, "%s: %s: its client is back", server->address, at->name);
        if (at->caller) atomic_store(&at->caller->is_gone, true); /* a cable was cut, as a rule */
        axi_caller_release(at);
        at->idle_since = axi_now();
        bind_to(at, caller);
    }
    pthread_mutex_unlock(&server->lock);
}

/* Sends an error to a caller that waits for an answer; what the socket does not take at once ends it. */
static void answer_error(axon_simulator_server *server, axi_caller *caller, bool is_bare,
                         const char *error_type, const char *text)
{
    axi_message message = {.parts = NULL};
    axi_zmtp_outgoing outgoing;
    axi_log(AXON_LOG_WARN, "%s: a client was refused: %s", server->address, text);
    bool is_packed = axi_simulator_pack_error(&message, error_type, text, NULL) == AXON_OK;
    pthread_mutex_lock(&caller->lock);
    if (is_packed) axi_zmtp_prepare(&outgoing, is_bare, message.parts, message.count);
    if (!is_packed || axi_zmtp_send(&caller->zmtp, &outgoing) != AXI_ZMTP_SENT)
        atomic_store(&caller->is_gone, true);
    pthread_mutex_unlock(&caller->lock);
    axi_message_free(&message);
}

/* Takes the message that waits out, and says why: `why`, or what is wrong with it. */
static void refuse(axon_simulator_server *server, axi_caller *caller, const char *why)
{
    axi_zmtp_message message;
    char text[AXI_REFUSAL];
    const char *error_type = "internal_error";
    pthread_mutex_lock(&caller->lock);
    axi_zmtp_take(&caller->zmtp, &message);
    pthread_mutex_unlock(&caller->lock);
    axi_spare_give(message.data);
    pthread_mutex_lock(&server->lock);
    server->stats.failed++;
    if (!why) error_type = axi_simulator_refuse(server, &message, text, sizeof text);
    pthread_mutex_unlock(&server->lock);
    answer_error(server, caller, message.is_bare, error_type, why ? why : text);
}

/* Its first message is here, or the first one since its session ended. */
static void begin_session(axon_simulator_server *server, axi_caller *caller)
{
    char why[AXI_REFUSAL];
    pthread_mutex_lock(&server->lock);
    axon_simulator_session *session = axi_simulator_begin(server, caller, why, sizeof why);
    if (session) bind_to(session, caller);
    pthread_mutex_unlock(&server->lock);
    if (!session) refuse(server, caller, why);
}

static bool is_free(axon_simulator_server *server, const axi_caller *caller)
{
    pthread_mutex_lock(&server->lock);
    bool has_none = !caller->session;
    pthread_mutex_unlock(&server->lock);
    return has_none && !atomic_load(&caller->is_gone);
}

/* Reads what is there, without waiting for anybody who does so already. */
static axi_zmtp_found look(axi_caller *caller, unsigned enough)
{
    if (pthread_mutex_trylock(&caller->lock) != 0) return AXI_ZMTP_NOTHING;
    axi_zmtp_flush(&caller->zmtp);
    axi_zmtp_read(&caller->zmtp, enough);
    axi_zmtp_found found = axi_zmtp_peek(&caller->zmtp);
    if (caller->zmtp.stage == AXI_ZMTP_OVER) {
        axi_log(AXON_LOG_DEBUG, "a client is gone: %s", caller->zmtp.why);
        atomic_store(&caller->is_gone, true);
    }
    if (!caller->is_ready && caller->zmtp.stage == AXI_ZMTP_READY) found = AXI_ZMTP_BODY;
    pthread_mutex_unlock(&caller->lock);
    return found;
}

/* Reads what a caller without a session says. */
static void serve(axon_simulator_server *server, axi_caller *caller)
{
    for (int i = 0; i < AXI_ZMTP_WAITING && is_free(server, caller); i++) {
        axi_zmtp_found found = look(caller, 1);
        if (found == AXI_ZMTP_NOTHING || atomic_load(&caller->is_gone)) return;
        if (!caller->is_ready) {
            caller->is_ready = true;
            caller->since = axi_now();
            find_session(server, caller);
        } else if (found == AXI_ZMTP_BODY) {
            begin_session(server, caller);
        } else {
            refuse(server, caller, NULL);
        }
    }
}

/* ---- now and then -------------------------------------------------------------------------- */

/* The client of a session whose host is at work: its pings are answered, and that it is gone is noticed. */
static void keep_company(axon_simulator_server *server, axi_caller *caller)
{
    pthread_mutex_lock(&server->lock);
    bool is_alone = caller->session && !caller->session->is_attended;
    pthread_mutex_unlock(&server->lock);
    if (is_alone) look(caller, AXI_ZMTP_WAITING);
}

static void end_if_silent(const axon_simulator_server *server, axi_caller *caller, axi_time now)
{
    uint32_t patience_ms = server->options.idle_timeout_ms;
    if (patience_ms < LEAST_IDLE_MS) patience_ms = LEAST_IDLE_MS;
    if (!caller->is_ready) patience_ms = HANDSHAKE_MS;
    bool is_silent = patience_ms != AXON_FOREVER && now - caller->since > (axi_time)patience_ms * 1000000;
    if (is_silent || axi_tcp_in_vain_ms(caller->zmtp.fd) > AXI_ZMTP_DEAD_MS)
        atomic_store(&caller->is_gone, true);
}

/* A session whose client is gone, and gave itself no name to come back under, is over. */
static void bury(axon_simulator_server *server, axi_caller *caller)
{
    pthread_mutex_lock(&server->lock);
    axon_simulator_session *session = caller->session;
    if (session) {
        axi_caller_release(session);
        if (session->peer.length == 0) axi_simulator_end(session, "its client is gone");
    }
    pthread_mutex_unlock(&server->lock);
    remove_caller(server, caller);
}

static void look_at_all(axon_simulator_server *server)
{
    axi_time now = axi_now();
    server->tick_ms = AXI_ZMTP_TICK_MS;
    for (axi_caller *at = server->callers, *next; at; at = next) {
        next = at->next;
        if (is_free(server, at)) {
            serve(server, at);
            if (is_free(server, at)) end_if_silent(server, at, now);
        } else {
            at->since = now;
            keep_company(server, at);
            uint32_t tick_ms = axi_zmtp_tick_ms(&at->zmtp);
            if (tick_ms < server->tick_ms) server->tick_ms = tick_ms;
        }
        if (atomic_load(&at->is_gone)) bury(server, at);
    }
}

/* Ends the sessions that have been idle for too long; when the next one may have been. */
static axi_time reap(axon_simulator_server *server)
{
    axi_time next = AXI_NEVER, now = axi_now();
    if (server->options.idle_timeout_ms == AXON_FOREVER) return next;
    axi_time patience = (axi_time)server->options.idle_timeout_ms * 1000000;
    pthread_mutex_lock(&server->lock);
    for (axon_simulator_session *at = server->sessions, *after; at; at = after) {
        after = at->next;
        if (at->is_busy || !(at->is_attended || !at->caller)) continue;
        if (at->idle_since + patience <= now) {
            axi_log(AXON_LOG_INFO, "%s: %s was idle for %" PRIu32 " ms and ends (idle_timeout_ms)",
                    server->address, at->name, server->options.idle_timeout_ms);
            server->stats.reaped++;
            axi_simulator_end(at, "it was idle for too long (idle_timeout_ms)");
        } else if (at->idle_since + patience < next) {
            next = at->idle_since + patience;
        }
    }
    pthread_mutex_unlock(&server->lock);
    return next;
}

static void wake_everybody(axon_simulator_server *server)
{
    pthread_mutex_lock(&server->lock);
    pthread_cond_broadcast(&server->changed);
    for (axon_simulator_session *at = server->sessions; at; at = at->next)
        axi_simulator_wake(at);
    pthread_mutex_unlock(&server->lock);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* True when everything is to be looked at. */
static bool act_on(axon_simulator_server *server, const struct epoll_event *events, int count)
{
    bool was_woken = false;
    for (int i = 0; i < count; i++) {
        void *what = events[i].data.ptr;
        eventfd_t ignored;
        if (!what) {
            eventfd_read(server->wake_fd, &ignored);
            was_woken = true;
        } else if (what == server) {
            accept_all(server);
        } else {
            serve(server, what);
            was_woken = was_woken || atomic_load(&((axi_caller *)what)->is_gone);
        }
    }
    return was_woken;
}

void *axi_callers_work(void *argument)
{
    axon_simulator_server *server = argument;
    struct epoll_event events[EVENTS];
    axi_time next_tick = 0, next_reaping = AXI_NEVER;
    bool was_stopping = false;
    while (!atomic_load(&server->is_ending)) {
        axi_time tick =
            axi_deadline(server->callers ? server->tick_ms : SLOW_TICK_MS); /* somebody may have come */
        if (tick < next_tick) next_tick = tick;
        axi_time next = next_tick < next_reaping ? next_tick : next_reaping;
        int count = epoll_wait(server->watch_fd, events, EVENTS, axi_left_ms(next, SLOW_TICK_MS));
        bool was_woken = act_on(server, events, count);
        if (atomic_load(&server->is_stopping) && !was_stopping) {
            was_stopping = true;
            wake_everybody(server);
        }
        if (!was_woken && axi_now() < next) continue;
        if (server->is_deaf) listen_again(server, true);
        look_at_all(server);
        next_reaping = reap(server);
        next_tick = AXI_NEVER;
    }
    return NULL;
}

/* ---- opening and closing ------------------------------------------------------------------- */

axon_status axi_callers_open(axon_simulator_server *server, const char *host, axon_error *err)
{
    uint16_t bound, port = server->options.port == AXON_ANY_PORT ? 0 : (uint16_t)server->options.port;
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char text[ADDRESS];
    axon_status status = axi_tcp_listen(&server->listen_fd, &bound, host, port, BACKLOG, err);
    if (status != AXON_OK) return status;
    getsockname(server->listen_fd, (struct sockaddr *)&address, &length);
    axi_tcp_print(text, sizeof text, &address, length);
    server->port = bound;
    server->tick_ms = AXI_ZMTP_TICK_MS;
    server->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool is_watched = server->watch_fd >= 0 && server->wake_fd >= 0 &&
                      watch(server, server->listen_fd, server) && watch(server, server->wake_fd, NULL);
    if (!is_watched || asprintf(&server->address, "tcp://%s", text) < 0) {
        server->address = NULL;
        return axi_fail(err, AXON_ENOMEM, "server: out of memory or descriptors");
    }
    return AXON_OK;
}

/* A socket that is closed while something waits to be read takes back what the peer has not read. */
static void drain(axi_caller *caller)
{
    uint8_t unwanted[4096];
    pthread_mutex_lock(&caller->lock);
    shutdown(caller->zmtp.fd, SHUT_WR);
    for (int i = 0; i < 1024 && recv(caller->zmtp.fd, unwanted, sizeof unwanted, MSG_DONTWAIT) > 0; i++)
        continue;
    pthread_mutex_unlock(&caller->lock);
}

void axi_callers_close(axon_simulator_server *server)
{
    while (server->callers) {
        drain(server->callers);
        remove_caller(server, server->callers);
    }
    int *const all[] = {&server->listen_fd, &server->watch_fd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (*all[i] >= 0) close(*all[i]);
        *all[i] = -1;
    }
}

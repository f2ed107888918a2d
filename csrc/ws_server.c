/* See ws_server.h. */
#include "ws_server_internal.h"

#include "tcp.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    TICK_MS = 250,
    BACKLOG = 1024,
    /* Beside the clients': those that arrive, and libwebsockets' own. */
    OTHER_DESCRIPTORS = AXI_ARRIVALS + AXI_HEADS_AT_ONCE + 16
};

/* ---- memory -------------------------------------------------------------------------------- */

static bool has_room(axi_ws_server *server, axi_ws_peer *peer, uint64_t more)
{
    uint64_t used = atomic_load(&server->used), limit = server->options.max_memory_bytes;
    if (more <= limit && used <= limit - more) return true;
    if (server->favourite == peer) return true;
    if (server->favourite || used > server->reserved) return false; /* something will be released */
    server->favourite = peer;
    return true;
}

bool axi_ws_server_claim(axi_ws_server *server, axi_ws_peer *peer)
{
    const axi_ws_reader *reader = &peer->reader;
    uint64_t needed = reader->in_message ? reader->length : 0;
    bool in_data = reader->in_payload && (reader->header[0] & 0x0f) < AXI_WS_CLOSE;
    if (in_data) needed += reader->left;
    if (needed <= peer->reserved) return true;
    uint64_t more = needed - peer->reserved;
    if (!has_room(server, peer, more)) return false;
    atomic_fetch_add(&server->used, more);
    server->reserved += more;
    peer->reserved = needed;
    return true;
}

void axi_ws_server_release(axi_ws_server *server, uint64_t bytes)
{
    atomic_fetch_sub(&server->used, bytes);
    if (atomic_load(&server->stalled) > 0) axi_ws_server_wake(server);
}

/* ---- what wakes the thread ----------------------------------------------------------------- */

void axi_ws_server_wake(axi_ws_server *server)
{
    int before = errno;
    uint64_t one = 1;
    ssize_t written = write(server->wake_fd, &one, sizeof one);
    (void)written; /* it fails when it is awake for a long time yet */
    errno = before;
}

static void look_at_all(axi_ws_server *server, bool is_tick)
{
    axi_time now = axi_now();
    for (unsigned i = 0; i < atomic_load(&server->connected); i++)
        axi_ws_peer_look(server->peers[i], now, is_tick);
}

static void empty(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
}

static void on_wake(void *user, bool is_readable)
{
    axi_ws_server *server = user;
    (void)is_readable;
    empty(server->wake_fd);
    server->events.woken(server->user);
    look_at_all(server, false);
}

static void on_tick(void *user, bool is_readable)
{
    axi_ws_server *server = user;
    (void)is_readable;
    empty(server->tick_fd);
    if (server->listener) axi_watch_read(server->listener, true);
    server->events.woken(server->user);
    axi_ws_arrivals_keep_time(server, axi_now());
    look_at_all(server, true);
}

static void on_gone(void *user)
{
    (void)user;
}

/* ---- clients that come --------------------------------------------------------------------- */

static void on_arrival(void *user, bool is_readable)
{
    (void)is_readable;
    axi_ws_arrivals_accept(user);
}

static void on_listener_gone(void *user)
{
    axi_ws_server *server = user;
    server->listener = NULL;
}

static int on_ask(void *user, const axi_http_asked *asked, const char **text)
{
    axi_ws_server *server = user;
    int status = server->events.ask(server->user, asked, text);
    if (status != 0) return status;
    if (atomic_load(&server->connected) >= server->options.max_connections) {
        *text = "There are too many connections.\n";
        server->events.refused(server->user);
        return 503;
    }
    server->guest = axi_ws_peer_new(server, asked);
    if (server->guest) return 0;
    *text = "Out of memory.\n";
    return 503;
}

void axi_ws_server_stop_listening(axi_ws_server *server)
{
    if (!server->listener) return;
    axi_watch_end(server->listener);
    close(server->listen_fd);
    server->listener = NULL;
    server->listen_fd = -1;
}

uint16_t axi_ws_server_port(const axi_ws_server *server)
{
    return server->port;
}

char *axi_ws_server_url(const axi_ws_server *server, const char *host)
{
    char *url;
    const char *form = strchr(host, ':') && *host != '[' ? "ws://[%s]:%u" : "ws://%s:%u";
    return asprintf(&url, form, host, (unsigned)server->port) < 0 ? NULL : url;
}

unsigned axi_ws_server_count(const axi_ws_server *server)
{
    return atomic_load(&server->connected);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void *run(void *user)
{
    axi_ws_server *server = user;
    while (!atomic_load(&server->is_ending)) {
        axi_gate_turn(server->gate);
        axi_ws_arrivals_answer(server);
    }
    return NULL;
}

static axon_status start_thread(axi_ws_server *server, axon_error *err)
{
    int error = axi_thread_start(&server->thread, run, server);
    server->has_thread = error == 0;
    return error ? axi_fail(err, AXON_ENOMEM, "server: no thread can be started: %s", strerror(error))
                 : AXON_OK;
}

/* The descriptor stays ours: other threads may write to it until the very end. */
static axi_watch *watch(axi_ws_server *server, int fd, const axi_watch_events *events)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? NULL : axi_gate_watch(server->gate, copy, events, server);
}

static void close_descriptors(axi_ws_server *server)
{
    int *all[] = {&server->listen_fd, &server->wake_fd, &server->tick_fd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (*all[i] >= 0) close(*all[i]);
        *all[i] = -1;
    }
}

static bool watch_all(axi_ws_server *server)
{
    static const axi_watch_events waker = {on_wake, on_gone}, ticker = {on_tick, on_gone},
                                  listener = {on_arrival, on_listener_gone};
    struct itimerspec tick = {.it_interval = {0, TICK_MS * 1000000}, .it_value = {0, TICK_MS * 1000000}};
    server->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    server->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (server->wake_fd < 0 || server->tick_fd < 0) return false;
    timerfd_settime(server->tick_fd, 0, &tick, NULL);
    server->listener = watch(server, server->listen_fd, &listener);
    return watch(server, server->wake_fd, &waker) && watch(server, server->tick_fd, &ticker) &&
           server->listener;
}

static axon_status start(axi_ws_server *server, const char *host, axon_error *err)
{
    axon_status status =
        axi_tcp_listen(&server->listen_fd, &server->port, host, server->options.port, BACKLOG, err);
    if (status != AXON_OK) return status;
    unsigned descriptors = server->options.max_connections + OTHER_DESCRIPTORS;
    status = axi_gate_open(&server->gate, on_ask, server, descriptors, err);
    if (status != AXON_OK) return status;
    if (!watch_all(server))
        return axi_fail(err, AXON_ENOMEM,
                        "server: it could not be set up: out of memory or of descriptors");
    return start_thread(server, err);
}

axon_status axi_ws_server_open(axi_ws_server **server, const axi_ws_server_options *options,
                               const axi_ws_server_events *events, void *user, axon_error *err)
{
    axi_ws_server *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    *made = (axi_ws_server){.options = *options, .events = *events, .user = user};
    made->options.host = NULL;
    made->listen_fd = made->wake_fd = made->tick_fd = -1;
    for (unsigned i = 0; i < AXI_ARRIVALS; i++)
        made->arrivals[i] = (axi_arrival){.server = made, .fd = -1};
    made->peers = calloc(options->max_connections, sizeof(axi_ws_peer *));
    axon_status status = made->peers ? start(made, options->host, err)
                                     : axi_no_memory(err, options->max_connections * sizeof(axi_ws_peer *));
    if (status != AXON_OK) {
        axi_ws_server_close(made, false);
        return status;
    }
    *server = made;
    return AXON_OK;
}

/* The thread is the parent's, and what it was at is unknown: only descriptors are given back. */
static void close_in_child(axi_ws_server *server)
{
    for (unsigned i = 0; i < atomic_load(&server->connected); i++)
        close(server->peers[i]->fd);
    for (unsigned i = 0; i < AXI_ARRIVALS; i++) {
        if (server->arrivals[i].fd >= 0) close(server->arrivals[i].fd);
    }
    close_descriptors(server);
}

void axi_ws_server_close(axi_ws_server *server, bool in_child)
{
    if (!server) return;
    if (in_child) {
        close_in_child(server);
        return;
    }
    if (server->has_thread) {
        atomic_store(&server->is_ending, true);
        axi_ws_server_wake(server);
        pthread_join(server->thread, NULL);
    }
    axi_gate_close(server->gate);
    close_descriptors(server);
    free(server->peers);
    free(server);
}

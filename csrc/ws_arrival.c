/* Clients that were accepted and are not upgraded yet. Whoever connects and says nothing, or half of something, has
 * one of a few places, until its time is over or a newcomer needs the place more: so a client that speaks gets in
 * however many keep silent. libwebsockets sees a request when it is whole, and nothing of what is behind it. */
#include "ws_server_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    REQUEST_MS = 10000, /* for a request to come whole */
    LINGER_MS = 2000,   /* for a client to take its answer and hang up */
    FIRST_BYTES = 1024,
    ACCEPTS = 16 /* at a time, then others have their turn */
};

/* ---- places -------------------------------------------------------------------------------- */

static axi_arrival *free_place(axi_ws_server *server)
{
    for (unsigned i = 0; i < AXI_ARRIVALS; i++) {
        if (server->arrivals[i].stage == AXI_ARRIVAL_NONE) return &server->arrivals[i];
    }
    return NULL;
}

static void end(axi_arrival *arrival)
{
    arrival->stage = AXI_ARRIVAL_ENDING;
    axi_watch_end(arrival->watch);
}

static void clear(axi_arrival *arrival)
{
    free(arrival->head);
    *arrival = (axi_arrival){.server = arrival->server, .fd = -1};
}

/* Sends the client away that has been here longest, but for one; false when there is none. */
static bool make_place(axi_ws_server *server, const axi_arrival *but)
{
    axi_arrival *oldest = NULL;
    for (unsigned i = 0; i < AXI_ARRIVALS; i++) {
        axi_arrival *arrival = &server->arrivals[i];
        if (arrival->stage == AXI_ARRIVAL_ENDING) return true; /* soon free */
        if (arrival->stage == AXI_ARRIVAL_NONE || arrival == but) continue;
        if (!oldest || arrival->since < oldest->since) oldest = arrival;
    }
    if (!oldest) return false;
    if (oldest->stage != AXI_ARRIVAL_LEAVING) server->events.refused(server->user);
    end(oldest);
    return true;
}

/* ---- reading a request --------------------------------------------------------------------- */

/* Its answer is on the way: nothing else comes from us, and what comes from the client is of no interest. */
static void leave(axi_arrival *arrival)
{
    arrival->stage = AXI_ARRIVAL_LEAVING;
    arrival->leave_by = axi_deadline(LINGER_MS);
    shutdown(arrival->fd, SHUT_WR);
    axi_watch_read(arrival->watch, true);
}

static void refuse(axi_arrival *arrival, int status, const char *text)
{
    arrival->server->events.refused(arrival->server->user);
    axi_http_refuse(arrival->fd, status, text);
    leave(arrival);
}

static bool has_room(axi_arrival *arrival)
{
    if (arrival->length < arrival->capacity) return true;
    size_t capacity = arrival->capacity ? arrival->capacity * 2 : FIRST_BYTES;
    char *head = realloc(arrival->head, capacity);
    if (!head) return false;
    arrival->head = head;
    arrival->capacity = capacity;
    return true;
}

/* The length of the head, when its end is among the last `fresh` bytes; else 0. */
static size_t head_length(const char *head, size_t length, size_t fresh)
{
    size_t from = length - fresh > 3 ? length - fresh - 3 : 0;
    for (size_t at = from; at + 1 < length; at++) {
        if (head[at] != '\n') continue;
        if (head[at + 1] == '\n') return at + 2;
        if (head[at + 1] == '\r' && at + 2 < length && head[at + 2] == '\n') return at + 3;
    }
    return 0;
}

/* Reads up to the end of the head: what is behind it is for whoever gets the socket. */
static void read_head(axi_arrival *arrival)
{
    if (!has_room(arrival)) {
        end(arrival);
        return;
    }
    char *to = arrival->head + arrival->length;
    ssize_t got = recv(arrival->fd, to, arrival->capacity - arrival->length, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (got <= 0) {
        end(arrival);
        return;
    }
    size_t seen = arrival->length + (size_t)got, whole = head_length(arrival->head, seen, (size_t)got);
    size_t take = (whole ? whole : seen) - arrival->length;
    if (recv(arrival->fd, to, take, MSG_DONTWAIT) != (ssize_t)take) {
        end(arrival);
        return;
    }
    arrival->length += take;
    if (whole) {
        arrival->stage = AXI_ARRIVAL_ASKING;
        axi_watch_read(arrival->watch, false);
    } else if (arrival->length >= AXI_HEAD_BYTES) {
        refuse(arrival, 431, "The HTTP request is too long.\n");
    }
}

static void drop_bytes(axi_arrival *arrival)
{
    char bytes[4096];
    ssize_t got = recv(arrival->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    bool waits = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (got <= 0 && !waits) end(arrival);
}

static void on_ready(void *user, bool is_readable)
{
    axi_arrival *arrival = user;
    if (!is_readable) return;
    if (arrival->stage == AXI_ARRIVAL_READING) read_head(arrival);
    if (arrival->stage == AXI_ARRIVAL_LEAVING) drop_bytes(arrival);
}

static void on_gone(void *user)
{
    clear(user);
}

/* ---- coming and going ---------------------------------------------------------------------- */

/* False when nobody else can be let in now. */
static bool accept_one(axi_ws_server *server)
{
    static const axi_watch_events events = {on_ready, on_gone};
    axi_arrival *arrival = free_place(server);
    if (!arrival) {
        make_place(server, NULL);
        return false;
    }
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return false;
    arrival->watch = axi_gate_watch(server->gate, fd, &events, arrival);
    if (!arrival->watch) return false;
    arrival->fd = fd;
    arrival->stage = AXI_ARRIVAL_READING;
    arrival->since = axi_now();
    arrival->leave_by = axi_deadline(REQUEST_MS);
    return true;
}

/* Without descriptors or memory, somebody else's place is taken; when nobody has one, the listener, which would
 * wake the thread again and again, waits for the next tick. */
void axi_ws_arrivals_accept(axi_ws_server *server)
{
    errno = 0;
    int left = ACCEPTS;
    while (left > 0 && accept_one(server))
        left--;
    bool has_none = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (left > 0 && has_none && !make_place(server, NULL) && server->listener)
        axi_watch_read(server->listener, false);
}

/* Has what came whole answered; a client that is upgraded becomes a peer. */
static void answer(axi_arrival *arrival)
{
    axi_ws_server *server = arrival->server;
    axi_http_outcome outcome = axi_gate_answer(server->gate, arrival->fd, arrival->head, arrival->length);
    axi_ws_peer *guest = server->guest;
    server->guest = NULL;
    if (outcome == AXI_HTTP_UPGRADED && guest) {
        axi_ws_peer_begin(guest, arrival->watch, arrival->fd);
        clear(arrival);
        return;
    }
    axi_ws_peer_drop(guest);
    if (outcome == AXI_HTTP_REFUSED) server->events.refused(server->user);
    if (outcome == AXI_HTTP_LATER)
        make_place(server, arrival);
    else
        leave(arrival);
}

void axi_ws_arrivals_answer(axi_ws_server *server)
{
    unsigned answered = 0;
    for (unsigned i = 0; i < AXI_ARRIVALS; i++) {
        axi_arrival *arrival = &server->arrivals[i];
        if (arrival->stage != AXI_ARRIVAL_ASKING) continue;
        if (answered++ < AXI_HEADS_AT_ONCE)
            answer(arrival);
        else
            axi_ws_server_wake(server);
    }
}

void axi_ws_arrivals_keep_time(axi_ws_server *server, axi_time now)
{
    for (unsigned i = 0; i < AXI_ARRIVALS; i++) {
        axi_arrival *arrival = &server->arrivals[i];
        if (arrival->stage == AXI_ARRIVAL_NONE || arrival->stage == AXI_ARRIVAL_ENDING) continue;
        if (now < arrival->leave_by) continue;
        if (arrival->stage != AXI_ARRIVAL_LEAVING) server->events.refused(server->user);
        end(arrival);
    }
}

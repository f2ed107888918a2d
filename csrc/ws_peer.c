/* One client of a WebSocket server. See ws_server.h. */
#include "tcp.h"
#include "utf8.h"
#include "ws_server_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ROUNDS = 64,                /* of receiving, then others have their turn */
    PARTS_AT_ONCE = 256,        /* of a scatter list */
    GOODBYE_MS = 2000,          /* for the client to answer a close frame, and to hang up */
    CONTROL_QUEUE_BYTES = 65536 /* of unsent bytes, above which pings are not answered */
};

/* ---- life ---------------------------------------------------------------------------------- */

axi_ws_peer *axi_ws_peer_new(axi_ws_server *server, const axi_http_asked *asked)
{
    axi_ws_peer *peer = calloc(1, sizeof *peer);
    if (!peer) return NULL;
    pthread_mutex_init(&peer->lock, NULL);
    atomic_init(&peer->references, 1);
    peer->server = server;
    peer->fd = -1;
    peer->reads = true;
    peer->reader.is_server = true;
    peer->reader.max_message_bytes = server->options.max_message_bytes;
    snprintf(peer->path, sizeof peer->path, "%s", asked->path);
    snprintf(peer->agent, sizeof peer->agent, "%s", asked->user_agent);
    return peer;
}

void axi_ws_peer_keep(axi_ws_peer *peer)
{
    atomic_fetch_add(&peer->references, 1);
}

static void free_queue(axi_ws_peer *peer)
{
    while (peer->first) {
        axi_chunk *chunk = peer->first;
        peer->first = chunk->next;
        free(chunk);
    }
    peer->last = NULL;
    peer->queued = 0;
}

void axi_ws_peer_drop(axi_ws_peer *peer)
{
    if (!peer || atomic_fetch_sub(&peer->references, 1) != 1) return;
    free_queue(peer);
    axi_ws_reader_free(&peer->reader);
    pthread_mutex_destroy(&peer->lock);
    free(peer->unread);
    free(peer);
}

void axi_ws_peer_set_user(axi_ws_peer *peer, void *user)
{
    peer->user = user;
}

void *axi_ws_peer_user(const axi_ws_peer *peer)
{
    return peer->user;
}

const char *axi_ws_peer_name(const axi_ws_peer *peer)
{
    return peer->name;
}

const char *axi_ws_peer_path(const axi_ws_peer *peer)
{
    return peer->path;
}

const char *axi_ws_peer_agent(const axi_ws_peer *peer)
{
    return peer->agent;
}

bool axi_ws_peer_is_gone(const axi_ws_peer *peer)
{
    return atomic_load(&peer->is_gone);
}

/* The connection is of no use any more; on the server's thread. */
static void end(axi_ws_peer *peer)
{
    if (peer->watch) axi_watch_end(peer->watch);
    peer->watch = NULL;
}

/* ---- sending ------------------------------------------------------------------------------- */

/* Writes a scatter list; `*sent` bytes of it were taken. False when the connection is broken. */
static bool write_some(int fd, const struct iovec *parts, size_t count, uint64_t *sent)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
    ssize_t got;
    do
        got = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    *sent = got > 0 ? (uint64_t)got : 0;
    return got >= 0 || errno == EAGAIN || errno == EWOULDBLOCK;
}

/* Header and parts, as one list that is walked once. */
typedef struct source {
    struct iovec header;
    const struct iovec *parts;
    size_t count, next; /* 0 is the header */
    size_t offset;
} source;

static struct iovec part_of(const source *from, size_t index)
{
    return index == 0 ? from->header : from->parts[index - 1];
}

static size_t gather(const source *from, struct iovec *list)
{
    size_t count = 0;
    for (size_t i = from->next; i <= from->count && count < PARTS_AT_ONCE; i++) {
        struct iovec part = part_of(from, i);
        size_t skip = i == from->next ? from->offset : 0;
        if (part.iov_len == skip) continue;
        list[count++] = (struct iovec){(uint8_t *)part.iov_base + skip, part.iov_len - skip};
    }
    return count;
}

static void advance(source *from, uint64_t sent)
{
    while (from->next <= from->count) {
        size_t left = part_of(from, from->next).iov_len - from->offset;
        if (sent < left) {
            from->offset += (size_t)sent;
            return;
        }
        sent -= left;
        from->next++;
        from->offset = 0;
    }
}

static void copy_rest(const source *from, uint8_t *to)
{
    for (size_t i = from->next; i <= from->count; i++) {
        struct iovec part = part_of(from, i);
        size_t skip = i == from->next ? from->offset : 0;
        if (part.iov_len == skip) continue;
        memcpy(to, (uint8_t *)part.iov_base + skip, part.iov_len - skip);
        to += part.iov_len - skip;
    }
}

/* Writes at once what the socket takes; `*left` bytes remain. */
static void write_at_once(axi_ws_peer *peer, source *from, uint64_t *left)
{
    struct iovec list[PARTS_AT_ONCE];
    uint64_t sent = 1;
    while (*left > 0 && sent > 0) {
        if (!write_some(peer->fd, list, gather(from, list), &sent)) {
            peer->is_broken = true;
            return;
        }
        advance(from, sent);
        *left -= sent;
    }
}

static axi_chunk *new_chunk(uint64_t length)
{
    if (length > SIZE_MAX / 2) return NULL;
    axi_chunk *chunk = malloc(sizeof *chunk + (size_t)length);
    if (chunk) *chunk = (axi_chunk){.length = (size_t)length};
    return chunk;
}

static void enqueue(axi_ws_peer *peer, axi_chunk *chunk)
{
    if (peer->last)
        peer->last->next = chunk;
    else
        peer->first = chunk;
    peer->last = chunk;
    peer->queued += chunk->length;
    atomic_fetch_add(&peer->server->used, chunk->length);
}

/* With the lock held. */
static axon_status send_frame(axi_ws_peer *peer, int opcode, const struct iovec *parts, size_t count)
{
    if (peer->fd < 0 || peer->has_left || peer->is_broken) return AXON_ECONNECT;
    uint64_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].iov_len;
    uint8_t header[AXI_WS_HEADER];
    size_t header_length = axi_ws_put_server_header(header, opcode, length);
    source from = {.header = {header, header_length}, .parts = parts, .count = count};
    uint64_t left = length + header_length;
    if (opcode < AXI_WS_CLOSE && peer->queued + left > peer->server->options.max_queue_bytes)
        return AXON_ETOOBIG;
    if (peer->queued == 0) write_at_once(peer, &from, &left);
    if (peer->is_broken) return AXON_ECONNECT;
    if (opcode == AXI_WS_CLOSE) peer->has_left = true;
    if (left == 0) return AXON_OK;
    axi_chunk *chunk = new_chunk(left);
    if (!chunk) {
        peer->is_broken = left < length + header_length; /* half a frame is out */
        return peer->is_broken ? AXON_ECONNECT : AXON_ENOMEM;
    }
    copy_rest(&from, chunk->data);
    enqueue(peer, chunk);
    return AXON_OK;
}

/* What is left to do is the server's thread's. */
static axon_status send_and_wake(axi_ws_peer *peer, int opcode, const struct iovec *parts, size_t count)
{
    pthread_mutex_lock(&peer->lock);
    axon_status status = send_frame(peer, opcode, parts, count);
    bool needs_care = peer->fd >= 0 && (peer->queued > 0 || peer->is_broken || opcode == AXI_WS_CLOSE);
    if (needs_care) axi_ws_server_wake(peer->server);
    pthread_mutex_unlock(&peer->lock);
    return status;
}

axon_status axi_ws_peer_send(axi_ws_peer *peer, const struct iovec *parts, size_t count, bool is_text)
{
    return send_and_wake(peer, is_text ? AXI_WS_TEXT : AXI_WS_BINARY, parts, count);
}

static void send_close(axi_ws_peer *peer, int code, const char *reason)
{
    uint8_t payload[AXI_WS_CONTROL] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t length = strlen(reason);
    if (length > sizeof payload - 2) length = axi_utf8_cut(reason, sizeof payload - 2);
    memcpy(payload + 2, reason, length);
    struct iovec part = {payload, code == AXI_WS_NO_CODE ? 0 : length + 2};
    send_and_wake(peer, AXI_WS_CLOSE, &part, 1);
}

void axi_ws_peer_close(axi_ws_peer *peer, int code, const char *reason)
{
    send_close(peer, code, reason);
}

uint64_t axi_ws_peer_pending(axi_ws_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    uint64_t queued = peer->queued;
    pthread_mutex_unlock(&peer->lock);
    return queued;
}

void axi_ws_peer_hold(axi_ws_peer *peer, bool on)
{
    if (atomic_exchange(&peer->is_held, on) == on || on) return;
    pthread_mutex_lock(&peer->lock);
    if (peer->fd >= 0) axi_ws_server_wake(peer->server);
    pthread_mutex_unlock(&peer->lock);
}

static void forget_first(axi_ws_peer *peer)
{
    axi_chunk *chunk = peer->first;
    peer->first = chunk->next;
    if (!peer->first) peer->last = NULL;
    free(chunk);
}

/* The socket takes more. */
static void flush(axi_ws_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    bool had = peer->first != NULL;
    while (peer->first && !peer->is_broken) {
        axi_chunk *chunk = peer->first;
        struct iovec part = {chunk->data + chunk->done, chunk->length - chunk->done};
        uint64_t sent;
        if (!write_some(peer->fd, &part, 1, &sent)) peer->is_broken = true;
        if (sent == 0) break;
        chunk->done += (size_t)sent;
        peer->queued -= sent;
        axi_ws_server_release(peer->server, sent);
        if (chunk->done == chunk->length) forget_first(peer);
    }
    bool is_empty = peer->first == NULL;
    pthread_mutex_unlock(&peer->lock);
    if (had && is_empty && peer->stage == AXI_PEER_OPEN)
        peer->server->events.drained(peer->server->user, peer);
}

/* ---- receiving ----------------------------------------------------------------------------- */

static void forget_unread(axi_ws_peer *peer)
{
    if (peer->unread != peer->server->received) free(peer->unread);
    peer->unread = NULL;
    peer->at = peer->end = 0;
}

/* At the end of its turn: what may not be read yet is kept elsewhere. */
static void keep_unread(axi_ws_peer *peer)
{
    size_t left = peer->watch && peer->stage != AXI_PEER_DRAINING ? peer->end - peer->at : 0;
    if (left > 0 && peer->unread != peer->server->received) return;
    uint8_t *kept = left > 0 ? malloc(left) : NULL;
    if (kept) memcpy(kept, peer->unread + peer->at, left);
    forget_unread(peer);
    peer->unread = kept;
    peer->end = kept ? left : 0;
    if (left > 0 && !kept) end(peer);
}

static void go_to(axi_ws_peer *peer, axi_peer_stage stage)
{
    peer->stage = stage;
    peer->leave_by = axi_deadline(GOODBYE_MS);
    if (stage != AXI_PEER_DRAINING) return;
    axi_ws_reader_free(&peer->reader);
    forget_unread(peer);
}

static void return_close(axi_ws_peer *peer)
{
    int code = axi_ws_close_code(&peer->reader);
    send_close(peer, code, "");
    go_to(peer, AXI_PEER_DRAINING);
}

static void break_off(axi_ws_peer *peer)
{
    axi_log(AXON_LOG_INFO, "%s: the client sent %s", peer->name, peer->reader.fault);
    send_close(peer, peer->reader.close_code, peer->reader.fault);
    go_to(peer, AXI_PEER_DRAINING);
}

static void return_ping(axi_ws_peer *peer)
{
    struct iovec part = {peer->reader.control, peer->reader.control_length};
    if (axi_ws_peer_pending(peer) < CONTROL_QUEUE_BYTES) send_and_wake(peer, AXI_WS_PONG, &part, 1);
}

/* The message is its receiver's, and so is the memory that was claimed for it. */
static void hand_over(axi_ws_peer *peer)
{
    axi_ws_server *server = peer->server;
    axi_ws_message message;
    axi_ws_reader_take(&peer->reader, &message);
    uint64_t claimed = peer->reserved;
    server->reserved -= claimed;
    peer->reserved = 0;
    if (server->favourite == peer) server->favourite = NULL;
    if (message.length > claimed) atomic_fetch_add(&server->used, message.length - claimed);
    if (message.length < claimed) axi_ws_server_release(server, claimed - message.length);
    if (peer->stage == AXI_PEER_OPEN) {
        server->events.received(server->user, peer, &message);
        return;
    }
    axi_ws_server_release(server, message.length);
    free(message.data);
}

static void act_on(axi_ws_peer *peer, axi_ws_event event)
{
    switch (event) {
    case AXI_WS_GOT_MESSAGE:
        hand_over(peer);
        break;
    case AXI_WS_GOT_PING:
        return_ping(peer);
        break;
    case AXI_WS_GOT_CLOSE:
        return_close(peer);
        break;
    case AXI_WS_GOT_FAULT:
        break_off(peer);
        break;
    case AXI_WS_GOT_NOTHING:
    case AXI_WS_GOT_PONG:
        break;
    }
}

static bool may_read(axi_ws_peer *peer)
{
    if (peer->stage == AXI_PEER_DRAINING) return true;
    return !peer->is_stalled && !(peer->stage == AXI_PEER_OPEN && atomic_load(&peer->is_held));
}

static void claim(axi_ws_peer *peer)
{
    bool must_wait = peer->stage != AXI_PEER_DRAINING && !axi_ws_server_claim(peer->server, peer);
    if (must_wait != peer->is_stalled) atomic_fetch_add(&peer->server->stalled, must_wait ? 1u : -1u);
    peer->is_stalled = must_wait;
}

static void read_on(axi_ws_peer *peer)
{
    while (peer->at < peer->end && peer->stage != AXI_PEER_DRAINING && may_read(peer)) {
        size_t used;
        axi_ws_event event =
            axi_ws_read(&peer->reader, peer->unread + peer->at, peer->end - peer->at, &used);
        peer->at += used;
        act_on(peer, event);
        claim(peer);
    }
}

/* Receives once, when all that came before was read. False when no more is there, or the connection is over. */
static bool receive(axi_ws_peer *peer)
{
    forget_unread(peer);
    ssize_t got;
    do
        got = recv(peer->fd, peer->server->received, AXI_RECEIVE_BYTES, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (got <= 0) {
        end(peer);
        return false;
    }
    peer->heard = axi_now();
    peer->unread = peer->server->received;
    peer->end = (size_t)got;
    read_on(peer);
    return (size_t)got == AXI_RECEIVE_BYTES;
}

static void read_some(axi_ws_peer *peer)
{
    read_on(peer);
    for (int round = 0; round < ROUNDS && peer->watch && may_read(peer); round++)
        if (!receive(peer)) break;
    keep_unread(peer);
}

/* ---- looking after it ---------------------------------------------------------------------- */

/* For how long its machine has acknowledged nothing of what was sent. */
static axi_time silence_of(axi_ws_peer *peer, axi_time now)
{
    struct tcp_info info = {.tcpi_unacked = 0};
    socklen_t size = sizeof info;
    bool is_known = getsockopt(peer->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
    if (!is_known || info.tcpi_unacked == 0) {
        peer->unacknowledged_since = now;
        return 0;
    }
    axi_time waited = now - peer->unacknowledged_since;
    axi_time silent = (axi_time)info.tcpi_last_ack_recv * 1000000;
    return waited < silent ? waited : silent;
}

static bool is_dead(axi_ws_peer *peer, axi_time now)
{
    axi_time patience = (axi_time)peer->server->options.dead_after_ms * 1000000;
    if (silence_of(peer, now) > patience) return true;
    bool is_half_way = axi_ws_reader_is_within(&peer->reader) && may_read(peer);
    return is_half_way && peer->stage == AXI_PEER_OPEN && now - peer->heard > patience;
}

static void keep_time(axi_ws_peer *peer, axi_time now)
{
    if (peer->stage != AXI_PEER_OPEN && now > peer->leave_by) {
        end(peer);
        return;
    }
    if (is_dead(peer, now)) {
        axi_log(AXON_LOG_INFO, "%s: the client is gone: nothing came from it for %u ms", peer->name,
                peer->server->options.dead_after_ms);
        end(peer);
        return;
    }
    axi_time interval = (axi_time)peer->server->options.ping_interval_ms * 1000000;
    axi_time quiet_since = peer->heard > peer->pinged ? peer->heard : peer->pinged;
    if (peer->stage != AXI_PEER_OPEN || now - quiet_since < interval) return;
    peer->pinged = now;
    struct iovec nothing = {peer->name, 0};
    if (axi_ws_peer_pending(peer) == 0) send_and_wake(peer, AXI_WS_PING, &nothing, 1);
}

/* Both have said goodbye: our direction ends, the client hangs up. */
static void shut(axi_ws_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    if (!peer->is_shut && !peer->first) {
        peer->is_shut = true;
        shutdown(peer->fd, SHUT_WR);
    }
    pthread_mutex_unlock(&peer->lock);
}

void axi_ws_peer_look(axi_ws_peer *peer, axi_time now, bool is_tick)
{
    if (!peer->watch) return;
    if (peer->is_stalled) claim(peer);
    if (is_tick) keep_time(peer, now);
    /* Bytes in the buffer are none that poll() knows of; the hold on them may have ended while they were read. */
    bool has_unread = !peer->reads || peer->at < peer->end;
    if (peer->watch && has_unread && may_read(peer)) read_some(peer);
    if (!peer->watch) return;
    pthread_mutex_lock(&peer->lock);
    bool is_broken = peer->is_broken, writes = peer->first != NULL, has_left = peer->has_left;
    pthread_mutex_unlock(&peer->lock);
    if (is_broken) {
        end(peer);
        return;
    }
    if (has_left && peer->stage == AXI_PEER_OPEN) go_to(peer, AXI_PEER_LEAVING);
    if (peer->stage == AXI_PEER_DRAINING) shut(peer);
    axi_watch_write(peer->watch, writes);
    if (peer->reads != may_read(peer)) axi_watch_read(peer->watch, peer->reads = !peer->reads);
}

static void on_ready(void *user, bool is_readable)
{
    axi_ws_peer *peer = user;
    if (is_readable)
        read_some(peer);
    else
        flush(peer);
    axi_ws_peer_look(peer, 0, false);
}

static void on_gone(void *user)
{
    axi_ws_peer *peer = user;
    axi_ws_server *server = peer->server;
    peer->watch = NULL;
    pthread_mutex_lock(&peer->lock);
    peer->fd = -1;
    atomic_fetch_sub(&server->used, peer->queued);
    free_queue(peer);
    atomic_store(&peer->is_gone, true);
    pthread_mutex_unlock(&peer->lock);
    server->reserved -= peer->reserved;
    if (server->favourite == peer) server->favourite = NULL;
    if (peer->is_stalled) atomic_fetch_sub(&server->stalled, 1);
    axi_ws_server_release(server, peer->reserved);

    unsigned last = atomic_fetch_sub(&server->connected, 1) - 1;
    server->peers[peer->index] = server->peers[last];
    server->peers[peer->index]->index = peer->index;
    if (peer->is_known) server->events.closed(server->user, peer);
    axi_ws_peer_drop(peer);
}

static void name_peer(axi_ws_peer *peer, int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    getpeername(fd, (struct sockaddr *)&address, &size);
    axi_tcp_print(peer->name, sizeof peer->name, &address, size);
}

void axi_ws_peer_begin(axi_ws_peer *peer, axi_watch *watch, int fd)
{
    static const axi_watch_events events = {on_ready, on_gone};
    axi_ws_server *server = peer->server;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    axi_tcp_hurry(fd);
    name_peer(peer, fd);
    peer->heard = peer->pinged = peer->unacknowledged_since = axi_now();
    peer->watch = watch;
    peer->fd = fd;
    axi_watch_pass(watch, &events, peer);
    axi_watch_read(watch, true);
    peer->index = atomic_fetch_add(&server->connected, 1);
    server->peers[peer->index] = peer;
    peer->is_known = server->events.opened(server->user, peer);
    if (!peer->is_known) end(peer);
}

/* See zmtp.h. The life of a connection, and what goes out; zmtp_read.c has what comes in. */
#include "zmtp_internal.h"

#include "spare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PARTS_AT_ONCE = 64 };

/* ---- life ---------------------------------------------------------------------------------- */

static void release(axi_zmtp *zmtp, uint64_t bytes)
{
    if (zmtp->budget) atomic_fetch_sub(&zmtp->budget->used, bytes);
}

void axi_zmtp_drop_body(axi_zmtp *zmtp)
{
    bool is_command = zmtp->received && zmtp->body == zmtp->received + AXI_ZMTP_RECEIVED;
    release(zmtp, zmtp->charged);
    if (!is_command) axi_spare_give(zmtp->body);
    zmtp->body = NULL;
    zmtp->charged = 0;
}

void axi_zmtp_break(axi_zmtp *zmtp, bool is_stranger, const char *format, ...)
{
    if (zmtp->stage == AXI_ZMTP_OVER) return;
    zmtp->stage = AXI_ZMTP_OVER;
    zmtp->is_stranger = is_stranger;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(zmtp->why, sizeof zmtp->why, format, arguments);
    va_end(arguments);
    axi_zmtp_drop_body(zmtp);
}

bool axi_zmtp_begin(axi_zmtp *zmtp, int fd, bool is_server, uint64_t max_bytes, axi_zmtp_budget *budget)
{
    *zmtp = (axi_zmtp){.fd = fd,
                       .since = axi_now(),
                       .is_server = is_server,
                       .max_bytes = max_bytes < SIZE_MAX / 2 ? max_bytes : SIZE_MAX / 2,
                       .budget = budget,
                       .message = AXI_ZMTP_NEW_MESSAGE};
    zmtp->received = malloc(AXI_ZMTP_RECEIVED + AXI_ZMTP_COMMAND_BYTES);
    if (!zmtp->received) return false;
    axi_zmtp_greet(zmtp);
    return true;
}

void axi_zmtp_end(axi_zmtp *zmtp)
{
    axi_zmtp_break(zmtp, false, "it was closed");
    for (axi_zmtp_message message; axi_zmtp_take(zmtp, &message) != AXI_ZMTP_NOTHING;)
        axi_spare_give(message.data);
    free(zmtp->received);
    zmtp->received = NULL;
    if (zmtp->fd >= 0) close(zmtp->fd);
    zmtp->fd = -1;
}

uint32_t axi_zmtp_tick_ms(const axi_zmtp *zmtp)
{
    bool is_new = axi_now() - zmtp->since < (axi_time)AXI_ZMTP_TICK_MS * 2 * 1000000;
    return is_new || atomic_load(&zmtp->is_pinged) ? AXI_ZMTP_QUICK_TICK_MS : AXI_ZMTP_TICK_MS;
}

void axi_zmtp_hang_up(axi_zmtp *zmtp)
{
    if (zmtp->fd >= 0) shutdown(zmtp->fd, SHUT_RDWR);
}

axi_zmtp_found axi_zmtp_peek(const axi_zmtp *zmtp)
{
    return zmtp->count ? zmtp->waiting[zmtp->first].found : AXI_ZMTP_NOTHING;
}

axi_zmtp_found axi_zmtp_take(axi_zmtp *zmtp, axi_zmtp_message *message)
{
    if (zmtp->count == 0) return AXI_ZMTP_NOTHING;
    *message = zmtp->waiting[zmtp->first];
    zmtp->first = (zmtp->first + 1) % AXI_ZMTP_WAITING;
    zmtp->count--;
    if (message->data) release(zmtp, message->length);
    return message->found;
}

/* ---- small things out ---------------------------------------------------------------------- */

bool axi_zmtp_has_unsent(const axi_zmtp *zmtp)
{
    return zmtp->small_at < zmtp->small_end;
}

/* The bytes that the socket took, 0 when it takes none, or -1: the connection is over. */
static ssize_t write_some(axi_zmtp *zmtp, struct iovec *parts, size_t count)
{
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    for (;;) {
        ssize_t sent = sendmsg(zmtp->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
        if (errno == EINTR) continue;
        int reason = errno;
        axi_zmtp_break(zmtp, false, "%s", strerror(reason));
        return -1;
    }
}

bool axi_zmtp_flush(axi_zmtp *zmtp)
{
    if (zmtp->stage == AXI_ZMTP_OVER || !axi_zmtp_has_unsent(zmtp)) return true;
    if (zmtp->in_message) return false;
    struct iovec part = {zmtp->small + zmtp->small_at, zmtp->small_end - zmtp->small_at};
    ssize_t sent = write_some(zmtp, &part, 1);
    if (sent > 0) zmtp->small_at += (size_t)sent;
    if (axi_zmtp_has_unsent(zmtp)) return false;
    zmtp->small_at = zmtp->small_end = 0;
    return true;
}

void axi_zmtp_put(axi_zmtp *zmtp, const void *bytes, size_t length)
{
    if (length > sizeof zmtp->small - zmtp->small_end) return;
    memcpy(zmtp->small + zmtp->small_end, bytes, length);
    zmtp->small_end += length;
    axi_zmtp_flush(zmtp);
}

/* ---- messages out -------------------------------------------------------------------------- */

size_t axi_zmtp_put_header(uint8_t *to, unsigned flags, uint64_t size)
{
    bool is_long = size > UINT8_MAX;
    to[0] = (uint8_t)(flags | (is_long ? AXI_ZMTP_LONG : 0));
    if (!is_long) {
        to[1] = (uint8_t)size;
        return 2;
    }
    for (int i = 0; i < 8; i++)
        to[1 + i] = (uint8_t)(size >> (56 - 8 * i));
    return 9;
}

void axi_zmtp_prepare(axi_zmtp_outgoing *outgoing, bool is_bare, const struct iovec *parts, size_t count)
{
    *outgoing = (axi_zmtp_outgoing){.parts = parts, .count = count};
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].iov_len;
    uint8_t *at = outgoing->prefix;
    if (!is_bare) at += axi_zmtp_put_header(at, AXI_ZMTP_MORE, 0);
    at += axi_zmtp_put_header(at, 0, size);
    outgoing->prefix_length = (size_t)(at - outgoing->prefix);
    outgoing->left = outgoing->prefix_length + size;
}

static struct iovec part_of(axi_zmtp_outgoing *outgoing, size_t at)
{
    if (at > 0) return outgoing->parts[at - 1];
    return (struct iovec){outgoing->prefix, outgoing->prefix_length};
}

/* What comes next, as far as it fits. */
static size_t gather(axi_zmtp_outgoing *outgoing, struct iovec parts[PARTS_AT_ONCE])
{
    size_t count = 0;
    for (size_t at = outgoing->at; at <= outgoing->count && count < PARTS_AT_ONCE; at++)
        parts[count++] = part_of(outgoing, at);
    parts[0].iov_base = (uint8_t *)parts[0].iov_base + outgoing->offset;
    parts[0].iov_len -= outgoing->offset;
    return count;
}

static void advance(axi_zmtp_outgoing *outgoing, size_t sent)
{
    outgoing->left -= sent;
    for (; outgoing->at <= outgoing->count; outgoing->at++, outgoing->offset = 0) {
        size_t rest = part_of(outgoing, outgoing->at).iov_len - outgoing->offset;
        if (sent < rest) {
            outgoing->offset += sent;
            return;
        }
        sent -= rest;
    }
}

axi_zmtp_sent axi_zmtp_send(axi_zmtp *zmtp, axi_zmtp_outgoing *outgoing)
{
    if (!zmtp->in_message && !axi_zmtp_flush(zmtp)) return AXI_ZMTP_STUCK;
    while (outgoing->left && zmtp->stage == AXI_ZMTP_READY) {
        struct iovec parts[PARTS_AT_ONCE];
        size_t count = gather(outgoing, parts);
        ssize_t sent = write_some(zmtp, parts, count);
        if (sent == 0) return AXI_ZMTP_STUCK;
        if (sent < 0) break;
        zmtp->in_message = true;
        advance(outgoing, (size_t)sent);
    }
    if (zmtp->stage != AXI_ZMTP_READY) return AXI_ZMTP_LOST;
    zmtp->in_message = false;
    axi_zmtp_flush(zmtp);
    return AXI_ZMTP_SENT;
}

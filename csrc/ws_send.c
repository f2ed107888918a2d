/* Bytes out: messages, pongs and closes, each in a frame of our own. See ws_internal.h. */
#include "ws_internal.h"

#include "mask.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

/* ---- keys ---------------------------------------------------------------------------------- */

/* One system call for many keys. Whoever could guess a key could make us write what a careless proxy between
 * here and the server takes for a request. */
static bool next_key(axi_ws *ws, uint8_t key[AXI_MASK_KEY])
{
    if (ws->noise_left < AXI_MASK_KEY) {
        ssize_t got;
        do
            got = getrandom(ws->noise, sizeof ws->noise, 0);
        while (got < 0 && errno == EINTR);
        if (got != (ssize_t)sizeof ws->noise) return false;
        ws->noise_left = sizeof ws->noise;
    }
    ws->noise_left -= AXI_MASK_KEY;
    memcpy(key, ws->noise + ws->noise_left, AXI_MASK_KEY);
    return true;
}

/* ---- control frames ------------------------------------------------------------------------ */

static bool may_write(const axi_ws *ws)
{
    return ws->link && !ws->in_frame && !ws->has_left && !axi_link_is_stuck(ws->link);
}

static bool send_control(axi_ws *ws, int opcode, const uint8_t *payload, size_t length)
{
    if (ws->is_plain) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)payload, .iov_len = length};
        return axi_link_write_frame(ws->link, opcode, &part, 1, length) == AXON_OK;
    }
    uint8_t frame[AXI_WS_HEADER + AXI_WS_CONTROL], key[AXI_MASK_KEY];
    if (!next_key(ws, key)) return false;
    size_t header = axi_ws_put_header(frame, opcode, length, key);
    axi_mask_copy(frame + header, payload, length, key, 0);
    return axi_link_write(ws->link, frame, header + length);
}

void axi_ws_send_pong(axi_ws *ws)
{
    if (!ws->owes_pong || !may_write(ws)) return;
    ws->owes_pong = false;
    if (!send_control(ws, AXI_WS_PONG, ws->pong, ws->pong_length))
        axi_ws_end(ws, AXON_ECONNECT, "connection lost while a ping was answered");
}

void axi_ws_send_close(axi_ws *ws, int code)
{
    if (!may_write(ws)) return;
    ws->has_left = true;
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    if (ws->is_plain)
        axi_link_write_close(ws->link, code == AXI_WS_NO_CODE ? AXI_WS_NORMAL : code);
    else
        send_control(ws, AXI_WS_CLOSE, payload, code == AXI_WS_NO_CODE ? 0 : sizeof payload);
}

/* ---- when the socket takes no more --------------------------------------------------------- */

/* The connection broke under a write. What the server said before is the better reason. */
static void end_by_writing(axi_ws *ws)
{
    axi_ws_read_some(ws, false);
    axi_ws_end(ws, AXON_ECONNECT, "connection lost while sending");
}

void axi_ws_flush(axi_ws *ws)
{
    if (!ws->link || !axi_link_is_stuck(ws->link)) return;
    if (!axi_link_flush(ws->link)) end_by_writing(ws);
}

/* Writes on until the link is free. What comes meanwhile is read: two peers that both only write would wait for
 * each other for ever. */
static axon_status make_way(axi_ws *ws, axi_time deadline, axon_error *err)
{
    while (ws->link && axi_link_is_stuck(ws->link)) {
        short ready, events = axi_ws_has_room(ws) ? POLLOUT | POLLIN : POLLOUT;
        axon_status status = axi_ws_wait(ws, events, deadline, &ready, err);
        if (status != AXON_OK) return status;
        if ((ready & POLLIN) && axi_ws_has_room(ws)) axi_ws_read_some(ws, false);
        if (ready & ~POLLIN) axi_ws_flush(ws);
        if (axi_left_ms(deadline, 1) == 0 && ws->link && axi_link_is_stuck(ws->link))
            return axi_fail(err, AXON_ETIMEOUT, "%s: the server takes no more", ws->name);
    }
    return ws->link ? AXON_OK : axi_ws_fail_over(ws, err);
}

/* ---- messages ------------------------------------------------------------------------------ */

/* A place in a scatter list, and in the frame that it becomes. */
typedef struct cursor {
    const struct iovec *part;
    size_t offset; /* within the part */
    uint64_t done, total;
    uint8_t key[AXI_MASK_KEY];
} cursor;

/* Masks as much as fits; how much that was. */
static size_t fill(uint8_t *to, size_t room, cursor *from)
{
    size_t filled = 0;
    while (filled < room && from->done < from->total) {
        size_t take = from->part->iov_len - from->offset;
        if (take > room - filled) take = room - filled;
        axi_mask_copy(to + filled, (const uint8_t *)from->part->iov_base + from->offset, take, from->key,
                      from->done);
        filled += take;
        from->done += take;
        from->offset += take;
        if (from->offset == from->part->iov_len) {
            from->part++;
            from->offset = 0;
        }
    }
    return filled;
}

static axon_status check_on_the_way(axi_ws *ws, const cursor *at, axi_time deadline, axon_error *err)
{
    if (atomic_load_explicit(&ws->is_cancelled, memory_order_relaxed))
        return axi_fail(err, AXON_ECANCELED, "%s: cancelled while sending", ws->name);
    if (axi_left_ms(deadline, 1) == 0)
        return axi_fail(err, AXON_ETIMEOUT, "%s: %" PRIu64 " of %" PRIu64 " bytes were sent", ws->name,
                        at->done, at->total);
    return AXON_OK;
}

static axon_status send_frame(axi_ws *ws, cursor *from, int opcode, axi_time deadline, axon_error *err)
{
    size_t filled = axi_ws_put_header(ws->chunk, opcode, from->total, from->key);
    for (;;) {
        filled += fill(ws->chunk + filled, AXI_WS_CHUNK - filled, from);
        if (!axi_link_write(ws->link, ws->chunk, filled)) {
            end_by_writing(ws);
            return axi_ws_fail_over(ws, err);
        }
        axon_status status = make_way(ws, deadline, err);
        if (status != AXON_OK || from->done == from->total) return status;
        status = check_on_the_way(ws, from, deadline, err);
        if (status != AXON_OK) return status;
        filled = 0;
    }
}

static axon_status send_plain(axi_ws *ws, const struct iovec *parts, size_t count, uint64_t total,
                              int opcode, axi_time deadline, axon_error *err)
{
    if (total > INT_MAX / 2)
        return axi_fail(err, AXON_ETOOBIG, "%s: a message of %" PRIu64 " bytes cannot be sent, limit %d",
                        ws->name, total, INT_MAX / 2);
    axon_status status = axi_link_write_frame(ws->link, opcode, parts, count, (size_t)total);
    if (status == AXON_ENOMEM) return axi_no_memory(err, total);
    if (status != AXON_OK) {
        end_by_writing(ws);
        return axi_ws_fail_over(ws, err);
    }
    return make_way(ws, deadline, err);
}

static uint64_t total_of(const struct iovec *parts, size_t count)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].iov_len;
    return total;
}

axon_status axi_ws_send_message(axi_ws *ws, const struct iovec *parts, size_t count, int opcode,
                                axi_time deadline, axon_error *err)
{
    axon_status status = make_way(ws, deadline, err); /* a pong may be half written */
    if (status != AXON_OK) return status;
    cursor from = {.part = parts, .total = total_of(parts, count)};
    if (!ws->is_plain && !next_key(ws, from.key))
        return axi_fail(err, AXON_EIO, "%s: no random numbers: %s", ws->name, strerror(errno));
    ws->in_frame = true;
    status = ws->is_plain ? send_plain(ws, parts, count, from.total, opcode, deadline, err)
                          : send_frame(ws, &from, opcode, deadline, err);
    bool is_half_sent = status != AXON_OK && status != AXON_ENOMEM && status != AXON_ETOOBIG;
    if (is_half_sent) axi_ws_end(ws, AXON_ECONNECT, "a message was left half sent");
    ws->in_frame = false;
    axi_ws_send_pong(ws);
    return status;
}

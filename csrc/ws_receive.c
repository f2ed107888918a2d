/* Bytes in: frames are read, pings answered, closes returned, messages kept. See ws_internal.h. */
#include "ws_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads in one go, so that a peer that never stops sending does not outlast the deadline. */
#define ROUNDS 16

/* ---- messages that wait -------------------------------------------------------------------- */

bool axi_ws_has_room(const axi_ws *ws)
{
    return ws->queue.count < AXI_WS_QUEUE && ws->queue.bytes <= ws->reader.max_message_bytes;
}

static void keep_message(axi_ws *ws)
{
    axi_ws_queue *queue = &ws->queue;
    axi_ws_message *last = &queue->messages[(queue->first + queue->count++) % AXI_WS_QUEUE];
    axi_ws_reader_take(&ws->reader, last);
    queue->bytes += last->length;
}

bool axi_ws_take(axi_ws *ws, axi_ws_message *message)
{
    axi_ws_queue *queue = &ws->queue;
    if (queue->count == 0) return false;
    *message = queue->messages[queue->first];
    queue->first = (queue->first + 1) % AXI_WS_QUEUE;
    queue->count--;
    queue->bytes -= message->length;
    return true;
}

void axi_ws_free_messages(axi_ws *ws)
{
    for (axi_ws_message message; axi_ws_take(ws, &message);)
        free(message.data);
}

/* ---- what frames do ------------------------------------------------------------------------ */

static const char *meaning_of(int code)
{
    switch (code) {
    case AXI_WS_NORMAL:
        return "normal closure";
    case AXI_WS_GOING_AWAY:
        return "going away";
    case AXI_WS_PROTOCOL_ERROR:
        return "protocol error";
    case 1003:
        return "unsupported data";
    case AXI_WS_NO_CODE:
        return "no code given";
    case AXI_WS_BAD_DATA:
        return "invalid data";
    case 1008:
        return "policy violation";
    case AXI_WS_TOO_BIG:
        return "message too big";
    case AXI_WS_INTERNAL_ERROR:
        return "internal error";
    case 1012:
        return "service restart";
    case 1013:
        return "try again later";
    default:
        return "private code";
    }
}

static void return_close(axi_ws *ws)
{
    const axi_ws_reader *reader = &ws->reader;
    int code = axi_ws_close_code(reader);
    axi_ws_send_close(ws, code);
    int reason = reader->control_length > 2 ? reader->control_length - 2 : 0;
    axi_ws_end(ws, AXON_ECONNECT, "the server closed the connection: %d (%s)%s%.*s", code, meaning_of(code),
               reason ? ": " : "", reason, (const char *)reader->control + 2);
}

static void break_off(axi_ws *ws)
{
    const axi_ws_reader *reader = &ws->reader;
    axi_ws_send_close(ws, reader->close_code);
    axi_ws_end(ws, reader->status, reader->status == AXON_ENOMEM ? "%s" : "the server sent %s",
               reader->fault);
}

static void owe_pong(axi_ws *ws)
{
    ws->pong_length = ws->reader.control_length;
    memcpy(ws->pong, ws->reader.control, ws->pong_length);
    ws->owes_pong = true; /* RFC 6455, section 5.5.3: the newest ping is answered, older ones need not be */
    axi_ws_send_pong(ws);
}

static void act_on(axi_ws *ws, axi_ws_event event)
{
    switch (event) {
    case AXI_WS_GOT_MESSAGE:
        keep_message(ws);
        break;
    case AXI_WS_GOT_PING:
        owe_pong(ws);
        break;
    case AXI_WS_GOT_CLOSE:
        return_close(ws);
        break;
    case AXI_WS_GOT_FAULT:
        break_off(ws);
        break;
    case AXI_WS_GOT_NOTHING:
    case AXI_WS_GOT_PONG:
        break;
    }
}

/* ---- bytes --------------------------------------------------------------------------------- */

static void end_by_reading(axi_ws *ws, ptrdiff_t outcome)
{
    const char *where = ws->reader.in_message ? " in the middle of a message" : "";
    if (outcome == AXI_READ_CLOSED)
        axi_ws_end(ws, AXON_ECONNECT, "the server hung up without a goodbye%s", where);
    else if (errno == ECONNRESET)
        axi_ws_end(ws, AXON_ECONNECT, "connection reset by the server%s", where);
    else
        axi_ws_end(ws, AXON_ECONNECT, "connection lost%s: %s", where, strerror(errno));
}

/* Receives once. False when nothing is there, or when it ended the connection. */
static bool receive(axi_ws *ws)
{
    size_t room = AXI_WS_STAGE;
    uint8_t *place = axi_ws_reader_place(&ws->reader, &room); /* a long payload needs no stage */
    ptrdiff_t got = axi_link_read(ws->link, place ? place : ws->stage, place ? room : AXI_WS_STAGE);
    if (got < 0) end_by_reading(ws, got);
    if (got <= 0) return false;
    if (place) {
        act_on(ws, axi_ws_reader_placed(&ws->reader, (size_t)got));
    } else {
        ws->stage_at = 0;
        ws->stage_end = (size_t)got;
    }
    return ws->link != NULL;
}

/* Reads what was received. */
static void read_stage(axi_ws *ws, bool one)
{
    while (ws->stage_at < ws->stage_end && ws->link && axi_ws_has_room(ws) && !(one && ws->queue.count)) {
        size_t used;
        axi_ws_event event =
            axi_ws_read(&ws->reader, ws->stage + ws->stage_at, ws->stage_end - ws->stage_at, &used);
        ws->stage_at += used;
        act_on(ws, event);
    }
}

void axi_ws_read_some(axi_ws *ws, bool one)
{
    for (int round = 0; round < ROUNDS; round++) {
        read_stage(ws, one);
        if (!ws->link || !axi_ws_has_room(ws) || (one && ws->queue.count)) return;
        if (!receive(ws)) return;
    }
}

bool axi_ws_has_unread(const axi_ws *ws)
{
    return ws->stage_at < ws->stage_end || (ws->link && axi_link_holds(ws->link));
}

/* See ws_frame.h. */
#include "ws_frame.h"

#include "mask.h"
#include "spare.h"
#include "utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FINAL = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f };

/* Up to here a message gets its memory as soon as a header announces it: untouched, it costs nothing. A longer
 * one grows as its bytes arrive, so that a header alone cannot claim memory. */
#define BELIEVED_BYTES ((size_t)4 << 20)

/* ---- writing ------------------------------------------------------------------------------- */

static uint8_t *put_big_endian(uint8_t *to, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
    return to + bytes;
}

/* The first bytes, up to the length. */
static uint8_t *put_start(uint8_t *to, int opcode, uint64_t length, unsigned masked)
{
    *to++ = (uint8_t)(FINAL | opcode);
    if (length < 126) {
        *to++ = (uint8_t)(masked | length);
        return to;
    }
    bool is_long = length > UINT16_MAX;
    *to++ = (uint8_t)(masked | (is_long ? 127 : 126));
    return put_big_endian(to, length, is_long ? 8 : 2);
}

size_t axi_ws_put_header(uint8_t header[AXI_WS_HEADER], int opcode, uint64_t length, const uint8_t key[4])
{
    uint8_t *to = put_start(header, opcode, length, MASKED);
    memcpy(to, key, 4);
    return (size_t)(to + 4 - header);
}

size_t axi_ws_put_server_header(uint8_t header[AXI_WS_HEADER], int opcode, uint64_t length)
{
    return (size_t)(put_start(header, opcode, length, 0) - header);
}

/* ---- faults -------------------------------------------------------------------------------- */

AXI_PRINTF(4, 5)
static axi_ws_event fail(axi_ws_reader *reader, axon_status status, int close_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader->fault, sizeof reader->fault, format, arguments);
    va_end(arguments);
    reader->status = status;
    reader->close_code = close_code;
    return AXI_WS_GOT_FAULT;
}

static axi_ws_event break_rule(axi_ws_reader *reader, const char *what)
{
    return fail(reader, AXON_EPROTOCOL, AXI_WS_PROTOCOL_ERROR, "%s", what);
}

/* ---- memory for a message ------------------------------------------------------------------ */

/* Room for what the frame brings, as far as it is believed, and for a zero behind it all. */
static bool reserve(axi_ws_reader *reader)
{
    uint64_t missing = reader->length + reader->left + 1, capacity = reader->capacity;
    if (missing <= capacity) return true;
    uint64_t believed = capacity > BELIEVED_BYTES / 2 ? capacity * 2 : BELIEVED_BYTES;
    uint64_t wanted = missing < believed ? missing : believed;
    if (wanted < capacity + capacity / 2) wanted = capacity + capacity / 2; /* many small fragments */
    if (wanted > SIZE_MAX / 2) return false;
    size_t got = (size_t)wanted;
    uint8_t *data = reader->data ? realloc(reader->data, got) : axi_spare_take(got, &got);
    if (!data) return false;
    reader->data = data;
    reader->capacity = got;
    return true;
}

static axi_ws_event fail_for_memory(axi_ws_reader *reader)
{
    return fail(reader, AXON_ENOMEM, AXI_WS_INTERNAL_ERROR,
                "out of memory in a message of %" PRIu64 " bytes", reader->length + reader->left);
}

/* Room for at least one more byte of payload: how many fit. */
static size_t room_for_payload(axi_ws_reader *reader)
{
    if (reader->capacity - reader->length <= 1 && !reserve(reader)) return 0;
    uint64_t room = reader->capacity - reader->length - 1;
    return (size_t)(room < reader->left ? room : reader->left);
}

/* ---- the end of a frame -------------------------------------------------------------------- */

static bool may_be_sent(int code)
{
    if (code >= 3000 && code <= 4999) return true;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

int axi_ws_close_code(const axi_ws_reader *reader)
{
    return reader->control_length < 2 ? AXI_WS_NO_CODE : reader->control[0] << 8 | reader->control[1];
}

static axi_ws_event end_close(axi_ws_reader *reader)
{
    if (reader->control_length == 1) return break_rule(reader, "a close frame of one byte");
    if (reader->control_length == 0) return AXI_WS_GOT_CLOSE;
    int code = axi_ws_close_code(reader);
    if (!may_be_sent(code))
        return fail(reader, AXON_EPROTOCOL, AXI_WS_PROTOCOL_ERROR, "a close frame with the code %d", code);
    if (!axi_is_utf8(reader->control + 2, reader->control_length - 2u))
        return fail(reader, AXON_EPROTOCOL, AXI_WS_BAD_DATA, "a close frame whose reason is not UTF-8");
    return AXI_WS_GOT_CLOSE;
}

/* Text is refused at its first wrong byte, not when all of it is here (RFC 6455, section 8.1). */
static bool check_text(axi_ws_reader *reader)
{
    const uint8_t *text = reader->data + reader->checked;
    size_t length = reader->length - reader->checked, whole = axi_utf8_cut((const char *)text, length);
    if (!axi_is_utf8(text, whole)) return false;
    reader->checked += whole;
    return whole == length || axi_utf8_is_begun(text + whole, length - whole);
}

static axi_ws_event refuse_text(axi_ws_reader *reader)
{
    return fail(reader, AXON_EPROTOCOL, AXI_WS_BAD_DATA, "a text message that is not UTF-8");
}

static axi_ws_event end_message(axi_ws_reader *reader)
{
    if (reader->is_text && reader->checked < reader->length) return refuse_text(reader);
    reader->in_message = false;
    return AXI_WS_GOT_MESSAGE;
}

static axi_ws_event end_frame(axi_ws_reader *reader)
{
    reader->in_payload = false;
    reader->header_length = 0;
    switch (reader->header[0] & OPCODE) {
    case AXI_WS_CLOSE:
        return end_close(reader);
    case AXI_WS_PING:
        return AXI_WS_GOT_PING;
    case AXI_WS_PONG:
        return AXI_WS_GOT_PONG;
    default:
        return reader->header[0] & FINAL ? end_message(reader) : AXI_WS_GOT_NOTHING;
    }
}

/* ---- the beginning of a frame -------------------------------------------------------------- */

static axi_ws_event begin_control(axi_ws_reader *reader)
{
    if ((reader->header[0] & OPCODE) > AXI_WS_PONG) return break_rule(reader, "a frame of unknown kind");
    if (!(reader->header[0] & FINAL)) return break_rule(reader, "a control frame in fragments");
    if (reader->left > AXI_WS_CONTROL) return break_rule(reader, "a control frame longer than 125 bytes");
    reader->control_length = 0;
    return AXI_WS_GOT_NOTHING;
}

static axi_ws_event begin_data(axi_ws_reader *reader)
{
    int opcode = reader->header[0] & OPCODE;
    if (opcode > AXI_WS_BINARY) return break_rule(reader, "a frame of unknown kind");
    if (opcode == AXI_WS_CONTINUATION && !reader->in_message)
        return break_rule(reader, "a continuation of no message");
    if (opcode != AXI_WS_CONTINUATION && reader->in_message)
        return break_rule(reader, "a new message inside of another");
    if (opcode != AXI_WS_CONTINUATION) {
        reader->is_text = opcode == AXI_WS_TEXT;
        reader->length = reader->checked = 0;
        reader->in_message = true;
    }
    uint64_t limit = reader->max_message_bytes;
    if (reader->length > limit || reader->left > limit - reader->length)
        return fail(reader, AXON_ETOOBIG, AXI_WS_TOO_BIG,
                    "a message of %" PRIu64 " bytes or more, limit %" PRIu64, reader->length + reader->left,
                    limit);
    return reserve(reader) ? AXI_WS_GOT_NOTHING : fail_for_memory(reader);
}

/* How long the header is, as far as its first two bytes tell. */
static unsigned header_size(const axi_ws_reader *reader)
{
    if (reader->header_length < 2) return 2;
    unsigned length = reader->header[1] & LENGTH;
    unsigned start = length == 126 ? 4 : length == 127 ? 10 : 2;
    return reader->is_server ? start + AXI_MASK_KEY : start;
}

/* Of the first two bytes: told at once, however long the header is to be. */
static axi_ws_event check_start(axi_ws_reader *reader)
{
    bool is_masked = reader->header[1] & MASKED;
    if (reader->header[0] & RESERVED) return break_rule(reader, "a frame with a reserved bit set");
    if (is_masked && !reader->is_server) return break_rule(reader, "a masked frame");
    if (!is_masked && reader->is_server) return break_rule(reader, "a frame that is not masked");
    return AXI_WS_GOT_NOTHING;
}

static axi_ws_event begin_frame(axi_ws_reader *reader)
{
    const uint8_t *header = reader->header;
    unsigned start = header_size(reader) - (reader->is_server ? AXI_MASK_KEY : 0);
    reader->left = start == 2 ? header[1] & LENGTH : 0;
    for (unsigned i = 2; i < start; i++)
        reader->left = reader->left << 8 | header[i];
    if (reader->is_server) memcpy(reader->key, header + start, sizeof reader->key);
    reader->unmasked = 0;
    if (reader->left >> 63) return break_rule(reader, "a frame whose length has its highest bit set");

    bool is_control = (header[0] & OPCODE) >= AXI_WS_CLOSE;
    axi_ws_event event = is_control ? begin_control(reader) : begin_data(reader);
    if (event != AXI_WS_GOT_NOTHING) return event;
    reader->in_payload = true;
    return reader->left == 0 ? end_frame(reader) : AXI_WS_GOT_NOTHING;
}

/* ---- reading ------------------------------------------------------------------------------- */

static axi_ws_event read_header(axi_ws_reader *reader, const uint8_t *bytes, size_t length, size_t *used)
{
    while (*used < length) {
        reader->header[reader->header_length++] = bytes[(*used)++];
        if (reader->header_length == 2 && check_start(reader) == AXI_WS_GOT_FAULT) return AXI_WS_GOT_FAULT;
        if (reader->header_length == header_size(reader)) return begin_frame(reader);
    }
    return AXI_WS_GOT_NOTHING;
}

/* Payload in the clear. The two may be the same memory, which a client's reader has nothing to do to then. */
static void copy_payload(axi_ws_reader *reader, uint8_t *to, const uint8_t *from, size_t length)
{
    if (reader->is_server)
        axi_mask_copy(to, from, length, reader->key, reader->unmasked);
    else if (to != from)
        memcpy(to, from, length);
    reader->unmasked += length;
}

static axi_ws_event count_payload(axi_ws_reader *reader, size_t length)
{
    reader->length += length;
    reader->left -= length;
    if (reader->is_text && !check_text(reader)) return refuse_text(reader);
    return reader->left == 0 ? end_frame(reader) : AXI_WS_GOT_NOTHING;
}

static axi_ws_event read_control(axi_ws_reader *reader, const uint8_t *bytes, size_t length, size_t *used)
{
    size_t take = length - *used < reader->left ? length - *used : (size_t)reader->left;
    copy_payload(reader, reader->control + reader->control_length, bytes + *used, take);
    reader->control_length = (uint8_t)(reader->control_length + take);
    reader->left -= take;
    *used += take;
    return reader->left == 0 ? end_frame(reader) : AXI_WS_GOT_NOTHING;
}

static axi_ws_event read_data(axi_ws_reader *reader, const uint8_t *bytes, size_t length, size_t *used)
{
    size_t room = room_for_payload(reader);
    if (room == 0) return fail_for_memory(reader);
    size_t take = length - *used < room ? length - *used : room;
    copy_payload(reader, reader->data + reader->length, bytes + *used, take);
    *used += take;
    return count_payload(reader, take);
}

axi_ws_event axi_ws_read(axi_ws_reader *reader, const uint8_t *bytes, size_t length, size_t *used)
{
    *used = 0;
    if (reader->status != AXON_OK) return AXI_WS_GOT_FAULT;
    axi_ws_event event = AXI_WS_GOT_NOTHING;
    while (event == AXI_WS_GOT_NOTHING && *used < length) {
        if (!reader->in_payload)
            event = read_header(reader, bytes, length, used);
        else if ((reader->header[0] & OPCODE) >= AXI_WS_CLOSE)
            event = read_control(reader, bytes, length, used);
        else
            event = read_data(reader, bytes, length, used);
    }
    return event;
}

uint8_t *axi_ws_reader_place(axi_ws_reader *reader, size_t *room)
{
    if (!reader->in_payload || (reader->header[0] & OPCODE) >= AXI_WS_CLOSE) return NULL;
    *room = room_for_payload(reader);
    return *room ? reader->data + reader->length : NULL;
}

axi_ws_event axi_ws_reader_placed(axi_ws_reader *reader, size_t length)
{
    uint8_t *place = reader->data + reader->length;
    copy_payload(reader, place, place, length);
    return count_payload(reader, length);
}

bool axi_ws_reader_is_within(const axi_ws_reader *reader)
{
    bool in_data_header = reader->header_length > 0 && (reader->header[0] & OPCODE) < AXI_WS_CLOSE;
    return reader->in_message || in_data_header;
}

void axi_ws_reader_take(axi_ws_reader *reader, axi_ws_message *message)
{
    reader->data[reader->length] = 0;
    *message = (axi_ws_message){.data = reader->data, .length = reader->length, .is_text = reader->is_text};
    reader->data = NULL;
    reader->length = reader->capacity = 0;
}

void axi_ws_reader_free(axi_ws_reader *reader)
{
    free(reader->data);
    reader->data = NULL;
    reader->length = reader->capacity = 0;
}

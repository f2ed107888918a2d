/* Any bytes as a server's or a client's frames, in pieces of any size: the same events however they arrive, and no
 * more memory than the limit allows. The first two bytes say how large the pieces are, whether payloads are put in
 * place, and who reads. */
#include "ws_frame.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT = 4096, EVENTS = 1024 };

typedef struct story {
    uint8_t events[EVENTS];
    uint64_t sums[EVENTS]; /* of the messages' bytes */
    size_t count;
} story;

static uint64_t sum_of(const uint8_t *data, size_t length)
{
    uint64_t sum = length;
    for (size_t i = 0; i < length; i++)
        sum = sum * 31 + data[i];
    return sum;
}

static void note(story *to, axi_ws_reader *reader, axi_ws_event event)
{
    if (event == AXI_WS_GOT_NOTHING) return;
    uint64_t sum = 0;
    if (event == AXI_WS_GOT_MESSAGE) {
        axi_ws_message message;
        axi_ws_reader_take(reader, &message);
        if (message.length > LIMIT || message.data[message.length] != 0) abort();
        sum = sum_of(message.data, message.length);
        free(message.data);
    } else if (event == AXI_WS_GOT_FAULT) {
        if (reader->status == AXON_OK || !reader->fault[0]) abort();
        sum = (uint64_t)reader->close_code;
    } else {
        if (reader->control_length > AXI_WS_CONTROL) abort();
        sum = sum_of(reader->control, reader->control_length);
    }
    if (to->count == EVENTS) return;
    to->events[to->count] = (uint8_t)event;
    to->sums[to->count++] = sum;
}

static void tell(story *to, const uint8_t *data, size_t size, size_t step, unsigned how)
{
    bool in_place = how & 1;
    axi_ws_reader reader = {.max_message_bytes = LIMIT, .is_server = (how & 2) != 0};
    for (size_t at = 0; at < size && reader.status == AXON_OK;) {
        size_t arrived = size - at < step ? size - at : step, used, room;
        uint8_t *place = in_place ? axi_ws_reader_place(&reader, &room) : NULL;
        axi_ws_event event;
        if (place) {
            used = arrived < room ? arrived : room;
            memcpy(place, data + at, used);
            event = axi_ws_reader_placed(&reader, used);
        } else {
            event = axi_ws_read(&reader, data + at, arrived, &used);
        }
        if (used == 0 || used > arrived || reader.capacity > 2 * LIMIT) abort();
        at += used;
        note(to, &reader, event);
    }
    axi_ws_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    static story whole, pieces;
    whole.count = pieces.count = 0;
    tell(&whole, data + 2, size - 2, size, data[1] & 2u);
    tell(&pieces, data + 2, size - 2, 1u + data[0], data[1]);
    if (whole.count != pieces.count || memcmp(whole.events, pieces.events, whole.count) != 0 ||
        memcmp(whole.sums, pieces.sums, whole.count * sizeof *whole.sums) != 0)
        abort();
    return 0;
}

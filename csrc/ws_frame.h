/* WebSocket framing (RFC 6455, section 5): writing frame headers and reading the peer's frames, in either role.
 * No input, no output, no clock: bytes in, events out. */
#ifndef AXI_WS_FRAME_H
#define AXI_WS_FRAME_H

#include "ws.h"

enum {
    AXI_WS_CONTINUATION = 0,
    AXI_WS_TEXT = 1,
    AXI_WS_BINARY = 2,
    AXI_WS_CLOSE = 8,
    AXI_WS_PING = 9,
    AXI_WS_PONG = 10
};

/* Close codes of RFC 6455, section 7.4.1, that this side names. */
enum {
    AXI_WS_NORMAL = 1000,
    AXI_WS_GOING_AWAY = 1001,
    AXI_WS_PROTOCOL_ERROR = 1002,
    AXI_WS_NO_CODE = 1005, /* never sent: the close frame was empty */
    AXI_WS_BAD_DATA = 1007,
    AXI_WS_TOO_BIG = 1009,
    AXI_WS_INTERNAL_ERROR = 1011
};

#define AXI_WS_HEADER 14   /* the longest header of a client's frame */
#define AXI_WS_CONTROL 125 /* the longest payload of a ping, a pong or a close */

/* Writes the header of a whole message in one masked frame and returns its length. */
size_t axi_ws_put_header(uint8_t header[AXI_WS_HEADER], int opcode, uint64_t length, const uint8_t key[4]);

/* The same as a server sends it: unmasked. */
size_t axi_ws_put_server_header(uint8_t header[AXI_WS_HEADER], int opcode, uint64_t length);

/* What reading came to. */
typedef enum axi_ws_event {
    AXI_WS_GOT_NOTHING, /* all bytes were read and more are needed */
    AXI_WS_GOT_MESSAGE, /* take it with axi_ws_reader_take() before reading on */
    AXI_WS_GOT_PING,    /* its payload is in `control` */
    AXI_WS_GOT_PONG,
    AXI_WS_GOT_CLOSE, /* code and reason are in `control`, see axi_ws_close_code() */
    AXI_WS_GOT_FAULT  /* nothing can be read any more: `status`, `close_code` and `fault` say why */
} axi_ws_event;

/* Reads the frames of one connection. All zero but for limit and role is one that has read nothing. */
typedef struct axi_ws_reader {
    uint64_t max_message_bytes;
    bool is_server; /* frames must be masked, and are unmasked; a client's must not be */

    /* the frame */
    uint8_t header[AXI_WS_HEADER];
    uint8_t header_length; /* of what is in `header` */
    bool in_payload;
    uint64_t left;     /* payload bytes still to come */
    uint64_t unmasked; /* payload bytes that have come */
    uint8_t key[4];

    /* the message that frames are being joined to */
    uint8_t *data;
    size_t length;
    size_t capacity;
    size_t checked; /* of a text: so much of it is UTF-8 */
    bool in_message;
    bool is_text;

    /* the last control frame */
    uint8_t control[AXI_WS_CONTROL];
    uint8_t control_length;

    /* the fault */
    axon_status status;
    int close_code;
    char fault[96];
} axi_ws_reader;

/* Reads bytes until something happened or they are used up; `*used` says how many were read. */
axi_ws_event axi_ws_read(axi_ws_reader *reader, const uint8_t *bytes, size_t length, size_t *used);

/* Inside a message's payload: the place where its next bytes belong, at most `*room` of them, so that they can
 * be received there at once. NULL elsewhere, and when there is no memory for it: then axi_ws_read() tells. */
uint8_t *axi_ws_reader_place(axi_ws_reader *reader, size_t *room);

/* `length` bytes, one at least, were put there. */
axi_ws_event axi_ws_reader_placed(axi_ws_reader *reader, size_t length);

/* Hands over the message that AXI_WS_GOT_MESSAGE announced. */
void axi_ws_reader_take(axi_ws_reader *reader, axi_ws_message *message);

/* True when the beginning of a message was read, and not yet its end. */
bool axi_ws_reader_is_within(const axi_ws_reader *reader);

/* Of the close frame in `control`: its code, AXI_WS_NO_CODE when it has none. */
int axi_ws_close_code(const axi_ws_reader *reader);

void axi_ws_reader_free(axi_ws_reader *reader);

#endif

/* ZeroMQ's wire protocol over one socket: the greeting, the handshake without security, and messages as DEALER, REQ and
 * ROUTER frame them. ZMTP 3 (rfc.zeromq.org/spec/23 and 37) and 2 (spec/15); a peer of ZMTP 1 is refused.
 *
 * Nothing here blocks, and nothing is locked: the owner waits for the descriptor, and sees to it that one thread is in
 * here at a time. */
#ifndef AXI_ZMTP_H
#define AXI_ZMTP_H

#include "internal.h"

#include <stdatomic.h>
#include <sys/uio.h>

enum {
    AXI_ZMTP_WAITING = 16,    /* messages that may wait for their reader; then no more is read */
    AXI_ZMTP_NAME = 255,      /* bytes of a peer's name, at most */
    AXI_ZMTP_PREFIX = 16,     /* bytes before a message's body, at most */
    AXI_ZMTP_DEAD_MS = 20000, /* a machine that acknowledges nothing for so long is gone */
    AXI_ZMTP_TICK_MS = 250,
    AXI_ZMTP_QUICK_TICK_MS = 20
};

/* What came. */
typedef enum axi_zmtp_found {
    AXI_ZMTP_NOTHING,
    AXI_ZMTP_BODY,     /* a frame, behind an empty one or alone */
    AXI_ZMTP_ODD,      /* more frames than that */
    AXI_ZMTP_TOO_LONG, /* more than max_bytes */
    AXI_ZMTP_NO_ROOM   /* the budget was used up */
} axi_zmtp_found;

/* A message; what is no body was thrown away, and has its length only. */
typedef struct axi_zmtp_message {
    axi_zmtp_found found;
    bool is_bare; /* no empty frame came first */
    void *data;   /* for axi_spare_give(), or for axi_unpack() */
    size_t length;
} axi_zmtp_message;

/* What all messages may take together that have not been handed out. */
typedef struct axi_zmtp_budget {
    atomic_uint_fast64_t used;
    uint64_t limit;
} axi_zmtp_budget;

typedef enum axi_zmtp_stage {
    AXI_ZMTP_GREETING,
    AXI_ZMTP_HANDSHAKE,
    AXI_ZMTP_READY,
    AXI_ZMTP_OVER
} axi_zmtp_stage;

/* One connection. Outside zmtp.c and zmtp_read.c only the first five are looked at. */
typedef struct axi_zmtp {
    int fd;
    axi_zmtp_stage stage;
    bool is_stranger; /* over: it spoke, and what it said is not the protocol */
    char why[200];    /* over: what happened; lacks its subject */
    struct {
        uint8_t length; /* 0: it has none */
        uint8_t bytes[AXI_ZMTP_NAME];
    } name; /* that the peer gave itself */

    axi_time since;        /* when it began */
    atomic_bool is_pinged; /* the peer sends pings */
    bool is_server;
    bool is_old; /* the peer speaks ZMTP 2 */
    uint64_t max_bytes;
    axi_zmtp_budget *budget; /* may be NULL */

    /* in: what was received and not yet read, the frame that is being read, the message that it is a part of */
    uint8_t *received;
    size_t received_at, received_end;
    uint8_t greeting[64];
    uint8_t greeting_length;
    uint8_t header[9];
    uint8_t header_length;
    bool in_body, is_skipped;
    uint64_t size, have; /* of the body */
    uint8_t *body;       /* NULL: skipped */
    uint64_t charged;    /* to the budget, for it */
    unsigned frames;     /* of the message, before this one */
    axi_zmtp_message message;
    axi_zmtp_message waiting[AXI_ZMTP_WAITING];
    unsigned first, count;

    /* out: small things that wait for the socket or for the end of a message */
    uint8_t small[256];
    size_t small_at, small_end;
    bool in_message;
} axi_zmtp;

/* Takes over a connected, non-blocking socket and greets; false when memory ran out: axi_zmtp_end() is due all the same. */
bool axi_zmtp_begin(axi_zmtp *zmtp, int fd, bool is_server, uint64_t max_bytes, axi_zmtp_budget *budget);

/* Closes the socket and frees everything. */
void axi_zmtp_end(axi_zmtp *zmtp);

/* Lets the peer know that it is the end, even while a child of fork() has the socket, too. */
void axi_zmtp_hang_up(axi_zmtp *zmtp);

/* Receives and reads, until `enough` messages wait, there is nothing more, or for a bounded while. The handshake, and the
 * peer's pings, are answered on the way. */
void axi_zmtp_read(axi_zmtp *zmtp, unsigned enough);

/* How often somebody is to read while nobody waits for messages. A peer's pings may have to be answered within a few
 * hundredths of a second; one that is so impatient has sent the first soon after it came. Any thread may ask. */
uint32_t axi_zmtp_tick_ms(const axi_zmtp *zmtp);

/* Something is here to be read that poll() cannot know of. */
bool axi_zmtp_has_unread(const axi_zmtp *zmtp);

/* The oldest message, which is the caller's then; AXI_ZMTP_NOTHING when none waits. */
axi_zmtp_found axi_zmtp_take(axi_zmtp *zmtp, axi_zmtp_message *message);

/* What axi_zmtp_take() would find. */
axi_zmtp_found axi_zmtp_peek(const axi_zmtp *zmtp);

/* Writes what is left of small things, but not amid a message; true when it is all out. */
bool axi_zmtp_flush(axi_zmtp *zmtp);
bool axi_zmtp_has_unsent(const axi_zmtp *zmtp);

/* A message that goes out, bit by bit. `parts` must live, and stay as they are, until it is out. */
typedef struct axi_zmtp_outgoing {
    uint8_t prefix[AXI_ZMTP_PREFIX];
    size_t prefix_length;
    const struct iovec *parts;
    size_t count;
    uint64_t left; /* bytes, prefix included */
    size_t at;     /* the part; 0 is the prefix, 1 the first one */
    size_t offset; /* within it */
} axi_zmtp_outgoing;

void axi_zmtp_prepare(axi_zmtp_outgoing *outgoing, bool is_bare, const struct iovec *parts, size_t count);

/* Writes as much as the socket takes. */
typedef enum axi_zmtp_sent { AXI_ZMTP_SENT, AXI_ZMTP_STUCK, AXI_ZMTP_LOST } axi_zmtp_sent;
axi_zmtp_sent axi_zmtp_send(axi_zmtp *zmtp, axi_zmtp_outgoing *outgoing);

/* Ends the connection, for the reason that is given; the first one counts. */
void axi_zmtp_break(axi_zmtp *zmtp, bool is_stranger, const char *format, ...) AXI_PRINTF(3, 4);

#endif

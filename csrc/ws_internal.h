/* The inside of axi_ws, for ws.c, ws_send.c and ws_receive.c. All of it is guarded by `lock`, but for what says
 * otherwise. */
#ifndef AXI_WS_INTERNAL_H
#define AXI_WS_INTERNAL_H

#include "ticker.h"
#include "ws.h"
#include "ws_frame.h"
#include "ws_link.h"
#include "ws_url.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* What is masked and written at a time. An observation goes out in one piece: each write wakes the peer, which
 * empties the socket, sleeps, and has to be woken for the next (docs/benchmarks.md). The memory is taken as it is
 * first written to. */
#define AXI_WS_CHUNK (4 << 20)
#define AXI_WS_STAGE 65536

/* Messages that may wait for the caller; beyond them, and beyond max_message_bytes, nothing more is read. */
#define AXI_WS_QUEUE 64

typedef struct axi_ws_queue {
    axi_ws_message messages[AXI_WS_QUEUE];
    unsigned first, count;
    uint64_t bytes;
} axi_ws_queue;

struct axi_ws {
    char name[AXI_URL_SHOWN + 1]; /* the URL, as it begins messages */
    axi_ws_url url;
    pid_t owner;
    pthread_mutex_t lock;
    axi_link *link; /* NULL when the connection is over */

    /* over */
    axon_status over; /* what the next call returns; AXON_OK while the connection stands */
    char why[256];

    /* in */
    axi_ws_reader reader;
    axi_ws_queue queue;
    uint8_t *stage; /* bytes that were received and not yet read */
    size_t stage_at, stage_end;

    /* out */
    bool is_plain; /* libwebsockets frames and masks */
    bool in_frame; /* a message of ours is half sent: nothing else may be */
    bool has_left; /* our close frame is out: nothing may follow it */
    uint8_t *chunk;
    uint8_t noise[256]; /* masking keys not yet used */
    size_t noise_left;
    bool owes_pong;
    uint8_t pong[AXI_WS_CONTROL];
    uint8_t pong_length;

    /* waiting; the first two are for any thread */
    atomic_bool is_cancelled;
    int wake_fd;
    axi_time looked_up;

    /* the thread that answers pings */
    axi_ticker ticker;
};

/* ---- ws.c ---------------------------------------------------------------------------------- */

/* Ends the connection; the first reason counts. */
AXI_PRINTF(3, 4) void axi_ws_end(axi_ws *ws, axon_status status, const char *format, ...);

/* Says why the connection is over: as it is the first time, AXON_ECONNECT from then on. */
axon_status axi_ws_fail_over(axi_ws *ws, axon_error *err);

/* Waits until the socket is ready for one of `events`, `*ready` says for which: none when the other thread may
 * have changed something. The lock is let go of to ask for interrupts. */
axon_status axi_ws_wait(axi_ws *ws, short events, axi_time deadline, short *ready, axon_error *err);

/* ---- ws_send.c ----------------------------------------------------------------------------- */

axon_status axi_ws_send_message(axi_ws *ws, const struct iovec *parts, size_t count, int opcode,
                                axi_time deadline, axon_error *err);

/* Sends the pong that is owed, unless something is half sent. */
void axi_ws_send_pong(axi_ws *ws);

/* Sends a close frame, as the last thing, unless something is half sent; AXI_WS_NO_CODE sends an empty one. */
void axi_ws_send_close(axi_ws *ws, int code);

/* Writes on what the socket did not take before. */
void axi_ws_flush(axi_ws *ws);

/* ---- ws_receive.c -------------------------------------------------------------------------- */

/* Reads what has come and acts on it, for a bounded while; with `one` it stops at the first message. */
void axi_ws_read_some(axi_ws *ws, bool one);

/* Something is here to be read that poll() cannot know of. */
bool axi_ws_has_unread(const axi_ws *ws);

/* The queue takes another message. */
bool axi_ws_has_room(const axi_ws *ws);

/* The oldest message that waits; false when none does. */
bool axi_ws_take(axi_ws *ws, axi_ws_message *message);

void axi_ws_free_messages(axi_ws *ws);

#endif

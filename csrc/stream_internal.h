/* The inside of axon_stream.
 *
 *   stream.c          opening, the thread that receives and reconnects, closing
 *   stream_take.c     handing messages over   stream_send.c    commands
 *   stream_message.c  text to messages        stream_buffer.c  messages that wait, by channel
 *   iso_time.c        timestamps */
#ifndef AXI_STREAM_INTERNAL_H
#define AXI_STREAM_INTERNAL_H

#include <axon/stream.h>

#include "internal.h"
#include "queue.h"
#include "ws.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* ---- messages (stream_message.c) ----------------------------------------------------------- */

typedef struct axi_channel axi_channel;

/* A message with what it stands on. Who takes it out of the buffer is the only one who has it. */
typedef struct axi_item {
    axon_message told; /* what the caller sees */
    atomic_uint references;
    axon_value *tree;
    struct axi_item *original; /* of a copy: has the memory that `told` points at */
    bool is_open;              /* its picture is decoded */
    uint64_t bytes;
    char *why; /* what told.fault points at; NULL in most */

    /* while it waits */
    axi_channel *channel;
    struct axi_item *next, *previous; /* of all that wait, in order */
    axi_place place;                  /* in its channel */
} axi_item;

/* Reads `text`, which is malloc'ed, zero-terminated and the call's, whatever comes of it. What is no message becomes a
 * fault. NULL when memory ran out. */
axi_item *axi_item_read(char *text, size_t length);

/* NULL when memory ran out. */
axi_item *axi_item_gap(const char *reason, int64_t since_ns, int64_t gap_ns, uint32_t attempts);
axi_item *axi_item_fault(const char *reason);

/* Decodes the picture of a camera_feed, in the place where its text is; it becomes a fault when there is none. For the
 * only one who has it. */
void axi_item_open(axi_item *item);

/* Sets the latency, unless the clocks differ by more than `max_latency_ns`; false when they do. */
bool axi_item_measure(axi_item *item, int64_t max_latency_ns);

/* A message of its own that shares all it points at. NULL when memory ran out. */
axi_item *axi_item_copy(axi_item *item);

axi_item *axi_item_keep(axi_item *item);
void axi_item_drop(axi_item *item);

/* A tree as JSON text, as it goes to a peer: malloc'ed. */
axon_status axi_stream_write(const axon_value *tree, const char *subject, char **text, size_t *length,
                             axon_error *err);

/* ---- messages that wait (stream_buffer.c) -------------------------------------------------- */

struct axi_channel {
    char *type; /* these three are one piece of memory */
    char *robot_id, *source_id;
    uint32_t hash;
    axi_queue items; /* that wait */
    uint64_t received, dropped, untold /* of `dropped` */, waiting;
    int64_t latency_ns, stamp_ns; /* of the last message */
    bool never_blocks;
};

typedef struct axi_stream_buffer {
    axon_overflow overflow;
    uint32_t depth, max_channels;
    uint64_t max_bytes;
    axi_channel **channels; /* one more than max_channels: it takes the rest */
    uint32_t count;
    axi_item *first, *last;
    uint64_t waiting, bytes, dropped;
} axi_stream_buffer;

bool axi_stream_buffer_init(axi_stream_buffer *buffer, const axon_stream_options *options);
void axi_stream_buffer_free(axi_stream_buffer *buffer);

/* The channel of a message, a new one if need be. NULL when memory ran out. */
axi_channel *axi_stream_channel(axi_stream_buffer *buffer, const axi_item *item);

/* True when `item` has to wait until something is taken. */
bool axi_stream_buffer_is_full(const axi_stream_buffer *buffer, const axi_channel *channel,
                               const axi_item *item);

/* Adds a message, which is the buffer's from now on, dropping older ones for want of room. */
void axi_stream_buffer_add(axi_stream_buffer *buffer, axi_channel *channel, axi_item *item);

/* The oldest message that is wanted, out of the buffer; NULL when there is none. */
axi_item *axi_stream_buffer_take(axi_stream_buffer *buffer, const axon_message_filter *filter);

/* ---- the stream ---------------------------------------------------------------------------- */

/* A command on its way: it stays with the call that waits for it. */
typedef struct axi_command {
    struct axi_command *next;
    struct iovec text;
    axi_time deadline;
    bool is_under_way, is_done;
    axon_status status;
    axon_error failure;
} axi_command;

enum { AXI_STATUSES_KEPT = 256 };

struct axon_stream {
    char *url;
    char *authorization;
    char *ca_file;
    axon_stream_options options;
    pid_t owner;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_closing;

    pthread_mutex_t lock;   /* guards all below */
    pthread_cond_t arrived; /* for those who take, and wait for a status */
    pthread_cond_t moved;   /* for the thread: room, something to send, the end */
    pthread_cond_t sent;    /* for those who send */
    axi_ws *ws;             /* NULL while there is no connection; changed by the thread alone */
    bool is_receiving;      /* axi_ws_cancel() is what wakes the thread */
    bool is_canceled;
    bool is_over; /* no connection, and none will come */
    axi_time lost_at;
    char trouble[AXON_ERROR_TEXT]; /* why there is no connection */
    axi_stream_buffer buffer;
    axi_item *statuses[AXI_STATUSES_KEPT]; /* a ring of action_plan_status, `status_count` so far */
    uint64_t status_count;
    axi_command *first_out, *last_out;
    axon_stream_stats stats;

    /* the subscriber */
    pthread_t caller;
    bool has_caller, ends_caller;
    axon_message_function function;
    void *user;
};

/* AXON_EINVAL when there is none, or it is another process's. */
axon_status axi_stream_check(const axon_stream *stream, axon_error *err);

/* Whether a call that waits has to end; with the lock held. */
axon_status axi_stream_check_waiting(const axon_stream *stream, axon_error *err);

/* Something is there for the stream's thread to do; with the lock held. */
void axi_stream_wake(axon_stream *stream);

/* Ends what axon_stream_subscribe() began (stream_take.c). */
void axi_stream_end_calling(axon_stream *stream);

/* Sends what waits to be sent: on the stream's thread, with the lock held, which is let go of meanwhile; and fails it
 * (stream_send.c). */
void axi_stream_send_all(axon_stream *stream);
void axi_stream_fail_all(axon_stream *stream, axon_status status, const char *why);

#endif

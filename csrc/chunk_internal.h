/* The inside of axon_chunk_engine: chunk.c is its slow side (submitting, asking, resetting), chunk_reply.c makes
 * chunks of replies, chunk_next.c is its fast side.
 *
 * Who owns what: a chunk is the worker's until it lies in `ready`, the controller's from when that took it out, and
 * the worker's again in `retired`. The controller changes nothing of it but `start`. All else that both sides use
 * is atomic, or written before the first chunk is published and never again. */
#ifndef AXI_CHUNK_INTERNAL_H
#define AXI_CHUNK_INTERNAL_H

#include <axon/chunk.h>

#include "array.h"
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    AXI_CHUNK_FIELDS = 64,    /* arrays of a reply that are chunks, at most */
    AXI_CHUNK_ENSEMBLE = 256, /* chunks that are averaged, at most: the newest */
    AXI_CHUNK_KEY = 256       /* bytes of a field's key, with its ending zero */
};

/* The controller's time: nanoseconds, or calls. */
typedef int64_t axi_tick;

#define AXI_CHUNK_MAX_TIME (INT64_MAX / 2) /* 146 years: sums of two times do not overflow */

typedef struct axi_chunk {
    struct axi_chunk *next; /* in `retired` */
    uint64_t number;
    uint32_t generation;    /* of episodes */
    _Atomic axi_tick start; /* when step 0 is due: its observation's, until the controller knows better */
    axi_tick end;           /* of the steps that are used; the controller's own */
    uint32_t steps;         /* that are used */
    uint32_t rows;          /* that there are */
    axon_error failure;     /* its code is not 0: this is no chunk but the news that there is none */
    double numbers[];       /* rows x width */
} axi_chunk;

/* How an action is made up. Found in the first chunk; the fast side's memory of actions lies beside it. */
typedef struct axi_chunk_layout {
    axon_chunk_field fields[AXI_CHUNK_FIELDS];
    char keys[AXI_CHUNK_FIELDS][AXI_CHUNK_KEY];
    const char *paths[AXI_CHUNK_FIELDS][AXON_MAX_DEPTH + 1]; /* into `names` */
    char names[AXI_CHUNK_FIELDS][AXI_CHUNK_KEY];             /* keys with zeros where maps end */
    size_t field_count;
    size_t width;
    bool is_linear; /* no dimension is anything else */
    uint8_t *dimensions;
    double *last;    /* the last action that came from a chunk */
    double *scratch; /* one step of one of several chunks */
} axi_chunk_layout;

/* What the controller's thread alone uses. */
typedef struct axi_player {
    uint32_t generation;
    bool has_begun;  /* an action of this episode was handed out */
    bool is_starved; /* the last one came from no chunk */
    bool has_tick;
    axi_tick tick; /* time: the last call's. Calls: their number, and never begun anew */
    axi_chunk *queued;
    axi_chunk *playing[AXI_CHUNK_ENSEMBLE]; /* oldest first; one alone but in an ensemble */
    size_t count;
    double weights[AXI_CHUNK_ENSEMBLE];
} axi_player;

/* An observation on its way to the policy. */
typedef struct axi_job {
    void *data; /* msgpack, or NULL: there is none */
    size_t length;
    axi_tick start;
    uint32_t generation;
} axi_job;

struct axon_chunk_engine {
    /* what it was opened with, never changed */
    axon_chunk_options
        options;         /* defaults that are no 0 filled in; the pointers in it are not to be used */
    axon_policy *policy; /* or NULL */
    axon_policy_function function;
    void *user;
    char **keys; /* NULL: they are found */
    size_t key_count;
    uint8_t *dimensions; /* as given, or NULL */
    char *rtc_actions_key, *rtc_delay_key;
    bool is_timed; /* ticks are nanoseconds */
    bool tells_rtc;
    double steps_per_tick;
    pid_t owner;
    axi_chunk_layout *layout; /* written by the worker before it publishes `width` */

    /* between the sides */
    _Alignas(64) _Atomic(axi_chunk *) ready;
    _Atomic(axi_chunk *) retired;
    atomic_uint generation; /* an episode's number: axon_chunk_reset() counts it up */
    atomic_uint seen;       /* the one that the controller knows of */
    atomic_bool is_hungry;  /* the controller wants a chunk */
    atomic_bool is_busy;    /* an observation of this episode is with the worker */
    atomic_int delay;       /* of delivered chunks, in steps: p90 */
    atomic_size_t width;
    _Atomic axi_tick now; /* the controller's last tick; calls: the next one's number */
    atomic_uint_fast64_t steps, starved, late, stale, skipped;

    atomic_bool in_next;

    /* the fast side */
    _Alignas(64) axi_player player;

    /* the slow side, guarded by `lock` */
    _Alignas(64) pthread_mutex_t lock;
    pthread_cond_t wake;   /* the worker: there is something to do */
    pthread_cond_t arrive; /* others: something was done */
    pthread_t worker;
    bool is_closing, has_ended, is_orphan;
    uint64_t cancels;
    bool in_call;
    bool owes_reset, reset_failed;
    void *payload; /* of that reset, as msgpack, or NULL */
    size_t payload_length;
    axi_job pending;
    bool has_submitted;
    axi_tick submitted; /* the time of the last observation, and the episode it belongs to */
    uint32_t submitted_generation;
    uint64_t observations, chunks, failures, discarded;
    float latencies[AXON_CHUNK_WINDOW], delays[AXON_CHUNK_WINDOW];
    uint64_t latency_count, delay_count;
    axon_error failure;

    /* the worker's own */
    axi_chunk *last; /* that was published; kept until the next one is */
    axi_chunk *news; /* of failures */
    bool news_is_out;
    uint64_t number;
};

/* Makes a chunk of a reply, and the engine's layout if this is the first. */
axon_status axi_chunk_read(axon_chunk_engine *engine, const axon_value *reply, axi_chunk **chunk,
                           axon_error *err);
void axi_chunk_free_layout(axi_chunk_layout *layout);

/* Gives a chunk back to the worker; any thread. */
void axi_chunk_retire(axon_chunk_engine *engine, axi_chunk *chunk);

/* Waits until there is something in `ready`. */
axon_status axi_chunk_await(axon_chunk_engine *engine, axon_error *err);

/* The exact place in a chunk, in steps; what is a rounding error away from a step is that step. */
double axi_chunk_place(const axon_chunk_engine *engine, axi_tick start, axi_tick tick);

static inline void axi_count_up(atomic_uint_fast64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed); /* one thread alone counts */
}

#endif

/* axon/chunk.h - from a slow policy to a fast controller: action chunks, handed out at the controller's rate.
 *
 * An engine asks a policy on a thread of its own and keeps the chunks that come back. One thread hands it
 * observations, another takes actions:
 *
 *     axon_chunk_options o = {.size = sizeof o, .mode = AXON_CHUNK_PREFETCH, .action_hz = 50};
 *     axon_chunk_open(&engine, policy, &o, &err);
 *     axon_chunk_submit(engine, observation, AXON_CHUNK_NOW, NULL, &err);        // whenever there is one
 *     axon_chunk_next(engine, AXON_CHUNK_NOW, action, 7, NULL, &err);            // 50 to 1000 times a second
 *
 * Place    A chunk is a row of steps. Where the controller is in it goes by `now` when action_hz is given (between
 *          two steps it is interpolated), and by calls of axon_chunk_next() when it is not: one call, one step.
 *          AXON_CHUNK_BLOCKING always goes by calls, because the robot stands still while it waits.
 * Time     `now` is in nanoseconds on any clock that does not go back, simulated ones too; the same one in every
 *          call. AXON_CHUNK_NOW reads CLOCK_MONOTONIC.
 * Stale    No action ever comes from an observation of before the last axon_chunk_reset(). What came from one
 *          observation is never handed out as though it came from a later one: a failure of the policy reaches
 *          axon_chunk_next(), or is counted and the policy asked again (on_error).
 * Errors   See axon/error.h. An error of axon_chunk_next() leaves the engine usable.
 * Threads  Opening an engine starts one thread, which calls the policy and ends in axon_chunk_close(). Actions are
 *          taken by one thread at a time; everything else may be called from any, meanwhile too.
 *          axon_chunk_next() allocates nothing, takes no lock and makes no system call, unless it has to wait: in
 *          AXON_CHUNK_BLOCKING, and for the first chunk of an episode (no_wait). Not across fork(): in the child
 *          only axon_chunk_close() is allowed.
 */
#ifndef AXON_CHUNK_H
#define AXON_CHUNK_H

#include <axon/server.h>

AXON_BEGIN

typedef struct axon_chunk_engine axon_chunk_engine;

/** The time now, as CLOCK_MONOTONIC has it; any negative number means it. */
#define AXON_CHUNK_NOW (-1)

/** When the policy is asked, and which step of its answer belongs to now. */
typedef enum axon_chunk_mode {
    /** When nothing is left; axon_chunk_next() waits. The results of openpi's ActionChunkBroker. */
    AXON_CHUNK_BLOCKING = 0,
    /** When prefetch_steps are left; the next chunk follows the last step of this one. */
    AXON_CHUNK_PREFETCH = 1,
    /** As prefetch, but a chunk begins at its observation: when it comes, the steps that have passed since then are
     *  skipped, and the rest replaces what was left. */
    AXON_CHUNK_ALIGNED = 2,
    /** Aligned, asked all the time, and what several chunks say of now is averaged: temporal ensembling as in ACT
     *  (Zhao et al. 2023, arXiv:2304.13705), weights exp(-m i), i = 0 for the oldest (ensemble_m). */
    AXON_CHUNK_ENSEMBLE = 3,
    /** Aligned, and the policy is told what is still to be executed and how long it takes (real-time chunking, Black
     *  et al. 2025, arXiv:2506.07339), if it declares that it takes this: docs/control.md. */
    AXON_CHUNK_RTC = 4
} axon_chunk_mode;

/** What is handed out when no step is left, or the next ones are late. */
typedef enum axon_chunk_empty {
    AXON_CHUNK_HOLD = 0, /**< the last action, 0 in dimensions marked AXON_DIM_VELOCITY: the robot stops */
    AXON_CHUNK_REPEAT = 1, /**< the last action: velocities and deltas go on */
    AXON_CHUNK_ZERO = 2,   /**< 0, but the last number in dimensions marked AXON_DIM_STEPPED */
    AXON_CHUNK_RAISE = 3   /**< nothing: AXON_ETIMEOUT */
} axon_chunk_empty;

/** What axon_chunk_next() does about a policy that failed. */
typedef enum axon_chunk_on_error {
    AXON_CHUNK_REPORT = 0, /**< returns the failure, once; what was left of the chunk follows after that */
    AXON_CHUNK_RETRY = 1   /**< nothing: it is counted, and the policy asked again */
} axon_chunk_on_error;

/** One dimension of an action: how it goes from one step to the next, one of the first three, and what it is. */
typedef enum axon_chunk_dimension {
    AXON_DIM_LINEAR = 0, /**< in a straight line */
    /** It keeps its number until the next step, as a gripper that is open or shut; in an ensemble the newest chunk
     *  decides. */
    AXON_DIM_STEPPED = 1,
    AXON_DIM_ANGLE = 2,   /**< radians, the shorter way round; handed out in -pi to pi */
    AXON_DIM_VELOCITY = 4 /**< added to one of these: a velocity or a delta, 0 when the robot is to hold */
} axon_chunk_dimension;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_chunk_options {
    size_t size;                  /**< sizeof(axon_chunk_options); 0 is AXON_EINVAL */
    axon_chunk_mode mode;         /**< default AXON_CHUNK_BLOCKING */
    axon_chunk_empty on_empty;    /**< default AXON_CHUNK_HOLD */
    axon_chunk_on_error on_error; /**< default AXON_CHUNK_REPORT */
    /** Steps of a chunk that are used; a chunk that has fewer is AXON_EPROTOCOL. Default all that it has. */
    uint32_t action_horizon;
    /** An observation is asked for when so many steps are left, or as many as the policy needed lately (9 of 10
     *  times) and one, when that is more. Default half a chunk. */
    uint32_t prefetch_steps;
    double action_hz; /**< steps per second of a chunk, 0.001 to 10 000; default: one step per call */
    /** For AXON_CHUNK_BLOCKING with action_hz: calls per second, so that a step lasts control_hz / action_hz calls;
     *  0.001 to 100 000. Default action_hz. */
    double control_hz;
    /** m of the ensemble's weights: larger ones make less of new chunks. Negative: 0, all weigh the same.
     *  Default 0.01, as ACT's. */
    double ensemble_m;
    /** Which arrays of a reply are chunks, ending with NULL; "arm.joints" is `joints` of the map `arm`. Default:
     *  `actions`, `action`, what is in a map of that name or begins with "action.", and the arrays of numbers whose
     *  first dimension is as long as theirs. */
    const char *const *keys;
    /** What each number of an action is, sums of axon_chunk_dimension; copied. Default all AXON_DIM_LINEAR. */
    const int32_t *dimensions;
    size_t dimension_count; /**< of them; must be the width of an action */
    /** 1: actions may hold NaN and infinity; default 0: AXON_EPROTOCOL, naming the place. */
    int32_t allow_nan;
    /** 1: without a first chunk axon_chunk_next() is AXON_ETIMEOUT at once; default 0: it waits. Not in
     *  AXON_CHUNK_BLOCKING. */
    int32_t no_wait;
    uint32_t wait_ms;            /**< the longest wait of axon_chunk_next(); default 60 000 */
    const char *rtc_actions_key; /**< of what is still to be executed; default "prev_chunk_left_over" */
    const char *rtc_delay_key;   /**< of the delay in steps; default "inference_delay" */
} axon_chunk_options;

/** Steps or numbers of an action that are more are AXON_EPROTOCOL. */
#define AXON_CHUNK_MAX_STEPS 4096
#define AXON_CHUNK_MAX_WIDTH 4096

/** Opens an engine over a session.
 *  @param policy  the engine's alone until axon_chunk_close(), which leaves it open; nothing but axon_policy_cancel(),
 *                 which ends an inference under way, may be called for it meanwhile
 *  @param opts    read during the call only; may be NULL
 *  @param engine  the caller's; free it with axon_chunk_close() */
AXON_API axon_status axon_chunk_open(axon_chunk_engine **engine, axon_policy *policy,
                                     const axon_chunk_options *opts, axon_error *err);

/** Opens an engine over a function, which is called on the engine's thread, one call at a time; with
 *  AXON_REQUEST_RESET after an axon_chunk_reset(). What it fails with is what axon_chunk_next() returns. In
 *  AXON_CHUNK_RTC it is taken to know real-time chunking.
 *  @param policy  see axon_policy_function; the observation it gets is a copy of the submitted one */
AXON_API axon_status axon_chunk_open_function(axon_chunk_engine **engine, axon_policy_function policy,
                                              void *user, const axon_chunk_options *opts, axon_error *err);

/** Whether an observation is asked for: axon_chunk_submit() would take one. */
AXON_API int32_t axon_chunk_wants(const axon_chunk_engine *engine);

/** Hands over an observation, when one is asked for; otherwise does nothing, so that it may be called for each.
 *  @param observation  a map that is not empty; copied when it is taken
 *  @param now          when it was taken; see the top
 *  @param taken        1 when it was; may be NULL
 *  @return AXON_EINVAL: it does not travel, naming the place; or a time before that of the last one */
AXON_API axon_status axon_chunk_submit(axon_chunk_engine *engine, const axon_value *observation,
                                       int64_t now, int32_t *taken, axon_error *err);

/** Where an action came from. */
typedef struct axon_chunk_info {
    uint64_t chunk;  /**< the number of its chunk (in an ensemble the newest), from 1 on; 0: none yet */
    double step;     /**< its place in that chunk: 3.25 lies between the steps 3 and 4 */
    int32_t starved; /**< 1: nothing was left, and on_empty said what to do */
    int32_t wants;   /**< 1: an observation is asked for */
} axon_chunk_info;

/** The action for now.
 *  @param now     see the top
 *  @param action  room for `room` numbers; axon_chunk_width() of them are written on AXON_OK
 *  @param info    may be NULL; written on AXON_OK
 *  @return what the policy failed with, once (on_error); AXON_EPROTOCOL: a reply without chunks, of another width
 *          than before, with too few steps or a NaN; AXON_ETIMEOUT: nothing is left (AXON_CHUNK_RAISE), or
 *          nothing came in time; AXON_EINVAL: too little room, a time before that of the last call, an
 *          observation's time by another clock, another thread in this call */
AXON_API axon_status axon_chunk_next(axon_chunk_engine *engine, int64_t now, double *action, size_t room,
                                     axon_chunk_info *info, axon_error *err);

/** Waits until no inference is under way: the last observation that was taken has become a chunk, or failed.
 *  @return AXON_ETIMEOUT */
AXON_API axon_status axon_chunk_wait(axon_chunk_engine *engine, uint32_t timeout_ms, axon_error *err);

/** Begins an episode: what is left and what is under way is discarded, an inference by a session is cancelled, the
 *  policy is reset before it is asked again, and time may begin anew. Does not wait.
 *  @param payload  goes along with the policy's reset; NULL or empty for none; copied
 *  @return AXON_EINVAL: a payload that does not travel */
AXON_API axon_status axon_chunk_reset(axon_chunk_engine *engine, const axon_value *payload,
                                      axon_error *err);

/** The numbers of one action; 0 until the first chunk is here. They stay the same for the engine's life. */
AXON_API size_t axon_chunk_width(const axon_chunk_engine *engine);

/** One array of the reply whose rows are steps: its part of an action. */
typedef struct axon_chunk_field {
    const char *key;         /**< "actions", "arm.joints"; lives as long as the engine */
    const char *const *path; /**< the keys that lead to it, NULL behind them: "arm", "joints"; likewise */
    axon_dtype dtype;        /**< what the policy sent; handed out as double */
    size_t offset;           /**< its first number in an action */
    size_t count;            /**< its numbers in an action */
    int32_t ndim;            /**< of one step */
    int64_t shape[AXON_MAX_NDIM]; /**< of one step */
} axon_chunk_field;

/** The field at `index`; NULL beyond the end, and until the first chunk is here. Lives as long as the engine. */
AXON_API const axon_chunk_field *axon_chunk_get_field(const axon_chunk_engine *engine, size_t index);

#define AXON_CHUNK_WINDOW 32 /* inferences that the latency is taken over: the last ones */

typedef struct axon_chunk_stats {
    uint64_t steps;        /**< actions that axon_chunk_next() handed out, or owed (AXON_CHUNK_RAISE) */
    uint64_t starved;      /**< of these, when nothing was left */
    uint64_t chunks;       /**< chunks that the policy made and that were not discarded */
    uint64_t late;         /**< of these, that came when the one before was used up; none when blocking */
    uint64_t stale;        /**< of these, that came when all their steps had passed: not one was used */
    uint64_t skipped;      /**< steps that had passed when their chunk came */
    uint64_t observations; /**< that were taken */
    uint64_t failures;     /**< of inferences and resets, whatever was done about them */
    uint64_t discarded;    /**< inferences that a reset made void */
    int32_t rtc;           /**< 1: the policy is told what is still to be executed */
    int32_t delay_steps;   /**< p90 of the steps that the controller made while the policy worked */
    double latency_ms;     /**< p90 of an inference, in real time */
    double latency_p50_ms;
    double latency_max_ms; /**< all three over the last AXON_CHUNK_WINDOW */
    axon_error failure;    /**< the last one; its code is 0 when there was none */
} axon_chunk_stats;

/** @param stats  the caller's; written whole */
AXON_API axon_status axon_chunk_get_stats(axon_chunk_engine *engine, axon_chunk_stats *stats,
                                          axon_error *err);

/** Ends an axon_chunk_next() or axon_chunk_wait() that is waiting with AXON_ECANCELED; does nothing when none is. */
AXON_API void axon_chunk_cancel(axon_chunk_engine *engine);

/** Cancels a session's inference, waits for a function's, and frees everything but the policy.
 *  Called by the function itself, it only says that the engine is to end when the function returns. No other
 *  thread may be in a call of the engine, nor enter one.
 *  @param engine  may be NULL */
AXON_API void axon_chunk_close(axon_chunk_engine *engine);

AXON_END

#endif

/* axon/pace.h - a control loop's clock: ticks at absolute times, and how well they were kept.
 *
 *     axon_pacer *pacer;
 *     axon_tick tick;
 *     if (axon_pacer_open(&pacer, 200.0, &err) != AXON_OK) ...
 *     while (axon_pacer_wait(pacer, &tick, &err) == AXON_OK)
 *         control(tick.now_ns);
 *     axon_pacer_close(pacer);
 *
 * Ticks   Tick n is due n periods after the first one, which is when axon_pacer_wait() was first called. Each is
 *         reckoned from the first, so that no error adds up: after an hour the loop is where it was meant to be.
 * Overrun When the work between two waits outlasts the period, the next wait returns at once, for the latest tick
 *         that was due; those before it are left out (`missed`), never made up for. The ticks after it keep to the same
 *         times.
 * Threads One thread waits. axon_pacer_stop() and axon_pacer_get_stats() may be called from any.
 * Errors  As in axon/error.h.
 */
#ifndef AXON_PACE_H
#define AXON_PACE_H

#include <axon/error.h>
#include <axon/stats.h>

AXON_BEGIN

typedef struct axon_pacer axon_pacer;

/** @param rate_hz  ticks per second, 0.001 to 100 000
 *  @param out      the pacer, the caller's; end it with axon_pacer_close() */
AXON_API axon_status axon_pacer_open(axon_pacer **out, double rate_hz, axon_error *err);

/** One tick. Times are of CLOCK_MONOTONIC, in ns. */
typedef struct axon_tick {
    uint64_t number; /**< periods since the first tick, those that were left out included */
    int64_t due_ns;  /**< when it was to be */
    int64_t now_ns;  /**< when it was */
    uint64_t missed; /**< ticks left out just before it */
} axon_tick;

/** Waits for the next tick; the first one is now.
 *  While it sleeps, the thread's timer slack is 1 ns (PR_SET_TIMERSLACK); afterwards it is what it was.
 *  @param tick  which one it was; may be NULL
 *  @return AXON_ECANCELED: axon_pacer_stop() was called, or the interrupt function ended the wait, after which the
 *          next call waits for the same tick */
AXON_API axon_status axon_pacer_wait(axon_pacer *pacer, axon_tick *tick, axon_error *err);

/** Ends the wait that is under way, and every later one, with AXON_ECANCELED. Any thread, signal handlers too; the
 *  waiting thread notices within 20 ms. Does nothing to NULL. */
AXON_API void axon_pacer_stop(axon_pacer *pacer);

/** Forgets a stop: the next wait is for a first tick again. The counters and the window go on. */
AXON_API axon_status axon_pacer_restart(axon_pacer *pacer, axon_error *err);

/* ---- with a clock of the caller's own ------------------------------------------------------ */

/* axon_pacer_wait() is these three calls, with CLOCK_MONOTONIC as `now_ns`: plan, sleep until then, record. With a
 * simulation's time in place of it, an hour of ticks takes no time at all. */

/** When the next tick is due. Asked again before axon_pacer_record(), it is about the same tick.
 *  @param now_ns  never less than in the call before
 *  @param due_ns  not after now_ns where the tick is to be now */
AXON_API axon_status axon_pacer_plan(axon_pacer *pacer, int64_t now_ns, int64_t *due_ns, axon_error *err);

/** Sleeps until a time of CLOCK_MONOTONIC.
 *  @return AXON_ECANCELED as axon_pacer_wait() */
AXON_API axon_status axon_pacer_sleep(axon_pacer *pacer, int64_t until_ns, axon_error *err);

/** The tick that was planned happened at now_ns. @param tick  may be NULL */
AXON_API axon_status axon_pacer_record(axon_pacer *pacer, int64_t now_ns, axon_tick *tick, axon_error *err);

/* ---- how well it went ---------------------------------------------------------------------- */

typedef struct axon_pacer_stats {
    double rate_hz;     /**< what was asked for */
    double achieved_hz; /**< ticks per second since the first tick; 0 before the second */
    uint64_t ticks;     /**< waits that returned AXON_OK */
    uint64_t overruns;  /**< of these, begun when the tick was past */
    uint64_t missed;    /**< ticks that overruns left out */
    /** ms from when a tick was due to when the wait for it returned; without overruns */
    axon_percentiles wake_error;
    axon_percentiles jitter; /**< ms by which the time from one tick to the next was off the period */
} axon_pacer_stats;

/** @param stats  the caller's; written whole */
AXON_API axon_status axon_pacer_get_stats(const axon_pacer *pacer, axon_pacer_stats *stats,
                                          axon_error *err);

/** Frees everything. Nobody may be waiting. @param pacer  may be NULL */
AXON_API void axon_pacer_close(axon_pacer *pacer);

AXON_END

#endif

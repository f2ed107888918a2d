/* See axon/pace.h. Planning is arithmetic on times that are given to it, and knows no clock; sleeping is the only part
 * that does. So a simulation paces itself with the code that paces a robot. */
#include <axon/pace.h>

#include "internal.h"
#include "stats.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static const double LEAST_HZ = 0.001, MOST_HZ = 100000.0;

enum {
    SLICE_NS = 20000000, /* the longest single sleep: how soon a stop is noticed */
    NEAR_NS =
        50000000 /* a wait that ends so soon does not ask the interrupt function, which may take a while */
};

#define LAST_NS (INT64_MAX / 2) /* times up to here can be added to without overflow */

/* The last samples, in ms. One thread adds, any thread reads: each sample by itself is whole. */
typedef struct sample_window {
    _Atomic float samples[AXON_STATS_WINDOW];
    atomic_uint_fast64_t count;
} sample_window;

struct axon_pacer {
    double rate_hz, period_ns;
    atomic_bool is_stopped;

    /* the waiting thread's */
    bool has_begun, is_planned, overran;
    axi_time start, due, last; /* last: the newest time that was told */
    uint64_t number;           /* of the tick that is planned, or was last */
    uint64_t missed;           /* just before it */

    /* written by the waiting thread, read by any */
    atomic_int_fast64_t first_tick, last_tick; /* since the last restart */
    atomic_uint_fast64_t run_ticks;            /* likewise */
    atomic_uint_fast64_t ticks, overruns, all_missed;
    sample_window wake_errors, jitters;
};

axon_status axon_pacer_open(axon_pacer **out, double rate_hz, axon_error *err)
{
    if (!out) return axi_fail(err, AXON_EINVAL, "out: it is NULL");
    if (!(rate_hz >= LEAST_HZ && rate_hz <= MOST_HZ))
        return axi_fail(err, AXON_EINVAL, "pacer: a rate of %g Hz, not %g to %.0f (rate_hz)", rate_hz,
                        LEAST_HZ, MOST_HZ);
    axon_pacer *pacer = calloc(1, sizeof *pacer);
    if (!pacer) return axi_no_memory(err, sizeof *pacer);
    pacer->rate_hz = rate_hz;
    pacer->period_ns = 1e9 / rate_hz;
    *out = pacer;
    return AXON_OK;
}

void axon_pacer_close(axon_pacer *pacer)
{
    free(pacer);
}

void axon_pacer_stop(axon_pacer *pacer)
{
    if (pacer) atomic_store(&pacer->is_stopped, true);
}

axon_status axon_pacer_restart(axon_pacer *pacer, axon_error *err)
{
    if (!pacer) return axi_fail(err, AXON_EINVAL, "pacer: it is NULL");
    pacer->has_begun = pacer->is_planned = false;
    atomic_store(&pacer->run_ticks, 0);
    atomic_store(&pacer->is_stopped, false);
    return AXON_OK;
}

/* ---- planning ------------------------------------------------------------------------------ */

/* From the first tick, not from the one before: the rounding of one period is not added up. */
static axi_time due_of(const axon_pacer *pacer, uint64_t number)
{
    return pacer->start + (axi_time)llround((double)number * pacer->period_ns);
}

/* Goes on to the latest tick that is due; `number` is of one that is past. */
static void skip_missed(axon_pacer *pacer, axi_time now)
{
    uint64_t latest = (uint64_t)((double)(now - pacer->start) / pacer->period_ns);
    while (due_of(pacer, latest) > now) /* the division was rounded */
        latest--;
    while (due_of(pacer, latest + 1) <= now)
        latest++;
    pacer->missed += latest - pacer->number;
    pacer->number = latest;
    pacer->overran = true;
}

/* Takes note of what time it is. */
static axon_status move_on(axon_pacer *pacer, axi_time now, axon_error *err)
{
    if (now < 0 || now > LAST_NS)
        return axi_fail(err, AXON_EINVAL, "pacer: a time of %" PRId64 " ns, not 0 to %" PRId64 " (now_ns)",
                        now, (int64_t)LAST_NS);
    if (pacer->has_begun && now < pacer->last)
        return axi_fail(err, AXON_EINVAL,
                        "pacer: time goes backwards, from %" PRId64 " to %" PRId64 " ns (now_ns)",
                        pacer->last, now);
    pacer->last = now;
    return AXON_OK;
}

axon_status axon_pacer_plan(axon_pacer *pacer, int64_t now_ns, int64_t *due_ns, axon_error *err)
{
    if (!pacer) return axi_fail(err, AXON_EINVAL, "pacer: it is NULL");
    if (!due_ns) return axi_fail(err, AXON_EINVAL, "due_ns: it is NULL");
    axon_status status = move_on(pacer, now_ns, err);
    if (status != AXON_OK) return status;
    if (!pacer->is_planned) {
        pacer->missed = 0;
        pacer->overran = false;
        pacer->number = pacer->has_begun ? pacer->number + 1 : 0;
    }
    if (!pacer->has_begun) pacer->start = now_ns;
    pacer->has_begun = pacer->is_planned = true;
    if (due_of(pacer, pacer->number) < now_ns) skip_missed(pacer, now_ns);
    *due_ns = pacer->due = due_of(pacer, pacer->number);
    return AXON_OK;
}

/* ---- sleeping ------------------------------------------------------------------------------ */

/* One sleep, as sharp as the kernel can: by its leave, timers go off some 50 us late otherwise. False: a signal. */
static bool sleep_once(axi_time until)
{
    struct timespec moment = {.tv_sec = (time_t)(until / 1000000000),
                              .tv_nsec = (long)(until % 1000000000)};
    int slack = prctl(PR_GET_TIMERSLACK);
    bool sharpen = slack > 1 && prctl(PR_SET_TIMERSLACK, 1UL) == 0;
    int problem = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
    if (sharpen) prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
    return problem != EINTR;
}

axon_status axon_pacer_sleep(axon_pacer *pacer, int64_t until_ns, axon_error *err)
{
    if (!pacer) return axi_fail(err, AXON_EINVAL, "pacer: it is NULL");
    axi_time now = axi_now(), asked = now;
    for (;;) {
        if (atomic_load(&pacer->is_stopped)) return axi_fail(err, AXON_ECANCELED, "pacer: it was stopped");
        if (now >= until_ns) return AXON_OK;
        bool slept = sleep_once(until_ns - now > SLICE_NS ? now + SLICE_NS : until_ns);
        now = axi_now();
        bool is_time =
            now - asked >= (axi_time)AXI_LOOK_UP_MS * 1000000 - SLICE_NS && until_ns - now > NEAR_NS;
        if (slept && !is_time) continue;
        if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "pacer: the wait was interrupted");
        asked = now = axi_now();
    }
}

/* ---- recording ----------------------------------------------------------------------------- */

static void add_sample(sample_window *window, axi_time ns)
{
    uint64_t count = atomic_load_explicit(&window->count, memory_order_relaxed);
    atomic_store_explicit(&window->samples[count % AXON_STATS_WINDOW], (float)((double)ns / 1e6),
                          memory_order_relaxed);
    atomic_store_explicit(&window->count, count + 1, memory_order_release);
}

static axon_percentiles percentiles_of(const sample_window *window)
{
    float samples[AXON_STATS_WINDOW];
    uint64_t count = atomic_load_explicit(&window->count, memory_order_acquire);
    if (count > AXON_STATS_WINDOW) count = AXON_STATS_WINDOW;
    for (size_t i = 0; i < count; i++)
        samples[i] = atomic_load_explicit(&window->samples[i], memory_order_relaxed);
    return axi_percentiles_of(samples, (size_t)count);
}

static void count_tick(axon_pacer *pacer, axi_time now)
{
    bool is_first = atomic_load(&pacer->run_ticks) == 0;
    if (is_first)
        atomic_store(&pacer->first_tick, now);
    else
        add_sample(&pacer->jitters,
                   llabs(now - atomic_load(&pacer->last_tick) - (axi_time)llround(pacer->period_ns)));
    if (!is_first && !pacer->overran) add_sample(&pacer->wake_errors, now - pacer->due);
    atomic_store(&pacer->last_tick, now);
    atomic_fetch_add(&pacer->run_ticks, 1);
    atomic_fetch_add(&pacer->ticks, 1);
    atomic_fetch_add(&pacer->overruns, pacer->overran);
    atomic_fetch_add(&pacer->all_missed, pacer->missed);
}

axon_status axon_pacer_record(axon_pacer *pacer, int64_t now_ns, axon_tick *tick, axon_error *err)
{
    if (!pacer) return axi_fail(err, AXON_EINVAL, "pacer: it is NULL");
    if (!pacer->is_planned)
        return axi_fail(err, AXON_EINVAL, "pacer: a tick that was not planned (axon_pacer_plan)");
    axon_status status = move_on(pacer, now_ns, err);
    if (status != AXON_OK) return status;
    pacer->is_planned = false;
    count_tick(pacer, now_ns);
    if (tick)
        *tick = (axon_tick){
            .number = pacer->number, .due_ns = pacer->due, .now_ns = now_ns, .missed = pacer->missed};
    return AXON_OK;
}

axon_status axon_pacer_wait(axon_pacer *pacer, axon_tick *tick, axon_error *err)
{
    int64_t due;
    axon_status status = axon_pacer_plan(pacer, axi_now(), &due, err);
    if (status == AXON_OK) status = axon_pacer_sleep(pacer, due, err);
    return status == AXON_OK ? axon_pacer_record(pacer, axi_now(), tick, err) : status;
}

axon_status axon_pacer_get_stats(const axon_pacer *pacer, axon_pacer_stats *stats, axon_error *err)
{
    if (!pacer) return axi_fail(err, AXON_EINVAL, "pacer: it is NULL");
    if (!stats) return axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    uint64_t intervals = atomic_load(&pacer->run_ticks);
    axi_time length = atomic_load(&pacer->last_tick) - atomic_load(&pacer->first_tick);
    *stats = (axon_pacer_stats){
        .rate_hz = pacer->rate_hz,
        .achieved_hz = intervals > 1 && length > 0 ? (double)(intervals - 1) * 1e9 / (double)length : 0,
        .ticks = atomic_load(&pacer->ticks),
        .overruns = atomic_load(&pacer->overruns),
        .missed = atomic_load(&pacer->all_missed),
        .wake_error = percentiles_of(&pacer->wake_errors),
        .jitter = percentiles_of(&pacer->jitters),
    };
    return AXON_OK;
}

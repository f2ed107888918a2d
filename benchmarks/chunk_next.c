/* What axon_chunk_next() takes, in ns: `chunk_next`. One line per case: mode, numbers of an action, and of the calls
 * the mean and the 99th percentile.
 *
 * A controller of 1000 Hz over a policy of 50 Hz, chunks of 50 steps, on simulated time; the policy is a function, which is
 * asked between the timed calls, at most every 80 ms, so that an ensemble is of 12 chunks. Calls are timed one by
 * one; what the clock itself takes is taken off. */
#include <axon/chunk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEPS = 50, CALLS = 100000, INFERENCE_MS = 80, MS = 1000000 };

typedef struct {
    double numbers[STEPS * 64];
    int64_t width;
} planner;

static axon_status plan(void *user, axon_request_kind kind, const axon_value *value, axon_value **actions,
                        axon_error *err)
{
    (void)value, (void)err;
    planner *self = user;
    if (kind == AXON_REQUEST_RESET) return AXON_OK;
    axon_array array = {
        .dtype = AXON_FLOAT64, .ndim = 2, .data = self->numbers, .shape = {STEPS, self->width}};
    *actions = axon_value_map();
    return axon_value_set(*actions, "actions", axon_value_array(&array));
}

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int by_size(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void die(const axon_error *err)
{
    fprintf(stderr, "chunk_next: %s\n", err->message);
    exit(1);
}

/* The least that two readings of the clock are apart. */
static int64_t clock_costs(void)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < 10000; i++) {
        int64_t begin = clock_ns(), took = clock_ns() - begin;
        if (took < least) least = took;
    }
    return least;
}

/* An observation, if it is wanted; its chunk is there when this returns. */
static void feed(axon_chunk_engine *engine, const axon_value *observation, int64_t now)
{
    axon_error err;
    int32_t is_taken = 0;
    if (axon_chunk_submit(engine, observation, now, &is_taken, &err) != AXON_OK) die(&err);
    if (is_taken && axon_chunk_wait(engine, 10000, &err) != AXON_OK) die(&err);
}

static void measure(const char *name, axon_chunk_mode mode, int64_t width, int64_t *times, int64_t clock)
{
    planner policy = {.width = width};
    for (int i = 0; i < STEPS * 64; i++)
        policy.numbers[i] = i * 0.25;
    axon_chunk_options o = {.size = sizeof o, .mode = mode, .action_hz = 50};
    if (mode == AXON_CHUNK_BLOCKING) o.control_hz = 1000;
    axon_error err;
    axon_chunk_engine *engine;
    if (axon_chunk_open_function(&engine, plan, &policy, &o, &err) != AXON_OK) die(&err);
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "at", axon_value_int(0));
    double action[64], sum = 0;
    for (int64_t i = 0; i < CALLS; i++) {
        if (i % INFERENCE_MS == 0 || mode == AXON_CHUNK_BLOCKING) feed(engine, observation, i * MS);
        int64_t begin = clock_ns();
        axon_status status = axon_chunk_next(engine, i * MS, action, 64, NULL, &err);
        times[i] = clock_ns() - begin - clock;
        if (status != AXON_OK) die(&err);
        sum += (double)times[i];
    }
    qsort(times, CALLS, sizeof *times, by_size);
    printf("%s %lld %.1f %lld\n", name, (long long)width, sum / CALLS, (long long)times[CALLS * 99 / 100]);
    axon_value_free(observation);
    axon_chunk_close(engine);
}

int main(void)
{
    static const char *const names[] = {"blocking", "prefetch", "aligned", "ensemble", "rtc"};
    int64_t *times = malloc(CALLS * sizeof *times), clock = clock_costs();
    if (!times) return 1;
    for (int mode = AXON_CHUNK_BLOCKING; mode <= AXON_CHUNK_RTC; mode++)
        for (int64_t width = 7; width <= 14; width += 7)
            measure(names[mode], (axon_chunk_mode)mode, width, times, clock);
    free(times);
    return 0;
}

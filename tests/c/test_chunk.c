/* The chunk engine: over a function that the test steps, on a clock of the test's own. */
#include "checks.h"

#include <axon/chunk.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 }; /* never to be reached */

static axon_error err;

/* ---- a policy ------------------------------------------------------------------------------------ */

/* Step i of the answer to observation {"n": n} is (n + i, -(n + i)). */
typedef struct planner {
    atomic_int steps, asked, resets, gate; /* gate: answers that it may still give; negative: any number */
    atomic_int fails;                      /* so many times */
    const char *key;
    axon_value *(*answer)(struct planner *self, int64_t n);
    double numbers[64 * 2];
    float floats[16];
    int64_t told_delay;
    double told_left[64];
    size_t told_rows;
} planner;

static axon_value *array_of(axon_dtype dtype, int32_t ndim, const int64_t *shape, const void *data)
{
    axon_array array = {.dtype = dtype, .ndim = ndim, .data = data};
    memcpy(array.shape, shape, (size_t)ndim * sizeof *shape);
    return axon_value_array(&array);
}

static axon_value *plan(planner *self, int64_t n)
{
    int steps = atomic_load(&self->steps);
    for (int i = 0; i < steps; i++) {
        self->numbers[2 * i] = (double)(n + i);
        self->numbers[2 * i + 1] = -(double)(n + i);
    }
    axon_value *reply = axon_value_map();
    axon_value_set(reply, self->key ? self->key : "actions",
                   array_of(AXON_FLOAT64, 2, (int64_t[]){steps, 2}, self->numbers));
    return reply;
}

static void note_rtc(planner *self, const axon_value *observation)
{
    const axon_array *left;
    self->told_rows = 0;
    if (axon_value_as_array(axon_value_get(observation, "prev_chunk_left_over"), &left) != AXON_OK) return;
    self->told_rows = (size_t)left->shape[0];
    for (size_t i = 0; i < self->told_rows; i++) {
        float number;
        memcpy(&number, (const char *)left->data + i * 2 * sizeof number, sizeof number);
        self->told_left[i] = (double)number;
    }
    axon_value_as_int(axon_value_get(observation, "inference_delay"), &self->told_delay);
}

static axon_status make_plan(void *user, axon_request_kind kind, const axon_value *value,
                             axon_value **actions, axon_error *error)
{
    planner *self = user;
    if (kind == AXON_REQUEST_RESET) {
        atomic_fetch_add(&self->resets, 1);
        return AXON_OK;
    }
    int64_t n = 0;
    axon_value_as_int(axon_value_get(value, "n"), &n);
    note_rtc(self, value);
    atomic_fetch_add(&self->asked, 1);
    for (int gate; (gate = atomic_load(&self->gate)) >= 0; usleep(200))
        if (gate > 0 && atomic_compare_exchange_strong(&self->gate, &gate, gate - 1)) break;
    if (atomic_load(&self->fails) > 0) {
        atomic_fetch_sub(&self->fails, 1);
        snprintf(error->message, sizeof error->message, "the GPU is on fire");
        return AXON_ESERVER;
    }
    *actions = self->answer(self, n);
    return AXON_OK;
}

/* ---- what the tests are written with ------------------------------------------------------------- */

typedef struct bench {
    planner policy;
    axon_chunk_engine *engine;
    double action[8];
    axon_chunk_info info;
} bench;

static bench *open_with(axon_chunk_options options, int steps)
{
    bench *b = calloc(1, sizeof *b);
    atomic_store(&b->policy.steps, steps);
    atomic_store(&b->policy.gate, -1);
    b->policy.answer = plan;
    options.size = sizeof options;
    if (!options.wait_ms) options.wait_ms = PATIENCE_MS;
    assert_ok(axon_chunk_open_function(&b->engine, make_plan, &b->policy, &options, &err), &err);
    return b;
}

static void close_bench(bench *b)
{
    atomic_store(&b->policy.gate, -1);
    axon_chunk_close(b->engine);
    free(b);
}

static axon_status submit_at(bench *b, int64_t n, int64_t now, int32_t *taken)
{
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "n", axon_value_int(n));
    axon_status status = axon_chunk_submit(b->engine, observation, now, taken, &err);
    axon_value_free(observation);
    return status;
}

/* Hands over an observation, which is or is not wanted. */
static bool submit(bench *b, int64_t n, int64_t now)
{
    int32_t taken = -1;
    assert_ok(submit_at(b, n, now, &taken), &err);
    return taken;
}

static void settle(bench *b)
{
    assert_ok(axon_chunk_wait(b->engine, PATIENCE_MS, &err), &err);
}

/* An observation that is wanted, and becomes a chunk before anything else happens. */
static void plan_from(bench *b, int64_t n, int64_t now)
{
    assert_true(submit(b, n, now));
    settle(b);
}

static axon_status try_next(bench *b, int64_t now)
{
    return axon_chunk_next(b->engine, now, b->action, 8, &b->info, &err);
}

static double next_at(bench *b, int64_t now)
{
    assert_ok(try_next(b, now), &err);
    return b->action[0];
}

static double next(bench *b)
{
    return next_at(b, 0);
}

static axon_chunk_stats stats_of(bench *b)
{
    axon_chunk_stats stats;
    assert_ok(axon_chunk_get_stats(b->engine, &stats, &err), &err);
    return stats;
}

static void assert_number(double got, double wanted)
{
    if (!(fabs(got - wanted) < 1e-9)) fail_msg("%.17g, not %.17g", got, wanted);
}

#define S(seconds) ((int64_t)((seconds)*1e9 + 0.5))

/* ---- blocking ------------------------------------------------------------------------------------ */

static void blocking_gives_every_step_of_every_chunk_in_order(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 3);
    for (int64_t call = 0; call < 7; call++) {
        assert_int_equal(submit(b, 100 * call, 0), call % 3 == 0);
        assert_number(next(b), (double)(100 * (call - call % 3) + call % 3));
        assert_number(b->action[1], -b->action[0]);
    }
    assert_int_equal(stats_of(b).observations, 3);
    assert_int_equal(stats_of(b).starved, 0);
    close_bench(b);
}

static void blocking_uses_action_horizon_steps_of_a_longer_chunk(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.action_horizon = 2}, 5);
    for (int64_t call = 0; call < 6; call++) {
        submit(b, 100 * call, 0);
        assert_number(next(b), (double)(100 * (call - call % 2) + call % 2));
    }
    close_bench(b);
}

static void blocking_interpolates_to_the_controllers_rate(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.action_hz = 10, .control_hz = 40}, 2);
    double wanted[] = {0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 100};
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(submit(b, i < 8 ? 0 : 100, 0), i % 8 == 0);
        assert_number(next(b), wanted[i]);
    }
    close_bench(b);
}

static void blocking_without_an_observation_ends_at_wait_ms(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.wait_ms = 20}, 3);
    assert_fails(try_next(b, 0), AXON_ETIMEOUT, &err, "20 ms (wait_ms): no observation was submitted");
    atomic_store(&b->policy.gate, 0);
    submit(b, 0, 0);
    assert_fails(try_next(b, 0), AXON_ETIMEOUT, &err, "the policy has not answered yet");
    atomic_store(&b->policy.gate, -1);
    settle(b);
    assert_number(next(b), 0);
    close_bench(b);
}

/* ---- prefetch ------------------------------------------------------------------------------------ */

static void prefetch_asks_when_so_many_steps_are_left_and_goes_on_without_a_gap(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_PREFETCH, .prefetch_steps = 2}, 5);
    plan_from(b, 0, 0);
    for (int i = 0; i < 5; i++) {
        bool is_wanted = submit(b, 100, 0);
        assert_int_equal(is_wanted, i == 3); /* when 2 of 5 are left */
        assert_number(next(b), i);
    }
    settle(b);
    for (int i = 0; i < 5; i++)
        assert_number(next(b), 100 + i);
    assert_int_equal(stats_of(b).starved, 0);
    assert_int_equal(stats_of(b).late, 0);
    assert_int_equal(b->info.chunk, 2);
    close_bench(b);
}

static void prefetch_by_time_follows_the_last_step_at_its_time(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .action_hz = 10};
    bench *b = open_with(o, 4);
    plan_from(b, 0, S(5));
    assert_number(next_at(b, S(5)), 0);
    assert_number(next_at(b, S(5.05)), 0.5);
    assert_number(next_at(b, S(5.21)), 2.1);
    assert_true(b->info.wants);
    plan_from(b, 4, S(5.22));
    assert_number(next_at(b, S(5.35)), 3.5); /* on the way to the first step of the next chunk */
    assert_number(next_at(b, S(5.41)), 4.1);
    assert_number(next_at(b, S(5.6)), 6);
    close_bench(b);
}

static void a_slow_first_inference_has_the_second_asked_for_earlier(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .action_hz = 1000, .prefetch_steps = 1};
    bench *b = open_with(o, 64);
    atomic_store(&b->policy.gate, 0);
    submit(b, 0, S(0));
    while (atomic_load(&b->policy.asked) == 0)
        usleep(200);
    usleep(20000);
    atomic_store(&b->policy.gate, -1);
    next_at(b, S(0));
    next_at(b, S(0.050)); /* 13 left, and it took at least 20 */
    assert_true(b->info.wants);
    close_bench(b);
}

static void a_late_chunk_is_counted_and_begins_when_it_comes(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .action_hz = 10};
    bench *b = open_with(o, 2);
    plan_from(b, 0, S(0));
    atomic_store(&b->policy.gate, 0);
    next_at(b, S(0));
    submit(b, 100, S(0));
    assert_number(next_at(b, S(0.1)), 1);
    assert_number(next_at(b, S(0.2)), 1);
    assert_true(b->info.starved);
    assert_number(next_at(b, S(0.3)), 1);
    atomic_store(&b->policy.gate, -1);
    settle(b);
    assert_number(next_at(b, S(0.4)), 100);
    assert_false(b->info.starved);
    axon_chunk_stats stats = stats_of(b);
    assert_int_equal(stats.starved, 2);
    assert_int_equal(stats.late, 1);
    assert_int_equal(stats.steps, 5);
    assert_int_equal(stats.delay_steps, 3);
    close_bench(b);
}

/* ---- aligned ------------------------------------------------------------------------------------- */

static void an_aligned_chunk_begins_at_the_step_of_now(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ALIGNED}, 8);
    plan_from(b, 0, 0);
    for (int i = 0; i < 5; i++)
        assert_number(next(b), i);
    atomic_store(&b->policy.gate, 0);
    assert_true(submit(b, 105, 0)); /* taken at step 5 */
    for (int i = 5; i < 7; i++)
        assert_number(next(b), i);
    atomic_store(&b->policy.gate, -1);
    settle(b);
    assert_number(next(b), 107); /* two steps have passed */
    assert_number(b->info.step, 2);
    axon_chunk_stats stats = stats_of(b);
    assert_int_equal(stats.skipped, 2);
    assert_int_equal(stats.late, 0);
    assert_int_equal(stats.delay_steps, 2);
    close_bench(b);
}

static void an_aligned_chunk_by_time_is_interpolated_at_now(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_ALIGNED, .action_hz = 10, .prefetch_steps = 10};
    bench *b = open_with(o, 10);
    plan_from(b, 0, S(1));
    assert_number(next_at(b, S(1.5)), 0); /* the robot stood still: the first chunk begins now */
    plan_from(b, 100, S(1.5));
    assert_number(next_at(b, S(1.73)), 102.3);
    close_bench(b);
}

static void a_chunk_whose_steps_have_all_passed_is_stale(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_ALIGNED, .action_hz = 10};
    bench *b = open_with(o, 3);
    plan_from(b, 0, S(0));
    next_at(b, S(0));
    plan_from(b, 100, S(0));
    assert_number(next_at(b, S(2)), 0); /* the last action that was handed out */
    assert_true(b->info.starved);
    assert_int_equal(stats_of(b).stale, 1);
    plan_from(b, 200, S(2));
    assert_number(next_at(b, S(2.1)), 201);
    assert_int_equal(stats_of(b).late, 2);
    close_bench(b);
}

/* ---- ensembling ---------------------------------------------------------------------------------- */

static void an_ensemble_weighs_exponentially_oldest_first(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ENSEMBLE, .ensemble_m = 0.5}, 4);
    double wanted[] = {0, (1 + exp(-0.5) * 11) / (1 + exp(-0.5)),
                       (2 + exp(-0.5) * 12 + exp(-1.0) * 22) / (1 + exp(-0.5) + exp(-1.0))};
    for (int i = 0; i < 3; i++) {
        plan_from(b, 11 * i - i + (i == 0 ? 0 : i), 0); /* step i of chunk i is 0, 11, 22 */
        assert_number(next(b), wanted[i]);
    }
    close_bench(b);
}

static void an_ensemble_forgets_chunks_that_are_used_up(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ENSEMBLE, .ensemble_m = -1}, 2);
    plan_from(b, 0, 0);
    assert_number(next(b), 0);
    plan_from(b, 11, 0);
    assert_number(next(b), 6); /* of 1 and 11 */
    assert_number(next(b), 12);
    assert_number(next(b), 12);
    assert_true(b->info.starved);
    close_bench(b);
}

/* ---- real-time chunking -------------------------------------------------------------------------- */

static void rtc_tells_what_is_left_and_how_long_it_takes(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_RTC, .action_hz = 10, .prefetch_steps = 6};
    bench *b = open_with(o, 6);
    plan_from(b, 0, S(0));
    assert_int_equal(b->policy.told_rows, 0);
    next_at(b, S(0));
    atomic_store(&b->policy.gate, 0);
    submit(b, 1, S(0.1));
    next_at(b, S(0.1));
    next_at(b, S(0.2));
    next_at(b, S(0.3));
    atomic_store(&b->policy.gate, -1);
    settle(b);
    assert_int_equal(b->policy.told_rows, 5);
    assert_number(b->policy.told_left[0], 1);
    assert_number(b->policy.told_left[4], 5);
    assert_true(b->policy.told_delay >= 1); /* reckoned from how long the first one took */
    next_at(b, S(0.4));
    plan_from(b, 4, S(0.4));
    assert_int_equal(b->policy.told_rows, 3); /* of 1 to 6: 4, 5, 6 */
    assert_number(b->policy.told_left[0], 4);
    assert_int_equal(b->policy.told_delay, 2);
    assert_int_equal(stats_of(b).rtc, 1);
    close_bench(b);
}

static void other_modes_tell_nothing(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ALIGNED, .prefetch_steps = 9}, 6);
    plan_from(b, 0, 0);
    next(b);
    plan_from(b, 1, 0);
    assert_int_equal(b->policy.told_rows, 0);
    assert_int_equal(stats_of(b).rtc, 0);
    close_bench(b);
}

/* ---- when nothing is left ------------------------------------------------------------------------ */

static const int32_t velocity_and_gripper[] = {AXON_DIM_LINEAR | AXON_DIM_VELOCITY, AXON_DIM_STEPPED};

static bench *starve(axon_chunk_empty on_empty)
{
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .on_empty = on_empty};
    o.dimensions = velocity_and_gripper;
    o.dimension_count = 2;
    bench *b = open_with(o, 2);
    plan_from(b, 7, 0);
    next(b);
    next(b);
    return b;
}

static void holding_stops_velocities_and_keeps_positions(void **state)
{
    (void)state;
    bench *b = starve(AXON_CHUNK_HOLD);
    assert_number(next(b), 0);
    assert_number(b->action[1], -8);
    close_bench(b);
}

static void repeating_repeats(void **state)
{
    (void)state;
    bench *b = starve(AXON_CHUNK_REPEAT);
    assert_number(next(b), 8);
    assert_number(b->action[1], -8);
    close_bench(b);
}

static void zero_keeps_a_stepped_dimension(void **state)
{
    (void)state;
    bench *b = starve(AXON_CHUNK_ZERO);
    assert_number(next(b), 0);
    assert_number(b->action[1], -8);
    close_bench(b);
}

static void raising_fails_and_counts_the_step(void **state)
{
    (void)state;
    bench *b = starve(AXON_CHUNK_RAISE);
    assert_fails(try_next(b, 0), AXON_ETIMEOUT, &err, "nothing is left of chunk 1 (on_empty)");
    assert_int_equal(stats_of(b).starved, 1);
    assert_int_equal(stats_of(b).steps, 3);
    plan_from(b, 100, 0);
    assert_number(next(b), 100);
    close_bench(b);
}

static void without_a_first_chunk_no_wait_fails_at_once(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_PREFETCH, .no_wait = 1}, 2);
    assert_fails(try_next(b, 0), AXON_ETIMEOUT, &err, "no action yet");
    plan_from(b, 5, 0);
    assert_number(next(b), 5);
    close_bench(b);
}

/* ---- dimensions ---------------------------------------------------------------------------------- */

static void an_angle_goes_the_shorter_way_and_a_stepped_number_stays(void **state)
{
    (void)state;
    const int32_t dimensions[] = {AXON_DIM_ANGLE, AXON_DIM_STEPPED};
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .action_hz = 1};
    o.dimensions = dimensions;
    o.dimension_count = 2;
    bench *b = open_with(o, 3);
    plan_from(b, 2, S(0)); /* 2, 3, 4 radians */
    next_at(b, S(0));
    assert_number(next_at(b, S(0.5)), 2.5);
    assert_number(b->action[1], -2);
    assert_number(next_at(b, S(1.25)), 3.25 - 2 * acos(-1));
    assert_number(b->action[1], -3);
    assert_number(next_at(b, S(2)), 4 - 2 * acos(-1));
    close_bench(b);
}

static void dimensions_must_be_as_many_as_the_actions_numbers(void **state)
{
    (void)state;
    const int32_t dimensions[] = {AXON_DIM_ANGLE, 0, 0};
    axon_chunk_options o = {.dimensions = dimensions, .dimension_count = 3};
    bench *b = open_with(o, 3);
    submit(b, 0, 0);
    assert_fails(try_next(b, 0), AXON_EINVAL, &err, "dimensions has 3 entries, an action has 2 numbers");
    close_bench(b);
}

/* ---- which arrays are chunks --------------------------------------------------------------------- */

/* {"state": (3,), "action.arm": (2, 3), "gripper": (2,), "image": (2, 90, 90), "text", "more": {"base": (2, 1)}} */
static axon_value *mixed(planner *self, int64_t n)
{
    static const uint8_t pixels[2 * 90 * 90];
    static const int16_t grips[] = {-7, 8};
    for (int i = 0; i < 6; i++)
        self->floats[i] = (float)(n + i);
    axon_value *reply = axon_value_map(), *more = axon_value_map();
    axon_value_set(reply, "state", array_of(AXON_FLOAT32, 1, (int64_t[]){3}, self->floats));
    axon_value_set(reply, "gripper", array_of(AXON_INT16, 1, (int64_t[]){2}, grips));
    axon_value_set(reply, "image", array_of(AXON_UINT8, 3, (int64_t[]){2, 90, 90}, pixels));
    axon_value_set(reply, "text", axon_value_string("go", AXON_ZSTRING));
    axon_value_set(more, "base", array_of(AXON_BOOL8, 2, (int64_t[]){2, 1}, "\1\0"));
    axon_value_set(reply, "more", more);
    axon_value_set(reply, "action.arm", array_of(AXON_FLOAT32, 2, (int64_t[]){2, 3}, self->floats));
    return reply;
}

static void assert_field(bench *b, size_t index, const char *key, size_t offset, size_t count)
{
    const axon_chunk_field *field = axon_chunk_get_field(b->engine, index);
    assert_non_null(field);
    assert_string_equal(field->key, key);
    assert_int_equal(field->offset, offset);
    assert_int_equal(field->count, count);
}

static void assert_path(bench *b, size_t index, const char *const *keys)
{
    const char *const *path = axon_chunk_get_field(b->engine, index)->path;
    for (; *keys; keys++, path++) {
        assert_non_null(*path);
        assert_string_equal(*path, *keys);
    }
    assert_null(*path);
}

static void chunks_are_the_actions_and_what_is_as_long(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 2);
    b->policy.answer = mixed;
    assert_int_equal(axon_chunk_width(b->engine), 0);
    assert_null(axon_chunk_get_field(b->engine, 0));
    submit(b, 10, 0);
    assert_number(next(b), 10);
    assert_int_equal(axon_chunk_width(b->engine), 5); /* not the image: too large for an action */
    assert_field(b, 0, "action.arm", 0, 3);
    assert_field(b, 1, "gripper", 3, 1);
    assert_field(b, 2, "more.base", 4, 1);
    assert_null(axon_chunk_get_field(b->engine, 3));
    assert_path(b, 0, (const char *[]){"action.arm", NULL});
    assert_path(b, 2, (const char *[]){"more", "base", NULL});
    assert_number(b->action[3], -7);
    assert_number(b->action[4], 1);
    assert_number(next(b), 13);
    assert_number(b->action[3], 8);
    close_bench(b);
}

static void chunks_are_what_the_caller_says(void **state)
{
    (void)state;
    const char *keys[] = {"more.base", "action.arm", NULL};
    bench *b = open_with((axon_chunk_options){.keys = keys}, 2);
    b->policy.answer = mixed;
    submit(b, 10, 0);
    assert_number(next(b), 1);
    assert_field(b, 1, "action.arm", 1, 3);
    assert_int_equal(axon_chunk_width(b->engine), 4);
    close_bench(b);
}

static void assert_refused(axon_chunk_options options, int steps, axon_value *(*answer)(planner *, int64_t),
                           const char *words)
{
    bench *b = open_with(options, steps);
    b->policy.answer = answer;
    submit(b, 0, 0);
    assert_fails(try_next(b, 0), AXON_EPROTOCOL, &err, words);
    assert_int_equal(stats_of(b).failures, 1);
    assert_non_null(strstr(stats_of(b).failure.message, words));
    b->policy.answer = plan;
    atomic_store(&b->policy.steps, 64);
    close_bench(b);
}

static axon_value *nothing_named(planner *self, int64_t n)
{
    self->key = "trajectory";
    return plan(self, n);
}

static axon_value *with_nan(planner *self, int64_t n)
{
    axon_value *reply = plan(self, n);
    self->numbers[2 * 12 + 1] = NAN;
    return reply;
}

static axon_value *with_infinity(planner *self, int64_t n)
{
    axon_value *reply = plan(self, n);
    self->numbers[2] = -INFINITY;
    return reply;
}

static axon_value *no_map(planner *self, int64_t n)
{
    (void)self;
    return axon_value_int(n);
}

static void replies_that_cannot_be_used_are_refused(void **state)
{
    (void)state;
    const char *keys[] = {"actions", "gripper", NULL}, *uneven[] = {"state", "action.arm", NULL};
    axon_chunk_options plain = {0};
    assert_refused((axon_chunk_options){.action_horizon = 10}, 4, plan,
                   "actions has 4 steps, fewer than 10 (action_horizon)");
    assert_refused(plain, 4, nothing_named, "no array named actions or action");
    assert_refused(plain, 20, with_nan, "actions[12, 1] is NaN (allow_nan)");
    assert_refused(plain, 20, with_infinity, "actions[1, 0] is -infinity");
    assert_refused(plain, 20, no_map, "the policy's reply is no map");
    assert_refused((axon_chunk_options){.keys = keys}, 4, plan, "gripper is not there (keys)");
    assert_refused((axon_chunk_options){.keys = uneven}, 4, mixed,
                   "action.arm has 2 steps, its state has 3");
    assert_refused(plain, 0, plan, "actions has 0 steps");
}

static void nan_is_allowed_to_those_who_ask_for_it(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.allow_nan = 1}, 13);
    b->policy.answer = with_nan;
    submit(b, 0, 0);
    for (int i = 0; i < 13; i++)
        next(b);
    assert_true(isnan(b->action[1]));
    close_bench(b);
}

static axon_value *narrower(planner *self, int64_t n)
{
    axon_value *reply = axon_value_map();
    self->numbers[0] = (double)n;
    axon_value_set(reply, "actions", array_of(AXON_FLOAT64, 2, (int64_t[]){1, 1}, self->numbers));
    return reply;
}

static void chunks_of_another_width_are_refused_and_the_next_good_one_is_taken(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 1);
    submit(b, 0, 0);
    next(b);
    b->policy.answer = narrower;
    submit(b, 0, 0);
    assert_fails(try_next(b, 0), AXON_EPROTOCOL, &err, "a step has the shape (1), in the first chunk (2)");
    b->policy.answer = plan;
    submit(b, 9, 0);
    assert_number(next(b), 9);
    close_bench(b);
}

/* ---- failures ------------------------------------------------------------------------------------ */

static void a_failure_is_reported_once_and_what_is_left_goes_on(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_PREFETCH}, 4);
    plan_from(b, 0, 0);
    next(b);
    next(b);
    atomic_store(&b->policy.fails, 1);
    plan_from(b, 100, 0);
    assert_fails(try_next(b, 0), AXON_ESERVER, &err, "the GPU is on fire");
    assert_number(next(b), 2);
    plan_from(b, 200, 0); /* it is asked for again */
    assert_number(next(b), 3);
    assert_number(next(b), 200);
    assert_int_equal(stats_of(b).failures, 1);
    close_bench(b);
}

static void a_failure_is_retried_by_those_who_ask_for_it(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.on_error = AXON_CHUNK_RETRY}, 2);
    atomic_store(&b->policy.fails, 3);
    submit(b, 5, 0);
    assert_number(next(b), 5);
    assert_int_equal(stats_of(b).failures, 3);
    assert_string_equal(stats_of(b).failure.message, "the GPU is on fire");
    close_bench(b);
}

static void a_newer_observation_is_tried_before_the_one_that_failed(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ALIGNED, .on_error = AXON_CHUNK_RETRY}, 2);
    atomic_store(&b->policy.fails, 1000000);
    assert_true(submit(b, 5, 0));
    while (!submit(b, 7, 0))
        usleep(500);
    atomic_store(&b->policy.fails, 0);
    assert_number(next(b), 7);
    close_bench(b);
}

/* ---- episodes ------------------------------------------------------------------------------------ */

static void a_reset_discards_what_is_left_and_what_is_under_way(void **state)
{
    (void)state;
    axon_chunk_options o = {.mode = AXON_CHUNK_PREFETCH, .action_hz = 10, .no_wait = 1};
    bench *b = open_with(o, 10);
    plan_from(b, 0, S(9));
    next_at(b, S(9));
    next_at(b, S(9.6));
    atomic_store(&b->policy.gate, 0);
    assert_true(submit(b, 100, S(9.6)));
    while (atomic_load(&b->policy.asked) < 2)
        usleep(200);
    assert_ok(axon_chunk_reset(b->engine, NULL, &err), &err);
    assert_fails(try_next(b, S(0)), AXON_ETIMEOUT, &err, "no action yet");
    assert_true(submit(b, 200, S(0))); /* while the old one is still with the policy; time begins anew */
    assert_false(submit(b, 201, S(0)));
    atomic_store(&b->policy.gate, -1);
    settle(b);
    assert_number(next_at(b, S(0.1)), 200);
    assert_int_equal(stats_of(b).discarded, 1);
    assert_int_equal(atomic_load(&b->policy.resets), 1);
    close_bench(b);
}

static void a_reset_discards_a_chunk_that_nobody_has_taken_yet(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_PREFETCH}, 2);
    plan_from(b, 0, 0);
    assert_ok(axon_chunk_reset(b->engine, NULL, &err), &err);
    plan_from(b, 100, 0);
    assert_number(next(b), 100);
    close_bench(b);
}

/* ---- time and arguments -------------------------------------------------------------------------- */

static void a_time_that_goes_back_is_refused(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){.mode = AXON_CHUNK_ALIGNED, .action_hz = 10}, 9);
    plan_from(b, 0, S(3));
    next_at(b, S(3));
    assert_fails(try_next(b, S(2.5)), AXON_EINVAL, &err,
                 "now: 2.500000 s is 0.500000 s before that of the last call");
    assert_fails(submit_at(b, 1, S(2), NULL), AXON_EINVAL, &err, "before that of the last observation");
    assert_fails(try_next(b, INT64_MAX), AXON_EINVAL, &err, "is too late");
    assert_fails(submit_at(b, 1, INT64_MAX, NULL), AXON_EINVAL, &err, "is too late");
    next_at(b, S(3));
    close_bench(b);
}

static void an_observation_by_another_clock_is_refused(void **state)
{
    (void)state;
    bench *b = open_with(
        (axon_chunk_options){.mode = AXON_CHUNK_ALIGNED, .action_hz = 10, .prefetch_steps = 9}, 9);
    plan_from(b, 0, S(3));
    next_at(b, S(3));
    plan_from(b, 1, S(1700000000));
    assert_fails(try_next(b, S(3.1)), AXON_EINVAL, &err, "now: the observation's is 1.7e+09 s later");
    assert_number(next_at(b, S(3.1)), 1);
    close_bench(b);
}

static void too_little_room_is_refused(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 9);
    submit(b, 0, 0);
    assert_fails(axon_chunk_next(b->engine, 0, b->action, 1, NULL, &err), AXON_EINVAL, &err,
                 "room for 1 numbers, an action has 2");
    assert_number(next(b), 0);
    close_bench(b);
}

static void observations_that_do_not_travel_are_refused(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 9);
    axon_value *empty = axon_value_map(), *bad = axon_value_map();
    axon_array array = {.dtype = 99, .ndim = 1, .shape = {3}};
    axon_value_set(bad, "image", axon_value_array(&array));
    assert_fails(axon_chunk_submit(b->engine, empty, 0, NULL, &err), AXON_EINVAL, &err,
                 "observation: it is no map, or empty");
    assert_fails(axon_chunk_submit(b->engine, bad, 0, NULL, &err), AXON_EINVAL, &err,
                 "observation \"image\"");
    axon_value_free(empty);
    axon_value_free(bad);
    close_bench(b);
}

static void assert_open_refused(axon_chunk_options options, const char *words)
{
    axon_chunk_engine *engine = NULL;
    planner policy = {0};
    options.size = sizeof options;
    assert_fails(axon_chunk_open_function(&engine, make_plan, &policy, &options, &err), AXON_EINVAL, &err,
                 words);
    assert_null(engine);
}

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const int32_t odd[] = {0, 3};
    assert_open_refused((axon_chunk_options){.action_hz = 1e9}, "action_hz is 1e+09, not 0.001 to 10000");
    assert_open_refused((axon_chunk_options){.action_hz = NAN}, "action_hz is nan");
    assert_open_refused((axon_chunk_options){.action_hz = -1}, "action_hz is -1");
    assert_open_refused((axon_chunk_options){.action_hz = 50, .control_hz = 1e9}, "control_hz is 1e+09");
    assert_open_refused((axon_chunk_options){.control_hz = 50}, "action_hz is not given");
    assert_open_refused((axon_chunk_options){.action_hz = 50, .control_hz = 10},
                        "less than action_hz (50)");
    assert_open_refused((axon_chunk_options){.mode = (axon_chunk_mode)9}, "mode is 9");
    assert_open_refused((axon_chunk_options){.ensemble_m = NAN}, "ensemble_m is nan");
    assert_open_refused((axon_chunk_options){.action_horizon = 9999}, "action_horizon is 9999");
    assert_open_refused((axon_chunk_options){.dimensions = odd, .dimension_count = 2},
                        "dimensions[1] is 3");
    axon_chunk_engine *engine = NULL;
    assert_fails(axon_chunk_open(&engine, NULL, NULL, &err), AXON_EINVAL, &err, "policy: it is NULL");
    assert_fails(axon_chunk_next(NULL, 0, NULL, 0, NULL, &err), AXON_EINVAL, &err, "engine: it is NULL");
    axon_chunk_close(NULL);
    axon_chunk_cancel(NULL);
}

/* ---- threads ------------------------------------------------------------------------------------- */

static void *cancel_soon(void *user)
{
    bench *b = user;
    usleep(20000);
    for (int i = 0; i < 100; i++, usleep(10000))
        axon_chunk_cancel(b->engine);
    return NULL;
}

static void a_wait_can_be_cancelled(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 3);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, b), 0);
    assert_fails(try_next(b, 0), AXON_ECANCELED, &err, "cancelled from another thread");
    pthread_join(thread, NULL);
    close_bench(b);
}

static void *take_one(void *user)
{
    bench *b = user;
    double action[2];
    axon_error error;
    axon_status status = axon_chunk_next(b->engine, 0, action, 2, NULL, &error);
    if (status == AXON_EINVAL && strstr(error.message, "another thread is taking an action"))
        atomic_store(&b->policy.gate, -1);
    return (void *)(intptr_t)status;
}

static void of_two_threads_that_take_an_action_one_is_refused(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 3);
    pthread_t one, other;
    void *first, *second;
    atomic_store(&b->policy.gate, 0); /* opened by the one that is refused */
    submit(b, 0, 0);
    assert_int_equal(pthread_create(&one, NULL, take_one, b), 0);
    assert_int_equal(pthread_create(&other, NULL, take_one, b), 0);
    pthread_join(one, &first);
    pthread_join(other, &second);
    assert_int_equal((intptr_t)first + (intptr_t)second, AXON_EINVAL); /* and AXON_OK */
    close_bench(b);
}

static axon_status close_itself(void *user, axon_request_kind kind, const axon_value *value,
                                axon_value **actions, axon_error *error)
{
    (void)kind, (void)value, (void)actions, (void)error;
    bench *b = user;
    axon_chunk_close(b->engine);
    atomic_store(&b->policy.asked, 1);
    return AXON_ECANCELED;
}

static void a_policy_may_close_the_engine_that_asks_it(void **state)
{
    (void)state;
    bench b = {0};
    axon_chunk_options o = {.size = sizeof o, .mode = AXON_CHUNK_PREFETCH};
    assert_ok(axon_chunk_open_function(&b.engine, close_itself, &b, &o, &err), &err);
    submit(&b, 0, 0);
    while (!atomic_load(&b.policy.asked))
        usleep(200);
    usleep(20000); /* it frees itself */
}

typedef struct {
    bench *b;
    atomic_bool is_over;
    atomic_int episode;   /* counted up when its reset is done */
    pthread_mutex_t lock; /* an observation is submitted in the episode that it names */
} crowd;

/* Observation n is of episode n / 1 000 000. */
static void *submit_all_the_time(void *user)
{
    crowd *all = user;
    for (int64_t i = 0; !atomic_load(&all->is_over); i++) {
        axon_error error;
        axon_value *observation = axon_value_map();
        pthread_mutex_lock(&all->lock);
        axon_value_set(observation, "n", axon_value_int(1000000 * (int64_t)atomic_load(&all->episode)));
        assert_ok(axon_chunk_submit(all->b->engine, observation, AXON_CHUNK_NOW, NULL, &error), &error);
        pthread_mutex_unlock(&all->lock);
        axon_value_free(observation);
        usleep(50);
    }
    return NULL;
}

static void *reset_now_and_then(void *user)
{
    crowd *all = user;
    while (!atomic_load(&all->is_over)) {
        axon_error error;
        axon_chunk_stats stats;
        usleep(3000);
        pthread_mutex_lock(&all->lock);
        assert_ok(axon_chunk_reset(all->b->engine, NULL, &error), &error);
        atomic_fetch_add(&all->episode, 1);
        pthread_mutex_unlock(&all->lock);
        assert_ok(axon_chunk_get_stats(all->b->engine, &stats, &error), &error);
        axon_chunk_wants(all->b->engine);
    }
    return NULL;
}

static void stress(axon_chunk_mode mode)
{
    axon_chunk_options o = {.mode = mode, .action_hz = 10000, .no_wait = 1};
    crowd all = {.b = open_with(o, 16), .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t submitter, resetter;
    pthread_create(&submitter, NULL, submit_all_the_time, &all);
    pthread_create(&resetter, NULL, reset_now_and_then, &all);
    for (int i = 0; i < 4000; i++, usleep(50)) {
        double action[2];
        int before = atomic_load(&all.episode);
        axon_status status = axon_chunk_next(all.b->engine, AXON_CHUNK_NOW, action, 2, NULL, &err);
        if (status == AXON_OK) {
            assert_number(action[1], -action[0]);
            if (action[0] < 1000000.0 * before) fail_msg("%g in episode %d", action[0], before);
        } else {
            assert_int_equal(status, AXON_ETIMEOUT);
        }
    }
    atomic_store(&all.is_over, true);
    pthread_join(submitter, NULL);
    pthread_join(resetter, NULL);
    axon_chunk_stats stats = stats_of(all.b);
    assert_true(stats.chunks > 0 && stats.steps > 0);
    close_bench(all.b);
}

static void threads_submit_take_and_reset_at_once(void **state)
{
    (void)state;
    stress(AXON_CHUNK_PREFETCH);
    stress(AXON_CHUNK_RTC);
    stress(AXON_CHUNK_ENSEMBLE);
}

/* ---- over a session ------------------------------------------------------------------------------ */

static void *serve(void *user)
{
    void **both = user;
    axon_server_serve(both[0], make_plan, both[1], NULL);
    return NULL;
}

/* The bench's policy behind a server, and an engine over a session with that. */
typedef struct {
    bench *b;
    void *served[2];
    axon_policy *policy;
    pthread_t thread;
} remote;

static remote *open_remote(axon_chunk_options options)
{
    remote *r = calloc(1, sizeof *r);
    r->b = open_with((axon_chunk_options){0}, 4);
    axon_chunk_close(r->b->engine);
    axon_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT};
    axon_server *server;
    assert_ok(axon_server_open(&server, NULL, &o, &err), &err);
    r->served[0] = server;
    r->served[1] = &r->b->policy;
    assert_int_equal(pthread_create(&r->thread, NULL, serve, r->served), 0);
    assert_ok(axon_policy_open(&r->policy, axon_server_url(server), NULL, &err), &err);
    options.size = sizeof options;
    options.wait_ms = PATIENCE_MS;
    assert_ok(axon_chunk_open(&r->b->engine, r->policy, &options, &err), &err);
    return r;
}

static void close_remote(remote *r)
{
    axon_chunk_close(r->b->engine);
    atomic_store(&r->b->policy.gate, -1);
    axon_policy_close(r->policy);
    axon_server_stop(r->served[0]);
    pthread_join(r->thread, NULL);
    axon_server_close(r->served[0]);
    free(r->b);
    free(r);
}

static void a_session_is_asked_and_its_failures_are_told(void **state)
{
    (void)state;
    remote *r = open_remote((axon_chunk_options){.mode = AXON_CHUNK_PREFETCH, .prefetch_steps = 1});
    plan_from(r->b, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_number(next(r->b), i);
    atomic_store(&r->b->policy.fails, 1);
    plan_from(r->b, 100, 0);
    assert_fails(try_next(r->b, 0), AXON_ESERVER, &err, "the GPU is on fire");
    plan_from(r->b, 200, 0);
    assert_number(next(r->b), 3);
    assert_number(next(r->b), 200);
    close_remote(r);
}

static void a_reset_cancels_what_a_session_is_doing(void **state)
{
    (void)state;
    remote *r = open_remote((axon_chunk_options){.mode = AXON_CHUNK_ALIGNED});
    for (int64_t episode = 1; episode <= 5; episode++) {
        int asked = atomic_load(&r->b->policy.asked);
        atomic_store(&r->b->policy.gate, 0);
        assert_true(submit(r->b, 1000 * episode, 0));
        while (atomic_load(&r->b->policy.asked) == asked)
            usleep(200);
        assert_ok(axon_chunk_reset(r->b->engine, NULL, &err), &err);
        assert_true(submit(r->b, 1000 * episode + 500, 0));
        atomic_store(&r->b->policy.gate, -1);
        assert_number(next(r->b), (double)(1000 * episode + 500));
        assert_ok(axon_chunk_reset(r->b->engine, NULL, &err), &err);
    }
    assert_int_equal(stats_of(r->b).discarded, 5);
    close_remote(r);
}

static void closing_does_not_wait_for_a_server(void **state)
{
    (void)state;
    remote *r = open_remote((axon_chunk_options){0});
    atomic_store(&r->b->policy.gate, 0);
    submit(r->b, 0, 0);
    while (atomic_load(&r->b->policy.asked) == 0)
        usleep(200);
    close_remote(r); /* the engine first, then the server's policy may go on */
}

static void a_forked_child_may_only_close(void **state)
{
    (void)state;
    bench *b = open_with((axon_chunk_options){0}, 3);
    pid_t child = fork();
    if (child == 0) {
        axon_error error;
        int32_t taken;
        axon_value *observation = axon_value_map();
        bool is_refused = axon_chunk_submit(b->engine, observation, 0, &taken, &error) == AXON_EINVAL &&
                          strstr(error.message, "fork()");
        axon_value_free(observation);
        axon_chunk_close(b->engine);
        _exit(is_refused ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    submit(b, 4, 0);
    assert_number(next(b), 4);
    close_bench(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocking_gives_every_step_of_every_chunk_in_order),
        cmocka_unit_test(blocking_uses_action_horizon_steps_of_a_longer_chunk),
        cmocka_unit_test(blocking_interpolates_to_the_controllers_rate),
        cmocka_unit_test(blocking_without_an_observation_ends_at_wait_ms),
        cmocka_unit_test(prefetch_asks_when_so_many_steps_are_left_and_goes_on_without_a_gap),
        cmocka_unit_test(prefetch_by_time_follows_the_last_step_at_its_time),
        cmocka_unit_test(a_slow_first_inference_has_the_second_asked_for_earlier),
        cmocka_unit_test(a_late_chunk_is_counted_and_begins_when_it_comes),
        cmocka_unit_test(an_aligned_chunk_begins_at_the_step_of_now),
        cmocka_unit_test(an_aligned_chunk_by_time_is_interpolated_at_now),
        cmocka_unit_test(a_chunk_whose_steps_have_all_passed_is_stale),
        cmocka_unit_test(an_ensemble_weighs_exponentially_oldest_first),
        cmocka_unit_test(an_ensemble_forgets_chunks_that_are_used_up),
        cmocka_unit_test(rtc_tells_what_is_left_and_how_long_it_takes),
        cmocka_unit_test(other_modes_tell_nothing),
        cmocka_unit_test(holding_stops_velocities_and_keeps_positions),
        cmocka_unit_test(repeating_repeats),
        cmocka_unit_test(zero_keeps_a_stepped_dimension),
        cmocka_unit_test(raising_fails_and_counts_the_step),
        cmocka_unit_test(without_a_first_chunk_no_wait_fails_at_once),
        cmocka_unit_test(an_angle_goes_the_shorter_way_and_a_stepped_number_stays),
        cmocka_unit_test(dimensions_must_be_as_many_as_the_actions_numbers),
        cmocka_unit_test(chunks_are_the_actions_and_what_is_as_long),
        cmocka_unit_test(chunks_are_what_the_caller_says),
        cmocka_unit_test(replies_that_cannot_be_used_are_refused),
        cmocka_unit_test(nan_is_allowed_to_those_who_ask_for_it),
        cmocka_unit_test(chunks_of_another_width_are_refused_and_the_next_good_one_is_taken),
        cmocka_unit_test(a_failure_is_reported_once_and_what_is_left_goes_on),
        cmocka_unit_test(a_failure_is_retried_by_those_who_ask_for_it),
        cmocka_unit_test(a_newer_observation_is_tried_before_the_one_that_failed),
        cmocka_unit_test(a_reset_discards_what_is_left_and_what_is_under_way),
        cmocka_unit_test(a_reset_discards_a_chunk_that_nobody_has_taken_yet),
        cmocka_unit_test(a_time_that_goes_back_is_refused),
        cmocka_unit_test(an_observation_by_another_clock_is_refused),
        cmocka_unit_test(too_little_room_is_refused),
        cmocka_unit_test(observations_that_do_not_travel_are_refused),
        cmocka_unit_test(options_that_cannot_be_are_refused),
        cmocka_unit_test(a_wait_can_be_cancelled),
        cmocka_unit_test(of_two_threads_that_take_an_action_one_is_refused),
        cmocka_unit_test(a_policy_may_close_the_engine_that_asks_it),
        cmocka_unit_test(threads_submit_take_and_reset_at_once),
        cmocka_unit_test(a_session_is_asked_and_its_failures_are_told),
        cmocka_unit_test(a_reset_cancels_what_a_session_is_doing),
        cmocka_unit_test(closing_does_not_wait_for_a_server),
        cmocka_unit_test(a_forked_child_may_only_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

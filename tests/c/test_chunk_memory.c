/* Chunk engines when memory runs out: every allocation fails once, on either side, and nothing is lost or leaked. */
#include "checks.h"
#include "failing_malloc.h"

#include <axon/chunk.h>

static axon_error err;

static const double numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static axon_status plan(void *user, axon_request_kind kind, const axon_value *value, axon_value **actions,
                        axon_error *error)
{
    (void)user, (void)value;
    if (kind == AXON_REQUEST_RESET) return AXON_OK;
    axon_array array = {
        .dtype = AXON_FLOAT64, .ndim = 2, .shape = {2, 2}, .strides = {32, 16}, .data = numbers};
    *actions = axon_value_map();
    axon_status status = axon_value_set(*actions, "actions", axon_value_array(&array));
    if (status != AXON_OK) snprintf(error->message, sizeof error->message, "out of memory for actions");
    return status;
}

/* Opens, takes two actions of each of two chunks with a reset between them, closes: the first failure. */
static axon_status run_engine(const axon_value *observation)
{
    const int32_t dimensions[] = {AXON_DIM_LINEAR, AXON_DIM_STEPPED};
    const char *keys[] = {"actions", NULL};
    axon_chunk_options o = {
        .size = sizeof o, .mode = AXON_CHUNK_RTC, .prefetch_steps = 2, .wait_ms = 20000};
    o.dimensions = dimensions;
    o.dimension_count = 2;
    o.keys = keys;
    axon_chunk_engine *engine;
    axon_status status = axon_chunk_open_function(&engine, plan, NULL, &o, &err);
    if (status != AXON_OK) return status;
    for (int i = 0; i < 4 && status == AXON_OK; i++) {
        double action[2];
        status = axon_chunk_submit(engine, observation, 0, NULL, &err);
        if (status == AXON_OK) status = axon_chunk_wait(engine, 20000, &err);
        if (status == AXON_OK) status = axon_chunk_next(engine, 0, action, 2, NULL, &err);
        if (status == AXON_OK && i == 1) status = axon_chunk_reset(engine, observation, &err);
    }
    axon_chunk_close(engine);
    return status;
}

static axon_value *make_observation(void)
{
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
    return observation;
}

static void assert_told(axon_status status, long count)
{
    if (status != AXON_ENOMEM)
        fail_msg("allocation %ld: %s: %s", count, axon_status_name(status), err.message);
    assert_non_null(strstr(err.message, "out of memory"));
}

static void an_engine_survives_every_failed_allocation_of_its_callers(void **state)
{
    (void)state;
    axon_value *observation = make_observation();
    long count = 0;
    for (;; count++) {
        fail_after(count);
        axon_status status = run_engine(observation);
        if (!fail_no_more()) break;
        assert_told(status, count);
    }
    assert_int_equal(run_engine(observation), AXON_OK);
    assert_true(count > 5);
    axon_value_free(observation);
}

static void an_engine_survives_every_failed_allocation_of_its_thread(void **state)
{
    (void)state;
    axon_value *observation = make_observation();
    long count = 0;
    for (;; count++) {
        fail_elsewhere_after(count);
        axon_status status = run_engine(observation);
        if (!fail_elsewhere_no_more()) break;
        if (status != AXON_OK) assert_told(status, count); /* a reset that failed is made up for */
    }
    assert_true(count > 10);
    axon_value_free(observation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_survives_every_failed_allocation_of_its_callers),
        cmocka_unit_test(an_engine_survives_every_failed_allocation_of_its_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

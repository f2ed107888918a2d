/* Resizing when memory runs out: every allocation fails once, one at a time. */
#include "checks.h"
#include "failing_malloc.h"

#include <axon/resize.h>

static uint8_t old[64 * 48 * 4], new[40 * 40 * 4];
static int64_t size = 10; /* another one each time, by 2, so that no table of weights is there already */

static axon_status width_first(axon_error *err)
{
    axon_array image = {.dtype = AXON_UINT8, .ndim = 3, .shape = {48, 64, 3}, .data = old};
    return axon_resize(&image, size, size, NULL, new, (size_t)(size * size * 3), err);
}

static axon_status with_alpha_and_channels_first(axon_error *err)
{
    axon_array image = {.dtype = AXON_UINT8, .ndim = 3, .shape = {4, 64, 48}, .data = old};
    axon_resize_options o = {.size = sizeof o, .layout = AXON_LAYOUT_CHW, .filter = AXON_FILTER_LANCZOS};
    return axon_resize_with_pad(&image, size, size, &o, new, (size_t)(size * size * 4), err);
}

static axon_status nearest_upside_down(axon_error *err)
{
    axon_array image = {.dtype = AXON_UINT8,
                        .ndim = 3,
                        .shape = {48, 64, 1},
                        .strides = {-64, -1, 1},
                        .data = old + 48 * 64 - 1};
    axon_resize_options o = {.size = sizeof o, .filter = AXON_FILTER_NEAREST};
    return axon_resize(&image, size, size, &o, new, (size_t)(size * size), err);
}

static axon_status floats_backwards(axon_error *err)
{
    static const float floats[4];
    axon_array array = {
        .dtype = AXON_FLOAT32, .ndim = 1, .shape = {4}, .strides = {-4}, .data = floats + 3};
    return axon_convert_to_uint8(&array, new, 4, err);
}

static void check(axon_status (*scenario)(axon_error *err), long at_least)
{
    for (long count = 0;; count++) {
        axon_error err = {0};
        size = 10 + (size - 8) % 30;
        fail_after(count);
        axon_status status = scenario(&err);
        if (!fail_no_more()) {
            assert_ok(status, &err);
            assert_true(count >= at_least);
            return;
        }
        assert_int_equal(status, AXON_ENOMEM);
        assert_non_null(strstr(err.message, "memory"));
    }
}

static void every_allocation_that_fails_is_reported(void **state)
{
    (void)state;
    check(width_first, 4);
    check(with_alpha_and_channels_first, 6);
    check(nearest_upside_down, 2);
    check(floats_backwards, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_that_fails_is_reported)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

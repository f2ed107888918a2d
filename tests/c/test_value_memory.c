/* Trees when memory runs out: every allocation fails once, one at a time; each call says so, frees what it had
 * and leaves its outputs alone. */
#include "json.h"
#include "pack.h"

#include "checks.h"
#include "failing_malloc.h"

/* Runs `scenario`, which frees everything, until no allocation of it failed; all but `harmless` of the failures
 * are AXON_ENOMEM. What was not freed, the leak sanitizer finds. */
static void run(axon_status (*scenario)(axon_error *err), int harmless)
{
    axon_error err = {0};
    int survived = 0;
    assert_ok(scenario(&err), &err);
    for (long count = 0;; count++) {
        err = (axon_error){0};
        fail_after(count);
        axon_status status = scenario(&err);
        if (!fail_no_more()) {
            assert_int_equal(status, AXON_OK);
            assert_true(count > 0);
            break;
        }
        if (status == AXON_OK)
            survived++;
        else if (status != AXON_ENOMEM)
            fail_msg("allocation %ld failed: %s", count, axon_status_name(status));
    }
    assert_int_equal(survived, harmless);
}

/* ---- scenarios ----------------------------------------------------------------------------- */

static axon_status worse(axon_status one, axon_status other)
{
    return one != AXON_OK ? one : other;
}

static const uint8_t pixels[1200];
static const float joints[7];

/* A tree that needs every kind of allocation; `status` tells whether it is whole. */
static axon_value *build(axon_status *status)
{
    const axon_array image = {.dtype = AXON_UINT8, .ndim = 3, .shape = {20, 20, 3}, .data = pixels},
                     flipped = {.dtype = AXON_UINT8,
                                .ndim = 3,
                                .shape = {20, 20, 3},
                                .strides = {60, 3, -1},
                                .data = pixels + 2},
                     state = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {7}, .data = joints};
    const double numbers[] = {1, 2, 3};
    const int64_t integers[] = {4, 5};
    axon_value *tree = axon_value_map(), *images = axon_value_map(), *list = axon_value_list();
    *status = axon_value_set(images, "top", axon_value_array(&image));
    *status = worse(*status, axon_value_set(images, "wrist", axon_value_array(&flipped)));
    *status = worse(*status, axon_value_append_floats(list, numbers, 3));
    *status = worse(*status, axon_value_append_ints(list, integers, 2));
    *status = worse(*status, axon_value_append(list, axon_value_bool(1)));
    *status = worse(*status, axon_value_append(list, axon_value_nil()));
    *status = worse(*status, axon_value_append(list, axon_value_uint(UINT64_MAX)));
    *status = worse(*status, axon_value_append(list, axon_value_bytes(pixels, sizeof pixels)));
    *status = worse(*status, axon_value_set(tree, "images", images));
    *status = worse(*status, axon_value_set(tree, "state", axon_value_array(&state)));
    *status = worse(*status, axon_value_set(tree, "state", axon_value_array(&state)));
    *status = worse(*status, axon_value_set(tree, "gain", axon_value_scalar(AXON_FLOAT32, joints)));
    *status = worse(*status, axon_value_set(tree, "list", list));
    *status = worse(*status, axon_value_set(tree, "prompt", axon_value_string("pick up", AXON_ZSTRING)));
    return tree;
}

static axon_status builds(axon_error *err)
{
    axon_status status;
    (void)err;
    axon_value_free(build(&status));
    return status;
}

/* Built once, with all the memory there is. */
static axon_value *tree;

static axon_status packs(axon_error *err)
{
    axi_message message = {0};
    axon_status status = axi_pack(&message, tree, AXON_MARKER_OPENPI, "observation", err);
    axi_message_free(&message);
    return status;
}

static axon_status packs_again_after_failing(axon_error *err)
{
    static axi_message message; /* what it keeps from a failure is as good as new */
    axon_status status = axi_pack(&message, tree, AXON_MARKER_SIMULATOR, "observation", err);
    if (status != AXON_OK) status = packs(err);
    axi_message_free(&message);
    return status == AXON_OK && an_allocation_failed ? AXON_ENOMEM : status;
}

static axon_status packs_a_picture(axon_error *err)
{
    static const axon_array grey = {.dtype = AXON_UINT8, .ndim = 2, .shape = {30, 40}, .data = pixels};
    axon_image *image = NULL;
    axi_message message = {0};
    axon_status status = axon_image_open_pixels(&grey, AXON_COLOR_DEFAULT, &image, err);
    if (status != AXON_OK) return status;
    axon_value *map = axon_value_map();
    status = axon_value_set(map, "image", axon_value_image(image));
    if (status == AXON_OK) status = axi_pack(&message, map, AXON_MARKER_OPENPI, "observation", err);
    axon_value_free(map);
    axi_message_free(&message);
    axon_image_close(image);
    return status;
}

static axon_status writes_and_reads_msgpack(axon_error *err)
{
    void *data = NULL;
    size_t length = 0;
    axon_value *value = NULL;
    axon_status status = axon_value_to_msgpack(tree, AXON_MARKER_OPENPI, &data, &length, err);
    if (status == AXON_OK) status = axon_value_from_msgpack(data, length, &value, err);
    assert_true(status == AXON_OK || !value);
    axon_value_free(value);
    axon_free(data);
    return status;
}

static axon_status writes_and_reads_json(axon_error *err)
{
    char *text = NULL;
    size_t length = 0;
    axon_value *value = NULL;
    axon_status status = axon_value_to_json(tree, &text, &length, err);
    if (status == AXON_OK) status = axon_value_from_json(text, length, &value, err);
    assert_true(status == AXON_OK || !value);
    axon_value_free(value);
    axon_free(text);
    return status;
}

static axon_status writes_a_body(axon_error *err)
{
    static const axon_array grey = {.dtype = AXON_UINT8, .ndim = 2, .shape = {30, 40}, .data = pixels};
    axon_image *image = NULL;
    axi_body body = {0};
    axon_status status = axon_image_open_pixels(&grey, AXON_COLOR_DEFAULT, &image, err);
    if (status != AXON_OK) return status;
    axon_value *map = axon_value_map();
    status = axon_value_set(map, "image", axon_value_image(image));
    if (status == AXON_OK) status = axon_value_set(map, "mask", axon_value_bytes(pixels, sizeof pixels));
    if (status == AXON_OK) status = axi_json_write(&body, map, "/detect", err);
    assert_true(status == AXON_OK || !body.parts);
    axi_body_free(&body);
    axon_value_free(map);
    axon_image_close(image);
    return status;
}

static axon_status adds_a_reply(axon_error *err)
{
    axon_value *reply = NULL, *list = axon_value_list(), *map = axon_value_map();
    axon_status status = axon_value_from_msgpack("\x81\xa1k\xa1v", 5, &reply, err);
    if (status == AXON_OK) status = axon_value_append(list, reply);
    if (status == AXON_OK) status = axon_value_from_msgpack("\x81\xa1k\xa1v", 5, &reply, err);
    if (status == AXON_OK) status = axon_value_set(map, "reply", reply);
    status = worse(status, axon_value_set(map, "list", list));
    axon_value_free(map);
    return status;
}

static int build_the_tree(void **state)
{
    axon_status status;
    (void)state;
    tree = build(&status);
    return status != AXON_OK;
}

static int free_the_tree(void **state)
{
    (void)state;
    axon_value_free(tree);
    return 0;
}

#define RUNS(scenario, harmless)                                                                           \
    static void scenario##_or_says_no_memory(void **state)                                                 \
    {                                                                                                      \
        (void)state;                                                                                       \
        run(scenario, harmless);                                                                           \
    }

RUNS(builds, 0)
RUNS(packs, 0)
RUNS(packs_again_after_failing, 0)
RUNS(packs_a_picture, 0)
RUNS(writes_and_reads_msgpack, 0)
RUNS(writes_and_reads_json, 0)
RUNS(writes_a_body, 1) /* a PNG stays in a larger block than it needs */
RUNS(adds_a_reply, 0)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds_or_says_no_memory),
        cmocka_unit_test(packs_or_says_no_memory),
        cmocka_unit_test(packs_again_after_failing_or_says_no_memory),
        cmocka_unit_test(packs_a_picture_or_says_no_memory),
        cmocka_unit_test(writes_and_reads_msgpack_or_says_no_memory),
        cmocka_unit_test(writes_and_reads_json_or_says_no_memory),
        cmocka_unit_test(writes_a_body_or_says_no_memory),
        cmocka_unit_test(adds_a_reply_or_says_no_memory),
    };
    return cmocka_run_group_tests(tests, build_the_tree, free_the_tree);
}

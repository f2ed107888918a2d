/* uint8 arrays (height, width, 3) that travel as JPEG or PNG: what is sent, and what is read of it. */
#include "pack.h"

#include "checks.h"

enum { SIDE = 64 };

static uint8_t smooth[SIDE][SIDE][3], noise[SIDE][SIDE][3];

static int fill(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) {
                random = random * 1664525 + 1013904223;
                noise[y][x][c] = (uint8_t)(random >> 24);
                smooth[y][x][c] = (uint8_t)(c == 0 ? 4 * x : c == 1 ? 4 * y : 128);
            }
    return 0;
}

static axon_array whole(const void *data)
{
    return (axon_array){.dtype = AXON_UINT8, .ndim = 3, .shape = {SIDE, SIDE, 3}, .data = data};
}

static blob flattened(const axi_message *message)
{
    blob out = {malloc((size_t)message->length), 0};
    for (size_t i = 0; i < message->count; out.length += message->parts[i++].iov_len)
        memcpy((uint8_t *)out.data + out.length, message->parts[i].iov_base, message->parts[i].iov_len);
    assert_int_equal(out.length, message->length);
    return out;
}

/* [array, "end"], as it is sent. */
static blob sent(const axon_array *array, axon_image_format pictures)
{
    axon_error err;
    axi_message message = {0};
    axon_value *list = axon_value_list();
    axon_value_append(list, axon_value_array(array));
    axon_value_append(list, axon_value_string("end", -1));
    assert_ok(axi_pack_pictures(&message, list, AXON_MARKER_OPENPI, pictures, "observation", &err), &err);
    blob out = flattened(&message);
    axi_message_free(&message);
    axon_value_free(list);
    return out;
}

static bool has(blob message, const char *words)
{
    return memmem(message.data, message.length, words, strlen(words)) != NULL;
}

/* What the other side gets; `*received` is to be freed. */
static const axon_array *read_back(blob message, axon_value **received)
{
    axon_error err;
    const axon_array *array = NULL;
    const char *end;
    size_t length;
    assert_ok(axon_value_from_msgpack(message.data, message.length, received, &err), &err);
    assert_int_equal(axon_value_as_array(axon_value_at(*received, 0), &array), AXON_OK);
    assert_int_equal(axon_value_as_string(axon_value_at(*received, 1), &end, &length), AXON_OK);
    assert_int_equal(array->ndim, 3);
    return array;
}

static int largest_difference(const axon_array *array, const void *wanted)
{
    int largest = 0;
    const uint8_t *got = array->data, *pixels = wanted;
    for (size_t i = 0; i < SIDE * SIDE * 3; i++) {
        int difference = abs(got[i] - pixels[i]);
        if (difference > largest) largest = difference;
    }
    return largest;
}

static void a_png_loses_nothing(void **state)
{
    (void)state;
    axon_array array = whole(smooth);
    axon_value *received;
    blob message = sent(&array, AXON_IMAGE_PNG);
    assert_true(has(message, "\xa9__image__\xc3\xa6"
                             "format\xa3png\xa4"
                             "data"));
    assert_true(message.length < sizeof smooth / 2);
    assert_int_equal(largest_difference(read_back(message, &received), smooth), 0);
    axon_value_free(received);
    free(message.data);
}

static void a_jpeg_loses_little_and_keeps_red_red(void **state)
{
    (void)state;
    axon_array array = whole(smooth);
    axon_value *received;
    blob message = sent(&array, AXON_IMAGE_JPEG);
    assert_true(has(message, "\xa9__image__\xc3\xa6"
                             "format\xa4jpeg\xa4"
                             "data"));
    assert_true(message.length < sizeof smooth / 4);
    assert_in_range(largest_difference(read_back(message, &received), smooth), 1, 8);
    axon_value_free(received);
    free(message.data);
}

/* The frame header says, for each of three components, how it is sampled: 1x1. */
static void a_jpeg_keeps_every_colour(void **state)
{
    (void)state;
    axon_array array = whole(smooth);
    blob message = sent(&array, AXON_IMAGE_JPEG);
    const uint8_t *frame = memmem(message.data, message.length, "\xff\xc0\x00\x11", 4);
    assert_non_null(frame);
    for (int i = 0; i < 3; i++)
        assert_int_equal(frame[11 + 3 * i], 0x11);
    free(message.data);
}

static void pictures_of_any_strides_are_sent_as_they_are_seen(void **state)
{
    (void)state;
    axon_array turned = whole(&smooth[SIDE - 1][SIDE - 1][2]);
    memcpy(turned.strides, (int64_t[]){-SIDE * 3, -3, -1}, 3 * sizeof(int64_t));
    axon_value *received;
    blob message = sent(&turned, AXON_IMAGE_PNG);
    const uint8_t *pixels = read_back(message, &received)->data;
    const uint8_t *all = (const uint8_t *)smooth;
    for (size_t i = 0; i < sizeof smooth; i++)
        assert_int_equal(pixels[i], all[sizeof smooth - 1 - i]);
    axon_value_free(received);
    free(message.data);
}

static void what_would_not_become_smaller_is_sent_raw(void **state)
{
    (void)state;
    axon_array random = whole(noise), tiny = whole(smooth);
    tiny.shape[0] = tiny.shape[1] = 2;
    for (axon_image_format format = AXON_IMAGE_JPEG; format <= AXON_IMAGE_PNG; format++) {
        blob message = sent(&tiny, format);
        assert_true(has(message, "__ndarray__") && !has(message, "__image__"));
        free(message.data);
    }
    axon_value *received;
    blob message = sent(&random, AXON_IMAGE_PNG);
    assert_true(has(message, "__ndarray__") && !has(message, "__image__"));
    assert_int_equal(largest_difference(read_back(message, &received), noise), 0);
    axon_value_free(received);
    free(message.data);
}

static void other_arrays_stay_arrays(void **state)
{
    (void)state;
    axon_array channels_first = {.dtype = AXON_UINT8, .ndim = 3, .shape = {3, SIDE, SIDE}, .data = smooth},
               grey = {.dtype = AXON_UINT8, .ndim = 2, .shape = {SIDE, SIDE}, .data = smooth},
               batch = {.dtype = AXON_UINT8, .ndim = 4, .shape = {1, SIDE, SIDE, 3}, .data = smooth},
               alpha = {.dtype = AXON_UINT8, .ndim = 3, .shape = {SIDE, SIDE / 4, 4}, .data = smooth},
               integers = {.dtype = AXON_INT8, .ndim = 3, .shape = {SIDE, SIDE, 3}, .data = smooth},
               empty = {.dtype = AXON_UINT8, .ndim = 3, .shape = {0, SIDE, 3}, .data = smooth},
               wide = {.dtype = AXON_UINT8,
                       .ndim = 3,
                       .shape = {1, 70000, 3},
                       .strides = {0, 0, 1},
                       .data = smooth};
    const axon_array *const arrays[] = {&channels_first, &grey, &batch, &alpha, &integers, &empty};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        blob message = sent(arrays[i], AXON_IMAGE_JPEG);
        assert_true(has(message, "__ndarray__") && !has(message, "__image__"));
        free(message.data);
    }
    wide.strides[0] = 3; /* no JPEG is wider than 65,500 pixels */
    blob message = sent(&wide, AXON_IMAGE_JPEG);
    assert_true(has(message, "__ndarray__") && !has(message, "__image__"));
    free(message.data);
    axon_array array = whole(smooth);
    message = sent(&array, AXON_IMAGE_UNKNOWN);
    assert_true(has(message, "__ndarray__") && !has(message, "__image__"));
    free(message.data);
}

/* Encoded pictures, strided arrays and small things take turns in the buffers of a message that is used again. */
static void several_pictures_share_a_message(void **state)
{
    (void)state;
    axon_error err;
    axi_message message = {0};
    axon_array first = whole(smooth), second = whole(noise), flipped = whole(&noise[0][SIDE - 1][0]);
    memcpy(flipped.strides, (int64_t[]){SIDE * 3, -3, 1}, 3 * sizeof(int64_t));
    const axon_array *const arrays[] = {&first, &flipped, &second, &first};
    axon_value *map = axon_value_map(), *received;
    const char *const keys[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        axon_value_set(map, keys[i], axon_value_array(arrays[i]));
    for (int round = 0; round < 3; round++) {
        assert_ok(axi_pack_pictures(&message, map, AXON_MARKER_OPENPI, AXON_IMAGE_PNG, "observation", &err),
                  &err);
        blob flat = flattened(&message);
        assert_ok(axon_value_from_msgpack(flat.data, flat.length, &received, &err), &err);
        const axon_array *array;
        for (int i = 0; i < 4; i++) {
            assert_int_equal(axon_value_as_array(axon_value_get(received, keys[i]), &array), AXON_OK);
            if (i != 1) assert_int_equal(largest_difference(array, i == 2 ? noise : smooth), 0);
            if (i == 1) assert_memory_equal(array->data, noise[0][SIDE - 1], 3);
        }
        axon_value_free(received);
        free(flat.data);
    }
    axi_message_free(&message);
    axon_value_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_png_loses_nothing),
        cmocka_unit_test(a_jpeg_loses_little_and_keeps_red_red),
        cmocka_unit_test(a_jpeg_keeps_every_colour),
        cmocka_unit_test(pictures_of_any_strides_are_sent_as_they_are_seen),
        cmocka_unit_test(what_would_not_become_smaller_is_sent_raw),
        cmocka_unit_test(other_arrays_stay_arrays),
        cmocka_unit_test(several_pictures_share_a_message),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}

/* Trees: building, reading, ownership; arrays as they are described; places as they are named. */
#include "array.h"

#include "checks.h"

#include <float.h>

/* ---- building and reading ------------------------------------------------------------------ */

static void every_type_is_read_as_it_was_built(void **state)
{
    (void)state;
    const char *text;
    const void *data;
    size_t length;
    int32_t truth = 0;
    int64_t integer = 0;
    uint64_t natural = 0;
    double real = 0;
    axon_value *v = axon_value_bool(7);
    assert_int_equal(axon_value_type(v), AXON_BOOL);
    assert_int_equal(axon_value_as_bool(v, &truth), AXON_OK);
    assert_int_equal(truth, 1);
    axon_value_free(v);
    v = axon_value_int(INT64_MIN);
    assert_int_equal(axon_value_as_int(v, &integer), AXON_OK);
    assert_true(integer == INT64_MIN);
    axon_value_free(v);
    v = axon_value_uint(UINT64_MAX);
    assert_int_equal(axon_value_type(v), AXON_UINT);
    assert_int_equal(axon_value_as_uint(v, &natural), AXON_OK);
    assert_true(natural == UINT64_MAX);
    axon_value_free(v);
    v = axon_value_float(0.5);
    assert_int_equal(axon_value_as_float(v, &real), AXON_OK);
    assert_true(real == 0.5);
    axon_value_free(v);
    v = axon_value_string("cup", AXON_ZSTRING);
    assert_int_equal(axon_value_as_string(v, &text, &length), AXON_OK);
    assert_memory_equal(text, "cup", length);
    assert_int_equal(length, 3);
    axon_value_free(v);
    v = axon_value_bytes("\0\1", 2);
    assert_int_equal(axon_value_as_bytes(v, &data, &length), AXON_OK);
    assert_int_equal(length, 2);
    axon_value_free(v);
}

static void an_unsigned_number_that_fits_is_an_int(void **state)
{
    (void)state;
    axon_value *v = axon_value_uint(INT64_MAX);
    assert_int_equal(axon_value_type(v), AXON_INT);
    axon_value_free(v);
}

static void a_map_keeps_its_order_and_replaces_what_a_key_had(void **state)
{
    (void)state;
    axon_value *map = axon_value_map();
    char key[] = "b";
    assert_int_equal(axon_value_set(map, "a", axon_value_list()), AXON_OK);
    assert_int_equal(axon_value_set(map, key, axon_value_int(2)), AXON_OK);
    key[0] = 'x'; /* keys are copied */
    assert_int_equal(axon_value_set(map, "a", axon_value_int(3)), AXON_OK);
    assert_int_equal(axon_value_count(map), 2);
    size_t length;
    int32_t is_bytes = 7;
    assert_string_equal(axon_value_key(map, 0, &length, &is_bytes), "a");
    assert_string_equal(axon_value_key(map, 1, NULL, NULL), "b");
    assert_int_equal(length, 1);
    assert_int_equal(is_bytes, 0);
    assert_null(axon_value_key(map, 2, NULL, NULL));
    int64_t number = 0;
    assert_int_equal(axon_value_as_int(axon_value_get(map, "a"), &number), AXON_OK);
    assert_int_equal(number, 3);
    assert_ptr_equal(axon_value_at(map, 1), axon_value_get(map, "b"));
    axon_value_free(map);
}

static void an_empty_key_is_a_key(void **state)
{
    (void)state;
    axon_value *map = axon_value_map();
    assert_int_equal(axon_value_set(map, "", axon_value_int(1)), AXON_OK);
    assert_non_null(axon_value_get(map, ""));
    assert_null(axon_value_get(map, "a"));
    axon_value_free(map);
}

static void look_ups_can_be_chained_through_nothing(void **state)
{
    (void)state;
    int64_t number = 5;
    const axon_value *none = axon_value_at(axon_value_get(axon_value_get(NULL, "a"), "b"), 3);
    assert_null(none);
    assert_int_equal(axon_value_type(none), AXON_NIL);
    assert_int_equal(axon_value_count(none), 0);
    assert_null(axon_value_key(none, 0, NULL, NULL));
    assert_int_equal(axon_value_as_int(none, &number), AXON_EINVAL);
    assert_int_equal(number, 5);
}

static void a_child_is_freed_when_it_cannot_be_added(void **state)
{
    (void)state; /* what is not freed, the leak sanitizer finds */
    axon_value *list = axon_value_list(), *map = axon_value_map();
    assert_int_equal(axon_value_set(list, "a", axon_value_list()), AXON_EINVAL);
    assert_int_equal(axon_value_append(map, axon_value_list()), AXON_EINVAL);
    assert_int_equal(axon_value_set(map, NULL, axon_value_list()), AXON_EINVAL);
    assert_int_equal(axon_value_set(NULL, "a", axon_value_list()), AXON_ENOMEM);
    assert_int_equal(axon_value_append(NULL, axon_value_list()), AXON_ENOMEM);
    assert_int_equal(axon_value_set(map, "a", NULL), AXON_ENOMEM);
    assert_int_equal(axon_value_append(list, NULL), AXON_ENOMEM);
    assert_int_equal(axon_value_count(map), 0);
    assert_int_equal(axon_value_count(list), 0);
    axon_value_free(list);
    axon_value_free(map);
}

static void a_container_does_not_go_into_itself(void **state)
{
    (void)state;
    axon_value *list = axon_value_list(), *map = axon_value_map();
    assert_int_equal(axon_value_append(list, list), AXON_EINVAL);
    assert_int_equal(axon_value_set(map, "a", map), AXON_EINVAL);
    axon_value_free(list);
    axon_value_free(map);
}

static void many_numbers_are_added_and_read_in_one_call(void **state)
{
    (void)state;
    const double floats[] = {0.5, -2, 1e9};
    const int64_t ints[] = {1, 2};
    double read[5];
    int64_t whole[5];
    axon_value *list = axon_value_list();
    assert_int_equal(axon_value_append_floats(list, floats, 3), AXON_OK);
    assert_int_equal(axon_value_append_ints(list, ints, 2), AXON_OK);
    assert_int_equal(axon_value_append_ints(list, NULL, 0), AXON_OK);
    assert_int_equal(axon_value_append_ints(list, NULL, 1), AXON_EINVAL);
    assert_int_equal(axon_value_as_floats(list, read), AXON_OK);
    assert_true(read[0] == 0.5 && read[2] == 1e9 && read[4] == 2);
    whole[0] = 77;
    assert_int_equal(axon_value_as_ints(list, whole), AXON_EINVAL); /* 0.5 */
    assert_int_equal(whole[0], 77);
    axon_value_append(list, axon_value_nil());
    read[0] = 77;
    assert_int_equal(axon_value_as_floats(list, read), AXON_EINVAL);
    assert_true(read[0] == 77);
    axon_value *map = axon_value_map();
    assert_int_equal(axon_value_append_floats(map, floats, 3), AXON_EINVAL);
    assert_int_equal(axon_value_append_floats(NULL, floats, 3), AXON_ENOMEM);
    assert_int_equal(axon_value_as_floats(map, read), AXON_EINVAL);
    axon_value_free(map);
    axon_value_free(list);
}

/* ---- conversions --------------------------------------------------------------------------- */

static void numbers_convert_when_nothing_is_lost(void **state)
{
    (void)state;
    static const double NO = 12345;
    const struct {
        axon_value *value;
        bool is_int, is_uint;
        double real; /* NO: it is none exactly */
    } rows[] = {
        {axon_value_int(3), true, true, 3},
        {axon_value_int(-3), true, false, -3},
        {axon_value_int(1ll << 53), true, true, 0x1p53},
        {axon_value_int((1ll << 53) + 1), true, true, NO},
        {axon_value_int(INT64_MAX), true, true, NO},
        {axon_value_int(INT64_MIN), true, false, -0x1p63},
        {axon_value_uint(1ull << 63), false, true, 0x1p63},
        {axon_value_uint(UINT64_MAX), false, true, NO},
        {axon_value_float(3.0), true, true, 3},
        {axon_value_float(3.5), false, false, 3.5},
        {axon_value_float(-0x1p63), true, false, -0x1p63},
        {axon_value_float(0x1p63), false, true, 0x1p63},
        {axon_value_float(0x1p64), false, false, 0x1p64},
        {axon_value_float((double)INFINITY), false, false, (double)INFINITY},
        {axon_value_bool(1), false, false, NO},
        {axon_value_string("3", 1), false, false, NO},
        {axon_value_nil(), false, false, NO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t integer;
        uint64_t natural;
        double real = NO;
        assert_int_equal(axon_value_as_int(rows[i].value, &integer) == AXON_OK, rows[i].is_int);
        assert_int_equal(axon_value_as_uint(rows[i].value, &natural) == AXON_OK, rows[i].is_uint);
        axon_value_as_float(rows[i].value, &real);
        if (real != rows[i].real) fail_msg("row %zu: %g", i, real);
        if (rows[i].is_int && rows[i].is_uint) assert_true((uint64_t)integer == natural);
        axon_value_free(rows[i].value);
    }
}

static void not_a_number_is_a_float_and_nothing_else(void **state)
{
    (void)state;
    axon_value *nan_value = axon_value_float((double)NAN);
    int64_t integer;
    double real = 0;
    assert_int_equal(axon_value_as_int(nan_value, &integer), AXON_EINVAL);
    assert_int_equal(axon_value_as_float(nan_value, &real), AXON_OK);
    assert_true(isnan(real));
    axon_value_free(nan_value);
}

static void scalars_convert_as_the_numbers_they_are(void **state)
{
    (void)state;
    const uint8_t yes = 1;
    const int16_t minus_two = -2;
    const uint64_t most = UINT64_MAX;
    const uint16_t half = 0x3800;
    const float tenth = 0.1f;
    int32_t truth = 0;
    int64_t integer = 0;
    uint64_t natural = 0;
    double real = 0;
    axon_value *v = axon_value_scalar(AXON_BOOL8, &yes);
    assert_int_equal(axon_value_as_bool(v, &truth), AXON_OK);
    assert_int_equal(axon_value_as_int(v, &integer), AXON_EINVAL);
    axon_value_free(v);
    v = axon_value_scalar(AXON_INT16, &minus_two);
    assert_int_equal(axon_value_as_int(v, &integer), AXON_OK);
    assert_int_equal(integer, -2);
    assert_int_equal(axon_value_as_uint(v, &natural), AXON_EINVAL);
    axon_value_free(v);
    v = axon_value_scalar(AXON_UINT64, &most);
    assert_int_equal(axon_value_as_uint(v, &natural), AXON_OK);
    assert_true(natural == most);
    axon_value_free(v);
    v = axon_value_scalar(AXON_FLOAT16, &half);
    assert_int_equal(axon_value_as_float(v, &real), AXON_OK);
    assert_true(real == 0.5);
    axon_value_free(v);
    v = axon_value_scalar(AXON_FLOAT32, &tenth);
    assert_int_equal(axon_value_as_float(v, &real), AXON_OK);
    assert_true(real == (double)0.1f);
    const axon_array *array;
    assert_int_equal(axon_value_as_array(v, &array), AXON_OK);
    assert_int_equal(array->ndim, 0);
    assert_true(*(const float *)array->data == 0.1f);
    axon_value_free(v);
}

static void outputs_may_not_be_null(void **state)
{
    (void)state;
    axon_value *v = axon_value_int(1), *list = axon_value_list();
    axon_value_append(list, axon_value_int(1));
    assert_int_equal(axon_value_as_int(v, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_uint(v, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_float(v, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_bool(v, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_string(v, NULL, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_bytes(v, NULL, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_array(v, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_floats(list, NULL), AXON_EINVAL);
    assert_int_equal(axon_value_as_ints(list, NULL), AXON_EINVAL);
    axon_value_free(v);
    axon_value_free(list);
}

/* ---- freeing ------------------------------------------------------------------------------- */

static void freeing_nothing_is_fine(void **state)
{
    (void)state;
    axon_value_free(NULL);
    axon_free(NULL);
}

static void a_tree_deeper_than_any_stack_is_freed(void **state)
{
    (void)state;
    axon_value *tree = axon_value_list();
    for (int i = 0; i < 100000; i++) {
        axon_value *outer = i % 2 ? axon_value_list() : axon_value_map();
        axon_value *other = axon_value_string("x", 1);
        if (i % 2) {
            axon_value_append(outer, tree);
            axon_value_append(outer, other);
        } else {
            axon_value_set(outer, "in", tree);
            axon_value_set(outer, "other", other);
        }
        tree = outer;
    }
    axon_error err;
    void *data;
    size_t length;
    assert_fails(axon_value_to_msgpack(tree, AXON_MARKER_OPENPI, &data, &length, &err), AXON_EINVAL, &err,
                 "deeper than 32");
    axon_value_free(tree);
}

/* {"a": "text", "l": [1]} as a peer sends it */
static axon_value *received(void)
{
    static const uint8_t message[] = "\x82\xa1"
                                     "a\xa4text\xa1l\x91\x01";
    axon_error err;
    axon_value *value = NULL;
    assert_ok(axon_value_from_msgpack(message, sizeof message - 1, &value, &err), &err);
    return value;
}

static void a_received_tree_can_become_part_of_another(void **state)
{
    (void)state;
    axon_value *map = axon_value_map(), *list = axon_value_list();
    const char *text;
    size_t length;
    assert_int_equal(axon_value_append(list, received()), AXON_OK);
    assert_int_equal(axon_value_append(list, axon_value_int(1)), AXON_OK);
    assert_int_equal(axon_value_set(map, "reply", received()), AXON_OK);
    assert_int_equal(axon_value_set(map, "list", list), AXON_OK);
    const axon_value *a = axon_value_get(axon_value_at(axon_value_get(map, "list"), 0), "a");
    assert_int_equal(axon_value_as_string(a, &text, &length), AXON_OK);
    assert_memory_equal(text, "text", 4);
    assert_int_equal(
        axon_value_as_string(axon_value_get(axon_value_get(map, "reply"), "a"), &text, &length), AXON_OK);
    assert_memory_equal(text, "text", 4);
    assert_int_equal(axon_value_set(map, "reply", axon_value_nil()), AXON_OK); /* frees the message, too */
    assert_int_equal(axon_value_append(map, received()), AXON_EINVAL);
    axon_value_free(map);
}

static void a_received_tree_can_be_added_to(void **state)
{
    (void)state;
    axon_value *value = received();
    assert_int_equal(axon_value_set(value, "timing", axon_value_float(1.5)), AXON_OK);
    assert_int_equal(axon_value_set(value, "a", axon_value_int(4)), AXON_OK);
    assert_int_equal(axon_value_count(value), 3);
    axon_value_free(value);
}

/* ---- arrays -------------------------------------------------------------------------------- */

static void a_description_that_cannot_be_is_refused_by_its_member(void **state)
{
    (void)state;
    const int64_t big = 1ll << 40;
    const struct {
        axon_array array;
        const char *words;
    } rows[] = {
        {{.dtype = 0}, "array: dtype is 0"},
        {{.dtype = AXON_FIXED_BYTES + 1}, "dtype is 15"},
        {{.dtype = AXON_FLOAT32, .ndim = -1}, "ndim is -1"},
        {{.dtype = AXON_FLOAT32, .ndim = 33}, "ndim is 33"},
        {{.dtype = AXON_FLOAT32, .ndim = 2, .shape = {2, -3}}, "shape[1] is -3"},
        {{.dtype = AXON_FLOAT32, .ndim = 2, .shape = {big, big}}, "shape[1] is 1099511627776"},
        {{.dtype = AXON_FLOAT32, .ndim = 3, .shape = {0, big, big}}, "shape[2]"},
        {{.dtype = AXON_FLOAT32, .itemsize = 3}, "itemsize is 3, but a float32 has 4 bytes"},
        {{.dtype = AXON_FIXED_TEXT}, "itemsize is 0"},
        {{.dtype = AXON_FIXED_TEXT, .itemsize = 6}, "itemsize is 6, but text has 4"},
        {{.dtype = AXON_FIXED_BYTES, .itemsize = 0x80000000}, "too large"},
        {{.dtype = AXON_UINT8, .ndim = 2, .shape = {3, 3}, .strides = {INT64_MIN, 1}}, "strides[0]"},
        {{.dtype = AXON_UINT8, .ndim = 2, .shape = {3, 3}, .strides = {1, INT64_MAX / 2}}, "strides[1]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        uint64_t bytes = 7;
        assert_fails(axon_array_size(&rows[i].array, &bytes, &err), AXON_EINVAL, &err, rows[i].words);
        assert_int_equal(bytes, 7);
    }
    axon_error err;
    uint64_t bytes;
    assert_fails(axon_array_size(NULL, &bytes, &err), AXON_EINVAL, &err, "array is NULL");
    assert_fails(axon_array_size(&rows[0].array, NULL, &err), AXON_EINVAL, &err, "bytes is NULL");
}

static void the_size_of_an_array_is_that_of_its_elements(void **state)
{
    (void)state;
    const struct {
        axon_array array;
        uint64_t bytes;
    } rows[] = {
        {{.dtype = AXON_FLOAT64}, 8},
        {{.dtype = AXON_UINT8, .ndim = 3, .shape = {224, 224, 3}}, 150528},
        {{.dtype = AXON_INT16, .ndim = 2, .shape = {1ll << 40, 0}}, 0},
        {{.dtype = AXON_FIXED_TEXT, .itemsize = 8, .ndim = 1, .shape = {3}}, 24},
        {{.dtype = AXON_FLOAT32, .ndim = 2, .shape = {2, 5}, .strides = {-400, 80}}, 40},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t bytes = 1;
        axon_error err;
        assert_ok(axon_array_size(&rows[i].array, &bytes, &err), &err);
        assert_int_equal(bytes, rows[i].bytes);
    }
    assert_int_equal(axon_dtype_size(AXON_FLOAT16), 2);
    assert_int_equal(axon_dtype_size(AXON_FIXED_TEXT), 0);
    assert_int_equal(axon_dtype_size(0), 0);
    assert_int_equal(axon_dtype_size((axon_dtype)99), 0);
}

static void missing_data_is_named(void **state)
{
    (void)state;
    axon_error err;
    axi_layout layout;
    const axon_array array = {.dtype = AXON_UINT8, .ndim = 1, .shape = {4}};
    const axi_path path = {.key = "top", .key_length = 3};
    assert_fails(axi_array_layout(&array, &layout, "observation", &path, &err), AXON_EINVAL, &err,
                 "observation \"top\": data is NULL and the size is 4 bytes");
}

/* The slow way, to compare with. */
static void gather_slowly(uint8_t *out, const axon_array *array, const axi_layout *layout)
{
    for (uint64_t i = 0; i < layout->count; i++) {
        const uint8_t *at = array->data;
        uint64_t rest = i;
        for (int d = array->ndim - 1; d >= 0; d--) {
            at += (int64_t)(rest % (uint64_t)array->shape[d]) * layout->strides[d];
            rest /= (uint64_t)array->shape[d];
        }
        memcpy(out + i * layout->itemsize, at, layout->itemsize);
    }
}

static void any_strides_are_gathered_in_c_order(void **state)
{
    (void)state;
    static uint8_t memory[1 << 16], fast[1 << 16], slow[1 << 16];
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)(i * 31 + (i >> 8));
    srand(7);
    for (int round = 0; round < 3000; round++) {
        static const axon_dtype kinds[] = {AXON_UINT8,   AXON_INT16,       AXON_FLOAT32,
                                           AXON_FLOAT64, AXON_FIXED_BYTES, AXON_FIXED_TEXT};
        axon_array array = {.dtype = kinds[rand() % 6], .ndim = rand() % 6, .itemsize = 0};
        if (array.dtype >= AXON_FIXED_TEXT) array.itemsize = array.dtype == AXON_FIXED_TEXT ? 12 : 3;
        array.data = memory + sizeof memory / 2;
        for (int d = 0; d < array.ndim; d++) {
            array.shape[d] = rand() % 5;
            array.strides[d] = rand() % 401 - 200;
            if (rand() % 3 == 0) array.strides[d] = (rand() % 3 - 1) * (int)axon_dtype_size(array.dtype);
        }
        axi_layout layout;
        axon_error err;
        assert_ok(axi_array_layout(&array, &layout, "array", NULL, &err), &err);
        axi_array_gather(fast, &array, &layout);
        gather_slowly(slow, &array, &layout);
        assert_memory_equal(fast, slow, layout.bytes);
        if (layout.is_contiguous) assert_memory_equal(array.data, slow, layout.bytes);
    }
}

static void every_half_is_read_and_written_exactly(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits, back = 0;
        axon_value number;
        assert_true(axi_element_read(&half, AXON_FLOAT16, false, &number));
        assert_true(axi_element_write(&back, AXON_FLOAT16, &number));
        if (isnan(number.as.real))
            assert_true((back & 0x7c00) == 0x7c00 && back & 0x3ff);
        else
            assert_int_equal(back, half);
    }
}

static void halves_are_rounded_to_the_nearest(void **state)
{
    (void)state;
    const struct {
        double number;
        uint16_t half;
    } rows[] = {{1.0 + 0x1p-11, 0x3c00}, {1.0 + 0x3p-11, 0x3c02}, {65519.99, 0x7bff},  {0x1p-25, 0x0000},
                {0x1.8p-25, 0x0001},     {0x1.ffcp-15, 0x0400},   {2047.9999, 0x6800}, {-0.0, 0x8000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint16_t half = 1;
        const axon_value number = {.type = AXON_FLOAT, .as.real = rows[i].number};
        assert_true(axi_element_write(&half, AXON_FLOAT16, &number));
        assert_int_equal(half, rows[i].half);
    }
    const axon_value large = {.type = AXON_FLOAT, .as.real = 65520};
    uint16_t half;
    assert_false(axi_element_write(&half, AXON_FLOAT16, &large));
}

static void elements_take_what_fits_them(void **state)
{
    (void)state;
    const struct {
        axon_dtype dtype;
        axon_value number;
        bool fits;
    } rows[] = {
        {AXON_INT8, {.type = AXON_INT, .as.integer = -128}, true},
        {AXON_INT8, {.type = AXON_INT, .as.integer = 128}, false},
        {AXON_UINT8, {.type = AXON_INT, .as.integer = 255}, true},
        {AXON_UINT8, {.type = AXON_INT, .as.integer = 256}, false},
        {AXON_UINT8, {.type = AXON_INT, .as.integer = -1}, false},
        {AXON_INT64, {.type = AXON_UINT, .as.natural = UINT64_MAX}, false},
        {AXON_UINT64, {.type = AXON_UINT, .as.natural = UINT64_MAX}, true},
        {AXON_INT32, {.type = AXON_FLOAT, .as.real = 1}, false},
        {AXON_FLOAT32, {.type = AXON_INT, .as.integer = 3}, true},
        {AXON_FLOAT32, {.type = AXON_FLOAT, .as.real = 1e300}, false},
        {AXON_FLOAT32, {.type = AXON_FLOAT, .as.real = (double)INFINITY}, true},
        {AXON_FLOAT64, {.type = AXON_FLOAT, .as.real = DBL_MAX}, true},
        {AXON_BOOL8, {.type = AXON_BOOL, .as.integer = 1}, true},
        {AXON_BOOL8, {.type = AXON_INT, .as.integer = 1}, false},
        {AXON_INT32, {.type = AXON_BOOL, .as.integer = 1}, false},
        {AXON_FIXED_TEXT, {.type = AXON_INT, .as.integer = 1}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t element = 0;
        if (axi_element_write(&element, rows[i].dtype, &rows[i].number) != rows[i].fits)
            fail_msg("row %zu", i);
    }
}

static void dtypes_are_read_in_both_spellings(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        axon_dtype dtype; /* 0: none that travels */
        uint32_t itemsize;
        bool swapped;
    } rows[] = {
        {"<f4", AXON_FLOAT32, 4, false},
        {">f4", AXON_FLOAT32, 4, true},
        {"f4", AXON_FLOAT32, 4, false},
        {"=f4", AXON_FLOAT32, 4, false},
        {"float32", AXON_FLOAT32, 4, false},
        {"|u1", AXON_UINT8, 1, false},
        {"<u1", AXON_UINT8, 1, false},
        {">u1", AXON_UINT8, 1, false},
        {"uint8", AXON_UINT8, 1, false},
        {"|b1", AXON_BOOL8, 1, false},
        {"bool", AXON_BOOL8, 1, false},
        {"<f2", AXON_FLOAT16, 2, false},
        {"<U4", AXON_FIXED_TEXT, 16, false},
        {">U4", AXON_FIXED_TEXT, 16, true},
        {"|S12", AXON_FIXED_BYTES, 12, false},
        {"S1", AXON_FIXED_BYTES, 1, false},
        {"|O", 0, 0, false},
        {"|O8", 0, 0, false},
        {"|V4", 0, 0, false},
        {"<c8", 0, 0, false},
        {"<c16", 0, 0, false},
        {"<M8[ns]", 0, 0, false},
        {"<m8", 0, 0, false},
        {"<f16", 0, 0, false},
        {"<f3", 0, 0, false},
        {"<f", 0, 0, false},
        {"f", 0, 0, false},
        {"", 0, 0, false},
        {"<", 0, 0, false},
        {"<f4 ", 0, 0, false},
        {"<f4x", 0, 0, false},
        {"<f04", 0, 0, false},
        {"|f4", 0, 0, false},
        {"<U0", 0, 0, false},
        {"<U4294967297", 0, 0, false},
        {"<U999999999", 0, 0, false},
        {"<U-1", 0, 0, false},
        {"|b4", 0, 0, false},
        {"object", 0, 0, false},
        {"text", 0, 0, false},
        {"float128", 0, 0, false},
        {"<i4,<f4", 0, 0, false},
        {"(3,)<f4", 0, 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_dtype dtype = 0;
        uint32_t itemsize = 0;
        bool swapped = false;
        bool known = axi_dtype_parse(rows[i].text, strlen(rows[i].text), &dtype, &itemsize, &swapped);
        if (known != (rows[i].dtype != 0)) fail_msg("%s", rows[i].text);
        if (!known) continue;
        assert_int_equal(dtype, rows[i].dtype);
        assert_int_equal(itemsize, rows[i].itemsize);
        assert_int_equal(swapped, rows[i].swapped);
    }
}

/* ---- text and places ----------------------------------------------------------------------- */

static void every_character_is_utf8_and_nothing_else(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x120000; code++) {
        char text[4];
        uint32_t back = 0;
        bool is_character = code < 0xd800 || (code >= 0xe000 && code < 0x110000);
        size_t size = axi_utf8_encode(text, code);
        assert_int_equal(size != 0, is_character);
        if (!size) continue;
        assert_int_equal(axi_utf8_decode(text, size, &back), size);
        assert_int_equal(back, code);
        assert_int_equal(axi_utf8_decode(text, size - 1, NULL), 0);
        for (size_t begun = 1; begun < size; begun++)
            assert_true(axi_utf8_is_begun(text, begun));
    }
    static const char *const broken[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",     "\xed\xa0\x80",
        "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "\xc3(",        "\xe2\x82"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_false(axi_is_utf8(broken[i], strlen(broken[i])));
    static const char *const hopeless[] = {"\x80",     "\xc1",     "\xf5",     "\xff",  "\xe0\x9f",
                                           "\xed\xa0", "\xf0\x8f", "\xf4\x90", "\xe2(", "\xe2\x82("};
    for (size_t i = 0; i < sizeof hopeless / sizeof *hopeless; i++)
        assert_false(axi_utf8_is_begun(hopeless[i], strlen(hopeless[i])));
}

static void a_broken_byte_is_found_wherever_it_is(void **state)
{
    (void)state;
    char text[200];
    for (size_t at = 0; at < sizeof text; at++) {
        memset(text, 'a', sizeof text);
        assert_true(axi_is_utf8(text, sizeof text));
        text[at] = (char)0xff;
        assert_false(axi_is_utf8(text, sizeof text));
        assert_int_equal(axi_plain_length(text, sizeof text), at);
        text[at] = '"';
        assert_int_equal(axi_plain_length(text, sizeof text), at);
        text[at] = '\\';
        assert_int_equal(axi_plain_length(text, sizeof text), at);
        text[at] = 31;
        assert_int_equal(axi_plain_length(text, sizeof text), at);
        if (at + 2 <= sizeof text) {
            memcpy(text + at, "\u00fc", 2);
            assert_true(axi_is_utf8(text, sizeof text));
        }
    }
}

static void a_place_is_named_by_its_path(void **state)
{
    (void)state;
    char text[AXI_PATH_TEXT];
    const axi_path images = {.key = "images", .key_length = 6};
    const axi_path top = {.parent = &images, .key = "top", .key_length = 3};
    const axi_path third = {.parent = &top, .index = 2};
    axi_path_print(text, sizeof text, "observation", NULL);
    assert_string_equal(text, "observation");
    axi_path_print(text, sizeof text, "observation", &third);
    assert_string_equal(text, "observation \"images.top[2]\"");
    const axi_path first = {.index = 0};
    axi_path_print(text, sizeof text, "reply", &first);
    assert_string_equal(text, "reply \"[0]\"");
}

static void a_long_path_is_cut_at_whole_characters(void **state)
{
    (void)state;
    char key[301], text[AXI_PATH_TEXT];
    for (size_t i = 0; i < 300; i += 2)
        memcpy(key + i, "\u00fc", 3);
    axi_path path[32] = {{.key = key, .key_length = 300}};
    axi_path_print(text, sizeof text, "reply", path);
    assert_int_equal(strlen(text), strlen("reply \"") + 64 + strlen("...\""));
    for (int i = 1; i < 32; i++)
        path[i] = (axi_path){.parent = &path[i - 1], .key = key, .key_length = 300};
    for (size_t size = 40; size <= sizeof text; size++) {
        axi_path_print(text, size, "reply", &path[31]);
        assert_true(strlen(text) < size);
        assert_true(axi_is_utf8(text, strlen(text)));
        assert_string_equal(text + strlen(text) - 4, "...\"");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read_as_it_was_built),
        cmocka_unit_test(an_unsigned_number_that_fits_is_an_int),
        cmocka_unit_test(a_map_keeps_its_order_and_replaces_what_a_key_had),
        cmocka_unit_test(an_empty_key_is_a_key),
        cmocka_unit_test(look_ups_can_be_chained_through_nothing),
        cmocka_unit_test(a_child_is_freed_when_it_cannot_be_added),
        cmocka_unit_test(a_container_does_not_go_into_itself),
        cmocka_unit_test(many_numbers_are_added_and_read_in_one_call),
        cmocka_unit_test(numbers_convert_when_nothing_is_lost),
        cmocka_unit_test(not_a_number_is_a_float_and_nothing_else),
        cmocka_unit_test(scalars_convert_as_the_numbers_they_are),
        cmocka_unit_test(outputs_may_not_be_null),
        cmocka_unit_test(freeing_nothing_is_fine),
        cmocka_unit_test(a_tree_deeper_than_any_stack_is_freed),
        cmocka_unit_test(a_received_tree_can_become_part_of_another),
        cmocka_unit_test(a_received_tree_can_be_added_to),
        cmocka_unit_test(a_description_that_cannot_be_is_refused_by_its_member),
        cmocka_unit_test(the_size_of_an_array_is_that_of_its_elements),
        cmocka_unit_test(missing_data_is_named),
        cmocka_unit_test(any_strides_are_gathered_in_c_order),
        cmocka_unit_test(every_half_is_read_and_written_exactly),
        cmocka_unit_test(halves_are_rounded_to_the_nearest),
        cmocka_unit_test(elements_take_what_fits_them),
        cmocka_unit_test(dtypes_are_read_in_both_spellings),
        cmocka_unit_test(every_character_is_utf8_and_nothing_else),
        cmocka_unit_test(a_broken_byte_is_found_wherever_it_is),
        cmocka_unit_test(a_place_is_named_by_its_path),
        cmocka_unit_test(a_long_path_is_cut_at_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

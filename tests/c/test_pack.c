/* msgpack: the very bytes that openpi-client writes, and every way in which a peer can lie. */
#include "pack.h"

#include "array.h"

#include "checks.h"
#include "data/openpi_messages.h"

/* ---- the values of openpi_messages.h ------------------------------------------------------- */

static axon_value *integers(void)
{
    axon_value *list = axon_value_list();
    static const uint64_t natural[] = {0,     127,        128,        255,       256,        65535,
                                       65536, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX};
    static const int64_t negative[] = {
        -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN, INT32_MIN - 1ll, INT64_MIN};
    for (size_t i = 0; i < sizeof natural / sizeof *natural; i++)
        axon_value_append(list, axon_value_uint(natural[i]));
    axon_value_append_ints(list, negative, sizeof negative / sizeof *negative);
    return list;
}

static axon_value *floats(void)
{
    static const double numbers[] = {0.0, -0.0, 1.5, 1e300, (double)INFINITY, -(double)INFINITY, 0.1};
    axon_value *list = axon_value_list();
    axon_value_append_floats(list, numbers, 7);
    return list;
}

static axon_value *truths(void)
{
    axon_value *list = axon_value_list();
    axon_value_append(list, axon_value_bool(1));
    axon_value_append(list, axon_value_bool(0));
    return list;
}

static const char *filled(char c, size_t length)
{
    static char text[65536];
    memset(text, c, length);
    return text;
}

static axon_value *text(size_t length)
{
    return axon_value_string(filled('a', length), (int64_t)length);
}

static axon_value *bytes(size_t length)
{
    return axon_value_bytes(filled('b', length), length);
}

static axon_value *ones(size_t count)
{
    axon_value *list = axon_value_list();
    for (size_t i = 0; i < count; i++)
        axon_value_append(list, axon_value_int(1));
    return list;
}

static axon_value *numbered_map(unsigned count)
{
    axon_value *map = axon_value_map();
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%02u", i);
        axon_value_set(map, key, axon_value_int(i));
    }
    return map;
}

static axon_value *key_32(void)
{
    axon_value *map = axon_value_map();
    axon_value_set(map, "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", axon_value_int(1));
    return map;
}

/* `lists` lists in each other, the innermost one empty. */
static axon_value *nested(int lists)
{
    axon_value *value = axon_value_list();
    while (--lists > 0) {
        axon_value *outer = axon_value_list();
        axon_value_append(outer, value);
        value = outer;
    }
    return value;
}

static axon_value *array(axon_array description)
{
    return axon_value_array(&description);
}

/* Three elements, which C's types write down as numpy does. */
#define THREE(name, type, code, ...)                                                                       \
    static axon_value *name(void)                                                                          \
    {                                                                                                      \
        static const type elements[] = {__VA_ARGS__};                                                      \
        return array((axon_array){.dtype = code, .ndim = 1, .shape = {3}, .data = elements});              \
    }

THREE(bools, uint8_t, AXON_BOOL8, 1, 0, 1)
THREE(int8s, int8_t, AXON_INT8, -1, 0, 1)
THREE(int16s, int16_t, AXON_INT16, -1, 0, 1)
THREE(int32s, int32_t, AXON_INT32, -1, 0, 1)
THREE(int64s, int64_t, AXON_INT64, -1, 0, 1)
THREE(uint8s, uint8_t, AXON_UINT8, 0, 1, 2)
THREE(uint16s, uint16_t, AXON_UINT16, 0, 1, 2)
THREE(uint32s, uint32_t, AXON_UINT32, 0, 1, 2)
THREE(uint64s, uint64_t, AXON_UINT64, 0, 1, 2)
THREE(float16s, uint16_t, AXON_FLOAT16, 0, 0x3c00, 0x4000)
THREE(float32s, float, AXON_FLOAT32, 0, 1, 2)
THREE(float64s, double, AXON_FLOAT64, 0, 1, 2)

static axon_value *big_endian_float32s(void)
{
    static const uint8_t elements[] = {0, 0, 0, 0, 0x3f, 0x80, 0, 0, 0x40, 0, 0, 0};
    return array(
        (axon_array){.dtype = AXON_FLOAT32, .ndim = 1, .shape = {3}, .swapped = 1, .data = elements});
}

static axon_value *big_endian_uint16s(void)
{
    static const uint8_t elements[] = {0, 0, 0, 1, 0, 2, 0, 3};
    return array(
        (axon_array){.dtype = AXON_UINT16, .ndim = 2, .shape = {2, 2}, .swapped = 1, .data = elements});
}

static axon_value *zero_dim(void)
{
    static const double number = 2.5;
    return array((axon_array){.dtype = AXON_FLOAT64, .data = &number});
}

static axon_value *empty(void)
{
    return array((axon_array){.dtype = AXON_FLOAT32, .ndim = 1, .shape = {0}});
}

static axon_value *empty_middle(void)
{
    return array((axon_array){.dtype = AXON_FLOAT32, .ndim = 3, .shape = {3, 0, 2}});
}

static axon_value *transposed(void)
{
    static const int32_t n[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    return array(
        (axon_array){.dtype = AXON_INT32, .ndim = 2, .shape = {4, 3}, .strides = {4, 16}, .data = n});
}

static axon_value *reversed(void)
{
    static const int16_t n[] = {0, 1, 2, 3, 4, 5};
    return array(
        (axon_array){.dtype = AXON_INT16, .ndim = 1, .shape = {6}, .strides = {-2}, .data = n + 5});
}

static axon_value *stepped(void)
{
    static double n[36];
    for (int i = 0; i < 36; i++)
        n[i] = i;
    return array((axon_array){
        .dtype = AXON_FLOAT64, .ndim = 2, .shape = {3, 2}, .strides = {96, 24}, .data = n + 6});
}

static axon_value *broadcast(void)
{
    static const uint8_t n[] = {0, 1, 2};
    return array(
        (axon_array){.dtype = AXON_UINT8, .ndim = 2, .shape = {4, 3}, .strides = {0, 1}, .data = n});
}

static axon_value *channels_first(void)
{
    static uint8_t n[60];
    for (int i = 0; i < 60; i++)
        n[i] = (uint8_t)i;
    return array(
        (axon_array){.dtype = AXON_UINT8, .ndim = 3, .shape = {3, 4, 5}, .strides = {1, 15, 3}, .data = n});
}

static const uint8_t zeros[65536];

static axon_value *zero_bytes(int64_t count)
{
    return array((axon_array){.dtype = AXON_UINT8, .ndim = 1, .shape = {count}, .data = zeros});
}

static axon_value *long_shape(void)
{
    axon_array one = {.dtype = AXON_UINT8, .ndim = 17, .data = zeros};
    for (int i = 0; i < 17; i++)
        one.shape[i] = 1;
    return array(one);
}

static axon_value *wide_shape(void)
{
    return array((axon_array){.dtype = AXON_UINT8, .ndim = 3, .shape = {1, 128, 300}, .data = zeros});
}

static axon_value *fixed_text(void)
{
    static const uint32_t n[16] = {[4] = 'a', [8] = 0x4e16, [9] = 0x754c, [12] = 'a', 'b', 'c', 'd'};
    return array(
        (axon_array){.dtype = AXON_FIXED_TEXT, .itemsize = 16, .ndim = 1, .shape = {4}, .data = n});
}

static axon_value *fixed_bytes(void)
{
    return array((axon_array){
        .dtype = AXON_FIXED_BYTES, .itemsize = 3, .ndim = 1, .shape = {2}, .data = "a\0\0bcd"});
}

#define SCALAR(name, type, code, number)                                                                   \
    static axon_value *name(void)                                                                          \
    {                                                                                                      \
        const type element = number;                                                                       \
        return axon_value_scalar(code, &element);                                                          \
    }

SCALAR(scalar_bool, uint8_t, AXON_BOOL8, 1)
SCALAR(scalar_int8, int8_t, AXON_INT8, -3)
SCALAR(scalar_uint16, uint16_t, AXON_UINT16, 65535)
SCALAR(scalar_int64, int64_t, AXON_INT64, INT64_MIN)
SCALAR(scalar_uint64, uint64_t, AXON_UINT64, UINT64_MAX)
SCALAR(scalar_float16, uint16_t, AXON_FLOAT16, 0x2e66)
SCALAR(scalar_float32, float, AXON_FLOAT32, 0.1f)
SCALAR(scalar_float64, double, AXON_FLOAT64, 0.1)

static axon_value *observation(void)
{
    static uint8_t pixels[192];
    static const float joints[] = {0.5f, -1.25f, 3.0f, 0.0f, 1e-3f, -0.0f, 7.5f};
    for (int i = 0; i < 192; i++)
        pixels[i] = (uint8_t)(i * 7);
    axon_value *images = axon_value_map(), *value = axon_value_map();
    axon_value_set(images, "top",
                   array((axon_array){.dtype = AXON_UINT8, .ndim = 3, .shape = {8, 8, 3}, .data = pixels}));
    axon_value_set(images, "wrist",
                   array((axon_array){.dtype = AXON_UINT8,
                                      .ndim = 3,
                                      .shape = {4, 8, 3},
                                      .strides = {48, -3, -1},
                                      .data = pixels + 23}));
    axon_value_set(value, "images", images);
    axon_value_set(value, "state",
                   array((axon_array){.dtype = AXON_FLOAT32, .ndim = 1, .shape = {7}, .data = joints}));
    axon_value_set(value, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
    return value;
}

#define WITH(name, expression)                                                                             \
    static axon_value *name(void)                                                                          \
    {                                                                                                      \
        return expression;                                                                                 \
    }

WITH(nil, axon_value_nil())
WITH(text_0, text(0))
WITH(text_31, text(31))
WITH(text_32, text(32))
WITH(text_255, text(255))
WITH(text_256, text(256))
WITH(text_65535, text(65535))
WITH(text_65536, text(65536))
WITH(text_unicode, axon_value_string("Gr\u00fc\u00dfe, \u4e16\u754c \U0001f916", AXON_ZSTRING))
WITH(bytes_0, bytes(0))
WITH(bytes_255, bytes(255))
WITH(bytes_256, bytes(256))
WITH(bytes_65535, bytes(65535))
WITH(bytes_65536, bytes(65536))
WITH(list_15, ones(15))
WITH(list_16, ones(16))
WITH(list_65535, ones(65535))
WITH(list_65536, ones(65536))
WITH(map_15, numbered_map(15))
WITH(map_16, numbered_map(16))
WITH(nested_32, nested(32))
WITH(bytes_of_array_255, zero_bytes(255))
WITH(bytes_of_array_256, zero_bytes(256))
WITH(bytes_of_array_65536, zero_bytes(65536))

static const struct {
    const char *name;
    axon_value *(*build)(void);
} values[] = {
#define NAMED(name)                                                                                        \
    {                                                                                                      \
#name, name                                                                                        \
    }
    NAMED(nil),
    NAMED(truths),
    NAMED(integers),
    NAMED(floats),
    NAMED(text_0),
    NAMED(text_31),
    NAMED(text_32),
    NAMED(text_255),
    NAMED(text_256),
    NAMED(text_65535),
    NAMED(text_65536),
    NAMED(text_unicode),
    NAMED(bytes_0),
    NAMED(bytes_255),
    NAMED(bytes_256),
    NAMED(bytes_65535),
    NAMED(bytes_65536),
    NAMED(list_15),
    NAMED(list_16),
    NAMED(list_65535),
    NAMED(list_65536),
    NAMED(map_15),
    NAMED(map_16),
    NAMED(key_32),
    NAMED(nested_32),
    NAMED(bools),
    NAMED(int8s),
    NAMED(int16s),
    NAMED(int32s),
    NAMED(int64s),
    NAMED(uint8s),
    NAMED(uint16s),
    NAMED(uint32s),
    NAMED(uint64s),
    NAMED(float16s),
    NAMED(float32s),
    NAMED(float64s),
    NAMED(big_endian_float32s),
    NAMED(big_endian_uint16s),
    NAMED(zero_dim),
    NAMED(empty),
    NAMED(empty_middle),
    NAMED(transposed),
    NAMED(reversed),
    NAMED(stepped),
    NAMED(broadcast),
    NAMED(channels_first),
    NAMED(bytes_of_array_255),
    NAMED(bytes_of_array_256),
    NAMED(bytes_of_array_65536),
    NAMED(long_shape),
    NAMED(wide_shape),
    NAMED(fixed_text),
    NAMED(fixed_bytes),
    NAMED(scalar_bool),
    NAMED(scalar_int8),
    NAMED(scalar_uint16),
    NAMED(scalar_int64),
    NAMED(scalar_uint64),
    NAMED(scalar_float16),
    NAMED(scalar_float32),
    NAMED(scalar_float64),
    NAMED(observation)};
enum { VALUES = sizeof values / sizeof *values };
_Static_assert(VALUES == sizeof openpi_messages / sizeof *openpi_messages, "one builder for each message");

static blob pack(const axon_value *value, axon_marker marker)
{
    axon_error err = {0};
    blob packed = {0};
    assert_ok(axon_value_to_msgpack(value, marker, &packed.data, &packed.length, &err), &err);
    return packed;
}

static void the_bytes_are_those_of_openpi_client(void **state)
{
    (void)state;
    for (size_t i = 0; i < VALUES; i++) {
        assert_string_equal(values[i].name, openpi_messages[i].name);
        axon_value *value = values[i].build();
        blob wanted = from_hex(openpi_messages[i].message), got = pack(value, AXON_MARKER_OPENPI);
        assert_same_bytes(got, wanted, values[i].name);
        axon_value_free(value);
        free(got.data);
        free(wanted.data);
    }
}

static void a_message_that_was_read_is_written_again_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < VALUES; i++) {
        if (strncmp(values[i].name, "big_endian", 10) == 0) continue; /* read into this machine's order */
        axon_error err = {0};
        axon_value *value = NULL;
        blob wanted = from_hex(openpi_messages[i].message);
        assert_ok(axon_value_from_msgpack(wanted.data, wanted.length, &value, &err), &err);
        blob got = pack(value, AXON_MARKER_OPENPI);
        assert_same_bytes(got, wanted, values[i].name);
        axon_value_free(value);
        free(got.data);
        free(wanted.data);
    }
}

/* ---- writing ------------------------------------------------------------------------------- */

static void the_simulator_has_its_own_marker(void **state)
{
    (void)state;
    static const uint8_t pixels[] = {0, 1, 2, 3, 4, 5}, swapped[] = {0, 1, 0, 2}, yes = 1;
    static const uint32_t ab[] = {'a', 'b'};
    static const double number = 0.5;
    const struct {
        axon_array array;
        const char *message; /* what Python's msgpack makes of the server's encode_ndarray() */
    } rows[] = {
        {{.dtype = AXON_UINT8, .ndim = 2, .shape = {2, 3}, .data = pixels},
         "84a85f5f747970655f5fa76e646172726179a57368617065920203a56474797065a575696e7438a464617461c40600010"
         "2030405"},
        {{.dtype = AXON_FLOAT64, .ndim = 1, .shape = {1}, .data = &number},
         "84a85f5f747970655f5fa76e646172726179a573686170659101a56474797065a7666c6f61743634a464617461c408000"
         "000000000e0"
         "3f"},
        {{.dtype = AXON_INT16, .swapped = 1, .ndim = 1, .shape = {2}, .data = swapped},
         "84a85f5f747970655f5fa76e646172726179a573686170659102a56474797065a33e6932a464617461c40400010002"},
        {{.dtype = AXON_BOOL8, .ndim = 1, .shape = {1}, .data = &yes},
         "84a85f5f747970655f5fa76e646172726179a573686170659101a56474797065a4626f6f6ca464617461c40101"},
        {{.dtype = AXON_FIXED_TEXT, .itemsize = 8, .ndim = 1, .shape = {1}, .data = ab},
         "84a85f5f747970655f5fa76e646172726179a573686170659101a56474797065a33c5532a464617461c40861000000620"
         "00000"},
        {{.dtype = AXON_FIXED_BYTES, .itemsize = 2, .ndim = 1, .shape = {1}, .data = "ab"},
         "84a85f5f747970655f5fa76e646172726179a573686170659101a56474797065a37c5332a464617461c4026162"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_value *value = array(rows[i].array), *back = NULL;
        axon_error err;
        const axon_array *read;
        blob wanted = from_hex(rows[i].message), got = pack(value, AXON_MARKER_SIMULATOR);
        assert_same_bytes(got, wanted, rows[i].message);
        assert_ok(axon_value_from_msgpack(got.data, got.length, &back, &err), &err);
        assert_int_equal(axon_value_as_array(back, &read), AXON_OK);
        assert_int_equal(read->dtype, rows[i].array.dtype);
        assert_int_equal(read->ndim, rows[i].array.ndim);
        axon_value_free(value);
        axon_value_free(back);
        free(got.data);
        free(wanted.data);
    }
}

static void the_simulator_gets_scalars_as_plain_numbers(void **state)
{
    (void)state;
    axon_value *value = scalar_uint16();
    blob got = pack(value, AXON_MARKER_SIMULATOR), wanted = from_hex("cdffff");
    assert_same_bytes(got, wanted, "uint16");
    axon_value_free(value);
    free(got.data);
    free(wanted.data);
}

static void large_leaves_are_sent_from_where_they_are(void **state)
{
    (void)state;
    axon_error err;
    axi_message message = {0};
    axon_value *map = axon_value_map();
    const char *prompt = filled('a', 5000);
    axon_value_set(map, "image", zero_bytes(65536));
    axon_value_set(map, "prompt", axon_value_string(prompt, 5000));
    axon_value_set(map, "small", zero_bytes(100));
    for (int round = 0; round < 3; round++) { /* a message can be used again */
        assert_ok(axi_pack(&message, map, AXON_MARKER_OPENPI, "observation", &err), &err);
        uint64_t length = 0;
        assert_int_equal(message.count, 5);
        assert_ptr_equal(message.parts[1].iov_base, zeros);
        assert_ptr_equal(message.parts[3].iov_base, prompt);
        for (size_t i = 0; i < message.count; i++)
            length += message.parts[i].iov_len;
        assert_int_equal(length, message.length);
    }
    axon_value_free(map);
    axi_message_free(&message);
    assert_null(message.parts);
}

static void what_is_gathered_lies_in_one_buffer(void **state)
{
    (void)state;
    static uint16_t n[3][3000];
    axon_error err;
    axi_message message = {0};
    axon_value *list = axon_value_list();
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3000; j++)
            n[i][j] = (uint16_t)(i * 3000 + j);
        axon_value_append(list, array((axon_array){.dtype = AXON_UINT16,
                                                   .ndim = 1,
                                                   .shape = {1000 * (i + 1) / 2},
                                                   .strides = {4},
                                                   .data = n[i]}));
    }
    assert_ok(axi_pack(&message, list, AXON_MARKER_OPENPI, "observation", &err), &err);
    assert_int_equal(message.count, 7);
    for (int i = 0; i < 3; i++) {
        const uint16_t *got = message.parts[2 * i + 1].iov_base;
        assert_int_equal(message.parts[2 * i + 1].iov_len, 1000 * (i + 1) / 2 * 2);
        for (int j = 0; j < 1000 * (i + 1) / 2; j++)
            assert_int_equal(got[j], n[i][2 * j]);
    }
    axon_value_free(list);
    axi_message_free(&message);
}

static void pictures_are_sent_as_rgb_pixels(void **state)
{
    (void)state;
    static const uint8_t bgr[] = {3, 2, 1, 6, 5, 4}, rgb[] = {1, 2, 3, 4, 5, 6};
    const axon_array pixels = {.dtype = AXON_UINT8, .ndim = 3, .shape = {1, 2, 3}, .data = bgr};
    axon_error err;
    axon_image *image = NULL;
    axon_value *back = NULL;
    const axon_array *read = NULL;
    assert_ok(axon_image_open_pixels(&pixels, AXON_BGR, &image, &err), &err);
    axon_value *value = axon_value_image(image);
    blob message = pack(value, AXON_MARKER_OPENPI);
    assert_ok(axon_value_from_msgpack(message.data, message.length, &back, &err), &err);
    assert_int_equal(axon_value_as_array(back, &read), AXON_OK);
    assert_int_equal(read->ndim, 3);
    assert_memory_equal(read->data, rgb, 6);
    axon_value_free(back);
    axon_value_free(value);
    axon_image_close(image);
    free(message.data);
}

static void a_picture_that_cannot_be_decoded_is_named(void **state)
{
    (void)state;
    static const char gif[] = "GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;";
    axon_error err;
    axon_image *image = NULL;
    axi_message message = {0};
    axon_value *map = axon_value_map();
    assert_ok(axon_image_open_bytes(gif, sizeof gif - 1, &image, &err), &err);
    axon_value_set(map, "cam", axon_value_image(image));
    assert_fails(axi_pack(&message, map, AXON_MARKER_OPENPI, "observation", &err), AXON_EINVAL, &err,
                 "observation \"cam\": image");
    axi_message_free(&message);
    axon_value_free(map);
    axon_image_close(image);
}

/* {"images": {"top": [0, 1, child]}} */
static axon_value *at_top_2(axon_value *child)
{
    axon_value *list = axon_value_list(), *images = axon_value_map(), *tree = axon_value_map();
    axon_value_append(list, axon_value_int(0));
    axon_value_append(list, axon_value_int(1));
    axon_value_append(list, child);
    axon_value_set(images, "top", list);
    axon_value_set(tree, "images", images);
    return tree;
}

static void what_cannot_be_sent_is_refused_with_its_place(void **state)
{
    (void)state;
    const uint8_t byte = 0;
    const struct {
        axon_value *child;
        const char *words;
    } rows[] = {
        {array((axon_array){.dtype = AXON_UINT8, .ndim = 2, .shape = {2, -3}, .data = zeros}),
         "observation \"images.top[2]\": shape[1] is -3"},
        {array((axon_array){.dtype = AXON_UINT8, .ndim = 1, .shape = {2}}), "data is NULL"},
        {array((axon_array){.dtype = 77}), "dtype is 77"},
        {axon_value_array(NULL), "dtype is 0"},
        {array((axon_array){.dtype = AXON_UINT8, .ndim = 1, .shape = {1ll << 32}, .data = zeros}),
         "4294967296 bytes, and msgpack carries at most 4294967295"},
        {axon_value_scalar(AXON_INT8, NULL), "data is NULL"},
        {axon_value_scalar(AXON_FIXED_BYTES, &byte), "a scalar whose dtype is no number"},
        {axon_value_scalar((axon_dtype)50, &byte), "a scalar whose dtype is no number"},
        {axon_value_string("\xff", 1), "text that is not UTF-8"},
        {axon_value_string(NULL, 3), "the text is NULL"},
        {axon_value_string("x", 1ll << 33), "8589934592 bytes"},
        {axon_value_bytes(NULL, 3), "the bytes are NULL"},
        {axon_value_bytes("x", 1ull << 32), "4294967296 bytes"},
        {axon_value_json("{}", 2), "JSON text, which msgpack does not carry"},
        {axon_value_image(NULL), "the image is NULL"},
        {nested(30), "observation \"images.top[2][0]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        axi_message message = {0};
        axon_value *tree = at_top_2(rows[i].child);
        assert_fails(axi_pack(&message, tree, AXON_MARKER_OPENPI, "observation", &err), AXON_EINVAL, &err,
                     rows[i].words);
        assert_fails(axi_pack(&message, tree, AXON_MARKER_OPENPI, "observation", &err), AXON_EINVAL, &err,
                     "\"images.top[2]");
        assert_int_equal(message.count, 0);
        axi_message_free(&message);
        axon_value_free(tree);
    }
}

static void a_key_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    axon_error err;
    void *data;
    size_t length;
    axon_value *map = axon_value_map();
    axon_value_set(map, "a\xff", axon_value_nil());
    assert_fails(axon_value_to_msgpack(map, AXON_MARKER_OPENPI, &data, &length, &err), AXON_EINVAL, &err,
                 "value \"a?\": text that is not UTF-8");
    axon_value_free(map);
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    axon_error err;
    void *data;
    size_t length;
    axon_value *value;
    assert_fails(axon_value_to_msgpack(NULL, AXON_MARKER_OPENPI, NULL, &length, &err), AXON_EINVAL, &err,
                 "data is NULL");
    assert_fails(axon_value_to_msgpack(NULL, AXON_MARKER_OPENPI, &data, NULL, &err), AXON_EINVAL, &err,
                 "length is NULL");
    assert_fails(axon_value_to_msgpack(NULL, (axon_marker)9, &data, &length, &err), AXON_EINVAL, &err,
                 "marker is 9");
    assert_fails(axon_value_from_msgpack("\xc0", 1, NULL, &err), AXON_EINVAL, &err, "value is NULL");
    assert_fails(axon_value_from_msgpack(NULL, 1, &value, &err), AXON_EINVAL, &err, "data is NULL");
    assert_int_equal(axon_value_from_msgpack(NULL, 1, &value, NULL), AXON_EINVAL);
}

/* ---- reading ------------------------------------------------------------------------------- */

static axon_value *read_hex_message(const char *hex)
{
    axon_error err;
    axon_value *value = NULL;
    blob message = from_hex(hex);
    axon_status status = axon_value_from_msgpack(message.data, message.length, &value, &err);
    if (status != AXON_OK) fail_msg("%s: %s", hex, err.message);
    free(message.data);
    return value;
}

/* Names of fields: of 4 bytes "data", of 5 "dtype" and "shape", of 11 "__ndarray__", of 13 "__npgeneric__". */
#define B_MARK "c40b5f5f6e6461727261795f5f"
#define S_MARK "ab5f5f6e6461727261795f5f"
#define B_GENERIC "c40d5f5f6e7067656e657269635f5f"
#define S_GENERIC "ad5f5f6e7067656e657269635f5f"
#define B_DATA "c40464617461"
#define S_DATA "a464617461"
#define B_DTYPE "c4056474797065"
#define S_DTYPE "a56474797065"
#define B_SHAPE "c4057368617065"
#define S_SHAPE "a57368617065"
#define F4 "a33c6634"

static void every_marker_of_an_array_is_read(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "84" B_MARK "c3" B_DATA "c4080000803f00000040" B_DTYPE F4 B_SHAPE "9102",
        "84" S_MARK "c3" S_DATA "c4080000803f00000040" S_DTYPE F4 S_SHAPE "9102",
        "84" S_SHAPE "9102" S_DTYPE "a7666c6f61743332" S_DATA "c4080000803f00000040" S_MARK "c3",
        "84a85f5f747970655f5fa76e646172726179" S_SHAPE "9102" S_DTYPE "a7666c6f61743332" S_DATA
        "c4080000803f00000040",
        "84" B_MARK "c3" B_DATA "c4083f80000040000000" B_DTYPE "a33e6634" B_SHAPE "9102",
        /* one field too many */
        "85" B_MARK "c3" B_DATA "c4080000803f00000040" B_DTYPE F4 B_SHAPE "9102 a178c0",
        /* the last of two counts */
        "85" B_MARK "c3" B_DTYPE "c0" B_DATA "c4080000803f00000040" B_DTYPE F4 B_SHAPE "9102",
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        axon_value *value = read_hex_message(messages[i]);
        const axon_array *read = NULL;
        assert_int_equal(axon_value_type(value), AXON_ARRAY);
        assert_int_equal(axon_value_as_array(value, &read), AXON_OK);
        assert_int_equal(read->dtype, AXON_FLOAT32);
        assert_int_equal(read->itemsize, 4);
        assert_int_equal(read->swapped, 0);
        assert_int_equal(read->ndim, 1);
        assert_int_equal(read->shape[0], 2);
        assert_int_equal((uintptr_t)read->data % 4, 0);
        assert_true(((const float *)read->data)[0] == 1 && ((const float *)read->data)[1] == 2);
        axon_value_free(value);
    }
}

static void both_markers_of_a_scalar_are_read(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "83" B_GENERIC "c3" B_DATA "cb3ff8000000000000" B_DTYPE F4,
        "83" S_GENERIC "c3" S_DATA "cb3ff8000000000000" S_DTYPE "a7666c6f61743332",
        "83" B_GENERIC "c3" B_DATA "cb3ff8000000000000" B_DTYPE "a33e6634"};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        axon_value *value = read_hex_message(messages[i]);
        double real = 0;
        assert_int_equal(axon_value_type(value), AXON_SCALAR);
        assert_int_equal(axon_value_as_float(value, &real), AXON_OK);
        assert_true(real == 1.5);
        axon_value_free(value);
    }
}

static void maps_with_other_marks_stay_maps(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "81a85f5f747970655f5fa3626f78",                           /* {"__type__": "box"} */
        "81c4085f5f747970655f5fa76e646172726179",                 /* {b"__type__": "ndarray"} */
        "81b85f5f4d6f64616c697479436f6e6669675f636c6173735f5fc3", /* {"__ModalityConfig_class__": true} */
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        axon_value *value = read_hex_message(messages[i]);
        assert_int_equal(axon_value_type(value), AXON_MAP);
        axon_value_free(value);
    }
}

static void data_is_aligned_wherever_it_lies_in_the_message(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 16; pad++) {
        char hex[256];
        /* [text of `pad` bytes, float64 array of 1.5 and 2.5, as short as a marker can be] */
        snprintf(hex, sizeof hex,
                 "92%02zx 61*%zu 84" S_DATA "c410000000000000f83f0000000000000440" S_MARK "c3" S_DTYPE
                 "a26638" S_SHAPE "9102",
                 0xa0 + pad, pad ? pad : 1);
        if (pad == 0) memcpy(hex + 5, "    ", 4);
        axon_value *value = read_hex_message(hex);
        const axon_array *read = NULL;
        assert_int_equal(axon_value_as_array(axon_value_at(value, 1), &read), AXON_OK);
        assert_int_equal((uintptr_t)read->data % 8, 0);
        assert_true(((const double *)read->data)[0] == 1.5 && ((const double *)read->data)[1] == 2.5);
        const char *text;
        size_t length;
        assert_int_equal(axon_value_as_string(axon_value_at(value, 0), &text, &length), AXON_OK);
        assert_memory_equal(text, filled('a', pad), pad);
        axon_value_free(value);
    }
}

static void bools_of_any_byte_are_read_as_0_and_1(void **state)
{
    (void)state;
    const axon_array *read;
    axon_value *value =
        read_hex_message("84" B_MARK "c3" B_DATA "c4040002ff01" B_DTYPE "a37c6231" B_SHAPE "9104");
    assert_int_equal(axon_value_as_array(value, &read), AXON_OK);
    assert_memory_equal(read->data, "\0\1\1\1", 4);
    axon_value_free(value);
}

static void of_two_children_with_one_key_the_last_counts(void **state)
{
    (void)state;
    int64_t number = 0;
    int32_t is_bytes = 0;
    axon_value *value = read_hex_message("83 a16101 c4016202 a16103");
    assert_int_equal(axon_value_as_int(axon_value_get(value, "a"), &number), AXON_OK);
    assert_int_equal(number, 3);
    assert_int_equal(axon_value_count(value), 3);
    assert_int_equal(axon_value_as_int(axon_value_get(value, "b"), &number), AXON_OK);
    axon_value_key(value, 1, NULL, &is_bytes);
    assert_int_equal(is_bytes, 1);
    axon_value_free(value);
}

static void keys_of_bytes_are_sent_as_they_came(void **state)
{
    (void)state;
    axon_value *value = read_hex_message("82 c4016101 a16202");
    blob got = pack(value, AXON_MARKER_OPENPI), wanted = from_hex("82 c4016101 a16202");
    assert_same_bytes(got, wanted, "keys");
    axon_value_free(value);
    free(got.data);
    free(wanted.data);
}

static void the_other_byte_order_is_turned(void **state)
{
    (void)state;
    static const struct {
        const char *data, *dtype;
        double first;
    } rows[] = {{"c4080001000200030004", "a33e6932", 1},
                {"c4083fc0000000000000", "a33e6634", 1.5},
                {"c4083ff8000000000000", "a33e6638", 1.5},
                {"c4080000000000000007", "a33e7538", 7}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char hex[256];
        const axon_array *read = NULL;
        axon_value number;
        double real = 0;
        const char *counts[] = {"9104", "9102", "9101", "9101"};
        snprintf(hex, sizeof hex, "84" B_MARK "c3" B_DATA "%s" B_DTYPE "%s" B_SHAPE "%s", rows[i].data,
                 rows[i].dtype, counts[i]);
        axon_value *value = read_hex_message(hex);
        assert_int_equal(axon_value_as_array(value, &read), AXON_OK);
        assert_int_equal(read->swapped, 0);
        assert_true(axi_element_read(read->data, read->dtype, false, &number));
        assert_int_equal(axon_value_as_float(&number, &real), AXON_OK);
        assert_true(real == rows[i].first);
        axon_value_free(value);
    }
}

static void a_hundred_thousand_equal_keys_are_read_at_once(void **state)
{
    (void)state;
    enum { KEYS = 100000 };
    uint8_t *message = malloc(5 + 3 * KEYS);
    memcpy(message, (uint8_t[]){0xdf, 0, KEYS >> 16, KEYS >> 8 & 255, KEYS & 255}, 5);
    for (size_t i = 0; i < KEYS; i++)
        memcpy(message + 5 + 3 * i, "\xa1k\x07", 3);
    axon_error err;
    axon_value *value = NULL;
    assert_ok(axon_value_from_msgpack(message, 5 + 3 * KEYS, &value, &err), &err);
    assert_int_equal(axon_value_count(value), KEYS);
    axon_value_free(value);
    free(message);
}

static void a_message_that_breaks_the_rules_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *words;
    } rows[] = {
        {"", "the message ends where a value should begin (byte 0)"},
        {"c1", "0xc1"},
        {"cd01", "ends inside a value"},
        {"cb00000000", "ends inside a value"},
        {"a3 6161", "3 bytes of text are announced and 2 are left"},
        {"c6ffffffff 00", "4294967295 bytes of data are announced and 1 are left"},
        {"a1ff", "text that is not UTF-8"},
        {"a3eda080", "text that is not UTF-8"},
        {"c0c0", "1 bytes follow the message (byte 1)"},
        {"ddffffffff", "4294967295 children are announced and 0 bytes are left"},
        {"dfffffffff 61*10", "4294967295 children are announced and 10 bytes are left"},
        {"93 01 92 c0", "2 children are announced and 1 bytes"},
        {"95 95 01 01 01 01 01", "5 children are announced and 5 bytes"}, /* four of them are owed above */
        {"81 01 01", "a key that is neither text nor bytes"},
        {"81 c0 01", "a key that is neither text nor bytes"},
        {"81 90 01", "a key that is neither text nor bytes"},
        {"81 a1ff 01", "text that is not UTF-8"},
        {"d40000", "an extension type"},
        {"c70c ff 00*12", "an extension type"},
        {"81 a161 d6ff00000000", "message \"a\": an extension type"},
        {"82 a161 92 01 a1ff a162 01", "message \"a[1]\": text that is not UTF-8"},
        {"91*33 01", "nested deeper than 32 levels"},
        {"91*33 90", "nested deeper than 32 levels"},
        {"91*32 80", "nested deeper than 32 levels"},
        {"91*2000 01", "nested deeper than 32 levels"},
        {"81 a161 91*32 01", "nested deeper than 32 levels"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        axon_value *value = NULL;
        blob message = from_hex(rows[i].hex);
        assert_fails(axon_value_from_msgpack(message.data, message.length, &value, &err), AXON_EPROTOCOL,
                     &err, rows[i].words);
        assert_null(value);
        free(message.data);
    }
}

static void a_marked_map_that_lies_is_refused_by_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *words;
    } rows[] = {
        {"81" B_MARK "c3", "an array whose dtype is missing"},
        {"82" B_MARK "c3" B_DTYPE F4, "whose shape is missing"},
        {"83" B_MARK "c3" B_DTYPE F4 B_SHAPE "9101", "whose data is missing"},
        {"84" B_MARK "c2" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "9101", "whose marker is not true"},
        {"84" B_MARK "c0" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "9101", "whose marker is not true"},
        {"84" B_MARK "c3" S_DATA "c40400000000" S_DTYPE F4 S_SHAPE "9101", "whose dtype is missing"},
        {"84" B_MARK "c3" B_DATA "a400000000" B_DTYPE F4 B_SHAPE "9101", "whose data is not bytes"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE "c4033c6634" B_SHAPE "9101",
         "whose dtype is not text"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE "a27c4f" B_SHAPE "9101",
         "whose dtype is '|O', which is not a dtype that travels"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE "a37c5634" B_SHAPE "9101", "'|V4'"},
        {"84" B_MARK "c3" B_DATA "c40800*8" B_DTYPE "a33c6338" B_SHAPE "9101", "'<c8'"},
        {"84" B_MARK "c3" B_DATA "c40800*8" B_DTYPE "a33c4d38" B_SHAPE "9101", "'<M8'"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE "a43c663478" B_SHAPE "9101", "'<f4x'"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE "d964 61*100" B_SHAPE "9101",
         "'aaaaaaaaaaaaaaaaaaaaaaaa'"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "01", "whose shape is not a list"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "91a131",
         "whose shape has a dimension 0"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "9201ff",
         "whose shape has a dimension 1"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "91cb3ff0000000000000", "dimension 0"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "91cfffffffffffffffff", "dimension 0"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "92ce80000000cf0000000100000000",
         "whose shape makes more than 2^63 bytes"},
        {"84" B_MARK "c3" B_DATA "c400" B_DTYPE F4 B_SHAPE "9300ceffffffffceffffffff",
         "makes more than 2^63 bytes"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "dc0021 01*33", "33 dimensions"},
        {"84" B_MARK "c3" B_DATA "c40400000000" B_DTYPE F4 B_SHAPE "9102",
         "whose data has 4 bytes where shape and dtype make 8"},
        {"84" B_MARK "c3" B_DATA "c4050000000000" B_DTYPE F4 B_SHAPE "9101", "has 5 bytes"},
        {"84" B_MARK "c3" B_DATA "c400" B_DTYPE F4 B_SHAPE "90",
         "has 0 bytes where shape and dtype make 4"},
        {"84" B_MARK "c3" B_DATA "c40400001100" B_DTYPE "a33c5531" B_SHAPE "9101",
         "text that is not Unicode"},
        {"84" B_MARK "c3" B_DATA "c40400d80000" B_DTYPE "a33c5531" B_SHAPE "9101",
         "text that is not Unicode"},
        {"81a85f5f747970655f5fa76e646172726179", "an array whose dtype is missing"},
        {"81" B_GENERIC "c3", "a scalar whose dtype is missing"},
        {"82" B_GENERIC "c3" B_DTYPE F4, "a scalar whose data is missing"},
        {"83" B_GENERIC "c3" B_DATA "cd012c" B_DTYPE "a37c6931",
         "a scalar whose data does not fit its dtype"},
        {"83" B_GENERIC "c3" B_DATA "a131" B_DTYPE F4, "does not fit its dtype"},
        {"83" B_GENERIC "c3" B_DATA "a131" B_DTYPE "a33c5531", "does not fit its dtype"},
        {"83" B_GENERIC "c3" B_DATA "c40101" B_DTYPE "a37c5631", "'|V1'"},
        {"83" B_GENERIC "c2" B_DATA "01" B_DTYPE "a37c6931", "a scalar whose marker is not true"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char hex[512];
        axon_error err;
        axon_value *value = NULL;
        snprintf(hex, sizeof hex, "81a7616374696f6e73%s", rows[i].hex); /* under "actions" */
        blob message = from_hex(hex);
        assert_fails(axon_value_from_msgpack(message.data, message.length, &value, &err), AXON_EPROTOCOL,
                     &err, rows[i].words);
        assert_fails(axon_value_from_msgpack(message.data, message.length, &value, &err), AXON_EPROTOCOL,
                     &err, "message \"actions\": ");
        free(message.data);
    }
}

static void what_is_sent_at_the_deepest_level_can_be_read(void **state)
{
    (void)state;
    axon_value *deep = axon_value_list(), *back = NULL;
    axon_value_append(deep, zero_bytes(3));
    axon_value_append(deep, scalar_int8());
    for (int i = 1; i < 32; i++) {
        axon_value *outer = axon_value_list();
        axon_value_append(outer, deep);
        deep = outer;
    }
    for (axon_marker marker = AXON_MARKER_OPENPI; marker <= AXON_MARKER_SIMULATOR; marker++) {
        axon_error err;
        blob message = pack(deep, marker);
        assert_ok(axon_value_from_msgpack(message.data, message.length, &back, &err), &err);
        axon_value_free(back);
        free(message.data);
    }
    axon_value_free(deep);
}

static void more_values_than_anyone_sends_are_too_many(void **state)
{
    (void)state;
    enum { COUNT = (8 << 20) + 1 };
    axon_error err;
    axon_value *value = NULL;
    uint8_t *message = malloc(5 + COUNT);
    memset(message, 0xc0, 5 + COUNT);
    memcpy(message, (uint8_t[]){0xdd, COUNT >> 24, COUNT >> 16 & 255, COUNT >> 8 & 255, COUNT & 255}, 5);
    assert_fails(axon_value_from_msgpack(message, 5 + COUNT, &value, &err), AXON_ETOOBIG, &err,
                 "more than 8388608 values");
    free(message);
}

static void every_beginning_of_a_message_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < VALUES; i++) {
        blob message = from_hex(openpi_messages[i].message);
        for (size_t length = 0; length < message.length; length += 1 + length / 300) {
            axon_error err;
            axon_value *value = NULL;
            assert_fails(axon_value_from_msgpack(message.data, length, &value, &err), AXON_EPROTOCOL, &err,
                         "message");
        }
        free(message.data);
    }
}

static void any_byte_may_be_wrong(void **state)
{
    (void)state; /* either way is fine, as long as the sanitizers are */
    for (size_t i = 0; i < VALUES; i++) {
        blob message = from_hex(openpi_messages[i].message);
        if (message.length > 1000) message.length = 0;
        for (size_t at = 0; at < message.length; at++) {
            static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x10, 0x41};
            for (size_t c = 0; c < sizeof changes; c++) {
                axon_error err;
                axon_value *value = NULL;
                ((uint8_t *)message.data)[at] ^= changes[c];
                axon_status status = axon_value_from_msgpack(message.data, message.length, &value, &err);
                ((uint8_t *)message.data)[at] ^= changes[c];
                assert_true(status == AXON_OK || status == AXON_EPROTOCOL);
                axon_value_free(value);
            }
        }
        free(message.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_openpi_client),
        cmocka_unit_test(a_message_that_was_read_is_written_again_as_it_was),
        cmocka_unit_test(the_simulator_has_its_own_marker),
        cmocka_unit_test(the_simulator_gets_scalars_as_plain_numbers),
        cmocka_unit_test(large_leaves_are_sent_from_where_they_are),
        cmocka_unit_test(what_is_gathered_lies_in_one_buffer),
        cmocka_unit_test(pictures_are_sent_as_rgb_pixels),
        cmocka_unit_test(a_picture_that_cannot_be_decoded_is_named),
        cmocka_unit_test(what_cannot_be_sent_is_refused_with_its_place),
        cmocka_unit_test(a_key_that_is_not_utf8_is_refused),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(every_marker_of_an_array_is_read),
        cmocka_unit_test(both_markers_of_a_scalar_are_read),
        cmocka_unit_test(maps_with_other_marks_stay_maps),
        cmocka_unit_test(data_is_aligned_wherever_it_lies_in_the_message),
        cmocka_unit_test(bools_of_any_byte_are_read_as_0_and_1),
        cmocka_unit_test(of_two_children_with_one_key_the_last_counts),
        cmocka_unit_test(keys_of_bytes_are_sent_as_they_came),
        cmocka_unit_test(the_other_byte_order_is_turned),
        cmocka_unit_test(a_hundred_thousand_equal_keys_are_read_at_once),
        cmocka_unit_test(a_message_that_breaks_the_rules_is_refused),
        cmocka_unit_test(a_marked_map_that_lies_is_refused_by_its_field),
        cmocka_unit_test(what_is_sent_at_the_deepest_level_can_be_read),
        cmocka_unit_test(more_values_than_anyone_sends_are_too_many),
        cmocka_unit_test(every_beginning_of_a_message_is_refused),
        cmocka_unit_test(any_byte_may_be_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

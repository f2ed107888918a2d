/* Maps that stand for arrays and pictures in the forms of GR00T, vla-eval and positronic; test_pack.c has openpi's
 * and the simulator's. */
#include "unpack_marked.h"

#include "checks.h"

/* ---- messages ------------------------------------------------------------------------------ */

enum { WIDTH = 6, HEIGHT = 4 };

static uint8_t red_to_green[HEIGHT][WIDTH][3];

static void fill_picture(void)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            memcpy(red_to_green[y][x], (uint8_t[]){(uint8_t)(255 - 40 * x), (uint8_t)(40 * x), (uint8_t)y},
                   3);
}

static blob encoded(const axon_array *pixels, axon_image_format format)
{
    axon_error err;
    axon_image *image;
    blob out = {0};
    const axon_image_encode_options options = {.size = sizeof options, .format = format, .quality = 100};
    assert_ok(axon_image_open_pixels(pixels, AXON_RGB, &image, &err), &err);
    assert_ok(axon_image_encode(image, &options, &out.data, &out.length, &err), &err);
    axon_image_close(image);
    return out;
}

static blob picture(axon_image_format format)
{
    fill_picture();
    const axon_array pixels = {
        .dtype = AXON_UINT8, .ndim = 3, .shape = {HEIGHT, WIDTH, 3}, .data = red_to_green};
    return encoded(&pixels, format);
}

static blob grey_picture(void)
{
    fill_picture();
    const axon_array pixels = {.dtype = AXON_UINT8,
                               .ndim = 2,
                               .shape = {HEIGHT, WIDTH},
                               .strides = {WIDTH * 3, 3},
                               .data = red_to_green};
    return encoded(&pixels, AXON_IMAGE_PNG);
}

static axon_value *map_with_marker(const char *marker)
{
    axon_value *map = axon_value_map();
    axon_value_set(map, marker, axon_value_bool(1));
    return map;
}

static axon_value *picture_map(const char *format, blob file, const int64_t *shape, size_t ndim)
{
    axon_value *map = map_with_marker("__image__"), *list = axon_value_list();
    axon_value_append_ints(list, shape, ndim);
    axon_value_set(map, "format", axon_value_string(format, -1));
    axon_value_set(map, "data", axon_value_bytes(file.data, file.length));
    axon_value_set(map, "shape", list);
    return map;
}

static axon_value *frames_map(const blob *files, size_t count, int64_t ndim)
{
    axon_value *map = map_with_marker("__jpeg__"), *list = axon_value_list();
    for (size_t i = 0; i < count; i++)
        axon_value_append(list, axon_value_bytes(files[i].data, files[i].length));
    axon_value_set(map, "frames", list);
    axon_value_set(map, "ndim", axon_value_int(ndim));
    return map;
}

static axon_value *npy_map(blob file)
{
    axon_value *map = map_with_marker("__ndarray_class__");
    axon_value_set(map, "as_npy", axon_value_bytes(file.data, file.length));
    return map;
}

static void make_keys_bytes(axon_value *map)
{
    for (uint32_t i = 0; i < map->as.children.count; i++)
        map->as.children.items[i].flags |= AXI_KEY_IS_BYTES;
}

/* What a peer that gets {"top": map} reads. `map` is used up. */
static axon_status send(axon_value *map, axon_value **received, axon_error *err)
{
    blob message;
    axon_value *tree = axon_value_map();
    axon_value_set(tree, "top", map);
    assert_ok(axon_value_to_msgpack(tree, AXON_MARKER_OPENPI, &message.data, &message.length, err), err);
    axon_value_free(tree);
    axon_status status = axon_value_from_msgpack(message.data, message.length, received, err);
    axon_free(message.data);
    return status;
}

static const axon_array *received_array(axon_value *map, axon_value **received)
{
    axon_error err;
    const axon_array *array = NULL;
    assert_ok(send(map, received, &err), &err);
    assert_int_equal(axon_value_as_array(axon_value_get(*received, "top"), &array), AXON_OK);
    return array;
}

static void assert_refused(axon_value *map, axon_status status, const char *words)
{
    axon_error err;
    axon_value *received = NULL;
    assert_fails(send(map, &received, &err), status, &err, words);
    if (status != AXON_ENOMEM) assert_non_null(strstr(err.message, "message \"top\": "));
    assert_null(received);
}

static void assert_shape(const axon_array *array, const int64_t *shape, int32_t ndim)
{
    assert_int_equal(array->ndim, ndim);
    for (int i = 0; i < ndim; i++)
        assert_int_equal(array->shape[i], shape[i]);
}

/* ---- pictures ------------------------------------------------------------------------------ */

static const int64_t picture_shape[] = {HEIGHT, WIDTH, 3};

static void a_png_becomes_the_pixels_that_it_was(void **state)
{
    (void)state;
    blob file = picture(AXON_IMAGE_PNG);
    for (int has_bytes = 0; has_bytes < 2; has_bytes++) {
        axon_value *received, *map = picture_map("png", file, picture_shape, 3);
        if (has_bytes) make_keys_bytes(map);
        const axon_array *array = received_array(map, &received);
        assert_int_equal(array->dtype, AXON_UINT8);
        assert_shape(array, picture_shape, 3);
        assert_memory_equal(array->data, red_to_green, sizeof red_to_green);
        axon_value_free(received);
    }
    axon_free(file.data);
}

static void a_jpeg_becomes_rgb(void **state)
{
    (void)state;
    blob file = picture(AXON_IMAGE_JPEG);
    axon_value *received;
    const axon_array *array = received_array(picture_map("jpeg", file, picture_shape, 3), &received);
    const uint8_t *pixels = array->data;
    assert_shape(array, picture_shape, 3);
    assert_true(pixels[0] > 180 && pixels[1] < 80); /* red on the left */
    assert_true(pixels[3 * (WIDTH - 1)] < 120 &&
                pixels[3 * (WIDTH - 1) + 1] > 140); /* green on the right */
    axon_value_free(received);
    axon_free(file.data);
}

static void grey_has_as_many_channels_as_its_shape_says(void **state)
{
    (void)state;
    blob file = grey_picture();
    for (int64_t channels = 0; channels <= 3; channels++) {
        axon_value *received;
        const int64_t shape[] = {HEIGHT, WIDTH, channels};
        const int32_t ndim = channels ? 3 : 2;
        if (channels == 2) continue;
        const axon_array *array = received_array(picture_map("png", file, shape, (size_t)ndim), &received);
        const uint8_t *pixels = array->data;
        assert_shape(array, shape, ndim);
        for (int64_t c = 0; c < (channels ? channels : 1); c++)
            assert_int_equal(pixels[(channels ? channels : 1) + c], red_to_green[0][1][0]);
        axon_value_free(received);
    }
    axon_free(file.data);
}

static void a_raw_picture_is_an_array(void **state)
{
    (void)state;
    fill_picture();
    axon_value *received,
        *map = picture_map("raw", (blob){red_to_green, sizeof red_to_green}, picture_shape, 3);
    axon_value_set(map, "dtype", axon_value_string("|u1", -1));
    const axon_array *array = received_array(map, &received);
    assert_shape(array, picture_shape, 3);
    assert_memory_equal(array->data, red_to_green, sizeof red_to_green);
    axon_value_free(received);
}

static void a_picture_that_lies_is_refused(void **state)
{
    (void)state;
    blob png = picture(AXON_IMAGE_PNG), jpeg = picture(AXON_IMAGE_JPEG), grey = grey_picture();
    blob cut = {png.data, png.length - 20}, none = {(void *)(uintptr_t) "", 0};
    const int64_t turned[] = {WIDTH, HEIGHT, 3}, alpha[] = {HEIGHT, WIDTH, 4}, flat[] = {HEIGHT, WIDTH},
                  negative[] = {-1, WIDTH, 3}, batch[] = {1, HEIGHT, WIDTH, 3};
    assert_refused(picture_map("png", png, turned, 3), AXON_EPROTOCOL,
                   "a picture whose data has 6x4 pixels where its shape says 4x6");
    assert_refused(picture_map("png", png, alpha, 3), AXON_EPROTOCOL,
                   "whose shape is not (height, width, 3)");
    assert_refused(picture_map("png", png, batch, 4), AXON_EPROTOCOL,
                   "whose shape is not (height, width, 3)");
    assert_refused(picture_map("png", png, flat, 2), AXON_EPROTOCOL,
                   "has colours where its shape has none");
    assert_refused(picture_map("png", png, negative, 3), AXON_EPROTOCOL, "whose shape has a dimension 0");
    assert_refused(picture_map("png", jpeg, picture_shape, 3), AXON_EPROTOCOL, "whose data is no PNG");
    assert_refused(picture_map("jpeg", png, picture_shape, 3), AXON_EPROTOCOL, "whose data is no JPEG");
    assert_refused(picture_map("webp", png, picture_shape, 3), AXON_EPROTOCOL, "whose format is neither");
    assert_refused(picture_map("png", cut, picture_shape, 3), AXON_EPROTOCOL, "PNG is damaged");
    assert_refused(picture_map("png", none, picture_shape, 3), AXON_EPROTOCOL, "data: empty");
    assert_refused(map_with_marker("__image__"), AXON_EPROTOCOL, "whose format is neither");
    axon_value *no_shape = picture_map("png", png, picture_shape, 3);
    axi_value_remove(no_shape, "shape");
    assert_refused(no_shape, AXON_EPROTOCOL, "whose shape is missing");
    axon_value *no_data = picture_map("png", png, picture_shape, 3);
    axi_value_remove(no_data, "data");
    assert_refused(no_data, AXON_EPROTOCOL, "whose data is missing");
    axon_value *false_marker = picture_map("png", png, picture_shape, 3);
    axon_value_set(false_marker, "__image__", axon_value_bool(0));
    assert_refused(false_marker, AXON_EPROTOCOL, "whose marker is not true");
    axon_free(png.data);
    axon_free(jpeg.data);
    axon_free(grey.data);
}

static void sixteen_bits_are_no_picture_on_the_wire(void **state)
{
    (void)state;
    static const uint16_t depth[HEIGHT][WIDTH];
    const axon_array pixels = {.dtype = AXON_UINT16, .ndim = 2, .shape = {HEIGHT, WIDTH}, .data = depth};
    const int64_t shape[] = {HEIGHT, WIDTH};
    blob file = encoded(&pixels, AXON_IMAGE_PNG);
    assert_refused(picture_map("png", file, shape, 2), AXON_EPROTOCOL, "more than 8 bits");
    axon_free(file.data);
}

/* ---- how much pictures may become ----------------------------------------------------------- */

static blob black(int64_t side)
{
    uint8_t *zeros = calloc((size_t)(side * side), 3);
    const axon_array pixels = {.dtype = AXON_UINT8, .ndim = 3, .shape = {side, side, 3}, .data = zeros};
    blob file = encoded(&pixels, AXON_IMAGE_PNG);
    free(zeros);
    return file;
}

static void pictures_of_one_message_are_limited_together(void **state)
{
    (void)state;
    axon_error err;
    blob file = black(4096), message; /* 48 MiB when decoded: five of them may be in a message */
    assert_true(file.length < 200000);
    for (int count = 5; count <= 6; count++) {
        axon_value *list = axon_value_list(), *received = NULL;
        const int64_t shape[] = {4096, 4096, 3};
        for (int i = 0; i < count; i++)
            axon_value_append(list, picture_map("png", file, shape, 3));
        assert_ok(axon_value_to_msgpack(list, AXON_MARKER_OPENPI, &message.data, &message.length, &err),
                  &err);
        axon_status status = axon_value_from_msgpack(message.data, message.length, &received, &err);
        assert_int_equal(status, count == 5 ? AXON_OK : AXON_ETOOBIG);
        if (count == 6) {
            assert_non_null(strstr(err.message, "message \"[5]\": 1 picture(s) of 4096x4096 pixels"));
            assert_non_null(strstr(err.message, "268435456 bytes"));
        }
        axon_value_free(received);
        axon_value_free(list);
        axon_free(message.data);
    }
    axon_free(file.data);
}

static void a_header_that_promises_too_much_is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    blob file = picture(AXON_IMAGE_PNG);
    uint8_t *size = (uint8_t *)file.data + 16; /* IHDR: width and height, big-endian */
    memcpy(size, (uint8_t[]){0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}, 8);
    const int64_t shape[] = {INT32_MAX, INT32_MAX, 3};
    assert_refused(picture_map("png", file, shape, 3), AXON_ETOOBIG, "2147483647x2147483647 pixels");
    axon_free(file.data);
}

/* ---- frames -------------------------------------------------------------------------------- */

static void frames_are_one_array(void **state)
{
    (void)state;
    const blob file = picture(AXON_IMAGE_JPEG), files[] = {file, file};
    const int64_t two[] = {2, HEIGHT, WIDTH, 3}, one[] = {1, HEIGHT, WIDTH, 3};
    for (int has_bytes = 0; has_bytes < 2; has_bytes++) {
        axon_value *received, *map = frames_map(files, 2, 4);
        if (has_bytes) make_keys_bytes(map);
        const axon_array *array = received_array(map, &received);
        const uint8_t *pixels = array->data;
        assert_shape(array, two, 4);
        assert_memory_equal(pixels, pixels + sizeof red_to_green, sizeof red_to_green);
        axon_value_free(received);
    }
    axon_value *received;
    assert_shape(received_array(frames_map(files, 1, 4), &received), one, 4);
    axon_value_free(received);
    assert_shape(received_array(frames_map(files, 1, 3), &received), picture_shape, 3);
    axon_value_free(received);
    axon_free(file.data);
}

static void frames_that_lie_are_refused(void **state)
{
    (void)state;
    const blob jpeg = picture(AXON_IMAGE_JPEG), png = picture(AXON_IMAGE_PNG);
    const axon_array smaller = {
        .dtype = AXON_UINT8, .ndim = 3, .shape = {HEIGHT, WIDTH - 1, 3}, .data = red_to_green};
    const blob small = encoded(&smaller, AXON_IMAGE_JPEG), cut = {jpeg.data, jpeg.length / 2};
    const blob mixed[] = {jpeg, small}, damaged[] = {jpeg, cut}, pngs[] = {png};
    assert_refused(frames_map(mixed, 0, 4), AXON_EPROTOCOL, "JPEG frames whose frames is empty");
    assert_refused(frames_map(mixed, 2, 4), AXON_EPROTOCOL, "are not all of one size");
    assert_refused(frames_map(mixed, 2, 3), AXON_EPROTOCOL, "is more than one where ndim is 3");
    assert_refused(frames_map(mixed, 1, 5), AXON_EPROTOCOL, "whose ndim is neither 3 nor 4");
    assert_refused(frames_map(damaged, 2, 4), AXON_EPROTOCOL, "JPEG");
    assert_refused(frames_map(pngs, 1, 3), AXON_EPROTOCOL, "is no JPEG");
    assert_refused(map_with_marker("__jpeg__"), AXON_EPROTOCOL, "whose frames is missing");
    axon_value *texts = frames_map(mixed, 0, 4);
    axon_value_append((axon_value *)(uintptr_t)axon_value_get(texts, "frames"), axon_value_string("a", -1));
    assert_refused(texts, AXON_EPROTOCOL, "whose frames is not bytes");
    axon_free(jpeg.data);
    axon_free(png.data);
    axon_free(small.data);
}

/* ---- .npy ---------------------------------------------------------------------------------- */

/* A .npy file of version 1.0 whose header is not padded: elements may then lie anywhere. */
static blob npy_file(const char *descr, const char *order, const char *shape, const void *data,
                     size_t length)
{
    blob file = {malloc(256 + length), 0};
    uint8_t *bytes = file.data;
    int header = snprintf((char *)bytes + 10, 240, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n",
                          descr, order, shape);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    bytes[8] = (uint8_t)header;
    bytes[9] = 0;
    memcpy(bytes + 10 + header, data, length);
    file.length = 10 + (size_t)header + length;
    return file;
}

static const float six[] = {0, 1, 2, 3, 4, 5};

static void an_npy_file_becomes_its_array(void **state)
{
    (void)state;
    static const struct {
        const char *shape;
        int32_t ndim;
        int64_t sizes[5];
    } rows[] = {{"(6,)", 1, {6}}, {"(2, 3)", 2, {2, 3}}, {"(1, 1, 1, 2, 3)", 5, {1, 1, 1, 2, 3}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob file = npy_file("<f4", "False", rows[i].shape, six, sizeof six);
        axon_value *received;
        const axon_array *array = received_array(npy_map(file), &received);
        assert_int_equal(array->dtype, AXON_FLOAT32);
        assert_shape(array, rows[i].sizes, rows[i].ndim);
        assert_int_equal((uintptr_t)array->data % 4, 0);
        assert_memory_equal(array->data, six, sizeof six);
        axon_value_free(received);
        free(file.data);
    }
}

static void an_npy_file_of_any_order_is_read_in_c_order(void **state)
{
    (void)state;
    static const float turned[] = {0, 3, 1, 4, 2, 5};
    static const uint8_t big[] = {0, 1, 0, 2};
    const int64_t shape[] = {2, 3};
    blob file = npy_file("<f4", "True", "(2, 3)", turned, sizeof turned);
    axon_value *received;
    const axon_array *array = received_array(npy_map(file), &received);
    assert_shape(array, shape, 2);
    assert_memory_equal(array->data, six, sizeof six);
    axon_value_free(received);
    free(file.data);

    file = npy_file(">i2", "False", "(2,)", big, sizeof big);
    array = received_array(npy_map(file), &received);
    assert_int_equal(array->swapped, 0);
    assert_memory_equal(array->data, ((int16_t[]){1, 2}), 4);
    axon_value_free(received);
    free(file.data);
}

static void arrays_of_npy_without_elements_or_dimensions_are_read(void **state)
{
    (void)state;
    static const char *const orders[] = {"False", "True"};
    for (size_t i = 0; i < 2; i++) {
        blob empty = npy_file("<f4", orders[i], "(0, 3)", "", 0),
             single = npy_file("|b1", orders[i], "()", "\x07", 1);
        axon_value *received;
        assert_shape(received_array(npy_map(empty), &received), (int64_t[]){0, 3}, 2);
        axon_value_free(received);
        const axon_array *array = received_array(npy_map(single), &received);
        assert_int_equal(array->ndim, 0);
        assert_int_equal(*(const uint8_t *)array->data, 1);
        axon_value_free(received);
        free(empty.data);
        free(single.data);
    }
}

static void an_npy_file_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *descr, *shape, *words;
        size_t length;
    } rows[] = {
        {"<f4", "(7,)", "24 bytes of data where its header says 28", 24},
        {"<f4", "(5,)", "24 bytes of data where its header says 20", 24},
        {"|O", "(3,)", "dtype '|O', which does not travel", 24},
        {"<c8", "(3,)", "dtype '<c8'", 24},
        {"<f8", "(2147483647, 2147483647, 2147483647)", "more than 2^63 bytes", 24},
        {"<f4", "(4294967296,)", "damaged header", 24},
        {"<f4", "(-1,)", "damaged header", 24},
        {"<f4", "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,6)", "damaged header",
         24},
        {"<U1", "(1,)", "text that is not Unicode", 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        blob file = npy_file(rows[i].descr, "False", rows[i].shape,
                             rows[i].length == 4 ? (const void *)"\xff\xff\xff\xff" : six, rows[i].length);
        assert_refused(npy_map(file), AXON_EPROTOCOL, rows[i].words);
        free(file.data);
    }
    assert_refused(npy_map((blob){(void *)(uintptr_t) "\x93NUMPY", 6}), AXON_EPROTOCOL,
                   "cut off at byte 6");
    assert_refused(map_with_marker("__ndarray_class__"), AXON_EPROTOCOL, "whose as_npy is missing");
    axon_value *text = map_with_marker("__ndarray_class__");
    axon_value_set(text, "as_npy", axon_value_string("npy", -1));
    assert_refused(text, AXON_EPROTOCOL, "whose as_npy is not bytes");
}

/* ---- every byte ---------------------------------------------------------------------------- */

static void any_byte_of_a_file_may_be_wrong(void **state)
{
    (void)state; /* either way is fine, as long as the sanitizers are */
    blob files[] = {picture(AXON_IMAGE_PNG), picture(AXON_IMAGE_JPEG),
                    npy_file("<f4", "True", "(2, 3)", six, sizeof six)};
    for (size_t i = 0; i < 3; i++) {
        uint8_t *bytes = files[i].data;
        for (size_t at = 0; at < files[i].length; at++) {
            axon_error err;
            axon_value *received = NULL;
            bytes[at] ^= 0x81;
            axon_value *map = i == 0   ? picture_map("png", files[0], picture_shape, 3)
                              : i == 1 ? picture_map("jpeg", files[1], picture_shape, 3)
                                       : npy_map(files[2]);
            axon_status status = send(map, &received, &err);
            bytes[at] ^= 0x81;
            assert_true(status == AXON_OK || status == AXON_EPROTOCOL || status == AXON_ETOOBIG);
            axon_value_free(received);
        }
        axon_free(files[i].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_png_becomes_the_pixels_that_it_was),
        cmocka_unit_test(a_jpeg_becomes_rgb),
        cmocka_unit_test(grey_has_as_many_channels_as_its_shape_says),
        cmocka_unit_test(a_raw_picture_is_an_array),
        cmocka_unit_test(a_picture_that_lies_is_refused),
        cmocka_unit_test(sixteen_bits_are_no_picture_on_the_wire),
        cmocka_unit_test(pictures_of_one_message_are_limited_together),
        cmocka_unit_test(a_header_that_promises_too_much_is_refused_before_memory_is_taken),
        cmocka_unit_test(frames_are_one_array),
        cmocka_unit_test(frames_that_lie_are_refused),
        cmocka_unit_test(an_npy_file_becomes_its_array),
        cmocka_unit_test(an_npy_file_of_any_order_is_read_in_c_order),
        cmocka_unit_test(arrays_of_npy_without_elements_or_dimensions_are_read),
        cmocka_unit_test(an_npy_file_that_lies_is_refused),
        cmocka_unit_test(any_byte_of_a_file_may_be_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Pictures when memory runs out: every allocation of every call fails once, and nothing is lost or leaked. */
#include "checks.h"

#include "base64.h"
#include "failing_malloc.h"
#include "image_internal.h"

#define PHOTOGRAPH "tests/data/astronaut.jpg"

static axon_error error;

/* What is done again and again. It frees all that it makes and gives the status of the call under test. */
typedef axon_status (*operation)(const axon_image *image);

/* Fails each allocation in turn. A failure that only costs room may go unnoticed, but one at least is told. */
static void survives(operation run, const axon_image *image)
{
    int told = 0;
    for (long count = 0;; count++) {
        error.message[0] = 0;
        fail_after(count);
        axon_status status = run(image);
        if (!fail_no_more()) {
            assert_int_equal(status, AXON_OK);
            break;
        }
        if (status == AXON_OK) continue;
        assert_int_equal(status, AXON_ENOMEM);
        assert_int_equal(error.code, AXON_ENOMEM);
        assert_non_null(strstr(error.message, "out of memory"));
        told++;
    }
    assert_true(told > 0);
}

static axon_status opened(axon_status status, axon_image *const *image)
{
    if (status == AXON_OK) axon_image_close(*image);
    return status;
}

static axon_status open_file(const axon_image *unused)
{
    axon_image *image;
    (void)unused;
    return opened(axon_image_open_path(PHOTOGRAPH, &image, &error), &image);
}

static axon_status open_folded_base64(const axon_image *unused)
{
    axon_image *image;
    (void)unused;
    return opened(axon_image_open_text("R0lG\nODlh", AXON_ZSTRING, &image, &error), &image);
}

static axon_status open_array(const axon_image *unused)
{
    axon_image *image;
    axon_array array = {.dtype = AXON_UINT8, .ndim = 2, .shape = {1, 1}, .data = &error};
    (void)unused;
    return opened(axon_image_open_pixels(&array, AXON_RGB, &image, &error), &image);
}

static axon_status encode_as(const axon_image *image, axon_image_format format)
{
    axon_image_encode_options options = {.size = sizeof options, .format = format};
    void *data;
    size_t length;
    axon_status status = axon_image_encode(image, &options, &data, &length, &error);
    if (status == AXON_OK) axon_free(data);
    return status;
}

static axon_status encode_same(const axon_image *image)
{
    return encode_as(image, AXON_IMAGE_UNKNOWN);
}

static axon_status encode_png(const axon_image *image)
{
    return encode_as(image, AXON_IMAGE_PNG);
}

static axon_status encode_jpeg(const axon_image *image)
{
    return encode_as(image, AXON_IMAGE_JPEG);
}

static axon_status encode_npy(const axon_image *image)
{
    return encode_as(image, AXON_IMAGE_NPY);
}

static axon_status encode_for_body(const axon_image *image)
{
    axi_image_bytes body;
    axon_status status = axi_image_for_body(image, &body, &error);
    if (status == AXON_OK) free(body.owned);
    return status;
}

static axon_status decode(const axon_image *image)
{
    axon_array pixels;
    axon_status status = axon_image_decode(image, AXON_RGB, &pixels, &error);
    if (status == AXON_OK) axon_free((void *)(uintptr_t)pixels.data);
    return status;
}

static void opening_survives(void **state)
{
    (void)state;
    survives(open_file, NULL);
    survives(open_folded_base64, NULL);
    survives(open_array, NULL);
}

static void files_survive(void **state)
{
    axon_image *image;
    (void)state;
    assert_ok(axon_image_open_path(PHOTOGRAPH, &image, &error), &error);
    survives(encode_same, image);
    survives(encode_png, image);
    survives(encode_npy, image);
    survives(decode, image);
    axon_image_close(image);
}

static void base64_and_libpng_survive(void **state)
{
    axon_image *photograph, *image;
    void *png;
    size_t length;
    axon_image_encode_options options = {.size = sizeof options, .format = AXON_IMAGE_PNG};
    (void)state;
    assert_ok(axon_image_open_path(PHOTOGRAPH, &photograph, &error), &error);
    assert_ok(axon_image_encode(photograph, &options, &png, &length, &error), &error);
    char *text = malloc(axi_base64_length(length));
    assert_non_null(text);
    axi_base64_encode(text, png, length);
    assert_ok(axon_image_open_base64(text, (int64_t)axi_base64_length(length), &image, &error), &error);
    survives(encode_same, image);
    survives(encode_jpeg, image);
    survives(decode, image);
    axon_image_close(image);
    axon_image_close(photograph);
    axon_free(png);
    free(text);
}

static void pixels_survive(void **state)
{
    static uint8_t data[400 * 300 * 3];
    uint32_t seed = 1;
    axon_image *image;
    axon_array array = {.dtype = AXON_UINT8,
                        .ndim = 3,
                        .shape = {300, 400, 3},
                        .strides = {1200, 3, -1}, /* JPEG needs a row of its own for that */
                        .data = data + 2};
    (void)state;
    for (size_t i = 0; i < sizeof data; i++) /* noise: the encoders must ask for more room */
        data[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 16);
    assert_ok(axon_image_open_pixels(&array, AXON_RGB, &image, &error), &error);
    survives(encode_png, image);
    survives(encode_jpeg, image);
    survives(encode_npy, image);
    survives(encode_for_body, image);
    survives(decode, image);
    axon_image_close(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_survives),
        cmocka_unit_test(files_survive),
        cmocka_unit_test(base64_and_libpng_survive),
        cmocka_unit_test(pixels_survive),
    };
    return cmocka_run_group_tests_name("image_memory", tests, NULL, NULL);
}

/* Pictures: what is recognised, what is refused and why, and that every pixel comes back as it went. */
#include "checks.h"

#include "base64.h"
#include "image_internal.h"

#include <fcntl.h>
#include <jpeglib.h>
#include <png.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define PHOTOGRAPH "tests/data/astronaut.jpg"

static axon_error error;

/* ---- helpers ------------------------------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static uint8_t *noise(size_t length, uint32_t seed)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)next_random(&seed);
    return data;
}

/* Slopes with a little noise, as photographs have them, so that every filter of PNG gets its turn. */
static uint8_t *scenery(size_t height, size_t row, uint32_t seed)
{
    uint8_t *data = malloc(height * row);
    assert_non_null(data);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < row; x++)
            data[y * row + x] = (uint8_t)((y / 8 % 3) * x + y * (x / 64 % 2) + next_random(&seed) % 4);
    return data;
}

static axon_array array_of(axon_dtype dtype, const void *data, int64_t height, int64_t width,
                           int64_t channels)
{
    return (axon_array){
        .dtype = dtype, .ndim = channels ? 3 : 2, .data = data, .shape = {height, width, channels}};
}

static axon_image *of_pixels(const axon_array *array, axon_color color)
{
    axon_image *image = NULL;
    assert_ok(axon_image_open_pixels(array, color, &image, &error), &error);
    return image;
}

static axon_image *of_bytes(blob bytes)
{
    axon_image *image = NULL;
    assert_ok(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), &error);
    return image;
}

static axon_image *photograph(void)
{
    axon_image *image = NULL;
    assert_ok(axon_image_open_path(PHOTOGRAPH, &image, &error), &error);
    return image;
}

static axon_image_info inspected(const axon_image *image)
{
    axon_image_info info = {.size = sizeof info};
    assert_ok(axon_image_inspect(image, &info, &error), &error);
    return info;
}

static blob encoded(const axon_image *image, axon_image_format format, int32_t quality)
{
    axon_image_encode_options options = {.size = sizeof options, .format = format, .quality = quality};
    blob bytes = {0};
    assert_ok(axon_image_encode(image, &options, &bytes.data, &bytes.length, &error), &error);
    return bytes;
}

static axon_array decoded(const axon_image *image, axon_color color)
{
    axon_array pixels = {0};
    assert_ok(axon_image_decode(image, color, &pixels, &error), &error);
    return pixels;
}

static void drop(axon_array *array)
{
    axon_free((void *)(uintptr_t)array->data);
}

/* The file's own bytes, in exactly as much memory as they need. */
static blob file_of(const axon_array *array, axon_color color, axon_image_format format, int32_t quality)
{
    axon_image *image = of_pixels(array, color);
    blob bytes = encoded(image, format, quality);
    axon_image_close(image);
    return bytes;
}

static char *base64_of(blob bytes, const char *before, const char *after)
{
    size_t length = axi_base64_length(bytes.length);
    char *text = malloc(strlen(before) + length + strlen(after) + 1);
    assert_non_null(text);
    strcpy(text, before);
    axi_base64_encode(text + strlen(before), bytes.data, bytes.length);
    strcpy(text + strlen(before) + length, after);
    return text;
}

static blob small_png(void)
{
    uint8_t *data = noise(5 * 7 * 3, 1);
    axon_array array = array_of(AXON_UINT8, data, 5, 7, 3);
    blob png = file_of(&array, AXON_RGB, AXON_IMAGE_PNG, 0);
    free(data);
    return png;
}

static blob small_jpeg(void)
{
    uint8_t *data = scenery(40, 56 * 3, 1);
    axon_array array = array_of(AXON_UINT8, data, 40, 56, 3);
    blob jpeg = file_of(&array, AXON_RGB, AXON_IMAGE_JPEG, 0);
    free(data);
    return jpeg;
}

/* ---- opening bytes ------------------------------------------------------------------------- */

static void every_format_is_known_by_its_first_bytes(void **state)
{
    static const struct {
        const char *hex;
        axon_image_format format;
    } heads[] = {
        {"52494646 00000000 57454250", AXON_IMAGE_WEBP},
        {"474946383761", AXON_IMAGE_GIF},
        {"474946383961", AXON_IMAGE_GIF},
        {"49492a00", AXON_IMAGE_TIFF},
        {"4d4d002a", AXON_IMAGE_TIFF},
        {"49492b00", AXON_IMAGE_TIFF},
        {"424d 00*12 28000000 00*8", AXON_IMAGE_BMP},
    };
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        blob bytes = from_hex(heads[i].hex);
        axon_image *image = of_bytes(bytes);
        axon_image_info info = inspected(image);
        assert_int_equal(info.format, heads[i].format);
        assert_int_equal(info.width, 0);
        assert_int_equal(info.channels, 0);
        axon_image_close(image);
        free(bytes.data);
    }
}

static void bytes_that_are_no_picture_are_refused_and_shown(void **state)
{
    static const char *const no_pictures[][2] = {
        {"00", "begins with 00,"},
        {"ffd8", "begins with ff d8,"},
        {"68656c6c6f20776f726c64", "begins with 68 65 6c 6c 6f 20 77 6f,"},
        {"52494646 00000000 57415645", "no JPEG, PNG"},
        {"424d 2069732061206c65747465722074686174", "not a picture"},
        {"424d 00*12 29000000 00*8", "not a picture"},
        {"89504e470d0a1a", "not a picture"},
    };
    axon_image *image = (axon_image *)&error;
    (void)state;
    for (size_t i = 0; i < sizeof no_pictures / sizeof *no_pictures; i++) {
        blob bytes = from_hex(no_pictures[i][0]);
        assert_fails(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), AXON_EINVAL, &error,
                     no_pictures[i][1]);
        assert_ptr_equal(image, &error);
        free(bytes.data);
    }
    assert_fails(axon_image_open_bytes("", 0, &image, &error), AXON_EINVAL, &error, "no bytes");
    assert_fails(axon_image_open_bytes(NULL, 5, &image, &error), AXON_EINVAL, &error, "no bytes");
    assert_fails(axon_image_open_bytes("x", 1, NULL, &error), AXON_EINVAL, &error, "NULL");
}

static void a_png_is_measured_by_its_header(void **state)
{
    static const struct {
        const char *depth_and_type;
        int32_t channels, bits;
    } kinds[] = {{"0100", 1, 8}, {"1000", 1, 16}, {"0802", 3, 8}, {"1002", 3, 16},
                 {"0403", 3, 8}, {"0804", 2, 8},  {"0806", 4, 8}, {"1006", 4, 16}};
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char hex[120];
        snprintf(hex, sizeof hex, "89504e470d0a1a0a 0000000d49484452 00000280 000001e0 %s 000000 00000000",
                 kinds[i].depth_and_type);
        blob bytes = from_hex(hex);
        axon_image *image = of_bytes(bytes);
        axon_image_info info = inspected(image);
        assert_int_equal(info.format, AXON_IMAGE_PNG);
        assert_int_equal(info.width, 640);
        assert_int_equal(info.height, 480);
        assert_int_equal(info.channels, kinds[i].channels);
        assert_int_equal(info.bits, kinds[i].bits);
        axon_image_close(image);
        free(bytes.data);
    }
}

static void a_png_with_a_damaged_header_is_refused(void **state)
{
    static const char *const damaged[][2] = {
        {"0000000d49484452 00000000 000001e0 0802000000 00000000", "0x480 pixels"},
        {"0000000d49484452 80000000 000001e0 0802000000 00000000", "damaged header"},
        {"0000000d49484452 00000280 000001e0 0402000000 00000000", "4 bits of colour type 2"},
        {"0000000d49484452 00000280 000001e0 0801000000 00000000", "colour type 1"},
        {"0000000d49484452 00000280 000001e0 ff00000000 00000000", "255 bits"},
        {"0000000d49444154 00000280 000001e0 0802000000 00000000", "without its header"},
        {"0000000d49484452 00000280", "without its header"},
    };
    axon_image *image;
    (void)state;
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        char hex[120];
        snprintf(hex, sizeof hex, "89504e470d0a1a0a %s", damaged[i][0]);
        blob bytes = from_hex(hex);
        assert_fails(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), AXON_EINVAL, &error,
                     damaged[i][1]);
        free(bytes.data);
    }
}

static void a_jpegs_frame_header_is_found_behind_anything(void **state)
{
    static const char *const heads[] = {
        "ffd8 ffc0 0011 08 01e0 0280 03 00*9",
        "ffd8 ffe1 fffd 11*65531 ffe2 0002 ffc2 0011 08 01e0 0280 03 00*9",
        "ffd8 ffffff ff01 ffd0 ffdb 0004 0000 ffc4 0002 ffc1 0011 08 01e0 0280 03 00*9",
    };
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        blob bytes = from_hex(heads[i]);
        char *text = base64_of(bytes, "", "");
        axon_image *images[2] = {of_bytes(bytes)};
        assert_ok(axon_image_open_base64(text, AXON_ZSTRING, &images[1], &error), &error);
        for (int k = 0; k < 2; k++) {
            axon_image_info info = inspected(images[k]);
            assert_int_equal(info.format, AXON_IMAGE_JPEG);
            assert_int_equal(info.width, 640);
            assert_int_equal(info.height, 480);
            assert_int_equal(info.channels, 3);
            assert_int_equal(info.bits, 8);
            axon_image_close(images[k]);
        }
        free(text);
        free(bytes.data);
    }
}

static void a_jpeg_with_a_damaged_header_is_refused(void **state)
{
    static const char *const damaged[][2] = {
        {"ffd8ff", "cut off or damaged at byte 2"},
        {"ffd8ffe0", "byte 2"},
        {"ffd8 ffe0 0001 ffc0 0011 08 01e0 0280 03 00*9", "byte 2"},
        {"ffd8 ffe0 0004 0000 00c0 0011 08 01e0 0280 03 00*9", "byte 8"},
        {"ffd8 ffe0 ffff 0000 ffc0 0011 08 01e0 0280 03 00*9", "byte 65539"},
        {"ffd8 ffda 0004 0000 ffc0 0011 08 01e0 0280 03 00*9", "byte 2"},
        {"ffd8 ffd9 ffc0 0011 08 01e0 0280 03 00*9", "byte 2"},
        {"ffd8 ff00 ffc0 0011 08 01e0 0280 03 00*9", "byte 2"},
        {"ffd8 ffc0 0011 08 01e0 02", "cut off in its frame header at byte 4"},
        {"ffd8 ffc0 0011 08 0000 0280 03 00*9", "640x0 pixels"},
        {"ffd8 ffc0 0011 08 01e0 0280 02 00*9", "2 channels"},
    };
    axon_image *image;
    (void)state;
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        blob bytes = from_hex(damaged[i][0]);
        assert_fails(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), AXON_EINVAL, &error,
                     damaged[i][1]);
        free(bytes.data);
    }
}

/* A .npy of version 1.0 around a header's text. */
static blob npy_of(const char *header)
{
    size_t length = strlen(header);
    uint8_t *data = malloc(10 + length);
    assert_non_null(data);
    memcpy(data, "\x93NUMPY\x01\x00", 8);
    data[8] = (uint8_t)length;
    data[9] = (uint8_t)(length >> 8);
    memcpy(data + 10, header, length);
    return (blob){data, 10 + length};
}

static void a_npy_is_measured_by_its_header(void **state)
{
    static const struct {
        const char *header;
        int32_t height, width, channels, bits;
    } good[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, 640), }     \n", 480, 640, 1, 32},
        {"{\"shape\":(2,3,4),\"fortran_order\":True,\"descr\":\">u2\"}", 2, 3, 4, 16},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3,), }", 1, 2, 3, 8},
        {"{ 'descr' : '|b1' , 'fortran_order' : False , 'shape' : ( 7 , 9 ) }", 7, 9, 1, 8},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        blob bytes = npy_of(good[i].header);
        axon_image *image = of_bytes(bytes);
        axon_image_info info = inspected(image);
        assert_int_equal(info.format, AXON_IMAGE_NPY);
        assert_int_equal(info.height, good[i].height);
        assert_int_equal(info.width, good[i].width);
        assert_int_equal(info.channels, good[i].channels);
        assert_int_equal(info.bits, good[i].bits);
        axon_image_close(image);
        free(bytes.data);
    }
    blob second = from_hex("934e554d5059 0200 3e000000");
    const char *header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }  \n";
    second.data = realloc(second.data, second.length + strlen(header));
    assert_non_null(second.data);
    memcpy((char *)second.data + second.length, header, strlen(header));
    second.length += strlen(header);
    axon_image *image = of_bytes(second);
    assert_int_equal(inspected(image).bits, 64);
    axon_image_close(image);
    free(second.data);
}

static void a_npy_that_is_no_picture_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"{'descr': '|O', 'fortran_order': False, 'shape': (480, 640), }", "dtype '|O'"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (480, 640), }", "dtype '<c8'"},
        {"{'descr': '<f16', 'fortran_order': False, 'shape': (480, 640), }", "dtype '<f16'"},
        {"{'descr': '', 'fortran_order': False, 'shape': (480, 640), }", "dtype ''"},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (480, 640), }", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }", "1 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "0 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, 640, 5), }", "(height, width)"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, 0), }", "no picture"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3, 4), }", "4 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, 99999999999999999999), }", "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, -1), }", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480 640), }", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480, 640)", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (480,", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': False, 'sha", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': Fals", "damaged header"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (480, 640), }", "damaged header"},
        {"{'descr': '<f4', 'shape': (480, 640), }", "damaged header"},
        {"{'descr': '<f4', 'colour': 'red', 'fortran_order': False, 'shape': (480, 640), }", "damaged"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (480, 640), }", "damaged header"},
        {"", "damaged header"},
    };
    axon_image *image;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        blob bytes = npy_of(bad[i][0]);
        assert_fails(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), AXON_EINVAL, &error,
                     bad[i][1]);
        free(bytes.data);
    }
    static const char *const heads[][2] = {
        {"934e554d5059 0100 76", "cut off"},
        {"934e554d5059 0400 76000000", "version 4.0"},
        {"934e554d5059 0200 ffffffff", "4294967295 bytes"},
        {"934e554d5059 0100 7600 7b20", "damaged header"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        blob bytes = from_hex(heads[i][0]);
        assert_fails(axon_image_open_bytes(bytes.data, bytes.length, &image, &error), AXON_EINVAL, &error,
                     heads[i][1]);
        free(bytes.data);
    }
}

/* ---- opening a path ------------------------------------------------------------------------ */

static void the_photograph_is_a_jpeg_of_512_by_512(void **state)
{
    (void)state;
    axon_image *image = photograph();
    axon_image_info info = inspected(image);
    assert_int_equal(info.format, AXON_IMAGE_JPEG);
    assert_int_equal(info.width, 512);
    assert_int_equal(info.height, 512);
    assert_int_equal(info.channels, 3);
    assert_int_equal(info.bits, 8);
    axon_image_close(image);
}

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/axon-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *make_file(char path[128], const char *name, const void *data, size_t length)
{
    snprintf(path, 128, "%s/%s", folder, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, data, length), (ssize_t)length);
    close(file);
    return path;
}

static void a_path_that_cannot_be_read_is_named_with_the_reason(void **state)
{
    char path[128];
    axon_image *image;
    (void)state;
    assert_fails(axon_image_open_path("/nowhere/frame.jpg", &image, &error), AXON_EIO, &error,
                 "image \"/nowhere/frame.jpg\": No such file");
    assert_fails(axon_image_open_path("/tmp", &image, &error), AXON_EIO, &error, "is a directory");
    assert_fails(axon_image_open_path("/dev/null", &image, &error), AXON_EIO, &error, "not a regular file");
    assert_fails(axon_image_open_path(NULL, &image, &error), AXON_EINVAL, &error, "NULL");
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(axon_image_open_path(path, &image, &error), AXON_EIO, &error, "not a regular file");
    unlink(path);
}

static void a_file_that_is_no_picture_is_refused(void **state)
{
    char path[128];
    axon_image *image;
    (void)state;
    make_file(path, "text.jpg", "hello", 5);
    assert_fails(axon_image_open_path(path, &image, &error), AXON_EINVAL, &error,
                 "text.jpg\": not a picture: begins with 68 65 6c 6c 6f");
    make_file(path, "empty", "", 0);
    unlink(path);
    make_file(path, "empty", "", 0);
    assert_fails(axon_image_open_path(path, &image, &error), AXON_EINVAL, &error, "the file is empty");
    assert_int_equal(truncate(path, (256 << 20) + 1), 0);
    assert_fails(axon_image_open_path(path, &image, &error), AXON_ETOOBIG, &error,
                 "268435457 bytes, more than 268435456");
    unlink(path);
    snprintf(path, sizeof path, "%s/text.jpg", folder);
    unlink(path);
}

static void a_files_name_does_not_matter(void **state)
{
    char path[128];
    axon_image *image = NULL;
    blob png = small_png();
    (void)state;
    make_file(path, "picture.jpg", png.data, png.length);
    assert_ok(axon_image_open_path(path, &image, &error), &error);
    unlink(path);
    assert_int_equal(inspected(image).format, AXON_IMAGE_PNG);
    blob back = encoded(image, AXON_IMAGE_UNKNOWN, 0);
    assert_same_bytes(back, png, "the file");
    axon_free(back.data);
    axon_free(png.data);
    axon_image_close(image);
}

/* ---- opening base64 and text --------------------------------------------------------------- */

/* The text opens, holds these bytes, and goes into a body as `travels`. */
static void opens_as(const char *text, blob bytes, const char *travels)
{
    axon_image *image = NULL;
    axi_image_bytes body;
    assert_ok(axon_image_open_base64(text, AXON_ZSTRING, &image, &error), &error);
    blob back = encoded(image, AXON_IMAGE_UNKNOWN, 0);
    assert_same_bytes(back, bytes, text);
    axon_free(back.data);
    assert_ok(axi_image_for_body(image, &body, &error), &error);
    assert_true(body.is_base64);
    assert_null(body.owned);
    assert_int_equal(body.length, strlen(travels));
    assert_memory_equal(body.data, travels, body.length);
    axon_image_close(image);
}

static void base64_travels_as_it_is_without_its_prefix(void **state)
{
    blob png = small_png();
    char *plain = base64_of(png, "", ""), *uri = base64_of(png, "data:image/png;base64,", "");
    char *upper = base64_of(png, "DATA:;Base64,", ""), *padded = base64_of(png, " \n\t", "\r\n ");
    axon_image *image = NULL;
    axi_image_bytes body;
    (void)state;
    opens_as(plain, png, plain);
    opens_as(uri, png, plain);
    opens_as(upper, png, plain);
    opens_as(padded, png, plain);
    assert_ok(axon_image_open_base64(uri, (int64_t)strlen(uri), &image, &error), &error);
    assert_ok(axi_image_for_body(image, &body, &error), &error);
    assert_ptr_equal(body.data, uri + strlen("data:image/png;base64,"));
    axon_image_close(image);
    free(plain);
    free(uri);
    free(upper);
    free(padded);
    axon_free(png.data);
}

static void line_breaks_and_a_missing_padding_are_put_right(void **state)
{
    blob jpeg = small_jpeg();
    (void)state;
    for (size_t cut = 0; cut < 3; cut++) { /* all three lengths of padding */
        blob bytes = {jpeg.data, jpeg.length - cut};
        char *plain = base64_of(bytes, "", ""), *bare = base64_of(bytes, "", "");
        char *folded = malloc(strlen(plain) * 2);
        assert_non_null(folded);
        size_t used = 0;
        for (size_t i = 0; plain[i]; i++) {
            if (i % 76 == 75) folded[used++] = '\r';
            if (i % 76 == 75) folded[used++] = '\n';
            folded[used++] = plain[i];
        }
        folded[used] = 0;
        bare[strcspn(bare, "=")] = 0;
        opens_as(folded, bytes, plain);
        opens_as(bare, bytes, plain);
        free(plain);
        free(bare);
        free(folded);
    }
    axon_free(jpeg.data);
}

static void what_is_not_base64_is_refused_with_the_place(void **state)
{
    static const char *const bad[][2] = {
        {"", "empty"},
        {" \n ", "empty"},
        {"iVBORw0K!", "byte 0x21 at offset 8"},
        {"iVBORw0K\ng$", "byte 0x24 at offset 9"},
        {"iVBO-w0K", "URL-safe alphabet ('-' at offset 4)"},
        {"iVBORw_K", "'_' at offset 6"},
        {"iVBORw0KA", "cut off at offset 9"},
        {"iVBO=w0K", "byte 0x3d at offset 4"},
        {"aGVsbG8gd29ybGQ=", "base64 text: not a picture: begins with 68 65 6c"},
        {"data:image/png;base64,", "empty"},
        {"data:image/png,iVBORw0K", "not base64 (no \";base64\""},
        {"data:image/png;base64", "without a comma"},
        {"data:,", "not base64"},
    };
    axon_image *image;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(axon_image_open_base64(bad[i][0], AXON_ZSTRING, &image, &error), AXON_EINVAL, &error,
                     bad[i][1]);
    assert_fails(axon_image_open_base64(NULL, 4, &image, &error), AXON_EINVAL, &error, "NULL");
    assert_fails(axon_image_open_base64("iVBO", -2, &image, &error), AXON_EINVAL, &error, "-2");
}

static void a_wrong_character_is_found_far_into_a_text(void **state)
{
    axon_image *image = photograph();
    blob jpeg = encoded(image, AXON_IMAGE_UNKNOWN, 0);
    char *text = base64_of(jpeg, "", "");
    static const size_t places[] = {4095, 4096, 8191, 50000, 97700};
    axon_image *none;
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char words[40], before = text[places[i]];
        snprintf(words, sizeof words, "offset %zu", places[i]);
        text[places[i]] = '=';
        assert_fails(axon_image_open_base64(text, AXON_ZSTRING, &none, &error), AXON_EINVAL, &error, words);
        text[places[i]] = before;
    }
    free(text);
    axon_free(jpeg.data);
    axon_image_close(image);
}

static void text_is_a_path_or_base64(void **state)
{
    blob png = small_png();
    char *text = base64_of(png, "data:image/png;base64,", "");
    axon_image *image = NULL;
    (void)state;
    assert_ok(axon_image_open_text(PHOTOGRAPH, AXON_ZSTRING, &image, &error), &error);
    assert_int_equal(inspected(image).format, AXON_IMAGE_JPEG);
    axon_image_close(image);
    assert_ok(axon_image_open_text(PHOTOGRAPH " is what it is called", strlen(PHOTOGRAPH), &image, &error),
              &error);
    axon_image_close(image);
    assert_ok(axon_image_open_text(text, AXON_ZSTRING, &image, &error), &error);
    assert_int_equal(inspected(image).format, AXON_IMAGE_PNG);
    axon_image_close(image);
    free(text);
    axon_free(png.data);
}

static void text_that_is_neither_is_quoted_with_both_reasons(void **state)
{
    axon_image *image;
    char long_text[5001];
    (void)state;
    assert_fails(axon_image_open_text("fotos/cat.jpg", AXON_ZSTRING, &image, &error), AXON_EINVAL, &error,
                 "\"fotos/cat.jpg\" is no file (No such file or directory)");
    assert_fails(axon_image_open_text("fotos/cat.jpg", AXON_ZSTRING, &image, &error), AXON_EINVAL, &error,
                 "no base64 of a picture (not base64: byte 0x2e at offset 9)");
    assert_fails(axon_image_open_text("hello", AXON_ZSTRING, &image, &error), AXON_EINVAL, &error,
                 "cut off");
    assert_fails(axon_image_open_text("", AXON_ZSTRING, &image, &error), AXON_EINVAL, &error, "\"\"");
    assert_fails(axon_image_open_text("/tmp", AXON_ZSTRING, &image, &error), AXON_EIO, &error, "directory");
    assert_fails(axon_image_open_text("a\0b", 3, &image, &error), AXON_EINVAL, &error, "0x00 at offset 1");
    memset(long_text, 'A', 5000);
    long_text[5000] = 0;
    assert_fails(axon_image_open_text(long_text, AXON_ZSTRING, &image, &error), AXON_EINVAL, &error,
                 "AAAA...\" is no file");
    assert_true(strlen(error.message) < 300);
}

/* ---- opening pixels ------------------------------------------------------------------------ */

static void arrays_that_are_pictures_are_measured(void **state)
{
    static const struct {
        axon_dtype dtype;
        int64_t channels;
        int32_t bits;
    } kinds[] = {{AXON_UINT8, 0, 8},    {AXON_UINT8, 1, 8},    {AXON_UINT8, 3, 8},
                 {AXON_UINT8, 4, 8},    {AXON_UINT16, 0, 16},  {AXON_UINT16, 1, 16},
                 {AXON_FLOAT32, 0, 32}, {AXON_FLOAT32, 1, 32}, {AXON_FLOAT64, 0, 64}};
    static const uint8_t data[4 * 5 * 8];
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        axon_array array = array_of(kinds[i].dtype, data, 4, 5, kinds[i].channels);
        axon_image *image = of_pixels(&array, AXON_COLOR_DEFAULT);
        axon_image_info info = inspected(image);
        assert_int_equal(info.format, AXON_IMAGE_PIXELS);
        assert_int_equal(info.height, 4);
        assert_int_equal(info.width, 5);
        assert_int_equal(info.channels, kinds[i].channels ? kinds[i].channels : 1);
        assert_int_equal(info.bits, kinds[i].bits);
        axon_image_close(image);
    }
}

static void arrays_that_cannot_be_pictures_are_refused_by_shape(void **state)
{
    static const struct {
        axon_dtype dtype;
        int32_t ndim;
        int64_t shape[4];
        const char *words;
    } bad[] = {
        {AXON_UINT8, 0, {0}, "shape (): pixels must be (height, width)"},
        {AXON_UINT8, 1, {480}, "shape (480,)"},
        {AXON_UINT8, 4, {1, 480, 640, 3}, "shape (1, 480, 640, 3)"},
        {AXON_UINT8,
         3,
         {480, 640, 5},
         "shape (480, 640, 5): the last dimension must be 1, 3 or 4 channels"},
        {AXON_UINT8, 3, {480, 640, 2}, "shape (480, 640, 2)"},
        {AXON_UINT8, 3, {3, 224, 224}, "channels must come last; transpose it to (224, 224, 3)"},
        {AXON_UINT8, 3, {1, 480, 640}, "transpose it to (480, 640, 1)"},
        {AXON_UINT8, 2, {0, 640}, "shape (0, 640): there are no pixels"},
        {AXON_UINT8, 3, {480, 640, 0}, "there are no pixels"},
        {AXON_UINT8, 2, {-1, 640}, "there are no pixels"},
        {AXON_UINT8, 2, {20000, 20000}, "shape (20000, 20000): more than 268435456 pixels"},
        {AXON_UINT8, 2, {INT64_MAX, INT64_MAX}, "more than"},
        {AXON_UINT16, 3, {480, 640, 3}, "shape (480, 640, 3) of uint16"},
        {AXON_FLOAT32, 3, {480, 640, 3}, "of float32: only uint8 has colour"},
        {AXON_FLOAT64, 3, {3, 480, 640}, "transpose"},
        {AXON_BOOL8, 2, {480, 640}, "dtype bool"},
        {AXON_INT32, 2, {480, 640}, "dtype int32 cannot be a picture"},
        {AXON_FLOAT16, 2, {480, 640}, "dtype float16"},
        {(axon_dtype)99, 2, {480, 640}, "dtype number 99"},
        {AXON_UINT8, 33, {1}, "33 dimensions"},
        {AXON_UINT8, -1, {1}, "-1 dimensions"},
    };
    axon_image *image;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        axon_array array = {.dtype = bad[i].dtype, .ndim = bad[i].ndim, .data = &error};
        memcpy(array.shape, bad[i].shape, sizeof bad[i].shape);
        assert_fails(axon_image_open_pixels(&array, AXON_RGB, &image, &error), AXON_EINVAL, &error,
                     bad[i].words);
    }
    axon_array array = array_of(AXON_UINT8, NULL, 4, 5, 3);
    assert_fails(axon_image_open_pixels(&array, AXON_RGB, &image, &error), AXON_EINVAL, &error,
                 "data is NULL");
    array.data = &error;
    assert_fails(axon_image_open_pixels(&array, (axon_color)3, &image, &error), AXON_EINVAL, &error,
                 "color 3");
    assert_fails(axon_image_open_pixels(NULL, AXON_RGB, &image, &error), AXON_EINVAL, &error, "NULL");
}

/* ---- pixels there and back ----------------------------------------------------------------- */

/* The pixels of a PNG, read by libpng's own simple interface. */
static uint8_t *read_by_libpng(blob png, unsigned format, size_t length)
{
    png_image reader = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&reader, png.data, png.length));
    reader.format = format;
    assert_int_equal(PNG_IMAGE_SIZE(reader), length);
    uint8_t *pixels = malloc(length);
    assert_non_null(pixels);
    assert_true(png_image_finish_read(&reader, NULL, pixels, 0, NULL));
    assert_int_equal(reader.warning_or_error, 0);
    return pixels;
}

static void comes_back_from_png(const uint8_t *data, int64_t height, int64_t width, int64_t channels)
{
    static const unsigned formats[] = {[1] = PNG_FORMAT_GRAY, [3] = PNG_FORMAT_RGB, [4] = PNG_FORMAT_RGBA};
    axon_array array = array_of(AXON_UINT8, data, height, width, channels);
    blob png = file_of(&array, AXON_RGB, AXON_IMAGE_PNG, 0);
    size_t length = (size_t)(height * width * channels);
    uint8_t *back = read_by_libpng(png, formats[channels], length);
    assert_memory_equal(back, data, length);
    free(back);
    axon_free(png.data);
}

static void every_width_and_height_comes_back_from_png(void **state)
{
    static const int64_t channels[] = {1, 3, 4};
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        uint8_t *data = scenery(9, 40 * 4, 5);
        for (int64_t width = 1; width <= 40; width++)
            for (int64_t height = 1; height <= 9; height += 1 + width % 4)
                comes_back_from_png(data, height, width, channels[k]);
        free(data);
    }
}

static void large_pictures_come_back_from_png(void **state)
{
    (void)state;
    uint8_t *hard = noise(300 * 500 * 3, 6), *soft = scenery(300, 500 * 3, 7), *flat = calloc(300 * 500, 3);
    assert_non_null(flat);
    comes_back_from_png(hard, 300, 500, 3);
    comes_back_from_png(soft, 300, 500, 3);
    comes_back_from_png(flat, 300, 500, 3);
    comes_back_from_png(hard, 1, 110000, 4); /* a row longer than what is compressed at once */
    comes_back_from_png(soft, 110000, 1, 4);
    free(hard);
    free(soft);
    free(flat);
}

static void sixteen_bit_grey_comes_back_from_png(void **state)
{
    (void)state;
    for (int swapped = 0; swapped < 2; swapped++) {
        uint8_t *data = scenery(60, 77 * 2, 8);
        axon_array array = array_of(AXON_UINT16, data, 60, 77, swapped);
        array.swapped = swapped;
        blob png = file_of(&array, AXON_RGB, AXON_IMAGE_PNG, 0);
        axon_image *image = of_bytes(png);
        axon_array back = decoded(image, AXON_RGB);
        assert_int_equal(back.dtype, AXON_UINT16);
        assert_int_equal(back.ndim, 2);
        assert_int_equal(back.shape[0], 60);
        assert_int_equal(back.shape[1], 77);
        for (size_t i = 0; swapped && i < 60 * 77 * 2; i += 2) {
            uint8_t low = data[i];
            data[i] = data[i + 1];
            data[i + 1] = low;
        }
        assert_memory_equal(back.data, data, 60 * 77 * 2);
        drop(&back);
        axon_image_close(image);
        axon_free(png.data);
        free(data);
    }
}

/* Views of the same 24x32 pixels that numpy would give, each with the strides it would have. */
static size_t views(const uint8_t *data, axon_array out[6])
{
    const int64_t row = 32 * 3;
    for (int i = 0; i < 6; i++)
        out[i] = array_of(AXON_UINT8, data, 24, 32, 3);
    out[0].strides[0] = row, out[0].strides[1] = 3, out[0].strides[2] = 1;
    out[1].data = data + 23 * row; /* upside down */
    out[1].strides[0] = -row, out[1].strides[1] = 3, out[1].strides[2] = 1;
    out[2].data = data + 31 * 3; /* mirrored */
    out[2].strides[0] = row, out[2].strides[1] = -3, out[2].strides[2] = 1;
    out[3].data = data + 2; /* colours turned round */
    out[3].strides[0] = row, out[3].strides[1] = 3, out[3].strides[2] = -1;
    out[4].shape[0] = 32, out[4].shape[1] = 24; /* transposed */
    out[4].strides[0] = 3, out[4].strides[1] = row, out[4].strides[2] = 1;
    out[5].data = data + 2 * row + 3 * 3; /* every second pixel of a part */
    out[5].shape[0] = 11, out[5].shape[1] = 14;
    out[5].strides[0] = 2 * row, out[5].strides[1] = 6, out[5].strides[2] = 1;
    return 6;
}

static uint8_t *contiguous(const axon_array *array)
{
    uint8_t *out = malloc((size_t)(array->shape[0] * array->shape[1] * array->shape[2])), *to = out;
    const uint8_t *from = array->data;
    assert_non_null(out);
    for (int64_t y = 0; y < array->shape[0]; y++)
        for (int64_t x = 0; x < array->shape[1]; x++)
            for (int64_t c = 0; c < array->shape[2]; c++)
                *to++ = from[y * array->strides[0] + x * array->strides[1] + c * array->strides[2]];
    return out;
}

static void strided_arrays_are_encoded_as_what_they_show(void **state)
{
    static const axon_image_format formats[] = {AXON_IMAGE_PNG, AXON_IMAGE_JPEG, AXON_IMAGE_NPY};
    uint8_t *data = scenery(24, 32 * 3, 9);
    axon_array arrays[6];
    (void)state;
    for (size_t i = 0, count = views(data, arrays); i < count; i++) {
        uint8_t *plain = contiguous(&arrays[i]);
        axon_array copy = array_of(AXON_UINT8, plain, arrays[i].shape[0], arrays[i].shape[1], 3);
        for (size_t f = 0; f < 3; f++) {
            blob from_view = file_of(&arrays[i], AXON_BGR, formats[f], 0);
            blob from_copy = file_of(&copy, AXON_BGR, formats[f], 0);
            assert_same_bytes(from_view, from_copy, "a view");
            axon_free(from_view.data);
            axon_free(from_copy.data);
        }
        axon_image *image = of_pixels(&arrays[i], AXON_RGB);
        axon_array back = decoded(image, AXON_RGB);
        assert_memory_equal(back.data, plain, (size_t)(copy.shape[0] * copy.shape[1] * 3));
        drop(&back);
        axon_image_close(image);
        free(plain);
    }
    free(data);
}

static void the_order_of_colours_is_heeded(void **state)
{
    static const axon_image_format formats[] = {AXON_IMAGE_PNG, AXON_IMAGE_JPEG};
    (void)state;
    for (int64_t channels = 3; channels <= 4; channels++) {
        uint8_t *rgb = scenery(20, (size_t)(30 * channels), 10), *bgr = malloc((size_t)(600 * channels));
        assert_non_null(bgr);
        for (int64_t i = 0; i < 600 * channels; i++)
            bgr[i] = rgb[i % channels < 3 ? i + 2 - 2 * (i % channels) : i];
        axon_array one = array_of(AXON_UINT8, rgb, 20, 30, channels);
        axon_array other = array_of(AXON_UINT8, bgr, 20, 30, channels);
        for (size_t f = 0; f < 2; f++) {
            blob files[] = {file_of(&one, AXON_RGB, formats[f], 0),
                            file_of(&other, AXON_BGR, formats[f], 0),
                            file_of(&other, AXON_COLOR_DEFAULT, formats[f], 0)};
            assert_same_bytes(files[1], files[0], "BGR");
            assert_same_bytes(files[2], files[0], "the default");
            for (int i = 0; i < 3; i++)
                axon_free(files[i].data);
        }
        axon_image *image = of_pixels(&one, AXON_RGB);
        axon_array as_rgb = decoded(image, AXON_COLOR_DEFAULT), as_bgr = decoded(image, AXON_BGR);
        for (int64_t i = 0; i < 600; i++) {
            assert_memory_equal((const uint8_t *)as_rgb.data + 3 * i, rgb + channels * i, 3);
            assert_memory_equal((const uint8_t *)as_bgr.data + 3 * i, bgr + channels * i, 3);
        }
        drop(&as_rgb);
        drop(&as_bgr);
        axon_image_close(image);
        free(rgb);
        free(bgr);
    }
}

static void pixels_decode_to_colour_or_to_what_they_were(void **state)
{
    static const uint8_t grey[] = {1, 2, 3, 4, 5, 6};
    static const uint8_t tripled[] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6};
    static const double depth[] = {0.5, 1.5, 2.5, 3.5, 4.5, 5.5};
    (void)state;
    for (int64_t channels = 0; channels < 2; channels++) {
        axon_array array = array_of(AXON_UINT8, grey, 2, 3, channels);
        axon_image *image = of_pixels(&array, AXON_RGB);
        axon_array back = decoded(image, AXON_RGB);
        assert_int_equal(back.ndim, 3);
        assert_int_equal(back.shape[2], 3);
        assert_memory_equal(back.data, tripled, sizeof tripled);
        drop(&back);
        axon_image_close(image);

        array = array_of(AXON_FLOAT64, depth, 2, 3, channels);
        image = of_pixels(&array, AXON_RGB);
        back = decoded(image, AXON_RGB);
        assert_int_equal(back.dtype, AXON_FLOAT64);
        assert_int_equal(back.ndim, 2 + channels);
        assert_memory_equal(back.data, depth, sizeof depth);
        drop(&back);
        axon_image_close(image);
    }
}

/* ---- NPY ----------------------------------------------------------------------------------- */

static void npy_is_written_as_numpy_writes_it(void **state)
{
    static const float depth[] = {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f};
    static const char header[] =
        "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
        "                                                          \n";
    (void)state;
    axon_array array = array_of(AXON_FLOAT32, depth, 2, 3, 0);
    blob npy = file_of(&array, AXON_RGB, AXON_IMAGE_UNKNOWN, 0);
    assert_int_equal(sizeof header - 1, 128);
    assert_int_equal(npy.length, 128 + sizeof depth);
    assert_memory_equal(npy.data, header, 128);
    assert_memory_equal((const char *)npy.data + 128, depth, sizeof depth);
    axon_free(npy.data);
}

static void npy_takes_either_byte_order_and_every_pixel(void **state)
{
    static const struct {
        axon_dtype dtype;
        int64_t channels;
        const char *words;
    } kinds[] = {
        {AXON_UINT8, 0, "'|u1'"},   {AXON_UINT8, 3, "'|u1', 'fortran_order': False, 'shape': (5, 6, 3)"},
        {AXON_UINT16, 0, "'<u2'"},  {AXON_UINT16, 1, "'<u2', 'fortran_order': False, 'shape': (5, 6)"},
        {AXON_FLOAT32, 0, "'<f4'"}, {AXON_FLOAT64, 0, "'<f8'"}};
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t size = axon_dtype_size(kinds[k].dtype),
               length = 30 * size * (size_t)(kinds[k].channels == 3 ? 3 : 1);
        uint8_t *data = noise(length, 11), *swapped = malloc(length);
        assert_non_null(swapped);
        for (size_t i = 0; i < length; i++)
            swapped[i / size * size + size - 1 - i % size] = data[i];
        axon_array one = array_of(kinds[k].dtype, data, 5, 6, kinds[k].channels), other = one;
        other.data = swapped;
        other.swapped = 1;
        blob npy = file_of(&one, AXON_BGR, AXON_IMAGE_NPY, 0),
             same = file_of(&other, AXON_BGR, AXON_IMAGE_NPY, 0);
        assert_same_bytes(same, npy, "swapped");
        assert_non_null(memmem(npy.data, 128, kinds[k].words, strlen(kinds[k].words)));
        assert_memory_equal((const uint8_t *)npy.data + npy.length - length, data, length);
        axon_image *image = of_bytes(npy);
        assert_int_equal(inspected(image).bits, 8 * size);
        axon_image_close(image);
        axon_free(npy.data);
        axon_free(same.data);
        free(data);
        free(swapped);
    }
}

/* ---- JPEG ---------------------------------------------------------------------------------- */

static double mean_difference(const axon_array *a, const axon_array *b)
{
    const uint8_t *x = a->data, *y = b->data;
    double sum = 0;
    size_t count = (size_t)(a->shape[0] * a->shape[1] * a->shape[2]);
    for (size_t i = 0; i < count; i++)
        sum += abs(x[i] - y[i]);
    return sum / (double)count;
}

static void the_photograph_survives_jpeg(void **state)
{
    axon_image *image = photograph();
    axon_array pixels = decoded(image, AXON_RGB);
    blob good = file_of(&pixels, AXON_RGB, AXON_IMAGE_JPEG, 0),
         same = file_of(&pixels, AXON_RGB, AXON_IMAGE_JPEG, 90);
    blob poor = file_of(&pixels, AXON_RGB, AXON_IMAGE_JPEG, 10);
    (void)state;
    assert_same_bytes(same, good, "the default quality is 90");
    assert_true(poor.length < good.length / 3);
    axon_image *again = of_bytes(good);
    axon_array back = decoded(again, AXON_RGB);
    assert_true(mean_difference(&pixels, &back) < 2.0);
    drop(&back);
    drop(&pixels);
    axon_image_close(again);
    axon_image_close(image);
    axon_free(good.data);
    axon_free(same.data);
    axon_free(poor.data);
}

static void grey_stays_grey_in_a_file(void **state)
{
    uint8_t *data = scenery(40, 50, 12);
    axon_array array = array_of(AXON_UINT8, data, 40, 50, 0);
    blob jpeg = file_of(&array, AXON_RGB, AXON_IMAGE_JPEG, 100);
    axon_image *image = of_bytes(jpeg);
    (void)state;
    assert_int_equal(inspected(image).channels, 1);
    axon_array back = decoded(image, AXON_RGB);
    assert_int_equal(back.shape[2], 3);
    for (size_t i = 0; i < 40 * 50; i++)
        assert_true(abs(((const uint8_t *)back.data)[3 * i + 1] - data[i]) <= 4);
    drop(&back);
    blob png = encoded(image, AXON_IMAGE_PNG, 0);
    axon_image *as_png = of_bytes(png);
    assert_int_equal(inspected(as_png).channels, 1);
    axon_image_close(as_png);
    axon_image_close(image);
    axon_free(png.data);
    axon_free(jpeg.data);
    free(data);
}

static void alpha_is_left_out_of_a_jpeg(void **state)
{
    uint8_t *rgba = scenery(40, 50 * 4, 13), *rgb = malloc(40 * 50 * 3);
    assert_non_null(rgb);
    (void)state;
    for (size_t i = 0; i < 40 * 50; i++)
        memcpy(rgb + 3 * i, rgba + 4 * i, 3);
    axon_array with = array_of(AXON_UINT8, rgba, 40, 50, 4), without = array_of(AXON_UINT8, rgb, 40, 50, 3);
    blob one = file_of(&with, AXON_BGR, AXON_IMAGE_JPEG, 0),
         other = file_of(&without, AXON_BGR, AXON_IMAGE_JPEG, 0);
    assert_same_bytes(one, other, "alpha");
    axon_free(one.data);
    axon_free(other.data);
    free(rgba);
    free(rgb);
}

/* ---- encoding in general ------------------------------------------------------------------- */

static void a_file_of_the_format_asked_for_is_copied(void **state)
{
    blob png = small_png();
    axon_image *image = of_bytes(png);
    (void)state;
    blob copies[] = {encoded(image, AXON_IMAGE_UNKNOWN, 0), encoded(image, AXON_IMAGE_PNG, 0)};
    for (int i = 0; i < 2; i++) {
        assert_same_bytes(copies[i], png, "the copy");
        assert_ptr_not_equal(copies[i].data, png.data);
        axon_free(copies[i].data);
    }
    axon_image_close(image);
    axon_free(png.data);
}

static void a_jpeg_becomes_a_png_and_a_npy(void **state)
{
    axon_image *image = photograph();
    axon_array pixels = decoded(image, AXON_RGB);
    blob png = encoded(image, AXON_IMAGE_PNG, 0), npy = encoded(image, AXON_IMAGE_NPY, 0);
    size_t length = 512 * 512 * 3;
    (void)state;
    uint8_t *back = read_by_libpng(png, PNG_FORMAT_RGB, length);
    assert_memory_equal(back, pixels.data, length);
    assert_memory_equal((const uint8_t *)npy.data + npy.length - length, pixels.data, length);
    free(back);
    axon_free(png.data);
    axon_free(npy.data);
    drop(&pixels);
    axon_image_close(image);
}

static void pixels_that_do_not_fit_a_format_are_refused(void **state)
{
    static const uint8_t data[64];
    axon_array depth = array_of(AXON_FLOAT32, data, 2, 2, 0), grey16 = array_of(AXON_UINT16, data, 2, 2, 0);
    axon_array wide = array_of(AXON_UINT8, data, 1, 65501, 0);
    wide.strides[0] = 1;
    wide.strides[1] = 0;
    const struct {
        const axon_array *array;
        axon_image_encode_options options;
        const char *words;
    } bad[] = {
        {&depth, {sizeof bad->options, AXON_IMAGE_PNG, 0}, "float pixels do not fit a PNG"},
        {&depth, {sizeof bad->options, AXON_IMAGE_JPEG, 0}, "float pixels do not fit a JPEG"},
        {&grey16, {sizeof bad->options, AXON_IMAGE_JPEG, 0}, "uint16 pixels do not fit a JPEG"},
        {&wide,
         {sizeof bad->options, AXON_IMAGE_JPEG, 0},
         "65501x1 pixels do not fit a JPEG (at most 65500"},
        {&grey16, {sizeof bad->options, AXON_IMAGE_WEBP, 0}, "does not encode WebP"},
        {&grey16, {sizeof bad->options, AXON_IMAGE_PIXELS, 0}, "does not encode pixels"},
        {&grey16, {sizeof bad->options, (axon_image_format)77, 0}, "does not encode unknown"},
        {&grey16, {sizeof bad->options, AXON_IMAGE_JPEG, 101}, "quality 101 is not in 1 to 100"},
        {&grey16, {sizeof bad->options, AXON_IMAGE_JPEG, -1}, "quality -1"},
        {&grey16, {0, AXON_IMAGE_PNG, 0}, "size is 0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        axon_image *image = of_pixels(bad[i].array, AXON_RGB);
        void *out = &error;
        size_t length = 77;
        assert_fails(axon_image_encode(image, &bad[i].options, &out, &length, &error), AXON_EINVAL, &error,
                     bad[i].words);
        assert_ptr_equal(out, &error);
        assert_int_equal(length, 77);
        axon_image_close(image);
    }
}

static void a_format_that_is_only_recognised_is_not_decoded(void **state)
{
    axon_image_encode_options options = {.size = sizeof options, .format = AXON_IMAGE_PNG};
    axon_array pixels;
    void *data;
    size_t length;
    blob gif = from_hex("474946383961");
    axon_image *image = of_bytes(gif);
    (void)state;
    assert_fails(axon_image_decode(image, AXON_RGB, &pixels, &error), AXON_EINVAL, &error,
                 "does not decode GIF");
    assert_fails(axon_image_encode(image, &options, &data, &length, &error), AXON_EINVAL, &error, "GIF");
    blob copy = encoded(image, AXON_IMAGE_GIF, 0);
    assert_same_bytes(copy, gif, "the copy");
    axon_free(copy.data);
    axon_image_close(image);
    free(gif.data);
}

static void a_body_gets_bytes_by_reference_and_pixels_encoded(void **state)
{
    static const float depth[6];
    blob png = small_png();
    axi_image_bytes body;
    axon_image *image = of_bytes(png);
    (void)state;
    assert_ok(axi_image_for_body(image, &body, &error), &error);
    assert_ptr_equal(body.data, png.data);
    assert_int_equal(body.length, png.length);
    assert_false(body.is_base64);
    assert_null(body.owned);
    axon_image_close(image);

    axon_array array = array_of(AXON_FLOAT32, depth, 2, 3, 0);
    image = of_pixels(&array, AXON_COLOR_DEFAULT);
    assert_ok(axi_image_for_body(image, &body, &error), &error);
    assert_ptr_equal(body.data, body.owned);
    assert_false(body.is_base64);
    assert_memory_equal(body.data, "\x93NUMPY", 6);
    free(body.owned);
    axon_image_close(image);
    axon_free(png.data);
}

/* ---- decoding PNG -------------------------------------------------------------------------- */

typedef struct png_kind {
    int color_type, depth, interlace, with_trns;
} png_kind;

static void append(png_struct *png, uint8_t *data, size_t length)
{
    blob *out = png_get_io_ptr(png);
    out->data = realloc(out->data, out->length + length);
    assert_non_null(out->data);
    memcpy((uint8_t *)out->data + out->length, data, length);
    out->length += length;
}

#define PNG_SIDE 19

/* A sample of the pattern that write_png() writes, of `depth` bits. */
static unsigned sample(size_t x, size_t y, size_t channel, int depth)
{
    return (unsigned)(x * 37 + y * 91 + channel * 53) * (depth == 16 ? 641u : 1u) & ((1u << depth) - 1);
}

static blob write_png(png_kind kind)
{
    blob out = {0};
    png_struct *png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_info *info = png_create_info_struct(png);
    png_color palette[16];
    png_byte alphas[3] = {0, 128, 255};
    png_color_16 transparent = {.gray = 1, .red = 1};
    assert_int_equal(setjmp(png_jmpbuf(png)), 0);
    for (unsigned i = 0; i < 16; i++)
        palette[i] = (png_color){(png_byte)(i * 16), (png_byte)(255 - i), (png_byte)(i * i)};
    png_set_write_fn(png, &out, append, NULL);
    png_set_IHDR(png, info, PNG_SIDE, PNG_SIDE, kind.depth, kind.color_type, kind.interlace, 0, 0);
    bool is_palette = kind.color_type == PNG_COLOR_TYPE_PALETTE;
    if (is_palette) png_set_PLTE(png, info, palette, 16);
    if (kind.with_trns) png_set_tRNS(png, info, alphas, is_palette ? 3 : 0, &transparent);
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    size_t channels = png_get_channels(png, info);
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < PNG_SIDE; y++) {
            uint8_t row[PNG_SIDE * 8] = {0};
            for (size_t i = 0; i < PNG_SIDE * channels; i++) {
                unsigned value = sample(i / channels, y, i % channels, kind.depth);
                size_t bit = i * (size_t)kind.depth;
                if (kind.depth == 16) row[bit / 8] = (uint8_t)(value >> 8);
                if (kind.depth == 16)
                    row[bit / 8 + 1] = (uint8_t)value;
                else
                    row[bit / 8] |= (uint8_t)(value << (8 - (unsigned)kind.depth - bit % 8));
            }
            png_write_row(png, row);
        }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

/* What a sample looks like after decoding. */
static unsigned expected(png_kind kind, size_t x, size_t y, size_t channel)
{
    bool is_grey = !(kind.color_type & PNG_COLOR_MASK_COLOR);
    unsigned value =
        sample(x, y, is_grey || kind.color_type == PNG_COLOR_TYPE_PALETTE ? 0 : channel, kind.depth);
    if (kind.color_type == PNG_COLOR_TYPE_PALETTE)
        return channel == 0 ? value * 16 : channel == 1 ? 255 - value : (uint8_t)(value * value);
    if (kind.depth == 16 && !is_grey) return (value * 255 + 32895) >> 16;
    return kind.depth < 8 ? value * (255 / ((1u << kind.depth) - 1)) : value;
}

static void every_kind_of_png_is_decoded(void **state)
{
    static const png_kind kinds[] = {
        {PNG_COLOR_TYPE_GRAY, 1, 0, 0},       {PNG_COLOR_TYPE_GRAY, 2, 1, 0},
        {PNG_COLOR_TYPE_GRAY, 4, 0, 1},       {PNG_COLOR_TYPE_GRAY, 8, 0, 0},
        {PNG_COLOR_TYPE_GRAY, 8, 1, 1},       {PNG_COLOR_TYPE_GRAY, 16, 0, 0},
        {PNG_COLOR_TYPE_GRAY, 16, 1, 1},      {PNG_COLOR_TYPE_RGB, 8, 0, 0},
        {PNG_COLOR_TYPE_RGB, 8, 1, 1},        {PNG_COLOR_TYPE_RGB, 16, 0, 0},
        {PNG_COLOR_TYPE_PALETTE, 4, 0, 0},    {PNG_COLOR_TYPE_PALETTE, 4, 1, 1},
        {PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, 0}, {PNG_COLOR_TYPE_GRAY_ALPHA, 16, 0, 0},
        {PNG_COLOR_TYPE_RGB_ALPHA, 8, 1, 0},  {PNG_COLOR_TYPE_RGB_ALPHA, 16, 0, 0},
    };
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        blob png = write_png(kinds[k]);
        axon_image *image = of_bytes(png);
        axon_array rgb = decoded(image, AXON_RGB), bgr = decoded(image, AXON_BGR);
        bool is_16 = kinds[k].depth == 16 && !(kinds[k].color_type & PNG_COLOR_MASK_COLOR);
        assert_int_equal(rgb.dtype, is_16 ? AXON_UINT16 : AXON_UINT8);
        assert_int_equal(rgb.ndim, is_16 ? 2 : 3);
        for (size_t y = 0; y < PNG_SIDE; y++)
            for (size_t x = 0; x < PNG_SIDE; x++)
                for (size_t c = 0; c < (is_16 ? 1 : 3); c++) {
                    unsigned want = expected(kinds[k], x, y, c);
                    size_t at = y * PNG_SIDE + x;
                    if (is_16) {
                        assert_int_equal(((const uint16_t *)rgb.data)[at], want);
                    } else {
                        assert_int_equal(((const uint8_t *)rgb.data)[3 * at + c], want);
                        assert_int_equal(((const uint8_t *)bgr.data)[3 * at + 2 - c], want);
                    }
                }
        drop(&rgb);
        drop(&bgr);
        axon_image_close(image);
        free(png.data);
    }
}

/* ---- decoding JPEG ------------------------------------------------------------------------- */

static blob write_jpeg(J_COLOR_SPACE space, int components, bool progressive)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned long length = 0;
    uint8_t *data = NULL, row[64 * 4];
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &length);
    jpeg.image_width = jpeg.image_height = 64;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    if (progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < 64; y++) {
        JSAMPROW rows = row;
        memset(row, y * 3, sizeof row);
        jpeg_write_scanlines(&jpeg, &rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return (blob){data, length};
}

static void a_progressive_jpeg_is_decoded(void **state)
{
    (void)state;
    blob jpeg = write_jpeg(JCS_RGB, 3, true);
    axon_image *image = of_bytes(jpeg);
    axon_array pixels = decoded(image, AXON_BGR);
    assert_int_equal(pixels.shape[0], 64);
    for (size_t y = 0; y < 64; y++)
        assert_true(abs(((const uint8_t *)pixels.data)[y * 64 * 3] - (int)y * 3) < 8);
    drop(&pixels);
    axon_image_close(image);
    free(jpeg.data);
}

static void a_jpeg_in_cmyk_is_refused(void **state)
{
    (void)state;
    axon_array pixels;
    blob jpeg = write_jpeg(JCS_CMYK, 4, false);
    axon_image *image = of_bytes(jpeg);
    assert_int_equal(inspected(image).channels, 4);
    assert_fails(axon_image_decode(image, AXON_RGB, &pixels, &error), AXON_EINVAL, &error, "CMYK");
    axon_image_close(image);
    free(jpeg.data);
}

static void stray_bytes_between_markers_are_survived(void **state)
{
    blob jpeg = small_jpeg();
    uint8_t *data = malloc(jpeg.length + 3);
    assert_non_null(data);
    (void)state;
    memcpy(data, jpeg.data, jpeg.length - 2);
    memcpy(data + jpeg.length - 2, "\0\0\0\xff\xd9", 5);
    axon_image *image = of_bytes((blob){data, jpeg.length + 3});
    axon_array pixels = decoded(image, AXON_RGB);
    drop(&pixels);
    axon_image_close(image);
    free(data);
    axon_free(jpeg.data);
}

/* ---- hostile files ------------------------------------------------------------------------- */

/* Opens and decodes bytes that may be anything; gives the status. */
static axon_status try_to_decode(blob bytes)
{
    axon_image *image;
    axon_array pixels;
    axon_status status = axon_image_open_bytes(bytes.data, bytes.length, &image, &error);
    if (status != AXON_OK) return status;
    status = axon_image_decode(image, AXON_RGB, &pixels, &error);
    if (status == AXON_OK) {
        axon_image_info info = inspected(image);
        assert_int_equal(pixels.shape[0], info.height);
        assert_int_equal(pixels.shape[1], info.width);
        drop(&pixels);
    }
    axon_image_close(image);
    return status;
}

static void a_file_cut_off_anywhere_is_damaged(void **state)
{
    blob files[] = {small_png(), small_jpeg(), write_png((png_kind){PNG_COLOR_TYPE_PALETTE, 4, 1, 1})};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (size_t length = 1; length < files[i].length; length++) {
            uint8_t *exact = malloc(length);
            assert_non_null(exact);
            memcpy(exact, files[i].data, length);
            axon_status status = try_to_decode((blob){exact, length});
            assert_true(status == AXON_EINVAL || status == AXON_EPROTOCOL);
            free(exact);
        }
        free(files[i].data);
    }
}

static void the_photograph_cut_off_is_damaged(void **state)
{
    axon_image *image = photograph();
    blob jpeg = encoded(image, AXON_IMAGE_UNKNOWN, 0);
    (void)state;
    for (size_t length = 1000; length < jpeg.length; length += 7001) {
        assert_int_equal(try_to_decode((blob){jpeg.data, length}), AXON_EPROTOCOL);
        assert_non_null(strstr(error.message, "JPEG is damaged"));
    }
    axon_free(jpeg.data);
    axon_image_close(image);
}

static void flipped_bits_do_no_harm(void **state)
{
    blob files[] = {small_png(), small_jpeg(), write_png((png_kind){PNG_COLOR_TYPE_GRAY_ALPHA, 16, 1, 0}),
                    write_png((png_kind){PNG_COLOR_TYPE_PALETTE, 4, 0, 1}), write_jpeg(JCS_RGB, 3, true)};
    uint32_t seed = 14;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        blob file = files[round % 5];
        uint8_t *copy = malloc(file.length);
        assert_non_null(copy);
        memcpy(copy, file.data, file.length);
        for (int flips = 0; flips <= round % 4; flips++)
            copy[next_random(&seed) % file.length] ^= (uint8_t)(1u << next_random(&seed) % 8);
        axon_status status = try_to_decode((blob){copy, file.length});
        assert_true(status == AXON_OK || status == AXON_EINVAL || status == AXON_EPROTOCOL ||
                    status == AXON_ETOOBIG);
        free(copy);
    }
    for (size_t i = 0; i < 5; i++)
        free(files[i].data);
}

static uint32_t crc(const uint8_t *data, size_t length)
{
    uint32_t value = ~0u;
    for (size_t i = 0; i < length; i++) {
        value ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
    }
    return ~value;
}

/* Makes a header tell another size. */
static void lie(blob file, uint32_t width, uint32_t height)
{
    uint8_t *data = file.data;
    if (data[0] == 0xff) {
        for (size_t i = 0; i + 9 < file.length; i++)
            if (data[i] == 0xff && data[i + 1] == 0xc0)
                memcpy(data + i + 5,
                       (uint8_t[]){(uint8_t)(height >> 8), (uint8_t)height, (uint8_t)(width >> 8),
                                   (uint8_t)width},
                       4);
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        data[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        data[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    uint32_t sum = crc(data + 12, 17);
    for (unsigned i = 0; i < 4; i++)
        data[29 + i] = (uint8_t)(sum >> (24 - 8 * i));
}

static void a_small_file_that_tells_a_huge_size_is_refused_before_memory_is_taken(void **state)
{
    blob png = small_png(), jpeg = small_jpeg();
    (void)state;
    lie(png, 20000, 20000);
    assert_int_equal(try_to_decode(png), AXON_ETOOBIG);
    assert_non_null(strstr(error.message, "20000x20000, more than 268435456 pixels"));
    lie(png, 16384, 16384);
    assert_int_equal(try_to_decode(png), AXON_EPROTOCOL);
    assert_non_null(strstr(error.message, "too short for its size"));
    lie(jpeg, 65000, 65000);
    assert_int_equal(try_to_decode(jpeg), AXON_ETOOBIG);
    lie(jpeg, 16384, 16384);
    assert_int_equal(try_to_decode(jpeg), AXON_EPROTOCOL);
    assert_non_null(strstr(error.message, "too few for 16384x16384 pixels"));
    axon_free(png.data);
    axon_free(jpeg.data);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void nothing_is_written_beyond_the_size_that_the_caller_knows(void **state)
{
    axon_image *image = photograph();
    axon_image_info info;
    (void)state;
    memset(&info, 0x55, sizeof info);
    info.size = offsetof(axon_image_info, height);
    assert_ok(axon_image_inspect(image, &info, &error), &error);
    assert_int_equal(info.width, 512);
    assert_int_equal(info.height, 0x55555555);
    info.size = 0;
    assert_fails(axon_image_inspect(image, &info, &error), AXON_EINVAL, &error, "size is 0");
    assert_fails(axon_image_inspect(NULL, &info, &error), AXON_EINVAL, &error, "NULL");
    axon_image_close(image);
}

static void arguments_that_are_missing_are_refused(void **state)
{
    axon_image *image = photograph();
    axon_array pixels;
    void *data;
    size_t length;
    (void)state;
    assert_fails(axon_image_decode(NULL, AXON_RGB, &pixels, &error), AXON_EINVAL, &error, "NULL");
    assert_fails(axon_image_decode(image, AXON_RGB, NULL, &error), AXON_EINVAL, &error, "NULL");
    assert_fails(axon_image_decode(image, (axon_color)-1, &pixels, &error), AXON_EINVAL, &error,
                 "color -1");
    assert_fails(axon_image_encode(image, NULL, NULL, &length, &error), AXON_EINVAL, &error, "NULL");
    assert_fails(axon_image_encode(NULL, NULL, &data, &length, &error), AXON_EINVAL, &error, "NULL");
    assert_int_equal(axon_image_open_path("/nowhere", &image, NULL), AXON_EIO);
    axon_image_close(image);
    axon_image_close(NULL);
}

static void *encode_and_decode(void *shared)
{
    const axon_image *image = shared;
    axon_image_encode_options options = {.size = sizeof options, .format = AXON_IMAGE_PNG};
    axon_array pixels;
    blob *png = malloc(sizeof *png);
    if (!png || axon_image_encode(image, &options, &png->data, &png->length, NULL) != AXON_OK) return NULL;
    if (axon_image_decode(image, AXON_RGB, &pixels, NULL) != AXON_OK) return NULL;
    drop(&pixels);
    return png;
}

static void many_threads_may_use_one_image(void **state)
{
    axon_image *image = photograph();
    blob want = encoded(image, AXON_IMAGE_PNG, 0);
    pthread_t threads[4];
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_and_decode, image), 0);
    for (int i = 0; i < 4; i++) {
        void *got;
        assert_int_equal(pthread_join(threads[i], &got), 0);
        assert_non_null(got);
        assert_same_bytes(*(blob *)got, want, "what a thread made");
        axon_free(((blob *)got)->data);
        free(got);
    }
    axon_free(want.data);
    axon_image_close(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_known_by_its_first_bytes),
        cmocka_unit_test(bytes_that_are_no_picture_are_refused_and_shown),
        cmocka_unit_test(a_png_is_measured_by_its_header),
        cmocka_unit_test(a_png_with_a_damaged_header_is_refused),
        cmocka_unit_test(a_jpegs_frame_header_is_found_behind_anything),
        cmocka_unit_test(a_jpeg_with_a_damaged_header_is_refused),
        cmocka_unit_test(a_npy_is_measured_by_its_header),
        cmocka_unit_test(a_npy_that_is_no_picture_is_refused),
        cmocka_unit_test(the_photograph_is_a_jpeg_of_512_by_512),
        cmocka_unit_test(a_path_that_cannot_be_read_is_named_with_the_reason),
        cmocka_unit_test(a_file_that_is_no_picture_is_refused),
        cmocka_unit_test(a_files_name_does_not_matter),
        cmocka_unit_test(base64_travels_as_it_is_without_its_prefix),
        cmocka_unit_test(line_breaks_and_a_missing_padding_are_put_right),
        cmocka_unit_test(what_is_not_base64_is_refused_with_the_place),
        cmocka_unit_test(a_wrong_character_is_found_far_into_a_text),
        cmocka_unit_test(text_is_a_path_or_base64),
        cmocka_unit_test(text_that_is_neither_is_quoted_with_both_reasons),
        cmocka_unit_test(arrays_that_are_pictures_are_measured),
        cmocka_unit_test(arrays_that_cannot_be_pictures_are_refused_by_shape),
        cmocka_unit_test(every_width_and_height_comes_back_from_png),
        cmocka_unit_test(large_pictures_come_back_from_png),
        cmocka_unit_test(sixteen_bit_grey_comes_back_from_png),
        cmocka_unit_test(strided_arrays_are_encoded_as_what_they_show),
        cmocka_unit_test(the_order_of_colours_is_heeded),
        cmocka_unit_test(pixels_decode_to_colour_or_to_what_they_were),
        cmocka_unit_test(npy_is_written_as_numpy_writes_it),
        cmocka_unit_test(npy_takes_either_byte_order_and_every_pixel),
        cmocka_unit_test(the_photograph_survives_jpeg),
        cmocka_unit_test(grey_stays_grey_in_a_file),
        cmocka_unit_test(alpha_is_left_out_of_a_jpeg),
        cmocka_unit_test(a_file_of_the_format_asked_for_is_copied),
        cmocka_unit_test(a_jpeg_becomes_a_png_and_a_npy),
        cmocka_unit_test(pixels_that_do_not_fit_a_format_are_refused),
        cmocka_unit_test(a_format_that_is_only_recognised_is_not_decoded),
        cmocka_unit_test(a_body_gets_bytes_by_reference_and_pixels_encoded),
        cmocka_unit_test(every_kind_of_png_is_decoded),
        cmocka_unit_test(a_progressive_jpeg_is_decoded),
        cmocka_unit_test(a_jpeg_in_cmyk_is_refused),
        cmocka_unit_test(stray_bytes_between_markers_are_survived),
        cmocka_unit_test(a_file_cut_off_anywhere_is_damaged),
        cmocka_unit_test(the_photograph_cut_off_is_damaged),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(a_small_file_that_tells_a_huge_size_is_refused_before_memory_is_taken),
        cmocka_unit_test(nothing_is_written_beyond_the_size_that_the_caller_knows),
        cmocka_unit_test(arguments_that_are_missing_are_refused),
        cmocka_unit_test(many_threads_may_use_one_image),
    };
    return cmocka_run_group_tests_name("image", tests, make_folder, remove_folder);
}

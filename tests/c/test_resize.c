/* Resizing: what Pillow 13.0.0 gave for the same pictures, and that nothing but the pixels matters. */
#include "checks.h"
#include "resize_passes.h"

#include <axon/resize.h>

#include <pthread.h>
#include <stdbool.h>

static axon_error err;

static uint32_t seed;

static uint32_t any(void) /* Marsaglia's xorshift: the same numbers every time */
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static uint8_t *noise(size_t length)
{
    uint8_t *bytes = malloc(length);
    seed = 2463534242;
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(any() >> 24);
    return bytes;
}

/* Fowler, Noll and Vo's hash, 1a. */
static uint32_t hash(const uint8_t *bytes, size_t length)
{
    uint32_t sum = 2166136261;
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ bytes[i]) * 16777619;
    return sum;
}

static axon_array pixels(const void *data, int64_t height, int64_t width, int64_t channels)
{
    return (axon_array){.dtype = AXON_UINT8, .ndim = 3, .data = data, .shape = {height, width, channels}};
}

static axon_resize_options with(axon_filter filter, axon_layout layout)
{
    return (axon_resize_options){.size = sizeof(axon_resize_options), .filter = filter, .layout = layout};
}

/* A new picture, the caller's to free. */
static uint8_t *resized(const axon_array *images, int64_t height, int64_t width, axon_filter filter)
{
    axon_resize_options o = with(filter, AXON_LAYOUT_HWC);
    size_t length = (size_t)(height * width * images->shape[2]) * (images->dtype == AXON_UINT8 ? 1 : 4);
    uint8_t *result = malloc(length);
    assert_ok(axon_resize(images, height, width, &o, result, length, &err), &err);
    return result;
}

/* ---- Pillow's pixels ----------------------------------------------------------------------- */

static void a_row_becomes_shorter_and_longer_as_pillow_does_it(void **state)
{
    (void)state;
    static const uint8_t row[8] = {0, 255, 30, 200, 100, 7, 90, 255};
    static const uint8_t wanted[][3 + 11] = {
        [AXON_FILTER_NEAREST] = {255, 100, 90, 0, 255, 255, 30, 200, 100, 100, 7, 90, 90, 255},
        [AXON_FILTER_BOX] = {95, 150, 117, 0, 255, 255, 30, 200, 100, 100, 7, 90, 90, 255},
        [AXON_FILTER_BILINEAR] = {124, 107, 119, 0, 151, 183, 38, 161, 150, 79, 11, 64, 158, 255},
        [AXON_FILTER_HAMMING] = {127, 121, 125, 0, 179, 222, 31, 190, 150, 94, 7, 78, 139, 255},
        [AXON_FILTER_BICUBIC] = {120, 106, 121, 0, 164, 205, 30, 172, 166, 75, 8, 51, 164, 255},
        [AXON_FILTER_LANCZOS] = {123, 103, 119, 0, 170, 212, 28, 161, 187, 64, 8, 35, 175, 255},
        [AXON_FILTER_MKS2013] = {120, 105, 120, 0, 174, 218, 27, 172, 183, 69, 0, 38, 171, 255},
        [AXON_FILTER_MKS2021] = {120, 106, 120, 0, 173, 216, 28, 169, 177, 70, 8, 44, 168, 255}};
    axon_array across = pixels(row, 1, 8, 1), down = pixels(row, 8, 1, 1);
    for (int filter = AXON_FILTER_NEAREST; filter <= AXON_FILTER_MKS2021; filter++)
        for (int is_down = 0; is_down <= 1; is_down++) {
            const axon_array *image = is_down ? &down : &across;
            uint8_t *shorter = resized(image, is_down ? 3 : 1, is_down ? 1 : 3, (axon_filter)filter);
            uint8_t *longer = resized(image, is_down ? 11 : 1, is_down ? 1 : 11, (axon_filter)filter);
            assert_memory_equal(shorter, wanted[filter], 3);
            assert_memory_equal(longer, wanted[filter] + 3, 11);
            free(shorter);
            free(longer);
        }
}

typedef struct {
    int64_t height, width, channels, new_height, new_width;
    uint32_t wanted[8]; /* in the order of axon_filter */
} golden;

static void pictures_of_noise_become_pillow_s(void **state)
{
    (void)state;
    static const golden cases[] = {
        {47,
         61,
         3,
         31,
         24, /* width first */
         {0x1e0b040a, 0xb36985ef, 0x978e1f83, 0x9901f8c7, 0xcc5d15b1, 0x10d1abed, 0x0ab4830b, 0xabbfd420}},
        {200,
         33,
         3,
         20,
         30, /* height first */
         {0x55e0bd8b, 0xb823c373, 0xf6336f5b, 0x5f872ab9, 0x244367ab, 0x18b4c7bb, 0x9e8d650e, 0x314a4890}},
        {37,
         50,
         1,
         90,
         77, /* larger */
         {0x66cb9a09, 0x28f3384e, 0x4e15eafe, 0x12aff1d4, 0x07936523, 0x8254f200, 0x646ac78d, 0x5a62d270}},
        {40,
         30,
         4,
         17,
         50, /* colour and alpha */
         {0xa561361e, 0x4c87fab1, 0xc5a6a544, 0xbbddedd0, 0xb7be3fea, 0xa2185380, 0x67f8b41c, 0xc84ebaf9}},
        {40,
         30,
         2,
         17,
         11, /* grey and alpha */
         {0xac58f5b4, 0xf7836ca0, 0x62b855b9, 0x6abb4753, 0x64f51242, 0x7b7bb2a9, 0x0910d2e6, 0xce10065a}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const golden *c = &cases[i];
        uint8_t *old = noise((size_t)(c->height * c->width * c->channels));
        axon_array image = pixels(old, c->height, c->width, c->channels);
        for (int f = 0; f < 8; f++) {
            uint8_t *new = resized(&image, c->new_height, c->new_width, (axon_filter)(f + 1));
            uint32_t got = hash(new, (size_t)(c->new_height * c->new_width * c->channels));
            if (got != c->wanted[f]) fail_msg("case %zu, filter %d: 0x%08x", i, f + 1, (unsigned)got);
            free(new);
        }
        free(old);
    }
}

static void floats_are_summed_up_as_in_pillow_s_mode_f(void **state)
{
    (void)state;
    static const float row[6] = {0.1f, -2.5f, 3e5f, 7, 1e-3f, 42};
    static const float wanted[][4] = {
        [AXON_FILTER_NEAREST] = {0x1.99999ap-4f, 0x1.24f8p+18f, 0x1.cp+2f, 0x1.5p+5f},
        [AXON_FILTER_BOX] = {-0x1.333334p+0f, 0x1.24f8p+18f, 0x1.c01062p+1f, 0x1.5p+5f},
        [AXON_FILTER_BILINEAR] = {-0x1.cp-1f, 0x1.45854ep+17f, 0x1.047272p+15f, 0x1.a4018ap+4f},
        [AXON_FILTER_HAMMING] = {-0x1.3de6fep-1f, 0x1.9e6e96p+17f, 0x1.90a1acp+12f, 0x1.e5adc2p+4f},
        [AXON_FILTER_BICUBIC] = {-0x1.7b472cp+13f, 0x1.6b68p+17f, 0x1.9936acp+14f, -0x1.2bfe2cp+11f},
        [AXON_FILTER_LANCZOS] = {-0x1.56c90ep+14f, 0x1.708ffap+17f, 0x1.042846p+15f, -0x1.14c2cap+13f},
        [AXON_FILTER_MKS2013] = {-0x1.32ada6p+14f, 0x1.7de782p+17f, 0x1.cc69b2p+14f, -0x1.5d960ep+13f},
        [AXON_FILTER_MKS2021] = {-0x1.1c1226p+14f, 0x1.72a008p+17f, 0x1.b75658p+14f, -0x1.39a104p+12f}};
    axon_array across = pixels(row, 1, 6, 1), down = pixels(row, 6, 1, 1);
    across.dtype = down.dtype = AXON_FLOAT32;
    for (int filter = AXON_FILTER_NEAREST; filter <= AXON_FILTER_MKS2021; filter++) {
        uint8_t *one = resized(&across, 1, 4, (axon_filter)filter);
        uint8_t *other = resized(&down, 4, 1, (axon_filter)filter);
        assert_memory_equal(one, wanted[filter], sizeof wanted[filter]);
        assert_memory_equal(other, wanted[filter], sizeof wanted[filter]);
        free(one);
        free(other);
    }
}

static void a_picture_of_the_wanted_size_is_copied_alpha_and_all(void **state)
{
    (void)state;
    uint8_t *old = noise(20 * 30 * 4);
    axon_array image = pixels(old, 20, 30, 4);
    uint8_t *new = resized(&image, 20, 30, AXON_FILTER_LANCZOS);
    assert_memory_equal(new, old, 20 * 30 * 4);
    free(new);
    free(old);
}

/* ---- padding ------------------------------------------------------------------------------- */

static void a_padded_picture_is_centred_on_black(void **state)
{
    (void)state;
    uint8_t *old = noise(48 * 64 * 3), new[50 * 41 * 3];
    axon_array image = pixels(old, 48, 64, 3);
    memset(new, 0xee, sizeof new);
    assert_ok(axon_resize_with_pad(&image, 50, 41, NULL, new, sizeof new, &err), &err);
    uint8_t *inner = resized(&image, 30, 41, AXON_FILTER_BILINEAR); /* 48 * 41 / 64 = 30.75 */
    assert_memory_equal(new + 10 * 41 * 3, inner, 30 * 41 * 3);
    for (size_t i = 0; i < 10 * 41 * 3; i++) {
        assert_int_equal(new[i], 0);
        assert_int_equal(new[40 * 41 * 3 + i], 0);
    }
    free(inner);
    free(old);
}

static void padding_at_the_sides_is_black_as_well(void **state)
{
    (void)state;
    static const uint8_t old[4] = {10, 20, 30, 40};
    uint8_t new[2 * 5];
    axon_array image = pixels(old, 2, 2, 1);
    assert_ok(axon_resize_with_pad(&image, 2, 5, NULL, new, sizeof new, &err), &err);
    assert_memory_equal(new, ((uint8_t[]){0, 10, 20, 0, 0, 0, 30, 40, 0, 0}), sizeof new);
}

/* ---- what lies where ----------------------------------------------------------------------- */

static void strides_do_not_matter(void **state)
{
    (void)state;
    enum { H = 40, W = 50, BYTES = 20 * 30 * 3 };
    uint8_t *wide = noise(2 * H * W * 4), packed[H * W * 3];
    axon_array view =
        pixels(wide + (2 * H * W - 1) * 4, H, W, 3); /* upside down, from right to left, BGR */
    view.strides[0] = -2 * W * 4;
    view.strides[1] = -4;
    view.strides[2] = -1;
    view.data = (const uint8_t *)view.data + 2;
    for (int y = 0, i = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                packed[i++] = ((const uint8_t *)view.data)[-y * 2 * W * 4 - 4 * x - c];
    axon_array image = pixels(packed, H, W, 3);
    for (int f = AXON_FILTER_NEAREST; f <= AXON_FILTER_BICUBIC; f++) {
        uint8_t *one = resized(&view, 20, 30, (axon_filter)f),
                *other = resized(&image, 20, 30, (axon_filter)f);
        assert_memory_equal(one, other, BYTES);
        free(one);
        free(other);
    }
    free(wide);
}

static void rows_may_be_apart_or_upside_down_without_a_copy(void **state)
{
    (void)state;
    uint8_t *data = noise(33 * 100), packed[33 * 60];
    axon_array view = pixels(data + 32 * 100, 33, 20, 3), image = pixels(packed, 33, 20, 3);
    view.strides[0] = -100;
    view.strides[1] = 3;
    view.strides[2] = 1;
    for (int y = 0; y < 33; y++)
        memcpy(packed + 60 * y, data + 100 * (32 - y), 60);
    uint8_t *one = resized(&view, 7, 19, AXON_FILTER_BILINEAR),
            *other = resized(&image, 7, 19, AXON_FILTER_BILINEAR);
    assert_memory_equal(one, other, 7 * 19 * 3);
    free(one);
    free(other);
    free(data);
}

static void check_channels_first(int64_t channels, axon_filter filter)
{
    enum { H = 21, W = 34, NEW_H = 16, NEW_W = 16, NEW = NEW_H * NEW_W };
    uint8_t *old = noise((size_t)(H * W * channels)), planes[H * W * 4], last[NEW * 4], first[NEW * 4];
    for (int64_t c = 0; c < channels; c++)
        for (int i = 0; i < H * W; i++)
            planes[c * H * W + i] = old[i * channels + c];
    axon_array image = pixels(old, H, W, channels);
    axon_array image_first = pixels(planes, channels, H, W);
    axon_resize_options hwc = with(filter, AXON_LAYOUT_HWC), chw = with(filter, AXON_LAYOUT_CHW);
    size_t length = (size_t)(NEW * channels);
    assert_ok(axon_resize_with_pad(&image, NEW_H, NEW_W, &hwc, last, length, &err), &err);
    assert_ok(axon_resize_with_pad(&image_first, NEW_H, NEW_W, &chw, first, length, &err), &err);
    for (int64_t c = 0; c < channels; c++)
        for (int i = 0; i < NEW; i++)
            assert_int_equal(first[c * NEW + i], last[i * channels + c]);
    free(old);
}

static void channels_may_come_first(void **state)
{
    (void)state;
    for (int64_t channels = 1; channels <= 4; channels++)
        for (int filter = AXON_FILTER_NEAREST; filter <= AXON_FILTER_LANCZOS; filter++)
            check_channels_first(channels, (axon_filter)filter);
}

static void grey_pictures_need_no_dimension_of_channels(void **state)
{
    (void)state;
    uint8_t *old = noise(30 * 40), new[15 * 20];
    axon_array image = {.dtype = AXON_UINT8, .ndim = 2, .shape = {30, 40}, .data = old};
    axon_array same = pixels(old, 30, 40, 1);
    axon_resize_options o = with(AXON_FILTER_BICUBIC, AXON_LAYOUT_HW);
    assert_ok(axon_resize(&image, 15, 20, &o, new, sizeof new, &err), &err);
    uint8_t *wanted = resized(&same, 15, 20, AXON_FILTER_BICUBIC);
    assert_memory_equal(new, wanted, sizeof new);
    free(wanted);
    free(old);
}

static void a_batch_is_resized_picture_by_picture(void **state)
{
    (void)state;
    enum { OLD = 9 * 12 * 3, NEW = 20 * 7 * 3 };
    uint8_t *old = noise(2 * 3 * 2 * OLD), new[2 * 3 * NEW];
    axon_array images = {
        .dtype = AXON_UINT8,
        .ndim = 5,
        .data = old + 3 * 2 * OLD,
        .shape = {2, 3, 9, 12, 3},
        .strides = {-3 * 2 * OLD, 2 * OLD, 36, 3, 1}}; /* the second row first, every other one */
    assert_ok(axon_resize(&images, 20, 7, NULL, new, sizeof new, &err), &err);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) {
            axon_array image = pixels(old + ((1 - i) * 3 + k) * 2 * OLD, 9, 12, 3);
            uint8_t *wanted = resized(&image, 20, 7, AXON_FILTER_BILINEAR);
            assert_memory_equal(new + (i * 3 + k) * NEW, wanted, NEW);
            free(wanted);
        }
    images.shape[1] = 0;
    assert_ok(axon_resize(&images, 20, 7, NULL, NULL, 0, &err), &err);
    free(old);
}

static void other_floats_are_resized_as_float32(void **state)
{
    (void)state;
    enum { N = 6 * 5 };
    float singles[N];
    double doubles[N];
    uint8_t swapped[4 * N + 1], halves[2 * N];
    for (int i = 0; i < N; i++) {
        singles[i] = (float)(i * 37 % 29) - 3.5f; /* exact also in 11 bits */
        doubles[i] = (double)singles[i];
        uint16_t half = 0; /* sign, exponent and fraction of a small number with a half in it */
        float size = singles[i] < 0 ? -singles[i] : singles[i];
        int exponent;
        half = (uint16_t)(frexpf(size, &exponent) * 2048);
        half = (uint16_t)((half & 1023) | (unsigned)(exponent + 14) << 10 | (singles[i] < 0 ? 0x8000u : 0));
        memcpy(halves + 2 * i, &half, 2);
        for (size_t b = 0; b < 4; b++)
            swapped[1 + 4 * (size_t)i + b] = ((uint8_t *)&singles[i])[3 - b];
    }
    axon_array single = pixels(singles, 6, 5, 1), wide = pixels(doubles, 6, 5, 1);
    axon_array other = pixels(swapped + 1, 6, 5, 1), half = pixels(halves, 6, 5, 1);
    single.dtype = other.dtype = AXON_FLOAT32;
    wide.dtype = AXON_FLOAT64;
    half.dtype = AXON_FLOAT16;
    other.swapped = 1; /* and not aligned */
    const axon_array *const forms[] = {&wide, &other, &half};
    uint8_t *wanted = resized(&single, 9, 3, AXON_FILTER_BILINEAR);
    for (int i = 0; i < 3; i++) {
        uint8_t *got = resized(forms[i], 9, 3, AXON_FILTER_BILINEAR);
        assert_memory_equal(got, wanted, 9 * 3 * sizeof(float));
        free(got);
    }
    free(wanted);
}

/* ---- the arithmetic ------------------------------------------------------------------------ */

static void check_passes(uint32_t old_size, uint32_t new_size, size_t channels, axon_filter filter,
                         size_t rows)
{
    const axi_passes *const both[] = {axi_passes_uint8(), axi_passes_uint8_portable()};
    const axi_weights *weights = axi_weights_get(old_size, new_size, filter);
    size_t old_row = old_size * channels, new_row = new_size * channels;
    uint8_t *in = noise(AXI_BLOCK * old_row + old_size * rows),
            *scratch = malloc(axi_width_scratch(weights, channels));
    uint8_t *out[2] = {calloc(AXI_BLOCK, new_row), calloc(AXI_BLOCK, new_row)};
    uint8_t *line[2] = {malloc(rows), malloc(rows)};
    for (int i = 0; i < 2; i++) {
        both[i]->width(out[i], (ptrdiff_t)new_row, in, (ptrdiff_t)old_row, rows, weights, channels,
                       scratch);
        both[i]->height(line[i], in + weights->taps[new_size / 2].first * rows, (ptrdiff_t)rows, rows,
                        weights, new_size / 2);
    }
    assert_memory_equal(out[0], out[1], AXI_BLOCK * new_row);
    assert_memory_equal(line[0], line[1], rows);
    for (int i = 0; i < 2; i++) {
        free(out[i]);
        free(line[i]);
    }
    free(scratch);
    free(in);
    axi_weights_put(weights);
}

static void every_processor_gives_the_same_pixels(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 5, 16, 31, 100, 333};
    for (size_t a = 0; a < 7; a++)
        for (size_t b = 0; b < 7; b++)
            for (size_t channels = 1; channels <= 4; channels++)
                for (size_t rows = 1; rows <= AXI_BLOCK; rows += 5)
                    check_passes(sizes[a], sizes[b], channels,
                                 (axon_filter)(AXON_FILTER_BOX + (a + b + channels) % 7), rows);
}

static void white_stays_white_whatever_the_ratio(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 100, 5000};
    uint8_t *white = malloc(5000 * 3);
    memset(white, 255, 5000 * 3);
    for (size_t a = 0; a < 5; a++)
        for (size_t b = 0; b < 5; b++)
            for (int filter = AXON_FILTER_NEAREST; filter <= AXON_FILTER_MKS2021; filter++) {
                axon_array tall = pixels(white, sizes[a], 1, 3), wide = pixels(white, 1, sizes[a], 3);
                uint8_t *one = resized(&tall, sizes[b], 1, (axon_filter)filter);
                uint8_t *other = resized(&wide, 1, sizes[b], (axon_filter)filter);
                for (int64_t i = 0; i < sizes[b] * 3; i++)
                    if (one[i] != 255 || other[i] != 255)
                        fail_msg("%d to %d, filter %d", (int)sizes[a], (int)sizes[b], filter);
                free(one);
                free(other);
            }
    free(white);
}

static void tables_are_kept_while_there_is_room(void **state)
{
    (void)state;
    const axi_weights *one = axi_weights_get(640, 224, AXON_FILTER_BILINEAR);
    const axi_weights *same = axi_weights_get(640, 224, AXON_FILTER_BILINEAR);
    const axi_weights *other = axi_weights_get(640, 224, AXON_FILTER_BICUBIC);
    assert_ptr_equal(one, same);
    assert_ptr_not_equal(one, other);
    axi_weights_put(same);
    axi_weights_put(other);
    for (uint32_t i = 0; i < AXI_WEIGHTS_KEPT; i++)
        axi_weights_put(axi_weights_get(100 + i, 50, AXON_FILTER_BOX));
    assert_int_equal(one->taps[223].first + one->taps[223].count,
                     640); /* ours still, though no longer kept */
    axi_weights_put(one);
    axi_weights_put(NULL);
}

static void *resize_a_lot(void *picture)
{
    for (int64_t i = 0; i < 60; i++) {
        axon_array image = pixels(picture, 64, 48, 3);
        int64_t size = 8 + i % 24; /* more sizes than tables are kept */
        uint8_t *new = malloc((size_t)(size * size * 3));
        axon_status status = axon_resize(&image, size, size, NULL, new, (size_t)(size * size * 3), NULL);
        free(new);
        if (status != AXON_OK) return picture;
    }
    return NULL;
}

static void many_threads_resize_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    uint8_t *picture = noise(64 * 48 * 3);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, resize_a_lot, picture), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    free(picture);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static void what_cannot_be_resized_is_named(void **state)
{
    (void)state;
    uint8_t old[60] = {0}, new[60];
    axon_array image = pixels(old, 4, 5, 3), bad = image;
    axon_resize_options o = with(AXON_FILTER_DEFAULT, AXON_LAYOUT_DEFAULT);
#define REFUSED(status, words, height, width, length)                                                      \
    assert_fails(axon_resize(&bad, height, width, &o, new, length, &err), status, &err, words);            \
    bad = image;                                                                                           \
    o = with(AXON_FILTER_DEFAULT, AXON_LAYOUT_DEFAULT)
    bad.shape[2] = 5;
    REFUSED(AXON_EINVAL, "5 channels, not 1 to 4, in (..., height, width, channels)", 2, 2, 20);
    bad.shape[2] = 0;
    REFUSED(AXON_EINVAL, "0 channels", 2, 2, 0);
    o.layout = AXON_LAYOUT_CHW;
    bad.shape[0] = 7;
    REFUSED(AXON_EINVAL, "7 channels, not 1 to 4, in (..., channels, height, width)", 2, 2, 20);
    bad.shape[0] = 0;
    REFUSED(AXON_EINVAL, "pictures of height 0 and width 5", 2, 2, 12);
    REFUSED(AXON_EINVAL, "a result of height 2 and width 0", 2, 0, 12);
    REFUSED(AXON_EINVAL, "a result of height -1 and width 2", -1, 2, 12);
    REFUSED(AXON_ETOOBIG, "more than 268435456 pixels", 1 << 20, 1 << 20, 12);
    REFUSED(AXON_ETOOBIG, "more than 268435456 pixels", INT64_MAX, INT64_MAX, 12);
    REFUSED(AXON_EINVAL, "result has room for 11 bytes, not for 12", 2, 2, 11);
    bad.ndim = 2;
    REFUSED(AXON_EINVAL, "2 dimensions, not (..., height, width, channels)", 2, 2, 12);
    bad.ndim = 33;
    REFUSED(AXON_EINVAL, "ndim is 33", 2, 2, 12);
    bad.dtype = AXON_UINT16;
    REFUSED(AXON_EINVAL, "images are uint16; only uint8 and floats", 2, 2, 12);
    bad.dtype = (axon_dtype)77;
    REFUSED(AXON_EINVAL, "images are unknown", 2, 2, 12);
    bad.data = NULL;
    REFUSED(AXON_EINVAL, "data is NULL", 2, 2, 12);
    o.filter = (axon_filter)9;
    REFUSED(AXON_EINVAL, "filter 9", 2, 2, 12);
    o.layout = (axon_layout)-1;
    REFUSED(AXON_EINVAL, "layout -1", 2, 2, 12);
    o.size = 0;
    REFUSED(AXON_EINVAL, "size is 0", 2, 2, 12);
    assert_fails(axon_resize(NULL, 2, 2, NULL, new, 12, &err), AXON_EINVAL, &err, "images is NULL");
    assert_fails(axon_resize(&image, 2, 2, NULL, NULL, 12, &err), AXON_EINVAL, &err, "result is NULL");
}

static void a_picture_that_would_vanish_is_refused(void **state)
{
    (void)state;
    uint8_t old[300] = {0}, new[81 * 3];
    axon_array image = pixels(old, 1, 100, 3);
    assert_fails(axon_resize_with_pad(&image, 9, 9, NULL, new, sizeof new, &err), AXON_EINVAL, &err,
                 "1x100 fits 9x9 as 0x9 pixels only");
}

/* ---- floats to uint8 ----------------------------------------------------------------------- */

static void floats_become_uint8_as_numpy_makes_them(void **state)
{
    (void)state;
    static const float in[] = {
        0,          0.5f,  1,      0.999f, 1.1f,     -0.1f,     -1,    300,
        1e6f,       1e10f, -1e10f, NAN,    INFINITY, -INFINITY, 2e-3f, 0.00392156862745098f,
        -8421504.5f};
    static const uint8_t wanted[] = {0, 127, 255, 254, 24, 231, 1, 212, 192, 0, 0, 0, 0, 0, 0, 1, 128};
    enum { N = sizeof wanted };
    double doubles[2 * N];
    uint8_t out[N];
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {N}, .data = in};
    assert_ok(axon_convert_to_uint8(&array, out, N, &err), &err);
    assert_memory_equal(out, wanted, N);
    for (size_t i = 0; i < N; i++)
        doubles[2 * (N - 1 - i)] = (double)in[i];
    axon_array backwards = {
        .dtype = AXON_FLOAT64, .ndim = 1, .shape = {N}, .strides = {-16}, .data = doubles + 2 * (N - 1)};
    assert_ok(axon_convert_to_uint8(&backwards, out, N, &err), &err);
    out[N - 1] = wanted[N - 1]; /* of more digits, and so another number */
    assert_memory_equal(out, wanted, N);
}

static void halves_are_rounded_to_a_half_before_they_become_uint8(void **state)
{
    (void)state;
    /* 0.5, 1, 0.9995 (whose product, 254.88, is 254.875), 0.003922 (1.00006 is 1), -1, infinity, NaN, 60000 */
    static const uint16_t in[] = {0x3800, 0x3c00, 0x3bff, 0x1c04, 0xbc00, 0x7c00, 0x7e00, 0x7b53, 0x0001};
    static const uint8_t wanted[] = {127, 255, 254, 1, 1, 0, 0, 0, 0};
    uint8_t out[9];
    axon_array array = {.dtype = AXON_FLOAT16, .ndim = 2, .shape = {3, 3}, .data = in};
    assert_ok(axon_convert_to_uint8(&array, out, sizeof out, &err), &err);
    assert_memory_equal(out, wanted, sizeof out);
}

static void what_cannot_be_converted_is_named(void **state)
{
    (void)state;
    int32_t numbers[4] = {0};
    uint8_t out[4];
    axon_array array = {.dtype = AXON_INT32, .ndim = 1, .shape = {4}, .data = numbers};
    assert_fails(axon_convert_to_uint8(&array, out, 4, &err), AXON_EINVAL, &err,
                 "pixels are int32, not float16");
    array.dtype = AXON_FLOAT32;
    assert_fails(axon_convert_to_uint8(&array, out, 3, &err), AXON_EINVAL, &err,
                 "room for 3 bytes, not for 4");
    assert_fails(axon_convert_to_uint8(&array, NULL, 4, &err), AXON_EINVAL, &err, "result is NULL");
    assert_fails(axon_convert_to_uint8(NULL, out, 4, &err), AXON_EINVAL, &err, "pixels is NULL");
    array.shape[0] = 0;
    assert_ok(axon_convert_to_uint8(&array, NULL, 0, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_becomes_shorter_and_longer_as_pillow_does_it),
        cmocka_unit_test(pictures_of_noise_become_pillow_s),
        cmocka_unit_test(floats_are_summed_up_as_in_pillow_s_mode_f),
        cmocka_unit_test(a_picture_of_the_wanted_size_is_copied_alpha_and_all),
        cmocka_unit_test(a_padded_picture_is_centred_on_black),
        cmocka_unit_test(padding_at_the_sides_is_black_as_well),
        cmocka_unit_test(strides_do_not_matter),
        cmocka_unit_test(rows_may_be_apart_or_upside_down_without_a_copy),
        cmocka_unit_test(channels_may_come_first),
        cmocka_unit_test(grey_pictures_need_no_dimension_of_channels),
        cmocka_unit_test(a_batch_is_resized_picture_by_picture),
        cmocka_unit_test(other_floats_are_resized_as_float32),
        cmocka_unit_test(every_processor_gives_the_same_pixels),
        cmocka_unit_test(white_stays_white_whatever_the_ratio),
        cmocka_unit_test(tables_are_kept_while_there_is_room),
        cmocka_unit_test(many_threads_resize_at_once),
        cmocka_unit_test(what_cannot_be_resized_is_named),
        cmocka_unit_test(a_picture_that_would_vanish_is_refused),
        cmocka_unit_test(floats_become_uint8_as_numpy_makes_them),
        cmocka_unit_test(halves_are_rounded_to_a_half_before_they_become_uint8),
        cmocka_unit_test(what_cannot_be_converted_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* See resize_passes.h.
 *
 * There is one kernel for uint8: a row as the weighted sum of rows, in 32-bit integers. For widths, 16 rows are
 * turned into columns of 16 bytes, which makes a pixel's column a short row, and turned back at the end. So every
 * lane is used whatever the number of channels is, and turning costs less than it saves. */
#include "resize_passes.h"

#include <stdbool.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* as in resize_weights.c */
#endif

#define INLINE static inline __attribute__((always_inline))

typedef uint8_t bytes8 __attribute__((vector_size(8)));
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef int32_t lanes8 __attribute__((vector_size(32)));
typedef uint32_t sums8 __attribute__((vector_size(32)));

/* ---- a row as a weighted sum of rows -------------------------------------------------------- */

#define HALF (1u << (AXI_WEIGHT_BITS - 1)) /* so that the shift rounds */

/* Unsigned, so that a sum which passes 31 bits on its way wraps around and comes back. */
INLINE void add(sums8 *sums, const uint8_t *in, int32_t weight)
{
    bytes8 eight;
    memcpy(&eight, in, sizeof eight);
    *sums += __builtin_convertvector(eight, sums8) * (uint32_t)weight;
}

/* Sums to bytes: weights may be negative, so what is below 0 or above 255 is cut. */
INLINE void store(uint8_t *out, const sums8 *sums)
{
    lanes8 values = (lanes8)*sums >> AXI_WEIGHT_BITS;
    values &= ~(values >> 31);
    values |= (255 - values) >> 31;
    bytes8 eight = __builtin_convertvector(values, bytes8);
    memcpy(out, &eight, sizeof eight);
}

INLINE void weigh_32(uint8_t *out, const uint8_t *in, ptrdiff_t stride, const int32_t *weights,
                     uint32_t count)
{
    sums8 a = {0};
    a += HALF;
    sums8 b = a, c = a, d = a;
    for (uint32_t k = 0; k < count; k++, in += stride) {
        add(&a, in, weights[k]);
        add(&b, in + 8, weights[k]);
        add(&c, in + 16, weights[k]);
        add(&d, in + 24, weights[k]);
    }
    store(out, &a);
    store(out + 8, &b);
    store(out + 16, &c);
    store(out + 24, &d);
}

INLINE void weigh_16(uint8_t *out, const uint8_t *in, ptrdiff_t stride, const int32_t *weights,
                     uint32_t count)
{
    sums8 a = {0};
    a += HALF;
    sums8 b = a;
    for (uint32_t k = 0; k < count; k++, in += stride) {
        add(&a, in, weights[k]);
        add(&b, in + 8, weights[k]);
    }
    store(out, &a);
    store(out + 8, &b);
}

INLINE void weigh_1(uint8_t *out, const uint8_t *in, ptrdiff_t stride, const int32_t *weights,
                    uint32_t count)
{
    uint32_t sum = HALF;
    for (uint32_t k = 0; k < count; k++, in += stride)
        sum += *in * (uint32_t)weights[k];
    int32_t value = (int32_t)sum >> AXI_WEIGHT_BITS;
    *out = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

INLINE void weigh_rows(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t length,
                       const int32_t *weights, uint32_t count)
{
    size_t done = 0;
    for (; length - done >= 32; done += 32)
        weigh_32(out + done, in + done, stride, weights, count);
    for (; length - done >= 16; done += 16)
        weigh_16(out + done, in + done, stride, weights, count);
    for (; done < length; done++)
        weigh_1(out + done, in + done, stride, weights, count);
}

INLINE void weigh_height(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t samples,
                         const axi_weights *weights, uint32_t y)
{
    weigh_rows(out, in, stride, samples, weights->fixed + (size_t)y * weights->room,
               weights->taps[y].count);
}

/* ---- rows to columns and back --------------------------------------------------------------- */

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (bytes16){__VA_ARGS__})
#endif

/* The bytes of two registers by turns: the lower halves, the upper halves. */
#define LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define WEAVE(out, in, i)                                                                                  \
    out[2 * i] = LOW(in[i], in[i + 8]);                                                                    \
    out[2 * i + 1] = HIGH(in[i], in[i + 8])
#define WEAVE_ALL(out, in)                                                                                 \
    WEAVE(out, in, 0);                                                                                     \
    WEAVE(out, in, 1);                                                                                     \
    WEAVE(out, in, 2);                                                                                     \
    WEAVE(out, in, 3);                                                                                     \
    WEAVE(out, in, 4);                                                                                     \
    WEAVE(out, in, 5);                                                                                     \
    WEAVE(out, in, 6);                                                                                     \
    WEAVE(out, in, 7)

/* Four weavings move each byte's row number to where its column number was. */
INLINE void transpose(bytes16 square[AXI_BLOCK])
{
    bytes16 other[AXI_BLOCK];
    WEAVE_ALL(other, square);
    WEAVE_ALL(square, other);
    WEAVE_ALL(other, square);
    WEAVE_ALL(square, other);
}

/* `length` bytes of up to 16 rows, as `length` columns of 16; what no row fills is 0. */
INLINE void to_columns(uint8_t *columns, const uint8_t *in, ptrdiff_t stride, size_t rows, size_t length)
{
    for (size_t at = 0; at < length; at += AXI_BLOCK) {
        bytes16 square[AXI_BLOCK] = {{0}};
        size_t wide = length - at < AXI_BLOCK ? length - at : AXI_BLOCK;
        if (wide == AXI_BLOCK)
            for (size_t r = 0; r < rows; r++)
                memcpy(&square[r], in + (ptrdiff_t)r * stride + at, AXI_BLOCK);
        else
            for (size_t r = 0; r < rows; r++)
                memcpy(&square[r], in + (ptrdiff_t)r * stride + at, wide);
        transpose(square);
        memcpy(columns + at * AXI_BLOCK, square, wide * AXI_BLOCK);
    }
}

INLINE void to_rows(uint8_t *out, ptrdiff_t stride, size_t rows, const uint8_t *columns, size_t length)
{
    for (size_t at = 0; at < length; at += AXI_BLOCK) {
        bytes16 square[AXI_BLOCK] = {{0}};
        size_t wide = length - at < AXI_BLOCK ? length - at : AXI_BLOCK;
        memcpy(square, columns + at * AXI_BLOCK, wide * AXI_BLOCK);
        transpose(square);
        if (wide == AXI_BLOCK)
            for (size_t r = 0; r < rows; r++)
                memcpy(out + (ptrdiff_t)r * stride + at, &square[r], AXI_BLOCK);
        else
            for (size_t r = 0; r < rows; r++)
                memcpy(out + (ptrdiff_t)r * stride + at, &square[r], wide);
    }
}

INLINE void weigh_widths(uint8_t *out, ptrdiff_t out_stride, const uint8_t *in, ptrdiff_t in_stride,
                         size_t rows, const axi_weights *weights, size_t channels, uint8_t *scratch)
{
    size_t pixel = channels * AXI_BLOCK;
    uint8_t *old_columns = scratch, *new_columns = scratch + weights->old_size * pixel;
    to_columns(old_columns, in, in_stride, rows, weights->old_size * channels);
    for (uint32_t x = 0; x < weights->new_size; x++)
        weigh_rows(new_columns + x * pixel, old_columns + weights->taps[x].first * pixel, (ptrdiff_t)pixel,
                   pixel, weights->fixed + (size_t)x * weights->room, weights->taps[x].count);
    to_rows(out, out_stride, rows, new_columns, weights->new_size * channels);
}

size_t axi_width_scratch(const axi_weights *weights, size_t channels)
{
    size_t bytes, pixel = channels * AXI_BLOCK;
    bool fits = !__builtin_mul_overflow((size_t)weights->old_size + weights->new_size, pixel, &bytes);
    return fits ? bytes : SIZE_MAX;
}

/* ---- uint8, for this processor and for any -------------------------------------------------- */

#define FOR_TARGET(name, attributes)                                                                       \
    attributes static void width_##name(void *out, ptrdiff_t out_stride, const void *in,                   \
                                        ptrdiff_t in_stride, size_t rows, const axi_weights *weights,      \
                                        size_t channels, void *scratch)                                    \
    {                                                                                                      \
        weigh_widths(out, out_stride, in, in_stride, rows, weights, channels, scratch);                    \
    }                                                                                                      \
    attributes static void height_##name(void *out, const void *in, ptrdiff_t in_stride, size_t samples,   \
                                         const axi_weights *weights, uint32_t y)                           \
    {                                                                                                      \
        weigh_height(out, in, in_stride, samples, weights, y);                                             \
    }                                                                                                      \
    static const axi_passes passes_##name = {width_##name, height_##name, sizeof(uint8_t)};

FOR_TARGET(portable, )
#if defined(__x86_64__)
FOR_TARGET(avx2, __attribute__((target("avx2"))))
#endif

const axi_passes *axi_passes_uint8_portable(void)
{
    return &passes_portable;
}

const axi_passes *axi_passes_uint8(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return &passes_avx2;
#endif
    return &passes_portable;
}

/* ---- float ---------------------------------------------------------------------------------- */

static void width_float(void *out, ptrdiff_t out_stride, const void *in, ptrdiff_t in_stride, size_t rows,
                        const axi_weights *weights, size_t channels, void *scratch)
{
    (void)scratch;
    for (size_t r = 0; r < rows; r++) {
        float *to = (float *)(void *)((uint8_t *)out + (ptrdiff_t)r * out_stride);
        const float *row = (const float *)(const void *)((const uint8_t *)in + (ptrdiff_t)r * in_stride);
        for (uint32_t x = 0; x < weights->new_size; x++) {
            const double *exact = weights->exact + (size_t)x * weights->room;
            const float *from = row + weights->taps[x].first * channels;
            for (size_t c = 0; c < channels; c++) {
                double sum = 0;
                for (uint32_t k = 0; k < weights->taps[x].count; k++)
                    sum += (double)from[k * channels + c] * exact[k];
                *to++ = (float)sum;
            }
        }
    }
}

static void height_float(void *out, const void *in, ptrdiff_t in_stride, size_t samples,
                         const axi_weights *weights, uint32_t y)
{
    enum { TOGETHER = 16 };
    const double *exact = weights->exact + (size_t)y * weights->room;
    float *to = out;
    for (size_t at = 0; at < samples; at += TOGETHER) {
        size_t wide = samples - at < TOGETHER ? samples - at : TOGETHER;
        double sums[TOGETHER] = {0};
        for (uint32_t k = 0; k < weights->taps[y].count; k++) {
            float row[TOGETHER] = {0};
            const float *from =
                (const float *)(const void *)((const uint8_t *)in + (ptrdiff_t)k * in_stride);
            memcpy(row, from + at, wide * sizeof *row);
            for (size_t i = 0; i < TOGETHER; i++)
                sums[i] += (double)row[i] * exact[k];
        }
        for (size_t i = 0; i < wide; i++)
            to[at + i] = (float)sums[i];
    }
}

const axi_passes *axi_passes_float(void)
{
    static const axi_passes passes = {width_float, height_float, sizeof(float)};
    return &passes;
}

/* See resize_passes.h.
 *
 * There is one kernel for uint8: rows as weighted sums of rows, in 32-bit integers. For widths, 16 rows are
 * turned into columns of 16 bytes, which makes a pixel's column a short row, and turned back at the end. So every
 * lane is used whatever the number of channels is, and turning costs less than it saves. */
#include "resize_passes.h"

#include <stdbool.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* as in resize_weights.c */
#endif

#define INLINE static inline __attribute__((always_inline))

/* ---- rows as weighted sums of rows ---------------------------------------------------------- */

/* Makes new rows `begin` to `end` of `length` bytes. `in` is the first of the old rows that `begin` is made of. */
typedef void kernel(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t length,
                    const axi_weights *weights, uint32_t begin, uint32_t end);

#define HALF (1 << (AXI_WEIGHT_BITS - 1)) /* so that the shift rounds */

/* Unsigned, so that a sum which passes 31 bits on its way wraps around and comes back. Weights may be negative:
 * what is below 0 or above 255 is cut. */
INLINE void weigh_bytes(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t length,
                        const int32_t *weights, uint32_t count)
{
    enum { TOGETHER = 16 };
    uint32_t sums[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++)
        sums[i] = HALF;
    if (length >= TOGETHER) {
        for (uint32_t k = 0; k < count; k++, in += stride)
            for (size_t i = 0; i < TOGETHER; i++) /* as long as compilers like it for vector instructions */
                sums[i] += in[i] * (uint32_t)weights[k];
        length = TOGETHER;
    } else {
        for (uint32_t k = 0; k < count; k++, in += stride)
            for (size_t i = 0; i < length; i++)
                sums[i] += in[i] * (uint32_t)weights[k];
    }
    for (size_t i = 0; i < length; i++) {
        int32_t value = (int32_t)sums[i] >> AXI_WEIGHT_BITS;
        out[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

static void weigh_portable(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t length,
                           const axi_weights *weights, uint32_t begin, uint32_t end)
{
    const axi_taps *taps = weights->taps;
    for (uint32_t i = begin; i < end; i++, out += length) {
        const uint8_t *row = in + (ptrdiff_t)(taps[i].first - taps[begin].first) * stride;
        const int32_t *fixed = weights->fixed + (size_t)i * weights->room;
        for (size_t at = 0; at < length; at += 16)
            weigh_bytes(out + at, row + at, stride, length - at, fixed, taps[i].count);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Two old rows at a time: their bytes by turns, widened to 16 bits, are what pmaddwd multiplies by a pair of
 * weights and adds up. A weight has more than 16 bits, so its low and high part go separate ways. Packing with
 * saturation cuts the results, and undoes what unpacking did to their order. */
typedef struct {
    __m256i low[4], high[4];
} sums32;

AVX2 INLINE void add_pair(__m256i *low, __m256i *high, __m256i bytes, __m256i lows, __m256i highs)
{
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(bytes, lows));
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(bytes, highs));
}

AVX2 INLINE void add_rows(sums32 *sums, __m256i a, __m256i b, axi_pair weights)
{
    int32_t low, high;
    memcpy(&low, weights.low, sizeof low);
    memcpy(&high, weights.high, sizeof high);
    const __m256i lows = _mm256_set1_epi32(low), highs = _mm256_set1_epi32(high),
                  zero = _mm256_setzero_si256();
    __m256i front = _mm256_unpacklo_epi8(a, b), back = _mm256_unpackhi_epi8(a, b);
    add_pair(&sums->low[0], &sums->high[0], _mm256_unpacklo_epi8(front, zero), lows, highs);
    add_pair(&sums->low[1], &sums->high[1], _mm256_unpackhi_epi8(front, zero), lows, highs);
    add_pair(&sums->low[2], &sums->high[2], _mm256_unpacklo_epi8(back, zero), lows, highs);
    add_pair(&sums->low[3], &sums->high[3], _mm256_unpackhi_epi8(back, zero), lows, highs);
}

AVX2 INLINE __m256i value_of(const sums32 *sums, int part)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(sums->high[part], AXI_LOW_BITS), sums->low[part]);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(HALF)), AXI_WEIGHT_BITS);
}

AVX2 INLINE __m256i packed(const sums32 *sums)
{
    __m256i front = _mm256_packs_epi32(value_of(sums, 0), value_of(sums, 1));
    __m256i back = _mm256_packs_epi32(value_of(sums, 2), value_of(sums, 3));
    return _mm256_packus_epi16(front, back);
}

AVX2 INLINE __m256i load_32(const uint8_t *in)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)in);
}

AVX2 INLINE __m256i load_16(const uint8_t *in)
{
    return _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)in));
}

/* 32 or 16 bytes of one new row; of an odd number of old rows the last goes with itself, times 0. */
#define WEIGH(load)                                                                                        \
    sums32 sums = {{{0}}, {{0}}};                                                                          \
    uint32_t k = 0;                                                                                        \
    for (; k + 1 < count; k += 2, in += 2 * stride)                                                        \
        add_rows(&sums, load(in), load(in + stride), pairs[k / 2]);                                        \
    if (k < count) add_rows(&sums, load(in), load(in), pairs[k / 2]);

AVX2 INLINE void weigh_32(uint8_t *out, const uint8_t *in, ptrdiff_t stride, const axi_pair *pairs,
                          uint32_t count)
{
    WEIGH(load_32)
    _mm256_storeu_si256((__m256i *)(void *)out, packed(&sums));
}

AVX2 INLINE void weigh_16(uint8_t *out, const uint8_t *in, ptrdiff_t stride, const axi_pair *pairs,
                          uint32_t count)
{
    WEIGH(load_16)
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(packed(&sums)));
}

AVX2 static void weigh_avx2(uint8_t *out, const uint8_t *in, ptrdiff_t stride, size_t length,
                            const axi_weights *weights, uint32_t begin, uint32_t end)
{
    const axi_taps *taps = weights->taps;
    for (uint32_t i = begin; i < end; i++, out += length) {
        const uint8_t *row = in + (ptrdiff_t)(taps[i].first - taps[begin].first) * stride;
        const axi_pair *pairs = weights->pairs + (size_t)i * axi_pairs(weights);
        size_t at = 0;
        for (; length - at >= 32; at += 32)
            weigh_32(out + at, row + at, stride, pairs, taps[i].count);
        for (; length - at >= 16; at += 16)
            weigh_16(out + at, row + at, stride, pairs, taps[i].count);
        if (at < length)
            weigh_bytes(out + at, row + at, stride, length - at, weights->fixed + (size_t)i * weights->room,
                        taps[i].count);
    }
}
#endif

typedef uint8_t bytes16 __attribute__((vector_size(16)));

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
    (out[2 * (i)] = LOW(in[i], in[(i) + 8]), out[2 * (i) + 1] = HIGH(in[i], in[(i) + 8]))
#define WEAVE_ALL(out, in)                                                                                 \
    (WEAVE(out, in, 0), WEAVE(out, in, 1), WEAVE(out, in, 2), WEAVE(out, in, 3), WEAVE(out, in, 4),        \
     WEAVE(out, in, 5), WEAVE(out, in, 6), WEAVE(out, in, 7))
#define FOUR(x, i) x(i) x((i) + 1) x((i) + 2) x((i) + 3)
#define SIXTEEN(x) FOUR(x, 0) FOUR(x, 4) FOUR(x, 8) FOUR(x, 12)
#define LOAD(i) memcpy(&square[i], from + (i)*from_stride, AXI_BLOCK);
#define STORE(i) memcpy(to + (i)*to_stride, &square[i], AXI_BLOCK);

/* 16 rows of 16 bytes. Four weavings move each byte's row number to where its column number was. Without a loop,
 * so that all of it stays in registers. */
static void turn_square(uint8_t *to, ptrdiff_t to_stride, const uint8_t *from, ptrdiff_t from_stride)
{
    bytes16 square[AXI_BLOCK], other[AXI_BLOCK];
    SIXTEEN(LOAD)
    WEAVE_ALL(other, square);
    WEAVE_ALL(square, other);
    WEAVE_ALL(other, square);
    WEAVE_ALL(square, other);
    SIXTEEN(STORE)
}

static void turn_slowly(uint8_t *to, ptrdiff_t to_stride, const uint8_t *from, ptrdiff_t from_stride,
                        size_t rows, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[(ptrdiff_t)c * to_stride + (ptrdiff_t)r] = from[(ptrdiff_t)r * from_stride + (ptrdiff_t)c];
}

/* Turns rows of bytes into columns. Squares at the end overlap with those before them. */
static void turn(uint8_t *to, ptrdiff_t to_stride, const uint8_t *from, ptrdiff_t from_stride, size_t rows,
                 size_t columns)
{
    if (rows < AXI_BLOCK || columns < AXI_BLOCK) {
        turn_slowly(to, to_stride, from, from_stride, rows, columns);
        return;
    }
    for (size_t y = 0; y < rows; y += AXI_BLOCK)
        for (size_t x = 0; x < columns; x += AXI_BLOCK) {
            ptrdiff_t r = (ptrdiff_t)(y < rows - AXI_BLOCK ? y : rows - AXI_BLOCK);
            ptrdiff_t c = (ptrdiff_t)(x < columns - AXI_BLOCK ? x : columns - AXI_BLOCK);
            turn_square(to + c * to_stride + r, to_stride, from + r * from_stride + c, from_stride);
        }
}

static void weigh_widths(kernel *weigh, uint8_t *out, ptrdiff_t out_stride, const uint8_t *in,
                         ptrdiff_t in_stride, size_t rows, const axi_weights *weights, size_t channels,
                         uint8_t *scratch)
{
    size_t pixel = channels * AXI_BLOCK;
    uint8_t *old_columns = scratch, *new_columns = scratch + weights->old_size * pixel;
    turn(old_columns, AXI_BLOCK, in, in_stride, rows, weights->old_size * channels);
    weigh(new_columns, old_columns + weights->taps[0].first * pixel, (ptrdiff_t)pixel, pixel, weights, 0,
          weights->new_size);
    turn(out, out_stride, new_columns, AXI_BLOCK, weights->new_size * channels, rows);
}

size_t axi_width_scratch(const axi_weights *weights, size_t channels)
{
    size_t bytes, pixel = channels * AXI_BLOCK;
    bool fits = !__builtin_mul_overflow((size_t)weights->old_size + weights->new_size, pixel, &bytes);
    return fits ? bytes : SIZE_MAX;
}

/* ---- uint8, for this processor and for any -------------------------------------------------- */

#define PASSES(name)                                                                                       \
    static void width_##name(void *out, ptrdiff_t out_stride, const void *in, ptrdiff_t in_stride,         \
                             size_t rows, const axi_weights *weights, size_t channels, void *scratch)      \
    {                                                                                                      \
        weigh_widths(weigh_##name, out, out_stride, in, in_stride, rows, weights, channels, scratch);      \
    }                                                                                                      \
    static void height_##name(void *out, const void *in, ptrdiff_t in_stride, size_t samples,              \
                              const axi_weights *weights, uint32_t y)                                      \
    {                                                                                                      \
        weigh_##name(out, in, in_stride, samples, weights, y, y + 1);                                      \
    }                                                                                                      \
    static const axi_passes passes_##name = {width_##name, height_##name, sizeof(uint8_t)};

PASSES(portable)
#if defined(__x86_64__)
PASSES(avx2)
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

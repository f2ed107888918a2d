/* See resize_convert.h, and axon_convert_to_uint8() in axon/resize.h. */
#include "resize_convert.h"

#include "array.h"

#include <axon/resize.h>

#include <stdlib.h>
#include <string.h>

/* ---- half precision ------------------------------------------------------------------------ */

static float half_to_float(uint16_t half)
{
    /* exponent and fraction in a float's places are 2^112 too small, also where the half is subnormal */
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    number *= 0x1p112f;
    memcpy(&bits, &number, sizeof bits);
    if ((half & 0x7c00) == 0x7c00) bits |= 0x7f800000; /* infinity, not a number */
    bits |= sign;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* To the 11 bits that a half has, ties to even. What a half cannot hold is the caller's concern. */
static float rounded_to_half(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    bits += 0xfff + (bits >> 13 & 1);
    bits &= ~(uint32_t)0x1fff;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* ---- float32 ------------------------------------------------------------------------------- */

/* From the front where elements shrink, from the back where they grow. */
void axi_to_single(void *elements, size_t count, size_t itemsize)
{
    uint8_t *at = elements;
    for (size_t i = 0; itemsize == sizeof(double) && i < count; i++) {
        double wide;
        memcpy(&wide, at + i * sizeof wide, sizeof wide);
        float number = (float)wide;
        memcpy(at + i * sizeof number, &number, sizeof number);
    }
    for (size_t i = count; itemsize == sizeof(uint16_t) && i-- > 0;) {
        uint16_t half;
        memcpy(&half, at + i * sizeof half, sizeof half);
        float number = half_to_float(half);
        memcpy(at + i * sizeof number, &number, sizeof number);
    }
}

/* ---- uint8 --------------------------------------------------------------------------------- */

/* So that `count` is a constant but for the last few. */
#define INLINE static inline __attribute__((always_inline))

/* So many at a time that compilers make vector instructions of the loops, whose length they know. */
enum { TOGETHER = 16 };

typedef float floats __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));

INLINE void low_bytes(uint8_t *out, const int32_t *numbers, size_t count)
{
    uint8_t bytes[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++)
        bytes[i] = (uint8_t)numbers[i];
    memcpy(out, bytes, count);
}

/* Of what is no int32, and of NaN, all bits are cleared. */
INLINE void bytes_of_floats(uint8_t *out, const uint8_t *in, size_t count)
{
    const floats limit = {0x1p31f, 0x1p31f, 0x1p31f, 0x1p31f};
    const ints sign = {INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN};
    floats four[TOGETHER / 4] = {{0}};
    int32_t numbers[TOGETHER];
    memcpy(four, in, count * sizeof(float));
    for (size_t i = 0; i < TOGETHER / 4; i++) {
        floats x = 255 * four[i];
        ints fits = (floats)((ints)x & ~sign) < limit; /* -2^31 would too, and ends in a byte of 0 anyway */
        ints whole = __builtin_convertvector((floats)((ints)x & fits), ints);
        memcpy(numbers + 4 * i, &whole, sizeof whole);
    }
    low_bytes(out, numbers, count);
}

INLINE void bytes_of_doubles(uint8_t *out, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double x;
        memcpy(&x, in + i * sizeof x, sizeof x);
        x *= 255;
        out[i] = x > -0x1p31 - 1 && x < 0x1p31 ? (uint8_t)(int32_t)x : 0;
    }
}

INLINE void bytes_of_halves(uint8_t *out, const uint8_t *in, size_t count)
{
    const float too_large = 65520; /* rounds to infinity */
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, in + i * sizeof half, sizeof half);
        float x = 255 * half_to_float(half);
        out[i] = x > -too_large && x < too_large ? (uint8_t)(int32_t)rounded_to_half(x) : 0;
    }
}

#define CONVERT(function, itemsize)                                                                        \
    for (; count >= TOGETHER; count -= TOGETHER, out += TOGETHER, in += TOGETHER * (itemsize))             \
        function(out, in, TOGETHER);                                                                       \
    function(out, in, count)

static void bytes_of(uint8_t *out, const uint8_t *in, size_t count, size_t itemsize)
{
    switch (itemsize) {
    case sizeof(float):
        CONVERT(bytes_of_floats, sizeof(float));
        break;
    case sizeof(double):
        CONVERT(bytes_of_doubles, sizeof(double));
        break;
    default:
        CONVERT(bytes_of_halves, sizeof(uint16_t));
        break;
    }
}

static axon_status check(const axon_array *pixels, axi_layout *layout, const uint8_t *result, size_t length,
                         axon_error *err)
{
    if (!pixels) return axi_fail(err, AXON_EINVAL, "convert: pixels is NULL");
    axon_status status = axi_array_layout(pixels, layout, "convert: pixels", NULL, err);
    if (status != AXON_OK) return status;
    if (pixels->dtype < AXON_FLOAT16 || pixels->dtype > AXON_FLOAT64) {
        char name[AXI_DTYPE_TEXT];
        axi_dtype_print(name, pixels->dtype, layout->itemsize, false, true);
        return axi_fail(err, AXON_EINVAL, "convert: pixels are %s, not float16, float32 or float64", name);
    }
    if (length != layout->count)
        return axi_fail(err, AXON_EINVAL, "convert: result has room for %zu bytes, not for %zu", length,
                        (size_t)layout->count);
    if (!result && length) return axi_fail(err, AXON_EINVAL, "convert: result is NULL");
    return AXON_OK;
}

axon_status axon_convert_to_uint8(const axon_array *pixels, uint8_t *result, size_t length, axon_error *err)
{
    axi_layout layout;
    axon_status status = check(pixels, &layout, result, length, err);
    if (status != AXON_OK || length == 0) return status;
    if (layout.is_contiguous && !pixels->swapped) {
        bytes_of(result, pixels->data, length, layout.itemsize);
        return AXON_OK;
    }
    uint8_t *gathered = malloc(layout.bytes);
    if (!gathered) return axi_no_memory(err, layout.bytes);
    axi_array_gather(gathered, pixels, &layout);
    if (pixels->swapped) axi_swap_bytes(gathered, layout.bytes, layout.itemsize);
    bytes_of(result, gathered, length, layout.itemsize);
    free(gathered);
    return AXON_OK;
}

/* Arrays as pictures: which are, and their rows. See image_codecs.h. */
#include "array.h"
#include "image_codecs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- which arrays are pictures ------------------------------------------------------------- */

#define SHAPE_TEXT 160

/* As Python writes it: (480, 640, 3). */
static const char *shape_text(const axon_array *array, char text[SHAPE_TEXT])
{
    size_t used = 1;
    strcpy(text, "(");
    for (int32_t i = 0; i < array->ndim && used < SHAPE_TEXT - 32; i++)
        used +=
            (size_t)snprintf(text + used, SHAPE_TEXT - used, "%s%" PRId64, i ? ", " : "", array->shape[i]);
    snprintf(text + used, SHAPE_TEXT - used, "%s", array->ndim == 1 ? ",)" : ")");
    return text;
}

static void dtype_text(axon_dtype dtype, char text[AXI_DTYPE_TEXT])
{
    if (dtype >= AXON_BOOL8 && dtype <= AXON_FIXED_BYTES)
        axi_dtype_print(text, dtype, 0, false, true);
    else
        snprintf(text, AXI_DTYPE_TEXT, "number %d", (int)dtype);
}

static bool is_channels(int64_t count)
{
    return count == 1 || count == 3 || count == 4;
}

static axon_status check_dtype(const axon_array *array, const char *dtype, axon_error *err)
{
    switch ((int)array->dtype) {
    case AXON_UINT8:
    case AXON_UINT16:
    case AXON_FLOAT32:
    case AXON_FLOAT64:
        return AXON_OK;
    case AXON_BOOL8:
        return axi_fail(err, AXON_EINVAL,
                        "image: dtype bool cannot be a picture; make a mask uint8, 0 and 255");
    default:
        return axi_fail(
            err, AXON_EINVAL,
            "image: dtype %s cannot be a picture; use uint8, or uint16, float32 or float64 for depth",
            dtype);
    }
}

static axon_status check_channels(const axon_array *array, const char *shape, const char *dtype,
                                  axon_error *err)
{
    const int64_t *n = array->shape;
    int64_t channels = array->ndim == 3 ? n[2] : 1;
    if (!is_channels(channels) && is_channels(n[0]))
        return axi_fail(err, AXON_EINVAL,
                        "image: shape %s: the channels must come last; transpose it to (%" PRId64
                        ", %" PRId64 ", %" PRId64 ")",
                        shape, n[1], n[2], n[0]);
    if (!is_channels(channels))
        return axi_fail(err, AXON_EINVAL, "image: shape %s: the last dimension must be 1, 3 or 4 channels",
                        shape);
    if (channels != 1 && array->dtype != AXON_UINT8)
        return axi_fail(
            err, AXON_EINVAL,
            "image: shape %s of %s: only uint8 has colour; other pixels must be (height, width)", shape,
            dtype);
    return AXON_OK;
}

static axon_status check_shape(const axon_array *array, const char *dtype, axon_error *err)
{
    char text[SHAPE_TEXT];
    const int64_t *n = array->shape;
    if (array->ndim < 0 || array->ndim > AXON_MAX_NDIM)
        return axi_fail(err, AXON_EINVAL, "image: %" PRId32 " dimensions, more than %d", array->ndim,
                        AXON_MAX_NDIM);
    shape_text(array, text);
    if (array->ndim != 2 && array->ndim != 3)
        return axi_fail(err, AXON_EINVAL,
                        "image: shape %s: pixels must be (height, width) or (height, width, channels)",
                        text);
    for (int32_t i = 0; i < array->ndim; i++)
        if (n[i] <= 0) return axi_fail(err, AXON_EINVAL, "image: shape %s: there are no pixels", text);
    axon_status status = check_channels(array, text, dtype, err);
    if (status != AXON_OK) return status;
    if ((uint64_t)n[0] > AXI_MAX_PIXELS / (uint64_t)n[1])
        return axi_fail(err, AXON_EINVAL, "image: shape %s: more than %" PRIu64 " pixels", text,
                        AXI_MAX_PIXELS);
    return AXON_OK;
}

axon_status axi_pixels_check(const axon_array *array, axon_color color, axi_pixels *pixels, axon_error *err)
{
    char dtype[AXI_DTYPE_TEXT];
    axi_layout layout;
    dtype_text(array->dtype, dtype);
    axon_status status = check_dtype(array, dtype, err);
    if (status == AXON_OK) status = check_shape(array, dtype, err);
    if (status == AXON_OK) status = axi_array_layout(array, &layout, "image", NULL, err);
    if (status != AXON_OK) return status;
    if (color != AXON_COLOR_DEFAULT && color != AXON_RGB && color != AXON_BGR)
        return axi_fail(err, AXON_EINVAL, "image: color %d is neither AXON_RGB nor AXON_BGR", (int)color);
    *pixels = (axi_pixels){.data = array->data,
                           .dtype = array->dtype,
                           .width = (size_t)array->shape[1],
                           .height = (size_t)array->shape[0],
                           .channels = array->ndim == 3 ? (size_t)array->shape[2] : 1,
                           .row = (ptrdiff_t)layout.strides[0],
                           .column = (ptrdiff_t)layout.strides[1],
                           .channel = array->ndim == 3 ? (ptrdiff_t)layout.strides[2] : 0,
                           .big_endian = (AXI_NATIVE == AXI_BIG) != (array->swapped != 0),
                           .bgr = color != AXON_RGB};
    return AXON_OK;
}

/* ---- rows ---------------------------------------------------------------------------------- */

axi_pixels axi_pixels_packed(axon_dtype dtype, size_t width, size_t height, size_t channels, bool bgr)
{
    ptrdiff_t item = (ptrdiff_t)axon_dtype_size(dtype);
    return (axi_pixels){.dtype = dtype,
                        .width = width,
                        .height = height,
                        .channels = channels,
                        .channel = item,
                        .column = item * (ptrdiff_t)channels,
                        .row = item * (ptrdiff_t)(channels * width),
                        .big_endian = AXI_NATIVE == AXI_BIG,
                        .bgr = bgr};
}

size_t axi_pixels_row_bytes(const axi_pixels *pixels)
{
    return pixels->width * pixels->channels * axon_dtype_size(pixels->dtype);
}

static bool must_swap(const axi_pixels *pixels, axi_order order)
{
    return axon_dtype_size(pixels->dtype) > 1 && pixels->big_endian != (order == AXI_BIG);
}

bool axi_pixels_are_packed(const axi_pixels *pixels, axi_order order)
{
    ptrdiff_t item = (ptrdiff_t)axon_dtype_size(pixels->dtype);
    return !must_swap(pixels, order) && (pixels->channels == 1 || pixels->channel == item) &&
           (pixels->width == 1 || pixels->column == item * (ptrdiff_t)pixels->channels);
}

/* Three bytes at a time in the opposite order. */
static void reverse_threes(uint8_t *out, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++, in += 3, out += 3) {
        uint8_t first = in[0], middle = in[1], last = in[2];
        out[0] = last;
        out[1] = middle;
        out[2] = first;
    }
}

/* Picks elements of `size` bytes from wherever they lie; `size` is a constant where this is called. */
static inline void pick(uint8_t *out, const axi_pixels *p, const uint8_t *row, size_t size)
{
    for (size_t x = 0; x < p->width; x++, row += p->column) {
        const uint8_t *element = row;
        for (size_t c = 0; c < p->channels; c++, element += p->channel, out += size)
            memcpy(out, element, size);
    }
}

static void swap_colours(uint8_t *row, size_t width, size_t channels)
{
    for (size_t x = 0; x < width; x++, row += channels) {
        uint8_t first = row[0];
        row[0] = row[2];
        row[2] = first;
    }
}

void axi_pixels_gather(const axi_pixels *pixels, size_t y, uint8_t *row, axi_order order, bool bgr)
{
    const uint8_t *from = pixels->data + (ptrdiff_t)y * pixels->row;
    size_t size = axon_dtype_size(pixels->dtype);
    bool swap = must_swap(pixels, order), colours = pixels->channels >= 3 && pixels->bgr != bgr;
    if (axi_pixels_are_packed(pixels, order)) {
        if (colours && pixels->channels == 3) {
            reverse_threes(row, from, pixels->width);
            return;
        }
        memcpy(row, from, axi_pixels_row_bytes(pixels));
    } else if (size == 1) {
        pick(row, pixels, from, 1);
    } else if (size == 2) {
        pick(row, pixels, from, 2);
    } else {
        pick(row, pixels, from, size);
    }
    if (swap) axi_swap_bytes(row, axi_pixels_row_bytes(pixels), size);
    if (colours) swap_colours(row, pixels->width, pixels->channels);
}

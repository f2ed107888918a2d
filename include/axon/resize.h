/* axon/resize.h - pictures made ready for a policy: the pixels that Pillow gives, bit for bit.
 *
 * Policies were trained on pictures that Pillow resized, so these calls give what Pillow 13 gives, with every
 * filter, up to the last bit. Filters average over all pixels they shrink; with alpha, colours are weighted by it.
 *
 * Pictures  uint8, or float32 and float64, which become float32 (Pillow's mode F, one channel at a time); 1 to 4
 *           channels, where the last of 2 or 4 is alpha. Any strides, either byte order, any number of leading
 *           dimensions; at most 2^28 pixels in one picture, before and after.
 * Results   C order, the caller's memory, which must not overlap with the pictures.
 * Threads   Any number at once. The last few tables of weights are kept, for all threads together.
 */
#ifndef AXON_RESIZE_H
#define AXON_RESIZE_H

#include <axon/value.h>

AXON_BEGIN

/** How a new pixel is made of the old ones. Names and results are Pillow's. */
typedef enum axon_filter {
    AXON_FILTER_DEFAULT = 0, /**< AXON_FILTER_BILINEAR */
    AXON_FILTER_NEAREST = 1,
    AXON_FILTER_BOX = 2,
    AXON_FILTER_BILINEAR = 3,
    AXON_FILTER_HAMMING = 4,
    AXON_FILTER_BICUBIC = 5,
    AXON_FILTER_LANCZOS = 6,
    AXON_FILTER_MKS2013 = 7, /**< Magic Kernel Sharp */
    AXON_FILTER_MKS2021 = 8
} axon_filter;

/** What the last dimensions of an array of pictures are. */
typedef enum axon_layout {
    AXON_LAYOUT_DEFAULT = 0, /**< AXON_LAYOUT_HWC */
    AXON_LAYOUT_HWC = 1,     /**< (..., height, width, channels) */
    AXON_LAYOUT_CHW = 2,     /**< (..., channels, height, width) */
    AXON_LAYOUT_HW = 3       /**< (..., height, width), one channel */
} axon_layout;

/** Options of the resizing calls. Zero means the default. */
typedef struct axon_resize_options {
    size_t size;        /**< sizeof(axon_resize_options); 0 is AXON_EINVAL */
    axon_filter filter; /**< default AXON_FILTER_BILINEAR */
    axon_layout layout; /**< default AXON_LAYOUT_HWC */
} axon_resize_options;

/** Resizes each picture to `height` x `width`, whatever that does to its shape.
 *  @param images  read during the call only
 *  @param opts    may be NULL
 *  @param result  written in C order: the shape of `images` with the new height and width, uint8 or float32
 *  @param length  bytes of `result`, which must be just those
 *  @return AXON_EINVAL naming what cannot be resized, AXON_ETOOBIG (over 2^28 pixels) */
AXON_API axon_status axon_resize(const axon_array *images, int64_t height, int64_t width,
                                 const axon_resize_options *opts, void *result, size_t length,
                                 axon_error *err);

/** Resizes each picture as far as it fits into `height` x `width` and centres it on black, as openpi's
 *  resize_with_pad() does.
 *  @return as axon_resize(); AXON_EINVAL also when a side would become 0 pixels long */
AXON_API axon_status axon_resize_with_pad(const axon_array *images, int64_t height, int64_t width,
                                          const axon_resize_options *opts, void *result, size_t length,
                                          axon_error *err);

/** Turns floats from 0 to 1 into uint8 from 0 to 255, as numpy's (255 * x).astype(numpy.uint8) does on x86-64:
 *  the product is rounded to the dtype, then towards zero, and of that the low eight bits count (256 is 0, -1 is
 *  255). What is not within int32, and NaN, gives 0.
 *  @param pixels  float16, float32 or float64, any shape and strides
 *  @param result  written in C order
 *  @param length  bytes of `result`: the number of elements
 *  @return AXON_EINVAL for another dtype or length */
AXON_API axon_status axon_convert_to_uint8(const axon_array *pixels, uint8_t *result, size_t length,
                                           axon_error *err);

AXON_END

#endif

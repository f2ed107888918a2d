/* The arithmetic of resizing: one direction at a time, over packed rows of interleaved channels. */
#ifndef AXI_RESIZE_PASSES_H
#define AXI_RESIZE_PASSES_H

#include "resize_weights.h"

/* Rows that the pass over widths takes at a time. */
#define AXI_BLOCK 16

/* Makes `rows` (up to AXI_BLOCK) rows of weights->new_size pixels out of as many of weights->old_size. `scratch`
 * has axi_width_scratch() bytes. Strides are in bytes. */
typedef void axi_width_pass(void *out, ptrdiff_t out_stride, const void *in, ptrdiff_t in_stride,
                            size_t rows, const axi_weights *weights, size_t channels, void *scratch);

/* Makes new row `y` of `samples` samples. `in` is the first of the old rows that it is made of. */
typedef void axi_height_pass(void *out, const void *in, ptrdiff_t in_stride, size_t samples,
                             const axi_weights *weights, uint32_t y);

typedef struct axi_passes {
    axi_width_pass *width;
    axi_height_pass *height;
    size_t sample; /* bytes */
} axi_passes;

/* Samples of uint8, each pass rounded to 8 bits; of float, summed up in double and rounded to float. */
const axi_passes *axi_passes_uint8(void);
const axi_passes *axi_passes_float(void);

/* Those for uint8 without instructions that only some processors have. */
const axi_passes *axi_passes_uint8_portable(void);

/* What the pass over widths needs beside its arguments; SIZE_MAX when that is more than there can be. */
size_t axi_width_scratch(const axi_weights *weights, size_t channels);

#endif

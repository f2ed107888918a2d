/* What axon_array means: its bytes, their order, their elements. */
#ifndef AXI_ARRAY_H
#define AXI_ARRAY_H

#include "value_internal.h"

typedef struct axi_layout {
    uint32_t itemsize;
    uint64_t count; /* elements */
    uint64_t bytes; /* count * itemsize, at most INT64_MAX */
    bool is_contiguous;
    int64_t strides[AXON_MAX_NDIM]; /* never left out */
} axi_layout;

/* Checks a description as the caller gave it; AXON_EINVAL names the place and the member at fault. */
axon_status axi_array_layout(const axon_array *array, axi_layout *layout, const char *subject,
                             const axi_path *path, axon_error *err);

/* Copies the elements in C order; `out` has room for layout->bytes. */
void axi_array_gather(void *out, const axon_array *array, const axi_layout *layout);

/* Turns the byte order of `bytes` bytes of elements of `width` (2, 4 or 8) bytes. */
void axi_swap_bytes(void *data, size_t bytes, size_t width);

/* The bytes of what a dtype's byte order is about: its element, or a character of AXON_FIXED_TEXT. 1 when it
 * has no byte order. */
uint32_t axi_dtype_unit(axon_dtype dtype);

/* The dtype as numpy's dtype.str ("<f4", ">U4") or, `as_name`, as str(dtype) ("float32", ">f4"). */
#define AXI_DTYPE_TEXT 16
void axi_dtype_print(char text[AXI_DTYPE_TEXT], axon_dtype dtype, uint32_t itemsize, bool swapped,
                     bool as_name);

/* Reads either spelling; false for what does not travel. */
bool axi_dtype_parse(const char *text, size_t length, axon_dtype *dtype, uint32_t *itemsize, bool *swapped);

/* One element as the number it is: a node of type AXON_BOOL, AXON_INT, AXON_UINT or AXON_FLOAT.
 * `element` need not be aligned. False for the AXON_FIXED_ types. */
bool axi_element_read(const void *element, axon_dtype dtype, bool swapped, axon_value *number);

/* The way back: false when the number does not fit the dtype. */
bool axi_element_write(void *element, axon_dtype dtype, const axon_value *number);

#endif

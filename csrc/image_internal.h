/* The inside of axon_image, for the rooms that send pictures. */
#ifndef AXI_IMAGE_INTERNAL_H
#define AXI_IMAGE_INTERNAL_H

#include <axon/image.h>

#include <stdbool.h>

/* What a body needs to send an image without a copy: either file bytes, to be sent as base64, or base64
 * text that is good as it is. */
typedef struct axi_image_bytes {
    const void *data;
    size_t length;
    bool is_base64; /* data is base64 text */
    void *owned;    /* pixels were encoded: free() this after sending; else NULL */
} axi_image_bytes;

/* Pixels are encoded as axon_image_encode() does by default. */
axon_status axi_image_for_body(const axon_image *image, axi_image_bytes *bytes, axon_error *err);

/* The array in a .npy file that is base64 text, as a node with memory of its own. */
axon_status axi_npy_value(const char *base64, size_t length, const char *subject, axon_value **value,
                          axon_error *err);

/* The array in a .npy file, in any order and byte order, not copied: it points into `data`, which need not be
 * aligned. AXON_EPROTOCOL when the file lies. */
axon_status axi_npy_describe(const void *data, size_t length, const char *subject, axon_array *array,
                             axon_error *err);

#endif

/* The masking of RFC 6455, section 5.3, done while copying and as fast as the machine reads memory. */
#ifndef AXI_MASK_H
#define AXI_MASK_H

#include <stddef.h>
#include <stdint.h>

#define AXI_MASK_KEY 4

/* Copies `length` bytes, each XORed with its byte of the key. `offset` is the place of the first one in the
 * frame's payload, so that a frame may be masked piecewise. The two may be the same memory. */
void axi_mask_copy(void *to, const void *from, size_t length, const uint8_t key[AXI_MASK_KEY],
                   uint64_t offset);

/* The same without instructions that only some processors have. */
void axi_mask_copy_portable(void *to, const void *from, size_t length, const uint8_t key[AXI_MASK_KEY],
                            uint64_t offset);

#endif

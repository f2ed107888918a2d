/* Floats as other numbers. */
#ifndef AXI_RESIZE_CONVERT_H
#define AXI_RESIZE_CONVERT_H

#include <stddef.h>

/* Turns `count` floats of `itemsize` 2, 4 or 8 bytes into float32 where they lie; there is room for the larger. */
void axi_to_single(void *elements, size_t count, size_t itemsize);

#endif

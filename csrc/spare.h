/* Memory of large messages, kept for the next ones: fresh from the system it would be zeroed and mapped page by page
 * each time, which takes as long as receiving. Any thread, no locks; what is kept is bounded. */
#ifndef AXI_SPARE_H
#define AXI_SPARE_H

#include <stddef.h>

/* malloc(), from what is kept when something there fits. `*capacity` is `size` or more. */
void *axi_spare_take(size_t size, size_t *capacity);

/* free(), of anything from malloc(): large memory is kept while there is room. NULL is nothing. */
void axi_spare_give(void *memory);

/* Frees what is kept. */
void axi_spare_clear(void);

#endif

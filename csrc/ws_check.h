/* A rehearsal of what the fast data path takes for granted of libwebsockets and what nobody has promised. */
#ifndef AXI_WS_CHECK_H
#define AXI_WS_CHECK_H

#include <stdbool.h>

/* True when axi_link_write() puts bytes on the wire as they are. Tried once in the life of the process, the first
 * time that it is asked, over a local socket; 1 ms. */
bool axi_link_passes_bytes(void);

#endif

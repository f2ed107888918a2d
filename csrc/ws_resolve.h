/* Host names to addresses, within a deadline. */
#ifndef AXI_WS_RESOLVE_H
#define AXI_WS_RESOLVE_H

#include "internal.h"

struct addrinfo;

/* getaddrinfo() can neither be interrupted nor be given a deadline, so names are looked up by a thread of their
 * own, which is left behind when the deadline passes and ends by itself. Addresses are read at once.
 * On AXON_OK `*list` is for freeaddrinfo(). AXON_ECONNECT when there is no such host. */
axon_status axi_resolve(struct addrinfo **list, const char *host, uint16_t port, axi_time deadline,
                        axon_error *err);

#endif

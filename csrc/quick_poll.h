/* Waiting for a peer that answers at once. */
#ifndef AXI_QUICK_POLL_H
#define AXI_QUICK_POLL_H

#include "internal.h"

#include <poll.h>

/* What is known of the peer. All zero is nothing. */
typedef struct axi_quick {
    bool is_likely; /* the last wait was short */
} axi_quick;

/* poll(), which after a short wait looks for a quarter of a millisecond before it sleeps, and lets others run meanwhile.
 * Whoever sleeps is woken on the processor that its peer is still writing on, as a rule, and reads only when that is done
 * (docs/benchmarks.md). A peer that takes longer costs nothing, nor does a machine with one processor. */
int axi_quick_poll(axi_quick *quick, struct pollfd *fds, nfds_t count, int wait_ms);

#endif

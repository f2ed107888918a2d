/* See quick_poll.h. */
#include "quick_poll.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#define LOOK_NS 250000
#define SHORT_NS 500000 /* of a wait, waking up included */

static bool has_processors(void)
{
    static atomic_long count; /* the same, whoever finds it out */
    if (atomic_load_explicit(&count, memory_order_relaxed) == 0)
        atomic_store_explicit(&count, sysconf(_SC_NPROCESSORS_ONLN), memory_order_relaxed);
    return atomic_load_explicit(&count, memory_order_relaxed) > 1;
}

/* Whoever else wants the processor has it: the peer, as a rule, when the others are taken. */
static int look(struct pollfd *fds, nfds_t count, axi_time end)
{
    int found;
    while ((found = poll(fds, count, 0)) == 0 && axi_now() < end)
        sched_yield();
    return found;
}

int axi_quick_poll(axi_quick *quick, struct pollfd *fds, nfds_t count, int wait_ms)
{
    axi_time begun = axi_now();
    int found = quick->is_likely && wait_ms > 0 ? look(fds, count, begun + LOOK_NS) : 0;
    if (found == 0) found = poll(fds, count, wait_ms);
    quick->is_likely = found > 0 && axi_now() - begun < SHORT_NS && has_processors();
    return found;
}

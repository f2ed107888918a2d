/* axon/stats.h - how axon's handles say how long things took. */
#ifndef AXON_STATS_H
#define AXON_STATS_H

#include <axon/api.h>

AXON_BEGIN

#define AXON_STATS_WINDOW 1024 /* samples that percentiles are taken over: the last ones */

/** In ms, over the window. All 0 when it is empty. */
typedef struct axon_percentiles {
    double p50, p95, p99, max;
} axon_percentiles;

AXON_END

#endif

/* Exact percentiles over a window: the samples are kept as they are and sorted when somebody asks. */
#ifndef AXI_STATS_H
#define AXI_STATS_H

#include <axon/stats.h>

/* Sorts `numbers`. */
axon_percentiles axi_percentiles_of(float *numbers, size_t count);

#endif

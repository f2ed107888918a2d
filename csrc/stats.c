/* See axon/stats.h and stats.h. */
#include "stats.h"

#include <stdlib.h>

static int by_size(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

/* The smallest number that `percent` of them do not exceed. */
static double at(const float *sorted, size_t count, unsigned percent)
{
    return (double)sorted[(count * percent + 99) / 100 - 1];
}

axon_percentiles axi_percentiles_of(float *numbers, size_t count)
{
    if (count == 0) return (axon_percentiles){0};
    qsort(numbers, count, sizeof *numbers, by_size);
    return (axon_percentiles){.p50 = at(numbers, count, 50),
                              .p95 = at(numbers, count, 95),
                              .p99 = at(numbers, count, 99),
                              .max = (double)numbers[count - 1]};
}

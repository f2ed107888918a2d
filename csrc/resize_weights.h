/* Which old samples, weighted how, make each new sample of one direction: Pillow's tables, bit for bit. */
#ifndef AXI_RESIZE_WEIGHTS_H
#define AXI_RESIZE_WEIGHTS_H

#include <axon/resize.h>

#include <stdatomic.h>

/* Bits of a fixed-point weight behind the point. Pillow has as many; the rounding depends on them. */
#define AXI_WEIGHT_BITS 22

/* New sample i is the sum of `taps[i].count` old ones from `taps[i].first` on, times the weights at i * room. */
typedef struct axi_taps {
    uint32_t first;
    uint32_t count;
} axi_taps;

/* Two neighbours' fixed weights, cut in two: high << AXI_LOW_BITS plus low, for multiplications of 16 bits. */
#define AXI_LOW_BITS 11

typedef struct axi_pair {
    int16_t low[2];
    int16_t high[2];
} axi_pair;

typedef struct axi_weights {
    uint32_t old_size;
    uint32_t new_size;
    axon_filter filter;
    uint32_t room;         /* weights stored for each new sample, the last ones perhaps unused */
    atomic_int references; /* one for each caller, one for the shelf */
    axi_taps *taps;        /* new_size */
    double *exact;         /* new_size * room: they add up to 1; used for float pixels */
    axi_pair *pairs;       /* new_size * axi_pairs(): `fixed` once more, an odd last one beside 0 */
    int32_t *fixed;        /* new_size * room: `exact` times 2^AXI_WEIGHT_BITS, rounded; used for uint8 */
} axi_weights;

/* The table of a filter other than nearest, from the shelf of those kept or made anew; put it back when done.
 * NULL when memory ran out. */
const axi_weights *axi_weights_get(uint32_t old_size, uint32_t new_size, axon_filter filter);

/* How many pairs are stored for each new sample. */
static inline uint32_t axi_pairs(const axi_weights *weights)
{
    return (weights->room + 1) / 2;
}

/* `weights` may be NULL. */
void axi_weights_put(const axi_weights *weights);

/* How many tables stand on the shelf. */
#define AXI_WEIGHTS_KEPT 16

#endif

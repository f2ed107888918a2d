/* See resize_weights.h. Double precision throughout and in the order of operations that Pillow has, because the
 * last bit of a weight decides some pixels. */
#include "resize_weights.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT                                                                                   \
    OFF /* a fused multiply-add would round otherwise; gcc does not fuse under -std=c17 */
#endif

/* ---- filters ------------------------------------------------------------------------------- */

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double sinc(double x)
{
    x *= M_PI;
    return x == 0.0 ? 1.0 : sin(x) / x;
}

static double hamming(double x)
{
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    return sinc(x) * ((double)0.54f + (double)0.46f * cos(x * M_PI));
}

/* Keys' cubic convolution with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

/* John Costella's Magic Kernel Sharp, https://johncostella.com/magic/ */
static double mks2013(double x)
{
    x = fabs(x);
    if (x >= 2.5) return 0.0;
    if (x >= 1.5) return -1 / 8.0 * (x - 2.5) * (x - 2.5);
    if (x >= 0.5) return (1 - x) * (7 / 4.0 - x);
    return 17 / 16.0 - 7 / 4.0 * (x * x);
}

static double mks2021(double x)
{
    x = fabs(x);
    if (x >= 4.5) return 0.0;
    if (x >= 3.5) return -1 / 288.0 * ((x - 4.5) * (x - 4.5));
    if (x >= 2.5) return 1 / 36.0 * (x - 3) * (x - 15 / 4.0);
    if (x >= 1.5) return 1 / 6.0 * (x - 2) * (65 / 24.0 - x);
    if (x >= 0.5) return 35 / 36.0 * (x - 1) * (x - 239 / 140.0);
    return 577 / 576.0 - 239 / 144.0 * (x * x);
}

/* `reach` is how far a filter looks to either side, in samples. */
static const struct {
    double (*at)(double x);
    double reach;
} filters[] = {
    [AXON_FILTER_BOX] = {box, 0.5},         [AXON_FILTER_BILINEAR] = {triangle, 1.0},
    [AXON_FILTER_HAMMING] = {hamming, 1.0}, [AXON_FILTER_BICUBIC] = {cubic, 2.0},
    [AXON_FILTER_LANCZOS] = {lanczos, 3.0}, [AXON_FILTER_MKS2013] = {mks2013, 2.5},
    [AXON_FILTER_MKS2021] = {mks2021, 4.5},
};

/* ---- tables -------------------------------------------------------------------------------- */

/* The filter, stretched to `scale` old samples where it shrinks, around the place of new sample `i`, cut off at
 * the edges and made to sum up to 1. */
static void weigh(axi_weights *table, uint32_t i, double scale)
{
    double stretch = scale < 1.0 ? 1.0 : scale, shrink = 1.0 / stretch;
    double reach = filters[table->filter].reach * stretch;
    double centre = (i + 0.5) * scale, total = 0;
    double *exact = table->exact + (size_t)i * table->room;
    int64_t first = (int64_t)(centre - reach + 0.5), end = (int64_t)(centre + reach + 0.5);
    if (first < 0) first = 0;
    if (end > table->old_size) end = table->old_size;
    uint32_t count = end > first ? (uint32_t)(end - first) : 0;
    for (uint32_t k = 0; k < count; k++) {
        exact[k] = filters[table->filter].at(((double)(k + first) - centre + 0.5) * shrink);
        total += exact[k];
    }
    for (uint32_t k = 0; k < count && total != 0.0; k++)
        exact[k] /= total;
    table->taps[i] = (axi_taps){(uint32_t)first, count};
}

static void round_weights(axi_weights *table)
{
    for (uint32_t i = 0; i < table->new_size; i++) {
        const double *exact = table->exact + (size_t)i * table->room;
        int32_t *fixed = table->fixed + (size_t)i * table->room;
        for (uint32_t k = 0; k < table->taps[i].count; k++)
            fixed[k] = (int32_t)((exact[k] < 0 ? -0.5 : 0.5) + exact[k] * (1 << AXI_WEIGHT_BITS));
    }
}

static void pair_weights(axi_weights *table)
{
    for (uint32_t i = 0; i < table->new_size; i++) {
        const int32_t *fixed = table->fixed + (size_t)i * table->room;
        axi_pair *pairs = table->pairs + (size_t)i * axi_pairs(table);
        for (uint32_t k = 0; k < table->taps[i].count; k++) {
            pairs[k / 2].low[k % 2] = (int16_t)(fixed[k] & ((1 << AXI_LOW_BITS) - 1));
            pairs[k / 2].high[k % 2] = (int16_t)(fixed[k] >> AXI_LOW_BITS);
        }
        if (table->taps[i].count % 2)
            pairs[table->taps[i].count / 2].low[1] = pairs[table->taps[i].count / 2].high[1] = 0;
    }
}

/* The most weights that one new sample can have. */
static uint32_t room_for(uint32_t old_size, double scale, axon_filter filter)
{
    double room = 2 * ceil(filters[filter].reach * (scale < 1.0 ? 1.0 : scale)) + 1;
    return room < old_size ? (uint32_t)room : old_size;
}

static axi_weights *make(uint32_t old_size, uint32_t new_size, axon_filter filter)
{
    double scale = (double)old_size / new_size;
    uint32_t room = room_for(old_size, scale, filter);
    const size_t each =
        sizeof(axi_taps) + room * (sizeof(double) + sizeof(int32_t)) + (room + 1) / 2 * sizeof(axi_pair);
    size_t bytes;
    if (__builtin_mul_overflow(each, (size_t)new_size, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(axi_weights), &bytes))
        return NULL;
    axi_weights *table =
        malloc(bytes); /* one piece: the header, then what needs the most alignment first */
    if (!table) return NULL;
    *table = (axi_weights){
        .old_size = old_size, .new_size = new_size, .filter = filter, .room = room, .references = 1};
    table->exact = (double *)(table + 1);
    table->pairs = (axi_pair *)(table->exact + (size_t)new_size * room);
    table->taps = (axi_taps *)(table->pairs + (size_t)new_size * axi_pairs(table));
    table->fixed = (int32_t *)(table->taps + new_size);
    for (uint32_t i = 0; i < new_size; i++)
        weigh(table, i, scale);
    round_weights(table);
    pair_weights(table);
    return table;
}

/* ---- the shelf ----------------------------------------------------------------------------- */

#define WORTH_KEEPING (1u << 20) /* bytes; a larger table is for a picture that takes long anyway */

static struct {
    pthread_mutex_t lock;
    axi_weights *tables[AXI_WEIGHTS_KEPT];
    unsigned oldest;
} shelf = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Who finds the shelf locked makes a table: shorter than to wait, and it cannot hang a child that was forked
 * meanwhile. */
static bool lock_shelf(void)
{
    return pthread_mutex_trylock(&shelf.lock) == 0;
}

static axi_weights *find(uint32_t old_size, uint32_t new_size, axon_filter filter)
{
    axi_weights *found = NULL;
    if (!lock_shelf()) return NULL;
    for (size_t i = 0; i < AXI_WEIGHTS_KEPT && !found; i++) {
        axi_weights *table = shelf.tables[i];
        if (table && table->old_size == old_size && table->new_size == new_size && table->filter == filter)
            found = table;
    }
    if (found) atomic_fetch_add(&found->references, 1);
    pthread_mutex_unlock(&shelf.lock);
    return found;
}

static void keep(axi_weights *table)
{
    if ((uint64_t)table->new_size * table->room > WORTH_KEEPING / sizeof(double) || !lock_shelf()) return;
    axi_weights **place = &shelf.tables[shelf.oldest++ % AXI_WEIGHTS_KEPT];
    const axi_weights *gone = *place;
    atomic_fetch_add(&table->references, 1);
    *place = table;
    pthread_mutex_unlock(&shelf.lock);
    axi_weights_put(gone);
}

const axi_weights *axi_weights_get(uint32_t old_size, uint32_t new_size, axon_filter filter)
{
    axi_weights *table = find(old_size, new_size, filter);
    if (table) return table;
    table = make(old_size, new_size, filter);
    if (table) keep(table);
    return table;
}

void axi_weights_put(const axi_weights *weights)
{
    axi_weights *table = (axi_weights *)(uintptr_t)weights;
    if (table && atomic_fetch_sub(&table->references, 1) == 1) free(table);
}

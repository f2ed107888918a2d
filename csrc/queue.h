/* Lines of things that wait, the first in being the first out. Each holds its own place, so joining one cannot fail. */
#ifndef AXI_QUEUE_H
#define AXI_QUEUE_H

#include <stddef.h>

typedef struct axi_place {
    struct axi_place *behind;
} axi_place;

/* All zero is an empty one. */
typedef struct axi_queue {
    axi_place *first, *last;
} axi_queue;

/* What has `member` as its place; NULL for none. */
#define AXI_PLACED(place, type, member) ((type *)axi_placed((place), offsetof(type, member)))

static inline void *axi_placed(axi_place *place, size_t offset)
{
    return place ? (char *)place - offset : NULL;
}

static inline void axi_queue_add(axi_queue *queue, axi_place *place)
{
    place->behind = NULL;
    if (queue->last)
        queue->last->behind = place;
    else
        queue->first = place;
    queue->last = place;
}

/* NULL when nothing waits. */
static inline axi_place *axi_queue_take(axi_queue *queue)
{
    axi_place *place = queue->first;
    if (!place) return NULL;
    queue->first = place->behind;
    if (!queue->first) queue->last = NULL;
    return place;
}

/* Wherever in the line it is; nothing happens when it is not in it. */
static inline void axi_queue_remove(axi_queue *queue, const axi_place *place)
{
    axi_place *before = NULL, *at = queue->first;
    for (; at && at != place; at = at->behind)
        before = at;
    if (!at) return;
    if (before)
        before->behind = at->behind;
    else
        queue->first = at->behind;
    if (queue->last == at) queue->last = before;
}

#endif

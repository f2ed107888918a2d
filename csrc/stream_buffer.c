/* Messages that wait to be taken, by channel. See stream_internal.h. */
#include "stream_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FAULTS_KEPT = 64 /* at most, and gaps, whatever the overflow */ };

bool axi_stream_buffer_init(axi_stream_buffer *buffer, const axon_stream_options *options)
{
    *buffer = (axi_stream_buffer){.overflow = options->overflow,
                                  .depth = options->overflow == AXON_LATEST_ONLY ? 1 : options->depth,
                                  .max_channels = options->max_channels,
                                  .max_bytes = options->max_buffer_bytes};
    buffer->channels = calloc((size_t)options->max_channels + 1, sizeof *buffer->channels);
    return buffer->channels != NULL;
}

void axi_stream_buffer_free(axi_stream_buffer *buffer)
{
    for (axi_item *item = buffer->first, *next; item; item = next) {
        next = item->next;
        axi_item_drop(item);
    }
    for (uint32_t i = 0; i < buffer->count; i++) {
        free(buffer->channels[i]->type);
        free(buffer->channels[i]);
    }
    free(buffer->channels);
    *buffer = (axi_stream_buffer){.first = NULL};
}

/* ---- channels ------------------------------------------------------------------------------ */

/* FNV-1a, by Fowler, Noll and Vo. */
static uint32_t hash_of(const char *const texts[3])
{
    uint32_t hash = 2166136261u;
    for (int i = 0; i < 3; i++)
        for (const char *at = texts[i];; at++) {
            hash = (hash ^ (uint8_t)*at) * 16777619u;
            if (!*at) break;
        }
    return hash;
}

static axi_channel *new_channel(const char *const texts[3], uint32_t hash)
{
    size_t lengths[3];
    for (int i = 0; i < 3; i++)
        lengths[i] = strlen(texts[i]) + 1;
    axi_channel *made = calloc(1, sizeof *made);
    char *names = malloc(lengths[0] + lengths[1] + lengths[2]);
    if (!made || !names) {
        free(made);
        free(names);
        return NULL;
    }
    *made = (axi_channel){.hash = hash, .latency_ns = AXON_NO_TIME, .stamp_ns = AXON_NO_TIME};
    made->type = memcpy(names, texts[0], lengths[0]);
    made->robot_id = memcpy(names + lengths[0], texts[1], lengths[1]);
    made->source_id = memcpy(names + lengths[0] + lengths[1], texts[2], lengths[2]);
    return made;
}

static bool is_of(const axi_channel *channel, const char *const texts[3], uint32_t hash)
{
    return channel->hash == hash && strcmp(channel->type, texts[0]) == 0 &&
           strcmp(channel->robot_id, texts[1]) == 0 && strcmp(channel->source_id, texts[2]) == 0;
}

axi_channel *axi_stream_channel(axi_stream_buffer *buffer, const axi_item *item)
{
    const axon_message *m = &item->told;
    const char *const own[3] = {m->type, m->robot_id, m->source_id};
    static const char *const gap[3] = {"gap", "", ""}, *const fault[3] = {"fault", "", ""},
                             *const rest[3] = {"", "", ""};
    bool never_blocks = m->kind == AXON_MESSAGE_GAP || m->kind == AXON_MESSAGE_FAULT;
    const char *const *texts = m->kind == AXON_MESSAGE_GAP ? gap : never_blocks ? fault : own;
    uint32_t hash = hash_of(texts);
    for (uint32_t i = 0; i < buffer->count; i++)
        if (is_of(buffer->channels[i], texts, hash)) return buffer->channels[i];
    if (buffer->count > buffer->max_channels) return buffer->channels[buffer->max_channels];
    bool is_last = buffer->count == buffer->max_channels;
    axi_channel *made = is_last ? new_channel(rest, 0) : new_channel(texts, hash);
    if (!made) return NULL;
    made->never_blocks = never_blocks;
    return buffer->channels[buffer->count++] = made;
}

/* ---- messages ------------------------------------------------------------------------------ */

static void unlink_item(axi_stream_buffer *buffer, axi_item *item)
{
    if (item->previous)
        item->previous->next = item->next;
    else
        buffer->first = item->next;
    if (item->next)
        item->next->previous = item->previous;
    else
        buffer->last = item->previous;
    axi_channel *channel = item->channel;
    axi_queue_remove(&channel->items, &item->place); /* its first, but for those that share one */
    channel->waiting--;
    buffer->waiting--;
    buffer->bytes -= item->bytes;
    item->next = item->previous = NULL;
}

static void drop_oldest(axi_stream_buffer *buffer, axi_item *item)
{
    unlink_item(buffer, item);
    item->channel->dropped++;
    item->channel->untold++;
    buffer->dropped++;
    axi_item_drop(item);
}

static bool has_bytes_for(const axi_stream_buffer *buffer, const axi_item *item)
{
    return buffer->waiting == 0 ||
           (item->bytes <= buffer->max_bytes && buffer->bytes <= buffer->max_bytes - item->bytes);
}

bool axi_stream_buffer_is_full(const axi_stream_buffer *buffer, const axi_channel *channel,
                               const axi_item *item)
{
    if (buffer->overflow != AXON_BLOCK || channel->never_blocks) return false;
    return channel->waiting >= buffer->depth || !has_bytes_for(buffer, item);
}

static axi_item *first_of(const axi_channel *channel)
{
    return AXI_PLACED(channel->items.first, axi_item, place);
}

void axi_stream_buffer_add(axi_stream_buffer *buffer, axi_channel *channel, axi_item *item)
{
    uint64_t depth = channel->never_blocks ? FAULTS_KEPT : buffer->depth;
    while (channel->waiting >= depth)
        drop_oldest(buffer, first_of(channel));
    while (!has_bytes_for(buffer, item)) /* whose channel has much gives it up first */
        drop_oldest(buffer, channel->items.first ? first_of(channel) : buffer->first);
    item->channel = channel;
    item->previous = buffer->last;
    if (buffer->last)
        buffer->last->next = item;
    else
        buffer->first = item;
    buffer->last = item;
    axi_queue_add(&channel->items, &item->place);
    channel->waiting++;
    channel->received++;
    buffer->waiting++;
    buffer->bytes += item->bytes;
}

static bool is_wanted(const axon_message *message, const axon_message_filter *filter)
{
    if (filter->type && strcmp(filter->type, message->type) != 0) return false;
    if (filter->robot_id && strcmp(filter->robot_id, message->robot_id) != 0) return false;
    return !filter->source_id || strcmp(filter->source_id, message->source_id) == 0;
}

axi_item *axi_stream_buffer_take(axi_stream_buffer *buffer, const axon_message_filter *filter)
{
    axi_item *item = buffer->first;
    while (item && filter && !is_wanted(&item->told, filter))
        item = item->next;
    if (!item) return NULL;
    unlink_item(buffer, item);
    item->told.dropped = item->channel->untold;
    item->channel->untold = 0;
    return item;
}

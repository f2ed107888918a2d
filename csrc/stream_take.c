/* Handing messages over: to who asks, to the subscriber, to who waits for a status. See stream_internal.h. */
#include "service_internal.h"
#include "stream_internal.h"
#include "thread.h"
#include "utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- taking -------------------------------------------------------------------------------- */

static axon_status fail_late(axon_stream *stream, const char *what, axon_error *err)
{
    pthread_mutex_lock(&stream->lock);
    bool is_connected = stream->ws != NULL;
    char trouble[sizeof stream->trouble];
    snprintf(trouble, sizeof trouble, "%s", stream->trouble);
    double seconds = (double)(axi_now() - stream->lost_at) / 1e9;
    pthread_mutex_unlock(&stream->lock);
    if (is_connected) return axi_fail(err, AXON_ETIMEOUT, "%s: %s (timeout_ms)", stream->url, what);
    return axi_fail(err, AXON_ETIMEOUT, "%s: %s (timeout_ms); there has been no connection for %.1f s: %s",
                    stream->url, what, seconds, trouble);
}

/* With the lock held. */
static axi_item *take(axon_stream *stream, const axon_message_filter *filter)
{
    axi_item *item = axi_stream_buffer_take(&stream->buffer, filter);
    if (!item) return NULL;
    stream->stats.taken++;
    pthread_cond_signal(&stream->moved);
    return item;
}

static axon_status read_filter(axon_message_filter *filter, const axon_message_filter **given,
                               axon_error *err)
{
    if (!*given) return AXON_OK;
    axon_status status = axi_options_read(filter, sizeof *filter, *given, err);
    *given = filter;
    return status;
}

/* Decodes the picture, if it has one: done by who takes the message, so that none is decoded in vain. */
static axon_message *hand_over(axon_stream *stream, axi_item *item)
{
    if (!item->is_open) {
        axi_item_open(item);
        if (item->told.kind == AXON_MESSAGE_FAULT) {
            pthread_mutex_lock(&stream->lock);
            stream->stats.faults++;
            pthread_mutex_unlock(&stream->lock);
        }
    }
    return &item->told;
}

static axon_status wait_for_message(axon_stream *stream, const axon_message_filter *filter,
                                    axi_time deadline, axi_item **item, axon_error *err)
{
    for (;;) {
        pthread_mutex_lock(&stream->lock);
        axon_status status = AXON_OK;
        if (stream->has_caller && !stream->ends_caller)
            status = axi_fail(err, AXON_EINVAL, "%s: it has a subscriber", stream->url);
        *item = status == AXON_OK && !stream->is_canceled ? take(stream, filter) : NULL;
        if (!*item && status == AXON_OK) status = axi_stream_check_waiting(stream, err);
        bool waits = !*item && status == AXON_OK && axi_left_ms(deadline, 1) > 0;
        if (waits) axi_condition_wait_a_while(&stream->arrived, &stream->lock, deadline);
        pthread_mutex_unlock(&stream->lock);
        if (*item || status != AXON_OK) return status;
        if (!waits) return fail_late(stream, "no message", err);
        if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "%s: interrupted", stream->url);
    }
}

axon_status axon_stream_next(axon_stream *stream, const axon_message_filter *filter, uint32_t timeout_ms,
                             axon_message **message, axon_error *err)
{
    axon_message_filter wanted;
    axi_item *item;
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK && !message) status = axi_fail(err, AXON_EINVAL, "message: it is NULL");
    if (status == AXON_OK) status = read_filter(&wanted, &filter, err);
    if (status == AXON_OK) status = wait_for_message(stream, filter, axi_deadline(timeout_ms), &item, err);
    if (status == AXON_OK) *message = hand_over(stream, item);
    return status;
}

/* ---- the subscriber ------------------------------------------------------------------------ */

static void *call(void *user)
{
    axon_stream *stream = user;
    axi_interrupt_nobody();
    pthread_mutex_lock(&stream->lock);
    while (!stream->ends_caller) {
        axi_item *item = take(stream, NULL);
        if (!item) {
            pthread_cond_wait(&stream->arrived, &stream->lock);
            continue;
        }
        pthread_mutex_unlock(&stream->lock);
        stream->function(stream->user, hand_over(stream, item));
        axi_item_drop(item);
        pthread_mutex_lock(&stream->lock);
    }
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

static axon_status begin_calling(axon_stream *stream, axon_message_function function, void *user,
                                 axon_error *err)
{
    if (stream->has_caller)
        return axi_fail(err, AXON_EINVAL, "%s: it has a subscriber already", stream->url);
    stream->function = function;
    stream->user = user;
    stream->ends_caller = false;
    stream->has_caller = axi_thread_start(&stream->caller, call, stream) == 0;
    return stream->has_caller ? AXON_OK
                              : axi_fail(err, AXON_ENOMEM, "%s: no thread could be started", stream->url);
}

void axi_stream_end_calling(axon_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool has_caller = stream->has_caller,
         is_itself = has_caller && pthread_equal(stream->caller, pthread_self());
    stream->ends_caller = true;
    stream->has_caller = has_caller && is_itself;
    pthread_t caller = stream->caller;
    pthread_cond_broadcast(&stream->arrived);
    pthread_mutex_unlock(&stream->lock);
    if (has_caller && !is_itself) pthread_join(caller, NULL);
}

axon_status axon_stream_subscribe(axon_stream *stream, axon_message_function function, void *user,
                                  axon_error *err)
{
    axon_status status = axi_stream_check(stream, err);
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&stream->lock);
    bool has_ended =
        stream->has_caller && stream->ends_caller; /* from within itself: its thread is still there */
    pthread_mutex_unlock(&stream->lock);
    if (!function || has_ended) axi_stream_end_calling(stream);
    if (!function) return AXON_OK;
    pthread_mutex_lock(&stream->lock);
    status = begin_calling(stream, function, user, err);
    pthread_mutex_unlock(&stream->lock);
    return status;
}

/* ---- the status of a command --------------------------------------------------------------- */

static bool is_among(const char *status, const char *const *statuses)
{
    for (size_t i = 0; statuses && statuses[i]; i++)
        if (strcmp(status, statuses[i]) == 0) return true;
    return !statuses;
}

/* The newest status of a command that is waited for, kept for the caller; `last` is told the newest of all. */
static axi_item *find_status(axon_stream *stream, const char *command_id, const char *const *statuses,
                             char last[64])
{
    uint64_t kept = stream->status_count < AXI_STATUSES_KEPT ? stream->status_count : AXI_STATUSES_KEPT;
    last[0] = 0;
    for (uint64_t i = 1; i <= kept; i++) {
        axi_item *item = stream->statuses[(stream->status_count - i) % AXI_STATUSES_KEPT];
        if (strcmp(item->told.command_id, command_id) != 0) continue;
        if (!last[0]) snprintf(last, 64, "%s", item->told.status);
        if (is_among(item->told.status, statuses)) return axi_item_keep(item);
    }
    return NULL;
}

axon_status axon_stream_wait_status(axon_stream *stream, const char *command_id,
                                    const char *const *statuses, uint32_t timeout_ms,
                                    axon_message **message, axon_error *err)
{
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK && (!command_id || !message))
        status = axi_fail(err, AXON_EINVAL, "%s: it is NULL", message ? "command_id" : "message");
    if (status != AXON_OK) return status;
    axi_time deadline = axi_deadline(timeout_ms);
    for (;;) {
        char last[64], what[192];
        pthread_mutex_lock(&stream->lock);
        axi_item *item = find_status(stream, command_id, statuses, last);
        if (!item) status = axi_stream_check_waiting(stream, err);
        bool waits = !item && status == AXON_OK && axi_left_ms(deadline, 1) > 0;
        if (waits) axi_condition_wait_a_while(&stream->arrived, &stream->lock, deadline);
        pthread_mutex_unlock(&stream->lock);
        if (item) *message = &item->told;
        if (item || status != AXON_OK) return status;
        if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "%s: interrupted", stream->url);
        if (waits) continue;
        snprintf(what, sizeof what, "command \"%.60s\": no such status came, %s%s", command_id,
                 last[0] ? "the last one is " : "nor any other", last);
        return fail_late(stream, what, err);
    }
}

/* ---- the stream ---------------------------------------------------------------------------- */

axon_status axon_stream_get_stats(axon_stream *stream, axon_stream_stats *stats, axon_error *err)
{
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&stream->lock);
    *stats = stream->stats;
    stats->is_connected = stream->ws != NULL;
    stats->channels = stream->buffer.count;
    stats->dropped += stream->buffer.dropped;
    stats->waiting = stream->buffer.waiting;
    stats->waiting_bytes = stream->buffer.bytes;
    pthread_mutex_unlock(&stream->lock);
    return AXON_OK;
}

static void copy_name(char to[64], const char *text)
{
    size_t length = strlen(text);
    if (length > 63) length = axi_utf8_cut(text, 63);
    memcpy(to, text, length);
    to[length] = 0;
}

axon_status axon_stream_get_channel(axon_stream *stream, uint32_t index, axon_channel_stats *stats,
                                    axon_error *err)
{
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&stream->lock);
    uint32_t count = stream->buffer.count;
    if (index < count) {
        const axi_channel *channel = stream->buffer.channels[index];
        *stats = (axon_channel_stats){.received = channel->received,
                                      .dropped = channel->dropped,
                                      .waiting = channel->waiting,
                                      .latency_ns = channel->latency_ns};
        copy_name(stats->type, channel->type);
        copy_name(stats->robot_id, channel->robot_id);
        copy_name(stats->source_id, channel->source_id);
    }
    pthread_mutex_unlock(&stream->lock);
    return index < count
               ? AXON_OK
               : axi_fail(err, AXON_EINVAL, "channel %" PRIu32 ": there are %" PRIu32, index, count);
}

/* See axon/stream.h. */
#include "api_key.h"
#include "iso_time.h"
#include "service_internal.h"
#include "stream_internal.h"
#include "thread.h"
#include "ws.h"
#include "ws_dial.h"
#include "ws_url.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ull * 1024)
#define MS 1000000ll

enum {
    DEFAULT_PORT = 8200,
    DEFAULT_CONNECT_MS = 10000,
    DEFAULT_RETRY_MIN_MS = 100,
    DEFAULT_RETRY_MAX_MS = 5000,
    DEFAULT_SEND_MS = 5000,
    DEFAULT_CLOSE_MS = 1000,
    DEFAULT_ALIVE_MS = 10000,
    DEFAULT_DEPTH = 64,
    DEFAULT_CHANNELS = 256,
    DEFAULT_LATENCY_MS = 10000,
    MAX_DEPTH = 1 << 20,
    MAX_CHANNELS = 1 << 16,
    STATUS_BYTES = 256 * 1024, /* a longer one is not kept for axon_stream_wait_status() */
    CLOCK_SLACK_MS = 100, /* a stamp may lie so far before the last one; more, and a clock was put back */
    STEADY_MS = 1000      /* a connection that held for less is no reason to try again at once */
};

/* ---- what all share ---------------------------------------------------------------------- */

axon_status axi_stream_check(const axon_stream *stream, axon_error *err)
{
    if (!stream) return axi_fail(err, AXON_EINVAL, "stream: it is NULL");
    if (stream->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "%s: the stream is another process's, this one was forked",
                        stream->url);
    return AXON_OK;
}

/* Whether a call that waits has to end; with the lock held. */
axon_status axi_stream_check_waiting(const axon_stream *stream, axon_error *err)
{
    if (stream->is_canceled) return axi_fail(err, AXON_ECANCELED, "%s: cancelled", stream->url);
    if (stream->is_over) return axi_fail(err, AXON_ECONNECT, "%s: %s", stream->url, stream->trouble);
    return AXON_OK;
}

void axi_stream_wake(axon_stream *stream)
{
    if (stream->ws && stream->is_receiving) axi_ws_cancel(stream->ws);
    pthread_cond_signal(&stream->moved);
}

/* ---- what has come ------------------------------------------------------------------------- */

static void keep_status(axon_stream *stream, axi_item *item)
{
    if (item->bytes > STATUS_BYTES) return;
    axi_item **place = &stream->statuses[stream->status_count++ % AXI_STATUSES_KEPT];
    axi_item_drop(*place);
    *place = axi_item_copy(item); /* what the taker's is told of the buffer is written later */
}

/* Latency, and what is odd about the time; a clock that was put back shows in the channel. */
static void measure(axon_stream *stream, axi_channel *channel, axi_item *item)
{
    axon_message *m = &item->told;
    if (m->kind == AXON_MESSAGE_GAP || m->kind == AXON_MESSAGE_FAULT) return;
    if (m->stamp_ns == AXON_NO_TIME) {
        stream->stats.unknown_time++;
        return;
    }
    bool is_odd = !axi_item_measure(item, stream->options.max_latency_ms * MS);
    if (channel->stamp_ns != AXON_NO_TIME && m->stamp_ns < channel->stamp_ns - CLOCK_SLACK_MS * MS) {
        is_odd = true;
        m->latency_ns = AXON_NO_TIME;
    }
    stream->stats.odd_time += is_odd;
    channel->stamp_ns = m->stamp_ns;
    channel->latency_ns = m->latency_ns;
}

/* Until there is room for a message; false when the stream ends first. */
static bool wait_for_room(axon_stream *stream, const axi_channel *channel, const axi_item *item)
{
    while (axi_stream_buffer_is_full(&stream->buffer, channel, item)) {
        if (atomic_load(&stream->is_closing)) return false;
        axi_stream_send_all(stream);
        if (stream->ws) axi_ws_attend(stream->ws);
        axi_condition_wait_a_while(&stream->moved, &stream->lock, AXI_NEVER);
    }
    return true;
}

/* Takes over an item, which may be NULL: there was no memory for it. */
static void add_item(axon_stream *stream, axi_item *item)
{
    pthread_mutex_lock(&stream->lock);
    axi_channel *channel = item ? axi_stream_channel(&stream->buffer, item) : NULL;
    bool has_room = channel && wait_for_room(stream, channel, item);
    if (!channel) stream->stats.dropped++;
    if (item && item->told.kind != AXON_MESSAGE_GAP) stream->stats.received++;
    if (item && item->told.kind == AXON_MESSAGE_FAULT) stream->stats.faults++;
    if (has_room) {
        measure(stream, channel, item);
        if (item->told.kind == AXON_MESSAGE_ACTION_PLAN_STATUS) keep_status(stream, item);
        axi_stream_buffer_add(&stream->buffer, channel, item);
        pthread_cond_broadcast(&stream->arrived);
    } else {
        axi_item_drop(item);
    }
    pthread_mutex_unlock(&stream->lock);
}

static void accept_message(axon_stream *stream, axi_ws_message *message)
{
    if (message->is_text) {
        add_item(stream, axi_item_read((char *)message->data, message->length));
        return;
    }
    char reason[96];
    snprintf(reason, sizeof reason, "message: %zu bytes of binary data, where text should be",
             message->length);
    free(message->data);
    add_item(stream, axi_item_fault(reason));
}

/* ---- the thread: connections --------------------------------------------------------------- */

static axon_status dial(axon_stream *stream, uint32_t retry_min_ms, axi_ws **ws, axon_error *err)
{
    const axon_stream_options *o = &stream->options;
    axi_ws_options options = {.authorization = stream->authorization,
                              .ca_file = stream->ca_file,
                              .tls_insecure = o->tls_insecure,
                              .retry_min_ms = retry_min_ms,
                              .retry_max_ms = o->retry_max_ms,
                              .max_message_bytes = o->max_message_bytes,
                              .is_cancelled = &stream->is_closing,
                              .is_attended = true};
    return axi_ws_open(ws, stream->url, &options, axi_deadline(o->connect_timeout_ms), err);
}

/* Takes down why there is no connection, without the URL that messages begin with. */
static void note_trouble(axon_stream *stream, const char *why)
{
    size_t length = strlen(stream->url);
    bool has_url = strncmp(why, stream->url, length) == 0 && strncmp(why + length, ": ", 2) == 0;
    snprintf(stream->trouble, sizeof stream->trouble, "%s", has_url ? why + length + 2 : why);
}

static void lose(axon_stream *stream, const char *why)
{
    pthread_mutex_lock(&stream->lock);
    axi_ws *ws = stream->ws;
    stream->ws = NULL;
    stream->lost_at = axi_now();
    note_trouble(stream, why);
    stream->is_over = stream->options.no_reconnect;
    axi_stream_fail_all(stream, AXON_ECONNECT, stream->trouble);
    pthread_cond_broadcast(&stream->arrived);
    pthread_mutex_unlock(&stream->lock);
    axi_ws_close(ws, axi_now());
}

static void find_again(axon_stream *stream, axi_ws *ws, const char *why, int64_t since_ns,
                       uint32_t attempts)
{
    pthread_mutex_lock(&stream->lock);
    int64_t gap_ns = axi_now() - stream->lost_at;
    stream->ws = ws;
    stream->stats.gaps++;
    stream->stats.gap_ns += (uint64_t)gap_ns;
    pthread_mutex_unlock(&stream->lock);
    axi_log(AXON_LOG_INFO, "%s: connected again after %" PRId64 " ms", stream->url, gap_ns / 1000000);
    add_item(stream, axi_item_gap(why, since_ns, gap_ns, attempts));
}

/* Tries until there is a connection again, or the stream is closed. `*pause_ms` is the first pause, and grows. */
static void reconnect(axon_stream *stream, uint32_t *pause_ms)
{
    char why[sizeof stream->trouble];
    snprintf(why, sizeof why, "%s", stream->trouble);
    int64_t since_ns = axi_wall_time();
    for (uint32_t attempts = 1; !atomic_load(&stream->is_closing); attempts++) {
        axon_error failure;
        axi_ws *ws;
        axi_ws_pause(pause_ms, stream->options.retry_max_ms, AXI_NEVER, &stream->is_closing, &failure);
        if (atomic_load(&stream->is_closing)) return;
        if (dial(stream, 0, &ws, &failure) == AXON_OK) {
            find_again(stream, ws, why, since_ns, attempts);
            return;
        }
        axi_log(AXON_LOG_WARN, "%s; trying again", failure.message);
        pthread_mutex_lock(&stream->lock);
        note_trouble(stream, failure.message);
        pthread_mutex_unlock(&stream->lock);
    }
}

/* One message, or something else to do. False when the connection is over, and why. */
static bool receive_one(axon_stream *stream, axon_error *failure)
{
    axi_ws_message message;
    axi_ws *ws = stream->ws;
    pthread_mutex_lock(&stream->lock);
    axi_stream_send_all(stream);
    bool is_closing = atomic_load(&stream->is_closing);
    stream->is_receiving = !is_closing;
    pthread_mutex_unlock(&stream->lock);
    if (is_closing) return true;
    axi_time deadline = axi_deadline(stream->options.alive_interval_ms);
    axon_status status = axi_ws_receive(ws, &message, deadline, failure);
    pthread_mutex_lock(&stream->lock);
    stream->is_receiving = false;
    pthread_mutex_unlock(&stream->lock);
    axi_ws_begin(ws);
    if (status == AXON_OK) accept_message(stream, &message);
    if (status == AXON_ETIMEOUT) axi_ws_beat(ws);
    if (status == AXON_ETOOBIG) {
        axi_fail(failure, status, "%s (max_message_bytes)", failure->message);
        add_item(stream, axi_item_fault(failure->message));
    }
    return status == AXON_OK || status == AXON_ETIMEOUT || status == AXON_ECANCELED;
}

static void *run(void *user)
{
    axon_stream *stream = user;
    axi_interrupt_nobody();
    uint32_t pause_ms = stream->options.retry_min_ms;
    while (!atomic_load(&stream->is_closing) && !stream->is_over) {
        axon_error failure;
        axi_time since = axi_now();
        while (!atomic_load(&stream->is_closing) && receive_one(stream, &failure))
            ;
        if (atomic_load(&stream->is_closing)) break;
        if (axi_now() - since > STEADY_MS * MS) pause_ms = stream->options.retry_min_ms;
        lose(stream, failure.message);
        if (!stream->is_over) reconnect(stream, &pause_ms);
    }
    pthread_mutex_lock(&stream->lock);
    axi_stream_fail_all(stream, AXON_ECANCELED, "the stream is being closed");
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

/* ---- opening ------------------------------------------------------------------------------- */

static void fill_in(axon_stream_options *o)
{
    const struct {
        uint32_t *option;
        uint32_t standard;
    } standards[] = {{&o->connect_timeout_ms, DEFAULT_CONNECT_MS},
                     {&o->retry_min_ms, DEFAULT_RETRY_MIN_MS},
                     {&o->retry_max_ms, DEFAULT_RETRY_MAX_MS},
                     {&o->send_timeout_ms, DEFAULT_SEND_MS},
                     {&o->close_timeout_ms, DEFAULT_CLOSE_MS},
                     {&o->alive_interval_ms, DEFAULT_ALIVE_MS},
                     {&o->depth, DEFAULT_DEPTH},
                     {&o->max_channels, DEFAULT_CHANNELS},
                     {&o->max_latency_ms, DEFAULT_LATENCY_MS}};
    for (size_t i = 0; i < sizeof standards / sizeof *standards; i++)
        if (!*standards[i].option) *standards[i].option = standards[i].standard;
    if (o->retry_max_ms < o->retry_min_ms) o->retry_max_ms = o->retry_min_ms;
    if (!o->max_message_bytes) o->max_message_bytes = 64 * MIB;
    if (!o->max_buffer_bytes) o->max_buffer_bytes = 256 * MIB;
}

static axon_status read_options(axon_stream_options *o, const axon_stream_options *given, axon_error *err)
{
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status != AXON_OK) return status;
    const struct {
        int32_t value;
        const char *name;
    } switches[] = {{o->connect_once, "connect_once"},
                    {o->no_reconnect, "no_reconnect"},
                    {o->tls_insecure, "tls_insecure"}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (switches[i].value != 0 && switches[i].value != 1)
            return axi_fail(err, AXON_EINVAL, "%s is neither 0 nor 1", switches[i].name);
    if ((int)o->overflow < AXON_DROP_OLDEST || o->overflow > AXON_BLOCK)
        return axi_fail(err, AXON_EINVAL, "overflow is %d, which is no axon_overflow", (int)o->overflow);
    if (o->authorization && o->api_key)
        return axi_fail(err, AXON_EINVAL, "authorization and api_key: there is one such header, not two");
    if (o->authorization && !axi_is_header_text(o->authorization))
        return axi_fail(err, AXON_EINVAL, "authorization: it has characters that no header can carry");
    if (o->api_key) status = axi_api_key_check(o->api_key, err);
    if (status != AXON_OK) return status;
    fill_in(o);
    if (o->depth > MAX_DEPTH)
        return axi_fail(err, AXON_EINVAL, "depth: %" PRIu32 ", limit %d", o->depth, MAX_DEPTH);
    if (o->max_channels > MAX_CHANNELS)
        return axi_fail(err, AXON_EINVAL, "max_channels: %" PRIu32 ", limit %d", o->max_channels,
                        MAX_CHANNELS);
    return AXON_OK;
}

static void prepare_waiting(axon_stream *stream)
{
    axi_condition_init(&stream->arrived);
    axi_condition_init(&stream->moved);
    axi_condition_init(&stream->sent);
    pthread_mutex_init(&stream->lock, NULL);
}

static void release(axon_stream *stream, bool in_child)
{
    for (size_t i = 0; i < AXI_STATUSES_KEPT; i++)
        axi_item_drop(stream->statuses[i]);
    axi_stream_buffer_free(&stream->buffer);
    if (!in_child) { /* there, a thread that does not exist may hold them */
        pthread_cond_destroy(&stream->arrived);
        pthread_cond_destroy(&stream->moved);
        pthread_cond_destroy(&stream->sent);
        pthread_mutex_destroy(&stream->lock);
    }
    free(stream->url);
    free(stream->authorization);
    free(stream->ca_file);
    free(stream);
}

static bool copy_string(char **copy, const char *text)
{
    *copy = text ? strdup(text) : NULL;
    return *copy || !text;
}

static axon_status prepare(axon_stream *stream, const char *url, axon_endpoint endpoint, axon_error *err)
{
    axi_url_usual usual = {.subject = "stream URL", .port = DEFAULT_PORT, .takes_http = true};
    if (endpoint != AXON_ROBOT_CONTROL && endpoint != AXON_SENSOR_DATA)
        return axi_fail(err, AXON_EINVAL, "endpoint is %d, which is no axon_endpoint", (int)endpoint);
    usual.path = endpoint == AXON_ROBOT_CONTROL ? "/ws/robot_control" : "/ws/sensor_data";
    axon_status status = axi_ws_url_complete(&stream->url, url, &usual, err);
    if (status != AXON_OK) return status;
    axon_stream_options *o = &stream->options;
    if (o->api_key) stream->authorization = axi_api_key_header(o->api_key);
    bool has_header =
        o->api_key ? stream->authorization != NULL : copy_string(&stream->authorization, o->authorization);
    if (!has_header || !copy_string(&stream->ca_file, o->ca_file))
        return axi_no_memory(err, sizeof *stream);
    o->api_key = o->authorization = o->ca_file = NULL;
    return axi_stream_buffer_init(&stream->buffer, o) ? AXON_OK
                                                      : axi_no_memory(err, o->max_channels * 8ull);
}

static axon_status start(axon_stream *stream, axon_error *err)
{
    const axon_stream_options *o = &stream->options;
    axon_status status = dial(stream, o->connect_once ? 0 : o->retry_min_ms, &stream->ws, err);
    if (status != AXON_OK) return status;
    stream->has_thread = axi_thread_start(&stream->thread, run, stream) == 0;
    return stream->has_thread ? AXON_OK
                              : axi_fail(err, AXON_ENOMEM, "%s: no thread could be started", stream->url);
}

axon_status axon_stream_open(axon_stream **stream, const char *url, axon_endpoint endpoint,
                             const axon_stream_options *opts, axon_error *err)
{
    if (!stream) return axi_fail(err, AXON_EINVAL, "stream: it is NULL");
    axon_stream_options options;
    axon_status status = read_options(&options, opts, err);
    if (status != AXON_OK) return status;
    axon_stream *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->options = options;
    made->owner = getpid();
    prepare_waiting(made);
    status = prepare(made, url, endpoint, err);
    if (status == AXON_OK) status = start(made, err);
    if (status == AXON_OK)
        *stream = made;
    else
        axon_stream_close(made);
    return status;
}

const char *axon_stream_url(const axon_stream *stream)
{
    return stream ? stream->url : NULL;
}

void axon_stream_cancel(axon_stream *stream)
{
    if (!stream || stream->owner != getpid()) return;
    pthread_mutex_lock(&stream->lock);
    stream->is_canceled = true;
    pthread_cond_broadcast(&stream->arrived);
    pthread_cond_broadcast(&stream->sent);
    pthread_mutex_unlock(&stream->lock);
}

void axon_stream_close(axon_stream *stream)
{
    if (!stream) return;
    bool in_child = stream->owner != getpid();
    if (!in_child) {
        axon_stream_cancel(stream);
        axi_stream_end_calling(stream);
        pthread_mutex_lock(&stream->lock);
        atomic_store(&stream->is_closing, true);
        axi_stream_wake(stream);
        pthread_mutex_unlock(&stream->lock);
        if (stream->has_thread) pthread_join(stream->thread, NULL);
    }
    axi_ws_close(stream->ws, axi_deadline(stream->options.close_timeout_ms));
    release(stream, in_child);
}

/* See axon/chunk.h: the slow side. Observations are submitted, one thread asks the policy, episodes begin anew. */
#include "chunk_internal.h"
#include "service_internal.h"
#include "thread.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WAIT_MS = 60000,   /* the default */
    RETRY_MIN_MS = 20, /* pause before the same observation is sent again, doubled each time */
    RETRY_MAX_MS = 1000,
    CLOSE_LOOK_UP_MS = 20 /* an inference that had not begun when it was cancelled is cancelled again */
};

static axon_status check_engine(const axon_chunk_engine *engine, axon_error *err)
{
    if (!engine) return axi_fail(err, AXON_EINVAL, "engine: it is NULL");
    if (engine->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "engine: it was opened before fork(); open another in the child");
    return AXON_OK;
}

/* ---- percentiles --------------------------------------------------------------------------- */

static int by_size(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

/* The smallest number that `percent` of the last ones do not exceed; 0 when there are none. */
static double percentile(const float *window, uint64_t count, unsigned percent)
{
    float sorted[AXON_CHUNK_WINDOW];
    size_t kept = count < AXON_CHUNK_WINDOW ? (size_t)count : AXON_CHUNK_WINDOW;
    if (kept == 0) return 0.0;
    memcpy(sorted, window, kept * sizeof *sorted);
    qsort(sorted, kept, sizeof *sorted, by_size);
    return (double)sorted[(kept * percent + 99) / 100 - 1];
}

static void set_delay(axon_chunk_engine *engine, double steps)
{
    atomic_store(&engine->delay, steps < AXON_CHUNK_MAX_STEPS ? (int)ceil(steps) : AXON_CHUNK_MAX_STEPS);
}

/* `lock` is held. While the first chunk of an episode is made the controller stands still: of the steps that it would
 * have made there is a guess, until there is something better. */
static void note_times(axon_chunk_engine *engine, const axi_job *job, axi_time took)
{
    engine->latencies[engine->latency_count++ % AXON_CHUNK_WINDOW] = (float)((double)took * 1e-6);
    if (!engine->last || engine->last->generation != job->generation) {
        if (engine->is_timed && engine->delay_count == 0)
            set_delay(engine, (double)took * engine->steps_per_tick);
        return;
    }
    double steps = axi_chunk_place(engine, job->start, atomic_load(&engine->now));
    engine->delays[engine->delay_count++ % AXON_CHUNK_WINDOW] = (float)ceil(steps);
    set_delay(engine, percentile(engine->delays, engine->delay_count, 90));
}

/* ---- asking the policy --------------------------------------------------------------------- */

/* Chunks that the controller is done with. The last one is looked at again, for what was left of it; the news of a
 * failure are used again, so that telling takes no memory. */
static void free_retired(axon_chunk_engine *engine)
{
    axi_chunk *chunk = atomic_exchange_explicit(&engine->retired, NULL, memory_order_acquire);
    while (chunk) {
        axi_chunk *next = chunk->next;
        if (chunk == engine->last)
            axi_chunk_retire(engine, chunk);
        else if (chunk == engine->news)
            engine->news_is_out = false;
        else
            free(chunk);
        chunk = next;
    }
}

/* Adds what is still to be executed of the last chunk, and how long it takes the policy to answer. */
static axon_status tell_rtc(const axon_chunk_engine *engine, const axi_job *job, axon_value *observation,
                            float **kept, axon_error *err)
{
    const axi_chunk *last = engine->last;
    if (!last || last->generation != job->generation) return AXON_OK;
    double place = axi_chunk_place(engine, atomic_load(&last->start), job->start);
    if (place >= (double)last->rows) return AXON_OK;
    const axon_chunk_field *field = &engine->layout->fields[0];
    size_t first = (size_t)place, rows = last->rows - first;
    float *left = *kept = malloc(rows * field->count * sizeof *left);
    if (!left) return axi_no_memory(err, rows * field->count * sizeof *left);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < field->count; i++)
            left[row * field->count + i] =
                (float)last->numbers[(first + row) * engine->layout->width + field->offset + i];
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = field->ndim + 1, .data = left};
    array.shape[0] = (int64_t)rows;
    memcpy(array.shape + 1, field->shape, (size_t)field->ndim * sizeof *field->shape);
    axon_status status = axon_value_set(observation, engine->rtc_actions_key, axon_value_array(&array));
    if (status == AXON_OK)
        status =
            axon_value_set(observation, engine->rtc_delay_key, axon_value_int(atomic_load(&engine->delay)));
    return status == AXON_OK ? status : axi_no_memory(err, sizeof array);
}

static axon_status call_policy(const axon_chunk_engine *engine, axon_request_kind kind,
                               const axon_value *value, axon_value **reply, axon_error *err)
{
    *reply = NULL;
    *err = (axon_error){0};
    axon_status status;
    if (!engine->policy)
        status = engine->function(engine->user, kind, value, reply, err);
    else if (kind == AXON_REQUEST_RESET)
        status = axon_policy_reset(engine->policy, value, err);
    else
        status = axon_policy_infer(engine->policy, value, reply, err);
    if (status == AXON_OK) return status;
    axon_value_free(*reply);
    *reply = NULL;
    if ((axon_status)err->code == status) return status;
    return axi_fail(err, status, "%s",
                    err->message[0] ? err->message : "the policy failed and did not say why");
}

static axon_status infer(axon_chunk_engine *engine, const axi_job *job, axi_chunk **chunk, axon_error *err)
{
    axon_value *observation = NULL, *reply = NULL;
    float *left = NULL;
    axon_status status = axon_value_from_msgpack(job->data, job->length, &observation, err);
    if (status == AXON_OK && engine->tells_rtc) status = tell_rtc(engine, job, observation, &left, err);
    if (status == AXON_OK) status = call_policy(engine, AXON_REQUEST_STEP, observation, &reply, err);
    if (status == AXON_OK) status = axi_chunk_read(engine, reply, chunk, err);
    axon_value_free(reply);
    axon_value_free(observation);
    free(left);
    return status;
}

static axon_status reset_policy(const axon_chunk_engine *engine, const void *payload, size_t length,
                                axon_error *err)
{
    axon_value *told = NULL, *nothing = NULL;
    axon_status status = payload ? axon_value_from_msgpack(payload, length, &told, err) : AXON_OK;
    if (status == AXON_OK) status = call_policy(engine, AXON_REQUEST_RESET, told, &nothing, err);
    axon_value_free(nothing);
    axon_value_free(told);
    return status;
}

/* ---- the worker ---------------------------------------------------------------------------- */

/* `lock` is held from here to the end of this part, but for the calls of the policy. */

static bool is_void(const axon_chunk_engine *engine, const axi_job *job)
{
    return engine->is_closing || job->generation != atomic_load(&engine->generation);
}

/* Resets the policy, if it is owed that; a reset that failed stays owed, unless there is a newer one. */
static axon_status settle_reset(axon_chunk_engine *engine, axon_error *err)
{
    if (!engine->owes_reset) return AXON_OK;
    void *payload = engine->payload;
    size_t length = engine->payload_length;
    engine->payload = NULL;
    engine->owes_reset = false;
    engine->in_call = true;
    pthread_mutex_unlock(&engine->lock);
    axon_status status = reset_policy(engine, payload, length, err);
    pthread_mutex_lock(&engine->lock);
    engine->in_call = false;
    engine->reset_failed = status != AXON_OK && !engine->owes_reset;
    if (engine->reset_failed) {
        engine->owes_reset = true;
        engine->payload = payload;
        engine->payload_length = length;
        payload = NULL;
    }
    axon_free(payload);
    return status;
}

/* Asks the policy once. */
static axon_status try_job(axon_chunk_engine *engine, const axi_job *job, axi_chunk **chunk,
                           axon_error *err)
{
    free_retired(engine);
    axon_status status = settle_reset(engine, err);
    if (status != AXON_OK || is_void(engine, job)) return status;
    engine->in_call = true;
    pthread_mutex_unlock(&engine->lock);
    axi_time begin = axi_now();
    status = infer(engine, job, chunk, err);
    axi_time took = axi_now() - begin;
    pthread_mutex_lock(&engine->lock);
    engine->in_call = false;
    if (status == AXON_OK && !is_void(engine, job)) note_times(engine, job, took);
    return status;
}

/* A pause, in which a newer observation is asked for; without one, the same is sent again. */
static bool may_try_again(axon_chunk_engine *engine, const axi_job *job, unsigned pause_ms)
{
    if (engine->options.on_error != AXON_CHUNK_RETRY) return false;
    axi_time end = axi_deadline(pause_ms);
    atomic_store(&engine->is_busy, false);
    pthread_cond_broadcast(&engine->arrive);
    while (!is_void(engine, job) && !engine->pending.data &&
           axi_condition_wait(&engine->wake, &engine->lock, end))
        continue;
    if (is_void(engine, job) || engine->pending.data) return false;
    atomic_store(&engine->is_busy, true);
    return true;
}

static void deliver(axon_chunk_engine *engine, axi_chunk *chunk, const axi_job *job)
{
    chunk->generation = job->generation;
    atomic_init(&chunk->start, job->start);
    if (chunk->failure.code == 0) {
        chunk->number = ++engine->number;
        engine->chunks++;
        engine->last = chunk;
    }
    axi_chunk *before = atomic_exchange(&engine->ready, chunk);
    if (before) axi_chunk_retire(engine, before);
}

/* Only while the last news are still being read does this take memory. */
static axi_chunk *make_news(axon_chunk_engine *engine, const axon_error *failure)
{
    axi_chunk *news = engine->news_is_out ? calloc(1, sizeof *news) : engine->news;
    if (!news) return NULL;
    engine->news_is_out = true;
    news->failure = *failure;
    return news;
}

/* What became of an observation goes to the controller, unless an episode has begun meanwhile. */
static void finish_job(axon_chunk_engine *engine, const axi_job *job, axi_chunk *chunk,
                       const axon_error *failure)
{
    if (is_void(engine, job)) {
        engine->discarded++;
        free(chunk);
        return;
    }
    if (!chunk && engine->options.on_error == AXON_CHUNK_REPORT) chunk = make_news(engine, failure);
    if (chunk) deliver(engine, chunk, job);
    atomic_store(&engine->is_busy, engine->pending.data != NULL);
}

static void do_job(axon_chunk_engine *engine, const axi_job *job)
{
    axi_chunk *chunk = NULL;
    axon_error failure = {0};
    unsigned pause_ms = RETRY_MIN_MS;
    for (;;) {
        axon_status status = try_job(engine, job, &chunk, &failure);
        if (status == AXON_OK || is_void(engine, job)) break;
        engine->failures++;
        engine->failure = failure;
        if (!may_try_again(engine, job, pause_ms)) break;
        pause_ms = pause_ms * 2 < RETRY_MAX_MS ? pause_ms * 2 : RETRY_MAX_MS;
    }
    finish_job(engine, job, chunk, &failure);
    pthread_cond_broadcast(&engine->arrive);
}

static void reset_early(axon_chunk_engine *engine)
{
    axon_error failure;
    axon_status status = settle_reset(engine, &failure);
    if (status == AXON_OK || engine->is_closing) return;
    engine->failures++; /* the next observation's turn tells */
    engine->failure = failure;
}

static void free_engine(axon_chunk_engine *engine);

static void *work(void *user)
{
    axon_chunk_engine *engine = user;
    pthread_mutex_lock(&engine->lock);
    while (!engine->is_closing) {
        if (engine->pending.data) {
            axi_job job = engine->pending;
            engine->pending.data = NULL;
            do_job(engine, &job);
            axon_free(job.data);
        } else if (engine->owes_reset && !engine->reset_failed) {
            reset_early(engine);
        } else {
            pthread_cond_wait(&engine->wake, &engine->lock);
        }
    }
    engine->has_ended = true;
    bool is_orphan = engine->is_orphan;
    pthread_cond_broadcast(&engine->arrive);
    pthread_mutex_unlock(&engine->lock);
    if (is_orphan) free_engine(engine);
    return NULL;
}

/* ---- submitting ---------------------------------------------------------------------------- */

static axon_status check_time(const axon_chunk_engine *engine, uint32_t generation, int64_t now,
                              axon_error *err)
{
    if (engine->is_timed && now > AXI_CHUNK_MAX_TIME)
        return axi_fail(err, AXON_EINVAL, "now: %g s is too late", (double)now * 1e-9);
    bool is_first = !engine->has_submitted || engine->submitted_generation != generation;
    if (!engine->is_timed || is_first || now >= engine->submitted) return AXON_OK;
    return axi_fail(err, AXON_EINVAL, "now: %.6f s is %.6f s before that of the last observation",
                    (double)now * 1e-9, (double)(engine->submitted - now) * 1e-9);
}

/* `lock` is held. Takes `data` on AXON_OK, if it is still wanted. */
static axon_status take(axon_chunk_engine *engine, void **data, size_t length, int64_t now, axon_error *err)
{
    uint32_t generation = atomic_load(&engine->generation);
    axon_status status = check_time(engine, generation, now, err);
    if (status != AXON_OK) return status;
    engine->has_submitted = true;
    engine->submitted = now;
    engine->submitted_generation = generation;
    if (!*data || !axon_chunk_wants(engine)) return AXON_OK;
    engine->pending = (axi_job){.data = *data,
                                .length = length,
                                .start = engine->is_timed ? now : atomic_load(&engine->now),
                                .generation = generation};
    *data = NULL;
    engine->observations++;
    atomic_store(&engine->is_busy, true);
    pthread_cond_signal(&engine->wake);
    return AXON_OK;
}

static axon_status pack(const axon_value *value, const char *name, void **data, size_t *length,
                        axon_error *err)
{
    axon_error failure;
    axon_status status = axon_value_to_msgpack(value, AXON_MARKER_OPENPI, data, length, &failure);
    if (status == AXON_OK) return status;
    if (status == AXON_EINVAL && strncmp(failure.message, "value", 5) == 0)
        return axi_fail(err, status, "%s%s", name, failure.message + 5);
    return axi_fail(err, status, "%s: %s", name, failure.message);
}

static axon_status pack_observation(const axon_value *observation, void **data, size_t *length,
                                    axon_error *err)
{
    if (axon_value_type(observation) != AXON_MAP || axon_value_count(observation) == 0)
        return axi_fail(err, AXON_EINVAL, "observation: it is no map, or empty");
    return pack(observation, "observation", data, length, err);
}

axon_status axon_chunk_submit(axon_chunk_engine *engine, const axon_value *observation, int64_t now,
                              int32_t *taken, axon_error *err)
{
    axon_status status = check_engine(engine, err);
    if (status != AXON_OK) return status;
    if (engine->is_timed && now <= AXON_CHUNK_NOW) now = axi_now();
    void *data = NULL;
    size_t length = 0;
    if (axon_chunk_wants(engine)) status = pack_observation(observation, &data, &length, err);
    bool is_packed = data;
    if (status == AXON_OK) {
        pthread_mutex_lock(&engine->lock);
        status = take(engine, &data, length, now, err);
        pthread_mutex_unlock(&engine->lock);
    }
    if (status == AXON_OK && taken) *taken = is_packed && !data;
    axon_free(data);
    return status;
}

/* ---- waiting, resetting -------------------------------------------------------------------- */

typedef bool (*condition)(const axon_chunk_engine *engine);

static bool has_delivered(const axon_chunk_engine *engine)
{
    return atomic_load(&engine->ready);
}

static bool is_idle(const axon_chunk_engine *engine)
{
    return !atomic_load(&engine->is_busy);
}

/* `lock` is held. Waits until `is_met`; AXON_ETIMEOUT has no message yet. */
static axon_status wait_for(axon_chunk_engine *engine, condition is_met, axi_time deadline, axon_error *err)
{
    axon_status status = AXON_OK;
    uint64_t cancels = engine->cancels;
    while (status == AXON_OK && !is_met(engine)) {
        bool is_woken = axi_condition_wait_a_while(&engine->arrive, &engine->lock, deadline);
        if (engine->cancels != cancels)
            return axi_fail(err, AXON_ECANCELED, "cancelled from another thread");
        if (is_woken) continue;
        if (axi_now() >= deadline) return AXON_ETIMEOUT;
        pthread_mutex_unlock(&engine->lock);
        if (axi_interrupted())
            status = axi_fail(err, AXON_ECANCELED, "cancelled by the interrupt function");
        pthread_mutex_lock(&engine->lock);
    }
    return status;
}

axon_status axi_chunk_await(axon_chunk_engine *engine, axon_error *err)
{
    uint32_t wait_ms = engine->options.wait_ms;
    pthread_mutex_lock(&engine->lock);
    axon_status status = wait_for(engine, has_delivered, axi_deadline(wait_ms), err);
    if (status == AXON_ETIMEOUT)
        axi_fail(err, status, "no action: no chunk after %" PRIu32 " ms (wait_ms): %s", wait_ms,
                 engine->failure.code ? engine->failure.message
                 : is_idle(engine)    ? "no observation was submitted"
                                      : "the policy has not answered yet");
    pthread_mutex_unlock(&engine->lock);
    return status;
}

axon_status axon_chunk_wait(axon_chunk_engine *engine, uint32_t timeout_ms, axon_error *err)
{
    axon_status status = check_engine(engine, err);
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&engine->lock);
    status = wait_for(engine, is_idle, axi_deadline(timeout_ms), err);
    if (status == AXON_ETIMEOUT)
        axi_fail(err, status, "the policy has not answered after %" PRIu32 " ms (timeout_ms)", timeout_ms);
    pthread_mutex_unlock(&engine->lock);
    return status;
}

void axon_chunk_cancel(axon_chunk_engine *engine)
{
    if (!engine || engine->owner != getpid()) return;
    pthread_mutex_lock(&engine->lock);
    engine->cancels++;
    pthread_cond_broadcast(&engine->arrive);
    pthread_mutex_unlock(&engine->lock);
}

/* `lock` is held. Takes `payload`. */
static void begin_episode(axon_chunk_engine *engine, void *payload, size_t length)
{
    atomic_fetch_add(&engine->generation, 1);
    axi_chunk *left = atomic_exchange(&engine->ready, NULL);
    if (left) axi_chunk_retire(engine, left);
    engine->discarded += engine->pending.data != NULL;
    axon_free(engine->pending.data);
    engine->pending.data = NULL;
    axon_free(engine->payload);
    engine->payload = payload;
    engine->payload_length = length;
    engine->owes_reset = true;
    engine->reset_failed = false;
    atomic_store(&engine->is_busy, false);
    if (engine->in_call && engine->policy) axon_policy_cancel(engine->policy);
    pthread_cond_broadcast(&engine->wake);
    pthread_cond_broadcast(&engine->arrive);
}

axon_status axon_chunk_reset(axon_chunk_engine *engine, const axon_value *payload, axon_error *err)
{
    axon_status status = check_engine(engine, err);
    if (status != AXON_OK) return status;
    void *data = NULL;
    size_t length = 0;
    if (payload && axon_value_type(payload) != AXON_MAP)
        return axi_fail(err, AXON_EINVAL, "payload: it is no map");
    if (axon_value_count(payload) > 0) status = pack(payload, "payload", &data, &length, err);
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&engine->lock);
    begin_episode(engine, data, length);
    pthread_mutex_unlock(&engine->lock);
    return AXON_OK;
}

/* ---- what it knows ------------------------------------------------------------------------- */

size_t axon_chunk_width(const axon_chunk_engine *engine)
{
    return engine ? atomic_load(&engine->width) : 0;
}

const axon_chunk_field *axon_chunk_get_field(const axon_chunk_engine *engine, size_t index)
{
    if (axon_chunk_width(engine) == 0 || index >= engine->layout->field_count) return NULL;
    return &engine->layout->fields[index];
}

axon_status axon_chunk_get_stats(axon_chunk_engine *engine, axon_chunk_stats *stats, axon_error *err)
{
    axon_status status = check_engine(engine, err);
    if (status == AXON_OK && !stats) status = axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    if (status != AXON_OK) return status;
    pthread_mutex_lock(&engine->lock);
    *stats = (axon_chunk_stats){.steps = atomic_load(&engine->steps),
                                .starved = atomic_load(&engine->starved),
                                .chunks = engine->chunks,
                                .late = atomic_load(&engine->late),
                                .stale = atomic_load(&engine->stale),
                                .skipped = atomic_load(&engine->skipped),
                                .observations = engine->observations,
                                .failures = engine->failures,
                                .discarded = engine->discarded,
                                .rtc = engine->tells_rtc,
                                .delay_steps = atomic_load(&engine->delay),
                                .latency_ms = percentile(engine->latencies, engine->latency_count, 90),
                                .latency_p50_ms = percentile(engine->latencies, engine->latency_count, 50),
                                .latency_max_ms = percentile(engine->latencies, engine->latency_count, 100),
                                .failure = engine->failure};
    pthread_mutex_unlock(&engine->lock);
    return AXON_OK;
}

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status check_rate(const char *name, double rate, double most, axon_error *err)
{
    if (rate == 0.0 || (rate >= 0.001 && rate <= most)) return AXON_OK;
    return axi_fail(err, AXON_EINVAL, "%s is %g, not 0.001 to %g", name, rate, most);
}

static axon_status check_rates(const axon_chunk_options *o, axon_error *err)
{
    axon_status status = check_rate("action_hz", o->action_hz, 10000, err);
    if (status == AXON_OK) status = check_rate("control_hz", o->control_hz, 100000, err);
    if (status != AXON_OK || o->control_hz == 0.0 || o->mode != AXON_CHUNK_BLOCKING) return status;
    if (o->action_hz == 0.0)
        return axi_fail(err, AXON_EINVAL, "control_hz is %g and action_hz is not given", o->control_hz);
    if (o->control_hz < o->action_hz)
        return axi_fail(err, AXON_EINVAL,
                        "control_hz is %g, less than action_hz (%g): steps would be left out",
                        o->control_hz, o->action_hz);
    return AXON_OK;
}

static axon_status check_choice(const char *name, int64_t value, int64_t most, axon_error *err)
{
    if (value >= 0 && value <= most) return AXON_OK;
    return axi_fail(err, AXON_EINVAL, "%s is %" PRId64 ", not 0 to %" PRId64, name, value, most);
}

static axon_status check_options(const axon_chunk_options *o, axon_error *err)
{
    axon_status status = check_choice("mode", (int64_t)o->mode, AXON_CHUNK_RTC, err);
    if (status == AXON_OK) status = check_choice("on_empty", (int64_t)o->on_empty, AXON_CHUNK_RAISE, err);
    if (status == AXON_OK) status = check_choice("on_error", (int64_t)o->on_error, AXON_CHUNK_RETRY, err);
    if (status == AXON_OK)
        status = check_choice("action_horizon", o->action_horizon, AXON_CHUNK_MAX_STEPS, err);
    if (status == AXON_OK)
        status = check_choice("prefetch_steps", o->prefetch_steps, AXON_CHUNK_MAX_STEPS, err);
    if (status == AXON_OK) status = check_rates(o, err);
    if (status == AXON_OK && !(fabs(o->ensemble_m) <= 1e6))
        status = axi_fail(err, AXON_EINVAL, "ensemble_m is %g, not up to 1e6", o->ensemble_m);
    if (status == AXON_OK && o->dimension_count > AXON_CHUNK_MAX_WIDTH)
        status = axi_fail(err, AXON_EINVAL, "dimension_count is %zu, not up to %d", o->dimension_count,
                          AXON_CHUNK_MAX_WIDTH);
    return status;
}

static axon_status copy_dimensions(axon_chunk_engine *engine, const axon_chunk_options *o, axon_error *err)
{
    if (!o->dimensions) return AXON_OK;
    engine->dimensions = malloc(o->dimension_count + 1);
    if (!engine->dimensions) return axi_no_memory(err, o->dimension_count + 1);
    for (size_t i = 0; i < o->dimension_count; i++) {
        int32_t kind = o->dimensions[i], alone = kind & ~AXON_DIM_VELOCITY;
        if (kind < 0 || alone > AXON_DIM_ANGLE)
            return axi_fail(err, AXON_EINVAL, "dimensions[%zu] is %d, which is no axon_chunk_dimension", i,
                            kind);
        engine->dimensions[i] = (uint8_t)kind;
    }
    return AXON_OK;
}

static axon_status copy_text(char **copy, const char *text, axon_error *err)
{
    *copy = strdup(text);
    return *copy ? AXON_OK : axi_no_memory(err, strlen(text) + 1);
}

static axon_status copy_keys(axon_chunk_engine *engine, const axon_chunk_options *o, axon_error *err)
{
    size_t count = 0;
    while (o->keys && o->keys[count])
        count++;
    if (count > AXI_CHUNK_FIELDS)
        return axi_fail(err, AXON_EINVAL, "keys: %zu of them, not up to %d", count, AXI_CHUNK_FIELDS);
    engine->keys = calloc(count + 1, sizeof *engine->keys);
    if (!engine->keys) return axi_no_memory(err, (count + 1) * sizeof *engine->keys);
    axon_status status = AXON_OK;
    for (size_t i = 0; i < count && status == AXON_OK; i++) {
        if (strlen(o->keys[i]) >= AXI_CHUNK_KEY)
            return axi_fail(err, AXON_EINVAL, "keys[%zu] is longer than %d bytes", i, AXI_CHUNK_KEY - 1);
        status = copy_text(&engine->keys[engine->key_count++], o->keys[i], err);
    }
    if (status == AXON_OK)
        status = copy_text(&engine->rtc_actions_key,
                           o->rtc_actions_key ? o->rtc_actions_key : "prev_chunk_left_over", err);
    if (status == AXON_OK)
        status =
            copy_text(&engine->rtc_delay_key, o->rtc_delay_key ? o->rtc_delay_key : "inference_delay", err);
    return status;
}

static bool is_true(const axon_value *value)
{
    int32_t truth = 0;
    return axon_value_as_bool(value, &truth) == AXON_OK && truth;
}

/* What servers of policies that know real-time chunking say of it. */
static bool knows_rtc(const axon_value *metadata)
{
    const axon_value *rtc = axon_value_get(metadata, "rtc");
    return is_true(rtc) || is_true(axon_value_get(rtc, "supported")) ||
           is_true(axon_value_get(rtc, "enabled")) || is_true(axon_value_get(metadata, "supports_rtc")) ||
           is_true(axon_value_get(metadata, "rtc_enabled"));
}

static void set_pace(axon_chunk_engine *engine)
{
    axon_chunk_options *o = &engine->options;
    bool is_blocking = o->mode == AXON_CHUNK_BLOCKING;
    engine->is_timed = !is_blocking && o->action_hz > 0.0;
    engine->steps_per_tick = 1.0;
    if (engine->is_timed) engine->steps_per_tick = o->action_hz * 1e-9;
    if (is_blocking && o->control_hz > 0.0) engine->steps_per_tick = o->action_hz / o->control_hz;
    double m = o->ensemble_m < 0.0 ? 0.0 : o->ensemble_m == 0.0 ? 0.01 : o->ensemble_m;
    for (int i = 0; i < AXI_CHUNK_ENSEMBLE; i++)
        engine->player.weights[i] = exp(-m * i);
}

static axon_status configure(axon_chunk_engine *engine, const axon_chunk_options *given, axon_error *err)
{
    axon_chunk_options *o = &engine->options;
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status == AXON_OK) status = check_options(o, err);
    if (status == AXON_OK) status = copy_dimensions(engine, o, err);
    if (status == AXON_OK) status = copy_keys(engine, o, err);
    if (status != AXON_OK) return status;
    if (o->wait_ms == 0) o->wait_ms = WAIT_MS;
    engine->tells_rtc =
        o->mode == AXON_CHUNK_RTC && (!engine->policy || knows_rtc(axon_policy_metadata(engine->policy)));
    set_pace(engine);
    return AXON_OK;
}

static void prepare(axon_chunk_engine *engine)
{
    axi_condition_init(&engine->wake);
    axi_condition_init(&engine->arrive);
    pthread_mutex_init(&engine->lock, NULL);
    engine->owner = getpid();
    atomic_store(&engine->generation, 1); /* the controller has seen none yet: an observation is wanted */
}

static axon_status start(axon_chunk_engine *engine, axon_error *err)
{
    int failed = axi_thread_start(&engine->worker, work, engine);
    if (!failed) return AXON_OK;
    return axi_fail(err, AXON_ENOMEM, "no thread for the engine: %s", strerror(failed));
}

static axon_status open_engine(axon_chunk_engine **engine, axon_policy *policy,
                               axon_policy_function function, void *user, const axon_chunk_options *opts,
                               axon_error *err)
{
    if (!engine) return axi_fail(err, AXON_EINVAL, "engine: it is NULL");
    if (!policy && !function) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    size_t bytes = (sizeof(axon_chunk_engine) + 63) / 64 * 64;
    axon_chunk_engine *made = aligned_alloc(64, bytes);
    if (!made) return axi_no_memory(err, bytes);
    memset(made, 0, bytes);
    prepare(made);
    made->policy = policy;
    made->function = function;
    made->user = user;
    made->news = calloc(1, sizeof *made->news);
    axon_status status = made->news ? configure(made, opts, err) : axi_no_memory(err, sizeof *made->news);
    if (status == AXON_OK) status = start(made, err);
    if (status == AXON_OK)
        *engine = made;
    else
        free_engine(made);
    return status;
}

axon_status axon_chunk_open(axon_chunk_engine **engine, axon_policy *policy, const axon_chunk_options *opts,
                            axon_error *err)
{
    return open_engine(engine, policy, NULL, NULL, opts, err);
}

axon_status axon_chunk_open_function(axon_chunk_engine **engine, axon_policy_function policy, void *user,
                                     const axon_chunk_options *opts, axon_error *err)
{
    return open_engine(engine, NULL, policy, user, opts, err);
}

/* ---- closing ------------------------------------------------------------------------------- */

static void free_engine(axon_chunk_engine *engine)
{
    axi_player *player = &engine->player;
    for (size_t i = 0; i < player->count; i++)
        free(player->playing[i]);
    free(player->queued);
    axi_chunk *ready = atomic_load(&engine->ready);
    if (ready) axi_chunk_retire(engine, ready);
    engine->last = NULL;
    free_retired(engine);
    free(engine->news);
    axon_free(engine->pending.data);
    axon_free(engine->payload);
    axi_chunk_free_layout(engine->layout);
    for (size_t i = 0; i < engine->key_count; i++)
        free(engine->keys[i]);
    free(engine->keys);
    free(engine->dimensions);
    free(engine->rtc_actions_key);
    free(engine->rtc_delay_key);
    if (getpid() == engine->owner) {
        pthread_mutex_destroy(&engine->lock);
        pthread_cond_destroy(&engine->wake);
        pthread_cond_destroy(&engine->arrive);
    }
    free(engine);
}

/* True when the engine is the worker's own to free: it is what closes it, from within the policy. */
static bool end_worker(axon_chunk_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->is_closing = true;
    engine->is_orphan = pthread_equal(pthread_self(), engine->worker);
    bool is_orphan = engine->is_orphan;
    pthread_cond_broadcast(&engine->wake);
    while (!is_orphan && !engine->has_ended) {
        if (engine->in_call && engine->policy) axon_policy_cancel(engine->policy);
        axi_condition_wait(&engine->arrive, &engine->lock, axi_deadline(CLOSE_LOOK_UP_MS));
    }
    pthread_mutex_unlock(&engine->lock);
    if (is_orphan)
        pthread_detach(engine->worker);
    else
        pthread_join(engine->worker, NULL);
    return is_orphan;
}

void axon_chunk_close(axon_chunk_engine *engine)
{
    if (!engine) return;
    if (getpid() == engine->owner && end_worker(engine)) return;
    free_engine(engine);
}

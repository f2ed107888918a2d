/* See axon/chunk.h: the fast side. No allocation, no lock and no system call, but where it says that it waits. */
#include "chunk_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Places nearer than this to a step are that step: times are rounded to nanoseconds, and to what a double holds. */
#define SAME_STEP 1e-4

/* What CLOCK_MONOTONIC and a caller's `now` may be apart, in ns, for it to be that clock. */
#define SAME_CLOCK 200000000

double axi_chunk_place(const axon_chunk_engine *engine, axi_tick start, axi_tick tick)
{
    if (tick <= start) return 0.0;
    double place = (double)(tick - start) * engine->steps_per_tick;
    double step = (double)(int64_t)(place + 0.5);
    return fabs(place - step) < SAME_STEP ? step : place;
}

static double place_in(const axon_chunk_engine *engine, const axi_chunk *chunk, axi_tick tick)
{
    return axi_chunk_place(engine, atomic_load_explicit(&chunk->start, memory_order_relaxed), tick);
}

/* The place at `end` is the first one that is not in the chunk. */
static void set_start(const axon_chunk_engine *engine, axi_chunk *chunk, axi_tick start)
{
    atomic_store_explicit(&chunk->start, start, memory_order_relaxed);
    chunk->end = start + (axi_tick)ceil(((double)chunk->steps - SAME_STEP) / engine->steps_per_tick);
}

static bool has_steps(const axi_chunk *chunk, axi_tick tick)
{
    return tick < chunk->end;
}

static axi_chunk *newest(const axi_player *player)
{
    return player->count ? player->playing[player->count - 1] : NULL;
}

static bool is_in_order(const axon_chunk_engine *engine)
{
    return engine->options.mode == AXON_CHUNK_BLOCKING || engine->options.mode == AXON_CHUNK_PREFETCH;
}

/* ---- chunks that come and go --------------------------------------------------------------- */

void axi_chunk_retire(axon_chunk_engine *engine, axi_chunk *chunk)
{
    axi_chunk *head = atomic_load_explicit(&engine->retired, memory_order_relaxed);
    do
        chunk->next = head;
    while (!atomic_compare_exchange_weak_explicit(&engine->retired, &head, chunk, memory_order_release,
                                                  memory_order_relaxed));
}

static void retire_playing(axon_chunk_engine *engine, size_t index)
{
    axi_player *player = &engine->player;
    axi_chunk_retire(engine, player->playing[index]);
    player->count--;
    memmove(player->playing + index, player->playing + index + 1,
            (player->count - index) * sizeof *player->playing);
}

static void play(axon_chunk_engine *engine, axi_chunk *chunk)
{
    axi_player *player = &engine->player;
    size_t room = engine->options.mode == AXON_CHUNK_ENSEMBLE ? AXI_CHUNK_ENSEMBLE : 1;
    if (player->count == room) retire_playing(engine, 0);
    player->playing[player->count++] = chunk;
}

static void begin_episode(axon_chunk_engine *engine, uint32_t generation)
{
    axi_player *player = &engine->player;
    while (player->count)
        retire_playing(engine, player->count - 1);
    if (player->queued) axi_chunk_retire(engine, player->queued);
    player->queued = NULL;
    player->has_begun = player->is_starved = player->has_tick = false;
    player->generation = generation;
    atomic_store(&engine->seen, generation);
}

/* The steps that passed while the chunk was made are not handed out. The first one of an episode begins now: the
 * robot stood still. */
static axon_status align(axon_chunk_engine *engine, axi_chunk *chunk, axi_tick tick, axon_error *err)
{
    axi_player *player = &engine->player;
    const axi_chunk *before = newest(player);
    bool is_first = !before && !player->has_begun;
    set_start(engine, chunk, is_first ? tick : atomic_load(&chunk->start));
    axi_tick start = atomic_load(&chunk->start);
    bool is_ahead = start - tick > chunk->end - start, is_stale = !has_steps(chunk, tick);
    if (!is_first && (!before || !has_steps(before, tick))) axi_count_up(&engine->late, 1);
    if (is_ahead || is_stale) {
        axi_count_up(&engine->stale, is_stale);
        axi_chunk_retire(engine, chunk);
        if (is_stale) return AXON_OK;
        return axi_fail(err, AXON_EINVAL, "now: the observation's is %g s later; by another clock?",
                        (double)(start - tick) * 1e-9);
    }
    axi_count_up(&engine->skipped, (uint64_t)place_in(engine, chunk, tick));
    play(engine, chunk);
    return AXON_OK;
}

/* Takes what the worker left, if anything; what it failed with is returned. */
static axon_status take_delivery(axon_chunk_engine *engine, axi_tick tick, axon_error *err)
{
    if (!atomic_load_explicit(&engine->ready, memory_order_acquire)) return AXON_OK;
    /* First: whoever sees `ready` empty must not see the old hunger. */
    atomic_store(&engine->is_hungry, false);
    axi_chunk *chunk = atomic_exchange(&engine->ready, NULL);
    if (!chunk) return AXON_OK;
    if (chunk->generation != engine->player.generation) begin_episode(engine, chunk->generation);
    axon_status status = (axon_status)chunk->failure.code;
    if (status != AXON_OK) {
        if (err) *err = chunk->failure;
        axi_chunk_retire(engine, chunk);
    } else if (is_in_order(engine)) {
        if (engine->player.queued) axi_chunk_retire(engine, engine->player.queued);
        engine->player.queued = chunk;
    } else {
        status = align(engine, chunk, tick, err);
    }
    return status;
}

/* In order: the next chunk follows the last step of the one before, or begins now when that is over for long. */
static void play_queued(axon_chunk_engine *engine, axi_tick tick)
{
    axi_player *player = &engine->player;
    const axi_chunk *before = newest(player);
    if (!player->queued || (before && has_steps(before, tick))) return;
    axi_tick start = tick;
    if (before && !player->is_starved) {
        double length = nearbyint((double)before->steps / engine->steps_per_tick);
        axi_tick over = atomic_load_explicit(&before->start, memory_order_relaxed) + (axi_tick)length;
        if (axi_chunk_place(engine, over, tick) < 1.0) start = over;
    }
    if (player->has_begun && player->is_starved) axi_count_up(&engine->late, 1);
    set_start(engine, player->queued, start);
    play(engine, player->queued);
    player->queued = NULL;
}

/* All but the newest. */
static void drop_used_up(axon_chunk_engine *engine, axi_tick tick)
{
    axi_player *player = &engine->player;
    for (size_t i = 0; player->count > 1 && i < player->count;)
        if (has_steps(player->playing[i], tick))
            i++;
        else
            retire_playing(engine, i);
}

/* ---- one action ---------------------------------------------------------------------------- */

static double to_half_turn(double angle)
{
    return remainder(angle, 2.0 * 3.14159265358979323846);
}

static double between(uint8_t dimension, double from, double to, double part)
{
    switch (dimension & ~AXON_DIM_VELOCITY) {
    case AXON_DIM_STEPPED:
        return from;
    case AXON_DIM_ANGLE:
        return to_half_turn(from + part * to_half_turn(to - from));
    default:
        return from + part * (to - from);
    }
}

/* What a step goes over into: the next one, at the end of a chunk the first one of the chunk that follows. */
static const double *next_row(const axon_chunk_engine *engine, const axi_chunk *chunk, size_t row,
                              const double *from)
{
    bool is_last = row + 1 == chunk->steps;
    if (is_last && engine->player.queued) return engine->player.queued->numbers;
    return row + 1 < chunk->rows ? from + engine->layout->width : from;
}

/* Where a chunk is at `tick`: between two steps, `part` of the way. */
typedef struct {
    const double *from, *to;
    double part;
} spot;

static spot find_spot(const axon_chunk_engine *engine, const axi_chunk *chunk, axi_tick tick)
{
    double place = place_in(engine, chunk, tick);
    size_t row = (size_t)place;
    spot found = {.from = chunk->numbers + row * engine->layout->width, .part = place - (double)row};
    found.to = found.part > 0.0 ? next_row(engine, chunk, row, found.from) : found.from;
    return found;
}

/* What a chunk says of `tick`. */
static void sample(const axon_chunk_engine *engine, const axi_chunk *chunk, axi_tick tick, double *action)
{
    const axi_chunk_layout *layout = engine->layout;
    spot at = find_spot(engine, chunk, tick);
    if (at.part <= 0.0 && layout->is_linear) {
        memcpy(action, at.from, layout->width * sizeof *action);
        return;
    }
    for (size_t i = 0; i < layout->width; i++)
        action[i] = between(layout->dimensions[i], at.from[i], at.to[i], at.part);
}

/* Adds what another chunk says, `share` being its part of all weights so far: a running mean. */
static void mix(const axi_chunk_layout *layout, const double *said, double share, double *action)
{
    for (size_t i = 0; i < layout->width; i++) {
        uint8_t kind = layout->dimensions[i] & (uint8_t)~AXON_DIM_VELOCITY;
        double difference = said[i] - action[i];
        if (kind == AXON_DIM_STEPPED)
            action[i] = said[i];
        else if (kind == AXON_DIM_ANGLE)
            action[i] = to_half_turn(action[i] + share * to_half_turn(difference));
        else
            action[i] += share * difference;
    }
}

static void mix_all(const axon_chunk_engine *engine, axi_tick tick, double *action)
{
    const axi_player *player = &engine->player;
    double sum = player->weights[0];
    sample(engine, player->playing[0], tick, action);
    for (size_t i = 1; i < player->count; i++) {
        sample(engine, player->playing[i], tick, engine->layout->scratch);
        sum += player->weights[i];
        mix(engine->layout, engine->layout->scratch, player->weights[i] / sum, action);
    }
}

typedef double pair __attribute__((vector_size(16)));

/* Two numbers at a time: gcc does not see to it by itself at -O2. */
static void add_weighted(double *action, size_t width, const spot *at, double of_from, double of_to)
{
    size_t i = 0;
    for (; i + 2 <= width; i += 2) {
        pair sum, from, to;
        memcpy(&sum, action + i, sizeof sum);
        memcpy(&from, at->from + i, sizeof from);
        memcpy(&to, at->to + i, sizeof to);
        sum += of_from * from + of_to * to;
        memcpy(action + i, &sum, sizeof sum);
    }
    for (; i < width; i++)
        action[i] += of_from * at->from[i] + of_to * at->to[i];
}

/* The same when every dimension is linear: quicker, for there may be many chunks. */
static void add_all(const axon_chunk_engine *engine, axi_tick tick, double *action)
{
    const axi_player *player = &engine->player;
    size_t width = engine->layout->width;
    double sum = 0.0;
    for (size_t i = 0; i < player->count; i++)
        sum += player->weights[i];
    memset(action, 0, width * sizeof *action);
    for (size_t i = 0; i < player->count; i++) {
        spot at = find_spot(engine, player->playing[i], tick);
        double weight = player->weights[i] / sum;
        add_weighted(action, width, &at, weight * (1.0 - at.part), weight * at.part);
    }
}

static void sample_all(const axon_chunk_engine *engine, axi_tick tick, double *action)
{
    if (engine->player.count == 1)
        sample(engine, engine->player.playing[0], tick, action);
    else if (engine->layout->is_linear)
        add_all(engine, tick, action);
    else
        mix_all(engine, tick, action);
}

/* What to do when nothing is left. */
static void fill(const axon_chunk_engine *engine, double *action)
{
    const axi_chunk_layout *layout = engine->layout;
    for (size_t i = 0; i < layout->width; i++) {
        bool stops =
            engine->options.on_empty == AXON_CHUNK_HOLD && layout->dimensions[i] & AXON_DIM_VELOCITY;
        if (engine->options.on_empty == AXON_CHUNK_ZERO)
            stops = (layout->dimensions[i] & ~AXON_DIM_VELOCITY) != AXON_DIM_STEPPED;
        action[i] = stops ? 0.0 : layout->last[i];
    }
}

/* ---- what is wanted ------------------------------------------------------------------------ */

/* `tick` has been handed out. */
static bool is_hungry(const axon_chunk_engine *engine, axi_tick tick)
{
    const axi_player *player = &engine->player;
    const axi_chunk *chunk = newest(player);
    if (player->queued) return false;
    if (!chunk || engine->options.mode == AXON_CHUNK_ENSEMBLE) return true;
    double left = (double)chunk->steps - (engine->is_timed ? 1.0 + floor(place_in(engine, chunk, tick))
                                                           : place_in(engine, chunk, tick + 1));
    if (engine->options.mode == AXON_CHUNK_BLOCKING) return left <= 0.0;
    uint32_t wanted = engine->options.prefetch_steps;
    if (wanted == 0) wanted = (chunk->steps + 1) / 2;
    uint32_t needed = (uint32_t)atomic_load_explicit(&engine->delay, memory_order_relaxed) + 1;
    return left <= (double)(wanted > needed ? wanted : needed);
}

int32_t axon_chunk_wants(const axon_chunk_engine *engine)
{
    if (!engine || atomic_load(&engine->is_busy) || atomic_load(&engine->ready)) return 0;
    return atomic_load(&engine->is_hungry) ||
           atomic_load(&engine->seen) != atomic_load(&engine->generation);
}

/* Tells the other sides where the controller is. */
static void publish(axon_chunk_engine *engine, axi_tick tick)
{
    atomic_store_explicit(&engine->now, engine->is_timed ? tick : engine->player.tick,
                          memory_order_relaxed);
    atomic_store(&engine->is_hungry, is_hungry(engine, tick));
}

/* ---- axon_chunk_next ----------------------------------------------------------------------- */

static bool is_empty(const axon_chunk_engine *engine, axi_tick tick)
{
    const axi_player *player = &engine->player;
    return player->count == 0 || !has_steps(newest(player), tick);
}

static bool may_wait(const axon_chunk_engine *engine)
{
    if (engine->options.mode == AXON_CHUNK_BLOCKING) return true;
    return !engine->player.has_begun && !engine->options.no_wait;
}

/* The robot stands still meanwhile: on the caller's clock, if that is the real one, time has passed. */
static axon_status wait_for_chunk(axon_chunk_engine *engine, axi_tick *tick, axon_error *err)
{
    bool is_real = engine->is_timed && llabs(axi_now() - *tick) < SAME_CLOCK;
    axon_status status = AXON_OK;
    publish(engine, *tick);
    while (status == AXON_OK && is_empty(engine, *tick)) {
        status = axi_chunk_await(engine, err);
        if (is_real) *tick = axi_now();
        if (status == AXON_OK) status = take_delivery(engine, *tick, err);
        play_queued(engine, *tick);
    }
    return status;
}

static axon_status read_clock(axon_chunk_engine *engine, int64_t now, axi_tick *tick, axon_error *err)
{
    axi_player *player = &engine->player;
    *tick = player->tick;
    if (!engine->is_timed) return AXON_OK;
    if (now <= AXON_CHUNK_NOW) now = axi_now();
    if (now > AXI_CHUNK_MAX_TIME)
        return axi_fail(err, AXON_EINVAL, "now: %g s is too late", (double)now * 1e-9);
    if (player->has_tick && now < player->tick)
        return axi_fail(err, AXON_EINVAL, "now: %.6f s is %.6f s before that of the last call",
                        (double)now * 1e-9, (double)(player->tick - now) * 1e-9);
    *tick = now;
    return AXON_OK;
}

static axon_status find_action(axon_chunk_engine *engine, axi_tick *tick, axon_error *err)
{
    axon_status status = take_delivery(engine, *tick, err);
    if (status != AXON_OK) return status;
    play_queued(engine, *tick);
    if (is_empty(engine, *tick) && may_wait(engine)) status = wait_for_chunk(engine, tick, err);
    if (engine->options.mode == AXON_CHUNK_ENSEMBLE) drop_used_up(engine, *tick);
    return status;
}

/* The controller has spent `tick` on an action, or on none (AXON_CHUNK_RAISE). */
static void step_on(axon_chunk_engine *engine, axi_tick tick, bool is_starved)
{
    axi_player *player = &engine->player;
    player->tick = engine->is_timed ? tick : tick + 1;
    player->has_tick = true;
    player->is_starved = is_starved;
    axi_count_up(&engine->steps, 1);
    if (is_starved) axi_count_up(&engine->starved, 1);
}

static axon_status hand_out(axon_chunk_engine *engine, axi_tick tick, double *action, axon_error *err)
{
    axi_player *player = &engine->player;
    bool is_starved = is_empty(engine, tick);
    if (is_starved && !player->has_begun)
        return axi_fail(err, AXON_ETIMEOUT,
                        "no action yet: the first chunk of the episode is not here (no_wait)");
    if (!is_starved) {
        sample_all(engine, tick, action);
        memcpy(engine->layout->last, action, engine->layout->width * sizeof *action);
        player->has_begun = true;
    } else if (engine->options.on_empty != AXON_CHUNK_RAISE) {
        fill(engine, action);
    }
    step_on(engine, tick, is_starved);
    if (is_starved && engine->options.on_empty == AXON_CHUNK_RAISE)
        return axi_fail(err, AXON_ETIMEOUT, "no action: nothing is left of chunk %llu (on_empty)",
                        newest(player) ? (unsigned long long)newest(player)->number : 0ULL);
    return AXON_OK;
}

static void inform(const axon_chunk_engine *engine, axi_tick tick, axon_chunk_info *info)
{
    const axi_chunk *chunk = newest(&engine->player);
    *info = (axon_chunk_info){.chunk = chunk ? chunk->number : 0,
                              .step = chunk ? place_in(engine, chunk, tick) : 0.0,
                              .starved = engine->player.is_starved,
                              .wants = axon_chunk_wants(engine)};
}

static axon_status check_next(const axon_chunk_engine *engine, const double *action, axon_error *err)
{
    if (!engine) return axi_fail(err, AXON_EINVAL, "engine: it is NULL");
    return action ? AXON_OK : axi_fail(err, AXON_EINVAL, "action: it is NULL");
}

static axon_status next_action(axon_chunk_engine *engine, int64_t now, double *action, size_t room,
                               axon_chunk_info *info, axon_error *err)
{
    uint32_t generation = atomic_load_explicit(&engine->generation, memory_order_acquire);
    if (generation != engine->player.generation) begin_episode(engine, generation);
    axi_tick tick;
    axon_status status = read_clock(engine, now, &tick, err);
    if (status != AXON_OK) return status;
    status = find_action(engine, &tick, err);
    size_t width = atomic_load_explicit(&engine->width, memory_order_acquire);
    if (status == AXON_OK && room < width)
        status = axi_fail(err, AXON_EINVAL, "action: room for %zu numbers, an action has %zu", room, width);
    if (status == AXON_OK) status = hand_out(engine, tick, action, err);
    publish(engine, tick);
    if (status == AXON_OK && info) inform(engine, tick, info);
    return status;
}

axon_status axon_chunk_next(axon_chunk_engine *engine, int64_t now, double *action, size_t room,
                            axon_chunk_info *info, axon_error *err)
{
    axon_status status = check_next(engine, action, err);
    if (status != AXON_OK) return status;
    if (atomic_exchange_explicit(&engine->in_next, true, memory_order_acquire))
        return axi_fail(err, AXON_EINVAL, "engine: another thread is taking an action");
    status = next_action(engine, now, action, room, info, err);
    atomic_store_explicit(&engine->in_next, false, memory_order_release);
    return status;
}

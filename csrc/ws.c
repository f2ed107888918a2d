/* See ws.h. */
#include "ws_check.h"
#include "ws_dial.h"
#include "ws_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How often the thread that answers pings looks: servers allow seconds, 20 of them by default. */
#define TICK_MS 250

static atomic_bool forces_plain;
static atomic_int patience_ms = 20000;

void axi_ws_force_plain(bool plain)
{
    atomic_store(&forces_plain, plain);
}

void axi_ws_set_patience(int milliseconds)
{
    atomic_store(&patience_ms, milliseconds);
}

/* ---- the end of a connection --------------------------------------------------------------- */

void axi_ws_end(axi_ws *ws, axon_status status, const char *format, ...)
{
    if (ws->over != AXON_OK) return;
    ws->over = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ws->why, sizeof ws->why, format, arguments);
    va_end(arguments);
    axi_log(AXON_LOG_INFO, "%s: %s", ws->name, ws->why);
    axi_link_close(ws->link, false);
    ws->link = NULL;
}

axon_status axi_ws_fail_over(axi_ws *ws, axon_error *err)
{
    axon_status status = ws->over;
    ws->over = AXON_ECONNECT;
    return axi_fail(err, status, "%s: %s", ws->name, ws->why);
}

void axi_ws_abandon(axi_ws *ws, const char *reason)
{
    if (getpid() != ws->owner) return;
    pthread_mutex_lock(&ws->lock);
    if (ws->link) axi_ws_send_close(ws, AXI_WS_GOING_AWAY);
    axi_ws_end(ws, AXON_ECONNECT, "the connection was given up: %s", reason);
    axi_ws_free_messages(ws);
    pthread_mutex_unlock(&ws->lock);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* A peer whose machine went away must not be waited for until the deadline. That it takes no more is no such sign:
 * it still acknowledges. */
static void end_if_dead(axi_ws *ws)
{
    int limit_ms = atomic_load(&patience_ms);
    if (ws->link && axi_link_in_vain_ms(ws->link) > limit_ms)
        axi_ws_end(ws, AXON_ECONNECT,
                   "connection lost: the server's machine acknowledged nothing for %d ms", limit_ms);
}

/* Done every 250 ms and after a signal, so that an interpreter can act on Ctrl-C. It may take long: Python waits for
 * its lock, which another thread may hold for a minute. The other thread answers pings meanwhile. */
static axon_status look_up(axi_ws *ws, axon_error *err)
{
    pthread_mutex_unlock(&ws->lock);
    bool is_interrupted = axi_interrupted();
    pthread_mutex_lock(&ws->lock);
    ws->looked_up = axi_now();
    if (is_interrupted) return axi_fail(err, AXON_ECANCELED, "%s: interrupted", ws->name);
    end_if_dead(ws);
    return AXON_OK;
}

axon_status axi_ws_wait(axi_ws *ws, short events, axi_time deadline, short *ready, axon_error *err)
{
    struct pollfd watched[] = {{.fd = axi_link_fd(ws->link), .events = events},
                               {.fd = ws->wake_fd, .events = POLLIN}};
    int count = poll(watched, 2, axi_left_ms(deadline, AXI_LOOK_UP_MS));
    *ready = count > 0 ? watched[0].revents : 0;
    if (count > 0 && watched[1].revents) {
        eventfd_t ignored;
        eventfd_read(ws->wake_fd, &ignored);
    }
    if (atomic_load(&ws->is_cancelled)) return axi_fail(err, AXON_ECANCELED, "%s: cancelled", ws->name);
    if (count <= 0 || axi_now() - ws->looked_up > (axi_time)AXI_LOOK_UP_MS * 1000000) {
        axon_status status = look_up(ws, err);
        if (status != AXON_OK) return status;
    }
    if (count <= 0 && axi_left_ms(deadline, 1) == 0)
        return axi_fail(err, AXON_ETIMEOUT, "%s: the server is silent", ws->name);
    return AXON_OK;
}

/* ---- calls --------------------------------------------------------------------------------- */

static axon_status enter(axi_ws *ws, axon_error *err)
{
    if (getpid() != ws->owner)
        return axi_fail(err, AXON_EINVAL, "%s: the connection belongs to the parent of this process",
                        ws->name);
    pthread_mutex_lock(&ws->lock);
    ws->looked_up = axi_now();
    return AXON_OK;
}

static axon_status leave(axi_ws *ws, axon_status status)
{
    pthread_mutex_unlock(&ws->lock);
    return status;
}

void axi_ws_begin(axi_ws *ws)
{
    eventfd_t ignored;
    bool was_cancelled = atomic_exchange(&ws->is_cancelled, false);
    if (was_cancelled && getpid() == ws->owner) eventfd_read(ws->wake_fd, &ignored);
}

void axi_ws_cancel(axi_ws *ws)
{
    if (getpid() != ws->owner) return;
    atomic_store(&ws->is_cancelled, true);
    eventfd_write(ws->wake_fd, 1);
}

axon_status axi_ws_send(axi_ws *ws, const struct iovec *parts, size_t count, bool is_text,
                        axi_time deadline, axon_error *err)
{
    axon_status status = enter(ws, err);
    if (status != AXON_OK) return status;
    status = ws->link ? axi_ws_send_message(ws, parts, count, is_text ? AXI_WS_TEXT : AXI_WS_BINARY,
                                            deadline, err)
                      : axi_ws_fail_over(ws, err);
    return leave(ws, status);
}

static axon_status receive(axi_ws *ws, axi_ws_message *message, axi_time deadline, axon_error *err)
{
    for (bool in_time = true; !axi_ws_take(ws, message); in_time = axi_left_ms(deadline, 1) > 0) {
        if (!ws->link) return axi_ws_fail_over(ws, err);
        if (!in_time) return axi_fail(err, AXON_ETIMEOUT, "%s: no message", ws->name);
        short ready = POLLIN, events = axi_link_is_stuck(ws->link) ? POLLIN | POLLOUT : POLLIN;
        if (!axi_ws_has_unread(ws)) {
            axon_status status = axi_ws_wait(ws, events, deadline, &ready, err);
            if (status != AXON_OK) return status;
        }
        if (ready & POLLOUT) {
            axi_ws_flush(ws);
            axi_ws_send_pong(ws);
        }
        if (ready & ~POLLOUT) axi_ws_read_some(ws, true);
    }
    return AXON_OK;
}

axon_status axi_ws_receive(axi_ws *ws, axi_ws_message *message, axi_time deadline, axon_error *err)
{
    axon_status status = enter(ws, err);
    if (status != AXON_OK) return status;
    return leave(ws, receive(ws, message, deadline, err));
}

axon_status axi_ws_look(axi_ws *ws, bool *waiting, axon_error *err)
{
    axon_status status = enter(ws, err);
    if (status != AXON_OK) return status;
    if (ws->link && ws->queue.count == 0) axi_ws_read_some(ws, true);
    *waiting = ws->queue.count > 0 || (ws->link && axi_ws_reader_is_within(&ws->reader));
    if (!ws->link && !*waiting) status = axi_ws_fail_over(ws, err);
    return leave(ws, status);
}

bool axi_ws_has_begun(axi_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    bool has_begun = ws->queue.count > 0 || axi_ws_reader_is_within(&ws->reader);
    pthread_mutex_unlock(&ws->lock);
    return has_begun;
}

int axi_ws_silence_ms(axi_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    int silence_ms = ws->link ? axi_link_silence_ms(ws->link) : 0;
    pthread_mutex_unlock(&ws->lock);
    return silence_ms;
}

/* ---- the thread that answers pings --------------------------------------------------------- */

void axi_ws_attend(axi_ws *ws)
{
    if (pthread_mutex_trylock(&ws->lock) != 0) return; /* the caller is at work, and answers them himself */
    if (ws->link) {
        axi_ws_flush(ws);
        if (ws->link && axi_ws_has_room(ws)) axi_ws_read_some(ws, false);
        axi_ws_send_pong(ws);
        end_if_dead(ws);
    }
    pthread_mutex_unlock(&ws->lock);
}

void axi_ws_beat(axi_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    if (!ws->owes_pong) ws->pong_length = 0;
    ws->owes_pong = true;
    if (ws->link) axi_ws_send_pong(ws);
    pthread_mutex_unlock(&ws->lock);
}

static void tick(void *ws)
{
    axi_ws_attend(ws);
}

/* ---- opening and closing ------------------------------------------------------------------- */

static void release(axi_ws *ws, bool in_child)
{
    axi_link_close(ws->link, in_child);
    axi_ws_free_messages(ws);
    axi_ws_reader_free(&ws->reader);
    if (ws->wake_fd >= 0) close(ws->wake_fd);
    if (!in_child) { /* there, a thread that does not exist may hold them */
        pthread_mutex_destroy(&ws->lock);
    }
    free(ws->stage);
    free(ws->chunk);
    free(ws);
}

static axon_status prepare(axi_ws **ws, const char *url, const axi_ws_options *options, axon_error *err)
{
    axi_ws *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    pthread_mutex_init(&made->lock, NULL);
    made->owner = getpid();
    snprintf(made->name, sizeof made->name, "%s", url);
    made->reader.max_message_bytes = options->max_message_bytes;
    made->stage = malloc(AXI_WS_STAGE);
    made->chunk = malloc(AXI_WS_CHUNK);
    made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    axon_status status = AXON_OK;
    if (made->wake_fd < 0)
        status =
            axi_fail(err, AXON_ECONNECT, "%s: no descriptor to be had: %s", made->name, strerror(errno));
    else if (!made->stage || !made->chunk)
        status = axi_no_memory(err, AXI_WS_STAGE + AXI_WS_CHUNK);
    if (status == AXON_OK)
        *ws = made;
    else
        release(made, false);
    return status;
}

/* What came together with the answer to the upgrade is read first. */
static bool stage_early_bytes(axi_ws *ws)
{
    size_t length;
    const uint8_t *early = axi_link_early(ws->link, &length);
    if (length > AXI_WS_STAGE) {
        uint8_t *larger = realloc(ws->stage, length);
        if (!larger) return false;
        ws->stage = larger;
    }
    if (length) memcpy(ws->stage, early, length);
    ws->stage_end = length;
    return true;
}

static axon_status connect_and_start(axi_ws *ws, const axi_ws_options *options, axi_time deadline,
                                     axon_error *err)
{
    axon_error failure;
    axon_status status = axi_ws_dial(&ws->link, &ws->url, options, deadline, &failure);
    if (status != AXON_OK) {
        axi_fail(err, status, "%s: %s", ws->name, failure.message);
        if (err) err->http_status = failure.http_status;
        return status;
    }
    if (!stage_early_bytes(ws)) return axi_no_memory(err, AXI_WS_STAGE);
    ws->is_plain = atomic_load(&forces_plain) || !axi_link_passes_bytes();
    if (!options->is_attended && !axi_ticker_start(&ws->ticker, TICK_MS, tick, ws))
        return axi_fail(err, AXON_ENOMEM, "%s: no thread could be started to answer pings", ws->name);
    axi_log(AXON_LOG_INFO, "%s: connected", ws->name);
    return AXON_OK;
}

axon_status axi_ws_open(axi_ws **ws, const char *url, const axi_ws_options *options, axi_time deadline,
                        axon_error *err)
{
    axi_ws *made = NULL;
    axon_status status = prepare(&made, url, options, err);
    if (status != AXON_OK) return status;
    status = axi_ws_url_read(&made->url, url, err);
    if (status == AXON_OK) status = connect_and_start(made, options, deadline, err);
    if (status != AXON_OK) {
        release(made, false);
        return status;
    }
    *ws = made;
    return AXON_OK;
}

/* Messages that still come are not wanted any more. Ends when the peer has said goodbye, too. */
static void say_goodbye(axi_ws *ws, axi_time deadline)
{
    for (bool in_time = true; in_time && ws->link; in_time = axi_left_ms(deadline, 1) > 0) {
        axi_ws_send_close(ws, AXI_WS_NORMAL);
        struct pollfd socket = {.fd = axi_link_fd(ws->link), .events = POLLIN};
        if (axi_link_is_stuck(ws->link)) socket.events |= POLLOUT;
        if (!axi_ws_has_unread(ws)) poll(&socket, 1, axi_left_ms(deadline, AXI_LOOK_UP_MS));
        axi_ws_flush(ws);
        if (ws->link) axi_ws_read_some(ws, false);
        axi_ws_free_messages(ws);
    }
}

void axi_ws_close(axi_ws *ws, axi_time deadline)
{
    if (!ws) return;
    bool in_child = getpid() != ws->owner;
    if (!in_child) {
        axi_ticker_stop(&ws->ticker);
        say_goodbye(ws, deadline);
    }
    release(ws, in_child);
}

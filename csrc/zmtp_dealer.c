/* See zmtp_dealer.h. */
#include "zmtp_dealer.h"

#include "quick_poll.h"
#include "spare.h"
#include "tcp.h"
#include "ticker.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    DRAINED = 1 << 16 /* bytes thrown away at a time */
};

struct axi_dealer {
    const char *name;
    int wake_fd;
    const atomic_bool *is_cancelled;
    axi_ticker ticker;
    pthread_mutex_t lock; /* guards the rest */
    axi_zmtp zmtp;
    axi_time looked_up;
    axi_quick quick;
};

/* ---- waiting ------------------------------------------------------------------------------- */

/* With the lock held, which is let go of to ask for interrupts: that may take as long as Python likes. */
static axon_status look_up(axi_dealer *dealer, axon_error *err)
{
    pthread_mutex_unlock(&dealer->lock);
    bool is_interrupted = axi_interrupted();
    pthread_mutex_lock(&dealer->lock);
    dealer->looked_up = axi_now();
    if (is_interrupted) return axi_fail(err, AXON_ECANCELED, "%s: interrupted", dealer->name);
    if (axi_tcp_in_vain_ms(dealer->zmtp.fd) > AXI_ZMTP_DEAD_MS)
        axi_zmtp_break(&dealer->zmtp, false, "the server's machine acknowledged nothing for %d ms",
                       AXI_ZMTP_DEAD_MS);
    return AXON_OK;
}

/* Waits for one of `events`, for a while. AXON_ETIMEOUT, whatever has come, lacks its text. */
static axon_status wait_for(axi_dealer *dealer, short events, axi_time deadline, axon_error *err)
{
    struct pollfd watched[] = {{.fd = dealer->zmtp.fd, .events = events},
                               {.fd = dealer->wake_fd, .events = POLLIN}};
    int left_ms = axi_left_ms(deadline, AXI_LOOK_UP_MS);
    int count = axi_quick_poll(&dealer->quick, watched, 2, left_ms);
    if (atomic_load(dealer->is_cancelled))
        return axi_fail(err, AXON_ECANCELED, "%s: cancelled", dealer->name);
    if (count <= 0 || axi_now() - dealer->looked_up > (axi_time)AXI_LOOK_UP_MS * 1000000) {
        axon_status status = look_up(dealer, err);
        if (status != AXON_OK) return status;
    }
    return left_ms > 0 ? AXON_OK : AXON_ETIMEOUT;
}

static short events_of(const axi_zmtp *zmtp)
{
    return axi_zmtp_has_unsent(zmtp) ? POLLIN | POLLOUT : POLLIN;
}

static axon_status fail_over(axi_dealer *dealer, const char *when, axon_error *err)
{
    return axi_fail(err, AXON_ECONNECT, "%s: the connection was lost %s: %s", dealer->name, when,
                    dealer->zmtp.why);
}

/* ---- the thread that answers pings --------------------------------------------------------- */

static void attend(void *argument)
{
    axi_dealer *dealer = argument;
    dealer->ticker.period_ms = axi_zmtp_tick_ms(&dealer->zmtp);
    if (pthread_mutex_trylock(&dealer->lock) != 0)
        return; /* a call is under way, and answers them itself */
    axi_zmtp_flush(&dealer->zmtp);
    axi_zmtp_read(&dealer->zmtp, AXI_ZMTP_WAITING);
    pthread_mutex_unlock(&dealer->lock);
}

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status fail_to_connect(axi_dealer *dealer, int reason, axon_error *err)
{
    return axi_fail(err, AXON_ECONNECT, "%s: %s", dealer->name, strerror(reason));
}

static axon_status connect_to(axi_dealer *dealer, const axi_dealer_target *target, axi_time deadline,
                              axon_error *err)
{
    axi_zmtp *zmtp = &dealer->zmtp;
    zmtp->fd = socket(target->address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (zmtp->fd < 0) return fail_to_connect(dealer, errno, err);
    if (connect(zmtp->fd, target->address, target->address_length) == 0) return AXON_OK;
    if (errno != EINPROGRESS) return fail_to_connect(dealer, errno, err);
    for (struct pollfd writable = {.fd = zmtp->fd, .events = POLLOUT}; poll(&writable, 1, 0) <= 0;) {
        axon_status status = wait_for(dealer, POLLOUT, deadline, err);
        if (status == AXON_ETIMEOUT) axi_fail(err, status, "%s: no answer", dealer->name);
        if (status != AXON_OK) return status;
    }
    int reason = 0;
    socklen_t size = sizeof reason;
    getsockopt(zmtp->fd, SOL_SOCKET, SO_ERROR, &reason, &size);
    return reason ? fail_to_connect(dealer, reason, err) : AXON_OK;
}

static axon_status greet(axi_dealer *dealer, uint64_t max_bytes, axi_time deadline, axon_error *err)
{
    axi_zmtp *zmtp = &dealer->zmtp;
    axi_tcp_tune(zmtp->fd);
    if (!axi_zmtp_begin(zmtp, zmtp->fd, false, max_bytes, NULL)) return axi_no_memory(err, sizeof *zmtp);
    while (zmtp->stage < AXI_ZMTP_READY) {
        axon_status status = wait_for(dealer, events_of(zmtp), deadline, err);
        if (status == AXON_ETIMEOUT)
            axi_fail(err, status, "%s: somebody listens there and did not answer ZeroMQ's greeting",
                     dealer->name);
        if (status != AXON_OK) return status;
        axi_zmtp_flush(zmtp);
        axi_zmtp_read(zmtp, 1);
    }
    if (zmtp->stage == AXI_ZMTP_READY) return AXON_OK;
    if (!zmtp->is_stranger) return fail_over(dealer, "before it stood", err);
    return axi_fail(err, AXON_EPROTOCOL, "%s: what listens there is no ZeroMQ server for us: %s",
                    dealer->name, zmtp->why);
}

axon_status axi_dealer_open(axi_dealer **dealer, const axi_dealer_target *target, axi_time deadline,
                            axon_error *err)
{
    axi_dealer *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->name = target->name;
    made->zmtp.fd = -1;
    made->wake_fd = target->wake_fd;
    made->is_cancelled = target->is_cancelled;
    pthread_mutex_init(&made->lock, NULL);
    pthread_mutex_lock(&made->lock);
    axon_status status = connect_to(made, target, deadline, err);
    if (status == AXON_OK) status = greet(made, target->max_bytes, deadline, err);
    pthread_mutex_unlock(&made->lock);
    if (status == AXON_OK && !axi_ticker_start(&made->ticker, AXI_ZMTP_QUICK_TICK_MS, attend, made))
        status = axi_fail(err, AXON_ENOMEM, "%s: no thread could be started to answer pings", made->name);
    if (status == AXON_OK)
        *dealer = made;
    else
        axi_dealer_close(made, false);
    return status;
}

/* ---- messages ------------------------------------------------------------------------------ */

/* With the lock held. What comes meanwhile is read: two peers that both only write would wait for each other. */
static axon_status send_all(axi_dealer *dealer, axi_zmtp_outgoing *outgoing, axi_time deadline,
                            axon_error *err)
{
    axi_zmtp *zmtp = &dealer->zmtp;
    for (;;) {
        axi_zmtp_sent sent = axi_zmtp_send(zmtp, outgoing);
        if (sent == AXI_ZMTP_SENT) return AXON_OK;
        if (sent == AXI_ZMTP_LOST) return fail_over(dealer, "while a request was sent", err);
        bool has_room = zmtp->count < AXI_ZMTP_WAITING;
        axon_status status = wait_for(dealer, has_room ? POLLIN | POLLOUT : POLLOUT, deadline, err);
        if (status == AXON_ETIMEOUT)
            axi_fail(err, status, "%s: the server takes no more: %" PRIu64 " bytes are left", dealer->name,
                     outgoing->left);
        if (status != AXON_OK) return status;
        axi_zmtp_read(zmtp, AXI_ZMTP_WAITING);
    }
}

axon_status axi_dealer_send(axi_dealer *dealer, const struct iovec *parts, size_t count, axi_time deadline,
                            axon_error *err)
{
    axi_zmtp_outgoing outgoing;
    axi_zmtp_prepare(&outgoing, false, parts, count);
    pthread_mutex_lock(&dealer->lock);
    axon_status status = send_all(dealer, &outgoing, deadline, err);
    if (status != AXON_OK) axi_zmtp_break(&dealer->zmtp, false, "a message was left half sent");
    pthread_mutex_unlock(&dealer->lock);
    return status;
}

static axon_status receive(axi_dealer *dealer, axi_zmtp_message *message, axi_time deadline,
                           axon_error *err)
{
    axi_zmtp *zmtp = &dealer->zmtp;
    while (axi_zmtp_take(zmtp, message) == AXI_ZMTP_NOTHING) {
        if (zmtp->stage == AXI_ZMTP_OVER) return fail_over(dealer, "before the reply came", err);
        if (!axi_zmtp_has_unread(zmtp)) {
            axon_status status = wait_for(dealer, events_of(zmtp), deadline, err);
            if (status != AXON_OK) return status;
        }
        axi_zmtp_flush(zmtp);
        axi_zmtp_read(zmtp, 1);
    }
    return AXON_OK;
}

axon_status axi_dealer_receive(axi_dealer *dealer, axi_zmtp_message *message, axi_time deadline,
                               axon_error *err)
{
    pthread_mutex_lock(&dealer->lock);
    axon_status status = receive(dealer, message, deadline, err);
    pthread_mutex_unlock(&dealer->lock);
    return status;
}

bool axi_dealer_look(axi_dealer *dealer, axi_zmtp_found *found, axi_zmtp_message *message)
{
    pthread_mutex_lock(&dealer->lock);
    axi_zmtp_read(&dealer->zmtp, 1);
    *found = axi_zmtp_take(&dealer->zmtp, message);
    bool stands = dealer->zmtp.stage == AXI_ZMTP_READY;
    pthread_mutex_unlock(&dealer->lock);
    return stands;
}

/* ---- ending -------------------------------------------------------------------------------- */

/* A socket that is closed while something waits to be read takes back what the peer has not read. */
void axi_dealer_finish(axi_dealer *dealer, axi_time deadline)
{
    axi_ticker_stop(&dealer->ticker);
    shutdown(dealer->zmtp.fd, SHUT_WR);
    uint8_t *unwanted = malloc(DRAINED);
    struct pollfd readable = {.fd = dealer->zmtp.fd, .events = POLLIN};
    while (unwanted && poll(&readable, 1, axi_left_ms(deadline, INT32_MAX)) > 0 &&
           recv(readable.fd, unwanted, DRAINED, MSG_DONTWAIT) > 0)
        continue;
    free(unwanted);
}

void axi_dealer_close(axi_dealer *dealer, bool in_child)
{
    if (!dealer) return;
    if (!in_child) axi_ticker_stop(&dealer->ticker);
    if (!in_child) axi_zmtp_hang_up(&dealer->zmtp);
    axi_zmtp_end(&dealer->zmtp);
    if (!in_child) pthread_mutex_destroy(&dealer->lock);
    free(dealer);
}

/* See zmq_socket.h. */
#include "zmq_socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

_Static_assert(sizeof(zmq_msg_t) <= sizeof(axi_zmq_frame), "a frame holds libzmq's message");

enum {
    CALLS_AHEAD = 16,    /* messages that one peer may have on the way, in each direction */
    HEARTBEAT_MS = 5000, /* a peer whose machine answers none of them for three times that is gone */
    BACKLOG = 128
};

/* libzmq's options are ints and int64_t; none of these can fail on a socket that has just been made. */
static void set(void *socket, int option, int number)
{
    zmq_setsockopt(socket, option, &number, sizeof number);
}

static void set_common(void *socket, const char *endpoint, uint64_t max_bytes)
{
    int64_t most = max_bytes < INT64_MAX ? (int64_t)max_bytes : INT64_MAX;
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    set(socket, ZMQ_LINGER, 0);
    set(socket, ZMQ_SNDHWM, CALLS_AHEAD);
    set(socket, ZMQ_RCVHWM, CALLS_AHEAD);
    set(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set(socket, ZMQ_HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS);
    set(socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
}

static axon_status fail(axon_error *err, const char *what)
{
    int reason = errno;
    if (reason == ENOMEM) return axi_fail(err, AXON_ENOMEM, "%s: out of memory", what);
    return axi_fail(err, AXON_EIO, "%s: %s", what, zmq_strerror(reason));
}

/* ---- contexts ------------------------------------------------------------------------------ */

axi_zmq_context *axi_zmq_context_new(void)
{
    return zmq_ctx_new();
}

void axi_zmq_context_free(axi_zmq_context *context)
{
    while (context && zmq_ctx_term(context) < 0 && errno == EINTR)
        continue;
}

/* ---- frames -------------------------------------------------------------------------------- */

static zmq_msg_t *of(axi_zmq_frame *frame)
{
    return (zmq_msg_t *)(void *)frame->storage;
}

axon_status axi_zmq_gather(axi_zmq_frame *frame, const axi_message *message, axon_error *err)
{
    if (message->length > SIZE_MAX || zmq_msg_init_size(of(frame), (size_t)message->length) < 0)
        return axi_no_memory(err, message->length);
    uint8_t *to = zmq_msg_data(of(frame));
    for (size_t i = 0; i < message->count; to += message->parts[i].iov_len, i++)
        if (message->parts[i].iov_len) memcpy(to, message->parts[i].iov_base, message->parts[i].iov_len);
    return AXON_OK;
}

void axi_zmq_drop(axi_zmq_frame *frame)
{
    zmq_msg_close(of(frame));
}

size_t axi_zmq_size(const axi_zmq_frame *frame)
{
    return zmq_msg_size((const zmq_msg_t *)(const void *)frame->storage);
}

void axi_zmq_give(void *frame)
{
    if (!frame) return;
    axi_zmq_drop(frame);
    free(frame);
}

void *axi_zmq_take(axon_value *root, void **data, size_t *length)
{
    axi_zmq_frame *frame = axi_value_take_message(root).memory;
    *data = frame ? zmq_msg_data(of(frame)) : NULL;
    *length = frame ? axi_zmq_size(frame) : 0;
    return frame;
}

axon_status axi_zmq_unpack(axi_zmq_frame *frame, const char *subject, axon_value **value, axon_error *err)
{
    axi_zmq_frame *kept = malloc(sizeof *kept);
    if (!kept) {
        axi_zmq_drop(frame);
        return axi_no_memory(err, sizeof *kept);
    }
    zmq_msg_init(of(kept));
    zmq_msg_move(of(kept), of(frame));
    const axi_backing backing = {kept, axi_zmq_give};
    return axi_unpack_on(zmq_msg_data(of(kept)), zmq_msg_size(of(kept)), backing, subject, value, err);
}

/* One frame; false when there is none. */
static bool receive_frame(void *socket, axi_zmq_frame *frame)
{
    zmq_msg_init(of(frame));
    while (zmq_msg_recv(of(frame), socket, ZMQ_DONTWAIT) < 0) {
        if (errno == EINTR) continue;
        zmq_msg_close(of(frame));
        return false;
    }
    return true;
}

/* What follows: the rest of a message is there as soon as its beginning is. */
static axi_zmq_found receive_body(void *socket, axi_zmq_frame *body, bool *is_bare)
{
    if (!receive_frame(socket, body)) return AXI_ZMQ_NOTHING;
    *is_bare = true;
    if (zmq_msg_more(of(body)) && zmq_msg_size(of(body)) == 0) {
        axi_zmq_drop(body);
        *is_bare = false;
        if (!receive_frame(socket, body)) return AXI_ZMQ_NOTHING;
    }
    if (!zmq_msg_more(of(body))) return AXI_ZMQ_BODY;
    while (zmq_msg_more(of(body))) {
        axi_zmq_drop(body);
        if (!receive_frame(socket, body)) return AXI_ZMQ_ODD;
    }
    axi_zmq_drop(body);
    return AXI_ZMQ_ODD;
}

static bool send_frame(void *socket, axi_zmq_frame *frame, int flags)
{
    int sent;
    while ((sent = zmq_msg_send(of(frame), socket, flags | ZMQ_DONTWAIT)) < 0 && errno == EINTR)
        continue;
    return sent >= 0;
}

static bool send_bytes(void *socket, const void *bytes, size_t length)
{
    int sent;
    while ((sent = zmq_send(socket, bytes, length, ZMQ_SNDMORE | ZMQ_DONTWAIT)) < 0 && errno == EINTR)
        continue;
    return sent >= 0;
}

/* ---- a client's ---------------------------------------------------------------------------- */

struct axi_dealer {
    void *socket;
    void *events; /* what libzmq reports of its connection */
    axi_dealer_state state;
};

/* Contexts are shared by several sockets, one after the other: each reports under a name of its own. */
static bool watch(axi_dealer *dealer, axi_zmq_context *context)
{
    static atomic_uint count;
    char name[48];
    const int wanted = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                       ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    snprintf(name, sizeof name, "inproc://events-%u", atomic_fetch_add(&count, 1));
    if (zmq_socket_monitor(dealer->socket, name, wanted) < 0) return false;
    dealer->events = zmq_socket(context, ZMQ_PAIR);
    return dealer->events && zmq_connect(dealer->events, name) == 0;
}

axon_status axi_dealer_open(axi_dealer **dealer, axi_zmq_context *context, const char *endpoint,
                            uint64_t max_bytes, axon_error *err)
{
    axi_dealer *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axon_status status = AXON_OK;
    made->socket = zmq_socket(context, ZMQ_DEALER);
    if (!made->socket || !watch(made, context)) status = fail(err, "a ZeroMQ socket");
    if (status == AXON_OK) {
        set_common(made->socket, endpoint, max_bytes);
        set(made->socket, ZMQ_IMMEDIATE, 1);
        set(made->socket, ZMQ_RECONNECT_IVL, -1);
        set(made->socket, ZMQ_HANDSHAKE_IVL, 0);
        if (zmq_connect(made->socket, endpoint) < 0) status = fail(err, endpoint);
    }
    if (status == AXON_OK)
        *dealer = made;
    else
        axi_dealer_close(made, 0);
    return status;
}

static void note(axi_dealer *dealer, unsigned event)
{
    bool was_ready = dealer->state == AXI_DEALER_READY;
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        dealer->state = AXI_DEALER_CONNECTED;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        dealer->state = AXI_DEALER_READY;
        break;
    case ZMQ_EVENT_CLOSED:
        if (dealer->state == AXI_DEALER_DIALING) dealer->state = AXI_DEALER_REFUSED;
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (dealer->state < AXI_DEALER_REFUSED)
            dealer->state = was_ready ? AXI_DEALER_LOST : AXI_DEALER_STRANGER;
        break;
    default: /* the handshake failed */
        dealer->state = AXI_DEALER_STRANGER;
        break;
    }
}

/* An event is two frames, the first of which begins with its number. */
axi_dealer_state axi_dealer_look(axi_dealer *dealer)
{
    axi_zmq_frame event, address;
    while (receive_frame(dealer->events, &event)) {
        uint16_t number = 0;
        if (axi_zmq_size(&event) >= sizeof number) memcpy(&number, zmq_msg_data(of(&event)), sizeof number);
        bool has_address = zmq_msg_more(of(&event));
        axi_zmq_drop(&event);
        if (has_address && receive_frame(dealer->events, &address)) axi_zmq_drop(&address);
        note(dealer, number);
    }
    return dealer->state;
}

/* A peer of ZMTP 2 may send before libzmq says that it is there: nobody takes that yet, so it is not waited for. */
bool axi_dealer_wait(axi_dealer *dealer, int wake_fd, int wait_ms)
{
    zmq_pollitem_t items[] = {{.socket = dealer->events, .events = ZMQ_POLLIN},
                              {.fd = wake_fd, .events = ZMQ_POLLIN},
                              {.socket = dealer->socket, .events = ZMQ_POLLIN}};
    return zmq_poll(items, dealer->state == AXI_DEALER_READY ? 3 : 2, wait_ms) > 0;
}

bool axi_dealer_send(axi_dealer *dealer, axi_zmq_frame *body)
{
    return send_bytes(dealer->socket, "", 0) && send_frame(dealer->socket, body, 0);
}

axi_zmq_found axi_dealer_receive(axi_dealer *dealer, axi_zmq_frame *body)
{
    bool is_bare;
    return receive_body(dealer->socket, body, &is_bare);
}

static void close_socket(void *socket, int linger_ms)
{
    if (!socket) return;
    set(socket, ZMQ_LINGER, linger_ms);
    zmq_close(socket);
}

void axi_dealer_close(axi_dealer *dealer, int linger_ms)
{
    if (!dealer) return;
    if (dealer->socket) zmq_socket_monitor(dealer->socket, NULL, 0);
    close_socket(dealer->events, 0);
    close_socket(dealer->socket, linger_ms);
    free(dealer);
}

/* ---- a server's ---------------------------------------------------------------------------- */

struct axi_router {
    void *socket;
    int fd;
    char endpoint[256];
};

axon_status axi_router_open(axi_router **router, axi_zmq_context *context, const char *endpoint,
                            uint64_t max_bytes, axon_error *err)
{
    axi_router *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axon_status status = AXON_OK;
    size_t fd_size = sizeof made->fd, room = sizeof made->endpoint;
    made->socket = zmq_socket(context, ZMQ_ROUTER);
    if (!made->socket) status = fail(err, "a ZeroMQ socket");
    if (status == AXON_OK) {
        set_common(made->socket, endpoint, max_bytes);
        set(made->socket, ZMQ_ROUTER_MANDATORY, 1);
        set(made->socket, ZMQ_BACKLOG, BACKLOG);
        if (zmq_bind(made->socket, endpoint) < 0 ||
            zmq_getsockopt(made->socket, ZMQ_LAST_ENDPOINT, made->endpoint, &room) < 0 ||
            zmq_getsockopt(made->socket, ZMQ_FD, &made->fd, &fd_size) < 0)
            status = fail(err, endpoint);
    }
    if (status == AXON_OK)
        *router = made;
    else
        axi_router_close(made, 0);
    return status;
}

const char *axi_router_endpoint(const axi_router *router)
{
    return router->endpoint;
}

int axi_router_fd(const axi_router *router)
{
    return router->fd;
}

bool axi_router_has(axi_router *router)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(router->socket, ZMQ_EVENTS, &events, &size) == 0 && events & ZMQ_POLLIN;
}

axi_zmq_found axi_router_receive(axi_router *router, axi_zmq_peer *peer, axi_zmq_frame *body)
{
    axi_zmq_frame name;
    if (!receive_frame(router->socket, &name)) return AXI_ZMQ_NOTHING;
    size_t length = axi_zmq_size(&name);
    bool is_known = length > 0 && length <= sizeof peer->name && zmq_msg_more(of(&name));
    peer->length = (uint8_t)(is_known ? length : 0);
    if (is_known) memcpy(peer->name, zmq_msg_data(of(&name)), length);
    axi_zmq_drop(&name);
    return is_known ? receive_body(router->socket, body, &peer->is_bare) : AXI_ZMQ_ODD;
}

bool axi_router_send(axi_router *router, const axi_zmq_peer *peer, axi_zmq_frame *body)
{
    bool sent = send_bytes(router->socket, peer->name, peer->length) &&
                (peer->is_bare || send_bytes(router->socket, "", 0)) && send_frame(router->socket, body, 0);
    if (!sent) axi_zmq_drop(body);
    return sent;
}

void axi_router_close(axi_router *router, int linger_ms)
{
    if (!router) return;
    close_socket(router->socket, linger_ms);
    free(router);
}

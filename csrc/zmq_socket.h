/* The door to libzmq: a client's socket that knows what became of its connection, and a server's.
 *
 * libzmq works on threads of its own, one pair for each context. Nothing here blocks but axi_dealer_wait() and the
 * two that close; one thread at a time uses a socket, the owner sees to it. */
#ifndef AXI_ZMQ_SOCKET_H
#define AXI_ZMQ_SOCKET_H

#include "pack.h"

/* The threads, and the memory that messages in flight lie in. NULL when there are no more of them. */
typedef struct axi_zmq_context axi_zmq_context;

axi_zmq_context *axi_zmq_context_new(void);
/* After all of its sockets were closed; what they have left to send has until then gone, or is dropped. */
void axi_zmq_context_free(axi_zmq_context *context);

/* ---- frames -------------------------------------------------------------------------------- */

/* One message, with libzmq's own memory. */
typedef struct axi_zmq_frame {
    _Alignas(16) unsigned char storage[64];
} axi_zmq_frame;

/* Gathers a message into a frame: ZeroMQ sends one from one piece of memory. */
axon_status axi_zmq_gather(axi_zmq_frame *frame, const axi_message *message, axon_error *err);
void axi_zmq_drop(axi_zmq_frame *frame);
size_t axi_zmq_size(const axi_zmq_frame *frame);

/* Reads a frame, which is the call's, without copying it: the tree keeps it. */
axon_status axi_zmq_unpack(axi_zmq_frame *frame, const char *subject, axon_value **value, axon_error *err);

/* Takes the frame out of a tree that axi_zmq_unpack() made, which is not to be looked at after the frame was given
 * back with axi_zmq_give(): where its bytes are, and how many. NULL when the tree has none. */
void *axi_zmq_take(axon_value *root, void **data, size_t *length);
void axi_zmq_give(void *frame);

/* What a look for a message may find. */
typedef enum {
    AXI_ZMQ_NOTHING,
    AXI_ZMQ_BODY, /* a frame, behind an empty one or alone */
    AXI_ZMQ_ODD   /* more frames than that; they are dropped */
} axi_zmq_found;

/* ---- a client's ---------------------------------------------------------------------------- */

typedef struct axi_dealer axi_dealer;

typedef enum {
    AXI_DEALER_DIALING,   /* nobody has answered yet */
    AXI_DEALER_CONNECTED, /* somebody listens, and has not said ZeroMQ's greeting yet */
    AXI_DEALER_READY,
    AXI_DEALER_REFUSED,  /* nobody listens, or the system knows no way */
    AXI_DEALER_STRANGER, /* what listens does not speak ZeroMQ, or is no server */
    AXI_DEALER_LOST      /* it was ready */
} axi_dealer_state;

/* Begins to connect; tries once. A reply of more than `max_bytes` ends the connection. */
axon_status axi_dealer_open(axi_dealer **dealer, axi_zmq_context *context, const char *endpoint,
                            uint64_t max_bytes, axon_error *err);

/* How things stand now. */
axi_dealer_state axi_dealer_look(axi_dealer *dealer);

/* Until there may be something to look at or to receive, or `wake_fd` can be read, or `wait_ms` have passed: only
 * then, or when a signal came, false. */
bool axi_dealer_wait(axi_dealer *dealer, int wake_fd, int wait_ms);

/* Queues an empty frame and `body`, which is the call's when it says true. */
bool axi_dealer_send(axi_dealer *dealer, axi_zmq_frame *body);

axi_zmq_found axi_dealer_receive(axi_dealer *dealer, axi_zmq_frame *body);

/* What is queued has `linger_ms` from when the context is freed. NULL is fine. */
void axi_dealer_close(axi_dealer *dealer, int linger_ms);

/* ---- a server's ---------------------------------------------------------------------------- */

typedef struct axi_router axi_router;

/* Whom a message is from, and how its sender frames messages. */
typedef struct axi_zmq_peer {
    uint8_t length;
    bool is_bare; /* it sends no empty frame first, and gets none */
    uint8_t name[255];
} axi_zmq_peer;

/* Listens. `endpoint` is "tcp://address:port", port 0 being any, or "ipc://path". */
axon_status axi_router_open(axi_router **router, axi_zmq_context *context, const char *endpoint,
                            uint64_t max_bytes, axon_error *err);

/* Where it listens, "tcp://127.0.0.1:5555". Lives as long as the router. */
const char *axi_router_endpoint(const axi_router *router);

/* Becomes readable when axi_router_has() may have become true, once: look until it is false before waiting again, and
 * after each axi_router_send(). */
int axi_router_fd(const axi_router *router);
bool axi_router_has(axi_router *router);

axi_zmq_found axi_router_receive(axi_router *router, axi_zmq_peer *peer, axi_zmq_frame *body);

/* Queues a message, which is the call's also when it fails: the peer is gone, or reads nothing. */
bool axi_router_send(axi_router *router, const axi_zmq_peer *peer, axi_zmq_frame *body);

/* As axi_dealer_close(). */
void axi_router_close(axi_router *router, int linger_ms);

#endif

/* A WebSocket server: many clients, one thread of its own. What is said is its owner's affair.
 *
 *   ws_server.c   listening, the thread, memory     ws_peer.c  one client's connection
 *   ws_arrival.c  clients that are not upgraded     ws_gate.c  the door to libwebsockets: HTTP and the upgrade
 *   ws_frame.c and mask.c: our framing
 *
 * An echo server is: ask() returns 0, received() sends the message back with axi_ws_peer_send(), frees its data and
 * calls axi_ws_server_release() with its length (tests/autobahn/echo_server.c).
 *
 * Threads  Events come on the server's thread, with no lock held. Whatever is for other threads says so.
 * Forks    In the child only axi_ws_server_close(), which closes the child's descriptors and sends nothing. */
#ifndef AXI_WS_SERVER_H
#define AXI_WS_SERVER_H

#include "ws.h"
#include "ws_gate.h"

typedef struct axi_ws_server axi_ws_server;
typedef struct axi_ws_peer axi_ws_peer;

typedef struct axi_ws_server_options {
    const char *host;
    uint16_t port; /* 0: one that is free */
    uint32_t max_connections;
    uint64_t max_message_bytes;
    uint64_t max_memory_bytes; /* of all messages, in and out, that nobody has released */
    uint64_t max_queue_bytes;  /* of what one client has not taken yet */
    uint32_t ping_interval_ms;
    uint32_t dead_after_ms;
} axi_ws_server_options;

typedef struct axi_ws_server_events {
    /* An HTTP request: 0 lets an upgrade happen, any other status answers with `*text`. */
    int (*ask)(void *user, const axi_http_asked *asked, const char **text);
    /* A client is here. False: no memory, it is hung up on, without closed(). */
    bool (*opened)(void *user, axi_ws_peer *peer);
    /* `message` is the callee's; its length counts as memory until axi_ws_server_release(). */
    void (*received)(void *user, axi_ws_peer *peer, axi_ws_message *message);
    /* All that was to be sent is. */
    void (*drained)(void *user, axi_ws_peer *peer);
    void (*closed)(void *user, axi_ws_peer *peer);
    /* After axi_ws_server_wake(), and four times a second. */
    void (*woken)(void *user);
    /* A client that could not be let in, or said nothing for too long. */
    void (*refused)(void *user);
} axi_ws_server_events;

/* Listens, and starts the thread. AXON_EIO, AXON_EINVAL (no such host). */
axon_status axi_ws_server_open(axi_ws_server **server, const axi_ws_server_options *options,
                               const axi_ws_server_events *events, void *user, axon_error *err);
uint16_t axi_ws_server_port(const axi_ws_server *server);

/* "ws://127.0.0.1:8000", of the host that it was opened with: malloc'ed. NULL when memory ran out. */
char *axi_ws_server_url(const axi_ws_server *server, const char *host);

/* Any thread, signal handlers too. */
void axi_ws_server_wake(axi_ws_server *server);

/* So many bytes of received messages are free again. Any thread. */
void axi_ws_server_release(axi_ws_server *server, uint64_t bytes);

/* Takes no new clients; the server's thread. */
void axi_ws_server_stop_listening(axi_ws_server *server);

/* Clients that are connected. Any thread. */
unsigned axi_ws_server_count(const axi_ws_server *server);

/* Drops whoever is still connected, ends the thread and frees everything but peers that are kept, which outlive it
 * safely. NULL is fine. */
void axi_ws_server_close(axi_ws_server *server, bool in_child);

/* ---- one client; from any thread that keeps it ----------------------------------------------- */

void axi_ws_peer_keep(axi_ws_peer *peer);
void axi_ws_peer_drop(axi_ws_peer *peer);

/* The owner's pointer: set in opened(). */
void axi_ws_peer_set_user(axi_ws_peer *peer, void *user);
void *axi_ws_peer_user(const axi_ws_peer *peer);
const char *axi_ws_peer_name(const axi_ws_peer *peer); /* "127.0.0.1:53412" */
const char *axi_ws_peer_path(const axi_ws_peer *peer);
const char *
axi_ws_peer_agent(const axi_ws_peer *peer); /* the User-Agent header; empty when there is none */

/* Sends what the socket takes at once, from where it lies, and keeps a copy of the rest: never waits.
 * AXON_ECONNECT: it is gone, or close was called. AXON_ETOOBIG (max_queue_bytes) and AXON_ENOMEM: nothing was sent. */
axon_status axi_ws_peer_send(axi_ws_peer *peer, const struct iovec *parts, size_t count, bool is_text);

/* Bytes that the client has not taken yet. */
uint64_t axi_ws_peer_pending(axi_ws_peer *peer);

/* Says goodbye behind all that was sent; nothing is sent after it. */
void axi_ws_peer_close(axi_ws_peer *peer, int code, const char *reason);

/* Reads nothing more from this client until it is set free. */
void axi_ws_peer_hold(axi_ws_peer *peer, bool on);

bool axi_ws_peer_is_gone(const axi_ws_peer *peer);

#endif

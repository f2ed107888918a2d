/* One WebSocket connection of a client, driven by its caller.
 *
 *   ws.c          opening, waiting, cancelling, closing, and the thread that answers pings
 *   ws_send.c     our frames           ws_receive.c  the peer's, and messages that wait
 *   ws_frame.c    framing              mask.c        masking
 *   ws_dial.c     URL to connection    ws_url.c, ws_resolve.c   URLs, proxies, host names
 *   ws_link.c     the door to libwebsockets          ws_tls.c   the door to OpenSSL
 *   ws_check.c    whether libwebsockets does what it is relied upon for
 *
 * docs/websocket_data_path.md says why it is built like this.
 *
 * Threads  One thread at a time, but for axi_ws_cancel().
 * Forks    In the child every call is AXON_EINVAL; axi_ws_close() frees and leaves the parent's connection alone.
 * Errors   Messages begin with the URL. AXON_ETIMEOUT and AXON_ETOOBIG leave room for the option's name behind.
 */
#ifndef AXI_WS_H
#define AXI_WS_H

#include "internal.h"

#include <stdatomic.h>
#include <sys/uio.h>

typedef struct axi_ws axi_ws;

typedef struct axi_ws_options {
    const char *authorization; /* the whole header value, or NULL */
    const char *ca_file;
    bool tls_insecure;
    uint32_t retry_min_ms; /* 0: a refused connection fails at once */
    uint32_t retry_max_ms;
    uint64_t max_message_bytes;      /* of what the peer sends */
    const atomic_bool *is_cancelled; /* ends axi_ws_open() when it becomes true; may be NULL */
    bool
        is_attended; /* a thread of the owner's receives all the time, or calls axi_ws_attend(): no other is started */
} axi_ws_options;

typedef struct axi_ws_message {
    uint8_t *data; /* malloc'ed, the receiver's, with a zero behind it; never NULL */
    size_t length;
    bool is_text; /* UTF-8 has been checked */
} axi_ws_message;

/* `url` is "ws://host[:port][/path]" or "wss://...", complete. A refused connection is tried again until
 * `deadline`. Starts the thread that answers pings while the caller is away. */
axon_status axi_ws_open(axi_ws **ws, const char *url, const axi_ws_options *options, axi_time deadline,
                        axon_error *err);

/* Begins what axi_ws_cancel() ends: forgets an earlier cancel. */
void axi_ws_begin(axi_ws *ws);

/* Sends one message. A failure or a deadline in mid-message ends the connection. */
axon_status axi_ws_send(axi_ws *ws, const struct iovec *parts, size_t count, bool is_text,
                        axi_time deadline, axon_error *err);

/* Receives one message; messages that came while nobody waited are handed over first, in order. */
axon_status axi_ws_receive(axi_ws *ws, axi_ws_message *message, axi_time deadline, axon_error *err);

/* Looks without waiting: AXON_OK when the connection stands and nothing of a message has come that nobody has
 * received yet; `*waiting` is true when something has. */
axon_status axi_ws_look(axi_ws *ws, bool *waiting, axon_error *err);

/* Whether a part of a message, or a whole one, has come that nobody has received; of a lost connection, too. */
bool axi_ws_has_begun(axi_ws *ws);

/* For how long the peer's machine has acknowledged nothing although something was sent to it; 0 when all that was sent
 * is acknowledged, or the connection is lost. */
int axi_ws_silence_ms(axi_ws *ws);

/* Answers pings and finds out whether the peer's machine is gone, without waiting: what a thread of its own does four
 * times a second unless it is_attended. */
void axi_ws_attend(axi_ws *ws);

/* Sends a pong that nobody asked for (RFC 6455, section 5.5.3), so that a peer that is gone shows. */
void axi_ws_beat(axi_ws *ws);

/* Gives the connection up: what is on the way in either direction is lost, later calls are AXON_ECONNECT with
 * `reason` in the message. */
void axi_ws_abandon(axi_ws *ws, const char *reason);

/* Ends, with AXON_ECANCELED, the send or receive that another thread is in and those that follow, until
 * axi_ws_begin(). Any thread. */
void axi_ws_cancel(axi_ws *ws);

/* The close handshake, for as long as `deadline` allows, then everything is freed. NULL is fine. */
void axi_ws_close(axi_ws *ws, axi_time deadline);

/* ---- for tests ----------------------------------------------------------------------------- */

/* Connections opened from now on send through libwebsockets' own framing, as they do when ws_check.c finds that
 * they must. */
void axi_ws_force_plain(bool plain);

/* How long a peer's machine may acknowledge nothing of what was sent before it is taken for gone; 20 s. */
void axi_ws_set_patience(int milliseconds);

#endif

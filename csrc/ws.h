/* The door to libwebsockets' client side: one WebSocket connection, driven by its caller.
 *
 * libwebsockets connects, speaks TLS, upgrades and closes; messages go out as our own frames and come in by
 * reading directly. docs/websocket_data_path.md says why and how.
 */
#ifndef AXI_WS_H
#define AXI_WS_H

#include "internal.h"

#include <sys/uio.h>

typedef struct axi_ws axi_ws;

typedef struct axi_ws_options {
    const char *authorization; /* the whole header value, or NULL */
    const char *ca_file;
    bool tls_insecure;
    uint32_t retry_min_ms; /* 0: a refused connection fails at once */
    uint32_t retry_max_ms;
    uint64_t max_message_bytes; /* of what the peer sends */
} axi_ws_options;

typedef struct axi_ws_message {
    uint8_t *data; /* malloc'ed, the receiver's; never NULL */
    size_t length;
    bool is_text; /* UTF-8 has been checked */
} axi_ws_message;

/* `url` is "ws://host[:port][/path]" or "wss://...", complete. A refused connection is tried again until
 * `deadline`. Starts the thread that answers pings while the caller is away. */
axon_status axi_ws_open(axi_ws **ws, const char *url, const axi_ws_options *options, axi_time deadline,
                        axon_error *err);

/* Sends one message. A failure or a deadline in mid-message ends the connection. */
axon_status axi_ws_send(axi_ws *ws, const struct iovec *parts, size_t count, bool is_text,
                        axi_time deadline, axon_error *err);

/* Receives one message; messages that came while nobody waited are handed over first, in order. */
axon_status axi_ws_receive(axi_ws *ws, axi_ws_message *message, axi_time deadline, axon_error *err);

/* Gives the connection up: what is on the way in either direction is lost, later calls are AXON_ECONNECT with
 * `reason` in the message. */
void axi_ws_abandon(axi_ws *ws, const char *reason);

/* Ends the send or receive that another thread is in with AXON_ECANCELED. Any thread. */
void axi_ws_cancel(axi_ws *ws);

/* The close handshake, for as long as `deadline` allows, then everything is freed. NULL is fine. */
void axi_ws_close(axi_ws *ws, axi_time deadline);

#endif

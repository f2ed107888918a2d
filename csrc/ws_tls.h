/* The door to OpenSSL: what libwebsockets is handed for a wss connection, and what is to be known of it.
 *
 * The context is ours and not libwebsockets' own: so certificates are verified and judged here, a broken
 * certificate is told by name, and handshakes on several connections cannot disturb each other (libwebsockets
 * 4.1 keeps one number for the whole process that every context of its own replaces). */
#ifndef AXI_WS_TLS_H
#define AXI_WS_TLS_H

#include "ws_link.h"

struct ssl_st;
struct ssl_ctx_st;

typedef struct axi_tls axi_tls;

/* `host` is whom the certificate must name, a name or a bare address; it must live as long as the handle.
 * AXON_EIO when `ca_file` cannot be read; NULL means the system's authorities. */
axon_status axi_tls_open(axi_tls **tls, const char *host, const char *ca_file, bool insecure,
                         axon_error *err);
/* After the connection that used it. NULL is fine. */
void axi_tls_close(axi_tls *tls);

struct ssl_ctx_st *axi_tls_context(axi_tls *tls);

/* The handshake is over. */
bool axi_tls_is_up(const axi_tls *tls);

/* Why the handshake failed, for a message; NULL when the peer merely hung up. */
const char *axi_tls_fault(const axi_tls *tls);

/* True when more was received than the beginning of a connection can need, and reading was stopped. */
bool axi_tls_is_flooded(const axi_tls *tls);

/* The beginning is over: from here on any amount may be received. */
void axi_tls_lift_limit(axi_tls *tls);

/* As axi_link_read(). */
ptrdiff_t axi_tls_read(struct ssl_st *ssl, void *to, size_t room);

/* True when bytes are waiting that poll() cannot know of. */
bool axi_tls_holds(const struct ssl_st *ssl);

/* The SHA-1 of `length` bytes, which the answer to an upgrade is made of. */
bool axi_tls_sha1(const void *data, size_t length, uint8_t digest[20]);

#endif

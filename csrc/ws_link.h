/* The door to libwebsockets: the bytes of one WebSocket connection, from connecting to closing.
 *
 * libwebsockets connects, through a proxy if there is one, speaks TLS and performs the upgrade. From then on it
 * passes our bytes on and reads nothing: what is received is read from the socket, or from OpenSSL, by
 * axi_link_read(), beginning with axi_link_early(). Nothing here blocks but axi_link_open(), and no lock is
 * taken: the owner sees to it that one thread is in here at a time. */
#ifndef AXI_WS_LINK_H
#define AXI_WS_LINK_H

#include "ws.h"
#include "ws_url.h"

typedef struct axi_link axi_link;

typedef struct axi_link_target {
    const axi_ws_url *url;  /* must live as long as the link; the rest is read while opening */
    const axi_proxy *proxy; /* host empty: none */
    const char
        *address; /* whom to connect to, server or proxy, as an address; "+@name" is a local socket */
    const char *authorization;
    const char *ca_file;
    bool tls_insecure;
    const atomic_bool *is_cancelled; /* may be NULL */
} axi_link_target;

/* One try. On failure `*again` says whether another may help: nobody listens, or it hung up before the upgrade.
 * The messages lack their subject. */
axon_status axi_link_open(axi_link **link, const axi_link_target *target, axi_time deadline, bool *again,
                          axon_error *err);

/* Frees the link without a goodbye of any kind. In the child of a fork the connection stays the parent's.
 * NULL is fine. */
void axi_link_close(axi_link *link, bool in_child);

int axi_link_fd(const axi_link *link);

/* What came together with the answer to the upgrade, to be read before all else. */
const uint8_t *axi_link_early(const axi_link *link, size_t *length);

/* Bytes read, AXI_READ_NOTHING when there are none now, AXI_READ_CLOSED, or AXI_READ_LOST with errno set. */
enum { AXI_READ_NOTHING = 0, AXI_READ_CLOSED = -1, AXI_READ_LOST = -2 };
ptrdiff_t axi_link_read(axi_link *link, void *to, size_t room);

/* True when bytes are waiting that poll() cannot know of. */
bool axi_link_holds(const axi_link *link);

/* Takes all bytes, as they are; those that the socket did not take are kept, and the link is stuck until
 * axi_link_flush() has written them. False when the connection is over. */
bool axi_link_write(axi_link *link, uint8_t *bytes, size_t length);
bool axi_link_is_stuck(const axi_link *link);
bool axi_link_flush(axi_link *link);

/* The same for a whole frame that libwebsockets builds and masks: several times slower. Not for close frames.
 * AXON_ENOMEM, nothing having been sent, or AXON_ECONNECT. */
axon_status axi_link_write_frame(axi_link *link, int opcode, const struct iovec *parts, size_t count,
                                 size_t length);

/* Has libwebsockets send its close frame; nothing may be written behind it. */
void axi_link_write_close(axi_link *link, int code);

/* As axi_tcp_silence_ms() and axi_tcp_in_vain_ms(). */
int axi_link_silence_ms(const axi_link *link);
int axi_link_in_vain_ms(const axi_link *link);

/* Of libwebsockets. */
const char *axi_link_version(void);

/* For every room that libwebsockets has a context in: its log goes to ours, and what the application has set for
 * SIGPIPE stays. */
struct lws_context;
struct lws_context_creation_info;
struct lws_context *axi_link_create_context(const struct lws_context_creation_info *info);

#endif

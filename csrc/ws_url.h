/* Where a WebSocket URL leads: the URL taken apart, and the proxy that the environment names for it. */
#ifndef AXI_WS_URL_H
#define AXI_WS_URL_H

#include "internal.h"

/* libwebsockets writes the Host header into 128 bytes and the request line into 2048, and cuts what is longer. */
#define AXI_WS_HOST_MAX 119
#define AXI_WS_PATH_MAX 2000

/* Of a URL, so much stands in a message. */
#define AXI_URL_SHOWN 160

typedef struct axi_ws_url {
    bool is_tls;
    uint16_t port;
    char host[AXI_WS_HOST_MAX + 1];      /* a name or an address, without brackets */
    char authority[AXI_WS_HOST_MAX + 1]; /* host and port as they were given: the Host header */
    char path[AXI_WS_PATH_MAX + 1];      /* with its query; "/" at least */
} axi_ws_url;

/* Takes "ws://host[:port][/path][?query]" or "wss://..." apart. AXON_EINVAL names what is wrong with it. */
axon_status axi_ws_url_read(axi_ws_url *parts, const char *url, axon_error *err);

/* What a short form of a URL stands for. */
typedef struct axi_url_usual {
    const char *subject; /* begins the messages: "policy URL" */
    uint16_t port;       /* of a bare host that names none */
    const char *path;    /* of what names none */
    bool takes_http;     /* "http://" means "ws://", "https://" "wss://" */
} axi_url_usual;

/* Makes "host", "host:port" and URLs into one whole URL, malloc'ed. What it leaves wrong, axi_ws_url_read() refuses. */
axon_status axi_ws_url_complete(char **whole, const char *url, const axi_url_usual *usual, axon_error *err);

/* Reads "host", "host:port", "[v6]" or "[v6]:port" into host, authority and port, which stays what it was when none
 * is named; what is wrong with it, or NULL. */
const char *axi_authority_read(axi_ws_url *parts, const char *text, size_t length);

typedef struct axi_proxy {
    char host[AXI_WS_HOST_MAX + 1]; /* empty: no proxy */
    uint16_t port;
    char credentials[96]; /* "user:password", or empty */
} axi_proxy;

/* The proxy that http_proxy, https_proxy or all_proxy names for `url`, unless the host is near or no_proxy
 * names it. AXON_ECONNECT when the environment names one that cannot be used. */
axon_status axi_proxy_find(axi_proxy *proxy, const axi_ws_url *url, axon_error *err);

#endif

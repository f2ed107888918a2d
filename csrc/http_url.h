/* Where the URL of a service leads. */
#ifndef AXI_HTTP_URL_H
#define AXI_HTTP_URL_H

#include "internal.h"

enum { AXI_URL_MAX = 8192, AXI_HOST_MAX = 253 };

typedef struct axi_origin {
    bool is_tls;
    uint16_t port;
    char host[AXI_HOST_MAX + 1]; /* a name or an address, without brackets */
} axi_origin;

/* Checks the URL of a service, "http://host[:port][/prefix]" or "https://...", and reads its origin. AXON_EINVAL
 * names what is wrong with it; a password is not repeated. `url` may be NULL. */
axon_status axi_origin_read(axi_origin *origin, const char *url, axon_error *err);

/* True when `url`, with whatever path and query, has this very origin and no credentials in it. */
bool axi_origin_has(const axi_origin *origin, const char *url);

#endif

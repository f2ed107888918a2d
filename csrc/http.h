/* The door to libcurl: one kept-alive HTTP connection. */
#ifndef AXI_HTTP_H
#define AXI_HTTP_H

#include "internal.h"
#include "json.h"

typedef struct axi_http axi_http;

typedef struct axi_http_options {
    const char *authorization; /* the whole header value, or NULL */
    const char *ca_file;
    bool tls_insecure;
    uint32_t connect_timeout_ms;
    uint64_t max_reply_bytes;
} axi_http_options;

typedef struct axi_http_reply {
    int32_t status;
    bool is_json;  /* by its Content-Type */
    uint8_t *data; /* malloc'ed, the receiver's, with a zero behind it; NULL when empty */
    size_t length;
} axi_http_reply;

axon_status axi_http_open(axi_http **http, const char *base_url, const axi_http_options *options,
                          axon_error *err);

/* One request. `body` NULL is a GET, else a POST of JSON produced while it is being sent. Any HTTP status is
 * AXON_OK here; what it means is the caller's business. */
axon_status axi_http_request(axi_http *http, const char *path, const axi_body *body, axi_time deadline,
                             axi_http_reply *reply, axon_error *err);

/* Ends the request that another thread is in with AXON_ECANCELED. Any thread. */
void axi_http_cancel(axi_http *http);
void axi_http_close(axi_http *http);

#endif

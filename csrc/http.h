/* The door to libcurl: one kept-alive HTTP connection. */
#ifndef AXI_HTTP_H
#define AXI_HTTP_H

#include "internal.h"
#include "json.h"

typedef struct axi_http axi_http;

/* Read during the open only. */
typedef struct axi_http_options {
    const char *bearer_token; /* or NULL */
    const char *ca_file;      /* or NULL */
    bool tls_insecure;
    uint32_t timeout_ms; /* of one request, connecting included */
    uint32_t connect_timeout_ms;
    uint64_t max_reply_bytes;
} axi_http_options;

typedef struct axi_http_reply {
    int32_t status;
    char content_type[64]; /* the media type without its parameters, "" when there is none */
    bool is_json;          /* by its Content-Type */
    uint8_t *data;         /* malloc'ed, the receiver's, with a zero behind it; NULL when empty */
    size_t length;
} axi_http_reply;

/* `url` is checked here: http or https, a host, no credentials, query or fragment. */
axon_status axi_http_open(axi_http **http, const char *url, const axi_http_options *options,
                          axon_error *err);

/* The URL without a trailing slash. */
const char *axi_http_url(const axi_http *http);

/* Claims the handle for one call: axi_http_cancel() counts from here to axi_http_end(). AXON_EINVAL in a forked
 * child, and while another thread is in a call. */
axon_status axi_http_begin(axi_http *http, axon_error *err);
void axi_http_end(axi_http *http);

/* One request, between begin and end. `body` NULL is a GET, else a POST of JSON produced while it is being
 * sent. Every HTTP status is AXON_OK here, except redirects to elsewhere; what it means is the caller's
 * business. */
axon_status axi_http_request(axi_http *http, const char *path, const axi_body *body, axi_time deadline,
                             axi_http_reply *reply, axon_error *err);

/* Ends the call that another thread is in with AXON_ECANCELED. Any thread. */
void axi_http_cancel(axi_http *http);

/* In a forked child this closes the child's copies and leaves the parent's connection as it is. */
void axi_http_close(axi_http *http);

#endif

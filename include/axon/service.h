/* axon/service.h - talk to one HTTP service of the catalog: JSON with pictures inside.
 *
 * Errors   See axon/error.h. A reply of 4xx or 5xx is AXON_ESERVER (401 and 403: AXON_EAUTH) with
 *          err->http_status set and the service's own `detail` in the message:
 *          "/detect failed (HTTP 422): body.conf: Input should be a valid number".
 *          No answer at all is AXON_ECONNECT: "Service unavailable at http://...: connection refused".
 * Network  HTTP/1.1. Redirects are followed within the service's own scheme, host and port, method and body
 *          unchanged, and nowhere else. When a connection that was kept turns out to be dead before a byte
 *          of the reply came, the request is sent again on a new one. A proxy of the environment is asked
 *          for far hosts only, never for loopback or private addresses.
 * Threads  A service is one connection, kept alive between calls: one thread at a time, except
 *          axon_service_cancel(). Two services share nothing. Do not carry one across fork(): in the
 *          child every call is AXON_EINVAL, and only axon_service_close() is allowed.
 */
#ifndef AXON_SERVICE_H
#define AXON_SERVICE_H

#include <axon/image.h>

AXON_BEGIN

typedef struct axon_service axon_service;

/** How replies of Content-Type application/json are handed over. */
typedef enum axon_reply_form {
    AXON_REPLY_TREE = 0, /**< parsed, as maps, lists, strings and numbers */
    AXON_REPLY_TEXT = 1  /**< unparsed, as one AXON_JSON value, for callers with a parser of their own:
                              that it is JSON at all is then theirs to find out */
} axon_reply_form;

/** Yes or no, where zero has to mean the default. */
typedef enum axon_choice {
    AXON_CHOICE_DEFAULT = 0, /**< what the member's comment names */
    AXON_YES = 1,
    AXON_NO = 2
} axon_choice;

/** A pinhole camera, in pixels. */
typedef struct axon_intrinsics {
    double fx; /**< focal length, horizontal */
    double fy; /**< focal length, vertical */
    double cx; /**< principal point, from the left */
    double cy; /**< principal point, from the top */
} axon_intrinsics;

/** A place on the floor and a heading. */
typedef struct axon_pose2 {
    double x;     /**< m */
    double y;     /**< m */
    double theta; /**< rad, counter-clockwise from the x axis */
} axon_pose2;

/** Write `axon_service_options o = {.size = sizeof o};` and set what you care about.
 *  Zero means the default in every field, now and in later versions. */
typedef struct axon_service_options {
    size_t size;                 /**< sizeof(axon_service_options); 0 is AXON_EINVAL */
    const char *bearer_token;    /**< sent as "Authorization: Bearer <token>"; default none */
    const char *ca_file;         /**< PEM of the authorities to trust; default the system's */
    uint32_t timeout_ms;         /**< one whole call, connecting included; default 60 000;
                                      AXON_FOREVER: no deadline */
    uint32_t connect_timeout_ms; /**< until the TCP and TLS connection stands; default 10 000 */
    uint64_t max_reply_bytes;    /**< a longer reply is AXON_ETOOBIG; default 256 MiB */
    uint64_t max_request_bytes;  /**< a longer body is AXON_ETOOBIG, unsent; default 256 MiB */
    axon_reply_form reply_form;  /**< default AXON_REPLY_TREE */
    int32_t tls_insecure;        /**< 1: accept any certificate; default 0 */
} axon_service_options;

/** Makes a handle. Nothing is sent yet: a service that is down shows at the first call.
 *  @param url      "http://host:port" or "https://...", with a path prefix if the service has one;
 *                  copied
 *  @param opts     read during the call only; may be NULL
 *  @param service  the caller's; free it with axon_service_close()
 *  @return AXON_EINVAL naming what is wrong with the URL or an option, AXON_EIO (ca_file cannot be read) */
AXON_API axon_status axon_service_open(axon_service **service, const char *url,
                                       const axon_service_options *opts, axon_error *err);

/** GET `path`, "/map?format=json".
 *  @param path   begins with "/"; percent-encoded where a URL needs that
 *  @param reply  the tree of a JSON body; AXON_BYTES of any other body, AXON_NIL of an empty one. The
 *                caller's; free it with axon_value_free()
 *  @return AXON_ESERVER, AXON_EAUTH, AXON_ECONNECT, AXON_ETIMEOUT, AXON_EPROTOCOL, AXON_ETOOBIG */
AXON_API axon_status axon_service_get(axon_service *service, const char *path, axon_value **reply,
                                      axon_error *err);

/** POST `body` as JSON to `path`. Images and bytes in the tree become base64 text, produced while the
 *  body is being sent.
 *  @param body   a map, or AXON_JSON; read during the call only
 *  @param reply  as for axon_service_get()
 *  @return as axon_service_get(), and AXON_EINVAL naming the place in the body that JSON cannot carry */
AXON_API axon_status axon_service_post(axon_service *service, const char *path, const axon_value *body,
                                       axon_value **reply, axon_error *err);

/** GET /health. @param reply  and @return as for axon_service_get() */
AXON_API axon_status axon_service_health(axon_service *service, axon_value **reply, axon_error *err);

/** Ends the call that another thread is waiting in with AXON_ECANCELED; does nothing when there is none. */
AXON_API void axon_service_cancel(axon_service *service);

/** The URL as it was given, without a trailing slash. Lives as long as the service. */
AXON_API const char *axon_service_url(const axon_service *service);

/** @param service  may be NULL */
AXON_API void axon_service_close(axon_service *service);

AXON_END

#endif

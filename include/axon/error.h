/* axon/error.h - how every call that can fail says so.
 *
 * A call returns an axon_status and, unless its err is NULL, fills *err on failure. Outputs are
 * written only on AXON_OK. Any call may return AXON_EINVAL, AXON_ENOMEM or AXON_ECANCELED; the
 * comments of the calls do not repeat that.
 */
#ifndef AXON_ERROR_H
#define AXON_ERROR_H

#include <axon/api.h>

AXON_BEGIN

/** What happened, and by that: what the caller does next. */
typedef enum axon_status {
    AXON_OK = 0,
    AXON_EINVAL = 1,    /**< an argument is wrong; nothing was sent; correct the call */
    AXON_ENOMEM = 2,    /**< memory ran out; the handle is as it was */
    AXON_ECANCELED = 3, /**< cancelled from another thread or by the interrupt function */
    AXON_ETIMEOUT = 4,  /**< the deadline passed; the message names it and what was waited for */
    AXON_ECONNECT = 5,  /**< no connection: refused, no such host, TLS, or lost on the way */
    AXON_EPROTOCOL = 6, /**< the peer sent what its protocol does not allow */
    AXON_ESERVER = 7,   /**< the peer understood and answered with an error of its own */
    AXON_EAUTH = 8,     /**< the peer refused the credentials (HTTP 401 or 403) */
    AXON_ETOOBIG = 9,   /**< a size limit was passed; the message names it */
    AXON_EIO = 10       /**< a local file could not be read or written */
} axon_status;

/** The room a message has, with its ending zero. */
#define AXON_ERROR_TEXT 504

/** One failure. 512 bytes, no pointers: copy it, keep it, put it on the stack. */
typedef struct axon_error {
    int32_t code;                  /**< the axon_status that the call returned */
    int32_t http_status;           /**< of the reply that caused it; 0 when there was none */
    char message[AXON_ERROR_TEXT]; /**< subject, fact, number and limit; UTF-8, zero-terminated */
} axon_error;

/** The name of a status, "AXON_ETIMEOUT". Static; an unknown status gives "AXON_?". */
AXON_API const char *axon_status_name(axon_status status);

AXON_END

#endif

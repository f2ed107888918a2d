/* axon/server.h - host a policy for robots: openpi's and webpolicy's clients, and axon's, over WebSocket.
 *
 * A server takes observations off the network on a thread of its own and hands them out one by one; whoever
 * hosts the policy fetches them with axon_server_next(), works as long as it likes, and answers each with
 * axon_request_reply() or axon_request_fail(). Meanwhile pings and GET /healthz are answered.
 *
 *     axon_server *server;
 *     if (axon_server_open(&server, metadata, NULL, &err) != AXON_OK) ...
 *     axon_server_serve(server, infer, my_policy, &err);    // until axon_server_stop()
 *     axon_server_close(server);
 *
 * Guests   Who connects has 10 s and 16 KiB for an HTTP request; 256 connections at a time may be about it, and
 *          when there are more, or descriptors run out, the oldest goes. docs/server.md says what HTTP answers.
 * Order    Each client's requests are handed out in the order in which they came, the next one when the last is
 *          answered; several clients take turns.
 * Errors   See axon/error.h.
 * Threads  Opening a server starts one thread, which ends in axon_server_close(). axon_server_next() and the
 *          requests that it gives may be used by any number of threads at once; axon_server_stop() also in a
 *          signal handler. Not across fork(): in the child only axon_server_close() is allowed.
 */
#ifndef AXON_SERVER_H
#define AXON_SERVER_H

#include <axon/policy.h>

AXON_BEGIN

typedef struct axon_server axon_server;
typedef struct axon_request axon_request;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_server_options {
    size_t size;              /**< sizeof(axon_server_options); 0 is AXON_EINVAL */
    const char *host;         /**< address or name to listen on; default "127.0.0.1", this machine alone;
                                       "0.0.0.0" for every network */
    int32_t port;             /**< default 8000; AXON_ANY_PORT: one that is free */
    const char *api_key;      /**< clients must send "Authorization: Api-Key <api_key>", else HTTP 401;
                                       compared in constant time; default none is needed */
    axon_dialect dialect;     /**< how replies look: as their requests (AXON_DIALECT_AUTO, the default), or
                                       always as AXON_OPENPI's or AXON_WEBPOLICY's; requests of both are
                                       understood in any case */
    uint32_t max_connections; /**< more are refused with HTTP 503; default 256 */
    uint64_t max_message_bytes; /**< a longer request ends its connection with close code 1009; default
                                       64 MiB */
    uint64_t max_memory_bytes;  /**< of all messages on their way in or out together; when it is reached,
                                       reading stops until something was answered; default 1 GiB */
    uint32_t ping_interval_ms;  /**< pause between pings to a silent client; default 20 000 */
    uint32_t dead_after_ms;     /**< a client is gone when its machine acknowledges nothing for so long, or
                                       it stops in the middle of a message; default 60 000 */
    uint32_t stop_timeout_ms;   /**< how long axon_server_close() waits for requests that are under way,
                                       and for clients to say goodbye; default 5 000 */
} axon_server_options;

#define AXON_ANY_PORT (-1)

/** Listens.
 *  @param metadata  a map that every client gets first; NULL for an empty one; read during the call only
 *  @return AXON_EIO when the address cannot be listened on (the message names it and the system's reason) */
AXON_API axon_status axon_server_open(axon_server **server, const axon_value *metadata,
                                      const axon_server_options *opts, axon_error *err);

/** "ws://127.0.0.1:8000". Lives as long as the server. */
AXON_API const char *axon_server_url(const axon_server *server);
AXON_API int32_t axon_server_port(const axon_server *server);

/** What a client asks for. */
typedef enum axon_request_kind { AXON_REQUEST_STEP = 0, AXON_REQUEST_RESET = 1 } axon_request_kind;

/** Waits for a request.
 *  @param timeout_ms  AXON_FOREVER waits until the server is stopped
 *  @param request     the caller's, who must end it with axon_request_reply() or axon_request_fail()
 *  @return AXON_ETIMEOUT; AXON_ECANCELED after axon_server_stop(), or when the interrupt function said so */
AXON_API axon_status axon_server_next(axon_server *server, uint32_t timeout_ms, axon_request **request,
                                      axon_error *err);

AXON_API axon_request_kind axon_request_get_kind(const axon_request *request);
/** The observation (a step) or the payload (a reset; NULL when there is none). Lives as long as the request. */
AXON_API const axon_value *axon_request_get_value(const axon_request *request);
/** The client: "127.0.0.1:53412". Lives as long as the request. */
AXON_API const char *axon_request_get_client(const axon_request *request);
/** 1 when the client hung up meanwhile; nobody waits for the answer any more. */
AXON_API int32_t axon_request_is_gone(const axon_request *request);

/** Answers, adding `server_timing` {infer_ms, prev_total_ms} to a map that has none, and frees the request, also on
 *  failure (the client then gets an error in its place).
 *  @param reply  the action map; NULL for a reset; read during the call only
 *  @return AXON_EINVAL: a reply that does not travel, naming the place; AXON_ECONNECT: the client is gone */
AXON_API axon_status axon_request_reply(axon_request *request, const axon_value *reply, axon_error *err);

/** Answers with an error and frees the request. openpi's and webpolicy's own clients then lose their connection,
 *  as their servers do it; axon's keep it. @param text  UTF-8, a traceback for instance; zero-terminated */
AXON_API axon_status axon_request_fail(axon_request *request, const char *text, axon_error *err);

/** A policy: makes actions from an observation (or resets; *actions is left NULL then).
 *  Whatever it returns but AXON_OK goes to the client as an error, with err's message.
 *  @param actions  a tree, axon_server_serve()'s from then on; what it borrows must live until the next call */
typedef axon_status (*axon_policy_function)(void *user, axon_request_kind kind, const axon_value *value,
                                            axon_value **actions, axon_error *err);

/** Answers requests with `policy`, on this thread, until the server is stopped.
 *  @return AXON_OK after axon_server_stop(); AXON_ECANCELED when the interrupt function said so */
AXON_API axon_status axon_server_serve(axon_server *server, axon_policy_function policy, void *user,
                                       axon_error *err);

typedef struct axon_server_stats {
    uint64_t connections; /**< now */
    uint64_t accepted;    /**< connections since the beginning */
    uint64_t refused;     /**< of too many, without the key, silent, or that were no WebSocket clients */
    uint64_t requests;    /**< handed out */
    uint64_t failed;      /**< answered with an error, those that could not be read included */
    uint64_t abandoned;   /**< whose client was gone before the answer */
} axon_server_stats;

AXON_API axon_status axon_server_get_stats(axon_server *server, axon_server_stats *stats, axon_error *err);

/** Stops listening, lets requests that are under way be answered, says goodbye (1001) to every client, and makes
 *  axon_server_next() return AXON_ECANCELED; does not wait. Any thread, signal handlers too. */
AXON_API void axon_server_stop(axon_server *server);

/** Stops, waits as long as stop_timeout_ms says, and frees everything; requests that are still held by then may only
 *  be ended. @param server  may be NULL */
AXON_API void axon_server_close(axon_server *server);

AXON_END

#endif

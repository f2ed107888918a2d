/* axon/simulator_server.h - host simulators for clients that speak ZeroMQ (Simulator Inference Center).
 *
 * A server keeps a session for each client. Whoever hosts
 * the simulators fetches sessions with axon_simulator_server_accept(), gives each a thread (and a simulator), and
 * there fetches its requests, one by one, with axon_simulator_session_next(), each to be answered with
 * axon_simulator_request_reply() or axon_simulator_request_fail(). So one slow step stalls nobody else.
 *
 *     while (axon_simulator_server_accept(server, AXON_FOREVER, &session, &err) == AXON_OK)
 *         start_a_thread(run, session);
 *     ...
 *     while (axon_simulator_session_next(session, AXON_FOREVER, &request, &err) == AXON_OK)
 *         answer(request);
 *     axon_simulator_session_close(session);
 *
 * Sessions  begin with a client's first message, and end when their host closes them, when the client has sent nothing
 *           for idle_timeout_ms, or when it has gone. One that gave itself a name (ZMQ_ROUTING_ID) may come back: its
 *           session waits for it until idle_timeout_ms have passed, or another client needs its place; of two with one
 *           name the newer has the session. A message that is no request is answered by the server itself ("invalid_params").
 * Errors    See axon/error.h.
 * Threads   Opening a server starts one, which ends in axon_simulator_server_close(); requests and replies are read and
 *           written by the hosts' own. Accepting may be done by any thread; a session and its request belong to
 *           one thread at a time; axon_simulator_server_stop() also in a signal handler. Not across fork(): in the
 *           child nothing is allowed.
 */
#ifndef AXON_SIMULATOR_SERVER_H
#define AXON_SIMULATOR_SERVER_H

#include <axon/server.h>

AXON_BEGIN

typedef struct axon_simulator_server axon_simulator_server;
typedef struct axon_simulator_session axon_simulator_session;
typedef struct axon_simulator_request axon_simulator_request;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_simulator_server_options {
    size_t size;                /**< sizeof(axon_simulator_server_options); 0 is AXON_EINVAL */
    const char *host;           /**< address or name to listen on; default "127.0.0.1", this machine alone;
                                    "0.0.0.0" for every network */
    int32_t port;               /**< default 5555; AXON_ANY_PORT: one that is free */
    uint32_t max_sessions;      /**< one more is answered "internal_error"; default 64 */
    uint32_t idle_timeout_ms;   /**< a session that is asked nothing for so long ends; default 300 000 */
    uint64_t max_message_bytes; /**< a longer request is answered "invalid_params"; default 64 MiB */
    uint64_t
        max_memory_bytes;     /**< of all requests that wait; one more is answered "internal_error"; default
                                     256 MiB */
    uint32_t stop_timeout_ms; /**< how long closing waits for sessions to be closed; default 5 000 */
} axon_simulator_server_options;

/** Listens. @return AXON_EIO when the address cannot be listened on (the message names it and the system's reason) */
AXON_API axon_status axon_simulator_server_open(axon_simulator_server **server,
                                                const axon_simulator_server_options *opts, axon_error *err);

/** "tcp://127.0.0.1:5555". Lives as long as the server. */
AXON_API const char *axon_simulator_server_address(const axon_simulator_server *server);
AXON_API int32_t axon_simulator_server_port(const axon_simulator_server *server);

/** Waits for a client's first message.
 *  @param timeout_ms  AXON_FOREVER waits until the server is stopped
 *  @param session     the caller's; end it with axon_simulator_session_close()
 *  @return AXON_ETIMEOUT; AXON_ECANCELED after axon_simulator_server_stop(), or when the interrupt function said so */
AXON_API axon_status axon_simulator_server_accept(axon_simulator_server *server, uint32_t timeout_ms,
                                                  axon_simulator_session **session, axon_error *err);

/** Tells sessions apart in logs: "session 12". Lives as long as the session. */
AXON_API const char *axon_simulator_session_name(const axon_simulator_session *session);

/** Waits for the session's next request.
 *  @param request  the caller's, who must end it with axon_simulator_request_reply() or _fail() before the next call
 *  @return AXON_ETIMEOUT; AXON_ECONNECT: the session is over, the client being gone, or idle for idle_timeout_ms;
 *          AXON_ECANCELED as axon_simulator_server_accept() */
AXON_API axon_status axon_simulator_session_next(axon_simulator_session *session, uint32_t timeout_ms,
                                                 axon_simulator_request **request, axon_error *err);

/** Ends a session: what its client sends afterwards begins another one. @param session  may be NULL */
AXON_API void axon_simulator_session_close(axon_simulator_session *session);

/** "step". Lives as long as the request, as what follows. */
AXON_API const char *axon_simulator_request_method(const axon_simulator_request *request);
/** The whole request, a map. */
AXON_API const axon_value *axon_simulator_request_fields(const axon_simulator_request *request);

/** Answers {"status": "ok", ...} and frees the request, also on failure (the client then gets an error in its place).
 *  @param fields  a map of what is in the reply besides; may be NULL; read during the call only
 *  @return AXON_EINVAL: a reply that does not travel, naming the place; AXON_ECONNECT: the client is gone */
AXON_API axon_status axon_simulator_request_reply(axon_simulator_request *request, const axon_value *fields,
                                                  axon_error *err);

/** Answers {"status": "error", ...} and frees the request.
 *  @param error_type  one of the protocol's words, "invalid_params"
 *  @param message     UTF-8, for people; zero-terminated */
AXON_API axon_status axon_simulator_request_fail(axon_simulator_request *request, const char *error_type,
                                                 const char *message, axon_error *err);

typedef struct axon_simulator_server_stats {
    uint64_t sessions;  /**< now */
    uint64_t accepted;  /**< sessions since the beginning */
    uint64_t refused;   /**< clients, because of max_sessions */
    uint64_t reaped;    /**< sessions that were idle for too long */
    uint64_t requests;  /**< handed out */
    uint64_t failed;    /**< answered with an error, those that were none included */
    uint64_t discarded; /**< requests beyond max_memory_bytes */
    uint64_t abandoned; /**< whose client was gone before the answer */
} axon_simulator_server_stats;

AXON_API axon_status axon_simulator_server_get_stats(axon_simulator_server *server,
                                                     axon_simulator_server_stats *stats, axon_error *err);

/** Makes axon_simulator_server_accept() and axon_simulator_session_next() return AXON_ECANCELED; does not wait.
 *  Requests that are under way can still be answered. Any thread, signal handlers too. */
AXON_API void axon_simulator_server_stop(axon_simulator_server *server);

/** Stops, waits as long as stop_timeout_ms says for sessions to be closed, and frees everything; sessions that are
 *  still held by then may only be closed. @param server  may be NULL */
AXON_API void axon_simulator_server_close(axon_simulator_server *server);

AXON_END

#endif

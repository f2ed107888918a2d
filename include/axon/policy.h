/* axon/policy.h - ask a policy server for robot actions (openpi: msgpack over WebSocket).
 *
 * Errors   See axon/error.h. The message names the side at fault: refused, listening but silent, TLS,
 *          credentials, or an error of the server's own.
 * Threads  A policy is one connection: one thread at a time, except axon_policy_cancel(). Opening one
 *          starts one thread, which answers the server's pings while the caller is busy and ends in
 *          axon_policy_close(). Two policies share nothing. Do not carry a policy across fork(): in the
 *          child every call is AXON_EINVAL, and only axon_policy_close() is allowed.
 *
 * @service openpi 0.1.0
 * @class   WebsocketClientPolicy
 * @type    policy
 * @host    ws://127.0.0.1:8000
 * @http    GET /healthz
 * @about   Asks an openpi policy server (WebSocket, msgpack) for robot actions: an observation in, an action chunk out.
 * @init    policy = WebsocketClientPolicy(host="127.0.0.1", port=8000)
 * @example actions = policy.infer({"observation/image": image, "observation/state": state, "prompt": "pick up the cup"})["actions"]
 * @returns Dict with actions, a float array (action horizon, action dimension), and server_timing.
 * @repo    Physical-Intelligence/openpi main
 * @added   2026-11-21
 * @changed 2026-11-21
 */
#ifndef AXON_POLICY_H
#define AXON_POLICY_H

#include <axon/value.h>

AXON_BEGIN

typedef struct axon_policy axon_policy;

/** Write `axon_policy_options o = {.size = sizeof o};` and set what you care about.
 *  Zero means the default in every field, now and in later versions. */
typedef struct axon_policy_options {
    size_t size;                 /**< sizeof(axon_policy_options); 0 is AXON_EINVAL */
    const char *api_key;         /**< sent as "Authorization: Api-Key <api_key>"; default none */
    const char *ca_file;         /**< PEM of the authorities to trust for wss; default the system's */
    uint32_t connect_timeout_ms; /**< until the server's metadata is here, a refused connection being
                                      tried again until then; default 10 000 */
    uint32_t retry_min_ms;       /**< pause after the first refused try, doubled each time; default 100 */
    uint32_t retry_max_ms;       /**< the longest such pause; default 2 000 */
    uint32_t infer_timeout_ms;   /**< one whole round trip; default 60 000 */
    uint32_t close_timeout_ms;   /**< how long closing waits for the server's answer; default 1 000 */
    uint64_t max_reply_bytes;    /**< a longer reply is AXON_ETOOBIG; default 64 MiB */
    uint64_t max_request_bytes;  /**< a longer observation is AXON_ETOOBIG, unsent; default 1 GiB */
    int32_t connect_once;        /**< 1: a refused connection fails at once; default 0 */
    int32_t tls_insecure;        /**< 1: accept any certificate; default 0 */
} axon_policy_options;

/** Connects and waits for the server's metadata.
 *  @param url     "ws://host:port/path", "wss://...", or "host" or "host:port" (ws; port 8000 when
 *                 none is named; IPv6 in brackets); copied. A URL without a port means 80, or 443 for wss
 *  @param opts    read during the call only; may be NULL
 *  @param policy  the caller's; free it with axon_policy_close()
 *  @return AXON_ECONNECT, AXON_ETIMEOUT, AXON_EAUTH, AXON_EPROTOCOL, AXON_ESERVER (the server answered
 *          the upgrade with an HTTP error; err->http_status has it) */
AXON_API axon_status axon_policy_open(axon_policy **policy, const char *url,
                                      const axon_policy_options *opts, axon_error *err);

/** What the server said of itself. Lives as long as the policy. */
AXON_API const axon_value *axon_policy_metadata(const axon_policy *policy);

/** The URL that is connected to, whole. Lives as long as the policy. */
AXON_API const char *axon_policy_url(const axon_policy *policy);

/** Changes infer_timeout_ms for the calls that follow; 0 restores the default. */
AXON_API axon_status axon_policy_set_infer_timeout(axon_policy *policy, uint32_t timeout_ms,
                                                   axon_error *err);

/** Sends one observation and waits for its actions.
 *  After AXON_ETIMEOUT or AXON_ECANCELED the connection is given up, so that the reply, should it still
 *  come, is never taken for that of a later observation; later calls are AXON_ECONNECT.
 *  @param observation  a map that is not empty; read during the call only, never changed
 *  @param actions      the reply, the caller's; free it with axon_value_free()
 *  @return AXON_ESERVER (the message ends with the last line of the server's traceback),
 *          AXON_ECONNECT, AXON_ETIMEOUT, AXON_EPROTOCOL, AXON_ETOOBIG */
AXON_API axon_status axon_policy_infer(axon_policy *policy, const axon_value *observation,
                                       axon_value **actions, axon_error *err);

/** The whole text of the server's last error frame, its traceback; NULL when there was none.
 *  Valid until the next axon_policy_infer(). */
AXON_API const char *axon_policy_server_error(const axon_policy *policy);

/** Ends the axon_policy_infer() that another thread is waiting in with AXON_ECANCELED; does nothing when
 *  there is none. */
AXON_API void axon_policy_cancel(axon_policy *policy);

/** Says goodbye to the server and frees everything. @param policy  may be NULL */
AXON_API void axon_policy_close(axon_policy *policy);

AXON_END

#endif

/* axon/policy.h - ask a policy server for robot actions: a session that never hands back a stale action.
 *
 * Session  One reply is owed per request. A call whose deadline passed, or that was cancelled, fails; its late
 *          reply is discarded when it comes, never returned to a later call. Until it has come nothing else is
 *          sent: at most one request is on the way. When it has not come within grace_ms, the connection is
 *          replaced. A lost connection is re-opened at the next call, as part of that call's deadline; the
 *          server's metadata must then be what it was, and the last reset is sent again first.
 * Servers  Those of openpi and webpolicy, and others that speak like them: see axon_dialect.
 * Errors   See axon/error.h. The message names the side at fault: refused, listening but silent, TLS,
 *          credentials, or an error of the server's own. Except after axon_policy_close() the session stays
 *          usable after every error.
 * Threads  A policy is one connection at a time: one thread at a time, except axon_policy_cancel(). Opening one
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
 *
 * @service webpolicy 0.1.0
 * @class   Client
 * @type    policy
 * @host    ws://127.0.0.1:8100
 * @http    GET /healthz
 * @about   Asks a webpolicy server (WebSocket, msgpack) for robot actions: an observation in, actions out; reset tells it that an episode begins.
 * @init    policy = Client(host="127.0.0.1", port=8100)
 * @example policy.reset()
 *          actions = policy.step({"image": image, "state": state})["actions"]
 * @returns Dict of what the policy makes, actions as a float array (action horizon, action dimension) as a rule.
 * @repo    mhyatt000/webpolicy main
 * @added   2026-11-21
 * @changed 2026-11-21
 */
#ifndef AXON_POLICY_H
#define AXON_POLICY_H

#include <axon/stats.h>
#include <axon/value.h>

AXON_BEGIN

typedef struct axon_policy axon_policy;

/** How a policy server is spoken to. Replies are understood whatever form they have (a map, a bare array, which
 *  becomes {"actions": array}, an error as text or as a map); the dialect decides how requests look and how a
 *  reset is said. */
typedef enum axon_dialect {
    AXON_DIALECT_AUTO = 0, /**< by the URL's path and the server's metadata; openpi when they do not tell */
    AXON_OPENPI = 1,       /**< the observation itself; no reset */
    AXON_WEBPOLICY = 2,    /**< {"__webpolicy_op__": "step", "obs": observation}; reset with a payload */
    AXON_ROBOARENA = 3,    /**< the observation plus "endpoint"; RoboArena, DreamZero */
    AXON_VLLM_OMNI = 4     /**< the same, but errors are maps and the connection is kept */
} axon_dialect;

/** How pictures travel. */
typedef enum axon_compress {
    AXON_COMPRESS_NONE = 0, /**< as the arrays that they are */
    AXON_COMPRESS_JPEG = 1, /**< lossy: quality 95, full chroma */
    AXON_COMPRESS_PNG = 2   /**< lossless */
} axon_compress;

/** Write `axon_policy_options o = {.size = sizeof o};` and set what you care about.
 *  Zero means the default in every field, now and in later versions. */
typedef struct axon_policy_options {
    size_t size;                 /**< sizeof(axon_policy_options); 0 is AXON_EINVAL */
    const char *api_key;         /**< sent as "Authorization: Api-Key <api_key>"; default none */
    const char *ca_file;         /**< PEM of the authorities to trust for wss; default the system's */
    uint32_t connect_timeout_ms; /**< until the server's metadata is here, a refused connection being
                                      tried again until then; default 10 000 */
    uint32_t retry_min_ms;       /**< pause after the first refused try, doubled each time, up to half of
                                      it less by chance; default 100 */
    uint32_t retry_max_ms;       /**< the longest such pause; default 2 000 */
    uint32_t infer_timeout_ms;   /**< one whole call, a reconnect in it included; default 60 000 */
    uint32_t close_timeout_ms;   /**< how long closing waits for the server's answer; default 1 000 */
    uint64_t max_reply_bytes;    /**< a longer reply is AXON_ETOOBIG; default 64 MiB */
    uint64_t max_request_bytes;  /**< a longer observation is AXON_ETOOBIG, unsent; default 1 GiB */
    int32_t connect_once;        /**< 1: a refused connection fails at once; default 0 */
    int32_t tls_insecure;        /**< 1: accept any certificate; default 0 */
    /** Other servers of the same policy, ending with NULL, tried in order when `url` cannot be reached, and after
     *  the last one `url` again; copied; default none */
    const char *const *more_urls;
    axon_dialect dialect; /**< default AXON_DIALECT_AUTO */
    /** How long after its deadline a late reply is waited for, by the calls that follow, before the connection is
     *  replaced; default 10 000 */
    uint32_t grace_ms;
    int32_t no_reconnect; /**< 1: a lost connection stays lost, and calls are AXON_ECONNECT; default 0 */
    int32_t resend;       /**< 1: an observation whose connection broke before any byte of its reply came
                                      is sent once more over a new one; the server may then act on it twice;
                                      default 0: AXON_ECONNECT */
    /** 1: after a reconnect any metadata is taken; default 0: other metadata than before is AXON_EPROTOCOL, naming
     *  the key, for as long as it differs */
    int32_t metadata_may_change;
    /** How uint8 arrays (height, width, 3) in observations are sent to a server whose metadata declares that it
     *  decodes this, see docs/wire.md; to any other they go as they are; default AXON_COMPRESS_NONE */
    axon_compress compress;
    /** Every message is written to this file, as docs/recordings.md says; one that exists is replaced; default none */
    const char *record_file;
} axon_policy_options;

/** Connects and waits for the server's metadata.
 *  @param url     "ws://host:port/path", "wss://...", or "host" or "host:port" (ws; port 8000 when
 *                 none is named; IPv6 in brackets); copied. A URL without a port means 80, or 443 for wss
 *  @param opts    read during the call only; may be NULL
 *  @param policy  the caller's; free it with axon_policy_close()
 *  @return AXON_ECONNECT, AXON_ETIMEOUT, AXON_EAUTH, AXON_EPROTOCOL, AXON_ESERVER (the server answered
 *          the upgrade with an HTTP error; err->http_status has it), AXON_EIO (record_file) */
AXON_API axon_status axon_policy_open(axon_policy **policy, const char *url,
                                      const axon_policy_options *opts, axon_error *err);

/** What the server said of itself, without axon's own key "__axon__". Lives until the next call that reconnects, and as long
 *  as the policy when metadata_may_change is 0. */
AXON_API const axon_value *axon_policy_metadata(const axon_policy *policy);

/** The URL that is, or was last, connected to, whole. Lives until the next call that reconnects. */
AXON_API const char *axon_policy_url(const axon_policy *policy);

/** The dialect that is spoken: never AXON_DIALECT_AUTO. */
AXON_API axon_dialect axon_policy_dialect(const axon_policy *policy);

/** Changes infer_timeout_ms for the calls that follow; 0 restores the default. */
AXON_API axon_status axon_policy_set_infer_timeout(axon_policy *policy, uint32_t timeout_ms,
                                                   axon_error *err);

/** Sends one observation and waits for its actions.
 *  After AXON_ETIMEOUT or AXON_ECANCELED the reply is still owed, see the top.
 *  @param observation  a map that is not empty; read during the call only, never changed
 *  @param actions      the reply, the caller's; free it with axon_value_free()
 *  @return AXON_ESERVER (the message ends with the last line of the server's traceback),
 *          AXON_ECONNECT, AXON_ETIMEOUT, AXON_EPROTOCOL, AXON_ETOOBIG, AXON_EAUTH (at a reconnect) */
AXON_API axon_status axon_policy_infer(axon_policy *policy, const axon_value *observation,
                                       axon_value **actions, axon_error *err);

/** Tells the server that an episode begins, in dialects that know a reset; in openpi's nothing is sent. After a
 *  reconnect the last reset that was asked for is sent again by itself, before the observation.
 *  @param payload  a map that goes along in webpolicy's dialect and as more keys in RoboArena's and vllm-omni's;
 *                  NULL or empty for none; read during the call only
 *  @return as axon_policy_infer() */
AXON_API axon_status axon_policy_reset(axon_policy *policy, const axon_value *payload, axon_error *err);

/** The whole text of the server's last error, its traceback; NULL when there was none.
 *  Valid until the next axon_policy_infer() or axon_policy_reset(). */
AXON_API const char *axon_policy_server_error(const axon_policy *policy);

/** Where the time of one call went, in ms, on one monotonic clock. */
typedef struct axon_timing {
    double total_ms;  /**< the whole call */
    double encode_ms; /**< the observation to bytes */
    /** reconnecting, and waiting for replies owed to earlier calls; 0 most of the time */
    double connect_ms;
    double send_ms;   /**< until the system had the last byte */
    double wait_ms;   /**< until the reply was here whole: network and server */
    double decode_ms; /**< the reply to a tree */
    /** of wait_ms, the server's own `server_timing.infer_ms`; negative when it did not say */
    double server_ms;
    uint64_t sent_bytes;
    uint64_t received_bytes;
} axon_timing;

/** Of the last axon_policy_infer() that returned AXON_OK. @return AXON_EINVAL when there was none yet */
AXON_API axon_status axon_policy_timing(const axon_policy *policy, axon_timing *timing, axon_error *err);

typedef struct axon_policy_stats {
    uint64_t calls;      /**< of axon_policy_infer() and axon_policy_reset() */
    uint64_t replies;    /**< to them: the calls that returned AXON_OK */
    uint64_t timeouts;   /**< calls that were AXON_ETIMEOUT */
    uint64_t cancels;    /**< calls that were AXON_ECANCELED */
    uint64_t discarded;  /**< late replies that were thrown away */
    uint64_t reconnects; /**< connections made after the first */
    uint64_t failovers;  /**< of these, to another URL than the one before */
    uint64_t resent;     /**< observations that were sent a second time */
    uint64_t window;     /**< replies that the percentiles are of, at most AXON_STATS_WINDOW */
    axon_percentiles total, encode, send, wait, decode;
    axon_percentiles server;  /**< of the replies that said */
    axon_percentiles network; /**< send + wait - server, of the same replies */
    char verdict[128]; /**< medians, where the time goes: "server 212 ms, network 3 ms, client 0.4 ms" */
} axon_policy_stats;

/** @param stats  the caller's; written whole. The same thread rule as for calls */
AXON_API axon_status axon_policy_get_stats(const axon_policy *policy, axon_policy_stats *stats,
                                           axon_error *err);

/** Ends the call that another thread is waiting in with AXON_ECANCELED; does nothing when there is none. */
AXON_API void axon_policy_cancel(axon_policy *policy);

/** Says goodbye to the server and frees everything. @param policy  may be NULL */
AXON_API void axon_policy_close(axon_policy *policy);

AXON_END

#endif

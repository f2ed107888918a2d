/* See axon/policy.h. The session: what is said over the connection that policy_connect.c keeps up. */
#include "policy_internal.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long after an error the server's goodbye is waited for, if the next call comes so soon. */
#define GOODBYE_MS 250

/* Acknowledgements that take longer than this are not on their way: the slowest network needs less. */
#define LONG_SILENCE_MS 1000

/* ws.c does not know what the limits are called here. */
static axon_status name_limit(axon_status status, uint32_t timeout_ms, const char *timeout_name,
                              axon_error *err)
{
    if (status == AXON_ETIMEOUT)
        return axi_fail(err, status, "%s after %" PRIu32 " ms (%s)", err->message, timeout_ms,
                        timeout_name);
    if (status == AXON_ETOOBIG) return axi_fail(err, status, "%s (max_reply_bytes)", err->message);
    return status;
}

/* A machine that acknowledges has a server that computes; one that does not for so long is gone, or the way to it. */
static axon_status tell_busy_from_dead(const axon_policy *policy, axon_error *err)
{
    int silence_ms = axi_ws_silence_ms(policy->ws);
    if (silence_ms == 0)
        return axi_fail(err, AXON_ETIMEOUT, "%s: its machine acknowledges all that was sent, so it is busy",
                        err->message);
    return axi_fail(err, AXON_ETIMEOUT, "%s: its machine has acknowledged nothing for %d ms%s",
                    err->message, silence_ms,
                    silence_ms < LONG_SILENCE_MS ? "" : ", so it is dead or cut off");
}

/* ---- opening and closing ------------------------------------------------------------------- */

static axon_status open_policy(axon_policy **policy, const char *url, const axon_policy_options *opts,
                               axon_error *err)
{
    axon_policy *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    pthread_mutex_init(&made->swap, NULL);
    made->owner = getpid();
    made->samples = calloc(AXON_STATS_WINDOW, sizeof *made->samples);
    axon_status status = made->samples ? axi_policy_configure(made, url, opts, err)
                                       : axi_no_memory(err, AXON_STATS_WINDOW * sizeof *made->samples);
    uint32_t timeout_ms = made->options.connect_timeout_ms;
    if (status == AXON_OK) {
        status = axi_policy_connect(made, axi_deadline(timeout_ms), err);
        status = name_limit(status, timeout_ms, "connect_timeout_ms", err);
    }
    if (status == AXON_OK)
        *policy = made;
    else
        axon_policy_close(made);
    return status;
}

axon_status axon_policy_open(axon_policy **policy, const char *url, const axon_policy_options *opts,
                             axon_error *err)
{
    axon_error failure;
    axon_status status = policy ? open_policy(policy, url, opts, &failure)
                                : axi_fail(&failure, AXON_EINVAL, "policy: it is NULL");
    if (status != AXON_OK && err) *err = failure;
    return status;
}

void axon_policy_close(axon_policy *policy)
{
    if (!policy) return;
    if (policy->owes) axi_ws_abandon(policy->ws, "a reply is owed that nobody waits for");
    axi_ws_close(policy->ws, axi_deadline(policy->options.close_timeout_ms));
    axon_value_free(policy->metadata);
    axi_message_free(&policy->request);
    for (size_t i = 0; i < policy->url_count; i++)
        free(policy->urls[i]);
    free(policy->urls);
    free(policy->authorization);
    free(policy->ca_file);
    axon_value_free(policy->reset);
    free(policy->samples);
    axi_recording_close(policy->recording);
    free(policy->server_error);
    if (getpid() == policy->owner) pthread_mutex_destroy(&policy->swap);
    free(policy);
}

/* ---- what it knows ------------------------------------------------------------------------- */

const axon_value *axon_policy_metadata(const axon_policy *policy)
{
    return policy ? policy->metadata : NULL;
}

const char *axon_policy_url(const axon_policy *policy)
{
    return policy ? policy->urls[policy->url] : NULL;
}

axon_dialect axon_policy_dialect(const axon_policy *policy)
{
    return policy ? policy->dialect : AXON_OPENPI;
}

const char *axon_policy_server_error(const axon_policy *policy)
{
    return policy ? policy->server_error : NULL;
}

axon_status axon_policy_set_infer_timeout(axon_policy *policy, uint32_t timeout_ms, axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    policy->timeout_ms = timeout_ms ? timeout_ms : AXI_POLICY_INFER_TIMEOUT_MS;
    return AXON_OK;
}

/* ---- a connection that owes nothing -------------------------------------------------------- */

/* openpi's and webpolicy's own servers close the connection behind an error; axon's say that they do not. */
static void expect_goodbye(axon_policy *policy)
{
    if (policy->keeps_connection) return;
    if (policy->dialect == AXON_OPENPI || policy->dialect == AXON_WEBPOLICY)
        policy->goodbye_end = axi_deadline(GOODBYE_MS);
}

/* What is sent to a server that is about to close is lost: an error's goodbye is given time to arrive. */
static void await_goodbye(axon_policy *policy, axi_time deadline)
{
    axi_time end = deadline < policy->goodbye_end ? deadline : policy->goodbye_end;
    policy->goodbye_end = 0;
    bool waiting = false;
    while (axi_now() < end && axi_ws_look(policy->ws, &waiting, NULL) == AXON_OK && !waiting)
        poll(NULL, 0, 1);
}

/* Waits for the reply to a call that was given up, and throws it away. AXON_OK also when the connection, or the
 * patience with it, was lost over it. */
static axon_status settle(axon_policy *policy, axi_time deadline, axon_error *err)
{
    axi_time end = deadline < policy->grace_end ? deadline : policy->grace_end;
    axi_ws_message late;
    axon_status status = axi_ws_receive(policy->ws, &late, end, err);
    if (status == AXON_OK) {
        axi_policy_record(policy, "late", &late);
        if (late.is_text) expect_goodbye(policy);
        free(late.data);
        policy->owes = false;
        policy->counts.discarded++;
        return AXON_OK;
    }
    if (status == AXON_ECANCELED || status == AXON_ENOMEM) return status;
    if (status == AXON_ETIMEOUT && axi_now() < policy->grace_end)
        return axi_fail(err, status, "%s: the server still owes the reply to an earlier call",
                        policy->name);
    axi_policy_disconnect(policy, "the reply to an earlier call did not come (grace_ms)");
    return AXON_OK;
}

/* Replies carry no number. One that nobody asked for would be taken for the next observation's, and every
 * later one for the one after it: such a connection is of no use any more. */
static axon_status refuse_unasked(axon_policy *policy, axon_error *err)
{
    axi_ws_message message;
    axon_status status = axi_ws_receive(policy->ws, &message, axi_now(), err);
    if (status == AXON_OK && message.is_text) {
        policy->server_error = (char *)message.data;
        axi_fail_by_server(err, policy->name, policy->server_error);
    } else if (status == AXON_OK) {
        free(message.data);
    }
    bool is_error = status == AXON_OK && policy->server_error;
    axi_policy_disconnect(policy, "the server sent a message that nobody asked for");
    if (is_error) return AXON_ESERVER;
    return axi_fail(err, AXON_EPROTOCOL, "%s: the server sent a message that nobody asked for",
                    policy->name);
}

/* Why the connection is lost, if it is, is returned. */
static axon_status expect_silence(axon_policy *policy, bool *is_lost, axon_error *err)
{
    bool waiting;
    axon_status status = axi_ws_look(policy->ws, &waiting, err);
    *is_lost = status != AXON_OK && status != AXON_EINVAL && status != AXON_ENOMEM;
    return status == AXON_OK && waiting ? refuse_unasked(policy, err) : status;
}

/* After a reconnect the server gets to know again what its predecessor was told, in words of its own. */
static axon_status replay_reset(axon_policy *policy, axi_time deadline, axon_error *err);

static axon_status reconnect(axon_policy *policy, axi_ask ask, axi_time deadline, axon_error *err)
{
    uint32_t limit_ms = policy->options.connect_timeout_ms;
    axi_time limit = axi_deadline(limit_ms);
    bool is_ours = limit < deadline;
    axon_status status = axi_policy_connect(policy, is_ours ? limit : deadline, err);
    if (status != AXON_OK)
        return name_limit(status, is_ours ? limit_ms : policy->timeout_ms,
                          is_ours ? "connect_timeout_ms" : "infer_timeout_ms", err);
    bool replays =
        policy->has_reset && ask != AXI_ASK_RESET && axi_dialect_has(policy->dialect, AXI_ASK_RESET);
    if (replays) status = replay_reset(policy, deadline, err);
    if (status != AXON_OK && !policy->owes)
        axi_policy_disconnect(policy, "the last reset was not repeated");
    bool is_lost = false;
    if (status == AXON_OK) status = expect_silence(policy, &is_lost, err);
    if (is_lost) axi_policy_disconnect(policy, "it was lost again at once");
    return status;
}

/* A connection over which the next message is the answer to the next request. */
static axon_status make_ready(axon_policy *policy, axi_ask ask, axi_time deadline, axon_error *err)
{
    axon_status status = AXON_OK;
    if (policy->ws && policy->owes) status = settle(policy, deadline, err);
    if (status == AXON_OK && policy->ws) await_goodbye(policy, deadline);
    bool is_lost = false;
    if (status == AXON_OK && policy->ws) status = expect_silence(policy, &is_lost, err);
    if (is_lost && !policy->options.no_reconnect) {
        axi_policy_disconnect(policy, "it was lost between calls");
        status = AXON_OK;
    }
    if (status == AXON_ETIMEOUT) {
        name_limit(status, policy->timeout_ms, "infer_timeout_ms", err);
        return tell_busy_from_dead(policy, err);
    }
    if (status != AXON_OK || policy->ws) return status;
    if (policy->options.no_reconnect)
        return axi_fail(err, AXON_ECONNECT, "%s: the connection was given up (no_reconnect)", policy->name);
    return reconnect(policy, ask, deadline, err);
}

/* ---- one request and its reply ------------------------------------------------------------- */

typedef struct round_trip {
    const struct iovec *parts;
    size_t count;
    axi_time deadline;
    axi_time sent; /* when the system had the last byte */
    bool is_lost;  /* the connection broke before a byte of the reply came */
} round_trip;

/* The reply that was not waited for is owed, over a connection that stands. */
static void owe(axon_policy *policy)
{
    axi_time grace = axi_deadline(policy->options.grace_ms);
    policy->owes = true;
    policy->grace_end = grace;
}

static axon_status receive_reply(axon_policy *policy, round_trip *trip, axi_ws_message *reply,
                                 axon_error *err)
{
    axon_status status = axi_ws_receive(policy->ws, reply, trip->deadline, err);
    if (status == AXON_OK) {
        axi_policy_record(policy, "reply", reply);
        return AXON_OK;
    }
    if (status == AXON_ETIMEOUT) axi_fail(err, status, "%s: no reply", policy->name);
    if (status == AXON_ETIMEOUT || status == AXON_ECANCELED || status == AXON_ENOMEM) {
        owe(policy);
        return status;
    }
    trip->is_lost = status == AXON_ECONNECT && !axi_ws_has_begun(policy->ws);
    axi_policy_disconnect(policy, "it was lost while a reply was waited for");
    return status;
}

static axon_status exchange_once(axon_policy *policy, round_trip *trip, axi_ws_message *reply,
                                 axon_error *err)
{
    axon_status status = axi_ws_send(policy->ws, trip->parts, trip->count, false, trip->deadline, err);
    trip->sent = axi_now();
    if (status == AXON_ETIMEOUT)
        axi_fail(err, status, "%s: sending: the server takes no more", policy->name);
    if (status == AXON_OK) {
        axi_recording_add(policy->recording, "request", false, trip->parts, trip->count);
        status = receive_reply(policy, trip, reply, err);
    } else if (status != AXON_ENOMEM && status != AXON_ETOOBIG && status != AXON_EINVAL) {
        trip->is_lost = status == AXON_ECONNECT && !axi_ws_has_begun(policy->ws);
        axi_policy_disconnect(policy, "a request could not be sent whole");
    }
    status = name_limit(status, policy->timeout_ms, "infer_timeout_ms", err);
    return status == AXON_ETIMEOUT && policy->owes ? tell_busy_from_dead(policy, err) : status;
}

static axon_status repeat(axon_policy *policy, const axi_message *reset, axi_time deadline, axon_error *err)
{
    round_trip trip = {.parts = reset->parts, .count = reset->count, .deadline = deadline};
    axi_ws_message message;
    axon_status status = exchange_once(policy, &trip, &message, err);
    if (status != AXON_OK) return status;
    axon_value *nothing;
    char *text = NULL;
    status = axi_dialect_read(policy->dialect, AXI_ASK_RESET, &message, policy->name, &nothing, &text, err);
    if (status == AXON_OK) return AXON_OK;
    free(text);
    axi_policy_disconnect(policy, "the last reset could not be repeated");
    return axi_fail(err, status, "%s (repeating the last reset after a reconnect)", err->message);
}

/* Packed anew, because this server may speak another dialect than the last; beside the request that waits. */
static axon_status replay_reset(axon_policy *policy, axi_time deadline, axon_error *err)
{
    axi_message reset = {0};
    axon_status status =
        axi_dialect_pack(policy->dialect, AXI_ASK_RESET, policy->reset, AXON_IMAGE_UNKNOWN, &reset, err);
    if (status == AXON_OK) status = repeat(policy, &reset, deadline, err);
    axi_message_free(&reset);
    return status;
}

/* ---- calls --------------------------------------------------------------------------------- */

static double ms_between(axi_time from, axi_time to)
{
    return (double)(to - from) / 1e6;
}

static double server_ms_of(const axon_value *reply)
{
    double ms;
    const axon_value *timing = axon_value_get(reply, "server_timing");
    if (axon_value_as_float(axon_value_get(timing, "infer_ms"), &ms) != AXON_OK || !(ms >= 0)) return -1;
    return ms;
}

static axon_status pack(axon_policy *policy, axi_ask ask, const axon_value *value, axon_error *err)
{
    axon_image_format pictures = ask == AXI_ASK_STEP ? policy->pictures : AXON_IMAGE_UNKNOWN;
    policy->packed_dialect = policy->dialect;
    policy->packed_pictures = policy->pictures;
    axon_status status = axi_dialect_pack(policy->dialect, ask, value, pictures, &policy->request, err);
    if (status != AXON_OK || policy->request.length <= policy->options.max_request_bytes) return status;
    return axi_fail(err, AXON_ETOOBIG, "%s: %" PRIu64 " bytes, limit %" PRIu64 " (max_request_bytes)",
                    ask == AXI_ASK_STEP ? "observation" : "reset payload", policy->request.length,
                    policy->options.max_request_bytes);
}

/* A tree of its own: the leaves of `value` are the caller's. */
static axon_status copy_tree(const axon_value *value, axon_value **copy, axon_error *err)
{
    axi_message message = {0};
    axon_status status = axi_pack(&message, value, AXON_MARKER_OPENPI, "reset payload", err);
    uint8_t *bytes = status == AXON_OK ? malloc((size_t)message.length) : NULL, *at = bytes;
    if (status == AXON_OK && !bytes) status = axi_no_memory(err, message.length);
    for (size_t i = 0; status == AXON_OK && i < message.count; at += message.parts[i++].iov_len)
        if (message.parts[i].iov_len) memcpy(at, message.parts[i].iov_base, message.parts[i].iov_len);
    if (status == AXON_OK) status = axi_unpack(bytes, (size_t)message.length, "reset payload", copy, err);
    axi_message_free(&message);
    return status;
}

static axon_status keep_reset(axon_policy *policy, const axon_value *payload, axon_error *err)
{
    axon_value *copy = NULL;
    axon_status status = payload ? copy_tree(payload, &copy, err) : AXON_OK;
    if (status != AXON_OK) return status;
    axon_value_free(policy->reset);
    policy->reset = copy;
    policy->has_reset = true;
    return AXON_OK;
}

/* What the server refused is not said again. */
static void forget_reset(axon_policy *policy)
{
    axon_value_free(policy->reset);
    policy->reset = NULL;
    policy->has_reset = false;
}

/* After a reconnect the server may speak another dialect, or take pictures otherwise, than when it was packed. */
static axon_status pack_again(axon_policy *policy, axi_ask ask, const axon_value *value, axon_error *err)
{
    if (policy->dialect == policy->packed_dialect && policy->pictures == policy->packed_pictures)
        return AXON_OK;
    return pack(policy, ask, value, err);
}

static axon_status exchange_with_resend(axon_policy *policy, axi_ask ask, const axon_value *value,
                                        round_trip *trip, axi_ws_message *reply, axon_error *err)
{
    axon_status status = exchange_once(policy, trip, reply, err);
    if (status == AXON_OK || !trip->is_lost || !policy->options.resend || policy->options.no_reconnect)
        return status;
    axi_log(AXON_LOG_WARN, "%s; sending it again", err->message);
    status = reconnect(policy, ask, trip->deadline, err);
    if (status != AXON_OK) return status;
    if (!axi_dialect_has(policy->dialect, ask))
        return axi_fail(err, AXON_ECONNECT, "%s: the reset was lost, and this server knows none",
                        policy->name);
    status = pack_again(policy, ask, value, err);
    if (status != AXON_OK) return status;
    trip->parts = policy->request.parts;
    trip->count = policy->request.count;
    policy->counts.resent++;
    trip->is_lost = false;
    return exchange_once(policy, trip, reply, err);
}

static axon_status make_ready_and_pack(axon_policy *policy, axi_ask ask, const axon_value *value,
                                       axi_time deadline, axon_timing *timing, axon_error *err)
{
    axi_time started = axi_now();
    axon_status status = pack(policy, ask, value, err); /* first, so that a bad observation costs nothing */
    if (status == AXON_OK && ask == AXI_ASK_RESET) status = keep_reset(policy, value, err);
    axi_time packed = axi_now();
    if (status == AXON_OK) status = make_ready(policy, ask, deadline, err);
    if (status == AXON_OK) status = pack_again(policy, ask, value, err);
    timing->encode_ms = ms_between(started, packed);
    timing->connect_ms = ms_between(packed, axi_now());
    return status;
}

static axon_status ask_server(axon_policy *policy, axi_ask ask, const axon_value *value, axon_value **reply,
                              axon_timing *timing, axon_error *err)
{
    axi_time started = axi_now();
    round_trip trip = {.deadline = axi_deadline(policy->timeout_ms)};
    axon_status status = make_ready_and_pack(policy, ask, value, trip.deadline, timing, err);
    if (status != AXON_OK || !axi_dialect_has(policy->dialect, ask)) return status;
    trip.parts = policy->request.parts;
    trip.count = policy->request.count;
    axi_ws_message message;
    axi_time ready = axi_now();
    status = exchange_with_resend(policy, ask, value, &trip, &message, err);
    if (status != AXON_OK) return status;
    axi_time received = axi_now();
    timing->sent_bytes = policy->request.length;
    timing->received_bytes = message.length;
    bool is_text = message.is_text;
    status =
        axi_dialect_read(policy->dialect, ask, &message, policy->name, reply, &policy->server_error, err);
    if (status == AXON_ESERVER && is_text) expect_goodbye(policy);
    if (status != AXON_OK && ask == AXI_ASK_RESET) forget_reset(policy);
    axi_time done = axi_now();
    timing->send_ms = ms_between(ready, trip.sent);
    timing->wait_ms = ms_between(trip.sent, received);
    timing->decode_ms = ms_between(received, done);
    timing->total_ms = ms_between(started, done);
    timing->server_ms = status == AXON_OK ? server_ms_of(*reply) : -1;
    return status;
}

static void log_call(const axon_policy *policy, axon_status status, const axon_timing *timing)
{
    if (!axi_log_wants(AXON_LOG_DEBUG)) return;
    axi_log(AXON_LOG_DEBUG, "%s: %" PRIu64 " bytes sent, %" PRIu64 " received, %.3f ms: %s", policy->name,
            timing->sent_bytes, timing->received_bytes, timing->total_ms, axon_status_name(status));
}

static axon_status enter(axon_policy *policy, axon_error *err)
{
    if (getpid() != policy->owner)
        return axi_fail(err, AXON_EINVAL, "%s: the connection belongs to the parent of this process",
                        policy->name);
    pthread_mutex_lock(&policy->swap); /* a cancel counts from in_call on */
    bool was_in_call = atomic_load(&policy->in_call);
    if (!was_in_call) {
        atomic_store(&policy->is_cancelled, false);
        if (policy->ws) axi_ws_begin(policy->ws);
        atomic_store(&policy->in_call, true);
    }
    pthread_mutex_unlock(&policy->swap);
    if (was_in_call) return axi_fail(err, AXON_EINVAL, "%s: another thread is in a call", policy->name);
    free(policy->server_error);
    policy->server_error = NULL;
    return AXON_OK;
}

static axon_status call(axon_policy *policy, axi_ask ask, const axon_value *value, axon_value **reply,
                        axon_error *err)
{
    axon_error failure;
    axon_timing timing = {.server_ms = -1};
    axon_status status = enter(policy, &failure);
    if (status == AXON_OK) {
        if (axi_dialect_has(policy->dialect, ask))
            status = ask_server(policy, ask, value, reply, &timing, &failure);
        axi_policy_count(policy, ask, status, &timing);
        log_call(policy, status, &timing);
        atomic_store(&policy->in_call, false);
    }
    if (status != AXON_OK && err) *err = failure;
    return status;
}

axon_status axon_policy_infer(axon_policy *policy, const axon_value *observation, axon_value **actions,
                              axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    if (!observation) return axi_fail(err, AXON_EINVAL, "observation: it is NULL");
    if (!actions) return axi_fail(err, AXON_EINVAL, "actions: it is NULL");
    if (axon_value_type(observation) == AXON_MAP && axon_value_count(observation) == 0)
        return axi_fail(err, AXON_EINVAL, "observation: it is empty");
    return call(policy, AXI_ASK_STEP, observation, actions, err);
}

axon_status axon_policy_reset(axon_policy *policy, const axon_value *payload, axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    axon_value *nothing = NULL;
    return call(policy, AXI_ASK_RESET, payload, &nothing, err);
}

void axon_policy_cancel(axon_policy *policy)
{
    if (!policy || getpid() != policy->owner) return;
    pthread_mutex_lock(&policy->swap);
    if (atomic_load(&policy->in_call)) {
        atomic_store(&policy->is_cancelled, true);
        if (policy->ws) axi_ws_cancel(policy->ws);
    }
    pthread_mutex_unlock(&policy->swap);
}

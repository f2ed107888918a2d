/* See axon/policy.h. The session: what is said over the connection that ws.c keeps. */
#include <axon/policy.h>

#include "pack.h"
#include "service_internal.h"
#include "ws.h"
#include "ws_url.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    DEFAULT_CONNECT_TIMEOUT_MS = 10000,
    DEFAULT_RETRY_MIN_MS = 100,
    DEFAULT_RETRY_MAX_MS = 2000,
    DEFAULT_INFER_TIMEOUT_MS = 60000,
    DEFAULT_CLOSE_TIMEOUT_MS = 1000,
    DEFAULT_MAX_REPLY_BYTES = 64 * 1024 * 1024,
    DEFAULT_MAX_REQUEST_BYTES = 1024 * 1024 * 1024,
    DEFAULT_PORT = 8000, /* of a policy server, where no URL says otherwise */
    MAX_KEY_BYTES = 4096
};

struct axon_policy {
    char *url;
    char name[AXI_URL_SHOWN + 1]; /* the URL, as it begins messages */
    axi_ws *ws;
    axon_value *metadata;
    uint32_t infer_timeout_ms;
    uint32_t close_timeout_ms;
    uint64_t max_request_bytes;
    axi_message request; /* used again and again, for its memory */
    char *server_error;
    atomic_bool in_call;
};

/* ---- options and URL ----------------------------------------------------------------------- */

static uint32_t or_default(uint32_t given, uint32_t standard)
{
    return given ? given : standard;
}

static bool is_switch(int32_t value)
{
    return value == 0 || value == 1;
}

/* What may stand in a header's value, so that a key cannot bring headers of its own along. */
static bool is_header_text(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~') return false;
    return true;
}

static axon_status read_options(axon_policy_options *o, const axon_policy_options *given, axon_error *err)
{
    axon_status status = axi_options_read(o, sizeof *o, given, err);
    if (status != AXON_OK) return status;
    if (!is_switch(o->connect_once)) return axi_fail(err, AXON_EINVAL, "connect_once is neither 0 nor 1");
    if (!is_switch(o->tls_insecure)) return axi_fail(err, AXON_EINVAL, "tls_insecure is neither 0 nor 1");
    if (o->api_key && strlen(o->api_key) > MAX_KEY_BYTES)
        return axi_fail(err, AXON_EINVAL, "api_key: %zu bytes, limit %d", strlen(o->api_key),
                        MAX_KEY_BYTES);
    if (o->api_key && !is_header_text(o->api_key))
        return axi_fail(err, AXON_EINVAL, "api_key: it has characters that no header can carry");
    o->connect_timeout_ms = or_default(o->connect_timeout_ms, DEFAULT_CONNECT_TIMEOUT_MS);
    o->retry_min_ms = or_default(o->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    o->retry_max_ms = or_default(o->retry_max_ms, DEFAULT_RETRY_MAX_MS);
    o->infer_timeout_ms = or_default(o->infer_timeout_ms, DEFAULT_INFER_TIMEOUT_MS);
    o->close_timeout_ms = or_default(o->close_timeout_ms, DEFAULT_CLOSE_TIMEOUT_MS);
    if (o->retry_max_ms < o->retry_min_ms) o->retry_max_ms = o->retry_min_ms;
    if (!o->max_reply_bytes) o->max_reply_bytes = DEFAULT_MAX_REPLY_BYTES;
    if (!o->max_request_bytes) o->max_request_bytes = DEFAULT_MAX_REQUEST_BYTES;
    return AXON_OK;
}

static bool names_port(const char *authority, size_t length)
{
    const char *from = *authority == '[' ? memchr(authority, ']', length) : authority;
    return from && memchr(from, ':', length - (size_t)(from - authority));
}

/* Makes "host", "host:port" and URLs into one whole URL. What it leaves wrong, axi_ws_open() refuses. */
static axon_status make_whole(char **whole, const char *url, axon_error *err)
{
    if (!url || !*url) return axi_fail(err, AXON_EINVAL, "policy URL: it is empty");
    const char *scheme = strstr(url, "://"), *rest = scheme ? scheme + 3 : url;
    bool is_tls = scheme && strncasecmp(url, "wss://", 6) == 0;
    if (scheme && !is_tls && strncasecmp(url, "ws://", 5) != 0)
        return axi_fail(err, AXON_EINVAL, "policy URL \"%.*s\": it must begin with ws:// or wss://",
                        AXI_URL_SHOWN, url);

    size_t authority = strcspn(rest, "/?#");
    bool needs_port = !scheme && authority > 0 && !names_port(rest, authority);
    const char *path = strcmp(rest + authority, "/") == 0 ? "" : rest + authority;
    char port[8] = "";
    if (needs_port) snprintf(port, sizeof port, ":%d", DEFAULT_PORT);
    if (asprintf(whole, "%s%.*s%s%s", is_tls ? "wss://" : "ws://", (int)authority, rest, port, path) >= 0)
        return AXON_OK;
    *whole = NULL;
    return axi_no_memory(err, strlen(url));
}

/* ---- messages from the server -------------------------------------------------------------- */

/* The last line of a traceback says what went wrong. */
static const char *last_line(const char *text, int *length)
{
    size_t end = strlen(text);
    while (end > 0 && strchr(" \t\r\n", text[end - 1]))
        end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    while (start < end && strchr(" \t\r", text[start]))
        start++;
    *length = end - start > AXON_ERROR_TEXT ? AXON_ERROR_TEXT : (int)(end - start);
    return text + start;
}

/* Makes a received message a map. `message` is used up. A text frame is the server's error: its text goes to
 * `*server_error`, if that is wanted. */
static axon_status read_map(const char *name, const char *what, axi_ws_message *message,
                            char **server_error, axon_value **map, axon_error *err)
{
    if (message->is_text) {
        char *text = (char *)message->data;
        int length;
        const char *line = last_line(text, &length);
        axi_fail(err, AXON_ESERVER, "%s: server error: %.*s", name, length, line);
        if (server_error)
            *server_error = text;
        else
            free(text);
        return AXON_ESERVER;
    }
    char subject[AXON_ERROR_TEXT / 2];
    snprintf(subject, sizeof subject, "%s: %s", name, what);
    axon_value *value;
    axon_status status = axi_unpack(message->data, message->length, subject, &value, err);
    if (status != AXON_OK) return status;
    if (axon_value_type(value) != AXON_MAP) {
        axon_value_free(value);
        return axi_fail(err, AXON_EPROTOCOL, "%s: it is no map", subject);
    }
    *map = value;
    return AXON_OK;
}

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

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status receive_metadata(axon_policy *policy, axi_time deadline, axon_error *err)
{
    axi_ws_message message;
    axon_status status = axi_ws_receive(policy->ws, &message, deadline, err);
    if (status == AXON_ETIMEOUT)
        return axi_fail(err, status, "%s: listening but silent: no metadata", policy->name);
    if (status != AXON_OK) return status;
    return read_map(policy->name, "metadata", &message, NULL, &policy->metadata, err);
}

static axon_status connect_to(axon_policy *policy, const axon_policy_options *o, axon_error *err)
{
    char authorization[MAX_KEY_BYTES + sizeof "Api-Key "];
    if (o->api_key) snprintf(authorization, sizeof authorization, "Api-Key %s", o->api_key);
    axi_ws_options ws = {.authorization = o->api_key ? authorization : NULL,
                         .ca_file = o->ca_file,
                         .tls_insecure = o->tls_insecure,
                         .retry_min_ms = o->connect_once ? 0 : o->retry_min_ms,
                         .retry_max_ms = o->retry_max_ms,
                         .max_message_bytes = o->max_reply_bytes};
    axi_time deadline = axi_deadline(o->connect_timeout_ms);
    axon_status status = axi_ws_open(&policy->ws, policy->url, &ws, deadline, err);
    if (status == AXON_OK) status = receive_metadata(policy, deadline, err);
    /* Such a server is not waited for once more, for its goodbye: the deadline may have passed. */
    if (status != AXON_OK && policy->ws) axi_ws_abandon(policy->ws, "its metadata did not come");
    return name_limit(status, o->connect_timeout_ms, "connect_timeout_ms", err);
}

static axon_status open_policy(axon_policy **policy, const char *url, const axon_policy_options *opts,
                               axon_error *err)
{
    axon_policy_options o;
    axon_status status = read_options(&o, opts, err);
    if (status != AXON_OK) return status;
    axon_policy *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->infer_timeout_ms = o.infer_timeout_ms;
    made->close_timeout_ms = o.close_timeout_ms;
    made->max_request_bytes = o.max_request_bytes;
    status = make_whole(&made->url, url, err);
    if (status == AXON_OK) snprintf(made->name, sizeof made->name, "%s", made->url);
    if (status == AXON_OK) status = connect_to(made, &o, err);
    if (status != AXON_OK) {
        axon_policy_close(made);
        return status;
    }
    *policy = made;
    return AXON_OK;
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
    axi_ws_close(policy->ws, axi_deadline(policy->close_timeout_ms));
    axon_value_free(policy->metadata);
    axi_message_free(&policy->request);
    free(policy->server_error);
    free(policy->url);
    free(policy);
}

/* ---- what it knows ------------------------------------------------------------------------- */

const axon_value *axon_policy_metadata(const axon_policy *policy)
{
    return policy ? policy->metadata : NULL;
}

const char *axon_policy_url(const axon_policy *policy)
{
    return policy ? policy->url : NULL;
}

const char *axon_policy_server_error(const axon_policy *policy)
{
    return policy ? policy->server_error : NULL;
}

axon_status axon_policy_set_infer_timeout(axon_policy *policy, uint32_t timeout_ms, axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    policy->infer_timeout_ms = or_default(timeout_ms, DEFAULT_INFER_TIMEOUT_MS);
    return AXON_OK;
}

/* ---- asking -------------------------------------------------------------------------------- */

static axon_status pack_observation(axon_policy *policy, const axon_value *observation, axon_error *err)
{
    if (axon_value_type(observation) != AXON_MAP)
        return axi_fail(err, AXON_EINVAL, "observation: it is no map");
    if (axon_value_count(observation) == 0) return axi_fail(err, AXON_EINVAL, "observation: it is empty");
    axon_status status = axi_pack(&policy->request, observation, AXON_MARKER_OPENPI, "observation", err);
    if (status != AXON_OK || policy->request.length <= policy->max_request_bytes) return status;
    return axi_fail(err, AXON_ETOOBIG,
                    "observation: %" PRIu64 " bytes, limit %" PRIu64 " (max_request_bytes)",
                    policy->request.length, policy->max_request_bytes);
}

/* Replies carry no number. One that nobody asked for would be taken for the next observation's, and every
 * later one for the one after it: such a connection is of no use any more. */
static axon_status expect_silence(axon_policy *policy, axon_error *err)
{
    bool waiting;
    axon_status status = axi_ws_look(policy->ws, &waiting, err);
    if (status != AXON_OK || !waiting) return status;
    axi_ws_message message;
    status = axi_ws_receive(policy->ws, &message, axi_now(), err);
    axi_ws_abandon(policy->ws, "the server sent a message that nobody asked for");
    if (status == AXON_OK && message.is_text)
        return read_map(policy->name, "message", &message, &policy->server_error, NULL, err);
    if (status == AXON_OK) free(message.data);
    return axi_fail(err, AXON_EPROTOCOL, "%s: the server sent a message that nobody asked for",
                    policy->name);
}

static axon_status send_request(axon_policy *policy, axi_time deadline, axon_error *err)
{
    const axi_message *request = &policy->request;
    axon_status status = axi_ws_send(policy->ws, request->parts, request->count, false, deadline, err);
    if (status != AXON_ETIMEOUT && status != AXON_ECANCELED) return status;
    axi_ws_abandon(policy->ws, "an observation could not be sent in time");
    return status;
}

static axon_status receive_reply(axon_policy *policy, axi_time deadline, axi_ws_message *reply,
                                 axon_error *err)
{
    axon_status status = axi_ws_receive(policy->ws, reply, deadline, err);
    if (status == AXON_OK) return AXON_OK;
    if (status == AXON_ETIMEOUT) axi_fail(err, status, "%s: no reply", policy->name);
    axi_ws_abandon(policy->ws, "the reply to an earlier observation was not waited for");
    return status;
}

static axon_status infer(axon_policy *policy, const axon_value *observation, axon_value **actions,
                         axon_error *err)
{
    axi_time started = axi_now(), deadline = axi_deadline(policy->infer_timeout_ms);
    free(policy->server_error);
    policy->server_error = NULL;

    axi_ws_message reply;
    axon_status status = pack_observation(policy, observation, err);
    if (status == AXON_OK) status = expect_silence(policy, err);
    if (status != AXON_OK) return status;
    status = send_request(policy, deadline, err);
    if (status == AXON_OK) status = receive_reply(policy, deadline, &reply, err);
    if (status != AXON_OK) return name_limit(status, policy->infer_timeout_ms, "infer_timeout_ms", err);
    size_t length = reply.length;
    status = read_map(policy->name, "reply", &reply, &policy->server_error, actions, err);
    if (axi_log_wants(AXON_LOG_DEBUG))
        axi_log(AXON_LOG_DEBUG, "%s: %" PRIu64 " bytes sent, %zu received, %.3f ms: %s", policy->name,
                policy->request.length, length, (double)(axi_now() - started) / 1e6,
                axon_status_name(status));
    return status;
}

axon_status axon_policy_infer(axon_policy *policy, const axon_value *observation, axon_value **actions,
                              axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    if (!observation) return axi_fail(err, AXON_EINVAL, "observation: it is NULL");
    if (!actions) return axi_fail(err, AXON_EINVAL, "actions: it is NULL");
    if (!atomic_load(&policy->in_call)) axi_ws_begin(policy->ws); /* a cancel counts from in_call on */
    if (atomic_exchange(&policy->in_call, true))
        return axi_fail(err, AXON_EINVAL, "%s: another thread is in axon_policy_infer()", policy->name);
    axon_error failure;
    axon_status status = infer(policy, observation, actions, &failure);
    atomic_store(&policy->in_call, false);
    if (status != AXON_OK && err) *err = failure;
    return status;
}

void axon_policy_cancel(axon_policy *policy)
{
    if (policy && atomic_load(&policy->in_call)) axi_ws_cancel(policy->ws);
}

/* Opening a policy's connection and opening it again. See policy_internal.h. */
#include "policy_internal.h"

#include "api_key.h"
#include "service_internal.h"
#include "utf8.h"
#include "ws_dial.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    DEFAULT_CONNECT_TIMEOUT_MS = 10000,
    DEFAULT_RETRY_MIN_MS = 100,
    DEFAULT_RETRY_MAX_MS = 2000,
    DEFAULT_CLOSE_TIMEOUT_MS = 1000,
    DEFAULT_GRACE_MS = 10000,
    DEFAULT_MAX_REPLY_BYTES = 64 * 1024 * 1024,
    DEFAULT_MAX_REQUEST_BYTES = 1024 * 1024 * 1024,
    DEFAULT_PORT = 8000 /* of a policy server, where no URL says otherwise */
};

/* ---- options ------------------------------------------------------------------------------- */

static uint32_t or_default(uint32_t given, uint32_t standard)
{
    return given ? given : standard;
}

static bool is_switch(int32_t value)
{
    return value == 0 || value == 1;
}

static axon_status check_switches(const axon_policy_options *o, axon_error *err)
{
    const struct {
        int32_t value;
        const char *name;
    } switches[] = {{o->connect_once, "connect_once"},
                    {o->tls_insecure, "tls_insecure"},
                    {o->no_reconnect, "no_reconnect"},
                    {o->resend, "resend"},
                    {o->metadata_may_change, "metadata_may_change"}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (!is_switch(switches[i].value))
            return axi_fail(err, AXON_EINVAL, "%s is neither 0 nor 1", switches[i].name);
    return AXON_OK;
}

static axon_status check_options(const axon_policy_options *o, axon_error *err)
{
    axon_status status = check_switches(o, err);
    if (status != AXON_OK) return status;
    if (o->api_key) status = axi_api_key_check(o->api_key, err);
    if (status != AXON_OK) return status;
    if ((int)o->compress < AXON_COMPRESS_NONE || o->compress > AXON_COMPRESS_PNG)
        return axi_fail(err, AXON_EINVAL, "compress is %d, which is no axon_compress", (int)o->compress);
    if ((int)o->dialect < AXON_DIALECT_AUTO || o->dialect > AXON_VLLM_OMNI)
        return axi_fail(err, AXON_EINVAL, "dialect is %d, which is none", (int)o->dialect);
    return AXON_OK;
}

static void fill_in(axon_policy_options *o)
{
    o->connect_timeout_ms = or_default(o->connect_timeout_ms, DEFAULT_CONNECT_TIMEOUT_MS);
    o->retry_min_ms = or_default(o->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    o->retry_max_ms = or_default(o->retry_max_ms, DEFAULT_RETRY_MAX_MS);
    o->infer_timeout_ms = or_default(o->infer_timeout_ms, AXI_POLICY_INFER_TIMEOUT_MS);
    o->close_timeout_ms = or_default(o->close_timeout_ms, DEFAULT_CLOSE_TIMEOUT_MS);
    o->grace_ms = or_default(o->grace_ms, DEFAULT_GRACE_MS);
    if (o->retry_max_ms < o->retry_min_ms) o->retry_max_ms = o->retry_min_ms;
    if (!o->max_reply_bytes) o->max_reply_bytes = DEFAULT_MAX_REPLY_BYTES;
    if (!o->max_request_bytes) o->max_request_bytes = DEFAULT_MAX_REQUEST_BYTES;
}

/* ---- URLs ---------------------------------------------------------------------------------- */

static axon_status copy_urls(axon_policy *policy, const char *url, const char *const *more, axon_error *err)
{
    static const axi_url_usual usual = {.subject = "policy URL", .port = DEFAULT_PORT, .path = ""};
    size_t count = 1;
    while (more && more[count - 1] && count <= AXI_POLICY_MAX_URLS)
        count++;
    if (count > AXI_POLICY_MAX_URLS)
        return axi_fail(err, AXON_EINVAL, "more_urls: more than %d of them", AXI_POLICY_MAX_URLS - 1);
    policy->urls = calloc(count, sizeof *policy->urls);
    if (!policy->urls) return axi_no_memory(err, count * sizeof *policy->urls);
    axon_status status = AXON_OK;
    for (size_t i = 0; i < count && status == AXON_OK; i++, policy->url_count += status == AXON_OK)
        status = axi_ws_url_complete(&policy->urls[i], i ? more[i - 1] : url, &usual, err);
    return status;
}

static axon_status copy_strings(axon_policy *policy, const axon_policy_options *o, axon_error *err)
{
    if (o->api_key && !(policy->authorization = axi_api_key_header(o->api_key)))
        return axi_no_memory(err, strlen(o->api_key));
    policy->ca_file = o->ca_file ? strdup(o->ca_file) : NULL;
    return o->ca_file && !policy->ca_file ? axi_no_memory(err, strlen(o->ca_file)) : AXON_OK;
}

axon_status axi_policy_configure(axon_policy *policy, const char *url, const axon_policy_options *opts,
                                 axon_error *err)
{
    axon_policy_options *o = &policy->options;
    axon_status status = axi_options_read(o, sizeof *o, opts, err);
    if (status == AXON_OK) status = check_options(o, err);
    if (status != AXON_OK) return status;
    fill_in(o);
    policy->timeout_ms = o->infer_timeout_ms;
    status = copy_urls(policy, url, o->more_urls, err);
    if (status == AXON_OK) status = copy_strings(policy, o, err);
    if (status != AXON_OK || !o->record_file) return status;
    return axi_recording_open(&policy->recording, o->record_file, policy->urls[0], err);
}

void axi_policy_record(axon_policy *policy, const char *kind, const axi_ws_message *message)
{
    struct iovec part = {.iov_base = message->data, .iov_len = message->length};
    axi_recording_add(policy->recording, kind, message->is_text, &part, 1);
}

/* ---- metadata ------------------------------------------------------------------------------ */

/* Text that is cut at a whole character, and shows it. */
static void print_cut(char *text, size_t size, const char *whole, size_t length)
{
    bool fits = length < size;
    size_t shown = fits ? length : axi_utf8_cut(whole, size - sizeof "...");
    snprintf(text, size, "%.*s%s", (int)shown, whole, fits ? "" : "...");
}

/* A value in few words, for a message. */
static void print_shortly(char *text, size_t size, const axon_value *value)
{
    char *json = NULL;
    if (!value || axon_value_to_json(value, &json, NULL, NULL) != AXON_OK)
        snprintf(text, size, "%s", value ? "something else" : "nothing");
    else
        print_cut(text, size, json, strlen(json));
    axon_free(json);
}

typedef struct difference {
    const char *key; /* not zero-terminated */
    size_t length;
    const axon_value *was, *is;
} difference;

/* What a map has under a key of any bytes; as everywhere, the last one counts. */
static const axon_value *find_child(const axon_value *map, const char *key, size_t length)
{
    for (size_t i = axon_value_count(map); i-- > 0;) {
        size_t other_length;
        const char *other = axon_value_key(map, i, &other_length, NULL);
        if (length == other_length && memcmp(key, other, length) == 0) return axon_value_at(map, i);
    }
    return NULL;
}

/* The first key, in the order of `one`, under which `other` says something else. */
static bool find_difference(const axon_value *one, const axon_value *other, difference *found)
{
    for (size_t i = 0; i < axon_value_count(one); i++) {
        found->key = axon_value_key(one, i, &found->length, NULL);
        found->was = find_child(one, found->key, found->length);
        found->is = find_child(other, found->key, found->length);
        if (!axi_value_equal(found->was, found->is)) return true;
    }
    return false;
}

static axon_status compare_metadata(const axon_policy *policy, const axon_value *now, axon_error *err)
{
    const axon_value *before = policy->metadata;
    if (!before || policy->options.metadata_may_change || axi_value_equal(before, now)) return AXON_OK;
    static const char text[] =
        "%s: after the reconnect its metadata is another: \"%s\" was %s, is %s (metadata_may_change)";
    char key[AXON_ERROR_TEXT], was[56], is[56];
    difference d = {.key = ""};
    if (!find_difference(before, now, &d) && find_difference(now, before, &d)) {
        d.is = d.was; /* a key that is new */
        d.was = NULL;
    }
    print_shortly(was, sizeof was, d.was);
    print_shortly(is, sizeof is, d.is);
    size_t rest = sizeof text + strlen(policy->name) + strlen(was) + strlen(is);
    print_cut(key, sizeof key - rest, d.key, d.length);
    return axi_fail(err, AXON_EPROTOCOL, text, policy->name, key, was, is);
}

static axon_status read_metadata(const axon_policy *policy, axi_ws_message *message, axon_value **metadata,
                                 axon_error *err)
{
    if (message->is_text) {
        axi_fail_by_server(err, policy->name, (char *)message->data);
        free(message->data);
        return AXON_ESERVER;
    }
    char subject[AXON_ERROR_TEXT / 2];
    snprintf(subject, sizeof subject, "%s: metadata", policy->name);
    axon_status status = axi_unpack(message->data, message->length, subject, metadata, err);
    if (status != AXON_OK || axon_value_type(*metadata) == AXON_MAP) return status;
    axon_value_free(*metadata);
    *metadata = NULL;
    return axi_fail(err, AXON_EPROTOCOL, "%s: it is no map", subject);
}

static axon_status receive_metadata(axon_policy *policy, axi_ws *ws, axi_time deadline, axon_error *err)
{
    axi_ws_message message;
    axon_value *metadata = NULL;
    axon_status status = axi_ws_receive(ws, &message, deadline, err);
    if (status == AXON_ETIMEOUT)
        return axi_fail(err, status, "%s: listening but silent: no metadata", policy->name);
    if (status == AXON_OK) {
        axi_policy_record(policy, "metadata", &message);
        status = read_metadata(policy, &message, &metadata, err);
    }
    axon_image_format pictures = axi_dialect_pictures(metadata, policy->options.compress);
    policy->keeps_connection = axi_dialect_keeps_connection(metadata);
    while (axon_value_get(metadata, "__axon__")) /* between the two of us */
        axi_value_remove(metadata, "__axon__");
    if (status == AXON_OK) status = compare_metadata(policy, metadata, err);
    if (status == AXON_OK) policy->pictures = pictures;
    if (status != AXON_OK || (policy->metadata && !policy->options.metadata_may_change)) {
        axon_value_free(metadata); /* the one that the caller knows stays where it is */
        return status;
    }
    axon_value_free(policy->metadata);
    policy->metadata = metadata;
    return AXON_OK;
}

/* ---- connecting ---------------------------------------------------------------------------- */

/* The thread that cancels sees a connection from here on. */
static axon_status take_over(axon_policy *policy, axi_ws *ws, axon_error *err)
{
    pthread_mutex_lock(&policy->swap);
    policy->ws = ws;
    bool is_cancelled = atomic_load(&policy->is_cancelled);
    pthread_mutex_unlock(&policy->swap);
    return is_cancelled ? axi_fail(err, AXON_ECANCELED, "%s: cancelled", policy->name) : AXON_OK;
}

static axon_status try_url(axon_policy *policy, size_t index, uint32_t retry_min_ms, axi_time deadline,
                           axon_error *err)
{
    const axon_policy_options *o = &policy->options;
    axi_ws_options options = {.authorization = policy->authorization,
                              .ca_file = policy->ca_file,
                              .tls_insecure = o->tls_insecure,
                              .retry_min_ms = retry_min_ms,
                              .retry_max_ms = o->retry_max_ms,
                              .max_message_bytes = o->max_reply_bytes,
                              .is_cancelled = &policy->is_cancelled};
    snprintf(policy->name, sizeof policy->name, "%s", policy->urls[index]);
    axi_ws *ws;
    axon_status status = axi_ws_open(&ws, policy->urls[index], &options, deadline, err);
    if (status != AXON_OK) return status;
    status = take_over(policy, ws, err);
    if (status == AXON_OK) status = receive_metadata(policy, ws, deadline, err);
    if (status != AXON_OK) axi_policy_disconnect(policy, "its metadata did not come");
    return status;
}

/* One of several servers that swallows everything must leave time for the others. */
static axi_time share_of(axi_time deadline, size_t left)
{
    if (left <= 1 || deadline == AXI_NEVER) return deadline;
    axi_time now = axi_now();
    return now < deadline ? now + (deadline - now) / (axi_time)left : deadline;
}

/* What each of several servers said, one sentence after the other; what an answering one said goes first. */
typedef struct said {
    axon_error all; /* code and http_status are those of the first sentence */
    size_t room;    /* for the sentences that are to come */
} said;

static const size_t said_room = AXON_ERROR_TEXT - 64; /* the call's limit is still to be named */

/* Every server has an equal share of the room, and what those before it left. */
static void add_sentence(said *s, const axon_error *error, axon_status status, size_t left)
{
    char sentence[AXON_ERROR_TEXT];
    size_t used = strlen(s->all.message), share = s->room / left;
    if (used) share -= share > 2 ? 2 : share;
    print_cut(sentence, share < sizeof sentence ? share + 1 : sizeof sentence, error->message,
              strlen(error->message));
    bool is_first = used == 0 || (status != AXON_ECONNECT && status != AXON_ETIMEOUT);
    size_t length = strlen(sentence);
    char *text = s->all.message;
    if (is_first) {
        memmove(text + length + (used ? 2 : 0), text, used + 1);
        memcpy(text, sentence, length);
        if (used) memcpy(text + length, "; ", 2);
        s->all.code = (int32_t)status;
        s->all.http_status = error->http_status;
    } else {
        snprintf(text + used, sizeof s->all.message - used, "; %s", sentence);
    }
    s->room -= strlen(text) - used;
}

/* Every server once, in order. */
static axon_status try_all(axon_policy *policy, axi_time deadline, bool *again, axon_error *err)
{
    said s = {.room = said_room};
    *again = false;
    for (size_t i = 0; i < policy->url_count; i++) {
        size_t left = policy->url_count - i;
        axon_status status = try_url(policy, i, 0, share_of(deadline, left), err);
        if (status == AXON_OK) policy->url = i;
        if (status == AXON_OK || status == AXON_ECANCELED || status == AXON_ENOMEM) return status;
        if (status == AXON_ECONNECT || status == AXON_ETIMEOUT) *again = true;
        axi_log(AXON_LOG_WARN, "%s", err->message);
        add_sentence(&s, err, status, left);
    }
    *err = s.all;
    return (axon_status)s.all.code;
}

static axon_status try_in_turn(axon_policy *policy, axi_time deadline, axon_error *err)
{
    const axon_policy_options *o = &policy->options;
    for (uint32_t pause_ms = o->retry_min_ms;;) {
        bool again;
        axon_status status = try_all(policy, deadline, &again, err);
        if (status == AXON_OK || !again || o->connect_once) return status;
        if (axi_left_ms(deadline, 1) == 0) return status;
        axon_error cancelled;
        axon_status slept =
            axi_ws_pause(&pause_ms, o->retry_max_ms, deadline, &policy->is_cancelled, &cancelled);
        if (slept != AXON_OK) return axi_fail(err, slept, "%s: %s", policy->name, cancelled.message);
        if (axi_left_ms(deadline, 1) == 0) return status;
    }
}

axon_status axi_policy_connect(axon_policy *policy, axi_time deadline, axon_error *err)
{
    const axon_policy_options *o = &policy->options;
    size_t before = policy->url;
    bool is_first = !policy->metadata;
    axon_status status = policy->url_count > 1
                             ? try_in_turn(policy, deadline, err)
                             : try_url(policy, 0, o->connect_once ? 0 : o->retry_min_ms, deadline, err);
    if (status != AXON_OK) {
        snprintf(policy->name, sizeof policy->name, "%s", policy->urls[policy->url]);
        return status;
    }
    policy->owes = false;
    policy->dialect = o->dialect ? o->dialect : axi_dialect_of(policy->urls[policy->url], policy->metadata);
    if (is_first) return AXON_OK;
    policy->counts.reconnects++;
    policy->counts.failovers += policy->url != before;
    axi_log(AXON_LOG_INFO, "%s: connected again", policy->name);
    return AXON_OK;
}

void axi_policy_disconnect(axon_policy *policy, const char *why)
{
    pthread_mutex_lock(&policy->swap);
    axi_ws *ws = policy->ws;
    policy->ws = NULL;
    pthread_mutex_unlock(&policy->swap);
    policy->owes = false;
    policy->goodbye_end = 0;
    if (!ws) return;
    axi_ws_abandon(ws, why);
    axi_ws_close(ws, axi_now());
}

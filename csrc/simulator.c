/* See axon/simulator.h. What is said in a session that simulator_connect.c begins. */
#include "simulator_internal.h"

#include "array.h"
#include "spare.h"
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ws_dial.c and zmtp_dealer.c do not know what the limits are called here. */
static axon_status name_limit(axon_status status, uint32_t timeout_ms, const char *timeout_name,
                              axon_error *err)
{
    if (status != AXON_ETIMEOUT && status != AXON_ECONNECT) return status;
    if (status == AXON_ECONNECT && timeout_ms == 0) return status;
    return axi_fail(err, status, "%s %s %" PRIu32 " ms (%s)", err->message,
                    status == AXON_ETIMEOUT ? "after" : "within", timeout_ms, timeout_name);
}

static axon_status check(const axon_simulator *simulator, axon_error *err)
{
    if (!simulator) return axi_fail(err, AXON_EINVAL, "simulator: it is NULL");
    if (simulator->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "%s: the session belongs to the parent of this process",
                        simulator->name);
    return AXON_OK;
}

/* ---- requests ------------------------------------------------------------------------------ */

/* A method, and what goes along: one member, or the members of a map. */
typedef struct question {
    const char *method;
    const char *key;         /* NULL: none */
    const axon_value *value; /* of `key`, or a map whose members go along */
    bool needs_selected;     /* a new session chooses first what the last one had chosen */
    bool needs_loaded;
} question;

static axon_value as_text(const char *text)
{
    axon_value made = {.type = AXON_STRING};
    made.as.bytes.data = text;
    made.as.bytes.length = strlen(text);
    return made;
}

static axon_value with_key(axon_value node, const char *key)
{
    node.key = key;
    node.key_length = (uint32_t)strlen(key);
    return node;
}

/* {"method": ..., ...}, whose values are the caller's. */
static axon_status pack(axon_simulator *simulator, const question *asked, axon_error *err)
{
    uint32_t more = asked->key ? 1 : asked->value ? asked->value->as.children.count : 0;
    axon_value *items = malloc((more + 1u) * sizeof *items), map = {.type = AXON_MAP};
    if (!items) return axi_no_memory(err, more * sizeof *items);
    items[0] = with_key(as_text(asked->method), "method");
    if (asked->key)
        items[1] = with_key(*asked->value, asked->key);
    else if (more)
        memcpy(items + 1, asked->value->as.children.items, more * sizeof *items);
    map.as.children.items = items;
    map.as.children.count = map.as.children.capacity = more + 1;
    axon_status status = axi_pack(&simulator->request, &map, AXON_MARKER_SIMULATOR, asked->method, err);
    free(items);
    if (status == AXON_OK && simulator->request.length > simulator->options.max_request_bytes)
        return axi_fail(err, AXON_ETOOBIG, "%s: %" PRIu64 " bytes, limit %" PRIu64 " (max_request_bytes)",
                        asked->method, simulator->request.length, simulator->options.max_request_bytes);
    return status;
}

static void forget(axi_choice *choice)
{
    free(choice->data);
    *choice = (axi_choice){.data = NULL};
}

/* What was just packed and accepted. Without memory a later session begins with nothing chosen. */
static void keep(axi_choice *choice, const axi_message *request)
{
    forget(choice);
    uint8_t *to = choice->data = malloc((size_t)request->length);
    for (size_t i = 0; to && i < request->count; to += request->parts[i].iov_len, i++)
        memcpy(to, request->parts[i].iov_base, request->parts[i].iov_len);
    choice->length = to ? (size_t)request->length : 0;
}

/* ---- one request and its reply ------------------------------------------------------------- */

/* What is no reply to read. */
static axon_status refuse_message(axon_simulator *simulator, const axi_zmtp_message *message,
                                  axon_error *err)
{
    switch (message->found) {
    case AXI_ZMTP_TOO_LONG:
        return axi_fail(err, AXON_ETOOBIG,
                        "%s: a reply of %zu bytes, limit %" PRIu64 " (max_reply_bytes); it was thrown away",
                        simulator->name, message->length, simulator->options.max_reply_bytes);
    case AXI_ZMTP_NO_ROOM:
        return axi_fail(err, AXON_ENOMEM, "%s: out of memory for a reply of %zu bytes", simulator->name,
                        message->length);
    default:
        axi_simulator_drop(simulator, "a message in three or more frames");
        return axi_fail(err, AXON_EPROTOCOL, "%s: a reply in more frames than an empty one and a body",
                        simulator->name);
    }
}

/* AXON_ETIMEOUT lacks its text. */
static axon_status receive(axon_simulator *simulator, axi_zmtp_message *message, axi_time deadline,
                           axon_error *err)
{
    axon_status status = axi_dealer_receive(simulator->dealer, message, deadline, err);
    if (status == AXON_ECONNECT) axi_simulator_drop(simulator, "the connection was lost");
    if (status != AXON_OK || message->found == AXI_ZMTP_BODY) return status;
    return refuse_message(simulator, message, err);
}

/* The reply that was not waited for is owed. */
static void owe(axon_simulator *simulator)
{
    simulator->owes = true;
    simulator->grace_end = axi_deadline(simulator->options.grace_ms);
}

static axon_status send_request(axon_simulator *simulator, const struct iovec *parts, size_t count,
                                axi_time deadline, axon_error *err)
{
    axon_status status = axi_dealer_send(simulator->dealer, parts, count, deadline, err);
    if (status == AXON_OK) return status;
    axi_simulator_drop(simulator, "a request could not be sent");
    return name_limit(status, status == AXON_ETIMEOUT ? simulator->timeout_ms : 0, "call_timeout_ms", err);
}

static axon_status exchange(axon_simulator *simulator, const char *method, const axi_message *request,
                            axi_zmtp_message *reply, axi_time deadline, axi_time *sent, axon_error *err)
{
    axon_status status = send_request(simulator, request->parts, request->count, deadline, err);
    *sent = axi_now();
    if (status != AXON_OK) return status;
    status = receive(simulator, reply, deadline, err);
    if (status == AXON_ETIMEOUT) axi_fail(err, status, "%s: no reply to %s", simulator->name, method);
    if (status == AXON_ETIMEOUT || status == AXON_ECANCELED) owe(simulator);
    return name_limit(status, status == AXON_ETIMEOUT ? simulator->timeout_ms : 0, "call_timeout_ms", err);
}

/* ---- replies ------------------------------------------------------------------------------- */

static bool is_word(const axon_value *value, const char *word)
{
    const char *text;
    size_t length;
    return axon_value_as_string(value, &text, &length) == AXON_OK && length == strlen(word) &&
           memcmp(text, word, length) == 0;
}

/* A copy with an ending zero; NULL when it is no text or memory ran out. */
static char *copy_text(const axon_value *value)
{
    const char *text;
    size_t length;
    return axon_value_as_string(value, &text, &length) == AXON_OK ? strndup(text, length) : NULL;
}

static axon_status fail_by_server(axon_simulator *simulator, const char *method, const axon_value *reply,
                                  axon_error *err)
{
    char *kind = copy_text(axon_value_get(reply, "error_type"));
    snprintf(simulator->error_type, sizeof simulator->error_type, "%s", kind && *kind ? kind : "error");
    free(kind);
    simulator->server_error = copy_text(axon_value_get(reply, "message"));
    return axi_fail(err, AXON_ESERVER, "%s: %s: %s: %s", simulator->name, method, simulator->error_type,
                    simulator->server_error ? simulator->server_error : "it does not say why");
}

static axon_status misunderstood(const axon_simulator *simulator, const char *method, const char *what,
                                 axon_error *err)
{
    return axi_fail(err, AXON_EPROTOCOL, "%s: the reply to %s %s", simulator->name, method, what);
}

/* What `body` holds is the call's. */
static axon_status read_reply(axon_simulator *simulator, const char *method, const axi_zmtp_message *body,
                              axon_value **reply, axon_error *err)
{
    axon_value *tree;
    axon_status status = axi_unpack(body->data, body->length, "reply", &tree, err);
    if (status != AXON_OK)
        return axi_fail(err, status, "%s: %s: %s", simulator->name, method, err->message);
    const axon_value *said = axon_value_get(tree, "status");
    if (is_word(said, "ok")) {
        *reply = tree;
        return AXON_OK;
    }
    if (is_word(said, "error"))
        status = fail_by_server(simulator, method, tree, err);
    else
        status = misunderstood(simulator, method, "has no status \"ok\" or \"error\"", err);
    axon_value_free(tree);
    return status;
}

/* ---- a session that owes nothing ----------------------------------------------------------- */

/* Waits for the reply to a call that was given up, and throws it away. AXON_OK also when the session, or the
 * patience with it, was lost over it. */
static axon_status settle(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    axi_zmtp_message late;
    axi_time end = deadline < simulator->grace_end ? deadline : simulator->grace_end;
    axon_status status = receive(simulator, &late, end, err);
    if (status == AXON_OK || status == AXON_ETOOBIG || status == AXON_ENOMEM) {
        axi_spare_give(late.data);
        simulator->owes = false;
        simulator->counts.discarded++;
        return AXON_OK;
    }
    if (status == AXON_ECANCELED) return status;
    if (status == AXON_ETIMEOUT && axi_now() < simulator->grace_end) {
        axi_fail(err, status, "%s: the server still owes the reply to an earlier call", simulator->name);
        return name_limit(status, simulator->timeout_ms, "call_timeout_ms", err);
    }
    axi_simulator_drop(simulator, "the reply to an earlier call did not come (grace_ms)");
    return AXON_OK;
}

/* Replies carry no number: one that nobody asked for would be taken for the next call's. */
static void expect_silence(axon_simulator *simulator)
{
    axi_zmtp_message message = {.data = NULL};
    axi_zmtp_found found;
    bool stands = axi_dealer_look(simulator->dealer, &found, &message);
    axi_spare_give(message.data);
    if (found != AXI_ZMTP_NOTHING && simulator->owes) {
        simulator->owes = false;
        simulator->counts.discarded++;
    } else if (found != AXI_ZMTP_NOTHING) {
        axi_simulator_drop(simulator, "the server sent a message that nobody asked for");
        return;
    }
    if (!stands) axi_simulator_drop(simulator, "the connection was lost between calls");
}

/* Tells a new session what was chosen in the last one. An answer that did not come in time is owed, not asked for
 * again. */
static axon_status repeat(axon_simulator *simulator, axi_choice *choice, const char *method,
                          axi_time deadline, axon_error *err)
{
    if (!choice->data || !choice->is_due) return AXON_OK;
    axi_zmtp_message body;
    axi_time sent;
    axon_value *reply = NULL;
    struct iovec part = {choice->data, choice->length};
    const axi_message request = {.parts = &part, .count = 1, .length = choice->length};
    axon_status status = exchange(simulator, method, &request, &body, deadline, &sent, err);
    if (status == AXON_OK) status = read_reply(simulator, method, &body, &reply, err);
    axon_value_free(reply);
    choice->is_due = status != AXON_OK && !simulator->owes;
    if (status == AXON_OK) return AXON_OK;
    if (status == AXON_ESERVER) forget(choice);
    return axi_fail(err, status, "%s (repeating it in a new session)", err->message);
}

static axon_status repeat_choices(axon_simulator *simulator, const question *asked, axi_time deadline,
                                  axon_error *err)
{
    axon_status status = AXON_OK;
    if (asked->needs_selected)
        status = repeat(simulator, &simulator->selected, "select_simulator", deadline, err);
    if (status == AXON_OK && asked->needs_loaded)
        status = repeat(simulator, &simulator->loaded, "load_task", deadline, err);
    if (status != AXON_OK && !simulator->owes)
        axi_simulator_drop(simulator, "what was chosen could not be repeated");
    return status;
}

static axon_status reconnect(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    uint32_t limit_ms = simulator->options.connect_timeout_ms;
    axi_time limit = axi_deadline(limit_ms);
    bool is_ours = limit < deadline;
    axon_status status = axi_simulator_connect(simulator, is_ours ? limit : deadline, err);
    if (status != AXON_OK)
        return name_limit(status, is_ours ? limit_ms : simulator->timeout_ms,
                          is_ours ? "connect_timeout_ms" : "call_timeout_ms", err);
    simulator->selected.is_due = simulator->loaded.is_due = true;
    return AXON_OK;
}

static axon_status make_ready(axon_simulator *simulator, const question *asked, axi_time deadline,
                              axon_error *err)
{
    axon_status status = AXON_OK;
    if (simulator->dealer && simulator->owes) status = settle(simulator, deadline, err);
    if (status != AXON_OK) return status;
    if (simulator->dealer) expect_silence(simulator);
    if (!simulator->dealer) status = reconnect(simulator, deadline, err);
    return status == AXON_OK ? repeat_choices(simulator, asked, deadline, err) : status;
}

/* ---- calls --------------------------------------------------------------------------------- */

static double ms_between(axi_time from, axi_time to)
{
    return (double)(to - from) / 1e6;
}

static axon_status ask_server(axon_simulator *simulator, const question *asked, axon_value **reply,
                              axon_timing *timing, axon_error *err)
{
    axi_zmtp_message body;
    axi_time started = axi_now(), sent, deadline = axi_deadline(simulator->timeout_ms);
    axon_status status = pack(simulator, asked, err); /* first, so that a bad action costs nothing */
    axi_time packed = axi_now();
    if (status == AXON_OK) status = make_ready(simulator, asked, deadline, err);
    axi_time ready = axi_now();
    if (status == AXON_OK)
        status = exchange(simulator, asked->method, &simulator->request, &body, deadline, &sent, err);
    if (status != AXON_OK) return status;
    axi_time received = axi_now();
    status = read_reply(simulator, asked->method, &body, reply, err);
    axi_time done = axi_now();
    *timing = (axon_timing){.total_ms = ms_between(started, done),
                            .encode_ms = ms_between(started, packed),
                            .connect_ms = ms_between(packed, ready),
                            .send_ms = ms_between(ready, sent),
                            .wait_ms = ms_between(sent, received),
                            .decode_ms = ms_between(received, done),
                            .server_ms = -1,
                            .sent_bytes = simulator->request.length,
                            .received_bytes = body.length};
    return status;
}

static axon_status enter(axon_simulator *simulator, axon_error *err)
{
    pthread_mutex_lock(&simulator->gate); /* a cancel counts from in_call on */
    bool was_in_call = simulator->in_call;
    if (!was_in_call) {
        uint64_t count;
        if (atomic_exchange(&simulator->is_cancelled, false)) (void)!read(simulator->wake_fd, &count, 8);
        simulator->in_call = true;
    }
    pthread_mutex_unlock(&simulator->gate);
    if (was_in_call) return axi_fail(err, AXON_EINVAL, "%s: another thread is in a call", simulator->name);
    free(simulator->server_error);
    simulator->server_error = NULL;
    simulator->error_type[0] = 0;
    return AXON_OK;
}

static void leave(axon_simulator *simulator)
{
    pthread_mutex_lock(&simulator->gate);
    simulator->in_call = false;
    pthread_mutex_unlock(&simulator->gate);
}

static void count(axon_simulator *simulator, axon_status status, bool is_step, const axon_timing *timing)
{
    axon_simulator_stats *counts = &simulator->counts;
    counts->calls++;
    counts->replies += status == AXON_OK;
    counts->errors += status == AXON_ESERVER;
    counts->timeouts += status == AXON_ETIMEOUT;
    counts->cancels += status == AXON_ECANCELED;
    if (status != AXON_OK) return;
    simulator->timing = *timing;
    simulator->has_timing = true;
    if (is_step) simulator->steps[counts->window++ % AXON_STATS_WINDOW] = (float)timing->total_ms;
}

static axon_status call(axon_simulator *simulator, const question *asked, axon_value **reply,
                        axon_error *err)
{
    axon_error failure;
    axon_timing timing = {.server_ms = -1};
    axon_status status = check(simulator, &failure);
    if (status == AXON_OK) status = enter(simulator, &failure);
    if (status == AXON_OK) {
        status = ask_server(simulator, asked, reply, &timing, &failure);
        count(simulator, status, strcmp(asked->method, "step") == 0, &timing);
        axi_log(AXON_LOG_DEBUG, "%s: %s: %.3f ms: %s", simulator->name, asked->method, timing.total_ms,
                axon_status_name(status));
        leave(simulator);
    }
    if (status != AXON_OK && err) *err = failure;
    return status;
}

/* Makes one member of a reply, of `type`, the whole of it. */
static axon_status unwrap(const axon_simulator *simulator, const question *asked, axon_value *reply,
                          const char *key, axon_type type, axon_value **member, axon_error *err)
{
    if (axon_value_type(axon_value_get(reply, key)) != type) {
        char fact[96];
        snprintf(fact, sizeof fact, "has no %s \"%s\"", type == AXON_LIST ? "list" : "map", key);
        axon_value_free(reply);
        return misunderstood(simulator, asked->method, fact, err);
    }
    axi_value_unwrap(reply, key);
    *member = reply;
    return AXON_OK;
}

static axon_status call_for(axon_simulator *simulator, const question *asked, const char *key,
                            axon_type type, axon_value **member, axon_error *err)
{
    axon_value *reply;
    if (!member) return axi_fail(err, AXON_EINVAL, "%s: %s is NULL", asked->method, key);
    axon_status status = call(simulator, asked, &reply, err);
    return status == AXON_OK ? unwrap(simulator, asked, reply, key, type, member, err) : status;
}

/* The same for a list in which everything is text. */
static axon_status call_for_names(axon_simulator *simulator, const question *asked, const char *key,
                                  axon_value **names, axon_error *err)
{
    axon_value *list;
    axon_status status = call_for(simulator, asked, key, AXON_LIST, names ? &list : NULL, err);
    if (status != AXON_OK) return status;
    for (size_t i = 0; i < axon_value_count(list); i++) {
        const axon_value *name = axon_value_at(list, i);
        if (axon_value_type(name) == AXON_STRING) continue;
        char fact[96];
        snprintf(fact, sizeof fact, "has %s at \"%s[%zu]\", not text", axi_value_kind(name), key, i);
        axon_value_free(list);
        return misunderstood(simulator, asked->method, fact, err);
    }
    *names = list;
    return AXON_OK;
}

static axon_status call_for_nothing(axon_simulator *simulator, const question *asked, axon_error *err)
{
    axon_value *reply;
    axon_status status = call(simulator, asked, &reply, err);
    if (status == AXON_OK) axon_value_free(reply);
    return status;
}

axon_status axon_simulator_get_info(axon_simulator *simulator, axon_value **info, axon_error *err)
{
    return axon_simulator_call(simulator, "get_info", NULL, info, err);
}

axon_status axon_simulator_call(axon_simulator *simulator, const char *method, const axon_value *fields,
                                axon_value **reply, axon_error *err)
{
    if (!method || !*method) return axi_fail(err, AXON_EINVAL, "method: it is empty");
    if (!reply) return axi_fail(err, AXON_EINVAL, "%s: reply is NULL", method);
    if (fields && axon_value_type(fields) != AXON_MAP)
        return axi_fail(err, AXON_EINVAL, "%s: its fields are no map", method);
    if (axon_value_get(fields, "method"))
        return axi_fail(err, AXON_EINVAL, "%s: a field cannot be called \"method\"", method);
    const question asked = {
        .method = method, .value = fields, .needs_selected = true, .needs_loaded = true};
    axon_value *whole;
    axon_status status = call(simulator, &asked, &whole, err);
    if (status != AXON_OK) return status;
    axi_value_remove(whole, "status");
    *reply = whole;
    return AXON_OK;
}

/* ---- choosing ------------------------------------------------------------------------------ */

static bool is_unknown(const axon_simulator *simulator, axon_status status)
{
    return status == AXON_ESERVER && strcmp(simulator->error_type, "unknown_method") == 0;
}

/* A server of the document's age has one simulator, and says its name. */
static axon_status ask_its_name(axon_simulator *simulator, axon_value **name, axon_error *err)
{
    axon_value *info;
    axon_status status = axon_simulator_get_info(simulator, &info, err);
    if (status != AXON_OK) return status;
    if (axon_value_type(axon_value_get(info, "backend_name")) != AXON_STRING) {
        axon_value_free(info);
        return misunderstood(simulator, "get_info", "has no text \"backend_name\"", err);
    }
    axi_value_unwrap(info, "backend_name");
    *name = info;
    return AXON_OK;
}

axon_status axon_simulator_list_simulators(axon_simulator *simulator, axon_value **names, axon_error *err)
{
    const question asked = {.method = "list_simulators"};
    axon_error failure = {.message = ""};
    axon_status status = call_for_names(simulator, &asked, "simulators", names, &failure);
    if (simulator && is_unknown(simulator, status)) {
        axon_value *name = NULL, *list = NULL;
        status = ask_its_name(simulator, &name, &failure);
        if (status == AXON_OK) {
            list = axon_value_list();
            status = axon_value_append(list, name);
        }
        if (status == AXON_OK) {
            *names = list;
        } else {
            axon_value_free(list);
            if (status == AXON_ENOMEM) axi_no_memory(&failure, sizeof *list);
        }
    }
    if (status != AXON_OK && err) *err = failure;
    return status;
}

static axon_status choose_the_only_one(axon_simulator *simulator, const char *name, axon_error *err)
{
    axon_value *its_name;
    axon_status status = ask_its_name(simulator, &its_name, err);
    if (status != AXON_OK) return status;
    if (!is_word(its_name, name)) {
        snprintf(simulator->error_type, sizeof simulator->error_type, "unknown_simulator");
        const char *text = its_name->as.bytes.data;
        int shown = (int)(its_name->as.bytes.length > 80 ? 80 : its_name->as.bytes.length);
        if (asprintf(&simulator->server_error, "the server has one simulator, \"%.*s\", and no \"%s\"",
                     shown, text, name) < 0)
            simulator->server_error = NULL;
        status = axi_fail(err, AXON_ESERVER, "%s: select_simulator: unknown_simulator: %s", simulator->name,
                          simulator->server_error ? simulator->server_error : name);
    }
    axon_value_free(its_name);
    return status;
}

axon_status axon_simulator_select(axon_simulator *simulator, const char *name, axon_error *err)
{
    if (!name || !*name) return axi_fail(err, AXON_EINVAL, "simulator name: it is empty");
    const axon_value text = as_text(name);
    const question asked = {.method = "select_simulator", .key = "simulator", .value = &text};
    axon_error failure = {.message = ""};
    axon_status status = call_for_nothing(simulator, &asked, &failure);
    if (status == AXON_OK) {
        keep(&simulator->selected, &simulator->request);
        forget(&simulator->loaded);
    } else if (simulator && is_unknown(simulator, status)) {
        status = choose_the_only_one(simulator, name, &failure);
    }
    if (status != AXON_OK && err) *err = failure;
    return status;
}

axon_status axon_simulator_list_tasks(axon_simulator *simulator, const char *suite, axon_value **tasks,
                                      axon_error *err)
{
    const axon_value text = as_text(suite ? suite : "");
    const question asked = {.method = "list_tasks",
                            .key = suite ? "suite" : NULL,
                            .value = suite ? &text : NULL,
                            .needs_selected = true};
    return call_for_names(simulator, &asked, "tasks", tasks, err);
}

axon_status axon_simulator_load_task(axon_simulator *simulator, const char *task_name,
                                     axon_value **task_info, axon_error *err)
{
    if (!task_name) return axi_fail(err, AXON_EINVAL, "task name: it is NULL");
    const axon_value text = as_text(task_name);
    const question asked = {
        .method = "load_task", .key = "task_name", .value = &text, .needs_selected = true};
    axon_status status = call_for(simulator, &asked, "task_info", AXON_MAP, task_info, err);
    if (status == AXON_OK) keep(&simulator->loaded, &simulator->request);
    return status;
}

/* ---- episodes ------------------------------------------------------------------------------ */

axon_status axon_simulator_reset(axon_simulator *simulator, axon_value **observation, axon_error *err)
{
    const question asked = {.method = "reset", .needs_selected = true, .needs_loaded = true};
    return call_for(simulator, &asked, "observation", AXON_MAP, observation, err);
}

/* A number, or an array of one. */
static bool read_number(const axon_value *value, double *number)
{
    const axon_array *array;
    axon_value element;
    if (axon_value_as_float(value, number) == AXON_OK) return true;
    if (axon_value_as_array(value, &array) != AXON_OK) return false;
    for (int32_t i = 0; i < array->ndim; i++)
        if (array->shape[i] != 1) return false;
    return axi_element_read(array->data, array->dtype, false, &element) &&
           axon_value_as_float(&element, number) == AXON_OK;
}

static bool read_truth(const axon_value *value, int32_t *truth)
{
    double number;
    if (axon_value_as_bool(value, truth) == AXON_OK) return true;
    if (!read_number(value, &number)) return false;
    *truth = number != 0;
    return true;
}

static axon_status read_outcome(const axon_simulator *simulator, axon_value *reply,
                                axon_simulator_outcome *outcome, axon_error *err)
{
    axon_simulator_outcome made = {.reply = reply,
                                   .observation = axon_value_get(reply, "observation"),
                                   .info = axon_value_get(reply, "info")};
    const char *wrong = NULL;
    if (axon_value_type(made.observation) != AXON_MAP) wrong = "has no map \"observation\"";
    if (!read_number(axon_value_get(reply, "reward"), &made.reward)) wrong = "has no number \"reward\"";
    if (!read_truth(axon_value_get(reply, "terminated"), &made.terminated))
        wrong = "has no truth \"terminated\"";
    if (!read_truth(axon_value_get(reply, "truncated"), &made.truncated))
        wrong = "has no truth \"truncated\"";
    if (wrong) {
        axon_value_free(reply);
        return misunderstood(simulator, "step", wrong, err);
    }
    if (axon_value_type(made.info) != AXON_MAP) made.info = NULL;
    *outcome = made;
    return AXON_OK;
}

axon_status axon_simulator_step(axon_simulator *simulator, const axon_value *action,
                                axon_simulator_outcome *outcome, axon_error *err)
{
    if (!outcome) return axi_fail(err, AXON_EINVAL, "outcome: it is NULL");
    if (axon_value_type(action) != AXON_MAP) return axi_fail(err, AXON_EINVAL, "action: it is no map");
    const question asked = {
        .method = "step", .key = "action", .value = action, .needs_selected = true, .needs_loaded = true};
    axon_value *reply;
    axon_status status = call(simulator, &asked, &reply, err);
    return status == AXON_OK ? read_outcome(simulator, reply, outcome, err) : status;
}

axon_status axon_simulator_disconnect(axon_simulator *simulator, axon_error *err)
{
    const question asked = {.method = "disconnect"};
    bool is_ours = simulator && simulator->owner == getpid();
    if (is_ours && simulator->dealer) expect_silence(simulator);
    if (is_ours && !simulator->dealer) {
        forget(&simulator->selected); /* the server knows of no session of ours */
        forget(&simulator->loaded);
        return AXON_OK;
    }
    axon_status status = call_for_nothing(simulator, &asked, err);
    if (status != AXON_OK) return status;
    forget(&simulator->selected);
    forget(&simulator->loaded);
    axi_dealer_close(simulator->dealer, false);
    simulator->dealer = NULL;
    return AXON_OK;
}

/* ---- what it knows ------------------------------------------------------------------------- */

const char *axon_simulator_address(const axon_simulator *simulator)
{
    return simulator ? simulator->address : NULL;
}

axon_status axon_simulator_set_timeout(axon_simulator *simulator, uint32_t timeout_ms, axon_error *err)
{
    if (!simulator) return axi_fail(err, AXON_EINVAL, "simulator: it is NULL");
    simulator->timeout_ms = timeout_ms ? timeout_ms : AXI_SIMULATOR_CALL_TIMEOUT_MS;
    return AXON_OK;
}

const char *axon_simulator_error_type(const axon_simulator *simulator)
{
    return simulator && simulator->error_type[0] ? simulator->error_type : NULL;
}

const char *axon_simulator_server_error(const axon_simulator *simulator)
{
    return simulator ? simulator->server_error : NULL;
}

axon_status axon_simulator_timing(const axon_simulator *simulator, axon_timing *timing, axon_error *err)
{
    if (!simulator) return axi_fail(err, AXON_EINVAL, "simulator: it is NULL");
    if (!timing) return axi_fail(err, AXON_EINVAL, "timing: it is NULL");
    if (!simulator->has_timing) return axi_fail(err, AXON_EINVAL, "%s: no reply yet", simulator->name);
    *timing = simulator->timing;
    return AXON_OK;
}

axon_status axon_simulator_get_stats(const axon_simulator *simulator, axon_simulator_stats *stats,
                                     axon_error *err)
{
    if (!simulator) return axi_fail(err, AXON_EINVAL, "simulator: it is NULL");
    if (!stats) return axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    float steps[AXON_STATS_WINDOW];
    *stats = simulator->counts;
    if (stats->window > AXON_STATS_WINDOW) stats->window = AXON_STATS_WINDOW;
    memcpy(steps, simulator->steps, sizeof steps);
    stats->step = axi_percentiles_of(steps, (size_t)stats->window);
    return AXON_OK;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static axon_status make(axon_simulator *made, axon_error *err)
{
    pthread_mutex_init(&made->gate, NULL);
    made->owner = getpid();
    made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made->steps = calloc(AXON_STATS_WINDOW, sizeof *made->steps);
    if (made->wake_fd >= 0 && made->steps) return AXON_OK;
    return axi_fail(err, AXON_ENOMEM, "simulator: out of memory or descriptors");
}

static axon_status open_simulator(axon_simulator **simulator, const char *address,
                                  const axon_simulator_options *opts, axon_error *err)
{
    axon_simulator *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axon_status status = make(made, err);
    if (status == AXON_OK) status = axi_simulator_configure(made, address, opts, err);
    if (status == AXON_OK) {
        uint32_t limit_ms = made->options.connect_timeout_ms;
        status = axi_simulator_connect(made, axi_deadline(limit_ms), err);
        if (!made->options.connect_once || status == AXON_ETIMEOUT)
            status = name_limit(status, limit_ms, "connect_timeout_ms", err);
    }
    if (status == AXON_OK)
        *simulator = made;
    else
        axon_simulator_close(made);
    return status;
}

axon_status axon_simulator_open(axon_simulator **simulator, const char *address,
                                const axon_simulator_options *opts, axon_error *err)
{
    axon_error failure;
    axon_status status = simulator ? open_simulator(simulator, address, opts, &failure)
                                   : axi_fail(&failure, AXON_EINVAL, "simulator: it is NULL");
    if (status != AXON_OK && err) *err = failure;
    return status;
}

void axon_simulator_cancel(axon_simulator *simulator)
{
    if (!simulator || simulator->owner != getpid()) return;
    pthread_mutex_lock(&simulator->gate);
    if (simulator->in_call && !atomic_exchange(&simulator->is_cancelled, true))
        eventfd_write(simulator->wake_fd, 1);
    pthread_mutex_unlock(&simulator->gate);
}

/* So that the server lets go of what it holds for the session now, and not when it finds it idle. */
static void say_goodbye(axon_simulator *simulator)
{
    simulator->timeout_ms = simulator->options.close_timeout_ms;
    if (simulator->dealer && !simulator->owes) axon_simulator_disconnect(simulator, NULL);
    if (!simulator->dealer) return;
    const question asked = {.method = "disconnect"};
    const axi_message *request = &simulator->request;
    axi_time deadline = axi_deadline(simulator->timeout_ms);
    if (pack(simulator, &asked, NULL) == AXON_OK &&
        axi_dealer_send(simulator->dealer, request->parts, request->count, deadline, NULL) == AXON_OK)
        axi_dealer_finish(simulator->dealer, deadline);
}

void axon_simulator_close(axon_simulator *simulator)
{
    if (!simulator) return;
    bool is_ours = simulator->owner == getpid();
    if (is_ours) {
        if (simulator->dealer) say_goodbye(simulator);
        pthread_mutex_destroy(&simulator->gate);
    }
    axi_dealer_close(simulator->dealer, !is_ours);
    if (simulator->wake_fd >= 0) close(simulator->wake_fd);
    forget(&simulator->selected);
    forget(&simulator->loaded);
    axi_message_free(&simulator->request);
    free(simulator->server_error);
    free(simulator->address);
    free(simulator->steps);
    free(simulator);
}

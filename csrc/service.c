/* See axon/service.h and service_internal.h. */
#include "service_internal.h"

#include <axon/server.h>

#include "http.h"
#include "json.h"
#include "value_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_TIMEOUT_MS = 60000,
    DEFAULT_CONNECT_TIMEOUT_MS = 10000,
    DEFAULT_MAX_BYTES = 256 * 1024 * 1024, /* in either direction */
    MAX_PATH_BYTES = 8192,
    MAX_OPTIONS_BYTES = 4096 /* a larger size was never set */
};

struct axon_service {
    axi_http *http;
    uint32_t timeout_ms;
    uint64_t max_request_bytes;
    axon_reply_form reply_form;
};

/* ---- opening --------------------------------------------------------------------------------- */

axon_status axi_options_read(void *options, size_t size, const void *given, axon_error *err)
{
    memset(options, 0, size);
    if (!given) return AXON_OK;
    size_t given_size;
    memcpy(&given_size, given, sizeof given_size);
    if (given_size < sizeof given_size || given_size > MAX_OPTIONS_BYTES)
        return axi_fail(err, AXON_EINVAL, "options: size is %zu, not the size of the struct", given_size);
    for (size_t i = size; i < given_size; i++)
        if (((const char *)given)[i])
            return axi_fail(err, AXON_EINVAL, "options: byte %zu asks for what this axon does not know", i);
    memcpy(options, given, given_size < size ? given_size : size);
    return AXON_OK;
}

axon_status axi_options_listen(const char **host, int32_t *port, int32_t standard, axon_error *err)
{
    if (*port < AXON_ANY_PORT || *port > UINT16_MAX)
        return axi_fail(err, AXON_EINVAL, "port: %" PRId32 " is none", *port);
    if (!*host || !**host) *host = "127.0.0.1";
    if (*port == 0) *port = standard;
    return AXON_OK;
}

axon_status axon_service_open(axon_service **service, const char *url, const axon_service_options *opts,
                              axon_error *err)
{
    axon_service_options o;
    if (!service) return axi_fail(err, AXON_EINVAL, "service is NULL");
    axon_status status = axi_options_read(&o, sizeof o, opts, err);
    if (status) return status;
    if (o.reply_form != AXON_REPLY_TREE && o.reply_form != AXON_REPLY_TEXT)
        return axi_fail(err, AXON_EINVAL, "reply_form %d is not an axon_reply_form", (int)o.reply_form);
    axi_http_options http = {
        .bearer_token = o.bearer_token,
        .ca_file = o.ca_file,
        .tls_insecure = o.tls_insecure != 0,
        .timeout_ms = o.timeout_ms ? o.timeout_ms : DEFAULT_TIMEOUT_MS,
        .connect_timeout_ms = o.connect_timeout_ms ? o.connect_timeout_ms : DEFAULT_CONNECT_TIMEOUT_MS,
        .max_reply_bytes = o.max_reply_bytes ? o.max_reply_bytes : DEFAULT_MAX_BYTES,
    };
    axon_service *opened = calloc(1, sizeof *opened);
    if (!opened) return axi_no_memory(err, sizeof *opened);
    opened->timeout_ms = http.timeout_ms;
    opened->max_request_bytes = o.max_request_bytes ? o.max_request_bytes : DEFAULT_MAX_BYTES;
    opened->reply_form = o.reply_form;
    status = axi_http_open(&opened->http, url, &http, err);
    if (status) {
        free(opened);
        return status;
    }
    *service = opened;
    return AXON_OK;
}

const char *axon_service_url(const axon_service *service)
{
    return service ? axi_http_url(service->http) : NULL;
}

void axon_service_cancel(axon_service *service)
{
    if (service) axi_http_cancel(service->http);
}

void axon_service_close(axon_service *service)
{
    if (!service) return;
    axi_http_close(service->http);
    free(service);
}

/* ---- errors that the service answered with ------------------------------------------------------- */

/* Text of bounded size that is added to; what does not fit is cut. */
typedef struct note {
    char text[AXON_ERROR_TEXT];
    size_t length;
} note;

static void add(note *to, const char *text, size_t length)
{
    size_t room = sizeof to->text - 1 - to->length;
    if (length > room) length = room;
    memcpy(to->text + to->length, text, length);
    to->length += length;
    to->text[to->length] = 0;
}

static void add_value(note *to, const axon_value *value)
{
    const char *text;
    char *json;
    size_t length;
    if (axon_value_as_string(value, &text, &length) == AXON_OK) {
        add(to, text, length);
    } else if (axon_value_to_json(value, &json, &length, NULL) == AXON_OK) {
        add(to, json, length);
        axon_free(json);
    }
}

/* One of FastAPI's validation errors, {"loc": ["body", "conf"], "msg": "..."}: "body.conf: ...". */
static void add_validation_error(note *to, const axon_value *error)
{
    const axon_value *where = axon_value_get(error, "loc"), *what = axon_value_get(error, "msg");
    if (axon_value_type(where) != AXON_LIST || !what) {
        add_value(to, error);
        return;
    }
    for (size_t i = 0; i < axon_value_count(where); i++) {
        if (i) add(to, ".", 1);
        add_value(to, axon_value_at(where, i));
    }
    add(to, ": ", 2);
    add_value(to, what);
}

static void add_detail(note *to, const axon_value *reply)
{
    static const char *const keys[] = {"detail", "error", "message"};
    const axon_value *detail = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !detail; i++)
        detail = axon_value_get(reply, keys[i]);
    if (!detail) detail = reply;
    if (axon_value_type(detail) != AXON_LIST) {
        add_value(to, detail);
        return;
    }
    for (size_t i = 0; i < axon_value_count(detail) && to->length < sizeof to->text - 1; i++) {
        if (i) add(to, "; ", 2);
        add_validation_error(to, axon_value_at(detail, i));
    }
}

/* The first line of a text, or the title of a page. */
static void add_first_line(note *to, const char *text)
{
    const char *title = text[0] == '<' ? strcasestr(text, "<title>") : NULL;
    const char *line = title ? title + strlen("<title>") : text;
    line += strspn(line, " \t\r\n");
    add(to, line, strcspn(line, title ? "<\r\n" : "\r\n"));
}

/* Takes reply->data. */
static axon_status service_failed(const char *path, axi_http_reply *reply, axon_error *err)
{
    note why = {0};
    axon_value *tree = NULL;
    if (reply->data) add_first_line(&why, (const char *)reply->data);
    if (reply->is_json && reply->data &&
        axi_json_read((char *)reply->data, reply->length, "", &tree, NULL) == AXON_OK) {
        why.length = 0;
        add_detail(&why, tree);
        axon_value_free(tree);
    } else if (!reply->is_json) {
        free(reply->data);
    }
    bool is_refusal = reply->status == 401 || reply->status == 403;
    axon_status status = axi_fail(err, is_refusal ? AXON_EAUTH : AXON_ESERVER, "%s failed (HTTP %d): %s",
                                  path, (int)reply->status,
                                  why.length      ? why.text
                                  : reply->length ? "the reply has no text to show"
                                                  : "the reply is empty");
    if (err) err->http_status = reply->status;
    return status;
}

/* ---- replies --------------------------------------------------------------------------------- */

/* What a reply is read with. */
typedef struct reading {
    const char *subject; /* begins the error texts */
    const char *member;  /* the list that is wanted of it; NULL: the whole reply */
    axon_reply_form form;
} reading;

/* A leaf over the whole of `data`, which is malloc'ed and becomes the leaf's, or is freed. */
static axon_status take_leaf(axon_value *leaf, void *data, size_t length, axon_value **value,
                             axon_error *err)
{
    if (!leaf) {
        free(data);
        return axi_no_memory(err, length);
    }
    if (data) leaf->flags |= AXI_OWNS_DATA;
    *value = leaf;
    return AXON_OK;
}

static axon_status no_list(const reading *want, axon_error *err)
{
    return axi_fail(err, AXON_EPROTOCOL, "%s: \"%s\" is no list", want->subject, want->member);
}

/* Unparsed JSON: all of `text`, or the span of one member, which keeps the whole text alive. */
static axon_status take_text(const reading *want, char *text, size_t length, axon_value **value,
                             axon_error *err)
{
    if (!want->member) return take_leaf(axon_value_json(text, (int64_t)length), text, length, value, err);
    axon_value member = {.type = AXON_JSON};
    const char *found = NULL;
    axon_status status =
        axi_json_member(text, length, want->member, &found, &member.as.bytes.length, want->subject, err);
    if (status == AXON_OK && found[0] != '[') status = no_list(want, err);
    member.as.bytes.data = found;
    axon_value *root = status == AXON_OK ? axi_value_root(&member, text) : NULL;
    if (!root) {
        free(text);
        return status ? status : axi_no_memory(err, sizeof *root);
    }
    *value = root;
    return AXON_OK;
}

/* Moves one child out of `tree`, which is freed; `text`, which both point into, goes with the child. */
static axon_status take_member(const reading *want, axon_value *tree, char *text, axon_value **value,
                               axon_error *err)
{
    axon_value *child = (axon_value *)(uintptr_t)axon_value_get(tree, want->member);
    if (child && child->type != AXON_LIST) {
        axon_value_free(tree);
        return no_list(want, err);
    }
    axon_value moved = child ? *child : (axon_value){0};
    moved.key = NULL; /* it points into `text` too */
    moved.key_length = 0;
    axon_value *root = child ? axi_value_root(&moved, text) : NULL;
    if (root) {
        tree->flags &= (uint8_t)~AXI_OWNS_MESSAGE;
        child->type = AXON_NIL;
    }
    axon_value_free(tree);
    if (!child)
        return axi_fail(err, AXON_EPROTOCOL, "%s has no member \"%s\"", want->subject, want->member);
    if (!root) return axi_no_memory(err, sizeof *root);
    *value = root;
    return AXON_OK;
}

/* Takes reply->data. */
static axon_status read_reply(const reading *want, const axi_http_reply *reply, axon_value **value,
                              axon_error *err)
{
    if (want->member && (!reply->data || !reply->is_json)) {
        free(reply->data);
        return axi_fail(err, AXON_EPROTOCOL, "%s is %s, not JSON", want->subject,
                        !reply->data             ? "empty"
                        : reply->content_type[0] ? reply->content_type
                                                 : "without a Content-Type");
    }
    if (!reply->data) return take_leaf(axon_value_nil(), NULL, 0, value, err);
    if (!reply->is_json)
        return take_leaf(axon_value_bytes(reply->data, reply->length), reply->data, reply->length, value,
                         err);
    if (want->form == AXON_REPLY_TEXT)
        return take_text(want, (char *)reply->data, reply->length, value, err);
    axon_value *tree = NULL;
    axon_status status = axi_json_read((char *)reply->data, reply->length, want->subject, &tree, err);
    if (status) return status;
    if (want->member) return take_member(want, tree, (char *)reply->data, value, err);
    *value = tree;
    return AXON_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static axon_status check_path(const char *path, axon_error *err)
{
    if (!path || path[0] != '/')
        return axi_fail(err, AXON_EINVAL, "path \"%s\" does not begin with \"/\"", path ? path : "");
    size_t length = strlen(path);
    if (length > MAX_PATH_BYTES)
        return axi_fail(err, AXON_EINVAL, "path is longer than %d bytes", MAX_PATH_BYTES);
    for (size_t i = 0; i < length; i++)
        if (path[i] <= ' ' || path[i] >= 0x7f || path[i] == '#')
            return axi_fail(err, AXON_EINVAL,
                            "path \"%s\": the character at %zu cannot stand in a URL; percent-encode it",
                            path, i);
    return AXON_OK;
}

static axon_status make_body(const axon_service *service, const char *path, const axon_value *tree,
                             axi_body *body, axon_error *err)
{
    char subject[128];
    snprintf(subject, sizeof subject, "%.100s: body", path);
    axon_status status = axi_json_write(body, tree, subject, err);
    if (status == AXON_OK && body->length > service->max_request_bytes)
        return axi_fail(err, AXON_ETOOBIG,
                        "%s is %" PRIu64 " bytes, more than %" PRIu64 " (max_request_bytes)", subject,
                        body->length, service->max_request_bytes);
    return status;
}

/* `tree` NULL is a GET. */
static axon_status exchange(axon_service *service, const char *path, const axon_value *tree,
                            const char *member, axon_reply_form form, axon_value **value, axon_error *err)
{
    axi_time deadline = axi_deadline(service->timeout_ms);
    axi_body body = {0};
    axi_http_reply reply = {0};
    axon_status status = tree ? make_body(service, path, tree, &body, err) : AXON_OK;
    if (status == AXON_OK)
        status = axi_http_request(service->http, path, tree ? &body : NULL, deadline, &reply, err);
    axi_body_free(&body);
    if (status) return status;
    if (reply.status < 200 || reply.status > 299) return service_failed(path, &reply, err);

    char subject[256];
    snprintf(subject, sizeof subject, "reply of %.120s%.100s", axi_http_url(service->http), path);
    const reading want = {.subject = subject, .member = member, .form = form};
    status = read_reply(&want, &reply, value, err);
    if (status && err) err->http_status = reply.status;
    return status;
}

axon_status axi_service_call(axon_service *service, const char *path, const axon_value *body,
                             const char *member, bool as_tree, axon_value **value, axon_error *err)
{
    if (!service) return axi_fail(err, AXON_EINVAL, "service is NULL");
    if (!value) return axi_fail(err, AXON_EINVAL, "reply is NULL");
    axon_status status = check_path(path, err);
    if (status == AXON_OK) status = axi_http_begin(service->http, err);
    if (status) return status;
    axon_reply_form form = as_tree ? AXON_REPLY_TREE : service->reply_form;
    status = exchange(service, path, body, member, form, value, err);
    axi_http_end(service->http);
    return status;
}

axon_status axon_service_get(axon_service *service, const char *path, axon_value **reply, axon_error *err)
{
    return axi_service_call(service, path, NULL, NULL, false, reply, err);
}

axon_status axon_service_post(axon_service *service, const char *path, const axon_value *body,
                              axon_value **reply, axon_error *err)
{
    axon_type type = axon_value_type(body);
    if (type != AXON_MAP && type != AXON_JSON)
        return axi_fail(err, AXON_EINVAL, "body is neither a map nor JSON text");
    return axi_service_call(service, path, body, NULL, false, reply, err);
}

axon_status axon_service_health(axon_service *service, axon_value **reply, axon_error *err)
{
    return axi_service_call(service, "/health", NULL, NULL, false, reply, err);
}

/* See policy_dialect.h. */
#include "policy_dialect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_text(const axon_value *value, const char *text)
{
    const char *utf8;
    size_t length;
    return axon_value_as_string(value, &utf8, &length) == AXON_OK && length == strlen(text) &&
           memcmp(utf8, text, length) == 0;
}

/* ---- which --------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

axon_dialect axi_dialect_of(const char *url, const axon_value *metadata)
{
    if (ends_with(url, "/v1/realtime/robot/openpi")) return AXON_VLLM_OMNI;
    if (axon_value_get(metadata, "needs_session_id") && axon_value_get(metadata, "n_external_cameras"))
        return AXON_ROBOARENA;
    return AXON_OPENPI;
}

bool axi_dialect_has(axon_dialect dialect, axi_ask ask)
{
    return ask == AXI_ASK_STEP || dialect != AXON_OPENPI;
}

bool axi_dialect_keeps_connection(const axon_value *metadata)
{
    const axon_value *own = axon_value_get(metadata, "__axon__");
    int32_t keeps = 0;
    axon_status status = axon_value_as_bool(axon_value_get(own, "keeps_connection"), &keeps);
    return status == AXON_OK && keeps;
}

/* Only what the server declared: {"__axon__": {"codecs": ["jpeg", "png"]}}. */
axon_image_format axi_dialect_pictures(const axon_value *metadata, axon_compress wanted)
{
    const axon_value *codecs = axon_value_get(axon_value_get(metadata, "__axon__"), "codecs");
    if (wanted == AXON_COMPRESS_NONE) return AXON_IMAGE_UNKNOWN;
    for (size_t i = 0; i < axon_value_count(codecs); i++)
        if (is_text(axon_value_at(codecs, i), wanted == AXON_COMPRESS_JPEG ? "jpeg" : "png"))
            return wanted == AXON_COMPRESS_JPEG ? AXON_IMAGE_JPEG : AXON_IMAGE_PNG;
    return AXON_IMAGE_UNKNOWN;
}

/* ---- requests ------------------------------------------------------------------------------ */

/* msgpack: {"__webpolicy_op__": "step", "obs": ...}, up to the observation, and its like for a reset. */
static const char webpolicy_step[] = "\x82\xb0__webpolicy_op__\xa4step\xa3obs";
static const char webpolicy_reset[] = "\x82\xb0__webpolicy_op__\xa5reset\xa7payload";
static const char webpolicy_bare_reset[] = "\x81\xb0__webpolicy_op__\xa5reset";

static axon_status pack_webpolicy(axi_ask ask, const axon_value *value, axi_message *request,
                                  axon_error *err)
{
    if (ask == AXI_ASK_STEP)
        return axi_message_precede(request, webpolicy_step, sizeof webpolicy_step - 1, err);
    if (axon_value_count(value) > 0)
        return axi_message_precede(request, webpolicy_reset, sizeof webpolicy_reset - 1, err);
    return axi_message_replace(request, webpolicy_bare_reset, sizeof webpolicy_bare_reset - 1, err);
}

/* The map that was packed gets one more key, in front of the others. */
static axon_status add_endpoint(axi_ask ask, const axon_value *value, axi_message *request, axon_error *err)
{
    static const char step[] = "\xa8"
                               "endpoint"
                               "\xa5"
                               "infer",
                      reset[] = "\xa8"
                                "endpoint"
                                "\xa5"
                                "reset";
    if (axon_value_get(value, "endpoint")) return AXON_OK; /* the caller knows better */
    char header[5 + sizeof reset];
    size_t count = axon_value_count(value) + 1, length;
    if (count < 16) {
        header[0] = (char)(0x80 | count);
        length = 1;
    } else {
        header[0] = (char)0xdf;
        for (int i = 0; i < 4; i++)
            header[1 + i] = (char)(count >> (24 - 8 * i));
        length = 5;
    }
    memcpy(header + length, ask == AXI_ASK_STEP ? step : reset, sizeof step - 1);
    axi_message_skip_map_header(request);
    return axi_message_precede(request, header, length + sizeof step - 1, err);
}

axon_status axi_dialect_pack(axon_dialect dialect, axi_ask ask, const axon_value *value,
                             axon_image_format pictures, axi_message *request, axon_error *err)
{
    const char *subject = ask == AXI_ASK_STEP ? "observation" : "reset payload";
    axon_value *nothing = value ? NULL : axon_value_map();
    if (!value && !nothing) return axi_no_memory(err, sizeof value);
    const axon_value *sent = value ? value : nothing;
    axon_status status = axon_value_type(sent) == AXON_MAP
                             ? axi_pack_pictures(request, sent, AXON_MARKER_OPENPI, pictures, subject, err)
                             : axi_fail(err, AXON_EINVAL, "%s: it is no map", subject);
    if (status == AXON_OK && dialect == AXON_WEBPOLICY) status = pack_webpolicy(ask, sent, request, err);
    if (status == AXON_OK && (dialect == AXON_ROBOARENA || dialect == AXON_VLLM_OMNI))
        status = add_endpoint(ask, sent, request, err);
    axon_value_free(nothing);
    return status;
}

/* ---- the server's errors ------------------------------------------------------------------- */

axon_status axi_fail_by_server(axon_error *err, const char *subject, const char *text)
{
    size_t end = strlen(text);
    while (end > 0 && strchr(" \t\r\n", text[end - 1]))
        end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    while (start < end && strchr(" \t\r", text[start]))
        start++;
    int length = end - start > AXON_ERROR_TEXT ? AXON_ERROR_TEXT : (int)(end - start);
    return axi_fail(err, AXON_ESERVER, "%s: server error: %.*s", subject, length, text + start);
}

/* A string of the tree, zero-terminated, the caller's. */
static char *copy_of(const axon_value *string)
{
    const char *utf8;
    size_t length;
    if (axon_value_as_string(string, &utf8, &length) != AXON_OK) return NULL;
    return strndup(utf8, length);
}

/* The text of a reply that is an error: {"type": "error", "message": text}, or {"error": text} alone. */
static const axon_value *error_in(const axon_value *reply)
{
    const axon_value *error = axon_value_get(reply, "error");
    if (axon_value_count(reply) == 1 && axon_value_type(error) == AXON_STRING) return error;
    const axon_value *message = axon_value_get(reply, "message");
    bool is_error = is_text(axon_value_get(reply, "type"), "error");
    return is_error && axon_value_type(message) == AXON_STRING ? message : NULL;
}

/* ---- replies ------------------------------------------------------------------------------- */

static bool acknowledges(axon_dialect dialect, const axon_value *reply)
{
    int32_t truth = 0;
    if (dialect == AXON_WEBPOLICY)
        return axon_value_as_bool(axon_value_get(reply, "__webpolicy_reset_ack__"), &truth) == AXON_OK &&
               truth;
    return is_text(axon_value_get(reply, "status"), "reset successful");
}

/* webpolicy's {"action": {...}}. An old server's reply is the action map itself, and may have a key of that name:
 * then it has others, or no map in it. */
static bool is_envelope(const axon_value *reply)
{
    size_t known = 1;
    known += axon_value_get(reply, "server_timing") != NULL;
    known += axon_value_get(reply, "policy_timing") != NULL;
    return axon_value_type(axon_value_get(reply, "action")) == AXON_MAP && axon_value_count(reply) == known;
}

/* Timings beside the envelope go with the actions, unless there are some already. */
static axon_status unwrap(axon_value *reply, axon_error *err)
{
    static const char *const timings[] = {"server_timing", "policy_timing"};
    axon_value *kept[2] = {axi_value_take(reply, timings[0]), axi_value_take(reply, timings[1])};
    axon_status status = AXON_OK;
    axi_value_unwrap(reply, "action");
    for (int i = 0; i < 2; i++) {
        if (status == AXON_OK && kept[i] && !axon_value_get(reply, timings[i]))
            status = axon_value_set(reply, timings[i], kept[i]);
        else
            axon_value_free(kept[i]);
    }
    return status == AXON_OK ? status : axi_no_memory(err, sizeof *reply);
}

/* Makes what a policy answered an action map. */
static axon_status make_map(axon_dialect dialect, const char *subject, axon_value **reply, axon_error *err)
{
    if (dialect == AXON_WEBPOLICY && is_envelope(*reply)) return unwrap(*reply, err);
    if (axon_value_type(*reply) == AXON_MAP) return AXON_OK;
    if (axon_value_type(*reply) != AXON_ARRAY)
        return axi_fail(err, AXON_EPROTOCOL, "%s: it is neither a map nor an array", subject);
    axon_value *map = axon_value_map();
    axon_status status = axon_value_set(map, "actions", *reply);
    *reply = status == AXON_OK ? map : NULL;
    if (status != AXON_OK) axon_value_free(map);
    return status == AXON_OK ? AXON_OK : axi_no_memory(err, sizeof map);
}

static axon_status read_text(axon_dialect dialect, axi_ask ask, axi_ws_message *message,
                             const char *subject, axon_value **reply, char **text, axon_error *err)
{
    char *words = (char *)message->data;
    bool may_acknowledge = ask == AXI_ASK_RESET && dialect != AXON_WEBPOLICY;
    if (may_acknowledge && strcmp(words, "reset successful") == 0) {
        free(words);
        *reply = NULL;
        return AXON_OK;
    }
    *text = words;
    return axi_fail_by_server(err, subject, words);
}

static axon_status judge(axon_dialect dialect, axi_ask ask, const char *subject, axon_value **reply,
                         char **text, axon_error *err)
{
    const axon_value *error = error_in(*reply);
    if (error) {
        *text = copy_of(error);
        return *text ? axi_fail_by_server(err, subject, *text) : axi_no_memory(err, sizeof error);
    }
    char what[AXON_ERROR_TEXT / 2];
    snprintf(what, sizeof what, "%s: reply", subject);
    if (ask == AXI_ASK_STEP) return make_map(dialect, what, reply, err);
    if (!acknowledges(dialect, *reply))
        return axi_fail(err, AXON_EPROTOCOL, "%s: it does not acknowledge the reset", what);
    axon_value_free(*reply);
    *reply = NULL;
    return AXON_OK;
}

axon_status axi_dialect_read(axon_dialect dialect, axi_ask ask, axi_ws_message *message,
                             const char *subject, axon_value **reply, char **text, axon_error *err)
{
    if (message->is_text) return read_text(dialect, ask, message, subject, reply, text, err);
    char what[AXON_ERROR_TEXT / 2];
    snprintf(what, sizeof what, "%s: reply", subject);
    axon_value *value = NULL;
    axon_status status = axi_unpack(message->data, message->length, what, &value, err);
    if (status == AXON_OK) status = judge(dialect, ask, subject, &value, text, err);
    if (status == AXON_OK)
        *reply = value;
    else
        axon_value_free(value);
    return status;
}

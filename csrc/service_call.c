/* What the functions of csrc/services/ are written with, see service_internal.h. */
#include "service_internal.h"

#include "base64.h"
#include "image_internal.h"
#include "value_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the body -------------------------------------------------------------------------------- */

axi_call axi_call_start(axon_service *service, const char *path, axon_error *err)
{
    axi_call call = {.service = service, .path = path, .body = axon_value_map(), .err = err};
    if (!call.body) call.status = axi_no_memory(err, sizeof *call.body);
    return call;
}

void axi_call_options(axi_call *call, void *options, size_t size, const void *given)
{
    axon_status status = axi_options_read(options, size, given, call->status ? NULL : call->err);
    if (call->status == AXON_OK) call->status = status;
}

void axi_call_set(axi_call *call, const char *key, axon_value *value)
{
    if (call->status)
        axon_value_free(value);
    else if (axon_value_set(call->body, key, value) != AXON_OK)
        call->status = axi_no_memory(call->err, sizeof *value);
}

/* The first failure stays. */
static void refuse(axi_call *call, const char *key, const char *format, ...) AXI_PRINTF(3, 4);

static void refuse(axi_call *call, const char *key, const char *format, ...)
{
    if (call->status) return;
    char reason[AXON_ERROR_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    call->status = axi_fail(call->err, AXON_EINVAL, "%s: %s %s", call->path, key, reason);
}

void axi_call_image(axi_call *call, const char *key, const axon_image *image)
{
    if (image)
        axi_call_set(call, key, axon_value_image(image));
    else
        refuse(call, key, "is NULL");
}

/* Bytes that go with the body. */
static axon_value *own_bytes(void *data, size_t length)
{
    axon_value *bytes = axon_value_bytes(data, length);
    if (bytes)
        bytes->flags |= AXI_OWNS_DATA;
    else
        free(data);
    return bytes;
}

void axi_call_depth(axi_call *call, const char *key, const axon_image *image)
{
    axon_image_info info = {.size = sizeof info};
    axon_image_encode_options npy = {.size = sizeof npy, .format = AXON_IMAGE_NPY};
    if (image && axon_image_inspect(image, &info, NULL) == AXON_OK && info.format == AXON_IMAGE_PIXELS) {
        void *data = NULL;
        size_t length = 0;
        if (call->status == AXON_OK)
            call->status = axon_image_encode(image, &npy, &data, &length, call->err);
        if (call->status == AXON_OK) axi_call_set(call, key, own_bytes(data, length));
    } else {
        axi_call_image(call, key, image);
    }
}

void axi_call_string(axi_call *call, const char *key, const char *text, const char *standard)
{
    axi_call_set(call, key, axon_value_string(text && *text ? text : standard, AXON_ZSTRING));
}

void axi_call_strings(axi_call *call, const char *key, const char *const *texts, size_t count)
{
    if (!texts || count == 0) {
        refuse(call, key, "is empty");
        return;
    }
    axon_value *list = axon_value_list();
    for (size_t i = 0; i < count && call->status == AXON_OK; i++) {
        if (!texts[i] || !*texts[i])
            refuse(call, key, "has an empty text at %zu", i);
        else if (axon_value_append(list, axon_value_string(texts[i], AXON_ZSTRING)) != AXON_OK)
            call->status = axi_no_memory(call->err, sizeof *list);
    }
    axi_call_set(call, key, list);
}

/* The one of `choices` that `text` names, NULL when there is none such: then the call is refused. */
static const char *chosen(axi_call *call, const char *key, const char *text, const char *const *choices)
{
    char known[128] = "";
    size_t used = 0;
    if (!text || !*text) return choices[0];
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) return choices[i];
        int more = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", choices[i]);
        used += (size_t)more < sizeof known - used ? (size_t)more : 0;
    }
    refuse(call, key, "\"%.80s\" is none of: %s", text, known);
    return NULL;
}

void axi_call_choice(axi_call *call, const char *key, const char *text, const char *const *choices)
{
    const char *choice = chosen(call, key, text, choices);
    if (choice) axi_call_string(call, key, choice, choice);
}

void axi_call_number(axi_call *call, const char *key, double number)
{
    if (isfinite(number))
        axi_call_set(call, key, axon_value_float(number));
    else
        refuse(call, key, "is %g, not a finite number", number);
}

void axi_call_fraction(axi_call *call, const char *key, double number, double standard)
{
    if (isnan(number) || number > 1)
        refuse(call, key, "is %g, not between 0 and 1", number);
    else
        axi_call_number(call, key, number == 0 ? standard : number < 0 ? 0 : number);
}

void axi_call_positive(axi_call *call, const char *key, double number, double standard)
{
    double sent = number == 0 ? standard : number;
    if (sent > 0 && isfinite(sent))
        axi_call_set(call, key, axon_value_float(sent));
    else
        refuse(call, key, "is %g, not a finite number above 0", sent);
}

static axon_value *list_of(const double *numbers, size_t count)
{
    axon_value *list = axon_value_list();
    if (list && axon_value_append_floats(list, numbers, count) == AXON_OK) return list;
    axon_value_free(list);
    return NULL;
}

void axi_call_numbers(axi_call *call, const char *key, const double *numbers, size_t count)
{
    if (!numbers) refuse(call, key, "is NULL");
    for (size_t i = 0; numbers && i < count; i++)
        if (!isfinite(numbers[i])) refuse(call, key, "has %g at %zu, not a finite number", numbers[i], i);
    if (call->status) return;
    axi_call_set(call, key, list_of(numbers, count));
}

void axi_call_rows(axi_call *call, const char *key, const double *numbers, size_t rows, size_t columns)
{
    axon_value *list = axon_value_list();
    for (size_t i = 0; i < rows && call->status == AXON_OK; i++) {
        for (size_t j = 0; j < columns; j++)
            if (!isfinite(numbers[i * columns + j])) refuse(call, key, "holds what is no finite number");
        if (axon_value_append(list, list_of(numbers + i * columns, columns)) != AXON_OK && !call->status)
            call->status = axi_no_memory(call->err, sizeof *list);
    }
    axi_call_set(call, key, list);
}

/* `number`, or what it stands for; 0 when it is out of range: then the call is refused. */
static int32_t counted(axi_call *call, const char *key, int32_t number, int32_t standard, int32_t least,
                       int32_t most)
{
    int32_t sent = number == 0 ? standard : number;
    if (sent >= least && sent <= most) return sent;
    refuse(call, key, "is %" PRId32 ", not between %" PRId32 " and %" PRId32, sent, least, most);
    return 0;
}

void axi_call_count(axi_call *call, const char *key, int32_t number, int32_t standard, int32_t least,
                    int32_t most)
{
    axi_call_set(call, key, axon_value_int(counted(call, key, number, standard, least, most)));
}

void axi_call_flag(axi_call *call, const char *key, axon_choice choice, bool standard)
{
    if (choice != AXON_CHOICE_DEFAULT && choice != AXON_YES && choice != AXON_NO)
        refuse(call, key, "is %d, which is no axon_choice", (int)choice);
    axi_call_set(call, key, axon_value_bool(choice ? choice == AXON_YES : standard));
}

/* A map of numbers, `names` being as many. */
static void set_fields(axi_call *call, const char *key, const char *const *names, const double *numbers,
                       size_t count)
{
    char place[96];
    snprintf(place, sizeof place, "%s: %s", call->path, key);
    axi_call inner = axi_call_start(call->service, place, call->status ? NULL : call->err);
    if (call->status) inner.status = call->status;
    for (size_t i = 0; i < count; i++)
        axi_call_number(&inner, names[i], numbers[i]);
    call->status = inner.status;
    axi_call_set(call, key, inner.body);
}

void axi_call_intrinsics(axi_call *call, const char *key, const axon_intrinsics *intrinsics)
{
    static const char *const names[] = {"fx", "fy", "cx", "cy"};
    if (!intrinsics) {
        refuse(call, key, "is NULL");
        return;
    }
    const double numbers[] = {intrinsics->fx, intrinsics->fy, intrinsics->cx, intrinsics->cy};
    for (int i = 0; i < 2; i++)
        if (numbers[i] <= 0) refuse(call, key, "has %s %g, not a number above 0", names[i], numbers[i]);
    set_fields(call, key, names, numbers, 4);
}

void axi_call_pose(axi_call *call, const char *key, const axon_pose2 *pose)
{
    static const char *const names[] = {"x", "y", "theta"};
    if (!pose) {
        refuse(call, key, "is NULL");
        return;
    }
    set_fields(call, key, names, (const double[]){pose->x, pose->y, pose->theta}, 3);
}

/* ---- behind the path ------------------------------------------------------------------------- */

static void add_query(axi_call *call, const char *key, const char *text)
{
    size_t used = strlen(call->query);
    snprintf(call->query + used, sizeof call->query - used, "%c%s=%s", used ? '&' : '?', key, text);
}

void axi_call_query(axi_call *call, const char *key, const char *text, const char *const *choices)
{
    const char *choice = chosen(call, key, text, choices);
    if (choice) add_query(call, key, choice);
}

void axi_call_query_count(axi_call *call, const char *key, int32_t number, int32_t standard, int32_t least,
                          int32_t most)
{
    char text[16];
    snprintf(text, sizeof text, "%" PRId32, counted(call, key, number, standard, least, most));
    add_query(call, key, text);
}

/* ---- sending --------------------------------------------------------------------------------- */

static axon_status finish(axi_call *call, const axon_value *body, const char *member, bool as_tree,
                          axon_value **reply)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s", call->path, call->query);
    if (call->status == AXON_OK)
        call->status = axi_service_call(call->service, path, body, member, as_tree, reply, call->err);
    axon_value_free(call->body);
    call->body = NULL;
    return call->status;
}

axon_status axi_call_post(axi_call *call, const char *member, axon_value **reply)
{
    return finish(call, call->body, member, false, reply);
}

axon_status axi_call_post_tree(axi_call *call, axon_value **reply)
{
    return finish(call, call->body, NULL, true, reply);
}

axon_status axi_call_get(axi_call *call, const char *member, axon_value **reply)
{
    return finish(call, NULL, member, false, reply);
}

/* ---- arrays and bytes in replies ------------------------------------------------------------- */

/* Makes a node of base64 text. */
typedef axon_status (*decoder)(const char *text, size_t length, const char *subject, axon_value **value,
                               axon_error *err);

static axon_status decode_bytes(const char *text, size_t length, const char *subject, axon_value **value,
                                axon_error *err)
{
    size_t room = axi_base64_decoded_length(text, length), count = 0, wrong = 0;
    void *data = malloc(room ? room : 1);
    if (!data) return axi_no_memory(err, room);
    if (!axi_base64_decode(data, &count, text, length, &wrong)) {
        free(data);
        return axi_fail(err, AXON_EPROTOCOL, "%s is not base64 at %zu", subject, wrong);
    }
    *value = own_bytes(data, count);
    return *value ? AXON_OK : axi_no_memory(err, count);
}

static axon_status replace(axon_value **reply, const char *key, decoder decode, axon_error *err)
{
    char subject[96];
    const char *text;
    size_t length;
    axon_value *made = NULL;
    const axon_value *member = axon_value_get(*reply, key);
    if (axon_value_type(member) == AXON_NIL) {
        axi_value_remove(*reply, key);
        return AXON_OK;
    }
    snprintf(subject, sizeof subject, "reply: %s", key);
    axon_status status = axon_value_as_string(member, &text, &length);
    if (status == AXON_OK)
        status = decode(text, length, subject, &made, err);
    else
        status = axi_fail(err, AXON_EPROTOCOL, "%s is not text", subject);
    if (status == AXON_OK && axon_value_set(*reply, key, made) != AXON_OK)
        status = axi_no_memory(err, sizeof *made);
    if (status != AXON_OK) {
        axon_value_free(*reply);
        *reply = NULL;
    }
    return status;
}

axon_status axi_reply_array(axon_value **reply, const char *key, axon_error *err)
{
    return replace(reply, key, axi_npy_value, err);
}

axon_status axi_reply_bytes(axon_value **reply, const char *key, axon_error *err)
{
    return replace(reply, key, decode_bytes, err);
}

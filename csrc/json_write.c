/* Trees to JSON, see json.h. */
#include "json.h"

#include "array.h"
#include "base64.h"
#include "image_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the body's parts ---------------------------------------------------------------------- */

/* Text from here on is sent from where it is. */
#define BY_REFERENCE 1024

/* While a body grows, its text moves: a part in it is marked by this and gets its address at the end. Such
 * parts follow each other as they do in the buffer. */
static const char in_text;

static bool add_part(axi_body *body, const void *data, size_t length, bool base64)
{
    if (body->count == body->capacity) {
        size_t capacity = body->capacity ? body->capacity * 2 : 8;
        axi_body_part *parts = realloc(body->parts, capacity * sizeof *parts);
        if (!parts) return false;
        body->parts = parts;
        body->capacity = capacity;
    }
    body->parts[body->count++] = (axi_body_part){data, length, base64};
    body->length += base64 ? axi_base64_length(length) : length;
    return true;
}

static bool put(axi_body *body, const char *text, size_t length)
{
    bool continues = body->count > 0 && body->parts[body->count - 1].data == &in_text;
    if (!axi_buffer_add(&body->text, text, length)) return false;
    if (!continues && !add_part(body, &in_text, 0, false)) return false;
    body->parts[body->count - 1].length += length;
    body->length += length;
    return true;
}

static bool put_long(axi_body *body, const char *text, size_t length)
{
    return length < BY_REFERENCE ? put(body, text, length) : add_part(body, text, length, false);
}

static void place_parts(axi_body *body)
{
    uint8_t *text = body->text.data;
    for (size_t i = 0; i < body->count; i++) {
        if (body->parts[i].data != &in_text) continue;
        body->parts[i].data = text;
        text += body->parts[i].length;
    }
}

static bool own(axi_body *body, void *memory)
{
    void **owned = realloc(body->owned, (body->owned_count + 1) * sizeof *owned);
    if (!owned) return false;
    body->owned = owned;
    owned[body->owned_count++] = memory;
    return true;
}

void axi_body_free(axi_body *body)
{
    for (size_t i = 0; i < body->owned_count; i++)
        free(body->owned[i]);
    free(body->owned);
    free(body->parts);
    axi_buffer_free(&body->text);
    *body = (axi_body){0};
}

/* ---- writing ------------------------------------------------------------------------------- */

typedef struct {
    axi_body *body;
    const char *subject;
    axon_error *err;
    uint64_t elements; /* the most that an array may have */
    bool is_lenient;   /* numbers that JSON does not know become null, keys of bytes text */
} writer;

static axon_status refuse(const writer *w, const axi_path *path, const char *reason)
{
    char place[AXI_PATH_TEXT];
    axi_path_print(place, sizeof place, w->subject, path);
    return axi_fail(w->err, AXON_EINVAL, "%s: %s", place, reason);
}

static axon_status done_or_no_memory(const writer *w, bool done)
{
    return done ? AXON_OK : axi_no_memory(w->err, w->body->length);
}

static bool put_escape(axi_body *body, uint8_t c)
{
    static const char letters[] = "btnvfr"; /* of 8 to 13; there is no \v */
    char text[8] = {'\\', (char)c};
    if (c == '"' || c == '\\') return put(body, text, 2);
    if (c >= 8 && c <= 13 && c != 11) {
        text[1] = letters[c - 8];
        return put(body, text, 2);
    }
    snprintf(text, sizeof text, "\\u%04x", c);
    return put(body, text, 6);
}

static bool put_escaped(axi_body *body, const char *text, size_t length)
{
    size_t from = 0, at = 0;
    while (at < length) {
        at += axi_plain_length(text + at, length - at);
        if (at == length) break;
        uint8_t c = (uint8_t)text[at];
        if (c >= 0x20 && c != '"' && c != '\\') { /* UTF-8 goes out as it is */
            at++;
            continue;
        }
        if (at > from && !put_long(body, text + from, at - from)) return false;
        if (!put_escape(body, c)) return false;
        from = ++at;
    }
    return from == length || put_long(body, text + from, length - from);
}

static axon_status write_text(writer *w, const char *text, size_t length, const axi_path *path)
{
    if (!text && length) return refuse(w, path, "the text is NULL");
    if (!axi_is_utf8(text, length)) return refuse(w, path, "text that is not UTF-8");
    return done_or_no_memory(w, put(w->body, "\"", 1) && put_escaped(w->body, text, length) &&
                                    put(w->body, "\"", 1));
}

static axon_status write_base64(writer *w, const void *data, size_t length, const axi_path *path)
{
    if (!data && length) return refuse(w, path, "the bytes are NULL");
    return done_or_no_memory(w, put(w->body, "\"", 1) &&
                                    (length == 0 || add_part(w->body, data, length, true)) &&
                                    put(w->body, "\"", 1));
}

static axon_status write_image(writer *w, const axon_image *image, const axi_path *path)
{
    axon_error reason = {0};
    axi_image_bytes bytes = {0};
    if (!image) return refuse(w, path, "the image is NULL");
    axon_status status = axi_image_for_body(image, &bytes, &reason);
    if (status != AXON_OK) {
        char place[AXI_PATH_TEXT];
        axi_path_print(place, sizeof place, w->subject, path);
        return axi_fail(w->err, status, "%s: %s", place, reason.message);
    }
    if (bytes.owned && !own(w->body, bytes.owned)) {
        free(bytes.owned);
        return done_or_no_memory(w, false);
    }
    if (!bytes.is_base64) return write_base64(w, bytes.data, bytes.length, path);
    return done_or_no_memory(w, put(w->body, "\"", 1) && put_long(w->body, bytes.data, bytes.length) &&
                                    put(w->body, "\"", 1));
}

/* The fewest digits that are read back as the same number, with a point whatever the locale. */
static void print_real(char text[40], double real, bool is_single)
{
    int digits = is_single ? 6 : 15, most = is_single ? 9 : 17;
    for (;; digits++) {
        snprintf(text, 32, "%.*g", digits, real);
        if (digits == most || (is_single ? strtof(text, NULL) == (float)real : strtod(text, NULL) == real))
            break;
    }
    char *point = text + strspn(text, "-0123456789");
    if (*point == 0) {
        strcpy(point, ".0"); /* a float stays one */
    } else if (*point != 'e') {
        char *fraction = point + strcspn(point, "0123456789");
        *point = '.';
        memmove(point + 1, fraction, strlen(fraction) + 1);
    }
}

static axon_status write_number(writer *w, const axon_value *number, bool is_single, const axi_path *path)
{
    char text[40];
    if (number->type == AXON_FLOAT && !isfinite(number->as.real) && !w->is_lenient)
        return refuse(w, path,
                      isnan(number->as.real) ? "NaN, which JSON does not know"
                                             : "infinity, which JSON does not know");
    if (number->type == AXON_BOOL)
        strcpy(text, number->as.integer ? "true" : "false");
    else if (number->type == AXON_INT)
        snprintf(text, sizeof text, "%" PRId64, number->as.integer);
    else if (number->type == AXON_UINT)
        snprintf(text, sizeof text, "%" PRIu64, number->as.natural);
    else if (isfinite(number->as.real))
        print_real(text, number->as.real, is_single);
    else
        strcpy(text, "null");
    return done_or_no_memory(w, put(w->body, text, strlen(text)));
}

/* ---- arrays as nested lists ---------------------------------------------------------------- */

/* Whether the lists and elements that the shape makes are few enough; a shape of (2^40, 0) is not. */
static axon_status check_elements(writer *w, const axon_array *array, const axi_path *path)
{
    uint64_t lists = 1;
    for (int i = 0; i < array->ndim; i++) {
        if (array->shape[i] == 0) return AXON_OK;
        if ((uint64_t)array->shape[i] > w->elements / lists) {
            char reason[128];
            snprintf(reason, sizeof reason,
                     "an array of more than %" PRIu64 " elements, the most for a list in JSON; "
                     "send it as an image or as bytes",
                     w->elements);
            return refuse(w, path, reason);
        }
        lists *= (uint64_t)array->shape[i];
    }
    return AXON_OK;
}

static axon_status write_fixed_text(writer *w, const uint8_t *element, const axon_array *array,
                                    uint32_t itemsize, const axi_path *path)
{
    bool done = put(w->body, "\"", 1);
    uint32_t last = itemsize;
    static const uint8_t zero[4];
    while (last > 0 && memcmp(element + last - 4, zero, 4) == 0) /* the padding */
        last -= 4;
    for (uint32_t i = 0; i < last && done; i += 4) {
        uint32_t code;
        char character[4];
        memcpy(&code, element + i, sizeof code);
        if (array->swapped) axi_swap_bytes(&code, sizeof code, sizeof code);
        size_t size = axi_utf8_encode(character, code);
        if (size == 0) return refuse(w, path, "text that is not Unicode");
        done = put_escaped(w->body, character, size);
    }
    return done_or_no_memory(w, done && put(w->body, "\"", 1));
}

static axon_status write_element(writer *w, const uint8_t *element, const axon_array *array,
                                 uint32_t itemsize, const axi_path *path)
{
    axon_value number;
    if (array->dtype == AXON_FIXED_TEXT) return write_fixed_text(w, element, array, itemsize, path);
    if (array->dtype == AXON_FIXED_BYTES) {
        while (itemsize > 0 && element[itemsize - 1] == 0) /* the padding */
            itemsize--;
        return write_base64(w, element, itemsize, path);
    }
    axi_element_read(element, array->dtype, array->swapped, &number);
    return write_number(w, &number, array->dtype != AXON_FLOAT64, path);
}

static axon_status write_elements(writer *w, const axon_array *array, const axi_layout *layout,
                                  int dimension, const uint8_t *at, const axi_path *path)
{
    if (dimension == array->ndim) return write_element(w, at, array, layout->itemsize, path);
    axon_status status = done_or_no_memory(w, put(w->body, "[", 1));
    for (int64_t i = 0; status == AXON_OK && i < array->shape[dimension]; i++) {
        if (i > 0) status = done_or_no_memory(w, put(w->body, ",", 1));
        if (status != AXON_OK) break;
        const uint8_t *child = layout->count ? at + i * layout->strides[dimension] : at;
        status = write_elements(w, array, layout, dimension + 1, child, path);
    }
    return status == AXON_OK ? done_or_no_memory(w, put(w->body, "]", 1)) : status;
}

static axon_status write_array(writer *w, const axon_array *array, const axi_path *path)
{
    axi_layout layout;
    axon_status status = axi_array_layout(array, &layout, w->subject, path, w->err);
    if (status == AXON_OK) status = check_elements(w, array, path);
    return status == AXON_OK ? write_elements(w, array, &layout, 0, array->data, path) : status;
}

/* ---- the tree ------------------------------------------------------------------------------ */

static axon_status write_value(writer *w, const axon_value *value, const axi_path *path, int depth);

static axon_status write_key(writer *w, const axon_value *child, const axi_path *path)
{
    if (child->flags & AXI_KEY_IS_BYTES && !w->is_lenient)
        return refuse(w, path, "a key of bytes, which JSON does not know");
    axon_status status = write_text(w, child->key, child->key_length, path);
    return status == AXON_OK ? done_or_no_memory(w, put(w->body, ":", 1)) : status;
}

static axon_status write_container(writer *w, const axon_value *value, const axi_path *path, int depth)
{
    bool is_map = value->type == AXON_MAP;
    if (depth > AXON_MAX_DEPTH) return refuse(w, path, "nested deeper than 32 levels (AXON_MAX_DEPTH)");
    axon_status status = done_or_no_memory(w, put(w->body, is_map ? "{" : "[", 1));
    for (uint32_t i = 0; status == AXON_OK && i < value->as.children.count; i++) {
        const axon_value *child = &value->as.children.items[i];
        axi_path here = axi_path_to(path, value, i);
        if (i > 0) status = done_or_no_memory(w, put(w->body, ",", 1));
        if (status == AXON_OK && is_map) status = write_key(w, child, &here);
        if (status == AXON_OK) status = write_value(w, child, &here, depth);
    }
    return status == AXON_OK ? done_or_no_memory(w, put(w->body, is_map ? "}" : "]", 1)) : status;
}

static axon_status write_json(writer *w, const axon_value *value, const axi_path *path)
{
    if (!value->as.bytes.data || value->as.bytes.length == 0)
        return refuse(w, path, "the JSON text is empty");
    return done_or_no_memory(w, put_long(w->body, value->as.bytes.data, value->as.bytes.length));
}

static axon_status write_value(writer *w, const axon_value *value, const axi_path *path, int depth)
{
    switch (value->type) {
    case AXON_BOOL:
    case AXON_INT:
    case AXON_UINT:
    case AXON_FLOAT:
        return write_number(w, value, false, path);
    case AXON_STRING:
        return write_text(w, value->as.bytes.data, value->as.bytes.length, path);
    case AXON_BYTES:
        return write_base64(w, value->as.bytes.data, value->as.bytes.length, path);
    case AXON_ARRAY:
    case AXON_SCALAR:
        return write_array(w, value->as.array, path);
    case AXON_IMAGE:
        return write_image(w, value->as.image, path);
    case AXON_JSON:
        return write_json(w, value, path);
    case AXON_LIST:
    case AXON_MAP:
        return write_container(w, value, path, depth + 1);
    default:
        return done_or_no_memory(w, put(w->body, "null", 4));
    }
}

static axon_status write_tree(writer *w, const axon_value *tree)
{
    static const axon_value nil = {.type = AXON_NIL};
    axon_status status = write_value(w, tree ? tree : &nil, NULL, 0);
    if (status == AXON_OK)
        place_parts(w->body);
    else
        axi_body_free(w->body);
    return status;
}

axon_status axi_json_write(axi_body *body, const axon_value *tree, const char *subject, axon_error *err)
{
    writer w = {.body = body, .subject = subject, .err = err, .elements = AXI_BODY_ELEMENTS};
    return write_tree(&w, tree);
}

char *axi_body_join(const axi_body *body)
{
    char *joined = body->length < SIZE_MAX ? malloc((size_t)body->length + 1) : NULL, *text = joined;
    if (!joined) return NULL;
    for (size_t i = 0; i < body->count; i++) {
        const axi_body_part *part = &body->parts[i];
        if (part->base64)
            axi_base64_encode(text, part->data, part->length);
        else
            memcpy(text, part->data, part->length);
        text += part->base64 ? axi_base64_length(part->length) : part->length;
    }
    *text = 0;
    return joined;
}

axon_status axon_value_to_json(const axon_value *value, char **text, size_t *length, axon_error *err)
{
    if (!text) return axi_fail(err, AXON_EINVAL, "value: text is NULL");
    axi_body body = {0};
    writer w = {.body = &body, .subject = "value", .err = err, .elements = 64u << 20, .is_lenient = true};
    axon_status status = write_tree(&w, value);
    if (status != AXON_OK) return status;
    char *joined = axi_body_join(&body);
    if (joined) {
        *text = joined;
        if (length) *length = (size_t)body.length;
    } else {
        status = axi_no_memory(err, body.length);
    }
    axi_body_free(&body);
    return status;
}

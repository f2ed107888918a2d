/* The door to msgpack-c: trees to messages, see pack.h. */
#include "pack.h"

#include "array.h"
#include "image_codecs.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the scatter list ---------------------------------------------------------------------- */

/* Leaves from here on are sent from where they are; shorter ones are cheaper to copy. */
#define BY_REFERENCE 512

/* While a message grows, its buffers move: a part in one of them is marked by these and gets its address at
 * the end. Parts of a buffer follow each other as they do in the buffer. */
static const char in_scratch, in_gathered;

static bool add_part(axi_message *message, const void *data, size_t length)
{
    if (message->count == message->capacity) {
        size_t capacity = message->capacity ? message->capacity * 2 : 16;
        struct iovec *parts = realloc(message->parts, capacity * sizeof *parts);
        if (!parts) return false;
        message->parts = parts;
        message->capacity = capacity;
    }
    message->parts[message->count++] = (struct iovec){(void *)(uintptr_t)data, length};
    message->length += length;
    return true;
}

/* Room for `length` bytes at the end of scratch, as part of the message; NULL when memory ran out. */
static uint8_t *scratch_room(axi_message *message, size_t length)
{
    if (!axi_buffer_reserve(&message->scratch, length)) return NULL;
    bool continues = message->count > 0 && message->parts[message->count - 1].iov_base == &in_scratch;
    if (!continues && !add_part(message, &in_scratch, 0)) return NULL;
    uint8_t *room = message->scratch.data + message->scratch.length;
    message->parts[message->count - 1].iov_len += length;
    message->scratch.length += length;
    message->length += length;
    return room;
}

/* The write callback of msgpack-c's packer. */
static int write_scratch(void *message, const char *bytes, size_t length)
{
    uint8_t *room = scratch_room(message, length);
    if (!room) return -1;
    memcpy(room, bytes, length);
    return 0;
}

static bool add_bytes(axi_message *message, const void *data, size_t length)
{
    if (length >= BY_REFERENCE) return add_part(message, data, length);
    return length == 0 || write_scratch(message, data, length) == 0;
}

static bool add_gathered(axi_message *message, const axon_array *array, const axi_layout *layout)
{
    size_t bytes = (size_t)layout->bytes;
    axi_buffer *gathered = &message->gathered;
    if (bytes < BY_REFERENCE) {
        uint8_t *room = scratch_room(message, bytes);
        if (room) axi_array_gather(room, array, layout);
        return room != NULL;
    }
    if (!axi_buffer_reserve(gathered, bytes) || !add_part(message, &in_gathered, bytes)) return false;
    axi_array_gather(gathered->data + gathered->length, array, layout);
    gathered->length += bytes;
    return true;
}

static void place_parts(axi_message *message)
{
    uint8_t *scratch = message->scratch.data, *gathered = message->gathered.data;
    for (size_t i = 0; i < message->count; i++) {
        struct iovec *part = &message->parts[i];
        uint8_t **from = part->iov_base == &in_scratch    ? &scratch
                         : part->iov_base == &in_gathered ? &gathered
                                                          : NULL;
        if (!from) continue;
        part->iov_base = *from;
        *from += part->iov_len;
    }
}

void axi_message_free(axi_message *message)
{
    free(message->parts);
    axi_buffer_free(&message->scratch);
    axi_buffer_free(&message->gathered);
    *message = (axi_message){0};
}

axon_status axi_message_precede(axi_message *message, const void *bytes, size_t length, axon_error *err)
{
    if (!add_part(message, message->front, length)) return axi_no_memory(err, sizeof *message->parts);
    memcpy(message->front, bytes, length);
    memmove(message->parts + 1, message->parts, (message->count - 1) * sizeof *message->parts);
    message->parts[0] = (struct iovec){message->front, length};
    return AXON_OK;
}

axon_status axi_message_replace(axi_message *message, const void *bytes, size_t length, axon_error *err)
{
    message->count = 0;
    message->length = 0;
    return axi_message_precede(message, bytes, length, err);
}

void axi_message_skip_map_header(axi_message *message)
{
    struct iovec *first = &message->parts[0];
    uint8_t *header = first->iov_base;
    size_t length = *header == 0xdf ? 5 : *header == 0xde ? 3 : 1;
    first->iov_base = header + length;
    first->iov_len -= length;
    message->length -= length;
}

/* ---- writing ------------------------------------------------------------------------------- */

typedef struct {
    msgpack_packer packer;
    axi_message *message;
    axon_marker marker;
    axon_image_format pictures; /* AXON_IMAGE_UNKNOWN: they are arrays like others */
    const char *subject;
    axon_error *err;
} packer;

static axon_status refuse(const packer *p, const axi_path *path, const char *reason)
{
    char place[AXI_PATH_TEXT];
    axi_path_print(place, sizeof place, p->subject, path);
    return axi_fail(p->err, AXON_EINVAL, "%s: %s", place, reason);
}

static axon_status refuse_size(const packer *p, const axi_path *path, uint64_t bytes)
{
    char reason[96];
    snprintf(reason, sizeof reason,
             "%" PRIu64 " bytes, and msgpack carries at most %" PRIu32 " in one piece", bytes, UINT32_MAX);
    return refuse(p, path, reason);
}

static axon_status no_memory(const packer *p)
{
    return axi_no_memory(p->err, p->message->length);
}

static axon_status pack_text(packer *p, const void *data, size_t length, const axi_path *path)
{
    if (length > UINT32_MAX) return refuse_size(p, path, length);
    if (!data && length) return refuse(p, path, "the text is NULL");
    if (!axi_is_utf8(data, length)) return refuse(p, path, "text that is not UTF-8");
    if (msgpack_pack_str(&p->packer, length) || !add_bytes(p->message, data, length)) return no_memory(p);
    return AXON_OK;
}

static axon_status pack_bytes(packer *p, const void *data, size_t length, const axi_path *path)
{
    if (length > UINT32_MAX) return refuse_size(p, path, length);
    if (!data && length) return refuse(p, path, "the bytes are NULL");
    if (msgpack_pack_bin(&p->packer, length) || !add_bytes(p->message, data, length)) return no_memory(p);
    return AXON_OK;
}

/* A field's name, in the marker's kind of key. False when memory ran out, as all of these. */
static bool put_name(packer *p, const char *name)
{
    size_t length = strlen(name);
    int failed = p->marker == AXON_MARKER_OPENPI ? msgpack_pack_bin(&p->packer, length)
                                                 : msgpack_pack_str(&p->packer, length);
    return failed == 0 && add_bytes(p->message, name, length);
}

static bool put_text(packer *p, const char *text)
{
    size_t length = strlen(text);
    return msgpack_pack_str(&p->packer, length) == 0 && add_bytes(p->message, text, length);
}

static bool put_dtype(packer *p, const axon_array *array, const axi_layout *layout)
{
    char dtype[AXI_DTYPE_TEXT];
    axi_dtype_print(dtype, array->dtype, layout->itemsize, array->swapped != 0,
                    p->marker == AXON_MARKER_SIMULATOR);
    return put_name(p, "dtype") && put_text(p, dtype);
}

static bool put_shape(packer *p, const axon_array *array)
{
    if (!put_name(p, "shape") || msgpack_pack_array(&p->packer, (size_t)array->ndim)) return false;
    for (int i = 0; i < array->ndim; i++)
        if (msgpack_pack_int64(&p->packer, array->shape[i])) return false;
    return true;
}

static bool put_data(packer *p, const axon_array *array, const axi_layout *layout)
{
    if (!put_name(p, "data") || msgpack_pack_bin(&p->packer, (size_t)layout->bytes)) return false;
    return layout->is_contiguous ? add_bytes(p->message, array->data, (size_t)layout->bytes)
                                 : add_gathered(p->message, array, layout);
}

/* The order of the fields is the peers' own. */
static bool put_array(packer *p, const axon_array *array, const axi_layout *layout)
{
    if (msgpack_pack_map(&p->packer, 4)) return false;
    if (p->marker == AXON_MARKER_SIMULATOR)
        return put_name(p, "__type__") && put_text(p, "ndarray") && put_shape(p, array) &&
               put_dtype(p, array, layout) && put_data(p, array, layout);
    return put_name(p, "__ndarray__") && msgpack_pack_true(&p->packer) == 0 && put_data(p, array, layout) &&
           put_dtype(p, array, layout) && put_shape(p, array);
}

/* ---- pictures ------------------------------------------------------------------------------ */

#define PICTURE_QUALITY 95 /* of JPEG: what policies were trained on is seldom better */

/* Encodes into `gathered` what becomes smaller by that; `*length` is 0 for anything else. */
static axon_status encode(packer *p, const axon_array *array, const axi_layout *layout, size_t *length)
{
    axi_pixels pixels;
    axon_error reason;
    axi_buffer *out = &p->message->gathered;
    size_t before = out->length;
    *length = 0;
    if (array->dtype != AXON_UINT8 || array->ndim != 3 || array->shape[2] != 3) return AXON_OK;
    if (axi_pixels_check(array, AXON_RGB, &pixels, NULL) != AXON_OK) return AXON_OK;
    axon_status status = p->pictures == AXON_IMAGE_JPEG
                             ? axi_jpeg_encode(&pixels, PICTURE_QUALITY, AXI_CHROMA_444, out, &reason)
                             : axi_png_encode(&pixels, out, &reason);
    if (status == AXON_OK && out->length - before < layout->bytes) *length = out->length - before;
    if (*length == 0) out->length = before;
    return status == AXON_ENOMEM ? axi_fail(p->err, status, "%s", reason.message) : AXON_OK;
}

/* vla-eval's form; all keys are text. `length` is that of the file, the last thing in `gathered`. */
static bool put_picture(packer *p, const axon_array *array, size_t length)
{
    if (msgpack_pack_map(&p->packer, 4) || !put_text(p, "__image__") || msgpack_pack_true(&p->packer))
        return false;
    if (!put_text(p, "format") || !put_text(p, p->pictures == AXON_IMAGE_JPEG ? "jpeg" : "png"))
        return false;
    if (!put_text(p, "data") || msgpack_pack_bin(&p->packer, length)) return false;
    if (!add_part(p->message, &in_gathered, length)) return false;
    if (!put_text(p, "shape") || msgpack_pack_array(&p->packer, 3)) return false;
    for (int i = 0; i < 3; i++)
        if (msgpack_pack_int64(&p->packer, array->shape[i])) return false;
    return true;
}

/* ---- values -------------------------------------------------------------------------------- */

static axon_status pack_elements(packer *p, const axon_array *array, const axi_layout *layout)
{
    size_t length = 0;
    axon_status status = p->pictures == AXON_IMAGE_UNKNOWN ? AXON_OK : encode(p, array, layout, &length);
    if (status != AXON_OK) return status;
    return (length ? put_picture(p, array, length) : put_array(p, array, layout)) ? AXON_OK : no_memory(p);
}

static axon_status pack_array(packer *p, const axon_array *array, const axi_path *path)
{
    axi_layout layout;
    axon_status status = axi_array_layout(array, &layout, p->subject, path, p->err);
    if (status != AXON_OK) return status;
    if (layout.bytes > UINT32_MAX) return refuse_size(p, path, layout.bytes);
    return pack_elements(p, array, &layout);
}

static axon_status pack_image(packer *p, const axon_image *image, const axi_path *path)
{
    axon_error reason = {0};
    axon_array pixels = {0};
    if (!image) return refuse(p, path, "the image is NULL");
    axon_status status = axon_image_decode(image, AXON_RGB, &pixels, &reason);
    if (status != AXON_OK) {
        char place[AXI_PATH_TEXT];
        axi_path_print(place, sizeof place, p->subject, path);
        return axi_fail(p->err, status, "%s: %s", place, reason.message);
    }
    axi_layout layout;
    status = axi_array_layout(&pixels, &layout, p->subject, path, p->err);
    layout.is_contiguous = false; /* the pixels are freed here: the message needs its own */
    if (status == AXON_OK && layout.bytes > UINT32_MAX) status = refuse_size(p, path, layout.bytes);
    if (status == AXON_OK) status = pack_elements(p, &pixels, &layout);
    axon_free((void *)(uintptr_t)pixels.data);
    return status;
}

static bool put_number(packer *p, const axon_value *number)
{
    switch (number->type) {
    case AXON_BOOL:
        return !(number->as.integer ? msgpack_pack_true(&p->packer) : msgpack_pack_false(&p->packer));
    case AXON_INT:
        return !msgpack_pack_int64(&p->packer, number->as.integer);
    case AXON_UINT:
        return !msgpack_pack_uint64(&p->packer, number->as.natural);
    default:
        return !msgpack_pack_double(&p->packer, number->as.real);
    }
}

/* numpy's float64 is a Python float and travels as one; the simulator has no marker for numbers. */
static axon_status pack_scalar(packer *p, const axon_array *scalar, const axi_path *path)
{
    axi_layout layout;
    axon_value number;
    if (axon_dtype_size(scalar->dtype) == 0) return refuse(p, path, "a scalar whose dtype is no number");
    axon_status status = axi_array_layout(scalar, &layout, p->subject, path, p->err);
    if (status != AXON_OK) return status;
    axi_element_read(scalar->data, scalar->dtype, scalar->swapped, &number);
    bool done;
    if (p->marker == AXON_MARKER_SIMULATOR || scalar->dtype == AXON_FLOAT64)
        done = put_number(p, &number);
    else
        done = msgpack_pack_map(&p->packer, 3) == 0 && put_name(p, "__npgeneric__") &&
               msgpack_pack_true(&p->packer) == 0 && put_name(p, "data") && put_number(p, &number) &&
               put_dtype(p, scalar, &layout);
    return done ? AXON_OK : no_memory(p);
}

static axon_status pack_value(packer *p, const axon_value *value, const axi_path *path, int depth);

static axon_status pack_container(packer *p, const axon_value *value, const axi_path *path, int depth)
{
    uint32_t count = value->as.children.count;
    bool is_map = value->type == AXON_MAP;
    if (depth > AXON_MAX_DEPTH) return refuse(p, path, "nested deeper than 32 levels (AXON_MAX_DEPTH)");
    if (is_map ? msgpack_pack_map(&p->packer, count) : msgpack_pack_array(&p->packer, count))
        return no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        const axon_value *child = &value->as.children.items[i];
        axi_path here = axi_path_to(path, value, i);
        axon_status status = AXON_OK;
        if (is_map && child->flags & AXI_KEY_IS_BYTES)
            status = pack_bytes(p, child->key, child->key_length, &here);
        else if (is_map)
            status = pack_text(p, child->key, child->key_length, &here);
        if (status == AXON_OK) status = pack_value(p, child, &here, depth);
        if (status != AXON_OK) return status;
    }
    return AXON_OK;
}

static axon_status pack_value(packer *p, const axon_value *value, const axi_path *path, int depth)
{
    switch (value->type) {
    case AXON_NIL:
        return msgpack_pack_nil(&p->packer) ? no_memory(p) : AXON_OK;
    case AXON_BOOL:
    case AXON_INT:
    case AXON_UINT:
    case AXON_FLOAT:
        return put_number(p, value) ? AXON_OK : no_memory(p);
    case AXON_STRING:
        return pack_text(p, value->as.bytes.data, value->as.bytes.length, path);
    case AXON_BYTES:
        return pack_bytes(p, value->as.bytes.data, value->as.bytes.length, path);
    case AXON_ARRAY:
        return pack_array(p, value->as.array, path);
    case AXON_SCALAR:
        return pack_scalar(p, value->as.array, path);
    case AXON_IMAGE:
        return pack_image(p, value->as.image, path);
    case AXON_LIST:
    case AXON_MAP:
        return pack_container(p, value, path, depth + 1);
    default:
        return refuse(p, path, "JSON text, which msgpack does not carry");
    }
}

axon_status axi_pack(axi_message *message, const axon_value *value, axon_marker marker, const char *subject,
                     axon_error *err)
{
    return axi_pack_pictures(message, value, marker, AXON_IMAGE_UNKNOWN, subject, err);
}

axon_status axi_pack_pictures(axi_message *message, const axon_value *value, axon_marker marker,
                              axon_image_format pictures, const char *subject, axon_error *err)
{
    static const axon_value nil = {.type = AXON_NIL};
    packer p = {.message = message, .marker = marker, .pictures = pictures, .subject = subject, .err = err};
    msgpack_packer_init(&p.packer, message, write_scratch);
    message->count = 0;
    message->length = 0;
    message->scratch.length = 0;
    message->gathered.length = 0;
    axon_status status = pack_value(&p, value ? value : &nil, NULL, 0);
    if (status == AXON_OK)
        place_parts(message);
    else
        message->count = 0;
    return status;
}

axon_status axon_value_to_msgpack(const axon_value *value, axon_marker marker, void **data, size_t *length,
                                  axon_error *err)
{
    if (!data || !length) return axi_fail(err, AXON_EINVAL, "value: %s is NULL", data ? "length" : "data");
    if (marker != AXON_MARKER_OPENPI && marker != AXON_MARKER_SIMULATOR)
        return axi_fail(err, AXON_EINVAL, "value: marker is %d, which is no axon_marker", (int)marker);
    axi_message message = {0};
    axon_status status = axi_pack(&message, value, marker, "value", err);
    uint8_t *bytes = status == AXON_OK ? malloc((size_t)message.length) : NULL;
    if (status == AXON_OK && !bytes) status = axi_no_memory(err, message.length);
    size_t done = 0;
    for (size_t i = 0; bytes && i < message.count; i++) {
        memcpy(bytes + done, message.parts[i].iov_base, message.parts[i].iov_len);
        done += message.parts[i].iov_len;
    }
    axi_message_free(&message);
    if (status != AXON_OK) return status;
    *data = bytes;
    *length = done;
    return AXON_OK;
}

/* The door to msgpack-c, see pack.h.
 *
 * msgpack-c writes; reading is done here. Its unpacker allocates what a message claims to hold, knows
 * neither our depth nor UTF-8, and copies the tree once more into nodes of its own, while a reader that
 * fills ours needs no more code than the checks that would have to stand before it.
 */
#include "pack.h"

#include "array.h"

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

/* ---- writing ------------------------------------------------------------------------------- */

typedef struct {
    msgpack_packer packer;
    axi_message *message;
    axon_marker marker;
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

static axon_status pack_array(packer *p, const axon_array *array, const axi_path *path)
{
    axi_layout layout;
    axon_status status = axi_array_layout(array, &layout, p->subject, path, p->err);
    if (status != AXON_OK) return status;
    if (layout.bytes > UINT32_MAX) return refuse_size(p, path, layout.bytes);
    return put_array(p, array, &layout) ? AXON_OK : no_memory(p);
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
    if (status == AXON_OK && !put_array(p, &pixels, &layout)) status = no_memory(p);
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
    axon_status status = axi_array_layout(scalar, &layout, p->subject, path, p->err);
    if (status != AXON_OK) return status;
    if (!axi_element_read(scalar->data, scalar->dtype, scalar->swapped, &number))
        return refuse(p, path, "a scalar of a dtype that is no number");
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
    static const axon_value nil = {.type = AXON_NIL};
    packer p = {.message = message, .marker = marker, .subject = subject, .err = err};
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

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *data;
    size_t at, length;
    uint64_t owed; /* values that open lists and maps still wait for; each is at least one byte */
    uint32_t nodes;
    const char *subject;
    axon_error *err;
} reader;

static axon_status broken(const reader *r, const axi_path *path, size_t at, const char *reason)
{
    char place[AXI_PATH_TEXT];
    axi_path_print(place, sizeof place, r->subject, path);
    return axi_fail(r->err, AXON_EPROTOCOL, "%s: %s (byte %zu)", place, reason, at);
}

/* What a msgpack value begins with. */
typedef enum {
    IS_NIL,
    IS_BOOL,
    IS_INT,
    IS_UINT,
    IS_FLOAT,
    IS_TEXT,
    IS_BYTES,
    IS_LIST,
    IS_MAP,
    IS_EXT,
    IS_NONE
} kind;

typedef struct {
    kind kind;
    uint64_t number; /* the value's bits, or its length or count */
} header;

static uint64_t big_endian(const uint8_t *bytes, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* The kinds 0xc0 to 0xdf: what it is, and how many bytes of number follow. */
static const struct {
    uint8_t kind, size;
} kinds[32] = {
    {IS_NIL, 0},  {IS_NONE, 0}, {IS_BOOL, 0}, {IS_BOOL, 0},  {IS_BYTES, 1}, {IS_BYTES, 2}, {IS_BYTES, 4},
    {IS_EXT, 1},  {IS_EXT, 2},  {IS_EXT, 4},  {IS_FLOAT, 4}, {IS_FLOAT, 8}, {IS_UINT, 1},  {IS_UINT, 2},
    {IS_UINT, 4}, {IS_UINT, 8}, {IS_INT, 1},  {IS_INT, 2},   {IS_INT, 4},   {IS_INT, 8},   {IS_EXT, 0},
    {IS_EXT, 0},  {IS_EXT, 0},  {IS_EXT, 0},  {IS_EXT, 0},   {IS_TEXT, 1},  {IS_TEXT, 2},  {IS_TEXT, 4},
    {IS_LIST, 2}, {IS_LIST, 4}, {IS_MAP, 2},  {IS_MAP, 4},
};

static header one_byte_header(uint8_t first)
{
    if (first < 0x80) return (header){IS_UINT, first};
    if (first < 0x90) return (header){IS_MAP, first & 15};
    if (first < 0xa0) return (header){IS_LIST, first & 15};
    if (first < 0xc0) return (header){IS_TEXT, first & 31};
    return (header){IS_INT, (uint64_t)(int64_t)(int8_t)first}; /* 0xe0 to 0xff */
}

static uint64_t float_bits(uint32_t bits)
{
    float single;
    memcpy(&single, &bits, sizeof single);
    double real = (double)single;
    uint64_t number;
    memcpy(&number, &real, sizeof number);
    return number;
}

static axon_status read_header(reader *r, header *h, const axi_path *path)
{
    if (r->at == r->length) return broken(r, path, r->at, "the message ends where a value should begin");
    uint8_t first = r->data[r->at];
    r->owed--;
    if (first < 0xc0 || first >= 0xe0) {
        *h = one_byte_header(first);
        r->at++;
        return AXON_OK;
    }
    size_t size = kinds[first - 0xc0].size;
    h->kind = kinds[first - 0xc0].kind;
    if (h->kind == IS_EXT) return broken(r, path, r->at, "an extension type, which axon does not read");
    if (h->kind == IS_NONE) return broken(r, path, r->at, "0xc1, which msgpack does not use");
    if (r->length - r->at - 1 < size) return broken(r, path, r->at, "the message ends inside a value");
    h->number = size ? big_endian(r->data + r->at + 1, size) : first & 1u;
    if (h->kind == IS_INT) { /* extend the sign */
        unsigned unused = 64 - 8 * (unsigned)size;
        h->number = (uint64_t)((int64_t)(h->number << unused) >> unused);
    } else if (h->kind == IS_FLOAT && size == 4) {
        h->number = float_bits((uint32_t)h->number);
    }
    r->at += 1 + size;
    return AXON_OK;
}

/* The bytes of a text or of bytes. */
static axon_status read_bytes(reader *r, const header *h, const axi_path *path, const void **data)
{
    size_t left = r->length - r->at;
    if (h->number > left) {
        char reason[96];
        snprintf(reason, sizeof reason, "%" PRIu64 " bytes of %s are announced and %zu are left", h->number,
                 h->kind == IS_TEXT ? "text" : "data", left);
        return broken(r, path, r->at, reason);
    }
    *data = r->data + r->at;
    if (h->kind == IS_TEXT && !axi_is_utf8(*data, (size_t)h->number))
        return broken(r, path, r->at, "text that is not UTF-8");
    r->at += (size_t)h->number;
    return AXON_OK;
}

static axon_status read_key(reader *r, axon_value *child, const axi_path *path)
{
    header h;
    size_t at = r->at;
    const void *key;
    axon_status status = read_header(r, &h, path);
    if (status != AXON_OK) return status;
    if (h.kind != IS_TEXT && h.kind != IS_BYTES)
        return broken(r, path, at, "a key that is neither text nor bytes");
    status = read_bytes(r, &h, path, &key);
    if (status != AXON_OK) return status;
    child->key = key;
    child->key_length = (uint32_t)h.number;
    child->flags = h.kind == IS_BYTES ? AXI_KEY_IS_BYTES : 0;
    return AXON_OK;
}

/* Room for the children that a header claims, when as many bytes are left. */
static axon_status make_children(reader *r, const header *h, axon_value *node, const axi_path *path)
{
    uint64_t values = h->kind == IS_MAP ? h->number * 2 : h->number;
    size_t left = r->length - r->at;
    if (r->owed + values > left) {
        char reason[128];
        snprintf(reason, sizeof reason, "%" PRIu64 " children are announced and %zu bytes are left",
                 h->number, left);
        return broken(r, path, r->at, reason);
    }
    if (h->number > AXI_MAX_NODES - r->nodes)
        return axi_fail(r->err, AXON_ETOOBIG, "%s: more than %u values (byte %zu)", r->subject,
                        AXI_MAX_NODES, r->at);
    r->owed += values;
    r->nodes += (uint32_t)h->number;
    return axi_value_reserve(node, (uint32_t)h->number, r->err);
}

static axon_status read_value(reader *r, axon_value *node, const axi_path *path, int depth);
static axon_status read_marked(reader *r, axon_value *map, const axi_path *path, size_t at);

static axon_status read_children(reader *r, axon_value *node, const axi_path *path, uint32_t count,
                                 int depth)
{
    bool is_map = node->type == AXON_MAP;
    for (uint32_t i = 0; i < count; i++) {
        axon_value *child = &node->as.children.items[i];
        *child = (axon_value){0};
        axon_status status = is_map ? read_key(r, child, path) : AXON_OK;
        if (status != AXON_OK) return status;
        node->as.children.count = i + 1;
        axi_path here = axi_path_to(path, node, i);
        status = read_value(r, child, &here, depth);
        if (status != AXON_OK) return status;
    }
    return AXON_OK;
}

static axon_status read_container(reader *r, const header *h, axon_value *node, const axi_path *path,
                                  int depth)
{
    size_t at = r->at;
    if (depth > AXON_MAX_DEPTH) return broken(r, path, at, "nested deeper than 32 levels (AXON_MAX_DEPTH)");
    node->type = h->kind == IS_MAP ? AXON_MAP : AXON_LIST;
    axon_status status = make_children(r, h, node, path);
    if (status == AXON_OK) status = read_children(r, node, path, (uint32_t)h->number, depth);
    if (status == AXON_OK && node->type == AXON_MAP) status = read_marked(r, node, path, at);
    return status;
}

static axon_status read_value(reader *r, axon_value *node, const axi_path *path, int depth)
{
    header h;
    axon_status status = read_header(r, &h, path);
    if (status != AXON_OK) return status;
    switch (h.kind) {
    case IS_TEXT:
    case IS_BYTES:
        status = read_bytes(r, &h, path, &node->as.bytes.data);
        node->type = h.kind == IS_TEXT ? AXON_STRING : AXON_BYTES;
        node->as.bytes.length = (size_t)h.number;
        return status;
    case IS_LIST:
    case IS_MAP:
        return read_container(r, &h, node, path, depth + 1);
    case IS_BOOL:
        node->type = AXON_BOOL;
        break;
    case IS_INT:
        node->type = AXON_INT;
        break;
    case IS_UINT:
        node->type = h.number > INT64_MAX ? AXON_UINT : AXON_INT;
        break;
    case IS_FLOAT:
        node->type = AXON_FLOAT;
        break;
    default:
        node->type = AXON_NIL;
        break;
    }
    node->as.natural = h.number; /* a double's bits, too: nothing but the type says what they are */
    return AXON_OK;
}

/* ---- arrays and scalars among the maps ----------------------------------------------------- */

/* A map that stands for an array or a scalar, and the fields that it must have. */
typedef struct {
    reader *r;
    const axi_path *path;
    size_t at;
    bool is_array;
    const axon_value *data, *dtype, *shape;
} marked;

static axon_status lie(const marked *m, const char *name, const char *fact)
{
    char reason[160];
    snprintf(reason, sizeof reason, "%s whose %s %s", m->is_array ? "an array" : "a scalar", name, fact);
    return broken(m->r, m->path, m->at, reason);
}

static const axon_value *field(const axon_value *map, const char *name, bool is_bytes)
{
    size_t length = strlen(name);
    for (size_t i = map->as.children.count; i-- > 0;) {
        const axon_value *child = &map->as.children.items[i];
        if (child->key_length == length && memcmp(child->key, name, length) == 0 &&
            (child->flags & AXI_KEY_IS_BYTES) == (is_bytes ? AXI_KEY_IS_BYTES : 0))
            return child;
    }
    return NULL;
}

static axon_status read_dtype(const marked *m, axon_array *array)
{
    bool swapped;
    if (!m->dtype) return lie(m, "dtype", "is missing");
    if (m->dtype->type != AXON_STRING) return lie(m, "dtype", "is not text");
    const char *text = m->dtype->as.bytes.data;
    size_t length = m->dtype->as.bytes.length;
    if (!axi_dtype_parse(text, length, &array->dtype, &array->itemsize, &swapped)) {
        char fact[96];
        int shown = (int)axi_utf8_cut(text, length > 24 ? 24 : length);
        snprintf(fact, sizeof fact, "is '%.*s', which is not a dtype that travels", shown, text);
        return lie(m, "dtype", fact);
    }
    array->swapped = swapped;
    return AXON_OK;
}

static axon_status read_shape(const marked *m, axon_array *array)
{
    char fact[96];
    if (!m->shape) return lie(m, "shape", "is missing");
    if (m->shape->type != AXON_LIST) return lie(m, "shape", "is not a list");
    uint32_t ndim = m->shape->as.children.count;
    if (ndim > AXON_MAX_NDIM) {
        snprintf(fact, sizeof fact, "has %" PRIu32 " dimensions, more than 32 (AXON_MAX_NDIM)", ndim);
        return lie(m, "shape", fact);
    }
    array->ndim = (int32_t)ndim;
    for (uint32_t i = 0; i < ndim; i++) {
        const axon_value *n = &m->shape->as.children.items[i];
        if (n->type != AXON_INT || n->as.integer < 0) {
            snprintf(fact, sizeof fact, "has a dimension %" PRIu32 " that is no number of elements", i);
            return lie(m, "shape", fact);
        }
        array->shape[i] = n->as.integer;
    }
    return AXON_OK;
}

static axon_status check_data(const marked *m, axon_array *array)
{
    axi_layout layout;
    axon_error reason;
    char fact[128];
    if (!m->data) return lie(m, "data", "is missing");
    if (m->data->type != AXON_BYTES) return lie(m, "data", "is not bytes");
    array->data = m->data->as.bytes.data;
    if (axi_array_layout(array, &layout, "it", NULL, &reason) != AXON_OK)
        return lie(m, "shape", "makes more than 2^63 bytes");
    if (layout.bytes != m->data->as.bytes.length) {
        snprintf(fact, sizeof fact, "has %zu bytes where shape and dtype make %" PRIu64,
                 m->data->as.bytes.length, layout.bytes);
        return lie(m, "data", fact);
    }
    return AXON_OK;
}

/* Any byte but 0 is true, so that C may read a bool array as one. */
static void normalise_bools(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = bytes[i] != 0;
}

static bool are_characters(const uint8_t *text, size_t length)
{
    for (uint32_t code; length >= 4; text += 4, length -= 4) {
        memcpy(&code, text, 4);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    }
    return true;
}

/* Aligns the elements and turns their byte order, within the message. At most 7 bytes before the data are
 * overwritten: its own header, of 2 or more, and its key "data", of 5 or more, which nobody reads again,
 * since all children of the map go when the array has been read. */
static axon_status settle_data(const marked *m, axon_array *array)
{
    size_t length = m->data->as.bytes.length, unit = axi_dtype_unit(array->dtype);
    uint8_t *data = (uint8_t *)(uintptr_t)array->data;
    size_t off = (uintptr_t)data % unit;
    if (off) array->data = data = memmove(data - off, data, length);
    if (array->swapped) axi_swap_bytes(data, length, unit);
    array->swapped = 0;
    if (array->dtype == AXON_BOOL8) normalise_bools(data, length);
    if (array->dtype == AXON_FIXED_TEXT && !are_characters(data, length))
        return lie(m, "data", "has text that is not Unicode");
    return AXON_OK;
}

static axon_status read_array(const marked *m, axon_array *array)
{
    axon_status status = read_dtype(m, array);
    if (status == AXON_OK) status = read_shape(m, array);
    if (status == AXON_OK) status = check_data(m, array);
    if (status == AXON_OK) status = settle_data(m, array);
    return status;
}

static axon_status read_scalar(const marked *m, axon_array *array)
{
    axon_status status = read_dtype(m, array);
    if (status != AXON_OK) return status;
    array->swapped = 0; /* msgpack's own numbers have no order to turn */
    if (!m->data) return lie(m, "data", "is missing");
    if (!axi_element_write(array + 1, array->dtype, m->data))
        return lie(m, "data", "does not fit its dtype");
    array->data = array + 1;
    return AXON_OK;
}

/* What the peers mark arrays with: {b"__ndarray__": true}, the same with a key of text, {"__type__":
 * "ndarray"}; and numbers: {b"__npgeneric__": true}. GR00T's .npy files and positronic's frames of JPEG stay
 * the maps that they are. */
static axon_type marked_type(const axon_value *map, const axon_value **marker, bool *is_bytes)
{
    for (int i = 0; i < 2; i++) {
        *is_bytes = i == 0;
        if ((*marker = field(map, "__ndarray__", *is_bytes))) return AXON_ARRAY;
        if ((*marker = field(map, "__npgeneric__", *is_bytes))) return AXON_SCALAR;
    }
    const axon_value *type = field(map, "__type__", false);
    bool is_array = type && type->type == AXON_STRING && type->as.bytes.length == 7 &&
                    memcmp(type->as.bytes.data, "ndarray", 7) == 0;
    return is_array ? AXON_ARRAY : AXON_MAP;
}

static bool may_be_marked(const axon_value *map)
{
    for (uint32_t i = 0; i < map->as.children.count; i++) {
        const axon_value *child = &map->as.children.items[i];
        if (child->key_length >= 8 && memcmp(child->key, "__", 2) == 0) return true;
    }
    return false;
}

/* Turns a map with a marker into what it stands for. */
static axon_status read_marked(reader *r, axon_value *map, const axi_path *path, size_t at)
{
    const axon_value *marker;
    bool is_bytes;
    if (!may_be_marked(map)) return AXON_OK;
    axon_type type = marked_type(map, &marker, &is_bytes);
    if (type == AXON_MAP) return AXON_OK;
    const marked m = {.r = r,
                      .path = path,
                      .at = at,
                      .is_array = type == AXON_ARRAY,
                      .data = field(map, "data", is_bytes),
                      .dtype = field(map, "dtype", is_bytes),
                      .shape = field(map, "shape", is_bytes)};
    if (marker && (marker->type != AXON_BOOL || !marker->as.integer))
        return lie(&m, "marker", "is not true");
    axon_array *array = calloc(1, sizeof *array + sizeof(uint64_t));
    if (!array) return axi_no_memory(r->err, sizeof *array);
    axon_status status = type == AXON_ARRAY ? read_array(&m, array) : read_scalar(&m, array);
    if (status != AXON_OK) {
        free(array);
        return status;
    }
    axon_value fields = *map;
    fields.key = NULL;
    axi_value_clear(&fields);
    map->type = (uint8_t)type;
    map->as.array = array;
    return AXON_OK;
}

axon_status axi_unpack(void *data, size_t length, const char *subject, axon_value **value, axon_error *err)
{
    reader r = {.data = data, .length = length, .owed = 1, .nodes = 1, .subject = subject, .err = err};
    axon_value node = {0};
    axon_status status = read_value(&r, &node, NULL, 0);
    if (status == AXON_OK && r.at != length) {
        char reason[64];
        snprintf(reason, sizeof reason, "%zu bytes follow the message", length - r.at);
        status = broken(&r, NULL, r.at, reason);
    }
    axon_value *root = status == AXON_OK ? axi_value_root(&node, data) : NULL;
    if (!root) {
        if (status == AXON_OK) status = axi_no_memory(err, sizeof node);
        axi_value_clear(&node);
        free(data);
        return status;
    }
    *value = root;
    return AXON_OK;
}

axon_status axon_value_from_msgpack(const void *data, size_t length, axon_value **value, axon_error *err)
{
    if (!value || (!data && length))
        return axi_fail(err, AXON_EINVAL, "message: %s is NULL", value ? "data" : "value");
    uint8_t *copy = malloc(length ? length : 1);
    if (!copy) return axi_no_memory(err, length);
    if (length) memcpy(copy, data, length);
    return axi_unpack(copy, length, "message", value, err);
}

/* Messages to trees, see pack.h.
 *
 * msgpack-c writes; reading is done here. Its unpacker allocates what a message claims to hold, knows
 * neither our depth nor UTF-8, and copies the tree once more into nodes of its own, while a reader that
 * fills ours needs no more code than the checks that would have to stand before it.
 */
#include "pack.h"

#include "spare.h"
#include "unpack_marked.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t at, length;
    uint64_t owed; /* values that open lists and maps still wait for; each is at least one byte */
    uint32_t nodes;
    uint64_t picture_bytes; /* that decoding may still take */
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

/* Turns a map with a marker into what it stands for. */
static axon_status read_marked(reader *r, axon_value *map, const axi_path *path, size_t at)
{
    const axi_marked_place place = {.subject = r->subject, .path = path, .at = at, .err = r->err};
    return axi_marked_read(map, &place, &r->picture_bytes);
}

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

static axon_status too_deep(const reader *r, const axi_path *path)
{
    return broken(r, path, r->at, "nested deeper than 32 levels (AXON_MAX_DEPTH)");
}

/* Of what lies below the deepest level, only the map and the shape of an array are allowed: they are gone once
 * the array has been read. */
static axon_status check_depth(const reader *r, const axon_value *node, const axi_path *path)
{
    for (uint32_t i = 0; axi_is_container(node) && i < node->as.children.count; i++) {
        axi_path here = axi_path_to(path, node, i);
        if (axi_is_container(&node->as.children.items[i])) return too_deep(r, &here);
    }
    return AXON_OK;
}

static axon_status read_container(reader *r, const header *h, axon_value *node, const axi_path *path,
                                  int depth)
{
    size_t at = r->at;
    if (depth > AXON_MAX_DEPTH + 2) return too_deep(r, path);
    node->type = h->kind == IS_MAP ? AXON_MAP : AXON_LIST;
    axon_status status = make_children(r, h, node, path);
    if (status == AXON_OK) status = read_children(r, node, path, (uint32_t)h->number, depth);
    if (status == AXON_OK && node->type == AXON_MAP) status = read_marked(r, node, path, at);
    if (status == AXON_OK && depth == AXON_MAX_DEPTH) status = check_depth(r, node, path);
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

/* ---- a whole message ----------------------------------------------------------------------- */

axon_status axi_unpack(void *data, size_t length, const char *subject, axon_value **value, axon_error *err)
{
    return axi_unpack_on(data, length, (axi_backing){data, axi_spare_give}, subject, value, err);
}

axon_status axi_unpack_on(void *data, size_t length, axi_backing backing, const char *subject,
                          axon_value **value, axon_error *err)
{
    reader r = {.data = data,
                .length = length,
                .owed = 1,
                .nodes = 1,
                .picture_bytes = AXI_MAX_PICTURE_BYTES,
                .subject = subject,
                .err = err};
    axon_value node = {0};
    axon_status status = read_value(&r, &node, NULL, 0);
    if (status == AXON_OK && r.at != length) {
        char reason[64];
        snprintf(reason, sizeof reason, "%zu bytes follow the message", length - r.at);
        status = broken(&r, NULL, r.at, reason);
    }
    axon_value *root = status == AXON_OK ? axi_value_root_on(&node, backing) : NULL;
    if (!root) {
        if (status == AXON_OK) status = axi_no_memory(err, sizeof node);
        axi_value_clear(&node);
        if (backing.memory) backing.release(backing.memory);
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

/* ---- the first message of several ---------------------------------------------------------- */

static bool has_header(const reader *r)
{
    size_t left = r->length - r->at;
    if (!left) return false;
    uint8_t first = r->data[r->at];
    return first < 0xc0 || first >= 0xe0 || left - 1 >= kinds[first - 0xc0].size;
}

/* How many bytes the message at the front has; 0 while it is not whole. Nothing is built and nothing recurses, so
 * that a message which arrives in pieces costs a look at its headers each time. */
static axon_status measure(reader *r, size_t *length)
{
    *length = 0;
    while (r->owed) {
        header h;
        if (r->owed > AXI_MAX_NODES)
            return axi_fail(r->err, AXON_ETOOBIG, "%s: more than %u values (byte %zu)", r->subject,
                            AXI_MAX_NODES, r->at);
        if (!has_header(r)) return AXON_OK;
        axon_status status = read_header(r, &h, NULL);
        if (status != AXON_OK) return status;
        if (h.kind == IS_LIST) r->owed += h.number;
        if (h.kind == IS_MAP) r->owed += 2 * h.number;
        if (h.kind != IS_TEXT && h.kind != IS_BYTES) continue;
        if (h.number > r->length - r->at) return AXON_OK;
        r->at += (size_t)h.number;
    }
    *length = r->at;
    return AXON_OK;
}

axon_status axon_value_read_msgpack(const void *data, size_t length, size_t *used, axon_value **value,
                                    axon_error *err)
{
    if (!value || !used || (!data && length))
        return axi_fail(err, AXON_EINVAL, "message: %s is NULL",
                        !value  ? "value"
                        : !used ? "used"
                                : "data");
    reader r = {
        .data = (uint8_t *)(uintptr_t)data, .length = length, .owed = 1, .subject = "message", .err = err};
    size_t whole;
    axon_value *tree = NULL;
    axon_status status = measure(&r, &whole);
    if (status == AXON_OK && whole) status = axon_value_from_msgpack(data, whole, &tree, err);
    if (status != AXON_OK) return status;
    *used = whole;
    *value = tree;
    return AXON_OK;
}

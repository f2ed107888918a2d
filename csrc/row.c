/* See row.h. */
#include "row.h"
#include "value_internal.h"

#include <string.h>

/* Longer leaves are not copied into a row; from LARGE bytes on, looking at an array where it lies costs less than
 * any copy. */
enum { NEAR = 16384, LARGE = 65536 };

/* Room for `length` bytes at the end of the data; NULL when there is none. */
static char *reserve(axi_row *row, int64_t *at, int64_t *end, size_t length)
{
    size_t begin = (row->data_bytes + 7) & ~(size_t)7;
    row->data_bytes = begin + length;
    *at = (int64_t)begin;
    *end = (int64_t)row->data_bytes;
    return row->data_bytes <= row->data_room ? row->data + begin : NULL;
}

static void put_data(axi_row *row, int64_t *at, int64_t *end, const void *data, size_t length)
{
    char *room = reserve(row, at, end, length);
    if (room && length > 0) memcpy(room, data, length);
}

static void put_text(axi_row *row, int64_t *at, int64_t *end, const char *utf8, size_t length)
{
    size_t begin = row->text_bytes;
    row->text_bytes += length;
    *at = (int64_t)row->characters;
    if (row->text_bytes <= row->text_room && length > 0) memcpy(row->text + begin, utf8, length);
    for (size_t i = 0; i < length; i++)
        row->characters += (utf8[i] & 0xC0) != 0x80;
    *end = (int64_t)row->characters;
}

static void put_key(axi_row *row, axi_node *node, const axon_value *value)
{
    node->key_is_bytes = (value->flags & AXI_KEY_IS_BYTES) != 0;
    if (node->key_is_bytes)
        put_data(row, &node->key_at, &node->key_end, value->key, value->key_length);
    else
        put_text(row, &node->key_at, &node->key_end, value->key, value->key_length);
}

static void leave(axi_node *node, const void *where, size_t length)
{
    node->kind = node->type;
    node->type = AXI_NODE_FAR;
    node->at = (int64_t)(intptr_t)where;
    node->end = (int64_t)length;
}

static void put_bytes(axi_row *row, axi_node *node, const axon_value *value)
{
    const void *data = value->as.bytes.data;
    size_t length = value->as.bytes.length;
    if (node->type == AXON_JSON || length > NEAR)
        leave(node, data, length);
    else if (node->type == AXON_STRING)
        put_text(row, &node->at, &node->end, data, length);
    else
        put_data(row, &node->at, &node->end, data, length);
}

/* The bytes of a received array, whose shape is known to be possible. */
static uint64_t size_of(const axon_array *array)
{
    uint32_t known = axon_dtype_size(array->dtype);
    uint64_t bytes = known ? known : array->itemsize;
    for (int32_t i = 0; i < array->ndim; i++)
        bytes *= (uint64_t)array->shape[i];
    return bytes;
}

static void put_array(axi_row *row, axi_node *node, const axon_value *value, const char *start)
{
    const axon_array *array = value->as.array;
    uint64_t bytes = size_of(array);
    bool is_plain = array->ndim <= 4 && axon_dtype_size(array->dtype) > 0;
    if (!is_plain || (bytes > NEAR && value->flags & AXI_IS_WHOLE)) {
        leave(node, value, bytes);
        return;
    }
    node->kind = array->dtype;
    node->ndim = array->ndim;
    memcpy(node->shape, array->shape, sizeof node->shape);
    if (start && bytes >= LARGE) {
        node->type = AXI_NODE_VIEW;
        node->at = (const char *)array->data - start;
    } else if (bytes > NEAR) {
        node->type = AXI_NODE_LONG;
        node->at = (int64_t)(intptr_t)array->data;
        node->end = (int64_t)bytes;
    } else {
        put_data(row, &node->at, &node->end, array->data, (size_t)bytes);
    }
}

/* The type that every child of a list has, or -1. */
static int64_t common_type(const axon_value *list)
{
    const axon_value *items = list->as.children.items;
    uint32_t count = list->as.children.count;
    for (uint32_t i = 1; i < count; i++)
        if (items[i].type != items[0].type) return -1;
    return count > 0 ? items[0].type : -1;
}

static void put_list(axi_row *row, axi_node *node, const axon_value *list)
{
    node->kind = common_type(list);
    if (node->kind != AXON_FLOAT && node->kind != AXON_INT) {
        node->at = list->as.children.count;
        return;
    }
    char *room = reserve(row, &node->at, &node->end, list->as.children.count * sizeof(int64_t));
    for (uint32_t i = 0; room && i < list->as.children.count; i++)
        memcpy(room + i * sizeof(int64_t), &list->as.children.items[i].as, sizeof(int64_t));
}

static axi_node describe(axi_row *row, const axon_value *value, const char *start)
{
    axi_node node = {.type = value->type};
    if (value->key) put_key(row, &node, value);
    switch ((axon_type)value->type) {
    case AXON_STRING:
    case AXON_BYTES:
    case AXON_JSON:
        put_bytes(row, &node, value);
        break;
    case AXON_ARRAY:
    case AXON_SCALAR:
        put_array(row, &node, value, start);
        break;
    case AXON_LIST:
        put_list(row, &node, value);
        break;
    case AXON_MAP:
        node.at = value->as.children.count;
        break;
    case AXON_FLOAT:
        node.real = value->as.real;
        break;
    case AXON_BOOL:
    case AXON_INT:
    case AXON_UINT:
        node.at = value->as.integer;
        break;
    case AXON_NIL:
    case AXON_IMAGE:
        break;
    }
    return node;
}

/* Received trees are no deeper than AXON_MAX_DEPTH. */
static void add(axi_row *row, const axon_value *value, const char *start)
{
    axi_node node = describe(row, value, start);
    if (row->node_count < row->node_room) row->nodes[row->node_count] = node;
    row->node_count++;
    bool is_list = value->type == AXON_LIST && node.kind != AXON_FLOAT && node.kind != AXON_INT;
    for (uint32_t i = 0; (is_list || value->type == AXON_MAP) && i < value->as.children.count; i++)
        add(row, &value->as.children.items[i], start);
}

int64_t axi_row_fill(axi_row *row, const axon_value *value, const char *start)
{
    row->node_count = row->text_bytes = row->characters = row->data_bytes = 0;
    add(row, value, start);
    bool fits = row->node_count <= row->node_room && row->text_bytes <= row->text_room &&
                row->data_bytes <= row->data_room;
    return fits ? (int64_t)row->text_bytes : -1;
}

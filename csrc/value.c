/* See axon/value.h: building, reading and freeing trees. Arrays are in array.c, bytes in pack.c and json.c. */
#include "array.h"
#include "spare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A received tree: its leaves point into `message`, which goes when the root does. */
typedef struct {
    axon_value value; /* first, so that a root is freed as any value */
    axi_backing message;
} root_node;

/* The same for a received tree that was added to another one: the message lies before its key. */
typedef struct {
    axi_backing message;
    char key[];
} owning_key;

/* ---- freeing ------------------------------------------------------------------------------- */

static void release(axi_backing message)
{
    if (message.memory) message.release(message.memory);
}

static void clear_key(axon_value *node)
{
    if (node->flags & AXI_OWNS_MESSAGE) {
        owning_key *key = (owning_key *)((char *)(uintptr_t)node->key - offsetof(owning_key, key));
        release(key->message);
        free(key);
    } else if (node->flags & AXI_OWNS_KEY) {
        free((void *)(uintptr_t)node->key);
    }
    node->key = NULL;
}

static void clear_leaf(axon_value *node)
{
    if (node->type == AXON_ARRAY || node->type == AXON_SCALAR) free(node->as.array);
    if (node->flags & AXI_OWNS_DATA) free((void *)(uintptr_t)node->as.bytes.data);
}

/* Trees may be built deeper than any stack, so the way back up is kept in the nodes: a container that is being
 * emptied has lost its key already and holds its parent there. */
void axi_value_clear(axon_value *node)
{
    clear_key(node);
    for (;;) {
        if (!axi_is_container(node)) {
            clear_leaf(node);
        } else if (node->as.children.count > 0) {
            axon_value *child = &node->as.children.items[--node->as.children.count];
            clear_key(child);
            child->key = (const char *)node;
            node = child;
            continue;
        } else {
            free(node->as.children.items);
        }
        if (!node->key) return;
        node = (axon_value *)(uintptr_t)node->key;
    }
}

axi_backing axi_value_take_message(axon_value *root)
{
    if (!(root->flags & AXI_OWNS_MESSAGE)) return (axi_backing){0};
    root->flags &= (uint8_t)~AXI_OWNS_MESSAGE;
    return ((root_node *)root)->message;
}

void axon_value_free(axon_value *value)
{
    if (!value) return;
    axi_backing message = axi_value_take_message(value);
    axi_value_clear(value);
    release(message);
    free(value);
}

/* ---- building ------------------------------------------------------------------------------ */

static axon_value *make(axon_type type)
{
    axon_value *value = calloc(1, sizeof *value);
    if (value) value->type = (uint8_t)type;
    return value;
}

axon_value *axi_value_root(const axon_value *node, void *message)
{
    return axi_value_root_on(node, (axi_backing){message, axi_spare_give});
}

axon_value *axi_value_root_on(const axon_value *node, axi_backing message)
{
    root_node *root = malloc(sizeof *root);
    if (!root) return NULL;
    root->value = *node;
    root->value.flags |= AXI_OWNS_MESSAGE;
    root->message = message;
    return &root->value;
}

axon_value *axon_value_nil(void)
{
    return make(AXON_NIL);
}

axon_value *axon_value_bool(int32_t truth)
{
    axon_value *value = make(AXON_BOOL);
    if (value) value->as.integer = truth != 0;
    return value;
}

axon_value *axon_value_int(int64_t number)
{
    axon_value *value = make(AXON_INT);
    if (value) value->as.integer = number;
    return value;
}

axon_value *axon_value_uint(uint64_t number)
{
    axon_value *value = make(number > INT64_MAX ? AXON_UINT : AXON_INT);
    if (value) value->as.natural = number;
    return value;
}

axon_value *axon_value_float(double number)
{
    axon_value *value = make(AXON_FLOAT);
    if (value) value->as.real = number;
    return value;
}

static axon_value *make_bytes(axon_type type, const void *data, size_t length)
{
    axon_value *value = make(type);
    if (!value) return NULL;
    value->as.bytes.data = data;
    value->as.bytes.length = length;
    return value;
}

static size_t text_length(const char *text, int64_t length)
{
    return length >= 0 ? (size_t)length : text ? strlen(text) : 0;
}

axon_value *axon_value_string(const char *utf8, int64_t length)
{
    return make_bytes(AXON_STRING, utf8, text_length(utf8, length));
}

axon_value *axon_value_bytes(const void *data, size_t length)
{
    return make_bytes(AXON_BYTES, data, length);
}

axon_value *axon_value_json(const char *text, int64_t length)
{
    return make_bytes(AXON_JSON, text, text_length(text, length));
}

/* With room for one element behind the description. */
static axon_value *make_array(axon_type type, const axon_array *array)
{
    axon_value *value = make(type);
    axon_array *described = value ? calloc(1, sizeof *described + sizeof(uint64_t)) : NULL;
    if (!described) {
        free(value);
        return NULL;
    }
    if (array) *described = *array;
    value->as.array = described;
    return value;
}

axon_value *axon_value_array(const axon_array *array)
{
    return make_array(AXON_ARRAY, array);
}

axon_value *axon_value_scalar(axon_dtype dtype, const void *element)
{
    const axon_array array = {.dtype = dtype, .itemsize = axon_dtype_size(dtype)};
    axon_value *value = make_array(AXON_SCALAR, &array);
    if (value && element && array.itemsize)
        value->as.array->data = memcpy(value->as.array + 1, element, array.itemsize);
    return value;
}

axon_value *axon_value_image(const axon_image *image)
{
    axon_value *value = make(AXON_IMAGE);
    if (value) value->as.image = image;
    return value;
}

axon_value *axon_value_list(void)
{
    return make(AXON_LIST);
}

axon_value *axon_value_map(void)
{
    return make(AXON_MAP);
}

static bool set_capacity(axon_value *container, uint32_t capacity)
{
    axon_value *items = realloc(container->as.children.items, capacity * sizeof *items);
    if (!items) return false;
    container->as.children.items = items;
    container->as.children.capacity = capacity;
    return true;
}

axon_status axi_value_reserve(axon_value *container, uint32_t count, axon_error *err)
{
    if (count <= container->as.children.capacity || set_capacity(container, count)) return AXON_OK;
    return axi_no_memory(err, (uint64_t)count * sizeof *container);
}

static bool make_room(axon_value *container, size_t more)
{
    uint32_t count = container->as.children.count, capacity = container->as.children.capacity;
    if (more <= capacity - count) return true;
    if (more > UINT32_MAX - count) return false;
    uint64_t wanted = (uint64_t)capacity * 2;
    if (wanted < count + more) wanted = count + more;
    if (wanted < 4) wanted = 4;
    return set_capacity(container, wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted);
}

/* The key that a child has from now on; the message of a received tree moves in with it. */
static bool take_key(axon_value *child, const char *key, size_t length)
{
    if (child->flags & AXI_OWNS_MESSAGE) {
        owning_key *owned = malloc(sizeof *owned + length + 1);
        if (!owned) return false;
        owned->message = ((root_node *)child)->message;
        child->key = memcpy(owned->key, key, length + 1);
    } else if (key[0]) {
        char *copy = malloc(length + 1);
        if (!copy) return false;
        child->key = memcpy(copy, key, length + 1);
        child->flags |= AXI_OWNS_KEY;
    } else {
        child->key = "";
    }
    child->key_length = (uint32_t)length;
    return true;
}

/* Moves `child` into `slot` of a container and frees its shell. */
static void move_in(axon_value *slot, axon_value *child)
{
    *slot = *child;
    free(child);
}

static axon_status give_up(axon_value *child, axon_status status)
{
    axon_value_free(child);
    return status;
}

/* What adding refuses whatever the container is. A node that is added to itself stays the caller's. */
static axon_status check_addition(const axon_value *container, axon_type type, axon_value *child)
{
    if (!child) return AXON_ENOMEM;
    if (child == container) return AXON_EINVAL;
    if (!container) return give_up(child, AXON_ENOMEM);
    return container->type == type ? AXON_OK : give_up(child, AXON_EINVAL);
}

static axon_value *find(const axon_value *map, const char *key, size_t length)
{
    for (size_t i = map->as.children.count; i-- > 0;) {
        axon_value *child = &map->as.children.items[i];
        if (child->key_length == length && memcmp(child->key, key, length) == 0) return child;
    }
    return NULL;
}

axon_status axon_value_set(axon_value *map, const char *key, axon_value *child)
{
    axon_status status = check_addition(map, AXON_MAP, child);
    if (status != AXON_OK) return status;
    size_t length = key ? strlen(key) : 0;
    if (!key || length > UINT32_MAX) return give_up(child, AXON_EINVAL);
    axon_value *slot = find(map, key, length);
    if (!slot && !make_room(map, 1)) return give_up(child, AXON_ENOMEM);
    if (!take_key(child, key, length)) return give_up(child, AXON_ENOMEM);
    if (slot)
        axi_value_clear(slot);
    else
        slot = &map->as.children.items[map->as.children.count++];
    move_in(slot, child);
    return AXON_OK;
}

void axi_value_remove(axon_value *map, const char *key)
{
    axon_value *child = axon_value_type(map) == AXON_MAP ? find(map, key, strlen(key)) : NULL;
    if (!child) return;
    axi_value_clear(child);
    axon_value *behind = child + 1, *end = map->as.children.items + map->as.children.count;
    memmove(child, behind, (size_t)(end - behind) * sizeof *child);
    map->as.children.count--;
}

axon_value *axi_value_take(axon_value *map, const char *key)
{
    axon_value *child = axon_value_type(map) == AXON_MAP ? find(map, key, strlen(key)) : NULL;
    axon_value *taken = child ? malloc(sizeof *taken) : NULL;
    if (!taken) return NULL;
    clear_key(child);
    *taken = *child;
    taken->key_length = 0;
    taken->flags &= AXI_OWNS_DATA | AXI_IS_WHOLE;
    *child = (axon_value){.type = AXON_NIL, .key = "", .key_length = 0};
    axon_value *behind = child + 1, *end = map->as.children.items + map->as.children.count;
    memmove(child, behind, (size_t)(end - behind) * sizeof *child);
    map->as.children.count--;
    return taken;
}

void axi_value_unwrap(axon_value *map, const char *key)
{
    axon_value *child = find(map, key, strlen(key));
    axon_value kept = *child, rest = *map;
    *child = (axon_value){.type = AXON_NIL};
    rest.key = NULL;
    rest.flags = 0;
    axi_value_clear(&rest);
    clear_key(&kept);
    map->type = kept.type;
    map->as = kept.as;
    map->flags |= kept.flags & (AXI_OWNS_DATA | AXI_IS_WHOLE);
}

static bool same_array(const axon_array *one, const axon_array *other)
{
    uint64_t bytes, others;
    if (one->dtype != other->dtype || one->ndim != other->ndim || one->itemsize != other->itemsize)
        return false;
    for (int i = 0; i < one->ndim; i++)
        if (one->shape[i] != other->shape[i]) return false;
    if (axon_array_size(one, &bytes, NULL) != AXON_OK || axon_array_size(other, &others, NULL) != AXON_OK)
        return false;
    return bytes == others && (bytes == 0 || memcmp(one->data, other->data, (size_t)bytes) == 0);
}

/* Maps with more keys are the same only in the same order, so that a peer cannot make comparing take for ever. */
#define MAX_UNORDERED 4096

/* The child of `map` that has the key of `child`, looked for at `index` first; NULL when there is none. */
static const axon_value *find_twin(const axon_value *map, const axon_value *child, size_t index)
{
    const axon_value *same = axon_value_at(map, index);
    if (same && same->key_length == child->key_length &&
        memcmp(same->key, child->key, child->key_length) == 0)
        return same;
    return axon_value_count(map) <= MAX_UNORDERED ? find(map, child->key, child->key_length) : NULL;
}

/* Every child of `one` is in `other` as well. */
static bool holds_children(const axon_value *other, const axon_value *one)
{
    for (size_t i = 0; i < axon_value_count(one); i++) {
        const axon_value *child = axon_value_at(one, i);
        const axon_value *twin =
            one->type == AXON_MAP ? find_twin(other, child, i) : axon_value_at(other, i);
        if (!twin || !axi_value_equal(child, twin)) return false;
    }
    return true;
}

/* A map may hold a key twice: with as many children as `other`, it may still lack one of its keys. */
static bool has_keys_of(const axon_value *one, const axon_value *other)
{
    for (size_t i = 0; i < axon_value_count(other); i++)
        if (!find_twin(one, axon_value_at(other, i), i)) return false;
    return true;
}

bool axi_value_equal(const axon_value *one, const axon_value *other)
{
    if (axon_value_type(one) != axon_value_type(other)) return false;
    switch (axon_value_type(one)) {
    case AXON_LIST:
    case AXON_MAP:
        if (axon_value_count(one) != axon_value_count(other)) return false;
        return holds_children(other, one) && (one->type == AXON_LIST || has_keys_of(one, other));
    case AXON_ARRAY:
    case AXON_SCALAR:
        return same_array(one->as.array, other->as.array);
    case AXON_STRING:
    case AXON_BYTES:
    case AXON_JSON:
        return one->as.bytes.length == other->as.bytes.length &&
               (one->as.bytes.length == 0 ||
                memcmp(one->as.bytes.data, other->as.bytes.data, one->as.bytes.length) == 0);
    case AXON_BOOL:
    case AXON_INT:
    case AXON_UINT:
    case AXON_FLOAT: /* the bits: a NaN is the NaN that it was */
        return one->as.natural == other->as.natural;
    case AXON_IMAGE:
        return one->as.image == other->as.image;
    case AXON_NIL:
        break;
    }
    return true;
}

axon_status axon_value_append(axon_value *list, axon_value *child)
{
    axon_status status = check_addition(list, AXON_LIST, child);
    if (status != AXON_OK) return status;
    if (!make_room(list, 1)) return give_up(child, AXON_ENOMEM);
    if (child->flags & AXI_OWNS_MESSAGE && !take_key(child, "", 0)) return give_up(child, AXON_ENOMEM);
    move_in(&list->as.children.items[list->as.children.count++], child);
    return AXON_OK;
}

static axon_status append_many(axon_value *list, const void *numbers, size_t count, axon_value **slots)
{
    if (!list) return AXON_ENOMEM;
    if (list->type != AXON_LIST || (!numbers && count)) return AXON_EINVAL;
    if (!make_room(list, count)) return AXON_ENOMEM;
    *slots = count ? list->as.children.items + list->as.children.count : NULL;
    list->as.children.count += (uint32_t)count;
    return AXON_OK;
}

axon_status axon_value_append_floats(axon_value *list, const double *numbers, size_t count)
{
    axon_value *slots;
    axon_status status = append_many(list, numbers, count, &slots);
    for (size_t i = 0; status == AXON_OK && i < count; i++)
        slots[i] = (axon_value){.type = AXON_FLOAT, .as.real = numbers[i]};
    return status;
}

axon_status axon_value_append_ints(axon_value *list, const int64_t *numbers, size_t count)
{
    axon_value *slots;
    axon_status status = append_many(list, numbers, count, &slots);
    for (size_t i = 0; status == AXON_OK && i < count; i++)
        slots[i] = (axon_value){.type = AXON_INT, .as.integer = numbers[i]};
    return status;
}

/* ---- reading ------------------------------------------------------------------------------- */

axon_type axon_value_type(const axon_value *value)
{
    return value ? (axon_type)value->type : AXON_NIL;
}

const char *axi_value_kind(const axon_value *node)
{
    static const char *const kinds[] = {
        [AXON_NIL] = "null",       [AXON_BOOL] = "a bool",      [AXON_INT] = "a number",
        [AXON_UINT] = "a number",  [AXON_FLOAT] = "a number",   [AXON_STRING] = "text",
        [AXON_BYTES] = "bytes",    [AXON_ARRAY] = "an array",   [AXON_SCALAR] = "a scalar",
        [AXON_IMAGE] = "an image", [AXON_JSON] = "unread JSON", [AXON_LIST] = "a list",
        [AXON_MAP] = "a map"};
    return kinds[axon_value_type(node)];
}

size_t axon_value_count(const axon_value *value)
{
    return value && axi_is_container(value) ? value->as.children.count : 0;
}

const axon_value *axon_value_at(const axon_value *value, size_t index)
{
    return index < axon_value_count(value) ? &value->as.children.items[index] : NULL;
}

const char *axon_value_key(const axon_value *map, size_t index, size_t *length, int32_t *is_bytes)
{
    if (axon_value_type(map) != AXON_MAP || index >= map->as.children.count) return NULL;
    const axon_value *child = &map->as.children.items[index];
    if (length) *length = child->key_length;
    if (is_bytes) *is_bytes = (child->flags & AXI_KEY_IS_BYTES) != 0;
    return child->key;
}

const axon_value *axon_value_get(const axon_value *map, const char *key)
{
    return axon_value_type(map) == AXON_MAP && key ? find(map, key, strlen(key)) : NULL;
}

/* The number that a node is: itself, or a scalar's element. */
static axon_value number_of(const axon_value *value)
{
    axon_value number = {0};
    if (!value) return number;
    if (value->type != AXON_SCALAR) return *value;
    if (value->as.array->data)
        axi_element_read(value->as.array->data, value->as.array->dtype, false, &number);
    return number;
}

axon_status axon_value_as_bool(const axon_value *value, int32_t *truth)
{
    axon_value number = number_of(value);
    if (number.type != AXON_BOOL || !truth) return AXON_EINVAL;
    *truth = (int32_t)number.as.integer;
    return AXON_OK;
}

axon_status axon_value_as_int(const axon_value *value, int64_t *number)
{
    axon_value n = number_of(value);
    if (!number) return AXON_EINVAL;
    if (n.type == AXON_FLOAT) {
        if (!(n.as.real >= -0x1p63 && n.as.real < 0x1p63) || n.as.real != trunc(n.as.real))
            return AXON_EINVAL;
        *number = (int64_t)n.as.real;
        return AXON_OK;
    }
    if (n.type != AXON_INT) return AXON_EINVAL;
    *number = n.as.integer;
    return AXON_OK;
}

axon_status axon_value_as_uint(const axon_value *value, uint64_t *number)
{
    axon_value n = number_of(value);
    if (!number) return AXON_EINVAL;
    if (n.type == AXON_FLOAT) {
        if (!(n.as.real >= 0 && n.as.real < 0x1p64) || n.as.real != trunc(n.as.real)) return AXON_EINVAL;
        *number = (uint64_t)n.as.real;
        return AXON_OK;
    }
    if (n.type != AXON_UINT && (n.type != AXON_INT || n.as.integer < 0)) return AXON_EINVAL;
    *number = n.as.natural;
    return AXON_OK;
}

/* Whether no digit is lost; the range is asked first because 2^63 and 2^64 do not convert back. */
static bool exact_real(const axon_value *n, double *real)
{
    if (n->type == AXON_FLOAT) {
        *real = n->as.real;
        return true;
    }
    if (n->type == AXON_INT) {
        *real = (double)n->as.integer;
        return *real < 0x1p63 && (int64_t)*real == n->as.integer;
    }
    if (n->type == AXON_UINT) {
        *real = (double)n->as.natural;
        return *real < 0x1p64 && (uint64_t)*real == n->as.natural;
    }
    return false;
}

axon_status axon_value_as_float(const axon_value *value, double *number)
{
    axon_value n = number_of(value);
    double real;
    if (!number || !exact_real(&n, &real)) return AXON_EINVAL;
    *number = real;
    return AXON_OK;
}

axon_status axon_value_as_string(const axon_value *value, const char **utf8, size_t *length)
{
    axon_type type = axon_value_type(value);
    if ((type != AXON_STRING && type != AXON_JSON) || !utf8 || !length) return AXON_EINVAL;
    *utf8 = value->as.bytes.data;
    *length = value->as.bytes.length;
    return AXON_OK;
}

axon_status axon_value_as_bytes(const axon_value *value, const void **data, size_t *length)
{
    if (axon_value_type(value) != AXON_BYTES || !data || !length) return AXON_EINVAL;
    *data = value->as.bytes.data;
    *length = value->as.bytes.length;
    return AXON_OK;
}

axon_status axon_value_as_array(const axon_value *value, const axon_array **array)
{
    axon_type type = axon_value_type(value);
    if ((type != AXON_ARRAY && type != AXON_SCALAR) || !array) return AXON_EINVAL;
    *array = value->as.array;
    return AXON_OK;
}

axon_array *axi_value_take_array(axon_value *node)
{
    if (node->type != AXON_ARRAY || !(node->flags & AXI_IS_WHOLE)) return NULL;
    axon_array *array = node->as.array;
    node->type = AXON_NIL;
    node->flags &= (uint8_t)~AXI_IS_WHOLE;
    return array;
}

axon_status axon_value_as_floats(const axon_value *list, double *numbers)
{
    size_t count = axon_value_count(list);
    double unused;
    if (axon_value_type(list) != AXON_LIST || (!numbers && count)) return AXON_EINVAL;
    for (size_t i = 0; i < count; i++)
        if (axon_value_as_float(&list->as.children.items[i], &unused) != AXON_OK) return AXON_EINVAL;
    for (size_t i = 0; i < count; i++)
        axon_value_as_float(&list->as.children.items[i], &numbers[i]);
    return AXON_OK;
}

axon_status axon_value_as_ints(const axon_value *list, int64_t *numbers)
{
    size_t count = axon_value_count(list);
    int64_t unused;
    if (axon_value_type(list) != AXON_LIST || (!numbers && count)) return AXON_EINVAL;
    for (size_t i = 0; i < count; i++)
        if (axon_value_as_int(&list->as.children.items[i], &unused) != AXON_OK) return AXON_EINVAL;
    for (size_t i = 0; i < count; i++)
        axon_value_as_int(&list->as.children.items[i], &numbers[i]);
    return AXON_OK;
}

/* ---- places in a tree ---------------------------------------------------------------------- */

axi_path axi_path_to(const axi_path *parent, const axon_value *container, size_t index)
{
    const axon_value *child = &container->as.children.items[index];
    axi_path path = {.parent = parent, .index = index};
    if (container->type == AXON_MAP) {
        path.key = child->key;
        path.key_length = child->key_length;
    }
    return path;
}

/* The longest part of a key that is quoted. */
#define KEY_QUOTED 64

typedef struct {
    char *text;
    size_t size, length;
} writer;

static void add(writer *w, const char *text, size_t length)
{
    for (size_t i = 0; i < length && w->length + 1 < w->size; i++)
        w->text[w->length++] = text[i] ? text[i] : '?';
    w->text[w->length] = 0;
}

static void add_path(writer *w, const axi_path *path)
{
    if (!path) return;
    add_path(w, path->parent);
    if (path->key) {
        size_t length =
            path->key_length > KEY_QUOTED ? axi_utf8_cut(path->key, KEY_QUOTED) : path->key_length;
        if (path->parent) add(w, ".", 1);
        add(w, path->key, length);
        if (length < path->key_length) add(w, "...", 3);
    } else {
        char index[32];
        add(w, index, (size_t)snprintf(index, sizeof index, "[%zu]", path->index));
    }
}

void axi_path_print(char *text, size_t size, const char *subject, const axi_path *path)
{
    writer w = {text, size, 0};
    add(&w, subject, strlen(subject));
    if (!path) return;
    add(&w, " \"", 2);
    add_path(&w, path);
    if (w.length + 5 > size) { /* cut: say so */
        w.length = axi_utf8_cut(text, size - 5);
        add(&w, "...", 3);
    }
    add(&w, "\"", 1);
}

/* The inside of axon_value, for the rooms that build and walk trees: value, pack, json, service. */
#ifndef AXI_VALUE_INTERNAL_H
#define AXI_VALUE_INTERNAL_H

#include <axon/image.h>
#include <axon/value.h>

#include "internal.h"
#include "utf8.h"

enum {
    AXI_OWNS_DATA = 1,    /* as.bytes.data is freed with the node */
    AXI_OWNS_KEY = 2,     /* key is freed with the node */
    AXI_OWNS_MESSAGE = 4, /* the root of a received tree: frees the message that the leaves point into */
    AXI_KEY_IS_BYTES = 8, /* the peer sent the key as msgpack bin */
    AXI_IS_WHOLE = 16     /* an array's elements lie in one piece of memory with as.array */
};

/* Children lie in the container's array by value, so a tree of n containers is n allocations.
 * A received map may hold a key twice: all are kept, the last one counts. */
struct axon_value {
    uint8_t type;  /* axon_type */
    uint8_t flags; /* AXI_... */
    uint32_t key_length;
    const char *key; /* NULL outside of a map */
    union {
        int64_t integer; /* BOOL, INT */
        uint64_t natural;
        double real;
        struct {
            const void *data;
            size_t length;
        } bytes;           /* STRING, BYTES, JSON */
        axon_array *array; /* ARRAY, SCALAR; the description is the node's, a scalar's element follows it */
        const axon_image *image;
        struct {
            struct axon_value *items;
            uint32_t count;
            uint32_t capacity;
        } children; /* LIST, MAP */
    } as;
};

/* The most nodes that a received tree may have: 256 MiB of them. Every reader also bounds its memory by a
 * small multiple of the message's length. */
#define AXI_MAX_NODES (8u << 20)

/* Room for exactly `count` children, known beforehand. */
axon_status axi_value_reserve(axon_value *container, uint32_t count, axon_error *err);

/* Frees what a node holds, its key included, but not the node itself. */
void axi_value_clear(axon_value *node);

/* Takes the child that axon_value_get() finds, if any, out of a map. */
void axi_value_remove(axon_value *map, const char *key);

/* Takes the child that axon_value_get() finds out of a map, onto the heap: the caller's, while the message of the
 * tree lives. NULL when there is none, or memory ran out. */
axon_value *axi_value_take(axon_value *map, const char *key);

/* Makes a received map, a root, its own child of that name, which must be there; its other children are freed. */
void axi_value_unwrap(axon_value *map, const char *key);

/* Whether two received trees say the same; keys in any order. NULL is the same as nil. */
bool axi_value_equal(const axon_value *one, const axon_value *other);

/* Takes an array that is whole out of its node, which is nil afterwards: the caller's, to be freed. NULL when the
 * node is anything else; it is left alone then. */
axon_array *axi_value_take_array(axon_value *node);

/* Moves `node` onto the heap as the root of a received tree, which from then on owns `message`. NULL when
 * memory ran out: nothing has moved then. */
axon_value *axi_value_root(const axon_value *node, void *message);

/* Memory that a received tree points into, and how it is let go, on whatever thread the tree is freed. */
typedef struct axi_backing {
    void *memory; /* may be NULL */
    void (*release)(void *memory);
} axi_backing;

/* The same for a message that is not malloc'ed. */
axon_value *axi_value_root_on(const axon_value *node, axi_backing message);

/* Takes the message out of the root of a received tree: the caller's, to be released. Empty when it has none. */
axi_backing axi_value_take_message(axon_value *root);

/* What a node is, for messages: "a number", "a map". NULL is "null". */
const char *axi_value_kind(const axon_value *node);

static inline bool axi_is_container(const axon_value *node)
{
    return node->type == AXON_LIST || node->type == AXON_MAP;
}

/* ---- places in a tree ---------------------------------------------------------------------- */

/* Where a walk is in a tree, for messages: `observation "images.top[3]"`. */
typedef struct axi_path {
    const struct axi_path *parent; /* NULL at the root */
    const char *key;               /* NULL for a list's child */
    size_t key_length;
    size_t index;
} axi_path;

/* Enough for a subject and a path that can still be read; longer ones are cut. */
#define AXI_PATH_TEXT 256

/* Writes subject and path: `observation "images.top"`, or `observation` alone at the root. */
void axi_path_print(char *text, size_t size, const char *subject, const axi_path *path);

/* The path of the child at `index` of `container`. */
axi_path axi_path_to(const axi_path *parent, const axon_value *container, size_t index);

#endif

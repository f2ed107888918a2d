/* The inside of axon_value, for the rooms that build and walk trees: value, pack, json, service. */
#ifndef AXI_VALUE_INTERNAL_H
#define AXI_VALUE_INTERNAL_H

#include <axon/image.h>
#include <axon/value.h>

#include "internal.h"

enum {
    AXI_OWNS_DATA = 1,    /* as.bytes.data is freed with the node */
    AXI_OWNS_KEY = 2,     /* key is freed with the node */
    AXI_OWNS_MESSAGE = 4, /* a root: `message` of the axi_root around it is freed last */
    AXI_KEY_IS_BYTES = 8  /* the peer sent the key as msgpack bin */
};

/* Children lie in the container's array by value, so a tree of n containers is n allocations. */
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

/* A received tree: its leaves point into `message`, which goes when the root does. */
typedef struct axi_root {
    struct axon_value value; /* first, so that a root is freed as any value */
    void *message;
} axi_root;

/* Room for exactly `count` children, known beforehand. */
axon_status axi_value_reserve(axon_value *container, uint32_t count, axon_error *err);

/* True when `length` bytes are UTF-8 as RFC 3629 defines it. */
bool axi_is_utf8(const void *data, size_t length);

/* Where a walk is in a tree, for messages: `observation "images.top[3]"`. */
typedef struct axi_path {
    const struct axi_path *parent; /* NULL at the root */
    const char *key;               /* NULL for a list's child */
    size_t key_length;
    size_t index;
} axi_path;

/* Writes subject and path: `observation "images.top"`, or `observation` alone at the root. */
void axi_path_print(char *text, size_t size, const char *subject, const axi_path *path);

#endif

/* A tree laid out flat, for the binding: what Python would ask of a tree node by node crosses in one call. */
#ifndef AXI_ROW_H
#define AXI_ROW_H

#include <axon/value.h>

/* The types of nodes, besides those of axon_type. */
enum axi_node_type {
    AXI_NODE_VIEW = 64, /* an array that stays in the message, `at` bytes behind its start */
    AXI_NODE_LONG = 65, /* an array too long for the row: its `end` bytes are at the address `at` */
    AXI_NODE_FAR =
        66 /* of type `kind`, not in the row: `at` is the address of the value, or of `end` bytes */
};

/* Members are of 8 bytes each, so that Python's struct reads a node in one go. */
typedef struct axi_node {
    int64_t type;
    int64_t kind;         /* of an array: its dtype; of a list: the type of every child, or -1 */
    int64_t key_is_bytes; /* in a map: the key is in the row's data, not in its text */
    int64_t key_at;
    int64_t key_end;
    int64_t at; /* where it begins in the row's text or data; or the number, or how many children */
    int64_t end;
    double real;
    int64_t ndim;
    int64_t shape[4];
} axi_node;

/* Counts what is added, also where there is no room for it. Texts are for decoding in one go: places in them count
 * characters. Data begins at multiples of 8. */
typedef struct axi_row {
    axi_node *nodes;
    char *text;
    char *data;
    size_t node_room;
    size_t text_room;
    size_t data_room;
    size_t node_count;
    size_t text_bytes;
    size_t characters;
    size_t data_bytes;
} axi_row;

/* Empties a row and lays a tree out in it: each container before its children, lists of nothing but floats or
 * nothing but ints whole, as data.
 * start   of the message in which large arrays stay; NULL: they are far
 * Returns the bytes of text; -1 when something had no room. */
int64_t axi_row_fill(axi_row *row, const axon_value *value, const char *start);

#endif

/* JSON: trees to request bodies, reply text to trees. */
#ifndef AXI_JSON_H
#define AXI_JSON_H

#include "value_internal.h"

/* A piece of a body: text as it is, or bytes that become base64 while they are sent. */
typedef struct axi_body_part {
    const void *data;
    size_t length;
    bool base64;
} axi_body_part;

/* A JSON body in pieces. All zero is an empty one. */
typedef struct axi_body {
    axi_body_part *parts;
    size_t count;
    size_t capacity;
    uint64_t length; /* of the body as it is sent, base64 included */
    axi_buffer text; /* what the text parts point into */
    void **owned;    /* encoded pictures, freed with the body */
    size_t owned_count;
} axi_body;

/* The most elements that an array may have to be written into a body as nested lists: what is larger is a
 * picture or a depth map, which travels as an image. */
#define AXI_BODY_ELEMENTS (1u << 20)

/* Writes a tree as a JSON body into `body`, which is all zero or was freed. Images and bytes become base64,
 * images in base64 already go out as that text; arrays become nested lists.
 * `subject` begins the error texts; NaN, infinity, large arrays, keys of bytes and text that is not UTF-8
 * are AXON_EINVAL, with the path. */
axon_status axi_json_write(axi_body *body, const axon_value *tree, const char *subject, axon_error *err);
void axi_body_free(axi_body *body);

/* All of a body as one zero-terminated text, malloc'ed; NULL when memory ran out. */
char *axi_body_join(const axi_body *body);

/* Reads JSON text. `text` is malloc'ed and the call's, also when it fails: strings and keys stay in it, their
 * escapes resolved where they are, and the tree points there. `subject` begins the error texts. */
axon_status axi_json_read(char *text, size_t length, const char *subject, axon_value **value,
                          axon_error *err);

/* Finds the text of one member of a JSON object without building a tree: where it begins and its length. All
 * of the text is checked. Of two members of that name the last one counts.
 * AXON_EPROTOCOL when the text is not an object or has no such member. */
axon_status axi_json_member(const char *text, size_t length, const char *key, const char **member,
                            size_t *member_length, const char *subject, axon_error *err);

#endif

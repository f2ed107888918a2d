/* The door to cJSON: trees to request bodies, reply text to trees. */
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

/* Writes a tree as a JSON body. Images in base64 already go out as that text.
 * `subject` begins the error texts; NaN, infinity, arrays and keys of bytes are AXON_EINVAL, with the path. */
axon_status axi_json_write(axi_body *body, const axon_value *tree, const char *subject, axon_error *err);
void axi_body_free(axi_body *body);

/* Reads JSON text. `text` is malloc'ed and the call's, also when it fails; long strings without escapes
 * stay in it and the tree points there. `subject` begins the error texts. */
axon_status axi_json_read(char *text, size_t length, const char *subject, axon_value **value,
                          axon_error *err);

/* Finds the text of one member of a JSON object without parsing the rest: where it begins and its length.
 * AXON_EPROTOCOL when the text is not an object or has no such member. */
axon_status axi_json_member(const char *text, size_t length, const char *key, const char **member,
                            size_t *member_length, const char *subject, axon_error *err);

#endif

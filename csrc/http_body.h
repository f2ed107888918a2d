/* A JSON body, produced piece by piece while it is sent. */
#ifndef AXI_HTTP_BODY_H
#define AXI_HTTP_BODY_H

#include "json.h"

/* Where the sending of a body is. All zero but `body` is its beginning. */
typedef struct axi_body_reader {
    const axi_body *body;
    size_t part;        /* the next to send */
    size_t offset;      /* within that part */
    char quad[4];       /* base64 that did not fit into the last piece */
    size_t quad_length; /* of it, at its end */
    uint64_t sent;
} axi_body_reader;

/* Writes the next piece, up to `room` bytes, whatever number that is; 0 at the end. Pictures become base64 in `out`
 * itself. */
size_t axi_body_read(axi_body_reader *reader, char *out, size_t room);

#endif

/* Maps that stand for arrays, scalars and pictures, once they have been read: see docs/wire.md for the forms. */
#ifndef AXI_UNPACK_MARKED_H
#define AXI_UNPACK_MARKED_H

#include "value_internal.h"

/* The most bytes that the pictures of one message may become: a few of these make a robot's day, while a small
 * file can claim to be gigabytes. */
#define AXI_MAX_PICTURE_BYTES ((uint64_t)256 << 20)

/* Where a map stood in its message, for the texts of errors. */
typedef struct axi_marked_place {
    const char *subject;
    const axi_path *path;
    size_t at;
    axon_error *err;
} axi_marked_place;

/* Turns `map` into what its marker says; leaves a map without one alone. Its leaves lie in the message, of which
 * the bytes of the map may be overwritten. `*picture_bytes` are left for pictures, and become fewer. */
axon_status axi_marked_read(axon_value *map, const axi_marked_place *place, uint64_t *picture_bytes);

#endif

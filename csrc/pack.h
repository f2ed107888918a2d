/* msgpack: trees to messages, through msgpack-c, and messages to trees. */
#ifndef AXI_PACK_H
#define AXI_PACK_H

#include "value_internal.h"

#include <sys/uio.h>

/* A message as a scatter list: small things lie in `scratch`, large leaves stay where the caller has them.
 * All zero is an empty one; it can be used again and again and keeps its memory. */
typedef struct axi_message {
    struct iovec *parts;
    size_t count;
    size_t capacity;
    uint64_t length; /* of all parts together */
    axi_buffer scratch;
    axi_buffer gathered; /* strided arrays, made contiguous, and pictures that were encoded */
    uint8_t front[64];   /* what axi_message_precede() put there: a message that has it stays where it is */
} axi_message;

/* Writes `value` into `message`, which is emptied first. `subject` begins the error texts.
 * Arrays are checked here: dtype, shape, data. */
axon_status axi_pack(axi_message *message, const axon_value *value, axon_marker marker, const char *subject,
                     axon_error *err);
void axi_message_free(axi_message *message);

/* The same, with uint8 arrays (height, width, 3) as files of `pictures`: AXON_IMAGE_JPEG, lossy, or AXON_IMAGE_PNG;
 * AXON_IMAGE_UNKNOWN leaves them as they are. So does an array that would not become smaller, or is larger than the
 * format knows. */
axon_status axi_pack_pictures(axi_message *message, const axon_value *value, axon_marker marker,
                              axon_image_format pictures, const char *subject, axon_error *err);

/* Puts `length` bytes, which fit `front`, before what was packed; once per message. */
axon_status axi_message_precede(axi_message *message, const void *bytes, size_t length, axon_error *err);

/* Makes these bytes, which fit `front`, the whole message. */
axon_status axi_message_replace(axi_message *message, const void *bytes, size_t length, axon_error *err);

/* Takes the header of the map that was packed away, so that another can precede its children. */
void axi_message_skip_map_header(axi_message *message);

/* Reads one message. `data` is malloc'ed and the call's, also when it fails: leaves point into it, and
 * misaligned array data is moved within it. */
axon_status axi_unpack(void *data, size_t length, const char *subject, axon_value **value, axon_error *err);

/* The same for a message that lies in `backing`, which takes the place of malloc'ed `data`. */
axon_status axi_unpack_on(void *data, size_t length, axi_backing backing, const char *subject,
                          axon_value **value, axon_error *err);

#endif

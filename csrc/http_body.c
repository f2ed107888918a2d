/* See http_body.h. */
#include "http_body.h"

#include "base64.h"

#include <string.h>

/* What is left of a group of four that was split between two pieces. */
static size_t finish_quad(axi_body_reader *reader, char *out, size_t room)
{
    size_t n = reader->quad_length < room ? reader->quad_length : room;
    memcpy(out, reader->quad + sizeof reader->quad - reader->quad_length, n);
    reader->quad_length -= n;
    return n;
}

static size_t read_text(axi_body_reader *reader, const axi_body_part *part, char *out, size_t room)
{
    size_t left = part->length - reader->offset, n = left < room ? left : room;
    memcpy(out, (const char *)part->data + reader->offset, n);
    reader->offset += n;
    return n;
}

/* In groups of three bytes, until the last one; a group that has no room is split. */
static size_t read_base64(axi_body_reader *reader, const axi_body_part *part, char *out, size_t room)
{
    const uint8_t *data = (const uint8_t *)part->data + reader->offset;
    size_t left = part->length - reader->offset;
    if (room >= sizeof reader->quad) {
        size_t n = left / 3 >= room / 4 ? room / 4 * 3 : left;
        axi_base64_encode(out, data, n);
        reader->offset += n;
        return axi_base64_length(n);
    }
    size_t n = left < 3 ? left : 3;
    axi_base64_encode(reader->quad, data, n);
    reader->offset += n;
    reader->quad_length = sizeof reader->quad;
    return finish_quad(reader, out, room);
}

size_t axi_body_read(axi_body_reader *reader, char *out, size_t room)
{
    size_t filled = 0;
    while (filled < room) {
        if (reader->quad_length) {
            filled += finish_quad(reader, out + filled, room - filled);
            continue;
        }
        if (reader->part == reader->body->count) break;
        const axi_body_part *part = &reader->body->parts[reader->part];
        if (reader->offset == part->length) {
            reader->part++;
            reader->offset = 0;
        } else {
            filled += (part->base64 ? read_base64 : read_text)(reader, part, out + filled, room - filled);
        }
    }
    reader->sent += filled;
    return filled;
}

/* What a picture's first bytes say. See image_codecs.h. */
#include "image_codecs.h"

#include "base64.h"

#include <stdio.h>
#include <string.h>

/* ---- bytes, also of base64 text ------------------------------------------------------------ */

size_t axi_source_read(const axi_source *source, size_t offset, void *data, size_t length)
{
    if (!source->is_base64) {
        size_t left = offset < source->length ? source->length - offset : 0;
        if (length > left) length = left;
        memcpy(data, (const char *)source->data + (length ? offset : 0), length);
        return length;
    }
    uint8_t *out = data;
    size_t done = 0;
    while (done < length) { /* one group of four characters after the other: few bytes are asked for */
        size_t at = (offset + done) / 3 * 4, skip = (offset + done) % 3, count, wrong;
        uint8_t group[3];
        if (at >= source->length) break;
        size_t characters = source->length - at < 4 ? source->length - at : 4;
        if (!axi_base64_decode(group, &count, (const char *)source->data + at, characters, &wrong)) break;
        if (count <= skip) break;
        size_t take = count - skip < length - done ? count - skip : length - done;
        memcpy(out + done, group + skip, take);
        done += take;
    }
    return done;
}

static uint32_t big16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t big32(const uint8_t *p)
{
    return big16(p) << 16 | big16(p + 2);
}

/* ---- formats ------------------------------------------------------------------------------- */

#define MAGIC_BYTES 26 /* the longest look that recognising takes */

static bool begins(const uint8_t *head, size_t length, const char *magic, size_t magic_length)
{
    return length >= magic_length && memcmp(head, magic, magic_length) == 0;
}
#define BEGINS(magic) begins(head, length, magic, sizeof magic - 1)

/* "BM" alone begins many a text: the length of the header that follows must be one that exists. */
static bool is_bmp(const uint8_t *head, size_t length)
{
    static const uint8_t lengths[] = {12, 16, 40, 52, 56, 64, 108, 124};
    if (length < MAGIC_BYTES || !BEGINS("BM")) return false;
    return memchr(lengths, head[14], sizeof lengths) && !head[15] && !head[16] && !head[17];
}

static axon_image_format recognise(const uint8_t *head, size_t length)
{
    if (BEGINS("\xff\xd8\xff")) return AXON_IMAGE_JPEG;
    if (BEGINS("\x89PNG\r\n\x1a\n")) return AXON_IMAGE_PNG;
    if (BEGINS("\x93NUMPY")) return AXON_IMAGE_NPY;
    if (BEGINS("RIFF") && length >= 12 && memcmp(head + 8, "WEBP", 4) == 0) return AXON_IMAGE_WEBP;
    if (BEGINS("GIF87a") || BEGINS("GIF89a")) return AXON_IMAGE_GIF;
    if (BEGINS("II*\0") || BEGINS("MM\0*") || BEGINS("II+\0") || BEGINS("MM\0+")) return AXON_IMAGE_TIFF;
    if (is_bmp(head, length)) return AXON_IMAGE_BMP;
    return AXON_IMAGE_UNKNOWN;
}

static axon_status not_a_picture(const uint8_t *head, size_t length, const char *subject, axon_error *err)
{
    char hex[3 * 8 + 1] = "";
    for (size_t i = 0; i < length && i < 8; i++)
        snprintf(hex + 3 * i, sizeof hex - 3 * i, " %02x", head[i]);
    return axi_fail(err, AXON_EINVAL,
                    "%s: not a picture: begins with%s, which is no JPEG, PNG, NPY, WebP, BMP, TIFF or GIF",
                    subject, hex);
}

/* ---- PNG ----------------------------------------------------------------------------------- */

/* The bit depths that PNG (section 11.2.2 of the standard) allows with a colour type, as a bit set. */
static unsigned depths_of(unsigned color_type)
{
    switch (color_type) {
    case 0:
        return 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 16;
    case 2:
    case 4:
    case 6:
        return 1 << 8 | 1 << 16;
    case 3:
        return 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8;
    default:
        return 0;
    }
}

static axon_status read_png(const axi_source *source, axi_header *header, const char *subject,
                            axon_error *err)
{
    static const uint8_t channels[] = {[0] = 1, [2] = 3, [3] = 3, [4] = 2, [6] = 4};
    uint8_t head[33];
    size_t length = axi_source_read(source, 0, head, sizeof head);
    if (length < sizeof head || memcmp(head + 8, "\0\0\0\rIHDR", 8) != 0)
        return axi_fail(err, AXON_EINVAL, "%s: PNG without its header (%zu bytes)", subject, length);
    uint32_t width = big32(head + 16), height = big32(head + 20);
    unsigned depth = head[24], color_type = head[25];
    if (width == 0 || height == 0 || width > INT32_MAX || height > INT32_MAX)
        return axi_fail(err, AXON_EINVAL, "%s: PNG with a damaged header: %ux%u pixels", subject, width,
                        height);
    if (depth > 16 || !(depths_of(color_type) >> depth & 1))
        return axi_fail(err, AXON_EINVAL, "%s: PNG with a damaged header: %u bits of colour type %u",
                        subject, depth, color_type);
    header->width = width;
    header->height = height;
    header->channels = channels[color_type];
    header->bits = depth < 8 ? 8 : depth;
    return AXON_OK;
}

/* ---- JPEG ---------------------------------------------------------------------------------- */

enum { JPEG_SOI = 0xd8, JPEG_EOI = 0xd9, JPEG_SOS = 0xda, JPEG_TEM = 0x01, JPEG_RST0 = 0xd0 };

/* A start of frame: all of 0xc0 to 0xcf but the tables DHT and DAC and the reserved JPG. */
static bool is_frame(unsigned marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

static axon_status read_frame(const axi_source *source, size_t at, axi_header *header, const char *subject,
                              axon_error *err)
{
    uint8_t frame[8]; /* length, precision, height, width, components */
    if (axi_source_read(source, at, frame, sizeof frame) < sizeof frame)
        return axi_fail(err, AXON_EINVAL, "%s: JPEG is cut off in its frame header at byte %zu", subject,
                        at);
    uint32_t height = big16(frame + 3), width = big16(frame + 5), components = frame[7];
    if (width == 0 || height == 0 || (components != 1 && components != 3 && components != 4))
        return axi_fail(err, AXON_EINVAL, "%s: JPEG with a damaged header: %ux%u pixels of %u channels",
                        subject, width, height, components);
    header->width = width;
    header->height = height;
    header->channels = components;
    header->bits = frame[2];
    return AXON_OK;
}

/* Walks from marker to marker up to the frame header; camera makers put much before it. */
static axon_status read_jpeg(const axi_source *source, axi_header *header, const char *subject,
                             axon_error *err)
{
    size_t at = 2; /* behind SOI */
    uint8_t mark[4];
    while (axi_source_read(source, at, mark, sizeof mark) == sizeof mark && mark[0] == 0xff) {
        unsigned marker = mark[1];
        if (marker == 0xff) { /* fill */
            at += 1;
        } else if (marker == JPEG_TEM || (marker >= JPEG_RST0 && marker <= JPEG_SOI)) {
            at += 2;
        } else if (is_frame(marker)) {
            return read_frame(source, at + 2, header, subject, err);
        } else if (marker == JPEG_SOS || marker == JPEG_EOI || marker == 0 || big16(mark + 2) < 2) {
            break;
        } else {
            at += 2 + big16(mark + 2);
        }
    }
    return axi_fail(err, AXON_EINVAL, "%s: JPEG without a frame header: cut off or damaged at byte %zu",
                    subject, at);
}

/* ---- all ----------------------------------------------------------------------------------- */

axon_status axi_header_read(const axi_source *source, axi_header *header, const char *subject,
                            axon_error *err)
{
    uint8_t head[MAGIC_BYTES];
    size_t length = axi_source_read(source, 0, head, sizeof head);
    axi_header found = {.format = recognise(head, length)};
    axon_status status = AXON_OK;
    if (length == 0) return axi_fail(err, AXON_EINVAL, "%s: empty", subject);
    if (found.format == AXON_IMAGE_UNKNOWN) status = not_a_picture(head, length, subject, err);
    if (found.format == AXON_IMAGE_PNG) status = read_png(source, &found, subject, err);
    if (found.format == AXON_IMAGE_JPEG) status = read_jpeg(source, &found, subject, err);
    if (found.format == AXON_IMAGE_NPY) status = axi_npy_header(source, &found, subject, err);
    if (status == AXON_OK) *header = found;
    return status;
}

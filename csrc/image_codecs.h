/* What the files of image share: pixels as rows, headers, and the doors to the codecs. */
#ifndef AXI_IMAGE_CODECS_H
#define AXI_IMAGE_CODECS_H

#include <axon/image.h>

#include "internal.h"

/* More is taken for a mistake, or for an attack. */
#define AXI_MAX_PIXELS ((uint64_t)1 << 28)

/* ---- pixels (image_pixels.c) --------------------------------------------------------------- */

/* Pixels wherever they lie; one that was checked can be read without further questions. */
typedef struct axi_pixels {
    const uint8_t *data;
    axon_dtype dtype; /* AXON_UINT8, AXON_UINT16, AXON_FLOAT32, AXON_FLOAT64 */
    size_t width;
    size_t height;
    size_t channels;
    ptrdiff_t row; /* bytes from one row to the next, and so on */
    ptrdiff_t column;
    ptrdiff_t channel;
    bool big_endian;
    bool bgr;
} axi_pixels;

typedef enum axi_order { AXI_LITTLE, AXI_BIG } axi_order;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define AXI_NATIVE AXI_BIG
#else
#define AXI_NATIVE AXI_LITTLE
#endif

axon_status axi_pixels_check(const axon_array *array, axon_color color, axi_pixels *pixels,
                             axon_error *err);

/* Pixels without gaps in this machine's byte order, `data` still to come. */
axi_pixels axi_pixels_packed(axon_dtype dtype, size_t width, size_t height, size_t channels, bool bgr);

size_t axi_pixels_row_bytes(const axi_pixels *pixels);
/* True when row `y` lies in memory as axi_pixels_gather() would write it, the order of colours apart. */
bool axi_pixels_are_packed(const axi_pixels *pixels, axi_order order);

/* Writes row `y` without gaps, in the byte order and the order of colours that are wanted. */
void axi_pixels_gather(const axi_pixels *pixels, size_t y, uint8_t *row, axi_order order, bool bgr);

/* ---- headers (image_header.c) -------------------------------------------------------------- */

/* File bytes, or base64 text of them that is known to be good. */
typedef struct axi_source {
    const void *data;
    size_t length;
    bool is_base64;
} axi_source;

typedef struct axi_header {
    axon_image_format format;
    uint32_t width; /* 0 with formats that are only recognised */
    uint32_t height;
    uint32_t channels;
    uint32_t bits;
} axi_header;

/* Copies up to `length` bytes from `offset` on; gives how many there were. */
size_t axi_source_read(const axi_source *source, size_t offset, void *data, size_t length);

/* What the first bytes say. `subject` begins the error texts. */
axon_status axi_header_read(const axi_source *source, axi_header *header, const char *subject,
                            axon_error *err);

/* ---- codecs -------------------------------------------------------------------------------- */

/* The encoders add to `out`, which is the caller's to free, also after a failure. */

/* image_png.c, the door to libpng and ISA-L */
axon_status axi_png_encode(const axi_pixels *pixels, axi_buffer *out, axon_error *err);

/* image_jpeg.c, the door to libjpeg */
typedef enum axi_chroma {
    AXI_CHROMA_420,
    AXI_CHROMA_444
} axi_chroma; /* of all colours a quarter, or all */
axon_status axi_jpeg_encode(const axi_pixels *pixels, int quality, axi_chroma chroma, axi_buffer *out,
                            axon_error *err);

/* image_npy.c */
axon_status axi_npy_encode(const axi_pixels *pixels, axi_buffer *out, axon_error *err);
/* Reads shape and dtype of a .npy file; see axi_header_read(). */
axon_status axi_npy_header(const axi_source *source, axi_header *header, const char *subject,
                           axon_error *err);

typedef struct axi_decoding {
    bool bgr;
    bool keep_grey; /* 8-bit grey stays one channel */
    uint8_t *into;  /* where the pixels go, if not into memory of their own; exactly `room` bytes: */
    size_t room;    /* AXON_EPROTOCOL when the picture is another size */
} axi_decoding;

/* The decoders give packed pixels: uint8 of 3 channels, or grey of 8 or 16 bits. `pixels->data` is malloc'ed
 * and the caller's, or `how.into`. */
axon_status axi_png_decode(const void *data, size_t length, axi_decoding how, axi_pixels *pixels,
                           axon_error *err);
axon_status axi_jpeg_decode(const void *data, size_t length, axi_decoding how, axi_pixels *pixels,
                            axon_error *err);

/* Where a decoder puts its rows: `how.into`, or memory of its own in `*owned`. */
axon_status axi_rows_place(const axi_pixels *pixels, axi_decoding how, uint8_t **rows, uint8_t **owned,
                           axon_error *err);

/* Before a decoder allocates: AXON_ETOOBIG when there are more pixels than AXI_MAX_PIXELS. */
axon_status axi_check_size(const char *name, uint64_t width, uint64_t height, axon_error *err);

#endif

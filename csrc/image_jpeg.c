/* JPEG, written and read through libjpeg-turbo; the door to it. See image_codecs.h. */
#include "image_codecs.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it before */
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

/* ---- errors -------------------------------------------------------------------------------- */

/* libjpeg's error manager with a way out. libjpeg knows it as its first member. */
typedef struct errors {
    struct jpeg_error_mgr base;
    jmp_buf escape;
    axon_status status;
    axon_error *err;
} errors;

/* Leaves for good; the status and the text have been set. */
static _Noreturn void leave(errors *e, axon_status status)
{
    e->status = status;
    longjmp(e->escape, 1);
}

static void on_error(j_common_ptr jpeg)
{
    errors *e = (errors *)jpeg->err;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY)
        leave(e, axi_fail(e->err, AXON_ENOMEM, "image: out of memory in a JPEG's codec"));
    if (jpeg->err->msg_code == JERR_NO_BACKING_STORE)
        leave(e, axi_fail(e->err, AXON_ETOOBIG, "image: JPEG takes more than 1 GiB to decode"));
    leave(e, axi_fail(e->err, jpeg->is_decompressor ? AXON_EPROTOCOL : AXON_EINVAL, "image: JPEG %s: %s",
                      jpeg->is_decompressor ? "is damaged" : "cannot be written", text));
}

/* Warnings that harm no pixel; cameras' streams are full of them. After any other, libjpeg makes pixels up. */
static bool is_harmless(int code)
{
    return code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
           code == JWRN_NOT_SEQUENTIAL;
}

static void on_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && !is_harmless(jpeg->err->msg_code)) on_error(jpeg);
}

static void on_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static struct jpeg_error_mgr *set_up_errors(errors *e, axon_error *err)
{
    jpeg_std_error(&e->base);
    e->base.error_exit = on_error;
    e->base.emit_message = on_message;
    e->base.output_message = on_output;
    e->err = err;
    return &e->base;
}

/* ---- writing ------------------------------------------------------------------------------- */

#define PIECE (64 * 1024)

typedef struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_destination_mgr destination;
    errors errors;
    const axi_pixels *pixels;
    int quality;
    axi_chroma chroma;
    axi_buffer *out;
    uint8_t *row; /* for pixels that are not packed */
} encoder;

static void more_room(j_compress_ptr jpeg)
{
    encoder *e = jpeg->client_data;
    if (!axi_buffer_reserve(e->out, PIECE))
        leave(&e->errors, axi_no_memory(e->errors.err, e->out->length + PIECE));
    e->destination.next_output_byte = e->out->data + e->out->length;
    e->destination.free_in_buffer = e->out->capacity - e->out->length;
}

static boolean on_full(j_compress_ptr jpeg)
{
    encoder *e = jpeg->client_data;
    e->out->length = e->out->capacity;
    more_room(jpeg);
    return TRUE;
}

static void on_end(j_compress_ptr jpeg)
{
    encoder *e = jpeg->client_data;
    e->out->length = e->out->capacity - e->destination.free_in_buffer;
}

static J_COLOR_SPACE color_space(const axi_pixels *pixels)
{
    if (pixels->channels == 1) return JCS_GRAYSCALE;
    if (pixels->channels == 4) return pixels->bgr ? JCS_EXT_BGRX : JCS_EXT_RGBX;
    return pixels->bgr ? JCS_EXT_BGR : JCS_EXT_RGB;
}

static void write_rows(encoder *e)
{
    const axi_pixels *p = e->pixels;
    bool is_packed = axi_pixels_are_packed(p, AXI_NATIVE);
    size_t length = axi_pixels_row_bytes(p);
    if (!is_packed && !(e->row = malloc(length))) leave(&e->errors, axi_no_memory(e->errors.err, length));
    for (size_t y = 0; y < p->height; y++) {
        /* libjpeg only reads the row */
        uint8_t *row = is_packed ? (uint8_t *)(p->data + (ptrdiff_t)y * p->row) : e->row;
        if (!is_packed) axi_pixels_gather(p, y, row, AXI_NATIVE, p->bgr);
        jpeg_write_scanlines(&e->jpeg, &row, 1);
    }
}

static bool run_encoder(encoder *e)
{
    struct jpeg_compress_struct *jpeg = &e->jpeg;
    if (setjmp(e->errors.escape)) return false;
    jpeg_create_compress(jpeg);
    jpeg->client_data = e;
    jpeg->dest = &e->destination;
    e->destination.init_destination = more_room;
    e->destination.empty_output_buffer = on_full;
    e->destination.term_destination = on_end;
    jpeg->image_width = (JDIMENSION)e->pixels->width;
    jpeg->image_height = (JDIMENSION)e->pixels->height;
    jpeg->input_components = (int)e->pixels->channels;
    jpeg->in_color_space = color_space(e->pixels);
    jpeg_set_defaults(jpeg); /* 4:2:0 */
    if (e->chroma == AXI_CHROMA_444)
        jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1;
    jpeg_set_quality(jpeg, e->quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    write_rows(e);
    jpeg_finish_compress(jpeg);
    return true;
}

axon_status axi_jpeg_encode(const axi_pixels *pixels, int quality, axi_chroma chroma, axi_buffer *out,
                            axon_error *err)
{
    if (pixels->width > JPEG_MAX_DIMENSION || pixels->height > JPEG_MAX_DIMENSION)
        return axi_fail(err, AXON_EINVAL, "image: %zux%zu pixels do not fit a JPEG (at most %ld each way)",
                        pixels->width, pixels->height, JPEG_MAX_DIMENSION);
    encoder e = {.pixels = pixels, .quality = quality, .chroma = chroma, .out = out};
    e.jpeg.err = set_up_errors(&e.errors, err);
    bool good = run_encoder(&e);
    jpeg_destroy_compress(&e.jpeg);
    free(e.row);
    return good ? AXON_OK : e.errors.status;
}

/* ---- reading ------------------------------------------------------------------------------- */

#define MAX_MEMORY (1l << 30) /* of libjpeg's own; a progressive JPEG is held whole as coefficients */
#define MAX_SCANS 500         /* of a progressive JPEG; each costs a walk over the whole picture */

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_progress_mgr progress;
    errors errors;
    const uint8_t *data;
    size_t length;
    axi_decoding how;
    axi_pixels pixels;
    uint8_t *rows;
    uint8_t *owned; /* the same, when they are to be freed */
} decoder;

static void on_progress(j_common_ptr common)
{
    struct jpeg_decompress_struct *jpeg = (struct jpeg_decompress_struct *)common;
    decoder *d = jpeg->client_data;
    if (jpeg->input_scan_number > MAX_SCANS)
        leave(&d->errors,
              axi_fail(d->errors.err, AXON_EPROTOCOL, "image: JPEG of more than %d scans", MAX_SCANS));
}

/* Reads the header, and believes in the size it tells only when there are bytes enough for it: Huffman's code
 * takes a bit at least for each 8x8 block. */
static void read_header(decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_read_header(jpeg, TRUE);
    size_t width = jpeg->image_width, height = jpeg->image_height;
    axon_status status = axi_check_size("JPEG", width, height, d->errors.err);
    if (status != AXON_OK) leave(&d->errors, status);
    if (!jpeg->arith_code && width * height / (64 * 8) > d->length)
        leave(&d->errors, axi_fail(d->errors.err, AXON_EPROTOCOL,
                                   "image: JPEG is damaged: %zu bytes are too few for %zux%zu pixels",
                                   d->length, width, height));
    if (jpeg->num_components == 4)
        leave(&d->errors,
              axi_fail(d->errors.err, AXON_EINVAL, "image: JPEG in CMYK, which axon does not decode"));
    bool keep_grey = jpeg->num_components == 1 && d->how.keep_grey;
    jpeg->out_color_space = keep_grey ? JCS_GRAYSCALE : d->how.bgr ? JCS_EXT_BGR : JCS_EXT_RGB;
    d->pixels = axi_pixels_packed(AXON_UINT8, width, height, keep_grey ? 1 : 3, d->how.bgr);
}

static void read_rows(decoder *d)
{
    size_t row = axi_pixels_row_bytes(&d->pixels);
    axon_status status = axi_rows_place(&d->pixels, d->how, &d->rows, &d->owned, d->errors.err);
    if (status != AXON_OK) leave(&d->errors, status);
    jpeg_start_decompress(&d->jpeg);
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        uint8_t *to = d->rows + d->jpeg.output_scanline * row;
        jpeg_read_scanlines(&d->jpeg, &to, 1);
    }
    jpeg_finish_decompress(&d->jpeg);
}

static bool run_decoder(decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (setjmp(d->errors.escape)) return false;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = d;
    jpeg->progress = &d->progress;
    d->progress.progress_monitor = on_progress;
    jpeg->mem->max_memory_to_use = MAX_MEMORY;
    jpeg_mem_src(jpeg, d->data, d->length);
    read_header(d);
    read_rows(d);
    return true;
}

axon_status axi_jpeg_decode(const void *data, size_t length, axi_decoding how, axi_pixels *pixels,
                            axon_error *err)
{
    decoder d = {.data = data, .length = length, .how = how};
    d.jpeg.err = set_up_errors(&d.errors, err);
    bool good = run_decoder(&d);
    jpeg_destroy_decompress(&d.jpeg);
    if (!good) {
        free(d.owned);
        return d.errors.status;
    }
    *pixels = d.pixels;
    pixels->data = d.rows;
    return AXON_OK;
}

/* PNG: written through ISA-L, read through libpng; the door to both. See image_codecs.h and docs/images.md.
 * The names of chunks and filters are those of the PNG specification, third edition. */
#include "image_codecs.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* ---- filters ------------------------------------------------------------------------------- */

enum filter { FILTER_NONE, FILTER_SUB, FILTER_UP, FILTER_AVERAGE, FILTER_PAETH };

#define INLINE static inline __attribute__((always_inline))

/* Sixteen bytes at once, in whatever registers the machine has. */
#define LANES 16
typedef uint8_t bytes16 __attribute__((vector_size(LANES)));
typedef uint16_t words8 __attribute__((vector_size(LANES)));

static inline bytes16 load(const uint8_t *from)
{
    bytes16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline bytes16 choose(bytes16 mask, bytes16 yes, bytes16 no)
{
    return (mask & yes) | (~mask & no);
}

/* How far x is above y, 0 when it is not; and the lesser of the two. */
#if defined(__SSE2__)
static inline bytes16 above(bytes16 x, bytes16 y)
{
    return (bytes16)_mm_subs_epu8((__m128i)x, (__m128i)y);
}

static inline bytes16 least(bytes16 x, bytes16 y)
{
    return (bytes16)_mm_min_epu8((__m128i)x, (__m128i)y);
}
#elif defined(__ARM_NEON)
static inline bytes16 above(bytes16 x, bytes16 y)
{
    return (bytes16)vqsubq_u8((uint8x16_t)x, (uint8x16_t)y);
}

static inline bytes16 least(bytes16 x, bytes16 y)
{
    return (bytes16)vminq_u8((uint8x16_t)x, (uint8x16_t)y);
}
#else
static inline bytes16 above(bytes16 x, bytes16 y)
{
    return (x - y) & (bytes16)(x > y);
}

static inline bytes16 least(bytes16 x, bytes16 y)
{
    return choose((bytes16)(x < y), x, y);
}
#endif

/* Which of a (left), b (up) and c (up left) is nearest to p = a + b - c; a before b before c. Their distances
 * to p are |b - c|, |a - c| and |a + b - 2c|. The third can be the least only when c lies between a and b,
 * where it is the difference of the other two: so all of it fits in bytes. */
static inline bytes16 paeth(bytes16 a, bytes16 b, bytes16 c)
{
    bytes16 b_over = above(b, c), b_under = above(c, b), a_over = above(a, c), a_under = above(c, a);
    bytes16 to_a = b_over | b_under, to_b = a_over | a_under, nearer = least(to_a, to_b);
    bytes16 to_c = above(to_a, to_b) | above(to_b, to_a);
    bytes16 between = least(b_over, a_under) | least(b_under, a_over);
    bytes16 is_c = (bytes16)(least(above(nearer, to_c), between) != 0);
    return choose(is_c, c, choose((bytes16)(nearer == to_a), a, b));
}

static inline bytes16 residual(enum filter filter, bytes16 x, bytes16 a, bytes16 b, bytes16 c)
{
    switch (filter) {
    case FILTER_SUB:
        return x - a;
    case FILTER_UP:
        return x - b;
    case FILTER_AVERAGE:
        return x - ((a & b) + ((a ^ b) >> 1)); /* (a + b) / 2 without a ninth bit */
    case FILTER_PAETH:
        return x - paeth(a, b, c);
    default:
        return x;
    }
}

/* A row and the one above it. There are `step` zeros in front of each and LANES bytes of room behind. */
typedef struct rows {
    const uint8_t *row;
    const uint8_t *up;
    size_t length;
    size_t step; /* bytes to the pixel on the left */
} rows;

INLINE void filter_with(enum filter filter, const rows *r, uint8_t *out)
{
    for (size_t i = 0; i < r->length; i += LANES) {
        bytes16 v = residual(filter, load(r->row + i), load(r->row + i - r->step), load(r->up + i),
                             load(r->up + i - r->step));
        memcpy(out + i, &v, sizeof v);
    }
}

/* Writes the row filtered, and up to LANES - 1 bytes more. */
INLINE void filter_row(enum filter filter, const rows *r, uint8_t *out)
{
    switch (filter) {
    case FILTER_SUB:
        filter_with(FILTER_SUB, r, out);
        break;
    case FILTER_UP:
        filter_with(FILTER_UP, r, out);
        break;
    case FILTER_AVERAGE:
        filter_with(FILTER_AVERAGE, r, out);
        break;
    case FILTER_PAETH:
        filter_with(FILTER_PAETH, r, out);
        break;
    default:
        memcpy(out, r->row, r->length);
    }
}

/* The sum of the residuals' sizes, taken as signed: the measure that the specification recommends. */
INLINE uint64_t cost_with(enum filter filter, const rows *r)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < r->length;) {
        words8 sum = {0};
        for (size_t block = 0; block < 64 && i < r->length; block++, i += LANES) {
            bytes16 v = residual(filter, load(r->row + i), load(r->row + i - r->step), load(r->up + i),
                                 load(r->up + i - r->step));
            words8 w = (words8)least(v, -v);
            sum += (w & 0xff) + (w >> 8); /* at most 256 each of 64 times */
        }
        for (size_t k = 0; k < LANES / 2; k++)
            cost += sum[k];
    }
    return cost;
}

INLINE enum filter best_filter(const rows *r)
{
    const uint64_t costs[] = {cost_with(FILTER_UP, r), cost_with(FILTER_SUB, r), cost_with(FILTER_PAETH, r),
                              cost_with(FILTER_AVERAGE, r)};
    static const enum filter filters[] = {FILTER_UP, FILTER_SUB, FILTER_PAETH, FILTER_AVERAGE};
    size_t best = 0;
    for (size_t i = 1; i < 4; i++)
        if (costs[i] < costs[best]) best = i;
    return filters[best];
}

/* The same for any processor and for those with AVX2, whose instructions have three operands. */
typedef struct filter_set {
    enum filter (*best)(const rows *r);
    void (*apply)(enum filter filter, const rows *r, uint8_t *out);
} filter_set;

static enum filter best_of_any(const rows *r)
{
    return best_filter(r);
}

static void apply_on_any(enum filter filter, const rows *r, uint8_t *out)
{
    filter_row(filter, r, out);
}

#if defined(__x86_64__)
static __attribute__((target("avx2"))) enum filter best_of_avx2(const rows *r)
{
    return best_filter(r);
}

static __attribute__((target("avx2"))) void apply_on_avx2(enum filter filter, const rows *r, uint8_t *out)
{
    filter_row(filter, r, out);
}
#endif

static filter_set filters_of_this_machine(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return (filter_set){best_of_avx2, apply_on_avx2};
#endif
    return (filter_set){best_of_any, apply_on_any};
}

/* ---- compressing --------------------------------------------------------------------------- */

#define BAND (48 * 1024) /* filtered rows that are compressed together: they stay in the cache */
#define WINDOW_BITS 4    /* see docs/images.md: farther matches cost a photograph more than they save */
#define ROWS_PER_CHOICE 4

typedef struct encoder {
    struct isal_zstream stream;
    axi_buffer *out;
    size_t band_length;
    uint8_t *band; /* BAND bytes and one row more */
    uint8_t *row;
    uint8_t *up;
    uint8_t level_buffer[ISAL_DEF_LVL1_DEFAULT];
    uint8_t rows[];
} encoder;

/* Bytes in front of a row: as much as the widest pixel, and more for the sake of alignment. */
#define MARGIN LANES

static encoder *new_encoder(size_t row_bytes, axi_buffer *out, axon_error *err)
{
    size_t row = MARGIN + row_bytes + LANES,
           size = sizeof(encoder) + 2 * row + BAND + 1 + row_bytes + LANES;
    encoder *e = malloc(size);
    if (!e) {
        axi_no_memory(err, size);
        return NULL;
    }
    isal_deflate_init(&e->stream);
    e->stream.level = 1;
    e->stream.level_buf = e->level_buffer;
    e->stream.level_buf_size = sizeof e->level_buffer;
    e->stream.gzip_flag = IGZIP_ZLIB;
    e->stream.hist_bits = WINDOW_BITS;
    e->out = out;
    e->band_length = 0;
    e->row = e->rows + MARGIN;
    e->up = e->row + row;
    e->band = e->up + row_bytes + LANES;
    memset(e->rows, 0, 2 * row);
    return e;
}

static axon_status compress_band(encoder *e, bool is_last, axon_error *err)
{
    struct isal_zstream *s = &e->stream;
    s->next_in = e->band;
    s->avail_in = (uint32_t)e->band_length;
    s->end_of_stream = is_last;
    e->band_length = 0;
    do {
        if (!axi_buffer_reserve(e->out, BAND)) return axi_no_memory(err, e->out->length + BAND);
        s->next_out = e->out->data + e->out->length;
        s->avail_out = BAND;
        int status = isal_deflate(s);
        if (status != COMP_OK) return axi_fail(err, AXON_EINVAL, "image: ISA-L failed with %d", status);
        e->out->length += BAND - s->avail_out;
    } while (is_last ? s->internal_state.state != ZSTATE_END : s->avail_out == 0);
    return AXON_OK;
}

static axon_status compress_rows(encoder *e, const axi_pixels *pixels, axon_error *err)
{
    size_t length = axi_pixels_row_bytes(pixels);
    size_t step = pixels->channels * axon_dtype_size(pixels->dtype);
    const filter_set filters = filters_of_this_machine();
    enum filter filter = FILTER_NONE;
    for (size_t y = 0; y < pixels->height; y++) {
        axi_pixels_gather(pixels, y, e->row, AXI_BIG, false);
        rows both = {e->row, e->up, length, step};
        if (y % ROWS_PER_CHOICE == 1 || y == 0) filter = filters.best(&both);
        uint8_t *out = e->band + e->band_length;
        out[0] = (uint8_t)filter;
        filters.apply(filter, &both, out + 1);
        e->band_length += 1 + length;
        uint8_t *above = e->up;
        e->up = e->row;
        e->row = above;
        bool is_last = y + 1 == pixels->height;
        if (!is_last && e->band_length < BAND) continue;
        axon_status status = compress_band(e, is_last, err);
        if (status != AXON_OK) return status;
    }
    return AXON_OK;
}

/* ---- chunks -------------------------------------------------------------------------------- */

static void put32(uint8_t *to, uint32_t number)
{
    to[0] = (uint8_t)(number >> 24);
    to[1] = (uint8_t)(number >> 16);
    to[2] = (uint8_t)(number >> 8);
    to[3] = (uint8_t)number;
}

/* Begins a chunk whose length is not known yet; `out` has room for 8 bytes. */
static size_t begin_chunk(axi_buffer *out, const char *type)
{
    size_t at = out->length;
    memset(out->data + at, 0, 4);
    memcpy(out->data + at + 4, type, 4);
    out->length += 8;
    return at;
}

/* Writes the length of the chunk at `at`, and its CRC behind it; `out` has room for 4 bytes. */
static void end_chunk(axi_buffer *out, size_t at)
{
    size_t length = out->length - at - 8;
    put32(out->data + at, (uint32_t)length);
    put32(out->data + out->length, crc32_gzip_refl(0, out->data + at + 4, length + 4));
    out->length += 4;
}

static void put_header(axi_buffer *out, const axi_pixels *pixels)
{
    static const uint8_t color_types[] = {
        [1] = PNG_COLOR_TYPE_GRAY, [3] = PNG_COLOR_TYPE_RGB, [4] = PNG_COLOR_TYPE_RGB_ALPHA};
    axi_buffer_add(out, "\x89PNG\r\n\x1a\n", 8);
    size_t at = begin_chunk(out, "IHDR");
    uint8_t *header = out->data + out->length;
    put32(header, (uint32_t)pixels->width);
    put32(header + 4, (uint32_t)pixels->height);
    header[8] = (uint8_t)(8 * axon_dtype_size(pixels->dtype));
    header[9] = color_types[pixels->channels];
    memset(header + 10, 0, 3); /* deflate, the five filters, no interlace */
    out->length += 13;
    end_chunk(out, at);
}

#define CHUNKS_AROUND (8 + 25 + 12 + 12) /* signature, IHDR, the frame of IDAT, IEND */

axon_status axi_png_encode(const axi_pixels *pixels, axi_buffer *out, axon_error *err)
{
    size_t row = axi_pixels_row_bytes(pixels), guess = CHUNKS_AROUND + BAND + row * pixels->height / 2;
    if (!axi_buffer_reserve(out, guess)) return axi_no_memory(err, guess);
    encoder *e = new_encoder(row, out, err);
    if (!e) return AXON_ENOMEM;
    put_header(out, pixels);
    size_t at = begin_chunk(out, "IDAT");
    axon_status status = compress_rows(e, pixels, err);
    free(e);
    if (status != AXON_OK) return status;
    if (!axi_buffer_reserve(out, CHUNKS_AROUND)) return axi_no_memory(err, out->length + CHUNKS_AROUND);
    end_chunk(out, at);
    end_chunk(out, begin_chunk(out, "IEND"));
    return AXON_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

#define DEFLATE_BEST 1032 /* deflate never packs more bytes into one than this */

typedef struct decoder {
    png_struct *png;
    png_info *info;
    jmp_buf escape; /* where on_error() goes */
    const uint8_t *data;
    size_t length;
    size_t at;
    uint8_t *rows;
    uint8_t *owned; /* the same, when they are to be freed */
    axi_pixels pixels;
    axi_decoding how;
    bool out_of_memory;
    axon_status status;
    axon_error *err;
} decoder;

static void on_error(png_struct *png, const char *text)
{
    decoder *d = png_get_error_ptr(png);
    if (d->out_of_memory)
        d->status = axi_fail(d->err, AXON_ENOMEM, "image: out of memory while a PNG was read");
    else
        d->status = axi_fail(d->err, AXON_EPROTOCOL, "image: PNG is damaged: %s", text);
    longjmp(d->escape, 1);
}

static void on_warning(png_struct *png, const char *text)
{
    (void)png, (void)text;
}

static void *take_memory(png_struct *png, png_alloc_size_t size)
{
    decoder *d = png_get_mem_ptr(png);
    void *memory = malloc(size);
    d->out_of_memory |= !memory;
    return memory;
}

static void give_memory(png_struct *png, void *memory)
{
    (void)png;
    free(memory);
}

static void on_read(png_struct *png, uint8_t *to, size_t length)
{
    decoder *d = png_get_io_ptr(png);
    if (length > d->length - d->at) png_error(png, "it ends too early");
    memcpy(to, d->data + d->at, length);
    d->at += length;
}

/* Leaves for a decoder's own failures; what png_error() is for those of libpng. */
static _Noreturn void leave(decoder *d, axon_status status)
{
    d->status = status;
    longjmp(d->escape, 1);
}

/* Everything becomes 8-bit colour or grey, or 16-bit grey; alpha goes. */
static void set_up_transforms(decoder *d, bool is_grey16)
{
    png_struct *png = d->png;
    unsigned color_type = png_get_color_type(png, d->info);
    if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (!(color_type & PNG_COLOR_MASK_COLOR)) png_set_expand_gray_1_2_4_to_8(png);
    if (is_grey16 && AXI_NATIVE == AXI_LITTLE) png_set_swap(png);
    if (!is_grey16) png_set_scale_16(png);
    if (!(color_type & PNG_COLOR_MASK_COLOR) && !is_grey16 && !d->how.keep_grey) png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    if (d->how.bgr) png_set_bgr(png);
}

/* Reads the header, and believes in the size it tells only when there are bytes enough for it. */
static void read_header(decoder *d)
{
    png_read_info(d->png, d->info);
    uint32_t width = png_get_image_width(d->png, d->info), height = png_get_image_height(d->png, d->info);
    axon_status status = axi_check_size("PNG", width, height, d->err);
    if (status != AXON_OK) leave(d, status);
    if ((uint64_t)png_get_rowbytes(d->png, d->info) * height / DEFLATE_BEST > d->length)
        png_error(d->png, "it is too short for its size");
    bool is_grey = !(png_get_color_type(d->png, d->info) & PNG_COLOR_MASK_COLOR);
    bool is_grey16 = is_grey && png_get_bit_depth(d->png, d->info) == 16;
    set_up_transforms(d, is_grey16);
    size_t channels = is_grey16 || (is_grey && d->how.keep_grey) ? 1 : 3;
    d->pixels =
        axi_pixels_packed(is_grey16 ? AXON_UINT16 : AXON_UINT8, width, height, channels, d->how.bgr);
}

static void read_rows(decoder *d)
{
    int passes = png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    size_t row = axi_pixels_row_bytes(&d->pixels);
    if (png_get_rowbytes(d->png, d->info) != row) png_error(d->png, "its rows are of an unknown kind");
    axon_status status = axi_rows_place(&d->pixels, d->how, &d->rows, &d->owned, d->err);
    if (status != AXON_OK) leave(d, status);
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < d->pixels.height; y++)
            png_read_row(d->png, d->rows + y * row, NULL);
    png_read_end(d->png, NULL);
}

static bool run(decoder *d)
{
    if (setjmp(d->escape)) return false;
    d->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, d, on_error, on_warning, d, take_memory,
                                      give_memory);
    if (!d->png) leave(d, axi_fail(d->err, AXON_ENOMEM, "image: out of memory while a PNG was read"));
    d->info = png_create_info_struct(d->png);
    if (!d->info) leave(d, axi_fail(d->err, AXON_ENOMEM, "image: out of memory while a PNG was read"));
    png_set_read_fn(d->png, d, on_read);
    png_set_user_limits(d->png, INT32_MAX, INT32_MAX);                     /* read_header() checks */
    png_set_keep_unknown_chunks(d->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1); /* texts, profiles: unread */
    read_header(d);
    read_rows(d);
    return true;
}

axon_status axi_png_decode(const void *data, size_t length, axi_decoding how, axi_pixels *pixels,
                           axon_error *err)
{
    decoder d = {.data = data, .length = length, .how = how, .err = err};
    bool good = run(&d);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    if (!good) {
        free(d.owned);
        return d.status;
    }
    *pixels = d.pixels;
    pixels->data = d.rows;
    return AXON_OK;
}

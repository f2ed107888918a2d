/* See axon/resize.h. resize_passes.c is the arithmetic, resize_weights.c the tables; here is the order of things:
 * what Pillow does first, what lies where, and what is refused. */
#include "array.h"
#include "resize_convert.h"
#include "resize_passes.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS ((uint64_t)1 << 28) /* of one picture, as in axon/image.h */
#define MAX_CHANNELS 4

/* A picture of interleaved channels; rows lie `row` bytes apart, pixels without gaps. */
typedef struct picture {
    uint8_t *data;
    ptrdiff_t row;
    uint32_t height, width;
} picture;

/* One call: everything that is the same for all pictures. */
typedef struct job {
    const axi_passes *passes;
    axon_filter filter;
    bool is_float;
    bool has_alpha;               /* and it matters: the last of `channels` weights the others */
    size_t channels;              /* that are resized together */
    size_t pixel;                 /* bytes, while they are resized */
    uint32_t height, width;       /* old */
    uint32_t to_height, to_width; /* what the old ones are resized to */
    uint32_t top, left;           /* where that begins in the result */
    uint32_t out_height, out_width;
    const axi_weights *across, *down; /* NULL where nothing changes, or for nearest */
    bool down_first;
    uint8_t *scratch; /* of a pass over widths */
    uint8_t *band;    /* what lies between the passes */
    size_t band_rows;
    uint8_t *gathered;  /* an old picture, packed */
    uint8_t *separated; /* a new picture whose channels go to different places */
    uint32_t *columns;  /* of nearest: the old column of each new one */
} job;

/* ---- two passes ---------------------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void pass_width(const job *j, uint8_t *out, ptrdiff_t out_row, const uint8_t *in, ptrdiff_t in_row,
                       size_t rows)
{
    for (size_t y = 0; y < rows; y += AXI_BLOCK)
        j->passes->width(out + (ptrdiff_t)y * out_row, out_row, in + (ptrdiff_t)y * in_row, in_row,
                         least(rows - y, AXI_BLOCK), j->across, j->channels, j->scratch);
}

/* `in` is the first of the old rows that new row `y` is made of. */
static void pass_height(const job *j, uint8_t *out, const uint8_t *in, ptrdiff_t in_row, uint32_t in_width,
                        uint32_t y)
{
    j->passes->height(out, in, in_row, in_width * j->channels, j->down, y);
}

static const uint8_t *first_row(const job *j, const picture *in, uint32_t y)
{
    return in->data + (ptrdiff_t)j->down->taps[y].first * in->row;
}

/* Narrowed old rows, some of them at a time: those from `begin` on. */
typedef struct band {
    picture rows;
    uint32_t begin;
} band;

/* Narrows the next old rows; where there is no room for them, rows before `needed` go. */
static void extend(const job *j, band *b, const picture *in, uint32_t needed)
{
    uint32_t next = b->begin + b->rows.height;
    uint32_t count = (uint32_t)least(AXI_BLOCK, j->height - next);
    if (b->rows.height + count > j->band_rows) {
        uint32_t begin = needed < next ? needed : next;
        memmove(b->rows.data, b->rows.data + (ptrdiff_t)(begin - b->begin) * b->rows.row,
                (next - begin) * (size_t)b->rows.row);
        b->begin = begin;
        b->rows.height = next - begin;
    }
    pass_width(j, b->rows.data + (ptrdiff_t)b->rows.height * b->rows.row, b->rows.row,
               in->data + (ptrdiff_t)next * in->row, in->row, count);
    b->rows.height += count;
}

/* Old rows are narrowed when the first new row needs them, and dropped after the last one that does. */
static void width_then_height(const job *j, const picture *out, const picture *in)
{
    band b = {{j->band, (ptrdiff_t)(j->to_width * j->pixel), 0, j->to_width}, 0};
    for (uint32_t y = 0; y < j->to_height; y++) {
        axi_taps taps = j->down->taps[y];
        while (b.begin + b.rows.height < taps.first + taps.count)
            extend(j, &b, in, taps.first);
        pass_height(j, out->data + (ptrdiff_t)y * out->row,
                    b.rows.data + (ptrdiff_t)(taps.first - b.begin) * b.rows.row, b.rows.row, j->to_width,
                    y);
    }
}

static void height_then_width(const job *j, const picture *out, const picture *in)
{
    ptrdiff_t row = (ptrdiff_t)(in->width * j->pixel);
    for (uint32_t y = 0; y < j->to_height; y += AXI_BLOCK) {
        uint32_t rows = (uint32_t)least(AXI_BLOCK, j->to_height - y);
        for (uint32_t i = 0; i < rows; i++)
            pass_height(j, j->band + (ptrdiff_t)i * row, first_row(j, in, y + i), in->row, in->width,
                        y + i);
        pass_width(j, out->data + (ptrdiff_t)y * out->row, out->row, j->band, row, rows);
    }
}

static void copy_rows(const job *j, const picture *out, const picture *in)
{
    for (uint32_t y = 0; y < in->height; y++)
        memcpy(out->data + (ptrdiff_t)y * out->row, in->data + (ptrdiff_t)y * in->row,
               in->width * j->pixel);
}

/* ---- nearest ------------------------------------------------------------------------------- */

/* Steps by the ratio instead of multiplying by it, as Pillow does: the sums' rounding errors choose the pixel. */
static uint32_t next_nearest(double *at, double step, uint32_t size)
{
    uint32_t found = *at < size ? (uint32_t)*at : size - 1;
    *at += step;
    return found;
}

#define PICK(n)                                                                                            \
    for (; x < j->to_width; x++)                                                                           \
    memcpy(out + (size_t)x * (n), in + (size_t)j->columns[x] * (n), (n))

/* A size known to the compiler makes each copy an instruction or two. Of three channels four bytes are copied where
 * there is one more in both rows: the next pixel's copy puts that right. */
static void pick_pixels(const job *j, uint8_t *out, const uint8_t *in)
{
    uint32_t x = 0;
    switch (j->pixel) {
    case 1:
        PICK(1);
        break;
    case 3:
        for (; x + 1 < j->to_width && j->columns[x] + 1 < j->width; x++)
            memcpy(out + (size_t)x * 3, in + (size_t)j->columns[x] * 3, 4);
        PICK(3);
        break;
    case 4:
        PICK(4);
        break;
    default:
        PICK(j->pixel);
        break;
    }
}

static void resize_nearest(const job *j, const picture *out, const picture *in)
{
    double step = (double)j->height / j->to_height, at = step * 0.5;
    for (uint32_t y = 0; y < j->to_height; y++)
        pick_pixels(j, out->data + (ptrdiff_t)y * out->row,
                    in->data + (ptrdiff_t)next_nearest(&at, step, j->height) * in->row);
}

/* ---- alpha --------------------------------------------------------------------------------- */

/* a * b / 255, rounded. */
static uint8_t share(unsigned a, unsigned b)
{
    unsigned product = a * b + 128;
    return (uint8_t)((product + (product >> 8)) >> 8);
}

static inline void weigh_colours(uint8_t *pixels, size_t count, size_t channels)
{
    for (; count > 0; count--, pixels += channels)
        for (size_t c = 0; c < channels - 1; c++)
            pixels[c] = share(pixels[c], pixels[channels - 1]);
}

static void weigh_by_alpha(uint8_t *pixels, size_t count, size_t channels)
{
    if (channels == 4)
        weigh_colours(pixels, count, 4); /* a number that the compiler knows */
    else
        weigh_colours(pixels, count, channels);
}

static void unweigh_by_alpha(uint8_t *pixels, size_t count, size_t channels)
{
    for (; count > 0; count--, pixels += channels) {
        unsigned alpha = pixels[channels - 1];
        if (alpha == 0 || alpha == 255) continue;
        for (size_t c = 0; c < channels - 1; c++)
            pixels[c] = (uint8_t)least(255 * pixels[c] / alpha, 255);
    }
}

/* ---- one picture --------------------------------------------------------------------------- */

static void resize_packed(const job *j, const picture *out, const picture *in)
{
    if (j->to_width == j->width && j->to_height == j->height)
        copy_rows(j, out, in);
    else if (j->filter == AXON_FILTER_NEAREST)
        resize_nearest(j, out, in);
    else if (!j->down)
        pass_width(j, out->data, out->row, in->data, in->row, in->height);
    else if (j->across)
        (j->down_first ? height_then_width : width_then_height)(j, out, in);
    else
        for (uint32_t y = 0; y < j->to_height; y++)
            pass_height(j, out->data + (ptrdiff_t)y * out->row, first_row(j, in, y), in->row, in->width, y);
    if (!j->has_alpha) return;
    for (uint32_t y = 0; y < j->to_height; y++)
        unweigh_by_alpha(out->data + (ptrdiff_t)y * out->row, j->to_width, j->channels);
}

/* An array of (height, width, channels) and where its elements lie. */
typedef struct source {
    axon_array array;
    axi_layout layout;
} source;

static void gather(const job *j, const source *from)
{
    uint8_t *to = j->gathered;
    axi_array_gather(to, &from->array, &from->layout);
    if (from->array.swapped && j->is_float) axi_swap_bytes(to, from->layout.bytes, from->layout.itemsize);
    if (j->is_float) axi_to_single(to, from->layout.count, from->layout.itemsize);
    if (j->has_alpha) weigh_by_alpha(to, (size_t)j->height * j->width, j->channels);
}

static void resize_source(const job *j, const picture *out, const source *from)
{
    picture in = {j->gathered, (ptrdiff_t)(j->width * j->pixel), j->height, j->width};
    if (!j->gathered) {
        in.data = (uint8_t *)(uintptr_t)from->array.data;
        in.row = (ptrdiff_t)from->layout.strides[0];
    } else {
        gather(j, from);
    }
    resize_packed(j, out, &in);
}

/* The channels of a packed picture, each to a plane of its own. */
static void separate(const job *j, uint8_t *out, const uint8_t *in)
{
    size_t sample = j->passes->sample, plane = (size_t)j->out_height * j->out_width * sample;
    for (size_t c = 0; c < j->channels; c++)
        for (uint32_t y = 0; y < j->to_height; y++) {
            uint8_t *to = out + c * plane + ((size_t)(j->top + y) * j->out_width + j->left) * sample;
            const uint8_t *from = in + ((size_t)y * j->to_width * j->channels + c) * sample;
            for (uint32_t x = 0; x < j->to_width; x++, to += sample, from += j->pixel)
                memcpy(to, from, sample);
        }
}

static void resize_into(const job *j, uint8_t *result, const source *from)
{
    size_t row = j->out_width * j->pixel;
    picture out = {result + j->top * row + j->left * j->pixel, (ptrdiff_t)row, j->to_height, j->to_width};
    if (j->to_height < j->out_height || j->to_width < j->out_width) memset(result, 0, j->out_height * row);
    if (j->separated)
        out = (picture){j->separated, (ptrdiff_t)(j->to_width * j->pixel), j->to_height, j->to_width};
    resize_source(j, &out, from);
    if (j->separated) separate(j, result, j->separated);
}

/* ---- all pictures -------------------------------------------------------------------------- */

/* What a call was given, checked. */
typedef struct request {
    const axon_array *images;
    axi_layout layout;
    int leading; /* dimensions before the picture's own */
    int64_t height, width, channels;
    axon_layout order;
    axon_filter filter;
} request;

/* The first picture, as (height, width, channels), and how many dimensions lead to the others. Channels that come
 * first are pictures of their own, unless they depend on each other. */
static source first_source(const request *r, const job *j, int *leading)
{
    const int64_t *strides = r->layout.strides + r->leading;
    bool planes = r->order == AXON_LAYOUT_CHW;
    source from = {*r->images, r->layout};
    from.array.ndim = 3;
    from.array.shape[0] = r->height;
    from.array.shape[1] = r->width;
    from.array.shape[2] = (int64_t)j->channels;
    from.layout.strides[0] = strides[planes ? 1 : 0];
    from.layout.strides[1] = strides[planes ? 2 : 1];
    from.layout.strides[2] = planes ? strides[0] : r->order == AXON_LAYOUT_HWC ? strides[2] : 0;
    from.layout.count = (uint64_t)(r->height * r->width) * j->channels;
    from.layout.bytes = from.layout.count * from.layout.itemsize;
    *leading = r->leading + (planes && !j->separated ? 1 : 0);
    return from;
}

static void resize_all(const request *r, const job *j, uint8_t *result)
{
    int leading;
    int64_t index[AXON_MAX_NDIM] = {0};
    source from = first_source(r, j, &leading);
    const uint8_t *at = from.array.data;
    for (size_t bytes = (size_t)j->out_height * j->out_width * j->pixel;; result += bytes) {
        from.array.data = at;
        resize_into(j, result, &from);
        int i = leading - 1;
        for (; i >= 0 && ++index[i] == r->images->shape[i]; i--) {
            at -= r->layout.strides[i] * (r->images->shape[i] - 1);
            index[i] = 0;
        }
        if (i < 0) return;
        at += r->layout.strides[i];
    }
}

/* ---- preparing ----------------------------------------------------------------------------- */

/* Memory for a * b * c bytes; false when it is not to be had, and *bytes says how many that were. */
static bool take(void *pointer, size_t a, size_t b, size_t c, uint64_t *bytes)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product) || __builtin_mul_overflow(product, c, &product))
        product = SIZE_MAX;
    void *memory = product < SIZE_MAX ? malloc(product) : NULL;
    memcpy(pointer, &memory, sizeof memory);
    *bytes = product;
    return memory != NULL;
}

static bool prepare_nearest(job *j, uint64_t *bytes)
{
    if (!take(&j->columns, j->to_width, sizeof *j->columns, 1, bytes)) return false;
    double step = (double)j->width / j->to_width, at = step * 0.5;
    for (uint32_t x = 0; x < j->to_width; x++)
        j->columns[x] = next_nearest(&at, step, j->width);
    return true;
}

static bool prepare_passes(job *j, uint64_t *bytes)
{
    int64_t lost_height = (int64_t)j->height - j->to_height, lost_width = (int64_t)j->width - j->to_width;
    *bytes = 0; /* of a table that is not to be had: many */
    if (lost_width && !(j->across = axi_weights_get(j->width, j->to_width, j->filter))) return false;
    if (lost_height && !(j->down = axi_weights_get(j->height, j->to_height, j->filter))) return false;
    if (j->across && !take(&j->scratch, axi_width_scratch(j->across, j->channels), 1, 1, bytes))
        return false;
    if (!j->across || !j->down) return true;
    j->down_first = lost_height > 0 && lost_height > 2 * lost_width;
    j->band_rows = j->down_first ? AXI_BLOCK : least(j->height, j->down->room + (size_t)4 * AXI_BLOCK);
    return take(&j->band, j->band_rows, j->down_first ? j->width : j->to_width, j->pixel, bytes);
}

/* Whether the passes can read the pictures where they lie: packed pixels of the right type, aligned. */
static bool lie_as_needed(const request *r, const job *j, const source *first)
{
    const int64_t *strides = first->layout.strides;
    int64_t sample = (int64_t)j->passes->sample;
    uintptr_t places = (uintptr_t)r->images->data;
    for (int i = 0; i < r->images->ndim; i++)
        places |= (uintptr_t)r->layout.strides[i];
    return r->layout.itemsize == (uint32_t)sample && !(r->images->swapped && sample > 1) && !j->has_alpha &&
           (j->channels == 1 || strides[2] == sample) &&
           (j->width == 1 || strides[1] == (int64_t)j->pixel) && places % (uintptr_t)sample == 0;
}

static bool prepare_gathering(const request *r, job *j, uint64_t *bytes)
{
    int leading;
    size_t wide = r->layout.itemsize > j->passes->sample ? r->layout.itemsize : j->passes->sample;
    source first = first_source(r, j, &leading);
    if (lie_as_needed(r, j, &first)) return true;
    return take(&j->gathered, (size_t)j->height * j->width, j->channels, wide, bytes);
}

static axon_status prepare(const request *r, job *j, axon_error *err)
{
    bool changes = j->to_height != j->height || j->to_width != j->width, fits = true;
    bool filters = changes && r->filter != AXON_FILTER_NEAREST;
    uint64_t bytes = 0;
    j->passes = j->is_float ? axi_passes_float() : axi_passes_uint8();
    j->has_alpha = filters && !j->is_float && r->channels % 2 == 0;
    j->channels = r->order == AXON_LAYOUT_CHW && !j->has_alpha ? 1 : (size_t)r->channels;
    j->pixel = j->channels * j->passes->sample;
    if (changes) fits = filters ? prepare_passes(j, &bytes) : prepare_nearest(j, &bytes);
    if (fits && j->has_alpha && r->order == AXON_LAYOUT_CHW)
        fits = take(&j->separated, j->to_height, j->to_width, j->pixel, &bytes);
    if (fits) fits = prepare_gathering(r, j, &bytes);
    return fits ? AXON_OK : axi_no_memory(err, bytes);
}

static void finish(const job *j)
{
    axi_weights_put(j->across);
    axi_weights_put(j->down);
    free(j->scratch);
    free(j->band);
    free(j->gathered);
    free(j->separated);
    free(j->columns);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static axon_status check_options(const axon_resize_options *opts, request *r, axon_error *err)
{
    r->filter = AXON_FILTER_BILINEAR;
    r->order = AXON_LAYOUT_HWC;
    if (!opts) return AXON_OK;
    if (opts->size == 0)
        return axi_fail(err, AXON_EINVAL, "resize: options: size is 0, not sizeof(axon_resize_options)");
    if ((int)opts->filter < 0 || opts->filter > AXON_FILTER_MKS2021)
        return axi_fail(err, AXON_EINVAL, "resize: filter %d is not one of axon_filter, 0 to %d",
                        (int)opts->filter, AXON_FILTER_MKS2021);
    if ((int)opts->layout < 0 || opts->layout > AXON_LAYOUT_HW)
        return axi_fail(err, AXON_EINVAL, "resize: layout %d is not one of axon_layout, 0 to %d",
                        (int)opts->layout, AXON_LAYOUT_HW);
    if (opts->filter != AXON_FILTER_DEFAULT) r->filter = opts->filter;
    if (opts->layout != AXON_LAYOUT_DEFAULT) r->order = opts->layout;
    return AXON_OK;
}

static bool is_float(axon_dtype dtype)
{
    return dtype == AXON_FLOAT16 || dtype == AXON_FLOAT32 || dtype == AXON_FLOAT64;
}

static axon_status check_images(request *r, axon_error *err)
{
    static const char *const shapes[] = {[AXON_LAYOUT_HWC] = "(..., height, width, channels)",
                                         [AXON_LAYOUT_CHW] = "(..., channels, height, width)",
                                         [AXON_LAYOUT_HW] = "(..., height, width)"};
    const axon_array *images = r->images;
    int own = r->order == AXON_LAYOUT_HW ? 2 : 3;
    if (images->dtype != AXON_UINT8 && !is_float(images->dtype)) {
        char name[AXI_DTYPE_TEXT] = "unknown";
        if (axon_dtype_size(images->dtype)) axi_dtype_print(name, images->dtype, 0, false, true);
        return axi_fail(err, AXON_EINVAL, "resize: images are %s; only uint8 and floats can be resized",
                        name);
    }
    axon_status status = axi_array_layout(images, &r->layout, "resize: images", NULL, err);
    if (status != AXON_OK) return status;
    r->leading = images->ndim - own;
    if (r->leading < 0)
        return axi_fail(err, AXON_EINVAL, "resize: images have %d dimensions, not %s", (int)images->ndim,
                        shapes[r->order]);
    const int64_t *n = images->shape + r->leading;
    bool planes = r->order == AXON_LAYOUT_CHW;
    r->height = n[planes ? 1 : 0];
    r->width = n[planes ? 2 : 1];
    r->channels = own == 2 ? 1 : n[planes ? 0 : 2];
    if (r->channels < 1 || r->channels > MAX_CHANNELS)
        return axi_fail(err, AXON_EINVAL, "resize: images have %" PRId64 " channels, not 1 to %d, in %s",
                        r->channels, MAX_CHANNELS, shapes[r->order]);
    return AXON_OK;
}

static axon_status check_size(const char *what, int64_t height, int64_t width, axon_error *err)
{
    if (height < 1 || width < 1)
        return axi_fail(err, AXON_EINVAL,
                        "resize: %s of height %" PRId64 " and width %" PRId64
                        ", where both must be 1 at least",
                        what, height, width);
    if ((uint64_t)height > MAX_PIXELS / (uint64_t)width)
        return axi_fail(err, AXON_ETOOBIG,
                        "resize: %s of height %" PRId64 " and width %" PRId64 ", more than %" PRIu64
                        " pixels",
                        what, height, width, MAX_PIXELS);
    return AXON_OK;
}

/* The room that the result takes, which may be none; false when no memory could be so large. */
static bool result_bytes(const request *r, int64_t height, int64_t width, size_t *bytes)
{
    size_t sample = is_float(r->images->dtype) ? sizeof(float) : sizeof(uint8_t);
    *bytes = (size_t)r->channels * sample;
    bool fits = !__builtin_mul_overflow(*bytes, (size_t)height, bytes) &&
                !__builtin_mul_overflow(*bytes, (size_t)width, bytes);
    for (int i = 0; i < r->leading; i++)
        if (r->images->shape[i] == 0) return *bytes = 0, true;
    for (int i = 0; i < r->leading && fits; i++)
        fits = !__builtin_mul_overflow(*bytes, (size_t)r->images->shape[i], bytes);
    return fits;
}

static axon_status check_result(const request *r, int64_t height, int64_t width, const void *result,
                                size_t length, axon_error *err)
{
    size_t bytes;
    if (!result_bytes(r, height, width, &bytes))
        return axi_fail(err, AXON_ETOOBIG, "resize: the result would pass 2^%d bytes",
                        (int)sizeof(size_t) * 8);
    if (length != bytes)
        return axi_fail(err, AXON_EINVAL, "resize: result has room for %zu bytes, not for %zu", length,
                        bytes);
    if (!result && bytes) return axi_fail(err, AXON_EINVAL, "resize: result is NULL");
    return AXON_OK;
}

/* ---- the calls ----------------------------------------------------------------------------- */

/* What fits keeps its shape and is centred; its size is rounded down, as the original does. */
static axon_status fit(const request *r, job *j, axon_error *err)
{
    double across = (double)j->width / j->out_width, down = (double)j->height / j->out_height;
    double ratio = across > down ? across : down;
    j->to_height = (uint32_t)(j->height / ratio);
    j->to_width = (uint32_t)(j->width / ratio);
    if (j->to_height == 0 || j->to_width == 0)
        return axi_fail(err, AXON_EINVAL,
                        "resize: a picture of %" PRId64 "x%" PRId64 " fits %" PRIu32 "x%" PRIu32
                        " as %" PRIu32 "x%" PRIu32 " pixels only (height x width)",
                        r->height, r->width, j->out_height, j->out_width, j->to_height, j->to_width);
    j->top = (j->out_height - j->to_height) / 2;
    j->left = (j->out_width - j->to_width) / 2;
    return AXON_OK;
}

static axon_status resize(const axon_array *images, int64_t height, int64_t width, bool pads,
                          const axon_resize_options *opts, void *result, size_t length, axon_error *err)
{
    request r = {.images = images};
    if (!images) return axi_fail(err, AXON_EINVAL, "resize: images is NULL");
    axon_status status = check_options(opts, &r, err);
    if (status == AXON_OK) status = check_images(&r, err);
    if (status == AXON_OK) status = check_size("pictures", r.height, r.width, err);
    if (status == AXON_OK) status = check_size("a result", height, width, err);
    if (status == AXON_OK) status = check_result(&r, height, width, result, length, err);
    if (status != AXON_OK) return status;
    job j = {.filter = r.filter,
             .is_float = is_float(images->dtype),
             .height = (uint32_t)r.height,
             .width = (uint32_t)r.width,
             .to_height = (uint32_t)height,
             .to_width = (uint32_t)width,
             .out_height = (uint32_t)height,
             .out_width = (uint32_t)width};
    if (pads) status = fit(&r, &j, err);
    if (status != AXON_OK || length == 0) return status;
    status = prepare(&r, &j, err);
    if (status == AXON_OK) resize_all(&r, &j, result);
    finish(&j);
    return status;
}

axon_status axon_resize(const axon_array *images, int64_t height, int64_t width,
                        const axon_resize_options *opts, void *result, size_t length, axon_error *err)
{
    return resize(images, height, width, false, opts, result, length, err);
}

axon_status axon_resize_with_pad(const axon_array *images, int64_t height, int64_t width,
                                 const axon_resize_options *opts, void *result, size_t length,
                                 axon_error *err)
{
    return resize(images, height, width, true, opts, result, length, err);
}

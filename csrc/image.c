/* See axon/image.h. Pixels, headers and codecs have files of their own: image_codecs.h. */
#include "image_internal.h"

#include "base64.h"
#include "image_codecs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE ((off_t)256 << 20)
#define MAX_SUBJECT 256
#define QUALITY 90
#define QUOTED 60 /* characters of a text that is no picture */

struct axon_image {
    axi_header header; /* format AXON_IMAGE_PIXELS: `pixels` and `ndim` count, else `source` */
    axi_source source;
    void *owned; /* the bytes or the text of `source`, unless they are the caller's */
    axi_pixels pixels;
    int32_t ndim;
};

/* ---- opening ------------------------------------------------------------------------------- */

/* Makes the handle, which takes `owned` over, also when this fails. */
static axon_status open_source(axi_source source, void *owned, const char *subject, axon_image **image,
                               axon_error *err)
{
    axi_header header;
    axon_status status = axi_header_read(&source, &header, subject, err);
    axon_image *made = status == AXON_OK ? malloc(sizeof *made) : NULL;
    if (!made) {
        free(owned);
        return status == AXON_OK ? axi_no_memory(err, sizeof *made) : status;
    }
    *made = (axon_image){.header = header, .source = source, .owned = owned};
    *image = made;
    return AXON_OK;
}

axon_status axon_image_open_bytes(const void *data, size_t length, axon_image **image, axon_error *err)
{
    if (!image) return axi_fail(err, AXON_EINVAL, "image: nowhere to put the handle (image is NULL)");
    if (!data || length == 0) return axi_fail(err, AXON_EINVAL, "image: no bytes");
    return open_source((axi_source){.data = data, .length = length}, NULL, "image", image, err);
}

axon_status axon_image_open_pixels(const axon_array *pixels, axon_color color, axon_image **image,
                                   axon_error *err)
{
    axi_pixels checked;
    if (!image || !pixels) return axi_fail(err, AXON_EINVAL, "image: pixels or image is NULL");
    axon_status status = axi_pixels_check(pixels, color, &checked, err);
    if (status != AXON_OK) return status;
    axon_image *made = malloc(sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axi_header header = {.format = AXON_IMAGE_PIXELS,
                         .width = (uint32_t)checked.width,
                         .height = (uint32_t)checked.height,
                         .channels = (uint32_t)checked.channels,
                         .bits = 8 * axon_dtype_size(checked.dtype)};
    *made = (axon_image){.header = header, .pixels = checked, .ndim = pixels->ndim};
    *image = made;
    return AXON_OK;
}

/* ---- opening a file ------------------------------------------------------------------------ */

/* Reads up to `length` bytes; a file that became shorter meanwhile gives fewer. */
static axon_status read_all(int file, uint8_t *data, size_t *length, const char *subject, axon_error *err)
{
    size_t done = 0;
    while (done < *length) {
        ssize_t got = read(file, data + done, *length - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return axi_fail(err, AXON_EIO, "%s: %s", subject, strerror(errno));
        if (got == 0) break;
        done += (size_t)got;
    }
    *length = done;
    return AXON_OK;
}

static axon_status read_file(int file, uint8_t **data, size_t *length, const char *subject, axon_error *err)
{
    struct stat about;
    if (fstat(file, &about) != 0) return axi_fail(err, AXON_EIO, "%s: %s", subject, strerror(errno));
    if (S_ISDIR(about.st_mode)) return axi_fail(err, AXON_EIO, "%s: is a directory", subject);
    if (!S_ISREG(about.st_mode)) return axi_fail(err, AXON_EIO, "%s: is not a regular file", subject);
    if (about.st_size == 0) return axi_fail(err, AXON_EINVAL, "%s: the file is empty", subject);
    if (about.st_size > MAX_FILE)
        return axi_fail(err, AXON_ETOOBIG, "%s: %" PRId64 " bytes, more than %" PRId64, subject,
                        (int64_t)about.st_size, (int64_t)MAX_FILE);
    *length = (size_t)about.st_size;
    *data = malloc(*length);
    if (!*data) return axi_no_memory(err, *length);
    axon_status status = read_all(file, *data, length, subject, err);
    if (status != AXON_OK) free(*data);
    return status;
}

axon_status axon_image_open_path(const char *path, axon_image **image, axon_error *err)
{
    if (!image || !path) return axi_fail(err, AXON_EINVAL, "image: path or image is NULL");
    char subject[MAX_SUBJECT];
    snprintf(subject, sizeof subject, "image \"%s\"", path);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO would wait for ever */
    if (file < 0) return axi_fail(err, AXON_EIO, "%s: %s", subject, strerror(errno));
    uint8_t *data = NULL;
    size_t length = 0;
    axon_status status = read_file(file, &data, &length, subject, err);
    close(file);
    if (status != AXON_OK) return status;
    return open_source((axi_source){.data = data, .length = length}, data, subject, image, err);
}

/* ---- opening base64 ------------------------------------------------------------------------ */

static bool is_space(char character)
{
    return character == ' ' || (character >= '\t' && character <= '\r');
}

/* True when the text is base64, else where it is not. Nothing is kept: a few kilobytes at a time are decoded,
 * which is quicker than memory for them could be had. */
static bool is_base64(const char *text, size_t length, size_t *wrong)
{
    uint8_t scratch[3072];
    for (size_t at = 0; at < length;) {
        size_t piece = length - at < 4096 ? length - at : 4096, decoded, offset;
        if (!axi_base64_decode(scratch, &decoded, text + at, piece, &offset)) {
            *wrong = at + offset;
            return false;
        }
        at += piece;
        if (text[at - 1] == '=' && at < length) { /* padding ends a piece, not the text */
            *wrong = at - 1;
            return false;
        }
    }
    return true;
}

static axon_status not_base64(const char *text, size_t length, size_t wrong, axon_error *err)
{
    if (wrong >= length)
        return axi_fail(err, AXON_EINVAL, "image: base64 text is cut off at offset %zu", wrong);
    char character = text[wrong];
    if (character == '-' || character == '_')
        return axi_fail(
            err, AXON_EINVAL,
            "image: base64 text in the URL-safe alphabet ('%c' at offset %zu); use the standard one, "
            "with + and /",
            character, wrong);
    return axi_fail(err, AXON_EINVAL, "image: not base64: byte 0x%02x at offset %zu",
                    (unsigned)(uint8_t)character, wrong);
}

/* A copy without line breaks, with the padding that servers insist on. `*length` becomes its length. */
static char *clean_copy(const char *text, size_t *length)
{
    char *copy = malloc(*length + 3);
    size_t used = 0;
    if (!copy) return NULL;
    for (size_t i = 0; i < *length; i++)
        if (!is_space(text[i])) copy[used++] = text[i];
    while (used % 4 != 0 && used % 4 != 1)
        copy[used++] = '=';
    *length = used;
    return copy;
}

/* Cuts "data:image/png;base64," off. */
static axon_status skip_data_uri(const char **text, size_t *length, axon_error *err)
{
    static const char ending[] = ";base64";
    const size_t tail = sizeof ending - 1;
    if (*length < 5 || strncasecmp(*text, "data:", 5) != 0) return AXON_OK;
    const char *comma = memchr(*text, ',', *length < 1024 ? *length : 1024);
    if (!comma) return axi_fail(err, AXON_EINVAL, "image: data URI without a comma");
    size_t head = (size_t)(comma - *text);
    if (head < tail || strncasecmp(comma - tail, ending, tail) != 0)
        return axi_fail(err, AXON_EINVAL,
                        "image: data URI that is not base64 (no \";base64\" before the comma)");
    *length -= head + 1;
    *text = comma + 1;
    return AXON_OK;
}

static axon_status open_base64(const char *text, size_t length, axon_image **image, axon_error *err)
{
    axon_status status = skip_data_uri(&text, &length, err);
    if (status != AXON_OK) return status;
    for (; length > 0 && is_space(text[0]); length--)
        text++;
    while (length > 0 && is_space(text[length - 1]))
        length--;
    if (length == 0) return axi_fail(err, AXON_EINVAL, "image: base64 text is empty");

    char *copy = NULL;
    size_t wrong = 0;
    bool good = is_base64(text, length, &wrong);
    if ((good && length % 4 != 0) || (!good && wrong < length && is_space(text[wrong]))) {
        copy = clean_copy(text, &length);
        if (!copy) return axi_no_memory(err, length + 3);
        text = copy;
        good = is_base64(text, length, &wrong);
    }
    if (!good) {
        status = not_base64(text, length, wrong, err);
        free(copy);
        return status;
    }
    axi_source source = {.data = text, .length = length, .is_base64 = true};
    return open_source(source, copy, "image: base64 text", image, err);
}

static bool text_length(const char *text, int64_t given, size_t *length)
{
    if (!text || given < AXON_ZSTRING || (uint64_t)given + 1 > SIZE_MAX / 2) return false;
    *length = given == AXON_ZSTRING ? strlen(text) : (size_t)given;
    return true;
}

axon_status axon_image_open_base64(const char *text, int64_t length, axon_image **image, axon_error *err)
{
    size_t characters;
    if (!image || !text_length(text, length, &characters))
        return axi_fail(err, AXON_EINVAL, "image: text or image is NULL, or length %" PRId64 " is negative",
                        length);
    return open_base64(text, characters, image, err);
}

/* The text as a path, when it can be one. */
static bool as_path(const char *text, size_t length, char path[PATH_MAX])
{
    if (length == 0 || length >= PATH_MAX || memchr(text, 0, length)) return false;
    memcpy(path, text, length);
    path[length] = 0;
    return true;
}

axon_status axon_image_open_text(const char *text, int64_t length, axon_image **image, axon_error *err)
{
    char path[PATH_MAX];
    size_t characters;
    struct stat about;
    if (!image || !text_length(text, length, &characters))
        return axi_fail(err, AXON_EINVAL, "image: text or image is NULL, or length %" PRId64 " is negative",
                        length);
    int reason = ENOENT;
    if (as_path(text, characters, path)) {
        if (stat(path, &about) == 0) return axon_image_open_path(path, image, err);
        reason = errno;
    }
    axon_error why;
    axon_status status = open_base64(text, characters, image, &why);
    if (status == AXON_OK) return AXON_OK;
    if (status == AXON_ENOMEM) return axi_fail(err, status, "%s", why.message);
    bool is_long = characters > QUOTED;
    return axi_fail(err, reason == EACCES ? AXON_EIO : AXON_EINVAL,
                    "image: \"%.*s%s\" is no file (%s) and no base64 of a picture (%s)",
                    is_long ? QUOTED : (int)characters, text, is_long ? "..." : "", strerror(reason),
                    why.message + strlen("image: "));
}

/* ---- looking ------------------------------------------------------------------------------- */

axon_status axon_image_inspect(const axon_image *image, axon_image_info *info, axon_error *err)
{
    if (!image || !info || info->size == 0)
        return axi_fail(err, AXON_EINVAL, "image: image or info is NULL, or info->size is 0");
    const axi_header *header = &image->header;
    axon_image_info known = {.size = info->size,
                             .format = header->format,
                             .width = (int32_t)header->width,
                             .height = (int32_t)header->height,
                             .channels = (int32_t)header->channels,
                             .bits = (int32_t)header->bits};
    memcpy(info, &known, info->size < sizeof known ? info->size : sizeof known);
    return AXON_OK;
}

/* ---- file bytes ---------------------------------------------------------------------------- */

/* The bytes of a file, decoded from base64 when they are held so; `*owned` is then to be freed. */
static axon_status file_bytes(const axon_image *image, const void **data, size_t *length, void **owned,
                              axon_error *err)
{
    const axi_source *source = &image->source;
    size_t wrong;
    *owned = NULL;
    *data = source->data;
    *length = source->length;
    if (!source->is_base64) return AXON_OK;
    size_t room = axi_base64_decoded_length(source->data, source->length);
    *owned = malloc(room);
    if (!*owned) return axi_no_memory(err, room);
    axi_base64_decode(*owned, length, source->data, source->length,
                      &wrong); /* was checked when it was opened */
    *data = *owned;
    return AXON_OK;
}

static const char *format_name(axon_image_format format)
{
    static const char *const names[] = {"unknown", "pixels", "JPEG", "PNG", "NPY",
                                        "WebP",    "BMP",    "TIFF", "GIF"};
    size_t index = (size_t)format;
    return index < sizeof names / sizeof *names ? names[index] : "unknown";
}

axon_status axi_check_size(const char *name, uint64_t width, uint64_t height, axon_error *err)
{
    if (width == 0 || height == 0) return axi_fail(err, AXON_EPROTOCOL, "image: %s without pixels", name);
    if (width > AXI_MAX_PIXELS / height)
        return axi_fail(err, AXON_ETOOBIG,
                        "image: %s of %" PRIu64 "x%" PRIu64 ", more than %" PRIu64 " pixels", name, width,
                        height, AXI_MAX_PIXELS);
    return AXON_OK;
}

axon_status axi_rows_place(const axi_pixels *pixels, axi_decoding how, uint8_t **rows, uint8_t **owned,
                           axon_error *err)
{
    size_t bytes = axi_pixels_row_bytes(pixels) * pixels->height;
    if (how.into && bytes != how.room)
        return axi_fail(err, AXON_EPROTOCOL, "image: %zux%zu pixels make %zu bytes, not the %zu stated",
                        pixels->width, pixels->height, bytes, how.room);
    *rows = how.into;
    if (how.into) return AXON_OK;
    *rows = *owned = malloc(bytes);
    return *rows ? AXON_OK : axi_no_memory(err, bytes);
}

/* Decodes a JPEG or PNG; `pixels->data` is the caller's. */
static axon_status decode_file(const axon_image *image, axi_decoding how, axi_pixels *pixels,
                               axon_error *err)
{
    axon_image_format format = image->header.format;
    const void *data;
    size_t length;
    void *owned;
    if (format != AXON_IMAGE_JPEG && format != AXON_IMAGE_PNG)
        return axi_fail(err, AXON_EINVAL, "image: axon does not decode %s", format_name(format));
    axon_status status = file_bytes(image, &data, &length, &owned, err);
    if (status != AXON_OK) return status;
    if (format == AXON_IMAGE_JPEG)
        status = axi_jpeg_decode(data, length, how, pixels, err);
    else
        status = axi_png_decode(data, length, how, pixels, err);
    free(owned);
    return status;
}

/* ---- encoding ------------------------------------------------------------------------------ */

static axon_status encode_pixels(const axi_pixels *pixels, axon_image_format format, int quality,
                                 axi_buffer *out, axon_error *err)
{
    bool is_float = pixels->dtype == AXON_FLOAT32 || pixels->dtype == AXON_FLOAT64;
    if (format == AXON_IMAGE_UNKNOWN) format = is_float ? AXON_IMAGE_NPY : AXON_IMAGE_PNG;
    if (format == AXON_IMAGE_NPY) return axi_npy_encode(pixels, out, err);
    if (format != AXON_IMAGE_PNG && format != AXON_IMAGE_JPEG)
        return axi_fail(err, AXON_EINVAL, "image: axon does not encode %s; it does PNG, JPEG and NPY",
                        format_name(format));
    if (is_float)
        return axi_fail(err, AXON_EINVAL, "image: float pixels do not fit a %s; they travel as NPY",
                        format_name(format));
    if (format == AXON_IMAGE_PNG) return axi_png_encode(pixels, out, err);
    if (pixels->dtype != AXON_UINT8)
        return axi_fail(err, AXON_EINVAL,
                        "image: uint16 pixels do not fit a JPEG; they travel as PNG or NPY");
    return axi_jpeg_encode(pixels, quality, AXI_CHROMA_420, out, err); /* as OpenCV writes */
}

/* Encodes what the image holds, whatever it is, as `format`. */
static axon_status encode_image(const axon_image *image, axon_image_format format, int quality,
                                axi_buffer *out, axon_error *err)
{
    if (image->header.format == AXON_IMAGE_PIXELS)
        return encode_pixels(&image->pixels, format, quality, out, err);
    axi_pixels pixels;
    axon_status status = decode_file(image, (axi_decoding){.keep_grey = true}, &pixels, err);
    if (status != AXON_OK) return status;
    status = encode_pixels(&pixels, format, quality, out, err);
    free((void *)pixels.data);
    return status;
}

static axon_status copy_file(const axon_image *image, void **data, size_t *length, axon_error *err)
{
    const void *bytes;
    void *owned;
    axon_status status = file_bytes(image, &bytes, length, &owned, err);
    if (status != AXON_OK) return status;
    if (!owned) {
        owned = malloc(*length);
        if (!owned) return axi_no_memory(err, *length);
        memcpy(owned, bytes, *length);
    }
    *data = owned;
    return AXON_OK;
}

/* Gives an encoder's bytes away, without the room that it took too much. */
static void hand_over(axi_buffer *out, void **data, size_t *length)
{
    void *exact = realloc(out->data, out->length);
    *data = exact ? exact : out->data;
    *length = out->length;
}

axon_status axon_image_encode(const axon_image *image, const axon_image_encode_options *opts, void **data,
                              size_t *length, axon_error *err)
{
    axon_image_encode_options o = {0};
    if (!image || !data || !length || (opts && opts->size == 0))
        return axi_fail(err, AXON_EINVAL, "image: image, data or length is NULL, or opts->size is 0");
    if (opts) memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    if (o.quality < 0 || o.quality > 100)
        return axi_fail(err, AXON_EINVAL, "image: quality %" PRId32 " is not in 1 to 100", o.quality);
    bool is_file = image->header.format != AXON_IMAGE_PIXELS;
    if (is_file && (o.format == AXON_IMAGE_UNKNOWN || o.format == image->header.format))
        return copy_file(image, data, length, err);

    axi_buffer out = {0};
    axon_status status = encode_image(image, o.format, o.quality ? o.quality : QUALITY, &out, err);
    if (status == AXON_OK)
        hand_over(&out, data, length);
    else
        axi_buffer_free(&out);
    return status;
}

axon_status axi_image_for_body(const axon_image *image, axi_image_bytes *bytes, axon_error *err)
{
    if (image->header.format != AXON_IMAGE_PIXELS) {
        *bytes = (axi_image_bytes){.data = image->source.data,
                                   .length = image->source.length,
                                   .is_base64 = image->source.is_base64};
        return AXON_OK;
    }
    void *data;
    size_t length;
    axon_status status = axon_image_encode(image, NULL, &data, &length, err);
    if (status != AXON_OK) return status;
    *bytes = (axi_image_bytes){.data = data, .length = length, .owned = data};
    return AXON_OK;
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* Writes row `y` of uint8 pixels as three channels: grey is repeated, alpha left out. */
static void colour_row(const axi_pixels *from, size_t y, bool bgr, uint8_t *out)
{
    const uint8_t *in = from->data + (ptrdiff_t)y * from->row;
    ptrdiff_t next = from->channels == 1 ? 0 : from->channel;
    ptrdiff_t first = from->bgr == bgr ? 0 : 2 * next, last = 2 * next - first;
    for (size_t x = 0; x < from->width; x++, in += from->column, out += 3) {
        out[0] = in[first];
        out[1] = in[next];
        out[2] = in[last];
    }
}

/* Copies pixels: uint8 as three channels, the others as they are. */
static axon_status copy_pixels(const axi_pixels *from, bool bgr, axi_pixels *to, axon_error *err)
{
    bool is_uint8 = from->dtype == AXON_UINT8;
    axi_pixels copy = axi_pixels_packed(from->dtype, from->width, from->height, is_uint8 ? 3 : 1, bgr);
    size_t row = axi_pixels_row_bytes(&copy);
    uint8_t *data = malloc(row * from->height);
    if (!data) return axi_no_memory(err, row * from->height);
    for (size_t y = 0; y < from->height; y++) {
        if (is_uint8 && from->channels != 3)
            colour_row(from, y, bgr, data + y * row);
        else
            axi_pixels_gather(from, y, data + y * row, AXI_NATIVE, bgr);
    }
    copy.data = data;
    *to = copy;
    return AXON_OK;
}

axon_status axon_image_decode(const axon_image *image, axon_color color, axon_array *pixels,
                              axon_error *err)
{
    if (!image || !pixels) return axi_fail(err, AXON_EINVAL, "image: image or pixels is NULL");
    if (color != AXON_COLOR_DEFAULT && color != AXON_RGB && color != AXON_BGR)
        return axi_fail(err, AXON_EINVAL, "image: color %d is neither AXON_RGB nor AXON_BGR", (int)color);
    bool bgr = color == AXON_BGR, is_array = image->header.format == AXON_IMAGE_PIXELS;
    axi_pixels decoded;
    axon_status status = is_array ? copy_pixels(&image->pixels, bgr, &decoded, err)
                                  : decode_file(image, (axi_decoding){.bgr = bgr}, &decoded, err);
    if (status != AXON_OK) return status;
    bool has_channels = decoded.channels > 1 || (is_array && image->ndim == 3);
    axon_array array = {.dtype = decoded.dtype,
                        .ndim = has_channels ? 3 : 2,
                        .data = decoded.data,
                        .shape = {(int64_t)decoded.height, (int64_t)decoded.width}};
    if (has_channels) array.shape[2] = (int64_t)decoded.channels;
    *pixels = array;
    return AXON_OK;
}

void axon_image_close(axon_image *image)
{
    if (!image) return;
    free(image->owned);
    free(image);
}

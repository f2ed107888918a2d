/* numpy's .npy files, version 1.0 to 3.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 * See image_codecs.h. */
#include "image_codecs.h"

#include "array.h"
#include "base64.h"
#include "image_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define MAX_HEADER 4096 /* that of a picture takes 118 bytes */

/* ---- writing ------------------------------------------------------------------------------- */

static const char *descr_of(axon_dtype dtype)
{
    switch ((int)dtype) {
    case AXON_UINT8:
        return "|u1";
    case AXON_UINT16:
        return "<u2";
    case AXON_FLOAT32:
        return "<f4";
    default:
        return "<f8";
    }
}

/* The header of version 1.0, filled with spaces so that the data behind it is aligned to 64 bytes. */
static size_t write_header(const axi_pixels *pixels, char text[256])
{
    char channels[32] = "";
    if (pixels->channels > 1) snprintf(channels, sizeof channels, ", %zu", pixels->channels);
    int used = snprintf(text + 10, 246, "{'descr': '%s', 'fortran_order': False, 'shape': (%zu, %zu%s), }",
                        descr_of(pixels->dtype), pixels->height, pixels->width, channels);
    size_t length = 10 + (size_t)used, whole = (length + 1 + 63) / 64 * 64;
    memset(text + length, ' ', whole - length - 1);
    text[whole - 1] = '\n';
    memcpy(text, MAGIC "\x01\x00", 8);
    text[8] = (char)((whole - 10) & 0xff);
    text[9] = (char)((whole - 10) >> 8);
    return whole;
}

axon_status axi_npy_encode(const axi_pixels *pixels, axi_buffer *out, axon_error *err)
{
    char header[256];
    size_t length = write_header(pixels, header), row = axi_pixels_row_bytes(pixels);
    if (!axi_buffer_reserve(out, length + row * pixels->height))
        return axi_no_memory(err, length + (uint64_t)row * pixels->height);
    axi_buffer_add(out, header, length);
    for (size_t y = 0; y < pixels->height; y++, out->length += row)
        axi_pixels_gather(pixels, y, out->data + out->length, AXI_LITTLE, pixels->bgr);
    return AXON_OK;
}

/* ---- reading a header ---------------------------------------------------------------------- */

/* A Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (480, 640), } */
typedef struct literal {
    const char *at;
    const char *end;
} literal;

static void skip_spaces(literal *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n'))
        text->at++;
}

static bool take(literal *text, char character)
{
    skip_spaces(text);
    if (text->at == text->end || *text->at != character) return false;
    text->at++;
    return true;
}

static bool take_string(literal *text, char *string, size_t size)
{
    char quote = take(text, '\'') ? '\'' : take(text, '"') ? '"' : 0;
    size_t length = 0;
    if (!quote) return false;
    for (; text->at < text->end && *text->at != quote; text->at++) {
        if (length + 1 == size || *text->at == '\\') return false;
        string[length++] = *text->at;
    }
    string[length] = 0;
    return take(text, quote);
}

static bool take_word(literal *text, const char *word)
{
    size_t length = strlen(word);
    if (!take(text, word[0])) return false;
    if ((size_t)(text->end - text->at) < length - 1 || memcmp(text->at, word + 1, length - 1) != 0)
        return false;
    text->at += length - 1;
    return true;
}

static bool take_number(literal *text, uint32_t *number)
{
    uint64_t value = 0;
    skip_spaces(text);
    const char *start = text->at;
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++) {
        value = value * 10 + (uint64_t)(*text->at - '0');
        if (value > INT32_MAX) return false;
    }
    *number = (uint32_t)value;
    return text->at > start;
}

typedef struct npy {
    char descr[16];
    uint32_t shape[AXON_MAX_NDIM];
    size_t ndim;
    bool is_fortran;
} npy;

/* A comma may end it. */
static bool take_shape(literal *text, npy *found)
{
    if (!take(text, '(')) return false;
    found->ndim = 0;
    while (!take(text, ')')) {
        if (found->ndim > 0 && !take(text, ',')) return false;
        if (found->ndim > 0 && take(text, ')')) break;
        if (found->ndim == AXON_MAX_NDIM || !take_number(text, &found->shape[found->ndim])) return false;
        found->ndim++;
    }
    return true;
}

static bool take_dict(literal *text, npy *found)
{
    unsigned seen = 0;
    if (!take(text, '{')) return false;
    while (!take(text, '}')) {
        char key[16];
        bool good = false;
        if (!take_string(text, key, sizeof key) || !take(text, ':')) return false;
        if (strcmp(key, "descr") == 0) {
            good = take_string(text, found->descr, sizeof found->descr);
            seen |= 1;
        } else if (strcmp(key, "fortran_order") == 0) {
            found->is_fortran = take_word(text, "True");
            good = found->is_fortran || take_word(text, "False");
            seen |= 2;
        } else if (strcmp(key, "shape") == 0) {
            good = take_shape(text, found);
            seen |= 4;
        }
        if (!good) return false;
        if (!take(text, ',')) return take(text, '}') && seen == 7;
    }
    return seen == 7;
}

/* The bytes of one element of a boolean, integer or float dtype; 0 for any other, objects among them. */
static uint32_t element_size(const char *descr)
{
    bool is_number = strchr("<>|=", descr[0]) && descr[0] && strchr("biuf", descr[1]) && descr[1];
    if (!is_number || !strchr("1248", descr[2]) || !descr[2] || descr[3]) return 0;
    return (uint32_t)(descr[2] - '0');
}

static axon_status check_npy(const npy *found, axi_header *header, const char *subject, axon_error *err)
{
    uint32_t size = element_size(found->descr);
    uint32_t channels = found->ndim == 3 ? found->shape[2] : 1;
    if (size == 0)
        return axi_fail(err, AXON_EINVAL, "%s: .npy of dtype '%s' is no picture", subject, found->descr);
    if (found->ndim < 2 || found->ndim > 3 || !found->shape[0] || !found->shape[1] ||
        (channels != 1 && channels != 3 && channels != 4))
        return axi_fail(
            err, AXON_EINVAL,
            "%s: .npy of %zu dimensions is no picture: (height, width) or (height, width, channels)",
            subject, found->ndim);
    header->height = found->shape[0];
    header->width = found->shape[1];
    header->channels = channels;
    header->bits = size * 8;
    return AXON_OK;
}

/* Reads what stands before the elements. `*data_at` is where these begin. */
static axon_status read_start(const axi_source *source, npy *found, size_t *data_at, const char *subject,
                              axon_error *err)
{
    uint8_t start[12];
    char text[MAX_HEADER];
    size_t got = axi_source_read(source, 0, start, sizeof start);
    bool is_first = got > 6 && start[6] == 1;
    size_t at = is_first ? 10 : 12;
    if (got < at) return axi_fail(err, AXON_EINVAL, "%s: .npy is cut off at byte %zu", subject, got);
    if (start[6] < 1 || start[6] > 3)
        return axi_fail(err, AXON_EINVAL, "%s: .npy of version %u.%u (1.0 to 3.0)", subject, start[6],
                        start[7]);
    size_t length = (size_t)start[8] | (size_t)start[9] << 8;
    if (!is_first) length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
    if (length > sizeof text)
        return axi_fail(err, AXON_EINVAL, "%s: .npy header of %zu bytes (at most %zu)", subject, length,
                        sizeof text);
    got = axi_source_read(source, at, text, length);
    literal reading = {text, text + got};
    if (got < length || !take_dict(&reading, found))
        return axi_fail(err, AXON_EINVAL, "%s: .npy with a damaged header", subject);
    *data_at = at + length;
    return AXON_OK;
}

axon_status axi_npy_header(const axi_source *source, axi_header *header, const char *subject,
                           axon_error *err)
{
    npy found = {.ndim = 0};
    size_t data_at;
    axon_status status = read_start(source, &found, &data_at, subject, err);
    return status ? status : check_npy(&found, header, subject, err);
}

/* ---- a whole array ------------------------------------------------------------------------- */

/* Fills in dtype, shape and strides; AXON_EPROTOCOL when the file holds more or less than these say. */
static axon_status describe(const void *file, size_t length, const npy *found, size_t data_at,
                            const char *subject, axon_array *array, axon_error *err)
{
    axi_layout layout;
    bool swapped;
    *array = (axon_array){.ndim = (int32_t)found->ndim};
    if (!axi_dtype_parse(found->descr, strlen(found->descr), &array->dtype, &array->itemsize, &swapped))
        return axi_fail(err, AXON_EPROTOCOL, "%s: .npy of dtype '%s', which does not travel", subject,
                        found->descr);
    array->swapped = swapped;
    array->data = (const uint8_t *)file + data_at;
    for (size_t i = 0; i < found->ndim; i++)
        array->shape[i] = found->shape[i];
    if (axi_array_layout(array, &layout, subject, NULL, NULL) != AXON_OK)
        return axi_fail(err, AXON_EPROTOCOL, "%s: .npy whose shape makes more than 2^63 bytes", subject);
    if (data_at > length || layout.bytes != length - data_at)
        return axi_fail(err, AXON_EPROTOCOL,
                        "%s: .npy has %zu bytes of data where its header says %" PRIu64, subject,
                        data_at < length ? length - data_at : 0, layout.bytes);
    for (int64_t i = 0, step = layout.itemsize; found->is_fortran && layout.bytes && i < array->ndim; i++) {
        array->strides[i] = step;
        step *= array->shape[i];
    }
    return AXON_OK;
}

/* read_start(), of a file that is the peer's and not the caller's. */
static axon_status read_peers(const axi_source *source, npy *found, size_t *data_at, const char *subject,
                              axon_error *err)
{
    axon_error reason;
    axon_status status = read_start(source, found, data_at, subject, &reason);
    return status ? axi_fail(err, AXON_EPROTOCOL, "%s", reason.message) : AXON_OK;
}

axon_status axi_npy_describe(const void *data, size_t length, const char *subject, axon_array *array,
                             axon_error *err)
{
    npy found = {.ndim = 0};
    size_t data_at;
    const axi_source source = {data, length, false};
    axon_status status = read_peers(&source, &found, &data_at, subject, err);
    return status ? status : describe(data, length, &found, data_at, subject, array, err);
}

/* ---- a whole array, from base64 -------------------------------------------------------------- */

/* The description of an array and, in the same piece of memory, the file that it was in. */
typedef struct unpacked {
    axon_array array; /* first: an axon_value frees its array, and with it all of this */
    size_t length;
    _Alignas(64) uint8_t file[];
} unpacked;

/* Elements as readers expect them: in C order, in this machine's byte order, aligned. */
static axon_status settle(unpacked **whole, axon_error *err)
{
    axi_layout layout;
    axon_array *array = &(*whole)->array;
    axon_status status = axi_array_layout(array, &layout, "reply", NULL, err);
    if (status) return status;
    size_t bytes = (size_t)layout.bytes, unit = axi_dtype_unit(array->dtype);
    if (!layout.is_contiguous || (uintptr_t)array->data % unit) {
        unpacked *settled = calloc(1, sizeof *settled + bytes);
        if (!settled) return axi_no_memory(err, bytes);
        settled->array = *array;
        settled->array.data = settled->file;
        memset(settled->array.strides, 0, sizeof settled->array.strides);
        axi_array_gather(settled->file, array, &layout);
        free(*whole);
        *whole = settled;
        array = &settled->array;
    }
    if (array->swapped) axi_swap_bytes((void *)(uintptr_t)array->data, bytes, unit);
    array->swapped = 0;
    return AXON_OK;
}

static axon_status decode(const char *base64, size_t length, const char *subject, unpacked **whole,
                          axon_error *err)
{
    npy found = {.ndim = 0};
    size_t data_at, wrong;
    const axi_source source = {base64, length, true};
    axon_status status = read_peers(&source, &found, &data_at, subject, err);
    if (status) return status;
    size_t room = axi_base64_decoded_length(base64, length);
    unpacked *made = malloc(sizeof *made + room);
    if (!made) return axi_no_memory(err, room);
    if (!axi_base64_decode(made->file, &made->length, base64, length, &wrong))
        status = axi_fail(err, AXON_EPROTOCOL, "%s is not base64 at %zu", subject, wrong);
    if (status == AXON_OK)
        status = describe(made->file, made->length, &found, data_at, subject, &made->array, err);
    if (status == AXON_OK) status = settle(&made, err);
    if (status != AXON_OK) {
        free(made);
        return status;
    }
    *whole = made;
    return AXON_OK;
}

axon_status axi_npy_value(const char *base64, size_t length, const char *subject, axon_value **value,
                          axon_error *err)
{
    unpacked *whole = NULL;
    axon_status status = decode(base64, length, subject, &whole, err);
    if (status) return status;
    axon_value *made = axon_value_nil();
    if (!made) {
        free(whole);
        return axi_no_memory(err, sizeof *made);
    }
    made->type = AXON_ARRAY;
    made->flags |= AXI_IS_WHOLE;
    made->as.array = &whole->array;
    *value = made;
    return AXON_OK;
}

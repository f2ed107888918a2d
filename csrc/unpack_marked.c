/* See unpack_marked.h. The marks are the peers' own; what they claim is checked before memory is taken for it. */
#include "unpack_marked.h"

#include "array.h"
#include "image_codecs.h"
#include "image_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { PLAIN_MAP, AN_ARRAY, A_SCALAR, AN_NPY, A_PICTURE, FRAMES } form;

/* A map with a marker, and the fields that such maps may have. */
typedef struct {
    const axi_marked_place *place;
    form form;
    const axon_value *data, *dtype, *shape, *format, *ndim;
} marked;

/* ---- failing ------------------------------------------------------------------------------- */

static axon_status fail_at(const axi_marked_place *place, axon_status status, const char *reason)
{
    char text[AXI_PATH_TEXT];
    axi_path_print(text, sizeof text, place->subject, place->path);
    return axi_fail(place->err, status, "%s: %s (byte %zu)", text, reason, place->at);
}

static axon_status lie(const marked *m, const char *name, const char *fact)
{
    static const char *const names[] = {[AN_ARRAY] = "an array",
                                        [A_SCALAR] = "a scalar",
                                        [AN_NPY] = "an array",
                                        [A_PICTURE] = "a picture",
                                        [FRAMES] = "JPEG frames"};
    char reason[160];
    snprintf(reason, sizeof reason, "%s whose %s %s", names[m->form], name, fact);
    return fail_at(m->place, AXON_EPROTOCOL, reason);
}

/* What a codec said of the peer's file; only memory is this side's fault. */
static axon_status cannot_read(const marked *m, axon_status status, const axon_error *why)
{
    if (status == AXON_ENOMEM) return axi_fail(m->place->err, status, "%s", why->message);
    return fail_at(m->place, status == AXON_ETOOBIG ? status : AXON_EPROTOCOL, why->message);
}

/* ---- fields -------------------------------------------------------------------------------- */

static const axon_value *field(const axon_value *map, const char *name, bool is_bytes)
{
    size_t length = strlen(name);
    for (size_t i = map->as.children.count; i-- > 0;) {
        const axon_value *child = &map->as.children.items[i];
        if (child->key_length == length && memcmp(child->key, name, length) == 0 &&
            (child->flags & AXI_KEY_IS_BYTES) == (is_bytes ? AXI_KEY_IS_BYTES : 0))
            return child;
    }
    return NULL;
}

static bool is_text(const axon_value *node, const char *text)
{
    size_t length = strlen(text);
    return node && node->type == AXON_STRING && node->as.bytes.length == length &&
           memcmp(node->as.bytes.data, text, length) == 0;
}

static axon_status read_dtype(const marked *m, axon_array *array)
{
    bool swapped;
    if (!m->dtype) return lie(m, "dtype", "is missing");
    if (m->dtype->type != AXON_STRING) return lie(m, "dtype", "is not text");
    const char *text = m->dtype->as.bytes.data;
    size_t length = m->dtype->as.bytes.length;
    if (!axi_dtype_parse(text, length, &array->dtype, &array->itemsize, &swapped)) {
        char fact[96];
        int shown = (int)axi_utf8_cut(text, length > 24 ? 24 : length);
        snprintf(fact, sizeof fact, "is '%.*s', which is not a dtype that travels", shown, text);
        return lie(m, "dtype", fact);
    }
    array->swapped = swapped;
    return AXON_OK;
}

static axon_status read_shape(const marked *m, axon_array *array)
{
    char fact[96];
    if (!m->shape) return lie(m, "shape", "is missing");
    if (m->shape->type != AXON_LIST) return lie(m, "shape", "is not a list");
    uint32_t ndim = m->shape->as.children.count;
    if (ndim > AXON_MAX_NDIM) {
        snprintf(fact, sizeof fact, "has %" PRIu32 " dimensions, more than 32 (AXON_MAX_NDIM)", ndim);
        return lie(m, "shape", fact);
    }
    array->ndim = (int32_t)ndim;
    for (uint32_t i = 0; i < ndim; i++) {
        const axon_value *n = &m->shape->as.children.items[i];
        if (n->type != AXON_INT || n->as.integer < 0) {
            snprintf(fact, sizeof fact, "has a dimension %" PRIu32 " that is no number of elements", i);
            return lie(m, "shape", fact);
        }
        array->shape[i] = n->as.integer;
    }
    return AXON_OK;
}

/* ---- arrays as they are -------------------------------------------------------------------- */

static axon_status check_data(const marked *m, axon_array *array)
{
    axi_layout layout;
    axon_error reason;
    char fact[128];
    if (!m->data) return lie(m, "data", "is missing");
    if (m->data->type != AXON_BYTES) return lie(m, "data", "is not bytes");
    array->data = m->data->as.bytes.data;
    if (axi_array_layout(array, &layout, "it", NULL, &reason) != AXON_OK)
        return lie(m, "shape", "makes more than 2^63 bytes");
    if (layout.bytes != m->data->as.bytes.length) {
        snprintf(fact, sizeof fact, "has %zu bytes where shape and dtype make %" PRIu64,
                 m->data->as.bytes.length, layout.bytes);
        return lie(m, "data", fact);
    }
    return AXON_OK;
}

/* Any byte but 0 is true, so that C may read a bool array as one. */
static void normalise_bools(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = bytes[i] != 0;
}

static bool are_characters(const uint8_t *text, size_t length)
{
    for (uint32_t code; length >= 4; text += 4, length -= 4) {
        memcpy(&code, text, 4);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    }
    return true;
}

/* Aligns the elements and turns their byte order, where they lie. In a message at most 7 bytes before the data
 * are overwritten, which nobody reads again, since all children of the map go when the array has been read: its
 * own header, of 2 or more, and its key "data", of 5 or more; or the header of a .npy file, of 10 or more. */
static axon_status settle_data(const marked *m, axon_array *array, size_t length)
{
    size_t unit = axi_dtype_unit(array->dtype);
    uint8_t *data = (uint8_t *)(uintptr_t)array->data;
    size_t off = (uintptr_t)data % unit;
    if (off) array->data = data = memmove(data - off, data, length);
    if (array->swapped) axi_swap_bytes(data, length, unit);
    array->swapped = 0;
    if (array->dtype == AXON_BOOL8) normalise_bools(data, length);
    if (array->dtype == AXON_FIXED_TEXT && !are_characters(data, length))
        return lie(m, "data", "has text that is not Unicode");
    return AXON_OK;
}

static axon_status read_array(const marked *m, axon_array *array)
{
    axon_status status = read_dtype(m, array);
    if (status == AXON_OK) status = read_shape(m, array);
    if (status == AXON_OK) status = check_data(m, array);
    if (status == AXON_OK) status = settle_data(m, array, m->data->as.bytes.length);
    return status;
}

static axon_status read_scalar(const marked *m, axon_array *array)
{
    axon_status status = read_dtype(m, array);
    if (status != AXON_OK) return status;
    array->swapped = 0; /* msgpack's own numbers have no order to turn */
    if (!m->data) return lie(m, "data", "is missing");
    if (!axi_element_write(array + 1, array->dtype, m->data))
        return lie(m, "data", "does not fit its dtype");
    array->data = array + 1;
    return AXON_OK;
}

/* ---- arrays with elements of their own ------------------------------------------------------ */

/* A description with room for its elements behind it, in one piece of memory. */
typedef struct {
    axon_array array; /* first: an axon_value frees its array, and with it all of this */
    _Alignas(16) uint8_t elements[];
} whole_array;

static axon_status make_whole(const marked *m, const axon_array *described, size_t bytes,
                              whole_array **whole)
{
    whole_array *made = malloc(sizeof *made + bytes);
    if (!made) return axi_no_memory(m->place->err, bytes);
    made->array = *described;
    made->array.data = made->elements;
    memset(made->array.strides, 0, sizeof made->array.strides);
    *whole = made;
    return AXON_OK;
}

/* ---- .npy ---------------------------------------------------------------------------------- */

/* Elements in Fortran's order are copied into C's; all others stay in the message. */
static axon_status read_npy(const marked *m, axon_array **array)
{
    axon_array found;
    axi_layout layout;
    axon_error why;
    if (!m->data) return lie(m, "as_npy", "is missing");
    if (m->data->type != AXON_BYTES) return lie(m, "as_npy", "is not bytes");
    axon_status status =
        axi_npy_describe(m->data->as.bytes.data, m->data->as.bytes.length, "as_npy", &found, &why);
    if (status == AXON_OK) status = axi_array_layout(&found, &layout, "as_npy", NULL, &why);
    if (status != AXON_OK) return cannot_read(m, status, &why);
    whole_array *whole;
    size_t copied = layout.is_contiguous ? 0 : (size_t)layout.bytes;
    status = make_whole(m, &found, copied, &whole);
    if (status != AXON_OK) return status;
    if (copied)
        axi_array_gather(whole->elements, &found, &layout);
    else
        whole->array.data = found.data;
    status = settle_data(m, &whole->array, (size_t)layout.bytes);
    if (status == AXON_OK)
        *array = &whole->array;
    else
        free(whole);
    return status;
}

/* ---- pictures ------------------------------------------------------------------------------ */

/* Takes a picture's share of what a message's pictures may become. */
static axon_status take_share(const marked *m, uint64_t count, uint64_t width, uint64_t height,
                              uint64_t channels, uint64_t *left)
{
    uint64_t most = *left / channels / width / height; /* of such pictures; each number is 1 to 2^31 */
    if (count > most) {
        char reason[192];
        snprintf(reason, sizeof reason,
                 "%" PRIu64 " picture(s) of %" PRIu64 "x%" PRIu64
                 " pixels, with which those of the message would be more than %" PRIu64 " bytes",
                 count, width, height, AXI_MAX_PICTURE_BYTES);
        return fail_at(m->place, AXON_ETOOBIG, reason);
    }
    *left -= count * channels * width * height;
    return AXON_OK;
}

/* What the first bytes of a file say, when they are those of a picture of `format` with 8 bits. */
static axon_status read_file_header(const marked *m, const axon_value *file, axon_image_format format,
                                    axi_header *header)
{
    axon_error why;
    const char *name = m->form == FRAMES ? "frames" : "data";
    if (file->type != AXON_BYTES) return lie(m, name, "is not bytes");
    const axi_source source = {file->as.bytes.data, file->as.bytes.length, false};
    axon_status status = axi_header_read(&source, header, name, &why);
    if (status != AXON_OK) return cannot_read(m, status, &why);
    if (header->format != format)
        return lie(m, name, format == AXON_IMAGE_JPEG ? "is no JPEG" : "is no PNG");
    if (header->bits != 8) return lie(m, name, "has more than 8 bits for a colour");
    return AXON_OK;
}

static axon_status decode_into(const marked *m, const axon_value *file, axon_image_format format,
                               uint8_t *into, size_t room, bool is_grey)
{
    axon_error why;
    axi_pixels pixels;
    const axi_decoding how = {.keep_grey = is_grey, .into = into, .room = room};
    const void *data = file->as.bytes.data;
    size_t length = file->as.bytes.length;
    axon_status status = format == AXON_IMAGE_JPEG ? axi_jpeg_decode(data, length, how, &pixels, &why)
                                                   : axi_png_decode(data, length, how, &pixels, &why);
    return status == AXON_OK ? status : cannot_read(m, status, &why);
}

static axon_status check_picture(const marked *m, const axi_header *header, const axon_array *stated)
{
    char fact[128];
    if (stated->ndim < 2 || stated->ndim > 3 ||
        (stated->ndim == 3 && stated->shape[2] != 1 && stated->shape[2] != 3))
        return lie(m, "shape", "is not (height, width, 3), nor that of grey");
    if (stated->shape[0] != header->height || stated->shape[1] != header->width) {
        snprintf(fact, sizeof fact,
                 "has %" PRIu32 "x%" PRIu32 " pixels where its shape says %" PRId64 "x%" PRId64,
                 header->width, header->height, stated->shape[1], stated->shape[0]);
        return lie(m, "data", fact);
    }
    bool is_grey = stated->ndim == 2 || stated->shape[2] == 1;
    if (is_grey && header->channels > 2) return lie(m, "data", "has colours where its shape has none");
    return AXON_OK;
}

/* {"__image__": true, "format", "data", "shape"}: a file that was a uint8 array of this shape. */
static axon_status read_picture(const marked *m, axon_array **array, uint64_t *left)
{
    axi_header header;
    axon_array stated = {.dtype = AXON_UINT8, .itemsize = 1};
    bool is_jpeg = is_text(m->format, "jpeg");
    if (!is_jpeg && !is_text(m->format, "png")) return lie(m, "format", "is neither jpeg nor png nor raw");
    axon_image_format format = is_jpeg ? AXON_IMAGE_JPEG : AXON_IMAGE_PNG;
    if (!m->data) return lie(m, "data", "is missing");
    axon_status status = read_shape(m, &stated);
    if (status == AXON_OK) status = read_file_header(m, m->data, format, &header);
    if (status == AXON_OK) status = check_picture(m, &header, &stated);
    uint64_t channels = stated.ndim == 3 ? (uint64_t)stated.shape[2] : 1;
    if (status == AXON_OK) status = take_share(m, 1, header.width, header.height, channels, left);
    if (status != AXON_OK) return status;
    whole_array *whole;
    size_t bytes = (size_t)(channels * header.width * header.height);
    status = make_whole(m, &stated, bytes, &whole);
    if (status != AXON_OK) return status;
    status = decode_into(m, m->data, format, whole->elements, bytes, channels == 1);
    if (status == AXON_OK)
        *array = &whole->array;
    else
        free(whole);
    return status;
}

/* The first frame's size, which is that of all. */
static axon_status measure_frames(const marked *m, axon_array *stated, uint32_t *count)
{
    if (!m->data) return lie(m, "frames", "is missing");
    if (m->data->type != AXON_LIST) return lie(m, "frames", "is not a list");
    *count = m->data->as.children.count;
    if (*count == 0) return lie(m, "frames", "is empty");
    bool is_number = m->ndim && m->ndim->type == AXON_INT;
    if (!is_number || (m->ndim->as.integer != 3 && m->ndim->as.integer != 4))
        return lie(m, "ndim", "is neither 3 nor 4");
    int32_t ndim = (int32_t)m->ndim->as.integer;
    if (ndim == 3 && *count > 1) return lie(m, "frames", "is more than one where ndim is 3");
    axi_header header;
    axon_status status = read_file_header(m, &m->data->as.children.items[0], AXON_IMAGE_JPEG, &header);
    if (status != AXON_OK) return status;
    *stated = (axon_array){.dtype = AXON_UINT8, .itemsize = 1, .ndim = ndim, .shape = {*count}};
    int64_t *size = stated->shape + (ndim - 3);
    size[0] = header.height;
    size[1] = header.width;
    size[2] = 3;
    return AXON_OK;
}

static axon_status decode_frames(const marked *m, const axon_array *stated, uint32_t count, uint8_t *into,
                                 size_t bytes)
{
    const int64_t *size = stated->shape + (stated->ndim - 3);
    for (uint32_t i = 0; i < count; i++, into += bytes) {
        axi_header header;
        const axon_value *frame = &m->data->as.children.items[i];
        axon_status status = read_file_header(m, frame, AXON_IMAGE_JPEG, &header);
        if (status == AXON_OK && (header.height != size[0] || header.width != size[1]))
            return lie(m, "frames", "are not all of one size");
        if (status == AXON_OK) status = decode_into(m, frame, AXON_IMAGE_JPEG, into, bytes, false);
        if (status != AXON_OK) return status;
    }
    return AXON_OK;
}

/* {b"__jpeg__": true, b"frames": [bin], b"ndim": 3 | 4}: (height, width, 3), or with the frames' number before. */
static axon_status read_frames(const marked *m, axon_array **array, uint64_t *left)
{
    axon_array stated = {0};
    uint32_t count = 0;
    whole_array *whole;
    axon_status status = measure_frames(m, &stated, &count);
    if (status != AXON_OK) return status;
    const int64_t *size = stated.shape + (stated.ndim - 3);
    status = take_share(m, count, (uint64_t)size[1], (uint64_t)size[0], 3, left);
    if (status != AXON_OK) return status;
    size_t bytes = (size_t)size[0] * (size_t)size[1] * 3;
    status = make_whole(m, &stated, bytes * count, &whole);
    if (status != AXON_OK) return status;
    status = decode_frames(m, &stated, count, whole->elements, bytes);
    if (status == AXON_OK)
        *array = &whole->array;
    else
        free(whole);
    return status;
}

/* ---- markers ------------------------------------------------------------------------------- */

static bool may_be_marked(const axon_value *map)
{
    for (uint32_t i = 0; i < map->as.children.count; i++) {
        const axon_value *child = &map->as.children.items[i];
        if (child->key_length >= 8 && memcmp(child->key, "__", 2) == 0) return true;
    }
    return false;
}

/* The forms whose fields have keys of the marker's own kind: openpi's, with bytes, and the same with text. */
static form strict_form(const axon_value *map, const axon_value **marker, bool *is_bytes)
{
    for (int i = 0; i < 2; i++) {
        *is_bytes = i == 0;
        if ((*marker = field(map, "__ndarray__", *is_bytes))) return AN_ARRAY;
        if ((*marker = field(map, "__npgeneric__", *is_bytes))) return A_SCALAR;
    }
    return is_text(field(map, "__type__", false), "ndarray") ? AN_ARRAY : PLAIN_MAP;
}

/* The forms whose keys may be bytes or text: GR00T's, vla-eval's and positronic's. */
static form loose_form(const axon_value *map, const axon_value **marker)
{
    if ((*marker = axon_value_get(map, "__ndarray_class__"))) return AN_NPY;
    if ((*marker = axon_value_get(map, "__image__"))) return A_PICTURE;
    if ((*marker = axon_value_get(map, "__jpeg__"))) return FRAMES;
    return PLAIN_MAP;
}

static marked read_marker(const axon_value *map, const axon_value **marker)
{
    bool is_bytes;
    marked m = {.form = strict_form(map, marker, &is_bytes)};
    if (m.form != PLAIN_MAP) {
        m.data = field(map, "data", is_bytes);
        m.dtype = field(map, "dtype", is_bytes);
        m.shape = field(map, "shape", is_bytes);
        return m;
    }
    m.form = loose_form(map, marker);
    m.data = axon_value_get(map, m.form == AN_NPY ? "as_npy" : m.form == FRAMES ? "frames" : "data");
    m.dtype = axon_value_get(map, "dtype");
    m.shape = axon_value_get(map, "shape");
    m.format = axon_value_get(map, "format");
    m.ndim = axon_value_get(map, "ndim");
    if (m.form == A_PICTURE && is_text(m.format, "raw")) m.form = AN_ARRAY; /* vla-eval's third format */
    return m;
}

static axon_status read_form(const marked *m, axon_array **array, uint64_t *picture_bytes)
{
    if (m->form == AN_NPY) return read_npy(m, array);
    if (m->form == A_PICTURE) return read_picture(m, array, picture_bytes);
    if (m->form == FRAMES) return read_frames(m, array, picture_bytes);
    axon_array *made = calloc(1, sizeof *made + sizeof(uint64_t));
    if (!made) return axi_no_memory(m->place->err, sizeof *made);
    axon_status status = m->form == AN_ARRAY ? read_array(m, made) : read_scalar(m, made);
    if (status == AXON_OK)
        *array = made;
    else
        free(made);
    return status;
}

axon_status axi_marked_read(axon_value *map, const axi_marked_place *place, uint64_t *picture_bytes)
{
    const axon_value *marker;
    if (!may_be_marked(map)) return AXON_OK;
    marked m = read_marker(map, &marker);
    m.place = place;
    if (m.form == PLAIN_MAP) return AXON_OK;
    if (marker && (marker->type != AXON_BOOL || !marker->as.integer))
        return lie(&m, "marker", "is not true");
    axon_array *array = NULL;
    axon_status status = read_form(&m, &array, picture_bytes);
    if (status != AXON_OK) return status;
    axon_value fields = *map;
    fields.key = NULL;
    axi_value_clear(&fields);
    map->type = (uint8_t)(m.form == A_SCALAR ? AXON_SCALAR : AXON_ARRAY);
    map->as.array = array;
    if (m.form == A_PICTURE || m.form == FRAMES) map->flags |= AXI_IS_WHOLE;
    return AXON_OK;
}

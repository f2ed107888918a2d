/* See array.h. */
#include "array.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- dtypes -------------------------------------------------------------------------------- */

static const struct {
    char kind; /* numpy's letter */
    uint8_t size;
    const char *name;
} dtypes[] = {
    [AXON_BOOL8] = {'b', 1, "bool"},      [AXON_INT8] = {'i', 1, "int8"},
    [AXON_INT16] = {'i', 2, "int16"},     [AXON_INT32] = {'i', 4, "int32"},
    [AXON_INT64] = {'i', 8, "int64"},     [AXON_UINT8] = {'u', 1, "uint8"},
    [AXON_UINT16] = {'u', 2, "uint16"},   [AXON_UINT32] = {'u', 4, "uint32"},
    [AXON_UINT64] = {'u', 8, "uint64"},   [AXON_FLOAT16] = {'f', 2, "float16"},
    [AXON_FLOAT32] = {'f', 4, "float32"}, [AXON_FLOAT64] = {'f', 8, "float64"},
    [AXON_FIXED_TEXT] = {'U', 0, "text"}, [AXON_FIXED_BYTES] = {'S', 0, "bytes"},
};

static bool is_dtype(axon_dtype dtype)
{
    return dtype >= AXON_BOOL8 && dtype <= AXON_FIXED_BYTES;
}

uint32_t axon_dtype_size(axon_dtype dtype)
{
    return is_dtype(dtype) ? dtypes[dtype].size : 0;
}

uint32_t axi_dtype_unit(axon_dtype dtype)
{
    return dtype == AXON_FIXED_TEXT ? 4 : dtype == AXON_FIXED_BYTES ? 1 : axon_dtype_size(dtype);
}

static bool machine_is_little(void)
{
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 1;
}

void axi_dtype_print(char text[AXI_DTYPE_TEXT], axon_dtype dtype, uint32_t itemsize, bool swapped,
                     bool as_name)
{
    uint32_t unit = axi_dtype_unit(dtype);
    bool is_little = machine_is_little() != swapped;
    if (as_name && axon_dtype_size(dtype) && (!swapped || unit == 1)) {
        snprintf(text, AXI_DTYPE_TEXT, "%s", dtypes[dtype].name);
        return;
    }
    uint32_t number = dtype == AXON_FIXED_TEXT ? itemsize / 4 : itemsize;
    char order = unit == 1 ? '|' : is_little ? '<' : '>';
    snprintf(text, AXI_DTYPE_TEXT, "%c%c%" PRIu32, order, dtypes[dtype].kind, number);
}

static bool parse_name(const char *text, size_t length, axon_dtype *dtype)
{
    for (axon_dtype d = AXON_BOOL8; d <= AXON_FLOAT64; d++) {
        if (strlen(dtypes[d].name) == length && memcmp(dtypes[d].name, text, length) == 0) {
            *dtype = d;
            return true;
        }
    }
    return false;
}

/* Decimal digits without a leading zero, up to what numpy allows. */
static bool parse_count(const char *text, size_t length, uint32_t *number)
{
    if (length == 0 || length > 9 || text[0] == '0') return false;
    *number = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *number = *number * 10 + (uint32_t)(text[i] - '0');
    }
    return *number <= INT32_MAX / 4;
}

static bool parse_kind(char kind, uint32_t number, axon_dtype *dtype, uint32_t *itemsize)
{
    *itemsize = number;
    if (kind == 'U' || kind == 'S') {
        *dtype = kind == 'U' ? AXON_FIXED_TEXT : AXON_FIXED_BYTES;
        if (kind == 'U') *itemsize = number * 4;
        return true;
    }
    for (axon_dtype d = AXON_BOOL8; d <= AXON_FLOAT64; d++) {
        if (dtypes[d].kind == kind && dtypes[d].size == number) {
            *dtype = d;
            return true;
        }
    }
    return false;
}

bool axi_dtype_parse(const char *text, size_t length, axon_dtype *dtype, uint32_t *itemsize, bool *swapped)
{
    *swapped = false;
    if (parse_name(text, length, dtype)) {
        *itemsize = dtypes[*dtype].size;
        return true;
    }
    char order = length > 0 && strchr("<>|=", text[0]) ? text[0] : 0;
    size_t at = order ? 1 : 0;
    uint32_t number;
    if (length < at + 2 || !parse_count(text + at + 1, length - at - 1, &number)) return false;
    if (!parse_kind(text[at], number, dtype, itemsize)) return false;
    bool has_order = axi_dtype_unit(*dtype) > 1;
    if (has_order && order == '|') return false;
    *swapped = has_order && (order == '>' || order == '<') && (order == '<') != machine_is_little();
    return true;
}

/* ---- elements ------------------------------------------------------------------------------ */

void axi_swap_bytes(void *data, size_t bytes, size_t width)
{
    uint8_t *at = data, *end = at + bytes / width * width;
    for (uint16_t x; width == 2 && at < end; at += 2) {
        memcpy(&x, at, 2);
        x = __builtin_bswap16(x);
        memcpy(at, &x, 2);
    }
    for (uint32_t x; width == 4 && at < end; at += 4) {
        memcpy(&x, at, 4);
        x = __builtin_bswap32(x);
        memcpy(at, &x, 4);
    }
    for (uint64_t x; width == 8 && at < end; at += 8) {
        memcpy(&x, at, 8);
        x = __builtin_bswap64(x);
        memcpy(at, &x, 8);
    }
}

static double half_to_double(uint16_t half)
{
    int exponent = half >> 10 & 31;
    int fraction = half & 1023;
    double size = exponent == 31  ? (fraction ? (double)NAN : HUGE_VAL)
                  : exponent == 0 ? ldexp(fraction, -24)
                                  : ldexp(fraction + 1024, exponent - 25);
    return half & 0x8000 ? -size : size;
}

/* Rounds to nearest, ties to even, which is what scalbn and nearbyint do. */
static uint16_t double_to_half(double number)
{
    uint16_t sign = signbit(number) ? 0x8000 : 0;
    double size = fabs(number);
    if (isnan(size)) return sign | 0x7e00;
    if (size >= 65520) return sign | 0x7c00; /* rounds to more than the largest, 65504 */
    if (size < 0x1p-14) return (uint16_t)(sign | (uint16_t)nearbyint(ldexp(size, 24)));
    int exponent = ilogb(size);
    /* a fraction that rounds up to 2048 carries into the exponent, as it should */
    unsigned fraction = (unsigned)nearbyint(ldexp(size, 10 - exponent));
    return (uint16_t)(sign | (((unsigned)(exponent + 14) << 10) + fraction));
}

static uint64_t load_bits(const void *element, size_t size, bool swapped)
{
    uint64_t bits = 0;
    memcpy(&bits, element, size);
    if (swapped) axi_swap_bytes(&bits, size, size);
    return machine_is_little() ? bits : bits >> (64 - 8 * size);
}

static double real_of_bits(uint64_t bits, size_t size)
{
    if (size == 2) return half_to_double((uint16_t)bits);
    if (size == 4) {
        uint32_t low = (uint32_t)bits;
        float single;
        memcpy(&single, &low, sizeof single);
        return (double)single;
    }
    double real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

bool axi_element_read(const void *element, axon_dtype dtype, bool swapped, axon_value *number)
{
    size_t size = axon_dtype_size(dtype);
    if (size == 0) return false;
    uint64_t bits = load_bits(element, size, swapped);
    unsigned unused = 64 - 8 * (unsigned)size;
    *number = (axon_value){0};
    switch (dtypes[dtype].kind) {
    case 'b':
        number->type = AXON_BOOL;
        number->as.integer = bits != 0;
        break;
    case 'i':
        number->type = AXON_INT;
        number->as.integer = (int64_t)(bits << unused) >> unused;
        break;
    case 'u':
        number->type = bits > INT64_MAX ? AXON_UINT : AXON_INT;
        number->as.natural = bits;
        break;
    default:
        number->type = AXON_FLOAT;
        number->as.real = real_of_bits(bits, size);
        break;
    }
    return true;
}

static bool write_integer(void *element, axon_dtype dtype, const axon_value *number)
{
    size_t size = axon_dtype_size(dtype);
    bool is_signed = dtypes[dtype].kind == 'i';
    if (number->type != AXON_INT && (number->type != AXON_UINT || is_signed)) return false;
    unsigned bits = (unsigned)size * 8;
    if (is_signed && bits < 64) {
        int64_t limit = (int64_t)1 << (bits - 1);
        if (number->as.integer < -limit || number->as.integer >= limit) return false;
    }
    if (!is_signed) {
        if (number->type == AXON_INT && number->as.integer < 0) return false;
        if (bits < 64 && number->as.natural >> bits) return false;
    }
    uint64_t natural = number->as.natural;
    if (!machine_is_little()) natural <<= 64 - bits;
    memcpy(element, &natural, size);
    return true;
}

/* A number out of the type's range does not fit; one between two of its values is rounded. */
static bool write_real(void *element, axon_dtype dtype, double real)
{
    if (dtype == AXON_FLOAT64) {
        memcpy(element, &real, sizeof real);
    } else if (dtype == AXON_FLOAT32) {
        if (isfinite(real) && fabs(real) > (double)FLT_MAX) return false;
        float single = (float)real;
        memcpy(element, &single, sizeof single);
    } else {
        if (isfinite(real) && fabs(real) >= 65520) return false;
        uint16_t half = double_to_half(real);
        memcpy(element, &half, sizeof half);
    }
    return true;
}

bool axi_element_write(void *element, axon_dtype dtype, const axon_value *number)
{
    switch (is_dtype(dtype) ? dtypes[dtype].kind : 0) {
    case 'b':
        if (number->type != AXON_BOOL) return false;
        *(uint8_t *)element = number->as.integer != 0;
        return true;
    case 'i':
    case 'u':
        return write_integer(element, dtype, number);
    case 'f': {
        double real;
        return axon_value_as_float(number, &real) == AXON_OK && write_real(element, dtype, real);
    }
    default:
        return false;
    }
}

/* ---- layout -------------------------------------------------------------------------------- */

typedef struct {
    const char *subject;
    const axi_path *path;
    axon_error *err;
} place;

static axon_status refuse(const place *at, const char *member, int index, const char *fact, int64_t number)
{
    char text[AXI_PATH_TEXT], element[16] = "";
    axi_path_print(text, sizeof text, at->subject, at->path);
    if (index >= 0) snprintf(element, sizeof element, "[%d]", index);
    return axi_fail(at->err, AXON_EINVAL, "%s: %s%s is %" PRId64 "%s", text, member, element, number, fact);
}

static axon_status check_itemsize(const axon_array *array, axi_layout *layout, const place *at)
{
    if (!is_dtype(array->dtype)) return refuse(at, "dtype", -1, ", which is no axon_dtype", array->dtype);
    uint32_t fixed = dtypes[array->dtype].size;
    if (fixed && array->itemsize && array->itemsize != fixed) {
        char fact[64];
        snprintf(fact, sizeof fact, ", but a %s has %" PRIu32 " bytes", dtypes[array->dtype].name, fixed);
        return refuse(at, "itemsize", -1, fact, array->itemsize);
    }
    layout->itemsize = fixed ? fixed : array->itemsize;
    if (layout->itemsize == 0) return refuse(at, "itemsize", -1, ", and this dtype needs one", 0);
    if (layout->itemsize > INT32_MAX) return refuse(at, "itemsize", -1, ", too large", layout->itemsize);
    if (array->dtype == AXON_FIXED_TEXT && layout->itemsize % 4)
        return refuse(at, "itemsize", -1, ", but text has 4 bytes a character", layout->itemsize);
    return AXON_OK;
}

static axon_status check_shape(const axon_array *array, axi_layout *layout, const place *at)
{
    if (array->ndim < 0 || array->ndim > AXON_MAX_NDIM)
        return refuse(at, "ndim", -1, ", not 0 to 32 (AXON_MAX_NDIM)", array->ndim);
    /* as numpy does, the product must fit even where another dimension is 0 */
    int64_t product = layout->itemsize;
    layout->count = 1;
    for (int i = 0; i < array->ndim; i++) {
        int64_t n = array->shape[i];
        if (n < 0) return refuse(at, "shape", i, "", n);
        if (n > 0 && __builtin_mul_overflow(product, n, &product))
            return refuse(at, "shape", i, ", so the array passes 2^63 bytes", n);
        layout->count *= (uint64_t)n;
    }
    layout->bytes = layout->count * layout->itemsize;
    return AXON_OK;
}

static bool has_strides(const axon_array *array)
{
    for (int i = 0; i < array->ndim; i++)
        if (array->strides[i]) return true;
    return false;
}

/* The strides of C order, and whether the caller's are these, whatever they are for a dimension of 1. */
static void set_strides(const axon_array *array, axi_layout *layout)
{
    bool given = has_strides(array);
    layout->is_contiguous = true;
    int64_t stride = layout->itemsize;
    for (int i = array->ndim - 1; i >= 0; i--) {
        layout->strides[i] = given ? array->strides[i] : stride;
        if (array->shape[i] > 1 && layout->strides[i] != stride) layout->is_contiguous = false;
        if (array->shape[i] > 0) stride *= array->shape[i];
    }
    if (layout->count == 0) layout->is_contiguous = true;
}

static axon_status check_strides(const axon_array *array, const axi_layout *layout, const place *at)
{
    int64_t reach = layout->itemsize;
    for (int i = 0; i < array->ndim && layout->count > 0; i++) {
        int64_t stride = layout->strides[i], span;
        if (array->shape[i] <= 1) continue;
        if (stride == INT64_MIN ||
            __builtin_mul_overflow(stride < 0 ? -stride : stride, array->shape[i] - 1, &span) ||
            __builtin_add_overflow(reach, span, &reach))
            return refuse(at, "strides", i, ", which leaves the address space", stride);
    }
    return AXON_OK;
}

axon_status axi_array_layout(const axon_array *array, axi_layout *layout, const char *subject,
                             const axi_path *path, axon_error *err)
{
    const place at = {subject, path, err};
    axon_status status = check_itemsize(array, layout, &at);
    if (status == AXON_OK) status = check_shape(array, layout, &at);
    if (status != AXON_OK) return status;
    set_strides(array, layout);
    if (!array->data && layout->bytes)
        return refuse(&at, "data is NULL and the size", -1, " bytes", (int64_t)layout->bytes);
    return check_strides(array, layout, &at);
}

axon_status axon_array_size(const axon_array *array, uint64_t *bytes, axon_error *err)
{
    if (!array || !bytes) return axi_fail(err, AXON_EINVAL, "array: %s is NULL", array ? "bytes" : "array");
    axon_array described = *array;
    axi_layout layout;
    described.data = &layout; /* what is asked for does not depend on it */
    axon_status status = axi_array_layout(&described, &layout, "array", NULL, err);
    if (status == AXON_OK) *bytes = layout.bytes;
    return status;
}

/* ---- gathering ----------------------------------------------------------------------------- */

/* The two innermost dimensions, after those that lie without gaps were joined. */
typedef struct {
    int64_t rows, row_stride, columns, column_stride;
    size_t size; /* of what is copied at once */
} plane;

#define COPY_EACH(n)                                                                                       \
    for (int64_t r = 0; r < p->rows; r++) {                                                                \
        const uint8_t *row = in + r * p->row_stride;                                                       \
        for (int64_t c = 0; c < p->columns; c++, out += (n))                                               \
            memcpy(out, row + c * p->column_stride, (n));                                                  \
    }

/* A size known to the compiler makes each copy one instruction. */
static uint8_t *copy_plane(uint8_t *out, const uint8_t *in, const plane *p)
{
    switch (p->size) {
    case 1:
        COPY_EACH(1) break;
    case 2:
        COPY_EACH(2) break;
    case 3:
        COPY_EACH(3) break;
    case 4:
        COPY_EACH(4) break;
    case 8:
        COPY_EACH(8) break;
    default:
        COPY_EACH(p->size) break;
    }
    return out;
}

void axi_array_gather(void *out, const axon_array *array, const axi_layout *layout)
{
    if (layout->bytes == 0) return;
    int64_t index[AXON_MAX_NDIM] = {0};
    const uint8_t *in = array->data;
    int ndim = array->ndim;
    plane p = {1, 0, 1, 0, layout->itemsize};
    for (; ndim > 0; ndim--) { /* what lies without gaps is copied at once */
        if (array->shape[ndim - 1] > 1 && layout->strides[ndim - 1] != (int64_t)p.size) break;
        p.size *= (size_t)array->shape[ndim - 1];
    }
    if (ndim > 0) {
        ndim--;
        p.columns = array->shape[ndim];
        p.column_stride = layout->strides[ndim];
    }
    if (ndim > 0) {
        ndim--;
        p.rows = array->shape[ndim];
        p.row_stride = layout->strides[ndim];
    }
    for (uint8_t *at = out;;) {
        at = copy_plane(at, in, &p);
        int i = ndim - 1;
        for (; i >= 0 && ++index[i] == array->shape[i]; i--) {
            in -= layout->strides[i] * (array->shape[i] - 1);
            index[i] = 0;
        }
        if (i < 0) return;
        in += layout->strides[i];
    }
}

/* JSON text (RFC 8259) to trees, see json.h.
 *
 * Reading and writing are done here and not by cJSON, which was planned: it holds every number as a double
 * and prints 0.1 + 0.2 as 0.3, ends strings at \u0000, lets 01, control characters and broken UTF-8 pass,
 * keeps its last error in a variable of the whole process, and copies a string of a megabyte, while the
 * checks that would have to stand before it are a reader already.
 */
#include "json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *text;
    size_t at, length;
    bool is_building;  /* else the text is only checked, and not changed */
    axon_value *stack; /* finished values whose container is still open */
    size_t count, capacity, nodes;
    const char *subject;
    axon_error *err;
} reader;

/* A string as it stands in the text, without its quotes. */
typedef struct {
    char *text;
    size_t length;
    bool has_escapes;
} slice;

static axon_status broken(const reader *r, size_t at, const char *fact)
{
    return axi_fail(r->err, AXON_EPROTOCOL, "%s: %s at byte %zu of the JSON text", r->subject, fact, at);
}

static axon_status unexpected(const reader *r, const char *expected)
{
    if (r->at >= r->length)
        return axi_fail(r->err, AXON_EPROTOCOL, "%s: the JSON text ends after %zu bytes where %s should be",
                        r->subject, r->length, expected);
    return axi_fail(r->err, AXON_EPROTOCOL, "%s: '%.1s' at byte %zu of the JSON text where %s should be",
                    r->subject, r->text + r->at, r->at, expected);
}

static void skip_space(reader *r)
{
    for (; r->at < r->length; r->at++) {
        char c = r->text[r->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') break;
    }
}

static bool next_is(reader *r, char c)
{
    if (r->at >= r->length || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

static bool read_hex(const char *text, size_t length, uint32_t *number)
{
    static const char digits[] = "0123456789abcdef";
    if (length < 4) return false;
    *number = 0;
    for (int i = 0; i < 4; i++) {
        const char *digit = text[i] ? strchr(digits, text[i] >= 'A' ? text[i] | 0x20 : text[i]) : NULL;
        if (!digit) return false;
        *number = *number << 4 | (uint32_t)(digit - digits);
    }
    return true;
}

/* The character that an escape means: its size in UTF-8, or 0 when it is none. `*used` is the escape's own
 * length. */
static size_t read_escape(const char *text, size_t length, char character[4], size_t *used)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    if (length < 2 || !text[1]) return 0;
    const char *letter = strchr(from, text[1]);
    if (letter) {
        *used = 2;
        character[0] = to[letter - from];
        return 1;
    }
    if (text[1] != 'u' || !read_hex(text + 2, length - 2, &code)) return 0;
    *used = 6;
    if (code >= 0xd800 && code < 0xdc00) { /* the first of a pair of surrogates */
        if (length < 12 || text[6] != '\\' || text[7] != 'u' || !read_hex(text + 8, length - 8, &low))
            return 0;
        if (low < 0xdc00 || low >= 0xe000) return 0;
        *used = 12;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return axi_utf8_encode(character, code);
}

/* From an opening quote to behind the closing one. */
static axon_status read_slice(reader *r, slice *s, const char *expected)
{
    char character[4];
    if (!next_is(r, '"')) return unexpected(r, expected);
    *s = (slice){.text = r->text + r->at};
    for (;;) {
        size_t used;
        r->at += axi_plain_length(r->text + r->at, r->length - r->at);
        const char *here = r->text + r->at;
        size_t left = r->length - r->at;
        if (left == 0) return unexpected(r, "the end of a string");
        if (*here == '"') break;
        if (*here == '\\') {
            if (!read_escape(here, left, character, &used))
                return broken(r, r->at, "an escape that is none");
            s->has_escapes = true;
        } else if ((uint8_t)*here < 0x20) {
            return broken(r, r->at, "a control character inside a string");
        } else if (!(used = axi_utf8_decode(here, left, NULL))) {
            return broken(r, r->at, "text that is not UTF-8");
        }
        r->at += used;
    }
    s->length = (size_t)(r->text + r->at - s->text);
    r->at++;
    return AXON_OK;
}

/* An escape is longer than what it means, so this works where the string stands. */
static void resolve_escapes(slice *s)
{
    char *out = s->text;
    for (size_t at = 0; at < s->length;) {
        const char *backslash = memchr(s->text + at, '\\', s->length - at);
        size_t plain = backslash ? (size_t)(backslash - s->text) - at : s->length - at, used;
        memmove(out, s->text + at, plain);
        out += plain;
        at += plain;
        if (!backslash) break;
        char character[4];
        size_t size = read_escape(s->text + at, s->length - at, character, &used);
        memcpy(out, character, size);
        out += size;
        at += used;
    }
    s->length = (size_t)(out - s->text);
    s->has_escapes = false;
}

static bool slice_is(const slice *s, const char *key)
{
    size_t length = strlen(key), matched = 0;
    for (size_t at = 0; at < s->length;) {
        char character[4] = {s->text[at]};
        size_t used = 1, size = 1;
        if (s->text[at] == '\\') size = read_escape(s->text + at, s->length - at, character, &used);
        if (size > length - matched || memcmp(key + matched, character, size) != 0) return false;
        matched += size;
        at += used;
    }
    return matched == length;
}

static axon_status push(reader *r, const axon_value *value)
{
    if (!r->is_building) return AXON_OK;
    if (++r->nodes > AXI_MAX_NODES)
        return axi_fail(r->err, AXON_ETOOBIG, "%s: more than %u values at byte %zu of the JSON text",
                        r->subject, AXI_MAX_NODES, r->at);
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? r->capacity * 2 : 32;
        axon_value *stack = realloc(r->stack, capacity * sizeof *stack);
        if (!stack) return axi_no_memory(r->err, capacity * sizeof *stack);
        r->stack = stack;
        r->capacity = capacity;
    }
    r->stack[r->count++] = *value;
    return AXON_OK;
}

static axon_status read_string(reader *r)
{
    slice s;
    axon_status status = read_slice(r, &s, "a string");
    if (status != AXON_OK) return status;
    if (r->is_building && s.has_escapes) resolve_escapes(&s);
    const axon_value value = {.type = AXON_STRING, .as.bytes = {s.text, s.length}};
    return push(r, &value);
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* The longest that is read; printing a double exactly takes 1077 characters at most. */
#define NUMBER_TEXT 1100

typedef struct {
    bool is_negative, is_integer, is_exact; /* is_exact: digits has all of them */
    uint64_t digits;                        /* without point */
    int64_t exponent;                       /* the number is digits * 10^exponent */
} decimal;

static size_t count_digits(const reader *r, size_t at)
{
    size_t from = at;
    while (at < r->length && r->text[at] >= '0' && r->text[at] <= '9')
        at++;
    return at - from;
}

static void add_digits(decimal *d, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t digits;
        if (__builtin_mul_overflow(d->digits, (uint64_t)10, &digits) ||
            __builtin_add_overflow(digits, (uint64_t)(text[i] - '0'), &digits)) {
            d->is_exact = false;
            return;
        }
        d->digits = digits;
    }
}

/* Finds the end of a number; false when it is none. */
static bool scan_number(reader *r, decimal *d)
{
    *d = (decimal){.is_negative = next_is(r, '-'), .is_integer = true, .is_exact = true};
    size_t whole = count_digits(r, r->at);
    if (whole == 0) return false;
    if (r->text[r->at] == '0') whole = 1; /* what follows a leading zero is not of the number */
    add_digits(d, r->text + r->at, whole);
    r->at += whole;
    if (next_is(r, '.')) {
        size_t fraction = count_digits(r, r->at);
        if (fraction == 0) return false;
        add_digits(d, r->text + r->at, fraction);
        r->at += fraction;
        d->exponent = -(int64_t)fraction;
        d->is_integer = false;
    }
    if (next_is(r, 'e') || next_is(r, 'E')) {
        bool is_negative = next_is(r, '-');
        if (!is_negative) next_is(r, '+');
        size_t count = count_digits(r, r->at);
        if (count == 0) return false;
        decimal e = {.is_exact = true};
        add_digits(&e, r->text + r->at, count);
        r->at += count;
        int64_t exponent = e.is_exact && e.digits < 100000 ? (int64_t)e.digits : 100000;
        d->exponent += is_negative ? -exponent : exponent;
        d->is_integer = false;
    }
    return true;
}

static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* What a double holds exactly, times or by a power of ten that it holds exactly, is rounded once and so
 * rounded right (Clinger 1990). All else is strtod's, in a locale that has a point. */
static axon_status read_real(reader *r, const decimal *d, const char *text, size_t length, double *real)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (FLT_EVAL_METHOD == 0 && d->is_exact && d->digits <= 1ull << 53 && d->exponent >= -22 &&
        d->exponent <= 22) {
        double digits = (double)d->digits;
        *real = d->exponent < 0 ? digits / powers[-d->exponent] : digits * powers[d->exponent];
        if (d->is_negative) *real = -*real;
        return AXON_OK;
    }
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    if (!c_locale) return axi_no_memory(r->err, length);
    char copy[NUMBER_TEXT + 1];
    memcpy(copy, text, length);
    copy[length] = 0;
    *real = strtod_l(copy, NULL, c_locale);
    return isfinite(*real) ? AXON_OK : broken(r, r->at - length, "a number that no double holds");
}

static axon_status read_number(reader *r)
{
    size_t from = r->at;
    decimal d;
    axon_value value = {.type = AXON_INT};
    if (!scan_number(r, &d)) return unexpected(r, "a digit");
    if (r->at - from > NUMBER_TEXT) return broken(r, from, "a number of more than 1100 characters");
    bool fits = d.is_integer && d.is_exact && (!d.is_negative || d.digits <= 1ull << 63);
    axon_status status = AXON_OK;
    if (fits) {
        value.as.natural = d.is_negative ? 0 - d.digits : d.digits;
        if (!d.is_negative && d.digits > INT64_MAX) value.type = AXON_UINT;
    } else {
        value.type = AXON_FLOAT;
        status = read_real(r, &d, r->text + from, r->at - from, &value.as.real);
    }
    return status == AXON_OK ? push(r, &value) : status;
}

/* ---- lists and objects --------------------------------------------------------------------- */

static axon_status read_word(reader *r)
{
    static const struct {
        const char *word;
        axon_value value;
    } words[] = {{"null", {.type = AXON_NIL}},
                 {"true", {.type = AXON_BOOL, .as.integer = 1}},
                 {"false", {.type = AXON_BOOL}}};
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i].word);
        if (r->length - r->at >= length && memcmp(r->text + r->at, words[i].word, length) == 0) {
            r->at += length;
            return push(r, &words[i].value);
        }
    }
    return unexpected(r, "a value");
}

/* Moves the values above `from` into a container of their own. */
static axon_status close_container(reader *r, axon_type type, size_t from)
{
    axon_value container = {.type = (uint8_t)type};
    size_t count = r->count - from;
    if (!r->is_building) return AXON_OK;
    if (count > 0) {
        axon_status status = axi_value_reserve(&container, (uint32_t)count, r->err);
        if (status != AXON_OK) return status;
        memcpy(container.as.children.items, r->stack + from, count * sizeof container);
        container.as.children.count = (uint32_t)count;
        r->count = from;
    }
    axon_status status = push(r, &container);
    if (status != AXON_OK) axi_value_clear(&container);
    return status;
}

static axon_status read_value(reader *r, int depth);

static axon_status read_key(reader *r, slice *key)
{
    skip_space(r);
    axon_status status = read_slice(r, key, "a key");
    if (status != AXON_OK) return status;
    if (key->length > UINT32_MAX) return broken(r, r->at, "a key of more than 4 GiB");
    skip_space(r);
    return next_is(r, ':') ? AXON_OK : unexpected(r, "':'");
}

static axon_status read_member(reader *r, int depth)
{
    slice key;
    axon_status status = read_key(r, &key);
    if (status == AXON_OK) status = read_value(r, depth);
    if (status != AXON_OK || !r->is_building) return status;
    if (key.has_escapes) resolve_escapes(&key);
    axon_value *value = &r->stack[r->count - 1];
    value->key = key.text;
    value->key_length = (uint32_t)key.length;
    return AXON_OK;
}

static axon_status read_container(reader *r, char closing, int depth)
{
    bool is_object = closing == '}';
    size_t from = r->count;
    if (depth > AXON_MAX_DEPTH) return broken(r, r->at, "nesting deeper than 32 levels (AXON_MAX_DEPTH)");
    r->at++;
    skip_space(r);
    if (!next_is(r, closing)) {
        for (;;) {
            axon_status status = is_object ? read_member(r, depth) : read_value(r, depth);
            if (status != AXON_OK) return status;
            skip_space(r);
            if (next_is(r, closing)) break;
            if (!next_is(r, ',')) return unexpected(r, is_object ? "',' or '}'" : "',' or ']'");
        }
    }
    return close_container(r, is_object ? AXON_MAP : AXON_LIST, from);
}

static axon_status read_value(reader *r, int depth)
{
    skip_space(r);
    switch (r->at < r->length ? r->text[r->at] : 0) {
    case '{':
        return read_container(r, '}', depth + 1);
    case '[':
        return read_container(r, ']', depth + 1);
    case '"':
        return read_string(r);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return read_number(r);
    default:
        return read_word(r);
    }
}

static axon_status read_end(reader *r)
{
    skip_space(r);
    return r->at == r->length ? AXON_OK : unexpected(r, "the end");
}

/* Some servers begin their text with a mark that it is UTF-8. */
static void skip_mark(reader *r)
{
    if (r->length >= 3 && memcmp(r->text, "\xef\xbb\xbf", 3) == 0) r->at = 3;
}

axon_status axi_json_read(char *text, size_t length, const char *subject, axon_value **value,
                          axon_error *err)
{
    reader r = {.text = text, .length = length, .is_building = true, .subject = subject, .err = err};
    skip_mark(&r);
    axon_status status = read_value(&r, 0);
    if (status == AXON_OK) status = read_end(&r);
    axon_value *root = status == AXON_OK ? axi_value_root(&r.stack[0], text) : NULL;
    if (status == AXON_OK && !root) status = axi_no_memory(err, sizeof *r.stack);
    if (!root) {
        while (r.count > 0)
            axi_value_clear(&r.stack[--r.count]);
        free(text);
    }
    free(r.stack);
    if (status == AXON_OK) *value = root;
    return status;
}

axon_status axon_value_from_json(const char *text, size_t length, axon_value **value, axon_error *err)
{
    if (!value || (!text && length))
        return axi_fail(err, AXON_EINVAL, "JSON text: %s is NULL", value ? "text" : "value");
    char *copy = malloc(length ? length : 1);
    if (!copy) return axi_no_memory(err, length);
    if (length) memcpy(copy, text, length);
    return axi_json_read(copy, length, "value", value, err);
}

/* Checks one object to its end, noting where the member named `key` is. */
static axon_status find_member(reader *r, const char *key, slice *member)
{
    if (!next_is(r, '{')) return unexpected(r, "'{'");
    skip_space(r);
    if (next_is(r, '}')) return AXON_OK;
    do {
        slice name;
        axon_status status = read_key(r, &name);
        if (status != AXON_OK) return status;
        skip_space(r);
        size_t from = r->at;
        status = read_value(r, 1);
        if (status != AXON_OK) return status;
        if (slice_is(&name, key)) *member = (slice){.text = r->text + from, .length = r->at - from};
        skip_space(r);
    } while (next_is(r, ','));
    return next_is(r, '}') ? AXON_OK : unexpected(r, "',' or '}'");
}

axon_status axi_json_member(const char *text, size_t length, const char *key, const char **member,
                            size_t *member_length, const char *subject, axon_error *err)
{
    /* nothing is written to the text unless a tree is built */
    reader r = {.text = (char *)(uintptr_t)text, .length = length, .subject = subject, .err = err};
    slice found = {0};
    skip_mark(&r);
    skip_space(&r);
    axon_status status = find_member(&r, key, &found);
    if (status == AXON_OK) status = read_end(&r);
    if (status != AXON_OK) return status;
    if (!found.text)
        return axi_fail(err, AXON_EPROTOCOL, "%s: the JSON text has no member \"%s\"", subject, key);
    *member = found.text;
    *member_length = found.length;
    return AXON_OK;
}

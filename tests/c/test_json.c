/* JSON: bodies in pieces, text as it is read and written, and what is no JSON. */
#include "json.h"

#include "base64.h"
#include "checks.h"

#include <locale.h>

/* ---- reading ------------------------------------------------------------------------------- */

static axon_value *parse(const char *text)
{
    axon_error err;
    axon_value *value = NULL;
    if (axon_value_from_json(text, strlen(text), &value, &err) != AXON_OK)
        fail_msg("%s: %s", text, err.message);
    return value;
}

static char *print(const axon_value *value)
{
    axon_error err;
    char *text = NULL;
    size_t length = 0;
    assert_ok(axon_value_to_json(value, &text, &length, &err), &err);
    assert_int_equal(strlen(text), length);
    return text;
}

static void text_is_written_again_in_one_form(void **state)
{
    (void)state;
    static const struct {
        const char *text, *again; /* NULL: the same */
    } rows[] = {
        {"null", NULL},
        {"[true,false,null]", NULL},
        {" { \"a\" : [ 1 , 2 ] , \"b\":\t{}\r\n } ", "{\"a\":[1,2],\"b\":{}}"},
        {"[]", NULL},
        {"\"\"", NULL},
        {"\"a\\u0000b\"", NULL},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u001f\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\""},
        {"\"\\u00fc\\uD83E\\uDD16\"", "\"\u00fc\U0001f916\""},
        {"{\"\\u006bey\":1,\"k\\\"\":2}", "{\"key\":1,\"k\\\"\":2}"},
        {"\xef\xbb\xbf[1]", "[1]"},
        {"[0,-0,1,-1,9007199254740993,9223372036854775807,-9223372036854775808]",
         "[0,0,1,-1,9007199254740993,9223372036854775807,-9223372036854775808]"},
        {"[9223372036854775808,18446744073709551615]", NULL},
        {"[18446744073709551616,-9223372036854775809]", "[1.8446744073709552e+19,-9.223372036854776e+18]"},
        {"[0.1,0.30000000000000004,-0.0,1.0,100.0,1e+22,1e+23,1.7976931348623157e+308,2.2250738585072014e-"
         "308]",
         NULL},
        {"[1e0,1E2,1e-2,12.5e+1,0e99999999999999999999,1e-400]", "[1.0,100.0,0.01,125.0,0.0,0.0]"},
        {"[3.141592653589793238462643383279502884197]", "[3.141592653589793]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_value *value = parse(rows[i].text);
        char *again = print(value);
        assert_string_equal(again, rows[i].again ? rows[i].again : rows[i].text);
        axon_free(again);
        axon_value_free(value);
    }
}

static void numbers_have_the_type_that_holds_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        axon_type type;
    } rows[] = {{"1", AXON_INT},
                {"1.0", AXON_FLOAT},
                {"1e0", AXON_FLOAT},
                {"-9223372036854775808", AXON_INT},
                {"-9223372036854775809", AXON_FLOAT},
                {"9223372036854775808", AXON_UINT},
                {"18446744073709551616", AXON_FLOAT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_value *value = parse(rows[i].text);
        assert_int_equal(axon_value_type(value), rows[i].type);
        axon_value_free(value);
    }
}

static void doubles_are_read_as_strtod_reads_them(void **state)
{
    (void)state;
    srand(11);
    for (int i = 0; i < 20000; i++) {
        char text[64];
        double read = 0;
        snprintf(text, sizeof text, "%s%d.%0*de%d", rand() % 2 ? "-" : "", rand() % 1000000,
                 1 + rand() % 15, rand(), rand() % 80 - 40);
        axon_value *value = parse(text);
        assert_int_equal(axon_value_as_float(value, &read), AXON_OK);
        if (read != strtod(text, NULL)) fail_msg("%s: %.17g", text, read);
        axon_value_free(value);
    }
}

static void every_double_survives_printing(void **state)
{
    (void)state;
    srand(5);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
        double number, read = 0;
        memcpy(&number, &bits, sizeof number);
        if (!isfinite(number)) continue;
        axon_value *value = axon_value_float(number);
        char *text = print(value);
        axon_value *back = parse(text);
        assert_int_equal(axon_value_as_float(back, &read), AXON_OK);
        if (read != number) fail_msg("%s", text);
        axon_free(text);
        axon_value_free(value);
        axon_value_free(back);
    }
}

/* A locale that writes 1,5, made here since few machines have one installed. */
static void enter_comma_locale(char *folder)
{
    char path[64], command[256];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/source", folder);
    FILE *source = fopen(path, "w");
    assert_non_null(source);
    fputs("LC_NUMERIC\ndecimal_point \",\"\nthousands_sep \"\"\ngrouping -1\nEND LC_NUMERIC\n", source);
    fclose(source);
    snprintf(command, sizeof command, "localedef -c -i %s --no-archive %s/xx_XX >/dev/null 2>&1", path,
             folder);
    if (system(command) == -1) fail_msg("%s", command); /* it warns of what is missing, with status 1 */
    setenv("LOCPATH", folder, 1);
    if (!setlocale(LC_NUMERIC, "xx_XX")) fail_msg("localedef made no locale in %s", folder);
}

static void leave_comma_locale(const char *folder)
{
    char command[64];
    setlocale(LC_NUMERIC, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command) != 0) fail_msg("%s", command);
}

static void the_locale_does_not_matter(void **state)
{
    (void)state;
    char folder[] = "/tmp/axon-locale-XXXXXX", native[16];
    enter_comma_locale(folder);
    snprintf(native, sizeof native, "%g", 1.5);
    axon_value *value = parse("[1.5,3.141592653589793238462643383279502884197,2.0]");
    char *text = print(value);
    leave_comma_locale(folder);
    assert_string_equal(native, "1,5");
    assert_string_equal(text, "[1.5,3.141592653589793,2.0]");
    axon_free(text);
    axon_value_free(value);
}

static void what_is_no_json_is_refused_by_its_offset(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"", "ends after 0 bytes where a value should be"},
        {"  ", "ends after 2 bytes where a value should be"},
        {"[1] x", "'x' at byte 4"},
        {"[1][2]", "'[' at byte 3 of the JSON text where the end should be"},
        {"[1,]", "']' at byte 3 of the JSON text where a value should be"},
        {"[,1]", "',' at byte 1"},
        {"[1 2]", "'2' at byte 3 of the JSON text where ',' or ']' should be"},
        {"[1}", "'}' at byte 2"},
        {"{\"a\":1", "ends after 6 bytes where ',' or '}' should be"},
        {"{\"a\" 1}", "'1' at byte 5 of the JSON text where ':' should be"},
        {"{\"a\":}", "'}' at byte 5 of the JSON text where a value should be"},
        {"{\"a\":1,}", "'}' at byte 7 of the JSON text where a key should be"},
        {"{1:2}", "'1' at byte 1 of the JSON text where a key should be"},
        {"{a:2}", "where a key should be"},
        {"['a']", "where a value should be"},
        {"[01]", "'1' at byte 2"},
        {"[-]", "']' at byte 2 of the JSON text where a digit should be"},
        {"[+1]", "'+' at byte 1"},
        {"[.5]", "'.' at byte 1"},
        {"[1.]", "']' at byte 3 of the JSON text where a digit should be"},
        {"[1e]", "where a digit should be"},
        {"[1e+]", "where a digit should be"},
        {"[0x10]", "'x' at byte 2"},
        {"[NaN]", "'N' at byte 1"},
        {"[Infinity]", "'I' at byte 1"},
        {"[nul]", "'n' at byte 1"},
        {"[truex]", "'x' at byte 5"},
        {"[1e999]", "a number that no double holds at byte 1"},
        {"[\"abc", "ends after 5 bytes where the end of a string should be"},
        {"[\"abc\\", "an escape that is none at byte 5"},
        {"[\"\\x\"]", "an escape that is none at byte 2"},
        {"[\"\\u12g4\"]", "an escape that is none at byte 2"},
        {"[\"\\u123", "an escape that is none at byte 2"},
        {"[\"\\ud800\"]", "an escape that is none at byte 2"},
        {"[\"\\ud800\\u0041\"]", "an escape that is none at byte 2"},
        {"[\"\\udc00\"]", "an escape that is none at byte 2"},
        {"[\"a\nb\"]", "a control character inside a string at byte 3"},
        {"[\"a\tb\"]", "a control character inside a string at byte 3"},
        {"[\"\xff\"]", "text that is not UTF-8 at byte 2"},
        {"[\"\xc3\"]", "text that is not UTF-8 at byte 2"},
        {"[1]\f", "at byte 3"},
        {"\xef\xbb[1]", "at byte 0"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]",
         "nesting deeper than 32 levels (AXON_MAX_DEPTH) at byte 32"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        axon_value *value = NULL;
        assert_fails(axon_value_from_json(rows[i].text, strlen(rows[i].text), &value, &err), AXON_EPROTOCOL,
                     &err, rows[i].words);
        assert_null(value);
    }
}

static void zero_bytes_do_not_end_the_text(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value = NULL;
    assert_fails(axon_value_from_json("[1]\0", 4, &value, &err), AXON_EPROTOCOL, &err, "byte 3");
    assert_fails(axon_value_from_json("[\"a\0\"]", 6, &value, &err), AXON_EPROTOCOL, &err,
                 "control character");
    assert_fails(axon_value_from_json("\0", 1, &value, &err), AXON_EPROTOCOL, &err, "byte 0");
}

static void a_number_without_end_is_refused(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value = NULL;
    char text[4000];
    memset(text, '1', sizeof text);
    assert_fails(axon_value_from_json(text, sizeof text, &value, &err), AXON_EPROTOCOL, &err,
                 "a number of more than 1100 characters");
}

static void the_last_of_two_equal_keys_counts(void **state)
{
    (void)state;
    int64_t number = 0;
    axon_value *value = parse("{\"a\":1,\"b\":0,\"\\u0061\":2}");
    assert_int_equal(axon_value_as_int(axon_value_get(value, "a"), &number), AXON_OK);
    assert_int_equal(number, 2);
    axon_value_free(value);
}

static void strings_stay_in_the_text_that_was_read(void **state)
{
    (void)state;
    static const char head[] = "{\"depth\":\"", tail[] = "\"}";
    size_t image = 100000, length = sizeof head - 1 + image + sizeof tail - 1;
    char *text = malloc(length), *begin = text + sizeof head - 1;
    memcpy(text, head, sizeof head - 1);
    memset(begin, 'A', image);
    memcpy(begin + image, tail, sizeof tail - 1);
    axon_error err;
    axon_value *value = NULL;
    const char *read = NULL;
    size_t read_length = 0;
    assert_ok(axi_json_read(text, length, "reply", &value, &err), &err);
    assert_int_equal(axon_value_as_string(axon_value_get(value, "depth"), &read, &read_length), AXON_OK);
    assert_ptr_equal(read, begin);
    assert_int_equal(read_length, image);
    axon_value_free(value);
}

static void a_number_may_end_the_text(void **state)
{
    (void)state; /* nothing behind it is looked at: an allocation of exactly that size */
    static const char *const numbers[] = {"12", "-1.5", "3.14159265358979323846264338", "1e5", "true"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        axon_error err;
        axon_value *value = NULL;
        size_t length = strlen(numbers[i]);
        char *text = malloc(length);
        memcpy(text, numbers[i], length);
        assert_ok(axi_json_read(text, length, "reply", &value, &err), &err);
        axon_value_free(value);
    }
}

static void too_many_values_are_refused(void **state)
{
    (void)state;
    size_t length = 2 * ((8u << 20) + 1) + 1;
    char *text = malloc(length);
    axon_error err;
    axon_value *value = NULL;
    for (size_t i = 0; i < length; i++)
        text[i] = i % 2 ? '1' : ',';
    text[0] = '[';
    text[length - 1] = ']';
    assert_fails(axi_json_read(text, length, "reply", &value, &err), AXON_ETOOBIG, &err,
                 "more than 8388608 values");
}

/* ---- members ------------------------------------------------------------------------------- */

static void a_member_is_found_without_reading_the_others(void **state)
{
    (void)state;
    static const char text[] =
        " {\"n\":{\"detections\":0}, \"detections\" : [{\"a\":\"]}\\\"\"}, 1 ] ,\"x\":1.5}\n";
    static const struct {
        const char *key, *member;
    } rows[] = {{"detections", "[{\"a\":\"]}\\\"\"}, 1 ]"}, {"x", "1.5"}, {"n", "{\"detections\":0}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        const char *member;
        size_t length;
        assert_ok(axi_json_member(text, sizeof text - 1, rows[i].key, &member, &length, "reply", &err),
                  &err);
        assert_int_equal(length, strlen(rows[i].member));
        assert_memory_equal(member, rows[i].member, length);
    }
}

static void escapes_in_keys_are_understood(void **state)
{
    (void)state;
    static const char text[] = "{\"\\u0078\\u00fc\\n\":1,\"x\\u00fc\":2}";
    axon_error err;
    const char *member;
    size_t length;
    assert_ok(axi_json_member(text, sizeof text - 1, "x\u00fc\n", &member, &length, "reply", &err), &err);
    assert_memory_equal(member, "1", 1);
    assert_ok(axi_json_member(text, sizeof text - 1, "x\u00fc", &member, &length, "reply", &err), &err);
    assert_memory_equal(member, "2", 1);
}

static void a_member_that_is_not_there_is_said_so(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"{}", "reply: the JSON text has no member \"detections\""},
        {"{\"detection\":1,\"detections2\":2}", "no member"},
        {"[1]", "'[' at byte 0 of the JSON text where '{' should be"},
        {"", "where '{' should be"},
        {"{\"detections\":1", "where ',' or '}' should be"},
        {"{\"detections\":1} x", "'x' at byte 17"},
        {"{\"detections\":[1,{]}", "where a key should be"},
        {"{\"detections\":1,\"a\":\"\\q\"}", "an escape that is none"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "nesting deeper"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        const char *member;
        size_t length;
        assert_fails(axi_json_member(rows[i].text, strlen(rows[i].text), "detections", &member, &length,
                                     "reply", &err),
                     AXON_EPROTOCOL, &err, rows[i].words);
    }
}

/* ---- bodies -------------------------------------------------------------------------------- */

/* The body as it is sent. */
static char *sent(const axi_body *body)
{
    char *text = malloc((size_t)body->length + 1), *at = text;
    for (size_t i = 0; i < body->count; i++) {
        const axi_body_part *part = &body->parts[i];
        if (part->base64)
            axi_base64_encode(at, part->data, part->length);
        else
            memcpy(at, part->data, part->length);
        at += part->base64 ? axi_base64_length(part->length) : part->length;
    }
    *at = 0;
    assert_int_equal(at - text, body->length);
    return text;
}

static void assert_body(axon_value *tree, const char *wanted)
{
    axon_error err;
    axi_body body = {0};
    assert_ok(axi_json_write(&body, tree, "/detect", &err), &err);
    char *text = sent(&body);
    assert_string_equal(text, wanted);
    free(text);
    axi_body_free(&body);
    axon_value_free(tree);
}

static void a_body_is_written_in_order(void **state)
{
    (void)state;
    axon_value *body = axon_value_map(), *prompts = axon_value_list();
    axon_value_append(prompts, axon_value_string("a \"cup\"", AXON_ZSTRING));
    axon_value_append(prompts, axon_value_string("Gr\u00fc\u00dfe\n", AXON_ZSTRING));
    axon_value_set(body, "model", axon_value_string("yolov8n", AXON_ZSTRING));
    axon_value_set(body, "conf", axon_value_float(0.25));
    axon_value_set(body, "num", axon_value_int(-3));
    axon_value_set(body, "big", axon_value_uint(UINT64_MAX));
    axon_value_set(body, "masks", axon_value_bool(1));
    axon_value_set(body, "goal", axon_value_nil());
    axon_value_set(body, "prompts", prompts);
    axon_value_set(body, "extra", axon_value_json("{\"k\": [1, 2]}", AXON_ZSTRING));
    axon_value_set(body, "png", axon_value_bytes("\x89PNG", 4));
    axon_value_set(body, "none", axon_value_bytes(NULL, 0));
    assert_body(
        body, "{\"model\":\"yolov8n\",\"conf\":0.25,\"num\":-3,\"big\":18446744073709551615,\"masks\":true,"
              "\"goal\":null,\"prompts\":[\"a \\\"cup\\\"\",\"Gr\u00fc\u00dfe\\n\"],"
              "\"extra\":{\"k\": [1, 2]},\"png\":\"iVBORw==\",\"none\":\"\"}");
}

static void small_arrays_become_nested_lists(void **state)
{
    (void)state;
    static const float n[] = {1, 0.1f, -2.5f, 3};
    static const uint8_t yes[] = {1, 0};
    static const uint16_t half = 0x2e66;
    static const uint32_t text[] = {'a', 0, 0x4e16, '"'};
    axon_value *body = axon_value_map();
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = 2, .shape = {2, 2}, .data = n};
    axon_value_set(body, "m", axon_value_array(&array));
    array.strides[0] = 4;
    array.strides[1] = 8;
    axon_value_set(body, "t", axon_value_array(&array));
    array = (axon_array){.dtype = AXON_BOOL8, .ndim = 1, .shape = {2}, .data = yes};
    axon_value_set(body, "b", axon_value_array(&array));
    array = (axon_array){.dtype = AXON_FLOAT16, .data = &half};
    axon_value_set(body, "h", axon_value_array(&array));
    array = (axon_array){.dtype = AXON_INT16, .ndim = 2, .shape = {2, 0}};
    axon_value_set(body, "e", axon_value_array(&array));
    array = (axon_array){.dtype = AXON_FIXED_TEXT, .itemsize = 8, .ndim = 1, .shape = {2}, .data = text};
    axon_value_set(body, "s", axon_value_array(&array));
    array =
        (axon_array){.dtype = AXON_FIXED_BYTES, .itemsize = 3, .ndim = 1, .shape = {2}, .data = "a\0\0bcd"};
    axon_value_set(body, "y", axon_value_array(&array));
    axon_value_set(body, "n", axon_value_scalar(AXON_FLOAT32, n + 1));
    assert_body(
        body,
        "{\"m\":[[1.0,0.1],[-2.5,3.0]],\"t\":[[1.0,-2.5],[0.1,3.0]],\"b\":[true,false],\"h\":0.099975586,"
        "\"e\":[[],[]],\"s\":[\"a\",\"\u4e16\\\"\"],\"y\":[\"YQ==\",\"YmNk\"],\"n\":0.1}");
}

static void long_leaves_stay_where_they_are(void **state)
{
    (void)state;
    static uint8_t image[3000];
    static char text[5000], escaped[4000];
    memset(text, 'x', sizeof text);
    memset(escaped, 'y', sizeof escaped);
    escaped[2000] = '"';
    axon_error err;
    axi_body body = {0};
    axon_value *tree = axon_value_list();
    axon_value_append(tree, axon_value_bytes(image, sizeof image));
    axon_value_append(tree, axon_value_string(text, sizeof text));
    axon_value_append(tree, axon_value_string(escaped, sizeof escaped));
    assert_ok(axi_json_write(&body, tree, "/detect", &err), &err);
    assert_int_equal(body.count, 9);
    assert_ptr_equal(body.parts[1].data, image);
    assert_true(body.parts[1].base64);
    assert_ptr_equal(body.parts[3].data, text);
    assert_ptr_equal(body.parts[5].data, escaped);
    assert_ptr_equal(body.parts[7].data, escaped + 2001);
    axi_body_free(&body);
    assert_null(body.parts);
    axon_value_free(tree);
}

static void what_json_cannot_carry_is_refused_with_its_place(void **state)
{
    (void)state;
    static const double numbers[] = {1, (double)NAN};
    static const uint32_t no_text[] = {0x110000};
    const axon_array with_nan = {.dtype = AXON_FLOAT64, .ndim = 1, .shape = {2}, .data = numbers},
                     large = {.dtype = AXON_FLOAT64,
                              .ndim = 2,
                              .shape = {1 << 10, (1 << 10) + 1},
                              .data = numbers},
                     lists = {.dtype = AXON_FLOAT64, .ndim = 2, .shape = {1ll << 40, 0}},
                     negative = {.dtype = AXON_FLOAT64, .ndim = 1, .shape = {-1}},
                     text = {.dtype = AXON_FIXED_TEXT, .itemsize = 4, .data = no_text};
    const struct {
        axon_value *value;
        const char *words;
    } rows[] = {
        {axon_value_float((double)NAN), "/detect \"pose[1]\": NaN, which JSON does not know"},
        {axon_value_float(-(double)INFINITY), "/detect \"pose[1]\": infinity"},
        {axon_value_array(&with_nan), "NaN"},
        {axon_value_array(&large), "an array of more than 1048576 elements"},
        {axon_value_array(&lists), "an array of more than 1048576 elements"},
        {axon_value_array(&negative), "shape[0] is -1"},
        {axon_value_array(&text), "text that is not Unicode"},
        {axon_value_string("\xff", 1), "text that is not UTF-8"},
        {axon_value_string(NULL, 1), "the text is NULL"},
        {axon_value_bytes(NULL, 1), "the bytes are NULL"},
        {axon_value_json("", 0), "the JSON text is empty"},
        {axon_value_json(NULL, 0), "the JSON text is empty"},
        {axon_value_image(NULL), "the image is NULL"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        axi_body body = {0};
        axon_value *list = axon_value_list(), *tree = axon_value_map();
        axon_value_append(list, axon_value_int(0));
        axon_value_append(list, rows[i].value);
        axon_value_set(tree, "pose", list);
        assert_fails(axi_json_write(&body, tree, "/detect", &err), AXON_EINVAL, &err, rows[i].words);
        assert_null(body.parts);
        axon_value_free(tree);
    }
}

static void a_key_of_bytes_is_refused_in_a_body_and_printed_otherwise(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value = NULL;
    axi_body body = {0};
    assert_ok(axon_value_from_msgpack("\x81\xc4\1a\1", 5, &value, &err), &err);
    assert_fails(axi_json_write(&body, value, "/detect", &err), AXON_EINVAL, &err, "\"a\": a key of bytes");
    char *text = print(value);
    assert_string_equal(text, "{\"a\":1}");
    axon_free(text);
    axon_value_free(value);
}

static void numbers_that_json_does_not_know_are_printed_as_null(void **state)
{
    (void)state;
    static const float n[] = {1.5f, (float)NAN, (float)INFINITY};
    const axon_array array = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {3}, .data = n};
    axon_value *value = axon_value_list();
    axon_value_append(value, axon_value_array(&array));
    axon_value_append(value, axon_value_float((double)NAN));
    char *text = print(value);
    assert_string_equal(text, "[[1.5,null,null],null]");
    axon_free(text);
    axon_value_free(value);
}

static void nothing_is_printed_as_null(void **state)
{
    (void)state;
    char *text = print(NULL);
    assert_string_equal(text, "null");
    axon_free(text);
}

static void a_picture_goes_out_as_base64(void **state)
{
    (void)state;
    static const uint8_t grey[12];
    const axon_array pixels = {.dtype = AXON_UINT8, .ndim = 2, .shape = {3, 4}, .data = grey};
    static const char gif[] = "R0lGODlhAQABAAAAACw=";
    axon_error err;
    axon_image *drawn = NULL, *encoded = NULL;
    assert_ok(axon_image_open_pixels(&pixels, AXON_COLOR_DEFAULT, &drawn, &err), &err);
    assert_ok(axon_image_open_base64(gif, AXON_ZSTRING, &encoded, &err), &err);
    axi_body body = {0};
    axon_value *tree = axon_value_map();
    axon_value_set(tree, "image", axon_value_image(drawn));
    axon_value_set(tree, "gif", axon_value_image(encoded));
    assert_ok(axi_json_write(&body, tree, "/detect", &err), &err);
    char *text = sent(&body);
    if (!strstr(text, "{\"image\":\"iVBORw0KGgo")) fail_msg("%s", text); /* a PNG */
    if (!strstr(text, "\"gif\":\"R0lGODlhAQABAAAAACw=\"}")) fail_msg("%s", text);
    free(text);
    axi_body_free(&body);
    axon_value_free(tree);
    axon_image_close(drawn);
    axon_image_close(encoded);
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value;
    assert_fails(axon_value_to_json(NULL, NULL, NULL, &err), AXON_EINVAL, &err, "text is NULL");
    assert_fails(axon_value_from_json("1", 1, NULL, &err), AXON_EINVAL, &err, "value is NULL");
    assert_fails(axon_value_from_json(NULL, 1, &value, &err), AXON_EINVAL, &err, "text is NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_written_again_in_one_form),
        cmocka_unit_test(numbers_have_the_type_that_holds_them),
        cmocka_unit_test(doubles_are_read_as_strtod_reads_them),
        cmocka_unit_test(every_double_survives_printing),
        cmocka_unit_test(the_locale_does_not_matter),
        cmocka_unit_test(what_is_no_json_is_refused_by_its_offset),
        cmocka_unit_test(zero_bytes_do_not_end_the_text),
        cmocka_unit_test(a_number_without_end_is_refused),
        cmocka_unit_test(the_last_of_two_equal_keys_counts),
        cmocka_unit_test(strings_stay_in_the_text_that_was_read),
        cmocka_unit_test(a_number_may_end_the_text),
        cmocka_unit_test(too_many_values_are_refused),
        cmocka_unit_test(a_member_is_found_without_reading_the_others),
        cmocka_unit_test(escapes_in_keys_are_understood),
        cmocka_unit_test(a_member_that_is_not_there_is_said_so),
        cmocka_unit_test(a_body_is_written_in_order),
        cmocka_unit_test(small_arrays_become_nested_lists),
        cmocka_unit_test(long_leaves_stay_where_they_are),
        cmocka_unit_test(what_json_cannot_carry_is_refused_with_its_place),
        cmocka_unit_test(a_key_of_bytes_is_refused_in_a_body_and_printed_otherwise),
        cmocka_unit_test(numbers_that_json_does_not_know_are_printed_as_null),
        cmocka_unit_test(nothing_is_printed_as_null),
        cmocka_unit_test(a_picture_goes_out_as_base64),
        cmocka_unit_test(wrong_arguments_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

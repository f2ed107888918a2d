/* axon - ask a service how it is, or a policy server for actions, from the shell.
 *
 * Stands on the public headers alone, as any program would.
 */
#include <axon/policy.h>
#include <axon/service.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DONE = 0, PEER_FAILED = 1, MISUSED = 2 };

static const char general_help[] =
    "axon - talk to policy servers and perception services\n"
    "\n"
    "usage: axon health URL [options]               ask whether it is well\n"
    "       axon infer URL KEY=VALUE... [options]   send one observation, print the actions\n"
    "       axon COMMAND --help | --help | --version\n"
    "\n"
    "Exit status: 0 done, 1 the peer failed or could not be reached, 2 the command or its input is "
    "wrong.\n";

static const char health_help[] =
    "usage: axon health URL [options]\n"
    "\n"
    "  URL             http:// or https://: a service; its GET /health is printed\n"
    "                  ws://, wss:// or HOST[:PORT]: a policy server; its GET /healthz is printed\n"
    "  --api-key KEY   sent to a service as \"Authorization: Bearer KEY\"\n"
    "  --timeout S     seconds for the whole call; default 60\n"
    "  --json          print the reply as one line of JSON\n"
    "  --verbose       print what happens on the way, to standard error\n";

static const char infer_help[] =
    "usage: axon infer URL KEY=VALUE... [options]\n"
    "\n"
    "  URL             ws://HOST:PORT, wss://HOST or HOST[:PORT]\n"
    "  KEY=@FILE       a JPEG or PNG, as a uint8 array (height, width, 3), RGB\n"
    "  KEY=0,0.5,1     a float32 array; a comma at the end makes one of a single number: KEY=1,\n"
    "  KEY=3 KEY=0.5   an integer, a float\n"
    "  KEY=true        a bool, as KEY=false\n"
    "  KEY=TEXT        a string, when it is none of these\n"
    "  KEY:=JSON       whatever the JSON says: KEY:='\"3\"' is a string, KEY:='{\"a\": [1, 2]}' a map\n"
    "  --api-key KEY   sent as \"Authorization: Api-Key KEY\"\n"
    "  --timeout S     seconds, for connecting and for the answer each; default 10 and 60\n"
    "  --json          print the reply as one line of JSON\n"
    "  --verbose       print the server's metadata, what is sent, and what happens on the way\n";

typedef struct settings {
    const char *api_key;
    uint32_t timeout_ms; /* 0: the library's defaults */
    bool json;
    bool verbose;
} settings;

/* An observation, and the memory that its arrays borrow. */
typedef struct observation {
    axon_value *map;
    void **memory; /* room for one per argument */
    size_t count;
} observation;

/* ---- failing ------------------------------------------------------------------------------- */

/* A message is one line, whatever a peer put into it. */
static int fail(int exit_code, const char *message)
{
    fputs("axon: ", stderr);
    for (const char *c = message; *c; c++)
        fputc(*c == '\n' ? ' ' : *c, stderr);
    fputc('\n', stderr);
    return exit_code;
}

static int fail_with(const axon_error *err)
{
    bool input_is_wrong = err->code == AXON_EINVAL || err->code == AXON_EIO;
    return fail(input_is_wrong ? MISUSED : PEER_FAILED, err->message);
}

static int misused(const char *about, const char *what)
{
    fprintf(stderr, "axon: %s: %s (axon --help)\n", about, what);
    return MISUSED;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void log_line(axon_log_level level, const char *text, void *user)
{
    (void)level, (void)user;
    fprintf(stderr, "axon: %s\n", text);
}

/* ---- printing ------------------------------------------------------------------------------ */

enum { ROWS_SHOWN = 3, COLUMNS_SHOWN = 10, TEXT_SHOWN = 300 };

static const char *const dtype_names[] = {
    "?",      "bool",   "int8",    "int16",   "int32",   "int64", "uint8", "uint16",
    "uint32", "uint64", "float16", "float32", "float64", "text",  "bytes",
};
_Static_assert(sizeof dtype_names / sizeof *dtype_names == AXON_FIXED_BYTES + 1, "one name per axon_dtype");

/* Text of a peer's is not to steer the terminal. */
static void print_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        putchar((unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i]);
}

static void print_number(axon_dtype dtype, const void *element)
{
    double real = 0;
    int64_t integer = 0;
    axon_value *number = axon_value_scalar(dtype, element);
    if (axon_value_as_float(number, &real) == AXON_OK)
        printf(" %9.5g", real);
    else if (axon_value_as_int(number, &integer) == AXON_OK)
        printf(" %9" PRId64, integer);
    else
        printf(" %9s", "?");
    axon_value_free(number);
}

/* The first numbers of the first rows: arrays that were received are C-ordered. */
static void print_rows(const axon_array *array, int indent)
{
    uint32_t itemsize = axon_dtype_size(array->dtype);
    uint64_t bytes = 0;
    if (itemsize == 0 || axon_array_size(array, &bytes, NULL) != AXON_OK || bytes == 0) return;

    uint64_t columns = array->ndim > 0 ? (uint64_t)array->shape[array->ndim - 1] : 1;
    uint64_t rows = bytes / itemsize / columns;
    for (uint64_t row = 0; row < rows && row < ROWS_SHOWN; row++) {
        printf("%*s", indent, "");
        const char *first = (const char *)array->data + row * columns * itemsize;
        for (uint64_t i = 0; i < columns && i < COLUMNS_SHOWN; i++)
            print_number(array->dtype, first + i * itemsize);
        puts(columns > COLUMNS_SHOWN ? " ..." : "");
    }
    if (rows > ROWS_SHOWN) printf("%*s ... %" PRIu64 " more rows\n", indent, "", rows - ROWS_SHOWN);
}

static void print_array(const axon_array *array, int indent)
{
    size_t dtype =
        (size_t)array->dtype < sizeof dtype_names / sizeof *dtype_names ? (size_t)array->dtype : 0;
    printf("%s (", dtype_names[dtype]);
    for (int32_t i = 0; i < array->ndim; i++)
        printf(i == 0 ? "%" PRId64 : ", %" PRId64, array->shape[i]);
    puts(array->ndim == 1 ? ",)" : ")");
    print_rows(array, indent + 2);
}

static void print_json(const axon_value *value)
{
    char *text = NULL;
    size_t length = 0;
    axon_error err;
    if (axon_value_to_json(value, &text, &length, &err) == AXON_OK)
        print_text(text, length < TEXT_SHOWN ? length : TEXT_SHOWN);
    else
        print_text(err.message, strlen(err.message));
    puts(length > TEXT_SHOWN ? " ..." : "");
    axon_free(text);
}

static void print_value(const axon_value *value, int indent);

/* What follows a key. */
static void print_member(const axon_value *value, int indent)
{
    fputs(axon_value_type(value) == AXON_MAP ? ":\n" : ": ", stdout);
    print_value(value, indent);
}

static void print_value(const axon_value *value, int indent)
{
    const axon_array *array;
    const void *data;
    const char *text;
    size_t length;
    if (axon_value_type(value) == AXON_MAP) {
        for (size_t i = 0; i < axon_value_count(value); i++) {
            text = axon_value_key(value, i, &length, NULL);
            printf("%*s", indent, "");
            print_text(text, length);
            print_member(axon_value_at(value, i), indent + 2);
        }
    } else if (axon_value_type(value) == AXON_ARRAY && axon_value_as_array(value, &array) == AXON_OK) {
        print_array(array, indent);
    } else if (axon_value_as_string(value, &text, &length) == AXON_OK) {
        print_text(text, length);
        puts("");
    } else if (axon_value_as_bytes(value, &data, &length) == AXON_OK) {
        printf("%zu bytes\n", length);
    } else {
        print_json(value);
    }
}

/* The whole reply as JSON, for other programs. */
static int print_line_of_json(const axon_value *value)
{
    char *text = NULL;
    axon_error err;
    if (axon_value_to_json(value, &text, NULL, &err) != AXON_OK) return fail_with(&err);
    puts(text);
    axon_free(text);
    return DONE;
}

/* ---- health -------------------------------------------------------------------------------- */

/* A policy server's HTTP side has the WebSocket's own address. Returns malloc'ed text. */
static char *http_url_of(const char *url)
{
    const char *scheme = "http://", *rest = url;
    bool bare = false;
    if (strncmp(url, "ws://", 5) == 0) {
        rest = url + 5;
    } else if (strncmp(url, "wss://", 6) == 0) {
        scheme = "https://";
        rest = url + 6;
    } else {
        bare = true;
    }
    size_t length = strcspn(rest, "/?#");
    const char *after_brackets = memchr(rest, ']', length);
    bool has_port = memchr(after_brackets ? after_brackets : rest, ':',
                           length - (size_t)(after_brackets ? after_brackets - rest : 0)) != NULL;
    size_t room = strlen(scheme) + length + sizeof ":8000";
    char *http = malloc(room);
    if (http) snprintf(http, room, "%s%.*s%s", scheme, (int)length, rest, bare && !has_port ? ":8000" : "");
    return http;
}

/* /healthz answers in plain text, which is printed as the text that it is. */
static int print_health(const axon_value *reply, const settings *set)
{
    const void *text;
    size_t length;
    if (axon_value_as_bytes(reply, &text, &length) == AXON_OK) {
        while (length > 0 && ((const char *)text)[length - 1] == '\n')
            length--;
        axon_value *line = axon_value_string(text, (int64_t)length);
        int code = set->json ? print_line_of_json(line) : (print_value(line, 0), DONE);
        axon_value_free(line);
        return code;
    }
    if (set->json) return print_line_of_json(reply);
    print_value(reply, 0);
    return DONE;
}

static int health(int count, char **arguments, const settings *set)
{
    if (count != 1) return misused("health", count == 0 ? "the URL is missing" : "takes one URL");
    bool is_service = strncmp(arguments[0], "http://", 7) == 0 || strncmp(arguments[0], "https://", 8) == 0;
    char *url = is_service ? NULL : http_url_of(arguments[0]);
    axon_service_options options = {
        .size = sizeof options,
        .bearer_token = is_service ? set->api_key : NULL,
        .timeout_ms = set->timeout_ms,
        .connect_timeout_ms = set->timeout_ms,
    };
    axon_service *service = NULL;
    axon_value *reply = NULL;
    axon_error err;
    axon_status status = axon_service_open(&service, is_service ? arguments[0] : url, &options, &err);
    double begin = now_ms();
    if (status == AXON_OK)
        status = is_service ? axon_service_health(service, &reply, &err)
                            : axon_service_get(service, "/healthz", &reply, &err);
    double end = now_ms();
    int code = status == AXON_OK ? print_health(reply, set) : fail_with(&err);
    if (status == AXON_OK && set->verbose) fprintf(stderr, "axon: answered in %.1f ms\n", end - begin);
    axon_value_free(reply);
    axon_service_close(service);
    free(url);
    return code;
}

/* ---- infer --------------------------------------------------------------------------------- */

static axon_status image_value(const char *path, observation *seen, axon_value **value, axon_error *err)
{
    axon_image *image = NULL;
    axon_array pixels;
    axon_status status = axon_image_open_path(path, &image, err);
    if (status != AXON_OK) return status;
    status = axon_image_decode(image, AXON_RGB, &pixels, err);
    axon_image_close(image);
    if (status != AXON_OK) return status;
    seen->memory[seen->count++] = (void *)pixels.data;
    *value = axon_value_array(&pixels);
    return AXON_OK;
}

/* How many numbers `text` lists, separated by commas; 0 when it is anything else. */
static size_t count_numbers(const char *text, float *numbers)
{
    size_t count = 0;
    while (*text) {
        char *end;
        if (!strchr("+-.0123456789 ", *text)) return 0;
        float number = strtof(text, &end);
        if (end == text || (*end != ',' && *end)) return 0;
        if (numbers) numbers[count] = number;
        count++;
        text = *end ? end + 1 : end;
    }
    return count;
}

static axon_value *numbers_value(const char *text, size_t count, observation *seen)
{
    float *numbers = malloc(count * sizeof *numbers);
    if (!numbers) return NULL;
    count_numbers(text, numbers);
    seen->memory[seen->count++] = numbers;
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {(int64_t)count}, .data = numbers};
    return axon_value_array(&array);
}

static axon_value *plain_value(const char *text, observation *seen)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) return axon_value_bool(*text == 't');
    size_t count = count_numbers(text, NULL);
    if (count == 0) return axon_value_string(text, AXON_ZSTRING);
    if (strchr(text, ',')) return numbers_value(text, count, seen);
    char *end;
    long long integer = strtoll(text, &end, 10);
    return *end ? axon_value_float(strtod(text, NULL)) : axon_value_int(integer);
}

/* The length of KEY in KEY=VALUE and KEY:=JSON; 0 when it is neither. */
static size_t key_length(const char *argument)
{
    size_t length = strcspn(argument, "=");
    if (!argument[length] || length == 0) return 0;
    return argument[length - 1] == ':' ? length - 1 : length;
}

/* Takes one KEY=VALUE apart and puts it into the observation. */
static axon_status add_argument(observation *seen, char *argument, axon_error *err)
{
    char *end = argument + key_length(argument);
    bool is_json = *end == ':';
    char *text = end + (is_json ? 2 : 1);
    axon_status status = AXON_OK;
    axon_value *value = NULL;
    *end = 0;
    if (is_json) {
        status = axon_value_from_json(text, strlen(text), &value, err);
        if (status == AXON_EPROTOCOL) err->code = AXON_EINVAL; /* here the JSON is the caller's */
    } else if (*text == '@') {
        status = image_value(text + 1, seen, &value, err);
    } else {
        value = plain_value(text, seen);
    }
    if (status != AXON_OK) return status;
    status = axon_value_set(seen->map, argument, value);
    if (status != AXON_OK) *err = (axon_error){.code = (int32_t)status, .message = "out of memory"};
    return status;
}

static int ask(axon_policy *policy, const observation *seen, const settings *set, double connect_ms)
{
    axon_value *actions = NULL;
    axon_error err;
    if (set->verbose) {
        fputs("metadata", stdout);
        print_member(axon_policy_metadata(policy), 2);
        fputs("observation", stdout);
        print_member(seen->map, 2);
    }
    double begin = now_ms();
    if (axon_policy_infer(policy, seen->map, &actions, &err) != AXON_OK) return fail_with(&err);
    double infer_ms = now_ms() - begin;
    int code = DONE;
    if (set->json) {
        code = print_line_of_json(actions);
    } else {
        print_value(actions, 0);
        printf("(%s: connected in %.1f ms, answered in %.1f ms)\n", axon_policy_url(policy), connect_ms,
               infer_ms);
    }
    axon_value_free(actions);
    return code;
}

static int connect_and_ask(const char *url, const observation *seen, const settings *set)
{
    axon_policy_options options = {
        .size = sizeof options,
        .api_key = set->api_key,
        .connect_timeout_ms = set->timeout_ms,
        .infer_timeout_ms = set->timeout_ms,
        .connect_once = 1,
    };
    axon_policy *policy = NULL;
    axon_error err;
    double begin = now_ms();
    if (axon_policy_open(&policy, url, &options, &err) != AXON_OK) return fail_with(&err);
    int code = ask(policy, seen, set, now_ms() - begin);
    axon_policy_close(policy);
    return code;
}

static int infer(int count, char **arguments, const settings *set)
{
    if (count < 1) return misused("infer", "the URL is missing");
    if (count < 2) return misused("infer", "an observation needs at least one KEY=VALUE");
    for (int i = 1; i < count; i++)
        if (key_length(arguments[i]) == 0) return misused(arguments[i], "is not KEY=VALUE");

    observation seen = {axon_value_map(), calloc((size_t)count, sizeof(void *)), 0};
    axon_error err;
    axon_status status = AXON_OK;
    for (int i = 1; i < count && status == AXON_OK; i++)
        status = add_argument(&seen, arguments[i], &err);
    int code = status == AXON_OK ? connect_and_ask(arguments[0], &seen, set) : fail_with(&err);
    axon_value_free(seen.map);
    for (size_t i = 0; i < seen.count; i++)
        axon_free(seen.memory[i]);
    free(seen.memory);
    return code;
}

/* ---- the command line ---------------------------------------------------------------------- */

static const struct command {
    const char *name;
    const char *help;
    int (*run)(int count, char **arguments, const settings *set);
} commands[] = {{"health", health_help, health}, {"infer", infer_help, infer}};

static bool read_seconds(const char *text, uint32_t *ms)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0.001 && seconds <= 4e6)) return false;
    *ms = (uint32_t)(seconds * 1000);
    return true;
}

static int run(const struct command *command, int argc, char **argv)
{
    static const struct option known[] = {
        {"api-key", required_argument, NULL, 'k'}, {"timeout", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},          {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    settings set = {0};
    int option;
    while ((option = getopt_long(argc, argv, "k:t:jvh", known, NULL)) != -1) {
        switch (option) {
        case 'k':
            set.api_key = optarg;
            break;
        case 'j':
            set.json = true;
            break;
        case 'v':
            set.verbose = true;
            break;
        case 'h':
            fputs(command->help, stdout);
            return DONE;
        case 't':
            if (!read_seconds(optarg, &set.timeout_ms))
                return misused("--timeout", "takes seconds, as 2.5");
            break;
        default:
            return MISUSED; /* getopt has said why */
        }
    }
    if (set.verbose) axon_set_log(log_line, NULL, AXON_LOG_DEBUG);
    return command->run(argc - optind, argv + optind, &set);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(word, commands[i].name) == 0) {
            argv[1] = argv[0]; /* what getopt's messages begin with */
            return run(&commands[i], argc - 1, argv + 1);
        }
    if (strcmp(word, "--version") == 0) {
        printf("axon %s\n", axon_version());
        return DONE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        fputs(general_help, stdout);
        return DONE;
    }
    if (argc < 2) {
        fputs(general_help, stderr);
        return MISUSED;
    }
    return misused(word, "is no command");
}

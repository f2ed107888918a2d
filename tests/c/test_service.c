/* Calls of a service: what is sent, what comes back in either form, how failures read. */
#include "checks.h"

#include <axon/service.h>

#include "internal.h"
#include "service_internal.h"

#include "fakes/failing_malloc.c"
#include "fakes/http_fake.c"

#include <stdatomic.h>
#include <sys/wait.h>

static axon_error err;
static http_fake *fake;
static axon_service *service;
static axon_value *reply;

/* What the fake answers: set before a call. */
static struct {
    int status;
    const char *type;
    const char *body;
} answer;

static bool answer_as_set(fake_peer *peer)
{
    return fake_reply(peer, answer.status, answer.type, answer.body);
}

static void set_answer(int status, const char *type, const char *body)
{
    answer.status = status;
    answer.type = type;
    answer.body = body;
}

static void open_service(fake_answer function, const axon_service_options *options)
{
    fake = fake_begin_plain(function);
    assert_ok(axon_service_open(&service, fake->url, options, &err), &err);
}

static void open_as(axon_reply_form form)
{
    axon_service_options options = {.size = sizeof options, .reply_form = form};
    open_service(answer_as_set, &options);
}

static int tidy(void **state)
{
    (void)state;
    axon_value_free(reply);
    reply = NULL;
    axon_service_close(service);
    service = NULL;
    if (fake) fake_stop(fake);
    fake = NULL;
    return 0;
}

static void get_anew(const char *path)
{
    axon_value_free(reply);
    reply = NULL;
    assert_ok(axon_service_get(service, path, &reply, &err), &err);
}

static void assert_text(const axon_value *value, const char *wanted)
{
    const char *text;
    size_t length;
    assert_int_equal(axon_value_as_string(value, &text, &length), AXON_OK);
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(text, wanted, length);
}

static const char reply_json[] =
    "{\"a\": [1, 2.5, \"three\\n\"], \"found\": {\"name\": \"cup\", \"n\": 3}, \"z\": null}";

/* ---- replies ------------------------------------------------------------------------------------ */

static void a_json_reply_becomes_a_tree(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", reply_json);
    get_anew("/map?format=json");
    assert_ptr_equal(strstr(fake_head(fake), "GET /map?format=json HTTP/1.1\r\n"), fake_head(fake));
    assert_int_equal(axon_value_count(reply), 3);
    assert_text(axon_value_at(axon_value_get(reply, "a"), 2), "three\n");
    assert_text(axon_value_get(axon_value_get(reply, "found"), "name"), "cup");
}

static void a_json_reply_stays_text_when_that_was_asked_for(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TEXT);
    set_answer(200, "application/json; charset=utf-8", reply_json);
    get_anew("/");
    assert_int_equal(axon_value_type(reply), AXON_JSON);
    assert_text(reply, reply_json);
}

static void another_media_type_is_bytes_in_both_forms(void **state)
{
    const void *data;
    size_t length;
    for (int form = AXON_REPLY_TREE; form <= AXON_REPLY_TEXT; form++) {
        open_as((axon_reply_form)form);
        set_answer(200, "image/png", "\x89PNG");
        get_anew("/");
        assert_int_equal(axon_value_as_bytes(reply, &data, &length), AXON_OK);
        assert_int_equal(length, 4);
        assert_memory_equal(data, "\x89PNG", 4);
        tidy(state);
    }
}

static void an_empty_reply_is_nil(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "");
    get_anew("/");
    assert_non_null(reply);
    assert_int_equal(axon_value_type(reply), AXON_NIL);
}

static void health_asks_its_own_path(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/problem+json", "{\"status\": \"ok\"}");
    assert_ok(axon_service_health(service, &reply, &err), &err);
    assert_ptr_equal(strstr(fake_head(fake), "GET /health HTTP/1.1\r\n"), fake_head(fake));
    assert_text(axon_value_get(reply, "status"), "ok");
}

static void a_reply_that_claims_json_falsely_is_a_protocol_error(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "{\"a\": 1,, \"b\": 2}");
    assert_fails(axon_service_get(service, "/map", &reply, &err), AXON_EPROTOCOL, &err, "/map");
    assert_non_null(strstr(err.message, fake->url));
    assert_non_null(strstr(err.message, "at byte 8"));
    assert_int_equal(err.http_status, 200);
    assert_null(reply);
}

/* ---- one member of a reply -------------------------------------------------------------------------- */

static axon_status get_member(const char *member)
{
    axi_call call = axi_call_start(service, "/detect", &err);
    return axi_call_get(&call, member, &reply);
}

static void one_member_of_a_tree_outlives_the_rest(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", reply_json);
    assert_ok(get_member("a"), &err);
    assert_int_equal(axon_value_type(reply), AXON_LIST);
    assert_text(axon_value_at(reply, 2), "three\n");
    axon_value *rest = axon_value_map();
    assert_int_equal(axon_value_set(rest, "nested", reply), AXON_OK); /* as any value of the caller's */
    reply = rest;
    assert_text(axon_value_at(axon_value_get(reply, "nested"), 2), "three\n");
}

static void one_member_of_a_text_is_its_own_text(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TEXT);
    set_answer(200, "application/json", reply_json);
    assert_ok(get_member("a"), &err);
    assert_int_equal(axon_value_type(reply), AXON_JSON);
    assert_text(reply, "[1, 2.5, \"three\\n\"]");
}

static void a_member_that_is_not_there_is_a_protocol_error(void **state)
{
    for (int form = AXON_REPLY_TREE; form <= AXON_REPLY_TEXT; form++) {
        open_as((axon_reply_form)form);
        set_answer(200, "application/json", reply_json);
        assert_fails(get_member("detections"), AXON_EPROTOCOL, &err, "no member \"detections\"");
        assert_non_null(strstr(err.message, fake->url));
        set_answer(200, "application/json", "[1, 2]");
        assert_fails(get_member("detections"), AXON_EPROTOCOL, &err, "reply of ");
        set_answer(200, "text/html", "<html></html>");
        assert_fails(get_member("detections"), AXON_EPROTOCOL, &err, "is text/html, not JSON");
        set_answer(200, "application/json", "");
        assert_fails(get_member("detections"), AXON_EPROTOCOL, &err, "is empty, not JSON");
        assert_null(reply);
        tidy(state);
    }
}

/* ---- errors that the service answers with -------------------------------------------------------------- */

static void an_error_reads_as_the_service_put_it(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *type, *body, *text;
    } cases[] = {
        {404, "application/json", "{\"detail\": \"No path found\"}", "(HTTP 404): No path found"},
        {422, "application/json",
         "{\"detail\": [{\"type\": \"float_parsing\", \"loc\": [\"body\", \"conf\"], \"msg\": \"Input "
         "should be a valid "
         "number\", \"input\": \"x\"}, {\"loc\": [\"body\", \"poses\", 3, \"x\"], \"msg\": \"Field "
         "required\"}]}",
         "(HTTP 422): body.conf: Input should be a valid number; body.poses.3.x: Field required"},
        {400, "application/json", "{\"detail\": {\"code\": 7}}", "(HTTP 400): {\"code\":7}"},
        {400, "application/json", "{\"detail\": [\"a\", 5]}", "(HTTP 400): a; 5"},
        {400, "application/json", "{\"error\": \"bad mask\"}", "(HTTP 400): bad mask"},
        {500, "application/json", "\"just text\"", "(HTTP 500): just text"},
        {500, "application/json", "{broken", "(HTTP 500): {broken"},
        {500, "application/json", "", "(HTTP 500): the reply is empty"},
        {500, "text/plain", "Internal Server Error", "(HTTP 500): Internal Server Error"},
        {502, "text/plain", "\r\n  first line\r\nsecond line", "(HTTP 502): first line"},
        {502, "text/html", "<html>\r\n<head><title>502 Bad Gateway</title></head></html>",
         "(HTTP 502): 502 Bad Gateway"},
        {500, "text/plain", "\n\n", "(HTTP 500): the reply has no text to show"},
        {503, "text/html", "", "(HTTP 503): the reply is empty"},
        {304, "text/plain", "", "(HTTP 304): "},
    };
    open_as(AXON_REPLY_TEXT);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char wanted[256];
        set_answer(cases[i].status, cases[i].type, cases[i].body);
        snprintf(wanted, sizeof wanted, "/plan failed %s", cases[i].text);
        assert_fails(axon_service_get(service, "/plan", &reply, &err), AXON_ESERVER, &err, wanted);
        assert_int_equal(err.http_status, cases[i].status);
    }
    assert_null(reply);
}

static void refused_credentials_are_told_apart(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(401, "application/json", "{\"detail\": \"token expired\"}");
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_EAUTH, &err,
                 "/ failed (HTTP 401): token expired");
    set_answer(403, "text/plain", "no");
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_EAUTH, &err, "/ failed (HTTP 403): no");
    assert_int_equal(err.http_status, 403);
}

static bool answer_with_noise(fake_peer *peer)
{
    static const char noise[] = "\xff\xfe\x1b[31mred\x07\0\n";
    return fake_text(peer,
                     "HTTP/1.1 500 X\r\nContent-Length: 13\r\nContent-Type: application/json\r\n\r\n") &&
           fake_write(peer, noise, 13);
}

static void noise_in_an_error_is_safe_to_print(void **state)
{
    (void)state;
    open_service(answer_with_noise, NULL);
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_ESERVER, &err,
                 "/ failed (HTTP 500): ???[31mred?");
    for (const char *c = err.message; *c; c++)
        assert_true(*c >= ' ' && *c < 0x7f);
}

static bool answer_at_great_length(fake_peer *peer)
{
    char *body = malloc(200001);
    memset(body, 'x', 200000);
    body[200000] = 0;
    bool sent = fake_reply(peer, 500, "text/plain", body);
    free(body);
    return sent;
}

static void a_long_error_is_cut(void **state)
{
    (void)state;
    open_service(answer_at_great_length, NULL);
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_ESERVER, &err, "(HTTP 500): xxxx");
    assert_int_equal(strlen(err.message), AXON_ERROR_TEXT - 1);
}

static void a_service_that_is_not_there_shows_at_the_first_call(void **state)
{
    (void)state;
    assert_ok(axon_service_open(&service, "http://127.0.0.1:1/", NULL, &err), &err);
    assert_string_equal(axon_service_url(service), "http://127.0.0.1:1");
    assert_fails(axon_service_health(service, &reply, &err), AXON_ECONNECT, &err,
                 "Service unavailable at http://127.0.0.1:1: connection refused");
}

static void the_deadline_is_the_option(void **state)
{
    (void)state;
    axon_service_options options = {.size = sizeof options, .timeout_ms = 200};
    open_service(fake_be_silent, &options);
    options.timeout_ms = 1000000; /* options are read during open only */
    assert_fails(axon_service_health(service, &reply, &err), AXON_ETIMEOUT, &err,
                 "no answer after 200 ms (timeout_ms)");
}

/* ---- bodies ------------------------------------------------------------------------------------------------ */

static void a_body_is_json_with_pictures_and_bytes_as_base64(void **state)
{
    (void)state;
    static const char gif[] = "GIF89a\1\0\1\0\0\0\0;";
    axon_image *image;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "{}");
    assert_ok(axon_image_open_bytes(gif, sizeof gif - 1, &image, &err), &err);
    axon_value *body = axon_value_map();
    axon_value_set(body, "image", axon_value_image(image));
    axon_value_set(body, "raw", axon_value_bytes("abcd", 4));
    axon_value_set(body, "prompt", axon_value_string("a \"cup\"", AXON_ZSTRING));
    axon_value_set(body, "pose", axon_value_json("{\"x\": 1.5}", AXON_ZSTRING));
    assert_ok(axon_service_post(service, "/detect", body, &reply, &err), &err);
    assert_ptr_equal(strstr(fake_head(fake), "POST /detect HTTP/1.1\r\n"), fake_head(fake));
    assert_string_equal(
        fake->body, "{\"image\":\"R0lGODlhAQABAAAAADs=\",\"raw\":\"YWJjZA==\",\"prompt\":\"a \\\"cup\\\"\","
                    "\"pose\":{\"x\": 1.5}}");
    axon_value_free(body);
    axon_image_close(image);
}

static void json_text_is_a_body_as_it_is(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "{}");
    axon_value *body = axon_value_json("{\"start\": [0, 1]}", AXON_ZSTRING);
    assert_ok(axon_service_post(service, "/plan", body, &reply, &err), &err);
    axon_value_free(body);
    assert_string_equal(fake_head(fake) ? fake->body : "", "{\"start\": [0, 1]}");
}

static void a_body_that_json_cannot_carry_is_refused_unsent(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    axon_value *body = axon_value_map(), *list = axon_value_list();
    axon_value_append(list, axon_value_float(1));
    axon_value_append(list, axon_value_float(NAN));
    axon_value_set(body, "pose", list);
    assert_fails(axon_service_post(service, "/update", body, &reply, &err), AXON_EINVAL, &err,
                 "/update: body \"pose[1]\"");
    axon_value_free(body);
    assert_fails(axon_service_post(service, "/update", NULL, &reply, &err), AXON_EINVAL, &err, "body");
    axon_value *number = axon_value_int(3);
    assert_fails(axon_service_post(service, "/update", number, &reply, &err), AXON_EINVAL, &err, "body");
    axon_value_free(number);
    assert_int_equal(fake_accepted(fake), 0);
}

static void a_body_over_the_limit_is_refused_unsent(void **state)
{
    (void)state;
    char *data = calloc(1, 3000);
    axon_service_options options = {.size = sizeof options, .max_request_bytes = 4010};
    open_service(answer_as_set, &options);
    set_answer(200, "application/json", "{}");
    axon_value *body = axon_value_map();
    axon_value_set(body, "data", axon_value_bytes(data, 2998)); /* {"data":"..."} is 4000 + 11 */
    assert_fails(axon_service_post(service, "/update", body, &reply, &err), AXON_ETOOBIG, &err,
                 "4011 bytes, more than 4010 (max_request_bytes)");
    assert_int_equal(fake_accepted(fake), 0);
    axon_value_set(body, "data", axon_value_bytes(data, 2997));
    assert_ok(axon_service_post(service, "/update", body, &reply, &err), &err);
    axon_value_free(body);
    free(data);
}

static void a_reply_over_the_limit_is_refused(void **state)
{
    (void)state;
    axon_service_options options = {.size = sizeof options, .max_reply_bytes = 10};
    open_service(answer_as_set, &options);
    set_answer(200, "application/json", "[1, 2, 3, 4]");
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_ETOOBIG, &err,
                 "10 bytes (max_reply_bytes)");
}

/* ---- arguments ------------------------------------------------------------------------------------------------ */

static void a_path_is_checked_before_anything_is_sent(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",           "health", "http://elsewhere/", "/a b",
                                        "/a\r\nX: y", "/a#b",   "/caf\xc3\xa9"};
    open_as(AXON_REPLY_TREE);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(axon_service_get(service, wrong[i], &reply, &err), AXON_EINVAL, &err, "path");
    assert_fails(axon_service_get(service, NULL, &reply, &err), AXON_EINVAL, &err, "path");
    char *endless = calloc(1, 10001);
    memset(endless, '/', 10000);
    assert_fails(axon_service_get(service, endless, &reply, &err), AXON_EINVAL, &err, "8192");
    free(endless);
    assert_int_equal(fake_accepted(fake), 0);
}

static void a_path_cannot_leave_the_service(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "{}");
    get_anew("//elsewhere.example/x");
    assert_ptr_equal(strstr(fake_head(fake), "GET //elsewhere.example/x HTTP/1.1\r\n"), fake_head(fake));
    get_anew("/@elsewhere.example/../x");
    assert_ptr_equal(strstr(fake_head(fake), "GET /@elsewhere.example/../x HTTP/1.1\r\n"), fake_head(fake));
}

static void options_are_checked_by_their_size(void **state)
{
    (void)state;
    struct {
        axon_service_options known;
        uint64_t later;
    } newer = {.known.size = sizeof newer};
    axon_service_options none = {0};
    assert_fails(axon_service_open(&service, "http://robot", &none, &err), AXON_EINVAL, &err, "size is 0");
    none.size = SIZE_MAX;
    assert_fails(axon_service_open(&service, "http://robot", &none, &err), AXON_EINVAL, &err, "size is");
    newer.later = 1;
    assert_fails(axon_service_open(&service, "http://robot", &newer.known, &err), AXON_EINVAL, &err,
                 "options");
    newer.later = 0;
    assert_ok(axon_service_open(&service, "http://robot", &newer.known, &err), &err);
    axon_service_close(service);
    service = NULL;
    axon_service_options older = {.size = sizeof older.size, .bearer_token = "not\nread"};
    assert_ok(axon_service_open(&service, "http://robot", &older, &err), &err);
}

static void a_form_of_reply_that_is_none_is_refused(void **state)
{
    (void)state;
    axon_service_options options = {.size = sizeof options, .reply_form = (axon_reply_form)2};
    assert_fails(axon_service_open(&service, "http://robot", &options, &err), AXON_EINVAL, &err,
                 "reply_form");
}

static void null_is_refused_or_ignored(void **state)
{
    (void)state;
    assert_int_equal(axon_service_open(NULL, "http://robot", NULL, NULL), AXON_EINVAL);
    assert_int_equal(axon_service_open(&service, NULL, NULL, NULL), AXON_EINVAL);
    assert_null(service);
    assert_int_equal(axon_service_health(NULL, &reply, NULL), AXON_EINVAL);
    assert_null(axon_service_url(NULL));
    axon_service_cancel(NULL);
    axon_service_close(NULL);
    open_as(AXON_REPLY_TREE);
    assert_int_equal(axon_service_health(service, NULL, NULL), AXON_EINVAL);
    set_answer(500, "application/json", "{\"detail\": \"x\"}");
    assert_int_equal(axon_service_health(service, &reply, NULL), AXON_ESERVER);
    set_answer(200, "application/json", "{");
    assert_int_equal(axon_service_health(service, &reply, NULL), AXON_EPROTOCOL);
}

/* ---- threads, processes, memory --------------------------------------------------------------------------------- */

static atomic_bool request_is_there;

static bool silent_and_says_so(fake_peer *peer)
{
    atomic_store(&request_is_there, true);
    return fake_be_silent(peer);
}

static void *cancel_when_waiting(void *user)
{
    while (!atomic_load(&request_is_there))
        usleep(1000);
    axon_service_cancel(user);
    return NULL;
}

static void cancel_ends_the_call_of_another_thread(void **state)
{
    (void)state;
    pthread_t thread;
    axon_service_options options = {.size = sizeof options, .timeout_ms = UINT32_MAX}; /* no deadline */
    open_service(silent_and_says_so, &options);
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_waiting, service), 0);
    assert_fails(axon_service_health(service, &reply, &err), AXON_ECANCELED, &err, "cancelled");
    pthread_join(thread, NULL);
}

static void a_forked_child_may_only_close(void **state)
{
    (void)state;
    open_as(AXON_REPLY_TREE);
    set_answer(200, "application/json", "{}");
    get_anew("/");
    pid_t child = fork();
    if (child == 0) {
        axon_value *none = NULL;
        bool refused = axon_service_health(service, &none, &err) == AXON_EINVAL;
        axon_service_close(service);
        _exit(refused && strstr(err.message, "fork()") ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    get_anew("/");
    assert_int_equal(fake_accepted(fake), 1);
}

#ifdef CAN_FAIL_MALLOC
static axon_status whole_session(axon_reply_form form, const axon_image *image)
{
    axon_service_options options = {.size = sizeof options, .reply_form = form, .bearer_token = "token"};
    axon_service *own = NULL;
    axon_value *found = NULL;
    axon_status status = axon_service_open(&own, fake->url, &options, &err);
    for (int i = 0; i < 2 && status == AXON_OK; i++) {
        axi_call call = axi_call_start(own, "/detect", &err);
        axi_call_image(&call, "image", image);
        axi_call_string(&call, "model", NULL, "small");
        status = axi_call_post(&call, "a", &found);
        if (status == AXON_OK) axon_value_free(found);
        found = NULL;
    }
    axon_service_close(own);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const uint8_t pixels[300];
    axon_array array = {.dtype = AXON_UINT8, .ndim = 3, .shape = {10, 10, 3}, .data = pixels};
    axon_image *image;
    fake = fake_begin_plain(answer_as_set);
    set_answer(200, "application/json", reply_json);
    assert_ok(axon_image_open_pixels(&array, AXON_RGB, &image, &err), &err);
    for (int form = AXON_REPLY_TREE; form <= AXON_REPLY_TEXT; form++) {
        bool failed = true;
        for (int64_t after = 0; failed; after++) {
            assert_true(after < 5000);
            fail_allocation(after);
            axon_status status = whole_session((axon_reply_form)form, image);
            failed = allocation_failed();
            bool told = status == AXON_OK || status == AXON_ENOMEM;
            /* libcurl takes a few for a host that is not found or a reply that is damaged */
            if (!told && status != AXON_ECONNECT && status != AXON_EPROTOCOL)
                fail_msg("allocation %d: %s: %s", (int)after, axon_status_name(status), err.message);
            if (!failed) assert_int_equal(status, AXON_OK);
        }
    }
    axon_image_close(image);
}
#endif

#define TEST(f) cmocka_unit_test_teardown(f, tidy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_json_reply_becomes_a_tree),
        TEST(a_json_reply_stays_text_when_that_was_asked_for),
        TEST(another_media_type_is_bytes_in_both_forms),
        TEST(an_empty_reply_is_nil),
        TEST(health_asks_its_own_path),
        TEST(a_reply_that_claims_json_falsely_is_a_protocol_error),
        TEST(one_member_of_a_tree_outlives_the_rest),
        TEST(one_member_of_a_text_is_its_own_text),
        TEST(a_member_that_is_not_there_is_a_protocol_error),
        TEST(an_error_reads_as_the_service_put_it),
        TEST(refused_credentials_are_told_apart),
        TEST(noise_in_an_error_is_safe_to_print),
        TEST(a_long_error_is_cut),
        TEST(a_service_that_is_not_there_shows_at_the_first_call),
        TEST(the_deadline_is_the_option),
        TEST(a_body_is_json_with_pictures_and_bytes_as_base64),
        TEST(json_text_is_a_body_as_it_is),
        TEST(a_body_that_json_cannot_carry_is_refused_unsent),
        TEST(a_body_over_the_limit_is_refused_unsent),
        TEST(a_reply_over_the_limit_is_refused),
        TEST(a_path_is_checked_before_anything_is_sent),
        TEST(a_path_cannot_leave_the_service),
        TEST(options_are_checked_by_their_size),
        TEST(a_form_of_reply_that_is_none_is_refused),
        TEST(null_is_refused_or_ignored),
        TEST(cancel_ends_the_call_of_another_thread),
        TEST(a_forked_child_may_only_close),
#ifdef CAN_FAIL_MALLOC
        TEST(every_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

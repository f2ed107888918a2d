/* Policy sessions against a server that misbehaves on purpose. */
#include "checks.h"
#include "fakes/ws_fake.c"

#include <axon/policy.h>

#include <stdatomic.h>
#include <sys/wait.h>

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

static const uint8_t metadata[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 7};

static axon_policy *open_or_fail(const char *url, const axon_policy_options *options)
{
    axon_policy *policy = NULL;
    assert_ok(axon_policy_open(&policy, url, options, &err), &err);
    return policy;
}

/* A server that introduces itself and goes on with `script`. */
static ws_fake *serve(ws_script script)
{
    return ws_fake_begin((ws_fake){.script = script, .early = metadata, .early_length = sizeof metadata});
}

static void assert_open_fails(const char *url, const axon_policy_options *options, axon_status status,
                              const char *words)
{
    axon_policy *policy = NULL;
    assert_fails(axon_policy_open(&policy, url, options, &err), status, &err, words);
    assert_null(policy);
}

static const float numbers[] = {0, 1, 2};

static axon_value *make_observation(void)
{
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {3}, .data = numbers};
    axon_value *observation = axon_value_map();
    assert_int_equal(axon_value_set(observation, "a", axon_value_array(&array)), AXON_OK);
    return observation;
}

/* One infer; the integer under "n" of what came back. */
static axon_status ask(axon_policy *policy, int64_t *number)
{
    axon_value *observation = make_observation(), *actions = NULL;
    axon_status status = axon_policy_infer(policy, observation, &actions, &err);
    axon_value_free(observation);
    if (status != AXON_OK) {
        assert_null(actions);
        return status;
    }
    *number = -1;
    axon_value_as_int(axon_value_get(actions, "n"), number);
    axon_value_free(actions);
    return AXON_OK;
}

static void assert_answer(axon_policy *policy, int64_t number)
{
    int64_t got;
    assert_ok(ask(policy, &got), &err);
    assert_int_equal(got, number);
}

static void assert_infer_fails(axon_policy *policy, axon_status status, const char *words)
{
    int64_t number;
    assert_fails(ask(policy, &number), status, &err, words);
    if (strncmp(err.message, axon_policy_url(policy), strlen(axon_policy_url(policy))) != 0)
        fail_msg("\"%s\" does not begin with the URL", err.message);
}

/* Answers {"n": number}. */
static bool reply_number(ws_peer *peer, int number)
{
    uint8_t map[] = {0x81, 0xa1, 'n', (uint8_t)number};
    return ws_send_frame(peer, 0x82, map, sizeof map);
}

/* A script: counts the observations. */
static void count_up(ws_peer *peer)
{
    for (int number = 1; ws_skip_message(peer); number++) {
        ws_note(peer, 0, number);
        reply_number(peer, number);
    }
}

static bool wait_until(ws_fake *fake, int slot, long number)
{
    for (int i = 0; i < 1000 && ws_noted(fake, slot) < number; i++)
        ws_pause(10);
    return ws_noted(fake, slot) >= number;
}

/* ---- URLs ---------------------------------------------------------------------------------------------- */

/* The URL that `given` becomes: every message begins with it, and nobody is expected to answer there. */
static void assert_becomes(const char *given, const char *whole)
{
    axon_policy_options options = {.size = sizeof options, .connect_once = 1, .connect_timeout_ms = 2000};
    axon_policy *policy = NULL;
    axon_status status = axon_policy_open(&policy, given, &options, &err);
    const char *got = status == AXON_OK ? axon_policy_url(policy) : err.message;
    size_t length = strlen(whole);
    if (strncmp(got, whole, length) != 0 || (got[length] && strncmp(got + length, ": ", 2) != 0))
        fail_msg("\"%s\" became \"%s\", not \"%s\"", given, got, whole);
    axon_policy_close(policy);
}

static void hosts_become_whole_urls(void **state)
{
    (void)state;
    assert_becomes("127.77.1.2", "ws://127.77.1.2:8000");
    assert_becomes("127.77.1.2:9", "ws://127.77.1.2:9");
    assert_becomes("127.77.1.2/", "ws://127.77.1.2:8000");
    assert_becomes("127.77.1.2:9/policy?x=1", "ws://127.77.1.2:9/policy?x=1");
    assert_becomes("127.77.1.2/policy/", "ws://127.77.1.2:8000/policy/");
    assert_becomes("ws://127.77.1.2:9", "ws://127.77.1.2:9");
    assert_becomes("ws://127.77.1.2:9/", "ws://127.77.1.2:9");
    assert_becomes("WS://127.77.1.2:9/?a=b", "ws://127.77.1.2:9/?a=b");
    assert_becomes("ws://127.77.1.2", "ws://127.77.1.2");
    assert_becomes("Wss://127.77.1.2:9", "wss://127.77.1.2:9");
    assert_becomes("[::1]:9", "ws://[::1]:9");
    assert_becomes("[::1]", "ws://[::1]:8000");
    assert_becomes("ws://[::1]:9/", "ws://[::1]:9");
}

static void what_is_no_url_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"", "empty"},
        {"http://127.0.0.1:8000", "must begin with ws:// or wss://"},
        {"https://127.0.0.1:8000", "must begin with ws:// or wss://"},
        {"file:///etc/passwd", "must begin with ws:// or wss://"},
        {"ws://", "no host"},
        {":8000", "no host"},
        {"127.0.0.1:port", "port"},
        {"127.0.0.1:0", "port"},
        {"127.0.0.1:70000", "port"},
        {"127.0.0.1:", "port"},
        {"::1", "brackets"},
        {"ho st", "no host name"},
        {"key@127.0.0.1", "credentials"},
        {"127.0.0.1:8000/a b", "percent-encode"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_open_fails(bad[i][0], NULL, AXON_EINVAL, bad[i][1]);
    assert_open_fails(NULL, NULL, AXON_EINVAL, "empty");
}

/* ---- options ------------------------------------------------------------------------------------------- */

static void assert_option_refused(axon_policy_options options, const char *words)
{
    assert_open_fails("127.0.0.1:9", &options, AXON_EINVAL, words);
}

static void options_are_checked(void **state)
{
    (void)state;
    size_t size = sizeof(axon_policy_options);
    assert_option_refused((axon_policy_options){.size = 0}, "size");
    assert_option_refused((axon_policy_options){.size = 3}, "size");
    assert_option_refused((axon_policy_options){.size = size, .connect_once = 2}, "connect_once");
    assert_option_refused((axon_policy_options){.size = size, .tls_insecure = -1}, "tls_insecure");
    assert_option_refused((axon_policy_options){.size = size, .api_key = "a\r\nX-Evil: 1"}, "api_key");
    assert_option_refused((axon_policy_options){.size = size, .api_key = "\xc3\xa4"}, "api_key");
    char *key = calloc(1, 6000);
    memset(key, 'k', 5000);
    assert_option_refused((axon_policy_options){.size = size, .api_key = key}, "limit 4096");
    free(key);
    struct {
        axon_policy_options known;
        int64_t later;
    } newer = {.known.size = sizeof newer, .later = 1};
    assert_open_fails("127.0.0.1:9", &newer.known, AXON_EINVAL, "does not know");
}

static void options_of_other_versions_are_read(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    struct {
        axon_policy_options known;
        int64_t later;
    } newer = {.known.size = sizeof newer};
    axon_policy *policy = open_or_fail(fake->url, &newer.known);
    assert_answer(policy, 1);
    axon_policy_close(policy);

    struct {
        size_t size;
        const char *api_key;
    } older = {sizeof older, "old"};
    policy = open_or_fail(fake->url, (axon_policy_options *)&older);
    char head[WS_FAKE_HEAD];
    ws_requested(fake, head);
    assert_non_null(strstr(head, "\r\nAuthorization: Api-Key old\r\n"));
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void null_is_refused_or_harmless(void **state)
{
    (void)state;
    axon_value *observation = make_observation(), *actions;
    assert_fails(axon_policy_open(NULL, "127.0.0.1", NULL, &err), AXON_EINVAL, &err, "policy");
    assert_fails(axon_policy_infer(NULL, observation, &actions, &err), AXON_EINVAL, &err, "policy");
    assert_fails(axon_policy_set_infer_timeout(NULL, 1, &err), AXON_EINVAL, &err, "policy");
    assert_null(axon_policy_metadata(NULL));
    assert_null(axon_policy_url(NULL));
    assert_null(axon_policy_server_error(NULL));
    axon_policy_cancel(NULL);
    axon_policy_close(NULL);
    axon_value_free(observation);
    assert_int_equal(axon_policy_open(NULL, "127.0.0.1", NULL, NULL), AXON_EINVAL);
    assert_int_equal(axon_policy_open(NULL, NULL, NULL, NULL), AXON_EINVAL);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static void the_metadata_is_kept(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    int64_t age;
    assert_int_equal(axon_value_as_int(axon_value_get(axon_policy_metadata(policy), "age"), &age), AXON_OK);
    assert_int_equal(age, 7);
    assert_string_equal(axon_policy_url(policy), fake->url);
    assert_null(axon_policy_server_error(policy));
    char head[WS_FAKE_HEAD];
    ws_requested(fake, head);
    assert_null(strcasestr(head, "Authorization"));
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* The metadata comes in its own time, and in pieces. */
static void introduce_slowly(ws_peer *peer)
{
    ws_pause(50);
    ws_write(peer, metadata, 3);
    ws_pause(50);
    ws_write(peer, metadata + 3, sizeof metadata - 3);
    count_up(peer);
}

static void slow_metadata_is_waited_for(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = introduce_slowly});
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_answer(policy, 1);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void a_server_that_says_nothing_is_told(void **state)
{
    (void)state;
    axon_policy_options options = {.size = sizeof options, .connect_timeout_ms = 300};
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_wait_for_end});
    assert_open_fails(fake->url, &options, AXON_ETIMEOUT,
                      ": listening but silent: no metadata after 300 ms (connect_timeout_ms)");
    ws_fake_stop(fake);
    fake = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    assert_open_fails(fake->url, &options, AXON_ETIMEOUT,
                      ": listening but silent: no answer to the upgrade after 300 ms (connect_timeout_ms)");
    ws_fake_stop(fake);
}

static void assert_metadata_refused(const char *frame_hex, axon_status status, const char *words)
{
    blob frame = from_hex(frame_hex);
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = ws_wait_for_end, .early = frame.data, .early_length = frame.length});
    axon_policy_options options = {.size = sizeof options, .max_reply_bytes = 1000, .close_timeout_ms = 50};
    assert_open_fails(fake->url, &options, status, words);
    assert_memory_equal(err.message, fake->url, strlen(fake->url));
    ws_fake_stop(fake);
    free(frame.data);
}

static void metadata_that_is_none_is_refused(void **state)
{
    (void)state;
    assert_metadata_refused("81 0a 6c6f6164206661696c65 64", AXON_ESERVER, "server error: load faile");
    assert_metadata_refused("82 01 90", AXON_EPROTOCOL, "metadata: it is no map");
    assert_metadata_refused("82 01 c1", AXON_EPROTOCOL, "metadata");
    assert_metadata_refused("82 00", AXON_EPROTOCOL, "metadata");
    assert_metadata_refused("82 02 8001", AXON_EPROTOCOL, "metadata");
    assert_metadata_refused("82 7e 03e9", AXON_ETOOBIG, "limit 1000 (max_reply_bytes)");
    assert_metadata_refused("88 02 03f3", AXON_ECONNECT, "1011");
    assert_metadata_refused("82 81 00000000 80", AXON_EPROTOCOL, "masked");
}

static void want_a_key(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write_text(peer, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nunknown key\n");
    ws_wait_for_end(peer);
}

static void a_wrong_key_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = want_a_key});
    axon_policy_options options = {.size = sizeof options, .api_key = "guess"};
    assert_open_fails(fake->url, &options, AXON_EAUTH, "unknown key");
    assert_int_equal(err.http_status, 401);
    assert_int_equal(ws_accepted(fake), 1);
    ws_fake_stop(fake);
}

static void an_absent_server_is_told(void **state)
{
    (void)state;
    axon_policy_options options = {.size = sizeof options, .connect_once = 1};
    assert_open_fails("127.0.0.1:1", &options, AXON_ECONNECT, "ws://127.0.0.1:1: connection refused");
    options.connect_once = 0;
    options.connect_timeout_ms = 250;
    options.retry_min_ms = 20;
    assert_open_fails("127.0.0.1:1", &options, AXON_ECONNECT, "tried");
}

/* ---- asking -------------------------------------------------------------------------------------------- */

static void note_request(ws_peer *peer)
{
    /* {"a": float32[0, 1, 2]} as every openpi client writes it */
    blob wanted =
        from_hex("81 a161 84 c40b5f5f6e6461727261795f5f c3 c40464617461 c40c000000000000803f00000040"
                 "c4056474797065 a33c6634 c4057368617065 9103");
    ws_frame frame;
    while (ws_expect(peer, 2, &frame)) {
        ws_note(peer, 0, frame.first);
        ws_note(peer, 1, frame.is_masked);
        ws_note(peer, 2,
                frame.length == wanted.length && memcmp(frame.payload, wanted.data, wanted.length) == 0);
        free(frame.payload);
        reply_number(peer, 1);
    }
    free(wanted.data);
}

static void an_observation_travels_as_openpi_writes_it(void **state)
{
    (void)state;
    ws_fake *fake = serve(note_request);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_answer(policy, 1);
    assert_int_equal(ws_noted(fake, 0), 0x82);
    assert_true(ws_noted(fake, 1));
    assert_true(ws_noted(fake, 2));
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void observations_are_answered_in_turn(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    for (int i = 1; i <= 100; i++)
        assert_answer(policy, i);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void large_observations_and_actions_arrive_whole(void **state)
{
    (void)state;
    enum { PIXELS = 720 * 1280 * 3 };
    uint8_t *pixels = malloc(PIXELS);
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (uint8_t)(i * 31 + i / 256);
    ws_fake *fake = serve(ws_echo);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    axon_array image = {.dtype = AXON_UINT8, .ndim = 3, .shape = {720, 1280, 3}, .data = pixels};
    axon_value *observation = axon_value_map(), *actions = NULL;
    axon_value_set(observation, "images", axon_value_map());
    axon_value_set(observation, "image", axon_value_array(&image));
    axon_value_set(observation, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
    assert_ok(axon_policy_infer(policy, observation, &actions, &err), &err);
    const axon_array *got;
    assert_int_equal(axon_value_as_array(axon_value_get(actions, "image"), &got), AXON_OK);
    assert_int_equal(got->shape[1], 1280);
    assert_memory_equal(got->data, pixels, PIXELS);
    axon_value_free(actions);
    axon_value_free(observation);
    axon_policy_close(policy);
    ws_fake_stop(fake);
    free(pixels);
}

static void assert_observation_refused(axon_policy *policy, axon_value *observation, axon_status status,
                                       const char *words)
{
    axon_value *actions = NULL;
    assert_fails(axon_policy_infer(policy, observation, &actions, &err), status, &err, words);
    assert_null(actions);
    axon_value_free(observation);
}

static void a_bad_observation_is_refused_before_anything_is_sent(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    axon_policy_options options = {.size = sizeof options, .max_request_bytes = 200};
    axon_policy *policy = open_or_fail(fake->url, &options);
    assert_observation_refused(policy, NULL, AXON_EINVAL, "observation: it is NULL");
    assert_observation_refused(policy, axon_value_map(), AXON_EINVAL, "observation: it is empty");
    assert_observation_refused(policy, axon_value_list(), AXON_EINVAL, "observation: it is no map");
    assert_observation_refused(policy, axon_value_int(1), AXON_EINVAL, "observation: it is no map");

    axon_array broken = {.dtype = (axon_dtype)99, .ndim = 1, .shape = {1}, .data = numbers};
    axon_value *map = axon_value_map();
    axon_value_set(map, "state", axon_value_array(&broken));
    assert_observation_refused(policy, map, AXON_EINVAL, "observation \"state\"");

    uint8_t bytes[300] = {0};
    map = axon_value_map();
    axon_value_set(map, "b", axon_value_bytes(bytes, sizeof bytes));
    assert_observation_refused(policy, map, AXON_ETOOBIG, "limit 200 (max_request_bytes)");

    assert_int_equal(ws_noted(fake, 0), 0);
    assert_answer(policy, 1); /* the first that the server saw */
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* ---- what servers answer ------------------------------------------------------------------------------- */

static const char *traceback;

static void answer_with_text(ws_peer *peer)
{
    for (int number = 1; ws_skip_message(peer); number++)
        if (number % 2)
            ws_send_frame(peer, 0x81, traceback, strlen(traceback));
        else
            reply_number(peer, number);
}

static void a_traceback_is_told_by_its_last_line(void **state)
{
    (void)state;
    traceback =
        "Traceback (most recent call last):\n  File \"serve.py\", line 1\nValueError: bad shape\n\n";
    ws_fake *fake = serve(answer_with_text);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_infer_fails(policy, AXON_ESERVER, ": server error: ValueError: bad shape");
    assert_string_equal(err.message + strlen(err.message) - 9, "bad shape");
    assert_string_equal(axon_policy_server_error(policy), traceback);
    assert_answer(policy, 2); /* this server goes on */
    assert_null(axon_policy_server_error(policy));
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void odd_texts_are_told_too(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n \n", "one line", "a\r\nb\r\n"};
    static const char *const told[] = {"server error: ", "server error: ", "server error: one line",
                                       "server error: b"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        traceback = texts[i];
        ws_fake *fake = serve(answer_with_text);
        axon_policy *policy = open_or_fail(fake->url, NULL);
        assert_infer_fails(policy, AXON_ESERVER, told[i]);
        assert_string_equal(axon_policy_server_error(policy), texts[i]);
        axon_policy_close(policy);
        ws_fake_stop(fake);
    }
}

/* As openpi's server does: the text, then a close. */
static void fail_and_close(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_send_frame(peer, 0x81, "KeyError: 'state'", 17);
    ws_send_close(peer, 1011, "Internal server error. Traceback included in previous frame.");
    ws_note(peer, 0, 1);
    ws_wait_for_end(peer);
}

static void after_openpis_error_the_close_is_told(void **state)
{
    (void)state;
    ws_fake *fake = serve(fail_and_close);
    axon_policy_options options = {.size = sizeof options, .no_reconnect = 1};
    axon_policy *policy = open_or_fail(fake->url, &options);
    assert_infer_fails(policy, AXON_ESERVER, "KeyError: 'state'");
    assert_true(wait_until(fake, 0, 1));
    assert_infer_fails(policy, AXON_ECONNECT, "1011 (internal error): Internal server error");
    assert_infer_fails(policy, AXON_ECONNECT, "1011");
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static blob bad_reply;

static void answer_badly_once(ws_peer *peer)
{
    for (int number = 1; ws_skip_message(peer); number++)
        if (number == 1)
            ws_send_frame(peer, 0x82, bad_reply.data, bad_reply.length);
        else
            reply_number(peer, number);
}

static void assert_reply_refused(const char *hex, const char *words)
{
    bad_reply = from_hex(hex);
    ws_fake *fake = serve(answer_badly_once);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_infer_fails(policy, AXON_EPROTOCOL, words);
    assert_answer(policy, 2); /* one reply to each observation: the next ones still belong together */
    axon_policy_close(policy);
    ws_fake_stop(fake);
    free(bad_reply.data);
}

static void replies_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_reply_refused("", "reply");
    assert_reply_refused("c1", "reply");
    assert_reply_refused("81 a1", "reply");
    assert_reply_refused("93 01 02 03", "reply: it is neither a map nor an array");
    assert_reply_refused("c0", "reply: it is neither a map nor an array");
    assert_reply_refused("80 80", "reply");
    assert_reply_refused("df ffffffff", "reply");
    assert_reply_refused("81 a161 84 c40b5f5f6e6461727261795f5f c3 c40464617461 c404 00000000"
                         "c4056474797065 a33c6634 c4057368617065 9109",
                         "reply \"a\"");
}

static void answer_at_length(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_write(peer, "\x82\x7f\x00\x00\x00\x00\x10\x00\x00\x00", 10); /* 256 MiB, it says */
    ws_wait_for_end(peer);
}

static void a_reply_that_is_too_long_is_refused_by_its_header(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_at_length);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_infer_fails(policy, AXON_ETOOBIG, "268435456 bytes or more, limit 67108864 (max_reply_bytes)");
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void die_in_mid_reply(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_write(peer, "\x82\x7e\x10\x00\x81\xa1n", 7);
}

static void a_server_that_dies_in_mid_reply_is_told(void **state)
{
    (void)state;
    ws_fake *fake = serve(die_in_mid_reply);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_infer_fails(policy, AXON_ECONNECT, "hung up without a goodbye in the middle of a message");
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* ---- between calls ------------------------------------------------------------------------------------- */

static void reply_and_close(ws_peer *peer)
{
    ws_skip_message(peer);
    reply_number(peer, 1);
    ws_send_close(peer, 1001, "maintenance");
    ws_note(peer, 0, 1);
    ws_wait_for_end(peer);
}

static void reply_and_hang_up(ws_peer *peer)
{
    ws_skip_message(peer);
    reply_number(peer, 1);
    ws_note(peer, 0, 1);
}

static void reply_and_reset(ws_peer *peer)
{
    ws_skip_message(peer);
    reply_number(peer, 1);
    ws_frame pong;
    ws_send_frame(peer, 0x89, "", 0); /* the reply has been read when this was answered */
    if (ws_expect(peer, 10, &pong)) free(pong.payload);
    ws_reset(peer);
    ws_note(peer, 0, 1);
}

static void assert_death_between_calls_is_told(ws_script script, const char *words)
{
    ws_fake *fake = serve(script);
    axon_policy_options options = {.size = sizeof options, .no_reconnect = 1};
    axon_policy *policy = open_or_fail(fake->url, &options);
    assert_answer(policy, 1);
    assert_true(wait_until(fake, 0, 1));
    ws_pause(50);
    assert_infer_fails(policy, AXON_ECONNECT, words);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void a_server_that_went_between_calls_is_told(void **state)
{
    (void)state;
    assert_death_between_calls_is_told(reply_and_close, "1001 (going away): maintenance");
    assert_death_between_calls_is_told(reply_and_hang_up, "hung up");
    assert_death_between_calls_is_told(reply_and_reset, "reset");
}

static void reply_twice(ws_peer *peer)
{
    ws_skip_message(peer);
    reply_number(peer, 1);
    if (peer->number == 1) reply_number(peer, 99);
    ws_note(peer, 0, 1);
    count_up(peer);
}

static void reply_and_complain(ws_peer *peer)
{
    ws_skip_message(peer);
    reply_number(peer, 1);
    ws_send_frame(peer, 0x81, "RuntimeError: out of memory", 27);
    ws_note(peer, 0, 1);
    count_up(peer);
}

/* A second reply must never be taken for the answer to the next observation. */
static void a_message_that_nobody_asked_for_answers_nothing(void **state)
{
    (void)state;
    ws_fake *fake = serve(reply_twice);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    assert_answer(policy, 1);
    assert_true(wait_until(fake, 0, 1));
    assert_infer_fails(policy, AXON_EPROTOCOL, "nobody asked for");
    assert_answer(policy,
                  1); /* of a new connection, where the next reply belongs to the next observation */
    axon_policy_close(policy);
    ws_fake_stop(fake);

    fake = serve(reply_and_complain);
    policy = open_or_fail(fake->url, NULL);
    assert_answer(policy, 1);
    assert_true(wait_until(fake, 0, 1));
    assert_infer_fails(policy, AXON_ESERVER, "RuntimeError: out of memory");
    assert_string_equal(axon_policy_server_error(policy), "RuntimeError: out of memory");
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static void answer_late_once(ws_peer *peer)
{
    for (int number = 1; ws_skip_message(peer); number++) {
        if (number == 2) ws_pause(600);
        reply_number(peer, number);
    }
}

static void a_late_reply_is_never_taken_for_a_later_ones(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_late_once);
    axon_policy_options options = {.size = sizeof options, .infer_timeout_ms = 300};
    axon_policy *policy = open_or_fail(fake->url, &options);
    assert_answer(policy, 1);
    assert_infer_fails(policy, AXON_ETIMEOUT, ": no reply after 300 ms (infer_timeout_ms)");
    ws_pause(500);
    assert_answer(policy, 3);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void answer_after_300_ms(ws_peer *peer)
{
    for (int number = 1; ws_skip_message(peer); number++) {
        ws_pause(300);
        reply_number(peer, number);
    }
}

static void the_timeout_can_be_changed(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_after_300_ms);
    axon_policy_options options = {.size = sizeof options, .infer_timeout_ms = 10};
    axon_policy *policy = open_or_fail(fake->url, &options);
    assert_ok(axon_policy_set_infer_timeout(policy, 0, &err), &err);
    assert_answer(policy, 1);
    assert_ok(axon_policy_set_infer_timeout(policy, (uint32_t)AXON_FOREVER, &err), &err);
    assert_answer(policy, 2);
    assert_ok(axon_policy_set_infer_timeout(policy, 20, &err), &err);
    assert_infer_fails(policy, AXON_ETIMEOUT, "20 ms (infer_timeout_ms)");
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* ---- cancel, threads, fork ------------------------------------------------------------------------------- */

static void *cancel_soon(void *policy)
{
    ws_pause(100);
    axon_policy_cancel(policy);
    return NULL;
}

static void an_infer_can_be_cancelled(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_wait_for_end);
    axon_policy_options options = {.size = sizeof options, .close_timeout_ms = 50};
    axon_policy *policy = open_or_fail(fake->url, &options);
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, policy);
    assert_infer_fails(policy, AXON_ECANCELED, "cancelled");
    pthread_join(thread, NULL);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void cancelling_nothing_does_nothing(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    axon_policy_cancel(policy);
    assert_answer(policy, 1);
    axon_policy_cancel(policy);
    axon_policy_cancel(policy);
    assert_answer(policy, 2);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

typedef struct canceller {
    axon_policy *policy;
    atomic_bool stop;
} canceller;

static void *cancel_on_and_on(void *argument)
{
    canceller *self = argument;
    while (!atomic_load(&self->stop))
        axon_policy_cancel(self->policy);
    return NULL;
}

/* Whenever the cancel comes, the call ends by it or has its own answer. */
static void a_cancel_may_come_at_any_moment(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    for (int i = 0; i < 30; i++) {
        canceller other = {.policy = open_or_fail(fake->url, NULL)};
        pthread_t thread;
        int64_t number;
        pthread_create(&thread, NULL, cancel_on_and_on, &other);
        axon_status status = AXON_OK;
        for (int n = 1; n <= 20 && status == AXON_OK; n++) {
            status = ask(other.policy, &number);
            if (status == AXON_OK) assert_int_equal(number, n);
        }
        assert_true(status == AXON_OK || status == AXON_ECANCELED);
        atomic_store(&other.stop, true);
        pthread_join(thread, NULL);
        axon_policy_close(other.policy);
    }
    ws_fake_stop(fake);
}

static void *infer_and_wait(void *policy)
{
    axon_error why;
    axon_value *observation = make_observation(), *actions;
    axon_status status = axon_policy_infer(policy, observation, &actions, &why);
    axon_value_free(observation);
    return (void *)(intptr_t)status;
}

static void two_threads_at_once_are_refused(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_wait_for_end);
    axon_policy_options options = {.size = sizeof options, .close_timeout_ms = 50};
    axon_policy *policy = open_or_fail(fake->url, &options);
    pthread_t thread;
    void *status;
    pthread_create(&thread, NULL, infer_and_wait, policy);
    ws_pause(200);
    assert_infer_fails(policy, AXON_EINVAL, "another thread");
    axon_policy_cancel(policy);
    pthread_join(thread, &status);
    assert_int_equal((intptr_t)status, AXON_ECANCELED);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static void a_forked_child_may_only_close(void **state)
{
    (void)state;
    ws_fake *fake = serve(count_up);
    axon_policy *policy = open_or_fail(fake->url, NULL);
    pid_t child = fork();
    if (child == 0) {
        int64_t number;
        bool refused = ask(policy, &number) == AXON_EINVAL && strstr(err.message, "parent");
        axon_policy_cancel(policy);
        axon_policy_close(policy);
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_answer(policy, 1);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static int32_t interrupt(void *user)
{
    (void)user;
    return 1;
}

static void the_interrupt_function_ends_an_infer(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_wait_for_end);
    axon_policy_options options = {.size = sizeof options, .close_timeout_ms = 50};
    axon_policy *policy = open_or_fail(fake->url, &options);
    axon_set_interrupt(interrupt, NULL);
    int64_t number;
    axon_status status = ask(policy, &number);
    axon_set_interrupt(NULL, NULL);
    assert_int_equal(status, AXON_ECANCELED);
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_become_whole_urls),
        cmocka_unit_test(what_is_no_url_is_refused),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(options_of_other_versions_are_read),
        cmocka_unit_test(null_is_refused_or_harmless),
        cmocka_unit_test(the_metadata_is_kept),
        cmocka_unit_test(slow_metadata_is_waited_for),
        cmocka_unit_test(a_server_that_says_nothing_is_told),
        cmocka_unit_test(metadata_that_is_none_is_refused),
        cmocka_unit_test(a_wrong_key_is_told),
        cmocka_unit_test(an_absent_server_is_told),
        cmocka_unit_test(an_observation_travels_as_openpi_writes_it),
        cmocka_unit_test(observations_are_answered_in_turn),
        cmocka_unit_test(large_observations_and_actions_arrive_whole),
        cmocka_unit_test(a_bad_observation_is_refused_before_anything_is_sent),
        cmocka_unit_test(a_traceback_is_told_by_its_last_line),
        cmocka_unit_test(odd_texts_are_told_too),
        cmocka_unit_test(after_openpis_error_the_close_is_told),
        cmocka_unit_test(replies_that_are_none_are_refused),
        cmocka_unit_test(a_reply_that_is_too_long_is_refused_by_its_header),
        cmocka_unit_test(a_server_that_dies_in_mid_reply_is_told),
        cmocka_unit_test(a_server_that_went_between_calls_is_told),
        cmocka_unit_test(a_message_that_nobody_asked_for_answers_nothing),
        cmocka_unit_test(a_late_reply_is_never_taken_for_a_later_ones),
        cmocka_unit_test(the_timeout_can_be_changed),
        cmocka_unit_test(an_infer_can_be_cancelled),
        cmocka_unit_test(cancelling_nothing_does_nothing),
        cmocka_unit_test(a_cancel_may_come_at_any_moment),
        cmocka_unit_test(two_threads_at_once_are_refused),
        cmocka_unit_test(a_forked_child_may_only_close),
        cmocka_unit_test(the_interrupt_function_ends_an_infer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

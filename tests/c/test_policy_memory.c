/* Policy sessions when memory runs out: every allocation of ours fails once, and nothing is lost or leaked. */
#include "checks.h"
#include "failing_malloc.h"
#include "fakes/ws_fake.c"
#include "ws.h"

#include <axon/policy.h>

static axon_error err;

static const uint8_t metadata[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 7};
static const uint8_t actions_map[] = {0x81, 0xa1, 'n', 0x93, 1, 2, 3};

/* A pong and a fragmented reply: every way in is taken. */
static void answer_all(ws_peer *peer)
{
    while (ws_skip_message(peer)) {
        ws_send_frame(peer, 0x89, "ping", 4);
        ws_send_frame(peer, 0x02, actions_map, 3);
        ws_send_frame(peer, 0x80, actions_map + 3, sizeof actions_map - 3);
    }
}

static void answer_with_errors(ws_peer *peer)
{
    while (ws_skip_message(peer))
        ws_send_frame(peer, 0x81, "Traceback\nValueError: no", 24);
}

static const float numbers[300] = {1};

static axon_value *make_observation(void)
{
    axon_array array = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {150}, .strides = {8}, .data = numbers};
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "state", axon_value_array(&array));
    axon_value_set(observation, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
    return observation;
}

/* Opens, asks twice, closes: the first failure. */
static axon_status run_session(const char *url, const axon_value *observation)
{
    axon_policy_options options = {.size = sizeof options, .api_key = "key", .close_timeout_ms = 500};
    axon_policy *policy;
    axon_status status = axon_policy_open(&policy, url, &options, &err);
    if (status != AXON_OK) return status;
    for (int i = 0; i < 2 && status == AXON_OK; i++) {
        axon_value *actions;
        status = axon_policy_infer(policy, observation, &actions, &err);
        if (status == AXON_OK) axon_value_free(actions);
    }
    axon_policy_close(policy);
    return status;
}

/* Runs a session with the first allocation failing, with the second, and so on; `usual` is how it ends else. */
static void survives(const char *url, axon_status usual)
{
    axon_value *observation = make_observation();
    int told = 0;
    for (long count = 0;; count++) {
        fail_after(count);
        axon_status status = run_session(url, observation);
        if (!fail_no_more()) {
            assert_int_equal(status, usual);
            break;
        }
        if (status == usual) continue;
        if (status != AXON_ENOMEM) fail_msg("allocation %ld: %s", count, err.message);
        assert_non_null(strstr(err.message, "out of memory"));
        told++;
    }
    axon_value_free(observation);
    assert_true(told > 10);
}

static void a_session_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin(
            (ws_fake){.script = answer_all, .early = metadata, .early_length = sizeof metadata});
        axi_ws_force_plain(plain);
        survives(fake->url, AXON_OK);
        axi_ws_force_plain(false);
        ws_fake_stop(fake);
    }
}

static void so_does_one_with_errors_of_the_server(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = answer_with_errors, .early = metadata, .early_length = sizeof metadata});
    survives(fake->url, AXON_ESERVER);
    ws_fake_stop(fake);
}

/* {"needs_session_id": true, "n_external_cameras": 2}: RoboArena's, whose reset is said again after a reconnect. */
static const uint8_t roboarena[] = "\x82\x27\x82\xb0needs_session_id\xc3\xb2n_external_cameras\x02";

/* Hangs up after every action. */
static void answer_once(ws_peer *peer)
{
    for (ws_frame frame; ws_expect(peer, 2, &frame);) {
        bool is_reset = memmem(frame.payload, frame.length, "\xa5reset", 6) != NULL;
        free(frame.payload);
        if (is_reset)
            ws_send_frame(peer, 0x81, "reset successful", 16);
        else
            ws_send_frame(peer, 0x82, actions_map, sizeof actions_map);
        if (!is_reset) return;
    }
}

/* A call whose memory ran out leaves a session that answers the next one. */
static axon_status ask_until_answered(axon_policy *policy, const axon_value *observation)
{
    axon_value *actions;
    axon_status status = axon_policy_infer(policy, observation, &actions, &err);
    if (status == AXON_OK) axon_value_free(actions);
    if (status != AXON_ENOMEM) return status;
    axon_error first = err;
    assert_ok(axon_policy_infer(policy, observation, &actions, &err), &err);
    axon_value_free(actions);
    err = first;
    return status;
}

/* Three steps over three connections; the failure comes after the opening. */
static axon_status run_reconnects(const char *const *urls, const axon_value *observation, long count)
{
    axon_policy_options options = {.size = sizeof options,
                                   .more_urls = urls + 1,
                                   .resend = 1,
                                   .retry_min_ms = 1,
                                   .close_timeout_ms = 500};
    axon_policy *policy;
    assert_ok(axon_policy_open(&policy, urls[0], &options, &err), &err);
    fail_after(count);
    axon_status status = axon_policy_reset(policy, observation, &err);
    for (int i = 0; i < 3 && status == AXON_OK; i++)
        status = ask_until_answered(policy, observation);
    axon_policy_close(policy);
    return status;
}

static void so_do_reconnects(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = answer_once, .early = roboarena, .early_length = sizeof roboarena - 1});
    const char *const urls[] = {"127.0.0.1:1", fake->url, NULL};
    axon_value *observation = make_observation();
    int told = 0;
    for (long count = 0;; count++) {
        axon_status status = run_reconnects(urls, observation, count);
        if (!fail_no_more()) {
            assert_ok(status, &err);
            break;
        }
        if (status != AXON_OK && status != AXON_ENOMEM) fail_msg("allocation %ld: %s", count, err.message);
        told += status == AXON_ENOMEM;
    }
    axon_value_free(observation);
    ws_fake_stop(fake);
    assert_true(told > 20);
}

static void so_does_the_looking_up_of_names(void **state)
{
    (void)state;
    ws_fake *fake =
        ws_fake_begin((ws_fake){.script = answer_all, .early = metadata, .early_length = sizeof metadata});
    char url[64];
    snprintf(url, sizeof url, "ws://localhost:%d", fake->port);
    survives(url, AXON_OK);
    ws_fake_stop(fake);
}

static void so_does_tls(void **state)
{
    (void)state;
    char ca_path[] = "/tmp/axon-ca-XXXXXX";
    ws_identity authority = ws_certify(NULL, 3600, NULL);
    ws_identity server = ws_certify("IP:127.0.0.1", 3600, &authority);
    close(mkstemp(ca_path));
    ws_write_pem(&authority, ca_path);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = answer_all,
                                            .early = metadata,
                                            .early_length = sizeof metadata,
                                            .tls = ws_tls_of(&server)});
    for (long count = 0;; count++) {
        axon_policy_options options = {.size = sizeof options, .ca_file = ca_path, .close_timeout_ms = 500};
        axon_policy *policy;
        fail_after(count);
        axon_status status = axon_policy_open(&policy, fake->url, &options, &err);
        if (status == AXON_OK) axon_policy_close(policy);
        if (!fail_no_more()) {
            assert_int_equal(status, AXON_OK);
            break;
        }
        assert_true(status == AXON_OK || status == AXON_ENOMEM);
    }
    ws_fake_stop(fake);
    ws_forget_identity(&server);
    ws_forget_identity(&authority);
    unlink(ca_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_survives_every_failed_allocation),
        cmocka_unit_test(so_does_one_with_errors_of_the_server),
        cmocka_unit_test(so_do_reconnects),
        cmocka_unit_test(so_does_the_looking_up_of_names),
        cmocka_unit_test(so_does_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

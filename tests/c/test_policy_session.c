/* What a session goes through without ever handing back a stale action: late replies, lost connections, other
 * servers. Every answer carries the number of the observation that it belongs to. */
#include "checks.h"
#include "fakes/ws_fake.c"

#include <axon/policy.h>

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

static const uint8_t metadata[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 7};
static const uint8_t other_metadata[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 8};

static ws_fake *serve(ws_script script)
{
    return ws_fake_begin((ws_fake){.script = script, .early = metadata, .early_length = sizeof metadata});
}

static ws_fake *serve_other(ws_script script)
{
    return ws_fake_begin(
        (ws_fake){.script = script, .early = other_metadata, .early_length = sizeof other_metadata});
}

static axon_policy *open_with(const char *url, axon_policy_options options)
{
    options.size = sizeof options;
    axon_policy *policy = NULL;
    assert_ok(axon_policy_open(&policy, url, &options, &err), &err);
    return policy;
}

static void end(axon_policy *policy, ws_fake *fake)
{
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

/* Sends {"i": number}, 0 to 127. */
static axon_status ask(axon_policy *policy, int64_t number, axon_value **actions)
{
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "i", axon_value_int(number));
    axon_status status = axon_policy_infer(policy, observation, actions, &err);
    axon_value_free(observation);
    return status;
}

/* The answer must be the one to this observation. */
static void assert_answered(axon_policy *policy, int64_t number)
{
    axon_value *actions = NULL;
    assert_ok(ask(policy, number, &actions), &err);
    int64_t got = -1;
    axon_value_as_int(axon_value_get(actions, "i"), &got);
    axon_value_free(actions);
    assert_int_equal(got, number);
}

static void assert_ask_fails(axon_policy *policy, int64_t number, axon_status status, const char *words)
{
    axon_value *actions = NULL;
    assert_fails(ask(policy, number, &actions), status, &err, words);
    assert_null(actions);
}

static axon_policy_stats stats_of(const axon_policy *policy)
{
    axon_policy_stats stats;
    assert_ok(axon_policy_get_stats(policy, &stats, &err), &err);
    return stats;
}

/* Receives one request; -1 when there is none, -2 when it is a webpolicy reset, else the number in it: the last
 * byte. */
static int receive(ws_peer *peer)
{
    ws_frame frame;
    if (!ws_expect(peer, 2, &frame)) return -1;
    bool is_reset = memmem(frame.payload, frame.length, "\xa5reset", 6) != NULL;
    int number = is_reset ? -2 : frame.payload[frame.length - 1];
    free(frame.payload);
    return number;
}

static void answer(ws_peer *peer, int number)
{
    uint8_t reply[] = {0x81, 0xa1, 'i', (uint8_t)number};
    ws_send_frame(peer, 0x82, reply, sizeof reply);
}

static void echo(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;)
        answer(peer, number);
}

/* ---- replies that come late ---------------------------------------------------------------------- */

static void answer_the_first_late(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;) {
        if (number == 1) ws_pause(400);
        answer(peer, number);
    }
}

static void a_late_reply_is_thrown_away(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_the_first_late);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 100});
    assert_ask_fails(policy, 1, AXON_ETIMEOUT, "no reply after 100 ms (infer_timeout_ms)");
    assert_ask_fails(policy, 2, AXON_ETIMEOUT, "still owes the reply to an earlier call after 100 ms");
    ws_pause(400);
    assert_answered(policy, 3);
    assert_answered(policy, 4);
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.calls, 4);
    assert_int_equal(stats.replies, 2);
    assert_int_equal(stats.timeouts, 2);
    assert_int_equal(stats.discarded, 1);
    assert_int_equal(stats.reconnects, 0);
    end(policy, fake);
}

static void never_answer_the_first(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;)
        if (peer->number > 1) answer(peer, number);
}

static void a_reply_that_never_comes_costs_the_connection(void **state)
{
    (void)state;
    ws_fake *fake = serve(never_answer_the_first);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 200, .grace_ms = 250});
    assert_ask_fails(policy, 1, AXON_ETIMEOUT, "no reply");
    assert_ask_fails(policy, 2, AXON_ETIMEOUT, "still owes");
    ws_pause(100);
    assert_answered(policy, 3);
    assert_int_equal(stats_of(policy).reconnects, 1);
    assert_int_equal(stats_of(policy).discarded, 0);
    end(policy, fake);
}

static void answer_in_halves(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;) {
        uint8_t reply[] = {0x82, 4, 0x81, 0xa1, 'i', (uint8_t)number};
        ws_write(peer, reply, 3);
        if (number == 1) ws_pause(300);
        ws_write(peer, reply + 3, 3);
    }
}

static void half_a_late_reply_is_thrown_away_whole(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_in_halves);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 100});
    assert_ask_fails(policy, 1, AXON_ETIMEOUT, "no reply");
    axon_policy_set_infer_timeout(policy, 5000, NULL);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).discarded, 1);
    end(policy, fake);
}

static void complain_late(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;) {
        if (number == 1) {
            ws_pause(200);
            ws_send_frame(peer, 0x81, "KeyError", 8);
        } else {
            answer(peer, number);
        }
    }
}

static void a_late_error_is_thrown_away_as_well(void **state)
{
    (void)state;
    ws_fake *fake = serve(complain_late);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 50});
    assert_ask_fails(policy, 1, AXON_ETIMEOUT, "no reply");
    axon_policy_set_infer_timeout(policy, 5000, NULL);
    assert_answered(policy, 2);
    assert_null(axon_policy_server_error(policy));
    end(policy, fake);
}

static void *cancel_soon(void *policy)
{
    ws_pause(50);
    axon_policy_cancel(policy);
    return NULL;
}

static void after_a_cancel_the_session_goes_on(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_the_first_late);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, policy);
    assert_ask_fails(policy, 1, AXON_ECANCELED, "cancelled");
    pthread_join(thread, NULL);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).cancels, 1);
    assert_int_equal(stats_of(policy).discarded, 1);
    end(policy, fake);
}

/* ---- connections that break ---------------------------------------------------------------------- */

static void answer_one_and_go(ws_peer *peer)
{
    int number = receive(peer);
    if (number >= 0) answer(peer, number);
    ws_note(peer, 0, peer->number);
}

static void a_connection_lost_between_calls_is_opened_again(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_one_and_go);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    for (int64_t number = 1; number <= 3; number++) {
        assert_answered(policy, number);
        while (ws_noted(fake, 0) < number)
            ws_pause(5);
        ws_pause(20);
    }
    assert_int_equal(stats_of(policy).reconnects, 2);
    end(policy, fake);
}

static void take_the_first_and_go(ws_peer *peer)
{
    int number = receive(peer);
    if (number < 0 || peer->number == 1) return;
    ws_note(peer, 1, number);
    answer(peer, number);
    echo(peer);
}

static void what_was_sent_is_not_sent_twice_unless_asked_for(void **state)
{
    (void)state;
    ws_fake *fake = serve(take_the_first_and_go);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_ask_fails(policy, 1, AXON_ECONNECT, "hung up");
    assert_answered(policy, 2);
    assert_int_equal(ws_noted(fake, 1), 2);
    end(policy, fake);

    fake = serve(take_the_first_and_go);
    policy = open_with(fake->url, (axon_policy_options){.resend = 1});
    assert_answered(policy, 1);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).resent, 1);
    end(policy, fake);
}

static void die_in_mid_reply_once(ws_peer *peer)
{
    if (peer->number > 1) {
        echo(peer);
    } else if (receive(peer) >= 0) {
        ws_write(peer, "\x82\x04\x81", 3);
    }
}

static void a_half_answered_observation_is_never_sent_again(void **state)
{
    (void)state;
    ws_fake *fake = serve(die_in_mid_reply_once);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.resend = 1});
    assert_ask_fails(policy, 1, AXON_ECONNECT, "in the middle of a message");
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).resent, 0);
    end(policy, fake);
}

static void fail_and_close(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0; answer(peer, number)) {
        if (number != 1) continue;
        ws_send_frame(peer, 0x81, "KeyError: 'state'", 17);
        ws_pause(20);
        ws_send_close(peer, 1011, "Internal server error");
        return;
    }
}

static void a_server_error_is_told_once_and_the_session_goes_on(void **state)
{
    (void)state;
    ws_fake *fake = serve(fail_and_close);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_ask_fails(policy, 1, AXON_ESERVER, "KeyError: 'state'");
    assert_string_equal(axon_policy_server_error(policy), "KeyError: 'state'");
    assert_answered(policy, 2); /* at once, while the server's goodbye is still on its way */
    assert_int_equal(stats_of(policy).reconnects, 1);
    end(policy, fake);
}

static void hang_up_once_then_talk_first(ws_peer *peer)
{
    if (peer->number > 1) echo(peer);
}

static void what_comes_unasked_with_the_metadata_of_a_reconnect_is_not_taken(void **state)
{
    (void)state;
    static const uint8_t early[] = {0x82, 6,    0x81, 0xa3, 'a', 'g', 'e', 7, /* the metadata */
                                    0x82, 0x04, 0x81, 0xa1, 'i', 99};
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = hang_up_once_then_talk_first, .early = early, .early_length = sizeof early});
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    for (int i = 0; i < 2; i++)
        assert_ask_fails(policy, 1, AXON_EPROTOCOL, "a message that nobody asked for");
    end(policy, fake);
}

/* ---- other servers ------------------------------------------------------------------------------- */

static void other_metadata_is_refused_unless_allowed(void **state)
{
    (void)state;
    for (int32_t may_change = 0; may_change <= 1; may_change++) {
        ws_fake *first = serve(answer_one_and_go), *second = serve_other(echo);
        const char *more[] = {second->url, NULL};
        axon_policy *policy = open_with(
            first->url,
            (axon_policy_options){.more_urls = more, .connect_once = 1, .metadata_may_change = may_change});
        assert_string_equal(axon_policy_url(policy), first->url);
        assert_answered(policy, 1);
        ws_fake_stop(first);
        if (!may_change) {
            assert_ask_fails(policy, 2, AXON_EPROTOCOL, "\"age\" was 7, is 8 (metadata_may_change)");
        } else {
            int64_t age;
            assert_answered(policy, 2);
            assert_ok(axon_value_as_int(axon_value_get(axon_policy_metadata(policy), "age"), &age), &err);
            assert_int_equal(age, 8);
            assert_string_equal(axon_policy_url(policy), second->url);
            assert_int_equal(stats_of(policy).failovers, 1);
        }
        end(policy, second);
    }
}

static void servers_are_tried_in_order(void **state)
{
    (void)state;
    ws_fake *gone = serve(echo), *here = serve(echo);
    char nowhere[64];
    snprintf(nowhere, sizeof nowhere, "%s", gone->url);
    ws_fake_stop(gone);
    const char *more[] = {here->url, NULL};
    axon_policy *policy = open_with(nowhere, (axon_policy_options){.more_urls = more});
    assert_string_equal(axon_policy_url(policy), here->url);
    assert_answered(policy, 1);
    end(policy, here);
}

static void when_nobody_is_there_the_deadline_holds(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_one_and_go);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 300, .connect_timeout_ms = 20000});
    assert_answered(policy, 1);
    char url[64];
    snprintf(url, sizeof url, "%s", fake->url);
    ws_fake_stop(fake);
    assert_ask_fails(policy, 2, AXON_ECONNECT, "refused");
    assert_memory_equal(err.message, url, strlen(url));
    axon_policy_close(policy);
}

static void *cancel_later(void *policy)
{
    ws_pause(300);
    axon_policy_cancel(policy);
    return NULL;
}

static void a_reconnect_can_be_cancelled(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_one_and_go);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.connect_timeout_ms = 60000});
    assert_answered(policy, 1);
    ws_fake_stop(fake);
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_later, policy);
    assert_ask_fails(policy, 2, AXON_ECANCELED, "cancelled");
    pthread_join(thread, NULL);
    axon_policy_close(policy);
}

/* ---- resets -------------------------------------------------------------------------------------- */

/* As webpolicy's server, for one connection's worth of four requests; notes how many resets each connection had. */
static void webpolicy(ws_peer *peer)
{
    static const uint8_t ack[] = "\x81\xb7__webpolicy_reset_ack__\xc3";
    for (int count = 0, number; count < 3 && (number = receive(peer)) != -1; count++) {
        if (number == -2) {
            ws_note(peer, peer->number, 1 + ws_noted(peer->fake, peer->number));
            ws_send_frame(peer, 0x82, ack, sizeof ack - 1);
        } else {
            uint8_t reply[] = {0x81, 0xa6, 'a', 'c', 't', 'i', 'o', 'n', 0x81, 0xa1, 'i', (uint8_t)number};
            ws_send_frame(peer, 0x82, reply, sizeof reply);
        }
    }
    ws_note(peer, 0, peer->number);
}

static void the_last_reset_is_repeated_after_a_reconnect(void **state)
{
    (void)state;
    ws_fake *fake = serve(webpolicy);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.dialect = AXON_WEBPOLICY});
    axon_value *payload = axon_value_map();
    axon_value_set(payload, "seed", axon_value_int(3));
    assert_ok(axon_policy_reset(policy, payload, &err), &err);
    axon_value_free(payload);
    assert_answered(policy, 1);
    assert_answered(policy, 2);
    while (ws_noted(fake, 0) < 1)
        ws_pause(5);
    ws_pause(20);
    assert_answered(policy, 3);
    assert_int_equal(ws_noted(fake, 1), 1);
    assert_int_equal(ws_noted(fake, 2), 1);
    end(policy, fake);
}

static void openpi_has_no_reset(void **state)
{
    (void)state;
    ws_fake *fake = serve(echo);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_ok(axon_policy_reset(policy, NULL, &err), &err);
    assert_answered(policy, 1);
    assert_int_equal(axon_policy_dialect(policy), AXON_OPENPI);
    end(policy, fake);
}

/* ---- where the time went ------------------------------------------------------------------------- */

static void answer_with_timing(ws_peer *peer)
{
    for (int number; (number = receive(peer)) >= 0;) {
        static const char text[] = "\x82\xa1i\x00\xadserver_timing\x81\xa8infer_ms\xcb\x40\x24\0\0\0\0\0\0";
        uint8_t reply[sizeof text - 1];
        memcpy(reply, text, sizeof reply);
        reply[3] = (uint8_t)number;
        ws_pause(30);
        ws_send_frame(peer, 0x82, reply, sizeof reply);
    }
}

static void times_add_up(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_with_timing);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    axon_timing timing;
    assert_fails(axon_policy_timing(policy, &timing, &err), AXON_EINVAL, &err, "no reply yet");
    assert_string_equal(stats_of(policy).verdict, "no reply yet");
    for (int64_t number = 0; number < 5; number++)
        assert_answered(policy, number);
    assert_ok(axon_policy_timing(policy, &timing, &err), &err);
    assert_true(timing.wait_ms >= 25);
    assert_true(timing.server_ms > 9.99 && timing.server_ms < 10.01);
    double parts =
        timing.encode_ms + timing.connect_ms + timing.send_ms + timing.wait_ms + timing.decode_ms;
    assert_true(parts <= timing.total_ms + 0.01);
    assert_int_equal(timing.sent_bytes, 4);
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.window, 5);
    assert_true(stats.total.p50 <= stats.total.p95 && stats.total.p95 <= stats.total.p99);
    assert_true(stats.total.p99 <= stats.total.max && stats.network.p50 >= 15);
    assert_non_null(strstr(stats.verdict, "server 10 ms, network "));
    end(policy, fake);
}

static void the_window_forgets_what_is_old(void **state)
{
    (void)state;
    ws_fake *fake = serve(echo);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    for (int64_t number = 0; number < AXON_STATS_WINDOW + 50; number++)
        assert_answered(policy, number & 0x7f);
    assert_int_equal(stats_of(policy).window, AXON_STATS_WINDOW);
    assert_int_equal(stats_of(policy).replies, AXON_STATS_WINDOW + 50);
    end(policy, fake);
}

static void hang_up(ws_peer *peer)
{
    (void)peer;
}

static void a_server_that_hangs_up_behind_its_metadata_is_a_lost_connection(void **state)
{
    (void)state;
    ws_fake *fake = serve(hang_up);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    for (int i = 0; i < 20; i++)
        assert_ask_fails(policy, 1, AXON_ECONNECT, fake->url);
    end(policy, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_reply_is_thrown_away),
        cmocka_unit_test(a_reply_that_never_comes_costs_the_connection),
        cmocka_unit_test(half_a_late_reply_is_thrown_away_whole),
        cmocka_unit_test(a_late_error_is_thrown_away_as_well),
        cmocka_unit_test(after_a_cancel_the_session_goes_on),
        cmocka_unit_test(a_connection_lost_between_calls_is_opened_again),
        cmocka_unit_test(what_was_sent_is_not_sent_twice_unless_asked_for),
        cmocka_unit_test(a_half_answered_observation_is_never_sent_again),
        cmocka_unit_test(a_server_error_is_told_once_and_the_session_goes_on),
        cmocka_unit_test(what_comes_unasked_with_the_metadata_of_a_reconnect_is_not_taken),
        cmocka_unit_test(a_server_that_hangs_up_behind_its_metadata_is_a_lost_connection),
        cmocka_unit_test(other_metadata_is_refused_unless_allowed),
        cmocka_unit_test(servers_are_tried_in_order),
        cmocka_unit_test(when_nobody_is_there_the_deadline_holds),
        cmocka_unit_test(a_reconnect_can_be_cancelled),
        cmocka_unit_test(the_last_reset_is_repeated_after_a_reconnect),
        cmocka_unit_test(openpi_has_no_reset),
        cmocka_unit_test(times_add_up),
        cmocka_unit_test(the_window_forgets_what_is_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What a session promises: no reply is ever taken for that of another observation, and every failure but closing
 * leaves it usable. The server gives every observation its own number back, unless it misbehaves. */
#include "checks.h"
#include "fakes/ws_fake.c"

#include <axon/policy.h>

#include <linux/filter.h>
#include <stdatomic.h>
#include <time.h>

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

static const uint8_t metadata[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 7};

enum { SEEN, RELEASED }; /* notes: messages that the server read; set by the test */

static ws_fake *serve(ws_script script)
{
    return ws_fake_begin((ws_fake){.script = script, .early = metadata, .early_length = sizeof metadata});
}

static axon_policy *open_with(const char *url, axon_policy_options options)
{
    axon_policy *policy = NULL;
    options.size = sizeof options;
    assert_ok(axon_policy_open(&policy, url, &options, &err), &err);
    return policy;
}

static void finish(axon_policy *policy, ws_fake *fake)
{
    axon_policy_close(policy);
    ws_fake_stop(fake);
}

static axon_status ask(axon_policy *policy, int64_t number, int64_t *answer)
{
    axon_value *observation = axon_value_map(), *actions = NULL;
    axon_value_set(observation, "n", axon_value_int(number));
    axon_status status = axon_policy_infer(policy, observation, &actions, &err);
    axon_value_free(observation);
    if (status != AXON_OK) {
        assert_null(actions);
        return status;
    }
    *answer = -1;
    axon_value_as_int(axon_value_get(actions, "n"), answer);
    axon_value_free(actions);
    return AXON_OK;
}

static void assert_answered(axon_policy *policy, int64_t number)
{
    int64_t answer;
    assert_ok(ask(policy, number, &answer), &err);
    assert_int_equal(answer, number);
}

static void assert_unanswered(axon_policy *policy, int64_t number, axon_status status, const char *words)
{
    int64_t answer;
    assert_fails(ask(policy, number, &answer), status, &err, words);
}

static axon_policy_stats stats_of(axon_policy *policy)
{
    axon_policy_stats stats;
    assert_ok(axon_policy_get_stats(policy, &stats, &err), &err);
    return stats;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool is_released(ws_peer *peer)
{
    return ws_noted(peer->fake, RELEASED) != 0;
}

static void release(ws_fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->notes[RELEASED] = 1;
    pthread_mutex_unlock(&fake->lock);
}

static void wait_for_release(ws_peer *peer)
{
    for (int i = 0; i < 1000 && !is_released(peer); i++)
        ws_pause(10);
}

static bool read_observation(ws_peer *peer, ws_frame *frame)
{
    if (!ws_expect(peer, 2, frame)) return false;
    ws_note(peer, SEEN, ws_noted(peer->fake, SEEN) + 1);
    return true;
}

static void give_back(ws_peer *peer, ws_frame *frame)
{
    ws_send_frame(peer, 0x82, frame->payload, frame->length);
    free(frame->payload);
}

/* ---- replies that are owed ----------------------------------------------------------------------- */

static void keep_the_first_until_released(ws_peer *peer)
{
    for (ws_frame frame; read_observation(peer, &frame); give_back(peer, &frame))
        wait_for_release(peer);
}

static void a_late_reply_is_discarded_by_the_next_call(void **state)
{
    (void)state;
    ws_fake *fake = serve(keep_the_first_until_released);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 100});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, ": no reply after 100 ms (infer_timeout_ms)");
    release(fake);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_answered(policy, 3);
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.calls, 3);
    assert_int_equal(stats.replies, 2);
    assert_int_equal(stats.timeouts, 1);
    assert_int_equal(stats.discarded, 1);
    assert_int_equal(stats.reconnects, 0);
    assert_int_equal(ws_accepted(fake), 1);
    finish(policy, fake);
}

static void while_a_reply_is_owed_nothing_else_is_sent(void **state)
{
    (void)state;
    ws_fake *fake = serve(keep_the_first_until_released);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 60});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    assert_unanswered(policy, 2, AXON_ETIMEOUT, "still owes the reply to an earlier call after 60 ms");
    assert_unanswered(policy, 3, AXON_ETIMEOUT, "after 60 ms (infer_timeout_ms)");
    assert_int_equal(stats_of(policy).timeouts, 3);
    assert_int_equal(ws_noted(fake, SEEN), 1);
    release(fake);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 4);
    assert_int_equal(ws_noted(fake, SEEN), 2);
    finish(policy, fake);
}

static void never_answer_the_first_connection(ws_peer *peer)
{
    if (peer->number == 1)
        ws_wait_for_end(peer);
    else
        ws_echo(peer);
}

static void after_the_grace_the_connection_is_replaced(void **state)
{
    (void)state;
    ws_fake *fake = serve(never_answer_the_first_connection);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 50, .grace_ms = 100});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    ws_pause(200);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).reconnects, 1);
    assert_int_equal(stats_of(policy).discarded, 0);
    finish(policy, fake);
}

static void so_is_one_whose_grace_ends_in_a_call(void **state)
{
    (void)state;
    ws_fake *fake = serve(never_answer_the_first_connection);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 50, .grace_ms = 300});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).reconnects, 1);
    finish(policy, fake);
}

/* Half of the first reply, and the rest when the test says so. */
static void answer_the_first_in_halves(ws_peer *peer)
{
    ws_frame frame;
    if (!read_observation(peer, &frame)) return;
    uint8_t reply[16] = {0x82, (uint8_t)frame.length};
    memcpy(reply + 2, frame.payload, (size_t)frame.length);
    ws_write(peer, reply, 3);
    wait_for_release(peer);
    ws_write(peer, reply + 3, (size_t)frame.length - 1);
    free(frame.payload);
    ws_echo(peer);
}

static void half_a_reply_is_owed_as_well(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_the_first_in_halves);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 100});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    assert_unanswered(policy, 2, AXON_ETIMEOUT, "owe");
    release(fake);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 3);
    assert_int_equal(stats_of(policy).discarded, 1);
    assert_int_equal(ws_accepted(fake), 1);
    finish(policy, fake);
}

static void complain_late(ws_peer *peer)
{
    ws_frame frame;
    if (!read_observation(peer, &frame)) return;
    free(frame.payload);
    wait_for_release(peer);
    ws_send_frame(peer, 0x81, "KeyError", 8);
    ws_echo(peer);
}

static void an_owed_error_is_discarded_where_the_server_goes_on(void **state)
{
    (void)state;
    ws_fake *fake = serve(complain_late);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 50});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    release(fake);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_null(axon_policy_server_error(policy));
    assert_int_equal(stats_of(policy).reconnects, 0);
    finish(policy, fake);
}

static void close_after_a_late_error(ws_peer *peer)
{
    ws_frame frame;
    if (peer->number > 1) {
        ws_echo(peer);
    } else if (read_observation(peer, &frame)) {
        free(frame.payload);
        wait_for_release(peer);
        ws_send_frame(peer, 0x81, "KeyError: 'state'", 17);
        ws_pause(100);
        ws_send_close(peer, 1011, "Internal server error.");
        ws_wait_for_end(peer);
    }
}

static void an_owed_error_costs_the_connection_and_no_call(void **state)
{
    (void)state;
    ws_fake *fake = serve(close_after_a_late_error);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 100});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    release(fake);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_null(axon_policy_server_error(policy));
    assert_int_equal(stats_of(policy).reconnects, 1);
    finish(policy, fake);
}

static void closing_does_not_wait_for_an_owed_reply(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_wait_for_end);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 50, .close_timeout_ms = 60000});
    assert_unanswered(policy, 1, AXON_ETIMEOUT, "no reply");
    double begin = seconds();
    axon_policy_close(policy);
    assert_true(seconds() - begin < 20);
    ws_fake_stop(fake);
}

/* ---- why a reply does not come ------------------------------------------------------------------- */

static void a_server_that_takes_its_time_is_called_busy(void **state)
{
    (void)state;
    ws_fake *fake = serve(keep_the_first_until_released);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 300});
    for (int i = 0; i < 2; i++)
        assert_unanswered(
            policy, 1, AXON_ETIMEOUT,
            "after 300 ms (infer_timeout_ms): its machine acknowledges all that was sent, so it is busy");
    release(fake);
    finish(policy, fake);
}

/* Drops whatever arrives after the first reply was acknowledged, as a machine that lost its power does. */
static void answer_once_and_play_dead(ws_peer *peer)
{
    struct sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 1, .filter = drop_all};
    ws_frame frame;
    if (!read_observation(peer, &frame)) return;
    give_back(peer, &frame);
    ws_pause(100);
    setsockopt(peer->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    ws_note(peer, SEEN, 2);
    wait_for_release(peer);
}

static void a_machine_that_acknowledges_nothing_is_called_dead(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_once_and_play_dead);
    axon_policy *policy =
        open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 1600, .close_timeout_ms = 100});
    assert_answered(policy, 1);
    while (ws_noted(fake, SEEN) < 2)
        ws_pause(5);
    assert_unanswered(
        policy, 2, AXON_ETIMEOUT,
        "no reply after 1600 ms (infer_timeout_ms): its machine has acknowledged nothing for ");
    if (!strstr(err.message, " ms, so it is dead or cut off")) fail_msg("%s", err.message);
    release(fake);
    finish(policy, fake);
}

/* ---- cancelling ---------------------------------------------------------------------------------- */

static void *cancel_soon(void *policy)
{
    ws_pause(100);
    axon_policy_cancel(policy);
    return NULL;
}

static void assert_cancelled(axon_policy *policy, int64_t number)
{
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, policy);
    assert_unanswered(policy, number, AXON_ECANCELED, "cancel");
    pthread_join(thread, NULL);
}

static void a_cancelled_call_leaves_the_session_usable(void **state)
{
    (void)state;
    ws_fake *fake = serve(keep_the_first_until_released);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_cancelled(policy, 1);
    assert_cancelled(policy, 2); /* while the first reply is owed */
    release(fake);
    assert_answered(policy, 3);
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.cancels, 2);
    assert_int_equal(stats.discarded, 1);
    assert_int_equal(ws_noted(fake, SEEN), 2);
    finish(policy, fake);
}

typedef struct canceller {
    axon_policy *policy;
    atomic_bool stop;
} canceller;

static void *cancel_now_and_then(void *argument)
{
    canceller *self = argument;
    for (unsigned i = 0; !atomic_load(&self->stop); i++) {
        struct timespec pause = {.tv_nsec = 1000L * (20 + i * 37 % 400)};
        nanosleep(&pause, NULL);
        axon_policy_cancel(self->policy);
    }
    return NULL;
}

static void whenever_a_cancel_comes_no_reply_is_another_ones(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_echo);
    canceller other = {.policy = open_with(fake->url, (axon_policy_options){0})};
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_now_and_then, &other);
    for (int64_t number = 1; number <= 2000; number++) {
        int64_t answer;
        axon_status status = ask(other.policy, number, &answer);
        if (status == AXON_OK)
            assert_int_equal(answer, number);
        else if (status != AXON_ECANCELED)
            fail_msg("%s", err.message);
    }
    atomic_store(&other.stop, true);
    pthread_join(thread, NULL);
    assert_answered(other.policy, 1);
    finish(other.policy, fake);
}

static void answer_at_odd_times(ws_peer *peer)
{
    ws_frame frame;
    for (int i = 0; ws_expect(peer, 2, &frame); i++, give_back(peer, &frame))
        ws_pause(i * 7 % 12);
}

static void whenever_a_deadline_passes_no_reply_is_another_ones(void **state)
{
    (void)state;
    ws_fake *fake = serve(answer_at_odd_times);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 5});
    for (int64_t number = 1; number <= 300; number++) {
        int64_t answer;
        axon_status status = ask(policy, number, &answer);
        if (status == AXON_OK)
            assert_int_equal(answer, number);
        else if (status != AXON_ETIMEOUT)
            fail_msg("%s", err.message);
    }
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.calls, stats.replies + stats.timeouts);
    assert_true(stats.timeouts > 0);
    finish(policy, fake);
}

/* ---- connections that are lost ------------------------------------------------------------------- */

static void take_nothing_at_first(ws_peer *peer)
{
    if (peer->number == 1)
        ws_stall(peer);
    else
        ws_echo(peer);
}

static void an_observation_half_sent_costs_the_connection(void **state)
{
    (void)state;
    enum { BYTES = 8 << 20 };
    uint8_t *bytes = calloc(1, BYTES);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = take_nothing_at_first,
                                            .early = metadata,
                                            .early_length = sizeof metadata,
                                            .buffer_bytes = 4096});
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.infer_timeout_ms = 300});
    axon_value *observation = axon_value_map(), *actions = NULL;
    axon_value_set(observation, "b", axon_value_bytes(bytes, BYTES));
    assert_fails(axon_policy_infer(policy, observation, &actions, &err), AXON_ETIMEOUT, &err,
                 "takes no more after 300 ms (infer_timeout_ms)");
    axon_value_free(observation);
    free(bytes);
    assert_ok(axon_policy_set_infer_timeout(policy, 20000, &err), &err);
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).reconnects, 1);
    finish(policy, fake);
}

/* The first connection ends after one observation that was not answered. */
static void die_with_the_first(ws_peer *peer)
{
    ws_frame frame;
    if (!read_observation(peer, &frame)) return;
    if (peer->number == 1) {
        free(frame.payload);
        return;
    }
    give_back(peer, &frame);
    ws_echo(peer);
}

static void a_lost_observation_is_told_and_the_next_call_reconnects(void **state)
{
    (void)state;
    ws_fake *fake = serve(die_with_the_first);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_unanswered(policy, 1, AXON_ECONNECT, "hung up");
    assert_memory_equal(err.message, fake->url, strlen(fake->url));
    assert_answered(policy, 2);
    assert_int_equal(ws_noted(fake, SEEN), 2);
    assert_int_equal(stats_of(policy).reconnects, 1);
    assert_int_equal(stats_of(policy).resent, 0);
    finish(policy, fake);
}

static void it_is_sent_again_when_that_is_asked_for(void **state)
{
    (void)state;
    ws_fake *fake = serve(die_with_the_first);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.resend = 1});
    assert_answered(policy, 1);
    assert_int_equal(ws_noted(fake, SEEN), 2);
    assert_int_equal(stats_of(policy).resent, 1);
    finish(policy, fake);
}

static void die_in_mid_reply(ws_peer *peer)
{
    if (peer->number > 1)
        ws_echo(peer);
    else if (ws_skip_message(peer))
        ws_write(peer, "\x82\x7e\x10\x00\x81\xa1n", 7);
}

static void but_not_when_a_part_of_the_reply_was_there(void **state)
{
    (void)state;
    ws_fake *fake = serve(die_in_mid_reply);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.resend = 1});
    assert_unanswered(policy, 1, AXON_ECONNECT, "in the middle of a message");
    assert_answered(policy, 2);
    assert_int_equal(stats_of(policy).resent, 0);
    finish(policy, fake);
}

static void always_die(ws_peer *peer)
{
    ws_skip_message(peer);
}

static void an_observation_is_sent_again_only_once(void **state)
{
    (void)state;
    ws_fake *fake = serve(always_die);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.resend = 1});
    assert_unanswered(policy, 1, AXON_ECONNECT, fake->url);
    assert_int_equal(ws_accepted(fake), 2);
    assert_int_equal(stats_of(policy).resent, 1);
    finish(policy, fake);
}

/* As openpi's server does it, on a slow day. */
static void fail_and_close_slowly(ws_peer *peer)
{
    if (peer->number > 1) {
        ws_echo(peer);
        return;
    }
    ws_skip_message(peer);
    ws_send_frame(peer, 0x81, "KeyError: 'state'", 17);
    ws_pause(100);
    ws_send_close(peer, 1011, "Internal server error.");
    ws_wait_for_end(peer);
}

static void after_openpis_error_the_next_call_reconnects_silently(void **state)
{
    (void)state;
    ws_fake *fake = serve(fail_and_close_slowly);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_unanswered(policy, 1, AXON_ESERVER, "KeyError: 'state'");
    assert_string_equal(axon_policy_server_error(policy), "KeyError: 'state'");
    assert_answered(policy, 2); /* at once, while the server's goodbye is still on its way */
    assert_int_equal(stats_of(policy).reconnects, 1);
    finish(policy, fake);
}

static void reply_twice_at_first(ws_peer *peer)
{
    ws_frame frame;
    for (int i = 0; read_observation(peer, &frame); i++) {
        if (peer->number == 1 && i == 0) {
            ws_send_frame(peer, 0x82, frame.payload, frame.length);
            ws_note(peer, RELEASED, 1);
        }
        give_back(peer, &frame);
    }
}

static void a_second_reply_is_no_answer_to_the_next_observation(void **state)
{
    (void)state;
    ws_fake *fake = serve(reply_twice_at_first);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_answered(policy, 1);
    ws_pause(200);
    assert_unanswered(policy, 2, AXON_EPROTOCOL, "nobody asked for");
    assert_answered(policy, 3);
    assert_answered(policy, 4);
    finish(policy, fake);
}

static void hang_up_once(ws_peer *peer)
{
    if (peer->number > 1) ws_echo(peer);
}

static void what_comes_unasked_with_the_metadata_of_a_reconnect_is_not_taken(void **state)
{
    (void)state;
    static const uint8_t early[] = {0x82, 6,    0x81, 0xa3, 'a', 'g', 'e', 7, /* the metadata */
                                    0x82, 0x04, 0x81, 0xa1, 'n', 99};
    ws_fake *fake =
        ws_fake_begin((ws_fake){.script = hang_up_once, .early = early, .early_length = sizeof early});
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    for (int i = 0; i < 2; i++)
        assert_unanswered(policy, 1, AXON_EPROTOCOL, "a message that nobody asked for");
    finish(policy, fake);
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
        assert_unanswered(policy, 1, AXON_ECONNECT, fake->url);
    finish(policy, fake);
}

static void close_after_each(ws_peer *peer)
{
    ws_frame frame;
    if (!read_observation(peer, &frame)) return;
    give_back(peer, &frame);
    ws_send_close(peer, 1001, "restarting");
    ws_wait_for_end(peer);
}

static void hang_up_after_each(ws_peer *peer)
{
    ws_frame frame;
    if (read_observation(peer, &frame)) give_back(peer, &frame);
}

static void a_connection_closed_while_idle_costs_no_observation(void **state)
{
    (void)state;
    const ws_script ways[] = {close_after_each, hang_up_after_each}; /* with a goodbye, and without */
    for (int way = 0; way < 2; way++) {
        ws_fake *fake = serve(ways[way]);
        axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
        for (int i = 1; i <= 3; i++) {
            assert_answered(policy, i);
            ws_pause(100);
        }
        assert_int_equal(stats_of(policy).reconnects, 2);
        assert_int_equal(ws_noted(fake, SEEN), 3);
        finish(policy, fake);
    }
}

static void without_reconnecting_it_stays_lost(void **state)
{
    (void)state;
    ws_fake *fake = serve(close_after_each);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.no_reconnect = 1});
    assert_answered(policy, 1);
    ws_pause(100);
    assert_unanswered(policy, 2, AXON_ECONNECT, "1001 (going away): restarting");
    assert_unanswered(policy, 3, AXON_ECONNECT, fake->url);
    assert_int_equal(ws_accepted(fake), 1);
    finish(policy, fake);
}

/* ---- reconnecting takes no longer than the call --------------------------------------------------- */

/* A policy whose server has gone and is not to come back. */
static axon_policy *open_and_lose(axon_policy_options options)
{
    ws_fake *fake = serve(ws_echo);
    axon_policy *policy = open_with(fake->url, options);
    assert_answered(policy, 1);
    ws_fake_stop(fake);
    return policy;
}

static void reconnecting_ends_with_the_calls_deadline(void **state)
{
    (void)state;
    axon_policy *policy =
        open_and_lose((axon_policy_options){.infer_timeout_ms = 300, .connect_timeout_ms = 60000});
    double begin = seconds();
    assert_unanswered(policy, 2, AXON_ECONNECT, "refused");
    assert_memory_equal(err.message, axon_policy_url(policy), strlen(axon_policy_url(policy)));
    assert_unanswered(policy, 3, AXON_ECONNECT, "refused");
    assert_true(seconds() - begin < 20);
    axon_policy_close(policy);
}

static void reconnecting_can_be_cancelled(void **state)
{
    (void)state;
    axon_policy *policy =
        open_and_lose((axon_policy_options){.infer_timeout_ms = 60000, .connect_timeout_ms = 60000});
    double begin = seconds();
    assert_cancelled(policy, 2);
    assert_true(seconds() - begin < 20);
    axon_policy_close(policy);
}

static int32_t interrupt(void *user)
{
    (void)user;
    return 1;
}

static void the_interrupt_function_ends_a_reconnect(void **state)
{
    (void)state;
    axon_policy *policy =
        open_and_lose((axon_policy_options){.infer_timeout_ms = 60000, .connect_timeout_ms = 60000});
    axon_set_interrupt(interrupt, NULL);
    int64_t answer;
    axon_status status = ask(policy, 2, &answer);
    axon_set_interrupt(NULL, NULL);
    assert_int_equal(status, AXON_ECANCELED);
    axon_policy_close(policy);
}

/* ---- several servers ------------------------------------------------------------------------------ */

static void the_first_server_that_answers_is_taken(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_echo);
    const char *const others[] = {"127.0.0.1:2", fake->url, NULL};
    axon_policy *policy = open_with("127.0.0.1:1", (axon_policy_options){.more_urls = others});
    assert_string_equal(axon_policy_url(policy), fake->url);
    assert_answered(policy, 1);
    assert_int_equal(stats_of(policy).reconnects, 0);
    finish(policy, fake);
}

static void when_a_server_goes_the_next_one_takes_over(void **state)
{
    (void)state;
    ws_fake *one = serve(ws_echo), *other = serve(ws_echo);
    const char *const others[] = {other->url, NULL};
    axon_policy *policy = open_with(one->url, (axon_policy_options){.more_urls = others});
    assert_string_equal(axon_policy_url(policy), one->url);
    assert_answered(policy, 1);
    ws_fake_stop(one);
    assert_answered(policy, 2);
    assert_string_equal(axon_policy_url(policy), other->url);
    assert_int_equal(stats_of(policy).reconnects, 1);
    assert_int_equal(stats_of(policy).failovers, 1);
    finish(policy, other);
}

static void swallow(ws_peer *peer)
{
    ws_wait_for_end(peer);
}

static void a_silent_server_leaves_time_for_the_next_one(void **state)
{
    (void)state;
    ws_fake *silent = ws_fake_begin((ws_fake){.at_once = swallow}), *other = serve(ws_echo);
    const char *const others[] = {other->url, NULL};
    axon_policy *policy =
        open_with(silent->url, (axon_policy_options){.more_urls = others, .connect_timeout_ms = 3000});
    assert_string_equal(axon_policy_url(policy), other->url);
    ws_fake_stop(silent);
    finish(policy, other);
}

static void when_none_answers_that_is_told(void **state)
{
    (void)state;
    const char *const others[] = {"127.0.0.1:2", NULL};
    axon_policy_options options = {.size = sizeof options, .more_urls = others, .connect_timeout_ms = 300};
    axon_policy *policy = NULL;
    assert_fails(axon_policy_open(&policy, "127.0.0.1:1", &options, &err), AXON_ECONNECT, &err, "refused");
    assert_null(policy);
}

static void each_server_s_words_are_told(void **state)
{
    (void)state;
    ws_fake *silent = ws_fake_begin((ws_fake){.at_once = swallow});
    const char *const others[] = {silent->url, "127.0.0.1:2", NULL};
    axon_policy_options options = {.size = sizeof options, .more_urls = others, .connect_timeout_ms = 600};
    axon_policy *policy = NULL;
    axon_status status = axon_policy_open(&policy, "127.0.0.1:1", &options, &err);
    assert_int_equal(status, AXON_ECONNECT);
    assert_memory_equal(err.message, "ws://127.0.0.1:1: ", 18);
    char expected[sizeof silent->url + 8];
    snprintf(expected, sizeof expected, "; %s: ", silent->url);
    assert_non_null(strstr(err.message, expected));
    assert_non_null(strstr(err.message, "; ws://127.0.0.1:2: "));
    ws_fake_stop(silent);
}

static void of_very_many_servers_each_gets_some_words(void **state)
{
    (void)state;
    static char urls[20][32];
    const char *others[21] = {NULL};
    for (int i = 0; i < 20; i++) {
        snprintf(urls[i], sizeof urls[i], "127.0.0.1:%d", 2 + i);
        others[i] = urls[i];
    }
    axon_policy_options options = {
        .size = sizeof options, .more_urls = others, .connect_once = 1, .connect_timeout_ms = 5000};
    axon_policy *policy = NULL;
    assert_fails(axon_policy_open(&policy, "127.0.0.1:1", &options, &err), AXON_ECONNECT, &err,
                 "ws://127.0.0.1:1");
    int sentences = 1;
    for (const char *at = err.message; (at = strstr(at, "; ws://")) != NULL; at++)
        sentences++;
    assert_int_equal(sentences, 21);
}

static const uint8_t older[] = {0x82, 6, 0x81, 0xa3, 'a', 'g', 'e', 8};

static void other_metadata_of_one_server_is_told_first(void **state)
{
    (void)state;
    ws_fake *first = serve(ws_echo);
    ws_fake *second =
        ws_fake_begin((ws_fake){.script = ws_echo, .early = older, .early_length = sizeof older});
    const char *others[] = {"127.0.0.1:2", second->url, NULL};
    axon_policy *policy =
        open_with(first->url, (axon_policy_options){.more_urls = others, .connect_once = 1});
    assert_answered(policy, 1);
    ws_fake_stop(first);
    assert_unanswered(policy, 2, AXON_EPROTOCOL,
                      "\"age\" was 7, is 8 (metadata_may_change); ws://127.0.0.1:");
    assert_memory_equal(err.message, second->url, strlen(second->url));
    assert_non_null(strstr(err.message, "; ws://127.0.0.1:2: "));
    finish(policy, second);
}

static void a_server_with_other_metadata_takes_over_where_it_may(void **state)
{
    (void)state;
    ws_fake *first = serve(ws_echo);
    ws_fake *second =
        ws_fake_begin((ws_fake){.script = ws_echo, .early = older, .early_length = sizeof older});
    const char *others[] = {second->url, NULL};
    axon_policy *policy =
        open_with(first->url, (axon_policy_options){.more_urls = others, .metadata_may_change = 1});
    assert_answered(policy, 1);
    ws_fake_stop(first);
    assert_answered(policy, 2);
    int64_t age;
    assert_ok(axon_value_as_int(axon_value_get(axon_policy_metadata(policy), "age"), &age), &err);
    assert_int_equal(age, 8);
    assert_string_equal(axon_policy_url(policy), second->url);
    assert_int_equal(stats_of(policy).failovers, 1);
    finish(policy, second);
}

/* ---- metadata ------------------------------------------------------------------------------------- */

/* {"a": 1, "b": "x"}, the same in another order, and {"a": 1, "b": "y"} */
static const uint8_t first_words[] = {0x82, 0xa1, 'a', 1, 0xa1, 'b', 0xa1, 'x'};
static const uint8_t turned_words[] = {0x82, 0xa1, 'b', 0xa1, 'x', 0xa1, 'a', 1};
static const uint8_t other_words[] = {0x82, 0xa1, 'a', 1, 0xa1, 'b', 0xa1, 'y'};
static const uint8_t *second_words;

static void introduce_and_close_once(ws_peer *peer)
{
    ws_send_frame(peer, 0x82, peer->number == 1 ? first_words : second_words, sizeof first_words);
    if (peer->number == 1)
        close_after_each(peer);
    else
        ws_echo(peer);
}

static axon_policy *open_and_let_close(ws_fake **fake, const uint8_t *later, axon_policy_options options)
{
    second_words = later;
    *fake = ws_fake_begin((ws_fake){.script = introduce_and_close_once});
    axon_policy *policy = open_with((*fake)->url, options);
    assert_answered(policy, 1);
    ws_pause(100);
    return policy;
}

static void the_same_metadata_in_another_order_is_the_same(void **state)
{
    (void)state;
    ws_fake *fake;
    axon_policy *policy = open_and_let_close(&fake, turned_words, (axon_policy_options){0});
    const axon_value *before = axon_policy_metadata(policy);
    assert_answered(policy, 2);
    assert_ptr_equal(axon_policy_metadata(policy), before);
    finish(policy, fake);
}

static void other_metadata_after_a_reconnect_is_refused_by_name(void **state)
{
    (void)state;
    ws_fake *fake;
    axon_policy *policy = open_and_let_close(&fake, other_words, (axon_policy_options){0});
    for (int i = 0; i < 2; i++) {
        assert_unanswered(policy, 2, AXON_EPROTOCOL, "\"b\"");
        assert_non_null(strstr(err.message, "\"x\""));
        assert_non_null(strstr(err.message, "\"y\""));
        assert_non_null(strstr(err.message, "metadata_may_change"));
    }
    finish(policy, fake);
}

/* The metadata is a map of one key, which has `length` bytes and the values 1 and 2. */
static uint8_t long_words[2][500];
static size_t long_words_length;

static void introduce_at_length(ws_peer *peer)
{
    ws_send_frame(peer, 0x82, long_words[peer->number > 1], long_words_length);
    if (peer->number == 1)
        close_after_each(peer);
    else
        ws_echo(peer);
}

static void lose_metadata_with(const char *key)
{
    size_t length = strlen(key);
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t head[] = {0x81, 0xda, (uint8_t)(length >> 8), (uint8_t)length};
        memcpy(long_words[i], head, sizeof head);
        memcpy(long_words[i] + sizeof head, key, length);
        long_words[i][sizeof head + length] = 1 + i;
    }
    long_words_length = length + 5;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = introduce_at_length});
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_answered(policy, 1);
    ws_pause(100);
    assert_unanswered(policy, 2, AXON_EPROTOCOL, "\" was 1, is 2 (metadata_may_change)");
    finish(policy, fake);
}

static void a_long_key_of_the_metadata_is_told_whole(void **state)
{
    (void)state;
    char key[301];
    memset(key, 'k', sizeof key - 1);
    memcpy(key + 295, "front", sizeof "front");
    lose_metadata_with(key);
    assert_non_null(strstr(err.message, key));
}

static void a_longer_one_is_cut_between_two_letters(void **state)
{
    (void)state;
    char key[471] = "x"; /* so that every cut but one in two is inside of a letter */
    for (size_t i = 1; i + 2 < sizeof key; i += 2)
        memcpy(key + i, "\xc3\xa9", 3); /* an e with an accent */
    for (int shift = 0; shift < 2; shift++) {
        lose_metadata_with(key + shift);
        if (!strstr(err.message, "\xc3\xa9...\" was 1")) fail_msg("%s", err.message);
        assert_null(strchr(err.message, '?'));
    }
}

static void other_metadata_is_taken_when_it_may_change(void **state)
{
    (void)state;
    ws_fake *fake;
    axon_policy *policy =
        open_and_let_close(&fake, other_words, (axon_policy_options){.metadata_may_change = 1});
    assert_answered(policy, 2);
    const char *word;
    size_t length;
    assert_int_equal(
        axon_value_as_string(axon_value_get(axon_policy_metadata(policy), "b"), &word, &length), AXON_OK);
    assert_memory_equal(word, "y", 1);
    finish(policy, fake);
}

/* {"__axon__": {"keeps_connection": true}, "a": 1} */
static const uint8_t own_words[] = "\x82\xa8__axon__\x81\xb0keeps_connection\xc3\xa1"
                                   "a\x01";

static void fail_the_first_and_go_on(ws_peer *peer)
{
    ws_send_frame(peer, 0x82, own_words, sizeof own_words - 1);
    if (ws_skip_message(peer)) ws_send_frame(peer, 0x81, "ValueError: no", 14);
    ws_echo(peer);
}

static void axons_own_word_in_the_metadata_is_not_shown(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = fail_the_first_and_go_on});
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_int_equal(axon_value_count(axon_policy_metadata(policy)), 1);
    assert_null(axon_value_get(axon_policy_metadata(policy), "__axon__"));
    assert_unanswered(policy, 1, AXON_ESERVER, "ValueError: no");
    assert_answered(policy, 2);
    assert_int_equal(ws_accepted(fake), 1);
    finish(policy, fake);
}

static void the_server_is_told_who_asks(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_echo);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.api_key = "k"});
    char head[WS_FAKE_HEAD], wanted[64];
    snprintf(wanted, sizeof wanted, "\r\nUser-Agent: axon/%s\r\n", axon_version());
    ws_requested(fake, head);
    assert_non_null(strstr(head, wanted));
    assert_non_null(strstr(head, "\r\nAuthorization: Api-Key k\r\n"));
    finish(policy, fake);
}

/* ---- resets --------------------------------------------------------------------------------------- */

static const uint8_t acknowledged[] = "\x81\xb7__webpolicy_reset_ack__\xc3";
static const uint8_t acted[] = "\x81\xa6"
                               "action\x81\xa1n\x07";

static bool says(const ws_frame *frame, const char *word)
{
    return memmem(frame->payload, (size_t)frame->length, word, strlen(word)) != NULL;
}

/* Writes down, as digits, what came: 1 a reset with its payload, 2 another reset, 3 a step. Every second connection
 * ends after a step. */
static void play_webpolicy(ws_peer *peer)
{
    for (ws_frame frame; ws_expect(peer, 2, &frame); free(frame.payload)) {
        bool is_reset = says(&frame, "reset");
        int digit = !is_reset ? 3 : says(&frame, "seed") ? 1 : 2;
        ws_note(peer, SEEN, ws_noted(peer->fake, SEEN) * 10 + digit);
        if (is_reset)
            ws_send_frame(peer, 0x82, acknowledged, sizeof acknowledged - 1);
        else
            ws_send_frame(peer, 0x82, acted, sizeof acted - 1);
        if (!is_reset && peer->number == 1) {
            ws_send_close(peer, 1001, "");
            free(frame.payload);
            return;
        }
    }
}

static void assert_acts(axon_policy *policy)
{
    int64_t answer;
    assert_ok(ask(policy, 1, &answer), &err);
    assert_int_equal(answer, 7);
}

static void the_last_reset_is_sent_again_after_a_reconnect(void **state)
{
    (void)state;
    ws_fake *fake = serve(play_webpolicy);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.dialect = AXON_WEBPOLICY});
    char seed[300] = "s";
    axon_value *payload = axon_value_map();
    axon_value_set(payload, "seed", axon_value_bytes(seed, sizeof seed));
    assert_ok(axon_policy_reset(policy, NULL, &err), &err);
    assert_ok(axon_policy_reset(policy, payload, &err), &err);
    axon_value_free(payload);
    memset(seed, 0, sizeof seed); /* what was borrowed has gone */
    assert_acts(policy);
    ws_pause(100);
    assert_acts(policy); /* over the second connection */
    assert_acts(policy);
    assert_int_equal(ws_noted(fake, SEEN), 213133);
    assert_int_equal(stats_of(policy).replies, 5);
    finish(policy, fake);
}

static void a_new_reset_replaces_the_one_before(void **state)
{
    (void)state;
    ws_fake *fake = serve(play_webpolicy);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){.dialect = AXON_WEBPOLICY});
    assert_acts(policy);
    ws_pause(100);
    assert_ok(axon_policy_reset(policy, NULL, &err), &err); /* reconnects; no other reset goes before it */
    assert_acts(policy);
    assert_int_equal(ws_noted(fake, SEEN), 323);
    finish(policy, fake);
}

/* {"needs_session_id": true, "n_external_cameras": 2}: RoboArena's */
static const uint8_t roboarena[] = "\x82\x27\x82\xb0needs_session_id\xc3\xb2n_external_cameras\x02";

static ws_fake *serve_roboarena(ws_script script)
{
    return ws_fake_begin(
        (ws_fake){.script = script, .early = roboarena, .early_length = sizeof roboarena - 1});
}

/* Writes down, as digits, what came: 1 a reset with its payload, 3 a step. Closes after a step. */
static void play_roboarena(ws_peer *peer)
{
    for (ws_frame frame; ws_expect(peer, 2, &frame);) {
        bool is_reset = says(&frame, "endpoint\xa5reset") && says(&frame, "seed");
        ws_note(peer, SEEN, ws_noted(peer->fake, SEEN) * 10 + (is_reset ? 1 : 3));
        free(frame.payload);
        if (!is_reset) {
            ws_send_frame(peer, 0x82, "\x81\xa1n\x07", 4);
            return;
        }
        ws_send_frame(peer, 0x81, "reset successful", 16);
    }
}

static void a_server_that_takes_over_is_told_of_the_reset_in_its_own_words(void **state)
{
    (void)state;
    ws_fake *first = serve_roboarena(play_roboarena), *last = serve_roboarena(play_roboarena);
    ws_fake *openpi = serve(keep_the_first_until_released); /* which knows no reset */
    release(openpi);
    const char *others[] = {openpi->url, last->url, NULL};
    axon_policy *policy =
        open_with(first->url, (axon_policy_options){.more_urls = others, .metadata_may_change = 1});
    axon_value *payload = axon_value_map();
    axon_value_set(payload, "seed", axon_value_int(3));
    assert_ok(axon_policy_reset(policy, payload, &err), &err);
    axon_value_free(payload);
    assert_acts(policy);
    assert_int_equal(ws_noted(first, SEEN), 13);
    ws_fake_stop(first);
    assert_answered(policy, 5);
    assert_int_equal(axon_policy_dialect(policy), AXON_OPENPI);
    assert_int_equal(ws_noted(openpi, SEEN), 1);
    ws_fake_stop(openpi);
    assert_acts(policy);
    assert_int_equal(axon_policy_dialect(policy), AXON_ROBOARENA);
    assert_int_equal(ws_noted(last, SEEN), 13);
    finish(policy, last);
}

static void a_reset_that_meets_a_server_without_is_done(void **state)
{
    (void)state;
    ws_fake *first = serve_roboarena(play_roboarena), *openpi = serve(keep_the_first_until_released);
    release(openpi);
    const char *others[] = {openpi->url, NULL};
    axon_policy *policy =
        open_with(first->url, (axon_policy_options){.more_urls = others, .metadata_may_change = 1});
    ws_fake_stop(first);
    assert_ok(axon_policy_reset(policy, NULL, &err), &err);
    assert_int_equal(axon_policy_dialect(policy), AXON_OPENPI);
    assert_int_equal(ws_noted(openpi, SEEN), 0);
    assert_answered(policy, 1);
    finish(policy, openpi);
}

static void openpis_servers_are_not_told_of_a_reset(void **state)
{
    (void)state;
    ws_fake *fake = serve(keep_the_first_until_released);
    release(fake);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    assert_ok(axon_policy_reset(policy, NULL, &err), &err);
    assert_answered(policy, 1);
    assert_int_equal(ws_noted(fake, SEEN), 1);
    assert_int_equal(axon_policy_dialect(policy), AXON_OPENPI);
    finish(policy, fake);
}

/* ---- where the time went --------------------------------------------------------------------------- */

/* {"server_timing": {"infer_ms": 2.5}} */
static const uint8_t timed[] = "\x81\xad"
                               "server_timing\x81\xa8infer_ms\xcb\x40\x04\x00\x00\x00\x00\x00\x00";

static void tell_times(ws_peer *peer)
{
    while (ws_skip_message(peer)) {
        ws_pause(5);
        ws_send_frame(peer, 0x82, timed, sizeof timed - 1);
    }
}

static void each_reply_tells_where_its_time_went(void **state)
{
    (void)state;
    ws_fake *fake = serve(tell_times);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    axon_timing timing;
    int64_t nothing;
    assert_fails(axon_policy_timing(policy, &timing, &err), AXON_EINVAL, &err, "no reply yet");
    assert_string_equal(stats_of(policy).verdict, "no reply yet");
    assert_ok(ask(policy, 1, &nothing), &err);
    assert_ok(axon_policy_timing(policy, &timing, &err), &err);
    assert_true(timing.server_ms > 2.49 && timing.server_ms < 2.51);
    assert_true(timing.wait_ms >= timing.server_ms);
    assert_int_equal(timing.sent_bytes, 4);
    assert_int_equal(timing.received_bytes, sizeof timed - 1);
    double parts =
        timing.encode_ms + timing.connect_ms + timing.send_ms + timing.wait_ms + timing.decode_ms;
    assert_true(timing.encode_ms >= 0 && timing.connect_ms >= 0 && timing.send_ms >= 0);
    assert_true(timing.decode_ms >= 0 && parts <= timing.total_ms + 0.001);
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.window, 1);
    assert_true(stats.server.p50 > 2.49 && stats.server.max < 2.51);
    assert_true(stats.network.p50 >= 2); /* the server took 5 ms and says 2.5 */
    assert_non_null(strstr(stats.verdict, "server 2.5 ms, network "));
    assert_non_null(strstr(stats.verdict, ", client "));
    finish(policy, fake);
}

static void percentiles_are_of_the_last_replies(void **state)
{
    (void)state;
    ws_fake *fake = serve(ws_echo);
    axon_policy *policy = open_with(fake->url, (axon_policy_options){0});
    axon_policy_stats stats = stats_of(policy);
    assert_int_equal(stats.window, 0);
    assert_true(stats.total.max <= 0 && stats.total.p50 <= 0);
    for (int i = 1; i <= AXON_STATS_WINDOW + 10; i++)
        assert_answered(policy, i);
    stats = stats_of(policy);
    assert_int_equal(stats.replies, AXON_STATS_WINDOW + 10);
    assert_int_equal(stats.window, AXON_STATS_WINDOW);
    assert_true(stats.total.p50 > 0 && stats.total.p50 <= stats.total.p95);
    assert_true(stats.total.p95 <= stats.total.p99 && stats.total.p99 <= stats.total.max);
    assert_true(stats.server.max <= 0); /* this server does not say */
    finish(policy, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_reply_is_discarded_by_the_next_call),
        cmocka_unit_test(while_a_reply_is_owed_nothing_else_is_sent),
        cmocka_unit_test(after_the_grace_the_connection_is_replaced),
        cmocka_unit_test(so_is_one_whose_grace_ends_in_a_call),
        cmocka_unit_test(half_a_reply_is_owed_as_well),
        cmocka_unit_test(an_owed_error_is_discarded_where_the_server_goes_on),
        cmocka_unit_test(an_owed_error_costs_the_connection_and_no_call),
        cmocka_unit_test(closing_does_not_wait_for_an_owed_reply),
        cmocka_unit_test(a_server_that_takes_its_time_is_called_busy),
        cmocka_unit_test(a_machine_that_acknowledges_nothing_is_called_dead),
        cmocka_unit_test(a_cancelled_call_leaves_the_session_usable),
        cmocka_unit_test(whenever_a_cancel_comes_no_reply_is_another_ones),
        cmocka_unit_test(whenever_a_deadline_passes_no_reply_is_another_ones),
        cmocka_unit_test(an_observation_half_sent_costs_the_connection),
        cmocka_unit_test(a_lost_observation_is_told_and_the_next_call_reconnects),
        cmocka_unit_test(it_is_sent_again_when_that_is_asked_for),
        cmocka_unit_test(but_not_when_a_part_of_the_reply_was_there),
        cmocka_unit_test(an_observation_is_sent_again_only_once),
        cmocka_unit_test(after_openpis_error_the_next_call_reconnects_silently),
        cmocka_unit_test(a_second_reply_is_no_answer_to_the_next_observation),
        cmocka_unit_test(what_comes_unasked_with_the_metadata_of_a_reconnect_is_not_taken),
        cmocka_unit_test(a_server_that_hangs_up_behind_its_metadata_is_a_lost_connection),
        cmocka_unit_test(a_connection_closed_while_idle_costs_no_observation),
        cmocka_unit_test(without_reconnecting_it_stays_lost),
        cmocka_unit_test(reconnecting_ends_with_the_calls_deadline),
        cmocka_unit_test(reconnecting_can_be_cancelled),
        cmocka_unit_test(the_interrupt_function_ends_a_reconnect),
        cmocka_unit_test(the_first_server_that_answers_is_taken),
        cmocka_unit_test(when_a_server_goes_the_next_one_takes_over),
        cmocka_unit_test(a_silent_server_leaves_time_for_the_next_one),
        cmocka_unit_test(when_none_answers_that_is_told),
        cmocka_unit_test(each_server_s_words_are_told),
        cmocka_unit_test(of_very_many_servers_each_gets_some_words),
        cmocka_unit_test(other_metadata_of_one_server_is_told_first),
        cmocka_unit_test(a_server_with_other_metadata_takes_over_where_it_may),
        cmocka_unit_test(the_same_metadata_in_another_order_is_the_same),
        cmocka_unit_test(other_metadata_after_a_reconnect_is_refused_by_name),
        cmocka_unit_test(a_long_key_of_the_metadata_is_told_whole),
        cmocka_unit_test(a_longer_one_is_cut_between_two_letters),
        cmocka_unit_test(other_metadata_is_taken_when_it_may_change),
        cmocka_unit_test(axons_own_word_in_the_metadata_is_not_shown),
        cmocka_unit_test(the_server_is_told_who_asks),
        cmocka_unit_test(the_last_reset_is_sent_again_after_a_reconnect),
        cmocka_unit_test(a_new_reset_replaces_the_one_before),
        cmocka_unit_test(a_server_that_takes_over_is_told_of_the_reset_in_its_own_words),
        cmocka_unit_test(a_reset_that_meets_a_server_without_is_done),
        cmocka_unit_test(openpis_servers_are_not_told_of_a_reset),
        cmocka_unit_test(each_reply_tells_where_its_time_went),
        cmocka_unit_test(percentiles_are_of_the_last_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

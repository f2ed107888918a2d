/* The policy server: our own client against it, and raw sockets for what no proper client does. */
#include "server_checks.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- policies ------------------------------------------------------------------------------------ */

static void observations_are_answered_in_turn(void **state)
{
    (void)state;
    served *self = begin(NULL);
    axon_policy *one = connect_to(self->server, NULL), *two = connect_to(self->server, NULL);
    int64_t age = 0;
    axon_value_as_int(axon_value_get(axon_policy_metadata(one), "age"), &age);
    assert_int_equal(age, 7);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(one, i), 2 * i);
        assert_int_equal(ask(two, -i), -2 * i);
    }
    axon_server_stats stats;
    assert_ok(axon_server_get_stats(self->server, &stats, &err), &err);
    assert_int_equal(stats.connections, 2);
    assert_int_equal(stats.accepted, 2);
    assert_int_equal(stats.requests, 40);
    assert_int_equal(stats.failed, 0);
    axon_policy_close(one);
    axon_policy_close(two);
    finish(self);
}

static void replies_tell_the_servers_time(void **state)
{
    (void)state;
    served *self = begin(NULL);
    axon_policy *policy = connect_to(self->server, NULL);
    axon_value *observation = observation_of(1, NULL);
    for (int i = 0; i < 2; i++) {
        axon_value *actions = NULL;
        double ms = -1;
        assert_ok(axon_policy_infer(policy, observation, &actions, &err), &err);
        const axon_value *timing = axon_value_get(actions, "server_timing");
        assert_int_equal(axon_value_as_float(axon_value_get(timing, "infer_ms"), &ms), AXON_OK);
        assert_true(ms >= 0);
        assert_int_equal(axon_value_get(timing, "prev_total_ms") != NULL, i == 1);
        axon_value_free(actions);
    }
    axon_value_free(observation);
    axon_policy_close(policy);
    finish(self);
}

static void large_messages_come_back_whole(void **state)
{
    (void)state;
    enum { LENGTH = 9 << 20 };
    uint8_t *bytes = malloc(LENGTH);
    for (size_t i = 0; i < LENGTH; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 12));
    axon_array array = {.dtype = AXON_UINT8, .ndim = 1, .shape = {LENGTH}, .data = bytes};
    served *self = begin(NULL);
    axon_policy *policy = connect_to(self->server, NULL);
    axon_value *observation = observation_of(1, NULL), *actions = NULL;
    axon_value_set(observation, "big", axon_value_array(&array));
    for (int i = 0; i < 3; i++) {
        const axon_array *back = NULL;
        assert_ok(axon_policy_infer(policy, observation, &actions, &err), &err);
        assert_int_equal(axon_value_as_array(axon_value_get(actions, "big"), &back), AXON_OK);
        assert_int_equal(back->shape[0], LENGTH);
        assert_memory_equal(back->data, bytes, LENGTH);
        axon_value_free(actions);
    }
    axon_value_free(observation);
    axon_policy_close(policy);
    finish(self);
    free(bytes);
}

static void envelopes_get_envelopes(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = upgrade(self->server, "", NULL);
    blob step = from_hex("82 b0 5f5f 776562706f6c6963795f6f705f5f a4 73746570 a3 6f6273 81 a1 6e 04");
    put_frame(fd, 0x82, step.data, step.length);
    frame *reply = read_frame(fd);
    axon_value *map = NULL;
    int64_t n = 0;
    assert_ok(axon_value_from_msgpack(reply->data, reply->length, &map, &err), &err);
    axon_value_as_int(axon_value_get(axon_value_get(map, "action"), "n"), &n);
    assert_int_equal(n, 8);
    axon_value_free(map);
    free(step.data);

    blob reset = from_hex("81 b0 5f5f 776562706f6c6963795f6f705f5f a5 7265736574");
    put_frame(fd, 0x82, reset.data, reset.length);
    reply = read_frame(fd);
    assert_ok(axon_value_from_msgpack(reply->data, reply->length, &map, &err), &err);
    assert_int_equal(axon_value_type(axon_value_get(map, "__webpolicy_reset_ack__")), AXON_BOOL);
    assert_int_equal(atomic_load(&self->resets), 1);
    axon_value_free(map);
    free(reset.data);
    close(fd);
    finish(self);
}

/* The action map in the reply to a bare observation, or to one in webpolicy's envelope. */
static void a_dialect_decides_how_replies_look(void **state)
{
    (void)state;
    static const struct {
        axon_dialect dialect;
        bool bare_gets_envelope, step_gets_envelope;
    } cases[] = {
        {AXON_DIALECT_AUTO, false, true}, {AXON_OPENPI, false, false}, {AXON_WEBPOLICY, true, true}};
    blob step = from_hex("82 b0 5f5f 776562706f6c6963795f6f705f5f a4 73746570 a3 6f6273 81 a1 6e 04");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        axon_server_options o = {.size = sizeof o, .dialect = cases[i].dialect};
        served *self = begin(&o);
        int fd = upgrade(self->server, "", NULL);
        for (int asked = 0; asked < 2; asked++) {
            put_frame(fd, 0x82, asked ? step.data : n_is_4, asked ? step.length : sizeof n_is_4);
            frame *reply = read_frame(fd);
            axon_value *map = NULL;
            assert_ok(axon_value_from_msgpack(reply->data, reply->length, &map, &err), &err);
            bool expected = asked ? cases[i].step_gets_envelope : cases[i].bare_gets_envelope;
            assert_int_equal(axon_value_get(map, "action") != NULL, expected);
            assert_int_equal(axon_value_get(map, "n") != NULL, !expected);
            axon_value_free(map);
        }
        close(fd);
        finish(self);
    }
    free(step.data);
}

static void a_pipelining_client_is_answered_in_order(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = upgrade(self->server, "", NULL);
    for (uint8_t i = 0; i < 100; i++) {
        uint8_t observation[] = {0x81, 0xa1, 'n', i > 50 ? 50 : i};
        put_frame(fd, 0x82, observation, sizeof observation);
    }
    for (uint8_t i = 0; i < 100; i++)
        expect_n(fd, i > 50 ? 100 : (uint8_t)(2 * i));
    close(fd);
    finish(self);
}

typedef struct asker {
    pthread_t thread;
    const axon_server *server;
    int64_t wrong;
} asker;

static void *ask_often(void *user)
{
    asker *self = user;
    axon_error error;
    axon_policy *policy = NULL;
    self->wrong = axon_policy_open(&policy, axon_server_url(self->server), NULL, &error) != AXON_OK;
    for (int64_t n = 0; n < 50 && policy; n++) {
        axon_value *observation = observation_of(n, NULL), *actions = NULL;
        int64_t doubled = -1;
        axon_policy_infer(policy, observation, &actions, &error);
        axon_value_as_int(axon_value_get(actions, "n"), &doubled);
        self->wrong += doubled != 2 * n;
        axon_value_free(actions);
        axon_value_free(observation);
    }
    axon_policy_close(policy);
    return NULL;
}

static void several_threads_may_serve_several_clients(void **state)
{
    (void)state;
    enum { SERVING = 4, ASKING = 6 };
    served *self = begin(NULL), others[SERVING - 1];
    for (int i = 0; i < SERVING - 1; i++) {
        others[i] = (served){.server = self->server};
        assert_int_equal(pthread_create(&others[i].thread, NULL, serve, &others[i]), 0);
    }
    asker askers[ASKING];
    for (int i = 0; i < ASKING; i++) {
        askers[i] = (asker){.server = self->server};
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_often, &askers[i]), 0);
    }
    for (int i = 0; i < ASKING; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].wrong, 0);
    }
    axon_server_stop(self->server);
    for (int i = 0; i < SERVING - 1; i++) {
        pthread_join(others[i].thread, NULL);
        assert_int_equal(others[i].ended, AXON_OK);
    }
    finish(self);
}

static void a_clients_requests_are_handed_to_one_thread_at_a_time(void **state)
{
    (void)state;
    axon_server *server = open_server(NULL);
    int fd = upgrade(server, "", NULL);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    axon_request *first = NULL, *second = NULL;
    assert_ok(axon_server_next(server, 20000, &first, &err), &err);
    assert_fails(axon_server_next(server, 100, &second, &err), AXON_ETIMEOUT, &err, "timeout_ms");
    assert_ok(axon_request_fail(first, "no", &err), &err);
    assert_fails(axon_server_next(server, 100, &second, &err), AXON_ETIMEOUT, &err, "timeout_ms");
    close(fd); /* no client of ours: it lost its connection with the error */
    axon_server_close(server);
}

/* ---- errors -------------------------------------------------------------------------------------- */

static void others_lose_their_connection_after_an_error(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = upgrade(self->server, "User-Agent: Python/3.11 websockets/13.1\r\n", NULL);
    const uint8_t fails[] = {0x81, 0xa4, 'f', 'a', 'i', 'l', 1};
    put_frame(fd, 0x82, fails, sizeof fails);
    frame *error = read_frame(fd);
    assert_int_equal(error->opcode, 0x81);
    assert_non_null(strstr((char *)error->data, "no such cup"));
    put_frame(fd, 0x88, "\x03\xf3", 2);
    expect_close(fd, 1011);
    finish(self);
}

static void axons_clients_keep_their_connection_after_an_error(void **state)
{
    (void)state;
    served *self = begin(NULL);
    frame hello;
    int fd = upgrade(self->server, "User-Agent: axon/0.1.0\r\n", &hello);
    axon_value *metadata = NULL;
    assert_ok(axon_value_from_msgpack(hello.data, hello.length, &metadata, &err), &err);
    assert_int_equal(axon_value_count(metadata), 2);
    const axon_value *own = axon_value_get(metadata, "__axon__");
    assert_int_equal(axon_value_count(axon_value_get(own, "codecs")), 2);
    int32_t keeps = 0;
    axon_value_as_bool(axon_value_get(own, "keeps_connection"), &keeps);
    assert_int_equal(keeps, 1);
    axon_value_free(metadata);
    const uint8_t fails[] = {0x81, 0xa4, 'f', 'a', 'i', 'l', 1};
    put_frame(fd, 0x82, fails, sizeof fails);
    assert_int_equal(read_frame(fd)->opcode, 0x81);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

static void hostile_requests_never_reach_the_policy(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *words;
    } requests[] = {
        {"82 a1 61 01", "request"},        /* cut off */
        {"93 01 02 03", "it is no map"},   /* a list */
        {"81 a161 dfffffffff", "request"}, /* a map of 4 billion */
        {"84 c40b5f5f6e6461727261795f5f c3 c40464617461 c400 c4056474797065 a27c4f c4057368617065 9101",
         "request"},
    };
    served *self = begin(NULL);
    int fd = upgrade(self->server, "User-Agent: axon/0.1.0\r\n", NULL);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        blob bytes = from_hex(requests[i].hex);
        put_frame(fd, 0x82, bytes.data, bytes.length);
        frame *error = read_frame(fd);
        assert_int_equal(error->opcode, 0x81);
        assert_non_null(strstr((char *)error->data, requests[i].words));
        free(bytes.data);
    }
    put_frame(fd, 0x81, "hello", 5);
    assert_non_null(strstr((char *)read_frame(fd)->data, "it is text"));
    assert_int_equal(atomic_load(&self->asked), 0);
    close(fd);
    finish(self);
}

static void broken_frames_end_with_the_right_code(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        int code;
    } frames[] = {
        {"82 01 61", 1002},          /* not masked */
        {"c2 81 00000000 61", 1002}, /* a reserved bit */
        {"83 80 00000000", 1002},    /* an unknown kind */
        {"80 80 00000000", 1002},    /* a continuation of nothing */
        {"09 80 00000000", 1002},    /* a ping in fragments */
        {"81 81 00000000 ff", 1007}, /* text that is not UTF-8 */
        {"88 81 00000000 03", 1002}, /* a close frame of one byte */
        {"82 ff 0000000100000000 00000000", 1009},
    };
    served *self = begin(NULL);
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        int fd = upgrade(self->server, "", NULL);
        blob bytes = from_hex(frames[i].hex);
        put(fd, bytes.data, bytes.length);
        expect_close(fd, frames[i].code);
        free(bytes.data);
    }
    finish(self);
}

/* ---- HTTP ---------------------------------------------------------------------------------------- */

static void http_is_answered_in_plain_words(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .api_key = "secret", .max_connections = 1};
    served *self = begin(&o);
    char answer[2048];
    http(self->server, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nOK\n"));
    http(self->server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 426 "));
    http(self->server, UPGRADE "\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 401 "));
    http(self->server, UPGRADE "Authorization: Api-Key secreT\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 401 "));
    int fd = upgrade(self->server, "Authorization: Api-Key secret\r\n", NULL);
    http(self->server, UPGRADE "Authorization: Api-Key secret\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 503 "));
    axon_server_stats stats;
    assert_ok(axon_server_get_stats(self->server, &stats, &err), &err);
    assert_int_equal(stats.refused, 4);
    close(fd);
    finish(self);
}

static void pings_and_healthz_are_answered_during_inference(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = upgrade(self->server, "", NULL);
    const uint8_t slow[] = {0x82, 0xa4, 's', 'l', 'o', 'w', 1, 0xa1, 'n', 4};
    put_frame(fd, 0x82, slow, sizeof slow);
    while (atomic_load(&self->asked) == 0)
        usleep(1000);
    put_frame(fd, 0x89, "ping", 4);
    frame *pong = read_frame(fd);
    assert_int_equal(pong->opcode, 0x8a);
    assert_string_equal((char *)pong->data, "ping");
    char answer[1024];
    http(self->server, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 200 OK\r\n"));
    atomic_store(&go, true);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

/* ---- ending -------------------------------------------------------------------------------------- */

static void stopping_answers_what_is_under_way(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int busy = upgrade(self->server, "", NULL), idle = upgrade(self->server, "", NULL);
    const uint8_t slow[] = {0x82, 0xa4, 's', 'l', 'o', 'w', 1, 0xa1, 'n', 4};
    put_frame(busy, 0x82, slow, sizeof slow);
    while (atomic_load(&self->asked) == 0)
        usleep(1000);
    axon_server_stop(self->server);
    put_frame(idle, 0x88, "\x03\xe9", 2);
    expect_close(idle, 1001);
    atomic_store(&go, true);
    expect_n(busy, 8);
    put_frame(busy, 0x88, "\x03\xe9", 2);
    expect_close(busy, 1001);
    finish(self);
}

static axon_server *to_be_stopped;

static void stop_it(int number)
{
    (void)number;
    axon_server_stop(to_be_stopped);
}

static void a_signal_handler_may_stop_it(void **state)
{
    (void)state;
    struct sigaction stopping = {.sa_handler = stop_it}, before;
    sigaction(SIGUSR1, &stopping, &before);
    served *self = begin(NULL);
    to_be_stopped = self->server;
    axon_policy *policy = connect_to(self->server, NULL);
    assert_int_equal(ask(policy, 4), 8);
    assert_int_equal(pthread_kill(self->thread, SIGUSR1), 0); /* in the middle of axon_server_serve() */
    pthread_join(self->thread, NULL);
    assert_int_equal(self->ended, AXON_OK);
    sigaction(SIGUSR1, &before, NULL);
    axon_server_close(self->server);
    axon_policy_close(policy);
    free(self);
}

static void a_request_may_outlive_its_client_and_its_server(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .stop_timeout_ms = 50};
    axon_server *server = open_server(&o);
    int fd = upgrade(server, "", NULL);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    axon_request *request = NULL;
    assert_ok(axon_server_next(server, 20000, &request, &err), &err);
    assert_int_equal(axon_request_is_gone(request), 0);
    assert_int_equal(strncmp(axon_request_get_client(request), "127.0.0.1:", 10), 0);
    close(fd);
    while (!axon_request_is_gone(request))
        usleep(1000);
    axon_server_close(server);
    axon_value *reply = observation_of(1, NULL);
    assert_fails(axon_request_reply(request, reply, &err), AXON_ECONNECT, &err, "gone");
    axon_value_free(reply);
}

static void waiting_ends(void **state)
{
    (void)state;
    axon_server *server = open_server(NULL);
    axon_request *request = NULL;
    assert_fails(axon_server_next(server, 10, &request, &err), AXON_ETIMEOUT, &err, "timeout_ms");
    axon_server_stop(server);
    assert_fails(axon_server_next(server, AXON_FOREVER, &request, &err), AXON_ECANCELED, &err, "stopped");
    assert_null(request);
    axon_server_close(server);
    axon_server_close(NULL);
    axon_server_stop(NULL);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    axon_server *server = NULL, *other = open_server(NULL);
    axon_server_options o = {.size = sizeof o, .port = 70000};
    assert_fails(axon_server_open(&server, NULL, &o, &err), AXON_EINVAL, &err, "port");
    o = (axon_server_options){.size = sizeof o, .port = axon_server_port(other)};
    assert_fails(axon_server_open(&server, NULL, &o, &err), AXON_EIO, &err, "in use");
    o = (axon_server_options){.size = sizeof o, .port = AXON_ANY_PORT, .dialect = AXON_ROBOARENA};
    assert_fails(axon_server_open(&server, NULL, &o, &err), AXON_EINVAL, &err, "dialect");
    assert_null(server);
    axon_server_close(other);
}

static void a_child_only_closes(void **state)
{
    (void)state;
    served *self = begin(NULL);
    axon_policy *policy = connect_to(self->server, NULL);
    pid_t child = fork();
    if (child == 0) {
        axon_request *request;
        bool is_refused = axon_server_next(self->server, 0, &request, NULL) == AXON_EINVAL;
        axon_server_close(self->server);
        _exit(is_refused ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(ask(policy, 21), 42);
    axon_policy_close(policy);
    finish(self);
}

static void sigpipe_stays_as_it_was(void **state)
{
    (void)state;
    struct sigaction after;
    axon_server_close(open_server(NULL));
    sigaction(SIGPIPE, NULL, &after);
    assert_true(after.sa_handler == SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigpipe_stays_as_it_was),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(waiting_ends),
        cmocka_unit_test(observations_are_answered_in_turn),
        cmocka_unit_test(replies_tell_the_servers_time),
        cmocka_unit_test(large_messages_come_back_whole),
        cmocka_unit_test(envelopes_get_envelopes),
        cmocka_unit_test(a_dialect_decides_how_replies_look),
        cmocka_unit_test(several_threads_may_serve_several_clients),
        cmocka_unit_test(a_clients_requests_are_handed_to_one_thread_at_a_time),
        cmocka_unit_test(a_pipelining_client_is_answered_in_order),
        cmocka_unit_test(others_lose_their_connection_after_an_error),
        cmocka_unit_test(axons_clients_keep_their_connection_after_an_error),
        cmocka_unit_test(hostile_requests_never_reach_the_policy),
        cmocka_unit_test(broken_frames_end_with_the_right_code),
        cmocka_unit_test(http_is_answered_in_plain_words),
        cmocka_unit_test(pings_and_healthz_are_answered_during_inference),
        cmocka_unit_test(stopping_answers_what_is_under_way),
        cmocka_unit_test(a_signal_handler_may_stop_it),
        cmocka_unit_test(a_request_may_outlive_its_client_and_its_server),
        cmocka_unit_test(a_child_only_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The policy server: our own client against it, and raw sockets for what no proper client does. */
#include "checks.h"

#include <axon/server.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

typedef struct served {
    axon_server *server;
    pthread_t thread;
    atomic_int asked, resets;
    axon_status ended;
} served;

static atomic_bool go; /* what slow policies wait for */

/* {"n": 2 * obs["n"], "big"?: obs["big"]}; an observation with "fail" fails, with "slow" it waits for `go`. */
static axon_status double_it(void *user, axon_request_kind kind, const axon_value *value,
                             axon_value **actions, axon_error *error)
{
    served *self = user;
    int64_t n = 0;
    atomic_fetch_add(kind == AXON_REQUEST_RESET ? &self->resets : &self->asked, 1);
    if (kind == AXON_REQUEST_RESET) return AXON_OK;
    while (axon_value_get(value, "slow") && !atomic_load(&go))
        usleep(1000);
    if (axon_value_get(value, "fail")) {
        snprintf(error->message, sizeof error->message, "Traceback:\nValueError: no such cup");
        return AXON_EINVAL;
    }
    axon_value_as_int(axon_value_get(value, "n"), &n);
    *actions = axon_value_map();
    const axon_array *big;
    if (axon_value_as_array(axon_value_get(value, "big"), &big) == AXON_OK)
        axon_value_set(*actions, "big", axon_value_array(big));
    return axon_value_set(*actions, "n", axon_value_int(2 * n));
}

static void *serve(void *user)
{
    served *self = user;
    axon_error error;
    self->ended = axon_server_serve(self->server, double_it, self, &error);
    return NULL;
}

static axon_server *open_server(const axon_server_options *given)
{
    axon_server_options o = given ? *given : (axon_server_options){.size = sizeof o};
    o.port = AXON_ANY_PORT;
    axon_value *metadata = axon_value_map();
    axon_value_set(metadata, "age", axon_value_int(7));
    axon_server *server = NULL;
    assert_ok(axon_server_open(&server, metadata, &o, &err), &err);
    axon_value_free(metadata);
    return server;
}

static served *begin(const axon_server_options *given)
{
    served *self = calloc(1, sizeof *self);
    atomic_store(&go, false);
    self->server = open_server(given);
    assert_int_equal(pthread_create(&self->thread, NULL, serve, self), 0);
    return self;
}

static void finish(served *self)
{
    atomic_store(&go, true);
    axon_server_stop(self->server);
    pthread_join(self->thread, NULL);
    assert_int_equal(self->ended, AXON_OK);
    axon_server_close(self->server);
    free(self);
}

static axon_policy *connect_to(const axon_server *server, const axon_policy_options *options)
{
    axon_policy *policy = NULL;
    assert_ok(axon_policy_open(&policy, axon_server_url(server), options, &err), &err);
    return policy;
}

static axon_value *observation_of(int64_t n, const char *flag)
{
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "n", axon_value_int(n));
    if (flag) axon_value_set(observation, flag, axon_value_bool(1));
    return observation;
}

static int64_t ask(axon_policy *policy, int64_t n)
{
    axon_value *observation = observation_of(n, NULL), *actions = NULL;
    assert_ok(axon_policy_infer(policy, observation, &actions, &err), &err);
    int64_t doubled = -1;
    axon_value_as_int(axon_value_get(actions, "n"), &doubled);
    axon_value_free(actions);
    axon_value_free(observation);
    return doubled;
}

/* ---- raw sockets --------------------------------------------------------------------------------- */

static int dial(const axon_server *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)axon_server_port(server))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void put(int fd, const void *data, size_t length)
{
    assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void get(int fd, void *data, size_t length)
{
    assert_int_equal(recv(fd, data, length, MSG_WAITALL), (ssize_t)length);
}

/* One HTTP request; the whole answer. */
static void http(const axon_server *server, const char *request, char *answer, size_t size)
{
    int fd = dial(server);
    size_t length = 0;
    put(fd, request, strlen(request));
    for (ssize_t got; length < size - 1 && (got = recv(fd, answer + length, size - 1 - length, 0)) > 0;)
        length += (size_t)got;
    answer[length] = 0;
    close(fd);
}

#define UPGRADE                                                                                            \
    "GET /some/path HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                  \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

typedef struct frame {
    uint8_t opcode; /* with the final bit */
    size_t length;
    uint8_t data[4096];
} frame;

static frame *read_frame(int fd)
{
    static frame found;
    uint8_t head[4];
    get(fd, head, 2);
    found.opcode = head[0];
    found.length = head[1];
    if (head[1] == 126) {
        get(fd, head, 2);
        found.length = (size_t)(head[0] << 8 | head[1]);
    }
    assert_true(found.length < sizeof found.data);
    get(fd, found.data, found.length);
    found.data[found.length] = 0;
    return &found;
}

/* Upgrades, reads the metadata and leaves it in `*hello`. */
static int upgrade(const axon_server *server, const char *headers, frame *hello)
{
    int fd = dial(server);
    char head[1024] = "";
    put(fd, UPGRADE, strlen(UPGRADE));
    put(fd, headers, strlen(headers));
    put(fd, "\r\n", 2);
    for (size_t at = 0; at < sizeof head - 1 && !strstr(head, "\r\n\r\n"); at++)
        get(fd, head + at, 1);
    assert_non_null(strstr(head, " 101 "));
    frame *first = read_frame(fd);
    if (hello) *hello = *first;
    return fd;
}

/* A short masked frame. */
static void put_frame(int fd, uint8_t opcode, const void *payload, size_t length)
{
    uint8_t bytes[6 + 125] = {opcode, (uint8_t)(0x80 | length), 1, 2, 3, 4};
    for (size_t i = 0; i < length; i++)
        bytes[6 + i] = ((const uint8_t *)payload)[i] ^ bytes[2 + i % 4];
    put(fd, bytes, 6 + length);
}

static void expect_close(int fd, int code)
{
    frame *last = read_frame(fd);
    assert_int_equal(last->opcode, 0x88);
    assert_int_equal(last->data[0] << 8 | last->data[1], code);
    uint8_t more;
    assert_int_equal(recv(fd, &more, 1, 0), 0);
    close(fd);
}

static const uint8_t n_is_4[] = {0x81, 0xa1, 'n', 4};

static void expect_n(int fd, uint8_t n)
{
    frame *reply = read_frame(fd);
    assert_int_equal(reply->opcode, 0x82);
    axon_value *map = NULL;
    int64_t found = -1;
    assert_ok(axon_value_from_msgpack(reply->data, reply->length, &map, &err), &err);
    assert_int_equal(axon_value_as_int(axon_value_get(map, "n"), &found), AXON_OK);
    assert_int_equal(found, n);
    axon_value_free(map);
}

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
        cmocka_unit_test(a_pipelining_client_is_answered_in_order),
        cmocka_unit_test(others_lose_their_connection_after_an_error),
        cmocka_unit_test(axons_clients_keep_their_connection_after_an_error),
        cmocka_unit_test(hostile_requests_never_reach_the_policy),
        cmocka_unit_test(broken_frames_end_with_the_right_code),
        cmocka_unit_test(http_is_answered_in_plain_words),
        cmocka_unit_test(pings_and_healthz_are_answered_during_inference),
        cmocka_unit_test(stopping_answers_what_is_under_way),
        cmocka_unit_test(a_request_may_outlive_its_client_and_its_server),
        cmocka_unit_test(a_child_only_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

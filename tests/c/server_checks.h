/* What the tests of policy servers share: a policy that doubles numbers, and raw sockets for what no proper client
 * does. */
#ifndef SERVER_CHECKS_H
#define SERVER_CHECKS_H

#include "checks.h"

#include <axon/server.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
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
static inline axon_status double_it(void *user, axon_request_kind kind, const axon_value *value,
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

static inline void *serve(void *user)
{
    served *self = user;
    axon_error error;
    self->ended = axon_server_serve(self->server, double_it, self, &error);
    return NULL;
}

static inline axon_server *open_server(const axon_server_options *given)
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

static inline served *begin(const axon_server_options *given)
{
    served *self = calloc(1, sizeof *self);
    atomic_store(&go, false);
    self->server = open_server(given);
    assert_int_equal(pthread_create(&self->thread, NULL, serve, self), 0);
    return self;
}

static inline void finish(served *self)
{
    atomic_store(&go, true);
    axon_server_stop(self->server);
    pthread_join(self->thread, NULL);
    assert_int_equal(self->ended, AXON_OK);
    axon_server_close(self->server);
    free(self);
}

static inline axon_policy *connect_to(const axon_server *server, const axon_policy_options *options)
{
    axon_policy *policy = NULL;
    assert_ok(axon_policy_open(&policy, axon_server_url(server), options, &err), &err);
    return policy;
}

static inline axon_value *observation_of(int64_t n, const char *flag)
{
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "n", axon_value_int(n));
    if (flag) axon_value_set(observation, flag, axon_value_bool(1));
    return observation;
}

static inline int64_t ask(axon_policy *policy, int64_t n)
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

static inline int dial(const axon_server *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)axon_server_port(server))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void put(int fd, const void *data, size_t length)
{
    assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static inline void get(int fd, void *data, size_t length)
{
    assert_int_equal(recv(fd, data, length, MSG_WAITALL), (ssize_t)length);
}

/* One HTTP request; the whole answer. */
static inline void http(const axon_server *server, const char *request, char *answer, size_t size)
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

static inline frame *read_any_frame(int fd)
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

/* The next frame but pings, which come when the machine is slow. */
static inline frame *read_frame(int fd)
{
    frame *found = read_any_frame(fd);
    return found->opcode == 0x89 ? read_frame(fd) : found;
}

/* Reads the head of an answer, which must be an upgrade's. */
static inline void expect_upgrade(int fd)
{
    char head[1024] = "";
    for (size_t at = 0; at < sizeof head - 1 && !strstr(head, "\r\n\r\n"); at++)
        get(fd, head + at, 1);
    assert_non_null(strstr(head, " 101 "));
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_null(strcasestr(head, "Sec-WebSocket-Protocol"));
}

/* Upgrades, reads the metadata and leaves it in `*hello`. */
static inline int upgrade(const axon_server *server, const char *headers, frame *hello)
{
    int fd = dial(server);
    put(fd, UPGRADE, strlen(UPGRADE));
    put(fd, headers, strlen(headers));
    put(fd, "\r\n", 2);
    expect_upgrade(fd);
    frame *first = read_frame(fd);
    if (hello) *hello = *first;
    return fd;
}

/* A short masked frame. */
static inline void put_frame(int fd, uint8_t opcode, const void *payload, size_t length)
{
    uint8_t bytes[6 + 125] = {opcode, (uint8_t)(0x80 | length), 1, 2, 3, 4};
    for (size_t i = 0; i < length; i++)
        bytes[6 + i] = ((const uint8_t *)payload)[i] ^ bytes[2 + i % 4];
    put(fd, bytes, 6 + length);
}

static inline void expect_close(int fd, int code)
{
    frame *last = read_frame(fd);
    assert_int_equal(last->opcode, 0x88);
    assert_int_equal(last->data[0] << 8 | last->data[1], code);
    uint8_t more;
    assert_int_equal(recv(fd, &more, 1, 0), 0);
    close(fd);
}

static const uint8_t n_is_4[] = {0x81, 0xa1, 'n', 4};

static inline void expect_n(int fd, uint8_t n)
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

#endif

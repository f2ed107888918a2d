/* Clients of a server that are silent, slow, stuck or too many for its memory. */
#include "server_checks.h"

#include <poll.h>

enum { KIB = 1024, MIB = 1024 * 1024 };

/* ---- what the tests are written with ------------------------------------------------------------- */

/* {"n": 4, "big": `length` zeros} as one masked frame; the caller's. */
static blob big_observation(size_t length)
{
    axon_array zeros = {.dtype = AXON_UINT8, .ndim = 1, .shape = {(int64_t)length}};
    zeros.data = calloc(1, length);
    axon_value *observation = observation_of(4, NULL);
    axon_value_set(observation, "big", axon_value_array(&zeros));
    void *packed = NULL;
    size_t size = 0;
    assert_ok(axon_value_to_msgpack(observation, AXON_MARKER_OPENPI, &packed, &size, &err), &err);
    blob whole = {malloc(size + 14), size + 14};
    uint8_t *to = whole.data;
    *to++ = 0x82;
    *to++ = 0xff;
    for (int i = 7; i >= 0; i--)
        *to++ = (uint8_t)((uint64_t)size >> 8 * i);
    memset(to, 0, 4); /* a mask that changes nothing */
    memcpy(to + 4, packed, size);
    axon_free(packed);
    axon_value_free(observation);
    free((void *)(uintptr_t)zeros.data);
    return whole;
}

/* Sends as much as is taken within a moment: a server that does not read leaves the rest. */
static size_t put_what_fits(int fd, blob bytes)
{
    size_t sent = 0;
    struct pollfd look = {.fd = fd, .events = POLLOUT};
    while (sent < bytes.length && poll(&look, 1, 300) == 1) {
        ssize_t got =
            send(fd, (uint8_t *)bytes.data + sent, bytes.length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(got > 0);
        sent += (size_t)got;
    }
    return sent;
}

/* Reads a reply of any length, and drops it. */
static void skip_reply(int fd)
{
    uint8_t head[10], bytes[4096];
    get(fd, head, 2);
    if (head[0] == 0x89) { /* a ping */
        skip_reply(fd);
        return;
    }
    assert_int_equal(head[0], 0x82);
    size_t more = head[1] == 127 ? 8 : head[1] == 126 ? 2 : 0;
    uint64_t length = more ? 0 : head[1];
    get(fd, head, more);
    for (size_t i = 0; i < more; i++)
        length = length << 8 | head[i];
    while (length > 0) {
        size_t part = length < sizeof bytes ? (size_t)length : sizeof bytes;
        get(fd, bytes, part);
        length -= part;
    }
}

/* Takes little at a time. */
static int upgrade_with_small_buffers(const axon_server *server)
{
    int fd = upgrade(server, "", NULL), size = 256 * KIB;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

static axon_request *next_request(axon_server *server)
{
    axon_request *request = NULL;
    assert_ok(axon_server_next(server, 20000, &request, &err), &err);
    return request;
}

static void reply_with_n(axon_request *request)
{
    axon_value *reply = observation_of(8, NULL);
    assert_ok(axon_request_reply(request, reply, &err), &err);
    axon_value_free(reply);
}

/* ---- silence ------------------------------------------------------------------------------------- */

static void a_silent_client_is_pinged(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .ping_interval_ms = 50};
    served *self = begin(&o);
    int fd = upgrade(self->server, "", NULL);
    for (int i = 0; i < 3; i++) {
        frame *ping = read_any_frame(fd);
        assert_int_equal(ping->opcode, 0x89);
        assert_int_equal(ping->length, 0);
        put_frame(fd, 0x8a, "", 0);
    }
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

static void pings_come_while_the_policy_works(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .ping_interval_ms = 50};
    served *self = begin(&o);
    int fd = upgrade(self->server, "", NULL);
    const uint8_t slow[] = {0x82, 0xa4, 's', 'l', 'o', 'w', 1, 0xa1, 'n', 4};
    put_frame(fd, 0x82, slow, sizeof slow);
    for (int i = 0; i < 3; i++)
        assert_int_equal(read_any_frame(fd)->opcode, 0x89);
    atomic_store(&go, true);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

static void a_client_that_says_nothing_is_kept(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .ping_interval_ms = 50, .dead_after_ms = 100};
    served *self = begin(&o);
    int fd = upgrade(self->server, "", NULL);
    usleep(900000); /* several times what makes a dead one; its machine acknowledges the pings */
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

static void one_that_stops_in_mid_message_is_not(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .dead_after_ms = 100};
    served *self = begin(&o);
    int fd = upgrade(self->server, "", NULL);
    put(fd, "\x82\x84\0\0\0\0\x81", 7);
    uint8_t byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    finish(self);
}

/* ---- clients that do not read -------------------------------------------------------------------- */

static void a_client_that_does_not_read_delays_nobody_else(void **state)
{
    (void)state;
    served *self = begin(NULL);
    blob observation = big_observation(12 * MIB);
    int stuck = upgrade_with_small_buffers(self->server);
    axon_policy *policy = connect_to(self->server, NULL);
    put(stuck, observation.data, observation.length);
    put(stuck, observation.data, observation.length);
    while (atomic_load(&self->asked) == 0)
        usleep(1000);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ask(policy, i), 2 * i);
    assert_int_equal(atomic_load(&self->asked),
                     21); /* its second one waits until the first reply is taken */
    skip_reply(stuck);
    skip_reply(stuck);
    axon_policy_close(policy);
    close(stuck);
    free(observation.data);
    finish(self);
}

static void nor_does_it_hold_up_the_end(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .stop_timeout_ms = 100};
    served *self = begin(&o);
    blob observation = big_observation(12 * MIB);
    int stuck = upgrade_with_small_buffers(self->server);
    put(stuck, observation.data, observation.length);
    while (atomic_load(&self->asked) == 0)
        usleep(1000);
    finish(self);
    close(stuck);
    free(observation.data);
}

static void a_client_may_hang_up_with_its_reply_unread(void **state)
{
    (void)state;
    served *self = begin(NULL);
    blob observation = big_observation(12 * MIB);
    for (int i = 1; i <= 3; i++) {
        int fd = upgrade_with_small_buffers(self->server);
        put(fd, observation.data, observation.length);
        while (atomic_load(&self->asked) < i)
            usleep(1000);
        close(fd);
    }
    axon_server_stats stats;
    do {
        usleep(1000);
        assert_ok(axon_server_get_stats(self->server, &stats, &err), &err);
    } while (stats.connections > 0);
    free(observation.data);
    finish(self);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void reading_stops_at_the_memory_limit_until_something_is_answered(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .max_memory_bytes = 10 * MIB};
    axon_server *server = open_server(&o);
    blob observation = big_observation(6 * MIB);
    int one = upgrade(server, "", NULL), two = upgrade(server, "", NULL);
    put(one, observation.data, observation.length);
    axon_request *held = next_request(server), *other = NULL;

    size_t sent = put_what_fits(two, observation);
    assert_true(sent < observation.length);
    assert_fails(axon_server_next(server, 100, &other, &err), AXON_ETIMEOUT, &err, "timeout_ms");
    put_frame(one, 0x89, "still here", 10); /* small things go on */
    assert_int_equal(read_frame(one)->opcode, 0x8a);

    reply_with_n(held);
    expect_n(one, 8);
    put(two, (uint8_t *)observation.data + sent, observation.length - sent);
    reply_with_n(next_request(server));
    expect_n(two, 8);
    close(one);
    close(two);
    free(observation.data);
    axon_server_close(server);
}

static void one_message_above_the_memory_limit_is_read_nevertheless(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .max_memory_bytes = 64 * KIB};
    axon_server *server = open_server(&o);
    blob observation = big_observation(2 * MIB);
    int one = upgrade(server, "", NULL), two = upgrade(server, "", NULL);
    for (int i = 0; i < 3; i++) { /* the two in turn, whoever is the first */
        put(i % 2 ? two : one, observation.data, observation.length);
        reply_with_n(next_request(server));
        expect_n(i % 2 ? two : one, 8);
    }
    close(one);
    close(two);
    free(observation.data);
    axon_server_close(server);
}

static void a_client_that_leaves_in_mid_message_gives_its_memory_back(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .max_memory_bytes = 10 * MIB};
    axon_server *server = open_server(&o);
    blob observation = big_observation(6 * MIB);
    for (int i = 0; i < 4; i++) {
        int fd = upgrade(server, "", NULL);
        put(fd, observation.data, observation.length / 2);
        close(fd);
    }
    int fd = upgrade(server, "", NULL);
    put(fd, observation.data, observation.length);
    reply_with_n(next_request(server));
    expect_n(fd, 8);
    close(fd);
    free(observation.data);
    axon_server_close(server);
}

static void a_reply_above_the_memory_limit_is_refused_and_said_to_the_client(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .max_memory_bytes = 64 * KIB};
    axon_server *server = open_server(&o);
    int fd = upgrade(server, "", NULL);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    axon_array zeros = {.dtype = AXON_UINT8, .ndim = 1, .shape = {128 * KIB}};
    zeros.data = calloc(1, 128 * KIB);
    axon_value *reply = axon_value_map();
    axon_value_set(reply, "big", axon_value_array(&zeros));
    assert_fails(axon_request_reply(next_request(server), reply, &err), AXON_ETOOBIG, &err,
                 "max_memory_bytes");
    frame *error = read_frame(fd);
    assert_int_equal(error->opcode, 0x81);
    assert_non_null(strstr((char *)error->data, "max_memory_bytes"));
    axon_value_free(reply);
    free((void *)(uintptr_t)zeros.data);
    close(fd);
    axon_server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_client_is_pinged),
        cmocka_unit_test(pings_come_while_the_policy_works),
        cmocka_unit_test(a_client_that_says_nothing_is_kept),
        cmocka_unit_test(one_that_stops_in_mid_message_is_not),
        cmocka_unit_test(a_client_that_does_not_read_delays_nobody_else),
        cmocka_unit_test(nor_does_it_hold_up_the_end),
        cmocka_unit_test(a_client_may_hang_up_with_its_reply_unread),
        cmocka_unit_test(reading_stops_at_the_memory_limit_until_something_is_answered),
        cmocka_unit_test(one_message_above_the_memory_limit_is_read_nevertheless),
        cmocka_unit_test(a_client_that_leaves_in_mid_message_gives_its_memory_back),
        cmocka_unit_test(a_reply_above_the_memory_limit_is_refused_and_said_to_the_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The policy server when memory runs out: every allocation of ours fails once, and nothing is lost, leaked or stuck. */
#include "failing_malloc.h"
#include "server_checks.h"

enum { MIB = 1024 * 1024 };

static void opening_survives_every_failed_allocation(void **state)
{
    (void)state;
    axon_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT, .api_key = "key"};
    axon_value *metadata = axon_value_map();
    axon_value_set(metadata, "name", axon_value_string("echo", AXON_ZSTRING));
    int told = 0;
    for (long count = 0;; count++) {
        axon_server *server = NULL;
        fail_after(count);
        axon_status status = axon_server_open(&server, metadata, &o, &err);
        axon_server_close(server);
        if (!fail_no_more()) {
            assert_int_equal(status, AXON_OK);
            break;
        }
        if (status != AXON_ENOMEM) fail_msg("allocation %ld: %s", count, err.message);
        assert_non_null(strstr(err.message, "out of memory"));
        told++;
    }
    axon_value_free(metadata);
    assert_true(told > 10);
}

/* Sends one message and takes whatever comes of it, be it nothing: what is left is up to the next client. */
static void try_to_ask(const axon_server *server, const uint8_t *message, size_t length)
{
    static uint8_t bytes[65536];
    uint8_t head[] = {
        0x82, 0xff, 0, 0, 0, 0, 0, (uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length,
        0,    0,    0, 0};
    int fd = dial(server);
    send(fd, UPGRADE "\r\n", sizeof UPGRADE "\r\n" - 1, MSG_NOSIGNAL);
    send(fd, head, sizeof head, MSG_NOSIGNAL);
    send(fd, message, length, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR); /* the server hangs up when it is through */
    while (recv(fd, bytes, sizeof bytes, 0) > 0)
        continue;
    close(fd);
}

/* Has a client ask with the first allocation of the server failing, with the second, and so on. */
static void survives(served *self, const axon_value *observation)
{
    void *message = NULL;
    size_t length = 0;
    assert_ok(axon_value_to_msgpack(observation, AXON_MARKER_OPENPI, &message, &length, &err), &err);
    axon_policy *policy = connect_to(self->server, NULL);
    for (long count = 0;; count++) {
        fail_elsewhere_after(count);
        try_to_ask(self->server, message, length);
        bool has_failed = fail_elsewhere_no_more();
        assert_int_equal(ask(policy, count), 2 * count); /* nobody else's connection suffers */
        if (has_failed) continue;
        assert_true(count > 5);
        break;
    }
    axon_policy_close(policy);
    axon_free(message);
}

static void so_does_serving(void **state)
{
    (void)state;
    served *self = begin(NULL);
    axon_value *observation = observation_of(4, NULL);
    survives(self, observation);
    axon_value_free(observation);
    finish(self);
}

static void so_does_serving_what_does_not_fit_the_socket(void **state)
{
    (void)state;
    axon_array zeros = {.dtype = AXON_UINT8, .ndim = 1, .shape = {12 * MIB}};
    zeros.data = calloc(1, 12 * MIB);
    axon_value *observation = observation_of(4, NULL);
    axon_value_set(observation, "big", axon_value_array(&zeros));
    served *self = begin(NULL);
    survives(self, observation);
    axon_value_free(observation);
    free((void *)(uintptr_t)zeros.data);
    finish(self);
}

static void so_does_telling_errors(void **state)
{
    (void)state;
    served *self = begin(NULL);
    axon_value *observation = observation_of(4, "fail");
    survives(self, observation);
    axon_value_free(observation);
    finish(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_survives_every_failed_allocation),
        cmocka_unit_test(so_does_serving),
        cmocka_unit_test(so_does_serving_what_does_not_fit_the_socket),
        cmocka_unit_test(so_does_telling_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

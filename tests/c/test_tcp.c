/* Sockets: where a server listens, and what connections are told. */
#include "checks.h"
#include "tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static axon_error err;

/* A connection to a listener on `host`, both ends of it. */
static void connect_at(const char *host, int ends[2])
{
    int listener;
    uint16_t port;
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    assert_ok(axi_tcp_listen(&listener, &port, host, 0, 8, &err), &err);
    assert_true(port > 0);
    getsockname(listener, (struct sockaddr *)&at, &length);
    ends[0] = socket(at.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(ends[0], (struct sockaddr *)&at, length), 0);
    ends[1] = accept(listener, NULL, NULL);
    assert_true(ends[1] >= 0);
    close(listener);
}

static void a_taken_port_and_a_name_that_is_none_are_named(void **state)
{
    (void)state;
    int first, second;
    uint16_t port, other;
    char text[128];
    assert_ok(axi_tcp_listen(&first, &port, "127.0.0.1", 0, 8, &err), &err);
    snprintf(text, sizeof text, "server 127.0.0.1:%u: it cannot be listened on: Address already in use",
             port);
    assert_fails(axi_tcp_listen(&second, &other, "127.0.0.1", port, 8, &err), AXON_EIO, &err, text);
    assert_fails(axi_tcp_listen(&second, &other, "no.such.host.invalid", 0, 8, &err), AXON_EIO, &err,
                 "server no.such.host.invalid:0: it cannot be listened on: ");
    close(first);
}

static void addresses_are_printed_as_they_are_written(void **state)
{
    (void)state;
    char text[64], wanted[64];
    struct sockaddr_storage at = {.ss_family = AF_INET6};
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&at;
    v6->sin6_addr = in6addr_loopback;
    v6->sin6_port = htons(53412);
    axi_tcp_print(text, sizeof text, &at, sizeof *v6);
    assert_string_equal(text, "[::1]:53412");
    at = (struct sockaddr_storage){.ss_family = AF_UNIX};
    axi_tcp_print(wanted, sizeof wanted, &at, 0);
    assert_string_equal(wanted, "unknown");
}

static void assert_congestion(int fd, const char *name)
{
    char found[32] = "";
    socklen_t size = sizeof found;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, found, &size), 0);
    assert_string_equal(found, name);
}

/* Whatever the system's default is. */
static void a_connection_within_the_machine_is_not_paced(void **state)
{
    (void)state;
    int ends[2];
    int one = socket(AF_INET, SOCK_STREAM, 0); /* with nobody at its other end it stays as it is */
    char before[32] = "";
    socklen_t size = sizeof before;
    getsockopt(one, IPPROTO_TCP, TCP_CONGESTION, before, &size);
    axi_tcp_hurry(one);
    assert_congestion(one, before);
    close(one);
    connect_at("127.0.0.1", ends);
    for (int i = 0; i < 2; i++) {
        int is_alive = 0;
        axi_tcp_tune(ends[i]);
        assert_congestion(ends[i], "reno");
        size = sizeof is_alive;
        getsockopt(ends[i], SOL_SOCKET, SO_KEEPALIVE, &is_alive, &size);
        assert_true(is_alive);
        assert_int_equal(axi_tcp_silence_ms(ends[i]), 0);
        assert_int_equal(axi_tcp_in_vain_ms(ends[i]), 0);
        close(ends[i]);
    }
}

static void other_sockets_stay_as_they_are(void **state)
{
    (void)state;
    int ends[2], is_alive = 0;
    socklen_t size = sizeof is_alive;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    axi_tcp_tune(ends[0]);
    getsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &is_alive, &size);
    assert_false(is_alive);
    assert_int_equal(axi_tcp_silence_ms(ends[0]), 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_taken_port_and_a_name_that_is_none_are_named),
        cmocka_unit_test(addresses_are_printed_as_they_are_written),
        cmocka_unit_test(a_connection_within_the_machine_is_not_paced),
        cmocka_unit_test(other_sockets_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

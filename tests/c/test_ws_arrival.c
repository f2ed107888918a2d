/* Clients of a server before their upgrade: odd requests, slow ones, and very many that say nothing. */
#include "server_checks.h"

#include <poll.h>

enum { SILENT = 600, PLACES = 256 };

/* ---- requests ------------------------------------------------------------------------------------ */

#define GET "GET / HTTP/1.1\r\nHost: x\r\n"
#define ASKS GET "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

static void odd_requests_are_answered_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *request, *status, *words;
    } cases[] = {
        {ASKS KEY "Sec-WebSocket-Version: 8\r\n\r\n", " 426 ", "\r\nSec-WebSocket-Version: 13\r\n"},
        {ASKS KEY "\r\n", " 426 ", "\r\nSec-WebSocket-Version: 13\r\n"},
        {ASKS VERSION "\r\n", " 400 ", "Sec-WebSocket-Key"},
        {ASKS VERSION "Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n", " 400 ", "Sec-WebSocket-Key"},
        {ASKS VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ!!\r\n\r\n", " 400 ", "Sec-WebSocket-Key"},
        {ASKS VERSION KEY KEY "\r\n", " 400 ", "Sec-WebSocket-Key"},
        {GET "Upgrade: websocket\r\n" VERSION KEY "\r\n", " 400 ", "Connection: Upgrade"},
        {"POST / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" VERSION KEY "\r\n",
         " 400 ", "GET"},
        {"GET /healthz HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", " 200 ", "\r\n\r\nOK\n"},
        {"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", " 200 ", "\r\nContent-Length: 3\r\n"},
        {"GET /healthz HTTP/1.0\r\n\r\n", " 200 ", "\r\n\r\nOK\n"},
        {"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", " 426 ", "GET /healthz"},
        {"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", " 426 ", "GET /healthz"},
        {"NONSENSE / HTTP/1.1\r\n\r\n", " 400 ", "no HTTP request"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " 400 ", "no HTTP request"},
        {"\x16\x03\x01 not HTTP at all\r\n\r\n", " 400 ", "no HTTP request"},
        {"\r\n\r\n", " 400 ", "no HTTP request"},
    };
    served *self = begin(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char answer[2048];
        http(self->server, cases[i].request, answer, sizeof answer);
        if (!strstr(answer, cases[i].status) || !strstr(answer, cases[i].words))
            fail_msg("%s was answered with %s", cases[i].request, answer);
        if (cases[i].request[0] == 'H') assert_null(strstr(answer, "OK\n"));
    }
    axon_server_stats stats;
    assert_ok(axon_server_get_stats(self->server, &stats, &err), &err);
    assert_int_equal(stats.refused, sizeof cases / sizeof *cases - 3);
    finish(self);
}

static void a_request_without_an_end_is_refused(void **state)
{
    (void)state;
    enum { LENGTH = 20000 };
    char *request = malloc(LENGTH), answer[2048];
    memset(request, 'a', LENGTH);
    memcpy(request, GET "X: ", sizeof GET "X: " - 1);
    request[LENGTH - 1] = 0;
    served *self = begin(NULL);
    http(self->server, request, answer, sizeof answer);
    assert_non_null(strstr(answer, " 431 "));
    free(request);
    finish(self);
}

static void subprotocols_that_are_offered_are_left_aside(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd =
        upgrade(self->server, "Sec-WebSocket-Protocol: chat,\r\n superchat\r\nOrigin: http://x\r\n", NULL);
    put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

static void a_request_may_come_byte_by_byte(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = dial(self->server), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (const char *at = UPGRADE "\r\n"; *at; at++) {
        put(fd, at, 1);
        usleep(100);
    }
    expect_upgrade(fd);
    read_frame(fd);
    close(fd);
    finish(self);
}

static void frames_that_come_with_the_request_are_read(void **state)
{
    (void)state;
    static const char observation[] = {(char)0x82, (char)0x84, 0, 0, 0, 0, (char)0x81, (char)0xa1, 'n', 4};
    static const char request[] = UPGRADE "\r\n";
    char together[sizeof request - 1 + 2 * sizeof observation];
    memcpy(together, request, sizeof request - 1);
    memcpy(together + sizeof request - 1, observation, sizeof observation);
    memcpy(together + sizeof request - 1 + sizeof observation, observation, sizeof observation);
    served *self = begin(NULL);
    int fd = dial(self->server);
    put(fd, together, sizeof together);
    expect_upgrade(fd);
    read_frame(fd); /* the metadata */
    expect_n(fd, 8);
    expect_n(fd, 8);
    close(fd);
    finish(self);
}

/* ---- very many ----------------------------------------------------------------------------------- */

static bool is_silent(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 0;
}

/* Connects SILENT times, says half of something, and leaves it at that. */
static int *crowd(const axon_server *server, const char *half)
{
    int *fds = malloc(SILENT * sizeof *fds);
    for (int i = 0; i < SILENT; i++) {
        fds[i] = dial(server);
        put(fds[i], half, strlen(half));
    }
    return fds;
}

static void send_home(int *fds)
{
    for (int i = 0; i < SILENT; i++)
        close(fds[i]);
    free(fds);
}

static void a_crowd_that_is_silent_keeps_nobody_out(void **state)
{
    (void)state;
    static const char *const halves[] = {"", "GET / HTTP/1.1\r\nHost: x\r\n",
                                         "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"};
    served *self = begin(NULL);
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        char answer[2048];
        int *fds = crowd(self->server, halves[i]);
        int fd = upgrade(self->server, "", NULL);
        put_frame(fd, 0x82, n_is_4, sizeof n_is_4);
        expect_n(fd, 8);
        http(self->server, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof answer);
        assert_non_null(strstr(answer, " 200 OK\r\n"));
        if (i < 2) { /* nobody waited for their time to be over: the last of them still have some */
            assert_true(is_silent(fds[SILENT - 1]));
            assert_false(is_silent(fds[SILENT - PLACES - 1]));
        }
        close(fd);
        send_home(fds);
    }
    finish(self);
}

static void a_client_that_hangs_up_in_mid_request_is_forgotten(void **state)
{
    (void)state;
    served *self = begin(NULL);
    for (int i = 0; i < 50; i++) {
        int fd = dial(self->server);
        put(fd, UPGRADE, 20);
        if (i % 2) shutdown(fd, SHUT_WR);
        uint8_t byte;
        if (i % 2) assert_int_equal(recv(fd, &byte, 1, 0), 0);
        close(fd);
    }
    close(upgrade(self->server, "", NULL));
    finish(self);
}

static void arrivals_do_not_outlive_the_server(void **state)
{
    (void)state;
    served *self = begin(NULL);
    int fd = dial(self->server);
    put(fd, UPGRADE, 20);
    close(upgrade(self->server, "", NULL)); /* so `fd` was accepted */
    finish(self);
    uint8_t byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_requests_are_answered_with_the_reason),
        cmocka_unit_test(a_request_without_an_end_is_refused),
        cmocka_unit_test(subprotocols_that_are_offered_are_left_aside),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(frames_that_come_with_the_request_are_read),
        cmocka_unit_test(a_crowd_that_is_silent_keeps_nobody_out),
        cmocka_unit_test(a_client_that_hangs_up_in_mid_request_is_forgotten),
        cmocka_unit_test(arrivals_do_not_outlive_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A WebSocket server in a process that has no descriptors left. */
#include "checks.h"
#include "ws_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MANY = 256, PATIENCE_MS = 20000 };

static int let_in(void *user, const axi_http_asked *asked, const char **text)
{
    (void)user, (void)asked, (void)text;
    return 0;
}

static bool welcome(void *user, axi_ws_peer *peer)
{
    (void)user, (void)peer;
    return true;
}

static void drop_message(void *user, axi_ws_peer *peer, axi_ws_message *message)
{
    (void)user, (void)peer;
    free(message->data);
}

static void ignore_peer(void *user, axi_ws_peer *peer)
{
    (void)user, (void)peer;
}

static void ignore(void *user)
{
    (void)user;
}

static const axi_ws_server_events events = {let_in,      welcome, drop_message, ignore_peer,
                                            ignore_peer, ignore,  ignore};

static const axi_ws_server_options options = {.host = "127.0.0.1",
                                              .max_connections = 4,
                                              .max_message_bytes = 1 << 20,
                                              .max_memory_bytes = 1 << 20,
                                              .max_queue_bytes = 1 << 20,
                                              .ping_interval_ms = 20000,
                                              .dead_after_ms = 60000};

/* Descriptors up to the limit; how many there were. */
static int take_all(int taken[MANY])
{
    int count = 0;
    while (count < MANY && (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    return count;
}

static void connect_client(int client, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof to), 0);
}

static void ask_for_upgrade(int client, uint16_t port)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    connect_client(client, port);
    assert_int_equal(send(client, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
}

static void expect_upgrade(int client)
{
    struct pollfd answer = {.fd = client, .events = POLLIN};
    assert_int_equal(poll(&answer, 1, PATIENCE_MS), 1);
    char head[13] = "";
    assert_int_equal(recv(client, head, 12, 0), 12);
    assert_string_equal(head, "HTTP/1.1 101");
}

static void a_client_waits_for_a_descriptor_and_gets_in(void **state)
{
    (void)state;
    axon_error err;
    axi_ws_server *server = NULL;
    assert_ok(axi_ws_server_open(&server, &options, &events, NULL, &err), &err);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), taken[MANY];
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = MANY / 2;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int count = take_all(taken);
    assert_in_range(count, 1, MANY - 1);
    ask_for_upgrade(client, axi_ws_server_port(server));

    struct pollfd answer = {.fd = client, .events = POLLIN};
    assert_int_equal(poll(&answer, 1, 600), 0); /* two ticks: it is still outside */
    while (count > 0)
        close(taken[--count]);
    setrlimit(RLIMIT_NOFILE, &before);
    expect_upgrade(client);
    close(client);
    axi_ws_server_close(server, false);
}

static void silent_clients_give_up_their_descriptors(void **state)
{
    (void)state;
    enum { SILENT = 40, FREE = 16 };
    axon_error err;
    axi_ws_server *server = NULL;
    assert_ok(axi_ws_server_open(&server, &options, &events, NULL, &err), &err);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), silent[SILENT], taken[MANY];
    for (int i = 0; i < SILENT; i++)
        silent[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = MANY / 2;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int count = take_all(taken);
    assert_in_range(count, FREE + 1, MANY - 1);
    for (int i = 0; i < FREE; i++)
        close(taken[--count]);

    for (int i = 0; i < SILENT; i++)
        connect_client(silent[i], axi_ws_server_port(server));
    ask_for_upgrade(client, axi_ws_server_port(server));
    expect_upgrade(client);
    assert_true(poll(&(struct pollfd){.fd = silent[SILENT - 1], .events = POLLIN}, 1, 0) == 0);
    while (count > 0)
        close(taken[--count]);
    setrlimit(RLIMIT_NOFILE, &before);
    for (int i = 0; i < SILENT; i++)
        close(silent[i]);
    close(client);
    axi_ws_server_close(server, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_waits_for_a_descriptor_and_gets_in),
        cmocka_unit_test(silent_clients_give_up_their_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

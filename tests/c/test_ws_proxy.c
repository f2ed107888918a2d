/* WebSocket connections through an HTTP proxy that the environment names. */
#include "ws_checks.h"

static SSL_CTX *inner_tls; /* of the server behind the proxy */

/* The proxy and, behind the tunnel, the server: both in one. */
static void tunnel_and_echo(ws_peer *peer)
{
    if (!ws_read_request(peer)) return;
    ws_note(peer, 0, strstr(peer->head, "CONNECT policy.example.com:8000 HTTP/1.1\r\n") == peer->head);
    ws_note(peer, 1, strcasestr(peer->head, "proxy-authorization: basic dXNlcjpwQHNz\r\n") != NULL);
    ws_write_text(peer, "HTTP/1.1 200 Connection ");
    ws_pause(20); /* in two pieces */
    ws_write_text(peer, "established\r\nVia: test\r\n\r\n");
    if (inner_tls) {
        peer->ssl = SSL_new(inner_tls);
        SSL_set_fd(peer->ssl, peer->fd);
        if (SSL_accept(peer->ssl) != 1) return;
    }
    if (!ws_read_request(peer)) return;
    ws_note(peer, 2, strstr(peer->head, "\r\nHost: policy.example.com:8000\r\n") != NULL);
    ws_accept_upgrade(peer, "", NULL, 0);
    ws_echo(peer);
}

static int forget_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

static void use_proxy(const ws_fake *fake, const char *credentials)
{
    char value[128];
    snprintf(value, sizeof value, "http://%s127.0.0.1:%d/", credentials, fake->port);
    setenv("all_proxy", value, 1);
}

static void far_hosts_are_reached_through_the_proxy(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = tunnel_and_echo});
    use_proxy(fake, "user:p%40ss@");
    axi_ws *ws = open_or_fail("ws://policy.example.com:8000", &plain_options);
    send_text(ws, "through the tunnel");
    assert_receives(ws, "through the tunnel");
    assert_true(ws_noted(fake, 0));
    assert_true(ws_noted(fake, 1));
    assert_true(ws_noted(fake, 2));
    close_now(ws);
    ws_fake_stop(fake);
}

static void tls_is_spoken_through_the_tunnel(void **state)
{
    (void)state;
    char ca_path[] = "/tmp/axon-ca-XXXXXX";
    ws_identity authority = ws_certify(NULL, 3600, NULL);
    ws_identity server = ws_certify("DNS:policy.example.com", 3600, &authority);
    close(mkstemp(ca_path));
    ws_write_pem(&authority, ca_path);
    inner_tls = ws_tls_of(&server);
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = tunnel_and_echo});
    use_proxy(fake, "");
    axi_ws_options options = {.ca_file = ca_path, .max_message_bytes = LIMIT};
    axi_ws *ws = open_or_fail("wss://policy.example.com:8000", &options);
    send_text(ws, "in secret");
    assert_receives(ws, "in secret");
    assert_true(ws_noted(fake, 0));
    assert_false(ws_noted(fake, 1));
    close_now(ws);
    ws_fake_stop(fake);
    SSL_CTX_free(inner_tls);
    inner_tls = NULL;
    ws_forget_identity(&server);
    ws_forget_identity(&authority);
    unlink(ca_path);
}

static void near_hosts_need_no_proxy(void **state)
{
    (void)state;
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* which libwebsockets would use by itself */
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "directly");
    assert_receives(ws, "directly");
    close_now(ws);
    ws_fake_stop(fake);
}

static void want_credentials(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write_text(peer, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    ws_wait_for_end(peer);
}

static void a_proxy_that_refuses_is_told_from_the_server(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = want_credentials});
    use_proxy(fake, "");
    assert_open_fails("ws://policy.example.com:8000", &plain_options, 20000, AXON_ECONNECT,
                      "HTTP 407 to CONNECT");
    assert_int_equal(err.http_status, 407);
    assert_non_null(strstr(err.message, "proxy 127.0.0.1:"));
    ws_fake_stop(fake);
}

static void a_silent_proxy_is_told_from_the_server(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    use_proxy(fake, "");
    assert_open_fails("ws://policy.example.com:8000", &plain_options, 300, AXON_ETIMEOUT,
                      "the proxy 127.0.0.1:");
    ws_fake_stop(fake);
}

static void an_absent_proxy_is_told_from_the_server(void **state)
{
    (void)state;
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    assert_open_fails("ws://policy.example.com:8000", &plain_options, 20000, AXON_ECONNECT,
                      "proxy 127.0.0.1:1: connection refused");
}

int main(void)
{
#define PROXY_TEST(test) cmocka_unit_test_setup_teardown(test, forget_environment, forget_environment)
    const struct CMUnitTest tests[] = {
        PROXY_TEST(far_hosts_are_reached_through_the_proxy),
        PROXY_TEST(tls_is_spoken_through_the_tunnel),
        PROXY_TEST(near_hosts_need_no_proxy),
        PROXY_TEST(a_proxy_that_refuses_is_told_from_the_server),
        PROXY_TEST(a_silent_proxy_is_told_from_the_server),
        PROXY_TEST(an_absent_proxy_is_told_from_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* URLs taken apart, and the proxy that the environment names for them. */
#include "checks.h"
#include "ws_url.h"

/* ---- URLs ---------------------------------------------------------------------------------------- */

static void assert_parts(const char *url, bool is_tls, const char *host, uint16_t port,
                         const char *authority, const char *path)
{
    axi_ws_url parts;
    axon_error err;
    assert_ok(axi_ws_url_read(&parts, url, &err), &err);
    assert_int_equal(parts.is_tls, is_tls);
    assert_string_equal(parts.host, host);
    assert_int_equal(parts.port, port);
    assert_string_equal(parts.authority, authority);
    assert_string_equal(parts.path, path);
}

static void urls_are_taken_apart(void **state)
{
    (void)state;
    assert_parts("ws://127.0.0.1:8000", false, "127.0.0.1", 8000, "127.0.0.1:8000", "/");
    assert_parts("ws://robot", false, "robot", 80, "robot", "/");
    assert_parts("wss://policy.example.com", true, "policy.example.com", 443, "policy.example.com", "/");
    assert_parts("WSS://Host_1:1/a/b/?x=1&y=%20", true, "Host_1", 1, "Host_1:1", "/a/b/?x=1&y=%20");
    assert_parts("ws://h?token=1", false, "h", 80, "h", "/?token=1");
    assert_parts("ws://[::1]:8000/", false, "::1", 8000, "[::1]:8000", "/");
    assert_parts("ws://[2001:db8::7]", false, "2001:db8::7", 80, "[2001:db8::7]", "/");
    assert_parts("ws://[::ffff:10.0.0.1]:65535", false, "::ffff:10.0.0.1", 65535, "[::ffff:10.0.0.1]:65535",
                 "/");
}

static void the_zone_of_an_address_stays_out_of_the_host_header(void **state)
{
    (void)state;
    assert_parts("ws://[fe80::1%eth0]:8000", false, "fe80::1%eth0", 8000, "[fe80::1]:8000", "/");
    assert_parts("ws://[fe80::1%25eth0]:8000", false, "fe80::1%eth0", 8000, "[fe80::1]:8000", "/");
}

static void assert_refused(const char *url, const char *words)
{
    axi_ws_url parts;
    axon_error err;
    assert_fails(axi_ws_url_read(&parts, url, &err), AXON_EINVAL, &err, words);
    assert_non_null(strstr(err.message, "URL \""));
}

static void what_is_no_websocket_url_is_refused_by_name(void **state)
{
    (void)state;
    assert_refused("", "ws://");
    assert_refused("http://127.0.0.1", "ws://");
    assert_refused("127.0.0.1:8000", "ws://");
    assert_refused("ws://", "no host");
    assert_refused("ws:///path", "no host");
    assert_refused("ws://:8000", "no host name");
    assert_refused("ws://h:", "port");
    assert_refused("ws://h:0", "port");
    assert_refused("ws://h:65536", "port");
    assert_refused("ws://h:80a", "port");
    assert_refused("ws://h:-1", "port");
    assert_refused("ws://h:999999", "port");
    assert_refused("ws://::1:8000", "brackets");
    assert_refused("ws://[::1:8000", "not closed");
    assert_refused("ws://[::1]8000", "between host and port");
    assert_refused("ws://[]:8000", "no host name");
    assert_refused("ws://[robot]:8000", "no host name");
    assert_refused("ws://user:secret@h:8000", "credentials");
    assert_refused("ws://ho st", "no host name");
    assert_refused("ws://h\r\nX: y", "no host name");
    assert_refused("ws://h\\@evil", "credentials");
    assert_refused("ws://h/a b", "percent-encode");
    assert_refused("ws://h/a\r\nX: y", "percent-encode");
    assert_refused("ws://h/\xc3\xa4", "percent-encode");
    assert_refused("ws://h/a#b", "fragment");
}

/* libwebsockets would cut them in silence. */
static void what_libwebsockets_would_cut_is_refused(void **state)
{
    (void)state;
    char url[3000];
    memset(url, 0, sizeof url);
    memcpy(url, "ws://", 5);
    memset(url + 5, 'h', AXI_WS_HOST_MAX);
    assert_parts(url, false, url + 5, 80, url + 5, "/");
    url[5 + AXI_WS_HOST_MAX] = 'h';
    assert_refused(url, "119");

    memset(url, 0, sizeof url);
    memcpy(url, "ws://h/", 7);
    memset(url + 7, 'p', AXI_WS_PATH_MAX - 1);
    assert_parts(url, false, "h", 80, "h", url + 6);
    url[7 + AXI_WS_PATH_MAX - 1] = 'p';
    assert_refused(url, "2000");
}

/* ---- proxies --------------------------------------------------------------------------------------- */

static const char *const variables[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                        "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};

static int forget_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    return 0;
}

static axi_proxy proxy_for(const char *url)
{
    axi_ws_url parts;
    axi_proxy proxy;
    axon_error err;
    assert_ok(axi_ws_url_read(&parts, url, &err), &err);
    assert_ok(axi_proxy_find(&proxy, &parts, &err), &err);
    return proxy;
}

static void assert_proxy(const char *url, const char *host, uint16_t port)
{
    axi_proxy proxy = proxy_for(url);
    if (strcmp(proxy.host, host) != 0) fail_msg("%s: proxy \"%s\", not \"%s\"", url, proxy.host, host);
    if (*host) assert_int_equal(proxy.port, port);
}

static void each_scheme_has_its_proxy(void **state)
{
    (void)state;
    assert_proxy("ws://far.example.com", "", 0);
    setenv("http_proxy", "http://plain.example:3128", 1);
    setenv("https_proxy", "http://secure.example:3129/", 1);
    assert_proxy("ws://far.example.com", "plain.example", 3128);
    assert_proxy("wss://far.example.com", "secure.example", 3129);
    unsetenv("http_proxy");
    setenv("HTTP_PROXY", "http://from-a-request.example", 1);
    assert_proxy("ws://far.example.com", "", 0);
    setenv("ALL_PROXY", "any.example:8080", 1);
    assert_proxy("ws://far.example.com", "any.example", 8080);
    assert_proxy("wss://far.example.com", "secure.example", 3129);
    setenv("https_proxy", "", 1);
    assert_proxy("wss://far.example.com", "any.example", 8080);
}

static void credentials_are_decoded(void **state)
{
    (void)state;
    setenv("all_proxy", "http://us%65r:p%40ss@proxy.example:1", 1);
    axi_proxy proxy = proxy_for("ws://far.example.com");
    assert_string_equal(proxy.host, "proxy.example");
    assert_string_equal(proxy.credentials, "user:p@ss");
    setenv("all_proxy", "[2001:db8::1]:9", 1);
    assert_proxy("ws://far.example.com", "2001:db8::1", 9);
}

static void what_is_near_needs_no_proxy(void **state)
{
    (void)state;
    setenv("all_proxy", "http://proxy.example:3128", 1);
    assert_proxy("ws://127.0.0.1:8000", "", 0);
    assert_proxy("ws://[::1]:8000", "", 0);
    assert_proxy("ws://localhost:8000", "", 0);
    assert_proxy("ws://10.0.0.4:8000", "", 0);
    assert_proxy("ws://192.168.1.7", "", 0);
    assert_proxy("ws://[fe80::1%eth0]:8000", "", 0);
    assert_proxy("ws://gpu-box:8000", "", 0);
    assert_proxy("ws://gpu-box.local:8000", "", 0);
    assert_proxy("ws://gpu-box.example.com:8000", "proxy.example", 3128);
}

static void no_proxy_is_honoured(void **state)
{
    (void)state;
    setenv("all_proxy", "http://proxy.example:3128", 1);
    setenv("no_proxy", "other.com, .lab.example ,exact.net:8000", 1);
    assert_proxy("ws://other.com", "", 0);
    assert_proxy("ws://sub.other.com", "", 0);
    assert_proxy("ws://another.com", "proxy.example", 3128);
    assert_proxy("ws://gpu.LAB.example", "", 0);
    assert_proxy("ws://lab.example", "", 0);
    assert_proxy("ws://exact.net:8000", "", 0);
    assert_proxy("ws://exact.net:8001", "proxy.example", 3128);
    setenv("no_proxy", "*", 1);
    assert_proxy("ws://another.com", "", 0);
    unsetenv("no_proxy");
    setenv("NO_PROXY", "another.com", 1);
    assert_proxy("ws://another.com", "", 0);
}

static void a_proxy_that_cannot_be_used_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *value, *words;
    } bad[] = {{"socks5://127.0.0.1:1080", "only http://"},
               {"https://proxy.example", "only http://"},
               {"http://proxy.example:0", "port"},
               {"http://", "no host"}};
    axi_ws_url parts;
    axi_proxy proxy;
    axon_error err;
    assert_ok(axi_ws_url_read(&parts, "wss://far.example.com", &err), &err);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("https_proxy", bad[i].value, 1);
        assert_fails(axi_proxy_find(&proxy, &parts, &err), AXON_ECONNECT, &err, bad[i].words);
        assert_non_null(strstr(err.message, "https_proxy"));
    }
}

int main(void)
{
#define PROXY_TEST(test) cmocka_unit_test_setup_teardown(test, forget_environment, forget_environment)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(the_zone_of_an_address_stays_out_of_the_host_header),
        cmocka_unit_test(what_is_no_websocket_url_is_refused_by_name),
        cmocka_unit_test(what_libwebsockets_would_cut_is_refused),
        PROXY_TEST(each_scheme_has_its_proxy),
        PROXY_TEST(credentials_are_decoded),
        PROXY_TEST(what_is_near_needs_no_proxy),
        PROXY_TEST(no_proxy_is_honoured),
        PROXY_TEST(a_proxy_that_cannot_be_used_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

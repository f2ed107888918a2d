/* WebSocket connections over TLS: whom to trust, what goes wrong, and many at once. */
#include "ws_checks.h"

#include <stdatomic.h>
#include <sys/wait.h>

/* ---- certificates ------------------------------------------------------------------------------------ */

static ws_identity authority, other_authority;
static char ca_path[] = "/tmp/axon-ca-XXXXXX", other_path[] = "/tmp/axon-ca-XXXXXX";

static int make_authorities(void **state)
{
    (void)state;
    authority = ws_certify(NULL, 3600, NULL);
    other_authority = ws_certify(NULL, 3600, NULL);
    close(mkstemp(ca_path));
    close(mkstemp(other_path));
    ws_write_pem(&authority, ca_path);
    ws_write_pem(&other_authority, other_path);
    return 0;
}

static int forget_authorities(void **state)
{
    (void)state;
    ws_forget_identity(&authority);
    ws_forget_identity(&other_authority);
    unlink(ca_path);
    unlink(other_path);
    return 0;
}

/* A server whose certificate is for `name`, ends in `seconds` and was signed by `issuer`, or by itself. */
static ws_fake *serve_tls(const char *name, long seconds, const ws_identity *issuer, ws_fake plan)
{
    ws_identity identity = ws_certify(name, seconds, issuer);
    plan.tls = ws_tls_of(&identity);
    ws_forget_identity(&identity);
    return ws_fake_begin(plan);
}

static ws_fake *serve_well(ws_fake plan)
{
    return serve_tls("IP:127.0.0.1,IP:::1,DNS:localhost", 3600, &authority, plan);
}

static const axi_ws_options trusting = {.ca_file = ca_path, .max_message_bytes = LIMIT};

/* ---- good ones --------------------------------------------------------------------------------------- */

static void a_trusted_server_is_connected_to(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = serve_well((ws_fake){.script = ws_echo,
                                             .early = "\x82\x05"
                                                      "early",
                                             .early_length = 7});
        axi_ws_force_plain(plain);
        axi_ws *ws = open_or_fail(fake->url, &trusting);
        axi_ws_force_plain(false);
        assert_receives(ws, "early");
        echo_every_size(ws);
        close_now(ws);
        ws_fake_stop(fake);
    }
}

static void names_and_both_kinds_of_address_are_checked(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.script = ws_echo});
    char url[64];
    snprintf(url, sizeof url, "wss://localhost:%d", fake->port);
    close_now(open_or_fail(url, &trusting));
    ws_fake_stop(fake);
    fake = serve_well((ws_fake){.script = ws_echo, .on_v6 = true});
    close_now(open_or_fail(fake->url, &trusting));
    ws_fake_stop(fake);
}

/* Notes the length of the name that the client asked for. */
static void note_server_name(ws_peer *peer)
{
    const char *name = SSL_get_servername(peer->ssl, TLSEXT_NAMETYPE_host_name);
    ws_note(peer, 0, name ? (long)strlen(name) : -1);
    ws_note(peer, 1, 1);
    ws_wait_for_end(peer);
}

static void assert_announced(bool by_name, long length)
{
    ws_fake *fake = serve_well((ws_fake){.script = note_server_name, .on_v6 = !by_name});
    char url[64];
    snprintf(url, sizeof url, "wss://%s:%d", by_name ? "localhost" : "[::1]", fake->port);
    axi_ws *ws = open_or_fail(url, &trusting);
    assert_true(wait_until(fake, 1, 1));
    assert_int_equal(ws_noted(fake, 0), length);
    close_now(ws);
    ws_fake_stop(fake);
}

/* RFC 6066, section 3: a name is announced, an address is not. */
static void the_server_name_is_announced_unless_it_is_an_address(void **state)
{
    (void)state;
    assert_announced(true, (long)strlen("localhost"));
    assert_announced(false, -1);
}

/* ---- bad ones ------------------------------------------------------------------------------------------ */

static void assert_distrusted(ws_fake *fake, const axi_ws_options *options, const char *words)
{
    axi_ws_options insisting = *options;
    insisting.retry_min_ms = 5; /* in vain: nothing of this is tried again */
    insisting.retry_max_ms = 5;
    assert_open_fails(fake->url, &insisting, 20000, AXON_ECONNECT, words);
    assert_non_null(strstr(err.message, "TLS"));
    assert_int_equal(ws_accepted(fake), 1);

    axi_ws_options careless = {.tls_insecure = true, .max_message_bytes = LIMIT};
    axi_ws *ws = open_or_fail(fake->url, &careless);
    send_text(ws, "as you wish");
    assert_receives(ws, "as you wish");
    close_now(ws);
    ws_fake_stop(fake);
}

static void an_untrustworthy_certificate_is_refused_with_the_reason(void **state)
{
    (void)state;
    ws_fake echo = {.script = ws_echo};
    const axi_ws_options standard = {.max_message_bytes = LIMIT};
    assert_distrusted(serve_tls("IP:127.0.0.1", 3600, NULL, echo), &trusting, "self-signed");
    assert_distrusted(serve_tls("IP:127.0.0.1", -60, &authority, echo), &trusting, "expired");
    assert_distrusted(serve_tls("IP:127.0.0.2", 3600, &authority, echo), &trusting, "not for 127.0.0.1");
    assert_distrusted(serve_tls("DNS:robot.example", 3600, &authority, echo), &trusting,
                      "not for 127.0.0.1");
    assert_distrusted(serve_tls("IP:127.0.0.1", 3600, &other_authority, echo), &trusting, "not trusted");
    assert_distrusted(serve_tls("IP:127.0.0.1", 3600, &authority, echo), &standard, "not trusted");
}

static void a_name_that_differs_is_refused(void **state)
{
    (void)state;
    ws_fake *fake =
        serve_tls("DNS:robot.example,IP:127.0.0.1", 3600, &authority, (ws_fake){.script = ws_echo});
    char url[64];
    snprintf(url, sizeof url, "wss://localhost:%d", fake->port);
    assert_open_fails(url, &trusting, 20000, AXON_ECONNECT, "not for localhost");
    ws_fake_stop(fake);
}

static void authorities_that_cannot_be_read_are_told(void **state)
{
    (void)state;
    axi_ws_options options = {.ca_file = "/nonexistent/ca.pem", .max_message_bytes = LIMIT};
    assert_open_fails("wss://127.0.0.1:1", &options, 20000, AXON_EIO, "/nonexistent/ca.pem");
}

static void a_server_without_tls_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    char url[64];
    snprintf(url, sizeof url, "wss://127.0.0.1:%d", fake->port);
    axi_ws *ws;
    assert_int_not_equal(axi_ws_open(&ws, url, &trusting, axi_deadline(500), &err), AXON_OK);
    assert_non_null(strstr(err.message, "TLS"));
    ws_fake_stop(fake);
}

static void answer_in_plain(ws_peer *peer)
{
    char some[64];
    ws_read_some(peer, some, sizeof some);
    ws_write_text(peer, "HTTP/1.1 400 Bad Request\r\n\r\n");
    ws_wait_for_end(peer);
}

static void a_plain_answer_to_tls_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = answer_in_plain});
    char url[64];
    snprintf(url, sizeof url, "wss://127.0.0.1:%d", fake->port);
    assert_open_fails(url, &trusting, 20000, AXON_ECONNECT, "TLS handshake failed: wrong version number");
    ws_fake_stop(fake);
}

/* A fatal alert, "unexpected message". OpenSSL's own server says nothing and hangs up. */
static void send_alert(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write(peer, "\x15\x03\x01\x00\x02\x02\x0a", 7);
}

static void a_tls_server_asked_in_plain_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = send_alert});
    assert_open_fails(fake->url, &plain_options, 20000, AXON_EPROTOCOL,
                      "speaks TLS: its URL begins with wss://");
    ws_fake_stop(fake);
}

static void a_silent_handshake_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    char url[64];
    snprintf(url, sizeof url, "wss://127.0.0.1:%d", fake->port);
    assert_open_fails(url, &trusting, 300, AXON_ETIMEOUT,
                      "listening but silent: no answer to the TLS handshake");
    ws_fake_stop(fake);
    fake = serve_well((ws_fake){.at_once = ws_wait_for_end});
    assert_open_fails(fake->url, &trusting, 300, AXON_ETIMEOUT,
                      "listening but silent: no answer to the upgrade");
    ws_fake_stop(fake);
}

static void refuse(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write_text(peer, "HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nbad key");
    ws_wait_for_end(peer);
}

static void http_errors_are_told_over_tls_too(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.at_once = refuse});
    assert_open_fails(fake->url, &trusting, 20000, AXON_EAUTH, "bad key");
    assert_int_equal(err.http_status, 403);
    ws_fake_stop(fake);
}

static void hang_up_once(ws_peer *peer)
{
    if (peer->number == 1) return;
    if (peer->number == 2) {
        ws_read_request(peer);
        return;
    }
    ws_read_request(peer);
    ws_accept_upgrade(peer, "", NULL, 0);
    ws_echo(peer);
}

static void a_server_that_hangs_up_over_tls_is_tried_again(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.at_once = hang_up_once});
    axi_ws_options options = trusting;
    options.retry_min_ms = options.retry_max_ms = 5;
    axi_ws *ws = open_or_fail(fake->url, &options);
    assert_int_equal(ws_accepted(fake), 3);
    close_now(ws);
    ws_fake_stop(fake);
}

static const char *const endless[][2] = {
    {"HTTP/1.1 101 Yes\r\nX-Blank:", "      "},
    {"HTTP/1.1 101 Yes\r\nX-Return: ", "\r\r\r\r"},
};
static size_t endless_case;

static void send_endless_header(ws_peer *peer)
{
    ws_read_request(peer);
    char pieces[16384];
    size_t piece = strlen(endless[endless_case][1]), length = 0;
    for (; length + piece <= sizeof pieces; length += piece)
        memcpy(pieces + length, endless[endless_case][1], piece);
    ws_write_text(peer, endless[endless_case][0]);
    while (ws_write(peer, pieces, length))
        ;
}

static void an_endless_header_ends_over_tls_too(void **state)
{
    (void)state;
    for (endless_case = 0; endless_case < 2; endless_case++) {
        ws_fake *fake = serve_well((ws_fake){.at_once = send_endless_header});
        assert_open_fails(fake->url, &trusting, 20000, AXON_EPROTOCOL, "endless");
        ws_fake_stop(fake);
    }
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

/* Writes a long message before it reads anything. */
static void talk_first(ws_peer *peer)
{
    uint8_t *noise = make_noise(4000000);
    ws_send_frame(peer, 0x82, noise, 4000000);
    free(noise);
    ws_echo(peer);
}

static void two_that_both_talk_do_not_wait_for_each_other(void **state)
{
    (void)state;
    uint8_t *noise = make_noise(4000000);
    ws_fake *fake = serve_well((ws_fake){.script = talk_first, .buffer_bytes = 300000});
    axi_ws *ws = open_or_fail(fake->url, &trusting);
    assert_ok(send_bytes(ws, noise, 4000000, PATIENT), &err);
    for (int i = 0; i < 2; i++) {
        axi_ws_message message;
        assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
        assert_same_bytes((blob){message.data, message.length}, (blob){noise, 4000000}, "message");
        free(message.data);
    }
    close_now(ws);
    ws_fake_stop(fake);
    free(noise);
}

static void ping_and_wait(ws_peer *peer)
{
    ws_frame pong;
    ws_send_frame(peer, 0x89, "tls", 3);
    if (!ws_expect(peer, 10, &pong)) return;
    ws_note(peer, 0, pong.length == 3);
    free(pong.payload);
    ws_echo(peer);
}

static void pings_are_answered_while_nobody_calls(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.script = ping_and_wait});
    axi_ws *ws = open_or_fail(fake->url, &trusting);
    assert_true(wait_until(fake, 0, 1));
    close_now(ws);
    ws_fake_stop(fake);
}

static void reset_after_a_while(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_reset(peer);
    ws_note(peer, 0, 1);
}

/* With SIGPIPE as deadly as it is by default: the test ends here if it is raised. */
static void writing_to_a_dead_server_raises_no_sigpipe(void **state)
{
    (void)state;
    struct sigaction standard = {.sa_handler = SIG_DFL}, before;
    sigaction(SIGPIPE, &standard, &before);
    uint8_t *noise = make_noise(1000000);
    ws_fake *fake = serve_well((ws_fake){.script = reset_after_a_while});
    axi_ws *ws = open_or_fail(fake->url, &trusting);
    send_text(ws, "go");
    assert_true(wait_until(fake, 0, 1));
    axon_status status = AXON_OK;
    for (int i = 0; i < 100 && status == AXON_OK; i++)
        status = send_bytes(ws, noise, 1000000, PATIENT);
    assert_int_equal(status, AXON_ECONNECT);
    close_now(ws);
    ws_fake_stop(fake);
    free(noise);
    sigaction(SIGPIPE, &before, NULL);
}

/* ---- many at once ---------------------------------------------------------------------------------------- */

enum { THREADS = 8, ROUNDS = 10 };

static atomic_int connected;

static void *connect_often(void *url)
{
    for (int i = 0; i < ROUNDS; i++) {
        axi_ws *ws;
        axon_error why;
        if (axi_ws_open(&ws, url, &trusting, PATIENT, &why) != AXON_OK) {
            fprintf(stderr, "%s\n", why.message);
            continue;
        }
        atomic_fetch_add(&connected, 1);
        axi_ws_close(ws, axi_deadline(1000));
    }
    return NULL;
}

static void handshakes_do_not_disturb_each_other(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.script = ws_echo});
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, connect_often, fake->url);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&connected), THREADS * ROUNDS);
    ws_fake_stop(fake);
}

typedef struct attempt {
    char url[64];
    axon_status status;
} attempt;

static void *wait_in_vain(void *argument)
{
    attempt *slow = argument;
    axi_ws *ws;
    slow->status = axi_ws_open(&ws, slow->url, &trusting, axi_deadline(1500), NULL);
    return NULL;
}

/* One server never answers the handshake; another one is reached meanwhile. */
static void a_slow_handshake_holds_nobody_up(void **state)
{
    (void)state;
    ws_fake *silent = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    ws_fake *fake = serve_well((ws_fake){.script = ws_echo});
    attempt slow;
    snprintf(slow.url, sizeof slow.url, "wss://127.0.0.1:%d", silent->port);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_in_vain, &slow);
    while (ws_accepted(silent) == 0)
        ws_pause(5);
    axi_ws *ws = NULL;
    assert_ok(axi_ws_open(&ws, fake->url, &trusting, axi_deadline(1200), &err), &err);
    close_now(ws);
    pthread_join(thread, NULL);
    assert_int_equal(slow.status, AXON_ETIMEOUT);
    ws_fake_stop(fake);
    ws_fake_stop(silent);
}

/* A child that frees its copy must not end the parent's session with TLS's goodbye. */
static void a_forked_child_leaves_the_session_alone(void **state)
{
    (void)state;
    ws_fake *fake = serve_well((ws_fake){.script = ws_echo});
    axi_ws *ws = open_or_fail(fake->url, &trusting);
    pid_t child = fork();
    if (child == 0) {
        axi_ws_close(ws, axi_deadline(1000));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    send_text(ws, "still mine");
    assert_receives(ws, "still mine");
    close_now(ws);
    ws_fake_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trusted_server_is_connected_to),
        cmocka_unit_test(names_and_both_kinds_of_address_are_checked),
        cmocka_unit_test(the_server_name_is_announced_unless_it_is_an_address),
        cmocka_unit_test(an_untrustworthy_certificate_is_refused_with_the_reason),
        cmocka_unit_test(a_name_that_differs_is_refused),
        cmocka_unit_test(authorities_that_cannot_be_read_are_told),
        cmocka_unit_test(a_server_without_tls_is_told),
        cmocka_unit_test(a_plain_answer_to_tls_is_told),
        cmocka_unit_test(a_tls_server_asked_in_plain_is_told),
        cmocka_unit_test(a_silent_handshake_is_told),
        cmocka_unit_test(http_errors_are_told_over_tls_too),
        cmocka_unit_test(a_server_that_hangs_up_over_tls_is_tried_again),
        cmocka_unit_test(an_endless_header_ends_over_tls_too),
        cmocka_unit_test(two_that_both_talk_do_not_wait_for_each_other),
        cmocka_unit_test(pings_are_answered_while_nobody_calls),
        cmocka_unit_test(writing_to_a_dead_server_raises_no_sigpipe),
        cmocka_unit_test(handshakes_do_not_disturb_each_other),
        cmocka_unit_test(a_slow_handshake_holds_nobody_up),
        cmocka_unit_test(a_forked_child_leaves_the_session_alone),
    };
    return cmocka_run_group_tests(tests, make_authorities, forget_authorities);
}

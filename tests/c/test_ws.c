/* WebSocket connections against a server that misbehaves on purpose. */
#include "ws_checks.h"

#include "ws_check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdatomic.h>
#include <sys/wait.h>

/* ---- messages there and back ------------------------------------------------------------------------ */

static void messages_of_every_size_come_back(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws *ws = connect_to(fake);
    echo_every_size(ws);
    close_now(ws);
    ws_fake_stop(fake);
}

static void so_they_do_through_libwebsockets_own_framing(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws_force_plain(true);
    axi_ws *ws = connect_to(fake);
    axi_ws_force_plain(false);
    echo_every_size(ws);
    close_now(ws);
    ws_fake_stop(fake);
}

/* Small socket buffers: nearly every write is a partial one. */
static void so_they_do_when_the_socket_takes_little(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo, .buffer_bytes = 4096});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        echo_every_size(ws);
        close_now(ws);
        ws_fake_stop(fake);
    }
}

static void note_frame(ws_peer *peer)
{
    ws_frame frame;
    if (!ws_expect(peer, 1, &frame)) return;
    ws_note(peer, 0, frame.first);
    ws_note(peer, 1, frame.is_masked);
    ws_send_frame(peer, 0x81, frame.payload, frame.length);
    free(frame.payload);
    ws_wait_for_end(peer);
}

static void text_goes_and_comes_as_text(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = note_frame});
    axi_ws *ws = connect_to(fake);
    struct iovec part = {.iov_base = "gr\xc3\xbc\xc3\x9f", .iov_len = 6};
    assert_ok(axi_ws_send(ws, &part, 1, true, PATIENT, &err), &err);
    axi_ws_message message;
    assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
    assert_true(message.is_text);
    assert_string_equal((char *)message.data, "gr\xc3\xbc\xc3\x9f");
    free(message.data);
    assert_int_equal(ws_noted(fake, 0), 0x81);
    assert_true(ws_noted(fake, 1));
    close_now(ws);
    ws_fake_stop(fake);
}

/* The rehearsal: if it ever fails here, sending has become several times slower. */
static void this_libwebsockets_passes_bytes_on(void **state)
{
    (void)state;
    assert_true(axi_link_passes_bytes());
}

/* ---- the request for an upgrade ------------------------------------------------------------------------ */

static void the_upgrade_asks_for_what_it_should(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws_options options = plain_options;
    options.authorization = "Api-Key s3cret";
    char url[128], head[WS_FAKE_HEAD], host[64];
    snprintf(url, sizeof url, "%s/a/b?x=1&y=%%20", fake->url);
    axi_ws *ws = open_or_fail(url, &options);
    ws_requested(fake, head);
    snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%d\r\n", fake->port);
    assert_memory_equal(head, "GET /a/b?x=1&y=%20 HTTP/1.1\r\n", 29);
    assert_non_null(strstr(head, host));
    assert_non_null(strstr(head, "\r\nAuthorization: Api-Key s3cret\r\n"));
    assert_non_null(strstr(head, "\r\nSec-WebSocket-Version: 13\r\n"));
    assert_null(strcasestr(head, "Sec-WebSocket-Extensions"));
    assert_null(strcasestr(head, "Sec-WebSocket-Protocol"));
    assert_null(strcasestr(head, "Origin"));
    close_now(ws);
    ws_fake_stop(fake);
}

static void ipv6_works_and_is_bracketed(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo, .on_v6 = true});
    axi_ws *ws = connect_to(fake);
    char head[WS_FAKE_HEAD], host[64];
    ws_requested(fake, head);
    snprintf(host, sizeof host, "\r\nHost: [::1]:%d\r\n", fake->port);
    assert_non_null(strstr(head, host));
    assert_null(strcasestr(head, "Authorization"));
    send_text(ws, "over IPv6");
    assert_receives(ws, "over IPv6");
    close_now(ws);
    ws_fake_stop(fake);
}

/* "localhost" is ::1 first on many machines, where nobody listens. */
static void names_are_tried_at_all_their_addresses(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    char url[64];
    snprintf(url, sizeof url, "ws://localhost:%d", fake->port);
    axi_ws *ws = open_or_fail(url, &plain_options);
    send_text(ws, "by name");
    assert_receives(ws, "by name");
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- nobody, or nobody proper, is there ------------------------------------------------------------------ */

/* A port where nobody listens. */
static int find_free_port(void)
{
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    int port = fake->port;
    ws_fake_stop(fake);
    return port;
}

static void a_refused_connection_says_so(void **state)
{
    (void)state;
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", find_free_port());
    assert_open_fails(url, &plain_options, 20000, AXON_ECONNECT, "refused");
    assert_null(strstr(err.message, "tried"));
}

static void a_refused_connection_is_tried_until_the_deadline(void **state)
{
    (void)state;
    char url[64];
    axi_ws_options options = {.retry_min_ms = 20, .retry_max_ms = 50, .max_message_bytes = LIMIT};
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", find_free_port());
    assert_open_fails(url, &options, 400, AXON_ECONNECT, "refused");
    assert_non_null(strstr(err.message, "tried"));
}

static void *begin_late(void *argument)
{
    ws_pause(300);
    return ws_fake_begin((ws_fake){.script = ws_echo, .port = *(int *)argument});
}

static void a_server_that_starts_late_is_found(void **state)
{
    (void)state;
    int port = find_free_port();
    pthread_t thread;
    pthread_create(&thread, NULL, begin_late, &port);
    char url[64];
    axi_ws_options options = {.retry_min_ms = 20, .retry_max_ms = 50, .max_message_bytes = LIMIT};
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", port);
    axi_ws *ws = open_or_fail(url, &options);
    send_text(ws, "at last");
    assert_receives(ws, "at last");
    close_now(ws);
    void *fake;
    pthread_join(thread, &fake);
    ws_fake_stop(fake);
}

static void an_unknown_host_says_so(void **state)
{
    (void)state;
    axi_ws_options options = {.retry_min_ms = 20, .retry_max_ms = 50, .max_message_bytes = LIMIT};
    assert_open_fails("ws://no-such-host.invalid:8000", &options, 20000, AXON_ECONNECT, "no such host");
}

static void a_silent_server_is_told_from_an_absent_one(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    assert_open_fails(fake->url, &plain_options, 300, AXON_ETIMEOUT, "listening but silent");
    ws_fake_stop(fake);
}

/* The first two connections end before the upgrade, the third one is served. */
static void hang_up_twice(ws_peer *peer)
{
    if (peer->number <= 2) {
        if (peer->number == 2) ws_read_request(peer);
        if (peer->number == 2) ws_reset(peer);
        return;
    }
    ws_read_request(peer);
    ws_accept_upgrade(peer, "", NULL, 0);
    ws_echo(peer);
}

static void a_server_that_hangs_up_before_the_upgrade_is_tried_again(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = hang_up_twice});
    assert_open_fails(fake->url, &plain_options, 20000, AXON_ECONNECT, "before");
    ws_fake_stop(fake);

    fake = ws_fake_begin((ws_fake){.at_once = hang_up_twice});
    axi_ws_options options = {.retry_min_ms = 5, .retry_max_ms = 10, .max_message_bytes = LIMIT};
    axi_ws *ws = open_or_fail(fake->url, &options);
    send_text(ws, "third time");
    assert_receives(ws, "third time");
    assert_int_equal(ws_accepted(fake), 3);
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- other answers than an upgrade -------------------------------------------------------------------------- */

static const char *answer;

static void give_answer(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write_text(peer, answer);
    ws_wait_for_end(peer);
}

/* Any answer is final: nothing is tried again. */
static void assert_answer_fails(const char *text, axon_status status, int http_status, const char *words)
{
    answer = text;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = give_answer});
    axi_ws_options options = {.retry_min_ms = 5, .retry_max_ms = 10, .max_message_bytes = LIMIT};
    assert_open_fails(fake->url, &options, 20000, status, words);
    assert_int_equal(err.http_status, http_status);
    assert_int_equal(ws_accepted(fake), 1);
    ws_fake_stop(fake);
}

static void http_errors_are_told_with_their_status(void **state)
{
    (void)state;
    assert_answer_fails("HTTP/1.1 401 Unauthorized\r\nContent-Length: 11\r\n\r\nwrong key\r\n", AXON_EAUTH,
                        401, "wrong key");
    assert_answer_fails("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", AXON_EAUTH, 403, "HTTP 403");
    assert_answer_fails("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno policy", AXON_ESERVER, 404,
                        "no policy");
    assert_answer_fails("HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nboom\r\n0\r\n\r\n",
                        AXON_ESERVER, 500, "boom");
    assert_answer_fails("HTTP/1.1 503 Busy\r\n\r\ntry \x1b[31mlater\n", AXON_ESERVER, 503,
                        "try ?[31mlater");
    assert_answer_fails("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", AXON_ESERVER, 200, "hello");
    assert_answer_fails("HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n", AXON_ESERVER, 302,
                        "302");
}

static void what_is_no_websocket_server_is_told(void **state)
{
    (void)state;
    assert_answer_fails("SSH-2.0-OpenSSH_9.2\r\n", AXON_EPROTOCOL, 0, "SSH-2.0-OpenSSH_9.2");
    assert_answer_fails("HTTP/1.1 what\r\n\r\n", AXON_EPROTOCOL, 0, "no status");
    assert_answer_fails("\r\n\r\n", AXON_EPROTOCOL, 0, "no WebSocket server");
    assert_answer_fails("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                        AXON_EPROTOCOL, 0, "Sec-WebSocket-Accept");
    assert_answer_fails("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                        AXON_EPROTOCOL, 0, "Sec-WebSocket-Accept is wrong");
    assert_answer_fails("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
                        AXON_EPROTOCOL, 0, "Upgrade");
    assert_answer_fails("HTTP/1.1 101 Yes\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: x\r\n\r\n",
                        AXON_EPROTOCOL, 0, "something else");
}

static const char *extra_headers;

static void upgrade_with_more(ws_peer *peer)
{
    ws_read_request(peer);
    ws_accept_upgrade(peer, extra_headers, "\x82\x02hi", 4);
    ws_wait_for_end(peer);
}

static void an_upgrade_to_what_was_not_asked_for_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"Sec-WebSocket-Extensions: permessage-deflate\r\n", "extension"},
        {"Sec-WebSocket-Protocol: chat\r\n", "subprotocol"},
        {"Transfer-Encoding: chunked\r\n", "announces a body"},
        {"Content-Length: 4\r\n", "announces a body"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        extra_headers = bad[i][0];
        ws_fake *fake = ws_fake_begin((ws_fake){.at_once = upgrade_with_more});
        assert_open_fails(fake->url, &plain_options, 20000, AXON_EPROTOCOL, bad[i][1]);
        ws_fake_stop(fake);
    }
}

static void harmless_headers_are_overlooked(void **state)
{
    (void)state;
    extra_headers = "Content-Length: 0\r\nServer: old\r\nX-Thing: 1\r\nDate: today\r\nSet-Cookie: a=b\r\n";
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = upgrade_with_more});
    axi_ws *ws = connect_to(fake);
    assert_receives(ws, "hi");
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- endless and broken answers -------------------------------------------------------------------------------- */

static const char *endless_start, *endless_piece;

/* Sends header bytes as fast as they are taken, for ever. */
static void send_endless_header(ws_peer *peer)
{
    ws_read_request(peer);
    char pieces[32768];
    size_t piece = strlen(endless_piece), length = 0;
    for (; length + piece <= sizeof pieces; length += piece)
        memcpy(pieces + length, endless_piece, piece);
    ws_write_text(peer, endless_start);
    while (ws_write(peer, pieces, length))
        ;
}

static const char *const endless[][2] = {
    {"HTTP/1.1 101 Yes\r\nX-Long: ", "aaaaaaaa"}, {"HTTP/1.1 101 Yes\r\n", "X-More: b\r\n"},
    {"HTTP/1.1 101 Yes\r\nX-Blank:", "      "},   {"HTTP/1.1 101 Yes\r\nX-Return: ", "\r\r\r\r"},
    {"HTTP/1.1 101 Yes\r\n", "nameandnocolon"},   {"HTTP/1.1 ", "1"},
    {"HTTP/1.1 101 Yes\r\nServer:", "      "},
};

static void an_endless_header_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        endless_start = endless[i][0];
        endless_piece = endless[i][1];
        ws_fake *fake = ws_fake_begin((ws_fake){.at_once = send_endless_header});
        assert_open_fails(fake->url, &plain_options, 20000, AXON_EPROTOCOL, "endless");
        ws_fake_stop(fake);
    }
}

static void drip_header(ws_peer *peer)
{
    ws_read_request(peer);
    ws_write_text(peer, "HTTP/1.1 101 Yes\r\nX-Drip: ");
    while (ws_write(peer, "a", 1))
        ws_pause(5);
}

static void a_dripping_header_ends_at_the_deadline(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = drip_header});
    assert_open_fails(fake->url, &plain_options, 400, AXON_ETIMEOUT, "upgrade");
    ws_fake_stop(fake);
}

static void upgrade_in_small_pieces(ws_peer *peer)
{
    ws_read_request(peer);
    char proof[40], head[300];
    ws_proof(peer, proof);
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 101 Yes\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          proof);
    for (int at = 0; at < length; at++) {
        ws_write(peer, head + at, 1);
        if (at % 16 == 0) ws_pause(1);
    }
    ws_echo(peer);
}

static void a_header_in_small_pieces_is_read(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = upgrade_in_small_pieces});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "whole");
    assert_receives(ws, "whole");
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- bytes that come with the upgrade ---------------------------------------------------------------------------- */

static void messages_may_come_with_the_upgrade(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = ws_echo, .early = "\x82\x03one\x89\x01p\x82\x03two", .early_length = 13});
    axi_ws *ws = connect_to(fake);
    assert_receives(ws, "one");
    assert_receives(ws, "two");
    send_text(ws, "three");
    assert_receives(ws, "three");
    close_now(ws);
    ws_fake_stop(fake);
}

static void send_the_rest(ws_peer *peer)
{
    ws_pause(100);
    ws_write(peer, peer->fake->early, 0);
    uint8_t *noise = make_noise(200000);
    ws_write(peer, noise + 60000, 140000);
    free(noise);
    ws_wait_for_end(peer);
}

/* The first 60,000 bytes of a message of 200,000 come with the upgrade. */
static void a_message_may_begin_with_the_upgrade(void **state)
{
    (void)state;
    uint8_t *early = malloc(60010), *noise = make_noise(200000);
    const uint8_t header[10] = {0x82, 127, 0, 0, 0, 0, 0, 3, 0x0d, 0x40};
    memcpy(early, header, 10);
    memcpy(early + 10, noise, 60000);
    ws_fake *fake =
        ws_fake_begin((ws_fake){.script = send_the_rest, .early = early, .early_length = 60010});
    axi_ws *ws = connect_to(fake);
    axi_ws_message message;
    assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
    assert_same_bytes((blob){message.data, message.length}, (blob){noise, 200000}, "message");
    free(message.data);
    close_now(ws);
    ws_fake_stop(fake);
    free(early);
    free(noise);
}

static void what_comes_with_the_upgrade_is_read_as_strictly(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin(
        (ws_fake){.script = ws_wait_for_end, .early = "\x82\x81\0\0\0\0x", .early_length = 7});
    axi_ws *ws = connect_to(fake);
    assert_receive_fails(ws, AXON_EPROTOCOL, "masked");
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- control frames ---------------------------------------------------------------------------------------------- */

/* A reply in fragments with a ping in between; its pong must carry what the ping did. */
static void reply_in_fragments(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_send_frame(peer, 0x02, "one ", 4);
    ws_send_frame(peer, 0x89, "are you there?", 14);
    ws_send_frame(peer, 0x00, "", 0);
    ws_send_frame(peer, 0x8a, "unasked", 7);
    ws_send_frame(peer, 0x00, "two ", 4);
    ws_frame pong;
    bool came = ws_expect(peer, 10, &pong);
    ws_note(peer, 0, came && pong.length == 14 && memcmp(pong.payload, "are you there?", 14) == 0);
    if (came) free(pong.payload);
    ws_send_frame(peer, 0x80, "three", 5);
    ws_echo(peer);
}

static void pings_between_fragments_are_answered(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = reply_in_fragments});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        send_text(ws, "go");
        assert_receives(ws, "one two three");
        assert_int_equal(ws_noted(fake, 0), 1);
        close_now(ws);
        ws_fake_stop(fake);
    }
}

static void ping_three_times(ws_peer *peer)
{
    ws_frame pong;
    for (long i = 1; i <= 3; i++) {
        ws_send_frame(peer, 0x89, &i, sizeof i);
        if (!ws_expect(peer, 10, &pong)) return;
        bool is_same = pong.length == sizeof i && memcmp(pong.payload, &i, sizeof i) == 0;
        free(pong.payload);
        if (is_same) ws_note(peer, 0, i);
    }
}

static void ping_and_wait(ws_peer *peer)
{
    ping_three_times(peer);
    ws_echo(peer);
}

static void pings_are_answered_while_nobody_calls(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ping_and_wait});
    axi_ws *ws = connect_to(fake);
    assert_true(wait_until(fake, 0, 3));
    send_text(ws, "still here");
    assert_receives(ws, "still here");
    close_now(ws);
    ws_fake_stop(fake);
}

static void ping_who_is_held_up(ws_peer *peer)
{
    wait_until(peer->fake, 1, 1);
    ping_three_times(peer);
    ws_send_frame(peer, 0x82, "three", 5);
    ws_wait_for_end(peer);
}

static bool answered_meanwhile;

/* As an interpreter whose lock another thread holds. */
static int32_t hold_up(void *user)
{
    ws_fake *fake = user;
    pthread_mutex_lock(&fake->lock);
    fake->notes[1] = 1;
    pthread_mutex_unlock(&fake->lock);
    answered_meanwhile = wait_until(fake, 0, 3);
    return 0;
}

static void pings_are_answered_while_the_interrupt_function_takes_its_time(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ping_who_is_held_up});
    axi_ws *ws = connect_to(fake);
    axon_set_interrupt(hold_up, fake);
    assert_receives(ws, "three");
    axon_set_interrupt(NULL, NULL);
    assert_true(answered_meanwhile);
    close_now(ws);
    ws_fake_stop(fake);
}

static void *drain(void *argument)
{
    ws_wait_for_end(argument);
    return NULL;
}

/* Sends 14,000 bytes of pings and pongs. */
static bool send_many_pings(ws_peer *peer)
{
    static const uint8_t some[14] = {0x89, 3, 'a', 'b', 'c', 0x89, 0, 0x89, 1, 'x', 0x8a, 2, 'y', 'z'};
    uint8_t many[1000 * sizeof some];
    for (size_t at = 0; at < sizeof many; at += sizeof some)
        memcpy(many + at, some, sizeof some);
    return ws_write(peer, many, sizeof many);
}

/* Pings as fast as they are taken, for ever; what comes back is read and forgotten. */
static void flood_pings(ws_peer *peer)
{
    pthread_t drainer;
    pthread_create(&drainer, NULL, drain, peer);
    while (send_many_pings(peer))
        ;
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(drainer, NULL);
}

static void deadlines_hold_in_a_flood_of_pings(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = flood_pings});
    axi_ws *ws = connect_to(fake);
    axi_ws_message message;
    assert_fails(axi_ws_receive(ws, &message, axi_deadline(300), &err), AXON_ETIMEOUT, &err, fake->url);
    axi_ws_close(ws, axi_deadline(300));
    ws_fake_stop(fake);
}

/* Pings and never reads: the pongs pile up until the socket takes no more. */
static void flood_pings_unread(ws_peer *peer)
{
    for (int i = 0; i < 200 && send_many_pings(peer); i++)
        ;
    ws_send_frame(peer, 0x82, "enough", 6);
    ws_wait_for_end(peer);
}

static void pongs_that_nobody_reads_do_no_harm(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = flood_pings_unread, .buffer_bytes = 4096});
    axi_ws *ws = connect_to(fake);
    assert_receives(ws, "enough");
    close_now(ws);
    ws_fake_stop(fake);
}

/* Pings while a long message is on its way here, slowly: no pong may stand inside of it. */
static void ping_a_sender(ws_peer *peer)
{
    ws_frame frame;
    for (int i = 0; i < 50; i++) {
        ws_send_frame(peer, 0x89, "now", 3);
        ws_pause(2);
    }
    for (bool got_message = false; !got_message && ws_read_frame(peer, &frame); free(frame.payload))
        if ((got_message = (frame.first & 15) == 2)) {
            uint8_t *noise = make_noise(3000000);
            ws_note(peer, 0, frame.length == 3000000 && memcmp(frame.payload, noise, 3000000) == 0);
            free(noise);
        }
    ws_send_frame(peer, 0x82, "done", 4);
    ws_echo(peer);
}

static void no_pong_stands_inside_of_a_message(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = ping_a_sender, .buffer_bytes = 8192});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        uint8_t *noise = make_noise(3000000);
        assert_ok(send_bytes(ws, noise, 3000000, PATIENT), &err);
        free(noise);
        assert_receives(ws, "done");
        assert_int_equal(ws_noted(fake, 0), 1);
        close_now(ws);
        ws_fake_stop(fake);
    }
}

/* ---- frames that no server may send --------------------------------------------------------------------------------- */

static blob bad_frame;

static void send_bad_frame(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_write(peer, bad_frame.data, bad_frame.length);
    ws_frame close_frame = {0};
    if (ws_read_frame(peer, &close_frame) && close_frame.first == 0x88 && close_frame.length >= 2)
        ws_note(peer, 0, close_frame.payload[0] << 8 | close_frame.payload[1]);
    free(close_frame.payload);
}

static void assert_frame_refused(const char *hex, axon_status status, int close_code, const char *words)
{
    bad_frame = from_hex(hex);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = send_bad_frame});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "go");
    assert_receive_fails(ws, status, words);
    assert_receive_fails(ws, AXON_ECONNECT, words); /* and it stays that way */
    assert_true(wait_until(fake, 0, 1));
    assert_int_equal(ws_noted(fake, 0), close_code);
    close_now(ws);
    ws_fake_stop(fake);
    free(bad_frame.data);
}

static void broken_rules_end_the_connection_with_their_code(void **state)
{
    (void)state;
    assert_frame_refused("82 85 01020304 0000000000", AXON_EPROTOCOL, 1002, "masked");
    assert_frame_refused("c2 01 61", AXON_EPROTOCOL, 1002, "reserved bit");
    assert_frame_refused("83 00", AXON_EPROTOCOL, 1002, "unknown kind");
    assert_frame_refused("80 01 61", AXON_EPROTOCOL, 1002, "continuation");
    assert_frame_refused("82 7f ffffffffffffffff", AXON_EPROTOCOL, 1002, "highest bit");
    assert_frame_refused("81 02 c328", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_frame_refused("88 02 03ed", AXON_EPROTOCOL, 1002, "1005");
    assert_frame_refused("82 7f 0000000001000001", AXON_ETOOBIG, 1009, "limit 16777216");
}

/* ---- closing from the other side -------------------------------------------------------------------------------------- */

static void close_with_reason(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_send_frame(peer, 0x82, "last words", 10);
    ws_send_close(peer, 1011, "inference failed\x1b[31m");
    ws_frame reply;
    if (ws_expect(peer, 8, &reply)) {
        ws_note(peer, 0, reply.payload[0] << 8 | reply.payload[1]);
        free(reply.payload);
    }
}

static void a_close_is_returned_and_told(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = close_with_reason});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        send_text(ws, "go");
        assert_receives(ws, "last words");
        assert_receive_fails(ws, AXON_ECONNECT, "1011 (internal error): inference failed?[31m");
        assert_true(wait_until(fake, 0, 1));
        assert_int_equal(ws_noted(fake, 0), 1011);
        assert_fails(send_bytes(ws, "x", 1, PATIENT), AXON_ECONNECT, &err, "1011");
        close_now(ws);
        ws_fake_stop(fake);
    }
}

static void close_without_code(ws_peer *peer)
{
    ws_send_frame(peer, 0x88, "", 0);
    ws_wait_for_end(peer);
}

static void a_close_without_a_code_is_told(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = close_without_code});
    axi_ws *ws = connect_to(fake);
    assert_receive_fails(ws, AXON_ECONNECT, "1005 (no code given)");
    close_now(ws);
    ws_fake_stop(fake);
}

static void hang_up_in_mid_message(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_write(peer, "\x82\x7e\x10\x00only a part", 15);
}

static void reset_in_mid_message(ws_peer *peer)
{
    hang_up_in_mid_message(peer);
    ws_pause(50);
    ws_reset(peer);
}

static void hang_up_at_once(ws_peer *peer)
{
    ws_skip_message(peer);
}

static void assert_death_is_told(ws_script script, const char *words)
{
    ws_fake *fake = ws_fake_begin((ws_fake){.script = script});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "go");
    assert_receive_fails(ws, AXON_ECONNECT, words);
    close_now(ws);
    ws_fake_stop(fake);
}

static void a_server_that_dies_is_told_from_one_that_closes(void **state)
{
    (void)state;
    assert_death_is_told(hang_up_at_once, "hung up without a goodbye");
    assert_death_is_told(hang_up_in_mid_message, "in the middle of a message");
    assert_death_is_told(reset_in_mid_message, "in the middle of a message");
}

/* ---- sending to one who does not take it --------------------------------------------------------------------------------- */

static void reset_in_mid_request(ws_peer *peer)
{
    char bytes[100000];
    ws_read(peer, bytes, sizeof bytes);
    ws_reset(peer);
}

static void close_in_mid_request(ws_peer *peer)
{
    char bytes[100000];
    ws_read(peer, bytes, sizeof bytes);
    ws_send_close(peer, 1009, "too long for me");
    ws_stall(peer);
}

static void assert_send_fails(ws_script script, uint32_t timeout_ms, axon_status status, const char *words)
{
    enum { LENGTH = 30000000 };
    uint8_t *noise = make_noise(LENGTH);
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = script, .buffer_bytes = 65536});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        assert_fails(send_bytes(ws, noise, LENGTH, axi_deadline(timeout_ms)), status, &err, words);
        assert_fails(send_bytes(ws, noise, 1, PATIENT), AXON_ECONNECT, &err, fake->url);
        axi_ws_message message;
        assert_fails(axi_ws_receive(ws, &message, PATIENT, &err), AXON_ECONNECT, &err, fake->url);
        close_now(ws);
        ws_fake_stop(fake);
    }
    free(noise);
}

static void a_reset_in_mid_message_ends_the_send(void **state)
{
    (void)state;
    assert_send_fails(reset_in_mid_request, 20000, AXON_ECONNECT, "");
}

static void a_close_in_mid_message_says_why(void **state)
{
    (void)state;
    assert_send_fails(close_in_mid_request, 20000, AXON_ECONNECT,
                      "1009 (message too big): too long for me");
}

static void a_server_that_takes_nothing_is_left_at_the_deadline(void **state)
{
    (void)state;
    assert_send_fails(ws_stall, 300, AXON_ETIMEOUT, "");
}

/* Writes a long message before it reads anything. */
static void talk_first(ws_peer *peer)
{
    uint8_t *noise = make_noise(8000000);
    ws_send_frame(peer, 0x82, noise, 8000000);
    ws_send_frame(peer, 0x89, "?", 1);
    free(noise);
    ws_echo(peer);
}

static void assert_both_may_talk(const char *url, const axi_ws_options *options)
{
    uint8_t *noise = make_noise(8000000);
    axi_ws *ws = open_or_fail(url, options);
    assert_ok(send_bytes(ws, noise, 8000000, PATIENT), &err);
    for (int i = 0; i < 2; i++) {
        axi_ws_message message;
        assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
        assert_same_bytes((blob){message.data, message.length}, (blob){noise, 8000000}, "message");
        free(message.data);
    }
    close_now(ws);
    free(noise);
}

static void two_that_both_talk_do_not_wait_for_each_other(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = talk_first, .buffer_bytes = 300000});
        axi_ws_force_plain(plain);
        assert_both_may_talk(fake->url, &plain_options);
        axi_ws_force_plain(false);
        ws_fake_stop(fake);
    }
}

/* ---- messages that nobody waits for ------------------------------------------------------------------------------------------ */

static void send_five(ws_peer *peer)
{
    for (int i = 0; i < 5; i++)
        ws_send_frame(peer, 0x82, &"12345"[i], 1);
    ws_note(peer, 0, 1);
    ws_echo(peer);
}

static void messages_wait_in_order(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = send_five});
    axi_ws *ws = connect_to(fake);
    assert_true(wait_until(fake, 0, 1));
    ws_pause(400); /* the ticker has taken them in, or not: it makes no difference */
    bool waiting;
    assert_ok(axi_ws_look(ws, &waiting, &err), &err);
    assert_true(waiting);
    for (int i = 0; i < 5; i++)
        assert_receives(ws, (char[]){"12345"[i], 0});
    assert_ok(axi_ws_look(ws, &waiting, &err), &err);
    assert_false(waiting);
    close_now(ws);
    ws_fake_stop(fake);
}

static void flood_messages(ws_peer *peer)
{
    char text[24] = {0};
    for (long i = 0;; i++) {
        snprintf(text, sizeof text, "%ld", i);
        if (!ws_send_frame(peer, 0x82, text, strlen(text))) return;
        if (i % 1000 == 0) ws_note(peer, 0, i);
    }
}

/* Messages for ever, unasked: they wait in the server, not in our memory, and none is lost. */
static void a_flood_of_messages_is_held_back(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = flood_messages, .buffer_bytes = 4096});
    axi_ws *ws = connect_to(fake);
    ws_pause(800);
    long sent = ws_noted(fake, 0);
    ws_pause(400);
    assert_true(ws_noted(fake, 0) - sent < 100000);
    for (int i = 0; i < 500; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_receives(ws, text);
    }
    axi_ws_close(ws, axi_deadline(200));
    ws_fake_stop(fake);
}

static void send_half(ws_peer *peer)
{
    ws_write(peer, "\x82", 1);
    ws_note(peer, 0, 1);
    ws_wait_for_end(peer);
}

static void half_a_header_counts_as_a_message_that_waits(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = send_half});
    axi_ws *ws = connect_to(fake);
    assert_true(wait_until(fake, 0, 1));
    bool waiting = false;
    for (int i = 0; i < 200 && !waiting; i++) {
        assert_ok(axi_ws_look(ws, &waiting, &err), &err);
        ws_pause(5);
    }
    assert_true(waiting);
    axi_ws_close(ws, axi_deadline(100));
    ws_fake_stop(fake);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------------------ */

static void answer_late(ws_peer *peer)
{
    ws_skip_message(peer);
    ws_pause(500);
    ws_send_frame(peer, 0x82, "late", 4);
    ws_echo(peer);
}

static void a_receive_that_timed_out_leaves_the_connection(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = answer_late});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "go");
    axi_ws_message message;
    assert_fails(axi_ws_receive(ws, &message, axi_deadline(50), &err), AXON_ETIMEOUT, &err, fake->url);
    assert_receives(ws, "late");
    send_text(ws, "again");
    assert_receives(ws, "again");
    close_now(ws);
    ws_fake_stop(fake);
}

static void drip_message(ws_peer *peer)
{
    ws_write(peer, "\x82\x7e\x10\x00", 4);
    while (ws_write(peer, "a", 1))
        ws_pause(2);
}

static void a_dripping_message_ends_at_the_deadline(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = drip_message});
    axi_ws *ws = connect_to(fake);
    axi_ws_message message;
    assert_fails(axi_ws_receive(ws, &message, axi_deadline(300), &err), AXON_ETIMEOUT, &err, fake->url);
    axi_ws_close(ws, axi_deadline(100));
    ws_fake_stop(fake);
}

/* Drops whatever arrives, as a machine that lost its power does. */
static void play_dead(ws_peer *peer)
{
    ws_skip_message(peer);
    struct sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 1, .filter = drop_all};
    ws_note(peer, 0, setsockopt(peer->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    while (!ws_noted(peer->fake, 1))
        ws_pause(20);
}

static void a_machine_that_went_away_is_found_before_the_deadline(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = play_dead});
    axi_ws *ws = connect_to(fake);
    send_text(ws, "go");
    assert_true(wait_until(fake, 0, 1));
    axi_ws_set_patience(500);
    send_text(ws, "is anybody there?");
    assert_receive_fails(ws, AXON_ECONNECT, "acknowledged nothing for 500 ms");
    axi_ws_set_patience(20000);
    close_now(ws);
    pthread_mutex_lock(&fake->lock);
    fake->notes[1] = 1;
    pthread_mutex_unlock(&fake->lock);
    ws_fake_stop(fake);
}

/* The window is closed for longer than that, but the machine acknowledges. */
static void stall_and_read(ws_peer *peer)
{
    ws_pause(1500);
    ws_echo(peer);
}

static void a_server_that_is_busy_is_not_taken_for_dead(void **state)
{
    (void)state;
    uint8_t *noise = make_noise(5000000);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = stall_and_read, .buffer_bytes = 8192});
    axi_ws *ws = connect_to(fake);
    axi_ws_set_patience(600);
    axon_status status = send_bytes(ws, noise, 5000000, PATIENT);
    axi_ws_set_patience(20000);
    assert_ok(status, &err);
    close_now(ws);
    ws_fake_stop(fake);
    free(noise);
}

/* ---- cancel and interrupt ----------------------------------------------------------------------------------------------------------- */

static void *cancel_soon(void *ws)
{
    ws_pause(100);
    axi_ws_cancel(ws);
    return NULL;
}

static void a_receive_can_be_cancelled(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws *ws = connect_to(fake);
    pthread_t thread;
    axi_ws_begin(ws);
    pthread_create(&thread, NULL, cancel_soon, ws);
    assert_receive_fails(ws, AXON_ECANCELED, "cancelled");
    pthread_join(thread, NULL);
    assert_receive_fails(ws, AXON_ECANCELED, "cancelled"); /* until the next beginning */
    axi_ws_begin(ws);
    send_text(ws, "on we go");
    assert_receives(ws, "on we go");
    close_now(ws);
    ws_fake_stop(fake);
}

static void a_send_can_be_cancelled(void **state)
{
    (void)state;
    uint8_t *noise = make_noise(30000000);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_stall, .buffer_bytes = 8192});
    axi_ws *ws = connect_to(fake);
    pthread_t thread;
    axi_ws_begin(ws);
    pthread_create(&thread, NULL, cancel_soon, ws);
    assert_fails(send_bytes(ws, noise, 30000000, PATIENT), AXON_ECANCELED, &err, "cancelled");
    pthread_join(thread, NULL);
    axi_ws_begin(ws);
    assert_fails(send_bytes(ws, noise, 1, PATIENT), AXON_ECONNECT, &err, "half sent");
    close_now(ws);
    ws_fake_stop(fake);
    free(noise);
}

static atomic_int times_asked;
static int interrupt_at;

static int32_t interrupt(void *user)
{
    (void)user;
    return atomic_fetch_add(&times_asked, 1) + 1 >= interrupt_at;
}

static void allow_interrupts_at(int times)
{
    atomic_store(&times_asked, 0);
    interrupt_at = times;
    axon_set_interrupt(times ? interrupt : NULL, NULL);
}

static void the_interrupt_function_ends_a_wait(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_wait_for_end});
    axi_ws *ws = connect_to(fake);
    allow_interrupts_at(2);
    assert_receive_fails(ws, AXON_ECANCELED, "interrupted");
    assert_int_equal(atomic_load(&times_asked), 2);
    allow_interrupts_at(0);
    close_now(ws);
    ws_fake_stop(fake);
}

static void it_is_asked_though_bytes_keep_coming(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = drip_message});
    axi_ws *ws = connect_to(fake);
    allow_interrupts_at(2);
    assert_receive_fails(ws, AXON_ECANCELED, "interrupted");
    allow_interrupts_at(0);
    axi_ws_close(ws, axi_deadline(100));
    ws_fake_stop(fake);
}

static void it_ends_an_opening_in_every_phase(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = ws_wait_for_end});
    allow_interrupts_at(2);
    assert_open_fails(fake->url, &plain_options, 20000, AXON_ECANCELED, "cancelled");
    ws_fake_stop(fake);
    fake = ws_fake_begin((ws_fake){.at_once = drip_header});
    allow_interrupts_at(2);
    assert_open_fails(fake->url, &plain_options, 20000, AXON_ECANCELED, "cancelled");
    ws_fake_stop(fake);

    char url[64];
    axi_ws_options options = {.retry_min_ms = 5000, .retry_max_ms = 5000, .max_message_bytes = LIMIT};
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", find_free_port());
    allow_interrupts_at(2);
    assert_open_fails(url, &options, 20000, AXON_ECANCELED, "cancelled");
    allow_interrupts_at(0);
}

static void note_signal(int number)
{
    (void)number;
}

static void *signal_soon(void *thread)
{
    ws_pause(50);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

/* Ctrl-C need not wait for the next quarter of a second. */
static void a_signal_has_the_interrupt_function_asked(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_wait_for_end});
    axi_ws *ws = connect_to(fake);
    struct sigaction noted = {.sa_handler = note_signal}, before;
    sigaction(SIGUSR1, &noted, &before);
    pthread_t self = pthread_self(), thread;
    allow_interrupts_at(1);
    axi_time started = axi_now();
    pthread_create(&thread, NULL, signal_soon, &self);
    assert_receive_fails(ws, AXON_ECANCELED, "interrupted");
    assert_true(axi_now() - started < (axi_time)10000 * 1000000);
    allow_interrupts_at(0);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    close_now(ws);
    ws_fake_stop(fake);
}

/* ---- giving up and closing --------------------------------------------------------------------------------------------------------------- */

static void note_close(ws_peer *peer)
{
    ws_frame frame;
    if (!ws_expect(peer, 8, &frame)) return;
    ws_note(peer, 0, frame.payload[0] << 8 | frame.payload[1]);
    free(frame.payload);
}

static void an_abandoned_connection_stays_so(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = note_close});
    axi_ws *ws = connect_to(fake);
    axi_ws_abandon(ws, "the reply was late");
    assert_receive_fails(ws, AXON_ECONNECT, "given up: the reply was late");
    assert_fails(send_bytes(ws, "x", 1, PATIENT), AXON_ECONNECT, &err, "the reply was late");
    bool waiting;
    assert_fails(axi_ws_look(ws, &waiting, &err), AXON_ECONNECT, &err, "the reply was late");
    assert_true(wait_until(fake, 0, 1));
    assert_int_equal(ws_noted(fake, 0), 1001);
    axi_ws_abandon(ws, "again");
    close_now(ws);
    ws_fake_stop(fake);
}

static void closing_says_goodbye(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = note_close});
        axi_ws_force_plain(plain);
        axi_ws *ws = connect_to(fake);
        axi_ws_force_plain(false);
        close_now(ws);
        assert_true(wait_until(fake, 0, 1));
        assert_int_equal(ws_noted(fake, 0), 1000);
        ws_fake_stop(fake);
    }
    axi_ws_close(NULL, AXI_NEVER);
}

/* Takes the goodbye and does not return it; the deadline ends the waiting. */
static void closing_does_not_wait_for_ever(void **state)
{
    (void)state;
    static const ws_script rude[] = {ws_wait_for_end, ws_stall, flood_pings, flood_messages, drip_message};
    for (size_t i = 0; i < sizeof rude / sizeof *rude; i++) {
        ws_fake *fake = ws_fake_begin((ws_fake){.script = rude[i]});
        axi_ws *ws = connect_to(fake);
        axi_ws_close(ws, axi_deadline(100));
        ws_fake_stop(fake);
    }
}

/* ---- a good guest in the process ------------------------------------------------------------------------------------------------------------ */

static void sigpipe_stays_as_the_application_had_it(void **state)
{
    (void)state;
    struct sigaction noted = {.sa_handler = note_signal}, before, after;
    sigaction(SIGPIPE, &noted, &before);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws *ws = connect_to(fake);
    sigaction(SIGPIPE, &before, &after);
    assert_ptr_equal((void *)(uintptr_t)after.sa_handler, (void *)(uintptr_t)note_signal);
    close_now(ws);
    ws_fake_stop(fake);
}

/* Failures of every kind, with standard output and error going into a file. */
static void nothing_is_printed(void **state)
{
    (void)state;
    char path[] = "/tmp/axon-test-XXXXXX";
    int file = mkstemp(path), out = dup(1), error = dup(2);
    fflush(NULL);
    dup2(file, 1);
    dup2(file, 2);
    axi_ws *ws;
    answer = "HTTP/1.1 401 No\r\n\r\n";
    ws_fake *fake = ws_fake_begin((ws_fake){.at_once = give_answer});
    axi_ws_open(&ws, fake->url, &plain_options, PATIENT, NULL);
    ws_fake_stop(fake);
    answer = "HTTP/1.1 101 Yes\r\n\r\n";
    fake = ws_fake_begin((ws_fake){.at_once = give_answer});
    axi_ws_open(&ws, fake->url, &plain_options, PATIENT, NULL);
    ws_fake_stop(fake);
    axi_ws_open(&ws, "ws://127.0.0.1:1", &plain_options, PATIENT, NULL);
    fflush(NULL);
    dup2(out, 1);
    dup2(error, 2);
    assert_int_equal(lseek(file, 0, SEEK_END), 0);
    close(file);
    close(out);
    close(error);
    unlink(path);
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void descriptors_are_given_back(void **state)
{
    (void)state;
    int before = count_descriptors();
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    for (int i = 0; i < 10; i++)
        close_now(connect_to(fake));
    ws_fake_stop(fake);
    assert_int_equal(count_descriptors(), before);
}

/* In the child every call is refused, closing is quiet, and the parent's connection does not notice. */
static void a_forked_child_may_only_close(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = ws_echo});
    axi_ws *ws = connect_to(fake);
    pid_t child = fork();
    if (child == 0) {
        axi_ws_message message;
        bool waiting;
        bool refused = send_bytes(ws, "x", 1, PATIENT) == AXON_EINVAL && strstr(err.message, "parent") &&
                       axi_ws_receive(ws, &message, PATIENT, &err) == AXON_EINVAL &&
                       axi_ws_look(ws, &waiting, &err) == AXON_EINVAL;
        axi_ws_cancel(ws);
        axi_ws_abandon(ws, "in the child");
        axi_ws_close(ws, axi_deadline(1000));
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    send_text(ws, "still mine");
    assert_receives(ws, "still mine");
    close_now(ws);
    ws_fake_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_every_size_come_back),
        cmocka_unit_test(so_they_do_through_libwebsockets_own_framing),
        cmocka_unit_test(so_they_do_when_the_socket_takes_little),
        cmocka_unit_test(text_goes_and_comes_as_text),
        cmocka_unit_test(this_libwebsockets_passes_bytes_on),
        cmocka_unit_test(the_upgrade_asks_for_what_it_should),
        cmocka_unit_test(ipv6_works_and_is_bracketed),
        cmocka_unit_test(names_are_tried_at_all_their_addresses),
        cmocka_unit_test(a_refused_connection_says_so),
        cmocka_unit_test(a_refused_connection_is_tried_until_the_deadline),
        cmocka_unit_test(a_server_that_starts_late_is_found),
        cmocka_unit_test(an_unknown_host_says_so),
        cmocka_unit_test(a_silent_server_is_told_from_an_absent_one),
        cmocka_unit_test(a_server_that_hangs_up_before_the_upgrade_is_tried_again),
        cmocka_unit_test(http_errors_are_told_with_their_status),
        cmocka_unit_test(what_is_no_websocket_server_is_told),
        cmocka_unit_test(an_upgrade_to_what_was_not_asked_for_is_refused),
        cmocka_unit_test(harmless_headers_are_overlooked),
        cmocka_unit_test(an_endless_header_ends),
        cmocka_unit_test(a_dripping_header_ends_at_the_deadline),
        cmocka_unit_test(a_header_in_small_pieces_is_read),
        cmocka_unit_test(messages_may_come_with_the_upgrade),
        cmocka_unit_test(a_message_may_begin_with_the_upgrade),
        cmocka_unit_test(what_comes_with_the_upgrade_is_read_as_strictly),
        cmocka_unit_test(pings_between_fragments_are_answered),
        cmocka_unit_test(pings_are_answered_while_nobody_calls),
        cmocka_unit_test(pings_are_answered_while_the_interrupt_function_takes_its_time),
        cmocka_unit_test(deadlines_hold_in_a_flood_of_pings),
        cmocka_unit_test(pongs_that_nobody_reads_do_no_harm),
        cmocka_unit_test(no_pong_stands_inside_of_a_message),
        cmocka_unit_test(broken_rules_end_the_connection_with_their_code),
        cmocka_unit_test(a_close_is_returned_and_told),
        cmocka_unit_test(a_close_without_a_code_is_told),
        cmocka_unit_test(a_server_that_dies_is_told_from_one_that_closes),
        cmocka_unit_test(a_reset_in_mid_message_ends_the_send),
        cmocka_unit_test(a_close_in_mid_message_says_why),
        cmocka_unit_test(a_server_that_takes_nothing_is_left_at_the_deadline),
        cmocka_unit_test(two_that_both_talk_do_not_wait_for_each_other),
        cmocka_unit_test(messages_wait_in_order),
        cmocka_unit_test(a_flood_of_messages_is_held_back),
        cmocka_unit_test(half_a_header_counts_as_a_message_that_waits),
        cmocka_unit_test(a_receive_that_timed_out_leaves_the_connection),
        cmocka_unit_test(a_dripping_message_ends_at_the_deadline),
        cmocka_unit_test(a_machine_that_went_away_is_found_before_the_deadline),
        cmocka_unit_test(a_server_that_is_busy_is_not_taken_for_dead),
        cmocka_unit_test(a_receive_can_be_cancelled),
        cmocka_unit_test(a_send_can_be_cancelled),
        cmocka_unit_test(the_interrupt_function_ends_a_wait),
        cmocka_unit_test(it_is_asked_though_bytes_keep_coming),
        cmocka_unit_test(it_ends_an_opening_in_every_phase),
        cmocka_unit_test(a_signal_has_the_interrupt_function_asked),
        cmocka_unit_test(an_abandoned_connection_stays_so),
        cmocka_unit_test(closing_says_goodbye),
        cmocka_unit_test(closing_does_not_wait_for_ever),
        cmocka_unit_test(sigpipe_stays_as_the_application_had_it),
        cmocka_unit_test(nothing_is_printed),
        cmocka_unit_test(descriptors_are_given_back),
        cmocka_unit_test(a_forked_child_may_only_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One request over libcurl, against a server that misbehaves on purpose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base64.h"
#include "http.h"
#include "http_body.h"

#include "fakes/http_fake.c"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { GENEROUS_MS = 20000, SHORT_MS = 300, LIMIT = 1000000 };

static axon_error err;
static http_fake *fake;
static axi_http *http;

static axi_http_options with_timeout(uint32_t timeout_ms)
{
    return (axi_http_options){
        .timeout_ms = timeout_ms, .connect_timeout_ms = GENEROUS_MS, .max_reply_bytes = LIMIT};
}

static void open_url(const char *url, const axi_http_options *options)
{
    memset(&err, 0, sizeof err);
    assert_int_equal(axi_http_open(&http, url, options, &err), AXON_OK);
}

/* A fake that answers so, and a client of it. */
static void connect_to(fake_answer answer, uint32_t timeout_ms)
{
    axi_http_options options = with_timeout(timeout_ms);
    fake = fake_begin_plain(answer);
    open_url(fake->url, &options);
}

static int tidy(void **state)
{
    (void)state;
    axi_http_close(http);
    http = NULL;
    if (fake) fake_stop(fake);
    fake = NULL;
    return 0;
}

static axon_status send_body(const axi_body *body, uint32_t timeout_ms, axi_http_reply *reply)
{
    axon_status status = axi_http_begin(http, &err);
    if (status) return status;
    status = axi_http_request(http, "/path", body, axi_deadline(timeout_ms), reply, &err);
    axi_http_end(http);
    return status;
}

static axon_status get(axi_http_reply *reply)
{
    return send_body(NULL, GENEROUS_MS, reply);
}

/* What comes back is not wanted. */
static axon_status get_status(uint32_t timeout_ms)
{
    axi_http_reply reply = {0};
    axon_status status = send_body(NULL, timeout_ms, &reply);
    if (status == AXON_OK) free(reply.data);
    return status;
}

static void assert_message(const char *part)
{
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void assert_reply(const char *body)
{
    axi_http_reply reply = {0};
    assert_int_equal(get(&reply), AXON_OK);
    assert_int_equal(reply.length, strlen(body));
    if (reply.data) assert_string_equal((char *)reply.data, body);
    free(reply.data);
}

/* ---- bodies --------------------------------------------------------------------------------- */

static bool answer_ok(fake_peer *peer)
{
    return fake_json(peer, 200, "{\"ok\": true}");
}

static void add_part(axi_body *body, axi_body_part *parts, const void *data, size_t length, bool base64)
{
    body->parts = parts;
    parts[body->count++] = (axi_body_part){.data = data, .length = length, .base64 = base64};
    body->length += base64 ? axi_base64_length(length) : length;
}

static uint8_t *some_bytes(size_t length)
{
    uint8_t *data = malloc(length + 1);
    uint32_t random = 12345;
    for (size_t i = 0; i < length; i++) {
        random = random * 1664525u + 1013904223u;
        data[i] = (uint8_t)(random >> 24);
    }
    return data;
}

/* {"image":"<length bytes as base64>","conf":0.5} */
static void image_body(axi_body *body, axi_body_part parts[3], const uint8_t *data, size_t length)
{
    *body = (axi_body){0};
    add_part(body, parts, "{\"image\":\"", 10, false);
    add_part(body, parts, data, length, true);
    add_part(body, parts, "\",\"conf\":0.5}", 13, false);
}

static void assert_arrived(const axi_body *body)
{
    fake_head(fake);
    assert_int_equal(fake->body_length, body->length);
    const char *at = fake->body;
    for (size_t i = 0; i < body->count; i++) {
        const axi_body_part *part = &body->parts[i];
        size_t length = part->base64 ? axi_base64_length(part->length) : part->length;
        char *text = malloc(length + 1);
        if (part->base64)
            axi_base64_encode(text, part->data, part->length);
        else
            memcpy(text, part->data, part->length);
        assert_memory_equal(at, text, length);
        free(text);
        at += length;
    }
}

static void a_body_arrives_as_it_was_described(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    static const size_t lengths[] = {0, 1, 2, 3, 4, 100, 65536, 196607, 196608, 196609, 1000001};
    uint8_t *data = some_bytes(1000001);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        axi_body body;
        axi_body_part parts[3];
        axi_http_reply reply = {0};
        image_body(&body, parts, data, lengths[i]);
        assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
        free(reply.data);
        assert_arrived(&body);
    }
    free(data);
    assert_int_equal(fake_accepted(fake), 1);
}

static void many_pictures_in_one_body_arrive_whole(void **state)
{
    (void)state;
    enum { COUNT = 200, LONGEST = 4001 };
    connect_to(answer_ok, GENEROUS_MS);
    uint8_t *data = some_bytes(LONGEST);
    axi_body body = {0};
    axi_body_part parts[2 * COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        add_part(&body, parts, ",", 1, false);
        add_part(&body, parts, data, LONGEST - i * 17, true);
    }
    axi_http_reply reply = {0};
    assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
    free(reply.data);
    assert_arrived(&body);
    free(data);
}

/* libcurl may ask for any number of bytes at a time. */
static void a_body_is_the_same_in_pieces_of_every_size(void **state)
{
    (void)state;
    uint8_t *data = some_bytes(50);
    for (size_t length = 0; length < 50; length++) {
        axi_body body;
        axi_body_part parts[3];
        char whole[128], pieces[128];
        image_body(&body, parts, data, length);
        axi_body_reader all = {.body = &body};
        assert_int_equal(axi_body_read(&all, whole, sizeof whole), body.length);
        for (size_t piece = 1; piece < 20; piece++) {
            axi_body_reader reader = {.body = &body};
            size_t read = 0, n;
            while ((n = axi_body_read(&reader, pieces + read, piece)) > 0) {
                assert_true(n <= piece);
                read += n;
            }
            assert_int_equal(read, body.length);
            assert_int_equal(reader.sent, body.length);
            assert_memory_equal(pieces, whole, read);
        }
    }
    free(data);
}

static void a_request_is_plain_http_1_1_with_an_exact_length(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    axi_body body = {0};
    axi_body_part parts[1];
    add_part(&body, parts, "{}", 2, false);
    axi_http_reply reply = {0};
    assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
    assert_int_equal(reply.status, 200);
    assert_true(reply.is_json);
    assert_string_equal(reply.content_type, "application/json");
    assert_string_equal((char *)reply.data, "{\"ok\": true}");
    free(reply.data);
    assert_ptr_equal(strstr(fake_head(fake), "POST /path HTTP/1.1\r\n"), fake_head(fake));
    assert_non_null(strstr(fake_head(fake), "\r\nContent-Length: 2\r\n"));
    assert_non_null(strstr(fake_head(fake), "\r\nContent-Type: application/json\r\n"));
    assert_null(strcasestr(fake_head(fake), "Expect:"));
    assert_null(strcasestr(fake_head(fake), "Accept-Encoding:"));
    assert_null(strcasestr(fake_head(fake), "Authorization:"));
    assert_non_null(strstr(fake_head(fake), "\r\nUser-Agent: axon/"));
}

static void a_get_has_neither_body_nor_content_type(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    axi_http_reply reply = {0};
    axi_body body = {0};
    axi_body_part parts[1];
    add_part(&body, parts, "{}", 2, false);
    assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
    free(reply.data);
    assert_reply("{\"ok\": true}");
    assert_ptr_equal(strstr(fake_head(fake), "GET /path HTTP/1.1\r\n"), fake_head(fake));
    assert_null(strcasestr(fake_head(fake), "Content-"));
}

static void a_bearer_token_is_sent(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.bearer_token = "s3cret.token";
    fake = fake_begin_plain(answer_ok);
    open_url(fake->url, &options);
    assert_reply("{\"ok\": true}");
    assert_non_null(strstr(fake_head(fake), "\r\nAuthorization: Bearer s3cret.token\r\n"));
}

static bool answer_chunked(fake_peer *peer)
{
    return fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n");
}

static void a_chunked_reply_is_put_together(void **state)
{
    (void)state;
    connect_to(answer_chunked, GENEROUS_MS);
    assert_reply("hello, world");
    assert_reply("hello, world");
    assert_int_equal(fake_accepted(fake), 1);
}

static bool answer_empty(fake_peer *peer)
{
    return fake_text(peer, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void an_empty_reply_has_no_data(void **state)
{
    (void)state;
    connect_to(answer_empty, GENEROUS_MS);
    axi_http_reply reply = {.data = (uint8_t *)"", .length = 1};
    assert_int_equal(get(&reply), AXON_OK);
    assert_int_equal(reply.status, 204);
    assert_null(reply.data);
    assert_int_equal(reply.length, 0);
}

/* ---- connections that are kept ----------------------------------------------------------------- */

static void one_connection_serves_many_calls(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    for (int i = 0; i < 20; i++)
        assert_reply("{\"ok\": true}");
    assert_int_equal(fake_accepted(fake), 1);
    assert_int_equal(fake_requests(fake), 20);
}

static bool answer_and_close(fake_peer *peer)
{
    fake_json(peer, 200, "{}");
    return false;
}

static void a_connection_closed_between_calls_is_replaced(void **state)
{
    (void)state;
    connect_to(answer_and_close, GENEROUS_MS);
    for (int i = 0; i < 5; i++)
        assert_reply("{}");
    assert_int_equal(fake_accepted(fake), 5);
}

/* The second request meets a server that has given the connection up. */
static bool answer_first_then_close_on_second(fake_peer *peer)
{
    if (peer->request == 2) return false;
    return fake_json(peer, 200, "{}");
}

static void a_post_is_sent_again_when_the_kept_connection_dies_unanswered(void **state)
{
    (void)state;
    connect_to(answer_first_then_close_on_second, GENEROUS_MS);
    uint8_t *data = some_bytes(300000);
    axi_body body;
    axi_body_part parts[3];
    image_body(&body, parts, data, 300000);
    for (int i = 0; i < 2; i++) {
        axi_http_reply reply = {0};
        assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
        free(reply.data);
        assert_arrived(&body);
    }
    free(data);
    assert_int_equal(fake_accepted(fake), 2);
    assert_int_equal(fake_requests(fake), 3);
}

/* As above, but the server goes while the body is still being sent: it never reads it. */
static bool reset_second_unread(fake_peer *peer)
{
    if (peer->request == 2) return fake_reset(peer);
    size_t left = fake_content_length(peer->head) - peer->body_length;
    char bin[65536];
    while (left > 0) {
        ssize_t n = fake_read(peer, bin, left < sizeof bin ? left : sizeof bin);
        if (n <= 0) return false;
        left -= (size_t)n;
    }
    return fake_json(peer, 200, "{}");
}

static void a_long_post_is_sent_again_when_the_kept_connection_dies_under_it(void **state)
{
    (void)state;
    enum { LONG = 20000000 };
    axi_http_options options = with_timeout(GENEROUS_MS);
    fake = fake_begin((http_fake){.answer = reset_second_unread, .head_only = true});
    open_url(fake->url, &options);
    uint8_t *data = some_bytes(LONG);
    axi_body body;
    axi_body_part parts[3];
    image_body(&body, parts, data, LONG);
    for (int i = 0; i < 2; i++) {
        axi_http_reply reply = {0};
        axon_status status = send_body(&body, GENEROUS_MS, &reply);
        if (status) fail_msg("%s", err.message);
        free(reply.data);
    }
    free(data);
    assert_int_equal(fake_requests(fake), 3);
}

static bool reset_before_a_word(fake_peer *peer)
{
    return fake_reset(peer);
}

static void a_fresh_connection_that_dies_unanswered_is_an_error(void **state)
{
    (void)state;
    connect_to(reset_before_a_word, GENEROUS_MS);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_message("Service unavailable at http://127.0.0.1:");
    assert_message("closed without an answer");
    assert_int_equal(fake_requests(fake), 1);
}

static bool refuse_unread(fake_peer *peer)
{
    fake_json(peer, 413, "{\"detail\": \"too large\"}");
    return fake_be_silent(peer);
}

static void a_refusal_is_heard_while_the_body_is_still_being_sent(void **state)
{
    (void)state;
    enum { LONG = 20000000 };
    axi_http_options options = with_timeout(GENEROUS_MS);
    fake = fake_begin((http_fake){.answer = refuse_unread, .head_only = true});
    open_url(fake->url, &options);
    uint8_t *data = some_bytes(LONG);
    axi_body body;
    axi_body_part parts[3];
    image_body(&body, parts, data, LONG);
    for (int i = 0; i < 2; i++) {
        axi_http_reply reply = {0};
        assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
        assert_int_equal(reply.status, 413);
        assert_string_equal((char *)reply.data, "{\"detail\": \"too large\"}");
        free(reply.data);
    }
    free(data);
    assert_int_equal(fake_accepted(fake), 2); /* half a request lies on the first connection */
}

static bool answer_twice(fake_peer *peer)
{
    char body[16];
    snprintf(body, sizeof body, "[%d]", peer->request);
    fake_json(peer, 200, body);
    return fake_json(peer, 200, "[\"late\"]");
}

static bool answer_twice_later(fake_peer *peer)
{
    char body[16];
    snprintf(body, sizeof body, "[%d]", peer->request);
    fake_json(peer, 200, body);
    usleep(30000);
    return fake_json(peer, 200, "[\"late\"]");
}

static void a_reply_that_nobody_asked_for_is_not_taken_for_the_next(void **state)
{
    static const fake_answer answers[] = {answer_twice, answer_twice_later};
    for (size_t i = 0; i < 2; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_reply("[1]");
        usleep(100000);
        assert_reply("[2]");
        usleep(100000);
        assert_reply("[3]");
        tidy(state);
    }
}

/* ---- servers that are not there, or silent -------------------------------------------------------- */

static void a_refused_connection_is_named(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    open_url("http://127.0.0.1:1", &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_string_equal(err.message, "Service unavailable at http://127.0.0.1:1: connection refused");
    assert_int_equal(err.http_status, 0);
}

/* libcurl asks this one in place of the C library's. It knows nobody, and may take its time to say so. */
static atomic_bool resolver_sleeps;

__attribute__((visibility("default"))) int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)name, (void)service, (void)hints, (void)found;
    if (atomic_load(&resolver_sleeps)) usleep(2000000);
    return EAI_NONAME;
}

static void an_unknown_host_is_named(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    open_url("http://nowhere.invalid:8000", &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_string_equal(err.message, "Service unavailable at http://nowhere.invalid:8000: no such host");
}

static void a_silent_name_server_does_not_outlast_the_deadline(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(SHORT_MS);
    atomic_store(&resolver_sleeps, true);
    open_url("http://slow.invalid:8000", &options);
    axi_time began = axi_now();
    axon_status status = get_status(SHORT_MS);
    assert_true(axi_now() - began < 1500000000);
    atomic_store(&resolver_sleeps, false);
    assert_int_equal(status, AXON_ETIMEOUT);
    assert_message("no connection after 300 ms (timeout_ms)");
}

/* A port whose queue of connections is full does not answer at all. */
static int full_port(int fillers[8], char url[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&address, size);
    }
    snprintf(url, 64, "http://127.0.0.1:%d", ntohs(address.sin_port));
    return listener;
}

static void connecting_has_a_deadline_of_its_own(void **state)
{
    (void)state;
    int fillers[8];
    char url[64];
    int listener = full_port(fillers, url);
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.connect_timeout_ms = SHORT_MS;
    open_url(url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ETIMEOUT);
    assert_message("no connection after 300 ms (connect_timeout_ms)");
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
}

static void a_server_that_listens_and_is_silent_is_named_as_that(void **state)
{
    (void)state;
    connect_to(fake_be_silent, SHORT_MS);
    assert_int_equal(get_status(SHORT_MS), AXON_ETIMEOUT);
    assert_message("Service unavailable at http://127.0.0.1:");
    assert_message("listening but silent, no answer after 300 ms (timeout_ms)");
    assert_int_equal(get_status(SHORT_MS), AXON_ETIMEOUT); /* the handle still works */
    assert_int_equal(fake_accepted(fake), 2);              /* on a connection that owes no reply */
}

static bool never_read(fake_peer *peer)
{
    struct pollfd gone = {.fd = peer->fd, .events = POLLRDHUP};
    poll(&gone, 1, GENEROUS_MS);
    return fake_reset(peer);
}

static void a_server_that_reads_nothing_is_named_as_that(void **state)
{
    (void)state;
    enum { LONG = 30000000 };
    axi_http_options options = with_timeout(SHORT_MS);
    fake = fake_begin((http_fake){.answer = never_read, .head_only = true});
    open_url(fake->url, &options);
    uint8_t *data = some_bytes(LONG);
    axi_body body;
    axi_body_part parts[3];
    axi_http_reply reply = {0};
    image_body(&body, parts, data, LONG);
    assert_int_equal(send_body(&body, SHORT_MS, &reply), AXON_ETIMEOUT);
    assert_message("listening, but read only ");
    assert_message(" of 40000023 bytes in 300 ms (timeout_ms)");
    free(data);
}

static bool silent_in_header(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Le");
    return fake_be_silent(peer);
}

static bool silent_after_header(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nab");
    return fake_be_silent(peer);
}

/* One byte at a time, forever: each is in time, the whole never is. */
static bool trickle(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n");
    while (fake_text(peer, "x"))
        usleep(5000);
    return false;
}

static void a_reply_that_stops_or_trickles_meets_the_deadline(void **state)
{
    static const fake_answer answers[] = {silent_in_header, silent_after_header, trickle};
    for (size_t i = 0; i < 3; i++) {
        connect_to(answers[i], SHORT_MS);
        assert_int_equal(get_status(SHORT_MS), AXON_ETIMEOUT);
        assert_message("no complete reply after 300 ms (timeout_ms), only ");
        if (i > 0) assert_message(i == 1 ? "only 2 of 5000 bytes" : " of 500000 bytes");
        tidy(state);
    }
}

/* ---- replies that are damaged ---------------------------------------------------------------------- */

static bool endless_header(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\n");
    while (fake_text(peer, "X-Padding: 0123456789012345678901234567890123456789\r\n"))
        ;
    return false;
}

static bool endless_header_line(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nX-Padding: ");
    while (fake_text(peer, "0123456789012345678901234567890123456789"))
        ;
    return false;
}

static bool endless_interim_replies(fake_peer *peer)
{
    while (fake_text(peer, "HTTP/1.1 100 Continue\r\nX-Padding: 0123456789\r\n\r\n"))
        ;
    return false;
}

static bool endless_trailer(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n");
    while (fake_text(peer, "X-Padding: 0123456789012345678901234567890123456789\r\n"))
        ;
    return false;
}

static void an_endless_header_ends_with_an_error(void **state)
{
    static const fake_answer answers[] = {endless_header, endless_header_line, endless_interim_replies,
                                          endless_trailer};
    for (size_t i = 0; i < 4; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_int_equal(get_status(GENEROUS_MS), AXON_EPROTOCOL);
        assert_message(i == 1 ? "a header line of the reply is endless"
                              : "the header of the reply is longer than 65536 bytes");
        tidy(state);
    }
}

static bool cut_by_length(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n0123456789");
    return false;
}

static bool cut_by_reset(fake_peer *peer)
{
    cut_by_length(peer);
    usleep(50000);
    return fake_reset(peer);
}

static bool cut_in_chunk(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n0123456789");
    return false;
}

static bool cut_in_header(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Ty");
    return false;
}

static void a_reply_that_is_cut_names_the_service(void **state)
{
    static const fake_answer answers[] = {cut_by_length, cut_by_reset, cut_in_chunk, cut_in_header};
    static const char *const words[] = {"10 of 5000 bytes", "10 of 5000 bytes", "10 bytes", "0 bytes"};
    for (size_t i = 0; i < 4; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
        assert_message(fake->url);
        assert_message("connection lost in mid-reply, after ");
        assert_message(words[i]);
        tidy(state);
    }
}

static bool no_http(fake_peer *peer)
{
    fake_text(peer, "SSH-2.0-OpenSSH_9.2\r\n");
    return fake_be_silent(peer);
}

static bool http_0_9(fake_peer *peer)
{
    fake_text(peer, "<html>hello</html>\n");
    return false;
}

static bool bad_length(fake_peer *peer)
{
    return fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n");
}

static bool bad_chunk(fake_peer *peer)
{
    return fake_text(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n");
}

static bool compressed(fake_peer *peer)
{
    return fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx");
}

static void what_is_not_http_is_a_protocol_error_of_the_service(void **state)
{
    static const fake_answer answers[] = {no_http, http_0_9, bad_length, bad_chunk, compressed};
    for (size_t i = 0; i < 5; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_int_equal(get_status(GENEROUS_MS), AXON_EPROTOCOL);
        assert_message(fake->url);
        assert_message(i < 3 ? "not HTTP/1.1" : i == 3 ? "chunk" : "compressed");
        tidy(state);
    }
}

/* ---- sizes ------------------------------------------------------------------------------------------ */

static bool claim_100_megabytes(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    return fake_be_silent(peer);
}

static bool claim_more_than_fits_a_number(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n");
    char block[1024];
    memset(block, 'x', sizeof block);
    while (fake_write(peer, block, sizeof block))
        ;
    return false;
}

static bool endless_chunks(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (fake_text(peer, "10\r\n0123456789abcdef\r\n"))
        ;
    return false;
}

static void a_reply_over_the_limit_is_refused_by_its_claim_and_by_its_length(void **state)
{
    static const fake_answer answers[] = {claim_100_megabytes, claim_more_than_fits_a_number,
                                          endless_chunks};
    for (size_t i = 0; i < 3; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_int_equal(get_status(GENEROUS_MS), AXON_ETOOBIG);
        assert_message("the reply is longer than 1000000 bytes (max_reply_bytes)");
        tidy(state);
    }
}

static bool exactly_the_limit(fake_peer *peer)
{
    char head[128];
    bool over = peer->request == 2;
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
             LIMIT + over);
    char *block = calloc(1, LIMIT + 1);
    bool sent = fake_text(peer, head) && fake_write(peer, block, (size_t)LIMIT + over) &&
                fake_text(peer, "\r\n0\r\n\r\n");
    free(block);
    return sent;
}

static void the_limit_itself_is_allowed(void **state)
{
    (void)state;
    connect_to(exactly_the_limit, GENEROUS_MS);
    axi_http_reply reply = {0};
    assert_int_equal(get(&reply), AXON_OK);
    assert_int_equal(reply.length, LIMIT);
    free(reply.data);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ETOOBIG);
}

static bool claim_much_and_send_little(fake_peer *peer)
{
    fake_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 200000000000\r\n\r\nhello");
    return false;
}

static void a_claim_within_the_limit_costs_no_memory_by_itself(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.max_reply_bytes = UINT64_MAX;
    fake = fake_begin_plain(claim_much_and_send_little);
    open_url(fake->url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_message("after 5 of 200000000000 bytes");
}

/* ---- redirects ---------------------------------------------------------------------------------------- */

static bool redirect_to_slash(fake_peer *peer)
{
    if (strstr(peer->head, " /path/ ")) return fake_json(peer, 200, peer->body_length ? "[1]" : "[0]");
    char head[256];
    snprintf(head, sizeof head,
             "HTTP/1.1 307 Temporary Redirect\r\nLocation: %s/path/\r\nContent-Length: 0\r\n\r\n",
             peer->fake->url);
    return fake_text(peer, head);
}

static void a_redirect_within_the_service_keeps_method_body_and_token(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.bearer_token = "token";
    fake = fake_begin_plain(redirect_to_slash);
    open_url(fake->url, &options);
    uint8_t *data = some_bytes(100000);
    axi_body body;
    axi_body_part parts[3];
    axi_http_reply reply = {0};
    image_body(&body, parts, data, 100000);
    assert_int_equal(send_body(&body, GENEROUS_MS, &reply), AXON_OK);
    assert_string_equal((char *)reply.data, "[1]");
    free(reply.data);
    assert_arrived(&body);
    assert_ptr_equal(strstr(fake_head(fake), "POST /path/ "), fake_head(fake));
    assert_non_null(strstr(fake_head(fake), "Authorization: Bearer token\r\n"));
    free(data);
    assert_reply("[0]");
    assert_int_equal(fake_accepted(fake), 1);
}

static bool redirect_in_circles(fake_peer *peer)
{
    return fake_text(peer,
                     "HTTP/1.1 308 Permanent Redirect\r\nLocation: /path\r\nContent-Length: 3\r\n\r\nabc");
}

static void redirects_in_circles_end(void **state)
{
    (void)state;
    connect_to(redirect_in_circles, GENEROUS_MS);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ESERVER);
    assert_message("/path failed (HTTP 308): ");
    assert_message("one redirect too many");
    assert_int_equal(err.http_status, 308);
    assert_int_equal(fake_requests(fake), 6);
}

static http_fake *elsewhere;

static bool redirect_elsewhere(fake_peer *peer)
{
    char head[256];
    snprintf(head, sizeof head, "HTTP/1.1 302 Found\r\nLocation: %s/path\r\nContent-Length: 0\r\n\r\n",
             elsewhere->url);
    return fake_text(peer, head);
}

static void a_redirect_to_another_server_is_not_followed(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.bearer_token = "token";
    elsewhere = fake_begin_plain(answer_ok);
    fake = fake_begin_plain(redirect_elsewhere);
    open_url(fake->url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ESERVER);
    assert_message("/path failed (HTTP 302): ");
    assert_message(elsewhere->url);
    assert_message("another server");
    assert_int_equal(fake_accepted(elsewhere), 0);
    fake_stop(elsewhere);
}

static bool redirect_to_https(fake_peer *peer)
{
    char head[256];
    snprintf(head, sizeof head, "HTTP/1.1 301 Moved\r\nLocation: https%s/\r\nContent-Length: 0\r\n\r\n",
             strchr(peer->fake->url, ':'));
    return fake_text(peer, head);
}

static bool redirect_with_password(fake_peer *peer)
{
    char head[256];
    snprintf(head, sizeof head,
             "HTTP/1.1 307 Moved\r\nLocation: http://a:b@%s/\r\nContent-Length: 0\r\n\r\n",
             peer->fake->url + strlen("http://"));
    return fake_text(peer, head);
}

static bool redirect_to_file(fake_peer *peer)
{
    return fake_text(peer,
                     "HTTP/1.1 307 Moved\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n");
}

static void a_redirect_to_another_scheme_or_with_credentials_is_not_followed(void **state)
{
    static const fake_answer answers[] = {redirect_to_https, redirect_with_password, redirect_to_file};
    for (size_t i = 0; i < 3; i++) {
        connect_to(answers[i], GENEROUS_MS);
        assert_int_equal(get_status(GENEROUS_MS), AXON_ESERVER);
        assert_int_equal(fake_requests(fake), 1);
        tidy(state);
    }
}

/* ---- cancel, interrupt, fork ----------------------------------------------------------------------------- */

static atomic_bool request_is_there;

static bool silent_and_says_so(fake_peer *peer)
{
    atomic_store(&request_is_there, true);
    return fake_be_silent(peer);
}

static void *cancel_when_waiting(void *user)
{
    while (!atomic_load(&request_is_there))
        usleep(1000);
    axi_http_cancel(user);
    return NULL;
}

static void cancel_from_another_thread_ends_the_call(void **state)
{
    (void)state;
    connect_to(silent_and_says_so, GENEROUS_MS);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        atomic_store(&request_is_there, false);
        assert_int_equal(pthread_create(&thread, NULL, cancel_when_waiting, http), 0);
        assert_int_equal(get_status(GENEROUS_MS), AXON_ECANCELED);
        assert_message("cancelled");
        pthread_join(thread, NULL);
    }
}

static void cancel_without_a_call_does_nothing(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    axi_http_cancel(http);
    assert_reply("{\"ok\": true}");
    axi_http_cancel(http);
    assert_reply("{\"ok\": true}");
}

static void cancel_before_the_first_byte_counts_too(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    axi_http_reply reply = {0};
    assert_int_equal(axi_http_begin(http, &err), AXON_OK);
    axi_http_cancel(http);
    assert_int_equal(axi_http_request(http, "/", NULL, axi_deadline(GENEROUS_MS), &reply, &err),
                     AXON_ECANCELED);
    axi_http_end(http);
    assert_int_equal(fake_requests(fake), 0);
}

static void a_second_call_at_once_is_refused(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    assert_int_equal(axi_http_begin(http, &err), AXON_OK);
    assert_int_equal(axi_http_begin(http, &err), AXON_EINVAL);
    assert_message("another thread is in a call");
    axi_http_end(http);
    assert_reply("{\"ok\": true}");
}

static int32_t interrupt_at_the_third(void *user)
{
    return ++*(int *)user == 3;
}

static void the_interrupt_function_ends_the_call(void **state)
{
    (void)state;
    int asked = 0;
    connect_to(fake_be_silent, GENEROUS_MS);
    axon_set_interrupt(interrupt_at_the_third, &asked);
    axon_status status = get_status(GENEROUS_MS);
    axon_set_interrupt(NULL, NULL);
    assert_int_equal(status, AXON_ECANCELED);
    assert_message("interrupted");
    assert_int_equal(asked, 3);
}

static volatile sig_atomic_t signalled;

static void note_signal(int number)
{
    signalled = number;
}

static int32_t interrupt_after_signal(void *user)
{
    (void)user;
    return signalled != 0;
}

static void *signal_when_waiting(void *user)
{
    while (!atomic_load(&request_is_there))
        usleep(1000);
    pthread_kill(*(pthread_t *)user, SIGUSR1);
    return NULL;
}

static void a_signal_is_noticed(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = note_signal};
    sigaction(SIGUSR1, &action, NULL);
    connect_to(silent_and_says_so, GENEROUS_MS);
    atomic_store(&request_is_there, false);
    pthread_t own = pthread_self(), thread;
    axon_set_interrupt(interrupt_after_signal, NULL);
    assert_int_equal(pthread_create(&thread, NULL, signal_when_waiting, &own), 0);
    axon_status status = get_status(GENEROUS_MS);
    axon_set_interrupt(NULL, NULL);
    pthread_join(thread, NULL);
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(status, AXON_ECANCELED);
}

static void a_forked_child_may_only_close(void **state)
{
    (void)state;
    connect_to(answer_ok, GENEROUS_MS);
    assert_reply("{\"ok\": true}");
    pid_t child = fork();
    if (child == 0) {
        bool refused = axi_http_begin(http, &err) == AXON_EINVAL && strstr(err.message, "fork()");
        axi_http_cancel(http);
        axi_http_close(http);
        _exit(refused ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_reply("{\"ok\": true}"); /* the parent's connection is as it was */
    assert_int_equal(fake_accepted(fake), 1);
}

/* ---- proxies ---------------------------------------------------------------------------------------------- */

static void set_proxies(const char *url)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "all_proxy", "ALL_PROXY",
                                        "HTTPS_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        url ? setenv(names[i], url, 1) : unsetenv(names[i]);
}

static void a_proxy_of_the_environment_is_not_asked_for_what_is_near(void **state)
{
    (void)state;
    set_proxies("http://127.0.0.1:1");
    connect_to(answer_ok, GENEROUS_MS);
    axi_http_reply reply = {0};
    axon_status status = get(&reply);
    set_proxies(NULL);
    free(reply.data);
    assert_int_equal(status, AXON_OK);
}

static void a_proxy_of_the_environment_is_asked_for_what_is_far(void **state)
{
    (void)state;
    fake = fake_begin_plain(answer_ok);
    axi_http_options options = with_timeout(GENEROUS_MS);
    set_proxies(fake->url);
    open_url("http://robot.example:8000", &options);
    axon_status status = get_status(GENEROUS_MS);
    assert_int_equal(status, AXON_OK);
    assert_ptr_equal(strstr(fake_head(fake), "GET http://robot.example:8000/path HTTP/1.1\r\n"),
                     fake_head(fake));
    setenv("no_proxy", "robot.example", 1);
    status = get_status(GENEROUS_MS);
    unsetenv("no_proxy");
    set_proxies(NULL);
    assert_int_equal(status, AXON_ECONNECT);
    assert_message("no such host");
}

static void a_dead_proxy_is_named(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    set_proxies("http://127.0.0.1:1");
    open_url("http://robot.example:8000", &options);
    axon_status status = get_status(GENEROUS_MS);
    set_proxies(NULL);
    assert_int_equal(status, AXON_ECONNECT);
    assert_message("proxy");
    assert_message("refused");
}

/* ---- TLS ---------------------------------------------------------------------------------------------------- */

static char ca_file[64];

static void start_tls(fake_answer answer, const char *name)
{
    strcpy(ca_file, "/tmp/axon-test-ca-XXXXXX");
    close(mkstemp(ca_file));
    fake = fake_begin((http_fake){.answer = answer, .tls = fake_tls(name, ca_file)});
}

static int tidy_tls(void **state)
{
    unlink(ca_file);
    return tidy(state);
}

static void https_works_with_an_authority_that_is_trusted(void **state)
{
    (void)state;
    start_tls(answer_ok, "IP:127.0.0.1");
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.ca_file = ca_file;
    open_url(fake->url, &options);
    assert_reply("{\"ok\": true}");
    assert_reply("{\"ok\": true}");
    assert_int_equal(fake_accepted(fake), 1);
}

static void https_refuses_an_authority_that_is_unknown(void **state)
{
    (void)state;
    start_tls(answer_ok, "IP:127.0.0.1");
    axi_http_options options = with_timeout(GENEROUS_MS);
    open_url(fake->url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_message("Service unavailable at https://127.0.0.1:");
    assert_message("TLS: ");
    assert_message("self-signed certificate");
    assert_int_equal(fake_requests(fake), 0);
}

static void https_refuses_a_certificate_of_another_name(void **state)
{
    (void)state;
    start_tls(answer_ok, "DNS:robot.example");
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.ca_file = ca_file;
    open_url(fake->url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_message("TLS: ");
    assert_message("127.0.0.1");
    assert_int_equal(fake_requests(fake), 0);
}

static void https_takes_any_certificate_when_told_to(void **state)
{
    (void)state;
    start_tls(answer_ok, "DNS:robot.example");
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.tls_insecure = true;
    open_url(fake->url, &options);
    assert_reply("{\"ok\": true}");
}

static void https_to_a_plain_server_is_a_tls_error(void **state)
{
    (void)state;
    char url[64];
    fake = fake_begin((http_fake){.answer = no_http, .at_once = true});
    snprintf(url, sizeof url, "https%s", strchr(fake->url, ':'));
    axi_http_options options = with_timeout(GENEROUS_MS);
    open_url(url, &options);
    assert_int_equal(get_status(GENEROUS_MS), AXON_ECONNECT);
    assert_message("TLS: ");
    assert_message("wrong version number");
}

static void a_reset_under_tls_raises_no_sigpipe(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_DFL);
    start_tls(answer_first_then_close_on_second, "IP:127.0.0.1");
    fake->head_only = true;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.ca_file = ca_file;
    open_url(fake->url, &options);
    uint8_t *data = some_bytes(3000000);
    axi_body body;
    axi_body_part parts[3];
    image_body(&body, parts, data, 3000000);
    for (int i = 0; i < 3; i++) {
        axi_http_reply reply = {0};
        if (send_body(&body, GENEROUS_MS, &reply) == AXON_OK) free(reply.data);
    }
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    free(data);
}

static void a_forked_child_leaves_a_tls_session_alone(void **state)
{
    (void)state;
    start_tls(answer_ok, "IP:127.0.0.1");
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.ca_file = ca_file;
    open_url(fake->url, &options);
    assert_reply("{\"ok\": true}");
    pid_t child = fork();
    if (child == 0) {
        axi_http_close(http);
        _exit(0);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_reply("{\"ok\": true}");
    assert_int_equal(fake_accepted(fake), 1);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static void a_wrong_url_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url, *reason;
    } wrong[] = {
        {NULL, "empty"},
        {"", "empty"},
        {"localhost:8000", "no scheme; write http://localhost:8000"},
        {"ftp://robot", "neither http nor https"},
        {"file:///etc/hostname", "neither http nor https"},
        {"http://", "no host"},
        {"http:///detect", "no host"},
        {"http://:8000", "no host"},
        {"http://robot:", "1 to 65535"},
        {"http://robot:99999", "1 to 65535"},
        {"http://robot:0", "1 to 65535"},
        {"http://robot:http", "1 to 65535"},
        {"http://robot:+80", "1 to 65535"},
        {"http://robot:080000", "1 to 65535"},
        {"http://[::1", "not closed"},
        {"http://[]", "no host"},
        {"http://[::1]8000", "between host and port"},
        {"http://[::g]", "neither a name nor an address"},
        {"http://::1:8000", "no host"},
        {"http://fe80::1", "brackets"},
        {"http://ro\\bot", "neither a name nor an address"},
        {"http://ro%62ot", "neither a name nor an address"},
        {"http://robot/?a=b", "query"},
        {"http://robot#top", "query or fragment"},
        {"http://ro bot", "space"},
        {"http://robot\r\nX: y", "control"},
        {"http://r\xc3\xb6"
         "bot",
         "non-ASCII"},
    };
    axi_http_options options = with_timeout(GENEROUS_MS);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(axi_http_open(&http, wrong[i].url, &options, &err), AXON_EINVAL);
        assert_message(wrong[i].reason);
        assert_null(http);
    }
}

static void a_password_in_a_url_is_refused_and_not_repeated(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://me:hunter2@robot:8000", "me:hunter2@robot",
                                       "http://me:hunter2@robot:99999/?a"};
    axi_http_options options = with_timeout(GENEROUS_MS);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(axi_http_open(&http, urls[i], &options, &err), AXON_EINVAL);
        assert_message("credentials");
        assert_null(strstr(err.message, "hunter2"));
    }
}

static void a_wrong_option_is_refused_with_the_reason(void **state)
{
    (void)state;
    axi_http_options options = with_timeout(GENEROUS_MS);
    options.bearer_token = "secret\r\nX-Evil: 1";
    assert_int_equal(axi_http_open(&http, "http://robot", &options, &err), AXON_EINVAL);
    assert_message("bearer_token");
    assert_null(strstr(err.message, "secret"));
    options = with_timeout(GENEROUS_MS);
    options.ca_file = "/nonexistent/ca.pem";
    assert_int_equal(axi_http_open(&http, "https://robot", &options, &err), AXON_EIO);
    assert_message("ca_file \"/nonexistent/ca.pem\"");
}

static void a_url_may_have_a_prefix_an_ipv6_host_and_slashes(void **state)
{
    (void)state;
    static const char *const urls[][2] = {{"http://[::1]:8000/", "http://[::1]:8000"},
                                          {"HTTP://Robot.Local//", "HTTP://Robot.Local"},
                                          {"https://robot/a/b/", "https://robot/a/b"}};
    axi_http_options options = with_timeout(GENEROUS_MS);
    for (size_t i = 0; i < 3; i++) {
        open_url(urls[i][0], &options);
        assert_string_equal(axi_http_url(http), urls[i][1]);
        axi_http_close(http);
        http = NULL;
    }
    char url[128];
    fake = fake_begin_plain(answer_ok);
    snprintf(url, sizeof url, "%s/v1/yolo/", fake->url);
    open_url(url, &options);
    assert_reply("{\"ok\": true}");
    assert_ptr_equal(strstr(fake_head(fake), "GET /v1/yolo/path HTTP/1.1\r\n"), fake_head(fake));
}

static void closing_nothing_is_fine(void **state)
{
    (void)state;
    axi_http_close(NULL);
}

#define TEST(f) cmocka_unit_test_teardown(f, tidy)
#define TLS_TEST(f) cmocka_unit_test_teardown(f, tidy_tls)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_body_arrives_as_it_was_described),
        TEST(a_body_is_the_same_in_pieces_of_every_size),
        TEST(many_pictures_in_one_body_arrive_whole),
        TEST(a_request_is_plain_http_1_1_with_an_exact_length),
        TEST(a_get_has_neither_body_nor_content_type),
        TEST(a_bearer_token_is_sent),
        TEST(a_chunked_reply_is_put_together),
        TEST(an_empty_reply_has_no_data),
        TEST(one_connection_serves_many_calls),
        TEST(a_connection_closed_between_calls_is_replaced),
        TEST(a_post_is_sent_again_when_the_kept_connection_dies_unanswered),
        TEST(a_long_post_is_sent_again_when_the_kept_connection_dies_under_it),
        TEST(a_fresh_connection_that_dies_unanswered_is_an_error),
        TEST(a_refusal_is_heard_while_the_body_is_still_being_sent),
        TEST(a_reply_that_nobody_asked_for_is_not_taken_for_the_next),
        TEST(a_refused_connection_is_named),
        TEST(an_unknown_host_is_named),
        TEST(a_silent_name_server_does_not_outlast_the_deadline),
        TEST(connecting_has_a_deadline_of_its_own),
        TEST(a_server_that_listens_and_is_silent_is_named_as_that),
        TEST(a_server_that_reads_nothing_is_named_as_that),
        TEST(a_reply_that_stops_or_trickles_meets_the_deadline),
        TEST(an_endless_header_ends_with_an_error),
        TEST(a_reply_that_is_cut_names_the_service),
        TEST(what_is_not_http_is_a_protocol_error_of_the_service),
        TEST(a_reply_over_the_limit_is_refused_by_its_claim_and_by_its_length),
        TEST(the_limit_itself_is_allowed),
        TEST(a_claim_within_the_limit_costs_no_memory_by_itself),
        TEST(a_redirect_within_the_service_keeps_method_body_and_token),
        TEST(redirects_in_circles_end),
        TEST(a_redirect_to_another_server_is_not_followed),
        TEST(a_redirect_to_another_scheme_or_with_credentials_is_not_followed),
        TEST(cancel_from_another_thread_ends_the_call),
        TEST(cancel_without_a_call_does_nothing),
        TEST(cancel_before_the_first_byte_counts_too),
        TEST(a_second_call_at_once_is_refused),
        TEST(the_interrupt_function_ends_the_call),
        TEST(a_signal_is_noticed),
        TEST(a_forked_child_may_only_close),
        TEST(a_proxy_of_the_environment_is_not_asked_for_what_is_near),
        TEST(a_proxy_of_the_environment_is_asked_for_what_is_far),
        TEST(a_dead_proxy_is_named),
        TLS_TEST(https_works_with_an_authority_that_is_trusted),
        TLS_TEST(https_refuses_an_authority_that_is_unknown),
        TLS_TEST(https_refuses_a_certificate_of_another_name),
        TLS_TEST(https_takes_any_certificate_when_told_to),
        TEST(https_to_a_plain_server_is_a_tls_error),
        TLS_TEST(a_reset_under_tls_raises_no_sigpipe),
        TLS_TEST(a_forked_child_leaves_a_tls_session_alone),
        TEST(a_wrong_url_is_refused_with_the_reason),
        TEST(a_password_in_a_url_is_refused_and_not_repeated),
        TEST(a_wrong_option_is_refused_with_the_reason),
        TEST(a_url_may_have_a_prefix_an_ipv6_host_and_slashes),
        TEST(closing_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

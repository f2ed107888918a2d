/* ZeroMQ's wire protocol without a peer: bytes that are said over a socket pair, in pieces of every size, and what is
 * answered. */
#include "checks.h"
#include "spare.h"
#include "zmtp.h"

#include <sys/socket.h>
#include <unistd.h>

/* ---- what the tests are written with ------------------------------------------------------------- */

#define SIGNATURE "ff 00*7 01 7f"
#define GREETING SIGNATURE " 0301 4e554c4c 00*16 00*32 "
#define READY_DEALER "041c 05 5245414459 0b 536f636b65742d54797065 00000006 4445414c4552"
#define READY_ROUTER "041c 05 5245414459 0b 536f636b65742d54797065 00000006 524f55544552"
#define LIMIT 1000

/* One connection, and what came of what was said. One letter for each message: b(ody), B(are body), o(dd), l(ong), r(oom
 * that was wanting). */
typedef struct dialogue {
    axi_zmtp zmtp;
    axi_zmtp_budget budget;
    int fd; /* the peer's end */
    char found[64];
    size_t count;
    uint8_t last[2 * LIMIT]; /* the last body */
    size_t last_length;
} dialogue;

static dialogue *begin(bool is_server)
{
    int ends[2];
    dialogue *made = calloc(1, sizeof *made);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    made->fd = ends[1];
    made->budget.limit = UINT64_MAX;
    assert_true(axi_zmtp_begin(&made->zmtp, ends[0], is_server, LIMIT, &made->budget));
    return made;
}

static void finish(dialogue *self)
{
    axi_zmtp_end(&self->zmtp);
    assert_int_equal(self->budget.used, 0);
    close(self->fd);
    free(self);
}

static void take_all(dialogue *self)
{
    static const char letters[] = " bolr";
    axi_zmtp_message message;
    while (axi_zmtp_take(&self->zmtp, &message) != AXI_ZMTP_NOTHING) {
        char letter = letters[message.found];
        if (message.found == AXI_ZMTP_BODY && message.is_bare) letter = 'B';
        if (self->count < sizeof self->found - 1) self->found[self->count++] = letter;
        if ((message.found == AXI_ZMTP_BODY) != (message.data != NULL)) fail_msg("only a body has bytes");
        if (!message.data) continue;
        assert_true(message.length <= LIMIT);
        memcpy(self->last, message.data, message.length);
        self->last_length = message.length;
        axi_spare_give(message.data);
    }
}

static void say_bytes(dialogue *self, const uint8_t *bytes, size_t length, size_t step)
{
    for (size_t at = 0; at < length; at += step) {
        size_t piece = length - at < step ? length - at : step;
        if (send(self->fd, bytes + at, piece, MSG_NOSIGNAL) != (ssize_t)piece) return; /* it hung up */
        axi_zmtp_read(&self->zmtp, AXI_ZMTP_WAITING);
        take_all(self);
    }
}

static void say(dialogue *self, const char *hex, size_t step)
{
    blob bytes = from_hex(hex);
    say_bytes(self, bytes.data, bytes.length, step);
    free(bytes.data);
}

/* What has been answered by now is this. */
static void assert_answered(dialogue *self, const char *hex)
{
    uint8_t room[1024];
    ssize_t got = recv(self->fd, room, sizeof room, MSG_DONTWAIT);
    blob wanted = from_hex(hex);
    assert_same_bytes((blob){room, got < 0 ? 0 : (size_t)got}, wanted, hex);
    free(wanted.data);
}

static void assert_over(const dialogue *self, bool is_stranger, const char *why)
{
    if (self->zmtp.stage != AXI_ZMTP_OVER || self->zmtp.is_stranger != is_stranger ||
        !strstr(self->zmtp.why, why))
        fail_msg("stage %d, stranger %d, \"%s\", but \"%s\" was expected", self->zmtp.stage,
                 self->zmtp.is_stranger, self->zmtp.why, why);
}

/* A server's end that a DEALER has greeted. */
static dialogue *begin_ready(size_t step)
{
    dialogue *made = begin(true);
    say(made, GREETING READY_DEALER, step);
    assert_int_equal(made->zmtp.stage, AXI_ZMTP_READY);
    assert_answered(made, GREETING READY_ROUTER);
    return made;
}

static const size_t steps[] = {1, 2, 3, 7, 64, 65, 100000};
#define FOR_EACH_STEP(step)                                                                                \
    for (size_t at_ = 0, step = steps[0]; at_ < sizeof steps / sizeof *steps;                              \
         at_++, step = steps[at_ % (sizeof steps / sizeof *steps)])

/* ---- greeting -------------------------------------------------------------------------------------- */

static void the_greeting_stops_where_versions_part(void **state)
{
    (void)state;
    dialogue *self = begin(false);
    assert_answered(self, SIGNATURE "03");
    say(self, SIGNATURE, 100);
    assert_answered(self, "");
    say(self, "03", 100);
    assert_answered(self, "01 4e554c4c 00*16 00*32 " READY_DEALER);
    say(self, "00 4e554c4c 00*16 00*32", 100);
    assert_int_equal(self->zmtp.stage, AXI_ZMTP_HANDSHAKE);
    say(self, READY_ROUTER, 100);
    assert_int_equal(self->zmtp.stage, AXI_ZMTP_READY);
    assert_int_equal(self->zmtp.name.length, 0);
    finish(self);
}

static void the_second_version_is_spoken_too(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        dialogue *self = begin(true);
        say(self, SIGNATURE "01 05 0003 61726d", step); /* a DEALER of the name "arm" */
        assert_answered(self, SIGNATURE "03 06 0000");
        assert_int_equal(self->zmtp.stage, AXI_ZMTP_READY);
        assert_int_equal(self->zmtp.name.length, 3);
        assert_memory_equal(self->zmtp.name.bytes, "arm", 3);
        say(self, "0100 0002 6869 02 0000000000000001 21", step);
        assert_string_equal(self->found, "bB");
        assert_memory_equal(self->last, "!", 1);
        finish(self);
    }
}

static void who_does_not_speak_it_is_a_stranger(void **state)
{
    (void)state;
    static const struct {
        const char *said, *why;
    } strangers[] = {
        {"48545450 2f312e31", "does not speak ZeroMQ's protocol"},
        {"01", "does not speak"},
        {"ff 00*8 7e", "does not speak"},
        {SIGNATURE "00", "protocol 1, which is too old"},
        {SIGNATURE "0301 504c41494e 00*15 00*32", "security \"PLAIN\""},
        {SIGNATURE "0300 4355525645 00*15 00*32", "security \"CURVE\""},
        {SIGNATURE "0301 ff*20 00*32", "security"},
        {SIGNATURE "0101", "of type PUB, which a DEALER does not speak with"},
        {SIGNATURE "0163", "of type that nobody knows"},
        {GREETING "0419 05 5245414459 0b 536f636b65742d54797065 00000003 505542", "of type PUB"},
        {GREETING "041c 05 5245414459 0b 536f636b65742d54797065 00000007 524f55544552", "cut short"},
        {GREETING "0407 05 5245414459 0b", "cut short"},
        {GREETING "0000", "a message before it was ready"},
        {GREETING "0500", "flags 0x05"},
        {GREETING "0800", "flags 0x08"},
        {GREETING "0400", "in READY's place"},
        {GREETING "0403 024849", "in READY's place"},
        {GREETING "06 ffffffffffffffff", "a command of 18446744073709551615 bytes, limit 8192"},
        {GREETING "0409 05 4552524f52 02 6e6f", "it refused: no"},
        {GREETING "0409 05 4552524f52 ff 6e6f", "it refused: no"},
        {GREETING "0406 05 4552524f52", "it refused: "},
    };
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        FOR_EACH_STEP(step)
        {
            dialogue *self = begin(false);
            say(self, strangers[i].said, step);
            assert_over(self, true, strangers[i].why);
            finish(self);
        }
}

static void names_are_taken_up_to_their_limit(void **state)
{
    (void)state;
    dialogue *self = begin(true);
    say(self, GREETING "06 0000000000000111 05 5245414459 08 4964656e74697479 000000fe 6e*254", 50);
    assert_int_equal(self->zmtp.stage, AXI_ZMTP_READY);
    assert_int_equal(self->zmtp.name.length, 254);
    finish(self);
    self = begin(true);
    say(self, GREETING "06 0000000000000113 05 5245414459 08 6964454e54495459 00000100 6e*256", 50);
    assert_over(self, true, "a name of 256 bytes, limit 255");
    finish(self);
}

static void who_hangs_up_before_a_word_may_be_tried_again(void **state)
{
    (void)state;
    for (int has_spoken = 0; has_spoken < 2; has_spoken++) {
        dialogue *self = begin(false);
        if (has_spoken) say(self, "ff", 1);
        shutdown(self->fd, SHUT_WR);
        axi_zmtp_read(&self->zmtp, 1);
        assert_over(self, has_spoken, "hung up before it was ready");
        finish(self);
    }
}

/* ---- messages ---------------------------------------------------------------------------------------- */

static void messages_are_read_however_they_are_framed(void **state)
{
    (void)state;
    static const struct {
        const char *said, *found;
    } cases[] = {
        {"0100 0002 6869", "b"},
        {"0002 6869", "B"},
        {"0000", "B"},
        {"0100 0000", "b"},
        {"0100 02 0000000000000002 6869", "b"},
        {"0100 02 00000000000003e8 61*1000 0002 6869", "bB"},
        {"0100 02 00000000000003e9 61*1001 0002 6869", "lB"},
        {"0100 0101 61 0001 62 0002 6869", "oB"},
        {"0101 61 0001 62 0100 0002 6869", "ob"},
        {"0100 0100 0000 0002 6869", "oB"},
        {"0100 03 00000000000003e9 61*1001 0000 0100 0002 6869", "ob"},
        {"0100 0407 0450494e47 0000 0002 6869", "b"}, /* a ping within a message */
        {"0406 0548454c4c4f 0002 6869", "B"},         /* a command that nobody knows */
        {"0400 0002 6869", "B"},
        {"0001 61 0001 62 0002 6869", "BBB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        FOR_EACH_STEP(step)
        {
            dialogue *self = begin_ready(step);
            say(self, cases[i].said, step);
            if (strcmp(self->found, cases[i].found) != 0)
                fail_msg("%s, %zu at a time: \"%s\", but \"%s\" was expected", cases[i].said, step,
                         self->found, cases[i].found);
            if (strstr(cases[i].said, "6869")) assert_memory_equal(self->last, "hi", 2);
            finish(self);
        }
}

static void what_breaks_the_rules_ends_the_connection(void **state)
{
    (void)state;
    static const struct {
        const char *said, *why;
    } cases[] = {
        {"0800", "flags 0x08, which mean nothing"},
        {"0500", "flags 0x05"},
        {"ff", "flags 0xff"},
        {"06 0000000000002001", "a command of 8193 bytes, limit 8192"},
        {"0409 05 4552524f52 02 6e6f", "it refused: no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dialogue *self = begin_ready(3);
        say(self, cases[i].said, 2);
        say(self, "00*16", 16); /* a header is complete before it is judged */
        assert_over(self, false, cases[i].why);
        finish(self);
    }
}

static void a_long_body_that_never_comes_costs_nothing(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    say(self, "02 ffffffffffffffff 61*5000", 100);
    assert_int_equal(self->budget.used, 0);
    assert_null(self->zmtp.body);
    assert_int_equal(self->zmtp.stage, AXI_ZMTP_READY);
    finish(self);
}

static void the_budget_is_for_all_messages_that_wait(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    self->budget.limit = 25;
    const uint8_t three[] = "\0\12aaaaaaaaaa\0\12bbbbbbbbbb\0\12cccccccccc";
    assert_int_equal(send(self->fd, three, sizeof three - 1, 0), sizeof three - 1);
    axi_zmtp_read(&self->zmtp, AXI_ZMTP_WAITING);
    assert_int_equal(self->budget.used, 20);
    take_all(self);
    assert_string_equal(self->found, "BBr");
    assert_int_equal(self->budget.used, 0);
    say(self, "000a 64*10", 100);
    assert_string_equal(self->found, "BBrB");
    finish(self);
}

static void a_body_is_charged_as_it_comes(void **state)
{
    (void)state;
    enum { WHOLE = 300000 };
    dialogue *self = begin_ready(100);
    uint8_t *bytes = calloc(1, WHOLE);
    self->zmtp.max_bytes = WHOLE;
    self->budget.limit = 200000;
    say(self, "02 00000000000493e0", 9);
    assert_true(self->budget.used > 0 && self->budget.used < 100000);
    say_bytes(self, bytes, WHOLE - 1, 50000);
    assert_int_equal(self->budget.used, 0); /* the rest did not fit, and what there was is thrown away */
    assert_string_equal(self->found, "");
    say_bytes(self, bytes, 1, 1);
    assert_string_equal(self->found, "r");
    say(self, "0002 6869", 4);
    assert_string_equal(self->found, "rB");
    free(bytes);
    finish(self);
}

static void no_more_is_read_than_may_wait(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    uint8_t many[3 * 2 * AXI_ZMTP_WAITING];
    for (size_t i = 0; i < sizeof many; i += 3)
        memcpy(many + i, "\0\1x", 3);
    assert_int_equal(send(self->fd, many, sizeof many, 0), sizeof many);
    axi_zmtp_read(&self->zmtp, 1000);
    assert_int_equal(self->zmtp.count, AXI_ZMTP_WAITING);
    assert_true(axi_zmtp_has_unread(&self->zmtp));
    take_all(self);
    axi_zmtp_read(&self->zmtp, 1000);
    take_all(self);
    assert_int_equal(self->count, 2 * AXI_ZMTP_WAITING);
    finish(self);
}

/* poll() would say nothing of what was received and not read. */
static void what_was_received_last_is_read_too(void **state)
{
    (void)state;
    enum { BYTES = 16 * 8192 }; /* all that is received at a time */
    dialogue *self = begin_ready(100);
    static uint8_t message[BYTES] = {
        2, 0, 0, 0, 0, 0, (BYTES - 9) >> 16, (BYTES - 9) >> 8 & 255, (BYTES - 9) & 255};
    assert_int_equal(send(self->fd, message, BYTES, 0), BYTES);
    axi_zmtp_read(&self->zmtp, 1);
    assert_false(axi_zmtp_has_unread(&self->zmtp));
    take_all(self);
    assert_string_equal(self->found, "l");
    finish(self);
}

/* ---- pings ------------------------------------------------------------------------------------------- */

static void pings_are_answered_with_what_they_carry(void **state)
{
    (void)state;
    FOR_EACH_STEP(step)
    {
        dialogue *self = begin_ready(step);
        say(self, "0407 0450494e47 0005", step);
        assert_answered(self, "0405 04504f4e47");
        say(self, "0409 0450494e47 0005 6162", step);
        assert_answered(self, "0407 04504f4e47 6162");
        say(self, "0419 0450494e47 0005 61*18", step); /* no more than 16 bytes go back */
        assert_answered(self, "0415 04504f4e47 61*16");
        say(self, "0405 0450494e47", step);
        assert_answered(self, "0405 04504f4e47");
        say(self, "0405 04504f4e47", step);
        assert_answered(self, "");
        finish(self);
    }
}

static void who_sends_pings_is_looked_after_more_often(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    assert_int_equal(axi_zmtp_tick_ms(&self->zmtp), AXI_ZMTP_QUICK_TICK_MS); /* the first may come soon */
    self->zmtp.since -= 1000000000;
    assert_int_equal(axi_zmtp_tick_ms(&self->zmtp), AXI_ZMTP_TICK_MS);
    say(self, "0407 0450494e47 0005", 100);
    assert_int_equal(axi_zmtp_tick_ms(&self->zmtp), AXI_ZMTP_QUICK_TICK_MS);
    finish(self);
}

/* Nobody reads what is answered: all of it may not wait for ever. */
static void very_many_pings_are_not_all_answered(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    const int least = 4096;
    setsockopt(self->zmtp.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    blob ping = from_hex("0417 0450494e47 0005 61*16");
    for (int i = 0; i < 2000; i++)
        say_bytes(self, ping.data, ping.length, ping.length);
    free(ping.data);
    assert_int_equal(self->zmtp.stage, AXI_ZMTP_READY);
    assert_true(axi_zmtp_has_unsent(&self->zmtp));
    uint8_t room[4096];
    ssize_t got, all = 0;
    while ((got = recv(self->fd, room, sizeof room, MSG_DONTWAIT)) > 0) {
        all += got;
        axi_zmtp_flush(&self->zmtp);
    }
    assert_false(axi_zmtp_has_unsent(&self->zmtp));
    assert_int_equal(all % 23, 0); /* whole ones */
    finish(self);
}

/* ---- sending ------------------------------------------------------------------------------------------- */

static void messages_are_framed_by_their_size(void **state)
{
    (void)state;
    static uint8_t much[256];
    dialogue *self = begin_ready(100);
    struct iovec parts[] = {{(void *)(uintptr_t) "h", 1}, {NULL, 0}, {(void *)(uintptr_t) "i", 1}};
    struct iovec long_part = {much, sizeof much};
    axi_zmtp_outgoing outgoing;
    axi_zmtp_prepare(&outgoing, false, parts, 3);
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_SENT);
    assert_answered(self, "0100 0002 6869");
    axi_zmtp_prepare(&outgoing, true, parts, 3);
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_SENT);
    assert_answered(self, "0002 6869");
    axi_zmtp_prepare(&outgoing, true, NULL, 0);
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_SENT);
    assert_answered(self, "0000");
    axi_zmtp_prepare(&outgoing, true, &long_part, 1);
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_SENT);
    assert_answered(self, "02 0000000000000100 00*256");
    finish(self);
}

/* A socket that takes little at a time, parts of every size, and a ping in the middle of the message. */
static void a_message_goes_out_bit_by_bit_and_whole(void **state)
{
    (void)state;
    enum { PARTS = 200, EACH = 997 };
    dialogue *self = begin_ready(100);
    const int least = 4096;
    setsockopt(self->zmtp.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    uint8_t *bytes = malloc(PARTS * EACH), *seen = malloc(PARTS * EACH + 100);
    struct iovec parts[PARTS];
    for (size_t i = 0; i < PARTS * EACH; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    for (size_t i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){bytes + i * EACH, i % 7 == 3 ? 0 : EACH};
    axi_zmtp_outgoing outgoing;
    axi_zmtp_prepare(&outgoing, false, parts, PARTS);
    size_t got = 0, stuck = 0;
    for (axi_zmtp_sent sent; (sent = axi_zmtp_send(&self->zmtp, &outgoing)) != AXI_ZMTP_SENT; stuck++) {
        assert_int_equal(sent, AXI_ZMTP_STUCK);
        if (stuck == 0) say(self, "0409 0450494e47 0005 6162", 100);
        ssize_t more = recv(self->fd, seen + got, 1777, MSG_DONTWAIT);
        assert_true(more > 0);
        got += (size_t)more;
        assert_false(axi_zmtp_flush(&self->zmtp)); /* there is room for it, and it has to wait */
    }
    for (ssize_t more; (more = recv(self->fd, seen + got, 1777, MSG_DONTWAIT)) > 0;
         axi_zmtp_flush(&self->zmtp))
        got += (size_t)more;
    assert_true(stuck > 5);
    size_t at = 11; /* 01 00, and a header of nine bytes */
    for (size_t i = 0; i < PARTS; at += parts[i].iov_len, i++)
        assert_memory_equal(seen + at, parts[i].iov_base, parts[i].iov_len);
    assert_int_equal(got, at + 9);
    assert_memory_equal(seen + at, "\4\7\4PONGab", 9);
    free(bytes);
    free(seen);
    finish(self);
}

static void who_is_gone_is_found_by_sending(void **state)
{
    (void)state;
    dialogue *self = begin_ready(100);
    axi_zmtp_outgoing outgoing;
    shutdown(self->fd, SHUT_RDWR);
    axi_zmtp_prepare(&outgoing, false, NULL, 0);
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_LOST);
    assert_over(self, false, "Broken pipe");
    assert_int_equal(axi_zmtp_send(&self->zmtp, &outgoing), AXI_ZMTP_LOST);
    finish(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greeting_stops_where_versions_part),
        cmocka_unit_test(the_second_version_is_spoken_too),
        cmocka_unit_test(who_does_not_speak_it_is_a_stranger),
        cmocka_unit_test(names_are_taken_up_to_their_limit),
        cmocka_unit_test(who_hangs_up_before_a_word_may_be_tried_again),
        cmocka_unit_test(messages_are_read_however_they_are_framed),
        cmocka_unit_test(what_breaks_the_rules_ends_the_connection),
        cmocka_unit_test(a_long_body_that_never_comes_costs_nothing),
        cmocka_unit_test(the_budget_is_for_all_messages_that_wait),
        cmocka_unit_test(a_body_is_charged_as_it_comes),
        cmocka_unit_test(no_more_is_read_than_may_wait),
        cmocka_unit_test(what_was_received_last_is_read_too),
        cmocka_unit_test(pings_are_answered_with_what_they_carry),
        cmocka_unit_test(who_sends_pings_is_looked_after_more_often),
        cmocka_unit_test(very_many_pings_are_not_all_answered),
        cmocka_unit_test(messages_are_framed_by_their_size),
        cmocka_unit_test(a_message_goes_out_bit_by_bit_and_whole),
        cmocka_unit_test(who_is_gone_is_found_by_sending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

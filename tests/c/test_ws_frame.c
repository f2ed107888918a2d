/* Framing without a connection: headers that are written, frames that are read, in pieces of every size. */
#include "checks.h"
#include "ws_frame.h"

/* ---- what the tests are written with ------------------------------------------------------------- */

/* What reading gave, one letter for each event: m(essage), t(ext), p(ing), o (pong), c(lose), ! (fault). */
typedef struct reading {
    char events[64];
    size_t count;
    axi_ws_message last;
    axi_ws_reader reader;
} reading;

static void note(reading *story, char letter)
{
    if (story->count < sizeof story->events - 1) story->events[story->count++] = letter;
}

static void happen(reading *story, axi_ws_event event)
{
    switch (event) {
    case AXI_WS_GOT_MESSAGE:
        free(story->last.data);
        axi_ws_reader_take(&story->reader, &story->last);
        note(story, story->last.is_text ? 't' : 'm');
        break;
    case AXI_WS_GOT_PING:
        note(story, 'p');
        break;
    case AXI_WS_GOT_PONG:
        note(story, 'o');
        break;
    case AXI_WS_GOT_CLOSE:
        note(story, 'c');
        break;
    case AXI_WS_GOT_FAULT:
        note(story, '!');
        break;
    case AXI_WS_GOT_NOTHING:
        break;
    }
}

static bool is_at_fault(const reading *story)
{
    return story->count && story->events[story->count - 1] == '!';
}

/* Bytes arrive `step` at a time; with `in_place`, payloads are put where the reader wants them. */
static void tell(reading *story, blob bytes, size_t step, bool in_place)
{
    const uint8_t *data = bytes.data;
    for (size_t at = 0; at < bytes.length && !is_at_fault(story);) {
        size_t arrived = bytes.length - at < step ? bytes.length - at : step, used, room;
        uint8_t *place = in_place ? axi_ws_reader_place(&story->reader, &room) : NULL;
        if (place) {
            used = arrived < room ? arrived : room;
            memcpy(place, data + at, used);
            happen(story, axi_ws_reader_placed(&story->reader, used));
        } else {
            happen(story, axi_ws_read(&story->reader, data + at, arrived, &used));
        }
        at += used;
    }
}

static reading begin(uint64_t limit)
{
    return (reading){.reader = {.max_message_bytes = limit}};
}

static void end(reading *story)
{
    free(story->last.data);
    axi_ws_reader_free(&story->reader);
}

/* The frames in `hex` are read as `events`, however they arrive; the last message is `text`. */
static void assert_story(const char *hex, uint64_t limit, const char *events, const char *text)
{
    blob bytes = from_hex(hex);
    for (size_t step = 1; step <= bytes.length + 1; step = step * 2 + 1)
        for (int in_place = 0; in_place < 2; in_place++) {
            reading story = begin(limit);
            tell(&story, bytes, step, in_place);
            assert_string_equal(story.events, events);
            if (text) {
                assert_int_equal(story.last.length, strlen(text));
                assert_memory_equal(story.last.data, text, strlen(text) + 1); /* with its zero */
            }
            end(&story);
        }
    free(bytes.data);
}

/* The frames are refused, however they arrive, with this close code and these words. */
static void assert_fault(const char *hex, axon_status status, int close_code, const char *words)
{
    blob bytes = from_hex(hex);
    for (size_t step = 1; step <= bytes.length; step++) {
        reading story = begin(1000);
        tell(&story, bytes, step, true);
        if (!is_at_fault(&story)) fail_msg("%s was read as \"%s\"", hex, story.events);
        assert_int_equal(story.reader.status, status);
        assert_int_equal(story.reader.close_code, close_code);
        if (!strstr(story.reader.fault, words)) fail_msg("\"%s\" lacks \"%s\"", story.reader.fault, words);
        size_t used;
        assert_int_equal(axi_ws_read(&story.reader, bytes.data, bytes.length, &used), AXI_WS_GOT_FAULT);
        end(&story);
    }
    free(bytes.data);
}

/* ---- writing --------------------------------------------------------------------------------------- */

static void assert_header(uint64_t length, int opcode, const char *hex)
{
    const uint8_t key[4] = {0xa1, 0xb2, 0xc3, 0xd4};
    uint8_t header[AXI_WS_HEADER];
    blob wanted = from_hex(hex);
    blob got = {header, axi_ws_put_header(header, opcode, length, key)};
    assert_same_bytes(got, wanted, hex);
    free(wanted.data);
}

static void headers_use_the_shortest_length_that_fits(void **state)
{
    (void)state;
    assert_header(0, AXI_WS_BINARY, "82 80 a1b2c3d4");
    assert_header(125, AXI_WS_TEXT, "81 fd a1b2c3d4");
    assert_header(126, AXI_WS_BINARY, "82 fe 007e a1b2c3d4");
    assert_header(65535, AXI_WS_BINARY, "82 fe ffff a1b2c3d4");
    assert_header(65536, AXI_WS_BINARY, "82 ff 0000000000010000 a1b2c3d4");
    assert_header(0x123456789a, AXI_WS_BINARY, "82 ff 000000123456789a a1b2c3d4");
    assert_header(2, AXI_WS_CLOSE, "88 82 a1b2c3d4");
}

/* ---- reading --------------------------------------------------------------------------------------- */

static void messages_are_read_however_they_arrive(void **state)
{
    (void)state;
    assert_story("82 05 48656c6c6f", 1000, "m", "Hello");
    assert_story("81 05 48656c6c6f", 1000, "t", "Hello");
    assert_story("82 00", 1000, "m", "");
    assert_story("82 00 82 01 41 81 00", 1000, "mmt", "");
    assert_story("82 7e 0003 616263", 1000, "m", "abc"); /* longer forms than needed are read, too */
    assert_story("82 7f 0000000000000003 616263", 1000, "m", "abc"); /* some servers write them */
}

static void lengths_around_the_borders_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t length;
    } borders[] = {{"82 7d 2a*125", 125},
                   {"82 7e 007e 2a*126", 126},
                   {"82 7e ffff 2a*65535", 65535},
                   {"82 7f 0000000000010000 2a*65536", 65536},
                   {"82 7f 0000000000500000 2a*5242880", 5242880}};
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++) {
        blob bytes = from_hex(borders[i].header);
        reading story = begin(1 << 24);
        tell(&story, bytes, 4096, i % 2);
        assert_string_equal(story.events, "m");
        assert_int_equal(story.last.length, borders[i].length);
        assert_int_equal(story.last.data[borders[i].length - 1], 0x2a);
        end(&story);
        free(bytes.data);
    }
}

static void fragments_become_one_message(void **state)
{
    (void)state;
    assert_story("02 03 616263 00 00 80 02 6465", 1000, "m", "abcde");
    assert_story("01 01 61 80 01 62", 1000, "t", "ab");
    assert_story("02 00 80 00", 1000, "m", "");
    assert_story("01 01 c3 80 01 a4", 1000, "t", "\xc3\xa4"); /* a character in two frames */
}

static void control_frames_may_stand_between_fragments(void **state)
{
    (void)state;
    assert_story("02 01 61 89 02 7071 00 01 62 8a 00 80 01 63", 1000, "pom", "abc");
    assert_story("89 00 82 01 61 89 00", 1000, "pmp", "a");
}

static void a_pings_payload_is_kept_to_be_answered(void **state)
{
    (void)state;
    blob bytes = from_hex("89 7d 55*125");
    reading story = begin(10);
    tell(&story, bytes, 7, true);
    assert_string_equal(story.events, "p");
    assert_int_equal(story.reader.control_length, 125);
    assert_int_equal(story.reader.control[124], 0x55);
    end(&story);
    free(bytes.data);
}

static void closes_tell_their_code_and_reason(void **state)
{
    (void)state;
    blob bytes = from_hex("88 06 03f3 626f6f6d");
    reading told = begin(10);
    tell(&told, bytes, 1, true);
    assert_string_equal(told.events, "c");
    assert_int_equal(axi_ws_close_code(&told.reader), 1011);
    assert_memory_equal(told.reader.control + 2, "boom", 4);
    end(&told);
    free(bytes.data);

    uint8_t empty[] = {0x88, 0};
    reading silent = begin(10);
    tell(&silent, (blob){empty, 2}, 2, true);
    assert_string_equal(silent.events, "c");
    assert_int_equal(axi_ws_close_code(&silent.reader), AXI_WS_NO_CODE);
    end(&silent);
}

static void what_a_server_may_not_send_is_refused(void **state)
{
    (void)state;
    assert_fault("c2 01 61", AXON_EPROTOCOL, 1002, "reserved bit");
    assert_fault("a2 01 61", AXON_EPROTOCOL, 1002, "reserved bit");
    assert_fault("92 01 61", AXON_EPROTOCOL, 1002, "reserved bit");
    assert_fault("c9 00", AXON_EPROTOCOL, 1002, "reserved bit");
    assert_fault("82 81 00000000 61", AXON_EPROTOCOL, 1002, "masked");
    assert_fault("83 01 61", AXON_EPROTOCOL, 1002, "unknown kind");
    assert_fault("87 00", AXON_EPROTOCOL, 1002, "unknown kind");
    assert_fault("8b 00", AXON_EPROTOCOL, 1002, "unknown kind");
    assert_fault("8f 00", AXON_EPROTOCOL, 1002, "unknown kind");
    assert_fault("80 01 61", AXON_EPROTOCOL, 1002, "continuation");
    assert_fault("00 01 61", AXON_EPROTOCOL, 1002, "continuation");
    assert_fault("02 01 61 82 01 62", AXON_EPROTOCOL, 1002, "inside of another");
    assert_fault("02 01 61 81 01 62", AXON_EPROTOCOL, 1002, "inside of another");
    assert_fault("09 00", AXON_EPROTOCOL, 1002, "fragments");
    assert_fault("08 00", AXON_EPROTOCOL, 1002, "fragments");
    assert_fault("89 7e 007e", AXON_EPROTOCOL, 1002, "longer than 125");
    assert_fault("88 7f 0000000000010000", AXON_EPROTOCOL, 1002, "longer than 125");
}

static void lengths_and_codes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    assert_fault("82 7f 8000000000000001", AXON_EPROTOCOL, 1002, "highest bit");
    assert_fault("88 01 03", AXON_EPROTOCOL, 1002, "one byte");
    assert_fault("88 02 03e7", AXON_EPROTOCOL, 1002, "code 999");
    assert_fault("88 02 03ec", AXON_EPROTOCOL, 1002, "code 1004");
    assert_fault("88 02 03ed", AXON_EPROTOCOL, 1002, "code 1005");
    assert_fault("88 02 03ee", AXON_EPROTOCOL, 1002, "code 1006");
    assert_fault("88 02 03f7", AXON_EPROTOCOL, 1002, "code 1015");
    assert_fault("88 02 0bb7", AXON_EPROTOCOL, 1002, "code 2999");
    assert_fault("88 02 1388", AXON_EPROTOCOL, 1002, "code 5000");
}

static void text_must_be_utf8(void **state)
{
    (void)state;
    assert_fault("81 01 ff", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_fault("81 03 eda080", AXON_EPROTOCOL, 1007, "UTF-8"); /* a surrogate */
    assert_fault("01 01 c3 80 01 41", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_fault("88 03 03e8 ff", AXON_EPROTOCOL, 1007, "UTF-8");
}

/* The rest of the frame, or of the message, has not come. */
static void text_is_refused_at_its_first_wrong_byte(void **state)
{
    (void)state;
    assert_fault("81 0a 61 ff", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_fault("81 0a f490", AXON_EPROTOCOL, 1007, "UTF-8"); /* above U+10FFFF, whatever follows */
    assert_fault("81 0a eda0", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_fault("81 0a e09f", AXON_EPROTOCOL, 1007, "UTF-8"); /* longer than need be */
    assert_fault("01 03 cebae1 00 01 41", AXON_EPROTOCOL, 1007, "UTF-8");
    assert_story("01 03 cebae1 00 00 00 02 bdb9 80 01 61", 100, "t",
                 "\xce\xba\xe1\xbd\xb9"
                 "a");
    assert_story("81 0a f48f", 100, "", NULL);
    assert_story("81 0a ed9f", 100, "", NULL);
    assert_story("81 0a e0a0", 100, "", NULL);
}

static void messages_have_a_limit(void **state)
{
    (void)state;
    assert_story("82 7e 03e8 61*1000", 1000, "m", NULL);
    assert_fault("82 7e 03e9 61*1001", AXON_ETOOBIG, 1009, "1001 bytes or more, limit 1000");
    assert_fault("02 7e 03e8 61*1000 80 01 61", AXON_ETOOBIG, 1009, "1001");
    assert_fault("82 7f 7fffffffffffffff", AXON_ETOOBIG, 1009, "9223372036854775807");
    assert_fault("02 01 61 80 7f 7fffffffffffffff", AXON_ETOOBIG, 1009, "limit 1000");
}

static void a_header_alone_claims_little_memory(void **state)
{
    (void)state;
    blob bytes = from_hex("82 7f 0000010000000000 61*100"); /* a tebibyte, it says */
    reading story = begin(UINT64_MAX);
    tell(&story, bytes, 50, true);
    assert_string_equal(story.events, "");
    assert_true(story.reader.capacity <= (size_t)8 << 20);
    assert_int_equal(story.reader.length, 100);
    end(&story);
    free(bytes.data);
}

/* Bytes from nowhere: any events, but no more memory than the limit and no crash. */
static void noise_is_survived(void **state)
{
    (void)state;
    uint32_t seed = 88172645;
    for (int round = 0; round < 3000; round++) {
        uint8_t noise[200];
        for (size_t i = 0; i < sizeof noise; i++) {
            seed = seed * 1664525 + 1013904223;
            noise[i] = (uint8_t)(seed >> 24);
        }
        if (round % 2)
            noise[0] = (uint8_t)((noise[0] & 0x8f) | (round % 4 == 1 ? 2 : 1)); /* a good start */
        if (round % 2) noise[1] &= 0x7f;
        reading story = begin(4096);
        tell(&story, (blob){noise, sizeof noise}, 1 + seed % 200, round % 3);
        assert_true(story.reader.capacity <= 8192);
        end(&story);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_use_the_shortest_length_that_fits),
        cmocka_unit_test(messages_are_read_however_they_arrive),
        cmocka_unit_test(lengths_around_the_borders_are_read),
        cmocka_unit_test(fragments_become_one_message),
        cmocka_unit_test(control_frames_may_stand_between_fragments),
        cmocka_unit_test(a_pings_payload_is_kept_to_be_answered),
        cmocka_unit_test(closes_tell_their_code_and_reason),
        cmocka_unit_test(what_a_server_may_not_send_is_refused),
        cmocka_unit_test(lengths_and_codes_that_cannot_be_are_refused),
        cmocka_unit_test(text_must_be_utf8),
        cmocka_unit_test(text_is_refused_at_its_first_wrong_byte),
        cmocka_unit_test(messages_have_a_limit),
        cmocka_unit_test(a_header_alone_claims_little_memory),
        cmocka_unit_test(noise_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Base64: RFC 4648's own examples, every length, every character, and the vector version against the
 * portable one. */
#include "base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void fill(uint8_t *data, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)next_random(&seed);
}

/* Exactly as large as needed, so that a sanitizer sees every byte too far. */
static char *encoded(const void *data, size_t length, size_t *text_length)
{
    *text_length = axi_base64_length(length);
    char *text = malloc(*text_length + !*text_length);
    assert_non_null(text);
    axi_base64_encode(text, data, length);
    return text;
}

static uint8_t *room_for(const char *text, size_t length)
{
    size_t bytes = axi_base64_decoded_length(text, length);
    uint8_t *data = malloc(bytes + !bytes);
    assert_non_null(data);
    return data;
}

static void decodes_to(const char *text, const char *expected)
{
    size_t length = 99, offset = 99;
    uint8_t *data = room_for(text, strlen(text));
    assert_true(axi_base64_decode(data, &length, text, strlen(text), &offset));
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(data, expected, length);
    free(data);
}

static void is_refused_at(const char *text, size_t place)
{
    size_t length = 99, offset = 99;
    uint8_t *data = room_for(text, strlen(text));
    assert_false(axi_base64_decode(data, &length, text, strlen(text), &offset));
    assert_int_equal(offset, place);
    assert_int_equal(length, 99);
    assert_false(axi_base64_decode_portable(data, &length, text, strlen(text), &offset));
    assert_int_equal(offset, place);
    free(data);
}

static void the_examples_of_rfc_4648_go_both_ways(void **state)
{
    static const char *const examples[][2] = {{"", ""},
                                              {"f", "Zg=="},
                                              {"fo", "Zm8="},
                                              {"foo", "Zm9v"},
                                              {"foob", "Zm9vYg=="},
                                              {"fooba", "Zm9vYmE="},
                                              {"foobar", "Zm9vYmFy"}};
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        size_t length;
        char *text = encoded(examples[i][0], strlen(examples[i][0]), &length);
        assert_int_equal(length, strlen(examples[i][1]));
        assert_memory_equal(text, examples[i][1], length);
        free(text);
        decodes_to(examples[i][1], examples[i][0]);
    }
}

static void every_length_comes_back_as_it_went(void **state)
{
    uint8_t data[400];
    (void)state;
    fill(data, sizeof data, 1);
    for (size_t length = 0; length <= sizeof data; length++) {
        size_t text_length, back_length, offset;
        uint8_t *exact = malloc(length + !length);
        assert_non_null(exact);
        memcpy(exact, data, length);
        char *text = encoded(exact, length, &text_length);
        uint8_t *back = room_for(text, text_length);
        assert_int_equal(axi_base64_decoded_length(text, text_length), length);
        assert_true(axi_base64_decode(back, &back_length, text, text_length, &offset));
        assert_int_equal(back_length, length);
        assert_memory_equal(back, data, length);
        free(back);
        free(text);
        free(exact);
    }
}

static void decoding_may_happen_where_the_text_is(void **state)
{
    uint8_t data[400];
    (void)state;
    fill(data, sizeof data, 2);
    for (size_t length = 0; length <= sizeof data; length++) {
        size_t text_length, back_length, offset;
        char *text = encoded(data, length, &text_length);
        assert_true(axi_base64_decode(text, &back_length, text, text_length, &offset));
        assert_int_equal(back_length, length);
        assert_memory_equal(text, data, length);
        free(text);
        text = encoded(data, length, &text_length);
        assert_true(axi_base64_decode_portable(text, &back_length, text, text_length, &offset));
        assert_memory_equal(text, data, length);
        free(text);
    }
}

static void every_group_of_24_bits_is_encoded_as_the_rfc_says(void **state)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t data[48];
    char text[64];
    (void)state;
    for (uint32_t bits = 0; bits < 1u << 24; bits += 251) { /* odd: every value of every six bits */
        for (size_t i = 0; i < sizeof data; i += 3) {
            data[i] = (uint8_t)(bits >> 16);
            data[i + 1] = (uint8_t)(bits >> 8);
            data[i + 2] = (uint8_t)bits;
        }
        axi_base64_encode(text, data, sizeof data);
        for (size_t i = 0; i < sizeof text; i += 4)
            for (unsigned k = 0; k < 4; k++)
                assert_int_equal(text[i + k], letters[bits >> (18 - 6 * k) & 63]);
    }
}

static void encoding_in_pieces_of_three_gives_the_same_text(void **state)
{
    uint8_t data[1000];
    char whole[1336], pieces[1336];
    (void)state;
    fill(data, sizeof data, 2);
    axi_base64_encode(whole, data, sizeof data);
    uint32_t seed = 3;
    for (size_t at = 0, left = sizeof data; left > 0;) {
        size_t piece = next_random(&seed) % 40 * 3;
        if (piece > left) piece = left;
        axi_base64_encode(pieces + at / 3 * 4, data + at, piece);
        at += piece;
        left -= piece;
    }
    assert_memory_equal(whole, pieces, sizeof whole);
}

static void a_missing_padding_is_accepted(void **state)
{
    (void)state;
    decodes_to("Zg", "f");
    decodes_to("Zm8", "fo");
    decodes_to("Zm9vYg", "foob");
}

static void bits_left_over_in_the_last_character_are_ignored(void **state)
{
    (void)state;
    decodes_to("Zh==", "f");
    decodes_to("Zm9=", "fo");
}

static void padding_is_refused_where_it_does_not_belong(void **state)
{
    (void)state;
    is_refused_at("=", 0);
    is_refused_at("==", 0);
    is_refused_at("====", 0);
    is_refused_at("Z===", 1);
    is_refused_at("Zg=", 2);
    is_refused_at("Zg==Zg==", 2);
    is_refused_at("Z=g=", 1);
    is_refused_at("Zm9v=", 4);
}

static void one_character_alone_is_refused_at_the_end_of_the_text(void **state)
{
    (void)state;
    is_refused_at("Z", 1);
    is_refused_at("Zm9vZ", 5);
}

static void the_url_safe_alphabet_and_line_breaks_are_refused(void **state)
{
    (void)state;
    is_refused_at("Zm9-", 3);
    is_refused_at("Zm_v", 2);
    is_refused_at("Zm9v\nYmFy", 4);
}

static void every_wrong_character_is_found_at_every_place(void **state)
{
    char text[132];
    uint8_t data[99];
    size_t length, offset;
    (void)state;
    for (int wrong = 0; wrong < 256; wrong++) {
        if (wrong != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", wrong))
            continue;
        for (size_t place = 0; place < sizeof text; place++) {
            memset(text, 'Q', sizeof text);
            text[place] = (char)wrong;
            if (wrong == '=' && place == sizeof text - 1) continue;
            assert_false(axi_base64_decode(data, &length, text, sizeof text, &offset));
            assert_int_equal(offset, place);
        }
    }
}

/* Both versions on the same input: same verdict, same bytes or same place. */
static void compare(const char *text, size_t length)
{
    size_t fast_length = 7, slow_length = 7, fast_offset = 8, slow_offset = 8;
    uint8_t *fast = room_for(text, length), *slow = room_for(text, length);
    bool good = axi_base64_decode(fast, &fast_length, text, length, &fast_offset);
    assert_int_equal(good, axi_base64_decode_portable(slow, &slow_length, text, length, &slow_offset));
    assert_int_equal(fast_length, slow_length);
    assert_int_equal(fast_offset, slow_offset);
    if (good) assert_memory_equal(fast, slow, fast_length);
    free(fast);
    free(slow);
}

static void the_vector_version_agrees_with_the_portable_one(void **state)
{
    uint32_t seed = 4;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t text_length, length = next_random(&seed) % 700;
        uint8_t *data = malloc(length + !length);
        assert_non_null(data);
        fill(data, length, next_random(&seed));
        char *text = encoded(data, length, &text_length), *slow = malloc(text_length + !text_length);
        assert_non_null(slow);
        axi_base64_encode_portable(slow, data, length);
        assert_memory_equal(text, slow, text_length);
        compare(text, text_length);
        for (int spoilt = 0; text_length && spoilt < 3; spoilt++) {
            text[next_random(&seed) % text_length] = (char)next_random(&seed);
            compare(text, text_length);
        }
        compare(text, text_length - (text_length ? next_random(&seed) % text_length : 0));
        free(slow);
        free(text);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_rfc_4648_go_both_ways),
        cmocka_unit_test(every_length_comes_back_as_it_went),
        cmocka_unit_test(decoding_may_happen_where_the_text_is),
        cmocka_unit_test(every_group_of_24_bits_is_encoded_as_the_rfc_says),
        cmocka_unit_test(encoding_in_pieces_of_three_gives_the_same_text),
        cmocka_unit_test(a_missing_padding_is_accepted),
        cmocka_unit_test(bits_left_over_in_the_last_character_are_ignored),
        cmocka_unit_test(padding_is_refused_where_it_does_not_belong),
        cmocka_unit_test(one_character_alone_is_refused_at_the_end_of_the_text),
        cmocka_unit_test(the_url_safe_alphabet_and_line_breaks_are_refused),
        cmocka_unit_test(every_wrong_character_is_found_at_every_place),
        cmocka_unit_test(the_vector_version_agrees_with_the_portable_one),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}

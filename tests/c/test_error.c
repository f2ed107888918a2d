/* Errors: their names, and texts that are safe to print whatever a peer put into them. */
#include "internal.h"

#include "checks.h"

#include "utf8.h"

static void every_status_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(axon_status_name(AXON_OK), "AXON_OK");
    assert_string_equal(axon_status_name(AXON_EINVAL), "AXON_EINVAL");
    assert_string_equal(axon_status_name(AXON_ENOMEM), "AXON_ENOMEM");
    assert_string_equal(axon_status_name(AXON_ECANCELED), "AXON_ECANCELED");
    assert_string_equal(axon_status_name(AXON_ETIMEOUT), "AXON_ETIMEOUT");
    assert_string_equal(axon_status_name(AXON_ECONNECT), "AXON_ECONNECT");
    assert_string_equal(axon_status_name(AXON_EPROTOCOL), "AXON_EPROTOCOL");
    assert_string_equal(axon_status_name(AXON_ESERVER), "AXON_ESERVER");
    assert_string_equal(axon_status_name(AXON_EAUTH), "AXON_EAUTH");
    assert_string_equal(axon_status_name(AXON_ETOOBIG), "AXON_ETOOBIG");
    assert_string_equal(axon_status_name(AXON_EIO), "AXON_EIO");
    assert_string_equal(axon_status_name((axon_status)(AXON_EIO + 1)), "AXON_?");
    assert_string_equal(axon_status_name((axon_status)-1), "AXON_?");
}

static void failing_fills_the_error_and_returns_the_status(void **state)
{
    (void)state;
    axon_error err = {.http_status = 404};
    assert_int_equal(axi_fail(&err, AXON_ETIMEOUT, "%s: nothing after %d ms", "ws://robot", 250),
                     AXON_ETIMEOUT);
    assert_int_equal(err.code, AXON_ETIMEOUT);
    assert_int_equal(err.http_status, 0);
    assert_string_equal(err.message, "ws://robot: nothing after 250 ms");
    assert_int_equal(axi_fail(NULL, AXON_EIO, "nobody asks"), AXON_EIO);
}

static void a_message_may_be_made_of_the_one_before(void **state)
{
    (void)state;
    axon_error err;
    axi_fail(&err, AXON_EIO, "no such file");
    axi_fail(&err, AXON_EINVAL, "observation \"top\": %s", err.message);
    assert_string_equal(err.message, "observation \"top\": no such file");
}

static void memory_that_is_missing_is_counted(void **state)
{
    (void)state;
    axon_error err;
    assert_int_equal(axi_no_memory(&err, 5000000000), AXON_ENOMEM);
    assert_string_equal(err.message, "out of memory: no room for 5000000000 bytes");
}

static void long_text_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    char text[1000];
    for (size_t shift = 0; shift < 8; shift++) {
        axon_error err;
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\U0001f916", 5);
        axi_fail(&err, AXON_EIO, "%s", text);
        size_t length = strlen(err.message);
        assert_true(length > AXON_ERROR_TEXT - 5 && length < AXON_ERROR_TEXT);
        assert_true(axi_is_utf8(err.message, length));
        assert_null(strchr(err.message, '?'));
        assert_memory_equal(err.message, text, length);
    }
}

static void what_a_terminal_would_act_upon_is_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *text, *safe;
    } rows[] = {
        {"plain", "plain"},
        {"", ""},
        {"Gr\u00fc\u00dfe \u4e16\u754c \U0001f916", "Gr\u00fc\u00dfe \u4e16\u754c \U0001f916"},
        {"\x1b[31mred\x1b[0m", "?[31mred?[0m"},
        {"two\nlines\r\n\tand tabs\v\f", "two lines   and tabs  "},
        {"bell\a, back\b, delete\x7f", "bell?, back?, delete?"},
        {"\xc2\x9b"
         "31m, \xc2\x80, \xc2\xa0",
         "??31m, ??, \u00a0"}, /* the control characters above ASCII */
        {"\xe9t\xe9", "?t?"},  /* Latin-1 */
        {"\xe9te", "?te"},
        {"\xed\xa0\x80", "???"},
        {"\xf5\x80\x80\x80x", "????x"},
        {"cut \xf0\x9f\xa4", "cut ???"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        axon_error err;
        axi_fail(&err, AXON_ESERVER, "%s", rows[i].text);
        assert_string_equal(err.message, rows[i].safe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_name),
        cmocka_unit_test(failing_fills_the_error_and_returns_the_status),
        cmocka_unit_test(a_message_may_be_made_of_the_one_before),
        cmocka_unit_test(memory_that_is_missing_is_counted),
        cmocka_unit_test(long_text_is_cut_at_a_whole_character),
        cmocka_unit_test(what_a_terminal_would_act_upon_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

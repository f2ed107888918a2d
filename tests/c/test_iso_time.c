/* Timestamps as backends write them. */
#include "iso_time.h"

#include "checks.h"

static void assert_time(const char *text, int64_t wanted)
{
    int64_t ns = -1;
    if (!axi_iso_time_read(text, strlen(text), &ns)) fail_msg("\"%s\" was not read", text);
    if (ns != wanted) fail_msg("\"%s\": %lld, not %lld", text, (long long)ns, (long long)wanted);
}

static void every_usual_form_is_read(void **state)
{
    (void)state;
    const int64_t second = 1000000000, at = 1795273445 * second; /* date -u -d 2026-11-21T15:04:05 +%s */
    assert_time("1970-01-01T00:00:00Z", 0);
    assert_time("1970-01-01T00:00:00.000000001Z", 1);
    assert_time("1969-12-31T23:59:59.5Z", -second / 2);
    assert_time("2026-11-21T15:04:05", at);
    assert_time("2026-11-21 15:04:05", at);
    assert_time("2026-11-21T15:04:05Z", at);
    assert_time("2026-11-21t15:04:05z", at);
    assert_time("2026-11-21T15:04Z", at - 5 * second);
    assert_time("2026-11-21T15:04:05.123456", at + 123456000);
    assert_time("2026-11-21T15:04:05,123Z", at + 123000000);
    assert_time("2026-11-21T15:04:05.1234567899999+00:00", at + 123456789);
    assert_time("2026-11-21T16:04:05+01:00", at);
    assert_time("2026-11-21T20:34:05+0530", at);
    assert_time("2026-11-21T07:04:05-08", at);
    assert_time("2026-11-22T00:04:05+09:00", at);
    assert_time("2024-02-29T00:00:00Z", 1709164800 * second);
    assert_time("2024-03-01T00:00:00Z", (1709164800 + 86400) * second);
    assert_time("2000-02-29T00:00:00Z", 951782400 * second);
    assert_time("2016-12-31T23:59:60Z", 1483228800 * second); /* a leap second */
}

static void what_is_no_time_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "now",
                                        "2026-11-21",
                                        "2026-11-21T",
                                        "2026-11-21T15",
                                        "2026-11-21T15:04:",
                                        "2026-11-21T15:04:05.",
                                        "2026-11-21T15:04:05 ",
                                        "2026-11-21T15:04:05+",
                                        "2026-11-21T15:04:05+1",
                                        "2026-11-21T15:04:05+01:",
                                        "2026-11-21T15:04:05+24:00",
                                        "2026-11-21T15:04:05Zulu",
                                        "2026-11-21T24:00:00",
                                        "2026-11-21T15:60:00",
                                        "2026-11-21T15:04:61",
                                        "2026-13-01T00:00:00",
                                        "2026-00-01T00:00:00",
                                        "2026-02-29T00:00:00",
                                        "1900-02-29T00:00:00",
                                        "2026-11-31T00:00:00",
                                        "2026-11-00T00:00:00",
                                        "1677-12-31T00:00:00",
                                        "2262-01-01T00:00:00",
                                        "26-11-21T15:04:05",
                                        "2026-11-21T15:04:05\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t ns = 7;
        if (axi_iso_time_read(texts[i], strlen(texts[i]), &ns)) fail_msg("\"%s\" was read", texts[i]);
        assert_int_equal(ns, 7);
    }
    int64_t ns;
    assert_false(axi_iso_time_read("2026-11-21T15:04:05\0Z", 21, &ns));
}

static void what_is_printed_is_read_again(void **state)
{
    (void)state;
    static const int64_t times[] = {0, 1795273445123456000, -1000, 951782400000000000,
                                    -9000000000000000000};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[AXI_ISO_TIME_ROOM];
        axi_iso_time_print(text, times[i]);
        assert_time(text, times[i]);
    }
    char text[AXI_ISO_TIME_ROOM];
    axi_iso_time_print(text, 1795273445123456789);
    assert_string_equal(text, "2026-11-21T15:04:05.123456+00:00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_usual_form_is_read),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(what_is_printed_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

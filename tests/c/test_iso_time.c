/* Timestamps as backends write them. */
#include "iso_time.h"

#include "checks.h"

#include <stdbool.h>

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

static void the_basic_form_is_the_same_time(void **state)
{
    (void)state;
    const int64_t second = 1000000000, at = 1795273445 * second;
    assert_time("20260115T103000Z", 1768473000 * second); /* date -u -d 2026-01-15T10:30:00 +%s */
    assert_time("19700101T000000Z", 0);
    assert_time("19691231T235959.5Z", -second / 2);
    assert_time("20261121T150405", at);
    assert_time("20261121 150405", at);
    assert_time("20261121t150405z", at);
    assert_time("20261121T1504", at - 5 * second);
    assert_time("20261121T1504Z", at - 5 * second);
    assert_time("20261121T1604+0100", at - 5 * second);
    assert_time("20261121T150405.123456", at + 123456000);
    assert_time("20261121T150405,123Z", at + 123000000);
    assert_time("20261121T150405.1234567899999+0000", at + 123456789);
    assert_time("20261121T203405+0530", at);
    assert_time("20261121T203405.25+0530", at + second / 4);
    assert_time("20261121T070405-08", at);
    assert_time("20261122T000405+09:00", at);
    assert_time("20240229T000000Z", 1709164800 * second);
    assert_time("20161231T235960Z", 1483228800 * second);
    assert_time("16780101T000000Z", -9214560000 * second);
    assert_time("22611231T235959Z", 9214646399 * second);
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
                                        "2026-11-21T15:04:05\n",
                                        "20261121",
                                        "20261121T",
                                        "20261121T15",
                                        "20261121T150",
                                        "20261121T15040",
                                        "20261121T1504056",
                                        "20261121T150405.",
                                        "20261121T1504.5",
                                        "20261121T150405 ",
                                        "20261121T150405+",
                                        "20261121T150405+1",
                                        "20261121T150405+010",
                                        "20261121T150405+2400",
                                        "20261121T150405+01000",
                                        "20261121T240000",
                                        "20261121T156000",
                                        "20261121T150461",
                                        "20261301T000000",
                                        "20260229T000000",
                                        "20261100T000000",
                                        "16771231T000000",
                                        "22620101T000000",
                                        "261121T150405",
                                        "2026325T150405", /* a day of the year */
                                        "20261121150405", /* no T */
                                        "1795273445",
                                        "20261121T15:04:05", /* half of each form */
                                        "20261121T1504:05",
                                        "20261121T15:0405",
                                        "2026-11-21T150405",
                                        "2026-1121T15:04:05",
                                        "202611-21T15:04:05"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t ns = 7;
        if (axi_iso_time_read(texts[i], strlen(texts[i]), &ns)) fail_msg("\"%s\" was read", texts[i]);
        assert_int_equal(ns, 7);
    }
    int64_t ns;
    assert_false(axi_iso_time_read("2026-11-21T15:04:05\0Z", 21, &ns));
}

/* From memory that ends with the text, so that a sanitizer sees what is read beyond it. */
static bool reads(const char *text, size_t length, int64_t *ns)
{
    char *exact = malloc(length ? length : 1);
    memcpy(exact, text, length);
    *ns = 7;
    bool is_time = axi_iso_time_read(exact, length, ns);
    if (!is_time) assert_int_equal(*ns, 7);
    free(exact);
    return is_time;
}

/* "20261121T150405Z" must be what "2026-11-21T15:04:05Z" is, and no time when that is none. */
static void assert_same_in_both_forms(const char *basic)
{
    char extended[96];
    int64_t ns, same_ns;
    bool has_seconds = strlen(basic) > 13 && basic[13] >= '0' && basic[13] <= '9';
    if (strlen(basic) < 13 || basic[4] == '-' || basic[13] == ':')
        return; /* the other form, or half of it */
    snprintf(extended, sizeof extended, "%.4s-%.2s-%.5s:%.2s%s%s", basic, basic + 4, basic + 6, basic + 11,
             has_seconds ? ":" : "", basic + 13);
    bool is_time = reads(basic, strlen(basic), &ns);
    if (is_time != reads(extended, strlen(extended), &same_ns) || ns != same_ns)
        fail_msg("\"%s\" and \"%s\" differ", basic, extended);
}

static void every_misprint_of_one_form_is_one_of_the_other(void **state)
{
    (void)state;
    static const char *const texts[] = {"20260115T103000Z", "20240229T2359", "20161231 235960.25+0530",
                                        "20261121t070405,123456789-08", "20260101T000000+00:00"};
    static const char letters[] = "0123456789-:T +.,Zz\xc3";
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        const size_t length = strlen(texts[t]);
        assert_same_in_both_forms(texts[t]);
        for (size_t at = 0; at <= length; at++) {
            char changed[64];
            int64_t ns;
            reads(texts[t], at, &ns); /* cut off */
            snprintf(changed, sizeof changed, "%.*s%s", (int)at, texts[t], texts[t] + at + (at < length));
            assert_same_in_both_forms(changed); /* one left out */
            for (const char *letter = letters; *letter; letter++) {
                snprintf(changed, sizeof changed, "%.*s%c%s", (int)at, texts[t], *letter, texts[t] + at);
                assert_same_in_both_forms(changed); /* one too many */
                if (at < length) changed[at + 1] = 0;
                if (at < length) strcat(changed, texts[t] + at + 1);
                assert_same_in_both_forms(changed); /* another one */
            }
        }
    }
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
        cmocka_unit_test(the_basic_form_is_the_same_time),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(every_misprint_of_one_form_is_one_of_the_other),
        cmocka_unit_test(what_is_printed_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

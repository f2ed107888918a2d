/* What every room stands on: version, log, interrupts, time, buffers, addresses. */
#include "internal.h"

#include "checks.h"

#include <axon/policy.h>

#include <unistd.h>

static void the_version_is_the_headers(void **state)
{
    (void)state;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", AXON_VERSION_MAJOR, AXON_VERSION_MINOR,
             AXON_VERSION_PATCH);
    assert_string_equal(axon_version(), version);
}

/* ---- log ----------------------------------------------------------------------------------- */

typedef struct {
    int lines;
    axon_log_level level;
    char text[2048];
} logged;

static void keep_line(axon_log_level level, const char *text, void *user)
{
    logged *log = user;
    log->lines++;
    log->level = level;
    snprintf(log->text, sizeof log->text, "%s", text);
}

static void the_log_function_gets_lines_up_to_its_level(void **state)
{
    (void)state;
    logged log = {0};
    axon_set_log(keep_line, &log, AXON_LOG_INFO);
    assert_true(axi_log_wants(AXON_LOG_INFO));
    assert_false(axi_log_wants(AXON_LOG_DEBUG));
    axi_log(AXON_LOG_DEBUG, "not this");
    assert_int_equal(log.lines, 0);
    axi_log(AXON_LOG_WARN, "%s: tried again after %d ms", "ws://robot", 100);
    assert_int_equal(log.lines, 1);
    assert_int_equal(log.level, AXON_LOG_WARN);
    assert_string_equal(log.text, "ws://robot: tried again after 100 ms");
    axon_set_log(keep_line, &log, AXON_LOG_OFF);
    axi_log(AXON_LOG_WARN, "nor this");
    assert_int_equal(log.lines, 1);
    axon_set_log(NULL, NULL, AXON_LOG_OFF);
}

static void a_log_line_is_one_line_and_safe_to_print(void **state)
{
    (void)state;
    logged log = {0};
    char text[3000];
    axon_set_log(keep_line, &log, AXON_LOG_DEBUG);
    axi_log(AXON_LOG_DEBUG, "the peer said: %s", "a\naxon: forged\x1b[2J\xff");
    assert_string_equal(log.text, "the peer said: a axon: forged?[2J?");
    for (size_t i = 0; i < sizeof text; i += 2)
        memcpy(text + i, "\u00fc", 2);
    text[sizeof text - 1] = 0;
    axi_log(AXON_LOG_DEBUG, "%s", text);
    assert_int_equal(strlen(log.text), 1022);
    assert_null(strchr(log.text, '?'));
    axon_set_log(NULL, NULL, AXON_LOG_OFF);
}

/* What one line of each level puts on standard error when AXON_LOG is `setting`. */
static void log_to_standard_error(const char *setting, char *text, size_t size)
{
    int ends[2], kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    if (setting)
        setenv("AXON_LOG", setting, 1);
    else
        unsetenv("AXON_LOG");
    axon_set_log(NULL, NULL, AXON_LOG_OFF);
    dup2(ends[1], STDERR_FILENO);
    axi_log(AXON_LOG_WARN, "one");
    axi_log(AXON_LOG_INFO, "two");
    axi_log(AXON_LOG_DEBUG, "three");
    dup2(kept, STDERR_FILENO);
    close(ends[1]);
    close(kept);
    ssize_t length = read(ends[0], text, size - 1);
    text[length > 0 ? length : 0] = 0;
    close(ends[0]);
    unsetenv("AXON_LOG");
    axon_set_log(NULL, NULL, AXON_LOG_OFF);
}

static void the_environment_names_the_level_of_standard_error(void **state)
{
    (void)state;
    static const struct {
        const char *setting, *text;
    } rows[] = {
        {NULL, ""},
        {"", ""},
        {"off", ""},
        {"warn", "axon: one\n"},
        {"info", "axon: one\naxon: two\n"},
        {"debug", "axon: one\naxon: two\naxon: three\n"},
        {"DEBUG", "axon: one\naxon: two\naxon: three\n"},
        {"loud", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[256];
        log_to_standard_error(rows[i].setting, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
}

/* ---- interrupts ---------------------------------------------------------------------------- */

static int32_t answer(void *user)
{
    return *(int32_t *)user;
}

static void the_interrupt_function_is_asked(void **state)
{
    (void)state;
    int32_t stop = 0;
    assert_false(axi_interrupted());
    axon_set_interrupt(answer, &stop);
    assert_false(axi_interrupted());
    stop = 1;
    assert_true(axi_interrupted());
    stop = -1;
    assert_true(axi_interrupted());
    axon_set_interrupt(NULL, NULL);
    assert_false(axi_interrupted());
}

/* ---- time ---------------------------------------------------------------------------------- */

static void deadlines_are_rounded_up_and_capped(void **state)
{
    (void)state;
    assert_true(axi_deadline(AXON_FOREVER) == AXI_NEVER);
    assert_int_equal(axi_left_ms(AXI_NEVER, 250), 250);
    assert_int_equal(axi_left_ms(axi_now(), 250), 0);
    assert_int_equal(axi_left_ms(axi_now() - 1000000000, 250), 0);
    assert_int_equal(axi_left_ms(INT64_MIN / 2, 250), 0);
    assert_int_equal(axi_left_ms(axi_deadline(4000000000u), 250), 250);
    int left = axi_left_ms(axi_deadline(60000), 1 << 30);
    assert_in_range(left, 50000, 60000);
    assert_in_range(axi_left_ms(axi_now() + 100000000, 1 << 30), 1, 100);
}

/* ---- buffers ------------------------------------------------------------------------------- */

static void a_buffer_grows_and_keeps_what_is_in_it(void **state)
{
    (void)state;
    axi_buffer buffer = {0};
    assert_true(axi_buffer_add(&buffer, NULL, 0));
    for (uint32_t i = 0; i < 5000; i++)
        assert_true(axi_buffer_add(&buffer, &i, sizeof i));
    assert_int_equal(buffer.length, 20000);
    for (uint32_t i = 0; i < 5000; i++)
        assert_memory_equal(buffer.data + 4 * i, &i, 4);
    assert_false(axi_buffer_reserve(&buffer, SIZE_MAX));
    assert_false(axi_buffer_reserve(&buffer, SIZE_MAX / 2));
    assert_int_equal(buffer.length, 20000);
    axi_buffer_free(&buffer);
    assert_null(buffer.data);
    axi_buffer_free(&buffer);
}

/* ---- addresses ----------------------------------------------------------------------------- */

static void hosts_are_near_or_far(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool is_near;
    } rows[] = {
        {"127.0.0.1", true},
        {"127.255.255.255", true},
        {"127.1", true}, /* as resolvers read it */
        {"0.0.0.0", true},
        {"10.0.0.4", true},
        {"172.15.255.255", false},
        {"172.16.0.1", true},
        {"172.31.255.255", true},
        {"172.32.0.1", false},
        {"192.168.1.1", true},
        {"192.169.1.1", false},
        {"169.254.7.7", true},
        {"100.63.255.255", false},
        {"100.64.0.1", true}, /* carrier-grade NAT */
        {"100.127.255.255", true},
        {"100.128.0.1", false},
        {"8.8.8.8", false},
        {"::1", true},
        {"[::1]", true},
        {"::", true},
        {"::2", false},
        {"::ffff:127.0.0.1", true}, /* IPv4 inside IPv6 */
        {"[::ffff:192.168.0.7]", true},
        {"::ffff:8.8.8.8", false},
        {"fe80::1", true},
        {"fe80::1%eth0", true},
        {"[fe80::1%25eth0]", true},
        {"febf::1", true},
        {"fec0::1", false},
        {"fc00::1", true},
        {"fdff::1", true},
        {"fe00::1", false},
        {"2001:4860:4860::8888", false},
        {"localhost", true},
        {"LOCALHOST", true},
        {"localhost.", true},
        {"robot.localhost", true},
        {"robot.local", true},
        {"Robot.Local.", true},
        {"gpu-server", true},
        {"example.com", false},
        {"example.com.", false},
        {"notlocal.com", false},
        {"local.example.com", false},
        {"10.example.com", false},
        {"", false},
        {"[]", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (axi_host_is_near(rows[i].host, strlen(rows[i].host)) != rows[i].is_near)
            fail_msg("%s", rows[i].host);
}

static void a_host_ends_where_its_length_says(void **state)
{
    (void)state;
    char name[300];
    assert_true(axi_host_is_near("127.0.0.1:8000/path", 9));
    memset(name, 'a', sizeof name);
    assert_false(axi_host_is_near(name, sizeof name)); /* longer than any name */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_the_headers),
        cmocka_unit_test(the_log_function_gets_lines_up_to_its_level),
        cmocka_unit_test(a_log_line_is_one_line_and_safe_to_print),
        cmocka_unit_test(the_environment_names_the_level_of_standard_error),
        cmocka_unit_test(the_interrupt_function_is_asked),
        cmocka_unit_test(deadlines_are_rounded_up_and_capped),
        cmocka_unit_test(a_buffer_grows_and_keeps_what_is_in_it),
        cmocka_unit_test(hosts_are_near_or_far),
        cmocka_unit_test(a_host_ends_where_its_length_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

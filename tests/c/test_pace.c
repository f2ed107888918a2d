/* The pacer: ticks at absolute times, on a clock of the test's own, and stopping on the real one. */
#include "checks.h"

#include <axon/pace.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static axon_error err;

static axon_pacer *pacer_of(double rate_hz)
{
    axon_pacer *pacer = NULL;
    assert_ok(axon_pacer_open(&pacer, rate_hz, &err), &err);
    return pacer;
}

/* Asks for the next tick at `now` and gets there `late` ns after it is due. */
static axon_tick tick_at(axon_pacer *pacer, int64_t now, int64_t late)
{
    int64_t due;
    axon_tick tick;
    assert_ok(axon_pacer_plan(pacer, now, &due, &err), &err);
    assert_ok(axon_pacer_record(pacer, due > now ? due + late : now, &tick, &err), &err);
    assert_int_equal(tick.due_ns, due);
    return tick;
}

static axon_pacer_stats stats_of(const axon_pacer *pacer)
{
    axon_pacer_stats stats;
    assert_ok(axon_pacer_get_stats(pacer, &stats, &err), &err);
    return stats;
}

static int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* ---- planning ------------------------------------------------------------------------------ */

static void an_hour_of_late_ticks_does_not_drift(void **state)
{
    (void)state;
    const double rates[] = {30, 50, 59.94, 200, 1000.0 / 3};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        axon_pacer *pacer = pacer_of(rates[i]);
        uint64_t hour = (uint64_t)(3600 * rates[i]);
        axon_tick tick = {0};
        int64_t now = 17 * SECOND;
        for (uint64_t n = 0; n <= hour; n++) {
            tick = tick_at(pacer, now, (int64_t)(n * 7919 % 900000)); /* up to 0.9 ms late */
            assert_int_equal(tick.number, n);
            now = tick.now_ns + 100000;
        }
        assert_int_equal(tick.due_ns, 17 * SECOND + llround((double)hour / rates[i] * 1e9));
        assert_int_equal(stats_of(pacer).overruns, 0);
        assert_true(fabs(stats_of(pacer).achieved_hz - rates[i]) < 1e-4);
        axon_pacer_close(pacer);
    }
}

static void the_first_tick_is_now(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(10);
    axon_tick tick = tick_at(pacer, 5 * SECOND, 0);
    assert_int_equal(tick.now_ns, 5 * SECOND);
    assert_int_equal(tick.number, 0);
    assert_int_equal(tick_at(pacer, 5 * SECOND, 0).due_ns, 5 * SECOND + SECOND / 10);
    axon_pacer_close(pacer);
}

static void an_overrun_leaves_out_what_it_missed_and_keeps_to_the_grid(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(10);
    tick_at(pacer, 0, 0);
    axon_tick late = tick_at(pacer, 35 * SECOND / 100, 0); /* ticks 1, 2 and 3 are past */
    assert_int_equal(late.number, 3);
    assert_int_equal(late.missed, 2);
    assert_int_equal(late.due_ns, 3 * SECOND / 10);
    assert_int_equal(late.now_ns, 35 * SECOND / 100);
    axon_tick next = tick_at(pacer, 36 * SECOND / 100, 0);
    assert_int_equal(next.number, 4);
    assert_int_equal(next.missed, 0);
    assert_int_equal(next.now_ns, 4 * SECOND / 10);
    axon_pacer_stats stats = stats_of(pacer);
    assert_int_equal(stats.ticks, 3);
    assert_int_equal(stats.overruns, 1);
    assert_int_equal(stats.missed, 2);
    axon_pacer_close(pacer);
}

static void work_that_takes_exactly_one_period_is_no_overrun(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(1000);
    for (int64_t n = 0; n < 100; n++)
        assert_int_equal(tick_at(pacer, n * SECOND / 1000, 0).number, n);
    assert_int_equal(stats_of(pacer).overruns, 0);
    axon_pacer_close(pacer);
}

static void a_tick_that_is_planned_twice_is_the_same_tick(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(10);
    int64_t due;
    tick_at(pacer, 0, 0);
    for (int i = 0; i < 3; i++) {
        assert_ok(axon_pacer_plan(pacer, 1000 * i, &due, &err), &err);
        assert_int_equal(due, SECOND / 10);
    }
    axon_tick tick;
    assert_ok(axon_pacer_plan(pacer, SECOND, &due, &err), &err); /* meanwhile it is past */
    assert_ok(axon_pacer_record(pacer, SECOND, &tick, &err), &err);
    assert_int_equal(tick.number, 10);
    assert_int_equal(tick.missed, 9);
    assert_int_equal(stats_of(pacer).ticks, 2);
    axon_pacer_close(pacer);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static void rates_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const double rates[] = {0, -50, 1e9, 100001, 0.0009, (double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        axon_pacer *pacer = NULL;
        assert_fails(axon_pacer_open(&pacer, rates[i], &err), AXON_EINVAL, &err,
                     "Hz, not 0.001 to 100000 (rate_hz)");
        assert_null(pacer);
    }
    axon_pacer_close(pacer_of(0.001));
    axon_pacer_close(pacer_of(100000));
}

static void a_time_that_goes_backwards_is_refused(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(10);
    int64_t due = -7;
    tick_at(pacer, SECOND, 0);
    assert_fails(axon_pacer_plan(pacer, SECOND - 1, &due, &err), AXON_EINVAL, &err,
                 "time goes backwards, from 1000000000 to 999999999 ns");
    assert_int_equal(due, -7);
    assert_ok(axon_pacer_plan(pacer, SECOND, &due, &err), &err);
    assert_fails(axon_pacer_record(pacer, SECOND / 2, NULL, &err), AXON_EINVAL, &err,
                 "time goes backwards");
    assert_ok(axon_pacer_record(pacer, due, NULL, &err), &err);
    assert_fails(axon_pacer_plan(pacer, -1, &due, &err), AXON_EINVAL, &err, "a time of -1 ns");
    assert_fails(axon_pacer_plan(pacer, INT64_MAX, &due, &err), AXON_EINVAL, &err, "(now_ns)");
    axon_pacer_close(pacer);
}

static void calls_out_of_order_and_null_are_refused(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(10);
    int64_t due;
    axon_pacer_stats stats;
    assert_fails(axon_pacer_record(pacer, 0, NULL, &err), AXON_EINVAL, &err, "was not planned");
    assert_fails(axon_pacer_open(NULL, 10, &err), AXON_EINVAL, &err, "out: it is NULL");
    assert_fails(axon_pacer_wait(NULL, NULL, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_plan(NULL, 0, &due, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_plan(pacer, 0, NULL, &err), AXON_EINVAL, &err, "due_ns: it is NULL");
    assert_fails(axon_pacer_sleep(NULL, 0, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_record(NULL, 0, NULL, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_restart(NULL, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_get_stats(NULL, &stats, &err), AXON_EINVAL, &err, "pacer: it is NULL");
    assert_fails(axon_pacer_get_stats(pacer, NULL, &err), AXON_EINVAL, &err, "stats: it is NULL");
    axon_pacer_stop(NULL);
    axon_pacer_close(NULL);
    axon_pacer_close(pacer);
}

/* ---- statistics ---------------------------------------------------------------------------- */

static void wake_errors_and_jitter_are_of_a_window(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(100);
    assert_true(stats_of(pacer).wake_error.max == 0);
    int64_t now = tick_at(pacer, 0, 0).now_ns;
    now = tick_at(pacer, now, 5000000).now_ns; /* will have left the window */
    for (int i = 0; i < AXON_STATS_WINDOW / 2; i++) {
        now = tick_at(pacer, now, 1000000).now_ns;
        now = tick_at(pacer, now, 3000000).now_ns;
    }
    axon_pacer_stats stats = stats_of(pacer);
    assert_true(fabs(stats.wake_error.p50 - 1) < 1e-5);
    assert_true(fabs(stats.wake_error.p99 - 3) < 1e-5);
    assert_true(fabs(stats.wake_error.max - 3) < 1e-5);
    assert_true(fabs(stats.jitter.p50 - 2) < 1e-5);
    assert_true(stats.rate_hz == 100);
    axon_pacer_close(pacer);
}

static void an_overrun_counts_as_jitter_and_not_as_a_wake_error(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(100);
    tick_at(pacer, 0, 0);
    tick_at(pacer, SECOND / 4, 0);
    assert_true(stats_of(pacer).wake_error.max == 0);
    assert_true(fabs(stats_of(pacer).jitter.max - 240) < 1e-3);
    axon_pacer_close(pacer);
}

/* ---- on the real clock --------------------------------------------------------------------- */

static void waits_do_not_return_early(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(500);
    axon_tick first, tick;
    assert_ok(axon_pacer_wait(pacer, &first, &err), &err);
    for (int i = 0; i < 50; i++) {
        assert_ok(axon_pacer_wait(pacer, &tick, &err), &err);
        assert_true(tick.now_ns >= tick.due_ns && monotonic() >= tick.now_ns);
        assert_int_equal(tick.due_ns, first.due_ns + (int64_t)tick.number * SECOND / 500);
    }
    assert_int_equal(stats_of(pacer).ticks, 51);
    assert_ok(axon_pacer_wait(pacer, NULL, NULL), &err);
    axon_pacer_close(pacer);
}

static void *stop_soon(void *pacer)
{
    usleep(50000);
    axon_pacer_stop(pacer);
    return NULL;
}

static void stop_ends_a_long_wait_and_every_later_one(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(0.001);
    axon_tick tick = {.number = 7};
    pthread_t thread;
    assert_ok(axon_pacer_wait(pacer, NULL, &err), &err);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, pacer), 0);
    assert_fails(axon_pacer_wait(pacer, &tick, &err), AXON_ECANCELED, &err, "it was stopped");
    pthread_join(thread, NULL);
    assert_fails(axon_pacer_wait(pacer, &tick, &err), AXON_ECANCELED, &err, "it was stopped");
    assert_int_equal(tick.number, 7);
    assert_ok(axon_pacer_restart(pacer, &err), &err);
    assert_ok(axon_pacer_wait(pacer, &tick, &err), &err); /* at once: it is the first again */
    assert_int_equal(tick.number, 0);
    assert_int_equal(stats_of(pacer).ticks, 2);
    axon_pacer_close(pacer);
}

static atomic_int is_asked;

static int32_t refuse(void *user)
{
    (void)user;
    return atomic_fetch_add(&is_asked, 1) == 1;
}

static void the_interrupt_function_ends_a_wait_and_the_next_is_for_the_same_tick(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(0.001);
    int64_t due, again;
    axon_set_interrupt(refuse, NULL);
    assert_ok(axon_pacer_wait(pacer, NULL, &err), &err);
    assert_fails(axon_pacer_wait(pacer, NULL, &err), AXON_ECANCELED, &err, "interrupted");
    axon_set_interrupt(NULL, NULL);
    assert_int_equal(atomic_load(&is_asked), 2);
    assert_ok(axon_pacer_plan(pacer, monotonic(), &due, &err), &err);
    assert_ok(axon_pacer_plan(pacer, monotonic(), &again, &err), &err);
    assert_int_equal(due, again);
    axon_pacer_close(pacer);
}

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&is_asked, 1);
}

static int32_t after_a_signal(void *user)
{
    (void)user;
    return atomic_load(&is_asked) > 0;
}

static void a_signal_has_the_interrupt_function_asked(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(0.001);
    struct itimerspec soon = {.it_value.tv_nsec = 30000000};
    timer_t timer;
    atomic_store(&is_asked, 0);
    signal(SIGALRM, on_signal);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &soon, NULL), 0);
    axon_set_interrupt(after_a_signal, NULL);
    assert_ok(axon_pacer_wait(pacer, NULL, &err), &err);
    assert_fails(axon_pacer_wait(pacer, NULL, &err), AXON_ECANCELED, &err, "interrupted");
    axon_set_interrupt(NULL, NULL);
    signal(SIGALRM, SIG_DFL);
    timer_delete(timer);
    axon_pacer_close(pacer);
}

static void *read_often(void *pacer)
{
    for (int i = 0; i < 200; i++)
        stats_of(pacer);
    return NULL;
}

static void statistics_may_be_read_while_another_thread_waits(void **state)
{
    (void)state;
    axon_pacer *pacer = pacer_of(5000);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_often, pacer), 0);
    for (int i = 0; i < 200; i++)
        assert_ok(axon_pacer_wait(pacer, NULL, &err), &err);
    pthread_join(thread, NULL);
    assert_int_equal(stats_of(pacer).ticks, 200);
    axon_pacer_close(pacer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_hour_of_late_ticks_does_not_drift),
        cmocka_unit_test(the_first_tick_is_now),
        cmocka_unit_test(an_overrun_leaves_out_what_it_missed_and_keeps_to_the_grid),
        cmocka_unit_test(work_that_takes_exactly_one_period_is_no_overrun),
        cmocka_unit_test(a_tick_that_is_planned_twice_is_the_same_tick),
        cmocka_unit_test(rates_that_cannot_be_are_refused),
        cmocka_unit_test(a_time_that_goes_backwards_is_refused),
        cmocka_unit_test(calls_out_of_order_and_null_are_refused),
        cmocka_unit_test(wake_errors_and_jitter_are_of_a_window),
        cmocka_unit_test(an_overrun_counts_as_jitter_and_not_as_a_wake_error),
        cmocka_unit_test(waits_do_not_return_early),
        cmocka_unit_test(stop_ends_a_long_wait_and_every_later_one),
        cmocka_unit_test(the_interrupt_function_ends_a_wait_and_the_next_is_for_the_same_tick),
        cmocka_unit_test(a_signal_has_the_interrupt_function_asked),
        cmocka_unit_test(statistics_may_be_read_while_another_thread_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

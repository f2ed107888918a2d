/* Two ways to wait for ticks, for control.py: a bare clock_nanosleep loop, and axon's pacer. They take turns tick by tick,
 * so that whatever else the machine does hits both alike. One order, a line on standard input, and its answer:
 *
 *     round HZ TICKS    nanoseconds from when each tick was due to when the loop was awake: bare, pacer, bare, pacer...
 */
#include <axon/pace.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_TICKS = 100000 };

static axon_error err;
static int64_t numbers[MOST_TICKS];

static void check(axon_status status)
{
    if (status == AXON_OK) return;
    fprintf(stderr, "ticks: %s\n", err.message);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* As anybody writes it. Like the pacer, it leaves out what it has missed: *number is of the tick before. */
static int64_t bare_wait(int64_t start, int64_t period, int64_t *number)
{
    int64_t latest = (now_ns() - start) / period;
    *number = latest > *number + 1 ? latest : *number + 1;
    int64_t due = start + *number * period;
    struct timespec moment = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
    return now_ns() - due;
}

static int64_t pacer_wait(axon_pacer *pacer)
{
    axon_tick tick;
    check(axon_pacer_wait(pacer, &tick, &err));
    return now_ns() - tick.due_ns;
}

/* The pacer's ticks lie in the middle between those of the bare loop. */
static void run_round(double hz, int ticks)
{
    axon_pacer *pacer;
    check(axon_pacer_open(&pacer, hz / 2, &err));
    int64_t start = now_ns(), period = (int64_t)(2e9 / hz), number = 0;
    struct timespec half = {.tv_nsec = period / 2 % 1000000000};
    nanosleep(&half, NULL);
    check(axon_pacer_wait(pacer, NULL, &err));
    for (int i = 0; i < ticks; i += 2) {
        numbers[i] = bare_wait(start, period, &number);
        numbers[i + 1] = pacer_wait(pacer);
    }
    axon_pacer_close(pacer);
    for (int i = 0; i < ticks; i++)
        printf("%s%" PRId64, i ? " " : "", numbers[i]);
    putchar('\n');
    fflush(stdout);
}

int main(void)
{
    char line[128];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double hz;
        int ticks;
        if (sscanf(line, "round %lf %d", &hz, &ticks) != 2 || ticks < 2 || ticks > MOST_TICKS || ticks % 2)
            return 1;
        run_round(hz, ticks);
    }
}

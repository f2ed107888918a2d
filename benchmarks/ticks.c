/* Two ways to wait for ticks, for control.py: a bare clock_nanosleep loop, and axon's pacer. Orders, a line each on standard input, and what is answered on standard output:
 *
 *     bare HZ TICKS    nanoseconds from when each tick was due to when the loop was awake
 *     pacer HZ TICKS   the same, of axon_pacer_wait()
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

static void answer(int count)
{
    for (int i = 0; i < count; i++)
        printf("%s%" PRId64, i ? " " : "", numbers[i]);
    putchar('\n');
    fflush(stdout);
}

static void run_bare(double hz, int ticks)
{
    int64_t start = now_ns();
    for (int i = 0; i < ticks; i++) {
        int64_t due = start + (int64_t)((i + 1) * 1e9 / hz);
        struct timespec moment = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
        numbers[i] = now_ns() - due;
    }
    answer(ticks);
}

static void run_pacer(double hz, int ticks)
{
    axon_pacer *pacer;
    axon_tick tick;
    check(axon_pacer_open(&pacer, hz, &err));
    check(axon_pacer_wait(pacer, NULL, &err));
    for (int i = 0; i < ticks; i++) {
        check(axon_pacer_wait(pacer, &tick, &err));
        numbers[i] = now_ns() - tick.due_ns;
    }
    axon_pacer_close(pacer);
    answer(ticks);
}

int main(void)
{
    char line[128];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double hz;
        int count;
        if (sscanf(line, "bare %lf %d", &hz, &count) == 2 && count > 0 && count <= MOST_TICKS)
            run_bare(hz, count);
        else if (sscanf(line, "pacer %lf %d", &hz, &count) == 2 && count > 0 && count <= MOST_TICKS)
            run_pacer(hz, count);
        else
            return 1;
    }
}

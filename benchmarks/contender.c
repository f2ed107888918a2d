/* The loop around a contender: orders from standard input, figures to standard output.
 *
 *     PROGRAM HOST PORT IMAGES HEIGHT WIDTH
 */
#include "contender.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void contender_fail(const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(1);
}

uint64_t contender_sum_words(const void *data, size_t length)
{
    uint32_t sum = 0, word;
    for (size_t i = 0; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, (const uint8_t *)data + i, sizeof word);
        sum += word;
    }
    return sum;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the observation ----------------------------------------------------------------------- */

static void make_observation(bench_observation *o, uint32_t images, uint32_t height, uint32_t width)
{
    size_t size = (size_t)height * width * CHANNELS;
    *o = (bench_observation){
        .images = images, .height = height, .width = width, .prompt = "pick up the red cup"};
    for (uint32_t i = 0; i < images; i++) {
        snprintf(o->key[i], sizeof o->key[i], "observation/image_%u", i);
        o->pixels[i] = malloc(size);
        if (!o->pixels[i]) contender_fail("no memory for an image of %zu bytes", size);
        for (size_t j = 0; j < size; j++)
            o->pixels[i][j] = (uint8_t)(((uint32_t)j + i) * 2654435761U >> 24);
    }
    for (int i = 0; i < STATE_DIM; i++)
        o->state[i] = (float)i / STATE_DIM;
}

static uint32_t number(const char *text, uint32_t most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value == 0 || value > most) contender_fail("not a number from 1 to %u: %s", most, text);
    return (uint32_t)value;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Makes the peak that /proc reports the present size, so that later peaks are those of the calls. */
static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY);
    if (fd < 0 || write(fd, "5", 1) != 1) contender_fail("cannot reset the peak of memory");
    close(fd);
}

static long peak_kib(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    while (status && fgets(line, sizeof line, status)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, NULL, 10);
    }
    if (status) fclose(status);
    return kib;
}

/* ---- orders -------------------------------------------------------------------------------- */

static void time_round(contender *self, int warm, int count, uint64_t expected_bytes)
{
    for (int i = -warm; i < count; i++) {
        int64_t start = now_ns();
        contender_infer(self);
        int64_t end = now_ns();
        uint64_t received = contender_answer(self).received_bytes;
        if (received != expected_bytes) {
            contender_fail("the server received %llu bytes, not %llu", (unsigned long long)received,
                           (unsigned long long)expected_bytes);
        }
        if (i >= 0) printf("%lld ", (long long)(end - start));
    }
    putchar('\n');
}

/* Round trips one after the other, for as long as it is told. */
static void load(contender *self, int milliseconds, uint64_t expected_bytes)
{
    int64_t start = now_ns(), end = start;
    long count = 0;
    for (; end - start < (int64_t)milliseconds * 1000000; count++) {
        contender_infer(self);
        end = now_ns();
        if (contender_answer(self).received_bytes != expected_bytes)
            contender_fail("the server received another number of bytes");
    }
    printf("%ld %lld\n", count, (long long)(end - start));
}

int main(int argc, char **argv)
{
    if (argc != 6) contender_fail("usage: %s HOST PORT IMAGES HEIGHT WIDTH", argv[0]);
    bench_observation observation;
    make_observation(&observation, number(argv[3], MAX_IMAGES), number(argv[4], 4096),
                     number(argv[5], 4096));
    contender *self = contender_open(argv[1], (int)number(argv[2], 65535), &observation);
    forget_peak();
    long baseline_kib = peak_kib();
    bench_answer checked = {0};

    puts("ready");
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        int warm, count, milliseconds;
        if (strcmp(line, "check\n") == 0) {
            contender_infer(self);
            checked = contender_answer(self);
            printf("%llu %llu %llu\n", (unsigned long long)checked.received_bytes,
                   (unsigned long long)checked.checksum, (unsigned long long)checked.actions_sum);
        } else if (sscanf(line, "round %d %d", &warm, &count) == 2) {
            time_round(self, warm, count, checked.received_bytes);
        } else if (sscanf(line, "load %d", &milliseconds) == 1) {
            load(self, milliseconds, checked.received_bytes);
        } else if (strcmp(line, "memory\n") == 0) {
            printf("%ld %ld\n", baseline_kib, peak_kib());
        } else {
            contender_fail("no such order: %s", line);
        }
        fflush(stdout);
    }
    contender_close(self);
    for (uint32_t i = 0; i < observation.images; i++)
        free(observation.pixels[i]);
    return 0;
}

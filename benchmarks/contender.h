/* What the clients written in C share: the observation, and the loop that takes policy.py's orders.
 *
 * A contender fills in the four functions below; contender.c has main(). contender.py is the same for
 * Python, and its comments say what the orders are.
 */
#ifndef CONTENDER_H
#define CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_IMAGES = 8, STATE_DIM = 8, KEY_BYTES = 32, CHANNELS = 3 };

/* The same in every contender, byte for byte; the checksums of the check pass prove it. */
typedef struct bench_observation {
    uint32_t images;
    uint32_t height;
    uint32_t width;
    char key[MAX_IMAGES][KEY_BYTES];
    uint8_t *pixels[MAX_IMAGES]; /* (height, width, CHANNELS) */
    float state[STATE_DIM];      /* under STATE_KEY */
    const char *prompt;          /* under PROMPT_KEY */
} bench_observation;

#define STATE_KEY "observation/state"
#define PROMPT_KEY "prompt"

/* What the server says of the request, and of what it sent. */
typedef struct bench_answer {
    uint64_t received_bytes;
    uint64_t checksum;    /* 0 unless the server is checking */
    uint64_t actions_sum; /* of the action chunk's 32-bit words, modulo 2^32 */
} bench_answer;

typedef struct contender contender;

/* Connects and reads the server's metadata; ends the process with a message on failure, as the others do. */
contender *contender_open(const char *host, int port, const bench_observation *observation);
/* The round trip that is timed. */
void contender_infer(contender *self);
/* Reads the reply to the last one, off the clock. */
bench_answer contender_answer(const contender *self);
void contender_close(contender *self);

/* Prints the message and ends the process. */
_Noreturn void contender_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The sum of `length` / 4 words. */
uint64_t contender_sum_words(const void *data, size_t length);

#endif

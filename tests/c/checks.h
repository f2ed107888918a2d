/* What the tests of trees share: assertions that name what went wrong, bytes from hex. */
#ifndef CHECKS_H
#define CHECKS_H

#include <axon/value.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    void *data;
    size_t length;
} blob;

#define assert_ok(call, err)                                                                               \
    do {                                                                                                   \
        axon_status status_ = (call);                                                                      \
        if (status_ != AXON_OK) fail_msg("%s: %s: %s", #call, axon_status_name(status_), (err)->message);  \
    } while (0)

/* The call fails with `status`, and its message has `words` in it. */
#define assert_fails(call, status, err, words)                                                             \
    do {                                                                                                   \
        (err)->message[0] = 0;                                                                             \
        axon_status status_ = (call);                                                                      \
        if (status_ != (status) || (err)->code != (int32_t)(status) || !strstr((err)->message, (words)))   \
            fail_msg("%s: %s: \"%s\", but %s and \"%s\" were expected", #call, axon_status_name(status_),  \
                     (err)->message, axon_status_name(status), (words));                                   \
    } while (0)

/* "c403 61*3" as bytes: spaces are skipped, *3 means three times. The caller frees data. */
static inline blob from_hex(const char *hex)
{
    blob out = {malloc(strlen(hex) / 2 + 1), 0};
    size_t capacity = strlen(hex) / 2 + 1;
    while (*hex) {
        unsigned byte, times = 1;
        int used = 0;
        if (*hex == ' ') {
            hex++;
            continue;
        }
        if (sscanf(hex, "%2x%n", &byte, &used) != 1 || used != 2) fail_msg("not hex: %s", hex);
        hex += 2;
        if (*hex == '*') times = (unsigned)strtoul(hex + 1, (char **)(uintptr_t)&hex, 10);
        if (out.length + times > capacity)
            out.data = realloc(out.data, capacity = (out.length + times) * 2);
        memset((uint8_t *)out.data + out.length, (int)byte, times);
        out.length += times;
    }
    return out;
}

static inline void assert_same_bytes(blob got, blob wanted, const char *what)
{
    size_t i = 0, least = got.length < wanted.length ? got.length : wanted.length;
    while (i < least && ((uint8_t *)got.data)[i] == ((uint8_t *)wanted.data)[i])
        i++;
    if (i < least || got.length != wanted.length)
        fail_msg("%s: %zu bytes, not the %zu expected, differing from byte %zu", what, got.length,
                 wanted.length, i);
}

#endif

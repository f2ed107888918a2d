/* What the tests of WebSocket connections share. */
#ifndef WS_CHECKS_H
#define WS_CHECKS_H

#include "checks.h"
#include "fakes/ws_fake.c"
#include "ws.h"

enum { LIMIT = 16 << 20 }; /* of received messages */

#define PATIENT axi_deadline(20000) /* never to be reached */

static axon_error err; /* of the last call */

/* ---- what the tests are written with ------------------------------------------------------------- */

static const axi_ws_options plain_options = {.max_message_bytes = LIMIT};

static inline axi_ws *open_or_fail(const char *url, const axi_ws_options *options)
{
    axi_ws *ws = NULL;
    assert_ok(axi_ws_open(&ws, url, options, PATIENT, &err), &err);
    return ws;
}

static inline axi_ws *connect_to(ws_fake *fake)
{
    return open_or_fail(fake->url, &plain_options);
}

static inline void assert_open_fails(const char *url, const axi_ws_options *options, uint32_t timeout_ms,
                                     axon_status status, const char *words)
{
    axi_ws *ws = NULL;
    assert_fails(axi_ws_open(&ws, url, options, axi_deadline(timeout_ms), &err), status, &err, words);
    if (!strstr(err.message, url)) fail_msg("\"%s\" does not name the URL", err.message);
    assert_null(ws);
}

static inline axon_status send_bytes(axi_ws *ws, const void *data, size_t length, axi_time deadline)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    return axi_ws_send(ws, &part, 1, false, deadline, &err);
}

static inline void send_text(axi_ws *ws, const char *text)
{
    assert_ok(send_bytes(ws, text, strlen(text), PATIENT), &err);
}

static inline void assert_receives(axi_ws *ws, const char *text)
{
    axi_ws_message message;
    assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
    assert_string_equal((char *)message.data, text);
    assert_int_equal(message.length, strlen(text));
    free(message.data);
}

static inline void assert_receive_fails(axi_ws *ws, axon_status status, const char *words)
{
    axi_ws_message message;
    assert_fails(axi_ws_receive(ws, &message, PATIENT, &err), status, &err, words);
    assert_memory_equal(err.message, "ws", 2); /* the URL */
}

static inline void close_now(axi_ws *ws)
{
    axi_ws_close(ws, axi_deadline(300));
}

static inline uint8_t *make_noise(size_t length)
{
    uint8_t *noise = malloc(length + 1);
    uint32_t seed = 12345;
    for (size_t i = 0; i < length; i++)
        noise[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    return noise;
}

static inline bool wait_until(ws_fake *fake, int slot, long number)
{
    for (int i = 0; i < 1000 && ws_noted(fake, slot) < number; i++)
        ws_pause(10);
    return ws_noted(fake, slot) >= number;
}

/* ---- echo ------------------------------------------------------------------------------------------ */

static uint32_t dice = 1;

static inline size_t throw(size_t below)
{
    dice = dice * 1664525 + 1013904223;
    return (dice >> 8) % below;
}

/* Cuts a message into up to nine parts, some of them empty. */
static inline size_t cut(struct iovec parts[9], uint8_t *data, size_t length)
{
    size_t at = 0, count = 0;
    while (count < 8) {
        size_t take = throw(3) ? throw(length - at + 1) : throw(7);
        if (take > length - at) take = length - at;
        parts[count++] = (struct iovec){.iov_base = data + at, .iov_len = take};
        at += take;
    }
    parts[count++] = (struct iovec){.iov_base = data + at, .iov_len = length - at};
    return count;
}

static inline void echo_every_size(axi_ws *ws)
{
    static const size_t sizes[] = {0,      1,      2,      3,      4,      31,     32,     33,
                                   124,    125,    126,    127,    128,    4095,   65521,  65522,
                                   65523,  65534,  65535,  65536,  65537,  65550,  65551,  98304,
                                   131057, 131058, 131059, 131072, 301056, 602112, 2764800};
    uint8_t *noise = make_noise(2764800 + 100);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct iovec parts[9];
        uint8_t *data = noise + throw(100);
        size_t count = cut(parts, data, sizes[i]);
        axi_ws_message message;
        assert_ok(axi_ws_send(ws, parts, count, false, PATIENT, &err), &err);
        assert_ok(axi_ws_receive(ws, &message, PATIENT, &err), &err);
        assert_false(message.is_text);
        assert_same_bytes((blob){message.data, message.length}, (blob){data, sizes[i]}, "echo");
        free(message.data);
    }
    free(noise);
}

#endif

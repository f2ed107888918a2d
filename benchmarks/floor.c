/* The floor: the least that a WebSocket client must do with an observation.
 *
 * A plain blocking socket. The message is described by reference (small glue, images where they are), copied and
 * masked a cache-sized piece at a time, sent, and the reply is read whole. Nothing is checked that a
 * real client must check, nothing is decoded, nobody else is served: no deadline, no ping, no TLS.
 */
#include "contender.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHUNK_BYTES = 4096 * 1024, REPLY_BYTES = 64 * 1024, GLUE_BYTES = 1024, MAX_PARTS = 4 * MAX_IMAGES };

struct contender {
    int fd;
    const bench_observation *observation;
    /* the message, as a scatter list: glue between leaves that stay where they are */
    struct iovec parts[MAX_PARTS];
    size_t part_count;
    uint64_t length;
    uint8_t glue[GLUE_BYTES];
    size_t glue_begin; /* of the part that is being written */
    size_t glue_end;
    uint8_t reply[REPLY_BYTES];
    size_t reply_length;
    uint8_t chunk[CHUNK_BYTES];
};

/* ---- packing by reference ------------------------------------------------------------------ */

static void add(contender *self, const void *data, size_t length)
{
    memcpy(self->glue + self->glue_end, data, length);
    self->glue_end += length;
}

static void add_number(contender *self, uint8_t marker, uint64_t value, size_t bytes)
{
    uint8_t text[9] = {marker};
    for (size_t i = 0; i < bytes; i++)
        text[1 + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    add(self, text, 1 + bytes);
}

static void add_str(contender *self, const char *text)
{
    if (strlen(text) < 32) {
        add_number(self, (uint8_t)(0xa0 | strlen(text)), 0, 0);
    } else {
        add_number(self, 0xd9, strlen(text), 1);
    }
    add(self, text, strlen(text));
}

static void add_bin_key(contender *self, const char *key)
{
    add_number(self, 0xc4, strlen(key), 1);
    add(self, key, strlen(key));
}

static void add_dimension(contender *self, uint32_t size)
{
    if (size < 128) {
        add_number(self, (uint8_t)size, 0, 0);
    } else if (size < 256) {
        add_number(self, 0xcc, size, 1);
    } else {
        add_number(self, 0xcd, size, 2);
    }
}

static void end_part(contender *self, const void *data, size_t length)
{
    self->parts[self->part_count++] = (struct iovec){(void *)(uintptr_t)data, length};
    self->length += length;
}

static void flush_glue(contender *self)
{
    end_part(self, self->glue + self->glue_begin, self->glue_end - self->glue_begin);
    self->glue_begin = self->glue_end;
}

static void add_array(contender *self, const char *dtype, const uint32_t *shape, size_t ndim,
                      const void *data, size_t length)
{
    add_number(self, 0x84, 0, 0);
    add_bin_key(self, "__ndarray__");
    add_number(self, 0xc3, 0, 0);
    add_bin_key(self, "data");
    if (length < 256) {
        add_number(self, 0xc4, length, 1);
    } else {
        add_number(self, length < 65536 ? 0xc5 : 0xc6, length, length < 65536 ? 2 : 4);
    }
    flush_glue(self);
    end_part(self, data, length);
    add_bin_key(self, "dtype");
    add_str(self, dtype);
    add_bin_key(self, "shape");
    add_number(self, (uint8_t)(0x90 | ndim), 0, 0);
    for (size_t i = 0; i < ndim; i++)
        add_dimension(self, shape[i]);
}

static void pack(contender *self)
{
    const bench_observation *o = self->observation;
    const uint32_t shape[] = {o->height, o->width, CHANNELS};
    const uint32_t state_shape[] = {STATE_DIM};
    self->part_count = self->glue_begin = self->glue_end = 0;
    self->length = 0;
    add_number(self, (uint8_t)(0x80 | (o->images + 2)), 0, 0);
    for (uint32_t i = 0; i < o->images; i++) {
        add_str(self, o->key[i]);
        add_array(self, "|u1", shape, 3, o->pixels[i], (size_t)o->height * o->width * CHANNELS);
    }
    add_str(self, STATE_KEY);
    add_array(self, "<f4", state_shape, 1, o->state, sizeof o->state);
    add_str(self, PROMPT_KEY);
    add_str(self, o->prompt);
    flush_glue(self);
}

/* ---- sending ------------------------------------------------------------------------------- */

/* `key` is the mask twice over, turned so that its first byte is that of from[0]. Four separate words, because
 * compilers keep an array of them in memory. */
__attribute__((target_clones("avx2", "default"))) static void
copy_and_mask(uint8_t *restrict to, const uint8_t *restrict from, size_t length, uint64_t key)
{
    uint64_t a, b, c, d;
    size_t i = 0;
    for (; i + 32 <= length; i += 32) {
        memcpy(&a, from + i, 8);
        memcpy(&b, from + i + 8, 8);
        memcpy(&c, from + i + 16, 8);
        memcpy(&d, from + i + 24, 8);
        a ^= key;
        b ^= key;
        c ^= key;
        d ^= key;
        memcpy(to + i, &a, 8);
        memcpy(to + i + 8, &b, 8);
        memcpy(to + i + 16, &c, 8);
        memcpy(to + i + 24, &d, 8);
    }
    for (; i < length; i++)
        to[i] = from[i] ^ (uint8_t)(key >> (8 * (i & 7)));
}

static uint64_t turned(const uint8_t mask[4], uint64_t offset)
{
    uint64_t key = 0;
    for (int i = 0; i < 8; i++)
        key |= (uint64_t)mask[(offset + (uint64_t)i) & 3] << (8 * i);
    return key;
}

static void send_all(contender *self, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(self->fd, data, length, MSG_NOSIGNAL);
        if (sent <= 0) contender_fail("floor: the connection was lost while sending");
        data += sent;
        length -= (size_t)sent;
    }
}

static size_t put_header(uint8_t *to, uint64_t length, const uint8_t mask[4])
{
    to[0] = 0x82;
    to[1] = 0xff;
    for (int i = 0; i < 8; i++)
        to[2 + i] = (uint8_t)(length >> (8 * (7 - i)));
    memcpy(to + 10, mask, 4);
    return 14;
}

static void send_message(contender *self)
{
    uint8_t mask[4];
    if (getrandom(mask, sizeof mask, 0) != sizeof mask) contender_fail("floor: no random bytes");
    size_t filled = put_header(self->chunk, self->length, mask);
    uint64_t offset = 0;
    for (size_t i = 0; i < self->part_count; i++) {
        const uint8_t *from = self->parts[i].iov_base;
        for (size_t left = self->parts[i].iov_len; left > 0;) {
            size_t piece = left < CHUNK_BYTES - filled ? left : CHUNK_BYTES - filled;
            copy_and_mask(self->chunk + filled, from, piece, turned(mask, offset));
            filled += piece;
            offset += piece;
            from += piece;
            left -= piece;
            if (filled == CHUNK_BYTES) {
                send_all(self, self->chunk, filled);
                filled = 0;
            }
        }
    }
    send_all(self, self->chunk, filled);
}

/* ---- receiving ----------------------------------------------------------------------------- */

/* One whole frame of at most 64 KiB, header included, into self->reply. */
static void receive_message(contender *self)
{
    const uint8_t *head = self->reply;
    size_t got = 0, want = 4;
    while (got < want) {
        ssize_t more = recv(self->fd, self->reply + got, sizeof self->reply - got, 0);
        if (more <= 0) contender_fail("floor: the connection was lost while receiving");
        got += (size_t)more;
        if (got < 4) continue;
        want = head[1] < 126 ? 2 + (size_t)head[1] : 4 + (size_t)(head[2] << 8 | head[3]);
        if (head[0] != 0x82 || head[1] > 126 || want > sizeof self->reply) {
            contender_fail("floor: a frame that the sink does not send: %02x %02x", head[0], head[1]);
        }
    }
    self->reply_length = got;
}

/* ---- the contender ------------------------------------------------------------------------- */

static int connect_to(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) contender_fail("floor: not an address: %s", host);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        contender_fail("floor: no connection to %s:%d", host, port);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* not paced, as axon is not on loopback */
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    return fd;
}

static void upgrade(contender *self)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: YXhvbiBtZWFzdXJlcyBpdA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n";
    char response[1024];
    size_t length = 0;
    send_all(self, (const uint8_t *)request, sizeof request - 1);
    while (length < 4 || memcmp(response + length - 4, "\r\n\r\n", 4) != 0) {
        if (length == sizeof response || recv(self->fd, response + length, 1, 0) != 1) {
            contender_fail("floor: no answer to the upgrade");
        }
        length++;
    }
    if (memcmp(response, "HTTP/1.1 101", 12) != 0) contender_fail("floor: the upgrade was refused");
}

contender *contender_open(const char *host, int port, const bench_observation *observation)
{
    contender *self = calloc(1, sizeof *self);
    if (!self) contender_fail("floor: no memory");
    self->observation = observation;
    self->fd = connect_to(host, port);
    upgrade(self);
    receive_message(self); /* the metadata */
    return self;
}

void contender_infer(contender *self)
{
    pack(self);
    send_message(self);
    receive_message(self);
}

/* The `bytes` bytes behind msgpack's key `name` and one marker byte. */
static uint64_t find_number(const contender *self, const char *name, size_t bytes)
{
    const uint8_t *found = memmem(self->reply, self->reply_length, name, strlen(name));
    if (!found) contender_fail("floor: the reply has no %s", name);
    found += strlen(name) + 1;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | found[i];
    return value;
}

bench_answer contender_answer(const contender *self)
{
    static const char key[] = "\xc4\x04"
                              "data\xc5";
    const uint8_t *data = memmem(self->reply, self->reply_length, key, sizeof key - 1);
    if (!data) contender_fail("floor: the reply has no actions");
    data += sizeof key - 1;
    return (bench_answer){.received_bytes = find_number(self, "received_bytes", 8),
                          .checksum = find_number(self, "checksum", 4),
                          .actions_sum = contender_sum_words(data + 2, (size_t)(data[0] << 8 | data[1]))};
}

void contender_close(contender *self)
{
    close(self->fd);
    free(self);
}

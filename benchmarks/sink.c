/* The policy server of the benchmark: reads whole messages, throws them away, answers each with an action chunk.
 *
 * Plain sockets and one thread per connection, so that what is measured is the client. It takes orders as sinks.h
 * says: answers carry the number of payload bytes and, while checking, the CRC-32 of the unmasked payload.
 */
#include "sinks.h"

#include <openssl/evp.h>

#include <stdio.h>
#include <string.h>

enum {
    HORIZON = 50, /* actions (HORIZON, ACTION_DIM) float32: 6400 bytes */
    ACTION_DIM = 32,
    HEADER_BYTES = 8192, /* of the upgrade request */
    CONTROL_BYTES = 125, /* the longest ping or close that the protocol allows */
    REPLY_BYTES = 8192
};

enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static uint32_t crc_table[256];

/* The one message that is sent again and again, with two numbers patched in. */
static struct {
    uint8_t frame[REPLY_BYTES];
    size_t length;
    size_t received_at; /* where the uint64 "received_bytes" lies */
    size_t checksum_at; /* where the uint32 "checksum" lies */
} reply;

/* The two small messages that the peer gets before its first request. */
static struct {
    uint8_t frame[128];
    size_t length;
} metadata;

typedef struct frame {
    bool final;
    int opcode;
    uint64_t length;
    uint8_t mask[4];
} frame;

/* ---- building the answers ------------------------------------------------------------------ */

static size_t put(uint8_t *to, size_t at, const void *data, size_t length)
{
    memcpy(to + at, data, length);
    return at + length;
}

static size_t put_byte(uint8_t *to, size_t at, int byte)
{
    to[at] = (uint8_t)byte;
    return at + 1;
}

static size_t put_big_endian(uint8_t *to, size_t at, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[at + i] = (uint8_t)(number >> (8 * (bytes - 1 - i)));
    return at + bytes;
}

/* msgpack: short strings and byte strings */
static size_t put_str(uint8_t *to, size_t at, const char *text)
{
    return put(to, put_byte(to, at, 0xa0 | (int)strlen(text)), text, strlen(text));
}

static size_t put_bin_key(uint8_t *to, size_t at, const char *text)
{
    at = put_byte(to, put_byte(to, at, 0xc4), (int)strlen(text));
    return put(to, at, text, strlen(text));
}

/* msgpack: the action chunk as openpi marks an ndarray */
static size_t put_actions(uint8_t *to, size_t at)
{
    float actions[HORIZON * ACTION_DIM];
    for (int i = 0; i < HORIZON * ACTION_DIM; i++)
        actions[i] = (float)i / 128.0F;

    at = put_byte(to, at, 0x84);
    at = put_byte(to, put_bin_key(to, at, "__ndarray__"), 0xc3);
    at = put_byte(to, put_bin_key(to, at, "data"), 0xc5);
    at = put_big_endian(to, at, sizeof actions, 2);
    at = put(to, at, actions, sizeof actions);
    at = put_str(to, put_bin_key(to, at, "dtype"), "<f4");
    at = put_byte(to, put_bin_key(to, at, "shape"), 0x92);
    at = put_byte(to, at, HORIZON);
    return put_byte(to, at, ACTION_DIM);
}

/* A WebSocket frame's header for a payload of up to 64 KiB; the payload follows at the returned offset. */
static size_t put_frame_header(uint8_t *to, int opcode, size_t payload)
{
    size_t at = put_byte(to, 0, 0x80 | opcode);
    if (payload < 126) return put_byte(to, at, (int)payload);
    return put_big_endian(to, put_byte(to, at, 126), payload, 2);
}

static void build_reply(void)
{
    uint8_t body[REPLY_BYTES];
    const double infer_ms = 0.0;
    uint64_t bits;
    memcpy(&bits, &infer_ms, sizeof bits);

    size_t at = put_byte(body, 0, 0x84);
    at = put_actions(body, put_str(body, at, "actions"));
    at = put_byte(body, put_str(body, at, "server_timing"), 0x81);
    at = put_byte(body, put_str(body, at, "infer_ms"), 0xcb);
    at = put_big_endian(body, at, bits, 8);
    at = put_byte(body, put_str(body, at, "received_bytes"), 0xcf);
    size_t received_at = at;
    at = put_byte(body, put_str(body, at + 8, "checksum"), 0xce);
    size_t checksum_at = at;
    at += 4;

    size_t header = put_frame_header(reply.frame, OP_BINARY, at);
    reply.length = put(reply.frame, header, body, at);
    reply.received_at = header + received_at;
    reply.checksum_at = header + checksum_at;
}

static void build_metadata(void)
{
    uint8_t body[64];
    size_t at = put_str(body, put_str(body, put_byte(body, 0, 0x81), "policy"), "sink");
    metadata.length = put(metadata.frame, put_frame_header(metadata.frame, OP_BINARY, at), body, at);
}

/* ---- CRC-32, as in zlib -------------------------------------------------------------------- */

static void build_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320U : 0);
        crc_table[i] = crc;
    }
}

/* `offset` is that of data[0] within its frame. */
static uint32_t crc_of_masked(uint32_t crc, const uint8_t *data, size_t length, const uint8_t mask[4],
                              uint64_t offset)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = data[i] ^ mask[(offset + i) & 3];
        crc = (crc >> 8) ^ crc_table[(crc ^ byte) & 0xff];
    }
    return crc;
}

/* ---- reading ------------------------------------------------------------------------------- */

/* False when the peer is gone or breaks the protocol. */
static bool read_frame_header(sink_peer *peer, frame *head)
{
    uint8_t bytes[8];
    if (!sink_take(peer, bytes, 2)) return false;
    head->final = bytes[0] & 0x80;
    head->opcode = bytes[0] & 0x0f;
    head->length = bytes[1] & 0x7f;
    if ((bytes[0] & 0x70) || !(bytes[1] & 0x80)) {
        fprintf(stderr, "sink: a frame with reserved bits or without a mask: %02x %02x\n", bytes[0],
                bytes[1]);
        return false;
    }
    size_t more = head->length == 126 ? 2 : head->length == 127 ? 8 : 0;
    if (more > 0) {
        if (!sink_take(peer, bytes, more)) return false;
        head->length = 0;
        for (size_t i = 0; i < more; i++)
            head->length = head->length << 8 | bytes[i];
    }
    return sink_take(peer, head->mask, sizeof head->mask);
}

/* Reads a data frame's payload and forgets it, having added it to *crc when `check`. */
static bool pass_payload(sink_peer *peer, const frame *head, bool check, uint32_t *crc)
{
    for (uint64_t done = 0; done < head->length;) {
        if (peer->begin == peer->end && !sink_fill(peer)) return false;
        size_t part = peer->end - peer->begin;
        if (part > head->length - done) part = (size_t)(head->length - done);
        if (check) *crc = crc_of_masked(*crc, peer->buffer + peer->begin, part, head->mask, done);
        peer->begin += part;
        done += part;
    }
    return true;
}

/* Answers a ping or a close. False when the connection has ended. */
static bool answer_control(sink_peer *peer, const frame *head)
{
    uint8_t answer[2 + CONTROL_BYTES];
    if (head->length > CONTROL_BYTES || !sink_take(peer, answer + 2, (size_t)head->length)) return false;
    for (size_t i = 0; i < head->length; i++)
        answer[2 + i] ^= head->mask[i & 3];
    if (head->opcode == OP_PONG) return true;
    put_frame_header(answer, head->opcode == OP_PING ? OP_PONG : OP_CLOSE, (size_t)head->length);
    return sink_send(peer, answer, 2 + (size_t)head->length) && head->opcode == OP_PING;
}

/* ---- one connection ------------------------------------------------------------------------ */

static bool upgrade(sink_peer *peer)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char request[HEADER_BYTES], keyed[256], accept[64], answer[256];
    if (!sink_take_head(peer, request, sizeof request)) return false;

    static const char name[] = "\r\nSec-WebSocket-Key:";
    const char *key = strcasestr(request, name);
    if (!key) return false;
    key += sizeof name - 1;
    key += strspn(key, " ");
    int cut = snprintf(keyed, sizeof keyed, "%.*s%s", (int)strcspn(key, " \r"), key, guid);
    if (cut < 0 || (size_t)cut >= sizeof keyed) return false;

    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int digest_length = 0;
    if (!EVP_Digest(keyed, (size_t)cut, digest, &digest_length, EVP_sha1(), NULL)) return false;
    EVP_EncodeBlock((unsigned char *)accept, digest, (int)digest_length);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    return sink_send(peer, answer, (size_t)size) && sink_send(peer, metadata.frame, metadata.length);
}

/* Reads one whole message, however many frames it is in, and answers it. */
static bool serve_message(sink_peer *peer, uint8_t *answer)
{
    bool check = false;
    uint64_t received = 0;
    uint32_t crc = 0xffffffffU;
    for (frame head = {0}; !head.final || head.opcode >= OP_CLOSE;) {
        if (!read_frame_header(peer, &head)) return false;
        if (head.opcode >= OP_CLOSE) {
            if (!answer_control(peer, &head)) return false;
            continue;
        }
        if (received == 0) check = atomic_load(&sinks_checking);
        if (!pass_payload(peer, &head, check, &crc)) return false;
        received += head.length;
    }
    put_big_endian(answer, reply.received_at, received, 8);
    put_big_endian(answer, reply.checksum_at, check ? ~crc : 0, 4);
    return sink_send(peer, answer, reply.length);
}

static void serve(sink_peer *peer)
{
    uint8_t answer[REPLY_BYTES];
    memcpy(answer, reply.frame, reply.length);
    if (upgrade(peer)) {
        while (serve_message(peer, answer))
            continue;
    }
}

int main(void)
{
    build_crc_table();
    build_reply();
    build_metadata();
    return sinks_run(serve);
}

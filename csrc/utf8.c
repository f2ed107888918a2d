/* See utf8.h. */
#include "utf8.h"

#include <string.h>

size_t axi_utf8_decode(const void *text, size_t length, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *s = text;
    if (length == 0) return 0;
    size_t size = s[0] < 0x80   ? 1
                  : s[0] < 0xc2 ? 0
                  : s[0] < 0xe0 ? 2
                  : s[0] < 0xf0 ? 3
                  : s[0] < 0xf5 ? 4
                                : 0;
    if (size == 0 || size > length) return 0;
    uint32_t point = size == 1 ? s[0] : s[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (s[i] & 0x3fu);
    }
    if (point < least[size] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
    if (code) *code = point;
    return size;
}

size_t axi_utf8_encode(char text[4], uint32_t code)
{
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        text[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    text[0] = (char)((0xf00u >> size & 0xff) | code);
    return size;
}

/* The bytes of plain ASCII that `text` begins with, or a few less. */
static size_t ascii_words(const uint8_t *text, size_t length)
{
    size_t done = 0;
    for (uint64_t words[4]; length - done >= sizeof words; done += sizeof words) {
        memcpy(words, text + done, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080) break;
    }
    return done;
}

bool axi_is_utf8(const void *data, size_t length)
{
    const uint8_t *text = data;
    size_t done = 0;
    while (done < length) {
        done += ascii_words(text + done, length - done);
        /* what follows is likely of one kind, so stay with the slow way for a while */
        for (int i = 0; i < 32 && done < length; i++) {
            size_t size = axi_utf8_decode(text + done, length - done, NULL);
            if (size == 0) return false;
            done += size;
        }
    }
    return true;
}

/* A second byte's range is cut short at one end only, so the lowest or the highest byte always fits. */
bool axi_utf8_is_begun(const void *text, size_t length)
{
    static const uint8_t fillers[] = {0x80, 0xbf};
    for (size_t i = 0; i < sizeof fillers; i++) {
        uint8_t whole[4];
        memset(whole, fillers[i], sizeof whole);
        memcpy(whole, text, length < sizeof whole ? length : sizeof whole);
        if (axi_utf8_decode(whole, sizeof whole, NULL) > length) return true;
    }
    return false;
}

size_t axi_utf8_cut(const char *text, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        uint8_t byte = (uint8_t)text[length - back];
        if ((byte & 0xc0) == 0x80) continue;
        size_t size = byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
        return size > back ? length - back : length;
    }
    return length;
}

void axi_make_printable(char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        uint32_t code = 0;
        size_t size = axi_utf8_decode(text, left, &code);
        bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
        if (size == 0 || is_control) {
            bool is_break = size == 1 && code >= '\t' && code <= '\r';
            size = size ? size : 1;
            memset(text, is_break ? ' ' : '?', size);
        }
        text += size;
        left -= size;
    }
}

typedef int8_t lane __attribute__((vector_size(16)));

#define SPLAT(c)                                                                                           \
    {                                                                                                      \
        c, c, c, c, c, c, c, c, c, c, c, c, c, c, c, c                                                     \
    }

/* Base64 of a megabyte passes here, so it is looked at 64 bytes at a time. */
size_t axi_plain_length(const char *text, size_t length)
{
    static const lane space = SPLAT(' '), quote = SPLAT('"'), backslash = SPLAT('\\');
    size_t done = 0;
    for (; length - done >= 4 * sizeof(lane); done += 4 * sizeof(lane)) {
        lane in[4], special = {0};
        uint64_t any[2];
        memcpy(in, text + done, sizeof in);
        for (int i = 0; i < 4; i++) /* signed: what is not ASCII is less than a space, too */
            special |= (lane)(in[i] < space) | (lane)(in[i] == quote) | (lane)(in[i] == backslash);
        memcpy(any, &special, sizeof any);
        if (any[0] | any[1]) break;
    }
    while (done < length && (uint8_t)text[done] - 0x20u < 0x60 && text[done] != '"' && text[done] != '\\')
        done++;
    return done;
}

/* Base64 (RFC 4648, padded), as fast as the machine reads memory. */
#ifndef AXI_BASE64_H
#define AXI_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t axi_base64_length(size_t bytes)
{
    return bytes / 3 * 4 + (bytes % 3 ? 4 : 0);
}

/* Writes axi_base64_length(length) characters, no ending zero. May be called piecewise when every piece but
 * the last has a length divisible by 3. */
void axi_base64_encode(char *text, const void *data, size_t length);

/* The bytes that `text` decodes to at most. */
size_t axi_base64_decoded_length(const char *text, size_t length);

/* Strict: padding and alphabet are checked; a missing padding is accepted, and so are bits left over in the
 * last character, as Python's b64decode does. False when it is not base64, `*offset` being the place of the
 * first wrong character, or `length` when the text ends too early. `data` has room for
 * axi_base64_decoded_length() bytes and may be `text` itself, but not overlap it elsewhere; it is garbage after a
 * failure. */
bool axi_base64_decode(void *data, size_t *data_length, const char *text, size_t length, size_t *offset);

/* The same without this processor's vector instructions, for the tests to compare. */
void axi_base64_encode_portable(char *text, const void *data, size_t length);
bool axi_base64_decode_portable(void *data, size_t *data_length, const char *text, size_t length,
                                size_t *offset);

#endif

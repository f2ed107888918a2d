/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef AXI_UTF8_H
#define AXI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character that `text` begins with and, unless `code` is NULL, its code point; 0 when it
 * is none or is cut off. */
size_t axi_utf8_decode(const void *text, size_t length, uint32_t *code);

/* Writes one character, 1 to 4 bytes; 0 when `code` is no code point, or is a surrogate. */
size_t axi_utf8_encode(char text[4], uint32_t code);

bool axi_is_utf8(const void *data, size_t length);

/* True when bytes can be added to the 1 to 3 of `text` that make them one character. */
bool axi_utf8_is_begun(const void *text, size_t length);

/* The largest length up to `length` that does not end inside a character. */
size_t axi_utf8_cut(const char *text, size_t length);

/* The length of the printable ASCII that `text` begins with, without quotes and backslashes: what stands in a
 * JSON string as it is. */
size_t axi_plain_length(const char *text, size_t length);

/* Makes text safe to print, in place: line breaks and tabs become spaces, other control characters and bytes
 * that are not UTF-8 become '?'. */
void axi_make_printable(char *text);

#endif

/* See axon/error.h. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    "AXON_OK",        "AXON_EINVAL",  "AXON_ENOMEM", "AXON_ECANCELED", "AXON_ETIMEOUT", "AXON_ECONNECT",
    "AXON_EPROTOCOL", "AXON_ESERVER", "AXON_EAUTH",  "AXON_ETOOBIG",   "AXON_EIO",
};
_Static_assert(sizeof names / sizeof *names == AXON_EIO + 1, "one name per axon_status");
_Static_assert(sizeof(axon_error) == 512, "axon_error is 512 bytes, as its comment promises");

const char *axon_status_name(axon_status status)
{
    size_t index = (size_t)status;
    return index < sizeof names / sizeof *names ? names[index] : "AXON_?";
}

/* The length of the UTF-8 character at `s`, 0 when there is none. */
static size_t character(const unsigned char *s)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f;
    size_t length = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (s[0] >= 0xf5 || length == 0) return 0;
    unsigned code = s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

static void make_printable(char *text)
{
    unsigned char *in = (unsigned char *)text;
    while (*in) {
        size_t length = character(in);
        if (length == 0) {
            bool cut = (in[0] & 0xc0) == 0xc0 && strlen((char *)in) < 4;
            if (cut) { /* the last character did not fit */
                *in = 0;
                return;
            }
            if (*in != '\n') *in = '?';
            length = 1;
        }
        in += length;
    }
}

axon_status axi_fail(axon_error *err, axon_status status, const char *format, ...)
{
    if (!err) return status;
    char text[AXON_ERROR_TEXT]; /* arguments may point into err->message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_printable(text);
    err->code = (int32_t)status;
    err->http_status = 0;
    memcpy(err->message, text, sizeof text);
    return status;
}

axon_status axi_no_memory(axon_error *err, uint64_t bytes)
{
    return axi_fail(err, AXON_ENOMEM, "out of memory: no room for %" PRIu64 " bytes", bytes);
}

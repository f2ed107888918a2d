/* See axon/error.h. */
#include "internal.h"
#include "utf8.h"

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

axon_status axi_fail(axon_error *err, axon_status status, const char *format, ...)
{
    if (!err) return status;
    char text[AXON_ERROR_TEXT]; /* arguments may point into err->message */
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0) text[0] = 0;
    if (length >= (int)sizeof text) text[axi_utf8_cut(text, sizeof text - 1)] = 0;
    axi_make_printable(text);
    err->code = (int32_t)status;
    err->http_status = 0;
    memcpy(err->message, text, strlen(text) + 1);
    return status;
}

axon_status axi_no_memory(axon_error *err, uint64_t bytes)
{
    return axi_fail(err, AXON_ENOMEM, "out of memory: no room for %" PRIu64 " bytes", bytes);
}

/* See api_key.h. */
#include "api_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char scheme[] = "Api-Key ";

bool axi_is_header_text(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~') return false;
    return true;
}

axon_status axi_api_key_check(const char *key, axon_error *err)
{
    size_t length = strlen(key);
    if (length > AXI_API_KEY_BYTES)
        return axi_fail(err, AXON_EINVAL, "api_key: %zu bytes, limit %d", length, AXI_API_KEY_BYTES);
    return axi_is_header_text(key)
               ? AXON_OK
               : axi_fail(err, AXON_EINVAL, "api_key: it has characters that no header can carry");
}

axon_status axi_api_key_check_own(const char *key, axon_error *err)
{
    return *key ? axi_api_key_check(key, err) : axi_fail(err, AXON_EINVAL, "api_key: it is empty");
}

char *axi_api_key_header(const char *key)
{
    char *header;
    return asprintf(&header, "%s%s", scheme, key) < 0 ? NULL : header;
}

static bool is_same(const char *given, const char *secret)
{
    size_t length = strlen(given), expected = strlen(secret);
    unsigned char difference = length != expected;
    for (size_t i = 0; i < length; i++)
        difference |= (unsigned char)(given[i] ^ secret[expected ? i % expected : 0]);
    return difference == 0;
}

bool axi_api_key_admits(const char *authorization, const char *key)
{
    if (!key) return true;
    if (strncmp(authorization, scheme, sizeof scheme - 1) != 0) return false;
    return is_same(authorization + sizeof scheme - 1, key);
}

const char *axi_api_key_refusal(const char *authorization)
{
    return authorization[0] ? "The API key is wrong.\n" : "An API key is needed.\n";
}

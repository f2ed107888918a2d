/* See http_url.h. Stricter than libcurl's own parser, so that the two cannot read one URL differently. */
#include "http_url.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool is_host_character(char c, bool is_address)
{
    if (is_address) return isxdigit((unsigned char)c) || c == ':' || c == '.';
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_';
}

/* An address in brackets may end in a zone, "%25eth0". */
static bool is_host(const char *host, size_t length, bool is_address)
{
    size_t at = 0;
    while (at < length && is_host_character(host[at], is_address))
        at++;
    bool has_zone = is_address && at > 0 && at < length && host[at] == '%';
    if (has_zone) at++;
    while (has_zone && at < length && is_host_character(host[at], false))
        at++;
    return at > 0 && at == length;
}

/* The port that stands behind a colon, 1 to 65535; 0 when it is none. */
static uint16_t read_port(const char *text, const char *end)
{
    unsigned port = 0;
    if (end - text > 5) return 0;
    for (; text < end; text++) {
        if (!isdigit((unsigned char)*text)) return 0;
        port = port * 10 + (unsigned)(*text - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* "host", "host:port", "[address]" or "[address]:port"; what is wrong with it, or NULL. */
static const char *read_authority(axi_origin *origin, const char *text, size_t length)
{
    const char *end = text + length, *host = text, *host_end;
    bool is_address = length > 0 && *text == '[';
    if (is_address) host++;
    host_end = memchr(host, is_address ? ']' : ':', (size_t)(end - host));
    if (!host_end) host_end = end;
    if (is_address && host_end == end) return "the bracket of the address is not closed";
    size_t host_length = (size_t)(host_end - host);
    if (host_length == 0) return "no host";
    if (host_length > AXI_HOST_MAX) return "the host is longer than 253 characters";
    if (!is_host(host, host_length, is_address)) return "the host is neither a name nor an address";

    const char *colon = host_end + is_address;
    if (colon < end) {
        if (*colon != ':') return "something stands between host and port";
        if (memchr(colon + 1, ':', (size_t)(end - colon - 1)))
            return "an IPv6 address needs brackets, [::1]";
        origin->port = read_port(colon + 1, end);
        if (origin->port == 0) return "the port is not 1 to 65535";
    }
    memcpy(origin->host, host, host_length);
    return NULL;
}

static const char *read_origin(axi_origin *origin, const char *url)
{
    bool is_http = strncasecmp(url, "http://", 7) == 0, is_https = strncasecmp(url, "https://", 8) == 0;
    if (!is_http && !is_https) return "the scheme is neither http nor https";
    *origin = (axi_origin){.is_tls = is_https, .port = is_https ? 443 : 80};
    const char *authority = url + (is_https ? 8 : 7);
    return read_authority(origin, authority, strcspn(authority, "/?#"));
}

axon_status axi_origin_read(axi_origin *origin, const char *url, axon_error *err)
{
    if (!url || !*url) return axi_fail(err, AXON_EINVAL, "url is empty");
    if (strlen(url) > AXI_URL_MAX)
        return axi_fail(err, AXON_EINVAL, "url is longer than %d bytes", AXI_URL_MAX);
    const char *scheme_end = strstr(url, "://");
    const char *authority = scheme_end ? scheme_end + 3 : url;
    if (memchr(authority, '@', strcspn(authority, "/?#")))
        return axi_fail(err, AXON_EINVAL, "url: credentials in it are not used; set bearer_token instead");
    for (const char *c = url; *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return axi_fail(err, AXON_EINVAL, "url \"%s\": a space, control or non-ASCII character at %td",
                            url, c - url);
    if (!scheme_end) return axi_fail(err, AXON_EINVAL, "url \"%s\": no scheme; write http://%s", url, url);
    if (strpbrk(url, "?#"))
        return axi_fail(err, AXON_EINVAL, "url \"%s\": a query or fragment; name the service alone", url);
    const char *wrong = read_origin(origin, url);
    return wrong ? axi_fail(err, AXON_EINVAL, "url \"%s\": %s", url, wrong) : AXON_OK;
}

bool axi_origin_has(const axi_origin *origin, const char *url)
{
    axi_origin other;
    return read_origin(&other, url) == NULL && other.is_tls == origin->is_tls &&
           other.port == origin->port && strcasecmp(other.host, origin->host) == 0;
}

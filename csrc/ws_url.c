/* See ws_url.h. */
#include "ws_url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the URL ------------------------------------------------------------------------------- */

static axon_status refuse(axon_error *err, const char *url, const char *why)
{
    return axi_fail(err, AXON_EINVAL, "URL \"%.*s\": %s", AXI_URL_SHOWN, url, why);
}

/* Reads "1" to "65535" and nothing else; 0 when it is something else. */
static uint16_t read_port(const char *text, size_t length)
{
    unsigned port = 0;
    if (length == 0 || length > 5) return 0;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) return 0;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static bool is_host_character(char c, bool in_brackets)
{
    if (in_brackets) return isxdigit((unsigned char)c) || c == ':' || c == '.';
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_';
}

/* "%eth0" behind an IPv6 address says through which interface; "%25eth0" is how RFC 6874 writes it. */
static size_t skip_zone(const char *host, size_t length, size_t at)
{
    if (at >= length || host[at] != '%') return at;
    do
        at++;
    while (at < length && (isalnum((unsigned char)host[at]) || strchr("-_.", host[at])));
    return at;
}

static bool is_host(const char *host, size_t length, bool in_brackets)
{
    size_t at = 0;
    while (at < length && is_host_character(host[at], in_brackets))
        at++;
    if (in_brackets) at = skip_zone(host, length, at);
    return length > 0 && at == length;
}

static void copy_host(axi_ws_url *parts, const char *host, size_t length)
{
    memcpy(parts->host, host, length);
    parts->host[length] = 0;
    char *encoded = strstr(parts->host, "%25");
    if (encoded && encoded[3]) memmove(encoded + 1, encoded + 3, strlen(encoded + 3) + 1);
}

/* The zone is this machine's affair and stays out of the Host header. */
static void copy_authority(axi_ws_url *parts, const char *text, size_t length)
{
    memcpy(parts->authority, text, length);
    parts->authority[length] = 0;
    char *zone = strchr(parts->authority, '%');
    char *closing = zone ? strchr(zone, ']') : NULL;
    if (closing) memmove(zone, closing, strlen(closing) + 1);
}

const char *axi_authority_read(axi_ws_url *parts, const char *text, size_t length)
{
    if (length == 0) return "it names no host";
    if (memchr(text, '@', length)) return "credentials in a URL are not sent; give them as an option";
    if (length > AXI_WS_HOST_MAX) return "host and port are longer than 119 characters";
    const char *host = text, *end = text + length, *behind;
    bool in_brackets = *text == '[';
    if (in_brackets) {
        const char *closing = memchr(text, ']', length);
        if (!closing) return "a bracket is not closed";
        host = text + 1;
        behind = closing + 1;
    } else {
        const char *colon = memchr(text, ':', length);
        behind = colon ? colon : end;
        if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
            return "an IPv6 address needs brackets: [::1]:8000";
    }
    size_t host_length = (size_t)(behind - host) - in_brackets;
    if (!is_host(host, host_length, in_brackets)) return "the host is no host name and no address";
    if (behind < end && *behind != ':') return "something stands between host and port";
    if (behind < end) parts->port = read_port(behind + 1, (size_t)(end - behind - 1));
    if (parts->port == 0) return "the port is not a number from 1 to 65535";
    copy_host(parts, host, host_length);
    copy_authority(parts, text, length);
    return NULL;
}

static const char *read_path(axi_ws_url *parts, const char *path)
{
    size_t length = strlen(path), slash = *path == '/' ? 0 : 1; /* a query alone, or nothing */
    if (slash + length > AXI_WS_PATH_MAX) return "path and query are longer than 2000 characters";
    for (const char *c = path; *c; c++) {
        if (*c == '#') return "a fragment (#) means nothing to a server";
        if (*c <= ' ' || *c > '~') return "it has characters that a URL must percent-encode";
    }
    parts->path[0] = '/';
    memcpy(parts->path + slash, path, length + 1);
    return NULL;
}

axon_status axi_ws_url_read(axi_ws_url *parts, const char *url, axon_error *err)
{
    bool is_ws = strncasecmp(url, "ws://", 5) == 0, is_wss = strncasecmp(url, "wss://", 6) == 0;
    if (!is_ws && !is_wss) return refuse(err, url, "it begins neither with ws:// nor with wss://");
    const char *authority = url + (is_wss ? 6 : 5);
    size_t length = strcspn(authority, "/?#");

    *parts = (axi_ws_url){.is_tls = is_wss, .port = is_wss ? 443 : 80};
    const char *why = axi_authority_read(parts, authority, length);
    if (!why) why = read_path(parts, authority + length);
    return why ? refuse(err, url, why) : AXON_OK;
}

/* ---- short forms --------------------------------------------------------------------------- */

static bool names_port(const char *authority, size_t length)
{
    const char *from = *authority == '[' ? memchr(authority, ']', length) : authority;
    return from && memchr(from, ':', length - (size_t)(from - authority));
}

/* "ws://" or "wss://"; NULL when the scheme is another. */
static const char *scheme_of(const char *url, bool takes_http)
{
    bool is_http = takes_http && strncasecmp(url, "http://", 7) == 0;
    bool is_https = takes_http && strncasecmp(url, "https://", 8) == 0;
    if (is_https || strncasecmp(url, "wss://", 6) == 0) return "wss://";
    return is_http || !strstr(url, "://") || strncasecmp(url, "ws://", 5) == 0 ? "ws://" : NULL;
}

axon_status axi_ws_url_complete(char **whole, const char *url, const axi_url_usual *usual, axon_error *err)
{
    if (!url || !*url) return axi_fail(err, AXON_EINVAL, "%s: it is empty", usual->subject);
    const char *given = strstr(url, "://"), *rest = given ? given + 3 : url;
    const char *scheme = scheme_of(url, usual->takes_http);
    if (!scheme)
        return axi_fail(err, AXON_EINVAL, "%s \"%.*s\": it must begin with ws:// or wss://", usual->subject,
                        AXI_URL_SHOWN, url);
    size_t authority = strcspn(rest, "/?#");
    bool needs_port = !given && authority > 0 && !names_port(rest, authority);
    const char *path = rest + authority;
    if (!*path || strcmp(path, "/") == 0) path = usual->path;
    char port[8] = "";
    if (needs_port) snprintf(port, sizeof port, ":%u", usual->port);
    if (asprintf(whole, "%s%.*s%s%s", scheme, (int)authority, rest, port, path) >= 0) return AXON_OK;
    *whole = NULL;
    return axi_no_memory(err, strlen(url));
}

/* ---- the proxy ----------------------------------------------------------------------------- */

static const char *set_in_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* http_proxy counts in small letters only: a web server hands HTTP_PROXY to its children from a request. */
static const char *proxy_variable(bool is_tls)
{
    static const char *const for_ws[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    static const char *const for_wss[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    const char *const *names = is_tls ? for_wss : for_ws;
    size_t count = is_tls ? sizeof for_wss / sizeof *for_wss : sizeof for_ws / sizeof *for_ws;
    for (size_t i = 0; i < count; i++)
        if (set_in_environment(names[i])) return names[i];
    return NULL;
}

/* True when one entry of no_proxy, "example.com", ".example.com" or "host:port", covers the URL. */
static bool covers(const char *entry, size_t length, const axi_ws_url *url)
{
    if (length == 1 && *entry == '*') return true;
    const char *colon = memchr(entry, ':', length);
    if (colon && !memchr(colon + 1, ':', length - (size_t)(colon - entry) - 1)) {
        if (read_port(colon + 1, length - (size_t)(colon - entry) - 1) != url->port) return false;
        length = (size_t)(colon - entry);
    }
    if (length && *entry == '.') {
        entry++;
        length--;
    }
    size_t host = strlen(url->host);
    if (length == 0 || host < length || strncasecmp(url->host + host - length, entry, length) != 0)
        return false;
    return host == length || url->host[host - length - 1] == '.';
}

static bool is_exempt(const axi_ws_url *url)
{
    const char *list = set_in_environment("no_proxy");
    if (!list) list = set_in_environment("NO_PROXY");
    while (list && *list) {
        size_t length = strcspn(list, ", \t");
        if (covers(list, length, url)) return true;
        list += length;
        list += strspn(list, ", \t");
    }
    return false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    int letter = tolower((unsigned char)c);
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Copies with %XX decoded; false when it does not fit. */
static bool decode(char *to, size_t room, const char *from, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        char c = from[i];
        if (c == '%' && length - i > 2 && hex_digit(from[i + 1]) >= 0 && hex_digit(from[i + 2]) >= 0) {
            c = (char)(hex_digit(from[i + 1]) << 4 | hex_digit(from[i + 2]));
            i += 2;
        }
        if (count + 1 >= room) return false;
        to[count++] = c;
    }
    to[count] = 0;
    return true;
}

/* Reads "[http://][user:password@]host[:port][/]"; what is wrong with it, or NULL. */
static const char *read_proxy(axi_proxy *proxy, const char *value)
{
    const char *scheme = strstr(value, "://");
    if (scheme && strncasecmp(value, "http://", 7) != 0) return "only http:// proxies can be used";
    const char *authority = scheme ? scheme + 3 : value;
    size_t length = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', length);
    if (at) {
        if (!decode(proxy->credentials, sizeof proxy->credentials, authority, (size_t)(at - authority)))
            return "its user and password are longer than 95 characters";
        length -= (size_t)(at + 1 - authority);
        authority = at + 1;
    }
    axi_ws_url parts = {.port = 80};
    const char *why = axi_authority_read(&parts, authority, length);
    if (why) return why;
    memcpy(proxy->host, parts.host, sizeof proxy->host);
    proxy->port = parts.port;
    return NULL;
}

axon_status axi_proxy_find(axi_proxy *proxy, const axi_ws_url *url, axon_error *err)
{
    *proxy = (axi_proxy){0};
    const char *name = proxy_variable(url->is_tls);
    if (!name || axi_host_is_near(url->host, strlen(url->host)) || is_exempt(url)) return AXON_OK;
    const char *why = read_proxy(proxy, getenv(name));
    if (!why) return AXON_OK;
    return axi_fail(err, AXON_ECONNECT, "%s: the proxy that %s names: %s", url->host, name, why);
}

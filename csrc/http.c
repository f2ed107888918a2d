/* See http.h.
 *
 * A request is one transfer of a curl multi handle of its own, driven by the calling thread: that way the wait
 * can be woken from any thread, and the connection is kept between calls. libcurl starts a short-lived thread
 * when a host name has to be looked up, so that a silent name server cannot outlast the deadline.
 */
#include "http.h"

#include "http_body.h"
#include "http_url.h"

#include <curl/curl.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_TOKEN_BYTES = 16384,
    MAX_HEADER_BYTES = 64 * 1024, /* of one reply, all its header lines together */
    MAX_REDIRECTS = 5,
    TRUSTED_BYTES = 1024 * 1024, /* memory that a Content-Length alone can claim */
    /* Of a body, produced and sent at a time, and of a reply. libcurl allocates both for each transfer and frees them
     * after it: together they are less than the 128 KiB that malloc keeps when it gives the heap's end back, else every
     * call would fault them in again. After a large reply, fewer reads are worth more than that. */
    SEND_BYTES = 96 * 1024,
    RECEIVE_BYTES = 16 * 1024,
    LARGE_RECEIVE_BYTES = 256 * 1024,
    MAX_SOCKETS = 4 /* two address families tried at once, and an old connection being replaced */
};

enum state { IDLE, BUSY, CANCELLED };

/* Why a callback ended the transfer. */
enum refusal { NO_REFUSAL, REFUSED_MEMORY, REFUSED_LENGTH, REFUSED_HEADERS, REFUSED_ENCODING };

/* What one request has sent and received so far. */
typedef struct progress {
    axi_body_reader body;
    size_t header_bytes; /* of the reply */
    bool header_ended;   /* the empty line has come */
    axi_buffer data;     /* of the reply */
    enum refusal refusal;
} progress;

struct axi_http {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;      /* of a GET */
    struct curl_slist *json_headers; /* of a POST */
    char *url;
    axi_origin origin;
    bool is_near;           /* no proxy is asked */
    bool replies_are_large; /* the last one was */
    uint32_t timeout_ms;
    uint32_t connect_timeout_ms;
    uint64_t max_reply_bytes;
    pid_t owner;
    _Atomic enum state state;
    int sockets[MAX_SOCKETS];     /* open ones, else -1 */
    char reason[CURL_ERROR_SIZE]; /* libcurl's own words on a failure */
    progress now;
};

/* ---- failing ------------------------------------------------------------------------------- */

/* No answer, or none that is whole: all these texts begin alike. */
static axon_status unavailable(const axi_http *http, axon_status status, axon_error *err,
                               const char *format, ...) AXI_PRINTF(4, 5);

static axon_status unavailable(const axi_http *http, axon_status status, axon_error *err,
                               const char *format, ...)
{
    char text[AXON_ERROR_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return axi_fail(err, status, "Service unavailable at %.250s: %s", http->url, text);
}

static axon_status curl_failed(CURLcode code, axon_error *err)
{
    if (code == CURLE_OUT_OF_MEMORY) return axi_fail(err, AXON_ENOMEM, "out of memory: in libcurl");
    return axi_fail(err, AXON_EINVAL, "libcurl %s: %s", curl_version_info(CURLVERSION_NOW)->version,
                    curl_easy_strerror(code));
}

static int64_t expected_length(const axi_http *http)
{
    curl_off_t length = -1;
    curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    return length;
}

/* "1000 of 5000 bytes", for a reply that ended early. */
static const char *received(const axi_http *http, char text[64])
{
    int64_t expected = expected_length(http);
    if (expected > 0)
        snprintf(text, 64, "%zu of %" PRId64 " bytes", http->now.data.length, expected);
    else
        snprintf(text, 64, "%zu bytes", http->now.data.length);
    return text;
}

static bool is_sending(const progress *now)
{
    return now->body.body && now->body.sent < now->body.body->length;
}

static axon_status timed_out(const axi_http *http, axon_error *err)
{
    const progress *now = &http->now;
    char text[64];
    long request_bytes = 0;
    curl_easy_getinfo(http->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    if (request_bytes == 0)
        return unavailable(http, AXON_ETIMEOUT, err, "no connection after %" PRIu32 " ms (timeout_ms)",
                           http->timeout_ms);
    if (now->header_bytes)
        return unavailable(http, AXON_ETIMEOUT, err,
                           "no complete reply after %" PRIu32 " ms (timeout_ms), only %s", http->timeout_ms,
                           received(http, text));
    if (is_sending(now))
        return unavailable(http, AXON_ETIMEOUT, err,
                           "listening, but read only %" PRIu64 " of %" PRIu64 " bytes in %" PRIu32
                           " ms (timeout_ms)",
                           now->body.sent, now->body.body->length, http->timeout_ms);
    return unavailable(http, AXON_ETIMEOUT, err,
                       "listening but silent, no answer after %" PRIu32 " ms (timeout_ms)",
                       http->timeout_ms);
}

static axon_status refused(const axi_http *http, axon_error *err)
{
    switch (http->now.refusal) {
    case REFUSED_MEMORY:
        return axi_no_memory(err, http->now.data.length);
    case REFUSED_HEADERS:
        return axi_fail(err, AXON_EPROTOCOL, "%s: the header of the reply is longer than %d bytes",
                        http->url, MAX_HEADER_BYTES);
    case REFUSED_ENCODING:
        return axi_fail(err, AXON_EPROTOCOL, "%s: the reply is compressed, which was not asked for",
                        http->url);
    default:
        return axi_fail(err, AXON_ETOOBIG,
                        "%s: the reply is longer than %" PRIu64 " bytes (max_reply_bytes)", http->url,
                        http->max_reply_bytes);
    }
}

static axon_status not_connected(const axi_http *http, axon_error *err)
{
    char text[128];
    long number = 0;
    curl_easy_getinfo(http->easy, CURLINFO_OS_ERRNO, &number);
    bool is_proxy = !http->is_near && !strcasestr(http->reason, http->origin.host);
    return unavailable(http, AXON_ECONNECT, err, "%s%s",
                       is_proxy ? "the proxy that the environment names: " : "",
                       number == 0              ? http->reason
                       : number == ECONNREFUSED ? "connection refused"
                                                : strerror_r((int)number, text, sizeof text));
}

/* The connection ended, or what came over it cannot be read on. */
static axon_status lost(const axi_http *http, axon_error *err)
{
    const progress *now = &http->now;
    char text[64];
    if (strstr(http->reason, "chunked"))
        return axi_fail(err, AXON_EPROTOCOL, "%s: the reply is damaged: %s", http->url, http->reason);
    if (now->header_bytes)
        return unavailable(http, AXON_ECONNECT, err, "connection lost in mid-reply, after %s",
                           received(http, text));
    if (is_sending(now))
        return unavailable(http, AXON_ECONNECT, err,
                           "connection lost while sending, after %" PRIu64 " of %" PRIu64 " bytes",
                           now->body.sent, now->body.body->length);
    return unavailable(http, AXON_ECONNECT, err, "connection closed without an answer");
}

/* libcurl says "out of memory" of a header line of more than 100 KB as well. */
static bool is_long_line(const axi_http *http)
{
    curl_off_t began = 0;
    curl_easy_getinfo(http->easy, CURLINFO_STARTTRANSFER_TIME_T, &began);
    return began > 0 && !http->now.header_ended;
}

static axon_status transfer_failed(const axi_http *http, CURLcode code, axon_error *err)
{
    const char *reason = http->reason[0] ? http->reason : curl_easy_strerror(code);
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        if (!is_long_line(http)) return curl_failed(code, err);
        return axi_fail(err, AXON_EPROTOCOL,
                        "%s: a header line of the reply is endless, or memory ran out while it was read",
                        http->url);
    case CURLE_COULDNT_RESOLVE_HOST:
        return unavailable(http, AXON_ECONNECT, err, "no such host");
    case CURLE_COULDNT_RESOLVE_PROXY:
        return unavailable(http, AXON_ECONNECT, err, "the proxy that the environment names: no such host");
    case CURLE_COULDNT_CONNECT:
        return not_connected(http, err);
    case CURLE_OPERATION_TIMEDOUT:
        return unavailable(http, AXON_ETIMEOUT, err,
                           "no connection after %" PRIu32 " ms (connect_timeout_ms)",
                           http->connect_timeout_ms);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
        return unavailable(http, AXON_ECONNECT, err, "TLS: %s", reason);
    case CURLE_WRITE_ERROR:
    case CURLE_FILESIZE_EXCEEDED:
        return refused(http, err);
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return lost(http, err);
    default:
        return axi_fail(err, AXON_EPROTOCOL, "%s: the reply is not HTTP/1.1: %s", http->url, reason);
    }
}

/* ---- what libcurl calls while a transfer runs ------------------------------------------------- */

static size_t read_body(char *out, size_t size, size_t count, void *user)
{
    return axi_body_read(user, out, size * count);
}

/* libcurl sends again when a kept connection turns out to be dead. */
static int seek_body(void *user, curl_off_t offset, int origin)
{
    axi_body_reader *reader = user;
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    *reader = (axi_body_reader){.body = reader->body};
    return CURL_SEEKFUNC_OK;
}

/* Returns what libcurl takes for a failure of the callback. */
static size_t refuse(progress *now, enum refusal refusal)
{
    now->refusal = refusal;
    return 0;
}

static size_t write_header(char *line, size_t size, size_t count, void *user)
{
    static const char encoding[] = "content-encoding:", none[] = "identity";
    progress *now = &((axi_http *)user)->now;
    size_t length = size * count, skip = sizeof encoding - 1;
    now->header_bytes += length;
    now->header_ended = line[0] == '\r' || line[0] == '\n';
    if (now->header_bytes > MAX_HEADER_BYTES) return refuse(now, REFUSED_HEADERS);
    if (length <= skip || strncasecmp(line, encoding, skip) != 0) return length;
    while (skip < length && line[skip] == ' ')
        skip++;
    if (length - skip < sizeof none - 1 || strncasecmp(line + skip, none, sizeof none - 1) != 0)
        return refuse(now, REFUSED_ENCODING);
    return length;
}

/* Makes room for `length` bytes of the reply and a zero. What its header claims is believed by and by: four
 * times as much as has come. */
static bool make_room(axi_http *http, size_t length)
{
    axi_buffer *all = &http->now.data;
    size_t needed = length + 1, have = all->length + length;
    if (all->data && all->capacity - all->length >= needed) return true;
    int64_t expected = expected_length(http);
    size_t believed = have < TRUSTED_BYTES / 4 ? TRUSTED_BYTES : have < SIZE_MAX / 4 ? have * 4 : have;
    if (expected > (int64_t)have) {
        size_t whole = (uint64_t)expected < believed ? (size_t)expected : believed;
        needed = whole - all->length + 1;
    }
    return axi_buffer_reserve(all, needed);
}

static size_t write_data(char *data, size_t size, size_t count, void *user)
{
    axi_http *http = user;
    axi_buffer *all = &http->now.data;
    size_t length = size * count;
    if (length > http->max_reply_bytes - all->length) return refuse(&http->now, REFUSED_LENGTH);
    if (!make_room(http, length)) return refuse(&http->now, REFUSED_MEMORY);
    memcpy(all->data + all->length, data, length);
    all->length += length;
    all->data[all->length] = 0;
    return length;
}

/* Sockets are opened here to be known in a forked child, and closed in every program that it starts. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    axi_http *http = user;
    for (int i = 0; i < MAX_SOCKETS; i++)
        if (http->sockets[i] < 0)
            return http->sockets[i] =
                       socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    return CURL_SOCKET_BAD;
}

static int close_socket(void *user, curl_socket_t socket)
{
    axi_http *http = user;
    for (int i = 0; i < MAX_SOCKETS; i++)
        if (http->sockets[i] == socket) http->sockets[i] = -1;
    return close(socket);
}

/* ---- opening --------------------------------------------------------------------------------- */

static CURLcode global_code;

static void global_init(void)
{
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static axon_status check_options(const axi_http_options *options, axon_error *err)
{
    const char *token = options->bearer_token;
    if (token && strlen(token) > MAX_TOKEN_BYTES)
        return axi_fail(err, AXON_EINVAL, "bearer_token is longer than %d bytes", MAX_TOKEN_BYTES);
    for (const char *c = token; c && *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return axi_fail(err, AXON_EINVAL,
                            "bearer_token: a space, control or non-ASCII character at %td", c - token);
    if (options->ca_file && access(options->ca_file, R_OK) != 0) {
        char text[128];
        return axi_fail(err, AXON_EIO, "ca_file \"%s\": %s", options->ca_file,
                        strerror_r(errno, text, sizeof text));
    }
    return AXON_OK;
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer) *list = longer;
    return longer;
}

static bool add_headers(axi_http *http, const char *token)
{
    if (!add_header(&http->json_headers, "Content-Type: application/json") ||
        !add_header(&http->json_headers, "Expect:"))
        return false;
    if (!token) return true;
    char line[MAX_TOKEN_BYTES + 32];
    snprintf(line, sizeof line, "Authorization: Bearer %s", token);
    return add_header(&http->headers, line) && add_header(&http->json_headers, line);
}

/* A long, as libcurl wants its milliseconds; 0 would be its own default. */
static long curl_ms(uint32_t ms)
{
    return ms > INT_MAX ? INT_MAX : (long)ms;
}

#define SET(option, value)                                                                                 \
    if ((code = curl_easy_setopt(http->easy, option, value)) != CURLE_OK) return code

static CURLcode set_callbacks(axi_http *http)
{
    CURLcode code;
    SET(CURLOPT_ERRORBUFFER, http->reason);
    SET(CURLOPT_READFUNCTION, read_body);
    SET(CURLOPT_READDATA, &http->now.body);
    SET(CURLOPT_SEEKFUNCTION, seek_body);
    SET(CURLOPT_SEEKDATA, &http->now.body);
    SET(CURLOPT_HEADERFUNCTION, write_header);
    SET(CURLOPT_HEADERDATA, http);
    SET(CURLOPT_WRITEFUNCTION, write_data);
    SET(CURLOPT_WRITEDATA, http);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, http);
    SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    SET(CURLOPT_CLOSESOCKETDATA, http);
    return CURLE_OK;
}

static CURLcode set_connection(axi_http *http, const axi_http_options *options)
{
    CURLcode code;
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    SET(CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    SET(CURLOPT_QUICK_EXIT, 1L); /* do not wait for a name server that is still being asked */
#endif
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, curl_ms(options->connect_timeout_ms));
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
    SET(CURLOPT_PATH_AS_IS, 1L);
    char agent[64];
    snprintf(agent, sizeof agent, "axon/%s", axon_version());
    SET(CURLOPT_USERAGENT, agent);
    uint64_t longest = options->max_reply_bytes < INT64_MAX ? options->max_reply_bytes : INT64_MAX;
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)longest);
    if (http->is_near) SET(CURLOPT_PROXY, "");
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (options->ca_file) SET(CURLOPT_CAINFO, options->ca_file);
    if (options->tls_insecure) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return CURLE_OK;
}

static axon_status set_up(axi_http *http, const char *url, const axi_http_options *options, axon_error *err)
{
    axon_status status = axi_origin_read(&http->origin, url, err);
    if (status == AXON_OK) status = check_options(options, err);
    if (status) return status;
    size_t length = strlen(url);
    while (url[length - 1] == '/')
        length--;
    http->url = strndup(url, length);
    http->is_near = axi_host_is_near(http->origin.host, strlen(http->origin.host));
    http->multi = curl_multi_init();
    http->easy = curl_easy_init();
    if (!http->url || !http->multi || !http->easy || !add_headers(http, options->bearer_token))
        return curl_failed(CURLE_OUT_OF_MEMORY, err);
    CURLcode code = set_callbacks(http);
    if (!code) code = set_connection(http, options);
    if (!code && curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 1L) != CURLM_OK)
        code = CURLE_OUT_OF_MEMORY;
    return code ? curl_failed(code, err) : AXON_OK;
}

axon_status axi_http_open(axi_http **http, const char *url, const axi_http_options *options,
                          axon_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    if (global_code) return curl_failed(global_code, err);

    axi_http *opened = calloc(1, sizeof *opened);
    if (!opened) return axi_no_memory(err, sizeof *opened);
    opened->timeout_ms = options->timeout_ms;
    opened->connect_timeout_ms = options->connect_timeout_ms;
    opened->max_reply_bytes = options->max_reply_bytes;
    opened->owner = getpid();
    for (int i = 0; i < MAX_SOCKETS; i++)
        opened->sockets[i] = -1;
    axon_status status = set_up(opened, url, options, err);
    if (status) {
        axi_http_close(opened);
        return status;
    }
    *http = opened;
    return AXON_OK;
}

const char *axi_http_url(const axi_http *http)
{
    return http->url;
}

/* ---- SIGPIPE --------------------------------------------------------------------------------- */

/* TLS libraries may write to a socket without MSG_NOSIGNAL. The signal is kept from this thread meanwhile,
 * and taken back if it came; plain HTTP needs none of that. */
typedef struct pipe_guard {
    bool on;
    sigset_t before;
} pipe_guard;

static pipe_guard hold_sigpipe(bool needed)
{
    pipe_guard guard = {0};
    if (!needed) return guard;
    sigset_t pending, pipe_only;
    sigpending(&pending);
    if (sigismember(&pending, SIGPIPE)) return guard;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    guard.on = pthread_sigmask(SIG_BLOCK, &pipe_only, &guard.before) == 0;
    return guard;
}

static void release_sigpipe(pipe_guard *guard)
{
    if (!guard->on) return;
    sigset_t pending, pipe_only;
    sigpending(&pending);
    if (sigismember(&pending, SIGPIPE)) {
        static const struct timespec at_once = {0};
        sigemptyset(&pipe_only);
        sigaddset(&pipe_only, SIGPIPE);
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}

/* ---- one transfer ---------------------------------------------------------------------------- */

static bool was_cancelled(axi_http *http)
{
    return atomic_load(&http->state) == CANCELLED;
}

/* Holds back segments that are not full, or lets them go: libcurl writes head and body apart, and each write would
 * wake the service. */
static void set_cork(const axi_http *http, int on)
{
    for (int i = 0; i < MAX_SOCKETS; i++)
        if (http->sockets[i] >= 0) setsockopt(http->sockets[i], IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static axon_status perform(axi_http *http, int *running, axon_error *err)
{
    pipe_guard guard = hold_sigpipe(http->origin.is_tls);
    bool is_corked = is_sending(&http->now);
    if (is_corked) set_cork(http, 1);
    CURLMcode code = curl_multi_perform(http->multi, running);
    if (is_corked) set_cork(http, 0);
    release_sigpipe(&guard);
    if (code == CURLM_OUT_OF_MEMORY) return curl_failed(CURLE_OUT_OF_MEMORY, err);
    if (code) return axi_fail(err, AXON_ECONNECT, "%s: %s", http->url, curl_multi_strerror(code));
    return AXON_OK;
}

/* Waits for the socket, the deadline, a cancel or a signal. Asking for interrupts may be dear, so that it is
 * done when nothing else ended the wait, or when it was not done for a while. */
static axon_status wait_a_little(axi_http *http, axi_time deadline, axi_time *asked, axon_error *err)
{
    int ready = 0;
    CURLMcode code = curl_multi_poll(http->multi, NULL, 0, axi_left_ms(deadline, AXI_LOOK_UP_MS), &ready);
    if (code == CURLM_OUT_OF_MEMORY) return curl_failed(CURLE_OUT_OF_MEMORY, err);
    if (code) return axi_fail(err, AXON_ECONNECT, "%s: %s", http->url, curl_multi_strerror(code));
    axi_time now = axi_now();
    bool is_due = ready == 0 || now - *asked > (axi_time)AXI_LOOK_UP_MS * 1000000;
    if (is_due) {
        *asked = now;
        if (axi_interrupted())
            return axi_fail(err, AXON_ECANCELED, "%s: the call was interrupted", http->url);
    }
    return now >= deadline ? timed_out(http, err) : AXON_OK;
}

/* Runs the transfer that is set up; *code is libcurl's verdict when the status is AXON_OK. */
static axon_status drive(axi_http *http, axi_time deadline, CURLcode *code, axon_error *err)
{
    axi_time asked = axi_now();
    for (;;) {
        int running = 0, more = 0;
        if (was_cancelled(http))
            return axi_fail(err, AXON_ECANCELED, "%s: the call was cancelled", http->url);
        axon_status status = perform(http, &running, err);
        if (status) return status;
        if (running == 0) {
            const CURLMsg *message = curl_multi_info_read(http->multi, &more);
            *code = message ? message->data.result : CURLE_OUT_OF_MEMORY;
            if (*code == CURLE_OK && !http->now.header_ended) *code = CURLE_PARTIAL_FILE;
            return AXON_OK;
        }
        status = wait_a_little(http, deadline, &asked, err);
        if (status) return status;
    }
}

static CURLcode prepare(axi_http *http, const char *url, const axi_body *body, bool is_fresh)
{
    CURLcode code;
    axi_buffer_free(&http->now.data);
    http->now = (progress){.body.body = body};
    http->reason[0] = 0;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_BUFFERSIZE, http->replies_are_large ? (long)LARGE_RECEIVE_BYTES : (long)RECEIVE_BYTES);
    SET(CURLOPT_FRESH_CONNECT, is_fresh ? 1L : 0L);
    if (!body) {
        SET(CURLOPT_HTTPGET, 1L);
        SET(CURLOPT_HTTPHEADER, http->headers);
        return CURLE_OK;
    }
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->length);
    SET(CURLOPT_HTTPHEADER, http->json_headers);
    return CURLE_OK;
}

/* True when something has come over the kept connection that nobody asked for: it must not be taken for the next
 * reply. libcurl closes only connections that have ended. */
static bool is_spoiled(const axi_http *http)
{
    struct pollfd kept[MAX_SOCKETS]; /* poll() passes over those that are -1 */
    for (int i = 0; i < MAX_SOCKETS; i++)
        kept[i] = (struct pollfd){.fd = http->sockets[i], .events = POLLIN};
    return poll(kept, MAX_SOCKETS, 0) != 0;
}

/* True when a kept connection died before a byte of the reply came. libcurl tries again by itself when it finds
 * out while reading, and not when it does while sending a long body. */
static bool was_stale(const axi_http *http, CURLcode code)
{
    long connects = 0;
    curl_easy_getinfo(http->easy, CURLINFO_NUM_CONNECTS, &connects);
    return code == CURLE_SEND_ERROR && connects == 0 && http->now.header_bytes == 0;
}

static axon_status transfer(axi_http *http, const char *url, const axi_body *body, axi_time deadline,
                            bool is_fresh, axon_error *err)
{
    CURLcode code = prepare(http, url, body, is_fresh);
    if (code) return curl_failed(code, err);
    CURLMcode added = curl_multi_add_handle(http->multi, http->easy);
    if (added) return curl_failed(CURLE_OUT_OF_MEMORY, err);
    axon_status status = drive(http, deadline, &code, err);
    bool stale = status == AXON_OK && !is_fresh && was_stale(http, code);
    if (status == AXON_OK && code && !stale) status = transfer_failed(http, code, err);
    pipe_guard guard = hold_sigpipe(http->origin.is_tls);
    curl_multi_remove_handle(http->multi, http->easy); /* ends the connection of a transfer in mid-way */
    release_sigpipe(&guard);
    return stale ? transfer(http, url, body, deadline, true, err) : status;
}

/* ---- redirects ------------------------------------------------------------------------------- */

/* Where the reply redirects to; NULL when it does not. 303 is not followed: it answers a POST by pointing to
 * some other document. The text lasts until the next request. */
static const char *redirection(const axi_http *http)
{
    long status = 0;
    char *to = NULL;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->easy, CURLINFO_REDIRECT_URL, &to);
    return status == 301 || status == 302 || status == 307 || status == 308 ? to : NULL;
}

static axon_status redirect_refused(const axi_http *http, const char *path, const char *to, bool is_ours,
                                    axon_error *err)
{
    long status = 0;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    axi_fail(err, AXON_ESERVER, "%s failed (HTTP %ld): %s redirects to %s, %s", path, status, http->url, to,
             is_ours ? "which is one redirect too many"
                     : "which is another server; name that one if it is right");
    if (err) err->http_status = (int32_t)status;
    return AXON_ESERVER;
}

/* Follows redirects within the service, with method and body as they were: FastAPI answers 307 where only a
 * trailing slash is missing. */
static axon_status follow(axi_http *http, const char *path, char **url, const axi_body *body,
                          axi_time deadline, axon_error *err)
{
    for (int hops = 0;; hops++) {
        axon_status status = transfer(http, *url, body, deadline, is_spoiled(http), err);
        const char *to = status == AXON_OK ? redirection(http) : NULL;
        if (!to) return status;
        bool is_ours = axi_origin_has(&http->origin, to);
        if (!is_ours || hops == MAX_REDIRECTS) return redirect_refused(http, path, to, is_ours, err);
        axi_log(AXON_LOG_WARN, "%s redirects to %s; every call would be quicker with that path", *url, to);
        char *next = strdup(to);
        if (!next) return axi_no_memory(err, strlen(to));
        free(*url);
        *url = next;
    }
}

/* ---- one request ----------------------------------------------------------------------------- */

static bool is_json_type(const char *type)
{
    size_t length = strlen(type);
    return strcasecmp(type, "application/json") == 0 ||
           (length > 5 && strcasecmp(type + length - 5, "+json") == 0);
}

static void take_reply(axi_http *http, axi_http_reply *reply)
{
    long status = 0;
    const char *type = NULL;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->easy, CURLINFO_CONTENT_TYPE, &type);
    *reply = (axi_http_reply){.status = (int32_t)status};
    size_t length = type ? strcspn(type, "; \t") : 0;
    if (length < sizeof reply->content_type && length) memcpy(reply->content_type, type, length);
    reply->is_json = is_json_type(reply->content_type);
    if (http->now.data.length == 0) return;
    reply->data = http->now.data.data;
    reply->length = http->now.data.length;
    http->now.data = (axi_buffer){0};
}

static void log_request(const axi_http *http, const char *path, const axi_body *body, axi_time began)
{
    if (!axi_log_wants(AXON_LOG_DEBUG)) return;
    long status = 0;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    axi_log(AXON_LOG_DEBUG, "%s %s%s: HTTP %ld, %" PRIu64 " bytes out, %zu in, %.3f ms",
            body ? "POST" : "GET", http->url, path, status, http->now.body.sent, http->now.data.length,
            (double)(axi_now() - began) / 1e6);
}

axon_status axi_http_request(axi_http *http, const char *path, const axi_body *body, axi_time deadline,
                             axi_http_reply *reply, axon_error *err)
{
    axi_time began = axi_now();
    size_t size = strlen(http->url) + strlen(path) + 1;
    char *url = malloc(size);
    if (!url) return axi_no_memory(err, size);
    snprintf(url, size, "%s%s", http->url, path);
    axon_status status = follow(http, path, &url, body, deadline, err);
    log_request(http, path, body, began);
    http->replies_are_large = http->now.data.length >= LARGE_RECEIVE_BYTES;
    if (status == AXON_OK) take_reply(http, reply);
    axi_buffer_free(&http->now.data);
    http->now.body = (axi_body_reader){0};
    free(url);
    return status;
}

/* ---- threads and processes --------------------------------------------------------------------- */

axon_status axi_http_begin(axi_http *http, axon_error *err)
{
    if (http->owner != getpid())
        return axi_fail(err, AXON_EINVAL, "%s: opened before fork(); open it again in the child",
                        http->url);
    enum state idle = IDLE;
    if (!atomic_compare_exchange_strong(&http->state, &idle, BUSY))
        return axi_fail(err, AXON_EINVAL, "%s: another thread is in a call", http->url);
    return AXON_OK;
}

void axi_http_end(axi_http *http)
{
    atomic_store(&http->state, IDLE);
}

void axi_http_cancel(axi_http *http)
{
    enum state busy = BUSY;
    if (http->owner == getpid() && atomic_compare_exchange_strong(&http->state, &busy, CANCELLED))
        curl_multi_wakeup(http->multi);
}

/* What libcurl writes from here on, a TLS goodbye, goes nowhere. False when only closing was possible. */
static bool detach_sockets(axi_http *http)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < MAX_SOCKETS; i++) {
        if (http->sockets[i] < 0) continue;
        if (nowhere < 0)
            close(http->sockets[i]);
        else
            dup3(nowhere, http->sockets[i], O_CLOEXEC);
    }
    if (nowhere >= 0) close(nowhere);
    return nowhere >= 0;
}

void axi_http_close(axi_http *http)
{
    if (!http) return;
    bool is_sound = true;
    if (http->owner != getpid()) /* a call in progress was copied as it was just then */
        is_sound = detach_sockets(http) && atomic_load(&http->state) == IDLE;
    if (is_sound) {
        pipe_guard guard = hold_sigpipe(http->origin.is_tls);
        curl_easy_cleanup(http->easy);
        curl_multi_cleanup(http->multi);
        release_sigpipe(&guard);
    }
    curl_slist_free_all(http->headers);
    curl_slist_free_all(http->json_headers);
    axi_buffer_free(&http->now.data);
    free(http->url);
    free(http);
}

/* See ws_link.h. */
#include "ws_link.h"

#include "tcp.h"
#include "ws_frame.h"
#include "ws_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The longest answer to the upgrade that is read: longer ones are taken for endless. */
#define HEAD_BYTES 16384

/* How long the words that go with an HTTP error may come behind its header. */
#define WORDS_MS 100

/* One connection needs one of them; the rest is for what libwebsockets has of its own. */
#define LWS_DESCRIPTORS 8

/* libwebsockets' own time-outs must never be the first: ours say what happened. */
#define LWS_SECONDS 86400

typedef enum stage {
    CONNECTING,
    TUNNELLING, /* a proxy was asked to connect us */
    UPGRADING,  /* TLS, if any, and the HTTP upgrade */
    UP,
    FAILED
} stage;

struct axi_link {
    const axi_link_target *target; /* while opening */
    struct lws_context *context;
    struct lws_protocols protocols[2];
    lws_retry_bo_t idle_policy;
    struct lws *wsi;
    axi_tls *tls;
    struct ssl_st *ssl;
    int fd;
    stage stage;
    axi_buffer early;
    bool out_of_memory;
    bool is_leaving;     /* libwebsockets is to send its close frame */
    int32_t http_status; /* of an answer that is no upgrade */
    size_t words_length; /* what the server said with it */
    char words[200];
    char complaint[80]; /* libwebsockets' */
};

/* ---- libwebsockets reports ----------------------------------------------------------------- */

/* Our own server knows its own by the agent. */
static int add_headers(const axi_link *link, unsigned char **at, size_t room)
{
    const char *key = link->target->authorization;
    int length = snprintf((char *)*at, room, "User-Agent: axon/%s\r\n%s%s%s", axon_version(),
                          key ? "Authorization: " : "", key ? key : "", key ? "\r\n" : "");
    if (length < 0 || (size_t)length >= room) return -1;
    *at += length;
    return 0;
}

/* An answer that is no upgrade: keeps its status and the beginning of its body, and has the connection ended. */
static int keep_refusal(axi_link *link, struct lws *wsi)
{
    unsigned status = lws_http_client_http_response(wsi);
    if (status == 101) return 0;
    link->http_status = (int32_t)status;
    if (status == 0) snprintf(link->complaint, sizeof link->complaint, "HS: it has no status");
    struct pollfd more = {.fd = lws_get_socket_fd(wsi), .events = POLLIN};
    for (int tries = 0; tries < 2 && link->words_length == 0; tries++) {
        char *body = NULL;
        int length = 0;
        if (lws_http_client_read(wsi, &body, &length) != 0 || link->words_length) break;
        if (poll(&more, 1, WORDS_MS) <= 0) break;
    }
    return -1;
}

static void keep_words(axi_link *link, const char *text, size_t length)
{
    size_t room = sizeof link->words - 1 - link->words_length;
    if (length > room) length = room;
    memcpy(link->words + link->words_length, text, length);
    link->words_length += length;
}

/* HTTP forbids a body here, and chunks would be taken apart on their way to us. An empty one is harmless. */
static bool announces_body(struct lws *wsi)
{
    char length[24];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) return true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0) return false;
    int copied = lws_hdr_copy(wsi, length, sizeof length, WSI_TOKEN_HTTP_CONTENT_LENGTH);
    return copied <= 0 || strspn(length, "0") != (size_t)copied;
}

/* The answer is good. What libwebsockets read beyond it is taken out before it can parse it. */
static int take_early_bytes(axi_link *link, struct lws *wsi)
{
    if (announces_body(wsi)) {
        snprintf(link->complaint, sizeof link->complaint, "it announces a body");
        return -1;
    }
    char *bytes = NULL;
    int length = 0;
    lws_http_client_read(wsi, &bytes, &length);
    return link->out_of_memory ? -1 : 0;
}

static int keep_bytes(axi_link *link, const void *bytes, size_t length)
{
    if (link->http_status)
        keep_words(link, bytes, length);
    else if (!axi_buffer_add(&link->early, bytes, length))
        link->out_of_memory = true;
    return 0;
}

static int connected(axi_link *link, struct lws *wsi)
{
    lws_rx_flow_control(wsi, 0);
    link->fd = lws_get_socket_fd(wsi);
    link->ssl = link->tls ? lws_get_ssl(wsi) : NULL;
    link->stage = UP;
    return 0;
}

static int failed(axi_link *link, const char *complaint, size_t length)
{
    if (link->stage != UP) link->stage = FAILED;
    if (complaint && !link->complaint[0])
        snprintf(link->complaint, sizeof link->complaint, "%.*s", (int)length, complaint);
    return 0;
}

/* Asked once for the close frame; a second time, libwebsockets would hang up. */
static int begin_leaving(axi_link *link)
{
    bool is_leaving = link->is_leaving;
    link->is_leaving = false;
    return is_leaving ? -1 : 0;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length)
{
    (void)user;
    axi_link *link = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) {
    case LWS_CALLBACK_WSI_CREATE:
        link->stage = link->target->proxy->host[0] ? TUNNELLING : UPGRADING;
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_headers(link, in, length);
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
        return keep_refusal(link, wsi);
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
        return take_early_bytes(link, wsi);
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
        return keep_bytes(link, in, length);
    case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
        return -1; /* no other request follows on this connection */
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        return connected(link, wsi);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        return failed(link, in, length);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return begin_leaving(link);
    case LWS_CALLBACK_WSI_DESTROY:
        link->wsi = NULL;
        return 0;
    default:
        return 0;
    }
}

static void log_line(int level, const char *line)
{
    (void)level;
    axi_log(AXON_LOG_DEBUG, "libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

static void route_log(void)
{
    lws_set_log_level(LLL_ERR | LLL_WARN, log_line);
}

/* ---- starting ------------------------------------------------------------------------------ */

/* libwebsockets has the whole process ignore SIGPIPE. What the application had set comes back. */
struct lws_context *axi_link_create_context(const struct lws_context_creation_info *info)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction before;
    pthread_once(&once, route_log);
    pthread_mutex_lock(&lock);
    sigaction(SIGPIPE, NULL, &before);
    struct lws_context *context = lws_create_context(info);
    sigaction(SIGPIPE, &before, NULL);
    pthread_mutex_unlock(&lock);
    return context;
}

/* Named even when there is none: libwebsockets would ask the environment, and for every host. */
static void name_proxy(const axi_link_target *target, char *text, size_t size)
{
    const axi_proxy *proxy = target->proxy;
    bool is_v6 = strchr(target->address, ':') != NULL;
    if (!proxy->host[0])
        snprintf(text, size, "0:0");
    else
        snprintf(text, size, "%s%s%s%s%s:%u", proxy->credentials, proxy->credentials[0] ? "@" : "",
                 is_v6 ? "[" : "", target->address, is_v6 ? "]" : "", proxy->port);
}

/* The context knows nothing of TLS, the virtual host in it does: so libwebsockets leaves OpenSSL's process-wide
 * state alone. */
static bool create_host(axi_link *link)
{
    char proxy[320];
    name_proxy(link->target, proxy, sizeof proxy);
    link->protocols[0] = (struct lws_protocols){
        .name = "", .callback = on_event, .rx_buffer_size = 4096, .tx_packet_size = INT32_MAX / 2};
    link->idle_policy =
        (lws_retry_bo_t){.secs_since_valid_ping = UINT16_MAX}; /* it never hangs up by itself */
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .user = link,
        .gid = -1,
        .uid = -1,
        .fd_limit_per_thread = LWS_DESCRIPTORS,
        .pt_serv_buf_size = 4 * HEAD_BYTES,
        .max_http_header_data2 = HEAD_BYTES,
        .timeout_secs = LWS_SECONDS,
        .connect_timeout_secs = LWS_SECONDS,
        .retry_and_idle_policy = &link->idle_policy,
        .protocols = link->protocols,
        .http_proxy_address = proxy,
    };
    link->context = axi_link_create_context(&info);
    if (!link->context) return false;
    if (link->tls) {
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        info.provided_client_ssl_ctx = axi_tls_context(link->tls);
    }
    return lws_create_vhost(link->context, &info) != NULL;
}

static bool start_connecting(axi_link *link)
{
    const axi_link_target *target = link->target;
    const axi_ws_url *url = target->url;
    char far_host[sizeof url->host + 2];
    snprintf(far_host, sizeof far_host, strchr(url->host, ':') ? "[%s]" : "%s", url->host);
    struct lws_client_connect_info info = {
        .context = link->context,
        .address = target->proxy->host[0] ? far_host : target->address,
        .port = url->port,
        .path = url->path,
        .host = url->authority,
        .local_protocol_name = "",
        .alpn = "http/1.1",
        .retry_and_idle_policy = &link->idle_policy,
        .pwsi = &link->wsi,
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
    };
    if (link->tls) info.ssl_connection |= LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK;
    return lws_client_connect_via_info(&info) != NULL;
}

/* ---- what the socket says ------------------------------------------------------------------ */

static bool is_worth_another_try(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static axon_status fail_to_connect(const axi_link *link, int error, bool *again, axon_error *err)
{
    const axi_proxy *proxy = link->target->proxy;
    char whom[sizeof proxy->host + 16] = "";
    if (proxy->host[0]) snprintf(whom, sizeof whom, "proxy %s:%u: ", proxy->host, proxy->port);
    *again = is_worth_another_try(error);
    if (error == ECONNREFUSED)
        return axi_fail(err, AXON_ECONNECT, "%sconnection refused: nobody listens there", whom);
    return axi_fail(err, AXON_ECONNECT, "%scannot connect: %s", whom, strerror(error));
}

/* Why connect() fails at once, which libwebsockets does not tell; 0 when, asked again, it does not. */
static int error_of_connecting(const axi_link_target *target)
{
    char port[8];
    uint16_t number = target->proxy->host[0] ? target->proxy->port : target->url->port;
    snprintf(port, sizeof port, "%u", number);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *to;
    if (getaddrinfo(target->address, port, &hints, &to) != 0) return 0;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0 ? errno : 0;
    if (fd >= 0) close(fd);
    freeaddrinfo(to);
    return error == EINPROGRESS ? 0 : error;
}

static axon_status look_at_connecting(axi_link *link, bool *again, axon_error *err)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(lws_get_socket_fd(link->wsi), SOL_SOCKET, SO_ERROR, &error, &size);
    return error ? fail_to_connect(link, error, again, err) : AXON_OK;
}

/* poll() reports input when so many bytes wait, not before. */
static void wake_at(int fd, int bytes)
{
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

static bool is_whole(const char *head)
{
    return strstr(head, "\r\n\r\n") || strstr(head, "\n\n");
}

/* An alert, which is what TLS answers to HTTP. */
static bool is_tls(const char *head)
{
    return head[0] == 21 && head[1] == 3;
}

/* HTTP's beginning, as far as it is there. */
static bool is_http(const char *head)
{
    size_t length = strlen(head);
    return strncmp(head, "HTTP/1.", length < 7 ? length : 7) == 0;
}

static axon_status judge_tunnel(const char *head, const axi_proxy *proxy, axon_error *err)
{
    int status = atoi(head + strcspn(head, " "));
    if (status == 200) return AXON_OK;
    axi_fail(err, AXON_ECONNECT, "proxy %s:%u: it answered HTTP %d to CONNECT", proxy->host, proxy->port,
             status);
    if (err) err->http_status = status;
    return AXON_ECONNECT;
}

static axon_status hung_up(const axi_link *link, int error, bool *again, axon_error *err)
{
    *again = true;
    const char *what = link->stage == TUNNELLING ? "the proxy" : "the server";
    if (error)
        return axi_fail(err, AXON_ECONNECT, "%s dropped the connection before the upgrade: %s", what,
                        strerror(error));
    return axi_fail(err, AXON_ECONNECT, "%s hung up before it answered the upgrade", what);
}

/* Looks at an HTTP answer while it still lies in the socket. libwebsockets gets it when it is whole: it would
 * read an endless one for ever. */
static axon_status look_at_answer(axi_link *link, short events, bool *is_ready, bool *again,
                                  axon_error *err)
{
    int fd = lws_get_socket_fd(link->wsi);
    char head[HEAD_BYTES + 1];
    ssize_t got = recv(fd, head, HEAD_BYTES, MSG_PEEK | MSG_DONTWAIT);
    *is_ready = false;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return AXON_OK;
    if (got <= 0) return hung_up(link, got < 0 ? errno : 0, again, err);

    head[got] = 0;
    if (is_tls(head))
        return axi_fail(err, AXON_EPROTOCOL, "the server speaks TLS: its URL begins with wss://");
    if (!is_http(head))
        return axi_fail(err, AXON_EPROTOCOL, "no WebSocket server: it answered \"%.60s\"", head);
    if (is_whole(head)) {
        wake_at(fd, 1);
        *is_ready = true;
        return link->stage == TUNNELLING ? judge_tunnel(head, link->target->proxy, err) : AXON_OK;
    }
    if (got == HEAD_BYTES)
        return axi_fail(err, AXON_EPROTOCOL, "the answer to the upgrade is longer than %d bytes or endless",
                        HEAD_BYTES);
    if (events & (POLLRDHUP | POLLHUP | POLLERR)) return hung_up(link, 0, again, err);
    wake_at(fd, (int)got + 1);
    return AXON_OK;
}

static axon_status look(axi_link *link, short events, bool *is_ready, bool *again, axon_error *err)
{
    *is_ready = true;
    if (link->stage == CONNECTING) return look_at_connecting(link, again, err);
    if (link->stage == UPGRADING && link->tls) return AXON_OK;
    return look_at_answer(link, events, is_ready, again, err);
}

/* ---- why it failed ------------------------------------------------------------------------- */

static axon_status fail_with_status(const axi_link *link, axon_error *err)
{
    bool is_auth = link->http_status == 401 || link->http_status == 403;
    axon_status status = is_auth ? AXON_EAUTH : AXON_ESERVER;
    axi_fail(err, status, "the server answered HTTP %d in place of the upgrade%s%s", link->http_status,
             link->words_length ? ": " : "", link->words);
    if (err) err->http_status = link->http_status;
    return status;
}

static axon_status fail_with_complaint(const axi_link *link, axon_error *err)
{
    static const char *const known[][2] = {
        {"HS: Accept hash wrong", "its Sec-WebSocket-Accept is wrong"},
        {"HS: ACCEPT missing", "it has no Sec-WebSocket-Accept"},
        {"HS: UPGRADE", "its Connection or Upgrade header is missing or wrong"},
        {"HS: Upgrade", "it upgrades to something else"},
        {"HS: PROTOCOL", "it names a subprotocol that was not asked for"},
        {"HS: EXT", "it names an extension that was not asked for"},
        {"problems parsing header", "its header is malformed"},
        {"HS: it has no status", "it has no status"},
    };
    if (link->out_of_memory || strstr(link->complaint, "OOM"))
        return axi_fail(err, AXON_ENOMEM, "out of memory while connecting");
    const char *why = link->complaint;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(link->complaint, known[i][0], strlen(known[i][0])) == 0) why = known[i][1];
    return axi_fail(err, AXON_EPROTOCOL, "no proper WebSocket server: bad answer to the upgrade: %s", why);
}

static axon_status fail_in_tls(const axi_link *link, bool *again, axon_error *err)
{
    if (axi_tls_is_flooded(link->tls))
        return axi_fail(err, AXON_EPROTOCOL, "the answer to the upgrade is endless");
    if (axi_tls_is_up(link->tls)) return hung_up(link, 0, again, err);
    const char *fault = axi_tls_fault(link->tls);
    if (fault) return axi_fail(err, AXON_ECONNECT, "%s", fault);
    *again = true;
    return axi_fail(err, AXON_ECONNECT, "the server hung up during the TLS handshake");
}

/* libwebsockets gave up. */
static axon_status explain(const axi_link *link, bool *again, axon_error *err)
{
    if (link->http_status) return fail_with_status(link, err);
    bool in_answer = strncmp(link->complaint, "HS: ", 4) == 0 || strstr(link->complaint, "parsing");
    if (link->tls && !in_answer && !link->out_of_memory) return fail_in_tls(link, again, err);
    return fail_with_complaint(link, err);
}

static axon_status fail_by_time(const axi_link *link, axon_error *err)
{
    switch (link->stage) {
    case CONNECTING:
        return axi_fail(err, AXON_ETIMEOUT, "no answer to the attempt to connect");
    case TUNNELLING:
        return axi_fail(err, AXON_ETIMEOUT, "the proxy %s:%u is listening but silent",
                        link->target->proxy->host, link->target->proxy->port);
    default:
        return axi_fail(err, AXON_ETIMEOUT, "listening but silent: no answer to the %s",
                        link->tls && !axi_tls_is_up(link->tls) ? "TLS handshake" : "upgrade");
    }
}

/* ---- opening ------------------------------------------------------------------------------- */

static axon_status step(axi_link *link, axi_time deadline, bool *again, axon_error *err)
{
    bool is_held = lws_service_adjust_timeout(link->context, 1, 0) == 0;
    struct pollfd socket = {.fd = lws_get_socket_fd(link->wsi),
                            .events = link->stage == CONNECTING ? POLLOUT : POLLIN | POLLRDHUP};
    int ready = poll(&socket, 1, is_held ? 0 : axi_left_ms(deadline, AXI_LOOK_UP_MS));
    bool is_ready = true;
    if (ready > 0) {
        axon_status status = look(link, socket.revents, &is_ready, again, err);
        if (status != AXON_OK) return status;
    }
    if (!is_ready || (ready <= 0 && !is_held && !link->tls)) return AXON_OK;
    if (link->stage == TUNNELLING) link->stage = UPGRADING;
    lws_service(link->context, -1);
    return link->stage == FAILED || !link->wsi ? explain(link, again, err) : AXON_OK;
}

static axon_status drive(axi_link *link, axi_time deadline, bool *again, axon_error *err)
{
    axi_time look_up = axi_now();
    while (link->stage != UP) {
        axon_status status = step(link, deadline, again, err);
        if (status != AXON_OK) return status;
        if (link->stage == UP) break;
        if (axi_left_ms(deadline, 1) == 0) return fail_by_time(link, err);
        if (axi_now() - look_up < (axi_time)AXI_LOOK_UP_MS * 1000000) continue;
        look_up = axi_now();
        const atomic_bool *is_cancelled = link->target->is_cancelled;
        if (axi_interrupted() || (is_cancelled && atomic_load(is_cancelled)))
            return axi_fail(err, AXON_ECANCELED, "cancelled while connecting");
    }
    return AXON_OK;
}

static axon_status begin(axi_link *link, bool *again, axon_error *err)
{
    const axi_link_target *target = link->target;
    if (target->url->is_tls) {
        axon_status status =
            axi_tls_open(&link->tls, target->url->host, target->ca_file, target->tls_insecure, err);
        if (status != AXON_OK) return status;
    }
    if (!create_host(link))
        return axi_fail(err, AXON_ENOMEM,
                        "libwebsockets could not be set up: out of memory or of descriptors");
    if (start_connecting(link)) return AXON_OK;
    int error = error_of_connecting(target);
    if (error) return fail_to_connect(link, error, again, err);
    *again = true; /* the server came up between the two tries, most likely */
    return axi_fail(err, AXON_ECONNECT, "libwebsockets could not begin to connect");
}

axon_status axi_link_open(axi_link **link, const axi_link_target *target, axi_time deadline, bool *again,
                          axon_error *err)
{
    *again = false;
    axi_link *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->target = target;
    made->fd = -1;
    axon_status status = begin(made, again, err);
    if (status == AXON_OK) status = drive(made, deadline, again, err);
    if (status != AXON_OK) {
        axi_link_close(made, false);
        return status;
    }
    axi_tcp_tune(made->fd);
    if (made->tls) axi_tls_lift_limit(made->tls);
    made->target = NULL;
    *link = made;
    return AXON_OK;
}

/* The child's descriptor leads nowhere from now on, so that freeing sends nothing over the parent's connection. */
static void disconnect_child(int fd)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0) return;
    dup2(nowhere, fd);
    close(nowhere);
}

void axi_link_close(axi_link *link, bool in_child)
{
    if (!link) return;
    if (in_child && link->fd >= 0) disconnect_child(link->fd);
    if (link->context) lws_context_destroy(link->context);
    axi_tls_close(link->tls);
    axi_buffer_free(&link->early);
    free(link);
}

/* ---- bytes --------------------------------------------------------------------------------- */

int axi_link_fd(const axi_link *link)
{
    return link->fd;
}

const uint8_t *axi_link_early(const axi_link *link, size_t *length)
{
    *length = link->early.length;
    return link->early.data;
}

ptrdiff_t axi_link_read(axi_link *link, void *to, size_t room)
{
    if (!link->wsi) return AXI_READ_CLOSED;
    if (link->ssl) return axi_tls_read(link->ssl, to, room);
    for (;;) {
        ssize_t got = recv(link->fd, to, room, MSG_DONTWAIT);
        if (got > 0) return got;
        if (got == 0) return AXI_READ_CLOSED;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return AXI_READ_NOTHING;
        if (errno != EINTR) return AXI_READ_LOST;
    }
}

bool axi_link_holds(const axi_link *link)
{
    return link->wsi && link->ssl && axi_tls_holds(link->ssl);
}

bool axi_link_write(axi_link *link, uint8_t *bytes, size_t length)
{
    return link->wsi && lws_write(link->wsi, bytes, length, LWS_WRITE_RAW) >= 0;
}

bool axi_link_is_stuck(const axi_link *link)
{
    return link->wsi && lws_partial_buffered(link->wsi) != 0;
}

bool axi_link_flush(axi_link *link)
{
    return link->wsi && lws_write(link->wsi, NULL, 0, LWS_WRITE_RAW) >= 0;
}

static enum lws_write_protocol kind_of(int opcode)
{
    switch (opcode) {
    case AXI_WS_TEXT:
        return LWS_WRITE_TEXT;
    case AXI_WS_PING:
        return LWS_WRITE_PING;
    case AXI_WS_PONG:
        return LWS_WRITE_PONG;
    default:
        return LWS_WRITE_BINARY;
    }
}

axon_status axi_link_write_frame(axi_link *link, int opcode, const struct iovec *parts, size_t count,
                                 size_t length)
{
    if (!link->wsi) return AXON_ECONNECT;
    uint8_t small[LWS_PRE + AXI_WS_CONTROL]; /* answering a ping must not fail for memory */
    uint8_t *buffer = length <= AXI_WS_CONTROL ? small : malloc(LWS_PRE + length);
    if (!buffer) return AXON_ENOMEM;
    uint8_t *at = buffer + LWS_PRE;
    for (size_t i = 0; i < count; at += parts[i].iov_len, i++)
        if (parts[i].iov_len) memcpy(at, parts[i].iov_base, parts[i].iov_len);
    int written = lws_write(link->wsi, buffer + LWS_PRE, length, kind_of(opcode));
    if (buffer != small) free(buffer);
    return written < 0 ? AXON_ECONNECT : AXON_OK;
}

void axi_link_write_close(axi_link *link, int code)
{
    if (!link->wsi) return;
    lws_close_reason(link->wsi, (enum lws_close_status)code, NULL, 0);
    link->is_leaving = true;
    for (int rounds = 0; rounds < 2 && link->wsi; rounds++) { /* one to ask us, one to send it */
        lws_callback_on_writable(link->wsi);
        lws_service(link->context, -1);
    }
    if (!link->wsi) link->fd = -1;
}

int axi_link_silence_ms(const axi_link *link)
{
    return axi_tcp_silence_ms(link->fd);
}

int axi_link_in_vain_ms(const axi_link *link)
{
    return axi_tcp_in_vain_ms(link->fd);
}

const char *axi_link_version(void)
{
    return lws_get_library_version();
}

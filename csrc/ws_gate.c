/* See ws_gate.h. */
#include "ws_gate.h"

#include "base64.h"
#include "ws_link.h"

#include <fcntl.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLOSE_SECONDS = 10, /* that libwebsockets gives its own descriptors, which lead nowhere then */
    PATH_BYTES = 1024,
    VALUE_BYTES = 8192,
    ANSWER_BYTES = 1024,
    KEY_LENGTH = 24
};

#define KEY_SUFFIX "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, section 1.3 */

struct axi_gate {
    axi_gate_ask *ask;
    void *user;
    struct lws_context *context;
    struct lws_vhost *host;
    struct lws_protocols protocols[2];
    lws_retry_bo_t idle_policy;
    int nowhere; /* /dev/null */
    int fd;      /* of the request that is being answered, or -1 */
    bool is_head;
    axi_http_outcome outcome;
    axi_watch *changed; /* watches to be looked at before the next wait */
};

struct axi_watch {
    axi_gate *gate;
    axi_watch_events events;
    void *user;
    struct lws *wsi;
    bool writes, ends;
    bool is_changed;
    axi_watch *next_changed;
};

/* ---- HTTP ---------------------------------------------------------------------------------- */

static const char *meaning_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 426:
        return "Upgrade Required";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Bad Request";
    }
}

static void answer(int fd, int status, const char *text, bool shows_text)
{
    char bytes[ANSWER_BYTES];
    const char *more = status == 426   ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       : status == 401 ? "WWW-Authenticate: Api-Key\r\n"
                                       : "";
    int length = snprintf(bytes, sizeof bytes,
                          "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                          "Content-Length: %zu\r\n%sConnection: %sclose\r\n\r\n%s",
                          status, meaning_of(status), strlen(text), more, status == 426 ? "upgrade, " : "",
                          shows_text ? text : "");
    if (length < 0 || length >= ANSWER_BYTES) return;
    ssize_t sent = send(fd, bytes, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* nothing was sent before: it fits, or the client is gone */
}

void axi_http_refuse(int fd, int status, const char *text)
{
    answer(fd, status, text, true);
}

static void read_header(struct lws *wsi, enum lws_token_indexes token, char *text, int size)
{
    if (lws_hdr_copy(wsi, text, size, token) < 0) text[0] = 0;
}

/* What the owner answers; 0 when the upgrade may go on. */
static int ask_owner(axi_gate *gate, struct lws *wsi, bool is_upgrade, const char **text)
{
    char path[PATH_BYTES], authorization[VALUE_BYTES], agent[PATH_BYTES];
    bool is_get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;
    gate->is_head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;
    read_header(wsi, gate->is_head ? WSI_TOKEN_HEAD_URI : WSI_TOKEN_GET_URI, path, sizeof path);
    read_header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, authorization, sizeof authorization);
    read_header(wsi, WSI_TOKEN_HTTP_USER_AGENT, agent, sizeof agent);
    axi_http_asked asked = {path, authorization, agent, is_upgrade, is_get || gate->is_head};
    return gate->ask(gate->user, &asked, text);
}

static bool has_connection_upgrade(struct lws *wsi)
{
    char connection[VALUE_BYTES];
    read_header(wsi, WSI_TOKEN_CONNECTION, connection, sizeof connection);
    return strcasestr(connection, "upgrade") != NULL;
}

static bool is_key(const char *key)
{
    uint8_t bytes[KEY_LENGTH];
    size_t length, offset;
    return strlen(key) == KEY_LENGTH && axi_base64_decode(bytes, &length, key, KEY_LENGTH, &offset) &&
           length == 16;
}

/* What a WebSocket client must have said (RFC 6455, section 4.2.1). */
static int check_upgrade(struct lws *wsi, char key[KEY_LENGTH + 1], const char **text)
{
    char version[8];
    read_header(wsi, WSI_TOKEN_VERSION, version, sizeof version);
    read_header(wsi, WSI_TOKEN_KEY, key, KEY_LENGTH + 1);
    *text = "WebSocket is spoken in version 13 alone (Sec-WebSocket-Version).\n";
    if (strcmp(version, "13") != 0) return 426;
    *text = "A WebSocket begins with a GET and \"Connection: Upgrade\".\n";
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) <= 0 || !has_connection_upgrade(wsi)) return 400;
    *text = "Sec-WebSocket-Key is missing, or is not 16 bytes in base64.\n";
    return is_key(key) ? 0 : 400;
}

static int finish(axi_gate *gate, axi_http_outcome outcome, int status, const char *text)
{
    answer(gate->fd, status, text, !gate->is_head);
    gate->outcome = outcome;
    gate->fd = -1;
    return -1;
}

static int on_request(axi_gate *gate, struct lws *wsi)
{
    const char *text = "";
    int status = ask_owner(gate, wsi, false, &text);
    return finish(gate, AXI_HTTP_ANSWERED, status, text);
}

/* Subprotocols and extensions that are offered are left unsaid: there are none. */
static int agree(axi_gate *gate, const char *key)
{
    char asked[KEY_LENGTH + sizeof KEY_SUFFIX], answer[ANSWER_BYTES], accept[28];
    uint8_t digest[20];
    int length = snprintf(asked, sizeof asked, "%s" KEY_SUFFIX, key);
    lws_SHA1((const uint8_t *)asked, (size_t)length, digest);
    axi_base64_encode(accept, digest, sizeof digest);
    length = snprintf(answer, sizeof answer,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: %.28s\r\n\r\n",
                      accept);
    ssize_t sent = send(gate->fd, answer, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
    gate->outcome = sent == length ? AXI_HTTP_UPGRADED : AXI_HTTP_ANSWERED;
    gate->fd = -1;
    return -1;
}

/* Other upgrades are not for us: the request is answered as if it asked for none. */
static int on_upgrade(axi_gate *gate, struct lws *wsi, const char *protocol)
{
    char key[KEY_LENGTH + 1];
    const char *text;
    if (strcasecmp(protocol, "websocket") != 0) return on_request(gate, wsi);
    int status = check_upgrade(wsi, key, &text);
    if (status) return finish(gate, AXI_HTTP_REFUSED, status, text);
    status = ask_owner(gate, wsi, true, &text);
    return status ? finish(gate, AXI_HTTP_ANSWERED, status, text) : agree(gate, key);
}

/* libwebsockets reads the request from memory, and has a descriptor that leads nowhere: answers are ours to write,
 * and whatever it does to end the connection, nothing comes of it. */
axi_http_outcome axi_gate_answer(axi_gate *gate, int fd, const char *head, size_t length)
{
    int nowhere = fcntl(gate->nowhere, F_DUPFD_CLOEXEC, 0);
    if (nowhere < 0) return AXI_HTTP_LATER;
    gate->fd = fd;
    gate->is_head = false;
    lws_adopt_socket_vhost_readbuf(gate->host, nowhere, head, length);
    if (gate->fd >= 0)
        finish(gate, AXI_HTTP_REFUSED, 400, "This is no HTTP request that is understood here.\n");
    return gate->outcome;
}

/* ---- watches ------------------------------------------------------------------------------- */

/* libwebsockets forgets, after the callback, that writing was asked for in it: so all changes are made between
 * two waits. */
static void mark_changed(axi_watch *watch)
{
    if (watch->is_changed) return;
    watch->is_changed = true;
    watch->next_changed = watch->gate->changed;
    watch->gate->changed = watch;
}

static void unmark(axi_watch *watch)
{
    for (axi_watch **at = &watch->gate->changed; *at; at = &(*at)->next_changed) {
        if (*at != watch) continue;
        *at = watch->next_changed;
        return;
    }
}

static void apply_changes(axi_gate *gate)
{
    while (gate->changed) {
        axi_watch *watch = gate->changed;
        gate->changed = watch->next_changed;
        watch->is_changed = false;
        if (watch->ends)
            lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        else if (watch->writes)
            lws_callback_on_writable(watch->wsi);
    }
}

static int be_ready(struct lws *wsi, bool is_readable)
{
    axi_watch *watch = lws_get_opaque_user_data(wsi);
    if (!watch) return -1;
    if (!watch->ends) watch->events.ready(watch->user, is_readable);
    if (watch->writes) mark_changed(watch);
    return 0;
}

static int be_gone(struct lws *wsi)
{
    axi_watch *watch = lws_get_opaque_user_data(wsi);
    if (!watch) return 0;
    lws_set_opaque_user_data(wsi, NULL);
    unmark(watch);
    watch->events.gone(watch->user);
    free(watch);
    return 0;
}

axi_watch *axi_gate_watch(axi_gate *gate, int fd, const axi_watch_events *events, void *user)
{
    axi_watch *watch = calloc(1, sizeof *watch);
    lws_sock_file_fd_type descriptor = {.filefd = fd};
    if (watch) {
        *watch = (axi_watch){.gate = gate, .events = *events, .user = user};
        watch->wsi = lws_adopt_descriptor_vhost(gate->host, LWS_ADOPT_RAW_FILE_DESC, descriptor, "", NULL);
    }
    if (!watch || !watch->wsi) {
        free(watch);
        close(fd);
        return NULL;
    }
    lws_set_opaque_user_data(watch->wsi, watch);
    return watch;
}

void axi_watch_pass(axi_watch *watch, const axi_watch_events *events, void *user)
{
    watch->events = *events;
    watch->user = user;
}

void axi_watch_read(axi_watch *watch, bool on)
{
    lws_rx_flow_control(watch->wsi, on ? 1 : 0);
}

void axi_watch_write(axi_watch *watch, bool on)
{
    watch->writes = on;
    if (on) mark_changed(watch);
}

void axi_watch_end(axi_watch *watch)
{
    watch->ends = true;
    mark_changed(watch);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length)
{
    (void)user, (void)length;
    axi_gate *gate = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) {
    case LWS_CALLBACK_HTTP:
        return gate->fd < 0 ? -1 : on_request(gate, wsi);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return gate->fd < 0 ? -1 : on_upgrade(gate, wsi, in);
    case LWS_CALLBACK_RAW_RX_FILE:
        return be_ready(wsi, true);
    case LWS_CALLBACK_RAW_WRITEABLE_FILE:
        return be_ready(wsi, false);
    case LWS_CALLBACK_RAW_CLOSE_FILE:
        return be_gone(wsi);
    default:
        return 0;
    }
}

axon_status axi_gate_open(axi_gate **gate, axi_gate_ask *ask, void *user, unsigned max_descriptors,
                          axon_error *err)
{
    axi_gate *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->ask = ask;
    made->user = user;
    made->fd = -1;
    made->nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    made->protocols[0] = (struct lws_protocols){.name = "", .callback = on_event, .rx_buffer_size = 4096};
    made->idle_policy = (lws_retry_bo_t){.secs_since_valid_ping = UINT16_MAX};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .user = made,
        .gid = -1,
        .uid = -1,
        .fd_limit_per_thread = max_descriptors,
        .pt_serv_buf_size = AXI_HEAD_BYTES,
        .max_http_header_data2 = 2 * AXI_HEAD_BYTES,
        .max_http_header_pool2 = AXI_HEADS_AT_ONCE,
        .timeout_secs = CLOSE_SECONDS,
        .retry_and_idle_policy = &made->idle_policy,
        .protocols = made->protocols,
    };
    if (made->nowhere >= 0) made->context = axi_link_create_context(&info);
    if (made->context) made->host = lws_create_vhost(made->context, &info);
    if (!made->host) {
        axi_gate_close(made);
        return axi_fail(err, AXON_ENOMEM,
                        "libwebsockets could not be set up: out of memory or of descriptors");
    }
    *gate = made;
    return AXON_OK;
}

void axi_gate_close(axi_gate *gate)
{
    if (!gate) return;
    if (gate->context) lws_context_destroy(gate->context);
    if (gate->nowhere >= 0) close(gate->nowhere);
    free(gate);
}

void axi_gate_turn(axi_gate *gate)
{
    apply_changes(gate);
    lws_service(gate->context, 0);
    apply_changes(gate);
}

/* See ws_gate.h. */
#include "ws_gate.h"

#include "ws_link.h"

#include <fcntl.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 16384,   /* the longest HTTP request head */
    HEADS_AT_ONCE = 64,   /* HTTP requests that are read at the same time; more wait */
    REQUEST_SECONDS = 10, /* for a request to come whole */
    PATH_BYTES = 1024,
    VALUE_BYTES = 8192,
    ANSWER_BYTES = 1024
};

struct axi_gate {
    axi_gate_events events;
    void *user;
    struct lws_context *context;
    struct lws_vhost *host;
    struct lws_protocols protocols[2];
    lws_retry_bo_t idle_policy;
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

static void read_header(struct lws *wsi, enum lws_token_indexes token, char *text, int size)
{
    if (lws_hdr_copy(wsi, text, size, token) < 0) text[0] = 0;
}

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
    case 503:
        return "Service Unavailable";
    default:
        return "Bad Request";
    }
}

static void answer(struct lws *wsi, int status, const char *text)
{
    uint8_t buffer[LWS_PRE + ANSWER_BYTES];
    char *at = (char *)buffer + LWS_PRE;
    int length =
        snprintf(at, ANSWER_BYTES,
                 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                 "Content-Length: %zu\r\n%s%sConnection: close\r\n\r\n%s",
                 status, meaning_of(status), strlen(text), status == 426 ? "Upgrade: websocket\r\n" : "",
                 status == 401 ? "WWW-Authenticate: Api-Key\r\n" : "", text);
    if (length > 0 && length < ANSWER_BYTES)
        lws_write(wsi, buffer + LWS_PRE, (size_t)length, LWS_WRITE_HTTP_FINAL);
}

/* True when the upgrade may go on. */
static bool ask(axi_gate *gate, struct lws *wsi, bool is_upgrade)
{
    char path[PATH_BYTES], authorization[VALUE_BYTES], agent[PATH_BYTES];
    bool is_get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;
    read_header(wsi, is_get ? WSI_TOKEN_GET_URI : WSI_TOKEN_POST_URI, path, sizeof path);
    read_header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, authorization, sizeof authorization);
    read_header(wsi, WSI_TOKEN_HTTP_USER_AGENT, agent, sizeof agent);
    axi_http_asked asked = {path, authorization, agent, is_upgrade, is_get};
    const char *text = "";
    void *guest = NULL;
    int status = gate->events.ask(gate->user, &asked, &text, &guest);
    if (status != 0) {
        answer(wsi, status, text);
        return false;
    }
    lws_set_opaque_user_data(wsi, guest);
    return true;
}

/* Takes the socket away from libwebsockets, whose own descriptor leads nowhere from then on: closing it sends
 * nothing. */
static int take_socket(struct lws *wsi)
{
    int fd = lws_get_socket_fd(wsi);
    int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (ours < 0 || nowhere < 0 || dup2(nowhere, fd) < 0) {
        if (ours >= 0) close(ours);
        ours = -1;
    }
    if (nowhere >= 0) close(nowhere);
    return ours;
}

static void leave(axi_gate *gate, struct lws *wsi, int fd)
{
    void *guest = lws_get_opaque_user_data(wsi);
    lws_set_opaque_user_data(wsi, NULL);
    if (guest) gate->events.arrived(gate->user, guest, fd);
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
    (void)user, (void)in, (void)length;
    axi_gate *gate = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) {
    case LWS_CALLBACK_HTTP:
        ask(gate, wsi, false);
        return -1;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return ask(gate, wsi, true) ? 0 : -1;
    case LWS_CALLBACK_ESTABLISHED:
        leave(gate, wsi, take_socket(wsi));
        return -1;
    case LWS_CALLBACK_WSI_DESTROY:
        leave(gate, wsi, -1);
        return 0;
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

axon_status axi_gate_open(axi_gate **gate, const axi_gate_events *events, void *user,
                          unsigned max_descriptors, axon_error *err)
{
    axi_gate *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->events = *events;
    made->user = user;
    made->protocols[0] = (struct lws_protocols){.name = "", .callback = on_event, .rx_buffer_size = 4096};
    made->idle_policy = (lws_retry_bo_t){.secs_since_valid_ping = UINT16_MAX};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .user = made,
        .gid = -1,
        .uid = -1,
        .fd_limit_per_thread = max_descriptors,
        .pt_serv_buf_size = HEAD_BYTES,
        .max_http_header_data2 = HEAD_BYTES,
        .max_http_header_pool2 = HEADS_AT_ONCE,
        .timeout_secs = REQUEST_SECONDS,
        .retry_and_idle_policy = &made->idle_policy,
        .protocols = made->protocols,
    };
    made->context = axi_link_create_context(&info);
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
    free(gate);
}

void axi_gate_adopt(axi_gate *gate, int fd)
{
    lws_adopt_socket_vhost(gate->host, fd);
}

void axi_gate_turn(axi_gate *gate)
{
    apply_changes(gate);
    lws_service(gate->context, 0);
    apply_changes(gate);
}

/* A WebSocket server that does what a test tells it to, misbehaviour first of all. A test includes this file.
 *
 * Each connection is served on a thread of its own, where a script plays the server's part, byte by byte if need
 * be: `at_once` instead of everything, or `script` after a proper upgrade.
 */
#ifndef FAKES_WS_FAKE_C
#define FAKES_WS_FAKE_C

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WS_FAKE_HEAD = 16384, WS_FAKE_CONNECTIONS = 1024 };

typedef struct ws_fake ws_fake;

/* One connection. */
typedef struct ws_peer {
    ws_fake *fake;
    int fd;
    SSL *ssl;
    int number;              /* the how manieth that the fake got, from 1 */
    char head[WS_FAKE_HEAD]; /* of the request */
} ws_peer;

typedef void (*ws_script)(ws_peer *peer);

struct ws_fake {
    ws_script at_once; /* from the first byte, behind TLS if there is any */
    ws_script script;  /* after the upgrade */
    const void *early; /* goes out as one with the answer to the upgrade */
    size_t early_length;
    SSL_CTX *tls;
    bool on_v6;
    int buffer_bytes; /* of the sockets, both ways; 0: the system's */
    int listener;
    int port;
    char url[64];
    pthread_t accepter;
    pthread_mutex_t lock;
    /* under the lock */
    int accepted;
    bool stopping;
    long notes[4]; /* what scripts tell tests */
    char text[WS_FAKE_HEAD];
    int fds[WS_FAKE_CONNECTIONS];
    pthread_t threads[WS_FAKE_CONNECTIONS];
};

/* ---- what scripts are made of: bytes ------------------------------------------------------------ */

static inline bool ws_write(ws_peer *peer, const void *data, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        const uint8_t *rest = (const uint8_t *)data + sent;
        ssize_t n = peer->ssl ? SSL_write(peer->ssl, rest, (int)(length - sent))
                              : send(peer->fd, rest, length - sent, MSG_NOSIGNAL);
        if (n <= 0) return false;
        sent += (size_t)n;
    }
    return true;
}

static inline bool ws_write_text(ws_peer *peer, const char *text)
{
    return ws_write(peer, text, strlen(text));
}

static inline ssize_t ws_read_some(ws_peer *peer, void *data, size_t length)
{
    return peer->ssl ? SSL_read(peer->ssl, data, (int)length) : recv(peer->fd, data, length, 0);
}

static inline bool ws_read(ws_peer *peer, void *data, size_t length)
{
    for (size_t have = 0; have < length;) {
        ssize_t n = ws_read_some(peer, (uint8_t *)data + have, length - have);
        if (n <= 0) return false;
        have += (size_t)n;
    }
    return true;
}

/* Reads and forgets until the client has gone. */
static inline void ws_wait_for_end(ws_peer *peer)
{
    char bin[65536];
    while (ws_read_some(peer, bin, sizeof bin) > 0)
        ;
}

/* Reads nothing until the client has gone. */
static inline void ws_stall(ws_peer *peer)
{
    struct pollfd gone = {.fd = peer->fd, .events = POLLRDHUP};
    while (poll(&gone, 1, -1) < 0 || !(gone.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        ;
}

/* Closes with a reset in place of a goodbye. */
static inline void ws_reset(ws_peer *peer)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static inline void ws_pause(int milliseconds)
{
    poll(NULL, 0, milliseconds);
}

/* ---- notes -------------------------------------------------------------------------------------- */

static inline void ws_note(ws_peer *peer, int slot, long number)
{
    pthread_mutex_lock(&peer->fake->lock);
    peer->fake->notes[slot] = number;
    pthread_mutex_unlock(&peer->fake->lock);
}

static inline long ws_noted(ws_fake *fake, int slot)
{
    pthread_mutex_lock(&fake->lock);
    long number = fake->notes[slot];
    pthread_mutex_unlock(&fake->lock);
    return number;
}

static inline int ws_accepted(ws_fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    int accepted = fake->accepted;
    pthread_mutex_unlock(&fake->lock);
    return accepted;
}

/* The last request's header. */
static inline void ws_requested(ws_fake *fake, char text[WS_FAKE_HEAD])
{
    pthread_mutex_lock(&fake->lock);
    memcpy(text, fake->text, WS_FAKE_HEAD);
    pthread_mutex_unlock(&fake->lock);
}

/* ---- the upgrade -------------------------------------------------------------------------------- */

static inline bool ws_read_request(ws_peer *peer)
{
    size_t length = 0;
    while (length < sizeof peer->head - 1) {
        if (!ws_read(peer, peer->head + length, 1)) return false;
        peer->head[++length] = 0;
        if (length >= 4 && strcmp(peer->head + length - 4, "\r\n\r\n") == 0) break;
    }
    pthread_mutex_lock(&peer->fake->lock);
    memcpy(peer->fake->text, peer->head, sizeof peer->head);
    pthread_mutex_unlock(&peer->fake->lock);
    return true;
}

/* What Sec-WebSocket-Accept must be. */
static inline void ws_proof(const ws_peer *peer, char proof[40])
{
    const char *key = strcasestr(peer->head, "sec-websocket-key:");
    key = key ? key + strlen("sec-websocket-key:") : "";
    key += strspn(key, " ");
    char text[256];
    int length = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                          (int)strcspn(key, "\r"), key);
    unsigned char digest[20];
    EVP_Digest(text, (size_t)length, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)proof, digest, sizeof digest);
}

/* The answer, with `headers` in it (whole lines) and `early` bytes behind it. */
static inline bool ws_accept_upgrade(ws_peer *peer, const char *headers, const void *early, size_t length)
{
    char proof[40], head[4096];
    ws_proof(peer, proof);
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n%s\r\n",
                        proof, headers);
    uint8_t *all = malloc((size_t)size + length);
    memcpy(all, head, (size_t)size);
    if (length) memcpy(all + size, early, length);
    bool sent = ws_write(peer, all, (size_t)size + length);
    free(all);
    return sent;
}

/* ---- frames ------------------------------------------------------------------------------------- */

/* `first` is the first byte: 0x82 is a whole binary message, 0x02 the beginning of one, 0x89 a ping. */
static inline bool ws_send_frame(ws_peer *peer, int first, const void *payload, uint64_t length)
{
    uint8_t header[10] = {(uint8_t)first};
    size_t size = length < 126 ? 2 : length <= 65535 ? 4 : 10;
    header[1] = (uint8_t)(size == 2 ? length : size == 4 ? 126 : 127);
    for (size_t i = 2; i < size; i++)
        header[i] = (uint8_t)(length >> 8 * (size - 1 - i));
    return ws_write(peer, header, size) && ws_write(peer, payload, (size_t)length);
}

static inline bool ws_send_close(ws_peer *peer, int code, const char *reason)
{
    uint8_t payload[125] = {(uint8_t)(code >> 8), (uint8_t)code};
    memcpy(payload + 2, reason, strlen(reason));
    return ws_send_frame(peer, 0x88, payload, 2 + strlen(reason));
}

typedef struct ws_frame {
    int first; /* byte */
    bool is_masked;
    uint8_t *payload; /* unmasked */
    uint64_t length;
} ws_frame;

/* Reads one frame; its payload is the caller's to free. */
static inline bool ws_read_frame(ws_peer *peer, ws_frame *frame)
{
    uint8_t header[2], more[8], key[4] = {0};
    if (!ws_read(peer, header, 2)) return false;
    frame->first = header[0];
    frame->is_masked = header[1] & 0x80;
    frame->length = header[1] & 0x7f;
    size_t size = frame->length == 126 ? 2 : frame->length == 127 ? 8 : 0;
    if (size && !ws_read(peer, more, size)) return false;
    for (size_t i = 0; i < size; i++)
        frame->length = (i ? frame->length << 8 : 0) | more[i];
    if (frame->is_masked && !ws_read(peer, key, 4)) return false;
    frame->payload = malloc(frame->length + 1);
    if (!ws_read(peer, frame->payload, frame->length)) {
        free(frame->payload);
        return false;
    }
    for (uint64_t i = 0; i < frame->length; i++)
        frame->payload[i] ^= key[i & 3];
    return true;
}

/* Reads frames up to one of `opcode`, answering closes; false when the client went. */
static inline bool ws_expect(ws_peer *peer, int opcode, ws_frame *frame)
{
    while (ws_read_frame(peer, frame)) {
        int got = frame->first & 15;
        if (got == 8) ws_send_frame(peer, 0x88, frame->payload, frame->length);
        if (got == opcode) return true;
        free(frame->payload);
        if (got == 8) return false;
    }
    return false;
}

/* Reads one message and forgets it. */
static inline bool ws_skip_message(ws_peer *peer)
{
    ws_frame frame;
    if (!ws_expect(peer, 2, &frame)) return false;
    free(frame.payload);
    return true;
}

/* A script: every message comes back. */
static inline void ws_echo(ws_peer *peer)
{
    for (ws_frame frame; ws_expect(peer, 2, &frame); free(frame.payload))
        ws_send_frame(peer, 0x82, frame.payload, frame.length);
}

/* ---- connections -------------------------------------------------------------------------------- */

typedef struct ws_start {
    ws_fake *fake;
    int slot;
} ws_start;

static inline void ws_play(ws_peer *peer)
{
    ws_fake *fake = peer->fake;
    if (peer->ssl && SSL_accept(peer->ssl) != 1) return;
    if (fake->at_once) {
        fake->at_once(peer);
    } else if (ws_read_request(peer) && ws_accept_upgrade(peer, "", fake->early, fake->early_length)) {
        if (fake->script) fake->script(peer);
    }
}

static inline void *ws_serve(void *argument)
{
    ws_start start = *(ws_start *)argument;
    free(argument);
    sigset_t pipe_only; /* OpenSSL writes without MSG_NOSIGNAL; the client's thread stays as it is */
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
    ws_peer *peer = calloc(1, sizeof *peer);
    peer->fake = start.fake;
    peer->number = start.slot + 1;
    pthread_mutex_lock(&start.fake->lock);
    peer->fd = start.fake->fds[start.slot];
    pthread_mutex_unlock(&start.fake->lock);
    if (start.fake->tls) {
        peer->ssl = SSL_new(start.fake->tls);
        SSL_set_fd(peer->ssl, peer->fd);
    }
    ws_play(peer);
    SSL_free(peer->ssl);
    ERR_clear_error();
    pthread_mutex_lock(&start.fake->lock);
    start.fake->fds[start.slot] = -1;
    close(peer->fd);
    pthread_mutex_unlock(&start.fake->lock);
    free(peer);
    return NULL;
}

static inline void *ws_accept(void *argument)
{
    ws_fake *fake = argument;
    for (;;) {
        int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC), yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        pthread_mutex_lock(&fake->lock);
        if (fd < 0 || fake->stopping || fake->accepted == WS_FAKE_CONNECTIONS) {
            if (fd >= 0) close(fd);
            pthread_mutex_unlock(&fake->lock);
            return NULL;
        }
        ws_start *start = malloc(sizeof *start);
        *start = (ws_start){.fake = fake, .slot = fake->accepted};
        fake->fds[fake->accepted] = fd;
        pthread_create(&fake->threads[fake->accepted], NULL, ws_serve, start);
        fake->accepted++;
        pthread_mutex_unlock(&fake->lock);
    }
}

/* ---- start and stop ------------------------------------------------------------------------------ */

static inline void ws_listen(ws_fake *fake)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    v4.sin_port = v6.sin6_port = htons((uint16_t)fake->port);
    struct sockaddr *address = fake->on_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t size = fake->on_v6 ? sizeof v6 : sizeof v4;
    int yes = 1;
    fake->listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fake->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fake->buffer_bytes) {
        setsockopt(fake->listener, SOL_SOCKET, SO_RCVBUF, &fake->buffer_bytes, sizeof(int));
        setsockopt(fake->listener, SOL_SOCKET, SO_SNDBUF, &fake->buffer_bytes, sizeof(int));
    }
    if (bind(fake->listener, address, size) != 0 || listen(fake->listener, 64) != 0 ||
        getsockname(fake->listener, address, &size) != 0)
        abort();
    fake->port = ntohs(fake->on_v6 ? v6.sin6_port : v4.sin_port);
    snprintf(fake->url, sizeof fake->url, "%s://%s:%d", fake->tls ? "wss" : "ws",
             fake->on_v6 ? "[::1]" : "127.0.0.1", fake->port);
}

/* `plan` gives the script and what else a test wants; free the result with ws_fake_stop(). */
static inline ws_fake *ws_fake_begin(ws_fake plan)
{
    ws_fake *fake = malloc(sizeof *fake);
    *fake = plan;
    pthread_mutex_init(&fake->lock, NULL);
    ws_listen(fake);
    if (pthread_create(&fake->accepter, NULL, ws_accept, fake) != 0) abort();
    return fake;
}

static inline void ws_fake_stop(ws_fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->stopping = true;
    shutdown(fake->listener, SHUT_RDWR);
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->accepter, NULL);
    pthread_mutex_lock(&fake->lock);
    for (int i = 0; i < fake->accepted; i++)
        if (fake->fds[i] >= 0) shutdown(fake->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&fake->lock);
    for (int i = 0; i < fake->accepted; i++)
        pthread_join(fake->threads[i], NULL);
    close(fake->listener);
    pthread_mutex_destroy(&fake->lock);
    SSL_CTX_free(fake->tls);
    free(fake);
}

/* ---- TLS ------------------------------------------------------------------------------------------ */

typedef struct ws_identity {
    X509 *certificate;
    EVP_PKEY *key;
} ws_identity;

/* A certificate for `name` ("IP:127.0.0.1", "DNS:robot.example", or NULL for an authority), good from now on for
 * `seconds`, which may have passed. `issuer` NULL: it signs itself. */
static inline ws_identity ws_certify(const char *name, long seconds, const ws_identity *issuer)
{
    static long serial;
    ws_identity made = {.certificate = X509_new(), .key = EVP_EC_gen("P-256")};
    X509 *x = made.certificate;
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x), -7200);
    X509_gmtime_adj(X509_getm_notAfter(x), seconds);
    const unsigned char *common = (const unsigned char *)(name ? "server" : "authority");
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, common, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer->certificate : x));
    X509_set_pubkey(x, made.key);
    X509_EXTENSION *extension = name ? X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name)
                                     : X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");
    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
    if (X509_sign(x, issuer ? issuer->key : made.key, EVP_sha256()) == 0) abort();
    return made;
}

static inline void ws_forget_identity(ws_identity *identity)
{
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
}

static inline SSL_CTX *ws_tls_of(const ws_identity *identity)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate(context, identity->certificate) != 1 ||
        SSL_CTX_use_PrivateKey(context, identity->key) != 1)
        abort();
    return context;
}

static inline void ws_write_pem(const ws_identity *identity, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file || PEM_write_X509(file, identity->certificate) != 1) abort();
    fclose(file);
}

#endif

/* An HTTP server that does what a test tells it to, misbehaviour first of all. A test includes this file.
 *
 * Each connection is served on a thread of its own; the answer function runs there, once for each request.
 */
#ifndef FAKES_HTTP_FAKE_C
#define FAKES_HTTP_FAKE_C

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAKE_HEAD = 16384, FAKE_CONNECTIONS = 1024 };

typedef struct http_fake http_fake;

/* One connection, at the moment of one request. */
typedef struct fake_peer {
    http_fake *fake;
    int fd;
    SSL *ssl;
    int request; /* the how manieth request that the fake got, from 1 */
    char head[FAKE_HEAD];
    char *body;
    size_t body_length;
} fake_peer;

/* Answers one request; false closes the connection. */
typedef bool (*fake_answer)(fake_peer *peer);

struct http_fake {
    fake_answer answer;
    bool head_only; /* answer as soon as the header is there, the body unread */
    bool at_once;   /* answer before anything is read */
    SSL_CTX *tls;
    int listener;
    char url[64];
    pthread_t accepter;
    pthread_mutex_t lock;
    /* under the lock */
    int accepted;
    int requests;
    bool stopping;
    int fds[FAKE_CONNECTIONS];
    pthread_t threads[FAKE_CONNECTIONS];
    char head[FAKE_HEAD]; /* of the last request */
    char *body;
    size_t body_length;
};

/* ---- what answer functions are made of ---------------------------------------------------------- */

static inline bool fake_write(fake_peer *peer, const void *data, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        const char *rest = (const char *)data + sent;
        ssize_t n = peer->ssl ? SSL_write(peer->ssl, rest, (int)(length - sent))
                              : send(peer->fd, rest, length - sent, MSG_NOSIGNAL);
        if (n <= 0) return false;
        sent += (size_t)n;
    }
    return true;
}

static inline bool fake_text(fake_peer *peer, const char *text)
{
    return fake_write(peer, text, strlen(text));
}

/* A whole reply; keeps the connection. */
static inline bool fake_reply(fake_peer *peer, int status, const char *type, const char *body)
{
    char head[512];
    snprintf(head, sizeof head,
             "HTTP/1.1 %d Some Reason\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status, type,
             strlen(body));
    return fake_text(peer, head) && fake_text(peer, body);
}

static inline bool fake_json(fake_peer *peer, int status, const char *body)
{
    return fake_reply(peer, status, "application/json", body);
}

/* Waits until the client has gone; then there is nothing more to answer. */
static inline bool fake_be_silent(fake_peer *peer)
{
    char bin[4096];
    struct pollfd gone = {.fd = peer->fd, .events = POLLRDHUP};
    while (poll(&gone, 1, -1) >= 0 && !(gone.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        if (recv(peer->fd, bin, sizeof bin, MSG_DONTWAIT) == 0) break;
    return false;
}

/* Closes with a reset in place of a goodbye. */
static inline bool fake_reset(fake_peer *peer)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    return false;
}

/* ---- connections -------------------------------------------------------------------------------- */

static inline ssize_t fake_read(fake_peer *peer, void *data, size_t length)
{
    return peer->ssl ? SSL_read(peer->ssl, data, (int)length) : recv(peer->fd, data, length, 0);
}

static inline size_t fake_content_length(const char *head)
{
    const char *line = strcasestr(head, "\r\ncontent-length:");
    return line ? strtoul(line + strlen("\r\ncontent-length:"), NULL, 10) : 0;
}

/* Reads up to the empty line and gives back what came behind it; false when the client went. */
static inline bool fake_read_head(fake_peer *peer, char *rest, size_t *rest_length)
{
    size_t length = 0;
    while (length < FAKE_HEAD - 1) {
        ssize_t n = fake_read(peer, peer->head + length, FAKE_HEAD - 1 - length);
        if (n <= 0) return false;
        length += (size_t)n;
        peer->head[length] = 0;
        char *end = memmem(peer->head, length, "\r\n\r\n", 4);
        if (!end) continue;
        *rest_length = length - (size_t)(end + 4 - peer->head);
        memcpy(rest, end + 4, *rest_length);
        end[2] = 0;
        return true;
    }
    return false;
}

static inline bool fake_read_request(fake_peer *peer)
{
    char rest[FAKE_HEAD];
    size_t have = 0;
    if (!fake_read_head(peer, rest, &have)) return false;
    size_t length = fake_content_length(peer->head);
    peer->body = realloc(peer->body, length + have + 1);
    memcpy(peer->body, rest, have);
    while (!peer->fake->head_only && have < length) {
        ssize_t n = fake_read(peer, peer->body + have, length - have);
        if (n <= 0) return false;
        have += (size_t)n;
    }
    peer->body[have] = 0;
    peer->body_length = have;
    return true;
}

static inline void fake_record(fake_peer *peer)
{
    http_fake *fake = peer->fake;
    pthread_mutex_lock(&fake->lock);
    peer->request = ++fake->requests;
    memcpy(fake->head, peer->head, sizeof fake->head);
    fake->body = realloc(fake->body, peer->body_length + 1);
    memcpy(fake->body, peer->body, peer->body_length + 1);
    fake->body_length = peer->body_length;
    pthread_mutex_unlock(&fake->lock);
}

typedef struct fake_start {
    http_fake *fake;
    int slot;
} fake_start;

static inline void *fake_serve(void *start)
{
    fake_start from = *(fake_start *)start;
    free(start);
    sigset_t pipe_only; /* OpenSSL writes without MSG_NOSIGNAL; the client's thread stays as it is */
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
    fake_peer *peer = calloc(1, sizeof *peer);
    peer->fake = from.fake;
    peer->fd = from.fake->fds[from.slot];
    if (from.fake->tls) {
        peer->ssl = SSL_new(from.fake->tls);
        SSL_set_fd(peer->ssl, peer->fd);
    }
    if (!peer->ssl || SSL_accept(peer->ssl) == 1) {
        bool go_on = !from.fake->at_once || from.fake->answer(peer);
        while (go_on && fake_read_request(peer)) {
            fake_record(peer);
            go_on = from.fake->answer(peer);
        }
    }
    SSL_free(peer->ssl);
    ERR_clear_error();
    free(peer->body);
    pthread_mutex_lock(&from.fake->lock);
    from.fake->fds[from.slot] = -1;
    close(peer->fd);
    pthread_mutex_unlock(&from.fake->lock);
    free(peer);
    return NULL;
}

static inline void *fake_accept(void *user)
{
    http_fake *fake = user;
    for (;;) {
        int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_mutex_lock(&fake->lock);
        if (fd < 0 || fake->stopping || fake->accepted == FAKE_CONNECTIONS) {
            if (fd >= 0) close(fd);
            pthread_mutex_unlock(&fake->lock);
            return NULL;
        }
        fake_start *start = malloc(sizeof *start);
        *start = (fake_start){.fake = fake, .slot = fake->accepted};
        fake->fds[fake->accepted] = fd;
        pthread_create(&fake->threads[fake->accepted], NULL, fake_serve, start);
        fake->accepted++;
        pthread_mutex_unlock(&fake->lock);
    }
}

/* ---- start and stop ------------------------------------------------------------------------------ */

static inline void fake_listen(http_fake *fake, const char *scheme)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listener, (struct sockaddr *)&address, size) != 0 || listen(fake->listener, 16) != 0 ||
        getsockname(fake->listener, (struct sockaddr *)&address, &size) != 0)
        abort();
    snprintf(fake->url, sizeof fake->url, "%s://127.0.0.1:%d", scheme, ntohs(address.sin_port));
}

/* `plan` gives the answer function, head_only, at_once and tls; free the result with fake_stop(). */
static inline http_fake *fake_begin(http_fake plan)
{
    http_fake *fake = malloc(sizeof *fake);
    *fake = plan;
    pthread_mutex_init(&fake->lock, NULL);
    fake_listen(fake, fake->tls ? "https" : "http");
    if (pthread_create(&fake->accepter, NULL, fake_accept, fake) != 0) abort();
    return fake;
}

static inline http_fake *fake_begin_plain(fake_answer answer)
{
    return fake_begin((http_fake){.answer = answer});
}

static inline int fake_accepted(http_fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    int accepted = fake->accepted;
    pthread_mutex_unlock(&fake->lock);
    return accepted;
}

static inline int fake_requests(http_fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    int requests = fake->requests;
    pthread_mutex_unlock(&fake->lock);
    return requests;
}

/* The header of the last request, up to the next one; fake->body is its body. */
static inline const char *fake_head(http_fake *fake)
{
    fake_requests(fake); /* to have waited for the thread that wrote it */
    return fake->head;
}

static inline void fake_stop(http_fake *fake)
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
    free(fake->body);
    free(fake);
}

/* ---- TLS ------------------------------------------------------------------------------------------ */

/* A server's context with a fresh certificate for `name` ("IP:127.0.0.1", "DNS:robot.example"), which signs itself
 * and is written to the file `ca_file`. */
static inline SSL_CTX *fake_tls(const char *name, const char *ca_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"axon test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);
    X509_add_ext(cert, names, -1);
    X509_EXTENSION_free(names);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    FILE *file = fopen(ca_file, "w");
    if (X509_sign(cert, key, EVP_sha256()) == 0 || !file || PEM_write_X509(file, cert) != 1 ||
        SSL_CTX_use_certificate(context, cert) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1)
        abort();
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
    return context;
}

#endif

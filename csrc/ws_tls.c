/* See ws_tls.h. */
#include "ws_tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Certificates and an HTTP header fit many times. libwebsockets reads the header in a loop that ends only when
 * nothing more comes: a peer that sends for ever must be stopped below it. */
#define BEGINNING_BYTES ((uint64_t)512 << 10)

struct axi_tls {
    SSL_CTX *context;
    const char *host;
    bool insecure;
    bool is_up;
    uint64_t allowed; /* bytes that may still be received */
    bool is_flooded;
    char fault[160];
};

/* ---- the socket, as OpenSSL sees it -------------------------------------------------------- */

/* OpenSSL's own would raise SIGPIPE, and would read without limit. */

static int socket_of(BIO *bio)
{
    return (int)(intptr_t)BIO_get_app_data(bio);
}

static int read_socket(BIO *bio, char *to, int room)
{
    axi_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->allowed == 0) {
        tls->is_flooded = true;
        errno = EMSGSIZE;
        return -1;
    }
    if ((uint64_t)room > tls->allowed) room = (int)tls->allowed;
    ssize_t got = recv(socket_of(bio), to, (size_t)room, MSG_DONTWAIT);
    if (got > 0) tls->allowed -= (uint64_t)got;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) BIO_set_retry_read(bio);
    return (int)got;
}

static int write_socket(BIO *bio, const char *from, int length)
{
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(socket_of(bio), from, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) BIO_set_retry_write(bio);
    return (int)sent;
}

static long control_socket(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    if (command == BIO_CTRL_FLUSH) return 1;
    if (command != BIO_C_GET_FD) return 0;
    if (pointer) *(int *)pointer = socket_of(bio);
    return socket_of(bio);
}

static int created(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *socket_method;
static int handle_index = -1; /* where an SSL_CTX keeps its axi_tls */

static void prepare_library(void)
{
    handle_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    int type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR;
    BIO_METHOD *method = BIO_meth_new(type, "axon socket");
    if (!method) return;
    BIO_meth_set_create(method, created);
    BIO_meth_set_read(method, read_socket);
    BIO_meth_set_write(method, write_socket);
    BIO_meth_set_ctrl(method, control_socket);
    socket_method = method;
}

/* Puts our socket in place of the one that libwebsockets made. */
static void take_over_socket(axi_tls *tls, SSL *ssl)
{
    int fd = SSL_get_fd(ssl);
    BIO *bio = BIO_new(socket_method);
    if (!bio) return; /* OpenSSL's own works as well, apart from the above */
    BIO_set_data(bio, tls);
    BIO_set_app_data(bio, (void *)(intptr_t)fd);
    SSL_set_bio(ssl, bio, bio);
}

/* ---- watching the handshake ---------------------------------------------------------------- */

static bool is_address(const char *host)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

/* OpenSSL 3 calls it an error when the peer hangs up without TLS's own goodbye. */
static bool is_hang_up(unsigned long error)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
    return ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
    return error == 0;
#endif
}

static void note_error(axi_tls *tls)
{
    unsigned long error = ERR_peek_last_error();
    if (error == 0 || tls->fault[0] || is_hang_up(error)) return;
    const char *reason = ERR_reason_error_string(error);
    snprintf(tls->fault, sizeof tls->fault, "TLS handshake failed: %s", reason ? reason : "unknown reason");
}

/* OpenSSL hands the session over as constant. It is changed at the start alone, when nothing was written yet. */
static void watch(const SSL *constant, int where, int value)
{
    SSL *ssl = (SSL *)(uintptr_t)constant;
    axi_tls *tls = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), handle_index);
    if ((where & SSL_CB_HANDSHAKE_START) && !tls->is_up) {
        take_over_socket(tls, ssl);
        /* RFC 6066, section 3: no addresses; libwebsockets sends them, and a piece of one with IPv6 */
        if (is_address(tls->host)) SSL_set_tlsext_host_name(ssl, NULL);
    } else if (where & SSL_CB_HANDSHAKE_DONE) {
        tls->is_up = true;
    } else if (where == SSL_CB_READ_ALERT && !tls->is_up && !tls->fault[0]) {
        snprintf(tls->fault, sizeof tls->fault, "TLS handshake refused by the server: %s",
                 SSL_alert_desc_string_long(value));
    } else if (where == SSL_CB_CONNECT_EXIT && value <= 0) {
        note_error(tls);
    }
}

/* ---- judging the certificate --------------------------------------------------------------- */

static int keep_verdict(int is_good, X509_STORE_CTX *certificates)
{
    (void)certificates;
    return is_good;
}

static bool expect_host(X509_STORE_CTX *certificates, const char *host)
{
    X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(certificates);
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(host)) return X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1;
    return X509_VERIFY_PARAM_set1_host(rules, host, 0) == 1;
}

static void note_verdict(axi_tls *tls, int verdict)
{
    const char *why = X509_verify_cert_error_string(verdict);
    bool is_other = verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH;
    if (is_other)
        snprintf(tls->fault, sizeof tls->fault, "TLS: the server's certificate is not for %.64s (%s)",
                 tls->host, why);
    else
        snprintf(tls->fault, sizeof tls->fault, "TLS: the server's certificate is not trusted: %s", why);
}

/* In place of OpenSSL's verification, which would ask libwebsockets. */
static int verify(X509_STORE_CTX *certificates, void *handle)
{
    axi_tls *tls = handle;
    if (tls->insecure) {
        X509_STORE_CTX_set_error(certificates, X509_V_OK);
        return 1;
    }
    X509_STORE_CTX_set_verify_cb(certificates, keep_verdict);
    if (!expect_host(certificates, tls->host)) {
        X509_STORE_CTX_set_error(certificates, X509_V_ERR_UNSPECIFIED);
        return 0;
    }
    int is_good = X509_verify_cert(certificates) == 1;
    if (!is_good) note_verdict(tls, X509_STORE_CTX_get_error(certificates));
    return is_good;
}

/* ---- whom to trust ------------------------------------------------------------------------- */

static pthread_mutex_t trust_lock = PTHREAD_MUTEX_INITIALIZER;
static X509_STORE *system_trust; /* reading it takes 20 ms: once for the process */

static bool trust_system(SSL_CTX *context)
{
    pthread_mutex_lock(&trust_lock);
    bool is_good;
    if (system_trust) {
        SSL_CTX_set1_cert_store(context, system_trust);
        is_good = true;
    } else {
        is_good = SSL_CTX_set_default_verify_paths(context) == 1;
        X509_STORE *store = SSL_CTX_get_cert_store(context);
        if (is_good && X509_STORE_up_ref(store) == 1) system_trust = store;
    }
    pthread_mutex_unlock(&trust_lock);
    return is_good;
}

static axon_status trust(axi_tls *tls, const char *ca_file, axon_error *err)
{
    if (tls->insecure) return AXON_OK;
    ERR_clear_error();
    if (!ca_file)
        return trust_system(tls->context)
                   ? AXON_OK
                   : axi_fail(err, AXON_EIO, "TLS: the system's certificate authorities cannot be read");
    if (SSL_CTX_load_verify_locations(tls->context, ca_file, NULL) == 1) return AXON_OK;
    unsigned long error = ERR_peek_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    ERR_clear_error();
    return axi_fail(err, AXON_EIO, "ca_file \"%s\": no certificates could be read: %s", ca_file,
                    reason ? reason : "unknown reason");
}

/* ---- opening and closing ------------------------------------------------------------------- */

axon_status axi_tls_open(axi_tls **tls, const char *host, const char *ca_file, bool insecure,
                         axon_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_library);

    axi_tls *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->host = host;
    made->insecure = insecure;
    made->allowed = BEGINNING_BYTES;
    made->context = socket_method ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (!made->context || SSL_CTX_set_ex_data(made->context, handle_index, made) != 1) {
        axi_tls_close(made);
        return axi_fail(err, AXON_ENOMEM, "TLS: OpenSSL could not be set up");
    }
    SSL_CTX_set_min_proto_version(made->context, TLS1_2_VERSION);
    SSL_CTX_set_mode(made->context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_info_callback(made->context, watch);
    SSL_CTX_set_cert_verify_callback(made->context, verify, made);
    axon_status status = trust(made, ca_file, err);
    if (status != AXON_OK) {
        axi_tls_close(made);
        return status;
    }
    *tls = made;
    return AXON_OK;
}

void axi_tls_close(axi_tls *tls)
{
    if (!tls) return;
    SSL_CTX_free(tls->context);
    free(tls);
}

struct ssl_ctx_st *axi_tls_context(axi_tls *tls)
{
    return tls->context;
}

bool axi_tls_is_up(const axi_tls *tls)
{
    return tls->is_up;
}

const char *axi_tls_fault(const axi_tls *tls)
{
    return tls->fault[0] ? tls->fault : NULL;
}

bool axi_tls_is_flooded(const axi_tls *tls)
{
    return tls->is_flooded;
}

void axi_tls_lift_limit(axi_tls *tls)
{
    tls->allowed = UINT64_MAX;
}

/* ---- reading ------------------------------------------------------------------------------- */

ptrdiff_t axi_tls_read(struct ssl_st *ssl, void *to, size_t room)
{
    ERR_clear_error();
    errno = 0;
    int got = SSL_read(ssl, to, room > INT_MAX ? INT_MAX : (int)room);
    if (got > 0) return got;
    switch (SSL_get_error(ssl, got)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return AXI_READ_NOTHING;
    case SSL_ERROR_ZERO_RETURN:
        return AXI_READ_CLOSED;
    case SSL_ERROR_SSL: {
        unsigned long error = ERR_peek_last_error();
        errno = EPROTO;
        return is_hang_up(error) ? AXI_READ_CLOSED : AXI_READ_LOST;
    }
    default:
        return errno ? AXI_READ_LOST : AXI_READ_CLOSED;
    }
}

bool axi_tls_holds(const struct ssl_st *ssl)
{
    return SSL_pending(ssl) > 0;
}

bool axi_tls_sha1(const void *data, size_t length, uint8_t digest[20])
{
    return EVP_Digest(data, length, digest, NULL, EVP_sha1(), NULL) == 1;
}

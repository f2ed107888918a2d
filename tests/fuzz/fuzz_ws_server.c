/* Any bytes from a client of the policy server, over a real connection: however it behaves, it is answered or hung
 * up on, forgotten, and the next one is served. The first byte says whether the others come behind a proper upgrade,
 * in how many pieces, and whether from one of axon's clients. */
#include <axon/server.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UPGRADED = 1, IN_PIECES = 2, IS_AXON = 4, PATIENCE_S = 20 };

#define ASK                                                                                                \
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                           \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

static axon_server *server;
static pthread_t thread;

/* Gives back what it got: it is packed as it was unpacked. */
static axon_status give_back(void *user, axon_request_kind kind, const axon_value *value,
                             axon_value **actions, axon_error *err)
{
    (void)user;
    void *bytes;
    size_t length;
    if (kind == AXON_REQUEST_RESET) return AXON_OK;
    axon_status status = axon_value_to_msgpack(value, AXON_MARKER_OPENPI, &bytes, &length, err);
    if (status != AXON_OK) return status;
    status = axon_value_from_msgpack(bytes, length, actions, err);
    axon_free(bytes);
    return status;
}

static void *serve(void *user)
{
    axon_server_serve(server, give_back, user, NULL);
    return NULL;
}

static void stop(void)
{
    axon_server_stop(server);
    pthread_join(thread, NULL);
    axon_server_close(server);
}

static void start(void)
{
    axon_server_options o = {.size = sizeof o,
                             .port = AXON_ANY_PORT,
                             .max_message_bytes = 1 << 20,
                             .max_memory_bytes = 4 << 20,
                             .stop_timeout_ms = 100};
    if (axon_server_open(&server, NULL, &o, NULL) != AXON_OK) abort();
    if (pthread_create(&thread, NULL, serve, NULL) != 0) abort();
    atexit(stop);
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)axon_server_port(server))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct linger at_once = {.l_onoff = 1}; /* ports are few */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) abort();
    return fd;
}

static void put(int fd, const void *data, size_t length)
{
    if (length > 0 && send(fd, data, length, MSG_NOSIGNAL) < 0) return; /* it was hung up on */
}

/* Reads until the server hangs up, which it must. */
static void hear_out(int fd)
{
    static char answer[1 << 16];
    size_t length = 0;
    for (ssize_t got; (got = recv(fd, answer + length, sizeof answer - length, 0)) != 0;) {
        if (got < 0) {
            struct tcp_info info;
            socklen_t size = sizeof info;
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
            if (info.tcpi_state != TCP_CLOSE) abort(); /* not reset: it was waited for in vain */
            break;
        }
        length = length ? sizeof answer / 2 : (size_t)got;
    }
    if (length > 0 && memcmp(answer, "HTTP/1.1 ", 9) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server) start();
    if (size < 2) return 0;
    int fd = dial();
    if (data[0] & UPGRADED) {
        put(fd, ASK, sizeof ASK - 1);
        if (data[0] & IS_AXON) put(fd, "User-Agent: axon/0\r\n", 20);
        put(fd, "\r\n", 2);
    }
    size_t first = data[0] & IN_PIECES ? size / 2 : size;
    put(fd, data + 1, first - 1);
    put(fd, data + first, size - first);
    shutdown(fd, SHUT_WR);
    hear_out(fd);
    close(fd);
    return 0;
}

/* See ws_check.h. */
#include "ws_check.h"

#include "base64.h"
#include "ws_frame.h"
#include "ws_link.h"
#include "ws_tls.h"

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 2000
#define SAMPLE 600

/* The server's side of the rehearsal, on a thread of its own. */
typedef struct stage_hand {
    int listener;
    uint8_t sample[SAMPLE]; /* what the client is to send; its beginning also goes with the upgrade */
    bool heard_it;          /* exactly that arrived */
} stage_hand;

#define EARLY 32

/* ---- the server ---------------------------------------------------------------------------- */

static bool is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, PATIENCE_MS) == 1;
}

/* Reads up to the empty line. */
static bool read_request(int fd, char *text, size_t size)
{
    size_t length = 0;
    while (length + 1 < size && is_readable(fd)) {
        ssize_t got = recv(fd, text + length, size - 1 - length, 0);
        if (got <= 0) return false;
        length += (size_t)got;
        text[length] = 0;
        if (strstr(text, "\r\n\r\n")) return true;
    }
    return false;
}

/* RFC 6455, section 4.2.2: proof that the key was read by one who knows the protocol. */
static bool prove(const char *request, char proof[32])
{
    static const char name[] = "Sec-WebSocket-Key: ";
    const char *key = strcasestr(request, name);
    if (!key) return false;
    char text[128];
    key += sizeof name - 1;
    int length = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                          (int)strcspn(key, "\r\n"), key);
    uint8_t digest[20];
    if (length >= (int)sizeof text || !axi_tls_sha1(text, (size_t)length, digest)) return false;
    axi_base64_encode(proof, digest, sizeof digest);
    proof[axi_base64_length(sizeof digest)] = 0;
    return true;
}

/* The answer to the upgrade and the first bytes behind it go out as one. */
static bool answer(int fd, const char *request, const uint8_t *early)
{
    char proof[32], text[256];
    if (!prove(request, proof)) return false;
    int length =
        snprintf(text, sizeof text - EARLY,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 proof);
    memcpy(text + length, early, EARLY);
    size_t total = (size_t)length + EARLY;
    return send(fd, text, total, MSG_NOSIGNAL) == (ssize_t)total;
}

static bool hear(int fd, const uint8_t *sample)
{
    uint8_t heard[SAMPLE + 1]; /* one more than there should be */
    size_t length = 0;
    while (length < sizeof heard && is_readable(fd)) {
        ssize_t got = recv(fd, heard + length, sizeof heard - length, 0);
        if (got <= 0) break;
        length += (size_t)got;
    }
    return length == SAMPLE && memcmp(heard, sample, SAMPLE) == 0;
}

static void *serve(void *argument)
{
    stage_hand *hand = argument;
    if (!is_readable(hand->listener)) return NULL;
    int fd = accept4(hand->listener, NULL, NULL, SOCK_CLOEXEC);
    char request[4096];
    if (fd >= 0 && read_request(fd, request, sizeof request) && answer(fd, request, hand->sample))
        hand->heard_it = hear(fd, hand->sample);
    if (fd >= 0) close(fd);
    return NULL;
}

/* ---- the client ---------------------------------------------------------------------------- */

/* Listens on a name that no file system knows; `address` gets it as the link wants it. */
static int listen_locally(char *address, size_t size)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length =
        snprintf(address, size, "+@axon-rehearsal-%ld-%llx", (long)getpid(), (unsigned long long)axi_now());
    memcpy(name.sun_path + 1, address + 2, (size_t)length - 2);
    socklen_t used = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&name, used) == 0 && listen(fd, 1) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* Connects and sends the sample. False when it did not come to that. */
static bool play(const char *address, stage_hand *hand)
{
    static const axi_ws_url url = {.port = 80, .host = "localhost", .authority = "localhost", .path = "/"};
    static const axi_proxy no_proxy = {.port = 0};
    axi_link_target target = {.url = &url, .proxy = &no_proxy, .address = address};
    axi_link *link;
    bool again;
    if (axi_link_open(&link, &target, axi_deadline(PATIENCE_MS), &again, NULL) != AXON_OK) return false;
    size_t length;
    const uint8_t *early = axi_link_early(link, &length);
    bool got_early = length == EARLY && memcmp(early, hand->sample, EARLY) == 0;
    bool is_sent = got_early && axi_link_write(link, hand->sample, SAMPLE) && !axi_link_is_stuck(link);
    axi_link_close(link, false);
    return is_sent;
}

/* Versions that were read: 4.1 to 4.4. */
static bool is_known_version(void)
{
    unsigned major = 0, minor = 0;
    sscanf(axi_link_version(), "%u.%u", &major, &minor);
    return major == 4 && minor >= 1 && minor <= 4;
}

static bool passes_bytes;

static void rehearse(void)
{
    stage_hand hand = {.heard_it = false};
    for (size_t i = 0; i < SAMPLE; i++) /* begins as a frame does, and has every byte */
        hand.sample[i] = (uint8_t)(0x82 + 0x7c * (i & 1) + i * 3);
    char address[64];
    pthread_t thread;
    bool was_played = false;
    hand.listener = listen_locally(address, sizeof address);
    if (hand.listener >= 0 && pthread_create(&thread, NULL, serve, &hand) == 0) {
        was_played = play(address, &hand);
        shutdown(hand.listener, SHUT_RDWR);
        pthread_join(thread, NULL);
    }
    if (hand.listener >= 0) close(hand.listener);
    passes_bytes = was_played ? hand.heard_it : is_known_version();
    if (!passes_bytes)
        axi_log(AXON_LOG_WARN, "libwebsockets %s does not pass frames on as they are: sending will be slow",
                axi_link_version());
}

bool axi_link_passes_bytes(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, rehearse);
    return passes_bytes;
}

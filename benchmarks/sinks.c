/* See sinks.h. */
#include "sinks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

atomic_bool sinks_checking;

static void (*serve_peer)(sink_peer *peer);

bool sink_fill(sink_peer *peer)
{
    ssize_t got;
    do
        got = recv(peer->fd, peer->buffer, sizeof peer->buffer, 0);
    while (got < 0 && errno == EINTR);
    peer->begin = 0;
    peer->end = got > 0 ? (size_t)got : 0;
    return got > 0;
}

bool sink_take(sink_peer *peer, void *to, size_t length)
{
    for (uint8_t *next = to; length > 0;) {
        if (peer->begin == peer->end && !sink_fill(peer)) return false;
        size_t part = peer->end - peer->begin < length ? peer->end - peer->begin : length;
        memcpy(next, peer->buffer + peer->begin, part);
        peer->begin += part;
        next += part;
        length -= part;
    }
    return true;
}

bool sink_take_head(sink_peer *peer, char *head, size_t room)
{
    size_t length = 0;
    while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4) != 0) {
        if (length + 1 == room || !sink_take(peer, head + length, 1)) return false;
        length++;
    }
    head[length] = '\0';
    return true;
}

bool sink_send(const sink_peer *peer, const void *data, size_t length)
{
    for (const uint8_t *next = data; length > 0;) {
        ssize_t sent = send(peer->fd, next, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        next += sent;
        length -= (size_t)sent;
    }
    return true;
}

static void *serve_one(void *argument)
{
    sink_peer *peer = argument;
    serve_peer(peer);
    close(peer->fd);
    free(peer);
    return NULL;
}

static void accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL);
    sink_peer *peer = fd < 0 ? NULL : malloc(sizeof *peer);
    pthread_t thread;
    if (peer) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        peer->fd = fd;
        peer->begin = peer->end = 0;
        if (pthread_create(&thread, NULL, serve_one, peer) == 0) {
            pthread_detach(thread);
            return;
        }
    }
    free(peer);
    if (fd >= 0) close(fd);
}

static int open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("sink: listening on the loopback address");
        exit(1);
    }
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

/* False at the end of standard input. */
static bool obey_one(void)
{
    char line[32];
    ssize_t got = read(STDIN_FILENO, line, sizeof line);
    if (got <= 0) return false;
    atomic_store(&sinks_checking, got >= 5 && memcmp(line, "check", 5) == 0);
    puts("ok");
    fflush(stdout);
    return true;
}

int sinks_run(void (*serve)(sink_peer *peer))
{
    serve_peer = serve;
    struct pollfd waits[] = {{.fd = open_listener(), .events = POLLIN},
                             {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (poll(waits, 2, -1) < 0) {
            if (errno == EINTR) continue;
            return 1;
        }
        if (waits[0].revents & POLLIN) accept_one(waits[0].fd);
        if (waits[1].revents && !obey_one()) return 0;
    }
}

/* See tcp.h. */
#include "tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROBE_AFTER_S = 5, PROBES = 3 };

/* ---- listening ----------------------------------------------------------------------------- */

static axon_status listen_at(int *bound_fd, const struct addrinfo *at, const char *host, uint16_t port,
                             int backlog, axon_error *err)
{
    int on = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, backlog) != 0) {
        int error = errno;
        if (fd >= 0) close(fd);
        return axi_fail(err, AXON_EIO, "server %s:%u: it cannot be listened on: %s", host, port,
                        strerror(error));
    }
    *bound_fd = fd;
    return AXON_OK;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char port[NI_MAXSERV] = "0";
    getsockname(fd, (struct sockaddr *)&address, &length);
    getnameinfo((struct sockaddr *)&address, length, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return (uint16_t)atoi(port);
}

axon_status axi_tcp_listen(int *fd, uint16_t *bound, const char *host, uint16_t port, int backlog,
                           axon_error *err)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int error = getaddrinfo(host, service, &hints, &found);
    if (error != 0)
        return axi_fail(err, AXON_EIO, "server %s:%u: it cannot be listened on: %s", host, port,
                        gai_strerror(error));
    axon_status status = AXON_EIO;
    for (struct addrinfo *at = found; at && status != AXON_OK; at = at->ai_next)
        status = listen_at(fd, at, host, port, backlog, err);
    freeaddrinfo(found);
    if (status == AXON_OK) *bound = port_of(*fd);
    return status;
}

/* ---- connections --------------------------------------------------------------------------- */

void axi_tcp_print(char *text, size_t size, const struct sockaddr_storage *address, socklen_t length)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    int flags = NI_NUMERICHOST | NI_NUMERICSERV;
    if (getnameinfo((const struct sockaddr *)address, length, host, sizeof host, port, sizeof port,
                    flags) != 0)
        snprintf(text, size, "unknown");
    else
        snprintf(text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static bool is_this_machine(int fd)
{
    union {
        struct sockaddr_storage any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    socklen_t length = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0) return false;
    if (peer.any.ss_family == AF_INET) return ntohl(peer.v4.sin_addr.s_addr) >> 24 == 127;
    if (peer.any.ss_family != AF_INET6) return false;
    const uint8_t *v4 = peer.v6.sin6_addr.s6_addr + 12;
    return IN6_IS_ADDR_LOOPBACK(&peer.v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&peer.v6.sin6_addr) && *v4 == 127);
}

/* BBR, where it is the system's default, sends at a pace that it finds out; here that only costs time: a third of a step
 * with pictures (docs/benchmarks.md). Reno is everywhere and allowed to everybody. */
void axi_tcp_hurry(int fd)
{
    static const char reno[] = "reno";
    if (is_this_machine(fd)) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, reno, sizeof reno - 1);
}

void axi_tcp_tune(int fd)
{
    const int on = 1, after = PROBE_AFTER_S, probes = PROBES;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return;
    axi_tcp_hurry(fd);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &after, sizeof after);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &after, sizeof after);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static bool read_info(int fd, struct tcp_info *info)
{
    socklen_t size = sizeof *info;
    *info = (struct tcp_info){.tcpi_unacked = 0};
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 && info->tcpi_unacked > 0;
}

static int as_int(uint32_t number)
{
    return number > INT32_MAX ? INT32_MAX : (int)number;
}

int axi_tcp_silence_ms(int fd)
{
    struct tcp_info info;
    return read_info(fd, &info) ? as_int(info.tcpi_last_ack_recv) : 0;
}

/* The last acknowledgement may be old because nothing was said for long; the time-out that doubles with each repetition is
 * about as long as it has been tried. */
int axi_tcp_in_vain_ms(int fd)
{
    struct tcp_info info;
    if (!read_info(fd, &info) || info.tcpi_retransmits == 0) return 0;
    uint32_t since_ms = info.tcpi_last_ack_recv, tried_ms = info.tcpi_rto / 1000;
    return as_int(since_ms < tried_ms ? since_ms : tried_ms);
}

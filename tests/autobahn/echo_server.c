/* Our WebSocket server under the Autobahn test suite: sends back what it gets.
 *
 *     echo_server PORT     until SIGTERM */
#include "ws_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { PING_MS = 20000, DEAD_MS = 60000, CONNECTIONS = 16, LIMIT = 64 << 20 };

static axi_ws_server *server;

static int ask(void *user, const axi_http_asked *asked, const char **text)
{
    (void)user;
    *text = "This is a WebSocket server.\n";
    return asked->is_upgrade ? 0 : 426;
}

static bool opened(void *user, axi_ws_peer *peer)
{
    (void)user;
    (void)peer;
    return true;
}

static void received(void *user, axi_ws_peer *peer, axi_ws_message *message)
{
    (void)user;
    struct iovec part = {.iov_base = message->data, .iov_len = message->length};
    axi_ws_peer_send(peer, &part, 1, message->is_text); /* a client that is gone has no use for it */
    free(message->data);
    axi_ws_server_release(server, message->length);
}

static void ignore_peer(void *user, axi_ws_peer *peer)
{
    (void)user;
    (void)peer;
}

static void ignore(void *user)
{
    (void)user;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);

    axi_ws_server_options options = {.host = "127.0.0.1",
                                     .port = (uint16_t)atoi(argv[1]),
                                     .max_connections = CONNECTIONS,
                                     .max_message_bytes = LIMIT,
                                     .max_memory_bytes = 4 * (uint64_t)LIMIT,
                                     .max_queue_bytes = LIMIT,
                                     .ping_interval_ms = PING_MS,
                                     .dead_after_ms = DEAD_MS};
    axi_ws_server_events events = {.ask = ask,
                                   .opened = opened,
                                   .received = received,
                                   .drained = ignore_peer,
                                   .closed = ignore_peer,
                                   .woken = ignore,
                                   .refused = ignore};
    axon_error err;
    if (axi_ws_server_open(&server, &options, &events, NULL, &err) != AXON_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int signal_number;
    sigwait(&end, &signal_number);
    axi_ws_server_close(server, false);
    return 0;
}

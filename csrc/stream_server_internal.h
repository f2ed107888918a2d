/* The inside of axon_stream_server: stream_server.c sends, and keeps clients; stream_command.c takes commands. */
#ifndef AXI_STREAM_SERVER_INTERNAL_H
#define AXI_STREAM_SERVER_INTERNAL_H

#include <axon/stream_server.h>

#include "queue.h"
#include "ws_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

typedef struct axi_incoming axi_incoming;
typedef struct axi_visitor axi_visitor;

/* A command with what it stands on. */
struct axi_incoming {
    axon_command told;
    axon_value *tree;
    axi_ws_peer *peer;
    uint64_t bytes;
    axi_place place;
};

struct axon_stream_server {
    char *url;
    int32_t port;
    char *api_key; /* NULL: none is needed */
    axon_stream_server_options options;
    pid_t owner;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    axi_ws_server *room;
    axi_visitor *clients;
    axi_queue commands;
    uint32_t waiting;
    uint64_t waiting_bytes;
    bool said_goodbye;
    axon_stream_server_stats stats;

    atomic_bool is_stopping;
    _Atomic(axi_ws_server *) wakeable; /* the room, for signal handlers */
};

/* AXON_EINVAL when there is none, or it is another process's. */
axon_status axi_stream_server_check(const axon_stream_server *server, axon_error *err);

/* What a client of the robot_control endpoint said; on the network's thread. */
void axi_stream_server_hear(axon_stream_server *server, axi_ws_peer *peer, axi_ws_message *message);

/* Answers a client, and counts it. */
void axi_stream_server_refuse(axon_stream_server *server, axi_ws_peer *peer, const char *reason);

/* Frees the commands that nobody took. */
void axi_stream_server_forget(axon_stream_server *server);

#endif

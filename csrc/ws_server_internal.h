/* The inside of axi_ws_server, for ws_server.c, ws_arrival.c and ws_peer.c. */
#ifndef AXI_WS_SERVER_INTERNAL_H
#define AXI_WS_SERVER_INTERNAL_H

#include "ws_frame.h"
#include "ws_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum { AXI_ARRIVALS = 256 };

typedef enum axi_arrival_stage {
    AXI_ARRIVAL_NONE, /* the place is free */
    AXI_ARRIVAL_READING,
    AXI_ARRIVAL_ASKING,  /* its request is whole, and not yet answered */
    AXI_ARRIVAL_LEAVING, /* answered, and not upgraded */
    AXI_ARRIVAL_ENDING   /* to be closed before the next wait */
} axi_arrival_stage;

/* A client that was accepted and is not upgraded. */
typedef struct axi_arrival {
    axi_ws_server *server;
    axi_arrival_stage stage;
    axi_watch *watch;
    int fd;
    axi_time since, leave_by;
    char *head; /* of its HTTP request */
    size_t length, capacity;
} axi_arrival;

/* At a time. Payloads are unmasked on their way out of here, while it is in the cache: received where they belong,
 * in memory that is not, they would take twice as long (docs/benchmarks.md). */
#define AXI_RECEIVE_BYTES ((size_t)64 * 1024)

struct axi_ws_server {
    axi_ws_server_options options; /* its host is not kept */
    axi_ws_server_events events;
    void *user;
    axi_gate *gate;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_ending;
    uint16_t port;
    int listen_fd, wake_fd, tick_fd;
    axi_watch *listener; /* NULL when it listens no more */
    axi_arrival arrivals[AXI_ARRIVALS];
    axi_ws_peer *guest;    /* whose upgrade was just agreed to */
    atomic_uint connected; /* peers[0 .. connected) is for the server's thread */
    axi_ws_peer **peers;
    atomic_uint_fast64_t used;
    atomic_uint stalled;    /* peers that wait for memory */
    uint64_t reserved;      /* of `used`: messages that are coming in; the server's thread */
    axi_ws_peer *favourite; /* whose message may come although memory is full, as nothing else would end */
    uint8_t received[AXI_RECEIVE_BYTES]; /* from the client whose turn it is */
};

typedef enum axi_peer_stage {
    AXI_PEER_OPEN,
    AXI_PEER_LEAVING, /* our close frame is out, the client's is waited for */
    AXI_PEER_DRAINING /* no frame matters any more: what comes is dropped until the client hangs up */
} axi_peer_stage;

typedef struct axi_chunk {
    struct axi_chunk *next;
    size_t length, done;
    uint8_t data[];
} axi_chunk;

struct axi_ws_peer {
    axi_ws_server *server; /* valid while not is_gone */
    atomic_uint references;
    void *user;
    char name[64];
    char path[256];
    char agent[128];

    /* the server's thread */
    axi_watch *watch;
    unsigned index; /* in the server's list */
    bool is_known;  /* opened() was called */
    axi_peer_stage stage;
    axi_time leave_by;
    axi_ws_reader reader;
    uint8_t
        *unread; /* [at, end) of it was received and may not be read yet; within a turn, server->received */
    size_t at, end;
    uint64_t reserved;
    bool is_stalled, reads;
    axi_time heard, pinged, unacknowledged_since;

    /* any thread, under the lock */
    pthread_mutex_t lock;
    int fd; /* -1 when it is gone */
    axi_chunk *first, *last;
    uint64_t queued;
    bool has_left; /* a close frame was sent or queued */
    bool is_broken;
    bool is_shut; /* our direction is closed */
    atomic_bool is_gone, is_held;
};

/* ---- ws_server.c --------------------------------------------------------------------------- */

/* Room for what is on its way to `peer`; false when it has to wait. */
bool axi_ws_server_claim(axi_ws_server *server, axi_ws_peer *peer);

/* ---- ws_arrival.c -------------------------------------------------------------------------- */

/* The listener is readable. */
void axi_ws_arrivals_accept(axi_ws_server *server);
/* Between two turns of the gate. */
void axi_ws_arrivals_answer(axi_ws_server *server);
void axi_ws_arrivals_keep_time(axi_ws_server *server, axi_time now);

/* ---- ws_peer.c ----------------------------------------------------------------------------- */

axi_ws_peer *axi_ws_peer_new(axi_ws_server *server, const axi_http_asked *asked);

/* Begins with a socket that was upgraded, and its watch. */
void axi_ws_peer_begin(axi_ws_peer *peer, axi_watch *watch, int fd);

/* Looks after what other threads, memory and time have changed. */
void axi_ws_peer_look(axi_ws_peer *peer, axi_time now, bool is_tick);

#endif

/* The door to libwebsockets' server side: HTTP on accepted sockets, the WebSocket upgrade, and the loop that waits
 * for descriptors. From the upgrade on a socket is the owner's: libwebsockets only says when it is ready.
 *
 * Threads  axi_gate_open() and axi_gate_close() anywhere, all else on the one thread that calls axi_gate_turn(). */
#ifndef AXI_WS_GATE_H
#define AXI_WS_GATE_H

#include "internal.h"

typedef struct axi_gate axi_gate;
typedef struct axi_watch axi_watch;

/* An HTTP request. The texts are empty when there is no such header, and gone when the call returns. */
typedef struct axi_http_asked {
    const char *path;
    const char *authorization;
    const char *user_agent;
    bool is_upgrade; /* to WebSocket */
    bool is_get;
} axi_http_asked;

typedef struct axi_gate_events {
    /* Answers with an HTTP status and `*text`, a plain text. 0 lets an upgrade happen; `*guest` then comes back in
     * arrived(). */
    int (*ask)(void *user, const axi_http_asked *asked, const char **text, void **guest);
    /* The upgrade is done: `fd` is the callee's. Or it failed: `fd` is -1. */
    void (*arrived)(void *user, void *guest, int fd);
} axi_gate_events;

axon_status axi_gate_open(axi_gate **gate, const axi_gate_events *events, void *user,
                          unsigned max_descriptors, axon_error *err);
/* Ends all watches. NULL is fine. */
void axi_gate_close(axi_gate *gate);

/* Lets HTTP be spoken on an accepted socket, which is the gate's from now on. */
void axi_gate_adopt(axi_gate *gate, int fd);

/* Waits for something, and has it handled. */
void axi_gate_turn(axi_gate *gate);

typedef struct axi_watch_events {
    void (*ready)(void *user, bool is_readable); /* or writable; false from axi_watch_end() on */
    void (*gone)(void *user);                    /* the last call; the descriptor is closed behind it */
} axi_watch_events;

/* `fd`, which is the gate's from now on, is watched for input. NULL when memory ran out; it is closed then. */
axi_watch *axi_gate_watch(axi_gate *gate, int fd, const axi_watch_events *events, void *user);
void axi_watch_read(axi_watch *watch, bool on);
void axi_watch_write(axi_watch *watch, bool on);

/* Has gone() called and the descriptor closed: before the next wait. */
void axi_watch_end(axi_watch *watch);

#endif

/* The door to libwebsockets' server side: HTTP requests, the WebSocket upgrade, and the loop that waits for
 * descriptors. Sockets are the owner's: libwebsockets says when they are ready, and gets to see of what comes in
 * nothing but whole HTTP requests.
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
    bool is_get;     /* or HEAD, whose answer goes without its text */
} axi_http_asked;

/* Answers with an HTTP status and `*text`, a plain text. 0 lets an upgrade happen. */
typedef int axi_gate_ask(void *user, const axi_http_asked *asked, const char **text);

axon_status axi_gate_open(axi_gate **gate, axi_gate_ask *ask, void *user, unsigned max_descriptors,
                          axon_error *err);
/* Ends all watches. NULL is fine. */
void axi_gate_close(axi_gate *gate);

typedef enum axi_http_outcome {
    AXI_HTTP_ANSWERED, /* as the owner said */
    AXI_HTTP_REFUSED,  /* it was no proper request: the owner was not asked */
    AXI_HTTP_UPGRADED,
    AXI_HTTP_LATER /* no descriptor is free: to be tried again */
} axi_http_outcome;

/* Has an HTTP request answered: `head` is all of it, the empty line at its end included. The answer is written to
 * `fd`, from which nothing is read. At most AXI_HEADS_AT_ONCE times between two turns, and not within an event. */
axi_http_outcome axi_gate_answer(axi_gate *gate, int fd, const char *head, size_t length);

enum { AXI_HEADS_AT_ONCE = 64, AXI_HEAD_BYTES = 16384 /* the longest head */ };

/* Answers without having been asked properly. */
void axi_http_refuse(int fd, int status, const char *text);

/* Waits for something, and has it handled. */
void axi_gate_turn(axi_gate *gate);

typedef struct axi_watch_events {
    void (*ready)(void *user, bool is_readable); /* or writable; false from axi_watch_end() on */
    void (*gone)(void *user);                    /* the last call; the descriptor is closed behind it */
} axi_watch_events;

/* `fd`, which is the gate's from now on, is watched for input. NULL when memory ran out; it is closed then. */
axi_watch *axi_gate_watch(axi_gate *gate, int fd, const axi_watch_events *events, void *user);
/* Others hear of it from now on. */
void axi_watch_pass(axi_watch *watch, const axi_watch_events *events, void *user);
void axi_watch_read(axi_watch *watch, bool on);
void axi_watch_write(axi_watch *watch, bool on);

/* Has gone() called and the descriptor closed: before the next wait. */
void axi_watch_end(axi_watch *watch);

#endif

/* The inside of axon_simulator_server: simulator_server.c has the sessions and what hosts call, simulator_callers.c the
 * connections and the server's own thread. */
#ifndef AXI_SIMULATOR_SERVER_INTERNAL_H
#define AXI_SIMULATOR_SERVER_INTERNAL_H

#include <axon/simulator_server.h>

#include "pack.h"
#include "queue.h"
#include "quick_poll.h"
#include "thread.h"
#include "zmtp.h"

#include <sys/types.h>

enum {
    AXI_CALLERS_WITHOUT_SESSION = 256, /* at most, beside one for each session */
    AXI_REFUSAL = 160                  /* bytes of text that say why a request was refused */
};

/* A connection. Its messages are for its session, whose host reads them; while it has none, or its host is busy, the
 * server's thread reads. */
typedef struct axi_caller {
    pthread_mutex_t lock; /* guards the next; never held together with the server's */
    axi_zmtp zmtp;
    atomic_bool is_gone; /* for the server's thread to remove */

    /* guarded by the server's lock */
    unsigned references;
    axon_simulator_session *session;

    /* the server's thread's alone */
    bool is_ready;
    axi_time since; /* when it came; when it was ready; when it last had a session */
    struct axi_caller *next;
} axi_caller;

struct axon_simulator_session {
    axon_simulator_server *server;
    char name[32];
    int wake_fd;     /* readable when its host is to look again */
    axi_quick quick; /* its host's alone */

    /* guarded by the server's lock */
    axi_caller *caller; /* NULL: it may come back, under its name */
    struct {
        uint8_t length; /* 0: nobody comes back */
        uint8_t bytes[AXI_ZMTP_NAME];
    } peer;
    bool is_held;        /* it was accepted, and its host has not closed it */
    bool is_attended;    /* its host waits for a request */
    bool is_busy;        /* a request of it is under way */
    bool was_understood; /* a request of it was one */
    const char *over;    /* why it is no longer among the server's; NULL while it is */
    axi_time idle_since;
    axi_place place; /* among the new ones */
    axon_simulator_session *next;
};

struct axon_simulator_server {
    char *address;
    int32_t port;
    axon_simulator_server_options options; /* every default filled in */
    pid_t owner;
    int listen_fd;
    int wake_fd;  /* readable when the server's thread is to look at everything */
    int watch_fd; /* epoll's: the listener, the one above, callers without a session */
    pthread_t thread;
    bool has_thread;
    axi_zmtp_budget budget; /* of messages that wait */
    atomic_bool is_stopping;
    atomic_bool is_ending; /* the server's thread goes */

    /* the server's thread's alone */
    axi_caller *callers;
    uint32_t caller_count;
    uint32_t tick_ms; /* how often all of them are looked at */
    bool is_deaf;     /* no descriptor was left for a caller */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    axon_simulator_session *sessions;
    axi_queue newcomers; /* sessions that nobody has accepted */
    uint32_t count;      /* of sessions */
    uint32_t held;       /* sessions with a host */
    uint64_t numbered;   /* sessions so far */
    bool is_closed;      /* the last session's host frees the server */
    axon_simulator_server_stats stats;
};

/* ---- simulator_server.c -------------------------------------------------------------------- */

/* A session for a caller that has said something; NULL when there are too many, or memory or descriptors ran out: `text`
 * says so. With the server's lock held. */
axon_simulator_session *axi_simulator_begin(axon_simulator_server *server, const axi_caller *caller,
                                            char *text, size_t size);

/* Takes a session out of the server's, for the reason that is given. It is freed when nobody holds it. With the server's
 * lock held. */
void axi_simulator_end(axon_simulator_session *session, const char *why);

/* Packs {"status": "error", ...}. */
axon_status axi_simulator_pack_error(axi_message *message, const char *error_type, const char *text,
                                     axon_error *err);

/* What is wrong with a message that is no body, and which error_type that is. With the server's lock held. */
const char *axi_simulator_refuse(axon_simulator_server *server, const axi_zmtp_message *message, char *text,
                                 size_t size);

/* Lets a session's host look again, wherever it waits. */
void axi_simulator_wake(const axon_simulator_session *session);

/* ---- simulator_callers.c ------------------------------------------------------------------- */

/* Opens the descriptors and listens. */
axon_status axi_callers_open(axon_simulator_server *server, const char *host, axon_error *err);

/* The server's thread. */
void *axi_callers_work(void *server);

/* After the thread has ended: hangs up on everybody. */
void axi_callers_close(axon_simulator_server *server);

/* With the server's lock held: one more, or one less, who needs the caller. */
axi_caller *axi_caller_keep(axi_caller *caller);
void axi_caller_drop(axi_caller *caller);

/* With the server's lock held: parts a session from its caller, whose next message, unless it is gone, begins another
 * one. */
void axi_caller_release(axon_simulator_session *session);

#endif

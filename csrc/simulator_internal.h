/* The inside of axon_simulator: simulator.c asks, simulator_connect.c keeps it connected. */
#ifndef AXI_SIMULATOR_INTERNAL_H
#define AXI_SIMULATOR_INTERNAL_H

#include <axon/simulator.h>

#include "ws_url.h"
#include "zmtp_dealer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    AXI_SIMULATOR_PORT = 5555,
    AXI_SIMULATOR_CALL_TIMEOUT_MS = 60000, /* the default */
    AXI_SIMULATOR_MAX_KIND = 64            /* bytes of an error_type */
};

/* A request that the server accepted and that another session begins with, too. */
typedef struct axi_choice {
    uint8_t *data; /* NULL: none */
    size_t length;
    bool is_due; /* this session has not been told yet */
} axi_choice;

struct axon_simulator {
    /* what it was opened with */
    char *address;                  /* whole */
    char name[AXI_URL_SHOWN + 1];   /* it, as it begins messages */
    axi_ws_url where;               /* host and port; the host is empty for ipc:// */
    axon_simulator_options options; /* every default filled in */

    /* the session; `dealer` is NULL when there is none */
    axi_dealer *dealer;
    axi_message request; /* used again and again, for its memory */
    axi_choice selected, loaded;
    bool owes;          /* the server has yet to answer a call that was given up */
    axi_time grace_end; /* until when that answer is waited for */
    uint32_t timeout_ms;
    char error_type[AXI_SIMULATOR_MAX_KIND + 1]; /* empty: the last call ended in none */
    char *server_error;

    pid_t owner;

    /* cancelling: `gate` guards the first two */
    pthread_mutex_t gate;
    bool in_call;
    atomic_bool is_cancelled;
    int wake_fd; /* readable once it is cancelled */

    /* counting */
    axon_timing timing; /* of the last reply */
    bool has_timing;
    axon_simulator_stats counts; /* the counters in it */
    float *steps;                /* a ring of AXON_STATS_WINDOW, in ms */
};

/* Reads and copies address and options. */
axon_status axi_simulator_configure(axon_simulator *simulator, const char *address,
                                    const axon_simulator_options *opts, axon_error *err);

/* Begins a session: connects, before `deadline`. */
axon_status axi_simulator_connect(axon_simulator *simulator, axi_time deadline, axon_error *err);

/* Gives the session up, if there is one. */
void axi_simulator_drop(axon_simulator *simulator, const char *why);

#endif

/* The inside of axon_policy: policy.c asks, policy_connect.c keeps it connected, policy_stats.c counts. */
#ifndef AXI_POLICY_INTERNAL_H
#define AXI_POLICY_INTERNAL_H

#include "policy_dialect.h"
#include "policy_record.h"
#include "ws.h"
#include "ws_url.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    AXI_POLICY_INFER_TIMEOUT_MS = 60000, /* the default */
    AXI_POLICY_MAX_URLS = 64
};

/* One call's times, in ms; what axon_policy_get_stats() takes percentiles of. */
typedef struct axi_sample {
    float total, encode, send, wait, decode, server; /* server: negative when it did not say */
} axi_sample;

struct axon_policy {
    /* what it was opened with */
    char **urls; /* whole */
    size_t url_count;
    char *authorization; /* the header's value, or NULL */
    char *ca_file;
    axon_policy_options options; /* every default filled in; the pointers in it are not to be used */

    /* the connection; `ws` is NULL when there is none */
    size_t url;                   /* the one that is, or was last, connected to */
    char name[AXI_URL_SHOWN + 1]; /* it, as it begins messages */
    axi_ws *ws;
    axon_value *metadata;
    axon_dialect dialect;
    axon_image_format pictures;  /* how it takes them; AXON_IMAGE_UNKNOWN: as arrays */
    axon_dialect packed_dialect; /* those of `request` */
    axon_image_format packed_pictures;
    axi_message request;   /* used again and again, for its memory */
    bool has_reset;        /* it was told of one, and will be again after a reconnect */
    axon_value *reset;     /* that one's payload, in memory of its own; or NULL */
    bool owes;             /* the server has yet to answer a call that was given up */
    axi_time grace_end;    /* until when that answer is waited for */
    bool keeps_connection; /* the server says that it does not close behind an error */
    axi_time goodbye_end;  /* until when a goodbye may follow the last error, or 0 */
    uint32_t timeout_ms;   /* of the calls that follow */
    char *server_error;
    axi_recording *recording; /* or NULL */

    pid_t owner;

    /* cancelling: `swap` guards `ws` against the thread that cancels */
    pthread_mutex_t swap;
    atomic_bool in_call;
    atomic_bool is_cancelled;

    /* counting */
    axon_timing timing; /* of the last reply */
    bool has_timing;
    axon_policy_stats counts; /* the counters in it */
    axi_sample *samples;      /* a ring of AXON_STATS_WINDOW */
};

/* ---- policy_connect.c ---------------------------------------------------------------------- */

/* Reads and copies url and options. */
axon_status axi_policy_configure(axon_policy *policy, const char *url, const axon_policy_options *opts,
                                 axon_error *err);

/* Connects to the first server that can be, before `deadline`, and receives its metadata. */
axon_status axi_policy_connect(axon_policy *policy, axi_time deadline, axon_error *err);

/* Adds a received message to the recording, if there is one. */
void axi_policy_record(axon_policy *policy, const char *kind, const axi_ws_message *message);

/* Gives the connection up, if there is one. */
void axi_policy_disconnect(axon_policy *policy, const char *why);

/* ---- policy_stats.c ------------------------------------------------------------------------ */

/* Counts a call that ended; a step's reply leaves its times in the window. */
void axi_policy_count(axon_policy *policy, axi_ask ask, axon_status status, const axon_timing *timing);

#endif

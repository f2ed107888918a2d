/* Recordings of sessions: what was said, as it was on the wire. The format is in docs/recordings.md. */
#ifndef AXI_POLICY_RECORD_H
#define AXI_POLICY_RECORD_H

#include <axon/policy.h>

#include "internal.h"

#include <sys/uio.h>

typedef struct axi_recording axi_recording;

/* Creates the file, or empties it. */
axon_status axi_recording_open(axi_recording **recording, const char *path, const char *url,
                               axon_error *err);

/* Adds one message. `kind` is "metadata", "request", "reply" or "late". A recording that cannot go on, because the
 * disk is full for instance, ends with its last whole entry and a warning in the log: the robot goes on. NULL is
 * fine. */
void axi_recording_add(axi_recording *recording, const char *kind, bool is_text, const struct iovec *parts,
                       size_t count);

/* NULL is fine. */
void axi_recording_close(axi_recording *recording);

#endif

/* How requests look and what replies mean, by dialect. No input, no output, no clock. docs/policies.md */
#ifndef AXI_POLICY_DIALECT_H
#define AXI_POLICY_DIALECT_H

#include <axon/policy.h>

#include "pack.h"
#include "ws.h"

typedef enum axi_ask { AXI_ASK_STEP, AXI_ASK_RESET } axi_ask;

/* The dialect of a server that its URL or its metadata gives away; AXON_OPENPI when neither does. */
axon_dialect axi_dialect_of(const char *url, const axon_value *metadata);

/* False when nothing is sent for it. */
bool axi_dialect_has(axon_dialect dialect, axi_ask ask);

/* Whether the server said that it does not close the connection behind an error: {"__axon__": {"keeps_connection":
 * true}}. */
bool axi_dialect_keeps_connection(const axon_value *metadata);

/* The form in which a server with this metadata takes pictures, of those that the caller wants to send. */
axon_image_format axi_dialect_pictures(const axon_value *metadata, axon_compress wanted);

/* Packs a request. `value` is the observation, in which pictures travel as `pictures`, or the payload of a reset,
 * which may be NULL. */
axon_status axi_dialect_pack(axon_dialect dialect, axi_ask ask, const axon_value *value,
                             axon_image_format pictures, axi_message *request, axon_error *err);

/* Reads the answer to a request. `message` is used up.
 *  AXON_OK        `*reply` is the action map, or NULL after a reset
 *  AXON_ESERVER   the server's own error: its whole text is in `*text`, malloc'ed, zero-terminated
 *  AXON_EPROTOCOL what is no answer; `subject` begins the message */
axon_status axi_dialect_read(axon_dialect dialect, axi_ask ask, axi_ws_message *message,
                             const char *subject, axon_value **reply, char **text, axon_error *err);

/* A server's traceback in one line: its last. */
axon_status axi_fail_by_server(axon_error *err, const char *subject, const char *text);

#endif

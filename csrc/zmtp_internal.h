/* Between zmtp.c and zmtp_read.c. */
#ifndef AXI_ZMTP_INTERNAL_H
#define AXI_ZMTP_INTERNAL_H

#include "zmtp.h"

/* Flags of a frame (rfc.zeromq.org/spec/37, "framing"). */
enum { AXI_ZMTP_MORE = 1, AXI_ZMTP_LONG = 2, AXI_ZMTP_COMMAND = 4 };

/* Received at a time, but for bodies, which go where they stay. */
#define AXI_ZMTP_RECEIVED 8192

/* Of the longest command that is read. They have a place of their own, behind what was received. */
#define AXI_ZMTP_COMMAND_BYTES 8192

#define AXI_ZMTP_NEW_MESSAGE ((axi_zmtp_message){.found = AXI_ZMTP_BODY, .is_bare = true})

/* Sends the beginning of the greeting: what both versions share. */
void axi_zmtp_greet(axi_zmtp *zmtp);

/* Sends a few bytes, behind the message that is being sent; not when too many wait. */
void axi_zmtp_put(axi_zmtp *zmtp, const void *bytes, size_t length);

/* 2 or 9 bytes. */
size_t axi_zmtp_put_header(uint8_t *to, unsigned flags, uint64_t size);

/* Frees the body that is being received. */
void axi_zmtp_drop_body(axi_zmtp *zmtp);

#endif

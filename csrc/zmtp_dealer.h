/* A client's connection to a ZeroMQ server. A thread of its own answers the server's pings while nobody calls. One thread
 * at a time may be in here, which the owner sees to; fork() leaves the connection to the parent. */
#ifndef AXI_ZMTP_DEALER_H
#define AXI_ZMTP_DEALER_H

#include "pack.h"
#include "zmtp.h"

struct sockaddr;

typedef struct axi_dealer axi_dealer;

typedef struct axi_dealer_target {
    const char *name; /* as messages begin; this, and the last one, must live as long as the dealer */
    const struct sockaddr *address;
    unsigned address_length;
    uint64_t max_bytes; /* of a message */
    int wake_fd;        /* readable when somebody cancels */
    const atomic_bool *is_cancelled;
} axi_dealer_target;

/* Connects and greets; one try. AXON_ECONNECT: another one may help; AXON_EPROTOCOL: it is no server for us;
 * AXON_ETIMEOUT and AXON_ECANCELED. */
axon_status axi_dealer_open(axi_dealer **dealer, const axi_dealer_target *target, axi_time deadline,
                            axon_error *err);

/* Sends a message behind an empty frame. On failure the connection is over. */
axon_status axi_dealer_send(axi_dealer *dealer, const struct iovec *parts, size_t count, axi_time deadline,
                            axon_error *err);

/* Waits for a message. AXON_ETIMEOUT, which lacks its text, and AXON_ECANCELED leave the connection as it is;
 * AXON_ECONNECT: it is over. */
axon_status axi_dealer_receive(axi_dealer *dealer, axi_zmtp_message *message, axi_time deadline,
                               axon_error *err);

/* What has come by now; false when the connection is over. */
bool axi_dealer_look(axi_dealer *dealer, axi_zmtp_found *found, axi_zmtp_message *message);

/* For whoever will not be answered: nothing more is sent, and what was sent is read by the server, for as long as
 * `deadline` allows. */
void axi_dealer_finish(axi_dealer *dealer, axi_time deadline);

/* NULL is fine. */
void axi_dealer_close(axi_dealer *dealer, bool in_child);

#endif

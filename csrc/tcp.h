/* Sockets: listening on them, and what the system knows of a connection. */
#ifndef AXI_TCP_H
#define AXI_TCP_H

#include "internal.h"

#include <sys/socket.h>

/* Listens on an address or a name, port 0 being any; `*fd` is non-blocking. The message begins with "server ". */
axon_status axi_tcp_listen(int *fd, uint16_t *bound, const char *host, uint16_t port, int backlog,
                           axon_error *err);

/* "127.0.0.1:53412", "[::1]:53412". */
void axi_tcp_print(char *text, size_t size, const struct sockaddr_storage *address, socklen_t length);

/* Also what axi_tcp_hurry() does; small messages leave at once, and a peer whose machine is gone is noticed also while nothing is said. Other sockets
 * stay as they are. */
void axi_tcp_tune(int fd);

/* Has a connection within this machine send without pauses. */
void axi_tcp_hurry(int fd);

/* How long ago the peer's machine last acknowledged something, while it has something to acknowledge; 0 while it has not.
 * It may have been asked only now. */
int axi_tcp_silence_ms(int fd);

/* For how long, about, something was sent again and again, and not acknowledged. */
int axi_tcp_in_vain_ms(int fd);

#endif

/* What the servers of the benchmarks share: the process that takes orders, and buffered reading.
 *
 * A sink prints "port N", then serves 127.0.0.1:N, each connection from a thread of its own, until standard input
 * ends. Lines on standard input switch sinks_checking on ("check") and off (anything else), each confirmed with "ok".
 */
#ifndef SINKS_H
#define SINKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SINK_BUFFER_BYTES = 256 * 1024
}; /* stays in the second-level cache while a payload passes through it */

/* Whether requests are looked at, in passes that nobody times. */
extern atomic_bool sinks_checking;

typedef struct sink_peer {
    int fd;
    size_t begin; /* what is buffered and not yet consumed is buffer[begin..end) */
    size_t end;
    uint8_t buffer[SINK_BUFFER_BYTES];
} sink_peer;

/* Gets the next bytes, all earlier ones being consumed; false when the peer is gone. */
bool sink_fill(sink_peer *peer);
/* Consumes `length` bytes; false when the peer is gone. */
bool sink_take(sink_peer *peer, void *to, size_t length);
bool sink_send(const sink_peer *peer, const void *data, size_t length);
/* Reads up to and with the empty line, and ends it with a zero; false when it is longer than `room`. */
bool sink_take_head(sink_peer *peer, char *head, size_t room);

/* Gives each connection to `serve`; returns the exit status of the process. */
int sinks_run(void (*serve)(sink_peer *peer));

#endif

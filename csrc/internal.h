/* What the rooms of the core share: failing, time, log, growing buffers. Nothing here is exported. */
#ifndef AXI_INTERNAL_H
#define AXI_INTERNAL_H

#include <axon/api.h>
#include <axon/error.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AXI_PRINTF(text, rest) __attribute__((format(printf, text, rest)))

/* ---- failing ------------------------------------------------------------------------------- */

/* Fills *err (which may be NULL) and returns `status`, so that a call fails in one line. Text that does not
 * fit is cut at a whole UTF-8 character. A peer's words are safe to print: line breaks and tabs become spaces,
 * other control characters and bytes that are not UTF-8 become '?'. Arguments may point into *err. */
axon_status axi_fail(axon_error *err, axon_status status, const char *format, ...) AXI_PRINTF(3, 4);

/* AXON_ENOMEM, with the number of bytes that were not to be had. */
axon_status axi_no_memory(axon_error *err, uint64_t bytes);

/* ---- time ---------------------------------------------------------------------------------- */

/* A point on CLOCK_MONOTONIC, in nanoseconds. */
typedef int64_t axi_time;

#define AXI_NEVER INT64_MAX

axi_time axi_now(void);
/* `timeout_ms` from now; AXON_FOREVER gives AXI_NEVER. */
axi_time axi_deadline(uint32_t timeout_ms);
/* Milliseconds until `deadline` for poll(): rounded up, 0 when it has passed, capped at `cap_ms`. */
int axi_left_ms(axi_time deadline, int cap_ms);

/* How often a waiting call looks up from its wait: the interrupt function is asked that often. */
#define AXI_LOOK_UP_MS 250

/* Asks the caller's interrupt function, if there is one. Hold no lock. */
bool axi_interrupted(void);

/* From now on that function is not asked on this thread: it is one of the library's own. */
void axi_interrupt_nobody(void);

/* ---- log ----------------------------------------------------------------------------------- */

bool axi_log_wants(axon_log_level level);
/* One line, made as safe to print as an error's text; what does not fit 1023 bytes is cut. */
void axi_log(axon_log_level level, const char *format, ...) AXI_PRINTF(2, 3);

/* ---- memory -------------------------------------------------------------------------------- */

/* Bytes that grow. All zero is an empty one. */
typedef struct axi_buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
} axi_buffer;

/* Room for `more` bytes behind `length`; false when memory ran out, the buffer being as it was. */
bool axi_buffer_reserve(axi_buffer *buffer, size_t more);
bool axi_buffer_add(axi_buffer *buffer, const void *data, size_t length);
void axi_buffer_free(axi_buffer *buffer);

/* ---- addresses ----------------------------------------------------------------------------- */

/* True for loopback, private, link-local and unique-local addresses and names that mean them (localhost,
 * *.localhost, *.local, names without a dot): no proxy from the environment is used for these. `host` may be bracketed. */
bool axi_host_is_near(const char *host, size_t length);

#endif

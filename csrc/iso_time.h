/* Points in time as text: ISO 8601, as datetime.isoformat() and JavaScript write it, and its basic form. */
#ifndef AXI_ISO_TIME_H
#define AXI_ISO_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "2026-11-21", then 'T' or a space, "15:04", perhaps ":05", perhaps ".123456789" or more digits, perhaps 'Z' or
 * "+01:00" or "+0100" or "+01"; or date and time both without their separators, "20261121T150405.5Z". Without a zone
 * it is UTC. False when it is no such text, or beyond what 64 bits of ns
 * since 1970 hold (1678 to 2261). */
bool axi_iso_time_read(const char *text, size_t length, int64_t *ns);

#define AXI_ISO_TIME_ROOM 40

/* "2026-11-21T15:04:05.123456+00:00", as datetime.isoformat() writes it. */
void axi_iso_time_print(char text[AXI_ISO_TIME_ROOM], int64_t ns);

/* This machine's clock, ns since 1970. */
int64_t axi_wall_time(void);

#endif

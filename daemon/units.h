/* units.h - sizes (4MiB), durations (5m) and percentages (80%): one syntax wherever a person writes or reads them.
 *
 * Sizes: a whole number and B, KiB, MiB, GiB or TiB (no unit: bytes). Durations: a number and us, ms, s, m, h or d (no
 * unit: seconds). */
#pragma once

#include <deepseekd/base.h>
#include <sys/socket.h>

/* -EINVAL: not of this syntax; -ERANGE: too large. */
int ds_units_size(const char *text, uint64_t *bytes);
int ds_units_duration(const char *text, uint64_t *usec);
int ds_units_percent(const char *text, unsigned *percent); /* 1% to 100% */

/* "127.0.0.1:11500", "[::1]:11500": an address in numbers and a port from 1 to 65535. -EINVAL: it is none. */
int ds_units_address(const char *text, struct sockaddr_storage *address, socklen_t *size);

/* "4.0 GiB", "512 B": for sentences. Returns @out. */
const char *ds_units_format_size(char out[32], uint64_t bytes);

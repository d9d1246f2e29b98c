/* pressure.h - hears from the kernel or systemd that memory is short. */
#pragma once

#include <deepseekd/base.h>

struct event_base;
struct ds_pressure;

/* Call @on_pressure(@arg) whenever tasks had to wait for memory. What is watched is what systemd named
 * (MEMORY_PRESSURE_WATCH, and MEMORY_PRESSURE_WRITE to be written to it first), else the memory.pressure of the own
 * control group, else that of the whole machine. *@out is NULL if nothing can be watched, or is not to be (/dev/null):
 * that is logged, and no failure. */
int ds_pressure_new(struct ds_pressure **out, struct event_base *base, void (*on_pressure)(void *arg), void *arg,
		    struct ds_error *err);
struct ds_pressure *ds_pressure_free(struct ds_pressure *p); /* takes NULL, returns NULL */

/* How often the kernel ended a process for want of memory since it was booted; 0 if it does not say.
 * @path: /proc/vmstat, but for tests. */
uint64_t ds_pressure_oom_kills(const char *path);

/* Decode base64, of which @text has as much as fits @out with @size bytes. Returns the bytes, or -EINVAL. */
ssize_t ds_pressure_decode(const char *text, uint8_t *out, size_t size);

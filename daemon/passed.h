/* passed.h - the descriptors that systemd handed over at the start: sockets of units, and what its store kept for us.
 *
 * Everybody takes his own by name; what nobody took is closed. */
#pragma once

#include <deepseekd/base.h>

struct ds_passed {
	char **names; /* [n]: FileDescriptorName= of a socket, FDNAME= of what was stored */
	int *fds;     /* [n]; -1: taken */
	size_t n;
};

/* To be called once, early: the variables of the environment are gone afterwards, so no helper can mistake them. */
int ds_passed_init(struct ds_passed *passed, struct ds_error *err);
void ds_passed_deinit(struct ds_passed *passed); /* takes a zeroed one */

/* The next one from *@at on whose name begins with @prefix, now the caller's. *@name is borrowed. -1: no more. */
int ds_passed_next(struct ds_passed *passed, size_t *at, const char *prefix, const char **name);
/* The first listening stream socket named @name, now the caller's. -ENOENT: there is none. */
int ds_passed_socket(struct ds_passed *passed, const char *name);

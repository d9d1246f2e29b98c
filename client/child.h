/* child.h - a helper executable (ds-loader, ds-engine) that runs as the caller: started with all plugins of the
 * installation, spoken to by messages, ended with dsctl or before.
 *
 * While one lives, the signals that end a program are held back, so that what is begun can be undone: whoever waits for it
 * hears of them as -EINTR. One at a time. */
#pragma once

#include "files.h"
#include "message.h"

#include <jansson.h>
#include <signal.h>
#include <sys/types.h>

struct ds_child {
	const char *name; /* of the program, as given */
	pid_t pid;        /* 0: there is none */
	int socket;
	bool said_all;  /* it has nothing to do but to end */
	int interrupts; /* readable when one came */
	sigset_t before;
};

/* Fill @child with the program @name. */
int ds_child_start(struct ds_child *child, const char *name, struct ds_error *err);
/* Wait for its end if it has answered, else kill it; let signals through again. Takes a zeroed one. */
void ds_child_deinit(struct ds_child *child);

/* Send a message; @json NULL: without a payload. -EPIPE: it is gone; it may have said why. */
int ds_child_send(struct ds_child *child, uint16_t type, const json_t *json, const int *fds, unsigned n_fds,
		  struct ds_error *err);
/* Send the files with their names, as many messages as it takes. */
int ds_child_send_files(struct ds_child *child, const struct ds_files *files, struct ds_error *err);

/* Wait for a message into a zeroed @m. -EINTR: interrupted. -EPIPE: the program has closed its end. */
int ds_child_receive(struct ds_child *child, struct ds_message *m, struct ds_error *err);

/* Told how far it is. */
typedef void ds_child_progress(void *self, uint64_t done, uint64_t total);

/* Wait for message @type, the @last one or not, handing progress to @progress (NULL: to nobody). What else comes is an
 * error, FAILED with its sentence. -EREMOTEIO: so it failed, or ended without an answer. */
int ds_child_await(struct ds_child *child, uint16_t type, bool last, ds_child_progress *progress, void *self,
		   struct ds_message *m, struct ds_error *err);

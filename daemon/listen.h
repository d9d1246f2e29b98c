/* listen.h - the listening sockets: made here, or handed over by systemd. */
#pragma once

#include "config.h"
#include "passed.h"

#include <limits.h>

struct ds_listening {
	int api, metrics;                                /* negative: none; metrics may be */
	char api_path[PATH_MAX], metrics_path[PATH_MAX]; /* where they are if they were made here, else "" */
};

/* The API: the socket named api that systemd passed, else one at listen.socket, or api.sock in @runtime_dir.
 * The metrics: the socket named metrics that systemd passed, else one at listen.metrics if that is set.
 * A file left by a daemon that is gone is replaced; -EADDRINUSE: another daemon answers there. */
int ds_listen_open(struct ds_listening *out, const struct ds_config *config, struct ds_passed *passed,
		   const char *runtime_dir, struct ds_error *err);
/* Close what is open, which others may have taken away (-1), and remove the files that were made. */
void ds_listen_close(struct ds_listening *listening);

/* A listening socket at config->tcp, which is not "". */
int ds_listen_tcp(const struct ds_config *config, struct ds_error *err);

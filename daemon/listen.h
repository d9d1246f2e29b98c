/* listen.h - the listening socket: made here, or handed over by systemd. */
#pragma once

#include "config.h"
#include "passed.h"

/* The socket named api that systemd passed, else one at listen.socket, or api.sock in @runtime_dir.
 * A file left by a daemon that is gone is replaced; -EADDRINUSE: another daemon answers there. @path (size PATH_MAX):
 * where it is if it was made here, else "". Returns the descriptor. */
int ds_listen_open(const struct ds_config *config, struct ds_passed *passed, const char *runtime_dir, char *path,
		   struct ds_error *err);

/* A listening socket at config->tcp, which is not "". */
int ds_listen_tcp(const struct ds_config *config, struct ds_error *err);

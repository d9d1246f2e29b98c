/* options.h - the command line, and the directories that follow from it and from who runs the daemon.
 *
 * As the system service (started by systemd with RuntimeDirectory=deepseekd), or as root without a session:
 * /run/deepseekd, /var/lib/deepseekd and the layers of /usr/lib, /run and /etc. Else $XDG_RUNTIME_DIR, $XDG_STATE_HOME
 * and $XDG_CONFIG_HOME over the vendor's layer. The system service takes its helpers and plugins only from where they
 * were installed. */
#pragma once

#include "config.h"

#include <limits.h>

enum ds_bus_choice {
	DS_BUS_DEFAULT, /* system or session, as the directories; no bus is no error */
	DS_BUS_SYSTEM,
	DS_BUS_SESSION,
	DS_BUS_NONE,
	DS_BUS_ADDRESS,
};

struct ds_options {
	char *config; /* --config, absolute; NULL: the layers */
	char runtime_dir[PATH_MAX], state_dir[PATH_MAX];
	const char *plugin_dir; /* --plugin-dir, or NULL */
	const char *libexec_dir;
	enum ds_bus_choice bus;
	const char *bus_address;
	bool check_config;
	bool is_system;        /* the system service */
	bool uses_system;      /* its directories and its bus, started by hand or not */
	const char *layers[4]; /* NULL-terminated */
	char user_layer[PATH_MAX];
};

/* 0: run; 1: done (--help, --version); -EINVAL: wrong, and said so on stderr. */
int ds_options_parse(struct ds_options *options, int argc, char **argv);
void ds_options_deinit(struct ds_options *options);

/* helper-main.h - how every helper starts: arguments, plugins, one thread, sandbox, serve. In this order.
 *
 *   PROGRAM --plugin-dir DIR --plugin NAME...                        the broker's socket is descriptor 3
 *   PROGRAM --caller --plugin-dir DIR --plugin NAME...               the same for dsctl, as its user
 *   PROGRAM --describe-plugins --plugin-dir DIR --plugin NAME...     JSON about all of them on standard output
 *
 * Nothing starts a thread before the sandbox is entered: the environment that ds_sandbox_prepare() fixes says so to
 * libraries, and what serves starts its own threads afterwards. */
#pragma once

#include "plugins.h"
#include "sandbox.h"

struct ds_helper {
	const char *name; /* of the program */
	unsigned kinds;	  /* of plugins that it uses, a mask of DS_KIND */
	enum ds_sandbox sandbox;	/* of the program that the broker starts */
	enum ds_sandbox caller_sandbox; /* of one that dsctl starts, with --caller; 0: it does not */
	/* Talk to the broker until there is nothing left to do: 0, or what went wrong. @plugins are borrowed. */
	int (*serve)(int socket, const struct ds_plugins *plugins, struct ds_error *err);
};

/* All of main(): returns the exit status. */
int ds_helper_main(const struct ds_helper *helper, int argc, char **argv);

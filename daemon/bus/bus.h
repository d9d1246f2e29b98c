/* bus.h - the daemon on D-Bus: name org.deepseekd1, objects under /org/deepseekd1; docs/org.deepseekd1.5 describes
 * them.
 *
 * sd-bus is driven by libevent and never waits. A bus that is not there, or goes away, is logged once; with @must it
 * ends the daemon. What the files of this folder share is in parts.h. */
#pragma once

#include "../daemon.h"

#define DS_BUS_NAME "org.deepseekd1"
#define DS_BUS_PATH "/org/deepseekd1"

struct ds_bus;

/* A reload has ended: @problem is NULL, or says why the old configuration stays in force. */
typedef void ds_bus_reloaded_fn(void *arg, const char *problem);

struct ds_bus_spec {
	struct ds_daemon *daemon;
	const char *address; /* NULL: the system bus or the session's */
	bool is_system;
	bool must; /* somebody asked for this bus */
	void (*on_lost)(void *arg);
	/* Read the configuration again; calls @done exactly once, possibly before it returns. */
	void (*reload)(void *arg, ds_bus_reloaded_fn *done, void *done_arg);
	void *arg;
};

int ds_bus_new(struct ds_bus **out, const struct ds_bus_spec *spec, struct ds_error *err);
struct ds_bus *ds_bus_free(struct ds_bus *bus); /* takes NULL, returns NULL; before ds_models_free() */

/* The daemon's state, or the reason for it, has changed. Takes NULL. */
void ds_bus_state_changed(struct ds_bus *bus);
/* No request lives that came by this bus. Takes NULL. */
bool ds_bus_is_idle(const struct ds_bus *bus);

/* bus.h - the daemon on D-Bus: name org.deepseekd1, object /org/deepseekd1, one file an interface.
 *
 * sd-bus is driven by libevent and never waits. A bus that is not there, or goes away, is logged once; with @must it
 * ends the daemon. */
#pragma once

#include "../access.h"
#include "../daemon.h"

#include <systemd/sd-bus.h>

#define DS_BUS_NAME "org.deepseekd1"
#define DS_BUS_PATH "/org/deepseekd1"

struct ds_bus;

struct ds_bus_spec {
	struct ds_daemon *daemon;
	const char *address; /* NULL: the system bus or the session's */
	bool is_system;
	bool must; /* somebody asked for this bus */
	void (*on_lost)(void *arg);
	void *arg;
};

int ds_bus_new(struct ds_bus **out, const struct ds_bus_spec *spec, struct ds_error *err);
struct ds_bus *ds_bus_free(struct ds_bus *bus); /* takes NULL, returns NULL */

/* The daemon's state has changed. Takes NULL. */
void ds_bus_state_changed(struct ds_bus *bus);
/* No stream runs that was begun here. Takes NULL. */
bool ds_bus_is_idle(const struct ds_bus *bus);

/* For the interfaces. */

/* caller.c: ask the bus who sent @m; @then gets the answer, which it may reference, and @m until it returns. Both return
 * as a method's handler does. */
typedef int ds_bus_then_fn(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject);
int ds_bus_with_subject(struct ds_bus *bus, sd_bus_message *m, ds_bus_then_fn *then);
/* The same, and only if the sender may do @action; else it gets AccessDenied or InteractiveAuthorizationRequired.
 * @details: as of struct ds_access_question, at most 8 pairs. */
int ds_bus_with_access(struct ds_bus *bus, sd_bus_message *m, enum ds_action action, const char *const *details,
		       ds_bus_then_fn *then);
/* After something was sent outside of a handler. */
void ds_bus_flush(struct ds_bus *bus);
struct ds_daemon *ds_bus_daemon(const struct ds_bus *bus);
struct ds_bus_streams *ds_bus_streams(struct ds_bus *bus);

/* manager.c */
extern const sd_bus_vtable ds_bus_manager[];
/* keys.c */
extern const sd_bus_vtable ds_bus_keys[];

/* stream.c: answers that leave by a pipe */
struct ds_bus_streams {
	struct ds_bus_stream *list;
};

struct ds_bus_stream_spec {
	struct ds_model *model;
	struct ds_subject *subject; /* borrowed */
	json_t *generate; /* consumed */
	bool json;        /* lines of JSON; else the text of the answer alone */
};

/* Begin; returns the reading end of the pipe. */
int ds_bus_stream_new(struct ds_bus_streams *all, struct ds_daemon *daemon, const struct ds_bus_stream_spec *spec);
void ds_bus_streams_free(struct ds_bus_streams *all);

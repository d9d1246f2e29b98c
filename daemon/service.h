/* service.h - the daemon as a service of systemd: what it tells, the watchdog it feeds, and when it ends by itself.
 *
 * The watchdog is fed from the event loop, so a loop that hangs is ended by systemd; that engines get on is watched by
 * engines.c. Nothing here wakes a machine on which nothing happens, but the watchdog. */
#pragma once

#include <deepseekd/base.h>

struct ds_daemon;
struct ds_service;

struct ds_service_spec {
	struct ds_daemon *daemon;
	bool is_activated; /* systemd listens, so that a client can start it again */
	bool (*is_idle)(void *arg);
	void (*on_idle_exit)(void *arg); /* it was idle for idle_exit */
	void *arg;
};

int ds_service_new(struct ds_service **out, const struct ds_service_spec *spec, struct ds_error *err);
struct ds_service *ds_service_free(struct ds_service *service); /* takes NULL, returns NULL */

/* Something was asked, answered, loaded: the status may be another one, and the time of idleness begins anew. Takes NULL. */
void ds_service_changed(struct ds_service *service);

/* The phases of systemd's protocol. */
void ds_service_reloading(struct ds_service *service);
/* After the start and after each reload. @trouble: what to say of it in the status; NULL: all is well. */
void ds_service_ready(struct ds_service *service, const char *trouble);
void ds_service_stopping(struct ds_service *service, unsigned seconds);

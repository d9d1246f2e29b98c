/* bus.c - the connection to the bus, and sd-bus inside libevent. */
#include "bus.h"
#include "../log.h"
#include "polkit.h"

#include <event2/event.h>
#include <poll.h>
#include <string.h>
#include <time.h>

struct ds_bus {
	struct ds_bus_spec spec;
	sd_bus *bus;
	struct event *event;
	struct ds_bus_streams streams;
	bool in_handler;
};

static void arm(struct ds_bus *bus);

static void lost(struct ds_bus *bus, const char *why)
{
	if (bus->spec.daemon->stopping)
		return;
	ds_log(bus->spec.must ? LOG_ERR : LOG_NOTICE, "D-Bus: %s%s", why,
	       bus->spec.must ? "" : "; going on without it");
	if (bus->spec.must)
		bus->spec.on_lost(bus->spec.arg);
}

static void on_bus(evutil_socket_t fd, short what, void *arg)
{
	struct ds_bus *bus = arg;
	int r;

	bus->in_handler = true;
	do
		r = sd_bus_process(bus->bus, NULL);
	while (r > 0);
	bus->in_handler = false;
	if (r < 0)
		lost(bus, strerror(-r));
	else
		arm(bus);
}

/* Wait for what sd-bus waits for. */
static void arm(struct ds_bus *bus)
{
	int events = sd_bus_get_events(bus->bus), fd = sd_bus_get_fd(bus->bus);
	uint64_t until = UINT64_MAX, now_usec;
	struct timeval timeout = {0};
	struct timespec now;

	if (events < 0 || fd < 0 || sd_bus_get_timeout(bus->bus, &until) < 0)
		return;
	event_del(bus->event);
	event_assign(bus->event, bus->spec.daemon->base, fd,
		     (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0), on_bus, bus);
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	if (until != UINT64_MAX && until > now_usec)
		timeout = (struct timeval){.tv_sec = (time_t)((until - now_usec) / 1000000),
					   .tv_usec = (long)((until - now_usec) % 1000000)};
	event_add(bus->event, until == UINT64_MAX ? NULL : &timeout);
}

void ds_bus_flush(struct ds_bus *bus)
{
	if (!bus->in_handler)
		arm(bus);
}

static void flush(void *arg)
{
	ds_bus_flush(arg);
}

struct ds_daemon *ds_bus_daemon(const struct ds_bus *bus)
{
	return bus->spec.daemon;
}

struct ds_bus_streams *ds_bus_streams(struct ds_bus *bus)
{
	return &bus->streams;
}

bool ds_bus_is_idle(const struct ds_bus *bus)
{
	return !bus || !bus->streams.list;
}

void ds_bus_state_changed(struct ds_bus *bus)
{
	if (!bus || sd_bus_is_ready(bus->bus) <= 0)
		return;
	sd_bus_emit_properties_changed(bus->bus, DS_BUS_PATH, "org.deepseekd1.Manager", "State", NULL);
	ds_bus_flush(bus);
}

static int on_name(sd_bus_message *answer, void *userdata, sd_bus_error *error)
{
	struct ds_bus *bus = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(answer);
	uint32_t result = 0;

	if (!e)
		sd_bus_message_read(answer, "u", &result);
	if (e || result != 1) /* DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER */
		lost(bus, e ? e->message : "another daemon owns " DS_BUS_NAME);
	else
		ds_log(LOG_INFO, "D-Bus: " DS_BUS_NAME " is ours");
	return 1;
}

static int connect_bus(struct ds_bus *bus)
{
	int r;

	if (!bus->spec.address)
		return bus->spec.is_system ? sd_bus_open_system(&bus->bus) : sd_bus_open_user(&bus->bus);
	r = sd_bus_new(&bus->bus);
	if (r >= 0)
		r = sd_bus_set_address(bus->bus, bus->spec.address);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus->bus, 1);
	return r >= 0 ? sd_bus_start(bus->bus) : r;
}

int ds_bus_new(struct ds_bus **out, const struct ds_bus_spec *spec, struct ds_error *err)
{
	struct ds_bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return ds_fail(err, -ENOMEM, "no memory");
	bus->spec = *spec;
	r = connect_bus(bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus->bus, NULL, DS_BUS_PATH, "org.deepseekd1.Manager", ds_bus_manager,
					     bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus->bus, NULL, DS_BUS_PATH, "org.deepseekd1.Keys", ds_bus_keys, bus);
	if (r >= 0)
		r = sd_bus_request_name_async(bus->bus, NULL, DS_BUS_NAME, 0, on_name, bus);
	if (r >= 0) /* on whatever bus this is: the names that polkit is asked about are this bus's */
		r = ds_polkit_new(&spec->daemon->polkit, &(struct ds_polkit_spec){bus->bus, flush, bus});
	if (r >= 0)
		bus->event = event_new(spec->daemon->base, -1, 0, on_bus, bus);
	if (r < 0 || !bus->event) {
		ds_bus_free(bus);
		return ds_fail(err, r < 0 ? r : -ENOMEM, "D-Bus%s%.100s: %s", spec->address ? " at " : "",
			       spec->address ? spec->address : "", strerror(r < 0 ? -r : ENOMEM));
	}
	arm(bus);
	*out = bus;
	return 0;
}

struct ds_bus *ds_bus_free(struct ds_bus *bus)
{
	if (!bus)
		return NULL;
	bus->in_handler = true; /* nothing arms the event any more */
	bus->spec.daemon->polkit = ds_polkit_free(bus->spec.daemon->polkit);
	ds_bus_streams_free(&bus->streams);
	if (bus->event)
		event_free(bus->event);
	sd_bus_close_unref(bus->bus);
	free(bus);
	return NULL;
}

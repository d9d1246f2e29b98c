/* inhibit.c - who wants the daemon to stay as it is though idle: models stay loaded, and it does not exit. An inhibitor
 * lives until its descriptor is closed everywhere, or its client has left the bus. An administrator's command is not
 * held up by it. */
#include "../log.h"
#include "parts.h"

#include <event2/event.h>
#include <fcntl.h>
#include <string.h>

#define INHIBITORS_MAX 16 /* of one user */

struct ds_bus_inhibitor {
	struct ds_bus_inhibitor *next;
	struct ds_bus *bus;
	struct ds_subject *subject; /* referenced */
	struct event *closed;
	int fd; /* the reading end */
};

static void free_inhibitor(struct ds_bus_inhibitor *i)
{
	struct ds_bus_inhibitor **at = &i->bus->inhibitors;

	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	i->bus->spec.daemon->n_inhibitors--;
	if (i->closed)
		event_free(i->closed);
	ds_subject_unref(i->subject);
	close(i->fd);
	free(i);
}

/* Closed by all who had the other end; or written to, which is nonsense. */
static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	free_inhibitor(arg);
}

/* Takes ownership of @fd. */
static int new_inhibitor(struct ds_bus *bus, struct ds_subject *subject, int fd)
{
	struct ds_bus_inhibitor *i = calloc(1, sizeof(*i));

	if (!i) {
		close(fd);
		return -ENOMEM;
	}
	*i = (struct ds_bus_inhibitor){.next = bus->inhibitors, .bus = bus, .fd = fd};
	i->subject = ds_subject_ref(subject);
	bus->inhibitors = i;
	bus->spec.daemon->n_inhibitors++;
	i->closed = event_new(bus->spec.daemon->base, fd, EV_READ, on_closed, i);
	if (i->closed && event_add(i->closed, NULL) == 0)
		return 0;
	free_inhibitor(i);
	return -ENOMEM;
}

int ds_bus_inhibit(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	ds_cleanup(ds_closep) int writer = -1;
	const char *who, *why;
	unsigned n = 0;
	int ends[2], r = sd_bus_message_read(m, "ss", &who, &why);

	if (r < 0)
		return r;
	if (!*who || !*why)
		return ds_bus_refuse(m, SD_BUS_ERROR_INVALID_ARGS, "%s: must not be empty", *who ? "why" : "who");
	for (const struct ds_bus_inhibitor *i = bus->inhibitors; i; i = i->next)
		n += !strcmp(i->subject->owner, subject->owner);
	if (n >= INHIBITORS_MAX)
		return ds_bus_refuse(m, SD_BUS_ERROR_LIMITS_EXCEEDED, "user %u already inhibits %u times", subject->uid,
				     n);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	writer = ends[1];
	r = new_inhibitor(bus, subject, ends[0]);
	if (r < 0)
		return r;
	ds_log(LOG_INFO, "%.100s (user %u) inhibits idling: %.200s", who, subject->uid, why);
	return sd_bus_reply_method_return(m, "h", writer) < 0 ? -EIO : 1;
}

void ds_bus_inhibitors_end(struct ds_bus *bus, const char *name)
{
	struct ds_bus_inhibitor *next;

	for (struct ds_bus_inhibitor *i = bus->inhibitors; i; i = next) {
		next = i->next;
		if (!name || !strcmp(i->subject->bus_name, name))
			free_inhibitor(i);
	}
}

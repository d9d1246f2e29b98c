/* sleep.c - the machine goes to sleep and wakes: logind says when, and waits for us for a moment.
 *
 * With a delay lock of logind: before sleep nothing new is given to engines, and what runs may come to its end for a second at
 * most; what then still runs freezes with the machine and goes on when it wakes. No deadline is missed by that: every timer
 * counts CLOCK_MONOTONIC, which stands still meanwhile. Where there is no logind, none of this is needed. */
#include "parts.h"
#include "../log.h"

#include <event2/event.h>
#include <fcntl.h>

#define LOGIND "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
#define LOOK_MS 50
#define LOOKS 20 /* a second in all; logind itself waits 5 */

struct ds_bus_sleep {
	sd_bus *bus; /* borrowed */
	struct ds_bus *owner;
	struct event *look;
	int lock; /* -1: not held */
	unsigned n_looks;
};

static void release(struct ds_bus_sleep *s)
{
	event_del(s->look);
	if (s->lock >= 0)
		close(s->lock);
	s->lock = -1;
}

static int on_lock(sd_bus_message *answer, void *userdata, sd_bus_error *error)
{
	struct ds_bus_sleep *s = userdata;
	int fd;

	if (sd_bus_message_is_method_error(answer, NULL) || sd_bus_message_read(answer, "h", &fd) < 0) {
		ds_log(LOG_DEBUG, "logind gives no lock: the machine sleeps without waiting for answers");
		return 1;
	}
	release(s);
	s->lock = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return 1;
}

static void take_lock(struct ds_bus_sleep *s)
{
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(s->bus, &m, LOGIND, "Inhibit");

	if (r >= 0)
		r = sd_bus_message_set_auto_start(m, 0);
	if (r >= 0)
		r = sd_bus_message_append(m, "ssss", "sleep", "deepseekd", "Answers come to their end", "delay");
	if (r >= 0)
		r = sd_bus_call_async(s->bus, NULL, m, on_lock, s, 0);
	sd_bus_message_unref(m);
	if (r < 0)
		ds_log(LOG_DEBUG, "logind cannot be asked for a lock: %d", r);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct ds_bus_sleep *s = arg;
	size_t n_running, n_waiting;

	ds_requests_count(s->owner->spec.daemon->requests, NULL, &n_running, &n_waiting);
	if (n_running == 0 || ++s->n_looks >= LOOKS)
		release(s);
	else
		event_add(s->look, &(struct timeval){.tv_usec = LOOK_MS * 1000});
}

static int on_sleep(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct ds_bus_sleep *s = userdata;
	int begins;

	if (sd_bus_message_read(m, "b", &begins) < 0)
		return 0;
	ds_log(LOG_NOTICE, begins ? "the machine goes to sleep" : "the machine is awake again");
	ds_requests_pause(s->owner->spec.daemon->requests, begins);
	s->n_looks = 0;
	if (begins)
		on_look(-1, 0, s);
	else
		take_lock(s);
	return 0;
}

int ds_bus_sleep_new(struct ds_bus_sleep **out, struct ds_bus *owner, sd_bus *bus)
{
	struct ds_bus_sleep *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct ds_bus_sleep){.bus = bus, .owner = owner, .lock = -1};
	s->look = evtimer_new(owner->spec.daemon->base, on_look, s);
	r = s->look ? sd_bus_match_signal_async(bus, NULL, LOGIND, "PrepareForSleep", on_sleep, NULL, s) : -ENOMEM;
	if (r < 0) {
		ds_bus_sleep_free(s);
		return r;
	}
	take_lock(s);
	*out = s;
	return 0;
}

struct ds_bus_sleep *ds_bus_sleep_free(struct ds_bus_sleep *s)
{
	if (!s)
		return NULL;
	if (s->look) {
		release(s);
		event_free(s->look);
	}
	free(s);
	return NULL;
}

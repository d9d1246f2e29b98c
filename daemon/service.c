/* service.c - notifications to systemd, the watchdog, idle exit. */
#include "service.h"
#include "daemon.h"
#include "log.h"

#include <event2/event.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#define TICK_MS 500	 /* the status changes at most so often */
#define EXTEND_S 60	 /* while starting, from each tick on */
#define STATUS_MAX 512

struct ds_service {
	struct ds_service_spec spec;
	struct event *tick;	/* pending while there is something to tell, or about to be */
	struct event *watchdog; /* NULL: systemd asks for none */
	struct event *idle;	/* NULL: it never ends by itself */
	uint64_t used_ms;	/* CLOCK_MONOTONIC */
	bool is_ready;
	const char *trouble;
	char status[STATUS_MAX]; /* as systemd knows it */
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct timeval to_timeval(uint64_t ms)
{
	return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (long)(ms % 1000) * 1000};
}

/* Append to @text, of STATUS_MAX bytes; what does not fit is cut. */
__attribute__((format(printf, 2, 3)))
static void add(char *text, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(text + used, STATUS_MAX - used, fmt, args);
	va_end(args);
}

/* "tiny-r1 ready, big loading 42 %; 2 requests running, 1 waiting". Returns whether it may change by itself. */
static bool describe(const struct ds_service *s, char text[STATUS_MAX])
{
	static const char *const states[] = {"absent", "loading", "ready", "unloading", "failed"};
	struct ds_daemon *daemon = s->spec.daemon;
	size_t n_running, n_waiting, n_absent = 0;
	bool moves = false;

	text[0] = '\0';
	if (s->trouble)
		add(text, "%s; ", s->trouble);
	for (struct ds_model *m = NULL; (m = ds_models_next(daemon->models, m));) {
		enum ds_model_state state = ds_model_get_state(m);
		int percent = ds_model_get_percent(m);

		moves |= state == DS_MODEL_LOADING || state == DS_MODEL_UNLOADING;
		n_absent += state == DS_MODEL_ABSENT;
		if (state == DS_MODEL_LOADING && percent >= 0)
			add(text, "%s loading %d %%, ", ds_model_get_config(m)->name, percent);
		else if (state != DS_MODEL_ABSENT)
			add(text, "%s %s, ", ds_model_get_config(m)->name, states[state]);
	}
	ds_requests_count(daemon->requests, NULL, &n_running, &n_waiting);
	add(text, "%zu model%s not loaded; %zu request%s running, %zu waiting", n_absent, n_absent == 1 ? "" : "s",
	    n_running, n_running == 1 ? "" : "s", n_waiting);
	return moves || n_running > 0 || n_waiting > 0;
}

static void schedule_tick(struct ds_service *s)
{
	struct timeval delay = to_timeval(TICK_MS);

	if (!event_pending(s->tick, EV_TIMEOUT, NULL))
		event_add(s->tick, &delay);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct ds_service *s = arg;
	char text[STATUS_MAX];
	bool moves = describe(s, text);

	if (s->spec.daemon->stopping)
		return;
	if (!s->is_ready)
		sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", EXTEND_S * 1000000ull);
	if (s->is_ready && strcmp(text, s->status)) {
		snprintf(s->status, sizeof(s->status), "%s", text);
		sd_notifyf(0, "STATUS=%s", text);
	}
	if (moves || !s->is_ready)
		schedule_tick(s);
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	sd_notify(0, "WATCHDOG=1");
}

static int watch(struct ds_service *s)
{
	uint64_t usec = 0;
	struct timeval period;

	if (sd_watchdog_enabled(0, &usec) <= 0)
		return 0;
	period = to_timeval(usec / 1000 / 2 ? usec / 1000 / 2 : 1);
	s->watchdog = event_new(s->spec.daemon->base, -1, EV_PERSIST, on_watchdog, s);
	return s->watchdog ? event_add(s->watchdog, &period) : -ENOMEM;
}

/* Idle exit. The configuration in force counts, as long as it is. */
static void arm_idle(struct ds_service *s)
{
	uint64_t usec = s->spec.daemon->config->idle_exit_usec, left, passed = now_ms() - s->used_ms;
	struct timeval delay;

	if (!s->spec.is_activated || usec == DS_CONFIG_NEVER)
		return;
	left = usec / 1000 > passed ? usec / 1000 - passed : 0;
	delay = to_timeval(left + 1);
	event_add(s->idle, &delay);
}

static void on_idle_time(evutil_socket_t fd, short what, void *arg)
{
	struct ds_service *s = arg;
	uint64_t usec = s->spec.daemon->config->idle_exit_usec;
	bool may = !ds_models_hold_images(s->spec.daemon->models) || ds_store_outlives_service();

	if (!may || !s->spec.is_idle(s->spec.arg))
		s->used_ms = now_ms();
	if (now_ms() - s->used_ms < usec / 1000) {
		arm_idle(s);
		return;
	}
	ds_log(LOG_NOTICE, "nothing to do for idle_exit: ending until a client comes");
	s->spec.on_idle_exit(s->spec.arg);
}

void ds_service_changed(struct ds_service *s)
{
	if (!s)
		return;
	s->used_ms = now_ms();
	schedule_tick(s);
}

void ds_service_reloading(struct ds_service *s)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reading the configuration",
		   (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000);
}

void ds_service_ready(struct ds_service *s, const char *trouble)
{
	s->is_ready = true;
	s->trouble = trouble;
	s->used_ms = now_ms();
	if (describe(s, s->status))
		schedule_tick(s);
	sd_notifyf(0, "READY=1\nSTATUS=%s", s->status);
	arm_idle(s);
}

void ds_service_stopping(struct ds_service *s, unsigned seconds)
{
	event_del(s->tick);
	event_del(s->idle);
	sd_notifyf(0, "STOPPING=1\nSTATUS=Finishing what runs\nEXTEND_TIMEOUT_USEC=%llu", seconds * 1000000ull);
}

int ds_service_new(struct ds_service **out, const struct ds_service_spec *spec, struct ds_error *err)
{
	struct ds_service *s = calloc(1, sizeof(*s));
	struct event_base *base = spec->daemon->base;

	if (!s)
		return ds_fail(err, -ENOMEM, "no memory");
	s->spec = *spec;
	s->tick = evtimer_new(base, on_tick, s);
	s->idle = evtimer_new(base, on_idle_time, s);
	if (!s->tick || !s->idle || watch(s) < 0) {
		ds_service_free(s);
		return ds_fail(err, -ENOMEM, "no memory");
	}
	schedule_tick(s);
	*out = s;
	return 0;
}

struct ds_service *ds_service_free(struct ds_service *s)
{
	if (!s)
		return NULL;
	if (s->tick)
		event_free(s->tick);
	if (s->watchdog)
		event_free(s->watchdog);
	if (s->idle)
		event_free(s->idle);
	free(s);
	return NULL;
}

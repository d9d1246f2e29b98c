/* engines.c - speaks with one ds-engine. */
#include "engines.h"
#include "log.h"

#include <event2/event.h>
#include <string.h>
#include <time.h>

#define PING_S 5
#define SILENCE_S 30          /* of one that serves */
#define SILENCE_MAPPING_S 300 /* of one that is still starting: it may be reading plugins from a slow disk */
#define JSON_MAX (1u << 20)

enum phase {
	PHASE_MAPPING = 1 << 0,
	PHASE_SERVING = 1 << 1,
};

struct ds_engine {
	struct ds_helper *helper;
	const struct ds_engine_events *events;
	void *arg;
	struct event *ping, *quit;
	enum phase phase;
	time_t heard; /* CLOCK_MONOTONIC: of its last PONG */
	uint64_t n_pings;
	char refusal[512];
};

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int on_ready(struct ds_engine *e, struct ds_message *m, struct ds_error *err)
{
	json_t *ready = m->size <= JSON_MAX ? json_loadb((const char *)m->data, m->size, 0, NULL) : NULL;

	if (!json_is_object(ready)) {
		json_decref(ready);
		return ds_fail(err, -EPROTO, "READY is not a JSON object");
	}
	e->phase = PHASE_SERVING;
	e->events->on_ready(e->arg, ready);
	json_decref(ready);
	return 0;
}

static int on_events(struct ds_engine *e, struct ds_message *m, struct ds_error *err)
{
	return e->events->on_batch(e->arg, m->data, m->size, err);
}

static int on_pong(struct ds_engine *e, struct ds_message *m, struct ds_error *err)
{
	struct ds_engine_load load;

	if (m->size != sizeof(uint64_t) + sizeof(load))
		return ds_fail(err, -EPROTO, "a pong of %u bytes", m->size);
	memcpy(&load, m->data + sizeof(uint64_t), sizeof(load));
	e->heard = now();
	e->events->on_load(e->arg, &load);
	return 0;
}

static int on_failed(struct ds_engine *e, struct ds_message *m, struct ds_error *err)
{
	json_t *json = m->size <= JSON_MAX ? json_loadb((const char *)m->data, m->size, 0, NULL) : NULL;
	const char *message = json_string_value(json_object_get(json, "message"));

	if (message)
		snprintf(e->refusal, sizeof(e->refusal), "%s", message);
	json_decref(json);
	ds_helper_expect_end(e->helper);
	return message ? 0 : ds_fail(err, -EPROTO, "FAILED without a message");
}

static const struct {
	uint16_t type;
	unsigned phases;
	int (*take)(struct ds_engine *e, struct ds_message *m, struct ds_error *err);
} messages[] = {
	{DS_MSG_READY, PHASE_MAPPING, on_ready},
	{DS_MSG_FAILED, PHASE_MAPPING | PHASE_SERVING, on_failed},
	{DS_MSG_EVENTS, PHASE_SERVING, on_events},
	{DS_MSG_PONG, PHASE_MAPPING | PHASE_SERVING, on_pong},
};

static int on_message(void *arg, struct ds_message *m, struct ds_error *err)
{
	struct ds_engine *e = arg;

	for (size_t i = 0; i < DS_ARRAY_SIZE(messages); i++)
		if (messages[i].type == m->type && messages[i].phases & e->phase)
			return messages[i].take(e, m, err);
	return ds_fail(err, -EPROTO, "message %u does not belong here", m->type);
}

static struct ds_engine *free_engine(struct ds_engine *e)
{
	if (e->ping)
		event_free(e->ping);
	if (e->quit)
		event_free(e->quit);
	free(e);
	return NULL;
}

static void on_exit_(void *arg, bool clean, const char *reason)
{
	struct ds_engine *e = arg;

	if (ds_helper_exit_status(e->helper) == DS_EXIT_FILE_CHANGED && !e->refusal[0])
		snprintf(e->refusal, sizeof(e->refusal), "a file of the model changed, or cannot be read any more");
	e->events->on_end(e->arg, e->refusal[0], e->refusal[0] ? e->refusal : reason);
	free_engine(e);
}

static const struct ds_helper_events helper_events = {.on_message = on_message, .on_exit = on_exit_};

static void on_ping_time(evutil_socket_t fd, short what, void *arg)
{
	struct ds_engine *e = arg;

	if (now() - e->heard > (e->phase == PHASE_SERVING ? SILENCE_S : SILENCE_MAPPING_S)) {
		ds_helper_kill(e->helper, "it did not answer");
		return;
	}
	e->n_pings++;
	ds_helper_send(e->helper, DS_MSG_PING, 0, &e->n_pings, sizeof(e->n_pings), NULL, 0);
}

static void on_quit_time(evutil_socket_t fd, short what, void *arg)
{
	struct ds_engine *e = arg;

	ds_helper_kill(e->helper, "it did not end when asked to");
}

int ds_engine_start(struct ds_engine **out, struct event_base *base, struct ds_helpers *helpers,
		    const char *const *argv, const int *fds, unsigned n_fds, const json_t *map, const struct ds_engine_events *events,
		    void *arg, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = json_dumps(map, JSON_COMPACT);
	struct ds_engine *e = calloc(1, sizeof(*e));
	int r = -ENOMEM;

	if (!e || !text) {
		free(e);
		return ds_fail(err, -ENOMEM, "no memory");
	}
	*e = (struct ds_engine){.events = events, .arg = arg, .phase = PHASE_MAPPING, .heard = now()};
	e->ping = event_new(base, -1, EV_PERSIST, on_ping_time, e);
	e->quit = evtimer_new(base, on_quit_time, e);
	if (e->ping && e->quit && event_add(e->ping, &(struct timeval){.tv_sec = PING_S}) == 0)
		r = ds_helper_start(&e->helper, helpers, argv, &helper_events, e, err);
	else
		ds_fail(err, r, "no memory");
	if (r < 0) {
		free_engine(e);
		return r;
	}
	ds_helper_send(e->helper, DS_MSG_MAP, 0, text, strlen(text), fds, n_fds);
	*out = e;
	return 0;
}

void ds_engine_send(struct ds_engine *e, uint16_t type, uint64_t request, const void *data, size_t size)
{
	ds_helper_send(e->helper, type, request, data, size, NULL, 0);
}

void ds_engine_quit(struct ds_engine *e, unsigned seconds)
{
	ds_helper_send(e->helper, DS_MSG_QUIT, 0, NULL, 0, NULL, 0);
	event_add(e->quit, &(struct timeval){.tv_sec = seconds});
}

bool ds_engine_is_ready(const struct ds_engine *e)
{
	return e->phase == PHASE_SERVING;
}

pid_t ds_engine_pid(const struct ds_engine *e)
{
	return ds_helper_pid(e->helper);
}

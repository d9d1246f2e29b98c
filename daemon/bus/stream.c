/* stream.c - an answer that leaves by a pipe: its text alone, or lines of JSON.
 *
 * JSON lines: {"reasoning": text}, {"content": text}, {"tool_name": text}, {"tool_arguments": text}, and at the end
 * {"done": {"finish_reason", "prompt_tokens", "completion_tokens"}} or {"error": {"code", "message"}}. */
#include "parts.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>

#define OUTPUT_FULL (64u << 10)

struct ds_bus_stream {
	struct bufferevent *bev; /* writes to the pipe */
	struct event *closed;    /* the reader has gone: then the writing end polls as an error */
	bool json;
	const struct ds_bus_stream_events *events;
	void *arg;
};

static void add_line(struct ds_bus_stream *s, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (text) {
		bufferevent_write(s->bev, text, strlen(text));
		bufferevent_write(s->bev, "\n", 1);
	}
	free(text);
}

int ds_bus_stream_put(struct ds_bus_stream *s, const struct ds_request_event *event)
{
	static const char *const keys[] = {[DS_EVENT_REASONING] = "reasoning",
					   [DS_EVENT_CONTENT] = "content",
					   [DS_EVENT_TOOL_NAME] = "tool_name",
					   [DS_EVENT_TOOL_ARGUMENTS] = "tool_arguments"};
	json_t *text = json_stringn((const char *)event->data, event->size);

	if (!text)
		return -EILSEQ;
	if (s->json)
		add_line(s, json_pack("{s:O}", keys[event->type], text));
	else if (event->type == DS_EVENT_CONTENT)
		bufferevent_write(s->bev, event->data, event->size);
	json_decref(text);
	return 0;
}

void ds_bus_stream_end(struct ds_bus_stream *s, const struct ds_bus_request *r)
{
	if (!s->json)
		return;
	if (r->code[0])
		add_line(s, json_pack("{s:{s:s, s:s}}", "error", "code", r->code, "message", r->message));
	else
		add_line(s, json_pack("{s:{s:s, s:I, s:I}}", "done", "finish_reason", r->outcome, "prompt_tokens",
				      (json_int_t)r->usage.prompt_tokens, "completion_tokens",
				      (json_int_t)r->usage.completion_tokens));
}

bool ds_bus_stream_is_full(const struct ds_bus_stream *s)
{
	return evbuffer_get_length(bufferevent_get_output(s->bev)) >= OUTPUT_FULL;
}

bool ds_bus_stream_is_empty(const struct ds_bus_stream *s)
{
	return evbuffer_get_length(bufferevent_get_output(s->bev)) == 0;
}

static void on_drained(struct bufferevent *bev, void *arg)
{
	struct ds_bus_stream *s = arg;

	s->events->on_room(s->arg);
}

/* It took nothing for too long, or writing failed. */
static void on_trouble(struct bufferevent *bev, short what, void *arg)
{
	struct ds_bus_stream *s = arg;

	s->events->on_gone(s->arg);
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	on_trouble(NULL, 0, arg);
}

struct ds_bus_stream *ds_bus_stream_free(struct ds_bus_stream *s)
{
	if (!s)
		return NULL;
	if (s->closed)
		event_free(s->closed);
	if (s->bev)
		bufferevent_free(s->bev);
	free(s);
	return NULL;
}

/* Takes ownership of the writing end. */
static struct ds_bus_stream *new_stream(struct ds_daemon *daemon, int fd)
{
	struct ds_bus_stream *s = calloc(1, sizeof(*s));
	uint64_t usec = daemon->config->stall_usec;
	struct timeval stall = {.tv_sec = (time_t)(usec / 1000000), .tv_usec = (long)(usec % 1000000)};

	if (s)
		s->bev = bufferevent_socket_new(daemon->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!s || !s->bev) {
		close(fd);
		return ds_bus_stream_free(s);
	}
	s->closed = event_new(daemon->base, fd, EV_READ, on_closed, s);
	if (!s->closed || event_add(s->closed, NULL) < 0)
		return ds_bus_stream_free(s);
	bufferevent_disable(s->bev, EV_READ);
	bufferevent_setcb(s->bev, NULL, on_drained, on_trouble, s);
	bufferevent_set_timeouts(s->bev, NULL, &stall);
	return s;
}

int ds_bus_stream_new(struct ds_bus_stream **out, struct ds_daemon *daemon, bool json, int *reader,
		      const struct ds_bus_stream_events *events, void *arg)
{
	struct ds_bus_stream *s;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	s = new_stream(daemon, ends[1]);
	if (!s) {
		close(ends[0]);
		return -ENOMEM;
	}
	s->json = json;
	s->events = events;
	s->arg = arg;
	fcntl(ends[0], F_SETFL, 0); /* whoever reads may wait */
	*reader = ends[0];
	*out = s;
	return 0;
}

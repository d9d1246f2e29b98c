/* stream.c - an answer that leaves by a pipe: its text alone, or lines of JSON. Closing the reading end cancels it.
 *
 * JSON lines: {"reasoning": text}, {"content": text}, {"tool_name": text}, {"tool_arguments": text}, and at the end
 * {"done": {"finish_reason", "prompt_tokens", "completion_tokens"}} or {"error": {"code", "message"}}. */
#include "bus.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>

#define OUTPUT_FULL (64u << 10)

struct ds_bus_stream {
	struct ds_bus_stream *next, **at;
	struct ds_request *request;
	struct bufferevent *bev; /* writes to the pipe */
	struct event *closed;    /* the reader has gone: then the writing end polls as an error */
	bool json, over;
};

static void free_stream(struct ds_bus_stream *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	ds_request_free(s->request);
	if (s->closed)
		event_free(s->closed);
	if (s->bev)
		bufferevent_free(s->bev);
	free(s);
}

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

static json_t *done_object(const struct ds_request_event *event)
{
	static const char *const finishes[] = {
		[DS_FINISH_STOP] = "stop", [DS_FINISH_LENGTH] = "length", [DS_FINISH_TOOL_CALLS] = "tool_calls"};
	struct ds_done done;

	memcpy(&done, event->data, sizeof(done));
	if (done.finish < DS_FINISH_STOP || done.finish > DS_FINISH_TOOL_CALLS)
		done.finish = DS_FINISH_STOP;
	return json_pack("{s:{s:s, s:I, s:I}}", "done", "finish_reason", finishes[done.finish], "prompt_tokens",
			 (json_int_t)done.usage.prompt_tokens, "completion_tokens",
			 (json_int_t)done.usage.completion_tokens);
}

static void pass_text(struct ds_bus_stream *s, const struct ds_request_event *event)
{
	static const char *const keys[] = {[DS_EVENT_REASONING] = "reasoning",
					   [DS_EVENT_CONTENT] = "content",
					   [DS_EVENT_TOOL_NAME] = "tool_name",
					   [DS_EVENT_TOOL_ARGUMENTS] = "tool_arguments"};
	json_t *text = json_stringn((const char *)event->data, event->size);

	if (!text) { /* the engine's bytes are not UTF-8: nothing more of this answer is believed */
		if (s->json)
			add_line(s, json_pack("{s:{s:s, s:s}}", "error", "code", "internal", "message",
					      "the engine wrote what is not valid UTF-8"));
		s->over = true;
	} else if (s->json) {
		add_line(s, json_pack("{s:O}", keys[event->type], text));
	} else if (event->type == DS_EVENT_CONTENT) {
		bufferevent_write(s->bev, event->data, event->size);
	}
	json_decref(text);
}

static void pass(struct ds_bus_stream *s, const struct ds_request_event *event)
{
	switch (event->type) {
	case DS_EVENT_REASONING:
	case DS_EVENT_CONTENT:
	case DS_EVENT_TOOL_NAME:
	case DS_EVENT_TOOL_ARGUMENTS:
		pass_text(s, event);
		break;
	case DS_EVENT_DONE:
		if (s->json)
			add_line(s, done_object(event));
		s->over = true;
		break;
	case DS_EVENT_FAILED:
		if (s->json)
			add_line(s, json_pack("{s:o}", "error",
					      json_loadb((const char *)event->data, event->size, 0, NULL)));
		s->over = true;
		break;
	default:
		break;
	}
}

static void pump(void *arg)
{
	struct ds_bus_stream *s = arg;
	struct evbuffer *output = bufferevent_get_output(s->bev);
	struct ds_request_event event;

	while (!s->over && evbuffer_get_length(output) < OUTPUT_FULL && ds_request_next(s->request, &event) > 0)
		pass(s, &event);
	if (s->over && evbuffer_get_length(output) == 0)
		free_stream(s);
}

static void on_drained(struct bufferevent *bev, void *arg)
{
	pump(arg);
}

/* It took nothing for too long, or writing failed. */
static void on_trouble(struct bufferevent *bev, short what, void *arg)
{
	free_stream(arg);
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	free_stream(arg);
}

/* Takes ownership of the writing end. */
static struct ds_bus_stream *new_stream(struct ds_bus_streams *all, struct ds_daemon *daemon, int fd)
{
	struct ds_bus_stream *s = calloc(1, sizeof(*s));
	uint64_t usec = daemon->config->stall_usec;
	struct timeval stall = {.tv_sec = (time_t)(usec / 1000000), .tv_usec = (long)(usec % 1000000)};

	if (!s) {
		close(fd);
		return NULL;
	}
	s->next = all->list;
	s->at = &all->list;
	if (s->next)
		s->next->at = &s->next;
	all->list = s;
	s->bev = bufferevent_socket_new(daemon->base, fd, BEV_OPT_CLOSE_ON_FREE);
	s->closed = event_new(daemon->base, fd, EV_READ, on_closed, s);
	if (!s->bev || !s->closed || event_add(s->closed, NULL) < 0) {
		if (!s->bev)
			close(fd);
		free_stream(s);
		return NULL;
	}
	bufferevent_disable(s->bev, EV_READ);
	bufferevent_setcb(s->bev, NULL, on_drained, on_trouble, s);
	bufferevent_set_timeouts(s->bev, NULL, &stall);
	return s;
}

int ds_bus_stream_new(struct ds_bus_streams *all, struct ds_daemon *daemon, const struct ds_bus_stream_spec *spec)
{
	struct ds_request_spec request = {.subject = spec->subject,
					  .model = spec->model,
					  .type = DS_MSG_GENERATE,
					  .body = json_dumps(spec->generate, JSON_COMPACT),
					  .on_events = pump};
	ds_cleanup(ds_closep) int reader = -1;
	struct ds_bus_stream *s;
	int ends[2], r;

	json_decref(spec->generate);
	r = request.body ? pipe2(ends, O_CLOEXEC | O_NONBLOCK) : -1;
	if (r < 0) {
		free(request.body);
		return -ENOMEM;
	}
	reader = ends[0];
	fcntl(reader, F_SETFL, 0); /* whoever reads may wait */
	request.body_size = strlen(request.body);
	s = request.arg = new_stream(all, daemon, ends[1]);
	if (!s) {
		free(request.body);
		return -ENOMEM;
	}
	s->json = spec->json;
	if (ds_request_new(&s->request, daemon->requests, &request) < 0) {
		free_stream(s);
		return -ENOMEM;
	}
	pump(s);
	return ds_steal_fd(&reader);
}

void ds_bus_streams_free(struct ds_bus_streams *all)
{
	while (all->list)
		free_stream(all->list);
}

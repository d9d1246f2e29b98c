/* tokenize.c - POST /v1/models/NAME/tokenize and .../render: the engine answers, and its JSON goes through as it comes.
 */
#include "reply.h"

#include <string.h>

#define AT_ONCE (64u << 10)

struct tokenizing {
	struct ds_call *call;
	struct ds_request *request;
	bool begun;
};

static void free_tokenizing(void *arg)
{
	struct tokenizing *t = arg;

	ds_request_free(t->request);
	free(t);
}

static void end(struct tokenizing *t, const struct ds_request_event *event)
{
	struct ds_call *call = t->call;

	if (event->type == DS_EVENT_FAILED && !t->begun)
		ds_reply_failed(call, event->data, event->size);
	else if (event->type == DS_EVENT_FAILED || !t->begun)
		ds_reply_abort(call);
	else
		ds_reply_end(call);
	free_tokenizing(t);
}

/* Pass on what there is. True: it is over. */
static bool pass_events(struct tokenizing *t, struct evbuffer *out)
{
	struct ds_request_event event;

	while (!ds_reply_is_full(t->call) && evbuffer_get_length(out) < AT_ONCE &&
	       ds_request_next(t->request, &event) > 0) {
		bool over = event.type == DS_EVENT_DONE || event.type == DS_EVENT_FAILED;

		if (event.type == DS_EVENT_CONTENT && !t->begun) {
			t->begun = true;
			ds_reply_begin(t->call, "application/json");
		}
		if (event.type == DS_EVENT_CONTENT)
			evbuffer_add(out, event.data, event.size);
		if (over && evbuffer_get_length(out) > 0)
			ds_reply_write(t->call, out);
		if (over) {
			end(t, &event);
			return true;
		}
	}
	return false;
}

static void pump(void *arg)
{
	struct tokenizing *t = arg;
	struct evbuffer *out = evbuffer_new();

	if (!out) {
		ds_reply_abort(t->call);
		free_tokenizing(t);
	} else if (!pass_events(t, out) && evbuffer_get_length(out) > 0) {
		ds_reply_write(t->call, out);
	}
	if (out)
		evbuffer_free(out);
}

static void ask(struct ds_call *call, uint16_t type)
{
	struct ds_model *model = ds_access_find_model(call->daemon, call->subject, call->name);
	struct ds_request_spec spec = {
		.subject = call->subject, .name = call->id, .model = model, .type = type, .on_events = pump};
	struct tokenizing *t;

	if (!model) {
		ds_reply_error(call, 404, "model_not_found", "model", "there is no model \"%s\"", call->name);
		return;
	}
	t = calloc(1, sizeof(*t));
	spec.arg = t;
	spec.body = json_dumps(call->body, JSON_COMPACT);
	spec.body_size = spec.body ? strlen(spec.body) : 0;
	if (!t || !spec.body || ds_request_new(&t->request, call->daemon->requests, &spec) < 0) {
		if (!t)
			free(spec.body);
		free(t);
		ds_reply_abort(call);
		return;
	}
	t->call = call;
	call->on_gone = free_tokenizing;
	call->on_drained = pump;
	call->arg = t;
	json_decref(call->body);
	call->body = NULL;
	pump(t);
}

void ds_tokenize(struct ds_call *call)
{
	ask(call, DS_MSG_TOKENIZE);
}

void ds_render_prompt(struct ds_call *call)
{
	ask(call, DS_MSG_RENDER);
}

/* request.c - a call of Generate or Complete, from its message to its end.
 *
 *   call -> (read JSON) -> (write JSON) -> submit: reply with path and pipe -> events -> done: output leaves ->
 * Finished
 *
 * It is cancelled by Cancel(), by closing the pipe, and by its client's leaving the bus. */
#include "../http/body.h"
#include "parts.h"

#include <event2/buffer.h>
#include <string.h>
#include <sys/random.h>

static void free_request(struct ds_bus_request *r)
{
	struct ds_bus_request **at = &r->bus->requests;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	ds_body_cancel(r->work);
	ds_request_free(r->request);
	ds_bus_stream_free(r->stream);
	ds_bus_whole_free(r->whole);
	if (r->texts)
		evbuffer_free(r->texts);
	json_decref(r->wish.generate);
	sd_bus_message_unref(r->call);
	ds_model_unref(r->model);
	ds_subject_unref(r->owner);
	free(r);
}

/* Its life is over, and its client is told. */
static void retire(struct ds_bus_request *r)
{
	struct ds_bus *bus = r->bus;

	if (r->is_announced)
		ds_bus_object_finished(r);
	free_request(r);
	ds_bus_flush(bus);
}

static void become(struct ds_bus_request *r, enum ds_bus_request_state state)
{
	if (r->state == state)
		return;
	r->state = state;
	ds_bus_object_changed(r);
}

/* The end: @r->outcome says how. A call that waits is answered, and what was put into the pipe leaves. */
static void end(struct ds_bus_request *r)
{
	int e = 0;

	r->request = ds_request_free(r->request);
	become(r, DS_BUS_DONE);
	if (r->stream)
		ds_bus_stream_end(r->stream, r);
	if (r->call && !r->code[0] && r->whole)
		e = ds_bus_whole_reply(r->whole, r);
	else if (r->call)
		ds_bus_refuse(r->call, ds_bus_error_name(r->code), "%s", r->message);
	if (e < 0)
		sd_bus_reply_method_errno(r->call, e, NULL);
	r->call = sd_bus_message_unref(r->call);
}

static void fail(struct ds_bus_request *r, const char *code, const char *message)
{
	snprintf(r->code, sizeof(r->code), "%s", code);
	snprintf(r->message, sizeof(r->message), "%s", message);
	if (strlen(message) >= sizeof(r->message)) /* it may be cut within a character, and then is no text */
		for (char *p = r->message; *p; p++)
			*p = (*p & 0x80) ? '?' : *p;
	r->outcome = strcmp(code, "cancelled") ? "failed" : "cancelled";
	end(r);
}

static void take_failure(struct ds_bus_request *r, const struct ds_request_event *event)
{
	json_t *json = json_loadb((const char *)event->data, event->size, 0, NULL);
	const char *code = json_string_value(json_object_get(json, "code"));
	const char *message = json_string_value(json_object_get(json, "message"));

	fail(r, code ? code : "internal", message ? message : "the engine does not say why");
	json_decref(json);
}

static void take_done(struct ds_bus_request *r, const struct ds_request_event *event)
{
	struct ds_done done;

	memcpy(&done, event->data, sizeof(done));
	r->usage = done.usage;
	r->outcome = done.finish == DS_FINISH_LENGTH       ? "length"
		     : done.finish == DS_FINISH_TOOL_CALLS ? "tool_calls"
							   : "stop";
	end(r);
}

static void take_text(struct ds_bus_request *r, const struct ds_request_event *event)
{
	int e = r->stream ? ds_bus_stream_put(r->stream, event) : ds_bus_whole_put(r->whole, event);

	r->usage.completion_tokens++; /* about: DONE says exactly */
	become(r, DS_BUS_RUNNING);
	if (e == -EILSEQ) /* nothing more of this answer is believed */
		fail(r, "internal", "the engine wrote what is not valid UTF-8");
	else if (e == -EFBIG)
		fail(r, "too_long", "the answer is too long for a reply; use Generate");
	else if (e < 0)
		fail(r, "internal", "no memory");
}

static void take(struct ds_bus_request *r, const struct ds_request_event *event)
{
	switch (event->type) {
	case DS_EVENT_STARTED:
		memcpy(&r->usage, event->data, sizeof(r->usage));
		become(r, DS_BUS_PREFILL);
		break;
	case DS_EVENT_REASONING:
	case DS_EVENT_CONTENT:
	case DS_EVENT_TOOL_NAME:
	case DS_EVENT_TOOL_ARGUMENTS:
		take_text(r, event);
		break;
	case DS_EVENT_DONE:
		take_done(r, event);
		break;
	case DS_EVENT_FAILED:
		take_failure(r, event);
		break;
	default:
		break;
	}
}

static void pump(void *arg)
{
	struct ds_bus_request *r = arg;
	struct ds_request_event event;

	while (!r->outcome && !(r->stream && ds_bus_stream_is_full(r->stream)) &&
	       ds_request_next(r->request, &event) > 0)
		take(r, &event);
	if (r->outcome && !(r->stream && !ds_bus_stream_is_empty(r->stream)))
		retire(r);
	else
		ds_bus_flush(r->bus);
}

void ds_bus_request_cancel(struct ds_bus_request *r)
{
	r->stream = ds_bus_stream_free(r->stream);
	if (!r->outcome)
		fail(r, "cancelled", "the request was cancelled");
	retire(r);
}

static void on_gone(void *arg)
{
	ds_bus_request_cancel(arg);
}

static const struct ds_bus_stream_events stream_events = {.on_room = pump, .on_gone = on_gone};

/* What was refused before anything else happened is an error of the call, not an answer. */
static bool was_refused(struct ds_bus_request *r)
{
	struct ds_request_event event;

	if (ds_request_next(r->request, &event) > 0)
		take(r, &event);
	return r->outcome;
}

/* Admitted: the client gets its objects. */
static void answer(struct ds_bus_request *r, int reader)
{
	r->is_announced = true;
	ds_bus_object_added(r);
	if (!r->stream)
		return;
	sd_bus_reply_method_return(r->call, "oh", r->path, reader);
	r->call = sd_bus_message_unref(r->call);
}

static void submit(void *arg, char *text, size_t text_size)
{
	struct ds_bus_request *r = arg;
	struct ds_daemon *daemon = r->bus->spec.daemon;
	struct ds_request_spec spec = {.subject = r->owner,
				       .name = r->path + strlen(DS_BUS_REQUEST_PATH "/"),
				       .model = r->model,
				       .type = DS_MSG_GENERATE,
				       .body = text,
				       .body_size = text_size,
				       .on_events = pump,
				       .arg = r};
	ds_cleanup(ds_closep) int reader = -1;
	int e = text ? 0 : -ENOMEM;

	if (e == 0 && r->wish.is_whole)
		e = (r->whole = ds_bus_whole_new()) ? 0 : -ENOMEM;
	else if (e == 0)
		e = ds_bus_stream_new(&r->stream, daemon, r->wish.json, &reader, &stream_events, r);
	if (e < 0)
		free(text);
	else
		e = ds_request_new(&r->request, daemon->requests, &spec);
	if (e < 0)
		fail(r, "internal", strerror(-e));
	if (r->outcome || was_refused(r)) {
		retire(r);
		return;
	}
	answer(r, reader);
	pump(r);
}

/* A list in the JSON that was read, or NULL with @r answered. */
static json_t *take_list(struct ds_bus_request *r, json_t *json, const char *name)
{
	char message[64];
	json_t *list = json_object_get(json, name);

	if (json_is_array(list))
		return json_incref(list);
	snprintf(message, sizeof(message), "option %s: must be a list in JSON", name);
	fail(r, "invalid_request", message);
	return NULL;
}

static int add_turn(json_t *messages, size_t at, const char *role, const char *content)
{
	return json_array_insert_new(messages, at, json_pack("{s:s, s:s}", "role", role, "content", content));
}

/* @json has what the options messages and tools said; NULL: neither was given. -EINVAL: @r has failed. */
static int compose(struct ds_bus_request *r, json_t *json)
{
	const struct ds_bus_wish *wish = &r->wish;
	json_t *messages, *tools;

	if (wish->raw)
		return json_object_set_new(wish->generate, "prompt", json_string(wish->input));
	messages = wish->messages ? take_list(r, json, "messages") : json_array();
	if (!messages)
		return -EINVAL;
	json_object_set_new(wish->generate, "messages", messages);
	if (wish->system)
		add_turn(messages, 0, "system", wish->system);
	if (*wish->input)
		add_turn(messages, json_array_size(messages), "user", wish->input);
	tools = wish->tools ? take_list(r, json, "tools") : NULL;
	if (wish->tools && !tools)
		return -EINVAL;
	if (tools)
		json_object_set_new(wish->generate, "tools", tools);
	return 0;
}

/* Write what the engine is to get. */
static void proceed(struct ds_bus_request *r, json_t *json)
{
	size_t size = strlen(r->wish.input) + (r->wish.messages ? strlen(r->wish.messages) : 0) +
		      (r->wish.tools ? strlen(r->wish.tools) : 0);
	int e = compose(r, json);

	json_decref(json);
	if (e < 0 && !r->outcome)
		fail(r, "internal", "no memory");
	if (e < 0) {
		retire(r);
		return;
	}
	ds_access_limit_tokens(r->bus->spec.daemon, r->owner, r->wish.generate);
	json_object_set_new(r->wish.generate, "owner", json_string(r->owner->owner));
	ds_body_write(&r->work, r->bus->spec.daemon->jobs, ds_steal(&r->wish.generate), size, 0, submit, r);
}

static void on_read(void *arg, json_t *json, int problem, const struct ds_error *err)
{
	struct ds_bus_request *r = arg;
	size_t n_wanted = (r->wish.messages != NULL) + (r->wish.tools != NULL);

	/* Texts that make more than the keys they are the values of are no JSON. */
	if (json && json_object_size(json) == n_wanted) {
		proceed(r, json);
		return;
	}
	json_decref(json);
	fail(r, problem == -E2BIG ? "too_long" : "invalid_request",
	     json || problem != -E2BIG ? "options messages and tools: not valid JSON" : err->text);
	retire(r);
}

static void add_text(struct ds_bus_request *r, const char *name, const char *text)
{
	if (text)
		evbuffer_add_printf(r->texts, "%s\"%s\": ", evbuffer_get_length(r->texts) ? ", " : "{", name);
	if (text)
		evbuffer_add(r->texts, text, strlen(text));
}

static int begin(struct ds_bus_request *r)
{
	if (!r->wish.messages && !r->wish.tools) {
		proceed(r, NULL);
		return 1;
	}
	r->texts = evbuffer_new();
	if (!r->texts)
		return -ENOMEM;
	add_text(r, "messages", r->wish.messages);
	add_text(r, "tools", r->wish.tools);
	evbuffer_add(r->texts, "}", 1);
	ds_body_read(&r->work, r->bus->spec.daemon->jobs, r->texts, on_read, r);
	return 1;
}

/* A client can know it before it calls. A name that it leaves to us is random: a number that rises would tell how many
 * requests others make. */
static int make_path(char *path, size_t size, const char *sender, const char *token)
{
	char folder[128], own[32];
	uint64_t random = 0;

	if (!token && getrandom(&random, sizeof(random), 0) < 0)
		return -errno;
	ds_bus_object_folder(folder, sizeof(folder), sender);
	snprintf(own, sizeof(own), "r%016llx", (unsigned long long)random);
	snprintf(path, size, DS_BUS_REQUEST_PATH "/%s/%s", folder, token ? token : own);
	return 0;
}

static struct ds_bus_request *find(const struct ds_bus *bus, const char *path)
{
	struct ds_bus_request *r = bus->requests;

	while (r && strcmp(r->path, path))
		r = r->next;
	return r;
}

/* Takes over the payload of @wish. */
static int new_request(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *owner, struct ds_model *model,
		       struct ds_bus_wish *wish)
{
	char path[256];
	struct ds_bus_request *r;
	int e = make_path(path, sizeof(path), owner->bus_name, wish->token);

	if (e < 0)
		return e;
	if (find(bus, path))
		return ds_bus_refuse(m, DS_BUS_HANDLE_IN_USE, "option handle_token: %s is already a request", path);
	r = calloc(1, sizeof(*r) + strlen(path) + 1);
	if (!r)
		return -ENOMEM;
	r->bus = bus;
	r->owner = ds_subject_ref(owner);
	r->model = ds_model_ref(model);
	r->call = sd_bus_message_ref(m);
	r->wish = *wish;
	wish->generate = NULL;
	strcpy(r->path, path);
	r->next = bus->requests;
	bus->requests = r;
	return begin(r);
}

int ds_bus_request_call(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *owner, bool is_whole)
{
	struct ds_bus_wish wish = {.is_whole = is_whole};
	struct ds_model *model;
	const char *name;
	int e = sd_bus_message_read(m, "s", &name);

	if (e < 0)
		return e;
	model = ds_access_find_model(bus->spec.daemon, owner, name);
	if (!model)
		return ds_bus_refuse(m, DS_BUS_NO_SUCH_MODEL, "there is no model \"%.200s\"", name);
	e = ds_bus_options_read(bus->spec.daemon, m, &wish);
	if (e == 0)
		e = new_request(bus, m, owner, model, &wish);
	json_decref(wish.generate);
	return e;
}

/* Freeing one may end others: begin again each time. */
void ds_bus_requests_end(struct ds_bus *bus, const char *name)
{
	struct ds_bus_request *r;

	do {
		for (r = bus->requests; r && name && strcmp(r->owner->bus_name, name); r = r->next)
			;
		if (r)
			free_request(r);
	} while (r);
}

/* openai.c - what the two routes in OpenAI's shape share. */
#include "openai.h"
#include "../sampling.h"

#include <event2/event.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define KEEP_ALIVE_S 10
#define PIECE_MAX (32u << 10) /* bytes of a stream put together before they are written */
#define STOPS_MAX 16
#define LOGPROBS_GROW 3 /* about how much longer clients get to read them than the engine writes */
/* Bytes of an answer that is gathered, of millions of tokens. An engine that wrote without end would fill the broker's
 * memory, which limits.memory does not count. A tool call takes more than its name. */
#define GATHERED_MAX (64u << 20)
#define TOOL_SIZE 1024

int ds_openai_refuse(struct ds_call *call, const char *param, const char *fmt, ...)
{
	char message[300];
	va_list args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	ds_reply_error(call, 400, "invalid_request", param, "%s: %s", param, message);
	return -EINVAL;
}

static bool is_present(const json_t *value)
{
	return value && !json_is_null(value);
}

static bool is_one(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) == 1;
}

static bool is_empty(const json_t *value)
{
	return json_is_object(value) ? json_object_size(value) == 0
				     : json_is_array(value) && json_array_size(value) == 0;
}

static bool is_false(const json_t *value)
{
	return json_is_false(value);
}

static bool is_empty_text(const json_t *value)
{
	return json_is_string(value) && json_string_length(value) == 0;
}

static bool is_text_only(const json_t *value)
{
	return json_is_array(value) && json_array_size(value) == 1 && json_is_string(json_array_get(value, 0)) &&
	       !strcmp(json_string_value(json_array_get(value, 0)), "text");
}

static bool has_type_text(const json_t *value)
{
	const char *type = json_string_value(json_object_get(value, "type"));

	return type && !strcmp(type, "text");
}

/* Fields that would change the answer if they were heeded, and are not supported; some values mean nothing. */
static const struct {
	const char *name, *why;
	bool (*harmless)(const json_t *value);
} refused[] = {
	{"n", "one answer a request: n must be 1", is_one},
	{"best_of", "one answer a request: best_of must be 1", is_one},
	{"logit_bias", "biases of single tokens are not supported", is_empty},
	{"suffix", "filling in the middle is not supported", is_empty_text},
	{"functions", "functions are given as tools", is_empty},
	{"function_call", "functions are given as tools", NULL},
	{"modalities", "only [\"text\"] is supported", is_text_only},
	{"audio", "audio is not supported", NULL},
	{"web_search_options", "searching the web is not supported", NULL},
	{"response_format", "only {\"type\": \"text\"} is supported", has_type_text},
	{"store", "answers are not stored", is_false},
};

int ds_openai_take_sampling(struct ds_call *call, json_t *to)
{
	json_t *sampling = json_object(), *value;
	struct ds_error err;
	const char *name;

	json_object_set_new(to, "sampling", sampling);
	json_object_foreach (call->body, name, value)
		if (is_present(value) && ds_sampling_take(sampling, call->daemon->catalog, name, value, &err) < 0)
			return ds_openai_refuse(call, name, "%s", err.text);
	return 0;
}

static int take_bool(struct ds_call *call, const json_t *from, const char *name, const char *param, bool *to)
{
	const json_t *value = json_object_get(from, name);

	if (is_present(value) && !json_is_boolean(value))
		return ds_openai_refuse(call, param, "must be true or false");
	*to = json_is_true(value);
	return 0;
}

static int take_stream(struct ds_call *call, struct ds_answer *a)
{
	const json_t *options = json_object_get(call->body, "stream_options");
	int r = take_bool(call, call->body, "stream", "stream", &a->stream);

	if (r < 0 || !is_present(options))
		return r;
	if (!json_is_object(options))
		return ds_openai_refuse(call, "stream_options", "must be an object");
	if (!a->stream)
		return ds_openai_refuse(call, "stream_options", "needs stream: true");
	return take_bool(call, options, "include_usage", "stream_options.include_usage", &a->include_usage);
}

static int take_max_tokens(struct ds_call *call, const char *name, json_t *to)
{
	json_t *value = json_object_get(call->body, name);

	if (!is_present(value))
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > INT32_MAX)
		return ds_openai_refuse(call, name, "must be a whole number from 1 to %d", INT32_MAX);
	json_object_set(to, "max_tokens", value);
	return 0;
}

static int take_stop(struct ds_call *call, json_t *to)
{
	json_t *stop = json_object_get(call->body, "stop"), *list, *item;
	size_t i;

	if (!is_present(stop))
		return 0;
	list = json_is_string(stop) ? json_pack("[O]", stop) : json_incref(stop);
	json_object_set_new(to, "stop", list);
	if (!json_is_array(list) || json_array_size(list) > STOPS_MAX)
		return ds_openai_refuse(call, "stop", "must be text or a list of at most %d texts", STOPS_MAX);
	json_array_foreach (list, i, item)
		if (!json_is_string(item) || json_string_length(item) == 0)
			return ds_openai_refuse(call, "stop", "each stop must be text that is not empty");
	return 0;
}

int ds_openai_take_common(struct ds_call *call, struct ds_answer *a, json_t *to)
{

	for (size_t i = 0; i < DS_ARRAY_SIZE(refused); i++) {
		const json_t *value = json_object_get(call->body, refused[i].name);

		if (is_present(value) && !(refused[i].harmless && refused[i].harmless(value)))
			return ds_openai_refuse(call, refused[i].name, "%s", refused[i].why);
	}
	if (take_stream(call, a) < 0 || take_max_tokens(call, "max_tokens", to) < 0 ||
	    take_max_tokens(call, "max_completion_tokens", to) < 0 || take_stop(call, to) < 0)
		return -EINVAL;
	ds_access_limit_tokens(call->daemon, call->subject, to);
	json_object_set_new(to, "owner", json_string(call->subject->owner));
	return ds_openai_take_sampling(call, to);
}

struct ds_model *ds_openai_model(struct ds_call *call)
{
	json_t *name = json_object_get(call->body, "model");
	struct ds_model *model;

	if (is_present(name) && !json_is_string(name)) {
		ds_openai_refuse(call, "model", "must be text");
		return NULL;
	}
	if (!is_present(name) && !call->daemon->config->default_model[0]) {
		ds_openai_refuse(call, "model", "must be given: there is no default model");
		return NULL;
	}
	model = ds_access_find_model(call->daemon, call->subject, is_present(name) ? json_string_value(name) : "");
	if (!model)
		ds_reply_error(call, 404, "model_not_found", "model", "there is no model \"%.100s\"",
			       is_present(name) ? json_string_value(name) : call->daemon->config->default_model);
	return model;
}

/* The answer */

struct ds_answer *ds_answer_new(struct ds_call *call, const struct ds_openai_wire *wire)
{
	struct ds_answer *a = calloc(1, sizeof(*a));
	uint64_t random = 0;

	if (!a || getrandom(&random, sizeof(random), 0) < 0) {
		free(a);
		return NULL;
	}
	a->call = call;
	a->wire = wire;
	a->created = time(NULL);
	a->content = evbuffer_new();
	a->reasoning = evbuffer_new();
	a->arguments = evbuffer_new();
	snprintf(a->id, sizeof(a->id), "%s-%016llx", wire->id_prefix, (unsigned long long)random);
	return a->content && a->reasoning && a->arguments ? a : ds_answer_free(a);
}

struct ds_answer *ds_answer_free(struct ds_answer *a)
{
	if (!a)
		return NULL;
	ds_request_free(a->request);
	ds_model_unref(a->model);
	if (a->keep_alive)
		event_free(a->keep_alive);
	if (a->content)
		evbuffer_free(a->content);
	if (a->reasoning)
		evbuffer_free(a->reasoning);
	if (a->arguments)
		evbuffer_free(a->arguments);
	json_decref(a->tool_calls);
	json_decref(a->token_logprobs);
	json_decref(a->reasoning_logprobs);
	json_decref(a->pending_logprobs);
	free(a);
	return NULL;
}

json_t *ds_answer_take_logprobs(struct ds_answer *a)
{
	return a->token_logprobs ? ds_steal(&a->token_logprobs) : json_null();
}

json_t *ds_answer_text(struct evbuffer *text)
{
	size_t size = evbuffer_get_length(text);
	const char *data = size ? (const char *)evbuffer_pullup(text, -1) : "";

	return data ? json_stringn(data, size) : NULL;
}

static json_t *usage_object(const struct ds_usage *u)
{
	json_int_t hit = u->cached_tokens <= u->prompt_tokens ? u->cached_tokens : u->prompt_tokens;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:I}, s:{s:I}}", "prompt_tokens", (json_int_t)u->prompt_tokens,
			 "completion_tokens", (json_int_t)u->completion_tokens, "total_tokens",
			 (json_int_t)u->prompt_tokens + u->completion_tokens, "prompt_cache_hit_tokens", hit,
			 "prompt_cache_miss_tokens", u->prompt_tokens - hit, "prompt_tokens_details", "cached_tokens",
			 hit, "completion_tokens_details", "reasoning_tokens", (json_int_t)u->reasoning_tokens);
}

/* Takes over @choices; NULL if that is. */
static json_t *envelope(const struct ds_answer *a, const char *object, json_t *choices)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", a->id, "object", object, "created", a->created,
			 "model", ds_model_get_config(a->model)->name, "system_fingerprint",
			 "deepseekd-" PACKAGE_VERSION, "choices", choices);
}

/* One object of the stream, into @out. */
static int add_object(const struct ds_answer *a, struct evbuffer *out, json_t *choice, json_t *usage)
{
	char object[48];
	json_t *json;

	/* chat.completion.chunk, but text_completion in both */
	snprintf(object, sizeof(object), "%s%s", a->wire->object, a->wire->first ? ".chunk" : "");
	json = envelope(a, object, choice ? json_pack("[o]", choice) : json_array());
	if (a->include_usage)
		json_object_set_new(json, "usage", usage ? usage : json_null());
	return ds_reply_add_sse(out, json);
}

static void begin_stream(struct ds_answer *a)
{
	if (!a->begun)
		ds_reply_begin(a->call, "text/event-stream");
	a->begun = true;
}

static const char *finish_name(uint32_t finish)
{
	return finish == DS_FINISH_LENGTH ? "length" : finish == DS_FINISH_TOOL_CALLS ? "tool_calls" : "stop";
}

/* The engine wrote what is no text: end the answer without believing more of it. */
static void add_nonsense(struct evbuffer *out)
{
	ds_reply_add_sse(out, json_pack("{s:{s:s, s:s, s:n, s:s}}", "error", "message",
					"the engine wrote what is not valid UTF-8", "type", "server_error", "param",
					"code", "internal"));
}

/* Turn one event into objects in @out. 1: the stream is over. */
static int stream_event(struct ds_answer *a, const struct ds_request_event *event, struct evbuffer *out)
{
	struct ds_done done;
	int status, r = 0;

	switch (event->type) {
	case DS_EVENT_STARTED:
		if (a->wire->first)
			r = add_object(a, out, a->wire->first(a), NULL);
		break;
	case DS_EVENT_LOGPROBS:
		json_decref(a->token_logprobs);
		a->token_logprobs = json_loadb((const char *)event->data, event->size, JSON_ALLOW_NUL, NULL);
		return 0;
	case DS_EVENT_FAILED:
		ds_reply_add_sse(out, ds_reply_failure(event->data, event->size, &status));
		return 1;
	case DS_EVENT_DONE:
		memcpy(&done, event->data, sizeof(done));
		r = add_object(a, out, a->wire->last(a, finish_name(done.finish)), NULL);
		if (r == 0 && a->include_usage)
			r = add_object(a, out, NULL, usage_object(&done.usage));
		if (r == 0)
			evbuffer_add(out, "data: [DONE]\n\n", 14);
		r = r < 0 ? r : 1;
		break;
	default: {
		json_t *choice = a->wire->delta(a, event);

		r = choice ? add_object(a, out, choice, NULL) : -EILSEQ;
	}
	}
	if (r < 0)
		add_nonsense(out);
	return r != 0;
}

/* Everything that has come, in one write. */
static void pump_stream(struct ds_answer *a)
{
	struct ds_call *call = a->call;
	struct ds_request_event event;
	struct evbuffer *out = evbuffer_new();
	bool over = false;

	while (out && !over && evbuffer_get_length(out) < PIECE_MAX && !ds_reply_is_full(call) &&
	       ds_request_next(a->request, &event) > 0) {
		if (!a->begun && event.type == DS_EVENT_FAILED) {
			ds_reply_failed(call, event.data, event.size);
			evbuffer_free(out);
			ds_answer_free(a);
			return;
		}
		begin_stream(a);
		over = stream_event(a, &event, out);
	}
	if (out && evbuffer_get_length(out) > 0)
		ds_reply_write(call, out);
	if (out)
		evbuffer_free(out);
	if (over) {
		ds_reply_end(call);
		ds_answer_free(a);
	}
}

/* Gathering */

void ds_answer_end_tool(struct ds_answer *a)
{
	json_t *call = json_array_get(a->tool_calls, json_array_size(a->tool_calls) - 1);
	json_t *arguments = call ? ds_answer_text(a->arguments) : NULL;

	if (arguments)
		json_object_set_new(json_object_get(call, "function"), "arguments", arguments);
	evbuffer_drain(a->arguments, evbuffer_get_length(a->arguments));
}

static int gather_tool(struct ds_answer *a, const struct ds_request_event *event)
{
	json_t *name;
	char id[64];

	if (event->type == DS_EVENT_TOOL_ARGUMENTS)
		return a->tool_calls ? evbuffer_add(a->arguments, event->data, event->size) : -EPROTO;
	name = json_stringn((const char *)event->data, event->size);
	if (!name)
		return -EILSEQ;
	ds_answer_end_tool(a);
	if (!a->tool_calls)
		a->tool_calls = json_array();
	snprintf(id, sizeof(id), "call_%s_%zu", strchr(a->id, '-') + 1, a->n_tool_calls++);
	return json_array_append_new(a->tool_calls, json_pack("{s:s, s:s, s:{s:o, s:s}}", "id", id, "type", "function",
							      "function", "name", name, "arguments", ""));
}

/* In the shape of the answer, so that its end is not much work at once. */
static void gather_logprobs(struct ds_answer *a, json_t **to)
{
	if (a->pending_logprobs)
		a->wire->gather(a, to, ds_steal(&a->pending_logprobs));
}

static int gather(struct ds_answer *a, const struct ds_request_event *event)
{
	json_t **pending = &a->pending_logprobs;

	a->call->answer_size += event->size + (event->type == DS_EVENT_TOOL_NAME ? TOOL_SIZE : 0);
	if (a->call->answer_size > GATHERED_MAX)
		return -EFBIG;
	switch (event->type) {
	case DS_EVENT_LOGPROBS:
		json_decref(*pending);
		*pending = json_loadb((const char *)event->data, event->size, JSON_ALLOW_NUL, NULL);
		a->size += LOGPROBS_GROW * event->size;
		return json_is_array(*pending) ? 0 : -EPROTO;
	case DS_EVENT_REASONING:
		gather_logprobs(a, &a->reasoning_logprobs);
		return evbuffer_add(a->reasoning, event->data, event->size);
	case DS_EVENT_CONTENT:
		gather_logprobs(a, &a->token_logprobs);
		return evbuffer_add(a->content, event->data, event->size);
	case DS_EVENT_TOOL_NAME:
	case DS_EVENT_TOOL_ARGUMENTS:
		gather_logprobs(a, &a->token_logprobs);
		return gather_tool(a, event);
	default:
		return 0;
	}
}

static void answer_whole(struct ds_answer *a, const struct ds_done *done)
{
	json_t *choice = a->wire->whole(a, finish_name(done->finish));
	json_t *json = choice ? envelope(a, a->wire->object, json_pack("[o]", choice)) : NULL;

	if (!json) {
		ds_reply_error(a->call, 500, "internal", NULL, "the engine wrote what is not valid UTF-8");
		return;
	}
	json_object_set_new(json, "usage", usage_object(&done->usage));
	ds_reply_large_json(a->call, json,
			    a->size + evbuffer_get_length(a->content) + evbuffer_get_length(a->reasoning));
}

static void pump_whole(struct ds_answer *a)
{
	struct ds_request_event event;
	struct ds_done done;
	int r = 0;

	while (ds_request_next(a->request, &event) > 0) {
		if (event.type == DS_EVENT_FAILED) {
			ds_reply_failed(a->call, event.data, event.size);
		} else if (event.type == DS_EVENT_DONE) {
			memcpy(&done, event.data, sizeof(done));
			gather_logprobs(a, &a->token_logprobs);
			answer_whole(a, &done);
		} else if ((r = gather(a, &event)) == 0) {
			continue;
		} else if (r == -EFBIG) {
			ds_reply_error(a->call, 500, "answer_too_long", NULL,
				       "the answer is longer than %u MiB; as a stream it may have any length",
				       GATHERED_MAX >> 20);
		} else {
			ds_reply_error(a->call, 500, "internal", NULL, "the engine's answer makes no sense");
		}
		ds_answer_free(a);
		return;
	}
}

static void pump(void *arg)
{
	struct ds_answer *a = arg;

	if (a->stream)
		pump_stream(a);
	else
		pump_whole(a);
}

static void on_gone(void *arg)
{
	ds_answer_free(arg);
}

/* A stream that waits, in the queue or for a model to load: tell the client that somebody is there. */
static void on_keep_alive(evutil_socket_t fd, short what, void *arg)
{
	struct ds_answer *a = arg;
	struct evbuffer *comment = evbuffer_new();

	begin_stream(a);
	if (comment && !ds_reply_is_full(a->call)) {
		evbuffer_add(comment, ": keep-alive\n\n", 14);
		ds_reply_write(a->call, comment);
	}
	if (comment)
		evbuffer_free(comment);
}

/* The request is written: begin. */
static void run(void *arg, char *body, size_t body_size)
{
	struct ds_answer *a = arg;
	struct ds_call *call = a->call;
	struct ds_request_spec spec = {.subject = call->subject,
				       .name = call->id,
				       .model = a->model,
				       .type = DS_MSG_GENERATE,
				       .body = body,
				       .body_size = body_size,
				       .on_events = pump,
				       .arg = a};

	if (!ds_model_is_registered(a->model)) {
		free(body);
		ds_answer_free(a);
		ds_reply_error(call, 404, "model_not_found", "model", "the model was removed from the configuration");
		return;
	}
	if (!body || ds_request_new(&a->request, call->daemon->requests, &spec) < 0) {
		ds_answer_free(a);
		ds_reply_abort(call);
		return;
	}
	if (a->stream)
		a->keep_alive = event_new(call->daemon->base, -1, EV_PERSIST, on_keep_alive, a);
	if (a->keep_alive)
		event_add(a->keep_alive, &(struct timeval){.tv_sec = KEEP_ALIVE_S});
	call->on_drained = pump;
	pump(a);
}

void ds_openai_run(struct ds_call *call, struct ds_answer *a, struct ds_model *model, json_t *generate)
{
	json_decref(call->body); /* may be large; @generate holds what is needed of it */
	call->body = NULL;
	a->model = ds_model_ref(model);
	call->on_gone = on_gone;
	call->arg = a;
	ds_body_write(&call->work, call->daemon->jobs, generate, call->body_size, 0, run, a);
}

/* admin.c - /admin/v1: the state of the daemon, loading and unloading, and logits as they are. */
#include "reply.h"

#include <string.h>

static json_t *describe(const struct ds_daemon *daemon, struct ds_model *model)
{
	const struct ds_counters *counters = ds_model_counters(model);
	size_t n_running, n_waiting;
	json_t *json;

	ds_requests_count(daemon->requests, model, &n_running, &n_waiting);
	json = ds_model_describe(model, n_waiting);
	json_object_set_new(json, "tokens",
			    json_pack("{s:I, s:I, s:I}", "prompt", (json_int_t)counters->prompt_tokens, "cached",
				      (json_int_t)counters->cached_tokens, "completion",
				      (json_int_t)counters->completion_tokens));
	json_object_set_new(json, "engine_deaths", json_integer((json_int_t)counters->engine_deaths));
	return json;
}

void ds_admin_status(struct ds_call *call)
{
	const struct ds_daemon *daemon = call->daemon;
	json_t *models = json_array();
	size_t n_running, n_waiting;

	for (struct ds_model *m = NULL; (m = ds_models_next(daemon->models, m));)
		json_array_append_new(models, describe(daemon, m));
	ds_requests_count(daemon->requests, NULL, &n_running, &n_waiting);
	ds_reply_json(call, 200,
		      json_pack("{s:s, s:i, s:s, s:I, s:s, s:{s:i, s:i}, s:{s:I, s:I}, s:o}", "version", PACKAGE_VERSION, "pid",
				(int)getpid(), "state", ds_daemon_state(daemon), "started_usec",
				(json_int_t)daemon->started_usec, "default_model", daemon->config->default_model,
				"requests", "running", (int)n_running, "queued", (int)n_waiting, "memory", "limit",
				(json_int_t)daemon->config->memory, "held",
				(json_int_t)ds_models_memory_held(daemon->models), "models", models));
}

void ds_admin_plugins(struct ds_call *call)
{
	json_t *catalog = call->daemon->catalog;

	ds_reply_json(call, 200, json_pack("{s:o}", "plugins", catalog ? json_incref(catalog) : json_array()));
}

static struct ds_model *find_model(struct ds_call *call)
{
	struct ds_model *model = ds_models_find(call->daemon->models, call->name);

	if (!model)
		ds_reply_error(call, 404, "model_not_found", "model", "there is no model \"%s\"", call->name);
	return model;
}

/* Loading and unloading: somebody waits for a model to settle. */

struct settling {
	struct ds_call *call;
	struct ds_model *model; /* referenced */
	struct ds_model_wait *wait;
	bool load;
};

static void free_settling(struct settling *s)
{
	ds_model_unref(s->model);
	free(s);
}

static void on_settled(void *arg)
{
	struct settling *s = arg;
	struct ds_call *call = s->call;

	if (!s->load || ds_model_get_state(s->model) == DS_MODEL_READY)
		ds_reply_json(call, 200, describe(call->daemon, s->model));
	else if (ds_model_get_state(s->model) == DS_MODEL_FAILED)
		ds_reply_error(call, 503, ds_model_get_failure(s->model), NULL, "the model cannot be loaded: %s",
			       ds_model_get_reason(s->model));
	else
		ds_reply_error(call, 409, "cancelled", NULL, "the model was unloaded while it was loading");
	free_settling(s);
}

static void on_settler_gone(void *arg)
{
	struct settling *s = arg;

	ds_model_unwait(s->model, s->wait);
	free_settling(s);
}

/* Answer when @model has settled; at once if it has. */
static void settle(struct ds_call *call, struct ds_model *model, bool load)
{
	struct settling *s = calloc(1, sizeof(*s));
	enum ds_model_state state = ds_model_get_state(model);

	if (!s) {
		ds_reply_abort(call);
		return;
	}
	*s = (struct settling){.call = call, .model = ds_model_ref(model), .load = load};
	if (state != DS_MODEL_LOADING && state != DS_MODEL_UNLOADING) {
		on_settled(s);
		return;
	}
	s->wait = ds_model_wait(model, on_settled, s);
	if (!s->wait) {
		free_settling(s);
		ds_reply_abort(call);
		return;
	}
	call->on_gone = on_settler_gone;
	call->arg = s;
}

void ds_admin_load(struct ds_call *call)
{
	struct ds_model *model = find_model(call);
	json_t *wait;

	/* Refused: the call is gone already. */
	if (!model)
		return;
	wait = json_object_get(call->body, "wait");
	if (wait && !json_is_boolean(wait)) {
		ds_reply_error(call, 400, "invalid_request", "wait", "wait must be true or false");
		return;
	}
	ds_model_load(model, true);
	if (json_is_false(wait))
		ds_reply_json(call, 202, describe(call->daemon, model));
	else
		settle(call, model, true);
}

void ds_admin_unload(struct ds_call *call)
{
	struct ds_model *model = find_model(call);

	if (!model)
		return;
	ds_model_unload(model);
	settle(call, model, false);
}

/* Evaluating: logits go through as they come. */

struct evaluation {
	struct ds_call *call;
	struct ds_request *request;
	struct ds_model *model;  /* referenced */
	uint64_t n_rows, n_left; /* bytes still to come, once it has begun */
	bool begun;
};

static void free_evaluation(void *arg)
{
	struct evaluation *e = arg;

	ds_request_free(e->request);
	ds_model_unref(e->model);
	free(e);
}

static void begin_evaluation(struct evaluation *e)
{
	uint64_t vocab = (uint64_t)ds_model_get_vocab(e->model);
	char number[32];

	e->begun = true;
	e->n_left = e->n_rows * vocab * sizeof(float);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)e->n_rows);
	ds_reply_header(e->call, "Deepseekd-Rows", number);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)vocab);
	ds_reply_header(e->call, "Deepseekd-Vocab", number);
	ds_reply_begin(e->call, "application/octet-stream");
}

static void end_evaluation(struct evaluation *e, const struct ds_request_event *event)
{
	struct ds_call *call = e->call;

	if (event->type == DS_EVENT_FAILED && !e->begun)
		ds_reply_failed(call, event->data, event->size);
	else if (event->type == DS_EVENT_FAILED || e->n_left > 0)
		ds_reply_abort(call);
	else
		ds_reply_end(call);
	free_evaluation(e);
}

/* Pass on what there is. True: it is over. */
static bool pass_events(struct evaluation *e, struct evbuffer *out)
{
	struct ds_request_event event;

	while (!ds_reply_is_full(e->call) && evbuffer_get_length(out) < (64u << 10) &&
	       ds_request_next(e->request, &event) > 0) {
		bool over = event.type == DS_EVENT_DONE || event.type == DS_EVENT_FAILED;

		if (!e->begun && event.type != DS_EVENT_FAILED)
			begin_evaluation(e);
		if (event.type == DS_EVENT_LOGITS) {
			evbuffer_add(out, event.data, event.size);
			e->n_left -= event.size < e->n_left ? event.size : e->n_left;
		}
		if (over && evbuffer_get_length(out) > 0)
			ds_reply_write(e->call, out);
		if (over) {
			end_evaluation(e, &event);
			return true;
		}
	}
	return false;
}

static void pump_evaluation(void *arg)
{
	struct evaluation *e = arg;
	struct evbuffer *out = evbuffer_new();

	if (!out) {
		ds_reply_abort(e->call);
		free_evaluation(e);
	} else if (!pass_events(e, out) && evbuffer_get_length(out) > 0) {
		ds_reply_write(e->call, out);
	}
	if (out)
		evbuffer_free(out);
}

/* A list of numbers from @min to @max. */
static bool is_numbers(const json_t *list, json_int_t min, json_int_t max)
{
	const json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		if (!json_is_integer(item) || json_integer_value(item) < min || json_integer_value(item) > max)
			return false;
	return json_is_array(list);
}

/* The payload of EVALUATE and how many rows it will give. NULL: refused, and answered. */
static json_t *check_evaluation(struct ds_call *call, uint64_t *n_rows)
{
	json_t *tokens = json_object_get(call->body, "tokens"), *chunks = json_object_get(call->body, "chunks");
	json_t *greedy = json_object_get(call->body, "greedy"), *mtp = json_object_get(call->body, "mtp");
	const char *bad = NULL, *rule = NULL;

	if (!is_numbers(tokens, 0, UINT32_MAX) || json_array_size(tokens) == 0)
		bad = "tokens", rule = "a list of at least one token id";
	else if (chunks && !is_numbers(chunks, 1, INT32_MAX))
		bad = "chunks", rule = "a list of sizes of 1 and more";
	else if (greedy &&
		 (!json_is_integer(greedy) || json_integer_value(greedy) < 0 || json_integer_value(greedy) > (1 << 20)))
		bad = "greedy", rule = "a whole number from 0 to 1048576";
	else if (mtp && !json_is_boolean(mtp))
		bad = "mtp", rule = "true or false";
	if (bad) {
		ds_reply_error(call, 400, "invalid_request", bad, "%s must be %s", bad, rule);
		return NULL;
	}
	*n_rows = json_array_size(tokens);
	if (json_is_true(mtp))
		*n_rows -= 1;
	else if (json_integer_value(greedy) > 1)
		*n_rows += (uint64_t)json_integer_value(greedy) - 1;
	return json_pack("{s:O, s:o, s:I, s:b}", "tokens", tokens, "chunks",
			 chunks ? json_incref(chunks) : json_array(), "greedy", json_integer_value(greedy), "mtp",
			 json_is_true(mtp));
}

/* The request is written: begin. */
static void run_evaluation(void *arg, char *body, size_t body_size)
{
	struct evaluation *e = arg;
	struct ds_call *call = e->call;
	struct ds_request_spec spec = {.subject = call->subject,
				       .name = call->id,
				       .model = e->model,
				       .type = DS_MSG_EVALUATE,
				       .body = body,
				       .body_size = body_size,
				       .on_events = pump_evaluation,
				       .arg = e};

	if (!ds_model_is_registered(e->model)) {
		free(body);
		free_evaluation(e);
		ds_reply_error(call, 404, "model_not_found", "model", "the model was removed from the configuration");
		return;
	}
	if (!body || ds_request_new(&e->request, call->daemon->requests, &spec) < 0) {
		free_evaluation(e);
		ds_reply_abort(call);
		return;
	}
	call->on_drained = pump_evaluation;
	pump_evaluation(e);
}

void ds_admin_evaluate(struct ds_call *call)
{
	struct ds_model *model = find_model(call);
	struct evaluation *e;
	uint64_t n_rows = 0;
	json_t *json;

	json = model ? check_evaluation(call, &n_rows) : NULL;
	if (!json)
		return;
	e = calloc(1, sizeof(*e));
	if (!e) {
		json_decref(json);
		ds_reply_abort(call);
		return;
	}
	*e = (struct evaluation){.call = call, .model = ds_model_ref(model), .n_rows = n_rows};
	call->on_gone = free_evaluation;
	call->arg = e;
	json_decref(call->body);
	call->body = NULL;
	ds_body_write(&call->work, call->daemon->jobs, json, call->body_size, 0, run_evaluation, e);
}

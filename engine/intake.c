/* intake.c - requests to sequences.
 *
 * Everything in a request that a client may have written is checked here, and the answer names the parameter. */
#include "intake.h"
#include "answer.h"
#include "chain.h"
#include "compute.h"
#include "engine.h"
#include "prompt.h"
#include "render.h"
#include "sequence.h"
#include "tokenize.h"

#include <pthread.h>
#include <string.h>

#define MAX_STOPS 16
#define MAX_STOP_SIZE 1024
#define MAX_LOGPROBS 20

struct request {
	struct request *next;
	struct ds_message message;
	struct ds_outlet *outlet;
};

struct ds_intake {
	const struct ds_engine *engine;
	struct ds_outbox *outbox;
	struct ds_compute *compute;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct request *first, **end;
	bool quit;
};

/* ---- GENERATE ---- */

struct generation {
	struct ds_prompt prompt;
	struct ds_answer_options answer;
	const char *stops[MAX_STOPS];
	bool echo;
	uint32_t max_tokens; /* prompt and answer */
};

static int read_stops(struct generation *g, const json_t *stop, struct ds_failure *failure)
{
	size_t n = json_is_array(stop) ? json_array_size(stop) : 1;

	if (!stop || json_is_null(stop))
		return 0;
	if (n > MAX_STOPS)
		return ds_refuse(failure, DS_INVALID_REQUEST, "stop", "stop has %zu texts (allowed: up to %d)", n, MAX_STOPS);
	for (size_t i = 0; i < n; i++) {
		const json_t *text = json_is_array(stop) ? json_array_get(stop, i) : stop;

		if (!json_is_string(text) || json_string_length(text) == 0 || json_string_length(text) > MAX_STOP_SIZE)
			return ds_refuse(failure, DS_INVALID_REQUEST, "stop",
					 "stop must be a text of 1 to %d bytes, or a list of such texts", MAX_STOP_SIZE);
		g->stops[i] = json_string_value(text);
	}
	g->answer.stops = g->stops;
	g->answer.n_stops = n;
	return 0;
}

static int read_prompt(struct generation *g, const struct ds_engine *engine, const json_t *json,
		       struct ds_failure *failure)
{
	const json_t *messages = json_object_get(json, "messages"), *prompt = json_object_get(json, "prompt");
	int r;

	if (messages && prompt)
		return ds_refuse(failure, DS_INVALID_REQUEST, "prompt", "a request has messages or a prompt, not both");
	g->answer.chat = messages;
	if (messages)
		r = ds_prompt_from_messages(&g->prompt, engine, messages, json_object_get(json, "tools"),
					    json_object_get(json, "thinking"), failure);
	else if (json_is_string(prompt))
		r = ds_prompt_from_text(&g->prompt, engine, json_string_value(prompt), json_string_length(prompt), failure);
	else if (json_is_array(prompt))
		r = ds_prompt_from_ids(&g->prompt, engine, prompt, "prompt", failure);
	else
		return ds_refuse(failure, DS_INVALID_REQUEST, "prompt", "prompt must be a text or a list of token ids");
	if (r == 0 && g->prompt.n == 0)
		r = ds_refuse(failure, DS_INVALID_REQUEST, messages ? "messages" : "prompt", "the prompt is empty");
	g->answer.thinking = g->prompt.thinking;
	return r;
}

/* A prompt leaves room for at least one token of the answer. */
static int check_context(const struct ds_engine *engine, size_t n, uint32_t n_more, struct ds_failure *failure)
{
	if (n + n_more <= engine->context)
		return 0;
	return ds_refuse_prompt(failure, "", n, engine->context);
}

static int read_limits(struct generation *g, const struct ds_engine *engine, const json_t *json,
		       struct ds_failure *failure)
{
	const json_t *max_tokens = json_object_get(json, "max_tokens"), *logprobs = json_object_get(json, "logprobs");
	json_int_t n = json_integer_value(max_tokens), least;

	g->echo = json_is_true(json_object_get(json, "echo"));
	least = g->echo ? 0 : 1;
	g->answer.n_logprobs = -1;
	if (logprobs && !json_is_null(logprobs)) {
		if (!json_is_integer(logprobs) || json_integer_value(logprobs) < 0 ||
		    json_integer_value(logprobs) > MAX_LOGPROBS)
			return ds_refuse(failure, DS_INVALID_REQUEST, "logprobs",
					 "logprobs must be a whole number from 0 to %d", MAX_LOGPROBS);
		g->answer.n_logprobs = (int)json_integer_value(logprobs);
	}
	g->max_tokens = engine->context;
	if (max_tokens && !json_is_null(max_tokens)) {
		if (!json_is_integer(max_tokens) || n < least)
			return ds_refuse(failure, DS_INVALID_REQUEST, "max_tokens",
					 "max_tokens must be a whole number of at least %d", (int)least);
		if (n < (json_int_t)(engine->context - g->prompt.n))
			g->max_tokens = (uint32_t)(g->prompt.n + (uint64_t)n);
	}
	return 0;
}

static int make_generation(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			   struct generation *g, struct ds_sequence **out, struct ds_failure *failure)
{
	ds_cleanup(ds_sequence_freep) struct ds_sequence *s = NULL;
	const char *owner = json_string_value(json_object_get(json, "owner"));
	int r = read_prompt(g, engine, json, failure);

	if (r == 0)
		r = check_context(engine, g->prompt.n, 1, failure);
	if (r == 0)
		r = read_limits(g, engine, json, failure);
	if (r == 0)
		r = read_stops(g, json_object_get(json, "stop"), failure);
	if (r == 0 && !engine->tokenizer_ops && (g->answer.n_stops > 0 || g->echo))
		r = ds_refuse(failure, DS_NO_TOKENIZER, NULL, "the model has no tokenizer: it knows no texts");
	if (r == 0)
		r = ds_sequence_new(&s, engine, outlet, ds_steal(&g->prompt.tokens), (uint32_t)g->prompt.n, g->max_tokens,
				    owner ? owner : "", failure);
	if (r == 0)
		r = ds_chain_new(&s->chain, engine, json_object_get(json, "sampling"), failure);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->n_prompt; i++)
		ds_chain_accept(s->chain, s->tokens[i]);
	if (ds_answer_new(&s->answer, engine, outlet, &g->answer, &failure->error) < 0)
		return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for the answer");
	s->echo = g->echo;
	s->echo_logprobs = g->echo && g->answer.n_logprobs >= 0;
	*out = ds_steal(&s);
	return 0;
}

static int read_generate(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			 struct ds_sequence **out, struct ds_failure *failure)
{
	struct generation g = {0};
	int r = make_generation(engine, outlet, json, &g, out, failure);

	ds_prompt_deinit(&g.prompt);
	return r;
}

/* ---- EVALUATE ---- */

static int read_chunks(struct ds_sequence *s, const json_t *chunks, struct ds_failure *failure)
{
	size_t n = json_array_size(chunks);

	if (!chunks || json_is_null(chunks) || (json_is_array(chunks) && n == 0))
		return 0;
	if (!json_is_array(chunks) || n > UINT16_MAX)
		return ds_refuse(failure, DS_INVALID_REQUEST, "chunks", "chunks must be a list of sizes");
	s->chunks = calloc(n, sizeof(*s->chunks));
	if (!s->chunks)
		return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for %zu chunks", n);
	for (size_t i = 0; i < n; i++) {
		const json_t *chunk = json_array_get(chunks, i);

		if (!json_is_integer(chunk) || json_integer_value(chunk) < 1 || json_integer_value(chunk) > UINT32_MAX)
			return ds_refuse(failure, DS_INVALID_REQUEST, "chunks", "chunks[%zu] is not a size of at least 1", i);
		s->chunks[i] = (uint32_t)json_integer_value(chunk);
	}
	s->n_chunks = (uint32_t)n;
	return 0;
}

static int make_evaluation(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			   struct ds_prompt *prompt, struct ds_sequence **out, struct ds_failure *failure)
{
	ds_cleanup(ds_sequence_freep) struct ds_sequence *s = NULL;
	const json_t *tokens = json_object_get(json, "tokens"), *greedy = json_object_get(json, "greedy");
	json_int_t n_greedy = json_integer_value(greedy);
	bool mtp = json_is_true(json_object_get(json, "mtp"));
	uint32_t n_more;
	int r;

	if (!json_is_array(tokens) || json_array_size(tokens) == 0)
		return ds_refuse(failure, DS_INVALID_REQUEST, "tokens", "tokens must be a list of ids that is not empty");
	if (greedy && !json_is_null(greedy) && (!json_is_integer(greedy) || n_greedy < 0 || n_greedy > UINT32_MAX))
		return ds_refuse(failure, DS_INVALID_REQUEST, "greedy", "greedy must be a whole number of at least 0");
	if (mtp && engine->hparams->n_mtp == 0)
		return ds_refuse(failure, DS_INVALID_REQUEST, "mtp", "the model has no multi-token prediction");
	if (mtp && n_greedy > 1)
		return ds_refuse(failure, DS_INVALID_REQUEST, "greedy", "greedy and mtp exclude each other");
	n_more = n_greedy > 1 ? (uint32_t)(n_greedy - 1) : 0;
	r = ds_prompt_from_ids(prompt, engine, tokens, "tokens", failure);
	if (r == 0)
		r = check_context(engine, prompt->n, n_more, failure);
	if (r == 0)
		r = ds_sequence_new(&s, engine, outlet, ds_steal(&prompt->tokens), (uint32_t)prompt->n,
				    (uint32_t)prompt->n + n_more, NULL, failure);
	if (r == 0)
		r = read_chunks(s, json_object_get(json, "chunks"), failure);
	if (r < 0)
		return r;
	s->mtp = mtp;
	*out = ds_steal(&s);
	return 0;
}

static int read_evaluate(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			 struct ds_sequence **out, struct ds_failure *failure)
{
	struct ds_prompt prompt = {0};
	int r = make_evaluation(engine, outlet, json, &prompt, out, failure);

	ds_prompt_deinit(&prompt);
	return r;
}

/* ---- TOKENIZE ---- */

/* The answer leaves in pieces, all of it ASCII, so that they may be cut anywhere. */
static int send_answer(struct ds_outlet *outlet, const json_t *answer, struct ds_failure *failure)
{
	static const struct ds_usage none;
	static const struct ds_done done = {.finish = DS_FINISH_STOP};
	ds_cleanup(ds_freep) char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t size = text ? strlen(text) : 0;
	int r = text ? ds_outlet_write(outlet, DS_EVENT_STARTED, &none, sizeof(none)) : -ENOMEM;

	for (size_t at = 0, n; r == 0 && at < size; at += n) {
		n = size - at < DS_EVENT_TEXT_MAX ? size - at : DS_EVENT_TEXT_MAX;
		r = ds_outlet_write(outlet, DS_EVENT_CONTENT, text + at, n);
	}
	if (r == 0)
		r = ds_outlet_write(outlet, DS_EVENT_DONE, &done, sizeof(done));
	return r < 0 ? ds_refuse(failure, DS_INTERNAL, NULL, "no memory for the answer") : 0;
}

static int answer_tokenize(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			   struct ds_failure *failure)
{
	const struct ds_tokenizing t = {
		.ops = engine->tokenizer_ops, .self = engine->tokenizer, .host = ds_plugins_host()};
	struct ds_error error = {""};
	const char *param;
	json_t *answer = NULL;
	int r;

	if (!engine->tokenizer_ops)
		return ds_refuse(failure, DS_NO_TOKENIZER, NULL, "the model has no tokenizer: it takes token ids only");
	r = ds_tokenize(&t, json, &answer, &param, &error);
	if (r < 0)
		return ds_refuse(failure, r == -EINVAL ? DS_INVALID_REQUEST : DS_INTERNAL, param, "%s", error.text);
	r = send_answer(outlet, answer, failure);
	json_decref(answer);
	return r;
}

/* ---- RENDER ---- */

static int answer_render(const struct ds_engine *engine, struct ds_outlet *outlet, const json_t *json,
			 struct ds_failure *failure)
{
	struct ds_error error = {""};
	json_t *answer = NULL;
	int r;

	if (!engine->dialect)
		return ds_refuse(failure, DS_NO_DIALECT, NULL, "the model has no chat format: it completes text only");
	r = ds_render(engine->dialect, json, &answer, &error);
	if (r < 0)
		return ds_refuse_chat(r, &error, failure);
	json_object_set_new(answer, "dialect", json_string(engine->dialect_name));
	r = send_answer(outlet, answer, failure);
	json_decref(answer);
	return r;
}

/* ---- the thread ---- */

static void take_in(struct ds_intake *intake, const struct request *request)
{
	const struct ds_message *m = &request->message;
	struct ds_sequence *s = NULL;
	struct ds_failure failure;
	json_error_t where;
	json_t *json = NULL;
	int r;

	if (ds_outlet_is_cancelled(request->outlet))
		r = ds_refuse(&failure, DS_CANCELLED, NULL, "the request was cancelled");
	else if (!(json = json_loadb((const char *)m->data, m->size, JSON_REJECT_DUPLICATES, &where)))
		r = ds_refuse(&failure, DS_INVALID_REQUEST, NULL, "the request is not JSON: %s", where.text);
	else if (m->type == DS_MSG_GENERATE)
		r = read_generate(intake->engine, request->outlet, json, &s, &failure);
	else if (m->type == DS_MSG_TOKENIZE)
		r = answer_tokenize(intake->engine, request->outlet, json, &failure);
	else if (m->type == DS_MSG_RENDER)
		r = answer_render(intake->engine, request->outlet, json, &failure);
	else
		r = read_evaluate(intake->engine, request->outlet, json, &s, &failure);
	json_decref(json);
	if (r == 0 && s) {
		ds_compute_add(intake->compute, s);
		return;
	}
	if (r < 0)
		ds_failure_send(&failure, request->outlet);
	ds_outbox_notify(intake->outbox);
}

static void request_free(struct request *request)
{
	ds_message_deinit(&request->message);
	free(request);
}

/* The next request, or NULL when it is time to end. */
static struct request *next_request(struct ds_intake *intake)
{
	struct request *request;

	pthread_mutex_lock(&intake->lock);
	while (!intake->first && !intake->quit)
		pthread_cond_wait(&intake->wake, &intake->lock);
	request = intake->quit ? NULL : intake->first;
	if (request) {
		intake->first = request->next;
		if (!intake->first)
			intake->end = &intake->first;
	}
	pthread_mutex_unlock(&intake->lock);
	return request;
}

static void *run(void *self)
{
	struct ds_intake *intake = self;
	struct request *request;

	while ((request = next_request(intake))) {
		take_in(intake, request);
		request_free(request);
	}
	return NULL;
}

int ds_intake_new(struct ds_intake **out, const struct ds_engine *engine, struct ds_outbox *outbox,
		  struct ds_compute *compute, struct ds_error *err)
{
	struct ds_intake *intake = calloc(1, sizeof(*intake));
	int r;

	if (!intake)
		return ds_fail(err, -ENOMEM, "no memory for the intake");
	intake->engine = engine;
	intake->outbox = outbox;
	intake->compute = compute;
	intake->end = &intake->first;
	pthread_mutex_init(&intake->lock, NULL);
	pthread_cond_init(&intake->wake, NULL);
	r = pthread_create(&intake->thread, NULL, run, intake);
	if (r != 0) {
		pthread_cond_destroy(&intake->wake);
		pthread_mutex_destroy(&intake->lock);
		free(intake);
		return ds_fail(err, -r, "no thread for the intake: %s", strerror(r));
	}
	*out = intake;
	return 0;
}

struct ds_intake *ds_intake_free(struct ds_intake *intake)
{
	if (!intake)
		return NULL;
	pthread_mutex_lock(&intake->lock);
	intake->quit = true;
	pthread_cond_signal(&intake->wake);
	pthread_mutex_unlock(&intake->lock);
	pthread_join(intake->thread, NULL);
	while (intake->first) {
		struct request *request = intake->first;

		intake->first = request->next;
		request_free(request);
	}
	pthread_cond_destroy(&intake->wake);
	pthread_mutex_destroy(&intake->lock);
	free(intake);
	return NULL;
}

int ds_intake_add(struct ds_intake *intake, struct ds_message *m, struct ds_outlet *outlet)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request) {
		struct ds_failure failure;

		ds_refuse(&failure, DS_INTERNAL, NULL, "no memory for a request");
		ds_failure_send(&failure, outlet);
		ds_outbox_notify(intake->outbox);
		return -ENOMEM;
	}
	request->message = *m;
	request->outlet = outlet;
	*m = (struct ds_message){0};
	pthread_mutex_lock(&intake->lock);
	*intake->end = request;
	intake->end = &request->next;
	pthread_cond_signal(&intake->wake);
	pthread_mutex_unlock(&intake->lock);
	return 0;
}

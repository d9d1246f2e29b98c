/* openai-completions.c - POST /v1/completions: a prompt as text or tokens, its continuation, logprobs as they were. */
#include "openai.h"

#include <string.h>

#define LOGPROBS_MAX 20

/* A string, a list of token ids, or a list of one of those. */
static int take_prompt(struct ds_call *call, json_t *to)
{
	json_t *prompt = json_object_get(call->body, "prompt"), *item;
	size_t i;

	if (json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0))) {
		if (json_array_size(prompt) != 1)
			return ds_openai_refuse(call, "prompt", "one prompt a request");
		prompt = json_array_get(prompt, 0);
	}
	if (!json_is_string(prompt) && !json_is_array(prompt))
		return ds_openai_refuse(call, "prompt", "must be text or a list of token ids");
	if (json_is_array(prompt) && json_array_size(prompt) == 0)
		return ds_openai_refuse(call, "prompt", "must have at least one token");
	json_array_foreach (prompt, i, item)
		if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > UINT32_MAX)
			return ds_openai_refuse(call, "prompt", "token %zu is not a token id", i);
	return json_object_set(to, "prompt", prompt);
}

static int take_rest(struct ds_call *call, struct ds_answer *a, json_t *to)
{
	const json_t *echo = json_object_get(call->body, "echo"), *logprobs = json_object_get(call->body, "logprobs");

	if (echo && !json_is_null(echo) && !json_is_boolean(echo))
		return ds_openai_refuse(call, "echo", "must be true or false");
	json_object_set_new(to, "echo", json_boolean(json_is_true(echo)));
	if (!logprobs || json_is_null(logprobs) || json_is_false(logprobs))
		return 0;
	if (!json_is_integer(logprobs) || json_integer_value(logprobs) < 0 ||
	    json_integer_value(logprobs) > LOGPROBS_MAX)
		return ds_openai_refuse(call, "logprobs", "must be a whole number from 0 to %d", LOGPROBS_MAX);
	a->logprobs = true;
	return json_object_set_new(to, "logprobs", json_integer(json_integer_value(logprobs)));
}

static size_t n_characters(const json_t *text)
{
	const char *p = json_string_value(text);
	size_t n = 0;

	for (size_t i = 0; i < json_string_length(text); i++)
		n += (p[i] & 0xc0) != 0x80;
	return n;
}

/* {"tokens", "token_logprobs", "top_logprobs", "text_offset"} from the engine's list, which is consumed. */
static json_t *legacy_logprobs(struct ds_answer *a, json_t *from)
{
	json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array(), *offsets = json_array();
	const json_t *item, *other;
	size_t i, j;

	json_array_foreach (from, i, item) {
		json_t *token = json_object_get(item, "token"), *top = json_object();

		json_array_append(tokens, token);
		json_array_append(logprobs, json_object_get(item, "logprob"));
		json_array_append_new(offsets, json_integer((json_int_t)a->text_offset));
		a->text_offset += n_characters(token);
		json_array_foreach (json_object_get(item, "top"), j, other) {
			const char *text = json_string_value(json_object_get(other, "token"));

			/* Two tokens may be written alike: the likelier stands first and stays. */
			if (text && !json_object_get(top, text))
				json_object_set(top, text, json_object_get(other, "logprob"));
		}
		if (json_is_null(json_object_get(item, "logprob"))) {
			json_decref(top);
			top = json_null();
		}
		json_array_append_new(tops, top);
	}
	json_decref(from);
	return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logprobs, "top_logprobs", tops,
			 "text_offset", offsets);
}

static void gather(struct ds_answer *a, json_t **to, json_t *from)
{
	json_t *more = legacy_logprobs(a, from), *list;
	const char *key;

	if (!*to)
		*to = json_object();
	json_object_foreach (more, key, list) {
		if (json_object_get(*to, key))
			json_array_extend(json_object_get(*to, key), list);
		else
			json_object_set(*to, key, list);
	}
	json_decref(more);
}

static json_t *choice_of(json_t *text, json_t *logprobs, json_t *finish)
{
	return json_pack("{s:i, s:o, s:o, s:o}", "index", 0, "text", text, "logprobs", logprobs, "finish_reason",
			 finish);
}

static json_t *next_logprobs(struct ds_answer *a)
{
	return a->token_logprobs ? legacy_logprobs(a, ds_answer_take_logprobs(a)) : json_null();
}

static json_t *delta(struct ds_answer *a, const struct ds_request_event *event)
{
	json_t *text = json_stringn((const char *)event->data, event->size);

	return text ? choice_of(text, next_logprobs(a), json_null()) : NULL;
}

static json_t *last(struct ds_answer *a, const char *finish)
{
	return choice_of(json_string(""), next_logprobs(a), json_string(finish));
}

static json_t *whole(struct ds_answer *a, const char *finish)
{
	json_t *text = ds_answer_text(a->content);

	return text ? choice_of(text, ds_answer_take_logprobs(a), json_string(finish)) : NULL;
}

static const struct ds_openai_wire wire = {
	.id_prefix = "cmpl",
	.object = "text_completion",
	.gather = gather,
	.delta = delta,
	.last = last,
	.whole = whole,
};

void ds_openai_completions(struct ds_call *call)
{
	struct ds_model *model = ds_openai_model(call);
	struct ds_answer *a;
	json_t *generate;

	if (!model)
		return;
	a = ds_answer_new(call, &wire);
	if (!a) {
		ds_reply_abort(call);
		return;
	}
	generate = json_object();
	if (take_prompt(call, generate) < 0 || take_rest(call, a, generate) < 0 ||
	    ds_openai_take_common(call, a, generate) < 0) {
		json_decref(generate);
		ds_answer_free(a);
		return;
	}
	ds_openai_run(call, a, model, generate);
}

/* sequence.c - what becomes of the logits of a row: the next token of an answer, or a row of an evaluation. */
#include "sequence.h"
#include "answer.h"
#include "chain.h"
#include "engine.h"

#include <string.h>

int ds_sequence_new(struct ds_sequence **out, const struct ds_engine *engine, struct ds_outlet *outlet,
		    uint32_t *tokens, uint32_t n_tokens, uint32_t max_tokens, const char *owner,
		    struct ds_failure *failure)
{
	ds_cleanup(ds_freep) uint32_t *taken = tokens;
	ds_cleanup(ds_sequence_freep) struct ds_sequence *s = calloc(1, sizeof(*s));
	uint32_t *grown = realloc(taken, ((size_t)max_tokens + 1) * sizeof(*taken));

	if (grown)
		taken = grown;
	if (!s || !grown)
		return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for a text of %u tokens", max_tokens);
	s->engine = engine;
	s->outlet = outlet;
	s->n_prompt = s->n_tokens = n_tokens;
	s->max_tokens = max_tokens;
	s->owner = owner ? strdup(owner) : NULL;
	if ((owner && !s->owner) || ds_page_table_init(&s->pages, max_tokens, s->owner, NULL) < 0)
		return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for a text of %u tokens", max_tokens);
	s->tokens = ds_steal(&taken);
	*out = ds_steal(&s);
	return 0;
}

struct ds_sequence *ds_sequence_free(struct ds_sequence *s)
{
	if (!s)
		return NULL;
	ds_chain_free(s->chain);
	ds_answer_free(s->answer);
	ds_page_table_deinit(&s->pages);
	free(s->tokens);
	free(s->owner);
	free(s->chunks);
	free(s);
	return NULL;
}

static struct ds_usage usage_of(const struct ds_sequence *s)
{
	return (struct ds_usage){
		.prompt_tokens = s->n_prompt,
		.cached_tokens = s->n_cached,
		.completion_tokens = s->n_tokens - s->n_prompt,
		.reasoning_tokens = s->answer ? ds_answer_get_reasoning_tokens(s->answer) : 0,
	};
}

void ds_sequence_fail(struct ds_sequence *s, const struct ds_failure *failure)
{
	if (!s->ended)
		ds_failure_send(failure, s->outlet);
	s->ended = true;
}

static void fail_for_memory(struct ds_sequence *s)
{
	struct ds_failure failure;

	ds_refuse(&failure, DS_INTERNAL, NULL, "no memory for the answer");
	ds_sequence_fail(s, &failure);
}

static void finish(struct ds_sequence *s, enum ds_finish reason)
{
	struct ds_done done = {.finish = reason};

	if (s->answer) {
		ds_answer_finish(s->answer);
		if (reason == DS_FINISH_STOP && ds_answer_has_tool_calls(s->answer))
			done.finish = DS_FINISH_TOOL_CALLS;
	}
	done.usage = usage_of(s);
	if ((s->answer && ds_answer_is_lost(s->answer)) ||
	    ds_outlet_write(s->outlet, DS_EVENT_DONE, &done, sizeof(done)) < 0)
		fail_for_memory(s);
	s->ended = true;
}

static void echo(struct ds_sequence *s, uint32_t index, const float *logits)
{
	if (s->echo_logprobs)
		ds_answer_note_logprobs(s->answer, s->tokens[index], logits);
	ds_answer_echo(s->answer, s->tokens[index]);
	if (index + 1 == s->n_prompt)
		ds_answer_end_echo(s->answer);
}

void ds_sequence_start(struct ds_sequence *s)
{
	struct ds_usage usage = usage_of(s);

	s->started = true;
	if (ds_outlet_write(s->outlet, DS_EVENT_STARTED, &usage, sizeof(usage)) < 0)
		fail_for_memory(s);
	else if (s->echo)
		for (uint32_t i = 0; i < (s->echo_logprobs ? 1 : s->n_prompt); i++)
			echo(s, i, NULL);
	else if (s->mtp && s->n_prompt == 1) /* no token has a next one */
		finish(s, DS_FINISH_LENGTH);
}

uint32_t ds_sequence_wanted_rows(const struct ds_sequence *s, bool *exactly)
{
	uint32_t n = s->n_tokens - s->n_computed;

	*exactly = s->n_chunks > 0;
	if (s->n_chunks > 0 && s->chunks[s->chunk] < n)
		n = s->chunks[s->chunk];
	return n < DS_STEP_PROMPT_ROWS ? n : DS_STEP_PROMPT_ROWS;
}

void ds_sequence_advance(struct ds_sequence *s, uint32_t n)
{
	s->n_computed += n;
	if (s->n_chunks > 0)
		s->chunk = (s->chunk + 1) % s->n_chunks;
}

void ds_sequence_rewind(struct ds_sequence *s)
{
	s->n_computed = 0;
	s->chunk = 0;
}

bool ds_sequence_wants_logits(const struct ds_sequence *s, uint32_t position)
{
	if (s->mtp)
		return false;
	if (!s->chain)
		return position >= s->n_told;
	return position + 1 == s->n_tokens || (s->echo_logprobs && position >= s->n_told);
}

static uint32_t best_of(const float *logits, uint32_t vocab)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < vocab; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static void take_evaluation(struct ds_sequence *s, uint32_t position, const float *logits)
{
	uint32_t vocab = s->engine->hparams->vocab, last = s->mtp ? s->n_prompt - 2 : s->max_tokens - 1;
	const uint32_t piece = DS_EVENT_TEXT_MAX / sizeof(*logits);

	for (uint32_t i = 0; i < vocab; i += piece) {
		uint32_t n = vocab - i < piece ? vocab - i : piece;

		if (ds_outlet_write(s->outlet, DS_EVENT_LOGITS, logits + i, n * sizeof(*logits)) < 0) {
			fail_for_memory(s);
			return;
		}
	}
	s->n_told = position + 1;
	if (position == last)
		finish(s, DS_FINISH_LENGTH);
	else if (!s->mtp && position + 1 == s->n_tokens)
		s->tokens[s->n_tokens++] = best_of(logits, vocab);
}

static void fail_for_numbers(struct ds_sequence *s)
{
	struct ds_failure failure;

	ds_refuse(&failure, DS_INTERNAL, NULL,
		  "the model computed what is no number (NaN or infinite): its weights are damaged");
	ds_sequence_fail(s, &failure);
}

static void sample(struct ds_sequence *s, const float *logits, struct ds_choice *choice)
{
	uint32_t id;

	if (s->n_tokens == s->max_tokens) { /* an echo, and nothing to follow */
		finish(s, DS_FINISH_LENGTH);
		return;
	}
	if (!ds_are_numbers(logits, s->engine->hparams->vocab)) {
		fail_for_numbers(s);
		return;
	}
	id = ds_chain_pick(s->chain, logits, choice);
	ds_chain_accept(s->chain, id);
	s->tokens[s->n_tokens++] = id;
	if (ds_engine_is_eos(s->engine, id)) {
		finish(s, DS_FINISH_STOP);
		return;
	}
	ds_answer_note_logprobs(s->answer, id, logits);
	if (ds_answer_token(s->answer, id))
		finish(s, DS_FINISH_STOP);
	else if (s->n_tokens == s->max_tokens)
		finish(s, DS_FINISH_LENGTH);
	else if (ds_answer_is_lost(s->answer))
		fail_for_memory(s);
}

void ds_sequence_take(struct ds_sequence *s, uint32_t position, const float *logits, struct ds_choice *choice)
{
	if (!s->chain) {
		take_evaluation(s, position, logits);
		return;
	}
	if (s->echo_logprobs && position >= s->n_told && position + 1 < s->n_prompt) {
		s->n_told = position + 1;
		echo(s, position + 1, logits);
	}
	if (position + 1 == s->n_tokens)
		sample(s, logits, choice);
}

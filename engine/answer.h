/* answer.h - the words of one generation: from token ids to text events.
 *
 *   id -> bytes -> characters -> reasoning, content, tool calls -> stop strings -> events
 *          (detokeniser)          (dialect's parser)           (content only)
 *
 * Stop strings are looked for in the content alone: a blank line in the reasoning must not end the answer. */
#pragma once

#include "outbox.h"

struct ds_answer;
struct ds_engine;

struct ds_answer_options {
	bool chat;     /* the output is parsed by the dialect */
	bool thinking; /* it begins inside reasoning */
	const char *const *stops;
	size_t n_stops;
	int n_logprobs; /* alternatives a token; -1: no logprobs */
};

int ds_answer_new(struct ds_answer **out, const struct ds_engine *engine, struct ds_outlet *outlet,
		  const struct ds_answer_options *options, struct ds_error *err);
struct ds_answer *ds_answer_free(struct ds_answer *answer); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_answer)

/* @id was chosen on @logits (NULL: on none, the first token of a prompt): it is listed with the next text. */
void ds_answer_note_logprobs(struct ds_answer *answer, uint32_t id, const float *logits);
/* A token of the prompt that the client wants to see again. */
void ds_answer_echo(struct ds_answer *answer, uint32_t id);
/* The prompt has been echoed; what follows is the model's. */
void ds_answer_end_echo(struct ds_answer *answer);
/* The next token of the answer. True: a stop string was met. */
bool ds_answer_token(struct ds_answer *answer, uint32_t id);
/* No token follows: hand over what was held back. */
void ds_answer_finish(struct ds_answer *answer);

uint32_t ds_answer_get_reasoning_tokens(const struct ds_answer *answer);
bool ds_answer_has_tool_calls(const struct ds_answer *answer);
bool ds_answer_is_lost(const struct ds_answer *answer); /* there was no memory for an event */

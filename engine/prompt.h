/* prompt.h - what a request says, as tokens: a conversation in the model's dialect, a raw text, or ids.
 *
 * Special tokens come from the dialect's markup alone, never from the text of a message. Everything between two special
 * tokens is tokenised as one piece of text, wherever its parts come from, as the reference implementation sees it. */
#pragma once

#include "failure.h"
#include <jansson.h>

struct ds_engine;

struct ds_prompt {
	uint32_t *tokens; /* [n], from malloc */
	size_t n;
	bool thinking; /* the answer begins inside reasoning */
};

/* A prompt this long is counted no further: nobody's next request waits while megabytes are tokenised in vain. */
static inline size_t ds_prompt_max(uint32_t context)
{
	return 4 * (size_t)context + 65536;
}

void ds_prompt_deinit(struct ds_prompt *prompt); /* takes a zeroed one */

/* Refuse for @error, whose sentence begins with the path of what is wrong in the conversation. Returns as ds_refuse(). */
int ds_refuse_chat(int code, const struct ds_error *error, struct ds_failure *failure);

/* @messages and @tools (NULL: none) in OpenAI's shape, @thinking true, false or NULL: default. All three fill a zeroed @prompt. A text of more than ds_prompt_max()
 * tokens is DS_CONTEXT_LENGTH_EXCEEDED. */
int ds_prompt_from_messages(struct ds_prompt *prompt, const struct ds_engine *engine, const json_t *messages,
			    const json_t *tools, const json_t *thinking, struct ds_failure *failure);
/* A raw text; who writes one may write special tokens in it. A beginning is added where the vocabulary asks for it. */
int ds_prompt_from_text(struct ds_prompt *prompt, const struct ds_engine *engine, const char *text, size_t size,
			struct ds_failure *failure);
/* Ids as they are; @param names them in errors. */
int ds_prompt_from_ids(struct ds_prompt *prompt, const struct ds_engine *engine, const json_t *ids, const char *param,
		       struct ds_failure *failure);

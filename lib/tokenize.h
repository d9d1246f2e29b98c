/* tokenize.h - texts to tokens and back, as the loader and the engine are asked for it.
 *
 * A request has either a "text" or "tokens", and the answer has the other one:
 *   {"text": "..."}            -> {"tokens": [ids]}
 *   {"text": ["...", ...]}     -> {"tokens": [[ids], ...]}
 *   {"tokens": [ids]}          -> {"text": "..."}
 *   {"tokens": [[ids], ...]}   -> {"text": ["...", ...]}
 * "plain": true takes text for what somebody wrote, in which markup is no token. "bytes": true writes text as bytes, each
 * as U+0000 to U+00FF, so that what is no UTF-8 can be asked and comes back as it was. No bos is added. */
#pragma once

#include <deepseekd/tokenizer.h>
#include <jansson.h>

struct ds_tokenizing {
	const struct ds_tokenizer_ops *ops;
	void *self; /* what ops->open() gave */
	const struct ds_host *host;
};

/* On success *@answer is a new reference. -EINVAL: the request is wrong; *@param is the key that is, or NULL. */
int ds_tokenize(const struct ds_tokenizing *t, const json_t *request, json_t **answer, const char **param,
		struct ds_error *err);

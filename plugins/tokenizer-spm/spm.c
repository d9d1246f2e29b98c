/* spm.c - the tables of a vocabulary: tokens by text, the tokens of single bytes, added tokens. */
#include "spm.h"

#include <math.h>

static int index_bytes(struct ds_spm *spm, struct ds_error *err)
{
	const struct ds_vocabulary *v = spm->vocabulary;

	memset(spm->bytes, 0xFF, sizeof(spm->bytes));
	for (uint32_t id = v->n_tokens; id-- > 0;) {
		const struct ds_token *token = &v->tokens[id];

		if (!(token->flags & DS_TOKEN_BYTE))
			continue;
		if (token->size != 1)
			return ds_fail(err, -EINVAL, "token %u stands for a byte, but has %u of them", id, token->size);
		spm->bytes[(uint8_t)token->text[0]] = id;
	}
	return 0;
}

static bool has_inner_space(const struct ds_token *token)
{
	for (uint32_t i = 1; i < token->size; i++)
		if (token->text[i] == ' ' && token->text[i - 1] != ' ')
			return true;
	return false;
}

/* Scores have an order only without NaN. */
static int check(struct ds_spm *spm, struct ds_error *err)
{
	const struct ds_vocabulary *v = spm->vocabulary;

	if (!v->scores)
		return ds_fail(err, -EINVAL, "the vocabulary has no scores");
	if (v->unknown != DS_NO_TOKEN && v->unknown >= v->n_tokens)
		return ds_fail(err, -EINVAL, "the unknown token, %u, is not in the vocabulary of %u", v->unknown,
			       v->n_tokens);
	spm->cuts_at_spaces = true;
	for (uint32_t id = 0; id < v->n_tokens; id++) {
		if (isnan(v->scores[id]))
			return ds_fail(err, -EINVAL, "the score of token %u is not a number", id);
		if (ds_token_is_ordinary(&v->tokens[id]) && has_inner_space(&v->tokens[id]))
			spm->cuts_at_spaces = false;
	}
	return 0;
}

void ds_spm_close(void *self)
{
	struct ds_spm *spm = self;

	ds_added_deinit(&spm->trusted);
	ds_added_deinit(&spm->untrusted);
	ds_lexicon_deinit(&spm->lexicon);
	free(spm);
}

static void closep(struct ds_spm **spm)
{
	if (*spm)
		ds_spm_close(*spm);
}

int ds_spm_open(void **self, const struct ds_host *host, const struct ds_vocabulary *vocabulary, struct ds_error *err)
{
	ds_cleanup(closep) struct ds_spm *spm = calloc(1, sizeof(*spm));
	int r;

	if (!spm)
		return ds_fail(err, -ENOMEM, "no memory for a tokenizer");
	spm->host = host;
	spm->vocabulary = vocabulary;
	r = check(spm, err);
	if (r == 0)
		r = index_bytes(spm, err);
	if (r == 0)
		r = ds_lexicon_init(&spm->lexicon, vocabulary, err);
	if (r == 0)
		r = ds_added_init(&spm->trusted, vocabulary, true, err);
	if (r == 0)
		r = ds_added_init(&spm->untrusted, vocabulary, false, err);
	if (r < 0)
		return r;
	*self = ds_steal(&spm);
	return 0;
}

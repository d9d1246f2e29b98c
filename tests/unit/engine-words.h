/* engine-words.h - a tokenizer for tests: every byte is a token, 256 is "<s>", 257 is "<e>", both special. */
#pragma once

#include "engine.h"

#include <string.h>

#define WORDS_START 256u
#define WORDS_END 257u
#define WORDS_COUNT 258u

struct words {
	struct ds_vocabulary vocabulary;
	struct ds_token tokens[WORDS_COUNT];
	char bytes[256];
};

/* The texts of the calls of words_encode(), each in brackets, with an exclamation mark if special tokens were allowed. */
static char words_log[1024];

static int words_encode(void *self, const char *text, size_t size, unsigned flags, size_t max_ids, uint32_t **ids,
			size_t *n, struct ds_error *err)
{
	size_t used = strlen(words_log), start = *n;
	uint32_t *grown;

	if (size > max_ids)
		return -E2BIG;
	grown = calloc(*n + size + 1, sizeof(*grown));

	snprintf(words_log + used, sizeof(words_log) - used, "[%.*s]%s", (int)size, text,
		 flags & DS_TOKENIZE_SPECIAL ? "!" : "");
	if (start > 0)
		memcpy(grown, *ids, start * sizeof(*grown));
	for (size_t i = 0; i < size; i++)
		grown[(*n)++] = (uint8_t)text[i];
	free(*ids);
	*ids = grown;
	return 0;
}

static const char *words_text(void *self, uint32_t id, size_t *size)
{
	const struct words *words = self;

	*size = words->tokens[id].size;
	return words->tokens[id].text;
}

static size_t words_detokenize(void *self, struct ds_detokenizer *state, uint32_t id, char *out)
{
	const struct words *words = self;

	memcpy(out, words->tokens[id].text, words->tokens[id].size);
	return words->tokens[id].size;
}

static size_t words_finish(void *self, struct ds_detokenizer *state, char *out)
{
	return 0;
}

static void words_close(void *self)
{
}

static const struct ds_tokenizer_ops words_ops = {
	.size = sizeof(words_ops),
	.encode = words_encode,
	.token_text = words_text,
	.detokenize = words_detokenize,
	.finish = words_finish,
	.close = words_close,
};

/* Give @engine this vocabulary and its tokenizer. */
static inline void words_init(struct words *words, struct ds_engine *engine)
{
	*words = (struct words){.vocabulary = {.tokenizer = "words", .tokens = words->tokens, .n_tokens = WORDS_COUNT,
					       .bos = WORDS_START, .eos = {WORDS_END}, .n_eos = 1}};
	for (uint32_t i = 0; i < 256; i++) {
		words->bytes[i] = (char)i;
		words->tokens[i] = (struct ds_token){.text = &words->bytes[i], .size = 1};
	}
	words->tokens[WORDS_START] = (struct ds_token){"<s>", 3, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED};
	words->tokens[WORDS_END] = (struct ds_token){"<e>", 3, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED};
	engine->vocabulary = &words->vocabulary;
	engine->tokenizer_ops = &words_ops;
	engine->tokenizer = words;
}

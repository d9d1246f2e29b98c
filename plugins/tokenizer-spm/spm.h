/* spm.h - SentencePiece's BPE, as Llama 2 and its kin have it: no split patterns and no list of merges, but a score for
 * every token. Text is taken character by character; of all neighbours that together spell a token those are joined
 * whose token has the highest score, the leftmost of equals, until none spell one. A character that is no token
 * becomes the tokens of its bytes, or, where the vocabulary has none, the unknown token.
 *
 * SentencePiece writes a space as U+2581, and takes that character for a space where it finds it in text. Here tokens
 * have spaces (see struct ds_token), and text that has U+2581 is still taken as if it had spaces.
 *
 * A struct ds_spm does not change after it was made. */
#pragma once

#include "../tokenizer-common/common.h"

struct ds_spm {
	const struct ds_host *host;
	const struct ds_vocabulary *vocabulary;
	struct ds_lexicon lexicon;
	uint32_t bytes[256]; /* the token of each byte, DS_NO_TOKEN where there is none */
	bool cuts_at_spaces; /* no token has a space after another character: none reaches across such a place */
	struct ds_added trusted, untrusted;
};

/* spm.c */
int ds_spm_open(void **self, const struct ds_host *host, const struct ds_vocabulary *vocabulary, struct ds_error *err);
void ds_spm_close(void *self);

/* Symbols of a piece and the pairs that wait to be joined; taken once and used for every piece of a text. */
struct ds_spm_scratch {
	void *memory;
	size_t size;
	bool unknown; /* the last character was unknown: one that follows belongs to the same run */
};

/* join.c: append to @ids the tokens of @text, in which U+2581 has become a space. */
int ds_spm_join(const struct ds_spm *spm, struct ds_spm_scratch *scratch, const char *text, size_t n, struct ds_ids *ids,
		struct ds_error *err);

/* encode.c */
int ds_spm_encode(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		  size_t *n_ids, struct ds_error *err);

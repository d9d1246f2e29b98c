/* common.h - what the tokenizer plugins share: the characters of UTF-8, tokens by their text, added tokens, the list of
 * ids that is being made, and the way back to text. Linked into each plugin, so that a plugin is still one file. */
#pragma once

#include <deepseekd/tokenizer.h>

#include <string.h>

/* utf8.c: what stands at the beginning of @text, n > 0. */
enum ds_utf8 {
	DS_UTF8_CHARACTER,
	DS_UTF8_INVALID,    /* can never become one */
	DS_UTF8_UNFINISHED, /* could become one if there were more */
};
/* @size: bytes of the character, of the beginning of one before the error (at least 1), or of all that is left. */
enum ds_utf8 ds_utf8_next(const char *text, size_t n, size_t *size);

/* lexicon.c: ordinary tokens by their text, in an open-addressing hash at most half full. */
struct ds_lexicon {
	const struct ds_vocabulary *vocabulary;
	struct ds_lexicon_slot {
		uint32_t hash, id; /* DS_NO_TOKEN: a free slot */
	} *slots;
	size_t n_slots; /* a power of two */
	size_t longest; /* bytes of the longest */
};

/* Neither special nor added nor without a text, nor a stand-in for a byte. */
bool ds_token_is_ordinary(const struct ds_token *token);
/* Of two tokens with one text the lower id is found. */
int ds_lexicon_init(struct ds_lexicon *lexicon, const struct ds_vocabulary *vocabulary, struct ds_error *err);
void ds_lexicon_deinit(struct ds_lexicon *lexicon);
/* The ordinary token that is exactly @text, DS_NO_TOKEN if none is. */
uint32_t ds_lexicon_find(const struct ds_lexicon *lexicon, const char *text, size_t n);
/* A hash of bytes, eight at a time. */
uint64_t ds_hash_text(const char *text, size_t n);
/* A power of two, at least twice @n: slots of a hash of @n. */
size_t ds_hash_slots(size_t n);

/* added.c: added tokens in the order of their bytes. */
struct ds_added {
	uint32_t *ids; /* [n] */
	size_t n;
	bool begins[256]; /* some token begins with this byte */
};

/* May only trusted text become this token? */
bool ds_added_is_markup(const struct ds_token *token);
int ds_added_init(struct ds_added *added, const struct ds_vocabulary *vocabulary, bool trusted, struct ds_error *err);
void ds_added_deinit(struct ds_added *added);
/* The first token of @added in @text at or after @from, the longest of those that begin there, and where it stands.
 * DS_NO_TOKEN: there is none, and *@at is @n. */
uint32_t ds_added_next(const struct ds_added *added, const struct ds_vocabulary *vocabulary, const char *text, size_t n,
		       size_t from, size_t *at, size_t *size);

/* ids.c: the tokens of one text. */
struct ds_ids {
	uint32_t *ids; /* [n], room for capacity */
	size_t n, capacity;
	size_t max; /* more than these are an error */
};

/* Room for @n more tokens. -E2BIG: there are more than max already. */
int ds_ids_reserve(struct ds_ids *ids, size_t n, struct ds_error *err);
/* Append them to the caller's array, as struct ds_tokenizer_ops says. */
int ds_ids_hand_over(const struct ds_ids *ids, const struct ds_host *host, uint32_t **out, size_t *n_out,
		     struct ds_error *err);

/* detokenize.c: operations of struct ds_tokenizer_ops, but for the vocabulary. */
const char *ds_token_text(const struct ds_vocabulary *vocabulary, uint32_t id, size_t *text_size);
size_t ds_detokenize(const struct ds_vocabulary *vocabulary, struct ds_detokenizer *state, uint32_t id, char *out);
size_t ds_detokenize_finish(struct ds_detokenizer *state, char *out);

/* bpe.h - byte-level BPE, step by step:
 *
 *   ../tokenizer-common/added.c   tokens that are matched in the raw text before anything else
 *   normalize.c  NFC, where the vocabulary asks for it
 *   split.c      the split patterns: words, numbers, punctuation, each a piece
 *   merge.c      the bytes of a piece become tokens, the earliest merge first
 *   encode.c     all of that in order, for one text
 *   ../tokenizer-common/detokenize.c   the way back, whole characters at a time
 *
 * A struct ds_bpe does not change after it was made, but for one memo that any thread may fill with the same answers.
 * What one text needs lives in a struct ds_bpe_work, which belongs to one call. */
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8

#include "../tokenizer-common/common.h"

#include <pcre2.h>
#include <stdatomic.h>

/* A merge under the key left << 32 | right. */
struct ds_bpe_pair {
	uint64_t key; /* EMPTY_PAIR: a free slot */
	uint32_t rank, merged;
};

#define EMPTY_PAIR UINT64_MAX

/* Is a piece that spells a token merged to just that token? Found out once per token. */
enum ds_bpe_whole {
	DS_BPE_UNKNOWN,
	DS_BPE_WHOLE,
	DS_BPE_PARTS,
};

struct ds_bpe {
	const struct ds_host *host;
	const struct ds_vocabulary *vocabulary;
	uint32_t bytes[256];       /* the token of each byte, DS_NO_TOKEN where there is none */
	struct ds_lexicon lexicon;
	struct ds_bpe_pair *pairs; /* [n_pair_slots] */
	size_t n_pair_slots;       /* a power of two */
	_Atomic uint8_t *whole;    /* [n_tokens] enum ds_bpe_whole */
	struct ds_added trusted, untrusted;
	pcre2_code *patterns[DS_MAX_PATTERNS];
	bool is_known[DS_MAX_PATTERNS];	   /* then the pattern is the process's */
	bool takes_words[DS_MAX_PATTERNS]; /* see struct ds_bpe_known */
	pcre2_match_context *limits;
};

/* Symbols of a piece and the merges that are waiting, as a heap; taken once and used for every long piece of a text. */
struct ds_bpe_scratch {
	void *memory;
	size_t size;
};

struct ds_bpe_work {
	struct ds_bpe *bpe;
	pcre2_match_data *match;
	struct ds_ids ids; /* what came out so far */
	struct ds_bpe_scratch scratch;
};

/* bpe.c */
int ds_bpe_open(void **self, const struct ds_host *host, const struct ds_vocabulary *vocabulary, struct ds_error *err);
void ds_bpe_close(void *self);
/* The merge of two tokens, NULL if there is none. */
const struct ds_bpe_pair *ds_bpe_find_pair(const struct ds_bpe *bpe, uint32_t left, uint32_t right);

/* normalize.c: NFC of valid UTF-8. *@out is @text itself if there was nothing to do, else the caller's to free(). */
int ds_bpe_normalize(const char *text, size_t n, char **out, size_t *n_out, struct ds_error *err);

/* A pattern that is known, and so compiled to machine code. */
struct ds_bpe_known {
	const char *pattern; /* line ends as \r and \n, spelled out */
	const char *instead; /* what is compiled if it is not the pattern itself: equal, but linear in time */
	bool takes_words;    /* ASCII letters, perhaps after a space, are a match wherever they are met, unless a
			      * character beyond ASCII follows that might belong to them */
};

/* patterns.c */
#define DS_BPE_MAX_KNOWN 32
const struct ds_bpe_known *ds_bpe_known_patterns(size_t *n); /* all of them */
const struct ds_bpe_known *ds_bpe_known_pattern(const char *pattern); /* NULL: not known */
/* The pattern with \s and \S spelled out as PCRE2 would otherwise not quite read them; free() it. NULL: no memory. */
char *ds_bpe_translate_pattern(const char *pattern);

/* split.c */
int ds_bpe_compile(struct ds_bpe *bpe, size_t i, struct ds_error *err);
/* Split valid UTF-8 by the patterns from @level on and encode the pieces. */
int ds_bpe_split(struct ds_bpe_work *work, size_t level, const char *text, size_t n, struct ds_error *err);

/* merge.c: apply merges to ids[0, *n) until none applies. */
int ds_bpe_merge(const struct ds_bpe *bpe, struct ds_bpe_scratch *scratch, uint32_t *ids, size_t *n,
		 struct ds_error *err);

/* encode.c */
int ds_bpe_encode(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		  size_t *n_ids, struct ds_error *err);
int ds_bpe_encode_piece(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err);

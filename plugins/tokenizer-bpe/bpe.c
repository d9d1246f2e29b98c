/* bpe.c - the tables of a vocabulary: tokens by text, and merges by pair in an open-addressing hash at most half full. */
#include "bpe.h"

static uint64_t hash_pair(uint64_t key)
{
	key *= 0x9e3779b97f4a7c15u;
	return key ^ key >> 32;
}

static size_t pair_slot(const struct ds_bpe *bpe, uint64_t key)
{
	size_t mask = bpe->n_pair_slots - 1, slot = hash_pair(key) & mask;

	while (bpe->pairs[slot].key != EMPTY_PAIR && bpe->pairs[slot].key != key)
		slot = (slot + 1) & mask;
	return slot;
}

const struct ds_bpe_pair *ds_bpe_find_pair(const struct ds_bpe *bpe, uint32_t left, uint32_t right)
{
	const struct ds_bpe_pair *pair = &bpe->pairs[pair_slot(bpe, (uint64_t)left << 32 | right)];

	return pair->key == EMPTY_PAIR ? NULL : pair;
}

static int index_bytes(struct ds_bpe *bpe, struct ds_error *err)
{
	const struct ds_vocabulary *v = bpe->vocabulary;
	int r = ds_lexicon_init(&bpe->lexicon, v, err);

	if (r < 0)
		return r;
	bpe->whole = calloc(v->n_tokens + 1u, sizeof(*bpe->whole));
	if (!bpe->whole)
		return ds_fail(err, -ENOMEM, "no memory for %u tokens", v->n_tokens);
	for (unsigned byte = 0; byte < DS_ARRAY_SIZE(bpe->bytes); byte++)
		bpe->bytes[byte] = ds_lexicon_find(&bpe->lexicon, &(char){(char)byte}, 1);
	return 0;
}

/* Of two merges of one pair the earlier holds. Merges into markup are left out: trusted text finds it without them, and
 * other text must not. */
static int index_merges(struct ds_bpe *bpe, struct ds_error *err)
{
	const struct ds_vocabulary *v = bpe->vocabulary;

	bpe->n_pair_slots = ds_hash_slots(v->n_merges);
	bpe->pairs = malloc(bpe->n_pair_slots * sizeof(*bpe->pairs));
	if (!bpe->pairs)
		return ds_fail(err, -ENOMEM, "no memory for %u merges", v->n_merges);
	memset(bpe->pairs, 0xFF, bpe->n_pair_slots * sizeof(*bpe->pairs));
	for (uint32_t rank = 0; rank < v->n_merges; rank++) {
		const struct ds_merge *merge = &v->merges[rank];
		uint64_t key = (uint64_t)merge->left << 32 | merge->right;
		size_t slot;

		if (merge->left >= v->n_tokens || merge->right >= v->n_tokens || merge->merged >= v->n_tokens)
			return ds_fail(err, -EINVAL, "merge %u has a token outside the vocabulary of %u", rank,
				       v->n_tokens);
		slot = pair_slot(bpe, key);
		if (bpe->pairs[slot].key == EMPTY_PAIR && !ds_added_is_markup(&v->tokens[merge->merged]))
			bpe->pairs[slot] = (struct ds_bpe_pair){.key = key, .rank = rank, .merged = merge->merged};
	}
	return 0;
}

void ds_bpe_close(void *self)
{
	struct ds_bpe *bpe = self;

	for (size_t i = 0; i < DS_MAX_PATTERNS; i++)
		if (!bpe->is_known[i])
			pcre2_code_free(bpe->patterns[i]);
	pcre2_match_context_free(bpe->limits);
	ds_added_deinit(&bpe->trusted);
	ds_added_deinit(&bpe->untrusted);
	ds_lexicon_deinit(&bpe->lexicon);
	free(bpe->pairs);
	free((void *)bpe->whole);
	free(bpe);
}

static void closep(struct ds_bpe **bpe)
{
	if (*bpe)
		ds_bpe_close(*bpe);
}

int ds_bpe_open(void **self, const struct ds_host *host, const struct ds_vocabulary *vocabulary, struct ds_error *err)
{
	ds_cleanup(closep) struct ds_bpe *bpe = calloc(1, sizeof(*bpe));
	int r;

	if (!bpe)
		return ds_fail(err, -ENOMEM, "no memory for a tokenizer");
	bpe->host = host;
	bpe->vocabulary = vocabulary;
	r = index_bytes(bpe, err);
	if (r == 0)
		r = index_merges(bpe, err);
	if (r == 0)
		r = ds_added_init(&bpe->trusted, vocabulary, true, err);
	if (r == 0)
		r = ds_added_init(&bpe->untrusted, vocabulary, false, err);
	for (size_t i = 0; r == 0 && i < vocabulary->n_patterns; i++)
		r = ds_bpe_compile(bpe, i, err);
	if (r < 0)
		return r;
	*self = ds_steal(&bpe);
	return 0;
}

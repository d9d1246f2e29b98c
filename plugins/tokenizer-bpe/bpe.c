/* bpe.c - the tables of a vocabulary: tokens by text, merges by pair, both open-addressing hashes at most half full. */
#include "bpe.h"

/* A hash of bytes, eight at a time. Who writes the vocabulary can make it collide; it is as trusted as the model. */
static uint64_t hash_text(const char *text, size_t n)
{
	uint64_t hash = n * 0x9e3779b97f4a7c15u, part;

	for (; n >= sizeof(part); text += sizeof(part), n -= sizeof(part)) {
		memcpy(&part, text, sizeof(part));
		hash = (hash ^ part) * 0xff51afd7ed558ccdu;
		hash ^= hash >> 32;
	}
	part = 0;
	memcpy(&part, text, n);
	hash = (hash ^ part) * 0xc4ceb9fe1a85ec53u;
	return hash ^ hash >> 32;
}

static uint64_t hash_pair(uint64_t key)
{
	key *= 0x9e3779b97f4a7c15u;
	return key ^ key >> 32;
}

/* A power of two, at least twice @n. */
static size_t slots_for(size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	return slots;
}

static bool is_ordinary(const struct ds_token *token)
{
	return token->size > 0 && !(token->flags & (DS_TOKEN_SPECIAL | DS_TOKEN_ADDED | DS_TOKEN_UNUSED));
}

/* The slot of the token that is @text, or the free one where it belongs. */
static size_t word_slot(const struct ds_bpe *bpe, const char *text, size_t n)
{
	size_t mask = bpe->n_word_slots - 1, slot = hash_text(text, n) & mask;

	while (bpe->words[slot] != DS_NO_TOKEN) {
		const struct ds_token *token = &bpe->vocabulary->tokens[bpe->words[slot]];

		if (token->size == n && memcmp(token->text, text, n) == 0)
			break;
		slot = (slot + 1) & mask;
	}
	return slot;
}

uint32_t ds_bpe_find_word(const struct ds_bpe *bpe, const char *text, size_t n)
{
	return bpe->words[word_slot(bpe, text, n)];
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

/* Of two tokens with one text the lower id is found. */
static int index_words(struct ds_bpe *bpe, struct ds_error *err)
{
	const struct ds_vocabulary *v = bpe->vocabulary;

	bpe->n_word_slots = slots_for(v->n_tokens);
	bpe->words = malloc(bpe->n_word_slots * sizeof(*bpe->words));
	bpe->whole = calloc(v->n_tokens + 1u, sizeof(*bpe->whole));
	if (!bpe->words || !bpe->whole)
		return ds_fail(err, -ENOMEM, "no memory for %u tokens", v->n_tokens);
	memset(bpe->words, 0xFF, bpe->n_word_slots * sizeof(*bpe->words));
	memset(bpe->bytes, 0xFF, sizeof(bpe->bytes));
	for (uint32_t id = 0; id < v->n_tokens; id++) {
		const struct ds_token *token = &v->tokens[id];
		size_t slot;

		if (!is_ordinary(token))
			continue;
		slot = word_slot(bpe, token->text, token->size);
		if (bpe->words[slot] != DS_NO_TOKEN)
			continue;
		bpe->words[slot] = id;
		if (token->size == 1)
			bpe->bytes[(uint8_t)token->text[0]] = id;
		if (token->size > bpe->max_word)
			bpe->max_word = token->size;
	}
	return 0;
}

/* Of two merges of one pair the earlier holds. Merges into markup are left out: trusted text finds it without them, and
 * other text must not. */
static int index_merges(struct ds_bpe *bpe, struct ds_error *err)
{
	const struct ds_vocabulary *v = bpe->vocabulary;

	bpe->n_pair_slots = slots_for(v->n_merges);
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
		if (bpe->pairs[slot].key == EMPTY_PAIR && !ds_bpe_is_markup(&v->tokens[merge->merged]))
			bpe->pairs[slot] = (struct ds_bpe_pair){.key = key, .rank = rank, .merged = merge->merged};
	}
	return 0;
}

void ds_bpe_close(void *self)
{
	struct ds_bpe *bpe = self;

	for (size_t i = 0; i < DS_MAX_PATTERNS; i++)
		pcre2_code_free(bpe->patterns[i]);
	pcre2_match_context_free(bpe->limits);
	ds_bpe_added_deinit(&bpe->trusted);
	ds_bpe_added_deinit(&bpe->untrusted);
	free(bpe->words);
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
	r = index_words(bpe, err);
	if (r == 0)
		r = index_merges(bpe, err);
	if (r == 0)
		r = ds_bpe_added_init(&bpe->trusted, vocabulary, true, err);
	if (r == 0)
		r = ds_bpe_added_init(&bpe->untrusted, vocabulary, false, err);
	for (size_t i = 0; r == 0 && i < vocabulary->n_patterns; i++)
		r = ds_bpe_compile(bpe, i, err);
	if (r < 0)
		return r;
	*self = ds_steal(&bpe);
	return 0;
}

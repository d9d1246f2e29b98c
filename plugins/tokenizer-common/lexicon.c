/* lexicon.c - tokens by their text. A slot keeps a part of the hash, so that the text of a token, which is elsewhere in
 * memory, is looked at only where it is nearly sure to be the one. */
#include "common.h"

/* Who writes the vocabulary can make it collide; it is as trusted as the model. */
uint64_t ds_hash_text(const char *text, size_t n)
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

size_t ds_hash_slots(size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	return slots;
}

bool ds_token_is_ordinary(const struct ds_token *token)
{
	return token->size > 0 &&
	       !(token->flags & (DS_TOKEN_SPECIAL | DS_TOKEN_ADDED | DS_TOKEN_UNUSED | DS_TOKEN_BYTE));
}

/* The slot of the token that is @text, or the free one where it belongs. */
static struct ds_lexicon_slot *find_slot(const struct ds_lexicon *lexicon, uint64_t hash, const char *text, size_t n)
{
	size_t mask = lexicon->n_slots - 1, i = hash & mask;

	for (; lexicon->slots[i].id != DS_NO_TOKEN; i = (i + 1) & mask) {
		const struct ds_token *token = &lexicon->vocabulary->tokens[lexicon->slots[i].id];

		if (lexicon->slots[i].hash == (uint32_t)(hash >> 32) && token->size == n &&
		    memcmp(token->text, text, n) == 0)
			break;
	}
	return &lexicon->slots[i];
}

uint32_t ds_lexicon_find(const struct ds_lexicon *lexicon, const char *text, size_t n)
{
	return n > lexicon->longest ? DS_NO_TOKEN : find_slot(lexicon, ds_hash_text(text, n), text, n)->id;
}

int ds_lexicon_init(struct ds_lexicon *lexicon, const struct ds_vocabulary *v, struct ds_error *err)
{
	*lexicon = (struct ds_lexicon){.vocabulary = v, .n_slots = ds_hash_slots(v->n_tokens)};
	lexicon->slots = malloc(lexicon->n_slots * sizeof(*lexicon->slots));
	if (!lexicon->slots)
		return ds_fail(err, -ENOMEM, "no memory for %u tokens", v->n_tokens);
	memset(lexicon->slots, 0xFF, lexicon->n_slots * sizeof(*lexicon->slots));
	for (uint32_t id = 0; id < v->n_tokens; id++) {
		const struct ds_token *token = &v->tokens[id];
		struct ds_lexicon_slot *slot;
		uint64_t hash;

		if (!ds_token_is_ordinary(token))
			continue;
		hash = ds_hash_text(token->text, token->size);
		slot = find_slot(lexicon, hash, token->text, token->size);
		if (slot->id == DS_NO_TOKEN)
			*slot = (struct ds_lexicon_slot){.hash = (uint32_t)(hash >> 32), .id = id};
		if (token->size > lexicon->longest)
			lexicon->longest = token->size;
	}
	return 0;
}

void ds_lexicon_deinit(struct ds_lexicon *lexicon)
{
	free(lexicon->slots);
}

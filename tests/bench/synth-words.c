/* synth-words.c - a vocabulary of any size that a byte-level BPE could have learnt: every token but the bytes and the
 * special ones is two earlier ones joined, mostly letters, and the list of merges says which. */
#include "synth-words.h"

#include <string.h>

#define LONGEST 12
#define BAR "\xef\xbd\x9c" /* U+FF5C */
#define LOW "\xe2\x96\x81" /* U+2581 */

static const char *const special[] = {
	"<" BAR "begin" LOW "of" LOW "sentence" BAR ">",
	"<" BAR "end" LOW "of" LOW "sentence" BAR ">",
	"<" BAR "User" BAR ">",
	"<" BAR "Assistant" BAR ">",
	"<think>",
	"</think>",
};

#define N_SPECIAL DS_ARRAY_SIZE(special)

struct synth_words {
	struct ds_token *tokens;
	struct ds_merge *merges;
	char *texts;     /* of the joined ones, LONGEST + 1 bytes each */
	uint32_t *table; /* of token ids + 1 by hash of their text */
	uint32_t n_slots;
};

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* The slot of this text, or the free one where it would be. */
static uint32_t *slot_of(struct synth_words *w, const char *text, uint32_t size)
{
	uint32_t hash = 2166136261u;

	for (uint32_t i = 0; i < size; i++)
		hash = (hash ^ (uint8_t)text[i]) * 16777619u;
	for (uint32_t i = hash % w->n_slots;; i = (i + 1) % w->n_slots) {
		const struct ds_token *t = w->table[i] ? &w->tokens[w->table[i] - 1] : NULL;

		if (!t || (t->size == size && memcmp(t->text, text, size) == 0))
			return &w->table[i];
	}
}

/* Join two random tokens to one that is not there yet; letters more often than anything else. */
static bool try_join(struct synth_words *w, uint32_t id, struct ds_merge *merge, uint64_t *state)
{
	const struct ds_token *left, *right;
	char *text = w->texts + (size_t)id * (LONGEST + 1);
	uint32_t *slot, ids[2];

	for (unsigned i = 0; i < 2; i++) {
		uint32_t x = next_random(state);

		ids[i] = x % 3 == 0               ? 'a' + x / 3 % 26
			 : x % 3 == 1 && id > 256 ? 256 + x / 3 % (id - 256)
						  : x / 3 % 128;
	}
	if (next_random(state) % 4 == 0)
		ids[0] = ' ';
	left = &w->tokens[ids[0]];
	right = &w->tokens[ids[1]];
	if (left->size + right->size > LONGEST || ids[0] < 32 || ids[1] <= 32)
		return false;
	memcpy(text, left->text, left->size);
	memcpy(text + left->size, right->text, right->size);
	slot = slot_of(w, text, left->size + right->size);
	if (*slot)
		return false;
	w->tokens[id] = (struct ds_token){text, left->size + right->size, 0};
	*slot = id + 1;
	*merge = (struct ds_merge){ids[0], ids[1], id};
	return true;
}

static void make_bytes(struct synth_words *w)
{
	for (uint32_t b = 0; b < 256; b++) {
		char *text = w->texts + b * (LONGEST + 1);

		*text = (char)b;
		w->tokens[b] = (struct ds_token){text, 1, 0};
		*slot_of(w, text, 1) = b + 1;
	}
}

int synth_words_new(struct synth_words **out, struct ds_vocabulary *v, uint32_t n, struct ds_error *err)
{
	struct synth_words *w = calloc(1, sizeof(*w));
	uint32_t n_plain = n - N_SPECIAL;
	uint64_t state = 1;

	if (!w || n < 512)
		return free(w), ds_fail(err, n < 512 ? -EINVAL : -ENOMEM, "a vocabulary of %u tokens", n);
	w->n_slots = 2 * n + 1;
	w->tokens = calloc(n, sizeof(*w->tokens));
	w->merges = calloc(n, sizeof(*w->merges));
	w->texts = calloc(n, LONGEST + 1);
	w->table = calloc(w->n_slots, sizeof(*w->table));
	if (!w->tokens || !w->merges || !w->texts || !w->table) {
		synth_words_free(w);
		return ds_fail(err, -ENOMEM, "no memory for %u tokens", n);
	}
	make_bytes(w);
	for (uint32_t id = 256; id < n_plain;)
		id += try_join(w, id, &w->merges[id - 256], &state);
	for (uint32_t i = 0; i < N_SPECIAL; i++)
		w->tokens[n_plain + i] = (struct ds_token){special[i], (uint32_t)strlen(special[i]),
							   DS_TOKEN_ADDED | (i < 4 ? DS_TOKEN_SPECIAL : 0)};
	*v = (struct ds_vocabulary){
		.tokenizer = "bpe",
		.tokens = w->tokens,
		.n_tokens = n,
		.merges = w->merges,
		.n_merges = n_plain - 256,
		.add_bos = true,
		.bos = n_plain,
		.unknown = DS_NO_TOKEN,
		.eos = {n_plain + 1},
		.n_eos = 1,
	};
	*out = w;
	return 0;
}

struct synth_words *synth_words_free(struct synth_words *w)
{
	if (!w)
		return NULL;
	free(w->tokens);
	free(w->merges);
	free(w->texts);
	free(w->table);
	free(w);
	return NULL;
}

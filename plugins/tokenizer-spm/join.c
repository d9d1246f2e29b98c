/* join.c - a piece of text becomes tokens: characters in a linked list, and a heap of the neighbours that may be
 * joined, so that a megabyte without a space takes O(n log n). An entry of the heap may be outdated by the time it
 * comes up, which the sizes of the symbols it was made for tell: a symbol only ever grows, or is gone. */
#include "spm.h"

#include "../tokenizer-common/heap.h"

#define NO_SYMBOL UINT32_MAX

struct symbol {
	const char *text;
	uint32_t previous, next; /* NO_SYMBOL at the ends */
	uint32_t size;           /* 0 once it became part of the symbol before it */
	uint32_t id;             /* DS_NO_TOKEN: a character that is no token */
};

/* The highest score has the lowest rank. Numbers of IEEE 754 are in order as integers of sign and magnitude; both zeros
 * are one, and a score that is no number comes first or last, by its sign. */
static uint32_t rank_of(float score)
{
	uint32_t bits;

	score += 0.0f;
	memcpy(&bits, &score, sizeof(bits));
	return bits >> 31 ? bits : ~bits & 0x7fffffff;
}

/* Let symbol @at wait to be joined with its next one, if they spell a token. */
static void propose(const struct ds_spm *spm, struct ds_heap *heap, const struct symbol *symbols, uint32_t at)
{
	uint32_t size, id;

	if (at == NO_SYMBOL || symbols[at].next == NO_SYMBOL)
		return;
	size = symbols[at].size + symbols[symbols[at].next].size;
	id = ds_lexicon_find(&spm->lexicon, symbols[at].text, size);
	if (id != DS_NO_TOKEN)
		ds_heap_push(heap, &(struct ds_waiting){.key = ds_waiting_key(rank_of(spm->vocabulary->scores[id]), at),
							.left = symbols[at].size,
							.right = size - symbols[at].size});
}

static void join_all(const struct ds_spm *spm, struct ds_heap *heap, struct symbol *symbols)
{
	while (heap->n > 0) {
		struct ds_waiting w = ds_heap_pop(heap);
		uint32_t at = ds_waiting_at(&w);
		struct symbol *left = &symbols[at], *right;

		if (left->size != w.left || left->next == NO_SYMBOL || symbols[left->next].size != w.right)
			continue;
		right = &symbols[left->next];
		left->size += right->size;
		left->id = ds_lexicon_find(&spm->lexicon, left->text, left->size);
		left->next = right->next;
		right->size = 0;
		if (left->next != NO_SYMBOL)
			symbols[left->next].previous = at;
		propose(spm, heap, symbols, left->previous);
		propose(spm, heap, symbols, at);
	}
}

/* A character, or a byte that belongs to none, is a symbol. Returns how many there are. */
static uint32_t take_characters(const struct ds_spm *spm, struct symbol *symbols, const char *text, size_t n)
{
	uint32_t n_symbols = 0;
	size_t size;

	for (size_t i = 0; i < n; i += size, n_symbols++) {
		bool whole = ds_utf8_next(text + i, n - i, &size) == DS_UTF8_CHARACTER;

		if (!whole)
			size = 1;
		symbols[n_symbols] = (struct symbol){
			.text = text + i,
			.previous = n_symbols > 0 ? n_symbols - 1 : NO_SYMBOL,
			.next = i + size < n ? n_symbols + 1 : NO_SYMBOL,
			.size = (uint32_t)size,
			.id = whole ? ds_lexicon_find(&spm->lexicon, text + i, size) : DS_NO_TOKEN,
		};
	}
	return n_symbols;
}

/* A character that is no token: its bytes, or else the unknown token, which stands for a whole run of such. */
static int push_character(const struct ds_spm *spm, const struct symbol *symbol, bool *unknown, struct ds_ids *ids,
			  struct ds_error *err)
{
	bool bytes = true;

	for (uint32_t i = 0; i < symbol->size; i++)
		bytes = bytes && spm->bytes[(uint8_t)symbol->text[i]] != DS_NO_TOKEN;
	for (uint32_t i = 0; bytes && i < symbol->size; i++)
		ids->ids[ids->n++] = spm->bytes[(uint8_t)symbol->text[i]];
	if (!bytes && spm->vocabulary->unknown == DS_NO_TOKEN)
		return ds_fail(err, -EINVAL, "the vocabulary has no token for \"%.*s\", and none for the unknown",
			       (int)symbol->size, symbol->text);
	if (!bytes && !*unknown)
		ids->ids[ids->n++] = spm->vocabulary->unknown;
	*unknown = !bytes;
	return 0;
}

/* Each of the n - 1 joins at most removes a symbol and proposes two more: 3 n entries are enough. */
static int reserve(struct ds_spm_scratch *scratch, size_t n, struct ds_error *err)
{
	size_t size = n * (sizeof(struct symbol) + 3 * sizeof(struct ds_waiting));

	if (scratch->size >= size)
		return 0;
	free(scratch->memory);
	scratch->size = 0;
	scratch->memory = malloc(size);
	if (!scratch->memory)
		return ds_fail(err, -ENOMEM, "no memory to join a piece of %zu bytes", n);
	scratch->size = size;
	return 0;
}

int ds_spm_join(const struct ds_spm *spm, struct ds_spm_scratch *scratch, const char *text, size_t n,
		struct ds_ids *ids, struct ds_error *err)
{
	struct symbol *symbols;
	struct ds_heap heap = {.n = 0};
	uint32_t n_symbols;
	int r;

	r = n >= NO_SYMBOL ? ds_fail(err, -E2BIG, "a piece of %zu bytes is too long", n) : reserve(scratch, n, err);
	if (r == 0)
		r = ds_ids_reserve(ids, n, err);
	if (r < 0 || n == 0)
		return r;
	symbols = scratch->memory;
	heap.entries = (struct ds_waiting *)(symbols + n);
	n_symbols = take_characters(spm, symbols, text, n);
	for (uint32_t i = 0; i + 1 < n_symbols; i++)
		propose(spm, &heap, symbols, i);
	join_all(spm, &heap, symbols);
	for (uint32_t i = 0; r == 0 && i != NO_SYMBOL; i = symbols[i].next) {
		if (symbols[i].id == DS_NO_TOKEN) {
			r = push_character(spm, &symbols[i], &scratch->unknown, ids, err);
			continue;
		}
		ids->ids[ids->n++] = symbols[i].id;
		scratch->unknown = false;
	}
	return r;
}

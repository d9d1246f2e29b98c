/* merge.c - the tokens of a piece: of all neighbours that may be merged, those whose merge comes first in the list, the
 * leftmost first, until none may.
 *
 * A short piece, nearly every one, is an array that is searched for the best merge each time. A long one is a linked
 * list with a heap of the merges that wait, so that a megabyte without a space takes O(n log n); an entry of the heap
 * may be outdated by the time it comes up, which the tokens it was made for tell. */
#include "bpe.h"

#include "../tokenizer-common/heap.h"

#define SHORT_PIECE 64
#define NO_RANK UINT32_MAX
#define NO_SYMBOL UINT32_MAX

static int merge_short(const struct ds_bpe *bpe, uint32_t *ids, size_t *n_ids)
{
	const struct ds_bpe_pair *pairs[SHORT_PIECE]; /* pairs[i]: the merge of ids[i] and ids[i + 1] */
	size_t n = *n_ids;

	for (size_t i = 0; i + 1 < n; i++)
		pairs[i] = ds_bpe_find_pair(bpe, ids[i], ids[i + 1]);
	while (n > 1) {
		uint32_t best = NO_RANK;
		size_t at = 0;

		for (size_t i = 0; i + 1 < n; i++) {
			if (pairs[i] && pairs[i]->rank < best) {
				best = pairs[i]->rank;
				at = i;
			}
		}
		if (best == NO_RANK)
			break;
		ids[at] = pairs[at]->merged;
		n--;
		memmove(&ids[at + 1], &ids[at + 2], (n - at - 1) * sizeof(*ids));
		if (at + 1 < n)
			memmove(&pairs[at + 1], &pairs[at + 2], (n - at - 2) * sizeof(pairs[0]));
		if (at > 0)
			pairs[at - 1] = ds_bpe_find_pair(bpe, ids[at - 1], ids[at]);
		if (at + 1 < n)
			pairs[at] = ds_bpe_find_pair(bpe, ids[at], ids[at + 1]);
	}
	*n_ids = n;
	return 0;
}

/* Small, as are the entries of the heap, because what a long piece costs is waiting for memory. An entry is for the
 * merge of two tokens, by its rank. */
struct symbol {
	uint32_t previous, next; /* NO_SYMBOL at the ends */
	uint32_t id;             /* DS_NO_TOKEN once it became part of the symbol before it */
};

/* Let the merge of symbol @at with its next one wait, if there is one. */
static void propose(const struct ds_bpe *bpe, struct ds_heap *heap, const struct symbol *symbols, uint32_t at)
{
	const struct ds_bpe_pair *pair;
	uint32_t next;

	if (at == NO_SYMBOL || symbols[at].next == NO_SYMBOL)
		return;
	next = symbols[at].next;
	pair = ds_bpe_find_pair(bpe, symbols[at].id, symbols[next].id);
	if (pair)
		ds_heap_push(heap, &(struct ds_waiting){.key = ds_waiting_key(pair->rank, at),
							.left = symbols[at].id,
							.right = symbols[next].id});
}

static void merge_list(const struct ds_bpe *bpe, struct ds_heap *heap, struct symbol *symbols)
{
	while (heap->n > 0) {
		struct ds_waiting w = ds_heap_pop(heap);
		uint32_t at = ds_waiting_at(&w);
		struct symbol *left = &symbols[at], *right;

		if (left->id != w.left || left->next == NO_SYMBOL || symbols[left->next].id != w.right)
			continue;
		right = &symbols[left->next];
		left->id = ds_bpe_find_pair(bpe, w.left, w.right)->merged;
		left->next = right->next;
		right->id = DS_NO_TOKEN;
		if (left->next != NO_SYMBOL)
			symbols[left->next].previous = at;
		propose(bpe, heap, symbols, left->previous);
		propose(bpe, heap, symbols, at);
	}
}

/* Every one of the n - 1 merges at most removes a symbol and proposes two more: 3 n entries are enough. */
static int reserve(struct ds_bpe_scratch *scratch, size_t n, struct ds_error *err)
{
	size_t size = n * (sizeof(struct symbol) + 3 * sizeof(struct ds_waiting));

	if (n >= NO_SYMBOL)
		return ds_fail(err, -E2BIG, "a piece of %zu bytes is too long", n);
	if (scratch->size >= size)
		return 0;
	free(scratch->memory);
	scratch->size = 0;
	scratch->memory = malloc(size);
	if (!scratch->memory)
		return ds_fail(err, -ENOMEM, "no memory to merge a piece of %zu bytes", n);
	scratch->size = size;
	return 0;
}

int ds_bpe_merge(const struct ds_bpe *bpe, struct ds_bpe_scratch *scratch, uint32_t *ids, size_t *n_ids,
		 struct ds_error *err)
{
	size_t n = *n_ids, kept = 0;
	struct symbol *symbols;
	struct ds_heap heap;
	int r;

	if (n <= SHORT_PIECE)
		return merge_short(bpe, ids, n_ids);
	r = reserve(scratch, n, err);
	if (r < 0)
		return r;
	heap = (struct ds_heap){.entries = scratch->memory};
	symbols = (struct symbol *)(heap.entries + 3 * n);
	for (uint32_t i = 0; i < n; i++)
		symbols[i] = (struct symbol){
			.previous = i > 0 ? i - 1 : NO_SYMBOL, .next = i + 1 < n ? i + 1 : NO_SYMBOL, .id = ids[i]};
	for (uint32_t i = 0; i + 1 < n; i++)
		propose(bpe, &heap, symbols, i);
	merge_list(bpe, &heap, symbols);
	for (uint32_t i = 0; i != NO_SYMBOL; i = symbols[i].next)
		ids[kept++] = symbols[i].id;
	*n_ids = kept;
	return 0;
}

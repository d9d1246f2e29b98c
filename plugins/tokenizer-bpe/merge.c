/* merge.c - the tokens of a piece: of all neighbours that may be merged, those whose merge comes first in the list, the
 * leftmost first, until none may.
 *
 * A short piece, nearly every one, is an array that is searched for the best merge each time. A long one is a linked
 * list with a heap of the merges that wait, so that a megabyte without a space takes O(n log n); an entry of the heap
 * may be outdated by the time it comes up, which the tokens it was made for tell. */
#include "bpe.h"

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

/* Both are small, because what a long piece costs is waiting for memory. */
struct symbol {
	uint32_t previous, next; /* NO_SYMBOL at the ends */
	uint32_t id;             /* DS_NO_TOKEN once it became part of the symbol before it */
};

/* A merge of the symbol at @at with the one after it. */
struct waiting {
	uint32_t rank, at;
	uint32_t left, right;
};

/* The best entry is entries[0]; every other comes after entries[(i - 1) / 2]. */
struct queue {
	struct waiting *entries;
	size_t n;
};

static bool comes_before(const struct waiting *a, const struct waiting *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void enqueue(struct queue *queue, const struct waiting *entry)
{
	size_t i = queue->n++;

	while (i > 0 && comes_before(entry, &queue->entries[(i - 1) / 2])) {
		queue->entries[i] = queue->entries[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	queue->entries[i] = *entry;
}

static struct waiting dequeue(struct queue *queue)
{
	struct waiting best = queue->entries[0], last = queue->entries[--queue->n];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < queue->n && comes_before(&queue->entries[child + 1], &queue->entries[child]))
			child++;
		if (child >= queue->n || !comes_before(&queue->entries[child], &last))
			break;
		queue->entries[i] = queue->entries[child];
		i = child;
	}
	queue->entries[i] = last;
	return best;
}

/* Let the merge of symbol @at with its next one wait, if there is one. */
static void propose(const struct ds_bpe *bpe, struct queue *queue, const struct symbol *symbols, uint32_t at)
{
	const struct ds_bpe_pair *pair;
	uint32_t next;

	if (at == NO_SYMBOL || symbols[at].next == NO_SYMBOL)
		return;
	next = symbols[at].next;
	pair = ds_bpe_find_pair(bpe, symbols[at].id, symbols[next].id);
	if (pair)
		enqueue(queue, &(struct waiting){.rank = pair->rank,
						 .at = at,
						 .left = symbols[at].id,
						 .right = symbols[next].id});
}

static void merge_list(const struct ds_bpe *bpe, struct queue *queue, struct symbol *symbols)
{
	while (queue->n > 0) {
		struct waiting w = dequeue(queue);
		struct symbol *left = &symbols[w.at], *right;

		if (left->id != w.left || left->next == NO_SYMBOL || symbols[left->next].id != w.right)
			continue;
		right = &symbols[left->next];
		left->id = ds_bpe_find_pair(bpe, w.left, w.right)->merged;
		left->next = right->next;
		right->id = DS_NO_TOKEN;
		if (left->next != NO_SYMBOL)
			symbols[left->next].previous = w.at;
		propose(bpe, queue, symbols, left->previous);
		propose(bpe, queue, symbols, w.at);
	}
}

/* Every one of the n - 1 merges at most removes a symbol and proposes two more: 3 n entries are enough. */
static int reserve(struct ds_bpe_scratch *scratch, size_t n, struct ds_error *err)
{
	size_t size = n * (sizeof(struct symbol) + 3 * sizeof(struct waiting));

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
	struct queue queue;
	int r;

	if (n <= SHORT_PIECE)
		return merge_short(bpe, ids, n_ids);
	r = reserve(scratch, n, err);
	if (r < 0)
		return r;
	queue = (struct queue){.entries = scratch->memory};
	symbols = (struct symbol *)(queue.entries + 3 * n);
	for (uint32_t i = 0; i < n; i++)
		symbols[i] = (struct symbol){
			.previous = i > 0 ? i - 1 : NO_SYMBOL, .next = i + 1 < n ? i + 1 : NO_SYMBOL, .id = ids[i]};
	for (uint32_t i = 0; i + 1 < n; i++)
		propose(bpe, &queue, symbols, i);
	merge_list(bpe, &queue, symbols);
	for (uint32_t i = 0; i != NO_SYMBOL; i = symbols[i].next)
		ids[kept++] = symbols[i].id;
	*n_ids = kept;
	return 0;
}

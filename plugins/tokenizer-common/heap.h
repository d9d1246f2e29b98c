/* heap.h - what waits to be joined, the best of it first: a binary heap for long pieces of text. Inline, because
 * joining a megabyte is little else than this. */
#pragma once

#include <deepseekd/base.h>

/* Joining the symbol at a place with the one after it. */
struct ds_waiting {
	uint64_t key;         /* rank and place, see ds_waiting_key(): the lowest comes first */
	uint32_t left, right; /* what tells whether the entry is outdated */
};

/* The best entry is entries[0]; every other comes after entries[(i - 1) / 2]. */
struct ds_heap {
	struct ds_waiting *entries; /* borrowed; room is the caller's matter */
	size_t n;
};

/* Of equal ranks the leftmost place comes first. */
static inline uint64_t ds_waiting_key(uint32_t rank, uint32_t at)
{
	return (uint64_t)rank << 32 | at;
}

static inline uint32_t ds_waiting_at(const struct ds_waiting *w)
{
	return (uint32_t)w->key;
}

static inline void ds_heap_push(struct ds_heap *heap, const struct ds_waiting *entry)
{
	size_t i = heap->n++;

	while (i > 0 && entry->key < heap->entries[(i - 1) / 2].key) {
		heap->entries[i] = heap->entries[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap->entries[i] = *entry;
}

static inline struct ds_waiting ds_heap_pop(struct ds_heap *heap)
{
	struct ds_waiting best = heap->entries[0], last = heap->entries[--heap->n];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < heap->n && heap->entries[child + 1].key < heap->entries[child].key)
			child++;
		if (child >= heap->n || heap->entries[child].key >= last.key)
			break;
		heap->entries[i] = heap->entries[child];
		i = child;
	}
	heap->entries[i] = last;
	return best;
}

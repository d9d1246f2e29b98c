/* kv.h - which page of the KV cache belongs to whom: page tables, sharing of prefixes, eviction. No tensor is touched here.
 *
 * The cache is @n_pages pages of DS_KV_PAGE_TOKENS tokens; a page number is the same page in every layer. A page is free,
 * used (by one table or, when it holds a shared prefix, by several) or kept: full, unused, and findable by what it holds,
 * until its room is needed (least recently used first). Shared pages are always full and never written again.
 *
 * A page is found by a keyed hash over the owner and all tokens up to its end, and by comparing its own tokens: prefixes
 * are shared within one owner only, because a hit can be told from a miss by its time. Used by the compute thread alone. */
#pragma once

#include "message.h"

struct ds_kv_cache;

/* The pages of one sequence: position p is in pages[p / DS_KV_PAGE_TOKENS]. */
struct ds_page_table {
	uint32_t *pages; /* [capacity] */
	uint32_t n, capacity;
	uint32_t n_shared;  /* leading pages that are known by their hash */
	uint64_t hash;	    /* of the last of those */
	const char *owner;  /* borrowed; NULL: shares nothing */
};

int ds_kv_cache_new(struct ds_kv_cache **out, uint32_t n_pages, struct ds_error *err);
struct ds_kv_cache *ds_kv_cache_free(struct ds_kv_cache *cache); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_kv_cache)

/* A table for @n_tokens tokens at most. */
int ds_page_table_init(struct ds_page_table *table, uint32_t n_tokens, const char *owner, struct ds_error *err);
void ds_page_table_deinit(struct ds_page_table *table); /* its pages are released already */

/* Attach the longest kept or used prefix of @tokens to an empty @table. Returns the tokens it covers, always fewer than
 * @n: the last one has to be computed for its logits. */
uint32_t ds_kv_cache_match(struct ds_kv_cache *cache, struct ds_page_table *table, const uint32_t *tokens, uint32_t n);
/* Grow @table to hold @n_tokens tokens. -ENOSPC: not enough pages, nothing changed. */
int ds_kv_cache_reserve(struct ds_kv_cache *cache, struct ds_page_table *table, uint32_t n_tokens);
/* The first @n of @tokens are computed: pages that became full can be shared from now on. */
void ds_kv_cache_commit(struct ds_kv_cache *cache, struct ds_page_table *table, const uint32_t *tokens, uint32_t n);
/* Give all pages of @table back; full ones are kept while there is room. */
void ds_kv_cache_release(struct ds_kv_cache *cache, struct ds_page_table *table);

/* Pages that could be had now, by eviction too, and pages in use. */
uint32_t ds_kv_cache_get_available(const struct ds_kv_cache *cache);
uint32_t ds_kv_cache_get_used(const struct ds_kv_cache *cache);

static inline uint32_t ds_kv_pages(uint32_t n_tokens)
{
	return n_tokens / DS_KV_PAGE_TOKENS + (n_tokens % DS_KV_PAGE_TOKENS != 0);
}

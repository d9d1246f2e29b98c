/* kv.c - pages: a free list, a list of kept pages by age, and a hash table of the full ones.
 *
 * All lists run through the pages themselves, so nothing is allocated after ds_kv_cache_new(), but what qsort() may take for
 * some hundred pages at once. */
#include "kv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NONE UINT32_MAX

struct page {
	uint32_t n_users;
	bool hashed;
	uint64_t hash; /* of the owner and every token up to the end of this page */
	uint32_t tokens[DS_KV_PAGE_TOKENS];
	uint32_t chain;	     /* next page of the same bucket */
	uint32_t prev, next; /* in the list of kept pages, oldest first; next also links the free list */
};

struct ds_kv_cache {
	struct page *pages;
	uint32_t n_pages, n_free, n_kept;
	uint32_t free;		 /* first free page */
	uint32_t oldest, newest; /* kept pages */
	uint32_t *buckets;	 /* [n_buckets], a power of two */
	uint32_t n_buckets;
	uint64_t key[2]; /* secret, so that nobody can aim for a collision */
};

int ds_kv_cache_new(struct ds_kv_cache **out, uint32_t n_pages, struct ds_error *err)
{
	ds_cleanup(ds_kv_cache_freep) struct ds_kv_cache *cache = calloc(1, sizeof(*cache));
	uint32_t n_buckets = 16;

	while (n_buckets < n_pages && n_buckets < 1u << 30)
		n_buckets *= 2;
	if (cache) {
		cache->pages = calloc(n_pages, sizeof(*cache->pages));
		cache->buckets = malloc(n_buckets * sizeof(*cache->buckets));
	}
	if (!cache || !cache->pages || !cache->buckets || n_pages == 0)
		return ds_fail(err, -ENOMEM, "no memory for the tables of %u pages of KV cache", n_pages);
	if (getrandom(cache->key, sizeof(cache->key), 0) != (ssize_t)sizeof(cache->key))
		return ds_fail(err, -EIO, "no random numbers for the KV cache");
	cache->n_pages = cache->n_free = n_pages;
	cache->n_buckets = n_buckets;
	memset(cache->buckets, 0xff, n_buckets * sizeof(*cache->buckets));
	for (uint32_t i = 0; i < n_pages; i++)
		cache->pages[i].next = i + 1 < n_pages ? i + 1 : NONE;
	cache->oldest = cache->newest = NONE;
	*out = ds_steal(&cache);
	return 0;
}

struct ds_kv_cache *ds_kv_cache_free(struct ds_kv_cache *cache)
{
	if (cache) {
		free(cache->pages);
		free(cache->buckets);
		free(cache);
	}
	return NULL;
}

int ds_page_table_init(struct ds_page_table *table, uint32_t n_tokens, const char *owner, struct ds_error *err)
{
	*table = (struct ds_page_table){.capacity = ds_kv_pages(n_tokens), .owner = owner};
	table->pages = calloc(table->capacity ? table->capacity : 1, sizeof(*table->pages));
	if (!table->pages)
		return ds_fail(err, -ENOMEM, "no memory for the page table of %u tokens", n_tokens);
	return 0;
}

void ds_page_table_deinit(struct ds_page_table *table)
{
	free(table->pages);
	table->pages = NULL;
}

static uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

/* SipHash-2-4 (Aumasson and Bernstein, 2012) of @seed followed by @size bytes. */
static uint64_t hash_bytes(const struct ds_kv_cache *cache, uint64_t seed, const void *data, size_t size)
{
	uint64_t v[4] = {cache->key[0] ^ 0x736f6d6570736575, cache->key[1] ^ 0x646f72616e646f6d,
			 cache->key[0] ^ 0x6c7967656e657261, cache->key[1] ^ 0x7465646279746573};
	const uint8_t *bytes = data;
	uint64_t word = 0;

	sip_word(v, seed);
	for (; size >= 8; size -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		sip_word(v, word);
	}
	word = 0;
	memcpy(&word, bytes, size);
	sip_word(v, word | (uint64_t)(uint8_t)(bytes - (const uint8_t *)data + size + 8) << 56);
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t start_hash(const struct ds_kv_cache *cache, const struct ds_page_table *table)
{
	return hash_bytes(cache, 0, table->owner, strlen(table->owner));
}

static void keep(struct ds_kv_cache *cache, uint32_t i)
{
	struct page *page = &cache->pages[i];

	page->prev = cache->newest;
	page->next = NONE;
	if (cache->newest != NONE)
		cache->pages[cache->newest].next = i;
	else
		cache->oldest = i;
	cache->newest = i;
	cache->n_kept++;
}

static void unkeep(struct ds_kv_cache *cache, uint32_t i)
{
	struct page *page = &cache->pages[i];

	if (page->prev != NONE)
		cache->pages[page->prev].next = page->next;
	else
		cache->oldest = page->next;
	if (page->next != NONE)
		cache->pages[page->next].prev = page->prev;
	else
		cache->newest = page->prev;
	cache->n_kept--;
}

static void forget(struct ds_kv_cache *cache, uint32_t i)
{
	uint32_t *link = &cache->buckets[cache->pages[i].hash & (cache->n_buckets - 1)];

	while (*link != i)
		link = &cache->pages[*link].chain;
	*link = cache->pages[i].chain;
	cache->pages[i].hashed = false;
}

static uint32_t find(const struct ds_kv_cache *cache, uint64_t hash, const uint32_t *tokens)
{
	uint32_t i = cache->buckets[hash & (cache->n_buckets - 1)];

	while (i != NONE && (cache->pages[i].hash != hash ||
			     memcmp(cache->pages[i].tokens, tokens, sizeof(cache->pages[i].tokens)) != 0))
		i = cache->pages[i].chain;
	return i;
}

uint32_t ds_kv_cache_match(struct ds_kv_cache *cache, struct ds_page_table *table, const uint32_t *tokens, uint32_t n)
{
	uint64_t hash;

	if (!table->owner)
		return 0;
	hash = start_hash(cache, table);
	table->hash = hash;
	while ((table->n + 1) * DS_KV_PAGE_TOKENS < n) {
		const uint32_t *page_tokens = tokens + table->n * DS_KV_PAGE_TOKENS;
		uint32_t i;

		hash = hash_bytes(cache, hash, page_tokens, sizeof(cache->pages[0].tokens));
		i = find(cache, hash, page_tokens);
		if (i == NONE)
			break;
		if (cache->pages[i].n_users++ == 0)
			unkeep(cache, i);
		table->pages[table->n++] = i;
		table->hash = hash;
	}
	table->n_shared = table->n;
	return table->n * DS_KV_PAGE_TOKENS;
}

/* One page without users: a free one, or the oldest of those kept. There is one. */
static uint32_t take(struct ds_kv_cache *cache)
{
	uint32_t i = cache->free;

	if (i != NONE && cache->n_free > 0) {
		cache->free = cache->pages[i].next;
		cache->n_free--;
	} else {
		i = cache->oldest;
		unkeep(cache, i);
		forget(cache, i);
	}
	cache->pages[i].n_users = 1;
	return i;
}

static int by_number(const void *a, const void *b)
{
	return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

/* Kept pages come in the order of their age, last pages of a text first. Those taken together are put in the order in
 * which they lie in memory, which is read faster so. */
int ds_kv_cache_reserve(struct ds_kv_cache *cache, struct ds_page_table *table, uint32_t n_tokens)
{
	uint32_t n = ds_kv_pages(n_tokens), first = table->n;

	if (n <= table->n)
		return 0;
	if (n > table->capacity || n - table->n > ds_kv_cache_get_available(cache))
		return -ENOSPC;
	while (table->n < n)
		table->pages[table->n++] = take(cache);
	qsort(table->pages + first, table->n - first, sizeof(*table->pages), by_number);
	return 0;
}

void ds_kv_cache_commit(struct ds_kv_cache *cache, struct ds_page_table *table, const uint32_t *tokens, uint32_t n)
{
	if (!table->owner)
		return;
	if (table->n_shared == 0)
		table->hash = start_hash(cache, table);
	for (; (table->n_shared + 1) * DS_KV_PAGE_TOKENS <= n; table->n_shared++) {
		const uint32_t *page_tokens = tokens + table->n_shared * DS_KV_PAGE_TOKENS;
		struct page *page = &cache->pages[table->pages[table->n_shared]];
		uint32_t *bucket;

		table->hash = hash_bytes(cache, table->hash, page_tokens, sizeof(page->tokens));
		/* Somebody else computed the same at the same time: theirs stays, ours goes with its sequence. */
		if (page->hashed || find(cache, table->hash, page_tokens) != NONE)
			continue;
		page->hashed = true;
		page->hash = table->hash;
		memcpy(page->tokens, page_tokens, sizeof(page->tokens));
		bucket = &cache->buckets[page->hash & (cache->n_buckets - 1)];
		page->chain = *bucket;
		*bucket = table->pages[table->n_shared];
	}
}

void ds_kv_cache_release(struct ds_kv_cache *cache, struct ds_page_table *table)
{
	/* From the end, so that the start of a text, which more texts share, is evicted last. */
	while (table->n > 0) {
		uint32_t i = table->pages[--table->n];

		if (--cache->pages[i].n_users > 0)
			continue;
		if (cache->pages[i].hashed) {
			keep(cache, i);
		} else {
			cache->pages[i].next = cache->free;
			cache->free = i;
			cache->n_free++;
		}
	}
	table->n_shared = 0;
}

uint32_t ds_kv_cache_get_available(const struct ds_kv_cache *cache)
{
	return cache->n_free + cache->n_kept;
}

uint32_t ds_kv_cache_get_used(const struct ds_kv_cache *cache)
{
	return cache->n_pages - cache->n_free - cache->n_kept;
}

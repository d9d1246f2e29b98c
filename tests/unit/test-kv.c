/* test-kv.c - who has which page: sharing, counting, eviction. */
#include "kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define P DS_KV_PAGE_TOKENS
#define N (8 * P)

static uint32_t text[N], other[N];

static int set_up(void **state)
{
	for (uint32_t i = 0; i < N; i++) {
		text[i] = i;
		other[i] = i < 2 * P ? i : 1000 + i; /* the same for two pages */
	}
	return 0;
}

static struct ds_kv_cache *cache_of(uint32_t n_pages)
{
	struct ds_kv_cache *cache;

	assert_int_equal(ds_kv_cache_new(&cache, n_pages, NULL), 0);
	return cache;
}

static struct ds_page_table table_of(const char *owner)
{
	struct ds_page_table table;

	assert_int_equal(ds_page_table_init(&table, N, owner, NULL), 0);
	return table;
}

/* A sequence computes @n of @tokens. Returns how many it found in the cache. */
static uint32_t compute(struct ds_kv_cache *cache, struct ds_page_table *table, const uint32_t *tokens, uint32_t n)
{
	uint32_t found = ds_kv_cache_match(cache, table, tokens, n);

	assert_int_equal(ds_kv_cache_reserve(cache, table, n), 0);
	ds_kv_cache_commit(cache, table, tokens, n);
	return found;
}

static void a_table_grows_by_whole_pages_and_gives_them_back(void **state)
{
	struct ds_kv_cache *cache = cache_of(4);
	struct ds_page_table table = table_of(NULL);

	assert_int_equal(ds_kv_cache_reserve(cache, &table, 1), 0);
	assert_int_equal(table.n, 1);
	assert_int_equal(ds_kv_cache_reserve(cache, &table, P), 0);
	assert_int_equal(table.n, 1);
	assert_int_equal(ds_kv_cache_reserve(cache, &table, P + 1), 0);
	assert_int_equal(table.n, 2);
	assert_int_equal(ds_kv_cache_get_used(cache), 2);
	ds_kv_cache_release(cache, &table);
	assert_int_equal(ds_kv_cache_get_available(cache), 4);
	ds_page_table_deinit(&table);
	ds_kv_cache_free(cache);
}

static void what_does_not_fit_changes_nothing(void **state)
{
	struct ds_kv_cache *cache = cache_of(3);
	struct ds_page_table a = table_of(NULL), b = table_of(NULL);

	assert_int_equal(ds_kv_cache_reserve(cache, &a, 2 * P), 0);
	assert_int_equal(ds_kv_cache_reserve(cache, &b, 2 * P), -ENOSPC);
	assert_int_equal(b.n, 0);
	assert_int_equal(ds_kv_cache_get_available(cache), 1);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(ds_kv_cache_reserve(cache, &b, 3 * P), 0);
	ds_kv_cache_release(cache, &b);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_kv_cache_free(cache);
}

static void running_sequences_of_one_owner_share_full_pages(void **state)
{
	struct ds_kv_cache *cache = cache_of(16);
	struct ds_page_table a = table_of("ann"), b = table_of("ann");

	assert_int_equal(compute(cache, &a, text, 3 * P + 5), 0);
	assert_int_equal(compute(cache, &b, other, 3 * P + 5), 2 * P);
	assert_int_equal(b.pages[0], a.pages[0]);
	assert_int_equal(b.pages[1], a.pages[1]);
	assert_int_not_equal(b.pages[2], a.pages[2]);
	assert_int_equal(ds_kv_cache_get_used(cache), 4 + 4 - 2);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(ds_kv_cache_get_used(cache), 4);
	ds_kv_cache_release(cache, &b);
	assert_int_equal(ds_kv_cache_get_used(cache), 0);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_kv_cache_free(cache);
}

static void a_released_prefix_is_found_again(void **state)
{
	struct ds_kv_cache *cache = cache_of(8);
	struct ds_page_table a = table_of("ann");

	compute(cache, &a, text, 3 * P + 1);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(compute(cache, &a, text, 3 * P + 1), 3 * P);
	ds_kv_cache_release(cache, &a);
	ds_page_table_deinit(&a);
	ds_kv_cache_free(cache);
}

static void the_last_token_is_never_taken_from_the_cache(void **state)
{
	struct ds_kv_cache *cache = cache_of(8);
	struct ds_page_table a = table_of("ann");

	compute(cache, &a, text, 2 * P);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(ds_kv_cache_match(cache, &a, text, 2 * P), P);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(ds_kv_cache_match(cache, &a, text, 1), 0);
	ds_page_table_deinit(&a);
	ds_kv_cache_free(cache);
}

static void owners_share_nothing_with_each_other(void **state)
{
	struct ds_kv_cache *cache = cache_of(16);
	struct ds_page_table a = table_of("ann"), b = table_of("bob"), c = table_of(NULL);

	compute(cache, &a, text, 4 * P);
	assert_int_equal(ds_kv_cache_match(cache, &b, text, 4 * P), 0);
	assert_int_equal(ds_kv_cache_match(cache, &c, text, 4 * P), 0);
	ds_kv_cache_release(cache, &a);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_page_table_deinit(&c);
	ds_kv_cache_free(cache);
}

static void the_same_tokens_after_another_beginning_are_another_page(void **state)
{
	struct ds_kv_cache *cache = cache_of(16);
	struct ds_page_table a = table_of("ann"), b = table_of("ann");
	uint32_t moved[2 * P + 1];

	memcpy(moved, text + P, P * sizeof(*moved)); /* page 1 of text, now page 0 */
	memcpy(moved + P, text + P, (P + 1) * sizeof(*moved));
	compute(cache, &a, text, 3 * P);
	assert_int_equal(ds_kv_cache_match(cache, &b, moved, 2 * P + 1), 0);
	ds_kv_cache_release(cache, &a);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_kv_cache_free(cache);
}

static void the_oldest_kept_pages_make_room_and_beginnings_stay_longest(void **state)
{
	struct ds_kv_cache *cache = cache_of(6);
	struct ds_page_table a = table_of("ann"), b = table_of("bob"), c = table_of(NULL);

	compute(cache, &a, text, 3 * P); /* three kept pages, then three more */
	ds_kv_cache_release(cache, &a);
	compute(cache, &b, text, 3 * P);
	ds_kv_cache_release(cache, &b);
	assert_int_equal(ds_kv_cache_get_available(cache), 6);
	assert_int_equal(ds_kv_cache_reserve(cache, &c, 2 * P), 0); /* takes the last two of ann's */
	assert_int_equal(ds_kv_cache_match(cache, &a, text, N), P);
	assert_int_equal(ds_kv_cache_match(cache, &b, text, N), 3 * P);
	ds_kv_cache_release(cache, &a);
	ds_kv_cache_release(cache, &b);
	ds_kv_cache_release(cache, &c);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_page_table_deinit(&c);
	ds_kv_cache_free(cache);
}

static void pages_taken_together_follow_one_another_in_memory(void **state)
{
	struct ds_kv_cache *cache = cache_of(4);
	struct ds_page_table a = table_of("a"), b = table_of("b");

	compute(cache, &a, text, 4 * P);
	ds_kv_cache_release(cache, &a);
	assert_int_equal(ds_kv_cache_reserve(cache, &b, P), 0);
	assert_int_equal(b.pages[0], 3); /* the end of the other text, the oldest; what is in it stays there */
	assert_int_equal(ds_kv_cache_reserve(cache, &b, 4 * P), 0);
	assert_int_equal(b.pages[0], 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(b.pages[1 + i], i);
	ds_kv_cache_release(cache, &b);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_kv_cache_free(cache);
}

static void pages_that_two_computed_at_once_are_counted_right(void **state)
{
	struct ds_kv_cache *cache = cache_of(8);
	struct ds_page_table a = table_of("ann"), b = table_of("ann"), c = table_of("ann");

	assert_int_equal(ds_kv_cache_reserve(cache, &a, 2 * P), 0);
	assert_int_equal(ds_kv_cache_reserve(cache, &b, 2 * P), 0);
	ds_kv_cache_commit(cache, &a, text, 2 * P);
	ds_kv_cache_commit(cache, &b, text, 2 * P);
	assert_int_equal(ds_kv_cache_match(cache, &c, text, N), 2 * P);
	assert_int_equal(c.pages[0], a.pages[0]);
	assert_int_equal(ds_kv_cache_get_used(cache), 4);
	ds_kv_cache_release(cache, &a);
	ds_kv_cache_release(cache, &c);
	ds_kv_cache_release(cache, &b);
	assert_int_equal(ds_kv_cache_get_used(cache), 0);
	assert_int_equal(ds_kv_cache_get_available(cache), 8);
	ds_page_table_deinit(&a);
	ds_page_table_deinit(&b);
	ds_page_table_deinit(&c);
	ds_kv_cache_free(cache);
}

/* Many sequences come and go at random; at the end every page has to be back. */
static void no_page_is_lost(void **state)
{
	struct ds_kv_cache *cache = cache_of(24);
	struct ds_page_table tables[5];
	uint32_t random = 1, have[5] = {0};

	for (int i = 0; i < 5; i++)
		tables[i] = table_of(i % 2 ? "ann" : "bob");
	for (int i = 0; i < 20000; i++) {
		int t;

		random = random * 1664525 + 1013904223;
		t = (int)(random >> 16) % 5;
		if (have[t] == 0 && (random >> 8) % 2)
			have[t] = ds_kv_cache_match(cache, &tables[t], (random >> 9) % 2 ? text : other, N);
		if ((random >> 24) % 8 == 0 || have[t] + 7 > N) {
			ds_kv_cache_release(cache, &tables[t]);
			have[t] = 0;
		} else if (ds_kv_cache_reserve(cache, &tables[t], have[t] + 7) == 0) {
			have[t] += 7;
			ds_kv_cache_commit(cache, &tables[t], text, have[t]);
		}
		assert_int_equal(ds_kv_cache_get_used(cache) + ds_kv_cache_get_available(cache), 24);
	}
	for (int i = 0; i < 5; i++) {
		ds_kv_cache_release(cache, &tables[i]);
		ds_page_table_deinit(&tables[i]);
	}
	assert_int_equal(ds_kv_cache_get_available(cache), 24);
	ds_kv_cache_free(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_grows_by_whole_pages_and_gives_them_back),
		cmocka_unit_test(what_does_not_fit_changes_nothing),
		cmocka_unit_test(running_sequences_of_one_owner_share_full_pages),
		cmocka_unit_test(a_released_prefix_is_found_again),
		cmocka_unit_test(the_last_token_is_never_taken_from_the_cache),
		cmocka_unit_test(owners_share_nothing_with_each_other),
		cmocka_unit_test(the_same_tokens_after_another_beginning_are_another_page),
		cmocka_unit_test(the_oldest_kept_pages_make_room_and_beginnings_stay_longest),
		cmocka_unit_test(pages_taken_together_follow_one_another_in_memory),
		cmocka_unit_test(pages_that_two_computed_at_once_are_counted_right),
		cmocka_unit_test(no_page_is_lost),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}

/* test-counters.c - sums that only grow, and buckets that hold what belongs in them. */
#include "../../daemon/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A request of @n_pieces pieces of output that were @n_tokens tokens. */
static void answer(struct ds_counters *c, uint64_t n_pieces, uint64_t n_tokens)
{
	for (uint64_t i = 0; i < n_pieces; i++)
		ds_counters_add_output(c);
	ds_counters_settle_output(c, n_pieces, n_tokens);
}

static void tokens_that_came_in_fewer_pieces_are_added_at_the_end(void **state)
{
	struct ds_counters c = {0};

	answer(&c, 3, 5);
	assert_int_equal(c.completion_tokens, 5);
	assert_int_equal(c.ahead, 0);
}

static void the_sum_of_tokens_never_goes_down_and_becomes_exact(void **state)
{
	static const unsigned answers[][2] = {{9, 4}, {0, 1}, {1, 1}, {2, 5}, {7, 7}, {0, 0}, {4, 0}, {1, 30}};
	struct ds_counters c = {0};
	uint64_t exact = 0, last = 0;

	for (size_t i = 0; i < DS_ARRAY_SIZE(answers); i++) {
		answer(&c, answers[i][0], answers[i][1]);
		exact += answers[i][1];
		assert_true(c.completion_tokens >= last);
		assert_int_equal(c.completion_tokens - c.ahead, exact);
		last = c.completion_tokens;
	}
	assert_int_equal(c.ahead, 0);
}

static void a_duration_on_the_border_belongs_to_the_lower_bucket(void **state)
{
	struct ds_histogram h = {0};

	for (size_t i = 0; i < DS_N_BUCKETS; i++)
		ds_histogram_add(&h, ds_bucket_usec[i]);
	ds_histogram_add(&h, ds_bucket_usec[DS_N_BUCKETS - 1] + 1);
	for (size_t i = 0; i <= DS_N_BUCKETS; i++)
		assert_int_equal(h.n[i], 1);
	for (size_t i = 1; i < DS_N_BUCKETS; i++)
		assert_true(ds_bucket_usec[i] > ds_bucket_usec[i - 1]);
}

static void a_code_that_nobody_knows_is_a_failure_and_never_a_success(void **state)
{
	assert_int_equal(ds_outcome_of_code("engine_died"), DS_OUTCOME_ENGINE_DIED);
	assert_int_equal(ds_outcome_of_code("overloaded"), DS_OUTCOME_OVERLOADED);
	assert_int_equal(ds_outcome_of_code("stop"), DS_OUTCOME_FAILED);
	assert_int_equal(ds_outcome_of_code("made up"), DS_OUTCOME_FAILED);
	assert_int_equal(ds_outcome_of_code(NULL), DS_OUTCOME_FAILED);
}

static void every_kind_and_outcome_has_a_name(void **state)
{
	for (size_t i = 0; i < DS_N_KINDS; i++)
		assert_non_null(ds_kind_names[i]);
	for (size_t i = 0; i < DS_N_OUTCOMES; i++)
		assert_non_null(ds_outcome_names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_that_came_in_fewer_pieces_are_added_at_the_end),
		cmocka_unit_test(the_sum_of_tokens_never_goes_down_and_becomes_exact),
		cmocka_unit_test(a_duration_on_the_border_belongs_to_the_lower_bucket),
		cmocka_unit_test(a_code_that_nobody_knows_is_a_failure_and_never_a_success),
		cmocka_unit_test(every_kind_and_outcome_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-vectors.c - how given logits are judged against a reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/vectors.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 0.01

/* Two rows of four: the first has a clear best, the second a near tie of 1 and 2. */
static float reference_logits[] = {0, 1, 5, 2, 0, 3.001f, 3, 1};
static uint32_t reference_argmax[] = {2, 1};
static const struct ds_reference reference = {reference_logits, 2, 4, reference_argmax};

static struct ds_comparison compare(size_t i, float change)
{
	float logits[DS_ARRAY_SIZE(reference_logits)];
	struct ds_comparison c;

	memcpy(logits, reference_logits, sizeof(logits));
	logits[i] += change;
	ds_vectors_compare(&reference, logits, TOLERANCE, &c);
	return c;
}

static void the_same_logits_hold(void **state)
{
	struct ds_comparison c = compare(0, 0);

	assert_true(c.holds && c.max_difference == 0);
	assert_int_equal(c.argmax.n_counted, 1);
	assert_int_equal(c.argmax.n_agreed, 1);
	assert_int_equal(c.argmax.n_near_ties, 1);
}

static void a_near_tie_may_fall_either_way(void **state)
{
	struct ds_comparison c = compare(6, 0.005f);

	assert_true(c.holds);
	assert_int_equal(c.argmax.n_near_ties, 1);
}

static void a_difference_beyond_the_tolerance_fails(void **state)
{
	struct ds_comparison c = compare(0, -0.02f);

	assert_false(c.holds);
	assert_true(fabs(c.max_difference - 0.02) < 1e-6);
	assert_int_equal(c.argmax.n_agreed, 1);
}

static void another_argmax_fails(void **state)
{
	assert_int_equal(compare(3, 9).argmax.n_agreed, 0);
}

static void what_is_no_number_never_holds(void **state)
{
	struct ds_comparison c = compare(0, NAN);

	assert_false(c.holds);
	assert_true(isnan(c.max_difference));
	assert_false(compare(7, INFINITY).holds);
}

/* Greedy tokens 2, 1, 2 at gaps clear, near, clear. */
static struct ds_comparison compare_greedy(int second, int third)
{
	json_t *tokens = json_pack("[iii]", 2, 1, 2), *gaps = json_pack("[fff]", 3.0, 0.001, 1.0);
	struct ds_vectors v = {.main = reference, .greedy = tokens, .greedy_gaps = gaps, .n_greedy = 3};
	float logits[12] = {[2] = 1};
	struct ds_comparison c = {.holds = true};

	logits[4 + second] = 1;
	logits[8 + third] = 1;
	ds_vectors_compare_greedy(&v, logits, TOLERANCE, &c);
	json_decref(tokens);
	json_decref(gaps);
	return c;
}

static void greedy_tokens_are_counted_where_they_are_no_tie(void **state)
{
	struct ds_comparison c = compare_greedy(1, 2);

	assert_true(c.holds);
	assert_int_equal(c.greedy.n_counted, 2);
	assert_int_equal(c.greedy.n_agreed, 2);
	assert_int_equal(c.greedy.n_near_ties, 1);
}

static void after_a_tie_taken_the_other_way_nothing_is_counted(void **state)
{
	struct ds_comparison c = compare_greedy(3, 0);

	assert_true(c.holds);
	assert_int_equal(c.greedy.n_counted, 1);
	assert_int_equal(c.greedy.n_near_ties, 2);
}

static void a_wrong_greedy_token_fails(void **state)
{
	struct ds_comparison c = compare_greedy(1, 0);

	assert_false(c.holds);
	assert_int_equal(c.greedy.n_agreed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_logits_hold),
		cmocka_unit_test(a_near_tie_may_fall_either_way),
		cmocka_unit_test(a_difference_beyond_the_tolerance_fails),
		cmocka_unit_test(another_argmax_fails),
		cmocka_unit_test(what_is_no_number_never_holds),
		cmocka_unit_test(greedy_tokens_are_counted_where_they_are_no_tie),
		cmocka_unit_test(after_a_tie_taken_the_other_way_nothing_is_counted),
		cmocka_unit_test(a_wrong_greedy_token_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-sampler-core.c - the steps one by one against definitions written the slow way, and the chain as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core.h"
#include "random.h"

#define MAX_CANDIDATES 4096

extern const struct ds_plugin ds_plugin;

static struct ds_candidate data[MAX_CANDIDATES];

/* Candidates with ids 0, 1, ... and these logits. */
static struct ds_candidates candidates_of(const float *logits, size_t n)
{
	assert_true(n > 0 && n <= MAX_CANDIDATES);
	for (size_t i = 0; i < n; i++)
		data[i] = (struct ds_candidate){.id = (uint32_t)i, .logit = logits[i]};
	return (struct ds_candidates){.data = data, .n = n, .picked = DS_NO_TOKEN};
}

static void *open_step(const struct ds_sampler_ops *ops, const struct ds_setting *settings, uint64_t seed, size_t vocab)
{
	void *self = NULL;

	assert_int_equal(ops->open(&self, NULL, settings, seed, vocab, NULL), 0);
	return self;
}

/* Open a step with one setting, apply it once. */
static void apply_once(const struct ds_sampler_ops *ops, const char *name, double value, struct ds_candidates *c)
{
	const struct ds_setting settings[] = {{.name = name, .value = value}, {.name = NULL}};
	void *self = open_step(ops, settings, 1, MAX_CANDIDATES);

	ops->apply(self, c);
	ops->close(self);
}

static bool is_kept(const struct ds_candidates *c, uint32_t id)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->data[i].id == id)
			return true;
	return false;
}

static uint32_t pick_with(double temperature, const float *logits, size_t n)
{
	struct ds_candidates c = candidates_of(logits, n);

	apply_once(&ds_pick_ops, "temperature", temperature, &c);
	return c.picked;
}

/* The generator as published: https://prng.di.unimi.it/xoshiro256starstar.c with this state gives these numbers. */
static void the_generator_gives_the_published_numbers(void **state)
{
	struct ds_random random = {.state = {1, 2, 3, 4}};
	uint64_t counter = 1234567;

	assert_true(ds_random_next(&random) == 11520);
	assert_true(ds_random_next(&random) == 0);
	assert_true(ds_random_next(&random) == 1509978240);
	assert_true(ds_random_next(&random) == 1215971899390074240u);
	assert_true(ds_splitmix(&counter) == 6457827717110365317u);
	assert_true(ds_splitmix(&counter) == 3203168211198807973u);
}

static void a_repetition_penalty_counts_prompt_and_answer_once(void **state)
{
	const struct ds_setting settings[] = {{.name = "repetition_penalty", .value = 2}, {.name = NULL}};
	const float logits[] = {4, -4, 4, 0};
	struct ds_candidates c = candidates_of(logits, 4);
	void *self = open_step(&ds_penalties_ops, settings, 1, 4);

	ds_penalties_ops.accept(self, 0);
	ds_penalties_ops.accept(self, 0);
	ds_penalties_ops.apply(self, &c);
	ds_penalties_ops.accept(self, 1);
	c = candidates_of(logits, 4);
	ds_penalties_ops.apply(self, &c);
	assert_true(data[0].logit == 2 && data[1].logit == -8 && data[2].logit == 4 && data[3].logit == 0);
	ds_penalties_ops.close(self);
}

static void presence_and_frequency_count_the_answer_alone(void **state)
{
	const struct ds_setting settings[] = {{.name = "presence_penalty", .value = 0.5},
					      {.name = "frequency_penalty", .value = 0.25},
					      {.name = NULL}};
	const float logits[] = {1, 1, 1};
	struct ds_candidates c = candidates_of(logits, 3);
	void *self = open_step(&ds_penalties_ops, settings, 1, 3);

	ds_penalties_ops.accept(self, 0); /* the prompt */
	ds_penalties_ops.apply(self, &c);
	assert_true(data[0].logit == 1);
	ds_penalties_ops.accept(self, 1);
	ds_penalties_ops.accept(self, 1);
	ds_penalties_ops.accept(self, 2);
	c = candidates_of(logits, 3);
	ds_penalties_ops.apply(self, &c);
	assert_true(data[0].logit == 1 && data[1].logit == 0 && data[2].logit == 0.25f);
	ds_penalties_ops.close(self);
}

static void a_token_outside_the_vocabulary_is_not_counted(void **state)
{
	const struct ds_setting settings[] = {{.name = "presence_penalty", .value = 1}, {.name = NULL}};
	const float logits[] = {1, 1, 1};
	struct ds_candidates c = candidates_of(logits, 3);
	void *self = open_step(&ds_penalties_ops, settings, 1, 2);

	ds_penalties_ops.accept(self, 2);
	ds_penalties_ops.accept(self, DS_NO_TOKEN);
	ds_penalties_ops.apply(self, &c);
	assert_true(data[2].logit == 1);
	ds_penalties_ops.close(self);
}

static void a_tiny_temperature_still_chooses_the_best(void **state)
{
	const float logits[] = {30, 31, 29.5f, -INFINITY, NAN};
	struct ds_candidates c = candidates_of(logits, 5);

	apply_once(&ds_temperature_ops, "temperature", 1e-3, &c);
	apply_once(&ds_pick_ops, "temperature", 1e-3, &c);
	assert_int_equal(c.picked, 1);
	assert_int_equal(pick_with(1e-40, logits, 5), 1);
}

/* Logits with many ties, infinities and numbers that are none. */
static void fill_with_hard_logits(float *logits, size_t n, uint64_t seed)
{
	struct ds_random random;

	ds_random_init(&random, seed);
	for (size_t i = 0; i < n; i++) {
		uint64_t r = ds_random_next(&random);

		logits[i] = (float)(r % 41) / 4 - 5;
		if (r >> 58 == 0)
			logits[i] = NAN;
		else if (r >> 58 == 1)
			logits[i] = -INFINITY;
		else if (r >> 58 == 2)
			logits[i] = -0.0f;
		else if (r >> 62 == 3)
			logits[i] = (float)(ds_random_unit(&random) * 12 - 6);
	}
}

static int by_rank(const void *a, const void *b)
{
	uint64_t x = ds_candidate_rank(a), y = ds_candidate_rank(b);

	return x > y ? -1 : x < y;
}

static void top_k_is_the_beginning_of_the_sorted_list(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 7, 64, 1000, MAX_CANDIDATES};
	static float logits[MAX_CANDIDATES];
	static struct ds_candidate sorted[MAX_CANDIDATES];

	for (size_t s = 0; s < DS_ARRAY_SIZE(sizes); s++) {
		size_t n = sizes[s];

		fill_with_hard_logits(logits, n, n);
		for (size_t k = 1; k <= n; k = k * 3 + 1) {
			struct ds_candidates c = candidates_of(logits, n);

			memcpy(sorted, data, n * sizeof(*data));
			qsort(sorted, n, sizeof(*sorted), by_rank);
			apply_once(&ds_top_k_ops, "top_k", (double)k, &c);
			assert_int_equal(c.n, k);
			for (size_t i = 0; i < k; i++)
				assert_true(is_kept(&c, sorted[i].id));
		}
	}
}

static void top_p_is_the_beginning_of_the_sorted_list(void **state)
{
	static const double bounds[] = {0, 0.01, 0.3, 0.5, 0.9, 0.95, 0.999};
	static float logits[MAX_CANDIDATES];
	static struct ds_candidate sorted[MAX_CANDIDATES];

	for (size_t n = 1; n <= MAX_CANDIDATES; n = n * 5 / 2 + 1) {
		fill_with_hard_logits(logits, n, n + 99);
		logits[0] = 1;
		for (size_t b = 0; b < DS_ARRAY_SIZE(bounds); b++) {
			struct ds_candidates c = candidates_of(logits, n);
			float best = ds_candidates_best(&c);
			double total = 0, sum = 0;
			size_t kept = 0;

			memcpy(sorted, data, n * sizeof(*data));
			qsort(sorted, n, sizeof(*sorted), by_rank);
			for (size_t i = 0; i < n; i++)
				total += ds_candidate_weight(&sorted[i], best);
			while (kept == 0 || sum < bounds[b] * total)
				sum += ds_candidate_weight(&sorted[kept++], best);
			apply_once(&ds_top_p_ops, "top_p", bounds[b], &c);
			assert_int_equal(c.n, kept);
			for (size_t i = 0; i < kept; i++)
				assert_true(is_kept(&c, sorted[i].id));
		}
	}
}

static void min_p_keeps_the_order(void **state)
{
	const float logits[] = {0, -1, -3, -0.5f, NAN, -INFINITY};
	struct ds_candidates c = candidates_of(logits, 6);

	apply_once(&ds_min_p_ops, "min_p", 0.3, &c); /* ln 0.3 = -1.2 */
	assert_int_equal(c.n, 3);
	assert_true(data[0].id == 0 && data[1].id == 1 && data[2].id == 3);
}

static void a_single_candidate_survives_everything(void **state)
{
	static const float logits[][1] = {{3}, {-INFINITY}, {INFINITY}, {NAN}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(logits); i++) {
		struct ds_candidates c = candidates_of(logits[i], 1);

		apply_once(&ds_top_k_ops, "top_k", 1, &c);
		apply_once(&ds_top_p_ops, "top_p", 0.1, &c);
		apply_once(&ds_min_p_ops, "min_p", 1, &c);
		assert_int_equal(c.n, 1);
		assert_int_equal(pick_with(1, logits[i], 1), 0);
		assert_int_equal(pick_with(0, logits[i], 1), 0);
	}
}

static void greedy_takes_the_lowest_id_of_a_tie_in_any_order(void **state)
{
	const float logits[] = {1, 5, 5, -0.0f};
	struct ds_candidates c = candidates_of(logits, 4);

	assert_int_equal(pick_with(0, logits, 4), 1);
	data[1].id = 2;
	data[2].id = 1;
	apply_once(&ds_pick_ops, "temperature", 0, &c);
	assert_int_equal(c.picked, 1);
	assert_int_equal(pick_with(0, (const float[]){-0.0f, 0.0f}, 2), 0);
}

static void what_is_no_number_is_never_picked(void **state)
{
	const float logits[] = {NAN, 2, NAN, -INFINITY, 2};

	assert_int_equal(pick_with(0, logits, 5), 1);
	for (int i = 0; i < 200; i++) {
		const struct ds_setting none[] = {{.name = NULL}};
		struct ds_candidates c = candidates_of(logits, 5);
		void *self = open_step(&ds_pick_ops, none, (uint64_t)i, 5);

		ds_pick_ops.apply(self, &c);
		assert_true(c.picked == 1 || c.picked == 4);
		ds_pick_ops.close(self);
	}
}

static void if_everything_is_impossible_the_lowest_id_is_picked(void **state)
{
	const float logits[] = {NAN, -INFINITY, -INFINITY};

	assert_int_equal(pick_with(0, logits, 3), 0);
	assert_int_equal(pick_with(1, logits, 3), 0);
}

static void infinite_logits_share_the_probability(void **state)
{
	const float logits[] = {0, INFINITY, 5, INFINITY};
	const struct ds_setting none[] = {{.name = NULL}};
	void *self = open_step(&ds_pick_ops, none, 3, 4);
	unsigned n[4] = {0};

	for (int i = 0; i < 1000; i++) {
		struct ds_candidates c = candidates_of(logits, 4);

		ds_pick_ops.apply(self, &c);
		n[c.picked]++;
	}
	assert_true(n[0] == 0 && n[2] == 0 && n[1] > 400 && n[3] > 400);
	ds_pick_ops.close(self);
}

/* Chi-squared over eight tokens: with 7 degrees of freedom, 24.3 is exceeded once in a thousand seeds. */
static void the_draws_follow_the_softmax(void **state)
{
	enum { N = 8, DRAWS = 100000 };
	const struct ds_setting none[] = {{.name = NULL}};
	void *self = open_step(&ds_pick_ops, none, 2024, N);
	float logits[N];
	unsigned n[N] = {0};
	double total = 0, chi = 0;

	for (int i = 0; i < N; i++) {
		logits[i] = 0.5f * (float)((i * 5) % N) - 2;
		total += exp(logits[i]);
	}
	for (int i = 0; i < DRAWS; i++) {
		struct ds_candidates c = candidates_of(logits, N);

		ds_pick_ops.apply(self, &c);
		assert_true(c.picked < N);
		n[c.picked]++;
	}
	for (int i = 0; i < N; i++) {
		double expected = DRAWS * exp(logits[i]) / total;

		chi += (n[i] - expected) * (n[i] - expected) / expected;
	}
	assert_true(chi < 24.3);
	ds_pick_ops.close(self);
}

static void the_same_seed_gives_the_same_draws(void **state)
{
	const struct ds_setting none[] = {{.name = NULL}};
	float logits[100] = {0};
	void *a = open_step(&ds_pick_ops, none, 7, 100);
	void *b = open_step(&ds_pick_ops, none, 7, 100);
	void *other = open_step(&ds_pick_ops, none, 8, 100);
	int n_different = 0;

	for (int i = 0; i < 50; i++) {
		struct ds_candidates c = candidates_of(logits, 100);
		uint32_t picked;

		ds_pick_ops.apply(a, &c);
		picked = c.picked;
		ds_pick_ops.apply(b, &c);
		assert_int_equal(c.picked, picked);
		ds_pick_ops.apply(other, &c);
		n_different += c.picked != picked;
	}
	assert_true(n_different > 40);
	ds_pick_ops.close(a);
	ds_pick_ops.close(b);
	ds_pick_ops.close(other);
}

static void steps_without_effect_are_inactive(void **state)
{
	static const struct {
		const struct ds_sampler_ops *ops;
		const char *name;
		double idle, active;
		bool narrows;
	} cases[] = {
		{&ds_penalties_ops, "repetition_penalty", 1, 1.1, false},
		{&ds_penalties_ops, "presence_penalty", 0, -1, false},
		{&ds_penalties_ops, "frequency_penalty", 0, 1, false},
		{&ds_temperature_ops, "temperature", 1, 0.6, false},
		{&ds_temperature_ops, "temperature", 0, 2, false},
		{&ds_top_k_ops, "top_k", 0, 40, true},
		{&ds_top_p_ops, "top_p", 1, 0.95, true},
		{&ds_min_p_ops, "min_p", 0, 0.05, true},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct ds_setting settings[] = {
			{.name = cases[i].name, .value = cases[i].idle}, {.name = NULL}, {.name = NULL}};

		assert_false(cases[i].ops->active(settings));
		settings[0].value = cases[i].active;
		assert_true(cases[i].ops->active(settings));
		settings[1] = (struct ds_setting){.name = "temperature", .value = 0};
		if (cases[i].narrows)
			assert_false(cases[i].ops->active(settings));
	}
	assert_true(ds_pick_ops.active(NULL));
}

static void the_chain_is_listed_in_the_order_in_which_it_runs(void **state)
{
	static const char *const order[] = {"penalties", "temperature", "top_k", "top_p", "min_p", "pick"};

	for (size_t i = 0; i < DS_ARRAY_SIZE(order); i++) {
		const struct ds_sampler_ops *ops = ds_plugin.entries[i].ops;

		assert_string_equal(ds_plugin.entries[i].name, order[i]);
		assert_int_equal(ops->size, sizeof(*ops));
	}
	assert_null(ds_plugin.entries[DS_ARRAY_SIZE(order)].name);
	for (const struct ds_option *o = ds_plugin.options; o->name; o++)
		assert_true(o->min <= o->value && o->value <= o->max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_generator_gives_the_published_numbers),
		cmocka_unit_test(a_repetition_penalty_counts_prompt_and_answer_once),
		cmocka_unit_test(presence_and_frequency_count_the_answer_alone),
		cmocka_unit_test(a_token_outside_the_vocabulary_is_not_counted),
		cmocka_unit_test(a_tiny_temperature_still_chooses_the_best),
		cmocka_unit_test(top_k_is_the_beginning_of_the_sorted_list),
		cmocka_unit_test(top_p_is_the_beginning_of_the_sorted_list),
		cmocka_unit_test(min_p_keeps_the_order),
		cmocka_unit_test(a_single_candidate_survives_everything),
		cmocka_unit_test(greedy_takes_the_lowest_id_of_a_tie_in_any_order),
		cmocka_unit_test(what_is_no_number_is_never_picked),
		cmocka_unit_test(if_everything_is_impossible_the_lowest_id_is_picked),
		cmocka_unit_test(infinite_logits_share_the_probability),
		cmocka_unit_test(the_draws_follow_the_softmax),
		cmocka_unit_test(the_same_seed_gives_the_same_draws),
		cmocka_unit_test(steps_without_effect_are_inactive),
		cmocka_unit_test(the_chain_is_listed_in_the_order_in_which_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-sampler-core.c - the steps one by one against definitions written the slow way, and the chain as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core.h"
#include "random.h"

#include <deepseekd/exp.h>

#define MAX_CANDIDATES 8192

extern const struct ds_plugin ds_plugin;

static uint32_t ids[MAX_CANDIDATES];
static float columns[2][MAX_CANDIDATES]; /* logits, weights */

/* Candidates with ids 0, 1, ... and these logits. */
static struct ds_candidates candidates_of(const float *logits, size_t n)
{
	assert_true(n > 0 && n <= MAX_CANDIDATES);
	for (size_t i = 0; i < n; i++) {
		ids[i] = (uint32_t)i;
		columns[0][i] = logits[i];
	}
	return (struct ds_candidates){
		.ids = ids, .logits = columns[0], .weights = columns[1], .n = n, .picked = DS_NO_TOKEN};
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
	assert_true(c.logits[0] == 2 && c.logits[1] == -8 && c.logits[2] == 4 && c.logits[3] == 0);
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
	assert_true(c.logits[0] == 1);
	ds_penalties_ops.accept(self, 1);
	ds_penalties_ops.accept(self, 1);
	ds_penalties_ops.accept(self, 2);
	c = candidates_of(logits, 3);
	ds_penalties_ops.apply(self, &c);
	assert_true(c.logits[0] == 1 && c.logits[1] == 0 && c.logits[2] == 0.25f);
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
	assert_true(c.logits[2] == 1);
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

enum shape {
	SHAPE_HARD,   /* many ties, infinities and numbers that are none */
	SHAPE_WORDS,  /* a few stand out, as in a language */
	SHAPE_FLAT,   /* none does */
	SHAPE_EQUAL,  /* all are the same */
	SHAPE_ENDLESS, /* some are infinite */
	SHAPE_HOPELESS, /* all are impossible, or no numbers */
	N_SHAPES,
};

static float hard_logit(struct ds_random *random)
{
	uint64_t r = ds_random_next(random);

	if (r >> 58 == 0)
		return NAN;
	if (r >> 58 == 1)
		return -INFINITY;
	if (r >> 58 == 2)
		return -0.0f;
	return r >> 62 == 3 ? (float)(ds_random_unit(random) * 12 - 6) : (float)(r % 41) / 4 - 5;
}

static void fill(float *logits, size_t n, enum shape shape, uint64_t seed)
{
	struct ds_random random;

	ds_random_init(&random, seed);
	for (size_t i = 0; i < n; i++) {
		double u = ds_random_unit(&random);

		logits[i] = shape == SHAPE_HARD	     ? hard_logit(&random)
			    : shape == SHAPE_WORDS   ? (float)(-2 * log(u + 1e-12) - 12)
			    : shape == SHAPE_FLAT    ? (float)u
			    : shape == SHAPE_EQUAL   ? 2.5f
			    : shape == SHAPE_ENDLESS ? (u < 0.05 ? INFINITY : (float)u)
						     : (u < 0.5 ? NAN : -INFINITY);
	}
}

/* A candidate as the definitions see it. */
struct plain {
	size_t id;
	double logit, weight;
	bool kept;
};

static int by_falling_logit(const void *a, const void *b)
{
	const struct plain *x = a, *y = b;

	return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id > y->id ? 1 : -1;
}

static int by_rising_id(const void *a, const void *b)
{
	const struct plain *x = a, *y = b;

	return x->id > y->id ? 1 : -1;
}

static double sort_plain(struct plain *plain, const float *logits, size_t n)
{
	double best = -INFINITY, total = 0;

	for (size_t i = 0; i < n; i++) {
		plain[i] = (struct plain){.id = i, .logit = isnan(logits[i]) ? -INFINITY : logits[i]};
		best = fmax(best, plain[i].logit);
	}
	for (size_t i = 0; i < n; i++) {
		plain[i].weight = plain[i].logit == best ? 1 : expf((float)(plain[i].logit - best));
		total += plain[i].weight;
	}
	qsort(plain, n, sizeof(*plain), by_falling_logit);
	return total;
}

/* What is left is what is marked, in the order in which it was. */
static void assert_kept(const struct ds_candidates *c, struct plain *plain, const float *logits, size_t n)
{
	size_t left = 0;

	qsort(plain, n, sizeof(*plain), by_rising_id);
	for (size_t i = 0; i < n; i++) {
		if (!plain[i].kept)
			continue;
		assert_true(left < c->n);
		assert_int_equal(c->ids[left], i);
		assert_memory_equal(&c->logits[left], &logits[i], sizeof(*logits));
		left++;
	}
	assert_int_equal(c->n, left);
}

static const size_t sizes[] = {1, 2, 3, 7, 64, 65, 1000, 4097, MAX_CANDIDATES};
static float shaped[MAX_CANDIDATES];
static struct plain plain[MAX_CANDIDATES];

static void top_k_is_the_beginning_of_the_sorted_list(void **state)
{
	for (unsigned shape = 0; shape < N_SHAPES; shape++)
		for (size_t s = 0; s < DS_ARRAY_SIZE(sizes); s++)
			for (size_t n = sizes[s], k = 1; k <= n; k = k * 3 + 1) {
				struct ds_candidates c;

				fill(shaped, n, shape, n);
				c = candidates_of(shaped, n);
				sort_plain(plain, shaped, n);
				for (size_t i = 0; i < k; i++)
					plain[i].kept = true;
				apply_once(&ds_top_k_ops, "top_k", (double)k, &c);
				assert_kept(&c, plain, shaped, n);
			}
}

static void top_p_is_the_beginning_of_the_sorted_list(void **state)
{
	static const double bounds[] = {0, 1e-9, 0.01, 0.3, 0.5, 0.9, 0.95, 0.999, 0.9999999};

	for (unsigned shape = 0; shape < N_SHAPES; shape++)
		for (size_t s = 0; s < DS_ARRAY_SIZE(sizes); s++)
			for (size_t b = 0; b < DS_ARRAY_SIZE(bounds); b++) {
				size_t n = sizes[s], kept = 0;
				struct ds_candidates c;
				double total, sum = 0;

				fill(shaped, n, shape, n + 99);
				c = candidates_of(shaped, n);
				total = sort_plain(plain, shaped, n);
				while (kept == 0 || sum < bounds[b] * total) {
					sum += plain[kept].weight;
					plain[kept++].kept = true;
				}
				apply_once(&ds_top_p_ops, "top_p", bounds[b], &c);
				assert_kept(&c, plain, shaped, n);
			}
}

static void min_p_is_a_bound_beside_the_best(void **state)
{
	for (unsigned shape = 0; shape < N_SHAPES; shape++)
		for (size_t s = 0; s < DS_ARRAY_SIZE(sizes); s++) {
			size_t n = sizes[s];
			struct ds_candidates c;
			float bound;

			fill(shaped, n, shape, n + 7);
			c = candidates_of(shaped, n);
			sort_plain(plain, shaped, n);
			bound = (float)plain[0].logit + logf(0.05f);
			for (size_t i = 0; i < n; i++)
				plain[i].kept = plain[i].logit >= bound;
			apply_once(&ds_min_p_ops, "min_p", 0.05, &c);
			assert_kept(&c, plain, shaped, n);
		}
}

/* The draw goes through the list once, in its order. */
static void the_draw_is_where_the_sum_of_weights_passes_the_point(void **state)
{
	const struct ds_setting none[] = {{.name = NULL}};

	for (unsigned shape = 0; shape < SHAPE_HOPELESS; shape++)
		for (uint64_t seed = 0; seed < 50; seed++) {
			void *self = open_step(&ds_pick_ops, none, seed, MAX_CANDIDATES);
			struct ds_random random;
			struct ds_candidates c;
			double point;
			size_t picked = 0;

			fill(shaped, MAX_CANDIDATES, shape, seed);
			c = candidates_of(shaped, MAX_CANDIDATES);
			point = sort_plain(plain, shaped, MAX_CANDIDATES);
			qsort(plain, MAX_CANDIDATES, sizeof(*plain), by_rising_id);
			ds_random_init(&random, seed);
			point *= ds_random_unit(&random);
			for (size_t i = 0; i < MAX_CANDIDATES && point >= 0; i++) {
				if (plain[i].weight > 0)
					picked = i;
				point -= plain[i].weight;
			}
			ds_pick_ops.apply(self, &c);
			assert_int_equal(c.picked, picked);
			ds_pick_ops.close(self);
		}
}

static void the_exponential_is_as_exact_as_a_float(void **state)
{
	for (unsigned i = 0; i < 870000; i++) {
		float x = -(float)i / 10000;
		double want = exp(x);

		assert_true(fabs(ds_exp(x) - want) <= 0x1p-23 * want);
	}
	assert_true(ds_exp(0) == 1 && ds_exp(-INFINITY) == 0 && ds_exp(NAN) == 0 && ds_exp(-88) == 0);
}

static void min_p_keeps_the_order(void **state)
{
	const float logits[] = {0, -1, -3, -0.5f, NAN, -INFINITY};
	struct ds_candidates c = candidates_of(logits, 6);

	apply_once(&ds_min_p_ops, "min_p", 0.3, &c); /* ln 0.3 = -1.2 */
	assert_int_equal(c.n, 3);
	assert_true(c.ids[0] == 0 && c.ids[1] == 1 && c.ids[2] == 3);
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
	c.ids[1] = 2;
	c.ids[2] = 1;
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
		cmocka_unit_test(min_p_is_a_bound_beside_the_best),
		cmocka_unit_test(min_p_keeps_the_order),
		cmocka_unit_test(the_draw_is_where_the_sum_of_weights_passes_the_point),
		cmocka_unit_test(the_exponential_is_as_exact_as_a_float),
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

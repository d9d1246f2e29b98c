/* filters.c - the steps that shape or narrow the choice without making it: temperature, top_k, top_p, min_p.
 *
 * top_k and top_p ask the same question: of the candidates in falling order, the shortest beginning whose weights reach
 * a target, every weight being 1 for top_k and the probability for top_p. keep_heaviest() answers it without sorting,
 * in time linear in the number of candidates. As these are all of the vocabulary (up to 152 064) at every token, each step
 * first drops what it can prove to be outside, in one pass of vectors; of the words of a language that is nearly all. */
#include "core.h"

#define DIGIT_BITS 10 /* enough to tell most logits apart at the first look */
#define DIGITS (1u << DIGIT_BITS)
#define TABLES 4
#define BOUNDS 3 /* that one pass over the candidates tries */
#define WINDOW_ROUNDS 5 /* passes, each of which leaves a quarter of the window */
#define WINDOW_FROM 4096 /* candidates for which passes are worth it */
#define GROUP 64 /* candidates whose best stands for them when top_k looks for a bound */

/* A step with one parameter. */
struct filter {
	double value;
	uint32_t room[]; /* [vocab] for steps that select */
};

static int open_filter(void **self, double value, size_t room, struct ds_error *err)
{
	struct filter *filter = calloc(1, sizeof(*filter) + room * sizeof(filter->room[0]));

	if (!filter)
		return ds_fail(err, -ENOMEM, "no memory for a sampling step");
	filter->value = value;
	*self = filter;
	return 0;
}

/* Is one of GROUP keys at least @bound? */
static inline bool reaches(const float *keys, float bound)
{
	unsigned any = 0;

#pragma omp simd reduction(| : any)
	for (size_t j = 0; j < GROUP; j++)
		any |= keys[j] >= bound;
	return any;
}

/* Keep the candidates whose @keys, the logits or the weights, are at least @bound. Most groups have none; in those that
 * have, a branch would be as good as random. */
DS_WIDE static void keep_from(struct ds_candidates *c, const float *keys, float bound)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n; i += GROUP) {
		size_t end = c->n - i < GROUP ? c->n : i + GROUP;

		if (end == i + GROUP && !reaches(keys + i, bound))
			continue;
		for (size_t j = i; j < end; j++) {
			bool keep = keys[j] >= bound;

			c->ids[n] = c->ids[j];
			c->logits[n] = c->logits[j];
			c->weights[n] = c->weights[j];
			n += keep;
		}
	}
	c->n = n;
}

static unsigned digit_of(const struct ds_candidates *c, size_t i, int shift)
{
	return (unsigned)(ds_candidate_rank(c, i) >> shift) & (DIGITS - 1);
}

/* The digit at which the weights of the @n candidates of @list, added from the highest digit down, reach @target; *@before
 * is what the digits above it weigh. Where rounding leaves the sum just short, the lowest digit that occurs. */
static unsigned find_pivot(const struct ds_candidates *c, const uint32_t *list, size_t n, int shift, double target,
			   double *before)
{
	double weights[DIGITS][TABLES] = {0}; /* neighbours in the list do not wait for each other */
	unsigned lowest = DIGITS - 1, highest = 0;
	double sum = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned digit = digit_of(c, list[i], shift);

		weights[digit][i % TABLES] += c->weights[list[i]];
		lowest = digit < lowest ? digit : lowest;
		highest = digit > highest ? digit : highest;
	}
	for (unsigned digit = highest;; digit--) {
		*before = sum;
		for (size_t i = 0; i < TABLES; i++)
			sum += weights[digit][i];
		if (sum >= target || digit == lowest)
			return digit;
	}
}

/* The shift that leaves of the ranks of @list the highest digit in which they differ. */
static int find_shift(const struct ds_candidates *c, const uint32_t *list, size_t n)
{
	uint64_t first = ds_candidate_rank(c, list[0]), differ = 1;
	int bits;

	for (size_t i = 1; i < n; i++)
		differ |= ds_candidate_rank(c, list[i]) ^ first;
	bits = 64 - __builtin_clzll(differ);
	return bits > DIGIT_BITS ? bits - DIGIT_BITS : 0;
}

/* Logits between which the falling order reaches a target: those from @high on weigh @above, which is less; with those from
 * @low on it is reached. */
struct window {
	float low, high;
	double above;
};

static const struct window empty_window = {INFINITY, -INFINITY, 0};

/* What the candidates weigh whose logits are at least each of the @bounds. */
DS_WIDE static void weigh_from(const struct ds_candidates *c, const float bounds[BOUNDS], double sums[BOUNDS])
{
	const float *logits = c->logits, *weights = c->weights;
	size_t n = c->n, whole = n - n % LANES;
	double lanes[BOUNDS][LANES] = {0};

	for (size_t i = 0; i < whole; i += LANES)
		for (size_t b = 0; b < BOUNDS; b++)
#pragma omp simd
			for (size_t j = 0; j < LANES; j++)
				lanes[b][j] += logits[i + j] >= bounds[b] ? weights[i + j] : 0.0f;
	for (size_t b = 0; b < BOUNDS; b++) {
		sums[b] = 0;
		for (size_t j = 0; j < LANES; j++)
			sums[b] += lanes[b][j];
		for (size_t i = whole; i < n; i++)
			sums[b] += logits[i] >= bounds[b] ? weights[i] : 0.0f;
	}
}

/* A narrow window for @target, between @low, from which on it is reached, and the best logit. */
static struct window find_window(const struct ds_candidates *c, double target, float low, float best)
{
	struct window w = {low, INFINITY, 0};
	float top = best;

	for (unsigned round = 0; round < WINDOW_ROUNDS; round++) {
		float bounds[BOUNDS];
		double sums[BOUNDS];

		for (size_t b = 0; b < BOUNDS; b++)
			bounds[b] = w.low + (top - w.low) * ((float)b + 1) / (BOUNDS + 1);
		if (!(bounds[0] > w.low && bounds[BOUNDS - 1] < top))
			break;
		weigh_from(c, bounds, sums);
		for (size_t b = 0; b < BOUNDS; b++) {
			if (sums[b] >= target) {
				w.low = bounds[b];
				continue;
			}
			w.high = top = bounds[b];
			w.above = sums[b];
			break;
		}
	}
	return w;
}

/* The candidates in @window, into @list. Most groups have none. */
DS_WIDE static size_t list_window(const struct ds_candidates *c, const struct window *window, uint32_t *list)
{
	float low = window->low, high = window->high;
	size_t n = 0;

	for (size_t i = 0; i < c->n; i += GROUP) {
		size_t end = c->n - i < GROUP ? c->n : i + GROUP;
		unsigned any = end < i + GROUP;

#pragma omp simd reduction(| : any)
		for (size_t j = 0; j < end - i; j++)
			any |= (c->logits[i + j] >= low) & (c->logits[i + j] < high);
		for (size_t j = i; any && j < end; j++) {
			list[n] = (uint32_t)j;
			n += c->logits[j] >= low && c->logits[j] < high;
		}
	}
	return n;
}

/* Keep what ranks at least as high as candidate @i. No branch: half may stay, in no order. */
static void keep_up_to(struct ds_candidates *c, size_t i)
{
	uint64_t last = ds_candidate_rank(c, i);
	uint32_t id = c->ids[i];
	float logit = c->logits[i];
	bool plain = logit > -INFINITY; /* so that nothing that is no number stays */
	size_t n = 0;

	for (size_t j = 0; j < c->n; j++) {
		float other = c->logits[j];
		bool keep = plain ? (other > logit) | ((other == logit) & (c->ids[j] <= id))
				  : ds_candidate_rank(c, j) >= last;

		c->ids[n] = c->ids[j];
		c->logits[n] = other;
		n += keep;
	}
	c->n = n;
}

/* Keep the shortest beginning of the falling order whose weights reach @target, and at least one candidate.
 * The end is looked for in @window alone, unless that is empty. Looks at one digit of the rank after the other, highest
 * first: what lies above the digit where the sum crosses the target stays, what lies below goes, and only what shares the
 * digit is looked at again. Ranks are unique, so that in the end one candidate is left, the last that is kept. @list has
 * room for all. */
static void keep_heaviest(struct ds_candidates *c, double target, struct window window, uint32_t *list)
{
	size_t n_left = list_window(c, &window, list);

	if (n_left > 0)
		target -= window.above;
	else
		for (; n_left < c->n; n_left++)
			list[n_left] = (uint32_t)n_left;
	while (n_left > 1) {
		int shift = find_shift(c, list, n_left);
		double before = 0;
		unsigned pivot = find_pivot(c, list, n_left, shift, target, &before);
		size_t n_equal = 0;

		for (size_t i = 0; i < n_left; i++) {
			uint32_t candidate = list[i];

			list[n_equal] = candidate;
			n_equal += digit_of(c, candidate, shift) == pivot;
		}
		n_left = n_equal;
		target -= before;
	}
	keep_up_to(c, list[0]);
}

static bool temperature_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "temperature", DEFAULT_TEMPERATURE) != 1;
}

static int temperature_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
			    size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "temperature", DEFAULT_TEMPERATURE), 0, err);
}

DS_WIDE static void temperature_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;
	float *logits = candidates->logits;
	double value = filter->value;
	size_t n = candidates->n;

#pragma omp simd
	for (size_t i = 0; i < n; i++)
		logits[i] = (float)(logits[i] / value);
	/* Rounding may make ties, so that an order by falling logit need no longer be one by rising id among them. */
	candidates->sorted = false;
}

static bool top_k_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "top_k", DEFAULT_TOP_K) > 0;
}

static int top_k_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "top_k", DEFAULT_TOP_K), vocab, err);
}

/* The largest number that at least @k of @n are not below: bit after bit, from the highest. */
DS_WIDE static uint32_t find_kth(const uint32_t *numbers, size_t n, size_t k)
{
	uint32_t found = 0;

	for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
		uint32_t wish = found | bit, count = 0;

#pragma omp simd reduction(+ : count)
		for (size_t i = 0; i < n; i++)
			count += numbers[i] >= wish;
		if (count >= k)
			found = wish;
	}
	return found;
}

/* Of k groups the best are candidates that nothing below the worst of them can be among the best k. */
static void drop_beyond_k(struct filter *filter, struct ds_candidates *c, size_t k)
{
	size_t n_groups = c->n / GROUP;
	uint32_t bound;
	float logit;

	if (k > n_groups)
		return;
	for (size_t g = 0; g < n_groups; g++)
		filter->room[g] = ds_logit_rank(ds_best_logit(c->logits + g * GROUP, GROUP));
	bound = find_kth(filter->room, n_groups, k);
	bound ^= bound >> 31 ? 0x80000000u : 0xffffffffu; /* ds_logit_rank(), backwards */
	memcpy(&logit, &bound, sizeof(logit));
	if (logit > -INFINITY) /* else what is not a number counts as much */
		keep_from(c, c->logits, logit);
}

static void top_k_apply(void *self, struct ds_candidates *candidates)
{
	struct filter *filter = self;

	if ((double)candidates->n <= filter->value)
		return;
	drop_beyond_k(filter, candidates, (size_t)filter->value);
	for (size_t i = 0; i < candidates->n; i++)
		candidates->weights[i] = 1;
	keep_heaviest(candidates, filter->value, empty_window, filter->room);
}

static bool top_p_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "top_p", DEFAULT_TOP_P) < 1;
}

static int top_p_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "top_p", DEFAULT_TOP_P), vocab, err);
}

/* A candidate stays if those before it together have less than top_p: the first always does.
 * n candidates that each weigh less than (1 - top_p) * total / 2n weigh less than half of what may be left out together,
 * so that the others reach the target without them; the other half is for rounding, which is below 1e-10 of the total. */
static void top_p_apply(void *self, struct ds_candidates *candidates)
{
	struct filter *filter = self;
	float best = ds_best_logit(candidates->logits, candidates->n), low = best - 88; /* what is below weighs nothing */
	double total = ds_candidates_weigh(candidates, best), target = filter->value * total;
	struct window window = empty_window;

	if (filter->value < 1 - 1e-6) {
		float bound = (float)((1 - filter->value) * total / (2 * (double)candidates->n));

		keep_from(candidates, candidates->weights, bound);
		low = fmaxf(low, best + logf(bound) - 0.01f);
	}
	if (candidates->n >= WINDOW_FROM && fabsf(best) < INFINITY)
		window = find_window(candidates, target, low, best);
	keep_heaviest(candidates, target, window, filter->room);
}

static bool min_p_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "min_p", DEFAULT_MIN_P) > 0;
}

static int min_p_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "min_p", DEFAULT_MIN_P), 0, err);
}

/* A candidate stays if it is at least min_p times as likely as the best: a matter of logits, without exponentials. */
static void min_p_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;
	float bound = ds_best_logit(candidates->logits, candidates->n) + (float)log(filter->value);

	if (bound > -INFINITY) /* else all are as likely as the best */
		keep_from(candidates, candidates->logits, bound);
}

#define FILTER(name)                                                                                                   \
	const struct ds_sampler_ops ds_##name##_ops = {                                                                \
		.size = sizeof(struct ds_sampler_ops),                                                                 \
		.active = name##_active,                                                                               \
		.open = name##_open,                                                                                   \
		.apply = name##_apply,                                                                                 \
		.close = free,                                                                                         \
	}

FILTER(temperature);
FILTER(top_k);
FILTER(top_p);
FILTER(min_p);

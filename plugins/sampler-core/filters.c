/* filters.c - the steps that shape or narrow the choice without making it: temperature, top_k, top_p, min_p.
 *
 * top_k and top_p ask the same question: of the candidates in falling order, the shortest beginning whose weights reach
 * a target, every weight being 1 for top_k and the probability for top_p. keep_heaviest() answers it without sorting,
 * in time linear in the number of candidates, which are all of the vocabulary (up to 152 064) at every token. */
#include "core.h"

#define DIGIT_BITS 11 /* enough to tell most logits apart at the first look */
#define DIGITS (1u << DIGIT_BITS)

/* A step with one parameter. */
struct filter {
	double value;
};

static int open_filter(void **self, double value, struct ds_error *err)
{
	struct filter *filter = calloc(1, sizeof(*filter));

	if (!filter)
		return ds_fail(err, -ENOMEM, "no memory for a sampling step");
	filter->value = value;
	*self = filter;
	return 0;
}

static unsigned digit_of(const struct ds_candidate *c, int shift)
{
	return (unsigned)(ds_candidate_rank(c) >> shift) & (DIGITS - 1);
}

/* Of data[0, n) keep what is not below @pivot, above it first: n_above candidates, then n_equal. Most fall to the first
 * loop, which only reads them. */
static void partition(struct ds_candidate *data, size_t n, int shift, unsigned pivot, size_t *n_above, size_t *n_equal)
{
	size_t n_kept = 0, above = 0;

	for (size_t i = 0; i < n; i++)
		if (digit_of(&data[i], shift) >= pivot)
			data[n_kept++] = data[i];
	for (size_t i = 0; i < n_kept; i++) {
		struct ds_candidate c = data[i];

		if (digit_of(&c, shift) == pivot)
			continue;
		data[i] = data[above];
		data[above++] = c;
	}
	*n_above = above;
	*n_equal = n_kept - above;
}

/* The digit at which the weights of data[0, n), added from the highest digit down, reach @target; *@before is what the
 * digits above it weigh. Where rounding leaves the sum just short, the lowest digit that occurs. */
static unsigned find_pivot(const struct ds_candidate *data, size_t n, int shift, double target, double *before)
{
	double weights[DIGITS] = {0};
	bool occurs[DIGITS] = {false};
	unsigned pivot = 0;
	double sum = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned digit = digit_of(&data[i], shift);

		weights[digit] += data[i].p;
		occurs[digit] = true;
	}
	for (unsigned digit = DIGITS; digit-- > 0;) {
		if (!occurs[digit])
			continue;
		pivot = digit;
		*before = sum;
		sum += weights[digit];
		if (sum >= target)
			break;
	}
	return pivot;
}

/* Keep the shortest beginning of the falling order whose weights (in p) reach @target, and at least one candidate.
 * Looks at one digit of the rank after the other, highest first: what lies above the digit where the sum crosses the
 * target stays, what lies below goes, and only what shares the digit is looked at again. Ranks are unique, so that
 * in the end one candidate is left, the last that is kept. */
static void keep_heaviest(struct ds_candidates *candidates, double target)
{
	struct ds_candidate *data = candidates->data;
	size_t n = candidates->n;

	for (int shift = 64 - DIGIT_BITS; n > 1; shift = shift > DIGIT_BITS ? shift - DIGIT_BITS : 0) {
		size_t n_above, n_equal;
		double before = 0;
		unsigned pivot;

		pivot = find_pivot(data, n, shift, target, &before);
		partition(data, n, shift, pivot, &n_above, &n_equal);
		data += n_above;
		n = n_equal;
		target -= before;
	}
	candidates->n = (size_t)(data - candidates->data) + n;
	candidates->sorted = false;
}

static bool temperature_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "temperature", DEFAULT_TEMPERATURE) != 1;
}

static int temperature_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
			    size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "temperature", DEFAULT_TEMPERATURE), err);
}

static void temperature_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;

	/* Rounding may make ties, so that an order by falling logit need no longer be one by rising id among them. */
	for (size_t i = 0; i < candidates->n; i++)
		candidates->data[i].logit = (float)(candidates->data[i].logit / filter->value);
	candidates->sorted = false;
}

static bool top_k_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "top_k", DEFAULT_TOP_K) > 0;
}

static int top_k_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "top_k", DEFAULT_TOP_K), err);
}

static void top_k_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;

	if ((double)candidates->n <= filter->value)
		return;
	for (size_t i = 0; i < candidates->n; i++)
		candidates->data[i].p = 1;
	keep_heaviest(candidates, filter->value);
}

static bool top_p_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "top_p", DEFAULT_TOP_P) < 1;
}

static int top_p_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "top_p", DEFAULT_TOP_P), err);
}

/* A candidate stays if those before it together have less than top_p: the first always does. */
static void top_p_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;
	float best = ds_candidates_best(candidates);
	double total = 0;

	for (size_t i = 0; i < candidates->n; i++) {
		candidates->data[i].p = ds_candidate_weight(&candidates->data[i], best);
		total += candidates->data[i].p;
	}
	keep_heaviest(candidates, filter->value * total);
}

static bool min_p_active(const struct ds_setting *settings)
{
	return !ds_is_greedy(settings) && ds_setting(settings, "min_p", DEFAULT_MIN_P) > 0;
}

static int min_p_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		      size_t vocab, struct ds_error *err)
{
	return open_filter(self, ds_setting(settings, "min_p", DEFAULT_MIN_P), err);
}

/* A candidate stays if it is at least min_p times as likely as the best: a matter of logits, without exponentials. */
static void min_p_apply(void *self, struct ds_candidates *candidates)
{
	const struct filter *filter = self;
	float bound = ds_candidates_best(candidates) + (float)log(filter->value);
	size_t n = 0;

	for (size_t i = 0; i < candidates->n; i++)
		if (ds_candidate_logit(&candidates->data[i]) >= bound)
			candidates->data[n++] = candidates->data[i];
	candidates->n = n;
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

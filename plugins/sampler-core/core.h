/* core.h - what the steps of sampler-core share: how a candidate ranks and what it weighs.
 *
 * Every step obeys the same three rules. A logit that is not a number ranks as -infinity and weighs nothing. Ties go to
 * the lower id. A step never leaves an empty list: the best candidate always stays. */
#pragma once

#include <deepseekd/sampler.h>

#include <math.h>
#include <string.h>

/* The defaults, which the option table and the steps must agree on. */
#define DEFAULT_TEMPERATURE 1.0
#define DEFAULT_TOP_K 0
#define DEFAULT_TOP_P 1.0
#define DEFAULT_MIN_P 0.0
#define DEFAULT_REPETITION 1.0
#define DEFAULT_PRESENCE 0.0
#define DEFAULT_FREQUENCY 0.0

extern const struct ds_sampler_ops ds_penalties_ops;
extern const struct ds_sampler_ops ds_temperature_ops;
extern const struct ds_sampler_ops ds_top_k_ops;
extern const struct ds_sampler_ops ds_top_p_ops;
extern const struct ds_sampler_ops ds_min_p_ops;
extern const struct ds_sampler_ops ds_pick_ops;

/* Temperature 0 takes the most likely token, so that whatever only narrows the choice has nothing to do. Temperatures
 * so near to 0 that logits might overflow mean the same (the bound is vLLM's). */
static inline bool ds_is_greedy(const struct ds_setting *settings)
{
	return ds_setting(settings, "temperature", DEFAULT_TEMPERATURE) < 1e-5;
}

static inline float ds_candidate_logit(const struct ds_candidate *c)
{
	return isnan(c->logit) ? -INFINITY : c->logit;
}

/* A number that is larger the better the candidate ranks; unique, because ids are. The bits of a float, once negative
 * ones are turned around, order as the float does; -0 counts as 0. */
static inline uint64_t ds_candidate_rank(const struct ds_candidate *c)
{
	float logit = ds_candidate_logit(c) + 0.0f;
	uint32_t bits;

	memcpy(&bits, &logit, sizeof(bits));
	bits ^= (0u - (bits >> 31)) | 0x80000000u; /* without a branch: signs are as good as random */
	return (uint64_t)bits << 32 | (uint32_t)~c->id;
}

/* The best logit; -infinity if nothing may be chosen. */
static inline float ds_candidates_best(const struct ds_candidates *candidates)
{
	float best = -INFINITY;

	for (size_t i = 0; i < candidates->n; i++)
		if (candidates->data[i].logit > best)
			best = candidates->data[i].logit;
	return best;
}

/* exp(logit - best), softmax without its division. Equal logits weigh 1 without a subtraction, so that infinite ones
 * share the probability among themselves. */
static inline float ds_candidate_weight(const struct ds_candidate *c, float best)
{
	float logit = ds_candidate_logit(c);

	return logit == best ? 1.0f : expf(logit - best);
}

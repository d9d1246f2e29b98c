/* core.h - what the steps of sampler-core share: how a candidate ranks and what it weighs.
 *
 * Every step obeys the same rules. A logit that is not a number ranks as -infinity and weighs nothing. Ties go to the
 * lower id. What stays keeps its order, so that a draw depends on the candidates and the seed alone. A step never leaves
 * an empty list: the best candidate always stays. */
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

/* Passes over all of the vocabulary are compiled for wider vectors, too, and chosen when the plugin is loaded. Without fused
 * products the results are the same. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define DS_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define DS_WIDE
#endif

#define LANES 16 /* sums and maxima side by side, whatever the machine has */

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

/* A number that is larger the better a logit is. The bits of a float, once negative ones are turned around, order as the
 * float does; -0 counts as 0. */
static inline uint32_t ds_logit_rank(float logit)
{
	uint32_t bits;

	logit = (isnan(logit) ? -INFINITY : logit) + 0.0f;
	memcpy(&bits, &logit, sizeof(bits));
	return bits ^ ((0u - (bits >> 31)) | 0x80000000u); /* without a branch: signs are as good as random */
}

/* The same of candidate @i; unique, because ids are. */
static inline uint64_t ds_candidate_rank(const struct ds_candidates *c, size_t i)
{
	return (uint64_t)ds_logit_rank(c->logits[i]) << 32 | (uint32_t)~c->ids[i];
}

/* The largest of @n logits; -infinity if none is more than that. */
float ds_best_logit(const float *logits, size_t n);

/* What every candidate weighs beside the best: exp(logit - best), softmax without its division. Equal logits weigh 1
 * without a subtraction, so that infinite ones share the probability among themselves. Returns the sum. */
double ds_candidates_weigh(struct ds_candidates *candidates, float best);

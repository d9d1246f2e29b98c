/* weigh.c - the two passes over all of the vocabulary that steps share. Several sums and maxima run side by side, always
 * the same number of them, so that neither latency nor the width of a machine's vectors matters to the result. */
#include "core.h"

#include <deepseekd/exp.h>

DS_WIDE float ds_best_logit(const float *logits, size_t n)
{
	float lanes[LANES], best = -INFINITY;
	size_t whole = n - n % LANES;

	for (size_t j = 0; j < LANES; j++)
		lanes[j] = -INFINITY;
	for (size_t i = 0; i < whole; i += LANES)
#pragma omp simd
		for (size_t j = 0; j < LANES; j++)
			lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
	for (size_t j = 0; j < LANES; j++)
		best = lanes[j] > best ? lanes[j] : best;
	for (size_t i = whole; i < n; i++)
		best = logits[i] > best ? logits[i] : best;
	return best;
}

static inline float weight(float logit, float best)
{
	float below, w;

	logit = logit > -INFINITY ? logit : -INFINITY; /* also what is not a number */
	below = logit - best;
	w = ds_exp(below);
	return logit == best ? 1.0f : w;
}

DS_WIDE double ds_candidates_weigh(struct ds_candidates *candidates, float best)
{
	const float *logits = candidates->logits;
	float *weights = candidates->weights;
	size_t n = candidates->n, whole = n - n % LANES;
	double lanes[LANES] = {0}, sum = 0;

#pragma omp simd
	for (size_t i = 0; i < n; i++)
		weights[i] = weight(logits[i], best);
	for (size_t i = 0; i < whole; i += LANES)
#pragma omp simd
		for (size_t j = 0; j < LANES; j++)
			lanes[j] += weights[i + j];
	for (size_t j = 0; j < LANES; j++)
		sum += lanes[j];
	for (size_t i = whole; i < n; i++)
		sum += weights[i];
	return sum;
}

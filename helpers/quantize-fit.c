/* quantize-fit.c - least squares over a grid of candidates, then by turns: levels for the scale, the scale for the
 * levels. */
#include "quantize-fit.h"

#include <math.h>

#define ROUNDS 6 /* of taking turns; most groups stand still after two */

static float nearest_integer(float x, const struct ds_levels *levels)
{
	x = x < levels->low ? levels->low : x;
	x = x > levels->high ? levels->high : x;
	return ds_fit_round(x);
}

/* From the lowest value of the table up by every border that an element lies above: all elements go at once. */
static void nearest_values(float *q, const float *x, unsigned n, float inverse, const struct ds_levels *levels)
{
	for (unsigned i = 0; i < n; i++)
		q[i] = levels->table[0];
	for (unsigned k = 0; k < 15; k++) {
		float border = levels->middles[k], step = levels->table[k + 1] - levels->table[k];

#pragma omp simd
		for (unsigned i = 0; i < n; i++)
			q[i] += x[i] * inverse > border ? step : 0;
	}
}

void ds_fit_levels(float *q, const float *x, unsigned n, float scale, const struct ds_levels *levels)
{
	float inverse = scale != 0 ? 1 / scale : 0;

	if (!isfinite(inverse)) /* a subnormal scale: everything that is not 0 lies at the ends */
		inverse = scale > 0 ? 0x1p126f : -0x1p126f;
	if (levels->table) {
		nearest_values(q, x, n, inverse, levels);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		q[i] = nearest_integer(x[i] * inverse, levels);
}

/* What decides on a scale: with levels q the best one is xq / qq, and takes xq^2 / qq off the sum of squares. */
struct sums {
	float xq, qq;
};

static struct sums add_up(const float *x, unsigned n, float inverse, const struct ds_levels *levels)
{
	float xq = 0, qq = 0, values[DS_FIT_MAX];

	if (levels->table) {
		nearest_values(values, x, n, inverse, levels);
#pragma omp simd reduction(+ : xq, qq)
		for (unsigned i = 0; i < n; i++) {
			xq += x[i] * values[i];
			qq += values[i] * values[i];
		}
		return (struct sums){xq, qq};
	}
#pragma omp simd reduction(+ : xq, qq)
	for (unsigned i = 0; i < n; i++) {
		float q = nearest_integer(x[i] * inverse, levels);

		xq += x[i] * q;
		qq += q * q;
	}
	return (struct sums){xq, qq};
}

static bool is_better(struct sums a, struct sums b)
{
	return a.qq > 0 && (b.qq == 0 || a.xq * a.xq * b.qq > b.xq * b.xq * a.qq);
}

float ds_fit_scale(const float *x, unsigned n, const struct ds_levels *levels)
{
	float most = levels->high > -levels->low ? levels->high : -levels->low;
	struct sums best = {0, 0}, s;
	float largest = 0, unit;

	for (unsigned i = 0; i < n; i++)
		if (fabsf(x[i]) > fabsf(largest))
			largest = x[i];
	if (largest == 0)
		return 0;
	/* The largest element becomes anything from half of the outermost level to a little beyond it. Brought to
	 * around 1 first, no square can leave float's range. */
	unit = 1 / fabsf(largest);
	if (!isfinite(unit))
		return largest / most;
	float scaled[DS_FIT_MAX];

	for (unsigned i = 0; i < n; i++)
		scaled[i] = x[i] * unit;
	for (int k = 16; k <= 36; k++) {
		float target = most * (float)k / 32;

		s = add_up(scaled, n, target, levels);
		best = is_better(s, best) ? s : best;
		s = add_up(scaled, n, -target, levels);
		best = is_better(s, best) ? s : best;
	}
	if (best.xq == 0)
		return 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		s = add_up(scaled, n, best.qq / best.xq, levels);
		if (!is_better(s, best))
			break;
		best = s;
	}
	return best.xq / best.qq * fabsf(largest);
}

/* Solve scale and offset for the levels that (@inverse, @offset) give; the remaining sum of squares is returned. */
static float solve(struct ds_affine *out, const float *x, unsigned n, float inverse, float offset, float high,
		   bool free)
{
	float q1 = 0, q2 = 0, xq = 0, x1 = 0, x2 = 0, determinant, s, o;

#pragma omp simd reduction(+ : q1, q2, xq, x1, x2)
	for (unsigned i = 0; i < n; i++) {
		float q = (x[i] - offset) * inverse;

		q = q < 0 ? 0 : q;
		q = q > high ? high : q;
		q = ds_fit_round(q);
		q1 += q;
		q2 += q * q;
		xq += x[i] * q;
		x1 += x[i];
		x2 += x[i] * x[i];
	}
	determinant = (float)n * q2 - q1 * q1;
	if (determinant <= 0)
		return INFINITY;
	s = ((float)n * xq - x1 * q1) / determinant;
	o = (x1 - s * q1) / (float)n;
	if (!free && o > 0) {
		o = 0;
		s = xq / q2;
	}
	*out = (struct ds_affine){s, o};
	return x2 + s * s * q2 + (float)n * o * o - 2 * s * xq - 2 * o * x1 + 2 * s * o * q1;
}

struct ds_affine ds_fit_affine(const float *x, unsigned n, float high, bool free)
{
	float low = x[0], top = x[0], error, least = INFINITY, range, scaled[DS_FIT_MAX];
	struct ds_affine best, a;

	for (unsigned i = 1; i < n; i++) {
		low = x[i] < low ? x[i] : low;
		top = x[i] > top ? x[i] : top;
	}
	if (!free && low > 0)
		low = 0;
	range = top - low;
	if (range <= 0 || !isfinite(1 / range) || !isfinite(range))
		return (struct ds_affine){0, low};
	/* In units of the range, so that no square leaves float's. */
	for (unsigned i = 0; i < n; i++)
		scaled[i] = x[i] / range;
	best = (struct ds_affine){1 / high, low / range};
	for (int k = -10; k <= 5; k++)
		for (int end = 0; end <= 2; end++) {
			float from = low / range * (1 - 0.06f * (float)end);
			float inverse = high + high * (float)k / 32;

			error = solve(&a, scaled, n, inverse, from, high, free);
			if (error < least && a.scale > 0) {
				least = error;
				best = a;
			}
		}
	for (unsigned i = 0; i < ROUNDS; i++) {
		error = solve(&a, scaled, n, 1 / best.scale, best.offset, high, free);
		if (!(error < least) || a.scale <= 0)
			break;
		least = error;
		best = a;
	}
	return (struct ds_affine){best.scale * range, best.offset * range};
}

float ds_fit_affine_levels(float *q, const float *x, unsigned n, struct ds_affine a, float high)
{
	float inverse = a.scale > 0 ? 1 / a.scale : 0, error = 0;

	if (!isfinite(inverse))
		inverse = 0x1p126f;
#pragma omp simd reduction(+ : error)
	for (unsigned i = 0; i < n; i++) {
		float level = (x[i] - a.offset) * inverse, rest;

		level = level < 0 ? 0 : level;
		level = level > high ? high : level;
		level = ds_fit_round(level);
		rest = x[i] - (a.scale * level + a.offset);
		q[i] = level;
		error += rest * rest;
	}
	return error;
}

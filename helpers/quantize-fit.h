/* quantize-fit.h - the search for the scale, or the scale and the offset, of one small group of elements.
 *
 * Levels are kept as floats that hold integers: then the loops are the compiler's to vectorise. Ends of ranges are
 * clipped before rounding, so that rounding by a large constant is right. */
#pragma once

#include "dtype.h"

#define DS_FIT_MAX 256 /* elements */

/* Nearest integer, ties to even, of |x| < 2^22. */
static inline float ds_fit_round(float x)
{
	return x + 12582912.0f - 12582912.0f;
}

/* The values an element may have before scaling: the integers from low to high, or a table of 16 rising ones. */
struct ds_levels {
	float low, high;
	const float *table, *middles; /* [16], and the 15 borders between them; NULL: integers */
};

/* A scale as it will be stored. What a half cannot hold becomes the smallest one: then the levels can do the rest. */
static inline uint16_t ds_fit_half(double scale)
{
	uint16_t h = ds_f32_to_f16((float)scale);

	return h & 0x7fff || scale == 0 ? h : (uint16_t)(h | 1);
}

/* Levels q (n) of @x (n) for x ~ scale * q. A scale of 0 gives the level nearest to 0. */
void ds_fit_levels(float *q, const float *x, unsigned n, float scale, const struct ds_levels *levels);

/* The scale, of either sign, with the smallest sum of (x - scale * q)^2. */
float ds_fit_scale(const float *x, unsigned n, const struct ds_levels *levels);

/* x ~ scale * q + offset with q = 0.. @high and scale >= 0. Unless @free, offset <= 0. */
struct ds_affine {
	float scale, offset;
};

struct ds_affine ds_fit_affine(const float *x, unsigned n, float high, bool free);

/* Levels for x ~ scale * q + offset, and the sum of squares that remains. */
float ds_fit_affine_levels(float *q, const float *x, unsigned n, struct ds_affine a, float high);

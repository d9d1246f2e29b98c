/* quantize-k.c - every group is fitted on its own; then the block's scales are chosen, and by turns the integers of the
 * groups for the block's scales, and the block's scales for the integers by least squares. The best of all turns is
 * kept. */
#include "quantize-k.h"

#include "quantize-fit.h"

#include <math.h>

#define N 256
#define MAX_GROUPS 16
#define TURNS 4
#define F16_MAX 65504.0

/* What the block is to hold, as integers. */
struct found {
	uint16_t d, dmin;
	float q[N];             /* levels */
	int scales[MAX_GROUPS]; /* as they multiply d */
	int mins[MAX_GROUPS];   /* as they multiply -dmin */
	double error;
};

static int round_to(double x, int low, int high)
{
	return x < low ? low : x > high ? high : (int)lrint(x);
}

/* x ~ d * scale * q with scales from low to high. */
struct scaled {
	unsigned n_groups;
	int low, high;
	const struct ds_levels *levels;
};

static double square_error(const float *x, const float *q, unsigned n, float scale)
{
	float error = 0;

#pragma omp simd reduction(+ : error)
	for (unsigned i = 0; i < n; i++) {
		float rest = x[i] - scale * q[i];

		error += rest * rest;
	}
	return (double)error;
}

/* The best integer scale of each group for f->d, near what the group would like. */
static void choose_scales(struct found *f, const float *x, const struct scaled *s, const float *wanted)
{
	unsigned n = N / s->n_groups;
	float d = ds_f16_to_f32(f->d), q[N];

	f->error = 0;
	for (unsigned g = 0; g < s->n_groups; g++) {
		int middle = d != 0 ? round_to((double)wanted[g] / (double)d, s->low, s->high) : 0;
		double least = INFINITY;

		for (int scale = middle - 1; scale <= middle + 1; scale++) {
			double error;

			if (scale < s->low || scale > s->high)
				continue;
			ds_fit_levels(q, x + g * n, n, d * (float)scale, s->levels);
			error = square_error(x + g * n, q, n, d * (float)scale);
			if (error < least) {
				least = error;
				f->scales[g] = scale;
				memcpy(f->q + g * n, q, n * sizeof(*q));
			}
		}
		f->error += least;
	}
}

static int fit_scaled(struct found *best, const float *x, const struct scaled *s)
{
	float wanted[MAX_GROUPS], largest = 0;
	unsigned n = N / s->n_groups;
	struct found f = {0};
	double d;

	for (unsigned g = 0; g < s->n_groups; g++) {
		wanted[g] = ds_fit_scale(x + g * n, n, s->levels);
		if (fabsf(wanted[g]) > fabsf(largest))
			largest = wanted[g];
	}
	best->error = INFINITY;
	d = (double)largest / s->low;
	for (unsigned turn = 0; turn < TURNS; turn++) {
		double xp = 0, pp = 0;

		if (fabs(d) > F16_MAX)
			return turn == 0 ? -ERANGE : 0;
		f.d = ds_fit_half(d);
		choose_scales(&f, x, s, wanted);
		if (!(f.error < best->error))
			break;
		*best = f;
		for (unsigned i = 0; i < N; i++) {
			double p = (double)f.scales[i / n] * (double)f.q[i];

			xp += (double)x[i] * p;
			pp += p * p;
		}
		if (pp == 0 || f.error == 0)
			break;
		d = xp / pp;
	}
	return 0;
}

/* x ~ d * scale * q - dmin * min with q = 0..high and scales and mins of 0..most. */
struct affine {
	unsigned n_groups;
	int most;
	float high;
};

static void choose_group(struct found *f, const float *x, const struct affine *a, unsigned g, struct ds_affine wanted)
{
	float d = ds_f16_to_f32(f->d), dmin = ds_f16_to_f32(f->dmin), q[N];
	unsigned n = N / a->n_groups;
	int scale = d > 0 ? round_to((double)wanted.scale / (double)d, 0, a->most) : 0;
	int min = dmin > 0 ? round_to(-(double)wanted.offset / (double)dmin, 0, a->most) : 0;
	float least =
		ds_fit_affine_levels(q, x + g * n, n, (struct ds_affine){0, 0}, a->high); /* of a group of zeros */

	f->scales[g] = f->mins[g] = 0;
	memcpy(f->q + g * n, q, n * sizeof(*q));
	for (int i = -1; i <= 1; i++)
		for (int k = -1; k <= 1; k++) {
			struct ds_affine try = {d * (float)(scale + i), -(dmin * (float)(min + k))};
			float error;

			if (scale + i < 0 || scale + i > a->most || min + k < 0 || min + k > a->most)
				continue;
			error = ds_fit_affine_levels(q, x + g * n, n, try, a->high);
			if (error < least) {
				least = error;
				f->scales[g] = scale + i;
				f->mins[g] = min + k;
				memcpy(f->q + g * n, q, n * sizeof(*q));
			}
		}
	f->error += (double)least;
}

/* The d and dmin that suit all integers of @f best: normal equations of x ~ d * p - dmin * m. False: there are none. */
static bool solve_block(const struct found *f, const float *x, unsigned n, double *d, double *dmin)
{
	double pp = 0, pm = 0, mm = 0, xp = 0, xm = 0, determinant;

	for (unsigned i = 0; i < N; i++) {
		double p = (double)f->scales[i / n] * (double)f->q[i], m = f->mins[i / n];

		pp += p * p;
		pm += p * m;
		mm += m * m;
		xp += (double)x[i] * p;
		xm += (double)x[i] * m;
	}
	determinant = pp * mm - pm * pm;
	if (determinant > 0) {
		*d = (xp * mm - xm * pm) / determinant;
		*dmin = (xp * pm - xm * pp) / determinant;
	} else if (pp > 0) {
		*d = xp / pp;
		*dmin = 0;
	} else {
		return false;
	}
	return *d >= 0 && *dmin >= 0;
}

static int fit_affine(struct found *best, const float *x, const struct affine *a)
{
	struct ds_affine wanted[MAX_GROUPS];
	unsigned n = N / a->n_groups;
	struct found f = {0};
	double d = 0, dmin = 0;

	for (unsigned g = 0; g < a->n_groups; g++) {
		wanted[g] = ds_fit_affine(x + g * n, n, a->high, false);
		d = fmax(d, (double)wanted[g].scale / a->most);
		dmin = fmax(dmin, -(double)wanted[g].offset / a->most);
	}
	best->error = INFINITY;
	for (unsigned turn = 0; turn < TURNS; turn++) {
		if (d > F16_MAX || dmin > F16_MAX)
			return turn == 0 ? -ERANGE : 0;
		f.d = ds_fit_half(d);
		f.dmin = ds_fit_half(dmin);
		f.error = 0;
		for (unsigned g = 0; g < a->n_groups; g++)
			choose_group(&f, x, a, g, wanted[g]);
		if (!(f.error < best->error))
			break;
		*best = f;
		if (f.error == 0 || !solve_block(&f, x, n, &d, &dmin))
			break;
	}
	return 0;
}

static unsigned level(const struct found *f, unsigned e)
{
	return (unsigned)(int)f->q[e];
}

int ds_quantize_q2_k(struct ds_block_q2_k *b, const float *x)
{
	static const struct affine kind = {16, 15, 3};
	struct found f;
	int r = fit_affine(&f, x, &kind);

	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	b->dmin = f.dmin;
	for (unsigned g = 0; g < 16; g++)
		b->scales[g] = (uint8_t)(f.scales[g] | f.mins[g] << 4);
	for (unsigned e = 0; e < N; e++)
		b->qs[32 * (e / 128) + e % 32] |= (uint8_t)(level(&f, e) << 2 * (e / 32 % 4));
	return 0;
}

int ds_quantize_q3_k(struct ds_block_q3_k *b, const float *x)
{
	static const struct ds_levels levels = {.low = -4, .high = 3};
	static const struct scaled kind = {16, -32, 31, &levels};
	struct found f;
	int r = fit_scaled(&f, x, &kind);

	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	for (unsigned g = 0; g < 16; g++) {
		unsigned s = (unsigned)(f.scales[g] + 32);

		b->scales[g % 8] |= (uint8_t)((s & 15) << (g < 8 ? 0 : 4));
		b->scales[8 + g % 4] |= (uint8_t)(s >> 4 << 2 * (g / 4));
	}
	for (unsigned e = 0; e < N; e++) {
		unsigned q = (unsigned)((int)f.q[e] + 4);

		b->qs[32 * (e / 128) + e % 32] |= (uint8_t)((q & 3) << 2 * (e / 32 % 4));
		b->hmask[e % 32] |= (uint8_t)(q >> 2 << e / 32);
	}
	return 0;
}

/* The inverse of ds_scale_min_k4(). */
static void pack_scales_k4(uint8_t *s, const struct found *f)
{
	memset(s, 0, 12);
	for (unsigned g = 0; g < 8; g++) {
		unsigned scale = (unsigned)f->scales[g], min = (unsigned)f->mins[g];

		if (g < 4) {
			s[g] |= (uint8_t)scale;
			s[g + 4] |= (uint8_t)min;
		} else {
			s[g + 4] |= (uint8_t)((scale & 15) | (min & 15) << 4);
			s[g - 4] |= (uint8_t)(scale >> 4 << 6);
			s[g] |= (uint8_t)(min >> 4 << 6);
		}
	}
}

int ds_quantize_q4_k(struct ds_block_q4_k *b, const float *x)
{
	static const struct affine kind = {8, 63, 15};
	struct found f;
	int r = fit_affine(&f, x, &kind);

	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	b->dmin = f.dmin;
	pack_scales_k4(b->scales, &f);
	for (unsigned e = 0; e < N; e++)
		b->qs[32 * (e / 64) + e % 32] |= (uint8_t)(level(&f, e) << 4 * (e / 32 % 2));
	return 0;
}

int ds_quantize_q5_k(struct ds_block_q5_k *b, const float *x)
{
	static const struct affine kind = {8, 63, 31};
	struct found f;
	int r = fit_affine(&f, x, &kind);

	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	b->dmin = f.dmin;
	pack_scales_k4(b->scales, &f);
	for (unsigned e = 0; e < N; e++) {
		b->qs[32 * (e / 64) + e % 32] |= (uint8_t)((level(&f, e) & 15) << 4 * (e / 32 % 2));
		b->qh[e % 32] |= (uint8_t)(level(&f, e) >> 4 << e / 32);
	}
	return 0;
}

int ds_quantize_q6_k(struct ds_block_q6_k *b, const float *x)
{
	static const struct ds_levels levels = {.low = -32, .high = 31};
	static const struct scaled kind = {16, -128, 127, &levels};
	struct found f;
	int r = fit_scaled(&f, x, &kind);

	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	for (unsigned g = 0; g < 16; g++)
		b->scales[g] = (int8_t)f.scales[g];
	for (unsigned e = 0; e < N; e++) {
		unsigned q = (unsigned)((int)f.q[e] + 32), h = e / 128, s = e / 32 % 4, l = e % 32;

		b->ql[64 * h + 32 * (s % 2) + l] |= (uint8_t)((q & 15) << 4 * (s / 2));
		b->qh[32 * h + l] |= (uint8_t)(q >> 4 << 2 * s);
	}
	return 0;
}

int ds_quantize_iq4_xs(struct ds_block_iq4_xs *b, const float *x)
{
	static const float table[16] = DS_IQ4_VALUES;
	float middles[15];
	const struct ds_levels levels = {-127, 113, table, middles};
	const struct scaled kind = {8, -32, 31, &levels};
	struct found f;
	int r;

	for (unsigned i = 0; i < 15; i++)
		middles[i] = (table[i] + table[i + 1]) / 2;
	r = fit_scaled(&f, x, &kind);
	if (r < 0)
		return r;
	memset(b, 0, sizeof(*b));
	b->d = f.d;
	for (unsigned g = 0; g < 8; g++) {
		unsigned s = (unsigned)(f.scales[g] + 32);

		b->scales_l[g / 2] |= (uint8_t)((s & 15) << 4 * (g % 2));
		b->scales_h |= (uint16_t)(s >> 4 << 2 * g);
	}
	for (unsigned e = 0; e < N; e++) {
		unsigned i = 0;

		while (table[i] < f.q[e])
			i++;
		b->qs[16 * (e / 32) + e % 16] |= (uint8_t)(i << 4 * (e / 16 % 2));
	}
	return 0;
}

/* quantize.c - the types by table, and those with blocks of 32 elements or fewer. */
#include "quantize.h"

#include "quantize-fit.h"
#include "quantize-k.h"

#include <math.h>

#define F16_MAX 65504.0f

static int quantize_f32(void *to, const float *x)
{
	memcpy(to, x, sizeof(*x));
	return 0;
}

static int quantize_f16(void *to, const float *x)
{
	uint16_t h = ds_f32_to_f16(*x);

	memcpy(to, &h, sizeof(h));
	return fabsf(ds_f16_to_f32(h)) > F16_MAX ? -ERANGE : 0;
}

static int quantize_bf16(void *to, const float *x)
{
	uint16_t h = ds_f32_to_bf16(*x);

	memcpy(to, &h, sizeof(h));
	return isinf(ds_bf16_to_f32(h)) ? -ERANGE : 0;
}

/* The scale of 32 elements as it will be stored, and the levels for that. */
static int fit_32(uint16_t *d, float *q, const float *x, const struct ds_levels *levels)
{
	float scale = ds_fit_scale(x, 32, levels);

	if (fabsf(scale) > F16_MAX)
		return -ERANGE;
	*d = ds_fit_half((double)scale);
	ds_fit_levels(q, x, 32, ds_f16_to_f32(*d), levels);
	return 0;
}

static int fit_affine_32(uint16_t *d, uint16_t *m, float *q, const float *x, float high)
{
	struct ds_affine a = ds_fit_affine(x, 32, high, true);

	if (a.scale > F16_MAX || fabsf(a.offset) > F16_MAX)
		return -ERANGE;
	*d = ds_fit_half((double)a.scale);
	*m = ds_f32_to_f16(a.offset);
	a = (struct ds_affine){ds_f16_to_f32(*d), ds_f16_to_f32(*m)};
	ds_fit_affine_levels(q, x, 32, a, high);
	return 0;
}

/* Nibbles of 32 levels, @zero added to each; the fifth bits to @qh unless that is NULL. */
static void pack_32(uint8_t *qs, uint8_t *qh, const float *q, int zero)
{
	for (unsigned e = 0; e < 32; e++) {
		unsigned level = (unsigned)((int)q[e] + zero);

		qs[e % 16] |= (uint8_t)((level & 15) << 4 * (e / 16));
		if (qh)
			qh[e / 8] |= (uint8_t)(level >> 4 << e % 8);
	}
}

static int quantize_q4_0(void *to, const float *x)
{
	static const struct ds_levels levels = {.low = -8, .high = 7};
	struct ds_block_q4_0 b = {0};
	float q[32];
	int r = fit_32(&b.d, q, x, &levels);

	if (r == 0)
		pack_32(b.qs, NULL, q, 8);
	memcpy(to, &b, sizeof(b));
	return r;
}

static int quantize_q4_1(void *to, const float *x)
{
	struct ds_block_q4_1 b = {0};
	float q[32];
	int r = fit_affine_32(&b.d, &b.m, q, x, 15);

	if (r == 0)
		pack_32(b.qs, NULL, q, 0);
	memcpy(to, &b, sizeof(b));
	return r;
}

static int quantize_q5_0(void *to, const float *x)
{
	static const struct ds_levels levels = {.low = -16, .high = 15};
	struct ds_block_q5_0 b = {0};
	float q[32];
	int r = fit_32(&b.d, q, x, &levels);

	if (r == 0)
		pack_32(b.qs, b.qh, q, 16);
	memcpy(to, &b, sizeof(b));
	return r;
}

static int quantize_q5_1(void *to, const float *x)
{
	struct ds_block_q5_1 b = {0};
	float q[32];
	int r = fit_affine_32(&b.d, &b.m, q, x, 31);

	if (r == 0)
		pack_32(b.qs, b.qh, q, 0);
	memcpy(to, &b, sizeof(b));
	return r;
}

/* So many levels that clipping never pays: the largest element takes the outermost. */
static int quantize_q8_0(void *to, const float *x)
{
	static const struct ds_levels levels = {.low = -127, .high = 127};
	struct ds_block_q8_0 b = {0};
	float largest = 0, q[32];

	for (unsigned e = 0; e < 32; e++)
		largest = fmaxf(largest, fabsf(x[e]));
	if (largest / 127 > F16_MAX)
		return -ERANGE;
	b.d = ds_fit_half((double)largest / 127);
	ds_fit_levels(q, x, 32, ds_f16_to_f32(b.d), &levels);
	for (unsigned e = 0; e < 32; e++)
		b.qs[e] = (int8_t)q[e];
	memcpy(to, &b, sizeof(b));
	return 0;
}

static int quantize_iq4_nl(void *to, const float *x)
{
	static const float table[16] = DS_IQ4_VALUES;
	float middles[15], q[32];
	const struct ds_levels levels = {-127, 113, table, middles};
	struct ds_block_iq4_nl b = {0};
	int r;

	for (unsigned i = 0; i < 15; i++)
		middles[i] = (table[i] + table[i + 1]) / 2;
	r = fit_32(&b.d, q, x, &levels);
	for (unsigned e = 0; r == 0 && e < 32; e++) {
		unsigned i = 0;

		while (table[i] < q[e])
			i++;
		b.qs[e % 16] |= (uint8_t)(i << 4 * (e / 16));
	}
	memcpy(to, &b, sizeof(b));
	return r;
}

/* The nearest code of MXFP4 for @x, in units of its (halved) scale. */
static unsigned mxfp4_code(float x)
{
	static const float values[8] = {0, 1, 2, 3, 4, 6, 8, 12};
	unsigned i = 0;

	while (i < 7 && fabsf(x) > (values[i] + values[i + 1]) / 2)
		i++;
	return i && x < 0 ? i | 8 : i;
}

/* The scale is a power of two: of the four that come near, the best. */
static int quantize_mxfp4(void *to, const float *x)
{
	static const int8_t values[16] = DS_MXFP4_VALUES;
	struct ds_block_mxfp4 best = {0}, b;
	double least = INFINITY;
	float largest = 0;
	int exponent;

	for (unsigned e = 0; e < 32; e++)
		largest = fmaxf(largest, fabsf(x[e]));
	exponent = largest > 0 ? (int)floorf(log2f(largest / 12)) + 128 : 0;
	for (int k = exponent - 1; k <= exponent + 2; k++) {
		double error = 0;

		b = (struct ds_block_mxfp4){.e = (uint8_t)(k < 0 ? 0 : k > 254 ? 254 : k)};
		for (unsigned e = 0; e < 32; e++) {
			double scale = ldexp(1, b.e - 128);
			unsigned code = mxfp4_code((float)((double)x[e] / scale));
			double rest = (double)x[e] - scale * values[code];

			error += rest * rest;
			b.qs[e % 16] |= (uint8_t)(code << 4 * (e / 16));
		}
		if (error < least) {
			least = error;
			best = b;
		}
	}
	memcpy(to, &best, sizeof(best));
	return 0;
}

/* A block lies anywhere: it is made where it is aligned. */
#define DEFINE_K(type)                                                                                                 \
	static int quantize_##type(void *to, const float *x)                                                           \
	{                                                                                                              \
		struct ds_block_##type b = {0};                                                                        \
		int r = ds_quantize_##type(&b, x);                                                                     \
                                                                                                                       \
		memcpy(to, &b, sizeof(b));                                                                             \
		return r;                                                                                              \
	}

DEFINE_K(q2_k)
DEFINE_K(q3_k)
DEFINE_K(q4_k)
DEFINE_K(q5_k)
DEFINE_K(q6_k)
DEFINE_K(iq4_xs)

/* One block of finite elements. */
static int (*const functions[DS_N_DTYPES])(void *to, const float *x) = {
	[DS_DTYPE_F32] = quantize_f32,     [DS_DTYPE_F16] = quantize_f16,       [DS_DTYPE_BF16] = quantize_bf16,
	[DS_DTYPE_Q4_0] = quantize_q4_0,   [DS_DTYPE_Q4_1] = quantize_q4_1,     [DS_DTYPE_Q5_0] = quantize_q5_0,
	[DS_DTYPE_Q5_1] = quantize_q5_1,   [DS_DTYPE_Q8_0] = quantize_q8_0,     [DS_DTYPE_Q2_K] = quantize_q2_k,
	[DS_DTYPE_Q3_K] = quantize_q3_k,   [DS_DTYPE_Q4_K] = quantize_q4_k,     [DS_DTYPE_Q5_K] = quantize_q5_k,
	[DS_DTYPE_Q6_K] = quantize_q6_k,   [DS_DTYPE_IQ4_NL] = quantize_iq4_nl, [DS_DTYPE_IQ4_XS] = quantize_iq4_xs,
	[DS_DTYPE_MXFP4] = quantize_mxfp4,
};

bool ds_quantize_knows(enum ds_dtype dtype)
{
	return dtype < DS_N_DTYPES && functions[dtype];
}

int ds_quantize_row(void *to, const float *x, enum ds_dtype dtype, uint64_t n)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	uint8_t *block = to;

	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return -EINVAL;
	for (uint64_t i = 0; i < n; i += info->block, block += info->size) {
		int r = functions[dtype](block, x + i);

		if (r < 0)
			return r;
	}
	return 0;
}

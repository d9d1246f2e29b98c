/* kernels-portable.c - every kernel in plain C: the definition of right, and what a CPU without its own set runs. */
#include "kernels.h"

#include <deepseekd/quants.h>
#include <math.h>
#include <string.h>

static inline float from_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline uint32_t to_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline float widen_one_f32(float x)
{
	return x;
}

static inline float widen_one_bf16(uint16_t x)
{
	return from_bits((uint32_t)x << 16);
}

/* The bits of the half, moved to the float's place, are a float 2^112 times too small, subnormal ones included. */
static inline float widen_one_f16(uint16_t x)
{
	uint32_t magnitude = to_bits(from_bits((uint32_t)(x & 0x7fff) << 13) * 0x1p112f);

	if ((x & 0x7c00) == 0x7c00)
		magnitude = 0x7f800000u | (uint32_t)(x & 0x3ff) << 13;
	return from_bits((uint32_t)(x & 0x8000) << 16 | magnitude);
}

static inline float narrow_one_f32(float x)
{
	return x;
}

static inline uint16_t narrow_one_bf16(float x)
{
	uint32_t bits = to_bits(x);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40); /* a quiet NaN */
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t narrow_one_f16(float x)
{
	uint32_t bits = to_bits(x), magnitude = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;

	if (magnitude > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
	if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (magnitude < 0x38800000) /* subnormal: adding 0.5 leaves the multiple of 2^-24, rounded, in the last bits */
		return (uint16_t)(sign | (to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f)));
	return (uint16_t)(sign | (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

/* For a cache: the largest magnitude becomes 127 of the scale, which is rounded to a half before it is used. In a block with
 * something that is not a number nothing is one. */
static void narrow_q8_0(void *y, const float *x, size_t n)
{
	struct ds_block_q8_0 *block = y;

	for (; n >= DS_ARRAY_SIZE(block->qs); n -= DS_ARRAY_SIZE(block->qs), x += DS_ARRAY_SIZE(block->qs), block++) {
		float largest = 0, no_number = 0, scale;

		for (size_t i = 0; i < DS_ARRAY_SIZE(block->qs); i++) {
			largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
			no_number += x[i] * 0;
		}
		block->d = narrow_one_f16(largest / 127 + no_number);
		scale = ds_f16_to_f32(block->d);
		for (size_t i = 0; i < DS_ARRAY_SIZE(block->qs); i++) {
			float q = scale > 0 ? rintf(x[i] / scale) : 0;

			block->qs[i] = (int8_t)(q > 127 ? 127 : q > -127 ? q : -127);
		}
	}
}

/* Sums are kept in as many parts as make a vector anywhere, in an order that is the same everywhere. */
enum { LANES = 8 };

static inline float add_lanes(const float *sums)
{
	return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

#define DEFINE_KERNELS(name, type)                                                                \
	static void widen_##name(float *y, const void *x, size_t n)                               \
	{                                                                                         \
		const type *from = x;                                                             \
                                                                                                  \
		for (size_t i = 0; i < n; i++)                                                    \
			y[i] = widen_one_##name(from[i]);                                         \
	}                                                                                         \
                                                                                                  \
	static void narrow_##name(void *y, const float *x, size_t n)                              \
	{                                                                                         \
		type *to = y;                                                                     \
                                                                                                  \
		for (size_t i = 0; i < n; i++)                                                    \
			to[i] = narrow_one_##name(x[i]);                                          \
	}                                                                                         \
                                                                                                  \
	static void matvec_##name(const struct ds_matvec *op)                                     \
	{                                                                                         \
		for (size_t r = 0; r < op->rows; r++) {                                           \
			const type *w = (const type *)op->w + r * op->pitch;                      \
                                                                                                  \
			for (unsigned i = 0; i < op->n; i++) {                                    \
				const float *x = op->x[i];                                        \
				float sums[LANES] = {0}, sum;                             \
				size_t c = 0;                                             \
                                                                                                  \
				for (; c + LANES <= op->cols; c += LANES)                         \
					for (size_t j = 0; j < LANES; j++)                        \
						sums[j] += widen_one_##name(w[c + j]) * x[c + j]; \
				for (size_t j = 0; c + j < op->cols; j++)                         \
					sums[j] += widen_one_##name(w[c + j]) * x[c + j];         \
				sum = add_lanes(sums);                                            \
				op->y[i][r] = op->add ? op->y[i][r] + sum : sum;                  \
			}                                                                         \
		}                                                                                 \
	}                                                                                         \

DEFINE_KERNELS(f32, float)
DEFINE_KERNELS(f16, uint16_t)
DEFINE_KERNELS(bf16, uint16_t)

static double sum_squares(const float *x, size_t n)
{
	double sums[4] = {0};
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		for (size_t j = 0; j < 4; j++)
			sums[j] += (double)x[i + j] * x[i + j];
	for (size_t j = 0; i + j < n; j++)
		sums[j] += (double)x[i + j] * x[i + j];
	return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

static void scale_by(float *y, const float *x, const float *weight, float factor, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * factor * weight[i];
}

static void scale(float *x, float factor, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] *= factor;
}

static void add_scaled(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += a * x[i];
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static void rotate(float *x, const float *turn, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float a = x[2 * i], b = x[2 * i + 1], c = turn[2 * i], s = turn[2 * i + 1];

		x[2 * i] = a * c - b * s;
		x[2 * i + 1] = a * s + b * c;
	}
}

static void rotate_halves(float *x, const float *turn, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float a = x[i], b = x[n + i], c = turn[i], s = turn[n + i];

		x[i] = a * c - b * s;
		x[n + i] = a * s + b * c;
	}
}

void ds_kernels_init_portable(struct ds_kernels *k)
{
	*k = (struct ds_kernels){
		.gemm_min = 12,
		.matvec = {NULL, matvec_f32, matvec_f16, matvec_bf16},
		.widen = {NULL, widen_f32, widen_f16, widen_bf16},
		.narrow = {NULL, narrow_f32, narrow_f16, narrow_bf16},
		.sum_squares = sum_squares,
		.scale_by = scale_by,
		.scale = scale,
		.add_scaled = add_scaled,
		.swiglu = swiglu,
		.rotate = rotate,
		.rotate_halves = rotate_halves,
	};
	k->narrow[DS_DTYPE_Q8_0] = narrow_q8_0;
	ds_kernels_init_blocks(k);
	ds_attention_init_portable(k);
}

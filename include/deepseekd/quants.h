/* quants.h - what the bytes of a quantised block mean: from blocks to float32, the definition that every kernel, packing
 * and quantiser is held to.
 *
 * Blocks are those of GGUF (little-endian, packed) and DeepSeek's FP8. In all of them a value is scale * integer (+ or -
 * a minimum); scales of small groups are themselves small integers times the block's half-precision scale. Each product
 * is rounded once to float32, in the order written here. e is an element of the block, g = e / 32 its group. */
#pragma once

#include "model.h"

#include <string.h>

static inline float ds_float_of_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t ds_bits_of_float(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline float ds_bf16_to_f32(uint16_t h)
{
	return ds_float_of_bits((uint32_t)h << 16);
}

static inline float ds_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;

	if (exponent == 31)
		return ds_float_of_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent > 0)
		return ds_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
	/* subnormal: fraction * 2^-24, a product that is exact; the sign holds for zero too */
	return ds_float_of_bits(sign | ds_bits_of_float((float)fraction * 0x1p-24f));
}

/* e4m3: sign, 4 bits of exponent (bias 7), 3 of fraction; no infinity, 0x7f and 0xff are NaN (arXiv:2209.05433). */
static inline float ds_e4m3_to_f32(uint8_t b)
{
	uint32_t sign = (uint32_t)(b & 0x80) << 24, exponent = b >> 3 & 15, fraction = b & 7;

	if ((b & 0x7f) == 0x7f)
		return ds_float_of_bits(sign | 0x7fc00000);
	if (exponent > 0)
		return ds_float_of_bits(sign | (exponent + 120) << 23 | fraction << 20);
	return ds_float_of_bits(sign | ds_bits_of_float((float)fraction * 0x1p-9f));
}

/* e8m0, halved: 2^(e - 128). The two smallest are subnormal. */
static inline float ds_e8m0_half_to_f32(uint8_t e)
{
	return ds_float_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* The 16 values of IQ4_NL and IQ4_XS. */
#define DS_IQ4_VALUES {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
/* The 16 values of MXFP4 (e2m1), doubled: its scale is halved. */
#define DS_MXFP4_VALUES {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

struct ds_block_q4_0 {
	uint16_t d;
	uint8_t qs[16]; /* element j in the low nibble of qs[j], j + 16 in the high one; so in all blocks of 32 */
};

struct ds_block_q4_1 {
	uint16_t d, m;
	uint8_t qs[16];
};

struct ds_block_q5_0 {
	uint16_t d;
	uint8_t qh[4]; /* bit e of these 32 is the fifth bit of element e */
	uint8_t qs[16];
};

struct ds_block_q5_1 {
	uint16_t d, m;
	uint8_t qh[4];
	uint8_t qs[16];
};

struct ds_block_q8_0 {
	uint16_t d;
	int8_t qs[32];
};

struct ds_block_q2_k {
	uint8_t scales[16]; /* of each 16: scale in the low nibble, minimum in the high one */
	uint8_t qs[64];
	uint16_t d, dmin;
};

struct ds_block_q3_k {
	uint8_t hmask[32];
	uint8_t qs[64];
	uint8_t scales[12]; /* 16 of 6 bits, offset by 32 */
	uint16_t d;
};

struct ds_block_q4_k {
	uint16_t d, dmin;
	uint8_t scales[12]; /* 8 scales and 8 minimums of 6 bits: ds_scale_min_k4() */
	uint8_t qs[128];
};

struct ds_block_q5_k {
	uint16_t d, dmin;
	uint8_t scales[12];
	uint8_t qh[32]; /* bit g of qh[l] is the fifth bit of element 32 g + l */
	uint8_t qs[128];
};

struct ds_block_q6_k {
	uint8_t ql[128];
	uint8_t qh[64];
	int8_t scales[16];
	uint16_t d;
};

struct ds_block_iq4_nl {
	uint16_t d;
	uint8_t qs[16];
};

struct ds_block_iq4_xs {
	uint16_t d;
	uint16_t scales_h;
	uint8_t scales_l[4];
	uint8_t qs[128];
};

struct ds_block_mxfp4 {
	uint8_t e;
	uint8_t qs[16];
};

struct ds_block_fp8 {
	float scale;
	uint8_t qs[128]; /* e4m3 */
};

/* No compiler may pad them. */
_Static_assert(sizeof(struct ds_block_q4_0) == 18, "q4_0");
_Static_assert(sizeof(struct ds_block_q4_1) == 20, "q4_1");
_Static_assert(sizeof(struct ds_block_q5_0) == 22, "q5_0");
_Static_assert(sizeof(struct ds_block_q5_1) == 24, "q5_1");
_Static_assert(sizeof(struct ds_block_q8_0) == 34, "q8_0");
_Static_assert(sizeof(struct ds_block_q2_k) == 84, "q2_k");
_Static_assert(sizeof(struct ds_block_q3_k) == 110, "q3_k");
_Static_assert(sizeof(struct ds_block_q4_k) == 144, "q4_k");
_Static_assert(sizeof(struct ds_block_q5_k) == 176, "q5_k");
_Static_assert(sizeof(struct ds_block_q6_k) == 210, "q6_k");
_Static_assert(sizeof(struct ds_block_iq4_nl) == 18, "iq4_nl");
_Static_assert(sizeof(struct ds_block_iq4_xs) == 136, "iq4_xs");
_Static_assert(sizeof(struct ds_block_mxfp4) == 17, "mxfp4");
_Static_assert(sizeof(struct ds_block_fp8) == 132, "fp8");

/* Scale and minimum of group @g in the 12 bytes of Q4_K and Q5_K. */
static inline void ds_scale_min_k4(const uint8_t *s, unsigned g, uint8_t *scale, uint8_t *min)
{
	if (g < 4) {
		*scale = s[g] & 63;
		*min = s[g + 4] & 63;
	} else {
		*scale = (uint8_t)((s[g + 4] & 15) | s[g - 4] >> 6 << 4);
		*min = (uint8_t)(s[g + 4] >> 4 | s[g] >> 6 << 4);
	}
}

/* Scale of the 16 elements @i in the 12 bytes of Q3_K, -32 to 31. */
static inline int ds_scale_q3_k(const uint8_t *s, unsigned i)
{
	unsigned low = i < 8 ? s[i] & 15u : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3u;

	return (int)(low | high << 4) - 32;
}

/* Scale of group @g of IQ4_XS, -32 to 31. */
static inline int ds_scale_iq4_xs(const struct ds_block_iq4_xs *b, unsigned g)
{
	return (int)((b->scales_l[g / 2] >> 4 * (g % 2) & 15u) | (b->scales_h >> 2 * g & 3u) << 4) - 32;
}

/* Element @e of a block, as an integer before scaling (an index for the IQ4 types and MXFP4). */
static inline unsigned ds_nibble_32(const uint8_t *qs, unsigned e)
{
	return e < 16 ? qs[e] & 15u : qs[e - 16] >> 4;
}

static inline void ds_dequantize_q4_0(float *y, const struct ds_block_q4_0 *b)
{
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)((int)ds_nibble_32(b->qs, e) - 8);
}

static inline void ds_dequantize_q4_1(float *y, const struct ds_block_q4_1 *b)
{
	float d = ds_f16_to_f32(b->d), m = ds_f16_to_f32(b->m);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)ds_nibble_32(b->qs, e) + m;
}

static inline unsigned ds_fifth_bit(const uint8_t *qh, unsigned e)
{
	return (qh[e / 8] >> e % 8 & 1u) << 4;
}

static inline void ds_dequantize_q5_0(float *y, const struct ds_block_q5_0 *b)
{
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)((int)(ds_nibble_32(b->qs, e) | ds_fifth_bit(b->qh, e)) - 16);
}

static inline void ds_dequantize_q5_1(float *y, const struct ds_block_q5_1 *b)
{
	float d = ds_f16_to_f32(b->d), m = ds_f16_to_f32(b->m);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)(ds_nibble_32(b->qs, e) | ds_fifth_bit(b->qh, e)) + m;
}

static inline void ds_dequantize_q8_0(float *y, const struct ds_block_q8_0 *b)
{
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)b->qs[e];
}

static inline void ds_dequantize_q2_k(float *y, const struct ds_block_q2_k *b)
{
	float d = ds_f16_to_f32(b->d), dmin = ds_f16_to_f32(b->dmin);

	for (unsigned e = 0; e < 256; e++) {
		unsigned q = b->qs[32 * (e / 128) + e % 32] >> 2 * (e / 32 % 4) & 3u, s = b->scales[e / 16];

		y[e] = d * (float)(s & 15) * (float)q - dmin * (float)(s >> 4);
	}
}

static inline void ds_dequantize_q3_k(float *y, const struct ds_block_q3_k *b)
{
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 256; e++) {
		int q = b->qs[32 * (e / 128) + e % 32] >> 2 * (e / 32 % 4) & 3;

		if (!(b->hmask[e % 32] >> (e / 32) & 1))
			q -= 4;
		y[e] = d * (float)ds_scale_q3_k(b->scales, e / 16) * (float)q;
	}
}

static inline void ds_dequantize_q4_k(float *y, const struct ds_block_q4_k *b)
{
	float d = ds_f16_to_f32(b->d), dmin = ds_f16_to_f32(b->dmin);

	for (unsigned g = 0; g < 8; g++) {
		uint8_t scale, min;

		ds_scale_min_k4(b->scales, g, &scale, &min);
		for (unsigned l = 0; l < 32; l++) {
			unsigned q = b->qs[32 * (g / 2) + l] >> 4 * (g % 2) & 15u;

			y[32 * g + l] = d * (float)scale * (float)q - dmin * (float)min;
		}
	}
}

static inline void ds_dequantize_q5_k(float *y, const struct ds_block_q5_k *b)
{
	float d = ds_f16_to_f32(b->d), dmin = ds_f16_to_f32(b->dmin);

	for (unsigned g = 0; g < 8; g++) {
		uint8_t scale, min;

		ds_scale_min_k4(b->scales, g, &scale, &min);
		for (unsigned l = 0; l < 32; l++) {
			unsigned q = (b->qs[32 * (g / 2) + l] >> 4 * (g % 2) & 15u) | (b->qh[l] >> g & 1u) << 4;

			y[32 * g + l] = d * (float)scale * (float)q - dmin * (float)min;
		}
	}
}

static inline void ds_dequantize_q6_k(float *y, const struct ds_block_q6_k *b)
{
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 256; e++) {
		unsigned h = e / 128, s = e / 32 % 4, l = e % 32;
		unsigned low = b->ql[64 * h + 32 * (s % 2) + l] >> 4 * (s / 2) & 15u;
		unsigned high = b->qh[32 * h + l] >> 2 * s & 3u;

		y[e] = d * (float)b->scales[e / 16] * (float)((int)(low | high << 4) - 32);
	}
}

static inline void ds_dequantize_iq4_nl(float *y, const struct ds_block_iq4_nl *b)
{
	static const int8_t values[16] = DS_IQ4_VALUES;
	float d = ds_f16_to_f32(b->d);

	for (unsigned e = 0; e < 32; e++)
		y[e] = d * (float)values[ds_nibble_32(b->qs, e)];
}

static inline void ds_dequantize_iq4_xs(float *y, const struct ds_block_iq4_xs *b)
{
	static const int8_t values[16] = DS_IQ4_VALUES;
	float d = ds_f16_to_f32(b->d);

	for (unsigned g = 0; g < 8; g++) {
		float scale = d * (float)ds_scale_iq4_xs(b, g);

		for (unsigned l = 0; l < 32; l++)
			y[32 * g + l] = scale * (float)values[ds_nibble_32(b->qs + 16 * g, l)];
	}
}

static inline void ds_dequantize_mxfp4(float *y, const struct ds_block_mxfp4 *b)
{
	static const int8_t values[16] = DS_MXFP4_VALUES;
	float scale = ds_e8m0_half_to_f32(b->e);

	for (unsigned e = 0; e < 32; e++)
		y[e] = scale * (float)values[ds_nibble_32(b->qs, e)];
}

static inline void ds_dequantize_fp8(float *y, const struct ds_block_fp8 *b)
{
	for (unsigned e = 0; e < 128; e++)
		y[e] = b->scale * ds_e4m3_to_f32(b->qs[e]);
}

/* Blocks lie anywhere, so they are copied out first. */
#define DS_DEQUANTIZE_CASE(TYPE, type)                                                              \
	case DS_DTYPE_##TYPE: {                                                                     \
		struct ds_block_##type block;                                                       \
                                                                                                    \
		memcpy(&block, x, sizeof(block));                                                   \
		ds_dequantize_##type(y, &block);                                                    \
		break;                                                                              \
	}

/* One block of a known type: ds_dtype_info(dtype)->block values. @x needs no alignment. */
static inline void ds_dequantize_block(float *y, const void *x, enum ds_dtype dtype)
{
	uint16_t half;

	switch (dtype) {
	case DS_DTYPE_F32:
		memcpy(y, x, sizeof(*y));
		break;
	case DS_DTYPE_F16:
		memcpy(&half, x, sizeof(half));
		*y = ds_f16_to_f32(half);
		break;
	case DS_DTYPE_BF16:
		memcpy(&half, x, sizeof(half));
		*y = ds_bf16_to_f32(half);
		break;
	DS_DEQUANTIZE_CASE(Q4_0, q4_0)
	DS_DEQUANTIZE_CASE(Q4_1, q4_1)
	DS_DEQUANTIZE_CASE(Q5_0, q5_0)
	DS_DEQUANTIZE_CASE(Q5_1, q5_1)
	DS_DEQUANTIZE_CASE(Q8_0, q8_0)
	DS_DEQUANTIZE_CASE(Q2_K, q2_k)
	DS_DEQUANTIZE_CASE(Q3_K, q3_k)
	DS_DEQUANTIZE_CASE(Q4_K, q4_k)
	DS_DEQUANTIZE_CASE(Q5_K, q5_k)
	DS_DEQUANTIZE_CASE(Q6_K, q6_k)
	DS_DEQUANTIZE_CASE(IQ4_NL, iq4_nl)
	DS_DEQUANTIZE_CASE(IQ4_XS, iq4_xs)
	DS_DEQUANTIZE_CASE(MXFP4, mxfp4)
	DS_DEQUANTIZE_CASE(FP8, fp8)
	default:
		break;
	}
}

/* @n elements from the start of a row to float32; @n need not be whole blocks. */
static inline void ds_dequantize_row(float *y, const void *x, enum ds_dtype dtype, size_t n)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	const uint8_t *from = x;
	float last[256];

	for (; n >= info->block; n -= info->block, y += info->block, from += info->size)
		ds_dequantize_block(y, from, dtype);
	if (n > 0) {
		ds_dequantize_block(last, from, dtype);
		memcpy(y, last, n * sizeof(*y));
	}
}

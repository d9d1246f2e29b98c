/* random-blocks.h - quantised blocks of random bytes whose values are moderate numbers. */
#pragma once

#include <deepseekd/quants.h>

/* Where a block has its half-precision scales, in bytes; -1: nowhere. */
static const struct block_type {
	enum ds_dtype dtype;
	int d, other;
} block_types[] = {
	{DS_DTYPE_Q4_0, 0, -1},	  {DS_DTYPE_Q4_1, 0, 2},    {DS_DTYPE_Q5_0, 0, -1},   {DS_DTYPE_Q5_1, 0, 2},
	{DS_DTYPE_Q8_0, 0, -1},	  {DS_DTYPE_Q2_K, 80, 82},  {DS_DTYPE_Q3_K, 108, -1}, {DS_DTYPE_Q4_K, 0, 2},
	{DS_DTYPE_Q5_K, 0, 2},	  {DS_DTYPE_Q6_K, 208, -1}, {DS_DTYPE_IQ4_NL, 0, -1}, {DS_DTYPE_IQ4_XS, 0, -1},
	{DS_DTYPE_MXFP4, -1, -1}, {DS_DTYPE_FP8, -1, -1},
};

static inline uint32_t draw_bits(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 32);
}

/* One, or a half from 2^-5 to 2^-3 of either sign. */
static inline void put_half(uint8_t *block, int at, bool one, uint64_t *seed)
{
	uint16_t half = one ? 0x3c00 : (uint16_t)(0x2800 + draw_bits(seed) % 0x800 + (draw_bits(seed) % 2 << 15));

	if (at >= 0)
		memcpy(block + at, &half, sizeof(half));
}

/* Scales are one when all weights are to be @whole numbers; of FP8 these are eighths, which do as well. No NaN. */
static inline void fill_block(uint8_t *block, const struct block_type *type, bool whole, uint64_t *seed)
{
	float scale = whole ? 1 : (float)((double)draw_bits(seed) / (1u << 31) - 1) / 64;

	for (size_t i = 0; i < ds_dtype_info(type->dtype)->size; i++) {
		block[i] = (uint8_t)draw_bits(seed);
		if (type->dtype == DS_DTYPE_FP8 && whole)
			block[i] |= 0x40;
		if (type->dtype == DS_DTYPE_FP8 && (block[i] & 0x7f) == 0x7f)
			block[i] ^= 1;
	}
	put_half(block, type->d, whole, seed);
	put_half(block, type->other, whole, seed);
	if (type->dtype == DS_DTYPE_MXFP4)
		block[0] = (uint8_t)(whole ? 128 : 115 + draw_bits(seed) % 10);
	if (type->dtype == DS_DTYPE_FP8)
		memcpy(block, &scale, sizeof(scale));
}

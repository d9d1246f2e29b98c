/* dtype.h - 32-bit floats to 16-bit ones, rounded to nearest even. The other way is in quants.h. */
#pragma once

#include <deepseekd/quants.h>

static inline uint16_t ds_f32_to_bf16(float f)
{
	uint32_t bits = ds_bits_of_float(f);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40); /* NaN stays one */
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t ds_f32_to_f16(float f)
{
	uint32_t bits = ds_bits_of_float(f), size = bits & 0x7fffffff;
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

	if (size > 0x7f800000)
		return sign | 0x7e00; /* NaN */
	if (size >= 0x477ff000)
		return sign | 0x7c00; /* rounds past 65504 */
	if (size >= 0x38800000) {
		size += 0xfff + (size >> 13 & 1);
		return (uint16_t)(sign | ((size >> 13) - (112 << 10)));
	}
	/* subnormal: adding 0.5 leaves multiples of 2^-24 in the low bits of the sum, rounded to nearest even */
	return (uint16_t)(sign | (ds_bits_of_float(ds_float_of_bits(size) + 0.5f) - ds_bits_of_float(0.5f)));
}

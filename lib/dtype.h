/* dtype.h - 16-bit floats to 32-bit ones, exactly, and back, rounded to nearest even. */
#pragma once

#include <deepseekd/model.h>

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

/* Widen @n elements of a float type to float. */
static inline void ds_widen(float *to, const void *from, enum ds_dtype dtype, size_t n)
{
	const uint16_t *half = from;

	switch (dtype) {
	case DS_DTYPE_F32:
		memcpy(to, from, n * sizeof(*to));
		break;
	case DS_DTYPE_F16:
		for (size_t i = 0; i < n; i++)
			to[i] = ds_f16_to_f32(half[i]);
		break;
	case DS_DTYPE_BF16:
		for (size_t i = 0; i < n; i++)
			to[i] = ds_bf16_to_f32(half[i]);
		break;
	default:
		break;
	}
}

/* kernels-avx2.c - vectors of 8 with AVX2, FMA and F16C. Compiled with those flags and called only where the CPU has
 * them. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 8
typedef __m256 vec;

/* 16 registers: sums, rows of weights, one row of activations. */
#define MATVEC_TILES(tile, dtype) \
	tile(4, 1, dtype) tile(4, 2, dtype) tile(2, 4, dtype) tile(1, 8, dtype)

static inline vec vec_zero(void)
{
	return _mm256_setzero_ps();
}

static inline vec vec_set(float x)
{
	return _mm256_set1_ps(x);
}

/* Ones in the first @n lanes. */
static inline __m256i first(size_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec vec_load(const float *x)
{
	return _mm256_loadu_ps(x);
}

static inline vec vec_load_part(const float *x, size_t n)
{
	return _mm256_maskload_ps(x, first(n));
}

static inline void vec_store(float *y, vec v)
{
	_mm256_storeu_ps(y, v);
}

static inline void vec_store_part(float *y, vec v, size_t n)
{
	_mm256_maskstore_ps(y, first(n), v);
}

static inline __m128i load_narrow(const uint16_t *x)
{
	return _mm_loadu_si128((const __m128i *)x);
}

static inline __m128i load_narrow_part(const uint16_t *x, size_t n)
{
	uint16_t padded[LANES] = {0};

	memcpy(padded, x, n * sizeof(*x));
	return load_narrow(padded);
}

static inline void store_narrow(uint16_t *y, __m128i bits)
{
	_mm_storeu_si128((__m128i *)y, bits);
}

static inline void store_narrow_part(uint16_t *y, __m128i bits, size_t n)
{
	uint16_t padded[LANES];

	store_narrow(padded, bits);
	memcpy(y, padded, n * sizeof(*y));
}

static inline vec widen_bf16_bits(__m128i bits)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

static inline vec vec_load_bf16(const uint16_t *x)
{
	return widen_bf16_bits(load_narrow(x));
}

static inline vec vec_load_bf16_part(const uint16_t *x, size_t n)
{
	return widen_bf16_bits(load_narrow_part(x, n));
}

static inline vec vec_load_f16(const uint16_t *x)
{
	return _mm256_cvtph_ps(load_narrow(x));
}

static inline vec vec_load_f16_part(const uint16_t *x, size_t n)
{
	return _mm256_cvtph_ps(load_narrow_part(x, n));
}

static inline __m128i narrow_f16_bits(vec v)
{
	return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void vec_store_f16(uint16_t *y, vec v)
{
	store_narrow(y, narrow_f16_bits(v));
}

static inline void vec_store_f16_part(uint16_t *y, vec v, size_t n)
{
	store_narrow_part(y, narrow_f16_bits(v), n);
}

/* To the nearest, to even between two: add half of the last place, less one if that is even. A NaN is made quiet. */
static inline __m128i narrow_bf16_bits(vec v)
{
	__m256i bits = _mm256_castps_si256(v);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	__m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	__m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
	__m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));

	rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
	return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

static inline void vec_store_bf16(uint16_t *y, vec v)
{
	store_narrow(y, narrow_bf16_bits(v));
}

static inline void vec_store_bf16_part(uint16_t *y, vec v, size_t n)
{
	store_narrow_part(y, narrow_bf16_bits(v), n);
}

static inline vec vec_add(vec a, vec b)
{
	return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
	return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
	return _mm256_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
	return _mm256_div_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* Of a NaN and a number, both give the second. */
static inline vec vec_min(vec a, vec b)
{
	return _mm256_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
	return _mm256_max_ps(a, b);
}

static inline vec vec_round(vec v)
{
	return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec power_of_two(__m256i k)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
}

/* v * 2^k for whole |k| < 250, in two steps, since 2^k itself may be no float. */
static inline vec vec_ldexp(vec v, vec k)
{
	__m256i whole = _mm256_cvtps_epi32(k), half = _mm256_srai_epi32(whole, 1);

	return _mm256_mul_ps(_mm256_mul_ps(v, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
}

static inline float vec_sum(vec v)
{
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float vec_largest(vec v)
{
	__m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

static inline vec vec_of_i8(__m128i x)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x));
}

/* As halves, which are e4m3 with two more bits of exponent and 2^8 times smaller: the sign goes over what its copy leaves
 * above the magnitude. */
static inline vec vec_of_e4m3(__m128i x)
{
	__m128i shifted = _mm_slli_epi16(_mm_cvtepi8_epi16(x), 7);
	__m128i magnitude = _mm_and_si128(shifted, _mm_set1_epi16(0x3f80));
	__m128i nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x3f80));
	__m128i half = _mm_or_si128(_mm_and_si128(shifted, _mm_set1_epi16((short)0xbf80)), nan);

	return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
}

#include "kernels-x86.h"

#include "kernels-simd.h"
#include "kernels-attention-simd.h"

void ds_kernels_init_avx2(struct ds_kernels *k)
{
	replace_kernels(k);
	k->gemm_min = 24;
	k->attend = k->attend_few = attend_kernels;
}

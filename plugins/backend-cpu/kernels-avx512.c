/* kernels-avx512.c - vectors of 16 with AVX-512 F, BW, DQ and VL. Compiled with those flags and called only where the
 * CPU has them. BF16 is widened and rounded with integers: the conversions of AVX512-BF16 flush subnormal numbers. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
typedef __m512 vec;

/* 32 registers: sums, rows of weights, one row of activations. */
#define MATVEC_TILES(tile, dtype) \
	tile(4, 1, dtype) tile(4, 2, dtype) tile(4, 4, dtype) tile(2, 8, dtype)

static inline __mmask16 first(size_t n)
{
	return (__mmask16)((1u << n) - 1);
}

static inline vec vec_zero(void)
{
	return _mm512_setzero_ps();
}

static inline vec vec_set(float x)
{
	return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *x)
{
	return _mm512_loadu_ps(x);
}

static inline vec vec_load_part(const float *x, size_t n)
{
	return _mm512_maskz_loadu_ps(first(n), x);
}

static inline void vec_store(float *y, vec v)
{
	_mm512_storeu_ps(y, v);
}

static inline void vec_store_part(float *y, vec v, size_t n)
{
	_mm512_mask_storeu_ps(y, first(n), v);
}

static inline vec widen_bf16_bits(__m256i bits)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

static inline vec vec_load_bf16(const uint16_t *x)
{
	return widen_bf16_bits(_mm256_loadu_si256((const __m256i *)x));
}

static inline vec vec_load_bf16_part(const uint16_t *x, size_t n)
{
	return widen_bf16_bits(_mm256_maskz_loadu_epi16(first(n), x));
}

static inline vec vec_load_f16(const uint16_t *x)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

static inline vec vec_load_f16_part(const uint16_t *x, size_t n)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), x));
}

static inline __m256i narrow_f16_bits(vec v)
{
	return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void vec_store_f16(uint16_t *y, vec v)
{
	_mm256_storeu_si256((__m256i *)y, narrow_f16_bits(v));
}

static inline void vec_store_f16_part(uint16_t *y, vec v, size_t n)
{
	_mm256_mask_storeu_epi16(y, first(n), narrow_f16_bits(v));
}

/* To the nearest, to even between two: add half of the last place, less one if that is even. A NaN is made quiet. */
static inline __m256i narrow_bf16_bits(vec v)
{
	__m512i bits = _mm512_castps_si512(v);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	__m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));

	rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits,
				       _mm512_set1_epi32(0x400000));
	return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

static inline void vec_store_bf16(uint16_t *y, vec v)
{
	_mm256_storeu_si256((__m256i *)y, narrow_bf16_bits(v));
}

static inline void vec_store_bf16_part(uint16_t *y, vec v, size_t n)
{
	_mm256_mask_storeu_epi16(y, first(n), narrow_bf16_bits(v));
}

static inline vec vec_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
	return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
	return _mm512_div_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* Of a NaN and a number, both give the second. */
static inline vec vec_min(vec a, vec b)
{
	return _mm512_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

static inline vec vec_round(vec v)
{
	return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v * 2^k for whole k. */
static inline vec vec_ldexp(vec v, vec k)
{
	return _mm512_scalef_ps(v, k);
}

static inline float vec_sum(vec v)
{
	return _mm512_reduce_add_ps(v);
}

static inline float vec_largest(vec v)
{
	return _mm512_reduce_max_ps(v);
}

static inline vec vec_of_i8(__m128i x)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
}

/* As halves, which are e4m3 with two more bits of exponent and 2^8 times smaller: the sign goes over what its copy leaves
 * above the magnitude. */
static inline vec vec_of_e4m3(__m128i x)
{
	__m256i shifted = _mm256_slli_epi16(_mm256_cvtepi8_epi16(x), 7);
	__m256i magnitude = _mm256_and_si256(shifted, _mm256_set1_epi16(0x3f80));
	__m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x3f80));
	__m256i half = _mm256_or_si256(_mm256_and_si256(shifted, _mm256_set1_epi16((short)0xbf80)), nan);

	return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256));
}

/* Of an index the lowest four bits count. */
static inline vec vec_of_nibbles(vec table, __m128i bytes, unsigned shift)
{
	__m512i index = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes), _mm_cvtsi32_si128((int)shift));

	return _mm512_permutexvar_ps(index, table);
}

#include "kernels-x86.h"

#include "kernels-simd.h"
#include "kernels-attention-simd.h"

void ds_kernels_init_avx512(struct ds_kernels *k)
{
	replace_kernels(k);
	k->gemm_min = 96;
	k->attend = attend_kernels;
}

/* tiles-avx2.h - int8 products with vectors of 8 rows; the files that include it differ in iv_dot() and iv_dot_signed(). */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 8
#define TILE_PANELS 1
/* 16 registers: 6 sums of a group, 6 of what it belongs to, two vectors of weights, one of activations. */
#define TILE_WIDTH 3
#define PRODUCT_CASES(what, kind) what(1, kind) what(2, kind) what(3, kind)

typedef __m256i ivec;
typedef __m256 fvec;

static inline ivec iv_load(const void *p)
{
	return _mm256_loadu_si256(p);
}

static inline void iv_store(void *p, ivec v)
{
	_mm256_storeu_si256(p, v);
}

static inline ivec iv_set8(uint8_t x)
{
	return _mm256_set1_epi8((char)x);
}

static inline ivec iv_set32(uint32_t x)
{
	return _mm256_set1_epi32((int)x);
}

static inline ivec iv_broadcast(const void *p)
{
	int word;

	__builtin_memcpy(&word, p, sizeof(word));
	return _mm256_set1_epi32(word);
}

static inline ivec iv_and(ivec a, ivec b)
{
	return _mm256_and_si256(a, b);
}

static inline ivec iv_or(ivec a, ivec b)
{
	return _mm256_or_si256(a, b);
}

/* Shifts of every word; the compiler sees constants. */
static inline ivec iv_shr(ivec v, unsigned n)
{
	return _mm256_srl_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_shl(ivec v, unsigned n)
{
	return _mm256_sll_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_sar(ivec v, unsigned n)
{
	return _mm256_sra_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_add(ivec a, ivec b)
{
	return _mm256_add_epi32(a, b);
}

static inline ivec iv_sub(ivec a, ivec b)
{
	return _mm256_sub_epi32(a, b);
}

static inline ivec iv_mul(ivec a, ivec b)
{
	return _mm256_mullo_epi32(a, b);
}

static inline ivec iv_mul_halfwords(ivec a, ivec b)
{
	return _mm256_mullo_epi16(a, b);
}

static inline ivec iv_add_halfwords(ivec a, ivec b)
{
	return _mm256_add_epi16(a, b);
}

/* To every word the products of two signed halfwords. */
static inline ivec iv_dot_halfwords(ivec sum, ivec a, ivec b)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* Of unsigned words. */
static inline ivec iv_max(ivec a, ivec b)
{
	return _mm256_max_epu32(a, b);
}

static inline uint32_t iv_largest(ivec v)
{
	__m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
	return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline void iv_store_bytes(int8_t *p, ivec v)
{
	__m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	_mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}

/* Bytes below 16 as indices. */
static inline ivec iv_look_up(const int8_t *table, ivec v)
{
	return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table)), v);
}

static inline ivec iv_round(fvec v)
{
	return _mm256_cvtps_epi32(v);
}

static inline fvec fv_of_int(ivec v)
{
	return _mm256_cvtepi32_ps(v);
}

/* The half in the low 16 bits of every word. */
static inline fvec fv_of_half(ivec v)
{
	__m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
	__m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));

	return _mm256_cvtph_ps(halves);
}

static inline fvec fv_load_half(const uint16_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline fvec fv_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void fv_store(float *p, fvec v)
{
	_mm256_storeu_ps(p, v);
}

static inline fvec fv_set(float x)
{
	return _mm256_set1_ps(x);
}

static inline fvec fv_broadcast(const float *p)
{
	return _mm256_set1_ps(*p);
}

static inline fvec fv_add(fvec a, fvec b)
{
	return _mm256_add_ps(a, b);
}

static inline fvec fv_sub(fvec a, fvec b)
{
	return _mm256_sub_ps(a, b);
}

static inline fvec fv_mul(fvec a, fvec b)
{
	return _mm256_mul_ps(a, b);
}

static inline fvec fv_div(fvec a, fvec b)
{
	return _mm256_div_ps(a, b);
}

static inline fvec fv_max(fvec a, fvec b)
{
	return _mm256_max_ps(a, b);
}

static inline fvec fv_abs(fvec v)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

static inline fvec fv_fma(fvec a, fvec b, fvec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* c - a * b */
static inline fvec fv_subtract_product(fvec c, fvec a, fvec b)
{
	return _mm256_fnmadd_ps(a, b, c);
}

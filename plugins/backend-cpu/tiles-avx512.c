/* tiles-avx512.c - int8 products with AVX512-VNNI: 16 rows a vector, one vpdpbusd for 64 products. Compiled with those
 * flags and called only where the CPU has them. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16
#define TILE_PANELS 2
#define TILE_WIDTH 6
#define SIGNED_OFFSET 128
/* 32 registers: 12 sums of a group, 12 of what it belongs to, two vectors of weights, the rest for what is on its way. */
#define PRODUCT_CASES(what, kind) \
	what(1, kind) what(2, kind) what(3, kind) what(4, kind) what(5, kind) what(6, kind)
/* Without a tile: one vector of weights at a time, so that half the sums are needed for a row. */
#define FEW_WIDTH 8
#define FEW_CASES(what, kind) PRODUCT_CASES(what, kind) what(7, kind) what(8, kind)

typedef __m512i ivec;
typedef __m512 fvec;

static inline ivec iv_load(const void *p)
{
	return _mm512_loadu_si512(p);
}

static inline void iv_store(void *p, ivec v)
{
	_mm512_storeu_si512(p, v);
}

static inline ivec iv_set8(uint8_t x)
{
	return _mm512_set1_epi8((char)x);
}

static inline ivec iv_set32(uint32_t x)
{
	return _mm512_set1_epi32((int)x);
}

static inline ivec iv_broadcast(const void *p)
{
	int word;

	__builtin_memcpy(&word, p, sizeof(word));
	return _mm512_set1_epi32(word);
}

static inline ivec iv_and(ivec a, ivec b)
{
	return _mm512_and_si512(a, b);
}

static inline ivec iv_or(ivec a, ivec b)
{
	return _mm512_or_si512(a, b);
}

/* Shifts of every word; the compiler sees constants. */
static inline ivec iv_shr(ivec v, unsigned n)
{
	return _mm512_srl_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_shl(ivec v, unsigned n)
{
	return _mm512_sll_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_sar(ivec v, unsigned n)
{
	return _mm512_sra_epi32(v, _mm_cvtsi32_si128((int)n));
}

static inline ivec iv_add(ivec a, ivec b)
{
	return _mm512_add_epi32(a, b);
}

static inline ivec iv_sub(ivec a, ivec b)
{
	return _mm512_sub_epi32(a, b);
}

static inline ivec iv_mul(ivec a, ivec b)
{
	return _mm512_mullo_epi32(a, b);
}

static inline ivec iv_mul_halfwords(ivec a, ivec b)
{
	return _mm512_mullo_epi16(a, b);
}

static inline ivec iv_add_halfwords(ivec a, ivec b)
{
	return _mm512_add_epi16(a, b);
}

/* To every word the products of two signed halfwords. */
static inline ivec iv_dot_halfwords(ivec sum, ivec a, ivec b)
{
	return _mm512_dpwssd_epi32(sum, a, b);
}

/* Of unsigned words. */
static inline ivec iv_max(ivec a, ivec b)
{
	return _mm512_max_epu32(a, b);
}

static inline uint32_t iv_largest(ivec v)
{
	return _mm512_reduce_max_epu32(v);
}

static inline void iv_store_bytes(int8_t *p, ivec v)
{
	_mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(v));
}

/* Bytes below 16 as indices. */
static inline ivec iv_look_up(const int8_t *table, ivec v)
{
	return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)table)), v);
}

/* vpdpbusd takes its first operand as unsigned. */
static inline ivec iv_of_signed(ivec v)
{
	return _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80));
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return _mm512_dpbusd_epi32(sum, w, x);
}

static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	return _mm512_dpbusd_epi32(sum, w, x);
}

static inline ivec iv_round(fvec v)
{
	return _mm512_cvtps_epi32(v);
}

static inline fvec fv_of_int(ivec v)
{
	return _mm512_cvtepi32_ps(v);
}

/* The half in the low 16 bits of every word. */
static inline fvec fv_of_half(ivec v)
{
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

static inline fvec fv_load_half(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline fvec fv_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void fv_store(float *p, fvec v)
{
	_mm512_storeu_ps(p, v);
}

static inline fvec fv_set(float x)
{
	return _mm512_set1_ps(x);
}

static inline fvec fv_broadcast(const float *p)
{
	return _mm512_set1_ps(*p);
}

static inline fvec fv_add(fvec a, fvec b)
{
	return _mm512_add_ps(a, b);
}

static inline fvec fv_sub(fvec a, fvec b)
{
	return _mm512_sub_ps(a, b);
}

static inline fvec fv_mul(fvec a, fvec b)
{
	return _mm512_mul_ps(a, b);
}

static inline fvec fv_div(fvec a, fvec b)
{
	return _mm512_div_ps(a, b);
}

static inline fvec fv_max(fvec a, fvec b)
{
	return _mm512_max_ps(a, b);
}

static inline fvec fv_abs(fvec v)
{
	return _mm512_abs_ps(v);
}

static inline fvec fv_fma(fvec a, fvec b, fvec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* c - a * b */
static inline fvec fv_subtract_product(fvec c, fvec a, fvec b)
{
	return _mm512_fnmadd_ps(a, b, c);
}

#include "tiles-simd.h"

void ds_tiles_init_avx512_vnni(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

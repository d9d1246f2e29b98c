/* tiles-portable.c - int8 products in plain C: what the other variants are compared with. A vector is a row's word. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <deepseekd/quants.h>

#define LANES 1
#define TILE_PANELS 1
#define TILE_WIDTH 2
#define SIGNED_OFFSET 0
#define PRODUCT_CASES(what, kind) what(1, kind) what(2, kind)

typedef uint32_t ivec;
typedef float fvec;

static inline ivec iv_load(const void *p)
{
	ivec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void iv_store(void *p, ivec v)
{
	memcpy(p, &v, sizeof(v));
}

static inline ivec iv_set8(uint8_t x)
{
	return x * 0x01010101u;
}

static inline ivec iv_set32(uint32_t x)
{
	return x;
}

static inline ivec iv_broadcast(const void *p)
{
	return iv_load(p);
}

static inline ivec iv_and(ivec a, ivec b)
{
	return a & b;
}

static inline ivec iv_or(ivec a, ivec b)
{
	return a | b;
}

static inline ivec iv_shr(ivec v, unsigned n)
{
	return v >> n;
}

static inline ivec iv_shl(ivec v, unsigned n)
{
	return v << n;
}

static inline ivec iv_sar(ivec v, unsigned n)
{
	return (ivec)((int32_t)v >> n);
}

static inline ivec iv_add(ivec a, ivec b)
{
	return a + b;
}

static inline ivec iv_sub(ivec a, ivec b)
{
	return a - b;
}

static inline ivec iv_mul(ivec a, ivec b)
{
	return a * b;
}

static inline ivec iv_mul_halfwords(ivec a, ivec b)
{
	return ((a >> 16) * (b >> 16)) << 16 | ((a & 0xffff) * (b & 0xffff) & 0xffff);
}

static inline ivec iv_add_halfwords(ivec a, ivec b)
{
	return ((a >> 16) + (b >> 16)) << 16 | ((a + b) & 0xffff);
}

static inline ivec iv_dot_halfwords(ivec sum, ivec a, ivec b)
{
	return sum + (ivec)((int16_t)a * (int16_t)b) + (ivec)((int16_t)(a >> 16) * (int16_t)(b >> 16));
}

static inline ivec iv_max(ivec a, ivec b)
{
	return a > b ? a : b;
}

static inline uint32_t iv_largest(ivec v)
{
	return v;
}

static inline void iv_store_bytes(int8_t *p, ivec v)
{
	*p = (int8_t)(int32_t)v;
}

static inline ivec iv_look_up(const int8_t *table, ivec v)
{
	ivec y = 0;

	for (unsigned j = 0; j < 32; j += 8)
		y |= (ivec)(uint8_t)table[v >> j & 15] << j;
	return y;
}

static inline ivec iv_of_signed(ivec v)
{
	return v;
}

/* Bytes below 64 are the same signed. */
static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	int32_t products = 0;

	for (unsigned j = 0; j < 32; j += 8)
		products += (int8_t)(w >> j) * (int8_t)(x >> j);
	return sum + (ivec)products;
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return iv_dot_signed(sum, w, x);
}

/* A NaN has no integer; what comes of it is multiplied by a NaN. */
static inline ivec iv_round(fvec v)
{
	return isfinite(v) ? (ivec)(int32_t)rintf(v) : 0;
}

static inline fvec fv_of_int(ivec v)
{
	return (float)(int32_t)v;
}

static inline fvec fv_of_half(ivec v)
{
	return ds_f16_to_f32((uint16_t)v);
}

static inline fvec fv_load_half(const uint16_t *p)
{
	uint16_t half;

	memcpy(&half, p, sizeof(half));
	return ds_f16_to_f32(half);
}

static inline fvec fv_load(const float *p)
{
	return *p;
}

static inline void fv_store(float *p, fvec v)
{
	*p = v;
}

static inline fvec fv_set(float x)
{
	return x;
}

static inline fvec fv_broadcast(const float *p)
{
	return *p;
}

static inline fvec fv_add(fvec a, fvec b)
{
	return a + b;
}

static inline fvec fv_sub(fvec a, fvec b)
{
	return a - b;
}

static inline fvec fv_mul(fvec a, fvec b)
{
	return a * b;
}

static inline fvec fv_div(fvec a, fvec b)
{
	return a / b;
}

static inline fvec fv_max(fvec a, fvec b)
{
	return a > b ? a : b;
}

static inline fvec fv_abs(fvec v)
{
	return fabsf(v);
}

static inline fvec fv_fma(fvec a, fvec b, fvec c)
{
	return a * b + c;
}

static inline fvec fv_subtract_product(fvec c, fvec a, fvec b)
{
	return c - a * b;
}

#include "tiles-simd.h"

void ds_tiles_init_portable(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

/* tiles-neon.h - int8 products with vectors of 4 rows, whose bytes stay signed; the files that include it differ in
 * iv_dot(). */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 4
#define TILE_PANELS 1
/* 32 registers: 12 sums of a group, 12 of what it belongs to, four vectors of weights, one of activations. */
#define TILE_WIDTH 3
#define PRODUCT_CASES(what, kind) what(1, kind) what(2, kind) what(3, kind)
#define SIGNED_OFFSET 0

typedef uint32x4_t ivec;
typedef float32x4_t fvec;

static inline ivec iv_load(const void *p)
{
	return vreinterpretq_u32_u8(vld1q_u8(p));
}

static inline void iv_store(void *p, ivec v)
{
	vst1q_u8(p, vreinterpretq_u8_u32(v));
}

static inline ivec iv_set8(uint8_t x)
{
	return vreinterpretq_u32_u8(vdupq_n_u8(x));
}

static inline ivec iv_set32(uint32_t x)
{
	return vdupq_n_u32(x);
}

static inline ivec iv_broadcast(const void *p)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	return vdupq_n_u32(word);
}

static inline ivec iv_and(ivec a, ivec b)
{
	return vandq_u32(a, b);
}

static inline ivec iv_or(ivec a, ivec b)
{
	return vorrq_u32(a, b);
}

/* Shifts of every word; as operators, so that one by a constant is one instruction. */
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
	return vreinterpretq_u32_s32(vreinterpretq_s32_u32(v) >> (int)n);
}

static inline ivec iv_add(ivec a, ivec b)
{
	return vaddq_u32(a, b);
}

static inline ivec iv_sub(ivec a, ivec b)
{
	return vsubq_u32(a, b);
}

static inline ivec iv_mul(ivec a, ivec b)
{
	return vmulq_u32(a, b);
}

static inline ivec iv_mul_halfwords(ivec a, ivec b)
{
	return vreinterpretq_u32_u16(vmulq_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
}

static inline ivec iv_add_halfwords(ivec a, ivec b)
{
	return vreinterpretq_u32_u16(vaddq_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
}

/* To every word the products of two signed halfwords. */
static inline ivec iv_dot_halfwords(ivec sum, ivec a, ivec b)
{
	int16x8_t x = vreinterpretq_s16_u32(a), y = vreinterpretq_s16_u32(b);
	int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);

	return vaddq_u32(sum, vreinterpretq_u32_s32(vpaddq_s32(low, high)));
}

/* Of unsigned words. */
static inline ivec iv_max(ivec a, ivec b)
{
	return vmaxq_u32(a, b);
}

static inline uint32_t iv_largest(ivec v)
{
	return vmaxvq_u32(v);
}

static inline void iv_store_bytes(int8_t *p, ivec v)
{
	int16x4_t half = vqmovn_s32(vreinterpretq_s32_u32(v));
	int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
	uint32_t word = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);

	memcpy(p, &word, sizeof(word));
}

/* Bytes below 16 as indices. */
static inline ivec iv_look_up(const int8_t *table, ivec v)
{
	return vreinterpretq_u32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_u32(v)));
}

static inline ivec iv_of_signed(ivec v)
{
	return v;
}

/* To the nearest, to even between two; of what is no number, zero. */
static inline ivec iv_round(fvec v)
{
	return vreinterpretq_u32_s32(vcvtnq_s32_f32(v));
}

static inline fvec fv_of_int(ivec v)
{
	return vcvtq_f32_s32(vreinterpretq_s32_u32(v));
}

/* The half in the low 16 bits of every word. */
static inline fvec fv_of_half(ivec v)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(v)));
}

static inline fvec fv_load_half(const uint16_t *p)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline fvec fv_load(const float *p)
{
	return vld1q_f32(p);
}

static inline void fv_store(float *p, fvec v)
{
	vst1q_f32(p, v);
}

static inline fvec fv_set(float x)
{
	return vdupq_n_f32(x);
}

static inline fvec fv_broadcast(const float *p)
{
	return vdupq_n_f32(*p);
}

static inline fvec fv_add(fvec a, fvec b)
{
	return vaddq_f32(a, b);
}

static inline fvec fv_sub(fvec a, fvec b)
{
	return vsubq_f32(a, b);
}

static inline fvec fv_mul(fvec a, fvec b)
{
	return vmulq_f32(a, b);
}

static inline fvec fv_div(fvec a, fvec b)
{
	return vdivq_f32(a, b);
}

static inline fvec fv_max(fvec a, fvec b)
{
	return vmaxq_f32(a, b);
}

static inline fvec fv_abs(fvec v)
{
	return vabsq_f32(v);
}

static inline fvec fv_fma(fvec a, fvec b, fvec c)
{
	return vfmaq_f32(c, a, b);
}

/* c - a * b */
static inline fvec fv_subtract_product(fvec c, fvec a, fvec b)
{
	return vfmsq_f32(c, a, b);
}

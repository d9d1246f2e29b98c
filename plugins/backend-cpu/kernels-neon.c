/* kernels-neon.c - vectors of 4 with what every 64-bit ARM has: NEON, conversions of halves among it. BF16 is widened and
 * rounded with integers. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels-inline.h"

#define LANES 4
typedef float32x4_t vec;

/* 32 registers: sums, rows of weights, one row of activations. */
#define MATVEC_TILES(tile, dtype) \
	tile(4, 1, dtype) tile(4, 2, dtype) tile(4, 4, dtype) tile(2, 8, dtype)

static ALWAYS_INLINE vec vec_zero(void)
{
	return vdupq_n_f32(0);
}

static ALWAYS_INLINE vec vec_set(float x)
{
	return vdupq_n_f32(x);
}

static ALWAYS_INLINE vec vec_load(const float *x)
{
	return vld1q_f32(x);
}

static ALWAYS_INLINE vec vec_load_part(const float *x, size_t n)
{
	float padded[LANES] = {0};

	memcpy(padded, x, n * sizeof(*x));
	return vld1q_f32(padded);
}

static ALWAYS_INLINE void vec_store(float *y, vec v)
{
	vst1q_f32(y, v);
}

static ALWAYS_INLINE void vec_store_part(float *y, vec v, size_t n)
{
	float padded[LANES];

	vst1q_f32(padded, v);
	memcpy(y, padded, n * sizeof(*y));
}

static ALWAYS_INLINE uint16x4_t load_narrow_part(const uint16_t *x, size_t n)
{
	uint16_t padded[LANES] = {0};

	memcpy(padded, x, n * sizeof(*x));
	return vld1_u16(padded);
}

static ALWAYS_INLINE void store_narrow_part(uint16_t *y, uint16x4_t bits, size_t n)
{
	uint16_t padded[LANES];

	vst1_u16(padded, bits);
	memcpy(y, padded, n * sizeof(*y));
}

static ALWAYS_INLINE vec widen_bf16_bits(uint16x4_t bits)
{
	return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

static ALWAYS_INLINE vec vec_load_bf16(const uint16_t *x)
{
	return widen_bf16_bits(vld1_u16(x));
}

static ALWAYS_INLINE vec vec_load_bf16_part(const uint16_t *x, size_t n)
{
	return widen_bf16_bits(load_narrow_part(x, n));
}

static ALWAYS_INLINE vec widen_f16_bits(uint16x4_t bits)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

static ALWAYS_INLINE vec vec_load_f16(const uint16_t *x)
{
	return widen_f16_bits(vld1_u16(x));
}

static ALWAYS_INLINE vec vec_load_f16_part(const uint16_t *x, size_t n)
{
	return widen_f16_bits(load_narrow_part(x, n));
}

static ALWAYS_INLINE uint16x4_t narrow_f16_bits(vec v)
{
	return vreinterpret_u16_f16(vcvt_f16_f32(v));
}

static ALWAYS_INLINE void vec_store_f16(uint16_t *y, vec v)
{
	vst1_u16(y, narrow_f16_bits(v));
}

static ALWAYS_INLINE void vec_store_f16_part(uint16_t *y, vec v, size_t n)
{
	store_narrow_part(y, narrow_f16_bits(v), n);
}

/* To the nearest, to even between two: add half of the last place, less one if that is even. A NaN is made quiet. */
static ALWAYS_INLINE uint16x4_t narrow_bf16_bits(vec v)
{
	uint32x4_t bits = vreinterpretq_u32_f32(v);
	uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
	uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
	uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));

	return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16);
}

static ALWAYS_INLINE void vec_store_bf16(uint16_t *y, vec v)
{
	vst1_u16(y, narrow_bf16_bits(v));
}

static ALWAYS_INLINE void vec_store_bf16_part(uint16_t *y, vec v, size_t n)
{
	store_narrow_part(y, narrow_bf16_bits(v), n);
}

static ALWAYS_INLINE vec vec_add(vec a, vec b)
{
	return vaddq_f32(a, b);
}

static ALWAYS_INLINE vec vec_sub(vec a, vec b)
{
	return vsubq_f32(a, b);
}

static ALWAYS_INLINE vec vec_mul(vec a, vec b)
{
	return vmulq_f32(a, b);
}

static ALWAYS_INLINE vec vec_div(vec a, vec b)
{
	return vdivq_f32(a, b);
}

static ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c)
{
	return vfmaq_f32(c, a, b);
}

/* Of a NaN and a number, both give the second: FMIN and FMAX would give the NaN. */
static ALWAYS_INLINE vec vec_min(vec a, vec b)
{
	return vbslq_f32(vcltq_f32(a, b), a, b);
}

static ALWAYS_INLINE vec vec_max(vec a, vec b)
{
	return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static ALWAYS_INLINE vec vec_round(vec v)
{
	return vrndnq_f32(v);
}

static ALWAYS_INLINE vec power_of_two(int32x4_t k)
{
	return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(k, vdupq_n_s32(127)), 23));
}

/* v * 2^k for whole |k| < 250, in two steps, since 2^k itself may be no float. */
static ALWAYS_INLINE vec vec_ldexp(vec v, vec k)
{
	int32x4_t whole = vcvtq_s32_f32(k), half = vshrq_n_s32(whole, 1);

	return vmulq_f32(vmulq_f32(v, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
}

static ALWAYS_INLINE float vec_sum(vec v)
{
	return vaddvq_f32(v);
}

static ALWAYS_INLINE float vec_largest(vec v)
{
	return vmaxvq_f32(v);
}

/* What kernels-blocks.h needs. */

typedef struct {
	uint8x16_t low, high;
} bytes32;

static ALWAYS_INLINE float of_half(uint16_t h)
{
	return vgetq_lane_f32(widen_f16_bits(vdup_n_u16(h)), 0);
}

static ALWAYS_INLINE void scale_i8(float *y, float factor, uint64_t x)
{
	int16x8_t whole = vmovl_s8(vcreate_s8(x));

	vst1q_f32(y, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(whole))), factor));
	vst1q_f32(y + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(whole)), factor));
}

static ALWAYS_INLINE bytes32 bytes_of(const void *p)
{
	const uint8_t *x = p;

	return (bytes32){vld1q_u8(x), vld1q_u8(x + 16)};
}

static ALWAYS_INLINE bytes32 either(bytes32 a, bytes32 b)
{
	return (bytes32){vorrq_u8(a.low, b.low), vorrq_u8(a.high, b.high)};
}

/* Written as operators, so that a shift by a constant is one instruction. */
static ALWAYS_INLINE bytes32 shifted(bytes32 x, unsigned n, char mask)
{
	uint8x16_t wanted = vdupq_n_u8((uint8_t)mask);

	return (bytes32){vandq_u8(x.low >> n, wanted), vandq_u8(x.high >> n, wanted)};
}

static ALWAYS_INLINE bytes32 raised(bytes32 x, int n)
{
	return (bytes32){x.low << n, x.high << n};
}

static ALWAYS_INLINE bytes32 less(bytes32 x, char n)
{
	uint8x16_t all = vdupq_n_u8((uint8_t)n);

	return (bytes32){vsubq_u8(x.low, all), vsubq_u8(x.high, all)};
}

static ALWAYS_INLINE bytes32 nibbles(const uint8_t *qs)
{
	uint8x16_t x = vld1q_u8(qs);

	return (bytes32){vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8(x, 4)};
}

static ALWAYS_INLINE bytes32 fifth_bits(const uint8_t *qh)
{
	uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201)), sixteen = vdupq_n_u8(16);
	uint8x16_t low = vcombine_u8(vdup_n_u8(qh[0]), vdup_n_u8(qh[1]));
	uint8x16_t high = vcombine_u8(vdup_n_u8(qh[2]), vdup_n_u8(qh[3]));

	return (bytes32){vandq_u8(vtstq_u8(low, bit), sixteen), vandq_u8(vtstq_u8(high, bit), sixteen)};
}

static ALWAYS_INLINE bytes32 looked_up(bytes32 nibbles, const int8_t *values)
{
	uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(values));

	return (bytes32){vqtbl1q_u8(table, nibbles.low), vqtbl1q_u8(table, nibbles.high)};
}

/* Of 32 bytes the 8 that vector @v of four comes from, with their signs. */
static ALWAYS_INLINE int16x8_t eight_of(bytes32 x, unsigned v)
{
	int8x16_t half = vreinterpretq_s8_u8(v < 4 ? x.low : x.high);

	return v % 4 < 2 ? vmovl_s8(vget_low_s8(half)) : vmovl_high_s8(half);
}

static ALWAYS_INLINE vec vec_of_integers(bytes32 x, unsigned v)
{
	int16x8_t eight = eight_of(x, v);

	return vcvtq_f32_s32(v % 2 ? vmovl_high_s16(eight) : vmovl_s16(vget_low_s16(eight)));
}

/* As halves, which are e4m3 with two more bits of exponent and 2^8 times smaller: the sign goes over what its copy leaves
 * above the magnitude. */
static ALWAYS_INLINE vec vec_of_fp8(bytes32 x, unsigned v)
{
	uint16x8_t raised = vshlq_n_u16(vreinterpretq_u16_s16(eight_of(x, v)), 7);
	uint16x8_t magnitude = vandq_u16(raised, vdupq_n_u16(0x3f80));
	uint16x8_t nan = vceqq_u16(magnitude, vdupq_n_u16(0x3f80));
	uint16x8_t half = vorrq_u16(vandq_u16(raised, vdupq_n_u16(0xbf80)), nan);

	return vmulq_n_f32(widen_f16_bits(v % 2 ? vget_high_u16(half) : vget_low_u16(half)), 256);
}

#include "kernels-simd.h"
#include "kernels-attention-simd.h"

void ds_kernels_init_neon(struct ds_kernels *k)
{
	replace_kernels(k);
	k->gemm_min = 24;
	k->attend = k->attend_few = attend_kernels;
}

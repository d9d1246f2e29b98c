/* tiles-neon.c - int8 products with what every 64-bit ARM has: bytes are multiplied to 16 bits and added in pairs there,
 * which two products of -128 to 127 with -127 to 127 cannot exceed; pairs of pairs go to 32 bits. */
#include "tiles-neon.h"

static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	int8x16_t a = vreinterpretq_s8_u32(w), b = vreinterpretq_s8_u32(x);
	int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);

	return vreinterpretq_u32_s32(vpadalq_s16(vreinterpretq_s32_u32(sum), vpaddq_s16(low, high)));
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return iv_dot_signed(sum, w, x);
}

#include "tiles-simd.h"

void ds_tiles_init_neon(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

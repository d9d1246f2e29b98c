/* tiles-neon-dotprod.c - int8 products with the dot products of ARMv8.2: one sdot for 16 products. Compiled with that flag
 * and called only where the CPU has it. */
#include "tiles-neon.h"

static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	int8x16_t a = vreinterpretq_s8_u32(w), b = vreinterpretq_s8_u32(x);

	return vreinterpretq_u32_s32(vdotq_s32(vreinterpretq_s32_u32(sum), a, b));
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return iv_dot_signed(sum, w, x);
}

#include "tiles-simd.h"

void ds_tiles_init_neon_dotprod(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

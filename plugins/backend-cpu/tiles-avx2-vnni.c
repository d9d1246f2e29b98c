/* tiles-avx2-vnni.c - int8 products with AVX-VNNI, for CPUs that have it and no AVX-512. */
#include "tiles-avx2.h"

#define SIGNED_OFFSET 128

/* vpdpbusd takes its first operand as unsigned. */
static inline ivec iv_of_signed(ivec v)
{
	return _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80));
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return _mm256_dpbusd_avx_epi32(sum, w, x);
}

static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	return _mm256_dpbusd_avx_epi32(sum, w, x);
}

#include "tiles-simd.h"

void ds_tiles_init_avx2_vnni(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

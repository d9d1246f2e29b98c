/* tiles-avx2.c - int8 products with AVX2: vpmaddubsw takes unsigned by signed bytes and saturates at 16 bits, which pairs
 * of bytes below 64 never reach; signed bytes go in as magnitudes, their signs on the activations. */
#include "tiles-avx2.h"

#define SIGNED_OFFSET 0

static inline ivec iv_of_signed(ivec v)
{
	return v;
}

static inline ivec iv_dot(ivec sum, ivec w, ivec x)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}

/* Codes are within +-127, so that negating them is exact; 2 * 128 * 127 is below 2^15. */
static inline ivec iv_dot_signed(ivec sum, ivec w, ivec x)
{
	return iv_dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

#include "tiles-simd.h"

void ds_tiles_init_avx2(struct ds_tiles *tiles)
{
	set_tiles(tiles);
}

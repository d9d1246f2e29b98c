/* kernels-x86.h - the bytes of quantised blocks with AVX2: what kernels-blocks.h asks of an instruction set.
 *
 * Included by the files of AVX2 and AVX-512, after vec_of_i8() and vec_of_e4m3(), which turn the first LANES of 16 bytes
 * into floats. */
#include "kernels-inline.h"

typedef __m256i bytes32;

static ALWAYS_INLINE float of_half(uint16_t h)
{
	return _cvtsh_ss(h);
}

static ALWAYS_INLINE void scale_i8(float *y, float factor, uint64_t x)
{
	__m256i whole = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)x));

	_mm256_storeu_ps(y, _mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(whole)));
}

static ALWAYS_INLINE bytes32 bytes_of(const void *p)
{
	return _mm256_loadu_si256(p);
}

static ALWAYS_INLINE bytes32 either(bytes32 a, bytes32 b)
{
	return _mm256_or_si256(a, b);
}

static ALWAYS_INLINE bytes32 shifted(bytes32 x, unsigned n, char mask)
{
	return _mm256_and_si256(_mm256_srl_epi16(x, _mm_cvtsi32_si128((int)n)), _mm256_set1_epi8(mask));
}

static ALWAYS_INLINE bytes32 raised(bytes32 x, int n)
{
	return _mm256_slli_epi16(x, n);
}

static ALWAYS_INLINE bytes32 less(bytes32 x, char n)
{
	return _mm256_sub_epi8(x, _mm256_set1_epi8(n));
}

static ALWAYS_INLINE bytes32 nibbles(const uint8_t *qs)
{
	__m128i x = _mm_loadu_si128((const __m128i *)qs);

	return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(x, 4), x), _mm256_set1_epi8(15));
}

static ALWAYS_INLINE bytes32 fifth_bits(const uint8_t *qh)
{
	__m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201), x;
	uint32_t bits;

	memcpy(&bits, qh, sizeof(bits));
	x = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits),
				_mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
	x = _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
	return _mm256_and_si256(x, _mm256_set1_epi8(16));
}

static ALWAYS_INLINE bytes32 looked_up(bytes32 nibbles, const int8_t *values)
{
	__m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)values));

	return _mm256_shuffle_epi8(table, nibbles);
}

/* Bytes @v * LANES and on of 32. */
static ALWAYS_INLINE __m128i part_of(bytes32 x, unsigned v)
{
	__m128i part = v * LANES < 16 ? _mm256_castsi256_si128(x) : _mm256_extracti128_si256(x, 1);

	return v * LANES % 16 > 0 ? _mm_srli_si128(part, 8) : part;
}

static ALWAYS_INLINE vec vec_of_integers(bytes32 x, unsigned v)
{
	return vec_of_i8(part_of(x, v));
}

static ALWAYS_INLINE vec vec_of_fp8(bytes32 x, unsigned v)
{
	return vec_of_e4m3(part_of(x, v));
}

/* peak-avx2.c - FMA on 8 floats; and the three instructions that multiply 32 pairs of bytes without VNNI. */
#include "peak.h"

#include <immintrin.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define HOLD(i) __asm__ volatile("" : "+x"(s##i));
#define BEGIN_FLOATS(i) __m256 s##i = _mm256_setzero_ps();
#define STEP_FLOATS(i) s##i = _mm256_fmadd_ps(x, y, s##i);
#define BEGIN_BYTES(i) __m256i s##i = _mm256_setzero_si256();
/* Else what is the same in every sum would be computed once. */
#define STEP_BYTES(i)                                                                      \
	__asm__ volatile("" : "+x"(x));                                                    \
	s##i = _mm256_add_epi32(s##i, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));

static void run_floats(uint64_t n_turns)
{
	__m256 x = _mm256_set1_ps(1.25f), y = _mm256_set1_ps(1e-6f);
	DS_PEAK_EACH(BEGIN_FLOATS)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP_FLOATS)
		DS_PEAK_EACH(HOLD)
	}
}

static void run_bytes(uint64_t n_turns)
{
	__m256i x = _mm256_set1_epi8(11), y = _mm256_set1_epi8(-3), ones = _mm256_set1_epi16(1);
	DS_PEAK_EACH(BEGIN_BYTES)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP_BYTES)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_f32_avx2 = {DS_PEAK_SUMS * 8 * 2, run_floats};
const struct ds_peak_loop ds_peak_int8_avx2 = {DS_PEAK_SUMS * 32 * 2, run_bytes};

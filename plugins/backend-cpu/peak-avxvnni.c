/* peak-avxvnni.c - vpdpbusd on 32 pairs of bytes, for CPUs without AVX-512. */
#include "peak.h"

#include <immintrin.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) __m256i s##i = _mm256_setzero_si256();
#define STEP(i) s##i = _mm256_dpbusd_avx_epi32(s##i, x, y);
#define HOLD(i) __asm__ volatile("" : "+x"(s##i));

static void run(uint64_t n_turns)
{
	__m256i x = _mm256_set1_epi8(11), y = _mm256_set1_epi8(-3);
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_int8_avxvnni = {DS_PEAK_SUMS * 32 * 2, run};

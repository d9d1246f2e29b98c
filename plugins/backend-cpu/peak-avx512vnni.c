/* peak-avx512vnni.c - vpdpbusd: 64 pairs of bytes into 16 integers. */
#include "peak.h"

#include <immintrin.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) __m512i s##i = _mm512_setzero_si512();
#define STEP(i) s##i = _mm512_dpbusd_epi32(s##i, x, y);
#define HOLD(i) __asm__ volatile("" : "+v"(s##i));

static void run(uint64_t n_turns)
{
	__m512i x = _mm512_set1_epi8(11), y = _mm512_set1_epi8(-3);
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_int8_avx512 = {DS_PEAK_SUMS * 64 * 2, run};

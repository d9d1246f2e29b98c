/* peak-avx512bf16.c - vdpbf16ps: 32 pairs of BF16 into 16 floats. */
#include "peak.h"

#include <immintrin.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) __m512 s##i = _mm512_setzero_ps();
#define STEP(i) s##i = _mm512_dpbf16_ps(s##i, x, y);
#define HOLD(i) __asm__ volatile("" : "+v"(s##i));

static void run(uint64_t n_turns)
{
	__m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.25f), _mm512_set1_ps(1.5f)), y = x;
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_bf16_avx512 = {DS_PEAK_SUMS * 32 * 2, run};

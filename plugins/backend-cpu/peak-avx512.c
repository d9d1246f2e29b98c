/* peak-avx512.c - FMA on 16 floats. */
#include "peak.h"

#include <immintrin.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) __m512 s##i = _mm512_setzero_ps();
#define STEP(i) s##i = _mm512_fmadd_ps(x, y, s##i);
#define HOLD(i) __asm__ volatile("" : "+v"(s##i));

static void run(uint64_t n_turns)
{
	__m512 x = _mm512_set1_ps(1.25f), y = _mm512_set1_ps(1e-6f);
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_f32_avx512 = {DS_PEAK_SUMS * 16 * 2, run};

/* peak-neon.c - FMA on 4 floats. */
#include "peak.h"

#include <arm_neon.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) float32x4_t s##i = vdupq_n_f32(0);
#define STEP(i) s##i = vfmaq_f32(s##i, x, y);
#define HOLD(i) __asm__ volatile("" : "+w"(s##i));

static void run(uint64_t n_turns)
{
	float32x4_t x = vdupq_n_f32(1.25f), y = vdupq_n_f32(1e-6f);
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_f32_neon = {DS_PEAK_SUMS * 4 * 2, run};

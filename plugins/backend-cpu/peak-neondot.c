/* peak-neondot.c - sdot: 16 pairs of bytes into 4 integers. */
#include "peak.h"

#include <arm_neon.h>

/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) int32x4_t s##i = vdupq_n_s32(0);
#define STEP(i) s##i = vdotq_s32(s##i, x, y);
#define HOLD(i) __asm__ volatile("" : "+w"(s##i));

static void run(uint64_t n_turns)
{
	int8x16_t x = vdupq_n_s8(11), y = vdupq_n_s8(-3);
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_int8_neon = {DS_PEAK_SUMS * 16 * 2, run};

/* peak-portable.c - multiplying and adding floats in vectors of 16 bytes, which every compiler makes the best of. */
#include "peak.h"

typedef float four __attribute__((vector_size(16)));

#if defined(__x86_64__)
#define REGISTER "x"
#else
#define REGISTER "w"
#endif
/* The compiler must neither know what the sums are nor leave them out. */
#define BEGIN(i) four s##i = {0};
#define STEP(i) s##i = s##i * x + y;
#define HOLD(i) __asm__ volatile("" : "+" REGISTER(s##i));

static void run(uint64_t n_turns)
{
	four x = {0.5f, 0.5f, 0.5f, 0.5f}, y = {1, 1, 1, 1};
	DS_PEAK_EACH(BEGIN)

	for (uint64_t turn = 0; turn < n_turns; turn++) {
		DS_PEAK_EACH(STEP)
		DS_PEAK_EACH(HOLD)
	}
}

const struct ds_peak_loop ds_peak_f32_portable = {DS_PEAK_SUMS * 4 * 2, run};

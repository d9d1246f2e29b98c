/* peak.h - loops that keep one unit of a CPU busy and do nothing else: what no product can be faster than.
 *
 * Each is a file with the flags of its instruction set. It has as many sums going as hide the latency of the unit, in
 * registers, and nothing is loaded. */
#pragma once

#include <stdint.h>

#define DS_PEAK_SUMS 12 /* latency of 4 or 5 cycles, two units, and some to spare; 16 registers are enough */

/* @what for each of the sums. */
#define DS_PEAK_EACH(what) \
	what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) what(11)

struct ds_peak_loop {
	uint64_t n_operations;	   /* of a turn: multiplications and additions */
	void (*run)(uint64_t n_turns);
};

extern const struct ds_peak_loop ds_peak_f32_portable, ds_peak_f32_avx2, ds_peak_f32_avx512, ds_peak_f32_neon;
extern const struct ds_peak_loop ds_peak_bf16_avx512;
extern const struct ds_peak_loop ds_peak_int8_avx2, ds_peak_int8_avxvnni, ds_peak_int8_avx512, ds_peak_int8_neon;

/* exp.h - the exponential of a number not above 0, without a table or a branch, so that compilers make vectors of it.
 *
 * exp(x) = 2^k * exp(r), k the whole number next to x / ln 2 and |r| <= ln 2 / 2, where eight terms of the series are off by
 * less than 6e-9 of the value: what rounding adds is more. The same bits on every machine, which expf does not promise. */
#pragma once

#include <stdint.h>
#include <string.h>

/* @x <= 0. To a unit in the last place; exactly 1 for 0; 0 where a float would lose bits (below -87), and for what is
 * no number. */
static inline float ds_exp(float x)
{
	const float round = 0x1.8p23f; /* added, it leaves no bits below 1: the lowest bits of the sum are k */
	float clamped = x > -87 ? x : -87, shifted, k, r, y, scale;
	uint32_t bits;

	shifted = clamped * 0x1.715476p0f + round;
	k = shifted - round;
	r = (clamped - k * 0x1.62e4p-1f) - k * 0x1.7f7d1cp-20f; /* ln 2 in two parts: k times the first is exact */
	y = 1.0f / 5040;
	y = y * r + 1.0f / 720;
	y = y * r + 1.0f / 120;
	y = y * r + 1.0f / 24;
	y = y * r + 1.0f / 6;
	y = y * r + 0.5f;
	y = y * r + 1;
	y = y * r + 1;
	memcpy(&bits, &shifted, sizeof(bits));
	bits = (bits << 23) + 0x3f800000; /* 2^k: of the sum only the low bits matter */
	memcpy(&scale, &bits, sizeof(scale));
	y *= scale;
	return x > -87 ? y : 0;
}

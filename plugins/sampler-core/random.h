/* random.h - xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its state
 * filled from one number by SplitMix64 as its authors recommend. A seed gives the same draws on every machine. */
#pragma once

#include <stdint.h>

struct ds_random {
	uint64_t state[4]; /* never all zero */
};

static inline uint64_t ds_rotate_left(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t ds_splitmix(uint64_t *counter)
{
	uint64_t z = *counter += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline void ds_random_init(struct ds_random *random, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		random->state[i] = ds_splitmix(&seed);
}

static inline uint64_t ds_random_next(struct ds_random *random)
{
	uint64_t *s = random->state;
	uint64_t result = ds_rotate_left(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = ds_rotate_left(s[3], 45);
	return result;
}

/* Uniform in [0, 1), 53 bits. */
static inline double ds_random_unit(struct ds_random *random)
{
	return (double)(ds_random_next(random) >> 11) * 0x1p-53;
}

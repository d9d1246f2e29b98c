/* tiles-unpack.h - from the panels of each type to tiles, LANES rows at a time.
 *
 * Included by tiles-simd.h after the functions of an instruction set: ivec is LANES 32-bit words, a row's in each; fvec
 * LANES floats. What the bits mean is defined in quants.h; every scale is rounded there and here the same. */

/* Where the scales of a block go, for the rows of one vector. */
struct scales {
	float *scales, *mins; /* of blocks of 32 */
	int32_t *k_scales;    /* of blocks of 256 */
	uint32_t *k_mins;
	float *d, *d_min;
};

/* A block of a type, as its words lie in a panel: those of the scales, then steps of a few words each, which bring bytes of
 * four elements from each of several places. Steps that bring elements of the same groups are a part. */
struct shape {
	unsigned first;	  /* words before the steps */
	unsigned n_parts; /* of a block */
	unsigned n_steps; /* of a part */
	unsigned n_words; /* of a step */
	unsigned n_outputs; /* vectors of bytes that a step brings, */
	unsigned stride;    /* this many times four elements apart */
	unsigned n_at_once; /* steps in a row without a loop: few, or the code outruns memory's prefetching */
};

static ALWAYS_INLINE struct shape shape_of(enum ds_dtype dtype)
{
	switch (dtype) {
	case DS_DTYPE_Q4_0:
	case DS_DTYPE_IQ4_NL:
	case DS_DTYPE_MXFP4:
		return (struct shape){0, 1, 4, 1, 2, 4, 4};
	case DS_DTYPE_Q4_1:
	case DS_DTYPE_Q5_0:
		return (struct shape){1, 1, 4, 1, 2, 4, 4};
	case DS_DTYPE_Q5_1:
		return (struct shape){2, 1, 4, 1, 2, 4, 4};
	case DS_DTYPE_Q8_0:
		return (struct shape){0, 1, 8, 1, 1, 8, 8};
	case DS_DTYPE_Q2_K:
		return (struct shape){5, 4, 4, 1, 4, 8, 4};
	case DS_DTYPE_Q3_K:
		return (struct shape){3, 2, 4, 3, 8, 8, 2};
	case DS_DTYPE_Q4_K:
		return (struct shape){4, 4, 8, 1, 2, 8, 4};
	case DS_DTYPE_Q5_K:
		return (struct shape){4, 1, 8, 5, 8, 8, 1};
	case DS_DTYPE_Q6_K:
		return (struct shape){4, 4, 4, 3, 4, 8, 2};
	case DS_DTYPE_IQ4_XS:
		return (struct shape){2, 8, 4, 1, 2, 4, 4};
	default:
		return (struct shape){0};
	}
}

/* The first four elements of output 0 of a part, as a multiple of four. */
static ALWAYS_INLINE unsigned part_begin(struct shape s, unsigned part)
{
	const unsigned n = s.stride / s.n_steps; /* parts whose outputs alternate */

	return part / n * s.n_outputs * s.stride + part % n * s.n_steps;
}

static ALWAYS_INLINE ivec word(const uint8_t *words, unsigned u)
{
	return iv_load(words + u * 64);
}

static ALWAYS_INLINE ivec low_nibbles(ivec v)
{
	return iv_and(v, iv_set8(0x0f));
}

static ALWAYS_INLINE ivec high_nibbles(ivec v)
{
	return iv_and(iv_shr(v, 4), iv_set8(0x0f));
}

/* Byte @j of every word. */
static ALWAYS_INLINE ivec byte_of(ivec v, unsigned j)
{
	return iv_and(iv_shr(v, 8 * j), iv_set32(0xff));
}

/* Bytes 0 and 1, or with @j 1 bytes 2 and 3, as halfwords. */
static ALWAYS_INLINE ivec halfwords_of(ivec v, unsigned j)
{
	v = iv_shr(v, 16 * j);
	return iv_or(iv_and(v, iv_set32(0xff)), iv_and(iv_shl(v, 8), iv_set32(0xff0000)));
}

/* Bits 0 to 3 of every word as the fifth bits of its four bytes. */
static ALWAYS_INLINE ivec fifth_bits(ivec v)
{
	v = iv_and(v, iv_set32(15));
	v = iv_or(iv_or(v, iv_shl(v, 7)), iv_or(iv_shl(v, 14), iv_shl(v, 21)));
	return iv_shl(iv_and(v, iv_set8(1)), 4);
}

/* Scales and minimums of groups 0 to 3 and 4 to 7 of Q4_K and Q5_K, a byte each: ds_scale_min_k4(). */
static ALWAYS_INLINE void scales_k4(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	ivec s0 = word(words, 1), s1 = word(words, 2), s2 = word(words, 3), d = word(words, 0);
	ivec six = iv_set8(0x3f), high = iv_set8(0x30);
	ivec scale[2] = {iv_and(s0, six), iv_or(low_nibbles(s2), iv_and(iv_shr(s0, 2), high))};
	ivec min[2] = {iv_and(s1, six), iv_or(high_nibbles(s2), iv_and(iv_shr(s1, 2), high))};

	fv_store(t.d, fv_of_half(d));
	fv_store(t.d_min, fv_of_half(iv_shr(d, 16)));
	UNROLL
	for (unsigned g = 0; g < 8; g++)
		iv_store(t.k_scales + g * DS_PANEL, byte_of(scale[g / 4], g % 4));
	UNROLL
	for (unsigned g = 0; g < 4; g++)
		iv_store(t.k_mins + g * DS_PANEL, halfwords_of(min[g / 2], g % 2));
}

static ALWAYS_INLINE void step_nibbles(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	ivec q = word(words, 0);

	out[0] = low_nibbles(q);
	out[1] = high_nibbles(q);
}

static ALWAYS_INLINE void step_q5_k(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	ivec fifth = word(words, 0), bit = iv_set8(0x10);

	UNROLL
	for (unsigned i = 0; i < 4; i++) {
		ivec q = word(words, 1 + i);
		/* Bits 2 i and 2 i + 1, to bit 4. */
		ivec a = i < 2 ? iv_shl(fifth, 4 - 2 * i) : iv_shr(fifth, 2 * i - 4);
		ivec b = i < 2 ? iv_shl(fifth, 3 - 2 * i) : iv_shr(fifth, 2 * i - 3);

		out[2 * i] = iv_or(low_nibbles(q), iv_and(a, bit));
		out[2 * i + 1] = iv_or(high_nibbles(q), iv_and(b, bit));
	}
}

static ALWAYS_INLINE void scales_q6_k(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	fv_store(t.d, fv_load_half((const uint16_t *)heads));
	UNROLL
	for (unsigned i = 0; i < 16; i++)
		iv_store(t.k_scales + i * DS_PANEL, iv_sar(iv_shl(word(words, i / 4), 24 - 8 * (i % 4)), 24));
}

static ALWAYS_INLINE void step_q6_k(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	ivec a = word(words, 0), b = word(words, 1), high = word(words, 2), two = iv_set8(0x30);

	out[0] = iv_or(low_nibbles(a), iv_and(iv_shl(high, 4), two));
	out[1] = iv_or(low_nibbles(b), iv_and(iv_shl(high, 2), two));
	out[2] = iv_or(high_nibbles(a), iv_and(high, two));
	out[3] = iv_or(high_nibbles(b), iv_and(iv_shr(high, 2), two));
}

static ALWAYS_INLINE void scales_q2_k(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	ivec both = word(words, 0);

	fv_store(t.d, fv_of_half(both));
	fv_store(t.d_min, fv_of_half(iv_shr(both, 16)));
	UNROLL
	for (unsigned i = 0; i < 16; i++)
		iv_store(t.k_scales + i * DS_PANEL, byte_of(low_nibbles(word(words, 1 + i / 4)), i % 4));
	UNROLL
	for (unsigned i = 0; i < 8; i++)
		iv_store(t.k_mins + i * DS_PANEL, halfwords_of(high_nibbles(word(words, 1 + i / 2)), i % 2));
}

static ALWAYS_INLINE void step_q2_k(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	ivec q = word(words, 0);

	UNROLL
	for (unsigned i = 0; i < 4; i++)
		out[i] = iv_and(iv_shr(q, 2 * i), iv_set8(3));
}

static ALWAYS_INLINE void scales_q3_k(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	ivec high = word(words, 2);

	fv_store(t.d, fv_load_half((const uint16_t *)heads));
	UNROLL
	for (unsigned i = 0; i < 4; i++) {
		ivec low = word(words, i % 2);
		ivec v = iv_or(i < 2 ? low_nibbles(low) : high_nibbles(low),
			       iv_shl(iv_and(iv_shr(high, 2 * i), iv_set8(3)), 4));

		UNROLL
		for (unsigned j = 0; j < 4; j++)
			iv_store(t.k_scales + (4 * i + j) * DS_PANEL, iv_sub(byte_of(v, j), iv_set32(32)));
	}
}

static ALWAYS_INLINE void step_q3_k(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	ivec third = word(words, 0), bit = iv_set8(4);

	UNROLL
	for (unsigned i = 0; i < 8; i++) {
		ivec q = word(words, 1 + i / 4);

		out[i] = iv_or(iv_and(iv_shr(q, 2 * (i % 4)), iv_set8(3)),
			       iv_and(i < 2 ? iv_shl(third, 2 - i) : iv_shr(third, i - 2), bit));
	}
}

static ALWAYS_INLINE void scales_half(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	fv_store(t.scales, fv_load_half((const uint16_t *)heads));
}

static ALWAYS_INLINE void step_q8_0(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	out[0] = iv_of_signed(word(words, 0));
}

/* The first word holds the scale and, as a value to add, the minimum. */
static ALWAYS_INLINE void scales_two_halves(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	ivec both = word(words, 0);

	fv_store(t.scales, fv_of_half(both));
	fv_store(t.mins, fv_sub(fv_set(0), fv_of_half(iv_shr(both, 16))));
}

/* @fifth: the word of fifth bits of the block. */
static ALWAYS_INLINE void five_bits(ivec fifth, const uint8_t *words, unsigned u, ivec *out)
{
	ivec q = word(words, 0);

	out[0] = iv_or(low_nibbles(q), fifth_bits(iv_shr(fifth, 4 * u)));
	out[1] = iv_or(high_nibbles(q), fifth_bits(iv_shr(fifth, 16 + 4 * u)));
}

static ALWAYS_INLINE void step_q5_0(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	five_bits(word(block, 0), words, u, out);
}

static ALWAYS_INLINE void step_q5_1(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	five_bits(word(block, 1), words, u, out);
}

/* Nibbles that stand for the values of a table. */
static ALWAYS_INLINE void look_up(const uint8_t *words, ivec *out, const int8_t *values)
{
	ivec q = word(words, 0);

	out[0] = iv_of_signed(iv_look_up(values, low_nibbles(q)));
	out[1] = iv_of_signed(iv_look_up(values, high_nibbles(q)));
}

static _Alignas(16) const int8_t iq4_values[16] = DS_IQ4_VALUES;
static _Alignas(16) const int8_t mxfp4_values[16] = DS_MXFP4_VALUES;

static ALWAYS_INLINE void step_iq4(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	look_up(words, out, iq4_values);
}

static ALWAYS_INLINE void scales_iq4_xs(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	ivec first = word(words, 0), high = iv_shr(first, 16), low = word(words, 1);

	fv_store(t.d, fv_of_half(first));
	UNROLL
	for (unsigned g = 0; g < 8; g++) {
		ivec v = iv_or(iv_and(iv_shr(low, 4 * g), iv_set32(15)),
			       iv_shl(iv_and(iv_shr(high, 2 * g), iv_set32(3)), 4));

		iv_store(t.k_scales + g * DS_PANEL, iv_sub(v, iv_set32(32)));
	}
}

static ALWAYS_INLINE void scales_mxfp4(const uint8_t *heads, const uint8_t *words, struct scales t)
{
	for (unsigned r = 0; r < LANES; r++)
		t.scales[r] = ds_e8m0_half_to_f32(heads[r]);
}

static ALWAYS_INLINE void step_mxfp4(const uint8_t *block, const uint8_t *words, unsigned u, ivec *out)
{
	look_up(words, out, mxfp4_values);
}

/* Types that have the scales of others, or steps. */
#define scales_q4_0 scales_half
#define scales_q5_0 scales_half
#define scales_q8_0 scales_half
#define scales_iq4_nl scales_half
#define scales_q4_1 scales_two_halves
#define scales_q5_1 scales_two_halves
#define scales_q4_k scales_k4
#define scales_q5_k scales_k4
#define step_q4_0 step_nibbles
#define step_q4_1 step_nibbles
#define step_q4_k step_nibbles
#define step_iq4_nl step_iq4
#define step_iq4_xs step_iq4

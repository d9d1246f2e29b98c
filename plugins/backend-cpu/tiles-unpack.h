/* tiles-unpack.h - from the panels of each type to tiles, LANES rows at a time.
 *
 * Included by tiles-simd.h after the functions of an instruction set: ivec is LANES 32-bit words, a row's in each; fvec
 * LANES floats. What the bits mean is defined in quants.h; every scale is rounded there and here the same. */

/* Where the words of a block are, for the rows of one vector, and where in the tile they go. */
struct source {
	const uint8_t *heads; /* of the rows of this vector */
	const uint8_t *words;
};

struct target {
	uint8_t *codes;
	/* Or, when @sums is set, nowhere: they are multiplied at once with @n rows of activations, whose bytes of this block
	 * begin at @x, and added to the sums of their group. All constants where this is inlined. */
	ivec (*sums)[FEW];
	const int8_t *x;
	unsigned n;
	enum ds_tile_kind kind;
	float *scales, *mins;		    /* of blocks of 32 */
	int32_t *k_scales;		    /* of blocks of 256 */
	uint32_t *k_mins;
	float *d, *d_min;
};

static ALWAYS_INLINE ivec word(const uint8_t *words, unsigned u)
{
	return iv_load(words + u * 64);
}

/* @v: elements 4 * @k4 to 4 * @k4 + 3 of the block. */
static ALWAYS_INLINE void put(struct target t, unsigned k4, ivec v)
{
	if (!t.sums) {
		iv_store(t.codes + k4 * 64, v);
		return;
	}
	UNROLL
	for (unsigned i = 0; i < t.n; i++) {
		ivec *sum = &t.sums[k4 * 4 / ds_tile_group(t.kind)][i], x = iv_broadcast(t.x + (k4 * t.n + i) * 4);

		*sum = ds_tile_is_signed(t.kind) ? iv_dot_signed(*sum, v, x) : iv_dot(*sum, v, x);
	}
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
static ALWAYS_INLINE void scales_k4(const uint8_t *words, struct target t)
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

static ALWAYS_INLINE void unpack_q4_k(struct source s, struct target t)
{
	scales_k4(s.words, t);
	UNROLL
	for (unsigned u = 0; u < 32; u++) {
		ivec q = word(s.words, 4 + u);

		put(t, u / 8 * 16 + u % 8, low_nibbles(q));
		put(t, u / 8 * 16 + 8 + u % 8, high_nibbles(q));
	}
}

static ALWAYS_INLINE void unpack_q5_k(struct source s, struct target t)
{
	scales_k4(s.words, t);
	UNROLL
	for (unsigned u = 0; u < 8; u++) {
		ivec fifth = word(s.words, 4 + u), one = iv_set8(1);

		UNROLL
		for (unsigned i = 0; i < 4; i++) {
			ivec q = word(s.words, 12 + 8 * i + u);
			ivec a = iv_and(iv_shr(fifth, 2 * i), one), b = iv_and(iv_shr(fifth, 2 * i + 1), one);

			put(t, 16 * i + u, iv_or(low_nibbles(q), iv_shl(a, 4)));
			put(t, 16 * i + 8 + u, iv_or(high_nibbles(q), iv_shl(b, 4)));
		}
	}
}

static ALWAYS_INLINE void unpack_q6_k(struct source s, struct target t)
{
	ivec two = iv_set8(0x30);

	fv_store(t.d, fv_load_half((const uint16_t *)s.heads));
	UNROLL
	for (unsigned i = 0; i < 16; i++)
		iv_store(t.k_scales + i * DS_PANEL,
			 iv_sar(iv_shl(word(s.words, 48 + i / 4), 24 - 8 * (i % 4)), 24));
	UNROLL
	for (unsigned h = 0; h < 2; h++) {
		UNROLL
		for (unsigned u = 0; u < 8; u++) {
			ivec a = word(s.words, 16 * h + u), b = word(s.words, 16 * h + 8 + u);
			ivec high = word(s.words, 32 + 8 * h + u);

			put(t, 32 * h + u, iv_or(low_nibbles(a), iv_and(iv_shl(high, 4), two)));
			put(t, 32 * h + 8 + u, iv_or(low_nibbles(b), iv_and(iv_shl(high, 2), two)));
			put(t, 32 * h + 16 + u, iv_or(high_nibbles(a), iv_and(high, two)));
			put(t, 32 * h + 24 + u, iv_or(high_nibbles(b), iv_and(iv_shr(high, 2), two)));
		}
	}
}

static ALWAYS_INLINE void unpack_q2_k(struct source s, struct target t)
{
	ivec both = word(s.words, 20);

	fv_store(t.d, fv_of_half(both));
	fv_store(t.d_min, fv_of_half(iv_shr(both, 16)));
	UNROLL
	for (unsigned i = 0; i < 16; i++)
		iv_store(t.k_scales + i * DS_PANEL, byte_of(low_nibbles(word(s.words, i / 4)), i % 4));
	UNROLL
	for (unsigned i = 0; i < 8; i++)
		iv_store(t.k_mins + i * DS_PANEL, halfwords_of(high_nibbles(word(s.words, i / 2)), i % 2));
	UNROLL
	for (unsigned u = 0; u < 16; u++) {
		ivec q = word(s.words, 4 + u);

		UNROLL
		for (unsigned i = 0; i < 4; i++)
			put(t, u / 8 * 32 + 8 * i + u % 8, iv_and(iv_shr(q, 2 * i), iv_set8(3)));
	}
}

static ALWAYS_INLINE void unpack_q3_k(struct source s, struct target t)
{
	ivec high = word(s.words, 26);

	fv_store(t.d, fv_load_half((const uint16_t *)s.heads));
	UNROLL
	for (unsigned i = 0; i < 4; i++) {
		ivec low = word(s.words, 24 + i % 2);
		ivec v = iv_or(i < 2 ? low_nibbles(low) : high_nibbles(low),
			       iv_shl(iv_and(iv_shr(high, 2 * i), iv_set8(3)), 4));

		UNROLL
		for (unsigned j = 0; j < 4; j++)
			iv_store(t.k_scales + (4 * i + j) * DS_PANEL, iv_sub(byte_of(v, j), iv_set32(32)));
	}
	UNROLL
	for (unsigned h = 0; h < 2; h++) {
		UNROLL
		for (unsigned u = 0; u < 8; u++) {
			ivec q = word(s.words, 8 + 8 * h + u), mask = iv_shr(word(s.words, u), 4 * h);

			UNROLL
			for (unsigned i = 0; i < 4; i++) {
				ivec third = iv_shl(iv_and(iv_shr(mask, i), iv_set8(1)), 2);

				put(t, 32 * h + 8 * i + u, iv_or(iv_and(iv_shr(q, 2 * i), iv_set8(3)), third));
			}
		}
	}
}

static ALWAYS_INLINE void unpack_q8_0(struct source s, struct target t)
{
	fv_store(t.scales, fv_load_half((const uint16_t *)s.heads));
	UNROLL
	for (unsigned u = 0; u < 8; u++)
		put(t, u, iv_of_signed(word(s.words, u)));
}

static ALWAYS_INLINE void unpack_q4_0(struct source s, struct target t)
{
	fv_store(t.scales, fv_load_half((const uint16_t *)s.heads));
	UNROLL
	for (unsigned u = 0; u < 4; u++) {
		ivec q = word(s.words, u);

		put(t, u, low_nibbles(q));
		put(t, 4 + u, high_nibbles(q));
	}
}

/* The first word holds the scale and, as a value to add, the minimum. */
static ALWAYS_INLINE void scale_and_sum(const uint8_t *words, struct target t)
{
	ivec both = word(words, 0);

	fv_store(t.scales, fv_of_half(both));
	fv_store(t.mins, fv_sub(fv_set(0), fv_of_half(iv_shr(both, 16))));
}

static ALWAYS_INLINE void unpack_q4_1(struct source s, struct target t)
{
	scale_and_sum(s.words, t);
	UNROLL
	for (unsigned u = 0; u < 4; u++) {
		ivec q = word(s.words, 1 + u);

		put(t, u, low_nibbles(q));
		put(t, 4 + u, high_nibbles(q));
	}
}

/* Five bits: the word of fifth bits, then four of nibbles. */
static ALWAYS_INLINE void five_bits(const uint8_t *words, struct target t)
{
	ivec fifth = word(words, 0);

	UNROLL
	for (unsigned u = 0; u < 4; u++) {
		ivec q = word(words, 1 + u);

		put(t, u, iv_or(low_nibbles(q), fifth_bits(iv_shr(fifth, 4 * u))));
		put(t, 4 + u, iv_or(high_nibbles(q), fifth_bits(iv_shr(fifth, 16 + 4 * u))));
	}
}

static ALWAYS_INLINE void unpack_q5_0(struct source s, struct target t)
{
	fv_store(t.scales, fv_load_half((const uint16_t *)s.heads));
	five_bits(s.words, t);
}

static ALWAYS_INLINE void unpack_q5_1(struct source s, struct target t)
{
	scale_and_sum(s.words, t);
	five_bits(s.words + 64, t);
}

/* Four words of nibbles that stand for the values of a table: the 32 elements from 4 * @k4 on. */
static ALWAYS_INLINE void look_up(const uint8_t *words, struct target t, unsigned k4, const int8_t *values)
{
	UNROLL
	for (unsigned u = 0; u < 4; u++) {
		ivec q = word(words, u);

		put(t, k4 + u, iv_of_signed(iv_look_up(values, low_nibbles(q))));
		put(t, k4 + 4 + u, iv_of_signed(iv_look_up(values, high_nibbles(q))));
	}
}

static _Alignas(16) const int8_t iq4_values[16] = DS_IQ4_VALUES;
static _Alignas(16) const int8_t mxfp4_values[16] = DS_MXFP4_VALUES;

static ALWAYS_INLINE void unpack_iq4_nl(struct source s, struct target t)
{
	fv_store(t.scales, fv_load_half((const uint16_t *)s.heads));
	look_up(s.words, t, 0, iq4_values);
}

static ALWAYS_INLINE void unpack_iq4_xs(struct source s, struct target t)
{
	ivec first = word(s.words, 0), high = iv_shr(first, 16), low = word(s.words, 1);

	fv_store(t.d, fv_of_half(first));
	UNROLL
	for (unsigned g = 0; g < 8; g++) {
		ivec v = iv_or(iv_and(iv_shr(low, 4 * g), iv_set32(15)),
			       iv_shl(iv_and(iv_shr(high, 2 * g), iv_set32(3)), 4));

		iv_store(t.k_scales + g * DS_PANEL, iv_sub(v, iv_set32(32)));
		look_up(s.words + (2 + 4 * g) * 64, t, g * 8, iq4_values);
	}
}

static ALWAYS_INLINE void unpack_mxfp4(struct source s, struct target t)
{
	for (unsigned r = 0; r < LANES; r++)
		t.scales[r] = ds_e8m0_half_to_f32(s.heads[r]);
	look_up(s.words, t, 0, mxfp4_values);
}

/* kernels-blocks.h - weights in quantised blocks, in terms of vectors of LANES floats.
 *
 * Included by kernels-simd.h. A block is read in groups of 32 elements. What a type has of its own is two functions: its
 * scales as floats, once a block, and the 32 small integers of a group as bytes. All that follows is the same for all
 * types: a weight is scale * integer, or scale * integer + addend. Scales are products of so few bits that this is what
 * quants.h says, to the last bit, fused or not.
 *
 * The file of the instruction set defines before it the type bytes32 and
 *   scale_i8(y, factor, x)    y = factor * x for 8 signed bytes; of_half(h) the float of a half
 *   bytes_of(p)               the bytes there; nibbles(p) of 16 bytes the low nibbles, then the high ones
 *   fifth_bits(p)             16 where the bit of an element is set, of 32 bits
 *   either(a, b)              a | b
 *   shifted(x, n, mask)       x >> n & mask, byte by byte; bits that come from a neighbour have to be outside of the mask
 *   raised(x, n)              x << n, byte by byte, where no byte runs over
 *   less(x, n)                x - n; looked_up(x, values) the value of each nibble
 *   vec_of_integers(x, v)     bytes @v * LANES and on as floats; vec_of_fp8(x, v) of e4m3
 *   vec_of_nibbles()          with 16 lanes: of each byte the nibble at @shift, looked up in @table
 * Blocks are aligned as their structs are. */
#include <deepseekd/quants.h>

enum {
	GROUP = 32,		     /* elements */
	GROUP_VECS = GROUP / LANES,
	MAX_SCALES = 16,	     /* of a block */
};

struct scales {
	float scale[MAX_SCALES], addend[MAX_SCALES];
};

/* How many elements a scale is for; whether there are addends. */
static const struct block_shape {
	unsigned a_scale;
	bool addend;
} block_shapes[DS_N_DTYPES] = {
	[DS_DTYPE_Q4_0] = {32, false},	 [DS_DTYPE_Q4_1] = {32, true},	  [DS_DTYPE_Q5_0] = {32, false},
	[DS_DTYPE_Q5_1] = {32, true},	 [DS_DTYPE_Q8_0] = {32, false},	  [DS_DTYPE_Q2_K] = {16, true},
	[DS_DTYPE_Q3_K] = {16, false},	 [DS_DTYPE_Q4_K] = {32, true},	  [DS_DTYPE_Q5_K] = {32, true},
	[DS_DTYPE_Q6_K] = {16, false},	 [DS_DTYPE_IQ4_NL] = {32, false}, [DS_DTYPE_IQ4_XS] = {32, false},
	[DS_DTYPE_MXFP4] = {32, false}, [DS_DTYPE_FP8] = {128, false},
};

/* Four bytes at once. */
enum {
	LOW_2 = 0x03030303,
	LOW_4 = 0x0f0f0f0f,
	LOW_6 = 0x3f3f3f3f,
};

static ALWAYS_INLINE uint64_t pair_of(uint32_t low, uint32_t high)
{
	return low | (uint64_t)high << 32;
}

/* 32 less for each of 8 bytes below 64: with the highest bit set, no byte borrows from its neighbour. */
static ALWAYS_INLINE uint64_t less_32(uint64_t x)
{
	return ((x | 0x8080808080808080) - 0x2020202020202020) ^ 0x8080808080808080;
}

/* The 12 bytes of Q4_K and Q5_K: ds_scale_min_k4() for all groups. */
static ALWAYS_INLINE void scales_k4(struct scales *s, const uint8_t *bytes, uint16_t d, uint16_t dmin)
{
	uint32_t a, b, c;

	memcpy(&a, bytes, sizeof(a));
	memcpy(&b, bytes + 4, sizeof(b));
	memcpy(&c, bytes + 8, sizeof(c));
	scale_i8(s->scale, of_half(d), pair_of(a & LOW_6, (c & LOW_4) | (a >> 6 & LOW_2) << 4));
	scale_i8(s->addend, -of_half(dmin), pair_of(b & LOW_6, (c >> 4 & LOW_4) | (b >> 6 & LOW_2) << 4));
}

static ALWAYS_INLINE void scales_q2_k(struct scales *s, const struct ds_block_q2_k *b)
{
	float d = of_half(b->d), dmin = -of_half(b->dmin);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t bytes;

		memcpy(&bytes, b->scales + 8 * i, sizeof(bytes));
		scale_i8(s->scale + 8 * i, d, bytes & 0x0f0f0f0f0f0f0f0f);
		scale_i8(s->addend + 8 * i, dmin, bytes >> 4 & 0x0f0f0f0f0f0f0f0f);
	}
}

/* ds_scale_q3_k() for all groups. */
static ALWAYS_INLINE void scales_q3_k(struct scales *s, const struct ds_block_q3_k *b)
{
	float d = of_half(b->d);
	uint32_t low[2], high;

	memcpy(low, b->scales, sizeof(low));
	memcpy(&high, b->scales + 8, sizeof(high));
	for (unsigned i = 0; i < 2; i++) {
		uint32_t first = (low[0] >> 4 * i & LOW_4) | (high >> 4 * i & LOW_2) << 4;
		uint32_t second = (low[1] >> 4 * i & LOW_4) | (high >> (4 * i + 2) & LOW_2) << 4;

		scale_i8(s->scale + 8 * i, d, less_32(pair_of(first, second)));
	}
}

static ALWAYS_INLINE void scales_q6_k(struct scales *s, const struct ds_block_q6_k *b)
{
	for (unsigned i = 0; i < 2; i++) {
		uint64_t bytes;

		memcpy(&bytes, b->scales + 8 * i, sizeof(bytes));
		scale_i8(s->scale + 8 * i, of_half(b->d), bytes);
	}
}

/* ds_scale_iq4_xs() for all groups: their nibbles and pairs of bits are spread over a byte each. */
static ALWAYS_INLINE void scales_iq4_xs(struct scales *s, const struct ds_block_iq4_xs *b)
{
	uint32_t nibbles;
	uint64_t low, high = b->scales_h;

	memcpy(&nibbles, b->scales_l, sizeof(nibbles));
	low = nibbles;
	low = (low | low << 16) & 0x0000ffff0000ffff;
	low = (low | low << 8) & 0x00ff00ff00ff00ff;
	low = (low | low << 4) & 0x0f0f0f0f0f0f0f0f;
	high = (high | high << 24) & 0x000000ff000000ff;
	high = (high | high << 12) & 0x000f000f000f000f;
	high = (high | high << 6) & 0x0303030303030303;
	scale_i8(s->scale, of_half(b->d), less_32(low | high << 4));
}

static ALWAYS_INLINE void read_scales(struct scales *s, const void *block, enum ds_dtype dtype)
{
	const struct ds_block_q4_1 *two = block; /* Q4_1 and Q5_1 begin with both halves, */
	const struct ds_block_q4_0 *one = block; /* Q4_0, Q5_0, Q8_0 and IQ4_NL with one */
	const struct ds_block_q4_k *k4 = block;	 /* Q5_K begins as Q4_K does */

	switch (dtype) {
	case DS_DTYPE_Q4_1:
	case DS_DTYPE_Q5_1:
		s->scale[0] = of_half(two->d);
		s->addend[0] = of_half(two->m);
		break;
	case DS_DTYPE_Q2_K:
		scales_q2_k(s, block);
		break;
	case DS_DTYPE_Q3_K:
		scales_q3_k(s, block);
		break;
	case DS_DTYPE_Q4_K:
	case DS_DTYPE_Q5_K:
		scales_k4(s, k4->scales, k4->d, k4->dmin);
		break;
	case DS_DTYPE_Q6_K:
		scales_q6_k(s, block);
		break;
	case DS_DTYPE_IQ4_XS:
		scales_iq4_xs(s, block);
		break;
	case DS_DTYPE_MXFP4:
		s->scale[0] = ds_e8m0_half_to_f32(*(const uint8_t *)block);
		break;
	case DS_DTYPE_FP8:
		s->scale[0] = *(const float *)block;
		break;
	default:
		s->scale[0] = of_half(one->d);
		break;
	}
}

/* Bit @n of each byte, moved to bit @to. */
static ALWAYS_INLINE bytes32 bit_moved(bytes32 x, unsigned n, int to)
{
	return raised(shifted(x, n, 1), to);
}

static const int8_t iq4_values[16] = DS_IQ4_VALUES, mxfp4_values[16] = DS_MXFP4_VALUES;

static ALWAYS_INLINE bytes32 group_q3_k(const struct ds_block_q3_k *b, unsigned g)
{
	bytes32 low = shifted(bytes_of(b->qs + 32 * (g / 4)), 2 * (g % 4), 3);

	return less(either(low, bit_moved(bytes_of(b->hmask), g, 2)), 4);
}

static ALWAYS_INLINE bytes32 group_q5_k(const struct ds_block_q5_k *b, unsigned g)
{
	bytes32 low = shifted(bytes_of(b->qs + 32 * (g / 2)), 4 * (g % 2), 15);

	return either(low, bit_moved(bytes_of(b->qh), g, 4));
}

static ALWAYS_INLINE bytes32 group_q6_k(const struct ds_block_q6_k *b, unsigned g)
{
	unsigned h = g / 4, s = g % 4;
	bytes32 low = shifted(bytes_of(b->ql + 64 * h + 32 * (s % 2)), 4 * (s / 2), 15);
	bytes32 high = shifted(bytes_of(b->qh + 32 * h), 2 * s, 3);

	return less(either(low, raised(high, 4)), 32);
}

/* The integers of group @g of a block; of FP8 its bytes as they are. */
static ALWAYS_INLINE bytes32 integers_of(const void *block, unsigned g, enum ds_dtype dtype)
{
	const struct ds_block_q5_0 *q5_0 = block;
	const struct ds_block_q5_1 *q5_1 = block;

	switch (dtype) {
	case DS_DTYPE_Q4_0:
		return less(nibbles(((const struct ds_block_q4_0 *)block)->qs), 8);
	case DS_DTYPE_Q4_1:
		return nibbles(((const struct ds_block_q4_1 *)block)->qs);
	case DS_DTYPE_Q5_0:
		return less(either(nibbles(q5_0->qs), fifth_bits(q5_0->qh)), 16);
	case DS_DTYPE_Q5_1:
		return either(nibbles(q5_1->qs), fifth_bits(q5_1->qh));
	case DS_DTYPE_Q8_0:
		return bytes_of(((const struct ds_block_q8_0 *)block)->qs);
	case DS_DTYPE_Q2_K:
		return shifted(bytes_of(((const struct ds_block_q2_k *)block)->qs + 32 * (g / 4)), 2 * (g % 4), 3);
	case DS_DTYPE_Q3_K:
		return group_q3_k(block, g);
	case DS_DTYPE_Q4_K:
		return shifted(bytes_of(((const struct ds_block_q4_k *)block)->qs + 32 * (g / 2)), 4 * (g % 2), 15);
	case DS_DTYPE_Q5_K:
		return group_q5_k(block, g);
	case DS_DTYPE_Q6_K:
		return group_q6_k(block, g);
	case DS_DTYPE_IQ4_NL:
		return looked_up(nibbles(((const struct ds_block_iq4_nl *)block)->qs), iq4_values);
	case DS_DTYPE_IQ4_XS:
		return looked_up(nibbles(((const struct ds_block_iq4_xs *)block)->qs + 16 * g), iq4_values);
	case DS_DTYPE_MXFP4:
		return looked_up(nibbles(((const struct ds_block_mxfp4 *)block)->qs), mxfp4_values);
	default:
		return bytes_of(((const struct ds_block_fp8 *)block)->qs + GROUP * g);
	}
}

/* What a vector of weights is made of: integers; or, where a vector holds all that a nibble can stand for, the bytes with
 * the nibbles and the table to look them up in. */
struct group {
	bytes32 integers;
#if LANES == 16
	__m128i nibbles[2]; /* of each vector of weights */
	unsigned shift[2];
	vec table;
#endif
};

#if LANES == 16
static ALWAYS_INLINE bool by_table(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_Q4_0 || dtype == DS_DTYPE_Q4_1 || dtype == DS_DTYPE_Q4_K ||
	       dtype == DS_DTYPE_IQ4_NL || dtype == DS_DTYPE_IQ4_XS || dtype == DS_DTYPE_MXFP4;
}

static ALWAYS_INLINE vec nibble_values(enum ds_dtype dtype)
{
	static const int8_t plain[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	static const int8_t offset[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
	const int8_t *values = dtype == DS_DTYPE_Q4_0 ? offset
			     : dtype == DS_DTYPE_IQ4_NL || dtype == DS_DTYPE_IQ4_XS ? iq4_values
			     : dtype == DS_DTYPE_MXFP4 ? mxfp4_values
						       : plain;

	return vec_of_i8(_mm_loadu_si128((const __m128i *)values));
}

static ALWAYS_INLINE const uint8_t *nibbles_of(const void *block, unsigned g, enum ds_dtype dtype)
{
	switch (dtype) {
	case DS_DTYPE_Q4_1:
		return ((const struct ds_block_q4_1 *)block)->qs;
	case DS_DTYPE_Q4_K:
		return ((const struct ds_block_q4_k *)block)->qs + 32 * (g / 2);
	case DS_DTYPE_IQ4_XS:
		return ((const struct ds_block_iq4_xs *)block)->qs + 16 * g;
	case DS_DTYPE_MXFP4:
		return ((const struct ds_block_mxfp4 *)block)->qs;
	default:
		return ((const struct ds_block_q4_0 *)block)->qs; /* IQ4_NL's too */
	}
}

static ALWAYS_INLINE void read_nibbles(struct group *group, const void *block, const struct scales *s, unsigned g,
				       enum ds_dtype dtype)
{
	const uint8_t *qs = nibbles_of(block, g, dtype);
	vec scale = vec_set(s->scale[g]), values = nibble_values(dtype);
	bool k4 = dtype == DS_DTYPE_Q4_K; /* 32 bytes are the low nibbles of one group, the high ones of the next */

	for (unsigned v = 0; v < 2; v++) {
		group->nibbles[v] = _mm_loadu_si128((const __m128i *)(qs + (k4 ? 16 * v : 0)));
		group->shift[v] = 4 * (k4 ? g % 2 : v);
	}
	group->table = block_shapes[dtype].addend ? vec_fma(scale, values, vec_set(s->addend[g]))
						  : vec_mul(scale, values);
}
#endif

static ALWAYS_INLINE void read_group(struct group *group, const void *block, const struct scales *s, unsigned g,
				     enum ds_dtype dtype)
{
#if LANES == 16
	if (by_table(dtype)) {
		read_nibbles(group, block, s, g, dtype);
		return;
	}
#endif
	group->integers = integers_of(block, g, dtype);
}

/* Weights @v * LANES and on of group @g. */
static ALWAYS_INLINE vec group_weights(const struct group *group, const struct scales *s, unsigned g, unsigned v,
				       enum ds_dtype dtype)
{
	unsigned i = (g * GROUP + v * LANES) / block_shapes[dtype].a_scale;
	vec scale, whole;

#if LANES == 16
	if (by_table(dtype))
		return vec_of_nibbles(group->table, group->nibbles[v], group->shift[v]);
#endif
	scale = vec_set(s->scale[i]);
	whole = dtype == DS_DTYPE_FP8 ? vec_of_fp8(group->integers, v) : vec_of_integers(group->integers, v);
	return block_shapes[dtype].addend ? vec_fma(scale, whole, vec_set(s->addend[i])) : vec_mul(scale, whole);
}

/* The columns from @c on, which are group @g of the rows' blocks @w: all of them, or what there is. */
static ALWAYS_INLINE void group_step(const struct ds_matvec *op, const char *const *w, const struct scales *scales,
				     vec (*sum)[DS_KERNEL_ROWS], unsigned g, size_t c, bool whole, unsigned n_rows,
				     unsigned n, enum ds_dtype dtype)
{
	struct group group[TILE_ROWS];

	UNROLL
	for (unsigned j = 0; j < n_rows; j++)
		read_group(&group[j], w[j], &scales[j], g, dtype);
	UNROLL
	for (unsigned v = 0; v < GROUP_VECS; v++, c += LANES) {
		vec a[TILE_ROWS];

		if (!whole && c >= op->cols)
			break;
		UNROLL
		for (unsigned j = 0; j < n_rows; j++)
			a[j] = group_weights(&group[j], &scales[j], g, v, dtype);
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			vec x = whole ? vec_load(op->x[i] + c) : load_up_to(op->x[i] + c, op->cols - c);

			UNROLL
			for (unsigned j = 0; j < n_rows; j++)
				sum[j][i] = vec_fma(a[j], x, sum[j][i]);
		}
	}
}

/* The sums of rows @r to @r + @n_rows - 1: as the tile of floats, a block at a time. Only FP8 has blocks that are not
 * full of columns. */
static ALWAYS_INLINE void sum_blocks(const struct ds_matvec *op, size_t r, vec (*sum)[DS_KERNEL_ROWS], unsigned n_rows,
				     unsigned n, enum ds_dtype dtype)
{
	const size_t size = ds_dtype_info(dtype)->size, block = ds_dtype_info(dtype)->block;
	size_t pitch = ds_row_size(dtype, op->pitch);
	struct scales scales[TILE_ROWS];
	const char *w[TILE_ROWS];
	size_t c = 0;

	UNROLL
	for (unsigned j = 0; j < n_rows; j++)
		w[j] = (const char *)op->w + (r + j) * pitch;
	while (c < op->cols) {
		bool whole = dtype != DS_DTYPE_FP8 || op->cols - c >= block;

		UNROLL
		for (unsigned j = 0; j < n_rows; j++) {
			for (size_t at = 0; at < size; at += 64)
				__builtin_prefetch(w[j] + n_rows * pitch + at, 0, 2);
			read_scales(&scales[j], w[j], dtype);
		}
		if (whole)
			for (unsigned g = 0; g < block / GROUP; g++)
				group_step(op, w, scales, sum, g, c + g * GROUP, true, n_rows, n, dtype);
		else
			for (unsigned g = 0; g < block / GROUP; g++)
				group_step(op, w, scales, sum, g, c + g * GROUP, false, n_rows, n, dtype);
		UNROLL
		for (unsigned j = 0; j < n_rows; j++)
			w[j] += size;
		c += block;
	}
}

/* Whole blocks here, what is left as the definition says. */
static ALWAYS_INLINE void widen_blocks(float *y, const void *x, size_t n, enum ds_dtype dtype)
{
	const size_t size = ds_dtype_info(dtype)->size, block = ds_dtype_info(dtype)->block;
	const char *from = x;

	for (; n >= block; n -= block, from += size) {
		struct scales scales;

		read_scales(&scales, from, dtype);
		for (unsigned g = 0; g < block / GROUP; g++) {
			struct group group;

			read_group(&group, from, &scales, g, dtype);
			UNROLL
			for (unsigned v = 0; v < GROUP_VECS; v++, y += LANES)
				vec_store(y, group_weights(&group, &scales, g, v, dtype));
		}
	}
	if (n > 0)
		ds_dequantize_row(y, from, dtype, n);
}

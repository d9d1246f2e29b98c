/* kernels-attention-vnni.c - attention on rows of Q8_0 by AVX512-VNNI's dot products of four unsigned and signed bytes.
 * Compiled with that flag and called only where the CPU has it.
 *
 * Scores: queries are rounded to 8 bits with a scale for each block of 32 columns, keys get 128 added to be unsigned,
 * which the sum of a block begins without. Weights times values: for each block of columns the values' scales go into
 * the weights, and these are rounded to 8 unsigned bits, 254 for the largest that could be. What rounding takes from a
 * weight is added to the next position's, so that a long tail of small weights is not lost. */
#include <immintrin.h>
#include <string.h>

#include "kernels.h"
#include "kernels-inline.h"

#include <deepseekd/quants.h>

enum {
	BLOCK = 32,
	QUADS = BLOCK / 4,
	LANES = 16,
	KEYS = 4,        /* most in a tile of scores with more than one vector of queries, else twice as many */
	VECS = 3,        /* most vectors of queries in a tile of scores */
	MIX_QUERIES = 8, /* in a tile of mix */
	MIX_BLOCKS = 8,  /* whose weights are rounded at once */
	MOST = 254,
};

/* What op->room is for. */
struct room {
	uint8_t *keys;     /* (n_positions, key_cols), 128 added */
	float *key_scales; /* (n_positions, key blocks) */
	int8_t *values;    /* (quads of positions, value_cols, 4) */
	float *scales;     /* (n_positions, scales_pitch()): of values, by the largest of their block */
	uint32_t *weights; /* (MIX_BLOCKS, quads of positions, n): four weights */
};

/* Whole vectors, so that none is loaded that was stored in parts. */
static size_t scales_pitch(const struct ds_attend *op)
{
	return (op->value_cols / BLOCK + LANES - 1) / LANES * LANES;
}

static struct room lay_out(const struct ds_attend *op)
{
	size_t tile = DS_ATTEND_TILE;
	struct room room = {.keys = op->room};

	room.key_scales = (float *)(room.keys + tile * op->key_cols);
	room.values = (int8_t *)(room.key_scales + tile * op->key_cols / BLOCK);
	room.scales = (float *)(room.values + tile * op->value_cols);
	room.weights = (uint32_t *)(room.scales + tile * scales_pitch(op));
	return room;
}

_Static_assert(sizeof(struct ds_block_q8_0) == 34, "blocks are packed");

/* Scales as they are, of a tile: vectors load what was stored here long enough ago to be in the cache. */
struct halves {
	uint16_t d[DS_ATTEND_TILE * DS_ATTEND_Q8_COLS / BLOCK];
};

static void widen_scales(float *scales, const struct halves *halves, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = n - i < LANES ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;

		_mm512_mask_storeu_ps(scales + i, lanes,
				      _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, halves->d + i)));
	}
}

/* _mm512_dpbusd_epi32(), which gcc 12 surrounds with copies of @sum. */
static ALWAYS_INLINE __m512i add_products(__m512i sum, __m512i bytes, __m512i signed_bytes)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "vm"(signed_bytes));
	return sum;
}

/* ---- scores ---- */

/* Query @i of @n, @cols columns at @row: (cols / 4, n) quads of bytes, then for each block -128 times their sum and
 * their scale, (cols / 32, n) each. */
static void pack_query(void *q, const float *row, size_t cols, size_t i, size_t n)
{
	int32_t *quads = q, *starts = quads + cols / 4 * n;
	float *scales = (float *)(starts + cols / BLOCK * n);
	const __m512 zero = _mm512_setzero_ps();

	for (size_t b = 0; b < cols / BLOCK; b++) {
		__m512 x = _mm512_loadu_ps(row + b * BLOCK), y = _mm512_loadu_ps(row + b * BLOCK + LANES);
		float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x), _mm512_abs_ps(y)));
		float no_number = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_mul_ps(x, zero), _mm512_mul_ps(y, zero)));
		__m512 inverse = _mm512_set1_ps(largest > 1e-30f ? 127 / largest : 0);
		__mmask16 all = no_number == 0 ? 0xffff : 0; /* else the scale says all */
		__m512i p = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(x, inverse));
		__m512i r = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(y, inverse));
		int32_t bytes[QUADS];

		_mm_storeu_si128((__m128i *)bytes, _mm512_cvtsepi32_epi8(p));
		_mm_storeu_si128((__m128i *)(bytes + 4), _mm512_cvtsepi32_epi8(r));
		for (size_t j = 0; j < QUADS; j++)
			quads[(b * QUADS + j) * n + i] = bytes[j];
		starts[b * n + i] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(p, r));
		scales[b * n + i] = largest / 127 + no_number;
	}
}

static void unpack_keys(const struct ds_attend *op, const struct room *room)
{
	size_t n_blocks = op->key_cols / BLOCK;
	struct halves halves;

	for (size_t t = 0; t < op->n_positions; t++) {
		const struct ds_block_q8_0 *block = (const void *)(op->keys[t] + op->key_offset);

		for (size_t b = 0; b < n_blocks; b++) {
			__m256i bytes = _mm256_loadu_si256((const __m256i *)block[b].qs);

			_mm256_storeu_si256((__m256i *)(room->keys + t * op->key_cols + b * BLOCK),
					    _mm256_xor_si256(bytes, _mm256_set1_epi8((char)0x80)));
			halves.d[t * n_blocks + b] = block[b].d;
		}
	}
	widen_scales(room->key_scales, &halves, op->n_positions * n_blocks);
}

static ALWAYS_INLINE int quad_at(const void *bytes)
{
	int quad;

	memcpy(&quad, bytes, sizeof(quad));
	return quad;
}

/* The scores of @n_t positions from @t on with @n_m vectors of queries from @m on. */
static ALWAYS_INLINE void scores_tile(const struct ds_attend *op, const struct room *room, size_t t, unsigned n_t,
				      size_t m, unsigned n_m)
{
	size_t n = op->n, n_blocks = op->key_cols / BLOCK;
	const int32_t *quads = (const int32_t *)op->q + m, *starts = (const int32_t *)op->q + op->key_cols / 4 * n + m;
	const float *scales = (const float *)(starts + n_blocks * n);
	const uint8_t *keys = room->keys + t * op->key_cols;
	__m512 sum[2 * KEYS][VECS];

	UNROLL
	for (unsigned i = 0; i < n_t; i++) {
		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			sum[i][v] = _mm512_setzero_ps();
	}
	for (size_t b = 0; b < n_blocks; b++, starts += n, scales += n, keys += BLOCK) {
		__m512i part[2 * KEYS][VECS];

		if (m == 0)
			ds_ask(op->ahead, (n_t + 1) / 2);
		UNROLL
		for (unsigned i = 0; i < n_t; i++) {
			UNROLL
			for (unsigned v = 0; v < n_m; v++)
				part[i][v] = _mm512_loadu_si512(starts + v * LANES);
		}
		UNROLL
		for (unsigned j = 0; j < QUADS; j++, quads += n) {
			__m512i q[VECS];

			UNROLL
			for (unsigned v = 0; v < n_m; v++)
				q[v] = _mm512_loadu_si512(quads + v * LANES);
			UNROLL
			for (unsigned i = 0; i < n_t; i++) {
				__m512i key = _mm512_set1_epi32(quad_at(keys + i * op->key_cols + j * 4));

				UNROLL
				for (unsigned v = 0; v < n_m; v++)
					part[i][v] = add_products(part[i][v], key, q[v]);
			}
		}
		UNROLL
		for (unsigned i = 0; i < n_t; i++) {
			__m512 scale = _mm512_set1_ps(room->key_scales[(t + i) * n_blocks + b]);

			UNROLL
			for (unsigned v = 0; v < n_m; v++)
				sum[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[i][v]),
							    _mm512_mul_ps(scale, _mm512_loadu_ps(scales + v * LANES)),
							    sum[i][v]);
		}
	}
	UNROLL
	for (unsigned i = 0; i < n_t; i++) {
		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			_mm512_storeu_ps(op->scores + (t + i) * n + m + v * LANES, sum[i][v]);
	}
}

static ALWAYS_INLINE void scores_queries(const struct ds_attend *op, const struct room *room, unsigned n_t, size_t m,
					 unsigned n_m)
{
	size_t t = 0;

	for (; t + n_t <= op->n_positions; t += n_t)
		scores_tile(op, room, t, n_t, m, n_m);
	for (; t < op->n_positions; t++)
		scores_tile(op, room, t, 1, m, n_m);
}

static void scores(const struct ds_attend *op)
{
	const struct room room = lay_out(op);
	size_t m = 0;

	unpack_keys(op, &room);
	for (; m + 3 * LANES <= op->n; m += 3 * LANES)
		scores_queries(op, &room, KEYS, m, 3);
	if (m + 2 * LANES <= op->n) {
		scores_queries(op, &room, KEYS, m, 2);
		m += 2 * LANES;
	}
	if (m < op->n)
		scores_queries(op, &room, 2 * KEYS, m, 1);
}

/* ---- weights times values ---- */

/* 32 columns of four positions, the bytes of a column together. */
static ALWAYS_INLINE void interleave(int8_t *to, const __m256i *rows)
{
	__m256i ab = _mm256_unpacklo_epi8(rows[0], rows[1]), cd = _mm256_unpacklo_epi8(rows[2], rows[3]);
	__m256i ef = _mm256_unpackhi_epi8(rows[0], rows[1]), gh = _mm256_unpackhi_epi8(rows[2], rows[3]);
	/* columns 0 to 7 in the even quarters, 16 to 23 in the odd ones; then 8 to 15, 24 to 31 */
	__m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_unpacklo_epi16(ab, cd)),
				       _mm256_unpackhi_epi16(ab, cd), 1);
	__m512i y = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_unpacklo_epi16(ef, gh)),
				       _mm256_unpackhi_epi16(ef, gh), 1);

	_mm512_storeu_si512(to, _mm512_shuffle_i64x2(x, y, 0x88));
	_mm512_storeu_si512(to + 64, _mm512_shuffle_i64x2(x, y, 0xdd));
}

/* Positions beyond the last have values and scales of 0. */
static void unpack_values(const struct ds_attend *op, const struct room *room)
{
	static const struct ds_block_q8_0 nothing[DS_ATTEND_Q8_COLS / BLOCK];
	size_t n_blocks = op->value_cols / BLOCK, pitch = scales_pitch(op), n = (op->n_positions + 3) / 4 * 4;
	struct halves halves;

	if (pitch > n_blocks)
		memset(&halves, 0, n * pitch * sizeof(*halves.d));
	for (size_t t = 0; t < n; t += 4) {
		const struct ds_block_q8_0 *blocks[4];

		for (size_t j = 0; j < 4; j++)
			blocks[j] = t + j < op->n_positions ? (const void *)(op->values[t + j] + op->value_offset)
							    : nothing;
		for (size_t b = 0; b < n_blocks; b++) {
			__m256i rows[4];

			UNROLL
			for (size_t j = 0; j < 4; j++) {
				rows[j] = _mm256_loadu_si256((const __m256i *)blocks[j][b].qs);
				halves.d[(t + j) * pitch + b] = blocks[j][b].d;
			}
			interleave(room->values + t * op->value_cols + b * BLOCK * 4, rows);
		}
	}
	widen_scales(room->scales, &halves, n * pitch);
}

/* Divide the scales of each block of columns by the largest, which goes to @largest. NaN makes it NaN. */
static void divide_scales(const struct ds_attend *op, const struct room *room, size_t n, float *largest)
{
	size_t pitch = scales_pitch(op);

	for (size_t b = 0; b < pitch; b += LANES) {
		__m512 top = _mm512_setzero_ps(), no_number = top, inverse;
		float *scales = room->scales + b;

		for (size_t t = 0; t < n; t++) {
			__m512 x = _mm512_loadu_ps(scales + t * pitch);

			top = _mm512_max_ps(top, x);
			no_number = _mm512_fmadd_ps(x, _mm512_setzero_ps(), no_number);
		}
		inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(top, _mm512_setzero_ps(), _CMP_GT_OQ),
					      _mm512_set1_ps(1), top);
		for (size_t t = 0; t < n; t++)
			_mm512_storeu_ps(scales + t * pitch,
					 _mm512_mul_ps(_mm512_loadu_ps(scales + t * pitch), inverse));
		_mm512_storeu_ps(largest + b, _mm512_add_ps(top, no_number));
	}
}

/* Weights times MOST by the largest of each query, whose part of that goes to @parts; 0 up to position @n. */
static void divide_weights(const struct ds_attend *op, size_t n, float *parts)
{
	for (size_t m = 0; m < op->n; m += LANES) {
		__m512 largest = _mm512_setzero_ps(), inverse;
		float *p = op->scores + m;

		for (size_t t = 0; t < op->n_positions; t++)
			largest = _mm512_max_ps(_mm512_loadu_ps(p + t * op->n), largest);
		inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(largest, _mm512_set1_ps(1e-36f), _CMP_GT_OQ),
					      _mm512_set1_ps(MOST), largest);
		for (size_t t = 0; t < op->n_positions; t++)
			_mm512_storeu_ps(p + t * op->n, _mm512_mul_ps(_mm512_loadu_ps(p + t * op->n), inverse));
		for (size_t t = op->n_positions; t < n; t++)
			_mm512_storeu_ps(p + t * op->n, _mm512_setzero_ps());
		_mm512_storeu_ps(parts + m, _mm512_mul_ps(largest, _mm512_set1_ps(1.0f / MOST)));
	}
}

/* Bytes for @n_b blocks of columns from @block on. */
static ALWAYS_INLINE void round_weights(const struct ds_attend *op, const struct room *room, size_t n, size_t block,
					unsigned n_b)
{
	size_t pitch = scales_pitch(op);

	for (size_t m = 0; m < op->n; m += LANES) {
		__m512 carry[MIX_BLOCKS];

		UNROLL
		for (unsigned b = 0; b < n_b; b++)
			carry[b] = _mm512_setzero_ps();
		for (size_t t = 0; t < n; t += 4) {
			__m512i quad[MIX_BLOCKS];

			UNROLL
			for (unsigned j = 0; j < 4; j++) {
				__m512 p = _mm512_loadu_ps(op->scores + (t + j) * op->n + m);

				UNROLL
				for (unsigned b = 0; b < n_b; b++) {
					float scale = room->scales[(t + j) * pitch + block + b];
					__m512 x = _mm512_fmadd_ps(p, _mm512_set1_ps(scale), carry[b]);
					__m512i byte = _mm512_slli_epi32(_mm512_cvtps_epi32(x), 8 * j);

					carry[b] = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
					quad[b] = j ? _mm512_or_si512(quad[b], byte) : byte;
				}
			}
			UNROLL
			for (unsigned b = 0; b < n_b; b++)
				_mm512_storeu_si512(room->weights + (b * n / 4 + t / 4) * op->n + m, quad[b]);
		}
	}
}

/* Block @b of those whose weights are rounded, columns from @d on, @n_q queries from @first on. */
static ALWAYS_INLINE void mix_tile(const struct ds_attend *op, const struct room *room, size_t n, size_t b, size_t d,
				   size_t first, unsigned n_q, float scale, const float *parts)
{
	const uint32_t *weights = room->weights + b * n / 4 * op->n + first;
	const int8_t *values = room->values + d * 4;
	__m512i sum[MIX_QUERIES][2];

	UNROLL
	for (unsigned i = 0; i < n_q; i++)
		sum[i][0] = sum[i][1] = _mm512_setzero_si512();
	for (size_t t = 0; t < n; t += 4, weights += op->n, values += 4 * op->value_cols) {
		__m512i low = _mm512_loadu_si512(values), high = _mm512_loadu_si512(values + 64);

		if (first == 0)
			ds_ask(op->ahead, 2);
		UNROLL
		for (unsigned i = 0; i < n_q; i++) {
			__m512i weight = _mm512_set1_epi32((int)weights[i]);

			sum[i][0] = add_products(sum[i][0], weight, low);
			sum[i][1] = add_products(sum[i][1], weight, high);
		}
	}
	UNROLL
	for (unsigned i = 0; i < n_q; i++) {
		__m512 part = _mm512_set1_ps(parts[first + i] * scale), factor = _mm512_set1_ps(op->factor[first + i]);
		float *y = op->y[first + i] + d;

		UNROLL
		for (unsigned v = 0; v < 2; v++)
			_mm512_storeu_ps(y + v * LANES,
					 _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), part,
							 _mm512_mul_ps(factor, _mm512_loadu_ps(y + v * LANES))));
	}
}

static ALWAYS_INLINE void mix_block(const struct ds_attend *op, const struct room *room, size_t n, size_t b, size_t d,
				    float scale, const float *parts)
{
	size_t i = 0;

	for (; i + MIX_QUERIES <= op->n_queries; i += MIX_QUERIES)
		mix_tile(op, room, n, b, d, i, MIX_QUERIES, scale, parts);
	for (; i + 4 <= op->n_queries; i += 4)
		mix_tile(op, room, n, b, d, i, 4, scale, parts);
	for (; i + 2 <= op->n_queries; i += 2)
		mix_tile(op, room, n, b, d, i, 2, scale, parts);
	if (i < op->n_queries)
		mix_tile(op, room, n, b, d, i, 1, scale, parts);
}

static void mix(const struct ds_attend *op)
{
	const struct room room = lay_out(op);
	size_t n = (op->n_positions + 3) / 4 * 4, n_blocks = op->value_cols / BLOCK;
	float largest[DS_ATTEND_Q8_COLS / BLOCK], parts[DS_ATTEND_QUERIES];

	unpack_values(op, &room);
	divide_scales(op, &room, n, largest);
	divide_weights(op, n, parts);
	for (size_t block = 0, n_b; block < n_blocks; block += n_b) {
		n_b = n_blocks - block >= MIX_BLOCKS ? MIX_BLOCKS : n_blocks - block >= 4 ? 4 : 1;
		if (n_b == MIX_BLOCKS)
			round_weights(op, &room, n, block, MIX_BLOCKS);
		else if (n_b == 4)
			round_weights(op, &room, n, block, 4);
		else
			round_weights(op, &room, n, block, 1);
		for (size_t b = 0; b < n_b; b++)
			mix_block(op, &room, n, b, (block + b) * BLOCK, largest[block + b], parts);
	}
}

void ds_attention_init_avx512vnni(struct ds_kernels *k)
{
	k->attend.pack_q8_0 = pack_query;
	k->attend.scores_q8_0 = scores;
	k->attend.mix_q8_0 = mix;
}

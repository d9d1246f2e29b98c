/* kernels-attention-bf16.c - attention on rows of BF16 by AVX512-BF16's dot products of pairs. Compiled with that flag
 * and called only where the CPU has it.
 *
 * Queries and weights are rounded to BF16 too; sums are float32. The instruction takes subnormal numbers for zero. Scores
 * multiply pairs of neighbouring columns, which lie together in the cache: one broadcast of 32 bits brings a pair to all
 * queries. Weights times values multiply pairs of positions, so that two rows of values are interleaved on the way. */
#include <immintrin.h>
#include <string.h>

#include "kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define ALWAYS_INLINE inline __attribute__((always_inline))

enum {
	KEYS = 8,	  /* in a tile of scores */
	LINE_PAIRS = 16,  /* pairs of a line of the cache */
	VECS = 3,	  /* most vectors of queries in a tile of scores */
	MIX_SUMS = 24,	  /* in a tile of mix */
	ROW_VALUES = 32,  /* of a vector of values */
};

static ALWAYS_INLINE int pair_at(const char *row, size_t i)
{
	int pair;

	memcpy(&pair, row + i * sizeof(pair), sizeof(pair));
	return pair;
}

/* Pairs @begin to @end - 1 of 8 keys with 8 queries. Two sums a key, since one has to wait for itself too long. */
static ALWAYS_INLINE void few_pairs(const __m256i *q, const char *const *k, size_t begin, size_t end, unsigned n_t,
				    __m256 (*sum)[2])
{
	UNROLL
	for (size_t i = begin; i < end; i++) {
		__m256bh x = (__m256bh)_mm256_loadu_si256(q + i);

		UNROLL
		for (unsigned t = 0; t < n_t; t++)
			sum[t][i % 2] = _mm256_dpbf16_ps(sum[t][i % 2], x, (__m256bh)_mm256_set1_epi32(pair_at(k[t], i)));
	}
}

static ALWAYS_INLINE void few_scores_tile(const struct ds_attend *op, size_t t, unsigned n_t)
{
	size_t n_pairs = op->key_cols / 2, i = 0;
	const __m256i *q = op->q;
	const char *k[KEYS];
	__m256 sum[KEYS][2];

	UNROLL
	for (unsigned j = 0; j < n_t; j++) {
		k[j] = op->keys[t + j] + op->key_offset;
		sum[j][0] = sum[j][1] = _mm256_setzero_ps();
	}
	for (; i + LINE_PAIRS <= n_pairs; i += LINE_PAIRS) {
		UNROLL
		for (unsigned j = 0; j < n_t; j++)
			__builtin_prefetch(op->keys[DS_ATTEND_TILE + t + j] + op->key_offset + i * 4);
		for (size_t part = i; part < i + LINE_PAIRS; part += 4)
			few_pairs(q, k, part, part + 4, n_t, sum);
	}
	for (; i < n_pairs; i++)
		few_pairs(q, k, i, i + 1, n_t, sum);
	UNROLL
	for (unsigned j = 0; j < n_t; j++)
		_mm256_storeu_ps(op->scores + (t + j) * DS_ATTEND_FEW, _mm256_add_ps(sum[j][0], sum[j][1]));
}

static void few_scores(const struct ds_attend *op)
{
	size_t t = 0;

	for (; t + KEYS <= op->n_positions; t += KEYS)
		few_scores_tile(op, t, KEYS);
	for (; t < op->n_positions; t++)
		few_scores_tile(op, t, 1);
}

/* Of pair @i of @n_t keys with @n_m vectors of queries. */
static ALWAYS_INLINE void many_pair(const char *q, const char *const *k, size_t i, unsigned n_t, unsigned n_m,
				    __m512 (*sum)[VECS])
{
	__m512bh x[VECS];

	UNROLL
	for (unsigned v = 0; v < n_m; v++)
		x[v] = (__m512bh)_mm512_loadu_si512(q + v * 64);
	UNROLL
	for (unsigned t = 0; t < n_t; t++) {
		__m512bh pair = (__m512bh)_mm512_set1_epi32(pair_at(k[t], i));

		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			sum[t][v] = _mm512_dpbf16_ps(sum[t][v], x[v], pair);
	}
}

static ALWAYS_INLINE void many_scores_tile(const struct ds_attend *op, size_t t, unsigned n_t, size_t m, unsigned n_m)
{
	size_t n_pairs = op->key_cols / 2, i = 0, step = op->n * 4;
	const char *q = (const char *)op->q + m * 4, *k[KEYS];
	__m512 sum[KEYS][VECS];

	UNROLL
	for (unsigned j = 0; j < n_t; j++) {
		k[j] = op->keys[t + j] + op->key_offset;
		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			sum[j][v] = _mm512_setzero_ps();
	}
	for (; i + LINE_PAIRS <= n_pairs; i += LINE_PAIRS) {
		if (m == 0) {
			UNROLL
			for (unsigned j = 0; j < n_t; j++)
				__builtin_prefetch(op->keys[DS_ATTEND_TILE + t + j] + op->key_offset + i * 4, 0, 2);
		}
		UNROLL
		for (size_t j = 0; j < LINE_PAIRS; j++, q += step)
			many_pair(q, k, i + j, n_t, n_m, sum);
	}
	for (; i < n_pairs; i++, q += step)
		many_pair(q, k, i, n_t, n_m, sum);
	UNROLL
	for (unsigned j = 0; j < n_t; j++) {
		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			_mm512_storeu_ps(op->scores + (t + j) * op->n + m + v * 16, sum[j][v]);
	}
}

static ALWAYS_INLINE void many_scores_queries(const struct ds_attend *op, size_t m, unsigned n_m)
{
	size_t t = 0;

	for (; t + KEYS <= op->n_positions; t += KEYS)
		many_scores_tile(op, t, KEYS, m, n_m);
	for (; t < op->n_positions; t++)
		many_scores_tile(op, t, 1, m, n_m);
}

static void many_scores(const struct ds_attend *op)
{
	size_t m = 0;

	for (; m + 48 <= op->n; m += 48)
		many_scores_queries(op, m, 3);
	if (m + 32 <= op->n) {
		many_scores_queries(op, m, 2);
		m += 32;
	}
	if (m < op->n)
		many_scores_queries(op, m, 1);
}

/* ---- weights times values ---- */

/* Weights to pairs of BF16, of positions 2t and 2t + 1, (n_positions / 2, n) in the place of the weights. Behind the last
 * position of an odd number comes a weight of zero. */
static void pair_weights(const struct ds_attend *op)
{
	const __m256i order = _mm256_setr_epi16(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
	char *to = (char *)op->scores;

	for (size_t t = 0; t < op->n_positions; t += 2)
		for (size_t m = 0; m < op->n; m += 8, to += 32) {
			__m256 first = _mm256_loadu_ps(op->scores + t * op->n + m), second = _mm256_setzero_ps();

			if (t + 1 < op->n_positions)
				second = _mm256_loadu_ps(op->scores + (t + 1) * op->n + m);
			_mm256_storeu_si256((__m256i *)to,
					    _mm256_permutexvar_epi16(order, (__m256i)_mm256_cvtne2ps_pbh(second, first)));
		}
}

/* What two rows of 32 values give with @n pairs of weights from @p on. */
static ALWAYS_INLINE void mix_pair(const int *p, __m512i a, __m512i b, const __m512i *order, unsigned z, unsigned n_z,
				   unsigned n, __m512 *sum)
{
	__m512bh low = (__m512bh)_mm512_permutex2var_epi16(a, order[0], b);
	__m512bh high = (__m512bh)_mm512_permutex2var_epi16(a, order[1], b);

	UNROLL
	for (unsigned i = 0; i < n; i++) {
		__m512bh weights = (__m512bh)_mm512_set1_epi32(p[i]);
		__m512 *s = sum + (i * n_z + z) * 2;

		s[0] = _mm512_dpbf16_ps(s[0], weights, low);
		s[1] = _mm512_dpbf16_ps(s[1], weights, high);
	}
}

/* @n_z vectors of 32 columns from @d on, of @n queries from @first on. */
static ALWAYS_INLINE void mix_tile(const struct ds_attend *op, const __m512i *order, size_t d, unsigned n_z, size_t first,
				   unsigned n)
{
	const int *p = (const int *)op->scores + first;
	size_t offset = op->value_offset + d * 2, t = 0;
	__m512 sum[MIX_SUMS];

	UNROLL
	for (unsigned i = 0; i < n; i++) {
		UNROLL
		for (unsigned v = 0; v < 2 * n_z; v++)
			sum[i * 2 * n_z + v] = _mm512_mul_ps(_mm512_set1_ps(op->factor[first + i]),
							     _mm512_loadu_ps(op->y[first + i] + d + v * 16));
	}
	for (; t < op->n_positions; t += 2, p += op->n) {
		const char *a = op->values[t] + offset, *b = op->values[t + 1] + offset;
		bool is_pair = t + 1 < op->n_positions;

		if (first == 0) {
			__builtin_prefetch(op->values[DS_ATTEND_TILE + t] + offset);
			__builtin_prefetch(op->values[DS_ATTEND_TILE + t + 1] + offset);
		}
		UNROLL
		for (unsigned z = 0; z < n_z; z++)
			mix_pair(p, _mm512_loadu_si512(a + z * 64),
				 is_pair ? _mm512_loadu_si512(b + z * 64) : _mm512_setzero_si512(), order, z, n_z, n, sum);
	}
	UNROLL
	for (unsigned i = 0; i < n; i++) {
		UNROLL
		for (unsigned v = 0; v < 2 * n_z; v++)
			_mm512_storeu_ps(op->y[first + i] + d + v * 16, sum[i * 2 * n_z + v]);
	}
}

/* The queries from @i on that are fewer than six. */
static ALWAYS_INLINE void mix_rest(const struct ds_attend *op, const __m512i *order, size_t d, unsigned n_z, size_t i)
{
	if (op->n_queries - i >= 4) {
		mix_tile(op, order, d, n_z, i, 4);
		i += 4;
	}
	if (op->n_queries - i >= 2) {
		mix_tile(op, order, d, n_z, i, 2);
		i += 2;
	}
	if (i < op->n_queries)
		mix_tile(op, order, d, n_z, i, 1);
}

static void mix(const struct ds_attend *op)
{
	__m512i order[2];
	short at[64];
	size_t d = 0, i;

	/* (0, 32, 1, 33, ...): element 32 + i is element i of the second row */
	for (short j = 0; j < 64; j++)
		at[j] = (short)(j / 2 + j % 2 * 32);
	order[0] = _mm512_loadu_si512(at);
	order[1] = _mm512_loadu_si512(at + 32);
	pair_weights(op);
	for (; d + 2 * ROW_VALUES <= op->value_cols; d += 2 * ROW_VALUES) {
		for (i = 0; i + 12 <= op->n_queries; i += 12) {
			mix_tile(op, order, d, 1, i, 12);
			mix_tile(op, order, d + ROW_VALUES, 1, i, 12);
		}
		for (; i + 6 <= op->n_queries; i += 6)
			mix_tile(op, order, d, 2, i, 6);
		mix_rest(op, order, d, 2, i);
	}
	if (d < op->value_cols) {
		for (i = 0; i + 6 <= op->n_queries; i += 6)
			mix_tile(op, order, d, 1, i, 6);
		mix_rest(op, order, d, 1, i);
	}
}

void ds_attention_init_avx512bf16(struct ds_kernels *k)
{
	k->attend_few.scores_bf16 = few_scores;
	k->attend.scores_bf16 = many_scores;
	k->attend_few.mix_bf16 = k->attend.mix_bf16 = mix;
}

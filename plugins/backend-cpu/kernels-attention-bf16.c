/* kernels-attention-bf16.c - attention on rows of BF16 by AVX512-BF16's dot products of pairs. Compiled with that flag
 * and called only where the CPU has it.
 *
 * Queries and weights are rounded to BF16 too; sums are float32. The instruction takes subnormal numbers for zero.
 * Scores multiply pairs of neighbouring columns, which lie together in the cache: with many queries, one broadcast of
 * 32 bits brings a pair to all of them. Weights times values multiply pairs of positions, so that two rows of values
 * are interleaved on the way. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "kernels-inline.h"

enum {
	FEW_KEYS = 4, /* in a tile of scores of few queries, and of many */
	KEYS = 8,
	LINE_PAIRS = 16, /* pairs of a line of the cache */
	VECS = 3,        /* most vectors of queries in a tile of scores */
	MIX_SUMS = 24,   /* in a tile of mix */
	ROW_VALUES = 32, /* of a vector of values */
};

static ALWAYS_INLINE int pair_at(const char *row, size_t i)
{
	int pair;

	memcpy(&pair, row + i * sizeof(pair), sizeof(pair));
	return pair;
}

/* (0, n, 1, n + 1, ...), 32 numbers. */
static ALWAYS_INLINE __m512i interleaving(short n)
{
	short order[32];

	for (short i = 0; i < 32; i++)
		order[i] = (short)(i / 2 + i % 2 * n);
	return _mm512_loadu_si512(order);
}

/* ---- scores of few queries: vectors along the columns ---- */

/* (a, b) summed to (a0 + a2, b0 + b2, a1 + a3, b1 + b3) in each quarter. */
static ALWAYS_INLINE __m512 add_two(__m512 a, __m512 b)
{
	return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

/* Two of those summed to (a, b, c, d) in each quarter. */
static ALWAYS_INLINE __m512 add_four(__m512 ab, __m512 cd)
{
	__m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);

	return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

/* The halves of two of those added: (x0 + x2, x1 + x3, y0 + y2, y1 + y3) by quarters. */
static ALWAYS_INLINE __m512 add_halves(__m512 x, __m512 y)
{
	return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
}

/* The sums of up to 8 queries (even @n; those there are not are 0), for each of two keys: of the first in lanes 0 to 7,
 * of the second in 8 to 15. */
static ALWAYS_INLINE __m512 add_lanes(__m512 (*sum)[DS_ATTEND_FEW], unsigned n)
{
	__m512 key[2];

	UNROLL
	for (unsigned j = 0; j < 2; j++) {
		__m512 two[DS_ATTEND_FEW / 2];

		UNROLL
		for (unsigned i = 0; i < DS_ATTEND_FEW / 2; i++)
			two[i] = 2 * i < n ? add_two(sum[j][2 * i], sum[j][2 * i + 1]) : _mm512_setzero_ps();
		key[j] = add_halves(add_four(two[0], two[1]), n > 4 ? add_four(two[2], two[3]) : _mm512_setzero_ps());
	}
	return _mm512_add_ps(_mm512_shuffle_f32x4(key[0], key[1], 0x88), _mm512_shuffle_f32x4(key[0], key[1], 0xdd));
}

/* The scores of @n_t positions (even, or 1) from @t on with @n queries, an even number. */
static ALWAYS_INLINE void few_scores_tile(const struct ds_attend *op, size_t t, unsigned n_t, unsigned n)
{
	size_t cols = op->key_cols, pitch = ds_attend_few_pitch(cols);
	const char *k[FEW_KEYS];
	__m512 sum[FEW_KEYS][DS_ATTEND_FEW];

	UNROLL
	for (unsigned j = 0; j < n_t; j++) {
		k[j] = op->keys[t + j] + op->key_offset;
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[j][i] = _mm512_setzero_ps();
	}
	for (size_t d = 0; d < cols; d += ROW_VALUES) {
		__mmask32 mask = cols - d < ROW_VALUES ? (1u << (cols - d)) - 1 : ~0u;
		__m512bh key[FEW_KEYS];

		ds_ask(op->ahead, n_t);
		UNROLL
		for (unsigned j = 0; j < n_t; j++)
			key[j] = (__m512bh)_mm512_maskz_loadu_epi16(mask, k[j] + d * 2);
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			__m512bh q = (__m512bh)_mm512_loadu_si512((const char *)op->q + (i * pitch + d) * 2);

			UNROLL
			for (unsigned j = 0; j < n_t; j++)
				sum[j][i] = _mm512_dpbf16_ps(sum[j][i], q, key[j]);
		}
	}
	if (n_t == 1) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[1][i] = _mm512_setzero_ps();
		_mm256_storeu_ps(op->scores + t * DS_ATTEND_FEW, _mm512_castps512_ps256(add_lanes(sum, n)));
		return;
	}
	UNROLL
	for (unsigned j = 0; j < n_t; j += 2)
		_mm512_storeu_ps(op->scores + (t + j) * DS_ATTEND_FEW, add_lanes(sum + j, n));
}

static ALWAYS_INLINE void few_scores_queries(const struct ds_attend *op, unsigned n_t, unsigned n)
{
	size_t t = 0;

	for (; t + n_t <= op->n_positions; t += n_t)
		few_scores_tile(op, t, n_t, n);
	for (; t < op->n_positions; t++)
		few_scores_tile(op, t, 1, n);
}

static void few_scores(const struct ds_attend *op)
{
	if (op->n_queries <= 2)
		few_scores_queries(op, 4, 2);
	else if (op->n_queries <= 4)
		few_scores_queries(op, 4, 4);
	else if (op->n_queries <= 6)
		few_scores_queries(op, 4, 6);
	else
		few_scores_queries(op, 2, 8);
}

/* ---- scores of many queries: vectors along the queries ---- */

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
		if (m == 0)
			ds_ask(op->ahead, n_t);
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

/* ---- scores to weights ---- */

/* 2^x for x <= 0 as finely as BF16 needs: a polynomial for the fraction, 1 at 0 and 2 at 1, off by 3.4e-6 of the value
 * (found by Remez exchange). NaN stays NaN. */
static ALWAYS_INLINE __m512 power_of_two(__m512 x)
{
	__m512 t = _mm512_max_ps(_mm512_set1_ps(-200), x),
	       f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__m512 sum = _mm512_set1_ps(0x1.bc31dap-7f);

	sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(0x1.aa3fcap-5f));
	sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(0x1.ee5884p-3f));
	sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(0x1.62d51cp-1f));
	sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(1));
	return _mm512_scalef_ps(sum, t);
}

static ALWAYS_INLINE __m512 weight(__m512 score, __m512 top)
{
	return power_of_two(_mm512_mul_ps(_mm512_sub_ps(score, top), _mm512_set1_ps(0x1.715476p+0f)));
}

static ALWAYS_INLINE __m512 swap_halves(__m512 x)
{
	return _mm512_shuffle_f32x4(x, x, 0x4e);
}

/* Two positions of 8 queries; those beyond the last are seen by nobody. */
static ALWAYS_INLINE __m512 two_of_few(const struct ds_attend *op, size_t t)
{
	return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), t + 1 < op->n_positions ? 0xffff : 0xff,
				    op->scores + t * DS_ATTEND_FEW);
}

/* Weights become pairs of BF16, of positions 2t and 2t + 1, (n_positions / 2, n), where the scores were. Of an odd
 * number of positions the last pair has a weight of zero. */
static void few_weigh(const struct ds_attend *op)
{
	const __m256i order = _mm256_setr_epi16(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
	__m512 old = _mm512_broadcast_f32x8(_mm256_loadu_ps(op->top)), top = old, sum = _mm512_setzero_ps();
	__m256 factor;

	for (size_t t = 0; t < op->n_positions; t += 2)
		top = _mm512_max_ps(two_of_few(op, t), top);
	top = _mm512_max_ps(swap_halves(top), top);
	factor = _mm512_castps512_ps256(weight(old, top));
	for (size_t t = 0; t < op->n_positions; t += 2) {
		__m512 weights = weight(two_of_few(op, t), top);
		__m256i narrow = (__m256i)_mm512_cvtneps_pbh(weights);

		ds_ask(op->ahead, 1); /* reads none, but would leave memory idle */
		sum = _mm512_add_ps(sum, weights);
		_mm256_storeu_si256((__m256i *)(op->scores + t / 2 * DS_ATTEND_FEW),
				    _mm256_permutexvar_epi16(order, narrow));
	}
	sum = _mm512_add_ps(sum, swap_halves(sum));
	_mm256_storeu_ps(op->top, _mm512_castps512_ps256(top));
	_mm256_storeu_ps(op->factor, factor);
	_mm256_storeu_ps(op->sum, _mm256_fmadd_ps(_mm256_loadu_ps(op->sum), factor, _mm512_castps512_ps256(sum)));
}

static void many_weigh(const struct ds_attend *op)
{
	const __m512i order = interleaving(16);

	for (size_t m = 0; m < op->n; m += 16) {
		__m512 old = _mm512_loadu_ps(op->top + m), top = old, sum = _mm512_setzero_ps(), factor;
		float *scores = op->scores + m;

		for (size_t t = 0; t < op->n_positions; t++)
			top = _mm512_max_ps(_mm512_loadu_ps(scores + t * op->n), top);
		factor = weight(old, top);
		for (size_t t = 0; t < op->n_positions; t += 2) {
			__m512 first = weight(_mm512_loadu_ps(scores + t * op->n), top), second = _mm512_setzero_ps();

			if (t + 1 < op->n_positions)
				second = weight(_mm512_loadu_ps(scores + (t + 1) * op->n), top);
			sum = _mm512_add_ps(sum, _mm512_add_ps(first, second));
			_mm512_storeu_si512(
				scores + t / 2 * op->n,
				_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first)));
		}
		_mm512_storeu_ps(op->top + m, top);
		_mm512_storeu_ps(op->factor + m, factor);
		_mm512_storeu_ps(op->sum + m, _mm512_fmadd_ps(_mm512_loadu_ps(op->sum + m), factor, sum));
	}
}

/* ---- weights times values ---- */

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
static ALWAYS_INLINE void mix_tile(const struct ds_attend *op, const __m512i *order, size_t d, unsigned n_z,
				   size_t first, unsigned n)
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
		bool is_pair = t + 1 < op->n_positions;
		const char *a = op->values[t] + offset, *b = is_pair ? op->values[t + 1] + offset : a;

		if (first == 0)
			ds_ask(op->ahead, 2 * n_z);
		UNROLL
		for (unsigned z = 0; z < n_z; z++)
			mix_pair(p, _mm512_loadu_si512(a + z * 64),
				 is_pair ? _mm512_loadu_si512(b + z * 64) : _mm512_setzero_si512(), order, z, n_z, n,
				 sum);
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
	const __m512i low = interleaving(32), order[] = {low, _mm512_add_epi16(low, _mm512_set1_epi16(16))};
	size_t d = 0, i;

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
	k->attend_few.weigh_bf16 = few_weigh;
	k->attend.weigh_bf16 = many_weigh;
	k->attend_few.mix_bf16 = k->attend.mix_bf16 = mix;
}

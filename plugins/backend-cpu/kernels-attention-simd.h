/* kernels-attention-simd.h - the kernels of attention in terms of a vector of LANES floats. Included after
 * kernels-simd.h by the file of each instruction set. */

enum {
	SCORE_KEYS = 8,                   /* most keys in a tile of scores */
	MANY_KEYS = LANES < 16 ? 4 : 8,   /* with two vectors of queries, as registers allow */
	MIX_QUERIES = LANES < 16 ? 4 : 8, /* in a tile of mix */
	MIX_VECS = 2,                     /* vectors of columns there */
};

/* The scores of @n_t positions from @t on with @n_m vectors of queries from @m on, sums in registers. */
static ALWAYS_INLINE void attend_scores_tile(const struct ds_attend *op, size_t t, unsigned n_t, size_t m, unsigned n_m)
{
	const float *q = (const float *)op->q + m, *k[SCORE_KEYS];
	vec sum[SCORE_KEYS][2];

	UNROLL
	for (unsigned i = 0; i < n_t; i++) {
		k[i] = (const float *)(op->keys[t + i] + op->key_offset);
		sum[i][0] = sum[i][1] = vec_zero();
	}
	for (size_t d = 0; d < op->key_cols; d++, q += op->n) {
		vec x[2];

		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			x[v] = vec_load(q + v * LANES);
		UNROLL
		for (unsigned i = 0; i < n_t; i++) {
			vec element = vec_set(k[i][d]);

			UNROLL
			for (unsigned v = 0; v < n_m; v++)
				sum[i][v] = vec_fma(element, x[v], sum[i][v]);
		}
	}
	UNROLL
	for (unsigned i = 0; i < n_t; i++) {
		UNROLL
		for (unsigned v = 0; v < n_m; v++)
			vec_store(op->scores + (t + i) * op->n + m + v * LANES, sum[i][v]);
	}
}

static void attend_scores(const struct ds_attend *op)
{
	for (size_t m = 0; m < op->n;) {
		size_t t = 0;

		if (m + 2 * LANES <= op->n) {
			for (; t + MANY_KEYS <= op->n_positions; t += MANY_KEYS)
				attend_scores_tile(op, t, MANY_KEYS, m, 2);
			for (; t < op->n_positions; t++)
				attend_scores_tile(op, t, 1, m, 2);
			m += 2 * LANES;
		} else {
			for (; t + SCORE_KEYS <= op->n_positions; t += SCORE_KEYS)
				attend_scores_tile(op, t, SCORE_KEYS, m, 1);
			for (; t < op->n_positions; t++)
				attend_scores_tile(op, t, 1, m, 1);
			m += LANES;
		}
	}
}

/* What is not a number is no maximum, and makes the sum none. */
static void attend_weigh(const struct ds_attend *op)
{
	for (size_t m = 0; m < op->n; m += LANES) {
		vec old = vec_load(op->top + m), top = old, sum = vec_zero(), factor;
		float *scores = op->scores + m;

		for (size_t t = 0; t < op->n_positions; t++)
			top = vec_max(vec_load(scores + t * op->n), top);
		factor = exponential(vec_sub(old, top));
		for (size_t t = 0; t < op->n_positions; t++) {
			vec e = exponential(vec_sub(vec_load(scores + t * op->n), top));

			vec_store(scores + t * op->n, e);
			sum = vec_add(sum, e);
		}
		vec_store(op->top + m, top);
		vec_store(op->factor + m, factor);
		vec_store(op->sum + m, vec_fma(vec_load(op->sum + m), factor, sum));
	}
}

/* The columns from @d on, @n_vecs vectors of them or fewer than one, of @n queries from @first on. */
static ALWAYS_INLINE void attend_mix_tile(const struct ds_attend *op, size_t d, bool whole, unsigned n_vecs,
					  size_t first, unsigned n)
{
	const float *p = op->scores + first;
	vec sum[MIX_QUERIES][MIX_VECS];
	size_t width = whole ? LANES : op->value_cols - d;

	UNROLL
	for (unsigned i = 0; i < n; i++) {
		UNROLL
		for (unsigned v = 0; v < n_vecs; v++)
			sum[i][v] = vec_mul(vec_set(op->factor[first + i]),
					    load_weights(op->y[first + i], d + v * LANES, whole, width, DS_DTYPE_F32));
	}
	for (size_t t = 0; t < op->n_positions; t++, p += op->n) {
		vec c[MIX_VECS];

		UNROLL
		for (unsigned v = 0; v < n_vecs; v++)
			c[v] = load_weights(op->values[t] + op->value_offset, d + v * LANES, whole, width,
					    DS_DTYPE_F32);
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			vec weight = vec_set(p[i]);

			UNROLL
			for (unsigned v = 0; v < n_vecs; v++)
				sum[i][v] = vec_fma(weight, c[v], sum[i][v]);
		}
	}
	UNROLL
	for (unsigned i = 0; i < n; i++) {
		UNROLL
		for (unsigned v = 0; v < n_vecs; v++)
			store_up_to(op->y[first + i] + d + v * LANES, sum[i][v], width);
	}
}

static ALWAYS_INLINE void attend_mix_queries(const struct ds_attend *op, size_t d, bool whole, unsigned n_vecs)
{
	size_t i = 0;

	for (; i + MIX_QUERIES <= op->n_queries; i += MIX_QUERIES)
		attend_mix_tile(op, d, whole, n_vecs, i, MIX_QUERIES);
	for (; i + 2 <= op->n_queries; i += 2)
		attend_mix_tile(op, d, whole, n_vecs, i, 2);
	if (i < op->n_queries)
		attend_mix_tile(op, d, whole, n_vecs, i, 1);
}

static void attend_mix(const struct ds_attend *op)
{
	size_t d = 0;

	for (; d + MIX_VECS * LANES <= op->value_cols; d += MIX_VECS * LANES)
		attend_mix_queries(op, d, true, MIX_VECS);
	for (; d + LANES <= op->value_cols; d += LANES)
		attend_mix_queries(op, d, true, 1);
	if (d < op->value_cols)
		attend_mix_queries(op, d, false, 1);
}

static const struct ds_attend_kernels attend_kernels = {
	.lanes = LANES,
	.scores = attend_scores,
	.weigh = attend_weigh,
	.mix = attend_mix,
};

/* kernels-attention.c - tests of the kernels of attention: scores and mixtures in two ways, as other products, weights
 * against double precision. The row of each position ends where memory does, or right before a row that may not be read. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

enum {
	MAX_COLS = 96,
	OFFSET = 12, /* bytes from the start of a row to the columns that are used: of these only the element is aligned */
	/* Whose memory ends where. */
	ROWS = 0,
	QUERIES,
	SCORES,
	TOPS,
	SUMS,
	FACTORS,
};

static const unsigned query_counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 33, 48};
static const unsigned position_counts[] = {1, 2, 3, 4, 7, 8, 9, 15, 64};
static const size_t col_counts[] = {1, 3, 4, 7, 16, 31, 33, 64, 96};

/* One tile: the operation, and in double precision or as floats what it is made of. */
struct scene {
	struct ds_attend op;
	struct ds_ahead ahead; /* nothing comes next */
	const char *rows[DS_ATTEND_TILE];
	float *y[DS_ATTEND_QUERIES];
	float q[DS_ATTEND_QUERIES][MAX_COLS], row[DS_ATTEND_TILE][MAX_COLS], weight[DS_ATTEND_TILE][DS_ATTEND_QUERIES];
	float before[DS_ATTEND_QUERIES][MAX_COLS], out[DS_ATTEND_QUERIES][MAX_COLS];
};

static unsigned padded(unsigned n, unsigned lanes)
{
	return (n + lanes - 1) / lanes * lanes;
}

/* Rounded as @dtype stores it, and stored at @to. */
static void store_as(void *to, float *x, size_t n, enum ds_dtype dtype)
{
	portable.narrow[dtype](to, x, n);
	portable.widen[dtype](x, to, n);
}

static void begin_scene(struct scene *s, const struct ds_attend_kernels *k, unsigned n_queries, unsigned n_positions,
			size_t cols, enum kind kind, enum ds_dtype dtype)
{
	size_t size = cols * ds_dtype_size(dtype) + OFFSET;
	char *rows = ending(ROWS, n_positions * size);

	s->op = (struct ds_attend){
		.n_positions = n_positions,
		.n_queries = n_queries,
		.n = padded(n_queries, k->lanes),
		.key_cols = cols,
		.value_cols = cols,
		.keys = s->rows,
		.values = s->rows,
		.key_offset = OFFSET,
		.value_offset = OFFSET,
		.y = s->y,
		.ahead = &s->ahead,
	};
	s->ahead = (struct ds_ahead){.n_reads = 1};
	for (unsigned t = 0; t < n_positions; t++) {
		s->rows[t] = rows + t * size;
		fill(s->row[t], cols, kind, dtype);
		store_as(rows + t * size + OFFSET, s->row[t], cols, dtype);
	}
	s->op.scores = ending(SCORES, DS_ATTEND_TILE * s->op.n * sizeof(float));
	s->op.top = ending(TOPS, s->op.n * sizeof(float));
	s->op.sum = ending(SUMS, s->op.n * sizeof(float));
	s->op.factor = ending(FACTORS, s->op.n * sizeof(float));
}

/* (cols, n) floats, or (cols / 2, n) pairs of BF16, of a @few queries (n, pitch); zeros in the padding. */
static void make_queries(struct scene *s, enum kind kind, enum ds_dtype dtype, bool few)
{
	size_t n = s->op.n, cols = s->op.key_cols, pair = dtype == DS_DTYPE_BF16 ? 2 : 1, size = ds_dtype_size(dtype);
	size_t pitch = ds_attend_few_pitch(cols), all = (few ? pitch : cols) * n * size;
	char *q = ending(QUERIES, all);

	memset(q, 0, all);
	for (unsigned i = 0; i < s->op.n_queries; i++) {
		fill(s->q[i], cols, kind, DS_DTYPE_F32);
		for (size_t c = 0; c < cols; c++)
			store_as(q + (few ? i * pitch + c : (c / pair * n + i) * pair + c % pair) * size, &s->q[i][c], 1,
				 dtype);
	}
	s->op.q = q;
}

static void check_scores(const struct ds_attend_kernels *k, unsigned n_queries, unsigned n_positions, size_t cols,
			 enum kind kind, enum ds_dtype dtype)
{
	static struct scene s;

	begin_scene(&s, k, n_queries, n_positions, cols, kind, dtype);
	make_queries(&s, kind, dtype, dtype == DS_DTYPE_BF16 && k->lanes <= DS_ATTEND_FEW);
	(dtype == DS_DTYPE_BF16 ? k->scores_bf16 : k->scores)(&s.op);
	for (unsigned t = 0; t < n_positions; t++)
		for (unsigned i = 0; i < n_queries; i++) {
			double sum = 0, size = 0;

			for (size_t c = 0; c < cols; c++) {
				sum += (double)s.row[t][c] * s.q[i][c];
				size += fabs((double)s.row[t][c] * s.q[i][c]);
			}
			if (!is_sum(s.op.scores[t * s.op.n + i], sum, size, cols, kind))
				fail_msg("%s, %u queries, %u positions, %zu columns, kind %d: %.9g instead of %.9g",
					 ds_dtype_info(dtype)->name, n_queries, n_positions, cols, (int)kind,
					 s.op.scores[t * s.op.n + i], sum);
		}
}

/* Weights, and what was there. */
static void make_weights(struct scene *s, size_t cols, enum kind kind)
{
	memset(s->op.scores, 0, DS_ATTEND_TILE * s->op.n * sizeof(float));
	for (unsigned t = 0; t < s->op.n_positions; t++)
		for (unsigned i = 0; i < s->op.n_queries; i++) {
			fill(&s->weight[t][i], 1, kind, DS_DTYPE_F32);
			s->op.scores[t * s->op.n + i] = s->weight[t][i];
		}
	fill(s->op.factor, s->op.n, kind, DS_DTYPE_F32);
	for (unsigned i = 0; i < s->op.n_queries; i++) {
		s->y[i] = s->out[i] + MAX_COLS - cols;
		fill(s->out[i], MAX_COLS, kind, DS_DTYPE_F32);
		memcpy(s->before[i], s->out[i], sizeof(s->out[i]));
	}
}

static void check_mix(const struct ds_attend_kernels *k, unsigned n_queries, unsigned n_positions, size_t cols,
		      enum kind kind, enum ds_dtype dtype)
{
	static struct scene s;

	begin_scene(&s, k, n_queries, n_positions, cols, kind, dtype);
	make_weights(&s, cols, kind);
	k->mix(&s.op);
	for (unsigned i = 0; i < n_queries; i++) {
		for (size_t c = 0; c < cols; c++) {
			double sum = (double)s.before[i][MAX_COLS - cols + c] * s.op.factor[i], size = fabs(sum);

			for (unsigned t = 0; t < n_positions; t++) {
				sum += (double)s.weight[t][i] * s.row[t][c];
				size += fabs((double)s.weight[t][i] * s.row[t][c]);
			}
			if (!is_sum(s.y[i][c], sum, size, n_positions + 2, kind))
				fail_msg("%s, %u queries, %u positions, %zu columns, kind %d: %.9g instead of %.9g",
					 ds_dtype_info(dtype)->name, n_queries, n_positions, cols, (int)kind, s.y[i][c],
					 sum);
		}
		assert_memory_equal(s.out[i], s.before[i], (MAX_COLS - cols) * sizeof(float));
	}
}

/* Each count of queries, with counts of positions and columns that go round. @step: what the columns are multiples of. */
static void check_shapes(const struct ds_attend_kernels *k, unsigned most, enum ds_dtype dtype, size_t step,
			 void (*check)(const struct ds_attend_kernels *k, unsigned n_queries, unsigned n_positions,
				       size_t cols, enum kind kind, enum ds_dtype dtype))
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(query_counts) && query_counts[i] <= most; i++)
		for (size_t t = 0; t < DS_ARRAY_SIZE(position_counts); t++)
			for (enum kind kind = 0; kind < N_KINDS; kind++) {
				size_t cols = col_counts[(i + t + kind) % DS_ARRAY_SIZE(col_counts)];

				/* Subnormal numbers count as zero in products of BF16. */
				if (dtype == DS_DTYPE_BF16 && kind == KIND_WILD)
					continue;
				check(k, query_counts[i], position_counts[t], (cols + step - 1) / step * step, kind, dtype);
			}
}

static void keys_are_scored(const struct ds_kernels *k)
{
	check_shapes(&k->attend, DS_ATTEND_QUERIES, DS_DTYPE_F32, 1, check_scores);
	check_shapes(&k->attend_few, DS_ATTEND_FEW, DS_DTYPE_F32, 1, check_scores);
	if (k->attend.scores_bf16)
		check_shapes(&k->attend, DS_ATTEND_QUERIES, DS_DTYPE_BF16, 2, check_scores);
	if (k->attend_few.scores_bf16)
		check_shapes(&k->attend_few, DS_ATTEND_FEW, DS_DTYPE_BF16, 2, check_scores);
}

/* Of BF16 rows the weights have a form that only the set's own weigh_bf16() makes: test-attention.c has them together. */
static void values_are_mixed(const struct ds_kernels *k)
{
	check_shapes(&k->attend, DS_ATTEND_QUERIES, DS_DTYPE_F32, 1, check_mix);
	check_shapes(&k->attend_few, DS_ATTEND_FEW, DS_DTYPE_F32, 1, check_mix);
}

static bool is_near(float got, double want)
{
	return isnan(want) ? isnan(got) : fabs(got - want) <= 4 * FLT_EPSILON * fabs(want) + 0x1p-126;
}

/* Query @i: its scores before are in @s->weight. */
static void check_weights(const struct scene *s, unsigned i, float old_top, float old_sum)
{
	float top = old_top;
	double sum, factor;

	for (unsigned t = 0; t < s->op.n_positions; t++)
		top = s->weight[t][i] > top ? s->weight[t][i] : top;
	factor = exp((double)(old_top - top));
	sum = old_sum * factor;
	for (unsigned t = 0; t < s->op.n_positions; t++) {
		double weight = exp((double)(s->weight[t][i] - top));

		assert_true(is_near(s->op.scores[t * s->op.n + i], weight));
		sum += weight;
	}
	assert_true(s->op.top[i] == top);
	assert_true(is_near(s->op.factor[i], factor));
	assert_true(isnan(sum) ? isnan(s->op.sum[i]) : fabs(s->op.sum[i] - sum) <= 70 * FLT_EPSILON * fabs(sum));
}

/* Scores of @range at most either way; the first tile has no top yet. */
static void check_weigh(const struct ds_attend_kernels *k, unsigned n_queries, unsigned n_positions, float range,
			bool first, bool broken)
{
	static struct scene s;
	float old_top[DS_ATTEND_QUERIES], old_sum[DS_ATTEND_QUERIES];

	begin_scene(&s, k, n_queries, n_positions, 1, KIND_REAL, DS_DTYPE_F32);
	make_weights(&s, 1, KIND_REAL);
	for (unsigned i = 0; i < s.op.n; i++) {
		old_top[i] = s.op.top[i] = first ? -FLT_MAX : (float)(draw() % 7) - 3;
		old_sum[i] = s.op.sum[i] = first ? 0 : 1 + (float)(draw() % 9);
	}
	for (unsigned t = 0; t < n_positions; t++)
		for (unsigned i = 0; i < n_queries; i++) {
			s.weight[t][i] *= range;
			if (broken && draw() % 16 == 0)
				s.weight[t][i] = draw() % 2 ? NAN : -INFINITY;
			s.op.scores[t * s.op.n + i] = s.weight[t][i];
		}
	k->weigh(&s.op);
	for (unsigned i = 0; i < n_queries; i++)
		check_weights(&s, i, old_top[i], old_sum[i]);
}

static void check_weights_of(const struct ds_attend_kernels *k, unsigned most)
{
	static const float ranges[] = {0, 1, 20, 300, 1e30f};

	for (size_t i = 0; i < DS_ARRAY_SIZE(query_counts) && query_counts[i] <= most; i++)
		for (size_t t = 0; t < DS_ARRAY_SIZE(position_counts); t++)
			for (size_t r = 0; r < DS_ARRAY_SIZE(ranges); r++)
				for (int how = 0; how < 4; how++)
					check_weigh(k, query_counts[i], position_counts[t], ranges[r], how % 2, how / 2);
}

static void scores_become_weights(const struct ds_kernels *k)
{
	check_weights_of(&k->attend, DS_ATTEND_QUERIES);
	check_weights_of(&k->attend_few, DS_ATTEND_FEW);
}

const struct kernel_test attention_tests[] = {
	KERNEL_TEST(keys_are_scored),
	KERNEL_TEST(scores_become_weights),
	KERNEL_TEST(values_are_mixed),
	{NULL, NULL},
};

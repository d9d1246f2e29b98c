/* test-attention.c - attention over the paged cache with every instruction set this CPU has, every type of cache and
 * every mixture of rows, against the plainest code in double precision.
 *
 * What may differ follows from what is rounded. If each score is wrong by e at most, each weight is by a factor within
 * exp(+-2e), and if it is then rounded by a part of w, a sum of values is wrong by (exp(2e) - 1 + w) sum_t p_t |v_t|.
 * Weights of 8 bits are rounded to 1 / 254 of the largest of a tile, what is taken from one being given to the next: by
 * half a step times the sum of |v_t - v_(t + 1)| at most. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <deepseekd/backend.h>
#include <deepseekd/quants.h>

#include "plugins/backend-cpu/cpu.h"

#define GUARD 1234.0f

static const struct ds_backend_ops *ops = &ds_cpu_ops;
static const enum ds_dtype dtypes[] = {DS_DTYPE_F32, DS_DTYPE_F16, DS_DTYPE_BF16, DS_DTYPE_Q8_0};
static struct ds_kernels portable;
static uint64_t seed;

static uint32_t draw_bits(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

static float draw(void)
{
	return (float)((double)draw_bits() / (1u << 31) - 1);
}

/* The instruction set under test is the state of each test. */
static void *begin(void **state, unsigned n_members)
{
	struct ds_error err;
	void *self;

	seed = 1;
	setenv("DEEPSEEKD_CPU", ds_isa_name(*(const enum ds_isa *)*state), 1);
	assert_int_equal(ops->open(&self, NULL, NULL, &err), 0);
	assert_int_equal(ops->start(self, n_members, &err), 0);
	return self;
}

/* n_groups 0: latent, dim columns of values and rope more of keys. */
struct shape {
	uint32_t n_heads, n_groups, dim, rope;
};

/* @n_rows rows of a text, the last one at @last. */
struct text {
	uint32_t last, n_rows;
};

struct cache {
	struct ds_kv kv;
	float *wide; /* (slots, width): what it holds */
};

struct scene {
	struct shape shape;
	struct cache keys, values; /* the same if latent */
	struct ds_rows rows;
	uint32_t *positions, *pages;
	const uint32_t **tables;
	float *q, *q_rope, *y; /* (n, heads, dim), (n, heads, rope), (n, heads, dim) */
	float scale;
};

static struct cache new_cache(enum ds_dtype dtype, uint32_t n_slots, uint32_t page_tokens, uint32_t width, float size)
{
	size_t n = (size_t)n_slots * width;
	struct cache c = {.kv = {malloc(n_slots * ds_row_size(dtype, width)), dtype, page_tokens, width},
			  .wide = malloc(n * sizeof(float))};

	for (size_t i = 0; i < n; i++)
		c.wide[i] = draw() * size;
	for (uint32_t i = 0; i < n_slots; i++) {
		void *row = (char *)c.kv.data + i * ds_row_size(dtype, width);

		portable.narrow[dtype](row, c.wide + (size_t)i * width, width);
		ds_dequantize_row(c.wide + (size_t)i * width, row, dtype, width);
	}
	return c;
}

static float *draw_many(size_t n)
{
	float *x = malloc((n + 1) * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = draw();
	x[n] = GUARD;
	return x;
}

/* Page tables of one text are one pointer, as in the engine; pages lie in random order. */
static void place_rows(struct scene *s, const struct text *texts, size_t n_texts, uint32_t page_tokens)
{
	uint32_t n_pages = 0, n = 0, first = 0;

	for (size_t i = 0; i < n_texts; i++) {
		n_pages += texts[i].last / page_tokens + 1;
		n += texts[i].n_rows;
	}
	s->pages = malloc(n_pages * sizeof(*s->pages));
	s->positions = malloc(n * sizeof(*s->positions));
	s->tables = malloc(n * sizeof(*s->tables));
	for (uint32_t i = 0, j; i < n_pages; i++) {
		j = draw_bits() % (i + 1);
		s->pages[i] = s->pages[j];
		s->pages[j] = i;
	}
	s->rows = (struct ds_rows){.positions = s->positions, .pages = s->tables};
	for (size_t i = 0; i < n_texts; first += texts[i++].last / page_tokens + 1)
		for (uint32_t r = 0; r < texts[i].n_rows; r++) {
			s->positions[s->rows.n] = texts[i].last + 1 - texts[i].n_rows + r;
			s->tables[s->rows.n++] = s->pages + first;
		}
}

static struct scene new_scene(struct shape shape, enum ds_dtype dtype, const struct text *texts, size_t n_texts,
			      uint32_t page_tokens)
{
	struct scene s = {.shape = shape, .scale = 1.5f / sqrtf((float)shape.dim)};
	uint32_t n_slots = 0, width = shape.n_groups ? shape.n_groups * shape.dim : shape.dim + shape.rope;

	place_rows(&s, texts, n_texts, page_tokens);
	for (size_t i = 0; i < n_texts; i++)
		n_slots += (texts[i].last / page_tokens + 1) * page_tokens;
	s.keys = new_cache(dtype, n_slots, page_tokens, width, 2);
	s.values = shape.n_groups ? new_cache(dtype, n_slots, page_tokens, width, 1) : s.keys;
	s.q = draw_many((size_t)s.rows.n * shape.n_heads * shape.dim);
	s.q_rope = draw_many((size_t)s.rows.n * shape.n_heads * shape.rope);
	s.y = draw_many((size_t)s.rows.n * shape.n_heads * shape.dim);
	return s;
}

static void free_scene(struct scene *s)
{
	free(s->keys.kv.data);
	free(s->keys.wide);
	if (s->shape.n_groups) {
		free(s->values.kv.data);
		free(s->values.wide);
	}
	free(s->positions);
	free(s->pages);
	free(s->tables);
	free(s->q);
	free(s->q_rope);
	free(s->y);
}

static unsigned n_shared; /* scenes whose positions were shared out: their shares lie in the second half of the scratch */

static void attend(void *self, const struct scene *s)
{
	const struct shape *h = &s->shape;
	float *shares = ds_cpu_scratch(self, 0) + DS_SCRATCH / 2;

	*shares = GUARD;
	if (h->n_groups > 0)
		ops->attention(self, &(struct ds_attention){s->y, s->q, &s->keys.kv, &s->values.kv, &s->rows,
							    h->n_heads, h->n_groups, h->dim, s->scale});
	else
		ops->latent_attention(self, &(struct ds_latent_attention){s->y, s->q, s->q_rope, h->n_heads * h->rope,
									  h->rope, &s->keys.kv, &s->rows, h->n_heads,
									  h->dim, h->rope, s->scale});
	n_shared += *shares != GUARD;
}

/* Type @i of all, or another if its blocks do not fit the heads. */
static enum ds_dtype dtype_for(struct shape shape, size_t i)
{
	enum ds_dtype dtype = dtypes[i % DS_ARRAY_SIZE(dtypes)];

	return (shape.dim | shape.rope) % ds_dtype_info(dtype)->block ? DS_DTYPE_F16 : dtype;
}

static const float *cached(const struct scene *s, const struct cache *c, uint32_t row, uint32_t head, uint32_t t)
{
	size_t slot = (size_t)s->tables[row][t / c->kv.page_tokens] * c->kv.page_tokens + t % c->kv.page_tokens;

	return c->wide + slot * c->kv.width +
	       (s->shape.n_groups ? head / (s->shape.n_heads / s->shape.n_groups) : 0) * s->shape.dim;
}

/* By which part numbers of a query and weights may be rounded. */
static double rounding(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_BF16 ? 0x1p-8 : 0;
}

static double largest_of(const float *x, size_t n)
{
	double largest = 0;

	for (size_t i = 0; i < n; i++)
		largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
	return largest;
}

/* The score of position @t, and in *@e by how much it may be off. */
static double score(const struct scene *s, uint32_t row, uint32_t head, uint32_t t, double *e)
{
	const float *k = cached(s, &s->keys, row, head, t), *parts[] = {s->q, s->q_rope};
	size_t widths[] = {s->shape.dim, s->shape.rope}, query = (size_t)row * s->shape.n_heads + head;
	double sum = 0, size = 0, steps = 0, largest = 0;

	for (size_t p = 0; p < 2; p++)
		for (size_t i = 0; i < widths[p]; i++, k++) {
			const float *q = parts[p] + query * widths[p] + i;

			sum += (double)*q * *k;
			size += fabs((double)*q * *k);
			if (i % 32 == 0)
				largest = s->keys.kv.dtype == DS_DTYPE_Q8_0 ? largest_of(q, 32) : 0;
			steps += largest / 254 * fabs(*k);
		}
	*e = fmax(*e, s->scale * steps +
			      s->scale * size *
				      (rounding(s->keys.kv.dtype) + (double)(widths[0] + widths[1] + 3) * FLT_EPSILON));
	return s->scale * sum;
}

/* By how much weights of 8 bits may be off in the block of columns from @d on, times the sum of all weights @p of @n
 * positions. */
static double weight_steps(const struct scene *s, uint32_t row, uint32_t head, uint32_t d, const double *p, uint32_t n)
{
	double sum = 0;

	for (uint32_t tile = 0; s->keys.kv.dtype == DS_DTYPE_Q8_0 && tile < n; tile += DS_ATTEND_TILE) {
		double p_top = 0, v_top = 0;

		for (uint32_t t = tile; t < n && t < tile + DS_ATTEND_TILE; t++) {
			p_top = fmax(p_top, p[t]);
			v_top = fmax(v_top, largest_of(cached(s, &s->values, row, head, t) + d, 32));
		}
		sum += DS_ATTEND_TILE * 0.5 / 254 * p_top * 2 * v_top * 1.01; /* a block has a number of 126 at least */
	}
	return sum;
}

static void check_query(const struct scene *s, uint32_t row, uint32_t head)
{
	uint32_t n = s->positions[row] + 1, dim = s->shape.dim;
	const float *y = s->y + ((size_t)row * s->shape.n_heads + head) * dim;
	double *p = malloc(n * sizeof(*p)), *want = calloc(2 * dim, sizeof(*want)), *size = want + dim;
	double top = -INFINITY, sum = 0, e = 0, part, steps = 0;

	for (uint32_t t = 0; t < n; t++) {
		p[t] = score(s, row, head, t, &e);
		top = fmax(top, p[t]);
	}
	for (uint32_t t = 0; t < n; t++)
		sum += p[t] = exp(p[t] - top);
	for (uint32_t t = 0; t < n; t++) {
		const float *v = cached(s, &s->values, row, head, t);

		for (uint32_t d = 0; d < dim; d++) {
			want[d] += p[t] / sum * v[d];
			size[d] += p[t] / sum * fabs(v[d]);
		}
	}
	part = exp(2 * e) - 1 + rounding(s->keys.kv.dtype) + (n + 10) * FLT_EPSILON;
	for (uint32_t d = 0; d < dim; d++) {
		if (d % 32 == 0)
			steps = weight_steps(s, row, head, d, p, n) / sum;
		if (!(fabs(y[d] - want[d]) <= part * size[d] + steps))
			fail_msg("%u heads, %u groups of %u + %u, type %d: row %u at %u, head %u, column %u: %.9g "
				 "instead of %.9g "
				 "+- %.2g",
				 s->shape.n_heads, s->shape.n_groups, dim, s->shape.rope, s->keys.kv.dtype, row, n - 1,
				 head, d, y[d], want[d], part * size[d] + steps);
	}
	free(p);
	free(want);
}

static void check_scene(void *self, struct shape shape, enum ds_dtype dtype, const struct text *texts, size_t n_texts,
			uint32_t page_tokens)
{
	struct scene s = new_scene(shape, dtype, texts, n_texts, page_tokens);

	attend(self, &s);
	for (uint32_t row = 0; row < s.rows.n; row++)
		for (uint32_t head = 0; head < shape.n_heads; head++)
			if (s.rows.n < 20 || (row + head) % 5 == 0)
				check_query(&s, row, head);
	assert_float_equal(s.y[(size_t)s.rows.n * shape.n_heads * shape.dim], GUARD, 0);
	free_scene(&s);
}

/* Those of published models, fewer heads; what no vector fits; more heads that share than are taken at once. */
static const struct shape shapes[] = {
	{6, 1, 128, 0},  {12, 2, 128, 0}, {8, 2, 64, 0},    {5, 5, 96, 0},  {14, 2, 32, 0},
	{7, 1, 37, 0},   {50, 1, 64, 0},  {16, 0, 512, 64}, {9, 0, 64, 32}, {5, 0, 33, 7},
	{50, 0, 128, 2}, {1, 0, 96, 10},  {3, 0, 32, 1},
};

static void one_row_sees_each_position_before_it(void **state)
{
	static const uint32_t lasts[] = {0, 1, 6, 15, 16, 62, 63, 64, 65, 126, 127, 130, 255, 400, 511, 512, 800, 1100};

	n_shared = 0;
	for (unsigned n_members = 1; n_members <= 3; n_members++) {
		void *self = begin(state, n_members);

		for (size_t i = 0; i < DS_ARRAY_SIZE(shapes); i++)
			for (size_t j = n_members - 1; j < DS_ARRAY_SIZE(lasts); j += 3)
				check_scene(self, shapes[i], dtype_for(shapes[i], i + j + n_members),
					    &(struct text){lasts[j], 1}, 1, i % 3 ? 16 : 5);
		/* 256 positions for each member are worth a share; of the last ones each count of members has one. */
		assert_true(n_members == 1 || n_shared > 0);
		ops->close(self);
	}
}

static void rows_of_a_prompt_see_no_later_position(void **state)
{
	static const struct text texts[] = {{0, 1}, {6, 7}, {40, 41}, {63, 9}, {64, 2}, {150, 23}, {300, 50}, {1100, 20}};

	for (unsigned n_members = 1; n_members <= 2; n_members++) {
		void *self = begin(state, n_members);

		for (size_t i = 0; i < DS_ARRAY_SIZE(shapes); i++)
			for (size_t j = 0; j < DS_ARRAY_SIZE(texts); j++)
				check_scene(self, shapes[i], dtype_for(shapes[i], i + j + n_members), &texts[j], 1,
					    i % 2 ? 16 : 100);
		ops->close(self);
	}
}

static void rows_of_many_texts_see_their_own(void **state)
{
	static const struct text texts[] = {{200, 1}, {1100, 1}, {70, 30}, {3, 4}, {600, 1}, {130, 1}, {129, 17}, {64, 2}};
	void *self = begin(state, 2);

	for (size_t i = 0; i < DS_ARRAY_SIZE(shapes); i++)
		for (size_t n = 2; n <= DS_ARRAY_SIZE(texts); n++)
			check_scene(self, shapes[i], dtype_for(shapes[i], i + n), texts + DS_ARRAY_SIZE(texts) - n, n,
				    16);
	ops->close(self);
}

/* Scores of which one is far above the rest leave its value alone, also where each share has its own largest. */
static void a_score_far_above_the_rest_takes_all(void **state)
{
	static const struct text text = {700, 1};
	void *self = begin(state, 2);

	for (size_t i = 0; i < 2 * DS_ARRAY_SIZE(dtypes); i++) {
		struct shape shape = i % 2 ? (struct shape){6, 1, 64, 0} : (struct shape){16, 0, 64, 32};
		struct scene s = new_scene(shape, dtypes[i / 2], &text, 1, 16);
		const float *best;
		double e = 0;

		s.scale = 3000;
		attend(self, &s);
		for (uint32_t head = 0; head < shape.n_heads; head++) {
			uint32_t at = 0;
			double scores[701], second = -INFINITY;

			for (uint32_t t = 0; t <= text.last; t++) {
				scores[t] = score(&s, 0, head, t, &e);
				at = scores[t] > scores[at] ? t : at;
			}
			for (uint32_t t = 0; t <= text.last; t++)
				second = t != at ? fmax(second, scores[t]) : second;
			if (scores[at] - second < 2 * e + 100)
				continue; /* rounding may decide which */
			best = cached(&s, &s.values, 0, head, at);
			for (uint32_t d = 0; d < shape.dim; d++)
				assert_true(fabsf(s.y[head * shape.dim + d] - best[d]) <=
					    (dtypes[i / 2] == DS_DTYPE_Q8_0 ? 1.01f / 127 : 0));
		}
		free_scene(&s);
	}
	ops->close(self);
}

/* What is not a number stays with the query that has it. */
static void a_query_without_numbers_spoils_no_other(void **state)
{
	static const struct text texts[] = {{90, 12}, {500, 1}};
	void *self = begin(state, 2);

	for (size_t i = 0; i < 2 * DS_ARRAY_SIZE(dtypes); i++) {
		struct shape shape = i % 2 ? (struct shape){6, 1, 64, 0} : (struct shape){16, 0, 64, 32};
		struct scene s = new_scene(shape, dtypes[i / 2], &texts[i % 2], 1, 16);

		s.q[2 * shape.dim + 3] = i / 2 % 2 ? NAN : INFINITY;
		attend(self, &s);
		for (uint32_t d = 0; d < shape.dim; d++)
			assert_true(isnan(s.y[2 * shape.dim + d]));
		for (uint32_t row = 0; row < s.rows.n; row++)
			for (uint32_t head = 0; head < shape.n_heads; head++)
				if (row > 0 || head != 2)
					check_query(&s, row, head);
		free_scene(&s);
	}
	ops->close(self);
}

/* Rows so long that fewer positions and queries are taken at once. */
static void the_longest_rows_fit(void **state)
{
	static const struct text texts[] = {{70, 3}, {10, 1}};
	static const struct shape longest[] = {{20, 0, 8192, 1024}, {2, 1, 1024, 0}, {17, 0, 4096, 64}};
	void *self = begin(state, 2);

	for (size_t i = 0; i < DS_ARRAY_SIZE(longest); i++)
		for (size_t d = 0; d < DS_ARRAY_SIZE(dtypes); d++)
			check_scene(self, longest[i], dtype_for(longest[i], d), texts, 2, 16);
	ops->close(self);
}

enum { MOST_COLS = 576, MOST_BLOCKS = MOST_COLS / 32 };

/* Rows of small integers whose scales are 1. */
static void fill_blocks(struct ds_block_q8_0 *blocks, size_t n)
{
	for (size_t b = 0; b < n; b++) {
		blocks[b].d = 0x3c00;
		for (size_t i = 0; i < 32; i++)
			blocks[b].qs[i] = (int8_t)(draw_bits() % 255 - 127);
	}
}

static void check_bytes(const struct ds_attend_kernels *kernels, unsigned n_queries, unsigned n_positions,
			size_t key_cols, size_t value_cols)
{
	static struct ds_block_q8_0 blocks[DS_ATTEND_TILE][MOST_BLOCKS];
	static float query[DS_ATTEND_QUERIES][MOST_COLS], sums[DS_ATTEND_QUERIES][MOST_COLS + 1];
	static float scores[DS_ATTEND_TILE * DS_ATTEND_QUERIES], ones[DS_ATTEND_QUERIES],
		q[DS_ATTEND_QUERIES * MOST_COLS];
	const char *rows[DS_ATTEND_TILE];
	struct ds_ahead ahead = {.n_reads = 1};
	float *y[DS_ATTEND_QUERIES], weights[DS_ATTEND_TILE][DS_ATTEND_QUERIES];
	void *room = malloc(ds_attend_q8_room(key_cols, value_cols));
	unsigned n = (n_queries + kernels->lanes - 1) / kernels->lanes * kernels->lanes;
	struct ds_attend op = {n_positions, n_queries, n,    key_cols, value_cols, rows, rows, 0,     0,
			       q,           scores,    room, NULL,     NULL,       ones, y,    &ahead};

	memset(q, 0, sizeof(q));
	for (unsigned t = 0; t < DS_ATTEND_TILE; t++)
		rows[t] = (const char *)blocks[t];
	fill_blocks(blocks[0], DS_ATTEND_TILE * MOST_BLOCKS);
	for (unsigned i = 0; i < n_queries; i++) {
		for (size_t d = 0; d < key_cols; d++) /* the largest of each block is 127, so that nothing is rounded */
			query[i][d] = d % 32 ? (float)(draw_bits() % 255) - 127 : 127;
		kernels->pack_q8_0(q, query[i], key_cols, i, n);
		y[i] = sums[i];
		ones[i] = 1;
		for (size_t d = 0; d <= value_cols; d++)
			sums[i][d] = GUARD;
	}
	kernels->scores_q8_0(&op);
	for (unsigned t = 0; t < n_positions; t++)
		for (unsigned i = 0; i < n_queries; i++) {
			double want = 0;

			for (size_t d = 0; d < key_cols; d++)
				want += (double)query[i][d] * blocks[t][d / 32].qs[d % 32];
			assert_float_equal(scores[t * n + i], want, 0);
			/* the largest weight is 254 and all are whole, so that nothing is rounded */
			scores[t * n + i] = weights[t][i] = t ? (float)(draw_bits() % 255) : 254;
		}
	kernels->mix_q8_0(&op);
	for (unsigned i = 0; i < n_queries; i++) {
		for (size_t d = 0; d < value_cols; d++) {
			double want = GUARD;

			for (unsigned t = 0; t < n_positions; t++)
				want += (double)weights[t][i] * blocks[t][d / 32].qs[d % 32];
			assert_float_equal(sums[i][d], want, 0);
		}
		assert_float_equal(sums[i][value_cols], GUARD, 0);
	}
	free(room);
}

static void whole_numbers_of_8_bits_are_multiplied_exactly(void **state)
{
	static const unsigned positions[] = {1, 2, 3, 4, 5, 15, 31, 63, 64};
	static const size_t cols[][2] = {{32, 32}, {64, 64}, {128, 128}, {160, 96}, {576, 512}, {416, 416}};
	struct ds_kernels k;

	seed = 1;
	ds_kernels_init(&k, *(const enum ds_isa *)*state);
	if (!k.attend.scores_q8_0)
		skip();
	for (size_t c = 0; c < DS_ARRAY_SIZE(cols); c++)
		for (size_t p = 0; p < DS_ARRAY_SIZE(positions); p++)
			for (unsigned n = 1 + (p + c) % 3; n <= DS_ATTEND_QUERIES; n += 5)
				check_bytes(&k.attend, n, positions[p], cols[c][0], cols[c][1]);
}

static void lines_are_asked_for_in_order_once_for_all_that_read_them(void **state)
{
	static _Alignas(64) const char lines[8 * 64];
	const struct ds_run runs[] = {{lines, lines + 2 * 64}, {lines + 5 * 64, lines + 5 * 64 + 1}};
	struct ds_ahead a = {.run = runs, .last = runs + 2, .n_reads = 3};

	(void)state;
	ds_ask(&a, 2);
	assert_true(a.run == runs && !a.at);
	ds_ask(&a, 1);
	assert_ptr_equal(a.at, lines + 64);
	ds_ask(&a, 4);
	assert_ptr_equal(a.at, lines + 2 * 64);
	ds_ask(&a, 2);
	assert_true(a.run == runs + 2 && a.at == lines + 6 * 64);
	ds_ask(&a, DS_ASK_ALL);
	assert_ptr_equal(a.at, lines + 6 * 64);
}

int main(void)
{
	const struct CMUnitTest of_all[] = {
		cmocka_unit_test(lines_are_asked_for_in_order_once_for_all_that_read_them),
	};
	int failed = cmocka_run_group_tests(of_all, NULL, NULL);

	ds_kernels_init(&portable, DS_ISA_PORTABLE);
	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa))
			continue;
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(one_row_sees_each_position_before_it, &isa),
			cmocka_unit_test_prestate(rows_of_a_prompt_see_no_later_position, &isa),
			cmocka_unit_test_prestate(rows_of_many_texts_see_their_own, &isa),
			cmocka_unit_test_prestate(a_score_far_above_the_rest_takes_all, &isa),
			cmocka_unit_test_prestate(a_query_without_numbers_spoils_no_other, &isa),
			cmocka_unit_test_prestate(the_longest_rows_fit, &isa),
			cmocka_unit_test_prestate(whole_numbers_of_8_bits_are_multiplied_exactly, &isa),
		};

		print_message("[ %s ]\n", ds_isa_name(isa));
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}

/* test-tiles.c - fast precision of the CPU backend, on every instruction set this CPU has: panels, and products by tiles.
 *
 * Products are checked in two ways. On whole numbers, where the activations' scale is one and every sum exact, results must
 * be those of the definition to the bit. On real values they must be within what rounding the activations can cost at
 * most: half a step of each activation's span times the weight, and the rounding of the sum. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <deepseekd/quants.h>

#include "each-isa.h"
#include "plugins/backend-cpu/cpu.h"
#include "random-blocks.h"

#define GUARD 12345.0f /* beyond what an operation may write */

static const struct ds_backend_ops *ops = &ds_cpu_ops;
static uint64_t seed;

static float draw(void)
{
	return (float)((double)draw_bits(&seed) / (1u << 31) - 1);
}

static void *begin(void)
{
	struct ds_error err;
	void *self;

	seed = 7;
	assert_int_equal(ops->open(&self, NULL, NULL, &err), 0);
	assert_int_equal(ops->start(self, 2, &err), 0);
	return self;
}

static void end(void *self)
{
	assert_int_equal(ops->sync(self, NULL), 0);
	ops->close(self);
}

/* A matrix or a stack of such, as in the checkpoint and as the backend wants it. */
struct matrix {
	uint8_t *rows;
	void *packed;
	struct ds_weight w;
};

static struct matrix pack(uint8_t *rows, enum ds_dtype dtype, size_t n_experts, size_t n_rows, size_t cols)
{
	struct ds_tensor_desc desc = {"w", dtype, 3, {n_experts, n_rows, cols, 1}};
	struct matrix m = {.rows = rows};
	struct ds_layout layout;
	size_t row_size = ds_row_size(dtype, cols), n = n_experts * n_rows;

	if (n_experts == 1)
		desc = (struct ds_tensor_desc){"w", dtype, 2, {n_rows, cols, 1, 1}};
	assert_int_equal(ops->plan(&desc, DS_PRECISION_FAST, &layout, NULL), 0);
	assert_int_equal(layout.id == DS_LAYOUT_PANELS ? layout.size % 64 : 0, 0);
	assert_int_equal(posix_memalign(&m.packed, 64, layout.size), 0);
	memset(m.packed, 0xff, layout.size); /* everything is written */
	for (size_t r = 0; r < n; r += layout.block_rows)
		ops->pack(&desc, &layout, n - r < layout.block_rows ? n - r : layout.block_rows, rows + r * row_size,
			  (char *)m.packed + r / layout.block_rows * layout.block_size);
	m.w = (struct ds_weight){
		.data = m.packed,
		.dtype = dtype,
		.layout = layout.id,
		.n_experts = n_experts,
		.rows = n_rows,
		.cols = cols,
		.fast = true,
	};
	return m;
}

static struct matrix blocks(const struct block_type *type, size_t n_experts, size_t n_rows, size_t cols, bool whole)
{
	size_t size = ds_dtype_info(type->dtype)->size, n = n_experts * n_rows * ds_row_size(type->dtype, cols) / size;
	uint8_t *rows = malloc(n * size);

	assert_non_null(rows);
	for (size_t i = 0; i < n; i++)
		fill_block(rows + i * size, type, whole, &seed);
	return pack(rows, type->dtype, n_experts, n_rows, cols);
}

static void drop(struct matrix *m)
{
	free(m->rows);
	free(m->packed);
}

/* Activations: whole numbers with a 127 in every span, or anything. */
static float *activations(size_t n, size_t cols, bool whole)
{
	float *x = malloc(n * cols * sizeof(*x));

	assert_non_null(x);
	for (size_t i = 0; i < n * cols; i++)
		x[i] = whole ? (float)(int)(draw_bits(&seed) % 5) - 2 : draw() * expf(draw());
	for (size_t i = 0; whole && i < n * cols; i += 32)
		x[i] = i / 32 % 2 ? 127 : -127;
	return x;
}

/* Half a step of the span of element @c. */
static double half_step(const float *x, size_t c, size_t span)
{
	double largest = 0;

	for (size_t i = c / span * span; i < (c / span + 1) * span; i++)
		largest = fabs((double)x[i]) > largest ? fabs((double)x[i]) : largest;
	return largest / 254;
}

static void check_row(const struct matrix *m, const float *x, const float *y, size_t first_row, bool whole,
		      const char *what)
{
	size_t cols = m->w.cols, row_size = ds_row_size(m->w.dtype, cols);
	size_t span = ds_tile_span(ds_tile_type(m->w.dtype).kind);
	float *wide = malloc(cols * sizeof(*wide));

	for (size_t r = 0; r < m->w.rows; r++) {
		double sum = 0, size = 0, bound = 0;

		ds_dequantize_row(wide, m->rows + (first_row + r) * row_size, m->w.dtype, cols);
		for (size_t c = 0; c < cols; c++) {
			sum += (double)wide[c] * x[c];
			size += fabs((double)wide[c] * x[c]);
			bound += whole ? 0 : fabs((double)wide[c]) * half_step(x, c, span) * 1.001;
		}
		bound += whole ? 0 : (double)cols * 4 * FLT_EPSILON * size;
		/* In halves of a minimum and its opposite the terms are larger than the product. */
		if (!whole && ds_tile_has_mins(ds_tile_type(m->w.dtype).kind))
			bound *= 8;
		if (fabs(y[r] - sum) > bound || (whole && y[r] != (float)sum))
			fail_msg("%s %s, row %zu: %.9g instead of %.9g +- %.3g", ds_dtype_info(m->w.dtype)->name, what,
				 r, y[r], sum, bound);
	}
	free(wide);
}

static void check_product(void *self, const struct matrix *m, size_t n, bool whole, bool add, const char *what)
{
	size_t rows = m->w.rows, cols = m->w.cols;
	float *x = activations(n, cols, whole), *y = malloc((n * rows + 1) * sizeof(*y));

	for (size_t i = 0; i <= n * rows; i++)
		y[i] = i < n * rows ? 3 : GUARD;
	ops->matmul(self, &(struct ds_matmul){.y = y, .x = x, .w = &m->w, .n = (uint32_t)n, .add = add}, 1);
	assert_true(y[n * rows] == GUARD);
	for (size_t i = 0; add && i < n * rows; i++)
		y[i] -= 3;
	for (size_t i = 0; i < n; i++)
		check_row(m, x + i * cols, y + i * rows, 0, whole, what);
	free(x);
	free(y);
}

/* Every width of a tile, rows that do not fill a panel, columns that do not fill a step. */
static void products_by_tiles_are_those_of_the_definition(void **state)
{
	static const size_t counts[] = {1, 2, 3, 5, 6, 7, 8, 14, 17, 24, 25};
	void *self = begin();

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t cols = 256; cols <= 1280; cols += 512)
			for (size_t rows = 1; rows <= 100; rows = rows * 3 + 4)
				for (int whole = 0; whole < 2; whole++) {
					struct matrix m = blocks(&block_types[t], 1, rows, cols, whole);
					size_t n = counts[draw_bits(&seed) % DS_ARRAY_SIZE(counts)];

					assert_int_equal(m.w.layout, block_types[t].dtype == DS_DTYPE_FP8 ? 0 : 1);
					if (m.w.layout == DS_LAYOUT_PANELS) {
						check_product(self, &m, n, whole, n % 2, "in panels");
						check_product(self, &m, 1, whole, false, "in panels, one row");
					}
					drop(&m);
				}
	end(self);
}

/* What stays in the checkpoint's files has its rows, and goes by tiles when there are many rows of activations. */
static void weights_as_in_the_checkpoint_go_by_tiles(void **state)
{
	void *self = begin();

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		struct matrix m = blocks(&block_types[t], 1, 40, 512, true);

		m.w.data = m.rows;
		m.w.layout = DS_LAYOUT_ROWS;
		if (ds_tile_type(m.w.dtype).kind != DS_TILE_NONE) {
			assert_true(ds_tiles_take(self, &m.w, 40));
			check_product(self, &m, 40, true, false, "in rows");
		} else if (ds_tiles_take(self, &m.w, 40)) { /* FP8, by BF16 where there is that */
			check_product(self, &m, 40, true, false, "in rows, as BF16");
		}
		m.w.fast = false;
		assert_false(ds_tiles_take(self, &m.w, 40));
		drop(&m);
	}
	end(self);
}

/* Many rows meet weights of some types rounded to one scale a block: the share of the results' energy that this changes,
 * against the same rows a few at a time. */
static void check_many_rows(void *self, const struct matrix *m, bool flat)
{
	enum { N = 50, FEW = 10 };
	size_t rows = m->w.rows, cols = m->w.cols;
	float *x = activations(N, cols, false), *many = calloc(N * rows, sizeof(*many)), *few = calloc(N * rows, sizeof(*few));
	double changed = 0, energy = 0;

	ops->matmul(self, &(struct ds_matmul){.y = many, .x = x, .w = &m->w, .n = N}, 1);
	for (size_t i = 0; i < N; i += FEW)
		ops->matmul(self, &(struct ds_matmul){.y = few + i * rows, .x = x + i * cols, .w = &m->w, .n = FEW}, 1);
	for (size_t i = 0; i < N * rows; i++) {
		changed += ((double)many[i] - few[i]) * ((double)many[i] - few[i]);
		energy += (double)few[i] * few[i];
	}
	/* Else only the order of sums differs. */
	if (flat ? !(changed > 1e-10 * energy && changed < 1e-4 * energy) : !(changed < 1e-12 * energy))
		fail_msg("%s: of %.3g %.3g are changed", ds_dtype_info(m->w.dtype)->name, energy, changed);
	free(x);
	free(many);
	free(few);
}

static void many_rows_are_nearly_those_of_a_few_at_a_time(void **state)
{
	void *self = begin();

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		struct matrix m = blocks(&block_types[t], 1, 40, 1280, false);

		if (ds_tile_type(m.w.dtype).kind != DS_TILE_NONE)
			check_many_rows(self, &m, ds_tile_type(m.w.dtype).flat);
		drop(&m);
	}
	end(self);
}

static void rows_that_chose_an_expert_go_by_its_tiles(void **state)
{
	enum { N = 9, K = 3, EXPERTS = 5, ROWS = 48, COLS = 256 };
	void *self = begin();
	uint32_t ids[N * K];

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		struct matrix m = blocks(&block_types[t], EXPERTS, ROWS, COLS, true);
		float *x = activations(N, COLS, true), *y = calloc(N * K * ROWS, sizeof(*y));

		for (size_t i = 0; i < N * K; i++)
			ids[i] = (uint32_t)(i % K + draw_bits(&seed) % 3);
		if (m.w.layout == DS_LAYOUT_PANELS) {
			ops->expert_matmul(self, &(struct ds_expert_matmul){y, x, &m.w, ids, N, K, true}, 1);
			for (size_t i = 0; i < N * K; i++)
				check_row(&m, x + i / K * COLS, y + i * ROWS, ids[i] * ROWS, true, "of an expert");
		}
		free(x);
		free(y);
		drop(&m);
	}
	end(self);
}

/* Two types whose activations have the same codes, and one that has its own. */
static const enum ds_dtype together_types[DS_MATMULS] = {DS_DTYPE_Q4_K, DS_DTYPE_Q5_K, DS_DTYPE_Q6_K};

static struct matrix blocks_of(enum ds_dtype dtype, size_t n_experts, size_t n_rows, size_t cols)
{
	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		if (block_types[t].dtype == dtype)
			return blocks(&block_types[t], n_experts, n_rows, cols, false);
	fail_msg("there are no blocks of that type");
	return (struct matrix){0};
}

/* Each result of a call with several products is that of a call of its own, to the bit: with the same activations and with
 * others, some added and some not. */
static void products_of_a_call_are_those_of_a_call_each(void **state)
{
	enum { ROWS = 80, COLS = 768, MOST = 60 };
	static const uint32_t row_counts[] = {1, 5, 13, 50, MOST};
	struct matrix m[DS_MATMULS];
	void *self = begin();
	float *x, *other, *y[DS_MATMULS];

	for (size_t i = 0; i < DS_MATMULS; i++)
		m[i] = blocks_of(together_types[i], 1, ROWS - 16 * i, COLS);
	x = activations(MOST, COLS, false);
	other = activations(MOST, COLS, false);
	for (size_t c = 0; c < DS_ARRAY_SIZE(row_counts) * DS_MATMULS; c++) {
		struct ds_matmul op[DS_MATMULS];

		for (size_t i = 0; i < DS_MATMULS; i++) {
			y[i] = calloc(2 * MOST * ROWS, sizeof(*y[i]));
			op[i] = (struct ds_matmul){.y = y[i],
						   .x = i == c % DS_MATMULS ? other : x,
						   .w = &m[i].w,
						   .n = row_counts[c / DS_MATMULS],
						   .add = i == 1};
		}
		ops->matmul(self, op, DS_MATMULS);
		for (size_t i = 0; i < DS_MATMULS; i++) {
			op[i].y += MOST * ROWS;
			ops->matmul(self, &op[i], 1);
			assert_memory_equal(y[i], op[i].y, MOST * ROWS * sizeof(*y[i]));
			free(y[i]);
		}
	}
	free(x);
	free(other);
	for (size_t i = 0; i < DS_MATMULS; i++)
		drop(&m[i]);
	end(self);
}

static void experts_of_a_call_are_those_of_a_call_each(void **state)
{
	enum { N = 40, K = 2, EXPERTS = 4, ROWS = 48, COLS = 512 };
	struct matrix m[DS_MATMULS];
	void *self = begin();
	uint32_t ids[N * K];
	float *x = activations(N, COLS, false);
	struct ds_expert_matmul op[DS_MATMULS];

	/* Experts of few rows and of many. */
	for (size_t i = 0; i < N; i++) {
		ids[i * K] = (uint32_t)(i < 34 ? 0 : 1);
		ids[i * K + 1] = (uint32_t)(i < 25 ? 2 : 3);
	}
	for (size_t i = 0; i < DS_MATMULS; i++) {
		m[i] = blocks_of(together_types[i], EXPERTS, ROWS + 16 * i, COLS);
		op[i] = (struct ds_expert_matmul){calloc(N * K * m[i].w.rows, sizeof(float)), x, &m[i].w, ids, N, K, true};
	}
	ops->expert_matmul(self, op, DS_MATMULS);
	for (size_t i = 0; i < DS_MATMULS; i++) {
		float *y = op[i].y;

		op[i].y = calloc(N * K * m[i].w.rows, sizeof(float));
		ops->expert_matmul(self, &op[i], 1);
		assert_memory_equal(y, op[i].y, N * K * m[i].w.rows * sizeof(float));
		free(y);
		free(op[i].y);
		drop(&m[i]);
	}
	free(x);
	end(self);
}

static void a_panel_gives_back_its_blocks(void **state)
{
	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		enum ds_dtype dtype = block_types[t].dtype;
		struct ds_panel_format f;
		struct matrix m;

		if (!ds_panel_has(dtype))
			continue;
		f = ds_panel_format(dtype);
		m = blocks(&block_types[t], 1, 19, 768, false);
		for (size_t r = 0; r < 19; r++)
			for (size_t b = 0; b < 768 / f.block; b++) {
				uint8_t block[256];

				ds_panel_block(dtype, 768, (char *)m.packed + r / 16 * ds_panel_size(dtype, 768), r % 16, b,
					       block);
				assert_memory_equal(block, m.rows + (r * 768 / f.block + b) * f.size, f.size);
			}
		drop(&m);
	}
}

static void an_embedding_in_panels_is_widened_to_the_bit(void **state)
{
	static const uint32_t tokens[] = {18, 0, 5, 16};
	void *self = begin();
	float y[4 * 256], wide[256];

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		struct matrix m = blocks(&block_types[t], 1, 19, 256, false);

		ops->embed(self, y, &m.w, tokens, 4);
		for (size_t i = 0; i < 4; i++) {
			ds_dequantize_row(wide, m.rows + tokens[i] * ds_row_size(m.w.dtype, 256), m.w.dtype, 256);
			assert_memory_equal(y + i * 256, wide, sizeof(wide));
		}
		drop(&m);
	}
	end(self);
}

static void what_is_no_number_makes_its_row_no_number(void **state)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	void *self = begin();

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t k = 0; k < DS_ARRAY_SIZE(bad); k++) {
			struct matrix m = blocks(&block_types[t], 1, 16, 256, false);
			float *x = activations(2, 256, false), y[32];

			x[33] = bad[k];
			ops->matmul(self, &(struct ds_matmul){.y = y, .x = x, .w = &m.w, .n = 2}, 1);
			for (size_t r = 0; r < 16; r++) {
				assert_false(isfinite(y[r]));
				assert_true(isfinite(y[16 + r]));
			}
			free(x);
			drop(&m);
		}
	end(self);
}

static void zeros_and_the_smallest_numbers_give_zero(void **state)
{
	static const float small[] = {0, -0.0f, FLT_TRUE_MIN, 0x1p-110f};
	void *self = begin();

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		struct matrix m = blocks(&block_types[t], 1, 16, 256, false);
		float x[256], y[16];

		for (size_t i = 0; i < 256; i++)
			x[i] = small[i % DS_ARRAY_SIZE(small)];
		ops->matmul(self, &(struct ds_matmul){.y = y, .x = x, .w = &m.w, .n = 1}, 1);
		for (size_t r = 0; r < 16; r++)
			assert_float_equal(y[r], 0, 1e-25);
		drop(&m);
	}
	end(self);
}

/* BF16 on both sides: products of two 8-bit fractions are exact, and whole numbers have exact sums. */
static void bf16_goes_by_its_own_dot_products(void **state)
{
	void *self = begin();

	for (size_t rows = 1; rows <= 70; rows += 23)
		for (size_t n = 1; n <= 40; n += 13) {
			uint16_t *bits = malloc(rows * 288 * sizeof(*bits));
			struct matrix m;
			float *x = malloc(n * 288 * sizeof(*x)), *y = malloc(n * rows * sizeof(*y));

			for (size_t i = 0; i < rows * 288; i++)
				bits[i] = (uint16_t)(ds_bits_of_float((float)(int)(draw_bits(&seed) % 255) - 127) >> 16);
			for (size_t i = 0; i < n * 288; i++)
				x[i] = (float)(int)(draw_bits(&seed) % 9) - 4;
			m = pack((uint8_t *)bits, DS_DTYPE_BF16, 1, rows, 288);
			ops->matmul(self, &(struct ds_matmul){.y = y, .x = x, .w = &m.w, .n = (uint32_t)n}, 1);
			for (size_t i = 0; i < n; i++)
				check_row(&m, x + i * 288, y + i * rows, 0, true, "BF16");
			free(x);
			free(y);
			drop(&m);
		}
	end(self);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(products_by_tiles_are_those_of_the_definition),
		cmocka_unit_test(weights_as_in_the_checkpoint_go_by_tiles),
		cmocka_unit_test(many_rows_are_nearly_those_of_a_few_at_a_time),
		cmocka_unit_test(rows_that_chose_an_expert_go_by_its_tiles),
		cmocka_unit_test(products_of_a_call_are_those_of_a_call_each),
		cmocka_unit_test(experts_of_a_call_are_those_of_a_call_each),
		cmocka_unit_test(a_panel_gives_back_its_blocks),
		cmocka_unit_test(an_embedding_in_panels_is_widened_to_the_bit),
		cmocka_unit_test(what_is_no_number_makes_its_row_no_number),
		cmocka_unit_test(zeros_and_the_smallest_numbers_give_zero),
		cmocka_unit_test(bf16_goes_by_its_own_dot_products),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_each(run);
}

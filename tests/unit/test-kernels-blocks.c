/* test-kernels-blocks.c - the kernels of quantised weights, of every instruction set this CPU has, against the definition
 * of their blocks: widened to the bit; products on small integers, where any order of addition gives the same bits, and
 * on real values against double precision with the a-priori bound n * eps * sum|w x|. Weights and activations end where
 * their memory does, so that a sanitizer sees a read past them. */
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

#include "plugins/backend-cpu/kernels.h"
#include "random-blocks.h"

#define GUARD 1234.0f
#define MAX_ROWS 9

static uint64_t seed;

static float draw(void)
{
	return (float)((double)draw_bits(&seed) / (1u << 31) - 1);
}

/* The instruction set under test is the state of each test. */
static struct ds_kernels kernels_of(void **state)
{
	struct ds_kernels k;

	ds_kernels_init(&k, *(const enum ds_isa *)*state);
	seed = 1;
	return k;
}

/* @n blocks, in memory of just their size. */
static uint8_t *blocks(size_t type, size_t n, bool whole)
{
	size_t size = ds_dtype_info(block_types[type].dtype)->size;
	uint8_t *w = malloc(n * size);

	assert_non_null(w);
	for (size_t i = 0; i < n; i++)
		fill_block(w + i * size, &block_types[type], whole, &seed);
	return w;
}

/* The weights' last row ends at its last block; @spare blocks lie between rows. */
static void check_matvec(const struct ds_kernels *k, size_t type, size_t rows, size_t cols, size_t spare, unsigned n,
			 bool whole)
{
	enum ds_dtype dtype = block_types[type].dtype;
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	size_t a_row = ds_row_size(dtype, cols) / info->size, pitch = a_row + spare;
	uint8_t *w = blocks(type, (rows - 1) * pitch + a_row, whole);
	struct ds_matvec op = {
		.w = w,
		.rows = rows,
		.cols = cols,
		.pitch = spare ? pitch * info->block : cols,
		.n = n,
		.add = rows % 2,
	};
	float got[DS_KERNEL_ROWS][MAX_ROWS + 1], before[DS_KERNEL_ROWS][MAX_ROWS];
	float *x[DS_KERNEL_ROWS], *wide = malloc(cols * sizeof(*wide));

	for (unsigned i = 0; i < n; i++) {
		op.x[i] = x[i] = malloc(cols * sizeof(*x[i]));
		op.y[i] = got[i];
		for (size_t c = 0; c < cols; c++)
			x[i][c] = whole ? (float)(draw_bits(&seed) % 3) - 1 : draw();
		for (size_t r = 0; r < rows; r++)
			got[i][r] = before[i][r] = (float)(r + i);
		got[i][rows] = GUARD;
	}
	k->matvec[dtype](&op);
	for (size_t r = 0; r < rows; r++) {
		ds_dequantize_row(wide, w + r * pitch * info->size, dtype, cols);
		for (unsigned i = 0; i < n; i++) {
			double sum = op.add ? before[i][r] : 0, size = fabs(sum);

			for (size_t c = 0; c < cols; c++) {
				sum += (double)wide[c] * x[i][c];
				size += fabs((double)wide[c] * x[i][c]);
			}
			if (whole ? got[i][r] != sum : fabs(got[i][r] - sum) > (double)(cols + 1) * FLT_EPSILON * size)
				fail_msg("%s, %zu rows, %zu columns, %u at once: %.9g instead of %.9g", info->name,
					 rows, cols, n, got[i][r], sum);
		}
	}
	for (unsigned i = 0; i < n; i++) {
		assert_float_equal(got[i][rows], GUARD, 0);
		free(x[i]);
	}
	free(wide);
	free(w);
}

static void rows_of_blocks_times_columns_are_dot_products(void **state)
{
	static const size_t row_counts[] = {1, 2, 3, 4, 5, 8, 9};
	struct ds_kernels k = kernels_of(state);

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts); r++)
			for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++)
				for (size_t b = 1; b <= 3; b++) {
					size_t cols = b * ds_dtype_info(block_types[t].dtype)->block;

					check_matvec(&k, t, row_counts[r], cols, (r + b) % 3, n, true);
					check_matvec(&k, t, row_counts[r], cols, (r + b) % 3, n, false);
				}
}

/* Only FP8 has rows whose last block is not full. */
static void the_padding_of_the_last_block_meets_no_column(void **state)
{
	static const size_t col_counts[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 95, 100, 127, 129, 144, 255, 300};
	struct ds_kernels k = kernels_of(state);
	size_t fp8 = DS_ARRAY_SIZE(block_types) - 1;

	assert_int_equal(block_types[fp8].dtype, DS_DTYPE_FP8);
	for (size_t c = 0; c < DS_ARRAY_SIZE(col_counts); c++)
		for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++)
			for (size_t rows = 1; rows <= 6; rows++) {
				check_matvec(&k, fp8, rows, col_counts[c], 0, n, true);
				check_matvec(&k, fp8, rows, col_counts[c], 0, n, false);
			}
}

static void blocks_widen_to_what_they_mean_to_the_bit(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		enum ds_dtype dtype = block_types[t].dtype;
		size_t block = ds_dtype_info(dtype)->block;

		for (size_t n = 0; n <= 3 * block; n += n < 40 ? 1 : 13) {
			uint8_t *x = blocks(t, (n + block - 1) / block, false);
			float *want = malloc((n + 1) * sizeof(*want)), *got = malloc((n + 1) * sizeof(*got));

			want[n] = got[n] = GUARD;
			ds_dequantize_row(want, x, dtype, n);
			k.widen[dtype](got, x, n);
			for (size_t i = 0; i <= n; i++)
				if (memcmp(&want[i], &got[i], sizeof(*want)) != 0)
					fail_msg("%s, %zu of %zu: %.9g instead of %.9g", ds_dtype_info(dtype)->name, i, n,
						 got[i], want[i]);
			free(x);
			free(want);
			free(got);
		}
	}
}

/* Every scale that a half or an exponent can be, subnormal ones and zeros too. */
static void all_scales_are_right(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		enum ds_dtype dtype = block_types[t].dtype;
		float want[256], got[256];
		uint8_t *x = blocks(t, 1, false);

		for (unsigned i = 0; i < (dtype == DS_DTYPE_MXFP4 ? 256 : 0x10000); i += block_types[t].d < 0 ? 1 : 37) {
			uint16_t half = (uint16_t)i;

			if ((half & 0x7c00) == 0x7c00)
				continue;
			if (block_types[t].d >= 0)
				memcpy(x + block_types[t].d, &half, sizeof(half));
			if (block_types[t].other >= 0)
				memcpy(x + block_types[t].other, &half, sizeof(half));
			if (dtype == DS_DTYPE_MXFP4)
				x[0] = (uint8_t)i;
			ds_dequantize_row(want, x, dtype, ds_dtype_info(dtype)->block);
			k.widen[dtype](got, x, ds_dtype_info(dtype)->block);
			assert_memory_equal(want, got, ds_dtype_info(dtype)->block * sizeof(*want));
		}
		free(x);
	}
}

static void all_bytes_of_fp8_widen_to_their_value(void **state)
{
	static const float scales[] = {1, -0.3f, 0x1p-126f, 0x1.8p+110f, 0x1.234568p-140f, 0};
	struct ds_kernels k = kernels_of(state);

	for (size_t s = 0; s < DS_ARRAY_SIZE(scales); s++) {
		struct ds_block_fp8 x[2] = {{.scale = scales[s]}, {.scale = scales[s]}};
		float got[256];

		for (unsigned i = 0; i < 256; i++)
			x[i / 128].qs[i % 128] = (uint8_t)i;
		k.widen[DS_DTYPE_FP8](got, x, 256);
		for (unsigned i = 0; i < 256; i++) {
			int exponent = i >> 3 & 15, fraction = i & 7;
			double value = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);

			if ((i & 0x7f) == 0x7f)
				assert_true(isnan(got[i]));
			else
				assert_true(got[i] == (float)(scales[s] * (i & 0x80 ? -value : value)));
		}
	}
}

static void every_type_has_its_kernels(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype < DS_N_DTYPES; dtype++) {
		assert_non_null(k.matvec[dtype]);
		assert_non_null(k.widen[dtype]);
	}
	assert_int_equal(DS_ARRAY_SIZE(block_types), DS_N_DTYPES - DS_DTYPE_Q4_0);
}

int main(void)
{
	int failed = 0;

	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa))
			continue;
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(every_type_has_its_kernels, &isa),
			cmocka_unit_test_prestate(blocks_widen_to_what_they_mean_to_the_bit, &isa),
			cmocka_unit_test_prestate(all_scales_are_right, &isa),
			cmocka_unit_test_prestate(all_bytes_of_fp8_widen_to_their_value, &isa),
			cmocka_unit_test_prestate(rows_of_blocks_times_columns_are_dot_products, &isa),
			cmocka_unit_test_prestate(the_padding_of_the_last_block_meets_no_column, &isa),
		};

		print_message("[ %s ]\n", ds_isa_name(isa));
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}

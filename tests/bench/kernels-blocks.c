/* kernels-blocks.c - tests of the kernels of quantised weights, against the definition of their blocks: widened to the bit;
 * products in two ways, as those of floats. */
#include <math.h>
#include <string.h>

#include <deepseekd/quants.h>

#include "kernels.h"
#include "tests/unit/random-blocks.h"

enum {
	MAX_ROWS = 9,
	MAX_COLS = 3 * 256,
	/* Whose memory ends where: that of row i of activations and results, of the weights. */
	X = 0,
	Y = X + DS_KERNEL_ROWS,
	W = Y + DS_KERNEL_ROWS,
};

/* A half that is zero, subnormal, the largest or what it was. */
static void make_half_wild(uint8_t *block, int at)
{
	static const uint16_t halves[] = {0, 0x8000, 1, 0x83ff, 0x7bff, 0xfbff};
	uint32_t which = draw() % 8;

	if (at >= 0 && which < DS_ARRAY_SIZE(halves))
		memcpy(block + at, &halves[which], sizeof(halves[which]));
}

void make_wild_block(uint8_t *block, const struct block_type *type)
{
	static const float scales[] = {0, -0.0f, 0x1.2p-140f, 0x1p60f, 1};

	if (draw() % 3 == 0)
		memset(block, 0, ds_dtype_info(type->dtype)->size);
	make_half_wild(block, type->d);
	make_half_wild(block, type->other);
	if (type->dtype == DS_DTYPE_MXFP4)
		block[0] = (uint8_t)(draw() % 190);
	if (type->dtype == DS_DTYPE_FP8)
		memcpy(block, &scales[draw() % DS_ARRAY_SIZE(scales)], sizeof(scales[0]));
}

/* @n blocks, whose memory ends there. */
static uint8_t *blocks(size_t type, size_t n, enum kind kind)
{
	size_t size = ds_dtype_info(block_types[type].dtype)->size;
	uint8_t *w = ending(W, n * size);
	uint64_t seed = draw();

	for (size_t i = 0; i < n; i++) {
		fill_block(w + i * size, &block_types[type], kind == KIND_WHOLE, &seed);
		if (kind == KIND_WILD)
			make_wild_block(w + i * size, &block_types[type]);
	}
	return w;
}

/* The weights' last row ends at its last block; @spare blocks lie between rows. */
static void check_matvec(const struct ds_kernels *k, size_t type, size_t rows, size_t cols, size_t spare, unsigned n,
			 enum kind kind)
{
	static float wide[MAX_COLS];
	enum ds_dtype dtype = block_types[type].dtype;
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	size_t a_row = ds_row_size(dtype, cols) / info->size, pitch = a_row + spare;
	uint8_t *w = blocks(type, (rows - 1) * pitch + a_row, kind);
	struct ds_matvec op = {
		.w = w,
		.rows = rows,
		.cols = cols,
		.pitch = spare ? pitch * info->block : cols,
		.n = n,
		.add = rows % 2,
	};

	for (unsigned i = 0; i < n; i++) {
		float *x = ending(X + i, cols * sizeof(*x));

		op.x[i] = x;
		op.y[i] = ending(Y + i, rows * sizeof(float));
		fill(x, cols, kind, DS_DTYPE_F32);
		for (size_t c = 0; c < cols && kind == KIND_WHOLE; c++)
			x[c] = (float)((int)x[c] % 2); /* weights are up to 2^18 of their smallest unit */
		for (size_t r = 0; r < rows; r++)
			op.y[i][r] = (float)(r + i);
	}
	k->matvec[dtype](&op);
	for (size_t r = 0; r < rows; r++) {
		ds_dequantize_row(wide, w + r * pitch * info->size, dtype, cols);
		for (unsigned i = 0; i < n; i++) {
			double sum = op.add ? (double)(r + i) : 0, size = sum;

			for (size_t c = 0; c < cols; c++) {
				sum += (double)wide[c] * op.x[i][c];
				size += fabs((double)wide[c] * op.x[i][c]);
			}
			if (!is_sum(op.y[i][r], sum, size, cols + 1, kind))
				fail_msg("%s, %zu rows, %zu columns, %u at once, kind %d: %.9g instead of %.9g",
					 info->name, rows, cols, n, (int)kind, op.y[i][r], sum);
		}
	}
}

static void rows_of_blocks_times_columns_are_dot_products(const struct ds_kernels *k)
{
	static const size_t row_counts[] = {1, 2, 3, 4, 5, 8, 9};

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts); r++)
			for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++)
				for (enum kind kind = 0; kind < N_KINDS; kind++) {
					size_t n_blocks = 1 + (r + n + kind) % 3;

					check_matvec(k, t, row_counts[r], n_blocks * ds_dtype_info(block_types[t].dtype)->block,
						     (r + n_blocks) % 3, n, kind);
				}
}

/* Only FP8 has rows whose last block is not full. */
static void the_padding_of_the_last_block_meets_no_column(const struct ds_kernels *k)
{
	static const size_t col_counts[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 95, 100, 127, 129, 144, 255, 300};
	size_t fp8 = DS_ARRAY_SIZE(block_types) - 1;

	assert_int_equal(block_types[fp8].dtype, DS_DTYPE_FP8);
	for (size_t c = 0; c < DS_ARRAY_SIZE(col_counts); c++)
		for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++)
			for (size_t rows = 1; rows <= 6; rows++)
				for (enum kind kind = 0; kind < N_KINDS; kind++)
					check_matvec(k, fp8, rows, col_counts[c], 0, n, kind);
}

static void blocks_widen_to_what_they_mean_to_the_bit(const struct ds_kernels *k)
{
	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		enum ds_dtype dtype = block_types[t].dtype;
		size_t block = ds_dtype_info(dtype)->block;

		for (size_t n = 0; n <= 3 * block; n += n < 40 ? 1 : 13) {
			uint8_t *x = blocks(t, (n + block - 1) / block, n % 2 ? KIND_REAL : KIND_WILD);
			float *got = ending(Y, n * sizeof(*got)), want[MAX_COLS];

			ds_dequantize_row(want, x, dtype, n);
			k->widen[dtype](got, x, n);
			for (size_t i = 0; i < n; i++)
				if (!is_same(want[i], got[i]))
					fail_msg("%s, %zu of %zu: %.9g instead of %.9g", ds_dtype_info(dtype)->name, i, n,
						 got[i], want[i]);
		}
	}
}

/* Every scale that a half or an exponent can be: zeros, subnormal and infinite ones and none too. */
static void all_scales_are_right(const struct ds_kernels *k)
{
	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++) {
		enum ds_dtype dtype = block_types[t].dtype;
		float want[256], got[256];
		size_t block = ds_dtype_info(dtype)->block;
		uint8_t *x = blocks(t, 1, KIND_REAL);

		for (unsigned i = 0; i < (dtype == DS_DTYPE_MXFP4 ? 256 : 0x10000); i += block_types[t].d < 0 ? 1 : 37) {
			uint16_t half = (uint16_t)i;

			if (block_types[t].d >= 0)
				memcpy(x + block_types[t].d, &half, sizeof(half));
			if (block_types[t].other >= 0)
				memcpy(x + block_types[t].other, &half, sizeof(half));
			if (dtype == DS_DTYPE_MXFP4)
				x[0] = (uint8_t)i;
			ds_dequantize_row(want, x, dtype, block);
			k->widen[dtype](got, x, block);
			for (size_t e = 0; e < block; e++)
				if (!is_same(want[e], got[e]))
					fail_msg("%s, scale %#x: %.9g instead of %.9g", ds_dtype_info(dtype)->name, i,
						 got[e], want[e]);
		}
	}
}

static void all_bytes_of_fp8_widen_to_their_value(const struct ds_kernels *k)
{
	static const float scales[] = {1, -0.3f, 0x1p-126f, 0x1.8p+110f, 0x1.234568p-140f, 0};

	for (size_t s = 0; s < DS_ARRAY_SIZE(scales); s++) {
		struct ds_block_fp8 x[2] = {{.scale = scales[s]}, {.scale = scales[s]}};
		float got[256];

		for (unsigned i = 0; i < 256; i++)
			x[i / 128].qs[i % 128] = (uint8_t)i;
		k->widen[DS_DTYPE_FP8](got, x, 256);
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

static void every_type_has_its_kernels(const struct ds_kernels *k)
{
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype < DS_N_DTYPES; dtype++) {
		assert_non_null(k->matvec[dtype]);
		assert_non_null(k->widen[dtype]);
	}
	assert_int_equal(DS_ARRAY_SIZE(block_types), DS_N_DTYPES - DS_DTYPE_Q4_0);
}

const struct kernel_test block_tests[] = {
	KERNEL_TEST(every_type_has_its_kernels),
	KERNEL_TEST(blocks_widen_to_what_they_mean_to_the_bit),
	KERNEL_TEST(all_scales_are_right),
	KERNEL_TEST(all_bytes_of_fp8_widen_to_their_value),
	KERNEL_TEST(rows_of_blocks_times_columns_are_dot_products),
	KERNEL_TEST(the_padding_of_the_last_block_meets_no_column),
	{NULL, NULL},
};

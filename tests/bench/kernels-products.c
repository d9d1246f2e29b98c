/* kernels-products.c - tests of products with weights in float types: every size class and tail, nothing past the end. */
#include <math.h>
#include <string.h>

#include "kernels.h"

enum {
	MAX_COLS = 130,
	MAX_ROWS = 13,
	/* Whose memory ends where: that of row i of activations and results, of the weights. */
	X = 0,
	Y = X + DS_KERNEL_ROWS,
	W = Y + DS_KERNEL_ROWS,
};

static const size_t col_counts[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 130};
static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13};

/* A matrix as its type stores it, whose last row ends where memory does, and in @wide what that stands for. */
static const void *matrix(float *wide, enum ds_dtype dtype, size_t rows, size_t cols, size_t pitch, enum kind kind)
{
	size_t n = (rows - 1) * pitch + cols;
	void *stored = ending(W, n * ds_dtype_size(dtype));

	fill(wide, n, kind, dtype);
	portable.narrow[dtype](stored, wide, n);
	portable.widen[dtype](wide, stored, n);
	return stored;
}

static float *row(unsigned end, size_t n, enum kind kind)
{
	float *x = ending(end, n * sizeof(*x));

	fill(x, n, kind, DS_DTYPE_F32);
	return x;
}

static void check_matvec(const struct ds_kernels *k, enum ds_dtype dtype, size_t rows, size_t cols, unsigned n,
			 enum kind kind)
{
	static float wide[MAX_ROWS * (MAX_COLS + 2)], before[DS_KERNEL_ROWS][MAX_ROWS];
	struct ds_matvec op = {.rows = rows, .cols = cols, .pitch = cols + rows % 3, .n = n, .add = cols % 2};

	op.w = matrix(wide, dtype, rows, cols, op.pitch, kind);
	for (unsigned i = 0; i < n; i++) {
		op.x[i] = row(X + i, cols, kind);
		op.y[i] = row(Y + i, rows, kind);
		memcpy(before[i], op.y[i], rows * sizeof(before[i][0]));
	}
	k->matvec[dtype](&op);
	for (unsigned i = 0; i < n; i++)
		for (size_t r = 0; r < rows; r++) {
			double sum = op.add ? before[i][r] : 0, size = fabs(sum);

			for (size_t c = 0; c < cols; c++) {
				sum += (double)wide[r * op.pitch + c] * op.x[i][c];
				size += fabs((double)wide[r * op.pitch + c] * op.x[i][c]);
			}
			if (!is_sum(op.y[i][r], sum, size, cols + 1, kind))
				fail_msg("%s, %zu rows, %zu columns, %u at once, kind %d: %.9g instead of %.9g",
					 ds_dtype_info(dtype)->name, rows, cols, n, (int)kind, op.y[i][r], sum);
		}
}

static void rows_times_columns_are_dot_products(const struct ds_kernels *k)
{
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts); r++)
			for (size_t c = 0; c < DS_ARRAY_SIZE(col_counts); c++)
				for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++)
					for (enum kind kind = 0; kind < N_KINDS; kind++)
						check_matvec(k, dtype, row_counts[r], col_counts[c], n, kind);
}

static void float_types_have_their_kernels(const struct ds_kernels *k)
{
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		assert_non_null(k->matvec[dtype]);
}

const struct kernel_test product_tests[] = {
	KERNEL_TEST(float_types_have_their_kernels),
	KERNEL_TEST(rows_times_columns_are_dot_products),
	{NULL, NULL},
};

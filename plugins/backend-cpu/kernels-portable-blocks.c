/* kernels-portable-blocks.c - quantised weights in plain C, by the definition of their blocks. */
#include "kernels.h"

#include <deepseekd/quants.h>

enum {
	LANES = 8, /* parts of a sum, as in kernels-portable.c */
	MAX_BLOCK = 256,
};

/* @n columns from @c on of one row, which are in @w. */
static inline void add_products(const struct ds_matvec *op, float (*sums)[LANES], const float *w, size_t c, size_t n)
{
	for (unsigned i = 0; i < op->n; i++) {
		const float *x = op->x[i] + c;

		for (size_t e = 0; e < n; e += LANES)
			for (size_t j = 0; j < LANES && e + j < n; j++)
				sums[i][j] += w[e + j] * x[e + j];
	}
}

static inline void matvec(const struct ds_matvec *op, enum ds_dtype dtype)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	size_t pitch = ds_row_size(dtype, op->pitch);

	for (size_t r = 0; r < op->rows; r++) {
		const char *w = (const char *)op->w + r * pitch;
		float sums[DS_KERNEL_ROWS][LANES] = {{0}}, block[MAX_BLOCK];

		for (size_t c = 0; c < op->cols; c += info->block, w += info->size) {
			ds_dequantize_block(block, w, dtype);
			add_products(op, sums, block, c, op->cols - c < info->block ? op->cols - c : info->block);
		}
		for (unsigned i = 0; i < op->n; i++) {
			const float *s = sums[i];
			float sum = ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));

			op->y[i][r] = op->add ? op->y[i][r] + sum : sum;
		}
	}
}

#define DEFINE_BLOCKS(name, dtype)                                  \
	static void matvec_##name(const struct ds_matvec *op)       \
	{                                                           \
		matvec(op, dtype);                                  \
	}                                                           \
                                                                    \
	static void widen_##name(float *y, const void *x, size_t n) \
	{                                                           \
		ds_dequantize_row(y, x, dtype, n);                  \
	}

DS_BLOCK_TYPES(DEFINE_BLOCKS)

#define INIT_BLOCKS(name, dtype)          \
	k->matvec[dtype] = matvec_##name; \
	k->widen[dtype] = widen_##name;

void ds_kernels_init_blocks(struct ds_kernels *k)
{
	DS_BLOCK_TYPES(INIT_BLOCKS)
}

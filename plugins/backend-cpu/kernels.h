/* kernels.h - the inner loops, on one thread, in as many variants as there are instruction sets.
 *
 * The portable set is complete and is the definition of right; each instruction set replaces what it does better.
 * Arithmetic here is float32 whatever the weights are stored in: all of DS_PRECISION_EXACT, and what is no matrix product in
 * DS_PRECISION_FAST, whose products go by tiles.h where there is a kernel for them. Nothing needs an alignment but that of
 * its element or block. */
#pragma once

#include <deepseekd/model.h>

#include "kernels-attention.h"
#include "tiles.h"

enum {
	DS_KERNEL_DTYPES = DS_N_DTYPES, /* tables are indexed by enum ds_dtype */
	DS_KERNEL_ROWS = 8, /* rows of activations that one call takes */
};

/* The types whose weights are quantised blocks: what(name, type) for each. */
#define DS_BLOCK_TYPES(what) DS_TILE_TYPES(what) what(fp8, DS_DTYPE_FP8)

/* y[i][r] = w[r] . x[i] for i < n and r < rows, added to y[i][r] when @add. */
struct ds_matvec {
	float *y[DS_KERNEL_ROWS];	/* [n]: rows values */
	const float *x[DS_KERNEL_ROWS]; /* [n]: cols values */
	const void *w;			/* (rows, cols); a row is ds_row_size(dtype, @pitch) after the last one */
	size_t rows, cols, pitch;
	unsigned n; /* 1 to DS_KERNEL_ROWS */
	bool add;
};

struct ds_kernels {
	/* So many rows of activations make it worth to widen a panel of weights and call sgemm, instead of matvec for
	 * every DS_KERNEL_ROWS of them. */
	unsigned gemm_min;

	void (*matvec[DS_KERNEL_DTYPES])(const struct ds_matvec *op);
	/* y = x, @n elements from the start of a block; to the bit what quants.h says. narrow, of what a cache may be
	 * stored in, rounds to nearest even. */
	void (*widen[DS_KERNEL_DTYPES])(float *y, const void *x, size_t n);
	void (*narrow[DS_KERNEL_DTYPES])(void *y, const float *x, size_t n);

	double (*sum_squares)(const float *x, size_t n);
	/* y = x * factor * weight. y may be x. */
	void (*scale_by)(float *y, const float *x, const float *weight, float factor, size_t n);
	/* x = x * factor */
	void (*scale)(float *x, float factor, size_t n);
	/* y += a * x */
	void (*add_scaled)(float *y, const float *x, float a, size_t n);
	/* y = silu(gate) * up. y may be gate. */
	void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
	/* (x[2i], x[2i + 1]) turned by the angle whose cosine and sine are turn[2i], turn[2i + 1]; @n pairs. */
	void (*rotate)(float *x, const float *turn, size_t n);
	/* (x[i], x[n + i]) turned by the angle whose cosine and sine are turn[i], turn[n + i]; @n pairs. */
	void (*rotate_halves)(float *x, const float *turn, size_t n);

	struct ds_tiles tiles;
	struct ds_attend_kernels attend, attend_few; /* of any number of queries, of DS_ATTEND_FEW at most */
};

/* Each has what those before it in its family have; the later, the better. */
enum ds_isa {
	DS_ISA_PORTABLE,
	DS_ISA_NEON,	    /* what every 64-bit ARM has */
	DS_ISA_NEON_DOTPROD,
	DS_ISA_AVX2,	    /* and FMA and F16C */
	DS_ISA_AVX2_VNNI,   /* AVX-VNNI */
	DS_ISA_AVX512,	    /* F, BW, DQ, VL; it does without AVX-VNNI */
	DS_ISA_AVX512_VNNI,
	DS_ISA_AVX512_BF16,
	DS_ISA_COUNT,
};

/* The best that this CPU has and this build knows, and whether it has another. */
enum ds_isa ds_isa_detect(void);
bool ds_isa_has(enum ds_isa isa);
const char *ds_isa_name(enum ds_isa isa);

void ds_kernels_init(struct ds_kernels *k, enum ds_isa isa);

void ds_kernels_init_portable(struct ds_kernels *k);
void ds_kernels_init_blocks(struct ds_kernels *k); /* portable, called by that */
void ds_attention_init_portable(struct ds_kernels *k); /* called by that, too */
void ds_kernels_init_neon(struct ds_kernels *k);
void ds_kernels_init_avx2(struct ds_kernels *k);
void ds_kernels_init_avx512(struct ds_kernels *k);
void ds_attention_init_avx512vnni(struct ds_kernels *k); /* what needs AVX512-VNNI besides */
void ds_attention_init_avx512bf16(struct ds_kernels *k); /* what needs AVX512-BF16 besides */

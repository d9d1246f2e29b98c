/* tiles-bf16.c - products of BF16 by AVX512-BF16: one vdpbf16ps for 16 rows and a pair of columns. Compiled with those flags
 * and called only where the CPU has them. Subnormal numbers count as zero there, in fast precision. */
#include <immintrin.h>
#include <string.h>

#include "kernels-inline.h"
#include "tiles.h"

enum {
	PANELS = DS_TILE_PANELS,
	FEW = 2, /* rows of activations with which memory is the limit */
	PAIR_SIZE = 4, /* bytes of two columns of a row */
	LINE = DS_PANEL * PAIR_SIZE,
};

static void narrow(const struct ds_codes *codes, const float *const *x, size_t cols)
{
	const size_t n = codes->n;

	for (size_t i = 0; i < n; i++) {
		char *to = (char *)codes->bytes + i * PAIR_SIZE;

		for (size_t c = 0; c < cols; c += 32) {
			__m512i pairs = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x[i] + c + 16), _mm512_loadu_ps(x[i] + c));
			char words[64];

			_mm512_storeu_si512(words, pairs);
			for (size_t k = 0; k < 16; k++, to += n * PAIR_SIZE)
				memcpy(to, words + k * PAIR_SIZE, PAIR_SIZE);
		}
	}
}

static ALWAYS_INLINE void store(float *y, __m512 sum, size_t n, bool add)
{
	__mmask16 rows = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);

	if (add)
		sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(rows, y));
	_mm512_mask_storeu_ps(y, rows, sum);
}

static ALWAYS_INLINE void product_tile(const struct ds_tile_product *op, unsigned n)
{
	const char *x = (const char *)op->codes.bytes + op->col * n * sizeof(uint16_t);
	__m512 sum[PANELS][DS_TILE_WIDTH];

	UNROLL
	for (unsigned p = 0; p < PANELS; p++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[p][i] = _mm512_setzero_ps();
	}
	for (size_t c = 0; c < op->cols / 2; c++) {
		__m512bh w[PANELS];

		UNROLL
		for (unsigned p = 0; p < PANELS; p++) {
			if (n <= FEW)
				__builtin_prefetch(op->panels[p] + c * LINE + DS_TILE_AHEAD, 0, 3);
			w[p] = (__m512bh)_mm512_loadu_si512(op->panels[p] + c * LINE);
		}
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			int pair;

			memcpy(&pair, x + i * PAIR_SIZE, sizeof(pair));
			UNROLL
			for (unsigned p = 0; p < PANELS; p++)
				sum[p][i] = _mm512_dpbf16_ps(sum[p][i], w[p], (__m512bh)_mm512_set1_epi32(pair));
		}
		x += n * PAIR_SIZE;
	}
	UNROLL
	for (unsigned p = 0; p < PANELS; p++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			if (p * DS_PANEL < op->n_rows)
				store(op->y[i] + p * DS_PANEL, sum[p][i], op->n_rows - p * DS_PANEL, op->add);
	}
}

static void product(const struct ds_tile_product *op)
{
	switch (op->codes.n) {
	case 1:
		product_tile(op, 1);
		break;
	case 2:
		product_tile(op, 2);
		break;
	case 3:
		product_tile(op, 3);
		break;
	case 4:
		product_tile(op, 4);
		break;
	case 5:
		product_tile(op, 5);
		break;
	case 6:
		product_tile(op, 6);
		break;
	}
}

void ds_tiles_init_avx512_bf16(struct ds_tiles *tiles)
{
	tiles->narrow = narrow;
	tiles->product[DS_TILE_BF16] = product;
}

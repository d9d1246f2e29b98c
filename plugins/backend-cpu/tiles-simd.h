/* tiles-simd.h - the int8 products in terms of a vector of LANES rows.
 *
 * Included once by the file of each instruction set, which defines before it: LANES (a divisor of 16); the types ivec and
 * fvec, LANES 32-bit words and floats; TILE_PANELS and TILE_WIDTH, which its registers hold, and
 * PRODUCT_CASES, every width up to that; SIGNED_OFFSET; and the small
 * functions iv_*() and fv_*() used here and in tiles-unpack.h. iv_dot() adds to every word the products of four unsigned
 * bytes below 64 with four signed ones; iv_dot_signed() those of bytes that iv_of_signed() made. */
#include "tiles.h"

#include <deepseekd/quants.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Instrumented code is not for speed, and unrolled it takes minutes to compile. */
#if defined(SANITIZED)
#define ALWAYS_INLINE __attribute__((unused))
#define UNROLL
#elif defined(__clang__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#endif

#include "tiles-unpack.h"

enum {
	VECTORS = DS_PANEL / LANES,	     /* of a panel */
	TILE_VECTORS = TILE_PANELS * VECTORS, /* of a tile */
	VECTOR_SIZE = LANES * 4,	     /* bytes */
	FEW = 2,			     /* rows of activations up to which memory is what the product waits for */
};

#define DEFINE_UNPACK(name, dtype)                                                                                  \
	static void unpack_panel_##name(struct ds_tile *tile, const void *panel, size_t cols, size_t block, size_t n) \
	{                                                                                                           \
		const struct ds_panel_format f = ds_panel_format(dtype);                                            \
		const unsigned n_groups = f.block / ds_tile_group(ds_tile_type(dtype).kind);                                           \
		const uint8_t *heads = (const uint8_t *)panel + block * DS_PANEL * f.head_size;                     \
		const uint8_t *words =                                                                              \
			(const uint8_t *)panel + ds_panel_heads_size(&f, cols) + block * f.n_units * 64;            \
                                                                                                                    \
		for (size_t b = 0; b < n; b++) {                                                                    \
			for (unsigned v = 0; v < VECTORS; v++) {                                                    \
				struct source s = {heads + v * LANES * f.head_size, words + v * VECTOR_SIZE};       \
				size_t g = b * n_groups;                                                            \
                                                                                                                    \
				unpack_##name(s, tile->codes[b * f.block / 4][v * LANES], &tile->scales[g][v * LANES], \
					      &tile->mins[g][v * LANES]);                                           \
			}                                                                                           \
			heads += DS_PANEL * f.head_size;                                                            \
			words += (size_t)f.n_units * 64;                                                            \
		}                                                                                                   \
	}

#define BLOCK_TYPES(what)                                                                                      \
	what(q4_0, DS_DTYPE_Q4_0) what(q4_1, DS_DTYPE_Q4_1) what(q5_0, DS_DTYPE_Q5_0) what(q5_1, DS_DTYPE_Q5_1) \
	what(q8_0, DS_DTYPE_Q8_0) what(q2_k, DS_DTYPE_Q2_K) what(q3_k, DS_DTYPE_Q3_K) what(q4_k, DS_DTYPE_Q4_K) \
	what(q5_k, DS_DTYPE_Q5_K) what(q6_k, DS_DTYPE_Q6_K) what(iq4_nl, DS_DTYPE_IQ4_NL)                       \
	what(iq4_xs, DS_DTYPE_IQ4_XS) what(mxfp4, DS_DTYPE_MXFP4)

BLOCK_TYPES(DEFINE_UNPACK)

/* 32 activations to bytes @q and their sums by halves. Returns the scale. The largest is found among the bits, where NaN
 * is larger than infinity and that than any number. */
static ALWAYS_INLINE float quantize_group(const float *x, int8_t *q, int32_t *sums)
{
	ivec top = iv_set32(0);
	float largest, factor;

	UNROLL
	for (unsigned i = 0; i < DS_TILE_GROUP; i += LANES)
		top = iv_max(top, iv_and(iv_load(x + i), iv_set32(0x7fffffff)));
	largest = ds_float_of_bits(iv_largest(top));
	/* Below this the factor would be infinite. */
	factor = largest >= 0x1p-100f ? 127 / largest : 0;
	sums[0] = sums[1] = 0;
	UNROLL
	for (unsigned i = 0; i < DS_TILE_GROUP; i += LANES) {
		ivec v = iv_round(fv_mul(fv_load(x + i), fv_set(factor)));

		iv_store_bytes(q + i, v);
		sums[i / 16] += iv_sum(v);
	}
	if (!(largest <= 0x1.fffffep+127f))
		return ds_float_of_bits(0x7fc00000);
	return factor > 0 ? largest / 127 : 0;
}

static void quantize(const struct ds_codes *codes, const float *const *x, size_t cols, struct ds_tile_type type)
{
	const unsigned n = codes->n, halves = ds_tile_group(type.kind) == 16 ? 2 : 1;
	const int offset = type.kind == DS_TILE_SIGNED ? SIGNED_OFFSET : type.offset;
	int32_t *integers = codes->corrections;
	float *floats = codes->corrections;

	for (unsigned i = 0; i < n; i++)
		for (size_t g = 0; g < cols / DS_TILE_GROUP; g++) {
			int8_t q[DS_TILE_GROUP];
			int32_t sums[2];
			float scale = quantize_group(x[i] + g * DS_TILE_GROUP, q, sums);

			for (unsigned k = 0; k < DS_TILE_GROUP / 4; k++)
				memcpy(codes->bytes + ((g * DS_TILE_GROUP / 4 + k) * n + i) * 4, q + k * 4, 4);
			codes->scales[g * n + i] = scale;
			if (halves == 1)
				sums[0] += sums[1];
			for (unsigned h = 0; h < halves; h++)
				if (ds_tile_has_mins(type.kind))
					floats[(g * halves + h) * n + i] = scale * (float)sums[h];
				else
					integers[(g * halves + h) * n + i] = -offset * sums[h];
		}
}

/* The sums of one group of every row and column of the tile, in integers. */
static ALWAYS_INLINE void sum_group(const struct ds_tile_product *op, size_t k4, const int8_t *x,
				    const int32_t *corrections, ivec (*acc)[TILE_WIDTH], unsigned n,
				    enum ds_tile_kind kind)
{
	const struct ds_tile *tile = op->tile;

	UNROLL
	for (unsigned i = 0; i < n; i++) {
		ivec first = ds_tile_has_mins(kind) ? iv_set32(0) : iv_broadcast(corrections + i);

		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++)
			acc[v][i] = first;
	}
	/* Unrolled: in a loop gcc copies every sum before and after it is added to. */
	UNROLL
	for (unsigned s = 0; s < ds_tile_group(kind) / 4; s++) {
		ivec w[TILE_VECTORS];

		/* A few lines at a time, so that memory is never idle while there is arithmetic to do. */
		UNROLL
		for (unsigned p = 0; n <= FEW && p < TILE_PANELS; p++)
			__builtin_prefetch(op->next + p * op->panel_size + (k4 + s) * op->next_step, 0, 3);
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++)
			w[v] = iv_load(tile[v / VECTORS].codes[k4 + s][v % VECTORS * LANES]);
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			ivec codes = iv_broadcast(x + (s * n + i) * 4);

			UNROLL
			for (unsigned v = 0; v < TILE_VECTORS; v++)
				acc[v][i] = kind == DS_TILE_SIGNED ? iv_dot_signed(acc[v][i], w[v], codes)
								   : iv_dot(acc[v][i], w[v], codes);
		}
	}
}

static ALWAYS_INLINE void store_rows(float *y, fvec sum, size_t n, bool add)
{
	float rows[LANES];

	if (n >= LANES) {
		fv_store(y, add ? fv_add(fv_load(y), sum) : sum);
		return;
	}
	fv_store(rows, sum);
	for (size_t r = 0; r < n; r++)
		y[r] = add ? y[r] + rows[r] : rows[r];
}

/* The whole tile: integer sums of a group, then those times both scales, both in registers. */
static ALWAYS_INLINE void product_tile(const struct ds_tile_product *op, unsigned n, enum ds_tile_kind kind)
{
	const unsigned group = ds_tile_group(kind);
	const int8_t *x = op->codes.bytes + op->col * n;
	const float *x_scales = op->codes.scales + op->col / DS_TILE_GROUP * n;
	const float *corrections = (const float *)op->codes.corrections + op->col / group * n;
	fvec sum[TILE_VECTORS][TILE_WIDTH];

	UNROLL
	for (unsigned v = 0; v < TILE_VECTORS; v++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[v][i] = fv_set(0);
	}
	for (size_t g = 0; g < op->cols / group; g++) {
		ivec acc[TILE_VECTORS][TILE_WIDTH];
		const float *x_scale = x_scales + g * group / DS_TILE_GROUP * n;

		sum_group(op, g * group / 4, x, (const int32_t *)corrections, acc, n, kind);
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			const struct ds_tile *tile = &op->tile[v / VECTORS];
			fvec scale = fv_load(&tile->scales[g][v % VECTORS * LANES]);

			UNROLL
			for (unsigned i = 0; i < n; i++)
				sum[v][i] = fv_fma(fv_mul(fv_of_int(acc[v][i]), scale), fv_broadcast(x_scale + i),
						   sum[v][i]);
			if (ds_tile_has_mins(kind)) {
				fvec min = fv_load(&tile->mins[g][v % VECTORS * LANES]);

				UNROLL
				for (unsigned i = 0; i < n; i++)
					sum[v][i] = fv_subtract_product(sum[v][i], min, fv_broadcast(corrections + i));
			}
		}
		x += group * n;
		corrections += n;
	}
	UNROLL
	for (unsigned v = 0; v < TILE_VECTORS; v++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			if (v * LANES < op->n_rows)
				store_rows(op->y[i] + v * LANES, sum[v][i], op->n_rows - v * LANES, op->add);
	}
}

#define PRODUCT_CASE(n, kind)              \
	case n:                            \
		product_tile(op, n, kind); \
		break;

#define DEFINE_PRODUCT(name, kind)                                   \
	static void product_##name(const struct ds_tile_product *op) \
	{                                                            \
		switch (op->codes.n) {                               \
			PRODUCT_CASES(PRODUCT_CASE, kind)            \
		}                                                    \
	}

DEFINE_PRODUCT(signed, DS_TILE_SIGNED)
DEFINE_PRODUCT(offset, DS_TILE_OFFSET)
DEFINE_PRODUCT(offset_16, DS_TILE_OFFSET_16)
DEFINE_PRODUCT(min, DS_TILE_MIN)
DEFINE_PRODUCT(min_16, DS_TILE_MIN_16)

#define SET_UNPACK(name, dtype) tiles->unpack[dtype] = unpack_panel_##name;

static void set_tiles(struct ds_tiles *tiles)
{
	*tiles = (struct ds_tiles){
		.panels = TILE_PANELS,
		.width = TILE_WIDTH,
		.quantize = quantize,
		.product = {
			[DS_TILE_SIGNED] = product_signed,
			[DS_TILE_OFFSET] = product_offset,
			[DS_TILE_OFFSET_16] = product_offset_16,
			[DS_TILE_MIN] = product_min,
			[DS_TILE_MIN_16] = product_min_16,
		},
	};
	BLOCK_TYPES(SET_UNPACK)
}

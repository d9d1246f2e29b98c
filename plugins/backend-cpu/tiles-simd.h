/* tiles-simd.h - the int8 products in terms of a vector of LANES rows.
 *
 * Included once by the file of each instruction set, which defines before it: LANES (a divisor of 16); the types ivec and
 * fvec, LANES 32-bit words and floats; TILE_PANELS and TILE_WIDTH, which its registers hold, and PRODUCT_CASES, every width
 * up to that; if they hold more rows without a tile, FEW_WIDTH and FEW_CASES; SIGNED_OFFSET; and the small functions iv_*()
 * and fv_*() used here and in the three parts of this file: tiles-unpack.h (from words to bytes), tiles-flat.h and
 * tiles-few.h. iv_dot() adds to every word the products of four unsigned bytes below 64 with four signed ones;
 * iv_dot_signed() those of bytes that iv_of_signed() made. */
#include "kernels-inline.h"
#include "tiles.h"

#include <deepseekd/quants.h>

#ifndef FEW_WIDTH
#define FEW_WIDTH TILE_WIDTH
#define FEW_CASES PRODUCT_CASES
#endif

/* The compiler is to forget that it knows what is in @array, and so to leave it there. */
#define KEEP_IN_MEMORY(array) __asm__ volatile("" : "+m"(array))

enum {
	VECTORS = DS_PANEL / LANES,	     /* of a panel */
	TILE_VECTORS = TILE_PANELS * VECTORS, /* of a tile */
	VECTOR_SIZE = LANES * 4,	     /* bytes */
	SPAN = DS_TILE_SPAN,
	MAX_OUTPUTS = 8, /* of a step */
};

#include "tiles-unpack.h"

/* Of what follows, in memory as in time, as much as is being read: memory is then never idle while there is arithmetic. */
static ALWAYS_INLINE void ask_ahead(const uint8_t *words, unsigned n_units)
{
	UNROLL
	for (unsigned u = 0; u < n_units; u++)
		__builtin_prefetch(words + DS_TILE_AHEAD + u * DS_PANEL_LINE, 0, 3);
}

/* The rows from @r on of groups from column @col on. */
static ALWAYS_INLINE struct scales scales_at(struct ds_tile *tile, size_t col, unsigned r, enum ds_tile_kind kind)
{
	size_t group = col / ds_tile_group(kind);

	return (struct scales){
		.scales = &tile->scales[col / 32][r],
		.mins = &tile->mins[col / 32][r],
		.k_scales = &tile->k_scales[group][r],
		.k_mins = &tile->k_mins[group / 2][r],
		.d = &tile->d[col / 256][r],
		.d_min = &tile->d_min[col / 256][r],
	};
}

#define DEFINE_UNPACK(name, dtype)                                                                                    \
	/* A block of the rows of a vector; the bytes go to @codes. */                                                \
	static ALWAYS_INLINE void unpack_##name(const uint8_t *heads, const uint8_t *words, uint8_t *codes,           \
						struct scales scales)                                                 \
	{                                                                                                             \
		const struct shape s = shape_of(dtype);                                                               \
		const uint8_t *step = words + s.first * 64;                                                           \
                                                                                                                      \
		scales_##name(heads, words, scales);                                                                  \
		for (unsigned part = 0; part < s.n_parts; part++) {                                                   \
			uint8_t *to = codes + part_begin(s, part) * 64;                                               \
                                                                                                                      \
			UNROLL                                                                                        \
			for (unsigned u = 0; u < s.n_steps; u++) {                                                    \
				ivec out[MAX_OUTPUTS];                                                                \
                                                                                                                      \
				step_##name(words, step + u * s.n_words * 64, u, out);                                \
				UNROLL                                                                                \
				for (unsigned o = 0; o < s.n_outputs; o++)                                            \
					iv_store(to + (o * s.stride + u) * 64, out[o]);                               \
			}                                                                                             \
			step += s.n_steps * s.n_words * 64;                                                           \
		}                                                                                                     \
	}                                                                                                             \
                                                                                                                      \
	static void unpack_panel_##name(struct ds_tile *tile, const void *panel, size_t cols, size_t block, size_t n) \
	{                                                                                                             \
		const struct ds_panel_format f = ds_panel_format(dtype);                                              \
		const uint8_t *heads = (const uint8_t *)panel + block * DS_PANEL * f.head_size;                       \
		const uint8_t *words =                                                                                \
			(const uint8_t *)panel + ds_panel_heads_size(&f, cols) + block * f.n_units * 64;              \
                                                                                                                      \
		for (size_t b = 0; b < n; b++) {                                                                      \
			for (unsigned v = 0; v < VECTORS; v++)                                                        \
				unpack_##name(heads + v * LANES * f.head_size, words + v * VECTOR_SIZE,               \
					      tile->codes[b * f.block / 4][v * LANES],                                \
					      scales_at(tile, b * f.block, v * LANES, ds_tile_type(dtype).kind));     \
			ask_ahead(words, f.n_units);                                                                  \
			heads += DS_PANEL * f.head_size;                                                              \
			words += (size_t)f.n_units * 64;                                                              \
		}                                                                                                     \
	}

DS_TILE_TYPES(DEFINE_UNPACK)

#include "tiles-flat.h"

/* The scale of @n activations, and *@factor, what makes bytes of them. The largest is found among the bits, where NaN is
 * larger than infinity and that than any number. */
static ALWAYS_INLINE float scale_of(const float *x, unsigned n, float *factor)
{
	ivec top = iv_set32(0);
	float largest;

	for (unsigned i = 0; i < n; i += LANES) {
		__builtin_prefetch(x + DS_TILE_COLS + i, 0, 3);
		top = iv_max(top, iv_and(iv_load(x + i), iv_set32(0x7fffffff)));
	}
	largest = ds_float_of_bits(iv_largest(top));
	/* Below this the factor would be infinite. */
	*factor = largest >= 0x1p-100f ? 127 / largest : 0;
	if (!(largest <= 0x1.fffffep+127f))
		return ds_float_of_bits(0x7fc00000);
	return *factor > 0 ? largest / 127 : 0;
}

/* 32 activations to bytes, 4 of them every @stride bytes from @q on. */
static ALWAYS_INLINE void quantize_group(const float *x, float factor, int8_t *q, size_t stride)
{
	int8_t bytes[DS_TILE_GROUP];

	UNROLL
	for (unsigned i = 0; i < DS_TILE_GROUP; i += LANES)
		iv_store_bytes(bytes + i, iv_round(fv_mul(fv_load(x + i), fv_set(factor))));
	UNROLL
	for (unsigned k = 0; k < DS_TILE_GROUP / 4; k++)
		memcpy(q + k * stride, bytes + k * 4, 4);
}

/* Of LANES rows side by side, the sums of 16 columns from @q on. */
static ALWAYS_INLINE void sum_half(const int8_t *q, size_t stride, int32_t *sums)
{
	ivec sum = iv_set32(0);

	UNROLL
	for (unsigned k = 0; k < DS_TILE_MIN_GROUP / 4; k++)
		sum = iv_dot(sum, iv_set8(1), iv_load(q + k * stride));
	iv_store(sums, sum);
}

/* What @sums, by halves of the group of 32 at column @col, give row @i of the corrections. */
static ALWAYS_INLINE void correct(const struct ds_codes *codes, size_t col, size_t i, const int32_t *sums, float scale,
				  enum ds_tile_kind kind, int offset)
{
	const size_t n = codes->n;

	if (kind == DS_TILE_MIN)
		((float *)codes->corrections)[col / 32 * n + i] = scale * (float)(sums[0] + sums[1]);
	else if (kind == DS_TILE_K_MIN)
		((int16_t *)codes->corrections)[(col / 64 * n + i) * 2 + col / 32 % 2] = (int16_t)(sums[0] + sums[1]);
	else if (kind == DS_TILE_K_MIN_16)
		for (unsigned h = 0; h < 2; h++)
			((int16_t *)codes->corrections)[(col / 32 * n + i) * 2 + h] = (int16_t)sums[h];
	else if (kind == DS_TILE_FLAT && col % SPAN > 0)
		((int32_t *)codes->corrections)[col / SPAN * n + i] -= offset * (sums[0] + sums[1]);
	else if (ds_tile_group(kind) == 16)
		for (unsigned h = 0; h < 2; h++)
			((int32_t *)codes->corrections)[(col / 16 + h) * n + i] = -offset * sums[h];
	else
		((int32_t *)codes->corrections)[col / ds_tile_group(kind) * n + i] = -offset * (sums[0] + sums[1]);
}

/* The corrections of the group of 32 at column @col, of all rows. */
static ALWAYS_INLINE void correct_group(const struct ds_codes *codes, size_t col, enum ds_tile_kind kind, int offset)
{
	const size_t n = codes->n;
	const float *scales = codes->scales + col / ds_tile_span(kind) * n;

	for (size_t first = 0; first < n; first += LANES) {
		const int8_t *q = codes->bytes + (col / 4 * n + first) * 4;
		int32_t sums[2][LANES];

		sum_half(q, n * 4, sums[0]);
		sum_half(q + DS_TILE_MIN_GROUP * n, n * 4, sums[1]);
		for (size_t i = 0; i < LANES && first + i < n; i++)
			correct(codes, col, first + i, (int32_t[]){sums[0][i], sums[1][i]}, scales[first + i], kind, offset);
	}
}

static ALWAYS_INLINE void quantize_kind(const struct ds_codes *codes, const float *const *x, size_t cols,
					enum ds_tile_kind kind, int offset)
{
	static const float zeros[DS_TILE_GROUP];
	const size_t n = codes->n, span = ds_tile_span(kind);

	for (size_t begin = 0; begin < cols; begin += span) {
		for (size_t i = 0; i < n; i++) {
			float factor, scale = scale_of(x[i] + begin, (unsigned)span, &factor);
			int8_t *q = codes->bytes + (begin / 4 * n + i) * 4;

			codes->scales[begin / span * n + i] = scale;
			/* What is no number has no byte: the scale tells of it. */
			for (size_t col = 0; col < span; col += DS_TILE_GROUP)
				quantize_group(scale == scale ? x[i] + begin + col : zeros, factor, q + col * n, n * 4);
		}
		for (size_t col = begin; col < begin + span; col += DS_TILE_GROUP)
			correct_group(codes, col, kind, offset);
	}
}

#define QUANTIZE_CASE(kind, offset)                        \
	case kind:                                         \
		quantize_kind(codes, x, cols, kind, offset); \
		break;

static void quantize(const struct ds_codes *codes, const float *const *x, size_t cols, struct ds_tile_type type)
{
	switch (type.kind) {
		QUANTIZE_CASE(DS_TILE_SIGNED, SIGNED_OFFSET)
		QUANTIZE_CASE(DS_TILE_OFFSET, type.offset)
		QUANTIZE_CASE(DS_TILE_MIN, 0)
		QUANTIZE_CASE(DS_TILE_K_SIGNED, SIGNED_OFFSET)
		QUANTIZE_CASE(DS_TILE_K_OFFSET_16, type.offset)
		QUANTIZE_CASE(DS_TILE_K_MIN, 0)
		QUANTIZE_CASE(DS_TILE_K_MIN_16, 0)
		QUANTIZE_CASE(DS_TILE_FLAT, SIGNED_OFFSET)
	default:
		break;
	}
}

/* To the sums of every row and column of the tile, the products of @n_words times four columns from @col on. @x: the bytes
 * of those columns. */
static ALWAYS_INLINE void add_products(const struct ds_tile_product *op, size_t col, const int8_t *x,
				       ivec (*acc)[TILE_WIDTH], unsigned n, unsigned n_words, enum ds_tile_kind kind)
{
	const struct ds_tile *tile = op->tile;

	/* Unrolled: in a loop gcc copies every sum before and after it is added to. */
	UNROLL
	for (unsigned s = 0; s < n_words; s++) {
		ivec w[TILE_VECTORS];

		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++)
			w[v] = iv_load(tile[v / VECTORS].codes[col / 4 + s][v % VECTORS * LANES]);
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			ivec codes = iv_broadcast(x + (s * n + i) * 4);

			UNROLL
			for (unsigned v = 0; v < TILE_VECTORS; v++)
				acc[v][i] = ds_tile_is_signed(kind) ? iv_dot_signed(acc[v][i], w[v], codes)
								    : iv_dot(acc[v][i], w[v], codes);
		}
	}
}

/* The sums of the group of every row and column of the tile that begins at @col, in integers. @x and @corrections are
 * those of the group. */
static ALWAYS_INLINE void sum_group(const struct ds_tile_product *op, size_t col, const int8_t *x,
				    const void *corrections, ivec (*acc)[TILE_WIDTH], unsigned n, enum ds_tile_kind kind)
{
	const unsigned at_once = ds_tile_group(kind) < DS_TILE_GROUP ? ds_tile_group(kind) : DS_TILE_GROUP;

	UNROLL
	for (unsigned i = 0; i < n; i++) {
		ivec first = ds_tile_has_mins(kind) ? iv_set32(0) : iv_broadcast((const int32_t *)corrections + i);

		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++)
			acc[v][i] = first;
	}
	for (unsigned c = 0; c < ds_tile_group(kind); c += at_once)
		add_products(op, col + c, x + c * n, acc, n, at_once / 4, kind);
}

static ALWAYS_INLINE void clear(fvec (*sum)[TILE_WIDTH], unsigned n)
{
	UNROLL
	for (unsigned v = 0; v < TILE_VECTORS; v++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[v][i] = fv_set(0);
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

static ALWAYS_INLINE void store_tile(const struct ds_tile_product *op, fvec (*sum)[TILE_WIDTH], unsigned n)
{
	UNROLL
	for (unsigned v = 0; v < TILE_VECTORS; v++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			if (v * LANES < op->n_rows)
				store_rows(op->y[i] + v * LANES, sum[v][i], op->n_rows - v * LANES, op->add);
	}
}

/* @sum and what a group of 32 adds to it: its integers times both scales. */
static ALWAYS_INLINE fvec add_group(fvec sum, ivec integers, const float *scale, const float *min, const float *x_scale,
				    const void *correction, enum ds_tile_kind kind)
{
	sum = fv_fma(fv_mul(fv_of_int(integers), fv_load(scale)), fv_broadcast(x_scale), sum);
	return ds_tile_has_mins(kind) ? fv_subtract_product(sum, fv_load(min), fv_broadcast(correction)) : sum;
}

/* Spans of 32: integer sums of a group, then those times both scales, both in registers. */
static ALWAYS_INLINE void product_tile(const struct ds_tile_product *op, unsigned n, enum ds_tile_kind kind)
{
	const int8_t *x = op->codes.bytes + op->col * n;
	const float *x_scale = op->codes.scales + op->col / 32 * n;
	const float *corrections = (const float *)op->codes.corrections + op->col / 32 * n;
	fvec sum[TILE_VECTORS][TILE_WIDTH];

	clear(sum, n);
	for (size_t g = 0; g < op->cols / 32; g++) {
		ivec acc[TILE_VECTORS][TILE_WIDTH];

		sum_group(op, g * 32, x, corrections, acc, n, kind);
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			const struct ds_tile *tile = &op->tile[v / VECTORS];
			unsigned r = v % VECTORS * LANES;

			UNROLL
			for (unsigned i = 0; i < n; i++)
				sum[v][i] = add_group(sum[v][i], acc[v][i], &tile->scales[g][r], &tile->mins[g][r],
						      x_scale + i, corrections + i, kind);
		}
		x += 32 * n;
		x_scale += n;
		corrections += n;
	}
	store_tile(op, sum, n);
}

/* The sum of minimums times sums of activations over a block, in integers. @sums: of the block, of row i of @n. */
static ALWAYS_INLINE ivec sum_mins(const uint32_t *mins, const int16_t *sums, unsigned n, enum ds_tile_kind kind)
{
	ivec sum = iv_set32(0);

	UNROLL
	for (unsigned k = 0; k < SPAN / 2 / ds_tile_group(kind); k++)
		sum = iv_dot_halfwords(sum, iv_load(mins + k * DS_PANEL), iv_broadcast(sums + k * 2 * n));
	return sum;
}

/* @sum and what a block of 256 adds to it. @corrections: of the block and row i of @n. */
static ALWAYS_INLINE fvec add_block(fvec sum, ivec integers, const float *d, const float *d_min, const uint32_t *mins,
				    const float *x_scale, const void *corrections, unsigned n, enum ds_tile_kind kind)
{
	fvec part = fv_mul(fv_of_int(integers), fv_load(d));

	if (ds_tile_has_mins(kind))
		part = fv_subtract_product(part, fv_of_int(sum_mins(mins, corrections, n, kind)), fv_load(d_min));
	return fv_fma(part, fv_broadcast(x_scale), sum);
}

/* Bytes of the corrections of a row and group. */
static inline size_t correction_size(enum ds_tile_kind kind)
{
	return ds_tile_has_mins(kind) && ds_tile_span(kind) == SPAN ? sizeof(int16_t) : sizeof(int32_t);
}

/* Spans of 256: sums of groups times their scales are integers still, and one product of floats a block remains. The sums
 * over blocks wait in memory, that the registers suffice for those within. */
static ALWAYS_INLINE void product_blocks(const struct ds_tile_product *op, unsigned n, enum ds_tile_kind kind)
{
	const unsigned group = ds_tile_group(kind);
	const size_t step = n * correction_size(kind);
	const int8_t *x = op->codes.bytes + op->col * n;
	const float *x_scale = op->codes.scales + op->col / SPAN * n;
	const char *corrections = (const char *)op->codes.corrections + op->col / group * step;
	fvec sum[TILE_VECTORS][TILE_WIDTH];

	clear(sum, n);
	for (size_t b = 0; b < op->cols / SPAN; b++) {
		ivec block[TILE_VECTORS][TILE_WIDTH];

		KEEP_IN_MEMORY(sum);
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			UNROLL
			for (unsigned i = 0; i < n; i++)
				block[v][i] = iv_set32(0);
		}
		for (size_t g = 0; g < SPAN / group; g++) {
			ivec acc[TILE_VECTORS][TILE_WIDTH];

			sum_group(op, b * SPAN + g * group, x + g * group * n, corrections + g * step, acc, n, kind);
			UNROLL
			for (unsigned v = 0; v < TILE_VECTORS; v++) {
				const struct ds_tile *tile = &op->tile[v / VECTORS];
				ivec scale = iv_load(&tile->k_scales[b * SPAN / group + g][v % VECTORS * LANES]);

				UNROLL
				for (unsigned i = 0; i < n; i++)
					block[v][i] = iv_add(block[v][i], iv_mul(acc[v][i], scale));
			}
		}
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			const struct ds_tile *tile = &op->tile[v / VECTORS];
			unsigned r = v % VECTORS * LANES;

			UNROLL
			for (unsigned i = 0; i < n; i++)
				sum[v][i] = add_block(sum[v][i], block[v][i], &tile->d[b][r], &tile->d_min[b][r],
						      &tile->k_mins[b * SPAN / group / 2][r], x_scale + i,
						      (const int32_t *)corrections + i, n, kind);
		}
		x += SPAN * n;
		x_scale += n;
		corrections += SPAN / group * step;
	}
	store_tile(op, sum, n);
}

/* One scale for 256 elements: nothing but dot products within a span. */
static ALWAYS_INLINE void product_spans(const struct ds_tile_product *op, unsigned n)
{
	const int8_t *x = op->codes.bytes + op->col * n;
	const float *x_scale = op->codes.scales + op->col / SPAN * n;
	const int32_t *corrections = (const int32_t *)op->codes.corrections + op->col / SPAN * n;
	fvec sum[TILE_VECTORS][TILE_WIDTH];

	clear(sum, n);
	for (size_t b = 0; b < op->cols / SPAN; b++) {
		ivec acc[TILE_VECTORS][TILE_WIDTH];

		sum_group(op, b * SPAN, x, corrections, acc, n, DS_TILE_FLAT);
		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			fvec scale = fv_load(&op->tile[v / VECTORS].d[b][v % VECTORS * LANES]);

			UNROLL
			for (unsigned i = 0; i < n; i++)
				sum[v][i] = fv_fma(fv_mul(fv_of_int(acc[v][i]), scale), fv_broadcast(x_scale + i), sum[v][i]);
		}
		x += SPAN * n;
		x_scale += n;
		corrections += n;
	}
	store_tile(op, sum, n);
}

#define PRODUCT_CASE(n, kind)                        \
	case n:                                      \
		if (kind == DS_TILE_FLAT)            \
			product_spans(op, n);        \
		else if (ds_tile_span(kind) == 32)   \
			product_tile(op, n, kind);   \
		else                                 \
			product_blocks(op, n, kind); \
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
DEFINE_PRODUCT(min, DS_TILE_MIN)
DEFINE_PRODUCT(k_signed, DS_TILE_K_SIGNED)
DEFINE_PRODUCT(k_offset_16, DS_TILE_K_OFFSET_16)
DEFINE_PRODUCT(k_min, DS_TILE_K_MIN)
DEFINE_PRODUCT(k_min_16, DS_TILE_K_MIN_16)
DEFINE_PRODUCT(flat, DS_TILE_FLAT)

#include "tiles-few.h"

#define SET_TYPE(name, dtype)                          \
	tiles->unpack[dtype] = unpack_panel_##name;    \
	tiles->few_product[dtype] = few_product_##name; \
	tiles->few_width[dtype] = (uint8_t)few_width(shape_of(dtype), ds_tile_type(dtype).kind);

static void set_tiles(struct ds_tiles *tiles)
{
	*tiles = (struct ds_tiles){
		.panels = TILE_PANELS,
		.width = TILE_WIDTH,
		.quantize = quantize,
		.flatten = flatten,
		.product = {
			[DS_TILE_SIGNED] = product_signed,
			[DS_TILE_OFFSET] = product_offset,
			[DS_TILE_MIN] = product_min,
			[DS_TILE_K_SIGNED] = product_k_signed,
			[DS_TILE_K_OFFSET_16] = product_k_offset_16,
			[DS_TILE_K_MIN] = product_k_min,
			[DS_TILE_K_MIN_16] = product_k_min_16,
			[DS_TILE_FLAT] = product_flat,
		},
	};
	DS_TILE_TYPES(SET_TYPE)
}

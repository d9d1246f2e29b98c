/* tiles-simd.h - the int8 products in terms of a vector of LANES rows.
 *
 * Included once by the file of each instruction set, which defines before it: LANES (a divisor of 16); the types ivec and
 * fvec, LANES 32-bit words and floats; TILE_PANELS and TILE_WIDTH, which its registers hold, and PRODUCT_CASES, every width
 * up to that; SIGNED_OFFSET; and the small functions iv_*() and fv_*() used here and in tiles-unpack.h. iv_dot() adds to every word the products of four unsigned
 * bytes below 64 with four signed ones; iv_dot_signed() those of bytes that iv_of_signed() made. */
#include "kernels-inline.h"
#include "tiles.h"

#include <deepseekd/quants.h>

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

/* A group of a block, in floats: what a byte is multiplied with, and what is added. */
struct line {
	fvec slope, start;
};

static ALWAYS_INLINE struct line line_of(const struct ds_tile *tile, size_t block, unsigned g, unsigned r,
					 struct ds_tile_type type)
{
	const size_t group = block * SPAN / ds_tile_group(type.kind) + g;
	fvec slope = fv_mul(fv_load(&tile->d[block][r]), fv_of_int(iv_load(&tile->k_scales[group][r])));
	ivec min;

	if (!ds_tile_has_mins(type.kind))
		return (struct line){slope, fv_mul(slope, fv_set((float)-type.offset))};
	min = iv_load(&tile->k_mins[group / 2][r]);
	min = group % 2 ? iv_shr(min, 16) : iv_and(min, iv_set32(0xffff));
	return (struct line){slope, fv_mul(fv_load(&tile->d_min[block][r]), fv_sub(fv_set(0), fv_of_int(min)))};
}

static ALWAYS_INLINE ivec to_halfwords(fvec v)
{
	ivec word = iv_and(iv_round(v), iv_set32(0xffff));

	return iv_or(word, iv_shl(word, 16));
}

/* @n times four bytes of a row become (byte * slope + start) / 256 in halfwords. */
static ALWAYS_INLINE void map_bytes(uint8_t *codes, unsigned n, ivec slope, ivec start)
{
	const ivec even = iv_set32(0x00ff00ff);

	UNROLL
	for (unsigned k = 0; k < n; k++) {
		ivec v = iv_load(codes + k * DS_PANEL_LINE);
		ivec a = iv_add_halfwords(iv_mul_halfwords(iv_and(v, even), slope), start);
		ivec b = iv_add_halfwords(iv_mul_halfwords(iv_and(iv_shr(v, 8), even), slope), start);

		iv_store(codes + k * DS_PANEL_LINE, iv_or(iv_and(iv_shr(a, 8), even), iv_and(b, iv_set32(0xff00ff00))));
	}
}

/* 0, or NaN where a scale of the block is not finite. */
static ALWAYS_INLINE fvec nothing_of(const struct ds_tile *tile, size_t block, unsigned r, enum ds_tile_kind kind)
{
	fvec d = fv_load(&tile->d[block][r]), d_min = ds_tile_has_mins(kind) ? fv_load(&tile->d_min[block][r]) : fv_set(0);

	return fv_add(fv_sub(d, d), fv_sub(d_min, d_min));
}

/* What a block of a vector's rows means, rounded to signed bytes of one scale: its largest value, as far as the bytes of a
 * type allow, is 127. Slopes and starts have 8 bits behind the point. */
static ALWAYS_INLINE void flatten_block(struct ds_tile *tile, size_t block, unsigned r, struct ds_tile_type type)
{
	const unsigned group = ds_tile_group(type.kind);
	fvec largest = fv_set(0x1p-100f), factor;

	for (unsigned g = 0; g < SPAN / group; g++) {
		struct line l = line_of(tile, block, g, r, type);

		largest = fv_max(largest, fv_max(fv_abs(l.start), fv_abs(fv_fma(l.slope, fv_set((float)type.flat), l.start))));
	}
	factor = fv_div(fv_set(127 * 256), largest);
	for (unsigned g = 0; g < SPAN / group; g++) {
		struct line l = line_of(tile, block, g, r, type);
		/* Half of a step, so that what is cut off rounds; and what the variant's signed bytes are greater by. */
		fvec start = fv_fma(l.start, factor, fv_set(128 + 256 * SIGNED_OFFSET));

		map_bytes(tile->codes[(block * SPAN + g * group) / 4][r], group / 4, to_halfwords(fv_mul(l.slope, factor)),
			  to_halfwords(start));
	}
	/* A scale that is infinite or no number makes what it scales none. */
	fv_store(&tile->d[block][r], fv_mul(fv_add(largest, nothing_of(tile, block, r, type.kind)), fv_set(1 / 127.0f)));
}

static void flatten(struct ds_tile *tile, size_t n, struct ds_tile_type type)
{
	for (size_t b = 0; b < n; b++)
		for (unsigned r = 0; r < DS_PANEL; r += LANES)
			if (type.kind == DS_TILE_K_MIN)
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_MIN, 0, type.flat});
			else if (type.kind == DS_TILE_K_MIN_16)
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_MIN_16, 0, type.flat});
			else
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_OFFSET_16, type.offset, type.flat});
}

/* The scale of @n activations, and *@factor, what makes bytes of them. The largest is found among the bits, where NaN is
 * larger than infinity and that than any number. */
static ALWAYS_INLINE float scale_of(const float *x, unsigned n, float *factor)
{
	ivec top = iv_set32(0);
	float largest;

	for (unsigned i = 0; i < n; i += LANES)
		top = iv_max(top, iv_and(iv_load(x + i), iv_set32(0x7fffffff)));
	largest = ds_float_of_bits(iv_largest(top));
	/* Below this the factor would be infinite. */
	*factor = largest >= 0x1p-100f ? 127 / largest : 0;
	if (!(largest <= 0x1.fffffep+127f))
		return ds_float_of_bits(0x7fc00000);
	return *factor > 0 ? largest / 127 : 0;
}

/* 32 activations to bytes, 4 of them every @stride bytes from @q on, and their sums by halves. */
static ALWAYS_INLINE void quantize_group(const float *x, float factor, int8_t *q, size_t stride, int32_t *sums)
{
	int8_t bytes[DS_TILE_GROUP];

	sums[0] = sums[1] = 0;
	UNROLL
	for (unsigned i = 0; i < DS_TILE_GROUP; i += LANES) {
		ivec v = iv_round(fv_mul(fv_load(x + i), fv_set(factor)));

		iv_store_bytes(bytes + i, v);
		sums[i / 16] += iv_sum(v);
	}
	UNROLL
	for (unsigned k = 0; k < DS_TILE_GROUP / 4; k++)
		memcpy(q + k * stride, bytes + k * 4, 4);
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
	else if (kind == DS_TILE_FLAT)
		((int32_t *)codes->corrections)[col / SPAN * n + i] =
			(col % SPAN ? ((int32_t *)codes->corrections)[col / SPAN * n + i] : 0) - offset * (sums[0] + sums[1]);
	else if (ds_tile_group(kind) == 16)
		for (unsigned h = 0; h < 2; h++)
			((int32_t *)codes->corrections)[(col / 16 + h) * n + i] = -offset * sums[h];
	else
		((int32_t *)codes->corrections)[col / 32 * n + i] = -offset * (sums[0] + sums[1]);
}

static void quantize(const struct ds_codes *codes, const float *const *x, size_t cols, struct ds_tile_type type)
{
	static const float zeros[DS_TILE_GROUP];
	const size_t n = codes->n, span = ds_tile_span(type.kind);
	const int offset = ds_tile_is_signed(type.kind) ? SIGNED_OFFSET : type.offset;

	for (size_t i = 0; i < n; i++)
		for (size_t begin = 0; begin < cols; begin += span) {
			float factor, scale = scale_of(x[i] + begin, (unsigned)span, &factor);

			codes->scales[begin / span * n + i] = scale;
			for (size_t col = begin; col < begin + span; col += DS_TILE_GROUP) {
				int32_t sums[2];

				/* What is no number has no byte: the scale tells of it. */
				quantize_group(scale == scale ? x[i] + col : zeros, factor,
					       codes->bytes + (col / 4 * n + i) * 4, n * 4, sums);
				correct(codes, col, i, sums, scale, type.kind, offset);
			}
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
		for (unsigned p = 0; p < TILE_PANELS && kind != DS_TILE_FLAT; p++) /* its many rows are no hurry */
			__builtin_prefetch(op->next + p * op->panel_size + (col / 4 + s) * op->next_step, 0, 3);
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
	UNROLL
	for (unsigned i = 0; i < n; i++) {
		ivec first = ds_tile_has_mins(kind) ? iv_set32(0) : iv_broadcast((const int32_t *)corrections + i);

		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++)
			acc[v][i] = first;
	}
	add_products(op, col, x, acc, n, ds_tile_group(kind) / 4, kind);
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

		UNROLL
		for (unsigned v = 0; v < TILE_VECTORS; v++) {
			UNROLL
			for (unsigned i = 0; i < n; i++)
				acc[v][i] = iv_broadcast(corrections + i);
		}
		for (size_t col = 0; col < SPAN; col += DS_TILE_GROUP)
			add_products(op, b * SPAN + col, x + col * n, acc, n, DS_TILE_GROUP / 4, DS_TILE_FLAT);
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

/* The scales of one block of one vector of rows. */
struct block_scales {
	float scales[DS_PANEL], mins[DS_PANEL];
	int32_t k_scales[SPAN / DS_TILE_MIN_GROUP * DS_PANEL];
	uint32_t k_mins[SPAN / DS_TILE_MIN_GROUP / 2 * DS_PANEL];
	float d[DS_PANEL], d_min[DS_PANEL];
};

/* Of the sums of a part, which one output @o belongs to, and which group of the block sum @g is of. */
static ALWAYS_INLINE unsigned sum_of(struct shape s, unsigned o, enum ds_tile_kind kind)
{
	return s.stride * 4 < ds_tile_group(kind) ? 0 : o;
}

static ALWAYS_INLINE unsigned group_of(struct shape s, unsigned part, unsigned g, enum ds_tile_kind kind)
{
	return (part_begin(s, part) + g * s.stride) * 4 / ds_tile_group(kind);
}

/* @total and the sums of @n_sums groups of row @i times their scales, which are @stride groups apart. */
static ALWAYS_INLINE ivec add_groups(ivec total, ivec (*sums)[TILE_WIDTH], unsigned i, unsigned n_sums, const int32_t *scales,
				     unsigned stride)
{
	UNROLL
	for (unsigned g = 0; g < n_sums; g++)
		total = iv_add(total, iv_mul(sums[g][i], iv_load(scales + g * stride * DS_PANEL)));
	return total;
}

/* Few rows of activations are multiplied with the words of the weights as they come from memory, in order: nothing but
 * the sums is kept. */
#define DEFINE_FEW(name, dtype)                                                                                       \
	/* The sums of a part's groups in integers: @x is the first activation of its first step. */                  \
	static ALWAYS_INLINE const uint8_t *sum_part_##name(const uint8_t *block, const uint8_t *step,                \
							    const int8_t *x, unsigned n, ivec (*sums)[TILE_WIDTH])           \
	{                                                                                                             \
		const struct shape s = shape_of(dtype);                                                               \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
                                                                                                                      \
		for (unsigned begin = 0; begin < s.n_steps; begin += s.n_at_once) {                                   \
			ask_ahead(step, s.n_at_once * s.n_words);                                                     \
			UNROLL                                                                                        \
			for (unsigned u = 0; u < s.n_at_once; u++) {                                                  \
				ivec out[MAX_OUTPUTS];                                                                \
                                                                                                                      \
				step_##name(block, step + u * s.n_words * 64, begin + u, out);                        \
				UNROLL                                                                                \
				for (unsigned o = 0; o < s.n_outputs; o++) {                                          \
					UNROLL                                                                        \
					for (unsigned i = 0; i < n; i++) {                                            \
						ivec *sum = &sums[sum_of(s, o, kind)][i];                             \
						ivec codes = iv_broadcast(x + ((o * s.stride + u) * n + i) * 4);      \
                                                                                                                      \
						*sum = ds_tile_is_signed(kind) ? iv_dot_signed(*sum, out[o], codes)   \
									       : iv_dot(*sum, out[o], codes);         \
					}                                                                             \
				}                                                                                     \
			}                                                                                             \
			step += s.n_at_once * s.n_words * 64;                                                         \
			x += s.n_at_once * n * 4;                                                                     \
		}                                                                                                     \
		return step;                                                                                          \
	}                                                                                                             \
                                                                                                                      \
	/* What a block adds to @sum; @x, @x_scale and @corrections are of the block. */                              \
	static ALWAYS_INLINE void sum_block_##name(const uint8_t *heads, const uint8_t *words, const int8_t *x,       \
						   const float *x_scale, const char *corrections, unsigned n, fvec *sum) \
	{                                                                                                             \
		const struct shape s = shape_of(dtype);                                                               \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
		const unsigned n_sums = sum_of(s, s.n_outputs - 1, kind) + 1;                                         \
		const uint8_t *step = words + s.first * 64;                                                           \
		struct block_scales to;                                                                               \
		ivec total[TILE_WIDTH];                                                                                      \
                                                                                                                      \
		ask_ahead(words, s.first);                                                                            \
		scales_##name(heads, words, (struct scales){to.scales, to.mins, to.k_scales, to.k_mins, to.d, to.d_min}); \
		UNROLL                                                                                                \
		for (unsigned i = 0; i < n; i++)                                                                      \
			total[i] = iv_set32(0);                                                                       \
		for (unsigned part = 0; part < s.n_parts; part++) {                                                   \
			ivec sums[MAX_OUTPUTS][TILE_WIDTH];                                                                  \
                                                                                                                      \
			UNROLL                                                                                        \
			for (unsigned g = 0; g < n_sums; g++) {                                                       \
				const char *first = corrections + group_of(s, part, g, kind) * n * 4;                 \
                                                                                                                      \
				UNROLL                                                                                \
				for (unsigned i = 0; i < n; i++)                                                      \
					sums[g][i] = ds_tile_has_mins(kind) ? iv_set32(0) : iv_broadcast(first + i * 4); \
			}                                                                                             \
			step = sum_part_##name(words, step, x + part_begin(s, part) * n * 4, n, sums);                \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++) {                                                            \
				if (ds_tile_span(kind) < SPAN)                                                        \
					sum[i] = add_group(sum[i], sums[0][i], to.scales, to.mins, x_scale + i,       \
							   corrections + i * 4, kind);                                \
				else                                                                                  \
					total[i] = add_groups(total[i], sums, i, n_sums, to.k_scales +                \
							      group_of(s, part, 0, kind) * DS_PANEL,                  \
							      group_of(s, 0, 1, kind));                               \
			}                                                                                             \
		}                                                                                                     \
		if (ds_tile_span(kind) < SPAN)                                                                        \
			return;                                                                                       \
		UNROLL                                                                                                \
		for (unsigned i = 0; i < n; i++)                                                                      \
			sum[i] = add_block(sum[i], total[i], to.d, to.d_min, to.k_mins, x_scale + i,                  \
					   corrections + i * 4, n, kind);                                             \
	}                                                                                                             \
                                                                                                                      \
	static ALWAYS_INLINE void few_##name(const struct ds_few_product *op, const uint8_t *panel, unsigned r,       \
					     unsigned n, fvec *sum)                                                   \
	{                                                                                                             \
		const struct ds_panel_format f = ds_panel_format(dtype);                                              \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
		const uint8_t *heads = panel + r * f.head_size;                                                       \
		const uint8_t *words = panel + ds_panel_heads_size(&f, op->cols) + r * 4;                             \
		const char *corrections = op->codes.corrections;                                                      \
		const int8_t *x = op->codes.bytes;                                                                    \
		const float *x_scale = op->codes.scales;                                                              \
                                                                                                                      \
		for (size_t b = 0; b < op->cols / f.block; b++) {                                                     \
			sum_block_##name(heads, words, x, x_scale, corrections, n, sum);                              \
			heads += DS_PANEL * f.head_size;                                                              \
			words += (size_t)f.n_units * 64;                                                              \
			x += f.block * n;                                                                             \
			x_scale += f.block / ds_tile_span(kind) * n;                                                  \
			corrections += f.block / ds_tile_group(kind) * n * correction_size(kind);                     \
		}                                                                                                     \
	}                                                                                                             \
                                                                                                                      \
	static ALWAYS_INLINE void few_rows_##name(const struct ds_few_product *op, unsigned n)                        \
	{                                                                                                             \
		const size_t panel_size = ds_panel_size(dtype, op->cols);                                             \
                                                                                                                      \
		for (size_t row = 0; row < op->n_rows; row += LANES) {                                                \
			fvec sum[TILE_WIDTH];                                                                                \
                                                                                                                      \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++)                                                              \
				sum[i] = fv_set(0);                                                                   \
			few_##name(op, (const uint8_t *)op->panels + row / DS_PANEL * panel_size, row % DS_PANEL, n, sum); \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++)                                                              \
				store_rows(op->y[i] + row, sum[i], op->n_rows - row, op->add);                        \
		}                                                                                                     \
	}                                                                                                             \
                                                                                                                      \
	static void few_product_##name(const struct ds_few_product *op)                                               \
	{                                                                                                             \
		switch (op->codes.n) {                                                                                \
			PRODUCT_CASES(FEW_CASE, name)                                                                 \
		}                                                                                                     \
	}

#define FEW_CASE(n, name)               \
	case n:                         \
		few_rows_##name(op, n); \
		break;

DS_TILE_TYPES(DEFINE_FEW)

#define SET_TYPE(name, dtype)                          \
	tiles->unpack[dtype] = unpack_panel_##name;    \
	tiles->few_product[dtype] = few_product_##name;

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

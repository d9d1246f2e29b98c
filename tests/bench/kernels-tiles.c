/* kernels-tiles.c - tests of the products by tiles: what a tile holds, against the definition of the blocks; the codes of
 * activations; and products of both in two ways, as those of floats. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <deepseekd/quants.h>

#include "kernels.h"
#include "plugins/backend-cpu/panels.h"
#include "tests/unit/random-blocks.h"

enum {
	MAX_COLS = 768,
	MAX_ROWS = DS_TILE_PANELS * DS_PANEL,
	/* Whose memory ends where: of row i of activations and results, of the panels, codes, what they are compared with. */
	X = 0,
	Y = X + DS_TILE_WIDTH,
	PANELS = Y + DS_TILE_WIDTH,
	CODES = PANELS + DS_TILE_PANELS,
	PLAIN_CODES,
	BLOCKS,
};

/* Of FP8 there are no tiles. */
enum { N_TYPES = DS_ARRAY_SIZE(block_types) - 1 };

/* What rows of blocks stand for, and the panel of those. */
struct weights {
	enum ds_dtype dtype;
	float wide[MAX_ROWS][MAX_COLS];
	const void *panels[DS_TILE_PANELS];
};

/* Rows beyond the last are zeros in panels. */
static void make_weights(struct weights *w, size_t type, size_t rows, size_t cols, enum kind kind)
{
	enum ds_dtype dtype = block_types[type].dtype;
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	size_t pitch = ds_row_size(dtype, cols);
	uint8_t *blocks = ending(BLOCKS, rows * pitch);
	uint64_t seed = draw();

	w->dtype = dtype;
	for (size_t i = 0; i < rows * pitch; i += info->size) {
		fill_block(blocks + i, &block_types[type], kind == KIND_WHOLE, &seed);
		if (kind == KIND_WILD)
			make_wild_block(blocks + i, &block_types[type]);
	}
	memset(w->wide, 0, sizeof(w->wide));
	for (size_t r = 0; r < rows; r++)
		ds_dequantize_row(w->wide[r], blocks + r * pitch, dtype, cols);
	for (size_t p = 0; p * DS_PANEL < rows; p++) {
		size_t n = rows - p * DS_PANEL < DS_PANEL ? rows - p * DS_PANEL : DS_PANEL;
		void *panel = ending(PANELS + (unsigned)p, ds_panel_size(dtype, cols));

		ds_panel_pack(dtype, cols, n, blocks + p * DS_PANEL * pitch, pitch, panel);
		w->panels[p] = panel;
	}
}

/* What the variant adds to signed bytes: found where the portable one has none. */
static int signed_offset(const struct ds_tiles *tiles)
{
	static struct ds_tile tile;
	static struct weights w;
	size_t q8_0 = DS_DTYPE_Q8_0 - DS_DTYPE_Q4_0;
	uint8_t plain;

	make_weights(&w, q8_0, 1, 32, KIND_REAL);
	portable.tiles.unpack[DS_DTYPE_Q8_0](&tile, w.panels[0], 32, 0, 1);
	plain = tile.codes[0][0][0];
	tiles->unpack[DS_DTYPE_Q8_0](&tile, w.panels[0], 32, 0, 1);
	return (uint8_t)(tile.codes[0][0][0] - plain);
}

/* The minimum that belongs to element @e of row @r of a tile, 0 where there are none. */
static double tile_min(const struct ds_tile *tile, enum ds_tile_kind kind, size_t r, size_t e)
{
	size_t g = e / ds_tile_group(kind);

	if (!ds_tile_has_mins(kind))
		return 0;
	if (ds_tile_span(kind) == 32)
		return tile->mins[g][r];
	return (double)tile->d_min[e / 256][r] * (int16_t)(tile->k_mins[g / 2][r] >> (g % 2 * 16));
}

static double tile_scale(const struct ds_tile *tile, enum ds_tile_kind kind, size_t r, size_t e)
{
	size_t g = e / ds_tile_group(kind);

	return ds_tile_span(kind) == 32 ? (double)tile->scales[g][r] : (double)tile->d[e / 256][r] * tile->k_scales[g][r];
}

/* Element @e of row @r of a tile. */
static float tile_value(const struct ds_tile *tile, enum ds_dtype dtype, int offset, size_t r, size_t e)
{
	struct ds_tile_type type = ds_tile_type(dtype);
	int code = tile->codes[e / 4][r][e % 4];

	if (!ds_tile_is_signed(type.kind))
		code -= type.offset;
	else
		code = offset ? code - offset : (int8_t)code;
	return (float)(tile_scale(tile, type.kind, r, e) * code - tile_min(tile, type.kind, r, e));
}

static void check_unpacked(const struct ds_kernels *k, size_t type, size_t block, size_t n, enum kind kind)
{
	static struct ds_tile tile;
	static struct weights w;
	enum ds_dtype dtype = block_types[type].dtype;
	size_t size = ds_dtype_info(dtype)->block, cols = 3 * size;
	int offset = signed_offset(&k->tiles);

	assert_true(offset == 0 || offset == 128);
	make_weights(&w, type, n % 2 ? DS_PANEL : 5, cols, kind);
	k->tiles.unpack[dtype](&tile, w.panels[0], cols, block, n);
	for (size_t r = 0; r < DS_PANEL; r++)
		for (size_t e = 0; e < n * size; e++) {
			float want = w.wide[r][block * size + e], got = tile_value(&tile, dtype, offset, r, e);

			if (want != got)
				fail_msg("%s, row %zu, block %zu of %zu, element %zu: %.9g instead of %.9g",
					 ds_dtype_info(dtype)->name, r, block, n, e, got, want);
		}
}

static void tiles_hold_what_blocks_mean(const struct ds_kernels *k)
{
	for (size_t t = 0; t < N_TYPES; t++) {
		assert_non_null(k->tiles.unpack[block_types[t].dtype]);
		for (size_t block = 0; block < 3; block++)
			for (size_t n = 1; block + n <= 3 && n <= DS_TILE_COLS / DS_TILE_SPAN; n++)
				for (enum kind kind = 0; kind < KIND_BROKEN; kind++)
					check_unpacked(k, t, block, n, kind);
	}
}

/* Whole numbers that are their own codes, since the largest of each group is 127; and some groups of nothing. */
static void make_whole_group(float *x, size_t g)
{
	for (size_t e = 0; e < DS_TILE_GROUP; e++)
		x[e] = draw() % 5 && g % 3 < 2 ? (float)(draw() % 3) - 1 : 0;
	if (g % 3 < 2)
		x[draw() % DS_TILE_GROUP] = draw() % 2 ? 127 : -127;
}

/* Rows of activations; among the groups of the wild ones are such of tiny numbers alone. */
static void make_rows(const float **x, unsigned n, size_t cols, enum kind kind)
{
	for (unsigned i = 0; i < n; i++) {
		float *row = ending(X + i, cols * sizeof(*row));

		fill(row, cols, kind, DS_DTYPE_F32);
		for (size_t g = 0; g < cols / DS_TILE_GROUP; g++)
			if (kind == KIND_WHOLE)
				make_whole_group(row + g * DS_TILE_GROUP, g);
			else if (kind == KIND_WILD && draw() % 3 == 0)
				portable.scale(row + g * DS_TILE_GROUP, ldexpf(1, -120 - (int)(draw() % 60)), DS_TILE_GROUP);
		x[i] = row;
	}
}

static struct ds_codes codes_in(unsigned end, size_t cols, unsigned n)
{
	return ds_codes_at(ending(end, n * ds_codes_size(cols) + DS_CODES_SPARE), cols, n);
}

static int code_of(const struct ds_codes *codes, unsigned i, size_t c)
{
	return codes->bytes[(c / 4 * codes->n + i) * 4 + c % 4];
}

static float scale_of(const struct ds_codes *codes, unsigned i, size_t c, size_t span)
{
	return codes->scales[c / span * codes->n + i];
}

/* What is multiplied for activation @c of row @i. */
static double coded(const struct ds_codes *codes, unsigned i, size_t c, size_t span)
{
	return (double)scale_of(codes, i, c, span) * code_of(codes, i, c);
}

/* The span that begins at @begin: no number is changed by more than half of the scale, and the largest is 127 of them. */
static void check_span(const struct ds_codes *codes, const float *x, unsigned i, size_t begin, size_t span)
{
	float scale = scale_of(codes, i, begin, span), largest = 0;
	int most = 0;

	for (size_t c = begin; c < begin + span; c++) {
		if (!isfinite(x[c])) {
			assert_true(isnan(scale));
			return;
		}
		largest = fmaxf(largest, fabsf(x[c]));
	}
	assert_true(largest < 0x1p-100f ? scale == 0 : scale == largest / 127);
	for (size_t c = begin; c < begin + span; c++) {
		int code = code_of(codes, i, c);

		most = abs(code) > most ? abs(code) : most;
		assert_true(fabs(coded(codes, i, c, span) - x[c]) <= 0.5001 * scale + 0x1p-100);
	}
	assert_true(most == (scale > 0 ? 127 : 0));
}

static void check_quantize(const struct ds_kernels *k, struct ds_tile_type type, size_t cols, unsigned n, enum kind kind)
{
	struct ds_codes codes = codes_in(CODES, cols, n), plain = codes_in(PLAIN_CODES, cols, n);
	const float *x[DS_TILE_WIDTH];
	size_t span = ds_tile_span(type.kind), a_sum = ds_tile_has_mins(type.kind) && span > 32 ? 2 : 4;

	make_rows(x, n, cols, kind);
	k->tiles.quantize(&codes, x, cols, type);
	portable.tiles.quantize(&plain, x, cols, type);
	for (unsigned i = 0; i < n; i++)
		for (size_t c = 0; c < cols; c += span) {
			check_span(&codes, x[i], i, c, span);
			assert_true(is_same(scale_of(&codes, i, c, span), scale_of(&plain, i, c, span)));
		}
	/* Bytes that are multiplied by no number may be any. */
	if (kind == KIND_BROKEN)
		return;
	assert_memory_equal(codes.bytes, plain.bytes, n * cols);
	/* The corrections of signed bytes are the variant's own: the products show them. */
	if (!ds_tile_is_signed(type.kind))
		assert_memory_equal(codes.corrections, plain.corrections, n * cols / ds_tile_group(type.kind) * a_sum);
}

static void activations_are_rounded_to_bytes(const struct ds_kernels *k)
{
	for (size_t t = 0; t < N_TYPES; t++)
		for (unsigned n = 1; n <= DS_TILE_WIDTH; n++)
			for (size_t spans = 1; spans <= 3; spans++)
				for (enum kind kind = 0; kind < N_KINDS; kind++) {
					struct ds_tile_type type = ds_tile_type(block_types[t].dtype);

					check_quantize(k, type, spans * ds_tile_span(type.kind), n, kind);
				}
}

static float flat_value(const struct ds_tile *tile, int offset, size_t r, size_t e)
{
	int code = tile->codes[e / 4][r][e % 4];

	return tile->d[e / 256][r] * (float)(offset ? code - offset : (int8_t)code);
}

/* The largest value that bytes of the type could have in the block of element @e. */
static double largest_of(const struct ds_tile *tile, struct ds_tile_type type, size_t r, size_t e)
{
	double largest = 0;

	for (size_t c = e / 256 * 256; c < (e / 256 + 1) * 256; c += ds_tile_group(type.kind)) {
		double scale = tile_scale(tile, type.kind, r, c), min = tile_min(tile, type.kind, r, c);

		largest = fmax(largest, fabs(scale * -type.offset - min));
		largest = fmax(largest, fabs(scale * (type.flat - type.offset) - min));
	}
	return largest;
}

/* Rounded once more, to 127 steps of the largest that could be; a little is lost of slopes and starts, too. */
static void check_flat(const struct ds_kernels *k, size_t type, unsigned n, enum kind kind)
{
	static struct ds_tile before, tile;
	static struct weights w;
	enum ds_dtype dtype = block_types[type].dtype;
	int offset = signed_offset(&k->tiles);

	make_weights(&w, type, DS_PANEL, n * 256, kind);
	k->tiles.unpack[dtype](&before, w.panels[0], n * 256, 0, n);
	tile = before;
	k->tiles.flatten(&tile, n, ds_tile_type(dtype));
	for (size_t r = 0; r < DS_PANEL; r++)
		for (size_t e = 0; e < n * 256; e++) {
			double largest = largest_of(&before, ds_tile_type(dtype), r, e), step = tile.d[e / 256][r];
			float want = w.wide[r][e], got = flat_value(&tile, offset, r, e);

			assert_true(step <= largest / 127 * 1.0001 + 0x1p-100);
			if (!(fabs((double)want - got) <= 0.54 * step + 0x1p-100))
				fail_msg("%s, row %zu, element %zu: %.9g instead of %.9g, steps of %.9g",
					 ds_dtype_info(dtype)->name, r, e, got, want, step);
		}
}

static void flat_tiles_are_near_what_blocks_mean(const struct ds_kernels *k)
{
	unsigned n_types = 0;

	for (size_t t = 0; t < N_TYPES; t++) {
		if (!ds_tile_type(block_types[t].dtype).flat)
			continue;
		n_types++;
		for (unsigned round = 0; round < 20; round++)
			for (unsigned n = 1; n <= DS_TILE_COLS / 256; n++)
				for (enum kind kind = 0; kind < KIND_BROKEN; kind++)
					check_flat(k, t, n, kind);
	}
	assert_int_equal(n_types, 3);
}

/* What a product adds to, and a copy of it. */
static void make_results(struct ds_tile_product *op, float *before, enum kind kind)
{
	for (unsigned i = 0; i < op->codes.n; i++) {
		op->y[i] = ending(Y + i, op->n_rows * sizeof(float));
		fill(op->y[i], op->n_rows, kind, DS_DTYPE_F32);
		memcpy(before + i * MAX_ROWS, op->y[i], op->n_rows * sizeof(float));
	}
}

/* What came of a tile of @tile_kind that holds the columns of @w from the first of the product on. */
static void check_sums(const struct ds_tile_product *op, const struct weights *w, enum ds_tile_kind tile_kind,
		       const float *before, enum kind kind)
{
	for (unsigned i = 0; i < op->codes.n; i++)
		for (size_t r = 0; r < op->n_rows; r++) {
			double sum = op->add ? before[i * MAX_ROWS + r] : 0, size = fabs(sum);
			const struct ds_tile *tile = &op->tile[r / DS_PANEL];

			for (size_t e = 0; e < op->cols; e++) {
				double x = coded(&op->codes, i, op->col + e, ds_tile_span(tile_kind));
				double value = w->wide[r][op->col + e], min = tile_min(tile, tile_kind, r % DS_PANEL, e);

				sum += value * x;
				/* Bytes and minimums are summed apart. */
				size += fabs(value * x) + 2 * fabs(min * x);
			}
			if (!is_sum(op->y[i][r], sum, size, op->cols + 1, kind))
				fail_msg("%s, %zu rows, columns %zu to %zu, %u at once, kind %d: row %zu, %.9g instead of %.9g",
					 ds_dtype_info(w->dtype)->name, op->n_rows, op->col, op->col + op->cols,
					 op->codes.n, (int)kind, r, op->y[i][r], sum);
		}
}

/* The same without a tile. */
static void check_few(const struct ds_kernels *k, const struct ds_tile_product *op, const struct weights *w,
		      const float *before, enum kind kind)
{
	struct ds_few_product few = {
		.panels = w->panels[0],
		.cols = op->cols,
		.codes = op->codes,
		.n_rows = op->n_rows,
		.add = op->add,
	};

	for (unsigned i = 0; i < op->codes.n; i++) {
		few.y[i] = op->y[i];
		memcpy(few.y[i], before + i * MAX_ROWS, op->n_rows * sizeof(float));
	}
	k->tiles.few_product[w->dtype](&few);
	check_sums(op, w, ds_tile_type(w->dtype).kind, before, kind);
}

/* The columns from block @first on, of @n_blocks. */
static void check_product(const struct ds_kernels *k, size_t type, size_t rows, size_t n_blocks, size_t first, unsigned n,
			  enum kind kind)
{
	static struct ds_tile tile[DS_TILE_PANELS];
	static struct weights w;
	static float before[DS_TILE_WIDTH * MAX_ROWS];
	enum ds_dtype dtype = block_types[type].dtype;
	bool of_tile = n <= k->tiles.width, few = first == 0 && rows <= DS_PANEL && n <= k->tiles.few_width[dtype];
	size_t block = ds_dtype_info(dtype)->block, all = n_blocks * block;
	const float *x[DS_TILE_WIDTH];
	struct ds_tile_product op = {
		.tile = tile,
		.codes = codes_in(CODES, all, n),
		.col = first * block,
		.cols = all - first * block,
		.n_rows = rows,
		.add = rows % 2,
	};

	if (!of_tile && !few)
		return;
	make_weights(&w, type, rows, all, kind);
	make_rows(x, n, all, kind);
	k->tiles.quantize(&op.codes, x, all, ds_tile_type(dtype));
	for (size_t p = 0; p * DS_PANEL < rows; p++)
		k->tiles.unpack[dtype](&tile[p], w.panels[p], all, first, n_blocks - first);
	make_results(&op, before, kind);
	if (of_tile) {
		k->tiles.product[ds_tile_type(dtype).kind](&op);
		check_sums(&op, &w, ds_tile_type(dtype).kind, before, kind);
	}
	if (few)
		check_few(k, &op, &w, before, kind);
}

/* The values of the flat tile are the weights; their bytes are summed with what the variant adds to them. */
static void check_flat_product(const struct ds_kernels *k, size_t rows, unsigned n, enum kind kind)
{
	static struct ds_tile tile[DS_TILE_PANELS];
	static struct weights w;
	static float before[DS_TILE_WIDTH * MAX_ROWS];
	const struct ds_tile_type flat = {DS_TILE_FLAT, 0, 0};
	int offset = signed_offset(&k->tiles);
	size_t type = DS_DTYPE_Q4_K - DS_DTYPE_Q4_0, all = 512;
	const float *x[DS_TILE_WIDTH];
	struct ds_tile_product op = {
		.tile = tile,
		.codes = codes_in(CODES, all, n),
		.col = n % 2 * 256,
		.cols = all - n % 2 * 256,
		.n_rows = rows,
		.add = rows % 2,
	};

	assert_int_equal(block_types[type].dtype, DS_DTYPE_Q4_K);
	make_weights(&w, type, rows, all, kind);
	make_rows(x, n, all, kind);
	k->tiles.quantize(&op.codes, x, all, flat);
	for (size_t p = 0; p * DS_PANEL < rows; p++) {
		k->tiles.unpack[w.dtype](&tile[p], w.panels[p], all, op.col / 256, op.cols / 256);
		k->tiles.flatten(&tile[p], op.cols / 256, ds_tile_type(w.dtype));
	}
	make_results(&op, before, kind);
	k->tiles.product[DS_TILE_FLAT](&op);
	for (size_t r = 0; r < rows; r++)
		for (size_t e = 0; e < op.cols; e++)
			w.wide[r][op.col + e] = flat_value(&tile[r / DS_PANEL], offset, r % DS_PANEL, e);
	/* What is rounded to a scale of its own is no whole number. */
	check_sums(&op, &w, DS_TILE_FLAT, before, kind == KIND_WHOLE ? KIND_REAL : kind);
}

static void products_of_flat_tiles_are_dot_products(const struct ds_kernels *k)
{
	static const size_t row_counts[] = {1, 8, 15, 16, 17, 32};

	for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts) && row_counts[r] <= k->tiles.panels * DS_PANEL; r++)
		for (unsigned n = 1; n <= k->tiles.width; n++)
			for (enum kind kind = 0; kind < N_KINDS; kind++)
				check_flat_product(k, row_counts[r], n, kind);
}

static void products_of_tiles_are_dot_products(const struct ds_kernels *k)
{
	static const size_t row_counts[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 23, 31, 32};

	for (size_t t = 0; t < N_TYPES; t++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts) && row_counts[r] <= k->tiles.panels * DS_PANEL; r++)
			for (unsigned n = 1; n <= k->tiles.width || n <= k->tiles.few_width[block_types[t].dtype]; n++)
				for (size_t first = 0; first < 3; first++)
					for (enum kind kind = 0; kind < N_KINDS; kind++)
						check_product(k, t, row_counts[r], first + 1 + first % 2, first, n, kind);
}

/* BF16 on both sides, from column @col of @all on. Whole numbers are small enough for 8 bits; no wild ones, for the units
 * that do this take subnormal numbers as zero. */
static void check_bf16(const struct ds_kernels *k, size_t rows, size_t all, size_t col, unsigned n, enum kind kind)
{
	static float w[MAX_ROWS * MAX_COLS], before[DS_TILE_WIDTH][MAX_ROWS];
	static uint16_t narrow[MAX_ROWS * MAX_COLS], x_narrow[MAX_COLS];
	const float *x[DS_TILE_WIDTH];
	struct ds_tile_product op = {
		.codes = codes_in(CODES, all, n),
		.col = col,
		.cols = all - col,
		.n_rows = rows,
		.add = rows % 2,
	};

	fill(w, rows * all, kind, DS_DTYPE_F32);
	portable.narrow[DS_DTYPE_BF16](narrow, w, rows * all);
	portable.widen[DS_DTYPE_BF16](w, narrow, rows * all);
	for (unsigned p = 0; p < k->tiles.panels; p++) {
		size_t left = rows > p * DS_PANEL ? rows - p * DS_PANEL : 1;
		char *panel = ending(PANELS + p, ds_panel_size(DS_DTYPE_BF16, all));

		ds_panel_pack(DS_DTYPE_BF16, all, left < DS_PANEL ? left : DS_PANEL, narrow + p * DS_PANEL * all, all * 2,
			      panel);
		op.panels[p] = panel + col * DS_PANEL * 2;
	}
	for (unsigned i = 0; i < n; i++) {
		x[i] = ending(X + i, all * sizeof(float));
		fill((float *)x[i], all, kind, DS_DTYPE_F32);
	}
	make_results(&op, before[0], kind);
	k->tiles.narrow(&op.codes, x, all);
	k->tiles.product[DS_TILE_BF16](&op);
	for (unsigned i = 0; i < n; i++) {
		portable.narrow[DS_DTYPE_BF16](x_narrow, x[i], all);
		portable.widen[DS_DTYPE_BF16]((float *)x[i], x_narrow, all);
		for (size_t r = 0; r < rows; r++) {
			double sum = op.add ? before[i][r] : 0, size = fabs(sum);

			for (size_t c = col; c < all; c++) {
				sum += (double)w[r * all + c] * x[i][c];
				size += fabs((double)w[r * all + c] * x[i][c]);
			}
			if (!is_sum(op.y[i][r], sum, size, all + 1, kind))
				fail_msg("%zu rows, columns %zu to %zu, %u at once, kind %d: row %zu, %.9g instead of %.9g",
					 rows, col, all, n, (int)kind, r, op.y[i][r], sum);
		}
	}
}

static void products_of_bf16_are_dot_products(const struct ds_kernels *k)
{
	static const size_t row_counts[] = {1, 7, 15, 16, 17, 31, 32};
	static const enum kind kinds[] = {KIND_WHOLE, KIND_REAL, KIND_BROKEN};

	assert_true(!k->tiles.narrow == !k->tiles.product[DS_TILE_BF16]);
	for (size_t r = 0; k->tiles.narrow && r < DS_ARRAY_SIZE(row_counts); r++)
		for (unsigned n = 1; n <= k->tiles.width; n++)
			for (size_t all = 32; all <= 160; all += 64)
				for (size_t i = 0; i < DS_ARRAY_SIZE(kinds); i++)
					check_bf16(k, row_counts[r], all, (r + i) % 2 * (all - 32), n, kinds[i]);
}

const struct kernel_test tile_tests[] = {
	KERNEL_TEST(tiles_hold_what_blocks_mean),
	KERNEL_TEST(activations_are_rounded_to_bytes),
	KERNEL_TEST(flat_tiles_are_near_what_blocks_mean),
	KERNEL_TEST(products_of_tiles_are_dot_products),
	KERNEL_TEST(products_of_flat_tiles_are_dot_products),
	KERNEL_TEST(products_of_bf16_are_dot_products),
	{NULL, NULL},
};

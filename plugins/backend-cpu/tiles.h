/* tiles.h - products of quantised weights by int8 dot products, on one thread, a variant for every instruction set.
 *
 * Both sides are brought to bytes. Of the weights, a tile: DS_TILE_PANELS panels (panels.h) of up to DS_TILE_COLS columns
 * as one byte an element with float32 scales for every 16 or 32 of them, whatever the type was. Of the activations, codes:
 * up to DS_TILE_WIDTH rows, one signed byte an element and a float32 scale for every 32. Then
 *
 *   y[i][r] = sum_g x_scale[i][g] * scale[r][g] * (sum_e w[r][e] * x[i][e]) - min[r][g] * x_scale[i][g] * sum_e x[i][e]
 *
 * over groups g, the inner sum being exact in integers. Each type is one function that fills a tile; the products are the
 * same for all. DS_PRECISION_FAST only: rounding the activations costs about as much accuracy as 8-bit weights do. */
#pragma once

#include "panels.h"

enum {
	DS_TILE_COLS = 1024,   /* so that the tile of AVX-512 nearly stays in the first cache */
	DS_TILE_PANELS = 2,    /* most panels of a tile */
	DS_TILE_WIDTH = 6,     /* most rows of activations of a tile */
	DS_TILE_GROUP = 32,    /* elements that share the scale of the activations */
	DS_TILE_MIN_GROUP = 16, /* least elements that share a scale of the weights */
};

/* How the integers of a type become values. */
enum ds_tile_kind {
	DS_TILE_NONE,	   /* no type of blocks */
	DS_TILE_SIGNED,	   /* scale * signed byte, groups of 32 */
	DS_TILE_OFFSET,	   /* scale * (byte - offset), groups of 32, bytes below 64 */
	DS_TILE_OFFSET_16, /* the same, groups of 16 */
	DS_TILE_MIN,	   /* scale * byte - min, groups of 32, bytes below 64 */
	DS_TILE_MIN_16,
	DS_TILE_BF16,	   /* no integers: pairs of BF16 on both sides */
	DS_TILE_KINDS,
};

struct ds_tile_type {
	enum ds_tile_kind kind;
	int offset; /* of DS_TILE_SIGNED the variant's own is to be used */
};

static inline struct ds_tile_type ds_tile_type(enum ds_dtype dtype)
{
	static const struct ds_tile_type types[DS_N_DTYPES] = {
		[DS_DTYPE_Q4_0] = {DS_TILE_OFFSET, 8},	   [DS_DTYPE_Q4_1] = {DS_TILE_MIN, 0},
		[DS_DTYPE_Q5_0] = {DS_TILE_OFFSET, 16},	   [DS_DTYPE_Q5_1] = {DS_TILE_MIN, 0},
		[DS_DTYPE_Q8_0] = {DS_TILE_SIGNED, 0},	   [DS_DTYPE_Q2_K] = {DS_TILE_MIN_16, 0},
		[DS_DTYPE_Q3_K] = {DS_TILE_OFFSET_16, 4},  [DS_DTYPE_Q4_K] = {DS_TILE_MIN, 0},
		[DS_DTYPE_Q5_K] = {DS_TILE_MIN, 0},	   [DS_DTYPE_Q6_K] = {DS_TILE_OFFSET_16, 32},
		[DS_DTYPE_IQ4_NL] = {DS_TILE_SIGNED, 0},   [DS_DTYPE_IQ4_XS] = {DS_TILE_SIGNED, 0},
		[DS_DTYPE_MXFP4] = {DS_TILE_SIGNED, 0},
	};

	return types[dtype];
}

static inline bool ds_tile_has_mins(enum ds_tile_kind kind)
{
	return kind == DS_TILE_MIN || kind == DS_TILE_MIN_16;
}

/* Elements that share a scale. */
static inline unsigned ds_tile_group(enum ds_tile_kind kind)
{
	return kind == DS_TILE_OFFSET_16 || kind == DS_TILE_MIN_16 ? 16 : 32;
}

/* One panel of a tile. Element e of row r is codes[e / 4][r][e % 4]; its scale is scales[e / group][r]. */
struct ds_tile {
	_Alignas(64) uint8_t codes[DS_TILE_COLS / 4][DS_PANEL][4];
	float scales[DS_TILE_COLS / DS_TILE_MIN_GROUP][DS_PANEL];
	float mins[DS_TILE_COLS / DS_TILE_MIN_GROUP][DS_PANEL];
};

/* @n rows of activations (1 to the width of the variant) of @cols columns, side by side:
 * bytes[e / 4][i][e % 4], scales[e / 32][i], and for every group of the weights what corrects the sum: int32
 * -offset * sum x, or float32 scale * sum x where there are minimums: corrections[e / group][i].
 * For DS_TILE_BF16 there are only bytes, which are BF16 numbers, in pairs: [e / 2][i][e % 2]. */
struct ds_codes {
	int8_t *bytes;
	float *scales;
	void *corrections;
	uint32_t n;
};

/* Bytes of the codes of one row, and where the parts of @n rows begin in @memory (aligned to 4). */
static inline size_t ds_codes_size(size_t cols)
{
	return cols * sizeof(uint16_t); /* of BF16; bytes, scales and corrections take less */
}

static inline struct ds_codes ds_codes_at(void *memory, size_t cols, uint32_t n)
{
	struct ds_codes c = {.bytes = memory, .n = n};

	c.scales = (float *)((char *)memory + n * cols);
	c.corrections = c.scales + n * (cols / DS_TILE_GROUP);
	return c;
}

/* y[i][r] (+)= the product of row r of the tile with row i, over @cols columns from the start of the tile and column @col
 * of the codes; rows 0 to @n_rows - 1 of the panels are stored. */
struct ds_tile_product {
	const struct ds_tile *tile;	       /* [panels] */
	const char *panels[DS_TILE_PANELS]; /* for DS_TILE_BF16 instead: the words of these columns */
	struct ds_codes codes;
	size_t col, cols; /* multiples of 32 */
	float *y[DS_TILE_WIDTH];
	size_t n_rows;
	bool add;
	/* What will be unpacked after this and is brought into the cache meanwhile: @next_step bytes for every four columns,
	 * of each panel, @panel_size apart. */
	const char *next;
	size_t panel_size, next_step;
};

struct ds_tiles {
	unsigned panels, width; /* of a tile of this variant */

	/* The codes of rows x[0..n-1]. A group that has a NaN or an infinity gets NaN for its scale. */
	void (*quantize)(const struct ds_codes *codes, const float *const *x, size_t cols, struct ds_tile_type type);
	/* The same for DS_TILE_BF16. */
	void (*narrow)(const struct ds_codes *codes, const float *const *x, size_t cols);
	/* @tile from blocks @block to @block + @n - 1 of a panel of @cols columns. */
	void (*unpack[DS_N_DTYPES])(struct ds_tile *tile, const void *panel, size_t cols, size_t block, size_t n);
	void (*product[DS_TILE_KINDS])(const struct ds_tile_product *op);
};

void ds_tiles_init_portable(struct ds_tiles *tiles);
void ds_tiles_init_neon(struct ds_tiles *tiles);
void ds_tiles_init_neon_dotprod(struct ds_tiles *tiles);
void ds_tiles_init_avx2(struct ds_tiles *tiles);
void ds_tiles_init_avx2_vnni(struct ds_tiles *tiles);
void ds_tiles_init_avx512_vnni(struct ds_tiles *tiles);
void ds_tiles_init_avx512_bf16(struct ds_tiles *tiles); /* adds DS_TILE_BF16 */

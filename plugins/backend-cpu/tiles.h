/* tiles.h - products of quantised weights by int8 dot products, on one thread, a variant for every instruction set.
 *
 * Both sides are brought to bytes. Of the weights, a tile: up to DS_TILE_PANELS panels (panels.h) of up to DS_TILE_COLS
 * columns as one byte an element and a scale for every 16 or 32 of them, whatever the type was. Of the activations, codes:
 * a few rows, one signed byte an element and a float32 scale for every span of them. Then
 *
 *   y[i][r] = sum_s x_scale[i][s] * sum_g (scale[r][g] * sum_e w[r][e] * x[i][e] - min[r][g] * sum_e x[i][e])
 *
 * over the spans s, their groups g and the elements e of these, the innermost sums being exact in integers. Types in blocks
 * of 32 have a float32 scale a group and spans of one group. In types in blocks of 256 the scales and minimums of groups are
 * small integers, so that a span of 256 is one integer, and floating point comes in once a block. Each type is a function
 * that fills a tile; the products are the same for all types of a kind. For many rows tiles of some types are made flat: one
 * scale for 256 elements. A few rows are multiplied without a tile. DS_PRECISION_FAST only: rounding the activations costs
 * about as much accuracy as 8-bit weights do. */
#pragma once

#include "panels.h"

enum {
	DS_TILE_COLS = 512,    /* so that the tile of AVX-512 stays in half of the first cache */
	DS_TILE_PANELS = 2,    /* most panels of a tile */
	DS_TILE_WIDTH = 8,     /* most rows of activations at once, with a tile of weights or without */
	DS_TILE_AHEAD = 6912,  /* bytes before their use that memory is asked for weights */
	DS_TILE_GROUP = 32,    /* most elements that share a scale of the weights */
	DS_TILE_MIN_GROUP = 16, /* least */
	DS_TILE_SPAN = 256,    /* most elements that share a scale of the activations */
};

/* How the integers of a type become values. */
enum ds_tile_kind {
	DS_TILE_NONE, /* no type of blocks */
	/* scales and minimums are floats, groups and spans of 32 */
	DS_TILE_SIGNED, /* scale * signed byte */
	DS_TILE_OFFSET, /* scale * (byte - offset), bytes below 64 */
	DS_TILE_MIN,	/* scale * byte - min, bytes below 64 */
	/* the same with integers times the scales of a block of 256 */
	DS_TILE_K_SIGNED,
	DS_TILE_K_OFFSET_16, /* groups of 16 */
	DS_TILE_K_MIN,
	DS_TILE_K_MIN_16,
	DS_TILE_FLAT, /* made of some of these: scale * signed byte, one scale for all of a block */
	DS_TILE_BF16, /* no integers: pairs of BF16 on both sides */
	DS_TILE_KINDS,
};

/* The types in blocks that tiles are made of: what(name, type) for each. */
#define DS_TILE_TYPES(what)                                                                            \
	what(q4_0, DS_DTYPE_Q4_0) what(q4_1, DS_DTYPE_Q4_1) what(q5_0, DS_DTYPE_Q5_0)                  \
	what(q5_1, DS_DTYPE_Q5_1) what(q8_0, DS_DTYPE_Q8_0) what(q2_k, DS_DTYPE_Q2_K)                  \
	what(q3_k, DS_DTYPE_Q3_K) what(q4_k, DS_DTYPE_Q4_K) what(q5_k, DS_DTYPE_Q5_K)                  \
	what(q6_k, DS_DTYPE_Q6_K) what(iq4_nl, DS_DTYPE_IQ4_NL) what(iq4_xs, DS_DTYPE_IQ4_XS)          \
	what(mxfp4, DS_DTYPE_MXFP4)

struct ds_tile_type {
	enum ds_tile_kind kind;
	int offset; /* of signed kinds the variant's own is to be used */
	int flat;   /* the greatest byte of a type that may be made flat: rounding again must cost little. Else 0 */
};

static inline struct ds_tile_type ds_tile_type(enum ds_dtype dtype)
{
	static const struct ds_tile_type types[DS_N_DTYPES] = {
		[DS_DTYPE_Q4_0] = {DS_TILE_OFFSET, 8},	     [DS_DTYPE_Q4_1] = {DS_TILE_MIN, 0},
		[DS_DTYPE_Q5_0] = {DS_TILE_OFFSET, 16},	     [DS_DTYPE_Q5_1] = {DS_TILE_MIN, 0},
		[DS_DTYPE_Q8_0] = {DS_TILE_SIGNED, 0},	     [DS_DTYPE_Q2_K] = {DS_TILE_K_MIN_16, 0, 3},
		[DS_DTYPE_Q3_K] = {DS_TILE_K_OFFSET_16, 4, 7},  [DS_DTYPE_Q4_K] = {DS_TILE_K_MIN, 0, 15},
		[DS_DTYPE_Q5_K] = {DS_TILE_K_MIN, 0},	     [DS_DTYPE_Q6_K] = {DS_TILE_K_OFFSET_16, 32},
		[DS_DTYPE_IQ4_NL] = {DS_TILE_SIGNED, 0},     [DS_DTYPE_IQ4_XS] = {DS_TILE_K_SIGNED, 0},
		[DS_DTYPE_MXFP4] = {DS_TILE_SIGNED, 0},
	};

	return types[dtype];
}

static inline bool ds_tile_is_signed(enum ds_tile_kind kind)
{
	return kind == DS_TILE_SIGNED || kind == DS_TILE_K_SIGNED || kind == DS_TILE_FLAT;
}

static inline bool ds_tile_has_mins(enum ds_tile_kind kind)
{
	return kind == DS_TILE_MIN || kind == DS_TILE_K_MIN || kind == DS_TILE_K_MIN_16;
}

/* Elements that share a scale of the weights. */
static inline unsigned ds_tile_group(enum ds_tile_kind kind)
{
	if (kind == DS_TILE_FLAT)
		return 256;
	return kind == DS_TILE_K_OFFSET_16 || kind == DS_TILE_K_MIN_16 ? 16 : 32;
}

/* Elements that share a scale of the activations. */
static inline unsigned ds_tile_span(enum ds_tile_kind kind)
{
	return kind >= DS_TILE_K_SIGNED && kind <= DS_TILE_FLAT ? 256 : 32;
}

/* One panel of a tile. Element e of row r is codes[e / 4][r][e % 4]. */
struct ds_tile {
	_Alignas(64) uint8_t codes[DS_TILE_COLS / 4][DS_PANEL][4];
	union {
		/* spans of 32: [e / 32][r] */
		struct {
			float scales[DS_TILE_COLS / 32][DS_PANEL];
			float mins[DS_TILE_COLS / 32][DS_PANEL];
		};
		/* spans of 256: integers of the groups, of minimums those of two groups in a word, and the block's scales */
		struct {
			int32_t k_scales[DS_TILE_COLS / 16][DS_PANEL];
			uint32_t k_mins[DS_TILE_COLS / 32][DS_PANEL];
			float d[DS_TILE_COLS / 256][DS_PANEL];
			float d_min[DS_TILE_COLS / 256][DS_PANEL];
		};
	};
};

/* @n rows of activations (1 to the width of what multiplies them) of @cols columns, side by side: bytes[e / 4][i][e % 4],
 * scales[e / span][i], and what corrects the sums of the weights' groups:
 * with an offset int32 -offset * sum x, corrections[e / group][i], and so with the variant's own offset of signed bytes;
 * with minimums in spans of 32 float32 scale * sum x, corrections[e / 32][i];
 * with minimums in spans of 256 sum x as int16, those of two groups side by side, corrections[e / (2 * group)][i][2].
 * For DS_TILE_BF16 there are only bytes, which are BF16 numbers, in pairs: [e / 2][i][e % 2]. */
struct ds_codes {
	int8_t *bytes;
	float *scales;
	void *corrections;
	uint32_t n;
};

enum { DS_CODES_SPARE = 64 }; /* bytes that may be read after those of all codes: they are summed a vector at a time */

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
};

/* y[i][r] (+)= row r of the panels times row i, over all columns, for the rows 0 to @n_rows - 1 of them. */
struct ds_few_product {
	const void *panels;
	size_t cols;
	struct ds_codes codes;
	float *y[DS_TILE_WIDTH];
	size_t n_rows;
	bool add;
};

struct ds_tiles {
	unsigned panels, width; /* of a tile of this variant */
	uint8_t few_width[DS_N_DTYPES]; /* rows of activations that few_product() takes */

	/* The codes of rows x[0..n-1]. A group that has a NaN or an infinity gets NaN for its scale. */
	void (*quantize)(const struct ds_codes *codes, const float *const *x, size_t cols, struct ds_tile_type type);
	/* The same for DS_TILE_BF16. */
	void (*narrow)(const struct ds_codes *codes, const float *const *x, size_t cols);
	/* @tile from blocks @block to @block + @n - 1 of a panel of @cols columns. */
	void (*unpack[DS_N_DTYPES])(struct ds_tile *tile, const void *panel, size_t cols, size_t block, size_t n);
	/* Make @n blocks of a tile of @type, which may be made so, DS_TILE_FLAT. */
	void (*flatten)(struct ds_tile *tile, size_t n, struct ds_tile_type type);
	void (*product[DS_TILE_KINDS])(const struct ds_tile_product *op);
	/* Without tiles: bound by memory, which is read in order. */
	void (*few_product[DS_N_DTYPES])(const struct ds_few_product *op);
};

void ds_tiles_init_portable(struct ds_tiles *tiles);
void ds_tiles_init_neon(struct ds_tiles *tiles);
void ds_tiles_init_neon_dotprod(struct ds_tiles *tiles);
void ds_tiles_init_avx2(struct ds_tiles *tiles);
void ds_tiles_init_avx2_vnni(struct ds_tiles *tiles);
void ds_tiles_init_avx512_vnni(struct ds_tiles *tiles);
void ds_tiles_init_avx512_bf16(struct ds_tiles *tiles); /* adds DS_TILE_BF16 */

/* panels.h - layout 1: how weights are stored for fast arithmetic, 16 rows interleaved.
 *
 * A panel is 16 rows. Of every block along the columns, the 16 rows' blocks stand side by side in units of 4 bytes: unit u
 * of row r is the 32-bit word u * 16 + r, so that one load brings the same elements of 16 rows, each row in a lane of its
 * own, in the nibbles and bits that the checkpoint has. Where the size of a block is no multiple of 4, its scale (the head)
 * is kept apart, at the start of the panel: heads [n_blocks][16], then the words [n_blocks][n_units][16]. Both parts start
 * at multiples of 64 bytes. Rows that the last panel lacks are zeros. For BF16 the pair of elements is the unit.
 *
 * No instruction set shows in it; what a kernel does with a word is in tiles-unpack.h. */
#pragma once

#include <deepseekd/model.h>

enum {
	DS_LAYOUT_ROWS = 0, /* as in the checkpoint */
	DS_LAYOUT_PANELS = 1,
	DS_PANEL = 16, /* rows */
	DS_PANEL_LINE = DS_PANEL * 4, /* bytes of a unit of all rows */
};

/* Where things are in the panels of a type. */
struct ds_panel_format {
	uint32_t block, size;	/* elements and bytes of a block; of BF16 a pair of elements */
	uint32_t head, head_size; /* where in a block, and how many bytes, 0 to 2, are kept apart */
	uint32_t body;		  /* where in a block the units begin */
	uint32_t n_units;
};

/* Which unit of a block, as the checkpoint has it, is the @i-th of a panel: scales come first, then what is multiplied, in
 * the order in which kernels use it, so that memory is read in order. */
static inline uint32_t ds_panel_unit(enum ds_dtype dtype, uint32_t i)
{
	switch (dtype) {
	case DS_DTYPE_Q2_K: /* scales of the block, of the groups, bits */
		return i == 0 ? 20 : i - 1;
	case DS_DTYPE_Q3_K: /* third bits of four elements from eight places, their lower bits in two words */
		return i < 3 ? 24 + i : (i - 3) % 3 * 8 + (i - 3) / 3;
	case DS_DTYPE_Q5_K: /* fifth bits from eight places, their nibbles in four words */
		return i < 4 ? i : 4 + (i - 4) % 5 * 8 + (i - 4) / 5;
	case DS_DTYPE_Q6_K: { /* nibbles from four places in two words, their upper bits */
		uint32_t half = (i - 4) / 24, u = (i - 4) % 24 / 3, word = (i - 4) % 3;

		return i < 4 ? 48 + i : word < 2 ? half * 16 + word * 8 + u : 32 + half * 8 + u;
	}
	default:
		return i;
	}
}

/* Types that may be stored so: BF16 and the quantised blocks but FP8. */
static inline bool ds_panel_has(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_BF16 || (!ds_dtype_is_float(dtype) && dtype != DS_DTYPE_FP8);
}

static inline struct ds_panel_format ds_panel_format(enum ds_dtype dtype)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	struct ds_panel_format f = {.block = info->block, .size = info->size};

	if (dtype == DS_DTYPE_BF16)
		f = (struct ds_panel_format){.block = 2, .size = 4};
	f.head_size = f.size % 4;
	if (dtype == DS_DTYPE_Q3_K || dtype == DS_DTYPE_Q6_K)
		f.head = f.size - f.head_size; /* the scale comes last */
	else
		f.body = f.head_size;
	f.n_units = f.size / 4;
	return f;
}

/* Bytes of the heads of a panel of @cols columns, and of the whole. */
static inline size_t ds_panel_heads_size(const struct ds_panel_format *format, size_t cols)
{
	size_t size = cols / format->block * DS_PANEL * format->head_size;

	return (size + DS_PANEL_LINE - 1) / DS_PANEL_LINE * DS_PANEL_LINE;
}

static inline size_t ds_panel_size(enum ds_dtype dtype, size_t cols)
{
	struct ds_panel_format f = ds_panel_format(dtype);

	return ds_panel_heads_size(&f, cols) + cols / f.block * f.n_units * DS_PANEL_LINE;
}

/* One panel from @n_rows (1 to 16) rows of the checkpoint, @pitch bytes apart: the @cols columns from the start of @src. */
void ds_panel_pack(enum ds_dtype dtype, size_t cols, size_t n_rows, const void *src, size_t pitch, void *dst);

/* Block @block of row @row (0 to 15) as in the checkpoint, into @dst (a block's size). */
void ds_panel_block(enum ds_dtype dtype, size_t cols, const void *panel, size_t row, size_t block, void *dst);

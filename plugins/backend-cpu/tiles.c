/* tiles.c - the product of rows of weights and rows of activations by tiles, on one thread; see tiles.h.
 *
 * With few rows of activations memory is the limit: weights are multiplied as they come, in order. With more, two panels of
 * weights are brought to bytes some columns at a time, and every tile of activations is multiplied with them while they are
 * in the cache, so that unpacking is soon forgotten. BF16 needs no unpacking: its panels are tiles. Weights that have the
 * layout of the checkpoint are packed on the way, which pays with many rows only. */
#include "tiles.h"

#include <string.h>

#include "cpu.h"

enum {
	ROWS_MIN = 32,	/* of activations that make it worth to pack weights on the way */
	FLAT_MIN = 48,	/* of activations that make it worth to bring a tile's weights to one scale: it takes eight tiles' time */
	FEW_TILES = 3,	/* of activations up to which words are multiplied as they come, without a tile of weights */
};

/* What a member keeps in its scratch. */
struct tile_scratch {
	struct ds_tile tile[DS_TILE_PANELS];
	_Alignas(64) uint8_t panels[DS_TILE_PANELS][DS_TILE_COLS * DS_PANEL * 2]; /* BF16 is the widest */
	float wide[DS_TILE_COLS];
	uint16_t narrow[DS_PANEL][DS_TILE_COLS];
};

_Static_assert(sizeof(struct tile_scratch) <= DS_SCRATCH / 2 * sizeof(float), "who calls may use the other half");

/* BF16 and FP8, whose fractions BF16 holds, are multiplied as BF16; of F32 and F16 it would lose too much. */
enum ds_tile_kind ds_tiles_kind(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_BF16 || dtype == DS_DTYPE_FP8 ? DS_TILE_BF16 : ds_tile_type(dtype).kind;
}

/* How this product is made. Few rows are multiplied as the type says, with all that it has of precision. */
static struct ds_tile_type type_of(const struct ds_product *p)
{
	struct ds_tile_type type = ds_tile_type(p->dtype);

	type.kind = type.flat && p->n >= FLAT_MIN ? DS_TILE_FLAT : ds_tiles_kind(p->dtype);
	return type;
}

bool ds_tiles_take(const struct ds_cpu *cpu, const struct ds_weight *w, size_t n)
{
	if (w->layout == DS_LAYOUT_PANELS)
		return true;
	return w->fast && n >= ROWS_MIN && w->cols % DS_TILE_GROUP == 0 &&
	       cpu->kernels.tiles.product[ds_tiles_kind(w->dtype)];
}

/* Is this product made without a tile of weights? */
static bool is_few(const struct ds_cpu *cpu, const struct ds_product *p)
{
	const struct ds_tiles *tiles = &cpu->kernels.tiles;

	return p->layout == DS_LAYOUT_PANELS && tiles->few_product[p->dtype] && p->n <= FEW_TILES * tiles->few_width[p->dtype];
}

size_t ds_tiles_count(const struct ds_cpu *cpu, const struct ds_product *p)
{
	const struct ds_tiles *tiles = &cpu->kernels.tiles;
	size_t width = is_few(cpu, p) ? tiles->few_width[p->dtype] : tiles->width;

	return (p->n + width - 1) / width;
}

/* The first row of tile @t of the @n rows of activations in @n_tiles. They are shared out evenly: a narrow tile takes nearly
 * as long as a wide one. */
static uint32_t first_row(uint32_t n, uint32_t n_tiles, uint32_t t)
{
	return (uint32_t)((uint64_t)t * n / n_tiles);
}

/* Columns of the codes that lie together. What is used one after the other is a stream: the tiles of activations of some
 * columns when there are several, else the columns of the only one. */
static size_t cols_together(const struct ds_cpu *cpu, const struct ds_product *p)
{
	return p->n <= cpu->kernels.tiles.width || is_few(cpu, p) ? p->cols : DS_TILE_COLS;
}

/* The codes of the rows @first to @last - 1 of the activations of @p, which are a tile, and of the @cols columns from @col on,
 * which lie together. */
static struct ds_codes codes_of(const struct ds_product *p, size_t first, size_t last, size_t col, size_t cols)
{
	char *memory = (char *)p->codes + p->n * ds_codes_size(col) + first * ds_codes_size(cols);

	return ds_codes_at(memory, cols, (uint32_t)(last - first));
}

bool ds_tiles_share(const struct ds_cpu *cpu, const struct ds_product *a, const struct ds_product *b)
{
	struct ds_tile_type one = type_of(a), other = type_of(b);

	return a->x == b->x && a->x_stride == b->x_stride && a->cols == b->cols && a->n == b->n && a->pairs == b->pairs &&
	       a->divisor == b->divisor && one.kind == other.kind && one.offset == other.offset &&
	       cols_together(cpu, a) == cols_together(cpu, b) && ds_tiles_count(cpu, a) == ds_tiles_count(cpu, b);
}

static void quantize_tile(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last)
{
	const struct ds_tiles *tiles = &cpu->kernels.tiles;
	size_t most = cols_together(cpu, p);
	struct ds_tile_type type = type_of(p);
	const float *x[DS_TILE_WIDTH];

	for (size_t i = first; i < last; i++)
		x[i - first] = ds_product_x(p, i);
	for (size_t col = 0; col < p->cols; col += most) {
		size_t cols = p->cols - col < most ? p->cols - col : most;
		struct ds_codes codes = codes_of(p, first, last, col, cols);

		if (type.kind == DS_TILE_BF16)
			tiles->narrow(&codes, x, cols);
		else
			tiles->quantize(&codes, x, cols, type);
		for (size_t i = first; i < last; i++)
			x[i - first] += cols;
	}
}

void ds_tiles_quantize(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last)
{
	uint32_t n_tiles = (uint32_t)ds_tiles_count(cpu, p);

	for (size_t t = first; t < last; t++)
		quantize_tile(cpu, p, first_row(p->n, n_tiles, (uint32_t)t), first_row(p->n, n_tiles, (uint32_t)t + 1));
}

/* Some columns of 16 rows of weights: those from @begin on of a panel of @cols columns. */
struct view {
	const char *panel;
	size_t cols, begin;
};

/* @n_rows (1 to 16) rows that are not stored in panels, the @cols columns from @col, as a panel of their own in @panel. */
static void pack_panel(const struct ds_cpu *cpu, const struct ds_product *p, size_t row, size_t n_rows, size_t col,
		       size_t cols, struct tile_scratch *scratch, uint8_t *panel)
{
	if (ds_panel_has(p->dtype)) {
		ds_panel_pack(p->dtype, cols, n_rows, ds_product_w(p, row, col), ds_row_size(p->dtype, p->cols), panel);
		return;
	}
	for (size_t r = 0; r < n_rows; r++) {
		cpu->kernels.widen[p->dtype](scratch->wide, ds_product_w(p, row + r, col), cols);
		cpu->kernels.narrow[DS_DTYPE_BF16](scratch->narrow[r], scratch->wide, cols);
	}
	ds_panel_pack(DS_DTYPE_BF16, cols, n_rows, scratch->narrow, sizeof(scratch->narrow[0]), panel);
}

static struct view view_of(const struct ds_cpu *cpu, const struct ds_product *p, size_t row, size_t n_rows, size_t col,
			   size_t cols, struct tile_scratch *scratch, uint8_t *panel)
{
	if (p->layout == DS_LAYOUT_PANELS)
		return (struct view){(const char *)p->w + row / DS_PANEL * ds_panel_size(p->dtype, p->cols), p->cols, col};
	pack_panel(cpu, p, row, n_rows < DS_PANEL ? n_rows : DS_PANEL, col, cols, scratch, panel);
	return (struct view){(const char *)panel, cols, 0};
}

/* The tiles of the panels that begin with row @row, of @n_rows rows in all, from column @col on. Panels beyond the last are
 * not unpacked: what the tile holds for them is computed and not stored. */
static void load_tile(const struct ds_cpu *cpu, const struct ds_product *p, size_t row, size_t n_rows, size_t col,
		      size_t cols, struct tile_scratch *scratch, struct ds_tile_product *op)
{
	const struct ds_tiles *tiles = &cpu->kernels.tiles;
	enum ds_tile_kind kind = type_of(p).kind;
	size_t block = ds_dtype_info(p->dtype)->block;

	for (unsigned i = 0; i < tiles->panels && i * DS_PANEL < n_rows; i++) {
		struct view v = view_of(cpu, p, row + i * DS_PANEL, n_rows - i * DS_PANEL, col, cols, scratch,
					scratch->panels[i]);

		if (kind == DS_TILE_BF16)
			op->panels[i] = v.panel + v.begin * DS_PANEL * sizeof(uint16_t);
		else
			tiles->unpack[p->dtype](&scratch->tile[i], v.panel, v.cols, v.begin / block, cols / block);
		if (kind == DS_TILE_FLAT)
			tiles->flatten(&scratch->tile[i], cols / block, ds_tile_type(p->dtype));
	}
	if (n_rows <= DS_PANEL)
		op->panels[1] = op->panels[0];
}

/* The words that will be unpacked next, @size bytes of each panel of a tile. */
struct next {
	const char *words;
	size_t panel_size, size;
};

/* What follows the columns up to @end of the panels from @row on. */
static struct next next_of(const struct ds_cpu *cpu, const struct ds_product *p, size_t row, size_t end)
{
	struct ds_panel_format f = ds_panel_format(p->dtype);
	size_t panel_size = ds_panel_size(p->dtype, p->cols), left, begin;

	if (p->layout != DS_LAYOUT_PANELS)
		return (struct next){0};
	begin = end < p->cols ? end : 0;
	row += end < p->cols ? 0 : cpu->kernels.tiles.panels * DS_PANEL;
	left = p->cols - begin < DS_TILE_COLS ? p->cols - begin : DS_TILE_COLS;
	return (struct next){
		.words = (const char *)p->w + row / DS_PANEL * panel_size + ds_panel_heads_size(&f, p->cols) +
			 begin / f.block * f.n_units * DS_PANEL_LINE,
		.panel_size = panel_size,
		.size = left / f.block * f.n_units * DS_PANEL_LINE,
	};
}

/* Ask memory for part @t of @n of it: products of several tiles do not read memory, which would be idle meanwhile. */
static void ask_for(const struct next *next, unsigned n_panels, size_t t, size_t n)
{
	size_t begin = next->size * t / n, end = next->size * (t + 1) / n;

	for (unsigned i = 0; i < n_panels; i++)
		for (size_t at = begin; at < end; at += DS_PANEL_LINE)
			__builtin_prefetch(next->words + i * next->panel_size + at, 0, 2);
}

/* One step of columns, from @col on: every tile of activations times the tile of weights. */
static void multiply(const struct ds_cpu *cpu, const struct ds_product *p, size_t row, size_t col,
		     struct ds_tile_product *op)
{
	const struct ds_tiles *tiles = &cpu->kernels.tiles;
	void (*product)(const struct ds_tile_product *op) = tiles->product[type_of(p).kind];
	uint32_t n_tiles = (uint32_t)ds_tiles_count(cpu, p);
	size_t most = cols_together(cpu, p), begin = col / most * most;
	size_t cols = p->cols - begin < most ? p->cols - begin : most;
	struct next next = next_of(cpu, p, row, col + op->cols);

	op->col = col - begin;
	for (uint32_t t = 0, first = 0, last; t < n_tiles; t++, first = last) {
		last = first_row(p->n, n_tiles, t + 1);
		op->codes = codes_of(p, first, last, begin, cols);
		for (uint32_t j = 0; j < op->codes.n; j++)
			op->y[j] = ds_product_y(p, first + j) + row;
		if (n_tiles > 1)
			ask_for(&next, tiles->panels, t, n_tiles);
		product(op);
	}
}

/* The rows @first to @last - 1 straight from the words, with one tile of activations after the other. */
static void multiply_few(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last)
{
	uint32_t n_tiles = (uint32_t)ds_tiles_count(cpu, p);
	struct ds_few_product op = {
		.panels = (const char *)p->w + first / DS_PANEL * ds_panel_size(p->dtype, p->cols),
		.cols = p->cols,
		.n_rows = last - first,
		.add = p->add,
	};

	for (uint32_t t = 0, begin = 0, end; t < n_tiles; t++, begin = end) {
		end = first_row(p->n, n_tiles, t + 1);
		op.codes = codes_of(p, begin, end, 0, p->cols);
		for (uint32_t i = begin; i < end; i++)
			op.y[i - begin] = ds_product_y(p, i) + first;
		cpu->kernels.tiles.few_product[p->dtype](&op);
	}
}

void ds_tiles_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last, unsigned member)
{
	struct tile_scratch *scratch = (struct tile_scratch *)ds_cpu_scratch(cpu, member);
	const struct ds_tiles *tiles = &cpu->kernels.tiles;
	size_t tile_rows = tiles->panels * DS_PANEL;

	if (is_few(cpu, p)) {
		size_t at_once = p->n <= tiles->few_width[p->dtype] ? last - first : DS_PANEL;

		for (; first < last; first += at_once)
			multiply_few(cpu, p, first, last - first < at_once ? last : first + at_once);
		return;
	}
	for (size_t row = first; row < last; row += tile_rows) {
		for (size_t col = 0; col < p->cols; col += DS_TILE_COLS) {
			size_t cols = p->cols - col < DS_TILE_COLS ? p->cols - col : DS_TILE_COLS;
			struct ds_tile_product op = {
				.tile = scratch->tile,
				.cols = cols,
				.n_rows = last - row < tile_rows ? last - row : tile_rows,
				.add = p->add || col > 0,
			};

			load_tile(cpu, p, row, op.n_rows, col, cols, scratch, &op);
			multiply(cpu, p, row, col, &op);
		}
	}
}

/* expanded.c - latent attention with the keys and values of heads made from the cache: many rows of one sequence.
 *
 * A score of the absorbed form takes 2 * kv_lora + qk_rope multiplications a position and head, one of plain attention
 * qk_nope + qk_rope + v_head, less than a third. What it takes to make keys and values is shared by all rows. They are
 * made as BF16 for some heads at a time, as many as stay in a cache, and then it is plain attention.
 *
 * The latents are rounded as activations for k_b and for v_b (tiles.h): once for all heads, or for each anew if the text is
 * so long that the codes of all positions have no room. Of k_b, whose rows are for absorbed queries, a head's columns are
 * wanted: it is turned on the way. */
#include "cpu.h"

#include <string.h>

enum {
	BLOCK = 128,	      /* positions at once */
	PIECE = 16,	      /* most blocks of a piece of work: k_b is turned once for all of them */
	PIECES_A_MEMBER = 4,
	ROOM = 8 << 20,       /* bytes of the keys and values of some heads */
	HALF = DS_SCRATCH / 2, /* floats: of a member's scratch products take the first half */
};

struct expansion {
	struct ds_cpu *cpu;
	const struct ds_expanded_attention *op;
	size_t n_seen, n_blocks; /* positions, and blocks of them */
	size_t piece, n_chunks;  /* blocks of a piece, pieces of a head */
	size_t nope, rope, lora, v_head;
	size_t most_heads;    /* that the room has keys and values of */
	size_t head, n_heads; /* now there */
	/* In the room: codes of the latents, block by block, or NULL; rotary keys (n_seen, rope); keys
	 * (n_seen, n_heads, nope + rope) and values (n_seen, n_heads, v_head), all BF16. */
	char *key_codes, *value_codes;
	uint16_t *rotary, *keys, *values;
	const uint32_t **pages; /* [rows] */
};

/* What a member works with beside products. */
struct desk {
	uint16_t *turned; /* k_b of a head as panels of (nope, lora) */
	char *key_codes, *value_codes; /* of a block, where all have no room */
	float *rows;	  /* (BLOCK, nope or v_head or lora) */
	uint16_t *narrow; /* (DS_PANEL, nope) */
};

static size_t most(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t block_codes(const struct expansion *e)
{
	return BLOCK * ds_codes_size(e->lora) + DS_CODES_SPARE;
}

static struct desk desk_of(const struct expansion *e, unsigned member)
{
	float *room = ds_cpu_scratch(e->cpu, member) + HALF;
	struct desk desk = {.turned = (uint16_t *)room};

	desk.rows = room + e->nope * e->lora / 2;
	desk.narrow = (uint16_t *)(desk.rows + BLOCK * most(most(e->nope, e->v_head), e->lora));
	desk.key_codes = (char *)(desk.narrow + DS_PANEL * e->nope);
	desk.value_codes = desk.key_codes + block_codes(e);
	return desk;
}

static bool desk_has_room(const struct expansion *e)
{
	return e->nope * e->lora / 2 + BLOCK * most(most(e->nope, e->v_head), e->lora) + DS_PANEL * e->nope / 2 +
		       2 * block_codes(e) / sizeof(float) <= HALF;
}

static size_t block_rows(const struct expansion *e, size_t block)
{
	return e->n_seen - block * BLOCK < BLOCK ? e->n_seen - block * BLOCK : BLOCK;
}

/* Rows of latents, the activations of block @block, times a matrix (rows, lora) of @dtype. @all and @own: codes of all blocks,
 * or of this one. */
static struct ds_product product_of(const struct expansion *e, size_t block, char *all, char *own, const void *w,
				    enum ds_dtype dtype, uint32_t layout, float *rows, size_t y_stride)
{
	return (struct ds_product){
		.y = rows,
		.x = rows,
		.y_stride = y_stride,
		.x_stride = e->lora,
		.w = w,
		.dtype = dtype,
		.layout = layout,
		.codes = all ? all + block * BLOCK * ds_codes_size(e->lora) : own,
		.cols = e->lora,
		.divisor = 1,
		.n = (uint32_t)block_rows(e, block),
	};
}

static struct ds_product key_product(const struct expansion *e, size_t block, const struct desk *desk)
{
	return product_of(e, block, e->key_codes, desk->key_codes, desk->turned, DS_DTYPE_BF16, DS_LAYOUT_PANELS, desk->rows,
			  e->nope);
}

static struct ds_product value_product(const struct expansion *e, size_t block, size_t head, const struct desk *desk)
{
	const struct ds_weight *v_b = e->op->v_b;

	return product_of(e, block, e->value_codes, desk->value_codes, ds_weight_matrix(v_b, head), v_b->dtype, v_b->layout,
			  desk->rows, e->v_head);
}

/* The latents of the positions of a block. */
static void round_latents(const struct expansion *e, size_t block, const struct desk *desk)
{
	struct ds_product keys = key_product(e, block, desk), values = value_product(e, block, 0, desk);
	const struct ds_kv *kv = e->op->kv;
	const uint32_t *pages = e->op->rows->pages[0];

	for (size_t i = 0; i < keys.n; i++)
		e->cpu->kernels.widen[kv->dtype](desk->rows + i * e->lora, ds_kv_row(kv, pages, block * BLOCK + i), e->lora);
	ds_tiles_quantize(e->cpu, &keys, 0, ds_tiles_count(e->cpu, &keys));
	ds_tiles_quantize(e->cpu, &values, 0, ds_tiles_count(e->cpu, &values));
}

/* Pieces are blocks: the rotary keys of their positions, and the latents, if their codes are kept. */
static void latent_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct expansion *e = arg;
	const struct ds_kernels *kernels = &e->cpu->kernels;
	struct desk desk = desk_of(e, member);
	const struct ds_kv *kv = e->op->kv;
	const uint32_t *pages = e->op->rows->pages[0];
	size_t offset = ds_row_size(kv->dtype, e->lora);

	for (size_t block = first; block < last; block++) {
		for (size_t t = block * BLOCK; t < block * BLOCK + block_rows(e, block); t++) {
			kernels->widen[kv->dtype](desk.rows, ds_kv_row(kv, pages, t) + offset, e->rope);
			kernels->narrow[DS_DTYPE_BF16](e->rotary + t * e->rope, desk.rows, e->rope);
		}
		if (e->key_codes)
			round_latents(e, block, &desk);
	}
}

/* Rows @r to @r + 15 of a head's k_b as BF16, side by side in desk->narrow. */
static void load_panel(const struct expansion *e, size_t head, size_t r, const struct desk *desk)
{
	const struct ds_weight *w = e->op->k_b;
	const struct ds_kernels *kernels = &e->cpu->kernels;
	const char *matrix = ds_weight_matrix(w, head);

	for (size_t i = 0; i < DS_PANEL; i++) {
		if (w->layout == DS_LAYOUT_ROWS)
			kernels->widen[w->dtype](desk->rows, matrix + (r + i) * ds_row_size(w->dtype, e->nope), e->nope);
		else
			ds_widen_panel_row(kernels, w->dtype, desk->rows,
					   matrix + r / DS_PANEL * ds_panel_size(w->dtype, e->nope), i, e->nope);
		kernels->narrow[DS_DTYPE_BF16](desk->narrow + i * e->nope, desk->rows, e->nope);
	}
}

/* The same of panels of BF16, whose words are pairs of neighbours. */
static void load_bf16_panel(const struct expansion *e, size_t head, size_t r, const struct desk *desk)
{
	const struct ds_weight *w = e->op->k_b;
	const char *panel = (const char *)ds_weight_matrix(w, head) + r / DS_PANEL * ds_panel_size(DS_DTYPE_BF16, e->nope);

	for (size_t d = 0; d < e->nope; d += 2)
		for (size_t i = 0; i < DS_PANEL; i++)
			memcpy(desk->narrow + i * e->nope + d, panel + (d / 2 * DS_PANEL + i) * 4, 4);
}

/* The columns of a head's k_b as rows, in panels: of columns d to d + 15, pairs of neighbouring rows. */
static void turn_keys(const struct expansion *e, size_t head, const struct desk *desk)
{
	bool bf16 = e->op->k_b->dtype == DS_DTYPE_BF16 && e->op->k_b->layout == DS_LAYOUT_PANELS;

	for (size_t r = 0; r < e->lora; r += DS_PANEL) {
		(bf16 ? load_bf16_panel : load_panel)(e, head, r, desk);
		for (size_t d = 0; d < e->nope; d += DS_PANEL)
			for (size_t i = 0; i < DS_PANEL; i += 2) {
				const uint16_t *low = desk->narrow + i * e->nope + d, *high = low + e->nope;
				uint32_t words[DS_PANEL];

				for (size_t k = 0; k < DS_PANEL; k++)
					words[k] = low[k] | (uint32_t)high[k] << 16;
				memcpy(desk->turned + d * e->lora + (r + i) * DS_PANEL, words, sizeof(words));
			}
	}
}

/* @n rows of @width as BF16, @pitch apart. */
static void narrow_rows(const struct expansion *e, uint16_t *y, size_t pitch, const float *x, size_t width, size_t n)
{
	for (size_t i = 0; i < n; i++)
		e->cpu->kernels.narrow[DS_DTYPE_BF16](y + i * pitch, x + i * width, width);
}

/* Piece i is some blocks of positions, of head i / n_chunks of those in the room. */
static void head_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct expansion *e = arg;
	struct desk desk = desk_of(e, member);
	size_t key = e->nope + e->rope;

	for (size_t i = first; i < last; i++) {
		size_t head = i / e->n_chunks, begin = i % e->n_chunks * e->piece;
		size_t end = begin + e->piece < e->n_blocks ? begin + e->piece : e->n_blocks;

		turn_keys(e, e->head + head, &desk);
		for (size_t block = begin; block < end; block++) {
			struct ds_product keys = key_product(e, block, &desk);
			struct ds_product values = value_product(e, block, e->head + head, &desk);
			uint16_t *k = e->keys + (block * BLOCK * e->n_heads + head) * key;
			uint16_t *v = e->values + (block * BLOCK * e->n_heads + head) * e->v_head;

			if (!e->key_codes)
				round_latents(e, block, &desk);
			ds_tiles_rows(e->cpu, &keys, 0, e->nope, member);
			narrow_rows(e, k, e->n_heads * key, desk.rows, e->nope, keys.n);
			for (size_t t = 0; t < keys.n; t++)
				memcpy(k + t * e->n_heads * key + e->nope, e->rotary + (block * BLOCK + t) * e->rope,
				       e->rope * sizeof(*k));
			ds_tiles_rows(e->cpu, &values, 0, e->v_head, member);
			narrow_rows(e, v, e->n_heads * e->v_head, desk.rows, e->v_head, values.n);
		}
	}
}

/* Attention with the heads in the room. */
static void attend(const struct expansion *e)
{
	const struct ds_expanded_attention *op = e->op;
	size_t key = e->nope + e->rope, n_heads = op->k_b->n_experts;
	struct ds_kv keys = {e->keys, DS_DTYPE_BF16, (uint32_t)e->n_seen, (uint32_t)(e->n_heads * key)};
	struct ds_kv values = {e->values, DS_DTYPE_BF16, (uint32_t)e->n_seen, (uint32_t)(e->n_heads * e->v_head)};
	struct ds_rows rows = {.n = op->rows->n, .positions = op->rows->positions, .pages = e->pages};

	ds_cpu_heads_attention(e->cpu, &(struct ds_heads_attention){.y = op->y + e->head * e->v_head,
								     .q = op->q + e->head * key,
								     .y_stride = n_heads * e->v_head,
								     .q_stride = n_heads * key,
								     .q_head_stride = key,
								     .k = &keys,
								     .v = &values,
								     .rows = &rows,
								     .n_heads = e->n_heads,
								     .key_cols = key,
								     .value_cols = e->v_head,
								     .scale = op->scale});
}

static size_t lines(size_t size)
{
	return (size + DS_PANEL_LINE - 1) / DS_PANEL_LINE * DS_PANEL_LINE;
}

/* The parts of the room, and how many heads have keys and values in it. It is no larger than what the absorbed form would
 * have made of these rows, absorbed queries and mixed latents: that much memory was planned for. False: not even one head
 * fits, or there is no memory. */
static bool lay_out(struct expansion *e)
{
	static const uint32_t one_page;
	size_t codes = lines(e->n_seen * ds_codes_size(e->lora) + DS_CODES_SPARE), n_rows = e->op->rows->n;
	size_t rotary = lines(e->n_seen * e->rope * sizeof(*e->rotary)), pages = lines(n_rows * sizeof(*e->pages));
	size_t key = lines(e->n_seen * (e->nope + e->rope) * sizeof(*e->keys)), n_heads = e->op->k_b->n_experts;
	size_t value = lines(e->n_seen * e->v_head * sizeof(*e->values)), a_head = key + value;
	size_t planned = n_rows * n_heads * 2 * e->lora * sizeof(float);
	bool keeps = rotary + pages + 2 * codes + a_head <= planned;
	char *room;

	if (rotary + pages + a_head > planned || !ds_room_reserve(&e->cpu->expanded, planned))
		return false;
	room = e->cpu->expanded.memory;
	if (keeps) {
		e->key_codes = room;
		e->value_codes = room + codes;
		room += 2 * codes;
		planned -= 2 * codes;
	}
	e->most_heads = (planned - rotary - pages) / a_head;
	e->most_heads = e->most_heads < most(ROOM / a_head, 1) ? e->most_heads : most(ROOM / a_head, 1);
	e->most_heads = e->most_heads < n_heads ? e->most_heads : n_heads;
	e->rotary = (uint16_t *)room;
	e->pages = (const uint32_t **)(room + rotary);
	e->keys = (uint16_t *)(room + rotary + pages);
	e->values = (uint16_t *)(room + rotary + pages + e->most_heads * key);
	for (size_t i = 0; i < n_rows; i++)
		e->pages[i] = &one_page;
	return true;
}

/* BF16 on both sides, whole panels, and room for it. */
static bool suits(const struct expansion *e)
{
	const struct ds_kernels *kernels = &e->cpu->kernels;
	const struct ds_weight *k_b = e->op->k_b, *v_b = e->op->v_b;

	return k_b->fast && kernels->tiles.product[DS_TILE_BF16] && kernels->attend.mix_bf16 &&
	       ds_tiles_take(e->cpu, v_b, BLOCK) && e->lora % DS_TILE_GROUP == 0 && e->nope % DS_PANEL == 0 &&
	       e->rope % 2 == 0 && e->v_head % 32 == 0 && desk_has_room(e);
}

bool ds_cpu_expanded_attention(void *self, const struct ds_expanded_attention *op)
{
	struct expansion e = {
		.cpu = self,
		.op = op,
		.nope = op->k_b->cols,
		.rope = op->qk_rope,
		.lora = op->k_b->rows,
		.v_head = op->v_b->rows,
	};
	size_t n_heads = op->k_b->n_experts;

	if (op->rows->n == 0 || !suits(&e))
		return false;
	for (uint32_t r = 0; r < op->rows->n; r++)
		e.n_seen = most(e.n_seen, (size_t)op->rows->positions[r] + 1);
	e.n_blocks = (e.n_seen + BLOCK - 1) / BLOCK;
	if (!lay_out(&e))
		return false;
	e.piece = e.n_blocks * e.most_heads / (PIECES_A_MEMBER * ds_team_size(e.cpu->team)) + 1;
	e.piece = e.piece < PIECE ? e.piece : PIECE;
	e.n_chunks = (e.n_blocks + e.piece - 1) / e.piece;
	ds_team_run(e.cpu->team, e.n_blocks, 1, latent_pieces, &e);
	for (; e.head < n_heads; e.head += e.n_heads) {
		e.n_heads = n_heads - e.head < e.most_heads ? n_heads - e.head : e.most_heads;
		ds_team_run(e.cpu->team, e.n_heads * e.n_chunks, 1, head_pieces, &e);
		attend(&e);
	}
	return true;
}

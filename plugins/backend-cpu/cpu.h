/* cpu.h - one opened backend, and the operations the files of this folder implement on it.
 *
 * backend.c owns the struct; it is written by open() and start() and then only by the thread that enqueues operations,
 * but for the scratch, of which every member of the team has its own. Operations finish before they return. */
#pragma once

#include <deepseekd/backend.h>

#include "kernels.h"
#include "panels.h"
#include "team.h"

enum {
	/* A part of the weights that a member widens to float32 for sgemm, and how many rows of activations it gathers. */
	DS_GEMM_ROWS = 512,
	DS_GEMM_COLS = 512, /* whole blocks of every type */
	DS_GEMM_BATCH = 256,
	/* Numbers that expert_matmul has room for from the start: 1024 pairs, 256 experts, twice that. */
	DS_PAIRS = 4096,
	DS_CODES = 16 << 20, /* 512 rows of 16384 columns */
	DS_TURNS = 1 << 20, /* bytes: 512 rows of 256 pairs, nearly */
	/* What one member may use within an operation, in floats: all three parts of a product at their largest. */
	DS_SCRATCH = DS_GEMM_ROWS * DS_GEMM_COLS + DS_GEMM_BATCH * DS_GEMM_COLS + DS_GEMM_BATCH * DS_GEMM_ROWS,
};

/* Memory that grows when an operation needs more than ever. */
struct ds_room {
	void *memory;
	size_t size;
};

/* Cosines and sines of the last positions that rows were rotated to: every layer asks for the same again. */
struct ds_turns {
	struct ds_room room; /* turns (n_rows, 2 * n); of frequencies [n] and positions [n_rows] */
	size_t n_rows, n;    /* rows that have a place; pairs */
	bool halves;
};

struct ds_cpu {
	struct ds_kernels kernels;
	unsigned n_cpus; /* that this process may use */
	unsigned n_threads; /* the option's value; 0: as many as CPUs */
	struct ds_team *team;
	float *scratch; /* (members, DS_SCRATCH) */
	/* Of expert_matmul: DS_PAIRS numbers from start() on, more when more pairs and experts come than ever. */
	struct ds_room pairs;
	/* Codes of the activations of a call's products (tiles.h): DS_CODES bytes from start() on, more when one needs more. */
	struct ds_room codes;
	struct ds_turns turns;
	struct ds_room expanded; /* keys and values of heads, of expanded_attention */
	int failed; /* what sync() is to report: 0 or a negative errno */
};

static inline float *ds_cpu_scratch(const struct ds_cpu *cpu, unsigned member)
{
	return cpu->scratch + (size_t)member * DS_SCRATCH;
}

/* Rows of one matrix times some rows of activations:
 * y[row(i)][r] (+)= w[r] . x[row(i) / divisor], where row(i) is pairs[i], or i without @pairs. */
struct ds_product {
	float *y;
	const float *x;
	size_t y_stride, x_stride; /* elements between rows */
	const void *w;		   /* (rows, cols) */
	enum ds_dtype dtype;
	uint32_t layout;
	void *codes; /* of the n rows, if this goes by tiles, else NULL */
	size_t cols;
	const uint32_t *pairs; /* [n] or NULL */
	uint32_t divisor;      /* 1 without @pairs */
	uint32_t n;
	bool add;
};

/* The rows @first to @last - 1 of @p, on the calling thread, which is @member of the team. */
void ds_product_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last, unsigned member);

static inline size_t ds_product_row(const struct ds_product *p, size_t i)
{
	return p->pairs ? p->pairs[i] : i;
}

static inline const float *ds_product_x(const struct ds_product *p, size_t i)
{
	return p->x + ds_product_row(p, i) / p->divisor * p->x_stride;
}

static inline float *ds_product_y(const struct ds_product *p, size_t i)
{
	return p->y + ds_product_row(p, i) * p->y_stride;
}

/* Row @r of the weights from column @col on, the first of a block; of layout 0. */
static inline const void *ds_product_w(const struct ds_product *p, size_t r, size_t col)
{
	return (const char *)p->w + r * ds_row_size(p->dtype, p->cols) + ds_row_size(p->dtype, col);
}

/* How many rows of a matrix (rows, cols) a member should take at once when @n_matrices of them meet @n rows each. */
size_t ds_product_chunk(const struct ds_cpu *cpu, const struct ds_weight *w, size_t n_matrices, uint32_t n);

/* At least @size bytes in @room, which loses what it held if it has to grow; false if there is no memory. */
bool ds_room_reserve(struct ds_room *room, size_t size);
/* The same, and a failure for sync() when there is no memory. */
bool ds_cpu_reserve(struct ds_cpu *cpu, struct ds_room *room, size_t size);

/* Matrix @index of a stack. In panels only the last matrix may have rows that do not fill one. */
static inline const void *ds_weight_matrix(const struct ds_weight *w, size_t index)
{
	if (w->matrices)
		return w->matrices[index];
	if (w->layout == DS_LAYOUT_PANELS)
		return (const char *)w->data + index * w->rows / DS_PANEL * ds_panel_size(w->dtype, w->cols);
	return (const char *)w->data + index * w->rows * ds_row_size(w->dtype, w->cols);
}

/* tiles.c: how weights of @dtype are multiplied in fast precision; DS_TILE_NONE: in float32. */
enum ds_tile_kind ds_tiles_kind(enum ds_dtype dtype);

/* Do codes of the activations of @a serve @b as they are? */
bool ds_tiles_share(const struct ds_cpu *cpu, const struct ds_product *a, const struct ds_product *b);

/* Does the product of @w with @n rows go by tiles? Then its codes are made first, tile by tile of
 * ds_tiles_count(), and rows @first to @last - 1 (@first a multiple of DS_TILE_PANELS panels) computed from them. */
bool ds_tiles_take(const struct ds_cpu *cpu, const struct ds_weight *w, size_t n);
size_t ds_tiles_count(const struct ds_cpu *cpu, const struct ds_product *p);
void ds_tiles_quantize(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last);
void ds_tiles_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last, unsigned member);

/* Of a sequence with the page table @pages, the row of position @position. */
static inline char *ds_kv_row(const struct ds_kv *kv, const uint32_t *pages, size_t position)
{
	size_t slot = (size_t)pages[position / kv->page_tokens] * kv->page_tokens + position % kv->page_tokens;

	return (char *)kv->data + slot * ds_row_size(kv->dtype, kv->width);
}

/* elementwise.c */
/* y (cols) = row @row (0 to 15) of a panel, whose blocks are put together again. */
void ds_widen_panel_row(const struct ds_kernels *kernels, enum ds_dtype dtype, float *y, const void *panel, size_t row,
			size_t cols);
void ds_cpu_embed(void *self, float *y, const struct ds_weight *table, const uint32_t *tokens, uint32_t n);
void ds_cpu_rms_norm(void *self, float *y, uint32_t y_stride, const float *x, uint32_t x_stride, const float *weight,
		     uint32_t width, uint32_t n, float eps);
void ds_cpu_rope(void *self, const struct ds_rope *op);
void ds_cpu_kv_store(void *self, const struct ds_kv *kv, const float *x, uint32_t x_stride, const struct ds_rows *rows);
void ds_cpu_swiglu(void *self, float *y, const float *gate, const float *up, uint64_t count);
void ds_cpu_gather(void *self, float *y, const float *x, const uint32_t *indices, uint32_t width, uint32_t n);
void ds_cpu_add_bias(void *self, float *y, const float *bias, uint32_t width, uint32_t n);
/* matmul.c */
void ds_cpu_matmul(void *self, const struct ds_matmul *ops, uint32_t n_ops);
void ds_cpu_head_matmul(void *self, const struct ds_head_matmul *op);
/* experts.c */
void ds_cpu_expert_matmul(void *self, const struct ds_expert_matmul *ops, uint32_t n_ops);
void ds_cpu_expert_sum(void *self, float *y, const float *x, const float *weights, uint32_t width, uint32_t n,
		       uint32_t k);
/* route.c */
void ds_cpu_route(void *self, const struct ds_route *op);
/* attention.c */
void ds_cpu_latent_attention(void *self, const struct ds_latent_attention *op);
void ds_cpu_attention(void *self, const struct ds_attention *op);

/* Attention in which each head has keys and values of its own, (n_heads, key_cols) and (n_heads, value_cols) a row of the
 * caches; strides in elements. */
struct ds_heads_attention {
	float *y;
	const float *q;
	size_t y_stride, q_stride, q_head_stride;
	const struct ds_kv *k, *v;
	const struct ds_rows *rows;
	size_t n_heads, key_cols, value_cols;
	float scale;
};
void ds_cpu_heads_attention(struct ds_cpu *cpu, const struct ds_heads_attention *op);
/* expanded.c */
bool ds_cpu_expanded_attention(void *self, const struct ds_expanded_attention *op);

/* peak.c */
int ds_cpu_peak(void *self, enum ds_dtype dtype, enum ds_precision precision, struct ds_peak *peak, struct ds_error *err);

/* backend.c: the table, for tests that link the objects. vectors.c: known answers of every operation. */
extern const struct ds_backend_ops ds_cpu_ops;
extern const struct ds_vector ds_cpu_vectors[];

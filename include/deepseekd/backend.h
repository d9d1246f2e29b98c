/* backend.h - a device that holds tensors and runs the operations of a forward pass.
 *
 * Operations are enqueued in order on one @self by one thread; sync() waits for all of them. A backend may run each at
 * once (cpu) or record and submit (a GPU). Nothing here allocates per operation. Activations are F32, row-major,
 * (rows, width) with rows densely packed unless a stride is given; pointers come from alloc() or from the image that
 * map() was given, and only a backend dereferences them, but for what read() and write() copy.
 *
 * Vectors: input {"op": NAME, arguments}, output {"y": [...]} and for route {"ids": [...], "weights": [...]}, row-major,
 * nested or not, compared to 1e-5 of the largest of them. Tensors are nested arrays of the shapes given with the
 * operations below and carry the names of the arguments; sizes follow from the shapes, strides are dense.
 * "dtype" is that of the weights, or of the cache, in small letters: "f32", "q4_k". A row of quantised weights is a string:
 * its blocks' bytes in hexadecimal. What is not an argument's name: matmul and
 * expert_sum take the first value of "y", which makes matmul add; rope answers x as y; positions, "pages" (n, pages of a
 * row) and page_tokens stand for ds_rows and ds_kv; kv_store takes n_pages and answers the whole cache
 * (n_pages * page_tokens, width) as y, which was zero before; latent_attention takes the cache as "cache"
 * (n_pages * page_tokens, width) and answers z as y; attention takes caches of that shape as "k" and "v"; add_bias takes
 * the first value of "y"; scoring is "softmax" | "sigmoid". */
#pragma once

#include "model.h"
#include "plugin.h"

enum ds_precision {
	DS_PRECISION_FAST,
	DS_PRECISION_EXACT, /* float32 activations, accumulation and KV */
};

/* How a tensor is stored in the image: in blocks of @block_rows rows, each @block_size bytes, one after the other. A tensor
 * that stays in the checkpoint's files (residency mapped) has layout 0, whatever plan() says. */
struct ds_layout {
	uint32_t id; /* 0: rows as in the checkpoint */
	uint32_t block_rows;
	uint64_t block_size;
	uint64_t size; /* of the whole tensor */
};

/* A weight as the engine found it in the image. */
struct ds_weight {
	const void *data;
	enum ds_dtype dtype;
	uint32_t layout;
	uint64_t n_experts;  /* leading dimension of a stack of matrices, else 1 */
	uint64_t rows, cols; /* out, in */
	const void *const *matrices; /* [n_experts]: where each matrix is; NULL: one after the other from @data */
	bool fast; /* DS_PRECISION_FAST: int8 and BF16 units may be used; else float32 arithmetic */
};

/* Which rows a step computes. Arrays are host memory, valid until the operation is synced; the struct itself is valid until
 * the operation returns. */
struct ds_rows {
	uint32_t n;
	const uint32_t *tokens;		/* [n] */
	const uint32_t *positions;	/* [n] */
	const uint32_t *const *pages;	/* [n]: page table of the row's sequence; position p is in page p / page_tokens */
};

/* The KV cache of one layer: pages of @page_tokens rows of @width elements. In a type of blocks, columns of each head and
 * both parts of MLA's rows are whole blocks. */
struct ds_kv {
	void *data; /* [n_pages][page_tokens][width] */
	enum ds_dtype dtype;
	uint32_t page_tokens;
	uint32_t width; /* MLA: kv_lora + qk_rope; else n_kv_heads * head_dim, of keys and of values */
};

enum { DS_MATMULS = 3 }; /* most products of a call: queries, keys and values */

/* y (n, w.rows) = x (n, w.cols) * w^T, added to y when @add. */
struct ds_matmul {
	float *y;
	const float *x;
	const struct ds_weight *w;
	uint32_t n;
	uint32_t x_stride, y_stride; /* elements between rows; 0: dense */
	bool add;
};

/* One matrix a head: y (n, heads, w.rows) = x (n, heads, w.cols) * w[head]^T; w.n_experts is the number of heads.
 * Strides are between heads of a row and between rows, in elements. */
struct ds_head_matmul {
	float *y;
	const float *x;
	const struct ds_weight *w;
	uint32_t n;
	uint32_t x_row_stride, x_head_stride, y_row_stride, y_head_stride;
};

/* One matrix an expert: pair i of row r (k pairs a row) goes through expert ids[r][i].
 * x is (n, w.cols) when @shared_input, else (n * k, w.cols); y is (n * k, w.rows). */
struct ds_expert_matmul {
	float *y;
	const float *x;
	const struct ds_weight *w;
	const uint32_t *ids; /* (n, k), on the device */
	uint32_t n, k;
	bool shared_input;
};

/* Choose k experts a row (DeepSeek-V2, arXiv:2405.04434, section 2.2; V3, arXiv:2412.19437, equations 12 to 16). */
struct ds_route {
	uint32_t *ids;	   /* out (n, k), rising */
	float *weights;	   /* out (n, k) */
	const float *logits; /* (n, n_experts) */
	const float *bias;   /* (n_experts) or NULL */
	uint32_t n, n_experts, k, n_groups, n_groups_used;
	enum ds_expert_scoring scoring;
	bool normalize;
	float scale;
};

/* Rotate pairs (2i, 2i + 1) of each head by position * frequencies[i] (RoPE, arXiv:2104.09864), in place; with @halves,
 * pairs (i, i + width / 2). */
struct ds_rope {
	float *x;
	const float *frequencies; /* (width / 2), from alloc() */
	const struct ds_rows *rows;
	uint32_t n_heads, width;
	uint32_t row_stride, head_stride; /* elements */
	bool halves;
};

/* Grouped-query attention (arXiv:2305.13245): query head h reads key head h / (n_heads / n_kv_heads),
 *   y[r][h] = sum_t softmax(scale * q[r][h] . k_t)_t v_t
 * over the positions t <= positions[r] of the row's sequence; k and v are caches of width n_kv_heads * head_dim. */
struct ds_attention {
	float *y;	/* (n, heads, head_dim) */
	const float *q; /* (n, heads, head_dim) */
	const struct ds_kv *k, *v;
	const struct ds_rows *rows;
	uint32_t n_heads, n_kv_heads, head_dim;
	float scale;
};

/* MLA in absorbed form (arXiv:2405.04434, section 2.1 and appendix C): for row r and head h
 *   s_t = scale * (q[r][h] . c_t + q_rope[r][h] . k_t),  z[r][h] = sum_t softmax(s)_t c_t
 * over the positions t <= positions[r] of the row's sequence, (c_t | k_t) being the rows of the cache. */
struct ds_latent_attention {
	float *z;	     /* (n, heads, kv_lora) */
	const float *q;	     /* (n, heads, kv_lora) */
	const float *q_rope; /* first element of the rotary part; strides below */
	uint32_t q_rope_row_stride, q_rope_head_stride;
	const struct ds_kv *kv;
	const struct ds_rows *rows;
	uint32_t n_heads, kv_lora, qk_rope;
	float scale;
};

/* MLA with the keys and values of every head made from the cache, which many rows of one sequence may be cheaper with than
 * in absorbed form: for row r and head h, over the positions t <= positions[r],
 *   s_t = scale * q[r][h] . (k_b[h]^T c_t | k_t),  y[r][h] = sum_t softmax(s)_t v_b[h] c_t
 * (arXiv:2405.04434, equations 9 to 11). All rows are of one sequence. */
struct ds_expanded_attention {
	float *y;	/* (n, heads, v_head) */
	const float *q; /* (n, heads, qk_nope + qk_rope) */
	const struct ds_weight *k_b, *v_b; /* heads of (kv_lora, qk_nope) and of (v_head, kv_lora) */
	const struct ds_kv *kv;
	const struct ds_rows *rows;
	uint32_t qk_rope;
	float scale;
};

/* What the device can do at most, measured; 0 where it is not known. */
struct ds_peak {
	double bytes_per_second; /* read in order by the whole team */
	uint64_t n_bytes;	 /* of which so many were read: far more than the caches hold */
	double operations_per_second; /* a multiplication and an addition are two */
	const char *unit;	      /* what computed them, for people: "int8" */
};

struct ds_backend_ops {
	size_t size;

	/* In ds-loader: how @tensor is to be stored for @precision, and the packing of whole blocks.
	 * The last block of a tensor may have fewer rows; @dst always gets block_size bytes a block. Layout 0 is never packed.
	 * Several threads pack at once. */
	int (*plan)(const struct ds_tensor_desc *tensor, enum ds_precision precision, struct ds_layout *layout,
		    struct ds_error *err);
	void (*pack)(const struct ds_tensor_desc *tensor, const struct ds_layout *layout, uint64_t n_rows,
		     const void *src, void *dst);
	/* Names this version of the layouts and the instruction set they suit, for the identity of an image. */
	const char *(*identity)(void);

	/* In ds-engine. open() starts no thread: start() does, after the sandbox is closed, and operations come after it.
	 * @n_threads 0: as @settings say, or choose. */
	int (*open)(void **self, const struct ds_host *host, const struct ds_setting *settings, struct ds_error *err);
	int (*start)(void *self, unsigned n_threads, struct ds_error *err);
	void (*close)(void *self);

	int (*map)(void *self, const void *image, uint64_t size, struct ds_error *err); /* read-only, outlives self */
	void *(*alloc)(void *self, uint64_t size); /* 64-byte aligned, zeroed; NULL: no memory */
	void (*release)(void *self, void *p);	   /* takes NULL */
	void (*write)(void *self, void *dst, const void *src, uint64_t size);
	void (*read)(void *self, void *dst, const void *src, uint64_t size); /* syncs */
	int (*sync)(void *self, struct ds_error *err);

	/* y (n, width) = rows tokens[i] of table. */
	void (*embed)(void *self, float *y, const struct ds_weight *table, const uint32_t *tokens, uint32_t n);
	/* y = x / sqrt(mean(x^2) + eps) * weight; strides in elements between rows (RMSNorm, arXiv:1910.07467). y may be x. */
	void (*rms_norm)(void *self, float *y, uint32_t y_stride, const float *x, uint32_t x_stride, const float *weight,
			 uint32_t width, uint32_t n, float eps);
	/* @n_ops (1 to DS_MATMULS) products at once, none of which reads or writes what another writes; those of experts are of
	 * the same pairs. Of the same x, what a device makes of it for its arithmetic may be made once. */
	void (*matmul)(void *self, const struct ds_matmul *ops, uint32_t n_ops);
	void (*head_matmul)(void *self, const struct ds_head_matmul *op);
	void (*expert_matmul)(void *self, const struct ds_expert_matmul *ops, uint32_t n_ops);
	/* y (n, width) += sum_i weights[r][i] * x (n * k, width)[r * k + i] */
	void (*expert_sum)(void *self, float *y, const float *x, const float *weights, uint32_t width, uint32_t n,
			   uint32_t k);
	void (*route)(void *self, const struct ds_route *op);
	void (*rope)(void *self, const struct ds_rope *op);
	/* Write x (n rows of kv->width, stride between) at each row's position, converted to kv->dtype. */
	void (*kv_store)(void *self, const struct ds_kv *kv, const float *x, uint32_t x_stride, const struct ds_rows *rows);
	void (*latent_attention)(void *self, const struct ds_latent_attention *op);
	/* y = silu(gate) * up, elementwise over n * width. y may be gate. */
	void (*swiglu)(void *self, float *y, const float *gate, const float *up, uint64_t count);
	/* y (n, width) = x[indices[i]], @indices in host memory. */
	void (*gather)(void *self, float *y, const float *x, const uint32_t *indices, uint32_t width, uint32_t n);
	void (*attention)(void *self, const struct ds_attention *op);
	/* y (n, width) += bias (width) in every row. */
	void (*add_bias)(void *self, float *y, const float *bias, uint32_t width, uint32_t n);

	/* Optional, and the table may end before it: DS_BACKEND_HAS(ops, peak).
	 * Measure for less than a second what @self can do with weights of type @dtype at @precision at most; after start(),
	 * and with nothing enqueued. Others may use the device at the same time: who wants the truth asks several times. */
	int (*peak)(void *self, enum ds_dtype dtype, enum ds_precision precision, struct ds_peak *peak, struct ds_error *err);
	/* Optional, too, and without vectors. False: not with weights or rows such as these; nothing was done. */
	bool (*expanded_attention)(void *self, const struct ds_expanded_attention *op);
};

/* Has the table @ops an operation @member that a table may lack? */
#define DS_BACKEND_HAS(ops, member) \
	((ops)->size >= offsetof(struct ds_backend_ops, member) + sizeof((ops)->member) && (ops)->member)

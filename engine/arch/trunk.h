/* trunk.h - what all architectures share, whatever their attention: hyperparameters' bounds, the residual stream, the
 * embedding and the output matrix, the gated feed-forward block, and the memory of it all.
 *
 * An architecture embeds a struct ds_trunk, opens it first and closes it last. In shapes: n rows of a step. */
#pragma once

#include "arch.h"

/* Buffers an architecture may take: two caches a layer, and some dozens of activations. */
#define DS_TRUNK_MAX_BUFFERS (2 * DS_MAX_LAYERS + 64)

struct ds_swiglu {
	struct ds_weight gate, up, down;
};

struct ds_trunk {
	struct ds_hparams p;
	const struct ds_backend_ops *ops;
	void *backend;
	uint32_t max_rows;

	struct ds_weight token_embedding, output;
	const float *output_norm;
	/* What logits() reads: the states of the last forward() or draft(), and the matrix that belongs to them. */
	const float *last_states;
	const struct ds_weight *last_output;

	float *frequencies;     /* of rotated pairs */
	float *x, *u;           /* (n, hidden): the residual stream, and what a block reads of it */
	float *gate, *up;       /* (n, widest dense feed-forward) */
	float *states;          /* (n, hidden), after the last norm */
	float *picked, *logits; /* (max_logits, hidden), (max_logits, vocab) */

	struct ds_kv caches[2 * DS_MAX_LAYERS]; /* [n_caches]: all that were taken */
	unsigned n_caches;
	void *buffers[DS_TRUNK_MAX_BUFFERS];
	unsigned n_buffers;
};

/* ---- hyperparameters ---- */

struct ds_limit {
	const char *name;
	size_t offset;
	uint32_t min, max;
};

/* clang-format off */
#define DS_LIMIT(field, min, max) {#field, offsetof(struct ds_hparams, field), min, max}
/* clang-format on */

int ds_limits_check(const struct ds_hparams *p, const struct ds_limit *limits, size_t n, struct ds_error *err);

/* What every architecture has; @rope_width elements of a head are rotated. */
int ds_trunk_check(const struct ds_hparams *p, uint32_t rope_width, struct ds_error *err);

/* ---- binding ---- */

/* Bind the embedding, the output and the norm before it, and take the memory of activations; dense feed-forward blocks
 * are at most @widest wide. Failures are in @bind. */
void ds_trunk_open(struct ds_trunk *t, struct ds_bind *bind, uint32_t rope_width, uint64_t widest);
void ds_trunk_close(struct ds_trunk *t);

/* Memory that goes with the trunk. */
void *ds_trunk_take(struct ds_trunk *t, struct ds_bind *bind, uint64_t n, uint64_t width, uint64_t element_size);
/* A cache of @width elements a token. */
struct ds_kv ds_trunk_take_kv(struct ds_trunk *t, struct ds_bind *bind, uint32_t width);

/* LAYER.KIND_gate, _up and _down, @width wide. */
void ds_swiglu_bind(struct ds_bind *bind, struct ds_swiglu *ffn, const struct ds_hparams *p, uint64_t width,
		    const char *layer, const char *kind);

/* ---- computing ---- */

static inline void ds_matmul(struct ds_trunk *t, float *y, const float *x, const struct ds_weight *w, uint32_t n)
{
	t->ops->matmul(t->backend, &(struct ds_matmul){.y = y, .x = x, .w = w, .n = n}, 1);
}

/* y += x * w^T: what a block adds to the residual stream. */
static inline void ds_matmul_add(struct ds_trunk *t, float *y, const float *x, const struct ds_weight *w, uint32_t n)
{
	t->ops->matmul(t->backend, &(struct ds_matmul){.y = y, .x = x, .w = w, .n = n, .add = true}, 1);
}

/* Each of n rows of @width elements on its own. */
static inline void ds_norm(struct ds_trunk *t, float *y, const float *x, const float *weight, uint32_t width,
			   uint32_t n)
{
	t->ops->rms_norm(t->backend, y, width, x, width, weight, width, n, t->p.norm_eps);
}

/* x += down(silu(gate(u)) * up(u)) */
void ds_trunk_feed_forward(struct ds_trunk *t, const struct ds_swiglu *ffn, uint32_t n);

/* x = rows of the embedding. */
void ds_trunk_embed(struct ds_trunk *t, const struct ds_rows *rows);
/* states = norm(x): what logits() reads next. */
void ds_trunk_finish(struct ds_trunk *t, uint32_t n);

/* As in struct ds_arch. */
int ds_trunk_logits(struct ds_trunk *t, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err);
int ds_trunk_fill(struct ds_trunk *t, const struct ds_rows *rows, struct ds_error *err);

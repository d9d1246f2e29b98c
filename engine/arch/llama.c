/* llama.c - Llama, Qwen2 and Qwen3: grouped-query attention (arXiv:2305.13245) and a gated feed-forward block a layer.
 *
 * They differ in details that the hyperparameters tell: Qwen2 has biases on queries, keys and values, Qwen3 normalises
 * each head of queries and keys before it is rotated. Rotation pairs element i of a head with i + head_dim / 2.
 *
 * In shapes: n rows of a step, heads h, key heads g (each serves h / g heads in a row), hd = head_dim. */
#include "trunk.h"

#include <math.h>

struct layer {
	const float *attention_norm, *ffn_norm;
	struct ds_weight q, k, v, attention_output;
	const float *q_bias, *k_bias, *v_bias, *output_bias; /* NULL: none */
	const float *q_norm, *k_norm;                        /* (hd) of all heads; NULL: none */
	struct ds_swiglu ffn;
	struct ds_kv keys, values;
};

struct llama {
	struct ds_trunk t;
	float scale;          /* of attention scores */
	struct layer *layers; /* [n_layers] */
	float *q, *mixed;     /* (n, h, hd): queries, and the values that attention mixed */
	float *k, *v;         /* (n, g, hd) */
};

/* ---- hyperparameters ---- */

static const struct ds_limit limits[] = {
	DS_LIMIT(ff, 1, DS_MAX_FF), DS_LIMIT(n_kv_heads, 1, DS_MAX_HEADS), DS_LIMIT(head_dim, 2, DS_MAX_HEAD_DIM),
	DS_LIMIT(qkv_bias, 0, 1),  DS_LIMIT(qk_norm, 0, 1),       DS_LIMIT(n_experts, 0, 0),
	DS_LIMIT(n_mtp, 0, 0),
};

static int llama_check(const struct ds_hparams *p, struct ds_error *err)
{
	int r = ds_limits_check(p, limits, DS_ARRAY_SIZE(limits), err);

	if (r < 0)
		return r;
	if (p->head_dim % 2 != 0)
		return ds_fail(err, -EINVAL, "hyperparameter head_dim is %u, which is odd", p->head_dim);
	if (p->n_heads % p->n_kv_heads != 0)
		return ds_fail(err, -EINVAL, "%u heads cannot share %u key heads", p->n_heads, p->n_kv_heads);
	return ds_trunk_check(p, p->head_dim, err);
}

/* hd^(-1/2), and YaRN's magnitude for queries and keys alike: all of a head is rotated, so that scaling cosines and
 * sines is the same as scaling the scores by its square. */
static float attention_scale(const struct ds_hparams *p)
{
	double m = p->rope_scaling == DS_ROPE_YARN && p->rope_magnitude != 0 ? p->rope_magnitude : 1;

	return (float)(m * m / sqrt((double)p->head_dim));
}

/* ---- binding ---- */

static void bind_attention(struct ds_bind *bind, struct layer *layer, const struct ds_hparams *p, const char *name)
{
	uint64_t q_width = (uint64_t)p->n_heads * p->head_dim, kv_width = (uint64_t)p->n_kv_heads * p->head_dim;

	ds_bind_weight(bind, &layer->q, 0, q_width, p->hidden, "%s.q", name);
	ds_bind_weight(bind, &layer->k, 0, kv_width, p->hidden, "%s.k", name);
	ds_bind_weight(bind, &layer->v, 0, kv_width, p->hidden, "%s.v", name);
	ds_bind_weight(bind, &layer->attention_output, 0, p->hidden, q_width, "%s.attention_output", name);
	if (p->qkv_bias) {
		ds_bind_vector(bind, &layer->q_bias, q_width, "%s.q_bias", name);
		ds_bind_vector(bind, &layer->k_bias, kv_width, "%s.k_bias", name);
		ds_bind_vector(bind, &layer->v_bias, kv_width, "%s.v_bias", name);
	}
	ds_bind_optional_vector(bind, &layer->output_bias, p->hidden, "%s.attention_output_bias", name);
	if (p->qk_norm) {
		ds_bind_vector(bind, &layer->q_norm, p->head_dim, "%s.q_norm", name);
		ds_bind_vector(bind, &layer->k_norm, p->head_dim, "%s.k_norm", name);
	}
}

static void bind_layer(struct ds_bind *bind, struct llama *m, struct layer *layer, const char *name)
{
	const struct ds_hparams *p = &m->t.p;

	ds_bind_vector(bind, &layer->attention_norm, p->hidden, "%s.attention_norm", name);
	bind_attention(bind, layer, p, name);
	ds_bind_vector(bind, &layer->ffn_norm, p->hidden, "%s.ffn_norm", name);
	ds_swiglu_bind(bind, &layer->ffn, p, p->ff, name, "ffn");
	layer->keys = ds_trunk_take_kv(&m->t, bind, p->n_kv_heads * p->head_dim);
	layer->values = ds_trunk_take_kv(&m->t, bind, p->n_kv_heads * p->head_dim);
}

static void llama_close(void *self)
{
	struct llama *m = self;

	if (!m)
		return;
	ds_trunk_close(&m->t);
	free(m->layers);
	free(m);
}

static void llama_closep(struct llama **m)
{
	llama_close(*m);
}

static int llama_open(void **self, const struct ds_arch_setup *setup, struct ds_error *err)
{
	ds_cleanup(llama_closep) struct llama *m = calloc(1, sizeof(*m));
	const struct ds_hparams *p = ds_image_hparams(setup->image);
	struct ds_bind bind = {.setup = setup, .err = err};
	uint64_t n = setup->max_rows;

	if (!m)
		return ds_fail(err, -ENOMEM, "no memory for the model");
	m->scale = attention_scale(p);
	m->layers = calloc(p->n_layers, sizeof(*m->layers));
	if (!m->layers)
		return ds_fail(err, -ENOMEM, "no memory for %u layers", p->n_layers);
	ds_trunk_open(&m->t, &bind, p->head_dim, p->ff);
	for (uint32_t i = 0; i < p->n_layers; i++) {
		char name[24];

		snprintf(name, sizeof(name), "layers.%u", i);
		bind_layer(&bind, m, &m->layers[i], name);
	}
	m->q = ds_trunk_take(&m->t, &bind, n * p->n_heads, p->head_dim, sizeof(float));
	m->mixed = ds_trunk_take(&m->t, &bind, n * p->n_heads, p->head_dim, sizeof(float));
	m->k = ds_trunk_take(&m->t, &bind, n * p->n_kv_heads, p->head_dim, sizeof(float));
	m->v = ds_trunk_take(&m->t, &bind, n * p->n_kv_heads, p->head_dim, sizeof(float));
	if (bind.result < 0)
		return bind.result;
	*self = ds_steal(&m);
	return 0;
}

/* Keys and values of every key head. */
static uint64_t llama_kv_size(const struct ds_hparams *p, enum ds_dtype kv_dtype)
{
	return 2ull * p->n_layers * ds_row_size(kv_dtype, (uint64_t)p->n_kv_heads * p->head_dim);
}

/* ---- the forward pass ---- */

/* q, k and v = u * w^T + bias */
static void project(struct llama *m, const struct layer *layer, uint32_t n)
{
	struct ds_trunk *t = &m->t;
	const float *biases[] = {layer->q_bias, layer->k_bias, layer->v_bias};
	struct ds_matmul ops[] = {
		{.y = m->q, .x = t->u, .w = &layer->q, .n = n},
		{.y = m->k, .x = t->u, .w = &layer->k, .n = n},
		{.y = m->v, .x = t->u, .w = &layer->v, .n = n},
	};

	t->ops->matmul(t->backend, ops, DS_ARRAY_SIZE(ops));
	for (size_t i = 0; i < DS_ARRAY_SIZE(ops); i++)
		if (biases[i])
			t->ops->add_bias(t->backend, ops[i].y, biases[i], (uint32_t)ops[i].w->rows, n);
}

/* Norm, if there is one, and rotate @n_heads heads a row of @x. */
static void place(struct llama *m, float *x, const float *norm, uint32_t n_heads, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;
	uint32_t hd = t->p.head_dim;

	if (norm)
		ds_norm(t, x, x, norm, hd, rows->n * n_heads);
	t->ops->rope(t->backend, &(struct ds_rope){.x = x,
						   .frequencies = t->frequencies,
						   .rows = rows,
						   .n_heads = n_heads,
						   .width = hd,
						   .row_stride = n_heads * hd,
						   .head_stride = hd,
						   .halves = true});
}

static void attention(struct llama *m, const struct layer *layer, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	uint32_t n = rows->n, kv_width = p->n_kv_heads * p->head_dim;
	const struct ds_backend_ops *ops = t->ops;

	ds_norm(t, t->u, t->x, layer->attention_norm, p->hidden, n);
	project(m, layer, n);
	place(m, m->q, layer->q_norm, p->n_heads, rows);
	place(m, m->k, layer->k_norm, p->n_kv_heads, rows);
	ops->kv_store(t->backend, &layer->keys, m->k, kv_width, rows);
	ops->kv_store(t->backend, &layer->values, m->v, kv_width, rows);
	ops->attention(t->backend, &(struct ds_attention){.y = m->mixed,
							  .q = m->q,
							  .k = &layer->keys,
							  .v = &layer->values,
							  .rows = rows,
							  .n_heads = p->n_heads,
							  .n_kv_heads = p->n_kv_heads,
							  .head_dim = p->head_dim,
							  .scale = m->scale});
	ds_matmul_add(t, t->x, m->mixed, &layer->attention_output, n);
	if (layer->output_bias)
		ops->add_bias(t->backend, t->x, layer->output_bias, p->hidden, n);
}

static void llama_forward(void *self, const struct ds_rows *rows)
{
	struct llama *m = self;
	struct ds_trunk *t = &m->t;

	ds_trunk_embed(t, rows);
	for (uint32_t i = 0; i < t->p.n_layers; i++) {
		attention(m, &m->layers[i], rows);
		ds_norm(t, t->u, t->x, m->layers[i].ffn_norm, t->p.hidden, rows->n);
		ds_trunk_feed_forward(t, &m->layers[i].ffn, rows->n);
	}
	ds_trunk_finish(t, rows->n);
}

static int llama_logits(void *self, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err)
{
	struct llama *m = self;

	return ds_trunk_logits(&m->t, indices, n, logits, err);
}

static int llama_fill(void *self, const struct ds_rows *rows, struct ds_error *err)
{
	struct llama *m = self;

	return ds_trunk_fill(&m->t, rows, err);
}

const struct ds_arch ds_arch_llama = {
	.name = "llama",
	.check = llama_check,
	.kv_size = llama_kv_size,
	.open = llama_open,
	.close = llama_close,
	.forward = llama_forward,
	.logits = llama_logits,
	.fill = llama_fill,
};

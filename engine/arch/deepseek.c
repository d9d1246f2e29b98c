/* deepseek.c - DeepSeek-V2, V3 and R1: multi-head latent attention (MLA), mixture of experts, multi-token prediction.
 *
 * After DeepSeek-V2 (arXiv:2405.04434, MLA: section 2.1), DeepSeek-V3 (arXiv:2412.19437, gate: section 2.1.2, MTP: section
 * 2.2) and YaRN (arXiv:2309.00071). Attention runs in absorbed form: the cache holds the latent c_t and the shared rotary
 * key k_t of a token, and the key and value halves of kv_b are applied to queries and to mixed latents instead.
 *
 * In shapes: n rows of a step, heads h, dk = qk_nope, dr = qk_rope, dv = v_head, r = kv_lora, k = experts used. */
#include "arch.h"

#include <math.h>
#include <string.h>

struct swiglu_weights {
	struct ds_weight gate, up, down;
};

struct layer {
	const float *attention_norm, *q_a_norm, *kv_a_norm, *ffn_norm;
	struct ds_weight q, q_a, q_b, kv_a, k_b, v_b, attention_output;
	bool moe;
	struct swiglu_weights ffn; /* the dense one, or the shared experts */
	struct ds_weight router, experts_gate, experts_up, experts_down;
	const float *router_bias;
	struct ds_kv kv;
};

struct mtp {
	const float *embedding_norm, *hidden_norm, *output_norm;
	struct ds_weight projection, token_embedding, output;
	struct layer layer;
};

#define MAX_BUFFERS (513 + 32) /* one a layer of KV, those of activations */

struct deepseek {
	struct ds_hparams p;
	const struct ds_backend_ops *ops;
	void *backend;
	uint32_t max_rows;
	float scale; /* of attention scores */

	struct ds_weight token_embedding, output;
	const float *output_norm;
	struct layer *layers; /* [n_layers] */
	struct mtp *mtp;      /* NULL without */
	/* What logits() reads: the states of the last forward() or draft(), and the matrix that belongs to them. */
	const float *last_states;
	const struct ds_weight *last_output;

	float *frequencies;	       /* (dr / 2) */
	float *x, *u;		       /* (n, hidden): the residual stream, and what a block reads of it */
	float *q_latent;	       /* (n, q_lora) */
	float *q;		       /* (n, h, dk + dr) */
	float *kv_row;		       /* (n, r + dr) */
	float *q_absorbed, *z;	       /* (n, h, r) */
	float *values;		       /* (n, h, dv) */
	float *gate, *up;	       /* (n, widest dense) */
	float *scores, *weights;       /* (n, experts), (n, k) */
	uint32_t *ids;		       /* (n, k) */
	float *expert_gate, *expert_up; /* (n * k, moe_ff) */
	float *expert_out;	       /* (n * k, hidden) */
	float *states;		       /* (n, hidden), after the last norm */
	float *pair, *draft_states;    /* (n, 2 * hidden), (n, hidden), mtp only */
	float *picked, *logits;	       /* (max_logits, hidden), (max_logits, vocab) */

	void *buffers[MAX_BUFFERS];
	unsigned n_buffers;
};

/* ---- hyperparameters ---- */

struct limit {
	const char *name;
	size_t offset;
	uint32_t min, max;
};

#define LIMIT(field, min, max) {#field, offsetof(struct ds_hparams, field), min, max}

/* Wide enough for anything that was ever published, narrow enough that no product of two overflows 32 bits. */
static const struct limit limits[] = {
	LIMIT(vocab, 1, 1u << 20),
	LIMIT(hidden, 1, 1u << 15),
	LIMIT(n_layers, 1, 512),
	LIMIT(n_heads, 1, 1024),
	LIMIT(context, 1, 1u << 24),
	LIMIT(ff, 0, 1u << 18),
	LIMIT(rope_scaling, DS_ROPE_PLAIN, DS_ROPE_YARN),
	LIMIT(q_lora, 0, 1u << 15),
	LIMIT(kv_lora, 1, 1u << 13),
	LIMIT(qk_nope, 1, 1u << 10),
	LIMIT(qk_rope, 2, 1u << 10),
	LIMIT(v_head, 1, 1u << 10),
	LIMIT(n_experts, 0, 1u << 12),
	LIMIT(n_mtp, 0, 8),
};

static const struct limit expert_limits[] = {
	LIMIT(n_experts_used, 1, 64),
	LIMIT(n_shared, 0, 64),
	LIMIT(moe_ff, 1, 1u << 16),
	LIMIT(first_dense, 0, 512),
	LIMIT(expert_scoring, DS_SCORING_SOFTMAX, DS_SCORING_SIGMOID),
	LIMIT(n_groups, 1, 1u << 12),
	LIMIT(n_groups_used, 1, 1u << 12),
	LIMIT(normalize_weights, 0, 1),
};

static int check_limits(const struct ds_hparams *p, const struct limit *list, size_t n, struct ds_error *err)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t value;

		memcpy(&value, (const char *)p + list[i].offset, sizeof(value));
		if (value < list[i].min || value > list[i].max)
			return ds_fail(err, -EINVAL, "hyperparameter %s is %u (allowed: %u to %u)", list[i].name, value,
				       list[i].min, list[i].max);
	}
	return 0;
}

static int check_experts(const struct ds_hparams *p, struct ds_error *err)
{
	int r = check_limits(p, expert_limits, DS_ARRAY_SIZE(expert_limits), err);

	if (r < 0)
		return r;
	if (p->n_experts % p->n_groups != 0)
		return ds_fail(err, -EINVAL, "%u experts cannot be split into %u groups", p->n_experts, p->n_groups);
	if (p->n_groups_used > p->n_groups)
		return ds_fail(err, -EINVAL, "%u of %u expert groups cannot be used", p->n_groups_used, p->n_groups);
	if (p->n_experts_used > p->n_groups_used * (p->n_experts / p->n_groups))
		return ds_fail(err, -EINVAL, "%u experts cannot be chosen from %u of %u groups of %u", p->n_experts_used,
			       p->n_groups_used, p->n_groups, p->n_experts / p->n_groups);
	if (!isfinite(p->routed_scale))
		return ds_fail(err, -EINVAL, "hyperparameter routed_scale is not a number");
	return 0;
}

static bool has_experts(const struct ds_hparams *p, uint32_t layer)
{
	return p->n_experts > 0 && layer >= p->first_dense;
}

static int deepseek_check(const struct ds_hparams *p, struct ds_error *err)
{
	int r = check_limits(p, limits, DS_ARRAY_SIZE(limits), err);

	if (r == 0 && p->n_experts > 0)
		r = check_experts(p, err);
	if (r < 0)
		return r;
	if (p->qk_rope % 2 != 0)
		return ds_fail(err, -EINVAL, "hyperparameter qk_rope is %u, which is odd", p->qk_rope);
	if (p->ff == 0 && !has_experts(p, 0))
		return ds_fail(err, -EINVAL, "hyperparameter ff is 0, but the first layer is dense");
	if (!(p->norm_eps > 0 && p->norm_eps < 1))
		return ds_fail(err, -EINVAL, "hyperparameter norm_eps is %g (allowed: between 0 and 1)", p->norm_eps);
	if (!(p->rope_theta > 1 && isfinite(p->rope_theta)))
		return ds_fail(err, -EINVAL, "hyperparameter rope_theta is %g (allowed: above 1)", p->rope_theta);
	if (p->rope_scaling == DS_ROPE_YARN &&
	    !(p->rope_factor > 0 && isfinite(p->rope_factor) && p->rope_beta_fast > 0 && isfinite(p->rope_beta_fast) &&
	      p->rope_beta_slow > 0 && isfinite(p->rope_beta_slow) && isfinite(p->rope_mscale_all_dim) &&
	      p->rope_original_context > 0))
		return ds_fail(err, -EINVAL, "the hyperparameters of YaRN (rope_factor, beta, mscale) make no sense");
	return 0;
}

/* ---- rotary position embedding ---- */

/* The dimension whose wave turns @turns times within the original context (YaRN, section 3.2). */
static double turning_dimension(const struct ds_hparams *p, double turns)
{
	return p->qk_rope * log(p->rope_original_context / (2 * M_PI * turns)) / (2 * log((double)p->rope_theta));
}

/* f_i = theta^(-2i / dr). With YaRN, slow waves are stretched by the factor, fast ones stay, those between are blended:
 * f_i * (1 - ramp) + f_i / factor * ramp, ramp rising from 0 to 1 between the dimensions of beta_fast and beta_slow. */
static float frequency(const struct ds_hparams *p, uint32_t i)
{
	double f = pow((double)p->rope_theta, -2.0 * i / p->qk_rope);
	double low, high, ramp;

	if (p->rope_scaling != DS_ROPE_YARN)
		return (float)f;
	low = fmax(floor(turning_dimension(p, p->rope_beta_fast)), 0);
	high = fmin(ceil(turning_dimension(p, p->rope_beta_slow)), p->qk_rope - 1.0);
	ramp = (i - low) / (high == low ? 0.001 : high - low);
	ramp = fmin(fmax(ramp, 0), 1);
	return (float)(f / p->rope_factor * ramp + f * (1 - ramp));
}

/* (dk + dr)^(-1/2) * m^2 with m = 0.1 * mscale_all_dim * ln(factor) + 1: DeepSeek scales the scores instead of the
 * rotations, as the configuration of every published checkpoint says, whatever the length of the text. */
static float attention_scale(const struct ds_hparams *p)
{
	double m = 1;

	if (p->rope_scaling == DS_ROPE_YARN && p->rope_factor > 1)
		m = 0.1 * p->rope_mscale_all_dim * log((double)p->rope_factor) + 1;
	return (float)(m * m / sqrt((double)(p->qk_nope + p->qk_rope)));
}

/* ---- binding ---- */

static void bind_ffn(struct ds_bind *bind, struct swiglu_weights *ffn, const struct ds_hparams *p, uint64_t width,
		     const char *layer, const char *kind)
{
	ds_bind_weight(bind, &ffn->gate, 0, width, p->hidden, "%s.%s_gate", layer, kind);
	ds_bind_weight(bind, &ffn->up, 0, width, p->hidden, "%s.%s_up", layer, kind);
	ds_bind_weight(bind, &ffn->down, 0, p->hidden, width, "%s.%s_down", layer, kind);
}

static void bind_experts(struct ds_bind *bind, struct layer *layer, const struct ds_hparams *p, const char *name)
{
	ds_bind_weight(bind, &layer->router, 0, p->n_experts, p->hidden, "%s.router", name);
	if (p->expert_scoring == DS_SCORING_SIGMOID)
		ds_bind_vector(bind, &layer->router_bias, p->n_experts, "%s.router_bias", name);
	ds_bind_weight(bind, &layer->experts_gate, p->n_experts, p->moe_ff, p->hidden, "%s.experts_gate", name);
	ds_bind_weight(bind, &layer->experts_up, p->n_experts, p->moe_ff, p->hidden, "%s.experts_up", name);
	ds_bind_weight(bind, &layer->experts_down, p->n_experts, p->hidden, p->moe_ff, "%s.experts_down", name);
	if (p->n_shared > 0)
		bind_ffn(bind, &layer->ffn, p, (uint64_t)p->n_shared * p->moe_ff, name, "shared");
}

static void bind_attention(struct ds_bind *bind, struct layer *layer, const struct ds_hparams *p, const char *name)
{
	uint64_t q_width = (uint64_t)p->n_heads * (p->qk_nope + p->qk_rope);

	if (p->q_lora > 0) {
		ds_bind_weight(bind, &layer->q_a, 0, p->q_lora, p->hidden, "%s.q_a", name);
		ds_bind_vector(bind, &layer->q_a_norm, p->q_lora, "%s.q_a_norm", name);
		ds_bind_weight(bind, &layer->q_b, 0, q_width, p->q_lora, "%s.q_b", name);
	} else {
		ds_bind_weight(bind, &layer->q, 0, q_width, p->hidden, "%s.q", name);
	}
	ds_bind_weight(bind, &layer->kv_a, 0, p->kv_lora + p->qk_rope, p->hidden, "%s.kv_a", name);
	ds_bind_vector(bind, &layer->kv_a_norm, p->kv_lora, "%s.kv_a_norm", name);
	ds_bind_weight(bind, &layer->k_b, p->n_heads, p->kv_lora, p->qk_nope, "%s.k_b", name);
	ds_bind_weight(bind, &layer->v_b, p->n_heads, p->v_head, p->kv_lora, "%s.v_b", name);
	ds_bind_weight(bind, &layer->attention_output, 0, p->hidden, (uint64_t)p->n_heads * p->v_head,
		       "%s.attention_output", name);
}

static void *take(struct ds_bind *bind, struct deepseek *m, uint64_t n, uint64_t width, uint64_t element_size)
{
	void *p = ds_bind_alloc(bind, n, width, element_size);

	if (p)
		m->buffers[m->n_buffers++] = p;
	return p;
}

static void bind_layer(struct ds_bind *bind, struct deepseek *m, struct layer *layer, uint32_t index, const char *name)
{
	const struct ds_hparams *p = &m->p;
	const struct ds_arch_setup *setup = bind->setup;

	ds_bind_vector(bind, &layer->attention_norm, p->hidden, "%s.attention_norm", name);
	bind_attention(bind, layer, p, name);
	ds_bind_vector(bind, &layer->ffn_norm, p->hidden, "%s.ffn_norm", name);
	layer->moe = has_experts(p, index);
	if (layer->moe)
		bind_experts(bind, layer, p, name);
	else
		bind_ffn(bind, &layer->ffn, p, p->ff, name, "ffn");
	layer->kv = (struct ds_kv){.dtype = setup->kv_dtype, .page_tokens = setup->page_tokens,
				   .width = p->kv_lora + p->qk_rope};
	layer->kv.data = take(bind, m, (uint64_t)setup->n_pages * setup->page_tokens, layer->kv.width,
			      ds_dtype_size(setup->kv_dtype));
}

/* The block's own tensor where the image has one, else the main model's. */
static void bind_or_share(struct ds_bind *bind, struct ds_weight *weight, const struct ds_weight *main, const char *name)
{
	if (ds_image_tensor(bind->setup->image, name))
		ds_bind_weight(bind, weight, 0, main->rows, main->cols, "%s", name);
	else
		*weight = *main;
}

/* Only the first block: the later ones are for longer drafts. */
static void bind_mtp(struct ds_bind *bind, struct deepseek *m)
{
	const struct ds_hparams *p = &m->p;
	struct mtp *mtp = m->mtp;

	ds_bind_vector(bind, &mtp->embedding_norm, p->hidden, "mtp.0.embedding_norm");
	ds_bind_vector(bind, &mtp->hidden_norm, p->hidden, "mtp.0.hidden_norm");
	ds_bind_vector(bind, &mtp->output_norm, p->hidden, "mtp.0.output_norm");
	ds_bind_weight(bind, &mtp->projection, 0, p->hidden, 2ull * p->hidden, "mtp.0.projection");
	bind_or_share(bind, &mtp->token_embedding, &m->token_embedding, "mtp.0.token_embedding");
	bind_or_share(bind, &mtp->output, &m->output, "mtp.0.output");
	bind_layer(bind, m, &mtp->layer, p->n_layers, "mtp.0.layer");
	m->pair = take(bind, m, m->max_rows, 2ull * p->hidden, sizeof(float));
	m->draft_states = take(bind, m, m->max_rows, p->hidden, sizeof(float));
}

static void take_activations(struct ds_bind *bind, struct deepseek *m)
{
	const struct ds_hparams *p = &m->p;
	uint64_t n = m->max_rows, shared = (uint64_t)p->n_shared * p->moe_ff, dense = p->ff > shared ? p->ff : shared;
	uint64_t pairs = n * p->n_experts_used;

	m->frequencies = take(bind, m, 1, p->qk_rope / 2, sizeof(float));
	m->x = take(bind, m, n, p->hidden, sizeof(float));
	m->u = take(bind, m, n, p->hidden, sizeof(float));
	m->q_latent = take(bind, m, n, p->q_lora, sizeof(float));
	m->q = take(bind, m, n * p->n_heads, p->qk_nope + p->qk_rope, sizeof(float));
	m->kv_row = take(bind, m, n, p->kv_lora + p->qk_rope, sizeof(float));
	m->q_absorbed = take(bind, m, n * p->n_heads, p->kv_lora, sizeof(float));
	m->z = take(bind, m, n * p->n_heads, p->kv_lora, sizeof(float));
	m->values = take(bind, m, n * p->n_heads, p->v_head, sizeof(float));
	m->gate = take(bind, m, n, dense, sizeof(float));
	m->up = take(bind, m, n, dense, sizeof(float));
	m->states = take(bind, m, n, p->hidden, sizeof(float));
	m->picked = take(bind, m, bind->setup->max_logits, p->hidden, sizeof(float));
	m->logits = take(bind, m, bind->setup->max_logits, p->vocab, sizeof(float));
	if (p->n_experts == 0)
		return;
	m->scores = take(bind, m, n, p->n_experts, sizeof(float));
	m->weights = take(bind, m, pairs, 1, sizeof(float));
	m->ids = take(bind, m, pairs, 1, sizeof(uint32_t));
	m->expert_gate = take(bind, m, pairs, p->moe_ff, sizeof(float));
	m->expert_up = take(bind, m, pairs, p->moe_ff, sizeof(float));
	m->expert_out = take(bind, m, pairs, p->hidden, sizeof(float));
}

static void write_frequencies(struct deepseek *m)
{
	float frequencies[512];

	for (uint32_t i = 0; i < m->p.qk_rope / 2; i++)
		frequencies[i] = frequency(&m->p, i);
	m->ops->write(m->backend, m->frequencies, frequencies, m->p.qk_rope / 2 * sizeof(float));
}

static void deepseek_close(void *self)
{
	struct deepseek *m = self;

	if (!m)
		return;
	for (unsigned i = 0; i < m->n_buffers; i++)
		m->ops->release(m->backend, m->buffers[i]);
	free(m->layers);
	free(m->mtp);
	free(m);
}

static void deepseek_closep(struct deepseek **m)
{
	deepseek_close(*m);
}

static int deepseek_open(void **self, const struct ds_arch_setup *setup, struct ds_error *err)
{
	ds_cleanup(deepseek_closep) struct deepseek *m = calloc(1, sizeof(*m));
	struct ds_bind bind = {.setup = setup, .err = err};
	const struct ds_hparams *p;

	if (!m)
		return ds_fail(err, -ENOMEM, "no memory for the model");
	m->p = *ds_image_hparams(setup->image);
	p = &m->p;
	m->ops = setup->ops;
	m->backend = setup->backend;
	m->max_rows = setup->max_rows;
	m->scale = attention_scale(p);
	m->layers = calloc(p->n_layers, sizeof(*m->layers));
	m->mtp = p->n_mtp > 0 ? calloc(1, sizeof(*m->mtp)) : NULL;
	if (!m->layers || (p->n_mtp > 0 && !m->mtp))
		return ds_fail(err, -ENOMEM, "no memory for %u layers", p->n_layers);

	ds_bind_weight(&bind, &m->token_embedding, 0, p->vocab, p->hidden, "token_embedding");
	ds_bind_vector(&bind, &m->output_norm, p->hidden, "output_norm");
	ds_bind_weight(&bind, &m->output, 0, p->vocab, p->hidden, "output");
	for (uint32_t i = 0; i < p->n_layers; i++) {
		char name[24];

		snprintf(name, sizeof(name), "layers.%u", i);
		bind_layer(&bind, m, &m->layers[i], i, name);
	}
	if (m->mtp)
		bind_mtp(&bind, m);
	take_activations(&bind, m);
	if (bind.result < 0)
		return bind.result;
	write_frequencies(m);
	*self = ds_steal(&m);
	return 0;
}

static uint64_t deepseek_kv_size(const struct ds_hparams *p, enum ds_dtype kv_dtype)
{
	uint64_t n_layers = p->n_layers + (p->n_mtp > 0);

	return n_layers * (p->kv_lora + p->qk_rope) * ds_dtype_size(kv_dtype);
}

/* ---- the forward pass ---- */

static void matmul(struct deepseek *m, float *y, const float *x, const struct ds_weight *w, uint32_t n)
{
	m->ops->matmul(m->backend, &(struct ds_matmul){.y = y, .x = x, .w = w, .n = n});
}

/* y += x * w^T: what a block adds to the residual stream. */
static void matmul_add(struct deepseek *m, float *y, const float *x, const struct ds_weight *w, uint32_t n)
{
	m->ops->matmul(m->backend, &(struct ds_matmul){.y = y, .x = x, .w = w, .n = n, .add = true});
}

static void norm(struct deepseek *m, float *y, const float *x, const float *weight, uint32_t width, uint32_t n)
{
	m->ops->rms_norm(m->backend, y, width, x, width, weight, width, n, m->p.norm_eps);
}

/* q (n, h, dk + dr) from u, its last dr elements rotated. */
static void queries(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	const struct ds_hparams *p = &m->p;
	uint32_t head = p->qk_nope + p->qk_rope;

	if (p->q_lora > 0) {
		matmul(m, m->q_latent, m->u, &layer->q_a, rows->n);
		norm(m, m->q_latent, m->q_latent, layer->q_a_norm, p->q_lora, rows->n);
		matmul(m, m->q, m->q_latent, &layer->q_b, rows->n);
	} else {
		matmul(m, m->q, m->u, &layer->q, rows->n);
	}
	m->ops->rope(m->backend, &(struct ds_rope){.x = m->q + p->qk_nope, .frequencies = m->frequencies, .rows = rows,
						   .n_heads = p->n_heads, .width = p->qk_rope,
						   .row_stride = p->n_heads * head, .head_stride = head});
}

/* (c_t | k_t) (n, r + dr) from u into the cache: the latent normed, the shared key rotated but not normed. */
static void keys_and_values(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	const struct ds_hparams *p = &m->p;
	uint32_t width = p->kv_lora + p->qk_rope;

	matmul(m, m->kv_row, m->u, &layer->kv_a, rows->n);
	m->ops->rms_norm(m->backend, m->kv_row, width, m->kv_row, width, layer->kv_a_norm, p->kv_lora, rows->n,
			 p->norm_eps);
	m->ops->rope(m->backend, &(struct ds_rope){.x = m->kv_row + p->kv_lora, .frequencies = m->frequencies,
						   .rows = rows, .n_heads = 1, .width = p->qk_rope, .row_stride = width,
						   .head_stride = p->qk_rope});
	m->ops->kv_store(m->backend, &layer->kv, m->kv_row, width, rows);
}

static void attention(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	const struct ds_hparams *p = &m->p;
	uint32_t h = p->n_heads, r = p->kv_lora, head = p->qk_nope + p->qk_rope;

	norm(m, m->u, m->x, layer->attention_norm, p->hidden, rows->n);
	queries(m, layer, rows);
	keys_and_values(m, layer, rows);
	m->ops->head_matmul(m->backend, &(struct ds_head_matmul){.y = m->q_absorbed, .x = m->q, .w = &layer->k_b,
								 .n = rows->n, .x_row_stride = h * head,
								 .x_head_stride = head, .y_row_stride = h * r,
								 .y_head_stride = r});
	m->ops->latent_attention(m->backend, &(struct ds_latent_attention){
		.z = m->z, .q = m->q_absorbed, .q_rope = m->q + p->qk_nope, .q_rope_row_stride = h * head,
		.q_rope_head_stride = head, .kv = &layer->kv, .rows = rows, .n_heads = h, .kv_lora = r,
		.qk_rope = p->qk_rope, .scale = m->scale});
	m->ops->head_matmul(m->backend, &(struct ds_head_matmul){.y = m->values, .x = m->z, .w = &layer->v_b,
								 .n = rows->n, .x_row_stride = h * r, .x_head_stride = r,
								 .y_row_stride = h * p->v_head,
								 .y_head_stride = p->v_head});
	matmul_add(m, m->x, m->values, &layer->attention_output, rows->n);
}

/* x += down(silu(gate(u)) * up(u)) */
static void feed_forward(struct deepseek *m, const struct swiglu_weights *ffn, uint32_t n)
{
	matmul(m, m->gate, m->u, &ffn->gate, n);
	matmul(m, m->up, m->u, &ffn->up, n);
	m->ops->swiglu(m->backend, m->gate, m->gate, m->up, n * ffn->gate.rows);
	matmul_add(m, m->x, m->gate, &ffn->down, n);
}

static void expert_matmul(struct deepseek *m, float *y, const float *x, const struct ds_weight *w, uint32_t n,
			  bool shared_input)
{
	m->ops->expert_matmul(m->backend, &(struct ds_expert_matmul){.y = y, .x = x, .w = w, .ids = m->ids, .n = n,
								     .k = m->p.n_experts_used,
								     .shared_input = shared_input});
}

/* x += sum_i weight_i * expert_i(u) */
static void routed_experts(struct deepseek *m, const struct layer *layer, uint32_t n)
{
	const struct ds_hparams *p = &m->p;
	uint32_t k = p->n_experts_used;

	matmul(m, m->scores, m->u, &layer->router, n);
	m->ops->route(m->backend, &(struct ds_route){.ids = m->ids, .weights = m->weights, .logits = m->scores,
						     .bias = layer->router_bias, .n = n, .n_experts = p->n_experts,
						     .k = k, .n_groups = p->n_groups, .n_groups_used = p->n_groups_used,
						     .scoring = p->expert_scoring, .normalize = p->normalize_weights,
						     .scale = p->routed_scale});
	expert_matmul(m, m->expert_gate, m->u, &layer->experts_gate, n, true);
	expert_matmul(m, m->expert_up, m->u, &layer->experts_up, n, true);
	m->ops->swiglu(m->backend, m->expert_gate, m->expert_gate, m->expert_up, (uint64_t)n * k * p->moe_ff);
	expert_matmul(m, m->expert_out, m->expert_gate, &layer->experts_down, n, false);
	m->ops->expert_sum(m->backend, m->x, m->expert_out, m->weights, p->hidden, n, k);
}

static void decoder_layer(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	attention(m, layer, rows);
	norm(m, m->u, m->x, layer->ffn_norm, m->p.hidden, rows->n);
	if (layer->moe)
		routed_experts(m, layer, rows->n);
	if (!layer->moe || m->p.n_shared > 0)
		feed_forward(m, &layer->ffn, rows->n);
}

static void deepseek_forward(void *self, const struct ds_rows *rows)
{
	struct deepseek *m = self;

	m->ops->embed(m->backend, m->x, &m->token_embedding, rows->tokens, rows->n);
	for (uint32_t i = 0; i < m->p.n_layers; i++)
		decoder_layer(m, &m->layers[i], rows);
	norm(m, m->states, m->x, m->output_norm, m->p.hidden, rows->n);
	m->last_states = m->states;
	m->last_output = &m->output;
}

/* x = projection * [norm(embedding of the next token) | norm(state)], then one whole layer (DeepSeek-V3, equations 21 to
 * 23). The paper leaves open whether the state is taken before or after the main model's last norm: after, as measured
 * acceptance of the published weights asks for. */
static void deepseek_draft(void *self, const struct ds_rows *rows, const uint32_t *indices)
{
	struct deepseek *m = self;
	const struct mtp *mtp = m->mtp;
	uint32_t hidden = m->p.hidden, n = rows->n;

	m->ops->embed(m->backend, m->x, &mtp->token_embedding, rows->tokens, n);
	m->ops->gather(m->backend, m->u, m->states, indices, hidden, n);
	m->ops->rms_norm(m->backend, m->pair, 2 * hidden, m->x, hidden, mtp->embedding_norm, hidden, n, m->p.norm_eps);
	m->ops->rms_norm(m->backend, m->pair + hidden, 2 * hidden, m->u, hidden, mtp->hidden_norm, hidden, n,
			 m->p.norm_eps);
	matmul(m, m->x, m->pair, &mtp->projection, n);
	decoder_layer(m, &mtp->layer, rows);
	norm(m, m->draft_states, m->x, mtp->output_norm, hidden, n);
	m->last_states = m->draft_states;
	m->last_output = &mtp->output;
}

static int deepseek_logits(void *self, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err)
{
	struct deepseek *m = self;

	m->ops->gather(m->backend, m->picked, m->last_states, indices, m->p.hidden, n);
	matmul(m, m->logits, m->picked, m->last_output, n);
	m->ops->read(m->backend, logits, m->logits, (uint64_t)n * m->p.vocab * sizeof(float));
	return m->ops->sync(m->backend, err);
}

const struct ds_arch ds_arch_deepseek = {
	.name = "deepseek",
	.check = deepseek_check,
	.kv_size = deepseek_kv_size,
	.open = deepseek_open,
	.close = deepseek_close,
	.forward = deepseek_forward,
	.draft = deepseek_draft,
	.logits = deepseek_logits,
};

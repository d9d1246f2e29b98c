/* deepseek.c - DeepSeek-V2, V3 and R1: multi-head latent attention (MLA), mixture of experts, multi-token prediction.
 *
 * After DeepSeek-V2 (arXiv:2405.04434, MLA: section 2.1), DeepSeek-V3 (arXiv:2412.19437, gate: section 2.1.2, MTP:
 * section 2.2) and YaRN (arXiv:2309.00071). The cache holds the latent c_t and the shared rotary key k_t of a token.
 * Attention runs in absorbed form, in which the key and value halves of kv_b are applied to queries and to mixed latents;
 * of many rows of one sequence in expanded form, in which they are applied to the latents, where that is cheaper.
 *
 * In shapes: n rows of a step, heads h, dk = qk_nope, dr = qk_rope, dv = v_head, r = kv_lora, k = experts used. */
#include "trunk.h"

#include <math.h>

enum { EXPAND_MIN = 32 }; /* rows that are worth to turn the key half of kv_b for */

struct layer {
	const float *attention_norm, *q_a_norm, *kv_a_norm, *ffn_norm;
	struct ds_weight q, q_a, q_b, kv_a, k_b, v_b, attention_output;
	bool moe;
	struct ds_swiglu ffn; /* the dense one, or the shared experts */
	struct ds_weight router, experts_gate, experts_up, experts_down;
	const float *router_bias;
	struct ds_kv kv;
};

struct mtp {
	const float *embedding_norm, *hidden_norm, *output_norm;
	struct ds_weight projection, token_embedding, output;
	struct layer layer;
};

struct deepseek {
	struct ds_trunk t;
	float scale;          /* of attention scores */
	struct layer *layers; /* [n_layers] */
	struct mtp *mtp;      /* NULL without */

	float *q_latent;                /* (n, q_lora) */
	float *q;                       /* (n, h, dk + dr) */
	float *kv_row;                  /* (n, r + dr) */
	float *q_absorbed, *z;          /* (n, h, r) */
	float *values;                  /* (n, h, dv) */
	float *scores, *weights;        /* (n, experts), (n, k) */
	uint32_t *ids;                  /* (n, k) */
	float *expert_gate, *expert_up; /* (n * k, moe_ff) */
	float *expert_out;              /* (n * k, hidden) */
	float *pair, *draft_states;     /* (n, 2 * hidden), (n, hidden), mtp only */
};

/* ---- hyperparameters ---- */

static const struct ds_limit limits[] = {
	DS_LIMIT(q_lora, 0, DS_MAX_Q_LORA),   DS_LIMIT(kv_lora, 1, DS_MAX_KV_LORA),
	DS_LIMIT(qk_nope, 1, DS_MAX_HEAD_DIM), DS_LIMIT(qk_rope, 2, DS_MAX_HEAD_DIM),
	DS_LIMIT(v_head, 1, DS_MAX_HEAD_DIM),  DS_LIMIT(n_experts, 0, DS_MAX_EXPERTS),
	DS_LIMIT(n_mtp, 0, DS_MAX_MTP),
};

static const struct ds_limit expert_limits[] = {
	DS_LIMIT(n_experts_used, 1, DS_MAX_EXPERTS_USED),
	DS_LIMIT(n_shared, 0, DS_MAX_SHARED_EXPERTS),
	DS_LIMIT(moe_ff, 1, DS_MAX_MOE_FF),
	DS_LIMIT(first_dense, 0, DS_MAX_LAYERS),
	DS_LIMIT(expert_scoring, DS_SCORING_SOFTMAX, DS_SCORING_SIGMOID),
	DS_LIMIT(n_groups, 1, DS_MAX_EXPERTS),
	DS_LIMIT(n_groups_used, 1, DS_MAX_EXPERTS),
	DS_LIMIT(normalize_weights, 0, 1),
};

static int check_experts(const struct ds_hparams *p, struct ds_error *err)
{
	int r = ds_limits_check(p, expert_limits, DS_ARRAY_SIZE(expert_limits), err);

	if (r < 0)
		return r;
	if (p->n_experts % p->n_groups != 0)
		return ds_fail(err, -EINVAL, "%u experts cannot be split into %u groups", p->n_experts, p->n_groups);
	if (p->n_groups_used > p->n_groups)
		return ds_fail(err, -EINVAL, "%u of %u expert groups cannot be used", p->n_groups_used, p->n_groups);
	if (p->n_experts_used > p->n_groups_used * (p->n_experts / p->n_groups))
		return ds_fail(err, -EINVAL, "%u experts cannot be chosen from %u of %u groups of %u",
			       p->n_experts_used, p->n_groups_used, p->n_groups, p->n_experts / p->n_groups);
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
	int r = ds_limits_check(p, limits, DS_ARRAY_SIZE(limits), err);

	if (r == 0 && p->n_experts > 0)
		r = check_experts(p, err);
	if (r < 0)
		return r;
	if (p->qk_rope % 2 != 0)
		return ds_fail(err, -EINVAL, "hyperparameter qk_rope is %u, which is odd", p->qk_rope);
	if (p->ff == 0 && !has_experts(p, 0))
		return ds_fail(err, -EINVAL, "hyperparameter ff is 0, but the first layer is dense");
	return ds_trunk_check(p, p->qk_rope, err);
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

static void bind_experts(struct ds_bind *bind, struct layer *layer, const struct ds_hparams *p, const char *name)
{
	ds_bind_weight(bind, &layer->router, 0, p->n_experts, p->hidden, "%s.router", name);
	if (p->expert_scoring == DS_SCORING_SIGMOID)
		ds_bind_vector(bind, &layer->router_bias, p->n_experts, "%s.router_bias", name);
	ds_bind_weight(bind, &layer->experts_gate, p->n_experts, p->moe_ff, p->hidden, "%s.experts_gate", name);
	ds_bind_weight(bind, &layer->experts_up, p->n_experts, p->moe_ff, p->hidden, "%s.experts_up", name);
	ds_bind_weight(bind, &layer->experts_down, p->n_experts, p->hidden, p->moe_ff, "%s.experts_down", name);
	if (p->n_shared > 0)
		ds_swiglu_bind(bind, &layer->ffn, p, (uint64_t)p->n_shared * p->moe_ff, name, "shared");
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

static void bind_layer(struct ds_bind *bind, struct deepseek *m, struct layer *layer, uint32_t index, const char *name)
{
	const struct ds_hparams *p = &m->t.p;

	ds_bind_vector(bind, &layer->attention_norm, p->hidden, "%s.attention_norm", name);
	bind_attention(bind, layer, p, name);
	ds_bind_vector(bind, &layer->ffn_norm, p->hidden, "%s.ffn_norm", name);
	layer->moe = has_experts(p, index);
	if (layer->moe)
		bind_experts(bind, layer, p, name);
	else
		ds_swiglu_bind(bind, &layer->ffn, p, p->ff, name, "ffn");
	layer->kv = ds_trunk_take_kv(&m->t, bind, p->kv_lora + p->qk_rope);
}

/* The block's own tensor where the image has one, else the main model's. */
static void bind_or_share(struct ds_bind *bind, struct ds_weight *weight, const struct ds_weight *main,
			  const char *name)
{
	if (ds_image_tensor(bind->setup->image, name))
		ds_bind_weight(bind, weight, 0, main->rows, main->cols, "%s", name);
	else
		*weight = *main;
}

/* Only the first block: the later ones are for longer drafts. */
static void bind_mtp(struct ds_bind *bind, struct deepseek *m)
{
	const struct ds_hparams *p = &m->t.p;
	struct mtp *mtp = m->mtp;

	ds_bind_vector(bind, &mtp->embedding_norm, p->hidden, "mtp.0.embedding_norm");
	ds_bind_vector(bind, &mtp->hidden_norm, p->hidden, "mtp.0.hidden_norm");
	ds_bind_vector(bind, &mtp->output_norm, p->hidden, "mtp.0.output_norm");
	ds_bind_weight(bind, &mtp->projection, 0, p->hidden, 2ull * p->hidden, "mtp.0.projection");
	bind_or_share(bind, &mtp->token_embedding, &m->t.token_embedding, "mtp.0.token_embedding");
	bind_or_share(bind, &mtp->output, &m->t.output, "mtp.0.output");
	bind_layer(bind, m, &mtp->layer, p->n_layers, "mtp.0.layer");
	m->pair = ds_trunk_take(&m->t, bind, m->t.max_rows, 2ull * p->hidden, sizeof(float));
	m->draft_states = ds_trunk_take(&m->t, bind, m->t.max_rows, p->hidden, sizeof(float));
}

static void take_activations(struct ds_bind *bind, struct deepseek *m)
{
	const struct ds_hparams *p = &m->t.p;
	uint64_t n = m->t.max_rows, pairs = n * p->n_experts_used;

	m->q_latent = ds_trunk_take(&m->t, bind, n, p->q_lora, sizeof(float));
	m->q = ds_trunk_take(&m->t, bind, n * p->n_heads, p->qk_nope + p->qk_rope, sizeof(float));
	m->kv_row = ds_trunk_take(&m->t, bind, n, p->kv_lora + p->qk_rope, sizeof(float));
	m->q_absorbed = ds_trunk_take(&m->t, bind, n * p->n_heads, p->kv_lora, sizeof(float));
	m->z = ds_trunk_take(&m->t, bind, n * p->n_heads, p->kv_lora, sizeof(float));
	m->values = ds_trunk_take(&m->t, bind, n * p->n_heads, p->v_head, sizeof(float));
	if (p->n_experts == 0)
		return;
	m->scores = ds_trunk_take(&m->t, bind, n, p->n_experts, sizeof(float));
	m->weights = ds_trunk_take(&m->t, bind, pairs, 1, sizeof(float));
	m->ids = ds_trunk_take(&m->t, bind, pairs, 1, sizeof(uint32_t));
	m->expert_gate = ds_trunk_take(&m->t, bind, pairs, p->moe_ff, sizeof(float));
	m->expert_up = ds_trunk_take(&m->t, bind, pairs, p->moe_ff, sizeof(float));
	m->expert_out = ds_trunk_take(&m->t, bind, pairs, p->hidden, sizeof(float));
}

static void deepseek_close(void *self)
{
	struct deepseek *m = self;

	if (!m)
		return;
	ds_trunk_close(&m->t);
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
	const struct ds_hparams *p = ds_image_hparams(setup->image);
	uint64_t shared = (uint64_t)p->n_shared * p->moe_ff;
	struct ds_bind bind = {.setup = setup, .err = err};

	if (!m)
		return ds_fail(err, -ENOMEM, "no memory for the model");
	m->scale = attention_scale(p);
	m->layers = calloc(p->n_layers, sizeof(*m->layers));
	m->mtp = p->n_mtp > 0 ? calloc(1, sizeof(*m->mtp)) : NULL;
	if (!m->layers || (p->n_mtp > 0 && !m->mtp))
		return ds_fail(err, -ENOMEM, "no memory for %u layers", p->n_layers);

	ds_trunk_open(&m->t, &bind, p->qk_rope, p->ff > shared ? p->ff : shared);
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
	*self = ds_steal(&m);
	return 0;
}

static uint64_t deepseek_kv_size(const struct ds_hparams *p, enum ds_dtype kv_dtype)
{
	uint64_t n_layers = p->n_layers + (p->n_mtp > 0);

	return n_layers * ds_row_size(kv_dtype, p->kv_lora + p->qk_rope);
}

/* ---- the forward pass ---- */

/* From u: the queries' latents, or the queries where there are none, and (c_t | k_t). */
static void compress(struct deepseek *m, const struct layer *layer, uint32_t n)
{
	struct ds_trunk *t = &m->t;
	bool latent = t->p.q_lora > 0;
	struct ds_matmul ops[] = {
		{.y = latent ? m->q_latent : m->q, .x = t->u, .w = latent ? &layer->q_a : &layer->q, .n = n},
		{.y = m->kv_row, .x = t->u, .w = &layer->kv_a, .n = n},
	};

	t->ops->matmul(t->backend, ops, DS_ARRAY_SIZE(ops));
}

/* q (n, h, dk + dr), its last dr elements rotated. */
static void queries(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	uint32_t head = p->qk_nope + p->qk_rope;

	if (p->q_lora > 0) {
		ds_norm(t, m->q_latent, m->q_latent, layer->q_a_norm, p->q_lora, rows->n);
		ds_matmul(t, m->q, m->q_latent, &layer->q_b, rows->n);
	}
	t->ops->rope(t->backend, &(struct ds_rope){.x = m->q + p->qk_nope,
						   .frequencies = t->frequencies,
						   .rows = rows,
						   .n_heads = p->n_heads,
						   .width = p->qk_rope,
						   .row_stride = p->n_heads * head,
						   .head_stride = head});
}

/* (c_t | k_t) (n, r + dr) into the cache: the latent normed, the shared key rotated but not normed. */
static void keys_and_values(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	uint32_t width = p->kv_lora + p->qk_rope;

	t->ops->rms_norm(t->backend, m->kv_row, width, m->kv_row, width, layer->kv_a_norm, p->kv_lora, rows->n,
			 p->norm_eps);
	t->ops->rope(t->backend, &(struct ds_rope){.x = m->kv_row + p->kv_lora,
						   .frequencies = t->frequencies,
						   .rows = rows,
						   .n_heads = 1,
						   .width = p->qk_rope,
						   .row_stride = width,
						   .head_stride = p->qk_rope});
	t->ops->kv_store(t->backend, &layer->kv, m->kv_row, width, rows);
}

/* The rows @first to @last - 1. */
static struct ds_rows some_rows(const struct ds_rows *rows, uint32_t first, uint32_t last)
{
	return (struct ds_rows){.n = last - first,
				.tokens = rows->tokens + first,
				.positions = rows->positions + first,
				.pages = rows->pages + first};
}

/* values = attention of the rows @first to @last - 1 of @step, absorbed: the key half of kv_b goes to the queries, the value
 * half to the mixed latents. */
static void absorbed(struct deepseek *m, const struct layer *layer, const struct ds_rows *step, uint32_t first,
		     uint32_t last)
{
	struct ds_rows rows = some_rows(step, first, last);
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	uint32_t h = p->n_heads, r = p->kv_lora, head = p->qk_nope + p->qk_rope;
	float *q = m->q + (size_t)first * h * head;

	if (rows.n == 0)
		return;
	t->ops->head_matmul(t->backend, &(struct ds_head_matmul){.y = m->q_absorbed,
								 .x = q,
								 .w = &layer->k_b,
								 .n = rows.n,
								 .x_row_stride = h * head,
								 .x_head_stride = head,
								 .y_row_stride = h * r,
								 .y_head_stride = r});
	t->ops->latent_attention(t->backend, &(struct ds_latent_attention){.z = m->z,
									   .q = m->q_absorbed,
									   .q_rope = q + p->qk_nope,
									   .q_rope_row_stride = h * head,
									   .q_rope_head_stride = head,
									   .kv = &layer->kv,
									   .rows = &rows,
									   .n_heads = h,
									   .kv_lora = r,
									   .qk_rope = p->qk_rope,
									   .scale = m->scale});
	t->ops->head_matmul(t->backend, &(struct ds_head_matmul){.y = m->values + (size_t)first * h * p->v_head,
								 .x = m->z,
								 .w = &layer->v_b,
								 .n = rows.n,
								 .x_row_stride = h * r,
								 .x_head_stride = r,
								 .y_row_stride = h * p->v_head,
								 .y_head_stride = p->v_head});
}

/* Are keys and values of every head cheaper for @n rows of one sequence, the last of which sees @n_seen positions? Counted
 * in multiplications of a head: absorbing takes some a row, expanding as many a position that is seen. */
static bool expanding_pays(const struct ds_hparams *p, uint64_t n, uint64_t n_seen)
{
	uint64_t seen = n_seen > n / 2 ? n * (n_seen - n / 2) : n, halves = (uint64_t)p->kv_lora * (p->qk_nope + p->v_head);

	return n >= EXPAND_MIN && n_seen * halves + seen * (p->qk_nope + p->qk_rope + p->v_head) <
					  n * halves + seen * (2 * p->kv_lora + p->qk_rope);
}

/* The same expanded; false where that does not pay or the backend cannot. */
static bool expanded(struct deepseek *m, const struct layer *layer, const struct ds_rows *step, uint32_t first, uint32_t last)
{
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	struct ds_rows rows = some_rows(step, first, last);

	return DS_BACKEND_HAS(t->ops, expanded_attention) &&
	       expanding_pays(p, rows.n, (uint64_t)rows.positions[rows.n - 1] + 1) &&
	       t->ops->expanded_attention(
		       t->backend,
		       &(struct ds_expanded_attention){.y = m->values + (size_t)first * p->n_heads * p->v_head,
						       .q = m->q + (size_t)first * p->n_heads * (p->qk_nope + p->qk_rope),
						       .k_b = &layer->k_b,
						       .v_b = &layer->v_b,
						       .kv = &layer->kv,
						       .rows = &rows,
						       .qk_rope = p->qk_rope,
						       .scale = m->scale});
}

/* values = attention. Rows of a prompt follow one another, and may be better expanded; all others go together. */
static void attend(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	uint32_t left = 0; /* first row that is not done */

	for (uint32_t first = 0, last; first < rows->n; first = last) {
		for (last = first + 1; last < rows->n && rows->pages[last] == rows->pages[first];)
			last++;
		if (!expanded(m, layer, rows, first, last))
			continue;
		absorbed(m, layer, rows, left, first);
		left = last;
	}
	absorbed(m, layer, rows, left, rows->n);
}

static void attention(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;

	ds_norm(t, t->u, t->x, layer->attention_norm, t->p.hidden, rows->n);
	compress(m, layer, rows->n);
	queries(m, layer, rows);
	keys_and_values(m, layer, rows);
	attend(m, layer, rows);
	ds_matmul_add(t, t->x, m->values, &layer->attention_output, rows->n);
}

/* The expert matmul of @w, which all are of the same pairs. */
static struct ds_expert_matmul of_experts(const struct deepseek *m, float *y, const float *x, const struct ds_weight *w,
					  uint32_t n, bool shared_input)
{
	return (struct ds_expert_matmul){.y = y,
					 .x = x,
					 .w = w,
					 .ids = m->ids,
					 .n = n,
					 .k = m->t.p.n_experts_used,
					 .shared_input = shared_input};
}

/* x += sum_i weight_i * expert_i(u) */
static void routed_experts(struct deepseek *m, const struct layer *layer, uint32_t n)
{
	struct ds_trunk *t = &m->t;
	const struct ds_hparams *p = &t->p;
	uint32_t k = p->n_experts_used;
	struct ds_expert_matmul gate_and_up[] = {
		of_experts(m, m->expert_gate, t->u, &layer->experts_gate, n, true),
		of_experts(m, m->expert_up, t->u, &layer->experts_up, n, true),
	};
	struct ds_expert_matmul down = of_experts(m, m->expert_out, m->expert_gate, &layer->experts_down, n, false);

	ds_matmul(t, m->scores, t->u, &layer->router, n);
	t->ops->route(t->backend, &(struct ds_route){.ids = m->ids,
						     .weights = m->weights,
						     .logits = m->scores,
						     .bias = layer->router_bias,
						     .n = n,
						     .n_experts = p->n_experts,
						     .k = k,
						     .n_groups = p->n_groups,
						     .n_groups_used = p->n_groups_used,
						     .scoring = p->expert_scoring,
						     .normalize = p->normalize_weights,
						     .scale = p->routed_scale});
	t->ops->expert_matmul(t->backend, gate_and_up, DS_ARRAY_SIZE(gate_and_up));
	t->ops->swiglu(t->backend, m->expert_gate, m->expert_gate, m->expert_up, (uint64_t)n * k * p->moe_ff);
	t->ops->expert_matmul(t->backend, &down, 1);
	t->ops->expert_sum(t->backend, t->x, m->expert_out, m->weights, p->hidden, n, k);
}

static void decoder_layer(struct deepseek *m, const struct layer *layer, const struct ds_rows *rows)
{
	struct ds_trunk *t = &m->t;

	attention(m, layer, rows);
	ds_norm(t, t->u, t->x, layer->ffn_norm, t->p.hidden, rows->n);
	if (layer->moe)
		routed_experts(m, layer, rows->n);
	if (!layer->moe || t->p.n_shared > 0)
		ds_trunk_feed_forward(t, &layer->ffn, rows->n);
}

static void deepseek_forward(void *self, const struct ds_rows *rows)
{
	struct deepseek *m = self;
	struct ds_trunk *t = &m->t;

	ds_trunk_embed(t, rows);
	for (uint32_t i = 0; i < t->p.n_layers; i++)
		decoder_layer(m, &m->layers[i], rows);
	ds_trunk_finish(t, rows->n);
}

/* x = projection * [norm(embedding of the next token) | norm(state)], then one whole layer (DeepSeek-V3, equations 21
 * to 23). The paper leaves open whether the state is taken before or after the main model's last norm: after, as
 * measured acceptance of the published weights asks for. */
static void deepseek_draft(void *self, const struct ds_rows *rows, const uint32_t *indices)
{
	struct deepseek *m = self;
	struct ds_trunk *t = &m->t;
	const struct mtp *mtp = m->mtp;
	uint32_t hidden = t->p.hidden, n = rows->n;

	t->ops->embed(t->backend, t->x, &mtp->token_embedding, rows->tokens, n);
	t->ops->gather(t->backend, t->u, t->states, indices, hidden, n);
	t->ops->rms_norm(t->backend, m->pair, 2 * hidden, t->x, hidden, mtp->embedding_norm, hidden, n, t->p.norm_eps);
	t->ops->rms_norm(t->backend, m->pair + hidden, 2 * hidden, t->u, hidden, mtp->hidden_norm, hidden, n,
			 t->p.norm_eps);
	ds_matmul(t, t->x, m->pair, &mtp->projection, n);
	decoder_layer(m, &mtp->layer, rows);
	ds_norm(t, m->draft_states, t->x, mtp->output_norm, hidden, n);
	t->last_states = m->draft_states;
	t->last_output = &mtp->output;
}

static int deepseek_logits(void *self, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err)
{
	struct deepseek *m = self;

	return ds_trunk_logits(&m->t, indices, n, logits, err);
}

static int deepseek_fill(void *self, const struct ds_rows *rows, struct ds_error *err)
{
	struct deepseek *m = self;

	return ds_trunk_fill(&m->t, rows, err);
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
	.fill = deepseek_fill,
};

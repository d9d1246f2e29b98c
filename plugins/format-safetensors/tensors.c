/* tensors.c - canonical tensors (model.h) -> where their elements lie: tables of names and shapes.
 *
 * A tensor is stored with the type it has in the file; norms, biases and the router become F32. FP8 comes with its
 * scales, and becomes F32 where its tiles cannot be kept. */
#include "checkpoint.h"

#include "../format-common/sizes.h"

#include <inttypes.h>

enum form {
	WHOLE,  /* the tensor as it is in the file */
	STACK,  /* one matrix an expert, each a tensor of the file */
	KEYS,   /* kv_b: of each head the first nope rows, transposed */
	VALUES, /* kv_b: of each head the last v rows */
};

enum condition {
	ALWAYS,
	IF_UNTIED,
	IF_BIAS,
	IF_OUTPUT_BIAS,
	IF_QK_NORM,
	IF_Q_LORA,
	IF_NO_Q_LORA,
	IF_DENSE,
	IF_EXPERTS,
	IF_SIGMOID, /* experts, chosen with a bias */
	IF_SHARED,  /* experts, and shared ones */
	IF_THERE,   /* in the file */
};

/* One canonical tensor. Names are completed by the prefixes of the block they are in. */
struct rule {
	const char *name;
	const char *source;
	enum size rows, cols; /* of the source; cols NONE: one dimension */
	enum condition when;
	enum form form;
	bool f32;
};

static const struct rule model_rules[] = {
	{"token_embedding", "model.embed_tokens.weight", VOCAB, HIDDEN},
	{"output_norm", "model.norm.weight", HIDDEN, .f32 = true},
	{"output", "lm_head.weight", VOCAB, HIDDEN, IF_UNTIED},
};

/* A layer of MLA. */
static const struct rule latent_rules[] = {
	{"attention_norm", "input_layernorm.weight", HIDDEN, .f32 = true},
	{"q", "self_attn.q_proj.weight", Q_HEADS, HIDDEN, IF_NO_Q_LORA},
	{"q_a", "self_attn.q_a_proj.weight", Q_LORA, HIDDEN, IF_Q_LORA},
	{"q_a_norm", "self_attn.q_a_layernorm.weight", Q_LORA, NONE, IF_Q_LORA, .f32 = true},
	{"q_b", "self_attn.q_b_proj.weight", Q_HEADS, Q_LORA, IF_Q_LORA},
	{"kv_a", "self_attn.kv_a_proj_with_mqa.weight", KV_JOINT, HIDDEN},
	{"kv_a_norm", "self_attn.kv_a_layernorm.weight", KV_LORA, .f32 = true},
	{"k_b", "self_attn.kv_b_proj.weight", KV_HEADS, KV_LORA, .form = KEYS},
	{"v_b", "self_attn.kv_b_proj.weight", KV_HEADS, KV_LORA, .form = VALUES},
	{"attention_output", "self_attn.o_proj.weight", HIDDEN, V_HEADS},
};

/* A layer of grouped-query attention. */
static const struct rule grouped_rules[] = {
	{"attention_norm", "input_layernorm.weight", HIDDEN, .f32 = true},
	{"q", "self_attn.q_proj.weight", HEADS, HIDDEN},
	{"k", "self_attn.k_proj.weight", GROUPS, HIDDEN},
	{"v", "self_attn.v_proj.weight", GROUPS, HIDDEN},
	{"q_bias", "self_attn.q_proj.bias", HEADS, NONE, IF_BIAS, .f32 = true},
	{"k_bias", "self_attn.k_proj.bias", GROUPS, NONE, IF_BIAS, .f32 = true},
	{"v_bias", "self_attn.v_proj.bias", GROUPS, NONE, IF_BIAS, .f32 = true},
	{"q_norm", "self_attn.q_norm.weight", HEAD_DIM, NONE, IF_QK_NORM, .f32 = true},
	{"k_norm", "self_attn.k_norm.weight", HEAD_DIM, NONE, IF_QK_NORM, .f32 = true},
	{"attention_output", "self_attn.o_proj.weight", HIDDEN, HEADS},
	{"attention_output_bias", "self_attn.o_proj.bias", HIDDEN, NONE, IF_OUTPUT_BIAS, .f32 = true},
};

/* What follows the attention of a layer. */
static const struct rule ffn_rules[] = {
	{"ffn_norm", "post_attention_layernorm.weight", HIDDEN, .f32 = true},
	{"ffn_gate", "mlp.gate_proj.weight", FF, HIDDEN, IF_DENSE},
	{"ffn_up", "mlp.up_proj.weight", FF, HIDDEN, IF_DENSE},
	{"ffn_down", "mlp.down_proj.weight", HIDDEN, FF, IF_DENSE},
	{"router", "mlp.gate.weight", EXPERTS, HIDDEN, IF_EXPERTS, .f32 = true},
	{"router_bias", "mlp.gate.e_score_correction_bias", EXPERTS, NONE, IF_SIGMOID, .f32 = true},
	{"experts_gate", "gate_proj.weight", MOE_FF, HIDDEN, IF_EXPERTS, STACK},
	{"experts_up", "up_proj.weight", MOE_FF, HIDDEN, IF_EXPERTS, STACK},
	{"experts_down", "down_proj.weight", HIDDEN, MOE_FF, IF_EXPERTS, STACK},
	{"shared_gate", "mlp.shared_experts.gate_proj.weight", SHARED_FF, HIDDEN, IF_SHARED},
	{"shared_up", "mlp.shared_experts.up_proj.weight", SHARED_FF, HIDDEN, IF_SHARED},
	{"shared_down", "mlp.shared_experts.down_proj.weight", HIDDEN, SHARED_FF, IF_SHARED},
};

/* Multi-token prediction: what a block has besides a whole layer. */
static const struct rule mtp_rules[] = {
	{"embedding_norm", "enorm.weight", HIDDEN, .f32 = true},
	{"hidden_norm", "hnorm.weight", HIDDEN, .f32 = true},
	{"projection", "eh_proj.weight", HIDDEN, HIDDEN_TWICE},
	{"output_norm", "shared_head.norm.weight", HIDDEN, .f32 = true},
	{"token_embedding", "embed_tokens.weight", VOCAB, HIDDEN, IF_THERE},
	{"output", "shared_head.head.weight", VOCAB, HIDDEN, IF_THERE},
};

/* Where a block's tensors are: what comes before their names. */
struct block {
	const struct ds_checkpoint *c;
	const struct ds_builder *builder;
	char name[48];
	char source[48];
	bool dense;
};

static bool holds(enum condition when, const struct block *b)
{
	const struct ds_hparams *h = &b->c->hparams;

	switch (when) {
	case IF_UNTIED:
		return !b->c->tied;
	case IF_BIAS:
		return h->qkv_bias;
	case IF_OUTPUT_BIAS:
		return b->c->output_bias;
	case IF_QK_NORM:
		return h->qk_norm;
	case IF_Q_LORA:
		return h->q_lora > 0;
	case IF_NO_Q_LORA:
		return h->q_lora == 0;
	case IF_DENSE:
		return b->dense;
	case IF_EXPERTS:
		return !b->dense;
	case IF_SIGMOID:
		return !b->dense && h->expert_scoring == DS_SCORING_SIGMOID;
	case IF_SHARED:
		return !b->dense && h->n_shared > 0;
	default:
		return true;
	}
}

static int wrong_shape(const struct block *b, const struct ds_stored *t, uint64_t rows, uint64_t cols, bool flat,
		       struct ds_error *err)
{
	char have[64], want[48];
	size_t n = 0;

	have[0] = 0;
	for (uint32_t i = 0; i < t->n_dims && n < sizeof(have); i++)
		n += (size_t)snprintf(have + n, sizeof(have) - n, "%s%" PRIu64, i ? ", " : "", t->shape[i]);
	if (flat)
		snprintf(want, sizeof(want), "%" PRIu64, rows);
	else
		snprintf(want, sizeof(want), "%" PRIu64 ", %" PRIu64, rows, cols);
	return ds_fail(err, -EINVAL, "%s: tensor %s has the shape [%s], config.json asks for [%s]",
		       ds_shown(b->c->files[t->file].name).text, ds_shown(t->name).text, have, want);
}

/* The stored tensor @source of this block, of the shape that the rule asks for. */
static int find(const struct ds_stored **out, const struct block *b, const struct rule *rule, const char *source,
		struct ds_error *err)
{
	uint64_t rows = size_of(&b->c->hparams, rule->rows), cols = size_of(&b->c->hparams, rule->cols);
	bool flat = rule->cols == NONE;
	const struct ds_stored *t = ds_shards_find(b->c, source);

	if (!t)
		return ds_fail(err, -EINVAL, "tensor %s is missing from the .safetensors files", source);
	if (!t->element->dtype || (flat && !ds_dtype_is_float(t->element->dtype)))
		return ds_fail(err, -ENOTSUP, "%s: tensor %s has type %s, supported: F32, F16, BF16%s",
			       ds_shown(b->c->files[t->file].name).text, source, t->element->name,
			       flat ? "" : ", F8_E4M3");
	if (t->n_dims != (flat ? 1 : 2) || t->shape[0] != rows || (!flat && t->shape[1] != cols))
		return wrong_shape(b, t, rows, cols, flat, err);
	*out = t;
	return 0;
}

/* What @t is in the image, if it is not made F32 for another reason. */
static enum ds_dtype dtype_of(const struct block *b, const struct ds_stored *t)
{
	return t->element->dtype == DS_DTYPE_FP8 ? ds_scales_dtype(b->c) : t->element->dtype;
}

/* Rows @first.. of @t as @part, whose place in its tensor is set. */
static int build_part(const struct block *b, struct ds_part *part, const struct ds_stored *t, uint64_t first,
		      struct ds_error *err)
{
	uint64_t row_size = t->n_dims == 1 ? 0 : t->shape[1] * t->element->bits / 8;
	int r = 0;

	part->file = t->file;
	part->offset = t->offset + first * row_size;
	part->dtype = t->element->dtype;
	part->scales = (struct ds_scales){};
	if (part->dtype == DS_DTYPE_FP8) {
		r = ds_scales_find(&part->scales, b->c, t, err);
		part->scales.first_row = first;
	}
	return r < 0 ? r : b->builder->part(b->builder->self, part, err);
}

static int build_whole(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc, const char *source,
		       struct ds_error *err)
{
	const struct ds_stored *t;
	struct ds_part part = {};
	int r;

	r = find(&t, b, rule, source, err);
	if (r < 0)
		return r;
	desc->dtype = rule->f32 ? DS_DTYPE_F32 : dtype_of(b, t);
	desc->n_dims = t->n_dims;
	for (uint32_t i = 0; i < t->n_dims; i++)
		desc->shape[i] = t->shape[i];
	r = b->builder->tensor(b->builder->self, desc, &part.tensor, err);
	if (r < 0)
		return r;
	part.n_rows = t->n_dims == 1 ? 1 : t->shape[0];
	return build_part(b, &part, t, 0, err);
}

/* kv_b is (heads * (nope + v), kv_lora). A transposed tile of FP8 does not fit rows of blocks. */
static int build_half(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc, const char *source,
		      struct ds_error *err)
{
	const struct ds_hparams *h = &b->c->hparams;
	const struct ds_stored *t;
	bool keys = rule->form == KEYS;
	struct ds_part part = {.transposed = keys};
	int r;

	r = find(&t, b, rule, source, err);
	if (r < 0)
		return r;
	desc->dtype = keys && t->element->dtype == DS_DTYPE_FP8 ? DS_DTYPE_F32 : dtype_of(b, t);
	desc->n_dims = 3;
	desc->shape[0] = h->n_heads;
	desc->shape[1] = keys ? h->kv_lora : h->v_head;
	desc->shape[2] = keys ? h->qk_nope : h->kv_lora;
	r = b->builder->tensor(b->builder->self, desc, &part.tensor, err);
	part.n_rows = desc->shape[1];
	for (uint64_t head = 0; r >= 0 && head < h->n_heads; head++) {
		uint64_t first = head * ((uint64_t)h->qk_nope + h->v_head) + (keys ? 0 : h->qk_nope);

		part.row = head * part.n_rows;
		r = build_part(b, &part, t, first, err);
	}
	return r;
}

static int find_expert(const struct ds_stored **out, const struct block *b, const struct rule *rule, uint32_t expert,
		       struct ds_error *err)
{
	char source[128];

	snprintf(source, sizeof(source), "%smlp.experts.%u.%s", b->source, expert, rule->source);
	return find(out, b, rule, source, err);
}

/* Experts of different types meet in F32. */
static int build_stack(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc,
		       struct ds_error *err)
{
	const struct ds_hparams *h = &b->c->hparams;
	const struct ds_stored *t;
	struct ds_part part = {};
	int r;

	for (uint32_t e = 0; e < h->n_experts; e++) {
		r = find_expert(&t, b, rule, e, err);
		if (r < 0)
			return r;
		if (e == 0)
			desc->dtype = dtype_of(b, t);
		else if (desc->dtype != dtype_of(b, t))
			desc->dtype = DS_DTYPE_F32;
	}
	desc->n_dims = 3;
	desc->shape[0] = h->n_experts;
	desc->shape[1] = size_of(h, rule->rows);
	desc->shape[2] = size_of(h, rule->cols);
	r = b->builder->tensor(b->builder->self, desc, &part.tensor, err);
	part.n_rows = desc->shape[1];
	for (uint32_t e = 0; r >= 0 && e < h->n_experts; e++) {
		r = find_expert(&t, b, rule, e, err);
		if (r < 0)
			return r;
		part.row = e * part.n_rows;
		r = build_part(b, &part, t, 0, err);
	}
	return r;
}

static int build(const struct block *b, const struct rule *rules, size_t n_rules, struct ds_error *err)
{
	char name[96], source[128];
	int r = 0;

	for (const struct rule *rule = rules; r >= 0 && rule < rules + n_rules; rule++) {
		struct ds_tensor_desc desc = {.name = name, .shape = {1, 1, 1, 1}};

		snprintf(name, sizeof(name), "%s%s", b->name, rule->name);
		snprintf(source, sizeof(source), "%s%s", b->source, rule->source);
		if (!holds(rule->when, b) || (rule->when == IF_THERE && !ds_shards_find(b->c, source)))
			continue;
		if (rule->form == WHOLE)
			r = build_whole(b, rule, &desc, source, err);
		else if (rule->form == STACK)
			r = build_stack(b, rule, &desc, err);
		else
			r = build_half(b, rule, &desc, source, err);
	}
	return r;
}

static int build_layer(const struct block *b, struct ds_error *err)
{
	int r = b->c->hparams.n_kv_heads > 0 ? build(b, grouped_rules, DS_ARRAY_SIZE(grouped_rules), err)
					     : build(b, latent_rules, DS_ARRAY_SIZE(latent_rules), err);

	return r < 0 ? r : build(b, ffn_rules, DS_ARRAY_SIZE(ffn_rules), err);
}

uint32_t ds_tensors_count_mtp(const struct ds_checkpoint *c)
{
	uint32_t n = 0;
	char name[64];

	for (; n < c->hparams.n_mtp; n++) {
		snprintf(name, sizeof(name), "model.layers.%u.eh_proj.weight", c->hparams.n_layers + n);
		if (!ds_shards_find(c, name))
			break;
	}
	return n;
}

int ds_tensors_build(const struct ds_checkpoint *c, const struct ds_builder *builder, struct ds_error *err)
{
	const struct ds_hparams *h = &c->hparams;
	struct block b = {.c = c, .builder = builder};
	int r;

	r = build(&b, model_rules, DS_ARRAY_SIZE(model_rules), err);
	for (uint32_t i = 0; r >= 0 && i < h->n_layers + h->n_mtp; i++) {
		bool mtp = i >= h->n_layers;

		b.dense = h->n_experts == 0 || i < h->first_dense;
		snprintf(b.source, sizeof(b.source), "model.layers.%u.", i);
		if (mtp) {
			snprintf(b.name, sizeof(b.name), "mtp.%u.", i - h->n_layers);
			r = build(&b, mtp_rules, DS_ARRAY_SIZE(mtp_rules), err);
			if (r < 0)
				return r;
			snprintf(b.name, sizeof(b.name), "mtp.%u.layer.", i - h->n_layers);
		} else {
			snprintf(b.name, sizeof(b.name), "layers.%u.", i);
		}
		r = build_layer(&b, err);
	}
	return r;
}

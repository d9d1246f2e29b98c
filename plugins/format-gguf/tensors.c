/* tensors.c - canonical tensors (model.h) -> where their elements lie: tables of names and shapes.
 *
 * A tensor is stored with the type it has in the file; norms, biases and the router become F32. Shapes here are
 * row-major, outermost first; those in the file are the other way round. */
#include "gguf.h"

#include "../format-common/sizes.h"

enum form {
	WHOLE,   /* the tensor as it is in the file */
	ROTATED, /* rows of heads, which some architectures store in the order of the pairs that are rotated */
	STACK,   /* one matrix an expert */
	KEYS,    /* of kv_b, or k_b */
	VALUES,  /* of kv_b, or v_b */
};

enum condition {
	ALWAYS,
	IF_GQA,
	IF_BIAS,
	IF_QK_NORM,
	IF_MLA,
	IF_Q_LORA,
	IF_NO_Q_LORA,
	IF_DENSE,
	IF_EXPERTS,
	IF_SIGMOID, /* experts, chosen with a bias */
	IF_SHARED,  /* experts, and shared ones */
	IF_THERE,   /* in the file */
	IF_GQA_THERE,
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
	{"token_embedding", "token_embd.weight", VOCAB, HIDDEN},
	{"output_norm", "output_norm.weight", HIDDEN, .f32 = true},
	{"output", "output.weight", VOCAB, HIDDEN, IF_THERE},
};

static const struct rule layer_rules[] = {
	{"attention_norm", "attn_norm.weight", HIDDEN, .f32 = true},
	{"q", "attn_q.weight", HEADS, HIDDEN, IF_GQA, ROTATED},
	{"k", "attn_k.weight", GROUPS, HIDDEN, IF_GQA, ROTATED},
	{"v", "attn_v.weight", GROUPS, HIDDEN, IF_GQA},
	{"q_bias", "attn_q.bias", HEADS, NONE, IF_BIAS, .f32 = true},
	{"k_bias", "attn_k.bias", GROUPS, NONE, IF_BIAS, .f32 = true},
	{"v_bias", "attn_v.bias", GROUPS, NONE, IF_BIAS, .f32 = true},
	{"q_norm", "attn_q_norm.weight", HEAD_DIM, NONE, IF_QK_NORM, .f32 = true},
	{"k_norm", "attn_k_norm.weight", HEAD_DIM, NONE, IF_QK_NORM, .f32 = true},
	{"attention_output", "attn_output.weight", HIDDEN, HEADS, IF_GQA},
	{"attention_output_bias", "attn_output.bias", HIDDEN, NONE, IF_GQA_THERE, .f32 = true},
	{"q", "attn_q.weight", Q_HEADS, HIDDEN, IF_NO_Q_LORA},
	{"q_a", "attn_q_a.weight", Q_LORA, HIDDEN, IF_Q_LORA},
	{"q_a_norm", "attn_q_a_norm.weight", Q_LORA, NONE, IF_Q_LORA, .f32 = true},
	{"q_b", "attn_q_b.weight", Q_HEADS, Q_LORA, IF_Q_LORA},
	{"kv_a", "attn_kv_a_mqa.weight", KV_JOINT, HIDDEN, IF_MLA},
	{"kv_a_norm", "attn_kv_a_norm.weight", KV_LORA, NONE, IF_MLA, .f32 = true},
	{"k_b", "attn_k_b.weight", NONE, NONE, IF_MLA, KEYS},
	{"v_b", "attn_v_b.weight", NONE, NONE, IF_MLA, VALUES},
	{"attention_output", "attn_output.weight", HIDDEN, V_HEADS, IF_MLA},
	{"ffn_norm", "ffn_norm.weight", HIDDEN, .f32 = true},
	{"ffn_gate", "ffn_gate.weight", FF, HIDDEN, IF_DENSE},
	{"ffn_up", "ffn_up.weight", FF, HIDDEN, IF_DENSE},
	{"ffn_down", "ffn_down.weight", HIDDEN, FF, IF_DENSE},
	{"router", "ffn_gate_inp.weight", EXPERTS, HIDDEN, IF_EXPERTS, .f32 = true},
	{"router_bias", "exp_probs_b.bias", EXPERTS, NONE, IF_SIGMOID, .f32 = true},
	{"experts_gate", "ffn_gate", MOE_FF, HIDDEN, IF_EXPERTS, STACK},
	{"experts_up", "ffn_up", MOE_FF, HIDDEN, IF_EXPERTS, STACK},
	{"experts_down", "ffn_down", HIDDEN, MOE_FF, IF_EXPERTS, STACK},
	{"shared_gate", "ffn_gate_shexp.weight", SHARED_FF, HIDDEN, IF_SHARED},
	{"shared_up", "ffn_up_shexp.weight", SHARED_FF, HIDDEN, IF_SHARED},
	{"shared_down", "ffn_down_shexp.weight", HIDDEN, SHARED_FF, IF_SHARED},
};

/* Multi-token prediction: what a block has besides a whole layer. */
static const struct rule mtp_rules[] = {
	{"embedding_norm", "nextn.enorm.weight", HIDDEN, .f32 = true},
	{"hidden_norm", "nextn.hnorm.weight", HIDDEN, .f32 = true},
	{"projection", "nextn.eh_proj.weight", HIDDEN, HIDDEN_TWICE},
	{"output_norm", "nextn.shared_head_norm.weight", HIDDEN, .f32 = true},
	{"token_embedding", "nextn.embed_tokens.weight", VOCAB, HIDDEN, IF_THERE},
	{"output", "nextn.shared_head_head.weight", VOCAB, HIDDEN, IF_THERE},
};

/* Where a block's tensors are: what comes before their names. */
struct block {
	const struct ds_gguf *g;
	const struct ds_builder *builder;
	char name[48];
	char source[48];
	bool dense;
};

static bool holds(enum condition when, const struct block *b, const char *source)
{
	const struct ds_hparams *h = &b->g->hparams;
	bool mla = b->g->architecture->mla;

	switch (when) {
	case IF_GQA:
		return !mla;
	case IF_BIAS:
		return h->qkv_bias;
	case IF_QK_NORM:
		return h->qk_norm;
	case IF_MLA:
		return mla;
	case IF_Q_LORA:
		return mla && h->q_lora > 0;
	case IF_NO_Q_LORA:
		return mla && h->q_lora == 0;
	case IF_DENSE:
		return b->dense;
	case IF_EXPERTS:
		return !b->dense;
	case IF_SIGMOID:
		return !b->dense && h->expert_scoring == DS_SCORING_SIGMOID;
	case IF_SHARED:
		return !b->dense && h->n_shared > 0;
	case IF_GQA_THERE:
		return !mla && ds_gguf_find(b->g, source);
	case IF_THERE:
		return ds_gguf_find(b->g, source);
	default:
		return true;
	}
}

/* The stored tensor @source of @depth matrices of @rows x @cols. A dimension of 1 at the end may be left out; matrices
 * may also be stored as one of all their rows. */
static int find(const struct ds_gguf_stored **out, const struct block *b, const char *source, uint64_t depth,
		uint64_t rows, uint64_t cols, struct ds_error *err)
{
	const struct ds_gguf_stored *t = ds_gguf_find(b->g, source);
	struct ds_shown file;

	if (!t)
		return ds_fail(err, -EINVAL, "tensor %s is missing from %s", source,
			       ds_shown(b->g->parts[0].source.file->name).text);
	file = ds_shown(b->g->files[t->file].name);
	if (t->ne[0] != cols || t->ne[3] != 1 ||
	    !((t->ne[1] == rows && t->ne[2] == depth) || (t->ne[1] == depth * rows && t->ne[2] == 1)))
		return ds_fail(err, -EINVAL,
			       "%s: tensor %s has the shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
			       "], the keys ask for [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]",
			       file.text, source, t->ne[0], t->ne[1], t->ne[2], t->ne[3], cols, rows, depth);
	if (!t->type->dtype)
		return ds_gguf_refuse_type(t->type->id, &b->g->files[t->file], source, err);
	*out = t;
	return 0;
}

/* Rows [@row, @row + @n_rows) of tensor @index, from row @first of @t. */
static struct ds_part part_of(const struct ds_gguf_stored *t, uint32_t index, uint64_t row, uint64_t n_rows,
			      uint64_t first)
{
	return (struct ds_part){
		.tensor = index,
		.row = row,
		.n_rows = n_rows,
		.file = t->file,
		.offset = t->offset + first * ds_row_size(t->type->dtype, t->ne[0]),
		.dtype = t->type->dtype,
	};
}

/* Of each head, row 2i of the file is row i, and row 2i + 1 is row i + half. */
static int add_rotated(const struct block *b, const struct ds_gguf_stored *t, uint32_t index, uint64_t rows,
		       struct ds_error *err)
{
	uint64_t half = b->g->hparams.head_dim / 2;
	int r = 0;

	for (uint64_t row = 0; r >= 0 && row < rows; row += half) {
		uint64_t head = row / half / 2, second = row / half % 2;
		struct ds_part part = part_of(t, index, row, half, head * 2 * half + second);

		part.stride = 2 * ds_row_size(t->type->dtype, t->ne[0]);
		r = b->builder->part(b->builder->self, &part, err);
	}
	return r;
}

static int build_whole(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc, const char *source,
		       struct ds_error *err)
{
	uint64_t rows = size_of(&b->g->hparams, rule->rows), cols = size_of(&b->g->hparams, rule->cols);
	bool flat = rule->cols == NONE;
	const struct ds_gguf_stored *t;
	struct ds_part part;
	uint32_t index;
	int r = flat ? find(&t, b, source, 1, 1, rows, err) : find(&t, b, source, 1, rows, cols, err);

	if (r < 0)
		return r;
	desc->dtype = rule->f32 ? DS_DTYPE_F32 : t->type->dtype;
	desc->n_dims = flat ? 1 : 2;
	desc->shape[0] = rows;
	desc->shape[1] = cols;
	r = b->builder->tensor(b->builder->self, desc, &index, err);
	if (r < 0)
		return r;
	if (rule->form == ROTATED && b->g->architecture->permuted)
		return add_rotated(b, t, index, rows, err);
	part = part_of(t, index, 0, flat ? 1 : rows, 0);
	return b->builder->part(b->builder->self, &part, err);
}

/* The halves of kv_b (heads * (nope + v), kv_lora): of each head the first nope rows, transposed, or the last v rows.
 * Blocks of a quantised matrix cannot be transposed: its keys become F32. */
static int build_half_of_kv_b(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc,
			      struct ds_error *err)
{
	const struct ds_hparams *h = &b->g->hparams;
	uint64_t per_head = (uint64_t)h->qk_nope + h->v_head;
	bool keys = rule->form == KEYS;
	const struct ds_gguf_stored *t;
	char source[96];
	uint32_t index;
	int r;

	snprintf(source, sizeof(source), "%sattn_kv_b.weight", b->source);
	r = find(&t, b, source, 1, h->n_heads * per_head, h->kv_lora, err);
	if (r < 0)
		return r;
	desc->dtype = keys && !ds_dtype_is_float(t->type->dtype) ? DS_DTYPE_F32 : t->type->dtype;
	r = b->builder->tensor(b->builder->self, desc, &index, err);
	for (uint64_t head = 0; r >= 0 && head < h->n_heads; head++) {
		struct ds_part part = part_of(t, index, head * desc->shape[1], desc->shape[1],
					      head * per_head + (keys ? 0 : h->qk_nope));

		part.transposed = keys;
		r = b->builder->part(b->builder->self, &part, err);
	}
	return r;
}

/* k_b (heads, kv_lora, nope) and v_b (heads, v, kv_lora) are what is wanted, if the file has them; some have kv_b as
 * well. */
static int build_half(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc, const char *source,
		      struct ds_error *err)
{
	const struct ds_hparams *h = &b->g->hparams;
	bool keys = rule->form == KEYS;
	const struct ds_gguf_stored *t;
	struct ds_part part;
	uint32_t index;
	int r;

	desc->n_dims = 3;
	desc->shape[0] = h->n_heads;
	desc->shape[1] = keys ? h->kv_lora : h->v_head;
	desc->shape[2] = keys ? h->qk_nope : h->kv_lora;
	if (!ds_gguf_find(b->g, source))
		return build_half_of_kv_b(b, rule, desc, err);
	r = find(&t, b, source, desc->shape[0], desc->shape[1], desc->shape[2], err);
	if (r < 0)
		return r;
	desc->dtype = t->type->dtype;
	r = b->builder->tensor(b->builder->self, desc, &index, err);
	if (r < 0)
		return r;
	part = part_of(t, index, 0, desc->shape[0] * desc->shape[1], 0);
	return b->builder->part(b->builder->self, &part, err);
}

/* Where the matrix of expert @e is: in a stack of all; in one where gate and up take turns; in a tensor of its own. */
static int find_expert(const struct ds_gguf_stored **out, uint64_t *first, const struct block *b,
		       const struct rule *rule, uint32_t e, struct ds_error *err)
{
	const struct ds_hparams *h = &b->g->hparams;
	uint64_t rows = size_of(h, rule->rows), cols = size_of(h, rule->cols);
	bool down = strcmp(rule->source, "ffn_down") == 0;
	char stack[96], both[96], own[96];

	snprintf(stack, sizeof(stack), "%s%s_exps.weight", b->source, rule->source);
	snprintf(both, sizeof(both), "%sffn_gate_up_exps.weight", b->source);
	snprintf(own, sizeof(own), "%s%s.%u.weight", b->source, rule->source, e);
	*first = e * rows;
	if (ds_gguf_find(b->g, stack))
		return find(out, b, stack, h->n_experts, rows, cols, err);
	if (!down && ds_gguf_find(b->g, both)) {
		*first = 2 * e * rows + (strcmp(rule->source, "ffn_up") == 0 ? rows : 0);
		return find(out, b, both, h->n_experts, 2 * rows, cols, err);
	}
	*first = 0;
	return find(out, b, ds_gguf_find(b->g, own) ? own : stack, 1, rows, cols, err);
}

/* Experts of different types meet in F32. */
static int build_stack(const struct block *b, const struct rule *rule, struct ds_tensor_desc *desc,
		       struct ds_error *err)
{
	const struct ds_hparams *h = &b->g->hparams;
	const struct ds_gguf_stored *t;
	uint64_t first;
	uint32_t index;
	int r;

	for (uint32_t e = 0; e < h->n_experts; e++) {
		r = find_expert(&t, &first, b, rule, e, err);
		if (r < 0)
			return r;
		if (e == 0)
			desc->dtype = t->type->dtype;
		else if (desc->dtype != t->type->dtype)
			desc->dtype = DS_DTYPE_F32;
	}
	desc->n_dims = 3;
	desc->shape[0] = h->n_experts;
	desc->shape[1] = size_of(h, rule->rows);
	desc->shape[2] = size_of(h, rule->cols);
	r = b->builder->tensor(b->builder->self, desc, &index, err);
	for (uint32_t e = 0; r >= 0 && e < h->n_experts; e++) {
		struct ds_part part;

		r = find_expert(&t, &first, b, rule, e, err);
		if (r < 0)
			return r;
		part = part_of(t, index, e * desc->shape[1], desc->shape[1], first);
		r = b->builder->part(b->builder->self, &part, err);
	}
	return r;
}

static int build(const struct block *b, const struct rule *rules, size_t n_rules, struct ds_error *err)
{
	char name[96], source[96];
	int r = 0;

	for (const struct rule *rule = rules; r >= 0 && rule < rules + n_rules; rule++) {
		struct ds_tensor_desc desc = {.name = name, .shape = {1, 1, 1, 1}};

		snprintf(name, sizeof(name), "%s%s", b->name, rule->name);
		snprintf(source, sizeof(source), "%s%s", b->source, rule->source);
		if (!holds(rule->when, b, source))
			continue;
		if (rule->form == STACK)
			r = build_stack(b, rule, &desc, err);
		else if (rule->form == KEYS || rule->form == VALUES)
			r = build_half(b, rule, &desc, source, err);
		else
			r = build_whole(b, rule, &desc, source, err);
	}
	return r;
}

int ds_gguf_build_tensors(const struct ds_gguf *g, const struct ds_builder *builder, struct ds_error *err)
{
	const struct ds_hparams *h = &g->hparams;
	struct block b = {.g = g, .builder = builder};
	int r;

	r = build(&b, model_rules, DS_ARRAY_SIZE(model_rules), err);
	for (uint32_t i = 0; r >= 0 && i < h->n_layers + h->n_mtp; i++) {
		bool mtp = i >= h->n_layers;

		b.dense = h->n_experts == 0 || i < h->first_dense;
		snprintf(b.source, sizeof(b.source), "blk.%u.", i);
		if (mtp) {
			snprintf(b.name, sizeof(b.name), "mtp.%u.", i - h->n_layers);
			r = build(&b, mtp_rules, DS_ARRAY_SIZE(mtp_rules), err);
			if (r < 0)
				return r;
			snprintf(b.name, sizeof(b.name), "mtp.%u.layer.", i - h->n_layers);
		} else {
			snprintf(b.name, sizeof(b.name), "layers.%u.", i);
		}
		r = build(&b, layer_rules, DS_ARRAY_SIZE(layer_rules), err);
	}
	return r;
}

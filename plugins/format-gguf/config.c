/* config.c - keys -> hyperparameters: one table of keys for each kind of attention, with bounds and defaults.
 *
 * What a key does not say is told by the tensors that are there. What the architecture could not honour is refused. */
#include "gguf.h"

static const struct ds_gguf_architecture architectures[] = {
	{.name = "llama", .permuted = true},
	{.name = "qwen2", .qkv_bias = true},
	{.name = "qwen3", .qk_norm = true},
	{.name = "deepseek2", .mla = true},
};

enum type {
	COUNT, /* uint32_t */
	REAL,  /* float */
	BOOL,  /* uint32_t, 0 or 1 */
};

#define REQUIRED (-1.0)

/* A number and where it goes. @otherwise: its value without the key. */
struct key {
	const char *name; /* after "llama." */
	enum type type;
	size_t offset; /* in struct ds_hparams */
	double min, max;
	double otherwise;
};

#define FIELD(member) offsetof(struct ds_hparams, member)

static const struct key common_keys[] = {
	{"context_length", COUNT, FIELD(context), 1, DS_MAX_CONTEXT, REQUIRED},
	{"embedding_length", COUNT, FIELD(hidden), 1, DS_MAX_HIDDEN, REQUIRED},
	{"block_count", COUNT, FIELD(n_layers), 1, DS_MAX_LAYERS, REQUIRED},
	{"feed_forward_length", COUNT, FIELD(ff), 1, DS_MAX_FF, REQUIRED},
	{"attention.head_count", COUNT, FIELD(n_heads), 1, DS_MAX_HEADS, REQUIRED},
	{"attention.layer_norm_rms_epsilon", REAL, FIELD(norm_eps), DS_MIN_NORM_EPS, DS_MAX_NORM_EPS, REQUIRED},
	{"rope.freq_base", REAL, FIELD(rope_theta), 2, 1e12, 10000},
};

static const struct key gqa_keys[] = {
	{"attention.head_count_kv", COUNT, FIELD(n_kv_heads), 1, DS_MAX_HEADS, 0},
	{"attention.key_length", COUNT, FIELD(head_dim), 2, DS_MAX_HEAD_DIM, 0},
};

static const struct key mla_keys[] = {
	{"attention.q_lora_rank", COUNT, FIELD(q_lora), 0, DS_MAX_Q_LORA, 0},
	{"attention.kv_lora_rank", COUNT, FIELD(kv_lora), 1, DS_MAX_KV_LORA, REQUIRED},
	{"rope.dimension_count", COUNT, FIELD(qk_rope), 2, DS_MAX_HEAD_DIM, REQUIRED},
	{"expert_count", COUNT, FIELD(n_experts), 0, DS_MAX_EXPERTS, 0},
	{"nextn_predict_layers", COUNT, FIELD(n_mtp), 0, DS_MAX_MTP, 0},
};

static const struct key expert_keys[] = {
	{"expert_used_count", COUNT, FIELD(n_experts_used), 1, DS_MAX_EXPERTS_USED, REQUIRED},
	{"expert_shared_count", COUNT, FIELD(n_shared), 0, DS_MAX_SHARED_EXPERTS, 0},
	{"expert_feed_forward_length", COUNT, FIELD(moe_ff), 1, DS_MAX_MOE_FF, REQUIRED},
	{"expert_weights_norm", BOOL, FIELD(normalize_weights), 0, 1, 0},
	{"expert_weights_scale", REAL, FIELD(routed_scale), 0, 1e6, 1},
	{"expert_group_count", COUNT, FIELD(n_groups), 0, DS_MAX_EXPERTS, 0},
	{"expert_group_used_count", COUNT, FIELD(n_groups_used), 0, DS_MAX_EXPERTS, 0},
};

/* How experts are chosen where the file does not say: files are older than the keys. */
static const struct {
	uint32_t n_experts;
	enum ds_expert_scoring scoring;
	uint32_t n_groups, n_groups_used;
} groups[] = {
	{256, DS_SCORING_SIGMOID, 8, 4}, /* V3, R1 */
	{160, DS_SCORING_SOFTMAX, 8, 3}, /* V2 */
};

/* Keys that other members of the llama family have, and that would change what is computed. */
static const char *const unsupported[] = {
	"attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "attention.sliding_window_pattern",
	"embedding_scale", "logit_scale",         "residual_scale",
};

/* And tensors of that kind, in the first layer. Biases of llama's q and k would have to be put in order, which cannot
 * be said of one row. */
static const struct {
	const char *name;
	bool qkv;
} unsupported_tensors[] = {
	{"blk.0.attn_q.bias", true},    {"blk.0.attn_k.bias", true},  {"blk.0.attn_v.bias", true},
	{"blk.0.ffn_gate.bias", false}, {"blk.0.ffn_up.bias", false}, {"blk.0.ffn_down.bias", false},
	{"output.bias", false},         {"output_norm.bias", false},
};

struct ds_gguf_name ds_gguf_name(const struct ds_gguf *g, const char *name)
{
	struct ds_gguf_name full;

	snprintf(full.text, sizeof(full.text), "%s.%s", g->architecture->name, name);
	return full;
}

/* The first file, for sentences. */
static struct ds_shown file(const struct ds_gguf *g)
{
	return ds_shown(g->parts[0].source.file->name);
}

static int read_key(struct ds_gguf *g, const struct key *key, struct ds_error *err)
{
	struct ds_gguf_name name = ds_gguf_name(g, key->name);
	char *field = (char *)&g->hparams + key->offset;
	double real = key->otherwise;
	uint64_t count = key->otherwise > 0 ? (uint64_t)key->otherwise : 0;
	bool truth = key->otherwise > 0;
	int r;

	if (key->otherwise == REQUIRED && !ds_gguf_key(&g->parts[0], name.text))
		return ds_fail(err, -EINVAL, "%s: %s is missing", file(g).text, name.text);
	if (key->type == REAL)
		r = ds_gguf_number(&g->parts[0], name.text, key->min, key->max, &real, err);
	else if (key->type == BOOL)
		r = ds_gguf_bool(&g->parts[0], name.text, &truth, err);
	else
		r = ds_gguf_count(&g->parts[0], name.text, (uint64_t)key->min, (uint64_t)key->max, &count, err);
	if (r < 0)
		return r;
	if (key->type == REAL)
		*(float *)field = (float)real;
	else
		*(uint32_t *)field = key->type == BOOL ? truth : (uint32_t)count;
	return 0;
}

static int read_keys(struct ds_gguf *g, const struct key *keys, size_t n, struct ds_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = read_key(g, &keys[i], err);
	return r;
}

static int read_architecture(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_gguf_text name = {}, type = {};
	char supported[64];
	size_t n = 0;
	int r = ds_gguf_text(&g->parts[0], "general.architecture", &name, err);

	if (r == 0)
		r = ds_gguf_text(&g->parts[0], "general.type", &type, err);
	if (r < 0)
		return r;
	if (!name.text)
		return ds_fail(err, -EINVAL, "%s: general.architecture is missing", file(g).text);
	if (type.text && !ds_gguf_is(type, "model"))
		return ds_fail(err, -ENOTSUP, "%s: general.type %s is not supported (supported: model)", file(g).text,
			       ds_shown_bytes(type.text, type.size).text);
	for (size_t i = 0; i < DS_ARRAY_SIZE(architectures); i++) {
		if (ds_gguf_is(name, architectures[i].name)) {
			g->architecture = &architectures[i];
			return 0;
		}
		n += (size_t)snprintf(supported + n, sizeof(supported) - n, "%s%s", i ? ", " : "",
				      architectures[i].name);
	}
	return ds_fail(err, -ENOTSUP, "%s: architecture %s is not supported (supported: %s)", file(g).text,
		       ds_shown_bytes(name.text, name.size).text, supported);
}

/* Rows of the embedding: what the file says, else what is there. */
static int read_vocab(struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_gguf_stored *t = ds_gguf_find(g, "token_embd.weight");
	uint64_t vocab = t ? t->ne[1] : 0;
	int r = ds_gguf_count(&g->parts[0], ds_gguf_name(g, "vocab_size").text, 1, DS_MAX_VOCAB, &vocab, err);

	if (r < 0)
		return r;
	if (!t)
		return ds_fail(err, -EINVAL, "%s: tensor token_embd.weight is missing%s", file(g).text,
			       g->n_stored ? "" : ": a vocabulary, not a model");
	if (vocab > DS_MAX_VOCAB)
		return ds_fail(err, -EINVAL, "%s: tensor token_embd.weight has %" PRIu64 " rows, allowed: %u",
			       file(g).text, vocab, DS_MAX_VOCAB);
	g->hparams.vocab = (uint32_t)vocab;
	return 0;
}

/* A key that has one right value: that of another. */
static int check_same(const struct ds_gguf *g, const char *key, uint32_t value, const char *what, struct ds_error *err)
{
	struct ds_gguf_name name = ds_gguf_name(g, key);
	uint64_t x = value;
	int r = ds_gguf_count(&g->parts[0], name.text, 0, UINT32_MAX, &x, err);

	if (r == 0 && x != value)
		return ds_fail(err, -ENOTSUP, "%s: %s is %" PRIu64 ", supported: %s, %u", file(g).text, name.text, x,
			       what, value);
	return r;
}

static int read_gqa(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	int r = read_keys(g, gqa_keys, DS_ARRAY_SIZE(gqa_keys), err);

	if (r < 0)
		return r;
	if (h->n_kv_heads == 0)
		h->n_kv_heads = h->n_heads;
	if (h->n_heads % h->n_kv_heads)
		return ds_fail(err, -EINVAL, "%s: %u heads of keys and values do not divide %u heads", file(g).text,
			       h->n_kv_heads, h->n_heads);
	if (h->head_dim == 0 && h->hidden % h->n_heads)
		return ds_fail(err, -EINVAL, "%s: %u heads do not divide the embedding of %u", file(g).text, h->n_heads,
			       h->hidden);
	if (h->head_dim == 0)
		h->head_dim = h->hidden / h->n_heads;
	if (h->head_dim % 2 || h->head_dim == 0)
		return ds_fail(err, -EINVAL, "%s: heads of %u elements cannot be rotated in pairs", file(g).text,
			       h->head_dim);
	h->qkv_bias = g->architecture->qkv_bias;
	h->qk_norm = g->architecture->qk_norm;
	r = check_same(g, "attention.value_length", h->head_dim, "as long as a key", err);
	if (r == 0)
		r = check_same(g, "rope.dimension_count", h->head_dim, "as long as a key", err);
	return r < 0 ? r : check_same(g, "expert_count", 0, "none", err);
}

/* Lengths of a key and a value of a head before they are absorbed. Where attention is stored in its absorbed form,
 * attention.key_length and value_length are those of the latent, and there is one head of keys; the real ones have keys
 * of their own then. If a writer left these out, the tensors tell. */
static int read_mla_lengths(struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_gguf_stored *k_b = ds_gguf_find(g, "blk.0.attn_k_b.weight");
	const struct ds_gguf_stored *v_b = ds_gguf_find(g, "blk.0.attn_v_b.weight");
	struct ds_gguf_name key = ds_gguf_name(g, "attention.key_length");
	struct ds_gguf_name value = ds_gguf_name(g, "attention.value_length");
	struct ds_gguf_name key_mla = ds_gguf_name(g, "attention.key_length_mla");
	struct ds_gguf_name value_mla = ds_gguf_name(g, "attention.value_length_mla");
	struct ds_hparams *h = &g->hparams;
	uint64_t k = 0, v = 0;
	int r;

	if (k_b && v_b && !ds_gguf_find(g, "blk.0.attn_kv_b.weight")) {
		k = k_b->ne[0] + h->qk_rope;
		v = v_b->ne[1];
	} else {
		r = ds_gguf_count(&g->parts[0], key.text, 1, 65536, &k, err);
		if (r == 0)
			r = ds_gguf_count(&g->parts[0], value.text, 1, 65536, &v, err);
		if (r < 0)
			return r;
	}
	r = ds_gguf_count(&g->parts[0], key_mla.text, 1, 65536, &k, err);
	if (r == 0)
		r = ds_gguf_count(&g->parts[0], value_mla.text, 1, 65536, &v, err);
	if (r < 0)
		return r;
	if (k == 0 || v == 0)
		return ds_fail(err, -EINVAL, "%s: %s is missing", file(g).text, k ? value.text : key.text);
	if (k <= h->qk_rope || k - h->qk_rope > DS_MAX_HEAD_DIM || v > DS_MAX_HEAD_DIM)
		return ds_fail(err, -EINVAL,
			       "%s: keys of %" PRIu64 " elements, %u of them rotated, and values of %" PRIu64,
			       file(g).text, k, h->qk_rope, v);
	h->qk_nope = (uint32_t)k - h->qk_rope;
	h->v_head = (uint32_t)v;
	return 0;
}

/* Layers for multi-token prediction count as blocks, but come after the model's. Files without them may still announce
 * them. */
static void count_mtp(struct ds_gguf *g)
{
	struct ds_hparams *h = &g->hparams;
	char name[64];

	for (uint32_t within = h->n_mtp < h->n_layers ? h->n_mtp : 0;; within = 0) {
		snprintf(name, sizeof(name), "blk.%u.nextn.eh_proj.weight", h->n_layers - within);
		if (h->n_mtp > 0 && ds_gguf_find(g, name)) {
			h->n_layers -= within;
			return;
		}
		if (within == 0)
			break;
	}
	h->n_mtp = 0;
}

/* The first layer that has a router. */
static uint32_t count_dense(const struct ds_gguf *g)
{
	char name[64];

	for (uint32_t i = 0; i < g->hparams.n_layers; i++) {
		snprintf(name, sizeof(name), "blk.%u.ffn_gate_inp.weight", i);
		if (ds_gguf_find(g, name))
			return i;
	}
	return g->hparams.n_layers;
}

/* expert_gating_func: 1 softmax, 2 sigmoid. Files older than the key: only sigmoid comes with a bias. */
static int read_scoring(struct ds_gguf *g, uint32_t first_experts, struct ds_error *err)
{
	struct ds_gguf_name name = ds_gguf_name(g, "expert_gating_func");
	uint64_t function = 0;
	char bias[64];
	int r = ds_gguf_count(&g->parts[0], name.text, 0, UINT32_MAX, &function, err);

	if (r < 0)
		return r;
	if (function > 2)
		return ds_fail(err, -ENOTSUP, "%s: %s is %" PRIu64 ", supported: 1 (softmax), 2 (sigmoid)",
			       file(g).text, name.text, function);
	snprintf(bias, sizeof(bias), "blk.%u.exp_probs_b.bias", first_experts);
	if (function == 0)
		function = ds_gguf_find(g, bias) ? 2 : 1;
	g->hparams.expert_scoring = function == 2 ? DS_SCORING_SIGMOID : DS_SCORING_SOFTMAX;
	return 0;
}

static int check_experts(const struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_hparams *h = &g->hparams;
	uint32_t per_group;

	if (h->n_experts % h->n_groups || h->n_groups_used > h->n_groups)
		return ds_fail(err, -EINVAL, "%s: %u of %u groups of %u experts in all are not possible", file(g).text,
			       h->n_groups_used, h->n_groups, h->n_experts);
	per_group = h->n_experts / h->n_groups;
	if (h->n_experts_used > per_group * h->n_groups_used)
		return ds_fail(err, -EINVAL, "%s: %u experts of a token, chosen from %u groups of %u, are not possible",
			       file(g).text, h->n_experts_used, h->n_groups_used, per_group);
	if (h->expert_scoring == DS_SCORING_SIGMOID && h->n_groups > 1 && per_group < 2)
		return ds_fail(err, -EINVAL, "%s: %u groups leave less than two experts in a group", file(g).text,
			       h->n_groups);
	return 0;
}

static int read_experts(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	struct ds_gguf_name dense = ds_gguf_name(g, "leading_dense_block_count");
	uint64_t first_dense = count_dense(g);
	int r = read_keys(g, expert_keys, DS_ARRAY_SIZE(expert_keys), err);

	if (r == 0)
		r = read_scoring(g, (uint32_t)first_dense, err);
	if (r == 0)
		r = ds_gguf_count(&g->parts[0], dense.text, 0, DS_MAX_LAYERS, &first_dense, err);
	if (r < 0)
		return r;
	h->first_dense = (uint32_t)first_dense;
	if (h->first_dense != count_dense(g))
		return ds_fail(err, -EINVAL, "%s: %s is %u, but the first layer with a router (ffn_gate_inp) is %u",
			       file(g).text, dense.text, h->first_dense, count_dense(g));
	if (h->routed_scale == 0)
		h->routed_scale = 1;
	for (size_t i = 0; h->n_groups == 0 && i < DS_ARRAY_SIZE(groups); i++)
		if (groups[i].n_experts == h->n_experts && groups[i].scoring == h->expert_scoring) {
			h->n_groups = groups[i].n_groups;
			h->n_groups_used = groups[i].n_groups_used;
		}
	if (h->n_groups <= 1 || h->n_groups_used == 0)
		h->n_groups = h->n_groups_used = 1;
	return check_experts(g, err);
}

static int read_mla(struct ds_gguf *g, struct ds_error *err)
{
	int r = read_keys(g, mla_keys, DS_ARRAY_SIZE(mla_keys), err);

	if (r == 0 && g->hparams.qk_rope % 2)
		r = ds_fail(err, -EINVAL, "%s: %s is %u, but rotation needs an even number", file(g).text,
			    ds_gguf_name(g, "rope.dimension_count").text, g->hparams.qk_rope);
	if (r == 0)
		r = read_mla_lengths(g, err);
	if (r < 0)
		return r;
	count_mtp(g);
	g->hparams.routed_scale = 1;
	return g->hparams.n_experts ? read_experts(g, err) : 0;
}

static int check_unsupported(const struct ds_gguf *g, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(unsupported); i++)
		if (ds_gguf_key(&g->parts[0], ds_gguf_name(g, unsupported[i]).text))
			return ds_fail(err, -ENOTSUP, "%s: %s is not supported", file(g).text,
				       ds_gguf_name(g, unsupported[i]).text);
	for (size_t i = 0; i < DS_ARRAY_SIZE(unsupported_tensors); i++)
		if (!(unsupported_tensors[i].qkv && g->architecture->qkv_bias) &&
		    ds_gguf_find(g, unsupported_tensors[i].name))
			return ds_fail(err, -ENOTSUP, "%s: tensor %s is not supported in %s", file(g).text,
				       unsupported_tensors[i].name, g->architecture->name);
	return 0;
}

int ds_gguf_read_config(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	int r = read_architecture(g, err);

	if (r == 0)
		r = check_unsupported(g, err);
	if (r == 0)
		r = read_keys(g, common_keys, DS_ARRAY_SIZE(common_keys), err);
	if (r == 0)
		r = read_vocab(g, err);
	if (r < 0)
		return r;
	snprintf(h->architecture, sizeof(h->architecture), g->architecture->mla ? "deepseek" : "llama");
	r = g->architecture->mla ? read_mla(g, err) : read_gqa(g, err);
	return r < 0 ? r : ds_gguf_read_rope(g, err);
}

/* synth-presets.c - see synth-presets.h. */
#include "synth-presets.h"

#include <string.h>

#define GQA(layers, size, wide, heads, groups, words, theta, eps)                                                      \
	.architecture = "llama", .vocab = words, .hidden = size, .n_layers = layers, .n_heads = heads,                 \
	.context = 131072, .ff = wide, .norm_eps = eps, .rope_theta = theta, .rope_factor = 1, .n_kv_heads = groups,   \
	.head_dim = 128

#define MLA(layers, size, wide, heads, words)                                                                          \
	.architecture = "deepseek", .vocab = words, .hidden = size, .n_layers = layers, .n_heads = heads,              \
	.context = 163840, .ff = wide, .norm_eps = 1e-6f, .rope_theta = 10000, .rope_scaling = DS_ROPE_YARN,           \
	.rope_factor = 40, .rope_beta_fast = 32, .rope_beta_slow = 1, .rope_original_context = 4096, .kv_lora = 512,   \
	.qk_nope = 128, .qk_rope = 64, .v_head = 128

#define R1_EXPERTS                                                                                                     \
	.q_lora = 1536, .n_experts = 256, .n_experts_used = 8, .n_shared = 1, .moe_ff = 2048,                          \
	.expert_scoring = DS_SCORING_SIGMOID, .n_groups = 8, .n_groups_used = 4, .normalize_weights = 1,               \
	.routed_scale = 2.5f, .rope_mscale = 1, .rope_mscale_all_dim = 1

#define LITE_EXPERTS                                                                                                   \
	.n_experts = 64, .n_experts_used = 6, .n_shared = 2, .moe_ff = 1408, .first_dense = 1,                         \
	.expert_scoring = DS_SCORING_SOFTMAX, .n_groups = 1, .n_groups_used = 1, .routed_scale = 1,                    \
	.rope_mscale = 0.707f, .rope_mscale_all_dim = 0.707f

static const struct synth_preset presets[] = {
	{"r1-distill-qwen-1.5b",
	 "28 layers of 1536",
	 "qwen2",
	 {GQA(28, 1536, 8960, 12, 2, 151936, 10000, 1e-6f), .qkv_bias = 1}},
	{"r1-distill-qwen-7b",
	 "28 layers of 3584",
	 "qwen2",
	 {GQA(28, 3584, 18944, 28, 4, 152064, 10000, 1e-6f), .qkv_bias = 1}},
	{"r1-distill-qwen-14b",
	 "48 layers of 5120",
	 "qwen2",
	 {GQA(48, 5120, 13824, 40, 8, 152064, 1e6f, 1e-5f), .qkv_bias = 1}},
	{"r1-distill-llama-8b",
	 "32 layers of 4096",
	 "llama-bpe",
	 {GQA(32, 4096, 14336, 32, 8, 128256, 5e5f, 1e-5f), .rope_scaling = DS_ROPE_LLAMA3, .rope_factor = 8,
	  .rope_low_freq_factor = 1, .rope_high_freq_factor = 4, .rope_original_context = 8192}},
	{"v2-lite", "27 layers of 2048, 64 experts", "deepseek-llm", {MLA(27, 2048, 10944, 16, 102400), LITE_EXPERTS}},
	{"r1-slice",
	 "one dense and one layer of 256 experts of R1",
	 "deepseek-v3",
	 {MLA(2, 7168, 18432, 128, 129280), R1_EXPERTS, .first_dense = 1}},
	{"tiny-qwen",
	 "4 layers of 256",
	 "qwen2",
	 {GQA(4, 256, 512, 4, 2, 1024, 10000, 1e-6f), .head_dim = 64, .context = 2048, .qkv_bias = 1}},
	{"tiny-llama",
	 "4 layers of 256",
	 "llama-bpe",
	 {GQA(4, 256, 512, 4, 2, 1024, 5e5f, 1e-5f), .head_dim = 64, .context = 2048, .rope_scaling = DS_ROPE_LLAMA3,
	  .rope_factor = 8, .rope_low_freq_factor = 1, .rope_high_freq_factor = 4, .rope_original_context = 256}},
	{"tiny-deepseek",
	 "3 layers of 256, 8 experts",
	 "deepseek-v3",
	 {MLA(3, 256, 512, 4, 1024), R1_EXPERTS, .context = 2048, .q_lora = 256, .kv_lora = 256, .qk_nope = 64,
	  .qk_rope = 32, .v_head = 64, .n_experts = 8, .n_experts_used = 2, .moe_ff = 256, .n_groups = 1,
	  .n_groups_used = 1, .first_dense = 1}},
};

const struct synth_preset *synth_preset_find(const char *name)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(presets); i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}

void synth_preset_list(FILE *to)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(presets); i++)
		fprintf(to, "  %-22s %s\n", presets[i].name, presets[i].summary);
}

enum condition {
	ALWAYS,
	IF_GQA,
	IF_BIAS,
	IF_QK_NORM,
	IF_MLA,
	IF_JOINT,
	IF_SPLIT,
	IF_Q_LORA,
	IF_NO_Q_LORA,
	IF_DENSE,
	IF_EXPERTS,
	IF_SIGMOID,
	IF_SHARED,
};

struct row {
	const char *name;
	enum condition when;
	uint64_t shape[3]; /* until 0 */
};

static bool holds(enum condition when, const struct ds_hparams *h, bool joint, bool dense)
{
	bool mla = h->n_kv_heads == 0;

	switch (when) {
	case IF_GQA:
		return !mla;
	case IF_BIAS:
		return h->qkv_bias;
	case IF_QK_NORM:
		return h->qk_norm;
	case IF_MLA:
		return mla;
	case IF_JOINT:
		return mla && joint;
	case IF_SPLIT:
		return mla && !joint;
	case IF_Q_LORA:
		return mla && h->q_lora > 0;
	case IF_NO_Q_LORA:
		return mla && h->q_lora == 0;
	case IF_DENSE:
		return dense;
	case IF_EXPERTS:
		return !dense;
	case IF_SIGMOID:
		return !dense && h->expert_scoring == DS_SCORING_SIGMOID;
	case IF_SHARED:
		return !dense && h->n_shared > 0;
	default:
		return true;
	}
}

typedef int add_function(void *self, const struct ds_tensor_desc *desc, struct ds_error *err);

static int add_row(const struct row *row, const char *prefix, add_function *add, void *self, struct ds_error *err)
{
	char name[96];
	struct ds_tensor_desc desc = {.name = name, .dtype = DS_DTYPE_F32, .shape = {1, 1, 1, 1}};

	snprintf(name, sizeof(name), "%s%s", prefix, row->name);
	for (; desc.n_dims < 3 && row->shape[desc.n_dims]; desc.n_dims++)
		desc.shape[desc.n_dims] = row->shape[desc.n_dims];
	return add(self, &desc, err);
}

static int each_of_layer(const struct ds_hparams *h, uint32_t layer, bool joint, add_function *add, void *self,
			 struct ds_error *err)
{
	uint64_t e = h->hidden, q = (uint64_t)h->n_heads * (h->qk_nope + h->qk_rope),
		 shared = h->n_shared * (uint64_t)h->moe_ff;
	uint64_t heads = (uint64_t)h->n_heads * h->head_dim, groups = (uint64_t)h->n_kv_heads * h->head_dim;
	uint64_t values = (uint64_t)h->n_heads * h->v_head;
	const struct row rows[] = {
		{"attention_norm", ALWAYS, {e}},
		{"q", IF_GQA, {heads, e}},
		{"k", IF_GQA, {groups, e}},
		{"v", IF_GQA, {groups, e}},
		{"q_bias", IF_BIAS, {heads}},
		{"k_bias", IF_BIAS, {groups}},
		{"v_bias", IF_BIAS, {groups}},
		{"q_norm", IF_QK_NORM, {h->head_dim}},
		{"k_norm", IF_QK_NORM, {h->head_dim}},
		{"attention_output", IF_GQA, {e, heads}},
		{"q", IF_NO_Q_LORA, {q, e}},
		{"q_a", IF_Q_LORA, {h->q_lora, e}},
		{"q_a_norm", IF_Q_LORA, {h->q_lora}},
		{"q_b", IF_Q_LORA, {q, h->q_lora}},
		{"kv_a", IF_MLA, {(uint64_t)h->kv_lora + h->qk_rope, e}},
		{"kv_a_norm", IF_MLA, {h->kv_lora}},
		{"kv_b", IF_JOINT, {(uint64_t)h->n_heads * (h->qk_nope + h->v_head), h->kv_lora}},
		{"k_b", IF_SPLIT, {h->n_heads, h->kv_lora, h->qk_nope}},
		{"v_b", IF_SPLIT, {h->n_heads, h->v_head, h->kv_lora}},
		{"attention_output", IF_MLA, {e, values}},
		{"ffn_norm", ALWAYS, {e}},
		{"ffn_gate", IF_DENSE, {h->ff, e}},
		{"ffn_up", IF_DENSE, {h->ff, e}},
		{"ffn_down", IF_DENSE, {e, h->ff}},
		{"router", IF_EXPERTS, {h->n_experts, e}},
		{"router_bias", IF_SIGMOID, {h->n_experts}},
		{"experts_gate", IF_EXPERTS, {h->n_experts, h->moe_ff, e}},
		{"experts_up", IF_EXPERTS, {h->n_experts, h->moe_ff, e}},
		{"experts_down", IF_EXPERTS, {h->n_experts, e, h->moe_ff}},
		{"shared_gate", IF_SHARED, {shared, e}},
		{"shared_up", IF_SHARED, {shared, e}},
		{"shared_down", IF_SHARED, {e, shared}},
	};
	bool dense = h->n_experts == 0 || layer < h->first_dense;
	char prefix[24];
	int r = 0;

	snprintf(prefix, sizeof(prefix), "layers.%u.", layer);
	for (size_t i = 0; r == 0 && i < DS_ARRAY_SIZE(rows); i++)
		if (holds(rows[i].when, h, joint, dense))
			r = add_row(&rows[i], prefix, add, self, err);
	return r;
}

int synth_each_tensor(const struct ds_hparams *h, bool joint, add_function *add, void *self, struct ds_error *err)
{
	const struct row rows[] = {
		{"token_embedding", ALWAYS, {h->vocab, h->hidden}},
		{"output_norm", ALWAYS, {h->hidden}},
		{"output", ALWAYS, {h->vocab, h->hidden}},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < DS_ARRAY_SIZE(rows); i++)
		r = add_row(&rows[i], "", add, self, err);
	for (uint32_t i = 0; r == 0 && i < h->n_layers; i++)
		r = each_of_layer(h, i, joint, add, self, err);
	return r;
}

/* gguf-model.c - hyperparameters and names of tensors by tables. */
#include "gguf-model.h"

#include <math.h>
#include <string.h>

static bool is_mla(const struct ds_hparams *h)
{
	return h->n_kv_heads == 0;
}

const char *ds_gguf_architecture(const struct ds_hparams *h)
{
	if (is_mla(h))
		return "deepseek2";
	if (h->qk_norm)
		return h->qkv_bias ? NULL : "qwen3";
	return h->qkv_bias ? "qwen2" : "llama";
}

static void put_experts(struct ds_gguf_writer *w, const char *arch, const struct ds_hparams *h)
{
	ds_gguf_writer_u32(w, arch, "leading_dense_block_count", h->n_experts ? h->first_dense : h->n_layers);
	if (h->n_experts == 0)
		return;
	ds_gguf_writer_u32(w, arch, "expert_count", h->n_experts);
	ds_gguf_writer_u32(w, arch, "expert_used_count", h->n_experts_used);
	ds_gguf_writer_u32(w, arch, "expert_shared_count", h->n_shared);
	ds_gguf_writer_u32(w, arch, "expert_feed_forward_length", h->moe_ff);
	ds_gguf_writer_f32(w, arch, "expert_weights_scale", h->routed_scale);
	ds_gguf_writer_bool(w, arch, "expert_weights_norm", h->normalize_weights);
	ds_gguf_writer_u32(w, arch, "expert_gating_func", h->expert_scoring == DS_SCORING_SIGMOID ? 2 : 1);
	if (h->n_groups > 0) {
		ds_gguf_writer_u32(w, arch, "expert_group_count", h->n_groups);
		ds_gguf_writer_u32(w, arch, "expert_group_used_count", h->n_groups_used);
	}
}

/* With keys and values apart, attention is described as it is computed: one head of keys, which is the latent. */
static void put_mla(struct ds_gguf_writer *w, const char *arch, const struct ds_hparams *h, bool joint)
{
	uint32_t key = h->qk_nope + h->qk_rope;

	ds_gguf_writer_u32(w, arch, "attention.head_count_kv", joint ? h->n_heads : 1);
	if (h->q_lora > 0)
		ds_gguf_writer_u32(w, arch, "attention.q_lora_rank", h->q_lora);
	ds_gguf_writer_u32(w, arch, "attention.kv_lora_rank", h->kv_lora);
	ds_gguf_writer_u32(w, arch, "attention.key_length", joint ? key : h->kv_lora + h->qk_rope);
	ds_gguf_writer_u32(w, arch, "attention.value_length", joint ? h->v_head : h->kv_lora);
	if (!joint) {
		ds_gguf_writer_u32(w, arch, "attention.key_length_mla", key);
		ds_gguf_writer_u32(w, arch, "attention.value_length_mla", h->v_head);
	}
	ds_gguf_writer_u32(w, arch, "rope.dimension_count", h->qk_rope);
	put_experts(w, arch, h);
}

static void put_gqa(struct ds_gguf_writer *w, const char *arch, const struct ds_hparams *h)
{
	ds_gguf_writer_u32(w, arch, "attention.head_count_kv", h->n_kv_heads);
	ds_gguf_writer_u32(w, arch, "attention.key_length", h->head_dim);
	ds_gguf_writer_u32(w, arch, "attention.value_length", h->head_dim);
	ds_gguf_writer_u32(w, arch, "rope.dimension_count", h->head_dim);
}

static void put_rope(struct ds_gguf_writer *w, const char *arch, const struct ds_hparams *h)
{
	ds_gguf_writer_f32(w, arch, "rope.freq_base", h->rope_theta);
	if (h->rope_scaling != DS_ROPE_YARN && h->rope_scaling != DS_ROPE_LINEAR)
		return;
	ds_gguf_writer_text(w, arch, "rope.scaling.type", h->rope_scaling == DS_ROPE_YARN ? "yarn" : "linear");
	ds_gguf_writer_f32(w, arch, "rope.scaling.factor", h->rope_factor);
	if (h->rope_scaling == DS_ROPE_LINEAR)
		return;
	ds_gguf_writer_u32(w, arch, "rope.scaling.original_context_length", h->rope_original_context);
	ds_gguf_writer_f32(w, arch, "rope.scaling.yarn_beta_fast", h->rope_beta_fast);
	ds_gguf_writer_f32(w, arch, "rope.scaling.yarn_beta_slow", h->rope_beta_slow);
	if (is_mla(h))
		ds_gguf_writer_f32(w, arch, "rope.scaling.yarn_log_multiplier",
				   (float)(0.1 * (double)h->rope_mscale_all_dim));
	else /* magnitude = factor * (0.1 ln s + 1) */
		ds_gguf_writer_f32(w, arch, "rope.scaling.yarn_attn_factor",
				   (float)((h->rope_magnitude > 0 ? (double)h->rope_magnitude : 1) /
					   (0.1 * log((double)h->rope_factor) + 1)));
}

void ds_gguf_put_hparams(struct ds_gguf_writer *w, const struct ds_hparams *h, bool joint)
{
	const char *arch = ds_gguf_architecture(h);

	ds_gguf_writer_u32(w, arch, "vocab_size", h->vocab);
	ds_gguf_writer_u32(w, arch, "context_length", h->context);
	ds_gguf_writer_u32(w, arch, "embedding_length", h->hidden);
	ds_gguf_writer_u32(w, arch, "block_count", h->n_layers);
	ds_gguf_writer_u32(w, arch, "feed_forward_length", h->ff);
	ds_gguf_writer_u32(w, arch, "attention.head_count", h->n_heads);
	ds_gguf_writer_f32(w, arch, "attention.layer_norm_rms_epsilon", h->norm_eps);
	if (is_mla(h))
		put_mla(w, arch, h, joint);
	else
		put_gqa(w, arch, h);
	put_rope(w, arch, h);
}

/* Llama 3.1: wavelengths up to original / high stay, those above original / low are stretched by the factor, between
 * them both are blended. */
static double llama3_divisor(const struct ds_hparams *h, uint32_t pair)
{
	double frequency = pow((double)h->rope_theta, -2.0 * pair / h->head_dim);
	double turns = h->rope_original_context * frequency / (2 * M_PI), low = (double)h->rope_low_freq_factor;
	double high = (double)h->rope_high_freq_factor, factor = (double)h->rope_factor, smooth;

	if (turns > high)
		return 1;
	if (turns < low)
		return factor;
	smooth = (turns - low) / (high - low);
	return 1 / ((1 - smooth) / factor + smooth);
}

bool ds_gguf_rope_divisors(const struct ds_hparams *h, float *divisors)
{
	if (is_mla(h) || (h->rope_scaling != DS_ROPE_LLAMA3 && h->rope_scaling != DS_ROPE_DIVISORS))
		return false;
	for (uint32_t i = 0; i < h->head_dim / 2 && i < DS_MAX_ROPE_PAIRS; i++)
		divisors[i] = h->rope_scaling == DS_ROPE_DIVISORS ? h->rope_divisors[i] : (float)llama3_divisor(h, i);
	return true;
}

/* Canonical names, those with a dot before them being of a layer. */
static const char *const tensor_names[][2] = {
	{"token_embedding", "token_embd.weight"},
	{"output_norm", "output_norm.weight"},
	{"output", "output.weight"},
	{".attention_norm", ".attn_norm.weight"},
	{".q", ".attn_q.weight"},
	{".k", ".attn_k.weight"},
	{".v", ".attn_v.weight"},
	{".q_bias", ".attn_q.bias"},
	{".k_bias", ".attn_k.bias"},
	{".v_bias", ".attn_v.bias"},
	{".q_norm", ".attn_q_norm.weight"},
	{".k_norm", ".attn_k_norm.weight"},
	{".q_a", ".attn_q_a.weight"},
	{".q_a_norm", ".attn_q_a_norm.weight"},
	{".q_b", ".attn_q_b.weight"},
	{".kv_a", ".attn_kv_a_mqa.weight"},
	{".kv_a_norm", ".attn_kv_a_norm.weight"},
	{".kv_b", ".attn_kv_b.weight"},
	{".k_b", ".attn_k_b.weight"},
	{".v_b", ".attn_v_b.weight"},
	{".attention_output", ".attn_output.weight"},
	{".ffn_norm", ".ffn_norm.weight"},
	{".ffn_gate", ".ffn_gate.weight"},
	{".ffn_up", ".ffn_up.weight"},
	{".ffn_down", ".ffn_down.weight"},
	{".router", ".ffn_gate_inp.weight"},
	{".router_bias", ".exp_probs_b.bias"},
	{".experts_gate", ".ffn_gate_exps.weight"},
	{".experts_up", ".ffn_up_exps.weight"},
	{".experts_down", ".ffn_down_exps.weight"},
	{".shared_gate", ".ffn_gate_shexp.weight"},
	{".shared_up", ".ffn_up_shexp.weight"},
	{".shared_down", ".ffn_down_shexp.weight"},
};

bool ds_gguf_tensor_name(char *out, size_t size, const char *name)
{
	unsigned layer = 0;
	int start = 0;
	bool in_layer = sscanf(name, "layers.%u%n", &layer, &start) == 1;

	for (size_t i = 0; i < DS_ARRAY_SIZE(tensor_names); i++) {
		if (strcmp(tensor_names[i][0], name + start) != 0)
			continue;
		if (in_layer)
			snprintf(out, size, "blk.%u%s", layer, tensor_names[i][1]);
		else
			snprintf(out, size, "%s", tensor_names[i][1]);
		return true;
	}
	return false;
}

bool ds_gguf_is_permuted(const struct ds_hparams *h, const char *name)
{
	static const char *const heads[] = {"q", "k", "q_bias", "k_bias"};
	const char *last = strrchr(name, '.');
	const char *arch = ds_gguf_architecture(h);

	for (size_t i = 0; last && i < DS_ARRAY_SIZE(heads); i++)
		if (strcmp(last + 1, heads[i]) == 0)
			return strcmp(arch, "llama") == 0;
	return false;
}

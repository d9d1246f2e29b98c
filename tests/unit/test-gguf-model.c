/* test-gguf-model.c - keys and tensors of GGUF files -> hyperparameters and canonical tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "small-gguf.h"

#include <math.h>

static void assert_shape(struct checkpoint *c, const char *name, enum ds_dtype dtype, uint32_t n_dims, uint64_t a,
			 uint64_t b, uint64_t d)
{
	struct checkpoint_tensor *t = checkpoint_find(c, name);

	if (!t)
		fail_msg("%s is not described", name);
	assert_int_equal(t->desc.dtype, dtype);
	assert_int_equal(t->desc.n_dims, n_dims);
	assert_int_equal(t->desc.shape[0], a);
	assert_int_equal(t->desc.shape[1], b);
	assert_int_equal(t->desc.shape[2], d);
}

/* The parts of @name, of which there are @n. */
static const struct ds_part *parts_of(struct checkpoint *c, const char *name, uint32_t n)
{
	const struct checkpoint_tensor *t = checkpoint_find(c, name);
	uint32_t index = t ? (uint32_t)(t - c->tensors) : UINT32_MAX, first = 0, count = 0;

	while (first < c->n_parts && c->parts[first].tensor != index)
		first++;
	while (first + count < c->n_parts && c->parts[first + count].tensor == index)
		count++;
	assert_int_equal(count, n);
	return &c->parts[first];
}

/* ---- grouped-query attention ---- */

static void llamas_rows_go_back_into_halves(void **state)
{
	struct small s = SMALL();
	const struct ds_part *q;
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	describe_small(c, &s);
	assert_string_equal(c->hparams.architecture, "llama");
	assert_int_equal(c->hparams.n_kv_heads, 1);
	assert_int_equal(c->hparams.head_dim, HEAD_DIM);
	assert_int_equal(c->hparams.vocab, VOCAB);
	assert_shape(c, "layers.0.q", DS_DTYPE_BF16, 2, HEADS * HEAD_DIM, HIDDEN, 1);
	assert_shape(c, "layers.0.attention_norm", DS_DTYPE_F32, 1, HIDDEN, 1, 1);
	q = parts_of(c, "layers.0.q", 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(q[i].row, i * HEAD_DIM / 2);
		assert_int_equal(q[i].n_rows, HEAD_DIM / 2);
		assert_int_equal(q[i].stride, 2 * HIDDEN * 2);
		assert_int_equal(q[i].offset - q[0].offset, (i / 2 * HEAD_DIM + i % 2) * HIDDEN * 2);
	}
	parts_of(c, "layers.0.k", 2);
	assert_int_equal(parts_of(c, "layers.0.v", 1)->stride, 0);
}

static void qwens_rows_are_in_order(void **state)
{
	struct small two = SMALL(), three = SMALL();
	NEW_CHECKPOINT;

	small_gqa(&two, "qwen2");
	describe_small(c, &two);
	assert_int_equal(parts_of(c, "layers.0.q", 1)->stride, 0);
	assert_true(c->hparams.qkv_bias && !c->hparams.qk_norm);
	assert_shape(c, "layers.0.q_bias", DS_DTYPE_F32, 1, HEADS * HEAD_DIM, 1, 1);
	assert_null(checkpoint_find(c, "layers.0.attention_output_bias"));
	layer_tensor(&two, 0, "attn_output.bias", HIDDEN, 0, 0);
	describe_small(c, &two);
	assert_shape(c, "layers.0.attention_output_bias", DS_DTYPE_F32, 1, HIDDEN, 1, 1);
	layer_tensor(&two, 0, "ffn_up.bias", FF, 0, 0);
	assert_small_refused(&two, -ENOTSUP, "tensor blk.0.ffn_up.bias is not supported in qwen2");
	small_gqa(&three, "qwen3");
	describe_small(c, &three);
	assert_true(!c->hparams.qkv_bias && c->hparams.qk_norm);
	assert_shape(c, "layers.0.k_norm", DS_DTYPE_F32, 1, HEAD_DIM, 1, 1);
	assert_null(checkpoint_find(c, "layers.0.q_bias"));
}

static void heads_may_be_longer_than_their_share(void **state)
{
	struct small s = SMALL(.without = "blk.0.attn_output.weight"), other = SMALL();
	NEW_CHECKPOINT;

	small_gqa(&s, "qwen3");
	assert_small_refused(&s, -EINVAL, "tensor blk.0.attn_output.weight is missing from m.gguf");
	small_gqa(&other, "qwen3");
	key_u32(&other, "qwen3.attention.key_length", 2 * HEAD_DIM);
	key_u32(&other, "qwen3.attention.value_length", 2 * HEAD_DIM);
	assert_small_refused(&other, -EINVAL,
			     "tensor blk.0.attn_q.weight has the shape [64, 64, 1, 1], the keys ask for [64, 128, 1]");
}

static void a_missing_output_stays_missing(void **state)
{
	struct small s = SMALL(.without = "output.weight");
	NEW_CHECKPOINT;

	small_gqa(&s, "qwen2");
	describe_small(c, &s);
	assert_null(checkpoint_find(c, "output"));
}

static void quantised_rows_keep_their_type(void **state)
{
	struct small s = SMALL(.type = Q8_0);
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	describe_small(c, &s);
	assert_shape(c, "layers.0.k", DS_DTYPE_Q8_0, 2, HEAD_DIM, HIDDEN, 1);
	assert_int_equal(parts_of(c, "layers.0.k", 2)->stride, 2 * HIDDEN / 32 * 34);
}

static void a_type_that_is_not_supported_is_named_with_those_that_are(void **state)
{
	struct small s = SMALL(.without = "blk.0.ffn_down.weight");
	struct ds_error err;

	small_gqa(&s, "llama");
	/* as large as the tensor should be, so that its type is all that is wrong */
	info(&s, "blk.0.ffn_down.weight", I32, s.data_size, 2, (const uint64_t[]){FF, HIDDEN});
	s.data_size += FF * HIDDEN * 4;
	assert_small_refused(&s, -ENOTSUP,
			     "m.gguf: tensor blk.0.ffn_down.weight has type I32; supported: F32, F16, Q4_0, ");
	assert_small_refused(&s, -ENOTSUP, "Q6_K, IQ4_NL, IQ4_XS, BF16, MXFP4");
	assert_int_equal(ds_gguf_refuse_type(16, &(const struct ds_file){.name = "m.gguf"}, "t", &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "m.gguf: tensor t has type IQ2_XXS; supported: F32, "));
}

/* ---- keys ---- */

static void models_that_cannot_be_honoured_are_refused(void **state)
{
	static const struct {
		const char *key;
		uint32_t type;
		uint64_t value;
		int code;
		const char *part;
	} cases[] = {
		{"llama.context_length", DS_GGUF_U32, 0, -EINVAL,
		 "llama.context_length is 0, allowed: 1 to 16777216"},
		{"llama.embedding_length", DS_GGUF_I32, 0xffffffff, -EINVAL,
		 "llama.embedding_length is -1, allowed: 1 to"},
		{"llama.block_count", DS_GGUF_F32, 0, -EINVAL, "llama.block_count should be a whole number, not f32"},
		{"llama.block_count", DS_GGUF_U64, 2, -EINVAL, "tensor blk.1.attn_norm.weight is missing"},
		{"llama.attention.head_count", DS_GGUF_U32, 3, -EINVAL, "3 heads do not divide the embedding of 64"},
		{"llama.attention.head_count_kv", DS_GGUF_U32, 3, -EINVAL,
		 "3 heads of keys and values do not divide 2"},
		{"llama.attention.layer_norm_rms_epsilon", DS_GGUF_F32, 0x7fc00000, -EINVAL, "epsilon is nan, allowed"},
		{"llama.attention.value_length", DS_GGUF_U32, 8, -ENOTSUP,
		 "value_length is 8, supported: as long as a key, 32"},
		{"llama.rope.dimension_count", DS_GGUF_U32, 8, -ENOTSUP, "rope.dimension_count is 8, supported"},
		{"llama.attention.key_length", DS_GGUF_U32, 31, -EINVAL,
		 "heads of 31 elements cannot be rotated in pairs"},
		{"llama.expert_count", DS_GGUF_U32, 8, -ENOTSUP, "llama.expert_count is 8, supported: none, 0"},
		{"llama.vocab_size", DS_GGUF_U32, 7, -EINVAL, "tensor token_embd.weight has the shape [64, 6, 1, 1]"},
		{"llama.logit_scale", DS_GGUF_F32, 0, -ENOTSUP, "llama.logit_scale is not supported"},
		{"llama.rope.freq_base", DS_GGUF_F32, 0, -EINVAL, "llama.rope.freq_base is 0, allowed: 2 to"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.without = cases[i].key);

		small_gqa(&s, "llama");
		s.without = NULL;
		key(&s, cases[i].key, cases[i].type);
		put(&s.keys, &cases[i].value, ds_gguf_value_size(cases[i].type));
		assert_small_refused(&s, cases[i].code, cases[i].part);
	}
}

static void missing_keys_and_tensors_are_named(void **state)
{
	static const char *const names[] = {
		"general.architecture",
		"llama.context_length",
		"llama.embedding_length",
		"llama.block_count",
		"llama.feed_forward_length",
		"llama.attention.head_count",
		"llama.attention.layer_norm_rms_epsilon",
		"token_embd.weight",
		"output_norm.weight",
		"blk.0.attn_norm.weight",
		"blk.0.ffn_down.weight",
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++) {
		struct small s = SMALL(.without = names[i]);

		small_gqa(&s, "llama");
		assert_small_refused(&s, -EINVAL, names[i]);
		assert_small_refused(&s, -EINVAL, "missing");
	}
}

static void other_architectures_and_kinds_of_files_are_named(void **state)
{
	struct small moe = SMALL(), adapter = SMALL(), biased = SMALL(), words = SMALL();

	common_keys(&moe, "deepseek", 1);
	assert_small_refused(&moe, -ENOTSUP,
			     "architecture deepseek is not supported (supported: llama, qwen2, qwen3, deepseek2)");
	small_gqa(&adapter, "llama");
	key_text(&adapter, "general.type", "adapter");
	assert_small_refused(&adapter, -ENOTSUP, "general.type adapter is not supported (supported: model)");
	small_gqa(&biased, "llama");
	layer_tensor(&biased, 0, "attn_q.bias", HEADS * HEAD_DIM, 0, 0);
	assert_small_refused(&biased, -ENOTSUP, "tensor blk.0.attn_q.bias is not supported in llama");
	common_keys(&words, "llama", 1);
	assert_small_refused(&words, -EINVAL, "token_embd.weight is missing: a vocabulary, not a model");
}

static void numbers_of_layers_may_be_given_one_by_one_if_they_are_equal(void **state)
{
	struct small same = SMALL(.without = "llama.feed_forward_length"), other = same;
	NEW_CHECKPOINT;

	small_gqa(&same, "llama");
	same.without = NULL;
	key_u32s(&same, "llama.feed_forward_length", (const uint32_t[]){FF, FF}, 2);
	describe_small(c, &same);
	assert_int_equal(c->hparams.ff, FF);
	small_gqa(&other, "llama");
	other.without = NULL;
	key_u32s(&other, "llama.feed_forward_length", (const uint32_t[]){FF, FF + 1}, 2);
	assert_small_refused(&other, -ENOTSUP, "llama.feed_forward_length differs from layer to layer");
}

/* ---- rotary positions ---- */

static void a_tensor_of_divisors_goes_before_keys(void **state)
{
	struct small s = SMALL(), wrong = SMALL();
	float divisors[HEAD_DIM / 2];
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	key_text(&s, "llama.rope.scaling.type", "linear");
	key_f32(&s, "llama.rope.scaling.factor", 4);
	tensor(&s, "rope_freqs.weight", HEAD_DIM / 2, 0, 0);
	for (int i = 0; i < HEAD_DIM / 2; i++)
		divisors[i] = 1 + (float)i / 4;
	write_small(c, &s, "m.gguf");
	/* the last tensor of the file */
	assert_int_equal(
		pwrite(c->files[0].fd, divisors, sizeof(divisors), (off_t)(c->files[0].size - sizeof(divisors))),
		sizeof(divisors));
	assert_described(c);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_DIVISORS);
	assert_memory_equal(c->hparams.rope_divisors, divisors, sizeof(divisors));
	assert_true(c->hparams.rope_divisors[HEAD_DIM / 2] == 0);
	/* zeros divide nothing */
	small_gqa(&wrong, "llama");
	tensor(&wrong, "rope_freqs.weight", HEAD_DIM / 2, 0, 0);
	assert_small_refused(&wrong, -EINVAL, "tensor rope_freqs.weight: number 0 is 0, allowed: above 0");
}

static void linear_scaling_divides_every_frequency(void **state)
{
	struct small s = SMALL(), old = SMALL(), none = SMALL();
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	key_text(&s, "llama.rope.scaling.type", "linear");
	key_f32(&s, "llama.rope.scaling.factor", 4);
	describe_small(c, &s);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_LINEAR);
	assert_true(c->hparams.rope_factor == 4);
	small_gqa(&old, "llama");
	key_f32(&old, "llama.rope.scale_linear", 2);
	describe_small(c, &old);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_LINEAR);
	assert_true(c->hparams.rope_factor == 2);
	small_gqa(&none, "llama");
	key_text(&none, "llama.rope.scaling.type", "none");
	key_f32(&none, "llama.rope.scaling.factor", 2);
	describe_small(c, &none);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_PLAIN);
	assert_true(c->hparams.rope_factor == 1 && c->hparams.rope_theta == 10000);
}

static void yarn(struct small *s, const char *architecture, const char *factor_key, float factor)
{
	char name[96];

	small_gqa(s, architecture);
	snprintf(name, sizeof(name), "%s.rope.scaling.type", architecture);
	key_text(s, name, "yarn");
	snprintf(name, sizeof(name), "%s.rope.scaling.factor", architecture);
	key_f32(s, name, 4);
	snprintf(name, sizeof(name), "%s.rope.scaling.original_context_length", architecture);
	key_u32(s, name, 32768);
	if (!factor_key)
		return;
	snprintf(name, sizeof(name), "%s.rope.scaling.%s", architecture, factor_key);
	key_f32(s, name, factor);
}

static void yarns_magnitude_is_what_the_file_says_and_of_qwen3_one(void **state)
{
	static const struct {
		const char *architecture, *key;
		float factor, magnitude;
	} cases[] = {
		{"qwen3", NULL, 0, 1},
		{"qwen3", "yarn_attn_factor", 0.87824886f, 1}, /* 1 / (0.1 ln 4 + 1) */
		{"qwen3", "attn_factor", 1, 1.1386294f},
		{"qwen2", NULL, 0, 1.1386294f},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL();
		NEW_CHECKPOINT;

		yarn(&s, cases[i].architecture, cases[i].key, cases[i].factor);
		describe_small(c, &s);
		assert_int_equal(c->hparams.rope_scaling, DS_ROPE_YARN);
		assert_int_equal(c->hparams.rope_original_context, 32768);
		assert_true(c->hparams.rope_beta_fast == 32 && c->hparams.rope_beta_slow == 1);
		assert_true(c->hparams.rope_magnitude == cases[i].magnitude);
	}
}

static void other_scalings_are_refused(void **state)
{
	struct small s = SMALL(), mla = SMALL();

	small_gqa(&s, "llama");
	key_text(&s, "llama.rope.scaling.type", "longrope");
	key_f32(&s, "llama.rope.scaling.factor", 4);
	assert_small_refused(&s, -ENOTSUP,
			     "llama.rope.scaling.type longrope is not supported (supported: none, linear, yarn)");
	small_mla(&mla, 4);
	key_f32(&mla, "deepseek2.rope.scaling.factor", 4);
	assert_small_refused(&mla, -ENOTSUP, "type linear is not supported (supported: none, yarn)");
}

/* ---- MLA ---- */

static void an_older_file_of_mla_gets_what_it_does_not_say(void **state)
{
	struct small s = SMALL();
	const struct ds_part *k, *v;
	NEW_CHECKPOINT;

	small_mla(&s, 4);
	key_text(&s, "deepseek2.rope.scaling.type", "yarn");
	key_f32(&s, "deepseek2.rope.scaling.factor", 40);
	describe_small(c, &s);
	assert_string_equal(c->hparams.architecture, "deepseek");
	assert_int_equal(c->hparams.q_lora, 0);
	assert_int_equal(c->hparams.qk_nope, NOPE);
	assert_int_equal(c->hparams.v_head, VALUE);
	assert_int_equal(c->hparams.first_dense, 1);
	/* a bias comes with sigmoid only, and with it V3's magnitude */
	assert_int_equal(c->hparams.expert_scoring, DS_SCORING_SIGMOID);
	assert_true(c->hparams.rope_mscale_all_dim == 1.0f && c->hparams.rope_mscale == 1.0f);
	assert_int_equal(c->hparams.n_groups, 1);
	assert_int_equal(c->hparams.n_groups_used, 1);
	assert_true(c->hparams.routed_scale == 1);
	assert_shape(c, "layers.0.k_b", DS_DTYPE_BF16, 3, HEADS, RANK, NOPE);
	assert_shape(c, "layers.0.v_b", DS_DTYPE_BF16, 3, HEADS, VALUE, RANK);
	k = parts_of(c, "layers.0.k_b", 2);
	v = parts_of(c, "layers.0.v_b", 2);
	assert_true(k[1].transposed && !v[1].transposed);
	assert_int_equal(k[1].offset - k[0].offset, (NOPE + VALUE) * RANK * 2);
	assert_int_equal(v[1].offset - k[0].offset, (NOPE + VALUE + NOPE) * RANK * 2);
}

static void softmax_is_what_a_file_without_bias_means(void **state)
{
	struct small s = SMALL(.without = "blk.1.exp_probs_b.bias"), said = SMALL(.without = "blk.1.exp_probs_b.bias");
	NEW_CHECKPOINT;

	small_mla(&s, 4);
	key_text(&s, "deepseek2.rope.scaling.type", "yarn");
	key_f32(&s, "deepseek2.rope.scaling.factor", 40);
	describe_small(c, &s);
	assert_int_equal(c->hparams.expert_scoring, DS_SCORING_SOFTMAX);
	assert_true(c->hparams.rope_mscale_all_dim == 0.707f);
	assert_null(checkpoint_find(c, "layers.1.router_bias"));
	small_mla(&said, 4);
	key_u32(&said, "deepseek2.expert_gating_func", 2);
	assert_small_refused(&said, -EINVAL, "tensor blk.1.exp_probs_b.bias is missing");
}

static void the_multiplier_in_the_file_is_a_tenth_of_what_it_came_from(void **state)
{
	static const struct {
		float multiplier, mscale;
	} cases[] = {{0.1f, 1}, {0.0707f, 0.707f}, {0, 0}, {0.12345f, 1.2345f}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL();
		NEW_CHECKPOINT;

		small_mla(&s, 4);
		key_text(&s, "deepseek2.rope.scaling.type", "yarn");
		key_f32(&s, "deepseek2.rope.scaling.factor", 40);
		key_f32(&s, "deepseek2.rope.scaling.yarn_log_multiplier", cases[i].multiplier);
		describe_small(c, &s);
		assert_true(c->hparams.rope_mscale_all_dim == cases[i].mscale);
	}
}

static void groups_of_known_sizes_are_known(void **state)
{
	static const struct {
		uint32_t n_experts;
		bool bias;
		uint32_t said, n_groups, used;
	} cases[] = {
		{256, true, 0, 8, 4},  {160, false, 0, 8, 3}, {64, false, 0, 1, 1},
		{256, false, 0, 1, 1}, {160, false, 1, 1, 1}, {64, true, 4, 4, 2},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.without = cases[i].bias ? NULL : "blk.1.exp_probs_b.bias");
		NEW_CHECKPOINT;

		small_mla(&s, cases[i].n_experts);
		if (cases[i].said) {
			key_u32(&s, "deepseek2.expert_group_count", cases[i].said);
			key_u32(&s, "deepseek2.expert_group_used_count", cases[i].used);
		}
		describe_small(c, &s);
		assert_int_equal(c->hparams.n_groups, cases[i].n_groups);
		assert_int_equal(c->hparams.n_groups_used, cases[i].used);
	}
}

/* head_count_kv is 1 there, and key_length and value_length are those of the latent. */
static void absorbed_attention_is_told_by_its_tensors(void **state)
{
	for (int with_lengths = 0; with_lengths < 2; with_lengths++) {
		struct small s = SMALL(.without = "deepseek2.attention.key_length");
		NEW_CHECKPOINT;

		mla_keys(&s, 1);
		key_u32(&s, "deepseek2.attention.head_count_kv", 1);
		s.without = NULL;
		key_u32(&s, "deepseek2.attention.key_length", RANK + ROPE);
		if (with_lengths) {
			key_u32(&s, "deepseek2.attention.key_length_mla", NOPE + ROPE);
			key_u32(&s, "deepseek2.attention.value_length_mla", VALUE);
		}
		common_tensors(&s);
		mla_tensors(&s, 0, true);
		dense_tensors(&s, 0);
		describe_small(c, &s);
		assert_int_equal(c->hparams.qk_nope, NOPE);
		assert_int_equal(c->hparams.v_head, VALUE);
		assert_int_equal(c->hparams.n_kv_heads, 0);
		assert_shape(c, "layers.0.k_b", DS_DTYPE_BF16, 3, HEADS, RANK, NOPE);
		assert_int_equal(parts_of(c, "layers.0.k_b", 1)->n_rows, HEADS * RANK);
	}
}

static void quantised_keys_that_must_be_turned_become_float32(void **state)
{
	struct small s = SMALL(.type = Q8_0);
	NEW_CHECKPOINT;

	small_mla(&s, 4);
	describe_small(c, &s);
	assert_shape(c, "layers.1.k_b", DS_DTYPE_F32, 3, HEADS, RANK, NOPE);
	assert_shape(c, "layers.1.v_b", DS_DTYPE_Q8_0, 3, HEADS, VALUE, RANK);
	assert_int_equal(parts_of(c, "layers.1.k_b", 2)[1].dtype, DS_DTYPE_Q8_0);
	assert_shape(c, "layers.1.experts_up", DS_DTYPE_Q8_0, 3, 4, MOE_FF, HIDDEN);
	assert_shape(c, "layers.1.router", DS_DTYPE_F32, 2, 4, HIDDEN, 1);
}

static void announced_layers_for_prediction_may_be_missing(void **state)
{
	struct small s = SMALL(), within = SMALL();
	NEW_CHECKPOINT;

	small_mla(&s, 4);
	key_u32(&s, "deepseek2.nextn_predict_layers", 1);
	describe_small(c, &s);
	assert_int_equal(c->hparams.n_mtp, 0);
	assert_int_equal(c->hparams.n_layers, 2);
	/* and where they are, the last block is one */
	small_mla(&within, 4);
	key_u32(&within, "deepseek2.nextn_predict_layers", 1);
	layer_tensor(&within, 1, "nextn.eh_proj.weight", 2 * HIDDEN, HIDDEN, 0);
	layer_tensor(&within, 1, "nextn.enorm.weight", HIDDEN, 0, 0);
	layer_tensor(&within, 1, "nextn.hnorm.weight", HIDDEN, 0, 0);
	layer_tensor(&within, 1, "nextn.shared_head_norm.weight", HIDDEN, 0, 0);
	describe_small(c, &within);
	assert_int_equal(c->hparams.n_mtp, 1);
	assert_int_equal(c->hparams.n_layers, 1);
	assert_shape(c, "mtp.0.projection", DS_DTYPE_BF16, 2, HIDDEN, 2 * HIDDEN, 1);
	assert_shape(c, "mtp.0.layer.router", DS_DTYPE_F32, 2, 4, HIDDEN, 1);
	assert_null(checkpoint_find(c, "mtp.0.output"));
}

static void experts_that_cannot_be_chosen_are_refused(void **state)
{
	static const struct {
		const char *key;
		uint32_t value;
		int code;
		const char *part;
	} cases[] = {
		{"expert_used_count", 5, -EINVAL, "5 experts of a token, chosen from 1 groups of 4"},
		{"expert_used_count", 0, -EINVAL, "expert_used_count is 0, allowed: 1 to"},
		{"expert_group_count", 3, -EINVAL, "1 of 3 groups of 4 experts in all are not possible"},
		{"expert_gating_func", 3, -ENOTSUP, "expert_gating_func is 3, supported: 1 (softmax), 2 (sigmoid)"},
		{"leading_dense_block_count", 2, -EINVAL,
		 "leading_dense_block_count is 2, but the first layer with a router (ffn_gate_inp) is 1"},
		{"expert_feed_forward_length", 16, -EINVAL,
		 "tensor blk.1.ffn_gate_exps.weight has the shape [64, 32, 4, 1]"},
		{"rope.dimension_count", 7, -EINVAL, "rope.dimension_count is 7, but rotation needs an even number"},
		{"attention.key_length", ROPE, -EINVAL, "keys of 8 elements, 8 of them rotated"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		char name[96];
		struct small s = SMALL(.without = name);

		snprintf(name, sizeof(name), "deepseek2.%s", cases[i].key);
		small_mla(&s, 4);
		s.without = NULL;
		key_u32(&s, name, cases[i].value);
		if (strcmp(cases[i].key, "expert_group_count") == 0)
			key_u32(&s, "deepseek2.expert_group_used_count", 1);
		assert_small_refused(&s, cases[i].code, cases[i].part);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(llamas_rows_go_back_into_halves),
		cmocka_unit_test(qwens_rows_are_in_order),
		cmocka_unit_test(heads_may_be_longer_than_their_share),
		cmocka_unit_test(a_missing_output_stays_missing),
		cmocka_unit_test(quantised_rows_keep_their_type),
		cmocka_unit_test(a_type_that_is_not_supported_is_named_with_those_that_are),
		cmocka_unit_test(models_that_cannot_be_honoured_are_refused),
		cmocka_unit_test(missing_keys_and_tensors_are_named),
		cmocka_unit_test(other_architectures_and_kinds_of_files_are_named),
		cmocka_unit_test(numbers_of_layers_may_be_given_one_by_one_if_they_are_equal),
		cmocka_unit_test(a_tensor_of_divisors_goes_before_keys),
		cmocka_unit_test(linear_scaling_divides_every_frequency),
		cmocka_unit_test(yarns_magnitude_is_what_the_file_says_and_of_qwen3_one),
		cmocka_unit_test(other_scalings_are_refused),
		cmocka_unit_test(an_older_file_of_mla_gets_what_it_does_not_say),
		cmocka_unit_test(softmax_is_what_a_file_without_bias_means),
		cmocka_unit_test(the_multiplier_in_the_file_is_a_tenth_of_what_it_came_from),
		cmocka_unit_test(groups_of_known_sizes_are_known),
		cmocka_unit_test(absorbed_attention_is_told_by_its_tensors),
		cmocka_unit_test(quantised_keys_that_must_be_turned_become_float32),
		cmocka_unit_test(announced_layers_for_prediction_may_be_missing),
		cmocka_unit_test(experts_that_cannot_be_chosen_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

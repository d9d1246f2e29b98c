/* test-format-safetensors-config.c - config.json: what is read of it, family by family, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "small-checkpoint.h"

static void a_config_is_read_with_the_defaults_of_its_family(void **state)
{
	NEW_CHECKPOINT;

	write_experts(c, "\"n_routed_experts\": 16", NULL);
	checkpoint_describe(c, &ds_safetensors_ops);
	write_experts(c, EXPERTS ", \"max_position_embeddings\": 77, \"routed_scaling_factor\": 3", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.context, 77);
	assert_int_equal(c->hparams.expert_scoring, DS_SCORING_SIGMOID);
	assert_int_equal(c->hparams.normalize_weights, 1);
	assert_true(c->hparams.routed_scale == 3 && c->hparams.rope_theta == 10000 && c->hparams.norm_eps == 1e-6f);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_PLAIN);
	assert_int_equal(c->hparams.n_shared, 1);
	write_dense(c, "", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.context, 2048);
	assert_int_equal(c->hparams.n_experts, 0);
	assert_int_equal(c->hparams.q_lora, 0);
}

static void yarn_is_read_however_it_is_spelled(void **state)
{
	static const char *const spellings[] = {
		"\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 0.5, \"mscale_all_dim\": 0.5}",
		"\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 40.0, \"mscale\": 0.5, \"mscale_all_dim\": "
		"0.5}",
		"\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 5000, \"factor\": 40, \"mscale\": 0.5, "
		"\"mscale_all_dim\": 0.5}",
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(spellings); i++) {
		NEW_CHECKPOINT;

		write_dense(c, spellings[i], NULL);
		assert_described(c);
		assert_int_equal(c->hparams.rope_scaling, DS_ROPE_YARN);
		assert_true(c->hparams.rope_factor == 40 && c->hparams.rope_mscale_all_dim == 0.5f);
		assert_true(c->hparams.rope_beta_fast == 32 && c->hparams.rope_beta_slow == 1);
		assert_int_equal(c->hparams.rope_original_context, 4096);
		assert_true(c->hparams.rope_theta == (i == 2 ? 5000 : 10000));
	}
}

static void routers_are_read_as_their_method_says(void **state)
{
	static const struct {
		const char *config;
		uint32_t scoring, n_groups, n_groups_used, normalize;
	} cases[] = {
		{"\"topk_method\": \"greedy\", \"n_group\": 8", DS_SCORING_SOFTMAX, 1, 1, 0},
		{"\"topk_method\": \"group_limited_greedy\", \"n_group\": 2, \"topk_group\": 1", DS_SCORING_SOFTMAX, 2,
		 1, 0},
		{"\"n_group\": null, \"norm_topk_prob\": true", DS_SCORING_SOFTMAX, 1, 1, 1},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		char config[512];
		NEW_CHECKPOINT;

		snprintf(config, sizeof(config),
			 "\"n_routed_experts\": 2, \"num_experts_per_tok\": 1, \"moe_intermediate_size\": 3, "
			 "\"n_shared_experts\": 1, %s",
			 cases[i].config);
		/* all layers have experts: the dense one's tensors do not fit, but the hyperparameters are told first
		 */
		write_dense(c, config, NULL);
		assert_refused(c, -EINVAL, "tensor model.layers.0.mlp.gate.weight is missing");
		assert_int_equal(c->hparams.expert_scoring, cases[i].scoring);
		assert_int_equal(c->hparams.n_groups, cases[i].n_groups);
		assert_int_equal(c->hparams.n_groups_used, cases[i].n_groups_used);
		assert_int_equal(c->hparams.normalize_weights, cases[i].normalize);
	}
}

static void configs_that_cannot_be_honoured_are_refused(void **state)
{
	static const struct {
		const char *more; /* beside the sizes; the last of two equal keys is refused, so these are others */
		int code;
		const char *sentence;
	} cases[] = {
		{"\"vocab_size\": 3", -EINVAL, "config.json: not valid JSON: line 1"},
		{"\"max_position_embeddings\": \"many\"", -EINVAL,
		 "config.json: max_position_embeddings should be a whole number"},
		{"\"max_position_embeddings\": 2.5", -EINVAL, "max_position_embeddings should be a whole number"},
		{"\"max_position_embeddings\": -1", -EINVAL, "max_position_embeddings is -1, allowed: 1 to 16777216"},
		{"\"max_position_embeddings\": 99999999999", -EINVAL, "max_position_embeddings is 1e+11, allowed"},
		{"\"max_position_embeddings\": 99999999999999999999", -EINVAL, "config.json: not valid JSON"},
		{"\"rms_norm_eps\": true", -EINVAL, "rms_norm_eps should be a number"},
		{"\"rope_theta\": 0", -EINVAL, "rope_theta is 0, allowed: 2 to"},
		{"\"norm_topk_prob\": 1", -EINVAL, "norm_topk_prob should be true or false"},
		{"\"tie_word_embeddings\": \"yes\"", -EINVAL, "tie_word_embeddings should be true or false"},
		{"\"hidden_act\": \"gelu\"", -ENOTSUP, "hidden_act \"gelu\" is not supported (supported: \"silu\")"},
		{"\"moe_layer_freq\": 2", -ENOTSUP, "moe_layer_freq 2 is not supported (supported: 1)"},
		{"\"attention_bias\": true", -ENOTSUP, "attention_bias true is not supported (supported: false)"},
		{"\"rope_scaling\": 4", -EINVAL, "rope_scaling should be an object"},
		{"\"rope_scaling\": {}", -EINVAL, "rope_scaling.type is missing"},
		{"\"rope_scaling\": {\"type\": \"dynamic\"}", -ENOTSUP,
		 "rope_scaling.type dynamic is not supported (supported: default, linear, llama3, yarn)"},
		{"\"rope_scaling\": {\"type\": \"linear\"}", -EINVAL, "rope_scaling.factor is missing"},
		{"\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"truncate\": false}", -ENOTSUP,
		 "rope_scaling.truncate false is not supported"},
		{"\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
		 "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}",
		 -EINVAL, "rope_scaling.high_freq_factor is 4, allowed: above low_freq_factor (4)"},
		{"\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}", -EINVAL,
		 "rope_parameters.partial_rotary_factor is 0.5"},
		{"\"rope_scaling\": {\"type\": \"yarn\"}", -EINVAL, "rope_scaling.factor is missing"},
		{"\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0}", -EINVAL,
		 "rope_scaling.factor is 0, allowed: 1 to"},
		{"\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1, \"mscale_all_dim\": 0.5}",
		 -ENOTSUP, "only when equal"},
		{"\"n_routed_experts\": 4", -EINVAL, "num_experts_per_tok is 0, allowed: 1 to n_routed_experts (4)"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 5", -EINVAL, "num_experts_per_tok is 5"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"topk_method\": \"group_limited_greedy\", "
		 "\"n_group\": 3",
		 -EINVAL, "n_group is 3, which does not divide n_routed_experts (4)"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"topk_method\": \"group_limited_greedy\", "
		 "\"n_group\": 2, "
		 "\"topk_group\": 3",
		 -EINVAL, "topk_group is 3, allowed: 1 to n_group (2)"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 3, \"topk_method\": \"group_limited_greedy\", "
		 "\"n_group\": 2, "
		 "\"topk_group\": 1",
		 -EINVAL, "topk_group groups hold only 2"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"topk_method\": \"noaux_tc\", "
		 "\"scoring_func\": \"sigmoid\", "
		 "\"n_group\": 4, \"topk_group\": 2",
		 -EINVAL, "less than two experts in a group"},
		{"\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"topk_method\": \"noaux_tc\"", -ENOTSUP,
		 "topk_method noaux_tc with scoring_func softmax is not supported"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_dense(c, cases[i].more, NULL);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void the_scalings_of_rotation_are_read(void **state)
{
	NEW_CHECKPOINT;

	write_grouped(c, "LlamaForCausalLM",
		      GROUPED
		      ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
		      "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}",
		      NULL);
	assert_described(c);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_LLAMA3);
	assert_int_equal(c->hparams.rope_original_context, 64);
	assert_true(c->hparams.rope_factor == 8 && c->hparams.rope_low_freq_factor == 1 &&
		    c->hparams.rope_high_freq_factor == 4);
	write_grouped(c, "LlamaForCausalLM",
		      GROUPED ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, \"rope_theta\": 100000",
		      NULL);
	assert_described(c);
	assert_int_equal(c->hparams.rope_scaling, DS_ROPE_LINEAR);
	assert_true(c->hparams.rope_factor == 4 && c->hparams.rope_theta == 100000);
}

static void the_magnitude_of_yarn_follows_from_the_keys_that_are_there(void **state)
{
	static const struct {
		const char *keys;
		double magnitude;
	} cases[] = {
		{"", 1.138629436111989},
		{", \"attention_factor\": 1.25", 1.25},
		{", \"attention_factor\": null", 1.138629436111989},
		{", \"attn_factor\": 0.8782488562869419", 1},
		{", \"mscale\": 1.0", 1.138629436111989},
		{", \"mscale\": 0.5, \"mscale_all_dim\": 1.0", 1.0693147180559945 / 1.138629436111989},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		char config[512];
		NEW_CHECKPOINT;

		snprintf(config, sizeof(config),
			 GROUPED ", \"max_position_embeddings\": 77, \"rope_scaling\": {\"rope_type\": \"yarn\", "
				 "\"factor\": 4.0%s}",
			 cases[i].keys);
		write_grouped(c, "Qwen3ForCausalLM", config, NULL);
		assert_described(c);
		assert_int_equal(c->hparams.rope_original_context, 77);
		assert_true(c->hparams.rope_magnitude > cases[i].magnitude - 1e-6 &&
			    c->hparams.rope_magnitude < cases[i].magnitude + 1e-6);
	}
}

static void grouped_attention_that_cannot_be_honoured_is_refused(void **state)
{
	static const struct {
		const char *architecture, *more;
		int code;
		const char *sentence;
	} cases[] = {
		{"Qwen2ForCausalLM", GROUPED ", \"use_sliding_window\": true", -ENOTSUP,
		 "config.json: use_sliding_window true is not supported (supported: false)"},
		{"Qwen3ForCausalLM", GROUPED ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]", -ENOTSUP,
		 "layer_types[1] sliding_attention is not supported (supported: full_attention)"},
		{"LlamaForCausalLM", GROUPED ", \"mlp_bias\": true", -ENOTSUP, "mlp_bias true is not supported"},
		{"LlamaForCausalLM", GROUPED ", \"hidden_act\": \"gelu\"", -ENOTSUP,
		 "hidden_act \"gelu\" is not supported"},
		{"LlamaForCausalLM", GROUPED ", \"partial_rotary_factor\": 0.5", -ENOTSUP,
		 "partial_rotary_factor 0.5 is not supported (supported: 1.0)"},
		{"LlamaForCausalLM", GROUPED ", \"attention_bias\": 1", -EINVAL,
		 "attention_bias should be true or false"},
		{"LlamaForCausalLM", "\"num_key_value_heads\": 3", -EINVAL,
		 "num_key_value_heads is 3, which does not divide num_attention_heads (2)"},
		{"LlamaForCausalLM", "\"num_key_value_heads\": 1, \"head_dim\": 5", -EINVAL,
		 "head_dim is 5, but rotation"},
		{"Qwen2ForCausalLM", "\"head_dim\": 4", -EINVAL,
		 "num_key_value_heads is 32, which does not divide num_attention_heads (2)"},
		{"Qwen2ForCausalLM", GROUPED ", \"rope_scaling\": {\"type\": \"mrope\"}", -ENOTSUP,
		 "rope_scaling.type mrope is not supported"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_grouped(c, cases[i].architecture, cases[i].more, NULL);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void configs_without_the_essential_are_refused(void **state)
{
	static const struct {
		const char *config;
		int code;
		const char *sentence;
	} cases[] = {
		{"{\"archi", -EINVAL, "config.json: not valid JSON: line 1"},
		{"[1]", -EINVAL, "config.json: should be a JSON object"},
		{"{}", -EINVAL, "architectures and model_type are missing"},
		{"{\"model_type\": 3}", -EINVAL, "model_type should be a text"},
		{"{\"architectures\": [\"MistralForCausalLM\"]}", -ENOTSUP,
		 "architecture MistralForCausalLM is not supported (supported: DeepseekV2ForCausalLM, "
		 "DeepseekV3ForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)"},
		{"{\"model_type\": \"gpt2\"}", -ENOTSUP, "architecture gpt2 is not supported"},
		{"{\"model_type\": \"deepseek_v3\"}", -EINVAL, "config.json: vocab_size is missing"},
		{"{\"model_type\": \"deepseek_v3\", \"vocab_size\": null}", -EINVAL, "vocab_size is missing"},
		{"{\"model_type\": \"deepseek_v3\", \"vocab_size\": 3}", -EINVAL, "hidden_size is missing"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_dense(c, "", NULL);
		checkpoint_text(c, "config.json", cases[i].config);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void a_missing_config_is_named(void **state)
{
	NEW_CHECKPOINT;

	write_shard(c, "model.safetensors", "{}", 0);
	assert_refused(c, -EINVAL, "config.json is missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_config_is_read_with_the_defaults_of_its_family),
		cmocka_unit_test(yarn_is_read_however_it_is_spelled),
		cmocka_unit_test(routers_are_read_as_their_method_says),
		cmocka_unit_test(configs_that_cannot_be_honoured_are_refused),
		cmocka_unit_test(the_scalings_of_rotation_are_read),
		cmocka_unit_test(the_magnitude_of_yarn_follows_from_the_keys_that_are_there),
		cmocka_unit_test(grouped_attention_that_cannot_be_honoured_is_refused),
		cmocka_unit_test(configs_without_the_essential_are_refused),
		cmocka_unit_test(a_missing_config_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

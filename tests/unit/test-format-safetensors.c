/* test-format-safetensors.c - shards written here, right ones and wrong ones of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/plugins.h"
#include "lib/vectors.h"

#include "small-checkpoint.h"

extern const struct ds_plugin ds_plugin;

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

/* ---- tensors ---- */

static void the_vectors_of_the_plugin_pass(void **state)
{
	size_t n, n_passed;
	struct ds_error err = {""};

	if (ds_vectors_run(&ds_plugin, ds_plugins_host(), &n, &n_passed, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(n_passed, n);
}

static void a_dense_model_is_described(void **state)
{
	NEW_CHECKPOINT;

	write_dense(c, "", NULL);
	assert_described(c);
	assert_string_equal(c->hparams.architecture, "deepseek");
	assert_int_equal(c->n_tensors, 14);
	assert_shape(c, "token_embedding", DS_DTYPE_BF16, 2, 24, 6, 1);
	assert_shape(c, "layers.0.attention_norm", DS_DTYPE_F32, 1, 6, 1, 1);
	assert_shape(c, "layers.0.q", DS_DTYPE_BF16, 2, 10, 6, 1);
	assert_shape(c, "layers.0.kv_a_norm", DS_DTYPE_F32, 1, 4, 1, 1);
	assert_shape(c, "layers.0.ffn_down", DS_DTYPE_BF16, 2, 6, 5, 1);
	assert_int_equal(c->vocabulary.n_tokens, 0);
}

static void kv_b_is_cut_by_heads_and_its_keys_are_transposed(void **state)
{
	const struct ds_part *k, *v;
	NEW_CHECKPOINT;

	write_dense(c, "", NULL);
	assert_described(c);
	assert_shape(c, "layers.0.k_b", DS_DTYPE_BF16, 3, 2, 4, 3);
	assert_shape(c, "layers.0.v_b", DS_DTYPE_BF16, 3, 2, 7, 4);
	k = parts_of(c, "layers.0.k_b", 2);
	v = parts_of(c, "layers.0.v_b", 2);
	/* a head of kv_b has 3 rows of keys and 7 of values, each of 4 elements of 2 bytes */
	assert_true(k[0].transposed && k[1].transposed && !v[0].transposed);
	assert_int_equal(k[1].row, 4);
	assert_int_equal(k[1].n_rows, 4);
	assert_int_equal(k[1].offset - k[0].offset, 10 * 4 * 2);
	assert_int_equal(v[0].offset - k[0].offset, 3 * 4 * 2);
	assert_int_equal(v[1].offset - k[0].offset, 13 * 4 * 2);
	assert_int_equal(v[1].row, 7);
}

static void experts_are_stacked(void **state)
{
	const struct ds_part *up;
	NEW_CHECKPOINT;

	write_experts(c, EXPERTS, NULL);
	assert_described(c);
	assert_shape(c, "layers.1.router", DS_DTYPE_F32, 2, 2, 6, 1);
	assert_shape(c, "layers.1.router_bias", DS_DTYPE_F32, 1, 2, 1, 1);
	assert_shape(c, "layers.1.experts_down", DS_DTYPE_BF16, 3, 2, 6, 3);
	assert_shape(c, "layers.1.experts_up", DS_DTYPE_BF16, 3, 2, 3, 6);
	assert_shape(c, "layers.1.shared_up", DS_DTYPE_BF16, 2, 3, 6, 1);
	assert_null(checkpoint_find(c, "layers.0.router"));
	assert_null(checkpoint_find(c, "layers.1.ffn_up"));
	up = parts_of(c, "layers.1.experts_up", 2);
	assert_int_equal(up[0].row, 0);
	assert_int_equal(up[1].row, 3);
	assert_int_equal(up[1].offset - up[0].offset, 3 * 3 * 6 * 2);
}

static void experts_of_different_types_meet_in_float32(void **state)
{
	const struct change change = {"model.layers.1.mlp.experts.1.up_proj.weight", "F16"};
	const struct ds_part *up;
	NEW_CHECKPOINT;

	write_experts(c, EXPERTS, &change);
	assert_described(c);
	assert_shape(c, "layers.1.experts_up", DS_DTYPE_F32, 3, 2, 3, 6);
	assert_shape(c, "layers.1.experts_down", DS_DTYPE_BF16, 3, 2, 6, 3);
	up = parts_of(c, "layers.1.experts_up", 2);
	assert_int_equal(up[0].dtype, DS_DTYPE_BF16);
	assert_int_equal(up[1].dtype, DS_DTYPE_F16);
}

static void a_prediction_block_is_a_layer_and_more(void **state)
{
	NEW_CHECKPOINT;

	write_experts(c, EXPERTS ", \"num_nextn_predict_layers\": 3", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.n_mtp, 1);
	assert_shape(c, "mtp.0.projection", DS_DTYPE_BF16, 2, 6, 12, 1);
	assert_shape(c, "mtp.0.hidden_norm", DS_DTYPE_F32, 1, 6, 1, 1);
	assert_shape(c, "mtp.0.layer.experts_up", DS_DTYPE_BF16, 3, 2, 3, 6);
	assert_shape(c, "mtp.0.output", DS_DTYPE_BF16, 2, 24, 6, 1);
	assert_null(checkpoint_find(c, "mtp.0.token_embedding"));
	assert_null(checkpoint_find(c, "mtp.1.projection"));
}

static void a_prediction_block_that_is_not_there_is_not_counted(void **state)
{
	const struct change change = {"model.layers.2.eh_proj.weight"};
	NEW_CHECKPOINT;

	write_experts(c, EXPERTS ", \"num_nextn_predict_layers\": 1", &change);
	assert_described(c);
	assert_int_equal(c->hparams.n_mtp, 0);
	assert_null(checkpoint_find(c, "mtp.0.hidden_norm"));
}

static void tied_embeddings_are_there_once(void **state)
{
	NEW_CHECKPOINT;

	/* whether or not the file repeats them */
	write_dense(c, "\"tie_word_embeddings\": true", NULL);
	assert_described(c);
	assert_shape(c, "token_embedding", DS_DTYPE_BF16, 2, 24, 6, 1);
	assert_null(checkpoint_find(c, "output"));
}

static void a_llama_is_described(void **state)
{
	NEW_CHECKPOINT;

	write_grouped(c, "LlamaForCausalLM", GROUPED, NULL);
	assert_described(c);
	assert_string_equal(c->hparams.architecture, "llama");
	assert_int_equal(c->hparams.n_kv_heads, 1);
	assert_int_equal(c->hparams.head_dim, 4);
	assert_int_equal(c->hparams.qkv_bias, 0);
	assert_int_equal(c->hparams.qk_norm, 0);
	assert_int_equal(c->hparams.context, 2048);
	assert_int_equal(c->hparams.kv_lora + c->hparams.n_experts + c->hparams.n_mtp, 0);
	assert_int_equal(c->n_tensors, 12);
	assert_shape(c, "layers.0.q", DS_DTYPE_BF16, 2, 8, 6, 1);
	assert_shape(c, "layers.0.k", DS_DTYPE_BF16, 2, 4, 6, 1);
	assert_shape(c, "layers.0.v", DS_DTYPE_BF16, 2, 4, 6, 1);
	assert_shape(c, "layers.0.attention_output", DS_DTYPE_BF16, 2, 6, 8, 1);
	assert_shape(c, "layers.0.ffn_norm", DS_DTYPE_F32, 1, 6, 1, 1);
	assert_shape(c, "layers.0.ffn_down", DS_DTYPE_BF16, 2, 6, 5, 1);
	assert_null(checkpoint_find(c, "layers.0.q_bias"));
}

static void qwen2_has_biases_and_qwen3_norms(void **state)
{
	NEW_CHECKPOINT;

	write_grouped(c, "Qwen2ForCausalLM", GROUPED ", \"use_sliding_window\": false, \"sliding_window\": 7", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.qkv_bias, 1);
	assert_int_equal(c->hparams.context, 32768);
	assert_int_equal(c->n_tensors, 15);
	assert_shape(c, "layers.0.q_bias", DS_DTYPE_F32, 1, 8, 1, 1);
	assert_shape(c, "layers.0.k_bias", DS_DTYPE_F32, 1, 4, 1, 1);
	assert_shape(c, "layers.0.v_bias", DS_DTYPE_F32, 1, 4, 1, 1);
	write_grouped(c, "Qwen3ForCausalLM", GROUPED ", \"layer_types\": [\"full_attention\"]", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.qkv_bias, 0);
	assert_int_equal(c->hparams.qk_norm, 1);
	assert_int_equal(c->n_tensors, 14);
	assert_shape(c, "layers.0.q_norm", DS_DTYPE_F32, 1, 4, 1, 1);
	assert_shape(c, "layers.0.k_norm", DS_DTYPE_F32, 1, 4, 1, 1);
}

static void biases_that_the_config_asks_for_are_all_four(void **state)
{
	NEW_CHECKPOINT;

	write_grouped(c, "LlamaForCausalLM", GROUPED ", \"attention_bias\": true", NULL);
	assert_described(c);
	assert_int_equal(c->hparams.qkv_bias, 1);
	assert_int_equal(c->n_tensors, 16);
	assert_shape(c, "layers.0.attention_output_bias", DS_DTYPE_F32, 1, 6, 1, 1);
}

static void heads_that_the_config_leaves_out_follow_from_the_others(void **state)
{
	NEW_CHECKPOINT;

	/* the tensors do not fit, but the hyperparameters are told first */
	write_grouped(c, "LlamaForCausalLM", "", NULL);
	assert_refused(c, -EINVAL, "head_dim is 3, but rotation needs an even number");
	write_grouped(c, "LlamaForCausalLM", "\"head_dim\": 4", NULL);
	assert_refused(c, -EINVAL, "tensor model.layers.0.self_attn.k_proj.weight has the shape [4, 6]");
	assert_int_equal(c->hparams.n_kv_heads, 2);
	write_grouped(c, "Qwen3ForCausalLM", "\"num_key_value_heads\": null", NULL);
	assert_refused(c, -EINVAL, "self_attn.q_proj.weight");
	assert_int_equal(c->hparams.n_kv_heads, 2);
	assert_int_equal(c->hparams.head_dim, 128);
}

/* ---- FP8 ---- */

static void fp8_matrices_come_with_their_scales(void **state)
{
	static const char matrix[] = "model.layers.0.self_attn.q_proj.weight"; /* (10, 6) */
	const struct ds_part *part;
	NEW_CHECKPOINT;

	write_fp8(c, FP8("4, 128"), matrix, "F32", 3, 1);
	assert_described(c);
	assert_shape(c, "layers.0.q", DS_DTYPE_FP8, 2, 10, 6, 1);
	part = parts_of(c, "layers.0.q", 1);
	assert_int_equal(part->dtype, DS_DTYPE_FP8);
	assert_int_equal(part->scales.tile_rows, 4);
	assert_int_equal(part->scales.tile_cols, 128);
	assert_int_equal(part->scales.first_row, 0);
	assert_int_equal(part->scales.cols, 6);
	/* the scales are the last tensor of the file */
	assert_int_equal(part->scales.offset + 3 * 4, c->files[part->scales.file].size);
	/* blocks of an image would straddle tiles of 4 columns */
	write_fp8(c, FP8("4, 4"), matrix, "F32", 3, 2);
	assert_described(c);
	assert_shape(c, "layers.0.q", DS_DTYPE_F32, 2, 10, 6, 1);
	assert_int_equal(parts_of(c, "layers.0.q", 1)->scales.tile_cols, 4);
}

static void fp8_that_is_transposed_becomes_float32(void **state)
{
	const struct ds_part *k, *v;
	NEW_CHECKPOINT;

	/* (20, 4): of each of the two heads 3 rows of keys and 7 of values */
	write_fp8(c, FP8("8, 128"), "model.layers.0.self_attn.kv_b_proj.weight", "F32", 3, 1);
	assert_described(c);
	assert_shape(c, "layers.0.k_b", DS_DTYPE_F32, 3, 2, 4, 3);
	assert_shape(c, "layers.0.v_b", DS_DTYPE_FP8, 3, 2, 7, 4);
	k = parts_of(c, "layers.0.k_b", 2);
	v = parts_of(c, "layers.0.v_b", 2);
	assert_int_equal(k[1].scales.first_row, 10);
	assert_int_equal(v[0].scales.first_row, 3);
	assert_int_equal(v[1].scales.first_row, 13);
	assert_int_equal(v[1].offset - k[0].offset, 13 * 4);
	assert_int_equal(v[1].scales.offset, k[0].scales.offset);
}

static void fp8_that_cannot_be_understood_is_refused(void **state)
{
	static const struct {
		const char *config, *matrix, *scale_type;
		unsigned scale_rows, scale_cols;
		int code;
		const char *sentence;
	} cases[] = {
		{"", "lm_head.weight", "F32", 1, 1, -EINVAL,
		 "model.safetensors: tensor lm_head.weight has type F8_E4M3, but config.json has no "
		 "quantization_config"},
		{FP8("128, 128"), "lm_head.weight", NULL, 0, 0, -EINVAL,
		 "tensor lm_head.weight_scale_inv is missing from the .safetensors files"},
		{FP8("128, 128"), "lm_head.weight", "BF16", 1, 1, -ENOTSUP,
		 "tensor lm_head.weight_scale_inv has type BF16, supported: F32"},
		{FP8("128, 128"), "lm_head.weight", "F32", 2, 1, -EINVAL,
		 "tensor lm_head.weight_scale_inv should have the shape [1, 1]"},
		{FP8("8, 4"), "lm_head.weight", "F32", 3, 3, -EINVAL, "should have the shape [3, 2]"},
		{FP8("128, 128"), "model.norm.weight", "F32", 1, 1, -ENOTSUP,
		 "tensor model.norm.weight has type F8_E4M3, supported: F32, F16, BF16"},
		{FP8("128"), "lm_head.weight", "F32", 1, 1, -EINVAL,
		 "quantization_config.weight_block_size should be a list of two numbers"},
		{FP8("128, 0"), "lm_head.weight", "F32", 1, 1, -EINVAL,
		 "quantization_config.weight_block_size[1] should be a whole number from 1 to"},
		{FP8("2.5, 128"), "lm_head.weight", "F32", 1, 1, -EINVAL, "weight_block_size[0] should be"},
		{"\"quantization_config\": {\"quant_method\": \"fp8\"}", "lm_head.weight", "F32", 1, 1, -ENOTSUP,
		 "weight_block_size should be a list"},
		{"\"quantization_config\": {\"quant_method\": \"awq\"}", "lm_head.weight", "F32", 1, 1, -ENOTSUP,
		 "quant_method awq with fmt e4m3 is not supported (supported: fp8 with e4m3)"},
		{"\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}", "lm_head.weight", "F32", 1,
		 1, -ENOTSUP, "quant_method fp8 with fmt e5m2"},
		{"\"quantization_config\": []", "lm_head.weight", "F32", 1, 1, -EINVAL,
		 "quantization_config should be an object"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_fp8(c, cases[i].config, cases[i].matrix, cases[i].scale_type, cases[i].scale_rows,
			  cases[i].scale_cols);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void experts_of_fp8_and_others_meet_in_float32(void **state)
{
	const struct change change = {"model.layers.1.mlp.experts.0.up_proj.weight", "F8_E4M3"};
	const struct change scales = {"model.layers.1.mlp.experts.0.up_proj.weight_scale_inv", "F32", 1, 1};
	const struct ds_part *up;
	NEW_CHECKPOINT;

	write_experts_and(c, EXPERTS ", " FP8("128, 128"), &change, &scales);
	assert_described(c);
	assert_shape(c, "layers.1.experts_up", DS_DTYPE_F32, 3, 2, 3, 6);
	up = parts_of(c, "layers.1.experts_up", 2);
	assert_int_equal(up[0].scales.tile_rows, 128);
	assert_int_equal(up[1].dtype, DS_DTYPE_BF16);
	assert_int_equal(up[1].scales.tile_rows, 0);
	write_experts(c, EXPERTS ", " FP8("128, 128"), &change);
	assert_refused(c, -EINVAL, "tensor model.layers.1.mlp.experts.0.up_proj.weight_scale_inv is missing");
}

static void tensors_that_do_not_fit_are_named(void **state)
{
	static const struct {
		struct change change;
		int code;
		const char *sentence;
	} cases[] = {
		{{"lm_head.weight"}, -EINVAL, "tensor lm_head.weight is missing"},
		{{"model.layers.1.mlp.experts.1.up_proj.weight"},
		 -EINVAL,
		 "tensor model.layers.1.mlp.experts.1.up_proj.weight"},
		{{"model.norm.weight", "BF16", 5, 0},
		 -EINVAL,
		 "model.safetensors: tensor model.norm.weight has the shape [5], config.json asks for [6]"},
		{{"model.norm.weight", "BF16", 6, 1}, -EINVAL, "has the shape [6, 1], config.json asks for [6]"},
		{{"model.layers.0.self_attn.q_proj.weight", "BF16", 6, 10},
		 -EINVAL,
		 "has the shape [6, 10], config.json asks for [10, 6]"},
		{{"model.layers.1.mlp.experts.0.down_proj.weight", "BF16", 3, 6},
		 -EINVAL,
		 "config.json asks for [6, 3]"},
		{{"model.layers.0.self_attn.kv_b_proj.weight", "BF16", 20, 5}, -EINVAL, "config.json asks for [20, 4]"},
		{{"model.layers.0.self_attn.o_proj.weight", "F8_E5M2"},
		 -ENOTSUP,
		 "model.safetensors: tensor model.layers.0.self_attn.o_proj.weight has type F8_E5M2, supported: F32, "
		 "F16, BF16, F8_E4M3"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_experts(c, EXPERTS, &cases[i].change);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

/* ---- headers and shards ---- */

static void headers_that_contradict_the_file_are_refused(void **state)
{
#define ONE(dtype, shape, begin, end)                                                                                  \
	"{\"a\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}}"
	static const struct {
		const char *header;
		int code;
		const char *sentence;
	} cases[] = {
		{"{\"a\"", -EINVAL, "model.safetensors: not valid JSON: line 1, column 4"},
		{"[]", -EINVAL, "should be a JSON object"},
		{"{}", -EINVAL, "hold no tensor"},
		{"{\"a\":1}", -EINVAL, "tensor a should be an object"},
		{"{\"a\":{},\"a\":{}}", -EINVAL, "duplicate object key"},
		{"{\"a\":{}}", -EINVAL, "tensor a: dtype should be a text"},
		{ONE("F7", "2", "0", "8"), -ENOTSUP, "tensor a has the unknown type F7"},
		{"{\"a\":{\"dtype\":\"F32\"}}", -EINVAL, "tensor a: shape should be a list"},
		{ONE("F32", "1,1,1,1,1,1,1,1,1", "0", "4"), -EINVAL, "a list of at most 8 numbers"},
		{ONE("F32", "-2", "0", "8"), -EINVAL, "shape[0] should be a whole number"},
		{ONE("F32", "1,2.0", "0", "8"), -EINVAL, "shape[1] should be a whole number"},
		{ONE("F32", "4294967296,4294967296", "0", "8"), -EINVAL, "the numbers of its shape are too large"},
		{ONE("F32", "99999999999999999999", "0", "8"), -EINVAL, "too big integer"},
		{ONE("F4", "1", "0", "1"), -EINVAL, "does not fill whole bytes"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", -EINVAL,
		 "data_offsets should be two rising whole numbers"},
		{ONE("F32", "2", "8", "0"), -EINVAL, "data_offsets should be two rising whole numbers"},
		{ONE("F32", "2", "-8", "0"), -EINVAL, "data_offsets should be two rising whole numbers"},
		{ONE("F32", "2", "12", "20"), -EINVAL, "tensor a lies outside the file: it ends at byte 20 of 16"},
		{ONE("F32", "2", "0", "9223372036854775807"), -EINVAL, "lies outside the file"},
		{ONE("F32", "3", "0", "8"), -EINVAL, "tensor a has 8 bytes, its shape and type need 12"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
		 "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
		 -EINVAL, "tensors a and b overlap"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_config(c, "DeepseekV2ForCausalLM", 1, "");
		write_shard(c, "model.safetensors", cases[i].header, 16);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void files_that_end_too_early_are_refused(void **state)
{
	static const char long_header[] = "\xff\0\0\0\0\0\0\0{}", huge_header[] = "\xff\xff\xff\xff\xff\xff\xff\xff{}";
	struct ds_file *file;
	NEW_CHECKPOINT;

	write_dense(c, "", NULL);
	file = &c->files[1];
	file->size -= 1;
	assert_refused(c, -EINVAL, "tensor model.layers.0.mlp.down_proj.weight lies outside the file");
	file->size = 100;
	assert_refused(c, -EINVAL, "is longer than the file of 100 bytes");
	file->size = 7;
	assert_refused(c, -EINVAL, "7 bytes are too few for a safetensors file");
	checkpoint_file(c, "model.safetensors", long_header, sizeof(long_header) - 1);
	assert_refused(c, -EINVAL, "its header of 255 bytes is longer than the file of 10 bytes");
	checkpoint_file(c, "model.safetensors", huge_header, sizeof(huge_header) - 1);
	assert_refused(c, -EINVAL, "is longer than the file");
	/* the file shrank after it was opened */
	file->size = 1000;
	assert_refused(c, -EINVAL, "longer than the file of 1000 bytes");
	checkpoint_file(c, "model.safetensors", "\x10\0\0\0\0\0\0\0{", 9);
	file->size = 1000;
	assert_refused(c, -EINVAL, "model.safetensors: ends at byte 9");
	file->size = 300000000;
	checkpoint_file(c, "model.safetensors", "\0\0\0\x10\0\0\0\0{", 9);
	file->size = 300000000;
	assert_refused(c, -EINVAL, "JSON of 268435456 bytes is too long");
}

/* The dense model in two shards, the first with layer 0. */
static void write_shards(struct checkpoint *c)
{
	struct shard a = {}, b = {};

	write_config(c, "DeepseekV2ForCausalLM", 1, "");
	ADD_ROWS(&a, "model.layers.0.", layer_rows, NULL);
	ADD_ROWS(&b, "", model_rows, NULL);
	ADD_ROWS(&b, "model.layers.0.", dense_rows, NULL);
	shard_end(&a, c, "model-00001-of-00002.safetensors");
	shard_end(&b, c, "model-00002-of-00002.safetensors");
}

static void many_shards_are_one_model(void **state)
{
	NEW_CHECKPOINT;

	write_shards(c);
	assert_described(c);
	assert_int_equal(c->n_tensors, 14);
	assert_int_equal(parts_of(c, "layers.0.attention_norm", 1)->file, 1);
	assert_int_equal(parts_of(c, "layers.0.ffn_norm", 1)->file, 1);
	assert_int_equal(parts_of(c, "output", 1)->file, 2);
}

static void an_index_says_which_shards_count(void **state)
{
	struct shard other = {};
	NEW_CHECKPOINT;

	write_shards(c);
	ADD_ROWS(&other, "", model_rows, NULL);
	shard_end(&other, c, "consolidated.safetensors");
	assert_refused(c, -EINVAL, "is in both");
	checkpoint_text(c, "model.safetensors.index.json",
			"{\"weight_map\": {\"lm_head.weight\": \"model-00002-of-00002.safetensors\", "
			"\"model.layers.0.input_layernorm.weight\": \"../there/model-00001-of-00002.safetensors\"}}");
	assert_described(c);
}

static void an_index_that_is_wrong_is_refused(void **state)
{
	static const struct {
		const char *index;
		const char *sentence;
	} cases[] = {
		{"{\"weight_map\": {\"a\": \"model-3.safetensors\"}}",
		 "model.safetensors.index.json: the shard model-3.safetensors, which it names, is missing"},
		{"{\"weight_map\": {\"lm_head.weight\": \"model-00001-of-00002.safetensors\", "
		 "\"model.norm.weight\": \"model-00002-of-00002.safetensors\"}}",
		 "tensor lm_head.weight should be in model-00001-of-00002.safetensors, but is not"},
		{"{\"weight_map\": {\"a\": 3}}", "the file of a should be a text"},
		{"{\"weight_map\": []}", "weight_map should be an object"},
		{"{}", "weight_map is missing"},
		{"{\"weight_map\": {}}", "hold no tensor"},
		{"weights", "model.safetensors.index.json: not valid JSON"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_shards(c);
		checkpoint_text(c, "model.safetensors.index.json", cases[i].index);
		assert_refused(c, -EINVAL, cases[i].sentence);
	}
}

static void a_format_is_recognized_by_its_names(void **state)
{
	const struct ds_file yes[] = {{.name = "config.json"}, {.name = "model.safetensors"}};
	const struct ds_file no[] = {{.name = "config.json"}, {.name = "model.gguf"}, {.name = ".safetensors"}};

	assert_true(ds_safetensors_ops.recognizes(yes, 2));
	assert_false(ds_safetensors_ops.recognizes(no, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_the_plugin_pass),
		cmocka_unit_test(a_dense_model_is_described),
		cmocka_unit_test(kv_b_is_cut_by_heads_and_its_keys_are_transposed),
		cmocka_unit_test(experts_are_stacked),
		cmocka_unit_test(experts_of_different_types_meet_in_float32),
		cmocka_unit_test(a_prediction_block_is_a_layer_and_more),
		cmocka_unit_test(a_prediction_block_that_is_not_there_is_not_counted),
		cmocka_unit_test(tied_embeddings_are_there_once),
		cmocka_unit_test(a_llama_is_described),
		cmocka_unit_test(qwen2_has_biases_and_qwen3_norms),
		cmocka_unit_test(biases_that_the_config_asks_for_are_all_four),
		cmocka_unit_test(heads_that_the_config_leaves_out_follow_from_the_others),
		cmocka_unit_test(fp8_matrices_come_with_their_scales),
		cmocka_unit_test(fp8_that_is_transposed_becomes_float32),
		cmocka_unit_test(fp8_that_cannot_be_understood_is_refused),
		cmocka_unit_test(experts_of_fp8_and_others_meet_in_float32),
		cmocka_unit_test(tensors_that_do_not_fit_are_named),
		cmocka_unit_test(headers_that_contradict_the_file_are_refused),
		cmocka_unit_test(files_that_end_too_early_are_refused),
		cmocka_unit_test(many_shards_are_one_model),
		cmocka_unit_test(an_index_says_which_shards_count),
		cmocka_unit_test(an_index_that_is_wrong_is_refused),
		cmocka_unit_test(a_format_is_recognized_by_its_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

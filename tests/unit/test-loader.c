/* test-loader.c - what ds-loader makes of checkpoints, right ones and wrong ones: the image it fills is read. */
#include "loader-broker.h"

static void a_checkpoint_becomes_an_image(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const struct ds_hparams *h;
	struct ds_plan plan;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	plan = receive_plan(b);
	image = go(b, plan.image_size, &loaded);
	h = ds_image_hparams(image);
	assert_int_equal(plan.kv_size_per_token, (h->kv_lora + h->qk_rope) * h->n_layers * 4);
	assert_true(plan.weights_size < plan.image_size && plan.scratch_size > 0);
	assert_int_equal(plan.mapped_size, 0);
	assert_int_equal(plan.context, h->context);
	assert_string_equal(h->architecture, "deepseek");
	assert_string_equal(json_string_value(json_object_get(loaded, "architecture")), "deepseek");
	assert_string_equal(json_string_value(json_object_get(loaded, "dialect")), ds_image_dialect(image));
	assert_string_equal(json_string_value(json_object_get(loaded, "backend")), "cpu");
	assert_true(json_is_false(json_object_get(loaded, "tokenizer")));
	assert_null(ds_image_vocabulary(image));
	assert_int_equal(json_integer_value(json_object_get(loaded, "context")), h->context);
	assert_int_equal(json_integer_value(json_object_get(loaded, "vocab")), 512);
	assert_int_equal(json_integer_value(json_object_get(loaded, "parameters")), 1276112);
}

static void every_kind_of_tensor_is_where_the_engine_looks(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	ds_cleanup(safetensors_deinit) struct safetensors file = {0};
	const struct ds_hparams *h;
	struct stored stored;
	const uint16_t *words;
	const float *floats;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	image = go(b, receive_plan(b).image_size, &loaded);
	file = read_safetensors(b->files[1]);
	h = ds_image_hparams(image);

	/* as it is */
	stored = find(&file, "model.embed_tokens.weight");
	words = in_image(image, "token_embedding", DS_DTYPE_BF16, stored.rows * stored.cols);
	assert_memory_equal(words, stored.words, stored.rows * stored.cols * 2);
	/* widened */
	stored = find(&file, "model.layers.1.input_layernorm.weight");
	floats = in_image(image, "layers.1.attention_norm", DS_DTYPE_F32, stored.cols);
	for (uint64_t i = 0; i < stored.cols; i++)
		assert_true(floats[i] == ds_bf16_to_f32(stored.words[i]));
	/* cut into heads: the keys' half turned, the values' half as it is */
	stored = find(&file, "model.layers.0.self_attn.kv_b_proj.weight");
	assert_int_equal(stored.rows, h->n_heads * (h->qk_nope + h->v_head));
	words = in_image(image, "layers.0.k_b", DS_DTYPE_BF16, (uint64_t)h->n_heads * h->kv_lora * h->qk_nope);
	for (uint32_t head = 0; head < h->n_heads; head++)
		for (uint32_t r = 0; r < h->kv_lora; r++)
			for (uint32_t k = 0; k < h->qk_nope; k++)
				assert_int_equal(*words++,
						 stored.words[(head * (h->qk_nope + h->v_head) + k) * h->kv_lora + r]);
	words = in_image(image, "layers.0.v_b", DS_DTYPE_BF16, (uint64_t)h->n_heads * h->v_head * h->kv_lora);
	for (uint32_t head = 0; head < h->n_heads; head++, words += h->v_head * h->kv_lora)
		assert_memory_equal(words, stored.words + (head * (h->qk_nope + h->v_head) + h->qk_nope) * h->kv_lora,
				    h->v_head * h->kv_lora * 2);
	/* stacked */
	words = in_image(image, "layers.2.experts_down", DS_DTYPE_BF16, (uint64_t)h->n_experts * h->hidden * h->moe_ff);
	for (uint32_t e = 0; e < h->n_experts; e++) {
		char name[96];

		snprintf(name, sizeof(name), "model.layers.2.mlp.experts.%u.down_proj.weight", e);
		stored = find(&file, name);
		assert_memory_equal(words, stored.words, h->hidden * h->moe_ff * 2);
		words += h->hidden * h->moe_ff;
	}
}

static void files_may_come_in_several_messages(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"model.safetensors\"]}", &b->files[1], 1);
	send_text(b, DS_MSG_FILES, "{\"names\": []}", NULL, 0);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", &b->files[0], 1);
	send_text(b, DS_MSG_LOAD, "{}", NULL, 0);
	assert_true(receive_plan(b).image_size > 0);
}

static void a_dialect_and_a_type_can_be_asked_for(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const struct ds_hparams *h;
	struct ds_plan plan;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"bf16\", \"dialect\": \"deepseek-r1\", \"backend\": \"cpu\"}", NULL, 0);
	plan = receive_plan(b);
	image = go(b, plan.image_size, &loaded);
	h = ds_image_hparams(image);
	assert_int_equal(plan.kv_size_per_token, (h->kv_lora + h->qk_rope) * h->n_layers * 2);
	assert_string_equal(ds_image_dialect(image), "deepseek-r1");
	assert_string_equal(json_string_value(json_object_get(loaded, "dialect")), "deepseek-r1");
}

static void a_dialect_there_is_not_is_refused_with_those_there_are(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"dialect\": \"mine\"}", NULL, 0);
	assert_failed(b, "no_plugin", "no dialect \"mine\" (there is: deepseek-v2, deepseek-v3, ");
}

/* Another loader, without files. */
static void restart(struct broker *b)
{
	finish(b);
	while (b->n_files > 0)
		close(b->files[--b->n_files]);
	start(b);
}

/* A tokenizer.json of two tokens, without which a checkpoint's template is not asked for. */
#define TOKENIZER                                                                                                      \
	"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []},"                                  \
	" \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}"

static void a_dialect_is_recognized_by_the_chat_template(void **state)
{
	static const struct {
		const char *template, *dialect;
	} cases[] = {
		{"{{'<\uff5cUser\uff5c>' + content}}{{'<\uff5cAssistant\uff5c><think>\\n'}}", "deepseek-r1"},
		{"{{'<|im_start|>user' + content}}", ""},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct broker *b = *state;
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		ds_cleanup(json_decrefp) json_t *loaded = NULL;

		if (i > 0)
			restart(b);
		add_checkpoint(b);
		add_text(b, "tokenizer.json", TOKENIZER);
		add_text(b, "chat_template.jinja", cases[i].template);
		send_files(b);
		send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
		image = go(b, receive_plan(b).image_size, &loaded);
		assert_string_equal(ds_image_dialect(image), cases[i].dialect);
	}
}

static void a_cache_of_grouped_queries_holds_keys_and_values(void **state)
{
	struct broker *b = *state;

	add_fixture(b, "tiny-llama3", "config.json");
	add_fixture(b, "tiny-llama3", "model.safetensors");
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	/* 4 layers of 2 key heads of 16, keys and values, F32 */
	assert_int_equal(receive_plan(b).kv_size_per_token, 4 * 2 * 16 * 2 * 4);
}

/* Only what has to be another way than in the file is copied; the answer names the file. */
static void a_mapped_model_stays_in_its_file(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const void *const *matrices;
	struct ds_plan plan;
	const json_t *names;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"residency\": \"mapped\"}", NULL, 0);
	plan = receive_plan(b);
	assert_true(plan.mapped_size > 2000000 && plan.mapped_size < plan.weights_size);
	assert_true(plan.image_size >= plan.weights_size - plan.mapped_size && plan.image_size < 500000);
	image = go(b, plan.image_size, &loaded);
	names = json_object_get(loaded, "files");
	assert_int_equal(json_array_size(names), 1);
	assert_string_equal(json_string_value(json_array_get(names, 0)), "model.safetensors");
	assert_int_equal(ds_image_map_files(image, &b->files[1], 1, NULL), 0);
	assert_int_equal(ds_image_tensor(image, "token_embedding")->n_places, 1);
	assert_int_equal(ds_image_tensor(image, "layers.0.k_b")->n_places, 0);
	assert_int_equal(ds_image_tensor(image, "layers.0.attention_norm")->n_places, 0);
	assert_non_null(ds_image_tensor_data(image, ds_image_tensor(image, "layers.2.experts_up"), &matrices));
	assert_non_null(matrices);
}

static void a_truncated_checkpoint_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	assert_int_equal(ftruncate(b->files[1], 2000000), 0);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(b, "invalid_model", "model.safetensors");
}

static void a_checkpoint_cut_while_it_is_read_is_told(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size);
	assert_int_equal(ftruncate(b->files[1], 2000000), 0);
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_failed(b, "unreadable_model", "model.safetensors: the file changed while tensor ");
}

static void files_of_no_known_format_are_refused(void **state)
{
	struct broker *b = *state;

	add_file(b, "README.txt");
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(b, "unsupported_model", "README.txt");
}

static void a_model_of_no_files_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(*state, "unsupported_model", "0 files");
}

static void a_backend_that_is_not_there_is_named(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"backend\": \"abacus\"}", NULL, 0);
	assert_failed(b, "no_plugin", "no backend \"abacus\" (there is: cpu)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_checkpoint_becomes_an_image),
		TEST(every_kind_of_tensor_is_where_the_engine_looks),
		TEST(files_may_come_in_several_messages),
		TEST(a_dialect_and_a_type_can_be_asked_for),
		TEST(a_cache_of_grouped_queries_holds_keys_and_values),
		TEST(a_mapped_model_stays_in_its_file),
		TEST(a_dialect_there_is_not_is_refused_with_those_there_are),
		TEST(a_dialect_is_recognized_by_the_chat_template),
		TEST(a_truncated_checkpoint_is_refused),
		TEST(a_checkpoint_cut_while_it_is_read_is_told),
		TEST(files_of_no_known_format_are_refused),
		TEST(a_model_of_no_files_is_refused),
		TEST(a_backend_that_is_not_there_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

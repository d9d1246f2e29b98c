/* test-format-tokenizer.c - tokenizer.json and its companions, right ones and wrong ones of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "small-checkpoint.h"

#include <time.h>

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
#define VOCAB "\"vocab\": {\"a\": 2, \"b\": 3, \"\u0120\": 4, \"\u00c3\": 5, \"\u0143\": 6, \"ab\": 7, \"\u0120ab\": 9}"
#define MODEL "\"model\": {\"type\": \"BPE\", " VOCAB ", \"merges\": [\"a b\", [\"\u0120\", \"ab\"]]}"
#define ADDED                                                                                                          \
	"\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}, "                                    \
	"{\"id\": 1, \"content\": \"</s>\", \"special\": true}, {\"id\": 10, \"content\": \"<think>\"}, "              \
	"{\"id\": 11, \"content\": \"<|EOT|>\", \"special\": true}]"

static void write_tokenizer(struct checkpoint *c, const char *tokenizer, const char *tokenizer_config)
{
	write_dense(c, "\"bos_token_id\": 5, \"eos_token_id\": [3, 1]", NULL);
	checkpoint_text(c, "tokenizer.json", tokenizer);
	if (tokenizer_config)
		checkpoint_text(c, "tokenizer_config.json", tokenizer_config);
}

static void tokens_are_bytes_again(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c, "{" MODEL ", " ADDED ", \"pre_tokenizer\": " BYTE_LEVEL "}", NULL);
	assert_described(c);
	assert_int_equal(c->vocabulary.n_tokens, 12);
	assert_string_equal(c->vocabulary.tokenizer, "bpe");
	assert_string_equal(c->texts[2], "a");
	assert_string_equal(c->texts[4], " ");
	assert_string_equal(c->texts[5], "\xc3");
	assert_string_equal(c->texts[6], "\xad");
	assert_string_equal(c->texts[9], " ab");
	assert_int_equal(c->sizes[9], 3);
	assert_int_equal(c->flags[9], 0);
	assert_string_equal(c->texts[0], "<s>");
	assert_int_equal(c->flags[0], DS_TOKEN_ADDED | DS_TOKEN_SPECIAL);
	assert_int_equal(c->flags[10], DS_TOKEN_ADDED);
	assert_int_equal(c->flags[8], DS_TOKEN_UNUSED);
	assert_int_equal(c->sizes[8], 0);
}

static void every_byte_has_one_character(void **state)
{
	char json[8192];
	size_t n = (size_t)sprintf(json, "{\"model\": {\"merges\": [], \"vocab\": {\"!\": 23"), id = 0;
	NEW_CHECKPOINT;

	/* the 68 bytes that are not printable, from U+0100 on, in three rounds of at most 23 */
	for (unsigned from = 0; from < 68; from += 23) {
		static const uint8_t want[] = {0, 32, 127, 160, 173};
		static const unsigned at[] = {0, 32, 33, 66, 67};
		size_t end = n;

		id = 0;
		for (unsigned i = from; i < 68 && i < from + 23; i++)
			end += (size_t)sprintf(json + end, ", \"\\u%04x\": %zu", 256 + i, id++);
		sprintf(json + end, "}}, \"pre_tokenizer\": " BYTE_LEVEL "}");
		write_dense(c, "", NULL);
		checkpoint_text(c, "tokenizer.json", json);
		assert_described(c);
		assert_string_equal(c->texts[23], "!");
		for (size_t k = 0; k < DS_ARRAY_SIZE(at); k++) {
			if (at[k] < from || at[k] >= from + 23)
				continue;
			assert_int_equal(c->sizes[at[k] - from], 1);
			assert_int_equal((uint8_t)c->texts[at[k] - from][0], want[k]);
		}
	}
}

static void merges_are_read_in_both_spellings(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c, "{" MODEL ", \"pre_tokenizer\": " BYTE_LEVEL "}", "{}");
	assert_described(c);
	assert_int_equal(c->vocabulary.n_merges, 2);
	assert_true(c->merges[0].left == 2 && c->merges[0].right == 3 && c->merges[0].merged == 7);
	assert_true(c->merges[1].left == 4 && c->merges[1].right == 7 && c->merges[1].merged == 9);
}

static void split_patterns_keep_their_order(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c,
			"{" MODEL ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}, "
			"\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
			"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x+\"}, \"behavior\": \"Isolated\", "
			"\"invert\": false}, "
			"{\"type\": \"Digits\", \"individual_digits\": true}, " BYTE_LEVEL "]}}",
			NULL);
	assert_described(c);
	assert_int_equal(c->vocabulary.n_patterns, 2);
	assert_string_equal(c->patterns[0], "x+");
	assert_string_equal(c->patterns[1], "\\p{N}");
	assert_true(c->vocabulary.nfc);
}

static void the_tokenizer_names_its_bos_and_eos(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c, "{" MODEL ", " ADDED ", \"pre_tokenizer\": " BYTE_LEVEL "}",
			"{\"add_bos_token\": true, \"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\"}");
	checkpoint_text(c, "generation_config.json", "{\"eos_token_id\": 7}");
	assert_described(c);
	assert_true(c->vocabulary.add_bos);
	assert_int_equal(c->vocabulary.bos, 0);
	/* its own, then generation_config.json's, config.json's, the texts no answer contains, and bos */
	assert_int_equal(c->vocabulary.n_eos, 5);
	assert_true(c->vocabulary.eos[0] == 1 && c->vocabulary.eos[1] == 7 && c->vocabulary.eos[2] == 3);
	assert_true(c->vocabulary.eos[3] == 11 && c->vocabulary.eos[4] == 0);
}

static void without_a_tokenizer_config_the_ids_of_config_json_count(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c,
			"{" MODEL ", \"pre_tokenizer\": " BYTE_LEVEL
			", \"post_processor\": {\"type\": \"TemplateProcessing\", "
			"\"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}]}}",
			NULL);
	write_dense(c, "\"bos_token_id\": 5, \"eos_token_id\": 3", NULL);
	assert_described(c);
	assert_int_equal(c->vocabulary.bos, 5);
	assert_true(c->vocabulary.add_bos);
	assert_int_equal(c->vocabulary.eos[0], 3);
}

static void tokenizers_that_cannot_be_honoured_are_refused(void **state)
{
#define WITH(...) "{" __VA_ARGS__ ", \"pre_tokenizer\": " BYTE_LEVEL "}"
#define PRE(...) "{" MODEL ", \"pre_tokenizer\": " __VA_ARGS__ "}"
	static const struct {
		const char *tokenizer;
		int code;
		const char *sentence;
	} cases[] = {
		{"{\"model\": ", -EINVAL, "tokenizer.json: not valid JSON: line 1"},
		{"[]", -EINVAL, "tokenizer.json: should be a JSON object"},
		{"{}", -EINVAL, "tokenizer.json: model is missing"},
		{"{\"model\": {\"type\": \"Unigram\"}}", -ENOTSUP,
		 "model.type Unigram is not supported (supported: BPE)"},
		{"{\"model\": {\"byte_fallback\": true}}", -ENOTSUP, "model.byte_fallback is not supported"},
		{"{\"model\": {\"dropout\": 0.1}}", -ENOTSUP, "model.dropout is not supported"},
		{"{\"model\": {\"end_of_word_suffix\": \"</w>\"}}", -ENOTSUP,
		 "model.end_of_word_suffix is not supported"},
		{"{\"model\": {\"merges\": []}}", -EINVAL, "model.vocab is missing"},
		{"{\"model\": {\"vocab\": {}}}", -EINVAL, "model.merges is missing"},
		{WITH("\"model\": {\"vocab\": {\"a\": \"1\"}, \"merges\": []}"), -EINVAL,
		 "the id of a should be a whole number"},
		{WITH("\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}"), -EINVAL,
		 "the id of a should be a whole number"},
		{WITH("\"model\": {\"vocab\": {\"a\": 24}, \"merges\": []}"), -EINVAL,
		 "the id of a is 24, but config.json's vocab_size is 24"},
		{WITH("\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}"), -EINVAL,
		 "the id of b, 1, is there twice"},
		{WITH(ADDED ", \"model\": {\"vocab\": {\"a\": 1}, \"merges\": []}"), -EINVAL,
		 "the id of a, 1, is there twice"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [\"a c\"]}"), -EINVAL,
		 "model.merges[0], a + c: c is not in the vocabulary"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [\"b a\"]}"), -EINVAL, "b + a: ba is not in the vocabulary"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [\"a b\", \"ab\"]}"), -EINVAL,
		 "model.merges[1] should be two words"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [[\"a\", \"b\", \"a\"]]}"), -EINVAL,
		 "model.merges[0] should be"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [7]}"), -EINVAL, "model.merges[0] should be two words"},
		{WITH("\"model\": {" VOCAB ", \"merges\": [\"aaaaaaa b\"]}"), -EINVAL,
		 "aaaaaaa is not in the vocabulary"},
		{WITH(MODEL ", \"added_tokens\": [{\"id\": 0}]"), -EINVAL, "added_tokens: content should be a text"},
		{WITH(MODEL ", \"added_tokens\": [{\"content\": \"<s>\"}]"), -EINVAL,
		 "the id of <s> should be a whole number"},
		{WITH(MODEL ", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"lstrip\": true}]"), -ENOTSUP,
		 "added token <s>: lstrip is not supported"},
		{WITH(MODEL ", \"added_tokens\": [{\"id\": 0, \"content\": \"x\"}, {\"id\": 0, \"content\": \"y\"}]"),
		 -EINVAL, "x and y have the same id 0"},
		{WITH(MODEL ", \"normalizer\": {\"type\": \"Lowercase\"}"), -ENOTSUP,
		 "normalizer: type Lowercase is not supported (supported: NFC)"},
		{"{" MODEL "}", -ENOTSUP, "a tokenizer without ByteLevel is not supported"},
		{PRE("{\"type\": \"Metaspace\"}"), -ENOTSUP, "pre_tokenizer: type Metaspace is not supported"},
		{PRE("{\"type\": \"ByteLevel\"}"), -ENOTSUP, "ByteLevel with add_prefix_space is not supported"},
		{PRE("{\"type\": \"Split\", \"pattern\": {\"String\": \"x\"}}"), -ENOTSUP, "a Split without a Regex"},
		{PRE("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x\"}, \"behavior\": \"Removed\"}"), -ENOTSUP,
		 "Split with behavior Removed is not supported (supported: Isolated)"},
		{PRE("{\"type\": \"Sequence\"}"), -EINVAL, "pre_tokenizer: pretokenizers should be a list"},
		{PRE("7"), -EINVAL, "pre_tokenizer should be an object with a type"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_tokenizer(c, cases[i].tokenizer, NULL);
		assert_refused(c, cases[i].code, cases[i].sentence);
	}
}

static void tokens_that_do_not_exist_cannot_begin_or_end(void **state)
{
	static const struct {
		const char *name, *text, *sentence;
	} cases[] = {
		{"tokenizer_config.json", "{\"bos_token\": \"<bos>\"}",
		 "tokenizer_config.json: bos_token <bos> is not an added token"},
		{"tokenizer_config.json", "{\"eos_token\": 3}",
		 "tokenizer_config.json: eos_token should be a text or an object"},
		{"tokenizer_config.json", "{\"add_bos_token\": 1}",
		 "tokenizer_config.json: add_bos_token should be true or false"},
		{"tokenizer_config.json", "{\"chat_template\": 1}", "tokenizer_config.json: chat_template should be"},
		{"generation_config.json", "{\"eos_token_id\": 12}",
		 "generation_config.json: eos_token_id is 12, but there are 12"},
		{"generation_config.json", "{\"eos_token_id\": [1, \"x\"]}",
		 "generation_config.json: eos_token_id should be"},
		{"generation_config.json", "{", "generation_config.json: not valid JSON"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_tokenizer(c, "{" MODEL ", " ADDED ", \"pre_tokenizer\": " BYTE_LEVEL "}", NULL);
		checkpoint_text(c, cases[i].name, cases[i].text);
		assert_refused(c, -EINVAL, cases[i].sentence);
	}
}

static void the_chat_template_is_handed_on(void **state)
{
	static const struct {
		const char *config, *file, *text;
	} cases[] = {
		{"\"{{ \uff5c }}\"", NULL, "{{ \uff5c }}"},
		{"null", NULL, ""},
		{"[{\"name\": \"tool_use\", \"template\": \"t\"}, {\"name\": \"default\", \"template\": \"d\"}]", NULL,
		 "d"},
		{"[{\"name\": \"tool_use\", \"template\": \"t\"}, {\"name\": \"rag\", \"template\": \"r\"}]", NULL, "t"},
		{"\"config\"", "a file\n", "a file\n"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		char config[512];
		NEW_CHECKPOINT;

		snprintf(config, sizeof(config), "{\"chat_template\": %s}", cases[i].config);
		write_tokenizer(c, "{" MODEL ", \"pre_tokenizer\": " BYTE_LEVEL "}", config);
		if (cases[i].file)
			checkpoint_text(c, "chat_template.jinja", cases[i].file);
		write_dense(c, "", NULL);
		assert_described(c);
		assert_string_equal(c->chat_template, cases[i].text);
	}
}

static void a_chat_template_with_a_nul_is_refused(void **state)
{
	NEW_CHECKPOINT;

	write_tokenizer(c, "{" MODEL ", \"pre_tokenizer\": " BYTE_LEVEL "}", NULL);
	checkpoint_file(c, "chat_template.jinja", "a\0b", 3);
	assert_refused(c, -EINVAL, "chat_template.jinja: holds a NUL byte");
}

#define LARGE 128000

/* As many tokens and merges as the largest models have: word i is made of word i / 26 and a letter. */
static char *large_tokenizer(void)
{
	char *json = malloc(LARGE * 64), *p = json;
	char(*words)[16] = calloc(LARGE, sizeof(*words));

	p += sprintf(p, "{\"pre_tokenizer\": " BYTE_LEVEL ", \"model\": {\"vocab\": {");
	for (int i = 0; i < LARGE; i++) {
		if (i < 26)
			sprintf(words[i], "%c", 'a' + i);
		else
			sprintf(words[i], "%s%c", words[i / 26 - 1], 'a' + i % 26);
		p += sprintf(p, "%s\"%s\": %d", i ? ", " : "", words[i], i);
	}
	p += sprintf(p, "}, \"merges\": [");
	for (int i = 26; i < LARGE; i++)
		p += sprintf(p, "%s\"%s %c\"", i > 26 ? ", " : "", words[i / 26 - 1], 'a' + i % 26);
	sprintf(p, "]}}");
	free(words);
	return json;
}

static void a_large_vocabulary_takes_no_time(void **state)
{
	ds_cleanup(ds_freep) char *json = large_tokenizer();
	char config[1024];
	clock_t start;
	NEW_CHECKPOINT;

	snprintf(config, sizeof(config),
		 "{\"model_type\": \"deepseek_v2\", \"vocab_size\": %d, \"hidden_size\": 6, \"num_hidden_layers\": 1, "
		 "\"num_attention_heads\": 1, \"intermediate_size\": 1}",
		 LARGE);
	checkpoint_text(c, "config.json", config);
	checkpoint_text(c, "tokenizer.json", json);
	write_shard(c, "model.safetensors", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1);
	start = clock();
	assert_refused(c, -EINVAL, "tensor model.embed_tokens.weight is missing");
	/* measured: 0.1 s; what is not linear would take minutes */
	assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
	assert_int_equal(c->vocabulary.n_tokens, LARGE);
	assert_int_equal(c->vocabulary.n_merges, LARGE - 26);
}

static void a_tokenizer_alone_is_a_vocabulary(void **state)
{
	NEW_CHECKPOINT;

	checkpoint_text(c, "tokenizer.json", "{" MODEL ", " ADDED ", \"pre_tokenizer\": " BYTE_LEVEL "}");
	assert_true(ds_safetensors_ops.recognizes(c->files, c->n_files));
	if (checkpoint_describe_vocabulary(c, &ds_safetensors_ops) < 0)
		fail_msg("%s", c->error.text);
	assert_int_equal(c->vocabulary.n_tokens, 12);
	assert_string_equal(c->texts[11], "<|EOT|>");
	assert_int_equal(c->vocabulary.n_eos, 1);
	assert_int_equal(c->vocabulary.eos[0], 11);
}

static void numbers_too_large_for_any_machine_do_not_matter_where_nobody_asks(void **state)
{
	NEW_CHECKPOINT;

	checkpoint_text(c, "tokenizer.json", "{" MODEL ", " ADDED ", \"pre_tokenizer\": " BYTE_LEVEL "}");
	checkpoint_text(c, "tokenizer_config.json",
			"{\"model_max_length\": 1000000000000000019884624838656, \"add_bos_token\": true, "
			"\"bos_token\": \"<s>\"}");
	if (checkpoint_describe_vocabulary(c, &ds_safetensors_ops) < 0)
		fail_msg("%s", c->error.text);
	assert_true(c->vocabulary.add_bos);
	assert_int_equal(c->vocabulary.bos, 0);
}

static void a_vocabulary_is_not_larger_than_its_tokens(void **state)
{
	NEW_CHECKPOINT;

	checkpoint_text(c, "tokenizer.json",
			"{\"model\": {\"vocab\": {\"a\": 4000000000}, \"merges\": []}, \"pre_tokenizer\": " BYTE_LEVEL "}");
	assert_int_equal(checkpoint_describe_vocabulary(c, &ds_safetensors_ops), -EINVAL);
	assert_non_null(strstr(c->error.text, "a token has the id 4000000000"));
	checkpoint_text(c, "tokenizer.json",
			"{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}, \"pre_tokenizer\": " BYTE_LEVEL "}");
	assert_int_equal(checkpoint_describe_vocabulary(c, &ds_safetensors_ops), -EINVAL);
	assert_non_null(strstr(c->error.text, "the id of a should be a whole number"));
}

static void other_files_than_json_are_another_formats(void **state)
{
	NEW_CHECKPOINT;

	checkpoint_text(c, "tokenizer.json", "{}");
	checkpoint_text(c, "model.gguf", "GGUF");
	assert_false(ds_safetensors_ops.recognizes(c->files, c->n_files));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_bytes_again),
		cmocka_unit_test(every_byte_has_one_character),
		cmocka_unit_test(merges_are_read_in_both_spellings),
		cmocka_unit_test(split_patterns_keep_their_order),
		cmocka_unit_test(the_tokenizer_names_its_bos_and_eos),
		cmocka_unit_test(without_a_tokenizer_config_the_ids_of_config_json_count),
		cmocka_unit_test(tokenizers_that_cannot_be_honoured_are_refused),
		cmocka_unit_test(tokens_that_do_not_exist_cannot_begin_or_end),
		cmocka_unit_test(the_chat_template_is_handed_on),
		cmocka_unit_test(a_chat_template_with_a_nul_is_refused),
		cmocka_unit_test(a_large_vocabulary_takes_no_time),
		cmocka_unit_test(a_tokenizer_alone_is_a_vocabulary),
		cmocka_unit_test(numbers_too_large_for_any_machine_do_not_matter_where_nobody_asks),
		cmocka_unit_test(a_vocabulary_is_not_larger_than_its_tokens),
		cmocka_unit_test(other_files_than_json_are_another_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

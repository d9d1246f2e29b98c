/* test-gguf-tokenizer.c - the keys tokenizer.ggml.* -> vocabularies; files with nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bpe.h"
#include "small-gguf.h"

#define KEY "tokenizer.ggml."
#define SPACE "\xe2\x96\x81" /* U+2581 */
#define LETTER "\xc4\xa0"    /* U+0120, which stands for a space */
#define HALF_E "\xc3\x83"    /* U+00C3, for the byte itself */

/* Describe only the vocabulary, as who needs no more. */
static int describe_words(struct checkpoint *c, const struct small *s)
{
	struct ds_builder builder = {.size = sizeof(builder), .self = c, .vocabulary = checkpoint_vocabulary};

	memset(&c->vocabulary, 0, sizeof(c->vocabulary));
	c->hparams.vocab = UINT32_MAX;
	c->error.text[0] = 0;
	write_small(c, s, "m.gguf");
	return ds_gguf_ops.describe(NULL, c->files, c->n_files, &builder, &c->error);
}

static void assert_words(struct checkpoint *c, const struct small *s)
{
	int r = describe_words(c, s);

	if (r != 0)
		fail_msg("%d %s", r, c->error.text);
}

static void assert_words_refused(const struct small *s, int code, const char *part)
{
	NEW_CHECKPOINT;
	int r = describe_words(c, s);

	if (r != code || !strstr(c->error.text, part))
		fail_msg("%d \"%s\" instead of %d with \"%s\"", r, c->error.text, code, part);
}

static const char *const bpe_tokens[] = {"a",   LETTER,     "b",   LETTER "a", HALF_E,
					 "<s>", "\xc3\xb8", "<x>", "[PAD8]",   "[PAD9]"};
static const uint32_t bpe_kinds[] = {1, 1, 1, 1, 1, 3, 4, 4, 5, 4};

static void bpe_keys(struct small *s)
{
	key_text(s, KEY "model", "gpt2");
	key_text(s, KEY "pre", "deepseek-v3");
	key_texts(s, KEY "tokens", bpe_tokens, DS_ARRAY_SIZE(bpe_tokens));
	key_u32s(s, KEY "token_type", bpe_kinds, DS_ARRAY_SIZE(bpe_kinds));
	key_texts(s, KEY "merges", (const char *const[]){LETTER " a"}, 1);
	key_u32(s, KEY "bos_token_id", 5);
	key_u32(s, KEY "eos_token_id", 7);
	key_bool(s, KEY "add_bos_token", 1);
}

static void a_byte_level_vocabulary_becomes_bytes(void **state)
{
	struct small s = SMALL();
	NEW_CHECKPOINT;

	bpe_keys(&s);
	assert_words(c, &s);
	assert_string_equal(c->vocabulary.tokenizer, "bpe");
	/* padding at the end is none of the vocabulary's */
	assert_int_equal(c->vocabulary.n_tokens, 8);
	assert_string_equal(c->texts[1], " ");
	assert_string_equal(c->texts[3], " a");
	assert_string_equal(c->texts[4], "\xc3");
	assert_int_equal(c->flags[4], 0);
	/* added tokens are themselves */
	assert_string_equal(c->texts[6], "\xc3\xb8");
	assert_int_equal(c->flags[5], DS_TOKEN_ADDED | DS_TOKEN_SPECIAL);
	assert_int_equal(c->flags[6], DS_TOKEN_ADDED);
	assert_int_equal(c->vocabulary.n_merges, 1);
	assert_memory_equal(&c->merges[0], (&(struct ds_merge){1, 0, 3}), sizeof(struct ds_merge));
	assert_int_equal(c->vocabulary.bos, 5);
	assert_true(c->vocabulary.add_bos);
	assert_int_equal(c->vocabulary.unknown, DS_NO_TOKEN);
	/* bos ends an answer, too */
	assert_int_equal(c->vocabulary.n_eos, 2);
	assert_int_equal(c->vocabulary.eos[0], 7);
	assert_int_equal(c->vocabulary.eos[1], 5);
}

static void rows_without_a_text_in_between_are_unused(void **state)
{
	const char *const tokens[] = {"a", "[PAD1]", "", "b"};
	const uint32_t kinds[] = {1, 4, 1, 1};
	struct small s = SMALL();
	NEW_CHECKPOINT;

	key_texts(&s, KEY "tokens", tokens, 4);
	key_u32s(&s, KEY "token_type", kinds, 4);
	key_text(&s, KEY "model", "gpt2");
	key_text(&s, KEY "pre", "qwen2");
	key_texts(&s, KEY "merges", NULL, 0);
	assert_words(c, &s);
	assert_int_equal(c->vocabulary.n_tokens, 4);
	assert_int_equal(c->flags[1], DS_TOKEN_UNUSED);
	assert_int_equal(c->sizes[1], 0);
	assert_int_equal(c->flags[2], DS_TOKEN_UNUSED);
	assert_true(c->vocabulary.nfc && !c->vocabulary.add_bos);
	assert_int_equal(c->vocabulary.bos, DS_NO_TOKEN);
	assert_int_equal(c->vocabulary.n_eos, 0);
}

/* What tokenizer-bpe is known to do right. */
static void patterns_of_every_family_are_known(void **state)
{
	static const struct {
		const char *name;
		uint32_t n_patterns;
		bool ignore_merges, nfc;
	} cases[] = {
		{"deepseek-llm", 7, false, false}, {"deepseek-coder", 5, false, false},
		{"deepseek-v3", 3, false, false},  {"joyai-llm", 3, false, false},
		{"qwen2", 1, false, true},         {"deepseek-r1-qwen", 1, false, true},
		{"llama-bpe", 1, true, false},     {"llama3", 1, true, false},
		{"llama-v3", 1, true, false},      {"gpt-2", 1, false, false},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.without = KEY "pre");
		struct ds_vocabulary v = {.n_patterns = 0};
		struct ds_gguf_part part = {.n_keys = 1};
		struct ds_gguf g = {.parts = &part, .n_parts = 1};
		char value[64] = "";
		struct ds_gguf_key pre = {.name = {KEY "pre", strlen(KEY "pre")}, .type = DS_GGUF_TEXT, .value = value};
		uint64_t size = strlen(cases[i].name);
		char *texts = NULL;
		NEW_CHECKPOINT;

		bpe_keys(&s);
		s.without = NULL;
		key_text(&s, KEY "pre", cases[i].name);
		assert_words(c, &s);
		assert_int_equal(c->vocabulary.n_patterns, cases[i].n_patterns);
		assert_int_equal(c->vocabulary.ignore_merges, cases[i].ignore_merges);
		assert_int_equal(c->vocabulary.nfc, cases[i].nfc);
		/* the patterns themselves: the checkpoint keeps only their beginnings */
		memcpy(value, &size, sizeof(size));
		strcpy(value + sizeof(size), cases[i].name);
		part.keys = &pre;
		part.source.file = &c->files[0];
		assert_int_equal(ds_gguf_read_pre(&v, &texts, &g, &c->error), 0);
		assert_null(texts);
		for (uint32_t k = 0; k < v.n_patterns; k++)
			if (!ds_bpe_known_pattern(v.patterns[k]))
				fail_msg("%s: pattern %u is not known: %s", cases[i].name, k, v.patterns[k]);
	}
}

static void patterns_that_a_file_has_itself_go_before_those_of_its_name(void **state)
{
	struct small s = SMALL(), many = SMALL(), nul = SMALL();
	NEW_CHECKPOINT;

	bpe_keys(&s);
	key_texts(&s, "tokenizer.deepseekd.patterns", (const char *const[]){"a+", "\\p{N}"}, 2);
	key_bool(&s, "tokenizer.deepseekd.nfc", 1);
	key_bool(&s, "tokenizer.deepseekd.ignore_merges", 1);
	assert_words(c, &s);
	assert_int_equal(c->vocabulary.n_patterns, 2);
	assert_string_equal(c->patterns[0], "a+");
	assert_string_equal(c->patterns[1], "\\p{N}");
	assert_true(c->vocabulary.nfc && c->vocabulary.ignore_merges);
	bpe_keys(&many);
	key_texts(&many, "tokenizer.deepseekd.patterns", bpe_tokens, 9);
	assert_words_refused(&many, -EINVAL, "tokenizer.deepseekd.patterns has 9 elements, allowed: 8");
	bpe_keys(&nul);
	key_array(&nul, "tokenizer.deepseekd.patterns", DS_GGUF_TEXT, 1);
	put_u64(&nul.keys, 2);
	put(&nul.keys, "a", 2);
	assert_words_refused(&nul, -EINVAL, "tokenizer.deepseekd.patterns[0] holds a NUL");
}

static void llama3_begins_a_text_unless_the_file_says_otherwise(void **state)
{
	struct small s = SMALL(.without = KEY "pre"), other = SMALL(.without = KEY "add_bos_token");
	NEW_CHECKPOINT;

	bpe_keys(&s);
	s.without = NULL;
	key_text(&s, KEY "pre", "llama-bpe");
	assert_words(c, &s);
	assert_true(c->vocabulary.add_bos);
	bpe_keys(&other);
	assert_words(c, &other);
	assert_false(c->vocabulary.add_bos);
}

static void every_end_of_the_file_ends_an_answer(void **state)
{
	struct small s = SMALL(.without = KEY "bos_token_id"), none = SMALL(.without = KEY "eos_token_id");
	NEW_CHECKPOINT;

	bpe_keys(&s);
	key_u32(&s, KEY "eot_token_id", 2);
	key_u32(&s, KEY "eom_token_id", 7);
	assert_words(c, &s);
	assert_int_equal(c->vocabulary.n_eos, 2);
	assert_int_equal(c->vocabulary.eos[0], 7);
	assert_int_equal(c->vocabulary.eos[1], 2);
	assert_false(c->vocabulary.add_bos); /* there is none */
	bpe_keys(&none);
	none.without = NULL;
	key_u32(&none, KEY "eos_token_id", UINT32_MAX);
	assert_words(c, &none);
	assert_int_equal(c->vocabulary.n_eos, 1);
}

static void a_vocabulary_of_sentencepiece_has_scores_and_bytes(void **state)
{
	const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0x0A>", SPACE "a", "a" SPACE SPACE, "<x>"};
	const uint32_t kinds[] = {2, 3, 3, 6, 1, 1, 4};
	const float scores[] = {0, 0, 0, 0, -1, -2, 0};
	struct small s = SMALL();
	NEW_CHECKPOINT;

	key_text(&s, KEY "model", "llama");
	key_texts(&s, KEY "tokens", tokens, 7);
	key_u32s(&s, KEY "token_type", kinds, 7);
	key_array(&s, KEY "scores", DS_GGUF_F32, 7);
	put(&s.keys, scores, sizeof(scores));
	key_u32(&s, KEY "bos_token_id", 1);
	key_u32(&s, KEY "eos_token_id", 2);
	assert_words(c, &s);
	assert_string_equal(c->vocabulary.tokenizer, "spm");
	assert_int_equal(c->vocabulary.n_tokens, 7);
	assert_int_equal(c->vocabulary.unknown, 0);
	assert_string_equal(c->texts[3], "\n");
	assert_int_equal(c->flags[3], DS_TOKEN_BYTE);
	assert_string_equal(c->texts[4], " a");
	assert_string_equal(c->texts[5], "a  ");
	assert_true(c->vocabulary.add_bos && c->vocabulary.add_space_prefix);
	assert_int_equal(c->vocabulary.n_patterns, 0);
	key_bool(&s, KEY "add_space_prefix", 0);
	assert_words(c, &s);
	assert_false(c->vocabulary.add_space_prefix);
}

static void sentencepiece_without_its_numbers_is_refused(void **state)
{
	struct small s = SMALL(), byte = SMALL(), nan = SMALL();
	const float scores[] = {0, __builtin_nanf("")};

	key_text(&s, KEY "model", "llama");
	key_texts(&s, KEY "tokens", (const char *const[]){"a", "b"}, 2);
	nan = s;
	assert_words_refused(&s, -EINVAL, KEY "scores should have 2 elements");
	key_array(&nan, KEY "scores", DS_GGUF_F32, 2);
	put(&nan.keys, scores, sizeof(scores));
	assert_words_refused(&nan, -EINVAL, KEY "scores[1] is not a number");
	key_text(&byte, KEY "model", "llama");
	key_texts(&byte, KEY "tokens", (const char *const[]){"<0x0g>"}, 1);
	key_u32s(&byte, KEY "token_type", (const uint32_t[]){6}, 1);
	assert_words_refused(&byte, -EINVAL, KEY "tokens[0], <0x0g>, should be a byte like <0x0A>");
}

static void vocabularies_that_cannot_be_honoured_are_refused(void **state)
{
	static const struct {
		const char *key;
		const char *text; /* NULL: the key is left out */
		int code;
		const char *part;
	} cases[] = {
		{KEY "model", "bert", -ENOTSUP, KEY "model bert is not supported (supported: gpt2, llama)"},
		{KEY "pre", "command-r", -ENOTSUP, KEY "pre command-r is not supported (supported: deepseek-llm, "},
		{KEY "pre", NULL, -ENOTSUP, KEY "pre is missing"},
		{KEY "tokens", "x", -EINVAL, KEY "tokens should be an array of text, not text"},
		{KEY "tokens", NULL, -EINVAL, KEY "tokens is missing"},
		{KEY "merges", NULL, -EINVAL, KEY "merges is missing"},
		{KEY "merges", "a b", -EINVAL, KEY "merges should be an array of text, not text"},
		{KEY "bos_token_id", "a", -EINVAL, KEY "bos_token_id should be a whole number, not text"},
		{KEY "add_bos_token", "a", -EINVAL, KEY "add_bos_token should be true or false, not text"},
		{KEY "token_type", "a", -EINVAL, KEY "token_type should be an array of i32 of 10"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.without = cases[i].key);

		bpe_keys(&s);
		s.without = NULL;
		if (cases[i].text)
			key_text(&s, cases[i].key, cases[i].text);
		assert_words_refused(&s, cases[i].code, cases[i].part);
	}
}

static void merges_of_words_that_are_none_are_refused(void **state)
{
	static const struct {
		const char *merge;
		const char *part;
	} cases[] = {
		{"a c", KEY "merges[0], a + c: c is not in the vocabulary"},
		{"b a", KEY "merges[0], b + a: ba is not in the vocabulary"},
		{"ab", KEY "merges[0] should be two words"},
		{"a b a", KEY "merges[0] should be two words"},
		{"", KEY "merges[0] should be two words"},
		{" a", KEY "merges[0] should be two words"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.without = KEY "merges");

		bpe_keys(&s);
		s.without = NULL;
		key_texts(&s, KEY "merges", &cases[i].merge, 1);
		assert_words_refused(&s, -EINVAL, cases[i].part);
	}
}

static void tokens_that_do_not_exist_cannot_begin_or_end(void **state)
{
	struct small s = SMALL(.without = KEY "eos_token_id"), kind = SMALL(.without = KEY "token_type");
	uint32_t kinds[DS_ARRAY_SIZE(bpe_kinds)] = {1, 1, 7};

	bpe_keys(&s);
	s.without = NULL;
	key_u32(&s, KEY "eos_token_id", 8);
	assert_words_refused(&s, -EINVAL, KEY "eos_token_id is 8, but there are 8 tokens");
	bpe_keys(&kind);
	kind.without = NULL;
	key_u32s(&kind, KEY "token_type", kinds, DS_ARRAY_SIZE(kinds));
	assert_words_refused(&kind, -EINVAL, KEY "token_type[2] is 7, allowed: 1 to 6");
}

static void a_vocabulary_larger_than_the_embedding_is_refused(void **state)
{
	struct small s = SMALL();

	bpe_keys(&s);
	small_gqa(&s, "llama");
	assert_small_refused(&s, -EINVAL, "10 tokens, but the embedding has 6 rows");
}

static void a_file_without_a_vocabulary_has_none(void **state)
{
	struct small s = SMALL();
	NEW_CHECKPOINT;

	key_text(&s, KEY "model", "none");
	assert_words(c, &s);
	assert_null(c->vocabulary.tokenizer);
}

struct texts {
	char name[64], template[64], pre[64];
};

static int take_text(void *self, const char *key, const char *text, struct ds_error *err)
{
	struct texts *t = self;

	snprintf(strcmp(key, "general.name") == 0 ? t->name : t->pre, sizeof(t->name), "%s", text);
	return 0;
}

static int take_template(void *self, const char *text, struct ds_error *err)
{
	struct texts *t = self;

	snprintf(t->template, sizeof(t->template), "%s", *text ? text : "none");
	return 0;
}

static int take_vocabulary(void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	return 0;
}

static void texts_of_the_file_are_handed_on(void **state)
{
	struct texts texts = {""};
	struct ds_builder builder = {
		.size = sizeof(builder),
		.self = &texts,
		.vocabulary = take_vocabulary,
		.chat_template = take_template,
		.text = take_text,
	};
	struct small s = SMALL(), nul = SMALL(), none = SMALL();
	NEW_CHECKPOINT;

	bpe_keys(&s);
	key_text(&s, "general.name", "Tiny");
	key_text(&s, "tokenizer.chat_template", "{{ bos_token }}");
	write_small(c, &s, "m.gguf");
	assert_int_equal(ds_gguf_ops.describe(NULL, c->files, 1, &builder, &c->error), 0);
	assert_string_equal(texts.name, "Tiny");
	assert_string_equal(texts.template, "{{ bos_token }}");
	assert_string_equal(texts.pre, "deepseek-v3");
	write_small(c, &none, "m.gguf");
	assert_int_equal(ds_gguf_ops.describe(NULL, c->files, 1, &builder, &c->error), 0);
	assert_string_equal(texts.template, "none");
	key(&nul, "general.name", DS_GGUF_TEXT);
	put_u64(&nul.keys, 2);
	put(&nul.keys, "a", 2);
	write_small(c, &nul, "m.gguf");
	assert_int_equal(ds_gguf_ops.describe(NULL, c->files, 1, &builder, &c->error), -EINVAL);
	assert_string_equal(c->error.text, "m.gguf: general.name holds a NUL");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_byte_level_vocabulary_becomes_bytes),
		cmocka_unit_test(rows_without_a_text_in_between_are_unused),
		cmocka_unit_test(patterns_of_every_family_are_known),
		cmocka_unit_test(patterns_that_a_file_has_itself_go_before_those_of_its_name),
		cmocka_unit_test(llama3_begins_a_text_unless_the_file_says_otherwise),
		cmocka_unit_test(every_end_of_the_file_ends_an_answer),
		cmocka_unit_test(a_vocabulary_of_sentencepiece_has_scores_and_bytes),
		cmocka_unit_test(sentencepiece_without_its_numbers_is_refused),
		cmocka_unit_test(vocabularies_that_cannot_be_honoured_are_refused),
		cmocka_unit_test(merges_of_words_that_are_none_are_refused),
		cmocka_unit_test(tokens_that_do_not_exist_cannot_begin_or_end),
		cmocka_unit_test(a_vocabulary_larger_than_the_embedding_is_refused),
		cmocka_unit_test(a_file_without_a_vocabulary_has_none),
		cmocka_unit_test(texts_of_the_file_are_handed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

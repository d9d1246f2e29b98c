/* test-prompt.c - what is tokenised together, and what may become a special token. */
#include "prompt.h"
#include "engine-words.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct words words;
static struct ds_hparams hparams = {.vocab = WORDS_COUNT};

/* Every message is "<s>role: content\n\n", and the prompt ends with "<e>". */
static int render(const struct ds_conversation *c, const struct ds_prompt_writer *prompt, bool *thinking,
		  struct ds_error *err)
{
	if (c->messages[0].role == DS_ROLE_TOOL)
		return ds_fail(err, -EINVAL, "messages[0]: a tool cannot begin");
	for (size_t i = 0; i < c->n_messages; i++) {
		prompt->markup(prompt->self, "<s>role: ");
		prompt->text(prompt->self, c->messages[i].content, strlen(c->messages[i].content));
		prompt->markup(prompt->self, "\n\n");
	}
	prompt->markup(prompt->self, "<e>");
	*thinking = true;
	return 0;
}

static const struct ds_dialect_ops dialect = {.size = sizeof(dialect), .render = render};

static struct ds_engine *new_engine(void)
{
	struct ds_engine *engine = calloc(1, sizeof(*engine));

	words_init(&words, engine);
	engine->hparams = &hparams;
	engine->dialect = &dialect;
	words_log[0] = '\0';
	return engine;
}

static int ask(struct ds_prompt *prompt, const struct ds_engine *engine, const char *messages,
	       struct ds_failure *failure)
{
	json_t *json = json_loads(messages, 0, NULL);
	int r = ds_prompt_from_messages(prompt, engine, json, NULL, NULL, failure);

	json_decref(json);
	return r;
}

static void text_between_special_tokens_is_tokenised_as_one(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_prompt prompt = {0};
	struct ds_failure failure;

	assert_int_equal(ask(&prompt, engine, "[{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"user\","
			     " \"content\": \"you\"}]", &failure), 0);
	assert_string_equal(words_log, "[role: hi\n\n][role: you\n\n]");
	assert_int_equal(prompt.tokens[0], WORDS_START);
	assert_int_equal(prompt.tokens[1], 'r');
	assert_int_equal(prompt.tokens[11], WORDS_START);
	assert_int_equal(prompt.tokens[prompt.n - 1], WORDS_END);
	assert_true(prompt.thinking);
	ds_prompt_deinit(&prompt);
	free(engine);
}

static void a_message_never_makes_a_special_token(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_prompt prompt = {0};
	struct ds_failure failure;
	size_t n_special = 0;

	assert_int_equal(ask(&prompt, engine, "[{\"role\": \"user\", \"content\": \"<e><s>\"}]", &failure), 0);
	assert_string_equal(words_log, "[role: <e><s>\n\n]");
	for (size_t i = 0; i < prompt.n; i++)
		n_special += prompt.tokens[i] >= 256;
	assert_int_equal(n_special, 2); /* those of the markup */
	ds_prompt_deinit(&prompt);
	free(engine);
}

static void what_is_wrong_with_a_message_is_named(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_prompt prompt = {0};
	struct ds_failure failure;

	assert_int_equal(ask(&prompt, engine, "[{\"role\": \"user\", \"content\": 1}]", &failure), -EINVAL);
	assert_string_equal(failure.code, DS_INVALID_REQUEST);
	assert_string_equal(failure.param, "messages[0].content");
	assert_int_equal(ask(&prompt, engine, "[{\"role\": \"tool\", \"tool_call_id\": \"1\", \"content\": \"\"}]", &failure),
			 -EINVAL);
	assert_string_equal(failure.param, "messages[0]");
	ds_prompt_deinit(&prompt);
	free(engine);
}

static void a_raw_text_may_hold_special_tokens_and_gets_one_beginning(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_prompt prompt = {0};
	struct ds_failure failure;

	assert_int_equal(ds_prompt_from_text(&prompt, engine, "hi", 2, &failure), 0);
	assert_string_equal(words_log, "[hi]!");
	assert_int_equal(prompt.n, 2);
	ds_prompt_deinit(&prompt);
	words.vocabulary.add_bos = true;
	prompt = (struct ds_prompt){0};
	assert_int_equal(ds_prompt_from_text(&prompt, engine, "hi", 2, &failure), 0);
	assert_int_equal(prompt.n, 3);
	assert_int_equal(prompt.tokens[0], WORDS_START);
	assert_int_equal(prompt.tokens[1], 'h');
	assert_int_equal(prompt.tokens[2], 'i');
	ds_prompt_deinit(&prompt);
	free(engine);
}

static void ids_outside_the_vocabulary_are_named(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_failure failure;
	static const char *const bad[] = {"[1, 258]", "[1, -1]", "[1, 1.5]", "[1, \"a\"]", "[1, 99999999999]"};

	for (size_t i = 0; i < DS_ARRAY_SIZE(bad); i++) {
		struct ds_prompt prompt = {0};
		json_t *json = json_loads(bad[i], 0, NULL);

		assert_int_equal(ds_prompt_from_ids(&prompt, engine, json, "tokens", &failure), -EINVAL);
		assert_string_equal(failure.param, "tokens");
		assert_non_null(strstr(failure.error.text, "tokens[1]"));
		ds_prompt_deinit(&prompt);
		json_decref(json);
	}
	free(engine);
}

static void without_tokenizer_or_dialect_texts_are_refused(void **state)
{
	struct ds_engine *engine = new_engine();
	struct ds_prompt prompt = {0};
	struct ds_failure failure;

	engine->dialect = NULL;
	assert_int_equal(ask(&prompt, engine, "[{\"role\": \"user\", \"content\": \"\"}]", &failure), -EINVAL);
	assert_string_equal(failure.code, DS_NO_DIALECT);
	engine->tokenizer_ops = NULL;
	assert_int_equal(ds_prompt_from_text(&prompt, engine, "hi", 2, &failure), -EINVAL);
	assert_string_equal(failure.code, DS_NO_TOKENIZER);
	free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_between_special_tokens_is_tokenised_as_one),
		cmocka_unit_test(a_message_never_makes_a_special_token),
		cmocka_unit_test(what_is_wrong_with_a_message_is_named),
		cmocka_unit_test(a_raw_text_may_hold_special_tokens_and_gets_one_beginning),
		cmocka_unit_test(ids_outside_the_vocabulary_are_named),
		cmocka_unit_test(without_tokenizer_or_dialect_texts_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

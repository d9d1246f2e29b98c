/* test-known-answers.c - vectors are run as they say, and a vector that tests nothing does not pass.
 *
 * One small plugin a kind, here in the test, with vectors made for each case. */
#include "vectors.h"

#include "plugins.h"

#include <deepseekd/backend.h>
#include <deepseekd/dialect.h>
#include <deepseekd/format.h>
#include <deepseekd/sampler.h>
#include <deepseekd/tokenizer.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

/* Run one vector of a plugin of @kind whose entry "e" has @ops. The sentence goes to @err, without its beginning. */
static int run_with(enum ds_plugin_kind kind, const void *ops, const struct ds_option *options, const char *input,
		    const char *output, struct ds_error *err)
{
	const struct ds_entry entries[] = {{"e", "for tests", ops}, {NULL, NULL, NULL}};
	const struct ds_vector vectors[] = {{"v", "e", input, output}, {NULL, NULL, NULL, NULL}};
	const struct ds_plugin plugin = {
		.kind = kind, .name = "p", .options = options, .vectors = vectors, .entries = entries};
	static const char start[] = "vector 1 (\"v\") of entry e: ";
	size_t n, n_passed;
	int r = ds_vectors_run(&plugin, ds_plugins_host(), &n, &n_passed, err);

	assert_int_equal(n, 1);
	assert_int_equal(n_passed, r == 0);
	if (r < 0) {
		assert_memory_equal(err->text, start, strlen(start));
		memmove(err->text, err->text + strlen(start), strlen(err->text + strlen(start)) + 1);
	}
	return r;
}

static const struct ds_option options[] = {
	{.name = "number", .help = "h", .type = DS_OPTION_FLOAT, .max = 10},
	{.name = "whole", .help = "h", .type = DS_OPTION_INT, .max = 10},
	{.name = "flag", .help = "h", .type = DS_OPTION_BOOL},
	{.name = "word", .help = "h", .type = DS_OPTION_TEXT, .text = ""},
	{.name = NULL},
};

/* What a vector of each kind says. */
struct answer {
	const char *input, *output;
	const char *sentence; /* NULL: passes; else part of the reason */
};

static void assert_answers(enum ds_plugin_kind kind, const void *ops, const struct answer *answers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct ds_error err = {""};
		int r = run_with(kind, ops, options, answers[i].input, answers[i].output, &err);

		if (!answers[i].sentence && r < 0)
			fail_msg("%s: %s", answers[i].input, err.text);
		if (answers[i].sentence && (r == 0 || !strstr(err.text, answers[i].sentence)))
			fail_msg("%s -> %s: \"%s\" instead of \"%s\"", answers[i].input, answers[i].output, err.text,
				 answers[i].sentence);
	}
}

#define ASSERT_ANSWERS(kind, ops, answers) assert_answers(kind, ops, answers, DS_ARRAY_SIZE(answers))

/* sampler: keeps what is above "number", adds the number of accepted tokens to each logit, picks the first */

static bool sampler_active(const struct ds_setting *settings)
{
	return ds_setting(settings, "number", 0) > 0;
}

struct sampler {
	float least, bonus;
};

static int sampler_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
			size_t vocab, struct ds_error *err)
{
	struct sampler *s;

	if (seed == 13)
		return ds_fail(err, -EINVAL, "an unlucky seed");
	s = calloc(1, sizeof(*s));
	s->least = (float)ds_setting(settings, "number", 0);
	*self = s;
	return 0;
}

static void sampler_accept(void *self, uint32_t id)
{
	((struct sampler *)self)->bonus += 1;
}

static void sampler_apply(void *self, struct ds_candidates *c)
{
	const struct sampler *s = self;
	size_t n = 0;

	for (size_t i = 0; i < c->n; i++)
		if (c->logits[i] > s->least) {
			c->ids[n] = c->ids[i];
			c->logits[n++] = c->logits[i] + s->bonus;
		}
	c->n = n;
	if (n > 0)
		c->picked = c->ids[0];
}

static void a_sampler_is_asked_what_the_vector_says(void **state)
{
	static const struct ds_sampler_ops ops = {.size = sizeof(ops),
						  .active = sampler_active,
						  .open = sampler_open,
						  .accept = sampler_accept,
						  .apply = sampler_apply,
						  .close = free};
	static const struct answer answers[] = {
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 3, 2.5]}",
		 "{\"ids\": [1, 2], \"logits\": [3, 2.5], \"picked\": 1}", NULL},
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 3, 2.5], \"history\": [0, 0]}",
		 "{\"logits\": [5.00001, 4.5]}", NULL},
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 3, 2.5]}", "{\"logits\": [3.001, 2.5]}",
		 "logits[0]: expected 3.001, got 3"},
		{"{\"logits\": [1, null]}", "{\"ids\": [0, 1], \"logits\": [1, null], \"picked\": null}", NULL},
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 3]}", "{\"ids\": [0, 1]}",
		 "ids: expected [0,1], got 1"},
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 3]}", "{\"picked\": 0}", "picked: expected 0, got 1"},
		{"{\"settings\": {\"number\": 2}, \"logits\": [1, 1]}", "{\"ids\": []}", "0 candidates are left of 2"},
		{"{\"settings\": {\"number\": 2}, \"seed\": 13, \"logits\": [1, 3]}", "{\"ids\": [1]}",
		 "an unlucky seed"},
		{"{\"settings\": {\"size\": 2}, \"logits\": [1, 3]}", "{\"ids\": [1]}",
		 "setting \"size\" is no option of the plugin"},
		{"{\"settings\": {\"number\": \"2\"}, \"logits\": [1, 3]}", "{\"ids\": [1]}", "of the wrong type"},
		{"{\"settings\": {\"whole\": 2.5}, \"logits\": [1, 3]}", "{\"ids\": [1]}", "of the wrong type"},
		{"{\"settings\": {\"flag\": 1}, \"logits\": [1, 3]}", "{\"ids\": [1]}", "of the wrong type"},
		{"{\"settings\": {\"flag\": true, \"word\": \"x\", \"whole\": 1}, \"logits\": [1]}", "{\"ids\": [0]}",
		 NULL},
		{"{\"logits\": [1], \"history\": [1]}", "{\"ids\": [0]}", "\"history\" has token 1 of 1"},
		{"{\"logits\": []}", "{\"ids\": []}", "\"logits\" is empty"},
		{"{\"logits\": [\"1\"]}", "{\"ids\": []}", "\"logits\" is not made of numbers"},
		{"{}", "{\"ids\": []}", "no key \"logits\""},
	};

	ASSERT_ANSWERS(DS_PLUGIN_SAMPLER, &ops, answers);
}

static void a_vector_that_tests_nothing_does_not_pass(void **state)
{
	static const struct ds_sampler_ops ops = {.size = sizeof(ops),
						  .active = sampler_active,
						  .open = sampler_open,
						  .apply = sampler_apply,
						  .close = free};
	static const struct answer answers[] = {
		{"{\"logits\": [1]}", "{}", "the output expects nothing"},
		{"{\"logits\": [1]}", "[0]", "the output expects nothing"},
		{"{\"logits\": [1]}", "{\"idx\": [0]}", "idx: expected, but there is none"},
		{"{\"logits\": [1], \"temperature\": 1}", "{\"ids\": [0]}", "unknown key \"temperature\""},
		{"{\"logits\": [1]", "{\"ids\": [0]}", "the input is not JSON"},
		{"{\"logits\": [1]}", "ids", "the output is not JSON"},
		{"[]", "{\"ids\": [0]}", "not an object"},
		{"{\"logits\": [1], \"logits\": [1]}", "{\"ids\": [0]}", "the input is not JSON"},
	};

	ASSERT_ANSWERS(DS_PLUGIN_SAMPLER, &ops, answers);
}

static void every_vector_is_run_and_the_first_failure_told(void **state)
{
	static const struct ds_sampler_ops ops = {.size = sizeof(ops),
						  .active = sampler_active,
						  .open = sampler_open,
						  .apply = sampler_apply,
						  .close = free};
	static const struct ds_entry entries[] = {{"e", "for tests", &ops}, {NULL, NULL, NULL}};
	static const struct ds_vector vectors[] = {
		{"right", "e", "{\"logits\": [1]}", "{\"ids\": [0]}"},
		{"wrong", "e", "{\"logits\": [1]}", "{\"ids\": [1]}"},
		{"empty", "e", "{\"logits\": [1]}", "{}"},
		{"right too", "e", "{\"logits\": [1]}", "{\"ids\": [0]}"},
		{NULL, NULL, NULL, NULL},
	};
	static const struct ds_plugin plugin = {.kind = DS_PLUGIN_SAMPLER, .vectors = vectors, .entries = entries};
	struct ds_error err;
	size_t n, n_passed;

	assert_int_equal(ds_vectors_run(&plugin, ds_plugins_host(), &n, &n_passed, &err), -EINVAL);
	assert_int_equal(n, 4);
	assert_int_equal(n_passed, 2);
	assert_string_equal(err.text, "vector 2 (\"wrong\") of entry e: ids[0]: expected 1, got 0");
}

/* tokenizer: one token a byte that has one; special ones by the flag alone */

static const struct ds_vocabulary *words;

static int tokenizer_open(void **self, const struct ds_host *host, const struct ds_vocabulary *v, struct ds_error *err)
{
	words = v;
	return v->n_patterns > 1 ? ds_fail(err, -ENOTSUP, "a pattern too many") : 0;
}

static int tokenizer_encode(void *self, const char *text, size_t size, unsigned flags, size_t max_ids, uint32_t **ids,
			    size_t *n_ids, struct ds_error *err)
{
	*ids = ds_plugins_host()->alloc((size + 1) * sizeof(**ids));
	for (size_t i = 0; i < size; i++)
		for (uint32_t t = 0; t < words->n_tokens; t++)
			if (words->tokens[t].size == 1 && words->tokens[t].text[0] == text[i] &&
			    (!(words->tokens[t].flags & DS_TOKEN_SPECIAL) || flags & DS_TOKENIZE_SPECIAL))
				(*ids)[(*n_ids)++] = t;
	return 0;
}

static const char *tokenizer_text(void *self, uint32_t id, size_t *size)
{
	*size = words->tokens[id].size;
	return words->tokens[id].text;
}

static size_t tokenizer_detokenize(void *self, struct ds_detokenizer *state, uint32_t id, char *out)
{
	memcpy(out, words->tokens[id].text, words->tokens[id].size);
	return words->tokens[id].size;
}

static size_t tokenizer_finish(void *self, struct ds_detokenizer *state, char *out)
{
	*out = '.';
	return 1;
}

static void tokenizer_close(void *self)
{
}

static void a_tokenizer_is_asked_both_ways(void **state)
{
	static const struct ds_tokenizer_ops ops = {.size = sizeof(ops),
						    .open = tokenizer_open,
						    .encode = tokenizer_encode,
						    .token_text = tokenizer_text,
						    .detokenize = tokenizer_detokenize,
						    .finish = tokenizer_finish,
						    .close = tokenizer_close};
#define VOCABULARY                                                                                                     \
	"\"vocabulary\": {\"tokens\": [\"a\", \"\\u00c3\", {\"text\": \"b\", \"special\": true}, \"\\u00e4\"],"        \
	" \"merges\": [[0, 1, 2]], \"patterns\": [\"x\"], \"nfc\": true, \"ignore_merges\": false}"
	static const struct answer answers[] = {
		{"{" VOCABULARY ", \"text\": \"ab\\u00e4\"}", "{\"ids\": [0, 1]}", NULL},
		{"{" VOCABULARY ", \"text\": \"ab\", \"special\": true}", "{\"ids\": [0, 2]}", NULL},
		{"{" VOCABULARY ", \"text\": \"\"}", "{\"ids\": []}", NULL},
		{"{" VOCABULARY ", \"ids\": [0, 2]}", "{\"text\": \"ab.\"}", NULL},
		{"{" VOCABULARY ", \"ids\": [1]}", "{\"text\": \"\"}", "not whole UTF-8 characters"},
		{"{" VOCABULARY ", \"ids\": [-1]}", "{\"text\": \"\"}", "not a whole number of 32 bits"},
		{"{" VOCABULARY ", \"ids\": [0], \"special\": true}", "{\"text\": \"a.\"}", "unknown key \"special\""},
		{"{\"vocabulary\": {\"tokens\": [\"a\"], \"size\": 1}, \"text\": \"\"}", "{\"ids\": []}",
		 "unknown key \"size\""},
		{"{\"vocabulary\": {\"tokens\": [\"\\u0100\"]}, \"text\": \"\"}", "{\"ids\": []}", "U+0000 to U+00FF"},
		{"{\"vocabulary\": {\"tokens\": [1]}, \"text\": \"\"}", "{\"ids\": []}", "not a string"},
		{"{\"vocabulary\": {\"tokens\": []}, \"text\": \"\"}", "{\"ids\": []}", "has no tokens"},
		{"{\"text\": \"\"}", "{\"ids\": []}", "not an object"},
		{"{\"vocabulary\": {\"tokens\": [\"a\"], \"merges\": [[0, 0, 1]]}, \"text\": \"\"}", "{\"ids\": []}",
		 "\"merges\" has token 1 of 1"},
		{"{\"vocabulary\": {\"tokens\": [\"a\"], \"merges\": [[0, 0]]}, \"text\": \"\"}", "{\"ids\": []}",
		 "[left, right, merged]"},
		{"{\"vocabulary\": {\"tokens\": [\"a\"], \"patterns\": [\"x\", \"y\"]}, \"text\": \"\"}",
		 "{\"ids\": []}", "a pattern too many"},
	};

	ASSERT_ANSWERS(DS_PLUGIN_TOKENIZER, &ops, answers);
}

/* dialect: markup in brackets; "!" is a tool, "?" its arguments, "^" thinking; "|" goes wrong where text is cut */

static int dialect_render(const struct ds_conversation *c, const struct ds_prompt_writer *w, bool *thinking,
			  struct ds_error *err)
{
	static const char *const roles[] = {"S", "U", "A", "T"};

	for (size_t i = 0; i < c->n_messages; i++) {
		w->markup(w->self, roles[c->messages[i].role]);
		w->text(w->self, c->messages[i].content, strlen(c->messages[i].content));
		for (size_t t = 0; t < c->messages[i].n_tool_calls; t++)
			w->markup(w->self, c->messages[i].tool_calls[t].arguments);
	}
	for (size_t i = 0; i < c->n_tools; i++)
		w->markup(w->self, c->tools[i].parameters);
	*thinking = true;
	return c->n_messages > 5 ? ds_fail(err, -EINVAL, "too long a talk") : 0;
}

static int dialect_open(void **self, const struct ds_host *host, bool thinking, struct ds_error *err)
{
	*self = calloc(1, 1);
	**(bool **)self = thinking;
	return 0;
}

static void dialect_feed(void *self, const char *text, size_t size, bool special, const struct ds_output_writer *w)
{
	bool *thinking = self;

	if (special) {
		*thinking = strcmp(text, "^") == 0;
		return;
	}
	for (size_t i = 0; i < size; i++) {
		enum ds_output kind = text[i] == '!'   ? DS_OUTPUT_TOOL_NAME
				      : text[i] == '?' ? DS_OUTPUT_TOOL_ARGUMENTS
				      : *thinking      ? DS_OUTPUT_REASONING
						       : DS_OUTPUT_CONTENT;

		if (text[i] != '|' || i > 0)
			w->write(w->self, kind, text + i, 1);
	}
}

static void dialect_finish(void *self, const struct ds_output_writer *w)
{
	w->write(w->self, DS_OUTPUT_CONTENT, ".", 1);
}

static bool dialect_recognizes(const struct ds_habits *habits)
{
	return strstr(habits->chat_template, "mine") && habits->added_tokens[0] && !habits->added_tokens[1];
}

static void a_dialect_renders_and_parses(void **state)
{
	static const struct ds_dialect_ops ops = {.size = sizeof(ops),
						  .render = dialect_render,
						  .open = dialect_open,
						  .feed = dialect_feed,
						  .finish = dialect_finish,
						  .close = free,
						  .recognizes = dialect_recognizes};
	static const struct answer answers[] = {
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		 "{\"prompt\": \"Uhi\", \"thinking\": true}", NULL},
		{"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"},"
		 " {\"type\": \"text\", \"text\": \"b\"}]}], \"tools\": [{\"type\": \"function\", \"function\":"
		 " {\"name\": \"t\", \"parameters\": {\"z\":1,\"a\":[2,3]}}}]}",
		 "{\"prompt\": \"Uab{\\\"z\\\": 1, \\\"a\\\": [2, 3]}\"}", NULL},
		{"{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", "
		 "\"type\":"
		 " \"function\", \"function\": {\"name\": \"t\", \"arguments\": \"{}\"}}]}, {\"role\": \"tool\","
		 " \"tool_call_id\": \"1\", \"content\": \"5\"}]}",
		 "{\"prompt\": \"A{}T5\"}", NULL},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}", "{\"prompt\": \"Uho\"}",
		 "prompt: expected \"Uho\", got \"Uhi\""},
		{"{\"messages\": []}", "{\"prompt\": \"\"}", "messages: not an array with at least one"},
		{"{\"thinking\": true, \"output\": [\"ab\", {\"special\": \"-\"}, \"c!?\"]}",
		 "{\"reasoning\": \"ab\", \"content\": \"c.\", \"tool_calls\": [{\"name\": \"!\", \"arguments\": "
		 "\"?\"}]}",
		 NULL},
		{"{\"thinking\": false, \"output\": [\"ab\"]}", "{\"reasoning\": \"ab\"}", "reasoning: expected"},
		{"{\"output\": [\"a|\"]}", "{\"content\": \"a|.\"}", "differently one character at a time"},
		{"{\"output\": [\"\\u00e4\"]}", "{\"content\": \"\\u00e4.\"}", "not whole UTF-8 characters"},
		{"{\"output\": [\"?\"]}", "{\"content\": \".\"}", "arguments came before the name"},
		{"{\"output\": [{\"text\": \"a\"}]}", "{\"content\": \".\"}", "not made of texts"},
		{"{\"output\": \"a\"}", "{\"content\": \".\"}", "\"output\" is not an array"},
		{"{\"chat_template\": \"mine\", \"added_tokens\": [\"a\"]}", "{\"recognized\": true}", NULL},
		{"{\"chat_template\": \"mine\"}", "{\"recognized\": true}", "recognized: expected true, got false"},
		{"{\"chat_template\": 1}", "{\"recognized\": true}", "\"chat_template\" is not a text"},
		{"{\"chat_template\": \"\", \"added_tokens\": [1]}", "{}", "\"added_tokens\" is not made of texts"},
		{"{\"output\": [], \"messages\": []}", "{\"content\": \".\"}", "unknown key \"messages\""},
	};

	ASSERT_ANSWERS(DS_PLUGIN_DIALECT, &ops, answers);
}

/* format: the first file's name is the architecture, its size the width of the one tensor */

static bool format_recognizes(const struct ds_file *files, size_t n_files)
{
	return strcmp(files[0].name, "strange") != 0;
}

static int format_describe(const struct ds_host *host, const struct ds_file *files, size_t n_files,
			   const struct ds_builder *b, struct ds_error *err)
{
	struct ds_hparams hparams = {.vocab = 1};
	struct ds_vocabulary vocabulary = {.tokenizer = "bpe", .n_tokens = 0};
	struct ds_tensor_desc desc = {"t", DS_DTYPE_F32, 2, {3, files[0].size, 1, 1}};
	struct ds_part part = {.n_rows = 3};
	char first = 0;
	int r;

	snprintf(hparams.architecture, sizeof(hparams.architecture), "%s", files[0].name);
	if (pread(files[0].fd, &first, 1, 0) == 1 && first == 'x')
		return ds_fail(err, -EINVAL, "%s: starts with an x", files[0].name);
	r = b->hparams(b->self, &hparams, err);
	if (r == 0)
		r = b->vocabulary(b->self, &vocabulary, err);
	if (r == 0)
		r = b->chat_template(b->self, "d", err);
	if (r == 0)
		r = b->tensor(b->self, &desc, &part.tensor, err);
	if (r == 0 && first == 'y')
		part.file = 7;
	return r < 0 ? r : b->part(b->self, &part, err);
}

static void a_format_describes_files_in_memory(void **state)
{
	static const struct ds_format_ops ops = {sizeof(ops), format_recognizes, format_describe};
	static const struct answer answers[] = {
		{"{\"files\": {\"f\": {\"text\": \"abcd\"}}}",
		 "{\"architecture\": \"f\", \"chat_template\": \"d\", \"tensors\": {\"t\": [3, 4]}, \"n_tokens\": 0}", NULL},
		{"{\"files\": {\"f\": {\"hex\": \"0001ff\"}, \"g\": {\"text\": \"\"}}}",
		 "{\"tensors\": {\"t\": [3, 3]}}", NULL},
		{"{\"files\": {\"f\": {\"text\": \"abcd\"}}}", "{\"tensors\": {\"t\": [3, 5]}}", "tensors: expected"},
		{"{\"files\": {\"f\": {\"text\": \"abcd\"}}}", "{\"tensors\": {}}", "tensors: expected"},
		{"{\"files\": {\"f\": {\"text\": \"x\"}}}", "{\"error\": \"starts with\"}", NULL},
		{"{\"files\": {\"f\": {\"text\": \"x\"}}}", "{\"error\": \"ends with\"}", "error: expected"},
		{"{\"files\": {\"f\": {\"text\": \"x\"}}}", "{\"architecture\": \"f\"}",
		 "unexpected error: f: starts with an x"},
		{"{\"files\": {\"f\": {\"text\": \"a\"}}}", "{\"error\": \"x\"}", "error: expected, but there is none"},
		{"{\"files\": {\"f\": {\"text\": \"y\"}}}", "{\"error\": \"in file 7\"}", NULL},
		{"{\"files\": {\"strange\": {\"text\": \"\"}}}", "{\"error\": \"not recognized\"}", NULL},
		{"{\"files\": {\"f\": {\"hex\": \"0\"}}}", "{\"error\": \"\"}", "file f cannot be made"},
		{"{\"files\": {\"f\": {\"hex\": \"zz\"}}}", "{\"error\": \"\"}", "file f cannot be made"},
		{"{\"files\": {\"f\": \"abcd\"}}", "{\"error\": \"\"}", "neither {\"text\"} nor {\"hex\"}"},
		{"{\"files\": {}}", "{\"error\": \"\"}", "not an object of 1 to 16 files"},
	};

	ASSERT_ANSWERS(DS_PLUGIN_FORMAT, &ops, answers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sampler_is_asked_what_the_vector_says),
		cmocka_unit_test(a_vector_that_tests_nothing_does_not_pass),
		cmocka_unit_test(every_vector_is_run_and_the_first_failure_told),
		cmocka_unit_test(a_tokenizer_is_asked_both_ways),
		cmocka_unit_test(a_dialect_renders_and_parses),
		cmocka_unit_test(a_format_describes_files_in_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-dialect-deepseek-r1.c - prompts byte by byte, and outputs of models, right and wrong ones, cut in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dialect-r1.h"

#define MAX_TEXT 8192
#define MAX_CALLS 4

extern const struct ds_plugin ds_plugin;

static const struct ds_dialect_ops *dialect(void)
{
	return ds_plugin.entries[0].ops;
}

/* ---- rendering ---- */

/* The prompt, with markup between braces so that it cannot be confused with text. */
struct recorder {
	char text[MAX_TEXT];
	size_t size;
};

static void append(struct recorder *recorder, const char *text, size_t n)
{
	assert_true(recorder->size + n < MAX_TEXT);
	memcpy(recorder->text + recorder->size, text, n);
	recorder->size += n;
	recorder->text[recorder->size] = '\0';
}

static void on_markup(void *self, const char *text)
{
	append(self, "{", 1);
	append(self, text, strlen(text));
	append(self, "}", 1);
}

static void on_text(void *self, const char *text, size_t n)
{
	append(self, text, n);
}

static int render(const struct ds_turn *messages, size_t n_messages, const struct ds_tool *tools, size_t n_tools,
		  struct recorder *recorder, bool *thinking, struct ds_error *err)
{
	const struct ds_conversation conversation = {
		.messages = messages, .n_messages = n_messages, .tools = tools, .n_tools = n_tools};
	const struct ds_prompt_writer writer = {
		.size = sizeof(writer), .self = recorder, .markup = on_markup, .text = on_text};

	*recorder = (struct recorder){.size = 0};
	return dialect()->render(&conversation, &writer, thinking, err);
}

#define assert_rendered(expected_thinking, expected, tools, n_tools, ...)                                              \
	do {                                                                                                           \
		const struct ds_turn messages_[] = {__VA_ARGS__};                                                      \
		struct recorder recorder_;                                                                             \
		bool thinking_ = !(expected_thinking);                                                                 \
		assert_int_equal(                                                                                      \
			render(messages_, DS_ARRAY_SIZE(messages_), tools, n_tools, &recorder_, &thinking_, NULL), 0); \
		assert_string_equal(recorder_.text, expected);                                                         \
		assert_true(thinking_ == (expected_thinking));                                                         \
	} while (0)

#define assert_refused(code, sentence, ...)                                                                            \
	do {                                                                                                           \
		const struct ds_turn messages_[] = {__VA_ARGS__};                                                      \
		struct recorder recorder_;                                                                             \
		struct ds_error err_ = {""};                                                                           \
		bool thinking_ = true;                                                                                 \
		assert_int_equal(render(messages_, DS_ARRAY_SIZE(messages_), NULL, 0, &recorder_, &thinking_, &err_),  \
				 code);                                                                                \
		assert_non_null(strstr(err_.text, sentence));                                                          \
		assert_int_equal(recorder_.size, 0);                                                                   \
	} while (0)

#define SYSTEM(text_) {.role = DS_ROLE_SYSTEM, .content = text_}
#define ASK(text_) {.role = DS_ROLE_USER, .content = text_}
#define ANSWER(text_) {.role = DS_ROLE_ASSISTANT, .content = text_}
#define CALL(text_, calls_)                                                                                            \
	{                                                                                                              \
		.role = DS_ROLE_ASSISTANT, .content = text_, .tool_calls = calls_,                                     \
		.n_tool_calls = DS_ARRAY_SIZE(calls_)                                                                  \
	}
#define RESULT(text_) {.role = DS_ROLE_TOOL, .content = text_, .tool_call_id = "x"}

static const struct ds_tool_call two_calls[] = {
	{.id = "x", .name = "weather", .arguments = "{\"city\": \"Ulm\"}"},
	{.id = "y", .name = "now", .arguments = "{}"},
};
static const struct ds_tool_call one_call[] = {{.id = "x", .name = "now", .arguments = "{}"}};

static void a_question_opens_the_reasoning(void **state)
{
	assert_rendered(true, "{" BOS "}{" USER "}Hello{" ASSISTANT "}{<think>}\n", NULL, 0, ASK("Hello"));
}

static void system_messages_are_gathered_at_the_front(void **state)
{
	assert_rendered(true,
			"{" BOS "}One\n\nTwo{" USER "}a{" ASSISTANT "}b{" EOS "}{" USER "}c{" ASSISTANT "}{<think>}\n",
			NULL, 0, SYSTEM("One"), ASK("a"), ANSWER("b"), SYSTEM("Two"), ASK("c"));
}

static void old_reasoning_is_not_repeated(void **state)
{
	assert_rendered(true, "{" BOS "}{" USER "}a{" ASSISTANT "} b{" EOS "}{" USER "}c{" ASSISTANT "}{<think>}\n",
			NULL, 0, ASK("a"),
			{.role = DS_ROLE_ASSISTANT, .content = "<think>x</think>y</think> b", .reasoning = "z"},
			ASK("c"));
}

static void tools_stand_after_the_system_text(void **state)
{
	static const struct ds_tool tools[] = {{"now", "The time.", "{\"type\": \"object\"}"}, {"f", "", "{}"}};

	assert_rendered(true,
			"{" BOS "}Be kind.\n\n## Tools\nYou have access to the following tools:\n"
			"\n### now\nDescription: The time.\n\nParameters: {\"type\": \"object\"}\n"
			"\n### f\nDescription: \n\nParameters: {}\n"
			"{" USER "}a{" ASSISTANT "}{<think>}\n",
			tools, 2, SYSTEM("Be kind."), ASK("a"));
	assert_rendered(true,
			"{" BOS "}## Tools\nYou have access to the following tools:\n"
			"\n### now\nDescription: The time.\n\nParameters: {\"type\": \"object\"}\n"
			"{" USER "}a{" ASSISTANT "}{<think>}\n",
			tools, 1, SYSTEM(""), ASK("a"));
}

static void calls_and_results_are_written_as_in_training(void **state)
{
	assert_rendered(false,
			"{" BOS "}{" USER "}a{" ASSISTANT "}Let me see.{" CALLS_BEGIN "}{" CALL_BEGIN "}function{" SEP
			"}weather\n```json\n{\"city\": \"Ulm\"}\n```{" CALL_END "}\n{" CALL_BEGIN "}function{" SEP
			"}now\n```json\n{}\n```{" CALL_END "}{" CALLS_END "}{" EOS "}{" OUTPUTS_BEGIN "}{" OUTPUT_BEGIN
			"}rain{" OUTPUT_END "}{" OUTPUT_BEGIN "}noon{" OUTPUT_END "}{" OUTPUTS_END "}",
			NULL, 0, ASK("a"), CALL("<think>w</think>Let me see.", two_calls), RESULT("rain"), SYSTEM(""),
			RESULT("noon"));
}

static void after_a_result_the_answer_follows_directly(void **state)
{
	assert_rendered(true,
			"{" BOS "}{" USER "}a{" ASSISTANT "}{" CALLS_BEGIN "}{" CALL_BEGIN "}function{" SEP
			"}now\n```json\n{}\n```{" CALL_END "}{" CALLS_END "}{" EOS "}{" OUTPUTS_BEGIN "}{" OUTPUT_BEGIN
			"}noon{" OUTPUT_END "}{" OUTPUTS_END "}It is noon.{" EOS "}{" USER "}b{" ASSISTANT
			"}{<think>}\n",
			NULL, 0, ASK("a"), CALL("", one_call), RESULT("noon"), ANSWER("It is noon."), ASK("b"));
}

static void a_message_cannot_forge_markup(void **state)
{
	assert_rendered(true, "{" BOS "}" EOS "{" USER "}" USER ASSISTANT "<think>{" ASSISTANT "}{<think>}\n", NULL, 0,
			SYSTEM(EOS), ASK(USER ASSISTANT "<think>"));
}

static void conversations_that_lead_nowhere_are_refused(void **state)
{
	struct recorder recorder;
	struct ds_error err;
	bool thinking;

	assert_int_equal(render(NULL, 0, NULL, 0, &recorder, &thinking, &err), -EINVAL);
	assert_string_equal(err.text, "messages: there are none");
	assert_refused(-EINVAL, "messages[0]: the last message must be", SYSTEM("a"));
	assert_refused(-EINVAL, "messages[1]: the last message must be", ASK("a"), SYSTEM("b"));
	assert_refused(-ENOTSUP, "messages[1]: the last message must be", ASK("a"), ANSWER("b"));
	assert_refused(-EINVAL, "messages[0]: a tool's result", RESULT("a"));
	assert_refused(-EINVAL, "messages[1]: a tool's result", ASK("a"), RESULT("b"));
	assert_refused(-EINVAL, "messages[2]: a tool's result", ASK("a"), ANSWER("b"), RESULT("c"), ASK("d"));
}

/* ---- parsing ---- */

/* A piece of output; special ones are one token. */
struct piece {
	const char *text;
	bool special;
};

#define T(text_) {.text = text_}
#define S(text_) {.text = text_, .special = true}
#define MAX_PIECES 24

struct parsed {
	struct recorder reasoning, content;
	struct recorder names[MAX_CALLS], arguments[MAX_CALLS];
	size_t n_calls;
};

static void assert_whole_characters(const char *text, size_t n)
{
	assert_true(n > 0);
	assert_false(((unsigned char)text[0] & 0xC0) == 0x80);
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)text[n - back];

		if ((c & 0xC0) == 0x80)
			continue;
		if (c >= 0xC0)
			assert_int_equal(back, c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2);
		break;
	}
}

static void on_output(void *self, enum ds_output kind, const char *text, size_t n)
{
	struct parsed *parsed = self;

	assert_whole_characters(text, n);
	switch (kind) {
	case DS_OUTPUT_REASONING:
		append(&parsed->reasoning, text, n);
		break;
	case DS_OUTPUT_CONTENT:
		append(&parsed->content, text, n);
		break;
	case DS_OUTPUT_TOOL_NAME:
		assert_true(parsed->n_calls < MAX_CALLS);
		append(&parsed->names[parsed->n_calls++], text, n);
		break;
	case DS_OUTPUT_TOOL_ARGUMENTS:
		assert_true(parsed->n_calls > 0);
		append(&parsed->arguments[parsed->n_calls - 1], text, n);
		break;
	}
}

static size_t character_size(const char *text)
{
	unsigned char c = (unsigned char)*text;

	return c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
}

/* Feed plain pieces @cut characters at a time (0: whole). */
static void parse(const struct piece *pieces, bool thinking, size_t cut, struct parsed *parsed)
{
	const struct ds_output_writer writer = {.size = sizeof(writer), .self = parsed, .write = on_output};
	void *self = NULL;

	memset(parsed, 0, sizeof(*parsed));
	assert_int_equal(dialect()->open(&self, NULL, thinking, NULL), 0);
	for (; pieces->text; pieces++) {
		const char *text = pieces->text, *end = text + strlen(text);

		while (text < end) {
			const char *stop = text;

			for (size_t i = 0; stop < end && (i < cut || cut == 0 || pieces->special); i++)
				stop += character_size(stop);
			dialect()->feed(self, text, (size_t)(stop - text), pieces->special, &writer);
			text = stop;
		}
	}
	dialect()->finish(self, &writer);
	dialect()->close(self);
}

struct output_case {
	const char *name;
	bool thinking;
	struct piece pieces[MAX_PIECES];
	const char *reasoning, *content;
	struct {
		const char *name, *arguments;
	} calls[MAX_CALLS];
};

static const struct output_case output_cases[] = {
	{"reasoning, then the answer", true, {T("Hm.\n"), S(THINK_END), T("\n\nYes.")}, "Hm.", "Yes.", {{0}}},
	{"all of it plain text", true, {T("Hm.\n</think>\n\nYes.")}, "Hm.", "Yes.", {{0}}},
	{"the model opens the reasoning itself", false, {T("<think>\nHm.\n</think>\n\nYes.")}, "Hm.", "Yes.", {{0}}},
	{"the model opens it with a special token",
	 false,
	 {S(THINK), T("\nHm.\n"), S(THINK_END), T("Y")},
	 "Hm.",
	 "Y",
	 {{0}}},
	{"the model opens what the prompt has opened", true, {T("<think>\nHm.</think>Yes")}, "Hm.", "Yes", {{0}}},
	{"no reasoning at all", true, {T("\n"), S(THINK_END), T("\n\nYes.\n")}, "", "Yes.\n", {{0}}},
	{"after a tool's result all is content", false, {T("\n\nIt is noon.\n\nBye")}, "", "It is noon.\n\nBye", {{0}}},
	{"an end of reasoning that none has begun", false, {T("</think>\n\nYes")}, "", "Yes", {{0}}},
	{"newlines inside stay", true, {T("\n\na\n\n\nb\n\n</think>\n\n\nc\n\nd\n")}, "a\n\n\nb", "c\n\nd\n", {{0}}},
	{"many newlines inside stay",
	 true,
	 {T("a\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nb")},
	 "a\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nb",
	 "",
	 {{0}}},
	{"what is almost a mark is text",
	 true,
	 {T("a <b </thinker> <</think>< c</thin")},
	 "a <b </thinker> <",
	 "< c</thin",
	 {{0}}},
	{"a character that begins like the bar",
	 true,
	 {T("<\xEF\xBD\x9Bx</think><\xEF\xBD\x9B")},
	 "<\xEF\xBD\x9Bx",
	 "<\xEF\xBD\x9B",
	 {{0}}},
	{"cut off in reasoning", true, {T("Hm, 你好\n")}, "Hm, 你好", "", {{0}}},
	{"an unfinished mark at the end is text",
	 true,
	 {T("a</think>b<｜tool▁calls▁be")},
	 "a",
	 "b<｜tool▁calls▁be",
	 {{0}}},
	{"talk about the tags is content",
	 true,
	 {T("a</think>Use <think> and </think>.")},
	 "a",
	 "Use <think> and </think>.",
	 {{0}}},
	{"special tokens are never shown",
	 true,
	 {T("a"), S("<｜▁pad▁｜>"), T("b"), S(THINK_END), T("c"), S(SEP), S(THINK), T("d")},
	 "ab",
	 "cd",
	 {{0}}},
	{"one call",
	 true,
	 {T("x\n"), S(THINK_END), T("\n\n"), S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP),
	  T("now\n```json\n{\"zone\": \"CET\"}\n```"), S(CALL_END), S(CALLS_END)},
	 "x",
	 "",
	 {{"now", "{\"zone\": \"CET\"}"}}},
	{"content before the call stays",
	 true,
	 {S(THINK_END), T("\n\nLet me see.\n"), S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP),
	  T("f\n```json\n{}\n```"), S(CALL_END), S(CALLS_END)},
	 "",
	 "Let me see.\n",
	 {{"f", "{}"}}},
	{"two calls",
	 false,
	 {S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{\"a\": 1}\n```"), S(CALL_END), T("\n"),
	  S(CALL_BEGIN), T("function"), S(SEP), T("g\n```json\n{\"b\": [2]}\n```"), S(CALL_END), S(CALLS_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}, {"g", "{\"b\": [2]}"}}},
	{"a vocabulary without the marks writes them as text",
	 true,
	 {T("x</think>\n" CALLS_BEGIN CALL_BEGIN "function" SEP "f\n```json\n{\"a\": \"é\"}\n```" CALL_END
	    "\n" CALL_BEGIN "function" SEP "g\n```json\n{}\n```" CALL_END CALLS_END "\n")},
	 "x",
	 "",
	 {{"f", "{\"a\": \"é\"}"}, {"g", "{}"}}},
	{"reasoning that was not closed before the call",
	 true,
	 {T("I call.\n"), S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{}\n```"), S(CALL_END)},
	 "I call.",
	 "",
	 {{"f", "{}"}}},
	{"a call without the outer mark",
	 true,
	 {T("a</think>"), S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{}\n```"), S(CALL_END), S(CALLS_END)},
	 "a",
	 "",
	 {{"f", "{}"}}},
	{"no fence",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n{\"a\": 1}\n"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}}},
	{"no fence and no newline",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f{\"a\": 1}"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}}},
	{"a fence without its newlines",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f```json{\"a\": 1}```"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}}},
	{"a fence without a language",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n```\n{\"a\": 1}\n```\n"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}}},
	{"a fence that is only closed",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n{\"a\": 1}\n```"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": 1}"}}},
	{"another type than function",
	 false,
	 {S(CALL_BEGIN), T("tool"), S(SEP), T("f\n```json\n{}\n```"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{}"}}},
	{"white space everywhere",
	 false,
	 {S(CALL_BEGIN), T(" function\n"), S(SEP), T("\n f \n\n```json \n \n{ }\n\n```\n\n"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{ }"}}},
	{"backticks inside the arguments",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{\"code\": \"```py\\nx\\n```\", \"b\": \"`\"}\n```"),
	  S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"code\": \"```py\\nx\\n```\", \"b\": \"`\"}"}}},
	{"a fence inside the arguments on its own line",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{\"code\": \"\n```\n`` ```` \n\"}\n```"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"code\": \"\n```\n`` ```` \n\"}"}}},
	{"long white space inside the arguments",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n{\"a\":                                                  1}"),
	  S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\":                                                  1}"}}},
	{"a call without arguments",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{}"}}},
	{"an empty fence",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n```"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{}"}}},
	{"arguments that quote the marks",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n{\"a\": \"" CALL_END "<think>" CALLS_BEGIN "\"}"), S(CALL_END)},
	 "",
	 "",
	 {{"f", "{\"a\": \"" CALL_END "<think>" CALLS_BEGIN "\"}"}}},
	{"a call that is not closed before the next",
	 false,
	 {S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{}\n```\n"), S(CALL_BEGIN), T("function"), S(SEP),
	  T("g\n```json\n{\"a\": 1}\n```"), S(CALLS_END)},
	 "",
	 "",
	 {{"f", "{}"}, {"g", "{\"a\": 1}"}}},
	{"cut off in the arguments",
	 false,
	 {S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{\"a\": \"b``")},
	 "",
	 "",
	 {{"f", "{\"a\": \"b``"}}},
	{"cut off after the fence",
	 false,
	 {S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("f\n```json\n{}\n```")},
	 "",
	 "",
	 {{"f", "{}"}}},
	{"cut off in the name is no call",
	 false,
	 {S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("get_wea")},
	 "",
	 "get_wea",
	 {{0}}},
	{"a call without separator or name is no call",
	 false,
	 {S(CALL_BEGIN), T("function now {}"), S(CALL_END), T("\n"), S(CALL_BEGIN), T("function"), S(SEP),
	  T("\n{\"a\": 1}"), S(CALL_END)},
	 "",
	 "function now {}{\"a\": 1}",
	 {{0}}},
	{"text after the calls is content",
	 false,
	 {S(CALLS_BEGIN), S(CALL_BEGIN), T("function"), S(SEP), T("f\n{}"), S(CALL_END), S(CALLS_END), T("\nDone.")},
	 "",
	 "Done.",
	 {{"f", "{}"}}},
};

static void assert_parsed(const struct output_case *c, size_t cut)
{
	static struct parsed parsed;
	size_t n_calls = 0;

	parse(c->pieces, c->thinking, cut, &parsed);
	if (strcmp(parsed.reasoning.text, c->reasoning) != 0 || strcmp(parsed.content.text, c->content) != 0)
		print_error("%s (cut at %zu): reasoning '%s', content '%s'\n", c->name, cut, parsed.reasoning.text,
			    parsed.content.text);
	assert_string_equal(parsed.reasoning.text, c->reasoning);
	assert_string_equal(parsed.content.text, c->content);
	while (n_calls < MAX_CALLS && c->calls[n_calls].name)
		n_calls++;
	if (parsed.n_calls != n_calls)
		print_error("%s (cut at %zu): %zu calls\n", c->name, cut, parsed.n_calls);
	assert_int_equal(parsed.n_calls, n_calls);
	for (size_t i = 0; i < n_calls; i++) {
		assert_string_equal(parsed.names[i].text, c->calls[i].name);
		assert_string_equal(parsed.arguments[i].text, c->calls[i].arguments);
	}
}

static void outputs_are_told_apart_however_they_are_cut(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(output_cases); i++)
		for (size_t cut = 0; cut <= 5; cut++)
			assert_parsed(&output_cases[i], cut);
}

static void a_name_without_end_becomes_content(void **state)
{
	static char name[1000];
	const struct piece pieces[] = {S(CALL_BEGIN), T("function"), S(SEP), T(name), S(CALL_END), {0}};
	static struct parsed parsed;

	memset(name, 'n', sizeof(name) - 1);
	for (size_t cut = 0; cut < 4; cut++) {
		parse(pieces, false, cut, &parsed);
		assert_string_equal(parsed.content.text, name);
		assert_int_equal(parsed.n_calls, 0);
	}
}

/* What streams must not wait for what can no longer be a mark. */
static void text_is_handed_over_at_once(void **state)
{
	static struct parsed parsed;
	const struct ds_output_writer writer = {.size = sizeof(writer), .self = &parsed, .write = on_output};
	void *self = NULL;

	memset(&parsed, 0, sizeof(parsed));
	assert_int_equal(dialect()->open(&self, NULL, true, NULL), 0);
	dialect()->feed(self, "Hm <", 4, false, &writer);
	assert_string_equal(parsed.reasoning.text, "Hm ");
	dialect()->feed(self, "b", 1, false, &writer);
	assert_string_equal(parsed.reasoning.text, "Hm <b");
	dialect()->feed(self, "\n", 1, false, &writer);
	assert_string_equal(parsed.reasoning.text, "Hm <b");
	dialect()->feed(self, "</think>x", 9, false, &writer);
	assert_string_equal(parsed.content.text, "x");
	dialect()->close(self);
}

static void an_answer_also_ends_where_a_turn_begins(void **state)
{
	assert_string_equal(dialect()->stops[0], USER);
	assert_string_equal(dialect()->stops[1], BOS);
	assert_string_equal(dialect()->stops[2], "<|EOT|>");
	assert_null(dialect()->stops[3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_question_opens_the_reasoning),
		cmocka_unit_test(system_messages_are_gathered_at_the_front),
		cmocka_unit_test(old_reasoning_is_not_repeated),
		cmocka_unit_test(tools_stand_after_the_system_text),
		cmocka_unit_test(calls_and_results_are_written_as_in_training),
		cmocka_unit_test(after_a_result_the_answer_follows_directly),
		cmocka_unit_test(a_message_cannot_forge_markup),
		cmocka_unit_test(conversations_that_lead_nowhere_are_refused),
		cmocka_unit_test(outputs_are_told_apart_however_they_are_cut),
		cmocka_unit_test(a_name_without_end_becomes_content),
		cmocka_unit_test(text_is_handed_over_at_once),
		cmocka_unit_test(an_answer_also_ends_where_a_turn_begins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

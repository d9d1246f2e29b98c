/* test-chat.c - conversations in OpenAI's shape, and the path of what is wrong with one. */
#include "chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

struct chat {
	json_t *json;
	struct ds_chat *chat;
};

static void chat_deinit(struct chat *c)
{
	ds_chat_free(c->chat);
	json_decref(c->json);
}

/* Read {"messages", "tools"} in @text. */
static int read_chat(struct chat *c, const char *text, struct ds_error *err)
{
	c->json = json_loads(text, JSON_ALLOW_NUL, NULL);
	assert_non_null(c->json);
	return ds_chat_new(&c->chat, json_object_get(c->json, "messages"), json_object_get(c->json, "tools"),
			   json_object_get(c->json, "thinking"), err);
}

static void a_conversation_is_read_whole(void **state)
{
	ds_cleanup(chat_deinit) struct chat c = {NULL, NULL};
	const struct ds_conversation *talk;
	const struct ds_turn *m;

	assert_int_equal(read_chat(&c,
				   "{\"messages\": [{\"role\": \"developer\", \"content\": \"be kind\"},"
				   "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"5\"},"
				   "{\"type\": \"text\", \"text\": \"+6?\"}]},"
				   "{\"role\": \"assistant\", \"content\": null, \"reasoning_content\": \"hm\","
				   "\"tool_calls\": [{\"id\": \"c1\", \"type\": \"function\", \"function\":"
				   "{\"name\": \"add\", \"arguments\": \"{\\\"a\\\":5}\"}}]},"
				   "{\"role\": \"tool\", \"tool_call_id\": \"c1\", \"content\": \"11\"}],"
				   "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\":"
				   "{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}}}}}]}",
				   NULL),
			 0);
	talk = ds_chat_conversation(c.chat);
	assert_int_equal(talk->n_messages, 4);
	m = talk->messages;
	assert_int_equal(m[0].role, DS_ROLE_SYSTEM);
	assert_string_equal(m[0].content, "be kind");
	assert_int_equal(m[1].role, DS_ROLE_USER);
	assert_string_equal(m[1].content, "5+6?");
	assert_int_equal(m[2].role, DS_ROLE_ASSISTANT);
	assert_string_equal(m[2].content, "");
	assert_string_equal(m[2].reasoning, "hm");
	assert_int_equal(m[2].n_tool_calls, 1);
	assert_string_equal(m[2].tool_calls[0].id, "c1");
	assert_string_equal(m[2].tool_calls[0].name, "add");
	assert_string_equal(m[2].tool_calls[0].arguments, "{\"a\":5}");
	assert_int_equal(m[3].role, DS_ROLE_TOOL);
	assert_string_equal(m[3].tool_call_id, "c1");
	assert_null(m[3].reasoning);
	assert_int_equal(talk->n_tools, 1);
	assert_string_equal(talk->tools[0].description, "");
	assert_string_equal(talk->tools[0].parameters,
			    "{\"type\": \"object\", \"properties\": {\"b\": {}, \"a\": {}}}");
}

static void what_is_wrong_is_named_by_its_path(void **state)
{
	static const struct {
		const char *text, *sentence;
	} wrong[] = {
		{"{}", "messages: not an array with at least one message"},
		{"{\"messages\": {}}", "messages: not an array"},
		{"{\"messages\": []}", "messages: not an array"},
		{"{\"messages\": [5]}", "messages[0].role: not system"},
		{"{\"messages\": [{\"role\": \"king\", \"content\": \"\"}]}", "messages[0].role: not system"},
		{"{\"messages\": [{\"role\": \"user\"}]}", "messages[0].content: missing"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": null}]}", "messages[0].content: missing"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "messages[0].content: neither a string"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u0000b\"}]}", "messages[0].content: holds a NUL"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
		 "messages[0].content[0]: not a part of type text"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}", "messages[0].content[0]"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"reasoning_content\": 5}]}",
		 "messages[0].reasoning_content: not a string"},
		{"{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", "messages[0].tool_call_id: missing"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"tool_calls\": []}]}", "messages[0].tool_calls"},
		{"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": 5}]}", "messages[0].tool_calls: not an array"},
		{"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\"}}]}]}",
		 "messages[0].tool_calls[0].function: needs name and arguments"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": {}}", "tools: not an array"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"thinking\": 1}",
		 "thinking: not true or false"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": [{}]}", "tools[0].type"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": [{\"type\": \"function\"}]}",
		 "tools[0].function.name: missing"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": [{\"type\": \"function\","
		 " \"function\": {\"name\": \"f\", \"description\": 5}}]}",
		 "tools[0].function.description: not a string"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": [{\"type\": \"function\","
		 " \"function\": {\"name\": \"f\", \"parameters\": []}}]}",
		 "tools[0].function.parameters: not an object"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(wrong); i++) {
		ds_cleanup(chat_deinit) struct chat c = {NULL, NULL};
		struct ds_error err = {""};

		assert_int_equal(read_chat(&c, wrong[i].text, &err), -EINVAL);
		assert_null(c.chat);
		if (strncmp(err.text, wrong[i].sentence, strlen(wrong[i].sentence)) != 0)
			fail_msg("%s: \"%s\" instead of \"%s\"", wrong[i].text, err.text, wrong[i].sentence);
	}
}

static void thinking_is_wanted_or_not_or_left_open(void **state)
{
	static const struct {
		const char *text;
		enum ds_thinking thinking;
	} cases[] = {
		{"", DS_THINKING_DEFAULT},
		{", \"thinking\": true", DS_THINKING_ON},
		{", \"thinking\": false", DS_THINKING_OFF},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		ds_cleanup(chat_deinit) struct chat c = {NULL, NULL};
		char text[128];

		snprintf(text, sizeof(text), "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]%s}", cases[i].text);
		assert_int_equal(read_chat(&c, text, NULL), 0);
		assert_int_equal(ds_chat_conversation(c.chat)->thinking, cases[i].thinking);
	}
}

static void null_is_as_good_as_absent(void **state)
{
	ds_cleanup(chat_deinit) struct chat c = {NULL, NULL};

	assert_int_equal(read_chat(&c,
				   "{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": null,"
				   " \"reasoning_content\": null}], \"tools\": null}",
				   NULL),
			 0);
	assert_int_equal(ds_chat_conversation(c.chat)->n_tools, 0);
	assert_null(ds_chat_conversation(c.chat)->messages[0].reasoning);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conversation_is_read_whole),
		cmocka_unit_test(what_is_wrong_is_named_by_its_path),
		cmocka_unit_test(thinking_is_wanted_or_not_or_left_open),
		cmocka_unit_test(null_is_as_good_as_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

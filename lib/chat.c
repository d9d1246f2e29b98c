/* chat.c - reads a conversation in OpenAI's JSON shape and believes none of it. */
#include "chat.h"

#include <string.h>

struct ds_chat {
	struct ds_conversation conversation;
	struct ds_turn *messages; /* [conversation.n_messages]; their tool_calls are ours */
	struct ds_tool *tools;    /* [conversation.n_tools]; their parameters are ours */
	char **joined;            /* [n_joined]: contents that came in parts */
	size_t n_joined;
};

static const struct role {
	const char *name;
	enum ds_role role;
} roles[] = {
	{"system", DS_ROLE_SYSTEM},       {"developer", DS_ROLE_SYSTEM}, {"user", DS_ROLE_USER},
	{"assistant", DS_ROLE_ASSISTANT}, {"tool", DS_ROLE_TOOL},
};

/* The text of @json; what holds a NUL would end early in a prompt, so it is no text here. */
static const char *text_of(const json_t *json)
{
	const char *text = json_string_value(json);

	return text && strlen(text) == json_string_length(json) ? text : NULL;
}

/* The parts [{"type": "text", "text": ...}...] of message @i as one text. */
static int join_parts(struct ds_chat *chat, const json_t *parts, size_t i, const char **out, struct ds_error *err)
{
	size_t size = 1;
	char *end;

	for (size_t p = 0; p < json_array_size(parts); p++) {
		const json_t *part = json_array_get(parts, p);
		const char *type = text_of(json_object_get(part, "type")),
			   *text = text_of(json_object_get(part, "text"));

		if (!type || strcmp(type, "text") != 0 || !text)
			return ds_fail(err, -EINVAL, "messages[%zu].content[%zu]: not a part of type text", i, p);
		size += strlen(text);
	}
	end = chat->joined[chat->n_joined] = malloc(size);
	if (!end)
		return ds_fail(err, -ENOMEM, "no memory for messages[%zu].content", i);
	*out = chat->joined[chat->n_joined++];
	*end = 0;
	for (size_t p = 0; p < json_array_size(parts); p++)
		end = stpcpy(end, json_string_value(json_object_get(json_array_get(parts, p), "text")));
	return 0;
}

static int read_content(struct ds_chat *chat, const json_t *json, size_t i, struct ds_error *err)
{
	const json_t *content = json_object_get(json, "content");
	struct ds_turn *m = &chat->messages[i];

	m->content = "";
	if (json_is_array(content))
		return join_parts(chat, content, i, &m->content, err);
	if (json_is_string(content)) {
		m->content = text_of(content);
		return m->content ? 0 : ds_fail(err, -EINVAL, "messages[%zu].content: holds a NUL character", i);
	}
	if (content && !json_is_null(content))
		return ds_fail(err, -EINVAL, "messages[%zu].content: neither a string nor an array of parts", i);
	if (m->role != DS_ROLE_ASSISTANT)
		return ds_fail(err, -EINVAL, "messages[%zu].content: missing", i);
	return 0;
}

static int read_tool_calls(struct ds_chat *chat, const json_t *calls, size_t i, struct ds_error *err)
{
	size_t n = json_array_size(calls);
	struct ds_turn *m = &chat->messages[i];
	struct ds_tool_call *list;

	if (!calls || json_is_null(calls))
		return 0;
	if (!json_is_array(calls) || m->role != DS_ROLE_ASSISTANT)
		return ds_fail(err, -EINVAL, "messages[%zu].tool_calls: not an array in a message of the assistant", i);
	m->tool_calls = list = calloc(n + 1, sizeof(*list));
	if (!list)
		return ds_fail(err, -ENOMEM, "no memory for messages[%zu].tool_calls", i);
	m->n_tool_calls = n;
	for (size_t c = 0; c < n; c++) {
		const json_t *call = json_array_get(calls, c), *function = json_object_get(call, "function");

		list[c].id = text_of(json_object_get(call, "id"));
		list[c].name = text_of(json_object_get(function, "name"));
		list[c].arguments = text_of(json_object_get(function, "arguments"));
		if (!list[c].id)
			list[c].id = "";
		if (!list[c].name || !list[c].arguments)
			return ds_fail(err, -EINVAL,
				       "messages[%zu].tool_calls[%zu].function: needs name and arguments, both strings",
				       i, c);
	}
	return 0;
}

static int read_message(struct ds_chat *chat, const json_t *json, size_t i, struct ds_error *err)
{
	const char *role = text_of(json_object_get(json, "role"));
	const json_t *reasoning = json_object_get(json, "reasoning_content");
	const struct role *known = NULL;
	struct ds_turn *m = &chat->messages[i];
	int r;

	for (size_t k = 0; role && k < DS_ARRAY_SIZE(roles); k++)
		if (strcmp(roles[k].name, role) == 0)
			known = &roles[k];
	if (!known)
		return ds_fail(err, -EINVAL, "messages[%zu].role: not system, developer, user, assistant or tool", i);
	m->role = known->role;
	if (reasoning && !json_is_null(reasoning) && !(m->reasoning = text_of(reasoning)))
		return ds_fail(err, -EINVAL, "messages[%zu].reasoning_content: not a string", i);
	if (m->role == DS_ROLE_TOOL && !(m->tool_call_id = text_of(json_object_get(json, "tool_call_id"))))
		return ds_fail(err, -EINVAL, "messages[%zu].tool_call_id: missing", i);
	r = read_content(chat, json, i, err);
	return r < 0 ? r : read_tool_calls(chat, json_object_get(json, "tool_calls"), i, err);
}

static int read_tool(struct ds_chat *chat, const json_t *json, size_t i, struct ds_error *err)
{
	const char *type = text_of(json_object_get(json, "type"));
	const json_t *function = json_object_get(json, "function");
	const json_t *description = json_object_get(function, "description");
	const json_t *parameters = json_object_get(function, "parameters");
	struct ds_tool *tool = &chat->tools[i];

	if (!type || strcmp(type, "function") != 0)
		return ds_fail(err, -EINVAL, "tools[%zu].type: not \"function\"", i);
	tool->name = text_of(json_object_get(function, "name"));
	if (!tool->name)
		return ds_fail(err, -EINVAL, "tools[%zu].function.name: missing", i);
	tool->description = description && !json_is_null(description) ? text_of(description) : "";
	if (!tool->description)
		return ds_fail(err, -EINVAL, "tools[%zu].function.description: not a string", i);
	if (parameters && !json_is_object(parameters))
		return ds_fail(err, -EINVAL, "tools[%zu].function.parameters: not an object", i);
	/* jansson's default separators are the ones dialects are promised, and it keeps the order of keys */
	tool->parameters = parameters ? json_dumps(parameters, 0) : strdup("{}");
	if (!tool->parameters)
		return ds_fail(err, -ENOMEM, "no memory for tools[%zu]", i);
	return 0;
}

int ds_chat_new(struct ds_chat **out, const json_t *messages, const json_t *tools, const json_t *thinking,
		struct ds_error *err)
{
	ds_cleanup(ds_chat_freep) struct ds_chat *chat = NULL;
	size_t n_messages = json_array_size(messages), n_tools = json_array_size(tools);
	int r = 0;

	if (n_messages == 0)
		return ds_fail(err, -EINVAL, "messages: not an array with at least one message");
	if (tools && !json_is_null(tools) && !json_is_array(tools))
		return ds_fail(err, -EINVAL, "tools: not an array");
	if (thinking && !json_is_boolean(thinking))
		return ds_fail(err, -EINVAL, "thinking: not true or false");
	chat = calloc(1, sizeof(*chat));
	if (!chat)
		return ds_fail(err, -ENOMEM, "no memory for a conversation");
	chat->messages = calloc(n_messages, sizeof(*chat->messages));
	chat->joined = calloc(n_messages, sizeof(*chat->joined));
	chat->tools = calloc(n_tools + 1, sizeof(*chat->tools));
	if (!chat->messages || !chat->joined || !chat->tools)
		return ds_fail(err, -ENOMEM, "no memory for %zu messages", n_messages);
	chat->conversation = (struct ds_conversation){
		.messages = chat->messages,
		.n_messages = n_messages,
		.tools = chat->tools,
		.n_tools = n_tools,
		.thinking = !thinking ? DS_THINKING_DEFAULT : json_is_true(thinking) ? DS_THINKING_ON : DS_THINKING_OFF,
	};
	for (size_t i = 0; r == 0 && i < n_messages; i++)
		r = read_message(chat, json_array_get(messages, i), i, err);
	for (size_t i = 0; r == 0 && i < n_tools; i++)
		r = read_tool(chat, json_array_get(tools, i), i, err);
	if (r < 0)
		return r;
	*out = ds_steal(&chat);
	return 0;
}

struct ds_chat *ds_chat_free(struct ds_chat *chat)
{
	if (!chat)
		return NULL;
	for (size_t i = 0; chat->messages && i < chat->conversation.n_messages; i++)
		free((void *)chat->messages[i].tool_calls);
	for (size_t i = 0; chat->tools && i < chat->conversation.n_tools; i++)
		free((void *)chat->tools[i].parameters);
	for (size_t i = 0; i < chat->n_joined; i++)
		free(chat->joined[i]);
	free(chat->messages);
	free(chat->tools);
	free(chat->joined);
	free(chat);
	return NULL;
}

const struct ds_conversation *ds_chat_conversation(const struct ds_chat *chat)
{
	return &chat->conversation;
}

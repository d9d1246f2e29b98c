/* openai-chat.c - POST /v1/chat/completions as OpenAI and DeepSeek have it: reasoning_content apart from content. */
#include "openai.h"

#include <string.h>

/* The request */

static bool is_text(const json_t *value)
{
	return json_is_string(value);
}

/* The texts of @parts, joined. NULL: one is no text. */
static json_t *join_parts(const json_t *parts)
{
	struct evbuffer *joined = evbuffer_new();
	const json_t *part;
	bool valid = joined;
	json_t *text = NULL;
	size_t i;

	json_array_foreach (parts, i, part) {
		const char *type = json_string_value(json_object_get(part, "type"));
		const json_t *piece = json_object_get(part, "text");

		valid = valid && type && !strcmp(type, "text") && is_text(piece) &&
			evbuffer_add(joined, json_string_value(piece), json_string_length(piece)) == 0;
	}
	if (valid)
		text = ds_answer_text(joined);
	if (joined)
		evbuffer_free(joined);
	return text;
}

/* Text of a message: a string, or parts of type text. NULL: refused, and answered. */
static json_t *take_content(struct ds_call *call, const char *param, json_t *content)
{
	json_t *text;

	if (is_text(content))
		return json_incref(content);
	if (!json_is_array(content)) {
		ds_openai_refuse(call, param, "content must be text or a list of parts");
		return NULL;
	}
	text = join_parts(content);
	if (!text)
		ds_openai_refuse(call, param, "only parts {\"type\": \"text\", \"text\": ...} are supported");
	return text;
}

static int check_tool_calls(struct ds_call *call, const char *param, const json_t *calls)
{
	const json_t *item;
	size_t i;

	json_array_foreach (calls, i, item) {
		const json_t *function = json_object_get(item, "function");

		if (!is_text(json_object_get(item, "id")) || !is_text(json_object_get(function, "name")) ||
		    !is_text(json_object_get(function, "arguments")))
			return ds_openai_refuse(
				call, param, "tool_calls[%zu] needs id, function.name and function.arguments, all text",
				i);
	}
	return json_is_array(calls) ? 0 : ds_openai_refuse(call, param, "tool_calls must be a list");
}

static bool is_given(const json_t *value)
{
	return value && !json_is_null(value);
}

/* What only an assistant's message has. */
static int take_assistant(struct ds_call *call, const char *param, const json_t *message, json_t *to)
{
	json_t *reasoning = json_object_get(message, "reasoning_content"),
	       *calls = json_object_get(message, "tool_calls");

	if (json_is_true(json_object_get(message, "prefix")))
		return ds_openai_refuse(call, param, "going on with a prefix is not supported");
	if (!is_given(reasoning))
		reasoning = json_object_get(message, "reasoning"); /* as other servers spell it */
	if (is_given(reasoning) && !is_text(reasoning))
		return ds_openai_refuse(call, param, "reasoning_content must be text");
	if (is_given(reasoning))
		json_object_set(to, "reasoning_content", reasoning);
	if (!is_given(calls))
		return 0;
	json_object_set(to, "tool_calls", calls);
	return check_tool_calls(call, param, calls);
}

static const struct {
	const char *role, *as;
	bool is_assistant, is_tool;
} roles[] = {
	{"system", "system", false, false},      {"developer", "system", false, false}, {"user", "user", false, false},
	{"assistant", "assistant", true, false}, {"tool", "tool", false, true},
};

/* Fill @to, a new message, from @message. */
static int take_message(struct ds_call *call, const char *param, const json_t *message, json_t *to)
{
	const char *role = json_string_value(json_object_get(message, "role"));
	json_t *content = json_object_get(message, "content"), *text;
	json_t *tool_call_id = json_object_get(message, "tool_call_id");
	size_t i = 0;

	if (!json_is_object(message))
		return ds_openai_refuse(call, param, "must be an object");
	while (i < DS_ARRAY_SIZE(roles) && (!role || strcmp(role, roles[i].role)))
		i++;
	if (i == DS_ARRAY_SIZE(roles))
		return ds_openai_refuse(call, param, "role must be system, developer, user, assistant or tool");
	json_object_set_new(to, "role", json_string(roles[i].as));
	if (roles[i].is_assistant && take_assistant(call, param, message, to) < 0)
		return -EINVAL;
	if (roles[i].is_tool && !is_text(tool_call_id))
		return ds_openai_refuse(call, param, "tool_call_id must be the id of the call that is answered");
	if (roles[i].is_tool)
		json_object_set(to, "tool_call_id", tool_call_id);
	if (!is_given(content) && json_object_get(to, "tool_calls"))
		return json_object_set_new(to, "content", json_string(""));
	text = take_content(call, param, content);
	return text ? json_object_set_new(to, "content", text) : -EINVAL;
}

static int take_messages(struct ds_call *call, json_t *to)
{
	const json_t *messages = json_object_get(call->body, "messages"), *message;
	json_t *list = json_array();
	char param[40];
	size_t i;

	json_object_set_new(to, "messages", list);
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return ds_openai_refuse(call, "messages", "must be a list of at least one message");
	json_array_foreach (messages, i, message) {
		json_t *taken = json_object();

		json_array_append_new(list, taken);
		snprintf(param, sizeof(param), "messages[%zu]", i);
		if (take_message(call, param, message, taken) < 0)
			return -EINVAL;
	}
	return 0;
}

static int check_tool(struct ds_call *call, const char *param, const json_t *tool)
{
	const char *type = json_string_value(json_object_get(tool, "type"));
	const json_t *function = json_object_get(tool, "function");
	const json_t *description = json_object_get(function, "description");
	const json_t *parameters = json_object_get(function, "parameters");

	if (!type || strcmp(type, "function"))
		return ds_openai_refuse(call, param, "type must be function");
	if (!is_text(json_object_get(function, "name")) || json_string_length(json_object_get(function, "name")) == 0)
		return ds_openai_refuse(call, param, "function.name must be text");
	if (is_given(description) && !is_text(description))
		return ds_openai_refuse(call, param, "function.description must be text");
	if (is_given(parameters) && !json_is_object(parameters))
		return ds_openai_refuse(call, param, "function.parameters must be a JSON schema");
	return 0;
}

static int take_tools(struct ds_call *call, json_t *to)
{
	json_t *tools = json_object_get(call->body, "tools"), *tool;
	const json_t *choice = json_object_get(call->body, "tool_choice");
	const char *text = json_string_value(choice);
	char param[40];
	size_t i;

	if (is_given(choice) && (!text || (strcmp(text, "auto") && strcmp(text, "none"))))
		return ds_openai_refuse(call, "tool_choice", "a forced choice is not supported: auto and none are");
	if (!is_given(tools))
		return 0;
	if (!json_is_array(tools) || json_array_size(tools) > 128)
		return ds_openai_refuse(call, "tools", "must be a list of at most 128 tools");
	json_array_foreach (tools, i, tool) {
		snprintf(param, sizeof(param), "tools[%zu]", i);
		if (check_tool(call, param, tool) < 0)
			return -EINVAL;
	}
	if (json_array_size(tools) > 0 && (!text || strcmp(text, "none")))
		json_object_set(to, "tools", tools);
	return 0;
}

/* DeepSeek's {"type": "enabled" | "disabled"}. */
static int take_thinking_type(struct ds_call *call, const json_t *thinking, json_t *to)
{
	const char *type = json_string_value(json_object_get(thinking, "type"));
	bool on = type && !strcmp(type, "enabled");

	if (!on && (!type || strcmp(type, "disabled")))
		return ds_openai_refuse(call, "thinking", "type must be enabled or disabled");
	return json_object_set_new(to, "thinking", json_boolean(on));
}

/* Whatever else a template might take, of these two it is known what they mean. */
static int take_template_kwargs(struct ds_call *call, const json_t *kwargs, json_t *to)
{
	static const char *const names[] = {"thinking", "enable_thinking"};

	if (!json_is_object(kwargs))
		return ds_openai_refuse(call, "chat_template_kwargs", "must be an object");
	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++) {
		json_t *value = json_object_get(kwargs, names[i]);

		if (is_given(value) && !json_is_boolean(value))
			return ds_openai_refuse(call, "chat_template_kwargs", "%s must be true or false", names[i]);
		if (is_given(value))
			return json_object_set(to, "thinking", value);
	}
	return 0;
}

/* No model served here has degrees of effort: any but none is the wish to reason. The names are those of all providers. */
static int take_effort(struct ds_call *call, const json_t *effort, json_t *to)
{
	static const char *const names[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"};
	const char *name = json_string_value(effort);
	size_t i = 0;

	while (i < DS_ARRAY_SIZE(names) && (!name || strcmp(name, names[i])))
		i++;
	if (i == DS_ARRAY_SIZE(names))
		return ds_openai_refuse(call, "reasoning_effort",
					"must be none, minimal, low, medium, high, xhigh, max or ultra");
	return json_object_set_new(to, "thinking", json_boolean(i > 0));
}

/* Whether the model is to reason, in the three ways of saying it; a later row outweighs those before it. */
static int take_thinking(struct ds_call *call, json_t *to)
{
	static const struct {
		const char *name;
		int (*take)(struct ds_call *call, const json_t *value, json_t *to);
	} ways[] = {
		{"reasoning_effort", take_effort},
		{"chat_template_kwargs", take_template_kwargs},
		{"thinking", take_thinking_type},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(ways); i++) {
		const json_t *value = json_object_get(call->body, ways[i].name);

		if (is_given(value) && ways[i].take(call, value, to) < 0)
			return -EINVAL;
	}
	return 0;
}

static int take_logprobs(struct ds_call *call, struct ds_answer *a, json_t *to)
{
	const json_t *wanted = json_object_get(call->body, "logprobs"),
		     *top = json_object_get(call->body, "top_logprobs");

	if (is_given(wanted) && !json_is_boolean(wanted))
		return ds_openai_refuse(call, "logprobs", "must be true or false");
	if (is_given(top) && (!json_is_integer(top) || json_integer_value(top) < 0 || json_integer_value(top) > 20))
		return ds_openai_refuse(call, "top_logprobs", "must be a whole number from 0 to 20");
	if (is_given(top) && json_integer_value(top) > 0 && !json_is_true(wanted))
		return ds_openai_refuse(call, "top_logprobs", "needs logprobs: true");
	a->logprobs = json_is_true(wanted);
	if (a->logprobs)
		json_object_set_new(to, "logprobs", json_integer(json_integer_value(top)));
	return 0;
}

/* The answer */

static json_t *bytes_of(const json_t *token)
{
	const char *text = json_string_value(token);
	json_t *bytes = json_array();

	for (size_t i = 0; i < json_string_length(token); i++)
		json_array_append_new(bytes, json_integer((unsigned char)text[i]));
	return bytes;
}

static json_t *logprob_item(const json_t *item)
{
	json_t *token = json_object_get(item, "token"), *logprob = json_object_get(item, "logprob");

	return json_pack("{s:O, s:O, s:o}", "token", token, "logprob", logprob, "bytes", bytes_of(token));
}

/* [{"token", "logprob", "bytes", "top_logprobs"}...] from the engine's list, which is consumed; JSON null stays. */
static json_t *logprob_list(json_t *from)
{
	const json_t *item, *other;
	json_t *list = json_array(), *json, *top;
	size_t i, j;

	json_array_foreach (from, i, item) {
		json = logprob_item(item);
		top = json_array();
		json_array_foreach (json_object_get(item, "top"), j, other)
			json_array_append_new(top, logprob_item(other));
		json_object_set_new(json, "top_logprobs", top);
		json_array_append_new(list, json);
	}
	if (json_is_array(from)) {
		json_decref(from);
		return list;
	}
	json_decref(list);
	return from;
}

static json_t *with_logprobs(json_t *choice, const char *key, json_t *logprobs)
{
	json_t *list = logprob_list(logprobs);

	json_object_set_new(choice, "logprobs", json_is_null(list) ? list : json_pack("{s:o}", key, list));
	return choice;
}

static json_t *choice_of(json_t *delta)
{
	return delta ? json_pack("{s:i, s:o, s:n, s:n}", "index", 0, "delta", delta, "logprobs", "finish_reason")
		     : NULL;
}

static json_t *first(struct ds_answer *a)
{
	return choice_of(json_pack("{s:s, s:s}", "role", "assistant", "content", ""));
}

static json_t *tool_delta(struct ds_answer *a, const struct ds_request_event *event)
{
	const char *text = (const char *)event->data;
	int size = (int)event->size;
	char id[64];

	if (event->type == DS_EVENT_TOOL_NAME) {
		snprintf(id, sizeof(id), "call_%s_%zu", strchr(a->id, '-') + 1, a->n_tool_calls);
		return json_pack("{s:[{s:i, s:s, s:s, s:{s:s#, s:s}}]}", "tool_calls", "index", (int)a->n_tool_calls++,
				 "id", id, "type", "function", "function", "name", text, size, "arguments", "");
	}
	if (a->n_tool_calls == 0)
		return NULL;
	return json_pack("{s:[{s:i, s:{s:s#}}]}", "tool_calls", "index", (int)a->n_tool_calls - 1, "function",
			 "arguments", text, size);
}

static json_t *delta(struct ds_answer *a, const struct ds_request_event *event)
{
	const char *text = (const char *)event->data;
	bool reasoning = event->type == DS_EVENT_REASONING;
	json_t *json;

	if (event->type == DS_EVENT_TOOL_NAME || event->type == DS_EVENT_TOOL_ARGUMENTS)
		json = tool_delta(a, event);
	else
		json = json_pack("{s:s#}", reasoning ? "reasoning_content" : "content", text, (int)event->size);
	json = choice_of(json);
	if (json && a->token_logprobs)
		with_logprobs(json, reasoning ? "reasoning_content" : "content", ds_answer_take_logprobs(a));
	return json;
}

static json_t *last(struct ds_answer *a, const char *finish)
{
	json_t *json = choice_of(json_object());

	json_object_set_new(json, "finish_reason", json_string(finish));
	return a->token_logprobs ? with_logprobs(json, "content", ds_answer_take_logprobs(a)) : json;
}

static void gather(struct ds_answer *a, json_t **to, json_t *from)
{
	json_t *list = logprob_list(from);

	if (!*to)
		*to = json_array();
	json_array_extend(*to, list);
	json_decref(list);
}

static json_t *whole_logprobs(struct ds_answer *a)
{
	json_t *json = json_pack("{s:o}", "content", ds_answer_take_logprobs(a));

	if (a->reasoning_logprobs)
		json_object_set_new(json, "reasoning_content", ds_steal(&a->reasoning_logprobs));
	return json;
}

static json_t *whole(struct ds_answer *a, const char *finish)
{
	json_t *content = ds_answer_text(a->content), *reasoning = ds_answer_text(a->reasoning), *message;

	if (!content || !reasoning) {
		json_decref(content);
		json_decref(reasoning);
		return NULL;
	}
	if (a->tool_calls && json_string_length(content) == 0) {
		json_decref(content);
		content = json_null();
	}
	ds_answer_end_tool(a);
	message = json_pack("{s:s, s:o}", "role", "assistant", "content", content);
	if (json_string_length(reasoning) > 0)
		json_object_set(message, "reasoning_content", reasoning);
	json_decref(reasoning);
	if (a->tool_calls)
		json_object_set(message, "tool_calls", a->tool_calls);
	return json_pack("{s:i, s:o, s:o, s:s}", "index", 0, "message", message, "logprobs",
			 a->logprobs ? whole_logprobs(a) : json_null(), "finish_reason", finish);
}

static const struct ds_openai_wire wire = {
	.id_prefix = "chatcmpl",
	.object = "chat.completion",
	.gather = gather,
	.first = first,
	.delta = delta,
	.last = last,
	.whole = whole,
};

void ds_openai_chat(struct ds_call *call)
{
	struct ds_model *model = ds_openai_model(call);
	struct ds_answer *a;
	json_t *generate;

	if (!model)
		return;
	a = ds_answer_new(call, &wire);
	if (!a) {
		ds_reply_abort(call);
		return;
	}
	generate = json_object();
	if (take_messages(call, generate) < 0 || take_tools(call, generate) < 0 ||
	    take_thinking(call, generate) < 0 || take_logprobs(call, a, generate) < 0 || ds_openai_take_common(call, a, generate) < 0) {
		json_decref(generate);
		ds_answer_free(a);
		return;
	}
	ds_openai_run(call, a, model, generate);
}

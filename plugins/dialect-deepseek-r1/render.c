/* render.c - a conversation becomes the prompt that R1 was trained on.
 *
 *   BOS system texts, tools | USER text | ASSISTANT text EOS | ... | USER text ASSISTANT <think> \n
 *
 * System messages are gathered at the front, wherever they stand. Old reasoning is not repeated to the model. After
 * tool results the model goes on without another ASSISTANT, both here and in what it was trained on.
 * Only the marks themselves are written as markup; all else, the program's own words included, is text, so that no
 * message can forge a mark and that neighbouring texts are tokenized as one. */
#include "dialect-r1.h"

static void text(const struct ds_prompt_writer *prompt, const char *text)
{
	if (*text)
		prompt->text(prompt->self, text, strlen(text));
}

static void markup(const struct ds_prompt_writer *prompt, const char *mark)
{
	prompt->markup(prompt->self, mark);
}

/* The nearest message before @i that is not a system message; NULL: there is none. */
static const struct ds_turn *previous(const struct ds_conversation *conversation, size_t i)
{
	while (i-- > 0)
		if (conversation->messages[i].role != DS_ROLE_SYSTEM)
			return &conversation->messages[i];
	return NULL;
}

static const struct ds_turn *next(const struct ds_conversation *conversation, size_t i)
{
	while (++i < conversation->n_messages)
		if (conversation->messages[i].role != DS_ROLE_SYSTEM)
			return &conversation->messages[i];
	return NULL;
}

static bool has_role(const struct ds_turn *message, enum ds_role role)
{
	return message && message->role == role;
}

static int check(const struct ds_conversation *conversation, struct ds_error *err)
{
	size_t n = conversation->n_messages;

	if (n == 0)
		return ds_fail(err, -EINVAL, "messages: there are none");
	for (size_t i = 0; i < n; i++) {
		const struct ds_turn *before;

		if (conversation->messages[i].role != DS_ROLE_TOOL)
			continue;
		before = previous(conversation, i);
		if (has_role(before, DS_ROLE_TOOL))
			continue;
		if (!has_role(before, DS_ROLE_ASSISTANT) || before->n_tool_calls == 0)
			return ds_fail(err, -EINVAL, "messages[%zu]: a tool's result without a tool call before it", i);
	}
	if (conversation->messages[n - 1].role == DS_ROLE_SYSTEM)
		return ds_fail(err, -EINVAL,
			       "messages[%zu]: the last message must be a user's or a tool's, not a system message",
			       n - 1);
	if (conversation->messages[n - 1].role == DS_ROLE_ASSISTANT)
		return ds_fail(err, -ENOTSUP,
			       "messages[%zu]: the last message must be a user's or a tool's; an answer that was begun "
			       "cannot be continued",
			       n - 1);
	return 0;
}

static void render_system(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt)
{
	bool is_first = true, is_empty = true;

	for (size_t i = 0; i < conversation->n_messages; i++) {
		const struct ds_turn *message = &conversation->messages[i];

		if (message->role != DS_ROLE_SYSTEM)
			continue;
		if (!is_first)
			text(prompt, "\n\n");
		text(prompt, message->content);
		is_empty = is_empty && is_first && !*message->content;
		is_first = false;
	}
	if (conversation->n_tools == 0)
		return;
	text(prompt, is_empty ? "" : "\n\n");
	text(prompt, "## Tools\nYou have access to the following tools:\n");
	for (size_t i = 0; i < conversation->n_tools; i++) {
		text(prompt, "\n### ");
		text(prompt, conversation->tools[i].name);
		text(prompt, "\nDescription: ");
		text(prompt, conversation->tools[i].description);
		text(prompt, "\n\nParameters: ");
		text(prompt, conversation->tools[i].parameters);
		text(prompt, "\n");
	}
}

/* What follows the last </think>: clients may send back an answer with its reasoning in it. */
static const char *without_reasoning(const char *content)
{
	for (const char *end; (end = strstr(content, THINK_END));)
		content = end + strlen(THINK_END);
	return content;
}

static void render_assistant(const struct ds_turn *message, bool after_tool, const struct ds_prompt_writer *prompt)
{
	if (!after_tool)
		markup(prompt, ASSISTANT);
	text(prompt, without_reasoning(message->content));
	if (message->n_tool_calls > 0)
		markup(prompt, CALLS_BEGIN);
	for (size_t i = 0; i < message->n_tool_calls; i++) {
		text(prompt, i == 0 ? "" : "\n");
		markup(prompt, CALL_BEGIN);
		text(prompt, "function");
		markup(prompt, SEP);
		text(prompt, message->tool_calls[i].name);
		text(prompt, "\n```json\n");
		text(prompt, message->tool_calls[i].arguments);
		text(prompt, "\n```");
		markup(prompt, CALL_END);
	}
	if (message->n_tool_calls > 0)
		markup(prompt, CALLS_END);
	markup(prompt, EOS);
}

static void render_result(const struct ds_turn *message, bool is_first, bool is_last,
			  const struct ds_prompt_writer *prompt)
{
	if (is_first)
		markup(prompt, OUTPUTS_BEGIN);
	markup(prompt, OUTPUT_BEGIN);
	text(prompt, message->content);
	markup(prompt, OUTPUT_END);
	if (is_last)
		markup(prompt, OUTPUTS_END);
}

int ds_r1_render(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt, bool *thinking,
		 struct ds_error *err)
{
	int r = check(conversation, err);

	if (r < 0)
		return r;
	markup(prompt, BOS);
	render_system(conversation, prompt);
	for (size_t i = 0; i < conversation->n_messages; i++) {
		const struct ds_turn *message = &conversation->messages[i];
		bool after_tool, before_tool;

		if (message->role == DS_ROLE_SYSTEM) /* and looks for no neighbours, which may be far */
			continue;
		after_tool = has_role(previous(conversation, i), DS_ROLE_TOOL);
		before_tool = has_role(next(conversation, i), DS_ROLE_TOOL);
		switch (message->role) {
		case DS_ROLE_SYSTEM:
			break;
		case DS_ROLE_USER:
			markup(prompt, USER);
			text(prompt, message->content);
			break;
		case DS_ROLE_ASSISTANT:
			render_assistant(message, after_tool, prompt);
			break;
		case DS_ROLE_TOOL:
			render_result(message, !after_tool, !before_tool, prompt);
			break;
		}
	}
	*thinking = conversation->messages[conversation->n_messages - 1].role == DS_ROLE_USER;
	if (*thinking) {
		markup(prompt, ASSISTANT);
		markup(prompt, THINK);
		text(prompt, "\n");
	}
	return 0;
}

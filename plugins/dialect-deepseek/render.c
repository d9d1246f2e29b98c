/* render.c - a conversation becomes the prompt that a model was trained on.
 *
 *   BOS system texts, tools | USER text | ASSISTANT text EOS | ... | USER text ASSISTANT, and what opens the answer
 *
 * System messages are gathered at the front, wherever they stand, but in V2, whose turns are words and empty lines. Old
 * reasoning is not repeated to the model. After tool results the model goes on without another ASSISTANT, both here and
 * in what it was trained on.
 * Only the marks themselves are written as markup; all else, the program's own words included, is text, so that no
 * message can forge a mark and that neighbouring texts are tokenized as one. */
#include "dialect-deepseek.h"

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

/* Where nothing keeps the model from reasoning, nobody is told that it does not. */
static int check_thinking(const struct ds_style *style, const struct ds_conversation *conversation,
			  struct ds_error *err)
{
	if (conversation->thinking == DS_THINKING_OFF && style->reasons && style->opening != DS_OPENING_CHOICE)
		return ds_fail(err, -ENOTSUP, "thinking: the model always reasons before it answers");
	return 0;
}

/* V2 was not trained to call tools, and nothing in its format could say that it did. */
static int check_words(const struct ds_conversation *conversation, struct ds_error *err)
{
	if (conversation->n_tools > 0)
		return ds_fail(err, -ENOTSUP, "tools: the model was not trained to call any");
	for (size_t i = 0; i < conversation->n_messages; i++)
		if (conversation->messages[i].role == DS_ROLE_TOOL || conversation->messages[i].n_tool_calls > 0)
			return ds_fail(err, -ENOTSUP, "messages[%zu]: the model was not trained to call tools", i);
	return 0;
}

static void render_words(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt)
{
	for (size_t i = 0; i < conversation->n_messages; i++) {
		const struct ds_turn *message = &conversation->messages[i];

		if (message->role == DS_ROLE_USER)
			text(prompt, "User: ");
		if (message->role == DS_ROLE_ASSISTANT)
			text(prompt, "Assistant: ");
		text(prompt, message->content);
		if (message->role == DS_ROLE_ASSISTANT)
			markup(prompt, EOS);
		else
			text(prompt, "\n\n");
	}
	text(prompt, "Assistant:");
}

/* Returns whether anything was written. */
static bool render_system(const struct ds_style *style, const struct ds_conversation *conversation,
			  const struct ds_prompt_writer *prompt)
{
	const struct ds_turn *last = NULL;
	bool is_empty = true;

	for (size_t i = 0; i < conversation->n_messages; i++) {
		const struct ds_turn *message = &conversation->messages[i];

		if (message->role != DS_ROLE_SYSTEM)
			continue;
		if (!style->last_system) {
			text(prompt, last ? "\n\n" : "");
			text(prompt, message->content);
			is_empty = is_empty && !last && !*message->content;
		}
		last = message;
	}
	if (!style->last_system || !last)
		return !is_empty;
	text(prompt, last->content);
	return *last->content;
}

/* Templates ignore tools but for V3.1, whose model card has a text; the others are given the same list without it. */
static void render_tools(const struct ds_style *style, const struct ds_conversation *conversation, bool after_text,
			 const struct ds_prompt_writer *prompt)
{
	if (conversation->n_tools == 0)
		return;
	text(prompt, after_text || style->bare_calls ? "\n\n" : "");
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
	if (style->bare_calls)
		markup(prompt, ds_deepseek_v31_calls);
}

/* Clients may send back an answer with its reasoning in it. */
static const char *without_reasoning(const struct ds_style *style, const struct ds_turn *message, bool after_tool)
{
	const char *content = message->content, *end;

	if (style->old_answers == DS_OLD_AFTER_LAST_THINK)
		while ((end = strstr(content, THINK_END)))
			content = end + strlen(THINK_END);
	if (style->old_answers == DS_OLD_CLOSED && !after_tool && message->n_tool_calls == 0 &&
	    (end = strstr(content, THINK_END)))
		content = end + strlen(THINK_END);
	return content;
}

static void render_call(const struct ds_style *style, const struct ds_tool_call *call, bool is_first,
			const struct ds_prompt_writer *prompt)
{
	if (!style->bare_calls && !is_first)
		text(prompt, "\n");
	markup(prompt, CALL_BEGIN);
	if (style->bare_calls) {
		text(prompt, call->name);
		markup(prompt, SEP);
		text(prompt, call->arguments);
	} else {
		text(prompt, "function");
		markup(prompt, SEP);
		text(prompt, call->name);
		text(prompt, "\n```json\n");
		text(prompt, call->arguments);
		text(prompt, "\n```");
	}
	markup(prompt, CALL_END);
}

static void render_assistant(const struct ds_style *style, const struct ds_turn *message, const struct ds_turn *before,
			     const struct ds_prompt_writer *prompt)
{
	bool after_tool = has_role(before, DS_ROLE_TOOL);

	if (style->old_answers == DS_OLD_CLOSED) {
		if (has_role(before, DS_ROLE_USER)) {
			markup(prompt, ASSISTANT);
			markup(prompt, THINK_END);
		}
	} else if (!after_tool && !style->eager) {
		markup(prompt, ASSISTANT);
	}
	text(prompt, without_reasoning(style, message, after_tool));
	if (message->n_tool_calls > 0) {
		markup(prompt, CALLS_BEGIN);
		for (size_t i = 0; i < message->n_tool_calls; i++)
			render_call(style, &message->tool_calls[i], i == 0, prompt);
		markup(prompt, CALLS_END);
	}
	markup(prompt, EOS);
}

static void render_result(const struct ds_style *style, const struct ds_turn *message, bool is_first, bool is_last,
			  const struct ds_prompt_writer *prompt)
{
	if (is_first && !style->bare_calls)
		markup(prompt, OUTPUTS_BEGIN);
	if (!is_first && style->results_apart)
		text(prompt, "\n");
	markup(prompt, OUTPUT_BEGIN);
	text(prompt, message->content);
	markup(prompt, OUTPUT_END);
	if (is_last && !style->bare_calls)
		markup(prompt, OUTPUTS_END);
}

/* Where the model goes on after a user's message. Returns whether it goes on inside reasoning. */
static bool render_opening(const struct ds_style *style, const struct ds_conversation *conversation,
			   const struct ds_prompt_writer *prompt)
{
	bool thinks = style->opening == DS_OPENING_THINK ||
		      (style->opening == DS_OPENING_CHOICE && conversation->thinking == DS_THINKING_ON);

	if (!style->eager)
		markup(prompt, ASSISTANT);
	if (thinks)
		markup(prompt, THINK);
	else if (style->opening == DS_OPENING_CHOICE)
		markup(prompt, THINK_END);
	if (style->opening == DS_OPENING_THINK)
		text(prompt, "\n");
	return thinks;
}

static void render_turns(const struct ds_style *style, const struct ds_conversation *conversation,
			 const struct ds_prompt_writer *prompt)
{
	for (size_t i = 0; i < conversation->n_messages; i++) {
		const struct ds_turn *message = &conversation->messages[i], *before;

		if (message->role == DS_ROLE_SYSTEM) /* and looks for no neighbours, which may be far */
			continue;
		before = previous(conversation, i);
		if (message->role == DS_ROLE_USER) {
			markup(prompt, USER);
			text(prompt, message->content);
			if (style->eager)
				markup(prompt, ASSISTANT);
		} else if (message->role == DS_ROLE_ASSISTANT) {
			render_assistant(style, message, before, prompt);
		} else {
			render_result(style, message, !has_role(before, DS_ROLE_TOOL),
				      !has_role(next(conversation, i), DS_ROLE_TOOL), prompt);
		}
	}
}

int ds_deepseek_render(const struct ds_style *style, const struct ds_conversation *conversation,
		       const struct ds_prompt_writer *prompt, bool *thinking, struct ds_error *err)
{
	int r = style->words ? check_words(conversation, err) : 0;
	bool after_text;

	if (r == 0)
		r = check(conversation, err);
	if (r == 0)
		r = check_thinking(style, conversation, err);
	if (r < 0)
		return r;
	*thinking = false;
	markup(prompt, BOS);
	if (style->words) {
		render_words(conversation, prompt);
		return 0;
	}
	after_text = render_system(style, conversation, prompt);
	render_tools(style, conversation, after_text, prompt);
	render_turns(style, conversation, prompt);
	if (conversation->messages[conversation->n_messages - 1].role == DS_ROLE_USER)
		*thinking = render_opening(style, conversation, prompt);
	return 0;
}

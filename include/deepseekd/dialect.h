/* dialect.h - how a model family writes a conversation: the prompt going in, reasoning, answer and tool calls coming out.
 *
 * Vectors: input {"messages": [...], "tools": [...], "thinking": bool, absent: default} (messages and tools in OpenAI's
 * shape) gives {"prompt": "...", "thinking": bool}; input {"thinking": bool, "output": [text or {"special": text}...]}
 * gives {"reasoning": "...", "content": "...", "tool_calls": [{"name", "arguments"}...]}; input {"chat_template": "...",
 * "added_tokens": [...]} gives {"recognized": bool}. */
#pragma once

#include "plugin.h"

enum ds_role {
	DS_ROLE_SYSTEM,
	DS_ROLE_USER,
	DS_ROLE_ASSISTANT,
	DS_ROLE_TOOL,
};

struct ds_tool_call {
	const char *id;
	const char *name;
	const char *arguments; /* JSON text, as the model wrote it */
};

/* All strings are NUL-terminated UTF-8 and borrowed. */
struct ds_turn {
	enum ds_role role;
	const char *content;   /* never NULL */
	const char *reasoning; /* NULL: none */
	const struct ds_tool_call *tool_calls; /* [n_tool_calls], assistant only */
	size_t n_tool_calls;
	const char *tool_call_id; /* tool only; NULL otherwise */
};

struct ds_tool {
	const char *name;
	const char *description; /* never NULL */
	const char *parameters;	 /* JSON schema, separators ", " and ": ", keys in the sender's order */
};

/* Whether the model is to reason before it answers. */
enum ds_thinking {
	DS_THINKING_DEFAULT, /* nobody said: what the model's makers chose */
	DS_THINKING_ON,	     /* if it can */
	DS_THINKING_OFF,     /* -ENOTSUP from a dialect whose models always do */
};

struct ds_conversation {
	const struct ds_turn *messages; /* [n_messages] */
	size_t n_messages;
	const struct ds_tool *tools; /* [n_tools] */
	size_t n_tools;
	enum ds_thinking thinking;
};

/* Where the prompt is written. Markup becomes special tokens; text from a message never does. Neighbouring texts are one
 * text: they are tokenized together, as if they had been written in one call. */
struct ds_prompt_writer {
	size_t size;
	void *self;
	void (*markup)(void *self, const char *text);
	void (*text)(void *self, const char *text, size_t text_size);
};

enum ds_output {
	DS_OUTPUT_REASONING,
	DS_OUTPUT_CONTENT,
	DS_OUTPUT_TOOL_NAME,	  /* a new tool call begins; the text is its whole name */
	DS_OUTPUT_TOOL_ARGUMENTS, /* more JSON text of the call begun last */
};

/* Where the parsed output goes. Text arrives in pieces; a piece never cuts a UTF-8 character. */
struct ds_output_writer {
	size_t size;
	void *self;
	void (*write)(void *self, enum ds_output kind, const char *text, size_t text_size);
};

/* What a checkpoint says of how it was taught to converse. */
struct ds_habits {
	size_t size;
	const char *chat_template;	 /* text of its template; "": it has none */
	const char *const *added_tokens; /* texts of the vocabulary's added and special tokens, NULL-terminated */
};

struct ds_dialect_ops {
	size_t size;
	/* Write the prompt, bos included, up to where the model goes on. *@thinking: the output begins inside reasoning. */
	int (*render)(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt, bool *thinking,
		      struct ds_error *err);
	/* A parser of one answer. */
	int (*open)(void **self, const struct ds_host *host, bool thinking, struct ds_error *err);
	/* The next characters of the output. @special: they are the text of one special token, not words. */
	void (*feed)(void *self, const char *text, size_t text_size, bool special, const struct ds_output_writer *writer);
	/* The output has ended: hand over what was held back (an unfinished marker is text). */
	void (*finish)(void *self, const struct ds_output_writer *writer);
	void (*close)(void *self);
	/* Texts of tokens that end the answer besides the vocabulary's eos, NULL-terminated. Optional. */
	const char *const *stops;
	/* Was a checkpoint of these habits surely taught this dialect? Of the entries that say so the first is taken, in the
	 * order of the configuration and of the plugin's entries. Optional: without it the dialect is spoken if it is named. */
	bool (*recognizes)(const struct ds_habits *habits);
};

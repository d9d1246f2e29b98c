/* chat.h - messages and tools in OpenAI's JSON shape, as a dialect wants them (struct ds_conversation). */
#pragma once

#include <deepseekd/dialect.h>
#include <jansson.h>

struct ds_chat;

/* Read @messages (an array), @tools (an array, or NULL: none) and @thinking (true or false, or NULL: default). The chat
 * borrows the texts: they have to outlive it.
 * -EINVAL: the sentence begins with the path of what is wrong, "messages[2].content: ...". */
int ds_chat_new(struct ds_chat **out, const json_t *messages, const json_t *tools, const json_t *thinking,
		struct ds_error *err);
struct ds_chat *ds_chat_free(struct ds_chat *chat); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_chat)

const struct ds_conversation *ds_chat_conversation(const struct ds_chat *chat);

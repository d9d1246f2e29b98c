/* render.c - see render.h. */
#include "render.h"

#include "chat.h"

#include <string.h>

static void release(json_t **json)
{
	json_decref(*json);
}

static void write_markup(void *self, const char *text)
{
	fputs(text, self);
}

static void write_text(void *self, const char *text, size_t size)
{
	fwrite(text, 1, size, self);
}

/* The prompt as text, from malloc. */
static int write_prompt(const struct ds_dialect_ops *ops, const struct ds_conversation *conversation, char **out,
			size_t *size, bool *thinking, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = NULL;
	FILE *stream = open_memstream(&text, size);
	struct ds_prompt_writer writer = {sizeof(writer), stream, write_markup, write_text};
	int r;

	if (!stream)
		return ds_fail(err, -ENOMEM, "no memory for the prompt");
	r = ops->render(conversation, &writer, thinking, err);
	if (fclose(stream) != 0 && r == 0)
		r = ds_fail(err, -ENOMEM, "no memory for the prompt");
	if (r == 0)
		*out = ds_steal(&text);
	return r;
}

int ds_render(const struct ds_dialect_ops *ops, const json_t *request, json_t **answer, struct ds_error *err)
{
	ds_cleanup(ds_chat_freep) struct ds_chat *chat = NULL;
	ds_cleanup(release) json_t *text = NULL;
	ds_cleanup(ds_freep) char *prompt = NULL;
	bool thinking = false;
	size_t size = 0;
	int r = ds_chat_new(&chat, json_object_get(request, "messages"), json_object_get(request, "tools"),
			    json_object_get(request, "thinking"), err);

	if (r == 0)
		r = write_prompt(ops, ds_chat_conversation(chat), &prompt, &size, &thinking, err);
	if (r < 0)
		return r;
	text = json_stringn(prompt, size);
	if (!text)
		return ds_fail(err, -EINVAL, "messages: the prompt is not UTF-8");
	*answer = json_pack("{s:O, s:b}", "prompt", text, "thinking", thinking);
	return *answer ? 0 : ds_fail(err, -ENOMEM, "no memory for the prompt");
}

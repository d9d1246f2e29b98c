/* verb-render.c - dsctl render: the prompt that a conversation becomes, by the files of a path or by a registered
 * model.
 *
 * The conversation comes on the standard input as in a request to /v1/chat/completions: an array of messages, or an
 * object with "messages", "tools" and "thinking". The prompt is written as it is, without a line end of its own. */
#include "message.h"
#include "model.h"
#include "output.h"

#include <string.h>

struct options {
	const char *dialect;
};

static int read_conversation(json_t **out, struct ds_error *err)
{
	json_error_t where;
	json_t *json = json_loadf(stdin, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);

	if (!json)
		return ds_fail(err, -EINVAL, "the input is not JSON: %s (line %d)", where.text, where.line);
	*out = json_is_array(json) ? json_pack("{s:o}", "messages", json) : json;
	return *out ? 0 : ds_fail(err, -ENOMEM, "no memory for the conversation");
}

static int render(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *request = NULL, *answer = NULL;
	const struct options *o = options;
	const json_t *prompt;
	int r = read_conversation(&request, err);

	if (r < 0)
		return r;
	if (o->dialect)
		json_object_set_new(request, "dialect", json_string(o->dialect));
	if (json_object_get(request, "dialect") && !ds_model_is_path(args[0]))
		return ds_fail(err, -EINVAL, "%s: a registered model has its dialect, only of a path it can be named",
			       args[0]);
	r = ds_model_ask(client, args[0], DS_MSG_RENDER, "render", request, &answer, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(answer, false, err);
	prompt = json_object_get(answer, "prompt");
	if (!json_is_string(prompt))
		return ds_fail(err, -EPROTO, "the answer has no prompt");
	ds_output_text(stdout, json_string_value(prompt), json_string_length(prompt));
	return fflush(stdout) == 0 ? 0 : ds_fail(err, -EIO, "cannot write to the standard output");
}

static const struct ds_flag flags[] = {
	{"dialect", 'd', DS_FLAG_TEXT, offsetof(struct options, dialect), "DIALECT",
	 "write it in this dialect, not in the one that the chat template shows"},
	{0},
};

const struct ds_verb ds_verb_render = {
	.name = "render",
	.usage = "PATH|NAME",
	.help = "Print the prompt that the conversation on the standard input becomes",
	.flags = flags,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 1,
	.run = render,
};

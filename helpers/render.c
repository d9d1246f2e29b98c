/* render.c - RENDER: a conversation to the text of its prompt, in the dialect that the files' chat template shows, or
 * in the one named "dialect"; else as lib/render.h says. The answer also has "dialect". Files that hold nothing but a
 * vocabulary and a template are enough. */
#include "builder.h"
#include "describe.h"
#include "render.h"
#include "requests.h"

#include <string.h>

/* The entry that the files are recognized as. */
static int recognize(const struct ds_request *request, const char **name, struct ds_error *err)
{
	ds_cleanup(ds_model_builder_freep) struct ds_model_builder *builder = NULL;
	struct ds_builder calls;
	struct ds_habits habits;
	int r = ds_model_builder_new(&builder, request->files, request->n_files, err);

	if (r < 0)
		return r;
	calls = *ds_model_builder_calls(builder);
	calls.hparams = NULL; /* only the vocabulary and what is said of text */
	calls.tensor = NULL;
	calls.part = NULL;
	r = ds_describe(request->plugins, request->files, request->n_files, &calls, err);
	if (r < 0)
		return r;
	habits = ds_model_builder_habits(builder);
	*name = ds_recognize_dialect(request->plugins, &habits);
	if (**name)
		return 0;
	return ds_fail(err, -ENOTSUP, "%s; a dialect can be named",
		       *habits.chat_template ? "no dialect recognizes the chat template"
					     : "the model has no chat template");
}

int ds_request_render(const struct ds_request *request, json_t **answer, struct ds_error *err)
{
	const json_t *wish = json_object_get(request->json, "dialect");
	const char *name = json_string_value(wish);
	const struct ds_dialect_ops *dialect;
	int r = 0;

	if (wish && !name)
		return ds_fail(err, -EINVAL, "dialect: not a name");
	if (!wish)
		r = recognize(request, &name, err);
	if (r < 0)
		return r;
	dialect = ds_plugins_find(request->plugins, DS_PLUGIN_DIALECT, name, NULL, err);
	if (!dialect)
		return -ENOENT;
	r = ds_render(dialect, request->json, answer, err);
	if (r == 0)
		json_object_set_new(*answer, "dialect", json_string(name));
	return r;
}

/* verb-ls.c - dsctl ls: the registered models, as any user may see them. */
#include "output.h"
#include "verb.h"

/* The strings of @list with commas between them; the caller frees it. */
static char *joined(const json_t *list)
{
	const json_t *item;
	char *text = NULL;
	size_t size, i;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	json_array_foreach (list, i, item)
		fprintf(f, "%s%s", i ? ", " : "", json_string_value(item) ? json_string_value(item) : "");
	fclose(f);
	return text;
}

static int ls(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	static const char *const heads[] = {"MODEL", "STATE", "CONTEXT", "ALIASES"};
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = DS_ARRAY_SIZE(heads)};
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	const json_t *model;
	size_t i;
	int r;

	r = ds_http_call(client->http, "GET", "/v1/models", NULL, &answer, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(answer, false, err);
	for (i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(&t, "%s", heads[i]);
	json_array_foreach (json_object_get(answer, "data"), i, model) {
		const char *id = json_string_value(json_object_get(model, "id"));
		const char *state = json_string_value(json_object_get(model, "state"));
		json_int_t context = json_integer_value(json_object_get(model, "context"));
		ds_cleanup(ds_freep) char *aliases = joined(json_object_get(model, "aliases"));

		ds_table_add(&t, "%s", id ? id : "");
		ds_table_add(&t, "%s", state ? state : "");
		/* Unknown until the model is read, unless the configuration says it. */
		if (context > 0)
			ds_table_add(&t, "%" JSON_INTEGER_FORMAT, context);
		else
			ds_table_add(&t, "%s", "");
		ds_table_add(&t, "%s", aliases ? aliases : "");
	}
	return ds_table_print(&t, client->legend, err);
}

const struct ds_verb ds_verb_ls = {
	.name = "ls",
	.usage = "",
	.help = "List the registered models",
	.run = ls,
};

/* model.c - see model.h. */
#include "model.h"

#include <string.h>

bool ds_model_is_path(const char *word)
{
	return strchr(word, '/') || access(word, F_OK) == 0;
}

bool ds_model_is_called(const json_t *model, const char *word)
{
	const char *own = json_string_value(json_object_get(model, "name"));
	const json_t *alias;
	size_t i;

	if (own && strcmp(own, word) == 0)
		return true;
	json_array_foreach (json_object_get(model, "aliases"), i, alias)
		if (json_string_value(alias) && strcmp(json_string_value(alias), word) == 0)
			return true;
	return false;
}

int ds_model_ask(struct ds_client *client, const char *word, uint16_t request, const char *action, const json_t *json,
		 json_t **answer, struct ds_error *err)
{
	const struct ds_loader_call call = {.path = word, .request = request, .json = json};
	ds_cleanup(ds_freep) char *route = NULL;

	if (ds_model_is_path(word))
		return ds_loader_run(&call, answer, err);
	route = ds_http_user_path(word, action);
	if (!route)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	return ds_http_call(client->http, "POST", route, json, answer, err);
}

json_t *ds_model_name_of(const char *path)
{
	size_t size = strlen(path), start;

	while (size > 1 && path[size - 1] == '/')
		size--;
	for (start = size; start > 0 && path[start - 1] != '/'; start--)
		;
	if (size - start > 5 && memcmp(path + size - 5, ".gguf", 5) == 0)
		size -= 5;
	return json_stringn(path + start, size - start);
}

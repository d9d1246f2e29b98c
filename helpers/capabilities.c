/* capabilities.c - the dialects' own answers to three questions, rather than a list that somebody has to keep right. */
#include "capabilities.h"

#include <plugins.h>
#include <render.h>

/* What a short conversation becomes, with what @wish has besides; JSON null if the dialect refuses it. */
static json_t *try(const struct ds_dialect_ops *dialect, json_t *wish)
{
	json_t *request = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "x"), *answer = NULL;
	struct ds_error err;

	if (request && wish)
		json_object_update(request, wish);
	if (!request || ds_render(dialect, request, &answer, &err) < 0)
		answer = json_null();
	json_decref(request);
	json_decref(wish);
	return answer;
}

static bool can_reason(const struct ds_dialect_ops *dialect)
{
	ds_cleanup(json_decrefp) json_t *on = try(dialect, json_pack("{s:b}", "thinking", 1));
	ds_cleanup(json_decrefp) json_t *off = try(dialect, json_pack("{s:b}", "thinking", 0));

	return json_is_true(json_object_get(on, "thinking")) || !json_equal(on, off);
}

static bool takes_tools(const struct ds_dialect_ops *dialect)
{
	ds_cleanup(json_decrefp) json_t *without = try(dialect, NULL);
	ds_cleanup(json_decrefp) json_t *with =
		try(dialect, json_pack("{s:[{s:s, s:{s:s, s:s, s:{s:s}}}]}", "tools", "type", "function", "function",
				       "name", "f", "description", "d", "parameters", "type", "object"));

	return json_is_object(with) && !json_equal(with, without);
}

json_t *ds_capabilities(const struct ds_plugins *plugins, const char *dialect, bool has_words)
{
	const struct ds_dialect_ops *ops =
		*dialect && has_words ? ds_plugins_find(plugins, DS_PLUGIN_DIALECT, dialect, NULL, NULL) : NULL;
	json_t *list = json_array();

	if (ops)
		json_array_append_new(list, json_string("chat"));
	if (has_words)
		json_array_append_new(list, json_string("completion"));
	if (ops && can_reason(ops))
		json_array_append_new(list, json_string("reasoning"));
	if (ops && takes_tools(ops))
		json_array_append_new(list, json_string("tools"));
	return list;
}

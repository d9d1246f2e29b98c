/* verb-plugins.c - dsctl plugins: what may compute, parse and talk on this machine, and what was refused and why. */
#include "output.h"
#include "verb.h"

#include <string.h>

struct options {
	bool verbose;
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void add_plugin(struct ds_table *t, const json_t *plugin)
{
	const char *keys[] = {"name", "version", "kind", "file", "state"};

	for (size_t i = 0; i < DS_ARRAY_SIZE(keys); i++)
		ds_table_add(t, "%s", text_of(plugin, keys[i]));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT,
		     json_integer_value(json_object_get(plugin, "vectors_passed")),
		     json_integer_value(json_object_get(plugin, "vectors")));
	ds_table_add(t, "%s", text_of(plugin, "reason"));
}

/* One value of an option's table entry, as it would be written in the configuration. */
static void print_value(const char *label, const json_t *value)
{
	char *text;

	if (!value || json_is_null(value))
		return;
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
	printf("%s %s", label, text ? text : "?");
	free(text);
}

static void print_details(const json_t *plugin)
{
	const json_t *item;
	size_t i;

	printf("\n%s: %s\n", text_of(plugin, "name"), text_of(plugin, "summary"));
	json_array_foreach (json_object_get(plugin, "entries"), i, item)
		printf("  provides %s: %s\n", text_of(item, "name"), text_of(item, "summary"));
	json_array_foreach (json_object_get(plugin, "options"), i, item) {
		printf("  option %s (%s", text_of(item, "name"), text_of(item, "type"));
		print_value(", default", json_object_get(item, "default"));
		print_value(", from", json_object_get(item, "min"));
		print_value(" to", json_object_get(item, "max"));
		printf("): %s\n", text_of(item, "help"));
	}
}

static int plugins(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	static const char *const heads[] = {"PLUGIN", "VERSION", "KIND", "FILE", "STATE", "VECTORS", "REASON"};
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = DS_ARRAY_SIZE(heads)};
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	const struct options *o = options;
	const json_t *plugin;
	size_t i;
	int r;

	r = ds_http_call(client->http, "GET", "/admin/v1/plugins", NULL, &answer, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(answer, false, err);
	for (i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(&t, "%s", heads[i]);
	json_array_foreach (json_object_get(answer, "plugins"), i, plugin)
		add_plugin(&t, plugin);
	r = ds_table_print(&t, client->legend, err);
	if (r == 0 && o->verbose)
		json_array_foreach (json_object_get(answer, "plugins"), i, plugin)
			print_details(plugin);
	return r;
}

static const struct ds_flag flags[] = {
	{"verbose", 'v', DS_FLAG_BOOL, offsetof(struct options, verbose), NULL,
	 "also print what each provides and its options"},
	{0},
};

const struct ds_verb ds_verb_plugins = {
	.name = "plugins",
	.usage = "",
	.help = "List the plugins: version, kind, file, test vectors passed, why one was refused",
	.flags = flags,
	.options_size = sizeof(struct options),
	.run = plugins,
};

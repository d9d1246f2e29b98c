/* verb-inspect.c - dsctl inspect: what a checkpoint is and what memory it would take. Nothing is loaded; no daemon
 * needs to be up. */
#include "message.h"
#include "model.h"
#include "output.h"

#include <string.h>

static const char *count(char *text, size_t size, double n)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(units); i++)
		if (n >= units[i].unit) {
			snprintf(text, size, "%.2f %s", n / units[i].unit, units[i].name);
			return text;
		}
	snprintf(text, size, "%.0f", n);
	return text;
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key, const char *otherwise)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : otherwise;
}

static void add_size(struct ds_table *t, const char *what, double bytes)
{
	char size[32];

	ds_table_add(t, "%s", what);
	ds_table_add(t, "%s", ds_output_size(size, sizeof(size), bytes));
}

static void add_parameters(struct ds_table *t, const json_t *model)
{
	char all[32], some[32];

	ds_table_add(t, "parameters");
	if (number(model, "experts") > 0)
		ds_table_add(t, "%s, %s active per token (%.0f of %.0f experts)",
			     count(all, sizeof(all), number(model, "parameters")),
			     count(some, sizeof(some), number(model, "active_parameters")),
			     number(model, "experts_used"), number(model, "experts"));
	else
		ds_table_add(t, "%s", count(all, sizeof(all), number(model, "parameters")));
	if (number(model, "mtp_parameters") > 0) {
		ds_table_add(t, "multi-token prediction");
		ds_table_add(t, "%s", count(all, sizeof(all), number(model, "mtp_parameters")));
	}
}

static void add_types(struct ds_table *t, const json_t *types)
{
	char n[32], size[32];
	const json_t *type;
	size_t i;

	json_array_foreach (types, i, type) {
		ds_table_add(t, "type %s", text(type, "type", "?"));
		ds_table_add(t, "%s in %.0f tensors, %s", count(n, sizeof(n), number(type, "parameters")),
			     number(type, "tensors"), ds_output_size(size, sizeof(size), number(type, "size")));
	}
}

static void add_memory(struct ds_table *t, const json_t *memory)
{
	char cache[64], size[32];

	add_size(t, "memory: weights", number(memory, "weights"));
	snprintf(cache, sizeof(cache), "memory: cache of %.0f tokens", number(memory, "context"));
	ds_table_add(t, "%s", cache);
	ds_table_add(t, "%s, %.0f bytes a token", ds_output_size(size, sizeof(size), number(memory, "kv")),
		     number(memory, "kv_per_token"));
	add_size(t, "memory: scratch", number(memory, "scratch"));
	add_size(t, "memory: together", number(memory, "total"));
}

static int print(const json_t *model, struct ds_error *err)
{
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = 2};
	char size[32];

	ds_table_add(&t, "name");
	ds_table_add(&t, "%s", text(model, "name", ""));
	ds_table_add(&t, "architecture");
	ds_table_add(&t, "%s, %.0f layers of %.0f", text(model, "family", ""), number(model, "layers"),
		     number(model, "hidden"));
	add_parameters(&t, model);
	ds_table_add(&t, "files");
	ds_table_add(&t, "%.0f, %s", number(model, "files"),
		     ds_output_size(size, sizeof(size), number(model, "file_size")));
	add_types(&t, json_object_get(model, "types"));
	ds_table_add(&t, "context");
	ds_table_add(&t, "%.0f tokens", number(model, "context"));
	ds_table_add(&t, "vocabulary");
	ds_table_add(&t, "%.0f", number(model, "vocab"));
	ds_table_add(&t, "tokenizer");
	if (text(model, "tokenizer", NULL))
		ds_table_add(&t, "%s, %.0f tokens", text(model, "tokenizer", ""), number(model, "tokens"));
	else
		ds_table_add(&t, "none in its files: it takes token arrays only");
	ds_table_add(&t, "dialect");
	ds_table_add(&t, "%s", text(model, "dialect", "unknown: no chat"));
	add_memory(&t, json_object_get(model, "memory"));
	return ds_table_print(&t, true, err);
}

static int inspect(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct ds_loader_call call = {.path = args[0], .request = DS_MSG_INSPECT};
	ds_cleanup(ds_json_freep) json_t *model = NULL;
	int r;

	if (!ds_model_is_path(args[0]))
		return ds_fail(err, -ENOENT, "%s: no such file or directory; inspect takes the path of a checkpoint",
			       args[0]);
	r = ds_loader_run(&call, &model, err);
	if (r < 0)
		return r;
	if (!json_string_value(json_object_get(model, "name")))
		json_object_set_new(model, "name", ds_model_name_of(args[0]));
	return client->json ? ds_output_json(model, false, err) : print(model, err);
}

const struct ds_verb ds_verb_inspect = {
	.name = "inspect",
	.usage = "PATH",
	.help = "Say what a checkpoint is and what memory it would take, without loading it",
	.min_args = 1,
	.max_args = 1,
	.run = inspect,
};

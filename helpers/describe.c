/* describe.c - which format plugin speaks for a set of files, and which dialect plugin for the model in them. */
#include "describe.h"

int ds_describe(const struct ds_plugins *plugins, const struct ds_file *files, size_t n_files,
		const struct ds_builder *calls, struct ds_error *err)
{
	const struct ds_plugin *plugin;
	size_t first = 0;

	if (!ds_plugins_next(plugins, DS_PLUGIN_FORMAT, &first)) {
		ds_plugins_find(plugins, DS_PLUGIN_FORMAT, "auto", NULL, err); /* says what was refused, and why */
		return -ENOENT;
	}
	for (size_t i = 0; (plugin = ds_plugins_next(plugins, DS_PLUGIN_FORMAT, &i));)
		for (const struct ds_entry *e = plugin->entries; e->name; e++) {
			const struct ds_format_ops *format = e->ops;

			if (format->recognizes(files, n_files))
				return format->describe(ds_plugins_host(), files, n_files, calls, err);
		}
	if (n_files == 1)
		return ds_fail(err, -ENOTSUP,
			       "no format recognizes the file %.128s: it is no GGUF file, and no directory "
			       "of a config.json with *.safetensors",
			       files[0].name);
	return ds_fail(err, -ENOTSUP, "no format recognizes the %zu files of the model%s%.128s", n_files,
		       n_files ? ", the first being " : "", n_files ? files[0].name : "");
}

const char *ds_recognize_dialect(const struct ds_plugins *plugins, const struct ds_habits *habits)
{
	const struct ds_plugin *plugin;

	for (size_t i = 0; (plugin = ds_plugins_next(plugins, DS_PLUGIN_DIALECT, &i));)
		for (const struct ds_entry *e = plugin->entries; e->name; e++) {
			const struct ds_dialect_ops *dialect = e->ops;

			if (dialect->recognizes && dialect->recognizes(habits))
				return e->name;
		}
	return "";
}

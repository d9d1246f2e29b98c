/* commands.c - one allocation holds the vector and the path it begins with. */
#include "commands.h"

#include <string.h>

const char **ds_commands_new(const char *libexec_dir, const char *plugin_dir, const struct ds_config *config,
			     const char *program, const char *first)
{
	const char *dir = plugin_dir, **argv;
	size_t n_plugins = 0, n = 0, size = strlen(libexec_dir) + strlen(program) + 2;
	char *path;

	if (!dir)
		dir = config->plugin_dir[0] ? config->plugin_dir : PLUGINDIR;
	while (config->plugins[n_plugins])
		n_plugins++;
	argv = calloc(1, (n_plugins * 2 + 6) * sizeof(*argv) + size);
	if (!argv)
		return NULL;
	path = (char *)(argv + n_plugins * 2 + 6);
	snprintf(path, size, "%s/%s", libexec_dir, program);
	argv[n++] = path;
	if (first)
		argv[n++] = first;
	argv[n++] = "--plugin-dir";
	argv[n++] = dir;
	for (size_t i = 0; i < n_plugins; i++) {
		argv[n++] = "--plugin";
		argv[n++] = config->plugins[i];
	}
	return argv;
}

bool ds_commands_are_same(const struct ds_config *a, const struct ds_config *b)
{
	size_t i = 0;

	if (strcmp(a->plugin_dir, b->plugin_dir) || !json_equal(a->plugin_options, b->plugin_options))
		return false;
	for (; a->plugins[i] && b->plugins[i]; i++)
		if (strcmp(a->plugins[i], b->plugins[i]))
			return false;
	return !a->plugins[i] && !b->plugins[i];
}

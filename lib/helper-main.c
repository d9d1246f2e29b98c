/* helper-main.c - the start of ds-loader and ds-engine. */
#include "helper-main.h"

#include <getopt.h>
#include <sys/stat.h>
#include <syslog.h>

#define SOCKET 3
#define EXIT_USAGE 2

struct arguments {
	const char *plugin_dir;
	const char **plugins; /* [n_plugins], and NULL after them; room for argc */
	size_t n_plugins;
	bool describe, is_caller;
};

static int usage(const struct ds_helper *helper)
{
	fprintf(stderr,
		"usage: %s [--describe-plugins | --caller] --plugin-dir DIR --plugin NAME...\n"
		"deepseekd starts it with its socket as descriptor 3.\n",
		helper->name);
	return EXIT_USAGE;
}

/* 0: go on; otherwise the exit status plus one. */
static int parse_arguments(const struct ds_helper *helper, int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"plugin-dir", required_argument, NULL, 'd'}, {"plugin", required_argument, NULL, 'p'},
		{"describe-plugins", no_argument, NULL, 'D'}, {"version", no_argument, NULL, 'v'},
		{"caller", no_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			a->plugin_dir = optarg;
			break;
		case 'p':
			a->plugins[a->n_plugins++] = optarg;
			break;
		case 'D':
			a->describe = true;
			break;
		case 'c':
			a->is_caller = true;
			break;
		case 'v':
			printf("%s %s\n", helper->name, PACKAGE_VERSION);
			return 1 + EXIT_SUCCESS;
		default:
			return 1 + usage(helper);
		}
	}
	return a->plugin_dir && optind == argc && (!a->is_caller || helper->caller_sandbox) ? 0 : 1 + usage(helper);
}

static int print_description(const struct ds_plugins *plugins, struct ds_error *err)
{
	json_t *json = ds_plugins_describe(plugins);
	bool written = json && json_dumpf(json, stdout, JSON_INDENT(2)) == 0 && puts("") >= 0 && fflush(stdout) == 0;

	json_decref(json);
	return written ? 0 : ds_fail(err, -EIO, "the description of the plugins cannot be written");
}

static int run(const struct ds_helper *helper, const struct arguments *a, struct ds_error *err)
{
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	struct stat st;
	int r;

	if (!a->describe && (fstat(SOCKET, &st) < 0 || !S_ISSOCK(st.st_mode)))
		return ds_fail(err, -ENOTSOCK, "descriptor %d is not the broker's socket", SOCKET);
	r = ds_sandbox_prepare(err);
	if (r == 0)
		r = ds_plugins_open(&plugins, a->plugin_dir, a->plugins, a->describe ? DS_KIND_ANY : helper->kinds, err);
	if (r == 0 && a->describe)
		return print_description(plugins, err);
	if (r == 0)
		r = ds_sandbox_enter(a->is_caller ? helper->caller_sandbox : helper->sandbox, err);
	if (r < 0)
		return r;
	r = helper->serve(SOCKET, plugins, err);
	/* To a person it is said once, by dsctl, which has been told. */
	return a->is_caller ? 0 : r;
}

int ds_helper_main(const struct ds_helper *helper, int argc, char **argv)
{
	ds_cleanup(ds_freep) const char **plugins = calloc((size_t)argc + 1, sizeof(*plugins));
	struct arguments a = {.plugins = plugins};
	struct ds_error err = {""};
	int status;

	if (!plugins)
		return EXIT_FAILURE;
	status = parse_arguments(helper, argc, argv, &a);
	if (status != 0)
		return status - 1;
	if (run(helper, &a, &err) == 0)
		return EXIT_SUCCESS;
	ds_plugins_host()->log(LOG_ERR, "%s: %s", helper->name, err.text);
	return EXIT_FAILURE;
}

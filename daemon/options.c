/* options.c - the command line and the directories. */
#include "options.h"

#include <getopt.h>
#include <pwd.h>
#include <string.h>

static const struct {
	const char *name, *value, *help;
} helps[] = {
	{"config", "FILE", "read this file, conf.d/ and models.d/ beside it, and no other configuration"},
	{"runtime-dir", "DIR", "where the socket is made"},
	{"state-dir", "DIR", "working directory of the daemon and its helpers"},
	{"plugin-dir", "DIR", "where plugins lie; not as the system service"},
	{"libexec-dir", "DIR", "where ds-loader and ds-engine lie; not as the system service"},
	{"bus", "BUS", "system, session, none, or a D-Bus address"},
	{"check-config", NULL, "check the configuration and exit with 0 or 1"},
	{"version", NULL, "print the version"},
	{"help", NULL, "print this, and the keys of the configuration"},
};

static void print_keys(const char *title, const struct ds_key *keys)
{
	printf("\n%s\n", title);
	for (; keys->name; keys++)
		printf("  %-22s %-12s %s%s%s%s\n", keys->name, keys->value ? keys->value : "(required)", keys->help,
		       keys->choices ? " (" : "", keys->choices ? keys->choices : "", keys->choices ? ")" : "");
}

static void print_help(void)
{
	printf("Usage: deepseekd [OPTION...]\nServes language models to every user of this machine.\n\n");
	for (size_t i = 0; i < DS_ARRAY_SIZE(helps); i++)
		printf("  --%s%s%-*s %s\n", helps[i].name, helps[i].value ? " " : "",
		       (int)(18 - strlen(helps[i].name) - (helps[i].value ? 1 : 0)),
		       helps[i].value ? helps[i].value : "", helps[i].help);
	print_keys("Keys of deepseekd.yaml, with their defaults:", ds_config_keys);
	print_keys("Keys of models.d/NAME.yaml:", ds_model_keys);
}

static bool runs_as_service_user(void)
{
	const struct passwd *user = getpwuid(geteuid());

	return geteuid() == 0 || (user && !strcmp(user->pw_name, "deepseekd"));
}

static int put(char out[PATH_MAX], const char *base, const char *rest)
{
	size_t size = strlen(base);

	if (size + strlen(rest) >= PATH_MAX)
		return -ENAMETOOLONG;
	memmove(out, base, size);
	strcpy(out + size, rest);
	return 0;
}

/* $@name/deepseekd, or ~/@under_home/deepseekd. */
static void user_directory(char out[PATH_MAX], const char *name, const char *under_home)
{
	const char *base = getenv(name), *home = getenv("HOME");
	char fallback[PATH_MAX];

	snprintf(fallback, sizeof(fallback), "%.2000s/%s", home ? home : "", under_home);
	put(out, base && base[0] == '/' ? base : fallback, "/deepseekd");
}

static void choose_directories(struct ds_options *o)
{
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	bool unit = getenv("INVOCATION_ID") && runtime && !strcmp(runtime, "/run/deepseekd");

	o->is_system = unit;
	o->layers[0] = VENDORDIR;
	o->uses_system = unit || (runs_as_service_user() && !getenv("XDG_RUNTIME_DIR"));
	if (o->uses_system) {
		put(o->runtime_dir, "/run", "/deepseekd");
		put(o->state_dir, "/var/lib", "/deepseekd");
		o->layers[1] = "/run/deepseekd";
		o->layers[2] = "/etc/deepseekd";
		return;
	}
	user_directory(o->runtime_dir, "XDG_RUNTIME_DIR", ".cache");
	user_directory(o->state_dir, "XDG_STATE_HOME", ".local/state");
	user_directory(o->user_layer, "XDG_CONFIG_HOME", ".config");
	o->layers[1] = o->user_layer;
}

static int complain(const char *fmt, const char *what)
{
	fprintf(stderr, "deepseekd: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "\nTry `deepseekd --help`.\n");
	return -EINVAL;
}

static int take_directory(char out[PATH_MAX], const char *given)
{
	char here[PATH_MAX];

	if (given[0] == '\0')
		return -EINVAL;
	if (given[0] == '/')
		return put(out, given, "");
	if (!getcwd(here, sizeof(here)) || strlen(here) + strlen(given) + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	strcat(here, "/");
	return put(out, here, given);
}

static void take_bus(struct ds_options *o, const char *given)
{
	static const char *const names[] = {
		[DS_BUS_SYSTEM] = "system", [DS_BUS_SESSION] = "session", [DS_BUS_NONE] = "none"};

	o->bus = DS_BUS_ADDRESS;
	o->bus_address = given;
	for (size_t i = DS_BUS_SYSTEM; i < DS_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], given))
			o->bus = (enum ds_bus_choice)i;
}

/* @name is one of helps[]. */
static int take_option(struct ds_options *o, const char *name, const char *value)
{
	char path[PATH_MAX];

	if (!strcmp(name, "help")) {
		print_help();
		return 1;
	}
	if (!strcmp(name, "version")) {
		printf("deepseekd %s\n", PACKAGE_VERSION);
		return 1;
	}
	if (!strcmp(name, "config")) {
		if (take_directory(path, value) < 0)
			return complain("--config %s: the path is empty or too long", value);
		free(o->config);
		o->config = strdup(path);
		return o->config ? 0 : -ENOMEM;
	}
	if (!strcmp(name, "runtime-dir") && take_directory(o->runtime_dir, value) < 0)
		return complain("--runtime-dir %s: the path is empty or too long", value);
	if (!strcmp(name, "state-dir") && take_directory(o->state_dir, value) < 0)
		return complain("--state-dir %s: the path is empty or too long", value);
	if ((!strcmp(name, "plugin-dir") || !strcmp(name, "libexec-dir")) && value[0] != '/')
		return complain("%s: the path must be absolute", value);
	if ((!strcmp(name, "plugin-dir") || !strcmp(name, "libexec-dir")) && o->is_system)
		return complain("--%s is refused as the system service", name);
	if (!strcmp(name, "plugin-dir"))
		o->plugin_dir = value;
	if (!strcmp(name, "libexec-dir"))
		o->libexec_dir = value;
	if (!strcmp(name, "bus"))
		take_bus(o, value);
	if (!strcmp(name, "check-config"))
		o->check_config = true;
	return 0;
}

int ds_options_parse(struct ds_options *options, int argc, char **argv)
{
	struct option longs[DS_ARRAY_SIZE(helps) + 1] = {0};
	int c, index = 0, r;

	*options = (struct ds_options){.libexec_dir = HELPERDIR};
	choose_directories(options);
	for (size_t i = 0; i < DS_ARRAY_SIZE(helps); i++)
		longs[i] = (struct option){.name = helps[i].name,
					   .has_arg = helps[i].value ? required_argument : no_argument};
	while ((c = getopt_long(argc, argv, "", longs, &index)) != -1) {
		if (c != 0)
			return complain("%s", "the command line is not understood");
		r = take_option(options, longs[index].name, optarg);
		if (r != 0)
			return r;
	}
	return optind < argc ? complain("\"%s\" is not an option", argv[optind]) : 0;
}

void ds_options_deinit(struct ds_options *options)
{
	free(options->config);
}

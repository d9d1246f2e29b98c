/* main.c - dsctl: finds the verb, takes its options by its table, runs it, and turns what it returns into an exit code.
 *
 * dsctl knows only the daemon's public HTTP and D-Bus, and for files of its user's ds-loader. Data goes to the standard
 * output, talk to the standard error. */
#include "options.h"
#include "output.h"

#include <fcntl.h>
#include <locale.h>
#include <string.h>

static const char system_socket[] = "/run/deepseekd/api.sock";

const struct ds_verb *const ds_verbs[] = {
	&ds_verb_run,    &ds_verb_chat,    &ds_verb_status,       &ds_verb_ls,       &ds_verb_load,
	&ds_verb_unload, &ds_verb_verify,  &ds_verb_inspect,      &ds_verb_quantize, &ds_verb_tokenize,
	&ds_verb_render, &ds_verb_plugins, &ds_verb_config_check, &ds_verb_key_add,  &ds_verb_key_ls,
	&ds_verb_key_rm, &ds_verb_top,     &ds_verb_log,          &ds_verb_doctor,   &ds_verb_bench,
	&ds_verb_completion,
	NULL,
};
#define N_VERBS (DS_ARRAY_SIZE(ds_verbs) - 1)

/* The exit codes of the manual, EXIT STATUS; anything else is 1. */
static const struct {
	int result, exit_code;
	const char *meaning;
} exits[] = {
	{-EINVAL, 2, "a mistake on the command line"},
	{-ECONNREFUSED, 3, "the daemon is not running"},
	{-ENOENT, 4, "no such model or file"},
	{-EACCES, 5, "access denied"},
	{-EBUSY, 6, "the daemon is busy"},
	{-EBADMSG, 8, "a verification failed"},
	{-ETIMEDOUT, 124, "no answer in time"},
	{-EINTR, 130, "interrupted"},
};

struct globals {
	const char *socket, *bus;
	struct ds_number timeout;
	bool json, no_legend, no_ask_password, help, version;
};

#define GLOBAL(member) offsetof(struct globals, member)
const struct ds_flag ds_global_flags[] = {
	{"socket", 0, DS_FLAG_TEXT, GLOBAL(socket), "PATH",
	 "the daemon's socket (else DEEPSEEKD_SOCKET, else the usual places)"},
	{"bus", 0, DS_FLAG_TEXT, GLOBAL(bus), "BUS", "manage the daemon over D-Bus: system, an address, or none"},
	{"no-ask-password", 0, DS_FLAG_BOOL, GLOBAL(no_ask_password), NULL, "ask for no password"},
	{"json", 'j', DS_FLAG_BOOL, GLOBAL(json), NULL, "print JSON: one document, or one a line where it streams"},
	{"no-legend", 0, DS_FLAG_BOOL, GLOBAL(no_legend), NULL, "print tables without their heads"},
	{"timeout", 0, DS_FLAG_NUMBER, GLOBAL(timeout), "SECONDS", "give up on a request after this long"},
	{"help", 'h', DS_FLAG_BOOL, GLOBAL(help), NULL, "print this help, or that of a verb"},
	{"version", 0, DS_FLAG_BOOL, GLOBAL(version), NULL, "print the version"},
	{0},
};

static void print_flags(const struct ds_flag *f)
{
	char left[40];

	for (; f && f->name; f++) {
		snprintf(left, sizeof(left), "--%s%s%s", f->name, f->value ? " " : "", f->value ? f->value : "");
		if (f->letter)
			printf("  -%c, %-21s  %s\n", f->letter, left, f->help);
		else
			printf("      %-21s  %s\n", left, f->help);
	}
}

static void print_help(const struct ds_verb *verb)
{
	if (verb) {
		printf("dsctl %s%s%s\n\n%s.\n", verb->name, *verb->usage ? " " : "", verb->usage, verb->help);
		if (verb->flags)
			puts("\nOptions:");
		print_flags(verb->flags);
		puts("\nOptions of every verb:");
		print_flags(ds_global_flags);
		return;
	}
	puts("dsctl VERB [OPTIONS] [ARGUMENTS] - talks to deepseekd, the service that owns this machine's language "
	     "models\n\n"
	     "  dsctl run What is 347+285?\n"
	     "  dsctl chat\n"
	     "  dsctl status\n\n"
	     "Verbs:");
	for (size_t i = 0; i < N_VERBS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", ds_verbs[i]->name, ds_verbs[i]->usage);
		printf("  %-29s  %s\n", left, ds_verbs[i]->help);
	}
	puts("\nOptions:");
	print_flags(ds_global_flags);
	puts("\nExit codes: 0 done, 1 failed,");
	for (size_t i = 0; i < DS_ARRAY_SIZE(exits); i++)
		printf("  %3d %s\n", exits[i].exit_code, exits[i].meaning);
}

/* Whether the words at @args begin with the words of @name; then how many they are. */
static size_t match(const char *name, char *const *args)
{
	size_t n = 0;

	for (; *name; n++) {
		size_t length = strcspn(name, " ");

		if (!args[n] || strlen(args[n]) != length || memcmp(args[n], name, length) != 0)
			return 0;
		name += length;
		name += *name == ' ';
	}
	return n;
}

/* What people know from other programs. */
static const struct {
	const char *word, *verb;
} others[] = {
	{"ps", "status"}, {"list", "ls"}, {"show", "inspect"}, {"stop", "unload"}, {"convert", "quantize"},
};

static const char *nearest_verb(const char *word, const char *const *names, size_t n)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(others); i++)
		if (strcmp(others[i].word, word) == 0)
			return others[i].verb;
	return ds_options_nearest(word, names, n);
}

static int find_verb(const struct ds_verb **out, char ***args, struct ds_error *err)
{
	const char *names[N_VERBS];
	const char *nearest;

	for (size_t i = 0; i < N_VERBS; i++) {
		size_t n = match(ds_verbs[i]->name, *args);

		names[i] = ds_verbs[i]->name;
		if (n > 0) {
			*args += n;
			*out = ds_verbs[i];
			return 0;
		}
	}
	for (size_t i = 0; i < N_VERBS; i++)
		if (strncmp(names[i], **args, strlen(**args)) == 0 && names[i][strlen(**args)] == ' ')
			return ds_fail(err, -EINVAL, "%s: dsctl %s is what there is", **args, names[i]);
	nearest = nearest_verb(**args, names, DS_ARRAY_SIZE(names));
	if (nearest)
		return ds_fail(err, -EINVAL, "unknown verb %s; did you mean dsctl %s?", **args, nearest);
	return ds_fail(err, -EINVAL, "unknown verb %s; dsctl --help lists them", **args);
}

/* The user's own daemon if there is one, else the system's. */
static const char *default_socket(char *path, size_t size)
{
	const char *named = getenv("DEEPSEEKD_SOCKET");
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (named && *named)
		return named;
	if (runtime && snprintf(path, size, "%s/deepseekd/api.sock", runtime) < (int)size && access(path, F_OK) == 0)
		return path;
	return system_socket;
}

static int run_verb(const struct ds_verb *verb, const struct globals *globals, const void *options, char **args,
		    struct ds_error *err)
{
	ds_cleanup(ds_http_freep) struct ds_http *http = NULL;
	struct ds_client client = {
		.bus = globals->bus,
		.no_ask_password = globals->no_ask_password,
		.json = globals->json,
		.legend = !globals->no_legend,
		.timeout = globals->timeout.value,
	};
	char path[4096];
	unsigned n = 0;
	int r;

	while (args[n])
		n++;
	if (n < verb->min_args)
		return ds_fail(err, -EINVAL, "dsctl %s%s%s: something is missing", verb->name, *verb->usage ? " " : "",
			       verb->usage);
	if (n > verb->max_args)
		return ds_fail(err, -EINVAL, "dsctl %s%s%s: %s is one word too many", verb->name,
			       *verb->usage ? " " : "", verb->usage, args[verb->max_args]);
	if (client.timeout < 0)
		return ds_fail(err, -EINVAL, "--timeout: it must not be negative");
	client.socket = globals->socket ? globals->socket : default_socket(path, sizeof(path));
	r = ds_http_new(&http, client.socket, client.timeout, err);
	if (r < 0)
		return r;
	client.http = http;
	client.is_system = client.socket == system_socket;
	return verb->run(&client, options, args, err);
}

static int dispatch(char **args, struct ds_error *err)
{
	struct globals globals = {0};
	struct ds_option_set sets[] = {{ds_global_flags, &globals}, {0}};
	ds_cleanup(ds_freep) void *options = NULL;
	const struct ds_verb *verb = NULL;
	int r;

	r = ds_options_take(sets, 1, args, true, err);
	if (r == 0 && *args && strcmp(*args, "help") == 0) {
		globals.help = true;
		args++;
	}
	if (r == 0 && *args)
		r = find_verb(&verb, &args, err);
	if (r < 0)
		return r;
	if (verb) {
		options = calloc(1, verb->options_size + 1);
		if (!options)
			return ds_fail(err, -ENOMEM, "no memory");
		sets[1] = (struct ds_option_set){verb->flags, options};
		r = ds_options_take(sets, 2, args, false, err);
		if (r < 0)
			return r;
	}
	if (globals.version) {
		puts("dsctl " PACKAGE_VERSION);
		return 0;
	}
	if (!verb && !globals.help)
		return ds_fail(err, -EINVAL, "a verb is missing; dsctl --help lists them");
	if (globals.help) {
		print_help(verb);
		return 0;
	}
	return run_verb(verb, &globals, options, args, err);
}

/* A standard descriptor that the caller closed would be the next thing opened, and the answer be written into the
 * socket it comes from. Now it reads as empty, and writing to it fails. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct ds_error err = {0};
	int r;

	fill_standard_descriptors();
	setlocale(LC_CTYPE, "");
	r = argc > 0 ? dispatch(argv + 1, &err) : -EINVAL;
	/* ferror() remembers what an earlier flush lost. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && r >= 0)
		r = ds_fail(&err, -EIO, "cannot write to the standard output");
	if (r >= 0)
		return r;
	if (err.text[0])
		fprintf(stderr, "dsctl: %s\n", err.text);
	for (size_t i = 0; i < DS_ARRAY_SIZE(exits); i++)
		if (exits[i].result == r)
			return exits[i].exit_code;
	return 1;
}

/* verb-log.c - dsctl log: the journal of the daemon, of one model or of one request; journalctl shows it. */
#include "verb.h"

#include <dirent.h>
#include <string.h>

#define UNIT "deepseekd.service"

struct options {
	bool follow, user, explain;
	const char *request;
	struct ds_number lines;
};

/* Without one the folders are missing, or were made by the package and stayed empty. */
static bool has_journal(void)
{
	static const char *const dirs[] = {"/run/log/journal", "/var/log/journal"};
	bool found = false;

	for (size_t i = 0; i < DS_ARRAY_SIZE(dirs); i++) {
		DIR *stream = opendir(dirs[i]);
		const struct dirent *entry;

		found |= !stream && errno == EACCES;
		while (stream && (entry = readdir(stream)))
			found |= entry->d_name[0] != '.';
		if (stream)
			closedir(stream);
	}
	return found;
}

static int show_log(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct options *o = options;
	char lines[32], model[160], request[160];
	const char *argv[16] = {"journalctl", o->user ? "--user-unit" : "--unit", UNIT};
	int n = 3;

	if (snprintf(model, sizeof(model), "DEEPSEEKD_MODEL=%s", args[0] ? args[0] : "") >= (int)sizeof(model) ||
	    snprintf(request, sizeof(request), "DEEPSEEKD_REQUEST=%s", o->request ? o->request : "") >=
		    (int)sizeof(request))
		return ds_fail(err, -EINVAL, "no model and no request has so long a name");
	if (!has_journal())
		return ds_fail(
			err, -EREMOTEIO,
			"there is no journal on this machine (nothing in /run/log/journal or /var/log/journal); the "
			"daemon writes to its standard error, wherever whoever started it put that");
	if (o->follow)
		argv[n++] = "--follow";
	if (o->explain)
		argv[n++] = "--catalog";
	if (o->lines.given) {
		snprintf(lines, sizeof(lines), "--lines=%.0f", o->lines.value);
		argv[n++] = lines;
	}
	if (client->json)
		argv[n++] = "--output=json";
	if (args[0])
		argv[n++] = model;
	if (o->request)
		argv[n++] = request;
	execvp(argv[0], (char *const *)argv);
	return ds_fail(err, -EREMOTEIO, "journalctl cannot be run: %s", strerror(errno));
}

#define OPTION(member) offsetof(struct options, member)
static const struct ds_flag flags[] = {
	{"follow", 'f', DS_FLAG_BOOL, OPTION(follow), NULL, "go on showing what is logged"},
	{"lines", 'n', DS_FLAG_COUNT, OPTION(lines), "N", "the last N entries"},
	{"request", 0, DS_FLAG_TEXT, OPTION(request), "ID", "of this request (x-request-id)"},
	{"explain", 'x', DS_FLAG_BOOL, OPTION(explain), NULL, "with explanations from the catalogue"},
	{"user", 0, DS_FLAG_BOOL, OPTION(user), NULL, "of the user's own service"},
	{0},
};

const struct ds_verb ds_verb_log = {
	.name = "log",
	.usage = "[MODEL]",
	.help = "Show the journal of the daemon, of a model or of a request",
	.flags = flags,
	.options_size = sizeof(struct options),
	.max_args = 1,
	.run = show_log,
};

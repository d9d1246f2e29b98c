/* verb-config.c - dsctl config check: asks the daemon's own program whether a configuration holds.
 *
 * The program is run as the caller; no daemon needs to be up. Its words and its exit code are passed on. */
#include "output.h"
#include "program.h"
#include "verb.h"

#include <spawn.h>
#include <string.h>

static int config_check(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const char *program = ds_program_daemon();
	const char *argv[] = {program, "--check-config", args[0] ? "--config" : NULL, args[0], NULL};
	ds_cleanup(ds_json_freep) json_t *lines = NULL, *result = NULL;
	pid_t pid;
	int r;

	if (!client->json) {
		r = posix_spawn(&pid, program, NULL, NULL, (char *const *)argv, environ);
		return r ? ds_fail(err, -EREMOTEIO, "%s: %s", program, strerror(r))
			 : ds_program_wait(pid, "the check", err);
	}
	r = ds_program_lines(argv, &lines, err);
	if (r < 0)
		return r == -ENOENT ? -EREMOTEIO : r;
	result = json_pack("{s:b, s:O}", "valid", r == 0, "messages", lines);
	ds_output_json(result, false, err);
	return r;
}

const struct ds_verb ds_verb_config_check = {
	.name = "config check",
	.usage = "[FILE]",
	.help = "Say whether the configuration, or FILE in its place, is right, and where it is not",
	.max_args = 1,
	.run = config_check,
};

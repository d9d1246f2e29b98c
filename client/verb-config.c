/* verb-config.c - dsctl config check: asks the daemon's own program whether a configuration holds.
 *
 * The program is run as the caller; no daemon needs to be up. Its words and its exit code are passed on. */
#include "output.h"
#include "verb.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define LINE_MAX_SIZE 4096

/* Start the check with @output as its standard output and error; -1: ours. */
static int start(const char *file, int output, pid_t *pid, struct ds_error *err)
{
	const char *named = getenv("DEEPSEEKD_DAEMON");
	const char *program = named && *named ? named : DS_SBINDIR "/deepseekd";
	const char *argv[] = {program, "--check-config", file ? "--config" : NULL, file, NULL};
	posix_spawn_file_actions_t actions;
	int r;

	posix_spawn_file_actions_init(&actions);
	if (output >= 0) {
		posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
		posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	}
	r = posix_spawn(pid, program, &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return r ? ds_fail(err, -EREMOTEIO, "%s: %s", program, strerror(r)) : 0;
}

static int wait_for(pid_t pid, struct ds_error *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ds_fail(err, -errno, "the check was lost: %s", strerror(errno));
	if (!WIFEXITED(status))
		return ds_fail(err, -EREMOTEIO, "the check was killed by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int check_as_json(const char *file, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *lines = json_array();
	ds_cleanup(ds_json_freep) json_t *result = NULL;
	char line[LINE_MAX_SIZE];
	int fds[2];
	pid_t pid;
	FILE *f;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return ds_fail(err, -errno, "no pipe: %s", strerror(errno));
	r = start(file, fds[1], &pid, err);
	close(fds[1]);
	f = fdopen(fds[0], "r");
	while (r == 0 && f && fgets(line, sizeof(line), f))
		json_array_append_new(lines, json_stringn(line, strcspn(line, "\n")));
	if (f)
		fclose(f);
	else
		close(fds[0]);
	if (r == 0)
		r = wait_for(pid, err);
	if (r < 0)
		return r;
	result = json_pack("{s:b, s:O}", "valid", r == 0, "messages", lines);
	ds_output_json(result, false, err);
	return r;
}

static int config_check(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	pid_t pid;
	int r;

	if (client->json)
		return check_as_json(args[0], err);
	r = start(args[0], -1, &pid, err);
	return r < 0 ? r : wait_for(pid, err);
}

const struct ds_verb ds_verb_config_check = {
	.name = "config check",
	.usage = "[FILE]",
	.help = "Say whether the configuration, or FILE in its place, is right, and where it is not",
	.max_args = 1,
	.run = config_check,
};

/* program.c - spawns, reads to the end, waits. */
#include "program.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define LINE_MAX_SIZE 4096

const char *ds_program_daemon(void)
{
	const char *named = getenv("DEEPSEEKD_DAEMON");

	return named && *named ? named : DS_SBINDIR "/deepseekd";
}

int ds_program_wait(pid_t pid, const char *name, struct ds_error *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ds_fail(err, -EREMOTEIO, "%s was lost: %s", name, strerror(errno));
	if (!WIFEXITED(status))
		return ds_fail(err, -EREMOTEIO, "%s was killed by signal %d", name, WTERMSIG(status));
	return WEXITSTATUS(status);
}

/* What is no UTF-8 is not lost: its bytes become question marks. */
static json_t *line_of(char *text)
{
	size_t size = strcspn(text, "\n");
	json_t *line = json_stringn(text, size);

	for (size_t i = 0; !line && i < size; i++)
		text[i] = (text[i] & 0x80) || !text[i] ? '?' : text[i];
	return line ? line : json_stringn(text, size);
}

int ds_program_lines(const char *const *argv, json_t **out, struct ds_error *err)
{
	posix_spawn_file_actions_t actions;
	json_t *lines = json_array();
	char text[LINE_MAX_SIZE];
	int fds[2], r;
	pid_t pid;
	FILE *f;

	if (!lines || pipe2(fds, O_CLOEXEC) < 0) {
		json_decref(lines);
		return ds_fail(err, -EREMOTEIO, "no pipe: %s", strerror(errno));
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	f = fdopen(fds[0], "r");
	while (r == 0 && f && fgets(text, sizeof(text), f))
		json_array_append_new(lines, line_of(text));
	if (f)
		fclose(f);
	else
		close(fds[0]);
	r = r ? ds_fail(err, r == ENOENT ? -ENOENT : -EREMOTEIO, "%s: %s", argv[0], strerror(r))
	      : ds_program_wait(pid, argv[0], err);
	if (r < 0)
		json_decref(lines);
	else
		*out = lines;
	return r;
}

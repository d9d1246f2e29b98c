/* loader.c - starts ds-loader with all plugins of the installation, hands it the files of a path, and takes its answer.
 */
#include "loader.h"

#include "files.h"
#include "message.h"
#include "spawn-helper.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define MAX_PLUGINS 256

/* The command line: ds-loader --caller --plugin-dir DIR --plugin NAME... */
struct command {
	char *program;
	const char *dir;
	char *names[MAX_PLUGINS];
	size_t n_names;
	const char *argv[4 + 2 * MAX_PLUGINS + 1];
};

static void command_deinit(struct command *c)
{
	free(c->program);
	for (size_t i = 0; i < c->n_names; i++)
		free(c->names[i]);
}

static void end_of_loader(const pid_t *pid)
{
	if (*pid > 0)
		waitpid(*pid, NULL, 0);
}

static void json_release(json_t **json)
{
	json_decref(*json);
}

static const char *place(const char *variable, const char *otherwise)
{
	const char *named = getenv(variable);

	return named && *named ? named : otherwise;
}

/* All plugins there are; ds-loader refuses those that must not run. */
static int find_plugins(struct command *c, struct ds_error *err)
{
	DIR *d = opendir(c->dir);
	struct dirent *entry;
	int r = 0;

	if (!d)
		return ds_fail(err, -EREMOTEIO, "plugins directory %s: %s", c->dir, strerror(errno));
	while (r == 0 && (entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');

		if (entry->d_name[0] == '.' || !dot || strcmp(dot, ".so") != 0 || c->n_names == MAX_PLUGINS)
			continue;
		c->names[c->n_names] = strndup(entry->d_name, (size_t)(dot - entry->d_name));
		if (!c->names[c->n_names++])
			r = ds_fail(err, -ENOMEM, "no memory for a command line");
	}
	closedir(d);
	if (r == 0 && c->n_names == 0)
		r = ds_fail(err, -EREMOTEIO, "plugins directory %s: no plugins in it", c->dir);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int make_command(struct command *c, struct ds_error *err)
{
	size_t n = 0;
	int r;

	c->dir = place("DEEPSEEKD_PLUGIN_DIR", PLUGINDIR);
	if (asprintf(&c->program, "%s/ds-loader", place("DEEPSEEKD_LIBEXEC_DIR", HELPERDIR)) < 0) {
		c->program = NULL;
		return ds_fail(err, -ENOMEM, "no memory for a command line");
	}
	r = find_plugins(c, err);
	if (r < 0)
		return r;
	qsort(c->names, c->n_names, sizeof(c->names[0]), by_name);
	c->argv[n++] = c->program;
	c->argv[n++] = "--caller";
	c->argv[n++] = "--plugin-dir";
	c->argv[n++] = c->dir;
	for (size_t i = 0; i < c->n_names; i++) {
		c->argv[n++] = "--plugin";
		c->argv[n++] = c->names[i];
	}
	return 0;
}

static int send_json(int socket, uint16_t type, const json_t *json, const int *fds, unsigned n_fds,
		     struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r;

	if (json && !text)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_message_send(socket, type, 0, text, text ? strlen(text) : 0, fds, n_fds);
	if (r == -EMSGSIZE)
		return ds_fail(err, -EFBIG, "the input is longer than ds-loader takes at once (%u MiB as JSON)",
			       DS_MESSAGE_MAX >> 20);
	return r < 0 ? ds_fail(err, r, "ds-loader cannot be asked: %s", strerror(-r)) : 0;
}

static int send_files(int socket, const struct ds_files *files, struct ds_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < files->n; i += DS_MESSAGE_FDS) {
		size_t n = files->n - i < DS_MESSAGE_FDS ? files->n - i : DS_MESSAGE_FDS;
		json_t *names = json_array();
		ds_cleanup(json_release) json_t *json = json_pack("{s:o}", "names", names);

		for (size_t j = 0; r == 0 && j < n; j++)
			if (json_array_append_new(names, json_string(files->names[i + j])) < 0)
				r = ds_fail(err, -EILSEQ, "%s: its name is not UTF-8", files->names[i + j]);
		if (r == 0)
			r = send_json(socket, DS_MSG_FILES, json, files->fds + i, (unsigned)n, err);
	}
	return r;
}

/* The exit code says little of what is wrong with a file; only that it is not there is told apart, and what is wrong
 * with the command line. */
static int fail_as_told(const struct ds_message *m, struct ds_error *err)
{
	ds_cleanup(json_release) json_t *json = json_loadb((const char *)m->data, m->size, 0, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));
	const char *code = json_string_value(json_object_get(json, "code"));

	return ds_fail(err, code && !strcmp(code, "invalid_request") ? -EINVAL : -EREMOTEIO, "%s",
		       message ? message : "ds-loader failed without a reason");
}

/* 0: go on; 1: *@answer is there. */
static int take(const struct ds_loader_call *call, const struct ds_message *m, json_t **answer, struct ds_error *err)
{
	uint64_t progress[2];

	switch (m->type) {
	case DS_MSG_PROGRESS:
		if (m->size != sizeof(struct ds_progress))
			return ds_fail(err, -EPROTO, "ds-loader: a progress of %u bytes", m->size);
		memcpy(progress, m->data, sizeof(progress));
		if (call->on_progress)
			call->on_progress(call->self, progress[0], progress[1]);
		return 0;
	case DS_MSG_ANSWER:
		*answer = json_loadb((const char *)m->data, m->size, JSON_ALLOW_NUL, NULL);
		return *answer ? 1 : ds_fail(err, -EPROTO, "ds-loader: its answer is not JSON");
	case DS_MSG_FAILED:
		return fail_as_told(m, err);
	default:
		return ds_fail(err, -EPROTO, "ds-loader: message %u does not belong here", m->type);
	}
}

/* The loader has closed its channel without an answer: say how it ended. */
static int fail_as_ended(pid_t *pid, struct ds_error *err)
{
	int status = 0;

	waitpid(*pid, &status, 0);
	*pid = 0;
	if (WIFSIGNALED(status))
		return ds_fail(err, -EREMOTEIO, "ds-loader was killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	return ds_fail(err, -EREMOTEIO, "ds-loader exited with %d before it had an answer", WEXITSTATUS(status));
}

/* The signals that end a program, held back so that what is begun can be undone: blocked from here on, and readable. The
 * loader inherits the mask: it is not for a terminal to end it. */
struct interrupts {
	sigset_t before;
	int fd;
};

static void interrupts_init(struct interrupts *i)
{
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, &i->before);
	i->fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void interrupts_deinit(struct interrupts *i)
{
	struct signalfd_siginfo info;

	/* what was seen has been obeyed, and must not come again */
	while (i->fd >= 0 && read(i->fd, &info, sizeof(info)) == sizeof(info))
		;
	if (i->fd >= 0)
		close(i->fd);
	sigprocmask(SIG_SETMASK, &i->before, NULL);
}

/* The next message, or -EINTR. */
static int receive(int socket, const struct interrupts *i, struct ds_message *m, struct ds_error *err)
{
	struct pollfd p[] = {{.fd = socket, .events = POLLIN}, {.fd = i->fd, .events = POLLIN}};

	while (poll(p, DS_ARRAY_SIZE(p), -1) < 0 && errno == EINTR)
		;
	if (p[1].revents & POLLIN)
		return ds_fail(err, -EINTR, "interrupted");
	return ds_message_receive(socket, m, err);
}

static int converse(const struct ds_loader_call *call, const struct ds_files *files, int socket,
		    const struct interrupts *interrupts, json_t **answer, struct ds_error *err)
{
	int r = send_files(socket, files, err);

	if (r == 0)
		r = send_json(socket, call->request, call->json, call->fd ? &call->fd : NULL, call->fd ? 1 : 0, err);
	/* Who was gone before all was said may still have said why. */
	while (r == 0 || r == -EPIPE) {
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};

		r = receive(socket, interrupts, &m, err);
		if (r < 0)
			return r;
		r = take(call, &m, answer, err);
	}
	return r < 0 ? r : 0;
}

int ds_loader_run(const struct ds_loader_call *call, json_t **answer, struct ds_error *err)
{
	ds_cleanup(command_deinit) struct command command = {0};
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};
	ds_cleanup(end_of_loader) pid_t pid = 0;
	ds_cleanup(interrupts_deinit) struct interrupts interrupts = {.fd = -1};
	ds_cleanup(ds_closep) int socket = -1;
	int sockets[2], r;

	sigprocmask(SIG_SETMASK, NULL, &interrupts.before);

	r = ds_files_open(&files, call->path, err);
	if (r == 0)
		r = make_command(&command, err);
	if (r < 0)
		return r;
	r = ds_message_socketpair(sockets);
	if (r < 0)
		return ds_fail(err, r, "no channel for ds-loader: %s", strerror(-r));
	socket = sockets[0];
	interrupts_init(&interrupts);
	r = ds_spawn(command.argv, sockets[1], DS_SPAWN_SOCKET, NULL);
	close(sockets[1]);
	if (r < 0)
		return ds_fail(err, -EREMOTEIO, "%s: %s", command.program, strerror(-r));
	pid = r;
	r = converse(call, &files, socket, &interrupts, answer, err);
	if (r == -EINTR)
		kill(pid, SIGKILL);
	return r == -EPIPE ? fail_as_ended(&pid, err) : r;
}

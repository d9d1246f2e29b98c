/* child.c - see child.h. */
#include "child.h"

#include "spawn-helper.h"

#include <dirent.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define MAX_PLUGINS 256

/* The command line: PROGRAM --caller --plugin-dir DIR --plugin NAME... */
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

static void json_release(json_t **json)
{
	json_decref(*json);
}

static const char *place(const char *variable, const char *otherwise)
{
	const char *named = getenv(variable);

	return named && *named ? named : otherwise;
}

/* All plugins there are; a helper refuses those that must not run. */
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

static int make_command(struct command *c, const char *name, struct ds_error *err)
{
	size_t n = 0;
	int r;

	c->dir = place("DEEPSEEKD_PLUGIN_DIR", PLUGINDIR);
	if (asprintf(&c->program, "%s/%s", place("DEEPSEEKD_LIBEXEC_DIR", HELPERDIR), name) < 0) {
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

/* Blocked from here on, and readable. The child inherits the mask: it is not for a terminal to end it. */
static void hold_interrupts(struct ds_child *child)
{
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, &child->before);
	child->interrupts = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void let_interrupts_through(struct ds_child *child)
{
	struct signalfd_siginfo info;

	/* what was seen has been obeyed, and must not come again */
	while (child->interrupts >= 0 && read(child->interrupts, &info, sizeof(info)) == sizeof(info))
		;
	if (child->interrupts >= 0)
		close(child->interrupts);
	sigprocmask(SIG_SETMASK, &child->before, NULL);
}

int ds_child_start(struct ds_child *child, const char *name, struct ds_error *err)
{
	ds_cleanup(command_deinit) struct command command = {0};
	int sockets[2], r = make_command(&command, name, err);

	if (r < 0)
		return r;
	r = ds_message_socketpair(sockets);
	if (r < 0)
		return ds_fail(err, r, "no channel for %s: %s", name, strerror(-r));
	*child = (struct ds_child){.name = name, .socket = sockets[0]};
	hold_interrupts(child);
	r = ds_spawn(command.argv, sockets[1], DS_SPAWN_SOCKET, NULL);
	close(sockets[1]);
	if (r > 0) {
		child->pid = r;
		return 0;
	}
	let_interrupts_through(child);
	close(child->socket);
	*child = (struct ds_child){0};
	return ds_fail(err, -EREMOTEIO, "%s: %s", command.program, strerror(-r));
}

void ds_child_deinit(struct ds_child *child)
{
	if (!child->name)
		return;
	close(child->socket);
	if (child->pid > 0 && !child->said_all)
		kill(child->pid, SIGKILL);
	if (child->pid > 0)
		waitpid(child->pid, NULL, 0);
	let_interrupts_through(child);
	*child = (struct ds_child){0};
}

int ds_child_send(struct ds_child *child, uint16_t type, const json_t *json, const int *fds, unsigned n_fds,
		  struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r;

	if (json && !text)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_message_send(child->socket, type, 0, text, text ? strlen(text) : 0, fds, n_fds);
	if (r == -EMSGSIZE)
		return ds_fail(err, -EFBIG, "the input is longer than %s takes at once (%u MiB as JSON)", child->name,
			       DS_MESSAGE_MAX >> 20);
	return r < 0 ? ds_fail(err, r, "%s cannot be asked: %s", child->name, strerror(-r)) : 0;
}

int ds_child_send_files(struct ds_child *child, const struct ds_files *files, struct ds_error *err)
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
			r = ds_child_send(child, DS_MSG_FILES, json, files->fds + i, (unsigned)n, err);
	}
	return r;
}

int ds_child_receive(struct ds_child *child, struct ds_message *m, struct ds_error *err)
{
	struct pollfd p[] = {{.fd = child->socket, .events = POLLIN}, {.fd = child->interrupts, .events = POLLIN}};

	while (poll(p, DS_ARRAY_SIZE(p), -1) < 0 && errno == EINTR)
		;
	if (p[1].revents & POLLIN)
		return ds_fail(err, -EINTR, "interrupted");
	return ds_message_receive(child->socket, m, err);
}

/* The exit code says little of what is wrong with a file; only that it is not there is told apart, and what is wrong with
 * the command line. */
static int fail_as_told(const struct ds_child *child, const struct ds_message *m, struct ds_error *err)
{
	ds_cleanup(json_release) json_t *json = json_loadb((const char *)m->data, m->size, 0, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));
	const char *code = json_string_value(json_object_get(json, "code"));

	if (message)
		return ds_fail(err, code && !strcmp(code, "invalid_request") ? -EINVAL : -EREMOTEIO, "%s", message);
	return ds_fail(err, -EREMOTEIO, "%s failed without a reason", child->name);
}

/* It has closed its channel without an answer: say how it ended. */
static int fail_as_ended(struct ds_child *child, struct ds_error *err)
{
	int status = 0;

	waitpid(child->pid, &status, 0);
	child->pid = 0;
	if (WIFSIGNALED(status))
		return ds_fail(err, -EREMOTEIO, "%s was killed by signal %d (%s)", child->name, WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	return ds_fail(err, -EREMOTEIO, "%s exited with %d before it had an answer", child->name, WEXITSTATUS(status));
}

static int take_progress(const struct ds_child *child, const struct ds_message *m, ds_child_progress *progress,
			 void *self, struct ds_error *err)
{
	struct ds_progress p;

	if (m->size != sizeof(p))
		return ds_fail(err, -EPROTO, "%s: a progress of %u bytes", child->name, m->size);
	memcpy(&p, m->data, sizeof(p));
	if (progress)
		progress(self, p.done, p.total);
	return 0;
}

int ds_child_await(struct ds_child *child, uint16_t type, bool last, ds_child_progress *progress, void *self,
		   struct ds_message *m, struct ds_error *err)
{
	for (;;) {
		int r = ds_child_receive(child, m, err);

		if (r == -EPIPE)
			return fail_as_ended(child, err);
		if (r < 0)
			return r;
		child->said_all = m->type == DS_MSG_FAILED || (m->type == type && last);
		if (m->type == type)
			return 0;
		if (m->type == DS_MSG_FAILED)
			return fail_as_told(child, m, err);
		if (m->type != DS_MSG_PROGRESS)
			return ds_fail(err, -EPROTO, "%s: message %u does not belong here", child->name, m->type);
		r = take_progress(child, m, progress, self, err);
		if (r < 0)
			return r;
		ds_message_deinit(m);
		*m = (struct ds_message){0};
	}
}

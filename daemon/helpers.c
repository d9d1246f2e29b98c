/* helpers.c - starts, feeds, watches and reaps helper processes. */
#include "helpers.h"
#include "groups.h"
#include "log.h"
#include "sandbox.h"
#include "spawn-helper.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A message that did not fit the socket yet. */
struct pending {
	struct pending *next;
	uint16_t type;
	uint64_t request;
	unsigned n_fds;
	int *fds;
	size_t size;
	uint8_t data[];
};

struct ds_helper {
	struct ds_helper *next;
	struct ds_helpers *pool;
	pid_t pid;
	int pidfd; /* by which it is killed: the broker may signal no process by its number */
	int exit_status; /* once it is reaped; -1: a signal ended it */
	int fd; /* channel or read end of its output; -1: closed */
	struct event *readable, *writable;
	struct event *grace; /* between its last word, or the end of its channel, and its own */
	struct pending *first, **last;
	const struct ds_helper_events *events;
	void *arg;
	char name[32];
	char reason[256]; /* why it was killed; "": it was not */
};

struct ds_helpers {
	struct event_base *base;
	struct event *child;
	struct ds_groups *groups; /* NULL: all stay in the broker's */
	struct ds_helper *list;
};

#define MESSAGES_A_TURN 16 /* then others get their turn */
#define GRACE_S 5
#define MESSAGES_LEFT 4096 /* more than a channel holds: a child of a helper may go on speaking after its end */

static void free_pending(struct pending *p)
{
	for (unsigned i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	free(p->fds);
	free(p);
}

static void close_channel(struct ds_helper *h)
{
	struct pending *p;

	if (h->readable)
		event_free(h->readable);
	if (h->writable)
		event_free(h->writable);
	h->readable = h->writable = NULL;
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	while ((p = h->first)) {
		h->first = p->next;
		free_pending(p);
	}
	h->last = &h->first;
}

void ds_helper_kill(struct ds_helper *h, const char *reason)
{
	if (reason && !h->reason[0])
		snprintf(h->reason, sizeof(h->reason), "%s", reason);
	if (h->pid > 0 && h->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, h->pidfd, SIGKILL, NULL, 0);
}

void ds_helper_expect_end(struct ds_helper *h)
{
	if (!event_pending(h->grace, EV_TIMEOUT, NULL))
		event_add(h->grace, &(struct timeval){.tv_sec = GRACE_S});
}

int ds_helper_exit_status(const struct ds_helper *h)
{
	return h->exit_status;
}

pid_t ds_helper_pid(const struct ds_helper *h)
{
	return h->pid;
}

/* Hand over one message. 1: there was one; 0: none; negative: the channel has ended. */
static int receive_one(struct ds_helper *h)
{
	struct ds_message message = {0};
	struct ds_error err;
	int r = ds_message_receive(h->fd, &message, &err);

	if (r == -EAGAIN)
		return 0;
	if (r == 0)
		r = h->events->on_message(h->arg, &message, &err);
	ds_message_deinit(&message);
	if (r == 0)
		return 1;
	if (r != -EPIPE) {
		ds_log(LOG_ERR, "%s (pid %d) broke the rules: %s", h->name, (int)h->pid, err.text);
		ds_helper_kill(h, err.text);
	}
	return r;
}

static int read_output(struct ds_helper *h)
{
	char text[4096];
	ssize_t n = read(h->fd, text, sizeof(text));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	h->events->on_output(h->arg, text, n > 0 ? (size_t)n : 0);
	return n > 0 ? 1 : -EPIPE;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct ds_helper *h = arg;
	int r = 1;

	for (int i = 0; i < MESSAGES_A_TURN && r > 0 && h->fd >= 0; i++)
		r = h->events->on_output ? read_output(h) : receive_one(h);
	if (r < 0) {
		close_channel(h);
		ds_helper_expect_end(h);
	}
}

/* A helper that has nothing more to say and goes on living is of no use. */
static void on_grace(evutil_socket_t fd, short what, void *arg)
{
	ds_helper_kill(arg, "it had finished and did not exit");
}

static int send_now(struct ds_helper *h, struct pending *p)
{
	return ds_message_send(h->fd, p->type, p->request, p->data, p->size, p->fds, p->n_fds);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct ds_helper *h = arg;
	struct pending *p;

	while ((p = h->first)) {
		int r = send_now(h, p);

		if (r == -EAGAIN) {
			event_add(h->writable, NULL);
			return;
		}
		h->first = p->next;
		if (!h->first)
			h->last = &h->first;
		free_pending(p);
		if (r < 0 && r != -EPIPE) {
			ds_log(LOG_ERR, "%s (pid %d): a message cannot be sent: %s", h->name, (int)h->pid,
			       strerror(-r));
			ds_helper_kill(h, "a message could not be sent to it");
			return;
		}
	}
}

static struct pending *new_pending(uint16_t type, uint64_t request, const void *data, size_t size, const int *fds,
				   unsigned n_fds)
{
	struct pending *p = calloc(1, sizeof(*p) + size);

	if (!p)
		return NULL;
	p->type = type;
	p->request = request;
	p->size = size;
	if (size)
		memcpy(p->data, data, size);
	p->fds = n_fds ? calloc(n_fds, sizeof(*p->fds)) : NULL;
	for (unsigned i = 0; p->fds && i < n_fds; i++) {
		p->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (p->fds[i] < 0) {
			free_pending(p);
			return NULL;
		}
		p->n_fds = i + 1;
	}
	if (p->n_fds < n_fds) {
		free_pending(p);
		return NULL;
	}
	return p;
}

void ds_helper_send(struct ds_helper *h, uint16_t type, uint64_t request, const void *data, size_t size, const int *fds,
		    unsigned n_fds)
{
	struct pending *p;
	int r = -EAGAIN;

	if (h->fd < 0)
		return;
	if (!h->first)
		r = ds_message_send(h->fd, type, request, data, size, fds, n_fds);
	if (r == 0 || r == -EPIPE)
		return;
	p = r == -EAGAIN ? new_pending(type, request, data, size, fds, n_fds) : NULL;
	if (!p) {
		ds_log(LOG_ERR, "%s (pid %d): message %u cannot be sent: %s", h->name, (int)h->pid, type, strerror(-r));
		ds_helper_kill(h, "a message could not be sent to it");
		return;
	}
	*h->last = p;
	h->last = &p->next;
	event_add(h->writable, NULL);
}

static struct ds_helper *free_helper(struct ds_helper *h)
{
	close_channel(h);
	if (h->grace)
		event_free(h->grace);
	if (h->pidfd >= 0)
		close(h->pidfd);
	free(h);
	return NULL;
}

/* @fd is the broker's end; on failure it is closed. */
static struct ds_helper *new_helper(struct ds_helpers *pool, int fd, const char *path,
				    const struct ds_helper_events *events, void *arg)
{
	struct ds_helper *h = calloc(1, sizeof(*h));
	const char *slash = strrchr(path, '/');

	if (!h) {
		close(fd);
		return NULL;
	}
	*h = (struct ds_helper){.pool = pool, .fd = fd, .pidfd = -1, .events = events, .arg = arg, .last = &h->first};
	snprintf(h->name, sizeof(h->name), "%s", slash ? slash + 1 : path);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	h->readable = event_new(pool->base, fd, EV_READ | EV_PERSIST, on_readable, h);
	h->writable = event_new(pool->base, fd, EV_WRITE, on_writable, h);
	h->grace = evtimer_new(pool->base, on_grace, h);
	if (!h->readable || !h->writable || !h->grace || event_add(h->readable, NULL) < 0)
		return free_helper(h);
	return h;
}

int ds_helper_start(struct ds_helper **out, struct ds_helpers *helpers, const char *const *argv,
		    const struct ds_helper_events *events, void *arg, struct ds_error *err)
{
	ds_cleanup(ds_closep) int theirs = -1;
	struct ds_helper *h;
	int ends[2], r;

	r = events->on_output ? (pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0) : ds_message_socketpair(ends);
	if (r < 0)
		return ds_fail(err, r, "no channel for %s: %s", argv[0], strerror(-r));
	theirs = ends[1];
	h = new_helper(helpers, ends[0], argv[0], events, arg);
	if (!h)
		return ds_fail(err, -ENOMEM, "no memory for %s", argv[0]);
	r = ds_spawn(argv, theirs, events->on_output ? STDOUT_FILENO : DS_SPAWN_SOCKET, &h->pidfd);
	if (r < 0) {
		free_helper(h);
		return ds_fail(err, r, "%s cannot be executed: %s", argv[0], strerror(-r));
	}
	h->pid = r;
	ds_groups_add(helpers->groups, h->name, h->pid);
	h->next = helpers->list;
	helpers->list = h;
	ds_log(LOG_DEBUG, "%s started, pid %d", h->name, (int)h->pid);
	*out = h;
	return 0;
}

/* It is reaped: hand over what it still said, then say that it ended. */
static void end_helper(struct ds_helper *h, int status)
{
	char reason[320];
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !h->reason[0];
	int r = 1;

	ds_groups_remove(h->pool->groups, h->name, h->pid);
	h->pid = -1;
	h->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	for (int i = 0; i < MESSAGES_LEFT && r > 0 && h->fd >= 0; i++)
		r = h->events->on_output ? read_output(h) : receive_one(h);
	if (h->reason[0])
		snprintf(reason, sizeof(reason), "%s was killed: %s", h->name, h->reason);
	else if (h->exit_status == DS_EXIT_FORBIDDEN || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS))
		snprintf(reason, sizeof(reason), "%s was ended by its sandbox: it tried a system call it does not have", h->name);
	else if (WIFSIGNALED(status))
		snprintf(reason, sizeof(reason), "%s was killed by signal %d (%s)", h->name, WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(reason, sizeof(reason), "%s exited with %d", h->name, WEXITSTATUS(status));
	ds_log(clean ? LOG_DEBUG : LOG_WARNING, "%s", reason);
	h->events->on_exit(h->arg, clean, reason);
	free_helper(h);
}

static void on_child(evutil_socket_t fd, short what, void *arg)
{
	struct ds_helpers *pool = arg;
	struct ds_helper **at = &pool->list;

	while (*at) {
		struct ds_helper *h = *at;
		int status;

		if (waitpid(h->pid, &status, WNOHANG) == h->pid) {
			*at = h->next;
			end_helper(h, status);
			at = &pool->list; /* on_exit may have started another */
		} else {
			at = &h->next;
		}
	}
}

int ds_helpers_new(struct ds_helpers **out, struct event_base *base, struct ds_error *err)
{
	struct ds_helpers *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return ds_fail(err, -ENOMEM, "no memory");
	pool->base = base;
	pool->child = evsignal_new(base, SIGCHLD, on_child, pool);
	if (!pool->child || event_add(pool->child, NULL) < 0) {
		free(pool);
		return ds_fail(err, -ENOMEM, "no memory");
	}
	r = ds_groups_new(&pool->groups, "/proc/self/cgroup", "/sys/fs/cgroup", err);
	if (r < 0) {
		ds_helpers_free(pool);
		return r;
	}
	*out = pool;
	return 0;
}

struct ds_helpers *ds_helpers_free(struct ds_helpers *helpers)
{
	struct ds_helper *h;
	int status = 0;

	if (!helpers)
		return NULL;
	while ((h = helpers->list)) {
		helpers->list = h->next;
		ds_helper_kill(h, "the daemon ends");
		waitpid(h->pid, &status, 0);
		end_helper(h, status);
	}
	event_free(helpers->child);
	ds_groups_free(helpers->groups);
	free(helpers);
	return NULL;
}

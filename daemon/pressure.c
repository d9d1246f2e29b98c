/* pressure.c - the protocol of systemd's MEMORY_PRESSURE_WATCH, and the same files without systemd.
 *
 * A file of the kernel becomes ready with EPOLLPRI, which libevent does not know: such a descriptor is in an epoll set
 * of its own, whose descriptor libevent watches. A FIFO or a socket is simply read. */
#include "pressure.h"
#include "log.h"

#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Tasks waited for memory for 200 ms of the last 2 s; windows that are no multiple of 2 s take a privilege. */
#define TRIGGER "some 200000 2000000"

struct ds_pressure {
	int fd, set; /* set: -1, unless the file is one of the kernel's */
	struct event *readable;
	void (*on_pressure)(void *arg);
	void *arg;
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct ds_pressure *p = arg;
	struct epoll_event ready;
	char text[256];
	ssize_t n = 1;

	if (p->set >= 0) {
		if (epoll_wait(p->set, &ready, 1, 0) < 1)
			return;
		if (ready.events & EPOLLERR) { /* its group is gone */
			event_del(p->readable);
			return;
		}
	} else {
		n = read(p->fd, text, sizeof(text));
		if (n == 0) { /* nobody will say more */
			event_del(p->readable);
			return;
		}
	}
	if (n > 0)
		p->on_pressure(p->arg);
}

static int digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

ssize_t ds_pressure_decode(const char *text, uint8_t *out, size_t size)
{
	size_t length = strcspn(text, "="), n = 0;
	uint32_t bits = 0;

	for (size_t i = 0; i < length; i++) {
		int d = digit(text[i]);

		if (d < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)d;
		if (i % 4 == 0)
			continue;
		if (n == size)
			return -EINVAL;
		out[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	return length % 4 == 1 || strlen(text + length) > 2 ? -EINVAL : (ssize_t)n;
}

static int open_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	ds_cleanup(ds_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : ds_steal_fd(&fd);
}

/* Open @path and write @trigger to it. *@is_kernels: it is a file that is ready with EPOLLPRI. Both for reading and
 * writing: a FIFO then stays open while nobody writes. */
static int open_file(const char *path, const void *trigger, size_t size, bool *is_kernels)
{
	ds_cleanup(ds_closep) int fd = -1;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	*is_kernels = S_ISREG(st.st_mode);
	fd = S_ISSOCK(st.st_mode) ? open_socket(path) : open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return S_ISSOCK(st.st_mode) ? fd : -errno;
	if (size > 0 && !S_ISFIFO(st.st_mode) && write(fd, trigger, size) < 0)
		return -errno;
	return ds_steal_fd(&fd);
}

/* The memory.pressure of the group of version 2 that this process is in. */
static bool own_group(char *path, size_t size)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "0::", 3) && strcmp(line, "0::/") &&
			(size_t)snprintf(path, size, "/sys/fs/cgroup%s/memory.pressure", line + 3) < size;
	}
	if (file)
		fclose(file);
	return found;
}

/* What systemd named. -ENOENT: nothing. */
static int open_named(bool *is_kernels)
{
	const char *path = getenv("MEMORY_PRESSURE_WATCH"), *text = getenv("MEMORY_PRESSURE_WRITE");
	uint8_t trigger[256];
	ssize_t size = text ? ds_pressure_decode(text, trigger, sizeof(trigger)) : 0;
	int fd;

	if (!path)
		return -ENOENT;
	fd = size < 0 ? (int)size : open_file(path, trigger, (size_t)size, is_kernels);
	if (fd < 0)
		ds_log(LOG_WARNING, "MEMORY_PRESSURE_WATCH %s: %s; memory pressure goes unnoticed", path, strerror(-fd));
	return fd == -ENOENT ? -ENODEV : fd;
}

static int open_any(bool *is_kernels)
{
	char path[PATH_MAX + 64];
	int fd = open_named(is_kernels);

	if (fd != -ENOENT)
		return fd;
	/* With the terminating zero, as the kernel wants it. */
	fd = own_group(path, sizeof(path)) ? open_file(path, TRIGGER, sizeof(TRIGGER), is_kernels) : -ENOENT;
	if (fd < 0)
		fd = open_file("/proc/pressure/memory", TRIGGER, sizeof(TRIGGER), is_kernels);
	if (fd < 0)
		ds_log(LOG_INFO, "memory pressure cannot be watched: %s", strerror(-fd));
	return fd;
}

/* Have libevent watch it, by way of an epoll set where need be. */
static int watch(struct ds_pressure *p, struct event_base *base, bool is_kernels)
{
	struct epoll_event urgent = {.events = EPOLLPRI};

	if (is_kernels) {
		p->set = epoll_create1(EPOLL_CLOEXEC);
		if (p->set < 0 || epoll_ctl(p->set, EPOLL_CTL_ADD, p->fd, &urgent) < 0)
			return -errno;
	}
	p->readable = event_new(base, is_kernels ? p->set : p->fd, EV_READ | EV_PERSIST, on_readable, p);
	return p->readable && event_add(p->readable, NULL) == 0 ? 0 : -ENOMEM;
}

int ds_pressure_new(struct ds_pressure **out, struct event_base *base, void (*on_pressure)(void *arg), void *arg,
		    struct ds_error *err)
{
	const char *path = getenv("MEMORY_PRESSURE_WATCH");
	struct ds_pressure *p;
	bool is_kernels = false;
	int fd, r;

	*out = NULL;
	if (path && !strcmp(path, "/dev/null"))
		return 0;
	fd = open_any(&is_kernels);
	if (fd < 0)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p) {
		close(fd);
		return ds_fail(err, -ENOMEM, "no memory");
	}
	*p = (struct ds_pressure){.fd = fd, .set = -1, .on_pressure = on_pressure, .arg = arg};
	r = watch(p, base, is_kernels);
	if (r < 0) { /* a file that never becomes ready, such as an ordinary one */
		ds_log(LOG_WARNING, "memory pressure cannot be watched: %s", strerror(-r));
		ds_pressure_free(p);
		return 0;
	}
	*out = p;
	return 0;
}

struct ds_pressure *ds_pressure_free(struct ds_pressure *p)
{
	if (!p)
		return NULL;
	if (p->readable)
		event_free(p->readable);
	if (p->set >= 0)
		close(p->set);
	close(p->fd);
	free(p);
	return NULL;
}

uint64_t ds_pressure_oom_kills(const char *path)
{
	static const char key[] = "oom_kill ";
	FILE *file = fopen(path, "re");
	uint64_t n = 0;
	char line[256];

	while (file && n == 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, sizeof(key) - 1))
			n = strtoull(line + sizeof(key) - 1, NULL, 10);
	if (file)
		fclose(file);
	return n;
}

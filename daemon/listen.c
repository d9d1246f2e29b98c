/* listen.c - the listening sockets. */
#include "listen.h"
#include "units.h"

#include <grp.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 512
#define METRICS_MODE 0600 /* for root and the daemon's user: it tells when others use a model */

/* A socket file nobody listens on is left over; one that answers belongs to another daemon. */
static int remove_stale(const struct sockaddr_un *address, struct ds_error *err)
{
	ds_cleanup(ds_closep) int probe = -1;
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return ds_fail(err, -EEXIST, "%s is there and is not a socket", address->sun_path);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return ds_fail(err, -errno, "no socket: %s", strerror(errno));
	if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
		return ds_fail(err, -EADDRINUSE, "another daemon answers on %s", address->sun_path);
	unlink(address->sun_path);
	return 0;
}

static int apply_rights(const struct ds_config *config, const char *path, unsigned mode, struct ds_error *err)
{
	const struct group *group;

	if (chmod(path, mode) < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (!config->group[0])
		return 0;
	group = getgrnam(config->group);
	if (!group)
		return ds_fail(err, -ENOENT, "listen.group: there is no group \"%s\"", config->group);
	if (chown(path, (uid_t)-1, group->gr_gid) < 0)
		return ds_fail(err, -errno, "%s cannot be given to group %s: %s", path, config->group, strerror(errno));
	return 0;
}

static int make_directory(const char *dir, struct ds_error *err)
{
	char path[PATH_MAX];

	/* The parents of $XDG_RUNTIME_DIR/deepseekd are there; those of ~/.cache/deepseekd may not be. */
	snprintf(path, sizeof(path), "%s", dir);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* Listen at @path; the descriptor. */
static int open_at(const struct ds_config *config, const char *path, unsigned mode, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int r;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path))
		return ds_fail(err, -ENAMETOOLONG, "the path of the socket is longer than %zu bytes: %s",
			       sizeof(address.sun_path) - 1, path);
	r = remove_stale(&address, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ds_fail(err, -errno, "no socket: %s", strerror(errno));
	mask = umask(0177); /* nobody else may connect before the rights are as they should be */
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return ds_fail(err, r, "%s: %s", path, strerror(-r));
	r = apply_rights(config, path, mode, err);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (r < 0) {
		unlink(path);
		return r;
	}
	return ds_steal_fd(&fd);
}

static int open_api(struct ds_listening *out, const struct ds_config *config, const char *runtime_dir,
		    struct ds_error *err)
{
	char path[PATH_MAX];
	int r = 0;

	if (config->socket[0]) {
		snprintf(path, sizeof(path), "%s", config->socket);
	} else {
		if (snprintf(path, sizeof(path), "%s/api.sock", runtime_dir) >= (int)sizeof(path))
			return ds_fail(err, -ENAMETOOLONG, "the runtime directory has too long a path");
		r = make_directory(runtime_dir, err);
	}
	if (r == 0)
		r = out->api = open_at(config, path, config->mode, err);
	if (r >= 0)
		memcpy(out->api_path, path, sizeof(path));
	return r;
}

static int open_metrics(struct ds_listening *out, const struct ds_config *config, struct ds_error *err)
{
	out->metrics = open_at(config, config->metrics, METRICS_MODE, err);
	if (out->metrics >= 0)
		snprintf(out->metrics_path, sizeof(out->metrics_path), "%s", config->metrics);
	return out->metrics;
}

void ds_listen_close(struct ds_listening *listening)
{
	if (listening->api >= 0)
		close(listening->api);
	if (listening->metrics >= 0)
		close(listening->metrics);
	if (listening->api_path[0])
		unlink(listening->api_path);
	if (listening->metrics_path[0])
		unlink(listening->metrics_path);
	listening->api = listening->metrics = -1;
	listening->api_path[0] = listening->metrics_path[0] = '\0';
}

int ds_listen_open(struct ds_listening *out, const struct ds_config *config, struct ds_passed *passed,
		   const char *runtime_dir, struct ds_error *err)
{
	int r = 0;

	*out = (struct ds_listening){.api = ds_passed_socket(passed, "api"), .metrics = ds_passed_socket(passed, "metrics")};
	if (out->api < 0)
		r = open_api(out, config, runtime_dir, err);
	if (r >= 0 && out->metrics < 0 && config->metrics[0])
		r = open_metrics(out, config, err);
	if (r < 0)
		ds_listen_close(out);
	return r < 0 ? r : 0;
}

int ds_listen_tcp(const struct ds_config *config, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	struct sockaddr_storage address;
	socklen_t size;
	int one = 1;

	if (ds_units_address(config->tcp, &address, &size) < 0)
		return ds_fail(err, -EINVAL, "listen.tcp: %.100s is no address", config->tcp);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0)
		return ds_fail(err, -errno, "listen.tcp: %.100s: %s", config->tcp, strerror(errno));
	return ds_steal_fd(&fd);
}

/* groups.c - control groups, version 2. Processes live in leaves only, so the broker leaves the delegated group before
 * controllers are switched on for those below it. */
#include "groups.h"
#include "log.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

struct ds_groups {
	int dir; /* the delegated group */
};

static int write_file(int dir, const char *name, const char *text)
{
	ds_cleanup(ds_closep) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* The path of this process's group, version 2, with @fs before it. */
static bool own_group(const char *proc, const char *fs, char *path, size_t size)
{
	FILE *file = fopen(proc, "re");
	char line[PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "0::/", 4) && (size_t)snprintf(path, size, "%s%s", fs, line + 3) < size;
	}
	if (file)
		fclose(file);
	return found;
}

/* systemd says so in an attribute of the directory. */
static bool is_delegated(const char *path)
{
	char value[2] = "";

	return getxattr(path, "user.delegate", value, sizeof(value)) == 1 && value[0] == '1';
}

/* Put @pid into the group @name below @dir, which is made. */
static int enter(int dir, const char *name, pid_t pid)
{
	char path[128], text[32];

	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/cgroup.procs", name);
	snprintf(text, sizeof(text), "%d", (int)pid);
	return write_file(dir, path, text);
}

int ds_groups_new(struct ds_groups **out, const char *proc, const char *fs, struct ds_error *err)
{
	static const char *const controllers[] = {"+memory", "+cpu", "+pids"};
	ds_cleanup(ds_closep) int dir = -1;
	char path[2 * PATH_MAX], *slash;
	int r;

	*out = NULL;
	if (!own_group(proc, fs, path, sizeof(path)))
		return 0;
	/* DelegateSubgroup= has us in a group below it already. */
	slash = strrchr(path, '/');
	if (!is_delegated(path) && slash && slash > path + strlen(fs))
		*slash = '\0';
	if (!is_delegated(path))
		return 0;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : enter(dir, "broker", getpid());
	if (r < 0) {
		ds_log(LOG_WARNING, "helpers have no control groups of their own: %s: %s", path, strerror(-r));
		return 0;
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(controllers); i++)
		write_file(dir, "cgroup.subtree_control", controllers[i]); /* those that there are */
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return ds_fail(err, -ENOMEM, "no memory");
	(*out)->dir = ds_steal_fd(&dir);
	return 0;
}

struct ds_groups *ds_groups_free(struct ds_groups *groups)
{
	if (groups)
		close(groups->dir);
	free(groups);
	return NULL;
}

static const char *group_name(char *out, size_t size, const char *name, pid_t pid)
{
	snprintf(out, size, "%s-%d", name, (int)pid);
	return out;
}

void ds_groups_add(struct ds_groups *groups, const char *name, pid_t pid)
{
	char text[64];
	int r = groups ? enter(groups->dir, group_name(text, sizeof(text), name, pid), pid) : 0;

	if (r < 0 && r != -ESRCH)
		ds_log(LOG_WARNING, "%s (pid %d) has no control group of its own: %s", name, (int)pid, strerror(-r));
}

void ds_groups_remove(struct ds_groups *groups, const char *name, pid_t pid)
{
	char text[64];

	if (groups)
		unlinkat(groups->dir, group_name(text, sizeof(text), name, pid), AT_REMOVEDIR);
}

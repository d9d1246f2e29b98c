/* cpus.c - see cpus.h.
 *
 * A quota is rounded down: a team with one thread too many is stopped as a whole, in every period. */
#include "cpus.h"

#include <deepseekd/base.h>

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

unsigned ds_cpus_allowed(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return sysconf(_SC_NPROCESSORS_ONLN) > 0 ? (unsigned)sysconf(_SC_NPROCESSORS_ONLN) : 1;
	n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}

static void closefp(FILE **file)
{
	if (*file)
		fclose(*file);
}

/* The first line of @directory/@name, false if there is none. */
static bool read_line(const char *directory, const char *name, char *line, int size)
{
	char path[PATH_MAX];
	ds_cleanup(closefp) FILE *file = NULL;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, name) >= sizeof(path))
		return false;
	file = fopen(path, "re");
	return file && fgets(line, size, file);
}

static unsigned whole_cpus(long long quota, long long period)
{
	if (quota <= 0 || period <= 0)
		return UINT_MAX;
	return quota < period ? 1 : quota / period > UINT_MAX ? UINT_MAX : (unsigned)(quota / period);
}

/* The quota of one group, version 2 or 1, whose files are in @directory. */
static unsigned group_quota(const char *directory)
{
	char line[128];
	long long quota, period;

	if (read_line(directory, "cpu.max", line, sizeof(line)))
		return sscanf(line, "%lld %lld", &quota, &period) == 2 ? whole_cpus(quota, period) : UINT_MAX;
	if (!read_line(directory, "cpu.cfs_quota_us", line, sizeof(line)) || sscanf(line, "%lld", &quota) != 1)
		return UINT_MAX;
	if (!read_line(directory, "cpu.cfs_period_us", line, sizeof(line)) || sscanf(line, "%lld", &period) != 1)
		return UINT_MAX;
	return whole_cpus(quota, period);
}

/* The smallest quota of the group @path below @mount and of those around it. In a container the path may not exist
 * there; the mount itself is then the container's own group. */
static unsigned path_quota(const char *mount, const char *path)
{
	char directory[PATH_MAX];
	size_t top = strlen(mount);
	unsigned least = UINT_MAX;

	if ((size_t)snprintf(directory, sizeof(directory), "%s%s", mount, path) >= sizeof(directory))
		return UINT_MAX;
	for (;;) {
		unsigned quota = group_quota(directory);
		char *slash = strrchr(directory + top, '/');

		least = quota < least ? quota : least;
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* Is "cpu" in the comma-separated list of controllers? */
static bool has_cpu(const char *controllers)
{
	for (const char *p = controllers; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, "cpu", 3) && (p[3] == '\0' || p[3] == ','))
			return true;
	return false;
}

unsigned ds_cpus_quota(const char *root)
{
	char path[PATH_MAX], mount[PATH_MAX], line[PATH_MAX];
	ds_cleanup(closefp) FILE *file = NULL;
	unsigned least = UINT_MAX;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	/* Lines are "0::/path" (version 2) and "N:controller,controller:/path" (version 1). */
	while (file && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
		unsigned quota;

		if (!group)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		controllers++;
		if (*controllers && !has_cpu(controllers))
			continue;
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup%s", root, *controllers ? "/cpu" : "");
		quota = path_quota(mount, group);
		least = quota < least ? quota : least;
	}
	return least;
}

static unsigned own_quota;

static void read_own_quota(void)
{
	own_quota = ds_cpus_quota("");
}

unsigned ds_cpus_usable(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned n_allowed = ds_cpus_allowed(), n_quota;

	/* Once: the first context is that of a vector, and later the process may open no file. */
	pthread_once(&once, read_own_quota);
	n_quota = own_quota;

	return n_quota < n_allowed ? n_quota : n_allowed;
}

/* doctor-machine.c - dsctl doctor on the machine: what the kernel offers, devices, disks. */
#include "doctor.h"
#include "output.h"

#include <fcntl.h>
#include <glob.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#define DISK_LEAST (256.0 * 1024 * 1024)

/* A model is sealed in a memfd so that no process can change it under another. */
static void check_seals(struct ds_doctor *d)
{
	int fd = memfd_create("dsctl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, 4096) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		ds_doctor_find(d, DS_HEALTH_FAIL,
			       "Linux 3.17 or newer is needed; in a container its filter must allow memfd_create",
			       "memory cannot be sealed: %s", strerror(errno));
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "memory can be sealed");
	if (fd >= 0)
		close(fd);
}

static void check_landlock(struct ds_doctor *d)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi > 0)
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "Landlock, version %ld", abi);
	else
		ds_doctor_find(d, DS_HEALTH_WARN,
			       errno == EOPNOTSUPP ? "add landlock to lsm= on the kernel's command line"
						   : "a kernel with CONFIG_SECURITY_LANDLOCK (5.13 or newer)",
			       "helpers are not confined by Landlock: %s", strerror(errno));
}

static void check_seccomp(struct ds_doctor *d)
{
	char text[128] = "";
	FILE *f = fopen("/proc/sys/kernel/seccomp/actions_avail", "re");

	if (f && !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	if (strstr(text, "kill_process"))
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "seccomp filters");
	else
		ds_doctor_find(d, DS_HEALTH_WARN, "a kernel with CONFIG_SECCOMP_FILTER (4.14 or newer)",
			       "helpers are not confined by seccomp filters");
}

void ds_doctor_kernel(struct ds_doctor *d)
{
	check_seals(d);
	check_landlock(d);
	check_seccomp(d);
}

/* Backends other than the processor's need a device that the daemon's user may open. */
static bool needs_devices(const struct ds_doctor *d)
{
	const json_t *plugin;
	size_t i;

	json_array_foreach (json_object_get(d->plugins, "plugins"), i, plugin) {
		const char *kind = json_string_value(json_object_get(plugin, "kind"));
		const char *name = json_string_value(json_object_get(plugin, "name"));

		if (kind && name && strcmp(kind, "backend") == 0 && strcmp(name, "backend-cpu"))
			return true;
	}
	return false;
}

void ds_doctor_devices(struct ds_doctor *d)
{
	bool needed = needs_devices(d);
	glob_t found = {0};

	glob("/dev/dri/renderD*", 0, NULL, &found);
	glob("/dev/nvidia[0-9]*", GLOB_APPEND, NULL, &found);
	glob("/dev/kfd", GLOB_APPEND, NULL, &found);
	if (!needed)
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "%ld processors, %zu other devices; no plugin uses those",
			       sysconf(_SC_NPROCESSORS_ONLN), (size_t)found.gl_pathc);
	else if (found.gl_pathc == 0)
		ds_doctor_find(d, DS_HEALTH_FAIL, "install its driver, or take its plugin out of plugins.load",
			       "a plugin computes on a device, and there is none");
	for (size_t i = 0; needed && i < found.gl_pathc; i++)
		if (!d->knows_user || ds_doctor_may(&d->user, found.gl_pathv[i], 6))
			ds_doctor_find(d, DS_HEALTH_OK, NULL, "%s", found.gl_pathv[i]);
		else
			ds_doctor_find(d, DS_HEALTH_FAIL,
				       "SupplementaryGroups=render video by systemctl edit deepseekd",
				       "%s may not be opened by %s", found.gl_pathv[i], d->user.name);
	globfree(&found);
}

/* The daemon's directory of work is its state directory. */
void ds_doctor_disk(struct ds_doctor *d)
{
	char link[64], dir[PATH_MAX], size[32];
	struct statvfs fs;
	double left;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)json_integer_value(json_object_get(d->status, "pid")));
	n = d->status ? readlink(link, dir, sizeof(dir) - 1) : -1;
	snprintf(dir + (n > 0 ? n : 0), 2, "%s", n > 0 ? "" : "/");
	if (statvfs(dir, &fs) < 0) {
		ds_doctor_find(d, DS_HEALTH_WARN, NULL, "%s: %s", dir, strerror(errno));
		return;
	}
	left = (double)fs.f_bavail * (double)fs.f_frsize;
	ds_output_size(size, sizeof(size), left);
	if (left < DISK_LEAST)
		ds_doctor_find(d, DS_HEALTH_WARN, "make room; models and logs need some", "%s: %s left", dir,
			       *size ? size : "0 B");
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "%s: %s left", dir, size);
}

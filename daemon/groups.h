/* groups.h - a control group for each helper, where systemd has delegated the service's own (Delegate=yes): what one helper
 * takes is counted, and ended, by itself. */
#pragma once

#include <deepseekd/base.h>

struct ds_groups;

/* Enter a group "broker" below the delegated one. *@out is NULL where nothing is delegated. @proc, @fs: /proc/self/cgroup
 * and /sys/fs/cgroup, but for tests. */
int ds_groups_new(struct ds_groups **out, const char *proc, const char *fs, struct ds_error *err);
struct ds_groups *ds_groups_free(struct ds_groups *groups); /* takes NULL, returns NULL */

/* Move the helper @pid, called @name, to a group of its own. A group that cannot be had is logged and not missed.
 * @groups may be NULL. */
void ds_groups_add(struct ds_groups *groups, const char *name, pid_t pid);
/* It is gone, and its group with it. */
void ds_groups_remove(struct ds_groups *groups, const char *name, pid_t pid);

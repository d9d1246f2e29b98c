/* spawn-helper.h - how the broker and dsctl start a helper executable. */
#pragma once

#include <deepseekd/base.h>

#define DS_SPAWN_SOCKET 3 /* the descriptor on which a helper finds the channel to who started it */

/* Execute @argv (NULL-terminated; the first is the path) with @fd as its descriptor @target, which is STDOUT_FILENO or
 * DS_SPAWN_SOCKET, and 0, 1 and 2 as they are here. It is killed when the calling process ends.
 * *@pidfd, unless @pidfd is NULL, is a descriptor of the process, the caller's to close.
 * Returns its process id, or the negative errno of what could not be executed. */
pid_t ds_spawn(const char *const *argv, int fd, int target, int *pidfd);

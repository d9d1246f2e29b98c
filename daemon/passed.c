/* passed.c - takes over the descriptors of systemd. */
#include "passed.h"

#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

int ds_passed_init(struct ds_passed *passed, struct ds_error *err)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return ds_fail(err, n, "the descriptors of systemd: %s", strerror(-n));
	*passed = (struct ds_passed){.names = names, .n = (size_t)n, .fds = calloc((size_t)n + 1, sizeof(int))};
	if (!passed->fds) {
		passed->n = 0;
		return ds_fail(err, -ENOMEM, "no memory for %d descriptors", n);
	}
	for (int i = 0; i < n; i++)
		passed->fds[i] = SD_LISTEN_FDS_START + i;
	return 0;
}

void ds_passed_deinit(struct ds_passed *passed)
{
	for (size_t i = 0; i < passed->n; i++)
		if (passed->fds[i] >= 0)
			close(passed->fds[i]);
	for (char **name = passed->names; name && *name; name++)
		free(*name);
	free(passed->names);
	free(passed->fds);
	*passed = (struct ds_passed){0};
}

int ds_passed_next(struct ds_passed *passed, size_t *at, const char *prefix, const char **name)
{
	for (; *at < passed->n; ++*at)
		if (passed->fds[*at] >= 0 && !strncmp(passed->names[*at], prefix, strlen(prefix))) {
			*name = passed->names[*at];
			return ds_steal_fd(&passed->fds[*at]);
		}
	return -1;
}

int ds_passed_socket(struct ds_passed *passed, const char *name)
{
	for (size_t i = 0; i < passed->n; i++)
		if (passed->fds[i] >= 0 && !strcmp(passed->names[i], name) &&
		    sd_is_socket(passed->fds[i], AF_UNSPEC, SOCK_STREAM, 1) > 0)
			return ds_steal_fd(&passed->fds[i]);
	return -ENOENT;
}

/* images.c - memfds of model images. */
#include "images.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

int ds_images_create(const char *name, uint64_t size, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	char label[128];

	snprintf(label, sizeof(label), "deepseekd-%s", name);
	fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return ds_fail(err, -errno, "no memfd for the image of %s: %s", name, strerror(errno));
	/* No x bits: else F_SEAL_EXEC would mean something else; and only the user who made it may open it again. */
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
		return ds_fail(err, -errno, "an image of %llu bytes for %s: %s", (unsigned long long)size, name,
			       strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return ds_fail(err, -errno, "sealing the size of the image of %s: %s", name, strerror(errno));
	return ds_steal_fd(&fd);
}

int ds_images_seal(int fd, struct ds_error *err)
{
	char path[64];
	int reader;

	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0)
		return ds_fail(err, -errno, "sealing the image against writing: %s", strerror(errno));
	/* A kernel that does not know F_SEAL_EXEC refuses the whole call, so it has one of its own. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC) < 0 && errno != EINVAL)
		return ds_fail(err, -errno, "sealing the mode of the image: %s", strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return ds_fail(err, -errno, "sealing the seals of the image: %s", strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return ds_fail(err, -errno, "reopening the image read-only: %s", strerror(errno));
	return reader;
}

/* files.c - opens the files of a registered checkpoint. */
#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void ds_files_deinit(struct ds_files *files)
{
	for (size_t i = 0; i < files->n; i++) {
		close(files->fds[i]);
		free(files->names[i]);
	}
	free(files->names);
	free(files->fds);
	*files = (struct ds_files){0};
}

static int add(struct ds_files *files, const char *name, int fd)
{
	char **names = reallocarray(files->names, files->n + 1, sizeof(*names));
	int *fds;

	if (!names)
		return -ENOMEM;
	files->names = names;
	fds = reallocarray(files->fds, files->n + 1, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	files->fds = fds;
	names[files->n] = strdup(name);
	if (!names[files->n])
		return -ENOMEM;
	fds[files->n++] = fd;
	return 0;
}

/* O_NONBLOCK: opening a FIFO that somebody put there must not wait. */
static int open_one(struct ds_files *files, int dir, const char *name, const char *path, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	const char *slash = strrchr(name, '/');
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return ds_fail(err, -errno, "%s%s%s: %s", path, *path ? "/" : "", name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ds_fail(err, -EINVAL, "%s%s%s: not a regular file", path, *path ? "/" : "", name);
	if (files->n >= DS_FILES_MAX)
		return ds_fail(err, -E2BIG, "%s: more than %d files", path, DS_FILES_MAX);
	r = add(files, slash ? slash + 1 : name, fd);
	if (r < 0)
		return ds_fail(err, r, "no memory for the files of %s", path);
	fd = -1;
	return 0;
}

static bool belongs(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	if (!strcmp(entry->d_name, "chat_template.jinja"))
		return true;
	return entry->d_name[0] != '.' && dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".json"));
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int open_directory(struct ds_files *files, const char *path, struct ds_error *err)
{
	ds_cleanup(closedirp) DIR *d = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!d)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	while (r == 0 && (entry = readdir(d)))
		if (belongs(entry))
			r = open_one(files, dirfd(d), entry->d_name, path, err);
	if (r == 0 && files->n == 0)
		r = ds_fail(err, -ENOENT, "%s: no *.safetensors or *.json in it", path);
	return r;
}

/* Few and nearly sorted already: a plain insertion keeps names and descriptors together. */
static void sort(struct ds_files *files)
{
	for (size_t i = 1; i < files->n; i++) {
		char *name = files->names[i];
		int fd = files->fds[i];
		size_t j = i;

		for (; j > 0 && strcmp(files->names[j - 1], name) > 0; j--) {
			files->names[j] = files->names[j - 1];
			files->fds[j] = files->fds[j - 1];
		}
		files->names[j] = name;
		files->fds[j] = fd;
	}
}

int ds_files_open(struct ds_files *files, const char *path, struct ds_error *err)
{
	struct ds_files found = {0};
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	r = S_ISDIR(st.st_mode) ? open_directory(&found, path, err) : open_one(&found, AT_FDCWD, path, "", err);
	if (r < 0) {
		ds_files_deinit(&found);
		return r;
	}
	sort(&found);
	*files = found;
	return 0;
}

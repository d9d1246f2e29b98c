/* mapped.c - remembers the files of a mapped model. */
#include "mapped.h"

#include <fcntl.h>
#include <image.h>
#include <string.h>
#include <sys/stat.h>

struct file {
	char *name;
	struct stat st;
};

struct ds_mapped {
	struct file *files; /* [n] */
	int *fds;	    /* [n] */
	unsigned n;
};

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* -1: there is no such name. */
static int find(const struct ds_files *files, const char *name)
{
	for (size_t i = 0; name && i < files->n; i++)
		if (!strcmp(files->names[i], name))
			return files->fds[i];
	return -1;
}

static int add(struct ds_mapped *m, const char *name, int fd, struct ds_error *err)
{
	struct file *file = &m->files[m->n];

	if (fd < 0)
		return ds_fail(err, -EPROTO, "the loader names a file that the model does not have");
	if (fstat(fd, &file->st) < 0)
		return ds_fail(err, -errno, "%s: %s", name, strerror(errno));
	m->fds[m->n] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (m->fds[m->n] < 0)
		return ds_fail(err, -errno, "%s cannot be kept open: %s", name, strerror(errno));
	m->n++; /* from here on it is freed */
	file->name = strdup(name);
	return file->name ? 0 : ds_fail(err, -ENOMEM, "no memory for the name of a file");
}

int ds_mapped_new(struct ds_mapped **out, const struct ds_files *files, const json_t *names, struct ds_error *err)
{
	ds_cleanup(ds_mapped_freep) struct ds_mapped *m = calloc(1, sizeof(*m));
	size_t n = json_array_size(names);
	int r = 0;

	if (n > DS_IMAGE_MAX_FILES)
		return ds_fail(err, -E2BIG, "a model mapped from %zu files, at most %d", n, DS_IMAGE_MAX_FILES);
	if (m) {
		m->files = calloc(n + 1, sizeof(*m->files));
		m->fds = calloc(n + 1, sizeof(*m->fds));
	}
	if (!m || !m->files || !m->fds)
		return ds_fail(err, -ENOMEM, "no memory for %zu files", n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		r = add(m, name, find(files, name), err);
	}
	if (r < 0)
		return r;
	*out = ds_steal(&m);
	return 0;
}

struct ds_mapped *ds_mapped_free(struct ds_mapped *mapped)
{
	if (!mapped)
		return NULL;
	for (unsigned i = 0; i < mapped->n; i++) {
		close(mapped->fds[i]);
		free(mapped->files[i].name);
	}
	free(mapped->files);
	free(mapped->fds);
	free(mapped);
	return NULL;
}

int ds_mapped_check(const struct ds_mapped *mapped, const char *path, struct ds_error *err)
{
	ds_cleanup(ds_files_deinit) struct ds_files now = {0};
	int r = ds_files_open(&now, path, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < mapped->n; i++) {
		int fd = find(&now, mapped->files[i].name);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0 || !is_same(&st, &mapped->files[i].st))
			return ds_fail(err, -ESTALE, "%s changed", mapped->files[i].name);
	}
	return 0;
}

int *ds_mapped_descriptors(const struct ds_mapped *mapped, const char *path, int image, unsigned *n, struct ds_error *err)
{
	unsigned n_files = mapped ? mapped->n : 0;
	int *fds;

	if (mapped && ds_mapped_check(mapped, path, err) < 0)
		return NULL;
	fds = calloc(1 + n_files, sizeof(*fds));
	if (!fds) {
		ds_fail(err, -ENOMEM, "no memory for the descriptors of an engine");
		return NULL;
	}
	fds[0] = image;
	for (unsigned i = 0; i < n_files; i++)
		fds[1 + i] = mapped->fds[i];
	*n = 1 + n_files;
	return fds;
}

/* files.c - from a path to the open files of a checkpoint. */
#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
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

/* The place of the number in PREFIX-00001-of-00003.gguf, and how many files there are; NULL: another name. */
static const char *split_number(const char *path, unsigned *n_files)
{
	static const char form[] = "-#####-of-#####.gguf";
	size_t size = strlen(path);
	const char *at = path + size - (sizeof(form) - 1);

	if (size < sizeof(form))
		return NULL;
	for (size_t i = 0; form[i]; i++)
		if (form[i] == '#' ? at[i] < '0' || at[i] > '9' : at[i] != form[i])
			return NULL;
	*n_files = (unsigned)strtoul(at + strlen("-#####-of-"), NULL, 10);
	return at;
}

/* Every file of the set that the split GGUF @path belongs to; @at is where its number begins. */
static int open_splits(struct ds_files *files, const char *path, const char *at, unsigned n_files, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *name = NULL;
	int r = 0;

	if (n_files == 0 || n_files > DS_FILES_MAX)
		return ds_fail(err, -EINVAL, "%s: a set of %u files, there may be 1 to %d", path, n_files,
			       DS_FILES_MAX);
	for (unsigned i = 1; r == 0 && i <= n_files; i++) {
		free(ds_steal(&name));
		if (asprintf(&name, "%.*s-%05u-of-%05u.gguf", (int)(at - path), path, i, n_files) < 0) {
			name = NULL;
			return ds_fail(err, -ENOMEM, "no memory for the files of %s", path);
		}
		r = open_one(files, AT_FDCWD, name, "", err);
	}
	return r;
}

static bool ends_with(const char *name, const char *end)
{
	size_t size = strlen(name), end_size = strlen(end);

	return name[0] != '.' && size > end_size && !strcmp(name + size - end_size, end);
}

static bool belongs(const char *name)
{
	return !strcmp(name, "chat_template.jinja") || ends_with(name, ".safetensors") || ends_with(name, ".json");
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* What a directory holds. A split GGUF is one model, named by its first part. */
struct contents {
	bool has_weights; /* a *.safetensors */
	size_t n_models;
	char least[NAME_MAX + 1], last[NAME_MAX + 1]; /* names of models, in order */
	char part[NAME_MAX + 1];		      /* a later part of a split one */
};

static void look_at(struct contents *c, const char *name)
{
	unsigned n;
	const char *number = split_number(name, &n);

	if (ends_with(name, ".safetensors"))
		c->has_weights = true;
	if (!ends_with(name, ".gguf"))
		return;
	if (number && strncmp(number, "-00001-", strlen("-00001-")) != 0) {
		snprintf(c->part, sizeof(c->part), "%s", name);
		return;
	}
	if (c->n_models == 0 || strcmp(name, c->least) < 0)
		snprintf(c->least, sizeof(c->least), "%s", name);
	if (c->n_models == 0 || strcmp(name, c->last) > 0)
		snprintf(c->last, sizeof(c->last), "%s", name);
	c->n_models++;
}

/* The GGUF in a directory that holds no other weights: there must be one. */
static int open_only(struct ds_files *files, const char *path, const struct contents *c, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *name = NULL;
	const char *number;
	unsigned n;

	if (c->n_models > 1)
		return ds_fail(err, -EINVAL, "%s: %zu GGUF models are in it, such as %s and %s; the path has to name one",
			       path, c->n_models, c->least, c->last);
	if (asprintf(&name, "%s/%s", path, c->n_models ? c->least : c->part) < 0) {
		name = NULL;
		return ds_fail(err, -ENOMEM, "no memory for the files of %s", path);
	}
	number = split_number(name, &n);
	return number ? open_splits(files, name, number, n, err) : open_one(files, AT_FDCWD, name, "", err);
}

static int open_directory(struct ds_files *files, const char *path, struct ds_error *err)
{
	ds_cleanup(closedirp) DIR *d = opendir(path);
	struct contents c = {0};
	struct dirent *entry;
	int r = 0;

	if (!d)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	while ((entry = readdir(d)))
		look_at(&c, entry->d_name);
	if (!c.has_weights && (c.n_models > 0 || c.part[0]))
		return open_only(files, path, &c, err);
	rewinddir(d);
	while (r == 0 && (entry = readdir(d)))
		if (belongs(entry->d_name))
			r = open_one(files, dirfd(d), entry->d_name, path, err);
	if (r == 0 && files->n == 0)
		r = ds_fail(err, -ENOENT, "%s: no *.safetensors, *.json or *.gguf in it", path);
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
	unsigned n_splits;
	const char *split = split_number(path, &n_splits);
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		r = open_directory(&found, path, err);
	else if (split)
		r = open_splits(&found, path, split, n_splits, err);
	else
		r = open_one(&found, AT_FDCWD, path, "", err);
	if (r < 0) {
		ds_files_deinit(&found);
		return r;
	}
	sort(&found);
	*files = found;
	return 0;
}

/* verb-quantize.c - dsctl quantize: writes a checkpoint as a GGUF file of another type. Runs as the caller.
 *
 * The file comes to be without a name, or with one that nobody looks for, and gets its own when it is whole: whatever
 * goes wrong before leaves nothing of it. */
#include "message.h"
#include "model.h"
#include "output.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct options {
	const char *type;
	bool force;
};

/* The new file. */
struct output {
	int fd;
	const char *path; /* where it will be */
	char *folder;     /* of it */
	char *temporary;  /* its name until then; NULL: it has none yet */
};

static void output_deinit(struct output *o)
{
	if (o->temporary)
		unlink(o->temporary);
	if (o->fd >= 0)
		close(o->fd);
	free(o->temporary);
	free(o->folder);
}

static int make_names(struct output *o, struct ds_error *err)
{
	const char *slash = strrchr(o->path, '/');

	o->folder = !slash ? strdup(".") : slash == o->path ? strdup("/") : strndup(o->path, (size_t)(slash - o->path));
	return o->folder ? 0 : ds_fail(err, -ENOMEM, "no memory");
}

/* A name beside the new file's, that no other run has. */
static char *new_temporary(const struct output *o)
{
	const char *slash = strrchr(o->path, '/');
	char *name;

	if (asprintf(&name, "%s/.%s.%d.part", o->folder, slash ? slash + 1 : o->path, (int)getpid()) < 0)
		return NULL;
	return name;
}

static int open_output(struct output *o, bool force, struct ds_error *err)
{
	struct stat st;
	int r = make_names(o, err);

	if (r < 0)
		return r;
	/* a link that leads nowhere is there, too */
	if ((stat(o->path, &st) == 0 || lstat(o->path, &st) == 0) && (!force || !S_ISREG(st.st_mode)))
		return ds_fail(err, -EINVAL,
			       S_ISREG(st.st_mode) ? "%s exists; --force replaces it"
						   : "%s exists and is not a regular file",
			       o->path);
	o->fd = open(o->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (o->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return ds_fail(err, -errno, "%s: %s", o->folder, strerror(errno));
	/* a file system without nameless files */
	o->temporary = new_temporary(o);
	if (!o->temporary)
		return ds_fail(err, -ENOMEM, "no memory");
	o->fd = open(o->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
	return o->fd < 0 ? ds_fail(err, -errno, "%s: %s", o->temporary, strerror(errno)) : 0;
}

/* The file is whole: on the disk first, then under its name. */
static int publish(struct output *o, bool force, struct ds_error *err)
{
	char self[32];

	if (fsync(o->fd) < 0)
		return ds_fail(err, -errno, "%s: %s", o->path, strerror(errno));
	if (!o->temporary) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", o->fd);
		o->temporary = new_temporary(o);
		if (!o->temporary || linkat(AT_FDCWD, self, AT_FDCWD, o->temporary, AT_SYMLINK_FOLLOW) < 0)
			return ds_fail(err, -errno, "%s: %s", o->path, strerror(errno));
	}
	if (renameat2(AT_FDCWD, o->temporary, AT_FDCWD, o->path, force ? 0 : RENAME_NOREPLACE) < 0)
		return ds_fail(err, -errno, "%s: %s", o->path, strerror(errno));
	free(o->temporary);
	o->temporary = NULL;
	return 0;
}

static void draw(void *self, uint64_t done, uint64_t total)
{
	char size[32];

	fprintf(stderr, "\r%3.0f%% of %s\033[K", total ? 100.0 * (double)done / (double)total : 100,
		ds_output_size(size, sizeof(size), (double)total));
	fflush(stderr);
}

static json_t *request_json(const char *type, const char *source)
{
	json_t *name = ds_model_name_of(source);

	return name ? json_pack("{s:s, s:o}", "type", type, "name", name) : json_pack("{s:s}", "type", type);
}

static int quantize(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(output_deinit) struct output output = {.fd = -1, .path = args[1]};
	ds_cleanup(ds_json_freep) json_t *request = NULL, *answer = NULL;
	bool terminal = ds_output_has_colour(stderr);
	const struct options *o = options;
	struct ds_loader_call call = {.path = args[0], .request = DS_MSG_QUANTIZE};
	char size[32];
	int r;

	if (!o->type)
		return ds_fail(err, -EINVAL, "--type TYPE is missing, for example q4_k_m or q8_0");
	request = request_json(o->type, args[0]);
	if (!request)
		return ds_fail(err, -EINVAL, "--type: this is not UTF-8");
	r = open_output(&output, o->force, err);
	if (r < 0)
		return r;
	call.json = request;
	call.fd = output.fd;
	call.on_progress = terminal ? draw : NULL;
	r = ds_loader_run(&call, &answer, err);
	if (terminal)
		fputs("\r\033[K", stderr);
	if (r == 0)
		r = publish(&output, o->force, err);
	if (r < 0)
		return r;
	if (client->json) {
		json_object_set_new(answer, "path", json_string(args[1]));
		json_object_set_new(answer, "type", json_string(o->type));
		return ds_output_json(answer, false, err);
	}
	fprintf(stderr, "%s: %.0f tensors, %s\n", args[1], json_number_value(json_object_get(answer, "tensors")),
		ds_output_size(size, sizeof(size), json_number_value(json_object_get(answer, "size"))));
	return 0;
}

static const struct ds_flag flags[] = {
	{"type", 0, DS_FLAG_TEXT, offsetof(struct options, type), "TYPE", "of the new file: q4_k_m, q8_0, f16, ..."},
	{"force", 'f', DS_FLAG_BOOL, offsetof(struct options, force), NULL, "replace the file that is there"},
	{0},
};

const struct ds_verb ds_verb_quantize = {
	.name = "quantize",
	.usage = "SRC DST --type TYPE",
	.help = "Write a checkpoint as a GGUF file of a smaller type",
	.flags = flags,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.max_args = 2,
	.run = quantize,
};

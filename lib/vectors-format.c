/* vectors-format.c - files in memory described to a builder that only takes notes; the real one is ds-loader's. */
#include "vectors-kinds.h"

#include <deepseekd/format.h>

#include <string.h>
#include <sys/mman.h>

#define MAX_FILES 16

struct notes {
	json_t *got; /* what the plugin said, in the keys of the output */
	uint32_t n_tensors;
	size_t n_files;
};

static int note_hparams(void *self, const struct ds_hparams *hparams, struct ds_error *err)
{
	struct notes *notes = self;
	size_t n = strnlen(hparams->architecture, sizeof(hparams->architecture));

	if (json_object_set_new(notes->got, "architecture", json_stringn(hparams->architecture, n)) < 0)
		return ds_fail(err, -EINVAL, "the architecture is not a text");
	return 0;
}

static int note_vocabulary(void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err)
{
	struct notes *notes = self;

	json_object_set_new(notes->got, "n_tokens", json_integer(vocabulary->n_tokens));
	return 0;
}

static int note_chat_template(void *self, const char *text, struct ds_error *err)
{
	struct notes *notes = self;
	json_t *json = json_string(text);

	if (!json)
		return ds_fail(err, -EINVAL, "the chat template is not UTF-8");
	json_object_set_new(notes->got, "chat_template", json);
	return 0;
}

static int note_tensor(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err)
{
	struct notes *notes = self;
	json_t *tensors = json_object_get(notes->got, "tensors"), *shape;

	if (desc->n_dims == 0 || desc->n_dims > DS_MAX_DIMS || json_object_get(tensors, desc->name))
		return ds_fail(err, -EINVAL, "tensor %s comes twice or has %u dimensions", desc->name, desc->n_dims);
	shape = json_array();
	for (uint32_t i = 0; i < desc->n_dims; i++)
		json_array_append_new(shape, json_integer((json_int_t)desc->shape[i]));
	json_object_set_new(tensors, desc->name, shape);
	*index = notes->n_tensors++;
	return 0;
}

static int note_part(void *self, const struct ds_part *part, struct ds_error *err)
{
	struct notes *notes = self;

	if (part->tensor >= notes->n_tensors || part->file >= notes->n_files)
		return ds_fail(err, -EINVAL, "a part is of tensor %u in file %u, which there is not", part->tensor,
			       part->file);
	return 0;
}

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

static int write_all(int fd, const void *data, size_t size)
{
	return write(fd, data, size) == (ssize_t)size ? 0 : -EIO;
}

static int write_hex(int fd, const char *hex)
{
	for (; *hex; hex += 2) {
		int high = digit(hex[0]), low = high < 0 ? -1 : digit(hex[1]);
		uint8_t byte;

		if (low < 0)
			return -EINVAL;
		byte = (uint8_t)(high << 4 | low);
		if (write_all(fd, &byte, 1) < 0)
			return -EIO;
	}
	return 0;
}

/* A file in memory with the content that @json says. */
static int make_file(const char *name, const json_t *json, struct ds_file *file, struct ds_error *err)
{
	const json_t *text = json_object_get(json, "text"), *hex = json_object_get(json, "hex");
	ds_cleanup(ds_closep) int fd = memfd_create("vector", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return ds_fail(err, -errno, "no file in memory: %s", strerror(errno));
	if (json_object_size(json) != 1 || !(json_is_string(text) || json_is_string(hex)))
		return ds_fail(err, -EINVAL, "file %.40s is neither {\"text\"} nor {\"hex\"}", name);
	r = text ? write_all(fd, json_string_value(text), json_string_length(text))
		 : write_hex(fd, json_string_value(hex));
	if (r < 0)
		return ds_fail(err, r, "file %.40s cannot be made", name);
	file->name = name;
	file->size = text ? json_string_length(text) : json_string_length(hex) / 2;
	file->fd = ds_steal_fd(&fd);
	return 0;
}

static int describe(const struct ds_vector_case *c, const struct ds_file *files, size_t n_files, json_t *got,
		    struct ds_error *err)
{
	const struct ds_format_ops *ops = c->entry->ops;
	struct notes notes = {got, 0, n_files};
	struct ds_builder builder = {
		.size = sizeof(builder),
		.self = &notes,
		.hparams = note_hparams,
		.vocabulary = note_vocabulary,
		.chat_template = note_chat_template,
		.tensor = note_tensor,
		.part = note_part,
	};

	if (!ops->recognizes(files, n_files))
		return ds_fail(err, -EINVAL, "not recognized");
	return ops->describe(c->host, files, n_files, &builder, err);
}

int ds_vector_format(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	json_t *files = json_object_get(c->input, "files"), *file;
	struct ds_file list[MAX_FILES];
	struct ds_error sentence = {""};
	const char *name;
	size_t n = 0;
	int r = ds_vector_keys(c->input, DS_VECTOR_KEYS("files"), err);

	if (r == 0 && (json_object_size(files) == 0 || json_object_size(files) > MAX_FILES))
		r = ds_fail(err, -EINVAL, "\"files\" is not an object of 1 to %d files", MAX_FILES);
	if (r == 0)
		json_object_foreach(files, name, file) {
			r = make_file(name, file, &list[n], err);
			if (r < 0)
				break;
			n++;
		}
	if (r == 0) {
		*got = json_pack("{s:s, s:{}}", "chat_template", "", "tensors");
		if (describe(c, list, n, *got, &sentence) < 0)
			json_object_set_new(*got, "error", json_string(sentence.text));
	}
	for (size_t i = 0; i < n; i++)
		close(list[i].fd);
	return r;
}

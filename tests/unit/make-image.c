/* make-image.c - for scripts: fills the image of a model as ds-loader does, and shows what is in it.
 *
 *     make-image gguf|safetensors FILE...     (the format, and the files of one model)
 *
 * Standard output: a line of JSON {"hparams": hex, "tensors": {name: [dtype, [shape...], offset, size]}}, then the
 * bytes of the tensors, which the offsets count from. A failure is a sentence on standard error and exit status 1. The
 * backend here stores rows as they are. */
#include "builder.h"
#include "fill.h"
#include "image.h"
#include "plugins.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAX_FILES 16

extern const struct ds_format_ops ds_gguf_ops, ds_safetensors_ops;

static const struct {
	const char *name;
	const struct ds_format_ops *ops;
} formats[] = {
	{"gguf", &ds_gguf_ops},
	{"safetensors", &ds_safetensors_ops},
};

static int plan(const struct ds_tensor_desc *t, enum ds_precision precision, struct ds_layout *layout,
		struct ds_error *err)
{
	uint64_t rows = 1;

	for (uint32_t i = 0; i + 1 < t->n_dims; i++)
		rows *= t->shape[i];
	layout->id = 0;
	layout->block_rows = 1;
	layout->block_size = ds_row_size(t->dtype, t->shape[t->n_dims - 1]);
	layout->size = rows * layout->block_size;
	return 0;
}

static const char *identity(void)
{
	return "rows";
}

static const struct ds_backend_ops backend = {.size = sizeof(backend), .plan = plan, .identity = identity};

static int on_progress(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	return 0;
}

static int open_files(struct ds_file *files, char **paths, int n, struct ds_error *err)
{
	for (int i = 0; i < n; i++) {
		char *slash = strrchr(paths[i], '/');
		struct stat st;

		files[i].fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		if (files[i].fd < 0 || fstat(files[i].fd, &st) < 0)
			return ds_fail(err, -errno, "%s: %s", paths[i], strerror(errno));
		files[i].name = slash ? slash + 1 : paths[i];
		files[i].size = (uint64_t)st.st_size;
	}
	return 0;
}

/* The line of JSON; @first: where the image's tensors begin. */
static json_t *describe(const struct ds_model_builder *builder, const struct ds_image *image, uint64_t first)
{
	const uint8_t *hparams = (const uint8_t *)ds_image_hparams(image);
	char hex[2 * sizeof(struct ds_hparams) + 1];
	json_t *tensors = json_object();
	const struct ds_model_tensor *list;
	uint32_t n;

	for (size_t i = 0; i < sizeof(struct ds_hparams); i++)
		snprintf(hex + 2 * i, 3, "%02x", hparams[i]);
	list = ds_model_builder_tensors(builder, &n);
	for (uint32_t i = 0; i < n; i++) {
		const struct ds_image_tensor *t = ds_image_tensor(image, list[i].desc.name);
		json_t *shape = json_array();

		for (uint32_t k = 0; k < t->n_dims; k++)
			json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
		json_object_set_new(tensors, t->name,
				    json_pack("[s, o, I, I]", ds_dtype_info(t->dtype)->name, shape,
					      (json_int_t)(t->offset - first), (json_int_t)t->size));
	}
	return json_pack("{s:s, s:o}", "hparams", hex, "tensors", tensors);
}

static int show(const struct ds_model_builder *builder, int fd, struct ds_error *err)
{
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	const struct ds_image_header *header;
	const char *data;
	uint64_t size;
	json_t *json;
	int r = ds_image_open(&image, fd, false, err);

	if (r < 0)
		return r;
	data = ds_image_data(image, &size);
	header = (const struct ds_image_header *)(const void *)data;
	json = describe(builder, image, header->sections[DS_SECTION_TENSORS].offset);
	json_dumpf(json, stdout, JSON_COMPACT);
	json_decref(json);
	putchar('\n');
	fwrite(data + header->sections[DS_SECTION_TENSORS].offset, 1, header->sections[DS_SECTION_TENSORS].size,
	       stdout);
	return 0;
}

static int make(const struct ds_format_ops *format, struct ds_file *files, int n, struct ds_error *err)
{
	ds_cleanup(ds_model_builder_freep) struct ds_model_builder *builder = NULL;
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	int r = ds_model_builder_new(&builder, files, (size_t)n, err);

	if (r == 0 && !format->recognizes(files, (size_t)n))
		r = ds_fail(err, -ENOTSUP, "not recognized");
	if (r == 0)
		r = format->describe(ds_plugins_host(), files, (size_t)n, ds_model_builder_calls(builder), err);
	if (r == 0)
		r = ds_model_builder_plan(builder, &backend, DS_PRECISION_EXACT, err);
	if (r == 0 && ftruncate(fd, (off_t)ds_image_writer_size(ds_model_builder_image(builder))) < 0)
		r = ds_fail(err, -errno, "no memory for the image");
	if (r == 0)
		r = ds_fill(builder, &backend, fd, on_progress, NULL, err);
	return r < 0 ? r : show(builder, fd, err);
}

int main(int argc, char **argv)
{
	struct ds_file files[MAX_FILES];
	struct ds_error err = {""};
	int r = -EINVAL;

	if (argc < 3 || argc - 2 > MAX_FILES) {
		fprintf(stderr, "usage: make-image gguf|safetensors FILE...\n");
		return 2;
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(formats); i++)
		if (strcmp(argv[1], formats[i].name) == 0) {
			r = open_files(files, argv + 2, argc - 2, &err);
			if (r == 0)
				r = make(formats[i].ops, files, argc - 2, &err);
		}
	if (r < 0)
		fprintf(stderr, "%s\n", err.text);
	return r < 0;
}

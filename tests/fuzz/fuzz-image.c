/* fuzz-image.c - the input is a model image. One that is accepted is then read all over, as an engine would. */
#include "lib/image.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum;

static void touch(const void *data, uint64_t size)
{
	for (uint64_t i = 0; i < size; i++)
		sum += ((const uint8_t *)data)[i];
}

/* One that stays in files that are not there has no data. */
static void read_tensor(const struct ds_image *image, const char *name)
{
	const struct ds_image_tensor *t = ds_image_tensor(image, name);
	const void *const *matrices, *data = t ? ds_image_tensor_data(image, t, &matrices) : NULL;
	uint32_t n_files;
	const struct ds_image_file *files = ds_image_files(image, &n_files);

	if (data)
		touch(data, t->size);
	for (uint32_t i = 0; i < n_files; i++)
		touch(files[i].name, strlen(files[i].name));
}

static void read_all(const struct ds_image *image)
{
	const struct ds_vocabulary *v = ds_image_vocabulary(image);
	uint64_t size;
	const uint8_t *data = ds_image_data(image, &size);

	touch(ds_image_dialect(image), strlen(ds_image_dialect(image)));
	touch(ds_image_backend(image), strlen(ds_image_backend(image)));
	touch(ds_image_hparams(image), sizeof(struct ds_hparams));
	touch(data, size);
	read_tensor(image, "output_norm");
	read_tensor(image, "experts");
	if (!v)
		return;
	for (uint32_t i = 0; i < v->n_tokens; i++)
		touch(v->tokens[i].text, (uint64_t)v->tokens[i].size + 1);
	for (uint32_t i = 0; i < v->n_merges; i++)
		touch(v->tokens[v->merges[i].merged].text, 1);
	for (uint32_t i = 0; i < v->n_patterns; i++)
		touch(v->patterns[i], strlen(v->patterns[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_error err;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	if (ds_image_open(&image, fd, false, &err) == 0)
		read_all(image);
	return 0;
}

/* builder-scene.h - a checkpoint of two files in memory and a backend that packs it, for the tests of the builder.
 *
 * The backend here stores rows in blocks and marks each block with a byte, so that what it packed can be told apart. */
#pragma once

#include "builder.h"
#include "dtype.h"
#include "fill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK_ROWS = 3, MARK = 16 };

static inline uint64_t row_size(const struct ds_tensor_desc *t)
{
	return ds_row_size(t->dtype, t->shape[t->n_dims - 1]);
}

static inline uint64_t count_rows(const struct ds_tensor_desc *t)
{
	uint64_t n = 1;

	for (uint32_t i = 0; i + 1 < t->n_dims; i++)
		n *= t->shape[i];
	return n;
}

/* "plain" is stored as it is, all else in blocks of BLOCK_ROWS rows with a mark before them. */
static inline int plan(const struct ds_tensor_desc *t, enum ds_precision precision, struct ds_layout *layout,
		struct ds_error *err)
{
	bool plain = strncmp(t->name, "plain", 5) == 0;

	if (strcmp(t->name, "impossible") == 0)
		return ds_fail(err, -ENOTSUP, "tensor %s: this backend has no use for it", t->name);
	layout->id = plain ? 0 : 5;
	layout->block_rows = plain ? 1 : BLOCK_ROWS;
	layout->block_size = plain ? row_size(t) : MARK + BLOCK_ROWS * row_size(t);
	layout->size = (count_rows(t) + layout->block_rows - 1) / layout->block_rows * layout->block_size;
	if (strcmp(t->name, "no blocks") == 0)
		layout->block_rows = 0;
	if (strcmp(t->name, "too small") == 0)
		layout->size--;
	if (strcmp(t->name, "too large") == 0)
		layout->block_size = UINT64_MAX / 2;
	return 0;
}

static inline void pack(const struct ds_tensor_desc *t, const struct ds_layout *layout, uint64_t n_rows, const void *src,
		 void *dst)
{
	memset(dst, 0, layout->block_size);
	if (layout->id == 5)
		memset(dst, (int)n_rows, MARK);
	memcpy((char *)dst + (layout->id == 5 ? MARK : 0), src, n_rows * row_size(t));
}

static inline const char *identity(void)
{
	return "test-1";
}

static const struct ds_backend_ops backend = {
	.size = sizeof(backend), .plan = plan, .pack = pack, .identity = identity};

/* Two files of 1 MiB whose 16-bit words count up from 0 and from 7: any element tells where it came from. */
enum { FILE_SIZE = 1 << 20, N_FILES = 2 };

struct checkpoint {
	struct ds_file files[N_FILES];
	struct ds_model_builder *builder;
	const struct ds_builder *calls;
	enum ds_precision precision; /* exact, unless the test says otherwise */
};

static inline uint16_t word_at(unsigned file, uint64_t offset)
{
	return (uint16_t)((offset / 2 + 7 * file) % 30000); /* as F16 and BF16 these are numbers, no NaN */
}

static inline int setup(void **state)
{
	static const struct ds_hparams hparams = {.architecture = "test", .vocab = 1};
	struct checkpoint *c = calloc(1, sizeof(*c));

	c->precision = DS_PRECISION_EXACT;
	for (unsigned f = 0; f < N_FILES; f++) {
		uint16_t *words = malloc(FILE_SIZE);

		for (uint64_t i = 0; i < FILE_SIZE; i += 2)
			words[i / 2] = word_at(f, i);
		c->files[f] = (struct ds_file){f ? "second" : "first", memfd_create("file", MFD_CLOEXEC), FILE_SIZE};
		assert_int_equal(write(c->files[f].fd, words, FILE_SIZE), FILE_SIZE);
		free(words);
	}
	assert_int_equal(ds_model_builder_new(&c->builder, c->files, N_FILES, NULL), 0);
	c->calls = ds_model_builder_calls(c->builder);
	*state = c;
	return c->calls->hparams(c->calls->self, &hparams, NULL);
}

static inline int teardown(void **state)
{
	struct checkpoint *c = *state;

	ds_model_builder_free(c->builder);
	close(c->files[0].fd);
	close(c->files[1].fd);
	free(c);
	return 0;
}

static inline int add(struct checkpoint *c, const char *name, enum ds_dtype dtype, uint64_t rows, uint64_t cols,
	       uint32_t *index, struct ds_error *err)
{
	struct ds_tensor_desc desc = {name, dtype, 2, {rows, cols, 9, 9}};

	return c->calls->tensor(c->calls->self, &desc, index, err);
}

static inline int part(struct checkpoint *c, struct ds_part p, struct ds_error *err)
{
	return c->calls->part(c->calls->self, &p, err);
}

static inline int plan_all(struct checkpoint *c, struct ds_error *err)
{
	return ds_model_builder_plan(c->builder, &backend, c->precision, err);
}

/* A tensor that is whole: one part from the start of the first file. */
static inline void add_whole(struct checkpoint *c, const char *name, enum ds_dtype dtype, uint64_t rows, uint64_t cols)
{
	uint32_t t;

	assert_int_equal(add(c, name, dtype, rows, cols, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){.tensor = t, .n_rows = rows, .dtype = dtype}, NULL), 0);
}

static inline int count_reports(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	unsigned *n = self;

	assert_true(done <= total);
	(*n)++;
	return 0;
}

/* Plan and fill; the image is mapped. */
static inline struct ds_image *build(struct checkpoint *c)
{
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	struct ds_image *image = NULL;
	struct ds_error err = {""};
	unsigned n_reports = 0;

	if (plan_all(c, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(ftruncate(fd, (off_t)ds_image_writer_size(ds_model_builder_image(c->builder))), 0);
	if (ds_fill(c->builder, &backend, fd, count_reports, &n_reports, &err) < 0 ||
	    ds_image_open(&image, fd, false, &err) < 0)
		fail_msg("%s", err.text);
	assert_in_range(n_reports, 1, 101);
	return image;
}

/* Element (@row, @col) of the tensor in @image, as it lies there, taken through the backend's blocks. */
static inline const void *element(struct ds_image *image, const char *name, uint64_t row, uint64_t col)
{
	const struct ds_image_tensor *t = ds_image_tensor(image, name);
	uint64_t size, element_size = ds_dtype_size((enum ds_dtype)t->dtype), rows = t->shape[1] * element_size;
	const char *data = ds_image_data(image, &size);

	if (t->layout == 0)
		return data + t->offset + row * rows + col * element_size;
	return data + t->offset + row / BLOCK_ROWS * (MARK + BLOCK_ROWS * rows) + MARK + row % BLOCK_ROWS * rows +
	       col * element_size;
}

static inline uint16_t half(struct ds_image *image, const char *name, uint64_t row, uint64_t col)
{
	return *(const uint16_t *)element(image, name, row, col);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

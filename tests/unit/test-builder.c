/* test-builder.c - what a checkpoint may say of its tensors, and that the image then holds exactly their elements.
 *
 * The backend here stores rows in blocks and marks each block with a byte, so that what it packed can be told apart. */
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

static uint64_t row_size(const struct ds_tensor_desc *t)
{
	return ds_row_size(t->dtype, t->shape[t->n_dims - 1]);
}

static uint64_t count_rows(const struct ds_tensor_desc *t)
{
	uint64_t n = 1;

	for (uint32_t i = 0; i + 1 < t->n_dims; i++)
		n *= t->shape[i];
	return n;
}

/* "plain" is stored as it is, all else in blocks of BLOCK_ROWS rows with a mark before them. */
static int plan(const struct ds_tensor_desc *t, enum ds_precision precision, struct ds_layout *layout,
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

static void pack(const struct ds_tensor_desc *t, const struct ds_layout *layout, uint64_t n_rows, const void *src,
		 void *dst)
{
	memset(dst, 0, layout->block_size);
	if (layout->id == 5)
		memset(dst, (int)n_rows, MARK);
	memcpy((char *)dst + (layout->id == 5 ? MARK : 0), src, n_rows * row_size(t));
}

static const char *identity(void)
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
};

static uint16_t word_at(unsigned file, uint64_t offset)
{
	return (uint16_t)((offset / 2 + 7 * file) % 30000); /* as F16 and BF16 these are numbers, no NaN */
}

static int setup(void **state)
{
	static const struct ds_hparams hparams = {.architecture = "test", .vocab = 1};
	struct checkpoint *c = calloc(1, sizeof(*c));

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

static int teardown(void **state)
{
	struct checkpoint *c = *state;

	ds_model_builder_free(c->builder);
	close(c->files[0].fd);
	close(c->files[1].fd);
	free(c);
	return 0;
}

static int add(struct checkpoint *c, const char *name, enum ds_dtype dtype, uint64_t rows, uint64_t cols,
	       uint32_t *index, struct ds_error *err)
{
	struct ds_tensor_desc desc = {name, dtype, 2, {rows, cols, 9, 9}};

	return c->calls->tensor(c->calls->self, &desc, index, err);
}

static int part(struct checkpoint *c, struct ds_part p, struct ds_error *err)
{
	return c->calls->part(c->calls->self, &p, err);
}

static int plan_all(struct checkpoint *c, struct ds_error *err)
{
	return ds_model_builder_plan(c->builder, &backend, DS_PRECISION_EXACT, err);
}

/* A tensor that is whole: one part from the start of the first file. */
static void add_whole(struct checkpoint *c, const char *name, enum ds_dtype dtype, uint64_t rows, uint64_t cols)
{
	uint32_t t;

	assert_int_equal(add(c, name, dtype, rows, cols, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){.tensor = t, .n_rows = rows, .dtype = dtype}, NULL), 0);
}

static int count_reports(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	unsigned *n = self;

	assert_true(done <= total);
	(*n)++;
	return 0;
}

/* Plan and fill; the image is mapped. */
static struct ds_image *build(struct checkpoint *c)
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
static const void *element(struct ds_image *image, const char *name, uint64_t row, uint64_t col)
{
	const struct ds_image_tensor *t = ds_image_tensor(image, name);
	uint64_t size, element_size = ds_dtype_size((enum ds_dtype)t->dtype), rows = t->shape[1] * element_size;
	const char *data = ds_image_data(image, &size);

	if (t->layout == 0)
		return data + t->offset + row * rows + col * element_size;
	return data + t->offset + row / BLOCK_ROWS * (MARK + BLOCK_ROWS * rows) + MARK + row % BLOCK_ROWS * rows +
	       col * element_size;
}

static uint16_t half(struct ds_image *image, const char *name, uint64_t row, uint64_t col)
{
	return *(const uint16_t *)element(image, name, row, col);
}

static void a_tensor_in_one_piece_arrives(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;

	add_whole(c, "plain", DS_DTYPE_BF16, 100, 33);
	image = build(c);
	assert_string_equal(ds_image_backend(image), "test-1");
	for (uint64_t r = 0; r < 100; r++)
		for (uint64_t k = 0; k < 33; k++)
			assert_int_equal(half(image, "plain", r, k), word_at(0, 2 * (r * 33 + k)));
}

static void the_last_block_may_have_fewer_rows(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	const struct ds_image_tensor *t;
	const uint8_t *data;
	uint64_t size;

	add_whole(c, "blocks", DS_DTYPE_F16, 7, 5);
	image = build(c);
	for (uint64_t r = 0; r < 7; r++)
		for (uint64_t k = 0; k < 5; k++)
			assert_int_equal(half(image, "blocks", r, k), word_at(0, 2 * (r * 5 + k)));
	t = ds_image_tensor(image, "blocks");
	data = (const uint8_t *)ds_image_data(image, &size) + t->offset;
	assert_int_equal(data[0], 3);
	assert_int_equal(data[MARK + 30], 3);
	assert_int_equal(data[2 * (MARK + 30)], 1);
	assert_int_equal(t->size, 3 * (MARK + 30));
}

static void parts_may_come_in_any_order_from_any_file(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t;

	assert_int_equal(add(c, "experts", DS_DTYPE_BF16, 10, 4, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 7, 3, 1, 1000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 2, 1, 2000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 2, 5, 0, 3000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	image = build(c);
	for (uint64_t k = 0; k < 4; k++) {
		assert_int_equal(half(image, "experts", 0, k), word_at(1, 2000 + 2 * k));
		assert_int_equal(half(image, "experts", 1, k), word_at(1, 2008 + 2 * k));
		assert_int_equal(half(image, "experts", 2, k), word_at(0, 3000 + 2 * k));
		assert_int_equal(half(image, "experts", 6, k), word_at(0, 3032 + 2 * k));
		assert_int_equal(half(image, "experts", 9, k), word_at(1, 1016 + 2 * k));
	}
}

static void a_transposed_part_is_turned(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t;

	assert_int_equal(add(c, "turned", DS_DTYPE_BF16, 10, 6, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 100, 0, DS_DTYPE_BF16, true}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 4, 6, 1, 500, 0, DS_DTYPE_BF16, true}, NULL), 0);
	image = build(c);
	for (uint64_t r = 0; r < 10; r++)
		for (uint64_t k = 0; k < 6; k++)
			assert_int_equal(half(image, "turned", r, k), r < 4 ? word_at(0, 100 + 2 * (k * 4 + r))
									    : word_at(1, 500 + 2 * (k * 6 + r - 4)));
}

static void sixteen_bits_widen_exactly(void **state)
{
	static const enum ds_dtype types[] = {DS_DTYPE_F16, DS_DTYPE_BF16};

	for (unsigned i = 0; i < 2; i++) {
		struct checkpoint *c;
		void *fresh = NULL;
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		uint32_t t;

		assert_int_equal(setup(&fresh), 0);
		c = fresh;
		assert_int_equal(add(c, "plain", DS_DTYPE_F32, 2, 15000, &t, NULL), 0);
		assert_int_equal(part(c, (struct ds_part){t, 0, 1, 0, 0, 0, types[i], false}, NULL), 0);
		assert_int_equal(part(c, (struct ds_part){t, 1, 1, 0, 30000, 0, types[i], true}, NULL), 0);
		image = build(c);
		for (uint64_t k = 0; k < 30000; k++) {
			uint16_t word = word_at(0, 2 * k);
			float want = types[i] == DS_DTYPE_F16 ? ds_f16_to_f32(word) : ds_bf16_to_f32(word);

			assert_true(want == *(const float *)element(image, "plain", k / 15000, k % 15000));
		}
		assert_int_equal(teardown(&fresh), 0);
	}
}

/* The bytes of file @file from @offset on, of which there may be many more than FILE_SIZE. */
static const uint8_t *bytes_of(unsigned file, uint64_t offset, size_t size)
{
	static uint16_t words[3 << 20];

	assert_true(offset % 2 == 0 && size <= sizeof(words));
	for (uint64_t i = 0; i < size; i += 2)
		words[i / 2] = word_at(file, offset + i);
	return (const uint8_t *)words;
}

/* Let file @file have @size bytes. */
static void extend(struct checkpoint *c, unsigned file, uint64_t size)
{
	assert_int_equal(pwrite(c->files[file].fd, bytes_of(file, 0, size), size, 0), size);
	c->files[file].size = size;
}

static void rows_of_every_type_stay_as_they_are(void **state)
{
	for (uint32_t type = DS_DTYPE_F32; type < DS_DTYPE_FP8; type++) {
		struct checkpoint *c;
		void *fresh = NULL;
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		uint64_t size = 3 * ds_row_size((enum ds_dtype)type, 512), n;
		uint32_t t;

		assert_int_equal(setup(&fresh), 0);
		c = fresh;
		assert_int_equal(add(c, "plain", (enum ds_dtype)type, 3, 512, &t, NULL), 0);
		assert_int_equal(
			part(c, (struct ds_part){.tensor = t, .n_rows = 3, .offset = 6, .dtype = (enum ds_dtype)type},
			     NULL),
			0);
		image = build(c);
		assert_int_equal(ds_image_tensor(image, "plain")->size, size);
		assert_memory_equal((const char *)ds_image_data(image, &n) + ds_image_tensor(image, "plain")->offset,
				    bytes_of(0, 6, size), size);
		assert_int_equal(teardown(&fresh), 0);
	}
}

static void rows_of_every_type_widen_exactly(void **state)
{
	for (uint32_t type = DS_DTYPE_F32; type < DS_DTYPE_FP8; type++) {
		struct checkpoint *c;
		void *fresh = NULL;
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		uint64_t size = ds_row_size((enum ds_dtype)type, 512);
		float want[512];
		uint32_t t;

		assert_int_equal(setup(&fresh), 0);
		c = fresh;
		assert_int_equal(add(c, "plain", DS_DTYPE_F32, 4, 512, &t, NULL), 0);
		assert_int_equal(
			part(c, (struct ds_part){.tensor = t, .n_rows = 4, .offset = 6, .dtype = (enum ds_dtype)type},
			     NULL),
			0);
		image = build(c);
		for (uint64_t r = 0; r < 4; r++) {
			ds_dequantize_row(want, bytes_of(0, 6 + r * size, size), (enum ds_dtype)type, 512);
			assert_memory_equal(element(image, "plain", r, 0), want, sizeof(want));
		}
		assert_int_equal(teardown(&fresh), 0);
	}
}

/* A chunk of filling ends in the middle of a block of the file. */
static void quantised_parts_turn_into_floats(void **state)
{
	enum { ROWS = 1024, COLS = 2000 };
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint64_t size = ds_row_size(DS_DTYPE_Q4_0, ROWS);
	static float want[COLS][ROWS];
	uint32_t t;

	extend(c, 0, COLS * size);
	assert_int_equal(add(c, "plain", DS_DTYPE_F32, ROWS, COLS, &t, NULL), 0);
	assert_int_equal(
		part(c, (struct ds_part){.tensor = t, .n_rows = ROWS, .dtype = DS_DTYPE_Q4_0, .transposed = true}, NULL),
		0);
	image = build(c);
	for (uint64_t k = 0; k < COLS; k++)
		ds_dequantize_row(want[k], bytes_of(0, k * size, size), DS_DTYPE_Q4_0, ROWS);
	for (uint64_t r = 0; r < ROWS; r++)
		for (uint64_t k = 0; k < COLS; k += 7)
			assert_memory_equal(element(image, "plain", r, k), &want[k][r], sizeof(float));
}

/* Rows of two halves, one after the other in the file, are interleaved: as many parts as a permutation needs. */
static void rows_may_lie_apart(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t, u;

	assert_int_equal(add(c, "plain", DS_DTYPE_BF16, 8, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 100, 40, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 4, 4, 0, 120, 40, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(add(c, "plain too", DS_DTYPE_F32, 3, 64, &u, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){u, 0, 3, 1, 2000, 70, DS_DTYPE_Q8_0, false}, NULL), 0);
	image = build(c);
	for (uint64_t r = 0; r < 4; r++)
		for (uint64_t k = 0; k < 10; k++) {
			assert_int_equal(half(image, "plain", r, k), word_at(0, 100 + 40 * r + 2 * k));
			assert_int_equal(half(image, "plain", 4 + r, k), word_at(0, 120 + 40 * r + 2 * k));
		}
	for (uint64_t r = 0; r < 3; r++) {
		float want[64];

		ds_dequantize_row(want, bytes_of(1, 2000 + 70 * r, 68), DS_DTYPE_Q8_0, 64);
		assert_memory_equal(element(image, "plain too", r, 0), want, sizeof(want));
	}
}

/* Element (@row, @col) of a matrix of @cols e4m3 bytes a row at @offset of the first file, its scales being at 500000 of
 * the second: one for each 100 rows and 128 columns. */
static float fp8_element(uint64_t offset, uint64_t cols, uint64_t row, uint64_t col)
{
	uint64_t at = offset + row * cols + col, tile = row / 100 * ((cols + 127) / 128) + col / 128;
	uint8_t byte = (uint8_t)(word_at(0, at) >> 8 * (at % 2));
	float scale;

	memcpy(&scale, bytes_of(1, 500000 + tile * sizeof(float), sizeof(float)), sizeof(scale));
	return scale * ds_e4m3_to_f32(byte);
}

/* Rows [150, 450) of a matrix of 300 columns: partial tiles at every side. */
static struct ds_part fp8_part(uint32_t tensor, uint64_t n_rows, bool transposed)
{
	return (struct ds_part){
		.tensor = tensor,
		.n_rows = n_rows,
		.offset = 1000 + 150 * 300,
		.dtype = DS_DTYPE_FP8,
		.transposed = transposed,
		.scales = {.file = 1, .offset = 500000, .tile_rows = 100, .tile_cols = 128, .first_row = 150, .cols = 300},
	};
}

static void fp8_gets_its_scales_into_its_blocks(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t;

	assert_int_equal(add(c, "plain", DS_DTYPE_FP8, 300, 300, &t, NULL), 0);
	assert_int_equal(part(c, fp8_part(t, 300, false), NULL), 0);
	image = build(c);
	assert_int_equal(ds_image_tensor(image, "plain")->size, 300 * 3 * 132);
	for (uint64_t r = 0; r < 300; r++) {
		const char *data = ds_image_data(image, &(uint64_t){0});
		const struct ds_block_fp8 *blocks =
			(const void *)(data + ds_image_tensor(image, "plain")->offset + r * 3 * 132);
		float got[384];

		ds_dequantize_row(got, blocks, DS_DTYPE_FP8, 384);
		for (uint64_t k = 0; k < 300; k++) {
			float want = fp8_element(1000, 300, 150 + r, k);

			assert_memory_equal(&got[k], &want, sizeof(want));
		}
		for (uint64_t k = 300 - 256; k < 128; k++)
			assert_int_equal(blocks[2].qs[k], 0);
	}
}

static void fp8_becomes_floats_turned_or_not(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t, u;

	assert_int_equal(add(c, "plain", DS_DTYPE_F32, 200, 300, &t, NULL), 0);
	assert_int_equal(part(c, fp8_part(t, 200, false), NULL), 0);
	assert_int_equal(add(c, "plain too", DS_DTYPE_F32, 300, 200, &u, NULL), 0);
	assert_int_equal(part(c, fp8_part(u, 300, true), NULL), 0);
	image = build(c);
	for (uint64_t r = 0; r < 200; r++)
		for (uint64_t k = 0; k < 300; k++) {
			float want = fp8_element(1000, 300, 150 + r, k);

			assert_memory_equal(element(image, "plain", r, k), &want, sizeof(want));
			assert_memory_equal(element(image, "plain too", k, r), &want, sizeof(want));
		}
}

static void fp8_without_scales_is_what_it_says(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t;

	assert_int_equal(add(c, "plain", DS_DTYPE_F32, 2, 100, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){.tensor = t, .n_rows = 2, .dtype = DS_DTYPE_FP8}, NULL), 0);
	image = build(c);
	for (uint64_t i = 0; i < 200; i++) {
		float want = ds_e4m3_to_f32((uint8_t)(word_at(0, i) >> 8 * (i % 2)));

		assert_memory_equal(element(image, "plain", i / 100, i % 100), &want, sizeof(want));
	}
}

/* Larger than a chunk of filling: the seams must not show, not even in what is turned. */
static void a_tensor_of_many_chunks_arrives(void **state)
{
	enum { ROWS = 1500, COLS = 2000 };
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t plain, turned;
	uint64_t size = 2ull * ROWS * COLS;

	for (unsigned f = 0; f < N_FILES; f++)
		extend(c, f, size);
	assert_int_equal(add(c, "blocks", DS_DTYPE_BF16, ROWS, COLS, &plain, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){plain, 0, ROWS, 0, 0, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(add(c, "turned", DS_DTYPE_F32, ROWS, COLS, &turned, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){turned, 0, ROWS, 1, 0, 0, DS_DTYPE_BF16, true}, NULL), 0);
	image = build(c);
	for (uint64_t r = 0; r < ROWS; r += r < ROWS - 8 ? 7 : 1)
		for (uint64_t k = 0; k < COLS; k += 3) {
			assert_int_equal(half(image, "blocks", r, k), word_at(0, 2 * (r * COLS + k)));
			assert_true(*(const float *)element(image, "turned", r, k) ==
				    ds_bf16_to_f32(word_at(1, 2 * (k * ROWS + r))));
		}
}

/* Of a mapped model, what lies in the files as the backend wants it stays there. */
static void tensors_of_a_mapped_model_stay_where_they_are(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	const struct ds_tensor_desc stack = {"plain stack", DS_DTYPE_BF16, 3, {3, 2, 10, 1}};
	const struct ds_tensor_desc norm = {"plain norm", DS_DTYPE_F32, 1, {10}};
	const int fds[] = {c->files[1].fd, c->files[0].fd}; /* numbered as they are first needed */
	const void *const *matrices;
	const uint16_t *data;
	uint32_t t, n;

	ds_model_builder_map(c->builder);
	/* a stack whose second matrix lies elsewhere, and in two parts that meet */
	assert_int_equal(c->calls->tensor(c->calls->self, &stack, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 2, 1, 1000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 2, 1, 0, 2000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 3, 1, 0, 2020, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 4, 2, 1, 1040, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(c->calls->tensor(c->calls->self, &norm, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){.tensor = t, .n_rows = 1, .dtype = DS_DTYPE_F32}, NULL), 0);
	add_whole(c, "plain whole", DS_DTYPE_Q8_0, 5, 64);
	add_whole(c, "packed", DS_DTYPE_BF16, 4, 10);
	assert_int_equal(add(c, "plain odd", DS_DTYPE_BF16, 4, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 2001, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(add(c, "plain widened", DS_DTYPE_F32, 4, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 2000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(add(c, "plain apart", DS_DTYPE_BF16, 4, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 2000, 22, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(add(c, "plain turned", DS_DTYPE_BF16, 4, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 4, 0, 2000, 0, DS_DTYPE_BF16, true}, NULL), 0);
	assert_int_equal(add(c, "plain of two", DS_DTYPE_BF16, 4, 10, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 0, 2, 0, 2000, 0, DS_DTYPE_BF16, false}, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){t, 2, 2, 1, 2040, 0, DS_DTYPE_BF16, false}, NULL), 0);
	add_whole(c, "plain fp8", DS_DTYPE_FP8, 4, 128);
	image = build(c);
	assert_int_equal(ds_image_writer_mapped_size(ds_model_builder_image(c->builder)), 3 * 2 * 20 + 4 * 20 + 5 * 68);
	assert_string_equal(ds_image_files(image, &n)[0].name, "second");
	assert_int_equal(n, 2);
	assert_int_equal(ds_image_map_files(image, fds, 2, NULL), 0);
	assert_int_equal(ds_image_tensor(image, "plain stack")->n_places, 3);
	ds_image_tensor_data(image, ds_image_tensor(image, "plain stack"), &matrices);
	for (unsigned i = 0; i < 3; i++) {
		data = matrices[i];
		for (uint64_t k = 0; k < 20; k++)
			assert_int_equal(data[k], word_at(i != 1, (i == 0 ? 1000 : i == 1 ? 2000 : 1040) + 2 * k));
	}
	assert_int_equal(ds_image_tensor(image, "plain whole")->n_places, 1);
	assert_int_equal(ds_image_tensor(image, "packed")->n_places, 1); /* what the backend would have packed */
	assert_memory_equal(ds_image_tensor_data(image, ds_image_tensor(image, "plain whole"), &matrices),
			    bytes_of(0, 0, 5 * 68), 5 * 68);
	for (const char *const *name = (const char *const[]){"plain norm", "plain odd", "plain widened",
							     "plain apart", "plain turned", "plain of two", "plain fp8", NULL};
	     *name; name++)
		assert_int_equal(ds_image_tensor(image, *name)->n_places, 0);
	assert_int_equal(half(image, "plain apart", 3, 9), word_at(0, 2000 + 66 + 18));
}

static void a_file_that_shrinks_while_it_is_read_is_told(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	struct ds_error err;
	unsigned n = 0;

	add_whole(c, "weights", DS_DTYPE_BF16, 100, 100);
	assert_int_equal(plan_all(c, NULL), 0);
	assert_int_equal(ftruncate(fd, (off_t)ds_image_writer_size(ds_model_builder_image(c->builder))), 0);
	assert_int_equal(ftruncate(c->files[0].fd, 1000), 0);
	assert_int_equal(ds_fill(c->builder, &backend, fd, count_reports, &n, &err), -EIO);
	assert_string_equal(err.text, "first: the file changed while tensor weights was read: it ends at byte 1000");
}

static int refuse_report(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	return ds_fail(err, -EPIPE, "nobody listens");
}

static void filling_ends_when_nobody_listens(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	struct ds_error err;

	add_whole(c, "weights", DS_DTYPE_BF16, 100, 100);
	assert_int_equal(plan_all(c, NULL), 0);
	assert_int_equal(ftruncate(fd, (off_t)ds_image_writer_size(ds_model_builder_image(c->builder))), 0);
	assert_int_equal(ds_fill(c->builder, &backend, fd, refuse_report, NULL, &err), -EPIPE);
}

static void parameters_are_counted(void **state)
{
	struct checkpoint *c = *state;
	struct ds_tensor_desc vector = {"norm", DS_DTYPE_F32, 1, {7, 0, 0, 0}};
	uint32_t t;

	add_whole(c, "a", DS_DTYPE_BF16, 10, 10);
	assert_int_equal(c->calls->tensor(c->calls->self, &vector, &t, NULL), 0);
	assert_int_equal(part(c, (struct ds_part){.tensor = t, .n_rows = 1, .dtype = DS_DTYPE_F32}, NULL), 0);
	assert_int_equal(plan_all(c, NULL), 0);
	assert_int_equal(ds_model_builder_parameters(c->builder), 107);
}

static void tensors_that_cannot_be_are_refused(void **state)
{
	struct checkpoint *c = *state;
	char long_name[DS_IMAGE_NAME_MAX + 1];
	struct ds_tensor_desc wrong[] = {
		{"", DS_DTYPE_F32, 1, {1, 1, 1, 1}},           {NULL, DS_DTYPE_F32, 1, {1, 1, 1, 1}},
		{long_name, DS_DTYPE_F32, 1, {1, 1, 1, 1}},    {"t", (enum ds_dtype)0, 1, {1, 1, 1, 1}},
		{"t", DS_N_DTYPES, 1, {1, 1, 1, 1}},           {"t", DS_DTYPE_F32, 0, {1, 1, 1, 1}},
		{"t", DS_DTYPE_F32, 5, {1, 1, 1, 1}},          {"t", DS_DTYPE_BF16, 1, {1, 1, 1, 1}},
		{"t", DS_DTYPE_F32, 2, {0, 1, 1, 1}},          {"t", DS_DTYPE_F32, 2, {1, 0, 1, 1}},
		{"t", DS_DTYPE_F32, 2, {1ull << 60, 8, 1, 1}}, {"t", DS_DTYPE_F32, 3, {1ull << 32, 1ull << 32, 1, 1}},
		{"t", DS_DTYPE_F32, 1, {1ull << 30, 1, 1, 1}}, {"t", DS_DTYPE_Q4_0, 2, {2, 33, 1, 1}},
		{"t", DS_DTYPE_Q4_K, 2, {2, 128, 1, 1}},       {"t", DS_DTYPE_FP8, 2, {1ull << 60, 1, 1, 1}},
	};
	uint32_t t;

	memset(long_name, 'x', sizeof(long_name));
	long_name[DS_IMAGE_NAME_MAX] = 0;
	for (size_t i = 0; i < DS_ARRAY_SIZE(wrong); i++)
		assert_true(c->calls->tensor(c->calls->self, &wrong[i], &t, NULL) < 0);
}

static void parts_that_cannot_be_are_refused(void **state)
{
	struct checkpoint *c = *state;
	struct ds_error err = {""};
	uint32_t t;

	assert_int_equal(add(c, "t", DS_DTYPE_BF16, 10, 100, &t, NULL), 0);
	{
		const struct ds_part wrong[] = {
			{t + 1, 0, 10, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, 0, 10, 2, 0, 0, DS_DTYPE_BF16, false},
			{t, 0, 11, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, 10, 1, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, 5, UINT64_MAX - 2, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, UINT64_MAX, 2, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, 0, 0, 0, 0, 0, DS_DTYPE_BF16, false},
			{t, 0, 10, 0, FILE_SIZE - 1999, 0, DS_DTYPE_BF16, false},
			{t, 0, 10, 0, FILE_SIZE + 1, 0, DS_DTYPE_BF16, false},
			{t, 0, 10, 0, UINT64_MAX - 10, 0, DS_DTYPE_BF16, false},
		};
		const struct ds_part strange = {t, 0, 10, 0, 0, 0, DS_DTYPE_F16, false};

		for (size_t i = 0; i < DS_ARRAY_SIZE(wrong); i++)
			assert_int_equal(part(c, wrong[i], &err), -EINVAL);
		assert_string_equal(err.text, "first: tensor t needs 2000 bytes from byte 18446744073709551605, "
					      "the file has 1048576");
		assert_int_equal(part(c, strange, &err), -ENOTSUP);
		assert_string_equal(err.text, "first: tensor t cannot be converted from F16 to BF16");
	}
}

/* What a hostile checkpoint may say of strides, blocks and scales: each would read past a file or never end. */
static void hostile_parts_are_refused(void **state)
{
	struct checkpoint *c = *state;
	const struct ds_scales good = {.file = 1, .tile_rows = 128, .tile_cols = 128, .cols = 512};
	uint32_t q4, fp8, f32, bf16, odd;

	assert_int_equal(add(c, "q4", DS_DTYPE_Q4_K, 8, 512, &q4, NULL), 0);
	assert_int_equal(add(c, "fp8", DS_DTYPE_FP8, 8, 512, &fp8, NULL), 0);
	assert_int_equal(add(c, "f32", DS_DTYPE_F32, 8, 512, &f32, NULL), 0);
	assert_int_equal(add(c, "bf16", DS_DTYPE_BF16, 8, 512, &bf16, NULL), 0);
	assert_int_equal(add(c, "odd", DS_DTYPE_F32, 8, 100, &odd, NULL), 0);
	{
		const struct ds_part good_fp8 = {.tensor = fp8, .n_rows = 8, .dtype = DS_DTYPE_FP8, .scales = good};
		struct {
			struct ds_part part;
			int code;
			const char *sentence;
		} wrong[] = {
			{{.tensor = q4, .n_rows = 8, .stride = 287, .dtype = DS_DTYPE_Q4_K}, -EINVAL, "287 bytes apart"},
			{{.tensor = q4, .n_rows = 8, .stride = FILE_SIZE, .dtype = DS_DTYPE_Q4_K}, -EINVAL, "needs 7340320"},
			{{.tensor = q4, .n_rows = 8, .stride = 1ull << 62, .dtype = DS_DTYPE_Q4_K}, -EINVAL, "needs 18446744"},
			{{.tensor = q4, .n_rows = 8, .offset = FILE_SIZE - 8 * 288 + 1, .dtype = DS_DTYPE_Q4_K}, -EINVAL, "needs 2304"},
			{{.tensor = q4, .n_rows = 8, .dtype = DS_DTYPE_Q5_K}, -ENOTSUP, "from Q5_K to Q4_K"},
			{{.tensor = q4, .n_rows = 8, .dtype = DS_DTYPE_Q4_K, .transposed = true}, -ENOTSUP, "turned Q4_K to Q4_K"},
			{{.tensor = q4, .n_rows = 8, .dtype = DS_DTYPE_Q4_K, .scales = good}, -EINVAL, "of type Q4_K has scales"},
			{{.tensor = f32, .n_rows = 8, .dtype = (enum ds_dtype)99}, -ENOTSUP, "from an unknown type to F32"},
			{{.tensor = f32, .n_rows = 8, .dtype = DS_DTYPE_Q8_0, .transposed = true}, -EINVAL, "not whole blocks of Q8_0"},
			{{.tensor = odd, .n_rows = 8, .dtype = DS_DTYPE_Q8_0}, -EINVAL, "not whole blocks of Q8_0"},
			{{.tensor = bf16, .n_rows = 8, .dtype = DS_DTYPE_F16}, -ENOTSUP, "from F16 to BF16"},
			{{.tensor = bf16, .n_rows = 8, .dtype = DS_DTYPE_BF16, .transposed = true, .stride = 64}, -EINVAL, "turned rows"},
			{good_fp8, -EINVAL, "99 x 0"},
			{good_fp8, -EINVAL, "0 x 128"},
			{good_fp8, -EINVAL, "in file 2"},
			{good_fp8, -EINVAL, "512 columns and scales for 511"},
			{good_fp8, -EINVAL, "scales for 1152921504606846976"},
			{good_fp8, -ENOTSUP, "for each 100 columns"},
			{good_fp8, -EINVAL, "second: the scales of tensor fp8 need 16 bytes"},
			{good_fp8, -EINVAL, "second: the scales of tensor fp8 need 1048592 bytes from byte 0"},
			{good_fp8, -EINVAL, "the scales of tensor fp8 need 18446744073709551615"},
			{good_fp8, -EINVAL, "the scales of tensor fp8 need 16 bytes from byte 18446744073709551615"},
			{{.tensor = fp8, .n_rows = 8, .dtype = DS_DTYPE_BF16}, -ENOTSUP, "from BF16 to FP8"},
		};
		struct ds_scales *s[] = {&wrong[12].part.scales, &wrong[13].part.scales, &wrong[14].part.scales,
					 &wrong[15].part.scales, &wrong[16].part.scales, &wrong[17].part.scales,
					 &wrong[18].part.scales, &wrong[19].part.scales, &wrong[20].part.scales,
					 &wrong[21].part.scales};

		s[0]->tile_rows = 99;
		s[0]->tile_cols = 0;
		s[1]->tile_rows = 0;
		s[2]->file = 2;
		s[3]->cols = 511;
		s[4]->cols = 1ull << 60;
		s[5]->tile_cols = 100;
		s[6]->offset = FILE_SIZE - 15;
		s[7]->first_row = FILE_SIZE / 16 * 128;
		s[8]->first_row = UINT64_MAX - 3;
		s[9]->offset = UINT64_MAX;
		for (size_t i = 0; i < DS_ARRAY_SIZE(wrong); i++) {
			struct ds_error err = {""};

			assert_int_equal(part(c, wrong[i].part, &err), wrong[i].code);
			if (!strstr(err.text, wrong[i].sentence))
				fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.text, wrong[i].sentence);
		}
		assert_int_equal(part(c, good_fp8, NULL), 0);
	}
}

static void every_row_is_given_exactly_once(void **state)
{
	static const struct {
		uint64_t rows[3][2];
		const char *sentence;
	} cases[] = {
		{{{0, 5}}, "row 5 of the 10 rows of tensor t is missing"},
		{{{5, 5}}, "row 0 of the 10 rows of tensor t is missing"},
		{{{0, 4}, {6, 4}}, "row 4 of the 10 rows of tensor t is missing"},
		{{{0, 6}, {5, 5}}, "first: row 5 of tensor t is given twice"},
		{{{0, 10}, {9, 1}}, "first: row 9 of tensor t is given twice"},
		{{{0, 5}, {5, 5}, {0, 5}}, "first: row 0 of tensor t is given twice"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct checkpoint *c;
		void *fresh = NULL;
		struct ds_error err = {""};
		uint32_t t;

		assert_int_equal(setup(&fresh), 0);
		c = fresh;
		assert_int_equal(add(c, "t", DS_DTYPE_BF16, 10, 4, &t, NULL), 0);
		for (unsigned p = 0; p < 3 && cases[i].rows[p][1] > 0; p++)
			assert_int_equal(part(c,
					      (struct ds_part){t, cases[i].rows[p][0], cases[i].rows[p][1], 0, 0, 0, DS_DTYPE_BF16, false},
					      NULL),
					 0);
		assert_int_equal(plan_all(c, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].sentence);
		assert_int_equal(teardown(&fresh), 0);
	}
}

static void a_name_given_twice_is_refused(void **state)
{
	struct ds_error err;

	add_whole(*state, "t", DS_DTYPE_BF16, 2, 2);
	add_whole(*state, "u", DS_DTYPE_BF16, 2, 2);
	add_whole(*state, "t", DS_DTYPE_BF16, 2, 2);
	assert_int_equal(plan_all(*state, &err), -EINVAL);
	assert_string_equal(err.text, "tensor t is given twice");
}

static void a_backend_that_contradicts_itself_is_refused(void **state)
{
	static const char *const names[] = {"no blocks", "too small", "too large"};
	struct ds_error err;

	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++) {
		void *fresh = NULL;

		assert_int_equal(setup(&fresh), 0);
		add_whole(fresh, names[i], DS_DTYPE_BF16, 2, 2);
		assert_int_equal(plan_all(fresh, &err), -EINVAL);
		assert_non_null(strstr(err.text, "the backend wants"));
		assert_int_equal(teardown(&fresh), 0);
	}
	add_whole(*state, "impossible", DS_DTYPE_BF16, 2, 2);
	assert_int_equal(plan_all(*state, &err), -ENOTSUP);
	assert_string_equal(err.text, "tensor impossible: this backend has no use for it");
}

static void floats_of_sixteen_bits_come_back(void **state)
{
	for (uint32_t h = 0; h <= UINT16_MAX; h++) {
		float f16 = ds_f16_to_f32((uint16_t)h), bf16 = ds_bf16_to_f32((uint16_t)h);

		assert_true(isnan(f16) ? isnan(ds_f16_to_f32(ds_f32_to_f16(f16))) : ds_f32_to_f16(f16) == h);
		assert_true(isnan(bf16) ? isnan(ds_bf16_to_f32(ds_f32_to_bf16(bf16))) : ds_f32_to_bf16(bf16) == h);
	}
	assert_true(ds_f16_to_f32(0x3c00) == 1 && ds_f16_to_f32(0xc000) == -2 && ds_f16_to_f32(0x7bff) == 65504);
	assert_true(ds_f16_to_f32(1) == 0x1p-24f && ds_f16_to_f32(0x0400) == 0x1p-14f && isinf(ds_f16_to_f32(0xfc00)));
	assert_int_equal(ds_f32_to_f16(65520), 0x7c00);
	assert_int_equal(ds_f32_to_f16(65519), 0x7bff);
	assert_int_equal(ds_f32_to_f16(0x1p-25f), 0); /* a tie goes to even */
	assert_int_equal(ds_f32_to_f16(0x1.8p-24f), 2);
	assert_int_equal(ds_f32_to_f16(2049), 0x6800);
	assert_int_equal(ds_f32_to_f16(2051), 0x6802);
	assert_int_equal(ds_f32_to_bf16(257), 0x4380);
	assert_int_equal(ds_f32_to_bf16(259), 0x4382);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_tensor_in_one_piece_arrives),
		TEST(the_last_block_may_have_fewer_rows),
		TEST(parts_may_come_in_any_order_from_any_file),
		TEST(a_transposed_part_is_turned),
		cmocka_unit_test(sixteen_bits_widen_exactly),
		cmocka_unit_test(rows_of_every_type_stay_as_they_are),
		cmocka_unit_test(rows_of_every_type_widen_exactly),
		TEST(quantised_parts_turn_into_floats),
		TEST(rows_may_lie_apart),
		TEST(fp8_gets_its_scales_into_its_blocks),
		TEST(fp8_becomes_floats_turned_or_not),
		TEST(fp8_without_scales_is_what_it_says),
		TEST(a_tensor_of_many_chunks_arrives),
		TEST(tensors_of_a_mapped_model_stay_where_they_are),
		TEST(a_file_that_shrinks_while_it_is_read_is_told),
		TEST(filling_ends_when_nobody_listens),
		TEST(parameters_are_counted),
		TEST(tensors_that_cannot_be_are_refused),
		TEST(parts_that_cannot_be_are_refused),
		TEST(hostile_parts_are_refused),
		cmocka_unit_test(every_row_is_given_exactly_once),
		TEST(a_name_given_twice_is_refused),
		TEST(a_backend_that_contradicts_itself_is_refused),
		cmocka_unit_test(floats_of_sixteen_bits_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

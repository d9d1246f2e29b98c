/* test-builder.c - what a checkpoint says of its tensors is what the image then holds, element by element. */
#include "builder-scene.h"

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

static void what_is_turned_from_blocks_is_bf16_in_fast_precision(void **state)
{
	struct checkpoint *c = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	uint32_t t, u;

	c->precision = DS_PRECISION_FAST;
	assert_int_equal(add(c, "plain", DS_DTYPE_F32, 300, 200, &t, NULL), 0);
	assert_int_equal(part(c, fp8_part(t, 300, true), NULL), 0);
	assert_int_equal(add(c, "plain too", DS_DTYPE_F32, 200, 300, &u, NULL), 0);
	assert_int_equal(part(c, fp8_part(u, 200, false), NULL), 0);
	image = build(c);
	assert_int_equal(ds_image_tensor(image, "plain")->dtype, DS_DTYPE_BF16);
	assert_int_equal(ds_image_tensor(image, "plain too")->dtype, DS_DTYPE_F32);
	for (uint64_t r = 0; r < 200; r++)
		for (uint64_t k = 0; k < 300; k++) {
			float want = fp8_element(1000, 300, 150 + r, k), got = ds_bf16_to_f32(half(image, "plain", k, r));

			assert_true(isnan(want) ? isnan(got) : fabsf(got - want) <= fabsf(want) * 0x1p-8f);
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
		TEST(what_is_turned_from_blocks_is_bf16_in_fast_precision),
		TEST(fp8_without_scales_is_what_it_says),
		TEST(a_tensor_of_many_chunks_arrives),
		TEST(tensors_of_a_mapped_model_stay_where_they_are),
		TEST(a_file_that_shrinks_while_it_is_read_is_told),
		TEST(filling_ends_when_nobody_listens),
		TEST(parameters_are_counted),
		cmocka_unit_test(every_row_is_given_exactly_once),
		cmocka_unit_test(floats_of_sixteen_bits_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

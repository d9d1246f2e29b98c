/* test-image.c - what the writer lays out the reader accepts, and nothing that contradicts itself. */
#include "image-writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const struct ds_hparams hparams = {.architecture = "deepseek", .vocab = 4, .hidden = 8, .n_layers = 1};

static const struct ds_token tokens[] = {
	{"a", 1, 0}, {"b\0c", 3, 0}, {"", 0, DS_TOKEN_UNUSED}, {"<end>", 5, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
};
static const struct ds_merge merges[] = {{0, 1, 2}};
static const struct ds_vocabulary vocabulary = {
	.tokenizer = "bpe",
	.tokens = tokens,
	.n_tokens = 4,
	.merges = merges,
	.n_merges = 1,
	.patterns = {"\\d+", "x"},
	.n_patterns = 2,
	.ignore_merges = true,
	.bos = DS_NO_TOKEN,
	.eos = {3},
	.n_eos = 1,
};

static struct ds_tensor_desc tensor(const char *name, uint64_t rows, uint64_t cols)
{
	return (struct ds_tensor_desc){name, DS_DTYPE_F32, 2, {rows, cols, 1, 1}};
}

/* A writer with hyperparameters and two tensors, not in the order of their names. */
static struct ds_image_writer *new_writer(bool with_vocabulary)
{
	struct ds_tensor_desc second = tensor("second", 3, 5), first = tensor("first", 2, 8);
	struct ds_image_writer *w = NULL;

	assert_int_equal(ds_image_writer_new(&w, NULL), 0);
	assert_int_equal(ds_image_writer_hparams(w, &hparams, NULL), 0);
	if (with_vocabulary)
		assert_int_equal(ds_image_writer_vocabulary(w, &vocabulary, NULL), 0);
	assert_int_equal(ds_image_writer_dialect(w, "deepseek-r1", NULL), 0);
	assert_int_equal(ds_image_writer_backend(w, "cpu-1", NULL), 0);
	assert_int_equal(ds_image_writer_tensor(w, &second, 0, 60, NULL), 0);
	assert_int_equal(ds_image_writer_tensor(w, &first, 7, 10, NULL), 0);
	return w;
}

/* The image in a memfd of its own; tensors are filled with their number from 1. */
static int new_image(bool with_vocabulary)
{
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = new_writer(with_vocabulary);
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char ones[60], twos[10];

	assert_int_equal(ds_image_writer_layout(w, NULL), 0);
	assert_int_equal(ftruncate(fd, (off_t)ds_image_writer_size(w)), 0);
	assert_int_equal(ds_image_writer_write(w, fd, NULL), 0);
	memset(ones, 1, sizeof(ones));
	memset(twos, 2, sizeof(twos));
	assert_int_equal(pwrite(fd, ones, 60, (off_t)ds_image_writer_offset(w, 0)), 60);
	assert_int_equal(pwrite(fd, twos, 10, (off_t)ds_image_writer_offset(w, 1)), 10);
	return fd;
}

static void an_image_gives_back_what_was_written(void **state)
{
	ds_cleanup(ds_closep) int fd = new_image(true);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	const struct ds_vocabulary *v;
	const struct ds_image_tensor *t;
	const uint8_t *data;
	uint64_t size;

	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	assert_memory_equal(ds_image_hparams(image), &hparams, sizeof(hparams));
	assert_string_equal(ds_image_dialect(image), "deepseek-r1");
	assert_string_equal(ds_image_backend(image), "cpu-1");
	v = ds_image_vocabulary(image);
	assert_string_equal(v->tokenizer, "bpe");
	assert_int_equal(v->n_tokens, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(v->tokens[i].size, tokens[i].size);
		assert_int_equal(v->tokens[i].flags, tokens[i].flags);
		assert_memory_equal(v->tokens[i].text, tokens[i].text, tokens[i].size + 1u);
	}
	assert_int_equal(v->n_merges, 1);
	assert_memory_equal(v->merges, merges, sizeof(merges));
	assert_int_equal(v->n_patterns, 2);
	assert_string_equal(v->patterns[0], "\\d+");
	assert_string_equal(v->patterns[1], "x");
	assert_true(v->ignore_merges && !v->nfc && !v->add_bos);
	assert_int_equal(v->bos, DS_NO_TOKEN);
	assert_int_equal(v->n_eos, 1);
	assert_int_equal(v->eos[0], 3);
	data = ds_image_data(image, &size);
	assert_int_equal((uintptr_t)data % (2 << 20), 0);
	t = ds_image_tensor(image, "second");
	assert_int_equal(t->shape[1], 5);
	assert_int_equal(t->offset % DS_IMAGE_TENSOR_ALIGN, 0);
	assert_int_equal(data[t->offset + 59], 1);
	t = ds_image_tensor(image, "first");
	assert_int_equal(t->layout, 7);
	assert_int_equal(data[t->offset], 2);
	assert_int_equal(t->offset + t->size, size);
	assert_null(ds_image_tensor(image, "third"));
	assert_null(ds_image_tensor(image, ""));
	assert_null(ds_image_tensor(image, "a"));
}

static void an_image_without_a_vocabulary_has_none(void **state)
{
	ds_cleanup(ds_closep) int fd = new_image(false);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;

	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	assert_null(ds_image_vocabulary(image));
}

static void tensors_lie_in_the_order_they_were_given(void **state)
{
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = new_writer(false);

	assert_int_equal(ds_image_writer_layout(w, NULL), 0);
	assert_true(ds_image_writer_offset(w, 0) < ds_image_writer_offset(w, 1));
	assert_int_equal(ds_image_writer_weights_size(w), 64 + 10);
}

static void an_engine_takes_only_sealed_images(void **state)
{
	ds_cleanup(ds_closep) int fd = new_image(true);
	ds_cleanup(ds_closep) int readable = -1;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_error err;
	char path[32];

	assert_int_equal(ds_image_open(&image, fd, true, &err), -EPERM);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
	assert_int_equal(ds_image_open(&image, fd, true, &err), -EPERM);
	assert_non_null(strstr(err.text, "is not sealed"));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readable = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(ds_image_open(&image, readable, true, &err), 0);
}

static void a_file_that_is_no_image_is_refused(void **state)
{
	ds_cleanup(ds_closep) int fd = memfd_create("image", MFD_CLOEXEC);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_error err;

	assert_int_equal(ds_image_open(&image, fd, false, &err), -EINVAL);
	assert_int_equal(ftruncate(fd, 100000), 0);
	assert_int_equal(ds_image_open(&image, fd, false, &err), -EINVAL);
	assert_string_equal(err.text, "not a model image");
	assert_null(image);
}

/* One change to a good image: @size bytes of @value at @offset in @section (DS_N_SECTIONS: the header). */
struct change {
	enum ds_image_section_id section;
	size_t offset, size;
	uint64_t value;
	const char *sentence;
};

/* clang-format off */
#define HEADER(field, value_, sentence_)                                                                     \
	{DS_N_SECTIONS, offsetof(struct ds_image_header, field), sizeof(((struct ds_image_header *)0)->field), value_, \
	 sentence_}
#define IN(section_, type, field, value_, sentence_) \
	{section_, offsetof(struct type, field), sizeof(((struct type *)0)->field), value_, sentence_}

static const struct change changes[] = {
	HEADER(magic, 1, "not a model image"),
	HEADER(version, 1, "version 1, this is 3"),
	HEADER(size, 4096, "the image says 4096 bytes"),
	HEADER(n_tensors, 3, "tensor table"),
	HEADER(n_tensors, UINT32_MAX, "tensor table"),
	HEADER(sections[DS_SECTION_HPARAMS].size, 8, "hyperparameters of the image has 8 bytes"),
	HEADER(sections[DS_SECTION_HPARAMS].offset, 0, "hyperparameters of the image is out of place"),
	HEADER(sections[DS_SECTION_TOKENS].offset, 1ull << 63, "tokens of the image is out of place"),
	HEADER(sections[DS_SECTION_TOKENS].size, UINT64_MAX, "tokens of the image is out of place"),
	HEADER(sections[DS_SECTION_TEXT].offset, 4097, "text of the image is out of place"),
	HEADER(sections[DS_SECTION_TEXT].offset, 8192, "text of the image is out of place"),
	HEADER(sections[DS_SECTION_TEXT].size, 1, "out of place"),
	HEADER(sections[DS_SECTION_TEXT].size, 0, "out of place"),
	HEADER(sections[DS_SECTION_MERGES].size, 0, "merges of the image has 0 bytes for 1"),
	HEADER(sections[DS_SECTION_VOCABULARY].size, 8, "vocabulary of the image has 8 bytes"),
	HEADER(sections[DS_SECTION_TENSORS].size, 1, "tensor first of the image is out of place"),
	IN(DS_SECTION_HPARAMS, ds_hparams, vocab, 3, "the image has 4 tokens, the model 3"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, tokenizer[0], 0, "names no tokenizer"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, n_tokens, 3, "tokens of the image has"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, n_patterns, DS_MAX_PATTERNS + 1, "9 patterns"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, n_eos, UINT32_MAX, "end tokens"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, eos[0], 4, "end token 4 is out of range"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, bos, 4, "first token 4 is out of range"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, unknown, 4, "unknown token 4 is out of range"),
	HEADER(sections[DS_SECTION_SCORES].size, 4, "text of the image is out of place"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, patterns[1].size, UINT32_MAX, "pattern 1"),
	IN(DS_SECTION_VOCABULARY, ds_image_vocabulary, patterns[0].size, 2, "pattern 0"),
	IN(DS_SECTION_TOKENS, ds_image_token, text.offset, UINT32_MAX, "text of token 0"),
	IN(DS_SECTION_TOKENS, ds_image_token, text.size, UINT32_MAX, "text of token 0"),
	IN(DS_SECTION_TOKENS, ds_image_token, text.size, 0, "text of token 0"),
	IN(DS_SECTION_MERGES, ds_merge, merged, 4, "merge 0"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, name[0], 'z', "tensor second of the image is out of order"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, name[0], 0, "tensor 0 of the image has no name"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, dtype, 99, "type 99"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, n_dims, 5, "5 dimensions"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, n_dims, 0, "0 dimensions"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, shape[0], 0, "tensor first"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, shape[0], 1ull << 61, "tensor first"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, shape[3], 2, "tensor first"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, layout, 0, "its shape needs more"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, offset, 0, "tensor first of the image is out of place"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, offset, UINT64_MAX - 63, "tensor first of the image is out of place"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, size, UINT64_MAX, "tensor first of the image is out of place"),
	IN(DS_SECTION_TENSOR_TABLE, ds_image_tensor, size, 0, "tensor first of the image is out of place"),
};
/* clang-format on */

/* The image @fd with change @c, which is number @i of its table. */
static void refuse(int fd, const struct change *c, size_t i)
{
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_image_header h;
	uint64_t base = 0;
	struct ds_error err = {""};

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	if (c->section < DS_N_SECTIONS)
		base = h.sections[c->section].offset;
	assert_int_equal(pwrite(fd, &c->value, c->size, (off_t)(base + c->offset)), c->size);
	if (ds_image_open(&image, fd, false, &err) != -EINVAL)
		fail_msg("change %zu is not refused", i);
	assert_null(image);
	if (!strstr(err.text, c->sentence))
		fail_msg("change %zu: \"%s\" does not say \"%s\"", i, err.text, c->sentence);
}

static void an_image_that_contradicts_itself_is_refused(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(changes); i++) {
		ds_cleanup(ds_closep) int fd = new_image(true);

		refuse(fd, &changes[i], i);
	}
}

/* Mapped: two files of 1000 floats that count up from 0 and from 5000. A stack of three matrices (2, 4) has one in the
 * second and two in the first, "whole" (3, 5) is in the second, "norm" in the image. */
enum { N_FLOATS = 1000 };

static int new_file(float first)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	float floats[N_FLOATS];

	for (unsigned i = 0; i < N_FLOATS; i++)
		floats[i] = first + (float)i;
	assert_int_equal(write(fd, floats, sizeof(floats)), sizeof(floats));
	return fd;
}

static int new_mapped_image(const int files[2])
{
	static const struct ds_image_place stack[] = {{.file = 1, .offset = 40}, {.file = 0, .offset = 400}, {.file = 0}};
	static const struct ds_image_place whole[] = {{.file = 1, .offset = 4 * (N_FLOATS - 15)}};
	const struct ds_tensor_desc norm = {"norm", DS_DTYPE_F32, 1, {3}};
	const struct ds_tensor_desc stacked = {"stack", DS_DTYPE_F32, 3, {3, 2, 4, 1}};
	const struct ds_tensor_desc in_one = {"whole", DS_DTYPE_F32, 2, {3, 5, 1, 1}};
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = NULL;
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_int_equal(ds_image_writer_new(&w, NULL), 0);
	assert_int_equal(ds_image_writer_hparams(w, &hparams, NULL), 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct stat st;
		uint32_t number;

		assert_int_equal(fstat(files[i], &st), 0);
		assert_int_equal(ds_image_writer_file(w, i ? "second" : "first", &st, &number, NULL), 0);
		assert_int_equal(number, i);
	}
	assert_int_equal(ds_image_writer_mapped_tensor(w, &stacked, stack, 3, NULL), 0);
	assert_int_equal(ds_image_writer_tensor(w, &norm, 0, 12, NULL), 0);
	assert_int_equal(ds_image_writer_mapped_tensor(w, &in_one, whole, 1, NULL), 0);
	assert_int_equal(ds_image_writer_layout(w, NULL), 0);
	assert_int_equal(ds_image_writer_mapped_size(w), 96 + 60);
	assert_int_equal(ds_image_writer_weights_size(w), 96 + 60 + 12);
	assert_int_equal(ftruncate(fd, (off_t)ds_image_writer_size(w)), 0);
	assert_int_equal(ds_image_writer_write(w, fd, NULL), 0);
	return fd;
}

static void tensors_may_stay_in_files(void **state)
{
	int files[] = {new_file(0), new_file(5000)};
	ds_cleanup(ds_closep) int fd = new_mapped_image(files);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	const void *const *matrices;
	const float *data;
	uint32_t n;

	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	assert_string_equal(ds_image_files(image, &n)[1].name, "second");
	assert_int_equal(n, 2);
	assert_null(ds_image_tensor_data(image, ds_image_tensor(image, "whole"), &matrices));
	assert_int_equal(ds_image_map_files(image, files, 2, NULL), 0);
	close(files[0]);
	close(files[1]);
	data = ds_image_tensor_data(image, ds_image_tensor(image, "whole"), &matrices);
	assert_null(matrices);
	assert_true(data[0] == 5985 && data[14] == 5999);
	data = ds_image_tensor_data(image, ds_image_tensor(image, "stack"), &matrices);
	assert_ptr_equal(data, matrices[0]);
	assert_true(data[0] == 5010 && data[7] == 5017);
	assert_true(((const float *)matrices[1])[0] == 100 && ((const float *)matrices[2])[7] == 7);
	assert_non_null(ds_image_tensor_data(image, ds_image_tensor(image, "norm"), &matrices));
	assert_null(matrices);
}

static void only_the_files_that_the_loader_saw_are_mapped(void **state)
{
	int files[] = {new_file(0), new_file(5000)}, swapped[] = {files[1], files[0]};
	ds_cleanup(ds_closep) int fd = new_mapped_image(files);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_error err;

	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	assert_int_equal(ds_image_map_files(image, files, 1, &err), -EPROTO);
	assert_int_equal(ds_image_map_files(image, swapped, 2, &err), -ESTALE);
	assert_string_equal(err.text, "first changed");
	image = ds_image_free(image);
	assert_int_equal(ftruncate(files[1], 4 * N_FLOATS - 1), 0);
	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	assert_int_equal(ds_image_map_files(image, files, 2, &err), -ESTALE);
	assert_string_equal(err.text, "second changed");
	close(files[0]);
	close(files[1]);
}

/* The table is sorted: norm, stack, whole. */
#define IN_TENSOR(number, field, value_, sentence_)                                                           \
	{DS_SECTION_TENSOR_TABLE, (number) * sizeof(struct ds_image_tensor) + offsetof(struct ds_image_tensor, field), \
	 sizeof(((struct ds_image_tensor *)0)->field), value_, sentence_}

/* clang-format off */
static const struct change mapped_changes[] = {
	IN_TENSOR(1, n_places, 2, "tensor stack of the image has 2 places from 0 on"),
	IN_TENSOR(1, n_places, UINT32_MAX, "tensor stack of the image has 4294967295 places"),
	IN_TENSOR(1, n_places, 0, "tensor stack of the image is out of place"),
	IN_TENSOR(1, first_place, 2, "tensor stack of the image has 3 places from 2 on"),
	IN_TENSOR(2, first_place, UINT64_MAX, "tensor whole of the image has 1 places from 18446744073709551615 on"),
	IN_TENSOR(2, layout, 1, "tensor whole of the image has 1 places"),
	IN_TENSOR(2, offset, 64, "tensor whole of the image has 1 places"),
	IN_TENSOR(2, size, 120, "its shape needs"),
	IN_TENSOR(2, shape[0], 4, "its shape needs"),
	IN_TENSOR(0, n_places, 1, "tensor norm of the image has 1 places"),
	IN(DS_SECTION_FILES, ds_image_file, name[0], 0, "file 0 of the image has no name"),
	IN(DS_SECTION_FILES, ds_image_file, name[2], '/', "file 0 of the image has no name"),
	IN(DS_SECTION_FILES, ds_image_file, size, 431, "place 1 of tensor stack of the image is in no file"),
	IN(DS_SECTION_FILES, ds_image_file, size, 0, "file 0 of the image has no name or no size"),
	IN(DS_SECTION_FILES, ds_image_file, size, UINT64_MAX, "file 0 of the image has no name or no size"),
	IN(DS_SECTION_PLACES, ds_image_place, file, 2, "place 0 of tensor stack"),
	IN(DS_SECTION_PLACES, ds_image_place, offset, 42, "place 0 of tensor stack"),
	IN(DS_SECTION_PLACES, ds_image_place, offset, 4 * N_FLOATS - 28, "place 0 of tensor stack"),
	IN(DS_SECTION_PLACES, ds_image_place, offset, UINT64_MAX - 3, "place 0 of tensor stack"),
	HEADER(sections[DS_SECTION_PLACES].size, 32, "tensor stack of the image has 3 places"),
	HEADER(sections[DS_SECTION_PLACES].size, 63, "places of 63"),
	HEADER(sections[DS_SECTION_FILES].size, 0, "place 0 of tensor stack"),
	HEADER(sections[DS_SECTION_FILES].size, 1, "files of 1 bytes"),
};
/* clang-format on */

static void places_outside_of_files_are_refused(void **state)
{
	int files[] = {new_file(0), new_file(5000)};

	for (size_t i = 0; i < DS_ARRAY_SIZE(mapped_changes); i++) {
		ds_cleanup(ds_closep) int fd = new_mapped_image(files);

		refuse(fd, &mapped_changes[i], i);
	}
	close(files[0]);
	close(files[1]);
}

/* An FP8 row of one element takes 132 bytes: the shape fits, the bytes do not. */
static void a_tensor_of_more_bytes_than_can_be_counted_is_refused(void **state)
{
	ds_cleanup(ds_closep) int fd = new_image(true);
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_image_header h;
	struct ds_image_tensor t;
	struct ds_error err = {""};

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(pread(fd, &t, sizeof(t), (off_t)h.sections[DS_SECTION_TENSOR_TABLE].offset), sizeof(t));
	t.dtype = DS_DTYPE_FP8;
	t.layout = 0;
	t.shape[0] = 1ull << 59;
	t.shape[1] = 1;
	assert_int_equal(pwrite(fd, &t, sizeof(t), (off_t)h.sections[DS_SECTION_TENSOR_TABLE].offset), sizeof(t));
	assert_int_equal(ds_image_open(&image, fd, false, &err), -EINVAL);
	assert_non_null(strstr(err.text, "its shape needs more"));
}

static void names_that_do_not_end_are_refused(void **state)
{
	static const size_t offsets[] = {
		offsetof(struct ds_image_header, dialect),
		offsetof(struct ds_image_header, backend),
		4096 + offsetof(struct ds_hparams, architecture),
	};
	static const size_t sizes[] = {32, 64, 32};
	char full[64];

	memset(full, 'x', sizeof(full));
	for (size_t i = 0; i < DS_ARRAY_SIZE(offsets); i++) {
		ds_cleanup(ds_closep) int fd = new_image(true);
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		struct ds_error err;

		assert_int_equal(pwrite(fd, full, sizes[i], (off_t)offsets[i]), sizes[i]);
		assert_int_equal(ds_image_open(&image, fd, false, &err), -EINVAL);
		assert_non_null(strstr(err.text, "does not end"));
	}
}

static void a_truncated_image_is_refused_wherever_it_ends(void **state)
{
	ds_cleanup(ds_closep) int fd = new_image(true);
	off_t size = lseek(fd, 0, SEEK_END);

	for (off_t n = size - 1; n > 0; n -= 97) {
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;

		assert_int_equal(ftruncate(fd, n), 0);
		assert_int_equal(ds_image_open(&image, fd, false, NULL), -EINVAL);
	}
}

static void the_writer_takes_nothing_twice(void **state)
{
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = new_writer(true);
	struct ds_tensor_desc again = tensor("first", 2, 8);
	struct ds_error err;

	assert_int_equal(ds_image_writer_hparams(w, &hparams, &err), -EINVAL);
	assert_int_equal(ds_image_writer_vocabulary(w, &vocabulary, &err), -EINVAL);
	assert_int_equal(ds_image_writer_tensor(w, &again, 0, 64, &err), 0);
	assert_int_equal(ds_image_writer_layout(w, &err), -EINVAL);
	assert_string_equal(err.text, "tensor first is given twice");
}

static void the_writer_wants_a_model(void **state)
{
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = NULL;
	struct ds_error err;

	assert_int_equal(ds_image_writer_new(&w, &err), 0);
	assert_int_equal(ds_image_writer_layout(w, &err), -EINVAL);
	assert_string_equal(err.text, "a model without hyperparameters");
	assert_int_equal(ds_image_writer_hparams(w, &hparams, &err), 0);
	assert_int_equal(ds_image_writer_layout(w, &err), -EINVAL);
	assert_string_equal(err.text, "a model without tensors");
}

static void the_writer_refuses_what_the_reader_would(void **state)
{
	static const struct ds_vocabulary wrong[] = {
		{.tokens = tokens, .n_tokens = 1, .bos = DS_NO_TOKEN},
		{.tokenizer = "bpe", .tokens = tokens, .n_tokens = 1, .merges = merges, .n_merges = 1},
		{.tokenizer = "bpe", .tokens = tokens, .n_tokens = 1, .n_eos = DS_MAX_EOS + 1},
		{.tokenizer = "bpe", .tokens = tokens, .n_tokens = 1, .bos = 4},
		{.tokenizer = "bpe", .tokens = tokens, .n_tokens = 1, .bos = DS_NO_TOKEN, .n_eos = 1, .eos = {4}},
		{.tokenizer = "a tokenizer with a name too long to keep", .tokens = tokens, .n_tokens = 1},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(wrong); i++) {
		ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = new_writer(false);
		int r = ds_image_writer_vocabulary(w, &wrong[i], NULL);

		assert_true(r < 0 || ds_image_writer_layout(w, NULL) == -EINVAL);
	}
}

static void an_image_too_large_to_be_a_file_is_refused(void **state)
{
	ds_cleanup(ds_image_writer_freep) struct ds_image_writer *w = new_writer(false);
	struct ds_tensor_desc huge = tensor("huge", 1ull << 30, 1ull << 29);

	assert_int_equal(ds_image_writer_tensor(w, &huge, 0, 1ull << 61, NULL), 0);
	huge.name = "as huge";
	assert_int_equal(ds_image_writer_tensor(w, &huge, 1, UINT64_MAX - (1ull << 61), NULL), 0);
	assert_int_equal(ds_image_writer_layout(w, NULL), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_gives_back_what_was_written),
		cmocka_unit_test(an_image_without_a_vocabulary_has_none),
		cmocka_unit_test(tensors_lie_in_the_order_they_were_given),
		cmocka_unit_test(an_engine_takes_only_sealed_images),
		cmocka_unit_test(a_file_that_is_no_image_is_refused),
		cmocka_unit_test(an_image_that_contradicts_itself_is_refused),
		cmocka_unit_test(tensors_may_stay_in_files),
		cmocka_unit_test(only_the_files_that_the_loader_saw_are_mapped),
		cmocka_unit_test(places_outside_of_files_are_refused),
		cmocka_unit_test(a_tensor_of_more_bytes_than_can_be_counted_is_refused),
		cmocka_unit_test(names_that_do_not_end_are_refused),
		cmocka_unit_test(a_truncated_image_is_refused_wherever_it_ends),
		cmocka_unit_test(the_writer_takes_nothing_twice),
		cmocka_unit_test(the_writer_wants_a_model),
		cmocka_unit_test(the_writer_refuses_what_the_reader_would),
		cmocka_unit_test(an_image_too_large_to_be_a_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

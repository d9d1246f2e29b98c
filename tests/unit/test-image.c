/* test-image.c - what the writer lays out the reader accepts, and nothing that contradicts itself. */
#include "image-writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

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
	HEADER(version, 1, "version 1, this is 2"),
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

static void an_image_that_contradicts_itself_is_refused(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(changes); i++) {
		const struct change *c = &changes[i];
		ds_cleanup(ds_closep) int fd = new_image(true);
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		struct ds_image_header h;
		uint64_t base = 0;
		struct ds_error err = {""};

		assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
		if (c->section < DS_N_SECTIONS)
			base = h.sections[c->section].offset;
		assert_int_equal(pwrite(fd, &c->value, c->size, (off_t)(base + c->offset)), c->size);
		assert_int_equal(ds_image_open(&image, fd, false, &err), -EINVAL);
		assert_null(image);
		if (!strstr(err.text, c->sentence))
			fail_msg("change %zu: \"%s\" does not say \"%s\"", i, err.text, c->sentence);
	}
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
		cmocka_unit_test(names_that_do_not_end_are_refused),
		cmocka_unit_test(a_truncated_image_is_refused_wherever_it_ends),
		cmocka_unit_test(the_writer_takes_nothing_twice),
		cmocka_unit_test(the_writer_wants_a_model),
		cmocka_unit_test(the_writer_refuses_what_the_reader_would),
		cmocka_unit_test(an_image_too_large_to_be_a_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

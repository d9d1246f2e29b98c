/* test-arch.c - an image that was tampered with is refused with a name, or computes; it never harms. */
#include "arch/arch.h"
#include "engine-image.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MAX_ROWS 8
#define N_PAGES 4

static float logits[MAX_ROWS * 1024];

/* Bind the image in @fd and, if it binds, compute eight rows and a draft. */
static int try_image(int fd, struct ds_error *err)
{
	static const uint32_t table[N_PAGES] = {2, 0, 3, 1}, tokens[MAX_ROWS] = {0}, indices[MAX_ROWS] = {0, 1, 2, 3, 4, 5, 6, 7};
	static const uint32_t positions[MAX_ROWS] = {14, 15, 16, 17, 18, 19, 20, 21};
	const uint32_t *pages[MAX_ROWS] = {table, table, table, table, table, table, table, table};
	struct ds_rows rows = {MAX_ROWS, tokens, positions, pages};
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_arch_setup setup = {.ops = &ds_cpu_ops, .precision = DS_PRECISION_EXACT, .kv_dtype = DS_DTYPE_F32,
				      .n_pages = N_PAGES, .page_tokens = 16, .max_rows = MAX_ROWS, .max_logits = MAX_ROWS};
	const struct ds_arch *arch;
	void *model;
	int r = ds_image_open(&image, fd, false, err);

	if (r < 0)
		return r;
	arch = ds_arch_find(ds_image_hparams(image), err);
	if (!arch)
		return -EINVAL;
	setup.image = image;
	assert_int_equal(ds_cpu_ops.open(&setup.backend, NULL, NULL, err), 0);
	assert_int_equal(ds_cpu_ops.start(setup.backend, 1, err), 0);
	r = arch->open(&model, &setup, err);
	if (r == 0) {
		uint32_t n_mtp = ds_image_hparams(image)->n_mtp;

		assert_true(ds_image_hparams(image)->vocab <= 1024);
		arch->forward(model, &rows);
		r = arch->logits(model, indices, MAX_ROWS, logits, err);
		if (n_mtp > 0) {
			arch->draft(model, &rows, indices);
			r = arch->logits(model, indices, MAX_ROWS, logits, err);
		}
		arch->close(model);
	}
	ds_cpu_ops.close(setup.backend);
	return r;
}

struct bench {
	int fd;
	uint8_t *data;
	uint64_t size;
	const struct ds_image_header *header;
};

static struct bench begin_with(struct ds_hparams hparams)
{
	struct bench b = {.fd = image_new_of(hparams)};

	b.size = (uint64_t)lseek(b.fd, 0, SEEK_END);
	b.data = mmap(NULL, b.size, PROT_READ | PROT_WRITE, MAP_SHARED, b.fd, 0);
	b.header = (const struct ds_image_header *)b.data;
	return b;
}

static struct bench begin(void)
{
	return begin_with(image_hparams());
}

static void end(struct bench *b)
{
	munmap(b->data, b->size);
	close(b->fd);
}

static struct ds_hparams *hparams_of(struct bench *b)
{
	return (struct ds_hparams *)(b->data + b->header->sections[DS_SECTION_HPARAMS].offset);
}

static struct ds_image_tensor *tensor_of(struct bench *b, const char *name)
{
	struct ds_image_tensor *t = (struct ds_image_tensor *)(b->data + b->header->sections[DS_SECTION_TENSOR_TABLE].offset);

	while (strcmp(t->name, name) != 0)
		t++;
	return t;
}

static void a_good_image_computes_finite_numbers(void **state)
{
	const struct ds_hparams hparams[] = {image_hparams(), image_llama_hparams()};

	for (size_t k = 0; k < DS_ARRAY_SIZE(hparams); k++) {
		struct bench b = begin_with(hparams[k]);
		struct ds_error err = {{0}};

		assert_int_equal(try_image(b.fd, &err), 0);
		for (uint32_t i = 0; i < MAX_ROWS * hparams_of(&b)->vocab; i++)
			assert_true(isfinite(logits[i]));
		end(&b);
	}
}

/* The largest difference that a change of the hyperparameters makes to the logits. */
static double change_of(struct bench *b, const struct ds_hparams *other)
{
	static float before[MAX_ROWS * 1024];
	struct ds_hparams *p = hparams_of(b), good = *p;
	struct ds_error err = {{0}};
	double largest = 0;

	assert_int_equal(try_image(b->fd, &err), 0);
	memcpy(before, logits, sizeof(before));
	*p = *other;
	assert_int_equal(try_image(b->fd, &err), 0);
	*p = good;
	for (uint32_t i = 0; i < MAX_ROWS * p->vocab; i++)
		largest = fmax(largest, fabs(before[i] - logits[i]));
	return largest;
}

static void what_tells_llamas_apart_counts(void **state)
{
	struct bench b = begin_with(image_llama_hparams());
	struct ds_hparams other = image_llama_hparams();

	assert_true(change_of(&b, &other) == 0);
	other.qkv_bias = 0;
	assert_true(change_of(&b, &other) > 1e-4);
	other = image_llama_hparams();
	other.qk_norm = 0;
	assert_true(change_of(&b, &other) > 1e-4);
	other = image_llama_hparams();
	other.rope_scaling = DS_ROPE_PLAIN;
	assert_true(change_of(&b, &other) > 1e-4);
	end(&b);
}

/* YaRN's magnitude multiplies queries and keys: the scores by its square. Without it is the same as with 1. */
static void the_magnitude_of_yarn_counts_where_it_is_given(void **state)
{
	struct ds_hparams yarn = image_llama_hparams(), other;
	struct bench b;

	yarn.rope_scaling = DS_ROPE_YARN;
	yarn.rope_beta_fast = 32;
	yarn.rope_beta_slow = 1;
	b = begin_with(yarn);
	other = yarn;
	other.rope_magnitude = 1;
	assert_true(change_of(&b, &other) == 0);
	other.rope_magnitude = 1.5f;
	assert_true(change_of(&b, &other) > 1e-4);
	end(&b);
}

static void a_cache_holds_keys_and_values_of_every_layer(void **state)
{
	const struct ds_hparams deepseek = image_hparams();
	struct ds_hparams llama = image_llama_hparams();

	/* with a layer of multi-token prediction: 3 layers of 16 + 4; 2 layers of 2 heads of 12, twice */
	assert_int_equal(ds_arch_deepseek.kv_size(&deepseek, DS_DTYPE_BF16), 3 * 20 * 2);
	assert_int_equal(ds_arch_llama.kv_size(&llama, DS_DTYPE_F32), 2 * 2 * 12 * 2 * 4);
	llama.head_dim = 64;
	assert_int_equal(ds_arch_llama.kv_size(&llama, DS_DTYPE_Q8_0), 2 * 2 * 2 * 2 * 34);
}

static void a_llama_that_makes_no_sense_is_refused_by_name(void **state)
{
	static const struct {
		size_t offset;
		uint32_t value;
		const char *sentence;
	} cases[] = {
		{offsetof(struct ds_hparams, n_kv_heads), 3, "4 heads cannot share 3 key heads"},
		{offsetof(struct ds_hparams, n_kv_heads), 0, "n_kv_heads is 0"},
		{offsetof(struct ds_hparams, head_dim), 13, "head_dim is 13, which is odd"},
		{offsetof(struct ds_hparams, head_dim), 10, "tensor layers.0.q has shape (48, 32)"},
		{offsetof(struct ds_hparams, qkv_bias), 2, "qkv_bias is 2"},
		{offsetof(struct ds_hparams, n_mtp), 1, "n_mtp is 1"},
		{offsetof(struct ds_hparams, n_experts), 8, "n_experts is 8"},
		{offsetof(struct ds_hparams, rope_original_context), 0, "llama3"},
		{offsetof(struct ds_hparams, vocab), 0, "vocab is 0"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct bench b = begin_with(image_llama_hparams());
		struct ds_error err = {{0}};

		memcpy((char *)hparams_of(&b) + cases[i].offset, &cases[i].value, sizeof(cases[i].value));
		assert_true(try_image(b.fd, &err) < 0);
		if (!strstr(err.text, cases[i].sentence))
			fail_msg("\"%s\" instead of \"%s\"", err.text, cases[i].sentence);
		end(&b);
	}
}

static void a_wrong_shape_is_refused_with_the_tensors_name(void **state)
{
	struct bench b = begin();
	struct ds_error err;

	tensor_of(&b, "layers.1.experts_up")->shape[1] ^= 1;
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "layers.1.experts_up"));
	end(&b);
}

static void a_missing_tensor_is_named(void **state)
{
	struct bench b = begin();
	struct ds_error err;

	memcpy(tensor_of(&b, "output_norm")->name, "output_normx", 13);
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "output_norm"));
	end(&b);
}

static void a_layout_that_the_backend_did_not_choose_is_refused(void **state)
{
	struct bench b = begin();
	struct ds_error err;

	tensor_of(&b, "output")->layout ^= 0x40;
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "output"));
	end(&b);
}

static void hyperparameters_that_make_no_sense_are_named(void **state)
{
	struct bench b = begin();
	struct ds_hparams *p = hparams_of(&b), good = *p;
	struct ds_error err;

	p->n_groups = 3;
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "3 groups"));
	*p = good;
	p->n_experts_used = 5; /* one group of four is used */
	assert_true(try_image(b.fd, &err) < 0);
	*p = good;
	p->qk_rope = 5;
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "qk_rope"));
	*p = good;
	p->norm_eps = NAN;
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "norm_eps"));
	*p = good;
	memcpy(p->architecture, "llamas", 7);
	assert_true(try_image(b.fd, &err) < 0);
	assert_non_null(strstr(err.text, "llamas"));
	end(&b);
}

/* Every word of the header, the hyperparameters and the tensor table, changed in every nasty way. */
static void try_every_word(struct ds_hparams hparams)
{
	static const enum ds_image_section_id sections[] = {DS_SECTION_HPARAMS, DS_SECTION_TENSOR_TABLE};
	static const uint32_t values[] = {0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fc00000, 0x00010000};
	struct bench b = begin_with(hparams);
	struct ds_error err;
	uint64_t first = 0, last = sizeof(*b.header);

	for (size_t s = 0; s <= DS_ARRAY_SIZE(sections); s++) {
		for (uint64_t at = first; at + 4 <= last; at += 4) {
			uint32_t good, *word = (uint32_t *)(b.data + at);

			memcpy(&good, word, sizeof(good));
			for (size_t i = 0; i < DS_ARRAY_SIZE(values) + 2; i++) {
				*word = i < DS_ARRAY_SIZE(values) ? values[i] : i % 2 ? good + 1 : good - 1;
				err.text[0] = '\0';
				if (try_image(b.fd, &err) < 0)
					assert_true(err.text[0] != '\0');
			}
			*word = good;
		}
		if (s == DS_ARRAY_SIZE(sections))
			break;
		first = b.header->sections[sections[s]].offset;
		last = first + b.header->sections[sections[s]].size;
		if (s == 1) /* one kind of tensor is as good as another: a few of them do */
			last = first + 6 * sizeof(struct ds_image_tensor);
	}
	assert_int_equal(try_image(b.fd, &err), 0);
	end(&b);
}

static void no_word_of_an_image_can_do_harm(void **state)
{
	try_every_word(image_hparams());
	try_every_word(image_llama_hparams());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_image_computes_finite_numbers),
		cmocka_unit_test(what_tells_llamas_apart_counts),
		cmocka_unit_test(the_magnitude_of_yarn_counts_where_it_is_given),
		cmocka_unit_test(a_cache_holds_keys_and_values_of_every_layer),
		cmocka_unit_test(a_llama_that_makes_no_sense_is_refused_by_name),
		cmocka_unit_test(a_wrong_shape_is_refused_with_the_tensors_name),
		cmocka_unit_test(a_missing_tensor_is_named),
		cmocka_unit_test(a_layout_that_the_backend_did_not_choose_is_refused),
		cmocka_unit_test(hyperparameters_that_make_no_sense_are_named),
		cmocka_unit_test(no_word_of_an_image_can_do_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-work.c - what a step is counted to cost, and a cache that is filled without a text. */
#include "work.h"

#include "arch/arch.h"
#include "engine-image.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define VOCAB 260
#define HIDDEN 32

static struct ds_image *open_image(struct ds_hparams hparams)
{
	struct ds_image *image = NULL;
	int fd = image_new_of(hparams);

	assert_int_equal(ds_image_open(&image, fd, false, NULL), 0);
	close(fd);
	return image;
}

/* The small deepseek: a dense layer, and one of 8 experts of which 2 are chosen and 1 is shared; MTP does not count. */
static void a_row_meets_the_experts_it_chooses_and_not_the_others(void **state)
{
	uint64_t attention = 24 * HIDDEN + 2 * 12 * 24 + 20 * HIDDEN + 2 * 16 * 8 + 2 * 8 * 16 + HIDDEN * 16;
	uint64_t dense = 3 * 48 * HIDDEN, experts = (2 + 1) * 3 * 16 * HIDDEN, router = 8 * HIDDEN;
	uint64_t f32 = 2 * 20 * HIDDEN + router; /* kv_a of both layers, and that */
	uint64_t vectors = HIDDEN + 2 * (2 * HIDDEN + 24 + 16) + 8;
	struct ds_image *image = open_image(image_hparams());
	struct ds_work work = ds_work_count(image);

	assert_int_equal(work.parameters, 2 * attention + dense + router + experts);
	assert_int_equal(work.output_parameters, VOCAB * HIDDEN);
	assert_int_equal(work.size, 2 * (work.parameters + work.output_parameters) + 2 * f32 + 4 * vectors);
	assert_int_equal(work.embedding_size, 2 * HIDDEN);
	assert_int_equal(work.dtype, DS_DTYPE_BF16);
	ds_image_free(image);
}

/* Its embeddings are the output's matrix too: all of them are read once, and a row of them besides. */
static void an_output_that_is_the_embedding_counts_once(void **state)
{
	uint64_t layer = 2 * 48 * HIDDEN + 2 * 24 * HIDDEN + 3 * 48 * HIDDEN;
	struct ds_image *image = open_image(image_llama_hparams());
	struct ds_work work = ds_work_count(image);

	assert_int_equal(work.parameters, 2 * layer);
	assert_int_equal(work.output_parameters, VOCAB * HIDDEN);
	assert_int_equal(work.embedding_size, 2 * HIDDEN);
	ds_image_free(image);
}

/* The logits of a token at position 20 whose 20 predecessors are what fill() writes, or zeros. */
static void logits_after(const struct ds_image *image, bool filled, float *logits)
{
	static const uint32_t table[] = {1, 0}, last = 20, token = 7, index = 0;
	uint32_t positions[20], tokens[20] = {0};
	const uint32_t *pages[20];
	struct ds_rows before = {20, tokens, positions, pages}, row = {1, &token, &last, pages};
	struct ds_arch_setup setup = {.image = image, .ops = &ds_cpu_ops, .precision = DS_PRECISION_EXACT,
				      .kv_dtype = DS_DTYPE_F32, .n_pages = 2, .page_tokens = 16, .max_rows = 20,
				      .max_logits = 1};
	const struct ds_arch *arch = ds_arch_find(ds_image_hparams(image), NULL);
	void *model;

	for (uint32_t i = 0; i < 20; i++) {
		positions[i] = i;
		pages[i] = table;
	}
	assert_int_equal(ds_cpu_ops.open(&setup.backend, NULL, NULL, NULL), 0);
	assert_int_equal(ds_cpu_ops.start(setup.backend, 1, NULL), 0);
	assert_int_equal(arch->open(&model, &setup, NULL), 0);
	if (filled)
		assert_int_equal(arch->fill(model, &before, NULL), 0);
	arch->forward(model, &row);
	assert_int_equal(arch->logits(model, &index, 1, logits, NULL), 0);
	arch->close(model);
	ds_cpu_ops.close(setup.backend);
}

static void what_fill_writes_is_what_a_row_sees(void **state)
{
	const struct ds_hparams all[] = {image_hparams(), image_llama_hparams()};
	float empty[VOCAB], filled[VOCAB];

	for (size_t i = 0; i < DS_ARRAY_SIZE(all); i++) {
		struct ds_image *image = open_image(all[i]);
		bool differ = false;

		logits_after(image, false, empty);
		logits_after(image, true, filled);
		for (size_t t = 0; t < VOCAB; t++) {
			assert_true(isfinite(filled[t]));
			differ |= filled[t] != empty[t];
		}
		assert_true(differ);
		ds_image_free(image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_meets_the_experts_it_chooses_and_not_the_others),
		cmocka_unit_test(an_output_that_is_the_embedding_counts_once),
		cmocka_unit_test(what_fill_writes_is_what_a_row_sees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

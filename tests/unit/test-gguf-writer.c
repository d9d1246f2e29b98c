/* test-gguf-writer.c - mixes of types, GGUF's words for models, and the bytes of a file. */
#include "bench/synth-presets.h"
#include "gguf-mix.h"
#include "gguf-model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <sys/mman.h>

struct counts {
	const struct ds_mix *mix;
	const struct ds_hparams *h;
	unsigned n[DS_N_DTYPES], all;
};

static int count(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct counts *c = self;

	c->n[ds_mix_type(c->mix, c->h, desc->name, desc->n_dims, desc->shape[desc->n_dims - 1], false)]++;
	c->all++;
	return 0;
}

static struct counts count_types(const char *preset, const char *mix, bool joint)
{
	struct counts c = {.mix = ds_mix_find(mix), .h = &synth_preset_find(preset)->hparams};

	assert_non_null(c.mix);
	assert_int_equal(synth_each_tensor(c.h, joint, count, &c, NULL), 0);
	return c;
}

/* The published Q4_K_M of R1-Distill-Qwen-7B has 141 F32, 169 Q4_K and 29 Q6_K. */
static void a_mix_is_composed_as_published_files_are(void **state)
{
	struct counts c = count_types("r1-distill-qwen-7b", "q4_k_m", false);

	assert_int_equal(c.all, 339);
	assert_int_equal(c.n[DS_DTYPE_F32], 141);
	assert_int_equal(c.n[DS_DTYPE_Q4_K], 169);
	assert_int_equal(c.n[DS_DTYPE_Q6_K], 29);
}

static void models_have_as_many_tensors_as_published_files(void **state)
{
	assert_int_equal(count_types("v2-lite", "f16", true).all, 377);
	assert_int_equal(count_types("r1-distill-qwen-14b", "f16", false).all, 579);
	assert_int_equal(count_types("r1-distill-llama-8b", "f16", false).all, 291);
}

/* Rows of 1408 and 10944 elements are no whole blocks of 256. */
static void rows_that_do_not_fit_get_smaller_blocks(void **state)
{
	struct counts c = count_types("v2-lite", "q4_k_m", false);

	assert_true(c.n[DS_DTYPE_Q5_0] > 0 && c.n[DS_DTYPE_Q8_0] > 0);
	assert_int_equal(c.n[DS_DTYPE_F16], 0);
	assert_int_equal(ds_mix_type(c.mix, c.h, "layers.3.q", 2, 33, false), DS_DTYPE_F16);
	assert_int_equal(ds_mix_type(c.mix, c.h, "output", 2, 64, false), DS_DTYPE_Q8_0);
}

static void every_named_mix_gives_every_tensor_a_type_that_fits(void **state)
{
	static const char *const mixes[] = {"q4_k_m", "q4_k_s", "q5_k_m", "q5_k_s", "q6_k",   "q8_0",   "q4_0",
					    "q4_1",   "q5_0",   "q5_1",   "q2_k",   "q3_k_s", "q3_k_m", "q3_k_l",
					    "iq4_nl", "iq4_xs", "f16",    "bf16",   "f32"};
	char names[256];

	ds_mix_names(names, sizeof(names));
	for (size_t i = 0; i < DS_ARRAY_SIZE(mixes); i++) {
		struct counts c = count_types("r1-slice", mixes[i], false);

		assert_non_null(strstr(names, mixes[i]));
		assert_int_equal(c.n[0], 0);
	}
	assert_non_null(ds_mix_find("Q4_K_M"));
	assert_null(ds_mix_find("q4_k"));
}

static void the_output_and_the_embedding_that_stands_for_it_get_more(void **state)
{
	const struct ds_mix *mix = ds_mix_find("q2_k");
	const struct ds_hparams *h = &synth_preset_find("r1-distill-qwen-7b")->hparams;

	assert_int_equal(ds_mix_type(mix, h, "output", 2, 3584, false), DS_DTYPE_Q6_K);
	assert_int_equal(ds_mix_type(mix, h, "token_embedding", 2, 3584, false), DS_DTYPE_Q2_K);
	assert_int_equal(ds_mix_type(mix, h, "token_embedding", 2, 3584, true), DS_DTYPE_Q6_K);
	assert_int_equal(ds_mix_type(mix, h, "layers.0.v", 2, 3584, true), DS_DTYPE_Q4_K);
	assert_int_equal(ds_mix_type(mix, h, "layers.0.router", 2, 3584, true), DS_DTYPE_F32);
	assert_int_equal(ds_mix_type(mix, h, "layers.0.attention_norm", 1, 3584, true), DS_DTYPE_F32);
}

/* Numbers of the scaling of Llama 3.1: pairs 0 to 28 stay, those from 35 on are divided by 8. */
static void llama3_frequencies_become_divisors(void **state)
{
	static const double between[] = {1.207484, 1.553415, 2.026313, 2.69453, 3.684253, 5.257327};
	float divisors[DS_MAX_ROPE_PAIRS];

	assert_true(ds_gguf_rope_divisors(&synth_preset_find("r1-distill-llama-8b")->hparams, divisors));
	for (unsigned i = 0; i < 64; i++) {
		double expected = i < 29 ? 1 : i < 35 ? between[i - 29] : 8;

		assert_true(fabs((double)divisors[i] - expected) < 1e-5 * expected);
	}
	assert_false(ds_gguf_rope_divisors(&synth_preset_find("r1-distill-qwen-7b")->hparams, divisors));
	assert_false(ds_gguf_rope_divisors(&synth_preset_find("v2-lite")->hparams, divisors));
}

static void only_llama_stores_rotated_pairs_side_by_side(void **state)
{
	const struct ds_hparams *llama = &synth_preset_find("r1-distill-llama-8b")->hparams;

	assert_true(ds_gguf_is_permuted(llama, "layers.7.q"));
	assert_true(ds_gguf_is_permuted(llama, "layers.7.k"));
	assert_false(ds_gguf_is_permuted(llama, "layers.7.v"));
	assert_false(ds_gguf_is_permuted(&synth_preset_find("r1-distill-qwen-7b")->hparams, "layers.7.q"));
	assert_false(ds_gguf_is_permuted(&synth_preset_find("v2-lite")->hparams, "layers.7.q"));
}

static void names_of_tensors_are_translated(void **state)
{
	char name[64];

	assert_true(ds_gguf_tensor_name(name, sizeof(name), "layers.12.experts_down"));
	assert_string_equal(name, "blk.12.ffn_down_exps.weight");
	assert_true(ds_gguf_tensor_name(name, sizeof(name), "token_embedding"));
	assert_string_equal(name, "token_embd.weight");
	assert_false(ds_gguf_tensor_name(name, sizeof(name), "mtp.0.projection"));
}

/* Every byte of a small file. */
static void the_bytes_are_those_of_the_format(void **state)
{
	static const uint8_t expected[] =
		"GGUF\3\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"
		"\3\0\0\0\0\0\0\0a.b\4\0\0\0\7\0\0\0"
		"\1\0\0\0\0\0\0\0t\x08\0\0\0\2\0\0\0\0\0\0\0hi"
		"\1\0\0\0\0\0\0\0i\x09\0\0\0\5\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff"
		"\1\0\0\0\0\0\0\0x\1\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
		"\1\0\0\0\0\0\0\0y\2\0\0\0\x20\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\x20\0\0\0\0\0\0\0";
	ds_cleanup(ds_gguf_writer_freep) struct ds_gguf_writer *w = NULL;
	ds_cleanup(ds_closep) int fd = memfd_create("file", MFD_CLOEXEC);
	uint8_t bytes[512] = {0};
	uint64_t start = (sizeof(expected) - 1 + 31) / 32 * 32;

	assert_int_equal(ds_gguf_writer_new(&w, NULL), 0);
	ds_gguf_writer_u32(w, "a", "b", 7);
	ds_gguf_writer_text(w, NULL, "t", "hi");
	ds_gguf_writer_ints(w, "i", (const int32_t[]){-1}, 1);
	ds_gguf_writer_tensor(w, "x", DS_DTYPE_F32, 1, (const uint64_t[]){3});
	ds_gguf_writer_tensor(w, "y", DS_DTYPE_Q4_0, 2, (const uint64_t[]){32, 2});
	assert_int_equal(ds_gguf_writer_layout(w, NULL), 0);
	assert_int_equal(ds_gguf_writer_offset(w, 0), start);
	assert_int_equal(ds_gguf_writer_offset(w, 1), start + 32);
	assert_int_equal(ds_gguf_writer_size(w), start + 32 + 64);
	assert_int_equal(ds_gguf_writer_write(w, fd, NULL), 0);
	assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), start);
	assert_memory_equal(bytes, expected, sizeof(expected) - 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mix_is_composed_as_published_files_are),
		cmocka_unit_test(models_have_as_many_tensors_as_published_files),
		cmocka_unit_test(rows_that_do_not_fit_get_smaller_blocks),
		cmocka_unit_test(every_named_mix_gives_every_tensor_a_type_that_fits),
		cmocka_unit_test(the_output_and_the_embedding_that_stands_for_it_get_more),
		cmocka_unit_test(llama3_frequencies_become_divisors),
		cmocka_unit_test(only_llama_stores_rotated_pairs_side_by_side),
		cmocka_unit_test(names_of_tensors_are_translated),
		cmocka_unit_test(the_bytes_are_those_of_the_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

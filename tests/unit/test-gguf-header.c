/* test-gguf-header.c - the header of GGUF files: counts, keys, infos of tensors and split sets, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/plugins.h"
#include "lib/vectors.h"

#include "small-gguf.h"

extern const struct ds_plugin ds_plugin;

static void the_vectors_of_the_plugin_pass(void **state)
{
	size_t n, n_passed;
	struct ds_error err = {""};

	if (ds_vectors_run(&ds_plugin, ds_plugins_host(), &n, &n_passed, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(n_passed, n);
}

static void a_file_is_recognized_by_its_name_or_its_magic(void **state)
{
	NEW_CHECKPOINT;

	checkpoint_text(c, "config.json", "GGUF");
	assert_true(ds_gguf_ops.recognizes(c->files, 1));
	checkpoint_text(c, "config.json", "{}");
	assert_false(ds_gguf_ops.recognizes(c->files, 1));
	checkpoint_text(c, "m.gguf", "");
	assert_true(ds_gguf_ops.recognizes(c->files, 2));
	assert_refused(c, -EINVAL, "m.gguf: does not begin with \"GGUF\"");
}

static void other_versions_are_refused(void **state)
{
	static const struct {
		uint32_t version;
		const char *part;
	} cases[] = {
		{1, "version 1 is not supported (supported: 2, 3)"},
		{4, "version 4 is not supported"},
		{0x03000000, "big-endian GGUF is not supported"},
		{0x02000000, "big-endian"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL(.version = cases[i].version);

		assert_small_refused(&s, -ENOTSUP, cases[i].part);
	}
}

static void version_2_is_read(void **state)
{
	struct small s = SMALL(.version = 2);
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	describe_small(c, &s);
	assert_int_equal(c->n_tensors, 12);
}

/* Every prefix of a file is refused, none read past its end (which a sanitizer sees). */
static void a_file_that_ends_early_is_refused_wherever_it_ends(void **state)
{
	struct small s = SMALL();
	uint8_t whole[65536];
	ssize_t size;
	NEW_CHECKPOINT;

	small_gqa(&s, "qwen2");
	write_small(c, &s, "m.gguf");
	size = pread(c->files[0].fd, whole, sizeof(whole), 0);
	assert_in_range(size, 1000, sizeof(whole) - 1);
	for (ssize_t n = 0; n < size; n += n < 4096 ? 1 : 997) {
		checkpoint_file(c, "m.gguf", whole, (size_t)n);
		assert_int_equal(checkpoint_describe(c, &ds_gguf_ops), -EINVAL);
		assert_non_null(strstr(c->error.text, "m.gguf: "));
	}
}

static void counts_are_compared_with_the_file_before_anything_is_allocated(void **state)
{
	struct small keys = SMALL(.n_keys = UINT64_MAX), tensors = SMALL(.n_tensors = UINT64_MAX / 2);

	assert_small_refused(&keys, -EINVAL, "keys and 0 tensors do not fit into 24 bytes");
	assert_small_refused(&tensors, -EINVAL, "0 keys and 9223372036854775807 tensors do not fit");
}

static void a_text_longer_than_the_file_is_refused(void **state)
{
	struct small name = SMALL(.n_keys = 1), value = SMALL();

	put_u64(&name.keys, UINT64_MAX);
	put_u64(&name.keys, 0);
	assert_small_refused(&name, -EINVAL, "in the middle of the name of a key");
	key(&value, "general.name", DS_GGUF_TEXT);
	put_u64(&value.keys, UINT64_MAX - 7);
	assert_small_refused(&value, -EINVAL, "in the middle of general.name");
}

static void arrays_longer_than_the_file_are_refused(void **state)
{
	/* one that multiplied by its element's size overflows to little, one that does not */
	static const uint64_t counts[] = {1ull << 62, 1000};

	for (size_t i = 0; i < DS_ARRAY_SIZE(counts); i++) {
		struct small numbers = SMALL(), texts = SMALL();

		key_array(&numbers, "k", DS_GGUF_U32, counts[i]);
		assert_small_refused(&numbers, -EINVAL, "in the middle of k");
		key_array(&texts, "k", DS_GGUF_TEXT, counts[i]);
		assert_small_refused(&texts, -EINVAL, "in the middle of k");
	}
}

static void values_of_unknown_types_are_refused(void **state)
{
	struct small unknown = SMALL(), element = SMALL(), nested = SMALL();

	key(&unknown, "k", 13);
	put_u64(&unknown.keys, 0);
	assert_small_refused(&unknown, -EINVAL, "k has a value of the unknown type 13");
	key_array(&element, "k", 99, 0);
	assert_small_refused(&element, -EINVAL, "k has a value of the unknown type 99");
	key_array(&nested, "k", DS_GGUF_ARRAY, 0);
	assert_small_refused(&nested, -EINVAL, "k is an array of arrays");
}

static void every_type_of_value_is_skipped_by_its_size(void **state)
{
	static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
	static const uint8_t zeros[24];
	struct small s = SMALL();
	char name[] = "unused.a";
	NEW_CHECKPOINT;

	for (uint32_t type = 0; type < DS_ARRAY_SIZE(sizes); type++) {
		if (sizes[type] == 0)
			continue;
		name[7] = (char)('a' + type);
		assert_true(key(&s, name, type));
		put(&s.keys, zeros, sizes[type]);
		name[7] = (char)('A' + type);
		assert_true(key_array(&s, name, type, 3));
		put(&s.keys, zeros, 3u * sizes[type]);
	}
	key_texts(&s, "unused.texts", (const char *const[]){"a", "", "bc"}, 3);
	small_gqa(&s, "llama");
	describe_small(c, &s);
}

static void a_key_that_is_there_twice_is_refused(void **state)
{
	struct small s = SMALL();

	key_u32(&s, "k", 1);
	key_u32(&s, "other", 1);
	key_text(&s, "k", "x");
	assert_small_refused(&s, -EINVAL, "m.gguf: the key k is there twice");
}

static void infos_of_tensors_that_contradict_the_file_are_refused(void **state)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t offset;
		uint32_t n_dims;
		uint64_t ne[5];
		int code;
		const char *part;
	} cases[] = {
		{"t", F32, 0, 0, {0}, -EINVAL, "tensor t has 0 dimensions, allowed: 1 to 4"},
		{"t", F32, 0, 5, {1, 1, 1, 1, 1}, -EINVAL, "tensor t has 5 dimensions"},
		{"t", F32, 0, 2, {8, 0}, -EINVAL, "tensor t has no elements"},
		{"t", F32, 0, 2, {1ull << 62, 4}, -EINVAL, "the numbers of its shape are too large"},
		{"t", F32, 0, 2, {1ull << 62, 1}, -EINVAL, "the numbers of its shape are too large"},
		{"t", Q8_0, 0, 2, {48, 2}, -EINVAL, "type Q8_0 has rows of 48 elements, not blocks of 32"},
		{"t", Q4_K, 0, 2, {128, 2}, -EINVAL, "type Q4_K has rows of 128 elements, not blocks of 256"},
		{"t", F32, 8, 1, {8}, -EINVAL, "begins at byte 8 of the data, not at a multiple of 32"},
		{"t", F32, 32, 1, {8}, -EINVAL, "tensor t needs 32 bytes from byte"},
		{"t", F32, UINT64_MAX - 31, 1, {8}, -EINVAL, "tensor t needs 32 bytes from byte"},
		{"t", F32, 1ull << 63, 1, {8}, -EINVAL, "tensor t needs 32 bytes from byte"},
		{"", F32, 0, 1, {8}, -EINVAL, "a name has 1 to 127 printable characters"},
		{"a\nb", F32, 0, 1, {8}, -EINVAL, "tensor \"a?b\": a name has"},
		{"t",
		 4,
		 0,
		 1,
		 {8},
		 -ENOTSUP,
		 "tensor t has type 4, which was withdrawn from the format; supported: F32, F16, "},
		{"t", 40, 0, 1, {8}, -ENOTSUP, "tensor t has type 40, which is NVFP4;"},
		{"t", 141, 0, 1, {8}, -ENOTSUP, "tensor t has type 141, which is private to ik_llama.cpp;"},
		{"t", 1000, 0, 1, {8}, -ENOTSUP, "tensor t has type 1000, which is unknown;"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct small s = SMALL();

		info(&s, cases[i].name, cases[i].type, cases[i].offset, cases[i].n_dims, cases[i].ne);
		s.data_size = 32;
		assert_small_refused(&s, cases[i].code, cases[i].part);
	}
}

static void tensors_may_not_overlap_nor_come_twice(void **state)
{
	struct small overlap = SMALL(.data_size = 128), twice = SMALL(.data_size = 128), same = SMALL(.data_size = 128);

	info(&overlap, "b", F32, 32, 1, (const uint64_t[]){8});
	info(&overlap, "a", F32, 0, 1, (const uint64_t[]){9});
	assert_small_refused(&overlap, -EINVAL, "tensors a and b overlap");
	info(&same, "b", F32, 32, 1, (const uint64_t[]){8});
	info(&same, "a", F32, 32, 1, (const uint64_t[]){8});
	assert_small_refused(&same, -EINVAL, "overlap");
	info(&twice, "a", F32, 32, 1, (const uint64_t[]){8});
	info(&twice, "a", F32, 0, 1, (const uint64_t[]){8});
	assert_small_refused(&twice, -EINVAL, "tensor a is there twice");
}

static void data_begins_where_the_alignment_says(void **state)
{
	struct small s = SMALL(.alignment = 256), odd = SMALL();
	NEW_CHECKPOINT;

	key_u32(&s, "general.alignment", 256);
	small_gqa(&s, "llama");
	describe_small(c, &s);
	for (uint32_t i = 0; i < c->n_parts; i++)
		if (!c->parts[i].stride)
			assert_int_equal(c->parts[i].offset % 256, 0);
	key_u32(&odd, "general.alignment", 48);
	small_gqa(&odd, "llama");
	assert_small_refused(&odd, -EINVAL, "general.alignment is 48, which is not a power of two");
}

static void what_no_key_uses_may_lie_behind_the_last_tensor(void **state)
{
	struct small s = SMALL();
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	s.data_size += 4096;
	describe_small(c, &s);
}

/* ---- split sets ---- */

static void split_keys(struct small *s, uint32_t no, uint32_t count, uint32_t n_tensors)
{
	key_u32(s, "split.no", no);
	key_u32(s, "split.count", count);
	key_u32(s, "split.tensors.count", n_tensors);
}

/* The model's keys in a file without tensors, the tensors in another, as some writers do. */
static void write_split(struct checkpoint *c, uint32_t first, uint32_t second, uint32_t count, uint32_t n_tensors)
{
	struct small keys = SMALL(), whole = SMALL();

	small_gqa(&keys, "llama");
	keys.infos.n = keys.n_tensors = keys.data_size = 0;
	split_keys(&keys, first, count, n_tensors);
	small_gqa(&whole, "llama");
	whole.keys.n = whole.n_keys = 0;
	split_keys(&whole, second, count, n_tensors);
	write_small(c, &keys, "m-00001-of-00002.gguf");
	write_small(c, &whole, "m-00002-of-00002.gguf");
}

static void a_split_set_is_one_model(void **state)
{
	NEW_CHECKPOINT;

	write_split(c, 0, 1, 2, 12);
	assert_described(c);
	assert_int_equal(c->n_tensors, 12);
	for (uint32_t i = 0; i < c->n_parts; i++)
		assert_int_equal(c->parts[i].file, 1);
}

static void a_split_set_that_contradicts_itself_is_refused(void **state)
{
	static const struct {
		uint32_t first, second, count, n_tensors;
		const char *part;
	} cases[] = {
		{0, 0, 2, 12, "m-00002-of-00002.gguf: split.no is 0, which another file of the set has, too"},
		{0, 2, 2, 12, "m-00002-of-00002.gguf: split.no is 2, which is not below split.count"},
		{0, 1, 3, 12, "m-00001-of-00002.gguf: is one of 3 files, but there are 2"},
		{0, 1, 0, 12, "m-00001-of-00002.gguf: is no part of a set, but there are 2 files"},
		{0, 1, 2, 13, "m-00001-of-00002.gguf: split.tensors.count is 13, but the files have 12"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		NEW_CHECKPOINT;

		write_split(c, cases[i].first, cases[i].second, cases[i].count, cases[i].n_tensors);
		assert_refused(c, -EINVAL, cases[i].part);
	}
}

static void one_file_of_a_set_alone_is_refused(void **state)
{
	struct small s = SMALL(), merged = SMALL();
	NEW_CHECKPOINT;

	small_gqa(&s, "llama");
	split_keys(&s, 0, 3, 12);
	assert_small_refused(&s, -EINVAL, "m.gguf: is one of 3 files, the others are missing");
	small_gqa(&merged, "llama");
	key_u32(&merged, "split.count", 0);
	describe_small(c, &merged);
}

static void a_tensor_in_two_files_of_a_set_is_refused(void **state)
{
	struct small first = SMALL(), second = SMALL();
	NEW_CHECKPOINT;

	split_keys(&first, 0, 2, 2);
	tensor(&first, "t", 8, 0, 0);
	write_small(c, &first, "a.gguf");
	split_keys(&second, 1, 2, 2);
	tensor(&second, "t", 8, 0, 0);
	write_small(c, &second, "b.gguf");
	assert_refused(c, -EINVAL, "tensor t is there twice");
}

/* What the loader believes of a type's size is what the file means by it. */
static void supported_types_have_the_sizes_of_the_abi(void **state)
{
	unsigned n = 0;

	for (uint32_t id = 0; id < 64; id++) {
		const struct ds_gguf_type *t = ds_gguf_type(id);

		if (!t || !t->dtype)
			continue;
		assert_int_equal(t->block, ds_dtype_info(t->dtype)->block);
		assert_int_equal(t->size, ds_dtype_info(t->dtype)->size);
		assert_string_equal(t->name, ds_dtype_info(t->dtype)->name);
		n++;
	}
	assert_int_equal(n, DS_N_DTYPES - 2); /* all but FP8, which no GGUF has */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_the_plugin_pass),
		cmocka_unit_test(a_file_is_recognized_by_its_name_or_its_magic),
		cmocka_unit_test(other_versions_are_refused),
		cmocka_unit_test(version_2_is_read),
		cmocka_unit_test(a_file_that_ends_early_is_refused_wherever_it_ends),
		cmocka_unit_test(counts_are_compared_with_the_file_before_anything_is_allocated),
		cmocka_unit_test(a_text_longer_than_the_file_is_refused),
		cmocka_unit_test(arrays_longer_than_the_file_are_refused),
		cmocka_unit_test(values_of_unknown_types_are_refused),
		cmocka_unit_test(every_type_of_value_is_skipped_by_its_size),
		cmocka_unit_test(a_key_that_is_there_twice_is_refused),
		cmocka_unit_test(infos_of_tensors_that_contradict_the_file_are_refused),
		cmocka_unit_test(tensors_may_not_overlap_nor_come_twice),
		cmocka_unit_test(data_begins_where_the_alignment_says),
		cmocka_unit_test(what_no_key_uses_may_lie_behind_the_last_tensor),
		cmocka_unit_test(a_split_set_is_one_model),
		cmocka_unit_test(a_split_set_that_contradicts_itself_is_refused),
		cmocka_unit_test(one_file_of_a_set_alone_is_refused),
		cmocka_unit_test(a_tensor_in_two_files_of_a_set_is_refused),
		cmocka_unit_test(supported_types_have_the_sizes_of_the_abi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-builder-refusals.c - what a checkpoint must not say of its tensors, and a backend not of its layouts. */
#include "builder-scene.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tensors_that_cannot_be_are_refused),
		TEST(parts_that_cannot_be_are_refused),
		TEST(hostile_parts_are_refused),
		TEST(a_name_given_twice_is_refused),
		TEST(a_backend_that_contradicts_itself_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

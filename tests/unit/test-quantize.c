/* test-quantize.c - quantisers: how much is lost, what may not be lost, what is refused. */
#include "quantize.h"

#include <deepseekd/quants.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>

enum { N = 64 * 256 };

/* What may remain of a normal distribution, in its standard deviations: the root of the mean square. A little above
 * what the search finds, below what the usual rounding to the range of a block does. */
static const struct {
	enum ds_dtype dtype;
	double bound;
} bounds[] = {
	{DS_DTYPE_F32, 0},       {DS_DTYPE_F16, 3e-4},      {DS_DTYPE_BF16, 2.5e-3},   {DS_DTYPE_Q4_0, 0.0826},
	{DS_DTYPE_Q4_1, 0.0706}, {DS_DTYPE_Q5_0, 0.0410},   {DS_DTYPE_Q5_1, 0.0345},   {DS_DTYPE_Q8_0, 0.0055},
	{DS_DTYPE_Q2_K, 0.266},  {DS_DTYPE_Q3_K, 0.1470},   {DS_DTYPE_Q4_K, 0.0712},   {DS_DTYPE_Q5_K, 0.0353},
	{DS_DTYPE_Q6_K, 0.0169}, {DS_DTYPE_IQ4_NL, 0.0750}, {DS_DTYPE_IQ4_XS, 0.0757}, {DS_DTYPE_MXFP4, 0.125},
};

static uint32_t state_of_random;

static double next_random(void)
{
	state_of_random = state_of_random * 1664525 + 1013904223;
	return ((double)(state_of_random >> 8) + 0.5) / (1 << 24);
}

static void fill_with_normal_numbers(float *x, size_t n, double deviation)
{
	state_of_random = 12345;
	for (size_t i = 0; i < n; i += 2) {
		double radius = deviation * sqrt(-2 * log(next_random())), angle = 2 * M_PI * next_random();

		x[i] = (float)(radius * cos(angle));
		x[i + 1] = (float)(radius * sin(angle));
	}
}

/* Root of the mean square of what quantising @x loses. */
static double loss(const float *x, size_t n, enum ds_dtype dtype)
{
	static uint8_t blocks[N * 4];
	static float y[N];
	double sum = 0;

	assert_int_equal(ds_quantize_row(blocks, x, dtype, n), 0);
	ds_dequantize_row(y, blocks, dtype, n);
	for (size_t i = 0; i < n; i++)
		sum += pow((double)x[i] - (double)y[i], 2);
	return sqrt(sum / (double)n);
}

static void normal_numbers_lose_no_more_than_the_best_search_would(void **state)
{
	static float x[N];

	fill_with_normal_numbers(x, N, 0.02);
	for (size_t i = 0; i < DS_ARRAY_SIZE(bounds); i++)
		if (!(loss(x, N, bounds[i].dtype) / 0.02 <= bounds[i].bound))
			fail_msg("%s: %.5f", ds_dtype_info(bounds[i].dtype)->name, loss(x, N, bounds[i].dtype) / 0.02);
}

/* Groups that do not begin at 0 are where minimums are needed. */
static void numbers_around_an_offset_lose_no_more_than_those_around_zero(void **state)
{
	static const enum ds_dtype with_minimum[] = {DS_DTYPE_Q4_1, DS_DTYPE_Q5_1, DS_DTYPE_Q4_K, DS_DTYPE_Q5_K};
	static float x[N], shifted[N];

	fill_with_normal_numbers(x, N, 0.02);
	for (size_t i = 0; i < N; i++)
		shifted[i] = x[i] - 0.03f;
	for (size_t i = 0; i < DS_ARRAY_SIZE(with_minimum); i++)
		assert_true(loss(shifted, N, with_minimum[i]) < 1.05 * loss(x, N, with_minimum[i]));
}

/* No group may leave out its lowest level, nor, where a type has minimums, its highest: else other scales hold it as
 * well, and not all of them are among those that a block can have. */
static void show_both_ends(uint8_t *block, enum ds_dtype dtype)
{
	static const struct {
		enum ds_dtype dtype;
		unsigned from, step, n; /* bytes of which each holds the first elements of groups */
	} places[] = {
		{DS_DTYPE_Q4_1, 4, 0, 1},   {DS_DTYPE_Q5_1, 8, 0, 1},   {DS_DTYPE_Q2_K, 16, 16, 4},
		{DS_DTYPE_Q4_K, 16, 32, 4}, {DS_DTYPE_Q5_K, 48, 32, 4}, {DS_DTYPE_Q5_K, 16, 0, 1},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(places); i++)
		for (unsigned k = 0; places[i].dtype == dtype && k < places[i].n; k++) {
			block[places[i].from + k * places[i].step] = 0;
			block[places[i].from + k * places[i].step + 1] = 0xff;
		}
	for (unsigned l = 0; dtype == DS_DTYPE_Q3_K && l < 32; l += 16)
		block[l] = block[32 + l] = block[64 + l] = 0;
	for (unsigned l = 0; dtype == DS_DTYPE_Q6_K && l < 192; l += 16)
		block[l] = 0;
	if (dtype == DS_DTYPE_Q5_1)
		block[4] = block[6] = 2; /* bits 0 and 1 of elements 0.. and 16.. */
}

/* Random bytes as a block, then everything that decides on the scales made as large as it can be: the search begins
 * with the outermost ones. */
static void make_block(uint8_t *block, enum ds_dtype dtype)
{
	static const struct {
		enum ds_dtype dtype;
		int d, min, scales, n_scales; /* where they are; -1: nowhere */
		uint8_t scale;
	} places[] = {
		{DS_DTYPE_Q4_0, 0, -1, -1, 0, 0},    {DS_DTYPE_Q4_1, 0, 2, -1, 0, 0},
		{DS_DTYPE_Q5_0, 0, -1, -1, 0, 0},    {DS_DTYPE_Q5_1, 0, 2, -1, 0, 0},
		{DS_DTYPE_Q8_0, 0, -1, -1, 0, 0},    {DS_DTYPE_Q2_K, 80, 82, 0, 16, 0xff},
		{DS_DTYPE_Q3_K, 108, -1, 96, 12, 0}, {DS_DTYPE_Q4_K, 0, 2, 4, 12, 0xff},
		{DS_DTYPE_Q5_K, 0, 2, 4, 12, 0xff},  {DS_DTYPE_Q6_K, 208, -1, 192, 16, 0x80},
		{DS_DTYPE_IQ4_NL, 0, -1, -1, 0, 0},  {DS_DTYPE_IQ4_XS, 0, -1, 2, 6, 0},
	};
	const uint16_t d = 0x2400, min = 0x2200; /* 2^-6, 3 * 2^-8: products have few bits */

	for (size_t i = 0; i < ds_dtype_info(dtype)->size; i++)
		block[i] = (uint8_t)(next_random() * 256);
	for (size_t i = 0; i < DS_ARRAY_SIZE(places); i++) {
		if (places[i].dtype != dtype)
			continue;
		if (places[i].scales >= 0)
			memset(block + places[i].scales, places[i].scale, (size_t)places[i].n_scales);
		memcpy(block + places[i].d, &d, 2);
		if (places[i].min >= 0)
			memcpy(block + places[i].min, &min, 2);
		if (dtype == DS_DTYPE_Q8_0)
			block[2] = 127;
		if (dtype == DS_DTYPE_Q8_0)
			for (unsigned e = 1; e < 32; e++)
				block[2 + e] = block[2 + e] == 0x80 ? 0 : block[2 + e];
	}
	if (dtype == DS_DTYPE_MXFP4)
		block[0] = 120;
	show_both_ends(block, dtype);
}

static void what_a_block_can_hold_comes_back_exactly(void **state)
{
	static const enum ds_dtype dtypes[] = {
		DS_DTYPE_Q4_0,   DS_DTYPE_Q4_1,   DS_DTYPE_Q5_0,  DS_DTYPE_Q5_1, DS_DTYPE_Q8_0,
		DS_DTYPE_Q2_K,   DS_DTYPE_Q3_K,   DS_DTYPE_Q4_K,  DS_DTYPE_Q5_K, DS_DTYPE_Q6_K,
		DS_DTYPE_IQ4_NL, DS_DTYPE_IQ4_XS, DS_DTYPE_MXFP4,
	};
	uint8_t block[292], again[292];
	float x[256], y[256];

	state_of_random = 7;
	for (size_t i = 0; i < DS_ARRAY_SIZE(dtypes); i++)
		for (unsigned trial = 0; trial < 50; trial++) {
			unsigned n = ds_dtype_info(dtypes[i])->block;

			make_block(block, dtypes[i]);
			ds_dequantize_block(x, block, dtypes[i]);
			assert_int_equal(ds_quantize_row(again, x, dtypes[i], n), 0);
			ds_dequantize_block(y, again, dtypes[i]);
			for (unsigned e = 0; e < n; e++)
				if (x[e] != y[e])
					fail_msg("%s, trial %u: element %u is %.9g, was %.9g",
						 ds_dtype_info(dtypes[i])->name, trial, e, (double)y[e], (double)x[e]);
		}
}

static void zeros_stay_zeros(void **state)
{
	static float x[N];

	memset(x, 0, sizeof(x));
	for (size_t i = 0; i < DS_ARRAY_SIZE(bounds); i++)
		assert_true(loss(x, N, bounds[i].dtype) == 0);
}

static void numbers_too_small_for_a_scale_become_small_ones(void **state)
{
	static float x[N];

	for (int exponent = -20; exponent >= -149; exponent -= 3) {
		fill_with_normal_numbers(x, N, ldexp(1, exponent));
		for (size_t i = 0; i < DS_ARRAY_SIZE(bounds); i++)
			/* the smallest half times the distance between levels, or nothing at all of it */
			if (!(loss(x, N, bounds[i].dtype) <= ldexp(1.01, exponent > -22 ? exponent : -22)))
				fail_msg("%s at 2^%d: %g", ds_dtype_info(bounds[i].dtype)->name, exponent,
					 loss(x, N, bounds[i].dtype));
	}
}

static void what_is_not_a_number_is_refused(void **state)
{
	static const float wrong[] = {NAN, INFINITY, -INFINITY};
	uint8_t blocks[1024];
	float x[256];

	for (size_t i = 0; i < DS_ARRAY_SIZE(bounds); i++)
		for (size_t k = 0; k < DS_ARRAY_SIZE(wrong); k++) {
			memset(x, 0, sizeof(x));
			x[255] = wrong[k];
			assert_int_equal(ds_quantize_row(blocks, x, bounds[i].dtype, 256), -EINVAL);
		}
}

static void what_no_scale_can_reach_is_refused(void **state)
{
	uint8_t blocks[1024];
	float x[256];

	for (size_t i = 0; i < DS_ARRAY_SIZE(bounds); i++) {
		enum ds_dtype dtype = bounds[i].dtype;
		bool wide = dtype == DS_DTYPE_F32 || dtype == DS_DTYPE_BF16 || dtype == DS_DTYPE_MXFP4;

		for (unsigned e = 0; e < 256; e++)
			x[e] = e % 2 ? 3e38f : -3e38f;
		assert_int_equal(ds_quantize_row(blocks, x, dtype, 256), wide ? 0 : -ERANGE);
		for (unsigned e = 0; e < 256; e++)
			x[e] = e % 2 ? 3e4f : -3e4f;
		assert_int_equal(ds_quantize_row(blocks, x, dtype, 256), 0);
	}
}

static void deepseeks_fp8_is_not_written(void **state)
{
	assert_false(ds_quantize_knows(DS_DTYPE_FP8));
	assert_false(ds_quantize_knows(0));
	assert_true(ds_quantize_knows(DS_DTYPE_Q4_K));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(normal_numbers_lose_no_more_than_the_best_search_would),
		cmocka_unit_test(numbers_around_an_offset_lose_no_more_than_those_around_zero),
		cmocka_unit_test(what_a_block_can_hold_comes_back_exactly),
		cmocka_unit_test(zeros_stay_zeros),
		cmocka_unit_test(numbers_too_small_for_a_scale_become_small_ones),
		cmocka_unit_test(what_is_not_a_number_is_refused),
		cmocka_unit_test(what_no_scale_can_reach_is_refused),
		cmocka_unit_test(deepseeks_fp8_is_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

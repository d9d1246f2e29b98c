/* test-quants.c - what blocks mean, held to values computed elsewhere on blocks of pseudo-random bytes. */
#include <deepseekd/quants.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>

enum { SCALE = 0x2e66, MINIMUM = 0x2a3d };

struct value {
	unsigned index;
	double y;
};

/* Bytes of a linear congruential generator, then the scales written over; values to the seven digits they were noted
 * with, and the sums of y[i] and of (i + 1) y[i]. */
static const struct {
	enum ds_dtype dtype;
	int scale_at, minimum_at; /* -1: none */
	struct value values[8];
	unsigned n_values;
	double sum, weighted;
} vectors[] = {
	{DS_DTYPE_Q4_0, 0, -1, {{0, 0.2999268}, {1, -0.5998535}, {15, -0.2999268}, {16, 0}, {31, 0.6998291}}, 5,
	 0.49987793, 5.39868164},
	{DS_DTYPE_Q4_1, 0, 2, {{0, 0.8485413}, {1, 1.248444}, {15, 0.3486633}, {16, 1.448395}, {31, 1.54837}}, 5,
	 27.6531982, 456.227783},
	{DS_DTYPE_Q5_0, 0, -1, {{0, 1.399658}, {1, 1.199707}, {15, 0.8997803}, {16, -0.8997803}, {31, -0.5998535}}, 5,
	 -1.3996582, -9.49768066},
	{DS_DTYPE_Q5_1, 0, 2, {{0, 0.8485413}, {1, 0.8485413}, {15, 1.54837}, {16, 0.9485168}, {31, 2.348175}}, 5,
	 54.4466553, 935.910645},
	{DS_DTYPE_Q8_0, 0, -1, {{0, -11.69714}, {1, -9.397705}, {15, -1.099731}, {16, 10.29749}, {31, 7.398193}}, 5,
	 35.3913574, 1587.51233},
	{DS_DTYPE_Q2_K, 80, 82, {{0, 0.4998779}, {1, 0.4998779}, {15, 0.4998779}, {16, 0.7998047}, {31, 0},
	 {63, -0.2874146}, {128, 0.3611755}, {255, 0.1587219}}, 8, 243.123413, 29456.4447},
	{DS_DTYPE_Q3_K, 108, -1, {{0, 1.199707}, {1, -1.199707}, {15, 0}, {16, 2.299438}, {31, 0}, {63, 9.597656},
	 {128, 2.799316}, {255, -2.399414}}, 8, -110.672974, -16889.9755},
	{DS_DTYPE_Q4_K, 0, 2, {{0, 18.82544}, {1, 18.82544}, {15, 2.829346}, {16, 22.82446}, {31, 14.82642},
	 {63, 33.2019}, {128, 25.20267}, {255, 20.29385}}, 8, 6138.11328, 695939.874},
	{DS_DTYPE_Q5_K, 0, 2, {{0, 82.80981}, {1, 98.80591}, {15, 78.81079}, {16, 58.81567}, {31, 58.81567},
	 {63, 13.60669}, {128, 30.70132}, {255, 68.38211}}, 8, 12584.5391, 1391143.4},
	{DS_DTYPE_Q6_K, 208, -1, {{0, 170.0585}, {1, 161.9604}, {15, 40.49011}, {16, -115.4718}, {31, 178.4564},
	 {63, -131.9678}, {128, 189.0538}, {255, 78.38086}}, 8, 243.240601, -406423.451},
	{DS_DTYPE_IQ4_NL, 0, -1, {{0, 3.799072}, {1, -8.297974}, {15, -3.499146}, {16, 0.09997559}, {31, 11.29724}}, 5,
	 11.09729, 160.260864},
	{DS_DTYPE_IQ4_XS, 0, -1, {{0, 2.399414}, {1, 2.399414}, {15, 271.1338}, {16, 31.19238}, {31, -23.99414},
	 {63, -48.98804}, {128, 158.1614}, {255, 42.38965}}, 8, 1968.81921, 322667.105},
};

static void put_half(uint8_t *block, int at, uint16_t half)
{
	if (at >= 0)
		memcpy(block + at, &half, sizeof(half));
}

static void pseudo_random_blocks_have_the_values_that_were_computed_elsewhere(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(vectors); i++) {
		const struct ds_dtype_info *info = ds_dtype_info(vectors[i].dtype);
		uint32_t lcg = 12345;
		uint8_t block[256];
		float y[256];
		double sum = 0, weighted = 0;

		for (uint32_t k = 0; k < info->size; k++) {
			lcg = lcg * 1664525 + 1013904223;
			block[k] = (uint8_t)(lcg >> 24);
		}
		put_half(block, vectors[i].scale_at, SCALE);
		put_half(block, vectors[i].minimum_at, MINIMUM);
		ds_dequantize_block(y, block, vectors[i].dtype);
		for (unsigned v = 0; v < vectors[i].n_values; v++) {
			double want = vectors[i].values[v].y;

			assert_true(fabs(y[vectors[i].values[v].index] - want) <= 1e-6 * fabs(want));
		}
		for (uint32_t e = 0; e < info->block; e++) {
			sum += y[e];
			weighted += (e + 1) * (double)y[e];
		}
		assert_true(fabs(sum - vectors[i].sum) <= 1e-8 * fabs(vectors[i].sum));
		assert_true(fabs(weighted - vectors[i].weighted) <= 1e-8 * fabs(vectors[i].weighted));
	}
}

static void mxfp4_scales_reach_from_subnormal_to_the_largest(void **state)
{
	struct ds_block_mxfp4 b = {.e = 127, .qs = {0x72, 0x9f}};
	float y[32];

	ds_dequantize_mxfp4(y, &b);
	assert_true(y[0] == 1 && y[16] == 6 && y[1] == -6 && y[17] == -0.5f && y[2] == 0);
	assert_int_equal(ds_bits_of_float(ds_e8m0_half_to_f32(0)), 0x00200000);
	assert_int_equal(ds_bits_of_float(ds_e8m0_half_to_f32(1)), 0x00400000);
	assert_int_equal(ds_bits_of_float(ds_e8m0_half_to_f32(2)), 0x00800000);
	assert_true(ds_e8m0_half_to_f32(255) == 0x1p127f);
}

static void e4m3_has_no_infinity_and_two_nans(void **state)
{
	assert_true(ds_e4m3_to_f32(0x7e) == 448);
	assert_true(ds_e4m3_to_f32(0x01) == 0x1p-9f);
	assert_true(ds_e4m3_to_f32(0x07) == 7 * 0x1p-9f);
	assert_true(ds_e4m3_to_f32(0x08) == 0x1p-6f);
	assert_true(ds_e4m3_to_f32(0xb8) == -1);
	assert_true(signbit(ds_e4m3_to_f32(0x80)) && ds_e4m3_to_f32(0x80) == 0);
	for (unsigned b = 0; b < 256; b++)
		assert_int_equal(isnan(ds_e4m3_to_f32((uint8_t)b)) != 0, (b & 0x7f) == 0x7f);
}

static void a_row_may_end_within_a_block_of_fp8(void **state)
{
	struct ds_block_fp8 blocks[2] = {{.scale = 2, .qs = {0x38}}, {.scale = 0.5f, .qs = {0x38, 0xb8, 0x7f}}};
	float y[131];

	y[130] = 1234;
	ds_dequantize_row(y, blocks, DS_DTYPE_FP8, 130);
	assert_true(y[0] == 2 && y[1] == 0 && y[128] == 0.5f && y[129] == -0.5f && y[130] == 1234);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pseudo_random_blocks_have_the_values_that_were_computed_elsewhere),
		cmocka_unit_test(mxfp4_scales_reach_from_subnormal_to_the_largest),
		cmocka_unit_test(e4m3_has_no_infinity_and_two_nans),
		cmocka_unit_test(a_row_may_end_within_a_block_of_fp8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-rope.c - frequencies of rotary position embedding against numbers that were published or computed elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/rope.h"

#include <math.h>
#include <string.h>

static void assert_near(double have, double want)
{
	if (!(fabs(have - want) <= 1e-6 * fabs(want)))
		fail_msg("%.9g instead of %.9g", have, want);
}

static struct ds_hparams yarn(void)
{
	return (struct ds_hparams){
		.rope_theta = 10000,
		.rope_scaling = DS_ROPE_YARN,
		.rope_factor = 40,
		.rope_beta_fast = 32,
		.rope_beta_slow = 1,
		.rope_mscale_all_dim = 1,
		.rope_original_context = 4096,
	};
}

static struct ds_hparams llama3(void)
{
	return (struct ds_hparams){
		.rope_theta = 500000,
		.rope_scaling = DS_ROPE_LLAMA3,
		.rope_factor = 8,
		.rope_low_freq_factor = 1,
		.rope_high_freq_factor = 4,
		.rope_original_context = 8192,
	};
}

static void plain_frequencies_fall_from_one_towards_the_inverse_of_theta(void **state)
{
	const struct ds_hparams p = {.rope_theta = 10000};
	float f[4];

	assert_int_equal(ds_rope_check(&p, 8, NULL), 0);
	ds_rope_frequencies(f, &p, 8);
	assert_near(f[0], 1);
	assert_near(f[1], 0.1);
	assert_near(f[3], 0.001);
}

static void yarn_gives_the_frequencies_of_deepseek_v3(void **state)
{
	static const struct {
		unsigned pair;
		double frequency;
	} known[] = {
		{0, 1},
		{1, 0.749894209},
		{10, 0.0562341325},
		{11, 0.0390069266},
		{15, 0.00833450895},
		{20, 0.000790569415},
		{23, 3.33380358e-05},
		{31, 3.33380358e-06},
	};
	const struct ds_hparams p = yarn();
	float f[32];

	assert_int_equal(ds_rope_check(&p, 64, NULL), 0);
	ds_rope_frequencies(f, &p, 64);
	for (size_t i = 0; i < DS_ARRAY_SIZE(known); i++)
		assert_near(f[known[i].pair], known[i].frequency);
}

static void llama3_gives_the_divisors_of_llama_3_1(void **state)
{
	static const double between[] = {1.207484, 1.553415, 2.026313, 2.69453, 3.684253, 5.257327};
	struct ds_hparams p = llama3();
	float scaled[64], plain[64];

	assert_int_equal(ds_rope_check(&p, 128, NULL), 0);
	ds_rope_frequencies(scaled, &p, 128);
	p.rope_scaling = DS_ROPE_PLAIN;
	ds_rope_frequencies(plain, &p, 128);
	for (unsigned i = 0; i < 64; i++)
		assert_near(plain[i] / scaled[i], i < 29 ? 1 : i < 35 ? between[i - 29] : 8);
}

static void linear_scaling_and_divisors_divide(void **state)
{
	struct ds_hparams p = {.rope_theta = 10000, .rope_scaling = DS_ROPE_LINEAR, .rope_factor = 4,
			       .rope_divisors = {1, 2, 5, 8}};
	float f[4];

	assert_int_equal(ds_rope_check(&p, 8, NULL), 0);
	ds_rope_frequencies(f, &p, 8);
	assert_near(f[0], 0.25);
	assert_near(f[3], 0.00025);
	p.rope_scaling = DS_ROPE_DIVISORS;
	assert_int_equal(ds_rope_check(&p, 8, NULL), 0);
	ds_rope_frequencies(f, &p, 8);
	assert_near(f[0], 1);
	assert_near(f[1], 0.05);
	assert_near(f[2], 0.002);
	assert_near(f[3], 0.000125);
}

static void scalings_that_make_no_sense_are_refused(void **state)
{
	struct ds_hparams p = {.rope_theta = 1};
	struct ds_error err;

	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	assert_non_null(strstr(err.text, "rope_theta is 1"));
	p.rope_theta = NAN;
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	p = yarn();
	p.rope_original_context = 0;
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	assert_non_null(strstr(err.text, "YaRN"));
	p = yarn();
	p.rope_magnitude = INFINITY;
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	p = llama3();
	p.rope_high_freq_factor = p.rope_low_freq_factor;
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	assert_non_null(strstr(err.text, "llama3"));
	p = (struct ds_hparams){.rope_theta = 10000, .rope_scaling = DS_ROPE_LINEAR, .rope_factor = 0};
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	assert_non_null(strstr(err.text, "rope_factor is 0"));
	p.rope_scaling = DS_ROPE_DIVISORS;
	for (unsigned i = 0; i < 3; i++)
		p.rope_divisors[i] = 1;
	assert_int_equal(ds_rope_check(&p, 6, &err), 0);
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
	assert_non_null(strstr(err.text, "rope_divisors[3] is 0"));
	assert_int_equal(ds_rope_check(&p, 2 * DS_MAX_ROPE_PAIRS + 2, &err), -EINVAL);
	assert_non_null(strstr(err.text, "129 rotated pairs"));
	p.rope_scaling = 77;
	assert_int_equal(ds_rope_check(&p, 8, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_frequencies_fall_from_one_towards_the_inverse_of_theta),
		cmocka_unit_test(yarn_gives_the_frequencies_of_deepseek_v3),
		cmocka_unit_test(llama3_gives_the_divisors_of_llama_3_1),
		cmocka_unit_test(linear_scaling_and_divisors_divide),
		cmocka_unit_test(scalings_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

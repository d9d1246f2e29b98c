/* kernels-passes.c - tests of conversions and of passes over rows of floats. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

enum { MAX_COLS = 130 };

#define GUARD 1234.0f

/* What a half stands for, from its definition. */
static double half_value(uint16_t bits)
{
	int exponent = bits >> 10 & 31, fraction = bits & 1023;
	double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

	if (exponent == 31)
		magnitude = fraction ? (double)NAN : (double)INFINITY;
	return bits & 0x8000 ? -magnitude : magnitude;
}

static void all_halves_widen_to_their_value_and_narrow_back(const struct ds_kernels *k)
{
	static uint16_t halves[65536], back[65536];
	static float wide[65536];

	for (unsigned i = 0; i < 65536; i++)
		halves[i] = (uint16_t)i;
	k->widen[DS_DTYPE_F16](wide, halves, 65536);
	k->narrow[DS_DTYPE_F16](back, wide, 65536);
	for (unsigned i = 0; i < 65536; i++) {
		double value = half_value((uint16_t)i);

		if (isnan(value)) {
			assert_true(isnan(wide[i]));
			assert_true((back[i] & 0x7c00) == 0x7c00 && (back[i] & 0x3ff));
		} else {
			assert_true(wide[i] == value);
			assert_int_equal(back[i], i);
		}
	}
}

static void all_bfloats_widen_to_their_bits_and_narrow_back(const struct ds_kernels *k)
{
	static uint16_t narrow[65536], back[65536];
	static float wide[65536];

	for (unsigned i = 0; i < 65536; i++)
		narrow[i] = (uint16_t)i;
	k->widen[DS_DTYPE_BF16](wide, narrow, 65536);
	k->narrow[DS_DTYPE_BF16](back, wide, 65536);
	for (unsigned i = 0; i < 65536; i++) {
		uint32_t bits;

		memcpy(&bits, &wide[i], sizeof(bits));
		if (!isnan(wide[i]))
			assert_int_equal(back[i], i);
		else
			assert_true(isnan(wide[i]) && (back[i] & 0x7f80) == 0x7f80 && (back[i] & 0x7f));
		assert_int_equal(bits, isnan(wide[i]) ? bits : i << 16);
	}
}

/* Between two neighbours the nearer one, and the even one from the middle; also where the last is infinite. */
static void check_rounding(const struct ds_kernels *k, enum ds_dtype dtype, unsigned infinity)
{
	for (unsigned i = 0; i < infinity; i++) {
		uint16_t ends[2] = {(uint16_t)i, (uint16_t)(i + 1)}, got[3];
		float wide[2], middle, x[3];

		portable.widen[dtype](wide, ends, 2);
		middle = (float)(((double)wide[0] + wide[1]) / 2);
		if (i + 1 == infinity) /* half of the last place of the largest number above it */
			middle = wide[0] + ldexpf(1, ilogbf(wide[0]) - (dtype == DS_DTYPE_F16 ? 11 : 8));
		x[0] = nextafterf(middle, 0);
		x[1] = middle;
		x[2] = nextafterf(middle, INFINITY);
		k->narrow[dtype](got, x, 3);
		assert_int_equal(got[0], i);
		assert_int_equal(got[1], i % 2 ? i + 1 : i);
		assert_int_equal(got[2], i + 1);
	}
}

static void numbers_narrow_to_the_nearest(const struct ds_kernels *k)
{
	check_rounding(k, DS_DTYPE_F16, 0x7c00);
	check_rounding(k, DS_DTYPE_BF16, 0x7f80);
}

static bool are_same(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!is_same(a[i], b[i]))
			return false;
	return true;
}

/* Of all that a float can be, some at random. */
static void fill_bits(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = draw();

		memcpy(&x[i], &bits, sizeof(bits));
	}
}

static void conversions_give_the_same_and_stop_at_the_end(const struct ds_kernels *k)
{
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		for (size_t n = 0; n < MAX_COLS; n++) {
			size_t size = n * ds_dtype_size(dtype);
			float *x = ending(0, n * sizeof(*x)), *wide = ending(1, n * sizeof(*x)), want[MAX_COLS];
			char *narrow = ending(2, size), plain[MAX_COLS * sizeof(float)];

			narrow[-1] = 0x5a;
			wide[-1] = GUARD;
			for (unsigned times = 0; times < 10; times++) {
				fill_bits(x, n);
				k->narrow[dtype](narrow, x, n);
				portable.narrow[dtype](plain, x, n);
				k->widen[dtype](wide, narrow, n);
				portable.widen[dtype](want, plain, n);
				assert_true(are_same(wide, want, n));
			}
			assert_true(narrow[-1] == 0x5a && wide[-1] == GUARD);
		}
}

/* Each of these has one result by IEEE 754, whatever the numbers are. */
static void scaling_is_exact(const struct ds_kernels *k)
{
	for (size_t n = 0; n <= MAX_COLS; n++)
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			float *x = ending(0, n * sizeof(*x)), *w = ending(1, n * sizeof(*w));
			float *got = ending(2, n * sizeof(*got)), want[MAX_COLS];

			fill(x, n, kind, DS_DTYPE_F32);
			fill(w, n, kind, DS_DTYPE_F32);
			got[-1] = GUARD;
			portable.scale_by(want, x, w, 0.3f, n);
			k->scale_by(got, x, w, 0.3f, n);
			assert_true(are_same(want, got, n));
			portable.scale(want, -0.7f, n);
			k->scale(got, -0.7f, n);
			assert_true(are_same(want, got, n));
			portable.scale_by(want, want, w, -3, n);
			k->scale_by(got, got, w, -3, n);
			assert_true(are_same(want, got, n));
			assert_true(got[-1] == GUARD);
		}
}

static void what_is_added_is_scaled(const struct ds_kernels *k)
{
	for (size_t n = 0; n <= MAX_COLS; n++)
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			float *x = ending(0, n * sizeof(*x)), *y = ending(1, n * sizeof(*y));
			float before[MAX_COLS], a = kind == KIND_WHOLE ? 7 : -0.7f;

			fill(x, n, kind, DS_DTYPE_F32);
			fill(y, n, kind, DS_DTYPE_F32);
			memcpy(before, y, n * sizeof(*y));
			k->add_scaled(y, x, a, n);
			for (size_t i = 0; i < n; i++) {
				double added = (double)a * x[i];

				assert_true(is_sum(y[i], before[i] + added, fabs(before[i]) + fabs(added), 2, kind));
			}
		}
}

static void squares_are_summed_in_double_precision(const struct ds_kernels *k)
{
	for (size_t n = 0; n <= MAX_COLS; n++)
		for (enum kind kind = 0; kind < KIND_BROKEN; kind++) {
			float *x = ending(0, n * sizeof(*x));
			double sum = 0, got;

			fill(x, n, kind, DS_DTYPE_F32);
			for (size_t i = 0; i < n; i++)
				sum += (double)x[i] * x[i];
			got = k->sum_squares(x, n);
			assert_true(fabs(got - sum) <= (kind == KIND_WHOLE ? 0 : (double)n * DBL_EPSILON * sum));
		}
}

/* The pair at @one and @other, turned by the angle whose cosine and sine stand there in @turn. */
static void check_pair(const float *was, const float *is, const float *turn, size_t one, size_t other, enum kind kind)
{
	double a = was[one], b = was[other], c = turn[one], s = turn[other];

	assert_true(is_sum(is[one], a * c - b * s, fabs(a * c) + fabs(b * s), 3, kind));
	assert_true(is_sum(is[other], a * s + b * c, fabs(a * s) + fabs(b * c), 3, kind));
}

static void pairs_are_turned(const struct ds_kernels *k)
{
	for (size_t n = 0; n <= MAX_COLS / 2; n++)
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			float *x = ending(0, 2 * n * sizeof(*x)), *turn = ending(1, 2 * n * sizeof(*turn));
			float was[MAX_COLS];

			fill(x, 2 * n, kind, DS_DTYPE_F32);
			fill(turn, 2 * n, kind, DS_DTYPE_F32);
			memcpy(was, x, 2 * n * sizeof(*x));
			k->rotate(x, turn, n);
			for (size_t i = 0; i < n; i++)
				check_pair(was, x, turn, 2 * i, 2 * i + 1, kind);
			memcpy(x, was, 2 * n * sizeof(*x));
			k->rotate_halves(x, turn, n);
			for (size_t i = 0; i < n; i++)
				check_pair(was, x, turn, i, n + i, kind);
		}
}

/* @n scores that every query has become exp(score - @top), no score being above @top. Returns their sum; *@weights is where
 * those of the first query stand, *@step apart. */
static float weigh(const struct ds_kernels *k, const float *scores, size_t n, float top, float **weights, size_t *step)
{
	size_t lanes = k->attend.lanes;
	struct ds_attend op = {
		.n_positions = (unsigned)n,
		.n_queries = (unsigned)lanes,
		.n = (unsigned)lanes,
		.scores = ending(0, n * lanes * sizeof(float)),
		.top = ending(1, lanes * sizeof(float)),
		.sum = ending(2, lanes * sizeof(float)),
		.factor = ending(3, lanes * sizeof(float)),
	};

	for (size_t i = 0; i < n * lanes; i++)
		op.scores[i] = scores[i / lanes];
	for (size_t i = 0; i < lanes; i++) {
		op.top[i] = top;
		op.sum[i] = 0;
	}
	k->attend.weigh(&op);
	*weights = op.scores;
	*step = lanes;
	return op.sum[0];
}

/* Within two units of the last place of the result, from the largest float down to the smallest and past both. */
static void exponentials_are_right_to_the_last_places(const struct ds_kernels *k)
{
	for (float x = -110; x < 0; x += 0.0137f) {
		size_t n = (size_t)(-x) % DS_ATTEND_TILE + 1, step;
		float scores[DS_ATTEND_TILE], *y;
		double want = exp((double)((x + 1) - 1.0f)), sum;

		for (size_t i = 0; i < n; i++)
			scores[i] = x + 1;
		sum = weigh(k, scores, n, 1, &y, &step);
		for (size_t i = 0; i < n * step; i++)
			assert_true(fabs(y[i] - want) <= 2 * FLT_EPSILON * want + 0x1p-149);
		assert_true(fabs(sum - (double)n * y[0]) <= (double)n * FLT_EPSILON * sum + 0x1p-149);
	}
}

static void exponentials_of_what_is_no_number_are_none(const struct ds_kernels *k)
{
	static const float scores[] = {NAN, -INFINITY, 0, -1000, -1, NAN, 0, -INFINITY, -INFINITY};
	size_t s;
	float *x;

	assert_true(isnan(weigh(k, scores, DS_ARRAY_SIZE(scores), 0, &x, &s)));
	assert_true(isnan(x[0]) && isnan(x[5 * s]));
	assert_true(x[s] == 0 && x[2 * s] == 1 && x[3 * s] == 0 && x[6 * s] == 1 && x[7 * s] == 0 && x[8 * s] == 0);
}

/* Of what has no finite result the portable one decides; below 1e-36 the unit is 0. */
static bool is_gated(float got, float plain, float gate, float up)
{
	double want = gate / (1 + exp(-(double)gate)) * up;

	return isfinite(plain) ? fabs(got - want) <= 4 * FLT_EPSILON * fabs(want) + 1e-36 * (1 + fabsf(up))
			       : is_same(got, plain);
}

static void gates_close_and_open(const struct ds_kernels *k)
{
	for (size_t n = 0; n <= MAX_COLS; n++)
		for (enum kind kind = KIND_REAL; kind < N_KINDS; kind++) {
			float *gate = ending(0, n * sizeof(*gate)), *up = ending(1, n * sizeof(*up));
			float *y = ending(2, n * sizeof(*y)), plain[MAX_COLS];

			fill(gate, n, kind, DS_DTYPE_F32);
			fill(up, n, kind, DS_DTYPE_F32);
			for (size_t i = 0; i < n; i++)
				gate[i] *= kind == KIND_WILD ? 1 : (float)(n % 7) * 40;
			y[-1] = GUARD;
			portable.swiglu(plain, gate, up, n);
			k->swiglu(y, gate, up, n);
			for (size_t i = 0; i < n; i++)
				assert_true(is_gated(y[i], plain[i], gate[i], up[i]));
			assert_true(y[-1] == GUARD);
			k->swiglu(gate, gate, up, n);
			assert_true(are_same(gate, y, n));
		}
}

/* By half a step at most, and a step is what makes the largest magnitude 127, to the precision of a half. */
static void a_cache_of_blocks_is_as_near_as_its_steps(const struct ds_kernels *k)
{
	float x[96], y[96];
	char blocks[3 * 34 + 1];

	for (unsigned round = 0; round < 1000; round++) {
		float size = ldexpf(1, (int)(round % 40) - 20);

		fill(x, 96, KIND_REAL, DS_DTYPE_F32);
		for (size_t i = 0; i < 96; i++)
			x[i] *= size;
		memset(x + 64, 0, 32 * sizeof(*x));
		blocks[3 * 34] = 77;
		k->narrow[DS_DTYPE_Q8_0](blocks, x, 96);
		k->widen[DS_DTYPE_Q8_0](y, blocks, 96);
		assert_int_equal(blocks[3 * 34], 77);
		for (size_t i = 0; i < 64; i++) {
			float top = 0;

			for (size_t j = 0; j < 32; j++)
				top = fmaxf(top, fabsf(x[i / 32 * 32 + j]));
			/* where the scale is a subnormal half, 2^-24 is its last place */
			assert_true(fabsf(y[i] - x[i]) <= top / 254 * 1.01f + 127 * 0x1p-25f);
		}
		for (size_t i = 64; i < 96; i++)
			assert_true(y[i] == 0);
	}
	fill(x, 96, KIND_REAL, DS_DTYPE_F32);
	x[3] = NAN;
	x[40] = INFINITY;
	k->narrow[DS_DTYPE_Q8_0](blocks, x, 96);
	k->widen[DS_DTYPE_Q8_0](y, blocks, 96);
	for (size_t i = 0; i < 64; i++)
		assert_true(isnan(y[i]));
	for (size_t i = 64; i < 96; i++)
		assert_true(fabsf(y[i] - x[i]) < 0.01f);
}

const struct kernel_test pass_tests[] = {
	KERNEL_TEST(all_halves_widen_to_their_value_and_narrow_back),
	KERNEL_TEST(all_bfloats_widen_to_their_bits_and_narrow_back),
	KERNEL_TEST(numbers_narrow_to_the_nearest),
	KERNEL_TEST(conversions_give_the_same_and_stop_at_the_end),
	KERNEL_TEST(a_cache_of_blocks_is_as_near_as_its_steps),
	KERNEL_TEST(scaling_is_exact),
	KERNEL_TEST(what_is_added_is_scaled),
	KERNEL_TEST(squares_are_summed_in_double_precision),
	KERNEL_TEST(pairs_are_turned),
	KERNEL_TEST(exponentials_are_right_to_the_last_places),
	KERNEL_TEST(exponentials_of_what_is_no_number_are_none),
	KERNEL_TEST(gates_close_and_open),
	{NULL, NULL},
};

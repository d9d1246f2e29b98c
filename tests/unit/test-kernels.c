/* test-kernels.c - every kernel of every instruction set this CPU has, in two ways: on small integers, of which a
 * float32 holds every partial sum, so that any order of addition gives the same bits; and on real values against double
 * precision with the a-priori bound n * eps * sum|w x|. Every size class and tail, and nothing past the end. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plugins/backend-cpu/kernels.h"

#define GUARD 1234.0f
#define MAX_COLS 130
#define MAX_ROWS 13

static const size_t col_counts[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 130};
static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13};

static struct ds_kernels portable;

static uint64_t seed;

static uint32_t draw_bits(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

static void fill_small_integers(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(draw_bits() % 17) - 8;
}

static void fill_reals(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = (float)((double)draw_bits() / (1u << 31) - 1);
}

static void fill(float *x, size_t n, bool whole)
{
	if (whole)
		fill_small_integers(x, n);
	else
		fill_reals(x, n);
}

/* The instruction set under test is the state of each test. */
static struct ds_kernels kernels_of(void **state)
{
	struct ds_kernels k;

	ds_kernels_init(&k, *(const enum ds_isa *)*state);
	seed = 1;
	return k;
}

static void check_matvec(const struct ds_kernels *k, enum ds_dtype dtype, size_t rows, size_t cols, unsigned n,
			 bool whole)
{
	static float plain[MAX_ROWS * (MAX_COLS + 2)], wide[MAX_ROWS * (MAX_COLS + 2)], x[DS_KERNEL_ROWS][MAX_COLS];
	static float want[DS_KERNEL_ROWS][MAX_ROWS + 1], got[DS_KERNEL_ROWS][MAX_ROWS + 1];
	static float stored[MAX_ROWS * (MAX_COLS + 2)];
	struct ds_matvec op = {
		.w = stored,
		.rows = rows,
		.cols = cols,
		.pitch = cols + rows % 3,
		.n = n,
		.add = cols % 2,
	};

	fill(plain, rows * op.pitch, whole);
	portable.narrow[dtype](stored, plain, rows * op.pitch);
	portable.widen[dtype](wide, stored, rows * op.pitch);
	for (unsigned i = 0; i < n; i++) {
		fill(x[i], cols, whole);
		fill(want[i], rows, whole);
		want[i][rows] = GUARD;
		memcpy(got[i], want[i], sizeof(got[i]));
		op.x[i] = x[i];
		op.y[i] = got[i];
	}
	k->matvec[dtype](&op);
	for (unsigned i = 0; i < n; i++) {
		for (size_t r = 0; r < rows; r++) {
			double sum = op.add ? want[i][r] : 0, size = fabs(sum);

			for (size_t c = 0; c < cols; c++) {
				sum += (double)wide[r * op.pitch + c] * x[i][c];
				size += fabs((double)wide[r * op.pitch + c] * x[i][c]);
			}
			if (whole ? got[i][r] != sum : fabs(got[i][r] - sum) > (double)(cols + 1) * FLT_EPSILON * size)
				fail_msg("type %d, %zu rows, %zu columns, %u at once: %.9g instead of %.9g", dtype,
					 rows, cols, n, got[i][r], sum);
		}
		assert_float_equal(got[i][rows], GUARD, 0);
	}
}

static void rows_times_columns_are_dot_products(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts); r++)
			for (size_t c = 0; c < DS_ARRAY_SIZE(col_counts); c++)
				for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++) {
					check_matvec(&k, dtype, row_counts[r], col_counts[c], n, true);
					check_matvec(&k, dtype, row_counts[r], col_counts[c], n, false);
				}
}

static void check_mix(const struct ds_kernels *k, enum ds_dtype dtype, size_t rows, size_t cols, unsigned n, bool whole)
{
	static float plain[MAX_ROWS * (MAX_COLS + 2)], wide[MAX_ROWS * (MAX_COLS + 2)], p[DS_KERNEL_ROWS][MAX_ROWS];
	static float want[DS_KERNEL_ROWS][MAX_COLS + 1], got[DS_KERNEL_ROWS][MAX_COLS + 1];
	static float stored[MAX_ROWS * (MAX_COLS + 2)];
	struct ds_mix op = {.c = stored, .rows = rows, .cols = cols, .pitch = cols + rows % 3, .n = n};

	fill(plain, rows * op.pitch, whole);
	portable.narrow[dtype](stored, plain, rows * op.pitch);
	portable.widen[dtype](wide, stored, rows * op.pitch);
	for (unsigned i = 0; i < n; i++) {
		fill(p[i], rows, whole);
		fill(want[i], cols, whole);
		want[i][cols] = GUARD;
		memcpy(got[i], want[i], sizeof(got[i]));
		op.p[i] = p[i];
		op.z[i] = got[i];
	}
	k->mix[dtype](&op);
	for (unsigned i = 0; i < n; i++) {
		for (size_t c = 0; c < cols; c++) {
			double sum = want[i][c], size = fabs(sum);

			for (size_t t = 0; t < rows; t++) {
				sum += (double)p[i][t] * wide[t * op.pitch + c];
				size += fabs((double)p[i][t] * wide[t * op.pitch + c]);
			}
			if (whole ? got[i][c] != sum : fabs(got[i][c] - sum) > (double)(rows + 1) * FLT_EPSILON * size)
				fail_msg("type %d, %zu rows, %zu columns, %u at once: %.9g instead of %.9g", dtype,
					 rows, cols, n, got[i][c], sum);
		}
		assert_float_equal(got[i][cols], GUARD, 0);
	}
}

static void weighted_rows_are_summed(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		for (size_t r = 0; r < DS_ARRAY_SIZE(row_counts); r++)
			for (size_t c = 0; c < DS_ARRAY_SIZE(col_counts); c++)
				for (unsigned n = 1; n <= DS_KERNEL_ROWS; n++) {
					check_mix(&k, dtype, row_counts[r], col_counts[c], n, true);
					check_mix(&k, dtype, row_counts[r], col_counts[c], n, false);
				}
}

/* What a half stands for, from its definition. */
static double half_value(uint16_t bits)
{
	int exponent = bits >> 10 & 31, fraction = bits & 1023;
	double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

	if (exponent == 31)
		magnitude = fraction ? (double)NAN : (double)INFINITY;
	return bits & 0x8000 ? -magnitude : magnitude;
}

static void all_halves_widen_to_their_value_and_narrow_back(void **state)
{
	static uint16_t halves[65536], back[65536];
	static float wide[65536];
	struct ds_kernels k = kernels_of(state);

	for (unsigned i = 0; i < 65536; i++)
		halves[i] = (uint16_t)i;
	k.widen[DS_DTYPE_F16](wide, halves, 65536);
	k.narrow[DS_DTYPE_F16](back, wide, 65536);
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

static void all_bfloats_widen_to_their_bits_and_narrow_back(void **state)
{
	static uint16_t narrow[65536], back[65536];
	static float wide[65536];
	struct ds_kernels k = kernels_of(state);

	for (unsigned i = 0; i < 65536; i++)
		narrow[i] = (uint16_t)i;
	k.widen[DS_DTYPE_BF16](wide, narrow, 65536);
	k.narrow[DS_DTYPE_BF16](back, wide, 65536);
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

static void numbers_narrow_to_the_nearest(void **state)
{
	struct ds_kernels k = kernels_of(state);

	check_rounding(&k, DS_DTYPE_F16, 0x7c00);
	check_rounding(&k, DS_DTYPE_BF16, 0x7f80);
}

static void conversions_stop_at_the_end(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float x[MAX_COLS], wide[MAX_COLS + 1];
	uint16_t narrow[2 * MAX_COLS + 2], want[2 * MAX_COLS];

	fill_reals(x, MAX_COLS);
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++)
		for (size_t n = 0; n < MAX_COLS; n++) {
			size_t size = n * ds_dtype_size(dtype);

			memset(narrow, 0x5a, sizeof(narrow));
			k.narrow[dtype](narrow, x, n);
			portable.narrow[dtype](want, x, n);
			assert_memory_equal(narrow, want, size);
			assert_int_equal(((char *)narrow)[size], 0x5a);
			wide[n] = GUARD;
			k.widen[dtype](wide, narrow, n);
			assert_float_equal(wide[n], GUARD, 0);
			for (size_t i = 0; i < n; i++)
				assert_float_equal(wide[i], x[i], 0.005);
		}
}

static void simple_passes_are_exact(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float x[MAX_COLS], w[MAX_COLS], want[MAX_COLS + 1], got[MAX_COLS + 1];

	for (size_t n = 0; n <= MAX_COLS; n++) {
		fill_small_integers(x, n);
		fill_small_integers(w, n);
		want[n] = got[n] = GUARD;
		portable.scale_by(want, x, w, 3, n);
		k.scale_by(got, x, w, 3, n);
		assert_memory_equal(want, got, (n + 1) * sizeof(*want));
		portable.scale(want, -0.5f, n);
		k.scale(got, -0.5f, n);
		assert_memory_equal(want, got, (n + 1) * sizeof(*want));
		portable.add_scaled(want, x, 7, n);
		k.add_scaled(got, x, 7, n);
		assert_memory_equal(want, got, (n + 1) * sizeof(*want));
		assert_true(k.sum_squares(x, n) == portable.sum_squares(x, n));
		assert_true(k.largest(x, n) == portable.largest(x, n));
		k.rotate(got, w, n / 2);
		portable.rotate(want, w, n / 2);
		k.rotate_halves(got, w, n / 2);
		portable.rotate_halves(want, w, n / 2);
		assert_memory_equal(want, got, (n + 1) * sizeof(*want));
	}
	assert_true(k.largest(x, 0) == -INFINITY);
}

static void the_largest_is_found_wherever_it_stands(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float x[MAX_COLS];

	for (size_t n = 1; n <= MAX_COLS; n++)
		for (size_t i = 0; i < n; i++) {
			for (size_t j = 0; j < n; j++)
				x[j] = j == i ? -1 : -2;
			assert_true(k.largest(x, n) == -1);
		}
}

/* Within two units of the last place of the result, from the largest float down to the smallest and past both. */
static void exponentials_are_right_to_the_last_places(void **state)
{
	struct ds_kernels k = kernels_of(state);

	for (float x = -110; x < 0; x += 0.0137f) {
		float y[MAX_COLS + 1];
		size_t n = (size_t)(-x) % MAX_COLS + 1;
		double want = exp((double)x), sum;

		for (size_t i = 0; i < n; i++)
			y[i] = x + 1;
		y[n] = GUARD;
		sum = k.exp_sum(y, 1, n);
		want = exp((double)((x + 1) - 1.0f));
		for (size_t i = 0; i < n; i++)
			assert_true(fabs(y[i] - want) <= 2 * FLT_EPSILON * want + 0x1p-149);
		assert_true(fabs(sum - (double)n * y[0]) <= (double)n * FLT_EPSILON * sum + 0x1p-149);
		assert_float_equal(y[n], GUARD, 0);
	}
}

static void exponentials_of_what_is_no_number_are_none(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float x[] = {NAN, -INFINITY, 0, -1000, -1, NAN, 0, -INFINITY, -INFINITY};

	assert_true(isnan(k.exp_sum(x, 0, DS_ARRAY_SIZE(x))));
	assert_true(isnan(x[0]) && isnan(x[5]));
	assert_true(x[1] == 0 && x[2] == 1 && x[3] == 0 && x[6] == 1 && x[7] == 0 && x[8] == 0);
}

static void gates_close_and_open(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float gate[MAX_COLS], up[MAX_COLS], y[MAX_COLS + 1];

	for (size_t n = 0; n <= MAX_COLS; n++) {
		fill_reals(gate, n);
		fill_reals(up, n);
		for (size_t i = 0; i < n; i++)
			gate[i] *= (float)(n % 7) * 40;
		y[n] = GUARD;
		k.swiglu(y, gate, up, n);
		for (size_t i = 0; i < n; i++) {
			double want = gate[i] / (1 + exp(-(double)gate[i])) * up[i];

			assert_true(fabs(y[i] - want) <= 4 * FLT_EPSILON * fabs(want) + 1e-36);
		}
		assert_float_equal(y[n], GUARD, 0);
	}
}

/* By half a step at most, and a step is what makes the largest magnitude 127, to the precision of a half. */
static void a_cache_of_blocks_is_as_near_as_its_steps(void **state)
{
	struct ds_kernels k = kernels_of(state);
	float x[96], y[96];
	char blocks[3 * 34 + 1];

	for (unsigned round = 0; round < 1000; round++) {
		float size = ldexpf(1, (int)(round % 40) - 20);

		fill_reals(x, 96);
		for (size_t i = 0; i < 96; i++)
			x[i] *= size;
		memset(x + 64, 0, 32 * sizeof(*x));
		blocks[3 * 34] = 77;
		k.narrow[DS_DTYPE_Q8_0](blocks, x, 96);
		k.widen[DS_DTYPE_Q8_0](y, blocks, 96);
		assert_int_equal(blocks[3 * 34], 77);
		for (size_t i = 0; i < 64; i++) {
			float top = portable.largest(x + i / 32 * 32, 32);

			for (size_t j = 0; j < 32; j++)
				top = fmaxf(top, -x[i / 32 * 32 + j]);
			/* where the scale is a subnormal half, 2^-24 is its last place */
			assert_true(fabsf(y[i] - x[i]) <= top / 254 * 1.01f + 127 * 0x1p-25f);
		}
		for (size_t i = 64; i < 96; i++)
			assert_true(y[i] == 0);
	}
	fill_reals(x, 96);
	x[3] = NAN;
	x[40] = INFINITY;
	k.narrow[DS_DTYPE_Q8_0](blocks, x, 96);
	k.widen[DS_DTYPE_Q8_0](y, blocks, 96);
	for (size_t i = 0; i < 64; i++)
		assert_true(isnan(y[i]));
	for (size_t i = 64; i < 96; i++)
		assert_true(fabsf(y[i] - x[i]) < 0.01f);
}

static void the_portable_set_is_complete(void **state)
{
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype <= DS_DTYPE_BF16; dtype++) {
		assert_non_null(portable.matvec[dtype]);
		assert_non_null(portable.mix[dtype]);
		assert_non_null(portable.widen[dtype]);
		assert_non_null(portable.narrow[dtype]);
	}
	assert_non_null(portable.sum_squares);
	assert_non_null(portable.scale_by);
	assert_non_null(portable.scale);
	assert_non_null(portable.add_scaled);
	assert_non_null(portable.swiglu);
	assert_non_null(portable.largest);
	assert_non_null(portable.exp_sum);
	assert_non_null(portable.rotate);
	assert_non_null(portable.rotate_halves);
}

int main(void)
{
	int failed = 0;

	ds_kernels_init(&portable, DS_ISA_PORTABLE);
	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa))
			continue;
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(the_portable_set_is_complete, &isa),
			cmocka_unit_test_prestate(rows_times_columns_are_dot_products, &isa),
			cmocka_unit_test_prestate(weighted_rows_are_summed, &isa),
			cmocka_unit_test_prestate(all_halves_widen_to_their_value_and_narrow_back, &isa),
			cmocka_unit_test_prestate(all_bfloats_widen_to_their_bits_and_narrow_back, &isa),
			cmocka_unit_test_prestate(numbers_narrow_to_the_nearest, &isa),
			cmocka_unit_test_prestate(conversions_stop_at_the_end, &isa),
			cmocka_unit_test_prestate(a_cache_of_blocks_is_as_near_as_its_steps, &isa),
			cmocka_unit_test_prestate(simple_passes_are_exact, &isa),
			cmocka_unit_test_prestate(the_largest_is_found_wherever_it_stands, &isa),
			cmocka_unit_test_prestate(exponentials_are_right_to_the_last_places, &isa),
			cmocka_unit_test_prestate(exponentials_of_what_is_no_number_are_none, &isa),
			cmocka_unit_test_prestate(gates_close_and_open, &isa),
		};

		print_message("[ %s ]\n", ds_isa_name(isa));
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}

/* kernels.c - every variant of every kernel that this CPU can run: tested against the portable one, and timed.
 *
 * Usage: kernels [VARIANT]        tests them all, or those of one instruction set; the exit status is how many tests failed
 *        kernels --bench [NAME]   times those whose name begins so */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels.h"

struct ds_kernels portable;

static uint64_t seed;
static jmp_buf end_of_test;

uint32_t draw(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

void fail_at(const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("%s:%d: ", file, line);
	vprintf(format, args);
	printf("\n");
	va_end(args);
	longjmp(end_of_test, 1);
}

void *ending(unsigned which, size_t size)
{
	static char *ends[N_ENDS];

	if (size > END_SIZE || which >= N_ENDS)
		fail_msg("%zu bytes at end %u are too many", size, which);
	if (!ends[which]) {
		size_t page = (size_t)sysconf(_SC_PAGESIZE);
		char *p = mmap(NULL, END_SIZE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || mprotect(p + END_SIZE, page, PROT_NONE) < 0)
			fail_msg("no memory for tests");
		ends[which] = p + END_SIZE;
	}
	return ends[which] - size;
}

static float real(void)
{
	return (float)((double)draw() / (1u << 31) - 1);
}

/* A half has no more than 5 bits of exponent, and what it is multiplied with can make up for it. */
static float wild(enum ds_dtype dtype)
{
	int lowest = dtype == DS_DTYPE_F16 ? -25 : -150, range = dtype == DS_DTYPE_F16 ? 40 : 205;

	return draw() % 8 == 0 ? real() * 0 : ldexpf(real(), lowest + (int)(draw() % (unsigned)range));
}

static float broken(void)
{
	static const float none[] = {INFINITY, -INFINITY, NAN};

	return draw() % 64 ? real() : none[draw() % 3];
}

void fill(float *x, size_t n, enum kind kind, enum ds_dtype dtype)
{
	for (size_t i = 0; i < n; i++)
		x[i] = kind == KIND_WHOLE  ? (float)(draw() % 17) - 8
		       : kind == KIND_REAL ? real()
		       : kind == KIND_WILD ? wild(dtype)
					   : broken();
}

bool is_sum(float got, double want, double size, size_t n, enum kind kind)
{
	if (isnan(want))
		return isnan(got);
	if (isinf(want) || kind == KIND_WHOLE)
		return got == want;
	return fabs(got - want) <= (double)n * (FLT_EPSILON * size + 0x1p-149);
}

bool is_same(float a, float b)
{
	return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0;
}

static bool passes(const struct kernel_test *test, const struct ds_kernels *k)
{
	if (setjmp(end_of_test))
		return false;
	test->run(k);
	return true;
}

/* What is printed is what cmocka prints, for those who count tests. */
static int run_tests(const struct kernel_test *test, enum ds_isa isa)
{
	struct ds_kernels k;
	int failed = 0;

	ds_kernels_init(&k, isa);
	for (; test->name; test++) {
		bool ok;

		seed = 1;
		ok = passes(test, &k);
		failed += !ok;
		printf("[%s] %s_with_%s\n", ok ? "       OK " : "  FAILED  ", test->name, ds_isa_name(isa));
		fflush(stdout);
	}
	return failed;
}

int main(int argc, char **argv)
{
	static const struct kernel_test *const all[] = {product_tests, pass_tests, block_tests, tile_tests,
							attention_tests};
	int failed = 0, found = 0;

	ds_kernels_init(&portable, DS_ISA_PORTABLE);
	printf("The best that this CPU has: %s\n", ds_isa_name(ds_isa_detect()));
	if (argc > 1 && !strcmp(argv[1], "--bench")) {
		bench_kernels(argc > 2 ? argv[2] : "");
		return 0;
	}
	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa) || (argc > 1 && strcmp(argv[1], ds_isa_name(isa)) != 0))
			continue;
		found++;
		for (size_t i = 0; i < DS_ARRAY_SIZE(all); i++)
			failed += run_tests(all[i], isa);
	}
	if (!found)
		fprintf(stderr, "%s: no instruction set of this CPU\n", argv[1]);
	return found ? failed : 2;
}

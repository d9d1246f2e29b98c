/* kernels.h - tests of the kernels that need nothing but a C library, so that they can be built for another machine and run
 * in an emulator of it.
 *
 * Each test is run once for each instruction set this CPU has. Checks have cmocka's names; the first that fails ends its
 * test. */
#pragma once

#include "plugins/backend-cpu/kernels.h"

struct kernel_test {
	const char *name; /* NULL after the last test */
	void (*run)(const struct ds_kernels *k);
};

#define KERNEL_TEST(function) {#function, function}

extern const struct kernel_test product_tests[], pass_tests[], block_tests[], tile_tests[], attention_tests[];

/* The definition of right. */
extern struct ds_kernels portable;

/* How fast each kernel is with each instruction set; of those whose name begins with @wanted. */
void bench_kernels(const char *wanted);

_Noreturn __attribute__((format(printf, 3, 4))) void fail_at(const char *file, int line, const char *format, ...);

#define fail_msg(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define assert_true(what)                     \
	do {                                  \
		if (!(what))                  \
			fail_msg("%s", #what); \
	} while (0)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_memory_equal(a, b, size) assert_true(memcmp((a), (b), (size)) == 0)

enum { N_ENDS = 32, END_SIZE = 1 << 20 };

/* The @size bytes before the end of memory: to touch what follows them ends the program. There are N_ENDS such places. The
 * odder the size the less aligned is where they begin. */
void *ending(unsigned which, size_t size);

/* Numbers at random; every test begins with the same. */
uint32_t draw(void);

enum kind {
	KIND_WHOLE,  /* small integers: every partial sum fits a float32, any order of addition gives the same bits */
	KIND_REAL,   /* from -1 to 1 */
	KIND_WILD,   /* of any size, zeros and subnormal ones among them, whose products are finite; of a half too */
	KIND_BROKEN, /* as the real ones, and now and then infinite or no number */
	N_KINDS,
};

void fill(float *x, size_t n, enum kind kind, enum ds_dtype dtype);

/* A quantised block (random-blocks.h) with scales that may be the least and the largest; one of three holds else zeros. */
struct block_type;
void make_wild_block(uint8_t *block, const struct block_type *type);

/* Whether @got is the sum of @n products that is @want in double precision, where the sum of their magnitudes is @size:
 * to the bit for whole numbers, else by the a-priori bound n * eps * size and what may be lost below the smallest number. */
bool is_sum(float got, double want, double size, size_t n, enum kind kind);

/* The same number to the bit, or both none. */
bool is_same(float a, float b);

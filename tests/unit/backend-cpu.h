/* backend-cpu.h - what the tests of the CPU backend share: values drawn, stored as any type, and caches made of them; checks
 * against double precision. */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <deepseekd/backend.h>

#include "each-isa.h"
#include "plugins/backend-cpu/cpu.h"

static const struct ds_backend_ops *ops = &ds_cpu_ops;

/* Every size class of the kernels, the panel of sgemm, and one past each. */
static const uint32_t row_counts[] = {0, 1, 2, 7, 8, 9, 64, 300};
static const unsigned member_counts[] = {1, 2, 3};
static const enum ds_dtype dtypes[] = {DS_DTYPE_F32, DS_DTYPE_F16, DS_DTYPE_BF16};

#define GUARD 12345.0f /* beyond what an operation may write */

struct bench {
	void *self;
	uint64_t seed;
};

static inline float draw(struct bench *b)
{
	b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(b->seed >> 33) / (1u << 30) - 1);
}

/* Values that every type can hold: an 8-bit fraction. */
static inline float draw_short(struct bench *b)
{
	return roundf(draw(b) * 128) / 64;
}

static inline struct bench begin(unsigned n_members)
{
	struct bench b = {.seed = n_members};
	struct ds_error err;

	assert_int_equal(ops->open(&b.self, NULL, NULL, &err), 0);
	assert_int_equal(ops->start(b.self, n_members, &err), 0);
	return b;
}

static inline void end(struct bench *b)
{
	assert_int_equal(ops->sync(b->self, NULL), 0);
	ops->close(b->self);
}

/* @n values drawn, and a guard after them. */
static inline float *values(struct bench *b, size_t n)
{
	float *x = ops->alloc(b->self, (n + 1) * sizeof(*x));

	assert_non_null(x);
	assert_int_equal((uintptr_t)x % 64, 0);
	for (size_t i = 0; i < n; i++)
		x[i] = draw_short(b);
	x[n] = GUARD;
	return x;
}

static inline uint16_t half_bits(float x)
{
	uint32_t bits;
	int exponent;
	float fraction = frexpf(fabsf(x), &exponent); /* an 8-bit fraction of a moderate exponent is exact */

	if (x == 0)
		return 0;
	bits = (uint32_t)(fraction * 2048) - 1024;
	return (uint16_t)((x < 0 ? 0x8000 : 0) | (uint32_t)(exponent + 14) << 10 | bits);
}

static inline uint16_t bfloat_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

/* The same values stored as @dtype. */
static inline void *stored(struct bench *b, const float *x, size_t n, enum ds_dtype dtype)
{
	void *w = ops->alloc(b->self, n * ds_dtype_size(dtype));

	assert_non_null(w);
	for (size_t i = 0; i < n; i++) {
		if (dtype == DS_DTYPE_F32)
			((float *)w)[i] = x[i];
		else
			((uint16_t *)w)[i] = dtype == DS_DTYPE_F16 ? half_bits(x[i]) : bfloat_bits(x[i]);
	}
	return w;
}

static inline void close_to(double want, double got, double size)
{
	if (fabs(want - got) > 2e-6 * (size + 1))
		fail_msg("%.9g was expected, %.9g came", want, got);
}

static inline double dot(const float *a, const float *b, size_t n, double *size)
{
	double sum = 0;

	*size = 0;
	for (size_t i = 0; i < n; i++) {
		sum += (double)a[i] * b[i];
		*size += fabs((double)a[i] * b[i]);
	}
	return sum;
}

struct cache {
	struct ds_kv kv;
	float *plain; /* (slots, width): what it holds */
	uint32_t *positions;
	uint32_t *table; /* all page tables */
	const uint32_t **pages;
	struct ds_rows rows;
};

/* A cache in which every row's sequence has @context positions on scattered pages; rows stand at different ones. */
static inline struct cache new_cache(struct bench *b, enum ds_dtype dtype, uint32_t n, uint32_t context,
				     uint32_t page_tokens, uint32_t width)
{
	uint32_t per_row = (context + page_tokens - 1) / page_tokens, n_pages = per_row * n;
	struct cache c = {.kv = {.dtype = dtype, .page_tokens = page_tokens, .width = width}};

	c.plain = values(b, (size_t)n_pages * page_tokens * width);
	c.kv.data = stored(b, c.plain, (size_t)n_pages * page_tokens * width, dtype);
	c.positions = ops->alloc(b->self, n * sizeof(*c.positions));
	c.table = ops->alloc(b->self, n_pages * sizeof(*c.table));
	c.pages = ops->alloc(b->self, n * sizeof(*c.pages));
	for (uint32_t i = 0; i < n_pages; i++) {
		uint32_t j = (uint32_t)(fabsf(draw(b)) * 0.999f * (float)(i + 1));

		c.table[i] = c.table[j];
		c.table[j] = i;
	}
	for (uint32_t i = 0; i < n; i++) {
		c.positions[i] = context - 1 - i * 3 % context;
		c.pages[i] = c.table + (size_t)i * per_row;
	}
	c.rows = (struct ds_rows){.n = n, .positions = c.positions, .pages = c.pages};
	return c;
}

static inline void free_cache(struct bench *b, struct cache *c)
{
	ops->release(b->self, c->plain);
	ops->release(b->self, c->kv.data);
	ops->release(b->self, c->positions);
	ops->release(b->self, c->table);
	ops->release(b->self, c->pages);
}

static inline const float *cached(const struct cache *c, uint32_t row, uint32_t t)
{
	size_t page = c->pages[row][t / c->kv.page_tokens];

	return c->plain + (page * c->kv.page_tokens + t % c->kv.page_tokens) * c->kv.width;
}

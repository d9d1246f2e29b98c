/* test-backend-cpu.c - every operation of the CPU backend against the plainest code in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <deepseekd/backend.h>

#include "plugins/backend-cpu/cpu.h"
#include "random-blocks.h"

/* What the linker puts in the place of the allocator (backend-cpu.mk), to count who asks for memory. */
static unsigned n_allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_posix_memalign(void **p, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_posix_memalign(void **p, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	n_allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	n_allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	n_allocations++;
	return __real_realloc(p, size);
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t size)
{
	n_allocations++;
	return __real_posix_memalign(p, alignment, size);
}

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

static float draw(struct bench *b)
{
	b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(b->seed >> 33) / (1u << 30) - 1);
}

/* Values that every type can hold: an 8-bit fraction. */
static float draw_short(struct bench *b)
{
	return roundf(draw(b) * 128) / 64;
}

static struct bench begin(unsigned n_members)
{
	struct bench b = {.seed = n_members};
	struct ds_error err;

	assert_int_equal(ops->open(&b.self, NULL, NULL, &err), 0);
	assert_int_equal(ops->start(b.self, n_members, &err), 0);
	return b;
}

static void end(struct bench *b)
{
	assert_int_equal(ops->sync(b->self, NULL), 0);
	ops->close(b->self);
}

/* @n values drawn, and a guard after them. */
static float *values(struct bench *b, size_t n)
{
	float *x = ops->alloc(b->self, (n + 1) * sizeof(*x));

	assert_non_null(x);
	assert_int_equal((uintptr_t)x % 64, 0);
	for (size_t i = 0; i < n; i++)
		x[i] = draw_short(b);
	x[n] = GUARD;
	return x;
}

static uint16_t half_bits(float x)
{
	uint32_t bits;
	int exponent;
	float fraction = frexpf(fabsf(x), &exponent); /* an 8-bit fraction of a moderate exponent is exact */

	if (x == 0)
		return 0;
	bits = (uint32_t)(fraction * 2048) - 1024;
	return (uint16_t)((x < 0 ? 0x8000 : 0) | (uint32_t)(exponent + 14) << 10 | bits);
}

static uint16_t bfloat_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

/* The same values stored as @dtype. */
static void *stored(struct bench *b, const float *x, size_t n, enum ds_dtype dtype)
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

static void close_to(double want, double got, double size)
{
	if (fabs(want - got) > 2e-6 * (size + 1))
		fail_msg("%.9g was expected, %.9g came", want, got);
}

static double dot(const float *a, const float *b, size_t n, double *size)
{
	double sum = 0;

	*size = 0;
	for (size_t i = 0; i < n; i++) {
		sum += (double)a[i] * b[i];
		*size += fabs((double)a[i] * b[i]);
	}
	return sum;
}

static void check_matmul(struct bench *b, enum ds_dtype dtype, uint32_t n, size_t rows, size_t cols, bool add,
			 size_t gap)
{
	float *plain = values(b, rows * cols), *x = values(b, n * (cols + gap)), *y = values(b, n * (rows + gap));
	float *before = values(b, n * (rows + gap));
	struct ds_weight w = {stored(b, plain, rows * cols, dtype), dtype, 0, 1, rows, cols};
	struct ds_matmul op = {.y = y, .x = x, .w = &w, .n = n, .add = add};
	double size;

	if (gap) {
		op.x_stride = (uint32_t)(cols + gap);
		op.y_stride = (uint32_t)(rows + gap);
	}
	memcpy(before, y, n * (rows + gap) * sizeof(*y));
	ops->matmul(b->self, &op);
	for (size_t i = 0; i < n; i++) {
		for (size_t r = 0; r < rows; r++) {
			double want = dot(plain + r * cols, x + i * (cols + gap), cols, &size);

			close_to(want + (add ? before[i * (rows + gap) + r] : 0), y[i * (rows + gap) + r], size);
		}
		assert_memory_equal(y + i * (rows + gap) + rows, before + i * (rows + gap) + rows, gap * sizeof(*y));
	}
	assert_float_equal(y[n * (rows + gap)], GUARD, 0);
	ops->release(b->self, plain);
	ops->release(b->self, x);
	ops->release(b->self, y);
	ops->release(b->self, before);
	ops->release(b->self, (void *)w.data);
}

static void a_matmul_of_any_shape_is_right(void **state)
{
	static const size_t shapes[][2] = {{1, 1}, {3, 5}, {8, 16}, {33, 31}, {130, 1030}};

	for (size_t m = 0; m < DS_ARRAY_SIZE(member_counts); m++) {
		struct bench b = begin(member_counts[m]);

		for (size_t d = 0; d < DS_ARRAY_SIZE(dtypes); d++)
			for (size_t s = 0; s < DS_ARRAY_SIZE(shapes); s++)
				for (size_t i = 0; i < DS_ARRAY_SIZE(row_counts); i++)
					check_matmul(&b, dtypes[d], row_counts[i], shapes[s][0], shapes[s][1], i % 2,
						     i % 3 * 2);
		end(&b);
	}
}

static void check_heads(struct bench *b, enum ds_dtype dtype, uint32_t n, size_t heads, size_t rows, size_t cols)
{
	size_t x_head = cols + 3, x_row = heads * x_head + 1, y_head = rows, y_row = heads * rows + 2;
	float *plain = values(b, heads * rows * cols), *x = values(b, n * x_row), *y = values(b, n * y_row);
	struct ds_weight w = {stored(b, plain, heads * rows * cols, dtype), dtype, 0, heads, rows, cols};
	struct ds_head_matmul op = {
		.y = y,
		.x = x,
		.w = &w,
		.n = n,
		.x_row_stride = (uint32_t)x_row,
		.x_head_stride = (uint32_t)x_head,
		.y_row_stride = (uint32_t)y_row,
		.y_head_stride = (uint32_t)y_head,
	};
	double size;

	ops->head_matmul(b->self, &op);
	for (size_t i = 0; i < n; i++)
		for (size_t h = 0; h < heads; h++)
			for (size_t r = 0; r < rows; r++) {
				const float *input = x + i * x_row + h * x_head;
				double want = dot(plain + (h * rows + r) * cols, input, cols, &size);

				close_to(want, y[i * y_row + h * y_head + r], size);
			}
	assert_float_equal(y[n * y_row], GUARD, 0);
	ops->release(b->self, plain);
	ops->release(b->self, x);
	ops->release(b->self, y);
	ops->release(b->self, (void *)w.data);
}

static void every_head_meets_its_own_matrix(void **state)
{
	for (size_t m = 0; m < DS_ARRAY_SIZE(member_counts); m++) {
		struct bench b = begin(member_counts[m]);

		for (size_t i = 0; i < DS_ARRAY_SIZE(row_counts); i++)
			check_heads(&b, dtypes[i % 3], row_counts[i], 1 + i % 4, 17, 37);
		end(&b);
	}
}

static void check_experts(struct bench *b, enum ds_dtype dtype, uint32_t n, uint32_t k, uint32_t experts, bool shared)
{
	size_t rows = 19, cols = 1027;
	size_t n_x = shared ? n : (size_t)n * k;
	float *plain = values(b, experts * rows * cols), *x = values(b, n_x * cols), *y = values(b, n * k * rows);
	uint32_t *ids = ops->alloc(b->self, n * k * sizeof(*ids));
	struct ds_weight w = {stored(b, plain, experts * rows * cols, dtype), dtype, 0, experts, rows, cols};
	struct ds_expert_matmul op = {.y = y, .x = x, .w = &w, .ids = ids, .n = n, .k = k, .shared_input = shared};
	double size;

	for (size_t i = 0; i < n * k; i++)
		ids[i] = (uint32_t)(i % k ? (ids[i - 1] + 1) % experts : fabsf(draw(b)) * 0.999f * (float)experts);
	ops->expert_matmul(b->self, &op);
	for (size_t i = 0; i < n * k; i++)
		for (size_t r = 0; r < rows; r++) {
			const float *input = x + (shared ? i / k : i) * cols;
			double want = dot(plain + (ids[i] * rows + r) * cols, input, cols, &size);

			close_to(want, y[i * rows + r], size);
		}
	assert_float_equal(y[n * k * rows], GUARD, 0);
	ops->release(b->self, plain);
	ops->release(b->self, x);
	ops->release(b->self, y);
	ops->release(b->self, ids);
	ops->release(b->self, (void *)w.data);
}

static void every_pair_meets_the_expert_it_chose(void **state)
{
	for (size_t m = 0; m < DS_ARRAY_SIZE(member_counts); m++) {
		struct bench b = begin(member_counts[m]);

		for (size_t i = 0; i < DS_ARRAY_SIZE(row_counts); i++)
			check_experts(&b, dtypes[i % 3], row_counts[i], 1 + (uint32_t)(i % 3), 4, i % 2);
		check_experts(&b, DS_DTYPE_BF16, DS_PANEL_BATCH + 50, 2, 2, true);
		end(&b);
	}
}

/* A stack of matrices in random blocks, and what they stand for in @plain. */
static struct ds_weight quantised(struct bench *b, size_t type, uint64_t n, uint64_t rows, uint64_t cols, float *plain)
{
	enum ds_dtype dtype = block_types[type].dtype;
	size_t a_row = ds_row_size(dtype, cols), a_block = ds_dtype_info(dtype)->size;
	struct ds_tensor_desc desc = {"w", dtype, 3, {n, rows, cols, 1}};
	struct ds_layout layout;
	uint8_t *w;

	assert_int_equal(ops->plan(&desc, DS_PRECISION_EXACT, &layout, NULL), 0);
	assert_int_equal(layout.size, n * rows * a_row);
	w = ops->alloc(b->self, layout.size);
	for (size_t i = 0; i < n * rows * a_row; i += a_block)
		fill_block(w + i, &block_types[type], false, &b->seed);
	for (size_t r = 0; r < n * rows; r++)
		ds_dequantize_row(plain + r * cols, w + r * a_row, dtype, cols);
	return (struct ds_weight){w, dtype, layout.id, n, rows, cols, NULL};
}

/* Every operation that reads weights, few rows and as many as are widened for sgemm. */
static void check_quantised(struct bench *b, size_t type, uint32_t n)
{
	enum { EXPERTS = 3, ROWS = 21 };
	uint64_t cols = block_types[type].dtype == DS_DTYPE_FP8 ? 700 : 768;
	float *plain = values(b, EXPERTS * ROWS * cols), *x = values(b, n * EXPERTS * cols);
	float *y = values(b, n * EXPERTS * (ROWS > cols ? ROWS : cols));
	uint32_t *ids = ops->alloc(b->self, n * sizeof(*ids));
	struct ds_weight w = quantised(b, type, EXPERTS, ROWS, cols, plain), first = w;
	uint32_t x_row = (uint32_t)(EXPERTS * cols), x_head = (uint32_t)cols;
	double size, want;

	first.n_experts = 1;
	for (uint32_t i = 0; i < n; i++)
		ids[i] = i * 7 % EXPERTS;
	ops->matmul(b->self, &(struct ds_matmul){.y = y, .x = x, .w = &first, .n = n});
	for (size_t i = 0; i < n * ROWS; i++) {
		want = dot(plain + i % ROWS * cols, x + i / ROWS * cols, cols, &size);
		close_to(want, y[i], size);
	}
	ops->head_matmul(b->self, &(struct ds_head_matmul){y, x, &w, n, x_row, x_head, EXPERTS * ROWS, ROWS});
	for (size_t i = 0; i < n * EXPERTS * ROWS; i++) {
		want = dot(plain + i % (EXPERTS * ROWS) * cols, x + i / ROWS * cols, cols, &size);
		close_to(want, y[i], size);
	}
	ops->expert_matmul(b->self, &(struct ds_expert_matmul){y, x, &w, ids, n, 1, true});
	for (size_t i = 0; i < n * ROWS; i++) {
		const float *row = plain + (ids[i / ROWS] * ROWS + i % ROWS) * cols;

		want = dot(row, x + i / ROWS * cols, cols, &size);
		close_to(want, y[i], size);
	}
	ops->embed(b->self, y, &first, ids, n);
	for (uint32_t i = 0; i < n; i++)
		assert_memory_equal(y + i * cols, plain + ids[i] * cols, cols * sizeof(*y));
	assert_float_equal(y[n * EXPERTS * cols], GUARD, 0);
	ops->release(b->self, plain);
	ops->release(b->self, x);
	ops->release(b->self, y);
	ops->release(b->self, ids);
	ops->release(b->self, (void *)w.data);
}

static void quantised_weights_do_in_every_operation(void **state)
{
	static const uint32_t counts[] = {1, 3, 8, 30, 100};

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t i = 0; i < DS_ARRAY_SIZE(counts); i++) {
			struct bench b = begin(1 + (unsigned)i % 3);

			check_quantised(&b, t, counts[i]);
			end(&b);
		}
}

/* Experts that lie anywhere, as those of a model that is partly in memory do. */
static void matrices_may_lie_in_different_places(void **state)
{
	enum { EXPERTS = 3, ROWS = 19, COLS = 40, N = 9 };
	struct bench b = begin(2);
	float *w[EXPERTS], *x = values(&b, N * COLS), *y = values(&b, N * ROWS);
	float *all = values(&b, EXPERTS * ROWS * COLS), *want = values(&b, N * ROWS);
	uint32_t ids[N];
	struct ds_weight apart = {NULL, DS_DTYPE_F32, 0, EXPERTS, ROWS, COLS, (const void *const *)w};
	struct ds_weight together = {all, DS_DTYPE_F32, 0, EXPERTS, ROWS, COLS, NULL};

	for (uint32_t e = EXPERTS; e-- > 0;) {
		w[e] = values(&b, ROWS * COLS);
		memcpy(w[e], all + e * ROWS * COLS, ROWS * COLS * sizeof(*all));
	}
	for (uint32_t i = 0; i < N; i++)
		ids[i] = i * 5 % EXPERTS;
	ops->expert_matmul(b.self, &(struct ds_expert_matmul){want, x, &together, ids, N, 1, true});
	ops->expert_matmul(b.self, &(struct ds_expert_matmul){y, x, &apart, ids, N, 1, true});
	assert_memory_equal(want, y, N * ROWS * sizeof(*y));
	ops->head_matmul(b.self, &(struct ds_head_matmul){want, x, &together, 3, 3 * COLS, COLS, 3 * ROWS, ROWS});
	ops->head_matmul(b.self, &(struct ds_head_matmul){y, x, &apart, 3, 3 * COLS, COLS, 3 * ROWS, ROWS});
	assert_memory_equal(want, y, N * ROWS * sizeof(*y));
	ops->embed(b.self, x, &apart, ids, 1);
	assert_memory_equal(x, all + ids[0] * COLS, COLS * sizeof(*x));
	for (uint32_t e = 0; e < EXPERTS; e++)
		ops->release(b.self, w[e]);
	ops->release(b.self, all);
	ops->release(b.self, want);
	ops->release(b.self, x);
	ops->release(b.self, y);
	end(&b);
}

static void a_sum_of_experts_is_weighted(void **state)
{
	struct bench b = begin(2);
	uint32_t width = 131, n = 9, k = 3;
	float *x = values(&b, n * k * width), *y = values(&b, n * width), *before = values(&b, n * width);
	float *weights = values(&b, n * k);

	memcpy(before, y, n * width * sizeof(*y));
	ops->expert_sum(b.self, y, x, weights, width, n, k);
	for (size_t r = 0; r < n; r++)
		for (size_t d = 0; d < width; d++) {
			double want = before[r * width + d];

			for (size_t i = r * k; i < (r + 1) * k; i++)
				want += (double)weights[i] * x[i * width + d];
			close_to(want, y[r * width + d], 8);
		}
	assert_float_equal(y[n * width], GUARD, 0);
	ops->release(b.self, x);
	ops->release(b.self, y);
	ops->release(b.self, before);
	ops->release(b.self, weights);
	end(&b);
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
static struct cache new_cache(struct bench *b, enum ds_dtype dtype, uint32_t n, uint32_t context, uint32_t page_tokens,
			      uint32_t width)
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

static void free_cache(struct bench *b, struct cache *c)
{
	ops->release(b->self, c->plain);
	ops->release(b->self, c->kv.data);
	ops->release(b->self, c->positions);
	ops->release(b->self, c->table);
	ops->release(b->self, c->pages);
}

static const float *cached(const struct cache *c, uint32_t row, uint32_t t)
{
	size_t page = c->pages[row][t / c->kv.page_tokens];

	return c->plain + (page * c->kv.page_tokens + t % c->kv.page_tokens) * c->kv.width;
}

static void check_attention(struct bench *b, enum ds_dtype dtype, uint32_t n, uint32_t heads, uint32_t context,
			    uint32_t page_tokens)
{
	uint32_t r = 37, dr = 6, stride = dr + 5;
	struct cache c = new_cache(b, dtype, n, context, page_tokens, r + dr);
	float *q = values(b, n * heads * r), *q_rope = values(b, n * heads * stride), *z = values(b, n * heads * r);
	struct ds_latent_attention op = {
		.z = z,
		.q = q,
		.q_rope = q_rope,
		.q_rope_row_stride = heads * stride,
		.q_rope_head_stride = stride,
		.kv = &c.kv,
		.rows = &c.rows,
		.n_heads = heads,
		.kv_lora = r,
		.qk_rope = dr,
		.scale = 0.3f,
	};
	double *p = calloc(context, sizeof(*p)), size;

	ops->latent_attention(b->self, &op);
	for (uint32_t i = 0; i < n * heads; i++) {
		uint32_t row = i / heads, n_seen = c.positions[row] + 1;
		double sum = 0, top = -INFINITY;

		for (uint32_t t = 0; t < n_seen; t++) {
			p[t] = 0.3f * (dot(q + i * r, cached(&c, row, t), r, &size) +
				       dot(q_rope + i * stride, cached(&c, row, t) + r, dr, &size));
			top = p[t] > top ? p[t] : top;
		}
		for (uint32_t t = 0; t < n_seen; t++)
			sum += p[t] = exp(p[t] - top);
		for (uint32_t d = 0; d < r; d++) {
			double want = 0;

			for (uint32_t t = 0; t < n_seen; t++)
				want += p[t] / sum * cached(&c, row, t)[d];
			close_to(want, z[i * r + d], 4);
		}
	}
	assert_float_equal(z[n * heads * r], GUARD, 0);
	free(p);
	ops->release(b->self, q);
	ops->release(b->self, q_rope);
	ops->release(b->self, z);
	free_cache(b, &c);
}

static void attention_sees_each_position_up_to_its_own(void **state)
{
	static const uint32_t head_counts[] = {1, 3, 8, 16, 130}, contexts[] = {1, 63, 64, 65, 200};

	for (size_t m = 0; m < DS_ARRAY_SIZE(member_counts); m++) {
		struct bench b = begin(member_counts[m]);

		for (size_t h = 0; h < DS_ARRAY_SIZE(head_counts); h++)
			for (size_t c = 0; c < DS_ARRAY_SIZE(contexts); c++)
				check_attention(&b, dtypes[(h + c) % 3], c % 2 ? 1 : 5, head_counts[h], contexts[c],
						h % 2 ? 16 : 100);
		check_attention(&b, DS_DTYPE_F32, 0, 4, 8, 4);
		end(&b);
	}
}

static void check_grouped(struct bench *b, enum ds_dtype dtype, uint32_t n, uint32_t groups, uint32_t sharing,
			  uint32_t context, uint32_t page_tokens)
{
	uint32_t r = 37, heads = groups * sharing;
	struct cache k = new_cache(b, dtype, n, context, page_tokens, groups * r);
	float *plain_v = values(b, (size_t)n * (context + page_tokens) * groups * r);
	size_t n_slots = (size_t)n * ((context + page_tokens - 1) / page_tokens) * page_tokens;
	struct cache v = k;
	float *q = values(b, (size_t)n * heads * r), *y = values(b, (size_t)n * heads * r);
	struct ds_attention op = {
		.y = y,
		.q = q,
		.k = &k.kv,
		.v = &v.kv,
		.rows = &k.rows,
		.n_heads = heads,
		.n_kv_heads = groups,
		.head_dim = r,
		.scale = 0.3f,
	};
	double *p = calloc(context, sizeof(*p)), size;

	v.plain = plain_v;
	v.kv.data = stored(b, plain_v, n_slots * groups * r, dtype);
	ops->attention(b->self, &op);
	for (uint32_t i = 0; i < n * heads; i++) {
		uint32_t row = i / heads, first = i % heads / sharing * r;
		double sum = 0, top = -INFINITY;

		for (uint32_t t = 0; t <= k.positions[row]; t++) {
			p[t] = 0.3f * dot(q + i * r, cached(&k, row, t) + first, r, &size);
			top = p[t] > top ? p[t] : top;
		}
		for (uint32_t t = 0; t <= k.positions[row]; t++)
			sum += p[t] = exp(p[t] - top);
		for (uint32_t d = 0; d < r; d++) {
			double want = 0;

			for (uint32_t t = 0; t <= k.positions[row]; t++)
				want += p[t] / sum * cached(&v, row, t)[first + d];
			close_to(want, y[i * r + d], 4);
		}
	}
	assert_float_equal(y[n * heads * r], GUARD, 0);
	free(p);
	ops->release(b->self, q);
	ops->release(b->self, y);
	ops->release(b->self, plain_v);
	ops->release(b->self, v.kv.data);
	free_cache(b, &k);
}

/* From one head for all to a head for each, with more sharing than a piece of work takes. */
static void heads_share_keys_and_values_in_groups(void **state)
{
	static const uint32_t groups[] = {1, 2, 3, 8}, sharing[] = {1, 4, 7, 8, 9, 70};
	static const uint32_t contexts[] = {1, 63, 64, 65, 200};

	for (size_t m = 0; m < DS_ARRAY_SIZE(member_counts); m++) {
		struct bench b = begin(member_counts[m]);

		for (size_t g = 0; g < DS_ARRAY_SIZE(groups); g++)
			for (size_t s = 0; s < DS_ARRAY_SIZE(sharing); s++)
				check_grouped(&b, dtypes[(g + s) % 3], s % 2 ? 1 : 3, groups[g], sharing[s],
					      contexts[(g + s) % DS_ARRAY_SIZE(contexts)], g % 2 ? 16 : 100);
		check_grouped(&b, DS_DTYPE_F32, 0, 2, 2, 8, 4);
		end(&b);
	}
}

/* Keys that are all the same weigh all positions alike: sums of small integers over 2^k positions are exact. */
static void equal_keys_give_the_mean_to_the_last_bit(void **state)
{
	enum { CONTEXT = 128, GROUPS = 2, DIM = 20, WIDTH = GROUPS * DIM };
	struct bench b = begin(2);

	for (size_t d = 0; d < DS_ARRAY_SIZE(dtypes); d++) {
		struct cache k = new_cache(&b, dtypes[d], 1, CONTEXT, 16, WIDTH);
		struct cache v = new_cache(&b, dtypes[d], 1, CONTEXT, 16, WIDTH);
		float *q = values(&b, 2 * WIDTH), *y = values(&b, 2 * WIDTH);
		struct ds_attention op = {y, q, &k.kv, &v.kv, &k.rows, 2 * GROUPS, GROUPS, DIM, 0.125f};

		memset(k.kv.data, 0, (size_t)CONTEXT * WIDTH * ds_dtype_size(dtypes[d]));
		v.pages[0] = k.pages[0];
		ops->attention(b.self, &op);
		for (uint32_t i = 0; i < 2 * WIDTH; i++) {
			double sum = 0;

			for (uint32_t t = 0; t < CONTEXT; t++)
				sum += cached(&v, 0, t)[i / (2 * DIM) * DIM + i % DIM];
			assert_true(y[i] == sum / CONTEXT);
		}
		ops->release(b.self, q);
		ops->release(b.self, y);
		free_cache(&b, &k);
		free_cache(&b, &v);
	}
	end(&b);
}

static void what_is_stored_lies_at_its_position(void **state)
{
	static const uint32_t width = 21;
	struct bench b = begin(3);

	for (size_t d = 0; d < DS_ARRAY_SIZE(dtypes); d++) {
		struct cache c = new_cache(&b, dtypes[d], 5, 40, 16, width);
		float *x = values(&b, 5 * (width + 4));
		size_t slots = 5 * 3 * 16, row_size = width * ds_dtype_size(dtypes[d]);
		char *want = malloc(slots * row_size);

		memcpy(want, c.kv.data, slots * row_size);
		ops->kv_store(b.self, &c.kv, x, width + 4, &c.rows);
		for (uint32_t i = 0; i < 5; i++) {
			size_t slot = c.pages[i][c.positions[i] / 16] * 16 + c.positions[i] % 16;
			void *row = stored(&b, x + i * (width + 4), width, dtypes[d]);

			memcpy(want + slot * row_size, row, row_size);
			ops->release(b.self, row);
		}
		assert_memory_equal(want, c.kv.data, slots * row_size);
		free(want);
		ops->release(b.self, x);
		free_cache(&b, &c);
	}
	end(&b);
}

static void check_rotation(bool halves)
{
	static const uint32_t positions[] = {0, 1, 7, 4000, 100000}, heads = 3, width = 10, stride = 17;
	struct bench b = begin(2);
	struct ds_rows rows = {.n = 5, .positions = positions};
	float *x = values(&b, 5 * heads * stride), *before = values(&b, 5 * heads * stride), *f = values(&b, width / 2);
	struct ds_rope op = {
		.x = x,
		.frequencies = f,
		.rows = &rows,
		.n_heads = heads,
		.width = width,
		.row_stride = heads * stride,
		.head_stride = stride,
		.halves = halves,
	};

	memcpy(before, x, 5 * heads * stride * sizeof(*x));
	ops->rope(b.self, &op);
	for (uint32_t i = 0; i < 5 * heads; i++) {
		const float *was = before + i * stride, *is = x + i * stride;

		for (uint32_t p = 0; p < width / 2; p++) {
			double angle = (float)positions[i / heads] * f[p];
			uint32_t one = halves ? p : 2 * p, other = halves ? p + width / 2 : 2 * p + 1;

			close_to(was[one] * cos(angle) - was[other] * sin(angle), is[one], 2);
			close_to(was[one] * sin(angle) + was[other] * cos(angle), is[other], 2);
		}
		assert_memory_equal(was + width, is + width, (stride - width) * sizeof(*x));
	}
	ops->release(b.self, x);
	ops->release(b.self, before);
	ops->release(b.self, f);
	end(&b);
}

static void a_rotation_turns_pairs_by_their_angle(void **state)
{
	check_rotation(false);
}

static void a_rotation_of_halves_turns_pairs_half_a_head_apart(void **state)
{
	check_rotation(true);
}

static void a_bias_is_added_to_every_row(void **state)
{
	struct bench b = begin(3);
	uint32_t width = 5003, n = 9;
	float *y = values(&b, n * width), *before = values(&b, n * width), *bias = values(&b, width);

	memcpy(before, y, n * width * sizeof(*y));
	ops->add_bias(b.self, y, bias, width, n);
	for (uint32_t i = 0; i < n * width; i++)
		assert_true(y[i] == before[i] + bias[i % width]);
	assert_float_equal(y[n * width], GUARD, 0);
	ops->release(b.self, y);
	ops->release(b.self, before);
	ops->release(b.self, bias);
	end(&b);
}

static void a_norm_divides_by_the_root_of_the_mean_square(void **state)
{
	static const uint32_t widths[] = {1, 5, 16, 31, 1000};
	struct bench b = begin(2);

	for (size_t s = 0; s < DS_ARRAY_SIZE(widths); s++) {
		uint32_t width = widths[s], n = 7;
		float *x = values(&b, n * (width + 3)), *y = values(&b, n * width), *weight = values(&b, width);

		ops->rms_norm(b.self, y, 0, x, width + 3, weight, width, n, 1e-6f);
		for (uint32_t i = 0; i < n; i++) {
			const float *row = x + i * (width + 3);
			double size, root = sqrt(dot(row, row, width, &size) / width + 1e-6f);

			for (uint32_t d = 0; d < width; d++)
				close_to(row[d] / root * weight[d], y[i * width + d], 4);
		}
		assert_float_equal(y[n * width], GUARD, 0);
		ops->rms_norm(b.self, x, width + 3, x, width + 3, weight, width, n, 1e-6f);
		for (uint32_t i = 0; i < n; i++)
			assert_memory_equal(x + i * (width + 3), y + i * width, width * sizeof(*x));
		ops->release(b.self, x);
		ops->release(b.self, y);
		ops->release(b.self, weight);
	}
	end(&b);
}

static void a_gate_is_a_sigmoid_weighted_unit(void **state)
{
	struct bench b = begin(3);
	size_t n = 40007;
	float *gate = values(&b, n), *up = values(&b, n), *y = values(&b, n);

	gate[0] = 300;
	gate[1] = -300;
	gate[2] = 0;
	ops->swiglu(b.self, y, gate, up, n);
	for (size_t i = 0; i < n; i++)
		close_to(gate[i] / (1 + exp(-(double)gate[i])) * up[i], y[i], fabsf(gate[i]));
	assert_float_equal(y[n], GUARD, 0);
	ops->swiglu(b.self, gate, gate, up, n);
	assert_memory_equal(gate, y, n * sizeof(*y));
	ops->release(b.self, gate);
	ops->release(b.self, up);
	ops->release(b.self, y);
	end(&b);
}

static void rows_are_picked_by_token_and_by_index(void **state)
{
	static const uint32_t picks[] = {3, 0, 3, 6};
	struct bench b = begin(2);
	uint32_t width = 45;
	float *plain = values(&b, 7 * width), *y = values(&b, 4 * width);

	for (size_t d = 0; d < DS_ARRAY_SIZE(dtypes); d++) {
		struct ds_weight table = {stored(&b, plain, 7 * width, dtypes[d]), dtypes[d], 0, 1, 7, width};

		memset(y, 0, 4 * width * sizeof(*y));
		ops->embed(b.self, y, &table, picks, 4);
		for (size_t i = 0; i < 4; i++)
			assert_memory_equal(y + i * width, plain + picks[i] * width, width * sizeof(*y));
		ops->release(b.self, (void *)table.data);
	}
	memset(y, 0, 4 * width * sizeof(*y));
	ops->gather(b.self, y, plain, picks, width, 4);
	for (size_t i = 0; i < 4; i++)
		assert_memory_equal(y + i * width, plain + picks[i] * width, width * sizeof(*y));
	assert_float_equal(y[4 * width], GUARD, 0);
	ops->release(b.self, plain);
	ops->release(b.self, y);
	end(&b);
}

static void check_route(struct ds_route op, const uint32_t *ids, const double *weights)
{
	struct bench b = begin(2);
	uint32_t got_ids[8];
	float got[8];

	op.n = 1;
	op.ids = got_ids;
	op.weights = got;
	ops->route(b.self, &op);
	for (uint32_t i = 0; i < op.k; i++) {
		assert_int_equal(got_ids[i], ids[i]);
		close_to(weights[i], got[i], weights[i]);
	}
	end(&b);
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

static void v2_takes_the_best_experts_of_the_best_groups_as_they_are(void **state)
{
	/* Groups of two; the best by their best expert are {2, 3} and {4, 5}. */
	static const float logits[] = {1, 1, 3, -2, 2, 0};
	double sum = exp(1) * 2 + exp(3) + exp(-2) + exp(2) + exp(0);
	struct ds_route op = {
		.logits = logits, .n_experts = 6, .k = 3, .n_groups = 3, .n_groups_used = 2,
		.scoring = DS_SCORING_SOFTMAX, .scale = 16,
	};

	check_route(op, (uint32_t[]){2, 4, 5}, (double[]){16 * exp(3) / sum, 16 * exp(2) / sum, 16 / sum});
	op.n_groups = op.n_groups_used = 1;
	check_route(op, (uint32_t[]){0, 2, 4}, (double[]){16 * exp(1) / sum, 16 * exp(3) / sum, 16 * exp(2) / sum});
	op.normalize = true;
	sum = exp(1) + exp(3) + exp(2);
	check_route(op, (uint32_t[]){0, 2, 4}, (double[]){16 * exp(1) / sum, 16 * exp(3) / sum, 16 * exp(2) / sum});
}

static void v3_chooses_with_the_bias_and_weighs_without_it(void **state)
{
	/* Groups of three by the sum of their two best, biased: {0, 1, 2} has 1.43, {3, 4, 5} 1.60, {6, 7, 8} 1.08. */
	static const float logits[] = {2, 0, 0, 1, 1, -3, 4, -3, -3}, bias[] = {0, 0.05f, 0, 0.07f, 0, 0, 0.05f, 0, 0};
	double a = sigmoid(2), c = sigmoid(1), sum = a + 2 * c;
	struct ds_route op = {
		.logits = logits, .bias = bias, .n_experts = 9, .k = 3, .n_groups = 3, .n_groups_used = 2,
		.scoring = DS_SCORING_SIGMOID, .normalize = true, .scale = 2.5f,
	};

	check_route(op, (uint32_t[]){0, 3, 4}, (double[]){2.5 * a / sum, 2.5 * c / sum, 2.5 * c / sum});
	op.normalize = false;
	check_route(op, (uint32_t[]){0, 3, 4}, (double[]){2.5 * a, 2.5 * c, 2.5 * c});
}

static void a_tie_goes_to_the_lowest_expert(void **state)
{
	static const float logits[8] = {0};
	struct ds_route op = {
		.logits = logits, .n_experts = 8, .k = 3, .n_groups = 4, .n_groups_used = 2,
		.scoring = DS_SCORING_SIGMOID, .normalize = true, .scale = 3,
	};

	check_route(op, (uint32_t[]){0, 1, 2}, (double[]){1, 1, 1});
}

static void scores_that_are_no_numbers_still_choose_experts(void **state)
{
	float logits[8], weights[4];
	uint32_t ids[4];
	struct bench b = begin(1);
	struct ds_route op = {
		.ids = ids, .weights = weights, .logits = logits, .n = 1, .n_experts = 8, .k = 4, .n_groups = 4,
		.n_groups_used = 2, .scale = 1,
	};

	for (size_t i = 0; i < 8; i++)
		logits[i] = NAN;
	for (unsigned scoring = DS_SCORING_SOFTMAX; scoring <= DS_SCORING_SIGMOID; scoring++) {
		op.scoring = scoring;
		ops->route(b.self, &op);
		for (size_t i = 0; i < 4; i++)
			assert_true(ids[i] < 8 && (!i || ids[i] > ids[i - 1]));
	}
	end(&b);
}

static void a_plan_keeps_the_rows_of_the_checkpoint(void **state)
{
	struct ds_tensor_desc t = {"w", DS_DTYPE_BF16, 3, {4, 3, 5, 1}};
	struct ds_layout layout;
	struct ds_error err;
	char src[30], dst[30];

	assert_int_equal(ops->plan(&t, DS_PRECISION_EXACT, &layout, &err), 0);
	assert_int_equal(layout.id, 0);
	assert_int_equal(layout.block_rows, 1);
	assert_int_equal(layout.block_size, 10);
	assert_int_equal(layout.size, 120);
	memset(src, 7, sizeof(src));
	ops->pack(&t, &layout, 3, src, dst);
	assert_memory_equal(src, dst, sizeof(src));
}

static void rows_of_blocks_are_planned_as_they_are(void **state)
{
	struct ds_layout layout;
	struct ds_error err;

	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype < DS_N_DTYPES; dtype++) {
		struct ds_tensor_desc t = {"w", dtype, 3, {2, 3, 768, 1}};

		assert_int_equal(ops->plan(&t, DS_PRECISION_FAST, &layout, &err), 0);
		assert_int_equal(layout.id, 0);
		assert_int_equal(layout.block_rows, 1);
		assert_int_equal(layout.block_size, 768 / ds_dtype_info(dtype)->block * ds_dtype_info(dtype)->size);
		assert_int_equal(layout.size, 6 * layout.block_size);
		t.shape[2] = 700; /* fills no block of quantised types; FP8 pads its last one */
		if (ds_dtype_is_float(dtype) || dtype == DS_DTYPE_FP8) {
			assert_int_equal(ops->plan(&t, DS_PRECISION_FAST, &layout, &err), 0);
		} else {
			assert_int_equal(ops->plan(&t, DS_PRECISION_FAST, &layout, &err), -EINVAL);
			assert_non_null(strstr(err.text, "its rows of 700 do not fill"));
		}
	}
}

/* Every operation once, as a step of decoding or prefill would: @n rows. */
static void step(struct bench *b, struct cache *c, uint32_t n, float *x, float *y, uint32_t *ids)
{
	static float table[64 * 64];
	static const uint32_t zeros[128];
	struct ds_weight one = {table, DS_DTYPE_F32, 0, 1, 32, 32}, four = {table, DS_DTYPE_F32, 0, 4, 32, 32};

	ops->embed(b->self, x, &one, zeros, n);
	ops->rms_norm(b->self, y, 0, x, 0, table, 32, n, 1e-6f);
	ops->matmul(b->self, &(struct ds_matmul){.y = y, .x = x, .w = &one, .n = n});
	ops->head_matmul(b->self, &(struct ds_head_matmul){y, x, &four, n, 128, 32, 128, 32});
	ops->route(b->self, &(struct ds_route){.ids = ids, .weights = y, .logits = x, .n = n, .n_experts = 4, .k = 2});
	ops->expert_matmul(b->self, &(struct ds_expert_matmul){y, x, &four, ids, n, 2, true});
	ops->expert_sum(b->self, y, x, table, 32, n, 2);
	ops->rope(b->self, &(struct ds_rope){x, table, &c->rows, 1, 32, 32, 32});
	ops->kv_store(b->self, &c->kv, x, 0, &c->rows);
	ops->latent_attention(b->self, &(struct ds_latent_attention){y, x, x, 32, 32, &c->kv, &c->rows, 1, 24, 8, 1});
	ops->attention(b->self, &(struct ds_attention){y, x, &c->kv, &c->kv, &c->rows, 4, 2, 16, 1});
	ops->add_bias(b->self, y, table, 32, n);
	ops->swiglu(b->self, y, x, x, n * 32);
	ops->gather(b->self, y, x, zeros, 32, n);
	assert_int_equal(ops->sync(b->self, NULL), 0);
}

static void steps_ask_for_no_memory(void **state)
{
	struct bench b = begin(2);
	struct cache c = new_cache(&b, DS_DTYPE_F32, 128, 20, 16, 32);
	float *x = values(&b, 128 * 128), *y = values(&b, 128 * 128);
	uint32_t *ids = ops->alloc(b.self, 256 * sizeof(*ids));

	n_allocations = 0;
	for (uint32_t n = 1; n <= 128; n *= 2) {
		c.rows.n = n;
		step(&b, &c, n, x, y, ids);
	}
	assert_int_equal(n_allocations, 0);
	ops->release(b.self, x);
	ops->release(b.self, y);
	ops->release(b.self, ids);
	free_cache(&b, &c);
	end(&b);
}

static void more_pairs_than_ever_find_room(void **state)
{
	struct bench b = begin(1);
	uint32_t n = 2 * DS_PAIRS;
	float *x = values(&b, n), *y = values(&b, n), one = 1;
	uint32_t *ids = ops->alloc(b.self, n * sizeof(*ids));
	struct ds_weight w = {&one, DS_DTYPE_F32, 0, 1, 1, 1};

	ops->expert_matmul(b.self, &(struct ds_expert_matmul){y, x, &w, ids, n, 1, true});
	for (uint32_t i = 0; i <= n; i++)
		assert_true(x[i] == y[i]);
	ops->release(b.self, x);
	ops->release(b.self, y);
	ops->release(b.self, ids);
	end(&b);
}

static void the_instruction_set_can_be_asked_for(void **state)
{
	struct ds_error err;
	void *self;
	char asked[32], name[64];

	snprintf(asked, sizeof(asked), "%s", getenv("DEEPSEEKD_CPU"));
	snprintf(name, sizeof(name), "cpu-2-%s", asked);
	assert_string_equal(ops->identity(), name);
	setenv("DEEPSEEKD_CPU", "avx1024", 1);
	assert_int_equal(ops->open(&self, NULL, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "DEEPSEEKD_CPU=avx1024"));
	setenv("DEEPSEEKD_CPU", asked, 1);
}

static void a_backend_starts_once(void **state)
{
	struct bench b = begin(1);
	struct ds_error err;

	assert_int_equal(ops->start(b.self, 1, &err), -EALREADY);
	end(&b);
	assert_int_equal(ops->open(&b.self, NULL, NULL, &err), 0);
	assert_int_equal(ops->start(b.self, 1000000, &err), -EINVAL);
	assert_int_equal(ops->start(b.self, 0, &err), 0);
	end(&b);
}

static void a_tensor_beyond_memory_is_refused(void **state)
{
	struct ds_tensor_desc t = {"w", DS_DTYPE_F32, 2, {UINT64_MAX / 2, 3, 1, 1}};
	struct ds_layout layout;
	struct ds_error err;

	assert_int_equal(ops->plan(&t, DS_PRECISION_EXACT, &layout, &err), -EOVERFLOW);
	assert_non_null(strstr(err.text, "w is larger"));
	t.n_dims = 5;
	assert_int_equal(ops->plan(&t, DS_PRECISION_EXACT, &layout, &err), -EINVAL);
	t.n_dims = 1;
	assert_int_equal(ops->plan(&t, DS_PRECISION_EXACT, &layout, &err), -EOVERFLOW);
	t.n_dims = 2;
	t.dtype = DS_N_DTYPES;
	assert_int_equal(ops->plan(&t, DS_PRECISION_EXACT, &layout, &err), -EINVAL);
}

static void memory_is_zeroed_and_copied_both_ways(void **state)
{
	struct bench b = begin(1);
	char *p = ops->alloc(b.self, 100), there[5] = "word", back[5];

	for (size_t i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	ops->write(b.self, p + 90, there, 5);
	ops->read(b.self, back, p + 90, 5);
	assert_string_equal(back, "word");
	assert_null(ops->alloc(b.self, UINT64_MAX - 3));
	ops->release(b.self, p);
	ops->release(b.self, NULL);
	assert_int_equal(ops->map(b.self, there, 5, NULL), 0);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_matmul_of_any_shape_is_right),
		cmocka_unit_test(every_head_meets_its_own_matrix),
		cmocka_unit_test(every_pair_meets_the_expert_it_chose),
		cmocka_unit_test(quantised_weights_do_in_every_operation),
		cmocka_unit_test(matrices_may_lie_in_different_places),
		cmocka_unit_test(a_sum_of_experts_is_weighted),
		cmocka_unit_test(attention_sees_each_position_up_to_its_own),
		cmocka_unit_test(heads_share_keys_and_values_in_groups),
		cmocka_unit_test(equal_keys_give_the_mean_to_the_last_bit),
		cmocka_unit_test(what_is_stored_lies_at_its_position),
		cmocka_unit_test(a_rotation_turns_pairs_by_their_angle),
		cmocka_unit_test(a_rotation_of_halves_turns_pairs_half_a_head_apart),
		cmocka_unit_test(a_bias_is_added_to_every_row),
		cmocka_unit_test(a_norm_divides_by_the_root_of_the_mean_square),
		cmocka_unit_test(a_gate_is_a_sigmoid_weighted_unit),
		cmocka_unit_test(rows_are_picked_by_token_and_by_index),
		cmocka_unit_test(v2_takes_the_best_experts_of_the_best_groups_as_they_are),
		cmocka_unit_test(v3_chooses_with_the_bias_and_weighs_without_it),
		cmocka_unit_test(a_tie_goes_to_the_lowest_expert),
		cmocka_unit_test(scores_that_are_no_numbers_still_choose_experts),
		cmocka_unit_test(a_plan_keeps_the_rows_of_the_checkpoint),
		cmocka_unit_test(rows_of_blocks_are_planned_as_they_are),
		cmocka_unit_test(steps_ask_for_no_memory),
		cmocka_unit_test(more_pairs_than_ever_find_room),
		cmocka_unit_test(the_instruction_set_can_be_asked_for),
		cmocka_unit_test(a_backend_starts_once),
		cmocka_unit_test(a_tensor_beyond_memory_is_refused),
		cmocka_unit_test(memory_is_zeroed_and_copied_both_ways),
	};

	int failed = 0;

	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		if (!ds_isa_has(isa))
			continue;
		print_message("[ %s ]\n", ds_isa_name(isa));
		setenv("DEEPSEEKD_CPU", ds_isa_name(isa), 1);
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}

/* test-backend-cpu.c - the CPU backend: products with weights of every type against the plainest code in double precision;
 * its plan, its memory and its threads. */
#include "backend-cpu.h"
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
	ops->matmul(b->self, &op, 1);
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
	ops->expert_matmul(b->self, &op, 1);
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
		check_experts(&b, DS_DTYPE_BF16, DS_GEMM_BATCH + 50, 2, 2, true);
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
	ops->matmul(b->self, &(struct ds_matmul){.y = y, .x = x, .w = &first, .n = n}, 1);
	for (size_t i = 0; i < n * ROWS; i++) {
		want = dot(plain + i % ROWS * cols, x + i / ROWS * cols, cols, &size);
		close_to(want, y[i], size);
	}
	ops->head_matmul(b->self, &(struct ds_head_matmul){y, x, &w, n, x_row, x_head, EXPERTS * ROWS, ROWS});
	for (size_t i = 0; i < n * EXPERTS * ROWS; i++) {
		want = dot(plain + i % (EXPERTS * ROWS) * cols, x + i / ROWS * cols, cols, &size);
		close_to(want, y[i], size);
	}
	ops->expert_matmul(b->self, &(struct ds_expert_matmul){y, x, &w, ids, n, 1, true}, 1);
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
	ops->expert_matmul(b.self, &(struct ds_expert_matmul){want, x, &together, ids, N, 1, true}, 1);
	ops->expert_matmul(b.self, &(struct ds_expert_matmul){y, x, &apart, ids, N, 1, true}, 1);
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
	ops->matmul(b->self, &(struct ds_matmul){.y = y, .x = x, .w = &one, .n = n}, 1);
	ops->head_matmul(b->self, &(struct ds_head_matmul){y, x, &four, n, 128, 32, 128, 32});
	ops->route(b->self, &(struct ds_route){.ids = ids, .weights = y, .logits = x, .n = n, .n_experts = 4, .k = 2});
	ops->expert_matmul(b->self, &(struct ds_expert_matmul){y, x, &four, ids, n, 2, true}, 1);
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

	ops->expert_matmul(b.self, &(struct ds_expert_matmul){y, x, &w, ids, n, 1, true}, 1);
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
	snprintf(name, sizeof(name), "cpu-3-%s", asked);
	assert_string_equal(ops->identity(), name);
	setenv("DEEPSEEKD_CPU", "avx1024", 1);
	assert_int_equal(ops->open(&self, NULL, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "DEEPSEEKD_CPU=avx1024: this CPU has portable"));
	assert_non_null(strstr(err.text, ds_isa_name(ds_isa_detect())));
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

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_matmul_of_any_shape_is_right),
		cmocka_unit_test(every_head_meets_its_own_matrix),
		cmocka_unit_test(every_pair_meets_the_expert_it_chose),
		cmocka_unit_test(quantised_weights_do_in_every_operation),
		cmocka_unit_test(matrices_may_lie_in_different_places),
		cmocka_unit_test(a_sum_of_experts_is_weighted),
		cmocka_unit_test(a_plan_keeps_the_rows_of_the_checkpoint),
		cmocka_unit_test(rows_of_blocks_are_planned_as_they_are),
		cmocka_unit_test(steps_ask_for_no_memory),
		cmocka_unit_test(more_pairs_than_ever_find_room),
		cmocka_unit_test(the_instruction_set_can_be_asked_for),
		cmocka_unit_test(a_backend_starts_once),
		cmocka_unit_test(a_tensor_beyond_memory_is_refused),
		cmocka_unit_test(memory_is_zeroed_and_copied_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_each(run);
}

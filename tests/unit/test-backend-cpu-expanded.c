/* test-backend-cpu-expanded.c - latent attention with keys and values made for every head, against the definition in double
 * precision, on every instruction set this CPU has: those that cannot say so and do nothing. */
#include "backend-cpu.h"
#include "random-blocks.h"

enum { HEADS = 5, LORA = 256, NOPE = 64, ROPE = 6, V_HEAD = 64, WIDTH = LORA + ROPE };

/* A weight of fast precision and its values. */
struct half {
	struct ds_weight w;
	float *plain; /* (HEADS, rows, cols) */
	void *packed;
};

static struct half make_half(struct bench *b, enum ds_dtype dtype, size_t rows, size_t cols)
{
	struct ds_tensor_desc desc = {"w", dtype, 3, {HEADS, rows, cols, 1}};
	struct half h = {.plain = values(b, HEADS * rows * cols)};
	size_t a_row = ds_row_size(dtype, cols), n = HEADS * rows;
	uint8_t *stored_rows = ops->alloc(b->self, n * a_row + 1);
	struct ds_layout layout;

	for (size_t t = 0; t < DS_ARRAY_SIZE(block_types); t++)
		for (size_t i = 0; block_types[t].dtype == dtype && i < n * a_row; i += ds_dtype_info(dtype)->size)
			fill_block(stored_rows + i, &block_types[t], false, &b->seed);
	for (size_t i = 0; ds_dtype_is_float(dtype) && i < n * cols; i++)
		h.plain[i] = draw_short(b) / 4;
	if (ds_dtype_is_float(dtype)) {
		ops->release(b->self, stored_rows);
		stored_rows = stored(b, h.plain, n * cols, dtype);
	}
	for (size_t r = 0; !ds_dtype_is_float(dtype) && r < n; r++)
		ds_dequantize_row(h.plain + r * cols, stored_rows + r * a_row, dtype, cols);
	assert_int_equal(ops->plan(&desc, DS_PRECISION_FAST, &layout, NULL), 0);
	h.packed = ops->alloc(b->self, layout.size);
	for (size_t r = 0; layout.id && r < n; r += layout.block_rows)
		ops->pack(&desc, &layout, n - r < layout.block_rows ? n - r : layout.block_rows, stored_rows + r * a_row,
			  (char *)h.packed + r / layout.block_rows * layout.block_size);
	if (!layout.id)
		memcpy(h.packed, stored_rows, n * a_row);
	h.w = (struct ds_weight){.data = h.packed,
				 .dtype = dtype,
				 .layout = layout.id,
				 .n_experts = HEADS,
				 .rows = rows,
				 .cols = cols,
				 .fast = true};
	ops->release(b->self, stored_rows);
	return h;
}

static void drop_half(struct bench *b, struct half *h)
{
	ops->release(b->self, h->plain);
	ops->release(b->self, h->packed);
}

/* Key and value of head @h of a position's latent. */
static void expand(const struct half *k_b, const struct half *v_b, size_t h, const float *latent, double *key, double *value)
{
	memset(key, 0, NOPE * sizeof(*key));
	for (size_t r = 0; r < LORA; r++)
		for (size_t d = 0; d < NOPE; d++)
			key[d] += (double)k_b->plain[(h * LORA + r) * NOPE + d] * latent[r];
	for (size_t d = 0; d < ROPE; d++)
		key[NOPE + d] = latent[LORA + d];
	for (size_t d = 0; d < V_HEAD; d++) {
		value[d] = 0;
		for (size_t r = 0; r < LORA; r++)
			value[d] += (double)v_b->plain[(h * V_HEAD + d) * LORA + r] * latent[r];
	}
}

/* What a row's head should be, into @want. */
static void define(const float *q, const double *keys, const double *values_of, size_t n_seen, float scale, double *want)
{
	double *p = calloc(n_seen, sizeof(*p)), top = -INFINITY, sum = 0;

	for (size_t t = 0; t < n_seen; t++) {
		for (size_t d = 0; d < NOPE + ROPE; d++)
			p[t] += scale * q[d] * keys[t * (NOPE + ROPE) + d];
		top = p[t] > top ? p[t] : top;
	}
	for (size_t t = 0; t < n_seen; t++)
		sum += p[t] = exp(p[t] - top);
	memset(want, 0, V_HEAD * sizeof(*want));
	for (size_t t = 0; t < n_seen; t++)
		for (size_t d = 0; d < V_HEAD; d++)
			want[d] += p[t] / sum * values_of[t * V_HEAD + d];
	free(p);
}

/* @n rows that end at position @context - 1. */
static void check(struct bench *b, enum ds_dtype k_type, enum ds_dtype v_type, enum ds_dtype kv_type, uint32_t n,
		  uint32_t context, uint32_t page_tokens)
{
	const struct ds_cpu *cpu = b->self;
	struct cache c = new_cache(b, kv_type, 1, context, page_tokens, WIDTH);
	struct half k_b = make_half(b, k_type, LORA, NOPE), v_b = make_half(b, v_type, V_HEAD, LORA);
	float *q = values(b, n * HEADS * (NOPE + ROPE)), *y = values(b, n * HEADS * V_HEAD);
	uint32_t *positions = calloc(n, sizeof(*positions));
	const uint32_t **pages = calloc(n, sizeof(*pages));
	struct ds_rows rows = {.n = n, .positions = positions, .pages = pages};
	double *keys = calloc(context, (NOPE + ROPE) * sizeof(*keys)), *vals = calloc(context, V_HEAD * sizeof(*vals));
	double wrong = 0, energy = 0, want[V_HEAD];
	bool done;

	for (uint32_t i = 0; i < n; i++) {
		positions[i] = context - n + i;
		pages[i] = c.pages[0];
	}
	done = ops->expanded_attention(b->self, &(struct ds_expanded_attention){y, q, &k_b.w, &v_b.w, &c.kv, &rows, ROPE, 0.02f});
	assert_int_equal(done, cpu->kernels.tiles.product[DS_TILE_BF16] != NULL);
	for (size_t h = 0; done && h < HEADS; h++) {
		for (uint32_t t = 0; t < context; t++)
			expand(&k_b, &v_b, h, cached(&c, 0, t), keys + t * (NOPE + ROPE), vals + t * V_HEAD);
		for (uint32_t i = 0; i < n; i++) {
			define(q + (i * HEADS + h) * (NOPE + ROPE), keys, vals, positions[i] + 1, 0.02f, want);
			for (size_t d = 0; d < V_HEAD; d++) {
				double got = y[(i * HEADS + h) * V_HEAD + d];

				wrong += (got - want[d]) * (got - want[d]);
				energy += want[d] * want[d];
			}
		}
	}
	assert_float_equal(y[n * HEADS * V_HEAD], GUARD, 0);
	/* Values lose about half a percent to 8 bits and BF16, weights of the softmax more where scores are large. */
	if (!(wrong <= 5e-4 * energy))
		fail_msg("%s and %s, cache of %s, %u rows of %u: off by %.3g of %.3g", ds_dtype_info(k_type)->name,
			 ds_dtype_info(v_type)->name, ds_dtype_info(kv_type)->name, n, context, wrong, energy);
	free(positions);
	free(pages);
	free(keys);
	free(vals);
	ops->release(b->self, q);
	ops->release(b->self, y);
	drop_half(b, &k_b);
	drop_half(b, &v_b);
	free_cache(b, &c);
}

/* One block of positions and many, pieces of them and pages that end anywhere, and weights of each way to turn; texts so long
 * that not all heads fit, nor in the end the codes. */
static void keys_and_values_of_heads_give_the_same_attention(void **state)
{
	static const enum ds_dtype k_types[] = {DS_DTYPE_BF16, DS_DTYPE_Q8_0, DS_DTYPE_Q5_1, DS_DTYPE_F32};
	static const enum ds_dtype v_types[] = {DS_DTYPE_Q8_0, DS_DTYPE_Q4_K, DS_DTYPE_BF16};
	static const uint32_t contexts[][2] = {{1, 1}, {40, 40}, {70, 128}, {60, 129}, {200, 300}, {70, 450}, {70, 900}, {600, 2200}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(contexts); i++)
		for (size_t k = 0; k < DS_ARRAY_SIZE(k_types); k++) {
			struct bench b = begin(1 + (unsigned)(i + k) % 3);

			check(&b, k_types[k], v_types[(i + k) % DS_ARRAY_SIZE(v_types)], dtypes[(i + k) % 3], contexts[i][0],
			      contexts[i][1], i % 2 ? 16 : 100);
			end(&b);
		}
}

/* Weights of exact precision, and rows so few that the absorbed form takes less memory. */
static void what_does_not_suit_is_left_alone(void **state)
{
	struct bench b = begin(1);
	struct half k_b = make_half(&b, DS_DTYPE_BF16, LORA, NOPE), v_b = make_half(&b, DS_DTYPE_Q8_0, V_HEAD, LORA);
	struct cache c = new_cache(&b, DS_DTYPE_F32, 1, 300, 4, WIDTH);
	float *q = values(&b, HEADS * (NOPE + ROPE)), *y = values(&b, HEADS * V_HEAD), first = y[0];

	for (unsigned fast = 0; fast < 2; fast++) {
		k_b.w.fast = v_b.w.fast = fast;
		assert_false(ops->expanded_attention(
			b.self, &(struct ds_expanded_attention){y, q, &k_b.w, &v_b.w, &c.kv, &c.rows, ROPE, 1}));
	}
	assert_float_equal(y[0], first, 0);
	ops->release(b.self, q);
	ops->release(b.self, y);
	drop_half(&b, &k_b);
	drop_half(&b, &v_b);
	free_cache(&b, &c);
	end(&b);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_and_values_of_heads_give_the_same_attention),
		cmocka_unit_test(what_does_not_suit_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_each(run);
}

/* test-backend-cpu-rows.c - the operations of the CPU backend that read no weights, or one row of them: attention, rotations,
 * norms, gates and the choice of experts, against the plainest code in double precision. */
#include "backend-cpu.h"

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

static void check_rotation(struct bench *b, const uint32_t *positions, const float *f, uint32_t width, bool halves)
{
	enum { N = 5, HEADS = 3, STRIDE = 17 };
	struct ds_rows rows = {.n = N, .positions = positions};
	float *x = values(b, N * HEADS * STRIDE), *before = values(b, N * HEADS * STRIDE);
	struct ds_rope op = {
		.x = x,
		.frequencies = f,
		.rows = &rows,
		.n_heads = HEADS,
		.width = width,
		.row_stride = HEADS * STRIDE,
		.head_stride = STRIDE,
		.halves = halves,
	};

	memcpy(before, x, N * HEADS * STRIDE * sizeof(*x));
	ops->rope(b->self, &op);
	for (uint32_t i = 0; i < N * HEADS; i++) {
		const float *was = before + i * STRIDE, *is = x + i * STRIDE;

		for (uint32_t p = 0; p < width / 2; p++) {
			double angle = (float)positions[i / HEADS] * f[p];
			uint32_t one = halves ? p : 2 * p, other = halves ? p + width / 2 : 2 * p + 1;

			close_to(was[one] * cos(angle) - was[other] * sin(angle), is[one], 2);
			close_to(was[one] * sin(angle) + was[other] * cos(angle), is[other], 2);
		}
		assert_memory_equal(was + width, is + width, (STRIDE - width) * sizeof(*x));
	}
	ops->release(b->self, x);
	ops->release(b->self, before);
}

/* Turns are kept from one operation to the next: as long as they are of the same. */
static void a_rotation_turns_pairs_by_their_angle(void **state)
{
	static const uint32_t positions[] = {0, 1, 7, 4000, 100000}, others[] = {0, 2, 7, 4001, 3};
	struct bench b = begin(2);
	float *f = values(&b, 5);

	for (unsigned halves = 0; halves < 2; halves++)
		for (uint32_t width = 10; width >= 6; width -= 4) {
			check_rotation(&b, positions, f, width, halves);
			check_rotation(&b, positions, f, width, halves);
			check_rotation(&b, others, f, width, halves);
			f[1] += 0.25f;
			check_rotation(&b, others, f, width, halves);
		}
	ops->release(b.self, f);
	end(&b);
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

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_sees_each_position_up_to_its_own),
		cmocka_unit_test(heads_share_keys_and_values_in_groups),
		cmocka_unit_test(equal_keys_give_the_mean_to_the_last_bit),
		cmocka_unit_test(what_is_stored_lies_at_its_position),
		cmocka_unit_test(a_rotation_turns_pairs_by_their_angle),
		cmocka_unit_test(a_bias_is_added_to_every_row),
		cmocka_unit_test(a_norm_divides_by_the_root_of_the_mean_square),
		cmocka_unit_test(a_gate_is_a_sigmoid_weighted_unit),
		cmocka_unit_test(rows_are_picked_by_token_and_by_index),
		cmocka_unit_test(v2_takes_the_best_experts_of_the_best_groups_as_they_are),
		cmocka_unit_test(v3_chooses_with_the_bias_and_weighs_without_it),
		cmocka_unit_test(a_tie_goes_to_the_lowest_expert),
		cmocka_unit_test(scores_that_are_no_numbers_still_choose_experts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_each(run);
}

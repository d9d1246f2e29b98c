/* test-mla.c - which rows of a step attend in expanded form, and that all results land in their rows. */
#include "arch/arch.h"
#include "engine-image.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PROMPT = 40, N = 1 + PROMPT + 1 + PROMPT + 2, PAGE = 16, TABLE = 4, SEQUENCES = 5, VOCAB = 260 };

/* What the backend was asked to expand. */
static struct {
	bool willing;
	unsigned n;
	uint32_t n_rows[8], last_position[8];
} asked;

/* Expanded attention by the absorbed operations, with memory of its own. */
static bool expand(void *self, const struct ds_expanded_attention *op)
{
	static float q[N * 2 * 16], z[N * 2 * 16];
	uint32_t h = (uint32_t)op->k_b->n_experts, r = (uint32_t)op->k_b->rows, head = (uint32_t)op->k_b->cols + op->qk_rope;
	uint32_t v_head = (uint32_t)op->v_b->rows, n = op->rows->n;

	asked.n_rows[asked.n] = n;
	asked.last_position[asked.n++] = op->rows->positions[n - 1];
	if (!asked.willing)
		return false;
	ds_cpu_ops.head_matmul(self, &(struct ds_head_matmul){q, op->q, op->k_b, n, h * head, head, h * r, r});
	ds_cpu_ops.latent_attention(self, &(struct ds_latent_attention){.z = z,
									.q = q,
									.q_rope = op->q + op->k_b->cols,
									.q_rope_row_stride = h * head,
									.q_rope_head_stride = head,
									.kv = op->kv,
									.rows = op->rows,
									.n_heads = h,
									.kv_lora = r,
									.qk_rope = op->qk_rope,
									.scale = op->scale});
	ds_cpu_ops.head_matmul(self, &(struct ds_head_matmul){op->y, z, op->v_b, n, h * r, r, h * v_head, v_head});
	return true;
}

/* The logits of all rows of a step with a row of one sequence, a prompt of another, a row, a prompt, and two rows. */
static void compute(bool willing, float *logits)
{
	static const uint32_t lengths[SEQUENCES] = {1, PROMPT, 1, PROMPT, 2};
	uint32_t tables[SEQUENCES][TABLE], tokens[N], positions[N], indices[N], row = 0;
	const uint32_t *pages[N];
	struct ds_backend_ops ops = ds_cpu_ops;
	int fd = image_new_of(image_hparams());
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct ds_arch_setup setup = {.ops = &ops, .precision = DS_PRECISION_EXACT, .kv_dtype = DS_DTYPE_F32,
				      .n_pages = SEQUENCES * TABLE, .page_tokens = PAGE, .max_rows = N, .max_logits = N};
	const struct ds_arch *arch;
	struct ds_error err;
	void *model;

	for (uint32_t s = 0; s < SEQUENCES; s++) {
		for (uint32_t i = 0; i < TABLE; i++)
			tables[s][i] = i * SEQUENCES + s;
		for (uint32_t i = 0; i < lengths[s]; i++, row++) {
			tokens[row] = row * 37 % VOCAB;
			positions[row] = i;
			pages[row] = tables[s];
			indices[row] = row;
		}
	}
	asked.willing = willing;
	asked.n = 0;
	ops.expanded_attention = expand;
	assert_int_equal(ds_image_open(&image, fd, false, &err), 0);
	setup.image = image;
	arch = ds_arch_find(ds_image_hparams(image), &err);
	assert_non_null(arch);
	assert_int_equal(ops.open(&setup.backend, NULL, NULL, &err), 0);
	assert_int_equal(ops.start(setup.backend, 2, &err), 0);
	assert_int_equal(arch->open(&model, &setup, &err), 0);
	arch->forward(model, &(struct ds_rows){N, tokens, positions, pages});
	assert_int_equal(arch->logits(model, indices, N, logits, &err), 0);
	arch->close(model);
	ops.close(setup.backend);
	close(fd);
}

static void prompts_are_expanded_and_the_rest_is_absorbed(void **state)
{
	static float absorbed[N * VOCAB], mixed[N * VOCAB];

	compute(false, absorbed);
	assert_int_equal(asked.n, 4); /* both prompts in both layers, in vain */
	compute(true, mixed);
	assert_int_equal(asked.n, 4);
	for (unsigned i = 0; i < asked.n; i++) {
		assert_int_equal(asked.n_rows[i], PROMPT);
		assert_int_equal(asked.last_position[i], PROMPT - 1);
	}
	for (size_t i = 0; i < N * VOCAB; i++)
		if (!(fabsf(absorbed[i] - mixed[i]) <= 1e-4f))
			fail_msg("row %zu: %.7g absorbed, %.7g expanded", i / VOCAB, absorbed[i], mixed[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prompts_are_expanded_and_the_rest_is_absorbed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* experts.c - the mixture of experts.
 *
 * Pairs (row, chosen expert) are sorted by expert, so that a call reads the weights of an expert once, however many
 * rows chose it. */
#include "cpu.h"

#include <string.h>

enum { QUANTIZE_COLS = 8192 }; /* of activations, in experts: what waking another member has to be worth */

struct expert_job {
	const struct ds_cpu *cpu;
	const struct ds_expert_matmul *op;
	const uint32_t *pairs;	/* all pairs, those of one expert together, in the order they came */
	const uint32_t *first;	/* [n_experts + 1]: where the pairs of an expert begin */
	const uint32_t *active; /* experts that have pairs */
	size_t chunk, n_chunks; /* rows of a chunk, chunks of an expert */
	void *codes;		/* of all pairs in that order, if the product goes by tiles */
};

/* The rows that chose @expert, and its matrix. */
static struct ds_product product_of(const struct expert_job *job, uint32_t expert)
{
	const struct ds_expert_matmul *op = job->op;
	struct ds_product p = {
		.y = op->y,
		.x = op->x,
		.y_stride = op->w->rows,
		.x_stride = op->w->cols,
		.w = ds_weight_matrix(op->w, expert),
		.dtype = op->w->dtype,
		.layout = op->w->layout,
		.cols = op->w->cols,
		.pairs = job->pairs + job->first[expert],
		.divisor = op->shared_input ? op->k : 1,
		.n = job->first[expert + 1] - job->first[expert],
	};

	if (job->codes)
		p.codes = (char *)job->codes + job->first[expert] * ds_codes_size(p.cols);
	return p;
}

/* Piece i is chunk i % n_chunks of the expert active[i / n_chunks]. */
static void expert_pieces(void *arg, size_t begin, size_t end, unsigned member)
{
	const struct expert_job *job = arg;
	const struct ds_expert_matmul *op = job->op;

	for (size_t i = begin; i < end; i++) {
		uint32_t expert = job->active[i / job->n_chunks];
		size_t row = i % job->n_chunks * job->chunk;
		struct ds_product p = product_of(job, expert);

		ds_product_rows(job->cpu, &p, row, row + job->chunk < op->w->rows ? row + job->chunk : op->w->rows,
				member);
	}
}

/* Piece i is the activations of the expert active[i]. */
static void quantize_pieces(void *arg, size_t begin, size_t end, unsigned member)
{
	const struct expert_job *job = arg;

	for (size_t i = begin; i < end; i++) {
		struct ds_product p = product_of(job, job->active[i]);

		ds_tiles_quantize(job->cpu, &p, 0, ds_tiles_count(job->cpu, p.n));
	}
}

/* Room for @n numbers; false and a failure for sync() when there is no memory. */
static bool reserve(struct ds_cpu *cpu, size_t n)
{
	uint32_t *pairs;

	if (n <= cpu->n_pairs)
		return true;
	pairs = realloc(cpu->pairs, n * sizeof(*pairs));
	if (!pairs) {
		cpu->failed = -ENOMEM;
		return false;
	}
	cpu->pairs = pairs;
	cpu->n_pairs = n;
	return true;
}

/* A counting sort of the pairs' numbers by expert. Returns how many experts have any. */
static size_t sort_pairs(const uint32_t *ids, size_t n, size_t n_experts, uint32_t *pairs, uint32_t *first,
			 uint32_t *active)
{
	size_t n_active = 0;

	memset(first, 0, (n_experts + 1) * sizeof(*first));
	for (size_t i = 0; i < n; i++)
		first[ids[i] + 1]++;
	for (size_t e = 0; e < n_experts; e++) {
		if (first[e + 1])
			active[n_active++] = (uint32_t)e;
		first[e + 1] += first[e];
	}
	/* first[e] runs to the end of e's pairs, which is where those of e + 1 begin: put back by one place after. */
	for (size_t i = 0; i < n; i++)
		pairs[first[ids[i]]++] = (uint32_t)i;
	memmove(first + 1, first, n_experts * sizeof(*first));
	first[0] = 0;
	return n_active;
}

void ds_cpu_expert_matmul(void *self, const struct ds_expert_matmul *op)
{
	struct ds_cpu *cpu = self;
	size_t n = (size_t)op->n * op->k, n_experts = op->w->n_experts, n_active;
	struct expert_job job = {.cpu = cpu, .op = op};

	if (!n || !reserve(cpu, n + 2 * n_experts + 1))
		return;
	n_active = sort_pairs(op->ids, n, n_experts, cpu->pairs, cpu->pairs + n, cpu->pairs + n + n_experts + 1);
	job.pairs = cpu->pairs;
	job.first = cpu->pairs + n;
	job.active = cpu->pairs + n + n_experts + 1;
	job.chunk = ds_product_chunk(cpu, op->w, n_active, (uint32_t)(n / n_active));
	job.n_chunks = (op->w->rows + job.chunk - 1) / job.chunk;
	if (ds_tiles_take(cpu, op->w, n / n_active)) {
		if (!ds_cpu_reserve_codes(cpu, n, op->w->cols))
			return;
		job.codes = cpu->codes;
		ds_team_run(cpu->team, n_active, QUANTIZE_COLS / op->w->cols + 1, quantize_pieces, &job);
	}
	ds_team_run(cpu->team, n_active * job.n_chunks, 1, expert_pieces, &job);
}

struct sum_job {
	const struct ds_cpu *cpu;
	float *y;
	const float *x, *weights;
	size_t width, k;
};

static void sum_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct sum_job *job = arg;

	for (size_t r = first; r < last; r++)
		for (size_t i = r * job->k; i < (r + 1) * job->k; i++)
			job->cpu->kernels.add_scaled(job->y + r * job->width, job->x + i * job->width, job->weights[i],
						     job->width);
}

void ds_cpu_expert_sum(void *self, float *y, const float *x, const float *weights, uint32_t width, uint32_t n,
		       uint32_t k)
{
	struct ds_cpu *cpu = self;
	struct sum_job job = {.cpu = cpu, .y = y, .x = x, .weights = weights, .width = width, .k = k};

	ds_team_run(cpu->team, n, 1, sum_rows, &job);
}

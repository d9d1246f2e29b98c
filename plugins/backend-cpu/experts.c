/* experts.c - the mixture of experts.
 *
 * Pairs (row, chosen expert) are sorted by expert, so that a call reads the weights of an expert once, however many
 * rows chose it. */
#include "cpu.h"

#include <string.h>

enum { QUANTIZE_COLS = 8192 }; /* of activations, in experts: what waking another member has to be worth */

/* One product of the call, with the matrices of all experts. */
struct stack {
	const struct ds_expert_matmul *op;
	size_t chunk, n_chunks; /* rows of a chunk, chunks of an expert */
	bool tiles;		/* Does the product go by tiles? */
	bool shares;		/* Are the codes those of the stack before? */
	void *codes;		/* of all pairs, those of one expert together */
};

struct expert_job {
	const struct ds_cpu *cpu;
	struct stack stacks[DS_MATMULS];
	unsigned n_stacks;
	size_t n_chunks; /* of an expert, of all stacks */
	const uint32_t *pairs;	/* all pairs, those of one expert together, in the order they came */
	const uint32_t *first;	/* [n_experts + 1]: where the pairs of an expert begin */
	const uint32_t *active; /* experts that have pairs */
};

/* The rows that chose @expert, and its matrix. */
static struct ds_product product_of(const struct expert_job *job, const struct stack *stack, uint32_t expert)
{
	const struct ds_expert_matmul *op = stack->op;
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

	if (stack->codes)
		p.codes = (char *)stack->codes + job->first[expert] * ds_codes_size(p.cols);
	return p;
}

/* Pieces are the chunks of every active expert, of all stacks: an expert's activations are still in the cache. */
static void expert_pieces(void *arg, size_t begin, size_t end, unsigned member)
{
	const struct expert_job *job = arg;

	for (size_t piece = begin; piece < end; piece++) {
		const struct stack *stack = job->stacks;
		size_t i = piece % job->n_chunks, row, rows;
		struct ds_product p;

		for (; i >= stack->n_chunks; stack++)
			i -= stack->n_chunks;
		p = product_of(job, stack, job->active[piece / job->n_chunks]);
		row = i * stack->chunk;
		rows = stack->op->w->rows;
		ds_product_rows(job->cpu, &p, row, row + stack->chunk < rows ? row + stack->chunk : rows, member);
	}
}

/* Piece i is the activations of the expert active[i]. */
static void quantize_pieces(void *arg, size_t begin, size_t end, unsigned member)
{
	const struct expert_job *job = arg;

	for (size_t i = begin; i < end; i++)
		for (unsigned s = 0; s < job->n_stacks; s++) {
			const struct stack *stack = &job->stacks[s];
			struct ds_product p = product_of(job, stack, job->active[i]);

			if (stack->tiles && !stack->shares)
				ds_tiles_quantize(job->cpu, &p, 0, ds_tiles_count(job->cpu, &p));
		}
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

/* May @b have the codes of @a? Their experts have as many rows each; some may be few and some many. */
static bool share_codes(const struct expert_job *job, const struct stack *a, const struct stack *b, size_t n_active)
{
	for (size_t i = 0; i < n_active; i++) {
		struct ds_product one = product_of(job, a, job->active[i]), other = product_of(job, b, job->active[i]);

		if (!ds_tiles_share(job->cpu, &one, &other))
			return false;
	}
	return true;
}

/* Codes for the stacks that go by tiles, when @n_active experts have @n pairs; false if there is no memory for them. */
static bool give_codes(struct ds_cpu *cpu, struct expert_job *job, size_t n, size_t n_active)
{
	size_t size = 0;
	char *codes;

	for (unsigned s = 0; s < job->n_stacks; s++) {
		struct stack *stack = &job->stacks[s];

		stack->tiles = ds_tiles_take(cpu, stack->op->w, n / n_active);
		stack->shares = s > 0 && stack->tiles && stack[-1].tiles && share_codes(job, stack - 1, stack, n_active);
		if (stack->tiles && !stack->shares)
			size += n * ds_codes_size(stack->op->w->cols);
	}
	if (!ds_cpu_reserve(cpu, &cpu->codes, size + DS_CODES_SPARE))
		return false;
	codes = cpu->codes.memory;
	for (unsigned s = 0; s < job->n_stacks; s++) {
		struct stack *stack = &job->stacks[s];

		if (stack->shares) {
			stack->codes = stack[-1].codes;
		} else if (stack->tiles) {
			stack->codes = codes;
			codes += n * ds_codes_size(stack->op->w->cols);
		}
	}
	return true;
}

void ds_cpu_expert_matmul(void *self, const struct ds_expert_matmul *ops, uint32_t n_ops)
{
	struct ds_cpu *cpu = self;
	size_t n = (size_t)ops->n * ops->k, n_experts = ops->w->n_experts, n_active, widest = 0;
	struct expert_job job = {.cpu = cpu, .n_stacks = n_ops};
	uint32_t *pairs;

	if (!n || !ds_cpu_reserve(cpu, &cpu->pairs, (n + 2 * n_experts + 1) * sizeof(*pairs)))
		return;
	pairs = cpu->pairs.memory;
	n_active = sort_pairs(ops->ids, n, n_experts, pairs, pairs + n, pairs + n + n_experts + 1);
	job.pairs = pairs;
	job.first = pairs + n;
	job.active = pairs + n + n_experts + 1;
	for (unsigned s = 0; s < n_ops; s++) {
		struct stack *stack = &job.stacks[s];
		const struct ds_weight *w = ops[s].w;

		stack->op = &ops[s];
		stack->chunk = ds_product_chunk(cpu, w, n_active, (uint32_t)(n / n_active));
		stack->n_chunks = (w->rows + stack->chunk - 1) / stack->chunk;
		job.n_chunks += stack->n_chunks;
		if (ds_tiles_take(cpu, w, n / n_active))
			widest = widest > w->cols ? widest : w->cols;
	}
	if (!give_codes(cpu, &job, n, n_active))
		return;
	if (widest > 0)
		ds_team_run(cpu->team, n_active, QUANTIZE_COLS / widest + 1, quantize_pieces, &job);
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

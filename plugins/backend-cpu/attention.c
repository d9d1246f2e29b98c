/* attention.c - latent attention over the paged cache (FlashAttention's online softmax, arXiv:2205.14135).
 *
 * A piece of work is one row and some of its heads. It walks the cache in tiles of TILE positions and takes the heads
 * DS_KERNEL_ROWS at a time, so that a tile comes from memory once, is widened once for several heads, and serves twice:
 * its whole rows for the scores, their first kv_lora columns for the sum. */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum {
	TILE = 64,	/* positions: with 576 columns of two bytes 72 KiB, which a core's second cache holds */
	MAX_HEADS = 64, /* of one piece */
	PIECES_A_MEMBER = 2,
};

/* What a piece keeps in its member's scratch. */
struct piece {
	float top[MAX_HEADS], sum[MAX_HEADS]; /* of the softmax so far */
	float scores[DS_KERNEL_ROWS][TILE];
	float q[]; /* (heads, width): query and rotary query side by side as in the cache, times the scale */
};

struct attention_job {
	const struct ds_cpu *cpu;
	const struct ds_latent_attention *op;
	size_t n_heads, n_groups; /* heads of a piece, pieces of a row */
};

static size_t width_of(const struct ds_latent_attention *op)
{
	return (size_t)op->kv_lora + op->qk_rope;
}

/* The longest run of positions from @t below @end that lie together, and where they lie. */
static const void *run_of(const struct ds_latent_attention *op, size_t row, size_t t, size_t end, size_t *n)
{
	const struct ds_kv *kv = op->kv;
	size_t slot = t % kv->page_tokens, page = op->rows->pages[row][t / kv->page_tokens];

	*n = kv->page_tokens - slot < end - t ? kv->page_tokens - slot : end - t;
	return (const char *)kv->data +
	       (page * kv->page_tokens + slot) * kv->width * ds_dtype_size(kv->dtype);
}

static void score_tile(const struct attention_job *job, size_t row, size_t begin, size_t end, const float *q,
		       unsigned n, struct piece *piece)
{
	const struct ds_latent_attention *op = job->op;
	struct ds_matvec mv = {.cols = width_of(op), .pitch = op->kv->width, .n = n};

	for (unsigned i = 0; i < n; i++)
		mv.x[i] = q + i * width_of(op);
	for (size_t t = begin; t < end; t += mv.rows) {
		mv.w = run_of(op, row, t, end, &mv.rows);
		for (unsigned i = 0; i < n; i++)
			mv.y[i] = piece->scores[i] + (t - begin);
		job->cpu->kernels.matvec[op->kv->dtype](&mv);
	}
}

static void sum_tile(const struct attention_job *job, size_t row, size_t begin, size_t end, float *z, unsigned n,
		     const struct piece *piece)
{
	const struct ds_latent_attention *op = job->op;
	struct ds_mix mix = {.cols = op->kv_lora, .pitch = op->kv->width, .n = n};

	for (unsigned i = 0; i < n; i++)
		mix.z[i] = z + (size_t)i * op->kv_lora;
	for (size_t t = begin; t < end; t += mix.rows) {
		mix.c = run_of(op, row, t, end, &mix.rows);
		for (unsigned i = 0; i < n; i++)
			mix.p[i] = piece->scores[i] + (t - begin);
		job->cpu->kernels.mix[op->kv->dtype](&mix);
	}
}

/* Turn a head's scores into weights against the largest score so far; what was summed under a smaller one shrinks. */
static void weigh(const struct ds_kernels *kernels, float *scores, size_t n, float *top, float *sum, float *z,
		  size_t width)
{
	float largest = kernels->largest(scores, n);

	if (largest > *top) {
		float factor = expf(*top - largest);

		*sum *= factor;
		kernels->scale(z, factor, width);
		*top = largest;
	}
	*sum += kernels->exp_sum(scores, *top, n);
}

static void prepare(const struct ds_latent_attention *op, size_t row, size_t head, size_t n, struct piece *piece)
{
	for (size_t h = 0; h < n; h++) {
		const float *latent = op->q + (row * op->n_heads + head + h) * op->kv_lora;
		const float *rotary = op->q_rope + row * op->q_rope_row_stride + (head + h) * op->q_rope_head_stride;
		float *q = piece->q + h * width_of(op);

		for (size_t i = 0; i < op->kv_lora; i++)
			q[i] = latent[i] * op->scale;
		for (size_t i = 0; i < op->qk_rope; i++)
			q[op->kv_lora + i] = rotary[i] * op->scale;
		piece->top[h] = -INFINITY;
		piece->sum[h] = 0;
	}
}

/* The heads @head to @head + @n - 1 of one row. */
static void attend(const struct attention_job *job, size_t row, size_t head, size_t n, struct piece *piece)
{
	const struct ds_latent_attention *op = job->op;
	const struct ds_kernels *kernels = &job->cpu->kernels;
	size_t n_seen = (size_t)op->rows->positions[row] + 1, width = op->kv_lora;
	float *z = op->z + (row * op->n_heads + head) * width;

	prepare(op, row, head, n, piece);
	memset(z, 0, n * width * sizeof(*z));
	for (size_t begin = 0; begin < n_seen; begin += TILE) {
		size_t end = n_seen - begin < TILE ? n_seen : begin + TILE;

		for (size_t h = 0; h < n; h += DS_KERNEL_ROWS) {
			unsigned m = n - h < DS_KERNEL_ROWS ? (unsigned)(n - h) : DS_KERNEL_ROWS;

			score_tile(job, row, begin, end, piece->q + h * width_of(op), m, piece);
			for (unsigned i = 0; i < m; i++)
				weigh(kernels, piece->scores[i], end - begin, &piece->top[h + i], &piece->sum[h + i],
				      z + (h + i) * width, width);
			sum_tile(job, row, begin, end, z + h * width, m, piece);
		}
	}
	for (size_t h = 0; h < n; h++)
		kernels->scale(z + h * width, 1 / piece->sum[h], width);
}

static void attention_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct attention_job *job = arg;

	for (size_t i = first; i < last; i++) {
		size_t head = i % job->n_groups * job->n_heads, left = job->op->n_heads - head;

		attend(job, i / job->n_groups, head, left < job->n_heads ? left : job->n_heads,
		       (struct piece *)ds_cpu_scratch(job->cpu, member));
	}
}

/* As many heads a piece as leave every member some pieces, and as the scratch has room for. */
void ds_cpu_latent_attention(void *self, const struct ds_latent_attention *op)
{
	struct ds_cpu *cpu = self;
	struct attention_job job = {.cpu = cpu, .op = op};
	size_t n = (size_t)op->rows->n * op->n_heads;
	size_t room = (DS_SCRATCH - sizeof(struct piece) / sizeof(float)) / width_of(op);

	job.n_heads = n / (PIECES_A_MEMBER * ds_team_size(cpu->team));
	if (job.n_heads > DS_KERNEL_ROWS)
		job.n_heads -= job.n_heads % DS_KERNEL_ROWS;
	if (job.n_heads > MAX_HEADS)
		job.n_heads = MAX_HEADS;
	if (job.n_heads > room)
		job.n_heads = room;
	if (job.n_heads > op->n_heads)
		job.n_heads = op->n_heads;
	if (job.n_heads < 1)
		job.n_heads = 1;
	job.n_groups = (op->n_heads + job.n_heads - 1) / job.n_heads;
	ds_team_run(cpu->team, op->rows->n * job.n_groups, 1, attention_pieces, &job);
}

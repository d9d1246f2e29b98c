/* attention.c - attention over the paged cache (FlashAttention's online softmax, arXiv:2205.14135), latent and grouped.
 *
 * A piece of work is one row and some heads that read the same keys and values. It walks the cache in tiles of TILE
 * positions and takes the heads DS_KERNEL_ROWS at a time, so that a tile comes from memory once and is widened once for
 * several heads. In latent attention a tile serves twice: its whole rows for the scores, their first kv_lora columns
 * for the sum. */
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
	float q[]; /* (heads, keys.cols): as in the cache, times the scale */
};

/* Columns of a cache: for key head g those from g * cols on. */
struct columns {
	const struct ds_kv *kv;
	size_t cols;
};

/* Columns of the queries. */
struct part {
	const float *x;
	size_t row_stride, head_stride, cols;
};

struct job {
	const struct ds_cpu *cpu;
	const struct ds_rows *rows;
	struct columns keys, values;
	struct part parts[2]; /* side by side they are as wide as the keys */
	float *y;	      /* (n, n_heads, values.cols) */
	float scale;
	size_t n_heads;	       /* of a row */
	size_t n_sharing;      /* heads that read the same keys and values */
	size_t n_taken, n_groups; /* heads of a piece, pieces of the heads that share */
	size_t n_pieces;       /* of a row */
};

/* The longest run of positions from @t below @end that lie together, and where they lie. */
static const void *run_of(const struct job *job, const struct columns *c, size_t key_head, size_t row, size_t t,
			  size_t end, size_t *n)
{
	const struct ds_kv *kv = c->kv;
	size_t slot = t % kv->page_tokens, page = job->rows->pages[row][t / kv->page_tokens];
	size_t first = (page * kv->page_tokens + slot) * kv->width + key_head * c->cols;

	*n = kv->page_tokens - slot < end - t ? kv->page_tokens - slot : end - t;
	return (const char *)kv->data + first * ds_dtype_size(kv->dtype);
}

static void score_tile(const struct job *job, size_t row, size_t key_head, size_t begin, size_t end, const float *q,
		       unsigned n, struct piece *piece)
{
	const struct ds_kv *kv = job->keys.kv;
	struct ds_matvec mv = {.cols = job->keys.cols, .pitch = kv->width, .n = n};

	for (unsigned i = 0; i < n; i++)
		mv.x[i] = q + i * job->keys.cols;
	for (size_t t = begin; t < end; t += mv.rows) {
		mv.w = run_of(job, &job->keys, key_head, row, t, end, &mv.rows);
		for (unsigned i = 0; i < n; i++)
			mv.y[i] = piece->scores[i] + (t - begin);
		job->cpu->kernels.matvec[kv->dtype](&mv);
	}
}

static void sum_tile(const struct job *job, size_t row, size_t key_head, size_t begin, size_t end, float *y, unsigned n,
		     const struct piece *piece)
{
	const struct ds_kv *kv = job->values.kv;
	struct ds_mix mix = {.cols = job->values.cols, .pitch = kv->width, .n = n};

	for (unsigned i = 0; i < n; i++)
		mix.z[i] = y + i * job->values.cols;
	for (size_t t = begin; t < end; t += mix.rows) {
		mix.c = run_of(job, &job->values, key_head, row, t, end, &mix.rows);
		for (unsigned i = 0; i < n; i++)
			mix.p[i] = piece->scores[i] + (t - begin);
		job->cpu->kernels.mix[kv->dtype](&mix);
	}
}

/* Turn a head's scores into weights against the largest score so far; what was summed under a smaller one shrinks. */
static void weigh(const struct ds_kernels *kernels, float *scores, size_t n, float *top, float *sum, float *y,
		  size_t width)
{
	float largest = kernels->largest(scores, n);

	if (largest > *top) {
		float factor = expf(*top - largest);

		*sum *= factor;
		kernels->scale(y, factor, width);
		*top = largest;
	}
	*sum += kernels->exp_sum(scores, *top, n);
}

static void prepare(const struct job *job, size_t row, size_t head, size_t n, struct piece *piece)
{
	for (size_t h = 0; h < n; h++) {
		float *q = piece->q + h * job->keys.cols;

		for (size_t p = 0; p < DS_ARRAY_SIZE(job->parts) && job->parts[p].cols > 0; p++) {
			const struct part *part = &job->parts[p];
			const float *x = part->x + row * part->row_stride + (head + h) * part->head_stride;

			for (size_t i = 0; i < part->cols; i++)
				*q++ = x[i] * job->scale;
		}
		piece->top[h] = -INFINITY;
		piece->sum[h] = 0;
	}
}

/* The heads @head to @head + @n - 1 of one row, which share their keys. */
static void attend(const struct job *job, size_t row, size_t head, size_t n, struct piece *piece)
{
	const struct ds_kernels *kernels = &job->cpu->kernels;
	size_t n_seen = (size_t)job->rows->positions[row] + 1, width = job->values.cols;
	size_t key_head = head / job->n_sharing;
	float *y = job->y + (row * job->n_heads + head) * width;

	prepare(job, row, head, n, piece);
	memset(y, 0, n * width * sizeof(*y));
	for (size_t begin = 0; begin < n_seen; begin += TILE) {
		size_t end = n_seen - begin < TILE ? n_seen : begin + TILE;

		for (size_t h = 0; h < n; h += DS_KERNEL_ROWS) {
			unsigned m = n - h < DS_KERNEL_ROWS ? (unsigned)(n - h) : DS_KERNEL_ROWS;

			score_tile(job, row, key_head, begin, end, piece->q + h * job->keys.cols, m, piece);
			for (unsigned i = 0; i < m; i++)
				weigh(kernels, piece->scores[i], end - begin, &piece->top[h + i], &piece->sum[h + i],
				      y + (h + i) * width, width);
			sum_tile(job, row, key_head, begin, end, y + h * width, m, piece);
		}
	}
	for (size_t h = 0; h < n; h++)
		kernels->scale(y + h * width, 1 / piece->sum[h], width);
}

static void attention_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct job *job = arg;

	for (size_t i = first; i < last; i++) {
		size_t piece = i % job->n_pieces, begin = piece % job->n_groups * job->n_taken;
		size_t left = job->n_sharing - begin;

		attend(job, i / job->n_pieces, piece / job->n_groups * job->n_sharing + begin,
		       left < job->n_taken ? left : job->n_taken, (struct piece *)ds_cpu_scratch(job->cpu, member));
	}
}

/* @n_taken heads a piece, or as many as the scratch has room for. */
static void run(struct ds_cpu *cpu, struct job *job, size_t n_taken)
{
	size_t room = (DS_SCRATCH - sizeof(struct piece) / sizeof(float)) / job->keys.cols;

	if (n_taken > MAX_HEADS)
		n_taken = MAX_HEADS;
	if (n_taken > room)
		n_taken = room;
	if (n_taken > job->n_sharing)
		n_taken = job->n_sharing;
	job->cpu = cpu;
	job->n_taken = n_taken;
	job->n_groups = (job->n_sharing + n_taken - 1) / n_taken;
	job->n_pieces = job->n_heads / job->n_sharing * job->n_groups;
	ds_team_run(cpu->team, job->rows->n * job->n_pieces, 1, attention_pieces, job);
}

/* As many heads a piece as leave every member some pieces. */
void ds_cpu_latent_attention(void *self, const struct ds_latent_attention *op)
{
	struct ds_cpu *cpu = self;
	size_t n = (size_t)op->rows->n * op->n_heads / (PIECES_A_MEMBER * ds_team_size(cpu->team));
	struct job job = {
		.rows = op->rows,
		.keys = {op->kv, (size_t)op->kv_lora + op->qk_rope},
		.values = {op->kv, op->kv_lora},
		.parts = {{op->q, (size_t)op->n_heads * op->kv_lora, op->kv_lora, op->kv_lora},
			  {op->q_rope, op->q_rope_row_stride, op->q_rope_head_stride, op->qk_rope}},
		.y = op->z,
		.scale = op->scale,
		.n_heads = op->n_heads,
		.n_sharing = op->n_heads,
	};

	if (n > DS_KERNEL_ROWS)
		n -= n % DS_KERNEL_ROWS;
	run(cpu, &job, n > 0 ? n : 1);
}

/* All heads that share their keys are one piece, so that these are read once. */
void ds_cpu_attention(void *self, const struct ds_attention *op)
{
	struct job job = {
		.rows = op->rows,
		.keys = {op->k, op->head_dim},
		.values = {op->v, op->head_dim},
		.parts = {{op->q, (size_t)op->n_heads * op->head_dim, op->head_dim, op->head_dim}},
		.y = op->y,
		.scale = op->scale,
		.n_heads = op->n_heads,
		.n_sharing = op->n_heads / op->n_kv_heads,
	};

	run(self, &job, job.n_sharing);
}

/* elementwise.c - the operations whose work is one pass over their rows. */
#include "cpu.h"

#include <math.h>
#include <string.h>

/* Elements that a member takes at once: a few microseconds' work, which waking another member has to be worth. */
enum { CHUNK = 16384 };

static size_t rows_a_chunk(size_t width)
{
	return CHUNK / (width + 1) + 1;
}

struct copy_job {
	const struct ds_kernels *kernels;
	float *y;
	const char *table; /* rows of row_size bytes, or panels of that */
	const uint32_t *indices;
	size_t width, row_size;
	enum ds_dtype dtype;
};

static void copy_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct copy_job *job = arg;

	for (size_t i = first; i < last; i++)
		job->kernels->widen[job->dtype](job->y + i * job->width, job->table + job->indices[i] * job->row_size,
						job->width);
}

void ds_widen_panel_row(const struct ds_kernels *kernels, enum ds_dtype dtype, float *y, const void *panel, size_t row,
			size_t cols)
{
	struct ds_panel_format f = ds_panel_format(dtype);

	for (size_t b = 0; b < cols / f.block; b++) {
		uint8_t block[256];

		ds_panel_block(dtype, cols, panel, row, b, block);
		kernels->widen[dtype](y + b * f.block, block, f.block);
	}
}

/* A row is one of 16 in its panel. */
static void copy_panel_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct copy_job *job = arg;

	for (size_t i = first; i < last; i++)
		ds_widen_panel_row(job->kernels, job->dtype, job->y + i * job->width,
				   job->table + job->indices[i] / DS_PANEL * job->row_size, job->indices[i] % DS_PANEL,
				   job->width);
}

void ds_cpu_embed(void *self, float *y, const struct ds_weight *table, const uint32_t *tokens, uint32_t n)
{
	struct ds_cpu *cpu = self;
	bool panels = table->layout == DS_LAYOUT_PANELS;
	struct copy_job job = {
		.kernels = &cpu->kernels,
		.y = y,
		.table = ds_weight_matrix(table, 0),
		.indices = tokens,
		.width = table->cols,
		.row_size = panels ? ds_panel_size(table->dtype, table->cols) : ds_row_size(table->dtype, table->cols),
		.dtype = table->dtype,
	};

	ds_team_run(cpu->team, n, rows_a_chunk(table->cols), panels ? copy_panel_rows : copy_rows, &job);
}

void ds_cpu_gather(void *self, float *y, const float *x, const uint32_t *indices, uint32_t width, uint32_t n)
{
	struct ds_cpu *cpu = self;
	struct copy_job job = {
		.kernels = &cpu->kernels,
		.y = y,
		.table = (const char *)x,
		.indices = indices,
		.width = width,
		.row_size = width * sizeof(*x),
		.dtype = DS_DTYPE_F32,
	};

	ds_team_run(cpu->team, n, rows_a_chunk(width), copy_rows, &job);
}

struct norm_job {
	const struct ds_kernels *kernels;
	float *y;
	const float *x, *weight;
	size_t y_stride, x_stride, width;
	float eps;
};

static void norm_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct norm_job *job = arg;

	for (size_t r = first; r < last; r++) {
		const float *x = job->x + r * job->x_stride;
		double mean = job->kernels->sum_squares(x, job->width) / (double)job->width;

		job->kernels->scale_by(job->y + r * job->y_stride, x, job->weight, (float)(1 / sqrt(mean + job->eps)),
				       job->width);
	}
}

void ds_cpu_rms_norm(void *self, float *y, uint32_t y_stride, const float *x, uint32_t x_stride, const float *weight,
		     uint32_t width, uint32_t n, float eps)
{
	struct ds_cpu *cpu = self;
	struct norm_job job = {
		.kernels = &cpu->kernels,
		.y = y,
		.x = x,
		.weight = weight,
		.y_stride = y_stride ? y_stride : width,
		.x_stride = x_stride ? x_stride : width,
		.width = width,
		.eps = eps,
	};

	ds_team_run(cpu->team, n, rows_a_chunk(width), norm_rows, &job);
}

struct rope_job {
	const struct ds_kernels *kernels;
	const struct ds_rope *op;
	float *turns, *frequencies;
	uint32_t *positions; /* that the turns are of */
};

/* The angle is a float32 product, as in the models' own code: at position 100000 another rounding is another angle. */
static void rope_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct rope_job *job = arg;
	const struct ds_rope *op = job->op;
	void (*rotate)(float *x, const float *turn, size_t n) =
		op->halves ? job->kernels->rotate_halves : job->kernels->rotate;
	size_t n = op->width / 2, step = op->halves ? 1 : 2, sines = op->halves ? n : 1;

	for (size_t r = first; r < last; r++) {
		float *turn = job->turns + r * 2 * n;
		uint32_t position = op->rows->positions[r];

		for (size_t i = 0; job->positions[r] != position && i < n; i++) {
			float angle = (float)position * op->frequencies[i];

			turn[i * step] = (float)cos(angle);
			turn[i * step + sines] = (float)sin(angle);
		}
		job->positions[r] = position;
		for (size_t h = 0; h < op->n_heads; h++)
			rotate(op->x + r * op->row_stride + h * op->head_stride, turn, n);
	}
}

/* Where turns of the rows of @job are: what is known of their frequencies stays. False: no memory. */
static bool find_turns(struct ds_cpu *cpu, struct rope_job *job)
{
	const struct ds_rope *op = job->op;
	struct ds_turns *turns = &cpu->turns;
	size_t n = op->width / 2, n_rows = op->rows->n, a_row = (2 * n + 1) * sizeof(float), size = n * sizeof(float);
	bool same = turns->n == n && turns->halves == op->halves && n_rows <= turns->n_rows;

	if (!same) {
		if (!ds_cpu_reserve(cpu, &turns->room, size + n_rows * a_row))
			return false;
		turns->n = n;
		turns->halves = op->halves;
		turns->n_rows = (turns->room.size - size) / a_row;
	}
	job->turns = turns->room.memory;
	job->frequencies = job->turns + turns->n_rows * 2 * n;
	job->positions = (uint32_t *)(job->frequencies + n);
	if (!same || memcmp(job->frequencies, op->frequencies, size) != 0) {
		memcpy(job->frequencies, op->frequencies, size);
		memset(job->positions, 0xff, turns->n_rows * sizeof(*job->positions)); /* no position */
	}
	return true;
}

void ds_cpu_rope(void *self, const struct ds_rope *op)
{
	struct ds_cpu *cpu = self;
	struct rope_job job = {.kernels = &cpu->kernels, .op = op};

	if (find_turns(cpu, &job))
		ds_team_run(cpu->team, op->rows->n, rows_a_chunk((size_t)op->n_heads * op->width), rope_rows, &job);
}

struct store_job {
	const struct ds_kernels *kernels;
	const struct ds_kv *kv;
	const float *x;
	size_t x_stride;
	const struct ds_rows *rows;
};

static void store_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct store_job *job = arg;
	const struct ds_kv *kv = job->kv;

	for (size_t r = first; r < last; r++)
		job->kernels->narrow[kv->dtype](ds_kv_row(kv, job->rows->pages[r], job->rows->positions[r]),
						job->x + r * job->x_stride, kv->width);
}

void ds_cpu_kv_store(void *self, const struct ds_kv *kv, const float *x, uint32_t x_stride, const struct ds_rows *rows)
{
	struct ds_cpu *cpu = self;
	struct store_job job = {
		.kernels = &cpu->kernels,
		.kv = kv,
		.x = x,
		.x_stride = x_stride ? x_stride : kv->width,
		.rows = rows,
	};

	ds_team_run(cpu->team, rows->n, rows_a_chunk(kv->width), store_rows, &job);
}

struct bias_job {
	const struct ds_kernels *kernels;
	float *y;
	const float *bias;
	size_t width;
};

static void bias_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct bias_job *job = arg;

	for (size_t r = first; r < last; r++)
		job->kernels->add_scaled(job->y + r * job->width, job->bias, 1, job->width);
}

void ds_cpu_add_bias(void *self, float *y, const float *bias, uint32_t width, uint32_t n)
{
	struct ds_cpu *cpu = self;
	struct bias_job job = {.kernels = &cpu->kernels, .y = y, .bias = bias, .width = width};

	ds_team_run(cpu->team, n, rows_a_chunk(width), bias_rows, &job);
}

struct swiglu_job {
	const struct ds_kernels *kernels;
	float *y;
	const float *gate, *up;
};

static void swiglu_part(void *arg, size_t first, size_t last, unsigned member)
{
	const struct swiglu_job *job = arg;

	job->kernels->swiglu(job->y + first, job->gate + first, job->up + first, last - first);
}

void ds_cpu_swiglu(void *self, float *y, const float *gate, const float *up, uint64_t count)
{
	struct ds_cpu *cpu = self;
	struct swiglu_job job = {.kernels = &cpu->kernels, .y = y, .gate = gate, .up = up};

	ds_team_run(cpu->team, count, CHUNK, swiglu_part, &job);
}

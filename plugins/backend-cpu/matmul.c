/* matmul.c - rows of weights times rows of activations, the same for plain matrices, heads and experts.
 *
 * Few rows (decoding) are bound by reading the weights: the matvec kernels widen each weight once and use it for up to
 * DS_KERNEL_ROWS rows. Many rows (prefill) are bound by arithmetic: a member widens a part of the weights into its scratch
 * and calls sgemm on it; OpenBLAS has one thread, the team is ours. */
#include "cpu.h"

#include <cblas.h>
#include <string.h>

enum {
	CHUNK_BYTES = 64 * 1024, /* of weights, the last that are taken: long against taking them, short against a step */
	CHUNKS_A_MEMBER = 4, /* so that a slow core leaves its share to others */
	QUANTIZE_COLS = 16384, /* of activations, in tiles: what waking another member has to be worth */
	GEMM_MIN_ROWS = 128, /* of weights: for less, sgemm spends its time on copying the activations */
};

static void few_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last)
{
	for (size_t done = 0; done < p->n; done += DS_KERNEL_ROWS) {
		struct ds_matvec op = {
			.w = ds_product_w(p, first, 0),
			.rows = last - first,
			.cols = p->cols,
			.pitch = p->cols,
			.n = p->n - done < DS_KERNEL_ROWS ? (unsigned)(p->n - done) : DS_KERNEL_ROWS,
			.add = p->add,
		};

		for (unsigned i = 0; i < op.n; i++) {
			op.y[i] = ds_product_y(p, done + i) + first;
			op.x[i] = ds_product_x(p, done + i);
		}
		cpu->kernels.matvec[p->dtype](&op);
	}
}

/* c (m, n_rows) (+)= a (m, n_cols) * b (n_rows, n_cols)^T, strides between rows. */
static void gemm(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride, size_t m,
		 size_t n_rows, size_t n_cols, bool add)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n_rows, (blasint)n_cols, 1, a,
		    (blasint)a_stride, b, (blasint)b_stride, add ? 1 : 0, c, (blasint)c_stride);
}

/* The part of the weights (rows @first.., columns @col..) as float32: in place, or widened into @room. */
static const float *weight_part(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t n_rows,
				 size_t col, size_t n_cols, float *room, size_t *stride)
{
	if (p->dtype == DS_DTYPE_F32) {
		*stride = p->cols;
		return ds_product_w(p, first, col);
	}
	for (size_t r = 0; r < n_rows; r++)
		cpu->kernels.widen[p->dtype](room + r * n_cols, ds_product_w(p, first + r, col), n_cols);
	*stride = n_cols;
	return room;
}

/* Activations that lie at regular distances are used where they are. */
static void many_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t n_rows, float *scratch)
{
	for (size_t col = 0; col < p->cols; col += DS_GEMM_COLS) {
		size_t n_cols = p->cols - col < DS_GEMM_COLS ? p->cols - col : DS_GEMM_COLS, stride;
		const float *w = weight_part(cpu, p, first, n_rows, col, n_cols, scratch, &stride);

		gemm(p->y + first, p->y_stride, p->x + col, p->x_stride, w, stride, p->n, n_rows, n_cols,
		     p->add || col > 0);
	}
}

/* The rows that chose an expert are anywhere: they are gathered a part at a time, and the results scattered. */
static void many_pairs(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t n_rows,
		       float *scratch)
{
	float *x = scratch + DS_GEMM_ROWS * DS_GEMM_COLS, *y = x + DS_GEMM_BATCH * DS_GEMM_COLS;

	for (size_t done = 0; done < p->n; done += DS_GEMM_BATCH) {
		size_t m = p->n - done < DS_GEMM_BATCH ? p->n - done : DS_GEMM_BATCH;

		for (size_t col = 0; col < p->cols; col += DS_GEMM_COLS) {
			size_t n_cols = p->cols - col < DS_GEMM_COLS ? p->cols - col : DS_GEMM_COLS, stride;
			const float *w = weight_part(cpu, p, first, n_rows, col, n_cols, scratch, &stride);

			for (size_t i = 0; i < m; i++)
				memcpy(x + i * n_cols, ds_product_x(p, done + i) + col, n_cols * sizeof(*x));
			gemm(y, n_rows, x, n_cols, w, stride, m, n_rows, n_cols, col > 0);
		}
		for (size_t i = 0; i < m; i++)
			memcpy(ds_product_y(p, done + i) + first, y + i * n_rows, n_rows * sizeof(*y));
	}
}

void ds_product_rows(const struct ds_cpu *cpu, const struct ds_product *p, size_t first, size_t last, unsigned member)
{
	float *scratch = ds_cpu_scratch(cpu, member);

	if (p->codes) {
		ds_tiles_rows(cpu, p, first, last, member);
		return;
	}
	if (p->n < cpu->kernels.gemm_min) {
		few_rows(cpu, p, first, last);
		return;
	}
	for (; first < last; first += DS_GEMM_ROWS) {
		size_t n_rows = last - first < DS_GEMM_ROWS ? last - first : DS_GEMM_ROWS;

		if (p->pairs)
			many_pairs(cpu, p, first, n_rows, scratch);
		else
			many_rows(cpu, p, first, n_rows, scratch);
	}
}

size_t ds_product_chunk(const struct ds_cpu *cpu, const struct ds_weight *w, size_t n_matrices, uint32_t n)
{
	size_t row_size = ds_row_size(w->dtype, w->cols) + 1;
	bool tiles = ds_tiles_take(cpu, w, n), many = !tiles && n >= cpu->kernels.gemm_min;
	size_t most = many ? DS_GEMM_ROWS : CHUNK_BYTES / row_size;
	size_t unit = tiles ? DS_TILE_PANELS * DS_PANEL : DS_KERNEL_ROWS; /* kernels take several rows at once */
	size_t least = many ? GEMM_MIN_ROWS : unit;
	size_t share = w->rows * n_matrices / (CHUNKS_A_MEMBER * ds_team_size(cpu->team));
	size_t chunk = share < most ? share : most;

	return chunk < least ? least : chunk - chunk % unit;
}

/* The products of all matrices of a weight. */
struct stack {
	const struct ds_weight *w;
	struct ds_product product; /* of matrix 0 */
	size_t x_matrix, y_matrix; /* elements from one matrix's activations to the next one's */
	size_t chunk, n_chunks;	   /* rows of a chunk, chunks of a matrix */
	size_t n_tiles;		   /* of activations, of a matrix, that have no codes yet */
};

struct matmul_job {
	const struct ds_cpu *cpu;
	struct stack stacks[DS_MATMULS];
	unsigned n_stacks;
};

static struct ds_product product_of(const struct stack *stack, size_t matrix)
{
	struct ds_product p = stack->product;

	p.w = ds_weight_matrix(stack->w, matrix);
	p.x += matrix * stack->x_matrix;
	p.y += matrix * stack->y_matrix;
	if (p.codes)
		p.codes = (char *)p.codes + matrix * p.n * ds_codes_size(p.cols);
	return p;
}

/* Pieces are the chunks of every matrix of every stack, in this order. */
static void matmul_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct matmul_job *job = arg;

	for (size_t piece = first; piece < last; piece++) {
		const struct stack *stack = job->stacks;
		struct ds_product p;
		size_t i = piece, row;

		for (; i >= stack->n_chunks * stack->w->n_experts; stack++)
			i -= stack->n_chunks * stack->w->n_experts;
		p = product_of(stack, i / stack->n_chunks);
		row = i % stack->n_chunks * stack->chunk;
		ds_product_rows(job->cpu, &p, row, row + stack->chunk < stack->w->rows ? row + stack->chunk : stack->w->rows,
				member);
	}
}

/* Pieces are the tiles of activations of every matrix of every stack. */
static void quantize_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct matmul_job *job = arg;

	for (size_t piece = first; piece < last; piece++) {
		const struct stack *stack = job->stacks;
		struct ds_product p;
		size_t i = piece;

		for (; i >= stack->n_tiles * stack->w->n_experts; stack++)
			i -= stack->n_tiles * stack->w->n_experts;
		p = product_of(stack, i / stack->n_tiles);
		ds_tiles_quantize(job->cpu, &p, i % stack->n_tiles, i % stack->n_tiles + 1);
	}
}

/* Bytes of the codes of a stack's activations; 0 if it does not go by tiles. */
static size_t codes_size(const struct ds_cpu *cpu, const struct stack *stack)
{
	const struct ds_product *p = &stack->product;

	return ds_tiles_take(cpu, stack->w, p->n) ? p->n * stack->w->n_experts * ds_codes_size(p->cols) : 0;
}

/* Give stack @i its codes: those of one before it, or new ones at @codes. Returns where the next begin. */
static char *give_codes(struct matmul_job *job, unsigned i, char *codes)
{
	struct stack *stack = &job->stacks[i];
	size_t size = codes_size(job->cpu, stack);

	if (size == 0)
		return codes;
	for (unsigned j = 0; j < i; j++) {
		const struct ds_product *p = &job->stacks[j].product;

		if (p->codes && ds_tiles_share(job->cpu, p, &stack->product)) {
			stack->product.codes = p->codes;
			return codes;
		}
	}
	stack->product.codes = codes;
	stack->n_tiles = ds_tiles_count(job->cpu, &stack->product);
	return codes + size;
}

/* Stacks have their products, but for what the weights say. */
static void run_matmul(struct ds_cpu *cpu, struct matmul_job *job)
{
	size_t size = 0, n_tiles = 0, n_chunks = 0;
	char *codes;

	job->cpu = cpu;
	for (unsigned i = 0; i < job->n_stacks; i++) {
		struct stack *stack = &job->stacks[i];
		struct ds_product *p = &stack->product;

		p->dtype = stack->w->dtype;
		p->layout = stack->w->layout;
		p->cols = stack->w->cols;
		p->divisor = 1;
		stack->chunk = ds_product_chunk(cpu, stack->w, stack->w->n_experts, p->n);
		stack->n_chunks = p->n ? (stack->w->rows + stack->chunk - 1) / stack->chunk : 0;
		n_chunks += stack->n_chunks * stack->w->n_experts;
		size += codes_size(cpu, stack);
	}
	if (!ds_cpu_reserve(cpu, &cpu->codes, size + DS_CODES_SPARE))
		return;
	codes = cpu->codes.memory;
	for (unsigned i = 0; i < job->n_stacks; i++) {
		codes = give_codes(job, i, codes);
		n_tiles += job->stacks[i].n_tiles * job->stacks[i].w->n_experts;
	}
	ds_team_run(cpu->team, n_tiles, QUANTIZE_COLS / job->stacks[0].w->cols + 1, quantize_pieces, job);
	ds_team_run(cpu->team, n_chunks, 1, matmul_pieces, job);
}

void ds_cpu_matmul(void *self, const struct ds_matmul *ops, uint32_t n_ops)
{
	struct matmul_job job = {.n_stacks = n_ops};

	for (uint32_t i = 0; i < n_ops; i++) {
		const struct ds_matmul *op = &ops[i];

		job.stacks[i] = (struct stack){
			.w = op->w,
			.product = {
				.y = op->y,
				.x = op->x,
				.y_stride = op->y_stride ? op->y_stride : op->w->rows,
				.x_stride = op->x_stride ? op->x_stride : op->w->cols,
				.n = op->n,
				.add = op->add,
			},
		};
	}
	run_matmul(self, &job);
}

void ds_cpu_head_matmul(void *self, const struct ds_head_matmul *op)
{
	struct matmul_job job = {
		.stacks = {{
			.w = op->w,
			.product = {
				.y = op->y,
				.x = op->x,
				.y_stride = op->y_row_stride,
				.x_stride = op->x_row_stride,
				.n = op->n,
			},
			.x_matrix = op->x_head_stride,
			.y_matrix = op->y_head_stride,
		}},
		.n_stacks = 1,
	};

	run_matmul(self, &job);
}

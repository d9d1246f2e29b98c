/* backend.c - how near the CPU backend comes to what the machine can do: decoding against reading memory in order,
 * prefill against sgemm on weights that are float32 already. Usage: backend [THREADS [MEBIBYTES]] */
#include <deepseekd/backend.h>

#include <cblas.h>
#include <string.h>
#include <time.h>

#include "plugins/backend-cpu/cpu.h"

enum { REPEATS = 5, WIDTH = 2048 };

static const struct ds_backend_ops *ops = &ds_cpu_ops;

/* One thread is timed by the processor time it got, so that others on the machine disturb less. */
static double now(const struct ds_cpu *cpu)
{
	struct timespec t;

	clock_gettime(ds_team_size(cpu->team) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The least seconds that @run took; the first run, which finds caches and pages cold, does not count. */
static double fastest(const struct ds_cpu *cpu, void (*run)(void *arg), void *arg)
{
	double best = 0;

	for (int i = 0; i <= REPEATS; i++) {
		double begin = now(cpu), took;

		run(arg);
		took = now(cpu) - begin;
		if (i == 1 || (i > 1 && took < best))
			best = took;
	}
	return best;
}

static void fill(void *p, size_t size)
{
	uint16_t *x = p;

	for (size_t i = 0; i < size / 2; i++)
		x[i] = (uint16_t)(0x3c00 + i % 1000); /* moderate in each type, alone or as half of a float32 */
}

struct product {
	void *self;
	struct ds_matmul op;
	const float *w; /* float32, for the plain call */
};

static void by_backend(void *arg)
{
	struct product *p = arg;

	ops->matmul(p->self, &p->op, 1);
}

static void by_sgemm(void *arg)
{
	struct product *p = arg;

	blasint n = (blasint)p->op.n, rows = (blasint)p->op.w->rows, cols = (blasint)p->op.w->cols;

	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, rows, cols, 1, p->op.x, cols, p->w, cols, 0, p->op.y,
		    rows);
}

static void nothing(void *arg, size_t first, size_t last, unsigned member)
{
}

static void thousand_jobs(void *cpu)
{
	for (int i = 0; i < 1000; i++)
		ds_team_run(((struct ds_cpu *)cpu)->team, 64, 1, nothing, NULL);
}

/* All types on the same bytes, which make moderate scales in all of them but one. */
static void fill_mxfp4(uint8_t *blocks, size_t size)
{
	for (size_t i = 0; i < size; i += ds_dtype_info(DS_DTYPE_MXFP4)->size)
		blocks[i] = 120;
}

static void bench_decode(struct ds_cpu *cpu, size_t size)
{
	size_t rows = size / ds_row_size(DS_DTYPE_Q2_K, WIDTH);
	void *weights = ops->alloc(cpu, size);
	float *x = ops->alloc(cpu, (size_t)DS_KERNEL_ROWS * WIDTH * sizeof(*x));
	float *y = ops->alloc(cpu, (size_t)DS_KERNEL_ROWS * rows * sizeof(*y));
	struct ds_peak peak;
	struct ds_error err;
	double read, floats = 0, bfloats = 0; /* weights a nanosecond of a row at a time */

	if (ops->peak(cpu, DS_DTYPE_F32, DS_PRECISION_EXACT, &peak, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	fill(weights, size);
	fill(x, (size_t)DS_KERNEL_ROWS * WIDTH * sizeof(*x));
	read = peak.bytes_per_second * 1e-9;
	printf("reading %llu MiB in order           %8.2f GB/s\n", (unsigned long long)peak.n_bytes >> 20, read);
	for (enum ds_dtype dtype = DS_DTYPE_F32; dtype < DS_N_DTYPES; dtype++) {
		uint64_t a_row = ds_row_size(dtype, WIDTH);
		struct ds_weight w = {weights, dtype, 0, 1, size / a_row, WIDTH, NULL};

		if (dtype == DS_DTYPE_MXFP4)
			fill_mxfp4(weights, size);
		for (uint32_t n = 1; n <= DS_KERNEL_ROWS; n *= 2) {
			struct product p = {.self = cpu, .op = {.y = y, .x = x, .w = &w, .n = n}};
			double took = fastest(cpu, by_backend, &p), speed = (double)(w.rows * a_row) / took * 1e-9;
			double values = (double)w.rows * WIDTH / took * 1e-9;

			floats = n == 1 && dtype == DS_DTYPE_F32 ? values : floats;
			bfloats = n == 1 && dtype == DS_DTYPE_BF16 ? values : bfloats;
			printf("weights of %-6s, %u rows at once  %8.2f GB/s %6.2f of reading %8.1f GFLOP/s",
			       ds_dtype_info(dtype)->name, n, speed, speed / read, values * 2 * n);
			if (n == 1 && !ds_dtype_is_float(dtype))
				printf(", a matrix %.2f times as fast as of F32, %.2f as of BF16", values / floats,
				       values / bfloats);
			printf("\n");
		}
		if (dtype == DS_DTYPE_MXFP4)
			fill(weights, size);
	}
	ops->release(cpu, weights);
	ops->release(cpu, x);
	ops->release(cpu, y);
}

static void bench_prefill(struct ds_cpu *cpu, enum ds_dtype dtype, size_t rows, size_t cols)
{
	static const uint32_t row_counts[] = {8, 16, 32, 64, 128, 256, 512};
	void *narrow = ops->alloc(cpu, rows * ds_row_size(dtype, cols));
	float *wide = ops->alloc(cpu, rows * cols * 4), *x = ops->alloc(cpu, 512 * cols * 4);
	float *y = ops->alloc(cpu, 512 * rows * 4);
	struct ds_weight w = {narrow, dtype, 0, 1, rows, cols, NULL};

	fill(narrow, rows * ds_row_size(dtype, cols));
	fill(wide, rows * cols * 4);
	fill(x, 512 * cols * 4);
	for (size_t i = 0; i < DS_ARRAY_SIZE(row_counts); i++) {
		struct product p = {.self = cpu, .op = {.y = y, .x = x, .w = &w, .n = row_counts[i]}, .w = wide};
		double work = 2e-9 * (double)(rows * cols) * row_counts[i];
		double ours = work / fastest(cpu, by_backend, &p), plain = work / fastest(cpu, by_sgemm, &p);

		printf("%3u rows through %zux%zu of %-6s  %8.1f GFLOP/s, sgemm on a thread %8.1f, ratio %.2f\n",
		       row_counts[i], rows, cols, ds_dtype_info(dtype)->name, ours, plain,
		       ours / plain / ds_team_size(cpu->team));
	}
	ops->release(cpu, narrow);
	ops->release(cpu, wide);
	ops->release(cpu, x);
	ops->release(cpu, y);
}

int main(int argc, char **argv)
{
	unsigned n_threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	size_t size = (argc > 2 ? strtoul(argv[2], NULL, 10) : 128) << 20;
	struct ds_error err;
	void *self;

	if (!size || ops->open(&self, NULL, NULL, &err) < 0 || ops->start(self, n_threads, &err) < 0) {
		fprintf(stderr, "%s\n", size ? err.text : "a positive number of mebibytes is needed");
		return 1;
	}
	printf("%s on %u threads; an empty job takes %.2f us\n", ops->identity(),
	       ds_team_size(((struct ds_cpu *)self)->team), fastest(self, thousand_jobs, self) * 1e3);
	bench_decode(self, size);
	bench_prefill(self, DS_DTYPE_BF16, 2048, 2048);
	bench_prefill(self, DS_DTYPE_BF16, 1024, 7168);
	bench_prefill(self, DS_DTYPE_Q8_0, 1024, 7168);
	bench_prefill(self, DS_DTYPE_Q4_K, 1024, 7168);
	ops->close(self);
	return 0;
}

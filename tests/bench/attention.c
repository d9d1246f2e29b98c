/* attention.c - what attention costs a step: decoding at several depths and prefill, for the shapes of published models
 * and every type of cache. Usage: attention [THREADS [WORD]]; only lines with WORD are measured.
 *
 * Each layer has its own cache and all of them are walked in turn, as in a step, so that the caches of the processor
 * help as little as there. Pages lie in random order. */
#include <deepseekd/backend.h>

#include <string.h>
#include <time.h>

#include "plugins/backend-cpu/cpu.h"

enum { PAGE = 16, PROMPT = 512, STEP = 256, BYTES = 320 << 20, MOST_ROUNDS = 201 };

static const struct ds_backend_ops *ops = &ds_cpu_ops;

struct shape {
	const char *name;
	uint32_t n_layers, n_heads, n_kv_heads, head_dim; /* n_kv_heads 0: latent, 512 + 64 */
};

static const struct shape shapes[] = {
	{"R1-Distill-Qwen-1.5B", 28, 12, 2, 128},
	{"R1-Distill-Llama-8B", 32, 32, 8, 128},
	{"DeepSeek-V2-Lite", 27, 16, 0, 0},
	{"DeepSeek-R1", 61, 128, 0, 0},
};

enum { LORA = 512, ROPE = 64 };

struct run {
	void *self;
	const struct shape *shape;
	uint32_t n_layers;
	struct ds_kv *keys, *values; /* [n_layers] */
	struct ds_rows rows;
	uint32_t positions[STEP];
	const uint32_t *tables[STEP];
	float *q, *y;
};

static clockid_t time_of = CLOCK_MONOTONIC;

static double now(void)
{
	struct timespec t;

	clock_gettime(time_of, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void attend(struct run *r, uint32_t layer)
{
	const struct shape *s = r->shape;

	if (s->n_kv_heads > 0)
		ops->attention(r->self, &(struct ds_attention){r->y, r->q, &r->keys[layer], &r->values[layer], &r->rows,
							       s->n_heads, s->n_kv_heads, s->head_dim, 0.09f});
	else
		ops->latent_attention(
			r->self, &(struct ds_latent_attention){r->y, r->q, r->q + (size_t)r->rows.n * s->n_heads * LORA,
							       s->n_heads * ROPE, ROPE, &r->keys[layer], &r->rows,
							       s->n_heads, LORA, ROPE, 0.07f});
}

static int by_value(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Seconds a layer: the median of some rounds through all layers, @n_rows ending at @depth. */
static double time_step(struct run *r, uint32_t n_rows, uint32_t depth)
{
	double took[MOST_ROUNDS], began = now();
	int round = 0;

	r->rows.n = n_rows;
	for (uint32_t i = 0; i < n_rows; i++)
		r->positions[i] = depth - n_rows + i;
	for (; round < 3 || (now() - began < 0.7 && round < MOST_ROUNDS); round++) {
		double begin = now();

		for (uint32_t layer = 0; layer < r->n_layers; layer++)
			attend(r, layer);
		took[round] = (now() - begin) / r->n_layers;
	}
	qsort(took, (size_t)round, sizeof(*took), by_value);
	return took[round / 2];
}

static void fill(struct run *r, const struct ds_kv *kv, uint32_t n_tokens)
{
	float *x = malloc(kv->width * sizeof(*x));
	uint32_t position = 0;
	uint32_t seed = 1;

	r->rows.n = 1;
	for (uint32_t t = 0; t < n_tokens; t++) {
		for (uint32_t i = 0; i < kv->width; i++) {
			seed = seed * 1664525u + 1013904223u;
			x[i] = (float)(int32_t)seed * 0x1p-31f;
		}
		r->positions[0] = position++;
		ops->kv_store(r->self, kv, x, kv->width, &r->rows);
	}
	free(x);
}

static uint32_t *scattered_pages(uint32_t n)
{
	uint32_t *pages = malloc(n * sizeof(*pages));

	for (uint32_t i = 0, seed = 7; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		pages[i] = pages[(seed >> 8) % (i + 1)];
		pages[(seed >> 8) % (i + 1)] = i;
	}
	return pages;
}

static void report(const struct run *r, const char *what, uint32_t n_rows, uint32_t depth, enum ds_dtype dtype)
{
	const struct shape *s = r->shape;
	double width = s->n_kv_heads ? 2.0 * s->n_kv_heads * s->head_dim : LORA + ROPE;
	double work = 2.0 * s->n_heads * (s->n_kv_heads ? 2 * s->head_dim : 2 * LORA + ROPE);
	double bytes = width * (double)ds_row_size(dtype, 1024) / 1024 * depth, seen = 0;
	double took = time_step((struct run *)r, n_rows, depth);

	for (uint32_t i = 0; i < n_rows; i++)
		seen += r->positions[i] + 1;
	printf("%-20s %-5s %-7s %5u %8.3f ms a layer %8.2f ms a step %7.2f GB/s %8.1f GFLOP/s\n", s->name,
	       ds_dtype_info(dtype)->name, what, depth, took * 1e3, took * 1e3 * s->n_layers, bytes / took * 1e-9,
	       seen * work / took * 1e-9);
	fflush(stdout);
}

static void bench(void *self, const struct shape *s, enum ds_dtype dtype, uint32_t depth)
{
	uint32_t width = s->n_kv_heads ? s->n_kv_heads * s->head_dim : LORA + ROPE, n_tables = s->n_kv_heads ? 2 : 1;
	uint32_t n_pages = (depth + PAGE - 1) / PAGE, *pages = scattered_pages(n_pages);
	uint64_t size = ds_row_size(dtype, width) * n_pages * PAGE;
	struct run r = {.self = self, .shape = s, .n_layers = (uint32_t)(BYTES / (n_tables * size))};

	r.n_layers = r.n_layers < 2 ? 2 : r.n_layers > s->n_layers ? s->n_layers : r.n_layers;
	r.rows = (struct ds_rows){.positions = r.positions, .pages = r.tables};
	for (uint32_t i = 0; i < STEP; i++)
		r.tables[i] = pages;
	r.keys = calloc(2 * r.n_layers, sizeof(*r.keys));
	r.values = r.keys + r.n_layers;
	for (uint32_t i = 0; i < n_tables * r.n_layers; i++) {
		r.keys[i] = (struct ds_kv){ops->alloc(self, size), dtype, PAGE, width};
		if (i == 0)
			fill(&r, &r.keys[i], depth);
		else
			memcpy(r.keys[i].data, r.keys[0].data, size);
	}
	r.q = ops->alloc(self, (uint64_t)STEP * s->n_heads * (LORA + ROPE) * sizeof(float));
	r.y = ops->alloc(self, (uint64_t)STEP * s->n_heads * LORA * sizeof(float));
	for (uint32_t i = 0; i < STEP * s->n_heads * (s->n_kv_heads ? s->head_dim : LORA + ROPE); i++)
		r.q[i] = (float)(i * 2654435761u >> 20) * 0x1p-11f - 1;
	if (depth == PROMPT) {
		report(&r, "prompt", STEP, STEP, dtype);
		report(&r, "prompt", STEP, PROMPT, dtype);
	}
	report(&r, "token", 1, depth, dtype);
	for (uint32_t i = 0; i < n_tables * r.n_layers; i++)
		ops->release(self, r.keys[i].data);
	ops->release(self, r.q);
	ops->release(self, r.y);
	free(r.keys);
	free(pages);
}

int main(int argc, char **argv)
{
	static const enum ds_dtype dtypes[] = {DS_DTYPE_F32, DS_DTYPE_F16, DS_DTYPE_BF16, DS_DTYPE_Q8_0};
	static const uint32_t depths[] = {1, PROMPT, 1024, 4096, 16384};
	struct ds_error err;
	void *self;

	if (ops->open(&self, NULL, NULL, &err) < 0 ||
	    ops->start(self, argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	/* one thread is timed by the processor time it got, so that others on the machine disturb less */
	if (ds_team_size(((struct ds_cpu *)self)->team) == 1)
		time_of = CLOCK_THREAD_CPUTIME_ID;
	for (size_t s = 0; s < DS_ARRAY_SIZE(shapes); s++)
		for (size_t t = 0; t < DS_ARRAY_SIZE(dtypes); t++)
			for (size_t d = 0; d < DS_ARRAY_SIZE(depths); d++) {
				char line[64];

				snprintf(line, sizeof(line), "%s %s %u", shapes[s].name, ds_dtype_info(dtypes[t])->name,
					 depths[d]);
				if ((argc <= 2 || strstr(line, argv[2])) &&
				    ((struct ds_cpu *)self)->kernels.narrow[dtypes[t]])
					bench(self, &shapes[s], dtypes[t], depths[d]);
			}
	ops->close(self);
	return 0;
}

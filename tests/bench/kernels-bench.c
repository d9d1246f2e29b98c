/* kernels-bench.c - how fast each kernel is with each instruction set, on one thread and on what fits the second cache, so
 * that it is the kernel that is timed and not memory. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kernels.h"
#include "plugins/backend-cpu/panels.h"
#include "tests/unit/random-blocks.h"

enum {
	ROWS = 64,
	COLS = 1024,
	N = ROWS * COLS,
	ROUNDS = 5,
	ROUND_NS = 2000000,
};

static float *floats[3]; /* N each */
static void *weights; /* (ROWS, COLS) of any type */
static void *panel; /* 16 rows of them */
static struct ds_tile tile[DS_TILE_PANELS];

/* What a kernel is called with: the type of its weights, how many rows at once. */
struct call {
	const struct ds_kernels *k;
	enum ds_dtype dtype;
	unsigned n;
};

static void run_matvec(const struct call *c)
{
	struct ds_matvec op = {.w = weights, .rows = ROWS, .cols = COLS, .pitch = COLS, .n = c->n};

	for (unsigned i = 0; i < c->n; i++) {
		op.x[i] = floats[0] + i * COLS;
		op.y[i] = floats[1] + i * ROWS;
	}
	c->k->matvec[c->dtype](&op);
}

static void run_widen(const struct call *c)
{
	c->k->widen[c->dtype](floats[1], weights, N);
}

static void run_narrow(const struct call *c)
{
	c->k->narrow[c->dtype](weights, floats[0], N);
}

static void run_sum_squares(const struct call *c)
{
	volatile double sum = c->k->sum_squares(floats[0], N);

	(void)sum;
}

static void run_scale_by(const struct call *c)
{
	c->k->scale_by(floats[1], floats[0], floats[2], 0.5f, N);
}

static void run_scale(const struct call *c)
{
	c->k->scale(floats[1], -1, N);
}

static void run_add_scaled(const struct call *c)
{
	c->k->add_scaled(floats[1], floats[0], 0.5f, N);
}

static void run_swiglu(const struct call *c)
{
	c->k->swiglu(floats[1], floats[0], floats[2], N);
}

static void run_rotate(const struct call *c)
{
	c->k->rotate(floats[1], floats[0], N / 2);
}

static void run_rotate_halves(const struct call *c)
{
	c->k->rotate_halves(floats[1], floats[0], N / 2);
}

static struct ds_codes codes_of(const struct call *c)
{
	return ds_codes_at(floats[2], COLS, c->n);
}

static void run_quantize(const struct call *c)
{
	struct ds_codes codes = codes_of(c);
	const float *x[DS_TILE_WIDTH];

	for (unsigned i = 0; i < c->n; i++)
		x[i] = floats[0] + i * COLS;
	c->k->tiles.quantize(&codes, x, COLS, ds_tile_type(c->dtype));
}

static void run_unpack(const struct call *c)
{
	for (unsigned p = 0; p < c->k->tiles.panels; p++)
		c->k->tiles.unpack[c->dtype](&tile[p], panel, COLS, 0, COLS / ds_dtype_info(c->dtype)->block);
}

static void run_product(const struct call *c)
{
	struct ds_tile_product op = {
		.tile = tile,
		.codes = codes_of(c),
		.cols = COLS,
		.n_rows = c->k->tiles.panels * DS_PANEL,
	};

	for (unsigned i = 0; i < c->n; i++)
		op.y[i] = floats[1] + i * ROWS;
	c->k->tiles.product[ds_tile_type(c->dtype).kind](&op);
}

static void run_few_product(const struct call *c)
{
	struct ds_few_product op = {.panels = panel, .cols = COLS, .codes = codes_of(c), .n_rows = DS_PANEL};

	for (unsigned i = 0; i < c->n; i++)
		op.y[i] = floats[1] + i * ROWS;
	c->k->tiles.few_product[c->dtype](&op);
}

/* A tile of 64 positions, as wide as a head. */
enum { HEAD = 128 };

static const struct ds_attend_kernels *attend_of(const struct call *c)
{
	return c->n <= DS_ATTEND_FEW ? &c->k->attend_few : &c->k->attend;
}

static struct ds_attend attend_op(const struct call *c)
{
	static const char *rows[DS_ATTEND_TILE];
	static struct ds_ahead ahead = {.n_reads = 1};
	static float *y[DS_ATTEND_QUERIES];
	unsigned lanes = attend_of(c)->lanes, n = (c->n + lanes - 1) / lanes * lanes;

	for (size_t t = 0; t < DS_ARRAY_SIZE(rows); t++)
		rows[t] = (const char *)weights + t * ds_row_size(c->dtype, HEAD);
	for (unsigned i = 0; i < c->n; i++)
		y[i] = floats[2] + i * HEAD;
	return (struct ds_attend){
		.n_positions = DS_ATTEND_TILE,
		.n_queries = c->n,
		.n = n,
		.key_cols = HEAD,
		.value_cols = HEAD,
		.keys = rows,
		.values = rows,
		.q = floats[0],
		.scores = floats[1],
		.top = floats[1] + N - n,
		.sum = floats[1] + N - 2 * n,
		.factor = floats[1] + N - 3 * n,
		.y = y,
		.ahead = &ahead,
	};
}

static void run_scores(const struct call *c)
{
	struct ds_attend op = attend_op(c);

	(c->dtype == DS_DTYPE_BF16 ? attend_of(c)->scores_bf16 : attend_of(c)->scores)(&op);
}

static void run_weigh(const struct call *c)
{
	struct ds_attend op = attend_op(c);

	attend_of(c)->weigh(&op);
}

static void run_attend_mix(const struct call *c)
{
	struct ds_attend op = attend_op(c);

	(c->dtype == DS_DTYPE_BF16 ? attend_of(c)->mix_bf16 : attend_of(c)->mix)(&op);
}

/* Those that come in types are timed for each that has them, those of tiles with the width of the variant; @n are the rows
 * at once. */
static const struct timed {
	const char *name;
	void (*run)(const struct call *c);
	enum { OF_NO_TYPE, OF_FLOATS, OF_ALL, OF_TILES, OF_CACHES } types;
	unsigned n[3];
} all_timed[] = {
	{"matvec", run_matvec, OF_ALL, {1, DS_KERNEL_ROWS}},
	{"widen", run_widen, OF_ALL, {1}},
	{"narrow", run_narrow, OF_FLOATS, {1}},
	{"sum_squares", run_sum_squares, OF_NO_TYPE, {1}},
	{"scale_by", run_scale_by, OF_NO_TYPE, {1}},
	{"scale", run_scale, OF_NO_TYPE, {1}},
	{"add_scaled", run_add_scaled, OF_NO_TYPE, {1}},
	{"swiglu", run_swiglu, OF_NO_TYPE, {1}},
	{"rotate", run_rotate, OF_NO_TYPE, {1}},
	{"rotate_halves", run_rotate_halves, OF_NO_TYPE, {1}},
	{"quantize", run_quantize, OF_TILES, {DS_TILE_WIDTH}},
	{"unpack", run_unpack, OF_TILES, {1}},
	{"product", run_product, OF_TILES, {1, DS_TILE_WIDTH}},
	{"few_product", run_few_product, OF_TILES, {1, 4, DS_TILE_WIDTH}},
	{"attend_scores", run_scores, OF_CACHES, {1, 16}},
	{"attend_weigh", run_weigh, OF_NO_TYPE, {1, 16}},
	{"attend_mix", run_attend_mix, OF_CACHES, {1, 16}},
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Elements of a row of activations that a call takes: of weights, or of the row itself. */
static double size_of(const struct timed *timed, const struct call *call)
{
	if (timed->run == run_weigh)
		return DS_ATTEND_TILE;
	if (timed->types == OF_CACHES)
		return DS_ATTEND_TILE * HEAD;
	if (timed->types != OF_TILES)
		return N;
	if (timed->run == run_few_product)
		return (double)DS_PANEL * COLS;
	return timed->run == run_quantize ? COLS : (double)call->k->tiles.panels * DS_PANEL * COLS;
}

/* Nanoseconds of a call: the best of some rounds, each of so many calls that it takes its time. */
static double time_of(const struct timed *timed, const struct call *call)
{
	double best = 0, begin = now(), took;
	size_t calls;

	timed->run(call);
	calls = (size_t)(ROUND_NS / (now() - begin + 1)) + 1;
	for (int i = 0; i < ROUNDS; i++) {
		/* Results are inputs of some kernels: they begin anew, moderate. */
		for (size_t e = 0; e < N; e++)
			floats[1][e] = (float)(e % 64) / 64;
		begin = now();
		for (size_t j = 0; j < calls; j++)
			timed->run(call);
		took = (now() - begin) / (double)calls;
		best = i == 0 || took < best ? took : best;
	}
	return best;
}

/* Weights of moderate size. */
static void fill_weights(enum ds_dtype dtype)
{
	size_t size = ds_dtype_info(dtype)->size;
	uint64_t seed = 1;

	if (ds_dtype_is_float(dtype)) {
		portable.narrow[dtype](weights, floats[0], N);
		return;
	}
	for (size_t i = 0; i < N / ds_dtype_info(dtype)->block; i++)
		fill_block((uint8_t *)weights + i * size, &block_types[dtype - DS_DTYPE_Q4_0], false, &seed);
	if (ds_tile_type(dtype).kind != DS_TILE_NONE)
		ds_panel_pack(dtype, COLS, DS_PANEL, weights, ds_row_size(dtype, COLS), panel);
}

/* Rows of a cache that are BF16 are for some sets only; those of others are widened first. */
static bool is_there(const struct timed *timed, const struct call *call)
{
	if (timed->types != OF_CACHES || call->dtype == DS_DTYPE_F32)
		return true;
	return call->dtype == DS_DTYPE_BF16 && attend_of(call)->scores_bf16;
}

/* A line: billions of weights or elements a second for each row at once, with each instruction set; and how often faster
 * than the portable one that is. */
static void print_speeds(const struct timed *timed, enum ds_dtype dtype, unsigned n)
{
	double first = 0;
	char name[64];

	if (timed->types == OF_NO_TYPE)
		snprintf(name, sizeof(name), "%s x%u", timed->name, n);
	else
		snprintf(name, sizeof(name), "%s %s x%u", timed->name, ds_dtype_info(dtype)->name, n);
	printf("%-20s", name);
	fill_weights(dtype);
	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		struct ds_kernels k;
		struct call call = {&k, dtype, n};
		unsigned most;
		double speed;

		if (!ds_isa_has(isa))
			continue;
		ds_kernels_init(&k, isa);
		most = timed->run == run_few_product ? k.tiles.few_width[dtype] : k.tiles.width;
		if (timed->types == OF_TILES && n > most)
			call.n = most;
		if (!is_there(timed, &call)) {
			printf("  %16s", "-");
			continue;
		}
		if (timed->run == run_product) {
			run_quantize(&call);
			run_unpack(&call);
		}
		speed = size_of(timed, &call) * call.n / time_of(timed, &call);
		first = first > 0 ? first : speed;
		printf("  %8.2f (%6.2f)", speed, speed / first);
		fflush(stdout);
	}
	printf("\n");
}

void bench_kernels(const char *wanted)
{
	weights = ending(3, N * sizeof(float));
	panel = ending(4, ds_panel_size(DS_DTYPE_Q8_0, COLS)); /* the largest of them */
	for (unsigned i = 0; i < DS_ARRAY_SIZE(floats); i++) {
		floats[i] = ending(i, N * sizeof(float));
		fill(floats[i], N, KIND_REAL, DS_DTYPE_F32);
	}
	printf("G elements/s (and times the portable)");
	for (enum ds_isa isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++)
		if (ds_isa_has(isa))
			printf("  %s", ds_isa_name(isa));
	printf("\n");
	for (size_t i = 0; i < DS_ARRAY_SIZE(all_timed); i++) {
		const struct timed *t = &all_timed[i];
		enum ds_dtype first = t->types == OF_TILES ? DS_DTYPE_Q4_0 : DS_DTYPE_F32;
		enum ds_dtype last = t->types == OF_ALL      ? DS_N_DTYPES - 1
				     : t->types == OF_TILES  ? DS_DTYPE_MXFP4
				     : t->types == OF_FLOATS || t->types == OF_CACHES ? DS_DTYPE_BF16
							     : DS_DTYPE_F32;

		if (strncmp(t->name, wanted, strlen(wanted)) != 0)
			continue;
		for (enum ds_dtype dtype = first; dtype <= last; dtype++)
			for (unsigned j = 0; j < DS_ARRAY_SIZE(t->n) && t->n[j]; j++)
				if (t->types != OF_CACHES || dtype != DS_DTYPE_F16)
					print_speeds(t, dtype, t->n[j]);
	}
}

/* bench.c - cases in turn, round after round, so that what else happens on the machine meets all of them alike. */
#include "bench.h"
#include "chain.h"
#include "engine.h"
#include "huge.h"
#include "kv.h"
#include "work.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum {
	MAX_CASES = 64,
	MAX_RUNS = 100,
	MAX_PEAKS = MAX_RUNS + 1,
	SAMPLES = 32, /* picks whose mean is the time of sampling */
};

struct bench_case {
	uint32_t prompt;		  /* 0: it goes on */
	uint32_t depth, sequences, steps; /* of one that goes on */
	double seconds[MAX_RUNS];
	unsigned n_runs;
	double spent;
};

struct bench {
	struct ds_engine *engine;
	struct ds_work work;
	struct bench_case cases[MAX_CASES];
	size_t n_cases;
	unsigned max_runs;
	double max_seconds; /* of a case */

	struct ds_kv_cache *cache;
	struct ds_page_table *tables; /* [engine->parallel] */
	uint32_t *tokens, *positions; /* [max_rows] */
	const uint32_t **pages;	      /* [max_rows] */
	uint32_t *indices;	      /* [DS_STEP_LOGITS] */
	float *logits;		      /* (DS_STEP_LOGITS, vocab) */
	uint32_t random;

	struct ds_peak peaks[MAX_PEAKS];
	unsigned n_peaks;
	double sampling; /* NAN: not known */
};

/* ---- the request ---- */

static int read_number(const json_t *object, const char *key, uint32_t max, uint32_t *out, struct ds_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (value && (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > max))
		return ds_fail(err, -EINVAL, "BENCH: %s is not a number from 1 to %u", key, max);
	*out = (uint32_t)json_integer_value(value);
	return 0;
}

static int read_case(const json_t *json, const struct ds_engine *engine, struct bench_case *c, struct ds_error *err)
{
	json_int_t depth = json_integer_value(json_object_get(json, "depth"));
	int r = read_number(json, "prompt", engine->context, &c->prompt, err);

	if (r == 0)
		r = read_number(json, "sequences", engine->parallel, &c->sequences, err);
	if (r == 0)
		r = read_number(json, "steps", engine->context, &c->steps, err);
	if (r < 0)
		return r;
	if (c->prompt > 0)
		return 0;
	if (c->sequences == 0 || c->steps == 0)
		return ds_fail(err, -EINVAL, "BENCH: a case has neither a prompt nor sequences and steps");
	if (depth < 0 || depth > (json_int_t)engine->context - c->steps)
		return ds_fail(err, -EINVAL, "BENCH: a depth of %lld and %u steps, the context has %u tokens",
			       (long long)depth, c->steps, engine->context);
	c->depth = (uint32_t)depth;
	return 0;
}

static int read_bench(struct bench *b, const json_t *json, struct ds_error *err)
{
	const json_t *cases = json_object_get(json, "cases"), *one;
	double seconds = json_number_value(json_object_get(json, "seconds"));
	uint32_t runs;
	size_t i;
	int r = read_number(json, "runs", MAX_RUNS, &runs, err);

	if (r < 0)
		return r;
	if (!json_is_array(cases) || json_array_size(cases) == 0 || json_array_size(cases) > MAX_CASES)
		return ds_fail(err, -EINVAL, "BENCH: %zu cases, 1 to %d can be", json_array_size(cases), MAX_CASES);
	b->max_runs = runs ? runs : 1;
	b->max_seconds = seconds;
	json_array_foreach (cases, i, one) {
		r = read_case(one, b->engine, &b->cases[i], err);
		if (r < 0)
			return r;
	}
	b->n_cases = json_array_size(cases);
	return 0;
}

/* ---- steps ---- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint32_t random_token(struct bench *b)
{
	b->random = b->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)b->random * b->engine->hparams->vocab >> 32);
}

static void set_row(struct bench *b, uint32_t row, uint32_t sequence, uint32_t position)
{
	b->tokens[row] = random_token(b);
	b->positions[row] = position;
	b->pages[row] = b->tables[sequence].pages;
}

static struct ds_rows rows_of(const struct bench *b, uint32_t n)
{
	return (struct ds_rows){.n = n, .tokens = b->tokens, .positions = b->positions, .pages = b->pages};
}

/* Run the @n rows that are set, and make the logits of those from @first on. */
static int run_step(struct bench *b, uint32_t n, uint32_t first, struct ds_error *err)
{
	const struct ds_engine *engine = b->engine;
	struct ds_rows rows = rows_of(b, n);
	int r = 0;

	engine->arch->forward(engine->model, &rows);
	while (first < n && r == 0) {
		uint32_t n_logits = n - first < DS_STEP_LOGITS ? n - first : DS_STEP_LOGITS;

		for (uint32_t i = 0; i < n_logits; i++)
			b->indices[i] = first + i;
		r = engine->arch->logits(engine->model, b->indices, n_logits, b->logits, err);
		first += n_logits;
	}
	return r < 0 ? r : engine->backend_ops->sync(engine->backend, err);
}

static int read_prompt(struct bench *b, uint32_t prompt, struct ds_error *err)
{
	int r = 0;

	for (uint32_t done = 0; done < prompt && r == 0;) {
		uint32_t n = prompt - done < DS_STEP_PROMPT_ROWS ? prompt - done : DS_STEP_PROMPT_ROWS;

		for (uint32_t i = 0; i < n; i++)
			set_row(b, i, 0, done + i);
		done += n;
		r = run_step(b, n, done < prompt ? n : n - 1, err);
	}
	return r;
}

static int go_on(struct bench *b, const struct bench_case *c, struct ds_error *err)
{
	int r = 0;

	for (uint32_t step = 0; step < c->steps && r == 0; step++) {
		for (uint32_t i = 0; i < c->sequences; i++)
			set_row(b, i, i, c->depth + step);
		r = run_step(b, c->sequences, 0, err);
	}
	return r;
}

static int run_case(struct bench *b, struct bench_case *c, struct ds_error *err)
{
	double begin = now();
	int r = c->prompt > 0 ? read_prompt(b, c->prompt, err) : go_on(b, c, err);

	if (r < 0)
		return r;
	c->seconds[c->n_runs] = now() - begin;
	c->spent += c->seconds[c->n_runs++];
	return 0;
}

/* ---- what is needed before ---- */

/* Tokens of @sequence in the longest of the cases. */
static uint32_t count_tokens(const struct bench *b, uint32_t sequence)
{
	uint32_t most = 0;

	for (size_t i = 0; i < b->n_cases; i++) {
		const struct bench_case *c = &b->cases[i];
		uint32_t n = c->prompt > 0 ? (sequence == 0 ? c->prompt : 0) :
			     sequence < c->sequences ? c->depth + c->steps : 0;

		most = n > most ? n : most;
	}
	return most;
}

/* Pages for @sequence, and noise in all of them: what was never written would not be memory yet. */
static int fill_sequence(struct bench *b, uint32_t sequence, struct ds_error *err)
{
	struct ds_page_table *table = &b->tables[sequence];
	uint32_t n_tokens = count_tokens(b, sequence);
	int r = ds_page_table_init(table, n_tokens, NULL, err);

	if (r == 0 && ds_kv_cache_reserve(b->cache, table, n_tokens) < 0)
		r = ds_fail(err, -ENOSPC, "a KV cache of %u pages is too small for the cases", b->engine->n_pages);
	for (uint32_t done = 0; done < n_tokens && r == 0;) {
		uint32_t n = n_tokens - done < DS_STEP_PROMPT_ROWS ? n_tokens - done : DS_STEP_PROMPT_ROWS;
		struct ds_rows rows = rows_of(b, n);

		for (uint32_t i = 0; i < n; i++)
			set_row(b, i, sequence, done + i);
		r = b->engine->arch->fill(b->engine->model, &rows, err);
		done += n;
	}
	return r;
}

static int take_memory(struct bench *b, struct ds_error *err)
{
	const struct ds_engine *engine = b->engine;
	size_t max_rows = DS_STEP_PROMPT_ROWS + engine->parallel;
	int r = ds_kv_cache_new(&b->cache, engine->n_pages, err);

	if (r < 0)
		return r;
	b->tables = calloc(engine->parallel, sizeof(*b->tables));
	b->tokens = calloc(max_rows, sizeof(*b->tokens));
	b->positions = calloc(max_rows, sizeof(*b->positions));
	b->pages = calloc(max_rows, sizeof(*b->pages));
	b->indices = calloc(DS_STEP_LOGITS, sizeof(*b->indices));
	b->logits = calloc((size_t)DS_STEP_LOGITS * engine->hparams->vocab, sizeof(*b->logits));
	if (!b->tables || !b->tokens || !b->positions || !b->pages || !b->indices || !b->logits)
		return ds_fail(err, -ENOMEM, "no memory for the steps of the model");
	for (uint32_t i = 0; i < engine->parallel && r == 0; i++)
		r = fill_sequence(b, i, err);
	return r;
}

static void bench_deinit(struct bench *b)
{
	for (uint32_t i = 0; b->tables && i < b->engine->parallel; i++)
		ds_page_table_deinit(&b->tables[i]);
	free(b->tables);
	free(b->tokens);
	free(b->positions);
	free(b->pages);
	free(b->indices);
	free(b->logits);
	ds_kv_cache_free(b->cache);
	ds_engine_free(b->engine);
}

/* ---- measuring ---- */

static int measure_peak(struct bench *b, struct ds_error *err)
{
	const struct ds_engine *engine = b->engine;
	enum ds_precision precision = engine->precision;

	if (!DS_BACKEND_HAS(engine->backend_ops, peak) || b->n_peaks == MAX_PEAKS)
		return 0;
	return engine->backend_ops->peak(engine->backend, b->work.dtype, precision, &b->peaks[b->n_peaks++], err);
}

static bool is_done(const struct bench *b, const struct bench_case *c)
{
	double last = c->n_runs > 0 ? c->seconds[c->n_runs - 1] : 0;

	return c->n_runs == b->max_runs || (c->n_runs > 0 && b->max_seconds > 0 && c->spent + last > b->max_seconds);
}

/* The first steps meet cold caches and memory that nobody touched: they are not timed. */
static int warm_up(struct bench *b, struct ds_error *err)
{
	int r = 0;

	for (size_t i = 0; i < b->n_cases && r == 0; i++) {
		struct bench_case c = b->cases[i];

		if (c.prompt > 0) {
			r = read_prompt(b, c.prompt < DS_STEP_PROMPT_ROWS ? c.prompt : DS_STEP_PROMPT_ROWS, err);
		} else {
			c.steps = 1;
			r = go_on(b, &c, err);
		}
	}
	return r;
}

static int run_rounds(struct bench *b, ds_bench_progress *progress, void *self, struct ds_error *err)
{
	uint64_t done = 0, total = (uint64_t)b->n_cases * b->max_runs;
	int r = measure_peak(b, err);

	for (unsigned round = 0; round < b->max_runs && r == 0; round++) {
		bool any = false;

		for (size_t i = 0; i < b->n_cases && r == 0; i++) {
			done++;
			if (is_done(b, &b->cases[i]))
				continue;
			any = true;
			r = run_case(b, &b->cases[i], err);
			if (r == 0)
				r = progress(self, done, total, err);
		}
		if (!any)
			break;
		if (r == 0)
			r = measure_peak(b, err);
	}
	return r;
}

/* With the model's sampling, on the logits that were made last. */
static int measure_sampling(struct bench *b, struct ds_error *err)
{
	ds_cleanup(ds_chain_freep) struct ds_chain *chain = NULL;
	ds_cleanup(ds_choice_freep) struct ds_choice *choice = NULL;
	struct ds_failure failure;
	double begin;
	int r = ds_choice_new(&choice, b->engine, err);

	if (r < 0)
		return r;
	if (ds_chain_new(&chain, b->engine, NULL, &failure) < 0)
		return ds_fail(err, -EINVAL, "sampling: %.200s", failure.error.text);
	ds_chain_pick(chain, b->logits, choice);
	begin = now();
	for (unsigned i = 0; i < SAMPLES; i++)
		ds_chain_accept(chain, ds_chain_pick(chain, b->logits, choice));
	b->sampling = (now() - begin) / SAMPLES;
	return 0;
}

/* ---- the answer ---- */

/* Bytes that a token's keys and values have in all layers; the block of multi-token prediction, which is not run, has as
 * many as a layer. */
static uint64_t cache_size_per_token(const struct bench *b)
{
	const struct ds_engine *engine = b->engine;
	const struct ds_hparams *h = engine->hparams;

	return engine->arch->kv_size(h, engine->kv_dtype) / (h->n_layers + (h->n_mtp > 0)) * h->n_layers;
}

/* Two for each parameter that a token meets, and for each of the output where logits are made. */
static double count_operations(const struct bench *b, const struct bench_case *c)
{
	double tokens = c->prompt > 0 ? c->prompt : (double)c->sequences * c->steps;
	double n_logits = c->prompt > 0 ? 1 : tokens;

	return 2 * (tokens * (double)b->work.parameters + n_logits * (double)b->work.output_parameters);
}

/* Bytes that the steps of a run must read: the weights once a step, and the cache of every sequence up to its row. How many
 * experts several rows share is not known before; the steps of a prompt are not bound by reading. -1: not known. */
static double count_size(const struct bench *b, const struct bench_case *c)
{
	double seen = (double)c->depth + ((double)c->steps + 1) / 2; /* rows of the cache that a step reads, in the mean */

	if (c->prompt > 0 || (b->engine->hparams->n_experts > 0 && c->sequences > 1))
		return -1;
	return c->steps * ((double)b->work.size + c->sequences * ((double)b->work.embedding_size +
								  seen * (double)cache_size_per_token(b)));
}

static json_t *case_json(const struct bench *b, const struct bench_case *c)
{
	json_t *seconds = json_array();
	double size = count_size(b, c);

	for (unsigned i = 0; i < c->n_runs; i++)
		json_array_append_new(seconds, json_real(c->seconds[i]));
	return json_pack("{s:I, s:o, s:f, s:o}", "tokens",
			 (json_int_t)(c->prompt > 0 ? c->prompt : (uint64_t)c->sequences * c->steps), "seconds", seconds,
			 "operations", count_operations(b, c), "size", size < 0 ? json_null() : json_real(size));
}

static json_t *answer_json(const struct bench *b)
{
	json_t *cases = json_array(), *peaks = json_array();

	for (size_t i = 0; i < b->n_cases; i++)
		json_array_append_new(cases, case_json(b, &b->cases[i]));
	for (unsigned i = 0; i < b->n_peaks; i++)
		json_array_append_new(peaks, json_pack("{s:f, s:I, s:f, s:s}", "bytes_per_second",
						       b->peaks[i].bytes_per_second, "size",
						       (json_int_t)b->peaks[i].n_bytes, "operations_per_second",
						       b->peaks[i].operations_per_second, "unit", b->peaks[i].unit));
	return json_pack("{s:o, s:o, s:f, s:s, s:s, s:s}", "cases", cases, "peaks", peaks, "sampling", b->sampling,
			 "backend", ds_image_backend(b->engine->image), "architecture", b->engine->arch->name, "dtype",
			 ds_dtype_info(b->work.dtype)->name);
}

static int run_all(struct bench *b, const json_t *json, ds_bench_progress *progress, void *self, struct ds_error *err)
{
	int r = read_bench(b, json_object_get(json, "bench"), err);

	if (r < 0)
		return r;
	b->work = ds_work_count(b->engine->image);
	ds_huge_collapse(b->engine->image);
	r = take_memory(b, err);
	if (r == 0)
		r = warm_up(b, err);
	if (r == 0)
		r = run_rounds(b, progress, self, err);
	if (r == 0)
		r = measure_sampling(b, err);
	return r;
}

int ds_bench(const struct ds_plugins *plugins, const struct ds_message *m, ds_bench_progress *progress, void *self,
	     json_t **answer, struct ds_error *err)
{
	json_t *json = json_loadb((const char *)m->data, m->size, JSON_REJECT_DUPLICATES, NULL);
	struct bench *b = calloc(1, sizeof(*b));
	int r;

	if (!b) {
		json_decref(json);
		return ds_fail(err, -ENOMEM, "no memory for a bench");
	}
	r = ds_engine_new(&b->engine, plugins, (const char *)m->data, m->size, m->fds, m->n_fds, err);
	if (r == 0)
		r = run_all(b, json, progress, self, err);
	if (r == 0)
		*answer = answer_json(b);
	if (r == 0 && !*answer)
		r = ds_fail(err, -ENOMEM, "no memory for the answer");
	bench_deinit(b);
	free(b);
	json_decref(json);
	return r;
}

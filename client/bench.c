/* bench.c - see bench.h.
 *
 * A share is of the best rate that anything reached: a probe that others disturbed must not make the model look good. What
 * is so small that caches may hold it says nothing of memory, and has no share. */
#include "bench.h"

#include <math.h>
#include <string.h>

enum {
	MAX_NUMBER = 1 << 24,
	MAX_SEQUENCES = 256,
	MIN_BATCH_STEPS = 16,
};

/* ---- the plan ---- */

/* The number at *@at, which moves behind it and the comma; -1: there is none. */
static long next_number(const char **at)
{
	char *end;
	long n = strtol(*at, &end, 10);

	if (end == *at || **at < '0' || **at > '9')
		return -1;
	if (*end == 'k' || *end == 'K') {
		n = n > MAX_NUMBER ? n : n * 1024;
		end++;
	}
	if (*end == ',' && end[1])
		end++;
	else if (*end)
		return -1;
	*at = end;
	return n;
}

static int read_list(struct ds_bench_plan *plan, const char *flag, const char *text, long min, long max,
		     void (*make)(struct ds_bench_case *c, uint32_t number, uint32_t n_tokens), uint32_t n_tokens,
		     struct ds_error *err)
{
	const char *at = text;

	if (strcmp(text, "none") == 0)
		return 0;
	do {
		long n = next_number(&at);

		if (n < min || n > max)
			return ds_fail(err, -EINVAL,
				       "--%s: %s is not a list of numbers from %ld to %ld such as %s, nor none", flag,
				       text, min, max, min > 0 ? "1,2,4" : "0,1k,4k");
		if (plan->n == DS_BENCH_CASES)
			return ds_fail(err, -EINVAL, "--%s: more than %d measurements in all", flag, DS_BENCH_CASES);
		make(&plan->cases[plan->n++], (uint32_t)n, n_tokens);
	} while (*at);
	return 0;
}

static void make_prefill(struct ds_bench_case *c, uint32_t number, uint32_t n_tokens)
{
	c->prompt = number;
	snprintf(c->name, sizeof(c->name), "pp%u", number);
}

static void make_decode(struct ds_bench_case *c, uint32_t number, uint32_t n_tokens)
{
	*c = (struct ds_bench_case){.depth = number, .sequences = 1, .steps = n_tokens};
	if (number > 0)
		snprintf(c->name, sizeof(c->name), "tg%u@%u", n_tokens, number);
	else
		snprintf(c->name, sizeof(c->name), "tg%u", n_tokens);
}

/* Together they make about as many tokens as one does. */
static void make_batch(struct ds_bench_case *c, uint32_t number, uint32_t n_tokens)
{
	uint32_t steps = n_tokens / number < MIN_BATCH_STEPS ? MIN_BATCH_STEPS : n_tokens / number;

	*c = (struct ds_bench_case){.sequences = number, .steps = steps < n_tokens ? steps : n_tokens};
	snprintf(c->name, sizeof(c->name), "tg%ux%u", c->steps, number);
}

int ds_bench_plan_make(struct ds_bench_plan *plan, const struct ds_bench_lists *l, struct ds_error *err)
{
	int r = read_list(plan, "prefill", l->prefill, 1, MAX_NUMBER, make_prefill, 0, err);

	if (r == 0)
		r = read_list(plan, "decode", l->decode, 0, MAX_NUMBER, make_decode, l->n_tokens, err);
	if (r == 0)
		r = read_list(plan, "batch", l->batch, 1, MAX_SEQUENCES, make_batch, l->n_tokens, err);
	if (r == 0 && plan->n == 0)
		return ds_fail(err, -EINVAL, "nothing is to be measured: all lists are none");
	return r;
}

static uint32_t tokens_of(const struct ds_bench_case *c)
{
	return c->prompt > 0 ? c->prompt : c->depth + c->steps;
}

static uint32_t sequences_of(const struct ds_bench_case *c)
{
	return c->prompt > 0 ? 1 : c->sequences;
}

static double need_of(const struct ds_bench_case *c)
{
	return (double)tokens_of(c) * sequences_of(c);
}

/* Tokens of cache that all cases need: each text is as long as the longest of its place. */
static double need_of_all(const struct ds_bench_plan *plan)
{
	double all = 0;

	for (uint32_t s = 0; s < MAX_SEQUENCES; s++) {
		uint32_t most = 0;

		for (size_t i = 0; i < plan->n; i++)
			if (sequences_of(&plan->cases[i]) > s && tokens_of(&plan->cases[i]) > most)
				most = tokens_of(&plan->cases[i]);
		all += most;
	}
	return all;
}

static void leave_out(struct ds_bench_plan *plan, size_t i, json_t *left_out, const char *reason)
{
	json_array_append_new(left_out,
			      json_pack("{s:s, s:s}", "name", plan->cases[i].name, "reason", reason));
	memmove(&plan->cases[i], &plan->cases[i + 1], (--plan->n - i) * sizeof(plan->cases[0]));
}

void ds_bench_plan_limit(struct ds_bench_plan *plan, uint64_t context, double kv_size, double available,
			 json_t *left_out)
{
	char reason[128], size[32];

	for (size_t i = 0; i < plan->n;) {
		if (tokens_of(&plan->cases[i]) > context) {
			snprintf(reason, sizeof(reason), "the model's context is %llu tokens",
				 (unsigned long long)context);
			leave_out(plan, i, left_out, reason);
		} else {
			i++;
		}
	}
	while (plan->n > 0 && need_of_all(plan) * kv_size > available) {
		size_t largest = 0;

		for (size_t i = 1; i < plan->n; i++)
			if (need_of(&plan->cases[i]) > need_of(&plan->cases[largest]))
				largest = i;
		snprintf(reason, sizeof(reason), "its cache of %s does not fit into memory",
			 ds_output_size(size, sizeof(size), need_of(&plan->cases[largest]) * kv_size));
		leave_out(plan, largest, left_out, reason);
	}
}

uint32_t ds_bench_plan_tokens(const struct ds_bench_plan *plan)
{
	uint32_t most = 0;

	for (size_t i = 0; i < plan->n; i++)
		most = tokens_of(&plan->cases[i]) > most ? tokens_of(&plan->cases[i]) : most;
	return most;
}

uint32_t ds_bench_plan_sequences(const struct ds_bench_plan *plan)
{
	uint32_t most = 1;

	for (size_t i = 0; i < plan->n; i++)
		most = sequences_of(&plan->cases[i]) > most ? sequences_of(&plan->cases[i]) : most;
	return most;
}

json_t *ds_bench_plan_json(const struct ds_bench_plan *plan)
{
	json_t *cases = json_array();

	for (size_t i = 0; i < plan->n; i++) {
		const struct ds_bench_case *c = &plan->cases[i];

		json_array_append_new(cases, c->prompt > 0 ?
			json_pack("{s:I}", "prompt", (json_int_t)c->prompt) :
			json_pack("{s:I, s:I, s:I}", "depth", (json_int_t)c->depth, "sequences",
				  (json_int_t)c->sequences, "steps", (json_int_t)c->steps));
	}
	if (json_array_size(cases) != plan->n) {
		json_decref(cases);
		return NULL;
	}
	return cases;
}

/* ---- the report ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double ds_bench_median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_value);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* A case as it was measured. */
struct measured {
	size_t n_runs;
	double fastest, median, slowest; /* seconds */
	double tokens, operations;	 /* of a run */
	double size;			 /* bytes that a run reads; -1: not known */
	double step_size;		 /* of them in a step */
};

/* The best rates that anything reached; 0: nothing is known. */
struct machine {
	double bytes, operations; /* a second */
	double probe_size;	  /* bytes; less may lie in a cache */
	const char *unit;
};

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static int read_case(const struct ds_bench_case *c, const json_t *json, struct measured *m, struct ds_error *err)
{
	const json_t *seconds = json_object_get(json, "seconds"), *one, *size = json_object_get(json, "size");
	ds_cleanup(ds_freep) double *values = calloc(json_array_size(seconds) + 1, sizeof(*values));
	size_t i;

	if (!values)
		return ds_fail(err, -ENOMEM, "no memory for a report");
	json_array_foreach (seconds, i, one)
		values[i] = json_number_value(one);
	*m = (struct measured){
		.n_runs = json_array_size(seconds),
		.tokens = number(json, "tokens"),
		.operations = number(json, "operations"),
		.size = json_is_number(size) ? json_number_value(size) : -1,
	};
	if (m->n_runs == 0 || !(m->tokens > 0) || !(m->operations > 0))
		return ds_fail(err, -EPROTO, "ds-engine: its answer about %s is not complete", c->name);
	m->median = ds_bench_median(values, m->n_runs);
	m->fastest = values[0];
	m->slowest = values[m->n_runs - 1];
	m->step_size = c->steps > 0 ? m->size / c->steps : -1;
	if (!(m->fastest > 0))
		return ds_fail(err, -EPROTO, "ds-engine: a run of %s that took no time", c->name);
	return 0;
}

static void read_peaks(const json_t *peaks, struct machine *machine)
{
	const json_t *peak;
	size_t i;

	json_array_foreach (peaks, i, peak) {
		machine->bytes = fmax(machine->bytes, number(peak, "bytes_per_second"));
		machine->operations = fmax(machine->operations, number(peak, "operations_per_second"));
		machine->probe_size = fmax(machine->probe_size, number(peak, "size"));
		machine->unit = json_string_value(json_object_get(peak, "unit"));
	}
}

/* Does a step of @m read so much that no cache can have helped? Without a probe nobody knows. */
static bool is_from_memory(const struct measured *m, const struct machine *machine)
{
	return machine->bytes > 0 && m->step_size > 0 && m->step_size >= machine->probe_size;
}

static void take_best(const struct measured *m, struct machine *machine)
{
	if (machine->operations > 0)
		machine->operations = fmax(machine->operations, m->operations / m->fastest);
	if (is_from_memory(m, machine))
		machine->bytes = fmax(machine->bytes, m->size / m->fastest);
}

/* @part of @all, which nothing may exceed; null where one of them is not known. */
static int add_share(json_t *json, const char *key, const char *name, double part, double all, struct ds_error *err)
{
	double share = part / all;

	if (!(all > 0))
		return json_object_set_new(json, key, json_null());
	if (!(share >= 0 && share <= 1))
		return ds_fail(err, -ERANGE, "%s: %s of %g: what was measured cannot be", name, key, share);
	return json_object_set_new(json, key, json_real(share));
}

static int report_case(const struct ds_bench_case *c, const struct measured *m, const struct machine *machine,
		       json_t *cases, struct ds_error *err)
{
	bool known = m->size >= 0;
	json_t *json = json_pack(
		"{s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "name", c->name, "tokens", m->tokens,
		"runs", (json_int_t)m->n_runs, "seconds", m->median, "tokens_per_second", m->tokens / m->median, "fastest",
		m->tokens / m->fastest, "slowest", m->tokens / m->slowest, "spread", (m->slowest - m->fastest) / m->median,
		"operations_per_token", m->operations / m->tokens, "operations_per_second", m->operations / m->median,
		"bytes_per_token", known ? json_real(m->size / m->tokens) : json_null(), "bytes_per_second",
		known ? json_real(m->size / m->median) : json_null());
	int r;

	if (json_array_append_new(cases, json) < 0)
		return ds_fail(err, -ENOMEM, "no memory for a report");
	r = add_share(json, "operations_share", c->name, m->operations / m->median, machine->operations, err);
	if (r == 0)
		r = add_share(json, "bandwidth_share", c->name, m->size / m->median,
			      is_from_memory(m, machine) ? machine->bytes : 0, err);
	return r;
}

/* What sampling adds to the step of the first case that decodes; null without one. */
static json_t *sampling_share(const struct ds_bench_plan *plan, const struct measured *measured, const json_t *answer)
{
	double seconds = number(answer, "sampling");

	for (size_t i = 0; i < plan->n; i++)
		if (plan->cases[i].prompt == 0)
			return json_real(seconds * plan->cases[i].sequences /
					 (measured[i].median / plan->cases[i].steps));
	return json_null();
}

int ds_bench_report(const struct ds_bench_plan *plan, const json_t *answer, json_t **report, struct ds_error *err)
{
	const json_t *list = json_object_get(answer, "cases");
	struct measured measured[DS_BENCH_CASES];
	struct machine machine = {0};
	json_t *cases = json_array();
	int r = 0;

	if (json_array_size(list) != plan->n)
		r = ds_fail(err, -EPROTO, "ds-engine: %zu of %zu measurements", json_array_size(list), plan->n);
	read_peaks(json_object_get(answer, "peaks"), &machine);
	for (size_t i = 0; i < plan->n && r == 0; i++)
		r = read_case(&plan->cases[i], json_array_get(list, i), &measured[i], err);
	for (size_t i = 0; i < plan->n && r == 0; i++)
		take_best(&measured[i], &machine);
	for (size_t i = 0; i < plan->n && r == 0; i++)
		r = report_case(&plan->cases[i], &measured[i], &machine, cases, err);
	if (r < 0) {
		json_decref(cases);
		return r;
	}
	*report = json_pack("{s:{s:f, s:f, s:s?, s:f}, s:o, s:o}", "machine", "bytes_per_second", machine.bytes,
			    "operations_per_second", machine.operations, "unit", machine.unit, "probe_size",
			    machine.probe_size, "cases", cases, "sampling_share",
			    sampling_share(plan, measured, answer));
	return *report ? 0 : ds_fail(err, -ENOMEM, "no memory for a report");
}

/* ---- for people ---- */

static void add_percent(struct ds_table *t, const json_t *json, const char *key)
{
	const json_t *value = json_object_get(json, key);

	if (json_is_number(value))
		ds_table_add(t, "%.1f%%", 100 * json_number_value(value));
	else
		ds_table_add(t, "%s", "");
}

static void add_giga(struct ds_table *t, const json_t *json, const char *key)
{
	const json_t *value = json_object_get(json, key);

	if (json_is_number(value))
		ds_table_add(t, "%.1f", json_number_value(value) * 1e-9);
	else
		ds_table_add(t, "%s", "");
}

void ds_bench_table(struct ds_table *t, const json_t *report)
{
	static const char *const heads[] = {"TEST", "RUNS", "TOKENS/S", "SPREAD", "READ/TOKEN", "GB/S", "SHARE",
					    "GOP/S", "SHARE"};
	const json_t *one;
	char size[32];
	size_t i;

	t->n_columns = DS_ARRAY_SIZE(heads);
	for (i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(t, "%s", heads[i]);
	json_array_foreach (json_object_get(report, "cases"), i, one) {
		ds_table_add(t, "%s", json_string_value(json_object_get(one, "name")));
		ds_table_add(t, "%.0f", number(one, "runs"));
		ds_table_add(t, "%.2f", number(one, "tokens_per_second"));
		add_percent(t, one, "spread");
		ds_table_add(t, "%s", ds_output_size(size, sizeof(size), number(one, "bytes_per_token")));
		add_giga(t, one, "bytes_per_second");
		add_percent(t, one, "bandwidth_share");
		add_giga(t, one, "operations_per_second");
		add_percent(t, one, "operations_share");
	}
}

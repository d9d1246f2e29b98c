/* bench.h - what dsctl bench measures, and what it makes of the numbers: medians, rates, shares of the machine. Nothing is
 * run here. */
#pragma once

#include "output.h"

#define DS_BENCH_CASES 64

/* A text of @prompt tokens that is read, or, with 0, @sequences texts that go on for @steps tokens after @depth. */
struct ds_bench_case {
	char name[32];
	uint32_t prompt, depth, sequences, steps;
};

struct ds_bench_plan {
	struct ds_bench_case cases[DS_BENCH_CASES];
	size_t n;
};

/* What the command line asks for: numbers with commas between them, "4k" being 4096; "none". */
struct ds_bench_lists {
	const char *prefill; /* lengths */
	const char *decode;  /* depths */
	const char *batch;   /* numbers of texts */
	uint32_t n_tokens;   /* of a decoding run */
};

/* Fill a zeroed @plan. -EINVAL: not a list, or too long a one. */
int ds_bench_plan_make(struct ds_bench_plan *plan, const struct ds_bench_lists *lists, struct ds_error *err);

/* Leave those out that do not fit into @context tokens, or whose cache, of @kv_size bytes a token, does not fit into
 * @available bytes; each is added to the array @left_out as {"name", "reason"}. */
void ds_bench_plan_limit(struct ds_bench_plan *plan, uint64_t context, double kv_size, double available,
			 json_t *left_out);

/* The most tokens that a text of @plan has, and the most texts of a step. */
uint32_t ds_bench_plan_tokens(const struct ds_bench_plan *plan);
uint32_t ds_bench_plan_sequences(const struct ds_bench_plan *plan);
/* [{"prompt"} or {"depth", "sequences", "steps"}...]; NULL: no memory. */
json_t *ds_bench_plan_json(const struct ds_bench_plan *plan);

/* Of @n > 0 values: the middle one in order, or the mean of the two middle ones. Reorders them. */
double ds_bench_median(double *values, size_t n);

/* From the engine's @answer about @plan: {"machine": {"bytes_per_second", "operations_per_second", "unit", "probe_size"},
 * "cases": [{"name", "tokens", "runs", "seconds", "tokens_per_second", "spread", ...}...], "sampling_share"} (docs/dsctl.1).
 * The machine's rates are the best of the probes and of all runs. -ERANGE: a share of more than all.
 * -EPROTO: @answer is not one about @plan. */
int ds_bench_report(const struct ds_bench_plan *plan, const json_t *answer, json_t **report, struct ds_error *err);

/* The cases of @report as a table. */
void ds_bench_table(struct ds_table *t, const json_t *report);

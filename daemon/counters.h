/* counters.h - what is counted of a model, for metrics and status. Plain numbers: nothing here allocates or waits. */
#pragma once

#include <deepseekd/base.h>

/* Kinds of requests. */
enum ds_kind {
	DS_KIND_GENERATE,
	DS_KIND_EVALUATE,
	DS_KIND_TOKENIZE,
	DS_KIND_RENDER,
	DS_N_KINDS,
};

/* How a request ended. A code that an engine invents is DS_OUTCOME_FAILED, so that it can't make new series. */
enum ds_outcome {
	DS_OUTCOME_STOP,
	DS_OUTCOME_LENGTH,
	DS_OUTCOME_TOOL_CALLS,
	DS_OUTCOME_CANCELLED, /* its client left, or its model */
	DS_OUTCOME_INVALID,
	DS_OUTCOME_TOO_LONG, /* for the context */
	DS_OUTCOME_OVERLOADED,
	DS_OUTCOME_MODEL_FAILED,
	DS_OUTCOME_ENGINE_DIED,
	DS_OUTCOME_SHUTTING_DOWN,
	DS_OUTCOME_FAILED,
	DS_N_OUTCOMES,
};

#define DS_N_BUCKETS 17

/* Of durations: n[i] of those up to ds_bucket_usec[i] and above the one before; the last of those above all. */
struct ds_histogram {
	uint64_t n[DS_N_BUCKETS + 1];
	uint64_t sum_usec;
};

struct ds_counters {
	uint64_t requests[DS_N_KINDS][DS_N_OUTCOMES];
	uint64_t prompt_tokens, cached_tokens; /* the cached ones are among those of prompts */
	uint64_t completion_tokens;
	uint64_t ahead; /* by how much completion_tokens is above what usages say: more pieces came than tokens */
	uint64_t failures, engine_deaths;
	struct ds_histogram queue;       /* arrival to an engine's slot */
	struct ds_histogram first_token; /* arrival to the first output */
	struct ds_histogram gap;         /* between an output and the next of the same request */
	struct ds_histogram duration;    /* arrival to the end */
};

extern const uint64_t ds_bucket_usec[DS_N_BUCKETS];
extern const char *const ds_kind_names[DS_N_KINDS];
extern const char *const ds_outcome_names[DS_N_OUTCOMES];

/* By the code of an error; never one of a success. */
enum ds_outcome ds_outcome_of_code(const char *code);

void ds_histogram_add(struct ds_histogram *h, uint64_t usec);

/* One piece of output came, most likely one token. Then, at the end of a request that saw @n_pieces, its @n_tokens:
 * completion_tokens never goes down, and completion_tokens - ahead is exact. */
void ds_counters_add_output(struct ds_counters *counters);
void ds_counters_settle_output(struct ds_counters *counters, uint64_t n_pieces, uint64_t n_tokens);

/* counters.c - histograms, and sums that only grow. */
#include "counters.h"

#include <string.h>

/* 1 ms to 5 min: the gaps of a small model on a fast machine, the answer of a large one on a slow machine. */
const uint64_t ds_bucket_usec[DS_N_BUCKETS] = {
	1000,    2500,    5000,    10000,    25000,    50000,    100000,    250000,    500000,
	1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000,
};

const char *const ds_kind_names[DS_N_KINDS] = {
	[DS_KIND_GENERATE] = "generate",
	[DS_KIND_EVALUATE] = "evaluate",
	[DS_KIND_TOKENIZE] = "tokenize",
	[DS_KIND_RENDER] = "render",
};

/* From DS_OUTCOME_CANCELLED on they are the codes of errors. */
const char *const ds_outcome_names[DS_N_OUTCOMES] = {
	[DS_OUTCOME_STOP] = "stop",
	[DS_OUTCOME_LENGTH] = "length",
	[DS_OUTCOME_TOOL_CALLS] = "tool_calls",
	[DS_OUTCOME_CANCELLED] = "cancelled",
	[DS_OUTCOME_INVALID] = "invalid_request",
	[DS_OUTCOME_TOO_LONG] = "context_length_exceeded",
	[DS_OUTCOME_OVERLOADED] = "overloaded",
	[DS_OUTCOME_MODEL_FAILED] = "model_failed",
	[DS_OUTCOME_ENGINE_DIED] = "engine_died",
	[DS_OUTCOME_SHUTTING_DOWN] = "shutting_down",
	[DS_OUTCOME_FAILED] = "failed",
};

enum ds_outcome ds_outcome_of_code(const char *code)
{
	for (enum ds_outcome o = DS_OUTCOME_CANCELLED; o < DS_N_OUTCOMES; o++)
		if (code && !strcmp(code, ds_outcome_names[o]))
			return o;
	return DS_OUTCOME_FAILED;
}

void ds_histogram_add(struct ds_histogram *h, uint64_t usec)
{
	size_t i = 0;

	while (i < DS_N_BUCKETS && usec > ds_bucket_usec[i])
		i++;
	h->n[i]++;
	h->sum_usec += usec;
}

void ds_counters_add_output(struct ds_counters *counters)
{
	if (counters->ahead > 0)
		counters->ahead--;
	else
		counters->completion_tokens++;
}

void ds_counters_settle_output(struct ds_counters *counters, uint64_t n_pieces, uint64_t n_tokens)
{
	uint64_t missing;

	if (n_tokens <= n_pieces) { /* a token may be several pieces: the name and the arguments of a tool */
		counters->ahead += n_pieces - n_tokens;
		return;
	}
	missing = n_tokens - n_pieces;
	if (missing <= counters->ahead) {
		counters->ahead -= missing;
		return;
	}
	counters->completion_tokens += missing - counters->ahead;
	counters->ahead = 0;
}

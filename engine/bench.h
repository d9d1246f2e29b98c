/* bench.h - measures the model as it serves, without anybody to serve: what dsctl bench asks.
 *
 * BENCH carries what MAP does, and "bench": {"cases": [...], "runs": most runs of a case, "seconds": after so many a case
 * is not run again, 0: no limit}. A case is {"prompt": tokens of a text that is read} or {"depth": tokens before, "sequences",
 * "steps": tokens that each goes on for}. Steps are the service's: DS_STEP_PROMPT_ROWS rows of a text, a row a sequence that
 * goes on, logits where they are sampled. What lies before them in the cache has been written, with noise.
 *
 * The answer: {"cases": [{"tokens", "seconds": [of each run], "operations", "size" of a run: bytes of weights and of cache
 * that its steps must read, null where nobody knows}...], "peaks": [{"bytes_per_second", "size", "operations_per_second",
 * "unit"}...], "sampling": seconds a token or null, "backend", "architecture", "dtype" of most weights}. Sampling is in no
 * other time. */
#pragma once

#include "message.h"
#include "plugins.h"

typedef int ds_bench_progress(void *self, uint64_t done, uint64_t total, struct ds_error *err);

/* Take @m, a BENCH with its descriptors. On success *@answer is a new reference. */
int ds_bench(const struct ds_plugins *plugins, const struct ds_message *m, ds_bench_progress *progress, void *self,
	     json_t **answer, struct ds_error *err);

/* budget.h - what a model takes of memory, what there is of it, and the context that fits.
 *
 * A model is promised its whole KV cache, `parallel` texts of `context` tokens in whole pages. Without a configured context
 * it gets the largest one that fits, so that a model made for very long texts serves on any machine that holds its
 * weights. Used memory is what the broker promised (limits.memory) and what the machine, or a control group of the
 * broker's, has left. */
#pragma once

#include <message.h>

/* What a model takes, in bytes. */
struct ds_budget_need {
	uint64_t image, kv, scratch;
	uint64_t mapped;	    /* weights that stay in their files: told, not counted */
	uint64_t context, parallel; /* what the KV cache is for: so many texts of so many tokens */
};

/* What is asked for a model, and how much there may be. */
struct ds_budget_ask {
	const struct ds_plan *plan;
	uint64_t context;     /* as configured; 0: the largest that fits */
	uint64_t parallel;
	uint64_t limit, held; /* limits.memory, and what other models hold of it */
	bool present;	      /* the image is in memory already */
};

/* Image, KV cache and scratch. UINT64_MAX: more than that. */
uint64_t ds_budget_need_sum(const struct ds_budget_need *need);

/* What the model of @ask gets when @available bytes are left (0: not known). Without a configured context: the model's own,
 * or what fits into what limits.memory leaves and four fifths of what is available, in whole pages, but never less than
 * 4096 or the model's own. -ENOMEM with all the numbers: it does not fit. */
int ds_budget_grant(struct ds_budget_need *need, const struct ds_budget_ask *ask, uint64_t available,
		    struct ds_error *err);

/* Bytes that could be used now without swapping: of the machine, or of the tightest memory control group (version 1 or 2)
 * that this process is in, or its ancestors. @root: where /proc and /sys lie, "" outside of tests. 0: not known. */
uint64_t ds_budget_available(const char *root);

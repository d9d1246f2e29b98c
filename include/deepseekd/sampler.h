/* sampler.h - from logits to the next token: a chain of steps, the last of which picks.
 *
 * Each entry of a sampler plugin is one step. The engine runs the entries of the configured plugins in the order in
 * which they are listed; a step whose active() says no for the given settings is left out of the chain.
 *
 * Vectors: input {"settings": {...}, "seed": N, "logits": [...], "history": [...]}; output {"ids": [...]} (candidates
 * left, in order of id), {"logits": [...]} (of those, same order, compared to 1e-5) and/or {"picked": id}. */
#pragma once

#include "model.h" /* DS_NO_TOKEN */
#include "plugin.h"

/* The tokens still in question, in columns, so that a step runs through what it needs at the speed of vectors. A step drops
 * tokens (by moving what stays to the front, in its order, and lowering n) or changes logits. */
struct ds_candidates {
	uint32_t *ids;	/* [n] */
	float *logits;	/* [n] */
	float *weights; /* [n], scratch of a step */
	size_t n;	/* never 0, and at most the vocabulary */
	bool sorted;	/* by falling logit; ties by rising id */
	uint32_t picked; /* set by the last step, DS_NO_TOKEN before */
};

struct ds_sampler_ops {
	size_t size;
	/* Does this step do anything under these settings? */
	bool (*active)(const struct ds_setting *settings);
	/* @settings are copied if needed later. All memory a step needs is taken here: apply never allocates. */
	int (*open)(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		    size_t vocab, struct ds_error *err);
	/* A token became part of the sequence: first the prompt's, then what was picked. Optional. */
	void (*accept)(void *self, uint32_t id);
	void (*apply)(void *self, struct ds_candidates *candidates);
	void (*close)(void *self);
};

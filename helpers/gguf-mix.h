/* gguf-mix.h - which type each tensor of a quantised file gets: the mixes that people know by name (Q4_K_M), as the
 * most used quantiser composes them. */
#pragma once

#include <deepseekd/model.h>

struct ds_mix {
	const char *name;   /* as people write it, in lower case */
	uint32_t file_type; /* general.file_type */
	enum ds_dtype base;
};

/* NULL: there is none of this name. */
const struct ds_mix *ds_mix_find(const char *name);
/* "q4_k_m, q4_k_s, ..." */
const char *ds_mix_names(char *text, size_t size);

/* The type of the tensor @name (canonical) of rows of @cols elements, in a model of hyperparameters @h.
 * @tied: there is no output matrix, the embedding takes its place. */
enum ds_dtype ds_mix_type(const struct ds_mix *mix, const struct ds_hparams *h, const char *name, uint32_t n_dims,
			  uint64_t cols, bool tied);

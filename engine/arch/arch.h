/* arch.h - a model architecture: a forward pass in terms of backend operations, chosen by the name in the image.
 *
 * An architecture binds the image's tensors, checks every shape, takes all memory it will ever need, and from then on
 * computes steps. Everything in the image is untrusted: what does not fit is refused with the tensor's or the
 * hyperparameter's name. Used by the compute thread alone. */
#pragma once

#include "image.h"
#include <deepseekd/backend.h>

struct ds_arch_setup {
	const struct ds_image *image;
	const struct ds_backend_ops *ops;
	void *backend; /* self of @ops; the image is mapped already */
	enum ds_precision precision;
	enum ds_dtype kv_dtype;
	uint32_t n_pages, page_tokens; /* of the KV cache */
	uint32_t max_rows;	       /* of a step */
	uint32_t max_logits;	       /* rows of one call of logits() */
};

struct ds_arch {
	const char *name;
	/* Are the hyperparameters sane? Checked before anything is computed from them. */
	int (*check)(const struct ds_hparams *hparams, struct ds_error *err);
	/* Bytes of KV cache a token takes in all layers. */
	uint64_t (*kv_size)(const struct ds_hparams *hparams, enum ds_dtype kv_dtype);
	int (*open)(void **self, const struct ds_arch_setup *setup, struct ds_error *err);
	void (*close)(void *self); /* takes NULL */

	/* Compute @rows: their keys and values enter the cache, their final states are kept until the next call. */
	void (*forward)(void *self, const struct ds_rows *rows);
	/* Run the first multi-token-prediction block on states @indices of the last forward(), which stay; rows->tokens
	 * are the tokens that follow. Only if hparams.n_mtp is not 0. */
	void (*draft)(void *self, const struct ds_rows *rows, const uint32_t *indices);
	/* The logits of states @indices of the last forward() or draft(): @logits is (n, vocab) in host memory, n <=
	 * max_logits. Waits for all before it. */
	int (*logits)(void *self, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err);
	/* Write noise as the keys and values of @rows in every layer, as if a text were there: for measuring, not in a step.
	 * Takes memory meanwhile. */
	int (*fill)(void *self, const struct ds_rows *rows, struct ds_error *err);
};

/* The architecture of @hparams, checked, or NULL with the sentence. */
const struct ds_arch *ds_arch_find(const struct ds_hparams *hparams, struct ds_error *err);

extern const struct ds_arch ds_arch_deepseek;
extern const struct ds_arch ds_arch_llama;

/* Find tensor @name of the image as a weight of (n_experts, rows, cols), or (rows, cols) when @n_experts is 0, or (rows)
 * when @cols is 0 too, and check all that is known of it. */
struct ds_bind {
	const struct ds_arch_setup *setup;
	struct ds_error *err;
	int result; /* the first failure; later calls do nothing */
};

__attribute__((format(printf, 6, 7)))
void ds_bind_weight(struct ds_bind *bind, struct ds_weight *weight, uint64_t n_experts, uint64_t rows, uint64_t cols,
		    const char *name, ...);
/* A vector of @n float32. */
__attribute__((format(printf, 4, 5)))
void ds_bind_vector(struct ds_bind *bind, const float **vector, uint64_t n, const char *name, ...);
/* The same if the image has it; else *@vector stays. */
__attribute__((format(printf, 4, 5)))
void ds_bind_optional_vector(struct ds_bind *bind, const float **vector, uint64_t n, const char *name, ...);
/* Zeroed memory of the backend, (n, width) of @element_size bytes. */
void *ds_bind_alloc(struct ds_bind *bind, uint64_t n, uint64_t width, uint64_t element_size);

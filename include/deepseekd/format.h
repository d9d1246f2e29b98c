/* format.h - a checkpoint format: finds hyperparameters, vocabulary and tensors in files it is handed.
 *
 * A format plugin reads metadata only (with pread, from the descriptors it is given). For weights it says where they
 * lie; the loader reads, converts and packs them. It runs in ds-loader, sandboxed, on bytes nobody vouches for.
 *
 * Vectors: input {"files": {NAME: {"text": "..."} or {"hex": "..."}}}; output {"architecture": "...", "dialect": "...",
 * "tensors": {CANONICAL NAME: [shape...]}, "n_tokens": N} or {"error": "part of the sentence"}. */
#pragma once

#include "model.h"
#include "plugin.h"

struct ds_file {
	const char *name; /* base name, for example model-00001-of-00002.safetensors */
	int fd;		  /* readable, regular */
	uint64_t size;
};

/* A rectangle of one tensor and where its elements lie. The tensor's shape is flattened to (rows, cols), cols being the
 * last dimension; the part fills rows [row, row + n_rows). */
struct ds_part {
	uint32_t tensor; /* the index that tensor() gave */
	uint64_t row, n_rows;
	uint32_t file;	 /* index into the files */
	uint64_t offset; /* of the first element in the file */
	enum ds_dtype dtype; /* in the file; F16 and BF16 widen to a F32 tensor exactly, no other conversion exists */
	bool transposed;     /* the file holds (cols, n_rows) */
};

/* What the loader offers while a checkpoint is described. Every call copies what it is given.
 * The loader checks bounds, overlaps and completeness; errors come back as sentences. */
struct ds_builder {
	size_t size;
	void *self;
	int (*hparams)(void *self, const struct ds_hparams *hparams, struct ds_error *err);
	int (*vocabulary)(void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err); /* optional call */
	int (*dialect)(void *self, const char *name, struct ds_error *err);			     /* optional call */
	int (*tensor)(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err);
	int (*part)(void *self, const struct ds_part *part, struct ds_error *err);
};

struct ds_format_ops {
	size_t size;
	/* True if the files look like this format; decides by names and magic numbers alone. */
	bool (*recognizes)(const struct ds_file *files, size_t n_files);
	/* Describe the whole checkpoint to @builder. Errors name the file, and the key or tensor.
	 * -EINVAL: malformed; -ENOTSUP: well-formed, but an architecture or type that is not supported. */
	int (*describe)(const struct ds_host *host, const struct ds_file *files, size_t n_files,
			const struct ds_builder *builder, struct ds_error *err);
};

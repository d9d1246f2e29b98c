/* format.h - a checkpoint format: finds hyperparameters, vocabulary and tensors in files it is handed.
 *
 * A format plugin reads metadata only (with pread, from the descriptors it is given). For weights it says where they
 * lie; the loader reads, converts and packs them. It runs in ds-loader, sandboxed, on bytes nobody vouches for.
 *
 * Vectors: input {"files": {NAME: {"text": "..."} or {"hex": "..."}}}; output {"architecture": "...", "chat_template": "...",
 * "tensors": {CANONICAL NAME: [shape...]}, "n_tokens": N} or {"error": "part of the sentence"}. */
#pragma once

#include "model.h"
#include "plugin.h"

struct ds_file {
	const char *name; /* base name, for example model-00001-of-00002.safetensors */
	int fd;		  /* readable, regular */
	uint64_t size;
};

/* DeepSeek's FP8 keeps its scales apart: one F32 for each tile of @tile_rows x @tile_cols elements of the matrix in the
 * file, the tiles of a row of tiles one after the other. */
struct ds_scales {
	uint32_t file;
	uint64_t offset; /* of the tile that holds element (0, 0) of the matrix in the file */
	uint32_t tile_rows, tile_cols; /* 0: there are no scales */
	uint64_t first_row;	       /* of the part, in that matrix */
	uint64_t cols;		       /* of that matrix: a row of tiles has cols / tile_cols of them, rounded up */
};

/* A rectangle of one tensor and where its elements lie. The tensor's shape is flattened to (rows, cols), cols being the
 * last dimension; the part fills rows [row, row + n_rows).
 * The loader stores what has the tensor's type as it is, and converts anything to a F32 tensor, exactly. A part of type FP8
 * is a plain matrix of e4m3 bytes with @scales apart; it fills tensors of type FP8 and F32. */
struct ds_part {
	uint32_t tensor; /* the index that tensor() gave */
	uint64_t row, n_rows;
	uint32_t file;	 /* index into the files */
	uint64_t offset; /* of the first element in the file */
	uint64_t stride; /* bytes from row to row in the file; 0: they lie one after the other */
	enum ds_dtype dtype; /* in the file */
	bool transposed;     /* the file holds (cols, n_rows), each of its rows being whole blocks: only into F32, or between
			      * equal float types; no stride */
	struct ds_scales scales;
};

/* What the loader offers while a checkpoint is described. Every call copies what it is given.
 * The loader checks bounds, overlaps and completeness; errors come back as sentences.
 * Who needs only a vocabulary leaves hparams, tensor and part NULL: then files without any of them are welcome too, for
 * example a tokenizer.json alone or a GGUF of no tensors. */
struct ds_builder {
	size_t size;
	void *self;
	int (*hparams)(void *self, const struct ds_hparams *hparams, struct ds_error *err);
	int (*vocabulary)(void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err); /* optional call */
	/* The text of the checkpoint's chat template, "" being none. Nobody runs it: dialect plugins look for their marks in
	 * it (dialect.h, recognizes). Optional call. */
	int (*chat_template)(void *self, const char *chat_template, struct ds_error *err);
	int (*tensor)(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err);
	int (*part)(void *self, const struct ds_part *part, struct ds_error *err);
	/* What the checkpoint says for people and other programs under GGUF's @key: general.name,
	 * tokenizer.ggml.pre. Optional call, and NULL in a builder that does not want to know. */
	int (*text)(void *self, const char *key, const char *text, struct ds_error *err);
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

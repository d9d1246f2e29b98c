/* checkpoint.h - a Hugging Face directory taken apart: one struct that the files of this folder fill in turn.
 *
 *   checkpoint.c  the order of all this, and the builder's calls
 *   json.c        JSON files and typed access to them; every error names file and key
 *   config.c      config.json -> hyperparameters; of them rope.c reads the scaling of rotation, routing.c the choice of
 *                 experts
 *   scales.c      quantization_config, and the scales of FP8 tensors
 *   header.c      the header of one .safetensors file -> stored tensors
 *   shards.c      all stored tensors of the checkpoint, checked against the index
 *   tensors.c     canonical tensors -> rectangles of stored ones
 *   tokenizer.c   tokenizer.json -> tokens and merges;  split.c  its split patterns;  special.c  bos and eos
 *   template.c    the text of the chat template
 *
 * Files are read with pread and believed in nothing; the first contradiction ends it with a sentence. */
#pragma once

#include "../format-common/common.h"

#include <jansson.h>
#include <string.h>

#define DS_JSON_MAX_SIZE 100000000u /* of a JSON file or header; the limit of the format's own library */
#define DS_STORED_MAX_DIMS 8

/* A type that safetensors files may hold. */
struct ds_element {
	const char *name;
	unsigned bits;
	enum ds_dtype dtype; /* 0: known, but not supported as a weight */
};

/* A tensor as it lies in a file. */
struct ds_stored {
	char *name; /* owned */
	const struct ds_element *element;
	uint32_t file; /* index into the files */
	uint32_t n_dims;
	uint64_t shape[DS_STORED_MAX_DIMS];
	uint64_t offset, size; /* bytes, from the start of the file */
};

/* Models that share the keys of config.json and their defaults. */
enum ds_family {
	DS_FAMILY_V2,
	DS_FAMILY_V3,
	DS_FAMILY_LLAMA,
	DS_FAMILY_QWEN2,
	DS_FAMILY_QWEN3,
	DS_N_FAMILIES,
};

struct ds_checkpoint {
	const struct ds_file *files; /* borrowed */
	uint32_t n_files;
	enum ds_family family;
	struct ds_hparams hparams; /* only vocab, if nothing but a vocabulary is asked for */
	bool tied;                /* the output matrix is the token embedding */
	bool output_bias;         /* grouped-query attention's last projection has a bias */
	uint32_t tile_rows, tile_cols; /* of FP8 tensors; 0: there are none */
	struct ds_stored *stored; /* [n_stored], sorted by name once all shards are read */
	size_t n_stored, stored_capacity;
	json_t *config;           /* config.json, or NULL if nothing but a vocabulary is asked for */
	json_t *generation;       /* generation_config.json, or NULL */
	json_t *tokenizer;        /* tokenizer.json, or NULL */
	json_t *tokenizer_config; /* tokenizer_config.json, or NULL */
};

/* A vocabulary and what it borrows from. */
struct ds_words {
	struct ds_vocabulary vocabulary;
	struct ds_token *tokens;
	struct ds_merge *merges;
	char *text; /* of tokens whose bytes were undone */
};

extern const struct ds_format_ops ds_safetensors_ops;

/* json.c */
const struct ds_file *ds_file_find(const struct ds_checkpoint *c, const char *name); /* NULL: not there */
/* Parse @size bytes of @file at @offset into an object. Duplicate keys are refused; @flags are more of jansson's. */
int ds_json_read(json_t **out, const struct ds_file *file, uint64_t offset, uint64_t size, size_t flags,
		 struct ds_error *err);
/* The object in the file @name; without the file *@out stays NULL. */
int ds_json_load(json_t **out, const struct ds_checkpoint *c, const char *name, size_t flags, struct ds_error *err);
/* Members of an object, "absent" meaning missing or null: then *@out stays as it was. */
int ds_json_bool(bool *out, const json_t *object, const char *file, const char *key, struct ds_error *err);
int ds_json_string(const char **out, const json_t *object, const char *file, const char *key, struct ds_error *err);
int ds_json_object(const json_t **out, const json_t *object, const char *file, const char *key, struct ds_error *err);
int ds_json_array(const json_t **out, const json_t *object, const char *file, const char *key, struct ds_error *err);

enum ds_key_type {
	DS_KEY_COUNT, /* uint32_t */
	DS_KEY_REAL,  /* float */
	DS_KEY_BOOL,  /* uint32_t, 0 or 1 */
};

#define DS_KEY_REQUIRED (-1.0)

/* A number of config.json and where it goes. @otherwise: its value when the key is missing. null counts as missing, but
 * for the @nullable ones, where it means 0. */
struct ds_key {
	const char *name;
	enum ds_key_type type;
	size_t offset; /* in struct ds_hparams */
	double min, max;
	double otherwise[DS_N_FAMILIES];
	bool nullable;
};

/* config.c. @prefix ("rope_scaling." or "") is for the sentences. */
int ds_config_read(struct ds_checkpoint *c, struct ds_error *err);
int ds_key_read(double *out, const json_t *object, const char *prefix, const struct ds_key *key, enum ds_family family,
		struct ds_error *err);
int ds_keys_read(struct ds_checkpoint *c, const json_t *object, const char *prefix, const struct ds_key *table, size_t n,
		 struct ds_error *err);
int ds_rope_read(struct ds_checkpoint *c, struct ds_error *err);
int ds_routing_read(struct ds_checkpoint *c, struct ds_error *err);

int ds_scales_read(struct ds_checkpoint *c, struct ds_error *err);
/* What FP8 tensors become in the image. */
enum ds_dtype ds_scales_dtype(const struct ds_checkpoint *c);
/* The scales of the FP8 matrix @t, from its first row on. */
int ds_scales_find(struct ds_scales *out, const struct ds_checkpoint *c, const struct ds_stored *t, struct ds_error *err);

/* Append the tensors of the file with index @file to c->stored. */
int ds_header_read(struct ds_checkpoint *c, uint32_t file, struct ds_error *err);

bool ds_shards_present(const struct ds_file *files, size_t n_files);
int ds_shards_read(struct ds_checkpoint *c, struct ds_error *err);
const struct ds_stored *ds_shards_find(const struct ds_checkpoint *c, const char *name); /* NULL: not there */

/* How many multi-token-prediction blocks the shards hold, of the config's n_mtp. */
uint32_t ds_tensors_count_mtp(const struct ds_checkpoint *c);
int ds_tensors_build(const struct ds_checkpoint *c, const struct ds_builder *builder, struct ds_error *err);

/* One more than the highest id of tokenizer.json. */
int ds_tokenizer_count(uint32_t *n, const struct ds_checkpoint *c, struct ds_error *err);
int ds_tokenizer_read(struct ds_words *words, const struct ds_checkpoint *c, struct ds_error *err);
void ds_words_deinit(struct ds_words *words);
int ds_split_read(struct ds_vocabulary *v, const json_t *tokenizer, struct ds_error *err);
int ds_special_read(struct ds_vocabulary *v, const struct ds_checkpoint *c, struct ds_error *err);

/* The chat template, "" if there is none, from malloc. */
int ds_template_read(char **out, const struct ds_checkpoint *c, struct ds_error *err);

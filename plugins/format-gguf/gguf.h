/* gguf.h - a GGUF checkpoint taken apart: one struct that the files of this folder fill in turn.
 *
 *   source.c     the beginning of a file, read in large pieces as it is needed
 *   header.c     the header of one file -> keys and stored tensors
 *   types.c      the types of tensors that exist, and those supported
 *   splits.c     the files of a split set -> one model, checked for gaps, duplicates and overlaps
 *   keys.c       typed access to keys; every error names file and key
 *   config.c     keys -> hyperparameters;  rope.c  those of rotary positions
 *   tensors.c    canonical tensors -> rectangles of stored ones
 *   tokenizer.c  keys -> a vocabulary;  pre.c  its split patterns
 *   describe.c   the order of all this, and the builder's calls
 *
 * Little-endian, versions 2 and 3. Files are read with pread and believed in nothing: every count is compared with what
 * is left of the file before anything is allocated for it; the first contradiction ends it with a sentence. */
#pragma once

#include "../format-common/common.h"

#include <inttypes.h>
#include <string.h>

#define DS_GGUF_MAX_HEADER (1ull << 30) /* bytes of keys and tensor infos of a file */
#define DS_GGUF_MAX_NAME 128u           /* bytes of a tensor's name */
#define DS_GGUF_MAX_DIMS 4

/* Types of a key's value, with the numbers that files use. */
enum ds_gguf_value {
	DS_GGUF_U8,
	DS_GGUF_I8,
	DS_GGUF_U16,
	DS_GGUF_I16,
	DS_GGUF_U32,
	DS_GGUF_I32,
	DS_GGUF_F32,
	DS_GGUF_BOOL,
	DS_GGUF_TEXT,
	DS_GGUF_ARRAY,
	DS_GGUF_U64,
	DS_GGUF_I64,
	DS_GGUF_F64,
	DS_GGUF_N_VALUES,
};

/* A type of tensors. */
struct ds_gguf_type {
	uint32_t id;
	const char *name;
	uint32_t block;      /* elements */
	uint32_t size;       /* bytes of a block */
	enum ds_dtype dtype; /* 0: known, but not supported */
};

/* Borrowed bytes, without a NUL after them. */
struct ds_gguf_text {
	const char *text;
	size_t size;
};

struct ds_gguf_key {
	struct ds_gguf_text name;
	enum ds_gguf_value type; /* of an array: of its elements */
	bool array;
	uint64_t count; /* 1, or the elements of the array */
	const char *value;
};

/* The beginning of a file, loaded as far as it was needed. */
struct ds_gguf_source {
	const struct ds_file *file;
	char *data; /* owned; [loaded] */
	size_t loaded, capacity;
	uint64_t position; /* of the next byte to be taken */
};

/* A tensor as it lies in a file. */
struct ds_gguf_stored {
	char name[DS_GGUF_MAX_NAME];
	const struct ds_gguf_type *type;
	uint32_t file;                 /* index into the files */
	uint64_t ne[DS_GGUF_MAX_DIMS]; /* innermost first, padded with 1 */
	uint64_t offset, size;         /* bytes, from the start of the file */
};

/* One file of the set. */
struct ds_gguf_part {
	struct ds_gguf_source source;
	uint32_t file;            /* index into the files that were handed over */
	struct ds_gguf_key *keys; /* owned; [n_keys], sorted by name */
	uint64_t n_keys;
	uint64_t n_tensors; /* that the header promises */
};

struct ds_gguf_architecture;

struct ds_gguf {
	const struct ds_file *files; /* borrowed; [n_files] */
	uint32_t n_files;
	struct ds_gguf_part *parts; /* [n_parts]; the first has the keys of the model */
	uint32_t n_parts;
	struct ds_gguf_stored *stored; /* [n_stored], sorted by name once all files are read */
	size_t n_stored;
	/* config.c */
	const struct ds_gguf_architecture *architecture;
	struct ds_hparams hparams;
};

/* A family of models by its name in general.architecture. */
struct ds_gguf_architecture {
	const char *name;
	bool mla;
	bool permuted; /* of each head of q and k, rows i and i + half lie side by side */
	bool qkv_bias, qk_norm;
};

/* A vocabulary and what it borrows from. */
struct ds_gguf_words {
	struct ds_vocabulary vocabulary;
	struct ds_token *tokens;
	struct ds_merge *merges;
	float *scores;
	char *text; /* of the tokens, each followed by a NUL */
	char *patterns;
};

extern const struct ds_format_ops ds_gguf_ops;

/* source.c - @what is for the sentence: what the file ends in the middle of. */
int ds_gguf_need(struct ds_gguf_source *s, uint64_t size, const char *what, struct ds_error *err);
int ds_gguf_take_u32(struct ds_gguf_source *s, uint32_t *out, const char *what, struct ds_error *err);
int ds_gguf_take_u64(struct ds_gguf_source *s, uint64_t *out, const char *what, struct ds_error *err);
/* Skip a text, telling where its bytes are. */
int ds_gguf_take_text(struct ds_gguf_source *s, uint64_t *position, uint64_t *size, const char *what,
		      struct ds_error *err);

uint16_t ds_gguf_u16(const char *p);
uint32_t ds_gguf_u32(const char *p);
uint64_t ds_gguf_u64(const char *p);

/* header.c - fill @part, and append its tensors to g->stored. */
int ds_gguf_read_header(struct ds_gguf *g, struct ds_gguf_part *part, struct ds_error *err);
bool ds_gguf_has_magic(const struct ds_file *file);
uint32_t ds_gguf_value_size(enum ds_gguf_value type); /* bytes; 0: a text */

/* types.c */
const struct ds_gguf_type *ds_gguf_type(uint32_t id); /* NULL: there is none */
/* A known type that is not supported, or an unknown one: says which are. Returns -ENOTSUP. */
int ds_gguf_refuse_type(uint32_t id, const struct ds_file *file, const char *tensor, struct ds_error *err);

/* splits.c */
bool ds_gguf_present(const struct ds_file *files, size_t n_files);
int ds_gguf_read_files(struct ds_gguf *g, struct ds_error *err);
const struct ds_gguf_stored *ds_gguf_find(const struct ds_gguf *g, const char *name); /* NULL: not there */

/* keys.c - of one file. Without the key, *@out stays as it was. */
const struct ds_gguf_key *ds_gguf_key(const struct ds_gguf_part *part, const char *name);
int ds_gguf_number(const struct ds_gguf_part *part, const char *name, double min, double max, double *out,
		   struct ds_error *err);
int ds_gguf_count(const struct ds_gguf_part *part, const char *name, uint64_t min, uint64_t max, uint64_t *out,
		  struct ds_error *err);
int ds_gguf_bool(const struct ds_gguf_part *part, const char *name, bool *out, struct ds_error *err);
int ds_gguf_text(const struct ds_gguf_part *part, const char *name, struct ds_gguf_text *out, struct ds_error *err);
/* *@out is NULL without the key. */
int ds_gguf_array(const struct ds_gguf_part *part, const char *name, enum ds_gguf_value element,
		  const struct ds_gguf_key **out, struct ds_error *err);
/* The number with index @i of a whole-number key. False: it is negative or too large. */
bool ds_gguf_whole(const struct ds_gguf_key *key, uint64_t i, uint64_t *out);
/* The next of an array of texts, *@at being where the last one ended, at first its value. */
struct ds_gguf_text ds_gguf_next_text(const char **at);
bool ds_gguf_is(struct ds_gguf_text text, const char *word);

int ds_gguf_read_config(struct ds_gguf *g, struct ds_error *err);
int ds_gguf_read_rope(struct ds_gguf *g, struct ds_error *err);
/* "llama.NAME" in @out. */
struct ds_gguf_name {
	char text[96];
};
struct ds_gguf_name ds_gguf_name(const struct ds_gguf *g, const char *name);

int ds_gguf_build_tensors(const struct ds_gguf *g, const struct ds_builder *builder, struct ds_error *err);

/* Words without texts leave words->vocabulary.tokenizer NULL: the file has no vocabulary. */
int ds_gguf_read_words(struct ds_gguf_words *words, const struct ds_gguf *g, struct ds_error *err);
void ds_gguf_words_deinit(struct ds_gguf_words *words);
/* The split patterns that the name in tokenizer.ggml.pre stands for, or those that the file has: then *@texts is what they
 * borrow, from malloc. */
int ds_gguf_read_pre(struct ds_vocabulary *v, char **texts, const struct ds_gguf *g, struct ds_error *err);

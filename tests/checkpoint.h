/* checkpoint.h - for tests of format plugins: files in memory, and a builder that keeps what it is told.
 *
 * The builder aborts on a description that no loader could follow: a part outside its file or its tensor, a conversion
 * that does not exist, a token or a merge outside the vocabulary. Unit tests look at what was kept; fuzz targets need
 * no more. */
#pragma once

#include <deepseekd/format.h>

#include <string.h>
#include <sys/mman.h>

#define CHECKPOINT_FILES 16
#define CHECKPOINT_TENSORS 256
#define CHECKPOINT_PARTS 1024
#define CHECKPOINT_TOKENS 64

struct checkpoint_tensor {
	char name[96];
	struct ds_tensor_desc desc; /* its name is the one above */
	uint64_t n_rows;            /* filled by parts */
};

struct checkpoint {
	struct ds_file files[CHECKPOINT_FILES];
	size_t n_files;
	/* described */
	struct ds_hparams hparams;
	struct ds_vocabulary vocabulary; /* its pointers are dead, but for the patterns below */
	char patterns[DS_MAX_PATTERNS][256];
	char texts[CHECKPOINT_TOKENS][64]; /* of the first tokens */
	uint32_t sizes[CHECKPOINT_TOKENS], flags[CHECKPOINT_TOKENS];
	struct ds_merge merges[CHECKPOINT_TOKENS]; /* the first ones */
	char chat_template[128];
	struct checkpoint_tensor tensors[CHECKPOINT_TENSORS];
	uint32_t n_tensors;
	struct ds_part parts[CHECKPOINT_PARTS];
	uint32_t n_parts;
	struct ds_error error;
};

static inline void checkpoint_require(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "a format plugin described what no loader could follow: %s\n", what);
	abort();
}

/* Add the file @name, or replace its content. @name is borrowed. */
static inline void checkpoint_file(struct checkpoint *c, const char *name, const void *data, size_t size)
{
	size_t i = 0;

	while (i < c->n_files && strcmp(c->files[i].name, name) != 0)
		i++;
	if (i == c->n_files) {
		checkpoint_require(c->n_files < CHECKPOINT_FILES, "too many files");
		c->files[c->n_files++] = (struct ds_file){.name = name, .fd = memfd_create(name, MFD_CLOEXEC)};
	}
	checkpoint_require(ftruncate(c->files[i].fd, 0) == 0, "a file in memory");
	checkpoint_require(pwrite(c->files[i].fd, data, size, 0) == (ssize_t)size, "a file in memory");
	c->files[i].size = size;
}

static inline void checkpoint_text(struct checkpoint *c, const char *name, const char *text)
{
	checkpoint_file(c, name, text, strlen(text));
}

static inline void checkpoint_free(struct checkpoint *c)
{
	for (size_t i = 0; c && i < c->n_files; i++)
		close(c->files[i].fd);
	free(c);
}

static inline void checkpoint_freep(struct checkpoint **c)
{
	checkpoint_free(*c);
}

static inline int checkpoint_hparams(void *self, const struct ds_hparams *hparams, struct ds_error *err)
{
	struct checkpoint *c = self;

	c->hparams = *hparams;
	return 0;
}

static inline int checkpoint_vocabulary(void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	struct checkpoint *c = self;

	c->vocabulary = *v;
	checkpoint_require(v->n_tokens <= c->hparams.vocab, "more tokens than rows of the embedding");
	checkpoint_require(v->n_patterns <= DS_MAX_PATTERNS && v->n_eos <= DS_MAX_EOS, "too many patterns or eos");
	checkpoint_require(v->bos < v->n_tokens || v->bos == DS_NO_TOKEN, "a bos that is no token");
	for (uint32_t i = 0; i < v->n_eos; i++)
		checkpoint_require(v->eos[i] < v->n_tokens, "an eos that is no token");
	for (uint32_t i = 0; i < v->n_patterns; i++)
		snprintf(c->patterns[i], sizeof(c->patterns[i]), "%s", v->patterns[i]);
	for (uint32_t i = 0; i < v->n_tokens; i++) {
		const struct ds_token *t = &v->tokens[i];

		checkpoint_require(memchr(t->text, 0, t->size + (size_t)1) != NULL || t->size,
				   "a token without a text");
		if (i >= CHECKPOINT_TOKENS)
			continue;
		c->sizes[i] = t->size;
		c->flags[i] = t->flags;
		memset(c->texts[i], 0, sizeof(c->texts[i]));
		memcpy(c->texts[i], t->text, t->size < sizeof(c->texts[i]) ? t->size : sizeof(c->texts[i]));
	}
	for (uint32_t i = 0; i < v->n_merges; i++) {
		const struct ds_merge *m = &v->merges[i];

		checkpoint_require(m->left < v->n_tokens && m->right < v->n_tokens && m->merged < v->n_tokens,
				   "a merge of no tokens");
		if (i < CHECKPOINT_TOKENS)
			c->merges[i] = *m;
	}
	return 0;
}

static inline int checkpoint_chat_template(void *self, const char *text, struct ds_error *err)
{
	struct checkpoint *c = self;

	snprintf(c->chat_template, sizeof(c->chat_template), "%s", text);
	return 0;
}

static inline int checkpoint_tensor(void *self, const struct ds_tensor_desc *desc, uint32_t *index,
				    struct ds_error *err)
{
	struct checkpoint *c = self;
	struct checkpoint_tensor *t = &c->tensors[c->n_tensors];

	if (c->n_tensors == CHECKPOINT_TENSORS)
		return ds_fail(err, -E2BIG, "more than %d tensors", CHECKPOINT_TENSORS);
	checkpoint_require(desc->n_dims >= 1 && desc->n_dims <= DS_MAX_DIMS, "a tensor without dimensions");
	*t = (struct checkpoint_tensor){.desc = *desc};
	snprintf(t->name, sizeof(t->name), "%s", desc->name);
	t->desc.name = t->name;
	*index = c->n_tensors++;
	return 0;
}

/* The tiles that rows of FP8 need must lie in a file. */
static inline void checkpoint_scales(struct checkpoint *c, const struct ds_scales *s, uint64_t n_rows)
{
	uint64_t size;

	checkpoint_require(s->tile_rows && s->tile_cols && s->cols && s->file < c->n_files, "FP8 without scales");
	size = ((s->first_row + n_rows - 1) / s->tile_rows + 1) * ((s->cols - 1) / s->tile_cols + 1) * sizeof(float);
	checkpoint_require(s->offset <= c->files[s->file].size && size <= c->files[s->file].size - s->offset,
			   "scales outside their file");
}

static inline int checkpoint_part(void *self, const struct ds_part *part, struct ds_error *err)
{
	struct checkpoint *c = self;
	uint64_t rows = 1, cols, size, span;
	struct checkpoint_tensor *t;

	checkpoint_require(part->tensor < c->n_tensors && part->file < c->n_files, "a part of nothing");
	t = &c->tensors[part->tensor];
	cols = t->desc.shape[t->desc.n_dims - 1];
	for (uint32_t i = 0; i + 1 < t->desc.n_dims; i++)
		rows *= t->desc.shape[i];
	checkpoint_require(part->row <= rows && part->n_rows <= rows - part->row, "a part outside its tensor");
	/* bytes of a row in the file, and from the first byte to the last; plain e4m3 bytes are no blocks */
	size = part->transposed ? part->n_rows : cols;
	size = part->dtype == DS_DTYPE_FP8 ? size : ds_row_size(part->dtype, size);
	checkpoint_require(part->stride == 0 || (part->stride >= size && !part->transposed),
			   "a stride of less than a row");
	checkpoint_require(!__builtin_mul_overflow((part->transposed ? cols : part->n_rows) - 1,
						   part->stride ? part->stride : size, &span) &&
				   !__builtin_add_overflow(span, size, &span) &&
				   part->offset <= c->files[part->file].size &&
				   span <= c->files[part->file].size - part->offset,
			   "a part outside its file");
	checkpoint_require(part->dtype == t->desc.dtype || t->desc.dtype == DS_DTYPE_F32,
			   "a conversion there is none of");
	checkpoint_require(!part->transposed || ds_dtype_is_float(part->dtype) || t->desc.dtype == DS_DTYPE_F32,
			   "quantised rows are turned");
	if (part->dtype == DS_DTYPE_FP8)
		checkpoint_scales(c, &part->scales, part->transposed ? cols : part->n_rows);
	else
		checkpoint_require(part->scales.tile_rows == 0 && part->scales.tile_cols == 0, "scales of floats");
	t->n_rows += part->n_rows;
	if (c->n_parts == CHECKPOINT_PARTS)
		return ds_fail(err, -E2BIG, "more than %d parts", CHECKPOINT_PARTS);
	c->parts[c->n_parts++] = *part;
	return 0;
}

/* Describe the files; the sentence of a failure is in c->error. */
static inline int checkpoint_describe(struct checkpoint *c, const struct ds_format_ops *ops)
{
	struct ds_builder builder = {
		.size = sizeof(builder),
		.self = c,
		.hparams = checkpoint_hparams,
		.vocabulary = checkpoint_vocabulary,
		.chat_template = checkpoint_chat_template,
		.tensor = checkpoint_tensor,
		.part = checkpoint_part,
	};

	c->n_tensors = c->n_parts = 0;
	c->chat_template[0] = c->error.text[0] = 0;
	memset(&c->vocabulary, 0, sizeof(c->vocabulary));
	return ops->describe(NULL, c->files, c->n_files, &builder, &c->error);
}

/* The same for who needs only a vocabulary. */
static inline int checkpoint_describe_vocabulary(struct checkpoint *c, const struct ds_format_ops *ops)
{
	struct ds_builder builder = {
		.size = sizeof(builder),
		.self = c,
		.vocabulary = checkpoint_vocabulary,
		.chat_template = checkpoint_chat_template,
	};

	c->hparams = (struct ds_hparams){.vocab = UINT32_MAX};
	memset(&c->vocabulary, 0, sizeof(c->vocabulary));
	c->chat_template[0] = c->error.text[0] = 0;
	return ops->describe(NULL, c->files, c->n_files, &builder, &c->error);
}

/* The tensor @name that was described, or NULL. */
static inline struct checkpoint_tensor *checkpoint_find(struct checkpoint *c, const char *name)
{
	for (uint32_t i = 0; i < c->n_tensors; i++)
		if (strcmp(c->tensors[i].name, name) == 0)
			return &c->tensors[i];
	return NULL;
}

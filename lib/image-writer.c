/* image-writer.c - the other half of image.c: what is written here is checked there. */
#include "image-writer.h"

#include <string.h>

#define MAX_TENSORS (1u << 20)
#define MAX_TEXT (1u << 30)

struct ds_image_writer {
	struct ds_image_header header;
	struct ds_hparams hparams;
	bool has_hparams, has_vocabulary;
	struct ds_image_vocabulary vocabulary;
	struct ds_image_token *tokens; /* [vocabulary.n_tokens] */
	struct ds_merge *merges;       /* [vocabulary.n_merges] */
	float *scores;                 /* [vocabulary.n_tokens] or NULL */
	char *text;                    /* [text_size] */
	uint64_t text_size;
	struct ds_image_tensor *tensors; /* [header.n_tensors], as given */
	struct ds_image_tensor *table;   /* the same sorted by name, from layout() on */
	uint32_t capacity;
	struct ds_image_file *files; /* [n_files] */
	struct ds_image_place *places; /* [n_places] */
	uint32_t n_files, n_places, place_capacity;
	uint64_t mapped_size;
};

int ds_image_writer_new(struct ds_image_writer **out, struct ds_error *err)
{
	struct ds_image_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return ds_fail(err, -ENOMEM, "no memory for an image");
	writer->header.magic = DS_IMAGE_MAGIC;
	writer->header.version = DS_IMAGE_VERSION;
	*out = writer;
	return 0;
}

struct ds_image_writer *ds_image_writer_free(struct ds_image_writer *writer)
{
	if (!writer)
		return NULL;
	free(writer->tokens);
	free(writer->merges);
	free(writer->scores);
	free(writer->text);
	free(writer->tensors);
	free(writer->table);
	free(writer->files);
	free(writer->places);
	free(writer);
	return NULL;
}

int ds_image_writer_hparams(struct ds_image_writer *writer, const struct ds_hparams *hparams, struct ds_error *err)
{
	if (writer->has_hparams)
		return ds_fail(err, -EINVAL, "hyperparameters are given twice");
	if (!*hparams->architecture || !memchr(hparams->architecture, 0, sizeof(hparams->architecture)))
		return ds_fail(err, -EINVAL, "the architecture has no name or too long a one");
	if (hparams->vocab == 0)
		return ds_fail(err, -EINVAL, "a model of 0 tokens");
	writer->hparams = *hparams;
	writer->has_hparams = true;
	return 0;
}

static int set_name(char *name, size_t room, const char *value, const char *what, struct ds_error *err)
{
	if (strlen(value) >= room)
		return ds_fail(err, -EINVAL, "the %s %.40s... has a name of more than %zu bytes", what, value,
			       room - 1);
	memset(name, 0, room);
	memcpy(name, value, strlen(value));
	return 0;
}

int ds_image_writer_dialect(struct ds_image_writer *writer, const char *name, struct ds_error *err)
{
	return set_name(writer->header.dialect, sizeof(writer->header.dialect), name, "dialect", err);
}

int ds_image_writer_backend(struct ds_image_writer *writer, const char *identity, struct ds_error *err)
{
	return set_name(writer->header.backend, sizeof(writer->header.backend), identity, "backend", err);
}

static int check_vocabulary(const struct ds_vocabulary *v, uint64_t *text_size, struct ds_error *err)
{
	*text_size = 0;
	if (!v->tokenizer || !*v->tokenizer)
		return ds_fail(err, -EINVAL, "the vocabulary names no tokenizer");
	if (v->n_patterns > DS_MAX_PATTERNS || v->n_eos > DS_MAX_EOS)
		return ds_fail(err, -E2BIG,
			       "the vocabulary has %u patterns and %u end tokens, at most %u and %u are kept",
			       v->n_patterns, v->n_eos, DS_MAX_PATTERNS, DS_MAX_EOS);
	for (uint32_t i = 0; i < v->n_tokens; i++)
		*text_size += (uint64_t)v->tokens[i].size + 1;
	for (uint32_t i = 0; i < v->n_patterns; i++)
		*text_size += strlen(v->patterns[i]) + 1;
	if (*text_size > MAX_TEXT)
		return ds_fail(err, -E2BIG, "the vocabulary has %llu bytes of text", (unsigned long long)*text_size);
	for (uint32_t i = 0; i < v->n_merges; i++) {
		const struct ds_merge *m = &v->merges[i];

		if (m->left >= v->n_tokens || m->right >= v->n_tokens || m->merged >= v->n_tokens)
			return ds_fail(err, -EINVAL, "merge %u has a token past the last, %u", i, v->n_tokens);
	}
	return 0;
}

static struct ds_image_text append_text(struct ds_image_writer *writer, const char *text, uint32_t size)
{
	struct ds_image_text t = {(uint32_t)writer->text_size, size};

	if (size > 0)
		memcpy(writer->text + writer->text_size, text, size);
	writer->text[writer->text_size + size] = 0;
	writer->text_size += (uint64_t)size + 1;
	return t;
}

int ds_image_writer_vocabulary(struct ds_image_writer *writer, const struct ds_vocabulary *v, struct ds_error *err)
{
	struct ds_image_vocabulary *to = &writer->vocabulary;
	uint64_t text_size;
	int r = check_vocabulary(v, &text_size, err);

	if (r == 0 && writer->has_vocabulary)
		r = ds_fail(err, -EINVAL, "the vocabulary is given twice");
	if (r == 0)
		r = set_name(to->tokenizer, sizeof(to->tokenizer), v->tokenizer, "tokenizer", err);
	if (r < 0)
		return r;
	writer->text = malloc(text_size + 1);
	writer->tokens = calloc((size_t)v->n_tokens + 1, sizeof(*writer->tokens));
	writer->merges = calloc((size_t)v->n_merges + 1, sizeof(*writer->merges));
	writer->has_vocabulary = true;
	if (v->scores && v->n_tokens > 0)
		writer->scores = calloc(v->n_tokens, sizeof(*writer->scores));
	if (!writer->text || !writer->tokens || !writer->merges || (v->scores && v->n_tokens > 0 && !writer->scores))
		return ds_fail(err, -ENOMEM, "no memory for a vocabulary of %u tokens", v->n_tokens);
	for (uint32_t i = 0; i < v->n_tokens; i++)
		writer->tokens[i] = (struct ds_image_token){append_text(writer, v->tokens[i].text, v->tokens[i].size),
							    v->tokens[i].flags};
	for (uint32_t i = 0; i < v->n_patterns; i++)
		to->patterns[i] = append_text(writer, v->patterns[i], (uint32_t)strlen(v->patterns[i]));
	if (v->n_merges > 0)
		memcpy(writer->merges, v->merges, v->n_merges * sizeof(*v->merges));
	if (writer->scores)
		memcpy(writer->scores, v->scores, v->n_tokens * sizeof(*v->scores));
	to->n_tokens = v->n_tokens;
	to->n_merges = v->n_merges;
	to->n_patterns = v->n_patterns;
	to->n_eos = v->n_eos;
	to->bos = v->bos;
	memcpy(to->eos, v->eos, v->n_eos * sizeof(*v->eos));
	to->nfc = v->nfc;
	to->ignore_merges = v->ignore_merges;
	to->add_bos = v->add_bos;
	to->add_space_prefix = v->add_space_prefix;
	to->unknown = v->unknown;
	return 0;
}

static int check_tensor(const struct ds_tensor_desc *desc, uint32_t layout, uint64_t size, struct ds_error *err)
{
	uint64_t n = 1, cols, rows_size;

	if (!*desc->name || strlen(desc->name) >= DS_IMAGE_NAME_MAX)
		return ds_fail(err, -EINVAL, "tensor \"%.100s\": a name has 1 to %u bytes", desc->name,
			       DS_IMAGE_NAME_MAX - 1);
	if (!ds_dtype_info(desc->dtype))
		return ds_fail(err, -EINVAL, "tensor %s: unknown type %u", desc->name, desc->dtype);
	if (desc->n_dims == 0 || desc->n_dims > DS_MAX_DIMS)
		return ds_fail(err, -EINVAL, "tensor %s: %u dimensions", desc->name, desc->n_dims);
	for (uint32_t i = 0; i < desc->n_dims; i++)
		if (__builtin_mul_overflow(n, desc->shape[i], &n) || n == 0 || n > UINT64_MAX / 8)
			return ds_fail(err, -EINVAL, "tensor %s: dimension %u is %llu", desc->name, i,
				       (unsigned long long)desc->shape[i]);
	cols = desc->shape[desc->n_dims - 1];
	if (__builtin_mul_overflow(n / cols, ds_row_size(desc->dtype, cols), &rows_size) || size == 0 ||
	    (layout == 0 && size < rows_size))
		return ds_fail(err, -EINVAL, "tensor %s: %llu bytes do not hold it", desc->name,
			       (unsigned long long)size);
	return 0;
}

static int grow(struct ds_image_writer *writer, struct ds_error *err)
{
	uint32_t capacity = writer->capacity ? 2 * writer->capacity : 256;
	struct ds_image_tensor *tensors;

	if (writer->header.n_tensors < writer->capacity)
		return 0;
	if (writer->header.n_tensors >= MAX_TENSORS)
		return ds_fail(err, -E2BIG, "more than %u tensors", MAX_TENSORS);
	tensors = reallocarray(writer->tensors, capacity, sizeof(*tensors));
	if (!tensors)
		return ds_fail(err, -ENOMEM, "no memory for %u tensors", capacity);
	writer->tensors = tensors;
	writer->capacity = capacity;
	return 0;
}

int ds_image_writer_tensor(struct ds_image_writer *writer, const struct ds_tensor_desc *desc, uint32_t layout,
			   uint64_t size, struct ds_error *err)
{
	struct ds_image_tensor *t;
	int r = check_tensor(desc, layout, size, err);

	if (r == 0)
		r = grow(writer, err);
	if (r < 0)
		return r;
	t = &writer->tensors[writer->header.n_tensors++];
	*t = (struct ds_image_tensor){.dtype = desc->dtype, .layout = layout, .n_dims = desc->n_dims, .size = size};
	memcpy(t->name, desc->name, strlen(desc->name));
	for (uint32_t i = 0; i < DS_MAX_DIMS; i++)
		t->shape[i] = i < desc->n_dims ? desc->shape[i] : 1;
	return 0;
}

int ds_image_writer_file(struct ds_image_writer *writer, const char *name, const struct stat *st, uint32_t *number,
			 struct ds_error *err)
{
	struct ds_image_file file = {
		.size = (uint64_t)st->st_size,
		.device = (uint64_t)st->st_dev,
		.inode = (uint64_t)st->st_ino,
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = st->st_mtim.tv_nsec,
	};
	int r = set_name(file.name, sizeof(file.name), name, "file", err);

	if (r < 0)
		return r;
	if (writer->n_files >= DS_IMAGE_MAX_FILES)
		return ds_fail(err, -E2BIG, "a model can be mapped from at most %d files", DS_IMAGE_MAX_FILES);
	if (!writer->files)
		writer->files = calloc(DS_IMAGE_MAX_FILES, sizeof(*writer->files));
	if (!writer->files)
		return ds_fail(err, -ENOMEM, "no memory for a table of files");
	*number = writer->n_files;
	writer->files[writer->n_files++] = file;
	return 0;
}

/* Room for @n more places. */
static int grow_places(struct ds_image_writer *writer, uint32_t n, struct ds_error *err)
{
	uint64_t capacity = 2 * ((uint64_t)writer->n_places + n);
	struct ds_image_place *places;

	if ((uint64_t)writer->n_places + n <= writer->place_capacity)
		return 0;
	if (capacity > UINT32_MAX)
		return ds_fail(err, -E2BIG, "too many matrices in files");
	places = reallocarray(writer->places, capacity, sizeof(*places));
	if (!places)
		return ds_fail(err, -ENOMEM, "no memory for the places of %u matrices", n);
	writer->places = places;
	writer->place_capacity = (uint32_t)capacity;
	return 0;
}

int ds_image_writer_mapped_tensor(struct ds_image_writer *writer, const struct ds_tensor_desc *desc,
				  const struct ds_image_place *places, uint32_t n_places, struct ds_error *err)
{
	uint64_t size = ds_row_size(desc->dtype, desc->shape[desc->n_dims - 1]);
	struct ds_image_tensor *t;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i + 1 < desc->n_dims; i++)
		if (__builtin_mul_overflow(size, desc->shape[i], &size))
			r = ds_fail(err, -EFBIG, "tensor %s is too large", desc->name);
	if (r == 0)
		r = grow_places(writer, n_places, err);
	if (r == 0)
		r = ds_image_writer_tensor(writer, desc, 0, size, err);
	if (r == 0 && (__builtin_add_overflow(writer->mapped_size, size, &writer->mapped_size) ||
		       writer->mapped_size > INT64_MAX))
		r = ds_fail(err, -EFBIG, "tensor %s: the model is too large", desc->name);
	if (r < 0)
		return r;
	t = &writer->tensors[writer->header.n_tensors - 1];
	t->n_places = n_places;
	t->first_place = writer->n_places;
	memcpy(&writer->places[writer->n_places], places, n_places * sizeof(*places));
	writer->n_places += n_places;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct ds_image_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Give section @id the next place of @size bytes; *@end moves behind it. */
static int place(struct ds_image_writer *writer, enum ds_image_section_id id, uint64_t size, uint64_t *end,
		 struct ds_error *err)
{
	uint64_t start;

	if (__builtin_add_overflow(*end, DS_IMAGE_SECTION_ALIGN - 1, &start))
		return ds_fail(err, -EFBIG, "the image is too large");
	start -= start % DS_IMAGE_SECTION_ALIGN;
	writer->header.sections[id] = (struct ds_image_section){start, size};
	if (__builtin_add_overflow(start, size, end) || *end > INT64_MAX)
		return ds_fail(err, -EFBIG, "the image is too large");
	return 0;
}

/* Place every tensor that does not stay in files, from the start of their section; *@size is what they take together. */
static int place_tensors(struct ds_image_writer *writer, uint64_t *size, struct ds_error *err)
{
	*size = 0;
	for (uint32_t i = 0; i < writer->header.n_tensors; i++) {
		struct ds_image_tensor *t = &writer->tensors[i];

		if (t->n_places > 0)
			continue;
		*size += (DS_IMAGE_TENSOR_ALIGN - *size % DS_IMAGE_TENSOR_ALIGN) % DS_IMAGE_TENSOR_ALIGN;
		t->offset = *size;
		if (__builtin_add_overflow(*size, t->size, size) || *size > INT64_MAX)
			return ds_fail(err, -EFBIG, "tensor %s: the image is too large", t->name);
	}
	return 0;
}

/* The sorted table, with offsets from the start of the image. */
static int make_table(struct ds_image_writer *writer, struct ds_error *err)
{
	uint32_t n = writer->header.n_tensors;

	writer->table = calloc((size_t)n + 1, sizeof(*writer->table));
	if (!writer->table)
		return ds_fail(err, -ENOMEM, "no memory for a table of %u tensors", n);
	for (uint32_t i = 0; i < n; i++) {
		if (writer->tensors[i].n_places == 0)
			writer->tensors[i].offset += writer->header.sections[DS_SECTION_TENSORS].offset;
		writer->table[i] = writer->tensors[i];
	}
	qsort(writer->table, n, sizeof(*writer->table), by_name);
	for (uint32_t i = 1; i < n; i++)
		if (strcmp(writer->table[i - 1].name, writer->table[i].name) == 0)
			return ds_fail(err, -EINVAL, "tensor %s is given twice", writer->table[i].name);
	return 0;
}

/* What can only be judged once hyperparameters and vocabulary are both there. */
static int check_ids(const struct ds_image_writer *writer, struct ds_error *err)
{
	const struct ds_image_vocabulary *v = &writer->vocabulary;

	if (!writer->has_vocabulary)
		return 0;
	if (v->n_tokens > writer->hparams.vocab)
		return ds_fail(err, -EINVAL, "the vocabulary has %u tokens, the model %u", v->n_tokens,
			       writer->hparams.vocab);
	if (v->bos != DS_NO_TOKEN && v->bos >= writer->hparams.vocab)
		return ds_fail(err, -EINVAL, "the first token %u is past the last, %u", v->bos, writer->hparams.vocab);
	for (uint32_t i = 0; i < v->n_eos; i++)
		if (v->eos[i] >= writer->hparams.vocab)
			return ds_fail(err, -EINVAL, "the end token %u is past the last, %u", v->eos[i],
				       writer->hparams.vocab);
	return 0;
}

int ds_image_writer_layout(struct ds_image_writer *writer, struct ds_error *err)
{
	const struct ds_image_vocabulary *v = &writer->vocabulary;
	uint64_t sizes[DS_N_SECTIONS] = {
		[DS_SECTION_HPARAMS] = sizeof(writer->hparams),
		[DS_SECTION_VOCABULARY] = writer->has_vocabulary ? sizeof(*v) : 0,
		[DS_SECTION_TOKENS] = (uint64_t)v->n_tokens * sizeof(*writer->tokens),
		[DS_SECTION_MERGES] = (uint64_t)v->n_merges * sizeof(*writer->merges),
		[DS_SECTION_SCORES] = writer->scores ? v->n_tokens * sizeof(*writer->scores) : 0,
		[DS_SECTION_TEXT] = writer->text_size,
		[DS_SECTION_TENSOR_TABLE] = (uint64_t)writer->header.n_tensors * sizeof(*writer->table),
		[DS_SECTION_FILES] = (uint64_t)writer->n_files * sizeof(*writer->files),
		[DS_SECTION_PLACES] = (uint64_t)writer->n_places * sizeof(*writer->places),
	};
	uint64_t end = sizeof(writer->header);
	int r;

	if (!writer->has_hparams || writer->header.n_tensors == 0)
		return ds_fail(err, -EINVAL, "a model without %s", writer->has_hparams ? "tensors" : "hyperparameters");
	r = check_ids(writer, err);
	if (r == 0)
		r = place_tensors(writer, &sizes[DS_SECTION_TENSORS], err);
	for (unsigned i = 0; r == 0 && i < DS_N_SECTIONS; i++)
		r = place(writer, (enum ds_image_section_id)i, sizes[i], &end, err);
	if (r == 0)
		r = make_table(writer, err);
	writer->header.size = end;
	return r;
}

uint64_t ds_image_writer_size(const struct ds_image_writer *writer)
{
	return writer->header.size;
}

uint64_t ds_image_writer_weights_size(const struct ds_image_writer *writer)
{
	return writer->header.sections[DS_SECTION_TENSORS].size + writer->mapped_size;
}

uint64_t ds_image_writer_mapped_size(const struct ds_image_writer *writer)
{
	return writer->mapped_size;
}

uint64_t ds_image_writer_offset(const struct ds_image_writer *writer, uint32_t i)
{
	return writer->tensors[i].offset;
}

const struct ds_hparams *ds_image_writer_get_hparams(const struct ds_image_writer *writer)
{
	return writer->has_hparams ? &writer->hparams : NULL;
}

const char *ds_image_writer_get_dialect(const struct ds_image_writer *writer)
{
	return writer->header.dialect;
}

const struct ds_image_file *ds_image_writer_get_files(const struct ds_image_writer *writer, uint32_t *n)
{
	*n = writer->n_files;
	return writer->files;
}

bool ds_image_writer_has_vocabulary(const struct ds_image_writer *writer)
{
	return writer->has_vocabulary;
}

static int write_at(int fd, const void *data, uint64_t size, uint64_t offset, struct ds_error *err)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, data, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ds_fail(err, n < 0 ? -errno : -EIO, "the image cannot be written: %s",
				       strerror(n < 0 ? errno : EIO));
		data = (const char *)data + n;
		size -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int ds_image_writer_write(const struct ds_image_writer *writer, int fd, struct ds_error *err)
{
	const void *const sections[DS_N_SECTIONS] = {
		[DS_SECTION_HPARAMS] = &writer->hparams, [DS_SECTION_VOCABULARY] = &writer->vocabulary,
		[DS_SECTION_TOKENS] = writer->tokens,    [DS_SECTION_MERGES] = writer->merges,
		[DS_SECTION_SCORES] = writer->scores,    [DS_SECTION_TEXT] = writer->text,
		[DS_SECTION_TENSOR_TABLE] = writer->table,
		[DS_SECTION_FILES] = writer->files,      [DS_SECTION_PLACES] = writer->places,
	};
	int r = write_at(fd, &writer->header, sizeof(writer->header), 0, err);

	for (unsigned i = 0; r == 0 && i < DS_N_SECTIONS; i++) {
		const struct ds_image_section *s = &writer->header.sections[i];

		if (sections[i])
			r = write_at(fd, sections[i], s->size, s->offset, err);
	}
	return r;
}

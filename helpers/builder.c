/* builder.c - takes down what a format plugin says of a checkpoint, and believes none of it. */
#include "builder.h"
#include "source.h"

#include <string.h>
#include <sys/stat.h>

#define MAX_TENSORS (1u << 20)
#define MAX_PARTS (1u << 24)
#define NO_NUMBER UINT32_MAX
#define MAX_BLOCK (1ull << 30) /* bytes of a row or a block: what filling holds in memory at once */

struct ds_model_builder {
	struct ds_builder calls;
	const struct ds_file *files; /* [n_files] */
	size_t n_files;
	ds_vet_vocabulary *vet; /* NULL: anything is taken */
	const void *vet_self;
	struct ds_image_writer *image;
	char *chat_template; /* NULL: none came */
	char **added;	     /* [n_added], and NULL after them: texts of the vocabulary's added and special tokens */
	uint32_t n_added;
	struct ds_model_tensor *tensors; /* [n_tensors]; their names are ours */
	uint32_t n_tensors, tensor_capacity;
	struct ds_part *parts; /* [n_parts], sorted by tensor and row when planned */
	uint32_t n_parts, part_capacity;
	bool is_mapped;
	uint32_t *file_numbers; /* [n_files]: in the image's table of files, NO_NUMBER: not in it */
};

/* Make room for one more element in the array *@list of *@capacity elements of @size bytes. */
static int grow(void **list, uint32_t *capacity, uint32_t n, uint32_t most, size_t size, const char *what,
		struct ds_error *err)
{
	uint32_t wanted = *capacity ? 2 * *capacity : 64;
	void *larger;

	if (n < *capacity)
		return 0;
	if (n >= most)
		return ds_fail(err, -E2BIG, "the checkpoint has more than %u %s", most, what);
	larger = reallocarray(*list, wanted, size);
	if (!larger)
		return ds_fail(err, -ENOMEM, "no memory for %u %s", wanted, what);
	*list = larger;
	*capacity = wanted;
	return 0;
}

static int take_hparams(void *self, const struct ds_hparams *hparams, struct ds_error *err)
{
	struct ds_model_builder *b = self;

	return ds_image_writer_hparams(b->image, hparams, err);
}

static void free_added(struct ds_model_builder *b)
{
	for (uint32_t i = 0; i < b->n_added; i++)
		free(b->added[i]);
	free(b->added);
	b->added = NULL;
	b->n_added = 0;
}

/* Keep the texts that may tell the dialect. One with a NUL byte in it ends early: it is nobody's mark. */
static int take_added(struct ds_model_builder *b, const struct ds_vocabulary *v, struct ds_error *err)
{
	const unsigned wanted = DS_TOKEN_ADDED | DS_TOKEN_SPECIAL;
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->n_tokens; i++)
		n += (v->tokens[i].flags & wanted) != 0;
	free_added(b);
	b->added = calloc((size_t)n + 1, sizeof(*b->added));
	if (!b->added)
		return ds_fail(err, -ENOMEM, "no memory for %u added tokens", n);
	for (uint32_t i = 0; i < v->n_tokens; i++) {
		if (!(v->tokens[i].flags & wanted))
			continue;
		b->added[b->n_added] = strndup(v->tokens[i].text, v->tokens[i].size);
		if (!b->added[b->n_added++])
			return ds_fail(err, -ENOMEM, "no memory for %u added tokens", n);
	}
	return 0;
}

static int take_vocabulary(void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err)
{
	struct ds_model_builder *b = self;
	int r = b->vet ? b->vet(b->vet_self, vocabulary, err) : 0;

	if (r == 0)
		r = ds_image_writer_vocabulary(b->image, vocabulary, err);
	return r < 0 ? r : take_added(b, vocabulary, err);
}

static int take_chat_template(void *self, const char *chat_template, struct ds_error *err)
{
	struct ds_model_builder *b = self;
	char *copy = strdup(chat_template);

	if (!copy)
		return ds_fail(err, -ENOMEM, "no memory for the chat template");
	free(b->chat_template);
	b->chat_template = copy;
	return 0;
}

static int check_desc(const struct ds_tensor_desc *desc, struct ds_model_tensor *t, struct ds_error *err)
{
	if (!desc->name || !*desc->name || strlen(desc->name) >= DS_IMAGE_NAME_MAX)
		return ds_fail(err, -EINVAL, "tensor \"%.100s\": a name has 1 to %u bytes",
			       desc->name ? desc->name : "", DS_IMAGE_NAME_MAX - 1);
	if (!ds_dtype_info(desc->dtype))
		return ds_fail(err, -EINVAL, "tensor %s: unknown type %u", desc->name, desc->dtype);
	if (desc->n_dims == 0 || desc->n_dims > DS_MAX_DIMS)
		return ds_fail(err, -EINVAL, "tensor %s: %u dimensions", desc->name, desc->n_dims);
	if (desc->n_dims == 1 && desc->dtype != DS_DTYPE_F32)
		return ds_fail(err, -EINVAL, "tensor %s: one dimension, so it must be kept as F32", desc->name);
	t->desc = *desc;
	t->rows = 1;
	for (uint32_t i = 0; i < DS_MAX_DIMS; i++) {
		uint64_t n = i < desc->n_dims ? desc->shape[i] : 1;

		t->desc.shape[i] = n;
		if (i + 1 < desc->n_dims && __builtin_mul_overflow(t->rows, n, &t->rows))
			t->rows = 0;
		if (i + 1 == desc->n_dims)
			t->cols = n;
	}
	if (t->rows == 0 || t->cols == 0 || t->cols > UINT64_MAX / 8 / t->rows)
		return ds_fail(err, -EINVAL, "tensor %s: a shape of no or too many elements", desc->name);
	if (t->cols > MAX_BLOCK / sizeof(float) || ds_row_size(desc->dtype, t->cols) > UINT64_MAX / 8 / t->rows)
		return ds_fail(err, -E2BIG, "tensor %s: %llu rows of %llu elements", desc->name,
			       (unsigned long long)t->rows, (unsigned long long)t->cols);
	if (desc->dtype != DS_DTYPE_FP8 && t->cols % ds_dtype_info(desc->dtype)->block)
		return ds_fail(err, -EINVAL, "tensor %s: a row of %llu elements is not whole blocks of %s", desc->name,
			       (unsigned long long)t->cols, ds_dtype_info(desc->dtype)->name);
	return 0;
}

static int take_tensor(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err)
{
	struct ds_model_builder *b = self;
	struct ds_model_tensor t = {.n_parts = 0};
	int r = check_desc(desc, &t, err);

	if (r == 0)
		r = grow((void **)&b->tensors, &b->tensor_capacity, b->n_tensors, MAX_TENSORS, sizeof(t), "tensors",
			 err);
	if (r < 0)
		return r;
	t.desc.name = strdup(desc->name);
	if (!t.desc.name)
		return ds_fail(err, -ENOMEM, "no memory for tensor %s", desc->name);
	b->tensors[b->n_tensors] = t;
	*index = b->n_tensors++;
	return 0;
}

static const char *dtype_name(enum ds_dtype dtype)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);

	return info ? info->name : "an unknown type";
}

/* Can elements of @part be stored in @t without losing anything? */
static bool converts(const struct ds_part *part, const struct ds_model_tensor *t)
{
	if (!ds_dtype_info(part->dtype))
		return false;
	if (t->desc.dtype == DS_DTYPE_F32)
		return true;
	return part->dtype == t->desc.dtype && (!part->transposed || ds_dtype_is_float(part->dtype));
}

/* What lies in a file for a part: the rectangle (rows, cols), and the bytes of each of its rows. */
struct rectangle {
	uint64_t rows, cols, row_size;
};

static int measure(const struct ds_part *part, const struct ds_model_tensor *t, const char *file,
		   struct rectangle *out, struct ds_error *err)
{
	const struct ds_dtype_info *info = ds_dtype_info(part->dtype);

	out->rows = part->transposed ? t->cols : part->n_rows;
	out->cols = part->transposed ? part->n_rows : t->cols;
	if (part->dtype != DS_DTYPE_FP8 && out->cols % info->block)
		return ds_fail(err, -EINVAL, "%s: tensor %s has rows of %llu elements, which are not whole blocks of %s",
			       file, t->desc.name, (unsigned long long)out->cols, info->name);
	/* what filling needs of a turned part at once is a block of each of its rows */
	if (part->transposed && t->cols > MAX_BLOCK / info->size)
		return ds_fail(err, -E2BIG, "%s: tensor %s cannot be turned: it has %llu columns", file, t->desc.name,
			       (unsigned long long)t->cols);
	out->row_size = ds_part_row_size(part, out->cols);
	return 0;
}

/* Does all of the rectangle lie in its file? */
static int check_place(const struct ds_part *part, const struct ds_model_tensor *t, const struct ds_file *file,
		       const struct rectangle *in, struct ds_error *err)
{
	uint64_t stride = part->stride ? part->stride : in->row_size, size;

	if (part->stride && (part->transposed || part->stride < in->row_size))
		return ds_fail(err, -EINVAL, "%s: tensor %s has %srows of %llu bytes %llu bytes apart", file->name,
			       t->desc.name, part->transposed ? "turned " : "", (unsigned long long)in->row_size,
			       (unsigned long long)part->stride);
	if (__builtin_mul_overflow(in->rows - 1, stride, &size) ||
	    __builtin_add_overflow(size, in->row_size, &size))
		size = UINT64_MAX;
	if (part->offset > file->size || size > file->size - part->offset)
		return ds_fail(err, -EINVAL, "%s: tensor %s needs %llu bytes from byte %llu, the file has %llu",
			       file->name, t->desc.name, (unsigned long long)size, (unsigned long long)part->offset,
			       (unsigned long long)file->size);
	return 0;
}

static int check_scales(const struct ds_model_builder *b, const struct ds_part *part, const struct ds_model_tensor *t,
			const struct rectangle *in, struct ds_error *err)
{
	const struct ds_scales *s = &part->scales;
	const char *name = b->files[part->file].name;
	uint64_t last, size;

	if (s->tile_rows == 0 && s->tile_cols == 0)
		return 0;
	if (part->dtype != DS_DTYPE_FP8 || s->tile_rows == 0 || s->tile_cols == 0 || s->file >= b->n_files)
		return ds_fail(err, -EINVAL, "%s: tensor %s of type %s has scales of %u x %u elements in file %u", name,
			       t->desc.name, dtype_name(part->dtype), s->tile_rows, s->tile_cols, s->file);
	if (in->cols > s->cols || s->cols > MAX_BLOCK / sizeof(float))
		return ds_fail(err, -EINVAL, "%s: tensor %s has %llu columns and scales for %llu", name, t->desc.name,
			       (unsigned long long)in->cols, (unsigned long long)s->cols);
	if (t->desc.dtype == DS_DTYPE_FP8 && in->cols > s->tile_cols &&
	    s->tile_cols % ds_dtype_info(DS_DTYPE_FP8)->block)
		return ds_fail(err, -ENOTSUP, "%s: tensor %s has a scale for each %u columns, not for whole blocks of %u",
			       name, t->desc.name, s->tile_cols, ds_dtype_info(DS_DTYPE_FP8)->block);
	if (__builtin_add_overflow(s->first_row, in->rows - 1, &last) ||
	    __builtin_mul_overflow(last / s->tile_rows + 1, ((s->cols - 1) / s->tile_cols + 1) * sizeof(float), &size))
		size = UINT64_MAX;
	if (s->offset > b->files[s->file].size || size > b->files[s->file].size - s->offset)
		return ds_fail(err, -EINVAL, "%s: the scales of tensor %s need %llu bytes from byte %llu, the file has %llu",
			       b->files[s->file].name, t->desc.name, (unsigned long long)size,
			       (unsigned long long)s->offset, (unsigned long long)b->files[s->file].size);
	return 0;
}

static int check_part(const struct ds_model_builder *b, const struct ds_part *part, struct ds_error *err)
{
	const struct ds_model_tensor *t = &b->tensors[part->tensor];
	const struct ds_file *file = &b->files[part->file];
	struct rectangle in = {0};
	int r;

	if (part->n_rows == 0 || part->row >= t->rows || part->n_rows > t->rows - part->row)
		return ds_fail(err, -EINVAL, "%s: tensor %s has %llu rows, a part has %llu from row %llu", file->name,
			       t->desc.name, (unsigned long long)t->rows, (unsigned long long)part->n_rows,
			       (unsigned long long)part->row);
	if (!converts(part, t))
		return ds_fail(err, -ENOTSUP, "%s: tensor %s cannot be converted from %s%s to %s", file->name,
			       t->desc.name, part->transposed ? "turned " : "", dtype_name(part->dtype),
			       dtype_name(t->desc.dtype));
	r = measure(part, t, file->name, &in, err);
	if (r == 0)
		r = check_place(part, t, file, &in, err);
	return r < 0 ? r : check_scales(b, part, t, &in, err);
}

static int take_part(void *self, const struct ds_part *part, struct ds_error *err)
{
	struct ds_model_builder *b = self;
	int r;

	if (part->tensor >= b->n_tensors || part->file >= b->n_files)
		return ds_fail(err, -EINVAL, "a part of tensor %u in file %u: there are %u tensors and %zu files",
			       part->tensor, part->file, b->n_tensors, b->n_files);
	r = check_part(b, part, err);
	if (r == 0)
		r = grow((void **)&b->parts, &b->part_capacity, b->n_parts, MAX_PARTS, sizeof(*part),
			 "parts of tensors", err);
	if (r == 0)
		b->parts[b->n_parts++] = *part;
	return r;
}

int ds_model_builder_new(struct ds_model_builder **out, const struct ds_file *files, size_t n_files,
			 struct ds_error *err)
{
	ds_cleanup(ds_model_builder_freep) struct ds_model_builder *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return ds_fail(err, -ENOMEM, "no memory for a model");
	b->files = files;
	b->n_files = n_files;
	b->calls = (struct ds_builder){
		.size = sizeof(b->calls),
		.self = b,
		.hparams = take_hparams,
		.vocabulary = take_vocabulary,
		.chat_template = take_chat_template,
		.tensor = take_tensor,
		.part = take_part,
	};
	r = ds_image_writer_new(&b->image, err);
	if (r < 0)
		return r;
	*out = ds_steal(&b);
	return 0;
}

struct ds_model_builder *ds_model_builder_free(struct ds_model_builder *builder)
{
	if (!builder)
		return NULL;
	ds_image_writer_free(builder->image);
	free(builder->chat_template);
	free_added(builder);
	for (uint32_t i = 0; i < builder->n_tensors; i++)
		free((void *)builder->tensors[i].desc.name);
	free(builder->tensors);
	free(builder->parts);
	free(builder->file_numbers);
	free(builder);
	return NULL;
}

const struct ds_builder *ds_model_builder_calls(struct ds_model_builder *builder)
{
	return &builder->calls;
}

void ds_model_builder_vet(struct ds_model_builder *builder, ds_vet_vocabulary *vet, const void *self)
{
	builder->vet = vet;
	builder->vet_self = self;
}

static int by_tensor_and_row(const void *a, const void *b)
{
	const struct ds_part *x = a, *y = b;

	if (x->tensor != y->tensor)
		return x->tensor < y->tensor ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* Give every tensor its parts and see that they fill each of its rows once. */
static int assign_parts(struct ds_model_builder *b, struct ds_error *err)
{
	const struct ds_part *part = b->parts, *end = b->parts + b->n_parts;

	if (b->n_parts > 0)
		qsort(b->parts, b->n_parts, sizeof(*b->parts), by_tensor_and_row);
	for (uint32_t i = 0; i < b->n_tensors; i++) {
		struct ds_model_tensor *t = &b->tensors[i];
		uint64_t row = 0;

		t->parts = part;
		for (; part < end && part->tensor == i; part++, t->n_parts++) {
			if (part->row < row)
				return ds_fail(err, -EINVAL, "%s: row %llu of tensor %s is given twice",
					       b->files[part->file].name, (unsigned long long)part->row, t->desc.name);
			if (part->row > row)
				break;
			row += part->n_rows;
		}
		if (row < t->rows)
			return ds_fail(err, -EINVAL, "row %llu of the %llu rows of tensor %s is missing",
				       (unsigned long long)row, (unsigned long long)t->rows, t->desc.name);
	}
	return 0;
}

const struct ds_part *ds_model_tensor_part(const struct ds_model_tensor *t, uint64_t row)
{
	uint32_t low = 0, high = t->n_parts - 1;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (row >= t->parts[middle].row + t->parts[middle].n_rows)
			low = middle + 1;
		else
			high = middle;
	}
	return &t->parts[low];
}

/* Is what the backend wants of @t possible? */
static int check_layout(const struct ds_model_tensor *t, struct ds_error *err)
{
	const struct ds_layout *l = &t->layout;
	uint64_t n_blocks, size;

	if (l->block_rows == 0 || l->block_size == 0 || l->block_size > MAX_BLOCK ||
	    l->block_rows > MAX_BLOCK / (t->cols * sizeof(float)) + 1)
		return ds_fail(err, -EINVAL, "tensor %s: the backend wants blocks of %u rows in %llu bytes",
			       t->desc.name, l->block_rows, (unsigned long long)l->block_size);
	n_blocks = (t->rows - 1) / l->block_rows + 1;
	if (__builtin_mul_overflow(n_blocks, l->block_size, &size) || size > l->size)
		return ds_fail(err, -EINVAL, "tensor %s: the backend wants %llu blocks of %llu bytes in %llu",
			       t->desc.name, (unsigned long long)n_blocks, (unsigned long long)l->block_size,
			       (unsigned long long)l->size);
	return 0;
}

/* The number of file @index in the image's table. */
static int number_file(struct ds_model_builder *b, uint32_t index, uint32_t *number, struct ds_error *err)
{
	struct stat st;
	int r;

	if (!b->file_numbers) {
		b->file_numbers = reallocarray(NULL, b->n_files, sizeof(*b->file_numbers));
		if (!b->file_numbers)
			return ds_fail(err, -ENOMEM, "no memory for the numbers of %zu files", b->n_files);
		memset(b->file_numbers, 0xff, b->n_files * sizeof(*b->file_numbers));
	}
	if (b->file_numbers[index] == NO_NUMBER) {
		if (fstat(b->files[index].fd, &st) < 0 || (uint64_t)st.st_size != b->files[index].size)
			return ds_fail(err, -EIO, "%s changed while it was described", b->files[index].name);
		r = ds_image_writer_file(b->image, b->files[index].name, &st, &b->file_numbers[index], err);
		if (r < 0)
			return r;
	}
	*number = b->file_numbers[index];
	return 0;
}

/* Do rows [@row, @row + @n_rows) of @t lie in one file, one after the other and as they are to be stored? *@place: its
 * index among the files, and where. */
static bool is_contiguous(const struct ds_model_tensor *t, uint64_t row, uint64_t n_rows, struct ds_image_place *place)
{
	uint64_t row_size = ds_row_size(t->desc.dtype, t->cols), end = row + n_rows;

	for (const struct ds_part *p = ds_model_tensor_part(t, row), *first = p; row < end; row = p->row + p->n_rows, p++) {
		uint64_t offset = p->offset + (row - p->row) * row_size;

		if (p->dtype != t->desc.dtype || p->dtype == DS_DTYPE_FP8 || p->transposed ||
		    (p->stride != 0 && p->stride != row_size) || p->file != first->file)
			return false;
		if (p == first)
			*place = (struct ds_image_place){.file = p->file, .offset = offset};
		else if (offset != place->offset + (row - (end - n_rows)) * row_size)
			return false;
	}
	return place->offset % ds_image_place_align(t->desc.dtype) == 0;
}

/* Where @t lies in the files, if it may stay there: whole, or each matrix of a stack. *@places (if not NULL) is the
 * caller's. Whatever layout the backend would choose, what stays has the rows of the file. */
static int find_places(const struct ds_model_tensor *t, struct ds_image_place **places, uint32_t *n,
		       struct ds_error *err)
{
	uint64_t rows = t->desc.n_dims == 3 ? t->desc.shape[1] : t->rows;
	struct ds_image_place whole;

	*places = NULL;
	if (t->desc.n_dims < 2)
		return 0;
	*n = is_contiguous(t, 0, t->rows, &whole) ? 1 : (uint32_t)(t->rows / rows);
	if (t->rows / rows > MAX_PARTS || (*n > 1 && t->desc.n_dims != 3))
		return 0;
	*places = reallocarray(NULL, *n, sizeof(**places));
	if (!*places)
		return ds_fail(err, -ENOMEM, "no memory for %u places", *n);
	for (uint32_t i = 0; i < *n; i++)
		if (!is_contiguous(t, i * rows, *n == 1 ? t->rows : rows, &(*places)[i])) {
			free(*places);
			*places = NULL;
			return 0;
		}
	return 0;
}

/* Let @t stay in the files if it can. */
static int map_tensor(struct ds_model_builder *b, struct ds_model_tensor *t, struct ds_error *err)
{
	ds_cleanup(ds_freep) struct ds_image_place *places = NULL;
	uint32_t n = 0;
	int r = find_places(t, &places, &n, err);

	if (r < 0 || !places)
		return r;
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = number_file(b, places[i].file, &places[i].file, err);
	if (r == 0)
		r = ds_image_writer_mapped_tensor(b->image, &t->desc, places, n, err);
	t->is_mapped = r == 0;
	return r;
}

void ds_model_builder_map(struct ds_model_builder *builder)
{
	builder->is_mapped = true;
}

bool ds_model_builder_is_mapped(const struct ds_model_builder *builder)
{
	return builder->is_mapped;
}

/* Blocks cannot be turned, so what is turned from them becomes F32. BF16 has more bits than blocks of these types, and
 * fast precision rounds activations to as many. */
static void narrow_turned(struct ds_model_tensor *t)
{
	bool turned = t->desc.dtype == DS_DTYPE_F32 && t->n_parts > 0;

	for (size_t i = 0; i < t->n_parts; i++)
		turned = turned && t->parts[i].transposed && !ds_dtype_is_float(t->parts[i].dtype);
	if (turned)
		t->desc.dtype = DS_DTYPE_BF16;
}

int ds_model_builder_plan(struct ds_model_builder *builder, const struct ds_backend_ops *backend,
			  enum ds_precision precision, struct ds_error *err)
{
	int r = assign_parts(builder, err);

	if (r == 0)
		r = ds_image_writer_backend(builder->image, backend->identity(), err);
	for (uint32_t i = 0; r == 0 && i < builder->n_tensors; i++) {
		struct ds_model_tensor *t = &builder->tensors[i];

		if (precision == DS_PRECISION_FAST)
			narrow_turned(t);
		r = backend->plan(&t->desc, precision, &t->layout, err);
		if (r == 0)
			r = check_layout(t, err);
		if (r == 0 && builder->is_mapped)
			r = map_tensor(builder, t, err);
		if (r == 0 && !t->is_mapped)
			r = ds_image_writer_tensor(builder->image, &t->desc, t->layout.id, t->layout.size, err);
	}
	return r < 0 ? r : ds_image_writer_layout(builder->image, err);
}

struct ds_image_writer *ds_model_builder_image(const struct ds_model_builder *builder)
{
	return builder->image;
}

struct ds_habits ds_model_builder_habits(const struct ds_model_builder *builder)
{
	static const char *const none[] = {NULL};

	return (struct ds_habits){
		.size = sizeof(struct ds_habits),
		.chat_template = builder->chat_template ? builder->chat_template : "",
		.added_tokens = builder->added ? (const char *const *)builder->added : none,
	};
}

const struct ds_file *ds_model_builder_files(const struct ds_model_builder *builder)
{
	return builder->files;
}

const struct ds_model_tensor *ds_model_builder_tensors(const struct ds_model_builder *builder, uint32_t *n)
{
	*n = builder->n_tensors;
	return builder->tensors;
}

uint64_t ds_model_builder_parameters(const struct ds_model_builder *builder)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < builder->n_tensors; i++)
		n += builder->tensors[i].rows * builder->tensors[i].cols;
	return n;
}

/* header.c - the header of one .safetensors file: its length (u64, little-endian), that many bytes of JSON, the data.
 *
 *   {NAME: {"dtype": TYPE, "shape": [...], "data_offsets": [BEGIN, END]}..., "__metadata__": {...}}
 *
 * Offsets count from the first byte after the header. Nothing is taken before it is known to lie inside the file, to be
 * as long as shape and type say, and to overlap nothing. */
#include "checkpoint.h"

static const struct ds_element elements[] = {
	{"F32", 32, DS_DTYPE_F32},
	{"F16", 16, DS_DTYPE_F16},
	{"BF16", 16, DS_DTYPE_BF16},
	{"F64", 64, 0},
	{"I64", 64, 0},
	{"U64", 64, 0},
	{"I32", 32, 0},
	{"U32", 32, 0},
	{"I16", 16, 0},
	{"U16", 16, 0},
	{"I8", 8, 0},
	{"U8", 8, 0},
	{"BOOL", 8, 0},
	{"F8_E4M3", 8, DS_DTYPE_FP8},
	{"F8_E5M2", 8, 0},
	{"F8_E8M0", 8, 0},
	{"F6_E2M3", 6, 0},
	{"F6_E3M2", 6, 0},
	{"F4", 4, 0},
	{"C64", 64, 0},
};

/* One header while it is read. */
struct header {
	const char *file; /* to be shown */
	const char *name; /* of the tensor being read, to be shown */
	uint64_t data;    /* offset of the first byte after the header */
	uint64_t size;    /* bytes from there to the end of the file */
};

static int read_type(struct ds_stored *t, const struct header *h, const json_t *entry, struct ds_error *err)
{
	const char *type = json_string_value(json_object_get(entry, "dtype"));

	if (!type)
		return ds_fail(err, -EINVAL, "%s: tensor %s: dtype should be a text", h->file, h->name);
	for (size_t i = 0; i < DS_ARRAY_SIZE(elements); i++)
		if (strcmp(elements[i].name, type) == 0) {
			t->element = &elements[i];
			return 0;
		}
	return ds_fail(err, -ENOTSUP, "%s: tensor %s has the unknown type %s", h->file, h->name, ds_shown(type).text);
}

/* Read shape and the size that follows from it. */
static int read_shape(struct ds_stored *t, const struct header *h, const json_t *entry, struct ds_error *err)
{
	const json_t *shape = json_object_get(entry, "shape");
	uint64_t bits = t->element->bits;

	if (!json_is_array(shape) || json_array_size(shape) > DS_STORED_MAX_DIMS)
		return ds_fail(err, -EINVAL, "%s: tensor %s: shape should be a list of at most %d numbers", h->file,
			       h->name, DS_STORED_MAX_DIMS);
	t->n_dims = (uint32_t)json_array_size(shape);
	for (uint32_t i = 0; i < t->n_dims; i++) {
		const json_t *value = json_array_get(shape, i);

		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return ds_fail(err, -EINVAL, "%s: tensor %s: shape[%u] should be a whole number from 0 on",
				       h->file, h->name, i);
		t->shape[i] = (uint64_t)json_integer_value(value);
		if (__builtin_mul_overflow(bits, t->shape[i], &bits))
			return ds_fail(err, -EINVAL, "%s: tensor %s: the numbers of its shape are too large", h->file,
				       h->name);
	}
	if (bits % 8)
		return ds_fail(err, -EINVAL, "%s: tensor %s: its shape does not fill whole bytes", h->file, h->name);
	t->size = bits / 8;
	return 0;
}

static int read_offsets(struct ds_stored *t, const struct header *h, const json_t *entry, struct ds_error *err)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
	uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);

	if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
	    json_integer_value(first) < 0 || end < begin || json_integer_value(last) < 0)
		return ds_fail(err, -EINVAL, "%s: tensor %s: data_offsets should be two rising whole numbers", h->file,
			       h->name);
	if (end > h->size)
		return ds_fail(err, -EINVAL, "%s: tensor %s lies outside the file: it ends at byte %llu of %llu",
			       h->file, h->name, (unsigned long long)end, (unsigned long long)h->size);
	if (end - begin != t->size)
		return ds_fail(err, -EINVAL, "%s: tensor %s has %llu bytes, its shape and type need %llu", h->file,
			       h->name, (unsigned long long)(end - begin), (unsigned long long)t->size);
	t->offset = h->data + begin;
	return 0;
}

static int read_tensor(struct ds_stored *t, const struct header *h, const json_t *entry, struct ds_error *err)
{
	int r;

	if (!json_is_object(entry))
		return ds_fail(err, -EINVAL, "%s: tensor %s should be an object", h->file, h->name);
	r = read_type(t, h, entry, err);
	if (r < 0)
		return r;
	r = read_shape(t, h, entry, err);
	if (r < 0)
		return r;
	return read_offsets(t, h, entry, err);
}

static int by_offset(const void *a, const void *b)
{
	const struct ds_stored *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->size < y->size ? -1 : x->size > y->size;
}

static int check_overlaps(struct ds_stored *tensors, size_t n, const char *file, struct ds_error *err)
{
	qsort(tensors, n, sizeof(*tensors), by_offset);
	for (size_t i = 1; i < n; i++)
		if (tensors[i - 1].offset + tensors[i - 1].size > tensors[i].offset)
			return ds_fail(err, -EINVAL, "%s: tensors %s and %s overlap", file,
				       ds_shown(tensors[i - 1].name).text, ds_shown(tensors[i].name).text);
	return 0;
}

/* Make room for @n more tensors. */
static int reserve(struct ds_checkpoint *c, size_t n, struct ds_error *err)
{
	struct ds_stored *grown;
	size_t capacity = c->n_stored + n;

	if (capacity <= c->stored_capacity)
		return 0;
	if (capacity < c->stored_capacity * 2)
		capacity = c->stored_capacity * 2;
	grown = reallocarray(c->stored, capacity, sizeof(*grown));
	if (!grown)
		return ds_fail(err, -ENOMEM, "no memory for the table of %zu tensors", capacity);
	c->stored = grown;
	c->stored_capacity = capacity;
	return 0;
}

/* Find the header's JSON: *@size bytes after the first eight. */
static int measure(uint64_t *size, const struct ds_file *file, const char *shown, struct ds_error *err)
{
	uint8_t bytes[8];
	uint64_t n = 0;
	int r;

	if (file->size < sizeof(bytes))
		return ds_fail(err, -EINVAL, "%s: %llu bytes are too few for a safetensors file", shown,
			       (unsigned long long)file->size);
	r = ds_file_read(file, 0, bytes, sizeof(bytes), err);
	if (r < 0)
		return r;
	for (int i = 7; i >= 0; i--)
		n = n << 8 | bytes[i];
	if (n > file->size - sizeof(bytes))
		return ds_fail(err, -EINVAL, "%s: its header of %llu bytes is longer than the file of %llu bytes",
			       shown, (unsigned long long)n, (unsigned long long)file->size);
	*size = n;
	return 0;
}

int ds_header_read(struct ds_checkpoint *c, uint32_t file, struct ds_error *err)
{
	struct ds_shown shown = ds_shown(c->files[file].name), shown_tensor;
	struct header h = {.file = shown.text};
	json_auto_t *root = NULL;
	size_t first = c->n_stored;
	const char *name;
	uint64_t size = 0;
	json_t *entry;
	int r;

	r = measure(&size, &c->files[file], h.file, err);
	if (r < 0)
		return r;
	r = ds_json_read(&root, &c->files[file], 8, size, 0, err);
	if (r < 0)
		return r;
	h.data = 8 + size;
	h.size = c->files[file].size - h.data;
	r = reserve(c, json_object_size(root), err);
	if (r < 0)
		return r;
	json_object_foreach (root, name, entry) {
		struct ds_stored t = {.file = file};

		if (strcmp(name, "__metadata__") == 0)
			continue;
		shown_tensor = ds_shown(name);
		h.name = shown_tensor.text;
		r = read_tensor(&t, &h, entry, err);
		if (r < 0)
			return r;
		t.name = strdup(name);
		if (!t.name)
			return ds_fail(err, -ENOMEM, "no memory for the name of a tensor");
		c->stored[c->n_stored++] = t;
	}
	if (c->n_stored == first)
		return 0;
	return check_overlaps(c->stored + first, c->n_stored - first, h.file, err);
}

/* header.c - the header of one file: magic, version, counts, keys with their values, infos of tensors, in this order.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_keys | keys | infos | padding | data
 *   key:  text name | u32 type | value          array: u32 element type | u64 count | elements
 *   info: text name | u32 n_dims | u64 ne[n_dims], innermost first | u32 type | u64 offset from the start of the data
 *   text: u64 size | bytes
 *
 * While the header is read its memory may move, so that places in it are counted from the start of the file. */
#include "gguf.h"

#define MAGIC "GGUF"
#define DEFAULT_ALIGNMENT 32u
#define MAX_KEYS 65536u
#define MAX_TENSORS (1u << 20)
#define SMALLEST_KEY 13u  /* bytes: an empty name, a type, a value of one byte */
#define SMALLEST_INFO 32u /* bytes: an empty name, one dimension, type and offset */

static const uint8_t value_sizes[DS_GGUF_N_VALUES] = {
	[DS_GGUF_U8] = 1,  [DS_GGUF_I8] = 1,  [DS_GGUF_U16] = 2, [DS_GGUF_I16] = 2,
	[DS_GGUF_U32] = 4, [DS_GGUF_I32] = 4, [DS_GGUF_F32] = 4, [DS_GGUF_BOOL] = 1,
	[DS_GGUF_U64] = 8, [DS_GGUF_I64] = 8, [DS_GGUF_F64] = 8,
};

uint32_t ds_gguf_value_size(enum ds_gguf_value type)
{
	return value_sizes[type];
}

bool ds_gguf_has_magic(const struct ds_file *file)
{
	char magic[4];

	return file->size >= sizeof(magic) && pread(file->fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
	       memcmp(magic, MAGIC, sizeof(magic)) == 0;
}

static int check_version(const struct ds_gguf_source *s, uint32_t version, struct ds_error *err)
{
	uint32_t swapped = __builtin_bswap32(version);

	if (version == 2 || version == 3)
		return 0;
	if (swapped >= 1 && swapped <= 3)
		return ds_fail(err, -ENOTSUP, "%s: big-endian GGUF is not supported, convert it to little-endian",
			       ds_shown(s->file->name).text);
	return ds_fail(err, -ENOTSUP, "%s: GGUF version %u is not supported (supported: 2, 3)",
		       ds_shown(s->file->name).text, version);
}

/* Magic, version and counts. */
static int read_start(struct ds_gguf_part *part, struct ds_error *err)
{
	struct ds_gguf_source *s = &part->source;
	const char *shown = "the header";
	uint32_t version = 0;
	int r = 0;

	if (!ds_gguf_has_magic(s->file))
		return ds_fail(err, -EINVAL, "%s: does not begin with \"" MAGIC "\"", ds_shown(s->file->name).text);
	s->position = strlen(MAGIC);
	r = ds_gguf_take_u32(s, &version, shown, err);
	if (r == 0)
		r = check_version(s, version, err);
	if (r == 0)
		r = ds_gguf_take_u64(s, &part->n_tensors, shown, err);
	if (r == 0)
		r = ds_gguf_take_u64(s, &part->n_keys, shown, err);
	if (r < 0)
		return r;
	if (part->n_keys > (s->file->size - s->position) / SMALLEST_KEY ||
	    part->n_tensors > (s->file->size - s->position) / SMALLEST_INFO)
		return ds_fail(err, -EINVAL,
			       "%s: %" PRIu64 " keys and %" PRIu64 " tensors do not fit into %" PRIu64 " bytes",
			       ds_shown(s->file->name).text, part->n_keys, part->n_tensors, s->file->size);
	if (part->n_keys > MAX_KEYS || part->n_tensors > MAX_TENSORS)
		return ds_fail(err, -E2BIG, "%s: more than %u keys or %u tensors", ds_shown(s->file->name).text,
			       MAX_KEYS, MAX_TENSORS);
	return 0;
}

static int skip_texts(struct ds_gguf_source *s, uint64_t count, const char *name, struct ds_error *err)
{
	uint64_t position, size;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i++)
		r = ds_gguf_take_text(s, &position, &size, name, err);
	return r;
}

static int read_type(struct ds_gguf_source *s, enum ds_gguf_value *out, const char *name, struct ds_error *err)
{
	uint32_t type = 0;
	int r = ds_gguf_take_u32(s, &type, name, err);

	if (r < 0)
		return r;
	if (type >= DS_GGUF_N_VALUES)
		return ds_fail(err, -EINVAL, "%s: %s has a value of the unknown type %u", ds_shown(s->file->name).text,
			       name, type);
	*out = type;
	return 0;
}

/* Read the value that follows, leaving in key->value its place in the file. @name: of the key, to be shown. */
static int read_value(struct ds_gguf_source *s, struct ds_gguf_key *key, uint64_t *place, const char *name,
		      struct ds_error *err)
{
	uint32_t size;
	int r = read_type(s, &key->type, name, err);

	key->count = 1;
	if (r == 0 && key->type == DS_GGUF_ARRAY) {
		key->array = true;
		r = read_type(s, &key->type, name, err);
		if (r == 0 && key->type == DS_GGUF_ARRAY)
			return ds_fail(err, -EINVAL, "%s: %s is an array of arrays", ds_shown(s->file->name).text,
				       name);
		if (r == 0)
			r = ds_gguf_take_u64(s, &key->count, name, err);
	}
	if (r < 0)
		return r;
	size = ds_gguf_value_size(key->type);
	/* a text takes eight bytes at least: the loop below ends with the file */
	if (key->count > (s->file->size - s->position) / (size ? size : sizeof(uint64_t)))
		return ds_fail(err, -EINVAL, "%s: ends at byte %" PRIu64 ", in the middle of %s",
			       ds_shown(s->file->name).text, s->file->size, name);
	*place = s->position;
	if (size == 0)
		return skip_texts(s, key->count, name, err);
	r = ds_gguf_need(s, key->count * size, name, err);
	if (r == 0)
		s->position += key->count * size;
	return r;
}

/* Where the name and the value of a key are in the file. */
struct places {
	uint64_t name, value;
};

static int read_keys(struct ds_gguf_part *part, struct places *places, struct ds_error *err)
{
	struct ds_gguf_source *s = &part->source;

	for (uint64_t i = 0; i < part->n_keys; i++) {
		struct ds_gguf_key *key = &part->keys[i];
		struct ds_shown shown;
		uint64_t size;
		int r = ds_gguf_take_text(s, &places[i].name, &size, "the name of a key", err);

		if (r < 0)
			return r;
		key->name.size = size;
		shown = ds_shown_bytes(s->data + places[i].name, size);
		r = read_value(s, key, &places[i].value, shown.text, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct ds_gguf_text *x = &((const struct ds_gguf_key *)a)->name;
	const struct ds_gguf_text *y = &((const struct ds_gguf_key *)b)->name;
	int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);

	return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* All is read, the memory stays where it is. */
static int settle_keys(struct ds_gguf_part *part, const struct places *places, struct ds_error *err)
{
	for (uint64_t i = 0; i < part->n_keys; i++) {
		part->keys[i].name.text = part->source.data + places[i].name;
		part->keys[i].value = part->source.data + places[i].value;
	}
	qsort(part->keys, part->n_keys, sizeof(*part->keys), by_name);
	for (uint64_t i = 1; i < part->n_keys; i++)
		if (by_name(&part->keys[i - 1], &part->keys[i]) == 0)
			return ds_fail(err, -EINVAL, "%s: the key %s is there twice",
				       ds_shown(part->source.file->name).text,
				       ds_shown_bytes(part->keys[i].name.text, part->keys[i].name.size).text);
	return 0;
}

/* Sizes of a tensor and, from them, its bytes. */
static int read_shape(struct ds_gguf_source *s, struct ds_gguf_stored *t, uint32_t *n_dims, struct ds_error *err)
{
	int r = ds_gguf_take_u32(s, n_dims, t->name, err);

	if (r < 0)
		return r;
	if (*n_dims < 1 || *n_dims > DS_GGUF_MAX_DIMS)
		return ds_fail(err, -EINVAL, "%s: tensor %s has %u dimensions, allowed: 1 to %d",
			       ds_shown(s->file->name).text, t->name, *n_dims, DS_GGUF_MAX_DIMS);
	for (uint32_t i = 0; i < DS_GGUF_MAX_DIMS; i++) {
		t->ne[i] = 1;
		if (i < *n_dims)
			r = ds_gguf_take_u64(s, &t->ne[i], t->name, err);
		if (r < 0)
			return r;
		if (t->ne[i] == 0)
			return ds_fail(err, -EINVAL, "%s: tensor %s has no elements", ds_shown(s->file->name).text,
				       t->name);
	}
	return 0;
}

static int measure(const struct ds_gguf_source *s, struct ds_gguf_stored *t, struct ds_error *err)
{
	bool overflow = false;

	if (t->ne[0] % t->type->block)
		return ds_fail(err, -EINVAL,
			       "%s: tensor %s of type %s has rows of %" PRIu64 " elements, not blocks of %u",
			       ds_shown(s->file->name).text, t->name, t->type->name, t->ne[0], t->type->block);
	t->size = t->ne[0] / t->type->block;
	overflow |= __builtin_mul_overflow(t->size, t->type->size, &t->size);
	for (uint32_t i = 1; i < DS_GGUF_MAX_DIMS; i++)
		overflow |= __builtin_mul_overflow(t->size, t->ne[i], &t->size);
	/* more than a file can have */
	if (overflow || t->size > INT64_MAX)
		return ds_fail(err, -EINVAL, "%s: tensor %s: the numbers of its shape are too large",
			       ds_shown(s->file->name).text, t->name);
	return 0;
}

/* Fit to stand in a sentence as it is. */
static bool is_printable(const char *text, uint64_t size)
{
	for (uint64_t i = 0; i < size; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	return true;
}

static int read_info(struct ds_gguf_source *s, struct ds_gguf_stored *t, struct ds_error *err)
{
	uint64_t position, size;
	uint32_t n_dims, type = 0;
	int r = ds_gguf_take_text(s, &position, &size, "the name of a tensor", err);

	if (r < 0)
		return r;
	if (size == 0 || size >= sizeof(t->name) || !is_printable(s->data + position, size))
		return ds_fail(err, -EINVAL, "%s: tensor \"%s\": a name has 1 to %zu printable characters of ASCII",
			       ds_shown(s->file->name).text, ds_shown_bytes(s->data + position, size).text,
			       sizeof(t->name) - 1);
	memcpy(t->name, s->data + position, size);
	r = read_shape(s, t, &n_dims, err);
	if (r == 0)
		r = ds_gguf_take_u32(s, &type, t->name, err);
	if (r == 0)
		r = ds_gguf_take_u64(s, &t->offset, t->name, err);
	if (r < 0)
		return r;
	t->type = ds_gguf_type(type);
	if (!t->type)
		return ds_gguf_refuse_type(type, s->file, t->name, err);
	return measure(s, t, err);
}

static int read_alignment(const struct ds_gguf_part *part, uint64_t *alignment, struct ds_error *err)
{
	int r;

	*alignment = DEFAULT_ALIGNMENT;
	r = ds_gguf_count(part, "general.alignment", 1, 1u << 30, alignment, err);
	if (r == 0 && *alignment & (*alignment - 1))
		return ds_fail(err, -EINVAL, "%s: general.alignment is %" PRIu64 ", which is not a power of two",
			       ds_shown(part->source.file->name).text, *alignment);
	return r;
}

/* Make the offsets count from the start of the file. */
static int place_tensors(const struct ds_gguf_part *part, struct ds_gguf_stored *list, struct ds_error *err)
{
	const struct ds_file *file = part->source.file;
	uint64_t alignment, data;
	int r = read_alignment(part, &alignment, err);

	if (r < 0)
		return r;
	data = (part->source.position + alignment - 1) / alignment * alignment;
	for (uint64_t i = 0; i < part->n_tensors; i++) {
		struct ds_gguf_stored *t = &list[i];

		if (t->offset % alignment)
			return ds_fail(err, -EINVAL,
				       "%s: tensor %s begins at byte %" PRIu64
				       " of the data, not at a multiple of %" PRIu64,
				       ds_shown(file->name).text, t->name, t->offset, alignment);
		if (__builtin_add_overflow(t->offset, data, &t->offset) || t->offset > file->size ||
		    t->size > file->size - t->offset)
			return ds_fail(err, -EINVAL,
				       "%s: tensor %s needs %" PRIu64 " bytes from byte %" PRIu64
				       ", the file has %" PRIu64,
				       ds_shown(file->name).text, t->name, t->size, t->offset, file->size);
	}
	return 0;
}

static int read_infos(struct ds_gguf *g, struct ds_gguf_part *part, struct ds_error *err)
{
	struct ds_gguf_stored *larger;
	int r = 0;

	larger = reallocarray(g->stored, g->n_stored + part->n_tensors + 1, sizeof(*larger));
	if (!larger)
		return ds_fail(err, -ENOMEM, "%s: no memory for %" PRIu64 " tensors",
			       ds_shown(part->source.file->name).text, part->n_tensors);
	g->stored = larger;
	for (uint64_t i = 0; r == 0 && i < part->n_tensors; i++) {
		larger[g->n_stored + i] = (struct ds_gguf_stored){.file = part->file};
		r = read_info(&part->source, &larger[g->n_stored + i], err);
	}
	return r;
}

int ds_gguf_read_header(struct ds_gguf *g, struct ds_gguf_part *part, struct ds_error *err)
{
	ds_cleanup(ds_freep) struct places *places = NULL;
	int r = read_start(part, err);

	if (r < 0)
		return r;
	places = calloc(part->n_keys + 1, sizeof(*places));
	part->keys = calloc(part->n_keys + 1, sizeof(*part->keys));
	if (!places || !part->keys)
		return ds_fail(err, -ENOMEM, "%s: no memory for %" PRIu64 " keys",
			       ds_shown(part->source.file->name).text, part->n_keys);
	r = read_keys(part, places, err);
	if (r == 0)
		r = read_infos(g, part, err);
	if (r == 0)
		r = settle_keys(part, places, err);
	if (r == 0)
		r = place_tensors(part, g->stored + g->n_stored, err);
	if (r == 0)
		g->n_stored += part->n_tensors;
	return r;
}

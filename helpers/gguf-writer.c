/* gguf-writer.c - two growing buffers, of keys and of what is said about tensors, and a header before them. */
#include "gguf-writer.h"

#include <string.h>

/* Types of a key's value, with the numbers of the format. */
enum {
	TYPE_U32 = 4,
	TYPE_I32 = 5,
	TYPE_F32 = 6,
	TYPE_BOOL = 7,
	TYPE_TEXT = 8,
	TYPE_ARRAY = 9,
};

struct buffer {
	char *data;
	size_t size, capacity;
	bool failed;
};

struct ds_gguf_writer {
	struct buffer keys, tensors;
	uint64_t n_keys;
	uint64_t *offsets; /* [n_tensors], from the start of the data; from the start of the file after layout */
	uint32_t n_tensors, capacity;
	uint64_t data_size, start, size;
	bool failed;
};

/* The number a type has in the format; -1: it has none there. */
static int type_id(enum ds_dtype dtype)
{
	static const int ids[DS_N_DTYPES] = {
		[DS_DTYPE_F32] = 0,   [DS_DTYPE_F16] = 1,     [DS_DTYPE_BF16] = 30,   [DS_DTYPE_Q4_0] = 2,
		[DS_DTYPE_Q4_1] = 3,  [DS_DTYPE_Q5_0] = 6,    [DS_DTYPE_Q5_1] = 7,    [DS_DTYPE_Q8_0] = 8,
		[DS_DTYPE_Q2_K] = 10, [DS_DTYPE_Q3_K] = 11,   [DS_DTYPE_Q4_K] = 12,   [DS_DTYPE_Q5_K] = 13,
		[DS_DTYPE_Q6_K] = 14, [DS_DTYPE_IQ4_NL] = 20, [DS_DTYPE_IQ4_XS] = 23, [DS_DTYPE_MXFP4] = 39,
		[DS_DTYPE_FP8] = -1,
	};

	return ids[dtype];
}

static void put(struct buffer *b, const void *data, size_t size)
{
	if (b->failed)
		return;
	if (size > b->capacity - b->size) {
		size_t capacity = 2 * b->capacity + size + 4096;
		char *larger = realloc(b->data, capacity);

		if (!larger) {
			b->failed = true;
			return;
		}
		b->data = larger;
		b->capacity = capacity;
	}
	if (size > 0)
		memcpy(b->data + b->size, data, size);
	b->size += size;
}

static void put_u32(struct buffer *b, uint32_t value)
{
	put(b, &value, sizeof(value));
}

static void put_u64(struct buffer *b, uint64_t value)
{
	put(b, &value, sizeof(value));
}

static void put_text(struct buffer *b, const char *text, uint64_t size)
{
	put_u64(b, size);
	put(b, text, size);
}

static void put_key(struct ds_gguf_writer *w, const char *prefix, const char *name, uint32_t type)
{
	uint64_t before = prefix ? strlen(prefix) + 1 : 0;

	put_u64(&w->keys, before + strlen(name));
	if (prefix) {
		put(&w->keys, prefix, before - 1);
		put(&w->keys, ".", 1);
	}
	put(&w->keys, name, strlen(name));
	put_u32(&w->keys, type);
	w->n_keys++;
}

static void put_array(struct ds_gguf_writer *w, const char *name, uint32_t type, uint64_t n)
{
	put_key(w, NULL, name, TYPE_ARRAY);
	put_u32(&w->keys, type);
	put_u64(&w->keys, n);
}

int ds_gguf_writer_new(struct ds_gguf_writer **out, struct ds_error *err)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : ds_fail(err, -ENOMEM, "no memory for the keys of a file");
}

struct ds_gguf_writer *ds_gguf_writer_free(struct ds_gguf_writer *writer)
{
	if (!writer)
		return NULL;
	free(writer->keys.data);
	free(writer->tensors.data);
	free(writer->offsets);
	free(writer);
	return NULL;
}

void ds_gguf_writer_u32(struct ds_gguf_writer *w, const char *prefix, const char *name, uint32_t value)
{
	put_key(w, prefix, name, TYPE_U32);
	put_u32(&w->keys, value);
}

void ds_gguf_writer_f32(struct ds_gguf_writer *w, const char *prefix, const char *name, float value)
{
	put_key(w, prefix, name, TYPE_F32);
	put(&w->keys, &value, sizeof(value));
}

void ds_gguf_writer_bool(struct ds_gguf_writer *w, const char *prefix, const char *name, bool value)
{
	uint8_t byte = value;

	put_key(w, prefix, name, TYPE_BOOL);
	put(&w->keys, &byte, 1);
}

void ds_gguf_writer_text(struct ds_gguf_writer *w, const char *prefix, const char *name, const char *value)
{
	put_key(w, prefix, name, TYPE_TEXT);
	put_text(&w->keys, value, strlen(value));
}

void ds_gguf_writer_ints(struct ds_gguf_writer *w, const char *name, const int32_t *values, uint64_t n)
{
	put_array(w, name, TYPE_I32, n);
	put(&w->keys, values, n * sizeof(*values));
}

void ds_gguf_writer_floats(struct ds_gguf_writer *w, const char *name, const float *values, uint64_t n)
{
	put_array(w, name, TYPE_F32, n);
	put(&w->keys, values, n * sizeof(*values));
}

void ds_gguf_writer_texts(struct ds_gguf_writer *w, const char *name, uint64_t n)
{
	put_array(w, name, TYPE_TEXT, n);
}

void ds_gguf_writer_element(struct ds_gguf_writer *w, const char *text, uint64_t size)
{
	put_text(&w->keys, text, size);
}

static uint64_t padded(uint64_t size)
{
	return (size + DS_GGUF_ALIGN - 1) / DS_GGUF_ALIGN * DS_GGUF_ALIGN;
}

void ds_gguf_writer_tensor(struct ds_gguf_writer *w, const char *name, enum ds_dtype dtype, uint32_t n_dims,
			   const uint64_t *ne)
{
	uint64_t size = ds_row_size(dtype, ne[0]);

	if (w->n_tensors == w->capacity) {
		uint32_t capacity = 2 * w->capacity + 256;
		uint64_t *larger = reallocarray(w->offsets, capacity, sizeof(*larger));

		if (!larger) {
			w->failed = true;
			return;
		}
		w->offsets = larger;
		w->capacity = capacity;
	}
	put_text(&w->tensors, name, strlen(name));
	put_u32(&w->tensors, n_dims);
	for (uint32_t i = 0; i < n_dims; i++)
		put_u64(&w->tensors, ne[i]);
	put_u32(&w->tensors, (uint32_t)type_id(dtype));
	put_u64(&w->tensors, w->data_size);
	w->offsets[w->n_tensors++] = w->data_size;
	for (uint32_t i = 1; i < n_dims; i++)
		size *= ne[i];
	w->data_size += padded(size);
}

int ds_gguf_writer_layout(struct ds_gguf_writer *w, struct ds_error *err)
{
	if (w->failed || w->keys.failed || w->tensors.failed)
		return ds_fail(err, -ENOMEM, "no memory for the keys of a file");
	w->start = padded(4 + 4 + 8 + 8 + w->keys.size + w->tensors.size);
	w->size = w->start + w->data_size;
	for (uint32_t i = 0; i < w->n_tensors; i++)
		w->offsets[i] += w->start;
	return 0;
}

uint64_t ds_gguf_writer_size(const struct ds_gguf_writer *w)
{
	return w->size;
}

uint64_t ds_gguf_writer_offset(const struct ds_gguf_writer *w, uint32_t i)
{
	return w->offsets[i];
}

static int write_all(int fd, const void *data, size_t size, uint64_t *offset, struct ds_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, (const char *)data + done, size - done, (off_t)(*offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ds_fail(err, n < 0 ? -errno : -EIO, "the file cannot be written: %s",
				       strerror(n < 0 ? errno : EIO));
		done += (size_t)n;
	}
	*offset += size;
	return 0;
}

int ds_gguf_writer_write(const struct ds_gguf_writer *w, int fd, struct ds_error *err)
{
	struct {
		char magic[4];
		uint32_t version;
		uint64_t n_tensors, n_keys;
	} header = {{'G', 'G', 'U', 'F'}, 3, w->n_tensors, w->n_keys};
	static const char zeros[DS_GGUF_ALIGN];
	uint64_t offset = 0;
	int r = write_all(fd, &header, sizeof(header), &offset, err);

	if (r == 0)
		r = write_all(fd, w->keys.data, w->keys.size, &offset, err);
	if (r == 0)
		r = write_all(fd, w->tensors.data, w->tensors.size, &offset, err);
	return r < 0 ? r : write_all(fd, zeros, w->start - offset, &offset, err);
}

/* source.c - the beginning of a file, loaded with large reads as it is taken: a vocabulary of 150000 words is one
 * walk through memory, and of the tensors after it no more is read than a piece. */
#include "gguf.h"

#include <endian.h>

#define PIECE (1u << 20)

static int grow(struct ds_gguf_source *s, uint64_t wanted, struct ds_error *err)
{
	uint64_t capacity = 2 * (uint64_t)s->capacity > wanted ? 2 * (uint64_t)s->capacity : wanted;
	char *larger;

	if (wanted <= s->capacity)
		return 0;
	if (capacity > s->file->size)
		capacity = s->file->size;
	larger = realloc(s->data, capacity);
	if (!larger)
		return ds_fail(err, -ENOMEM, "%s: no memory for a header of %" PRIu64 " bytes",
			       ds_shown(s->file->name).text, capacity);
	s->data = larger;
	s->capacity = capacity;
	return 0;
}

int ds_gguf_need(struct ds_gguf_source *s, uint64_t size, const char *what, struct ds_error *err)
{
	uint64_t end, wanted;
	int r;

	if (size > s->file->size - s->position)
		return ds_fail(err, -EINVAL, "%s: ends at byte %" PRIu64 ", in the middle of %s",
			       ds_shown(s->file->name).text, s->file->size, what);
	end = s->position + size;
	if (end <= s->loaded)
		return 0;
	if (end > DS_GGUF_MAX_HEADER)
		return ds_fail(err, -E2BIG, "%s: a header of more than %llu bytes", ds_shown(s->file->name).text,
			       DS_GGUF_MAX_HEADER);
	wanted = s->file->size - end > PIECE ? end + PIECE : s->file->size;
	r = grow(s, wanted, err);
	if (r == 0)
		r = ds_file_read(s->file, s->loaded, s->data + s->loaded, wanted - s->loaded, err);
	if (r == 0)
		s->loaded = wanted;
	return r;
}

uint16_t ds_gguf_u16(const char *p)
{
	uint16_t x;

	memcpy(&x, p, sizeof(x));
	return le16toh(x);
}

uint32_t ds_gguf_u32(const char *p)
{
	uint32_t x;

	memcpy(&x, p, sizeof(x));
	return le32toh(x);
}

uint64_t ds_gguf_u64(const char *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return le64toh(x);
}

int ds_gguf_take_u32(struct ds_gguf_source *s, uint32_t *out, const char *what, struct ds_error *err)
{
	int r = ds_gguf_need(s, sizeof(*out), what, err);

	if (r < 0)
		return r;
	*out = ds_gguf_u32(s->data + s->position);
	s->position += sizeof(*out);
	return 0;
}

int ds_gguf_take_u64(struct ds_gguf_source *s, uint64_t *out, const char *what, struct ds_error *err)
{
	int r = ds_gguf_need(s, sizeof(*out), what, err);

	if (r < 0)
		return r;
	*out = ds_gguf_u64(s->data + s->position);
	s->position += sizeof(*out);
	return 0;
}

int ds_gguf_take_text(struct ds_gguf_source *s, uint64_t *position, uint64_t *size, const char *what,
		      struct ds_error *err)
{
	int r = ds_gguf_take_u64(s, size, what, err);

	if (r == 0)
		r = ds_gguf_need(s, *size, what, err);
	if (r < 0)
		return r;
	*position = s->position;
	s->position += *size;
	return 0;
}

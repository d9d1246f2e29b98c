/* normalize.c - NFC by utf8proc, a stretch at a time.
 *
 * Sorting the marks that follow a letter takes utf8proc time quadratic in their number, so that a megabyte of them must
 * not reach it in one call. A stretch ends before a character that never combines with what stands before it; where
 * none comes for very long, which no language does, it is cut all the same. */
#include "bpe.h"

#include <utf8proc.h>

#define MIN_STRETCH 256  /* bytes */
#define MAX_STRETCH 1024 /* bytes */

struct output {
	char *text;
	size_t size, capacity;
};

/* Scripts in which every character begins anew: ASCII to the Latin supplements, Cyrillic letters, ideographs and the
 * kana that take no part as a second half, whole Hangul syllables. */
static bool begins_anew(const char *text, size_t n)
{
	static const struct {
		utf8proc_int32_t first, last;
	} ranges[] = {{0, 0x2FF},       {0x400, 0x482},   {0x3000, 0x3029}, {0x3041, 0x3096},
		      {0x30A1, 0x30FA}, {0x3400, 0x9FFF}, {0xAC00, 0xD7A3}};
	utf8proc_int32_t c = 0;

	utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &c);
	for (size_t i = 0; i < DS_ARRAY_SIZE(ranges); i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

static bool is_ascii(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)text[i] >= 0x80)
			return false;
	return true;
}

/* The bytes of the stretch at the beginning of @text. */
static size_t stretch(const char *text, size_t n)
{
	size_t i = 0, size;

	while (i < n && i < MAX_STRETCH) {
		if (i >= MIN_STRETCH && begins_anew(text + i, n - i))
			break;
		ds_utf8_next(text + i, n - i, &size);
		i += size;
	}
	return i;
}

static int append(struct output *output, const char *text, size_t n, struct ds_error *err)
{
	size_t capacity = output->capacity ? output->capacity : MAX_STRETCH;
	char *grown;

	while (capacity < output->size + n)
		capacity *= 2;
	if (capacity > output->capacity) {
		grown = realloc(output->text, capacity);
		if (!grown)
			return ds_fail(err, -ENOMEM, "no memory to normalize text");
		output->text = grown;
		output->capacity = capacity;
	}
	memcpy(output->text + output->size, text, n);
	output->size += n;
	return 0;
}

static int append_normal(struct output *output, const char *text, size_t n, struct ds_error *err)
{
	utf8proc_uint8_t *normal = NULL;
	utf8proc_ssize_t size;
	int r;

	if (is_ascii(text, n))
		return append(output, text, n, err);
	size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &normal,
			    UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (size < 0)
		return ds_fail(err, size == UTF8PROC_ERROR_NOMEM ? -ENOMEM : -EINVAL, "text cannot be normalized: %s",
			       utf8proc_errmsg(size));
	r = append(output, (const char *)normal, (size_t)size, err);
	free(normal);
	return r;
}

int ds_bpe_normalize(const char *text, size_t n, char **out, size_t *n_out, struct ds_error *err)
{
	struct output output = {NULL, 0, 0};
	size_t size;

	if (is_ascii(text, n)) {
		*out = (char *)text;
		*n_out = n;
		return 0;
	}
	for (size_t i = 0; i < n; i += size) {
		int r;

		size = stretch(text + i, n - i);
		r = append_normal(&output, text + i, size, err);
		if (r < 0) {
			free(output.text);
			return r;
		}
	}
	*out = output.text;
	*n_out = output.size;
	return 0;
}

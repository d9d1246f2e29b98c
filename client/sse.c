/* sse.c - see sse.h. */
#include "sse.h"

#include <string.h>

void ds_sse_deinit(struct ds_sse *s)
{
	free(s->line);
	free(s->data);
	*s = (struct ds_sse){0};
}

static int append(char **text, size_t *text_size, size_t *capacity, const char *bytes, size_t size,
		  struct ds_error *err)
{
	size_t wanted = *text_size + size + 1;
	char *grown;

	if (size > DS_SSE_MAX || wanted > DS_SSE_MAX)
		return ds_fail(err, -EMSGSIZE, "an event of the stream is longer than %u MiB", DS_SSE_MAX >> 20);
	if (wanted > *capacity) {
		size_t larger = *capacity * 2 > wanted ? *capacity * 2 : wanted + 256;

		grown = realloc(*text, larger);
		if (!grown)
			return ds_fail(err, -ENOMEM, "no memory for an event of the stream");
		*text = grown;
		*capacity = larger;
	}
	memcpy(*text + *text_size, bytes, size);
	*text_size += size;
	(*text)[*text_size] = '\0';
	return 0;
}

/* A whole line of a field: only "data" matters to any of our streams. */
static int take_line(struct ds_sse *s, struct ds_error *err)
{
	const char *value = s->line + 4;
	size_t size;
	int r = 0;

	if (s->line_size < 4 || memcmp(s->line, "data", 4) != 0 || (*value != ':' && s->line_size != 4))
		return 0;
	value += *value == ':';
	value += *value == ' ';
	size = s->line + s->line_size - value;
	if (s->has_data)
		r = append(&s->data, &s->data_size, &s->data_capacity, "\n", 1, err);
	s->has_data = true;
	return r < 0 ? r : append(&s->data, &s->data_size, &s->data_capacity, value, size, err);
}

static int end_line(struct ds_sse *s, int (*on_event)(void *, const char *, size_t, struct ds_error *), void *self,
		    struct ds_error *err)
{
	int r = 0;

	if (s->line_size > 0) {
		r = take_line(s, err);
		s->line_size = 0;
	} else if (s->has_data) {
		r = on_event(self, s->data, s->data_size, err);
		s->has_data = false;
		s->data_size = 0;
	}
	return r;
}

/* The stream may open with a byte order mark, which is no part of its first line. */
static void drop_mark(struct ds_sse *s)
{
	if (!s->started && s->line_size >= 3 && memcmp(s->line, "\xef\xbb\xbf", 3) == 0) {
		s->line_size -= 3;
		memmove(s->line, s->line + 3, s->line_size + 1);
	}
	s->started = true;
}

int ds_sse_feed(struct ds_sse *s, const char *bytes, size_t size,
		int (*on_event)(void *self, const char *data, size_t size, struct ds_error *err), void *self,
		struct ds_error *err)
{
	const char *end = bytes + size;
	const char *p = bytes;
	int r;

	while (p < end) {
		size_t n = 0;

		if (s->after_cr && *p == '\n') {
			s->after_cr = false;
			p++;
			continue;
		}
		s->after_cr = false;
		while (p + n < end && p[n] != '\n' && p[n] != '\r')
			n++;
		r = n > 0 ? append(&s->line, &s->line_size, &s->line_capacity, p, n, err) : 0;
		if (r < 0)
			return r;
		p += n;
		if (p == end)
			break;
		s->after_cr = *p++ == '\r';
		drop_mark(s);
		r = end_line(s, on_event, self, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* sse.h - a stream of server-sent events, cut into events as its bytes arrive in pieces of any size.
 *
 * Lines end with LF, CR or CRLF; "data:" lines of one event are joined with newlines; comments, "id:" and "retry:" are
 * skipped; an event without data is not delivered. */
#pragma once

#include <deepseekd/base.h>

#define DS_SSE_MAX (16u << 20) /* bytes of one event */

/* Embedded in its user, zeroed to begin. */
struct ds_sse {
	char *line, *data; /* what is not complete yet */
	size_t line_size, line_capacity, data_size, data_capacity;
	bool has_data;
	bool after_cr; /* an LF now belongs to the CR before it */
	bool started;  /* the byte order mark may come no more */
};

void ds_sse_deinit(struct ds_sse *s);

/* Take @size bytes and call @on_event for each event that they complete, with its data (NUL-terminated as well).
 * A negative return of @on_event ends it with that code. -EMSGSIZE: an event longer than DS_SSE_MAX. */
int ds_sse_feed(struct ds_sse *s, const char *bytes, size_t size,
		int (*on_event)(void *self, const char *data, size_t size, struct ds_error *err), void *self,
		struct ds_error *err);

/* reply.h - how a call is answered: a JSON object, an error in OpenAI's shape, or a stream.
 *
 * After ds_reply_json(), ds_reply_error(), ds_reply_end() and ds_reply_abort() the call must not be touched again. */
#pragma once

#include "server.h"

#include <event2/buffer.h>

/* Takes ownership of @json; NULL is an internal error. */
void ds_reply_json(struct ds_call *call, int status, json_t *json);

/* The same with status 200 for what may be large, @size bytes or so, and belongs to nobody else: written in slices. The
 * call forgets whom it would tell of its end. */
void ds_reply_large_json(struct ds_call *call, json_t *json, size_t size);

/* @type follows from @status. @param may be NULL. */
void ds_reply_error(struct ds_call *call, int status, const char *code, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The error object of a FAILED event, {"error": {...}}, and its status. @data is its JSON. */
json_t *ds_reply_failure(const uint8_t *data, size_t size, int *status);
/* Answer with it. */
void ds_reply_failed(struct ds_call *call, const uint8_t *data, size_t size);

/* A stream: begin, write (moves the bytes out of @bytes), end. */
void ds_reply_header(struct ds_call *call, const char *name, const char *value);
void ds_reply_begin(struct ds_call *call, const char *content_type);
void ds_reply_write(struct ds_call *call, struct evbuffer *bytes);
bool ds_reply_is_full(const struct ds_call *call); /* the client is behind: write no more until on_drained */
void ds_reply_end(struct ds_call *call);
/* Close the connection: the client sees that the answer is cut. */
void ds_reply_abort(struct ds_call *call);

/* One server-sent event with @json, which is consumed, into @bytes. -EILSEQ: @json is NULL. */
int ds_reply_add_sse(struct evbuffer *bytes, json_t *json);

/* body.h - JSON of any size, read and written without keeping the event loop.
 *
 * What is small is done at once: the callback comes before the function returns. What is large is done in slices
 * (jobs.h). While that goes on *@at is the work under way, for ds_body_cancel(); otherwise *@at is NULL, in the
 * callback too. */
#pragma once

#include "../jobs.h"

#include <event2/buffer.h>
#include <jansson.h>

struct ds_body;

/* Parse what lies in @input, which must be there until the callback, and is empty then. @json, an object, belongs to
 * the callback; NULL: @problem is -E2BIG if it holds more values than memory should, else -EINVAL, and @err says why.
 * Keys that come twice, bytes that are not UTF-8 and nesting of more than 2048 levels are refused. */
typedef void ds_body_read_fn(void *arg, json_t *json, int problem, const struct ds_error *err);
void ds_body_read(struct ds_body **at, struct ds_jobs *jobs, struct evbuffer *input, ds_body_read_fn *done, void *arg);

/* Write @json compactly; @flags: of jansson, for its numbers. @json is taken, and the items of its lists are freed one
 * by one as they are written: nobody else may have a reference to them. @text belongs to the callback; NULL: no memory.
 * @size: about how large it is. */
typedef void ds_body_write_fn(void *arg, char *text, size_t text_size);
void ds_body_write(struct ds_body **at, struct ds_jobs *jobs, json_t *json, size_t size, size_t flags,
		   ds_body_write_fn *done, void *arg);

/* Forget about it: no callback comes. Takes NULL. */
void ds_body_cancel(struct ds_body *body);

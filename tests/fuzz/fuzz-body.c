/* fuzz-body.c - the input is the body of a request, read and written in slices; jansson at once is right. */
#include "daemon/http/body.h"

#include <event2/event.h>
#include <string.h>

#define N_SPACES 40000 /* before the body: more than a slice */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_read(void *arg, json_t *json, int problem, const struct ds_error *err)
{
	if (!json != (problem < 0))
		abort();
	*(json_t **)arg = json;
}

static void on_written(void *arg, char *text, size_t text_size)
{
	char *want = json_dumps(*(json_t **)arg, JSON_COMPACT);

	if (!text || strlen(want) != text_size || memcmp(want, text, text_size))
		abort();
	free(want);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *spaces;
	static struct event_base *base;
	static struct ds_jobs *jobs;
	struct evbuffer *input = evbuffer_new();
	json_t *want = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL), *got = NULL;
	struct ds_body *work;
	struct ds_error err;

	if (!base) {
		spaces = memset(malloc(N_SPACES), ' ', N_SPACES);
		base = event_base_new();
		ds_jobs_new(&jobs, base, &err);
	}
	evbuffer_add(input, spaces, N_SPACES);
	evbuffer_add(input, data, size);
	ds_body_read(&work, jobs, input, on_read, &got);
	event_base_dispatch(base);
	/* What has too many values is refused and right for jansson. */
	if (got ? !json_equal(want, got) : json_is_object(want) && size < 1 << 15)
		abort();
	if (got) {
		ds_body_write(&work, jobs, json_deep_copy(got), N_SPACES, 0, on_written, &got);
		event_base_dispatch(base);
	}
	json_decref(want);
	json_decref(got);
	evbuffer_free(input);
	return 0;
}

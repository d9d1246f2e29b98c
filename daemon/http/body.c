/* body.c - jansson parses through a callback, which pauses between slices; the writer is a few lines of its own, since
 * jansson's hands over a text of any length in one piece. */
#include "body.h"

#include <string.h>

#define SLICE (32u << 10) /* bytes a turn: a few hundred microseconds */

/* A value takes up to 250 bytes of memory for 2 bytes of JSON: lists and maps cost 4, what follows a comma 1. A map of
 * many keys is slow to grow and to free, which both happen at once: a key costs 7. */
#define COST_MAX (1u << 18)

struct ds_body {
	struct ds_body **at;
	struct ds_job *job; /* NULL: at once */
	size_t n_unpaused;
	json_t *json;

	/* reading */
	struct evbuffer *input;
	size_t cost;
	bool in_text, escaped;
	json_error_t error;
	ds_body_read_fn *on_read;

	/* writing */
	char *text;
	size_t text_size, capacity, flags;
	bool failed;
	ds_body_write_fn *on_written;

	void *arg;
};

/* @n bytes more were worked on. False: give up. */
static bool pause_after(struct ds_body *b, size_t n)
{
	b->n_unpaused += n;
	if (b->n_unpaused < SLICE)
		return true;
	b->n_unpaused = 0;
	return ds_job_pause(b->job);
}

/* Reading */

static size_t cost_of(struct ds_body *b, const char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (b->in_text) {
			b->in_text = b->escaped || bytes[i] != '"';
			b->escaped = !b->escaped && bytes[i] == '\\';
		} else if (bytes[i] == '"') {
			b->in_text = true;
		} else {
			b->cost += bytes[i] == '[' || bytes[i] == '{' ? 4 : bytes[i] == ':' ? 7 : bytes[i] == ',';
		}
	}
	return b->cost;
}

/* Parse it as it lies in its buffer, giving back what was read, and no more of it than memory should hold. */
static size_t read_more(void *buffer, size_t size, void *arg)
{
	struct ds_body *b = arg;
	int n = pause_after(b, size) ? evbuffer_remove(b->input, buffer, size) : 0;

	return n > 0 && cost_of(b, buffer, (size_t)n) <= COST_MAX ? (size_t)n : 0;
}

static void read_work(struct ds_job *job, void *arg)
{
	struct ds_body *b = arg;

	b->job = job;
	b->json = json_load_callback(read_more, b, JSON_REJECT_DUPLICATES, &b->error);
}

static int judge(const struct ds_body *b, struct ds_error *err)
{
	if (b->cost > COST_MAX)
		return ds_fail(err, -E2BIG, "the body holds too many values");
	if (!b->json)
		return ds_fail(err, -EINVAL, "the body is not valid JSON: %s (line %d, column %d)",
			       json_error_code(&b->error) == json_error_null_character
				       ? "a text with a character of 0 is not supported"
				       : b->error.text,
			       b->error.line, b->error.column);
	if (!json_is_object(b->json))
		return ds_fail(err, -EINVAL, "the body must be a JSON object");
	return 0;
}

static void free_body(struct ds_body *b)
{
	if (b->at)
		*b->at = NULL;
	json_decref(b->json);
	free(b->text);
	free(b);
}

static void on_read(void *arg)
{
	struct ds_body *b = arg;
	struct ds_error err = {.text = ""};
	int problem = judge(b, &err);
	json_t *json = problem == 0 ? ds_steal(&b->json) : NULL;
	ds_body_read_fn *done = b->on_read;
	void *done_arg = b->arg;

	free_body(b);
	done(done_arg, json, problem, &err);
}

/* Writing */

static void put(struct ds_body *b, const char *bytes, size_t n)
{
	size_t capacity = b->capacity ? b->capacity : 1024;
	char *larger;

	while (capacity < b->text_size + n)
		capacity *= 2;
	larger = b->failed || capacity == b->capacity ? b->text : realloc(b->text, capacity);
	b->failed = b->failed || !larger;
	if (b->failed)
		return;
	b->text = larger;
	b->capacity = capacity;
	memcpy(b->text + b->text_size, bytes, n);
	b->text_size += n;
	b->failed = !pause_after(b, n);
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\';
}

static void put_escaped(struct ds_body *b, unsigned char c)
{
	static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* what, and the letter for it */
	char escape[8];

	for (size_t i = 0; i + 1 < sizeof(named); i += 2)
		if ((unsigned char)named[i] == c) {
			put(b, (char[]){'\\', named[i + 1]}, 2);
			return;
		}
	snprintf(escape, sizeof(escape), "\\u%04X", c);
	put(b, escape, 6);
}

/* jansson has checked that it is UTF-8. */
static void put_text(struct ds_body *b, const char *text, size_t size)
{
	put(b, "\"", 1);
	for (size_t i = 0, n; i < size && !b->failed; i += n) {
		for (n = 0; i + n < size && n < SLICE && is_plain((unsigned char)text[i + n]); n++)
			;
		if (n > 0)
			put(b, text + i, n);
		else
			put_escaped(b, (unsigned char)text[i + n++]);
	}
	put(b, "\"", 1);
}

static void put_value(struct ds_body *b, json_t *value) // NOLINT(misc-no-recursion): the parser has limited the depth
{
	char scalar[64];
	const char *key;
	json_t *item;
	size_t i, n = 0;

	if (b->failed)
		return;
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		put(b, "{", 1);
		json_object_foreach (value, key, item) {
			if (n++)
				put(b, ",", 1);
			put_text(b, key, strlen(key));
			put(b, ":", 1);
			put_value(b, item);
		}
		put(b, "}", 1);
		break;
	case JSON_ARRAY:
		put(b, "[", 1);
		json_array_foreach (value, i, item) {
			if (i)
				put(b, ",", 1);
			put_value(b, item);
			json_array_set_new(value, i, json_null());
		}
		put(b, "]", 1);
		break;
	case JSON_STRING:
		put_text(b, json_string_value(value), json_string_length(value));
		break;
	default:
		put(b, scalar, json_dumpb(value, scalar, sizeof(scalar), JSON_ENCODE_ANY | b->flags));
	}
}

static void write_work(struct ds_job *job, void *arg)
{
	struct ds_body *b = arg;

	b->job = job;
	put_value(b, b->json);
}

static void on_written(void *arg)
{
	struct ds_body *b = arg;
	size_t text_size = b->text_size;
	char *text = b->failed ? NULL : ds_steal(&b->text);
	ds_body_write_fn *done = b->on_written;
	void *done_arg = b->arg;

	free_body(b);
	done(done_arg, text, text_size);
}

/* Both */

/* Without memory for a stack it is better done at once than not at all. */
static void begin(struct ds_body *b, struct ds_jobs *jobs, size_t size, void (*work)(struct ds_job *job, void *arg),
		  void (*done)(void *arg))
{
	if (size > SLICE && ds_job_start(&b->job, jobs, size, work, done, b) == 0)
		return;
	work(NULL, b);
	done(b);
}

void ds_body_read(struct ds_body **at, struct ds_jobs *jobs, struct evbuffer *input, ds_body_read_fn *done, void *arg)
{
	struct ds_body *b = *at = calloc(1, sizeof(*b));
	struct ds_error err;

	if (!b) {
		done(arg, NULL, ds_fail(&err, -ENOMEM, "no memory"), &err);
		return;
	}
	*b = (struct ds_body){.at = at, .input = input, .on_read = done, .arg = arg};
	begin(b, jobs, evbuffer_get_length(input), read_work, on_read);
}

void ds_body_write(struct ds_body **at, struct ds_jobs *jobs, json_t *json, size_t size, size_t flags,
		   ds_body_write_fn *done, void *arg)
{
	struct ds_body *b = *at = calloc(1, sizeof(*b));

	if (!b) {
		json_decref(json);
		done(arg, NULL, 0);
		return;
	}
	*b = (struct ds_body){.at = at, .json = json, .flags = flags, .on_written = done, .arg = arg};
	begin(b, jobs, size, write_work, on_written);
}

void ds_body_cancel(struct ds_body *body)
{
	if (!body)
		return;
	ds_job_cancel(body->job);
	free_body(body);
}

/* tokenize.c - the lists of a request one by one through a tokenizer. */
#include "tokenize.h"

#include <string.h>

struct job {
	const struct ds_tokenizing *t;
	unsigned flags;
	bool bytes;
	struct ds_error *err;
};

static int no_memory(struct ds_error *err)
{
	return ds_fail(err, -ENOMEM, "no memory for texts and tokens");
}

/* The bytes that code points U+0000 to U+00FF of @json stand for. */
static int from_latin1(const json_t *json, char **out, size_t *n, struct ds_error *err)
{
	const uint8_t *text = (const uint8_t *)json_string_value(json);
	size_t size = json_string_length(json);
	char *bytes = malloc(size + 1);

	*out = bytes;
	*n = 0;
	if (!bytes)
		return no_memory(err);
	for (size_t i = 0; i < size; i++) {
		if (text[i] > 0xc3)
			return ds_fail(err, -EINVAL, "a text of bytes has a character above U+00FF");
		bytes[(*n)++] = (char)(text[i] < 0x80 ? text[i] : text[i] << 6 | (text[i + 1] & 0x3f));
		i += text[i] >= 0x80;
	}
	return 0;
}

static json_t *to_latin1(const char *bytes, size_t n)
{
	char *text = malloc(2 * n + 1);
	size_t size = 0;
	json_t *json;

	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		uint8_t byte = (uint8_t)bytes[i];

		if (byte >= 0x80)
			text[size++] = (char)(0xc0 | byte >> 6);
		text[size++] = (char)(byte < 0x80 ? byte : 0x80 | (byte & 0x3f));
	}
	json = json_stringn(text, size);
	free(text);
	return json;
}

static int encode_bytes(const struct job *job, const char *text, size_t n, json_t **out)
{
	uint32_t *ids = NULL;
	size_t n_ids = 0;
	json_t *list = NULL;
	int r = job->t->ops->encode(job->t->self, text, n, job->flags, SIZE_MAX, &ids, &n_ids, job->err);

	if (r == 0 && !(list = json_array()))
		r = no_memory(job->err);
	for (size_t i = 0; r == 0 && i < n_ids; i++)
		if (json_array_append_new(list, json_integer(ids[i])) < 0)
			r = no_memory(job->err);
	job->t->host->free(ids);
	if (r < 0)
		json_decref(list);
	else
		*out = list;
	return r;
}

static int encode(const struct job *job, const json_t *text, json_t **out)
{
	ds_cleanup(ds_freep) char *bytes = NULL;
	size_t n = 0;
	int r;

	if (!job->bytes)
		return encode_bytes(job, json_string_value(text), json_string_length(text), out);
	r = from_latin1(text, &bytes, &n, job->err);
	return r < 0 ? r : encode_bytes(job, bytes, n, out);
}

/* The ids of @list, which the caller frees, and room enough for their text. */
static int read_ids(const json_t *list, const struct job *job, uint32_t **out, size_t *room)
{
	size_t n = json_array_size(list), size;
	uint32_t *ids = malloc((n + 1) * sizeof(*ids));

	*out = ids;
	*room = 12;
	if (!ids)
		return no_memory(job->err);
	for (size_t i = 0; i < n; i++) {
		const json_t *id = json_array_get(list, i);
		json_int_t value = json_integer_value(id);

		if (!json_is_integer(id) || value < 0 || value >= UINT32_MAX)
			return ds_fail(job->err, -EINVAL, "tokens must be lists of ids, and one has something else at %zu", i);
		ids[i] = (uint32_t)value;
		job->t->ops->token_text(job->t->self, ids[i], &size);
		*room += 3 * size + 12;
	}
	return 0;
}

static int decode(const struct job *job, const json_t *list, json_t **out)
{
	const struct ds_tokenizer_ops *ops = job->t->ops;
	struct ds_detokenizer state = {.n_pending = 0};
	ds_cleanup(ds_freep) uint32_t *ids = NULL;
	ds_cleanup(ds_freep) char *text = NULL;
	size_t n = json_array_size(list), size = 0, room;
	int r = read_ids(list, job, &ids, &room);

	if (r < 0)
		return r;
	text = malloc(room);
	if (!text)
		return no_memory(job->err);
	for (size_t i = 0; i < n; i++) {
		if (job->bytes) {
			size_t part;
			const char *bytes = ops->token_text(job->t->self, ids[i], &part);

			memcpy(text + size, bytes, part);
			size += part;
		} else {
			size += ops->detokenize(job->t->self, &state, ids[i], text + size);
		}
	}
	size += ops->finish(job->t->self, &state, text + size);
	*out = job->bytes ? to_latin1(text, size) : json_stringn(text, size);
	return *out ? 0 : no_memory(job->err);
}

/* A list of lists, or of texts: many; else one. */
static int answer_all(const struct job *job, const json_t *given, bool many,
		      int (*answer_one)(const struct job *job, const json_t *given, json_t **out), json_t **out)
{
	json_t *list, *one = NULL;
	const json_t *item;
	size_t i;
	int r;

	if (!many)
		return answer_one(job, given, out);
	list = json_array();
	if (!list)
		return no_memory(job->err);
	json_array_foreach ((json_t *)given, i, item) {
		r = answer_one(job, item, &one);
		if (r == 0 && json_array_append_new(list, one) < 0)
			r = no_memory(job->err);
		if (r < 0) {
			json_decref(list);
			return r;
		}
	}
	*out = list;
	return 0;
}

static bool all_are(const json_t *list, json_type type)
{
	const json_t *item;
	size_t i;

	json_array_foreach ((json_t *)list, i, item)
		if (json_typeof(item) != type)
			return false;
	return json_is_array(list);
}

static int read_switch(const json_t *request, const char *key, bool *out, const char **param, struct ds_error *err)
{
	const json_t *value = json_object_get(request, key);

	*out = json_is_true(value);
	if (!value || json_is_boolean(value) || json_is_null(value))
		return 0;
	*param = key;
	return ds_fail(err, -EINVAL, "%s must be true or false", key);
}

int ds_tokenize(const struct ds_tokenizing *t, const json_t *request, json_t **answer, const char **param,
		struct ds_error *err)
{
	const json_t *text = json_object_get(request, "text"), *tokens = json_object_get(request, "tokens");
	struct job job = {.t = t, .err = err};
	bool plain, many;
	json_t *out = NULL;
	int r;

	*param = NULL;
	r = read_switch(request, "plain", &plain, param, err);
	if (r == 0)
		r = read_switch(request, "bytes", &job.bytes, param, err);
	if (r < 0)
		return r;
	job.flags = plain ? 0 : DS_TOKENIZE_SPECIAL;
	if (!text == !tokens)
		return ds_fail(err, -EINVAL, "a request has a text or tokens, and one of them only");
	*param = text ? "text" : "tokens";
	many = text ? json_is_array(text) : json_array_size(tokens) > 0 && all_are(tokens, JSON_ARRAY);
	if (text && !json_is_string(text) && !all_are(text, JSON_STRING))
		return ds_fail(err, -EINVAL, "text must be a text or a list of texts");
	if (tokens && !json_is_array(tokens))
		return ds_fail(err, -EINVAL, "tokens must be a list of ids or of such lists");
	r = answer_all(&job, text ? text : tokens, many, text ? encode : decode, &out);
	if (r < 0)
		return r;
	*answer = json_pack("{s:o}", text ? "tokens" : "text", out);
	return *answer ? 0 : no_memory(err);
}

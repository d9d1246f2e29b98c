/* verb-tokenize.c - dsctl tokenize: texts to tokens and back, by the files of a path or by a registered model.
 *
 * Each line of the standard input is a text, answered by a line. With --json it is one document, an array of texts, which
 * can have line ends. Lines may hold any bytes: they travel one character a byte. */
#include "message.h"
#include "model.h"
#include "output.h"

#include <string.h>

struct options {
	bool decode, plain;
};

static int no_memory(struct ds_error *err)
{
	return ds_fail(err, -ENOMEM, "no memory for the input");
}

/* Bytes as the characters U+0000 to U+00FF. */
static json_t *from_bytes(const char *bytes, size_t n)
{
	ds_cleanup(ds_freep) char *text = malloc(2 * n + 1);
	size_t size = 0;

	for (size_t i = 0; text && i < n; i++) {
		unsigned byte = (uint8_t)bytes[i];

		if (byte >= 0x80)
			text[size++] = (char)(0xc0 | byte >> 6);
		text[size++] = (char)(byte < 0x80 ? byte : 0x80 | (byte & 0x3f));
	}
	return text ? json_stringn(text, size) : NULL;
}

static int print_bytes(const json_t *json, struct ds_error *err)
{
	const uint8_t *text = (const uint8_t *)json_string_value(json);
	size_t size = json_string_length(json), n = 0;
	ds_cleanup(ds_freep) char *bytes = malloc(size + 1);

	if (!text)
		return ds_fail(err, -EPROTO, "the answer has something else than a text");
	if (!bytes)
		return no_memory(err);
	for (size_t i = 0; i < size; i++) {
		bytes[n++] = (char)(text[i] < 0x80 ? text[i] : text[i] << 6 | (text[i + 1] & 0x3f));
		i += text[i] >= 0x80;
	}
	ds_output_text(stdout, bytes, n);
	putchar('\n');
	return 0;
}

/* The word at @at, which is no id: as much of it as a sentence should show. */
static int refuse_word(const char *at, size_t number, struct ds_error *err)
{
	size_t size = strcspn(at, "[], \t\r\n"), n = size < 40 ? size : 40;
	char shown[41] = "";

	for (size_t i = 0; i < n; i++)
		shown[i] = at[i] > 0x20 && at[i] < 0x7f ? at[i] : '?';
	return ds_fail(err, -EINVAL, "line %zu of the input: \"%s%s\" is no token id", number, shown,
		       n < size ? "..." : "");
}

/* Ids in a line of @size bytes, whatever stands between them. */
static int read_ids(const char *line, size_t size, size_t number, json_t **out, struct ds_error *err)
{
	json_t *list;

	if (memchr(line, 0, size))
		return ds_fail(err, -EINVAL, "line %zu of the input: holds a NUL", number);
	list = json_array();

	for (const char *at = line + strspn(line, "[], \t\r\n"); list && *at; at += strspn(at, "[], \t\r\n")) {
		char *end;
		unsigned long long id = strtoull(at, &end, 10);

		if (end == at || *at == '-' || *at == '+' || id >= UINT32_MAX) {
			json_decref(list);
			return refuse_word(at, number, err);
		}
		json_array_append_new(list, json_integer((json_int_t)id));
		at = end;
	}
	*out = list;
	return list ? 0 : no_memory(err);
}

static int read_lines(bool decode, json_t **out, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *list = json_array();
	ds_cleanup(ds_freep) char *line = NULL;
	size_t capacity = 0;
	ssize_t n;

	while (list && (n = getline(&line, &capacity, stdin)) >= 0) {
		json_t *item = NULL;
		int r = 0;

		n -= n > 0 && line[n - 1] == '\n';
		if (decode)
			r = read_ids(line, (size_t)n, json_array_size(list) + 1, &item, err);
		else
			item = from_bytes(line, (size_t)n);
		if (r < 0)
			return r;
		if (json_array_append_new(list, item) < 0)
			return no_memory(err);
	}
	if (!list)
		return no_memory(err);
	if (ferror(stdin))
		return ds_fail(err, -EIO, "cannot read the standard input");
	*out = ds_steal(&list);
	return 0;
}

static int read_document(bool decode, json_t **out, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *list = NULL;
	json_error_t where;
	json_t *item;
	size_t i;

	list = json_loadf(stdin, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
	if (!list)
		return ds_fail(err, -EINVAL, "the input is not JSON: %s (line %d)", where.text, where.line);
	json_array_foreach (list, i, item)
		if (decode ? !json_is_array(item) : !json_is_string(item))
			break;
	if (!json_is_array(list) || i < json_array_size(list))
		return ds_fail(err, -EINVAL, "the input must be an array of %s", decode ? "arrays of token ids" : "texts");
	*out = ds_steal(&list);
	return 0;
}

static int print_lines(const json_t *list, bool decode, struct ds_error *err)
{
	const json_t *item;
	size_t i;
	int r = 0;

	json_array_foreach (list, i, item) {
		r = decode ? print_bytes(item, err) : json_dumpf(item, stdout, 0) < 0 || putchar('\n') == EOF ? -EIO : 0;
		if (r == -EIO)
			return ds_fail(err, r, "cannot write to the standard output");
		if (r < 0)
			return r;
	}
	return 0;
}

static int tokenize(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *given = NULL, *request = NULL, *answer = NULL;
	const struct options *o = options;
	const json_t *list;
	int r = client->json ? read_document(o->decode, &given, err) : read_lines(o->decode, &given, err);

	if (r < 0)
		return r;
	if (json_array_size(given) == 0)
		return client->json ? ds_output_json(given, true, err) : 0;
	request = json_pack("{s:O, s:b, s:b}", o->decode ? "tokens" : "text", given, "plain", o->plain, "bytes",
			    !client->json);
	if (!request)
		return no_memory(err);
	r = ds_model_ask(client, args[0], DS_MSG_TOKENIZE, "tokenize", request, &answer, err);
	if (r < 0)
		return r;
	list = json_object_get(answer, o->decode ? "text" : "tokens");
	if (json_array_size(list) != json_array_size(given))
		return ds_fail(err, -EPROTO, "the answer is not one for each of %zu", json_array_size(given));
	return client->json ? ds_output_json(list, true, err) : print_lines(list, o->decode, err);
}

static const struct ds_flag flags[] = {
	{"decode", 'd', DS_FLAG_BOOL, offsetof(struct options, decode), NULL, "the other way: token ids to texts"},
	{"plain", 0, DS_FLAG_BOOL, offsetof(struct options, plain), NULL,
	 "take markup for the characters it is, as in the message of a chat"},
	{0},
};

const struct ds_verb ds_verb_tokenize = {
	.name = "tokenize",
	.usage = "PATH|NAME",
	.help = "Turn each line of the standard input into token ids",
	.flags = flags,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 1,
	.run = tokenize,
};

/* tokenize.c - lets a script ask a tokenizer: tokenize VOCABULARY, then one request a line on standard input. It is built
 * twice, once with each plugin.
 *
 * A vocabulary is a tokenizer.json as Hugging Face has them, or has the keys that include/deepseekd/tokenizer.h gives for vectors. {"text": ..., "special": bool} is
 * answered by {"ids": [...]}, {"ids": [...]} by {"text": ...}, each on one line. */
#include <deepseekd/format.h>
#include <deepseekd/tokenizer.h>

#include <err.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>

extern const struct ds_plugin ds_plugin;
extern const struct ds_format_ops ds_safetensors_ops;

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

static void *must(void *p)
{
	if (!p)
		errx(1, "no memory, or a vocabulary with a key missing");
	return p;
}

/* The bytes that are written as U+0000 to U+00FF. */
static struct ds_token token_of(const json_t *json)
{
	const json_t *text = json_is_object(json) ? json_object_get(json, "text") : json;
	const unsigned char *in = (const unsigned char *)must((void *)json_string_value(text));
	size_t size = json_string_length(text), n = 0;
	char *out = must(malloc(size + 1));
	struct ds_token token = {.text = out};

	for (size_t i = 0; i < size; i++)
		out[n++] = (char)(in[i] < 0x80 ? in[i] : (unsigned)in[i] << 6 | (in[i + 1] & 0x3F)), i += in[i] >= 0x80;
	token.size = (uint32_t)n;
	if (json_is_true(json_object_get(json, "special")))
		token.flags |= DS_TOKEN_SPECIAL;
	if (json_is_true(json_object_get(json, "added")))
		token.flags |= DS_TOKEN_ADDED;
	if (json_is_true(json_object_get(json, "unused")))
		token.flags |= DS_TOKEN_UNUSED;
	if (json_is_true(json_object_get(json, "byte")))
		token.flags |= DS_TOKEN_BYTE;
	return token;
}

static uint32_t number(const json_t *list, size_t i)
{
	return (uint32_t)json_integer_value(json_array_get(list, i));
}

static void read_vocabulary(const json_t *json, struct ds_vocabulary *v)
{
	const json_t *tokens = json_object_get(json, "tokens"), *merges = json_object_get(json, "merges");
	const json_t *patterns = json_object_get(json, "patterns");
	struct ds_token *t = must(calloc(json_array_size(tokens) + 1, sizeof(*t)));
	struct ds_merge *m = must(calloc(json_array_size(merges) + 1, sizeof(*m)));
	const json_t *scores = json_object_get(json, "scores"), *unknown = json_object_get(json, "unknown");
	float *f = must(calloc(json_array_size(tokens) + 1, sizeof(*f)));

	for (size_t i = 0; i < json_array_size(tokens); i++)
		t[i] = token_of(json_array_get(tokens, i));
	for (size_t i = 0; i < json_array_size(merges); i++) {
		const json_t *merge = json_array_get(merges, i);

		m[i] = (struct ds_merge){number(merge, 0), number(merge, 1), number(merge, 2)};
	}
	for (size_t i = 0; i < json_array_size(scores) && i < json_array_size(tokens); i++)
		f[i] = (float)json_number_value(json_array_get(scores, i));
	*v = (struct ds_vocabulary){.tokenizer = ds_plugin.entries[0].name, .tokens = t, .merges = m, .scores = f};
	v->bos = DS_NO_TOKEN;
	v->unknown = unknown ? (uint32_t)json_integer_value(unknown) : DS_NO_TOKEN;
	v->add_space_prefix = json_is_true(json_object_get(json, "add_space_prefix"));
	v->n_tokens = (uint32_t)json_array_size(tokens);
	v->n_merges = (uint32_t)json_array_size(merges);
	for (; v->n_patterns < json_array_size(patterns) && v->n_patterns < DS_MAX_PATTERNS; v->n_patterns++)
		v->patterns[v->n_patterns] = must((void *)json_string_value(json_array_get(patterns, v->n_patterns)));
	v->nfc = json_is_true(json_object_get(json, "nfc"));
	v->ignore_merges = json_is_true(json_object_get(json, "ignore_merges"));
}

static json_t *encode(const struct ds_tokenizer_ops *ops, void *self, const json_t *request)
{
	const json_t *text = json_object_get(request, "text");
	unsigned flags = json_is_true(json_object_get(request, "special")) ? DS_TOKENIZE_SPECIAL : 0;
	json_t *list = must(json_array());
	struct ds_error error = {""};
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	if (ops->encode(self, json_string_value(text), json_string_length(text), flags, SIZE_MAX, &ids, &n_ids, &error) < 0)
		errx(1, "%s", error.text);
	for (size_t i = 0; i < n_ids; i++)
		json_array_append_new(list, json_integer(ids[i]));
	free(ids);
	return must(json_pack("{s:o}", "ids", list));
}

static json_t *decode(const struct ds_tokenizer_ops *ops, void *self, const json_t *ids)
{
	struct ds_detokenizer state = {.n_pending = 0};
	size_t n = 0, room = 12;
	char *text;
	json_t *reply;

	for (size_t i = 0, size; i < json_array_size(ids); i++) {
		ops->token_text(self, number(ids, i), &size);
		room += 3 * size + 12;
	}
	text = must(malloc(room));
	for (size_t i = 0; i < json_array_size(ids); i++)
		n += ops->detokenize(self, &state, number(ids, i), text + n);
	n += ops->finish(self, &state, text + n);
	reply = must(json_pack("{s:s%}", "text", text, n));
	free(text);
	return reply;
}

/* Answer standard input. In the form of a builder's call: the vocabulary of a file lives as long as that. */
static int serve(void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err)
{
	const struct ds_tokenizer_ops *ops = ds_plugin.entries[0].ops;
	json_t *request;
	void *tokenizer = NULL;
	int r = ops->open(&tokenizer, &host, vocabulary, err);

	if (r < 0)
		return r;
	while ((request = json_loadf(stdin, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, NULL))) {
		const json_t *ids = json_object_get(request, "ids");
		json_t *reply = ids ? decode(ops, tokenizer, ids) : encode(ops, tokenizer, request);

		json_dumpf(reply, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(reply);
		json_decref(request);
	}
	ops->close(tokenizer);
	return 0;
}

static int no_chat_template(void *self, const char *chat_template, struct ds_error *err)
{
	return 0;
}

static void serve_file(const char *path)
{
	const struct ds_builder builder = {.size = sizeof(builder), .vocabulary = serve, .chat_template = no_chat_template};
	struct ds_file file = {.name = "tokenizer.json", .fd = open(path, O_RDONLY | O_CLOEXEC)};
	struct ds_error error = {""};
	off_t size = file.fd < 0 ? -1 : lseek(file.fd, 0, SEEK_END);

	if (size < 0)
		err(1, "%s", path);
	file.size = (uint64_t)size;
	if (ds_safetensors_ops.describe(&host, &file, 1, &builder, &error) < 0)
		errx(1, "%s", error.text);
	close(file.fd);
}

static void serve_vectors(const char *path)
{
	struct ds_vocabulary vocabulary;
	struct ds_error error = {""};
	json_error_t where;
	json_t *json = json_load_file(path, JSON_ALLOW_NUL, &where);

	if (!json)
		errx(1, "%s:%d: %s", path, where.line, where.text);
	read_vocabulary(json, &vocabulary);
	if (serve(NULL, &vocabulary, &error) < 0)
		errx(1, "%s", error.text);
	for (uint32_t i = 0; i < vocabulary.n_tokens; i++)
		free((void *)vocabulary.tokens[i].text);
	free((void *)vocabulary.tokens);
	free((void *)vocabulary.merges);
	free((void *)vocabulary.scores);
	json_decref(json);
}

int main(int argc, char **argv)
{
	const char *name;

	if (argc != 2)
		errx(1, "usage: tokenize VOCABULARY <REQUESTS");
	name = strrchr(argv[1], '/');
	if (strcmp(name ? name + 1 : argv[1], "tokenizer.json") == 0)
		serve_file(argv[1]);
	else
		serve_vectors(argv[1]);
	return 0;
}

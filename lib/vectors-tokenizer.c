/* vectors-tokenizer.c - a small vocabulary, and text to tokens or tokens to text. */
#include "vectors-kinds.h"

#include <deepseekd/tokenizer.h>

#include <string.h>

/* Everything a vocabulary from JSON owns. */
struct vocabulary {
	struct ds_vocabulary v;
	struct ds_token *tokens;
	struct ds_merge *merges;
	float *scores;
};

static void vocabulary_deinit(struct vocabulary *v)
{
	for (uint32_t i = 0; i < v->v.n_tokens; i++)
		free((void *)v->tokens[i].text);
	free(v->tokens);
	free(v->merges);
	free(v->scores);
}

/* The bytes that code points U+0000 to U+00FF of @json stand for, in place of their UTF-8. */
static int from_latin1(const json_t *json, struct ds_token *token, struct ds_error *err)
{
	const unsigned char *text = (const unsigned char *)json_string_value(json);
	size_t size = json_string_length(json), n = 0;
	char *bytes;

	if (!text)
		return ds_fail(err, -EINVAL, "the text of a token is not a string");
	bytes = malloc(size + 1);
	if (!bytes)
		return ds_fail(err, -ENOMEM, "no memory for a token");
	token->text = bytes;
	for (size_t i = 0; i < size; i++) {
		unsigned char c = text[i];

		if (c >= 0x80) {
			if (c > 0xc3)
				return ds_fail(err, -EINVAL, "token \"%.40s\": write each byte as U+0000 to U+00FF",
					       json_string_value(json));
			c = (unsigned char)(c << 6 | (text[++i] & 0x3f));
		}
		bytes[n++] = (char)c;
	}
	bytes[n] = 0;
	token->size = (uint32_t)n;
	return 0;
}

static int read_token(const json_t *json, struct ds_token *token, struct ds_error *err)
{
	const json_t *text = json;
	int r;

	if (json_is_object(json)) {
		r = ds_vector_keys(json, DS_VECTOR_KEYS("text", "special", "added", "unused", "byte"), err);
		if (r < 0)
			return r;
		text = json_object_get(json, "text");
		token->flags = (json_is_true(json_object_get(json, "special")) ? DS_TOKEN_SPECIAL : 0) |
			       (json_is_true(json_object_get(json, "added")) ? DS_TOKEN_ADDED : 0) |
			       (json_is_true(json_object_get(json, "unused")) ? DS_TOKEN_UNUSED : 0) |
			       (json_is_true(json_object_get(json, "byte")) ? DS_TOKEN_BYTE : 0);
	}
	return from_latin1(text, token, err);
}

static int read_merges(const json_t *json, struct vocabulary *v, struct ds_error *err)
{
	ds_cleanup(ds_freep) uint32_t *ids = NULL;
	size_t n = 0;
	int r;

	if (!json_object_get(json, "merges"))
		return 0;
	r = ds_vector_u32(json, "merges", 2, &ids, &n, err);
	if (r < 0)
		return r;
	if (n != 3 * json_array_size(json_object_get(json, "merges")))
		return ds_fail(err, -EINVAL, "\"merges\" is not made of [left, right, merged]");
	for (size_t i = 0; i < n; i++)
		if (ids[i] >= v->v.n_tokens)
			return ds_fail(err, -EINVAL, "\"merges\" has token %u of %u", ids[i], v->v.n_tokens);
	v->v.merges = v->merges = calloc(n / 3 + 1, sizeof(*v->merges));
	if (!v->merges)
		return ds_fail(err, -ENOMEM, "no memory for %zu merges", n / 3);
	v->v.n_merges = (uint32_t)(n / 3);
	for (size_t i = 0; i < n / 3; i++)
		v->merges[i] = (struct ds_merge){ids[3 * i], ids[3 * i + 1], ids[3 * i + 2]};
	return 0;
}

static int read_scores(const json_t *json, struct vocabulary *v, struct ds_error *err)
{
	const json_t *scores = json_object_get(json, "scores"), *score;
	size_t i;

	if (!scores)
		return 0;
	if (json_array_size(scores) != v->v.n_tokens)
		return ds_fail(err, -EINVAL, "\"scores\" has not one for each of %u tokens", v->v.n_tokens);
	v->v.scores = v->scores = calloc(v->v.n_tokens, sizeof(*v->scores));
	if (!v->scores)
		return ds_fail(err, -ENOMEM, "no memory for scores");
	json_array_foreach ((json_t *)scores, i, score) {
		if (!json_is_number(score))
			return ds_fail(err, -EINVAL, "a score is not a number");
		v->scores[i] = (float)json_number_value(score);
	}
	return 0;
}

static int read_vocabulary(const struct ds_vector_case *c, struct vocabulary *v, struct ds_error *err)
{
	const json_t *json = json_object_get(c->input, "vocabulary");
	const json_t *tokens = json_object_get(json, "tokens"), *patterns = json_object_get(json, "patterns");
	const json_t *unknown = json_object_get(json, "unknown");
	int r = ds_vector_keys(json,
			       DS_VECTOR_KEYS("tokens", "merges", "patterns", "ignore_merges", "nfc", "scores", "unknown",
					      "add_space_prefix"),
			       err);

	if (r < 0)
		return r;
	if (json_array_size(tokens) == 0 || json_array_size(patterns) > DS_MAX_PATTERNS)
		return ds_fail(err, -EINVAL, "\"vocabulary\" has no tokens or too many patterns");
	v->v.tokens = v->tokens = calloc(json_array_size(tokens), sizeof(*v->tokens));
	if (!v->tokens)
		return ds_fail(err, -ENOMEM, "no memory for a vocabulary");
	for (size_t i = 0; i < json_array_size(tokens); i++) {
		v->v.n_tokens++;
		r = read_token(json_array_get(tokens, i), &v->tokens[i], err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < json_array_size(patterns); i++) {
		const char *pattern = json_string_value(json_array_get(patterns, i));

		if (!pattern)
			return ds_fail(err, -EINVAL, "a pattern is not a string");
		v->v.patterns[v->v.n_patterns++] = pattern;
	}
	v->v.tokenizer = c->entry->name;
	v->v.ignore_merges = json_is_true(json_object_get(json, "ignore_merges"));
	v->v.nfc = json_is_true(json_object_get(json, "nfc"));
	v->v.bos = DS_NO_TOKEN;
	v->v.unknown = json_is_integer(unknown) ? (uint32_t)json_integer_value(unknown) : DS_NO_TOKEN;
	v->v.add_space_prefix = json_is_true(json_object_get(json, "add_space_prefix"));
	r = read_scores(json, v, err);
	return r < 0 ? r : read_merges(json, v, err);
}

static int encode(const struct ds_vector_case *c, void *self, json_t **got, struct ds_error *err)
{
	const struct ds_tokenizer_ops *ops = c->entry->ops;
	const json_t *text = json_object_get(c->input, "text");
	unsigned flags = json_is_true(json_object_get(c->input, "special")) ? DS_TOKENIZE_SPECIAL : 0;
	uint32_t *ids = NULL;
	size_t n_ids = 0;
	int r = ops->encode(self, json_string_value(text), json_string_length(text), flags, SIZE_MAX, &ids, &n_ids, err);

	if (r == 0)
		*got = json_pack("{s:o}", "ids", ds_vector_from_u32(ids, n_ids));
	c->host->free(ids);
	return r;
}

/* Append @n bytes, which have to be whole UTF-8 characters, to @text. */
static int append(FILE *text, const char *piece, size_t n, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *valid = json_stringn(piece, n);

	if (!valid)
		return ds_fail(err, -EINVAL, "a piece of the text is not whole UTF-8 characters");
	if (fwrite(piece, 1, n, text) != n)
		return ds_fail(err, -ENOMEM, "no memory for the text");
	return 0;
}

static int decode_to(const struct ds_vector_case *c, void *self, FILE *text, struct ds_error *err)
{
	const struct ds_tokenizer_ops *ops = c->entry->ops;
	ds_cleanup(ds_freep) uint32_t *ids = NULL;
	struct ds_detokenizer state = {0};
	char end[12];
	size_t n_ids = 0;
	int r = ds_vector_u32(c->input, "ids", 1, &ids, &n_ids, err);

	for (size_t i = 0; r == 0 && i < n_ids; i++) {
		ds_cleanup(ds_freep) char *piece = NULL;
		size_t size = 0;

		ops->token_text(self, ids[i], &size);
		piece = malloc(size * 3 + 12);
		if (!piece)
			return ds_fail(err, -ENOMEM, "no memory for the text of a token");
		r = append(text, piece, ops->detokenize(self, &state, ids[i], piece), err);
	}
	return r < 0 ? r : append(text, end, ops->finish(self, &state, end), err);
}

static int decode(const struct ds_vector_case *c, void *self, json_t **got, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *data = NULL;
	size_t size = 0;
	FILE *text = open_memstream(&data, &size);
	int r;

	if (!text)
		return ds_fail(err, -ENOMEM, "no memory for the text");
	r = decode_to(c, self, text, err);
	if (fclose(text) != 0 && r == 0)
		r = ds_fail(err, -ENOMEM, "no memory for the text");
	if (r == 0)
		*got = json_pack("{s:o}", "text", json_stringn(data, size));
	return r;
}

int ds_vector_tokenizer(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	const struct ds_tokenizer_ops *ops = c->entry->ops;
	ds_cleanup(vocabulary_deinit) struct vocabulary vocabulary = {.tokens = NULL};
	bool encodes = json_is_string(json_object_get(c->input, "text"));
	void *self = NULL;
	int r = ds_vector_keys(c->input, encodes ? DS_VECTOR_KEYS("vocabulary", "text", "special")
						 : DS_VECTOR_KEYS("vocabulary", "ids"), err);

	if (r == 0)
		r = read_vocabulary(c, &vocabulary, err);
	if (r == 0)
		r = ops->open(&self, c->host, &vocabulary.v, err);
	if (r < 0)
		return r;
	r = encodes ? encode(c, self, got, err) : decode(c, self, got, err);
	ops->close(self);
	return r;
}

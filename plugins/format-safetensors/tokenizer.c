/* tokenizer.c - tokenizer.json -> tokens and merges of a byte-level BPE.
 *
 * Vocabulary and merges are written in an alphabet of 256 printable characters, one a byte; here they become the bytes.
 * Added tokens are literal text. An id has one text, a text of the vocabulary has one id. */
#include "checkpoint.h"

#define FILE_NAME "tokenizer.json"
#define MAX_TOKENS DS_MAX_VOCAB /* where no config.json tells how many there are */

static int read_id(uint32_t *id, const json_t *value, const struct ds_checkpoint *c, const char *text,
		   struct ds_error *err)
{
	json_int_t x = json_integer_value(value);

	if (!json_is_integer(value) || x < 0)
		return ds_fail(err, -EINVAL, FILE_NAME ": the id of %s should be a whole number from 0 on",
			       ds_shown(text).text);
	if (x >= c->hparams.vocab)
		return ds_fail(err, -EINVAL, FILE_NAME ": the id of %s is %lld, but config.json's vocab_size is %u",
			       ds_shown(text).text, (long long)x, c->hparams.vocab);
	*id = (uint32_t)x;
	return 0;
}

static int read_added(struct ds_words *w, const struct ds_checkpoint *c, const json_t *entry, struct ds_error *err)
{
	static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
	const char *content = json_string_value(json_object_get(entry, "content"));
	bool special = false;
	struct ds_token *t;
	uint32_t id;
	int r;

	if (!content || !*content)
		return ds_fail(err, -EINVAL, FILE_NAME ": added_tokens: content should be a text");
	r = read_id(&id, json_object_get(entry, "id"), c, content, err);
	if (r < 0)
		return r;
	r = ds_json_bool(&special, entry, FILE_NAME, "special", err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < DS_ARRAY_SIZE(unsupported); i++)
		if (json_is_true(json_object_get(entry, unsupported[i])))
			return ds_fail(err, -ENOTSUP, FILE_NAME ": added token %s: %s is not supported",
				       ds_shown(content).text, unsupported[i]);
	t = &w->tokens[id];
	if (t->text)
		return ds_fail(err, -EINVAL, FILE_NAME ": %s and %s have the same id %u", ds_shown(t->text).text,
			       ds_shown(content).text, id);
	t->text = content;
	t->size = (uint32_t)strlen(content);
	t->flags = DS_TOKEN_ADDED | (special ? DS_TOKEN_SPECIAL : 0);
	return 0;
}

/* Added tokens may stand in the vocabulary, too: then under the same id. A text in other characters than those of the
 * alphabet stands for itself. */
static int read_vocabulary(struct ds_words *w, const struct ds_checkpoint *c, const json_t *vocab, struct ds_error *err)
{
	char *next = w->text;
	const char *text;
	json_t *value;
	int r;

	json_object_foreach ((json_t *)vocab, text, value) {
		struct ds_token *t;
		uint32_t id;

		r = read_id(&id, value, c, text, err);
		if (r < 0)
			return r;
		t = &w->tokens[id];
		if (t->text && (t->flags & DS_TOKEN_ADDED) && strcmp(t->text, text) == 0)
			continue;
		if (t->text)
			return ds_fail(err, -EINVAL, FILE_NAME ": model.vocab: the id of %s, %u, is there twice",
				       ds_shown(text).text, id);
		t->text = next;
		if (!ds_alphabet_undo(text, strlen(text), next, &t->size)) {
			t->size = (uint32_t)strlen(text);
			memcpy(next, text, t->size);
		}
		next += t->size;
		*next++ = 0;
	}
	return 0;
}

/* One merge: "left right" or ["left", "right"]. */
static bool split_merge(struct ds_pair *pair, const json_t *merge)
{
	if (json_is_string(merge))
		return ds_pair_split(pair, json_string_value(merge), json_string_length(merge));
	*pair = (struct ds_pair){
		.left = json_string_value(json_array_get(merge, 0)),
		.left_size = json_string_length(json_array_get(merge, 0)),
		.right = json_string_value(json_array_get(merge, 1)),
		.right_size = json_string_length(json_array_get(merge, 1)),
	};
	return json_array_size(merge) == 2 && pair->left_size > 0 && pair->right_size > 0;
}

/* The words of @vocab, whose ids are checked. */
static int index_words(struct ds_words_index *index, const json_t *vocab, struct ds_error *err)
{
	const char *text;
	json_t *value;

	index->words = calloc(json_object_size(vocab) + 1, sizeof(*index->words));
	if (!index->words)
		return ds_fail(err, -ENOMEM, "no memory for %zu words", json_object_size(vocab));
	json_object_foreach ((json_t *)vocab, text, value)
		index->words[index->n++] = (struct ds_word){
			.text = text,
			.size = (uint32_t)strlen(text),
			.id = (uint32_t)json_integer_value(value),
		};
	ds_words_sort(index);
	return 0;
}

static int read_merges(struct ds_words *w, const json_t *vocab, const json_t *merges, struct ds_error *err)
{
	ds_cleanup(ds_words_index_deinit) struct ds_words_index index = {};
	size_t i;
	json_t *merge;
	int r = index_words(&index, vocab, err);

	if (r < 0)
		return r;
	w->merges = calloc(json_array_size(merges) + 1, sizeof(*w->merges));
	if (!w->merges)
		return ds_fail(err, -ENOMEM, "no memory for %zu merges", json_array_size(merges));
	json_array_foreach ((json_t *)merges, i, merge) {
		struct ds_pair pair;

		if (!split_merge(&pair, merge))
			return ds_fail(err, -EINVAL, FILE_NAME ": model.merges[%zu] should be two words", i);
		r = ds_pair_resolve(&w->merges[i], &pair, &index, FILE_NAME, "model.merges", i, err);
		if (r < 0)
			return r;
	}
	w->vocabulary.merges = w->merges;
	w->vocabulary.n_merges = (uint32_t)json_array_size(merges);
	return 0;
}

/* What the model's section may say besides vocabulary and merges. */
static int check_model(struct ds_vocabulary *v, const json_t *model, struct ds_error *err)
{
	static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const char *type = "BPE", *affix;
	bool fallback = false;
	int r;

	r = ds_json_string(&type, model, FILE_NAME, "type", err);
	if (r < 0)
		return r;
	if (strcmp(type, "BPE") != 0)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": model.type %s is not supported (supported: BPE)",
			       ds_shown(type).text);
	r = ds_json_bool(&fallback, model, FILE_NAME, "byte_fallback", err);
	if (r < 0)
		return r;
	if (fallback)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": model.byte_fallback is not supported");
	if (json_number_value(json_object_get(model, "dropout")) != 0)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": model.dropout is not supported");
	for (size_t i = 0; i < DS_ARRAY_SIZE(affixes); i++) {
		affix = "";
		r = ds_json_string(&affix, model, FILE_NAME, affixes[i], err);
		if (r < 0)
			return r;
		if (*affix)
			return ds_fail(err, -ENOTSUP, FILE_NAME ": model.%s is not supported", affixes[i]);
	}
	return ds_json_bool(&v->ignore_merges, model, FILE_NAME, "ignore_merges", err);
}

/* Room for the tokens and the texts of @vocab. */
static int allocate(struct ds_words *w, const struct ds_checkpoint *c, const json_t *vocab, struct ds_error *err)
{
	size_t total = 1;
	const char *text;
	json_t *value;

	json_object_foreach ((json_t *)vocab, text, value)
		total += strlen(text) + 1;
	w->tokens = calloc(c->hparams.vocab, sizeof(*w->tokens));
	w->text = malloc(total);
	if (!w->tokens || !w->text)
		return ds_fail(err, -ENOMEM, "no memory for a vocabulary of %u tokens", c->hparams.vocab);
	w->vocabulary.tokens = w->tokens;
	return 0;
}

static int read_words(struct ds_words *w, const struct ds_checkpoint *c, const json_t *model, struct ds_error *err)
{
	const json_t *vocab = NULL, *merges = NULL, *added = NULL;
	size_t i;
	json_t *entry;
	int r;

	r = ds_json_object(&vocab, model, FILE_NAME, "vocab", err);
	if (r < 0)
		return r;
	r = ds_json_array(&merges, model, FILE_NAME, "merges", err);
	if (r < 0)
		return r;
	r = ds_json_array(&added, c->tokenizer, FILE_NAME, "added_tokens", err);
	if (r < 0)
		return r;
	if (!vocab || !merges)
		return ds_fail(err, -EINVAL, FILE_NAME ": model.%s is missing", vocab ? "merges" : "vocab");
	r = allocate(w, c, vocab, err);
	if (r < 0)
		return r;
	json_array_foreach ((json_t *)added, i, entry) {
		r = read_added(w, c, entry, err);
		if (r < 0)
			return r;
	}
	r = read_vocabulary(w, c, vocab, err);
	if (r < 0)
		return r;
	return read_merges(w, vocab, merges, err);
}

/* Ids between the texts are rows of the embedding that no text leads to. */
static void finish(struct ds_words *w, uint32_t vocab)
{
	for (uint32_t id = 0; id < vocab; id++) {
		if (w->tokens[id].text)
			w->vocabulary.n_tokens = id + 1;
		else
			w->tokens[id] = (struct ds_token){.text = "", .flags = DS_TOKEN_UNUSED};
	}
}

int ds_tokenizer_count(uint32_t *n, const struct ds_checkpoint *c, struct ds_error *err)
{
	const json_t *added = json_object_get(c->tokenizer, "added_tokens");
	json_t *vocab = json_object_get(json_object_get(c->tokenizer, "model"), "vocab"), *value;
	json_int_t last = -1, x;
	const char *text;
	size_t i;

	json_object_foreach (vocab, text, value)
		if ((x = json_integer_value(value)) > last)
			last = x;
	json_array_foreach ((json_t *)added, i, value)
		if ((x = json_integer_value(json_object_get(value, "id"))) > last)
			last = x;
	if (last >= MAX_TOKENS)
		return ds_fail(err, -EINVAL, FILE_NAME ": a token has the id %lld (limit: %u)", (long long)last,
			       MAX_TOKENS);
	*n = (uint32_t)(last + 1);
	return 0;
}

int ds_tokenizer_read(struct ds_words *w, const struct ds_checkpoint *c, struct ds_error *err)
{
	struct ds_vocabulary *v = &w->vocabulary;
	const json_t *model = NULL;
	int r;

	v->tokenizer = "bpe";
	r = ds_json_object(&model, c->tokenizer, FILE_NAME, "model", err);
	if (r < 0)
		return r;
	if (!model)
		return ds_fail(err, -EINVAL, FILE_NAME ": model is missing");
	r = check_model(v, model, err);
	if (r < 0)
		return r;
	r = read_words(w, c, model, err);
	if (r < 0)
		return r;
	finish(w, c->hparams.vocab);
	r = ds_split_read(v, c->tokenizer, err);
	if (r < 0)
		return r;
	return ds_special_read(v, c, err);
}

void ds_words_deinit(struct ds_words *w)
{
	free(w->tokens);
	free(w->merges);
	free(w->text);
}

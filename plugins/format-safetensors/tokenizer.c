/* tokenizer.c - tokenizer.json -> tokens and merges of a byte-level BPE.
 *
 * Vocabulary and merges are written in an alphabet of 256 printable characters, one a byte; here they become the bytes.
 * Added tokens are literal text. An id has one text, a text of the vocabulary has one id. */
#include "checkpoint.h"

#define FILE_NAME "tokenizer.json"
#define MAX_TOKENS (1 << 24) /* where no config.json tells how many there are */

/* The byte that each character of the alphabet stands for: the printable ones of Latin-1 are themselves, the others
 * follow from U+0100 in rising order. */
struct alphabet {
	int16_t byte[256 + 68];
};

static void alphabet_init(struct alphabet *a)
{
	int next = 256;

	memset(a->byte, -1, sizeof(a->byte));
	for (int b = 0; b < 256; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b != 173);

		a->byte[itself ? b : next++] = (int16_t)b;
	}
}

/* Undo the alphabet: the bytes of @text go to @out, which has room for as many as @text has.
 * False: @text is not written in the alphabet. */
static bool undo(const struct alphabet *a, const char *text, char *out, uint32_t *size)
{
	const uint8_t *p = (const uint8_t *)text;
	uint32_t n = 0;

	/* jansson gives valid UTF-8, and the alphabet ends below U+0800: one byte or two */
	while (*p) {
		unsigned c = *p++;

		if (c >= 0xe0)
			return false;
		if (c >= 0xc0)
			c = (c & 0x1f) << 6 | (*p++ & 0x3f);
		if (c >= DS_ARRAY_SIZE(a->byte) || a->byte[c] < 0)
			return false;
		out[n++] = (char)a->byte[c];
	}
	*size = n;
	return true;
}

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
	struct alphabet alphabet;
	char *next = w->text;
	const char *text;
	json_t *value;
	int r;

	alphabet_init(&alphabet);
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
		if (!undo(&alphabet, text, next, &t->size)) {
			t->size = (uint32_t)strlen(text);
			memcpy(next, text, t->size);
		}
		next += t->size;
		*next++ = 0;
	}
	return 0;
}

/* One merge: "left right" or ["left", "right"], copied into @left and @right, which have room for @size bytes each. */
static bool split_merge(const json_t *merge, char *left, char *right, size_t size)
{
	const char *a, *b;
	size_t n_a, n_b;

	if (json_is_string(merge)) {
		a = json_string_value(merge);
		b = strchr(a, ' ');
		if (!b)
			return false;
		n_a = (size_t)(b++ - a);
		if (strchr(b, ' '))
			return false;
	} else {
		a = json_string_value(json_array_get(merge, 0));
		b = json_string_value(json_array_get(merge, 1));
		if (!a || !b || json_array_size(merge) != 2)
			return false;
		n_a = strlen(a);
	}
	n_b = strlen(b);
	if (n_a == 0 || n_b == 0 || n_a + n_b >= size)
		return false;
	memcpy(left, a, n_a);
	left[n_a] = 0;
	memcpy(right, b, n_b + 1);
	return true;
}

static int read_merges(struct ds_words *w, const json_t *vocab, const json_t *merges, size_t longest,
		       struct ds_error *err)
{
	ds_cleanup(ds_freep) char *buffer = calloc(3, longest + 1);
	char *left = buffer, *right = buffer + longest + 1, *merged = right + longest + 1;
	size_t i;
	json_t *merge;

	w->merges = calloc(json_array_size(merges) + 1, sizeof(*w->merges));
	if (!buffer || !w->merges)
		return ds_fail(err, -ENOMEM, "no memory for %zu merges", json_array_size(merges));
	json_array_foreach ((json_t *)merges, i, merge) {
		const json_t *a, *b, *both;

		if (!split_merge(merge, left, right, longest + 1))
			return ds_fail(err, -EINVAL,
				       FILE_NAME ": model.merges[%zu] should be two words that are in the vocabulary, "
						 "also when joined",
				       i);
		stpcpy(stpcpy(merged, left), right);
		a = json_object_get(vocab, left);
		b = json_object_get(vocab, right);
		both = json_object_get(vocab, merged);
		if (!a || !b || !both)
			return ds_fail(err, -EINVAL,
				       FILE_NAME ": model.merges[%zu], %s + %s: %s is not in the vocabulary", i,
				       ds_shown(left).text, ds_shown(right).text,
				       ds_shown(!a   ? left
						: !b ? right
						     : merged)
					       .text);
		w->merges[i] = (struct ds_merge){
			.left = (uint32_t)json_integer_value(a),
			.right = (uint32_t)json_integer_value(b),
			.merged = (uint32_t)json_integer_value(both),
		};
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

/* Room for the tokens and the texts of @vocab; *@longest: of its texts, in bytes. */
static int allocate(struct ds_words *w, const struct ds_checkpoint *c, const json_t *vocab, size_t *longest,
		    struct ds_error *err)
{
	size_t total = 1;
	const char *text;
	json_t *value;

	*longest = 0;
	json_object_foreach ((json_t *)vocab, text, value) {
		size_t n = strlen(text);

		total += n + 1;
		if (n > *longest)
			*longest = n;
	}
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
	size_t longest, i;
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
	r = allocate(w, c, vocab, &longest, err);
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
	return read_merges(w, vocab, merges, longest, err);
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
		return ds_fail(err, -EINVAL, FILE_NAME ": a token has the id %lld (limit: %d)", (long long)last,
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

/* tokenizer.c - the keys tokenizer.ggml.* -> a vocabulary: of a byte-level BPE ("gpt2") or of SentencePiece ("llama").
 *
 * Words of a byte-level vocabulary and its merges are written in an alphabet of 256 printable characters, one a byte;
 * those of SentencePiece have U+2581 for a space. Here they become the bytes. Added tokens are literal text. */
#include "gguf.h"

#define KEY "tokenizer.ggml."
#define SPACE "\xe2\x96\x81" /* U+2581 */

/* Of a token, with the numbers that files use. */
enum kind {
	NORMAL = 1,
	UNKNOWN,
	CONTROL,
	USER_DEFINED,
	UNUSED,
	BYTE,
};

static const uint32_t flags_of_kind[] = {
	[UNKNOWN] = DS_TOKEN_ADDED | DS_TOKEN_SPECIAL,
	[CONTROL] = DS_TOKEN_ADDED | DS_TOKEN_SPECIAL,
	[USER_DEFINED] = DS_TOKEN_ADDED,
	[UNUSED] = DS_TOKEN_UNUSED,
	[BYTE] = DS_TOKEN_BYTE,
};

/* A vocabulary while it is read. */
struct reader {
	const struct ds_gguf *g;
	const struct ds_gguf_part *part;
	struct ds_gguf_words *w;
	const struct ds_gguf_key *tokens;
	const struct ds_gguf_key *kinds; /* NULL: all are normal */
	bool spm;
	struct ds_words_index index; /* of the words as the file spells them */
};

static struct ds_shown file(const struct reader *r)
{
	return ds_shown(r->part->source.file->name);
}

static void reader_deinit(struct reader *r)
{
	ds_words_index_deinit(&r->index);
}

/* Rows of the embedding without a text are called [PADn] in files; older ones say that a user defined them. */
static bool is_padding(struct ds_gguf_text text, uint32_t id)
{
	char padding[24];

	snprintf(padding, sizeof(padding), "[PAD%u]", id);
	return ds_gguf_is(text, padding);
}

static int read_kind(const struct reader *r, uint32_t id, struct ds_gguf_text text, enum kind *out,
		     struct ds_error *err)
{
	uint64_t kind = NORMAL;

	if (r->kinds && (!ds_gguf_whole(r->kinds, id, &kind) || kind < NORMAL || kind > BYTE))
		return ds_fail(err, -EINVAL, "%s: " KEY "token_type[%u] is %" PRId64 ", allowed: %d to %d",
			       file(r).text, id, (int64_t)kind, NORMAL, BYTE);
	*out = text.size == 0 || is_padding(text, id) ? UNUSED : (enum kind)kind;
	return 0;
}

/* A token <0xNN> stands for a byte. */
static bool byte_of(struct ds_gguf_text text, char *out)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *high, *low;

	if (text.size != 6 || memcmp(text.text, "<0x", 3) != 0 || text.text[5] != '>')
		return false;
	high = memchr(digits, text.text[3], 16);
	low = memchr(digits, text.text[4], 16);
	if (!high || !low)
		return false;
	*out = (char)((high - digits) << 4 | (low - digits));
	return true;
}

/* Copy @text, a space for each U+2581. */
static uint32_t undo_spaces(struct ds_gguf_text text, char *out)
{
	uint32_t n = 0;

	for (size_t i = 0; i < text.size;) {
		bool space = text.size - i >= strlen(SPACE) && memcmp(text.text + i, SPACE, strlen(SPACE)) == 0;

		out[n++] = space ? ' ' : text.text[i];
		i += space ? strlen(SPACE) : 1;
	}
	return n;
}

/* Write the bytes of a token to @out, which has room for those of @text. */
static int read_token(const struct reader *r, uint32_t id, struct ds_gguf_text text, enum kind kind, char *out,
		      struct ds_token *t, struct ds_error *err)
{
	*t = (struct ds_token){.text = out, .size = (uint32_t)text.size, .flags = flags_of_kind[kind]};
	if (kind == UNUSED) {
		t->size = 0;
	} else if (kind == BYTE) {
		t->size = 1;
		if (!byte_of(text, out))
			return ds_fail(err, -EINVAL, "%s: " KEY "tokens[%u], %s, should be a byte like <0x0A>",
				       file(r).text, id, ds_shown_bytes(text.text, text.size).text);
	} else if (kind == NORMAL && r->spm) {
		t->size = undo_spaces(text, out);
	} else if (kind != NORMAL || !ds_alphabet_undo(text.text, text.size, out, &t->size)) {
		memcpy(out, text.text, text.size);
	}
	out[t->size] = 0;
	return 0;
}

/* Room for the tokens and their texts, which end before the array's last byte. */
static int allocate(struct reader *r, struct ds_error *err)
{
	struct ds_gguf_words *w = r->w;
	size_t total = 0, n = r->tokens->count;
	const char *at = r->tokens->value;

	for (uint64_t i = 0; i < n; i++)
		total += ds_gguf_next_text(&at).size + 1;
	w->tokens = calloc(n + 1, sizeof(*w->tokens));
	w->text = malloc(total + 1);
	r->index.words = calloc(n + 1, sizeof(*r->index.words));
	if (!w->tokens || !w->text || !r->index.words)
		return ds_fail(err, -ENOMEM, "%s: no memory for a vocabulary of %zu tokens", file(r).text, n);
	w->vocabulary.tokens = w->tokens;
	return 0;
}

static int read_tokens(struct reader *r, struct ds_error *err)
{
	struct ds_gguf_words *w = r->w;
	const char *at = r->tokens->value;
	char *next;
	int result = allocate(r, err);

	next = w->text;
	for (uint32_t id = 0; result == 0 && id < r->tokens->count; id++) {
		struct ds_gguf_text text = ds_gguf_next_text(&at);
		struct ds_token *t = &w->tokens[id];
		enum kind kind = NORMAL;

		if (text.size > UINT16_MAX)
			return ds_fail(err, -E2BIG, "%s: " KEY "tokens[%u] has %zu bytes, allowed: %d", file(r).text,
				       id, text.size, UINT16_MAX);
		result = read_kind(r, id, text, &kind, err);
		if (result == 0)
			result = read_token(r, id, text, kind, next, t, err);
		if (result < 0)
			return result;
		next += t->size + 1;
		/* rows at the end that no text leads to are none of the vocabulary's */
		if (kind == UNUSED)
			continue;
		w->vocabulary.n_tokens = id + 1;
		if (kind == UNKNOWN && w->vocabulary.unknown == DS_NO_TOKEN)
			w->vocabulary.unknown = id;
		r->index.words[r->index.n++] = (struct ds_word){
			.text = text.text,
			.size = (uint32_t)text.size,
			.id = id,
			.added = kind != NORMAL,
		};
	}
	ds_words_sort(&r->index);
	return result;
}

static int read_merges(struct reader *r, struct ds_error *err)
{
	const struct ds_gguf_key *merges;
	struct ds_gguf_words *w = r->w;
	const char *at;
	int result = ds_gguf_array(r->part, KEY "merges", DS_GGUF_TEXT, &merges, err);

	if (result < 0)
		return result;
	if (!merges)
		return ds_fail(err, -EINVAL, "%s: " KEY "merges is missing", file(r).text);
	if (merges->count > UINT32_MAX)
		return ds_fail(err, -E2BIG, "%s: " KEY "merges has %" PRIu64 " elements", file(r).text, merges->count);
	w->merges = calloc(merges->count + 1, sizeof(*w->merges));
	if (!w->merges)
		return ds_fail(err, -ENOMEM, "%s: no memory for %" PRIu64 " merges", file(r).text, merges->count);
	at = merges->value;
	for (uint64_t i = 0; i < merges->count; i++) {
		struct ds_gguf_text text = ds_gguf_next_text(&at);
		struct ds_pair pair;

		if (!ds_pair_split(&pair, text.text, text.size))
			return ds_fail(err, -EINVAL, "%s: " KEY "merges[%" PRIu64 "] should be two words", file(r).text,
				       i);
		result = ds_pair_resolve(&w->merges[i], &pair, &r->index, file(r).text, KEY "merges", i, err);
		if (result < 0)
			return result;
	}
	w->vocabulary.merges = w->merges;
	w->vocabulary.n_merges = (uint32_t)merges->count;
	return 0;
}

static int read_scores(struct reader *r, struct ds_error *err)
{
	const struct ds_gguf_key *scores;
	struct ds_gguf_words *w = r->w;
	int result = ds_gguf_array(r->part, KEY "scores", DS_GGUF_F32, &scores, err);

	if (result < 0)
		return result;
	if (!scores || scores->count != r->tokens->count)
		return ds_fail(err, -EINVAL, "%s: " KEY "scores should have %" PRIu64 " elements, one a token",
			       file(r).text, r->tokens->count);
	w->scores = calloc(scores->count + 1, sizeof(*w->scores));
	if (!w->scores)
		return ds_fail(err, -ENOMEM, "%s: no memory for %" PRIu64 " scores", file(r).text, scores->count);
	for (uint64_t i = 0; i < scores->count; i++) {
		uint32_t word = ds_gguf_u32(scores->value + 4 * i);

		memcpy(&w->scores[i], &word, sizeof(word));
		if (w->scores[i] != w->scores[i])
			return ds_fail(err, -EINVAL, "%s: " KEY "scores[%" PRIu64 "] is not a number", file(r).text, i);
	}
	w->vocabulary.scores = w->scores;
	return 0;
}

/* The token that a key names. All ones is how some writers say that there is none. */
static int read_id(const struct reader *r, const char *name, uint32_t *out, struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(r->part, name);
	uint64_t id = 0;
	int result;

	if (!key || (key->type == DS_GGUF_U32 && !key->array && ds_gguf_u32(key->value) == UINT32_MAX))
		return 0;
	result = ds_gguf_count(r->part, name, 0, UINT32_MAX, &id, err);
	if (result < 0)
		return result;
	if (id >= r->w->vocabulary.n_tokens)
		return ds_fail(err, -EINVAL, "%s: %s is %" PRIu64 ", but there are %u tokens", file(r).text, name, id,
			       r->w->vocabulary.n_tokens);
	*out = (uint32_t)id;
	return 0;
}

/* Which tokens begin and end a text. */
static int read_specials(const struct reader *r, struct ds_error *err)
{
	static const char *const ends[] = {KEY "eos_token_id", KEY "eot_token_id", KEY "eom_token_id"};
	struct ds_vocabulary *v = &r->w->vocabulary;
	int result = read_id(r, KEY "bos_token_id", &v->bos, err);

	if (result == 0)
		result = read_id(r, KEY "unknown_token_id", &v->unknown, err);
	for (size_t i = 0; result == 0 && i < DS_ARRAY_SIZE(ends); i++) {
		uint32_t id = DS_NO_TOKEN;

		result = read_id(r, ends[i], &id, err);
		if (result == 0)
			ds_add_eos(v, id);
	}
	if (result == 0)
		result = ds_gguf_bool(r->part, KEY "add_bos_token", &v->add_bos, err);
	if (result == 0)
		result = ds_gguf_bool(r->part, KEY "add_space_prefix", &v->add_space_prefix, err);
	if (result < 0)
		return result;
	ds_add_enders(v);
	if (v->bos == DS_NO_TOKEN)
		v->add_bos = false;
	if (!r->spm) {
		v->unknown = DS_NO_TOKEN;
		v->add_space_prefix = false;
	}
	return 0;
}

/* The arrays, one element a token each. */
static int find_arrays(struct reader *r, struct ds_error *err)
{
	int result = ds_gguf_array(r->part, KEY "tokens", DS_GGUF_TEXT, &r->tokens, err);
	const struct ds_gguf_key *kinds = ds_gguf_key(r->part, KEY "token_type");

	if (result < 0)
		return result;
	if (!r->tokens)
		return ds_fail(err, -EINVAL, "%s: " KEY "tokens is missing", file(r).text);
	if (kinds && (!kinds->array || (kinds->type != DS_GGUF_I32 && kinds->type != DS_GGUF_U32) ||
		      kinds->count != r->tokens->count))
		return ds_fail(err, -EINVAL,
			       "%s: " KEY "token_type should be an array of i32 of %" PRIu64 ", one a token",
			       file(r).text, r->tokens->count);
	if (r->tokens->count > (r->g->architecture ? r->g->hparams.vocab : DS_MAX_VOCAB))
		return ds_fail(err, -EINVAL, "%s: %" PRIu64 " tokens, but the embedding has %u rows", file(r).text,
			       r->tokens->count, r->g->hparams.vocab);
	r->kinds = kinds;
	return 0;
}

static int read_words(struct reader *r, struct ds_error *err)
{
	struct ds_vocabulary *v = &r->w->vocabulary;
	int result = find_arrays(r, err);

	if (result < 0)
		return result;
	if (!r->spm)
		result = ds_gguf_read_pre(v, &r->w->patterns, r->g, err);
	else
		v->add_bos = v->add_space_prefix = true;
	if (result == 0)
		result = read_tokens(r, err);
	if (result == 0)
		result = r->spm ? read_scores(r, err) : read_merges(r, err);
	return result < 0 ? result : read_specials(r, err);
}

int ds_gguf_read_words(struct ds_gguf_words *words, const struct ds_gguf *g, struct ds_error *err)
{
	ds_cleanup(reader_deinit) struct reader r = {.g = g, .part = &g->parts[0], .w = words};
	struct ds_vocabulary *v = &words->vocabulary;
	struct ds_gguf_text model = {};
	int result = ds_gguf_text(r.part, KEY "model", &model, err);

	if (result < 0)
		return result;
	if (!model.text || ds_gguf_is(model, "none") || ds_gguf_is(model, "no_vocab"))
		return 0;
	v->bos = v->unknown = DS_NO_TOKEN;
	r.spm = ds_gguf_is(model, "llama");
	if (!r.spm && !ds_gguf_is(model, "gpt2"))
		return ds_fail(err, -ENOTSUP, "%s: " KEY "model %s is not supported (supported: gpt2, llama)",
			       file(&r).text, ds_shown_bytes(model.text, model.size).text);
	result = read_words(&r, err);
	v->tokenizer = r.spm ? "spm" : "bpe";
	return result;
}

void ds_gguf_words_deinit(struct ds_gguf_words *w)
{
	free(w->tokens);
	free(w->merges);
	free(w->scores);
	free(w->text);
	free(w->patterns);
}

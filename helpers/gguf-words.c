/* gguf-words.c - a vocabulary as GGUF keys. Byte-level texts go back into the alphabet of printable characters. */
#include "gguf-model.h"

#include <string.h>

#define KEY "tokenizer.ggml."
#define OWN_KEY "tokenizer.deepseekd."
#define SPACE "\xe2\x96\x81" /* U+2581, a space in SentencePiece's texts */

/* The numbers of tokenizer.ggml.token_type. */
enum kind {
	NORMAL = 1,
	UNKNOWN,
	CONTROL,
	USER_DEFINED,
	UNUSED,
	BYTE,
};

/* The names of split patterns, by an FNV-1a hash of the patterns, each followed by a NUL, line ends in them escaped.
 * Names are shared: qwen2 is also that of the distilled ones, llama-bpe that of Llama 3. */
static const struct family {
	const char *pre;
	uint64_t hash;
	bool nfc, ignore_merges; /* go with the name */
} families[] = {
	{"deepseek-llm", 0x2a2fc2d7db9e2b69},
	{"deepseek-coder", 0xcb214bc17a9606da},
	{"deepseek-v3", 0x88f3a5095ef2a177},
	{"qwen2", 0x14377e3fdc82a3ec, .nfc = true},
	{"llama-bpe", 0x718fc75eb696e682, .ignore_merges = true},
	{"gpt-2", 0x9a8ff1a086e8d995},
};

static uint64_t hash_byte(uint64_t hash, unsigned char byte)
{
	return (hash ^ byte) * 0x100000001b3;
}

static uint64_t hash_pattern(uint64_t hash, const char *pattern)
{
	for (; *pattern; pattern++) {
		if (*pattern == '\r' || *pattern == '\n')
			hash = hash_byte(hash_byte(hash, '\\'), *pattern == '\r' ? 'r' : 'n');
		else
			hash = hash_byte(hash, (unsigned char)*pattern);
	}
	return hash_byte(hash, 0);
}

static const struct family *find_family(const struct ds_vocabulary *v)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (uint32_t i = 0; i < v->n_patterns; i++)
		hash = hash_pattern(hash, v->patterns[i]);
	for (size_t i = 0; i < DS_ARRAY_SIZE(families); i++)
		if (families[i].hash == hash)
			return &families[i];
	return NULL;
}

/* The name of the split patterns. Where there is none that says all, the patterns themselves follow under keys of our
 * own, and other programs get the name that comes nearest. Of several names for the same patterns @pre is kept. */
static void put_pre(struct ds_gguf_writer *w, const struct ds_vocabulary *v, const char *pre)
{
	const struct family *f = find_family(v);
	bool named = pre && v->n_patterns == 0; /* only the name is known, and it is enough */
	bool exact = named || (f && f->nfc == v->nfc && f->ignore_merges == v->ignore_merges);

	ds_gguf_writer_text(w, NULL, KEY "pre", exact && pre ? pre : f ? f->pre : "deepseek-v3");
	if (exact)
		return;
	ds_gguf_writer_texts(w, OWN_KEY "patterns", v->n_patterns);
	for (uint32_t i = 0; i < v->n_patterns; i++)
		ds_gguf_writer_element(w, v->patterns[i], strlen(v->patterns[i]));
	ds_gguf_writer_bool(w, NULL, OWN_KEY "nfc", v->nfc);
	ds_gguf_writer_bool(w, NULL, OWN_KEY "ignore_merges", v->ignore_merges);
}

/* The character of each byte: printable ones of Latin-1 are themselves, the others follow from U+0100 on. */
struct alphabet {
	char text[256][3];
	uint8_t size[256];
};

static void alphabet_init(struct alphabet *a)
{
	unsigned next = 256;

	for (unsigned b = 0; b < 256; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
		unsigned c = itself ? b : next++;

		if (c < 0x80) {
			a->text[b][0] = (char)c;
			a->size[b] = 1;
		} else {
			a->text[b][0] = (char)(0xc0 | c >> 6);
			a->text[b][1] = (char)(0x80 | (c & 0x3f));
			a->size[b] = 2;
		}
	}
}

/* @out has room for 3 bytes for each of the text. */
static size_t to_alphabet(const struct alphabet *a, const char *text, size_t size, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		memcpy(out + n, a->text[(uint8_t)text[i]], a->size[(uint8_t)text[i]]);
		n += a->size[(uint8_t)text[i]];
	}
	return n;
}

/* Spaces of SentencePiece. */
static size_t with_marks(const char *text, size_t size, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (text[i] == ' ') {
			memcpy(out + n, SPACE, 3);
			n += 3;
		} else {
			out[n++] = text[i];
		}
	}
	return n;
}

static enum kind kind_of(const struct ds_vocabulary *v, uint32_t id)
{
	unsigned flags = v->tokens[id].flags;

	if (id == v->unknown)
		return UNKNOWN;
	if (flags & DS_TOKEN_UNUSED || v->tokens[id].size == 0)
		return UNUSED;
	if (flags & DS_TOKEN_BYTE)
		return BYTE;
	if (flags & DS_TOKEN_SPECIAL)
		return CONTROL;
	return flags & DS_TOKEN_ADDED ? USER_DEFINED : NORMAL;
}

static void put_token(struct ds_gguf_writer *w, const struct ds_vocabulary *v, const struct alphabet *a, uint32_t id,
		      char *scratch)
{
	const struct ds_token *t = &v->tokens[id];
	bool spm = strcmp(v->tokenizer, "spm") == 0;
	char name[24];

	switch (kind_of(v, id)) {
	case UNUSED:
		snprintf(name, sizeof(name), "[PAD%u]", id);
		ds_gguf_writer_element(w, name, strlen(name));
		return;
	case BYTE:
		snprintf(name, sizeof(name), "<0x%02X>", (unsigned)(uint8_t)t->text[0]);
		ds_gguf_writer_element(w, name, strlen(name));
		return;
	case NORMAL:
		ds_gguf_writer_element(w, scratch,
				       spm ? with_marks(t->text, t->size, scratch)
					   : to_alphabet(a, t->text, t->size, scratch));
		return;
	default:
		ds_gguf_writer_element(w, t->text, t->size);
	}
}

/* Tokens, and rows of the embedding that have none. */
static int put_tokens(struct ds_gguf_writer *w, const struct ds_vocabulary *v, const struct alphabet *a,
		      uint32_t n_rows, char *scratch, struct ds_error *err)
{
	ds_cleanup(ds_freep) int32_t *kinds = calloc((size_t)n_rows + 1, sizeof(*kinds));
	char name[24];

	if (!kinds)
		return ds_fail(err, -ENOMEM, "no memory for a vocabulary of %u tokens", n_rows);
	ds_gguf_writer_texts(w, KEY "tokens", n_rows);
	for (uint32_t id = 0; id < n_rows; id++) {
		kinds[id] = id < v->n_tokens ? kind_of(v, id) : UNUSED;
		if (id < v->n_tokens) {
			put_token(w, v, a, id, scratch);
			continue;
		}
		snprintf(name, sizeof(name), "[PAD%u]", id);
		ds_gguf_writer_element(w, name, strlen(name));
	}
	ds_gguf_writer_ints(w, KEY "token_type", kinds, n_rows);
	return 0;
}

static void put_merges(struct ds_gguf_writer *w, const struct ds_vocabulary *v, const struct alphabet *a, char *scratch)
{
	ds_gguf_writer_texts(w, KEY "merges", v->n_merges);
	for (uint32_t i = 0; i < v->n_merges; i++) {
		const struct ds_token *left = &v->tokens[v->merges[i].left], *right = &v->tokens[v->merges[i].right];
		size_t n = to_alphabet(a, left->text, left->size, scratch);

		scratch[n++] = ' ';
		n += to_alphabet(a, right->text, right->size, scratch + n);
		ds_gguf_writer_element(w, scratch, n);
	}
}

static int put_scores(struct ds_gguf_writer *w, const struct ds_vocabulary *v, uint32_t n_rows, struct ds_error *err)
{
	ds_cleanup(ds_freep) float *scores = calloc((size_t)n_rows + 1, sizeof(*scores));

	if (!scores)
		return ds_fail(err, -ENOMEM, "no memory for %u scores", n_rows);
	if (v->scores)
		memcpy(scores, v->scores, v->n_tokens * sizeof(*scores));
	ds_gguf_writer_floats(w, KEY "scores", scores, n_rows);
	return 0;
}

static void put_ids(struct ds_gguf_writer *w, const struct ds_vocabulary *v)
{
	if (v->bos != DS_NO_TOKEN)
		ds_gguf_writer_u32(w, NULL, KEY "bos_token_id", v->bos);
	if (v->n_eos > 0)
		ds_gguf_writer_u32(w, NULL, KEY "eos_token_id", v->eos[0]);
	if (v->unknown != DS_NO_TOKEN)
		ds_gguf_writer_u32(w, NULL, KEY "unknown_token_id", v->unknown);
	ds_gguf_writer_bool(w, NULL, KEY "add_bos_token", v->add_bos);
	ds_gguf_writer_bool(w, NULL, KEY "add_eos_token", false);
}

int ds_gguf_put_vocabulary(struct ds_gguf_writer *w, const struct ds_vocabulary *v, const char *pre, uint32_t n_rows,
			   struct ds_error *err)
{
	bool spm = strcmp(v->tokenizer, "spm") == 0;
	ds_cleanup(ds_freep) char *scratch = NULL;
	struct alphabet alphabet;
	size_t longest = 0;
	int r;

	for (uint32_t id = 0; id < v->n_tokens; id++)
		longest = v->tokens[id].size > longest ? v->tokens[id].size : longest;
	scratch = malloc(6 * longest + 16);
	if (!scratch)
		return ds_fail(err, -ENOMEM, "no memory for a vocabulary of %u tokens", n_rows);
	alphabet_init(&alphabet);
	ds_gguf_writer_text(w, NULL, KEY "model", spm ? "llama" : "gpt2");
	if (!spm)
		put_pre(w, v, pre);
	r = put_tokens(w, v, &alphabet, n_rows, scratch, err);
	if (r == 0 && spm)
		r = put_scores(w, v, n_rows, err);
	if (r < 0)
		return r;
	if (!spm)
		put_merges(w, v, &alphabet, scratch);
	put_ids(w, v);
	if (spm)
		ds_gguf_writer_bool(w, NULL, KEY "add_space_prefix", v->add_space_prefix);
	return 0;
}

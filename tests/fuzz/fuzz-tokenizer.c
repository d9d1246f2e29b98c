/* fuzz-tokenizer.c - the input is a text, its first byte chooses how it is encoded: bit 0 trusted, bit 1 normalized,
 * bits 2 and 3 the split patterns. Decoding must give the very bytes back, and valid UTF-8 also character by character.
 */
#include "bpe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_BYTES 256
#define N_SETS 4
#define MAX_TOKENS 320

/* Merged from what stands before them: a pair of bytes or tokens, written one after the other with their first size. */
static const struct {
	const char *text;
	size_t left;
} merged[] = {
	{"th", 1},           {"he", 1},   {"in", 1},       {"er", 1},        {"an", 1},           {"the", 2},
	{" t", 1},           {" the", 2}, {"aa", 1},       {"  ", 1},        {"    ", 2},         {"aaaa", 2},
	{"\n\n", 1},         {"11", 1},   {"\xC3\xA9", 1}, {"\xE4\xBD", 1},  {"\xE4\xBD\xA0", 2}, {"\xF0\x9F", 1},
	{"\xF0\x9F\x98", 2}, {"...", 0},  {"\xCC\x81", 1}, {"e\xCC\x81", 1},
};
static const struct ds_token added[] = {
	{"<s>", 3, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
	{"<think>", 7, DS_TOKEN_ADDED},
	{"\xC3\xBC", 2, DS_TOKEN_ADDED},
	{"<s><s>", 6, DS_TOKEN_ADDED},
};
static const char *const patterns[N_SETS][3] = {
	{"\\p{N}{1,3}", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
	 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
	 " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
	{"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
	 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
	 "\\s+(?!\\S)|\\s+"},
	{"[\\r\\n]", "\\s?\\p{P}+", "\\s+$"},
	{"(?<=a)b*", "\\d|$"},
};

static struct ds_token tokens[MAX_TOKENS];
static struct ds_merge merges[MAX_TOKENS];
static char bytes[N_BYTES];

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

static uint32_t find(const struct ds_vocabulary *v, const char *text, size_t n)
{
	for (uint32_t id = 0; id < v->n_tokens; id++)
		if (v->tokens[id].size == n && memcmp(v->tokens[id].text, text, n) == 0)
			return id;
	abort();
}

static void make_vocabulary(struct ds_vocabulary *v)
{
	*v = (struct ds_vocabulary){.tokenizer = "bpe", .tokens = tokens, .merges = merges, .bos = DS_NO_TOKEN};
	for (; v->n_tokens < N_BYTES; v->n_tokens++) {
		bytes[v->n_tokens] = (char)v->n_tokens;
		tokens[v->n_tokens] = (struct ds_token){.text = &bytes[v->n_tokens], .size = 1};
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(merged); i++) {
		const char *text = merged[i].text;
		size_t n = strlen(text), left = merged[i].left;

		if (left > 0)
			merges[v->n_merges++] =
				(struct ds_merge){find(v, text, left), find(v, text + left, n - left), v->n_tokens};
		tokens[v->n_tokens++] = (struct ds_token){.text = text, .size = (uint32_t)n};
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(added); i++)
		tokens[v->n_tokens++] = added[i];
}

static void *open_tokenizer(bool nfc, size_t set)
{
	static struct ds_vocabulary vocabularies[2][N_SETS];
	static void *tokenizers[2][N_SETS];
	struct ds_vocabulary *v = &vocabularies[nfc][set];

	if (tokenizers[nfc][set])
		return tokenizers[nfc][set];
	make_vocabulary(v);
	v->nfc = nfc;
	while (v->n_patterns < DS_ARRAY_SIZE(patterns[set]) && patterns[set][v->n_patterns]) {
		v->patterns[v->n_patterns] = patterns[set][v->n_patterns];
		v->n_patterns++;
	}
	if (ds_bpe_open(&tokenizers[nfc][set], &host, v, NULL) < 0)
		abort();
	return tokenizers[nfc][set];
}

static bool is_valid(const char *text, size_t n)
{
	size_t size;

	for (size_t i = 0; i < n; i += size)
		if (ds_utf8_next(text + i, n - i, &size) != DS_UTF8_CHARACTER)
			return false;
	return true;
}

/* The bytes of the tokens one after the other, and what detokenizing them one by one gives. */
static void check(const struct ds_vocabulary *v, const uint32_t *ids, size_t n_ids, const char *text, size_t n, bool exact)
{
	struct ds_detokenizer state = {.n_pending = 0};
	size_t done = 0, shown = 0, size;
	bool valid = is_valid(text, n);
	char out[64];

	for (size_t i = 0; i < n_ids; i++) {
		const char *token = ds_token_text(v, ids[i], &size);
		size_t written = ds_detokenize(v, &state, ids[i], out);

		if (exact && (size == 0 || size > n - done || memcmp(token, text + done, size) != 0))
			abort();
		if (!is_valid(out, written) || (exact && valid && memcmp(out, text + shown, written) != 0))
			abort();
		done += size;
		shown += written;
	}
	size = ds_detokenize_finish(&state, out);
	if (!is_valid(out, size) || (valid && size > 0) || (exact && done != n))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	uint32_t *ids = NULL;
	size_t n_ids = 0;
	bool nfc;
	struct ds_bpe *self;

	if (size < 1)
		return 0;
	nfc = data[0] & 2;
	self = open_tokenizer(nfc, data[0] >> 2 & (N_SETS - 1));
	if (ds_bpe_encode(self, text, size - 1, data[0] & 1 ? DS_TOKENIZE_SPECIAL : 0, SIZE_MAX, &ids, &n_ids, NULL) < 0)
		abort();
	check(self->vocabulary, ids, n_ids, text, size - 1, !nfc);
	free(ids);
	return 0;
}

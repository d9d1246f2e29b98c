/* fuzz-tokenizer-spm.c - the input is a text, its first byte chooses how it is encoded: bit 0 trusted, bit 1 with a space
 * in front, bit 2 with tokens for bytes, bit 3 with a token that reaches from one word into the next. What the tokens
 * spell must be the text, U+2581 being a space, as must be what cutting at spaces gives and what joining it all at once
 * does: a second tokenizer, whose vocabulary differs in a token that no text can have, never cuts. */
#include "spm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_BYTES 256
#define MAX_TOKENS 400
#define PREFIX 1u
#define BYTES 2u
#define REACHING 4u
#define WHOLE 8u /* never cuts */
#define N_KINDS 16

static const char *const words[] = {
	" ",  "a", "b",  "c",	"e",   "h",	 "t",	    "\n",	    "1",     "th",    "he",	 "the",   " t",	 " th",
	"  ", "    ", "ab", "bc", "abc", "aa", "aaaa", " a", " the", "\xC3\xA9", "\xE4\xBD\xA0", "a\xC3\xA9", "\xF0\x9F\x98\x80", "s>",
};
static const struct ds_token added[] = {
	{"<s>", 3, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
	{"<t>", 3, DS_TOKEN_ADDED},
	{"\xC3\xBC", 2, DS_TOKEN_ADDED},
};

struct vocabulary {
	struct ds_vocabulary v;
	struct ds_token tokens[MAX_TOKENS];
	float scores[MAX_TOKENS];
	void *tokenizer;
};

static char bytes[N_BYTES];

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

static void add(struct vocabulary *to, struct ds_token token)
{
	/* Neither rising nor falling, and some of them equal. */
	to->scores[to->v.n_tokens] = -(float)(to->v.n_tokens * 37 % 11);
	to->tokens[to->v.n_tokens++] = token;
}

static struct vocabulary *get_vocabulary(unsigned kind)
{
	static struct vocabulary all[N_KINDS];
	struct vocabulary *to = &all[kind];

	if (to->tokenizer)
		return to;
	to->v = (struct ds_vocabulary){.tokenizer = "spm", .tokens = to->tokens, .scores = to->scores, .bos = DS_NO_TOKEN};
	to->v.add_space_prefix = kind & PREFIX;
	add(to, (struct ds_token){"<unk>", 5, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED});
	for (unsigned byte = 0; kind & BYTES && byte < N_BYTES; byte++) {
		bytes[byte] = (char)byte;
		add(to, (struct ds_token){&bytes[byte], 1, DS_TOKEN_BYTE});
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(words); i++)
		add(to, (struct ds_token){words[i], (uint32_t)strlen(words[i]), 0});
	for (size_t i = 0; i < DS_ARRAY_SIZE(added); i++)
		add(to, added[i]);
	if (kind & REACHING)
		add(to, (struct ds_token){"a b", 3, 0});
	if (kind & WHOLE)
		add(to, (struct ds_token){"\xFF \xFF", 3, 0});
	if (ds_spm_open(&to->tokenizer, &host, &to->v, NULL) < 0)
		abort();
	return to;
}

/* The tokens of @text one after the other: is it the text? Where a token has another text than what it stands for, which
 * unknown ones and spaces in front do, nothing more can be said. */
static void check_text(const struct vocabulary *to, const uint32_t *ids, size_t n_ids, const char *text, size_t n)
{
	size_t at = 0, size;

	for (size_t i = 0; i < n_ids; i++) {
		const char *token = ds_token_text(&to->v, ids[i], &size);

		for (size_t k = 0; k < size; k++) {
			if (n - at >= 3 && memcmp(text + at, "\xE2\x96\x81", 3) == 0 && token[k] == ' ') {
				at += 3;
				continue;
			}
			if (at == n || text[at++] != token[k])
				abort();
		}
	}
	if (at != n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	uint32_t *ids = NULL, *same = NULL;
	size_t n_ids = 0, n_same = 0;
	unsigned kind, flags;
	struct vocabulary *to;

	if (size < 1)
		return 0;
	kind = data[0] >> 1 & (PREFIX | BYTES | REACHING);
	flags = data[0] & 1 ? DS_TOKENIZE_SPECIAL : 0;
	to = get_vocabulary(kind);
	if (ds_spm_encode(to->tokenizer, text, size - 1, flags, SIZE_MAX, &ids, &n_ids, NULL) < 0 ||
	    ds_spm_encode(get_vocabulary(kind | WHOLE)->tokenizer, text, size - 1, flags, SIZE_MAX, &same, &n_same, NULL) < 0)
		abort();
	if (n_ids != n_same || (n_ids > 0 && memcmp(ids, same, n_ids * sizeof(*ids)) != 0))
		abort();
	if (kind & BYTES && !(kind & PREFIX))
		check_text(to, ids, n_ids, text, size - 1);
	free(ids);
	free(same);
	return 0;
}

/* test-tokenizer-bpe.c - the tokenizer over a vocabulary of all bytes and a few words, small enough to do by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bpe.h"

#include <pthread.h>
#include <utf8proc.h>

#define N_BYTES 256
#define MAX_IDS 64

/* Ids of what follows the 256 bytes, whose ids are the bytes themselves. */
enum {
	AA = N_BYTES,
	AAAA,
	HE,
	LL,
	HELL,
	SPACES,
	SMILE_HEAD, /* the first two bytes of U+1F600 */
	SMILE_TAIL, /* the last two */
	SPECIAL,    /* <s>, flagged special */
	THINK,      /* <think>, added but not special */
	THINKER,    /* <think>er, added: longer than <think>, and no tag */
	LETTER,     /* u with dots, an ordinary letter that was added */
	EMPTY,
	UNUSED,
	N_TOKENS,
};

static struct ds_token tokens[N_TOKENS];
static char bytes[N_BYTES];
static const struct ds_merge merges[] = {
	{'a', 'a', AA}, {AA, AA, AAAA},     {'h', 'e', HE},           {'l', 'l', LL},
	{HE, LL, HELL}, {' ', ' ', SPACES}, {0xF0, 0x9F, SMILE_HEAD}, {0x98, 0x80, SMILE_TAIL},
};
static struct ds_vocabulary vocabulary;

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

static int make_vocabulary(void **state)
{
	static const struct {
		const char *text;
		uint32_t flags;
	} more[] = {{"aa", 0},
		    {"aaaa", 0},
		    {"he", 0},
		    {"ll", 0},
		    {"hell", 0},
		    {"  ", 0},
		    {"\xF0\x9F", 0},
		    {"\x98\x80", 0},
		    {"<s>", DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
		    {"<think>", DS_TOKEN_ADDED},
		    {"<think>er", DS_TOKEN_ADDED},
		    {"\xC3\xBC", DS_TOKEN_ADDED},
		    {"", 0},
		    {"unused", DS_TOKEN_UNUSED | DS_TOKEN_ADDED}};

	for (uint32_t i = 0; i < N_BYTES; i++) {
		bytes[i] = (char)i;
		tokens[i] = (struct ds_token){.text = &bytes[i], .size = 1};
	}
	for (uint32_t i = 0; i < DS_ARRAY_SIZE(more); i++)
		tokens[N_BYTES + i] = (struct ds_token){
			.text = more[i].text, .size = (uint32_t)strlen(more[i].text), .flags = more[i].flags};
	vocabulary = (struct ds_vocabulary){.tokenizer = "bpe",
					    .tokens = tokens,
					    .n_tokens = N_TOKENS,
					    .merges = merges,
					    .n_merges = DS_ARRAY_SIZE(merges),
					    .bos = DS_NO_TOKEN};
	return 0;
}

static void *open_tokenizer(void)
{
	struct ds_error err = {""};
	void *self = NULL;

	if (ds_bpe_open(&self, &host, &vocabulary, &err) < 0)
		fail_msg("%s", err.text);
	return self;
}

static void *open_with(const char *pattern)
{
	vocabulary.patterns[0] = pattern;
	vocabulary.n_patterns = 1;
	return open_tokenizer();
}

/* The vocabulary is as it was before the tokenizer was opened with patterns of its own. */
static void close_tokenizer(void *self)
{
	ds_bpe_close(self);
	vocabulary.n_patterns = 0;
}

static void assert_encoded(void *self, const char *text, size_t n, unsigned flags, const uint32_t *expected,
			   size_t n_expected)
{
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	assert_int_equal(ds_bpe_encode(self, text, n, flags, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(n_ids, n_expected);
	for (size_t i = 0; i < n_ids; i++)
		assert_int_equal(ids[i], expected[i]);
	free(ids);
}

#define assert_ids(self, text, flags, ...)                                                                             \
	do {                                                                                                           \
		const uint32_t expected_[] = {__VA_ARGS__};                                                            \
		assert_encoded(self, text, sizeof(text) - 1, flags, expected_, DS_ARRAY_SIZE(expected_));              \
	} while (0)

/* Decode one id at a time; what comes out each time must be whole characters. */
static size_t decode(void *self, const uint32_t *ids, size_t n_ids, char *out)
{
	struct ds_detokenizer state = {.n_pending = 0};
	size_t n = 0, size;

	for (size_t i = 0; i <= n_ids; i++) {
		size_t written = i < n_ids ? ds_detokenize(&vocabulary, &state, ids[i], out + n)
					   : ds_detokenize_finish(&state, out + n);

		for (size_t k = 0; k < written; k += size)
			assert_int_equal(ds_utf8_next(out + n + k, written - k, &size), DS_UTF8_CHARACTER);
		n += written;
	}
	out[n] = '\0';
	return n;
}

#define assert_text(self, expected, ...)                                                                               \
	do {                                                                                                           \
		const uint32_t ids_[] = {__VA_ARGS__};                                                                 \
		char out_[256];                                                                                        \
		assert_int_equal(decode(self, ids_, DS_ARRAY_SIZE(ids_), out_), sizeof(expected) - 1);                 \
		assert_memory_equal(out_, expected, sizeof(expected) - 1);                                             \
	} while (0)

static void merges_go_by_rank_then_from_the_left(void **state)
{
	void *self = open_tokenizer();

	assert_ids(self, "aaa", 0, AA, 'a');
	assert_ids(self, "aaaaa", 0, AAAA, 'a');
	assert_ids(self, "hello", 0, HELL, 'o');
	assert_ids(self, "hellll", 0, HELL, LL);
	assert_ids(self, "ehell", 0, 'e', HELL);
	assert_encoded(self, "", 0, 0, NULL, 0);
	close_tokenizer(self);
}

static void ids_are_appended_to_what_the_caller_has(void **state)
{
	void *self = open_tokenizer();
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	assert_int_equal(ds_bpe_encode(self, "he", 2, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(ds_bpe_encode(self, "", 0, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(ds_bpe_encode(self, "ll", 2, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(n_ids, 2);
	assert_true(ids[0] == HE && ids[1] == LL);
	free(ids);
	close_tokenizer(self);
}

static void a_pattern_keeps_merges_from_crossing(void **state)
{
	void *self = open_with("\\p{N}");

	assert_ids(self, "aa1aa", 0, AA, '1', AA);
	close_tokenizer(self);
	self = open_with("l");
	assert_ids(self, "hell", 0, HE, 'l', 'l');
	close_tokenizer(self);
}

static void patterns_split_the_pieces_of_the_ones_before(void **state)
{
	void *self;

	vocabulary.patterns[0] = "b";
	vocabulary.patterns[1] = "^a"; /* at the beginning of each piece, not of the text alone */
	vocabulary.n_patterns = 2;
	self = open_tokenizer();
	assert_ids(self, "aaabaaa", 0, 'a', AA, 'b', 'a', AA);
	close_tokenizer(self);
}

static void matches_of_nothing_split_nothing(void **state)
{
	void *self = open_with("b*");

	assert_ids(self, "aaab", 0, AA, 'a', 'b');
	close_tokenizer(self);
}

static void a_piece_that_is_a_token_may_skip_the_merges(void **state)
{
	void *self;

	assert_true(vocabulary.ignore_merges == false);
	vocabulary.n_merges = 0;
	vocabulary.ignore_merges = true;
	self = open_tokenizer();
	assert_ids(self, "hell", 0, HELL);
	assert_ids(self, "hello", 0, 'h', 'e', 'l', 'l', 'o');
	close_tokenizer(self);
	vocabulary.ignore_merges = false;
	self = open_tokenizer();
	assert_ids(self, "hell", 0, 'h', 'e', 'l', 'l');
	assert_ids(self, "hell", 0, 'h', 'e', 'l', 'l');
	close_tokenizer(self);
	vocabulary.n_merges = DS_ARRAY_SIZE(merges);
}

static void trusted_text_matches_added_tokens_longest_first(void **state)
{
	void *self = open_tokenizer();

	assert_ids(self, "<s>", DS_TOKENIZE_SPECIAL, SPECIAL);
	assert_ids(self, "a<think>he<s>", DS_TOKENIZE_SPECIAL, 'a', THINK, HE, SPECIAL);
	assert_ids(self, "<think>er<think>e", DS_TOKENIZE_SPECIAL, THINKER, THINK, 'e');
	assert_ids(self, "<<s><s", DS_TOKENIZE_SPECIAL, '<', SPECIAL, '<', 's');
	assert_ids(self, "\xC3\xBC", DS_TOKENIZE_SPECIAL, LETTER);
	assert_ids(self, "unused", DS_TOKENIZE_SPECIAL, 'u', 'n', 'u', 's', 'e', 'd');
	close_tokenizer(self);
}

static void other_text_never_becomes_markup(void **state)
{
	void *self = open_tokenizer();

	assert_ids(self, "<s>", 0, '<', 's', '>');
	assert_ids(self, "<think>", 0, '<', 't', 'h', 'i', 'n', 'k', '>');
	assert_ids(self,
		   "a\xC3\xBC"
		   "a",
		   0, 'a', LETTER, 'a');
	close_tokenizer(self);
}

static void merges_do_not_lead_to_markup(void **state)
{
	static const struct ds_merge forged[] = {{'s', '>', SPACES}, {'<', SPACES, SPECIAL}};
	void *self;

	vocabulary.merges = forged;
	vocabulary.n_merges = DS_ARRAY_SIZE(forged);
	vocabulary.ignore_merges = true;
	self = open_tokenizer();
	assert_ids(self, "<s>", 0, '<', SPACES);
	assert_ids(self, "<s>", DS_TOKENIZE_SPECIAL, SPECIAL);
	close_tokenizer(self);
	vocabulary.merges = merges;
	vocabulary.n_merges = DS_ARRAY_SIZE(merges);
	vocabulary.ignore_merges = false;
}

static void every_byte_comes_back(void **state)
{
	void *self = open_tokenizer();
	uint32_t *ids = NULL;
	size_t n_ids = 0, size, n = 0;

	assert_int_equal(ds_bpe_encode(self, bytes, N_BYTES, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	for (size_t i = 0; i < n_ids; i++) {
		const char *text = ds_token_text(&vocabulary, ids[i], &size);

		assert_memory_equal(text, bytes + n, size);
		n += size;
	}
	assert_int_equal(n, N_BYTES);
	free(ids);
	close_tokenizer(self);
}

/* Neighbouring bytes that are no character are not merged, even if the vocabulary could. */
static void invalid_bytes_stand_alone(void **state)
{
	void *self = open_with("\\p{L}+");

	assert_ids(self, "\xF0\x9F\x98\x80", 0, SMILE_HEAD, SMILE_TAIL);
	assert_ids(self, "he\xF0\x9Fhe", 0, HE, 0xF0, 0x9F, HE);
	assert_ids(self, "\x98\x80", 0, 0x98, 0x80);
	assert_ids(self, "\xC3", 0, 0xC3);
	assert_ids(self, "\xED\xA0\x80", 0, 0xED, 0xA0, 0x80); /* a surrogate */
	assert_ids(self, "\xC0\xAF\xFF", 0, 0xC0, 0xAF, 0xFF);
	close_tokenizer(self);
}

static void a_byte_without_a_token_is_replaced(void **state)
{
	void *self;
	struct ds_error err;
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	tokens[0xFF].flags = DS_TOKEN_UNUSED;
	self = open_tokenizer();
	assert_ids(self, "a\xFF", 0, 'a', 0xEF, 0xBF, 0xBD);
	close_tokenizer(self);
	tokens[0xEF].flags = DS_TOKEN_UNUSED;
	self = open_tokenizer();
	assert_int_equal(ds_bpe_encode(self, "\xFF", 1, 0, SIZE_MAX, &ids, &n_ids, &err), -EINVAL);
	assert_string_equal(err.text, "the vocabulary has no token for byte 0xff");
	assert_true(!ids && n_ids == 0);
	close_tokenizer(self);
	tokens[0xFF].flags = tokens[0xEF].flags = 0;
}

static void text_is_composed_where_the_vocabulary_asks_for_it(void **state)
{
	void *self = open_tokenizer();

	assert_ids(self, "e\xCC\x81", 0, 'e', 0xCC, 0x81);
	close_tokenizer(self);
	vocabulary.nfc = true;
	self = open_tokenizer();
	assert_ids(self, "e\xCC\x81", 0, 0xC3, 0xA9);
	assert_ids(self,
		   "he\xFF"
		   "e\xCC\x81",
		   0, HE, 0xFF, 0xC3, 0xA9);
	close_tokenizer(self);
	vocabulary.nfc = false;
}

/* Stretches must join as if there were one: compare with utf8proc over the whole text. */
static void long_text_is_composed_like_short_text(void **state)
{
	static const char *const parts[] = {
		"e\xCC\x81",        "word ",        "\xE3\x81\x8B\xE3\x82\x99", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB",
		"\xD0\xB8\xCC\x86", "\xE4\xBD\xA0", "a\xCC\xA3\xCC\x87",        "\xEA\xB0\x80\xE1\x86\xA8"};
	char *text = calloc(1, 100000), *out = NULL;
	size_t n = 0, n_out = 0;
	uint32_t seed = 1;
	utf8proc_uint8_t *expected = NULL;

	while (n < 90000) {
		const char *part = parts[(seed = seed * 1664525 + 1013904223) >> 29];

		memcpy(text + n, part, strlen(part));
		n += strlen(part);
	}
	utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &expected,
		     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	assert_int_equal(ds_bpe_normalize(text, n, &out, &n_out, NULL), 0);
	assert_int_equal(n_out, strlen((char *)expected));
	assert_memory_equal(out, expected, n_out);
	free(out);
	free(expected);
	free(text);
}

static void characters_are_never_cut(void **state)
{
	void *self = open_tokenizer();

	assert_text(self, "\xF0\x9F\x98\x80", SMILE_HEAD, SMILE_TAIL);
	assert_text(self, "\xF0\x9F\x98\x80!", 0xF0, 0x9F, 0x98, 0x80, '!');
	assert_text(self, "\xF0\x9F\x98\x80\xF0\x9F\x98\x80", SMILE_HEAD, 0x98, 0x80, SMILE_HEAD, SMILE_TAIL);
	assert_text(self,
		    "\xC3\xBC"
		    "a<s>",
		    LETTER, 'a', SPECIAL);
	close_tokenizer(self);
}

static void what_is_no_character_is_replaced(void **state)
{
	void *self = open_tokenizer();

	assert_text(self, "\xEF\xBF\xBD", SMILE_HEAD);
	assert_text(self, "\xEF\xBF\xBDhe", SMILE_HEAD, HE);
	assert_text(self, "\xEF\xBF\xBD\xEF\xBF\xBD", SMILE_TAIL);
	assert_text(self, "\xEF\xBF\xBD\xF0\x9F\x98\x80", SMILE_HEAD, SMILE_HEAD, SMILE_TAIL);
	assert_text(self, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0xED, 0xA0, 0x80);
	assert_text(self, "\xEF\xBF\xBD", 0xE2, 0x82);
	close_tokenizer(self);
}

static void ids_without_text_are_silent(void **state)
{
	void *self = open_tokenizer();
	size_t size = 1;

	ds_token_text(&vocabulary, EMPTY, &size);
	assert_int_equal(size, 0);
	size = 1;
	assert_non_null(ds_token_text(&vocabulary, DS_NO_TOKEN, &size));
	assert_int_equal(size, 0);
	assert_text(self, "\xF0\x9F\x98\x80", SMILE_HEAD, EMPTY, N_TOKENS, DS_NO_TOKEN, SMILE_TAIL);
	close_tokenizer(self);
}

/* These must not take time quadratic in the length: they would not come to an end. */
static void a_megabyte_without_a_break_is_no_problem(void **state)
{
	static const char *const units[] = {"a", " ", "hell", "\xF0\x9F\x98\x80", "\xCC\x81\xCC\xA3", "<think", "\xFF"};
	enum { SIZE = 1 << 20 };
	char *text = malloc(SIZE);
	void *self;

	vocabulary.patterns[0] = "\\s+$";
	vocabulary.patterns[1] = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"; /* not a known one */
	vocabulary.n_patterns = 2;
	vocabulary.nfc = true;
	self = open_tokenizer();
	for (size_t i = 0; i < DS_ARRAY_SIZE(units); i++) {
		size_t n_ids = 0, unit = strlen(units[i]);
		uint32_t *ids = NULL;

		for (size_t k = 0; k < SIZE; k++)
			text[k] = units[i][k % unit];
		text[SIZE - 1] = 'x'; /* so that the spaces are not the end */
		assert_int_equal(ds_bpe_encode(self, text, SIZE, DS_TOKENIZE_SPECIAL, SIZE_MAX, &ids, &n_ids, NULL), 0);
		if (i == 0)
			assert_int_equal(n_ids, (SIZE - 1) / 4 + 3); /* the last four letters are three tokens */
		free(ids);
	}
	close_tokenizer(self);
	vocabulary.nfc = false;
	free(text);
}

/* Both ways of merging must agree where either could be used: around the length at which one takes over. */
static void long_pieces_are_merged_like_short_ones(void **state)
{
	void *self = open_tokenizer();
	struct ds_bpe_scratch scratch = {NULL, 0};
	char text[300];
	uint32_t seed = 7;

	for (size_t round = 0; round < 300; round++) {
		uint32_t *ids = NULL, joined[2 * sizeof(text)];
		size_t n_ids = 0, n_joined = 0, n = 60 + round % 200;

		for (size_t i = 0; i < n; i++)
			text[i] = "aahell "[(seed = seed * 1664525 + 1013904223) >> 24 & 7];
		for (size_t i = 0; i < n; i++)
			text[i] = text[i] ? text[i] : 'a';
		assert_int_equal(ds_bpe_encode(self, text, n, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
		/* No merge of this vocabulary joins different letters but within "hell": pieces between other
		 * neighbours can be merged on their own. */
		for (size_t i = 0, begin = 0; i < n; i++) {
			bool joins = i + 1 < n && (text[i] == text[i + 1] || (text[i] == 'h' && text[i + 1] == 'e') ||
						   (text[i] == 'e' && text[i + 1] == 'l'));
			size_t size = i + 1 - begin;

			if (joins && size < 60)
				continue;
			assert_false(joins);
			for (size_t k = 0; k < size; k++)
				joined[n_joined + k] = (uint8_t)text[begin + k];
			assert_int_equal(ds_bpe_merge(self, &scratch, joined + n_joined, &size, NULL), 0);
			n_joined += size;
			begin = i + 1;
		}
		assert_int_equal(n_ids, n_joined);
		assert_memory_equal(ids, joined, n_ids * sizeof(*ids));
		free(ids);
	}
	free(scratch.memory);
	close_tokenizer(self);
}

static void a_pattern_that_cannot_be_compiled_is_refused(void **state)
{
	struct ds_error err;
	void *self = NULL;

	vocabulary.patterns[0] = "a";
	vocabulary.patterns[1] = "(";
	vocabulary.n_patterns = 2;
	assert_int_equal(ds_bpe_open(&self, &host, &vocabulary, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "split pattern 1: missing closing parenthesis: ("));
	assert_null(self);
	vocabulary.n_patterns = 0;
}

static void a_pattern_that_runs_away_is_an_error(void **state)
{
	void *self = open_with("(a+)+$");
	char text[100];
	struct ds_error err = {""};
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = 'b';
	assert_int_equal(ds_bpe_encode(self, text, sizeof(text), 0, SIZE_MAX, &ids, &n_ids, &err), -EINVAL);
	assert_non_null(strstr(err.text, "split pattern 0 gave up on the text"));
	assert_true(!ids && n_ids == 0);
	close_tokenizer(self);
}

static void a_pattern_may_leave_out_the_beginning_of_its_match(void **state)
{
	void *self = open_with("a\\Ka");

	assert_ids(self, "aaa", 0, 'a', 'a', 'a');
	close_tokenizer(self);
}

static void a_merge_outside_the_vocabulary_is_refused(void **state)
{
	static const struct ds_merge bad[] = {{'a', 'a', N_TOKENS}};
	struct ds_error err;
	void *self = NULL;

	vocabulary.merges = bad;
	vocabulary.n_merges = 1;
	assert_int_equal(ds_bpe_open(&self, &host, &vocabulary, &err), -EINVAL);
	assert_string_equal(err.text, "merge 0 has a token outside the vocabulary of 270");
	vocabulary.merges = merges;
	vocabulary.n_merges = DS_ARRAY_SIZE(merges);
}

static void *encode_often(void *self)
{
	for (int i = 0; i < 2000; i++) {
		uint32_t *ids = NULL;
		size_t n_ids = 0;

		if (ds_bpe_encode(self, "hello aaaa hell", 15, 0, SIZE_MAX, &ids, &n_ids, NULL) < 0 || n_ids != 6 ||
		    ids[0] != HELL)
			return "wrong";
		free(ids);
	}
	return NULL;
}

static void a_text_with_too_many_tokens_is_found_out(void **state)
{
	static const char text[] = "hello hello hell";
	void *self = open_tokenizer();
	uint32_t *ids = NULL;
	struct ds_error err;
	size_t n_ids = 0;

	assert_int_equal(ds_bpe_encode(self, text, strlen(text), 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_true(n_ids > 3);
	free(ids);
	for (size_t max = 0; max <= n_ids; max++) {
		size_t n = 0;

		ids = NULL;
		assert_int_equal(ds_bpe_encode(self, text, strlen(text), 0, max, &ids, &n, &err), max < n_ids ? -E2BIG : 0);
		assert_int_equal(n, max < n_ids ? 0 : n_ids);
		free(ids);
	}
	close_tokenizer(self);
}

static void many_threads_share_one_tokenizer(void **state)
{
	void *self = open_with("\\s?\\p{L}+"), *result;
	pthread_t threads[4];

	for (size_t i = 0; i < DS_ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, encode_often, self), 0);
	for (size_t i = 0; i < DS_ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	close_tokenizer(self);
}

/* U+180E was a space before Unicode 6.3, and is one to PCRE2. */
static void white_space_is_what_unicode_says(void **state)
{
	void *self = open_with("\\s");

	assert_ids(self,
		   "a\xE1\xA0\x8E"
		   "a\xE2\x80\x83"
		   "a",
		   0, 'a', 0xE1, 0xA0, 0x8E, 'a', 0xE2, 0x80, 0x83, 'a');
	close_tokenizer(self);
	self = open_with("[^a\\s]+|\\S");
	assert_ids(self,
		   "hell\xC2\x85"
		   "aa",
		   0, HELL, 0xC2, 0x85, 'a', 'a');
	close_tokenizer(self);
}

static void translated_patterns_keep_all_else(void **state)
{
	static const char *const cases[][2] = {
		{"a\\\\s[\\]\\s]\\[\\S", "a\\\\s[\\]\\t-\\r\\x{85}\\p{Z}]\\[[^\\t-\\r\\x{85}\\p{Z}]"},
		{"\\s", "[\\t-\\r\\x{85}\\p{Z}]"},
		{"[\\S]\\", "[\\S]\\"},
		{"", ""},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		char *translated = ds_bpe_translate_pattern(cases[i][0]);

		assert_string_equal(translated, cases[i][1]);
		free(translated);
	}
}

static void known_patterns_are_known_however_line_ends_are_written(void **state)
{
	assert_non_null(ds_bpe_known_pattern("[\r\n]"));
	assert_non_null(ds_bpe_known_pattern("[\\r\\n]"));
	assert_null(ds_bpe_known_pattern("[\\r\\n]+"));
	assert_null(ds_bpe_known_pattern("[\r"));
	assert_null(ds_bpe_known_pattern(""));
}

/* Every two of these bytes merge, so that where a text is split shows in its tokens. */
#define N_PAIRED 25
static const char paired[] = "ab ZL'st1.\n\r\t-\xC3\xA9\xCC\x81\xE4\xBD\xA0\xC2\x85\xC5\xBF";
static const char *const characters[] = {"a", "b",  "Z",  "L",	"s",  "t",  " ",	" ",	    "'",	    "1",
					 ".", "\n", "\r", "\t", "-", "é", "e\xCC\x81", "\xE4\xBD\xA0", "\xC2\x85", "\xC5\xBF"};

static void make_paired(struct ds_vocabulary *v)
{
	static struct ds_token all[N_BYTES + N_PAIRED * N_PAIRED];
	static struct ds_merge pairs[N_PAIRED * N_PAIRED];
	static char texts[N_PAIRED * N_PAIRED][2];

	memcpy(all, tokens, N_BYTES * sizeof(all[0]));
	*v = (struct ds_vocabulary){.tokenizer = "bpe", .tokens = all, .merges = pairs, .bos = DS_NO_TOKEN};
	v->n_tokens = N_BYTES;
	for (size_t i = 0; i < N_PAIRED; i++)
		for (size_t k = 0; k < N_PAIRED; k++) {
			size_t at = i * N_PAIRED + k;

			texts[at][0] = paired[i];
			texts[at][1] = paired[k];
			all[N_BYTES + at] = (struct ds_token){.text = texts[at], .size = 2};
			pairs[v->n_merges++] = (struct ds_merge){(uint8_t)paired[i], (uint8_t)paired[k], v->n_tokens++};
		}
}

static void words_found_without_a_pattern_are_those_that_it_would_find(void **state)
{
	size_t n_known, n_taking = 0;
	const struct ds_bpe_known *known = ds_bpe_known_patterns(&n_known);
	struct ds_vocabulary v;
	uint32_t random = 1;

	make_paired(&v);
	for (size_t i = 0; i < n_known; i++) {
		struct ds_bpe *bpe = NULL;

		v.patterns[0] = known[i].pattern;
		v.n_patterns = 1;
		assert_int_equal(ds_bpe_open((void **)&bpe, &host, &v, NULL), 0);
		n_taking += known[i].takes_words;
		for (int round = 0; known[i].takes_words && round < 3000; round++) {
			uint32_t *ids = NULL, *same = NULL;
			size_t n_ids = 0, n_same = 0, n = 0;
			char text[128];

			for (int k = 0; k < 24; k++) {
				random = random * 1664525u + 1013904223u;
				n = (size_t)(stpcpy(text + n, characters[(random >> 16) % DS_ARRAY_SIZE(characters)]) - text);
			}
			bpe->takes_words[0] = true;
			assert_int_equal(ds_bpe_encode(bpe, text, n, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
			bpe->takes_words[0] = false;
			assert_int_equal(ds_bpe_encode(bpe, text, n, 0, SIZE_MAX, &same, &n_same, NULL), 0);
			assert_int_equal(n_ids, n_same);
			assert_memory_equal(ids, same, n_ids * sizeof(*ids));
			free(ids);
			free(same);
		}
		ds_bpe_close(bpe);
	}
	assert_int_equal(n_taking, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_go_by_rank_then_from_the_left),
		cmocka_unit_test(ids_are_appended_to_what_the_caller_has),
		cmocka_unit_test(a_pattern_keeps_merges_from_crossing),
		cmocka_unit_test(patterns_split_the_pieces_of_the_ones_before),
		cmocka_unit_test(matches_of_nothing_split_nothing),
		cmocka_unit_test(a_piece_that_is_a_token_may_skip_the_merges),
		cmocka_unit_test(trusted_text_matches_added_tokens_longest_first),
		cmocka_unit_test(other_text_never_becomes_markup),
		cmocka_unit_test(merges_do_not_lead_to_markup),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(invalid_bytes_stand_alone),
		cmocka_unit_test(a_byte_without_a_token_is_replaced),
		cmocka_unit_test(text_is_composed_where_the_vocabulary_asks_for_it),
		cmocka_unit_test(long_text_is_composed_like_short_text),
		cmocka_unit_test(characters_are_never_cut),
		cmocka_unit_test(what_is_no_character_is_replaced),
		cmocka_unit_test(ids_without_text_are_silent),
		cmocka_unit_test(a_megabyte_without_a_break_is_no_problem),
		cmocka_unit_test(long_pieces_are_merged_like_short_ones),
		cmocka_unit_test(a_pattern_that_cannot_be_compiled_is_refused),
		cmocka_unit_test(a_pattern_that_runs_away_is_an_error),
		cmocka_unit_test(a_pattern_may_leave_out_the_beginning_of_its_match),
		cmocka_unit_test(a_merge_outside_the_vocabulary_is_refused),
		cmocka_unit_test(a_text_with_too_many_tokens_is_found_out),
		cmocka_unit_test(many_threads_share_one_tokenizer),
		cmocka_unit_test(white_space_is_what_unicode_says),
		cmocka_unit_test(translated_patterns_keep_all_else),
		cmocka_unit_test(words_found_without_a_pattern_are_those_that_it_would_find),
		cmocka_unit_test(known_patterns_are_known_however_line_ends_are_written),
	};

	return cmocka_run_group_tests(tests, make_vocabulary, NULL);
}

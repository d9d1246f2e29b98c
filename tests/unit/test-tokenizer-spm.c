/* test-tokenizer-spm.c - SentencePiece's BPE against an encoder written the slow way, and what a vocabulary must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spm.h"

#include <math.h>

enum { UNKNOWN, BOS, BYTE_E, BYTE_9, SPACE, A, B, C, SPACE_A, AB, ABC, SPACES, AA, B_A, N_TOKENS };

static const struct ds_token all_tokens[N_TOKENS] = {
	[UNKNOWN] = {"<unk>", 5, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
	[BOS] = {"<s>", 3, DS_TOKEN_SPECIAL | DS_TOKEN_ADDED},
	[BYTE_E] = {"\xC3", 1, DS_TOKEN_BYTE},
	[BYTE_9] = {"\xA9", 1, DS_TOKEN_BYTE},
	[SPACE] = {" ", 1, 0},
	[A] = {"a", 1, 0},
	[B] = {"b", 1, 0},
	[C] = {"c", 1, 0},
	[SPACE_A] = {" a", 2, 0},
	[AB] = {"ab", 2, 0},
	[ABC] = {"abc", 3, 0},
	[SPACES] = {"  ", 2, 0},
	[AA] = {"aa", 2, 0},
	[B_A] = {"b a", 3, DS_TOKEN_UNUSED}, /* a test makes it one that is used */
};

static struct ds_token tokens[N_TOKENS];
static float scores[N_TOKENS];
static struct ds_vocabulary vocabulary;

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

static int make_vocabulary(void **state)
{
	memcpy(tokens, all_tokens, sizeof(tokens));
	for (uint32_t id = 0; id < N_TOKENS; id++)
		scores[id] = -(float)id;
	vocabulary = (struct ds_vocabulary){.tokenizer = "spm",
					    .tokens = tokens,
					    .n_tokens = N_TOKENS,
					    .scores = scores,
					    .unknown = UNKNOWN,
					    .bos = BOS};
	return 0;
}

static void *open_tokenizer(void)
{
	struct ds_error err = {""};
	void *self = NULL;

	if (ds_spm_open(&self, &host, &vocabulary, &err) < 0)
		fail_msg("%s", err.text);
	return self;
}

static void assert_encoded(const char *text, size_t n, unsigned flags, const uint32_t *expected, size_t n_expected)
{
	void *self = open_tokenizer();
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	assert_int_equal(ds_spm_encode(self, text, n, flags, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(n_ids, n_expected);
	for (size_t i = 0; i < n_ids; i++)
		assert_int_equal(ids[i], expected[i]);
	free(ids);
	ds_spm_close(self);
}

#define assert_ids(text, flags, ...)                                                                                   \
	do {                                                                                                           \
		const uint32_t expected_[] = {__VA_ARGS__};                                                            \
		assert_encoded(text, sizeof(text) - 1, flags, expected_, DS_ARRAY_SIZE(expected_));                    \
	} while (0)

static void the_highest_score_is_joined_first(void **state)
{
	assert_ids("abc", 0, ABC);
	assert_ids(" ab", 0, SPACE_A, B);
	assert_ids("aab", 0, A, AB);
	scores[AA] = 0;
	assert_ids("aab", 0, AA, B);
	assert_ids("aaa", 0, AA, A);
}

static void a_space_comes_in_front_only_where_the_vocabulary_says_so(void **state)
{
	assert_ids("a", 0, A);
	vocabulary.add_space_prefix = true;
	assert_ids("a", 0, SPACE_A);
	assert_ids("<s>a", DS_TOKENIZE_SPECIAL, BOS, SPACE_A);
	assert_encoded("", 0, 0, NULL, 0);
}

static void the_sign_of_a_space_is_a_space(void **state)
{
	assert_ids("b\xE2\x96\x81" "a", 0, B, SPACE_A);
	assert_ids("\xE2\x96\x81 ", 0, SPACES);
}

static void what_no_token_spells_becomes_bytes_or_unknown(void **state)
{
	assert_ids("\xC3\xA9", 0, BYTE_E, BYTE_9);
	assert_ids("a\xC3z", 0, A, BYTE_E, UNKNOWN);
	assert_ids("xyz\xC3\xA9xa", 0, UNKNOWN, BYTE_E, BYTE_9, UNKNOWN, A);
}

static void without_an_unknown_token_the_text_is_refused_by_what_it_has(void **state)
{
	struct ds_error err = {""};
	uint32_t *ids = NULL;
	size_t n_ids = 0;
	void *self;

	vocabulary.unknown = DS_NO_TOKEN;
	self = open_tokenizer();
	assert_int_equal(ds_spm_encode(self, "ax", 2, 0, SIZE_MAX, &ids, &n_ids, &err), -EINVAL);
	assert_string_equal(err.text, "the vocabulary has no token for \"x\", and none for the unknown");
	ds_spm_close(self);
}

static void markup_is_none_in_text_that_nobody_vouches_for(void **state)
{
	assert_ids("<s>", DS_TOKENIZE_SPECIAL, BOS);
	assert_ids("a<s>", 0, A, UNKNOWN);
}

static void a_token_may_reach_from_one_word_into_the_next(void **state)
{
	assert_ids("b a", 0, B, SPACE_A);
	tokens[B_A].flags = 0;
	scores[B_A] = 1;
	assert_ids("b a", 0, B_A);
	assert_ids("ab a", 0, A, B_A);
}

/* Also where text is cut at spaces, which a space that is no token could be the end of. */
static void a_run_of_the_unknown_is_one_token(void **state)
{
	tokens[SPACE].flags = DS_TOKEN_UNUSED;
	assert_ids("xy z  a", 0, UNKNOWN, SPACE_A);
	assert_ids("x x a x", 0, UNKNOWN, SPACE_A, UNKNOWN);
}

/* The definition: look through all neighbours each time. */
static size_t encode_slowly(const char *text, size_t n, uint32_t *ids)
{
	size_t begins[256], n_symbols = n;

	for (size_t i = 0; i <= n; i++)
		begins[i] = i;
	for (;;) {
		size_t best = SIZE_MAX;
		float score = 0;

		for (size_t i = 0; i + 1 < n_symbols; i++)
			for (uint32_t id = SPACE; id < N_TOKENS; id++)
				if (!tokens[id].flags && tokens[id].size == begins[i + 2] - begins[i] &&
				    memcmp(tokens[id].text, text + begins[i], tokens[id].size) == 0 &&
				    (best == SIZE_MAX || scores[id] > score)) {
					best = i;
					score = scores[id];
				}
		if (best == SIZE_MAX)
			break;
		n_symbols--;
		memmove(&begins[best + 1], &begins[best + 2], (n_symbols - best) * sizeof(begins[0]));
	}
	for (size_t i = 0; i < n_symbols; i++)
		for (uint32_t id = SPACE; id < N_TOKENS; id++)
			if (!tokens[id].flags && tokens[id].size == begins[i + 1] - begins[i] &&
			    memcmp(tokens[id].text, text + begins[i], tokens[id].size) == 0)
				ids[i] = id;
	return n_symbols;
}

static void random_texts_are_encoded_as_by_the_definition(void **state)
{
	uint32_t random = 1, expected[256];
	char text[64];

	for (int round = 0; round < 2000; round++) {
		size_t n = 1 + (random >> 8) % sizeof(text);

		tokens[B_A].flags = round % 2 ? 0 : DS_TOKEN_UNUSED;
		for (uint32_t id = SPACE; id < N_TOKENS; id++)
			scores[id] = (float)((random = random * 1664525u + 1013904223u) >> 29);
		for (size_t i = 0; i < n; i++)
			text[i] = "aabc  "[((random = random * 1664525u + 1013904223u) >> 16) % 6];
		assert_encoded(text, n, 0, expected, encode_slowly(text, n, expected));
	}
}

static void a_megabyte_without_a_space_is_encoded(void **state)
{
	const size_t n = 1u << 20;
	char *text = malloc(n);
	void *self = open_tokenizer();
	uint32_t *ids = NULL;
	size_t n_ids = 0;

	memset(text, 'a', n);
	assert_int_equal(ds_spm_encode(self, text, n, 0, SIZE_MAX, &ids, &n_ids, NULL), 0);
	assert_int_equal(n_ids, n / 2);
	assert_int_equal(ds_spm_encode(self, text, n, 0, 1000, &ids, &n_ids, NULL), -E2BIG);
	free(ids);
	free(text);
	ds_spm_close(self);
}

static void assert_refused(const char *sentence)
{
	struct ds_error err = {""};
	void *self = NULL;

	assert_int_equal(ds_spm_open(&self, &host, &vocabulary, &err), -EINVAL);
	assert_null(self);
	assert_string_equal(err.text, sentence);
}

static void a_vocabulary_without_scores_is_refused(void **state)
{
	vocabulary.scores = NULL;
	assert_refused("the vocabulary has no scores");
}

static void a_score_that_is_no_number_is_refused(void **state)
{
	scores[AB] = NAN;
	assert_refused("the score of token 9 is not a number");
}

static void a_byte_of_two_bytes_is_refused(void **state)
{
	tokens[AB].flags = DS_TOKEN_BYTE;
	assert_refused("token 9 stands for a byte, but has 2 of them");
}

static void an_unknown_token_outside_the_vocabulary_is_refused(void **state)
{
	vocabulary.unknown = N_TOKENS;
	assert_refused("the unknown token, 14, is not in the vocabulary of 14");
}

#define TEST(function) cmocka_unit_test_setup(function, make_vocabulary)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_highest_score_is_joined_first),
		TEST(a_space_comes_in_front_only_where_the_vocabulary_says_so),
		TEST(the_sign_of_a_space_is_a_space),
		TEST(what_no_token_spells_becomes_bytes_or_unknown),
		TEST(without_an_unknown_token_the_text_is_refused_by_what_it_has),
		TEST(markup_is_none_in_text_that_nobody_vouches_for),
		TEST(a_token_may_reach_from_one_word_into_the_next),
		TEST(a_run_of_the_unknown_is_one_token),
		TEST(random_texts_are_encoded_as_by_the_definition),
		TEST(a_megabyte_without_a_space_is_encoded),
		TEST(a_vocabulary_without_scores_is_refused),
		TEST(a_score_that_is_no_number_is_refused),
		TEST(a_byte_of_two_bytes_is_refused),
		TEST(an_unknown_token_outside_the_vocabulary_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

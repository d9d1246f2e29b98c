/* test-options.c - the options of a command line, and the word that was probably meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/options.h"

#include <string.h>

struct values {
	bool loud;
	const char *name;
	struct ds_number heat, count;
};

static const struct ds_flag flags[] = {
	{"loud", 'l', DS_FLAG_BOOL, offsetof(struct values, loud), NULL, ""},
	{"name", 'n', DS_FLAG_TEXT, offsetof(struct values, name), "NAME", ""},
	{"heat", 0, DS_FLAG_NUMBER, offsetof(struct values, heat), "X", ""},
	{"count", 'c', DS_FLAG_COUNT, offsetof(struct values, count), "N", ""},
	{0},
};

static char *words[16]; /* what remains */

/* Take the options out of @line, whose words are separated by one space. */
static int take(const char *line, bool leading, struct values *values, struct ds_error *err)
{
	static char text[256];
	struct ds_option_set set = {flags, values};
	size_t n = 0;

	snprintf(text, sizeof(text), "%s", line);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		words[n++] = word;
	words[n] = NULL;
	return ds_options_take(&set, 1, words, leading, err);
}

static void every_spelling_of_an_option_is_taken(void **state)
{
	struct values v = {0};

	assert_int_equal(take("-l --name=a --heat 0.5 -c3", false, &v, NULL), 0);
	assert_true(v.loud && v.heat.given && v.count.given);
	assert_string_equal(v.name, "a");
	assert_true(v.heat.value == 0.5 && v.count.value == 3);
	assert_null(words[0]);
}

static void options_may_stand_anywhere_and_words_keep_their_order(void **state)
{
	struct values v = {0};

	assert_int_equal(take("one -n x two --loud three", false, &v, NULL), 0);
	assert_string_equal(words[0], "one");
	assert_string_equal(words[1], "two");
	assert_string_equal(words[2], "three");
	assert_null(words[3]);
}

static void after_two_dashes_everything_is_a_word(void **state)
{
	struct values v = {0};

	assert_int_equal(take("-l -- -n --loud", false, &v, NULL), 0);
	assert_string_equal(words[0], "-n");
	assert_string_equal(words[1], "--loud");
	assert_null(v.name);
}

static void leading_options_end_at_the_first_word(void **state)
{
	struct values v = {0};

	assert_int_equal(take("-l verb --heat hot", true, &v, NULL), 0);
	assert_string_equal(words[0], "verb");
	assert_string_equal(words[1], "--heat");
}

static void a_lone_dash_is_a_word(void **state)
{
	struct values v = {0};

	assert_int_equal(take("- -l", false, &v, NULL), 0);
	assert_string_equal(words[0], "-");
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *line, *sentence;
	} cases[] = {
		{"--lout", "unknown option --lout; did you mean --loud?"},
		{"-x", "unknown option -x; after -- words may begin with a dash"},
		{"-5", "unknown option -5; after -- words may begin with a dash"},
		{"-lx", "unknown option -lx; after -- words may begin with a dash"},
		{"--loud=yes", "--loud takes no value"},
		{"--name", "--name: NAME is missing"},
		{"--heat warm", "--heat: warm is not a number"},
		{"--heat nan", "--heat: nan is not a number"},
		{"--count -1", "--count: -1 is not a whole number of 0 or more"},
		{"--count 1.5", "--count: 1.5 is not a whole number of 0 or more"},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct ds_error err = {0};
		struct values v = {0};

		assert_int_equal(take(cases[i].line, false, &v, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].sentence);
	}
}

static void the_nearest_name_is_found_if_it_is_near(void **state)
{
	static const char *const names[] = {"status", "ls", "load", "unload"};

	assert_string_equal(ds_options_nearest("stauts", names, 4), "status");
	assert_string_equal(ds_options_nearest("lod", names, 4), "load");
	assert_string_equal(ds_options_nearest("unlaod", names, 4), "unload");
	assert_null(ds_options_nearest("conversation", names, 4));
	assert_null(ds_options_nearest("x", names, 4));
	assert_null(ds_options_nearest("a-word-that-is-longer-than-any-verb-will-ever-be", names, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_spelling_of_an_option_is_taken),
		cmocka_unit_test(options_may_stand_anywhere_and_words_keep_their_order),
		cmocka_unit_test(after_two_dashes_everything_is_a_word),
		cmocka_unit_test(leading_options_end_at_the_first_word),
		cmocka_unit_test(a_lone_dash_is_a_word),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(the_nearest_name_is_found_if_it_is_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

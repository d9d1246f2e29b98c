/* test-stops.c - stop strings, in every way a text can be cut. */
#include "stops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct written {
	char text[256];
	size_t size;
};

static size_t character_size(char lead)
{
	return (uint8_t)lead < 0xc0 ? 1 : (uint8_t)lead < 0xe0 ? 2 : (uint8_t)lead < 0xf0 ? 3 : 4;
}

static void on_write(void *self, const char *text, size_t size)
{
	struct written *w = self;

	assert_true(size > 0);
	for (size_t i = 0; i < size; i += character_size(text[i])) {
		assert_int_not_equal((uint8_t)text[i] & 0xc0, 0x80);
		assert_true(i + character_size(text[i]) <= size); /* no character is cut */
	}
	memcpy(w->text + w->size, text, size);
	w->size += size;
}

/* Feed @text in pieces of @n characters. */
static bool feed(struct ds_stops *stops, const char *text, size_t n, struct written *w)
{
	bool met = false;

	while (*text && !met) {
		size_t size = 0;

		for (size_t i = 0; i < n && text[size]; i++)
			size += character_size(text[size]);
		met = ds_stops_feed(stops, text, size, on_write, w);
		text += size;
	}
	return met;
}

static void check(const char *const *list, size_t n_list, const char *text, const char *want, bool want_met)
{
	for (size_t n = 1; n <= strlen(text); n++) {
		struct ds_stops *stops;
		struct written w = {.size = 0};
		bool met;

		assert_int_equal(ds_stops_new(&stops, list, n_list, NULL), 0);
		met = feed(stops, text, n, &w);
		ds_stops_finish(stops, on_write, &w);
		w.text[w.size] = '\0';
		assert_string_equal(w.text, want);
		assert_int_equal(met, want_met);
		ds_stops_free(stops);
	}
}

#define CHECK(text, want, met, ...)                                                                  \
	do {                                                                                         \
		const char *const list[] = {__VA_ARGS__};                                            \
		check(list, DS_ARRAY_SIZE(list), text, want, met);                                   \
	} while (0)

static void a_stop_string_and_all_after_it_is_dropped(void **state)
{
	CHECK("one two three", "one ", true, "two");
	CHECK("END", "", true, "END");
	CHECK("abababc", "ab", true, "ababc");
}

static void what_only_looked_like_a_stop_string_is_handed_over(void **state)
{
	CHECK("one tw", "one tw", false, "two");
	CHECK("ttttwo", "ttt", true, "two");
	CHECK("twtwtw", "twtwtw", false, "two");
}

static void among_several_the_one_that_ends_first_wins(void **state)
{
	CHECK("say abc", "say ", true, "abc", "ab");
	CHECK("say abc", "say ", true, "ab", "abc");
	CHECK("xabxz", "xa", true, "abxy", "b");
}

static void among_those_that_end_together_the_longest_wins(void **state)
{
	CHECK("xaby", "x", true, "b", "ab");
}

static void characters_are_never_cut(void **state)
{
	CHECK("a\u20ac\u20ab\u2100b", "a\u20ac\u20ab\u2100b", false, "\u20ac!");
	CHECK("\u00e9\u00e8\u00e9a", "\u00e9\u00e8", true, "\u00e9a");
	CHECK("\U0001f600\U0001f601\U0001f602", "\U0001f600", true, "\U0001f601");
}

static void without_stop_strings_all_text_passes(void **state)
{
	struct ds_stops *stops;
	struct written w = {.size = 0};

	assert_int_equal(ds_stops_new(&stops, NULL, 0, NULL), 0);
	assert_false(ds_stops_feed(stops, "hello", 5, on_write, &w));
	assert_int_equal(w.size, 5);
	ds_stops_free(stops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stop_string_and_all_after_it_is_dropped),
		cmocka_unit_test(what_only_looked_like_a_stop_string_is_handed_over),
		cmocka_unit_test(among_several_the_one_that_ends_first_wins),
		cmocka_unit_test(among_those_that_end_together_the_longest_wins),
		cmocka_unit_test(characters_are_never_cut),
		cmocka_unit_test(without_stop_strings_all_text_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

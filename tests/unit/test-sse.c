/* test-sse.c - server-sent events, however their bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/sse.h"

#include <string.h>

/* The events seen, each followed by '|'. */
struct seen {
	char text[512];
	size_t size;
	int answer;
};

static int on_event(void *self, const char *data, size_t size, struct ds_error *err)
{
	struct seen *seen = self;

	assert_int_equal(strlen(data), size);
	assert_true(seen->size + size + 2 <= sizeof(seen->text));
	memcpy(seen->text + seen->size, data, size);
	seen->size += size;
	seen->text[seen->size++] = '|';
	seen->text[seen->size] = '\0';
	return seen->answer;
}

/* Feed @stream in pieces of @piece bytes and expect @wanted. */
static void expect_in_pieces(const char *stream, size_t piece, const char *wanted)
{
	ds_cleanup(ds_sse_deinit) struct ds_sse sse = {0};
	struct seen seen = {0};
	size_t size = strlen(stream);

	for (size_t i = 0; i < size; i += piece)
		assert_int_equal(
			ds_sse_feed(&sse, stream + i, size - i < piece ? size - i : piece, on_event, &seen, NULL), 0);
	assert_string_equal(seen.text, wanted);
}

static void expect(const char *stream, const char *wanted)
{
	for (size_t piece = 1; piece <= strlen(stream); piece++)
		expect_in_pieces(stream, piece, wanted);
}

static void events_arrive_whole_however_the_stream_is_cut(void **state)
{
	expect("data: {\"a\": 1}\n\ndata: [DONE]\n\n", "{\"a\": 1}|[DONE]|");
}

static void all_three_line_ends_are_line_ends(void **state)
{
	expect("data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n", "a|b|c|d|");
}

static void comments_and_other_fields_are_skipped(void **state)
{
	expect(": keep-alive\n\nevent: x\nid: 7\nretry: 9\n\n: again\ndata: a\ndatas: no\n\n", "a|");
}

static void data_lines_of_one_event_are_joined(void **state)
{
	expect("data: a\ndata:b\ndata\ndata:  c\n\n", "a\nb\n\n c|");
}

static void an_event_that_is_not_ended_is_not_delivered(void **state)
{
	expect("data: a\n\ndata: b\n", "a|");
}

static void a_byte_order_mark_is_no_part_of_the_first_line(void **state)
{
	expect("\xef\xbb\xbf"
	       "data: a\n\n",
	       "a|");
	expect("data: a\n\n\xef\xbb\xbf"
	       "data: b\n\n",
	       "a|");
}

static void an_error_of_the_reader_ends_the_feeding(void **state)
{
	ds_cleanup(ds_sse_deinit) struct ds_sse sse = {0};
	struct seen seen = {.answer = -EPROTO};
	const char stream[] = "data: a\n\ndata: b\n\n";

	assert_int_equal(ds_sse_feed(&sse, stream, strlen(stream), on_event, &seen, NULL), -EPROTO);
	assert_string_equal(seen.text, "a|");
}

static void an_endless_line_is_refused(void **state)
{
	ds_cleanup(ds_sse_deinit) struct ds_sse sse = {0};
	struct seen seen = {0};
	char block[4096];
	size_t total = 0;
	int r = 0;

	memset(block, 'x', sizeof(block));
	for (; r == 0 && total <= DS_SSE_MAX; total += sizeof(block))
		r = ds_sse_feed(&sse, block, sizeof(block), on_event, &seen, NULL);
	assert_int_equal(r, -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_arrive_whole_however_the_stream_is_cut),
		cmocka_unit_test(all_three_line_ends_are_line_ends),
		cmocka_unit_test(comments_and_other_fields_are_skipped),
		cmocka_unit_test(data_lines_of_one_event_are_joined),
		cmocka_unit_test(an_event_that_is_not_ended_is_not_delivered),
		cmocka_unit_test(a_byte_order_mark_is_no_part_of_the_first_line),
		cmocka_unit_test(an_error_of_the_reader_ends_the_feeding),
		cmocka_unit_test(an_endless_line_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

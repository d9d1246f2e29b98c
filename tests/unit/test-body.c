/* test-body.c - JSON in slices is the same JSON: jansson at once is the definition of right. */
#include "../../daemon/http/body.h"

#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LARGE (300u << 10) /* about ten slices */

static struct event_base *base;
static struct ds_jobs *jobs;

static int set_up(void **state)
{
	struct ds_error err;

	base = event_base_new();
	return base ? ds_jobs_new(&jobs, base, &err) : -1;
}

static int tear_down(void **state)
{
	jobs = ds_jobs_free(jobs);
	event_base_free(base);
	return 0;
}

struct result {
	struct ds_body *work;
	bool called;
	json_t *json;
	int problem;
	struct ds_error err;
	char *text;
	size_t text_size;
	size_t *order; /* counts the results, and is noted in place */
	size_t place;
};

static void on_read(void *arg, json_t *json, int problem, const struct ds_error *err)
{
	struct result *r = arg;

	assert_null(r->work);
	assert_false(r->called);
	r->called = true;
	r->json = json;
	r->problem = problem;
	r->err = *err;
	r->place = r->order ? ++*r->order : 0;
}

static void on_written(void *arg, char *text, size_t text_size)
{
	struct result *r = arg;

	assert_null(r->work);
	r->called = true;
	r->text = text;
	r->text_size = text_size;
}

static struct evbuffer *buffer_of(const char *text, size_t size)
{
	struct evbuffer *buffer = evbuffer_new();

	evbuffer_add(buffer, text, size);
	return buffer;
}

/* @text behind @n_spaces, as the broker reads it. */
static struct result read_it(const char *text, size_t size, size_t n_spaces)
{
	char *spaces = malloc(n_spaces + 1);
	struct evbuffer *input = evbuffer_new();
	struct result r = {.called = false};

	memset(spaces, ' ', n_spaces);
	evbuffer_add(input, spaces, n_spaces);
	evbuffer_add(input, text, size);
	ds_body_read(&r.work, jobs, input, on_read, &r);
	assert_true(r.called == (n_spaces + size <= 32u << 10));
	event_base_dispatch(base);
	assert_true(r.called);
	evbuffer_free(input);
	free(spaces);
	return r;
}

static char *large(const char *start, const char *repeated, const char *end)
{
	size_t n = strlen(repeated), size = strlen(start);
	char *text = malloc(LARGE + n + strlen(start) + strlen(end) + 1);

	strcpy(text, start);
	for (; size < LARGE; size += n)
		memcpy(text + size, repeated, n);
	strcpy(text + size, end);
	return text;
}

static const struct {
	const char *start, *repeated, *end;
} texts[] = {
	/* right */
	{"{}", NULL, NULL},
	{"{\"a\": \"\\u00e9\\ud83d\\ude00\\n\\\\\\\"\\/ \xc3\xa9\", \"b\": [1, -2, 3.25e-7, 1e22, true, false, null]}",
	 NULL, NULL},
	{"{\"a\": \"", "text ", "\"}"},
	{"{\"a\": \"", "\xf0\x9f\x98\x80", "\"}"},
	{"{\"a\": \"", "\\ud83d\\ude00", "\"}"},
	{"{\"a\": \"", "\\n\\t\\u0001\\\"\x7f", "\"}"},
	{"{\"", "key ", "\": 1}"},
	{"{\"a\": [0", ", 1234567", "]}"},
	{"{\"a\": [{}", ", {\"b\": [[]], \"text\": \"some text that costs nothing\"}", "]}"},
	{"{\"a\": 1.", "3", "}"},
	/* wrong */
	{"", NULL, NULL},
	{"{", NULL, NULL},
	{"nonsense", NULL, NULL},
	{"{} {}", NULL, NULL},
	{"{\"a\": 1, \"a\": 2}", NULL, NULL},
	{"{\"a\": \"\\u0000\"}", NULL, NULL},
	{"{\"a\\u0000\": 1}", NULL, NULL},
	{"{\"a\": \"\\ud800\"}", NULL, NULL},
	{"{\"a\": \"\\udc00\\ud800\"}", NULL, NULL},
	{"{\"a\": \"\xff\"}", NULL, NULL},
	{"{\"a\": \"\xc0\x80\"}", NULL, NULL},
	{"{\"a\": \"\xed\xa0\x80\"}", NULL, NULL},
	{"{\"a\": \"\n\"}", NULL, NULL},
	{"{\"a\": 01}", NULL, NULL},
	{"{\"a\": 1e999}", NULL, NULL},
	{"{\"a\": 9223372036854775808}", NULL, NULL},
	{"{'a': 1}", NULL, NULL},
	{"{\"a\": [1,]}", NULL, NULL},
	{"{\"a\": \"", "text\xc3\xa9 ", "\xc3\"}"},
	{"{\"a\": \"", "text ", ""},
	{"{\"a\": [", "1,\n", "x]}"},
	{"{\"a\": ", "1", "}"},
};

static void what_is_read_in_slices_is_what_is_read_at_once(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(texts); i++)
		for (size_t n_spaces = 0; n_spaces <= 100000; n_spaces += 50000) {
			char *text = texts[i].repeated ? large(texts[i].start, texts[i].repeated, texts[i].end)
						       : strdup(texts[i].start);
			struct result r = read_it(text, strlen(text), n_spaces);
			json_error_t error;
			json_t *want = json_loads(text, JSON_REJECT_DUPLICATES, &error);
			char sentence[256];

			assert_true(!want == !r.json);
			assert_true(!want || json_equal(want, r.json));
			assert_int_equal(r.problem, want ? 0 : -EINVAL);
			if (!want && n_spaces == 0 && json_error_code(&error) != json_error_null_character) {
				snprintf(sentence, sizeof(sentence),
					 "the body is not valid JSON: %s (line %d, column %d)", error.text, error.line,
					 error.column);
				assert_string_equal(r.err.text, sentence);
			}
			json_decref(want);
			json_decref(r.json);
			free(text);
		}
}

static void bytes_of_zero_are_refused(void **state)
{
	struct result r = read_it("{\"a\": \"x\0y\"}", 12, 0);

	assert_int_equal(r.problem, -EINVAL);
	r = read_it("{}\0", 3, 100000);
	assert_int_equal(r.problem, -EINVAL);
}

static char *nested(size_t depth)
{
	char *text = malloc(2 * depth + 16);

	strcpy(text, "{\"a\":");
	memset(text + 5, '[', depth);
	memset(text + 5 + depth, ']', depth);
	strcpy(text + 5 + 2 * depth, "}");
	return text;
}

static void nesting_has_a_limit_in_slices_too(void **state)
{
	char *deep = nested(2047), *too_deep = nested(2048);
	struct result r = read_it(deep, strlen(deep), 100000), written = {.called = false};

	assert_int_equal(r.problem, 0);
	ds_body_write(&written.work, jobs, r.json, LARGE, 0, on_written, &written);
	event_base_dispatch(base);
	assert_int_equal(written.text_size, strlen(deep));
	assert_memory_equal(written.text, deep, strlen(deep));
	free(written.text);
	r = read_it(too_deep, strlen(too_deep), 100000);
	assert_int_equal(r.problem, -EINVAL);
	free(deep);
	free(too_deep);
}

/* @n values of @kind: 'n'umbers, 'l'ists, 'k'eys. */
static char *many(char kind, size_t n)
{
	char *text = malloc(16 * n + 32), *p = text + sprintf(text, "{\"a\":%c", kind == 'k' ? '{' : '[');

	for (size_t i = 0; i < n; i++)
		p += kind == 'k'   ? sprintf(p, "%s\"%zx\":0", i ? "," : "", i)
		     : kind == 'l' ? sprintf(p, "%s[]", i ? "," : "")
				   : sprintf(p, "%s0", i ? "," : "");
	sprintf(p, "%c}", kind == 'k' ? '}' : ']');
	return text;
}

static void more_values_than_memory_should_hold_are_refused(void **state)
{
	static const struct {
		char kind;
		size_t n_enough, n_too_many;
	} kinds[] = {{'n', 262000, 262144}, {'l', 52000, 53000}, {'k', 32700, 32768}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(kinds); i++) {
		char *enough = many(kinds[i].kind, kinds[i].n_enough);
		char *too_many = many(kinds[i].kind, kinds[i].n_too_many);
		struct result r = read_it(enough, strlen(enough), 0);

		assert_int_equal(r.problem, 0);
		json_decref(r.json);
		r = read_it(too_many, strlen(too_many), 0);
		assert_int_equal(r.problem, -E2BIG);
		assert_null(r.json);
		free(enough);
		free(too_many);
	}
}

static void a_list_is_no_body(void **state)
{
	struct result r = read_it("[]", 2, 0);

	assert_int_equal(r.problem, -EINVAL);
	assert_string_equal(r.err.text, "the body must be a JSON object");
}

static void what_is_written_is_what_jansson_writes(void **state)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(texts); i++)
		for (int in_slices = 0; in_slices < 2; in_slices++) {
			char *text = texts[i].repeated ? large(texts[i].start, texts[i].repeated, texts[i].end)
						       : strdup(texts[i].start);
			json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
			struct result r = {.called = false};
			char *want = json ? json_dumps(json, JSON_COMPACT) : NULL;

			free(text);
			if (!json)
				continue;
			ds_body_write(&r.work, jobs, json, in_slices ? LARGE : 0, 0, on_written, &r);
			assert_true(r.called == !in_slices);
			event_base_dispatch(base);
			assert_true(r.called);
			assert_int_equal(r.text_size, strlen(want));
			assert_memory_equal(r.text, want, r.text_size);
			free(r.text);
			free(want);
		}
}

static void count_turn(evutil_socket_t fd, short what, void *arg)
{
	++*(size_t *)arg;
}

/* Somebody whose socket is always readable is heard between all slices. */
static void others_have_their_turn_meanwhile(void **state)
{
	char *text = large("{\"a\": \"", "text", "\"}");
	struct evbuffer *input = buffer_of(text, strlen(text));
	struct result r = {.called = false};
	struct event *other;
	size_t n_turns = 0;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	other = event_new(base, ends[0], EV_READ | EV_PERSIST, count_turn, &n_turns);
	event_add(other, NULL);
	ds_body_read(&r.work, jobs, input, on_read, &r);
	while (!r.called)
		event_base_loop(base, EVLOOP_ONCE);
	assert_true(n_turns >= LARGE / (32 << 10));
	n_turns = 0;
	r.called = false;
	ds_body_write(&r.work, jobs, r.json, LARGE, 0, on_written, &r);
	while (!r.called)
		event_base_loop(base, EVLOOP_ONCE);
	assert_true(n_turns >= LARGE / (32 << 10));
	event_free(other);
	close(ends[0]);
	close(ends[1]);
	evbuffer_free(input);
	free(r.text);
	free(text);
}

static void the_smaller_one_is_done_first(void **state)
{
	char *text = large("{\"a\": \"", "text", "\"}");
	struct evbuffer *inputs[2] = {buffer_of(text, strlen(text)), buffer_of("{\"b\": 1}", 8)};
	size_t order = 0;
	struct result r[2] = {{.order = &order}, {.order = &order}};

	for (int i = 0; i < 50; i++) /* two slices */
		evbuffer_prepend(inputs[1], (char[1024]){[0 ... 1023] = ' '}, 1024);
	ds_body_read(&r[0].work, jobs, inputs[0], on_read, &r[0]);
	event_base_loop(base, EVLOOP_ONCE);
	event_base_loop(base, EVLOOP_ONCE);
	ds_body_read(&r[1].work, jobs, inputs[1], on_read, &r[1]);
	event_base_dispatch(base);
	assert_int_equal(r[1].place, 1);
	assert_int_equal(r[0].place, 2);
	for (int i = 0; i < 2; i++) {
		assert_non_null(r[i].json);
		json_decref(r[i].json);
		evbuffer_free(inputs[i]);
	}
	free(text);
}

/* Leaks and uses after free are the sanitizers' to see. */
static void who_goes_away_at_any_moment_is_forgotten(void **state)
{
	char *text = large("{\"a\": [\"\"", ", \"some text\", {\"b\": [1]}", "]}");

	for (int turns = 0; turns < 12; turns++) {
		struct evbuffer *input = buffer_of(text, strlen(text));
		json_t *json = json_loads(text, 0, NULL);
		struct result r[2] = {{.called = false}};

		ds_body_read(&r[0].work, jobs, input, on_read, &r[0]);
		ds_body_write(&r[1].work, jobs, json, LARGE, 0, on_written, &r[1]);
		for (int i = 0; i < turns; i++)
			event_base_loop(base, EVLOOP_ONCE);
		for (int i = 0; i < 2; i++) {
			bool ended = r[i].called;

			ds_body_cancel(r[i].work);
			assert_null(r[i].work);
			assert_true(r[i].called == ended);
		}
		event_base_dispatch(base);
		json_decref(r[0].json);
		free(r[1].text);
		evbuffer_free(input);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_in_slices_is_what_is_read_at_once),
		cmocka_unit_test(bytes_of_zero_are_refused),
		cmocka_unit_test(nesting_has_a_limit_in_slices_too),
		cmocka_unit_test(more_values_than_memory_should_hold_are_refused),
		cmocka_unit_test(a_list_is_no_body),
		cmocka_unit_test(what_is_written_is_what_jansson_writes),
		cmocka_unit_test(others_have_their_turn_meanwhile),
		cmocka_unit_test(the_smaller_one_is_done_first),
		cmocka_unit_test(who_goes_away_at_any_moment_is_forgotten),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* test-backend-cpu-vectors.c - the CPU backend gives its known answers on every instruction set; and how a vector of an
 * operation is wrong, said in a sentence. */
#include "lib/plugin-check.h"
#include "lib/plugins.h"
#include "lib/vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#include "plugins/backend-cpu/kernels.h"

extern const struct ds_plugin ds_plugin;

static void the_vectors_of_the_plugin_pass(void **state)
{
	struct ds_error err = {""};

	assert_int_equal(ds_plugin_check(&ds_plugin, "backend-cpu", &err), 0);
	for (int isa = DS_ISA_PORTABLE; isa < DS_ISA_COUNT; isa++) {
		size_t n, n_passed;

		if (!ds_isa_has((enum ds_isa)isa))
			continue;
		setenv("DEEPSEEKD_CPU", ds_isa_name((enum ds_isa)isa), 1);
		if (ds_vectors_run(&ds_plugin, ds_plugins_host(), &n, &n_passed, &err) != 0)
			fail_msg("%s: %s", ds_isa_name((enum ds_isa)isa), err.text);
		assert_int_equal(n_passed, n);
	}
	unsetenv("DEEPSEEKD_CPU");
}

static void check(const char *input, const char *output, const char *sentence)
{
	const struct ds_vector vectors[] = {{"v", "cpu", input, output}, {NULL, NULL, NULL, NULL}};
	struct ds_plugin plugin = ds_plugin;
	struct ds_error err = {""};
	size_t n, n_passed;
	int r;

	plugin.vectors = vectors;
	r = ds_vectors_run(&plugin, ds_plugins_host(), &n, &n_passed, &err);
	assert_int_equal(r, sentence ? -EINVAL : 0);
	if (sentence && !strstr(err.text, sentence))
		fail_msg("\"%s\" is not in \"%s\"", sentence, err.text);
}

/* A block of Q4_0 whose scale is one, and one in which two elements are else. */
#define BLOCK "003c8f7e6d5c4b3a291807f6e5d4c3b2a190"
#define OTHER "003c8f7e6d5c4b3a291807f6e5d4c3b2a191"

static void blocks_are_strings_of_hexadecimal_digits(void **state)
{
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [\"" OTHER "\", \"" BLOCK "\"], \"tokens\": [1]}",
	      "{\"y\": [7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8, "
	      "0, -1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1]}",
	      NULL);
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [\"" OTHER "\", \"" BLOCK "\"], \"tokens\": [0]}",
	      "{\"y\": [7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8, "
	      "0, -1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1]}",
	      "y[15]: expected -8, got -7");
}

static void blocks_that_are_none_are_refused(void **state)
{
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [\"" BLOCK "00\"], \"tokens\": [0]}", "{\"y\": [1]}",
	      "is not blocks of Q4_0 in hexadecimal");
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [\"zz" BLOCK "\"], \"tokens\": [0]}", "{\"y\": [1]}",
	      "is not blocks of Q4_0 in hexadecimal");
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [\"" BLOCK "\", \"" BLOCK BLOCK
	      "\"], \"tokens\": [0]}",
	      "{\"y\": [1]}", "are not of one shape");
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [[\"" BLOCK "\"]], \"tokens\": [0]}", "{\"y\": [1]}",
	      "are not of one shape");
	check("{\"op\": \"embed\", \"dtype\": \"q4_0\", \"table\": [[1, 2]], \"tokens\": [0]}", "{\"y\": [1]}",
	      "are not of one shape");
	check("{\"op\": \"embed\", \"dtype\": \"q9\", \"table\": [[1, 2]], \"tokens\": [0]}", "{\"y\": [1]}",
	      "is not the name of a type");
}

static void what_does_not_suit_the_heads_is_refused(void **state)
{
	static const char answer[] = "{\"y\": [1]}";

	check("{\"op\": \"attention\", \"dtype\": \"f32\", \"q\": [[[1], [1], [1]]], \"k\": [[1, 1]], \"v\": [[1, 1]], "
	      "\"n_kv_heads\": 2, \"positions\": [0], \"pages\": [[0]], \"page_tokens\": 1, \"scale\": 1}",
	      answer, "do not suit each other");
	check("{\"op\": \"attention\", \"dtype\": \"f32\", \"q\": [[[1], [1]]], \"k\": [[1]], \"v\": [[1, 1]], "
	      "\"n_kv_heads\": 1, \"positions\": [0], \"pages\": [[0]], \"page_tokens\": 1, \"scale\": 1}",
	      answer, "\"v\" is not of the other's size");
	check("{\"op\": \"attention\", \"dtype\": \"f32\", \"q\": [[[1], [1]]], \"k\": [[1]], \"v\": [[1]], "
	      "\"n_kv_heads\": 0, \"positions\": [0], \"pages\": [[0]], \"page_tokens\": 1, \"scale\": 1}",
	      answer, "\"n_kv_heads\" is not a whole number from 1");
	check("{\"op\": \"attention\", \"dtype\": \"q8_0\", \"q\": [[[1], [1]]], \"k\": [[1]], \"v\": [[1]], "
	      "\"n_kv_heads\": 1, \"positions\": [0], \"pages\": [[0]], \"page_tokens\": 1, \"scale\": 1}",
	      answer, "is not f32, f16 or bf16");
	check("{\"op\": \"add_bias\", \"y\": [[1, 2]], \"bias\": [1]}", answer, "\"bias\" is not as wide as \"y\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_the_plugin_pass),
		cmocka_unit_test(blocks_are_strings_of_hexadecimal_digits),
		cmocka_unit_test(blocks_that_are_none_are_refused),
		cmocka_unit_test(what_does_not_suit_the_heads_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

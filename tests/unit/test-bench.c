/* test-bench.c - what dsctl bench plans, and what it makes of an engine's numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/bench.h"

#include <string.h>

static int make(struct ds_bench_plan *plan, const char *prefill, const char *decode, const char *batch,
		struct ds_error *err)
{
	const struct ds_bench_lists lists = {prefill, decode, batch, .n_tokens = 64};

	*plan = (struct ds_bench_plan){0};
	return ds_bench_plan_make(plan, &lists, err);
}

static void lists_become_cases(void **state)
{
	struct ds_bench_plan plan;

	assert_int_equal(make(&plan, "32,1k", "0,4K", "2,16", NULL), 0);
	assert_int_equal(plan.n, 6);
	assert_string_equal(plan.cases[0].name, "pp32");
	assert_int_equal(plan.cases[1].prompt, 1024);
	assert_string_equal(plan.cases[2].name, "tg64");
	assert_string_equal(plan.cases[3].name, "tg64@4096");
	assert_int_equal(plan.cases[3].depth, 4096);
	assert_int_equal(plan.cases[3].steps, 64);
	assert_string_equal(plan.cases[4].name, "tg32x2");
	assert_int_equal(plan.cases[5].sequences, 16);
	assert_int_equal(plan.cases[5].steps, 16);
	assert_int_equal(ds_bench_plan_tokens(&plan), 4096 + 64);
	assert_int_equal(ds_bench_plan_sequences(&plan), 16);
	assert_int_equal(make(&plan, "none", "0", "none", NULL), 0);
	assert_int_equal(plan.n, 1);
}

static void what_is_no_list_is_refused_with_its_option(void **state)
{
	static const char *const bad[] = {"", ",", "1,", ",1", "1,,2", "x", "1x", "1 2", "-1", "+1", "0", "1kk", "nonee",
					  "16777217", "16385k", "99999999999999999999", "1.5"};
	struct ds_bench_plan plan;
	struct ds_error err;

	for (size_t i = 0; i < DS_ARRAY_SIZE(bad); i++) {
		assert_int_equal(make(&plan, bad[i], "none", "none", &err), -EINVAL);
		assert_non_null(strstr(err.text, "--prefill"));
	}
	assert_int_equal(make(&plan, "none", "none", "257", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--batch"));
	assert_int_equal(make(&plan, "none", "none", "none", &err), -EINVAL);
}

static void more_cases_than_there_is_room_for_are_refused(void **state)
{
	char list[4 * DS_BENCH_CASES] = "1";
	struct ds_bench_plan plan;

	for (size_t i = 1; i < DS_BENCH_CASES; i++)
		strcat(list, ",1");
	assert_int_equal(make(&plan, list, "none", "none", NULL), 0);
	assert_int_equal(make(&plan, list, "0", "none", NULL), -EINVAL);
}

static void what_does_not_fit_is_left_out_and_said(void **state)
{
	json_t *left_out = json_array();
	struct ds_bench_plan plan;

	assert_int_equal(make(&plan, "100,5000", "0,900", "8", NULL), 0);
	ds_bench_plan_limit(&plan, 1000, 1, 1e9, left_out);
	assert_int_equal(plan.n, 4);
	assert_int_equal(json_array_size(left_out), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(left_out, 0), "name")), "pp5000");

	/* one text of 964 tokens and seven of 16: 1076 bytes; the largest case goes first */
	ds_bench_plan_limit(&plan, 1000, 1, 1076, left_out);
	assert_int_equal(plan.n, 4);
	ds_bench_plan_limit(&plan, 1000, 1, 1075, left_out);
	assert_int_equal(plan.n, 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(left_out, 1), "name")), "tg64@900");
	ds_bench_plan_limit(&plan, 1000, 1, 0, left_out);
	assert_int_equal(plan.n, 0);
	assert_int_equal(json_array_size(left_out), 5);
	json_decref(left_out);
}

static void the_median_is_in_the_middle(void **state)
{
	double one[] = {3}, two[] = {4, 2}, three[] = {9, 1, 2}, four[] = {1, 100, 2, 4};

	assert_true(ds_bench_median(one, 1) == 3);
	assert_true(ds_bench_median(two, 2) == 3);
	assert_true(ds_bench_median(three, 3) == 2);
	assert_true(ds_bench_median(four, 4) == 3);
	assert_true(four[0] == 1 && four[3] == 100);
}

/* A prompt of 100 tokens; a text that goes on for 64. */
static void plan_two(struct ds_bench_plan *plan)
{
	assert_int_equal(make(plan, "100", "0", "none", NULL), 0);
}

static json_t *answer_of(const char *prompt_seconds, const char *decode_seconds, const char *size, const char *peaks)
{
	char text[1024];
	json_t *json;

	snprintf(text, sizeof(text),
		 "{\"cases\": [{\"tokens\": 100, \"operations\": 1000, \"size\": null, \"seconds\": %s},"
		 "{\"tokens\": 64, \"operations\": 640, \"size\": %s, \"seconds\": %s}], \"peaks\": %s,"
		 "\"sampling\": 0.25}", prompt_seconds, size, decode_seconds, peaks);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	return json;
}

static double number(const json_t *report, size_t i, const char *key)
{
	const json_t *value = json_object_get(json_array_get(json_object_get(report, "cases"), i), key);

	assert_true(json_is_number(value));
	return json_number_value(value);
}

static bool is_null(const json_t *report, size_t i, const char *key)
{
	return json_is_null(json_object_get(json_array_get(json_object_get(report, "cases"), i), key));
}

static void assert_near(double is, double wanted)
{
	assert_true(is > wanted * (1 - 1e-12) && is < wanted * (1 + 1e-12));
}

static json_t *report_of(json_t *answer)
{
	struct ds_bench_plan plan;
	json_t *report = NULL;

	plan_two(&plan);
	assert_int_equal(ds_bench_report(&plan, answer, &report, NULL), 0);
	json_decref(answer);
	return report;
}

static void rates_are_of_the_median_run(void **state)
{
	json_t *report = report_of(answer_of("[4, 1, 2]", "[64]", "6400",
					     "[{\"bytes_per_second\": 500, \"size\": 50, \"operations_per_second\": 1000,"
					     "\"unit\": \"int8\"}, {\"bytes_per_second\": 400, \"size\": 50,"
					     "\"operations_per_second\": 2000, \"unit\": \"int8\"}]"));
	const json_t *machine = json_object_get(report, "machine");

	assert_near(number(report, 0, "tokens_per_second"), 50);
	assert_near(number(report, 0, "fastest"), 100);
	assert_near(number(report, 0, "slowest"), 25);
	assert_near(number(report, 0, "spread"), 1.5);
	assert_near(number(report, 0, "operations_share"), 0.25);
	assert_true(is_null(report, 0, "bytes_per_token") && is_null(report, 0, "bandwidth_share"));
	assert_near(number(report, 1, "bytes_per_token"), 100);
	assert_near(number(report, 1, "bytes_per_second"), 100);
	assert_near(number(report, 1, "bandwidth_share"), 0.2);
	assert_near(json_number_value(json_object_get(machine, "bytes_per_second")), 500);
	assert_near(json_number_value(json_object_get(machine, "operations_per_second")), 2000);
	assert_near(json_number_value(json_object_get(report, "sampling_share")), 0.25);
	json_decref(report);
}

static void a_run_that_beats_the_probes_is_the_measure_of_all(void **state)
{
	/* the second run reads 200 bytes a second, the first computes 500 a second */
	json_t *report = report_of(answer_of("[2, 2, 4]", "[64, 32, 64]", "6400",
					     "[{\"bytes_per_second\": 150, \"size\": 50, \"operations_per_second\": 100,"
					     "\"unit\": \"int8\"}]"));

	assert_near(number(report, 0, "operations_share"), 1);
	assert_near(number(report, 1, "operations_share"), 0.02);
	assert_near(number(report, 1, "bandwidth_share"), 0.5);
	json_decref(report);
}

static void what_a_cache_may_hold_has_no_share_and_sets_no_measure(void **state)
{
	/* a step of 99 bytes */
	json_t *report = report_of(answer_of("[2]", "[1]", "6336",
					     "[{\"bytes_per_second\": 150, \"size\": 100, \"operations_per_second\": 9999,"
					     "\"unit\": \"int8\"}]"));

	assert_true(is_null(report, 1, "bandwidth_share"));
	assert_near(number(report, 1, "bytes_per_second"), 6336);
	assert_near(json_number_value(json_object_get(json_object_get(report, "machine"), "bytes_per_second")), 150);
	json_decref(report);
}

static void without_probes_there_are_no_shares(void **state)
{
	json_t *report = report_of(answer_of("[2]", "[1]", "6400", "[]"));

	assert_true(is_null(report, 0, "operations_share") && is_null(report, 1, "bandwidth_share"));
	assert_near(number(report, 0, "tokens_per_second"), 50);
	json_decref(report);
}

static void an_answer_that_cannot_be_is_an_error(void **state)
{
	static const char peaks[] = "[{\"bytes_per_second\": 1e999, \"size\": 0, \"operations_per_second\": 1}]";
	struct ds_bench_plan plan;
	json_t *report = NULL, *answer;
	struct ds_error err;

	plan_two(&plan);
	answer = answer_of("[]", "[1]", "6400", "[]");
	assert_int_equal(ds_bench_report(&plan, answer, &report, &err), -EPROTO);
	assert_non_null(strstr(err.text, "pp100"));
	json_decref(answer);
	answer = answer_of("[0]", "[1]", "6400", "[]");
	assert_int_equal(ds_bench_report(&plan, answer, &report, NULL), -EPROTO);
	json_decref(answer);
	answer = json_pack("{s:[]}", "cases");
	assert_int_equal(ds_bench_report(&plan, answer, &report, NULL), -EPROTO);
	json_decref(answer);
	assert_null(json_loads(peaks, 0, NULL)); /* no infinity comes as JSON */
	assert_null(report);
}

static void the_table_has_a_row_a_case_and_dashes_for_what_is_not_known(void **state)
{
	json_t *report = report_of(answer_of("[2]", "[64]", "6400",
					     "[{\"bytes_per_second\": 500, \"size\": 50, \"operations_per_second\": 1000,"
					     "\"unit\": \"int8\"}]"));
	struct ds_table t = {0};

	ds_bench_table(&t, report);
	assert_false(t.failed);
	assert_int_equal(t.n_cells, 3 * t.n_columns);
	assert_string_equal(t.cells[t.n_columns], "pp100");
	assert_string_equal(t.cells[t.n_columns + 2], "50.00");
	assert_string_equal(t.cells[t.n_columns + 4], "");
	assert_string_equal(t.cells[2 * t.n_columns], "tg64");
	assert_string_equal(t.cells[2 * t.n_columns + 4], "100 B");
	assert_string_equal(t.cells[2 * t.n_columns + 6], "20.0%");
	assert_string_equal(t.cells[3 * t.n_columns - 1], "1.0%");
	ds_table_deinit(&t);
	json_decref(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_become_cases),
		cmocka_unit_test(what_is_no_list_is_refused_with_its_option),
		cmocka_unit_test(more_cases_than_there_is_room_for_are_refused),
		cmocka_unit_test(what_does_not_fit_is_left_out_and_said),
		cmocka_unit_test(the_median_is_in_the_middle),
		cmocka_unit_test(rates_are_of_the_median_run),
		cmocka_unit_test(a_run_that_beats_the_probes_is_the_measure_of_all),
		cmocka_unit_test(what_a_cache_may_hold_has_no_share_and_sets_no_measure),
		cmocka_unit_test(without_probes_there_are_no_shares),
		cmocka_unit_test(an_answer_that_cannot_be_is_an_error),
		cmocka_unit_test(the_table_has_a_row_a_case_and_dashes_for_what_is_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

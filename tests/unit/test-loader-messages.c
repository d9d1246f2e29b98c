/* test-loader-messages.c - messages to ds-loader that no broker sends, and ds-loader without one. */
#include "loader-broker.h"

/* Messages that no broker sends: each ends the loader, which says why. */

static void memory_before_the_plan_is_refused(void **state)
{
	ds_cleanup(ds_closep) int fd = new_memory(4096);

	send_text(*state, DS_MSG_GO, "", &fd, 1);
	assert_failed(*state, "internal", "message 3 is not expected now");
}

static void files_after_the_plan_are_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	receive_plan(b);
	send_text(b, DS_MSG_FILES, "{\"names\": []}", NULL, 0);
	assert_failed(b, "internal", "message 1 is not expected now");
}

static void an_engine_message_is_refused(void **state)
{
	send_text(*state, DS_MSG_PING, "12345678", NULL, 0);
	assert_failed(*state, "internal", "message 37 is not expected now");
}

static void memory_of_another_size_is_refused(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size - 1);
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_failed(b, "internal", "GO comes without memory of");
}

static void names_and_descriptors_have_to_agree(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", b->files, 2);
	assert_failed(b, "internal", "FILES has 1 names and 2 descriptors");
}

static void a_path_is_no_name(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"../config.json\"]}", b->files, 1);
	assert_failed(b, "internal", "\"../config.json\" is not a base name");
}

static void a_name_comes_once(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"a\", \"a\"]}", b->files, 2);
	assert_failed(b, "internal", "a comes twice");
}

static void a_pipe_is_no_file(void **state)
{
	struct broker *b = *state;
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", pipes, 1);
	assert_failed(b, "invalid_model", "config.json is not a regular file");
	close(pipes[0]);
	close(pipes[1]);
}

static void what_is_not_json_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, "backend", NULL, 0);
	assert_failed(*state, "internal", "LOAD is not a JSON object");
}

static void a_text_with_a_nul_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, "{\"backend\": \"cpu\\u0000 or not\"}", NULL, 0);
	assert_failed(*state, "internal", "LOAD is not a JSON object: \\u0000 is not allowed");
}

static void values_nobody_knows_are_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"q8\"}", NULL, 0);
	assert_failed(b, "internal", "LOAD: kv_type \"q8\" is not f32, f16, bf16 or q8_0");
}

static void a_residency_nobody_knows_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"residency\": \"elsewhere\"}", NULL, 0);
	assert_failed(b, "internal", "LOAD: residency \"elsewhere\" is not resident or mapped");
}

static void exact_keeps_its_cache_in_32_bits(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"precision\": \"exact\", \"kv_type\": \"bf16\"}", NULL, 0);
	assert_int_equal(receive_plan(b).kv_size_per_token, 1600);
}

static void a_cache_whose_blocks_do_not_fit_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"q8_0\"}", NULL, 0);
	assert_failed(b, "unsupported_model",
		      "kv_type q8_0 has blocks of 32, which the heads of this model do not fill; bf16 is for all");
}

static void a_loader_whose_broker_is_gone_ends(void **state)
{
	assert_int_equal(finish(*state), 1);
}

static void a_loader_whose_broker_goes_while_it_fills_ends(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size);
	shutdown(b->socket, SHUT_RD); /* nobody hears what it says from here on, however fast it is */
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_int_equal(finish(b), 1);
}

/* Run ds-loader with @arguments, without a socket; its standard output goes to @out. */
static int run(const char *arguments, char *out, size_t size)
{
	char command[256];
	FILE *pipe;
	size_t n;

	snprintf(command, sizeof(command), "helpers/ds-loader %s 2>&1 3<&-", arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	n = fread(out, 1, size - 1, pipe);
	out[n] = 0;
	return WEXITSTATUS(pclose(pipe));
}

static void plugins_are_described_without_a_broker(void **state)
{
	struct broker *b = *state;
	ds_cleanup(json_decrefp) json_t *json = NULL;
	char arguments[192], out[32768];
	const json_t *d;

	snprintf(arguments, sizeof(arguments),
		 "--describe-plugins --plugin-dir %s --plugin backend-cpu --plugin format-safetensors --plugin nothing",
		 b->plugin_dir);
	assert_int_equal(run(arguments, out, sizeof(out)), 0);
	json = json_loads(out, 0, NULL);
	assert_int_equal(json_array_size(json), 3);
	for (unsigned i = 0; i < 2; i++) {
		d = json_array_get(json, i);
		assert_string_equal(json_string_value(json_object_get(d, "state")), "ok");
		assert_true(json_integer_value(json_object_get(d, "vectors")) > 0);
		assert_int_equal(json_integer_value(json_object_get(d, "vectors")),
				 json_integer_value(json_object_get(d, "vectors_passed")));
	}
	d = json_array_get(json, 2);
	assert_string_equal(json_string_value(json_object_get(d, "reason")), "nothing.so: No such file or directory");
}

static void a_person_who_starts_it_by_hand_is_told(void **state)
{
	char out[1024];

	assert_int_equal(run("--plugin-dir .", out, sizeof(out)), 1);
	assert_string_equal(out, "<3>ds-loader: descriptor 3 is not the broker's socket\n");
	assert_int_equal(run("", out, sizeof(out)), 2);
	assert_non_null(strstr(out, "usage: ds-loader"));
	assert_int_equal(run("--version", out, sizeof(out)), 0);
	assert_string_equal(out, "ds-loader " PACKAGE_VERSION "\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_before_the_plan_is_refused),
		TEST(files_after_the_plan_are_refused),
		TEST(an_engine_message_is_refused),
		TEST(memory_of_another_size_is_refused),
		TEST(names_and_descriptors_have_to_agree),
		TEST(a_path_is_no_name),
		TEST(a_name_comes_once),
		TEST(a_pipe_is_no_file),
		TEST(what_is_not_json_is_refused),
		TEST(a_text_with_a_nul_is_refused),
		TEST(values_nobody_knows_are_refused),
		TEST(a_residency_nobody_knows_is_refused),
		TEST(exact_keeps_its_cache_in_32_bits),
		TEST(a_cache_whose_blocks_do_not_fit_is_refused),
		TEST(a_loader_whose_broker_is_gone_ends),
		TEST(a_loader_whose_broker_goes_while_it_fills_ends),
		TEST(plugins_are_described_without_a_broker),
		TEST(a_person_who_starts_it_by_hand_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

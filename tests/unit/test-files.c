/* test-files.c - which files of a path are opened for a loader. Works in a folder of its own. */
#include "files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64];

static const char *in_folder(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void make_file(const char *name)
{
	int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static int setup(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/test-files-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void assert_names(const struct ds_files *files, const char *const *names, size_t n)
{
	assert_int_equal(files->n, n);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(files->names[i], names[i]);
		assert_true(fcntl(files->fds[i], F_GETFD) >= 0);
	}
}

static void of_a_directory_the_weights_and_json_are_opened_in_order(void **state)
{
	static const char *const names[] = {"config.json", "model.safetensors"};
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};

	make_file("model.safetensors");
	make_file("README.md");
	make_file(".hidden.json");
	make_file("config.json");
	assert_int_equal(ds_files_open(&files, folder, NULL), 0);
	assert_names(&files, names, 2);
}

static void any_file_of_a_split_set_opens_all_of_it(void **state)
{
	static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};

	make_file("m-00001-of-00002.gguf");
	for (size_t i = 0; i < 3; i++)
		make_file(names[i]);
	for (size_t i = 0; i < 3; i++) {
		ds_cleanup(ds_files_deinit) struct ds_files files = {0};

		assert_int_equal(ds_files_open(&files, in_folder(names[i]), NULL), 0);
		assert_names(&files, names, 3);
	}
}

static void a_split_set_that_is_not_whole_is_refused_with_the_missing_name(void **state)
{
	struct ds_files files = {0};
	struct ds_error err;

	make_file("m-00001-of-00002.gguf");
	assert_int_equal(ds_files_open(&files, in_folder("m-00001-of-00002.gguf"), &err), -ENOENT);
	assert_non_null(strstr(err.text, "m-00002-of-00002.gguf"));
	make_file("m-00001-of-00000.gguf");
	assert_int_equal(ds_files_open(&files, in_folder("m-00001-of-00000.gguf"), &err), -EINVAL);
	assert_null(files.names);
}

static void a_name_that_only_looks_like_a_split_is_one_file(void **state)
{
	static const char *const names[] = {"model-0001-of-0003.gguf"};
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};

	make_file(names[0]);
	assert_int_equal(ds_files_open(&files, in_folder(names[0]), NULL), 0);
	assert_names(&files, names, 1);
}

static void the_only_gguf_of_a_directory_is_its_model(void **state)
{
	static const char *const whole[] = {"m.gguf"};
	static const char *const parts[] = {"s-00001-of-00002.gguf", "s-00002-of-00002.gguf"};
	struct ds_files files = {0};

	make_file("config.json");
	make_file(".hidden.gguf");
	make_file(whole[0]);
	assert_int_equal(ds_files_open(&files, folder, NULL), 0);
	assert_names(&files, whole, 1);
	ds_files_deinit(&files);
	assert_int_equal(unlink(in_folder(whole[0])), 0);
	make_file(parts[1]);
	make_file(parts[0]);
	assert_int_equal(ds_files_open(&files, folder, NULL), 0);
	assert_names(&files, parts, 2);
	ds_files_deinit(&files);
}

static void a_directory_of_several_ggufs_is_refused_with_their_names(void **state)
{
	struct ds_files files = {0};
	struct ds_error err;

	make_file("a.gguf");
	make_file("s-00001-of-00002.gguf");
	make_file("s-00002-of-00002.gguf");
	assert_int_equal(ds_files_open(&files, folder, &err), -EINVAL);
	assert_non_null(strstr(err.text, "2 GGUF models"));
	assert_non_null(strstr(err.text, "a.gguf"));
	assert_non_null(strstr(err.text, "s-00001-of-00002.gguf"));
	assert_null(files.names);
}

static void a_directory_with_the_rest_of_a_split_set_is_refused_with_the_missing_name(void **state)
{
	struct ds_files files = {0};
	struct ds_error err;

	make_file("s-00002-of-00002.gguf");
	assert_int_equal(ds_files_open(&files, folder, &err), -ENOENT);
	assert_non_null(strstr(err.text, "s-00001-of-00002.gguf"));
}

static void safetensors_go_before_ggufs(void **state)
{
	static const char *const names[] = {"config.json", "model.safetensors"};
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};

	make_file("m.gguf");
	make_file("config.json");
	make_file("model.safetensors");
	assert_int_equal(ds_files_open(&files, folder, NULL), 0);
	assert_names(&files, names, 2);
}

static void what_is_not_a_regular_file_is_refused(void **state)
{
	struct ds_files files = {0};
	struct ds_error err;

	assert_int_equal(mkfifo(in_folder("pipe.gguf"), 0600), 0);
	assert_int_equal(ds_files_open(&files, in_folder("pipe.gguf"), &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(of_a_directory_the_weights_and_json_are_opened_in_order),
		T(any_file_of_a_split_set_opens_all_of_it),
		T(a_split_set_that_is_not_whole_is_refused_with_the_missing_name),
		T(a_name_that_only_looks_like_a_split_is_one_file),
		T(the_only_gguf_of_a_directory_is_its_model),
		T(a_directory_of_several_ggufs_is_refused_with_their_names),
		T(a_directory_with_the_rest_of_a_split_set_is_refused_with_the_missing_name),
		T(safetensors_go_before_ggufs),
		T(what_is_not_a_regular_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

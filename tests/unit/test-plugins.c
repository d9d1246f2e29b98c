/* test-plugins.c - which plugins are opened, and the exact reason why the others are not.
 *
 * Every test has a directory of its own with copies of the plugins it needs, so that modes can be changed. */
#include "plugin-check.h"
#include "plugins.h"

#include <deepseekd/backend.h>
#include <deepseekd/sampler.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct place {
	char dir[64];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-plugins-XXXXXX");
	*state = p;
	return mkdtemp(p->dir) ? 0 : -1;
}

static int teardown(void **state)
{
	struct place *p = *state;
	DIR *dir = opendir(p->dir);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(p->dir);
	free(p);
	return 0;
}

/* Copy tests/plugins/@name.so of the build into the directory. */
static void install(const struct place *p, const char *name)
{
	char path[256], data[65536];
	ds_cleanup(ds_closep) int from = -1;
	ds_cleanup(ds_closep) int to = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "tests/plugins/%s.so", name);
	from = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/%s.so", p->dir, name);
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (from < 0 || to < 0)
		fail_msg("%s: %s", path, strerror(errno));
	while ((n = read(from, data, sizeof(data))) > 0)
		assert_int_equal(write(to, data, (size_t)n), n);
	assert_int_equal(fchmod(to, 0755), 0);
}

static struct ds_plugins *open_kinds(const struct place *p, unsigned kinds, const char *const *names)
{
	struct ds_plugins *plugins = NULL;

	assert_int_equal(ds_plugins_open(&plugins, p->dir, names, kinds, NULL), 0);
	return plugins;
}

static void assert_text(const json_t *object, const char *key, const char *value)
{
	const char *text = json_string_value(json_object_get(object, key));

	assert_non_null(text);
	assert_string_equal(text, value);
}

/* Open @name alone: it is refused for @reason and not usable. */
static void assert_refused(const struct place *p, const char *name, const char *reason)
{
	const char *const names[] = {name, NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = open_kinds(p, DS_KIND_ANY, names);
	ds_cleanup(json_decrefp) json_t *all = ds_plugins_describe(plugins);
	const json_t *d = json_array_get(all, 0);
	size_t i = 0;

	assert_int_equal(json_array_size(all), 1);
	assert_text(d, "name", name);
	assert_text(d, "state", "refused");
	assert_text(d, "reason", reason);
	assert_null(ds_plugins_next(plugins, DS_PLUGIN_SAMPLER, &i));
}

static void a_good_plugin_is_described_and_found(void **state)
{
	const struct place *p = *state;
	const char *const names[] = {"first-token", NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	ds_cleanup(json_decrefp) json_t *all = NULL;
	const struct ds_sampler_ops *ops;
	const struct ds_plugin *plugin = NULL;
	const json_t *d, *option;
	char file[128];

	install(p, "first-token");
	plugins = open_kinds(p, DS_KIND(DS_PLUGIN_SAMPLER), names);
	all = ds_plugins_describe(plugins);
	d = json_array_get(all, 0);
	snprintf(file, sizeof(file), "%s/first-token.so", p->dir);
	assert_text(d, "name", "first-token");
	assert_text(d, "file", file);
	assert_text(d, "kind", "sampler");
	assert_text(d, "version", "1");
	assert_text(d, "summary", "for tests");
	assert_text(d, "state", "ok");
	assert_true(json_is_null(json_object_get(d, "reason")));
	assert_int_equal(json_integer_value(json_object_get(d, "vectors")), 2);
	assert_int_equal(json_integer_value(json_object_get(d, "vectors_passed")), 2);
	assert_text(json_array_get(json_object_get(d, "entries"), 0), "name", "first");
	option = json_array_get(json_object_get(d, "options"), 0);
	assert_text(option, "name", "eagerness");
	assert_text(option, "type", "int");
	assert_int_equal(json_integer_value(json_object_get(option, "default")), 3);
	assert_int_equal(json_integer_value(json_object_get(option, "max")), 5);
	ops = ds_plugins_find(plugins, DS_PLUGIN_SAMPLER, "first", &plugin, NULL);
	assert_non_null(ops);
	assert_int_equal(ops->size, sizeof(*ops));
	assert_string_equal(plugin->name, "first-token");
}

static void an_entry_that_is_not_there_is_explained(void **state)
{
	const struct place *p = *state;
	const char *const names[] = {"first-token", "wrong-abi", NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	struct ds_error err;

	install(p, "first-token");
	install(p, "wrong-abi");
	plugins = open_kinds(p, DS_KIND_ANY, names);
	assert_null(ds_plugins_find(plugins, DS_PLUGIN_SAMPLER, "last", NULL, &err));
	assert_string_equal(err.text,
			    "no sampler \"last\" (there is: first); refused: wrong-abi: not built for this ABI: "
			    "7, this is 3");
	assert_null(ds_plugins_find(plugins, DS_PLUGIN_BACKEND, "cpu", NULL, &err));
	assert_non_null(strstr(err.text, "no backend \"cpu\" (there is: none)"));
}

static void a_plugin_of_another_kind_is_left_out(void **state)
{
	const struct place *p = *state;
	const char *const names[] = {"first-token", NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	ds_cleanup(json_decrefp) json_t *all = NULL;
	size_t i = 0;

	install(p, "first-token");
	plugins = open_kinds(p, DS_KIND(DS_PLUGIN_FORMAT), names);
	all = ds_plugins_describe(plugins);
	assert_int_equal(json_array_size(all), 0);
	assert_null(ds_plugins_next(plugins, DS_PLUGIN_SAMPLER, &i));
}

static void plugins_keep_their_order_and_their_names(void **state)
{
	const struct place *p = *state;
	const char *const names[] = {"no-symbol", "first-token", "failing-vector", "wrong-abi", NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	ds_cleanup(json_decrefp) json_t *all = NULL;

	for (unsigned i = 0; names[i]; i++)
		install(p, names[i]);
	plugins = open_kinds(p, DS_KIND_ANY, names);
	all = ds_plugins_describe(plugins);
	for (unsigned i = 0; names[i]; i++) {
		assert_text(json_array_get(all, i), "name", names[i]);
		assert_text(json_array_get(all, i), "state", i == 1 ? "ok" : "refused");
	}
}

static void a_plugin_for_another_abi_is_refused(void **state)
{
	install(*state, "wrong-abi");
	assert_refused(*state, "wrong-abi", "not built for this ABI: 7, this is 3");
}

static void a_plugin_without_the_symbol_is_refused(void **state)
{
	install(*state, "no-symbol");
	assert_refused(*state, "no-symbol", "no symbol ds_plugin");
}

static void a_plugin_that_fails_a_vector_is_refused(void **state)
{
	install(*state, "failing-vector");
	assert_refused(*state, "failing-vector",
		       "vector 2 (\"the lowest id wins\") of entry first: ids[0]: expected 1, got 0");
}

static void a_plugin_with_another_name_than_its_file_is_refused(void **state)
{
	install(*state, "misnamed");
	assert_refused(*state, "misnamed", "the plugin is named another, the file misnamed.so");
}

static void a_plugin_that_others_may_write_is_refused(void **state)
{
	const struct place *p = *state;
	char path[128];

	install(p, "first-token");
	snprintf(path, sizeof(path), "%s/first-token.so", p->dir);
	assert_int_equal(chmod(path, 0775), 0);
	assert_refused(p, "first-token", "first-token.so is writable by group or others");
	assert_int_equal(chmod(path, 0757), 0);
	assert_refused(p, "first-token", "first-token.so is writable by group or others");
}

static void a_directory_that_others_may_write_is_refused(void **state)
{
	const struct place *p = *state;
	char reason[160];

	install(p, "first-token");
	snprintf(reason, sizeof(reason), "plugins directory %s is writable by group or others", p->dir);
	assert_int_equal(chmod(p->dir, 0777), 0);
	assert_refused(p, "first-token", reason);
}

static void a_plugin_of_another_user_is_refused(void **state)
{
	const struct place *p = *state;
	char path[128];

	if (geteuid() != 0)
		return; /* only root can give files away */
	install(p, "first-token");
	snprintf(path, sizeof(path), "%s/first-token.so", p->dir);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_refused(p, "first-token", "first-token.so belongs to user 65534, neither to root nor to user 0");
}

static void what_is_no_library_is_refused(void **state)
{
	const struct place *p = *state;
	char path[128];
	int fd;

	assert_refused(p, "absent", "absent.so: No such file or directory");
	assert_refused(p, "../first-token", "\"../first-token\" is not a name of a plugin");
	assert_refused(p, "", "\"\" is not a name of a plugin");
	snprintf(path, sizeof(path), "%s/fifo.so", p->dir);
	assert_int_equal(mkfifo(path, 0700), 0);
	assert_refused(p, "fifo", "fifo.so is not a regular file");
	snprintf(path, sizeof(path), "%s/text.so", p->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	{
		const char *const names[] = {"text", NULL};
		ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = open_kinds(p, DS_KIND_ANY, names);
		ds_cleanup(json_decrefp) json_t *all = ds_plugins_describe(plugins);

		assert_text(json_array_get(all, 0), "state", "refused");
	}
}

static void a_directory_that_is_not_there_refuses_all(void **state)
{
	const char *const names[] = {"first-token", NULL};
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	ds_cleanup(json_decrefp) json_t *all = NULL;

	assert_int_equal(ds_plugins_open(&plugins, "/nowhere/at/all", names, DS_KIND_ANY, NULL), 0);
	all = ds_plugins_describe(plugins);
	assert_text(json_array_get(all, 0), "reason", "plugins directory /nowhere/at/all: No such file or directory");
}

/* What no test plugin is built for: the table itself, changed in one place. */

static bool sampler_active(const struct ds_setting *settings)
{
	return false;
}

static int sampler_open(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
			size_t vocab, struct ds_error *err)
{
	return 0;
}

static void sampler_apply(void *self, struct ds_candidates *candidates)
{
}

static void sampler_close(void *self)
{
}

static void nothing(void)
{
}

static const struct ds_sampler_ops good_ops = {.size = sizeof(good_ops),
					       .active = sampler_active,
					       .open = sampler_open,
					       .apply = sampler_apply,
					       .close = sampler_close};
static const struct ds_sampler_ops short_ops = {.size = 8, .active = sampler_active};
static const struct ds_sampler_ops holed_ops = {
	.size = sizeof(holed_ops), .active = sampler_active, .open = sampler_open, .close = sampler_close};

static const struct ds_entry good_entries[] = {{"e", "an entry", &good_ops}, {NULL, NULL, NULL}};
static const struct ds_vector good_vectors[] = {{"v", "e", "{}", "{}"}, {NULL, NULL, NULL, NULL}};

static struct ds_plugin table(const struct ds_entry *entries, const struct ds_vector *vectors,
			      const struct ds_option *options)
{
	return (struct ds_plugin){
		.abi = DS_PLUGIN_ABI,
		.kind = DS_PLUGIN_SAMPLER,
		.name = "p",
		.version = "1",
		.summary = "s",
		.entries = entries,
		.vectors = vectors,
		.options = options,
	};
}

static void assert_unfit(const struct ds_plugin *plugin, const char *sentence)
{
	struct ds_error err = {""};

	assert_int_equal(ds_plugin_check(plugin, "p", &err), -EINVAL);
	assert_string_equal(err.text, sentence);
}

/* What stands last in a backend's table is optional: one built before it was there is as good. */
static void a_table_may_end_before_what_is_optional(void **state)
{
	static void (*const any)(void) = nothing;
	static struct ds_backend_ops ops;
	static const struct ds_entry entries[] = {{"e", "an entry", &ops}, {NULL, NULL, NULL}};
	struct ds_plugin p = table(entries, good_vectors, NULL);
	char sentence[128];

	p.kind = DS_PLUGIN_BACKEND;
	for (size_t at = sizeof(ops.size); at < offsetof(struct ds_backend_ops, peak); at += sizeof(any))
		memcpy((char *)&ops + at, &any, sizeof(any));
	ops.size = sizeof(ops);
	assert_int_equal(ds_plugin_check(&p, "p", NULL), 0);
	assert_false(DS_BACKEND_HAS(&ops, peak));
	ops.size = offsetof(struct ds_backend_ops, peak);
	assert_int_equal(ds_plugin_check(&p, "p", NULL), 0);
	assert_false(DS_BACKEND_HAS(&ops, peak));
	ops.size--;
	snprintf(sentence, sizeof(sentence), "the operations of entry e have %zu bytes, a backend needs %zu", ops.size,
		 ops.size + 1);
	assert_unfit(&p, sentence);
}

static void a_table_with_holes_is_refused(void **state)
{
	static const struct ds_entry shorts[] = {{"e", "an entry", &short_ops}, {NULL, NULL, NULL}};
	static const struct ds_entry holed[] = {{"e", "an entry", &holed_ops}, {NULL, NULL, NULL}};
	static const struct ds_entry empty[] = {{"e", "an entry", NULL}, {NULL, NULL, NULL}};
	struct ds_plugin p = table(good_entries, good_vectors, NULL);
	char sentence[128];

	assert_int_equal(ds_plugin_check(&p, "p", NULL), 0);
	p = table(shorts, good_vectors, NULL);
	snprintf(sentence, sizeof(sentence), "the operations of entry e have 8 bytes, a sampler needs %zu",
		 sizeof(good_ops));
	assert_unfit(&p, sentence);
	p = table(holed, good_vectors, NULL);
	assert_unfit(&p, "entry e has no operation apply");
	p = table(empty, good_vectors, NULL);
	assert_unfit(&p, "entry e has no operations");
	p = table(NULL, good_vectors, NULL);
	assert_unfit(&p, "without any entry");
	p = table(good_entries, good_vectors, NULL);
	p.kind = 77;
	assert_unfit(&p, "of an unknown kind: 77");
	p.kind = 0;
	assert_unfit(&p, "of an unknown kind: 0");
	p = table(good_entries, good_vectors, NULL);
	p.version = NULL;
	assert_unfit(&p, "without a name, version or summary");
}

static void an_entry_without_a_vector_is_refused(void **state)
{
	static const struct ds_entry two[] = {
		{"e", "an entry", &good_ops}, {"f", "another", &good_ops}, {NULL, NULL, NULL}};
	static const struct ds_vector stray[] = {{"v", "g", "{}", "{}"}, {NULL, NULL, NULL, NULL}};
	static const struct ds_vector half[] = {{"v", "e", "{}", NULL}, {NULL, NULL, NULL, NULL}};
	struct ds_plugin p = table(good_entries, NULL, NULL);

	assert_unfit(&p, "entry e has no vector");
	p = table(two, good_vectors, NULL);
	assert_unfit(&p, "entry f has no vector");
	p = table(good_entries, stray, NULL);
	assert_unfit(&p, "vector \"v\" is for entry g, which there is not");
	p = table(good_entries, half, NULL);
	assert_unfit(&p, "vector \"v\" is incomplete");
}

static void options_that_contradict_themselves_are_refused(void **state)
{
	static const struct ds_option outside[] = {
		{.name = "o", .help = "h", .type = DS_OPTION_INT, .value = 6, .min = 0, .max = 5}, {.name = NULL}};
	static const struct ds_option helpless[] = {{.name = "o", .type = DS_OPTION_BOOL}, {.name = NULL}};
	static const struct ds_option textless[] = {{.name = "o", .help = "h", .type = DS_OPTION_TEXT}, {.name = NULL}};
	struct ds_plugin p = table(good_entries, good_vectors, outside);

	assert_unfit(&p, "the default of option o, 6, is not from 0 to 5");
	p.options = helpless;
	assert_unfit(&p, "option o has an unknown type or no help");
	p.options = textless;
	assert_unfit(&p, "option o has no default");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_good_plugin_is_described_and_found),
		TEST(an_entry_that_is_not_there_is_explained),
		TEST(a_plugin_of_another_kind_is_left_out),
		TEST(plugins_keep_their_order_and_their_names),
		TEST(a_plugin_for_another_abi_is_refused),
		TEST(a_plugin_without_the_symbol_is_refused),
		TEST(a_plugin_that_fails_a_vector_is_refused),
		TEST(a_plugin_with_another_name_than_its_file_is_refused),
		TEST(a_plugin_that_others_may_write_is_refused),
		TEST(a_directory_that_others_may_write_is_refused),
		TEST(a_plugin_of_another_user_is_refused),
		TEST(what_is_no_library_is_refused),
		TEST(a_directory_that_is_not_there_refuses_all),
		cmocka_unit_test(a_table_may_end_before_what_is_optional),
		cmocka_unit_test(a_table_with_holes_is_refused),
		cmocka_unit_test(an_entry_without_a_vector_is_refused),
		cmocka_unit_test(options_that_contradict_themselves_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

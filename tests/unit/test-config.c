/* test-config.c - the configuration: what it means, and every kind of error with its file, line and column. */
#include "../../daemon/config.h"
#include "../../daemon/units.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The first problem of @text as deepseekd.yaml (or of @model as a model's file), or "" if there is none. */
static const char *first_problem(const char *text, const char *model, char out[1024])
{
	struct ds_problems problems = {0};
	struct ds_config *config = NULL;
	int r = ds_config_parse(&config, "f.yaml", text, strlen(text), &problems);

	if (r == 0 && model)
		r = ds_config_parse_model(config, "m.yaml", model, strlen(model), &problems);
	assert_true((r < 0) == (problems.n > 0));
	snprintf(out, 1024, "%s", problems.n ? problems.lines[0] : "");
	ds_problems_deinit(&problems);
	ds_config_unref(config);
	return out;
}

static const struct {
	const char *text, *problem;
} bad_files[] = {
	{"", "f.yaml:1:1: version: the key is missing (of this format)"},
	{"version: 2", "f.yaml:1:10: version: \"2\" is out of range (allowed: 1)"},
	{"version: '1'", "f.yaml:1:10: version: \"1\" is not a whole number (allowed: 1)"},
	{"- a", "f.yaml:1:1: the file must be a map of keys and values, not a list"},
	{"text", "f.yaml:1:1: the file must be a map of keys and values, not text"},
	{"version: 1\nversion: 1", "f.yaml:2:1: version: the key is there twice (first on line 1)"},
	{"version: 1\nlog: {level: info, level: info}", "f.yaml:2:20: level: the key is there twice (first on line 2)"},
	{"version: 1\nlisten:\n  sockt: x", "f.yaml:3:3: listen.sockt: unknown key (did you mean listen.socket?)"},
	{"version: 1\nlimit: {}", "f.yaml:2:1: limit: unknown key (did you mean limits?)"},
	{"version: 1\nwallpaper: blue", "f.yaml:2:1: wallpaper: unknown key"},
	{"version: 1\nlisten: 3", "f.yaml:2:9: listen: must be a map of keys and values, not a whole number"},
	{"version: 1\nlimits: {queue: yes}",
	 "f.yaml:2:17: limits.queue: \"yes\" is not a whole number (allowed: 0 to 32768)"},
	{"version: 1\nlimits: {queue: -1}", "f.yaml:2:17: limits.queue: \"-1\" is out of range (allowed: 0 to 32768)"},
	{"version: 1\nlimits: {queue: 1.5}",
	 "f.yaml:2:17: limits.queue: \"1.5\" is not a whole number (allowed: 0 to 32768)"},
	{"version: 1\nlimits: {queue: 99999999999999999999}", "f.yaml:2:17: the number does not fit 64 bits"},
	{"version: 1\nlimits: {queue: []}",
	 "f.yaml:2:17: limits.queue: a list is not a whole number (allowed: 0 to 32768)"},
	{"version: 1\nlimits: {memory: 101%}",
	 "f.yaml:2:18: limits.memory: \"101%\" is not a size (allowed: a size such as 8GiB, or 1% to 100%)"},
	{"version: 1\nlimits: {memory: 1KiB}",
	 "f.yaml:2:18: limits.memory: \"1KiB\" is out of range (allowed: a size such as 8GiB, or 1% to 100%)"},
	{"version: 1\nlisten: {max_body: 4MB}",
	 "f.yaml:2:20: listen.max_body: \"4MB\" is not a size (allowed: a size such as 4MiB, 1.0 KiB to 64.0 MiB)"},
	{"version: 1\nlisten: {max_body: 99999999999999999999TiB}",
	 "f.yaml:2:20: listen.max_body: \"99999999999999999999TiB\" is out of range (allowed: a size such as 4MiB, 1.0 "
	 "KiB to 64.0 MiB)"},
	{"version: 1\nlisten: {idle_timeout: soon}",
	 "f.yaml:2:24: listen.idle_timeout: \"soon\" is not a duration (allowed: a duration such as 5m, 1s to 86400s)"},
	{"version: 1\nidle_exit: soon",
	 "f.yaml:2:12: idle_exit: \"soon\" is not a duration (allowed: a duration such as 5m, 1s to 31536000s, or never)"},
	{"version: 1\nlisten: {idle_timeout: never}",
	 "f.yaml:2:24: listen.idle_timeout: \"never\" is not a duration (allowed: a duration such as 5m, 1s to 86400s)"},
	{"version: 1\nlisten: {idle_timeout: 1ms}",
	 "f.yaml:2:24: listen.idle_timeout: \"1ms\" is out of range (allowed: a duration such as 5m, 1s to 86400s)"},
	{"version: 1\nlisten: {mode: 0888}",
	 "f.yaml:2:16: listen.mode: \"0888\" is not a mode (allowed: three octal digits, such as 0660)"},
	{"version: 1\nlisten: {socket: 3}",
	 "f.yaml:2:18: listen.socket: \"3\" is not a path (allowed: a path, absolute or relative to this file)"},
	{"version: 1\ndefault_model: [a]", "f.yaml:2:16: default_model: a list is not text (allowed: text)"},
	{"version: 1\ndefault_model: ~", "f.yaml:2:16: default_model: \"~\" is nothing (allowed: text)"},
	{"version: 1\nlog: {level: loud}",
	 "f.yaml:2:14: log.level: \"loud\" is not one of the choices (allowed: error, warning, notice, info, debug)"},
	{"version: 1\nlog: {level: inf}",
	 "f.yaml:2:14: log.level: \"inf\" is not one of the choices (allowed: error, warning, notice, info, debug)"},
	{"version: 1\nplugins: {load: a}", "f.yaml:2:17: plugins.load: \"a\" is not a list (allowed: a list of names)"},
	{"version: 1\nplugins: {load: [a, ../b]}",
	 "f.yaml:2:21: plugins.load: \"../b\" is not a name (allowed: up to 64 letters, digits and . _ : -)"},
	{"version: 1\nplugins: {options: {a: 1}}",
	 "f.yaml:2:24: plugins.options: \"1\" is not a map (allowed: {PLUGIN: {OPTION: value}})"},
	{"version: 1\nplugins: {options: {a: {b: [1]}}}",
	 "f.yaml:2:28: plugins.options: a list is not a value (allowed: true, false, a number or text)"},
	{"version: 1\nplugins: {options: {a: {b: .nan}}}",
	 "f.yaml:2:28: plugins.options: \".nan\" is not a value (allowed: true, false, a number or text)"},
	{"version: !!int 1", "f.yaml:1:10: tags are not allowed"},
	{"version: 1\nlisten: !map {}", "f.yaml:2:9: tags are not allowed"},
	{"version: &a 1", "f.yaml:1:10: anchors and aliases are not allowed"},
	{"version: 1\nlisten: *a", "f.yaml:2:9: anchors and aliases are not allowed"},
	{"version: 1\n? [a]\n: b", "f.yaml:2:3: a key must be plain text"},
	{"version: 1\n---\nversion: 1", "f.yaml:2:1: one document a file"},
	{"version: 1\nx: [[[[[[[[[[[[[[[[[[[[", "f.yaml:2:19: more than 16 levels"},
	{"version: 1\n\tx: 1",
	 "f.yaml:2:1: found a tab character that violates indentation, while scanning a plain scalar"},
	{"version: 1\nx: [", "f.yaml:3:1: did not find expected node content, while parsing a flow node"},
	{"version: \"a\\0b\"", "f.yaml:1:10: text with a NUL in it"},
	{"version: 1\nx: \xff", "f.yaml:2:4: invalid leading UTF-8 octet"},
};

static void every_error_says_where_and_what(void **state)
{
	char out[1024];

	for (size_t i = 0; i < DS_ARRAY_SIZE(bad_files); i++)
		assert_string_equal(first_problem(bad_files[i].text, NULL, out), bad_files[i].problem);
}

static const struct {
	const char *text, *problem;
} bad_models[] = {
	{"path: x", "m.yaml:1:1: name: the key is missing (how clients call the model)"},
	{"name: a", "m.yaml:1:1: path: the key is missing (directory or file of the checkpoint)"},
	{"name: a/b\npath: x",
	 "m.yaml:1:7: name: \"a/b\" is not a name (allowed: up to 64 letters, digits and . _ : -)"},
	{"name: .a\npath: x", "m.yaml:1:7: name: \".a\" is not a name (allowed: up to 64 letters, digits and . _ : -)"},
	{"name: null\npath: x", "m.yaml:1:7: name: \"null\" is nothing (allowed: text)"},
	{"name: a\npath: ''",
	 "m.yaml:2:7: path: \"\" is not a path (allowed: a path, absolute or relative to this file)"},
	{"name: a\npath: x\nresidency: elsewhere",
	 "m.yaml:3:12: residency: \"elsewhere\" is not one of the choices (allowed: resident, mapped)"},
	{"name: a\npath: x\nprecision: exactly",
	 "m.yaml:3:12: precision: \"exactly\" is not one of the choices (allowed: fast, exact)"},
	{"name: a\npath: x\nkv_type: q4_0",
	 "m.yaml:3:10: kv_type: \"q4_0\" is not one of the choices (allowed: f32, f16, bf16, q8_0)"},
	{"name: a\npath: x\nparallel: 257", "m.yaml:3:11: parallel: \"257\" is out of range (allowed: 1 to 256)"},
	{"name: a\npath: x\nparallel: 0", "m.yaml:3:11: parallel: \"0\" is out of range (allowed: 1 to 256)"},
	{"name: a\npath: x\npreload: yes", "m.yaml:3:10: preload: \"yes\" is not a truth value (allowed: true, false)"},
	{"name: a\npath: x\nalias: [b]", "m.yaml:3:1: alias: unknown key (did you mean aliases?)"},
	{"name: a\npath: x\naliases: [b, a]", "m.yaml:3:14: aliases: \"a\" is a name of this model already"},
	{"name: a\npath: x\nsampling: [1]", "m.yaml:3:11: sampling: a list is not a map (allowed: {OPTION: value})"},
	{"name: a\npath: x\nthreads: 2", "m.yaml:3:1: threads: unknown key"},
};

static void every_error_of_a_model_says_where_and_what(void **state)
{
	char out[1024];

	for (size_t i = 0; i < DS_ARRAY_SIZE(bad_models); i++)
		assert_string_equal(first_problem("version: 1", bad_models[i].text, out), bad_models[i].problem);
}

static void a_map_has_1024_keys_at_most(void **state)
{
	char text[16384], out[1024];
	size_t n = 0;

	for (int i = 0; i <= 1024; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "k%d: 1\n", i);
	assert_string_equal(first_problem(text, NULL, out), "f.yaml:1025:1: more than 1024 keys");
}

static void all_errors_are_listed(void **state)
{
	static const char text[] =
		"version: 1\na: 1\nlimits: {queue: x, memory: y}\nlog: {level: z}\nplugins: {load: 1}";
	struct ds_problems problems = {0};
	struct ds_config *config = NULL;

	assert_int_equal(ds_config_parse(&config, "f.yaml", text, strlen(text), &problems), -EINVAL);
	assert_int_equal(problems.n, 5);
	assert_null(config);
	ds_problems_deinit(&problems);
}

static void defaults_are_what_the_tables_say(void **state)
{
	struct ds_problems problems = {0};
	struct ds_config *config = NULL;

	assert_int_equal(ds_config_parse(&config, "f.yaml", "version: 1", 10, &problems), 0);
	assert_int_equal(config->mode, 0660);
	assert_int_equal(config->max_body, 4 << 20);
	assert_int_equal(config->idle_usec, 60000000);
	assert_int_equal(config->queue, 256);
	assert_string_equal(config->log_level, "info");
	assert_string_equal(config->default_model, "");
	assert_string_equal(config->plugins[0], "format-safetensors");
	assert_string_equal(config->plugins[6], "dialect-deepseek");
	assert_null(config->plugins[7]);
	assert_int_equal(json_object_size(config->plugin_options), 0);
	assert_int_equal(ds_config_parse_model(config, "d/m.yaml", "name: a\npath: x", 15, &problems), 0);
	assert_string_equal(config->models[0].path, "d/x");
	assert_string_equal(config->models[0].kv_type, "bf16");
	assert_int_equal(config->models[0].parallel, 4);
	assert_int_equal(config->models[0].keep_alive_usec, 1800000000);
	assert_false(config->models[0].pin);
	ds_config_unref(config);
}

static void values_are_read_as_they_are_written(void **state)
{
	static const char text[] = "version: 1\ndefault_model: 7b\nidle_exit: never\n"
				   "listen: {mode: '600', max_body: 1MiB, idle_timeout: 2m, socket: /s}\n"
				   "limits: {memory: 8GiB, queue: 0x10}\n"
				   "plugins: {load: [b, a], options: {a: {x: 1, y: true, z: text, w: 1.5, v: '1'}}}\n";
	struct ds_problems problems = {0};
	struct ds_config *config = NULL;
	json_t *options;

	assert_int_equal(ds_config_parse(&config, "f.yaml", text, strlen(text), &problems), 0);
	assert_string_equal(config->default_model, "7b");
	assert_true(config->idle_exit_usec == DS_CONFIG_NEVER);
	assert_int_equal(config->mode, 0600);
	assert_int_equal(config->max_body, 1 << 20);
	assert_int_equal(config->idle_usec, 120000000);
	assert_string_equal(config->socket, "/s");
	assert_int_equal(config->memory, 8ull << 30);
	assert_int_equal(config->queue, 16);
	assert_string_equal(config->plugins[0], "b");
	assert_string_equal(config->plugins[1], "a");
	options = json_pack("{s:{s:i, s:b, s:s, s:f, s:s}}", "a", "x", 1, "y", 1, "z", "text", "w", 1.5, "v", "1");
	assert_true(json_equal(config->plugin_options, options));
	json_decref(options);
	ds_config_unref(config);
}

/* YAML 1.2 core: neither yes nor 010 nor 1:30 is what YAML 1.1 made of it. */
static void scalars_are_those_of_the_core_schema(void **state)
{
	static const struct {
		const char *text;
		enum ds_yaml_kind kind;
		double number;
	} scalars[] = {
		{"yes", DS_YAML_TEXT, 0},        {"on", DS_YAML_TEXT, 0},
		{"True", DS_YAML_BOOL, 0},       {"~", DS_YAML_NULL, 0},
		{"010", DS_YAML_INT, 10},        {"0o10", DS_YAML_INT, 8},
		{"0xfF", DS_YAML_INT, 255},      {"-7", DS_YAML_INT, -7},
		{"1:30", DS_YAML_TEXT, 0},       {"1_000", DS_YAML_TEXT, 0},
		{"1e3", DS_YAML_FLOAT, 1000},    {".5", DS_YAML_FLOAT, 0.5},
		{"5.", DS_YAML_FLOAT, 5},        {".", DS_YAML_TEXT, 0},
		{"1e", DS_YAML_TEXT, 0},         {"0o8", DS_YAML_TEXT, 0},
		{"0x", DS_YAML_TEXT, 0},         {"+", DS_YAML_TEXT, 0},
		{"'1'", DS_YAML_TEXT, 0},        {"-.inf", DS_YAML_FLOAT, -INFINITY},
		{"2026-11-23", DS_YAML_TEXT, 0},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(scalars); i++) {
		struct ds_problems problems = {0};
		struct ds_yaml *tree = NULL;
		char text[64];
		int n = snprintf(text, sizeof(text), "k: %s", scalars[i].text);

		assert_int_equal(ds_yaml_parse(&tree, "f", text, (size_t)n, &problems), 0);
		assert_int_equal(ds_yaml_get(tree, "k")->kind, scalars[i].kind);
		assert_true(ds_yaml_get(tree, "k")->number == scalars[i].number);
		ds_yaml_free(tree);
	}
}

static void maps_merge_deeply_and_the_rest_is_replaced(void **state)
{
	struct ds_problems problems = {0};
	struct ds_yaml *lower = NULL, *upper = NULL;
	const char a[] = "m: {x: 1, y: 2}\nl: [1, 2]\ns: old", b[] = "m: {y: 3, z: 4}\nl: [5]\ns: new\nn: 6";

	assert_int_equal(ds_yaml_parse(&lower, "a", a, strlen(a), &problems), 0);
	assert_int_equal(ds_yaml_parse(&upper, "b", b, strlen(b), &problems), 0);
	assert_int_equal(ds_yaml_merge(lower, upper), 0);
	assert_int_equal(ds_yaml_get(ds_yaml_get(lower, "m"), "x")->integer, 1);
	assert_int_equal(ds_yaml_get(ds_yaml_get(lower, "m"), "y")->integer, 3);
	assert_string_equal(ds_yaml_get(ds_yaml_get(lower, "m"), "y")->file, "b");
	assert_int_equal(ds_yaml_get(ds_yaml_get(lower, "m"), "z")->integer, 4);
	assert_int_equal(ds_yaml_get(lower, "l")->n, 1);
	assert_string_equal(ds_yaml_get(lower, "s")->text, "new");
	assert_int_equal(ds_yaml_get(lower, "n")->integer, 6);
	ds_yaml_free(lower);
}

static void a_file_of_more_than_a_mebibyte_is_refused(void **state)
{
	struct ds_problems problems = {0};
	struct ds_yaml *tree = NULL;
	char *text = calloc(1, DS_YAML_MAX_SIZE + 1);

	memset(text, '#', DS_YAML_MAX_SIZE + 1);
	assert_int_equal(ds_yaml_parse(&tree, "f", text, DS_YAML_MAX_SIZE + 1, &problems), -EINVAL);
	assert_string_equal(problems.lines[0], "f: the file is larger than 1 MiB");
	ds_problems_deinit(&problems);
	free(text);
}

static void sizes_read_and_write(void **state)
{
	uint64_t n = 0;
	unsigned percent = 0;
	char out[32];

	assert_int_equal(ds_units_size("4MiB", &n), 0);
	assert_int_equal(n, 4 << 20);
	assert_int_equal(ds_units_size("17", &n), 0);
	assert_int_equal(n, 17);
	assert_int_equal(ds_units_size("4 GiB", &n), 0);
	assert_int_equal(n, 4ull << 30);
	assert_int_equal(ds_units_size("4mib", &n), -EINVAL);
	assert_int_equal(ds_units_size("-4", &n), -EINVAL);
	assert_int_equal(ds_units_size("20000000TiB", &n), -ERANGE);
	assert_int_equal(ds_units_duration("1h", &n), 0);
	assert_int_equal(n, 3600000000ull);
	assert_int_equal(ds_units_percent("80%", &percent), 0);
	assert_int_equal(percent, 80);
	assert_int_equal(ds_units_percent("0%", &percent), -ERANGE);
	assert_string_equal(ds_units_format_size(out, 1536ull << 20), "1.5 GiB");
	assert_string_equal(ds_units_format_size(out, 512), "512 B");
}

/* The text of the vendor's file, which the build names. */
static size_t read_vendor_file(char *text, size_t size)
{
	FILE *f = fopen(VENDOR_FILE, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, size - 1, f);
	text[n] = '\0';
	fclose(f);
	return n;
}

static void the_vendors_file_shows_every_key_with_its_default(void **state)
{
	struct ds_problems problems = {0};
	struct ds_config *ours = NULL, *vendors = NULL;
	char text[16384];
	size_t n = read_vendor_file(text, sizeof(text));

	assert_int_equal(ds_config_parse(&vendors, "f.yaml", text, n, &problems), 0);
	assert_int_equal(ds_config_parse(&ours, "f.yaml", "version: 1", 10, &problems), 0);
	for (const struct ds_key *key = ds_config_keys; key->name; key++) {
		const struct ds_yaml *node = vendors->tree;
		char name[64], *rest = name, *part;

		snprintf(name, sizeof(name), "%s", key->name);
		while (node && (part = strsep(&rest, ".")))
			node = ds_yaml_get(node, part);
		if (!node)
			fail_msg("%s is not in " VENDOR_FILE, key->name);
	}
	assert_int_equal(ours->mode, vendors->mode);
	assert_int_equal(ours->max_body, vendors->max_body);
	assert_int_equal(ours->max_clients, vendors->max_clients);
	assert_int_equal(ours->idle_usec, vendors->idle_usec);
	assert_int_equal(ours->memory, vendors->memory);
	assert_int_equal(ours->queue, vendors->queue);
	assert_int_equal(ours->stall_usec, vendors->stall_usec);
	assert_string_equal(ours->log_level, vendors->log_level);
	ds_config_unref(ours);
	ds_config_unref(vendors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_says_where_and_what),
		cmocka_unit_test(every_error_of_a_model_says_where_and_what),
		cmocka_unit_test(a_map_has_1024_keys_at_most),
		cmocka_unit_test(all_errors_are_listed),
		cmocka_unit_test(defaults_are_what_the_tables_say),
		cmocka_unit_test(values_are_read_as_they_are_written),
		cmocka_unit_test(scalars_are_those_of_the_core_schema),
		cmocka_unit_test(maps_merge_deeply_and_the_rest_is_replaced),
		cmocka_unit_test(a_file_of_more_than_a_mebibyte_is_refused),
		cmocka_unit_test(sizes_read_and_write),
		cmocka_unit_test(the_vendors_file_shows_every_key_with_its_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

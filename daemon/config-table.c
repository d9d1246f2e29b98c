/* config-table.c - every key of the configuration: its type, bounds, default and meaning; and how a tree fills them.
 *
 * A new key is one row here and one member in config.h. `deepseekd --help` prints these tables. */
#include "config.h"
#include "message.h"
#include "units.h"

#include <limits.h>
#include <string.h>

#define MIB (1024.0 * 1024)

#define CONFIG(member) offsetof(struct ds_config, member)
#define MODEL(member) offsetof(struct ds_model_config, member)

const struct ds_key ds_config_keys[] = {
	{"version", DS_KEY_INT, CONFIG(version), NULL, 1, 1, NULL, "of this format"},
	{"default_model", DS_KEY_TEXT, CONFIG(default_model), "\"\"", 0, 0, NULL, "used when a client names none"},
	{"idle_exit", DS_KEY_DURATION, CONFIG(idle_exit_usec), "10m", 1, 31536000, "never",
	 "the system service ends when it has had nothing to do for so long; a client starts it again"},
	{"listen.socket", DS_KEY_PATH, CONFIG(socket), "\"\"", 0, 0, NULL,
	 "where (empty: api.sock in the runtime directory)"},
	{"listen.mode", DS_KEY_MODE, CONFIG(mode), "0660", 0, 0, NULL, "permissions of the socket, octal"},
	{"listen.group", DS_KEY_TEXT, CONFIG(group), "\"\"", 0, 0, NULL, "group of the socket (empty: leave it)"},
	{"listen.metrics", DS_KEY_PATH, CONFIG(metrics), "\"\"", 0, 0, NULL,
	 "a socket for OpenMetrics, GET /metrics, for root and the daemon's user (empty: none)"},
	{"listen.tcp", DS_KEY_ADDRESS, CONFIG(tcp), "\"\"", 0, 0, NULL,
	 "address and port for clients with an API key, such as 127.0.0.1:11500 (empty: none)"},
	{"listen.tcp_hosts", DS_KEY_NAMES, CONFIG(tcp_hosts), "[]", 0, 0, NULL,
	 "names by which they may call this machine, besides localhost and the address"},
	{"listen.tcp_clients", DS_KEY_INT, CONFIG(tcp_clients), "64", 1, 65536, NULL,
	 "connections by TCP; more wait to be accepted"},
	{"listen.max_body", DS_KEY_SIZE, CONFIG(max_body), "4MiB", 1024, 64 * MIB, NULL, "largest body of a request"},
	{"listen.max_clients", DS_KEY_INT, CONFIG(max_clients), "1024", 1, 65536, NULL,
	 "connections, of which one user has three quarters at most; more wait to be accepted"},
	{"listen.idle_timeout", DS_KEY_DURATION, CONFIG(idle_usec), "60s", 1, 86400, NULL,
	 "a connection without a request is closed"},
	{"limits.memory", DS_KEY_MEMORY, CONFIG(memory), "80%", MIB, 1e18, NULL,
	 "for all models: a size, or a part of the machine's memory"},
	{"limits.queue", DS_KEY_INT, CONFIG(queue), "256", 0, 32768, NULL, "requests that may wait, of all users"},
	{"limits.per_user.parallel", DS_KEY_INT, CONFIG(user_parallel), "0", 0, 65536, NULL,
	 "requests of one user that run at the same time (0: as many as fit)"},
	{"limits.per_user.queue", DS_KEY_INT, CONFIG(user_queue), "0", 0, 32768, NULL,
	 "requests of one user that wait (0: as limits.queue)"},
	{"limits.per_user.max_tokens", DS_KEY_INT, CONFIG(max_tokens), "0", 0, 1 << 24, NULL,
	 "tokens that one request generates at most (0: as the model's context)"},
	{"limits.stall_timeout", DS_KEY_DURATION, CONFIG(stall_usec), "60s", 1, 86400, NULL,
	 "a client that takes no output for so long is given up"},
	{"limits.step_timeout", DS_KEY_DURATION, CONFIG(step_usec), "5m", 1, 86400, NULL,
	 "an engine whose requests get no further for so long is killed"},
	{"plugins.dir", DS_KEY_PATH, CONFIG(plugin_dir), "\"\"", 0, 0, NULL,
	 "where plugins lie (empty: where they were installed)"},
	{"plugins.load", DS_KEY_NAMES, CONFIG(plugins),
	 "[format-safetensors, format-gguf, tokenizer-bpe, tokenizer-spm, backend-cpu, sampler-core, dialect-deepseek]", 0, 0,
	 NULL,
	 "plugins that helpers open, samplers in the order of the chain"},
	{"plugins.options", DS_KEY_TABLES, CONFIG(plugin_options), "{}", 0, 0, NULL, "{PLUGIN: {OPTION: value}}"},
	{"access.users", DS_KEY_USERS, CONFIG(users), "[\"*\"]", 0, 0, NULL,
	 "users who may use models, by name or number"},
	{"access.groups", DS_KEY_GROUPS, CONFIG(groups), "[]", 0, 0, NULL, "groups whose members may"},
	{"access.keys", DS_KEY_KEYS, CONFIG(keys), "[\"*\"]", 0, 0, NULL, "names of API keys that may"},
	{"log.level", DS_KEY_CHOICE, CONFIG(log_level), "info", 0, 0, "error, warning, notice, info, debug",
	 "what is logged"},
	{0},
};

const struct ds_key ds_model_keys[] = {
	{"name", DS_KEY_NAME, MODEL(name), NULL, 0, 0, NULL, "how clients call the model"},
	{"path", DS_KEY_PATH, MODEL(path), NULL, 0, 0, NULL, "directory or file of the checkpoint"},
	{"aliases", DS_KEY_NAMES, MODEL(aliases), "[]", 0, 0, NULL, "other names for it"},
	{"preload", DS_KEY_BOOL, MODEL(preload), "false", 0, 0, NULL, "load at start"},
	{"pin", DS_KEY_BOOL, MODEL(pin), "false", 0, 0, NULL, "once loaded it stays, also under memory pressure"},
	{"keep_alive", DS_KEY_DURATION, MODEL(keep_alive_usec), "30m", 1, 31536000, "forever",
	 "a model that nobody used for so long is unloaded"},
	{"context", DS_KEY_INT, MODEL(context), "0", 0, 1 << 24, NULL,
	 "tokens of a conversation (0: the model's own limit, or as many as memory allows)"},
	{"parallel", DS_KEY_INT, MODEL(parallel), "4", 1, DS_MAX_PARALLEL, NULL, "requests computed at the same time"},
	{"residency", DS_KEY_CHOICE, MODEL(residency), "resident", 0, 0, "resident, mapped",
	 "resident: weights lie packed in memory; mapped: the large ones stay in their files"},
	{"backend", DS_KEY_NAME, MODEL(backend), "auto", 0, 0, NULL, "entry of a backend plugin, or auto"},
	{"precision", DS_KEY_CHOICE, MODEL(precision), "fast", 0, 0, "fast, exact", "exact: float32 throughout"},
	{"kv_type", DS_KEY_CHOICE, MODEL(kv_type), "bf16", 0, 0, "f32, f16, bf16, q8_0",
	 "numbers of the KV cache; precision: exact has f32"},
	{"dialect", DS_KEY_NAME, MODEL(dialect), "auto", 0, 0, NULL, "entry of a dialect plugin, or auto"},
	{"access.users", DS_KEY_USERS, MODEL(users), "[]", 0, 0, NULL,
	 "users who may use it (without access: as deepseekd.yaml says)"},
	{"access.groups", DS_KEY_GROUPS, MODEL(groups), "[]", 0, 0, NULL, "groups whose members may"},
	{"access.keys", DS_KEY_KEYS, MODEL(keys), "[]", 0, 0, NULL, "names of API keys that may"},
	{"sampling", DS_KEY_VALUES, MODEL(sampling), "{}", 0, 0, NULL, "defaults of the samplers' options"},
	{0},
};

static int wrong(struct ds_problems *p, const struct ds_yaml *node, const struct ds_key *key, const char *what,
		 const char *allowed)
{
	if (node->text)
		ds_problem(p, node, key->name, "\"%.100s\" is %s (allowed: %s)", node->text, what, allowed);
	else
		ds_problem(p, node, key->name, "%s is %s (allowed: %s)", ds_yaml_kind_name(node->kind), what, allowed);
	return -EINVAL;
}

static bool is_scalar(const struct ds_yaml *node)
{
	return node->kind != DS_YAML_LIST && node->kind != DS_YAML_MAP;
}

static int fill_bool(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	if (node->kind != DS_YAML_BOOL)
		return wrong(p, node, key, "not a truth value", "true, false");
	*(bool *)at = node->flag;
	return 0;
}

static int fill_int(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	char allowed[64];

	if (key->min == key->max)
		snprintf(allowed, sizeof(allowed), "%.0f", key->min);
	else
		snprintf(allowed, sizeof(allowed), "%.0f to %.0f", key->min, key->max);
	if (node->kind != DS_YAML_INT)
		return wrong(p, node, key, "not a whole number", allowed);
	if (node->number < key->min || node->number > key->max)
		return wrong(p, node, key, "out of range", allowed);
	*(int64_t *)at = node->integer;
	return 0;
}

static int fill_size(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	char allowed[96], min[32], max[32];
	unsigned percent;
	uint64_t bytes = 0;
	int r;

	snprintf(allowed, sizeof(allowed), "a size such as 4MiB, %s to %s",
		 ds_units_format_size(min, (uint64_t)key->min), ds_units_format_size(max, (uint64_t)key->max));
	if (!is_scalar(node) || !node->text)
		return wrong(p, node, key, "not a size", allowed);
	if (key->type == DS_KEY_MEMORY && ds_units_percent(node->text, &percent) == 0) {
		long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);

		*(uint64_t *)at = (uint64_t)pages * (uint64_t)page_size / 100 * percent;
		return 0;
	}
	if (key->type == DS_KEY_MEMORY)
		snprintf(allowed, sizeof(allowed), "a size such as 8GiB, or 1%% to 100%%");
	r = ds_units_size(node->text, &bytes);
	if (r == -EINVAL)
		return wrong(p, node, key, "not a size", allowed);
	if (r < 0 || (double)bytes < key->min || (double)bytes > key->max)
		return wrong(p, node, key, "out of range", allowed);
	*(uint64_t *)at = bytes;
	return 0;
}

static int fill_duration(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	char allowed[96];
	uint64_t usec = 0;
	int r = -EINVAL;

	snprintf(allowed, sizeof(allowed), "a duration such as 5m, %.0fs to %.0fs%s%s", key->min, key->max,
		 key->choices ? ", or " : "", key->choices ? key->choices : "");
	if (key->choices && is_scalar(node) && node->text && !strcmp(node->text, key->choices)) {
		*(uint64_t *)at = DS_CONFIG_NEVER;
		return 0;
	}
	if (is_scalar(node) && node->text)
		r = ds_units_duration(node->text, &usec);
	if (r == -EINVAL)
		return wrong(p, node, key, "not a duration", allowed);
	if (r < 0 || (double)usec < key->min * 1e6 || (double)usec > key->max * 1e6)
		return wrong(p, node, key, "out of range", allowed);
	*(uint64_t *)at = usec;
	return 0;
}

/* As chmod writes it: YAML 1.2 would read 0660 as a decimal number, so the digits count as they were written. */
static int fill_mode(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	const char *text = is_scalar(node) && node->text ? node->text : "";
	size_t n = strlen(text);

	if (n < 3 || n > 4 || strspn(text, "01234567") != n || (n == 4 && text[0] != '0'))
		return wrong(p, node, key, "not a mode", "three octal digits, such as 0660");
	*(unsigned *)at = (unsigned)strtoul(text, NULL, 8);
	return 0;
}

static int put_text(void *at, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*(char **)at);
	*(char **)at = copy;
	return 0;
}

bool ds_config_is_name(const char *text)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t n = strlen(text);

	if (n < 1 || n > 64 || !strchr(first, text[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr(first, text[i]) && !strchr("._:-", text[i]))
			return false;
	return true;
}

static const char name_rule[] = "up to 64 letters, digits and . _ : -";

static int fill_text(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	if (!is_scalar(node) || !node->text)
		return wrong(p, node, key, "not text", "text");
	/* A name of digits alone is a name still; an absent value is not. */
	if (node->kind == DS_YAML_NULL)
		return wrong(p, node, key, "nothing", "text");
	if (key->type == DS_KEY_NAME && !ds_config_is_name(node->text))
		return wrong(p, node, key, "not a name", name_rule);
	return put_text(at, node->text);
}

static int fill_address(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	struct sockaddr_storage address;
	socklen_t size;

	if (node->kind != DS_YAML_TEXT || (node->text[0] && ds_units_address(node->text, &address, &size) < 0))
		return wrong(p, node, key, "not an address", "an address in numbers and a port, such as 127.0.0.1:11500");
	return put_text(at, node->text);
}

static int fill_path(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	char path[PATH_MAX];
	const char *slash = strrchr(node->file, '/');
	int n;

	if (node->kind != DS_YAML_TEXT)
		return wrong(p, node, key, "not a path", "a path, absolute or relative to this file");
	if (node->text[0] == '\0' && !key->value)
		return wrong(p, node, key, "not a path", "a path, absolute or relative to this file");
	if (node->text[0] == '/' || node->text[0] == '\0' || !slash)
		return put_text(at, node->text);
	n = snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - node->file), node->file, node->text);
	if (n < 0 || n >= (int)sizeof(path))
		return wrong(p, node, key, "too long", "a path, absolute or relative to this file");
	return put_text(at, path);
}

static int fill_choice(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	const char *text = is_scalar(node) && node->text ? node->text : "";
	size_t size = strlen(text);

	for (const char *c = key->choices; size > 0 && c; c = strchr(c, ',') ? strchr(c, ',') + 2 : NULL)
		if (!strncmp(c, text, size) && (c[size] == ',' || c[size] == '\0'))
			return put_text(at, text);
	return wrong(p, node, key, "not one of the choices", key->choices);
}

static char **free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	return NULL;
}

static int fill_names(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	char **names;
	int r = 0;

	if (node->kind != DS_YAML_LIST)
		return wrong(p, node, key, "not a list", "a list of names");
	names = calloc(node->n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < node->n && r == 0; i++) {
		const struct ds_yaml *item = node->items[i];

		if (!is_scalar(item) || !item->text || !ds_config_is_name(item->text))
			r = wrong(p, item, key, "not a name", name_rule);
		else
			names[i] = strdup(item->text);
	}
	if (r < 0) {
		free_names(names);
		return r;
	}
	free_names(*(char ***)at);
	*(char ***)at = names;
	return 0;
}

json_t *ds_config_to_json(const struct ds_yaml *node)
{
	json_t *json;

	switch (node->kind) {
	case DS_YAML_NULL:
		return json_null();
	case DS_YAML_BOOL:
		return json_boolean(node->flag);
	case DS_YAML_INT:
		return json_integer(node->integer);
	case DS_YAML_FLOAT:
		return json_real(node->number);
	case DS_YAML_TEXT:
		return json_string(node->text);
	case DS_YAML_LIST:
		json = json_array();
		for (size_t i = 0; i < node->n; i++)
			json_array_append_new(json, ds_config_to_json(node->items[i]));
		return json;
	case DS_YAML_MAP:
		json = json_object();
		for (size_t i = 0; i < node->n; i++)
			json_object_set_new(json, node->items[i]->key, ds_config_to_json(node->items[i]));
		return json;
	}
	return NULL;
}

static int fill_values(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	bool tables = key->type == DS_KEY_TABLES;
	json_t *json;

	if (node->kind != DS_YAML_MAP)
		return wrong(p, node, key, "not a map", tables ? "{PLUGIN: {OPTION: value}}" : "{OPTION: value}");
	for (size_t i = 0; i < node->n; i++) {
		const struct ds_yaml *item = node->items[i];

		if (tables && item->kind != DS_YAML_MAP)
			return wrong(p, item, key, "not a map", "{PLUGIN: {OPTION: value}}");
		for (size_t j = 0; j < (tables ? item->n : 1); j++) {
			const struct ds_yaml *value = tables ? item->items[j] : item;

			if (!is_scalar(value) || value->kind == DS_YAML_NULL || (value->number - value->number) != 0)
				return wrong(p, value, key, "not a value", "true, false, a number or text");
		}
	}
	json = ds_config_to_json(node);
	if (!json)
		return -ENOMEM;
	json_decref(*(json_t **)at);
	*(json_t **)at = json;
	return 0;
}

static int fill_who(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p)
{
	enum ds_who_kind kind = key->type == DS_KEY_USERS    ? DS_WHO_USERS
				: key->type == DS_KEY_GROUPS ? DS_WHO_GROUPS
							     : DS_WHO_KEYS;
	const struct ds_yaml *bad;

	if (node->kind != DS_YAML_LIST)
		return wrong(p, node, key, "not a list", ds_who_rule);
	bad = ds_who_bad_item(kind, node);
	if (bad)
		return wrong(p, bad, key, "not a name", ds_who_rule);
	ds_who_deinit(at);
	return ds_who_fill(at, kind, node);
}

typedef int fill_fn(void *at, const struct ds_key *key, const struct ds_yaml *node, struct ds_problems *p);

static fill_fn *const fills[] = {
	[DS_KEY_BOOL] = fill_bool,     [DS_KEY_INT] = fill_int,           [DS_KEY_SIZE] = fill_size,
	[DS_KEY_MEMORY] = fill_size,   [DS_KEY_DURATION] = fill_duration, [DS_KEY_MODE] = fill_mode,
	[DS_KEY_TEXT] = fill_text,     [DS_KEY_NAME] = fill_text,         [DS_KEY_PATH] = fill_path,
	[DS_KEY_CHOICE] = fill_choice, [DS_KEY_NAMES] = fill_names,       [DS_KEY_VALUES] = fill_values,
	[DS_KEY_TABLES] = fill_values, [DS_KEY_USERS] = fill_who,         [DS_KEY_GROUPS] = fill_who,
	[DS_KEY_KEYS] = fill_who,      [DS_KEY_ADDRESS] = fill_address,
};

/* Optimal string alignment would be finer; letters inserted, dropped and changed are what people do. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= DS_ARRAY_SIZE(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			best = row[j] + 1 < best ? row[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return row[n];
}

const char *ds_config_nearest(const char *name, const char *const *names)
{
	size_t best = strlen(name) > 3 ? 3 : 2; /* at most two letters wrong, in a short name one */
	const char *nearest = NULL;

	if (strlen(name) > 64)
		return NULL;
	for (; *names; names++)
		if (distance(name, *names) < best) {
			best = distance(name, *names);
			nearest = *names;
		}
	return nearest;
}

/* No key is @path: say so, with the nearest one under the same @prefix. */
static void unknown_key(const struct ds_key *keys, const char *path, size_t prefix, const struct ds_yaml *node,
			struct ds_problems *p)
{
	const char *names[32] = {0}, *nearest;
	size_t n = 0;

	for (const struct ds_key *k = keys; k->name && n + 1 < DS_ARRAY_SIZE(names); k++)
		if (!strncmp(k->name, path, prefix))
			names[n++] = k->name;
	nearest = ds_config_nearest(path, names);
	if (!nearest) { /* perhaps the name of a whole section */
		static const char *const sections[] = {"listen", "limits", "plugins", "access", "log", NULL};

		nearest = keys == ds_config_keys ? ds_config_nearest(path, sections) : NULL;
	}
	if (nearest)
		ds_problem_key(p, node, path, "unknown key (did you mean %s?)", nearest);
	else
		ds_problem_key(p, node, path, "unknown key");
}

static void fill_map(void *base, const struct ds_key *keys, const struct ds_yaml *map, const char *prefix,
		     struct ds_problems *p)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct ds_yaml *node = map->items[i];
		const struct ds_key *key = keys;
		char path[160];
		size_t size;

		size = (size_t)snprintf(path, sizeof(path), "%s%.64s", prefix, node->key);
		while (key->name && strcmp(key->name, path))
			key++;
		if (key->name) {
			fills[key->type]((char *)base + key->offset, key, node, p);
			continue;
		}
		for (key = keys; key->name; key++)
			if (!strncmp(key->name, path, size) && key->name[size] == '.')
				break;
		if (!key->name || strlen(node->key) > 64) {
			unknown_key(keys, path, strlen(prefix), node, p);
		} else if (node->kind != DS_YAML_MAP) {
			ds_problem(p, node, path, "must be a map of keys and values, not %s",
				   ds_yaml_kind_name(node->kind));
		} else {
			path[size] = '.';
			path[size + 1] = '\0';
			fill_map(base, keys, node, path, p);
		}
	}
}

/* The node at the dotted @name below @map, or NULL. */
static const struct ds_yaml *find(const struct ds_yaml *map, const char *name)
{
	char part[64];
	const char *dot = strchr(name, '.');
	const struct ds_yaml *node;

	if (!dot)
		return ds_yaml_get(map, name);
	snprintf(part, sizeof(part), "%.*s", (int)(dot - name), name);
	node = ds_yaml_get(map, part);
	return node && node->kind == DS_YAML_MAP ? find(node, dot + 1) : NULL;
}

/* Every key that the tree does not set gets its default, through the same parser as what people write. */
static int fill_defaults(void *base, const struct ds_key *keys, const struct ds_yaml *tree, struct ds_problems *p)
{
	for (const struct ds_key *key = keys; key->name; key++) {
		ds_cleanup(ds_yaml_freep) struct ds_yaml *value = NULL;
		char text[128];
		int r, n;

		if (find(tree, key->name))
			continue;
		if (!key->value) {
			ds_problem_at(p, tree->file, tree->line, tree->column, "%s: the key is missing (%s)", key->name,
				      key->help);
			continue;
		}
		n = snprintf(text, sizeof(text), "value: %s", key->value);
		r = ds_yaml_parse(&value, "default", text, (size_t)n, p);
		if (r == 0)
			r = fills[key->type]((char *)base + key->offset, key, ds_yaml_get(value, "value"), p);
		if (r < 0)
			return r;
	}
	return 0;
}

int ds_config_fill(void *base, const struct ds_key *keys, const struct ds_yaml *tree, struct ds_problems *problems)
{
	size_t n_before = problems->n;
	int r;

	fill_map(base, keys, tree, "", problems);
	r = fill_defaults(base, keys, tree, problems);
	return r < 0 ? r : problems->n > n_before ? -EINVAL : 0;
}

void ds_config_clear(void *base, const struct ds_key *keys)
{
	for (const struct ds_key *key = keys; key->name; key++) {
		void *at = (char *)base + key->offset;

		switch (key->type) {
		case DS_KEY_TEXT:
		case DS_KEY_NAME:
		case DS_KEY_PATH:
		case DS_KEY_CHOICE:
		case DS_KEY_ADDRESS:
			free(*(char **)at);
			*(char **)at = NULL;
			break;
		case DS_KEY_NAMES:
			*(char ***)at = free_names(*(char ***)at);
			break;
		case DS_KEY_VALUES:
		case DS_KEY_TABLES:
			json_decref(*(json_t **)at);
			*(json_t **)at = NULL;
			break;
		case DS_KEY_USERS:
		case DS_KEY_GROUPS:
		case DS_KEY_KEYS:
			ds_who_deinit(at);
			break;
		default:
			break;
		}
	}
}

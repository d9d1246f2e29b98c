/* config.c - finds the files of the layers, lays them over each other and has the tables check them. */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Files that were found: their base names, sorted, each with the highest layer that has it. */
struct fragment {
	char *name, *path;
	const char *layer; /* borrowed: the folder of that layer */
	bool masked;
};

struct fragments {
	struct fragment *list; /* [n] */
	size_t n;
};

static void deinit_fragments(struct fragments *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->list[i].name);
		free(f->list[i].path);
	}
	free(f->list);
}

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int add_fragment(struct fragments *f, const char *layer, const char *dir, const char *name)
{
	struct fragment *list, new = {.layer = layer};
	struct stat st;

	if (asprintf(&new.path, "%s/%s", dir, name) < 0)
		return -ENOMEM;
	new.masked = stat(new.path, &st) == 0 && is_null_device(&st);
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->list[i].name, name)) {
			free(f->list[i].path);
			f->list[i].path = new.path;
			f->list[i].layer = layer;
			f->list[i].masked = new.masked;
			return 0;
		}
	new.name = strdup(name);
	list = reallocarray(f->list, f->n + 1, sizeof(*list));
	if (!list || !new.name) {
		free(new.path);
		free(new.name);
		return -ENOMEM;
	}
	f->list = list;
	list[f->n++] = new;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct fragment *)a)->name, ((const struct fragment *)b)->name);
}

/* Note the *.yaml of @dir/@sub; a directory that is not there has none. */
static int find_fragments(struct fragments *f, const char *dir, const char *sub, struct ds_problems *problems)
{
	char path[PATH_MAX + 32];
	struct dirent *entry;
	DIR *d;
	int r = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	d = opendir(path);
	if (!d) {
		if (errno != ENOENT && errno != ENOTDIR)
			ds_problem_at(problems, path, 0, 0, "cannot be read: %s", strerror(errno));
		return 0;
	}
	while (r == 0 && (entry = readdir(d))) {
		size_t n = strlen(entry->d_name);

		if (n > 5 && entry->d_name[0] != '.' && !strcmp(entry->d_name + n - 5, ".yaml"))
			r = add_fragment(f, dir, path, entry->d_name);
	}
	closedir(d);
	if (f->n > 1)
		qsort(f->list, f->n, sizeof(*f->list), by_name);
	return r;
}

static struct ds_config *new_config(void)
{
	struct ds_config *config = calloc(1, sizeof(*config));

	if (config)
		config->n_refs = 1;
	return config;
}

/* Keep @name for the nodes that will borrow it. */
static const char *keep_name(struct ds_config *config, const char *name)
{
	size_t n = 0;
	char **files;

	while (config->files && config->files[n])
		n++;
	files = reallocarray(config->files, n + 2, sizeof(*files));
	if (!files)
		return NULL;
	config->files = files;
	files[n] = strdup(name);
	files[n + 1] = NULL;
	return files[n];
}

/* Read a whole small file without ever waiting for it. Returns the size or a negative errno, noted. */
static ssize_t read_file(const char *path, char **text, struct ds_problems *problems)
{
	ds_cleanup(ds_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ds_cleanup(ds_freep) char *data = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		ssize_t r = -errno;

		ds_problem_at(problems, path, 0, 0, "cannot be opened: %s", strerror(errno));
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		ds_problem_at(problems, path, 0, 0, "not a regular file");
		return -EINVAL;
	}
	if (st.st_size > DS_YAML_MAX_SIZE) {
		ds_problem_at(problems, path, 0, 0, "the file is larger than 1 MiB");
		return -EINVAL;
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return -ENOMEM;
	n = read(fd, data, (size_t)st.st_size);
	if (n < 0) {
		n = -errno;
		ds_problem_at(problems, path, 0, 0, "cannot be read: %s", strerror(errno));
		return n;
	}
	*text = ds_steal(&data);
	return n;
}

static int read_tree(struct ds_config *config, struct ds_yaml **out, const char *path, struct ds_problems *problems)
{
	ds_cleanup(ds_freep) char *text = NULL;
	const char *name = keep_name(config, path);
	ssize_t n = read_file(path, &text, problems);

	if (n < 0 || !name)
		return n < 0 ? (int)n : -ENOMEM;
	return ds_yaml_parse(out, name, text, (size_t)n, problems);
}

/* Lay the file @path over config->tree. */
static int lay_over(struct ds_config *config, const char *path, struct ds_problems *problems)
{
	struct ds_yaml *tree = NULL;
	int r = read_tree(config, &tree, path, problems);

	if (r < 0)
		return r;
	if (config->tree)
		return ds_yaml_merge(config->tree, tree);
	config->tree = tree;
	return 0;
}

/* Takes ownership of @tree: one more model. */
static int add_model(struct ds_config *config, struct ds_yaml *tree, struct ds_problems *problems)
{
	struct ds_model_config *models = reallocarray(config->models, config->n_models + 1, sizeof(*models));
	struct ds_yaml **trees;

	if (models)
		config->models = models;
	trees = models ? reallocarray(config->model_trees, config->n_models + 1, sizeof(*trees)) : NULL;
	if (!trees) {
		ds_yaml_free(tree);
		return -ENOMEM;
	}
	config->model_trees = trees;
	trees[config->n_models] = tree;
	models[config->n_models] = (struct ds_model_config){.tree = tree};
	return ds_config_fill(&models[config->n_models++], ds_model_keys, tree, problems);
}

static const struct ds_model_config *model_called(const struct ds_config *config, size_t n_models, const char *name)
{
	for (size_t i = 0; i < n_models; i++) {
		const struct ds_model_config *m = &config->models[i];

		if (m->name && !strcmp(m->name, name))
			return m;
		for (char **alias = m->aliases; alias && *alias; alias++)
			if (!strcmp(*alias, name))
				return m;
	}
	return NULL;
}

/* A name means one model. */
static void check_names(const struct ds_config *config, struct ds_problems *problems)
{
	const struct ds_yaml *node = config->tree ? ds_yaml_get(config->tree, "default_model") : NULL;

	for (size_t i = 0; i < config->n_models; i++) {
		const struct ds_model_config *m = &config->models[i], *other;

		if (m->name && (other = model_called(config, i, m->name)))
			ds_problem(problems, ds_yaml_get(m->tree, "name"), "name", "\"%s\" is already a model of %s",
				   m->name, other->tree->file);
		for (size_t j = 0; m->aliases && m->aliases[j]; j++)
			if (m->name && !strcmp(m->aliases[j], m->name))
				ds_problem(problems, ds_yaml_get(m->tree, "aliases")->items[j], "aliases",
					   "\"%s\" is a name of this model already", m->aliases[j]);
			else if ((other = model_called(config, i, m->aliases[j])))
				ds_problem(problems, ds_yaml_get(m->tree, "aliases")->items[j], "aliases",
					   "\"%s\" is already a model of %s", m->aliases[j], other->tree->file);
	}
	if (node && config->default_model && config->default_model[0] &&
	    !model_called(config, config->n_models, config->default_model))
		ds_problem(problems, node, "default_model", "there is no model \"%s\"", config->default_model);
}

/* Lay the deepseekd.yaml in @dir over what is there; one that is /dev/null hides that. */
static int load_layer(struct ds_config *config, const char *dir, struct ds_problems *problems)
{
	char path[PATH_MAX + 32];
	struct stat st;

	snprintf(path, sizeof(path), "%s/deepseekd.yaml", dir);
	if (stat(path, &st) < 0)
		return 0;
	if (!is_null_device(&st))
		return lay_over(config, path, problems);
	config->tree = ds_yaml_free(config->tree);
	return 0;
}

/* Of each layer deepseekd.yaml, or @file in its place, and over it the layer's conf.d. @dirs is NULL-terminated. */
static int load_main(struct ds_config *config, const char *file, const char *const *dirs, struct ds_problems *problems)
{
	ds_cleanup(deinit_fragments) struct fragments conf = {0};
	int r = 0;

	for (size_t i = 0; dirs[i] && r != -ENOMEM; i++)
		r = find_fragments(&conf, dirs[i], "conf.d", problems);
	for (size_t i = 0; dirs[i] && r != -ENOMEM; i++) {
		r = file ? lay_over(config, file, problems) : load_layer(config, dirs[i], problems);
		for (size_t j = 0; j < conf.n && r != -ENOMEM; j++)
			if (conf.list[j].layer == dirs[i] && !conf.list[j].masked)
				r = lay_over(config, conf.list[j].path, problems);
	}
	if (!config->tree && problems->n == 0) {
		ds_problem_at(problems, dirs[0] ? dirs[0] : "deepseekd.yaml", 0, 0, "there is no deepseekd.yaml");
		return -EINVAL;
	}
	if (config->tree && r != -ENOMEM)
		r = ds_config_fill(config, ds_config_keys, config->tree, problems);
	return r;
}

static int load_models(struct ds_config *config, const char *const *dirs, struct ds_problems *problems)
{
	ds_cleanup(deinit_fragments) struct fragments models = {0};
	int r = 0;

	for (size_t i = 0; dirs[i] && r == 0; i++)
		r = find_fragments(&models, dirs[i], "models.d", problems);
	for (size_t i = 0; i < models.n && r != -ENOMEM; i++) {
		struct ds_yaml *tree = NULL;

		if (models.list[i].masked)
			continue;
		r = read_tree(config, &tree, models.list[i].path, problems);
		if (r == 0)
			r = add_model(config, tree, problems);
	}
	return r;
}

int ds_config_load(struct ds_config **out, const char *file, const char *const *layers, struct ds_problems *problems)
{
	ds_cleanup(ds_config_unrefp) struct ds_config *config = new_config();
	char beside[PATH_MAX];
	const char *alone[] = {beside, NULL}, *const *dirs = file ? alone : layers;
	int r;

	if (!config)
		return -ENOMEM;
	if (file) {
		const char *slash = strrchr(file, '/');

		snprintf(beside, sizeof(beside), "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
	}
	r = load_main(config, file, dirs, problems);
	if (r != -ENOMEM)
		r = load_models(config, dirs, problems);
	if (r == -ENOMEM)
		return r;
	check_names(config, problems);
	if (problems->n > 0)
		return -EINVAL;
	*out = ds_steal(&config);
	return 0;
}

int ds_config_parse(struct ds_config **out, const char *name, const char *text, size_t size,
		    struct ds_problems *problems)
{
	ds_cleanup(ds_config_unrefp) struct ds_config *config = new_config();
	int r;

	if (!config || !(name = keep_name(config, name)))
		return -ENOMEM;
	r = ds_yaml_parse(&config->tree, name, text, size, problems);
	if (r == 0)
		r = ds_config_fill(config, ds_config_keys, config->tree, problems);
	if (r < 0)
		return r;
	*out = ds_steal(&config);
	return 0;
}

int ds_config_parse_model(struct ds_config *config, const char *name, const char *text, size_t size,
			  struct ds_problems *problems)
{
	struct ds_yaml *tree = NULL;
	int r;

	name = keep_name(config, name);
	if (!name)
		return -ENOMEM;
	r = ds_yaml_parse(&tree, name, text, size, problems);
	if (r == 0)
		r = add_model(config, tree, problems);
	if (r == 0) {
		size_t n_before = problems->n;

		check_names(config, problems);
		r = problems->n > n_before ? -EINVAL : 0;
	}
	return r;
}

struct ds_config *ds_config_ref(struct ds_config *config)
{
	config->n_refs++;
	return config;
}

struct ds_config *ds_config_unref(struct ds_config *config)
{
	if (!config || --config->n_refs > 0)
		return NULL;
	for (size_t i = 0; i < config->n_models; i++) {
		ds_config_clear(&config->models[i], ds_model_keys);
		ds_yaml_free(config->model_trees[i]);
	}
	free(config->models);
	free(config->model_trees);
	ds_config_clear(config, ds_config_keys);
	ds_yaml_free(config->tree);
	for (size_t i = 0; config->files && config->files[i]; i++)
		free(config->files[i]);
	free(config->files);
	free(config);
	return NULL;
}

/* Keys of a model that say nothing of how it is loaded: they change while it runs. */
static const char *const live_keys[] = {"access", "aliases", "preload", "pin", "keep_alive"};

static json_t *load_keys(const struct ds_model_config *model)
{
	json_t *json = ds_config_to_json(model->tree);

	for (size_t i = 0; i < DS_ARRAY_SIZE(live_keys); i++)
		json_object_del(json, live_keys[i]);
	return json;
}

bool ds_config_same_model(const struct ds_model_config *a, const struct ds_model_config *b)
{
	json_t *left = load_keys(a), *right = load_keys(b);
	bool same = left && right && json_equal(left, right) && !strcmp(a->path, b->path);

	json_decref(left);
	json_decref(right);
	return same;
}

static void warn_access(const struct ds_yaml *tree, struct ds_problems *warnings)
{
	const struct ds_yaml *access = ds_yaml_get(tree, "access");

	if (!access)
		return;
	ds_who_warn(DS_WHO_USERS, ds_yaml_get(access, "users"), "access.users", warnings);
	ds_who_warn(DS_WHO_GROUPS, ds_yaml_get(access, "groups"), "access.groups", warnings);
}

void ds_config_warn(const struct ds_config *config, struct ds_problems *warnings)
{
	const struct ds_yaml *listen = ds_yaml_get(config->tree, "listen");
	gid_t gid;

	warn_access(config->tree, warnings);
	if (config->group[0] && !ds_who_group(config->group, &gid))
		ds_problem(warnings, ds_yaml_get(listen, "group"), "listen.group", "there is no group \"%.100s\"",
			   config->group);
	for (size_t i = 0; i < config->n_models; i++)
		warn_access(config->models[i].tree, warnings);
}

static bool option_fits(const json_t *option, const struct ds_yaml *node, char allowed[96])
{
	const char *type = json_string_value(json_object_get(option, "type"));
	const json_t *min = json_object_get(option, "min"), *max = json_object_get(option, "max");

	if (type && !strcmp(type, "bool")) {
		snprintf(allowed, 96, "true, false");
		return node->kind == DS_YAML_BOOL;
	}
	if (type && !strcmp(type, "text")) {
		snprintf(allowed, 96, "text");
		return node->kind == DS_YAML_TEXT;
	}
	snprintf(allowed, 96, "%s from %.10g to %.10g", type && !strcmp(type, "int") ? "a whole number" : "a number",
		 json_number_value(min), json_number_value(max));
	if (node->kind != DS_YAML_INT && (node->kind != DS_YAML_FLOAT || (type && !strcmp(type, "int"))))
		return false;
	return !json_is_number(min) || !json_is_number(max) ||
	       (node->number >= json_number_value(min) && node->number <= json_number_value(max));
}

/* Check the values of the map @given against the options of one plugin (@name) or of all of one kind (@kind). */
static void check_options(const json_t *catalog, const char *name, const char *kind, const struct ds_yaml *given,
			  const char *key, struct ds_problems *problems)
{
	for (size_t i = 0; i < given->n; i++) {
		const struct ds_yaml *node = given->items[i];
		const json_t *plugin, *option, *found = NULL;
		const char *names[128] = {0}, *nearest;
		char path[200], allowed[96];
		size_t p, o, n = 0;

		json_array_foreach (catalog, p, plugin) {
			const char *is = json_string_value(json_object_get(plugin, name ? "name" : "kind"));

			if (!is || strcmp(is, name ? name : kind))
				continue;
			json_array_foreach (json_object_get(plugin, "options"), o, option) {
				const char *called = json_string_value(json_object_get(option, "name"));

				if (called && n + 1 < DS_ARRAY_SIZE(names))
					names[n++] = called;
				if (called && !strcmp(called, node->key))
					found = option;
			}
		}
		snprintf(path, sizeof(path), "%s.%.64s", key, node->key);
		nearest = found ? NULL : ds_config_nearest(node->key, names);
		if (nearest)
			ds_problem_key(problems, node, path, "unknown option (did you mean %s?)", nearest);
		else if (!found)
			ds_problem_key(problems, node, path, "unknown option");
		else if (!option_fits(found, node, allowed))
			ds_problem(problems, node, path, "\"%.100s\" does not fit (allowed: %s)",
				   node->text ? node->text : "", allowed);
	}
}

static bool is_listed(char **names, const char *name)
{
	for (; names && *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

/* Does a plugin of @kind offer what the model names by the key of that name? */
static void check_entry(const json_t *catalog, const char *kind, const struct ds_yaml *model,
			struct ds_problems *problems)
{
	const struct ds_yaml *node = ds_yaml_get(model, kind);
	char allowed[200] = "auto";
	size_t used = strlen(allowed), p, e;
	const json_t *plugin, *entry;

	if (!node || !node->text || !strcmp(node->text, "auto"))
		return;
	json_array_foreach (catalog, p, plugin) {
		const char *is = json_string_value(json_object_get(plugin, "kind"));

		if (!is || strcmp(is, kind))
			continue;
		json_array_foreach (json_object_get(plugin, "entries"), e, entry) {
			const char *name = json_string_value(json_object_get(entry, "name"));

			if (name && !strcmp(name, node->text))
				return;
			if (name && used < sizeof(allowed))
				used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, ", %s", name);
		}
	}
	ds_problem(problems, node, kind, "\"%.100s\" is in no plugin of plugins.load (allowed: %s)", node->text,
		   allowed);
}

void ds_config_check_options(const struct ds_config *config, const json_t *catalog, struct ds_problems *problems)
{
	const struct ds_yaml *plugins = ds_yaml_get(config->tree, "plugins");
	const struct ds_yaml *options = plugins ? ds_yaml_get(plugins, "options") : NULL;

	for (size_t i = 0; options && i < options->n; i++) {
		const struct ds_yaml *given = options->items[i];
		char path[100];

		snprintf(path, sizeof(path), "plugins.options.%.64s", given->key);
		if (!is_listed(config->plugins, given->key))
			ds_problem_key(problems, given, path, "plugins.load has no such plugin");
		else
			check_options(catalog, given->key, NULL, given, path, problems);
	}
	for (size_t i = 0; i < config->n_models; i++) {
		const struct ds_yaml *sampling = ds_yaml_get(config->models[i].tree, "sampling");

		check_entry(catalog, "backend", config->models[i].tree, problems);
		check_entry(catalog, "dialect", config->models[i].tree, problems);
		if (sampling)
			check_options(catalog, NULL, "sampler", sampling, "sampling", problems);
	}
}

/* plugins.c - from a name in the configuration to a plugin that may be used, or to the reason why it may not.
 *
 * What a plugin says of itself is copied into its description when it is opened, so that a refused one can be shown
 * after it was unloaded. */
#include "plugins.h"

#include "plugin-check.h"
#include "vectors.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

struct plugin {
	const struct ds_plugin *plugin; /* NULL: refused or not of the wanted kinds */
	void *handle;
	int fd; /* open while the library is: dlopen() knows libraries by path, and ours holds this number */
	char *name;
	struct ds_error reason;
	json_t *description;
};

struct ds_plugins {
	size_t n;
	struct plugin list[];
};

static void log_to_stderr(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void log_to_stderr(int priority, const char *fmt, ...)
{
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	fprintf(stderr, "<%d>%s\n", priority & 7, line); /* one call a line: lines of two threads do not mix */
}

static void *alloc_zeroed(size_t size)
{
	return calloc(1, size);
}

const struct ds_host *ds_plugins_host(void)
{
	static const struct ds_host host = {
		.size = sizeof(host),
		.log = log_to_stderr,
		.alloc = alloc_zeroed,
		.free = free,
	};

	return &host;
}

/* May code be run from here? @what names it in the sentence. */
static int check_owner(int fd, mode_t type, const char *what, struct ds_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return ds_fail(err, -errno, "%s: %s", what, strerror(errno));
	if ((st.st_mode & S_IFMT) != type)
		return ds_fail(err, -EPERM, "%s is not a %s", what, type == S_IFDIR ? "directory" : "regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return ds_fail(err, -EPERM, "%s belongs to user %u, neither to root nor to user %u", what, st.st_uid,
			       geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return ds_fail(err, -EPERM, "%s is writable by group or others", what);
	return 0;
}

static int open_dir(const char *dir, int *out, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char what[160];
	int r;

	snprintf(what, sizeof(what), "plugins directory %s", dir);
	if (fd < 0)
		return ds_fail(err, -errno, "%s: %s", what, strerror(errno));
	r = check_owner(fd, S_IFDIR, what, err);
	if (r < 0)
		return r;
	*out = ds_steal_fd(&fd);
	return 0;
}

static int open_file(int dir_fd, const char *name, int *out, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	char file[128];
	int r;

	if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > sizeof(file) - 4)
		return ds_fail(err, -EINVAL, "\"%.64s\" is not a name of a plugin", name);
	snprintf(file, sizeof(file), "%s.so", name);
	fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return ds_fail(err, -errno, "%s: %s", file, strerror(errno));
	r = check_owner(fd, S_IFREG, file, err);
	if (r < 0)
		return r;
	*out = ds_steal_fd(&fd);
	return 0;
}

static json_t *option_number(enum ds_option_type type, double value)
{
	if (!isfinite(value))
		return json_null();
	return type == DS_OPTION_INT ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *describe_option(const struct ds_option *o)
{
	static const char *const types[] = {"bool", "int", "float", "text"};
	json_t *d = json_pack("{s:s, s:s}", "name", o->name, "type", types[o->type]);

	switch (o->type) {
	case DS_OPTION_BOOL:
		json_object_set_new(d, "default", json_boolean(o->value != 0));
		break;
	case DS_OPTION_TEXT:
		json_object_set_new(d, "default", json_string(o->text));
		break;
	default:
		json_object_set_new(d, "default", option_number(o->type, o->value));
		json_object_set_new(d, "min", option_number(o->type, o->min));
		json_object_set_new(d, "max", option_number(o->type, o->max));
	}
	json_object_set_new(d, "help", json_string(o->help));
	return d;
}

/* Copy what @plugin, which passed ds_plugin_check(), says of itself. */
static void describe_plugin(json_t *d, const struct ds_plugin *plugin)
{
	json_t *entries = json_array(), *options = json_array();

	for (const struct ds_entry *e = plugin->entries; e->name; e++)
		json_array_append_new(entries, json_pack("{s:s, s:s}", "name", e->name, "summary", e->summary));
	for (const struct ds_option *o = plugin->options; o && o->name; o++)
		json_array_append_new(options, describe_option(o));
	json_object_set_new(d, "kind", json_string(ds_plugin_kind_name(plugin->kind)));
	json_object_set_new(d, "version", json_string(plugin->version));
	json_object_set_new(d, "summary", json_string(plugin->summary));
	json_object_set_new(d, "entries", entries);
	json_object_set_new(d, "options", options);
}

static void unload(struct plugin *p)
{
	if (p->handle)
		dlclose(p->handle);
	if (p->fd >= 0)
		close(p->fd);
	p->handle = NULL;
	p->plugin = NULL;
	p->fd = -1;
}

/* Open the library of @p->fd and find what it exports. */
static int load(struct plugin *p, const struct ds_plugin **plugin, struct ds_error *err)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	p->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!p->handle)
		return ds_fail(err, -ENOEXEC, "cannot be opened: %.200s", dlerror());
	*plugin = dlsym(p->handle, "ds_plugin");
	if (!*plugin)
		return ds_fail(err, -EINVAL, "no symbol ds_plugin");
	if ((*plugin)->abi != DS_PLUGIN_ABI)
		return ds_fail(err, -EINVAL, "not built for this ABI: %u, this is %u", (*plugin)->abi, DS_PLUGIN_ABI);
	return 0;
}

/* Open the plugin @p->name. 0: usable, or of a kind that is not wanted; else refused, @p->reason says why. */
static int open_plugin(struct plugin *p, int dir_fd, unsigned kinds)
{
	const struct ds_plugin *plugin = NULL;
	size_t n_vectors = 0, n_passed = 0;
	int r = open_file(dir_fd, p->name, &p->fd, &p->reason);

	if (r == 0)
		r = load(p, &plugin, &p->reason);
	if (r == 0)
		r = ds_plugin_check(plugin, p->name, &p->reason);
	if (r < 0)
		return r;
	if (!(kinds & DS_KIND(plugin->kind))) {
		unload(p);
		return 0;
	}
	describe_plugin(p->description, plugin);
	r = ds_vectors_run(plugin, ds_plugins_host(), &n_vectors, &n_passed, &p->reason);
	json_object_set_new(p->description, "vectors", json_integer((json_int_t)n_vectors));
	json_object_set_new(p->description, "vectors_passed", json_integer((json_int_t)n_passed));
	if (r == 0)
		p->plugin = plugin;
	return r;
}

/* A fresh description: every key is there, whatever becomes of the plugin. */
static json_t *new_description(const char *dir, const char *name)
{
	char file[512];

	snprintf(file, sizeof(file), "%s/%s.so", dir, name);
	return json_pack("{s:s, s:s, s:n, s:n, s:n, s:s, s:n, s:[], s:[], s:i, s:i}", "name", name, "file", file,
			 "kind", "version", "summary", "state", "ok", "reason", "entries", "options", "vectors", 0,
			 "vectors_passed", 0);
}

static int refuse(struct plugin *p)
{
	unload(p);
	if (json_object_set_new(p->description, "state", json_string("refused")) < 0 ||
	    json_object_set_new(p->description, "reason", json_string(p->reason.text)) < 0)
		return -ENOMEM;
	return 0;
}

int ds_plugins_open(struct ds_plugins **out, const char *dir, const char *const *names, unsigned kinds,
		    struct ds_error *err)
{
	ds_cleanup(ds_plugins_freep) struct ds_plugins *plugins = NULL;
	ds_cleanup(ds_closep) int dir_fd = -1;
	struct ds_error dir_reason = {""};
	size_t n = 0;
	int dir_refused;

	while (names[n])
		n++;
	plugins = calloc(1, sizeof(*plugins) + n * sizeof(plugins->list[0]));
	if (!plugins)
		return ds_fail(err, -ENOMEM, "no memory for %zu plugins", n);
	dir_refused = open_dir(dir, &dir_fd, &dir_reason);
	for (size_t i = 0; i < n; i++) {
		struct plugin *p = &plugins->list[plugins->n++];
		int r = 0;

		p->fd = -1;
		p->reason = dir_reason;
		p->name = strdup(names[i]);
		p->description = new_description(dir, names[i]);
		if (!p->name || !p->description)
			return ds_fail(err, -ENOMEM, "no memory for plugin %s", names[i]);
		if (dir_refused || open_plugin(p, dir_fd, kinds) < 0)
			r = refuse(p);
		if (r < 0)
			return ds_fail(err, r, "no memory for plugin %s", names[i]);
	}
	*out = ds_steal(&plugins);
	return 0;
}

struct ds_plugins *ds_plugins_free(struct ds_plugins *plugins)
{
	for (size_t i = 0; plugins && i < plugins->n; i++) {
		struct plugin *p = &plugins->list[i];

		unload(p);
		free(p->name);
		json_decref(p->description);
	}
	free(plugins);
	return NULL;
}

const struct ds_plugin *ds_plugins_next(const struct ds_plugins *plugins, enum ds_plugin_kind kind, size_t *i)
{
	while (*i < plugins->n) {
		const struct ds_plugin *plugin = plugins->list[(*i)++].plugin;

		if (plugin && plugin->kind == kind)
			return plugin;
	}
	return NULL;
}

/* The sentence for an entry that is not there: what was asked, what there is, what was refused. */
static void explain_absence(const struct ds_plugins *plugins, enum ds_plugin_kind kind, const char *name,
			    struct ds_error *err)
{
	const struct ds_plugin *plugin;
	char there[200] = "", refused[sizeof(err->text)] = "";
	size_t used = 0;

	for (size_t i = 0; (plugin = ds_plugins_next(plugins, kind, &i));)
		for (const struct ds_entry *e = plugin->entries; e->name && used < sizeof(there); e++)
			used += (size_t)snprintf(there + used, sizeof(there) - used, "%s %s", used ? "," : "", e->name);
	used = 0;
	for (size_t i = 0; i < plugins->n && used < sizeof(refused); i++)
		if (*plugins->list[i].reason.text)
			used += (size_t)snprintf(refused + used, sizeof(refused) - used, "; refused: %s: %s",
						 plugins->list[i].name, plugins->list[i].reason.text);
	ds_fail(err, -ENOENT, "no %s \"%.64s\" (there is:%s)%.*s", ds_plugin_kind_name(kind), name,
		*there ? there : " none", (int)sizeof(refused), refused);
}

const void *ds_plugins_find(const struct ds_plugins *plugins, enum ds_plugin_kind kind, const char *name,
			    const struct ds_plugin **plugin, struct ds_error *err)
{
	const struct ds_plugin *candidate;

	for (size_t i = 0; (candidate = ds_plugins_next(plugins, kind, &i));) {
		const struct ds_entry *entry = ds_plugin_entry(candidate, name);

		if (!entry)
			continue;
		if (plugin)
			*plugin = candidate;
		return entry->ops;
	}
	explain_absence(plugins, kind, name, err);
	return NULL;
}

json_t *ds_plugins_describe(const struct ds_plugins *plugins)
{
	json_t *all = json_array();

	for (size_t i = 0; i < plugins->n; i++) {
		const struct plugin *p = &plugins->list[i];

		if (p->plugin || *p->reason.text)
			json_array_append(all, p->description);
	}
	return all;
}

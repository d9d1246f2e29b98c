/* doctor-models.c - dsctl doctor on plugins and models: what was refused, what failed, what cannot be read or held. */
#include "doctor.h"
#include "loader.h"
#include "memory.h"
#include "message.h"
#include "output.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

void ds_doctor_plugins(struct ds_doctor *d)
{
	const json_t *list = json_object_get(d->plugins, "plugins"), *plugin;
	size_t i, n = 0;

	if (!list)
		return;
	json_array_foreach (list, i, plugin) {
		if (strcmp(text(plugin, "state"), "ok") == 0) {
			n++;
			continue;
		}
		ds_doctor_find(d, DS_HEALTH_FAIL,
			       "install a plugin that fits this version, or take it out of plugins.load",
			       "%s is %s: %s", text(plugin, "name"), text(plugin, "state"), text(plugin, "reason"));
	}
	if (n == 0)
		ds_doctor_find(d, DS_HEALTH_FAIL, "plugins.load names none, or plugins.dir is wrong", "there is none");
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "%zu passed their test vectors", n);
}

void ds_doctor_models(struct ds_doctor *d)
{
	const json_t *models = json_object_get(d->status, "models"), *model;
	size_t i;

	if (!models)
		return;
	if (json_array_size(models) == 0)
		ds_doctor_find(d, DS_HEALTH_WARN,
			       "write a file to /etc/deepseekd/models.d, then systemctl reload deepseekd",
			       "none is registered");
	json_array_foreach (models, i, model) {
		char fix[256];

		snprintf(fix, sizeof(fix), "when that is mended: dsctl load %s", text(model, "name"));
		if (strcmp(text(model, "state"), "failed") == 0)
			ds_doctor_find(d, DS_HEALTH_FAIL, fix, "%s has failed: %s", text(model, "name"),
				       text(model, "reason"));
		else if (*text(model, "warning"))
			ds_doctor_find(d, DS_HEALTH_WARN, "correct its file in models.d", "%s: %s", text(model, "name"),
				       text(model, "warning"));
		else
			ds_doctor_find(d, DS_HEALTH_OK, NULL, "%s is %s", text(model, "name"), text(model, "state"));
	}
}

/* What the daemon's user must be able to read: a file, or the files of a directory. */
static bool can_read(struct ds_doctor *d, const char *what, const char *path)
{
	char fix[PATH_MAX + 128], real[PATH_MAX];
	struct stat st;

	/* A link leads through other directories: those of the cache of a downloader, most of the time. */
	if (!realpath(path, real)) {
		ds_doctor_find(d, DS_HEALTH_FAIL, "correct the path, or fetch the file again", "%s: %s: %s", what, path,
			       strerror(errno));
		return false;
	}
	if (strcmp(real, path) && !ds_doctor_walk(d, &d->user, what, real))
		return false;
	if (stat(real, &st) == 0 && ds_doctor_may(&d->user, real, S_ISDIR(st.st_mode) ? 5 : 4))
		return true;
	snprintf(fix, sizeof(fix), "setfacl -m u:%s:%s %s (or chmod)", d->user.name, S_ISDIR(st.st_mode) ? "rx" : "r",
		 real);
	ds_doctor_find(d, DS_HEALTH_FAIL, fix, "%s: %s may not read %s (mode %04o)", what, d->user.name, real,
		       st.st_mode & 07777);
	return false;
}

static bool is_weights(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".json") || !strcmp(dot, ".gguf"));
}

static bool can_read_all(struct ds_doctor *d, const char *what, const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;
	bool good = true;

	while (stream && (entry = readdir(stream))) {
		char path[PATH_MAX];

		if (is_weights(entry->d_name) &&
		    snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) < (int)sizeof(path))
			good &= can_read(d, what, path);
	}
	if (stream)
		closedir(stream);
	return good;
}

static bool is_below_home(const char *path)
{
	static const char *const homes[] = {"/home/", "/root/", "/run/user/"};

	for (size_t i = 0; i < DS_ARRAY_SIZE(homes); i++)
		if (strncmp(path, homes[i], strlen(homes[i])) == 0)
			return true;
	return false;
}

static void check_path(struct ds_doctor *d, const char *name, const char *path)
{
	char what[128];
	struct stat st;

	snprintf(what, sizeof(what), "model %s", name);
	if (!ds_doctor_walk(d, &d->user, what, path) || !can_read(d, what, path))
		return;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) && !can_read_all(d, what, path))
		return;
	if (d->hides_homes && is_below_home(path))
		ds_doctor_find(
			d, DS_HEALTH_FAIL,
			"move the model, to /var/lib/deepseekd for example, or set ProtectHome=read-only by systemctl "
			"edit deepseekd",
			"%s: %s is hidden from the service: its unit has ProtectHome=", what, path);
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "%s: %s may be read by %s", what, path, d->user.name);
}

void ds_doctor_paths(struct ds_doctor *d)
{
	const json_t *model;
	size_t i;

	if (d->status && !d->knows_user)
		ds_doctor_find(d, DS_HEALTH_WARN, "run dsctl doctor as root", "the user of the daemon is not known");
	if (d->knows_user)
		json_array_foreach (json_object_get(d->status, "models"), i, model)
			check_path(d, text(model, "name"), text(model, "path"));
}

/* Ask ds-loader what a model that is not in memory would need; the header of its files is enough. */
static void check_need(struct ds_doctor *d, const json_t *model, double left)
{
	const struct ds_loader_call call = {.path = text(model, "path"), .request = DS_MSG_INSPECT};
	double available = ds_memory_available(), least, all;
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	char need[32], have[32];
	const json_t *memory;
	struct ds_error err;

	if (ds_loader_run(&call, &answer, &err) < 0) {
		ds_doctor_find(d, DS_HEALTH_FAIL, "fetch the model again, or see dsctl inspect",
			       "model %s cannot be read: %s", text(model, "name"), err.text);
		return;
	}
	memory = json_object_get(answer, "memory");
	all = json_number_value(json_object_get(memory, "total"));
	least = all - json_number_value(json_object_get(memory, "kv"));
	ds_output_size(need, sizeof(need), least);
	if (least > left)
		ds_doctor_find(
			d, DS_HEALTH_WARN,
			"raise limits.memory, unload others, take fewer bits (dsctl quantize), or residency: mapped",
			"model %s needs %s without its cache; %s of limits.memory are left", text(model, "name"), need,
			left > 0 ? ds_output_size(have, sizeof(have), left) : "0 B");
	else if (available > 0 && least > available)
		ds_doctor_find(d, DS_HEALTH_WARN, "end other programs, take fewer bits, or residency: mapped",
			       "model %s needs %s without its cache; the machine has %s available", text(model, "name"),
			       need, ds_output_size(have, sizeof(have), available));
	else if (all > left || (available > 0 && all > available))
		ds_doctor_find(d, DS_HEALTH_WARN, "set a smaller context or parallel in its file in models.d",
			       "model %s fits, but not with a cache for its whole context", text(model, "name"));
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "model %s needs %s and its cache: that fits", text(model, "name"),
			       need);
}

void ds_doctor_memory(struct ds_doctor *d)
{
	const json_t *memory = json_object_get(d->status, "memory"), *model;
	double limit = json_number_value(json_object_get(memory, "limit"));
	double left = limit - json_number_value(json_object_get(memory, "held"));
	size_t i;

	if (!memory)
		return;
	json_array_foreach (json_object_get(d->status, "models"), i, model)
		if (strcmp(text(model, "state"), "ready") && access(text(model, "path"), R_OK) == 0)
			check_need(d, model, left);
}

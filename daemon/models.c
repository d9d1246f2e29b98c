/* models.c - the registry: which models the configuration names, and what concerns them all. */
#include "commands.h"
#include "model.h"
#include "observe.h"
#include "pressure.h"

#include <event2/event.h>
#include <string.h>

#define SHORT_MS 10000 /* after each word of memory pressure nothing is loaded for so long */

struct ds_model *ds_models_next(struct ds_models *models, struct ds_model *model)
{
	model = model ? model->next : models->list;
	while (model && !model->is_registered)
		model = model->next;
	return model;
}

/* By the newest configuration, even where a busy model still follows an older one. */
struct ds_model *ds_models_find(struct ds_models *models, const char *name)
{
	if (!*name)
		name = models->config->default_model;
	for (struct ds_model *m = NULL; (m = ds_models_next(models, m));) {
		const struct ds_model_config *c = m->next_mine ? m->next_mine : m->mine;

		if (!strcmp(c->name, name))
			return m;
		for (char **alias = c->aliases; *alias; alias++)
			if (!strcmp(*alias, name))
				return m;
	}
	return NULL;
}

const char **ds_models_argv(const struct ds_models *models, const struct ds_config *config, const char *program,
			    const char *first)
{
	return ds_commands_new(models->spec.libexec_dir, models->spec.plugin_dir, config, program, first);
}

static const struct ds_model_config *config_of(const struct ds_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_models; i++)
		if (!strcmp(config->models[i].name, name))
			return &config->models[i];
	return NULL;
}

int ds_models_apply(struct ds_models *models, struct ds_config *config, struct ds_error *err)
{
	struct ds_config *old = models->config;
	struct ds_model *next, *before = NULL;

	models->config = ds_config_ref(config);
	ds_config_unref(old);
	for (struct ds_model *m = models->list; m; m = next) {
		next = m->next;
		if (m->is_registered)
			ds_model_apply(m, config, config_of(config, m->mine->name));
	}
	for (size_t i = 0; i < config->n_models; i++) {
		struct ds_model *model = NULL;

		while ((model = ds_models_next(models, model)))
			if (!strcmp(model->mine->name, config->models[i].name))
				break;
		if (!model)
			model = ds_model_new(models, config, &config->models[i], before);
		if (!model)
			return ds_fail(err, -ENOMEM, "no memory for model %s", config->models[i].name);
		if (config->models[i].preload)
			ds_model_load(model, false);
		before = model;
	}
	ds_models_tell(models);
	return 0;
}

void ds_models_tell(const struct ds_models *models)
{
	if (models->observe)
		models->observe(models->observe_arg);
}

void ds_models_observe(struct ds_models *models, void (*fn)(void *arg), void *arg)
{
	models->observe = fn;
	models->observe_arg = arg;
}

void ds_models_relieve(struct ds_models *models)
{
	struct ds_model *oldest = NULL;

	if (models->stopping)
		return;
	if (ds_now_ms() >= models->short_until_ms)
		ds_log(LOG_WARNING, "memory is short: nothing is loaded, and models that nobody uses go");
	models->short_until_ms = ds_now_ms() + SHORT_MS;
	for (struct ds_model *m = models->list; m; m = m->next)
		if (m->state == DS_MODEL_READY && m->n_running == 0 && !m->mine->pin && (!oldest || m->last_use < oldest->last_use))
			oldest = m;
	if (!oldest)
		return;
	ds_log(LOG_NOTICE, "model %s: dropped, memory is short", oldest->mine->name);
	ds_model_drop(oldest, "it was dropped because memory was short");
}

void ds_models_stop(struct ds_models *models, unsigned seconds)
{
	struct ds_model *next;

	models->stopping = true;
	models->stop_s = seconds;
	for (struct ds_model *m = models->list; m; m = next) {
		next = m->next;
		event_del(m->timer);
		event_del(m->idle);
		if (m->loading)
			ds_loading_cancel(m->loading, "the daemon ends");
		if (m->engine)
			ds_engine_quit(m->engine, seconds);
	}
}

bool ds_models_are_stopped(const struct ds_models *models)
{
	for (const struct ds_model *m = models->list; m; m = m->next)
		if (m->loading || m->engine)
			return false;
	return true;
}

uint64_t ds_models_memory_held(const struct ds_models *models)
{
	uint64_t held = 0;

	for (const struct ds_model *m = models->list; m; m = m->next)
		held += m->held;
	return held;
}

bool ds_models_hold_images(const struct ds_models *models)
{
	for (const struct ds_model *m = models->list; m; m = m->next)
		if (m->loading || m->image >= 0)
			return true;
	return false;
}

int ds_models_new(struct ds_models **out, const struct ds_models_spec *spec, struct ds_error *err)
{
	struct ds_models *models = calloc(1, sizeof(*models));

	if (!models)
		return ds_fail(err, -ENOMEM, "no memory");
	models->spec = *spec;
	models->n_oom_kills = ds_pressure_oom_kills("/proc/vmstat");
	*out = models;
	return 0;
}

struct ds_models *ds_models_free(struct ds_models *models)
{
	if (!models)
		return NULL;
	while (models->list) {
		models->list->n_refs = 1;
		ds_model_unref(models->list);
	}
	ds_config_unref(models->config);
	free(models);
	return NULL;
}

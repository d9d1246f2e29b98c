/* models.h - the registry of models and the life of each.
 *
 *   absent -> loading -> ready -> unloading -> absent, or failed with the reason
 *
 * An image that systemd kept over a restart is taken instead of loading. A model that nobody used for keep_alive is unloaded,
 * unless it is pinned.
 *
 * A model that is ready has an image, and an engine or one that is about to start again. Weights are read once: an
 * engine that dies maps the same image anew. A reload of the configuration changes an idle model at once, a busy one
 * when its running requests have finished. */
#pragma once

#include "config.h"
#include "counters.h"
#include "helpers.h"
#include "store.h"

struct ds_models;
struct ds_model;
struct event_base;

enum ds_model_state {
	DS_MODEL_ABSENT,
	DS_MODEL_LOADING,
	DS_MODEL_READY,
	DS_MODEL_UNLOADING,
	DS_MODEL_FAILED,
};

extern const char *const ds_model_state_names[];

/* What the requests of models need to know. */
struct ds_models_events {
	void (*on_change)(void *arg, struct ds_model *model); /* state, engine or slots: dispatch or fail what waits */
	int (*on_batch)(void *arg, struct ds_model *model, const uint8_t *batch, size_t size, struct ds_error *err);
	void (*on_engine_end)(void *arg, struct ds_model *model, const char *reason);
};

struct ds_models_spec {
	struct event_base *base;
	struct ds_helpers *helpers;
	struct ds_store *store; /* where images are found again after a restart */
	const char *libexec_dir, *plugin_dir; /* plugin_dir NULL: as configured; both borrowed */
	const struct ds_models_events *events;
	void *arg;
};

int ds_models_new(struct ds_models **out, const struct ds_models_spec *spec, struct ds_error *err);
struct ds_models *ds_models_free(struct ds_models *models); /* takes NULL, returns NULL; after ds_helpers_free() */
DS_DEFINE_FREEP(ds_models)

/* Follow @config from now on: new models appear, vanished ones unload when idle, changed ones load anew on next use. */
int ds_models_apply(struct ds_models *models, struct ds_config *config, struct ds_error *err);
/* Memory is short: for some seconds nothing is loaded, and of the models that nobody uses the one that was used longest
 * ago is unloaded. Called again as long as it is. */
void ds_models_relieve(struct ds_models *models);
/* Nothing starts any more; engines end when their requests have. @seconds: then they are killed. */
void ds_models_stop(struct ds_models *models, unsigned seconds);
bool ds_models_are_stopped(const struct ds_models *models);
/* Has any of them an image, or is about to? */
bool ds_models_hold_images(const struct ds_models *models);

/* One more listener: after anything of any model may have changed (but its progress), and after ds_models_apply().
 * @fn NULL: no more. */
void ds_models_observe(struct ds_models *models, void (*fn)(void *arg), void *arg);

/* Bytes of limits.memory that models hold or are promised. */
uint64_t ds_models_memory_held(const struct ds_models *models);

/* By name or alias; "" is the default model. NULL: there is none. */
struct ds_model *ds_models_find(struct ds_models *models, const char *name);
/* The next registered model after @model (NULL: the first), or NULL. */
struct ds_model *ds_models_next(struct ds_models *models, struct ds_model *model);
/* The argument vector of a helper: @program --plugin-dir DIR --plugin NAME..., @first before them if not NULL.
 * Free with free(); the strings are borrowed from @config. */
const char **ds_models_argv(const struct ds_models *models, const struct ds_config *config, const char *program,
			    const char *first);

/* Who holds a model may ask about it, even when it is no longer registered. */
struct ds_model *ds_model_ref(struct ds_model *model);
struct ds_model *ds_model_unref(struct ds_model *model); /* takes NULL, returns NULL */

/* Begin to load it if it is absent or failed. @insist: also right after a failure. */
void ds_model_load(struct ds_model *model, bool insist);
void ds_model_unload(struct ds_model *model);

/* Call @done once when the model is neither loading nor unloading. Returns a handle, or NULL without memory. */
struct ds_model_wait *ds_model_wait(struct ds_model *model, void (*done)(void *arg), void *arg);
void ds_model_unwait(struct ds_model *model, struct ds_model_wait *wait);

enum ds_model_state ds_model_get_state(const struct ds_model *model);
int ds_model_get_percent(const struct ds_model *model); /* of loading; -1: not known yet */
/* What a program is told of a failed model: model_failed or memory_pressure. */
const char *ds_model_get_failure(const struct ds_model *model);
const char *ds_model_get_reason(const struct ds_model *model); /* of failure, or "" */
const struct ds_model_config *ds_model_get_config(const struct ds_model *model);
int64_t ds_model_get_vocab(const struct ds_model *model); /* of a model that was loaded, else 0 */
bool ds_model_is_registered(const struct ds_model *model);

/* Can it take one more request now? Then begin one, speak to its engine, end it. */
bool ds_model_has_slot(const struct ds_model *model);
void ds_model_begin(struct ds_model *model);
void ds_model_send(struct ds_model *model, uint16_t type, uint64_t request, const void *data, size_t size);
void ds_model_end(struct ds_model *model, bool finished);

struct ds_counters *ds_model_counters(struct ds_model *model); /* borrowed */

/* The model's object of docs/architecture.md. @n_waiting: requests that wait in the broker. */
json_t *ds_model_describe(const struct ds_model *model, size_t n_waiting);

/* model.h - the inside of a model and of their registry, for model.c and models.c alone; everybody else has models.h. */
#pragma once

#include "counters.h"
#include "engines.h"
#include "loading.h"
#include "models.h"

#include <time.h>

struct event;

struct ds_model_wait {
	struct ds_model_wait *next;
	void (*done)(void *arg);
	void *arg;
};

struct ds_model {
	struct ds_model *next;
	struct ds_models *all;
	unsigned n_refs; /* of the registry, its loader, its engine, and of requests */
	bool is_registered;

	struct ds_config *config; /* referenced: what this model follows */
	const struct ds_model_config *mine;
	struct ds_config *next_config; /* referenced: what it will follow when it is idle */
	const struct ds_model_config *next_mine;

	enum ds_model_state state;
	char reason[512], warning[128];
	struct ds_model_wait *waits;

	struct ds_loading *loading;
	struct ds_plan plan;
	uint64_t held; /* bytes of the budget */
	uint64_t done, total;
	int image; /* sealed, read-only; -1: none */
	json_t *loaded;
	struct ds_mapped *mapped; /* the files that the weights stay in; NULL: none */
	char *identity;		  /* of the image; NULL: none */
	bool is_kept;		  /* systemd has the image too */
	bool is_restored;	  /* from a daemon before this one, and no engine has served it yet */

	struct ds_engine *engine;
	struct event *timer; /* the next start of the engine */
	struct event *idle;  /* pending while nobody uses it: keep_alive */
	unsigned n_barren;   /* engines that died in a row without having finished a request */
	unsigned n_unready;  /* and those that were never ready */
	unsigned n_failures; /* of loads in a row */
	uint64_t failed_ms;
	bool lacks_memory; /* it failed because memory is short now */
	struct ds_engine_load load;
	int64_t kv_tokens, context;

	uint64_t n_loads, n_engine_starts;
	unsigned n_running;
	struct ds_counters counters;
	uint64_t last_use; /* counts up over all models, whenever a request begins or ends */
};

struct ds_models {
	struct ds_models_spec spec;
	struct ds_config *config; /* referenced: the newest */
	struct ds_model *list;
	void (*observe)(void *arg);
	void *observe_arg;
	bool stopping;
	unsigned stop_s;
	uint64_t n_uses;
	uint64_t short_until_ms; /* of memory: nothing is loaded before */
	uint64_t n_oom_kills;
};

static inline uint64_t ds_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* model.c: one more in the registry, listed after @before, NULL: first. NULL: no memory. */
struct ds_model *ds_model_new(struct ds_models *models, struct ds_config *config, const struct ds_model_config *mine,
			      struct ds_model *before);
/* @mine is what the new configuration says of @model, NULL: nothing any more. */
void ds_model_apply(struct ds_model *model, struct ds_config *config, const struct ds_model_config *mine);
/* Unload it, for the sake of others. */
void ds_model_drop(struct ds_model *model, const char *reason);

/* models.c: whoever observes the models is told that one has changed. */
void ds_models_tell(const struct ds_models *models);

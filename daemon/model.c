/* model.c - the life of a model: absent, loading, ready, unloading, or failed, with its loader, its image and its engine. */
#include "model.h"
#include "budget.h"
#include "commands.h"
#include "images.h"
#include "observe.h"
#include "pressure.h"

#include <event2/event.h>
#include <string.h>

#define UNLOAD_S 30   /* an engine without requests ends within this, or is killed */
#define RETRY_MS 1000 /* after a failed load, doubled each time */
#define RETRY_MAX_MS 60000
#define RESTART_MS 50 /* after the second death of an engine that finished nothing, doubled each time */
#define RESTART_MAX_MS 2000
#define STARTS_MAX 5 /* engines that died before they were ready: then the model has failed */

const char *const ds_model_state_names[] = {"absent", "loading", "ready", "unloading", "failed"};

static void start_engine(struct ds_model *model);
static void start_loading(struct ds_model *model);

static struct timeval to_timeval(uint64_t usec)
{
	return (struct timeval){.tv_sec = (time_t)(usec / 1000000), .tv_usec = (long)(usec % 1000000)};
}

/* @first, doubled @n times, at most @max. */
static uint64_t doubled(uint64_t first, unsigned n, uint64_t max)
{
	return n < 16 && first << n < max ? first << n : max;
}

static bool is_settled(const struct ds_model *model)
{
	return model->state != DS_MODEL_LOADING && model->state != DS_MODEL_UNLOADING;
}

/* Tell those who wait for this model, and the requests. A callback may end the life of anything but @model. */
static void changed(struct ds_model *model)
{
	ds_model_ref(model);
	while (is_settled(model) && model->waits) {
		struct ds_model_wait *wait = model->waits;

		model->waits = wait->next;
		wait->done(wait->arg);
		free(wait);
	}
	model->all->spec.events->on_change(model->all->spec.arg, model);
	ds_models_tell(model->all);
	ds_model_unref(model);
}

static void become(struct ds_model *model, enum ds_model_state state)
{
	if (model->state != state)
		ds_observe_model_state(model->mine->name, ds_model_state_names[state], model->reason);
	model->state = state;
	changed(model);
}

/* Let go of the image and all that was known of it. At the end of the daemon systemd keeps it for the next one. */
static void drop_image(struct ds_model *model)
{
	if (model->is_kept && !model->all->stopping)
		ds_store_remove(model->all->spec.store, model->identity);
	model->is_kept = model->is_restored = false;
	free(ds_steal(&model->identity));
	if (model->image >= 0)
		close(model->image);
	model->image = -1;
	model->held = 0;
	json_decref(model->loaded);
	model->loaded = NULL;
	model->mapped = ds_mapped_free(model->mapped);
	model->kv_tokens = model->context = 0;
	model->warning[0] = '\0';
	model->load = (struct ds_engine_load){0};
	model->n_barren = model->n_unready = 0;
	event_del(model->timer);
	event_del(model->idle);
}

/* Nobody uses it now: from here on keep_alive counts. */
static void begin_idling(struct ds_model *model)
{
	struct timeval delay = to_timeval(model->mine->keep_alive_usec);

	event_del(model->idle);
	if (model->state == DS_MODEL_READY && model->n_running == 0 && !model->mine->pin &&
	    model->mine->keep_alive_usec != DS_CONFIG_NEVER)
		event_add(model->idle, &delay);
}

static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct ds_model *model = arg;

	if (model->all->stopping || model->state != DS_MODEL_READY || model->n_running > 0)
		return;
	ds_log(LOG_INFO, "model %s: not used for its keep_alive", model->mine->name);
	ds_model_unload(model);
}

/* Give the image to systemd, which keeps it while this daemon ends and another begins. */
static void keep_image(struct ds_model *model)
{
	struct ds_about about = {.plan = model->plan, .n_loads = model->n_loads, .loaded = model->loaded};
	struct ds_error err;

	if (model->is_kept || !model->identity)
		return;
	model->is_kept = ds_store_put(model->all->spec.store, model->identity, model->image, &about, &err) == 0;
	if (!model->is_kept)
		ds_log(LOG_WARNING, "model %s: %s; after a restart it is loaded again", model->mine->name, err.text);
}

static void follow(struct ds_model *model, struct ds_config *config, const struct ds_model_config *mine)
{
	struct ds_config *old = model->config;

	model->config = ds_config_ref(config);
	model->mine = mine;
	ds_config_unref(old);
}

/* It is idle: the configuration that waited comes into force. */
static void take_next_config(struct ds_model *model)
{
	if (!model->next_config)
		return;
	follow(model, model->next_config, model->next_mine);
	model->next_config = ds_config_unref(model->next_config);
	model->next_mine = NULL;
	model->n_failures = 0;
}

static void become_absent(struct ds_model *model)
{
	drop_image(model);
	take_next_config(model);
	become(model, DS_MODEL_ABSENT);
}

/* A reason is shown as JSON, so it must be UTF-8; a file's name in it need not be, and a long one is cut anywhere. */
static void set_reason(struct ds_model *model, const char *reason)
{
	json_t *text;

	snprintf(model->reason, sizeof(model->reason), "%s", reason);
	text = json_string(model->reason);
	for (char *p = model->reason; !text && *p; p++)
		*p = (*p & 0x80) ? '?' : *p;
	json_decref(text);
}

static void failed(struct ds_model *model, const char *reason)
{
	set_reason(model, reason);
	drop_image(model);
	take_next_config(model);
	model->n_failures++;
	model->counters.failures++;
	model->failed_ms = ds_now_ms();
	become(model, DS_MODEL_FAILED);
}

/* A model that is to go, or to change, does so as soon as nothing runs. */
static void leave_when_idle(struct ds_model *model)
{
	bool leave = !model->is_registered || model->next_config || model->state == DS_MODEL_UNLOADING;

	if (!leave || model->n_running > 0 || model->loading)
		return;
	if (model->state == DS_MODEL_FAILED || model->state == DS_MODEL_ABSENT) {
		take_next_config(model);
		return;
	}
	if (model->engine) {
		ds_engine_quit(model->engine, UNLOAD_S);
		if (model->state != DS_MODEL_UNLOADING)
			become(model, DS_MODEL_UNLOADING);
	} else {
		become_absent(model);
	}
}

/* The engine */

static void on_ready(void *arg, const json_t *ready)
{
	struct ds_model *model = arg;

	model->kv_tokens = json_integer_value(json_object_get(ready, "kv_tokens"));
	model->n_unready = 0;
	model->n_failures = 0;
	model->is_restored = false;
	keep_image(model);
	if (model->state == DS_MODEL_LOADING) {
		become(model, DS_MODEL_READY);
		begin_idling(model);
	} else {
		changed(model);
	}
}

static int on_batch(void *arg, const uint8_t *batch, size_t size, struct ds_error *err)
{
	struct ds_model *model = arg;

	return model->all->spec.events->on_batch(model->all->spec.arg, model, batch, size, err);
}

static void on_load(void *arg, const struct ds_engine_load *load)
{
	((struct ds_model *)arg)->load = *load;
}

static void restart_later(struct ds_model *model)
{
	struct timeval delay = {0};

	if (model->n_barren > 1)
		delay = to_timeval(doubled(RESTART_MS, model->n_barren - 2, RESTART_MAX_MS) * 1000);
	event_add(model->timer, &delay);
}

static void on_engine_end(void *arg, bool refused, const char *reason)
{
	struct ds_model *model = arg;
	struct ds_models *all = model->all;
	uint64_t n_oom_kills = ds_pressure_oom_kills("/proc/vmstat");
	bool was_ready = ds_engine_is_ready(model->engine);
	struct ds_error changed;

	model->engine = NULL;
	model->load = (struct ds_engine_load){0};
	model->all->spec.events->on_engine_end(model->all->spec.arg, model, reason);
	if (model->state == DS_MODEL_UNLOADING || model->all->stopping) {
		become_absent(model);
	} else if (model->image >= 0) { /* else its last request took the image along */
		model->n_barren++;
		model->counters.engine_deaths++;
		ds_observe_engine_died(model->mine->name, reason);
		model->n_unready = was_ready ? 0 : model->n_unready + 1;
		if (refused && model->is_restored) { /* packed for another backend than there is now */
			ds_log(LOG_NOTICE, "model %s: the kept image is of no use: %s", model->mine->name, reason);
			drop_image(model);
			start_loading(model);
		} else if (model->mapped && ds_mapped_check(model->mapped, model->mine->path, &changed) < 0)
			failed(model, changed.text);
		else if (refused || model->n_unready >= STARTS_MAX)
			failed(model, reason);
		else
			restart_later(model);
	}
	ds_model_unref(model); /* the engine's reference */
	/* Somebody was ended for want of memory, and it may well have been this one. */
	if (n_oom_kills > all->n_oom_kills)
		ds_models_relieve(all);
	all->n_oom_kills = n_oom_kills;
}

static const struct ds_engine_events engine_events = {
	.on_ready = on_ready,
	.on_batch = on_batch,
	.on_load = on_load,
	.on_end = on_engine_end,
};

static json_t *wishes(const struct ds_model *model)
{
	const struct ds_model_config *c = model->mine;

	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "model", c->name, "precision", c->precision,
			 "parallel", (json_int_t)c->parallel, "kv_type", c->kv_type, "backend",
			 c->backend, "dialect", c->dialect, "residency", c->residency);
}

static void start_engine(struct ds_model *model)
{
	ds_cleanup(ds_freep) const char **argv = ds_models_argv(model->all, model->all->config, "ds-engine", NULL);
	json_t *map = wishes(model), *options = model->config->plugin_options;
	struct ds_error err = {"no memory"};
	unsigned n_fds = 0;
	ds_cleanup(ds_freep) int *fds = ds_mapped_descriptors(model->mapped, model->mine->path, model->image, &n_fds, &err);
	int r = -ENOMEM;

	json_object_set_new(map, "context", json_integer(model->context));
	json_object_set(map, "sampling", model->mine->sampling);
	json_object_set(map, "plugins", options);
	if (argv && map && fds)
		r = ds_engine_start(&model->engine, model->all->spec.base, model->all->spec.helpers, argv, fds, n_fds,
				    map, &engine_events, model, &err);
	json_decref(map);
	if (r < 0) {
		failed(model, err.text);
		return;
	}
	model->n_engine_starts++;
	ds_engine_set_step_timeout(model->engine, model->config->step_usec);
	ds_model_ref(model);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct ds_model *model = arg;

	if (model->image >= 0 && !model->engine && !model->all->stopping)
		start_engine(model);
}

/* The loader */

/* @loaded: the image is in memory already, only what comes besides is still to be had. */
static int claim(struct ds_model *model, bool loaded, struct ds_error *err)
{
	struct ds_budget_need need;
	const struct ds_budget_ask ask = {
		.plan = &model->plan,
		.context = (uint64_t)model->mine->context,
		.parallel = (uint64_t)model->mine->parallel,
		.limit = model->config->memory,
		.held = ds_models_memory_held(model->all) - model->held,
		.present = loaded,
	};
	int r = ds_budget_grant(&need, &ask, ds_budget_available(""), err);

	if (r < 0) {
		ds_observe_memory_refused(model->mine->name, err->text);
		return r;
	}
	model->held = ds_budget_need_sum(&need);
	model->context = (int64_t)need.context;
	return 0;
}

static int on_plan(void *arg, const struct ds_plan *plan, struct ds_error *err)
{
	struct ds_model *model = arg;

	model->plan = *plan;
	return claim(model, false, err);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct ds_model *model = arg;

	model->done = done;
	model->total = total;
}

/* What differs from what people expect: a configured context beyond the model's, or one that memory made shorter. */
static void tell_of_context(struct ds_model *model)
{
	long long own = (long long)model->plan.context, wanted = (long long)model->mine->context;

	model->warning[0] = '\0';
	if (wanted > own)
		snprintf(model->warning, sizeof(model->warning),
			 "context: %lld is more than the model's own limit, %lld is used", wanted, own);
	if (model->warning[0])
		ds_log(LOG_WARNING, "model %s: %s", model->mine->name, model->warning);
	else if (model->context < own && !wanted)
		ds_log(LOG_NOTICE, "model %s: context %lld of %lld, as memory allows", model->mine->name,
		       (long long)model->context, own);
}

/* The image is there: is there memory for the rest of it? Then start its engine. */
static void take_image(struct ds_model *model, int image, const json_t *loaded, struct ds_mapped *mapped)
{
	struct ds_error err;

	model->image = image;
	model->mapped = mapped;
	model->loaded = json_deep_copy(loaded);
	if (claim(model, true, &err) < 0) {
		failed(model, err.text);
		return;
	}
	tell_of_context(model);
	if (model->state == DS_MODEL_LOADING)
		start_engine(model);
	leave_when_idle(model);
}

static void on_loading_end(void *arg, int image, const json_t *loaded, struct ds_mapped *mapped,
			   const char *reason)
{
	struct ds_model *model = arg;

	if (image >= 0) {
		json_t *load = wishes(model);

		model->n_loads++;
		free(model->identity);
		model->identity = ds_store_identify(load, ds_loading_files(model->loading));
		json_decref(load);
	}
	model->loading = NULL;
	if (image >= 0 && !model->all->stopping) {
		take_image(model, image, loaded, mapped);
	} else {
		ds_mapped_free(mapped);
		if (image >= 0)
			close(image);
	}
	if (model->all->stopping || (image < 0 && model->state == DS_MODEL_UNLOADING))
		become_absent(model);
	else if (image < 0)
		failed(model, reason);
	ds_model_unref(model); /* the loader's reference */
}

static const struct ds_loading_events loading_events = {
	.on_plan = on_plan,
	.on_progress = on_progress,
	.on_end = on_loading_end,
};

static void start_loading(struct ds_model *model)
{
	ds_cleanup(ds_freep) const char **argv = ds_models_argv(model->all, model->all->config, "ds-loader", NULL);
	json_t *load = wishes(model);
	struct ds_loading_spec spec = {
		.argv = argv, .name = model->mine->name, .path = model->mine->path, .load = load};
	struct ds_error err = {"no memory"};
	int r = -ENOMEM;

	model->done = model->total = 0;
	model->reason[0] = '\0';
	model->lacks_memory = false;
	become(model, DS_MODEL_LOADING);
	if (argv && load)
		r = ds_loading_start(&model->loading, model->all->spec.helpers, &spec, &loading_events, model, &err);
	json_decref(load);
	if (r < 0)
		failed(model, err.text);
	else
		ds_model_ref(model);
}

/* Its image as systemd kept it, if there is one. */
static void restore(struct ds_model *model)
{
	json_t *load = wishes(model);
	struct ds_restored kept;

	if (ds_store_take(model->all->spec.store, load, model->mine->path, &kept) == 0) {
		ds_log(LOG_INFO, "model %s: its image was kept by systemd", model->mine->name);
		model->identity = kept.identity;
		model->is_kept = model->is_restored = true;
		model->plan = kept.about.plan;
		model->n_loads = kept.about.n_loads;
		become(model, DS_MODEL_LOADING);
		take_image(model, kept.image, kept.about.loaded, kept.mapped);
		json_decref(kept.about.loaded);
	}
	json_decref(load);
}

void ds_model_load(struct ds_model *model, bool insist)
{
	uint64_t pause = doubled(RETRY_MS, model->n_failures ? model->n_failures - 1 : 0, RETRY_MAX_MS);

	if (model->all->stopping || !model->is_registered)
		return;
	if (model->state == DS_MODEL_FAILED && !insist &&
	    ds_now_ms() - model->failed_ms < pause)
		return;
	if (model->state != DS_MODEL_ABSENT && model->state != DS_MODEL_FAILED)
		return;
	if (ds_now_ms() < model->all->short_until_ms) {
		model->lacks_memory = true;
		failed(model, "memory is short on this machine: nothing is loaded for some seconds");
		return;
	}
	start_loading(model);
}

void ds_model_unload(struct ds_model *model)
{
	if (model->loading) {
		become(model, DS_MODEL_UNLOADING);
		ds_loading_cancel(model->loading, "the model was unloaded while it was loading");
	} else if (model->state == DS_MODEL_READY || model->state == DS_MODEL_LOADING) {
		become(model, DS_MODEL_UNLOADING);
		leave_when_idle(model);
	} else if (model->state == DS_MODEL_FAILED) {
		become_absent(model);
	}
}

struct ds_model_wait *ds_model_wait(struct ds_model *model, void (*done)(void *arg), void *arg)
{
	struct ds_model_wait *wait = calloc(1, sizeof(*wait)), **at = &model->waits;

	if (!wait)
		return NULL;
	*wait = (struct ds_model_wait){.done = done, .arg = arg};
	while (*at)
		at = &(*at)->next;
	*at = wait;
	return wait;
}

void ds_model_unwait(struct ds_model *model, struct ds_model_wait *wait)
{
	for (struct ds_model_wait **at = &model->waits; *at; at = &(*at)->next)
		if (*at == wait) {
			*at = wait->next;
			free(wait);
			return;
		}
}

/* Requests */

bool ds_model_has_slot(const struct ds_model *model)
{
	return model->state == DS_MODEL_READY && model->engine && ds_engine_is_ready(model->engine) &&
	       !model->next_config && model->is_registered && model->n_running < (unsigned)model->mine->parallel;
}

void ds_model_begin(struct ds_model *model)
{
	event_del(model->idle);
	model->n_running++;
	model->last_use = ++model->all->n_uses;
}

void ds_model_send(struct ds_model *model, uint16_t type, uint64_t request, const void *data, size_t size)
{
	if (model->engine)
		ds_engine_send(model->engine, type, request, data, size);
}

void ds_model_end(struct ds_model *model, bool finished)
{
	model->n_running--;
	model->last_use = ++model->all->n_uses;
	if (finished)
		model->n_barren = 0;
	ds_model_ref(model);
	begin_idling(model);
	leave_when_idle(model);
	ds_model_unref(model);
}

/* What is known of a model */

enum ds_model_state ds_model_get_state(const struct ds_model *model)
{
	return model->state;
}

int ds_model_get_percent(const struct ds_model *model)
{
	return model->total > 0 && model->done <= model->total ? (int)(100.0 * (double)model->done / (double)model->total) : -1;
}

const char *ds_model_get_failure(const struct ds_model *model)
{
	return model->lacks_memory ? "memory_pressure" : "model_failed";
}

const char *ds_model_get_reason(const struct ds_model *model)
{
	return model->reason;
}

const struct ds_model_config *ds_model_get_config(const struct ds_model *model)
{
	return model->mine;
}

int64_t ds_model_get_vocab(const struct ds_model *model)
{
	return json_integer_value(json_object_get(model->loaded, "vocab"));
}

bool ds_model_is_registered(const struct ds_model *model)
{
	return model->is_registered;
}

struct ds_counters *ds_model_counters(struct ds_model *model)
{
	return &model->counters;
}

/* A number or text that the loader said, or JSON null. */
static json_t *said(const struct ds_model *model, const char *key)
{
	json_t *value = json_object_get(model->loaded, key);

	return value ? json_incref(value) : json_null();
}

json_t *ds_model_describe(const struct ds_model *model, size_t n_waiting)
{
	json_t *aliases = json_array(), *capabilities = json_object_get(model->loaded, "capabilities");
	int64_t context = model->context ? model->context : model->mine->context;

	for (char **alias = model->mine->aliases; *alias; alias++)
		json_array_append_new(aliases, json_string(*alias));
	return json_pack(
		"{s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:{s:I, s:I}, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:i, "
		"s:I, s:I, s:i, s:I}",
		"name", model->mine->name, "aliases", aliases, "path", model->mine->path, "state", ds_model_state_names[model->state],
		"reason", model->reason, "warning", model->warning, "capabilities",
		capabilities ? json_incref(capabilities) : json_array(), "progress", "done", (json_int_t)model->done, "total",
		(json_int_t)model->total, "context", (json_int_t)context, "context_limit", said(model, "context"), "vocab", said(model, "vocab"), "architecture",
		said(model, "architecture"), "dialect", said(model, "dialect"), "parameters", said(model, "parameters"),
		"image_size", (json_int_t)(model->image >= 0 ? model->plan.image_size : 0), "mapped_size",
		(json_int_t)(model->image >= 0 ? model->plan.mapped_size : 0), "loads",
		(json_int_t)model->n_loads, "engine_starts", (json_int_t)model->n_engine_starts, "engine_pid",
		model->engine ? (int)ds_engine_pid(model->engine) : 0, "kv_tokens", (json_int_t)model->kv_tokens,
		"kv_tokens_used", (json_int_t)model->load.kv_tokens_used, "running", (int)model->n_running, "waiting",
		(json_int_t)n_waiting);
}

/* In the registry */

struct ds_model *ds_model_ref(struct ds_model *model)
{
	model->n_refs++;
	return model;
}

static struct ds_model *free_model(struct ds_model *model)
{
	if (model->timer)
		event_free(model->timer);
	if (model->idle)
		event_free(model->idle);
	ds_config_unref(model->config);
	ds_config_unref(model->next_config);
	free(model);
	return NULL;
}

struct ds_model *ds_model_unref(struct ds_model *model)
{
	if (!model || --model->n_refs > 0)
		return NULL;
	for (struct ds_model **at = &model->all->list; *at; at = &(*at)->next)
		if (*at == model) {
			*at = model->next;
			break;
		}
	drop_image(model);
	return free_model(model);
}

struct ds_model *ds_model_new(struct ds_models *models, struct ds_config *config, const struct ds_model_config *mine,
			      struct ds_model *before)
{
	struct ds_model *model = calloc(1, sizeof(*model)), **at = before ? &before->next : &models->list;

	if (!model)
		return NULL;
	*model = (struct ds_model){.all = models, .n_refs = 1, .is_registered = true, .image = -1};
	model->timer = evtimer_new(models->spec.base, on_timer, model);
	model->idle = evtimer_new(models->spec.base, on_idle, model);
	if (!model->timer || !model->idle) {
		free_model(model);
		return NULL;
	}
	follow(model, config, mine);
	model->next = *at;
	*at = model;
	restore(model);
	return model;
}

void ds_model_apply(struct ds_model *model, struct ds_config *config, const struct ds_model_config *mine)
{
	bool same = mine && ds_commands_are_same(model->config, config) && ds_config_same_model(model->mine, mine);

	model->is_registered = mine;
	model->next_config = ds_config_unref(model->next_config);
	model->next_mine = NULL;
	if (same) {
		follow(model, config, mine);
		begin_idling(model);
		if (model->engine)
			ds_engine_set_step_timeout(model->engine, config->step_usec);
	} else if (mine) {
		model->next_config = ds_config_ref(config);
		model->next_mine = mine;
	}
	leave_when_idle(model);
	if (!mine)
		ds_model_unref(model); /* the registry's reference: it lives on while requests or its engine need it */
}

void ds_model_drop(struct ds_model *model, const char *reason)
{
	set_reason(model, reason);
	ds_model_unload(model);
}

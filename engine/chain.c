/* chain.c - collects settings from three places, opens the steps they make active, and runs them. */
#include "chain.h"
#include "engine.h"
#include "settings.h"

#include <string.h>
#include <sys/random.h>

#define MAX_STEPS 64

struct step {
	const struct ds_sampler_ops *ops;
	void *self;
};

struct ds_chain {
	const struct ds_engine *engine;
	struct step steps[MAX_STEPS];
	size_t n_steps;
};

static int open_steps(struct ds_chain *chain, const struct ds_plugin *plugin, const struct ds_setting *settings,
		      uint64_t seed, struct ds_failure *failure)
{
	size_t vocab = chain->engine->hparams->vocab;

	for (const struct ds_entry *entry = plugin->entries; entry->name; entry++) {
		const struct ds_sampler_ops *ops = entry->ops;
		struct step *step;

		if (!ops->active(settings))
			continue;
		if (chain->n_steps == MAX_STEPS)
			return ds_refuse(failure, DS_INTERNAL, NULL, "more than %d sampler steps", MAX_STEPS);
		step = &chain->steps[chain->n_steps];
		step->ops = ops;
		if (ops->open(&step->self, ds_plugins_host(), settings, seed, vocab, &failure->error) < 0) {
			struct ds_error error = failure->error;

			return ds_refuse(failure, DS_INTERNAL, NULL, "%s", error.text);
		}
		chain->n_steps++;
	}
	return 0;
}

/* Every key of the request must be somebody's option. */
static int check_keys(const struct ds_engine *engine, json_t *sampling, struct ds_failure *failure)
{
	const char *key;
	json_t *value;

	json_object_foreach(sampling, key, value) {
		const struct ds_plugin *plugin;
		bool known = strcmp(key, "seed") == 0;

		for (size_t i = 0; !known && (plugin = ds_plugins_next(engine->plugins, DS_PLUGIN_SAMPLER, &i));)
			known = ds_option_find(plugin, key);
		if (!known)
			return ds_refuse(failure, DS_INVALID_REQUEST, key, "%.64s is not a sampling option", key);
	}
	return 0;
}

static int choose_seed(const json_t *sampling, uint64_t *seed, struct ds_failure *failure)
{
	const json_t *value = json_object_get(sampling, "seed");

	if (value && !json_is_null(value)) {
		if (!json_is_integer(value))
			return ds_refuse(failure, DS_INVALID_REQUEST, "seed", "seed must be a whole number");
		*seed = (uint64_t)json_integer_value(value);
		return 0;
	}
	if (getrandom(seed, sizeof(*seed), 0) != (ssize_t)sizeof(*seed))
		return ds_refuse(failure, DS_INTERNAL, NULL, "no random numbers");
	return 0;
}

int ds_chain_new(struct ds_chain **out, const struct ds_engine *engine, const json_t *sampling,
		 struct ds_failure *failure)
{
	ds_cleanup(ds_chain_freep) struct ds_chain *chain = calloc(1, sizeof(*chain));
	const struct ds_plugin *plugin;
	uint64_t seed;
	int r;

	if (!chain)
		return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for a sampler chain");
	chain->engine = engine;
	if (sampling && !json_is_null(sampling) && !json_is_object(sampling))
		return ds_refuse(failure, DS_INVALID_REQUEST, "sampling", "sampling must be an object");
	r = check_keys(engine, (json_t *)sampling, failure);
	if (r == 0)
		r = choose_seed(sampling, &seed, failure);
	if (r < 0)
		return r;
	for (size_t i = 0; (plugin = ds_plugins_next(engine->plugins, DS_PLUGIN_SAMPLER, &i));) {
		struct ds_settings settings = {0};

		r = ds_settings_add(&settings, plugin, (json_t *)sampling, failure);
		if (r == 0)
			r = ds_settings_add(&settings, plugin, engine->sampling, failure);
		if (r == 0)
			r = ds_settings_add(&settings, plugin, json_object_get(engine->plugin_options, plugin->name),
					    failure);
		if (r == 0)
			r = open_steps(chain, plugin, settings.list, seed, failure);
		if (r < 0)
			return r;
	}
	*out = ds_steal(&chain);
	return 0;
}

struct ds_chain *ds_chain_free(struct ds_chain *chain)
{
	if (!chain)
		return NULL;
	for (size_t i = 0; i < chain->n_steps; i++)
		chain->steps[i].ops->close(chain->steps[i].self);
	free(chain);
	return NULL;
}

void ds_chain_accept(struct ds_chain *chain, uint32_t id)
{
	for (size_t i = 0; i < chain->n_steps; i++)
		if (chain->steps[i].ops->accept)
			chain->steps[i].ops->accept(chain->steps[i].self, id);
}

uint32_t ds_chain_pick(struct ds_chain *chain, const float *logits, struct ds_choice *choice)
{
	struct ds_candidates candidates = ds_choice_begin(choice, logits);
	size_t best = 0;

	for (size_t i = 0; i < chain->n_steps && candidates.picked == DS_NO_TOKEN; i++)
		chain->steps[i].ops->apply(chain->steps[i].self, &candidates);
	if (candidates.picked != DS_NO_TOKEN)
		return candidates.picked;
	/* No plugin has a step that picks. */
	for (size_t i = 1; i < candidates.n; i++)
		if (candidates.logits[i] > candidates.logits[best])
			best = i;
	return candidates.ids[best];
}

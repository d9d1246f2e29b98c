/* vectors-sampler.c - one step of the sampler chain: settings, logits and history in, candidates out. */
#include "plugin-check.h"
#include "vectors-kinds.h"

#include <deepseekd/model.h>
#include <deepseekd/sampler.h>

#include <string.h>

struct answer {
	uint32_t id;
	float logit;
};

static int by_id(const void *a, const void *b)
{
	const struct answer *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* One setting: it has to be an option of the plugin, of the right type. */
static int read_setting(const struct ds_plugin *plugin, const char *name, const json_t *value,
			struct ds_setting *setting, struct ds_error *err)
{
	const struct ds_option *option = ds_plugin_option(plugin, name);
	bool fits;

	if (!option)
		return ds_fail(err, -EINVAL, "setting \"%.40s\" is no option of the plugin", name);
	switch (option->type) {
	case DS_OPTION_BOOL:
		fits = json_is_boolean(value);
		break;
	case DS_OPTION_INT:
		fits = json_is_integer(value);
		break;
	case DS_OPTION_FLOAT:
		fits = json_is_number(value);
		break;
	default:
		fits = json_is_string(value);
	}
	if (!fits)
		return ds_fail(err, -EINVAL, "setting \"%.40s\" is of the wrong type", name);
	setting->name = option->name;
	setting->value = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	setting->text = json_string_value(value);
	return 0;
}

static int read_settings(const struct ds_vector_case *c, struct ds_setting **out, struct ds_error *err)
{
	json_t *object = json_object_get(c->input, "settings"), *value;
	ds_cleanup(ds_freep) struct ds_setting *settings = calloc(json_object_size(object) + 1, sizeof(*settings));
	const char *name;
	size_t n = 0;

	if (!settings)
		return ds_fail(err, -ENOMEM, "no memory for settings");
	if (object && !json_is_object(object))
		return ds_fail(err, -EINVAL, "\"settings\" is not an object");
	json_object_foreach(object, name, value) {
		int r = read_setting(c->plugin, name, value, &settings[n++], err);

		if (r < 0)
			return r;
	}
	*out = ds_steal(&settings);
	return 0;
}

/* Run the step over @candidates, with the history accepted first. */
static int apply(const struct ds_vector_case *c, const struct ds_setting *settings, const uint32_t *history,
		 size_t n_history, struct ds_candidates *candidates, struct ds_error *err)
{
	const struct ds_sampler_ops *ops = c->entry->ops;
	uint64_t seed = (uint64_t)json_integer_value(json_object_get(c->input, "seed"));
	size_t vocab = candidates->n;
	void *self = NULL;
	int r;

	if (!ops->active(settings))
		return 0;
	r = ops->open(&self, c->host, settings, seed, vocab, err);
	if (r < 0)
		return r;
	for (size_t i = 0; ops->accept && i < n_history; i++)
		ops->accept(self, history[i]);
	ops->apply(self, candidates);
	ops->close(self);
	if (candidates->n == 0 || candidates->n > vocab)
		return ds_fail(err, -EINVAL, "%zu candidates are left of %zu", candidates->n, vocab);
	return 0;
}

/* What is left, in order of id. */
static int report(const struct ds_candidates *candidates, size_t vocab, json_t **got, struct ds_error *err)
{
	ds_cleanup(ds_freep) struct answer *answers = calloc(candidates->n, sizeof(*answers));
	json_t *ids, *logits, *picked;

	if (!answers)
		return ds_fail(err, -ENOMEM, "no memory for %zu candidates", candidates->n);
	for (size_t i = 0; i < candidates->n; i++)
		answers[i] = (struct answer){candidates->ids[i], candidates->logits[i]};
	qsort(answers, candidates->n, sizeof(*answers), by_id);
	ids = json_array();
	logits = json_array();
	for (size_t i = 0; i < candidates->n; i++) {
		json_t *logit = ds_vector_from_floats(&answers[i].logit, 1);

		json_array_append_new(ids, json_integer(answers[i].id));
		json_array_extend(logits, logit);
		json_decref(logit);
	}
	picked = candidates->picked == DS_NO_TOKEN ? json_null() : json_integer(candidates->picked);
	*got = json_pack("{s:o, s:o, s:o}", "ids", ids, "logits", logits, "picked", picked);
	for (size_t i = 0; i < candidates->n; i++)
		if (answers[i].id >= vocab || (i > 0 && answers[i].id == answers[i - 1].id))
			return ds_fail(err, -EINVAL, "candidate %u is there twice or was never there", answers[i].id);
	return 0;
}

int ds_vector_sampler(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	ds_cleanup(ds_vector_numbers_deinit) struct ds_vector_numbers logits = {0};
	ds_cleanup(ds_freep) struct ds_setting *settings = NULL;
	ds_cleanup(ds_freep) uint32_t *ids = NULL;
	ds_cleanup(ds_freep) float *columns = NULL; /* logits and weights */
	ds_cleanup(ds_freep) uint32_t *history = NULL;
	struct ds_candidates candidates = {.picked = DS_NO_TOKEN};
	size_t n_history = 0;
	int r = ds_vector_keys(c->input, DS_VECTOR_KEYS("settings", "seed", "logits", "history"), err);

	if (r == 0)
		r = ds_vector_numbers(c->input, "logits", 1, &logits, err);
	if (r == 0 && logits.count == 0)
		r = ds_fail(err, -EINVAL, "\"logits\" is empty");
	if (r == 0)
		r = read_settings(c, &settings, err);
	if (r == 0 && json_object_get(c->input, "history"))
		r = ds_vector_u32(c->input, "history", 1, &history, &n_history, err);
	for (size_t i = 0; r == 0 && i < n_history; i++)
		if (history[i] >= logits.count)
			r = ds_fail(err, -EINVAL, "\"history\" has token %u of %zu", history[i], logits.count);
	if (r < 0)
		return r;
	candidates.ids = ids = calloc(logits.count, sizeof(*ids));
	candidates.logits = columns = calloc(logits.count, 2 * sizeof(*columns));
	if (!ids || !columns)
		return ds_fail(err, -ENOMEM, "no memory for %zu candidates", logits.count);
	candidates.weights = columns + logits.count;
	candidates.n = logits.count;
	for (size_t i = 0; i < logits.count; i++) {
		ids[i] = (uint32_t)i;
		columns[i] = (float)logits.data[i];
	}
	r = apply(c, settings, history, n_history, &candidates, err);
	return r < 0 ? r : report(&candidates, logits.count, got, err);
}

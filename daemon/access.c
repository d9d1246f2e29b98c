/* access.c - what a client may do. */
#include "access.h"
#include "bus/polkit.h"
#include "daemon.h"

#include <string.h>

const struct ds_action_info ds_actions[DS_N_ACTIONS] = {
	[DS_ACTION_USE] = {"org.deepseekd1.use", "using models", true},
	[DS_ACTION_LOAD_UNLOAD] = {"org.deepseekd1.load-unload", "loading and unloading models", false},
	[DS_ACTION_CANCEL_OTHERS] = {"org.deepseekd1.cancel-others", "ending requests of other users", false},
	[DS_ACTION_MANAGE_MODELS] = {"org.deepseekd1.manage-models", "adding and removing models", false},
	[DS_ACTION_MANAGE_CONFIG] = {"org.deepseekd1.manage-config", "changing the daemon's settings", false},
	[DS_ACTION_READ_USAGE_OTHERS] = {"org.deepseekd1.read-usage-others", "seeing requests of other users", false},
};

bool ds_access_is_admin(const struct ds_subject *subject)
{
	return !subject->key[0] && (subject->uid == 0 || subject->uid == geteuid());
}

void ds_access_check(struct ds_daemon *daemon, const struct ds_access_question *q)
{
	const struct ds_action_info *action = &ds_actions[q->action];
	char why[200];

	if (!ds_access_is_admin(q->subject) && q->subject->bus_name[0] && daemon->polkit) {
		ds_polkit_check(daemon->polkit, q);
	} else if (ds_access_is_admin(q->subject) || q->action == DS_ACTION_USE) {
		/* Who could connect may use; which models, is asked of each. */
		q->then(q->arg, DS_ACCESS_GRANTED, "");
	} else {
		snprintf(why, sizeof(why), "%s needs root or the daemon's user; you are %s", action->what,
			 q->subject->owner);
		q->then(q->arg, DS_ACCESS_DENIED, why);
	}
}

bool ds_access_may_use(const struct ds_daemon *daemon, const struct ds_subject *subject, const struct ds_model *model)
{
	const struct ds_config *config = daemon->config;
	const char *name = ds_model_get_config(model)->name;

	if (ds_access_is_admin(subject))
		return true;
	/* A busy model still follows the configuration that it was started with; access does not wait for it. */
	for (size_t i = 0; i < config->n_models; i++) {
		const struct ds_model_config *m = &config->models[i];

		if (!strcmp(m->name, name) && ds_yaml_get(m->tree, "access"))
			return ds_who_has(&m->users, DS_WHO_USERS, subject) ||
			       ds_who_has(&m->groups, DS_WHO_GROUPS, subject) ||
			       ds_who_has(&m->keys, DS_WHO_KEYS, subject);
	}
	return ds_who_has(&config->users, DS_WHO_USERS, subject) ||
	       ds_who_has(&config->groups, DS_WHO_GROUPS, subject) || ds_who_has(&config->keys, DS_WHO_KEYS, subject);
}

struct ds_model *ds_access_find_model(const struct ds_daemon *daemon, const struct ds_subject *subject,
				      const char *name)
{
	struct ds_model *model = ds_models_find(daemon->models, name);

	return model && ds_access_may_use(daemon, subject, model) ? model : NULL;
}

void ds_access_limit_tokens(const struct ds_daemon *daemon, const struct ds_subject *subject, json_t *generate)
{
	int64_t limit = daemon->config->max_tokens;
	const json_t *wanted = json_object_get(generate, "max_tokens");

	if (limit > 0 && !ds_access_is_admin(subject) && (!wanted || json_integer_value(wanted) > limit))
		json_object_set_new(generate, "max_tokens", json_integer(limit));
}

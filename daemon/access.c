/* access.c - what a client may do. */
#include "access.h"
#include "bus/polkit.h"
#include "daemon.h"

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

struct ds_access_check *ds_access_check(struct ds_daemon *daemon, const struct ds_access_question *q)
{
	const struct ds_action_info *action = &ds_actions[q->action];
	char why[200];

	if (ds_access_is_admin(q->subject)) {
		q->then(q->arg, DS_ACCESS_GRANTED, "");
		return NULL;
	}
	if (q->subject->bus_name[0] && daemon->polkit)
		return ds_polkit_check(daemon->polkit, q);
	if (q->action == DS_ACTION_USE) { /* who could connect may; which models, is asked of each */
		q->then(q->arg, DS_ACCESS_GRANTED, "");
		return NULL;
	}
	snprintf(why, sizeof(why), "%s needs root or the daemon's user; you are %s", action->what, q->subject->owner);
	q->then(q->arg, DS_ACCESS_DENIED, why);
	return NULL;
}

struct ds_access_check *ds_access_cancel(struct ds_access_check *check)
{
	return check ? ds_polkit_cancel(check) : NULL;
}

/* access.h - what a client may do: by the configuration's `access`, by being root or the daemon's own user, and, over
 * D-Bus, by polkit.
 *
 * polkit is asked about names on the bus alone. About a process it could only be asked by its id, which may be another
 * process by then (polkit 122 takes no pidfd): over sockets, managing stays with root and the daemon's own user. */
#pragma once

#include "config.h"
#include "subject.h"

struct ds_daemon;
struct ds_model;
struct ds_polkit;

/* Each is a row in access.c and an action in etc/org.deepseekd1.policy. */
enum ds_action {
	DS_ACTION_USE,               /* generate at all, over D-Bus; which models, the configuration says */
	DS_ACTION_LOAD_UNLOAD,       /* load and unload registered models */
	DS_ACTION_CANCEL_OTHERS,     /* end requests of other users */
	DS_ACTION_MANAGE_MODELS,     /* fetch, add and remove models */
	DS_ACTION_MANAGE_CONFIG,     /* read the configuration again, API keys */
	DS_ACTION_READ_USAGE_OTHERS, /* see requests of other users */
	DS_N_ACTIONS,
};

struct ds_action_info {
	const char *id;         /* "org.deepseekd1.use" */
	const char *what;       /* for sentences: "loading and unloading models" */
	bool without_authority; /* where no polkit runs, everybody on the bus may */
};

extern const struct ds_action_info ds_actions[DS_N_ACTIONS];

enum ds_access {
	DS_ACCESS_GRANTED,
	DS_ACCESS_DENIED,
	DS_ACCESS_NEEDS_DIALOG, /* granted after a password, and the caller did not allow to ask for one */
};

/* @why: a sentence, unless it was granted; borrowed until it returns. */
typedef void ds_access_fn(void *arg, enum ds_access answer, const char *why);

struct ds_access_question {
	struct ds_subject *subject;
	enum ds_action action;
	const char *const *details; /* key, value, ..., NULL; shown in the dialog and to rules; NULL: none. Copied. */
	bool interactive;           /* the caller allows that its user is asked */
	ds_access_fn *then;         /* called exactly once, perhaps before ds_access_check() returns */
	void *arg;
};

/* Never waits. A caller that leaves the bus while it is asked about is denied. */
void ds_access_check(struct ds_daemon *daemon, const struct ds_access_question *question);

/* Root and the daemon's own user may do everything; nobody with an API key is either. */
bool ds_access_is_admin(const struct ds_subject *subject);

/* May @subject use this model, as the configuration in force says? */
bool ds_access_may_use(const struct ds_daemon *daemon, const struct ds_subject *subject, const struct ds_model *model);
/* As ds_models_find(); a model that @subject may not use is as if it were not there. */
struct ds_model *ds_access_find_model(const struct ds_daemon *daemon, const struct ds_subject *subject,
				      const char *name);
/* Put the limit of tokens into @generate, which has or has no max_tokens. */
void ds_access_limit_tokens(const struct ds_daemon *daemon, const struct ds_subject *subject, json_t *generate);

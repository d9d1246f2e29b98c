/* who.c - lists of users, groups or API keys. */
#include "who.h"
#include "config.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

const char ds_who_rule[] = "names, numbers, or \"*\" for everybody";

const struct ds_yaml *ds_who_bad_item(enum ds_who_kind kind, const struct ds_yaml *list)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct ds_yaml *item = list->items[i];
		const char *text = item->kind == DS_YAML_TEXT || item->kind == DS_YAML_INT ? item->text : "";
		bool all = !strcmp(text, "*");

		if (kind == DS_WHO_KEYS ? !all && !ds_config_is_name(text)
					: !*text || strlen(text) > 255 || strpbrk(text, ":/\n"))
			return item;
	}
	return NULL;
}

bool ds_who_group(const char *name, gid_t *gid)
{
	const struct group *group = getgrnam(name);

	if (group)
		*gid = group->gr_gid;
	return group;
}

/* Digits alone are a number, even if no such user exists; -1 is nobody's. */
static bool look_up(enum ds_who_kind kind, const char *name, uint32_t *id)
{
	const struct passwd *user;
	unsigned long number;
	char *end;

	if (strspn(name, "0123456789") == strlen(name)) {
		errno = 0;
		number = strtoul(name, &end, 10);
		*id = (uint32_t)number;
		return errno == 0 && number < UINT32_MAX;
	}
	if (kind == DS_WHO_GROUPS)
		return ds_who_group(name, id);
	user = getpwnam(name);
	if (user)
		*id = user->pw_uid;
	return user;
}

int ds_who_fill(struct ds_who *who, enum ds_who_kind kind, const struct ds_yaml *list)
{
	who->names = calloc(list->n + 1, sizeof(*who->names));
	who->ids = calloc(list->n + 1, sizeof(*who->ids));
	if (!who->names || !who->ids)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		who->names[i] = strdup(list->items[i]->text);
		if (!who->names[i])
			return -ENOMEM;
		if (!strcmp(who->names[i], "*"))
			who->everybody = true;
		else if (kind != DS_WHO_KEYS && look_up(kind, who->names[i], &who->ids[who->n_ids]))
			who->n_ids++;
	}
	return 0;
}

void ds_who_deinit(struct ds_who *who)
{
	for (size_t i = 0; who->names && who->names[i]; i++)
		free(who->names[i]);
	free(who->names);
	free(who->ids);
	*who = (struct ds_who){0};
}

static bool has_key(const struct ds_who *who, const char *key)
{
	for (char **name = who->names; name && *name; name++)
		if (!strcmp(*name, key))
			return true;
	return false;
}

bool ds_who_has(const struct ds_who *who, enum ds_who_kind kind, const struct ds_subject *subject)
{
	/* An API key is no user, and a user is no API key: neither is in a list of the other, not even in "*". */
	if ((kind == DS_WHO_KEYS) != !!subject->key[0])
		return false;
	if (who->everybody)
		return true;
	if (kind == DS_WHO_KEYS)
		return has_key(who, subject->key);
	for (size_t i = 0; i < who->n_ids; i++)
		if (kind == DS_WHO_USERS ? who->ids[i] == subject->uid : ds_subject_has_group(subject, who->ids[i]))
			return true;
	return false;
}

void ds_who_warn(enum ds_who_kind kind, const struct ds_yaml *list, const char *key, struct ds_problems *warnings)
{
	uint32_t id;

	for (size_t i = 0; list && kind != DS_WHO_KEYS && list->kind == DS_YAML_LIST && i < list->n; i++) {
		const struct ds_yaml *item = list->items[i];

		if (item->text && strcmp(item->text, "*") && !look_up(kind, item->text, &id))
			ds_problem(warnings, item, key, "there is no %s \"%.100s\"",
				   kind == DS_WHO_USERS ? "user" : "group", item->text);
	}
}

/* who.h - lists of users, groups or API keys in the configuration: names, numbers, or "*" for all of them.
 *
 * Names are looked up once, when the file is read. One that does not exist matches nobody, and is worth a warning: it
 * may come later, and a file that holds for several machines names users of all of them. */
#pragma once

#include "subject.h"
#include "yaml.h"

enum ds_who_kind {
	DS_WHO_USERS,
	DS_WHO_GROUPS,
	DS_WHO_KEYS,
};

struct ds_who {
	bool everybody;
	char **names;  /* NULL-terminated; NULL: empty */
	uint32_t *ids; /* [n_ids], of users or groups that exist */
	size_t n_ids;
};

/* What a list may hold, for messages. */
extern const char ds_who_rule[];

/* NULL, or the item that cannot be a name; @list must be a LIST. */
const struct ds_yaml *ds_who_bad_item(enum ds_who_kind kind, const struct ds_yaml *list);
/* Fill @who (which is empty) from a list without bad items. -ENOMEM only. */
int ds_who_fill(struct ds_who *who, enum ds_who_kind kind, const struct ds_yaml *list);
void ds_who_deinit(struct ds_who *who);

bool ds_who_has(const struct ds_who *who, enum ds_who_kind kind, const struct ds_subject *subject);

/* Add a line to @warnings for each name in @list (may be NULL) that does not exist. */
void ds_who_warn(enum ds_who_kind kind, const struct ds_yaml *list, const char *key, struct ds_problems *warnings);
/* Does the group exist? */
bool ds_who_group(const char *name, gid_t *gid);

/* plugins.h - opens plugins by name, refuses what must not run, and finds entries by kind and name.
 *
 * Only names the configuration lists are opened, from one directory. File and directory must belong to root or to the
 * caller's user and must not be writable by group or others: open, fstat, then dlopen of that descriptor's path, so that
 * nothing can be swapped in between. Then the symbol, the ABI number, the kind's table and the vectors are checked.
 * A plugin that fails is kept in the list with its reason, and is never used. */
#pragma once

#include <deepseekd/plugin.h>
#include <jansson.h>

struct ds_plugins;

#define DS_KIND(kind) (1u << (kind))
#define DS_KIND_ANY (~0u)

/* Open @names (NULL-terminated) of @dir, those of the @kinds (a mask of DS_KIND); of the others nothing stays loaded.
 * Refusals are not errors: ask ds_plugins_describe(). -ENOMEM only. */
int ds_plugins_open(struct ds_plugins **out, const char *dir, const char *const *names, unsigned kinds,
		    struct ds_error *err);
struct ds_plugins *ds_plugins_free(struct ds_plugins *plugins); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_plugins)

/* The services plugins of this process are given: logging to stderr (the journal's prefix), memory from malloc. */
const struct ds_host *ds_plugins_host(void);

/* The operations of the entry @name of @kind, or NULL with the sentence: what was asked, what there is, what was refused.
 * @plugin may be NULL; else it receives the plugin that has the entry. */
const void *ds_plugins_find(const struct ds_plugins *plugins, enum ds_plugin_kind kind, const char *name,
			    const struct ds_plugin **plugin, struct ds_error *err);

/* Step through the usable plugins of @kind: start with *@i = 0; NULL at the end. */
const struct ds_plugin *ds_plugins_next(const struct ds_plugins *plugins, enum ds_plugin_kind kind, size_t *i);

/* [{"name", "file", "kind", "version", "summary", "state": "ok" | "refused", "reason", "entries": [{"name", "summary"}],
 *   "options": [{"name", "type", "default", "min", "max", "help"}], "vectors": N, "vectors_passed": N}...] */
json_t *ds_plugins_describe(const struct ds_plugins *plugins);

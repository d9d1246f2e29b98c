/* plugin-check.h - is the table that a plugin exports fit to be used? Reads data only, calls nothing of the plugin. */
#pragma once

#include <deepseekd/plugin.h>

/* The name of @kind ("format", "tokenizer", ...), or NULL if this build knows no such kind. */
const char *ds_plugin_kind_name(uint32_t kind);

/* The entry @name of @plugin, or NULL. */
const struct ds_entry *ds_plugin_entry(const struct ds_plugin *plugin, const char *name);

/* The option @name of @plugin, or NULL. */
const struct ds_option *ds_plugin_option(const struct ds_plugin *plugin, const char *name);

/* Check everything of @plugin (whose ABI number is already known to be ours) that can be checked without running it:
 * name, texts, options, operation tables, and that every entry has a vector. -EINVAL: not fit. */
int ds_plugin_check(const struct ds_plugin *plugin, const char *name, struct ds_error *err);

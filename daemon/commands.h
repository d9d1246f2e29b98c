/* commands.h - the command lines of helpers. */
#pragma once

#include "config.h"

/* @libexec_dir/@program [@first] --plugin-dir DIR --plugin NAME...: the plugins of @config, in @plugin_dir or, if that is
 * NULL, where the configuration says. Free with free(); the strings are borrowed. NULL: no memory. */
const char **ds_commands_new(const char *libexec_dir, const char *plugin_dir, const struct ds_config *config,
			     const char *program, const char *first);

/* Would a helper be started, and its plugins be told, the same by both? */
bool ds_commands_are_same(const struct ds_config *a, const struct ds_config *b);

/* settings.h - JSON values as the settings of one plugin, each checked against the plugin's options. */
#pragma once

#include "failure.h"
#include <deepseekd/plugin.h>
#include <jansson.h>

#define DS_MAX_SETTINGS 64

/* Closed by an element without a name; texts are borrowed from the JSON. Zero it to start. */
struct ds_settings {
	struct ds_setting list[DS_MAX_SETTINGS + 1];
	size_t n;
};

/* The option of @plugin called @name, or NULL. */
const struct ds_option *ds_option_find(const struct ds_plugin *plugin, const char *name);
/* Add those of @values (an object, or NULL) that are options of @plugin; what is set already stays. The failure names the
 * option. */
int ds_settings_add(struct ds_settings *settings, const struct ds_plugin *plugin, json_t *values,
		    struct ds_failure *failure);

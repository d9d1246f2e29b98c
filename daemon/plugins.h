/* plugins.h - what plugins there are, as a short-lived `ds-loader --describe-plugins` says. The broker opens none. */
#pragma once

#include "models.h"

struct ds_description;

/* Ask about the plugins of @config, which is borrowed only now. @done is called once: with the list, which it takes over,
 * or with NULL and the reason. The description is freed when it returns. */
int ds_plugins_ask(struct ds_helpers *helpers, const struct ds_models *models, const struct ds_config *config,
		   void (*done)(void *arg, json_t *catalog, const char *reason), void *arg, struct ds_error *err);

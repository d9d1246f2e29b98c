/* capabilities.h - what a model can be asked for, found out by rendering small conversations in its dialect. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

struct ds_plugins;

/* A list of "chat" (it has a dialect), "completion" (it has words), "reasoning" (whether it is to reason makes a
 * difference, or it always does), "tools" (tools that are offered get into its prompt). @dialect may be "". NULL: no
 * memory. */
json_t *ds_capabilities(const struct ds_plugins *plugins, const char *dialect, bool has_words);

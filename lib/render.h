/* render.h - a conversation to the text of its prompt, as the loader and the engine are asked for it. */
#pragma once

#include <deepseekd/dialect.h>
#include <jansson.h>

/* A request is {"messages": [...], "tools": [...], "thinking": bool}, all but the first optional; the answer {"prompt":
 * "...", "thinking": bool}: the text whose tokens the model would get, and whether its output begins inside reasoning.
 * On success *@answer is a new reference. -EINVAL, -ENOTSUP: the request is wrong; the sentence begins with the path of
 * what is. */
int ds_render(const struct ds_dialect_ops *ops, const json_t *request, json_t **answer, struct ds_error *err);

/* sampling.h - options of sampling as clients give them, on whatever wire: which there are, and their bounds. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

/* Put @value into @sampling as @name if there is such an option: temperature, top_p, presence_penalty,
 * frequency_penalty, seed, or an option of a sampler plugin in @catalog (`ds-loader --describe-plugins`).
 * 1: taken; 0: there is no such option; -EINVAL: the value is not allowed, @err says what is ("must be ..."). */
int ds_sampling_take(json_t *sampling, const json_t *catalog, const char *name, json_t *value, struct ds_error *err);

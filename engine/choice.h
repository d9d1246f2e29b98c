/* choice.h - the memory in which a sampler chain narrows the vocabulary down to one token; one for each thread that does. */
#pragma once

#include <deepseekd/sampler.h>

struct ds_engine;
struct ds_choice;

/* Borrows the engine's vocabulary only while it is made. */
int ds_choice_new(struct ds_choice **out, const struct ds_engine *engine, struct ds_error *err);
struct ds_choice *ds_choice_free(struct ds_choice *choice); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_choice)

/* Every token that may be an answer, by rising id, with its logit of @logits (vocab). Good until the next call. */
struct ds_candidates ds_choice_begin(struct ds_choice *choice, const float *logits);

/* Is none of @n logits NaN or infinite? */
bool ds_are_numbers(const float *logits, size_t n);

/* chain.h - the sampler chain of one generation: the steps that its settings make active, in the plugins' order. */
#pragma once

#include "choice.h"
#include "failure.h"
#include <jansson.h>

struct ds_engine;
struct ds_chain;

/* Settings are, in falling order of precedence: @sampling (NULL: none) of the request, the model's, the plugins', the
 * options' defaults. Key "seed" is the engine's own; any other must be an option of a sampler plugin. */
int ds_chain_new(struct ds_chain **out, const struct ds_engine *engine, const json_t *sampling,
		 struct ds_failure *failure);
struct ds_chain *ds_chain_free(struct ds_chain *chain); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_chain)

/* @id became part of the text. */
void ds_chain_accept(struct ds_chain *chain, uint32_t id);
/* Choose the next token from @logits (vocab), in the memory of @choice. */
uint32_t ds_chain_pick(struct ds_chain *chain, const float *logits, struct ds_choice *choice);

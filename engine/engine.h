/* engine.h - one loaded model: the image, and the plugins that were chosen for it.
 *
 * Made once, from MAP; nothing changes afterwards, so that every thread may read it. */
#pragma once

#include "arch/arch.h"
#include "image.h"
#include "message.h"
#include "plugins.h"
#include <deepseekd/backend.h>
#include <deepseekd/dialect.h>
#include <deepseekd/tokenizer.h>
#include <jansson.h>

/* Rows of prompts in a step: many, since an expert's weights are read once for all rows that chose it; while others wait for
 * their next token fewer, so that they do not wait long. */
#define DS_STEP_PROMPT_ROWS 512u
#define DS_STEP_SHARED_ROWS 256u
#define DS_STEP_LOGITS 32u	 /* rows whose logits are made at once */

struct ds_engine {
	const struct ds_plugins *plugins; /* borrowed */
	struct ds_image *image;
	const struct ds_hparams *hparams;
	const struct ds_vocabulary *vocabulary; /* NULL: the model has no tokenizer */
	json_t *sampling;			/* the model's defaults */
	json_t *plugin_options;			/* {plugin: {option: value}} */

	uint32_t context;  /* tokens of one sequence at most: also no more than the KV cache holds */
	uint32_t parallel; /* sequences that take part in a step */
	uint32_t n_pages;  /* of the KV cache */
	enum ds_precision precision;
	enum ds_dtype kv_dtype;

	const struct ds_backend_ops *backend_ops;
	void *backend;
	const struct ds_arch *arch;
	void *model; /* self of @arch */
	const struct ds_tokenizer_ops *tokenizer_ops; /* NULL iff no vocabulary */
	void *tokenizer;
	const struct ds_dialect_ops *dialect; /* NULL: no chat */
	char dialect_name[32];		      /* of its entry */
};

/* Take @map, the payload of MAP, and map its descriptors: the image, and the files that its model stays in (borrowed).
 * Starts the backend's threads. */
int ds_engine_new(struct ds_engine **out, const struct ds_plugins *plugins, const char *map, size_t map_size,
		  const int *fds, unsigned n_fds, struct ds_error *err);
struct ds_engine *ds_engine_free(struct ds_engine *engine); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_engine)

/* The text of a token as the tokenizer has it; size 0 for ids without one. */
const char *ds_engine_token_text(const struct ds_engine *engine, uint32_t id, size_t *size);
/* DS_TOKEN_ flags of an id; ids without a text are unused. */
uint32_t ds_engine_token_flags(const struct ds_engine *engine, uint32_t id);
bool ds_engine_is_eos(const struct ds_engine *engine, uint32_t id);

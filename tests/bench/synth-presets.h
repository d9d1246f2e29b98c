/* synth-presets.h - shapes of published models, and the tensors that each of them has. */
#pragma once

#include <deepseekd/model.h>

struct synth_preset {
	const char *name;
	const char *summary;
	const char *pre; /* tokenizer.ggml.pre */
	struct ds_hparams hparams;
};

/* NULL: there is none of this name. */
const struct synth_preset *synth_preset_find(const char *name);
void synth_preset_list(FILE *to);

/* Call @add for every tensor (canonical names, model.h) of @h. @joint: latent attention's keys and values in one kv_b.
 * The first failure ends it. */
int synth_each_tensor(const struct ds_hparams *h, bool joint,
		      int (*add)(void *self, const struct ds_tensor_desc *desc, struct ds_error *err), void *self,
		      struct ds_error *err);

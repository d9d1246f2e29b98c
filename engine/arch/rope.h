/* rope.h - the frequencies of rotary position embedding (RoPE, arXiv:2104.09864), with every scaling of model.h. */
#pragma once

#include <deepseekd/model.h>

/* Do the hyperparameters of rotation make sense for heads of which @width elements are rotated? */
int ds_rope_check(const struct ds_hparams *p, uint32_t width, struct ds_error *err);

/* Write the frequencies of the @width / 2 pairs: angles are position * frequency. */
void ds_rope_frequencies(float *frequencies, const struct ds_hparams *p, uint32_t width);

/* synth-safetensors.h - a synthetic model as a Hugging Face directory. */
#pragma once

#include "synth-presets.h"

/* config.json and model.safetensors in the new directory @path: BF16, without a tokenizer. */
int synth_safetensors_write(const struct synth_preset *preset, const char *path, struct ds_error *err);

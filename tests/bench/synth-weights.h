/* synth-weights.h - random weights of a tensor, written as fast as memory is copied.
 *
 * They are drawn from a pool of blocks that were quantised from normal numbers, so that they have the distribution and
 * the bits of real ones. Deviations keep activations near 1 in every layer, and logits a few units apart. */
#pragma once

#include <deepseekd/model.h>

struct synth_weights;

/* For the file @fd, borrowed. */
int synth_weights_new(struct synth_weights **out, int fd, struct ds_error *err);
struct synth_weights *synth_weights_free(struct synth_weights *weights); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(synth_weights)

/* Write the whole tensor @desc (canonical name) as @dtype from byte @offset on. */
int synth_weights_write(struct synth_weights *weights, const struct ds_tensor_desc *desc, enum ds_dtype dtype,
			uint64_t offset, struct ds_error *err);
int synth_write_at(int fd, const void *data, size_t size, uint64_t offset, struct ds_error *err);

/* quantize.h - from float32 to the blocks of quants.h, with as little square error as a search finds.
 *
 * Of the possible scales (and minimums) of a group many are tried; for each the nearest integers are taken and the
 * scale solved again from them by least squares, until nothing gets better. All elements weigh the same: nothing is
 * known here of the activations that they will meet. */
#pragma once

#include <deepseekd/model.h>

/* Can rows be written as @dtype here? (Not DeepSeek's FP8.) */
bool ds_quantize_knows(enum ds_dtype dtype);

/* @n elements, whole blocks, to ds_row_size(@dtype, @n) bytes at @to, which needs no alignment.
 * -EINVAL: an element is not finite. -ERANGE: one is too large for the type. */
int ds_quantize_row(void *to, const float *x, enum ds_dtype dtype, uint64_t n);

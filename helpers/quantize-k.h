/* quantize-k.h - blocks of 256: groups with small integers as scales, times half-precision ones of the block. */
#pragma once

#include <deepseekd/quants.h>

/* 256 finite elements to one block. -ERANGE: one is too large. */
int ds_quantize_q2_k(struct ds_block_q2_k *b, const float *x);
int ds_quantize_q3_k(struct ds_block_q3_k *b, const float *x);
int ds_quantize_q4_k(struct ds_block_q4_k *b, const float *x);
int ds_quantize_q5_k(struct ds_block_q5_k *b, const float *x);
int ds_quantize_q6_k(struct ds_block_q6_k *b, const float *x);
int ds_quantize_iq4_xs(struct ds_block_iq4_xs *b, const float *x);

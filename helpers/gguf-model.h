/* gguf-model.h - a model in GGUF's words: keys from hyperparameters and vocabulary, names of tensors.
 *
 * DeepSeek's latent attention is written with its keys and values apart (attn_k_b, attn_v_b), or, for programs from
 * before that, as one matrix (attn_kv_b), which only synth-model does. */
#pragma once

#include <deepseekd/model.h>

#include "gguf-writer.h"

/* "llama", "qwen2", "qwen3", "deepseek2"; NULL: GGUF has none for it. */
const char *ds_gguf_architecture(const struct ds_hparams *h);

/* Every key of the architecture. @joint: attn_kv_b is one matrix. */
void ds_gguf_put_hparams(struct ds_gguf_writer *writer, const struct ds_hparams *h, bool joint);

/* The divisors of frequencies (head_dim / 2) that the tensor rope_freqs.weight holds. False: the model has none. */
bool ds_gguf_rope_divisors(const struct ds_hparams *h, float *divisors);

/* Every key of the tokenizer. @pre: the name that the patterns had, or NULL; @n_rows: of the embedding. */
int ds_gguf_put_vocabulary(struct ds_gguf_writer *writer, const struct ds_vocabulary *v, const char *pre,
			   uint32_t n_rows, struct ds_error *err);

/* The name of the canonical tensor @name; false: it has none there (multi-token prediction). */
bool ds_gguf_tensor_name(char *out, size_t size, const char *name);

/* Are the rows of this tensor's heads stored in the order of the pairs that are rotated? Then row i of a head lies at 2
 * i, and row i + head_dim / 2 at 2 i + 1. */
bool ds_gguf_is_permuted(const struct ds_hparams *h, const char *name);

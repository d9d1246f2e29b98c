/* sizes.h - the sizes of tensors in terms of the hyperparameters, as words for the tables in tensors.c of each format.
 * Included there and nowhere else: the words are short so that a row of a table is a line. */
#pragma once

#include <deepseekd/model.h>

enum size {
	NONE, /* 1: there is no such dimension */
	VOCAB,
	HIDDEN,
	HIDDEN_TWICE,
	FF,
	HEADS,  /* heads * head_dim */
	GROUPS, /* n_kv_heads * head_dim */
	HEAD_DIM,
	Q_LORA,
	Q_HEADS, /* heads * (nope + rope) */
	KV_LORA,
	KV_JOINT, /* kv_lora + rope */
	KV_HEADS, /* heads * (nope + v) */
	V_HEADS,  /* heads * v */
	EXPERTS,
	MOE_FF,
	SHARED_FF, /* shared * moe_ff */
};

static inline uint64_t size_of(const struct ds_hparams *h, enum size size)
{
	const uint64_t sizes[] = {
		[NONE] = 1,
		[VOCAB] = h->vocab,
		[HIDDEN] = h->hidden,
		[HIDDEN_TWICE] = 2 * (uint64_t)h->hidden,
		[FF] = h->ff,
		[HEADS] = h->n_heads * (uint64_t)h->head_dim,
		[GROUPS] = h->n_kv_heads * (uint64_t)h->head_dim,
		[HEAD_DIM] = h->head_dim,
		[Q_LORA] = h->q_lora,
		[Q_HEADS] = h->n_heads * ((uint64_t)h->qk_nope + h->qk_rope),
		[KV_LORA] = h->kv_lora,
		[KV_JOINT] = (uint64_t)h->kv_lora + h->qk_rope,
		[KV_HEADS] = h->n_heads * ((uint64_t)h->qk_nope + h->v_head),
		[V_HEADS] = h->n_heads * (uint64_t)h->v_head,
		[EXPERTS] = h->n_experts,
		[MOE_FF] = h->moe_ff,
		[SHARED_FF] = h->n_shared * (uint64_t)h->moe_ff,
	};

	return sizes[size];
}

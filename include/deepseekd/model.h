/* model.h - what a language model is, whatever file it came from: hyperparameters, vocabulary, named tensors.
 *
 * A format plugin describes a checkpoint in these terms, the loader writes them into the model image, the engine reads
 * them there. All of it is plain data of fixed size or borrowed pointers.
 *
 * Tensors have canonical names. Shapes are row-major, outermost first; a weight that maps in -> out is (out, in).
 *
 *   token_embedding            (vocab, hidden)
 *   output_norm                (hidden)                     F32
 *   output                     (vocab, hidden)
 *   layers.N.attention_norm    (hidden)                     F32
 *   layers.N.ffn_norm          (hidden)                     F32
 * MLA (architecture deepseek); dk = nope, dr = rope, dv = v_head, r = kv_lora:
 *   layers.N.q                 (heads * (dk + dr), hidden)  only when q_lora is 0; per head dk rows, then dr rows
 *   layers.N.q_a               (q_lora, hidden)
 *   layers.N.q_a_norm          (q_lora)                     F32
 *   layers.N.q_b               (heads * (dk + dr), q_lora)
 *   layers.N.kv_a              (r + dr, hidden)             r latent rows, then dr rows of the shared rotary key
 *   layers.N.kv_a_norm         (r)                          F32
 *   layers.N.k_b               (heads, r, dk)               the key half of kv_b, transposed per head (absorbed form)
 *   layers.N.v_b               (heads, dv, r)               the value half of kv_b
 *   layers.N.attention_output  (hidden, heads * dv)
 * Dense feed-forward:
 *   layers.N.ffn_gate, ffn_up  (ff, hidden)                 ffn_down (hidden, ff)
 * Mixture of experts:
 *   layers.N.router            (experts, hidden)            F32
 *   layers.N.router_bias       (experts)                    F32, only with sigmoid scoring
 *   layers.N.experts_gate, experts_up (experts, moe_ff, hidden)    experts_down (experts, hidden, moe_ff)
 *   layers.N.shared_gate, shared_up   (shared * moe_ff, hidden)    shared_down (hidden, shared * moe_ff)
 * Multi-token prediction, one block M = 0.. each (n_mtp of them), with a whole layer's tensors under mtp.M.layer.:
 *   mtp.M.embedding_norm, mtp.M.hidden_norm, mtp.M.output_norm (hidden) F32
 *   mtp.M.projection           (hidden, 2 * hidden)         embedding half first
 *   mtp.M.token_embedding, mtp.M.output                     only where they differ from the main model's */
#pragma once

#include "base.h"

enum ds_dtype {
	DS_DTYPE_F32 = 1,
	DS_DTYPE_F16,
	DS_DTYPE_BF16,
};

#define DS_MAX_DIMS 4

struct ds_tensor_desc {
	const char *name; /* borrowed */
	enum ds_dtype dtype;
	uint32_t n_dims;
	uint64_t shape[DS_MAX_DIMS]; /* unused ones are 1 */
};

enum ds_rope_scaling {
	DS_ROPE_PLAIN,
	DS_ROPE_YARN, /* arXiv:2309.00071, with DeepSeek's mscale folded into the softmax scale */
};

enum ds_expert_scoring {
	DS_SCORING_SOFTMAX, /* V2: groups by their best expert */
	DS_SCORING_SIGMOID, /* V3: groups by the sum of their two best, bias only for the choice */
};

/* Plain data, stored in the image as it is: only fixed-size little-endian members, no padding that matters. */
struct ds_hparams {
	char architecture[32]; /* "deepseek" */
	uint32_t vocab, hidden, n_layers, n_heads;
	uint32_t context; /* max_position_embeddings */
	uint32_t ff;	  /* width of a dense layer */
	float norm_eps;
	float rope_theta;
	uint32_t rope_scaling; /* enum ds_rope_scaling */
	float rope_factor, rope_beta_fast, rope_beta_slow, rope_mscale, rope_mscale_all_dim;
	uint32_t rope_original_context;
	/* MLA */
	uint32_t q_lora; /* 0: queries have no low rank */
	uint32_t kv_lora, qk_nope, qk_rope, v_head;
	/* mixture of experts; n_experts 0: all layers dense */
	uint32_t n_experts, n_experts_used, n_shared, moe_ff;
	uint32_t first_dense; /* layers below this are dense */
	uint32_t expert_scoring; /* enum ds_expert_scoring */
	uint32_t n_groups, n_groups_used;
	uint32_t normalize_weights; /* 1: the chosen experts' weights are divided by their sum */
	float routed_scale;
	uint32_t n_mtp;
};

enum {
	DS_TOKEN_SPECIAL = 1u << 0, /* control: never shown to a person */
	DS_TOKEN_ADDED = 1u << 1,   /* matched in the raw text before splitting */
	DS_TOKEN_UNUSED = 1u << 2,  /* a row of the embedding without a text */
};

#define DS_NO_TOKEN UINT32_MAX
#define DS_MAX_PATTERNS 8
#define DS_MAX_EOS 8

struct ds_token {
	const char *text; /* the bytes it stands for (byte alphabets are already undone); may hold any byte */
	uint32_t size;
	uint32_t flags;
};

/* Merging @left and @right gives @merged; earlier in the list binds tighter. */
struct ds_merge {
	uint32_t left, right, merged;
};

struct ds_vocabulary {
	const char *tokenizer; /* entry of a tokenizer plugin: "bpe" */
	const struct ds_token *tokens; /* [n_tokens], index = id; n_tokens <= hparams.vocab */
	uint32_t n_tokens;
	const struct ds_merge *merges; /* [n_merges] */
	uint32_t n_merges;
	const char *patterns[DS_MAX_PATTERNS]; /* split patterns, applied in order, each on the pieces of the last */
	uint32_t n_patterns;
	bool nfc;	    /* normalise text to NFC first */
	bool ignore_merges; /* a piece that is a token is not merged */
	bool add_bos;	    /* raw text (not chat) starts with bos */
	uint32_t bos;	    /* DS_NO_TOKEN: none */
	uint32_t eos[DS_MAX_EOS];
	uint32_t n_eos;
};

/* Bytes of one element. */
static inline size_t ds_dtype_size(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_F32 ? 4 : 2;
}

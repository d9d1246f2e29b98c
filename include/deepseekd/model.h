/* model.h - what a language model is, whatever file it came from: hyperparameters, vocabulary, named tensors.
 *
 * A format plugin describes a checkpoint in these terms, the loader writes them into the model image, the engine reads
 * them there. All of it is plain data of fixed size or borrowed pointers.
 *
 * Tensors have canonical names. Shapes are row-major, outermost first; a weight that maps in -> out is (out, in).
 *
 *   token_embedding            (vocab, hidden)
 *   output_norm                (hidden)                     F32
 *   output                     (vocab, hidden)              absent: it is token_embedding
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
 * Grouped-query attention (architecture llama: Llama, Qwen2, Qwen3); g = n_kv_heads, hd = head_dim. A head's rows are in
 * the order of Hugging Face, so that element i is rotated with element i + hd / 2:
 *   layers.N.q                 (heads * hd, hidden)         layers.N.k, v (g * hd, hidden)
 *   layers.N.q_bias            (heads * hd) F32             layers.N.k_bias, v_bias (g * hd) F32, only if qkv_bias
 *   layers.N.q_norm, k_norm    (hd)                         F32, only if qk_norm
 *   layers.N.attention_output  (hidden, heads * hd)
 *   layers.N.attention_output_bias (hidden)                 F32, may be absent
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

/* How elements are stored. A row is a sequence of blocks of so many elements; no block straddles rows. What the bytes of
 * a block mean is defined in quants.h. */
enum ds_dtype {
	DS_DTYPE_F32 = 1,
	DS_DTYPE_F16,
	DS_DTYPE_BF16,
	DS_DTYPE_Q4_0,
	DS_DTYPE_Q4_1,
	DS_DTYPE_Q5_0,
	DS_DTYPE_Q5_1,
	DS_DTYPE_Q8_0,
	DS_DTYPE_Q2_K,
	DS_DTYPE_Q3_K,
	DS_DTYPE_Q4_K,
	DS_DTYPE_Q5_K,
	DS_DTYPE_Q6_K,
	DS_DTYPE_IQ4_NL,
	DS_DTYPE_IQ4_XS,
	DS_DTYPE_MXFP4,
	DS_DTYPE_FP8, /* DeepSeek's: an F32 scale, then 128 bytes of e4m3; the last block of a row may be padded with 0 */
	DS_N_DTYPES,
};

struct ds_dtype_info {
	const char *name;
	uint32_t block; /* elements */
	uint32_t size;	/* bytes of a block */
};

/* NULL: no such type. */
static inline const struct ds_dtype_info *ds_dtype_info(uint32_t dtype)
{
	static const struct ds_dtype_info infos[DS_N_DTYPES] = {
		[DS_DTYPE_F32] = {"F32", 1, 4},
		[DS_DTYPE_F16] = {"F16", 1, 2},
		[DS_DTYPE_BF16] = {"BF16", 1, 2},
		[DS_DTYPE_Q4_0] = {"Q4_0", 32, 18},
		[DS_DTYPE_Q4_1] = {"Q4_1", 32, 20},
		[DS_DTYPE_Q5_0] = {"Q5_0", 32, 22},
		[DS_DTYPE_Q5_1] = {"Q5_1", 32, 24},
		[DS_DTYPE_Q8_0] = {"Q8_0", 32, 34},
		[DS_DTYPE_Q2_K] = {"Q2_K", 256, 84},
		[DS_DTYPE_Q3_K] = {"Q3_K", 256, 110},
		[DS_DTYPE_Q4_K] = {"Q4_K", 256, 144},
		[DS_DTYPE_Q5_K] = {"Q5_K", 256, 176},
		[DS_DTYPE_Q6_K] = {"Q6_K", 256, 210},
		[DS_DTYPE_IQ4_NL] = {"IQ4_NL", 32, 18},
		[DS_DTYPE_IQ4_XS] = {"IQ4_XS", 256, 136},
		[DS_DTYPE_MXFP4] = {"MXFP4", 32, 17},
		[DS_DTYPE_FP8] = {"FP8", 128, 132},
	};

	return dtype > 0 && dtype < DS_N_DTYPES ? &infos[dtype] : NULL;
}

/* Bytes of a row of @cols elements of a known type. */
static inline uint64_t ds_row_size(enum ds_dtype dtype, uint64_t cols)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);

	return (cols / info->block + (cols % info->block > 0)) * info->size;
}

/* A float as it is, not a block of quantised ones? */
static inline bool ds_dtype_is_float(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_F32 || dtype == DS_DTYPE_F16 || dtype == DS_DTYPE_BF16;
}

/* Bytes of one element of a float type. */
static inline size_t ds_dtype_size(enum ds_dtype dtype)
{
	return dtype == DS_DTYPE_F32 ? 4 : 2;
}

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
	DS_ROPE_LINEAR, /* every frequency divided by rope_factor */
	DS_ROPE_LLAMA3, /* slow waves divided by rope_factor, those between low_freq_factor and high_freq_factor blended */
	DS_ROPE_DIVISORS, /* frequency i divided by rope_divisors[i] */
};

#define DS_MAX_ROPE_PAIRS 128

enum ds_expert_scoring {
	DS_SCORING_SOFTMAX, /* V2: groups by their best expert */
	DS_SCORING_SIGMOID, /* V3: groups by the sum of their two best, bias only for the choice */
};

/* The most that hyperparameters may be: wider than anything that was ever published, and narrow enough that no product of
 * two overflows 32 bits. Formats refuse more where they can name the key; the engine checks it again. */
#define DS_MAX_VOCAB (1u << 20)
#define DS_MAX_HIDDEN (1u << 15)
#define DS_MAX_LAYERS 512u
#define DS_MAX_HEADS 1024u
#define DS_MAX_HEAD_DIM (1u << 10) /* and the parts of MLA's heads */
#define DS_MAX_CONTEXT (1u << 24)
#define DS_MAX_FF (1u << 18)
#define DS_MAX_Q_LORA (1u << 15)
#define DS_MAX_KV_LORA (1u << 13)
#define DS_MAX_EXPERTS (1u << 12)
#define DS_MAX_EXPERTS_USED 64u
#define DS_MAX_SHARED_EXPERTS 64u
#define DS_MAX_MOE_FF (1u << 16)
#define DS_MAX_MTP 8u
#define DS_MIN_NORM_EPS 1e-12
#define DS_MAX_NORM_EPS 0.1

/* Plain data, stored in the image as it is: only fixed-size little-endian members, no padding that matters. */
struct ds_hparams {
	char architecture[32]; /* "deepseek", "llama" */
	uint32_t vocab, hidden, n_layers, n_heads;
	uint32_t context; /* max_position_embeddings */
	uint32_t ff;	  /* width of a dense layer */
	float norm_eps;
	float rope_theta;
	uint32_t rope_scaling; /* enum ds_rope_scaling */
	float rope_factor, rope_beta_fast, rope_beta_slow, rope_mscale, rope_mscale_all_dim;
	uint32_t rope_original_context;
	float rope_low_freq_factor, rope_high_freq_factor;
	float rope_divisors[DS_MAX_ROPE_PAIRS];
	float rope_magnitude; /* of YaRN outside of MLA: what cosines and sines are multiplied by; 0: by 1 */
	/* grouped-query attention (0: MLA) */
	uint32_t n_kv_heads, head_dim;
	uint32_t qkv_bias, qk_norm; /* 0 or 1 */
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

/* Does a KV cache of @dtype divide into whole blocks: each head's columns, or MLA's latent and its rotary key? */
static inline bool ds_kv_suits(const struct ds_hparams *h, enum ds_dtype dtype)
{
	uint32_t block = ds_dtype_info(dtype)->block;

	return h->n_kv_heads > 0 ? h->head_dim % block == 0 : h->kv_lora % block == 0 && h->qk_rope % block == 0;
}

enum {
	DS_TOKEN_SPECIAL = 1u << 0, /* control: never shown to a person */
	DS_TOKEN_ADDED = 1u << 1,   /* matched in the raw text before splitting */
	DS_TOKEN_UNUSED = 1u << 2,  /* a row of the embedding without a text */
	DS_TOKEN_BYTE = 1u << 3,    /* stands in for one byte that no other token has (spm) */
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
	const char *tokenizer; /* entry of a tokenizer plugin: "bpe", "spm" */
	const struct ds_token *tokens; /* [n_tokens], index = id; n_tokens <= hparams.vocab */
	uint32_t n_tokens;
	const struct ds_merge *merges; /* [n_merges] */
	uint32_t n_merges;
	const float *scores; /* [n_tokens], spm: of two neighbours the pair whose token has the highest score is joined first */
	const char *patterns[DS_MAX_PATTERNS]; /* split patterns, applied in order, each on the pieces of the last */
	uint32_t n_patterns;
	bool nfc;	    /* normalise text to NFC first */
	bool ignore_merges; /* a piece that is a token is not merged */
	bool add_bos;	    /* raw text (not chat) starts with bos */
	bool add_space_prefix; /* spm: text is taken as if a space came before it */
	uint32_t bos;	    /* DS_NO_TOKEN: none */
	uint32_t unknown;   /* spm: for what no token spells; DS_NO_TOKEN: none */
	uint32_t eos[DS_MAX_EOS];
	uint32_t n_eos;
};

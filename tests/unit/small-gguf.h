/* small-gguf.h - for tests of format-gguf: writes small files, right ones and wrong ones.
 *
 * Weights are zeros: a format plugin says where they lie, it does not read them. Include cmocka.h first. */
#pragma once

#include "tests/checkpoint.h"

#include "gguf.h"

#define NEW_CHECKPOINT ds_cleanup(checkpoint_freep) struct checkpoint *c = calloc(1, sizeof(*c))

/* Types of tensors, with the numbers of files. */
enum { F32 = 0, Q8_0 = 8, Q4_K = 12, I32 = 26, BF16 = 30 };

struct bytes {
	uint8_t data[32768];
	size_t n;
};

/* A file while it is written. What is 0 is as usual. */
struct small {
	uint32_t version;   /* 3 */
	uint64_t alignment; /* 32 */
	uint64_t n_keys, n_tensors;
	struct bytes keys, infos;
	uint64_t data_size;
	/* left out when it comes, so that a test can write another or none */
	const char *without;
	uint32_t type; /* of tensors of two dimensions and more: BF16 */
};

static inline void put(struct bytes *b, const void *data, size_t size)
{
	assert_true(b->n + size <= sizeof(b->data));
	memcpy(b->data + b->n, data, size);
	b->n += size;
}

static inline void put_u32(struct bytes *b, uint32_t x)
{
	put(b, &x, sizeof(x));
}

static inline void put_u64(struct bytes *b, uint64_t x)
{
	put(b, &x, sizeof(x));
}

static inline void put_text(struct bytes *b, const char *text)
{
	put_u64(b, strlen(text));
	put(b, text, strlen(text));
}

/* Begin the key @name of @type; its value follows. False: it is left out. */
static inline bool key(struct small *s, const char *name, uint32_t type)
{
	if (s->without && strcmp(s->without, name) == 0)
		return false;
	put_text(&s->keys, name);
	put_u32(&s->keys, type);
	s->n_keys++;
	return true;
}

static inline void key_u32(struct small *s, const char *name, uint32_t x)
{
	if (key(s, name, DS_GGUF_U32))
		put_u32(&s->keys, x);
}

static inline void key_f32(struct small *s, const char *name, float x)
{
	if (key(s, name, DS_GGUF_F32))
		put(&s->keys, &x, sizeof(x));
}

static inline void key_bool(struct small *s, const char *name, uint8_t x)
{
	if (key(s, name, DS_GGUF_BOOL))
		put(&s->keys, &x, sizeof(x));
}

static inline void key_text(struct small *s, const char *name, const char *text)
{
	if (key(s, name, DS_GGUF_TEXT))
		put_text(&s->keys, text);
}

static inline bool key_array(struct small *s, const char *name, uint32_t type, uint64_t count)
{
	if (!key(s, name, DS_GGUF_ARRAY))
		return false;
	put_u32(&s->keys, type);
	put_u64(&s->keys, count);
	return true;
}

static inline void key_texts(struct small *s, const char *name, const char *const *texts, size_t n)
{
	if (!key_array(s, name, DS_GGUF_TEXT, n))
		return;
	for (size_t i = 0; i < n; i++)
		put_text(&s->keys, texts[i]);
}

static inline void key_u32s(struct small *s, const char *name, const uint32_t *list, size_t n)
{
	if (key_array(s, name, DS_GGUF_U32, n))
		put(&s->keys, list, n * sizeof(*list));
}

/* The info of a tensor, whatever it says. */
static inline void info(struct small *s, const char *name, uint32_t type, uint64_t offset, uint32_t n_dims,
			const uint64_t *ne)
{
	put_text(&s->infos, name);
	put_u32(&s->infos, n_dims);
	put(&s->infos, ne, n_dims * sizeof(*ne));
	put_u32(&s->infos, type);
	put_u64(&s->infos, offset);
	s->n_tensors++;
}

/* A tensor of @a (innermost) x @b x @d elements, 0 where there is no such dimension. */
static inline void tensor(struct small *s, const char *name, uint64_t a, uint64_t b, uint64_t d)
{
	uint32_t type = !b ? F32 : s->type ? s->type : BF16;
	uint64_t alignment = s->alignment ? s->alignment : 32;
	const struct ds_gguf_type *t = ds_gguf_type(type);
	uint64_t size = a / t->block * t->size * (b ? b : 1) * (d ? d : 1);

	if (s->without && strcmp(s->without, name) == 0)
		return;
	info(s, name, type, s->data_size, d ? 3 : b ? 2 : 1, (const uint64_t[]){a, b, d});
	s->data_size += (size + alignment - 1) / alignment * alignment;
}

static inline void layer_tensor(struct small *s, unsigned layer, const char *name, uint64_t a, uint64_t b, uint64_t d)
{
	char full[96];

	snprintf(full, sizeof(full), "blk.%u.%s", layer, name);
	tensor(s, full, a, b, d);
}

static inline void write_small(struct checkpoint *c, const struct small *s, const char *name)
{
	uint64_t alignment = s->alignment ? s->alignment : 32;
	uint64_t head = 24 + s->keys.n + s->infos.n, start = (head + alignment - 1) / alignment * alignment;
	uint32_t version = s->version ? s->version : 3;
	uint8_t *file = calloc(1, start + s->data_size);

	memcpy(file, "GGUF", 4);
	memcpy(file + 4, &version, 4);
	memcpy(file + 8, &s->n_tensors, 8);
	memcpy(file + 16, &s->n_keys, 8);
	memcpy(file + 24, s->keys.data, s->keys.n);
	memcpy(file + 24 + s->keys.n, s->infos.data, s->infos.n);
	/* offsets of a file without tensors count from its end */
	checkpoint_file(c, name, file, s->n_tensors ? start + s->data_size : head);
	free(file);
}

#define SMALL(...)                                                                                                     \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	}

/* ---- small models ---- */

enum {
	HIDDEN = 64,
	VOCAB = 6,
	FF = 96,
	HEADS = 2,
	HEAD_DIM = 32,
	RANK = 96,
	ROPE = 8,
	NOPE = 32,
	VALUE = 64,
	MOE_FF = 32
};

static inline void common_keys(struct small *s, const char *architecture, unsigned n_layers)
{
	static const struct {
		const char *name;
		uint32_t value;
	} counts[] = {
		{"context_length", 64},
		{"embedding_length", HIDDEN},
		{"feed_forward_length", FF},
		{"attention.head_count", HEADS},
	};
	char name[96];

	key_text(s, "general.architecture", architecture);
	for (size_t i = 0; i < DS_ARRAY_SIZE(counts); i++) {
		snprintf(name, sizeof(name), "%s.%s", architecture, counts[i].name);
		key_u32(s, name, counts[i].value);
	}
	snprintf(name, sizeof(name), "%s.block_count", architecture);
	key_u32(s, name, n_layers);
	snprintf(name, sizeof(name), "%s.attention.layer_norm_rms_epsilon", architecture);
	key_f32(s, name, 1e-5f);
}

static inline void common_tensors(struct small *s)
{
	tensor(s, "token_embd.weight", HIDDEN, VOCAB, 0);
	tensor(s, "output_norm.weight", HIDDEN, 0, 0);
	tensor(s, "output.weight", HIDDEN, VOCAB, 0);
}

static inline void dense_tensors(struct small *s, unsigned layer)
{
	layer_tensor(s, layer, "ffn_gate.weight", HIDDEN, FF, 0);
	layer_tensor(s, layer, "ffn_up.weight", HIDDEN, FF, 0);
	layer_tensor(s, layer, "ffn_down.weight", FF, HIDDEN, 0);
}

/* One layer, two heads of queries, one of keys and values. */
static inline void small_gqa(struct small *s, const char *architecture)
{
	char name[96];

	common_keys(s, architecture, 1);
	snprintf(name, sizeof(name), "%s.attention.head_count_kv", architecture);
	key_u32(s, name, 1);
	common_tensors(s);
	layer_tensor(s, 0, "attn_norm.weight", HIDDEN, 0, 0);
	layer_tensor(s, 0, "attn_q.weight", HIDDEN, HEADS * HEAD_DIM, 0);
	layer_tensor(s, 0, "attn_k.weight", HIDDEN, HEAD_DIM, 0);
	layer_tensor(s, 0, "attn_v.weight", HIDDEN, HEAD_DIM, 0);
	layer_tensor(s, 0, "attn_output.weight", HEADS * HEAD_DIM, HIDDEN, 0);
	layer_tensor(s, 0, "ffn_norm.weight", HIDDEN, 0, 0);
	if (strcmp(architecture, "qwen2") == 0) {
		layer_tensor(s, 0, "attn_q.bias", HEADS * HEAD_DIM, 0, 0);
		layer_tensor(s, 0, "attn_k.bias", HEAD_DIM, 0, 0);
		layer_tensor(s, 0, "attn_v.bias", HEAD_DIM, 0, 0);
	}
	if (strcmp(architecture, "qwen3") == 0) {
		layer_tensor(s, 0, "attn_q_norm.weight", HEAD_DIM, 0, 0);
		layer_tensor(s, 0, "attn_k_norm.weight", HEAD_DIM, 0, 0);
	}
	dense_tensors(s, 0);
}

/* What a layer of MLA has but its feed-forward part; kv_b, or in @split form k_b and v_b. */
static inline void mla_tensors(struct small *s, unsigned layer, bool split)
{
	layer_tensor(s, layer, "attn_norm.weight", HIDDEN, 0, 0);
	layer_tensor(s, layer, "attn_q.weight", HIDDEN, HEADS * (NOPE + ROPE), 0);
	layer_tensor(s, layer, "attn_kv_a_mqa.weight", HIDDEN, RANK + ROPE, 0);
	layer_tensor(s, layer, "attn_kv_a_norm.weight", RANK, 0, 0);
	if (split) {
		layer_tensor(s, layer, "attn_k_b.weight", NOPE, RANK, HEADS);
		layer_tensor(s, layer, "attn_v_b.weight", RANK, VALUE, HEADS);
	} else {
		layer_tensor(s, layer, "attn_kv_b.weight", RANK, HEADS * (NOPE + VALUE), 0);
	}
	layer_tensor(s, layer, "attn_output.weight", HEADS * VALUE, HIDDEN, 0);
	layer_tensor(s, layer, "ffn_norm.weight", HIDDEN, 0, 0);
}

static inline void expert_tensors(struct small *s, unsigned layer, unsigned n_experts)
{
	layer_tensor(s, layer, "ffn_gate_inp.weight", HIDDEN, n_experts, 0);
	layer_tensor(s, layer, "exp_probs_b.bias", n_experts, 0, 0);
	layer_tensor(s, layer, "ffn_gate_exps.weight", HIDDEN, MOE_FF, n_experts);
	layer_tensor(s, layer, "ffn_up_exps.weight", HIDDEN, MOE_FF, n_experts);
	layer_tensor(s, layer, "ffn_down_exps.weight", MOE_FF, HIDDEN, n_experts);
	layer_tensor(s, layer, "ffn_gate_shexp.weight", HIDDEN, MOE_FF, 0);
	layer_tensor(s, layer, "ffn_up_shexp.weight", HIDDEN, MOE_FF, 0);
	layer_tensor(s, layer, "ffn_down_shexp.weight", MOE_FF, HIDDEN, 0);
}

static inline void mla_keys(struct small *s, unsigned n_layers)
{
	common_keys(s, "deepseek2", n_layers);
	key_u32(s, "deepseek2.attention.kv_lora_rank", RANK);
	key_u32(s, "deepseek2.attention.key_length", NOPE + ROPE);
	key_u32(s, "deepseek2.attention.value_length", VALUE);
	key_u32(s, "deepseek2.rope.dimension_count", ROPE);
}

/* A dense layer and one of @n_experts, without the keys that older files have not. */
static inline void small_mla(struct small *s, unsigned n_experts)
{
	mla_keys(s, 2);
	key_u32(s, "deepseek2.expert_count", n_experts);
	key_u32(s, "deepseek2.expert_used_count", 2);
	key_u32(s, "deepseek2.expert_shared_count", 1);
	key_u32(s, "deepseek2.expert_feed_forward_length", MOE_FF);
	common_tensors(s);
	mla_tensors(s, 0, false);
	dense_tensors(s, 0);
	mla_tensors(s, 1, false);
	expert_tensors(s, 1, n_experts);
}

/* ---- judging ---- */

static inline void assert_refused(struct checkpoint *c, int code, const char *part)
{
	int r = checkpoint_describe(c, &ds_gguf_ops);

	if (r != code || !strstr(c->error.text, part))
		fail_msg("%d \"%s\" instead of %d with \"%s\"", r, c->error.text, code, part);
}

static inline void assert_described(struct checkpoint *c)
{
	int r = checkpoint_describe(c, &ds_gguf_ops);

	if (r != 0)
		fail_msg("%d %s", r, c->error.text);
	for (uint32_t i = 0; i < c->n_tensors; i++) {
		const struct ds_tensor_desc *d = &c->tensors[i].desc;
		uint64_t rows = 1;

		for (uint32_t k = 0; k + 1 < d->n_dims; k++)
			rows *= d->shape[k];
		assert_int_equal(c->tensors[i].n_rows, rows);
	}
}

/* The same, of the one file @s. */
static inline void assert_small_refused(const struct small *s, int code, const char *part)
{
	NEW_CHECKPOINT;

	write_small(c, s, "m.gguf");
	assert_refused(c, code, part);
}

static inline void describe_small(struct checkpoint *c, const struct small *s)
{
	write_small(c, s, "m.gguf");
	assert_described(c);
}

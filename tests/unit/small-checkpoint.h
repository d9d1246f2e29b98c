/* small-checkpoint.h - for tests of format-safetensors: writes shards and small models, and judges what became of them.
 *
 * Weights are zeros: a format plugin says where they lie, it does not read them. Include cmocka.h first. */
#pragma once

#include "tests/checkpoint.h"

#include "checkpoint.h"

#define NEW_CHECKPOINT ds_cleanup(checkpoint_freep) struct checkpoint *c = calloc(1, sizeof(*c))

static inline void assert_refused(struct checkpoint *c, int code, const char *part)
{
	int r = checkpoint_describe(c, &ds_safetensors_ops);

	if (r != code || !strstr(c->error.text, part))
		fail_msg("%d \"%s\" instead of %d with \"%s\"", r, c->error.text, code, part);
}

static inline void assert_described(struct checkpoint *c)
{
	int r = checkpoint_describe(c, &ds_safetensors_ops);

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

/* ---- writing shards ---- */

/* A shard while it is written: a header, and data of zeros. */
struct shard {
	char header[16384];
	size_t n;
	uint64_t offset;
};

static inline void shard_add(struct shard *s, const char *name, const char *dtype, unsigned rows, unsigned cols)
{
	unsigned long long size = (strcmp(dtype, "F32") == 0 ? 4ull : strncmp(dtype, "F8_", 3) == 0 ? 1 : 2) * rows;
	char shape[64];

	snprintf(shape, sizeof(shape), cols ? "%u,%u" : "%u", rows, cols);
	size *= cols ? cols : 1;
	s->n += (size_t)snprintf(s->header + s->n, sizeof(s->header) - s->n,
				 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
				 s->n ? "," : "{", name, dtype, shape, (unsigned long long)s->offset,
				 (unsigned long long)s->offset + size);
	s->offset += size;
	assert_true(s->n < sizeof(s->header) - 2);
}

/* A file of @header, and @n_data zeros after it. */
static inline void write_shard(struct checkpoint *c, const char *name, const char *header, size_t n_data)
{
	size_t n = strlen(header), size = 8 + n + n_data;
	uint8_t *bytes = calloc(1, size);

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(n >> 8 * i);
	memcpy(bytes + 8, header, n);
	checkpoint_file(c, name, bytes, size);
	free(bytes);
}

static inline void shard_end(struct shard *s, struct checkpoint *c, const char *name)
{
	strcpy(s->header + s->n, "}");
	write_shard(c, name, s->header, s->offset);
}

/* ---- small models ---- */

#define SIZES                                                                                                          \
	"\"vocab_size\": 24, \"hidden_size\": 6, \"num_hidden_layers\": %d, \"num_attention_heads\": 2, "              \
	"\"intermediate_size\": 5, \"q_lora_rank\": null, \"kv_lora_rank\": 4, \"qk_nope_head_dim\": 3, "              \
	"\"qk_rope_head_dim\": 2, \"v_head_dim\": 7"

/* What a written model does otherwise than the plain one. */
struct change {
	const char *tensor; /* this one */
	const char *dtype;  /* NULL: it is missing */
	unsigned rows, cols;
};

struct row {
	const char *name;
	unsigned rows, cols;
};

static const struct row model_rows[] = {
	{"model.embed_tokens.weight", 24, 6},
	{"model.norm.weight", 6},
	{"lm_head.weight", 24, 6},
};

static const struct row layer_rows[] = {
	{"input_layernorm.weight", 6},
	{"self_attn.q_proj.weight", 10, 6},
	{"self_attn.kv_a_proj_with_mqa.weight", 6, 6},
	{"self_attn.kv_a_layernorm.weight", 4},
	{"self_attn.kv_b_proj.weight", 20, 4},
	{"self_attn.o_proj.weight", 6, 14},
	{"post_attention_layernorm.weight", 6},
};

static const struct row dense_rows[] = {
	{"mlp.gate_proj.weight", 5, 6},
	{"mlp.up_proj.weight", 5, 6},
	{"mlp.down_proj.weight", 6, 5},
};

static const struct row expert_rows[] = {
	{"mlp.gate.weight", 2, 6},
	{"mlp.gate.e_score_correction_bias", 2},
	{"mlp.experts.0.gate_proj.weight", 3, 6},
	{"mlp.experts.0.up_proj.weight", 3, 6},
	{"mlp.experts.0.down_proj.weight", 6, 3},
	{"mlp.experts.1.gate_proj.weight", 3, 6},
	{"mlp.experts.1.up_proj.weight", 3, 6},
	{"mlp.experts.1.down_proj.weight", 6, 3},
	{"mlp.shared_experts.gate_proj.weight", 3, 6},
	{"mlp.shared_experts.up_proj.weight", 3, 6},
	{"mlp.shared_experts.down_proj.weight", 6, 3},
};

static const struct row mtp_rows[] = {
	{"enorm.weight", 6},
	{"hnorm.weight", 6},
	{"eh_proj.weight", 6, 12},
	{"shared_head.norm.weight", 6},
	{"shared_head.head.weight", 24, 6},
};

static inline void add_rows(struct shard *s, const char *prefix, const struct row *rows, size_t n,
			    const struct change *change)
{
	char name[128];

	for (size_t i = 0; i < n; i++) {
		struct row row = rows[i];
		const char *dtype = "BF16";

		snprintf(name, sizeof(name), "%s%s", prefix, row.name);
		if (change && strcmp(change->tensor, name) == 0) {
			dtype = change->dtype;
			row = change->rows ? (struct row){name, change->rows, change->cols} : row;
		}
		if (dtype)
			shard_add(s, name, dtype, row.rows, row.cols);
	}
}

#define ADD_ROWS(s, prefix, rows, change) add_rows(s, prefix, rows, DS_ARRAY_SIZE(rows), change)

static inline void write_config(struct checkpoint *c, const char *architecture, int n_layers, const char *more)
{
	char text[2048];

	snprintf(text, sizeof(text), "{\"architectures\": [\"%s\"], " SIZES "%s%s}", architecture, n_layers,
		 *more ? ", " : "", more);
	checkpoint_text(c, "config.json", text);
}

/* A V2 model of one dense layer. */
static inline void write_dense(struct checkpoint *c, const char *config, const struct change *change)
{
	struct shard s = {};

	write_config(c, "DeepseekV2ForCausalLM", 1, config);
	ADD_ROWS(&s, "", model_rows, change);
	ADD_ROWS(&s, "model.layers.0.", layer_rows, change);
	ADD_ROWS(&s, "model.layers.0.", dense_rows, change);
	shard_end(&s, c, "model.safetensors");
}

/* Grouped-query attention: 2 heads of 4 that share one key head. */
static const struct row grouped_rows[] = {
	{"input_layernorm.weight", 6},     {"self_attn.q_proj.weight", 8, 6}, {"self_attn.k_proj.weight", 4, 6},
	{"self_attn.v_proj.weight", 4, 6}, {"self_attn.q_proj.bias", 8},      {"self_attn.k_proj.bias", 4},
	{"self_attn.v_proj.bias", 4},      {"self_attn.q_norm.weight", 4},    {"self_attn.k_norm.weight", 4},
	{"self_attn.o_proj.weight", 6, 8}, {"self_attn.o_proj.bias", 6},      {"post_attention_layernorm.weight", 6},
};

/* A model of one layer of grouped-query attention; what its family does not have lies in the file nevertheless. */
static inline void write_grouped(struct checkpoint *c, const char *architecture, const char *config,
				 const struct change *change)
{
	struct shard s = {};
	char text[2048];

	snprintf(text, sizeof(text),
		 "{\"architectures\": [\"%s\"], \"vocab_size\": 24, \"hidden_size\": 6, \"num_hidden_layers\": 1, "
		 "\"num_attention_heads\": 2, \"intermediate_size\": 5%s%s}",
		 architecture, *config ? ", " : "", config);
	checkpoint_text(c, "config.json", text);
	ADD_ROWS(&s, "", model_rows, change);
	ADD_ROWS(&s, "model.layers.0.", grouped_rows, change);
	ADD_ROWS(&s, "model.layers.0.", dense_rows, change);
	shard_end(&s, c, "model.safetensors");
}

#define GROUPED "\"num_key_value_heads\": 1, \"head_dim\": 4"

/* The dense model with the matrix @matrix in FP8, and its scales unless @scale_type is NULL. */
static inline void write_fp8(struct checkpoint *c, const char *config, const char *matrix, const char *scale_type,
			     unsigned scale_rows, unsigned scale_cols)
{
	const struct change change = {matrix, "F8_E4M3"};
	struct shard s = {};
	char name[128];

	write_config(c, "DeepseekV2ForCausalLM", 1, config);
	ADD_ROWS(&s, "", model_rows, &change);
	ADD_ROWS(&s, "model.layers.0.", layer_rows, &change);
	ADD_ROWS(&s, "model.layers.0.", dense_rows, &change);
	snprintf(name, sizeof(name), "%s_scale_inv", matrix);
	if (scale_type)
		shard_add(&s, name, scale_type, scale_rows, scale_cols);
	shard_end(&s, c, "model.safetensors");
}

#define FP8(tile)                                                                                                      \
	"\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [" tile "]}"

#define EXPERTS                                                                                                        \
	"\"n_routed_experts\": 2, \"num_experts_per_tok\": 1, \"moe_intermediate_size\": 3, \"n_group\": 1, "          \
	"\"topk_group\": 1, \"first_k_dense_replace\": 1"

/* A V3 model of a dense layer, one of experts, and a prediction block; and @extra, if it is not NULL. */
static inline void write_experts_and(struct checkpoint *c, const char *config, const struct change *change,
				     const struct change *extra)
{
	struct shard s = {};

	write_config(c, "DeepseekV3ForCausalLM", 2, config);
	ADD_ROWS(&s, "", model_rows, change);
	ADD_ROWS(&s, "model.layers.0.", layer_rows, change);
	ADD_ROWS(&s, "model.layers.0.", dense_rows, change);
	ADD_ROWS(&s, "model.layers.1.", layer_rows, change);
	ADD_ROWS(&s, "model.layers.1.", expert_rows, change);
	ADD_ROWS(&s, "model.layers.2.", mtp_rows, change);
	ADD_ROWS(&s, "model.layers.2.", layer_rows, change);
	ADD_ROWS(&s, "model.layers.2.", expert_rows, change);
	if (extra)
		shard_add(&s, extra->tensor, extra->dtype, extra->rows, extra->cols);
	shard_end(&s, c, "model.safetensors");
}

static inline void write_experts(struct checkpoint *c, const char *config, const struct change *change)
{
	write_experts_and(c, config, change, NULL);
}

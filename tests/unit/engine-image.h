/* engine-image.h - model images for tests, with weights drawn at random: a small deepseek of every kind of layer, and a
 * small llama that has all that Qwen2 and Qwen3 have. */
#pragma once

#include "image-writer.h"
#include "plugins/backend-cpu/cpu.h"

#include <string.h>
#include <sys/mman.h>

#define IMAGE_MAX_TENSORS 96

struct image_plan {
	struct ds_hparams hparams;
	struct ds_image_writer *writer;
	struct ds_tensor_desc tensors[IMAGE_MAX_TENSORS];
	struct ds_layout layouts[IMAGE_MAX_TENSORS];
	char names[IMAGE_MAX_TENSORS][48];
	uint32_t n;
};

static inline struct ds_hparams image_hparams(void)
{
	return (struct ds_hparams){
		.architecture = "deepseek", .vocab = 260, .hidden = 32, .n_layers = 2, .n_heads = 2, .context = 4096, .ff = 48,
		.norm_eps = 1e-6f, .rope_theta = 10000, .rope_scaling = DS_ROPE_YARN, .rope_factor = 40,
		.rope_beta_fast = 32, .rope_beta_slow = 1, .rope_mscale = 1, .rope_mscale_all_dim = 1,
		.rope_original_context = 64, .q_lora = 24, .kv_lora = 16, .qk_nope = 8, .qk_rope = 4, .v_head = 8,
		.n_experts = 8, .n_experts_used = 2, .n_shared = 1, .moe_ff = 16, .first_dense = 1,
		.expert_scoring = DS_SCORING_SIGMOID, .n_groups = 2, .n_groups_used = 1, .normalize_weights = 1,
		.routed_scale = 2.5f, .n_mtp = 1,
	};
}

static inline struct ds_hparams image_llama_hparams(void)
{
	return (struct ds_hparams){
		.architecture = "llama", .vocab = 260, .hidden = 32, .n_layers = 2, .n_heads = 4, .context = 4096, .ff = 48,
		.norm_eps = 1e-6f, .rope_theta = 10000, .rope_scaling = DS_ROPE_LLAMA3, .rope_factor = 8,
		.rope_low_freq_factor = 1, .rope_high_freq_factor = 4, .rope_original_context = 64, .n_kv_heads = 2,
		.head_dim = 12, .qkv_bias = 1, .qk_norm = 1,
	};
}

static inline void image_add(struct image_plan *plan, const char *layer, const char *name, enum ds_dtype dtype,
			     uint64_t a, uint64_t b, uint64_t c)
{
	struct ds_tensor_desc *t = &plan->tensors[plan->n];
	struct ds_layout *layout = &plan->layouts[plan->n];

	snprintf(plan->names[plan->n], sizeof(plan->names[0]), "%s%s", layer, name);
	*t = (struct ds_tensor_desc){.name = plan->names[plan->n], .dtype = dtype, .n_dims = c ? 3 : b ? 2 : 1,
				     .shape = {a, b ? b : 1, c ? c : 1, 1}};
	if (t->n_dims > 1)
		ds_cpu_ops.plan(t, DS_PRECISION_EXACT, layout, NULL);
	else
		*layout = (struct ds_layout){.size = a * ds_dtype_size(dtype)};
	ds_image_writer_tensor(plan->writer, t, layout->id, layout->size, NULL);
	plan->n++;
}

static inline void image_add_layer(struct image_plan *plan, const char *layer, bool moe)
{
	const struct ds_hparams *p = &plan->hparams;
	uint64_t h = p->n_heads, head = p->qk_nope + p->qk_rope, shared = p->n_shared * p->moe_ff;

	image_add(plan, layer, "attention_norm", DS_DTYPE_F32, p->hidden, 0, 0);
	image_add(plan, layer, "ffn_norm", DS_DTYPE_F32, p->hidden, 0, 0);
	image_add(plan, layer, "q_a", DS_DTYPE_BF16, p->q_lora, p->hidden, 0);
	image_add(plan, layer, "q_a_norm", DS_DTYPE_F32, p->q_lora, 0, 0);
	image_add(plan, layer, "q_b", DS_DTYPE_F16, h * head, p->q_lora, 0);
	image_add(plan, layer, "kv_a", DS_DTYPE_F32, p->kv_lora + p->qk_rope, p->hidden, 0);
	image_add(plan, layer, "kv_a_norm", DS_DTYPE_F32, p->kv_lora, 0, 0);
	image_add(plan, layer, "k_b", DS_DTYPE_BF16, h, p->kv_lora, p->qk_nope);
	image_add(plan, layer, "v_b", DS_DTYPE_BF16, h, p->v_head, p->kv_lora);
	image_add(plan, layer, "attention_output", DS_DTYPE_BF16, p->hidden, h * p->v_head, 0);
	if (!moe) {
		image_add(plan, layer, "ffn_gate", DS_DTYPE_BF16, p->ff, p->hidden, 0);
		image_add(plan, layer, "ffn_up", DS_DTYPE_BF16, p->ff, p->hidden, 0);
		image_add(plan, layer, "ffn_down", DS_DTYPE_BF16, p->hidden, p->ff, 0);
		return;
	}
	image_add(plan, layer, "router", DS_DTYPE_F32, p->n_experts, p->hidden, 0);
	image_add(plan, layer, "router_bias", DS_DTYPE_F32, p->n_experts, 0, 0);
	image_add(plan, layer, "experts_gate", DS_DTYPE_BF16, p->n_experts, p->moe_ff, p->hidden);
	image_add(plan, layer, "experts_up", DS_DTYPE_BF16, p->n_experts, p->moe_ff, p->hidden);
	image_add(plan, layer, "experts_down", DS_DTYPE_BF16, p->n_experts, p->hidden, p->moe_ff);
	image_add(plan, layer, "shared_gate", DS_DTYPE_BF16, shared, p->hidden, 0);
	image_add(plan, layer, "shared_up", DS_DTYPE_BF16, shared, p->hidden, 0);
	image_add(plan, layer, "shared_down", DS_DTYPE_BF16, p->hidden, shared, 0);
}

/* Weights of about 0.2: bit patterns whose exponent is that, in each type. */
static inline void image_fill(const struct image_plan *plan, uint8_t *data)
{
	uint32_t random = 42;

	for (uint32_t i = 0; i < plan->n; i++) {
		uint8_t *at = data + ds_image_writer_offset(plan->writer, i);
		size_t width = ds_dtype_size(plan->tensors[i].dtype);

		for (uint64_t j = 0; j + width <= plan->layouts[i].size; j += width) {
			uint16_t half;
			uint32_t word;

			random = random * 1664525 + 1013904223;
			half = (uint16_t)((plan->tensors[i].dtype == DS_DTYPE_F16 ? 0x3000 : 0x3e00) | (random >> 16 & 0x807f));
			word = (uint32_t)half << 16;
			memcpy(at + j, width == 4 ? (void *)&word : (void *)&half, width);
		}
	}
}

static inline void image_add_deepseek(struct image_plan *plan)
{
	image_add(plan, "", "output", DS_DTYPE_BF16, plan->hparams.vocab, plan->hparams.hidden, 0);
	image_add_layer(plan, "layers.0.", false);
	image_add_layer(plan, "layers.1.", true);
	image_add(plan, "", "mtp.0.embedding_norm", DS_DTYPE_F32, plan->hparams.hidden, 0, 0);
	image_add(plan, "", "mtp.0.hidden_norm", DS_DTYPE_F32, plan->hparams.hidden, 0, 0);
	image_add(plan, "", "mtp.0.output_norm", DS_DTYPE_F32, plan->hparams.hidden, 0, 0);
	image_add(plan, "", "mtp.0.projection", DS_DTYPE_BF16, plan->hparams.hidden, 2 * plan->hparams.hidden, 0);
	image_add_layer(plan, "mtp.0.layer.", true);
}

/* A layer of grouped-query attention; its output's bias only in the first one. */
static inline void image_add_grouped_layer(struct image_plan *plan, const char *layer, bool output_bias)
{
	const struct ds_hparams *p = &plan->hparams;
	uint64_t q = p->n_heads * p->head_dim, kv = p->n_kv_heads * p->head_dim;

	image_add(plan, layer, "attention_norm", DS_DTYPE_F32, p->hidden, 0, 0);
	image_add(plan, layer, "q", DS_DTYPE_BF16, q, p->hidden, 0);
	image_add(plan, layer, "k", DS_DTYPE_F16, kv, p->hidden, 0);
	image_add(plan, layer, "v", DS_DTYPE_F32, kv, p->hidden, 0);
	image_add(plan, layer, "q_bias", DS_DTYPE_F32, q, 0, 0);
	image_add(plan, layer, "k_bias", DS_DTYPE_F32, kv, 0, 0);
	image_add(plan, layer, "v_bias", DS_DTYPE_F32, kv, 0, 0);
	image_add(plan, layer, "q_norm", DS_DTYPE_F32, p->head_dim, 0, 0);
	image_add(plan, layer, "k_norm", DS_DTYPE_F32, p->head_dim, 0, 0);
	image_add(plan, layer, "attention_output", DS_DTYPE_BF16, p->hidden, q, 0);
	if (output_bias)
		image_add(plan, layer, "attention_output_bias", DS_DTYPE_F32, p->hidden, 0, 0);
	image_add(plan, layer, "ffn_norm", DS_DTYPE_F32, p->hidden, 0, 0);
	image_add(plan, layer, "ffn_gate", DS_DTYPE_BF16, p->ff, p->hidden, 0);
	image_add(plan, layer, "ffn_up", DS_DTYPE_BF16, p->ff, p->hidden, 0);
	image_add(plan, layer, "ffn_down", DS_DTYPE_BF16, p->hidden, p->ff, 0);
}

/* Its embeddings are tied: it has no output. */
static inline void image_add_llama(struct image_plan *plan)
{
	image_add_grouped_layer(plan, "layers.0.", true);
	image_add_grouped_layer(plan, "layers.1.", false);
}

/* The image in a memfd that is not sealed. */
static inline int image_new_of(struct ds_hparams hparams)
{
	struct image_plan *plan = calloc(1, sizeof(*plan));
	uint8_t *data;
	uint64_t size;
	int fd = memfd_create("image", MFD_CLOEXEC);

	plan->hparams = hparams;
	ds_image_writer_new(&plan->writer, NULL);
	ds_image_writer_hparams(plan->writer, &plan->hparams, NULL);
	ds_image_writer_backend(plan->writer, ds_cpu_ops.identity(), NULL);
	image_add(plan, "", "token_embedding", DS_DTYPE_BF16, plan->hparams.vocab, plan->hparams.hidden, 0);
	image_add(plan, "", "output_norm", DS_DTYPE_F32, plan->hparams.hidden, 0, 0);
	if (hparams.n_kv_heads > 0)
		image_add_llama(plan);
	else
		image_add_deepseek(plan);
	if (ds_image_writer_layout(plan->writer, NULL) < 0)
		abort();
	size = ds_image_writer_size(plan->writer);
	if (ftruncate(fd, (off_t)size) < 0 || ds_image_writer_write(plan->writer, fd, NULL) < 0)
		abort();
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	image_fill(plan, data);
	munmap(data, size);
	ds_image_writer_free(plan->writer);
	free(plan);
	return fd;
}

static inline int image_new(void)
{
	return image_new_of(image_hparams());
}

/* synth-safetensors.c - config.json from hyperparameters, and one .safetensors file: its header in memory, then
 * weights. */
#include "synth-safetensors.h"

#include "synth-weights.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

struct directory {
	FILE *header; /* in memory */
	char *text;
	size_t text_size;
	struct synth_weights *weights; /* NULL: the first pass, which only writes the header */
	uint64_t start, size;          /* of the data; so far */
	bool is_first;
};

/* Canonical names, those with a dot before them being of a layer. */
static const char *const names[][2] = {
	{"token_embedding", "model.embed_tokens.weight"},
	{"output_norm", "model.norm.weight"},
	{"output", "lm_head.weight"},
	{".attention_norm", ".input_layernorm.weight"},
	{".q", ".self_attn.q_proj.weight"},
	{".k", ".self_attn.k_proj.weight"},
	{".v", ".self_attn.v_proj.weight"},
	{".q_bias", ".self_attn.q_proj.bias"},
	{".k_bias", ".self_attn.k_proj.bias"},
	{".v_bias", ".self_attn.v_proj.bias"},
	{".q_norm", ".self_attn.q_norm.weight"},
	{".k_norm", ".self_attn.k_norm.weight"},
	{".q_a", ".self_attn.q_a_proj.weight"},
	{".q_a_norm", ".self_attn.q_a_layernorm.weight"},
	{".q_b", ".self_attn.q_b_proj.weight"},
	{".kv_a", ".self_attn.kv_a_proj_with_mqa.weight"},
	{".kv_a_norm", ".self_attn.kv_a_layernorm.weight"},
	{".kv_b", ".self_attn.kv_b_proj.weight"},
	{".attention_output", ".self_attn.o_proj.weight"},
	{".ffn_norm", ".post_attention_layernorm.weight"},
	{".ffn_gate", ".mlp.gate_proj.weight"},
	{".ffn_up", ".mlp.up_proj.weight"},
	{".ffn_down", ".mlp.down_proj.weight"},
	{".router", ".mlp.gate.weight"},
	{".router_bias", ".mlp.gate.e_score_correction_bias"},
	{".experts_gate", ".mlp.experts.%u.gate_proj.weight"},
	{".experts_up", ".mlp.experts.%u.up_proj.weight"},
	{".experts_down", ".mlp.experts.%u.down_proj.weight"},
	{".shared_gate", ".mlp.shared_experts.gate_proj.weight"},
	{".shared_up", ".mlp.shared_experts.up_proj.weight"},
	{".shared_down", ".mlp.shared_experts.down_proj.weight"},
};

static bool name_of(char *out, size_t size, const char *name, unsigned expert)
{
	unsigned layer = 0;
	int start = 0;
	bool in_layer = sscanf(name, "layers.%u%n", &layer, &start) == 1;

	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++) {
		const char *mark = strstr(names[i][1], "%u");
		int n;

		if (strcmp(names[i][0], name + start) != 0)
			continue;
		n = in_layer ? snprintf(out, size, "model.layers.%u", layer) : 0;
		if (mark)
			snprintf(out + n, size - (size_t)n, "%.*s%u%s", (int)(mark - names[i][1]), names[i][1], expert,
				 mark + 2);
		else
			snprintf(out + n, size - (size_t)n, "%s", names[i][1]);
		return true;
	}
	return false;
}

/* One tensor of the file: in the first pass its line of the header, in the second its weights. */
static int add_one(struct directory *d, const struct ds_tensor_desc *desc, unsigned expert, struct ds_error *err)
{
	enum ds_dtype dtype = strstr(desc->name, "router_bias") ? DS_DTYPE_F32 : DS_DTYPE_BF16;
	uint64_t offset = d->size, size = ds_dtype_size(dtype);
	char name[128];

	for (uint32_t i = 0; i < desc->n_dims; i++)
		size *= desc->shape[i];
	d->size += size;
	if (d->weights)
		return synth_weights_write(d->weights, desc, dtype, d->start + offset, err);
	if (!name_of(name, sizeof(name), desc->name, expert))
		return ds_fail(err, -EINVAL, "%s has no name in checkpoints", desc->name);
	fprintf(d->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRIu64, d->is_first ? "{" : ",", name,
		dtype == DS_DTYPE_F32 ? "F32" : "BF16", desc->shape[0]);
	if (desc->n_dims > 1)
		fprintf(d->header, ",%" PRIu64, desc->shape[1]);
	fprintf(d->header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, d->size);
	d->is_first = false;
	return 0;
}

/* Experts are tensors of their own. */
static int add(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct ds_tensor_desc one = *desc;
	int r = 0;

	if (desc->n_dims < 3)
		return add_one(self, desc, 0, err);
	one.n_dims = 2;
	one.shape[0] = desc->shape[1];
	one.shape[1] = desc->shape[2];
	for (unsigned e = 0; r == 0 && e < desc->shape[0]; e++)
		r = add_one(self, &one, e, err);
	return r;
}

static void write_latent_config(FILE *f, const struct ds_hparams *h)
{
	bool sigmoid = h->expert_scoring == DS_SCORING_SIGMOID;

	if (h->q_lora)
		fprintf(f, ", \"q_lora_rank\": %u", h->q_lora);
	else
		fputs(", \"q_lora_rank\": null", f);
	fprintf(f,
		", \"kv_lora_rank\": %u, \"qk_nope_head_dim\": %u, \"qk_rope_head_dim\": %u, \"v_head_dim\": %u, "
		"\"n_routed_experts\": %u, \"num_experts_per_tok\": %u, \"n_shared_experts\": %u, "
		"\"moe_intermediate_size\": %u, \"first_k_dense_replace\": %u, \"moe_layer_freq\": 1, \"n_group\": %u, "
		"\"topk_group\": %u, \"norm_topk_prob\": %s, \"routed_scaling_factor\": %g, \"scoring_func\": \"%s\", "
		"\"topk_method\": \"%s\", \"num_nextn_predict_layers\": 0, \"rope_scaling\": {\"type\": \"yarn\", "
		"\"factor\": %g, \"original_max_position_embeddings\": %u, \"beta_fast\": %g, \"beta_slow\": %g, "
		"\"mscale\": %g, \"mscale_all_dim\": %g}",
		h->kv_lora, h->qk_nope, h->qk_rope, h->v_head, h->n_experts, h->n_experts_used, h->n_shared, h->moe_ff,
		h->first_dense, h->n_groups, h->n_groups_used, h->normalize_weights ? "true" : "false",
		(double)h->routed_scale, sigmoid ? "sigmoid" : "softmax", sigmoid ? "noaux_tc" : "greedy",
		(double)h->rope_factor, h->rope_original_context, (double)h->rope_beta_fast, (double)h->rope_beta_slow,
		(double)h->rope_mscale, (double)h->rope_mscale_all_dim);
}

static void write_grouped_config(FILE *f, const struct ds_hparams *h)
{
	fprintf(f, ", \"num_key_value_heads\": %u, \"head_dim\": %u", h->n_kv_heads, h->head_dim);
	if (h->rope_scaling == DS_ROPE_LLAMA3)
		fprintf(f,
			", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": %g, \"low_freq_factor\": %g, "
			"\"high_freq_factor\": %g, \"original_max_position_embeddings\": %u}",
			(double)h->rope_factor, (double)h->rope_low_freq_factor, (double)h->rope_high_freq_factor,
			h->rope_original_context);
}

static int write_config(const struct ds_hparams *h, int folder, struct ds_error *err)
{
	int fd = openat(folder, "config.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	const char *architecture =
		h->n_kv_heads == 0
			? (h->expert_scoring == DS_SCORING_SIGMOID ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM")
		: h->qkv_bias ? "Qwen2ForCausalLM"
			      : "LlamaForCausalLM";

	if (!f)
		return ds_fail(err, -errno, "config.json: %s", strerror(errno));
	fprintf(f,
		"{\"architectures\": [\"%s\"], \"hidden_act\": \"silu\", \"torch_dtype\": \"bfloat16\", "
		"\"tie_word_embeddings\": false, \"vocab_size\": %u, \"hidden_size\": %u, \"num_hidden_layers\": %u, "
		"\"num_attention_heads\": %u, \"intermediate_size\": %u, \"max_position_embeddings\": %u, "
		"\"rms_norm_eps\": %g, \"rope_theta\": %g",
		architecture, h->vocab, h->hidden, h->n_layers, h->n_heads, h->ff, h->context, (double)h->norm_eps,
		(double)h->rope_theta);
	if (h->n_kv_heads == 0)
		write_latent_config(f, h);
	else
		write_grouped_config(f, h);
	fputs("}\n", f);
	return fclose(f) == 0 ? 0 : ds_fail(err, -errno, "config.json: %s", strerror(errno));
}

static int write_weights(struct directory *d, const struct ds_hparams *h, int fd, struct ds_error *err)
{
	uint64_t size;
	int r = synth_each_tensor(h, true, add, d, err);

	fputc('}', d->header);
	while (ftell(d->header) % 8 != 0)
		fputc(' ', d->header);
	if (fflush(d->header) != 0)
		return ds_fail(err, -ENOMEM, "no memory for a header");
	size = d->text_size;
	d->start = sizeof(size) + size;
	if (r == 0)
		r = synth_write_at(fd, &size, sizeof(size), 0, err);
	if (r == 0)
		r = synth_write_at(fd, d->text, d->text_size, sizeof(size), err);
	if (r == 0)
		r = synth_weights_new(&d->weights, fd, err);
	d->size = 0;
	return r < 0 ? r : synth_each_tensor(h, true, add, d, err);
}

int synth_safetensors_write(const struct synth_preset *preset, const char *path, struct ds_error *err)
{
	struct directory d = {.is_first = true};
	ds_cleanup(ds_closep) int folder = -1;
	ds_cleanup(ds_closep) int fd = -1;
	int r;

	if (mkdir(path, 0777) < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = folder < 0 ? -1 : openat(folder, "model.safetensors", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	d.header = open_memstream(&d.text, &d.text_size);
	if (!d.header)
		return ds_fail(err, -ENOMEM, "no memory for a header");
	r = write_config(&preset->hparams, folder, err);
	if (r == 0)
		r = write_weights(&d, &preset->hparams, fd, err);
	fclose(d.header);
	free(d.text);
	synth_weights_free(d.weights);
	return r;
}

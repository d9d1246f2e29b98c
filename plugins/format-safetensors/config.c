/* config.c - config.json -> hyperparameters: tables of families, and of keys with type, bounds and defaults.
 *
 * The defaults are those of the configuration classes that the checkpoints were published with. Sizes that no model
 * leaves out have none. What the architecture could not honour is refused: no model is better than a wrong one. */
#include "checkpoint.h"

#define FILE_NAME "config.json"

static const struct family {
	const char *architecture;
	const char *model_type;
	bool latent;  /* MLA, with experts; else grouped-query attention, dense */
	bool biased;  /* queries, keys and values have biases, whatever the config says */
	bool qk_norm; /* each head of queries and keys has a norm */
} families[DS_N_FAMILIES] = {
	[DS_FAMILY_V2] = {"DeepseekV2ForCausalLM", "deepseek_v2", .latent = true},
	[DS_FAMILY_V3] = {"DeepseekV3ForCausalLM", "deepseek_v3", .latent = true},
	[DS_FAMILY_LLAMA] = {"LlamaForCausalLM", "llama"},
	[DS_FAMILY_QWEN2] = {"Qwen2ForCausalLM", "qwen2", .biased = true},
	[DS_FAMILY_QWEN3] = {"Qwen3ForCausalLM", "qwen3", .qk_norm = true},
};

#define FIELD(member) offsetof(struct ds_hparams, member)
#define REQUIRED DS_KEY_REQUIRED
#define ALL(x)                                                                                                         \
	{                                                                                                              \
		x, x, x, x, x                                                                                          \
	}

/* Defaults in the order of enum ds_family. */
static const struct ds_key keys[] = {
	{"vocab_size", DS_KEY_COUNT, FIELD(vocab), 1, DS_MAX_VOCAB, ALL(REQUIRED)},
	{"hidden_size", DS_KEY_COUNT, FIELD(hidden), 1, DS_MAX_HIDDEN, ALL(REQUIRED)},
	{"num_hidden_layers", DS_KEY_COUNT, FIELD(n_layers), 1, DS_MAX_LAYERS, ALL(REQUIRED)},
	{"num_attention_heads", DS_KEY_COUNT, FIELD(n_heads), 1, DS_MAX_HEADS, ALL(REQUIRED)},
	{"intermediate_size", DS_KEY_COUNT, FIELD(ff), 1, DS_MAX_FF, ALL(REQUIRED)},
	{"max_position_embeddings", DS_KEY_COUNT, FIELD(context), 1, DS_MAX_CONTEXT, {2048, 4096, 2048, 32768, 32768}},
	{"rms_norm_eps", DS_KEY_REAL, FIELD(norm_eps), DS_MIN_NORM_EPS, DS_MAX_NORM_EPS, ALL(1e-6)},
	{"rope_theta", DS_KEY_REAL, FIELD(rope_theta), 2, 1e12, ALL(10000)},
};

static const struct ds_key latent_keys[] = {
	{"q_lora_rank", DS_KEY_COUNT, FIELD(q_lora), 0, DS_MAX_Q_LORA, {1536, 1536}, true},
	{"kv_lora_rank", DS_KEY_COUNT, FIELD(kv_lora), 1, DS_MAX_KV_LORA, {512, 512}},
	{"qk_nope_head_dim", DS_KEY_COUNT, FIELD(qk_nope), 1, DS_MAX_HEAD_DIM, {128, 128}},
	{"qk_rope_head_dim", DS_KEY_COUNT, FIELD(qk_rope), 2, DS_MAX_HEAD_DIM, {64, 64}},
	{"v_head_dim", DS_KEY_COUNT, FIELD(v_head), 1, DS_MAX_HEAD_DIM, {128, 128}},
	{"n_routed_experts", DS_KEY_COUNT, FIELD(n_experts), 0, DS_MAX_EXPERTS, {0, 0}, true},
	{"num_experts_per_tok", DS_KEY_COUNT, FIELD(n_experts_used), 0, DS_MAX_EXPERTS_USED, {0, 8}, true},
	{"n_shared_experts", DS_KEY_COUNT, FIELD(n_shared), 0, DS_MAX_SHARED_EXPERTS, {0, 1}, true},
	{"moe_intermediate_size", DS_KEY_COUNT, FIELD(moe_ff), 1, DS_MAX_MOE_FF, {1407, 2048}},
	{"first_k_dense_replace", DS_KEY_COUNT, FIELD(first_dense), 0, DS_MAX_LAYERS, {0, 3}},
	{"n_group", DS_KEY_COUNT, FIELD(n_groups), 0, DS_MAX_EXPERTS, {0, 8}, true},
	{"topk_group", DS_KEY_COUNT, FIELD(n_groups_used), 0, DS_MAX_EXPERTS, {0, 4}, true},
	{"norm_topk_prob", DS_KEY_BOOL, FIELD(normalize_weights), 0, 1, {0, 1}},
	{"routed_scaling_factor", DS_KEY_REAL, FIELD(routed_scale), 0, 1e6, {1, 2.5}},
	{"num_nextn_predict_layers", DS_KEY_COUNT, FIELD(n_mtp), 0, DS_MAX_MTP, {0, 1}, true},
};

/* 0: as many as heads; hidden_size shared among the heads. */
static const struct ds_key grouped_keys[] = {
	{"num_key_value_heads", DS_KEY_COUNT, FIELD(n_kv_heads), 1, DS_MAX_HEADS, {0, 0, 0, 32, 32}, true},
	{"head_dim", DS_KEY_COUNT, FIELD(head_dim), 2, DS_MAX_HEAD_DIM, {0, 0, 0, 0, 128}, true},
};

#define LATENT (1u << DS_FAMILY_V2 | 1u << DS_FAMILY_V3)
#define QWEN (1u << DS_FAMILY_QWEN2 | 1u << DS_FAMILY_QWEN3)

/* Keys that must have one value if they are there, in some families; the value as JSON. */
static const struct {
	const char *key;
	const char *json;
	unsigned families;
} fixed[] = {
	{"hidden_act", "\"silu\"", ~0u},
	{"moe_layer_freq", "1", LATENT},
	{"attention_bias", "false", LATENT},
	{"rope_interleave", "true", LATENT},
	{"mlp_bias", "false", 1u << DS_FAMILY_LLAMA},
	{"use_sliding_window", "false", QWEN},
	{"partial_rotary_factor", "1.0", ~0u},
};

static const char *type_name(enum ds_key_type type)
{
	return type == DS_KEY_BOOL ? "true or false" : type == DS_KEY_COUNT ? "a whole number" : "a number";
}

/* The number of @value if it has the type of @key. */
static bool number(double *out, const struct ds_key *key, const json_t *value)
{
	if (key->type == DS_KEY_BOOL) {
		*out = json_is_true(value);
		return json_is_boolean(value);
	}
	*out = json_number_value(value);
	return key->type == DS_KEY_COUNT ? json_is_integer(value) : json_is_number(value);
}

int ds_key_read(double *out, const json_t *object, const char *prefix, const struct ds_key *key, enum ds_family family,
		struct ds_error *err)
{
	const json_t *value = json_object_get(object, key->name);
	double x = key->otherwise[family];

	if (json_is_null(value) && key->nullable) {
		x = 0;
	} else if (value && !json_is_null(value)) {
		if (!number(&x, key, value))
			return ds_fail(err, -EINVAL, FILE_NAME ": %s%s should be %s", prefix, key->name,
				       type_name(key->type));
		if (!(x >= key->min && x <= key->max))
			return ds_fail(err, -EINVAL, FILE_NAME ": %s%s is %.10g, allowed: %.10g to %.10g", prefix,
				       key->name, x, key->min, key->max);
	} else if (x == REQUIRED) {
		return ds_fail(err, -EINVAL, FILE_NAME ": %s%s is missing", prefix, key->name);
	}
	*out = x;
	return 0;
}

int ds_keys_read(struct ds_checkpoint *c, const json_t *object, const char *prefix, const struct ds_key *table,
		 size_t n, struct ds_error *err)
{
	for (const struct ds_key *key = table; key < table + n; key++) {
		char *field = (char *)&c->hparams + key->offset;
		double x;
		int r = ds_key_read(&x, object, prefix, key, c->family, err);

		if (r < 0)
			return r;
		if (key->type == DS_KEY_REAL)
			*(float *)field = (float)x;
		else
			*(uint32_t *)field = (uint32_t)x;
	}
	return 0;
}

static int unknown_architecture(const char *name, struct ds_error *err)
{
	char list[160];
	size_t n = 0;

	for (size_t i = 0; i < DS_N_FAMILIES; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", families[i].architecture);
	return ds_fail(err, -ENOTSUP, FILE_NAME ": architecture %.64s is not supported (supported: %s)",
		       ds_shown(name).text, list);
}

static int read_architecture(enum ds_family *out, const json_t *config, struct ds_error *err)
{
	const json_t *list = NULL;
	const char *architecture, *model_type = NULL;
	int r;

	r = ds_json_array(&list, config, FILE_NAME, "architectures", err);
	if (r < 0)
		return r;
	r = ds_json_string(&model_type, config, FILE_NAME, "model_type", err);
	if (r < 0)
		return r;
	architecture = json_string_value(json_array_get(list, 0));
	if (!architecture && !model_type)
		return ds_fail(err, -EINVAL, FILE_NAME ": architectures and model_type are missing");
	for (size_t i = 0; i < DS_N_FAMILIES; i++)
		if (architecture ? strcmp(architecture, families[i].architecture) == 0
				 : strcmp(model_type, families[i].model_type) == 0) {
			*out = (enum ds_family)i;
			return 0;
		}
	return unknown_architecture(architecture ? architecture : model_type, err);
}

/* Equal, 1 and 1.0 being the same. */
static bool same(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return json_number_value(a) == json_number_value(b);
	return json_equal(a, b);
}

static int check_fixed(const json_t *config, enum ds_family family, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(fixed); i++) {
		const json_t *value = json_object_get(config, fixed[i].key);
		json_auto_t *wanted = NULL;
		ds_cleanup(ds_freep) char *json = NULL;

		if (!(fixed[i].families & 1u << family) || !value || json_is_null(value))
			continue;
		wanted = json_loads(fixed[i].json, JSON_DECODE_ANY, NULL);
		json = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		if (!wanted || !json)
			return ds_fail(err, -ENOMEM, FILE_NAME ": no memory for %s", fixed[i].key);
		if (!same(value, wanted))
			return ds_fail(err, -ENOTSUP, FILE_NAME ": %s %s is not supported (supported: %s)",
				       fixed[i].key, ds_shown(json).text, fixed[i].json);
	}
	return 0;
}

/* MLA and its experts. */
static int read_latent(struct ds_checkpoint *c, struct ds_error *err)
{
	int r = ds_keys_read(c, c->config, "", latent_keys, DS_ARRAY_SIZE(latent_keys), err);

	if (r < 0)
		return r;
	if (c->hparams.qk_rope % 2)
		return ds_fail(err, -EINVAL, FILE_NAME ": qk_rope_head_dim is %u, but rotation needs an even number",
			       c->hparams.qk_rope);
	return ds_routing_read(c, err);
}

/* Newer files say of each layer what its attention sees. */
static int check_layer_types(const json_t *config, struct ds_error *err)
{
	const json_t *list = NULL;
	json_t *type;
	size_t i;
	int r = ds_json_array(&list, config, FILE_NAME, "layer_types", err);

	if (r < 0)
		return r;
	json_array_foreach (list, i, type) {
		const char *name = json_string_value(type);

		if (!name || strcmp(name, "full_attention") != 0)
			return ds_fail(err, -ENOTSUP,
				       FILE_NAME ": layer_types[%zu] %s is not supported (supported: full_attention)",
				       i, name ? ds_shown(name).text : "that is no text");
	}
	return 0;
}

/* Biases of the attention: Qwen2 always has those of queries, keys and values; the others have all four or none. */
static int read_biases(struct ds_checkpoint *c, struct ds_error *err)
{
	int r = 0;

	if (!families[c->family].biased)
		r = ds_json_bool(&c->output_bias, c->config, FILE_NAME, "attention_bias", err);
	c->hparams.qkv_bias = families[c->family].biased || c->output_bias;
	return r;
}

/* Grouped-query attention. */
static int read_grouped(struct ds_checkpoint *c, struct ds_error *err)
{
	struct ds_hparams *h = &c->hparams;
	int r = ds_keys_read(c, c->config, "", grouped_keys, DS_ARRAY_SIZE(grouped_keys), err);

	if (r < 0)
		return r;
	if (h->n_kv_heads == 0)
		h->n_kv_heads = h->n_heads;
	if (h->n_heads % h->n_kv_heads)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": num_key_value_heads is %u, which does not divide num_attention_heads (%u)",
			       h->n_kv_heads, h->n_heads);
	if (h->head_dim == 0 && h->hidden % h->n_heads)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": head_dim is missing, and num_attention_heads (%u) does not divide "
					 "hidden_size (%u)",
			       h->n_heads, h->hidden);
	if (h->head_dim == 0)
		h->head_dim = h->hidden / h->n_heads;
	if (h->head_dim % 2)
		return ds_fail(err, -EINVAL, FILE_NAME ": head_dim is %u, but rotation needs an even number",
			       h->head_dim);
	h->qk_norm = families[c->family].qk_norm;
	r = read_biases(c, err);
	return r < 0 ? r : check_layer_types(c->config, err);
}

int ds_config_read(struct ds_checkpoint *c, struct ds_error *err)
{
	bool latent;
	int r;

	r = ds_json_load(&c->config, c, FILE_NAME, 0, err);
	if (r < 0)
		return r;
	if (!c->config)
		return ds_fail(err, -EINVAL, FILE_NAME " is missing");
	r = read_architecture(&c->family, c->config, err);
	if (r < 0)
		return r;
	latent = families[c->family].latent;
	snprintf(c->hparams.architecture, sizeof(c->hparams.architecture), latent ? "deepseek" : "llama");
	r = check_fixed(c->config, c->family, err);
	if (r < 0)
		return r;
	r = ds_keys_read(c, c->config, "", keys, DS_ARRAY_SIZE(keys), err);
	if (r < 0)
		return r;
	r = latent ? read_latent(c, err) : read_grouped(c, err);
	if (r < 0)
		return r;
	r = ds_rope_read(c, err);
	if (r < 0)
		return r;
	r = ds_scales_read(c, err);
	if (r < 0)
		return r;
	return ds_json_bool(&c->tied, c->config, FILE_NAME, "tie_word_embeddings", err);
}

/* config.c - config.json -> hyperparameters: one table of keys with type, bounds and defaults.
 *
 * The defaults are those of the configuration classes that the checkpoints were published with. Sizes that no model
 * leaves out have none. What the architecture could not honour is refused: no model is better than a wrong one. */
#include "checkpoint.h"

#define FILE_NAME "config.json"

enum generation {
	V2,
	V3,
	N_GENERATIONS,
};

static const struct {
	const char *architecture;
	const char *model_type;
	enum generation generation;
} supported[] = {
	{"DeepseekV2ForCausalLM", "deepseek_v2", V2},
	{"DeepseekV3ForCausalLM", "deepseek_v3", V3},
};

enum type {
	COUNT, /* uint32_t */
	REAL,  /* float */
	BOOL,  /* uint32_t, 0 or 1 */
};

#define REQUIRED (-1.0)

/* A number of config.json and where it goes. @otherwise: its value when the key is missing. null counts as missing, but
 * for the @nullable ones, where it means 0. */
struct key {
	const char *name;
	enum type type;
	size_t offset; /* in struct ds_hparams */
	double min, max;
	double otherwise[N_GENERATIONS];
	bool nullable;
};

#define FIELD(member) offsetof(struct ds_hparams, member)

static const struct key keys[] = {
	{"vocab_size", COUNT, FIELD(vocab), 1, 1 << 24, {REQUIRED, REQUIRED}},
	{"hidden_size", COUNT, FIELD(hidden), 1, 1 << 20, {REQUIRED, REQUIRED}},
	{"num_hidden_layers", COUNT, FIELD(n_layers), 1, 4096, {REQUIRED, REQUIRED}},
	{"num_attention_heads", COUNT, FIELD(n_heads), 1, 65536, {REQUIRED, REQUIRED}},
	{"intermediate_size", COUNT, FIELD(ff), 1, 1 << 24, {REQUIRED, REQUIRED}},
	{"max_position_embeddings", COUNT, FIELD(context), 1, 1 << 30, {2048, 4096}},
	{"rms_norm_eps", REAL, FIELD(norm_eps), 0, 1, {1e-6, 1e-6}},
	{"rope_theta", REAL, FIELD(rope_theta), 2, 1e12, {10000, 10000}},
	{"q_lora_rank", COUNT, FIELD(q_lora), 0, 1 << 20, {1536, 1536}, true},
	{"kv_lora_rank", COUNT, FIELD(kv_lora), 1, 1 << 20, {512, 512}},
	{"qk_nope_head_dim", COUNT, FIELD(qk_nope), 1, 65536, {128, 128}},
	{"qk_rope_head_dim", COUNT, FIELD(qk_rope), 2, 65536, {64, 64}},
	{"v_head_dim", COUNT, FIELD(v_head), 1, 65536, {128, 128}},
	{"n_routed_experts", COUNT, FIELD(n_experts), 0, 65536, {0, 0}, true},
	{"num_experts_per_tok", COUNT, FIELD(n_experts_used), 0, 65536, {0, 8}, true},
	{"n_shared_experts", COUNT, FIELD(n_shared), 0, 4096, {0, 1}, true},
	{"moe_intermediate_size", COUNT, FIELD(moe_ff), 1, 1 << 24, {1407, 2048}},
	{"first_k_dense_replace", COUNT, FIELD(first_dense), 0, 1 << 20, {0, 3}},
	{"n_group", COUNT, FIELD(n_groups), 0, 65536, {0, 8}, true},
	{"topk_group", COUNT, FIELD(n_groups_used), 0, 65536, {0, 4}, true},
	{"norm_topk_prob", BOOL, FIELD(normalize_weights), 0, 1, {0, 1}},
	{"routed_scaling_factor", REAL, FIELD(routed_scale), 0, 1e6, {1, 2.5}},
	{"num_nextn_predict_layers", COUNT, FIELD(n_mtp), 0, 64, {0, 1}, true},
};

/* Of rope_scaling. */
static const struct key yarn_keys[] = {
	{"factor", REAL, FIELD(rope_factor), 1, 1e6, {REQUIRED, REQUIRED}},
	{"original_max_position_embeddings", COUNT, FIELD(rope_original_context), 1, 1 << 30, {4096, 4096}},
	{"beta_fast", REAL, FIELD(rope_beta_fast), 1e-6, 1e6, {32, 32}},
	{"beta_slow", REAL, FIELD(rope_beta_slow), 1e-6, 1e6, {1, 1}},
	{"mscale", REAL, FIELD(rope_mscale), 0, 1e6, {1, 1}},
	{"mscale_all_dim", REAL, FIELD(rope_mscale_all_dim), 0, 1e6, {0, 0}},
};

/* Keys that must have one value if they are there; the value as JSON. */
static const struct {
	const char *key;
	const char *json;
} fixed[] = {
	{"hidden_act", "\"silu\""},
	{"moe_layer_freq", "1"},
	{"attention_bias", "false"},
	{"rope_interleave", "true"},
};

/* How experts are chosen, as config.json says it. */
static const struct {
	const char *method;  /* topk_method */
	const char *scoring; /* scoring_func */
	enum ds_expert_scoring value;
	bool groups;
} routings[] = {
	{"greedy", "softmax", DS_SCORING_SOFTMAX, false},
	{"group_limited_greedy", "softmax", DS_SCORING_SOFTMAX, true},
	{"noaux_tc", "sigmoid", DS_SCORING_SIGMOID, true},
};

static const char *type_name(enum type type)
{
	return type == BOOL ? "true or false" : type == COUNT ? "a whole number" : "a number";
}

/* The number of @value if it has the type of @key. */
static bool number(double *out, const struct key *key, const json_t *value)
{
	if (key->type == BOOL) {
		*out = json_is_true(value);
		return json_is_boolean(value);
	}
	*out = json_number_value(value);
	return key->type == COUNT ? json_is_integer(value) : json_is_number(value);
}

static void store(struct ds_hparams *h, const struct key *key, double value)
{
	char *field = (char *)h + key->offset;

	if (key->type == REAL)
		*(float *)field = (float)value;
	else
		*(uint32_t *)field = (uint32_t)value;
}

/* Read the keys of a table from @object; @prefix ("rope_scaling." or "") is for the sentences. */
static int read_keys(struct ds_hparams *h, const json_t *object, const char *prefix, const struct key *table, size_t n,
		     enum generation generation, struct ds_error *err)
{
	for (const struct key *key = table; key < table + n; key++) {
		const json_t *value = json_object_get(object, key->name);
		double x = key->otherwise[generation];

		if (json_is_null(value) && key->nullable) {
			x = 0;
		} else if (value && !json_is_null(value)) {
			if (!number(&x, key, value))
				return ds_fail(err, -EINVAL, FILE_NAME ": %s%s should be %s", prefix, key->name,
					       type_name(key->type));
			if (!(x >= key->min && x <= key->max))
				return ds_fail(err, -EINVAL, FILE_NAME ": %s%s is %g, allowed: %.10g to %.10g", prefix,
					       key->name, x, key->min, key->max);
		} else if (x == REQUIRED) {
			return ds_fail(err, -EINVAL, FILE_NAME ": %s%s is missing", prefix, key->name);
		}
		store(h, key, x);
	}
	return 0;
}

static int read_architecture(enum generation *out, const json_t *config, struct ds_error *err)
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
	for (size_t i = 0; i < DS_ARRAY_SIZE(supported); i++)
		if (architecture ? strcmp(architecture, supported[i].architecture) == 0
				 : strcmp(model_type, supported[i].model_type) == 0) {
			*out = supported[i].generation;
			return 0;
		}
	return ds_fail(err, -ENOTSUP, FILE_NAME ": architecture %s is not supported (supported: %s, %s)",
		       ds_shown(architecture ? architecture : model_type).text, supported[V2].architecture,
		       supported[V3].architecture);
}

static int check_fixed(const json_t *config, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(fixed); i++) {
		const json_t *value = json_object_get(config, fixed[i].key);
		ds_cleanup(ds_freep) char *json = NULL;

		if (!value || json_is_null(value))
			continue;
		json = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		if (!json)
			return ds_fail(err, -ENOMEM, FILE_NAME ": no memory for %s", fixed[i].key);
		if (strcmp(json, fixed[i].json) != 0)
			return ds_fail(err, -ENOTSUP, FILE_NAME ": %s %s is not supported (supported: %s)",
				       fixed[i].key, ds_shown(json).text, fixed[i].json);
	}
	return 0;
}

/* rope_scaling, or rope_parameters, which newer checkpoints have in its place and which also holds rope_theta. */
static int read_rope(struct ds_hparams *h, const json_t *config, enum generation generation, struct ds_error *err)
{
	const json_t *scaling = NULL, *parameters = NULL;
	const char *type = NULL;
	int r;

	h->rope_scaling = DS_ROPE_PLAIN;
	h->rope_factor = 1;
	h->rope_mscale = 1;
	r = ds_json_object(&scaling, config, FILE_NAME, "rope_scaling", err);
	if (r < 0)
		return r;
	r = ds_json_object(&parameters, config, FILE_NAME, "rope_parameters", err);
	if (r < 0)
		return r;
	if (parameters && !scaling) {
		static const struct key theta = {"rope_theta", REAL, FIELD(rope_theta), 2, 1e12, {10000, 10000}};

		scaling = parameters;
		r = read_keys(h, parameters, "rope_parameters.", &theta, 1, generation, err);
		if (r < 0)
			return r;
	}
	if (!scaling)
		return 0;
	r = ds_json_string(&type, scaling, FILE_NAME, "type", err);
	if (r < 0)
		return r;
	r = ds_json_string(&type, scaling, FILE_NAME, "rope_type", err);
	if (r < 0)
		return r;
	if (!type)
		return ds_fail(err, -EINVAL, FILE_NAME ": rope_scaling.type is missing");
	if (strcmp(type, "default") == 0)
		return 0;
	if (strcmp(type, "yarn") != 0)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": rope_scaling.type %s is not supported (supported: yarn)",
			       ds_shown(type).text);
	h->rope_scaling = DS_ROPE_YARN;
	r = read_keys(h, scaling, "rope_scaling.", yarn_keys, DS_ARRAY_SIZE(yarn_keys), generation, err);
	if (r < 0)
		return r;
	/* unequal, they would also scale the rotations: no published model has that, and the architecture does not */
	if (h->rope_factor > 1 && h->rope_mscale != h->rope_mscale_all_dim)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": rope_scaling.mscale %g and mscale_all_dim %g are supported only when equal",
			       h->rope_mscale, h->rope_mscale_all_dim);
	return 0;
}

/* What the numbers of the router must satisfy together. */
static int check_experts(const struct ds_hparams *h, struct ds_error *err)
{
	uint32_t per_group;

	if (h->n_experts_used < 1 || h->n_experts_used > h->n_experts)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": num_experts_per_tok is %u, allowed: 1 to n_routed_experts (%u)",
			       h->n_experts_used, h->n_experts);
	if (h->n_groups < 1 || h->n_experts % h->n_groups)
		return ds_fail(err, -EINVAL, FILE_NAME ": n_group is %u, which does not divide n_routed_experts (%u)",
			       h->n_groups, h->n_experts);
	if (h->n_groups_used < 1 || h->n_groups_used > h->n_groups)
		return ds_fail(err, -EINVAL, FILE_NAME ": topk_group is %u, allowed: 1 to n_group (%u)",
			       h->n_groups_used, h->n_groups);
	per_group = h->n_experts / h->n_groups;
	if (h->expert_scoring == DS_SCORING_SIGMOID && h->n_groups > 1 && per_group < 2)
		return ds_fail(err, -EINVAL, FILE_NAME ": n_group is %u, which leaves less than two experts in a group",
			       h->n_groups);
	if (h->n_experts_used > per_group * h->n_groups_used)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": num_experts_per_tok is %u, but topk_group groups hold only %u",
			       h->n_experts_used, per_group * h->n_groups_used);
	return 0;
}

static int read_routing(struct ds_hparams *h, const json_t *config, enum generation generation, struct ds_error *err)
{
	const char *method = generation == V3 ? "noaux_tc" : "greedy";
	const char *scoring = generation == V3 ? "sigmoid" : "softmax";
	int r;

	r = ds_json_string(&method, config, FILE_NAME, "topk_method", err);
	if (r < 0)
		return r;
	r = ds_json_string(&scoring, config, FILE_NAME, "scoring_func", err);
	if (r < 0)
		return r;
	if (h->n_experts == 0) {
		h->n_experts_used = h->n_shared = h->n_groups = h->n_groups_used = 0;
		return 0;
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(routings); i++) {
		if (strcmp(method, routings[i].method) != 0 || strcmp(scoring, routings[i].scoring) != 0)
			continue;
		h->expert_scoring = routings[i].value;
		if (!routings[i].groups || h->n_groups == 0)
			h->n_groups = h->n_groups_used = 1;
		return check_experts(h, err);
	}
	return ds_fail(err, -ENOTSUP,
		       FILE_NAME ": topk_method %s with scoring_func %s is not supported "
				 "(supported: greedy or group_limited_greedy with softmax, noaux_tc with sigmoid)",
		       ds_shown(method).text, ds_shown(scoring).text);
}

int ds_config_read(struct ds_checkpoint *c, struct ds_error *err)
{
	struct ds_hparams *h = &c->hparams;
	enum generation generation = V3;
	int r;

	r = ds_json_load(&c->config, c, FILE_NAME, err);
	if (r < 0)
		return r;
	if (!c->config)
		return ds_fail(err, -EINVAL, FILE_NAME " is missing");
	r = read_architecture(&generation, c->config, err);
	if (r < 0)
		return r;
	snprintf(h->architecture, sizeof(h->architecture), "deepseek");
	r = check_fixed(c->config, err);
	if (r < 0)
		return r;
	r = read_keys(h, c->config, "", keys, DS_ARRAY_SIZE(keys), generation, err);
	if (r < 0)
		return r;
	if (h->qk_rope % 2)
		return ds_fail(err, -EINVAL, FILE_NAME ": qk_rope_head_dim is %u, but rotation needs an even number",
			       h->qk_rope);
	r = read_rope(h, c->config, generation, err);
	if (r < 0)
		return r;
	r = read_routing(h, c->config, generation, err);
	if (r < 0)
		return r;
	return ds_json_bool(&c->tied, c->config, FILE_NAME, "tie_word_embeddings", err);
}

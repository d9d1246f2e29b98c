/* rope.c - rope_scaling of config.json: a table of the scalings with the keys of each. */
#include "checkpoint.h"

#include <math.h>

#define FILE_NAME "config.json"
#define PREFIX "rope_scaling."
#define FIELD(member) offsetof(struct ds_hparams, member)
#define REQUIRED DS_KEY_REQUIRED
#define ALL(x)                                                                                                         \
	{                                                                                                              \
		x, x, x, x, x                                                                                          \
	}

static const struct ds_key linear_keys[] = {
	{"factor", DS_KEY_REAL, FIELD(rope_factor), 1, 1e6, ALL(REQUIRED)},
};

static const struct ds_key llama3_keys[] = {
	{"factor", DS_KEY_REAL, FIELD(rope_factor), 1, 1e6, ALL(REQUIRED)},
	{"low_freq_factor", DS_KEY_REAL, FIELD(rope_low_freq_factor), 1e-6, 1e6, ALL(REQUIRED)},
	{"high_freq_factor", DS_KEY_REAL, FIELD(rope_high_freq_factor), 1e-6, 1e6, ALL(REQUIRED)},
	{"original_max_position_embeddings", DS_KEY_COUNT, FIELD(rope_original_context), 1, 1 << 30, ALL(REQUIRED)},
};

/* Outside of MLA, no original length means max_position_embeddings, and mscale counts only together with
 * mscale_all_dim. */
static const struct ds_key yarn_keys[] = {
	{"factor", DS_KEY_REAL, FIELD(rope_factor), 1, 1e6, ALL(REQUIRED)},
	{"original_max_position_embeddings", DS_KEY_COUNT, FIELD(rope_original_context), 1, 1 << 30, {4096, 4096}},
	{"beta_fast", DS_KEY_REAL, FIELD(rope_beta_fast), 1e-6, 1e6, ALL(32)},
	{"beta_slow", DS_KEY_REAL, FIELD(rope_beta_slow), 1e-6, 1e6, ALL(1)},
	{"mscale", DS_KEY_REAL, FIELD(rope_mscale), 0, 1e6, {1, 1}},
	{"mscale_all_dim", DS_KEY_REAL, FIELD(rope_mscale_all_dim), 0, 1e6, {0, 0}},
};

/* Absent, 0 and 1. */
static const struct ds_key attention_factor = {"attention_factor", DS_KEY_REAL, .min = 1e-6, .max = 1e6};
static const struct ds_key attn_factor = {"attn_factor", DS_KEY_REAL, .min = 1e-6, .max = 1e6, .otherwise = ALL(1)};

static int read_llama3(struct ds_checkpoint *c, const json_t *scaling, struct ds_error *err)
{
	const struct ds_hparams *h = &c->hparams;

	if (h->rope_high_freq_factor > h->rope_low_freq_factor)
		return 0;
	return ds_fail(err, -EINVAL,
		       FILE_NAME ": " PREFIX "high_freq_factor is %g, allowed: above low_freq_factor (%g)",
		       h->rope_high_freq_factor, h->rope_low_freq_factor);
}

static double magnitude(double factor, double mscale)
{
	return 0.1 * mscale * log(factor) + 1;
}

/* What cosines and sines are multiplied by outside of MLA: attention_factor itself; without it what YaRN proposes,
 * times attn_factor, by which DeepSeek-R1-0528-Qwen3-8B takes it back. */
static int read_magnitude(struct ds_checkpoint *c, const json_t *scaling, struct ds_error *err)
{
	struct ds_hparams *h = &c->hparams;
	double given, correction;
	int r = ds_key_read(&given, scaling, PREFIX, &attention_factor, c->family, err);

	if (r < 0)
		return r;
	r = ds_key_read(&correction, scaling, PREFIX, &attn_factor, c->family, err);
	if (r < 0)
		return r;
	if (given == 0 && h->rope_mscale > 0 && h->rope_mscale_all_dim > 0)
		given = magnitude(h->rope_factor, h->rope_mscale) / magnitude(h->rope_factor, h->rope_mscale_all_dim);
	else if (given == 0)
		given = magnitude(h->rope_factor, 1) * correction;
	h->rope_magnitude = (float)given;
	return 0;
}

static int read_yarn(struct ds_checkpoint *c, const json_t *scaling, struct ds_error *err)
{
	struct ds_hparams *h = &c->hparams;
	bool truncate = true;
	int r = ds_json_bool(&truncate, scaling, FILE_NAME, "truncate", err);

	if (r < 0)
		return r;
	if (!truncate)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": " PREFIX "truncate false is not supported (supported: true)");
	if (h->n_kv_heads > 0) {
		if (h->rope_original_context == 0)
			h->rope_original_context = h->context;
		return read_magnitude(c, scaling, err);
	}
	/* unequal, they would also scale the rotations: no published model has that, and the architecture does not */
	if (h->rope_factor > 1 && h->rope_mscale != h->rope_mscale_all_dim)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": " PREFIX "mscale %g and mscale_all_dim %g are supported only when equal",
			       h->rope_mscale, h->rope_mscale_all_dim);
	return 0;
}

static const struct {
	const char *type;
	enum ds_rope_scaling value;
	const struct ds_key *keys;
	size_t n_keys;
	int (*read)(struct ds_checkpoint *c, const json_t *scaling,
		    struct ds_error *err); /* the rest, if there is any */
} scalings[] = {
	{"default", DS_ROPE_PLAIN, NULL, 0, NULL},
	{"linear", DS_ROPE_LINEAR, linear_keys, DS_ARRAY_SIZE(linear_keys), NULL},
	{"llama3", DS_ROPE_LLAMA3, llama3_keys, DS_ARRAY_SIZE(llama3_keys), read_llama3},
	{"yarn", DS_ROPE_YARN, yarn_keys, DS_ARRAY_SIZE(yarn_keys), read_yarn},
};

static int read_scaling(struct ds_checkpoint *c, const json_t *scaling, struct ds_error *err)
{
	const char *type = NULL;
	int r;

	r = ds_json_string(&type, scaling, FILE_NAME, "type", err);
	if (r < 0)
		return r;
	r = ds_json_string(&type, scaling, FILE_NAME, "rope_type", err);
	if (r < 0)
		return r;
	if (!type)
		return ds_fail(err, -EINVAL, FILE_NAME ": rope_scaling.type is missing");
	for (size_t i = 0; i < DS_ARRAY_SIZE(scalings); i++) {
		if (strcmp(type, scalings[i].type) != 0)
			continue;
		c->hparams.rope_scaling = scalings[i].value;
		r = ds_keys_read(c, scaling, PREFIX, scalings[i].keys, scalings[i].n_keys, err);
		return r < 0 || !scalings[i].read ? r : scalings[i].read(c, scaling, err);
	}
	return ds_fail(err, -ENOTSUP,
		       FILE_NAME ": rope_scaling.type %s is not supported (supported: default, linear, llama3, yarn)",
		       ds_shown(type).text);
}

/* rope_scaling, or rope_parameters, which newer checkpoints have in its place and which also holds rope_theta. */
int ds_rope_read(struct ds_checkpoint *c, struct ds_error *err)
{
	static const struct ds_key parameter_keys[] = {
		{"rope_theta", DS_KEY_REAL, FIELD(rope_theta), 2, 1e12, ALL(10000)},
	};
	static const struct ds_key rotated = {"partial_rotary_factor", DS_KEY_REAL, .min = 1, .max = 1,
					      .otherwise = ALL(1)};
	const json_t *scaling = NULL, *parameters = NULL;
	double share;
	int r;

	c->hparams.rope_scaling = DS_ROPE_PLAIN;
	c->hparams.rope_factor = 1;
	c->hparams.rope_mscale = 1;
	r = ds_json_object(&scaling, c->config, FILE_NAME, "rope_scaling", err);
	if (r < 0)
		return r;
	r = ds_json_object(&parameters, c->config, FILE_NAME, "rope_parameters", err);
	if (r < 0)
		return r;
	if (scaling)
		return read_scaling(c, scaling, err);
	if (!parameters)
		return 0;
	r = ds_keys_read(c, parameters, "rope_parameters.", parameter_keys, DS_ARRAY_SIZE(parameter_keys), err);
	if (r < 0)
		return r;
	r = ds_key_read(&share, parameters, "rope_parameters.", &rotated, c->family, err);
	return r < 0 ? r : read_scaling(c, parameters, err);
}

/* special.c - which tokens begin and end a text: tokenizer_config.json first, then config.json and
 * generation_config.json.
 *
 * The tokenizer's own bos is believed before config.json's: the distilled models' configs name another. */
#include "checkpoint.h"

#define TOKENIZER_FILE "tokenizer.json"
#define TOKENIZER_CONFIG_FILE "tokenizer_config.json"

/* tokenizer_config.json writes a token as its text or as an object with a content. */
static int read_named(uint32_t *id, const struct ds_vocabulary *v, const json_t *config, const char *key,
		      struct ds_error *err)
{
	const json_t *value = json_object_get(config, key);
	const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);

	*id = DS_NO_TOKEN;
	if (!value || json_is_null(value))
		return 0;
	if (!text)
		return ds_fail(err, -EINVAL, TOKENIZER_CONFIG_FILE ": %s should be a text or an object with a content",
			       key);
	*id = ds_added_id(v, text);
	if (*id == DS_NO_TOKEN)
		return ds_fail(err, -EINVAL, TOKENIZER_CONFIG_FILE ": %s %s is not an added token of " TOKENIZER_FILE,
			       key, ds_shown(text).text);
	return 0;
}

static int check_id(uint32_t *id, const json_t *value, const struct ds_vocabulary *v, const char *file, const char *key,
		    struct ds_error *err)
{
	json_int_t x = json_integer_value(value);

	if (!json_is_integer(value))
		return ds_fail(err, -EINVAL, "%s: %s should be a token id", file, key);
	if (x < 0 || x >= v->n_tokens)
		return ds_fail(err, -EINVAL, "%s: %s is %lld, but there are %u tokens", file, key, (long long)x,
			       v->n_tokens);
	*id = (uint32_t)x;
	return 0;
}

/* eos_token_id: a number, a list of them, or null. */
static int read_eos_ids(struct ds_vocabulary *v, const json_t *config, const char *file, struct ds_error *err)
{
	const json_t *value = json_object_get(config, "eos_token_id");
	size_t n = json_is_array(value) ? json_array_size(value) : 1;

	if (!value || json_is_null(value))
		return 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t id;
		int r = check_id(&id, json_is_array(value) ? json_array_get(value, i) : value, v, file, "eos_token_id",
				 err);

		if (r < 0)
			return r;
		ds_add_eos(v, id);
	}
	return 0;
}

static int read_bos_id(struct ds_vocabulary *v, const json_t *config, const char *file, struct ds_error *err)
{
	const json_t *value = json_object_get(config, "bos_token_id");

	if (v->bos != DS_NO_TOKEN || !value || json_is_null(value))
		return 0;
	return check_id(&v->bos, value, v, file, "bos_token_id", err);
}

/* Does the post-processor put a special token before a text? Asked when tokenizer_config.json has no add_bos_token. */
static bool template_adds_bos(const json_t *processor)
{
	const json_t *list = json_object_get(processor, "processors");
	json_t *part;
	size_t i;

	json_array_foreach ((json_t *)list, i, part)
		if (json_object_get(json_array_get(json_object_get(part, "single"), 0), "SpecialToken"))
			return true;
	return json_object_get(json_array_get(json_object_get(processor, "single"), 0), "SpecialToken");
}

int ds_special_read(struct ds_vocabulary *v, const struct ds_checkpoint *c, struct ds_error *err)
{
	uint32_t eos;
	int r;

	v->unknown = DS_NO_TOKEN;
	v->add_bos = template_adds_bos(json_object_get(c->tokenizer, "post_processor"));
	r = ds_json_bool(&v->add_bos, c->tokenizer_config, TOKENIZER_CONFIG_FILE, "add_bos_token", err);
	if (r < 0)
		return r;
	r = read_named(&v->bos, v, c->tokenizer_config, "bos_token", err);
	if (r < 0)
		return r;
	r = read_named(&eos, v, c->tokenizer_config, "eos_token", err);
	if (r < 0)
		return r;
	ds_add_eos(v, eos);
	r = read_eos_ids(v, c->generation, "generation_config.json", err);
	if (r < 0)
		return r;
	r = read_eos_ids(v, c->config, "config.json", err);
	if (r < 0)
		return r;
	r = read_bos_id(v, c->config, "config.json", err);
	if (r < 0)
		return r;
	ds_add_enders(v);
	if (v->bos == DS_NO_TOKEN)
		v->add_bos = false;
	return 0;
}

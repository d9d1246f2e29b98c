/* keys.c - typed access to the keys of a file. Writers disagree on the width of whole numbers: any that holds the value
 * is taken, and a list of equal numbers, one a layer, is taken for the number. */
#include "gguf.h"

static const char *const type_names[DS_GGUF_N_VALUES] = {
	[DS_GGUF_U8] = "u8",     [DS_GGUF_I8] = "i8",       [DS_GGUF_U16] = "u16", [DS_GGUF_I16] = "i16",
	[DS_GGUF_U32] = "u32",   [DS_GGUF_I32] = "i32",     [DS_GGUF_F32] = "f32", [DS_GGUF_BOOL] = "bool",
	[DS_GGUF_TEXT] = "text", [DS_GGUF_ARRAY] = "array", [DS_GGUF_U64] = "u64", [DS_GGUF_I64] = "i64",
	[DS_GGUF_F64] = "f64",
};

const struct ds_gguf_key *ds_gguf_key(const struct ds_gguf_part *part, const char *name)
{
	size_t size = strlen(name), low = 0, high = part->n_keys;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct ds_gguf_text *t = &part->keys[middle].name;
		int order = memcmp(t->text, name, t->size < size ? t->size : size);

		if (order == 0)
			order = (t->size > size) - (t->size < size);
		if (order == 0)
			return &part->keys[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int wrong_type(const struct ds_gguf_part *part, const char *name, const struct ds_gguf_key *key,
		      const char *wanted, struct ds_error *err)
{
	return ds_fail(err, -EINVAL, "%s: %s should be %s, not %s%s", ds_shown(part->source.file->name).text, name,
		       wanted, key->array ? "an array of " : "", type_names[key->type]);
}

bool ds_gguf_whole(const struct ds_gguf_key *key, uint64_t i, uint64_t *out)
{
	const char *p = key->value + i * ds_gguf_value_size(key->type);
	int64_t x;

	switch (key->type) {
	case DS_GGUF_U8:
		x = (uint8_t)*p;
		break;
	case DS_GGUF_I8:
		x = (int8_t)*p;
		break;
	case DS_GGUF_U16:
		x = ds_gguf_u16(p);
		break;
	case DS_GGUF_I16:
		x = (int16_t)ds_gguf_u16(p);
		break;
	case DS_GGUF_U32:
		x = ds_gguf_u32(p);
		break;
	case DS_GGUF_I32:
		x = (int32_t)ds_gguf_u32(p);
		break;
	case DS_GGUF_U64:
	case DS_GGUF_I64:
		x = (int64_t)ds_gguf_u64(p);
		break;
	default:
		return false;
	}
	*out = (uint64_t)x;
	return x >= 0;
}

static bool is_whole(const struct ds_gguf_key *key)
{
	return key->type <= DS_GGUF_I32 || key->type == DS_GGUF_U64 || key->type == DS_GGUF_I64;
}

int ds_gguf_count(const struct ds_gguf_part *part, const char *name, uint64_t min, uint64_t max, uint64_t *out,
		  struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(part, name);
	uint64_t x = 0, other;

	if (!key)
		return 0;
	if (!is_whole(key) || key->count == 0)
		return wrong_type(part, name, key, "a whole number", err);
	for (uint64_t i = 0; i < key->count; i++) {
		if (!ds_gguf_whole(key, i, &other) || other < min || other > max)
			return ds_fail(err, -EINVAL, "%s: %s is %s%" PRIu64 ", allowed: %" PRIu64 " to %" PRIu64,
				       ds_shown(part->source.file->name).text, name,
				       (int64_t)other < 0 && key->type != DS_GGUF_U64 ? "-" : "",
				       (int64_t)other < 0 && key->type != DS_GGUF_U64 ? 0 - other : other, min, max);
		if (i > 0 && other != x)
			return ds_fail(err, -ENOTSUP, "%s: %s differs from layer to layer, which is not supported",
				       ds_shown(part->source.file->name).text, name);
		x = other;
	}
	*out = x;
	return 0;
}

int ds_gguf_number(const struct ds_gguf_part *part, const char *name, double min, double max, double *out,
		   struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(part, name);
	uint64_t bits, whole;
	float single;
	double x;

	if (!key)
		return 0;
	if (key->array || (key->type != DS_GGUF_F32 && key->type != DS_GGUF_F64 && !is_whole(key)))
		return wrong_type(part, name, key, "a number", err);
	if (key->type == DS_GGUF_F32) {
		uint32_t word = ds_gguf_u32(key->value);

		memcpy(&single, &word, sizeof(single));
		x = single;
	} else if (key->type == DS_GGUF_F64) {
		bits = ds_gguf_u64(key->value);
		memcpy(&x, &bits, sizeof(x));
	} else {
		x = ds_gguf_whole(key, 0, &whole) ? (double)whole : -1;
	}
	if (!(x >= min && x <= max))
		return ds_fail(err, -EINVAL, "%s: %s is %.7g, allowed: %.10g to %.10g",
			       ds_shown(part->source.file->name).text, name, x, min, max);
	*out = x;
	return 0;
}

int ds_gguf_bool(const struct ds_gguf_part *part, const char *name, bool *out, struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(part, name);

	if (!key)
		return 0;
	if (key->array || key->type != DS_GGUF_BOOL || (uint8_t)*key->value > 1)
		return wrong_type(part, name, key, "true or false", err);
	*out = *key->value;
	return 0;
}

int ds_gguf_text(const struct ds_gguf_part *part, const char *name, struct ds_gguf_text *out, struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(part, name);
	const char *at;

	if (!key)
		return 0;
	if (key->array || key->type != DS_GGUF_TEXT)
		return wrong_type(part, name, key, "a text", err);
	at = key->value;
	*out = ds_gguf_next_text(&at);
	return 0;
}

int ds_gguf_array(const struct ds_gguf_part *part, const char *name, enum ds_gguf_value element,
		  const struct ds_gguf_key **out, struct ds_error *err)
{
	const struct ds_gguf_key *key = ds_gguf_key(part, name);
	char wanted[32];

	*out = NULL;
	if (!key)
		return 0;
	snprintf(wanted, sizeof(wanted), "an array of %s", type_names[element]);
	if (!key->array || key->type != element)
		return wrong_type(part, name, key, wanted, err);
	*out = key;
	return 0;
}

struct ds_gguf_text ds_gguf_next_text(const char **at)
{
	struct ds_gguf_text text = {*at + sizeof(uint64_t), ds_gguf_u64(*at)};

	*at = text.text + text.size;
	return text;
}

bool ds_gguf_is(struct ds_gguf_text text, const char *word)
{
	return text.size == strlen(word) && memcmp(text.text, word, text.size) == 0;
}

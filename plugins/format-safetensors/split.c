/* split.c - how tokenizer.json prepares text before the merges: Unicode normalisation, then split patterns in order. */
#include "checkpoint.h"

#define FILE_NAME "tokenizer.json"

/* What ByteLevel splits by on its own (use_regex): the pattern of GPT-2. */
#define BYTE_LEVEL_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* The pre-tokenizers read so far. */
struct splitter {
	struct ds_vocabulary *v;
	bool byte_level; /* the step to bytes has been seen: nothing can follow it */
};

static int add_pattern(struct splitter *s, const char *pattern, struct ds_error *err)
{
	if (s->v->n_patterns == DS_MAX_PATTERNS)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": more than %d split patterns are not supported",
			       DS_MAX_PATTERNS);
	s->v->patterns[s->v->n_patterns++] = pattern;
	return 0;
}

static int read_split(struct splitter *s, const json_t *step, struct ds_error *err)
{
	const char *regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
	const char *behavior = "";
	bool invert = false;
	int r;

	if (!regex)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": pre_tokenizer: a Split without a Regex is not supported");
	r = ds_json_string(&behavior, step, FILE_NAME, "behavior", err);
	if (r < 0)
		return r;
	r = ds_json_bool(&invert, step, FILE_NAME, "invert", err);
	if (r < 0)
		return r;
	if (strcmp(behavior, "Isolated") != 0 || invert)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME
			       ": pre_tokenizer: Split with behavior %s%s is not supported (supported: Isolated)",
			       ds_shown(behavior).text, invert ? ", inverted," : "");
	return add_pattern(s, regex, err);
}

static int read_digits(struct splitter *s, const json_t *step, struct ds_error *err)
{
	bool individual = false;
	int r = ds_json_bool(&individual, step, FILE_NAME, "individual_digits", err);

	return r < 0 ? r : add_pattern(s, individual ? "\\p{N}" : "\\p{N}+", err);
}

static int read_byte_level(struct splitter *s, const json_t *step, struct ds_error *err)
{
	bool prefix = true, regex = true;
	int r;

	r = ds_json_bool(&prefix, step, FILE_NAME, "add_prefix_space", err);
	if (r < 0)
		return r;
	r = ds_json_bool(&regex, step, FILE_NAME, "use_regex", err);
	if (r < 0)
		return r;
	if (prefix)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": pre_tokenizer: ByteLevel with add_prefix_space is not supported");
	s->byte_level = true;
	return regex ? add_pattern(s, BYTE_LEVEL_PATTERN, err) : 0;
}

static const struct {
	const char *type;
	int (*read)(struct splitter *s, const json_t *step, struct ds_error *err);
} steps[] = {
	{"Split", read_split},
	{"Digits", read_digits},
	{"ByteLevel", read_byte_level},
};

static int read_step(struct splitter *s, const json_t *step, struct ds_error *err)
{
	const char *type = json_string_value(json_object_get(step, "type"));

	if (s->byte_level)
		return ds_fail(err, -ENOTSUP, FILE_NAME ": pre_tokenizer: nothing is supported after ByteLevel");
	for (size_t i = 0; type && i < DS_ARRAY_SIZE(steps); i++)
		if (strcmp(type, steps[i].type) == 0)
			return steps[i].read(s, step, err);
	return ds_fail(err, -ENOTSUP,
		       FILE_NAME ": pre_tokenizer: type %s is not supported "
				 "(supported: Split, Digits, ByteLevel, a Sequence of them)",
		       type ? ds_shown(type).text : "(none)");
}

/* The elements of @section if it is a Sequence, else itself. *@steps is a new reference. */
static int sequence(json_t **out, const json_t *section, const char *member, const char *name, struct ds_error *err)
{
	const char *type = json_string_value(json_object_get(section, "type"));
	const json_t *list = json_object_get(section, member);

	if (!type)
		return ds_fail(err, -EINVAL, FILE_NAME ": %s should be an object with a type", name);
	if (strcmp(type, "Sequence") != 0)
		*out = json_pack("[O]", section);
	else if (json_is_array(list))
		*out = json_incref((json_t *)list);
	else
		return ds_fail(err, -EINVAL, FILE_NAME ": %s: %s should be a list", name, member);
	return *out ? 0 : ds_fail(err, -ENOMEM, FILE_NAME ": no memory for %s", name);
}

static int read_normalizer(struct ds_vocabulary *v, const json_t *section, struct ds_error *err)
{
	json_auto_t *list = NULL;
	json_t *step;
	size_t i;
	int r;

	if (!section || json_is_null(section))
		return 0;
	r = sequence(&list, section, "normalizers", "normalizer", err);
	if (r < 0)
		return r;
	json_array_foreach (list, i, step) {
		const char *type = json_string_value(json_object_get(step, "type"));

		if (!type || strcmp(type, "NFC") != 0)
			return ds_fail(err, -ENOTSUP,
				       FILE_NAME ": normalizer: type %s is not supported (supported: NFC)",
				       type ? ds_shown(type).text : "(none)");
		v->nfc = true;
	}
	return 0;
}

int ds_split_read(struct ds_vocabulary *v, const json_t *tokenizer, struct ds_error *err)
{
	const json_t *section = json_object_get(tokenizer, "pre_tokenizer");
	struct splitter s = {.v = v};
	json_auto_t *list = NULL;
	json_t *step;
	size_t i;
	int r;

	r = read_normalizer(v, json_object_get(tokenizer, "normalizer"), err);
	if (r < 0)
		return r;
	if (section && !json_is_null(section)) {
		r = sequence(&list, section, "pretokenizers", "pre_tokenizer", err);
		if (r < 0)
			return r;
	}
	json_array_foreach (list, i, step) {
		r = read_step(&s, step, err);
		if (r < 0)
			return r;
	}
	if (!s.byte_level)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": pre_tokenizer: a tokenizer without ByteLevel is not supported");
	return 0;
}

/* json.c - JSON files among the files of a checkpoint, and typed access to their members. */
#include "checkpoint.h"

const struct ds_file *ds_file_find(const struct ds_checkpoint *c, const char *name)
{
	for (uint32_t i = 0; i < c->n_files; i++)
		if (strcmp(c->files[i].name, name) == 0)
			return &c->files[i];
	return NULL;
}

int ds_json_read(json_t **out, const struct ds_file *file, uint64_t offset, uint64_t size, size_t flags,
		 struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = NULL;
	json_error_t error;
	json_t *root;
	int r;

	if (size > DS_JSON_MAX_SIZE)
		return ds_fail(err, -EINVAL, "%s: JSON of %llu bytes is too long (limit: %u)",
			       ds_shown(file->name).text, (unsigned long long)size, DS_JSON_MAX_SIZE);
	text = malloc(size + 1);
	if (!text)
		return ds_fail(err, -ENOMEM, "%s: no memory for %llu bytes", ds_shown(file->name).text,
			       (unsigned long long)size);
	r = ds_file_read(file, offset, text, size, err);
	if (r < 0)
		return r;
	root = json_loadb(text, size, JSON_REJECT_DUPLICATES | flags, &error);
	if (!root)
		return ds_fail(err, -EINVAL, "%s: not valid JSON: line %d, column %d: %s", ds_shown(file->name).text,
			       error.line, error.column,
			       json_error_code(&error) == json_error_null_character
				       ? "a text holds a NUL, which is not supported"
				       : ds_shown(error.text).text);
	if (!json_is_object(root)) {
		json_decref(root);
		return ds_fail(err, -EINVAL, "%s: should be a JSON object", ds_shown(file->name).text);
	}
	*out = root;
	return 0;
}

int ds_json_load(json_t **out, const struct ds_checkpoint *c, const char *name, size_t flags, struct ds_error *err)
{
	const struct ds_file *file = ds_file_find(c, name);

	return file ? ds_json_read(out, file, 0, file->size, flags, err) : 0;
}

static const json_t *member(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

int ds_json_bool(bool *out, const json_t *object, const char *file, const char *key, struct ds_error *err)
{
	const json_t *value = member(object, key);

	if (value && !json_is_boolean(value))
		return ds_fail(err, -EINVAL, "%s: %s should be true or false", file, key);
	if (value)
		*out = json_is_true(value);
	return 0;
}

int ds_json_string(const char **out, const json_t *object, const char *file, const char *key, struct ds_error *err)
{
	const json_t *value = member(object, key);

	if (value && !json_is_string(value))
		return ds_fail(err, -EINVAL, "%s: %s should be a text", file, key);
	if (value)
		*out = json_string_value(value);
	return 0;
}

int ds_json_object(const json_t **out, const json_t *object, const char *file, const char *key, struct ds_error *err)
{
	const json_t *value = member(object, key);

	if (value && !json_is_object(value))
		return ds_fail(err, -EINVAL, "%s: %s should be an object", file, key);
	if (value)
		*out = value;
	return 0;
}

int ds_json_array(const json_t **out, const json_t *object, const char *file, const char *key, struct ds_error *err)
{
	const json_t *value = member(object, key);

	if (value && !json_is_array(value))
		return ds_fail(err, -EINVAL, "%s: %s should be a list", file, key);
	if (value)
		*out = value;
	return 0;
}

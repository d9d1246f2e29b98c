/* template.c - the text of a checkpoint's chat template: in tokenizer_config.json, or in a file of its own.
 *
 * A template is a program in a language of its own; it is not run here, nor anywhere. */
#include "checkpoint.h"

#define CONFIG_NAME "tokenizer_config.json"
#define FILE_NAME "chat_template.jinja"
#define MAX_SIZE (1u << 20) /* bytes; the longest published ones have some 10 KiB */

/* The text in @file, which takes precedence over tokenizer_config.json as in the library that writes both. */
static int read_file(char **out, const struct ds_file *file, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = NULL;
	int r;

	if (file->size > MAX_SIZE)
		return ds_fail(err, -EINVAL, FILE_NAME ": %llu bytes are too many for a template (limit: %u)",
			       (unsigned long long)file->size, MAX_SIZE);
	text = calloc(1, file->size + 1);
	if (!text)
		return ds_fail(err, -ENOMEM, FILE_NAME ": no memory for %llu bytes", (unsigned long long)file->size);
	r = ds_file_read(file, 0, text, file->size, err);
	if (r < 0)
		return r;
	if (strlen(text) != file->size)
		return ds_fail(err, -EINVAL, FILE_NAME ": holds a NUL byte");
	*out = ds_steal(&text);
	return 0;
}

/* The template that is the value of "chat_template": of several the default one, or else the first. NULL: none. */
static int read_config(const char **out, const struct ds_checkpoint *c, struct ds_error *err)
{
	json_t *value = json_object_get(c->tokenizer_config, "chat_template"), *entry;
	size_t i;

	*out = NULL;
	if (!value || json_is_null(value))
		return 0;
	if (json_is_string(value)) {
		*out = json_string_value(value);
		return 0;
	}
	if (!json_is_array(value))
		return ds_fail(err, -EINVAL, CONFIG_NAME ": chat_template should be a text or a list of named ones");
	json_array_foreach (value, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));

		if (!name || (*out && strcmp(name, "default") != 0))
			continue;
		*out = json_string_value(json_object_get(entry, "template"));
	}
	return 0;
}

int ds_template_read(char **out, const struct ds_checkpoint *c, struct ds_error *err)
{
	const struct ds_file *file = ds_file_find(c, FILE_NAME);
	const char *text;
	int r;

	if (file)
		return read_file(out, file, err);
	r = read_config(&text, c, err);
	if (r < 0)
		return r;
	*out = strdup(text ? text : "");
	return *out ? 0 : ds_fail(err, -ENOMEM, "no memory for the chat template");
}

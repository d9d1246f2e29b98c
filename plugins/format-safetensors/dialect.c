/* dialect.c - which dialect a checkpoint speaks, told from the marks in its chat template and from its added tokens.
 *
 * A template is a program in a language of its own; it is not run. Each family has marks that no other uses. */
#include "checkpoint.h"

#define FILE_NAME "tokenizer_config.json"
#define BAR "\xef\xbd\x9c" /* U+FF5C */
#define LOW "\xe2\x96\x81" /* U+2581 */

/* The first row whose marks are all there tells. */
static const struct {
	const char *dialect;
	const char *marks[3];
	bool thinks; /* and the template or the vocabulary knows <think> */
} families[] = {
	{"deepseek-v4", {"DSML", "tool_calls"}},
	{"deepseek-v3.2", {"DSML", "function_calls"}},
	{"deepseek-r1", {"<" BAR "tool" LOW "sep" BAR ">", "```json"}, .thinks = true},
	{"deepseek-v3", {"<" BAR "tool" LOW "sep" BAR ">", "```json"}},
	{"deepseek-v3.1", {"<" BAR "tool" LOW "call" LOW "begin" BAR ">", "</think>"}},
	{"deepseek-r1", {"<" BAR "User" BAR ">", "<" BAR "Assistant" BAR ">"}, .thinks = true},
	{"deepseek-v3", {"<" BAR "User" BAR ">", "<" BAR "Assistant" BAR ">"}},
	{"deepseek-v2", {"User: ", "Assistant:"}},
};

/* The template's text: of the default one where there are several. NULL: none. */
static int read_template(const char **out, const struct ds_checkpoint *c, struct ds_error *err)
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
		return ds_fail(err, -EINVAL, FILE_NAME ": chat_template should be a text or a list of named ones");
	json_array_foreach (value, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));

		if (!name || (*out && strcmp(name, "default") != 0))
			continue;
		*out = json_string_value(json_object_get(entry, "template"));
	}
	return 0;
}

static bool has_added(const struct ds_checkpoint *c, const char *text)
{
	const json_t *added = json_object_get(c->tokenizer, "added_tokens");
	json_t *entry;
	size_t i;

	json_array_foreach ((json_t *)added, i, entry) {
		const char *content = json_string_value(json_object_get(entry, "content"));

		if (content && strcmp(content, text) == 0)
			return true;
	}
	return false;
}

int ds_dialect_detect(const char **name, const struct ds_checkpoint *c, struct ds_error *err)
{
	const char *template;
	bool thinks;
	int r;

	*name = NULL;
	r = read_template(&template, c, err);
	if (r < 0)
		return r;
	if (!template) {
		/* V4 comes without a template, but alone has this token */
		if (has_added(c, BAR "DSML" BAR))
			*name = "deepseek-v4";
		return 0;
	}
	thinks = strstr(template, "think>") || has_added(c, "<think>");
	for (size_t i = 0; i < DS_ARRAY_SIZE(families); i++) {
		bool all = thinks || !families[i].thinks;

		for (size_t k = 0; k < DS_ARRAY_SIZE(families[i].marks) && families[i].marks[k]; k++)
			all = all && strstr(template, families[i].marks[k]);
		if (all) {
			*name = families[i].dialect;
			return 0;
		}
	}
	return 0;
}

/* settings.c - checks values against options. */
#include "settings.h"

#include <string.h>

const struct ds_option *ds_option_find(const struct ds_plugin *plugin, const char *name)
{
	for (const struct ds_option *option = plugin->options; option && option->name; option++)
		if (strcmp(option->name, name) == 0)
			return option;
	return NULL;
}

static int check_value(const struct ds_option *option, const json_t *value, struct ds_setting *setting,
		       struct ds_failure *failure)
{
	static const char *const types[] = {[DS_OPTION_BOOL] = "true or false", [DS_OPTION_INT] = "a whole number",
					    [DS_OPTION_FLOAT] = "a number", [DS_OPTION_TEXT] = "a text"};
	bool fits = option->type == DS_OPTION_BOOL  ? json_is_boolean(value) :
		    option->type == DS_OPTION_INT   ? json_is_integer(value) :
		    option->type == DS_OPTION_FLOAT ? json_is_number(value) :
						      json_is_string(value);

	if (!fits)
		return ds_refuse(failure, DS_INVALID_REQUEST, option->name, "%s must be %s", option->name,
				 types[option->type]);
	*setting = (struct ds_setting){.name = option->name};
	if (option->type == DS_OPTION_TEXT)
		setting->text = json_string_value(value);
	else
		setting->value = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	if ((option->type == DS_OPTION_INT || option->type == DS_OPTION_FLOAT) &&
	    !(setting->value >= option->min && setting->value <= option->max))
		return ds_refuse(failure, DS_INVALID_REQUEST, option->name, "%s is %.15g (allowed: %.15g to %.15g)", option->name,
				 setting->value, option->min, option->max);
	return 0;
}

/* Add the values of @values that are options of @plugin; those that are set already stay. */
int ds_settings_add(struct ds_settings *settings, const struct ds_plugin *plugin, json_t *values,
		    struct ds_failure *failure)
{
	const char *key;
	json_t *value;

	json_object_foreach(values, key, value) {
		const struct ds_option *option = ds_option_find(plugin, key);
		bool set = false;
		int r;

		for (size_t i = 0; i < settings->n; i++)
			set |= strcmp(settings->list[i].name, key) == 0;
		if (!option || set || json_is_null(value))
			continue;
		if (settings->n == DS_MAX_SETTINGS)
			return ds_refuse(failure, DS_INVALID_REQUEST, key, "more than %d settings", DS_MAX_SETTINGS);
		r = check_value(option, value, &settings->list[settings->n], failure);
		if (r < 0)
			return r;
		settings->n++;
	}
	return 0;
}

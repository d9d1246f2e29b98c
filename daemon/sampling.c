/* sampling.c - the bounds that OpenAI documents; those of further options come from the sampler plugins. */
#include "sampling.h"

#include <string.h>

static const struct {
	const char *name;
	double min, max;
	bool whole, above_min;
} numbers[] = {
	{"temperature", 0, 2, false, false},
	{"top_p", 0, 1, false, true},
	{"presence_penalty", -2, 2, false, false},
	{"frequency_penalty", -2, 2, false, false},
	{"seed", -9007199254740991.0, 9007199254740991.0, true, false},
};

static int check_number(size_t i, const json_t *value, struct ds_error *err)
{
	double number = json_number_value(value);

	if (numbers[i].whole ? !json_is_integer(value) : !json_is_number(value))
		return ds_fail(err, -EINVAL, "must be a %snumber", numbers[i].whole ? "whole " : "");
	if (!(number >= numbers[i].min && number <= numbers[i].max) ||
	    (numbers[i].above_min && number == numbers[i].min))
		return ds_fail(err, -EINVAL, "must be %s %.15g and at most %.15g",
			       numbers[i].above_min ? "above" : "at least", numbers[i].min, numbers[i].max);
	return 0;
}

/* By the catalogue, or NULL. */
static const json_t *find_option(const json_t *catalog, const char *name)
{
	const json_t *plugin, *option;
	size_t i, j;

	json_array_foreach (catalog, i, plugin) {
		const char *kind = json_string_value(json_object_get(plugin, "kind"));

		if (!kind || strcmp(kind, "sampler"))
			continue;
		json_array_foreach (json_object_get(plugin, "options"), j, option) {
			const char *called = json_string_value(json_object_get(option, "name"));

			if (called && !strcmp(called, name))
				return option;
		}
	}
	return NULL;
}

static int check_option(const json_t *option, const char *type, const json_t *value, struct ds_error *err)
{
	const json_t *min = json_object_get(option, "min"), *max = json_object_get(option, "max");
	double number = json_number_value(value);

	if (!strcmp(type, "bool") && !json_is_boolean(value))
		return ds_fail(err, -EINVAL, "must be true or false");
	if (!strcmp(type, "text") && !json_is_string(value))
		return ds_fail(err, -EINVAL, "must be text");
	if (!strcmp(type, "int") && !json_is_integer(value))
		return ds_fail(err, -EINVAL, "must be a whole number");
	if (!strcmp(type, "float") && !json_is_number(value))
		return ds_fail(err, -EINVAL, "must be a number");
	if (json_is_number(value) && ((json_is_number(min) && number < json_number_value(min)) ||
				      (json_is_number(max) && number > json_number_value(max))))
		return ds_fail(err, -EINVAL, "must be at least %.15g and at most %.15g", json_number_value(min),
			       json_number_value(max));
	return 0;
}

int ds_sampling_take(json_t *sampling, const json_t *catalog, const char *name, json_t *value, struct ds_error *err)
{
	const json_t *option;
	const char *type;
	size_t i = 0;
	int r;

	while (i < DS_ARRAY_SIZE(numbers) && strcmp(numbers[i].name, name))
		i++;
	if (i < DS_ARRAY_SIZE(numbers)) {
		r = check_number(i, value, err);
	} else {
		option = find_option(catalog, name);
		type = json_string_value(json_object_get(option, "type"));
		if (!option || !type)
			return 0;
		r = check_option(option, type, value, err);
	}
	if (r < 0)
		return r;
	return json_object_set(sampling, name, value) < 0 ? ds_fail(err, -EINVAL, "no memory") : 1;
}

/* vectors.c - runs the vectors of a plugin and compares what came out with what the plugin promised. */
#include "vectors.h"

#include "plugin-check.h"
#include "vectors-kinds.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-5 /* of the largest expected magnitude of the same array */

static ds_vector_runner *const runners[] = {
	[DS_PLUGIN_FORMAT] = ds_vector_format,   [DS_PLUGIN_TOKENIZER] = ds_vector_tokenizer,
	[DS_PLUGIN_BACKEND] = ds_vector_backend, [DS_PLUGIN_SAMPLER] = ds_vector_sampler,
	[DS_PLUGIN_DIALECT] = ds_vector_dialect,
};

int ds_vector_keys(const json_t *object, const char *const *keys, struct ds_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return ds_fail(err, -EINVAL, "not an object");
	json_object_foreach((json_t *)object, key, value) {
		const char *const *k = keys;

		while (*k && strcmp(*k, key) != 0)
			k++;
		if (!*k)
			return ds_fail(err, -EINVAL, "unknown key \"%.40s\"", key);
	}
	return 0;
}

/* Find the shape of @value and check that it is one: every array of a level has as many elements. */
static int read_shape(const json_t *value, unsigned n_dims, struct ds_vector_numbers *out)
{
	out->n_dims = n_dims;
	out->count = 1;
	for (unsigned d = 0; d < DS_ARRAY_SIZE(out->shape); d++) {
		out->shape[d] = 1;
		if (d >= n_dims)
			continue;
		if (!json_is_array(value))
			return -EINVAL;
		out->shape[d] = json_array_size(value);
		out->count *= out->shape[d];
		value = json_array_get(value, 0);
	}
	return 0;
}

static int read_numbers(const json_t *value, unsigned dim, struct ds_vector_numbers *out, size_t *at)
{
	if (dim == out->n_dims) {
		if (!json_is_number(value) && !json_is_null(value))
			return -EINVAL;
		out->data[(*at)++] = json_is_null(value) ? -INFINITY : json_number_value(value);
		return 0;
	}
	if (!json_is_array(value) || json_array_size(value) != out->shape[dim])
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(value); i++) {
		int r = read_numbers(json_array_get(value, i), dim + 1, out, at);

		if (r < 0)
			return r;
	}
	return 0;
}

int ds_vector_numbers(const json_t *object, const char *key, unsigned n_dims, struct ds_vector_numbers *out,
		      struct ds_error *err)
{
	const json_t *value = json_object_get(object, key);
	size_t at = 0;

	if (!value)
		return ds_fail(err, -EINVAL, "no key \"%s\"", key);
	if (read_shape(value, n_dims, out) == 0) {
		out->data = calloc(out->count + 1, sizeof(*out->data));
		if (!out->data)
			return ds_fail(err, -ENOMEM, "no memory for \"%s\"", key);
		if (read_numbers(value, 0, out, &at) == 0)
			return 0;
		free(out->data);
		out->data = NULL;
	}
	return ds_fail(err, -EINVAL, "\"%s\" is not made of numbers in arrays %u deep, all as long", key, n_dims);
}

float *ds_vector_floats(const struct ds_vector_numbers *numbers)
{
	float *floats = calloc(numbers->count + 1, sizeof(*floats));

	for (size_t i = 0; floats && i < numbers->count; i++)
		floats[i] = (float)numbers->data[i];
	return floats;
}

int ds_vector_u32(const json_t *object, const char *key, unsigned n_dims, uint32_t **out, size_t *count,
		  struct ds_error *err)
{
	ds_cleanup(ds_vector_numbers_deinit) struct ds_vector_numbers numbers = {0};
	ds_cleanup(ds_freep) uint32_t *values = NULL;
	int r = ds_vector_numbers(object, key, n_dims, &numbers, err);

	if (r < 0)
		return r;
	values = calloc(numbers.count + 1, sizeof(*values));
	if (!values)
		return ds_fail(err, -ENOMEM, "no memory for \"%s\"", key);
	for (size_t i = 0; i < numbers.count; i++) {
		double value = numbers.data[i];

		if (!(value >= 0 && value <= UINT32_MAX) || value != floor(value))
			return ds_fail(err, -EINVAL, "\"%s\" has %g, not a whole number of 32 bits", key, value);
		values[i] = (uint32_t)value;
	}
	*out = ds_steal(&values);
	*count = numbers.count;
	return 0;
}

json_t *ds_vector_from_floats(const float *values, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, isfinite(values[i]) ? json_real(values[i]) : json_null());
	return array;
}

json_t *ds_vector_from_u32(const uint32_t *values, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_integer(values[i]));
	return array;
}

static double magnitude(const json_t *value)
{
	double largest = json_is_number(value) ? fabs(json_number_value(value)) : 0;

	for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++)
		largest = fmax(largest, magnitude(json_array_get(value, i)));
	return largest;
}

/* Is @got what @want promised? Numbers that are not both whole may differ by @tolerance. */
static bool equal(const json_t *want, const json_t *got, double tolerance)
{
	const char *key;
	json_t *value;

	if (json_is_number(want) && json_is_number(got) && !(json_is_integer(want) && json_is_integer(got)))
		return fabs(json_number_value(want) - json_number_value(got)) <= tolerance;
	if (json_is_array(want) && json_is_array(got)) {
		if (json_array_size(want) != json_array_size(got))
			return false;
		for (size_t i = 0; i < json_array_size(want); i++)
			if (!equal(json_array_get(want, i), json_array_get(got, i), tolerance))
				return false;
		return true;
	}
	if (!json_is_object(want) || !json_is_object(got))
		return json_equal(want, got);
	if (json_object_size(want) != json_object_size(got))
		return false;
	json_object_foreach((json_t *)want, key, value) {
		const json_t *other = json_object_get(got, key);

		if (!other || !equal(value, other, tolerance))
			return false;
	}
	return true;
}

/* @value in at most 60 characters, not cutting one in half. */
static void show(const json_t *value, char text[64])
{
	ds_cleanup(ds_freep) char *dump = NULL;
	size_t n;

	if (json_is_array(value) && json_array_size(value) == 1)
		value = json_array_get(value, 0);
	dump = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
	n = dump ? strlen(dump) : 0;
	if (n > 60)
		for (n = 57; n > 0 && ((unsigned char)dump[n] & 0xc0) == 0x80; n--)
			;
	snprintf(text, 64, "%.*s%s", (int)n, dump ? dump : "nothing", dump && dump[n] ? "..." : "");
}

/* Report that @key differs; of two arrays of one length only the first element that does. */
static int differ(const char *key, const json_t *want, const json_t *got, double tolerance, struct ds_error *err)
{
	char wanted[64], came[64], at[32] = "";
	size_t n = json_array_size(want);

	for (size_t i = 0; json_is_array(want) && n == json_array_size(got) && i < n; i++)
		if (!equal(json_array_get(want, i), json_array_get(got, i), tolerance)) {
			want = json_array_get(want, i);
			got = json_array_get(got, i);
			snprintf(at, sizeof(at), "[%zu]", i);
			break;
		}
	show(want, wanted);
	show(got, came);
	return ds_fail(err, -EINVAL, "%s%s: expected %s, got %s", key, at, wanted, came);
}

/* Append the numbers of @value, however nested, to @flat. */
static void flatten(const json_t *value, json_t *flat)
{
	if (!json_is_array(value))
		json_array_append(flat, (json_t *)value);
	for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++)
		flatten(json_array_get(value, i), flat);
}

/* A backend answers in plain arrays; what is expected may be written in the shape of the tensor. */
static json_t *flattened(const json_t *want)
{
	json_t *all = json_object(), *value;
	const char *key;

	json_object_foreach((json_t *)want, key, value) {
		json_t *flat = json_array();

		flatten(value, flat);
		json_object_set_new(all, key, flat);
	}
	return all;
}

/* Compare the keys that @want has; "error" has to be a part of the sentence that came. */
static int compare(const json_t *want, const json_t *got, struct ds_error *err)
{
	const char *key, *sentence = json_string_value(json_object_get(got, "error"));
	json_t *value;

	if (!json_is_object(want) || json_object_size(want) == 0)
		return ds_fail(err, -EINVAL, "the output expects nothing");
	if (sentence && !json_object_get(want, "error"))
		return ds_fail(err, -EINVAL, "unexpected error: %s", sentence);
	json_object_foreach((json_t *)want, key, value) {
		const json_t *came = json_object_get(got, key);
		double tolerance = TOLERANCE * magnitude(value);

		if (!came)
			return ds_fail(err, -EINVAL, "%.40s: expected, but there is none", key);
		if (strcmp(key, "error") == 0 && json_is_string(value) && strstr(sentence, json_string_value(value)))
			continue;
		if (!equal(value, came, tolerance))
			return differ(key, value, came, tolerance, err);
	}
	return 0;
}

static int run_vector(const struct ds_plugin *plugin, const struct ds_vector *vector, const struct ds_host *host,
		      struct ds_error *err)
{
	const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
	json_error_t error;
	ds_cleanup(json_decrefp) json_t *input = json_loads(vector->input, flags, &error);
	ds_cleanup(json_decrefp) json_t *want = NULL;
	ds_cleanup(json_decrefp) json_t *got = NULL;
	struct ds_vector_case c = {host, plugin, ds_plugin_entry(plugin, vector->entry), input};
	int r;

	if (!input)
		return ds_fail(err, -EINVAL, "the input is not JSON: %s", error.text);
	want = json_loads(vector->output, flags, &error);
	if (!want)
		return ds_fail(err, -EINVAL, "the output is not JSON: %s", error.text);
	if (plugin->kind == DS_PLUGIN_BACKEND && json_is_object(want)) {
		json_t *flat = flattened(want);

		json_decref(want);
		want = flat;
	}
	r = runners[plugin->kind](&c, &got, err);
	return r < 0 ? r : compare(want, got, err);
}

int ds_vectors_run(const struct ds_plugin *plugin, const struct ds_host *host, size_t *n, size_t *n_passed,
		   struct ds_error *err)
{
	int first_failure = 0;

	*n = *n_passed = 0;
	for (const struct ds_vector *v = plugin->vectors; v && v->name; v++) {
		struct ds_error why = {""};
		int r = run_vector(plugin, v, host, &why);

		(*n)++;
		if (r == 0)
			(*n_passed)++;
		else if (first_failure == 0)
			first_failure = ds_fail(err, -EINVAL, "vector %zu (\"%.64s\") of entry %.32s: %s", *n, v->name,
						v->entry, why.text);
	}
	return first_failure;
}

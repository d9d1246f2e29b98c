/* options.c - options by table: --name, --name=value, --name value, -n, -n value. */
#include "options.h"

#include <math.h>
#include <string.h>

struct found {
	const struct ds_flag *flag;
	char *variable;
};

static struct found find(const struct ds_option_set *sets, size_t n, const char *name, size_t length, char letter)
{
	for (size_t i = 0; i < n; i++)
		for (const struct ds_flag *f = sets[i].flags; f && f->name; f++)
			if (letter ? f->letter == letter
				   : strlen(f->name) == length && memcmp(f->name, name, length) == 0)
				return (struct found){f, (char *)sets[i].options + f->offset};
	return (struct found){0};
}

static int take_number(const struct ds_flag *f, struct ds_number *out, const char *text, struct ds_error *err)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value))
		return ds_fail(err, -EINVAL, "--%s: %s is not a number", f->name, text);
	/* 2^53: what JSON numbers carry without loss. */
	if (f->type == DS_FLAG_COUNT && (value < 0 || value != floor(value) || value > 9007199254740992.0))
		return ds_fail(err, -EINVAL, "--%s: %s is not a whole number of 0 or more", f->name, text);
	*out = (struct ds_number){.given = true, .value = value};
	return 0;
}

static int take_value(struct found at, const char *value, struct ds_error *err)
{
	switch (at.flag->type) {
	case DS_FLAG_BOOL:
		*(bool *)at.variable = true;
		return 0;
	case DS_FLAG_TEXT:
		*(const char **)at.variable = value;
		return 0;
	case DS_FLAG_NUMBER:
	case DS_FLAG_COUNT:
		return take_number(at.flag, (struct ds_number *)at.variable, value, err);
	}
	return 0;
}

static int fail_unknown(const struct ds_option_set *sets, size_t n, const char *word, struct ds_error *err)
{
	const char *names[64];
	const char *nearest;
	size_t n_names = 0;

	for (size_t i = 0; i < n; i++)
		for (const struct ds_flag *f = sets[i].flags; f && f->name && n_names < DS_ARRAY_SIZE(names); f++)
			names[n_names++] = f->name;
	nearest = word[1] == '-' ? ds_options_nearest(word + 2, names, n_names) : NULL;
	if (nearest)
		return ds_fail(err, -EINVAL, "unknown option %s; did you mean --%s?", word, nearest);
	return ds_fail(err, -EINVAL, "unknown option %s; after -- words may begin with a dash", word);
}

/* One option at @args[0]; the number of words it took, or a negative errno. */
static int take_one(const struct ds_option_set *sets, size_t n, char **args, struct ds_error *err)
{
	const char *word = args[0];
	bool is_long = word[1] == '-';
	const char *equals = is_long ? strchr(word, '=') : NULL;
	size_t length = equals ? (size_t)(equals - word - 2) : strlen(word) - 1 - is_long;
	struct found at = is_long ? find(sets, n, word + 2, length, 0) : find(sets, n, NULL, 0, word[1]);
	const char *value = equals ? equals + 1 : NULL;
	int words = 1;
	int r;

	if (!at.flag)
		return fail_unknown(sets, n, word, err);
	if (!is_long && word[2]) {
		if (at.flag->type == DS_FLAG_BOOL)
			return fail_unknown(sets, n, word, err);
		value = word + 2;
	}
	if (at.flag->type == DS_FLAG_BOOL && value)
		return ds_fail(err, -EINVAL, "--%s takes no value", at.flag->name);
	if (at.flag->type != DS_FLAG_BOOL && !value) {
		value = args[1];
		words = 2;
		if (!value)
			return ds_fail(err, -EINVAL, "--%s: %s is missing", at.flag->name, at.flag->value);
	}
	r = take_value(at, value, err);
	return r < 0 ? r : words;
}

int ds_options_take(const struct ds_option_set *sets, size_t n, char **args, bool leading, struct ds_error *err)
{
	char **kept = args;
	int words;

	while (*args && strcmp(*args, "--") != 0) {
		if ((*args)[0] != '-' || !(*args)[1]) {
			if (leading)
				break;
			*kept++ = *args++;
			continue;
		}
		words = take_one(sets, n, args, err);
		if (words < 0)
			return words;
		args += words;
	}
	/* The first "--" after a verb is ours; before it, it would only be a word too many. */
	if (*args && !leading && strcmp(*args, "--") == 0)
		args++;
	while (*args)
		*kept++ = *args++;
	*kept = NULL;
	return 0;
}

/* Edit distance by rows, for words shorter than 32; longer ones are far from everything. */
static unsigned distance(const char *a, const char *b)
{
	size_t a_size = strlen(a), b_size = strlen(b);
	unsigned row[32];

	if (a_size >= DS_ARRAY_SIZE(row) || b_size >= DS_ARRAY_SIZE(row))
		return DS_ARRAY_SIZE(row);
	for (size_t j = 0; j <= b_size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);
			unsigned other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = change < other ? change : other;
		}
	}
	return row[b_size];
}

const char *ds_options_nearest(const char *word, const char *const *names, size_t n)
{
	unsigned best = strlen(word) / 3 + 2;
	const char *nearest = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(word, names[i]);

		if (d < best && d < strlen(names[i])) {
			best = d;
			nearest = names[i];
		}
	}
	return nearest;
}

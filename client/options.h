/* options.h - the options of a command line, taken out of it by a table of flags. */
#pragma once

#include "verb.h"

struct ds_option_set {
	const struct ds_flag *flags; /* ends with a NULL name; NULL: none */
	void *options;
};

/* Take the options out of @args (NULL-terminated), filling the variables of the @n sets; what remains moves to the
 * front and ends with NULL. With @leading only what stands before the first other word is taken. "--" ends the options.
 * -EINVAL: an unknown option, or a value that is missing or wrong. */
int ds_options_take(const struct ds_option_set *sets, size_t n, char **args, bool leading, struct ds_error *err);

/* The name of @n that is nearest to @word, if it is near enough to be meant; else NULL. */
const char *ds_options_nearest(const char *word, const char *const *names, size_t n);

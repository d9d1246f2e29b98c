/* describe.h - lets a format plugin describe the files that were handed over. */
#pragma once

#include <deepseekd/format.h>

#include "plugins.h"

/* Let the first format that recognizes the @n_files files describe them to @calls.
 * -ENOENT: no format plugin is usable. -ENOTSUP: none recognizes the files. */
int ds_describe(const struct ds_plugins *plugins, const struct ds_file *files, size_t n_files,
		const struct ds_builder *calls, struct ds_error *err);

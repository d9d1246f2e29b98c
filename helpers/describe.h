/* describe.h - lets a format plugin describe the files that were handed over, and a dialect plugin claim the model. */
#pragma once

#include <deepseekd/dialect.h>
#include <deepseekd/format.h>

#include "plugins.h"

/* Let the first format that recognizes the @n_files files describe them to @calls.
 * -ENOENT: no format plugin is usable. -ENOTSUP: none recognizes the files. */
int ds_describe(const struct ds_plugins *plugins, const struct ds_file *files, size_t n_files,
		const struct ds_builder *calls, struct ds_error *err);

/* The entry that recognizes what the checkpoint was taught; "": none does, and there is no chat. */
const char *ds_recognize_dialect(const struct ds_plugins *plugins, const struct ds_habits *habits);

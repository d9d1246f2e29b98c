/* vectors.h - known answers: a plugin is used only after it has given all of them.
 *
 * A vector is an input and an output in JSON; the header of each kind says which keys there are. A key nobody knows is an
 * error, and so is an output that asks for nothing: a vector that tests nothing must not pass.
 * Nothing here starts a thread: the process enters its sandbox later, and has to have exactly one until then. */
#pragma once

#include <deepseekd/plugin.h>

/* Run every vector of @plugin, which passed ds_plugin_check(). *@n and *@n_passed count them, also after a failure.
 * -EINVAL: at least one failed; the sentence is about the first. */
int ds_vectors_run(const struct ds_plugin *plugin, const struct ds_host *host, size_t *n, size_t *n_passed,
		   struct ds_error *err);

/* mapped.h - the files that a mapped model stays in: kept open for its engines, and told from changed ones.
 *
 * The broker never reads them. What counts as the same file: device, inode, size and time of the last change. */
#pragma once

#include "files.h"

#include <jansson.h>

struct ds_mapped;

/* Keep those of @files that @names (a JSON array, in the order of the image; from a loader, so untrusted) names, and note
 * what they are like now. @files keeps its own descriptors. */
int ds_mapped_new(struct ds_mapped **out, const struct ds_files *files, const json_t *names, struct ds_error *err);
struct ds_mapped *ds_mapped_free(struct ds_mapped *mapped); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_mapped)

/* Is what lies at @path, the model's, still what was noted? -ESTALE: "NAME changed". */
int ds_mapped_check(const struct ds_mapped *mapped, const char *path, struct ds_error *err);

/* What an engine gets: @image, and the files of @mapped (NULL: none) if what lies at @path is still the same. The array is
 * to be freed, the descriptors are borrowed. NULL: @err says why. */
int *ds_mapped_descriptors(const struct ds_mapped *mapped, const char *path, int image, unsigned *n, struct ds_error *err);

/* loading.h - the conversation with one ds-loader: files and wishes in, a sealed image out.
 *
 *   FILES... LOAD  ->  PLAN  ->  (memory is checked, the memfd made) GO  ->  PROGRESS...  LOADED, exit 0  ->  sealed */
#pragma once

#include "helpers.h"
#include "mapped.h"

#include <jansson.h>

struct ds_loading;

struct ds_loading_events {
	/* May the model have what it plans? A negative return refuses with @err. */
	int (*on_plan)(void *arg, const struct ds_plan *plan, struct ds_error *err);
	void (*on_progress)(void *arg, uint64_t done, uint64_t total);
	/* The end; the loading is freed when it returns. @image: sealed and read-only, now the caller's, or -1 and
	 * @reason.
	 * @loaded: the JSON of LOADED, borrowed. @mapped: the files that it stays in, now the caller's; NULL: none. */
	void (*on_end)(void *arg, int image, const json_t *loaded, struct ds_mapped *mapped, const char *reason);
};

struct ds_loading_spec {
	const char *const *argv; /* of ds-loader */
	const char *name, *path; /* of the model */
	json_t *load;            /* payload of LOAD, borrowed */
};

int ds_loading_start(struct ds_loading **out, struct ds_helpers *helpers, const struct ds_loading_spec *spec,
		     const struct ds_loading_events *events, void *arg, struct ds_error *err);
/* What the loader reads, borrowed until it ends. */
const struct ds_files *ds_loading_files(const struct ds_loading *l);
/* Kill the loader; on_end follows. */
void ds_loading_cancel(struct ds_loading *l, const char *reason);

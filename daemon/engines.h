/* engines.h - the conversation with one ds-engine: an image in, requests in, events out.
 *
 * It is pinged every 5 seconds and killed when it has not answered for 30, or when its requests get no further for longer than
 * it is given. Both are counted by CLOCK_MONOTONIC, which stands still while the machine sleeps. */
#pragma once

#include "helpers.h"

#include <jansson.h>

struct ds_engine;

struct ds_engine_events {
	/* It has mapped the image; @ready is the JSON of READY, borrowed. */
	void (*on_ready)(void *arg, const json_t *ready);
	/* A batch of events, borrowed. A negative return is a breach. */
	int (*on_batch)(void *arg, const uint8_t *batch, size_t size, struct ds_error *err);
	void (*on_load)(void *arg, const struct ds_engine_load *load);
	/* The end; the engine is freed when it returns. @refused: it said itself that it cannot serve this image, or lost a
	 * page of a file that it is mapped from. */
	void (*on_end)(void *arg, bool refused, const char *reason);
};

/* @fds: the image, and the files that it is mapped from. */
int ds_engine_start(struct ds_engine **out, struct event_base *base, struct ds_helpers *helpers,
		    const char *const *argv, const int *fds, unsigned n_fds, const json_t *map, const struct ds_engine_events *events,
		    void *arg, struct ds_error *err);
void ds_engine_send(struct ds_engine *e, uint16_t type, uint64_t request, const void *data, size_t size);
/* How long a step may take at most; it has 5 minutes until this is called. */
void ds_engine_set_step_timeout(struct ds_engine *e, uint64_t usec);
/* It finishes what runs and exits; after @seconds it is killed. */
void ds_engine_quit(struct ds_engine *e, unsigned seconds);
bool ds_engine_is_ready(const struct ds_engine *e);
pid_t ds_engine_pid(const struct ds_engine *e);

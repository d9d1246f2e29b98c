/* compute.h - the compute thread: plans a step, runs it, hands out the logits, and begins again. */
#pragma once

#include "message.h"
#include "outbox.h"
#include "sequence.h"

struct ds_compute;

/* Both are borrowed. */
int ds_compute_new(struct ds_compute **out, const struct ds_engine *engine, struct ds_outbox *outbox,
		   struct ds_error *err);
/* Ends after the step it is in; what runs is dropped. Takes NULL, returns NULL. */
struct ds_compute *ds_compute_free(struct ds_compute *compute);

/* From any thread. Takes ownership of @s. */
void ds_compute_add(struct ds_compute *compute, struct ds_sequence *s);
/* Something changed outside: a cancellation, new credit. */
void ds_compute_wake(struct ds_compute *compute);
struct ds_engine_load ds_compute_get_load(struct ds_compute *compute);

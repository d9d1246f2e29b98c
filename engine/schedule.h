/* schedule.h - continuous batching: which rows of which sequences make up the next step.
 *
 * Every running sequence that waits for its next token takes part in every step; prompts share what is left of
 * DS_STEP_PROMPT_ROWS, so that a long one delays nobody. At most @parallel sequences compute; more wait in order of
 * arrival. One whose client has not taken its output is paused: it keeps its pages and makes room for another. When the
 * cache is full, pages come from a paused sequence, else from the newest: it is computed again later.
 *
 * The oldest sequence that is not paused always goes on, so that every one of them ends. Compute thread alone. */
#pragma once

#include "sequence.h"
#include <deepseekd/backend.h>

struct ds_schedule;

/* Rows [first, first + n) of the step are the next tokens of @sequence. */
struct ds_slice {
	struct ds_sequence *sequence;
	uint32_t first, n;
};

struct ds_step {
	struct ds_rows rows;
	struct ds_slice *slices; /* [n_slices] */
	uint32_t n_slices;
};

struct ds_schedule_load {
	uint32_t n_running, n_waiting; /* a paused one waits */
};

/* @cache is borrowed. */
int ds_schedule_new(struct ds_schedule **out, struct ds_kv_cache *cache, uint32_t parallel, struct ds_error *err);
struct ds_schedule *ds_schedule_free(struct ds_schedule *schedule); /* takes NULL, returns NULL; frees the sequences */
DS_DEFINE_FREEP(ds_schedule)

/* Takes ownership of @s, in any case. -ENOMEM: it was failed. */
int ds_schedule_add(struct ds_schedule *schedule, struct ds_sequence *s);
/* Fill *@step, valid until the next call. rows.n 0: nothing can be done until something changes. */
void ds_schedule_plan(struct ds_schedule *schedule, struct ds_step *step);
/* @step is computed: its sequences advance. Their logits have yet to be taken. */
void ds_schedule_advance(struct ds_schedule *schedule, const struct ds_step *step);
/* End those that were cancelled; free those that ended. Returns how many. */
size_t ds_schedule_sweep(struct ds_schedule *schedule);
struct ds_schedule_load ds_schedule_get_load(const struct ds_schedule *schedule);

/* jobs.h - work that is too long for one turn of the event loop, done in slices between the turns.
 *
 * A job is a plain function that computes on what it was given and touches nothing else, and that calls ds_job_pause()
 * after every few microseconds' or at most a millisecond's work. It runs in the broker's only thread, on a stack of its
 * own, one slice a turn. Of several jobs the smallest goes first, so that nobody waits for much longer than his own
 * work takes, and memory holds little more than one of them in the middle of its work. */
#pragma once

#include <deepseekd/base.h>

struct event_base;
struct ds_jobs;
struct ds_job;

int ds_jobs_new(struct ds_jobs **out, struct event_base *base, struct ds_error *err);
struct ds_jobs *ds_jobs_free(struct ds_jobs *jobs); /* takes NULL, returns NULL; every job has ended */
DS_DEFINE_FREEP(ds_jobs)

/* Call @work(*@out, @arg) from the next turn on, and @done(@arg) when it has returned; *@out is gone then. @size orders
 * the jobs. -ENOMEM: nothing was started. */
int ds_job_start(struct ds_job **out, struct ds_jobs *jobs, size_t size, void (*work)(struct ds_job *job, void *arg),
		 void (*done)(void *arg), void *arg);

/* For @work: let the others have their turn. False: the job is cancelled, free what is held and return.
 * @job NULL: the work is done at once, without a pause. */
bool ds_job_pause(struct ds_job *job);

/* @work has returned when this returns; @done is not called. Takes NULL, returns NULL. Not from within a job. */
struct ds_job *ds_job_cancel(struct ds_job *job);

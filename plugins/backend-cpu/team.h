/* team.h - the threads that share one operation's work.
 *
 * The caller is a member: a team of one has no thread of its own. Work is a range of pieces taken in chunks, ever
 * smaller ones, from an atomic counter, so that one slow core does not hold the step, and a member that is still asleep
 * when the last chunk was taken is not waited for. Members spin for a moment after a job, since a step is hundreds of
 * jobs a few microseconds apart, then sleep. Running a job takes no lock and no memory. */
#pragma once

#include <deepseekd/base.h>

struct ds_team;

/* Do the pieces @first to @last - 1; @member < ds_team_size() is the index of the thread that runs it. */
typedef void ds_team_work(void *arg, size_t first, size_t last, unsigned member);

/* A team of @n_members (>= 1) threads, the caller of ds_team_run() counted, for @n_cpus. With fewer CPUs than members
 * nobody spins: that would keep those who have work from running. */
int ds_team_new(struct ds_team **out, unsigned n_members, unsigned n_cpus, struct ds_error *err);
struct ds_team *ds_team_free(struct ds_team *team); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_team)

unsigned ds_team_size(const struct ds_team *team);

/* Do @n pieces, @chunk (>= 1) at once or, as long as many are left, more; returns when all are done. One caller at a
 * time. */
void ds_team_run(struct ds_team *team, size_t n, size_t chunk, ds_team_work *work, void *arg);

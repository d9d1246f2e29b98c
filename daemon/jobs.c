/* jobs.c - coroutines of the C library (ucontext), fed by a timer that is always due.
 *
 * A timer and not event_active(): what is made active while callbacks run is called in the same turn, before anybody's
 * socket is looked at again; a timer waits for the next one. */
#include "jobs.h"

#include <event2/event.h>
#include <sys/mman.h>
#include <ucontext.h>

/* jansson takes about 300 bytes for each of its 2048 levels. Only what is touched takes memory. */
#define STACK_SIZE (2u << 20)
#define GUARD_SIZE (64u << 10) /* a multiple of every page size */

struct ds_job {
	struct ds_job *next;
	struct ds_jobs *all;
	size_t size;
	void (*work)(struct ds_job *job, void *arg);
	void (*done)(void *arg);
	void *arg;
	uint8_t *stack; /* [GUARD_SIZE + STACK_SIZE] */
	ucontext_t context;
	bool begun, cancelled, finished;
};

struct ds_jobs {
	struct event *turn;
	struct ds_job *first; /* the smallest */
	ucontext_t loop;      /* where a slice goes back to */
};

/* makecontext() passes integers only. */
static void enter(unsigned high, unsigned low)
{
	struct ds_job *job = (struct ds_job *)((uintptr_t)high << 16 << 16 | low);

	job->work(job, job->arg);
	job->finished = true;
}

static void resume(struct ds_job *job)
{
	job->begun = true;
	swapcontext(&job->all->loop, &job->context);
}

bool ds_job_pause(struct ds_job *job)
{
	if (!job)
		return true;
	if (!job->cancelled)
		swapcontext(&job->context, &job->all->loop);
	return !job->cancelled;
}

static void free_job(struct ds_job *job)
{
	struct ds_job **at = &job->all->first;

	while (*at && *at != job)
		at = &(*at)->next;
	if (*at)
		*at = job->next;
	if (job->stack)
		munmap(job->stack, GUARD_SIZE + STACK_SIZE);
	free(job);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval at_once;
	struct ds_jobs *all = arg;
	struct ds_job *job = all->first;
	void (*done)(void *arg) = NULL;
	void *done_arg = NULL;

	if (job)
		resume(job);
	if (job && job->finished) {
		done = job->done;
		done_arg = job->arg;
		free_job(job);
	}
	if (all->first)
		event_add(all->turn, &at_once);
	if (done)
		done(done_arg);
}

static int make_stack(struct ds_job *job)
{
	uintptr_t self = (uintptr_t)job;
	void *stack = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return -errno;
	job->stack = stack;
	if (mprotect(stack, GUARD_SIZE, PROT_NONE) < 0 || getcontext(&job->context) < 0)
		return -errno;
	job->context.uc_stack.ss_sp = job->stack + GUARD_SIZE;
	job->context.uc_stack.ss_size = STACK_SIZE;
	job->context.uc_link = &job->all->loop;
	makecontext(&job->context, (void (*)(void))enter, 2, (unsigned)(self >> 16 >> 16), (unsigned)self);
	return 0;
}

int ds_job_start(struct ds_job **out, struct ds_jobs *jobs, size_t size, void (*work)(struct ds_job *job, void *arg),
		 void (*done)(void *arg), void *arg)
{
	struct ds_job *job = calloc(1, sizeof(*job)), **at = &jobs->first;

	if (!job)
		return -ENOMEM;
	job->all = jobs;
	job->size = size;
	job->work = work;
	job->done = done;
	job->arg = arg;
	if (make_stack(job) < 0 || event_add(jobs->turn, &(struct timeval){0}) < 0) {
		free_job(job);
		return -ENOMEM;
	}
	while (*at && (*at)->size <= size)
		at = &(*at)->next;
	job->next = *at;
	*at = job;
	*out = job;
	return 0;
}

struct ds_job *ds_job_cancel(struct ds_job *job)
{
	if (!job)
		return NULL;
	job->cancelled = true;
	if (job->begun && !job->finished)
		resume(job);
	free_job(job);
	return NULL;
}

int ds_jobs_new(struct ds_jobs **out, struct event_base *base, struct ds_error *err)
{
	ds_cleanup(ds_jobs_freep) struct ds_jobs *jobs = calloc(1, sizeof(*jobs));

	if (!jobs)
		return ds_fail(err, -ENOMEM, "no memory");
	jobs->turn = evtimer_new(base, on_turn, jobs);
	if (!jobs->turn)
		return ds_fail(err, -ENOMEM, "no memory");
	*out = ds_steal(&jobs);
	return 0;
}

struct ds_jobs *ds_jobs_free(struct ds_jobs *jobs)
{
	if (!jobs)
		return NULL;
	if (jobs->turn)
		event_free(jobs->turn);
	free(jobs);
	return NULL;
}

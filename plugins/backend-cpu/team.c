/* team.c - see team.h.
 *
 * One word, @state, says whether a job is open (bit 0), how many workers are inside it (bits 1 to 15) and which job it
 * is (bits 16 to 31). A worker enters by adding itself to an open job in one compare-and-exchange; the caller closes
 * the job once no chunk is left, and waits only for those inside. So the job's fields are never written while somebody
 * reads them. Both sides sleep on that word, told apart by the bits of FUTEX_WAIT_BITSET. */
#include "team.h"

#include <linux/futex.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define OPEN 1u
#define INSIDE_ONE 2u
#define INSIDE_MASK 0xfffeu
#define JOB_ONE 0x10000u
#define JOB_MASK 0xffff0000u

enum {
	MAX_MEMBERS = 4096,
	SPINS = 2000, /* of a pause each: some tens of microseconds */
	RUNS_A_MEMBER = 8, /* of what is left, one is taken at once: a slow core keeps little back */
	WAKE_WORKERS = 1,
	WAKE_CALLER = 2,
};

struct worker {
	pthread_t thread;
	struct ds_team *team;
	unsigned member;
};

struct ds_team {
	_Atomic uint32_t state;
	_Atomic uint32_t n_asleep; /* workers that sleep or are about to */
	_Atomic bool caller_asleep;
	_Atomic bool quit;
	unsigned n_spins;
	/* The job: written by the caller while closed, read by those inside. */
	ds_team_work *work;
	void *arg;
	size_t n, chunk;
	_Alignas(64) _Atomic size_t next; /* first piece that nobody has taken */
	unsigned n_workers;
	struct worker workers[];
};

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void sleep_while(_Atomic uint32_t *word, uint32_t value, uint32_t who)
{
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, NULL, NULL, who);
}

static void wake(_Atomic uint32_t *word, int count, uint32_t who)
{
	syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, count, NULL, NULL, who);
}

/* Long runs of pieces as long as much is left, short ones at the end, so that all members finish together. */
static void take_chunks(struct ds_team *team, unsigned member)
{
	size_t shares = RUNS_A_MEMBER * (team->n_workers + 1);

	for (;;) {
		size_t taken = atomic_load_explicit(&team->next, memory_order_relaxed), chunk = team->chunk, first;

		if (taken < team->n && (team->n - taken) / shares > chunk)
			chunk = (team->n - taken) / shares;
		first = atomic_fetch_add_explicit(&team->next, chunk, memory_order_relaxed);

		if (first >= team->n)
			return;
		team->work(team->arg, first, first + chunk < team->n ? first + chunk : team->n, member);
	}
}

/* Wait until the state is another than @seen, awake for a while and then asleep. */
static void await_change(struct ds_team *team, uint32_t seen)
{
	for (unsigned i = 0; i < team->n_spins; i++) {
		if (atomic_load_explicit(&team->state, memory_order_relaxed) != seen)
			return;
		relax();
	}
	/* Either the caller sees that we are asleep, or the kernel sees that the state has changed. */
	atomic_fetch_add(&team->n_asleep, 1);
	sleep_while(&team->state, seen, WAKE_WORKERS);
	atomic_fetch_sub(&team->n_asleep, 1);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct ds_team *team = worker->team;
	uint32_t done = 0; /* the job that had no chunk left when we looked; the first is JOB_ONE */

	while (!atomic_load_explicit(&team->quit, memory_order_acquire)) {
		uint32_t state = atomic_load_explicit(&team->state, memory_order_acquire);

		if (!(state & OPEN) || (state & JOB_MASK) == done) {
			await_change(team, state);
			continue;
		}
		if (!atomic_compare_exchange_weak(&team->state, &state, state + INSIDE_ONE))
			continue;
		done = state & JOB_MASK;
		take_chunks(team, worker->member);
		state = atomic_fetch_sub(&team->state, INSIDE_ONE) - INSIDE_ONE;
		if (!(state & (OPEN | INSIDE_MASK)) && atomic_load(&team->caller_asleep))
			wake(&team->state, 1, WAKE_CALLER);
	}
	return NULL;
}

/* Signals are the business of the process's main thread. */
static int start_worker(struct worker *worker)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* by which a sandbox says which system call it does not have */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&worker->thread, NULL, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int ds_team_new(struct ds_team **out, unsigned n_members, unsigned n_cpus, struct ds_error *err)
{
	ds_cleanup(ds_team_freep) struct ds_team *team = NULL;
	size_t size;

	if (n_members < 1 || n_members > MAX_MEMBERS)
		return ds_fail(err, -EINVAL, "a team of %u threads was asked for, 1 to %d can be", n_members,
			       MAX_MEMBERS);
	size = sizeof(*team) + (n_members - 1) * sizeof(team->workers[0]);
	if (posix_memalign((void **)&team, 64, size))
		return ds_fail(err, -ENOMEM, "no memory for a team of %u threads", n_members);
	*team = (struct ds_team){0};
	team->n_spins = n_members <= n_cpus ? SPINS : 0;
	for (; team->n_workers < n_members - 1; team->n_workers++) {
		struct worker *worker = &team->workers[team->n_workers];
		int r;

		*worker = (struct worker){.team = team, .member = team->n_workers + 1};
		r = start_worker(worker);
		if (r < 0)
			return ds_fail(err, r, "thread %u of %u does not start", team->n_workers + 2, n_members);
	}
	*out = ds_steal(&team);
	return 0;
}

struct ds_team *ds_team_free(struct ds_team *team)
{
	if (!team)
		return NULL;
	atomic_store(&team->quit, true);
	atomic_fetch_add(&team->state, JOB_ONE);
	wake(&team->state, INT_MAX, WAKE_WORKERS);
	for (unsigned i = 0; i < team->n_workers; i++)
		pthread_join(team->workers[i].thread, NULL);
	free(team);
	return NULL;
}

unsigned ds_team_size(const struct ds_team *team)
{
	return team->n_workers + 1;
}

/* Wait for those that are inside the closed job. Each has one chunk to finish at most. */
static void await_workers(struct ds_team *team, uint32_t state)
{
	for (unsigned i = 0; state & INSIDE_MASK; i++) {
		if (i < team->n_spins) {
			relax();
		} else {
			atomic_store(&team->caller_asleep, true);
			state = atomic_load(&team->state);
			if (state & INSIDE_MASK)
				sleep_while(&team->state, state, WAKE_CALLER);
		}
		state = atomic_load_explicit(&team->state, memory_order_acquire);
	}
	atomic_store_explicit(&team->caller_asleep, false, memory_order_relaxed);
}

void ds_team_run(struct ds_team *team, size_t n, size_t chunk, ds_team_work *work, void *arg)
{
	size_t n_chunks = n / chunk + (n % chunk != 0);
	uint32_t state;

	if (n_chunks == 0)
		return;
	if (n_chunks == 1 || !team->n_workers) {
		for (size_t first = 0; first < n; first += chunk)
			work(arg, first, first + chunk < n ? first + chunk : n, 0);
		return;
	}
	team->work = work;
	team->arg = arg;
	team->n = n;
	team->chunk = chunk;
	atomic_store_explicit(&team->next, 0, memory_order_relaxed);
	state = atomic_load_explicit(&team->state, memory_order_relaxed);
	atomic_store(&team->state, ((state & JOB_MASK) + JOB_ONE) | OPEN);
	if (atomic_load(&team->n_asleep))
		wake(&team->state, n_chunks - 1 < INT_MAX ? (int)(n_chunks - 1) : INT_MAX, WAKE_WORKERS);
	take_chunks(team, 0);
	await_workers(team, atomic_fetch_and(&team->state, ~OPEN) & ~OPEN);
}

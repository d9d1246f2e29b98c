/* compute.c - one thread that runs the model. It sleeps when no row can be computed. Nothing is allocated in a step. */
#include "compute.h"
#include "engine.h"
#include "kv.h"
#include "schedule.h"

#include <pthread.h>
#include <string.h>

struct ds_compute {
	const struct ds_engine *engine;
	struct ds_outbox *outbox;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;

	/* under the lock */
	struct ds_sequence **incoming; /* [n_incoming] */
	size_t n_incoming, capacity;
	bool kicked, quit;
	struct ds_engine_load load;

	/* the thread's own */
	struct ds_kv_cache *cache;
	struct ds_schedule *schedule;
	uint64_t n_computed;
	float *logits;		      /* (DS_STEP_LOGITS, vocab) */
	struct ds_choice *choice;
	uint32_t *indices, *tokens; /* [max_rows], of rows picked out of a step */
	uint32_t *positions;	    /* [DS_STEP_LOGITS], of those whose logits are made */
	struct ds_sequence **owners; /* [DS_STEP_LOGITS], whose rows they are */
};

/* Take what came in, wait if there is nothing to do. False: it is time to end. */
static bool collect(struct ds_compute *compute, bool idle)
{
	bool quit;

	pthread_mutex_lock(&compute->lock);
	while (idle && !compute->kicked && !compute->quit)
		pthread_cond_wait(&compute->wake, &compute->lock);
	compute->kicked = false;
	for (size_t i = 0; i < compute->n_incoming; i++)
		ds_schedule_add(compute->schedule, compute->incoming[i]);
	compute->n_incoming = 0;
	quit = compute->quit;
	pthread_mutex_unlock(&compute->lock);
	return !quit;
}

static void update_load(struct ds_compute *compute)
{
	struct ds_schedule_load load = ds_schedule_get_load(compute->schedule);

	pthread_mutex_lock(&compute->lock);
	compute->load = (struct ds_engine_load){
		.n_running = load.n_running,
		.n_waiting = load.n_waiting,
		.n_tokens = compute->n_computed,
		.kv_tokens_used = (uint64_t)ds_kv_cache_get_used(compute->cache) * DS_KV_PAGE_TOKENS,
		.kv_tokens = (uint64_t)compute->engine->n_pages * DS_KV_PAGE_TOKENS,
	};
	pthread_mutex_unlock(&compute->lock);
}

/* A device that fails, fails for everybody. */
static void fail_step(const struct ds_step *step, const struct ds_error *error)
{
	struct ds_failure failure;

	ds_refuse(&failure, DS_INTERNAL, NULL, "the backend failed: %s", error->text);
	for (uint32_t i = 0; i < step->n_slices; i++)
		ds_sequence_fail(step->slices[i].sequence, &failure);
}

/* Make the logits of the @n rows gathered so far and hand them to their owners. */
static int hand_out(struct ds_compute *compute, uint32_t n, struct ds_error *err)
{
	const struct ds_engine *engine = compute->engine;
	int r;

	if (n == 0)
		return 0;
	r = engine->arch->logits(engine->model, compute->indices, n, compute->logits, err);
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (!compute->owners[i]->ended)
			ds_sequence_take(compute->owners[i], compute->positions[i],
					 compute->logits + (size_t)i * engine->hparams->vocab, compute->choice);
	return r;
}

/* The logits of all rows that somebody wants, a few at a time. */
static int take_logits(struct ds_compute *compute, const struct ds_step *step, struct ds_error *err)
{
	uint32_t n = 0;
	int r = 0;

	for (uint32_t i = 0; i < step->n_slices; i++) {
		const struct ds_slice *slice = &step->slices[i];

		for (uint32_t row = slice->first; row < slice->first + slice->n && r == 0; row++) {
			if (!ds_sequence_wants_logits(slice->sequence, step->rows.positions[row]))
				continue;
			compute->owners[n] = slice->sequence;
			compute->positions[n] = step->rows.positions[row];
			compute->indices[n++] = row;
			if (n == DS_STEP_LOGITS) {
				r = hand_out(compute, n, err);
				n = 0;
			}
		}
	}
	return r < 0 ? r : hand_out(compute, n, err);
}

/* Run the multi-token-prediction block on those rows of @slice that have a next token, and take its logits. */
static int draft(struct ds_compute *compute, const struct ds_step *step, const struct ds_slice *slice,
		 struct ds_error *err)
{
	const struct ds_engine *engine = compute->engine;
	struct ds_sequence *s = slice->sequence;
	struct ds_rows rows = {.tokens = compute->tokens, .positions = step->rows.positions + slice->first,
			       .pages = step->rows.pages + slice->first};
	uint32_t first = rows.positions[0], vocab = engine->hparams->vocab;
	int r = 0;

	for (; rows.n < slice->n && first + rows.n + 1 < s->n_tokens; rows.n++) {
		compute->tokens[rows.n] = s->tokens[first + rows.n + 1];
		compute->indices[rows.n] = slice->first + rows.n;
	}
	if (rows.n == 0)
		return 0;
	engine->arch->draft(engine->model, &rows, compute->indices);
	for (uint32_t done = 0; done < rows.n && r == 0; done += DS_STEP_LOGITS) {
		uint32_t n = rows.n - done < DS_STEP_LOGITS ? rows.n - done : DS_STEP_LOGITS;

		for (uint32_t i = 0; i < n; i++)
			compute->indices[i] = done + i;
		r = engine->arch->logits(engine->model, compute->indices, n, compute->logits, err);
		for (uint32_t i = 0; i < n && r == 0; i++)
			if (first + done + i >= s->n_told && !s->ended)
				ds_sequence_take(s, first + done + i, compute->logits + (size_t)i * vocab,
						 compute->choice);
	}
	return r;
}

static int run_step(struct ds_compute *compute, const struct ds_step *step, struct ds_error *err)
{
	const struct ds_engine *engine = compute->engine;
	int r;

	engine->arch->forward(engine->model, &step->rows);
	ds_schedule_advance(compute->schedule, step);
	r = take_logits(compute, step, err);
	for (uint32_t i = 0; i < step->n_slices && r == 0; i++)
		if (step->slices[i].sequence->mtp)
			r = draft(compute, step, &step->slices[i], err);
	compute->n_computed += step->rows.n;
	return r < 0 ? r : engine->backend_ops->sync(engine->backend, err);
}

static void *run(void *self)
{
	struct ds_compute *compute = self;
	bool idle = false;

	while (collect(compute, idle)) {
		struct ds_error error = {{0}};
		struct ds_step step;

		ds_schedule_sweep(compute->schedule);
		ds_schedule_plan(compute->schedule, &step);
		if (step.rows.n > 0 && run_step(compute, &step, &error) < 0)
			fail_step(&step, &error);
		/* A sequence may end without a row; then another can take its place. */
		idle = ds_schedule_sweep(compute->schedule) == 0 && step.rows.n == 0;
		update_load(compute);
		ds_outbox_notify(compute->outbox);
	}
	return NULL;
}

static int take_memory(struct ds_compute *compute, struct ds_error *err)
{
	const struct ds_engine *engine = compute->engine;
	size_t vocab = engine->hparams->vocab, max_rows = DS_STEP_PROMPT_ROWS + engine->parallel;
	int r = ds_kv_cache_new(&compute->cache, engine->n_pages, err);

	if (r == 0)
		r = ds_schedule_new(&compute->schedule, compute->cache, engine->parallel, err);
	if (r == 0)
		r = ds_choice_new(&compute->choice, engine, err);
	if (r < 0)
		return r;
	compute->logits = calloc(DS_STEP_LOGITS * vocab, sizeof(*compute->logits));
	compute->indices = calloc(max_rows, sizeof(*compute->indices));
	compute->tokens = calloc(max_rows, sizeof(*compute->tokens));
	compute->positions = calloc(DS_STEP_LOGITS, sizeof(*compute->positions));
	compute->owners = calloc(DS_STEP_LOGITS, sizeof(*compute->owners));
	if (!compute->logits || !compute->indices || !compute->tokens || !compute->positions ||
	    !compute->owners)
		return ds_fail(err, -ENOMEM, "no memory for the steps of the model");
	return 0;
}

static void compute_free(struct ds_compute *compute)
{
	ds_schedule_free(compute->schedule);
	for (size_t i = 0; i < compute->n_incoming; i++)
		ds_sequence_free(compute->incoming[i]);
	ds_kv_cache_free(compute->cache);
	free(compute->incoming);
	free(compute->logits);
	ds_choice_free(compute->choice);
	free(compute->indices);
	free(compute->tokens);
	free(compute->positions);
	free(compute->owners);
	pthread_cond_destroy(&compute->wake);
	pthread_mutex_destroy(&compute->lock);
	free(compute);
}

int ds_compute_new(struct ds_compute **out, const struct ds_engine *engine, struct ds_outbox *outbox,
		   struct ds_error *err)
{
	struct ds_compute *compute = calloc(1, sizeof(*compute));
	int r;

	if (!compute)
		return ds_fail(err, -ENOMEM, "no memory for the compute thread");
	compute->engine = engine;
	compute->outbox = outbox;
	pthread_mutex_init(&compute->lock, NULL);
	pthread_cond_init(&compute->wake, NULL);
	r = take_memory(compute, err);
	if (r == 0) {
		update_load(compute);
		r = -pthread_create(&compute->thread, NULL, run, compute);
		if (r < 0)
			ds_fail(err, r, "no compute thread: %s", strerror(-r));
	}
	if (r < 0) {
		compute_free(compute);
		return r;
	}
	*out = compute;
	return 0;
}

struct ds_compute *ds_compute_free(struct ds_compute *compute)
{
	if (!compute)
		return NULL;
	pthread_mutex_lock(&compute->lock);
	compute->quit = true;
	pthread_cond_signal(&compute->wake);
	pthread_mutex_unlock(&compute->lock);
	pthread_join(compute->thread, NULL);
	compute_free(compute);
	return NULL;
}

void ds_compute_add(struct ds_compute *compute, struct ds_sequence *s)
{
	bool fits = true;

	pthread_mutex_lock(&compute->lock);
	if (compute->n_incoming == compute->capacity) {
		size_t capacity = 2 * compute->capacity + 16;
		struct ds_sequence **incoming = realloc(compute->incoming, capacity * sizeof(*incoming));

		fits = incoming;
		if (fits) {
			compute->incoming = incoming;
			compute->capacity = capacity;
		}
	}
	if (fits)
		compute->incoming[compute->n_incoming++] = s;
	compute->kicked = true;
	pthread_cond_signal(&compute->wake);
	pthread_mutex_unlock(&compute->lock);
	if (!fits) {
		struct ds_failure failure;

		ds_refuse(&failure, DS_INTERNAL, NULL, "no memory for another request");
		ds_sequence_fail(s, &failure);
		ds_sequence_free(s);
	}
}

void ds_compute_wake(struct ds_compute *compute)
{
	pthread_mutex_lock(&compute->lock);
	compute->kicked = true;
	pthread_cond_signal(&compute->wake);
	pthread_mutex_unlock(&compute->lock);
}

struct ds_engine_load ds_compute_get_load(struct ds_compute *compute)
{
	struct ds_engine_load load;

	pthread_mutex_lock(&compute->lock);
	load = compute->load;
	pthread_mutex_unlock(&compute->lock);
	return load;
}

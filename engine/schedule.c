/* schedule.c - a list of sequences in order of arrival, each running (it may hold pages) or waiting (it holds none). */
#include "schedule.h"
#include "engine.h"

#include <string.h>

struct entry {
	struct ds_sequence *sequence;
	bool running;
	uint32_t planned; /* rows of the step being planned */
};

struct ds_schedule {
	struct ds_kv_cache *cache;
	uint32_t parallel;
	struct entry *entries; /* [n], in order of arrival */
	size_t n, capacity;
	size_t turn; /* whose prompt comes first moves on with every step */

	uint32_t *tokens, *positions; /* [max_rows] */
	const uint32_t **pages;	      /* [max_rows] */
	struct ds_slice *slices;      /* [parallel] */
	struct ds_step step;	      /* being planned */
};

int ds_schedule_new(struct ds_schedule **out, struct ds_kv_cache *cache, uint32_t parallel, struct ds_error *err)
{
	ds_cleanup(ds_schedule_freep) struct ds_schedule *schedule = calloc(1, sizeof(*schedule));
	uint32_t max_rows = DS_STEP_PROMPT_ROWS + parallel;

	if (schedule) {
		schedule->cache = cache;
		schedule->parallel = parallel;
		schedule->tokens = calloc(max_rows, sizeof(*schedule->tokens));
		schedule->positions = calloc(max_rows, sizeof(*schedule->positions));
		schedule->pages = calloc(max_rows, sizeof(*schedule->pages));
		schedule->slices = calloc(parallel, sizeof(*schedule->slices));
	}
	if (!schedule || !schedule->tokens || !schedule->positions || !schedule->pages || !schedule->slices)
		return ds_fail(err, -ENOMEM, "no memory for the scheduler");
	*out = ds_steal(&schedule);
	return 0;
}

struct ds_schedule *ds_schedule_free(struct ds_schedule *schedule)
{
	if (!schedule)
		return NULL;
	for (size_t i = 0; i < schedule->n; i++) {
		ds_kv_cache_release(schedule->cache, &schedule->entries[i].sequence->pages);
		ds_sequence_free(schedule->entries[i].sequence);
	}
	free(schedule->entries);
	free(schedule->tokens);
	free(schedule->positions);
	free(schedule->pages);
	free(schedule->slices);
	free(schedule);
	return NULL;
}

int ds_schedule_add(struct ds_schedule *schedule, struct ds_sequence *s)
{
	if (schedule->n == schedule->capacity) {
		size_t capacity = schedule->capacity ? 2 * schedule->capacity : 16;
		struct entry *entries = realloc(schedule->entries, capacity * sizeof(*entries));

		if (!entries) {
			struct ds_failure failure;

			ds_refuse(&failure, DS_INTERNAL, NULL, "no memory for another request");
			ds_sequence_fail(s, &failure);
			ds_sequence_free(s);
			return -ENOMEM;
		}
		schedule->entries = entries;
		schedule->capacity = capacity;
	}
	schedule->entries[schedule->n++] = (struct entry){.sequence = s};
	return 0;
}

static void stop_running(struct ds_schedule *schedule, struct entry *entry)
{
	ds_kv_cache_release(schedule->cache, &entry->sequence->pages);
	ds_sequence_rewind(entry->sequence);
	entry->running = false;
	entry->planned = 0;
}

/* Who gives its pages up: the newest that is paused, else the newest of all. There is one: whoever asks. */
static struct entry *choose_victim(struct ds_schedule *schedule)
{
	struct entry *newest = NULL;

	for (size_t i = schedule->n; i-- > 0;) {
		struct entry *entry = &schedule->entries[i];

		if (!entry->running || entry->sequence->pages.n == 0)
			continue;
		if (entry->sequence->paused)
			return entry;
		if (!newest)
			newest = entry;
	}
	return newest;
}

/* Pages for @n more rows of @entry. False: it had to give up its own. */
static bool make_room(struct ds_schedule *schedule, struct entry *entry, uint32_t n)
{
	struct ds_sequence *s = entry->sequence;

	while (ds_kv_cache_reserve(schedule->cache, &s->pages, s->n_computed + n) < 0) {
		struct entry *victim = choose_victim(schedule);

		/* Nobody has pages, and still there are too few: the sequence is longer than the cache. */
		if (!victim)
			return false;
		stop_running(schedule, victim);
		if (victim == entry)
			return false;
	}
	return true;
}

static uint32_t count_active(const struct ds_schedule *schedule)
{
	uint32_t n = 0;

	for (size_t i = 0; i < schedule->n; i++)
		n += schedule->entries[i].running && !schedule->entries[i].sequence->paused;
	return n;
}

static bool is_decoding(const struct ds_sequence *s)
{
	return s->n_computed + 1 == s->n_tokens;
}

/* Pages that running sequences will need for what waits in them. */
static uint32_t count_promised(const struct ds_schedule *schedule)
{
	uint32_t n = 0;

	for (size_t i = 0; i < schedule->n; i++) {
		const struct ds_sequence *s = schedule->entries[i].sequence;

		if (schedule->entries[i].running)
			n += ds_kv_pages(s->n_tokens) - s->pages.n;
	}
	return n;
}

/* Let waiting sequences run, in order, while there is a place and room for all that they have so far. */
static void admit(struct ds_schedule *schedule)
{
	uint32_t n_active = count_active(schedule), promised = count_promised(schedule);

	for (size_t i = 0; i < schedule->n && n_active < schedule->parallel; i++) {
		struct entry *entry = &schedule->entries[i];
		struct ds_sequence *s = entry->sequence;

		if (entry->running || s->paused)
			continue;
		if (n_active > 0 && promised + ds_kv_pages(s->n_tokens) > ds_kv_cache_get_available(schedule->cache))
			return;
		if (!s->echo_logprobs)
			s->n_computed = ds_kv_cache_match(schedule->cache, &s->pages, s->tokens, s->n_tokens);
		entry->running = true;
		n_active++;
		promised += ds_kv_pages(s->n_tokens) - s->pages.n;
		if (!s->started) {
			s->n_cached = s->n_computed;
			ds_sequence_start(s);
		}
	}
}

/* The rows that go on one token at a time, oldest first. */
static void plan_decoding(struct ds_schedule *schedule)
{
	uint32_t n = 0;

	for (size_t i = 0; i < schedule->n && n < schedule->parallel; i++) {
		struct entry *entry = &schedule->entries[i];

		if (!entry->running || entry->sequence->paused || entry->sequence->ended ||
		    !is_decoding(entry->sequence) || !make_room(schedule, entry, 1))
			continue;
		entry->planned = 1;
		n++;
	}
}

static bool is_prefilling(const struct entry *entry)
{
	return entry->running && !entry->sequence->paused && !entry->sequence->ended && !is_decoding(entry->sequence);
}

/* Share the rows for prompts: each gets an equal part of what is left, and leaves what it does not need. */
static void plan_prefill(struct ds_schedule *schedule)
{
	uint32_t left, n_left = 0, n_planned = 0;

	for (size_t i = 0; i < schedule->n; i++) {
		n_left += is_prefilling(&schedule->entries[i]);
		n_planned += schedule->entries[i].planned > 0;
	}
	left = n_planned > 0 ? DS_STEP_SHARED_ROWS : DS_STEP_PROMPT_ROWS;
	for (size_t i = 0; i < schedule->n && left > 0 && n_planned < schedule->parallel; i++) {
		struct entry *entry = &schedule->entries[(schedule->turn + i) % schedule->n];
		uint32_t n, share;
		bool exactly;

		if (!is_prefilling(entry))
			continue;
		share = (left + n_left - 1) / n_left;
		n_left = n_left > 1 ? n_left - 1 : 1;
		n = ds_sequence_wanted_rows(entry->sequence, &exactly);
		if (exactly ? n > left : n > share) {
			if (exactly)
				continue; /* its turn comes, and then nobody is before it */
			n = share;
		}
		if (!make_room(schedule, entry, n))
			continue;
		entry->planned = n;
		left -= n;
		n_planned++;
	}
	schedule->turn++;
}

static void write_rows(struct ds_schedule *schedule, struct entry *entry)
{
	struct ds_sequence *s = entry->sequence;
	struct ds_step *step = &schedule->step;

	step->slices[step->n_slices++] = (struct ds_slice){.sequence = s, .first = step->rows.n, .n = entry->planned};
	for (uint32_t i = 0; i < entry->planned; i++) {
		schedule->tokens[step->rows.n] = s->tokens[s->n_computed + i];
		schedule->positions[step->rows.n] = s->n_computed + i;
		schedule->pages[step->rows.n] = s->pages.pages;
		step->rows.n++;
	}
}

void ds_schedule_plan(struct ds_schedule *schedule, struct ds_step *step)
{
	for (size_t i = 0; i < schedule->n; i++) {
		schedule->entries[i].sequence->paused = ds_outlet_is_full(schedule->entries[i].sequence->outlet);
		schedule->entries[i].planned = 0;
	}
	admit(schedule);
	plan_decoding(schedule);
	plan_prefill(schedule);

	schedule->step = (struct ds_step){.rows = {.tokens = schedule->tokens, .positions = schedule->positions,
						   .pages = schedule->pages}, .slices = schedule->slices};
	for (size_t i = 0; i < schedule->n; i++)
		if (schedule->entries[i].planned > 0)
			write_rows(schedule, &schedule->entries[i]);
	*step = schedule->step;
}

void ds_schedule_advance(struct ds_schedule *schedule, const struct ds_step *step)
{
	for (uint32_t i = 0; i < step->n_slices; i++) {
		struct ds_sequence *s = step->slices[i].sequence;

		ds_sequence_advance(s, step->slices[i].n);
		ds_kv_cache_commit(schedule->cache, &s->pages, s->tokens, s->n_computed);
	}
}

size_t ds_schedule_sweep(struct ds_schedule *schedule)
{
	size_t kept = 0, n = schedule->n;

	for (size_t i = 0; i < schedule->n; i++) {
		struct entry *entry = &schedule->entries[i];
		struct ds_sequence *s = entry->sequence;

		if (!s->ended && ds_outlet_is_cancelled(s->outlet)) {
			struct ds_failure failure;

			ds_refuse(&failure, DS_CANCELLED, NULL, "the request was cancelled");
			ds_sequence_fail(s, &failure);
		}
		if (s->ended) {
			ds_kv_cache_release(schedule->cache, &s->pages);
			ds_sequence_free(s);
		} else {
			schedule->entries[kept++] = *entry;
		}
	}
	schedule->n = kept;
	return n - kept;
}

struct ds_schedule_load ds_schedule_get_load(const struct ds_schedule *schedule)
{
	struct ds_schedule_load load = {0};

	for (size_t i = 0; i < schedule->n; i++) {
		if (schedule->entries[i].running && !schedule->entries[i].sequence->paused)
			load.n_running++;
		else
			load.n_waiting++;
	}
	return load;
}

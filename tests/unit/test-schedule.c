/* test-schedule.c - who takes part in a step: fairness, places, pauses, preemption, cancellation. No model is run. */
#include "engine.h"
#include "schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define P DS_KV_PAGE_TOKENS
#define ROWS DS_STEP_PROMPT_ROWS

struct bench {
	struct ds_engine engine;
	struct ds_hparams hparams;
	struct ds_outbox *outbox;
	struct ds_kv_cache *cache;
	struct ds_schedule *schedule;
	struct ds_step step;
	uint64_t n_requests;
};

static struct bench *begin(uint32_t n_pages, uint32_t parallel)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->hparams.vocab = 4;
	b->engine.hparams = &b->hparams;
	assert_int_equal(ds_outbox_new(&b->outbox, NULL), 0);
	assert_int_equal(ds_kv_cache_new(&b->cache, n_pages, NULL), 0);
	assert_int_equal(ds_schedule_new(&b->schedule, b->cache, parallel, NULL), 0);
	return b;
}

static void end(struct bench *b)
{
	ds_schedule_free(b->schedule);
	ds_kv_cache_free(b->cache);
	ds_outbox_free(b->outbox);
	free(b);
}

/* An evaluation of @n_prompt tokens and @n_more: what a generation is, without words. */
static struct ds_sequence *add(struct bench *b, uint32_t n_prompt, uint32_t n_more)
{
	uint32_t *tokens = calloc(n_prompt, sizeof(*tokens));
	struct ds_failure failure;
	struct ds_outlet *outlet;
	struct ds_sequence *s;

	assert_int_equal(ds_outbox_open(b->outbox, ++b->n_requests, &outlet, NULL), 0);
	assert_int_equal(ds_sequence_new(&s, &b->engine, outlet, tokens, n_prompt, n_prompt + n_more, NULL, &failure), 0);
	assert_int_equal(ds_schedule_add(b->schedule, s), 0);
	return s;
}

static void plan(struct bench *b)
{
	ds_schedule_sweep(b->schedule);
	ds_schedule_plan(b->schedule, &b->step);
	assert_true(b->step.n_slices == 0 || b->step.rows.n > 0);
}

/* Rows of @s in the planned step. */
static uint32_t rows_of(const struct bench *b, const struct ds_sequence *s)
{
	for (uint32_t i = 0; i < b->step.n_slices; i++)
		if (b->step.slices[i].sequence == s)
			return b->step.slices[i].n;
	return 0;
}

/* As if the step was computed: all logits wanted are handed out. */
static void compute(struct bench *b)
{
	static const float logits[4] = {0, 1, 0, 0};

	ds_schedule_advance(b->schedule, &b->step);
	for (uint32_t i = 0; i < b->step.n_slices; i++) {
		const struct ds_slice *slice = &b->step.slices[i];

		for (uint32_t row = slice->first; row < slice->first + slice->n; row++)
			if (ds_sequence_wants_logits(slice->sequence, b->step.rows.positions[row]))
				ds_sequence_take(slice->sequence, b->step.rows.positions[row], logits, NULL);
	}
}

static void step(struct bench *b)
{
	plan(b);
	compute(b);
}

/* Let the client take all there is, and more. */
static void drain(struct bench *b)
{
	static _Alignas(8) uint8_t batch[65536];

	for (uint64_t i = 1; i <= b->n_requests; i++)
		ds_outbox_credit(b->outbox, i, UINT32_MAX);
	while (ds_outbox_collect(b->outbox, batch, sizeof(batch)) > 0)
		for (uint64_t i = 1; i <= b->n_requests; i++)
			ds_outbox_credit(b->outbox, i, UINT32_MAX);
}

/* Steps until nobody is left; each must do something. */
static uint32_t run_to_the_end(struct bench *b)
{
	uint32_t n = 0;

	for (;; n++) {
		struct ds_schedule_load load;

		ds_schedule_sweep(b->schedule);
		load = ds_schedule_get_load(b->schedule);
		if (load.n_running + load.n_waiting == 0)
			return n;
		drain(b);
		step(b);
		assert_true(b->step.rows.n > 0);
		assert_true(n < 100000);
	}
}

static void a_prompt_is_fed_in_pieces_and_then_token_by_token(void **state)
{
	struct bench *b = begin(64, 4);
	struct ds_sequence *s = add(b, ROWS + 10, 2);

	step(b);
	assert_int_equal(rows_of(b, s), ROWS);
	step(b);
	assert_int_equal(rows_of(b, s), 10);
	step(b);
	assert_int_equal(rows_of(b, s), 1);
	assert_int_equal(b->step.rows.positions[0], ROWS + 10);
	assert_int_equal(b->step.rows.tokens[0], 1); /* the best of the logits */
	step(b);
	plan(b);
	assert_int_equal(b->step.rows.n, 0);
	assert_int_equal(ds_kv_cache_get_used(b->cache), 0);
	end(b);
}

static void a_long_prompt_delays_nobody(void **state)
{
	struct bench *b = begin(256, 4);
	struct ds_sequence *quick = add(b, 3, 50), *slow, *other;

	step(b);
	slow = add(b, 2000, 0);
	other = add(b, 40, 0);
	step(b);
	assert_int_equal(rows_of(b, quick), 1);
	assert_int_equal(rows_of(b, slow) + rows_of(b, other), rows_of(b, slow) + 40);
	assert_in_range(rows_of(b, slow), DS_STEP_SHARED_ROWS / 2, DS_STEP_SHARED_ROWS);
	assert_int_equal(rows_of(b, other), 40);
	end(b);
}

static void prompts_share_a_step_equally(void **state)
{
	struct bench *b = begin(1024, 4);
	struct ds_sequence *s[4];

	for (int i = 0; i < 4; i++)
		s[i] = add(b, 1000, 0);
	step(b);
	for (int i = 0; i < 4; i++)
		assert_int_equal(rows_of(b, s[i]), ROWS / 4);
	end(b);
}

static void more_than_there_are_places_wait_in_order(void **state)
{
	struct bench *b = begin(64, 2);
	struct ds_sequence *first = add(b, 2, 5), *second = add(b, 2, 0), *third = add(b, 2, 5);

	step(b);
	assert_int_equal(rows_of(b, first), 2);
	assert_int_equal(rows_of(b, second), 2);
	assert_int_equal(rows_of(b, third), 0);
	assert_false(third->started);
	assert_int_equal(ds_schedule_get_load(b->schedule).n_waiting, 1);
	step(b); /* second has ended */
	assert_int_equal(rows_of(b, first), 1);
	assert_int_equal(rows_of(b, third), 2);
	end(b);
}

static void given_chunks_are_kept_exactly(void **state)
{
	static const uint32_t chunks[] = {7, 41}, want[] = {7, 41, 7, 41, 4, 1, 1};
	struct bench *b = begin(256, 4);
	struct ds_sequence *s = add(b, 100, 2);

	add(b, 2000, 0); /* wants all rows there are, in every step */
	s->chunks = malloc(sizeof(chunks));
	memcpy(s->chunks, chunks, sizeof(chunks));
	s->n_chunks = 2;
	for (size_t i = 0; i < DS_ARRAY_SIZE(want);) {
		drain(b);
		step(b);
		assert_true(b->step.rows.n > 0);
		if (rows_of(b, s) > 0)
			assert_int_equal(rows_of(b, s), want[i++]);
	}
	end(b);
}

static void one_whose_client_is_slow_pauses_and_another_takes_its_place(void **state)
{
	static const char text[DS_EVENT_TEXT_MAX];
	struct bench *b = begin(64, 1);
	struct ds_sequence *slow = add(b, 2, 100), *next = add(b, 2, 0);

	step(b);
	assert_int_equal(rows_of(b, slow), 2);
	while (!ds_outlet_is_full(slow->outlet))
		ds_outlet_write(slow->outlet, DS_EVENT_CONTENT, text, sizeof(text));
	step(b);
	assert_int_equal(rows_of(b, slow), 0);
	assert_int_equal(rows_of(b, next), 2);
	assert_true(slow->pages.n > 0); /* its KV stays */
	step(b);
	assert_int_equal(b->step.rows.n, 0);
	drain(b);
	step(b);
	assert_int_equal(rows_of(b, slow), 1);
	end(b);
}

static void when_the_cache_is_full_the_newest_makes_room_and_all_end(void **state)
{
	struct bench *b = begin(8, 4);

	add(b, 3 * P, 4 * P);
	step(b);
	for (int i = 0; i < 3; i++)
		add(b, 2 * P - 3, 4 * P);
	assert_true(run_to_the_end(b) < 2000);
	assert_int_equal(ds_kv_cache_get_used(b->cache), 0);
	end(b);
}

static void a_paused_one_gives_its_pages_up_before_a_newer_one(void **state)
{
	static const char text[DS_EVENT_TEXT_MAX];
	struct bench *b = begin(4, 2);
	struct ds_sequence *slow = add(b, P, 2 * P), *quick = add(b, P + 1, 2 * P - 1);

	step(b);
	while (!ds_outlet_is_full(slow->outlet))
		ds_outlet_write(slow->outlet, DS_EVENT_CONTENT, text, sizeof(text));
	for (uint32_t i = 0; i < P + 1; i++)
		step(b);
	assert_int_equal(quick->pages.n, 3);
	assert_int_equal(slow->pages.n, 1); /* three and one: still room */
	for (uint32_t i = 0; i < P - 2; i++)
		step(b);
	ds_schedule_sweep(b->schedule);
	assert_int_equal(ds_schedule_get_load(b->schedule).n_running, 0);
	assert_int_equal(ds_schedule_get_load(b->schedule).n_waiting, 1); /* the slow one, for its client */
	assert_true(run_to_the_end(b) < 200);
	end(b);
}

static void what_was_computed_again_is_not_told_again(void **state)
{
	struct bench *b = begin(4, 2);
	size_t n_rows = 0, size, at = 0;
	static _Alignas(8) uint8_t batch[65536];
	const struct ds_event_header *header;
	const uint8_t *body;
	bool rewound = false;

	add(b, P, 3 * P);
	add(b, P, 2 * P); /* the newest: its pages go to the other */
	for (int i = 0; i < 500; i++) {
		step(b);
		rewound |= b->step.n_slices == 1 && ds_schedule_get_load(b->schedule).n_waiting == 1;
	}
	assert_true(rewound);
	while ((size = ds_outbox_collect(b->outbox, batch, sizeof(batch))) > 0)
		for (at = 0; ds_event_next(batch, size, &at, &header, &body) == 1;)
			n_rows += header->request == 2 && header->type == DS_EVENT_LOGITS;
	assert_int_equal(n_rows, 3 * P);
	end(b);
}

static void cancelled_ones_leave_before_the_next_step(void **state)
{
	struct bench *b = begin(64, 1);

	add(b, 40, 10);
	add(b, 5, 5); /* waits */
	step(b);
	ds_outbox_cancel(b->outbox, 1);
	ds_outbox_cancel(b->outbox, 2);
	plan(b);
	assert_int_equal(b->step.rows.n, 0);
	assert_int_equal(ds_kv_cache_get_used(b->cache), 0);
	drain(b);
	assert_true(ds_outbox_is_empty(b->outbox)); /* each was told */
	end(b);
}

static void hundreds_at_once_all_end(void **state)
{
	struct bench *b = begin(40, 8);
	uint32_t random = 7;

	for (int i = 0; i < 300; i++) {
		random = random * 1664525 + 1013904223;
		add(b, 1 + (random >> 16) % 300, (random >> 8) % 100);
		if (i % 3 == 0) {
			drain(b);
			step(b);
		}
	}
	run_to_the_end(b);
	assert_int_equal(ds_kv_cache_get_available(b->cache), 40);
	end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prompt_is_fed_in_pieces_and_then_token_by_token),
		cmocka_unit_test(a_long_prompt_delays_nobody),
		cmocka_unit_test(prompts_share_a_step_equally),
		cmocka_unit_test(more_than_there_are_places_wait_in_order),
		cmocka_unit_test(given_chunks_are_kept_exactly),
		cmocka_unit_test(one_whose_client_is_slow_pauses_and_another_takes_its_place),
		cmocka_unit_test(when_the_cache_is_full_the_newest_makes_room_and_all_end),
		cmocka_unit_test(a_paused_one_gives_its_pages_up_before_a_newer_one),
		cmocka_unit_test(what_was_computed_again_is_not_told_again),
		cmocka_unit_test(cancelled_ones_leave_before_the_next_step),
		cmocka_unit_test(hundreds_at_once_all_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

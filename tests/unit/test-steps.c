/* test-steps.c - the compute thread at work: a running generation allocates nothing, whatever comes and goes beside it. */
#include "answer.h"
#include "chain.h"
#include "compute.h"
#include "engine-image.h"
#include "engine-words.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

static atomic_long n_allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
	atomic_fetch_add(&n_allocations, 1);
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	atomic_fetch_add(&n_allocations, 1);
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	atomic_fetch_add(&n_allocations, 1);
	return __real_realloc(p, size);
}

struct bench {
	struct ds_plugins *plugins;
	struct ds_engine engine;
	struct words words;
	struct ds_outbox *outbox;
	struct ds_compute *compute;
	uint64_t n_done; /* DONE and FAILED */
	uint64_t text_size;
	char texts[4][512]; /* of requests 0 to 3 */
};

static struct bench *begin(uint32_t parallel, uint32_t n_pages)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct ds_engine *e = &b->engine;
	static const char *const no_plugins[] = {NULL};
	int fd = image_new();

	assert_int_equal(ds_plugins_open(&b->plugins, ".", no_plugins, DS_KIND_ANY, NULL), 0);
	e->plugins = b->plugins;
	assert_int_equal(ds_image_open(&e->image, fd, false, NULL), 0);
	close(fd);
	e->hparams = ds_image_hparams(e->image);
	e->context = 2048;
	e->parallel = parallel;
	e->n_pages = n_pages;
	e->backend_ops = &ds_cpu_ops;
	assert_int_equal(ds_cpu_ops.open(&e->backend, NULL, NULL, NULL), 0);
	assert_int_equal(ds_cpu_ops.start(e->backend, 2, NULL), 0);
	e->arch = ds_arch_find(e->hparams, NULL);
	assert_int_equal(e->arch->open(&e->model, &(struct ds_arch_setup){
		.image = e->image, .ops = e->backend_ops, .backend = e->backend, .precision = DS_PRECISION_EXACT,
		.kv_dtype = DS_DTYPE_F32, .n_pages = e->n_pages, .page_tokens = DS_KV_PAGE_TOKENS,
		.max_rows = DS_STEP_PROMPT_ROWS + e->parallel, .max_logits = DS_STEP_LOGITS}, NULL), 0);
	words_init(&b->words, e);
	b->words.vocabulary.n_eos = 0; /* nothing ends an answer but its length */
	assert_int_equal(ds_outbox_new(&b->outbox, NULL), 0);
	assert_int_equal(ds_compute_new(&b->compute, e, b->outbox, NULL), 0);
	return b;
}

static void end(struct bench *b)
{
	ds_compute_free(b->compute);
	ds_outbox_free(b->outbox);
	b->engine.arch->close(b->engine.model);
	ds_cpu_ops.close(b->engine.backend);
	ds_image_free(b->engine.image);
	ds_plugins_free(b->plugins);
	free(b);
}

static void generate(struct bench *b, uint64_t request, uint32_t n_prompt, uint32_t n_more, int n_logprobs)
{
	static const char *const stops[] = {"never seen"};
	struct ds_answer_options options = {.stops = stops, .n_stops = 1, .n_logprobs = n_logprobs};
	uint32_t *tokens = calloc(n_prompt, sizeof(*tokens));
	struct ds_failure failure;
	struct ds_outlet *outlet;
	struct ds_sequence *s;

	for (uint32_t i = 0; i < n_prompt; i++)
		tokens[i] = i % 250;
	assert_int_equal(ds_outbox_open(b->outbox, request, &outlet, NULL), 0);
	assert_int_equal(ds_sequence_new(&s, &b->engine, outlet, tokens, n_prompt, n_prompt + n_more, "owner", &failure), 0);
	assert_int_equal(ds_chain_new(&s->chain, &b->engine, NULL, &failure), 0);
	assert_int_equal(ds_answer_new(&s->answer, &b->engine, outlet, &options, NULL), 0);
	ds_compute_add(b->compute, s);
}

/* Append to a text as far as it has room. */
static void keep_text(char text[512], const char *more, size_t size)
{
	size_t used = strlen(text), room = 511 - used;

	if (size > room)
		size = room;
	memcpy(text + used, more, size);
	text[used + size] = '\0';
}

/* Take events, as the serve thread does, until the model has computed @n_tokens or @n_done requests have ended. */
static void serve(struct bench *b, uint64_t n_tokens, uint64_t n_done)
{
	static _Alignas(8) uint8_t batch[65536];
	struct pollfd fd = {.fd = ds_outbox_fd(b->outbox), .events = POLLIN};

	while (ds_compute_get_load(b->compute).n_tokens < n_tokens && b->n_done < n_done) {
		const struct ds_event_header *header;
		const uint8_t *body;
		size_t size, at = 0;

		assert_int_equal(poll(&fd, 1, 60000), 1);
		size = ds_outbox_collect(b->outbox, batch, sizeof(batch));
		while (ds_event_next(batch, size, &at, &header, &body) == 1) {
			b->n_done += header->type == DS_EVENT_DONE || header->type == DS_EVENT_FAILED;
			if (header->type == DS_EVENT_CONTENT)
				b->text_size += header->size;
			if (header->type == DS_EVENT_CONTENT && header->request < DS_ARRAY_SIZE(b->texts))
				keep_text(b->texts[header->request], (const char *)body, header->size);
			ds_outbox_credit(b->outbox, header->request, (uint32_t)ds_event_size(header->size));
		}
		ds_compute_wake(b->compute);
	}
}

/* Allocations while two generations go on for 400 tokens; -1: one of them ended meanwhile. */
static long count_allocations(void)
{
	struct bench *b = begin(2, 256);
	uint64_t start;
	long before, n;

	generate(b, 1, 20, 2000, -1);
	generate(b, 2, 20, 2000, 3);
	while (b->n_done == 0 && (!b->texts[1][0] || !b->texts[2][0])) /* both have begun */
		serve(b, ds_compute_get_load(b->compute).n_tokens + 1, 1);
	start = ds_compute_get_load(b->compute).n_tokens;
	before = atomic_load(&n_allocations);
	serve(b, start + 400, 1);
	n = atomic_load(&n_allocations) - before;
	if (b->n_done > 0)
		n = -1;
	end(b);
	return n;
}

static void a_running_generation_allocates_nothing(void **state)
{
	long n = -1;

	/* On a machine that is busy with other things the answers may be there before they are looked at. */
	for (int i = 0; i < 100 && n < 0; i++)
		n = count_allocations();
	assert_int_equal(n, 0);
}

static void prompts_answers_and_cancellations_go_on_side_by_side(void **state)
{
	struct bench *b = begin(2, 256);

	for (uint64_t i = 1; i <= 12; i++)
		generate(b, i, (uint32_t)(37 * i), (uint32_t)(10 + i), i % 3 ? -1 : 2);
	serve(b, 300, 99);
	for (uint64_t i = 3; i <= 12; i += 3)
		ds_outbox_cancel(b->outbox, i);
	ds_compute_wake(b->compute);
	serve(b, UINT64_MAX, 12);
	assert_true(ds_outbox_is_empty(b->outbox));
	assert_int_equal(ds_compute_get_load(b->compute).n_running, 0);
	assert_true(b->text_size > 100);
	end(b);
}

static void who_had_to_give_way_says_the_same_in_the_end(void **state)
{
	struct bench *roomy = begin(3, 256), *tight = begin(3, 12);

	for (uint64_t i = 1; i <= 3; i++) {
		generate(roomy, i, (uint32_t)(20 * i), 100, -1);
		generate(tight, i, (uint32_t)(20 * i), 100, -1); /* 160 tokens are 10 pages */
	}
	serve(roomy, UINT64_MAX, 3);
	serve(tight, UINT64_MAX, 3);
	for (int i = 1; i <= 3; i++) {
		assert_true(strlen(roomy->texts[i]) > 50);
		assert_string_equal(roomy->texts[i], tight->texts[i]);
	}
	assert_true(ds_compute_get_load(tight->compute).n_tokens > ds_compute_get_load(roomy->compute).n_tokens);
	end(roomy);
	end(tight);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_generation_allocates_nothing),
		cmocka_unit_test(prompts_answers_and_cancellations_go_on_side_by_side),
		cmocka_unit_test(who_had_to_give_way_says_the_same_in_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-outbox.c - events leave in order, within their credit, and one request never keeps another back. */
#include "outbox.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static _Alignas(8) uint8_t batch[65536];

static struct ds_outlet *outlet_of(struct ds_outbox *box, uint64_t request)
{
	struct ds_outlet *outlet;

	assert_int_equal(ds_outbox_open(box, request, &outlet, NULL), 0);
	return outlet;
}

static struct ds_outbox *new_box(void)
{
	struct ds_outbox *box;

	assert_int_equal(ds_outbox_new(&box, NULL), 0);
	return box;
}

/* Collect once; the bytes of events of @request. */
static size_t collect(struct ds_outbox *box, uint64_t request)
{
	size_t size = ds_outbox_collect(box, batch, sizeof(batch)), at = 0, n = 0;
	const struct ds_event_header *header;
	const uint8_t *body;

	while (ds_event_next(batch, size, &at, &header, &body) == 1)
		if (header->request == request)
			n += ds_event_size(header->size);
	assert_int_equal(at, size);
	return n;
}

static void events_come_out_as_they_went_in(void **state)
{
	struct ds_outbox *box = new_box();
	struct ds_outlet *outlet = outlet_of(box, 7);
	const struct ds_event_header *header;
	const uint8_t *body;
	size_t size, at = 0;

	ds_outlet_write(outlet, DS_EVENT_CONTENT, "hello", 5);
	ds_outlet_write(outlet, DS_EVENT_CONTENT, "", 0);
	ds_outlet_write(outlet, DS_EVENT_DONE, "12345678", 8);
	size = ds_outbox_collect(box, batch, sizeof(batch));
	assert_int_equal(size, 24 + 16 + 24);
	assert_int_equal(ds_event_next(batch, size, &at, &header, &body), 1);
	assert_int_equal(header->request, 7);
	assert_int_equal(header->type, DS_EVENT_CONTENT);
	assert_memory_equal(body, "hello\0\0\0", 8);
	assert_int_equal(ds_event_next(batch, size, &at, &header, &body), 1);
	assert_int_equal(header->size, 0);
	assert_int_equal(ds_event_next(batch, size, &at, &header, &body), 1);
	assert_int_equal(header->type, DS_EVENT_DONE);
	assert_true(ds_outbox_is_empty(box)); /* nothing follows DONE */
	ds_outbox_free(box);
}

static void notify_makes_the_descriptor_readable_until_it_is_collected(void **state)
{
	struct ds_outbox *box = new_box();
	struct pollfd fd = {.fd = ds_outbox_fd(box), .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 0), 0);
	ds_outbox_notify(box);
	ds_outbox_notify(box);
	assert_int_equal(poll(&fd, 1, 0), 1);
	collect(box, 1);
	assert_int_equal(poll(&fd, 1, 0), 0);
	ds_outbox_free(box);
}

static void a_request_never_spends_more_than_its_credit(void **state)
{
	static const char text[1000];
	struct ds_outbox *box = new_box();
	struct ds_outlet *outlet = outlet_of(box, 1);
	size_t sent = 0, n;

	while (!ds_outlet_is_full(outlet))
		assert_int_equal(ds_outlet_write(outlet, DS_EVENT_CONTENT, text, sizeof(text)), 0);
	while ((n = collect(box, 1)) > 0)
		sent += n;
	assert_true(sent <= DS_CREDIT && sent > DS_CREDIT - ds_event_size(sizeof(text)));
	assert_true(ds_outlet_is_full(outlet)); /* what is left is more than the rest of the credit */
	ds_outbox_credit(box, 1, (uint32_t)sent);
	assert_false(ds_outlet_is_full(outlet));
	assert_int_equal(collect(box, 1), ds_event_size(sizeof(text)));
	ds_outbox_free(box);
}

static void a_request_without_credit_keeps_nobody_back(void **state)
{
	static const char text[30000];
	struct ds_outbox *box = new_box();
	struct ds_outlet *slow = outlet_of(box, 1), *quick = outlet_of(box, 2);

	while (!ds_outlet_is_full(slow))
		ds_outlet_write(slow, DS_EVENT_CONTENT, text, sizeof(text));
	while (collect(box, 1) > 0)
		;
	ds_outlet_write(quick, DS_EVENT_CONTENT, "x", 1);
	assert_int_equal(collect(box, 2), 24);
	ds_outbox_free(box);
}

static void requests_take_turns_when_a_batch_is_too_small_for_all(void **state)
{
	static const char text[30000];
	struct ds_outbox *box = new_box();
	struct ds_outlet *a = outlet_of(box, 1), *b = outlet_of(box, 2);

	for (int i = 0; i < 4; i++)
		ds_outlet_write(a, DS_EVENT_CONTENT, text, sizeof(text));
	ds_outlet_write(b, DS_EVENT_CONTENT, text, sizeof(text));
	assert_int_equal(collect(box, 1), 2 * ds_event_size(sizeof(text)));
	assert_int_equal(collect(box, 2), ds_event_size(sizeof(text)));
	ds_outbox_free(box);
}

static void credit_never_exceeds_what_it_was_at_the_start(void **state)
{
	static const char text[1000];
	struct ds_outbox *box = new_box();
	struct ds_outlet *outlet = outlet_of(box, 1);
	size_t sent = 0, n;

	ds_outbox_credit(box, 1, UINT32_MAX);
	while (!ds_outlet_is_full(outlet))
		ds_outlet_write(outlet, DS_EVENT_CONTENT, text, sizeof(text));
	while ((n = collect(box, 1)) > 0)
		sent += n;
	assert_true(sent <= DS_CREDIT);
	ds_outbox_free(box);
}

static void a_number_is_one_request_at_a_time(void **state)
{
	struct ds_outbox *box = new_box();
	struct ds_outlet *first = outlet_of(box, 1), *second;

	assert_int_equal(ds_outbox_open(box, 1, &second, NULL), -EEXIST);
	ds_outbox_cancel(box, 2); /* of nobody: nothing happens */
	assert_false(ds_outlet_is_cancelled(first));
	ds_outbox_cancel(box, 1);
	assert_true(ds_outlet_is_cancelled(first));
	ds_outlet_write(first, DS_EVENT_FAILED, "{}", 2);
	collect(box, 1);
	assert_int_equal(ds_outbox_open(box, 1, &second, NULL), 0);
	ds_outbox_free(box);
}

static void of_a_cancelled_request_only_the_end_is_told_without_credit(void **state)
{
	static const char text[30000];
	struct ds_outbox *box = new_box();
	struct ds_outlet *outlet = outlet_of(box, 1);

	while (!ds_outlet_is_full(outlet))
		ds_outlet_write(outlet, DS_EVENT_CONTENT, text, sizeof(text));
	while (collect(box, 1) > 0)
		;
	ds_outbox_cancel(box, 1);
	assert_false(ds_outlet_is_full(outlet));
	ds_outlet_write(outlet, DS_EVENT_CONTENT, text, sizeof(text));
	assert_int_equal(collect(box, 1), 0);
	ds_outlet_write(outlet, DS_EVENT_FAILED, "{}", 2);
	assert_int_equal(collect(box, 1), 24);
	assert_true(ds_outbox_is_empty(box));
	ds_outbox_free(box);
}

static void an_event_that_is_too_long_is_refused(void **state)
{
	static const char text[DS_EVENT_TEXT_MAX + 1];
	struct ds_outbox *box = new_box();
	struct ds_outlet *outlet = outlet_of(box, 1);

	assert_int_equal(ds_outlet_write(outlet, DS_EVENT_CONTENT, text, DS_EVENT_TEXT_MAX), 0);
	assert_int_equal(ds_outlet_write(outlet, DS_EVENT_CONTENT, text, DS_EVENT_TEXT_MAX + 1), -EMSGSIZE);
	ds_outbox_free(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_come_out_as_they_went_in),
		cmocka_unit_test(notify_makes_the_descriptor_readable_until_it_is_collected),
		cmocka_unit_test(a_request_never_spends_more_than_its_credit),
		cmocka_unit_test(a_request_without_credit_keeps_nobody_back),
		cmocka_unit_test(requests_take_turns_when_a_batch_is_too_small_for_all),
		cmocka_unit_test(credit_never_exceeds_what_it_was_at_the_start),
		cmocka_unit_test(a_number_is_one_request_at_a_time),
		cmocka_unit_test(of_a_cancelled_request_only_the_end_is_told_without_credit),
		cmocka_unit_test(an_event_that_is_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test-event.c - stepping through batches of events, whole and broken. */
#include "event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

struct batch {
	_Alignas(8) uint8_t data[256];
	size_t size;
};

static void append(struct batch *b, uint64_t request, enum ds_event_type type, const char *text)
{
	struct ds_event_header h = {.request = request, .type = (uint16_t)type, .size = (uint32_t)strlen(text)};

	memcpy(b->data + b->size, &h, sizeof(h));
	memcpy(b->data + b->size + sizeof(h), text, h.size);
	b->size += ds_event_size(h.size);
}

static int next(const struct batch *b, size_t *offset, const struct ds_event_header **h, const uint8_t **body)
{
	return ds_event_next(b->data, b->size, offset, h, body);
}

static void an_empty_batch_ends_at_once(void **state)
{
	struct batch b = {.size = 0};
	const struct ds_event_header *h;
	const uint8_t *body;
	size_t offset = 0;

	assert_int_equal(next(&b, &offset, &h, &body), 0);
}

static void events_come_in_order_with_aligned_bodies(void **state)
{
	static const char *const texts[] = {"", "a", "12345678", "123456789"};
	struct batch b = {.size = 0};
	const struct ds_event_header *h;
	const uint8_t *body;
	size_t offset = 0;

	for (unsigned i = 0; i < DS_ARRAY_SIZE(texts); i++)
		append(&b, i + 1, DS_EVENT_CONTENT, texts[i]);
	for (unsigned i = 0; i < DS_ARRAY_SIZE(texts); i++) {
		assert_int_equal(next(&b, &offset, &h, &body), 1);
		assert_int_equal(h->request, i + 1);
		assert_int_equal(h->type, DS_EVENT_CONTENT);
		assert_int_equal(h->size, strlen(texts[i]));
		assert_memory_equal(body, texts[i], h->size);
		assert_int_equal((uintptr_t)body % 8, 0);
	}
	assert_int_equal(next(&b, &offset, &h, &body), 0);
	assert_int_equal(offset, b.size);
}

static void half_a_header_is_malformed(void **state)
{
	struct batch b = {.size = 0};
	const struct ds_event_header *h;
	const uint8_t *body;
	size_t offset = 0;

	append(&b, 1, DS_EVENT_CONTENT, "");
	b.size--;
	assert_int_equal(next(&b, &offset, &h, &body), -EPROTO);
}

static void a_body_past_the_end_is_malformed(void **state)
{
	static const uint32_t sizes[] = {9, 17, 1000, UINT32_MAX - 6, UINT32_MAX};

	for (size_t i = 0; i < DS_ARRAY_SIZE(sizes); i++) {
		struct batch b = {.size = 0};
		const struct ds_event_header *h;
		const uint8_t *body;
		size_t offset = 0;

		append(&b, 1, DS_EVENT_CONTENT, "12345678");
		((struct ds_event_header *)b.data)->size = sizes[i];
		assert_int_equal(next(&b, &offset, &h, &body), -EPROTO);
	}
}

static void padding_that_is_missing_is_malformed(void **state)
{
	struct batch b = {.size = 0};
	const struct ds_event_header *h;
	const uint8_t *body;
	size_t offset = 0;

	append(&b, 1, DS_EVENT_CONTENT, "1");
	b.size -= 7;
	assert_int_equal(next(&b, &offset, &h, &body), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_batch_ends_at_once),
		cmocka_unit_test(events_come_in_order_with_aligned_bodies),
		cmocka_unit_test(half_a_header_is_malformed),
		cmocka_unit_test(a_body_past_the_end_is_malformed),
		cmocka_unit_test(padding_that_is_missing_is_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

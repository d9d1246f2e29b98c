/* outbox.c - queues of events, one a request, and the credit that lets them go.
 *
 * One mutex guards all of it; nothing slow happens under it. A queue is a buffer that is filled at its end and drained
 * at its start, and starts over at 0 whenever it runs empty. */
#include "outbox.h"

#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

/* All that a generation can have queued: its credit, and what the step that fills it overshoots. Only the rows of an
 * evaluation can need more. What is never queued is memory that is never touched. FAILED always fits in. */
#define QUEUE_SIZE (DS_CREDIT + (64u << 10))

/* Nobody reads what a cancelled request still says, and nobody gives credit for it. */
#define NO_LIMIT (INT64_MAX / 2)

struct ds_outlet {
	struct ds_outbox *box;
	struct ds_outlet *next;
	uint64_t request;
	uint8_t *queue;
	size_t start, end, capacity;
	int64_t credit;
	bool cancelled, closed;
};

struct ds_outbox {
	pthread_mutex_t lock;
	int fd;
	struct ds_outlet *first; /* a ring in spirit: collect() moves whom it served to the end */
};

int ds_outbox_new(struct ds_outbox **out, struct ds_error *err)
{
	struct ds_outbox *box = calloc(1, sizeof(*box));

	if (!box)
		return ds_fail(err, -ENOMEM, "no memory for the outbox");
	box->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->fd < 0) {
		int r = -errno;

		free(box);
		return ds_fail(err, r, "no descriptor for the outbox");
	}
	pthread_mutex_init(&box->lock, NULL);
	*out = box;
	return 0;
}

static void outlet_free(struct ds_outlet *outlet)
{
	free(outlet->queue);
	free(outlet);
}

struct ds_outbox *ds_outbox_free(struct ds_outbox *box)
{
	if (!box)
		return NULL;
	while (box->first) {
		struct ds_outlet *outlet = box->first;

		box->first = outlet->next;
		outlet_free(outlet);
	}
	close(box->fd);
	pthread_mutex_destroy(&box->lock);
	free(box);
	return NULL;
}

int ds_outbox_fd(const struct ds_outbox *box)
{
	return box->fd;
}

void ds_outbox_notify(struct ds_outbox *box)
{
	/* Fails only when the counter is full, and then the descriptor is readable already. */
	if (eventfd_write(box->fd, 1) < 0)
		return;
}

/* The outlet of @request, or NULL. Called with the lock held. */
static struct ds_outlet *find(struct ds_outbox *box, uint64_t request)
{
	for (struct ds_outlet *o = box->first; o; o = o->next)
		if (o->request == request)
			return o;
	return NULL;
}

int ds_outbox_open(struct ds_outbox *box, uint64_t request, struct ds_outlet **out, struct ds_error *err)
{
	struct ds_outlet *outlet = calloc(1, sizeof(*outlet)), **end;
	bool taken;

	if (outlet)
		outlet->queue = malloc(QUEUE_SIZE);
	if (!outlet || !outlet->queue) {
		free(outlet);
		return ds_fail(err, -ENOMEM, "no memory for a request");
	}
	outlet->box = box;
	outlet->request = request;
	outlet->capacity = QUEUE_SIZE;
	outlet->credit = DS_CREDIT;
	pthread_mutex_lock(&box->lock);
	taken = find(box, request);
	if (!taken) {
		for (end = &box->first; *end; end = &(*end)->next)
			;
		*end = outlet;
	}
	pthread_mutex_unlock(&box->lock);
	if (taken) {
		outlet_free(outlet);
		return ds_fail(err, -EEXIST, "request %llu is already running", (unsigned long long)request);
	}
	*out = outlet;
	return 0;
}

void ds_outbox_cancel(struct ds_outbox *box, uint64_t request)
{
	struct ds_outlet *outlet;

	pthread_mutex_lock(&box->lock);
	outlet = find(box, request);
	if (outlet) {
		outlet->cancelled = true;
		outlet->credit = NO_LIMIT;
		if (!outlet->closed)
			outlet->start = outlet->end = 0;
	}
	pthread_mutex_unlock(&box->lock);
}

void ds_outbox_credit(struct ds_outbox *box, uint64_t request, uint32_t n)
{
	struct ds_outlet *outlet;

	pthread_mutex_lock(&box->lock);
	outlet = find(box, request);
	if (outlet && !outlet->cancelled) {
		outlet->credit += n;
		if (outlet->credit > DS_CREDIT)
			outlet->credit = DS_CREDIT;
	}
	pthread_mutex_unlock(&box->lock);
}

bool ds_outbox_is_empty(struct ds_outbox *box)
{
	bool empty;

	pthread_mutex_lock(&box->lock);
	empty = !box->first;
	pthread_mutex_unlock(&box->lock);
	return empty;
}

/* Move what may leave of one outlet into the batch. Returns the bytes. */
static size_t drain(struct ds_outlet *outlet, uint8_t *batch, size_t size)
{
	size_t done = 0;

	while (outlet->start < outlet->end) {
		const struct ds_event_header *h = (const struct ds_event_header *)(outlet->queue + outlet->start);
		size_t n = ds_event_size(h->size);

		if (n > size - done || (int64_t)n > outlet->credit)
			break;
		memcpy(batch + done, h, n);
		outlet->credit -= (int64_t)n;
		outlet->start += n;
		done += n;
	}
	if (outlet->start == outlet->end)
		outlet->start = outlet->end = 0;
	return done;
}

/* Drain every outlet once. *@served receives those that gave something and have more to come: they go to the end, so
 * that a talkative request does not fill every batch. */
static size_t collect_all(struct ds_outbox *box, uint8_t *batch, size_t size)
{
	struct ds_outlet *served = NULL, **served_end = &served, **link = &box->first;
	size_t done = 0;

	while (*link) {
		struct ds_outlet *outlet = *link;
		size_t n = drain(outlet, batch + done, size - done);

		done += n;
		if (outlet->closed && outlet->end == 0) {
			*link = outlet->next;
			outlet_free(outlet);
		} else if (n > 0) {
			*link = outlet->next;
			outlet->next = NULL;
			*served_end = outlet;
			served_end = &outlet->next;
		} else {
			link = &outlet->next;
		}
	}
	*link = served;
	return done;
}

size_t ds_outbox_collect(struct ds_outbox *box, uint8_t *batch, size_t size)
{
	eventfd_t ignored;
	size_t done;

	/* Read first: what is written after the lock is taken notifies again. */
	if (eventfd_read(box->fd, &ignored) < 0 && errno != EAGAIN)
		return 0;
	pthread_mutex_lock(&box->lock);
	done = collect_all(box, batch, size);
	pthread_mutex_unlock(&box->lock);
	return done;
}

/* Room for @n more bytes at the end of the queue. */
static bool make_room(struct ds_outlet *outlet, size_t n)
{
	size_t capacity = outlet->capacity;
	uint8_t *queue;

	if (n <= capacity - outlet->end)
		return true;
	memmove(outlet->queue, outlet->queue + outlet->start, outlet->end - outlet->start);
	outlet->end -= outlet->start;
	outlet->start = 0;
	while (n > capacity - outlet->end)
		capacity *= 2;
	if (capacity == outlet->capacity)
		return true;
	queue = realloc(outlet->queue, capacity);
	if (!queue) {
		outlet->end = 0;
		return false;
	}
	outlet->queue = queue;
	outlet->capacity = capacity;
	return true;
}

int ds_outlet_write(struct ds_outlet *outlet, enum ds_event_type type, const void *data, size_t size)
{
	struct ds_event_header h = {.request = outlet->request, .type = type, .size = (uint32_t)size};
	struct ds_outbox *box = outlet->box;
	bool fits, closes = type == DS_EVENT_DONE || type == DS_EVENT_FAILED;
	size_t n = ds_event_size(size);

	if (size > DS_EVENT_TEXT_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&box->lock);
	if (outlet->cancelled && !closes)
		n = 0;
	fits = make_room(outlet, n);
	if (fits && n > 0) {
		uint8_t *at = outlet->queue + outlet->end;

		memset(at + n - 8, 0, 8);
		memcpy(at, &h, sizeof(h));
		if (size > 0)
			memcpy(at + sizeof(h), data, size);
		outlet->end += n;
		outlet->closed = closes;
	}
	pthread_mutex_unlock(&box->lock);
	return fits ? 0 : -ENOMEM;
}

bool ds_outlet_is_full(struct ds_outlet *outlet)
{
	bool full;

	pthread_mutex_lock(&outlet->box->lock);
	full = (int64_t)(outlet->end - outlet->start) > outlet->credit;
	pthread_mutex_unlock(&outlet->box->lock);
	return full;
}

bool ds_outlet_is_cancelled(struct ds_outlet *outlet)
{
	bool cancelled;

	pthread_mutex_lock(&outlet->box->lock);
	cancelled = outlet->cancelled;
	pthread_mutex_unlock(&outlet->box->lock);
	return cancelled;
}

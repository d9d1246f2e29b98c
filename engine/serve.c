/* serve.c - the main thread: the broker's socket on one side, intake, compute and outbox on the other.
 *
 * What may be said when is the table below. PING is answered here, whatever the other threads are at. Events leave in
 * batches that fit one datagram; one that the socket has no room for waits, and keeps later ones behind it. */
#include "serve.h"
#include "bench.h"
#include "compute.h"
#include "engine.h"
#include "event.h"
#include "failure.h"
#include "huge.h"
#include "intake.h"
#include "kv.h"
#include "message.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>

enum phase {
	PHASE_EMPTY = 1 << 0,	 /* no model yet */
	PHASE_SERVING = 1 << 1,
	PHASE_QUITTING = 1 << 2, /* finishing what runs */
};

struct serve {
	int socket;
	enum phase phase;
	const struct ds_plugins *plugins;
	struct ds_outbox *outbox;
	struct ds_engine *engine;
	struct ds_huge *huge;
	struct ds_compute *compute;
	struct ds_intake *intake;

	size_t batch_size; /* of a batch that did not go out yet */
	_Alignas(8) uint8_t batch[DS_MESSAGE_INLINE];
};

static int send_json(struct serve *serve, uint16_t type, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r = text ? ds_message_send(serve->socket, type, 0, text, strlen(text), NULL, 0) : -ENOMEM;

	json_decref(json);
	free(text);
	return r;
}

static int start(struct serve *serve, const struct ds_message *m, struct ds_error *err)
{
	int r = ds_engine_new(&serve->engine, serve->plugins, (const char *)m->data, m->size, m->fds, m->n_fds,
			      err);

	if (r == 0)
		r = ds_compute_new(&serve->compute, serve->engine, serve->outbox, err);
	if (r == 0)
		r = ds_intake_new(&serve->intake, serve->engine, serve->outbox, serve->compute, err);
	return r;
}

static int on_map(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	const struct ds_engine *engine;
	int r;

	if (m->n_fds < 1)
		return ds_fail(err, -EPROTO, "MAP comes without an image");
	r = start(serve, m, err);
	if (r < 0) {
		/* The broker is told why; the exit status says that it was an error. */
		send_json(serve, DS_MSG_FAILED, json_pack("{s:s, s:s}", "code", DS_INTERNAL, "message", err->text));
		return r;
	}
	engine = serve->engine;
	serve->huge = ds_huge_new(engine->image);
	serve->phase = PHASE_SERVING;
	return send_json(serve, DS_MSG_READY,
			 json_pack("{s:I, s:I}", "kv_tokens", (json_int_t)engine->n_pages * DS_KV_PAGE_TOKENS, "context",
				   (json_int_t)engine->context));
}

static int send_progress(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	const struct ds_progress progress = {done, total};
	struct serve *serve = self;
	int r = ds_message_send(serve->socket, DS_MSG_PROGRESS, 0, &progress, sizeof(progress), NULL, 0);

	/* Who does not look at it misses it. */
	return r < 0 && r != -EAGAIN ? ds_fail(err, r, "cannot tell of progress: %s", strerror(-r)) : 0;
}

/* Everything happens here and now: who asks wants nothing else meanwhile. */
static int on_bench(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	json_t *answer = NULL;
	int r = m->n_fds < 1 ? ds_fail(err, -EPROTO, "BENCH comes without an image") :
			       ds_bench(serve->plugins, m, send_progress, serve, &answer, err);

	/* It comes after what it may have left lying in the socket. */
	fcntl(serve->socket, F_SETFL, 0);
	serve->phase = PHASE_QUITTING;
	if (r == 0)
		return send_json(serve, DS_MSG_ANSWER, answer);
	send_json(serve, DS_MSG_FAILED, json_pack("{s:s, s:s}", "code", DS_INTERNAL, "message", err->text));
	return r;
}

static int on_request(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	struct ds_outlet *outlet;
	struct ds_failure failure;
	int r = ds_outbox_open(serve->outbox, m->request, &outlet, err);

	if (r < 0)
		return r;
	if (serve->phase == PHASE_SERVING) {
		ds_intake_add(serve->intake, m, outlet);
		return 0;
	}
	ds_refuse(&failure, DS_SHUTTING_DOWN, NULL, "the engine is shutting down");
	ds_failure_send(&failure, outlet);
	return 0;
}

static int on_cancel(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	ds_outbox_cancel(serve->outbox, m->request);
	ds_compute_wake(serve->compute);
	return 0;
}

static int on_credit(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	uint32_t n;

	if (m->size != sizeof(n))
		return ds_fail(err, -EPROTO, "CREDIT has %u bytes instead of %zu", m->size, sizeof(n));
	memcpy(&n, m->data, sizeof(n));
	ds_outbox_credit(serve->outbox, m->request, n);
	ds_compute_wake(serve->compute);
	return 0;
}

static int on_ping(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	struct {
		uint64_t echo;
		struct ds_engine_load load;
	} pong = {0};
	int r;

	if (m->size != sizeof(pong.echo))
		return ds_fail(err, -EPROTO, "PING has %u bytes instead of %zu", m->size, sizeof(pong.echo));
	memcpy(&pong.echo, m->data, sizeof(pong.echo));
	if (serve->compute)
		pong.load = ds_compute_get_load(serve->compute);
	r = ds_message_send(serve->socket, DS_MSG_PONG, 0, &pong, sizeof(pong), NULL, 0);
	/* A broker that does not read gets no answers, and knows why. */
	return r == -EAGAIN ? 0 : r;
}

static int on_quit(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	serve->phase = PHASE_QUITTING;
	return 0;
}

static const struct rule {
	uint16_t type;
	unsigned phases;
	int (*function)(struct serve *serve, struct ds_message *m, struct ds_error *err);
} rules[] = {
	{DS_MSG_MAP, PHASE_EMPTY, on_map},
	{DS_MSG_BENCH, PHASE_EMPTY, on_bench},
	{DS_MSG_GENERATE, PHASE_SERVING | PHASE_QUITTING, on_request},
	{DS_MSG_EVALUATE, PHASE_SERVING | PHASE_QUITTING, on_request},
	{DS_MSG_TOKENIZE, PHASE_SERVING | PHASE_QUITTING, on_request},
	{DS_MSG_RENDER, PHASE_SERVING | PHASE_QUITTING, on_request},
	{DS_MSG_CANCEL, PHASE_SERVING | PHASE_QUITTING, on_cancel},
	{DS_MSG_CREDIT, PHASE_SERVING | PHASE_QUITTING, on_credit},
	{DS_MSG_PING, PHASE_EMPTY | PHASE_SERVING | PHASE_QUITTING, on_ping},
	{DS_MSG_QUIT, PHASE_EMPTY | PHASE_SERVING | PHASE_QUITTING, on_quit},
};

static int handle(struct serve *serve, struct ds_message *m, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(rules); i++)
		if (rules[i].type == m->type && (rules[i].phases & serve->phase))
			return rules[i].function(serve, m, err);
	return ds_fail(err, -EPROTO, "message %u may not come now", m->type);
}

/* Take one message. -EAGAIN: there was none. */
static int receive(struct serve *serve, struct ds_error *err)
{
	struct ds_message m = {0};
	int r = ds_message_receive(serve->socket, &m, err);

	if (r < 0)
		return r;
	r = handle(serve, &m, err);
	ds_message_deinit(&m);
	return r;
}

/* Send what may leave. *@blocked: the socket is full. */
static int send_events(struct serve *serve, bool *blocked)
{
	int r;

	*blocked = false;
	for (;;) {
		if (serve->batch_size == 0)
			serve->batch_size = ds_outbox_collect(serve->outbox, serve->batch, sizeof(serve->batch));
		if (serve->batch_size == 0)
			return 0;
		r = ds_message_send(serve->socket, DS_MSG_EVENTS, 0, serve->batch, serve->batch_size, NULL, 0);
		if (r == -EAGAIN) {
			*blocked = true;
			return 0;
		}
		if (r < 0)
			return r;
		serve->batch_size = 0;
	}
}

/* One turn: wait for something, take all messages that are there, send all events that may go. */
static int turn(struct serve *serve, bool *blocked, struct ds_error *err)
{
	struct pollfd fds[] = {
		{.fd = serve->socket, .events = (short)(*blocked ? POLLIN | POLLOUT : POLLIN)},
		{.fd = *blocked ? -1 : ds_outbox_fd(serve->outbox), .events = POLLIN},
	};
	int r = 0;

	if (poll(fds, DS_ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
		return ds_fail(err, -errno, "cannot wait: %s", strerror(errno));
	/* No more than a few at a time, so that a flood of requests does not keep events back. */
	for (int i = 0; i < 64 && r == 0; i++)
		r = receive(serve, err);
	if (r < 0 && r != -EAGAIN)
		return r;
	r = send_events(serve, blocked);
	return r < 0 ? ds_fail(err, r, "cannot send events: %s", strerror(-r)) : 0;
}

int ds_serve(int socket, const struct ds_plugins *plugins, struct ds_error *err)
{
	struct serve *serve = calloc(1, sizeof(*serve));
	bool blocked = false;
	int r;

	if (!serve)
		return ds_fail(err, -ENOMEM, "no memory to serve");
	serve->socket = socket;
	serve->phase = PHASE_EMPTY;
	serve->plugins = plugins;
	r = fcntl(socket, F_SETFL, O_NONBLOCK) < 0 ? ds_fail(err, -errno, "descriptor %d is not the broker", socket) :
						     ds_outbox_new(&serve->outbox, err);
	while (r == 0 && !(serve->phase == PHASE_QUITTING && serve->batch_size == 0 &&
			   (!serve->outbox || ds_outbox_is_empty(serve->outbox))))
		r = turn(serve, &blocked, err);
	ds_intake_free(serve->intake);
	ds_compute_free(serve->compute);
	ds_huge_free(serve->huge);
	ds_engine_free(serve->engine);
	ds_outbox_free(serve->outbox);
	free(serve);
	return r == -EPIPE ? 0 : r;
}

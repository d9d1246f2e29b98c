/* requests.c - admission, the fair queue, events and credit. Knows no wire. */
#include "requests.h"
#include "access.h"
#include "message.h"
#include "observe.h"

#include <event2/buffer.h>
#include <string.h>
#include <time.h>

#define SLOT_BITS 16
#define CREDIT_STEP (16u << 10)              /* returned in pieces of at least this */
#define INBOX_MAX (DS_CREDIT + (128u << 10)) /* the credit and what one step may overshoot it */
#define OUTPUT_WEIGHT 2                      /* an output token costs about two prompt tokens */

/* A user with at least one request. */
struct user {
	struct user *next;
	char owner[72]; /* as its subjects' */
	uint64_t served; /* virtual tokens */
	size_t n_requests, n_waiting, n_running;
	bool is_admin; /* not limited */
};

enum request_state {
	NEW,
	WAITING,
	RUNNING,
	ENDED, /* its last event is in the inbox or was taken */
};

struct ds_request {
	struct ds_request *next; /* in order of arrival, while it waits */
	struct ds_requests *all;
	uint64_t id;
	enum request_state state;
	struct ds_model *model; /* referenced */
	struct ds_subject *subject; /* likewise */
	struct user *user;
	uint16_t type;
	char *body;
	size_t body_size;
	void (*on_events)(void *arg);
	void *arg;
	struct evbuffer *inbox; /* whole events as they came */
	size_t taken;           /* bytes of the event that was handed out last */
	size_t owed;            /* bytes taken and not yet given back as credit */
	bool finished;

	/* For the audit record and the counters; times are of CLOCK_MONOTONIC in microseconds, 0: not yet. */
	char name[40];
	uint64_t arrived, begun, first_output, last_output;
	uint64_t n_pieces; /* events of output */
	struct ds_usage usage;
	enum ds_outcome outcome;
};

struct ds_requests {
	struct ds_request **slots; /* [n_slots]: by the low bits of their id */
	size_t n_slots;
	uint64_t serial;
	struct ds_request *waiting;
	struct user *users;
	size_t n_waiting, n_waiting_max;
	size_t user_parallel, user_queue; /* of one user, 0: no limit */
	bool stopping, paused;
};

static uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Users */

static struct user *get_user(struct ds_requests *all, const struct ds_subject *subject)
{
	uint64_t least = UINT64_MAX;
	struct user *user;

	for (user = all->users; user; user = user->next) {
		if (!strcmp(user->owner, subject->owner))
			return user;
		least = user->served < least ? user->served : least;
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	/* Who comes new begins where the least served one stands: no credit for having been away. */
	*user = (struct user){.next = all->users, .served = all->users ? least : 0};
	user->is_admin = ds_access_is_admin(subject);
	snprintf(user->owner, sizeof(user->owner), "%s", subject->owner);
	all->users = user;
	return user;
}

static void put_user(struct ds_requests *all, struct user *user)
{
	if (--user->n_requests > 0)
		return;
	for (struct user **at = &all->users; *at; at = &(*at)->next)
		if (*at == user) {
			*at = user->next;
			free(user);
			return;
		}
}

/* Slots */

static int take_slot(struct ds_requests *all, struct ds_request *request)
{
	struct ds_request **slots;
	size_t slot = 0, n;

	while (slot < all->n_slots && all->slots[slot])
		slot++;
	if (slot == all->n_slots) {
		n = all->n_slots ? all->n_slots * 2 : 64;
		if (n > 1u << SLOT_BITS)
			return -ENOMEM;
		slots = reallocarray(all->slots, n, sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		memset(slots + all->n_slots, 0, (n - all->n_slots) * sizeof(*slots));
		all->slots = slots;
		all->n_slots = n;
	}
	all->slots[slot] = request;
	request->id = ++all->serial << SLOT_BITS | slot;
	return 0;
}

static struct ds_request *find(const struct ds_requests *all, uint64_t id)
{
	size_t slot = id & ((1u << SLOT_BITS) - 1);
	struct ds_request *request = slot < all->n_slots ? all->slots[slot] : NULL;

	return request && request->id == id ? request : NULL;
}

/* What is told and counted of a request */

static enum ds_kind kind_of(uint16_t type)
{
	return type == DS_MSG_EVALUATE   ? DS_KIND_EVALUATE
	       : type == DS_MSG_TOKENIZE ? DS_KIND_TOKENIZE
	       : type == DS_MSG_RENDER   ? DS_KIND_RENDER
					 : DS_KIND_GENERATE;
}

/* Its last event is known: count it, and leave the record. */
static void note_end(struct ds_request *request)
{
	struct ds_counters *counters = ds_model_counters(request->model);
	enum ds_kind kind = kind_of(request->type);
	uint64_t now = now_usec(), begun = request->begun ? request->begun : now;
	uint64_t first = request->first_output ? request->first_output : now;
	bool is_done = request->outcome < DS_OUTCOME_CANCELLED;
	uint64_t n_tokens = is_done ? request->usage.completion_tokens : request->n_pieces;

	counters->requests[kind][request->outcome]++;
	ds_histogram_add(&counters->duration, now - request->arrived);
	if (is_done && kind == DS_KIND_GENERATE)
		ds_counters_settle_output(counters, request->n_pieces, n_tokens);
	ds_observe_request(&(struct ds_request_record){
		.id = request->name,
		.owner = request->subject->owner,
		.model = ds_model_get_config(request->model)->name,
		.uid = request->subject->uid,
		.unit = request->subject->unit,
		.app = request->subject->app,
		.kind = kind,
		.outcome = request->outcome,
		.prompt_tokens = request->usage.prompt_tokens,
		.cached_tokens = request->usage.cached_tokens,
		.completion_tokens = kind == DS_KIND_GENERATE ? n_tokens : 0,
		.reasoning_tokens = request->usage.reasoning_tokens,
		.queue_usec = begun - request->arrived,
		.prefill_usec = first - begun,
		.decode_usec = now - first,
	});
}

/* Text of an answer came at @now. What lies in one batch came at once: it has no gap within. */
static void note_output(struct ds_request *request, uint64_t now)
{
	struct ds_counters *counters = ds_model_counters(request->model);

	request->n_pieces++;
	if (request->type == DS_MSG_GENERATE)
		ds_counters_add_output(counters);
	if (!request->first_output) {
		request->first_output = now;
		if (request->type == DS_MSG_GENERATE)
			ds_histogram_add(&counters->first_token, now - request->arrived);
	} else if (request->last_output != now && request->type == DS_MSG_GENERATE) {
		ds_histogram_add(&counters->gap, now - request->last_output);
	}
	request->last_output = now;
}

static void note_usage(struct ds_request *request, const struct ds_usage *usage)
{
	struct ds_counters *counters = ds_model_counters(request->model);

	request->usage = *usage;
	if (usage->cached_tokens > usage->prompt_tokens) /* an engine's word is not trusted */
		request->usage.cached_tokens = 0;
	counters->prompt_tokens += request->usage.prompt_tokens;
	counters->cached_tokens += request->usage.cached_tokens;
}

/* The engine says that it failed: only codes that are known are told apart. */
static enum ds_outcome outcome_of(const uint8_t *body, size_t size)
{
	json_t *json = json_loadb((const char *)body, size, 0, NULL);
	enum ds_outcome outcome = ds_outcome_of_code(json_string_value(json_object_get(json, "code")));

	json_decref(json);
	return outcome;
}

/* The end of a request */

static void stop_waiting(struct ds_request *request)
{
	for (struct ds_request **at = &request->all->waiting; *at; at = &(*at)->next)
		if (*at == request) {
			*at = request->next;
			break;
		}
	request->all->n_waiting--;
	request->user->n_waiting--;
	free(request->body);
	request->body = NULL;
}

/* It is over; @state was its state. Who waits for its place may go on. */
static void leave(struct ds_request *request)
{
	enum request_state state = request->state;

	request->state = ENDED;
	if (state != ENDED)
		note_end(request);
	if (state == WAITING)
		stop_waiting(request);
	else if (state == RUNNING) {
		request->user->n_running--;
		ds_model_end(request->model, request->finished);
	}
}

static void add_event(struct ds_request *request, const struct ds_event_header *header, const void *body)
{
	static const uint8_t padding[8];

	evbuffer_add(request->inbox, header, sizeof(*header));
	evbuffer_add(request->inbox, body, header->size);
	evbuffer_add(request->inbox, padding, ds_event_size(header->size) - sizeof(*header) - header->size);
}

/* End @request with FAILED. Its owner is not told here. */
static void fail(struct ds_request *request, const char *code, const char *message)
{
	json_t *json = json_pack("{s:s, s:s}", "code", code, "message", message);
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	struct ds_event_header header = {.type = DS_EVENT_FAILED, .request = request->id};

	json_decref(json);
	if (request->state == ENDED)
		return;
	request->outcome = ds_outcome_of_code(code);
	leave(request);
	header.size = text ? (uint32_t)strlen(text) : 2;
	add_event(request, &header, text ? text : "{}");
}

static void fail_and_tell(struct ds_request *request, const char *code, const char *message)
{
	fail(request, code, message);
	request->on_events(request->arg);
}

/* The queue */

static bool may_run(const struct ds_requests *all, const struct user *user)
{
	return user->is_admin || all->user_parallel == 0 || user->n_running < all->user_parallel;
}

/* Of those who wait for @model and may run: the least served user's first. */
static struct ds_request *choose(const struct ds_requests *all, const struct ds_model *model)
{
	struct ds_request *best = NULL;

	for (struct ds_request *r = all->waiting; r; r = r->next)
		if (r->model == model && may_run(all, r->user) && (!best || r->user->served < best->user->served))
			best = r;
	return best;
}

static void dispatch(struct ds_requests *all, struct ds_model *model)
{
	while (!all->paused && ds_model_has_slot(model)) {
		struct ds_request *request = choose(all, model);

		if (!request)
			return;
		/* Before it is sent: the engine may run in our place, and be done before we see the clock again. */
		request->begun = now_usec();
		ds_histogram_add(&ds_model_counters(model)->queue, request->begun - request->arrived);
		ds_model_begin(model);
		ds_model_send(model, request->type, request->id, request->body, request->body_size);
		stop_waiting(request);
		request->state = RUNNING;
		request->user->n_running++;
		request->user->served++; /* so that equals take turns; STARTED charges the prompt */
	}
}

/* Start what waited for @user (NULL: anybody) to have fewer running, whatever its model. */
static void dispatch_user(struct ds_requests *all, const struct user *user)
{
	struct ds_request *r;

	if (all->paused)
		return;
	do {
		for (r = all->waiting; r; r = r->next)
			if ((!user || r->user == user) && may_run(all, r->user) && ds_model_has_slot(r->model))
				break;
		if (r)
			dispatch(all, r->model); /* it takes at least one of them off the list */
	} while (r);
}

void ds_requests_pause(struct ds_requests *all, bool paused)
{
	all->paused = paused;
	dispatch_user(all, NULL);
}

/* @model has a place again, and so has @user. */
static void dispatch_next(struct ds_requests *all, struct ds_model *model, const struct user *user)
{
	dispatch(all, model);
	if (all->user_parallel > 0)
		dispatch_user(all, user);
}

static bool anybody_waits(const struct ds_requests *all, const struct ds_model *model)
{
	for (const struct ds_request *r = all->waiting; r; r = r->next)
		if (r->model == model)
			return true;
	return false;
}

/* Fail all that wait for @model (NULL: for any). Owners may free or add requests meanwhile: begin again each time. */
static void fail_waiting(struct ds_requests *all, const struct ds_model *model, const char *code, const char *message)
{
	uint64_t last = all->serial << SLOT_BITS | ((1u << SLOT_BITS) - 1);
	struct ds_request *r;

	do {
		for (r = all->waiting; r && ((model && r->model != model) || r->id > last); r = r->next)
			;
		if (r)
			fail_and_tell(r, code, message);
	} while (r);
}

static void fail_running(struct ds_requests *all, const struct ds_model *model, const char *code, const char *message)
{
	for (size_t i = 0; i < all->n_slots; i++) {
		struct ds_request *r = all->slots[i];

		if (r && r->state == RUNNING && (!model || r->model == model))
			fail_and_tell(r, code, message);
	}
}

static void on_model_change(void *arg, struct ds_model *model)
{
	struct ds_requests *all = arg;

	switch (ds_model_get_state(model)) {
	case DS_MODEL_FAILED:
		fail_waiting(all, model, ds_model_get_failure(model), ds_model_get_reason(model));
		break;
	case DS_MODEL_READY:
		dispatch(all, model);
		break;
	case DS_MODEL_ABSENT:
		if (!ds_model_is_registered(model))
			fail_waiting(all, model, "cancelled", "the model was removed from the configuration");
		else if (anybody_waits(all, model))
			ds_model_load(model, false);
		break;
	default:
		break;
	}
}

static void on_engine_end(void *arg, struct ds_model *model, const char *reason)
{
	char message[400];

	snprintf(message, sizeof(message), "the engine ended while it worked on this request: %.300s", reason);
	fail_running(arg, model, "engine_died", message);
}

/* Events */

static int check_event(const struct ds_request *request, const struct ds_event_header *header, struct ds_error *err)
{
	size_t exact = header->type == DS_EVENT_STARTED ? sizeof(struct ds_usage)
		       : header->type == DS_EVENT_DONE  ? sizeof(struct ds_done)
							: header->size;

	if (header->type < DS_EVENT_STARTED || header->type > DS_EVENT_FAILED || header->size != exact)
		return ds_fail(err, -EPROTO, "an event of type %u and %u bytes", header->type, header->size);
	if (evbuffer_get_length(request->inbox) + request->owed + ds_event_size(header->size) > INBOX_MAX)
		return ds_fail(err, -EPROTO, "more output than its credit allows");
	return 0;
}

/* Charge the user for what @header says was computed, and count it. */
static void account(struct ds_request *request, const struct ds_event_header *header, const uint8_t *body, uint64_t now)
{
	struct ds_usage usage;
	struct ds_done done;

	if (header->type == DS_EVENT_STARTED) {
		memcpy(&usage, body, sizeof(usage));
		note_usage(request, &usage);
		request->user->served += request->usage.prompt_tokens - request->usage.cached_tokens;
	} else if (header->type < DS_EVENT_LOGPROBS) {
		request->user->served += OUTPUT_WEIGHT;
		note_output(request, now);
	} else if (header->type == DS_EVENT_LOGITS) {
		note_output(request, now);
	} else if (header->type == DS_EVENT_DONE) {
		memcpy(&done, body, sizeof(done));
		request->usage.completion_tokens = done.usage.completion_tokens;
		request->usage.reasoning_tokens = done.usage.reasoning_tokens;
		request->outcome = done.finish == DS_FINISH_LENGTH	 ? DS_OUTCOME_LENGTH
				   : done.finish == DS_FINISH_TOOL_CALLS ? DS_OUTCOME_TOOL_CALLS
									 : DS_OUTCOME_STOP;
	} else if (header->type == DS_EVENT_FAILED) {
		request->outcome = outcome_of(body, header->size);
	}
}

static int take_event(struct ds_request *request, const struct ds_event_header *header, const uint8_t *body,
		      uint64_t now, struct ds_error *err)
{
	int r = check_event(request, header, err);

	if (r < 0)
		return r;
	account(request, header, body, now);
	add_event(request, header, body);
	if (header->type == DS_EVENT_DONE || header->type == DS_EVENT_FAILED) {
		request->finished = true;
		leave(request);
		dispatch_next(request->all, request->model, request->user);
	}
	return 0;
}

static void tell(const struct ds_requests *all, uint64_t id)
{
	struct ds_request *request = find(all, id);

	if (request)
		request->on_events(request->arg);
}

/* What the engine of @model says. All events of one request that lie together are taken before its owner is told. */
static int on_batch(void *arg, struct ds_model *model, const uint8_t *batch, size_t size, struct ds_error *err)
{
	struct ds_requests *all = arg;
	const struct ds_event_header *header;
	const uint8_t *body;
	size_t offset = 0;
	uint64_t untold = 0, now = now_usec();
	int r;

	while ((r = ds_event_next(batch, size, &offset, &header, &body)) > 0) {
		uint64_t serial = header->request >> SLOT_BITS;
		struct ds_request *request;

		if (untold && untold != header->request) {
			tell(all, untold);
			untold = 0;
		}
		/* One that was cancelled may still be spoken of; an id that never was is a breach. */
		if (serial == 0 || serial > all->serial)
			return ds_fail(err, -EPROTO, "an event of a request that does not exist");
		request = find(all, header->request);
		if (request && request->model != model)
			return ds_fail(err, -EPROTO, "an event of another model's request");
		if (!request || request->state != RUNNING)
			continue;
		r = take_event(request, header, body, now, err);
		if (r < 0)
			return r;
		untold = header->request;
	}
	if (untold)
		tell(all, untold);
	return r < 0 ? ds_fail(err, r, "a malformed batch of events") : 0;
}

const struct ds_models_events ds_requests_models_events = {
	.on_change = on_model_change,
	.on_batch = on_batch,
	.on_engine_end = on_engine_end,
};

static void give_credit(struct ds_request *request)
{
	uint32_t bytes = (uint32_t)request->owed;

	if (request->owed < CREDIT_STEP || request->state != RUNNING)
		return;
	request->owed = 0;
	ds_model_send(request->model, DS_MSG_CREDIT, request->id, &bytes, sizeof(bytes));
}

int ds_request_next(struct ds_request *request, struct ds_request_event *event)
{
	struct ds_event_header header;
	uint8_t *data;

	if (request->taken) {
		evbuffer_drain(request->inbox, request->taken);
		request->owed += request->taken;
		request->taken = 0;
		give_credit(request);
	}
	if (evbuffer_copyout(request->inbox, &header, sizeof(header)) != (ssize_t)sizeof(header))
		return 0;
	request->taken = ds_event_size(header.size);
	data = evbuffer_pullup(request->inbox, (ssize_t)request->taken);
	if (!data) /* no memory: the event is lost, and so is the request */
		return 0;
	*event = (struct ds_request_event){.type = header.type, .data = data + sizeof(header), .size = header.size};
	return 1;
}

size_t ds_request_get_position(const struct ds_request *request)
{
	size_t position = 1;

	if (request->state != WAITING)
		return 0;
	for (const struct ds_request *r = request->all->waiting; r && r != request; r = r->next)
		position += r->user == request->user && r->model == request->model;
	return position;
}

/* The queue is full: the user with the most waiting requests gives up the newest, unless that is @user. */
static bool make_room(struct ds_requests *all, const struct user *user)
{
	struct ds_request *newest = NULL;
	const struct user *most = NULL;

	for (const struct user *u = all->users; u; u = u->next)
		if (u != user && u->n_waiting > user->n_waiting + 1 && (!most || u->n_waiting > most->n_waiting))
			most = u;
	for (struct ds_request *r = all->waiting; most && r; r = r->next)
		if (r->user == most)
			newest = r;
	if (newest)
		fail_and_tell(newest, "overloaded", "the queue is full, and a user with fewer requests came");
	return newest;
}

static void admit(struct ds_request *request)
{
	struct ds_requests *all = request->all;
	struct ds_request **at;
	char message[300];
	bool runs_at_once;

	if (all->stopping) {
		fail(request, "shutting_down", "the daemon is shutting down");
		return;
	}
	if (request->body_size > DS_MESSAGE_MAX) { /* numbers may be written longer than they came */
		fail(request, "invalid_request", "the request is too large");
		return;
	}
	ds_model_load(request->model, false);
	if (ds_model_get_state(request->model) == DS_MODEL_FAILED) {
		snprintf(message, sizeof(message), "the model cannot be loaded: %.240s",
			 ds_model_get_reason(request->model));
		fail(request, ds_model_get_failure(request->model), message);
		return;
	}
	if (!request->user->is_admin && all->user_queue > 0 && request->user->n_waiting >= all->user_queue) {
		fail(request, "overloaded", "you have as many requests waiting as one user may; try again later");
		return;
	}
	runs_at_once = ds_model_has_slot(request->model) && !all->waiting && may_run(all, request->user);
	if (all->n_waiting >= all->n_waiting_max && !runs_at_once && !make_room(all, request->user)) {
		fail(request, "overloaded", "too many requests are waiting; try again later");
		return;
	}
	for (at = &all->waiting; *at; at = &(*at)->next)
		;
	*at = request;
	request->state = WAITING;
	all->n_waiting++;
	request->user->n_waiting++;
	dispatch(all, request->model);
}

int ds_request_new(struct ds_request **out, struct ds_requests *requests, const struct ds_request_spec *spec)
{
	struct ds_request *request = calloc(1, sizeof(*request));

	if (request)
		*request = (struct ds_request){.all = requests,
					       .body = spec->body,
					       .body_size = spec->body_size,
					       .type = spec->type,
					       .on_events = spec->on_events,
					       .arg = spec->arg,
					       .arrived = now_usec(),
					       .outcome = DS_OUTCOME_CANCELLED, /* until it ends otherwise */
					       .state = ENDED,
					       .inbox = evbuffer_new()};
	if (!request || !request->inbox || take_slot(requests, request) < 0) {
		if (request && request->inbox)
			evbuffer_free(request->inbox);
		free(request);
		free(spec->body);
		return -ENOMEM;
	}
	request->model = ds_model_ref(spec->model);
	request->subject = ds_subject_ref(spec->subject);
	request->user = get_user(requests, spec->subject);
	if (!request->user) {
		ds_request_free(request);
		return -ENOMEM;
	}
	request->user->n_requests++;
	if (spec->name)
		snprintf(request->name, sizeof(request->name), "%s", spec->name);
	else
		snprintf(request->name, sizeof(request->name), "%llu", (unsigned long long)request->id);
	request->state = NEW;
	admit(request);
	*out = request;
	return 0;
}

struct ds_request *ds_request_free(struct ds_request *request)
{
	const struct user *user;
	struct ds_requests *all;
	struct ds_model *model;

	if (!request)
		return NULL;
	all = request->all;
	model = request->model;
	user = request->user; /* freed with its last request, and then none of its requests waits */
	if (request->state == RUNNING)
		ds_model_send(model, DS_MSG_CANCEL, request->id, NULL, 0);
	all->slots[request->id & ((1u << SLOT_BITS) - 1)] = NULL;
	leave(request);
	if (request->user)
		put_user(all, request->user);
	evbuffer_free(request->inbox);
	ds_subject_unref(request->subject);
	free(request->body);
	free(request);
	if (!all->stopping)
		dispatch_next(all, model, user);
	ds_model_unref(model);
	return NULL;
}

int ds_requests_new(struct ds_requests **out, struct ds_error *err)
{
	struct ds_requests *all = calloc(1, sizeof(*all));

	if (!all)
		return ds_fail(err, -ENOMEM, "no memory");
	*out = all;
	return 0;
}

struct ds_requests *ds_requests_free(struct ds_requests *requests)
{
	if (!requests)
		return NULL;
	free(requests->slots);
	free(requests);
	return NULL;
}

void ds_requests_configure(struct ds_requests *requests, const struct ds_config *config)
{
	requests->n_waiting_max = (size_t)config->queue;
	requests->user_parallel = (size_t)config->user_parallel;
	requests->user_queue = (size_t)config->user_queue;
	dispatch_user(requests, NULL); /* a limit may be gone */
}

void ds_requests_stop(struct ds_requests *requests)
{
	requests->stopping = true;
	fail_waiting(requests, NULL, "shutting_down", "the daemon is shutting down");
}

void ds_requests_abort(struct ds_requests *requests)
{
	ds_requests_stop(requests);
	for (size_t i = 0; i < requests->n_slots; i++)
		if (requests->slots[i] && requests->slots[i]->state == RUNNING)
			ds_model_send(requests->slots[i]->model, DS_MSG_CANCEL, requests->slots[i]->id, NULL, 0);
	fail_running(requests, NULL, "shutting_down", "the daemon is shutting down");
}

void ds_requests_count(const struct ds_requests *requests, const struct ds_model *model, size_t *n_running,
		       size_t *n_waiting)
{
	*n_running = *n_waiting = 0;
	for (size_t i = 0; i < requests->n_slots; i++) {
		const struct ds_request *r = requests->slots[i];

		if (!r || (model && r->model != model))
			continue;
		*n_running += r->state == RUNNING;
		*n_waiting += r->state == WAITING;
	}
}

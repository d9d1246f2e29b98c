/* requests.h - one request for work of a model, whatever wire it came by: admitted, queued fairly, run, cancelled.
 *
 * A request is pulled: its events (lib/event.h) gather in it, on_events says that there are some, ds_request_next()
 * takes them one by one, and what was taken goes back to the engine as credit. Whoever cannot pass on output just does
 * not take more: the engine then pauses this request and no other. The last event is DONE or FAILED, exactly once,
 * also when the queue is full, the model cannot load, or the engine dies. Freeing a request before that cancels it.
 *
 * Fairness between users is a virtual token counter: the user who was served least goes first. */
#pragma once

#include "models.h"
#include "subject.h"

#include <event.h>
#include <sys/types.h>

struct ds_requests;
struct ds_request;

struct ds_request_spec {
	struct ds_subject *subject; /* the request holds a reference */
	struct ds_model *model;
	uint16_t type; /* DS_MSG_GENERATE, DS_MSG_EVALUATE, DS_MSG_TOKENIZE or DS_MSG_RENDER */
	char *body;    /* its JSON; ds_request_new() takes ownership, also when it fails */
	size_t body_size;
	const char *name; /* what its client knows it by (x-request-id), for the log; NULL: none */
	void (*on_events)(void *arg); /* never called from within ds_request_new() */
	void *arg;
};

/* One event. @data is borrowed until the next call for this request; FAILED is JSON, checked to be an object. */
struct ds_request_event {
	enum ds_event_type type;
	const uint8_t *data;
	size_t size;
};

int ds_requests_new(struct ds_requests **out, struct ds_error *err);
struct ds_requests *
ds_requests_free(struct ds_requests *requests); /* takes NULL, returns NULL; all requests are freed */
DS_DEFINE_FREEP(ds_requests)

/* What ds_models_new() needs, with @requests as the argument. */
extern const struct ds_models_events ds_requests_models_events;

/* Follow the limits of @config. */
void ds_requests_configure(struct ds_requests *requests, const struct ds_config *config);
/* From now on nothing is admitted; what waits fails. */
void ds_requests_stop(struct ds_requests *requests);
/* While @paused, nothing is given to engines; what they have goes on. */
void ds_requests_pause(struct ds_requests *requests, bool paused);
/* What still runs fails. */
void ds_requests_abort(struct ds_requests *requests);
void ds_requests_count(const struct ds_requests *requests, const struct ds_model *model, size_t *n_running,
		       size_t *n_waiting); /* @model NULL: of all */

/* -ENOMEM only: any other refusal is an event. The caller calls ds_request_next() afterwards. */
int ds_request_new(struct ds_request **out, struct ds_requests *requests, const struct ds_request_spec *spec);
struct ds_request *ds_request_free(struct ds_request *request); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_request)

/* 1: *@event; 0: none now. */
int ds_request_next(struct ds_request *request, struct ds_request_event *event);
/* Its place among its user's own requests that wait for its model, from 1; 0: it does not wait. What others have waiting
 * is not for that user to know. */
size_t ds_request_get_position(const struct ds_request *request);
